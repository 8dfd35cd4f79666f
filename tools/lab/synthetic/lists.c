// SPDX-License-Identifier: GPL-2.0
/*
 * Settings that hold lists: rules about arcs and the log, times, ranges, peers. What is
 * written replaces the list, or nothing changes.
 */
#include <linux/ctype.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "settings.h"

/* Rules about arcs. */

/* Counts one use of an arc or operation down in every rule; the one that applies to it, or NULL. */
struct vsyn_rule *vsyn_rule_applies(struct vsyn_rule *rules, u8 from, u8 to)
{
	struct vsyn_rule *applies = NULL;
	unsigned int i;

	for (i = 0; i < VSYN_MAX_RULES; i++)
		if (rules[i].nth && rules[i].from == from && rules[i].to == to && !--rules[i].nth)
			applies = &rules[i];
	return applies;
}

static struct vsyn_rule *vsyn_free_rule(struct vsyn_rule *rules)
{
	unsigned int i;

	for (i = 0; i < VSYN_MAX_RULES; i++)
		if (!rules[i].nth)
			return &rules[i];
	return NULL;
}

static const char *const vsyn_words_leaves[] = { "start", "here", "there", "error" };

static int vsyn_parse_fail(char *line, void *target)
{
	struct vsyn_rule *rule = vsyn_free_rule(target);
	u64 nth, error;
	int leaves;

	if (!rule)
		return -E2BIG;
	if (!vsyn_take_arc(&line, &rule->from, &rule->to) ||
	    !vsyn_take_number(&line, 1, U32_MAX, &nth) ||
	    !vsyn_take_number(&line, 1, MAX_ERRNO, &error))
		return -EINVAL;
	leaves = match_string(vsyn_words_leaves, ARRAY_SIZE(vsyn_words_leaves), vsyn_take_word(&line));
	if (leaves < 0 || !vsyn_nothing_left(line))
		return -EINVAL;
	rule->nth = nth;
	rule->error = error;
	rule->leaves = leaves;
	return 0;
}

static int vsyn_parse_hang(char *line, void *target)
{
	struct vsyn_rule *rule = vsyn_free_rule(target);
	u64 nth;

	if (!rule)
		return -E2BIG;
	if (!vsyn_take_arc(&line, &rule->from, &rule->to) ||
	    !vsyn_take_number(&line, 1, U32_MAX, &nth) || !vsyn_nothing_left(line))
		return -EINVAL;
	rule->nth = nth;
	return 0;
}

static const char *const vsyn_log_operations[] = { "start", "report", "stop" };

static int vsyn_parse_log_fail(char *line, void *target)
{
	struct vsyn_rule *rule = vsyn_free_rule(target);
	u64 nth, error;
	int operation;

	if (!rule)
		return -E2BIG;
	operation = match_string(vsyn_log_operations, ARRAY_SIZE(vsyn_log_operations),
				 vsyn_take_word(&line));
	if (operation < 0 || !vsyn_take_number(&line, 1, U32_MAX, &nth) ||
	    !vsyn_take_number(&line, 1, MAX_ERRNO, &error) || !vsyn_nothing_left(line))
		return -EINVAL;
	rule->from = operation;
	rule->nth = nth;
	rule->error = error;
	return 0;
}

static ssize_t vsyn_store_rules(struct vsyn_settings *settings, struct vsyn_rule *rules,
				const char *page, size_t count,
				int (*parse)(char *line, void *target))
{
	struct vsyn_rule *parsed = kcalloc(VSYN_MAX_RULES, sizeof(*parsed), GFP_KERNEL);
	ssize_t ret;

	if (!parsed)
		return -ENOMEM;
	ret = vsyn_parse_lines(page, count, parsed, parse);
	if (ret >= 0) {
		mutex_lock(&settings->lock);
		memcpy(rules, parsed, VSYN_MAX_RULES * sizeof(*rules));
		mutex_unlock(&settings->lock);
	}
	kfree(parsed);
	return ret;
}

static ssize_t vsyn_arc_fail_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	ssize_t length = 0;
	unsigned int i;

	mutex_lock(&settings->lock);
	for (i = 0; i < VSYN_MAX_RULES; i++) {
		struct vsyn_rule *rule = &settings->arc_fail[i];

		if (rule->nth)
			length += sysfs_emit_at(page, length, "%s:%s %u %d %s\n",
						vsyn_state_names[rule->from],
						vsyn_state_names[rule->to], rule->nth, rule->error,
						vsyn_words_leaves[rule->leaves]);
	}
	mutex_unlock(&settings->lock);
	return length;
}

static ssize_t vsyn_arc_fail_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);

	return vsyn_store_rules(settings, settings->arc_fail, page, count, vsyn_parse_fail);
}
CONFIGFS_ATTR(vsyn_, arc_fail);

static ssize_t vsyn_arc_hang_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	ssize_t length = 0;
	unsigned int i;

	mutex_lock(&settings->lock);
	for (i = 0; i < VSYN_MAX_RULES; i++) {
		struct vsyn_rule *rule = &settings->arc_hang[i];

		if (rule->nth)
			length += sysfs_emit_at(page, length, "%s:%s %u\n",
						vsyn_state_names[rule->from],
						vsyn_state_names[rule->to], rule->nth);
	}
	mutex_unlock(&settings->lock);
	return length;
}

static ssize_t vsyn_arc_hang_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);

	return vsyn_store_rules(settings, settings->arc_hang, page, count, vsyn_parse_hang);
}
CONFIGFS_ATTR(vsyn_, arc_hang);

static ssize_t vsyn_log_fail_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	ssize_t length = 0;
	unsigned int i;

	mutex_lock(&settings->lock);
	for (i = 0; i < VSYN_MAX_RULES; i++) {
		struct vsyn_rule *rule = &settings->log_fail[i];

		if (rule->nth)
			length += sysfs_emit_at(page, length, "%s %u %d\n",
						vsyn_log_operations[rule->from], rule->nth,
						rule->error);
	}
	mutex_unlock(&settings->lock);
	return length;
}

static ssize_t vsyn_log_fail_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);

	return vsyn_store_rules(settings, settings->log_fail, page, count, vsyn_parse_log_fail);
}
CONFIGFS_ATTR(vsyn_, log_fail);

typedef u32 vsyn_arc_times[VSYN_STATES][VSYN_STATES];

static int vsyn_parse_arc_time(char *line, void *target)
{
	vsyn_arc_times *times = target;
	char *rest = skip_spaces(line);
	unsigned int f, t;
	u64 time;
	u8 from, to;

	if (!strncmp(rest, "all", 3) && isspace(rest[3])) {
		rest += 3;
		if (!vsyn_take_number(&rest, 0, 600 * USEC_PER_SEC, &time) || !vsyn_nothing_left(rest))
			return -EINVAL;
		for (f = 0; f < VSYN_STATES; f++)
			for (t = 0; t < VSYN_STATES; t++)
				(*times)[f][t] = time;
		return 0;
	}
	if (!vsyn_take_arc(&line, &from, &to) ||
	    !vsyn_take_number(&line, 0, 600 * USEC_PER_SEC, &time) || !vsyn_nothing_left(line))
		return -EINVAL;
	(*times)[from][to] = time;
	return 0;
}

static ssize_t vsyn_arc_time_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	unsigned int f, t;
	ssize_t length = 0;

	mutex_lock(&settings->lock);
	for (f = 0; f < VSYN_STATES; f++)
		for (t = 0; t < VSYN_STATES; t++)
			if (settings->arc_time[f][t])
				length += sysfs_emit_at(page, length, "%s:%s %u\n",
							vsyn_state_names[f], vsyn_state_names[t],
							settings->arc_time[f][t]);
	mutex_unlock(&settings->lock);
	return length;
}

static ssize_t vsyn_arc_time_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	vsyn_arc_times times = {};
	ssize_t ret = vsyn_parse_lines(page, count, &times, vsyn_parse_arc_time);

	if (ret >= 0) {
		mutex_lock(&settings->lock);
		memcpy(settings->arc_time, times, sizeof(times));
		mutex_unlock(&settings->lock);
	}
	return ret;
}
CONFIGFS_ATTR(vsyn_, arc_time);

static int vsyn_parse_data_fail(char *line, void *target)
{
	struct vsyn_data_fail *fail = target;
	char *direction = vsyn_take_word(&line);
	u64 error;

	fail->write = !strcmp(direction, "write");
	if ((!fail->write && strcmp(direction, "read")) ||
	    !vsyn_take_number(&line, 0, U64_MAX - 1, &fail->bytes) ||
	    !vsyn_take_number(&line, 1, MAX_ERRNO, &error) || !vsyn_nothing_left(line))
		return -EINVAL;
	fail->error = error;
	return 0;
}

static ssize_t vsyn_data_fail_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	struct vsyn_data_fail fail;

	mutex_lock(&settings->lock);
	fail = settings->data_fail;
	mutex_unlock(&settings->lock);
	if (fail.bytes == U64_MAX)
		return 0;
	return sysfs_emit(page, "%s %llu %d\n", fail.write ? "write" : "read", fail.bytes, fail.error);
}

static ssize_t vsyn_data_fail_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	struct vsyn_data_fail fail = { .bytes = U64_MAX };
	ssize_t ret = vsyn_parse_lines(page, count, &fail, vsyn_parse_data_fail);

	if (ret >= 0) {
		mutex_lock(&settings->lock);
		settings->data_fail = fail;
		mutex_unlock(&settings->lock);
	}
	return ret;
}
CONFIGFS_ATTR(vsyn_, data_fail);

/* Ranges and peers. */

struct vsyn_ranges {
	struct vsyn_range range[VSYN_MAX_RANGES];
	unsigned int count;
};

static int vsyn_parse_dma_range(char *line, void *target)
{
	struct vsyn_ranges *ranges = target;
	struct vsyn_range *range = &ranges->range[ranges->count];

	if (ranges->count == VSYN_MAX_RANGES)
		return -E2BIG;
	if (!vsyn_take_range(line, range) || (range->start | range->length) % VSYN_PAGE_SIZE)
		return -EINVAL;
	ranges->count++;
	return 0;
}

static ssize_t vsyn_dma_ranges_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	ssize_t length = 0;
	unsigned int i;

	mutex_lock(&settings->lock);
	for (i = 0; i < settings->nr_dma_ranges; i++)
		length += sysfs_emit_at(page, length, "0x%llx+%llu\n", settings->dma_ranges[i].start,
					settings->dma_ranges[i].length);
	mutex_unlock(&settings->lock);
	return length;
}

static ssize_t vsyn_dma_ranges_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	struct vsyn_ranges ranges = {};
	ssize_t ret = vsyn_parse_lines(page, count, &ranges, vsyn_parse_dma_range);

	if (ret >= 0) {
		mutex_lock(&settings->lock);
		memcpy(settings->dma_ranges, ranges.range, sizeof(ranges.range));
		settings->nr_dma_ranges = ranges.count;
		mutex_unlock(&settings->lock);
	}
	return ret;
}
CONFIGFS_ATTR(vsyn_, dma_ranges);

static int vsyn_parse_log_limits(char *line, void *target)
{
	return vsyn_take_range(line, target) ? 0 : -EINVAL;
}

static ssize_t vsyn_log_limits_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	struct vsyn_range limits;

	mutex_lock(&settings->lock);
	limits = settings->log_limits;
	mutex_unlock(&settings->lock);
	if (!limits.length)
		return 0;
	return sysfs_emit(page, "0x%llx+%llu\n", limits.start, limits.length);
}

static ssize_t vsyn_log_limits_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	struct vsyn_range limits = {};
	ssize_t ret = vsyn_parse_lines(page, count, &limits, vsyn_parse_log_limits);

	if (ret >= 0) {
		mutex_lock(&settings->lock);
		settings->log_limits = limits;
		mutex_unlock(&settings->lock);
	}
	return ret;
}
CONFIGFS_ATTR(vsyn_, log_limits);

struct vsyn_peers {
	struct vsyn_peer peer[VSYN_MAX_PEERS];
	unsigned int count;
};

static int vsyn_parse_peer(char *line, void *target)
{
	struct vsyn_peers *peers = target;
	struct vsyn_peer *peer = &peers->peer[peers->count];

	if (peers->count == VSYN_MAX_PEERS)
		return -E2BIG;
	if (strscpy(peer->name, vsyn_take_word(&line), sizeof(peer->name)) <= 0 ||
	    !vsyn_take_number(&line, 0, VSYN_MAX_RATE, &peer->rate) || !vsyn_nothing_left(line))
		return -EINVAL;
	peers->count++;
	return 0;
}

static ssize_t vsyn_peers_show(struct config_item *item, char *page)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	ssize_t length = 0;
	unsigned int i;

	mutex_lock(&settings->lock);
	for (i = 0; i < settings->nr_peers; i++)
		length += sysfs_emit_at(page, length, "%s %llu\n", settings->peers[i].name,
					settings->peers[i].rate);
	mutex_unlock(&settings->lock);
	return length;
}

static ssize_t vsyn_peers_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_settings *settings = to_vsyn_settings(item);
	struct vsyn_peers peers = {};
	ssize_t ret = vsyn_parse_lines(page, count, &peers, vsyn_parse_peer);

	if (ret >= 0) {
		mutex_lock(&settings->lock);
		memcpy(settings->peers, peers.peer, sizeof(peers.peer));
		settings->nr_peers = peers.count;
		mutex_unlock(&settings->lock);
	}
	return ret;
}
CONFIGFS_ATTR(vsyn_, peers);

struct configfs_attribute *const vsyn_list_attributes[] = {
	&vsyn_attr_arc_fail, &vsyn_attr_arc_hang, &vsyn_attr_log_fail, &vsyn_attr_arc_time,
	&vsyn_attr_data_fail, &vsyn_attr_dma_ranges, &vsyn_attr_log_limits, &vsyn_attr_peers, NULL
};
