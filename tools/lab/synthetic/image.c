// SPDX-License-Identifier: GPL-2.0
/*
 * Data descriptors, and the device's image that goes through them: a header, pages of
 * the state in any order and as often as they change, and an end with the registers and
 * a digest. Each is a record of its own, put together and taken apart in one buffer, so
 * it does not matter in which portions a descriptor is read and written.
 */
#include <linux/anon_inodes.h>
#include <linux/bitmap.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "synthetic.h"

#define VSYN_IMAGE_MAGIC	0x4d495356	/* "VSIM" */
#define VSYN_IMAGE_FORMAT	1
#define VSYN_RECORD_PAGES	16

enum vsyn_record_type { VSYN_RECORD_HEADER = 1, VSYN_RECORD_PAGES_OF, VSYN_RECORD_END };

struct vsyn_record {
	__le32 magic;
	__le32 type;
	__le64 index;		/* of the first page */
	__le32 length;		/* of what follows, in bytes */
	__le32 reserved;
};

struct vsyn_header {
	__le32 format;
	__le32 version;
	__le32 id;
	__le32 reserved;
	__le64 state_bytes;
};

struct vsyn_link_image {
	__le64 known, incarnation, last, received;
};

struct vsyn_end {
	__le32 control;
	__le32 reserved;
	u8 scratch[VSYN_SCRATCH_BYTES];
	__le64 dma_position, dma_seed;
	__le64 state_seed, state_position;
	__le64 incarnation;
	__le64 sent[VSYN_IDS];
	struct vsyn_link_image links[VSYN_IDS];
	__le64 digest;
};

#define VSYN_RECORD_MAX (VSYN_RECORD_PAGES * VSYN_PAGE_SIZE)
static_assert(sizeof(struct vsyn_end) <= VSYN_RECORD_MAX);

struct vsyn_session {
	struct kref kref;		/* the device's and the descriptor's */
	struct vsyn_device *vsyn;	/* with a reference */
	struct file *file;
	bool saving;

	struct mutex lock;
	bool ended;
	bool final;			/* STOP_COPY: nothing changes any more */
	u8 *record;			/* the one under way */
	size_t filled, taken;
	bool record_is_initial;
	bool has_header, has_end;
	struct vsyn_header header;	/* as it was loaded */
	unsigned long *todo;		/* saving: to be sent; loading: not seen yet */
	u64 todo_pages, initial_todo, cursor;
	u64 *hash;			/* of each page as it was last sent or loaded */

	u64 bytes;			/* through the descriptor so far */
	struct vsyn_data_fail fail;
	wait_queue_head_t readable;
	bool asked;			/* for the pre-copy info, since the last temporary end */
	bool initial_again;		/* VFIO_PRECOPY_INFO_REINIT is due */
};

static void vsyn_session_free(struct kref *kref)
{
	struct vsyn_session *session = container_of(kref, struct vsyn_session, kref);

	kvfree(session->record);
	kvfree(session->todo);
	kvfree(session->hash);
	put_device(&session->vsyn->vdev.device);
	kfree(session);
}

static bool vsyn_nothing_staged(struct vsyn_session *session)
{
	return session->taken == session->filled;
}

static u64 vsyn_image_bytes(u64 pages)
{
	return pages * VSYN_PAGE_SIZE +
	       DIV_ROUND_UP_ULL(pages, VSYN_RECORD_PAGES) * sizeof(struct vsyn_record);
}

#define VSYN_HEADER_BYTES (sizeof(struct vsyn_record) + sizeof(struct vsyn_header))
#define VSYN_END_BYTES (sizeof(struct vsyn_record) + sizeof(struct vsyn_end))

/* Saving. */

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
	while (count < VSYN_RECORD_PAGES && first + count < content->pages &&
	       test_bit(first + count, session->todo)) {
		u64 index = first + count;

		__clear_bit(index, session->todo);
		vsyn_content_read(content, index, words);
		session->hash[index] = vsyn_page_hash(index, words);
		words += VSYN_PAGE_WORDS;
		count++;
	}
	session->todo_pages -= count;
	session->record_is_initial = session->initial_todo;
	session->initial_todo -= min(session->initial_todo, count);
	session->cursor = first + count;
	vsyn_record_begin(session, VSYN_RECORD_PAGES_OF, first, count * VSYN_PAGE_SIZE);
}

static u64 vsyn_session_digest(struct vsyn_session *session)
{
	u64 i, sum = 0;

	for (i = 0; i < session->vsyn->content.pages; i++)
		sum += session->hash[i];
	return sum;
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
	end->digest = cpu_to_le64(vsyn_session_digest(session));
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

/* How much of a portion goes through before the descriptor is to fail; 0 if it fails now. */
static size_t vsyn_before_failure(struct vsyn_session *session, size_t length)
{
	return min_t(u64, length, session->fail.bytes - session->bytes);
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
		if (!vsyn_before_failure(session, length)) {
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
		portion = vsyn_before_failure(session, min(length, session->filled - session->taken));
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
	u64 all = vsyn_image_bytes(session->todo_pages);

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
	else if (session->final || session->asked)
		events = EPOLLIN | EPOLLRDNORM;
	mutex_unlock(&session->lock);
	return events;
}

/* Loading. */

static int vsyn_load_pages(struct vsyn_session *session, u64 first, u32 length)
{
	struct vsyn_content *content = &session->vsyn->content;
	const __le64 *words = (void *)(session->record + sizeof(struct vsyn_record));
	u64 i, count = length >> VSYN_PAGE_SHIFT;
	int ret;

	if (length % VSYN_PAGE_SIZE || first >= content->pages || count > content->pages - first)
		return -EINVAL;
	for (i = first; i < first + count; i++, words += VSYN_PAGE_WORDS) {
		ret = vsyn_content_write(content, i, words);
		if (ret)
			return ret;
		session->hash[i] = vsyn_page_hash(i, words);
		if (__test_and_clear_bit(i, session->todo))
			session->todo_pages--;
	}
	return 0;
}

static int vsyn_load_record(struct vsyn_session *session)
{
	const struct vsyn_record *record = (void *)session->record;
	u32 length = le32_to_cpu(record->length);

	switch (le32_to_cpu(record->type)) {
	case VSYN_RECORD_HEADER:
		if (session->has_header || length != sizeof(session->header))
			return -EINVAL;
		memcpy(&session->header, record + 1, sizeof(session->header));
		session->has_header = true;
		return 0;
	case VSYN_RECORD_PAGES_OF:
		return vsyn_load_pages(session, le64_to_cpu(record->index), length);
	case VSYN_RECORD_END:
		/* Its registers stay where they are until RESUMING is left. */
		if (length != sizeof(struct vsyn_end))
			return -EINVAL;
		session->has_end = true;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/* How many bytes the record under way still wants, once its head is there; or an error. */
static ssize_t vsyn_load_wants(struct vsyn_session *session)
{
	const struct vsyn_record *record = (void *)session->record;

	if (session->filled < sizeof(*record))
		return sizeof(*record) - session->filled;
	if (le32_to_cpu(record->magic) != VSYN_IMAGE_MAGIC ||
	    le32_to_cpu(record->length) > VSYN_RECORD_MAX)
		return -EINVAL;
	return sizeof(*record) + le32_to_cpu(record->length) - session->filled;
}

static ssize_t vsyn_session_write(struct file *file, const char __user *buffer, size_t length,
				  loff_t *pos)
{
	struct vsyn_session *session = file->private_data;
	ssize_t done = 0, wants;
	int ret;

	if (pos)
		return -ESPIPE;
	mutex_lock(&session->lock);
	while (length) {
		size_t portion;

		ret = session->ended ? -ENODEV :
		      session->has_end ? -EINVAL :
		      !vsyn_before_failure(session, length) ? -session->fail.error : 0;
		wants = ret ?: vsyn_load_wants(session);
		if (wants < 0) {
			done = ret && done ? done : wants;
			break;
		}
		portion = vsyn_before_failure(session, min_t(size_t, length, wants));
		if (copy_from_user(session->record + session->filled, buffer, portion)) {
			done = done ?: -EFAULT;
			break;
		}
		session->filled += portion;
		session->bytes += portion;
		buffer += portion;
		length -= portion;
		done += portion;
		if (session->filled >= sizeof(struct vsyn_record) && !vsyn_load_wants(session)) {
			ret = vsyn_load_record(session);
			if (ret) {
				done = ret;
				break;
			}
			if (!session->has_end)
				session->filled = 0;
		}
		cond_resched();
	}
	mutex_unlock(&session->lock);
	return done;
}

static void vsyn_load_registers(struct vsyn_session *session)
{
	const struct vsyn_end *end = (void *)(session->record + sizeof(struct vsyn_record));
	struct vsyn_device *vsyn = session->vsyn;
	unsigned int i;

	mutex_lock(&vsyn->flow_mutex);
	vsyn->dma_position = le64_to_cpu(end->dma_position);
	vsyn->dma_seed = le64_to_cpu(end->dma_seed);
	vsyn->incarnation = le64_to_cpu(end->incarnation);
	for (i = 0; i < VSYN_IDS; i++)
		vsyn->sent[i] = le64_to_cpu(end->sent[i]);
	mutex_unlock(&vsyn->flow_mutex);

	spin_lock(&vsyn->rx_lock);
	vsyn->control = le32_to_cpu(end->control);
	memcpy(vsyn->scratch, end->scratch, sizeof(vsyn->scratch));
	for (i = 0; i < VSYN_IDS; i++) {
		vsyn->links[i].known = le64_to_cpu(end->links[i].known);
		vsyn->links[i].incarnation = le64_to_cpu(end->links[i].incarnation);
		vsyn->links[i].last = le64_to_cpu(end->links[i].last);
		vsyn->links[i].received = le64_to_cpu(end->links[i].received);
	}
	spin_unlock(&vsyn->rx_lock);

	mutex_lock(&vsyn->content.lock);
	vsyn->content.seed = le64_to_cpu(end->state_seed);
	vsyn->content.position = le64_to_cpu(end->state_position);
	mutex_unlock(&vsyn->content.lock);
}

/* Why what was loaded can't be taken, or NULL. */
static const char *vsyn_load_refusal(struct vsyn_session *session)
{
	const struct vsyn_header *header = &session->header;
	const struct vsyn_end *end = (void *)(session->record + sizeof(struct vsyn_record));
	struct vsyn_settings *settings = session->vsyn->settings;

	if (session->has_header) {
		if (le32_to_cpu(header->format) != VSYN_IMAGE_FORMAT ||
		    le32_to_cpu(header->version) != vsyn_get(settings, version))
			return "version";
		if (le32_to_cpu(header->id) != settings->id)
			return "identity";
	}
	if (!session->has_header || !session->has_end || session->todo_pages ||
	    le64_to_cpu(header->state_bytes) != settings->state_bytes)
		return "length";
	if (le64_to_cpu(end->digest) != vsyn_session_digest(session))
		return "digest";
	return NULL;
}

/* RESUMING to STOP: checks what was loaded, if the device is careful, and takes it. */
int vsyn_session_verify(struct vsyn_session *session)
{
	struct vsyn_device *vsyn;
	const char *refusal;

	/* The descriptor went with a close that did not reset. */
	if (!session)
		return -ENODEV;
	vsyn = session->vsyn;
	mutex_lock(&session->lock);
	if (vsyn_get(vsyn->settings, load) == VSYN_CARELESS) {
		refusal = NULL;
		vsyn_count(vsyn, VSYN_LOADS_CARELESS);
	} else {
		refusal = vsyn_load_refusal(session);
		vsyn_count(vsyn, refusal ? VSYN_LOADS_REFUSED : VSYN_LOADS_VERIFIED);
	}
	WRITE_ONCE(vsyn->refused_because, refusal);
	if (!refusal && session->has_end)
		vsyn_load_registers(session);
	mutex_unlock(&session->lock);
	return refusal ? -EINVAL : 0;
}

/* Both. */

static int vsyn_session_release(struct inode *inode, struct file *file)
{
	struct vsyn_session *session = file->private_data;

	kref_put(&session->kref, vsyn_session_free);
	return 0;
}

static const struct file_operations vsyn_save_fops = {
	.owner = THIS_MODULE,
	.read = vsyn_session_read,
	.unlocked_ioctl = vsyn_session_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = vsyn_session_release,
};

static const struct file_operations vsyn_save_poll_fops = {
	.owner = THIS_MODULE,
	.read = vsyn_session_read,
	.unlocked_ioctl = vsyn_session_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = vsyn_session_poll,
	.release = vsyn_session_release,
};

static const struct file_operations vsyn_load_fops = {
	.owner = THIS_MODULE,
	.write = vsyn_session_write,
	.release = vsyn_session_release,
};

/* A session that the device holds; its file is taken with vsyn_session_file(). */
struct vsyn_session *vsyn_session_open(struct vsyn_device *vsyn, bool saving)
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
	session->saving = saving;
	session->record = kvzalloc(sizeof(struct vsyn_record) + VSYN_RECORD_MAX, GFP_KERNEL_ACCOUNT);
	session->todo = kvcalloc(BITS_TO_LONGS(content->pages), sizeof(long), GFP_KERNEL_ACCOUNT);
	session->hash = kvcalloc(content->pages, sizeof(u64), GFP_KERNEL_ACCOUNT);
	if (!session->record || !session->todo || !session->hash)
		goto no_memory;

	bitmap_fill(session->todo, content->pages);
	session->todo_pages = content->pages;
	session->initial_todo = min(content->pages,
				    DIV_ROUND_UP_ULL(vsyn_get(settings, initial_bytes), VSYN_PAGE_SIZE));
	session->fail.bytes = U64_MAX;
	mutex_lock(&settings->lock);
	if (settings->data_fail.bytes != U64_MAX && settings->data_fail.write == !saving) {
		session->fail = settings->data_fail;
		settings->data_fail.bytes = U64_MAX;
	}
	mutex_unlock(&settings->lock);
	if (saving) {
		mutex_lock(&content->lock);
		bitmap_zero(content->dirty, content->pages);
		mutex_unlock(&content->lock);
	}

	fops = !saving ? &vsyn_load_fops :
	       vsyn_get(settings, poll) == VSYN_POLL_ASKED ? &vsyn_save_poll_fops : &vsyn_save_fops;
	session->file = anon_inode_getfile("vfio_synthetic", fops, session,
					   saving ? O_RDONLY : O_WRONLY);
	if (IS_ERR(session->file)) {
		int ret = PTR_ERR(session->file);

		kref_put(&session->kref, vsyn_session_free);
		return ERR_PTR(ret);
	}
	kref_get(&session->kref);
	stream_open(session->file->f_inode, session->file);
	return session;

no_memory:
	kref_put(&session->kref, vsyn_session_free);
	return ERR_PTR(-ENOMEM);
}

/* The descriptor's file, whose reference goes to the caller: once per session. */
struct file *vsyn_session_file(struct vsyn_session *session)
{
	return session->file;
}

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
		session->initial_todo =
			min(pages, DIV_ROUND_UP_ULL(vsyn_get(session->vsyn->settings, initial_bytes),
						    VSYN_PAGE_SIZE));
		session->initial_again = true;
	}
	mutex_unlock(&session->lock);
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
	dirty += vsyn_image_bytes(bitmap_weight(vsyn->content.dirty, vsyn->content.pages));
	mutex_unlock(&vsyn->content.lock);
	if (!session->has_end)
		dirty += VSYN_END_BYTES;
	mutex_unlock(&session->lock);
	return initial + dirty;
}
