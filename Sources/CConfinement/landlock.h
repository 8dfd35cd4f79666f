/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock's calls and what they take, in this project's own words: the headers of Debian 12 are older than the kernels that
 * matter. The numbers of the calls are the same on every architecture.
 */
#ifndef VFIO_FERRY_LANDLOCK_H
#define VFIO_FERRY_LANDLOCK_H

#include <stdint.h>

enum {
	CALL_LANDLOCK_CREATE_RULESET = 444,
	CALL_LANDLOCK_ADD_RULE = 445,
	CALL_LANDLOCK_RESTRICT_SELF = 446,
};

/* landlock_create_ruleset: with this flag, and no attributes, it answers with its version. */
enum { ASK_VERSION = 1 };
/* landlock_add_rule: the only kind that is used here. */
enum { RULE_PATH_BENEATH = 1 };

/* What can be refused of files and folders, by bit, as far as it is allowed here; all up to the highest of a version are refused. */
enum {
	ACCESS_WRITE_FILE = 1 << 1,
	ACCESS_READ_FILE = 1 << 2,
	ACCESS_READ_FOLDER = 1 << 3,
	ACCESS_REMOVE_FILE = 1 << 5,
	ACCESS_MAKE_FILE = 1 << 8,
};

/* How many of these bits a version knows. */
enum {
	ACCESS_BITS_1 = 13,
	ACCESS_BITS_2 = 14, /* + linking and renaming between folders */
	ACCESS_BITS_3 = 15, /* + cutting off */
	ACCESS_BITS_5 = 16, /* + ioctl on devices that are opened from then on */
};

/* From version 4 on: binding and connecting TCP sockets. */
enum { NETWORK_ALL = 1 << 0 | 1 << 1 };
/* From version 6 on: abstract Unix sockets and signals of processes that are not confined alike. */
enum { SCOPE_ALL = 1 << 0 | 1 << 1 };

struct ruleset_attributes {
	uint64_t files;
	uint64_t network;
	uint64_t scope;
};

struct path_rule {
	uint64_t allowed;
	int32_t folder;
} __attribute__((packed));

_Static_assert(sizeof(struct ruleset_attributes) == 24, "as the kernel has it");
_Static_assert(sizeof(struct path_rule) == 12, "as the kernel has it");

#endif
