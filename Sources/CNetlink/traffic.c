/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic control: the qdisc that holds the hooks, and putting and removing filters with a police action. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>

#include "traffic.h"

enum {
	tick_ns = 64, /* the kernel's unit of a burst; see /proc/net/psched */
	rate_table_bytes = 1024,
};

static int put_text(const struct libnl *nl, struct nl_msg *message, int type, const char *text)
{
	return nl->put(message, type, (int)strlen(text) + 1, text);
}

/* The qdisc. */

struct hooks_search {
	int interface;
	struct vf_hooks *hooks;
};

static void look_at_qdisc(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct hooks_search *search = context;
	struct nlattr *found[TCA_MAX + 1];
	const struct tcmsg *header = attributes(nl, answer, found);
	if (!header || header->tcm_ifindex != search->interface || header->tcm_parent != TC_H_CLSACT)
		return;
	search->hooks->present = true;
	search->hooks->shared = found[TCA_INGRESS_BLOCK] || found[TCA_EGRESS_BLOCK];
	copy_kind(found[TCA_KIND], search->hooks->kind);
}

int vf_tc_hooks(struct vf_netlink *netlink, int interface, struct vf_hooks *hooks, struct vf_netlink_words *words)
{
	int error = EINTR;
	for (int tries = 0; error == EINTR && tries < changes_tolerated; tries++) {
		const struct tcmsg header = {.tcm_family = AF_UNSPEC, .tcm_ifindex = interface};
		struct hooks_search search = {interface, hooks};
		struct nl_msg *message = start(netlink, RTM_GETQDISC, NLM_F_DUMP, &header);
		memset(hooks, 0, sizeof(*hooks));
		error = netlink_ask(netlink, message, message ? 0 : -1, look_at_qdisc, &search, words);
	}
	return error;
}

struct holder_search {
	struct vf_hook_holder *holders;
	size_t room, count;
};

static void look_at_holder(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct holder_search *search = context;
	struct nlattr *found[TCA_MAX + 1];
	const struct tcmsg *header = attributes(nl, answer, found);
	char kind[16];
	if (!header || answer->nlmsg_type != RTM_NEWQDISC || header->tcm_parent != TC_H_CLSACT)
		return;
	copy_kind(found[TCA_KIND], kind);
	if (search->count < search->room)
		search->holders[search->count] = (struct vf_hook_holder){header->tcm_ifindex, !strcmp(kind, "clsact")};
	search->count++;
}

int vf_tc_hook_holders(struct vf_netlink *netlink, struct vf_hook_holder *holders, size_t room, size_t *count,
		       struct vf_netlink_words *words)
{
	const struct tcmsg header = {.tcm_family = AF_UNSPEC};
	int error = EINTR;
	for (int tries = 0; error == EINTR && tries < changes_tolerated; tries++) {
		struct holder_search search = {.holders = holders, .room = room};
		struct nl_msg *message = start(netlink, RTM_GETQDISC, NLM_F_DUMP, &header);
		error = netlink_ask(netlink, message, message ? 0 : -1, look_at_holder, &search, words);
		*count = search.count;
	}
	return error;
}

static struct tcmsg clsact_of(int interface)
{
	const struct tcmsg header = {.tcm_family = AF_UNSPEC,
				     .tcm_ifindex = interface,
				     .tcm_parent = TC_H_CLSACT,
				     .tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0)};
	return header;
}

static int change_clsact(struct vf_netlink *netlink, int type, int flags, int interface, struct vf_netlink_words *words)
{
	const struct tcmsg header = clsact_of(interface);
	struct nl_msg *message = start(netlink, type, flags, &header);
	int built = message ? put_text(netlink->nl, message, TCA_KIND, "clsact") : -1;
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}

int vf_tc_add_clsact(struct vf_netlink *netlink, int interface, struct vf_netlink_words *words)
{
	return change_clsact(netlink, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, interface, words);
}

int vf_tc_delete_clsact(struct vf_netlink *netlink, int interface, struct vf_netlink_words *words)
{
	return change_clsact(netlink, RTM_DELQDISC, 0, interface, words);
}

/* Filters. */

/*
 * An action of a list. A rate needs a table that the kernel looks into no more, and a largest packet, without which it
 * takes one from the table's scale: with the usual one everything above 2,040 bytes would be dropped.
 */
static int put_police(const struct libnl *nl, struct nl_msg *message, const struct vf_police *police, uint32_t number)
{
	static const uint8_t table[rate_table_bytes];
	const uint64_t ticks = (uint64_t)((unsigned __int128)police->burst * 1000000000 / police->rate / tick_ns);
	const struct tc_police parameters = {
		.index = number,
		.action = TC_ACT_SHOT,
		.burst = ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX,
		.mtu = UINT32_MAX,
		.rate = {.cell_log = 3,
			 .linklayer = TC_LINKLAYER_ETHERNET,
			 .rate = police->rate < UINT32_MAX ? (uint32_t)police->rate : UINT32_MAX},
	};
	const int within = police->pipe ? TC_ACT_PIPE : TC_ACT_UNSPEC;
	struct nlattr *action = nl->nest_start(message, 1), *options = NULL;
	if (!action || put_text(nl, message, TCA_ACT_KIND, "police") ||
	    nl->put(message, TCA_ACT_COOKIE, sizeof(police->cookie), &police->cookie) ||
	    !(options = nl->nest_start(message, TCA_ACT_OPTIONS)) ||
	    nl->put(message, TCA_POLICE_TBF, sizeof(parameters), &parameters) ||
	    nl->put(message, TCA_POLICE_RATE, sizeof(table), table) ||
	    nl->put(message, TCA_POLICE_RESULT, sizeof(within), &within) ||
	    (police->rate >= UINT32_MAX && nl->put(message, TCA_POLICE_RATE64, sizeof(police->rate), &police->rate)))
		return -1;
	nl->nest_end(message, options);
	nl->nest_end(message, action);
	return 0;
}

static int put_redirect(const struct libnl *nl, struct nl_msg *message, int interface)
{
	const struct tc_mirred parameters = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)interface};
	struct nlattr *action = nl->nest_start(message, 2), *options = NULL;
	if (!action || put_text(nl, message, TCA_ACT_KIND, "mirred") ||
	    !(options = nl->nest_start(message, TCA_ACT_OPTIONS)) ||
	    nl->put(message, TCA_MIRRED_PARMS, sizeof(parameters), &parameters))
		return -1;
	nl->nest_end(message, options);
	nl->nest_end(message, action);
	return 0;
}

static int put_filter(const struct libnl *nl, struct nl_msg *message, const struct vf_filter *filter)
{
	static const uint8_t whole[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const uint32_t flags = filter->hardware_only ? TCA_CLS_FLAGS_SKIP_SW : 0;
	struct nlattr *options = NULL, *actions = NULL;
	if (put_text(nl, message, TCA_KIND, filter->has_mac ? "flower" : "matchall") ||
	    !(options = nl->nest_start(message, TCA_OPTIONS)) ||
	    nl->put(message, filter->has_mac ? TCA_FLOWER_FLAGS : TCA_MATCHALL_FLAGS, sizeof(flags), &flags))
		return -1;
	if (filter->has_mac && (nl->put(message, TCA_FLOWER_KEY_ETH_DST, sizeof(filter->mac), filter->mac) ||
				nl->put(message, TCA_FLOWER_KEY_ETH_DST_MASK, sizeof(whole), whole)))
		return -1;
	actions = nl->nest_start(message, filter->has_mac ? TCA_FLOWER_ACT : TCA_MATCHALL_ACT);
	if (!actions || put_police(nl, message, &filter->police, 0) ||
	    (filter->redirect && put_redirect(nl, message, filter->redirect)))
		return -1;
	nl->nest_end(message, actions);
	nl->nest_end(message, options);
	return 0;
}

int vf_tc_add_filter(struct vf_netlink *netlink, const struct vf_filter *filter, struct vf_netlink_words *words)
{
	const struct tcmsg header = {.tcm_family = AF_UNSPEC,
				     .tcm_ifindex = filter->interface,
				     .tcm_parent = parent_of(filter->hook),
				     .tcm_handle = 1,
				     .tcm_info = TC_H_MAKE((uint32_t)filter->preference << 16, htons(ETH_P_ALL))};
	struct nl_msg *message = start(netlink, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &header);
	int built = message ? put_filter(netlink->nl, message, filter) : -1;
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}

int vf_tc_delete_filter(struct vf_netlink *netlink, int interface, enum vf_hook hook, const struct vf_survey *found,
			struct vf_netlink_words *words)
{
	const struct tcmsg header = {.tcm_family = AF_UNSPEC,
				     .tcm_ifindex = interface,
				     .tcm_parent = parent_of(hook),
				     .tcm_handle = found->handle,
				     .tcm_info = found->info};
	struct nl_msg *message = start(netlink, RTM_DELTFILTER, 0, &header);
	int built = message ? put_text(netlink->nl, message, TCA_KIND, found->kind) : -1;
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}

int vf_tc_replace_police(struct vf_netlink *netlink, uint32_t number, const struct vf_police *police,
			 struct vf_netlink_words *words)
{
	const struct libnl *nl = netlink->nl;
	const struct tcamsg header = {.tca_family = AF_UNSPEC};
	struct nl_msg *message = nl->msg_alloc_simple(RTM_NEWACTION, NLM_F_CREATE | NLM_F_REPLACE);
	struct nlattr *actions = NULL;
	int built = -1;
	if (message && !nl->msg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO) &&
	    (actions = nl->nest_start(message, TCA_ACT_TAB)) && !put_police(nl, message, police, number)) {
		nl->nest_end(message, actions);
		built = 0;
	}
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}
