// SPDX-License-Identifier: GPL-2.0
/* Settings of one value: a description of each, and one pair of functions for all. */
#include <linux/slab.h>
#include <linux/string.h>

#include "settings.h"

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
	/* The others don't wait for a device that is just being removed. */
	if (!scalar->fixed) {
		WRITE_ONCE(*field, value);
		return count;
	}
	mutex_lock(&config->live_mutex);
	if (config->function)
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
	int end = 0;

	if (sscanf(page, "%4x:%4x%n", &vendor, &device, &end) != 2 || !vsyn_nothing_left(page + end))
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
	else if (strpbrk(name, " \t\n\"\\") || strlen(name) >= sizeof(config->settings.group))
		ret = -EINVAL;
	else
		strscpy(config->settings.group, name, sizeof(config->settings.group));
	mutex_unlock(&config->live_mutex);
	kfree(copy);
	return ret;
}
CONFIGFS_ATTR(vsyn_, group);

struct configfs_attribute *const vsyn_scalar_attributes[] = {
	&vsyn_attr_iommu, &vsyn_attr_id, &vsyn_attr_log, &vsyn_attr_bind_resets,
	&vsyn_attr_close_resets, &vsyn_attr_after_reset, &vsyn_attr_state_bytes,
	&vsyn_attr_state_seed, &vsyn_attr_initial_bytes, &vsyn_attr_state_rate,
	&vsyn_attr_pre_copy_end, &vsyn_attr_pre_copy_new, &vsyn_attr_poll, &vsyn_attr_version,
	&vsyn_attr_load, &vsyn_attr_dma_rate, &vsyn_attr_dma_pattern, &vsyn_attr_dma_seed,
	&vsyn_attr_dma_in_p2p, &vsyn_attr_log_page_size, &vsyn_attr_log_max_ranges,
	&vsyn_attr_log_too_many, &vsyn_attr_peer_latency, &vsyn_attr_misbehave,
	&vsyn_attr_pci_class, &vsyn_attr_migration, &vsyn_attr_pci_id, &vsyn_attr_group, NULL
};

void vsyn_scalars_default(struct vsyn_settings *settings)
{
	*settings = (struct vsyn_settings){
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
}
