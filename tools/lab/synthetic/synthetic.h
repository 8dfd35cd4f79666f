/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vfio_synthetic: VFIO devices made of memory, and a referee of their migrations.
 * docs/synthetic-devices.md says what they do; this is how the files share it.
 *
 * A configfs item (settings.c) holds a device's settings. Made live it becomes a
 * struct vsyn_function on the module's own bus (main.c), whose driver makes the VFIO
 * device, struct vsyn_device.
 *
 * Locks, outermost first. Those in one line are never held together.
 *
 *	vsyn_config.live_mutex		making and removing a function; inside configfs's own
 *	vsyn_device.state_mutex		migration state, for a whole path of arcs
 *	vsyn_session.lock		one data descriptor
 *	vsyn_device.flow_mutex		what the device does by itself: held by its thread for
 *					each batch, so whoever takes it finds nothing under way;
 *					VFIO's locks around guest memory come inside
 *	vsyn_settings.lock		lists among the settings
 *	vsyn_registry			which devices there are; also taken inside the IOMMU
 *					group's mutex, by vsyn_attach()
 *	vsyn_device.{content,log}.lock, vsyn_device.domain_lock, vsyn_device.config_mutex,
 *	vsyn_groups_lock (referee.c)	log.lock has page faults inside, when it is reported
 *	vsyn_device.rx_lock		what peers reach: a spinlock
 *	vsyn_device.reset_lock, vsyn_config.device_lock
 */
#ifndef VFIO_SYNTHETIC_H
#define VFIO_SYNTHETIC_H

#include <linux/configfs.h>
#include <linux/device.h>
#include <linux/eventfd.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/vfio.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "compat.h"

#define VSYN_NAME		"vfio_synthetic"
#define VSYN_PAGE_SHIFT		12
#define VSYN_PAGE_SIZE		(1UL << VSYN_PAGE_SHIFT)
#define VSYN_PAGE_WORDS		(VSYN_PAGE_SIZE / sizeof(u64))
#define VSYN_STATES		(VFIO_DEVICE_STATE_PRE_COPY_P2P + 1)
#define VSYN_IDS		64
#define VSYN_SCRATCH_BYTES	64
#define VSYN_MAX_RULES		16
#define VSYN_MAX_RANGES		16
#define VSYN_MAX_PEERS		8
#define VSYN_MAX_RATE		10000000

/* The control register, and the words of "activity" in this order. */
enum {
	VSYN_ACTIVE_PEERS = BIT(0),
	VSYN_ACTIVE_DMA = BIT(1),
	VSYN_ACTIVE_STATE = BIT(2),
	VSYN_ACTIVE_INTERRUPTS = BIT(3),
	VSYN_ACTIVE_ALL = 0xf,
};

enum vsyn_misbehaviour {
	VSYN_PEERS_IN_P2P = BIT(0),
	VSYN_DMA_AFTER_STOP = BIT(1),
	VSYN_UNLOGGED = BIT(2),
	VSYN_LOSE = BIT(3),
	VSYN_DOUBLE = BIT(4),
};

enum vsyn_iommu_kind { VSYN_IOMMU_EMULATED, VSYN_IOMMU_OWN };
enum vsyn_pre_copy_end { VSYN_END_ENOMSG, VSYN_END_ZERO };
enum vsyn_pre_copy_new { VSYN_NEW_ASKED, VSYN_NEW_READ };
enum vsyn_poll { VSYN_POLL_NONE, VSYN_POLL_ASKED };
enum vsyn_load { VSYN_CAREFUL, VSYN_CARELESS };
enum vsyn_pattern { VSYN_SEQUENTIAL, VSYN_RANDOM, VSYN_HOT };
enum vsyn_too_many { VSYN_MERGE, VSYN_REFUSE };

/* Where a failed arc leaves the device. */
enum vsyn_leaves { VSYN_AT_START, VSYN_HERE, VSYN_THERE, VSYN_IN_ERROR };

/* "The nth use from now": counted down, and gone once it was used. */
struct vsyn_rule {
	u8 from, to;		/* an arc, or an operation of the log in "from" */
	u32 nth;		/* 0: no rule */
	int error;
	enum vsyn_leaves leaves;
};

struct vsyn_range {
	u64 start, length;	/* bytes, whole pages */
};

struct vsyn_peer {
	char name[CONFIGFS_ITEM_NAME_LEN];
	u64 rate;		/* writes per second */
};

/* One data descriptor's end on purpose; bytes is U64_MAX where there is none. */
struct vsyn_data_fail {
	bool write;
	u64 bytes;
	int error;
};

/*
 * Each scalar is a u64 so that one pair of functions shows and stores them all. Those
 * that may change at any time are read with vsyn_get(), lists under the lock; the others
 * and the group's name stand while the device is live.
 */
struct vsyn_settings {
	u64 iommu, id, migration, pci_id, pci_class, log;
	u64 bind_resets, close_resets, after_reset;
	u64 state_bytes, state_seed, initial_bytes, state_rate;
	u64 pre_copy_end, pre_copy_new, poll, version, load;
	u64 dma_rate, dma_pattern, dma_seed, dma_in_p2p;
	u64 log_page_size, log_max_ranges, log_too_many;
	u64 peer_latency, misbehave;

	char group[32];
	struct mutex lock;
	u32 arc_time[VSYN_STATES][VSYN_STATES];	/* microseconds */
	struct vsyn_rule arc_hang[VSYN_MAX_RULES];
	struct vsyn_rule arc_fail[VSYN_MAX_RULES];
	struct vsyn_rule log_fail[VSYN_MAX_RULES];
	struct vsyn_data_fail data_fail;
	struct vsyn_range dma_ranges[VSYN_MAX_RANGES];
	unsigned int nr_dma_ranges;
	struct vsyn_range log_limits;
	struct vsyn_peer peers[VSYN_MAX_PEERS];
	unsigned int nr_peers;
};

#define vsyn_get(settings, field) READ_ONCE((settings)->field)

/* The operations that a rule of log_fail names. */
enum vsyn_log_operation { VSYN_LOG_START, VSYN_LOG_REPORT, VSYN_LOG_STOP };

/* settings.c */
struct vsyn_config {
	struct config_item item;
	struct vsyn_settings settings;
	struct mutex live_mutex;	/* serializes making and removing the function */
	struct vsyn_function *function;
	spinlock_t device_lock;
	struct vsyn_device *device;	/* while bound */
};

int vsyn_settings_register(void);
void vsyn_settings_unregister(void);
struct vsyn_rule *vsyn_rule_applies(struct vsyn_rule *rules, u8 from, u8 to);
void vsyn_config_set_device(struct vsyn_config *config, struct vsyn_device *vsyn);
extern const char *const vsyn_state_names[VSYN_STATES];
extern const char *const vsyn_activity_names[];
ssize_t vsyn_show_words(char *page, const char *const *words, u64 bits);

/* main.c */
struct vsyn_function {
	struct device dev;
	struct vsyn_config *config;
	struct vsyn_device *device;	/* while bound */
};

#define to_vsyn_function(d) container_of(d, struct vsyn_function, dev)

struct vsyn_function *vsyn_function_create(struct vsyn_config *config, const char *name);
void vsyn_function_remove(struct vsyn_function *function);
extern const struct bus_type vsyn_bus;

/* What a receiver knows of a sender, by the sender's id. */
struct vsyn_link {
	u64 known, incarnation, last, received;
};

struct vsyn_flight;

/* Counters of one device, in the order in which the referee shows them. */
enum vsyn_counter {
	VSYN_PEER_SENT, VSYN_PEER_RECEIVED,
	VSYN_ARRIVED_STOP, VSYN_ARRIVED_STOP_COPY, VSYN_ARRIVED_RESUMING,
	VSYN_ARRIVED_ERROR, VSYN_ARRIVED_CLOSED,
	VSYN_STARTED_QUIESCED,
	VSYN_PEER_LOST, VSYN_PEER_DOUBLED, VSYN_PEER_NEW_LINKS,
	VSYN_DMA_PAGES, VSYN_DMA_FAULTS, VSYN_DMA_STOPPED,
	VSYN_UNMAPPED_UNREPORTED,
	VSYN_BAR_QUIESCED, VSYN_CONFIG_QUIESCED,
	VSYN_ARCS, VSYN_ARCS_REFUSED, VSYN_ARCS_FAILED,
	VSYN_RESETS,
	VSYN_LOADS_VERIFIED, VSYN_LOADS_REFUSED, VSYN_LOADS_CARELESS,
	VSYN_COUNTERS
};

struct vsyn_group;

/* The memory that makes up a device's state. A page that nobody wrote takes none. */
struct vsyn_content {
	struct mutex lock;
	u64 seed;
	u64 position;		/* pages rewritten so far */
	u64 pages;
	void **page;		/* NULL: still as the seed says */
	unsigned long *dirty;	/* changed since a saving session last took them */
};

/* Work per second, with what could not be done in time carried over for a moment. */
struct vsyn_pacer {
	u64 since;		/* up to when work was handed out, in nanoseconds */
};

struct vsyn_log {
	struct mutex lock;
	bool running;
	unsigned int page_shift;
	struct xarray chunks;
	struct vsyn_range *ranges;
	unsigned int nr_ranges;
	u64 owed;		/* pages written and not reported */
};

struct vsyn_device {
	struct vfio_device vdev;
	struct vsyn_function *function;
	struct vsyn_settings *settings;
	const char *name;
	struct list_head registered;	/* vsyn_registry */

	/* migration.c */
	struct mutex state_mutex;
	enum vfio_device_mig_state state;
	spinlock_t reset_lock;		/* guards the next; state_mutex is only tried inside */
	bool deferred_reset;
	/* The arc under way, or the state twice: by these the referee judges what is started. */
	enum vfio_device_mig_state arc_from, arc_to;
	struct vsyn_session *saving, *resuming;
	wait_queue_head_t hang_wait;
	atomic_t releases;
	bool leaving;			/* nothing may hang any more */

	/* traffic.c */
	struct mutex flow_mutex;
	struct task_struct *thread;
	wait_queue_head_t flow_wait;
	atomic_t kicks;
	bool initiates, in_p2p, rewrites_state;	/* what the state allows; see vsyn_flow() */
	struct vsyn_flight *flight;
	struct vsyn_pacer peer_pace[VSYN_MAX_PEERS], dma_pace, state_pace;
	__le64 *bounce;
	u64 dma_position, dma_seed;
	u64 incarnation;
	u64 sent[VSYN_IDS];
	u64 peer_writes;		/* for "each 64th" of the misbehaviours */

	/* what the world outside reaches, under rx_lock */
	spinlock_t rx_lock;
	bool open;
	enum vfio_device_mig_state rx_state;	/* as which an arrival is judged */
	u32 control;
	u8 scratch[VSYN_SCRATCH_BYTES];
	struct vsyn_link links[VSYN_IDS];
	struct eventfd_ctx *interrupt;

	struct mutex config_mutex;
	u8 config[256];

	struct vsyn_content content;
	struct vsyn_log log;

	/* iommu.c, own IOMMU */
	struct mutex domain_lock;
	struct vsyn_domain *domain;
	u64 unreported;			/* by the domains that were attached before */

	/* referee.c */
	atomic64_t counters[VSYN_COUNTERS];
	struct dentry *debugfs;
	struct vsyn_group *group;
	unsigned int group_index;
	const char *refused_because;
};

#define to_vsyn(v) container_of(v, struct vsyn_device, vdev)

static inline void vsyn_count(struct vsyn_device *vsyn, enum vsyn_counter counter)
{
	atomic64_inc(&vsyn->counters[counter]);
}

extern struct rw_semaphore vsyn_registry;
extern struct list_head vsyn_devices;

/* device.c */
extern const struct vfio_device_ops vsyn_emulated_ops, vsyn_own_ops;
void vsyn_device_reset_registers(struct vsyn_device *vsyn);
void vsyn_device_interrupt(struct vsyn_device *vsyn);

/* migration.c */
extern const struct vfio_migration_ops vsyn_migration_ops;
void vsyn_state_unlock(struct vsyn_device *vsyn);
void vsyn_reset(struct vsyn_device *vsyn);
void vsyn_end_sessions(struct vsyn_device *vsyn);
void vsyn_reinit(struct vsyn_device *vsyn);
void vsyn_release_hangs(struct vsyn_device *vsyn);

static inline bool vsyn_state_initiates(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_RUNNING || state == VFIO_DEVICE_STATE_PRE_COPY;
}

static inline bool vsyn_state_is_p2p(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_RUNNING_P2P || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static inline bool vsyn_state_accepts(enum vfio_device_mig_state state)
{
	return vsyn_state_initiates(state) || vsyn_state_is_p2p(state);
}

static inline bool vsyn_state_is_pre_copy(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static inline bool vsyn_state_saves(enum vfio_device_mig_state state)
{
	return vsyn_state_is_pre_copy(state) || state == VFIO_DEVICE_STATE_STOP_COPY;
}

/* session.c, save.c, load.c */
struct vsyn_session;
struct vsyn_session *vsyn_session_open(struct vsyn_device *vsyn, bool saving, struct file **file);
void vsyn_session_finish(struct vsyn_session *session);
int vsyn_session_verify(struct vsyn_session *session);
void vsyn_session_end(struct vsyn_session *session);
void vsyn_session_reinit(struct vsyn_session *session);
u64 vsyn_image_bytes_left(struct vsyn_device *vsyn);

/* content.c */
int vsyn_content_init(struct vsyn_content *content, u64 bytes, u64 seed);
void vsyn_content_free(struct vsyn_content *content);
void vsyn_content_reset(struct vsyn_content *content, u64 seed);
void vsyn_content_read(struct vsyn_content *content, u64 index, __le64 *words);
int vsyn_content_write(struct vsyn_content *content, u64 index, const __le64 *words);
int vsyn_content_rewrite_next(struct vsyn_content *content);
u64 vsyn_content_digest(struct vsyn_content *content);
u64 vsyn_hash(u64 key, const __le64 *words, unsigned int count);

/* The finalizer of SplitMix64: what all synthetic content is made with. */
static inline u64 vsyn_mix(u64 z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static inline void vsyn_fill_page(u64 key, __le64 *words)
{
	unsigned int k;

	for (k = 0; k < VSYN_PAGE_WORDS; k++)
		words[k] = cpu_to_le64(vsyn_mix(key + k));
}

/* traffic.c */
int vsyn_traffic_init(struct vsyn_device *vsyn);
void vsyn_traffic_free(struct vsyn_device *vsyn);
int vsyn_traffic_start(struct vsyn_device *vsyn);
void vsyn_traffic_stop(struct vsyn_device *vsyn);
void vsyn_traffic_kick(struct vsyn_device *vsyn);
void vsyn_traffic_allow(struct vsyn_device *vsyn, enum vfio_device_mig_state from,
			enum vfio_device_mig_state to);
void vsyn_traffic_settle(struct vsyn_device *vsyn, enum vfio_device_mig_state state);
void vsyn_traffic_reset(struct vsyn_device *vsyn);

/* log.c */
extern const struct vfio_log_ops vsyn_log_ops;
void vsyn_log_init(struct vsyn_log *log);
void vsyn_log_record(struct vsyn_device *vsyn, u64 iova, bool hide);
int vsyn_log_set(struct vsyn_device *vsyn, u64 iova, u64 length, u64 stride, u64 count);
void vsyn_log_end(struct vsyn_device *vsyn);
void vsyn_log_forgive(struct vsyn_device *vsyn);

/* iommu.c */
int vsyn_iommu_register(void);
void vsyn_iommu_unregister(void);
int vsyn_iommu_add(struct vsyn_function *function);
int vsyn_iommu_write(struct vsyn_device *vsyn, u64 iova, const __le64 *words, bool hide);
u64 vsyn_iommu_collect(struct vsyn_device *vsyn);
void vsyn_iommu_forgive(struct vsyn_device *vsyn);

/* referee.c */
void vsyn_referee_init(void);
void vsyn_referee_exit(void);
int vsyn_referee_add(struct vsyn_device *vsyn);
void vsyn_referee_remove(struct vsyn_device *vsyn);
void vsyn_referee_entered(struct vsyn_device *vsyn, enum vfio_device_mig_state state);

#endif
