/* SPDX-License-Identifier: Apache-2.0 */
/* devlink's ports and their rates. */
#include <errno.h>
#include <linux/devlink.h>
#include <string.h>

#include "netlink.h"

static struct nl_msg *start(struct vf_netlink *netlink, int command, int flags)
{
	struct nl_msg *message = netlink->nl->msg_alloc_simple(0, 0);
	/* Port and sequence number 0 are filled in when it is sent. */
	if (message && !netlink->nl->genlmsg_put(message, 0, 0, netlink->family, 0, flags, (uint8_t)command,
						 DEVLINK_GENL_VERSION)) {
		netlink->nl->msg_free(message);
		return NULL;
	}
	return message;
}

/* Finds the attributes behind both headers. */
static bool attributes(const struct libnl *nl, const struct nlmsghdr *answer, struct nlattr *found[])
{
	const int headers = NLMSG_HDRLEN + GENL_HDRLEN;
	if ((int)answer->nlmsg_len < headers)
		return false;
	struct nlattr *first = (struct nlattr *)((char *)answer + headers);
	return nl->parse(found, DEVLINK_ATTR_MAX, first, (int)answer->nlmsg_len - headers, NULL) == 0;
}

static bool is_text(const struct nlattr *attribute, const char *text)
{
	size_t size = strlen(text) + 1;
	return attribute && attribute_size(attribute) == (int)size && !memcmp(attribute_bytes(attribute), text, size);
}

struct port_search {
	const char *bus;
	const char *device;
	uint16_t function;
	uint32_t number;
	int count;
};

static void look_at_port(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct port_search *search = context;
	struct nlattr *found[DEVLINK_ATTR_MAX + 1];
	uint16_t flavour, function;
	uint32_t number;
	uint8_t external = 0;
	if (!attributes(nl, answer, found) || !is_text(found[DEVLINK_ATTR_BUS_NAME], search->bus) ||
	    !is_text(found[DEVLINK_ATTR_DEV_NAME], search->device) ||
	    !attribute_read(found[DEVLINK_ATTR_PORT_FLAVOUR], &flavour, sizeof(flavour)) ||
	    !attribute_read(found[DEVLINK_ATTR_PORT_PCI_VF_NUMBER], &function, sizeof(function)) ||
	    !attribute_read(found[DEVLINK_ATTR_PORT_INDEX], &number, sizeof(number)))
		return;
	/* The function of another host, on a NIC that several share, is external. */
	attribute_read(found[DEVLINK_ATTR_PORT_EXTERNAL], &external, sizeof(external));
	if (flavour != DEVLINK_PORT_FLAVOUR_PCI_VF || function != search->function || external)
		return;
	search->number = number;
	search->count++;
}

int vf_devlink_find_port(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t function,
			 uint32_t *number, struct vf_netlink_words *words)
{
	int error = EINTR;
	for (int tries = 0; error == EINTR && tries < 8; tries++) {
		struct port_search search = {.bus = bus, .device = device, .function = function};
		struct nl_msg *message = start(netlink, DEVLINK_CMD_PORT_GET, NLM_F_DUMP);
		error = netlink_ask(netlink, message, message ? 0 : -1, look_at_port, &search, words);
		if (!error && search.count != 1)
			error = search.count ? EEXIST : ENOENT;
		*number = search.number;
	}
	return error;
}

static int put_port(const struct libnl *nl, struct nl_msg *message, const struct vf_devlink_port *port)
{
	if (!message || nl->put(message, DEVLINK_ATTR_BUS_NAME, (int)strlen(port->bus) + 1, port->bus) ||
	    nl->put(message, DEVLINK_ATTR_DEV_NAME, (int)strlen(port->device) + 1, port->device) ||
	    nl->put(message, DEVLINK_ATTR_PORT_INDEX, sizeof(port->number), &port->number))
		return -1;
	return 0;
}

struct rate_answer {
	uint64_t rate;
	bool known;
};

static void look_at_rate(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct rate_answer *rate = context;
	struct nlattr *found[DEVLINK_ATTR_MAX + 1];
	if (attributes(nl, answer, found))
		rate->known = attribute_read(found[DEVLINK_ATTR_RATE_TX_MAX], &rate->rate, sizeof(rate->rate));
}

int vf_devlink_get_rate(struct vf_netlink *netlink, const struct vf_devlink_port *port, uint64_t *rate,
			struct vf_netlink_words *words)
{
	struct rate_answer answer = {0};
	struct nl_msg *message = start(netlink, DEVLINK_CMD_RATE_GET, 0);
	int built = put_port(netlink->nl, message, port);
	int error = netlink_ask(netlink, message, built, look_at_rate, &answer, words);
	*rate = answer.rate;
	return error ? error : answer.known ? 0 : ENODATA;
}

int vf_devlink_set_rate(struct vf_netlink *netlink, const struct vf_devlink_port *port, uint64_t rate,
			struct vf_netlink_words *words)
{
	struct nl_msg *message = start(netlink, DEVLINK_CMD_RATE_SET, 0);
	int built = put_port(netlink->nl, message, port);
	if (!built)
		built = netlink->nl->put(message, DEVLINK_ATTR_RATE_TX_MAX, sizeof(rate), &rate);
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}
