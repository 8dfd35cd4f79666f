/* SPDX-License-Identifier: Apache-2.0 */
/* The handler of the signal that a call raises which no rule allows. */
#ifndef VFIO_FERRY_REFUSALS_H
#define VFIO_FERRY_REFUSALS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * openat is allowed to the handler, which says that it is the handler by a number in an argument that the kernel does not look
 * at: who does not know the number can't open anything without its being told. Whoever reads this process's memory knows it, so
 * it hinders and does not prevent; what may be opened is Landlock's affair. (It is not openat2, which systemd takes away from a
 * service with RestrictSUIDSGID= or DynamicUser=.)
 */
enum { REFUSALS_COOKIE_ARGUMENT = 4 };

/* A number that nobody can guess; false and errno where there is none. */
bool refusals_make_cookie(uint64_t *cookie);

/* Takes SIGSYS, and unblocks it in the calling thread. False and errno where that fails. */
bool refusals_listen(uint64_t cookie, const char *prefix);

#endif
