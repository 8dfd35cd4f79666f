/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells ThreadSanitizer of Swift's Mutex where that waits. Its first try is an atomic operation in the program, which
 * ThreadSanitizer sees; where another thread has it, Swift's own library, which is not instrumented, lets the kernel hand
 * it over (futex(2), FUTEX_LOCK_PI), and everything under a mutex that was ever waited for looks like a race.
 *
 * tools/sanitize preloads these two functions in place of the library's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SWIFT_METHOD __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *self

extern void __tsan_acquire(void *address);
extern void __tsan_release(void *address);

static void ask(void *word, int operation)
{
	while (syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0) != 0) {
		if (errno != EINTR && errno != EAGAIN)
			abort();
	}
}

/* Synchronization._MutexHandle._lockSlow(UInt32) */
SWIFT_METHOD void lock_slow(uint32_t thread, SELF) __asm__("$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF");

SWIFT_METHOD void lock_slow(uint32_t thread, SELF)
{
	(void)thread;
	ask(self, FUTEX_LOCK_PI);
	__tsan_acquire(self);
}

/* Synchronization._MutexHandle._unlockSlow() */
SWIFT_METHOD void unlock_slow(SELF) __asm__("$s15Synchronization12_MutexHandleV11_unlockSlowyyF");

SWIFT_METHOD void unlock_slow(SELF)
{
	__tsan_release(self);
	ask(self, FUTEX_UNLOCK_PI);
}
