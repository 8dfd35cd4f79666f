/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic control: which filters there are, and which is ours. */
#include <errno.h>
#include <linux/gen_stats.h>

#include "traffic.h"

struct filter_search {
	const struct vf_cookie *cookie;
	struct vf_survey *survey;
	/* Whether the filter that is being looked at is kin. */
	bool kin;
	uint8_t taken[65536 / 8];
};

/* Reads the police action with the cookie; false where this is another action. */
static bool look_at_action(const struct libnl *nl, const struct nlattr *action, struct filter_search *search)
{
	struct nlattr *found[TCA_ACT_MAX + 1], *options[TCA_POLICE_MAX + 1], *statistics[TCA_STATS_MAX + 1];
	struct vf_survey *survey = search->survey;
	struct tc_police police;
	char kind[16];
	if (!parse_nested(nl, action, found, TCA_ACT_MAX))
		return false;
	copy_kind(found[TCA_ACT_KIND], kind);
	const struct nlattr *cookie = found[TCA_ACT_COOKIE];
	if (strcmp(kind, "police") || !cookie || attribute_size(cookie) != sizeof(*search->cookie))
		return false;
	search->kin = search->kin || !memcmp(attribute_bytes(cookie), search->cookie, kin_bytes);
	if (memcmp(attribute_bytes(cookie), search->cookie, sizeof(*search->cookie)) ||
	    !parse_nested(nl, found[TCA_ACT_OPTIONS], options, TCA_POLICE_MAX) ||
	    !attribute_read(options[TCA_POLICE_TBF], &police, sizeof(police)))
		return false;
	survey->police = police.index;
	survey->rate = police.rate.rate;
	attribute_read(options[TCA_POLICE_RATE64], &survey->rate, sizeof(survey->rate));
	if (parse_nested(nl, found[TCA_ACT_STATS], statistics, TCA_STATS_MAX)) {
		/* Only the fields before the padding at the end are on the wire. */
		struct gnet_stats_queue queue;
		attribute_read(statistics[TCA_STATS_BASIC], &survey->bytes, sizeof(survey->bytes));
		if (attribute_read(statistics[TCA_STATS_QUEUE], &queue, sizeof(queue)))
			survey->drops = queue.drops;
	}
	return true;
}

static bool is_ours(const struct libnl *nl, const char *kind, const struct nlattr *given, struct filter_search *search)
{
	struct nlattr *options[TCA_FLOWER_MAX + 1], *actions[TCA_ACT_MAX_PRIO + 1];
	bool matchall = !strcmp(kind, "matchall");
	uint32_t flags = 0;
	if ((!matchall && strcmp(kind, "flower")) ||
	    !parse_nested(nl, given, options, matchall ? TCA_MATCHALL_MAX : TCA_FLOWER_MAX) ||
	    !parse_nested(nl, options[matchall ? TCA_MATCHALL_ACT : TCA_FLOWER_ACT], actions, TCA_ACT_MAX_PRIO))
		return false;
	bool ours = false;
	for (int n = 0; n <= TCA_ACT_MAX_PRIO; n++)
		ours = ours || (actions[n] && look_at_action(nl, actions[n], search));
	attribute_read(options[matchall ? TCA_MATCHALL_FLAGS : TCA_FLOWER_FLAGS], &flags, sizeof(flags));
	if (ours)
		search->survey->in_hardware = flags & TCA_CLS_FLAGS_IN_HW;
	return ours;
}

static void look_at_filter(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct filter_search *search = context;
	struct vf_survey *survey = search->survey;
	struct nlattr *found[TCA_MAX + 1];
	const struct tcmsg *header = attributes(nl, answer, found);
	if (!header || answer->nlmsg_type != RTM_NEWTFILTER)
		return;
	uint16_t preference = (uint16_t)(TC_H_MAJ(header->tcm_info) >> 16);
	uint32_t chain = 0;
	attribute_read(found[TCA_CHAIN], &chain, sizeof(chain));
	if (!chain)
		search->taken[preference / 8] |= (uint8_t)(1 << preference % 8);
	/* What has no options is not a filter but the list that holds those of one preference. */
	if (!found[TCA_OPTIONS])
		return;
	char kind[16];
	copy_kind(found[TCA_KIND], kind);
	search->kin = false;
	if (!survey->found && is_ours(nl, kind, found[TCA_OPTIONS], search)) {
		survey->found = true;
		survey->preference = preference;
		survey->info = header->tcm_info;
		survey->handle = header->tcm_handle;
		memcpy(survey->kind, kind, sizeof(survey->kind));
		return;
	}
	if (search->kin) {
		survey->kin++;
		return;
	}
	survey->others++;
	if (!chain && (!survey->first_other || preference < survey->first_other))
		survey->first_other = preference;
}

/* Whether two surveys differ in nothing but what is counted. */
static bool agree(const struct vf_survey *one, const struct vf_survey *other)
{
	return one->others == other->others && one->kin == other->kin && one->free_preference == other->free_preference &&
	       one->first_other == other->first_other && one->found == other->found &&
	       one->preference == other->preference && one->info == other->info && one->handle == other->handle &&
	       one->police == other->police && one->rate == other->rate && one->in_hardware == other->in_hardware &&
	       !memcmp(one->kind, other->kind, sizeof(one->kind));
}

int vf_tc_survey(struct vf_netlink *netlink, int interface, enum vf_hook hook, const struct vf_cookie *cookie,
		 struct vf_survey *survey, struct vf_netlink_words *words)
{
	struct vf_survey before;
	int error = EINTR;
	bool read = false;
	for (int tries = 0; error == EINTR && tries < changes_tolerated; tries++) {
		const struct tcmsg header = {
			.tcm_family = AF_UNSPEC, .tcm_ifindex = interface, .tcm_parent = parent_of(hook)};
		struct filter_search search = {.cookie = cookie, .survey = survey};
		struct nl_msg *message = start(netlink, RTM_GETTFILTER, NLM_F_DUMP, &header);
		memset(survey, 0, sizeof(*survey));
		error = netlink_ask(netlink, message, message ? 0 : -1, look_at_filter, &search, words);
		for (int preference = 1; !survey->free_preference && preference < 65536; preference++)
			if (!(search.taken[preference / 8] & 1 << preference % 8))
				survey->free_preference = (uint16_t)preference;
		/* The kernel passes over filters when others are removed meanwhile, and does not say so. */
		const bool same = read && agree(survey, &before);
		read = !error;
		before = *survey;
		if (!error && !same)
			error = EINTR;
	}
	return error;
}
