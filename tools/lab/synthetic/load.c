// SPDX-License-Identifier: GPL-2.0
/* Loading: what a data descriptor takes in RESUMING, and whether the device takes it then. */
#include <linux/bitmap.h>
#include <linux/uaccess.h>

#include "session.h"

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
		session->hash[i] = vsyn_hash(i, words, VSYN_PAGE_WORDS);
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
		if (session->has_header || record->index || length != sizeof(session->header))
			return -EINVAL;
		memcpy(&session->header, record + 1, sizeof(session->header));
		session->has_header = true;
		return 0;
	case VSYN_RECORD_PAGES:
		return vsyn_load_pages(session, le64_to_cpu(record->index), length);
	case VSYN_RECORD_END:
		/* Its registers stay where they are until RESUMING is left. */
		if (record->index || length != sizeof(struct vsyn_end))
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
	if (le32_to_cpu(record->magic) != VSYN_IMAGE_MAGIC || record->reserved ||
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
		      !vsyn_session_before_failure(session, length) ? -session->fail.error : 0;
		wants = ret ?: vsyn_load_wants(session);
		if (wants < 0) {
			done = ret && done ? done : wants;
			break;
		}
		portion = vsyn_session_before_failure(session, min_t(size_t, length, wants));
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
	WRITE_ONCE(vsyn->control, le32_to_cpu(end->control) & VSYN_ACTIVE_ALL);
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
	if (le64_to_cpu(end->digest) != vsyn_session_digest(session, end))
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

const struct file_operations vsyn_load_fops = {
	.owner = THIS_MODULE,
	.write = vsyn_session_write,
	.release = vsyn_session_release,
};
