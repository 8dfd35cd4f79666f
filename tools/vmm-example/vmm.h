/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm-example: a VMM without a guest, that moves its VFIO devices with `vfio-ferry helper`. README.md says what to look at.
 *
 *   main.c         options, and what a person sees
 *   helper.c       the helper's process, and the protocol: requests, replies, events
 *   session.c      what both sides ask a helper first: hello, devices, memory
 *   device.c       a device, its configuration space and its interrupts
 *   memory.c       guest memory, its I/O addresses, and the "guest" that writes to it
 *   peer.c         the connections of the two VMMs
 *   pages.c        guest memory that the VMM sends by itself
 *   source.c       a move, on the source
 *   destination.c  a move, on the destination
 *   recovery.c     when a helper has died
 *   names.c        numbers of the protocol in words
 *   crash.c        crashes that are played, for tests
 */
#ifndef VMM_H
#define VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "vfio_ferry.h"

enum { page_bytes = 4096, devices_max = 16, irqs_max = 8, config_max = 4096 };

/* ---- main.c ---- */

/* Where --crash-at and its like can strike. */
enum step {
  STEP_NONE,
  STEP_AFTER_HELLO,
  STEP_AFTER_ADD,
  STEP_AFTER_MEMORY,
  STEP_AFTER_TRACKING,
  STEP_AFTER_BEGIN,
  STEP_AFTER_READY,
  STEP_AFTER_VCPUS_STOPPED,
  STEP_AFTER_QUIESCE,
  STEP_AFTER_BLOBS,
  STEP_AFTER_COMPLETE,
  STEP_BEFORE_COMMIT,
  STEP_AFTER_COMMIT,
  STEP_AFTER_LOADED,
  STEP_AFTER_RESTORE,
  STEP_BEFORE_RESUME,
  STEP_AFTER_RESUME,
  STEP_COUNT
};

/* Prints a line on what was done, with the time. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Prints what failed on standard error, and returns false. The second adds errno. */
bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Milliseconds since the program began. */
uint64_t milliseconds(void);
/* Waits for one of these, which are blocked; returns which came. */
int await_signal(int wanted, int other);

/* ---- helper.c ---- */

/* Room for any packet of the protocol. */
union packet {
  struct vfio_ferry_header header;
  struct vfio_ferry_error error;
  struct vfio_ferry_event event;
  struct vfio_ferry_progress progress;
  struct vfio_ferry_arc arc;
  struct vfio_ferry_estimate estimate;
  unsigned char bytes[VFIO_FERRY_MAX_PACKET];
};

struct helper {
  pid_t pid;
  int socket;       /* -1: there is no helper */
  uint32_t number;  /* of the last request */
  bool is_gone;     /* it has died: what was asked of it may or may not have happened */
  /* What its events have told. */
  uint32_t phase;   /* VFIO_FERRY_PHASE_... */
  bool is_ready, is_loaded, has_failed, should_throttle, has_decided;
};

/* A request, and where its reply goes. */
struct question {
  const char *what;                        /* for messages */
  struct vfio_ferry_header *request;       /* the whole structure is behind it; `number` is filled in here */
  int descriptors[VFIO_FERRY_MAX_DESCRIPTORS]; /* as many as the header says; they stay the caller's */
  struct vfio_ferry_header *reply;         /* NULL: a bare struct vfio_ferry_done */
  size_t reply_size;
  int *file;                               /* takes the descriptor that comes with the reply, or -1; NULL: none may come */
};

/* The header of a request of this type, for a structure of this size. */
struct vfio_ferry_header head(uint32_t type, size_t size, uint32_t descriptors);

bool helper_start(struct helper *helper, const char *program);
/* Sends it, and waits for its reply; events that come meanwhile are printed and noted. False: it failed, and was printed. */
bool helper_ask(struct helper *helper, struct question question);
/* The same where the request is a header alone, and so is the reply. */
bool helper_tell(struct helper *helper, uint32_t type, const char *what);
/* Takes the event that waits. False: the helper is gone. */
bool helper_take_event(struct helper *helper);
/* Hangs up, and waits for its end. */
void helper_end(struct helper *helper);
/* Ends it as a crash would. */
void helper_kill(struct helper *helper);

/* ---- device.c ---- */

struct device {
  const char *argument;             /* as on the command line */
  const char *tag;                  /* the file with its compatibility tag; NULL: there is none */
  char name[VFIO_FERRY_NAME_SIZE];  /* as the helper wants it */
  uint32_t id;                      /* what we and the helper call it */
  int fd;
  uint32_t number;                  /* in the iommufd */
  uint32_t region_count, irq_kinds; /* of a PCI device */
  uint32_t page_table;              /* 0: it is attached to the address space itself, as emulated devices are */
  struct vfio_ferry_device_info info; /* what the helper has said last */
  /* Interrupts: eventfds where the guest's interrupt controller would be. */
  uint32_t irq_index, irq_count;
  int irqs[irqs_max];
  uint64_t pending;                 /* interrupts that came and no vCPU has taken yet */
  uint32_t config_size;
  uint8_t config[config_max];
};

struct address_space {
  int iommufd;
  uint32_t ioas;
};

bool device_open(struct device *device, struct address_space *space, const struct device *others, int count);
/* Switches as many interrupts on as it has, of the best kind; as the guest's driver would. */
bool device_enable_interrupts(struct device *device);
bool device_set_interrupts(struct device *device, uint32_t index, uint32_t count);
/* Counts the interrupts that have come since the last time. */
bool device_take_interrupts(struct device *device);
bool device_read_config(struct device *device);
bool device_restore_config(const struct device *device);
/* Writes values that can be told again to its registers; looks whether they are there. */
bool device_mark(const struct device *device);
bool device_check_mark(const struct device *device);
/* What goes along in the helper's stream of a device: a file, or -1. */
int device_make_blob(struct device *device, uint32_t *size);
bool device_restore_blob(struct device *device, int file, uint32_t size);

/* ---- memory.c ---- */

struct memory {
  uint64_t bytes, guest, iova; /* bytes 0: there is none */
  int file;
  unsigned char *at;
};

bool space_make(struct address_space *space);
bool memory_make(struct memory *memory);
bool memory_map(const struct memory *memory, const struct address_space *space);
uint64_t memory_checksum(const struct memory *memory);

/* A vCPU that writes to random pages, and the log that a hypervisor would keep of that. */
bool vcpus_start(const struct memory *memory, uint64_t writes_per_second);
void vcpus_stop(void);
/* EVENT_THROTTLE: half as fast from now on. */
void vcpus_slow(void);
/* Adds what the vCPUs have written since the last time to a bitmap; false: nothing. */
bool vcpus_take_log(uint64_t *bitmap, uint64_t words);

/* ---- peer.c ---- */

/* What one VMM says to the other. */
enum word {
  WORD_AGREE = 1, /* both: this is what I have; no answer but the same one */
  WORD_REFUSE,    /* destination: it does not fit */
  WORD_COMPLETE,  /* source: everything has gone out; `value` is the memory's checksum, or 0 */
  WORD_LOADED,    /* destination: it is all here, and I run it if you say so */
  WORD_COMMITTED, /* source: it is yours. I do not run it any more, whatever happens */
  WORD_RUNNING,   /* destination: it runs here */
  WORD_ABORT,     /* both: it stays on the source. Not after COMMITTED */
};

/* Who sends guest memory. */
enum pages { PAGES_NONE = 1, PAGES_BY_HELPER, PAGES_BY_VMM };

struct message {
  uint32_t magic;
  uint32_t word;
  uint32_t devices; /* with AGREE */
  uint32_t pages;   /* with AGREE: enum pages */
  uint64_t bytes;   /* with AGREE: of memory */
  uint64_t value;
};

struct peer {
  int control, stream, memory; /* -1: not there, or given to the helper */
  int kept[3];                 /* for peer_cut: duplicates, or -1 */
};

/* Makes the connections; `agreed` is what this side has. */
bool peer_connect(struct peer *peer, const char *place, const struct message *agreed);
bool peer_accept(struct peer *peer, const char *place, struct message *agreed);
bool peer_say(struct peer *peer, enum word word, uint64_t value);
/* The next thing that the other VMM says. */
bool peer_hear(struct peer *peer, struct message *message);
/* Waits for this word; another one, or none, is a failure. */
bool peer_await(struct peer *peer, enum word word);
const char *word_name(uint32_t word);
/* Ends the stream and the memory's connection, where they are ours still: nobody waits for what does not come. */
void peer_end_data(struct peer *peer);
/* For crashes that are played: keeps duplicates of all three, and cuts them, whoever has them by then. */
bool peer_keep(struct peer *peer);
void peer_cut(const struct peer *peer);
/* All bytes, or false with errno. */
bool write_all(int fd, const void *bytes, size_t count);
bool read_all(int fd, void *bytes, size_t count);

/* ---- pages.c ---- */

/* Sends the pages that are set in the bitmap, and clears them there. `bytes` is added to. */
bool pages_send(int connection, const struct memory *memory, uint64_t *bitmap, uint64_t words, uint64_t *bytes);
bool pages_send_end(int connection);
/* Takes one run of pages in; `is_end` says whether it was the end. */
bool pages_take(int connection, const struct memory *memory, bool *is_end);

/* ---- the whole ---- */

struct vmm {
  bool is_source;
  struct device devices[devices_max];
  int device_count;
  struct address_space space;
  struct memory memory;
  struct helper helper;
  struct peer peer;

  /* Options. */
  const char *helper_program, *place;
  enum pages pages;
  uint64_t vcpu_writes, downtime_us;
  double run_for;
  bool runs_until_signal, holds, marks, verifies, forces;
  enum step crash_at, helper_crash_at, cut_at, pause_at;

  /* Where the move is. */
  bool vcpus_run;
  bool has_begun;              /* source: SAVE_BEGIN was sent, so devices may be in other states than RUNNING */
  /* Of dirty pages: the helper's, with PAGES_BY_VMM, and otherwise our own, by which it gets to know what vCPUs have written. */
  uint64_t *bitmap, words;
  int bitmap_file;
  bool is_tracking;            /* by the helper that we have now */
  bool helper_knows_tags;      /* the helper that we have now speaks version 1.1 of the protocol, or a later one */
  bool memory_has_ended;       /* destination, with PAGES_BY_VMM */
  bool is_complete;            /* destination: the source has sent everything */
  uint64_t checksum;           /* of its memory then, or 0 */
  bool is_restored;            /* destination: nothing more is needed of the other side but its word */
  bool has_committed;          /* source: the other VMM may run the guest */
  bool is_ours;                /* destination: the source has committed, and never runs it again by itself */
};

/* How the program exits. */
enum ending {
  ENDING_DONE = 0,   /* the guest was moved */
  ENDING_FAILED = 1, /* it was not, or it is not known where it is */
  ENDING_BACK = 3,   /* source: it was not, and runs on here */
};

/* crash.c: a step was reached; here is where a crash is played. */
void reached(struct vmm *vmm, enum step step);
enum step step_named(const char *text); /* STEP_NONE: there is none of that name */
void print_steps(FILE *file);

/* session.c */
bool session_open(struct vmm *vmm);
bool session_add_devices(struct vmm *vmm);
bool session_add_memory(struct vmm *vmm);
bool session_start_tracking(struct vmm *vmm);
bool session_stop_tracking(struct vmm *vmm);
/* Tells the helper what the vCPUs have written, where it sends the pages. */
bool session_add_written(struct vmm *vmm);
/* The helper has the stream now, and the memory's connection where it sends: closes ours. If we kept them the other side would not
 * see the end when the helper dies. */
void session_gave_away(struct vmm *vmm);
/* Takes what has come of the helper and of the other VMM, and can wait for it. False: one of them has failed or given up. */
bool session_take(struct vmm *vmm, bool waits);

/* source.c, destination.c, recovery.c */
enum ending source_run(struct vmm *vmm);
enum ending destination_run(struct vmm *vmm);
/* Another helper with the same devices, and a line on what each can do. */
bool recovery_adopt(struct vmm *vmm);
/* Source, before COMMITTED: the guest runs on here. */
enum ending recovery_run_on(struct vmm *vmm);
/* Destination: the devices are emptied, because the guest is the other side's. */
enum ending recovery_empty(struct vmm *vmm);

/* names.c */
const char *phase_name(uint32_t phase);
const char *state_name(uint32_t state);
const char *tracker_name(uint32_t tracker);
const char *code_name(uint32_t code);
const char *verdict_name(uint32_t verdict);

#endif
