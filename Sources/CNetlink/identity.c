/* SPDX-License-Identifier: Apache-2.0 */
/* A virtual function as its physical function's interface has it. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "netlink.h"

struct function_search {
	uint32_t number;
	struct vf_link_function *facts;
	bool found;
};

/* A setting as drivers give it: what they say nothing of is all ones. */
static int8_t on_or_off(uint32_t setting)
{
	return setting <= 1 ? (int8_t)setting : -1;
}

/* A function may have several tags in one another; the kernel gives the first only. */
static void look_at_tag(const struct nlattr *list, struct function_search *search)
{
	struct ifla_vf_vlan_info tag;
	struct attribute_walk walk = attributes_in(list);
	for (struct nlattr *one = next_attribute(&walk); one; one = next_attribute(&walk)) {
		if ((one->nla_type & NLA_TYPE_MASK) != IFLA_VF_VLAN_INFO || !attribute_read(one, &tag, sizeof(tag)) ||
		    tag.vf != search->number)
			continue;
		search->facts->vlan_protocol = ntohs(tag.vlan_proto);
		return;
	}
}

/* What is said of one function: its number is in each attribute. */
static void look_at_function(const struct libnl *nl, struct nlattr *nest, struct function_search *search)
{
	struct nlattr *found[IFLA_VF_MAX + 1];
	struct ifla_vf_mac mac;
	struct ifla_vf_vlan vlan;
	struct ifla_vf_spoofchk check;
	struct ifla_vf_trust trust;
	if (nl->parse(found, IFLA_VF_MAX, (struct nlattr *)attribute_bytes(nest), attribute_size(nest), NULL) < 0 ||
	    !attribute_read(found[IFLA_VF_MAC], &mac, sizeof(mac)) || mac.vf != search->number)
		return;
	search->found = true;
	memcpy(search->facts->mac, mac.mac, sizeof(search->facts->mac));
	if (attribute_read(found[IFLA_VF_VLAN], &vlan, sizeof(vlan)) && vlan.vf == search->number) {
		search->facts->vlan = vlan.vlan;
		search->facts->priority = vlan.qos;
	}
	if (found[IFLA_VF_VLAN_LIST])
		look_at_tag(found[IFLA_VF_VLAN_LIST], search);
	if (attribute_read(found[IFLA_VF_SPOOFCHK], &check, sizeof(check)) && check.vf == search->number)
		search->facts->spoof_check = on_or_off(check.setting);
	if (attribute_read(found[IFLA_VF_TRUST], &trust, sizeof(trust)) && trust.vf == search->number)
		search->facts->trust = on_or_off(trust.setting);
}

static void look_at_link(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	const int headers = NLMSG_HDRLEN + (int)NLMSG_ALIGN(sizeof(struct ifinfomsg));
	struct nlattr *found[IFLA_MAX + 1];
	if (answer->nlmsg_type != RTM_NEWLINK || (int)answer->nlmsg_len < headers ||
	    nl->parse(found, IFLA_MAX, (struct nlattr *)((char *)answer + headers), (int)answer->nlmsg_len - headers,
		      NULL) < 0 ||
	    !found[IFLA_VFINFO_LIST])
		return;
	struct attribute_walk walk = attributes_in(found[IFLA_VFINFO_LIST]);
	for (struct nlattr *one = next_attribute(&walk); one; one = next_attribute(&walk))
		if ((one->nla_type & NLA_TYPE_MASK) == IFLA_VF_INFO)
			look_at_function(nl, one, context);
}

int vf_link_function(struct vf_netlink *netlink, int interface, uint16_t function, struct vf_link_function *facts,
		     struct vf_netlink_words *words)
{
	struct function_search search = {.number = function, .facts = facts};
	/* Without the statistics, with which a list of some hundred functions would be longer than an attribute can say. */
	const uint32_t filter = RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS;
	struct ifinfomsg header = {.ifi_family = AF_UNSPEC, .ifi_index = interface};
	*facts = (struct vf_link_function){.spoof_check = -1, .trust = -1};
	struct nl_msg *message = netlink->nl->msg_alloc_simple(RTM_GETLINK, 0);
	int built = message && !netlink->nl->msg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) &&
				    !netlink->nl->put(message, IFLA_EXT_MASK, sizeof(filter), &filter)
			    ? 0
			    : -1;
	int error = netlink_ask(netlink, message, built, look_at_link, &search, words);
	return error ? error : search.found ? 0 : ENODATA;
}

int vf_link_set_function_address(struct vf_netlink *netlink, int interface, uint16_t function, const uint8_t mac[6],
				 struct vf_netlink_words *words)
{
	const struct libnl *nl = netlink->nl;
	struct ifinfomsg header = {.ifi_family = AF_UNSPEC, .ifi_index = interface};
	struct ifla_vf_mac address = {.vf = function};
	struct nlattr *list = NULL, *one = NULL;
	int built = -1;
	memcpy(address.mac, mac, 6);
	struct nl_msg *message = nl->msg_alloc_simple(RTM_SETLINK, 0);
	if (message && !nl->msg_append(message, &header, sizeof(header), NLMSG_ALIGNTO) &&
	    (list = nl->nest_start(message, IFLA_VFINFO_LIST | NLA_F_NESTED)) &&
	    (one = nl->nest_start(message, IFLA_VF_INFO | NLA_F_NESTED)) &&
	    !nl->put(message, IFLA_VF_MAC, sizeof(address), &address)) {
		nl->nest_end(message, one);
		nl->nest_end(message, list);
		built = 0;
	}
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}
