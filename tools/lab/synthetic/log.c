// SPDX-License-Identifier: GPL-2.0
/* The device's own log of the pages that its DMA wrote (VFIO_DEVICE_FEATURE_DMA_LOGGING_*). */
#include <linux/bitmap.h>
#include <linux/interval_tree.h>
#include <linux/iova_bitmap.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "synthetic.h"

/* Pages of the log, not of the CPU: 128 MiB of addresses at 4 KiB each. */
#define VSYN_CHUNK_SHIFT	15
#define VSYN_CHUNK_PAGES	BIT(VSYN_CHUNK_SHIFT)

struct vsyn_chunk {
	DECLARE_BITMAP(dirty, VSYN_CHUNK_PAGES);
	/* The referee's: written, and not reported since. */
	DECLARE_BITMAP(owed, VSYN_CHUNK_PAGES);
};

void vsyn_log_init(struct vsyn_log *log)
{
	mutex_init(&log->lock);
	xa_init(&log->chunks);
}

static bool vsyn_log_covers(struct vsyn_log *log, u64 iova)
{
	unsigned int i;

	for (i = 0; i < log->nr_ranges; i++)
		if (iova - log->ranges[i].start < log->ranges[i].length)
			return true;
	return false;
}

static struct vsyn_chunk *vsyn_log_chunk(struct vsyn_log *log, u64 page)
{
	unsigned long index = page >> VSYN_CHUNK_SHIFT;
	struct vsyn_chunk *chunk = xa_load(&log->chunks, index);

	lockdep_assert_held(&log->lock);
	if (!chunk) {
		chunk = kvzalloc(sizeof(*chunk), GFP_KERNEL);
		if (chunk && xa_err(xa_store(&log->chunks, index, chunk, GFP_KERNEL))) {
			kvfree(chunk);
			chunk = NULL;
		}
	}
	return chunk;
}

/* A page was written. With "hide" only the referee learns of it. */
void vsyn_log_record(struct vsyn_device *vsyn, u64 iova, bool hide)
{
	struct vsyn_log *log = &vsyn->log;
	struct vsyn_chunk *chunk;
	u64 page;

	mutex_lock(&log->lock);
	if (log->running && vsyn_log_covers(log, iova)) {
		page = iova >> log->page_shift;
		chunk = vsyn_log_chunk(log, page);
		/* Out of memory, the page stays owed for good: the referee sees it. */
		if (!chunk || !__test_and_set_bit(page % VSYN_CHUNK_PAGES, chunk->owed))
			log->owed++;
		if (chunk && !hide)
			__set_bit(page % VSYN_CHUNK_PAGES, chunk->dirty);
	}
	mutex_unlock(&log->lock);
}

/* Sets the bits of the log's pages from first to last, all of them in one of its ranges. */
static int vsyn_log_set_run(struct vsyn_log *log, u64 first, u64 last)
{
	u64 page = first >> log->page_shift, end = (last >> log->page_shift) + 1;
	unsigned int i;

	for (i = 0; i < log->nr_ranges; i++)
		if (first - log->ranges[i].start < log->ranges[i].length &&
		    last - log->ranges[i].start < log->ranges[i].length)
			break;
	if (i == log->nr_ranges)
		return -ERANGE;
	while (page < end) {
		u64 pages = min(end - page, VSYN_CHUNK_PAGES - page % VSYN_CHUNK_PAGES);
		struct vsyn_chunk *chunk = vsyn_log_chunk(log, page);

		if (!chunk)
			return -ENOMEM;
		bitmap_set(chunk->dirty, page % VSYN_CHUNK_PAGES, pages);
		page += pages;
		cond_resched();
	}
	return 0;
}

/* A test's hand: count runs of length bytes, stride bytes apart. */
int vsyn_log_set(struct vsyn_device *vsyn, u64 iova, u64 length, u64 stride, u64 count)
{
	struct vsyn_log *log = &vsyn->log;
	u64 i, span, end;
	int ret = 0;

	if (!length || !count || (count > 1 && !stride) ||
	    check_mul_overflow(stride, count - 1, &span) ||
	    check_add_overflow(iova, span, &end) || check_add_overflow(end, length - 1, &end))
		return -EINVAL;
	mutex_lock(&log->lock);
	if (!log->running)
		ret = -ENODEV;
	for (i = 0; !ret && i < count; i++, iova += stride) {
		ret = vsyn_log_set_run(log, iova, iova + length - 1);
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
	}
	mutex_unlock(&log->lock);
	return ret;
}

static int vsyn_log_fails(struct vsyn_device *vsyn, enum vsyn_log_operation operation)
{
	struct vsyn_settings *settings = vsyn->settings;
	struct vsyn_rule *rule;
	int error;

	mutex_lock(&settings->lock);
	rule = vsyn_rule_applies(settings->log_fail, operation, 0);
	error = rule ? -rule->error : 0;
	mutex_unlock(&settings->lock);
	return error;
}

static void vsyn_log_free(struct vsyn_log *log)
{
	struct vsyn_chunk *chunk;
	unsigned long index;

	lockdep_assert_held(&log->lock);
	xa_for_each(&log->chunks, index, chunk) {
		kvfree(chunk);
		cond_resched();
	}
	xa_destroy(&log->chunks);
	kvfree(log->ranges);
	log->ranges = NULL;
	log->nr_ranges = 0;
	log->running = false;
}

static int vsyn_log_check_limits(struct vsyn_settings *settings, struct rb_root_cached *ranges)
{
	struct interval_tree_node *node;
	struct vsyn_range limits;

	mutex_lock(&settings->lock);
	limits = settings->log_limits;
	mutex_unlock(&settings->lock);
	if (!limits.length)
		return 0;
	for (node = interval_tree_iter_first(ranges, 0, ULONG_MAX); node;
	     node = interval_tree_iter_next(node, 0, ULONG_MAX))
		if (node->start < limits.start || node->last - limits.start >= limits.length)
			return -ERANGE;
	return 0;
}

static int vsyn_log_start(struct vfio_device *vdev, struct rb_root_cached *ranges, u32 count,
			  u64 *page_size)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);
	struct vsyn_settings *settings = vsyn->settings;
	u64 most = vsyn_get(settings, log_max_ranges);
	struct vsyn_log *log = &vsyn->log;
	struct interval_tree_node *node;
	u64 size;
	int ret;

	if (*page_size && !is_power_of_2(*page_size))
		return -EINVAL;
	ret = vsyn_log_fails(vsyn, VSYN_LOG_START);
	if (!ret)
		ret = vsyn_log_check_limits(settings, ranges);
	if (ret)
		return ret;
	if (count > most) {
		if (vsyn_get(settings, log_too_many) == VSYN_REFUSE)
			return -E2BIG;
		vfio_combine_iova_ranges(ranges, count, most);
		count = most;
	}
	/* As mlx5 does; the largest is the one that "log_page_size" may be, too. */
	size = clamp_t(u64, *page_size, vsyn_get(settings, log_page_size), SZ_1G);

	mutex_lock(&log->lock);
	if (log->running) {
		ret = -EINVAL;
		goto unlock;
	}
	log->ranges = kvcalloc(count, sizeof(*log->ranges), GFP_KERNEL_ACCOUNT);
	if (!log->ranges) {
		ret = -ENOMEM;
		goto unlock;
	}
	for (node = interval_tree_iter_first(ranges, 0, ULONG_MAX); node && log->nr_ranges < count;
	     node = interval_tree_iter_next(node, 0, ULONG_MAX))
		log->ranges[log->nr_ranges++] = (struct vsyn_range){
			.start = node->start,
			.length = node->last - node->start + 1,
		};
	log->page_shift = ilog2(size);
	log->owed = 0;
	log->running = true;
	*page_size = size;
unlock:
	mutex_unlock(&log->lock);
	return ret;
}

static int vsyn_log_stop(struct vfio_device *vdev)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);
	int ret = vsyn_log_fails(vsyn, VSYN_LOG_STOP);

	if (!ret)
		vsyn_log_end(vsyn);
	return ret;
}

/* What is owed stays for the referee to show, until the log is started anew. */
void vsyn_log_end(struct vsyn_device *vsyn)
{
	mutex_lock(&vsyn->log.lock);
	vsyn_log_free(&vsyn->log);
	mutex_unlock(&vsyn->log.lock);
}

/* The referee starts from zero; what is dirty stays so. */
void vsyn_log_forgive(struct vsyn_device *vsyn)
{
	struct vsyn_log *log = &vsyn->log;
	struct vsyn_chunk *chunk;
	unsigned long index;

	mutex_lock(&log->lock);
	xa_for_each(&log->chunks, index, chunk) {
		bitmap_zero(chunk->owed, VSYN_CHUNK_PAGES);
		cond_resched();
	}
	log->owed = 0;
	mutex_unlock(&log->lock);
}

/* Reports a run of dirty pages as far as it lies in [iova, last], and forgets those that are told whole. */
static void vsyn_log_report_run(struct vsyn_log *log, struct vsyn_chunk *chunk, u64 base,
				unsigned long first, unsigned long end, u64 iova, u64 last,
				struct iova_bitmap *bitmap)
{
	u64 run_start = max((base + first) << log->page_shift, iova);
	u64 run_last = min(((base + end) << log->page_shift) - 1, last);
	unsigned long bit;

	iova_bitmap_set(bitmap, run_start, run_last - run_start + 1);
	for (bit = first; bit < end; bit++) {
		u64 start = (base + bit) << log->page_shift;
		u64 page_last = start + (1ULL << log->page_shift) - 1;

		/* What of the page can still be asked for is still to be told. */
		if ((start < iova && vsyn_log_covers(log, iova - 1)) ||
		    (page_last > last && vsyn_log_covers(log, last + 1)))
			continue;
		__clear_bit(bit, chunk->dirty);
		if (__test_and_clear_bit(bit, chunk->owed))
			log->owed--;
	}
}

static int vsyn_log_report(struct vfio_device *vdev, unsigned long iova, unsigned long length,
			   struct iova_bitmap *bitmap)
{
	struct vsyn_device *vsyn = to_vsyn(vdev);
	struct vsyn_log *log = &vsyn->log;
	u64 last = iova + length - 1;
	struct vsyn_chunk *chunk;
	unsigned long index;
	int ret = vsyn_log_fails(vsyn, VSYN_LOG_REPORT);

	if (ret)
		return ret;
	mutex_lock(&log->lock);
	if (!log->running) {
		ret = -EINVAL;
		goto unlock;
	}
	xa_for_each_range(&log->chunks, index, chunk,
			  iova >> (log->page_shift + VSYN_CHUNK_SHIFT),
			  last >> (log->page_shift + VSYN_CHUNK_SHIFT)) {
		u64 base = (u64)index << VSYN_CHUNK_SHIFT;
		u64 from = iova >> log->page_shift, to = last >> log->page_shift;
		unsigned long first = from > base ? from - base : 0;
		unsigned long end = min_t(u64, to - base + 1, VSYN_CHUNK_PAGES);

		for (;;) {
			unsigned long run = find_next_bit(chunk->dirty, end, first);

			if (run >= end)
				break;
			first = find_next_zero_bit(chunk->dirty, end, run);
			vsyn_log_report_run(log, chunk, base, run, first, iova, last, bitmap);
		}
		cond_resched();
	}
unlock:
	mutex_unlock(&log->lock);
	return ret;
}

const struct vfio_log_ops vsyn_log_ops = {
	.log_start = vsyn_log_start,
	.log_stop = vsyn_log_stop,
	.log_read_and_clear = vsyn_log_report,
};
