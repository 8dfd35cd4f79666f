/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfio_ferry.h: what a VMM and `vfio-ferry helper` say to each other. A VMM needs this file and
 * docs/helper-protocol.md, which tells in which order things are said and what they mean; nothing else.
 *
 * The socket is a Unix socket of type SOCK_SEQPACKET. Each packet is one of the structures below, whole,
 * in the machine's own byte order, with the descriptors that go with it attached to the same packet
 * (SCM_RIGHTS). Whoever sends a descriptor keeps the one that it has; whoever gets one closes it.
 *
 * A request has a number of the VMM's choice, and gets exactly one reply with that number: either the
 * structure that is named for it, or a struct vfio_ferry_error. Replies of requests that take time may come
 * in another order than the requests. Events come unasked.
 *
 * In every enumeration 0 is invalid. Fields called `reserved`, flags that have no name here, and the bytes
 * of a name or text after its NUL are 0; a helper refuses anything else, so that they can get a meaning later. Names
 * and texts are UTF-8, without control characters. A helper cuts those of its own that are too long.
 * Sizes and offsets are asserted at the end: a compiler that lays a structure out otherwise says so.
 */
#ifndef VFIO_FERRY_H
#define VFIO_FERRY_H

#include <stddef.h>
#include <stdint.h>

/* The version of this file. Another major version is another protocol. A later minor version adds requests,
 * events, flags and codes, and takes nothing away. */
enum {
  VFIO_FERRY_VERSION_MAJOR = 1,
  VFIO_FERRY_VERSION_MINOR = 1, /* 1.1 has come with VFIO_FERRY_DEVICE_TAG and VFIO_FERRY_EVENT_TAG */
};

/* Caps. A helper may be told to allow less; what it allows is in its hello. */
enum {
  VFIO_FERRY_MAX_PACKET = 512,       /* bytes of a packet, either way */
  VFIO_FERRY_MAX_DESCRIPTORS = 2,    /* with one packet */
  VFIO_FERRY_MAX_DEVICES = 256,      /* of one VM */
  VFIO_FERRY_MAX_MEMORY = 4096,      /* ranges of guest memory */
  VFIO_FERRY_MAX_MAPPINGS = 65536,   /* of I/O addresses, all spaces together */
  VFIO_FERRY_MAX_BLOB = 1048576,     /* bytes of a VMM's own state of one device */
  VFIO_FERRY_MAX_BLOBS = 33554432,   /* the same of all devices together: those given here, and those that come */
  VFIO_FERRY_MAX_TAG = 32768,        /* bytes of a compatibility tag's text */
  VFIO_FERRY_MAX_BITMAP = 268435456, /* bytes of the bitmap of dirty pages: 8 TiB of guest memory by pages of 4 KiB */
  VFIO_FERRY_NAME_SIZE = 64,         /* bytes of a name, its NUL included */
  VFIO_FERRY_TEXT_SIZE = 256,        /* bytes of a text, its NUL included */
};

/* What a number says that is not known. */
#define VFIO_FERRY_UNKNOWN UINT64_MAX

/* The longest time that a request may name, in microseconds: a day. */
#define VFIO_FERRY_MAX_TIME 86400000000

/* What a packet is. */
enum {
  /* Requests. In brackets: the reply where it is not a bare struct vfio_ferry_done. */
  VFIO_FERRY_HELLO = 1,            /* struct vfio_ferry_hello [the same]: the first request, and the only one of its kind */
  VFIO_FERRY_DEVICE_ADD = 2,       /* struct vfio_ferry_device_add [struct vfio_ferry_device_info] */
  VFIO_FERRY_DEVICE_DESCRIBE = 3,  /* struct vfio_ferry_device [struct vfio_ferry_device_info] */
  VFIO_FERRY_DEVICE_REMOVE = 4,    /* struct vfio_ferry_device */
  VFIO_FERRY_DEVICE_ARC = 5,       /* struct vfio_ferry_device_arc [struct vfio_ferry_device_info]: for diagnosis */
  VFIO_FERRY_DEVICE_RESET = 6,     /* struct vfio_ferry_device [struct vfio_ferry_device_info] */
  VFIO_FERRY_DEVICE_LINK = 7,      /* struct vfio_ferry_device_link */
  VFIO_FERRY_DEVICE_BLOB = 8,      /* struct vfio_ferry_blob, one descriptor */
  VFIO_FERRY_DEVICE_DEAD = 9,      /* struct vfio_ferry_device: wait no longer for it */
  VFIO_FERRY_DEVICE_TAG = 10,      /* struct vfio_ferry_tag, one descriptor: what the helper can't find out of it */
  VFIO_FERRY_MEMORY_ADD = 16,      /* struct vfio_ferry_memory, one descriptor where its flags say so */
  VFIO_FERRY_MAP_ADD = 17,         /* struct vfio_ferry_mapping */
  VFIO_FERRY_MAP_REMOVE = 18,      /* struct vfio_ferry_mapping */
  VFIO_FERRY_TRACKING_START = 24,  /* struct vfio_ferry_tracking [struct vfio_ferry_bitmap, one descriptor] */
  VFIO_FERRY_TRACKING_READ = 25,   /* struct vfio_ferry_header [struct vfio_ferry_bitmap] */
  VFIO_FERRY_TRACKING_STOP = 26,   /* struct vfio_ferry_header */
  VFIO_FERRY_TRACKING_ADD = 27,    /* struct vfio_ferry_header, one descriptor: pages that the VMM knows to be dirty */
  VFIO_FERRY_SAVE_BEGIN = 32,      /* struct vfio_ferry_save, one or two descriptors */
  VFIO_FERRY_STEP = 33,            /* struct vfio_ferry_sent [struct vfio_ferry_estimate] */
  VFIO_FERRY_ESTIMATE = 34,        /* struct vfio_ferry_header [struct vfio_ferry_estimate] */
  VFIO_FERRY_VCPUS_STOPPED = 35,   /* struct vfio_ferry_header */
  VFIO_FERRY_QUIESCE = 36,         /* struct vfio_ferry_sent [struct vfio_ferry_estimate] */
  VFIO_FERRY_COMPLETE = 37,        /* struct vfio_ferry_sent */
  VFIO_FERRY_COMMIT = 38,          /* struct vfio_ferry_header */
  VFIO_FERRY_LOAD_BEGIN = 48,      /* struct vfio_ferry_load, one or two descriptors */
  VFIO_FERRY_BLOB_READ = 49,       /* struct vfio_ferry_device [struct vfio_ferry_blob, one descriptor] */
  VFIO_FERRY_RESUME = 56,          /* struct vfio_ferry_header */
  VFIO_FERRY_ABORT = 57,           /* struct vfio_ferry_header */
  VFIO_FERRY_STATUS = 58,          /* struct vfio_ferry_header [struct vfio_ferry_status] */

  /* A reply has the number of its request with this bit. An error is a kind of its own. */
  VFIO_FERRY_REPLY = 0x1000,
  VFIO_FERRY_ERROR = 0x1fff,       /* struct vfio_ferry_error */

  /* Events. */
  VFIO_FERRY_EVENT_PHASE = 0x2001,     /* struct vfio_ferry_event: the session has come to another phase */
  VFIO_FERRY_EVENT_PROGRESS = 0x2002,  /* struct vfio_ferry_progress, for each device, now and then */
  VFIO_FERRY_EVENT_ARC = 0x2003,       /* struct vfio_ferry_arc: a device has made an arc, or has failed to */
  VFIO_FERRY_EVENT_HUNG = 0x2004,      /* struct vfio_ferry_event: this device has not answered for `microseconds` */
  VFIO_FERRY_EVENT_SLOW = 0x2005,      /* struct vfio_ferry_event: what `text` says has taken that long, and goes on */
  VFIO_FERRY_EVENT_RESET = 0x2006,     /* struct vfio_ferry_event: this device was reset: by its guest, so that its state is read
                                        * anew, or on the way back, and is empty */
  VFIO_FERRY_EVENT_DECISION = 0x2007,  /* struct vfio_ferry_estimate: what a round has shown */
  VFIO_FERRY_EVENT_READY = 0x2008,     /* struct vfio_ferry_estimate: stop the vCPUs now, and quiesce */
  VFIO_FERRY_EVENT_THROTTLE = 0x2009,  /* struct vfio_ferry_event: the guest dirties more than can be sent: slow its vCPUs */
  VFIO_FERRY_EVENT_TRACKER = 0x200a,   /* struct vfio_ferry_event: a tracker has failed and was replaced; nothing is lost */
  VFIO_FERRY_EVENT_LINK_LOST = 0x200b, /* struct vfio_ferry_event: the stream is broken */
  VFIO_FERRY_EVENT_LOADED = 0x200c,    /* struct vfio_ferry_event: everything is in the devices, which are stopped */
  VFIO_FERRY_EVENT_FAILED = 0x200d,    /* struct vfio_ferry_error: the session has failed, and has gone back as far as it could */
  VFIO_FERRY_EVENT_TAG = 0x200e,       /* struct vfio_ferry_event: what this device's tag says otherwise than its source's, that does not
                                        * keep it from being loaded, and that the guest's peers may notice */
};

/* Where a session is. docs/helper-protocol.md says which requests each of them takes. */
enum {
  VFIO_FERRY_PHASE_SETUP = 1,      /* nothing moves: devices and memory are added and removed */
  VFIO_FERRY_PHASE_PRE_COPY = 2,   /* source: state and pages are read ahead of the stop */
  VFIO_FERRY_PHASE_QUIESCING = 3,  /* source: the devices are being stopped, in two phases */
  VFIO_FERRY_PHASE_STOPPED = 4,    /* source: all devices have stopped; the rest of their state goes out */
  VFIO_FERRY_PHASE_COMPLETE = 5,   /* source: everything has gone out; commit, or resume */
  VFIO_FERRY_PHASE_COMMITTED = 6,  /* source: the devices were let go of, stopped */
  VFIO_FERRY_PHASE_LOADING = 7,    /* destination: state goes into the devices */
  VFIO_FERRY_PHASE_LOADED = 8,     /* destination: all of it is in them, and they are stopped */
  VFIO_FERRY_PHASE_RESUMING = 9,   /* the devices are being started, in two phases */
  VFIO_FERRY_PHASE_GOING_BACK = 10, /* something failed, or was aborted: the devices go back to where they were */
};

/* States of a device: the kernel's numbers (enum vfio_device_mig_state) and one more, because there 0 is a state. */
enum {
  VFIO_FERRY_STATE_ERROR = 1,
  VFIO_FERRY_STATE_STOP = 2,
  VFIO_FERRY_STATE_RUNNING = 3,
  VFIO_FERRY_STATE_STOP_COPY = 4,
  VFIO_FERRY_STATE_RESUMING = 5,
  VFIO_FERRY_STATE_RUNNING_P2P = 6,
  VFIO_FERRY_STATE_PRE_COPY = 7,
  VFIO_FERRY_STATE_PRE_COPY_P2P = 8,
  VFIO_FERRY_STATE_UNKNOWN = 255,  /* the device has not said */
};

/* What tells which pages a device has written. */
enum {
  VFIO_FERRY_TRACKER_AUTO = 1,       /* the first of these that there is */
  VFIO_FERRY_TRACKER_IOMMU = 2,      /* the dirty bits of its page table */
  VFIO_FERRY_TRACKER_DEVICE = 3,     /* the device's own log */
  VFIO_FERRY_TRACKER_CONTAINER = 4,  /* the legacy container */
  VFIO_FERRY_TRACKER_EVERYTHING = 5, /* nothing does: each round everything is dirty that it can write */
};

/* Why a request or a session failed. */
enum {
  VFIO_FERRY_CODE_BAD_PACKET = 1,      /* a size, number, count of descriptors, reserved field or end of a name is wrong; the helper hangs up */
  VFIO_FERRY_CODE_UNKNOWN_REQUEST = 2, /* this version does not know it */
  VFIO_FERRY_CODE_VERSION = 3,         /* the VMM speaks another major version; the helper hangs up */
  VFIO_FERRY_CODE_BAD_ARGUMENT = 4,    /* a field has a value that it can't have */
  VFIO_FERRY_CODE_WRONG_PHASE = 5,     /* this request has no meaning now; the text says what has to come before */
  VFIO_FERRY_CODE_NO_SUCH = 6,         /* there is no device, memory or mapping like that */
  VFIO_FERRY_CODE_EXISTS = 7,          /* there is one already, or it overlaps one */
  VFIO_FERRY_CODE_LIMIT = 8,           /* more than this helper allows */
  VFIO_FERRY_CODE_REFUSED = 9,         /* it can't work, and nothing was touched; the text says why, and what to do */
  VFIO_FERRY_CODE_SYSTEM = 10,         /* a system call failed */
  VFIO_FERRY_CODE_DEVICE = 11,         /* a device did not do what it was asked */
  VFIO_FERRY_CODE_LINK = 12,           /* the stream broke off */
  VFIO_FERRY_CODE_STREAM = 13,         /* what came in is no stream, or not for these devices */
  VFIO_FERRY_CODE_MEMORY = 14,         /* guest memory could not be sent */
  VFIO_FERRY_CODE_OUTRUN = 15,         /* the guest dirties more than can be sent */
  VFIO_FERRY_CODE_ABORTED = 16,        /* the VMM aborted it */
  VFIO_FERRY_CODE_HUNG = 17,           /* a device did not answer, and was declared dead */
};

/* At the head of every packet. */
struct vfio_ferry_header {
  uint32_t type;
  uint32_t size;        /* of the packet in bytes, this header included */
  uint32_t number;      /* of the request: not 0, and not that of another that has no reply yet; of an event: 0 */
  uint32_t descriptors; /* that come with the packet */
};

/* The reply of requests that have nothing to tell. */
struct vfio_ferry_done {
  struct vfio_ferry_header header;
};

struct vfio_ferry_error {
  struct vfio_ferry_header header;
  uint32_t request; /* the type of the request; 0 where a session failed between two of them */
  uint32_t code;    /* VFIO_FERRY_CODE_... */
  int32_t error;    /* an errno; 0 where none is behind it */
  uint32_t device;  /* that it is about; 0 where it is about none */
  char text[VFIO_FERRY_TEXT_SIZE]; /* UTF-8, for a person: what, where, why, what to do */
};

/* The VMM says what it can do, and the helper what both can. */
enum {
  VFIO_FERRY_FEATURE_PAGES = 1 << 0, /* the helper can send guest memory itself (VFIO_FERRY_SAVE_PAGES_BY_HELPER) */
};

struct vfio_ferry_hello {
  struct vfio_ferry_header header;
  uint32_t major;       /* VFIO_FERRY_VERSION_MAJOR; in every version it stands here */
  uint32_t minor;       /* the VMM's; in the reply the lower of the two */
  uint64_t features;    /* VFIO_FERRY_FEATURE_...: of the VMM; in the reply those that both have */
  uint32_t max_devices; /* in the reply: what this helper allows; 0 in the request */
  uint32_t max_memory;
  uint32_t max_mappings;
  uint32_t max_blob;
  char version[VFIO_FERRY_NAME_SIZE]; /* of the program, for a log; both ways */
};

/* A request about a device that was added. */
struct vfio_ferry_device {
  struct vfio_ferry_header header;
  uint32_t device;
  uint32_t reserved;
};

enum {
  VFIO_FERRY_DEVICE_HAS_IOMMUFD = 1 << 0,    /* the second descriptor is the iommufd that the device is bound to */
  VFIO_FERRY_DEVICE_HAS_CONTAINER = 1 << 1,  /* the second descriptor is its container (VFIO_SET_IOMMU was done) */
  VFIO_FERRY_DEVICE_HAS_NUMBER = 1 << 2,     /* `number` is what VFIO_DEVICE_BIND_IOMMUFD answered (out_devid) */
  VFIO_FERRY_DEVICE_HAS_PAGE_TABLE = 1 << 3, /* `page_table` is the IOMMU_HWPT_ALLOC that it is attached to */
  /* The first two exclude each other; the others need the first. */
};

/*
 * Hands a device over. The first descriptor is the device's: of /dev/vfio/devices/..., bound, or from a group. The VMM keeps
 * its own, and does not change the device's migration state by it while the helper has one.
 */
struct vfio_ferry_device_add {
  struct vfio_ferry_header header;
  uint32_t device;       /* what both call it: 1 to 2^31 - 1, the VMM's choice; on both sides of a move in the same order */
  uint32_t flags;        /* VFIO_FERRY_DEVICE_HAS_... */
  uint32_t space;        /* its I/O address space, the same for devices that share one: its IOMMU_IOAS_ALLOC where an iommufd comes with it,
                          * otherwise a number of the VMM's choice; not 0. All devices
                          * with an iommufd are in one and the same; a device of another is refused (BAD_ARGUMENT) */
  uint32_t tracker;      /* VFIO_FERRY_TRACKER_... */
  uint32_t number;       /* see flags; 0 without */
  uint32_t page_table;   /* see flags; 0 without */
  uint64_t log_first;    /* the I/O addresses that its own log can watch, first and last, in whole pages of 4,096; 0 and 0: not known */
  uint64_t log_last;
  char name[VFIO_FERRY_NAME_SIZE]; /* a PCI address as in sysfs, the UUID of a mediated device in lower case, or
                                    * /dev/vfio/devices/vfioN */
};

/* The features of a device: the kernel's flags (VFIO_MIGRATION_STOP_COPY, _P2P, _PRE_COPY). */
enum {
  VFIO_FERRY_DEVICE_STOP_COPY = 1 << 0,
  VFIO_FERRY_DEVICE_P2P = 1 << 1,
  VFIO_FERRY_DEVICE_PRE_COPY = 1 << 2,
};

/* What a device found in some state can still do; see "When a helper has died" in the document. */
enum {
  VFIO_FERRY_DEVICE_CAN_SAVE = 1 << 0,   /* it can be moved from here, as it is */
  VFIO_FERRY_DEVICE_CAN_LOAD = 1 << 1,   /* it can take another's state */
  VFIO_FERRY_DEVICE_CAN_RESUME = 1 << 2, /* it can go back to running with what is in it */
  VFIO_FERRY_DEVICE_NEEDS_RESET = 1 << 3, /* only a reset brings it back, and it is empty then */
  VFIO_FERRY_DEVICE_IS_HUNG = 1 << 4,    /* a call on it has not come back */
};

struct vfio_ferry_device_info {
  struct vfio_ferry_header header;
  uint32_t device;
  uint32_t state;           /* VFIO_FERRY_STATE_... */
  uint32_t features;        /* VFIO_FERRY_DEVICE_STOP_COPY, ... */
  uint32_t can;             /* VFIO_FERRY_DEVICE_CAN_..., ... */
  uint32_t tracker;         /* what it would be tracked by, or is */
  uint32_t reserved;
  uint64_t stop_copy_bytes; /* the driver's estimate of its image; VFIO_FERRY_UNKNOWN where it gives none */
  char driver[VFIO_FERRY_NAME_SIZE];
  char reason[VFIO_FERRY_TEXT_SIZE]; /* why that tracker, for a person */
};

/* One change of state, as it is: for a driver's engineer. Only in VFIO_FERRY_PHASE_SETUP. */
struct vfio_ferry_device_arc {
  struct vfio_ferry_header header;
  uint32_t device;
  uint32_t state; /* VFIO_FERRY_STATE_...; the kernel takes the shortest way to it */
};

enum {
  VFIO_FERRY_LINK_THERE = 1, /* the first can write to the second: its BARs are mapped in the first one's space */
  VFIO_FERRY_LINK_NOT = 2,   /* it can't */
};

/* What the VMM knows of peer-to-peer. Without it, what can't be told from the PCI topology counts as a link. */
struct vfio_ferry_device_link {
  struct vfio_ferry_header header;
  uint32_t from;
  uint32_t to;
  uint32_t link; /* VFIO_FERRY_LINK_... */
  uint32_t reserved;
};

/*
 * A VMM's own state of a device (configuration space, interrupts), which goes along as it is. In the request the descriptor is
 * a file of which bytes from `offset` on are read before the reply. In the reply of VFIO_FERRY_BLOB_READ it is a file that
 * holds nothing else, from 0 on, and can't change any more; a device without a blob has size 0 and no descriptor. Asked for
 * again it is the same file, with the position that it was left at.
 */
struct vfio_ferry_blob {
  struct vfio_ferry_header header;
  uint32_t device;
  uint32_t size;   /* bytes, at most VFIO_FERRY_MAX_BLOB */
  uint64_t offset;
};

/*
 * A device's compatibility tag: the text that `vfio-ferry tag DEV` prints. The descriptor is a file of which `size` bytes from
 * `offset` on are read before the reply. What the helper finds out of the device by itself it holds against it: a tag that says
 * otherwise is another device's, or an old one, and is refused. The document says what comes of the rest.
 */
struct vfio_ferry_tag {
  struct vfio_ferry_header header;
  uint32_t device;
  uint32_t size;   /* bytes, at most VFIO_FERRY_MAX_TAG */
  uint64_t offset;
};

enum {
  VFIO_FERRY_MEMORY_HAS_FILE = 1 << 0, /* the descriptor is a file that holds it (a memfd, hugetlbfs): the helper can send it */
  VFIO_FERRY_MEMORY_IS_MAPPED = 1 << 1, /* it is mapped in `space` at `address`, too: VFIO_FERRY_MAP_ADD in the same request */
};

/* A range of guest memory. Not while it is tracked. Addresses, sizes and offsets are multiples of 4,096, here and in
 * mappings, and no range is empty or goes up to 2^64. */
struct vfio_ferry_memory {
  struct vfio_ferry_header header;
  uint32_t flags;   /* VFIO_FERRY_MEMORY_... */
  uint32_t space;   /* see flags; 0 without */
  uint64_t guest;   /* its first guest address; no two ranges overlap */
  uint64_t size;    /* bytes */
  uint64_t address; /* see flags; 0 without */
  uint64_t offset;  /* of its first byte in the file; 0 without */
};

/*
 * I/O addresses that mean guest memory: told when the IOMMU has been changed for an addition, and before it is changed for a
 * removal. A removal is done (has its reply) when what the devices wrote there was read for the last time. Several addresses
 * may mean the same guest memory, but one address one only. A removal names a mapping whole, as it was added.
 */
struct vfio_ferry_mapping {
  struct vfio_ferry_header header;
  uint32_t space;
  uint32_t reserved;
  uint64_t address; /* the first I/O address */
  uint64_t size;    /* bytes */
  uint64_t guest;   /* the first guest address; all of it is guest memory that was added */
};

/* Starts the trackers. Guest memory and its layout stay as they are until they are stopped. */
struct vfio_ferry_tracking {
  struct vfio_ferry_header header;
  uint64_t page_size; /* bytes of guest memory that a bit stands for: a power of two from 4,096 to 1 GiB */
};

/*
 * The dirty pages: a file of `words` 64-bit words, with the first reply. Its layout is in the document. It is the VMM's from a
 * reply that says so on, and the helper's from the VMM's next request that reads into it: neither touches it out of turn.
 * The VMM clears the bits of the pages that it takes care of.
 */
struct vfio_ferry_bitmap {
  struct vfio_ferry_header header;
  uint64_t page_size;
  uint64_t words;
  uint64_t dirty; /* bits that are set */
};

enum {
  VFIO_FERRY_SAVE_PRE_COPY = 1 << 0,        /* read device state ahead of the stop, where a device can */
  VFIO_FERRY_SAVE_PAGES_BY_HELPER = 1 << 1, /* guest memory goes over the second descriptor, by itself, in rounds */
  VFIO_FERRY_SAVE_PAGES_BY_VMM = 1 << 2,    /* the VMM sends it, and asks for each round (VFIO_FERRY_STEP) */
  VFIO_FERRY_SAVE_RESET = 1 << 3,           /* reset a device that nothing else brings back; it is empty then */
  VFIO_FERRY_SAVE_FLUSH = 1 << 4,           /* read each PCI device's configuration space between the two phases */
  /* Pages go one way only, or none. */
};

/* What happens where the guest dirties more than can be sent, with VFIO_FERRY_SAVE_PAGES_BY_HELPER. */
enum {
  VFIO_FERRY_RESORT_GIVE_UP = 1, /* the session fails, and the guest runs on here */
  VFIO_FERRY_RESORT_FORCE = 2,   /* VFIO_FERRY_EVENT_READY comes all the same */
};

/*
 * Begins to move all devices to the other host. The first descriptor carries the stream (a socket that is connected, a pipe, a
 * file), the second the guest memory (a connected stream socket).
 */
struct vfio_ferry_save {
  struct vfio_ferry_header header;
  uint32_t flags;        /* VFIO_FERRY_SAVE_... */
  uint32_t last_resort;  /* VFIO_FERRY_RESORT_... */
  uint64_t downtime_us;  /* for how long the guest may stand still */
  uint64_t interval_us;  /* between the beginnings of two rounds, at least */
  uint64_t quiescing_us; /* what a stop took before, vCPUs included; VFIO_FERRY_UNKNOWN */
  uint64_t loading_us;   /* what the other side took before from the last byte to running; VFIO_FERRY_UNKNOWN */
  uint64_t step_us;      /* a device that has not ended a step of the stop after this long is said to hang; 0: 5 s */
};

/* The bitmap comes back: the pages that are clear in it were sent, in so many bytes. */
struct vfio_ferry_sent {
  struct vfio_ferry_header header;
  uint64_t bytes; /* that went out for them; 0 where the helper sends */
};

enum {
  VFIO_FERRY_VERDICT_GO_ON = 1,         /* another round */
  VFIO_FERRY_VERDICT_AWAIT_INITIAL = 2, /* short enough, but the other side has not taken in this device's initial data */
  VFIO_FERRY_VERDICT_THROTTLE = 3,      /* another round, with what comes in limited to inbound_limit */
  VFIO_FERRY_VERDICT_STOP = 4,          /* it is short enough */
  VFIO_FERRY_VERDICT_FORCE = 5,         /* it gets no shorter; last_resort says to stop */
  VFIO_FERRY_VERDICT_GIVE_UP = 6,       /* it gets no shorter; last_resort says not to */
};

/* For how long the guest would stand still if it were stopped now, and from what that is told. */
struct vfio_ferry_estimate {
  struct vfio_ferry_header header;
  uint32_t round;         /* 1 is the one that finds everything dirty; 0: there was none */
  uint32_t verdict;       /* VFIO_FERRY_VERDICT_...; 0 where there was no round, or after the stop */
  uint32_t device;        /* see VFIO_FERRY_VERDICT_AWAIT_INITIAL */
  uint32_t is_last;       /* 1: read after the last device stopped; nothing is dirtied after it */
  uint64_t dirty;         /* pages of the bitmap that are set, which is the VMM's where it sends them */
  uint64_t page_bytes;    /* bytes of guest memory left */
  uint64_t device_bytes;  /* bytes of device state left */
  uint64_t bandwidth;     /* bytes a second; 0 where nothing was measured */
  uint64_t dirty_rate;    /* bytes a second */
  uint64_t device_us;     /* in which the slowest device gives away what it has left */
  uint64_t reading_us;    /* that the trackers take to be read */
  uint64_t quiescing_us;
  uint64_t loading_us;
  uint64_t downtime_us;   /* VFIO_FERRY_UNKNOWN before anything was measured */
  uint64_t inbound_limit; /* bytes a second; VFIO_FERRY_UNKNOWN where nothing is limited */
};

enum {
  VFIO_FERRY_LOAD_PAGES = 1 << 0, /* guest memory comes by the second descriptor, into the files of VFIO_FERRY_MEMORY_ADD */
  VFIO_FERRY_LOAD_RESET = 1 << 1, /* reset a device that nothing else brings back, even if it holds what it held before */
};

/* Begins to take in what the other host sends. The descriptors are as for struct vfio_ferry_save. */
struct vfio_ferry_load {
  struct vfio_ferry_header header;
  uint32_t flags; /* VFIO_FERRY_LOAD_... */
  uint32_t reserved;
  uint64_t step_us;
};

struct vfio_ferry_status {
  struct vfio_ferry_header header;
  uint32_t phase;
  uint32_t devices;       /* that were added */
  uint32_t hung;          /* of these, those that hang */
  uint32_t vcpus_stopped; /* 1: said since they last ran */
  uint64_t bytes;         /* of device state that were moved */
  uint64_t expected;      /* bytes of it in all, as far as the devices say; VFIO_FERRY_UNKNOWN */
  uint64_t memory_bytes;  /* of guest memory that were moved by the helper */
};

struct vfio_ferry_event {
  struct vfio_ferry_header header;
  uint32_t device; /* that it is about; 0 where it is about none */
  uint32_t phase;  /* VFIO_FERRY_PHASE_... the session is in */
  uint64_t microseconds;
  char text[VFIO_FERRY_TEXT_SIZE]; /* UTF-8, for a person */
};

struct vfio_ferry_progress {
  struct vfio_ferry_header header;
  uint32_t device;
  uint32_t state;         /* VFIO_FERRY_STATE_... */
  uint64_t bytes;         /* of its state that were moved */
  uint64_t pre_copy;      /* of these, before the stop */
  uint64_t expected;      /* in all; VFIO_FERRY_UNKNOWN */
};

struct vfio_ferry_arc {
  struct vfio_ferry_header header;
  uint32_t device;
  uint32_t from;  /* VFIO_FERRY_STATE_... */
  uint32_t to;
  int32_t error;  /* an errno; 0: it is there */
  uint64_t microseconds;
};

#ifdef __cplusplus
#define VFIO_FERRY_STATIC_ASSERT static_assert
#else
#define VFIO_FERRY_STATIC_ASSERT _Static_assert
#endif
#define VFIO_FERRY_ASSERT(structure, bytes) \
  VFIO_FERRY_STATIC_ASSERT(sizeof(struct structure) == (bytes), "struct " #structure " is not of " #bytes " bytes")
VFIO_FERRY_ASSERT(vfio_ferry_header, 16);
VFIO_FERRY_ASSERT(vfio_ferry_done, 16);
VFIO_FERRY_ASSERT(vfio_ferry_error, 288);
VFIO_FERRY_ASSERT(vfio_ferry_hello, 112);
VFIO_FERRY_ASSERT(vfio_ferry_device, 24);
VFIO_FERRY_ASSERT(vfio_ferry_device_add, 120);
VFIO_FERRY_ASSERT(vfio_ferry_device_info, 368);
VFIO_FERRY_ASSERT(vfio_ferry_device_arc, 24);
VFIO_FERRY_ASSERT(vfio_ferry_device_link, 32);
VFIO_FERRY_ASSERT(vfio_ferry_blob, 32);
VFIO_FERRY_ASSERT(vfio_ferry_tag, 32);
VFIO_FERRY_ASSERT(vfio_ferry_memory, 56);
VFIO_FERRY_ASSERT(vfio_ferry_mapping, 48);
VFIO_FERRY_ASSERT(vfio_ferry_tracking, 24);
VFIO_FERRY_ASSERT(vfio_ferry_bitmap, 40);
VFIO_FERRY_ASSERT(vfio_ferry_save, 64);
VFIO_FERRY_ASSERT(vfio_ferry_sent, 24);
VFIO_FERRY_ASSERT(vfio_ferry_estimate, 120);
VFIO_FERRY_ASSERT(vfio_ferry_load, 32);
VFIO_FERRY_ASSERT(vfio_ferry_status, 56);
VFIO_FERRY_ASSERT(vfio_ferry_event, 288);
VFIO_FERRY_ASSERT(vfio_ferry_progress, 48);
VFIO_FERRY_ASSERT(vfio_ferry_arc, 40);

#endif
