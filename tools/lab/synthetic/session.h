/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A data descriptor, and the device's image that goes through it: a header, pages of
 * the state in any order and as often as they change, and an end with the registers and
 * a digest. Each is a record of its own, put together and taken apart in one buffer, so
 * it does not matter in which portions a descriptor is read and written.
 */
#ifndef VFIO_SYNTHETIC_SESSION_H
#define VFIO_SYNTHETIC_SESSION_H

#include <linux/fs.h>
#include <linux/kref.h>

#include "synthetic.h"

#define VSYN_IMAGE_MAGIC	0x4d495356	/* "VSIM" */
#define VSYN_IMAGE_FORMAT	1
#define VSYN_PAGES_PER_RECORD	16

enum vsyn_record_type { VSYN_RECORD_HEADER = 1, VSYN_RECORD_PAGES, VSYN_RECORD_END };

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
	__le64 digest;		/* of the pages, the header, and all of this before it */
};

#define VSYN_RECORD_MAX (VSYN_PAGES_PER_RECORD * VSYN_PAGE_SIZE)
static_assert(sizeof(struct vsyn_end) <= VSYN_RECORD_MAX);
static_assert(sizeof(struct vsyn_header) % sizeof(__le64) == 0);

struct vsyn_session {
	struct kref kref;		/* the device's and the descriptor's */
	struct vsyn_device *vsyn;	/* with a reference */

	struct mutex lock;
	bool ended;
	bool final;			/* STOP_COPY: nothing changes any more */
	u8 *record;			/* the one under way */
	size_t filled, taken;
	bool record_is_initial;
	bool has_header, has_end;
	struct vsyn_header header;	/* as it was saved or loaded */
	unsigned long *todo;		/* saving: to be sent; loading: not seen yet */
	u64 todo_pages, initial_todo, cursor;
	u64 *hash;			/* of each page as it was last sent or loaded */

	u64 bytes;			/* through the descriptor so far */
	struct vsyn_data_fail fail;
	wait_queue_head_t readable;
	bool asked;			/* for the pre-copy info, since the last temporary end */
	bool initial_again;		/* VFIO_PRECOPY_INFO_REINIT is due */
};

/* session.c */
int vsyn_session_release(struct inode *inode, struct file *file);
u64 vsyn_session_digest(struct vsyn_session *session, const struct vsyn_end *end);
u64 vsyn_session_initial_pages(struct vsyn_device *vsyn);
size_t vsyn_session_before_failure(struct vsyn_session *session, size_t length);

/* save.c, load.c */
extern const struct file_operations vsyn_save_fops, vsyn_save_poll_fops, vsyn_load_fops;

#endif
