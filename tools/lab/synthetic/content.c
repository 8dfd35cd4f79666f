// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that makes up a device's state. A page is made from the seed when it is
 * asked for, and takes memory only once it was rewritten or loaded, so fresh devices of
 * many gigabytes cost little and are reset at once.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "synthetic.h"

int vsyn_content_init(struct vsyn_content *content, u64 bytes, u64 seed)
{
	mutex_init(&content->lock);
	content->pages = bytes >> VSYN_PAGE_SHIFT;
	content->seed = seed;
	content->page = kvcalloc(content->pages, sizeof(*content->page), GFP_KERNEL);
	content->dirty = kvcalloc(BITS_TO_LONGS(content->pages), sizeof(long), GFP_KERNEL);
	/* What was made is freed by vsyn_content_free(), which copes with either missing. */
	return content->page && content->dirty ? 0 : -ENOMEM;
}

static void vsyn_content_drop(struct vsyn_content *content)
{
	u64 i;

	for (i = 0; i < content->pages; i++) {
		if (content->page[i]) {
			free_page((unsigned long)content->page[i]);
			content->page[i] = NULL;
		}
		if (!(i % SZ_64K))
			cond_resched();
	}
}

void vsyn_content_free(struct vsyn_content *content)
{
	if (content->page)
		vsyn_content_drop(content);
	kvfree(content->page);
	kvfree(content->dirty);
}

/* Fresh content, made from a seed. */
void vsyn_content_reset(struct vsyn_content *content, u64 seed)
{
	mutex_lock(&content->lock);
	vsyn_content_drop(content);
	bitmap_zero(content->dirty, content->pages);
	content->seed = seed;
	content->position = 0;
	mutex_unlock(&content->lock);
}

/* Copies a page as it is now. */
static void vsyn_content_copy(struct vsyn_content *content, u64 index, __le64 *words)
{
	lockdep_assert_held(&content->lock);
	if (content->page[index])
		memcpy(words, content->page[index], VSYN_PAGE_SIZE);
	else
		vsyn_fill_page(vsyn_mix(vsyn_mix(content->seed ^ index)), words);
}

void vsyn_content_read(struct vsyn_content *content, u64 index, __le64 *words)
{
	mutex_lock(&content->lock);
	vsyn_content_copy(content, index, words);
	mutex_unlock(&content->lock);
}

static void *vsyn_content_page(struct vsyn_content *content, u64 index, gfp_t gfp)
{
	lockdep_assert_held(&content->lock);
	if (!content->page[index])
		content->page[index] = (void *)__get_free_page(gfp);
	return content->page[index];
}

/* Charged to who loads it, as drivers charge their buffers. */
int vsyn_content_write(struct vsyn_content *content, u64 index, const __le64 *words)
{
	void *page;

	mutex_lock(&content->lock);
	page = vsyn_content_page(content, index, GFP_KERNEL_ACCOUNT);
	if (page)
		memcpy(page, words, VSYN_PAGE_SIZE);
	mutex_unlock(&content->lock);
	return page ? 0 : -ENOMEM;
}

/* What the running device does to its own state: the next rewriting. */
int vsyn_content_rewrite_next(struct vsyn_content *content)
{
	u64 n, index;
	void *page;

	mutex_lock(&content->lock);
	n = content->position + 1;
	index = vsyn_mix(content->seed + n) % content->pages;
	page = vsyn_content_page(content, index, GFP_KERNEL);
	if (page) {
		vsyn_fill_page(vsyn_mix(vsyn_mix(content->seed ^ index) + n), page);
		__set_bit(index, content->dirty);
		content->position = n;
	}
	mutex_unlock(&content->lock);
	return page ? 0 : -ENOMEM;
}

u64 vsyn_hash(u64 key, const __le64 *words, unsigned int count)
{
	u64 a = vsyn_mix(key + 1);
	unsigned int k;

	for (k = 0; k < count; k++) {
		a = (a ^ le64_to_cpu(words[k])) * 0x9e3779b97f4a7c15ULL;
		a ^= a >> 32;
	}
	return a;
}

/* Of the memory as it is; while it is being rewritten no moment's digest in particular. */
u64 vsyn_content_digest(struct vsyn_content *content)
{
	__le64 *words = (__le64 *)__get_free_page(GFP_KERNEL);
	u64 i, sum = 0;

	if (!words)
		return 0;
	for (i = 0; i < content->pages; i++) {
		vsyn_content_read(content, i, words);
		sum += vsyn_hash(i, words, VSYN_PAGE_WORDS);
		cond_resched();
	}
	free_page((unsigned long)words);
	return sum;
}
