// SPDX-License-Identifier: GPL-2.0
/* Data descriptors: what saving and loading share, and their life. */
#include <linux/anon_inodes.h>
#include <linux/bitmap.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "session.h"

u64 vsyn_session_digest(struct vsyn_session *session, const struct vsyn_end *end)
{
	u64 pages = session->vsyn->content.pages, sum, i;

	sum = vsyn_hash(pages, (const __le64 *)&session->header, sizeof(session->header) / 8) +
	      vsyn_hash(pages + 1, (const __le64 *)end, offsetof(struct vsyn_end, digest) / 8);
	for (i = 0; i < pages; i++)
		sum += session->hash[i];
	return sum;
}

u64 vsyn_session_initial_pages(struct vsyn_device *vsyn)
{
	u64 bytes = vsyn_get(vsyn->settings, initial_bytes);

	return DIV_ROUND_UP_ULL(min(bytes, vsyn->settings->state_bytes), VSYN_PAGE_SIZE);
}

/* How much of a portion goes through before the descriptor is to fail; 0 if it fails now. */
size_t vsyn_session_before_failure(struct vsyn_session *session, size_t length)
{
	return min_t(u64, length, session->fail.bytes - session->bytes);
}

static void vsyn_session_free(struct kref *kref)
{
	struct vsyn_session *session = container_of(kref, struct vsyn_session, kref);

	kvfree(session->record);
	kvfree(session->todo);
	kvfree(session->hash);
	put_device(&session->vsyn->vdev.device);
	kfree(session);
}

int vsyn_session_release(struct inode *inode, struct file *file)
{
	struct vsyn_session *session = file->private_data;

	kref_put(&session->kref, vsyn_session_free);
	return 0;
}

/* A session that the device holds, and its file, which is the caller's. */
struct vsyn_session *vsyn_session_open(struct vsyn_device *vsyn, bool saving, struct file **file)
{
	struct vsyn_settings *settings = vsyn->settings;
	struct vsyn_content *content = &vsyn->content;
	struct vsyn_session *session = kzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT);
	const struct file_operations *fops;

	if (!session)
		return ERR_PTR(-ENOMEM);
	kref_init(&session->kref);
	mutex_init(&session->lock);
	init_waitqueue_head(&session->readable);
	get_device(&vsyn->vdev.device);
	session->vsyn = vsyn;
	session->record = kvzalloc(sizeof(struct vsyn_record) + VSYN_RECORD_MAX, GFP_KERNEL_ACCOUNT);
	session->todo = kvcalloc(BITS_TO_LONGS(content->pages), sizeof(long), GFP_KERNEL_ACCOUNT);
	session->hash = kvcalloc(content->pages, sizeof(u64), GFP_KERNEL_ACCOUNT);
	if (!session->record || !session->todo || !session->hash)
		goto no_memory;

	bitmap_fill(session->todo, content->pages);
	session->todo_pages = content->pages;
	session->initial_todo = vsyn_session_initial_pages(vsyn);
	session->fail.bytes = U64_MAX;
	if (saving) {
		mutex_lock(&content->lock);
		bitmap_zero(content->dirty, content->pages);
		mutex_unlock(&content->lock);
	}

	fops = !saving ? &vsyn_load_fops :
	       vsyn_get(settings, poll) == VSYN_POLL_ASKED ? &vsyn_save_poll_fops : &vsyn_save_fops;
	*file = anon_inode_getfile(VSYN_NAME, fops, session, saving ? O_RDONLY : O_WRONLY);
	if (IS_ERR(*file)) {
		kref_put(&session->kref, vsyn_session_free);
		return ERR_CAST(*file);
	}
	kref_get(&session->kref);
	stream_open((*file)->f_inode, *file);
	mutex_lock(&settings->lock);
	if (settings->data_fail.bytes != U64_MAX && settings->data_fail.write == !saving) {
		session->fail = settings->data_fail;
		settings->data_fail.bytes = U64_MAX;
	}
	mutex_unlock(&settings->lock);
	return session;

no_memory:
	kref_put(&session->kref, vsyn_session_free);
	return ERR_PTR(-ENOMEM);
}

/* The device lets go: the descriptor answers ENODEV from now on. */
void vsyn_session_end(struct vsyn_session *session)
{
	mutex_lock(&session->lock);
	session->ended = true;
	mutex_unlock(&session->lock);
	wake_up_interruptible(&session->readable);
	kref_put(&session->kref, vsyn_session_free);
}
