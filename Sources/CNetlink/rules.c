/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traffic control: what filters say, as a number that is the same on two hosts where they say the same.
 *
 * Left out is what a kernel hands out or counts: handles, preferences, numbers of actions, cookies, statistics, times, and
 * whether hardware does it; and the host's own address in a tunnel. An interface counts by a name that the caller gives it.
 * Of a filter or an action of a kind that is not known here its kind counts, and no more.
 */
#include <errno.h>
#include <linux/tc_act/tc_csum.h>
#include <linux/tc_act/tc_ct.h>
#include <linux/tc_act/tc_gact.h>
#include <linux/tc_act/tc_mirred.h>
#include <linux/tc_act/tc_mpls.h>
#include <linux/tc_act/tc_pedit.h>
#include <linux/tc_act/tc_skbedit.h>
#include <linux/tc_act/tc_tunnel_key.h>
#include <linux/tc_act/tc_vlan.h>
#include <stdlib.h>

#include "traffic.h"

/* More than any kernel has: of a newer one everything is to count. */
enum { most_attributes = 255 };

/* FNV-1a, by the byte. */
static const uint64_t sum_start = 0xcbf29ce484222325, sum_prime = 0x100000001b3;

static void add(uint64_t *sum, const void *bytes, size_t size)
{
	for (size_t n = 0; n < size; n++)
		*sum = (*sum ^ ((const uint8_t *)bytes)[n]) * sum_prime;
}

/* Number and length come before a field's bytes, so that no two lists of fields are the same bytes. */
static void add_head(uint64_t *sum, int number, size_t size)
{
	const uint32_t head[2] = {(uint32_t)number, (uint32_t)size};
	add(sum, head, sizeof(head));
}

static void add_field(uint64_t *sum, int number, const void *bytes, size_t size)
{
	add_head(sum, number, size);
	add(sum, bytes, size);
}

static void add_attribute(uint64_t *sum, int number, const struct nlattr *attribute)
{
	add_field(sum, number, attribute_bytes(attribute), (size_t)attribute_size(attribute));
}

/* Numbers of rules are added up, so their bits have to be well mixed. */
static uint64_t mixed(uint64_t sum)
{
	sum = (sum ^ sum >> 30) * 0xbf58476d1ce4e5b9;
	sum = (sum ^ sum >> 27) * 0x94d049bb133111eb;
	return sum ^ sum >> 31;
}

/* Where the kinds of actions have what is to be left out, and their parameters, which begin with the fields of all kinds; those of
 * police have these in other places. */
static const struct action_layout {
	const char *kind;
	int times, padding, parameters, other_parameters;
} action_layouts[] = {
	{"gact", TCA_GACT_TM, TCA_GACT_PAD, TCA_GACT_PARMS, 0},
	{"mirred", TCA_MIRRED_TM, TCA_MIRRED_PAD, TCA_MIRRED_PARMS, 0},
	{"vlan", TCA_VLAN_TM, TCA_VLAN_PAD, TCA_VLAN_PARMS, 0},
	{"tunnel_key", TCA_TUNNEL_KEY_TM, TCA_TUNNEL_KEY_PAD, TCA_TUNNEL_KEY_PARMS, 0},
	{"pedit", TCA_PEDIT_TM, TCA_PEDIT_PAD, TCA_PEDIT_PARMS, TCA_PEDIT_PARMS_EX},
	{"csum", TCA_CSUM_TM, TCA_CSUM_PAD, TCA_CSUM_PARMS, 0},
	{"ct", TCA_CT_TM, TCA_CT_PAD, TCA_CT_PARMS, 0},
	{"skbedit", TCA_SKBEDIT_TM, TCA_SKBEDIT_PAD, TCA_SKBEDIT_PARMS, 0},
	{"mpls", TCA_MPLS_TM, TCA_MPLS_PAD, TCA_MPLS_PARMS, 0},
	{"police", TCA_POLICE_TM, TCA_POLICE_PAD, TCA_POLICE_TBF, 0},
};

/* A filter that is being looked at. */
struct rule {
	/* Whose names count; NULL while it is found out where the filter sends packets. */
	const struct vf_interface_name *names;
	size_t name_count;
	const struct vf_cookie *kin_of;
	uint64_t sum;
	bool kin;
	/* The interfaces that it sends or copies packets to. */
	uint32_t destinations[TCA_ACT_MAX_PRIO + 1];
	int destination_count;
};

static int compare_interfaces(const void *number, const void *name)
{
	const uint32_t one = *(const uint32_t *)number, other = ((const struct vf_interface_name *)name)->interface;
	return one < other ? -1 : one > other;
}

static void add_name(struct rule *rule, int number, const struct vf_interface_name *name)
{
	add_field(&rule->sum, number, name->name, strnlen(name->name, sizeof(name->name)));
}

/* An interface of the host counts by its name. */
static void add_interface(uint32_t interface, struct rule *rule)
{
	const struct vf_interface_name *name =
		rule->names ? bsearch(&interface, rule->names, rule->name_count, sizeof(*name), compare_interfaces) : NULL;
	if (name)
		add_name(rule, 0, name);
}

/* So does one that a filter says in letters. What is not known keeps them. */
static void add_spelled_interface(int number, const struct nlattr *spelled, struct rule *rule)
{
	const size_t size = strnlen(attribute_bytes(spelled), (size_t)attribute_size(spelled));
	for (size_t n = 0; rule->names && n < rule->name_count; n++) {
		const struct vf_interface_name *name = &rule->names[n];
		if (strnlen(name->kernel_name, sizeof(name->kernel_name)) == size &&
		    !memcmp(name->kernel_name, attribute_bytes(spelled), size)) {
			add_name(rule, number, name);
			return;
		}
	}
	add_field(&rule->sum, number, attribute_bytes(spelled), size);
}

static void add_parameters(const char *kind, int number, const struct nlattr *given, struct rule *rule)
{
	union {
		struct tc_gact general;
		struct tc_mirred mirred;
		struct tc_police police;
	} head = {0};
	size_t size = (size_t)attribute_size(given), start = size < sizeof(head) ? size : sizeof(head);
	memcpy(&head, attribute_bytes(given), start);
	if (!strcmp(kind, "police")) {
		head.police.index = 0;
		head.police.refcnt = head.police.bindcnt = 0;
	} else {
		head.general.index = 0;
		head.general.refcnt = head.general.bindcnt = 0;
	}
	if (!strcmp(kind, "mirred")) {
		if (rule->destination_count <= TCA_ACT_MAX_PRIO)
			rule->destinations[rule->destination_count++] = head.mirred.ifindex;
		add_interface(head.mirred.ifindex, rule);
		head.mirred.ifindex = 0;
	}
	add_head(&rule->sum, number, size);
	add(&rule->sum, &head, start);
	add(&rule->sum, (const char *)attribute_bytes(given) + start, size - start);
}

/* The address that this host has at its end of a tunnel is another one on every host. */
static bool is_own_address(const char *kind, int type)
{
	return !strcmp(kind, "tunnel_key") && (type == TCA_TUNNEL_KEY_ENC_IPV4_SRC || type == TCA_TUNNEL_KEY_ENC_IPV6_SRC);
}

static void look_at_action(const struct libnl *nl, const struct nlattr *action, struct rule *rule)
{
	struct nlattr *found[TCA_ACT_MAX + 1], *options[most_attributes + 1];
	const struct action_layout *layout = NULL;
	char kind[16];
	if (!parse_nested(nl, action, found, TCA_ACT_MAX))
		return;
	copy_kind(found[TCA_ACT_KIND], kind);
	add_field(&rule->sum, TCA_ACT_KIND, kind, strlen(kind));
	const struct nlattr *cookie = found[TCA_ACT_COOKIE];
	rule->kin = rule->kin || (cookie && attribute_size(cookie) == sizeof(*rule->kin_of) &&
				  !memcmp(attribute_bytes(cookie), rule->kin_of, kin_bytes));
	for (size_t n = 0; n < sizeof(action_layouts) / sizeof(action_layouts[0]); n++)
		if (!strcmp(kind, action_layouts[n].kind))
			layout = &action_layouts[n];
	if (!layout || !parse_nested(nl, found[TCA_ACT_OPTIONS], options, most_attributes))
		return;
	for (int type = 1; type <= most_attributes; type++) {
		if (!options[type] || type == layout->times || type == layout->padding || is_own_address(kind, type))
			continue;
		if (type == layout->parameters || type == layout->other_parameters)
			add_parameters(kind, type, options[type], rule);
		else
			add_attribute(&rule->sum, type, options[type]);
	}
}

static void look_at_options(const struct libnl *nl, const char *kind, const struct nlattr *given, struct rule *rule)
{
	struct nlattr *options[most_attributes + 1], *actions[TCA_ACT_MAX_PRIO + 1];
	bool matchall = !strcmp(kind, "matchall");
	if ((!matchall && strcmp(kind, "flower")) || !parse_nested(nl, given, options, most_attributes))
		return;
	const int list = matchall ? TCA_MATCHALL_ACT : TCA_FLOWER_ACT;
	const int flags = matchall ? TCA_MATCHALL_FLAGS : TCA_FLOWER_FLAGS;
	const int counters = matchall ? TCA_MATCHALL_PCNT : TCA_FLOWER_IN_HW_COUNT;
	/* In the order of their numbers, whatever order a kernel writes them in. */
	for (int type = 1; type <= most_attributes; type++) {
		uint32_t asked = 0;
		if (!options[type] || type == list || type == counters || (matchall && type == TCA_MATCHALL_PAD))
			continue;
		if (!matchall && type == TCA_FLOWER_INDEV)
			add_spelled_interface(type, options[type], rule);
		else if (type != flags)
			add_attribute(&rule->sum, type, options[type]);
		else if (attribute_read(options[type], &asked, sizeof(asked)) &&
			 (asked &= TCA_CLS_FLAGS_SKIP_HW | TCA_CLS_FLAGS_SKIP_SW))
			add_field(&rule->sum, type, &asked, sizeof(asked));
	}
	if (!parse_nested(nl, options[list], actions, TCA_ACT_MAX_PRIO))
		return;
	for (int n = 0; n <= TCA_ACT_MAX_PRIO; n++)
		if (actions[n])
			look_at_action(nl, actions[n], rule);
}

/* Where a filter is, as far as a function is concerned. Its own representor's hooks are numbers of enum vf_hook. */
enum { place_uplink = 2, place_elsewhere = 3 };

/* Adds up a filter as it is for one function. */
static void add_rule(const struct libnl *nl, const struct tcmsg *header, struct nlattr *found[],
		     const struct vf_rule_reading *reading, const struct vf_rule_function *function, struct rule *rule)
{
	const bool own = (uint32_t)reading->interface == function->representor;
	const bool uplink = !own && (uint32_t)reading->interface == function->uplink;
	const uint8_t place = own ? (uint8_t)reading->hook : uplink ? place_uplink : place_elsewhere;
	const uint16_t protocol = (uint16_t)TC_H_MIN(header->tcm_info);
	uint32_t chain = 0;
	char kind[16];
	attribute_read(found[TCA_CHAIN], &chain, sizeof(chain));
	copy_kind(found[TCA_KIND], kind);
	rule->sum = sum_start;
	add_field(&rule->sum, TCA_KIND, kind, strlen(kind));
	add_field(&rule->sum, TCA_CHAIN, &chain, sizeof(chain));
	add(&rule->sum, &protocol, sizeof(protocol));
	add(&rule->sum, &place, sizeof(place));
	if (place == place_elsewhere)
		add_interface((uint32_t)reading->interface, rule);
	look_at_options(nl, kind, found[TCA_OPTIONS], rule);
}

static void look_at_rule(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	const struct vf_rule_reading *reading = context;
	struct nlattr *found[TCA_MAX + 1];
	const struct tcmsg *header = attributes(nl, answer, found);
	/* What has no options is not a filter but the list that holds those of one preference. */
	if (!header || answer->nlmsg_type != RTM_NEWTFILTER || !found[TCA_OPTIONS])
		return;
	char kind[16];
	copy_kind(found[TCA_KIND], kind);
	/* Nor is one of u32's hash tables, which have options, and no number of a filter within them. */
	if (!strcmp(kind, "u32") && !(header->tcm_handle & 0xfff))
		return;
	struct rule first = {.kin_of = &reading->kin};
	look_at_options(nl, kind, found[TCA_OPTIONS], &first);
	if (first.kin)
		return;
	for (size_t n = 0; n < reading->function_count; n++) {
		struct vf_rule_function *function = &reading->functions[n];
		bool meant = (uint32_t)reading->interface == function->representor;
		for (int to = 0; to < first.destination_count && reading->hook == vf_hook_ingress; to++)
			meant = meant || first.destinations[to] == function->representor;
		if (!meant)
			continue;
		struct rule rule = {.names = reading->names + n * reading->name_count,
				    .name_count = reading->name_count,
				    .kin_of = &reading->kin};
		add_rule(nl, header, found, reading, function, &rule);
		function->now.count++;
		function->now.digest += mixed(rule.sum);
	}
}

/* Whether this reading found what the one before it has found, which it replaces. */
static bool settled(const struct vf_rule_reading *reading)
{
	bool same = true;
	for (size_t n = 0; n < reading->function_count; n++) {
		struct vf_rule_function *function = &reading->functions[n];
		same = same && function->now.count == function->before.count && function->now.digest == function->before.digest;
		function->before = function->now;
		function->now = (struct vf_rules){0};
	}
	return same;
}

int vf_tc_add_rules(struct vf_netlink *netlink, const struct vf_rule_reading *reading, struct vf_netlink_words *words)
{
	const struct tcmsg header = {
		.tcm_family = AF_UNSPEC, .tcm_ifindex = reading->interface, .tcm_parent = parent_of(reading->hook)};
	int error = EINTR;
	bool read = false;
	settled(reading);
	for (int tries = 0; error == EINTR && tries < changes_tolerated; tries++) {
		struct nl_msg *message = start(netlink, RTM_GETTFILTER, NLM_F_DUMP, &header);
		error = netlink_ask(netlink, message, message ? 0 : -1, look_at_rule, (void *)reading, words);
		/* The kernel passes over filters when others are removed meanwhile, and does not say so. */
		const bool same = settled(reading) && read;
		read = !error;
		if (!error && !same)
			error = EINTR;
	}
	for (size_t n = 0; !error && n < reading->function_count; n++) {
		reading->functions[n].rules.count += reading->functions[n].before.count;
		reading->functions[n].rules.digest += reading->functions[n].before.digest;
	}
	return error;
}
