// SPDX-License-Identifier: GPL-2.0
/* /sys/kernel/config/vfio_synthetic: a folder for each device, a file for each setting. */
#include <linux/ctype.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/string_helpers.h>

#include "synthetic.h"

static struct vsyn_config *to_vsyn_config(struct config_item *item)
{
	return container_of(item, struct vsyn_config, item);
}

static struct vsyn_settings *to_vsyn_settings(struct config_item *item)
{
	return &to_vsyn_config(item)->settings;
}

static bool vsyn_is_live(struct config_item *item)
{
	return READ_ONCE(to_vsyn_config(item)->function);
}

/* While the device is bound, with a reference; or NULL. */
static struct vsyn_device *vsyn_get_device(struct config_item *item)
{
	struct vsyn_config *config = to_vsyn_config(item);
	struct vsyn_device *vsyn;

	spin_lock(&config->device_lock);
	vsyn = config->device;
	if (vsyn)
		get_device(&vsyn->vdev.device);
	spin_unlock(&config->device_lock);
	return vsyn;
}

static void vsyn_release_device(struct vsyn_device *vsyn)
{
	put_device(&vsyn->vdev.device);
}

void vsyn_config_set_device(struct vsyn_config *config, struct vsyn_device *vsyn)
{
	spin_lock(&config->device_lock);
	config->device = vsyn;
	spin_unlock(&config->device_lock);
}

/* Parsing: each takes its part of a line off the front, blanks before it included. */

static bool vsyn_take_u64(char **line, u64 *value)
{
	char *start = skip_spaces(*line), *end;

	if (!isdigit(*start))
		return false;
	*value = memparse(start, &end);
	*line = end;
	return true;
}

static char *vsyn_take_word(char **line)
{
	char *word = skip_spaces(*line), *end = word;

	while (*end && !isspace(*end))
		end++;
	*line = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

static bool vsyn_nothing_left(const char *line)
{
	return !*skip_spaces(line);
}

static bool vsyn_take_arc(char **line, u8 *from, u8 *to)
{
	char *name = vsyn_take_word(line), *second = strchr(name, ':');
	int f, t;

	if (!second)
		return false;
	*second++ = '\0';
	f = match_string(vsyn_state_names, VSYN_STATES, name);
	t = match_string(vsyn_state_names, VSYN_STATES, second);
	if (f < 0 || t < 0)
		return false;
	*from = f;
	*to = t;
	return true;
}

/*
 * Hands each line of what was written to parse(), whose target starts zeroed. Nothing
 * takes effect unless every line is right: the caller copies the target then.
 */
static ssize_t vsyn_parse_lines(const char *page, size_t count, void *target,
				int (*parse)(char *line, void *target))
{
	char *copy = kstrndup(page, count, GFP_KERNEL), *rest = copy, *line;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	while (!ret && (line = strsep(&rest, "\n")))
		if (!vsyn_nothing_left(line))
			ret = parse(line, target);
	kfree(copy);
	return ret ?: count;
}

/* Scalars: one description each, and one pair of functions for all. */

enum vsyn_scalar_kind { VSYN_NUMBER, VSYN_HEX, VSYN_CHOICE, VSYN_WORDS };

struct vsyn_scalar {
	size_t offset;
	enum vsyn_scalar_kind kind;
	u64 least, most, multiple_of;
	const char *const *words;	/* ends with NULL */
	bool fixed;			/* while the device is live */
	bool has_all;			/* "all" is U64_MAX */
};

ssize_t vsyn_show_words(char *page, const char *const *words, u64 bits)
{
	ssize_t length = 0;
	unsigned int i;

	for (i = 0; words[i]; i++)
		if (bits & BIT_ULL(i))
			length += sysfs_emit_at(page, length, "%s%s", length ? " " : "", words[i]);
	return length + sysfs_emit_at(page, length, "\n");
}

static ssize_t vsyn_scalar_show(struct config_item *item, const struct vsyn_scalar *scalar,
				char *page)
{
	u64 value = READ_ONCE(*(u64 *)((char *)to_vsyn_settings(item) + scalar->offset));

	switch (scalar->kind) {
	case VSYN_HEX:
		return sysfs_emit(page, "0x%06llx\n", value);
	case VSYN_CHOICE:
		return sysfs_emit(page, "%s\n", scalar->words[value]);
	case VSYN_WORDS:
		return vsyn_show_words(page, scalar->words, value);
	default:
		return value == U64_MAX && scalar->has_all ? sysfs_emit(page, "all\n") :
							     sysfs_emit(page, "%llu\n", value);
	}
}

static int vsyn_parse_words(const char *const *words, char *text, u64 *bits)
{
	unsigned int i;

	*bits = 0;
	while (!vsyn_nothing_left(text)) {
		char *word = vsyn_take_word(&text);

		for (i = 0; words[i] && strcmp(words[i], word); i++)
			;
		if (!words[i])
			return -EINVAL;
		*bits |= BIT_ULL(i);
	}
	return 0;
}

static int vsyn_scalar_parse(const struct vsyn_scalar *scalar, char *text, u64 *value)
{
	u64 bits;

	switch (scalar->kind) {
	case VSYN_WORDS:
		return vsyn_parse_words(scalar->words, text, value);
	case VSYN_CHOICE:
		if (vsyn_parse_words(scalar->words, text, &bits) || hweight64(bits) != 1)
			return -EINVAL;
		*value = __ffs64(bits);
		return 0;
	default:
		if (scalar->has_all && sysfs_streq(text, "all")) {
			*value = U64_MAX;
			return 0;
		}
		if (!vsyn_take_u64(&text, value) || !vsyn_nothing_left(text) ||
		    *value < scalar->least || *value > scalar->most ||
		    (scalar->multiple_of && *value % scalar->multiple_of))
			return -EINVAL;
		return 0;
	}
}

/* The legal combinations of migration flags: none, or stop-copy with any of the others. */
static bool vsyn_migration_is_legal(u64 flags)
{
	return !flags || (flags & VFIO_MIGRATION_STOP_COPY);
}

static ssize_t vsyn_scalar_store(struct config_item *item, const struct vsyn_scalar *scalar,
				 const char *page, size_t count)
{
	struct vsyn_config *config = to_vsyn_config(item);
	u64 *field = (u64 *)((char *)&config->settings + scalar->offset);
	char *copy = kstrndup(page, count, GFP_KERNEL);
	u64 value;
	int ret;

	if (!copy)
		return -ENOMEM;
	ret = vsyn_scalar_parse(scalar, copy, &value);
	kfree(copy);
	if (!ret && field == &config->settings.migration && !vsyn_migration_is_legal(value))
		ret = -EINVAL;
	if (!ret && field == &config->settings.log_page_size && !is_power_of_2(value))
		ret = -EINVAL;
	if (ret)
		return ret;
	mutex_lock(&config->live_mutex);
	if (scalar->fixed && config->function)
		ret = -EBUSY;
	else
		WRITE_ONCE(*field, value);
	mutex_unlock(&config->live_mutex);
	return ret ?: count;
}

#define VSYN_SCALAR(_name, ...)								\
static const struct vsyn_scalar vsyn_scalar_##_name = {					\
	.offset = offsetof(struct vsyn_settings, _name), __VA_ARGS__			\
};											\
static ssize_t vsyn_##_name##_show(struct config_item *item, char *page)		\
{											\
	return vsyn_scalar_show(item, &vsyn_scalar_##_name, page);			\
}											\
static ssize_t vsyn_##_name##_store(struct config_item *item, const char *page, size_t count) \
{											\
	return vsyn_scalar_store(item, &vsyn_scalar_##_name, page, count);		\
}											\
CONFIGFS_ATTR(vsyn_, _name)

#define VSYN_NUMBER_OF(_name, _least, _most, ...) \
	VSYN_SCALAR(_name, .kind = VSYN_NUMBER, .least = (_least), .most = (_most), __VA_ARGS__)
#define VSYN_ONE_OF(_name, ...) \
	VSYN_SCALAR(_name, .kind = VSYN_CHOICE, .words = vsyn_words_##_name, __VA_ARGS__)
#define VSYN_ANY_OF(_name, _words, ...) \
	VSYN_SCALAR(_name, .kind = VSYN_WORDS, .words = (_words), __VA_ARGS__)

const char *const vsyn_activity_names[] = { "peers", "dma", "state", "interrupts", NULL };
static const char *const vsyn_words_iommu[] = { "emulated", "own", NULL };
/* In the order of the kernel's VFIO_MIGRATION_ bits. */
static const char *const vsyn_words_migration[] = { "stop-copy", "p2p", "pre-copy", NULL };
static const char *const vsyn_words_pre_copy_end[] = { "enomsg", "zero", NULL };
static const char *const vsyn_words_pre_copy_new[] = { "asked", "read", NULL };
static const char *const vsyn_words_poll[] = { "none", "asked", NULL };
static const char *const vsyn_words_load[] = { "careful", "careless", NULL };
static const char *const vsyn_words_dma_pattern[] = { "sequential", "random", "hot", NULL };
static const char *const vsyn_words_log_too_many[] = { "merge", "refuse", NULL };
static const char *const vsyn_words_misbehave[] = {
	"peers-in-p2p", "dma-after-stop", "unlogged", "lose", "double", NULL
};

VSYN_ONE_OF(iommu, .fixed = true);
VSYN_NUMBER_OF(id, 0, VSYN_IDS - 1, .fixed = true);
VSYN_NUMBER_OF(log, 0, 1, .fixed = true);
VSYN_NUMBER_OF(bind_resets, 0, 1);
VSYN_NUMBER_OF(close_resets, 0, 1);
VSYN_ANY_OF(after_reset, vsyn_activity_names);
VSYN_NUMBER_OF(state_bytes, SZ_4K, 64ULL * SZ_1G, .multiple_of = SZ_4K, .fixed = true);
VSYN_NUMBER_OF(state_seed, 0, U64_MAX, .fixed = true);
VSYN_NUMBER_OF(initial_bytes, 0, U64_MAX, .has_all = true);
VSYN_NUMBER_OF(state_rate, 0, VSYN_MAX_RATE);
VSYN_ONE_OF(pre_copy_end);
VSYN_ONE_OF(pre_copy_new);
VSYN_ONE_OF(poll);
VSYN_NUMBER_OF(version, 0, U32_MAX);
VSYN_ONE_OF(load);
VSYN_NUMBER_OF(dma_rate, 0, VSYN_MAX_RATE);
VSYN_ONE_OF(dma_pattern);
VSYN_NUMBER_OF(dma_seed, 0, U64_MAX);
VSYN_NUMBER_OF(dma_in_p2p, 0, 1);
VSYN_NUMBER_OF(log_page_size, SZ_4K, SZ_1G);
VSYN_NUMBER_OF(log_max_ranges, 1, 1024);
VSYN_ONE_OF(log_too_many);
VSYN_NUMBER_OF(peer_latency, 0, USEC_PER_SEC);
VSYN_ANY_OF(misbehave, vsyn_words_misbehave);
VSYN_SCALAR(pci_class, .kind = VSYN_HEX, .most = 0xffffff, .fixed = true);

/* "none" is a word of its own here: an empty line would be easily written by mistake. */
static const struct vsyn_scalar vsyn_scalar_migration = {
	.offset = offsetof(struct vsyn_settings, migration),
	.kind = VSYN_WORDS,
	.words = vsyn_words_migration,
	.fixed = true,
};

static ssize_t vsyn_migration_show(struct config_item *item, char *page)
{
	if (!to_vsyn_settings(item)->migration)
		return sysfs_emit(page, "none\n");
	return vsyn_scalar_show(item, &vsyn_scalar_migration, page);
}

static ssize_t vsyn_migration_store(struct config_item *item, const char *page, size_t count)
{
	ssize_t ret;

	if (sysfs_streq(page, "none"))
		ret = vsyn_scalar_store(item, &vsyn_scalar_migration, "", 0);
	else if (vsyn_nothing_left(page))
		return -EINVAL;
	else
		return vsyn_scalar_store(item, &vsyn_scalar_migration, page, count);
	return ret < 0 ? ret : count;
}
CONFIGFS_ATTR(vsyn_, migration);

static ssize_t vsyn_pci_id_show(struct config_item *item, char *page)
{
	u64 id = vsyn_get(to_vsyn_settings(item), pci_id);

	return sysfs_emit(page, "%04llx:%04llx\n", id >> 16, id & 0xffff);
}

static ssize_t vsyn_pci_id_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_config *config = to_vsyn_config(item);
	unsigned int vendor, device;
	ssize_t ret = count;

	if (sscanf(page, "%4x:%4x", &vendor, &device) != 2)
		return -EINVAL;
	mutex_lock(&config->live_mutex);
	if (config->function)
		ret = -EBUSY;
	else
		WRITE_ONCE(config->settings.pci_id, vendor << 16 | device);
	mutex_unlock(&config->live_mutex);
	return ret;
}
CONFIGFS_ATTR(vsyn_, pci_id);

static ssize_t vsyn_group_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%s\n", to_vsyn_settings(item)->group);
}

static ssize_t vsyn_group_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_config *config = to_vsyn_config(item);
	char *copy = kstrndup(page, count, GFP_KERNEL), *name;
	ssize_t ret = count;

	if (!copy)
		return -ENOMEM;
	name = strim(copy);
	mutex_lock(&config->live_mutex);
	if (config->function)
		ret = -EBUSY;
	else if (strpbrk(name, " \t\n\"\\") ||
		 strscpy(config->settings.group, name, sizeof(config->settings.group)) < 0)
		ret = -EINVAL;
	mutex_unlock(&config->live_mutex);
	kfree(copy);
	return ret;
}
CONFIGFS_ATTR(vsyn_, group);

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

static bool vsyn_take_number(char **line, u64 least, u64 most, u64 *value)
{
	return vsyn_take_u64(line, value) && *value >= least && *value <= most;
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

static bool vsyn_take_range(char *line, struct vsyn_range *range)
{
	if (!vsyn_take_u64(&line, &range->start) || *line++ != '+' ||
	    !vsyn_take_u64(&line, &range->length) || !vsyn_nothing_left(line))
		return false;
	return range->length && range->start + range->length - 1 >= range->start;
}

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

/* Actions on the live device. */

#define VSYN_ACTION(_name, _body)							\
static ssize_t vsyn_##_name##_store(struct config_item *item, const char *page, size_t count) \
{											\
	struct vsyn_device *vsyn = vsyn_get_device(item);				\
											\
	if (!vsyn)									\
		return -ENODEV;								\
	_body;										\
	vsyn_release_device(vsyn);								\
	return count;									\
}											\
CONFIGFS_ATTR_WO(vsyn_, _name)

VSYN_ACTION(release, vsyn_release_hangs(vsyn));
VSYN_ACTION(reset, vsyn_reset(vsyn));
VSYN_ACTION(reinit, vsyn_reinit(vsyn));

static ssize_t vsyn_activity_show(struct config_item *item, char *page)
{
	struct vsyn_device *vsyn = vsyn_get_device(item);
	u32 control = vsyn ? READ_ONCE(vsyn->control) : 0;

	if (vsyn)
		vsyn_release_device(vsyn);
	return vsyn_show_words(page, vsyn_activity_names, control);
}

static ssize_t vsyn_activity_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_device *vsyn;
	char *copy = kstrndup(page, count, GFP_KERNEL);
	ssize_t ret;
	u64 control;

	if (!copy)
		return -ENOMEM;
	ret = vsyn_parse_words(vsyn_activity_names, copy, &control);
	kfree(copy);
	if (ret)
		return ret;
	vsyn = vsyn_get_device(item);
	if (!vsyn)
		return -ENODEV;
	spin_lock(&vsyn->rx_lock);
	if (vsyn->open)
		vsyn->control = control;
	else
		ret = -ENODEV;
	spin_unlock(&vsyn->rx_lock);
	vsyn_traffic_kick(vsyn);
	vsyn_release_device(vsyn);
	return ret ?: count;
}
CONFIGFS_ATTR(vsyn_, activity);

static ssize_t vsyn_log_set_store(struct config_item *item, const char *page, size_t count)
{
	u64 iova, length, stride = 0, runs = 1;
	struct vsyn_device *vsyn;
	char *copy = kstrndup(page, count, GFP_KERNEL), *line = copy;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	if (!vsyn_take_u64(&line, &iova) || !vsyn_take_u64(&line, &length) ||
	    (!vsyn_nothing_left(line) &&
	     (!vsyn_take_u64(&line, &stride) || !vsyn_take_u64(&line, &runs) ||
	      !vsyn_nothing_left(line))))
		ret = -EINVAL;
	kfree(copy);
	if (ret)
		return ret;
	vsyn = vsyn_get_device(item);
	if (!vsyn)
		return -ENODEV;
	ret = vsyn_log_set(vsyn, iova, length, stride, runs);
	vsyn_release_device(vsyn);
	return ret ?: count;
}
CONFIGFS_ATTR_WO(vsyn_, log_set);

/* Life. */

static int vsyn_set_live(struct vsyn_config *config, bool live)
{
	struct vsyn_function *function;
	int ret = 0;

	mutex_lock(&config->live_mutex);
	if (live && !config->function) {
		function = vsyn_function_create(config, config_item_name(&config->item));
		if (IS_ERR(function))
			ret = PTR_ERR(function);
		else
			WRITE_ONCE(config->function, function);
	} else if (!live && config->function) {
		vsyn_function_remove(config->function);
		WRITE_ONCE(config->function, NULL);
	}
	mutex_unlock(&config->live_mutex);
	return ret;
}

static ssize_t vsyn_live_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%d\n", vsyn_is_live(item));
}

static ssize_t vsyn_live_store(struct config_item *item, const char *page, size_t count)
{
	bool live;
	int ret = kstrtobool(page, &live);

	if (!ret)
		ret = vsyn_set_live(to_vsyn_config(item), live);
	return ret ?: count;
}
CONFIGFS_ATTR(vsyn_, live);

static struct configfs_attribute *vsyn_attributes[] = {
	&vsyn_attr_live, &vsyn_attr_iommu, &vsyn_attr_id, &vsyn_attr_group, &vsyn_attr_migration,
	&vsyn_attr_pci_id, &vsyn_attr_pci_class, &vsyn_attr_bind_resets, &vsyn_attr_close_resets,
	&vsyn_attr_after_reset, &vsyn_attr_state_bytes, &vsyn_attr_state_seed,
	&vsyn_attr_initial_bytes, &vsyn_attr_state_rate, &vsyn_attr_pre_copy_end,
	&vsyn_attr_pre_copy_new, &vsyn_attr_poll, &vsyn_attr_version, &vsyn_attr_load,
	&vsyn_attr_arc_time, &vsyn_attr_arc_hang, &vsyn_attr_release, &vsyn_attr_arc_fail,
	&vsyn_attr_data_fail, &vsyn_attr_reinit, &vsyn_attr_reset, &vsyn_attr_dma_ranges,
	&vsyn_attr_dma_rate, &vsyn_attr_dma_pattern, &vsyn_attr_dma_seed, &vsyn_attr_dma_in_p2p,
	&vsyn_attr_log, &vsyn_attr_log_limits, &vsyn_attr_log_page_size,
	&vsyn_attr_log_max_ranges, &vsyn_attr_log_too_many, &vsyn_attr_log_fail,
	&vsyn_attr_log_set, &vsyn_attr_peers, &vsyn_attr_peer_latency, &vsyn_attr_activity,
	&vsyn_attr_misbehave, NULL
};

static void vsyn_config_release(struct config_item *item)
{
	kfree(to_vsyn_config(item));
}

static struct configfs_item_operations vsyn_item_ops = {
	.release = vsyn_config_release,
};

static const struct config_item_type vsyn_item_type = {
	.ct_item_ops = &vsyn_item_ops,
	.ct_attrs = vsyn_attributes,
	.ct_owner = THIS_MODULE,
};

static struct config_item *vsyn_make_item(struct config_group *group, const char *name)
{
	struct vsyn_config *config;

	/* The name goes into JSON, a folder of debugfs and lines of "peers". */
	if (strpbrk(name, " \t\n\"\\/:") || !strcmp(name, "referee") || !strcmp(name, "referee.json"))
		return ERR_PTR(-EINVAL);
	config = kzalloc(sizeof(*config), GFP_KERNEL);
	if (!config)
		return ERR_PTR(-ENOMEM);
	mutex_init(&config->live_mutex);
	spin_lock_init(&config->device_lock);
	config->settings = (struct vsyn_settings){
		.migration = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
		.pci_id = 0x56465359,
		.pci_class = 0x020000,
		.bind_resets = 1,
		.close_resets = 1,
		.state_bytes = SZ_1M,
		.state_seed = 1,
		.initial_bytes = U64_MAX,
		.version = 1,
		.dma_seed = 1,
		.dma_in_p2p = 1,
		.log = 1,
		.log_page_size = SZ_4K,
		.log_max_ranges = 64,
		.peer_latency = 50,
		.data_fail.bytes = U64_MAX,
	};
	mutex_init(&config->settings.lock);
	config_item_init_type_name(&config->item, name, &vsyn_item_type);
	return &config->item;
}

static void vsyn_drop_item(struct config_group *group, struct config_item *item)
{
	vsyn_set_live(to_vsyn_config(item), false);
	config_item_put(item);
}

static struct configfs_group_operations vsyn_group_ops = {
	.make_item = vsyn_make_item,
	.drop_item = vsyn_drop_item,
};

static const struct config_item_type vsyn_group_type = {
	.ct_group_ops = &vsyn_group_ops,
	.ct_owner = THIS_MODULE,
};

static struct configfs_subsystem vsyn_subsystem = {
	.su_group.cg_item = {
		.ci_namebuf = VSYN_NAME,
		.ci_type = &vsyn_group_type,
	},
};

int vsyn_settings_register(void)
{
	config_group_init(&vsyn_subsystem.su_group);
	mutex_init(&vsyn_subsystem.su_mutex);
	return configfs_register_subsystem(&vsyn_subsystem);
}

void vsyn_settings_unregister(void)
{
	configfs_unregister_subsystem(&vsyn_subsystem);
}
