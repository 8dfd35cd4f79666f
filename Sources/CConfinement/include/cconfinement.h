/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process does to itself so that it can do less: a filter of system calls (libseccomp), rules for files and sockets
 * (Landlock), capabilities. What is allowed is said in Swift; see filter.c and landlock.c for why the doing is in C.
 */
#ifndef VFIO_FERRY_CCONFINEMENT_H
#define VFIO_FERRY_CCONFINEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- System calls ---- */

/* What an argument of a call is compared with. */
enum vf_condition {
	VF_CONDITION_NONE = 1,		/* the call is allowed, whatever its arguments */
	VF_CONDITION_MASKED = 2,	/* argument & mask == value */
};

/* A system call that is allowed. Several of one call: each allows it. */
struct vf_call_rule {
	const char *name;
	enum vf_condition condition;
	unsigned int argument;		/* from 0 on */
	uint64_t mask;
	uint64_t value;
};

/* A filter that is ready and not in force yet. */
struct vf_call_filter;

/* How making a filter ended. */
enum vf_filter_result {
	VF_FILTER_MADE = 1,
	VF_FILTER_NO_LIBRARY = 2,	/* this machine has no libseccomp, or not what is needed of it */
	VF_FILTER_UNKNOWN_CALL = 3,	/* libseccomp does not know the call of the rule at *place */
	VF_FILTER_FAILED = 4,		/* errno says why; *place is the rule, where it was one's fault */
};

/*
 * Loads libseccomp and makes a filter of these rules. A call that no rule allows fails with EPERM and is told of, a line on
 * standard error; clone3 fails with ENOSYS and without a word, so that the C library uses clone, whose flags can be seen.
 * open and openat are carried out by a handler, so that a file that the kernel does not let this process have is told of
 * by its path. *filter is the caller's, to be given to vf_filter_load.
 */
enum vf_filter_result vf_filter_make(const struct vf_call_rule *rules, size_t count, struct vf_call_filter **filter,
				     size_t *place);

/*
 * Puts a filter in force, for all threads there are and will be, for good, and releases it. Takes the signal SIGSYS. Needs
 * no-new-privileges. prefix begins each line that tells of a call, at most 63 bytes of it. 0, or -1 and errno.
 */
int vf_filter_load(struct vf_call_filter *filter, const char *prefix);
void vf_filter_release(struct vf_call_filter *filter);

/* ---- Files and sockets ---- */

/* The version of Landlock that this kernel has; 0 where it has none, or it is off. */
int vf_landlock_version(void);

/*
 * A set of rules that allows nothing of what that version of Landlock can refuse: no file, no folder, no TCP port, no
 * socket of another process by an abstract name, no signal to another process. A descriptor, close-on-exec; -1 and errno.
 */
int vf_landlock_make(int version);

/* Allows reading what is at this path, and all below it where that is a folder. 0, or -1 and errno. */
int vf_landlock_allow_reading(int rules, const char *path);

/* Allows making, writing, renaming and removing files in this folder and below it, and no reading. 0, or -1 and errno. */
int vf_landlock_allow_files_in(int rules, const char *folder);

/* Allows removing files and sockets in this folder and below it, and nothing else. 0, or -1 and errno. */
int vf_landlock_allow_removing_in(int rules, const char *folder);

/* Puts the rules in force for the calling thread and those that it starts, for good. Needs no-new-privileges. */
int vf_landlock_enforce(int rules);

/* ---- The process ---- */

/* Gives up for good that a program or a file can give this process more than it has (PR_SET_NO_NEW_PRIVS). */
int vf_set_no_new_privileges(void);

/* No memory dumps, and no process of the same user may look into this one (PR_SET_DUMPABLE). */
int vf_set_not_dumpable(void);

/* Cuts down all capabilities to these, a bit for each by its number, also for programs to be started; what this process does
 * not have it does not get. 0, or -1 and errno. */
int vf_keep_capabilities(uint64_t kept);

/* The capabilities that this process has or could get by itself. */
int vf_capabilities(uint64_t *held);

/* The number of CAP_IPC_LOCK and of CAP_SYS_ADMIN, as bits. */
extern const uint64_t vf_capability_ipc_lock;
extern const uint64_t vf_capability_sys_admin;

/*
 * Becomes a user and a group for good, with no other groups: real, effective and saved ids, and checks that they are. What is
 * this user and group already, and may not change its other groups, keeps these. 0, or -1 and errno.
 */
int vf_become(unsigned int user, unsigned int group);

/*
 * Whether a user and a group, with no other groups, may make and remove files in a folder: 0, or -1 and what making one would
 * fail with. 0 as well where this process may not become that user. To be called while the process has one thread.
 */
int vf_may_write(const char *folder, unsigned int user, unsigned int group);

/* Closes all descriptors in a range, both ends included. 0, or -1 and errno. */
int vf_close_range(unsigned int first, unsigned int last);

#endif
