// SPDX-License-Identifier: GPL-2.0
/* Saving: what a data descriptor gives in PRE_COPY, PRE_COPY_P2P and STOP_COPY. */
#include <linux/bitmap.h>
#include <linux/math64.h>
#include <linux/poll.h>
#include <linux/uaccess.h>

#include "session.h"

#define VSYN_HEADER_BYTES (sizeof(struct vsyn_record) + sizeof(struct vsyn_header))
#define VSYN_END_BYTES (sizeof(struct vsyn_record) + sizeof(struct vsyn_end))

/* How long the records of n consecutive pages are. */
static u64 vsyn_image_bytes(u64 pages)
{
	return pages * VSYN_PAGE_SIZE +
	       DIV_ROUND_UP_ULL(pages, VSYN_PAGES_PER_RECORD) * sizeof(struct vsyn_record);
}

/* How long the records of the pages between are that are set in a bitmap. */
static u64 vsyn_image_bytes_of(const unsigned long *pages, u64 from, u64 to)
{
	u64 bytes = 0, run, end;

	for (run = find_next_bit(pages, to, from); run < to; run = find_next_bit(pages, to, end)) {
		end = find_next_zero_bit(pages, to, run);
		bytes += vsyn_image_bytes(end - run);
	}
	return bytes;
}

static bool vsyn_nothing_staged(struct vsyn_session *session)
{
	return session->taken == session->filled;
}

/* Adds what the device has rewritten since it was last asked. */
static void vsyn_take_dirty(struct vsyn_session *session)
{
	struct vsyn_content *content = &session->vsyn->content;

	mutex_lock(&content->lock);
	bitmap_or(session->todo, session->todo, content->dirty, content->pages);
	bitmap_zero(content->dirty, content->pages);
	mutex_unlock(&content->lock);
	session->todo_pages = bitmap_weight(session->todo, content->pages);
}

static void *vsyn_record_begin(struct vsyn_session *session, enum vsyn_record_type type,
			       u64 index, u32 length)
{
	struct vsyn_record *record = (void *)session->record;

	*record = (struct vsyn_record){
		.magic = cpu_to_le32(VSYN_IMAGE_MAGIC),
		.type = cpu_to_le32(type),
		.index = cpu_to_le64(index),
		.length = cpu_to_le32(length),
	};
	session->taken = 0;
	session->filled = sizeof(*record) + length;
	return record + 1;
}

static void vsyn_save_header(struct vsyn_session *session)
{
	struct vsyn_settings *settings = session->vsyn->settings;
	struct vsyn_header *header = vsyn_record_begin(session, VSYN_RECORD_HEADER, 0,
						       sizeof(*header));

	*header = (struct vsyn_header){
		.format = cpu_to_le32(VSYN_IMAGE_FORMAT),
		.version = cpu_to_le32(vsyn_get(settings, version)),
		.id = cpu_to_le32(settings->id),
		.state_bytes = cpu_to_le64(settings->state_bytes),
	};
	session->header = *header;
	session->has_header = true;
	session->record_is_initial = true;
}

static void vsyn_save_pages(struct vsyn_session *session)
{
	struct vsyn_content *content = &session->vsyn->content;
	__le64 *words = (void *)(session->record + sizeof(struct vsyn_record));
	u64 first, count = 0;

	first = find_next_bit(session->todo, content->pages, session->cursor);
	if (first >= content->pages)
		first = find_first_bit(session->todo, content->pages);
	while (count < VSYN_PAGES_PER_RECORD && first + count < content->pages &&
	       test_bit(first + count, session->todo)) {
		u64 index = first + count;

		__clear_bit(index, session->todo);
		vsyn_content_read(content, index, words);
		session->hash[index] = vsyn_hash(index, words, VSYN_PAGE_WORDS);
		words += VSYN_PAGE_WORDS;
		count++;
	}
	session->todo_pages -= count;
	session->record_is_initial = session->initial_todo;
	session->initial_todo -= min(session->initial_todo, count);
	session->cursor = first + count;
	vsyn_record_begin(session, VSYN_RECORD_PAGES, first, count * VSYN_PAGE_SIZE);
}

static void vsyn_save_end(struct vsyn_session *session)
{
	struct vsyn_device *vsyn = session->vsyn;
	struct vsyn_end *end = vsyn_record_begin(session, VSYN_RECORD_END, 0, sizeof(*end));
	unsigned int i;

	memset(end, 0, sizeof(*end));
	mutex_lock(&vsyn->flow_mutex);
	end->dma_position = cpu_to_le64(vsyn->dma_position);
	end->dma_seed = cpu_to_le64(vsyn->dma_seed);
	end->incarnation = cpu_to_le64(vsyn->incarnation);
	for (i = 0; i < VSYN_IDS; i++)
		end->sent[i] = cpu_to_le64(vsyn->sent[i]);
	mutex_unlock(&vsyn->flow_mutex);

	spin_lock(&vsyn->rx_lock);
	end->control = cpu_to_le32(vsyn->control);
	memcpy(end->scratch, vsyn->scratch, sizeof(end->scratch));
	for (i = 0; i < VSYN_IDS; i++) {
		end->links[i].known = cpu_to_le64(vsyn->links[i].known);
		end->links[i].incarnation = cpu_to_le64(vsyn->links[i].incarnation);
		end->links[i].last = cpu_to_le64(vsyn->links[i].last);
		end->links[i].received = cpu_to_le64(vsyn->links[i].received);
	}
	spin_unlock(&vsyn->rx_lock);

	mutex_lock(&vsyn->content.lock);
	end->state_seed = cpu_to_le64(vsyn->content.seed);
	end->state_position = cpu_to_le64(vsyn->content.position);
	mutex_unlock(&vsyn->content.lock);
	end->digest = cpu_to_le64(vsyn_session_digest(session, end));
	session->has_end = true;
	session->record_is_initial = false;
}

/* Puts the next record together; false where there is nothing to send now. */
static bool vsyn_save_next(struct vsyn_session *session)
{
	struct vsyn_device *vsyn = session->vsyn;

	if (!session->has_header) {
		vsyn_save_header(session);
		return true;
	}
	if (!session->todo_pages && !session->final &&
	    vsyn_get(vsyn->settings, pre_copy_new) == VSYN_NEW_READ)
		vsyn_take_dirty(session);
	if (session->todo_pages)
		vsyn_save_pages(session);
	else if (session->final && !session->has_end)
		vsyn_save_end(session);
	else
		return false;
	return true;
}

static ssize_t vsyn_session_read(struct file *file, char __user *buffer, size_t length, loff_t *pos)
{
	struct vsyn_session *session = file->private_data;
	ssize_t done = 0;

	if (pos)
		return -ESPIPE;
	mutex_lock(&session->lock);
	while (length) {
		size_t portion;

		if (session->ended) {
			done = -ENODEV;
			break;
		}
		if (!vsyn_session_before_failure(session, length)) {
			done = done ?: -session->fail.error;
			break;
		}
		if (vsyn_nothing_staged(session) && !vsyn_save_next(session)) {
			session->asked = false;
			if (!done && !session->final &&
			    vsyn_get(session->vsyn->settings, pre_copy_end) == VSYN_END_ENOMSG)
				done = -ENOMSG;
			break;
		}
		portion = vsyn_session_before_failure(session, min(length, session->filled - session->taken));
		if (copy_to_user(buffer, session->record + session->taken, portion)) {
			done = done ?: -EFAULT;
			break;
		}
		session->taken += portion;
		session->bytes += portion;
		buffer += portion;
		length -= portion;
		done += portion;
		if (signal_pending(current))
			break;
		cond_resched();
	}
	mutex_unlock(&session->lock);
	return done;
}

static void vsyn_precopy_bytes(struct vsyn_session *session, u64 *initial, u64 *dirty)
{
	u64 staged = session->filled - session->taken;
	u64 pages = session->vsyn->content.pages, all;

	/* In the order in which they will be sent: to the end, and around. */
	all = vsyn_image_bytes_of(session->todo, session->cursor, pages) +
	      vsyn_image_bytes_of(session->todo, 0, session->cursor);
	*initial = min(all, vsyn_image_bytes(session->initial_todo));
	*dirty = all - *initial;
	if (!session->has_header)
		*initial += VSYN_HEADER_BYTES;
	else if (session->record_is_initial)
		*initial += staged;
	else
		*dirty += staged;
}

static long vsyn_session_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct vsyn_session *session = file->private_data;
	struct vsyn_device *vsyn = session->vsyn;
	size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct vfio_precopy_info info = {};
	long ret = 0;

	if (command != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)argument, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;

	mutex_lock(&vsyn->state_mutex);
	mutex_lock(&session->lock);
	if (session->ended) {
		ret = -ENODEV;
	} else if (!vsyn_state_is_pre_copy(vsyn->state)) {
		ret = -EINVAL;
	} else {
		info.flags = 0;
		/* As mlx5, which can't save a function that is suspended. */
		if (vsyn->state == VFIO_DEVICE_STATE_PRE_COPY ||
		    vsyn_get(vsyn->settings, pre_copy_new) == VSYN_NEW_READ)
			vsyn_take_dirty(session);
		if (session->initial_again && vsyn_wants_reinit(&vsyn->vdev)) {
			info.flags |= VSYN_PRECOPY_INFO_REINIT;
			session->initial_again = false;
		}
		vsyn_precopy_bytes(session, &info.initial_bytes, &info.dirty_bytes);
		session->asked = true;
	}
	mutex_unlock(&session->lock);
	vsyn_state_unlock(vsyn);
	if (ret)
		return ret;
	wake_up_interruptible(&session->readable);
	return copy_to_user((void __user *)argument, &info, minsz) ? -EFAULT : 0;
}

static __poll_t vsyn_session_poll(struct file *file, struct poll_table_struct *table)
{
	struct vsyn_session *session = file->private_data;
	__poll_t events = 0;

	poll_wait(file, &session->readable, table);
	mutex_lock(&session->lock);
	if (session->ended)
		events = EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
	else if (session->final ||
		 (session->asked && (session->todo_pages || !session->has_header ||
				     !vsyn_nothing_staged(session))))
		events = EPOLLIN | EPOLLRDNORM;
	mutex_unlock(&session->lock);
	return events;
}

const struct file_operations vsyn_save_fops = {
	.owner = THIS_MODULE,
	.read = vsyn_session_read,
	.unlocked_ioctl = vsyn_session_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = vsyn_session_release,
};

const struct file_operations vsyn_save_poll_fops = {
	.owner = THIS_MODULE,
	.read = vsyn_session_read,
	.unlocked_ioctl = vsyn_session_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = vsyn_session_poll,
	.release = vsyn_session_release,
};

/* STOP_COPY: what changed last is to be sent, and the end. */
void vsyn_session_finish(struct vsyn_session *session)
{
	mutex_lock(&session->lock);
	vsyn_take_dirty(session);
	session->final = true;
	mutex_unlock(&session->lock);
	wake_up_interruptible(&session->readable);
}

/* New initial data: everything is sent again. */
void vsyn_session_reinit(struct vsyn_session *session)
{
	u64 pages = session->vsyn->content.pages;

	mutex_lock(&session->lock);
	bitmap_fill(session->todo, pages);
	session->todo_pages = pages;
	session->cursor = 0;
	if (vsyn_wants_reinit(&session->vsyn->vdev)) {
		session->initial_todo = vsyn_session_initial_pages(session->vsyn);
		session->initial_again = true;
	}
	mutex_unlock(&session->lock);
}

/* What STOP_COPY would have to move, asked now. */
u64 vsyn_image_bytes_left(struct vsyn_device *vsyn)
{
	struct vsyn_session *session = vsyn->saving;
	u64 initial, dirty;

	if (!session)
		return VSYN_HEADER_BYTES + vsyn_image_bytes(vsyn->content.pages) + VSYN_END_BYTES;
	mutex_lock(&session->lock);
	vsyn_precopy_bytes(session, &initial, &dirty);
	mutex_lock(&vsyn->content.lock);
	dirty += vsyn_image_bytes_of(vsyn->content.dirty, 0, vsyn->content.pages);
	mutex_unlock(&vsyn->content.lock);
	if (!session->has_end)
		dirty += VSYN_END_BYTES;
	mutex_unlock(&session->lock);
	return initial + dirty;
}
