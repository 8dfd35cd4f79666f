// SPDX-License-Identifier: GPL-2.0
/* What the devices and their groups were seen to do, in debugfs as text and as JSON. */
#include <linux/debugfs.h>
#include <linux/list.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "synthetic.h"

static const char *const vsyn_counter_names[VSYN_COUNTERS] = {
	[VSYN_PEER_SENT] = "peer_sent",
	[VSYN_PEER_RECEIVED] = "peer_received",
	[VSYN_ARRIVED_STOP] = "peer_arrived_stop",
	[VSYN_ARRIVED_STOP_COPY] = "peer_arrived_stop_copy",
	[VSYN_ARRIVED_RESUMING] = "peer_arrived_resuming",
	[VSYN_ARRIVED_ERROR] = "peer_arrived_error",
	[VSYN_ARRIVED_CLOSED] = "peer_arrived_closed",
	[VSYN_STARTED_QUIESCED] = "peer_started_quiesced",
	[VSYN_PEER_LOST] = "peer_lost",
	[VSYN_PEER_DOUBLED] = "peer_doubled",
	[VSYN_PEER_NEW_LINKS] = "peer_new_links",
	[VSYN_DMA_PAGES] = "dma_pages",
	[VSYN_DMA_FAULTS] = "dma_faults",
	[VSYN_DMA_STOPPED] = "dma_after_stop",
	[VSYN_UNMAPPED_UNREPORTED] = "dma_unmapped_unreported",
	[VSYN_BAR_QUIESCED] = "bar_quiesced",
	[VSYN_CONFIG_QUIESCED] = "config_quiesced",
	[VSYN_ARCS] = "arcs",
	[VSYN_ARCS_REFUSED] = "arcs_refused",
	[VSYN_ARCS_FAILED] = "arcs_failed",
	[VSYN_RESETS] = "resets",
	[VSYN_LOADS_VERIFIED] = "loads_verified",
	[VSYN_LOADS_REFUSED] = "loads_refused",
	[VSYN_LOADS_CARELESS] = "loads_careless",
};

/* When the devices of a group entered a state, this time round. */
struct vsyn_entry {
	u64 entries;
	unsigned long round;		/* which of the group's devices have */
	u64 first, last;		/* nanoseconds */
	u64 skew_us, max_skew_us;	/* of the last round that all took part in; of any */
};

struct vsyn_group {
	struct list_head list;
	char name[32];
	unsigned long members;
	struct vsyn_entry entered[VSYN_STATES];
};

static DEFINE_MUTEX(vsyn_groups_lock);
static LIST_HEAD(vsyn_groups);
static struct dentry *vsyn_debugfs;

/* Groups. */

static int vsyn_group_join(struct vsyn_device *vsyn)
{
	const char *name = vsyn->settings->group;
	struct vsyn_group *group;
	unsigned long index;
	int ret = 0;

	if (!*name)
		return 0;
	mutex_lock(&vsyn_groups_lock);
	list_for_each_entry(group, &vsyn_groups, list)
		if (!strcmp(group->name, name))
			goto join;
	group = kzalloc(sizeof(*group), GFP_KERNEL);
	if (!group) {
		ret = -ENOMEM;
		goto unlock;
	}
	strscpy(group->name, name, sizeof(group->name));
	list_add_tail(&group->list, &vsyn_groups);
join:
	index = find_first_zero_bit(&group->members, BITS_PER_LONG);
	if (index == BITS_PER_LONG) {
		ret = -ENOSPC;
		goto unlock;
	}
	__set_bit(index, &group->members);
	vsyn->group = group;
	vsyn->group_index = index;
unlock:
	mutex_unlock(&vsyn_groups_lock);
	return ret;
}

static void vsyn_group_leave(struct vsyn_device *vsyn)
{
	struct vsyn_group *group = vsyn->group;
	unsigned int state;

	if (!group)
		return;
	mutex_lock(&vsyn_groups_lock);
	__clear_bit(vsyn->group_index, &group->members);
	for (state = 0; state < VSYN_STATES; state++)
		__clear_bit(vsyn->group_index, &group->entered[state].round);
	if (!group->members) {
		list_del(&group->list);
		kfree(group);
	}
	vsyn->group = NULL;
	mutex_unlock(&vsyn_groups_lock);
}

/* A device is in a state that it was not in before. */
void vsyn_referee_entered(struct vsyn_device *vsyn, enum vfio_device_mig_state state)
{
	struct vsyn_entry *entry;
	u64 now = ktime_get_ns();

	mutex_lock(&vsyn_groups_lock);
	if (vsyn->group) {
		entry = &vsyn->group->entered[state];
		entry->entries++;
		/* Who comes by a second time begins a new round. */
		if (!entry->round || test_bit(vsyn->group_index, &entry->round)) {
			entry->round = 0;
			entry->first = now;
		}
		__set_bit(vsyn->group_index, &entry->round);
		entry->last = now;
		if (entry->round == vsyn->group->members) {
			entry->skew_us = div_u64(entry->last - entry->first, NSEC_PER_USEC);
			entry->max_skew_us = max(entry->max_skew_us, entry->skew_us);
		}
	}
	mutex_unlock(&vsyn_groups_lock);
}

/* Writing it down: the same walk gives text and JSON. */

struct vsyn_sheet {
	struct seq_file *file;
	bool json;
	bool follows;		/* something came before in this object */
};

static void vsyn_key(struct vsyn_sheet *sheet, const char *key)
{
	if (sheet->json)
		seq_printf(sheet->file, "%s\"%s\": ", sheet->follows ? ", " : "", key);
	else
		seq_printf(sheet->file, "  %-24s ", key);
	sheet->follows = true;
}

static void vsyn_put_number(struct vsyn_sheet *sheet, const char *key, u64 value)
{
	vsyn_key(sheet, key);
	seq_printf(sheet->file, sheet->json ? "%llu" : "%llu\n", value);
}

static void vsyn_put_text(struct vsyn_sheet *sheet, const char *key, const char *value)
{
	vsyn_key(sheet, key);
	seq_printf(sheet->file, sheet->json ? "\"%s\"" : "%s\n", value);
}

static void vsyn_put_bool(struct vsyn_sheet *sheet, const char *key, bool value)
{
	vsyn_key(sheet, key);
	seq_printf(sheet->file, sheet->json ? "%s" : "%s\n",
		   sheet->json ? (value ? "true" : "false") : (value ? "yes" : "no"));
}

static void vsyn_open_object(struct vsyn_sheet *sheet, const char *key)
{
	if (!sheet->json)
		seq_printf(sheet->file, "%s\n", key);
	else if (key)
		seq_printf(sheet->file, "%s\"%s\": {", sheet->follows ? ", " : "", key);
	else
		seq_puts(sheet->file, "{");
	sheet->follows = false;
}

static void vsyn_close_object(struct vsyn_sheet *sheet)
{
	if (sheet->json)
		seq_puts(sheet->file, "}");
	sheet->follows = true;
}

static void vsyn_put_activity(struct vsyn_sheet *sheet, u32 control)
{
	unsigned int i, shown = 0;

	vsyn_key(sheet, "activity");
	if (sheet->json)
		seq_puts(sheet->file, "\"");
	for (i = 0; vsyn_activity_names[i]; i++)
		if (control & BIT(i))
			seq_printf(sheet->file, "%s%s", shown++ ? " " : "", vsyn_activity_names[i]);
	seq_puts(sheet->file, sheet->json ? "\"" : "\n");
}

static void vsyn_put_device(struct vsyn_sheet *sheet, struct vsyn_device *vsyn)
{
	const char *refused = READ_ONCE(vsyn->refused_because);
	u64 unreported = vsyn_iommu_collect(vsyn);
	unsigned int i;
	bool running;

	mutex_lock(&vsyn->log.lock);
	unreported += vsyn->log.owed;
	running = vsyn->log.running;
	mutex_unlock(&vsyn->log.lock);

	vsyn_put_text(sheet, "state", vsyn_state_names[READ_ONCE(vsyn->state)]);
	vsyn_put_activity(sheet, READ_ONCE(vsyn->control));
	vsyn_put_bool(sheet, "open", READ_ONCE(vsyn->open));
	vsyn_put_bool(sheet, "log_running", running);
	vsyn_put_number(sheet, "dma_position", READ_ONCE(vsyn->dma_position));
	vsyn_put_number(sheet, "state_position", READ_ONCE(vsyn->content.position));
	for (i = 0; i < VSYN_COUNTERS; i++) {
		vsyn_put_number(sheet, vsyn_counter_names[i], atomic64_read(&vsyn->counters[i]));
		if (i == VSYN_DMA_STOPPED)
			vsyn_put_number(sheet, "dma_unreported", unreported);
	}
	vsyn_put_text(sheet, "refused_because", refused ?: "");
}

static void vsyn_put_group(struct vsyn_sheet *sheet, struct vsyn_group *group)
{
	unsigned int state;

	vsyn_put_number(sheet, "devices", hweight_long(group->members));
	for (state = 0; state < VSYN_STATES; state++) {
		struct vsyn_entry *entry = &group->entered[state];

		if (!entry->entries)
			continue;
		if (!sheet->json) {
			vsyn_key(sheet, vsyn_state_names[state]);
			seq_printf(sheet->file, "%llu entries, skew %llu us, at most %llu us\n",
				   entry->entries, entry->skew_us, entry->max_skew_us);
			continue;
		}
		vsyn_open_object(sheet, vsyn_state_names[state]);
		vsyn_put_number(sheet, "entries", entry->entries);
		vsyn_put_number(sheet, "skew_us", entry->skew_us);
		vsyn_put_number(sheet, "max_skew_us", entry->max_skew_us);
		vsyn_close_object(sheet);
	}
}

static void vsyn_put_all(struct vsyn_sheet *sheet)
{
	struct vsyn_device *vsyn;
	struct vsyn_group *group;

	if (sheet->json) {
		vsyn_open_object(sheet, NULL);
		vsyn_open_object(sheet, "devices");
	}
	down_read(&vsyn_registry);
	list_for_each_entry(vsyn, &vsyn_devices, registered) {
		vsyn_open_object(sheet, vsyn->name);
		vsyn_put_device(sheet, vsyn);
		vsyn_close_object(sheet);
	}
	up_read(&vsyn_registry);
	if (sheet->json) {
		vsyn_close_object(sheet);
		vsyn_open_object(sheet, "groups");
	}
	mutex_lock(&vsyn_groups_lock);
	list_for_each_entry(group, &vsyn_groups, list) {
		if (!sheet->json)
			seq_puts(sheet->file, "group ");
		vsyn_open_object(sheet, group->name);
		vsyn_put_group(sheet, group);
		vsyn_close_object(sheet);
	}
	mutex_unlock(&vsyn_groups_lock);
	if (sheet->json) {
		vsyn_close_object(sheet);
		vsyn_close_object(sheet);
		seq_puts(sheet->file, "\n");
	}
}

/* From zero. */

static void vsyn_zero_device(struct vsyn_device *vsyn)
{
	unsigned int i;

	/* Pages that were not reported so far are forgiven; their dirty bits stay. */
	vsyn_iommu_forgive(vsyn);
	vsyn_log_forgive(vsyn);
	for (i = 0; i < VSYN_COUNTERS; i++)
		atomic64_set(&vsyn->counters[i], 0);
	WRITE_ONCE(vsyn->refused_because, NULL);
}

static void vsyn_zero_all(void)
{
	struct vsyn_device *vsyn;
	struct vsyn_group *group;

	down_read(&vsyn_registry);
	list_for_each_entry(vsyn, &vsyn_devices, registered)
		vsyn_zero_device(vsyn);
	up_read(&vsyn_registry);
	mutex_lock(&vsyn_groups_lock);
	list_for_each_entry(group, &vsyn_groups, list)
		memset(group->entered, 0, sizeof(group->entered));
	mutex_unlock(&vsyn_groups_lock);
}

/* Files. */

static int vsyn_referee_show(struct seq_file *file, void *unused)
{
	struct vsyn_sheet sheet = { .file = file };

	vsyn_put_all(&sheet);
	return 0;
}

static int vsyn_referee_json_show(struct seq_file *file, void *unused)
{
	struct vsyn_sheet sheet = { .file = file, .json = true };

	vsyn_put_all(&sheet);
	return 0;
}

static ssize_t vsyn_referee_write(struct file *file, const char __user *buffer, size_t count,
				  loff_t *pos)
{
	vsyn_zero_all();
	return count;
}

#define vsyn_referee_json_write vsyn_referee_write

static int vsyn_device_referee_show(struct seq_file *file, void *unused)
{
	struct vsyn_device *vsyn = file->private;
	struct vsyn_sheet sheet = { .file = file };

	vsyn_open_object(&sheet, vsyn->name);
	vsyn_put_device(&sheet, vsyn);
	return 0;
}

static int vsyn_device_referee_json_show(struct seq_file *file, void *unused)
{
	struct vsyn_sheet sheet = { .file = file, .json = true };

	vsyn_open_object(&sheet, NULL);
	vsyn_put_device(&sheet, file->private);
	vsyn_close_object(&sheet);
	seq_puts(file, "\n");
	return 0;
}

static ssize_t vsyn_device_referee_write(struct file *file, const char __user *buffer,
					 size_t count, loff_t *pos)
{
	struct seq_file *seq = file->private_data;

	vsyn_zero_device(seq->private);
	return count;
}

#define vsyn_device_referee_json_write vsyn_device_referee_write

#define VSYN_SHEET(_name)								\
static int _name##_open(struct inode *inode, struct file *file)				\
{											\
	return single_open(file, _name##_show, inode->i_private);			\
}											\
static const struct file_operations _name##_fops = {					\
	.owner = THIS_MODULE,								\
	.open = _name##_open,								\
	.read = seq_read,								\
	.write = _name##_write,								\
	.llseek = seq_lseek,								\
	.release = single_release,							\
}

VSYN_SHEET(vsyn_referee);
VSYN_SHEET(vsyn_referee_json);
VSYN_SHEET(vsyn_device_referee);
VSYN_SHEET(vsyn_device_referee_json);

static int vsyn_digest_show(struct seq_file *file, void *unused)
{
	struct vsyn_device *vsyn = file->private;

	seq_printf(file, "%016llx\n", vsyn_content_digest(&vsyn->content));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vsyn_digest);

int vsyn_referee_add(struct vsyn_device *vsyn)
{
	int ret = vsyn_group_join(vsyn);

	if (ret)
		return ret;
	vsyn->debugfs = debugfs_create_dir(vsyn->name, vsyn_debugfs);
	debugfs_create_file("referee", 0644, vsyn->debugfs, vsyn, &vsyn_device_referee_fops);
	debugfs_create_file("referee.json", 0644, vsyn->debugfs, vsyn, &vsyn_device_referee_json_fops);
	debugfs_create_file("digest", 0444, vsyn->debugfs, vsyn, &vsyn_digest_fops);
	return 0;
}

/* Waits for who is reading. */
void vsyn_referee_remove(struct vsyn_device *vsyn)
{
	debugfs_remove(vsyn->debugfs);
	vsyn_group_leave(vsyn);
}

void vsyn_referee_init(void)
{
	vsyn_debugfs = debugfs_create_dir(VSYN_NAME, NULL);
	debugfs_create_file("referee", 0644, vsyn_debugfs, NULL, &vsyn_referee_fops);
	debugfs_create_file("referee.json", 0644, vsyn_debugfs, NULL, &vsyn_referee_json_fops);
}

void vsyn_referee_exit(void)
{
	debugfs_remove(vsyn_debugfs);
}
