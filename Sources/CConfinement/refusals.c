/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "refusals.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Lines that are written, of all threads together: whoever makes calls in a loop does not fill a disk. */
enum { MOST_LINES = 1000 };

static uint64_t own_cookie;
static char own_prefix[64];
static atomic_uint lines;

/* Where the call's arguments are and its result goes. */
#if defined(__x86_64__)
static long argument(const ucontext_t *at, int index)
{
	static const int registers[] = {REG_RDI, REG_RSI, REG_RDX, REG_R10};

	return at->uc_mcontext.gregs[registers[index]];
}

static void set_result(ucontext_t *at, long result)
{
	at->uc_mcontext.gregs[REG_RAX] = result;
}
#elif defined(__aarch64__)
static long argument(const ucontext_t *at, int index)
{
	return (long)at->uc_mcontext.regs[index];
}

static void set_result(ucontext_t *at, long result)
{
	at->uc_mcontext.regs[0] = (unsigned long)result;
}
#else
#error "say where this architecture has a system call's arguments and result"
#endif

/* A line in the making, which is cut off where it gets too long. */
struct line {
	char text[512];
	size_t size;
};

static void put(struct line *line, const char *text)
{
	while (*text && line->size < sizeof(line->text) - 1) {
		/* A path may have anything in it. */
		char letter = *text++;
		line->text[line->size++] = letter >= ' ' && letter <= '~' ? letter : '?';
	}
}

static void put_number(struct line *line, unsigned long number, unsigned int base)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;

	digits[at] = 0;
	do {
		digits[--at] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	if (base == 16)
		put(line, "0x");
	put(line, &digits[at]);
}

static void tell(struct line *line)
{
	unsigned int before = atomic_fetch_add(&lines, 1);

	if (before > MOST_LINES) {
		/* It must not come round again. */
		atomic_store(&lines, MOST_LINES + 1);
		return;
	}
	if (before == MOST_LINES) {
		line->size = 0;
		put(line, own_prefix);
		put(line, "refused: no more is told of what is refused from here on");
	}
	line->text[line->size++] = '\n';
	if (write(STDERR_FILENO, line->text, line->size) < 0)
		return;
}

/* Calls that code which has no business here is likely to make. The others are told of by their number. */
static const char *name_of(int call)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {
#define NAME(call) {SYS_##call, #call}
#ifdef SYS_open
		NAME(open), NAME(creat), NAME(fork), NAME(vfork), NAME(unlink), NAME(mkdir), NAME(rename), NAME(link),
		NAME(symlink), NAME(chmod), NAME(chown), NAME(pipe), NAME(epoll_wait), NAME(mknod), NAME(rmdir),
#endif
		NAME(socket), NAME(socketpair), NAME(connect), NAME(bind), NAME(listen), NAME(accept), NAME(accept4),
		NAME(sendto), NAME(sendmmsg), NAME(execve), NAME(execveat), NAME(ptrace), NAME(bpf), NAME(mount),
		NAME(umount2), NAME(unshare), NAME(setns), NAME(clone), NAME(kill), NAME(tgkill), NAME(ioctl), NAME(prctl),
		NAME(mmap), NAME(mprotect), NAME(openat2), NAME(unlinkat), NAME(mkdirat), NAME(renameat2), NAME(linkat),
		NAME(symlinkat), NAME(mknodat), NAME(truncate), NAME(chdir), NAME(chroot), NAME(pivot_root),
		NAME(process_vm_readv), NAME(process_vm_writev), NAME(pidfd_open), NAME(pidfd_getfd), NAME(io_uring_setup),
		NAME(userfaultfd), NAME(perf_event_open), NAME(keyctl), NAME(add_key), NAME(setresuid), NAME(setuid),
		NAME(capset), NAME(seccomp), NAME(rt_sigaction), NAME(prlimit64), NAME(fcntl), NAME(dup), NAME(dup3),
		NAME(pipe2), NAME(epoll_create1), NAME(inotify_init1), NAME(open_by_handle_at), NAME(memfd_secret),
		NAME(init_module), NAME(finit_module), NAME(kexec_load), NAME(reboot), NAME(setsockopt), NAME(fallocate),
		NAME(fchmod), NAME(fchmodat),
#undef NAME
	};
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
		if (names[n].number == call)
			return names[n].name;
	return NULL;
}

static void tell_of_call(int call, const ucontext_t *at)
{
	struct line line = {.size = 0};
	const char *name = name_of(call);

	put(&line, own_prefix);
	put(&line, "refused: ");
	put(&line, name ? name : "a system call");
	put(&line, " (number ");
	put_number(&line, (unsigned long)call, 10);
	put(&line, ") with ");
	for (int n = 0; n < 3; n++) {
		put(&line, n ? ", " : "");
		put_number(&line, (unsigned long)argument(at, n), 16);
	}
	tell(&line);
}

/* Opens a file as the call would have, and tells of one that this process may not have. */
static long open_file(int folder, const char *path, unsigned int flags, unsigned int mode)
{
	struct line line = {.size = 0};
	long result = syscall(SYS_openat, folder, path, flags, mode, own_cookie);

	if (result >= 0)
		return result;
	result = -errno;
	/* The kernel has read the path, so it can be read. */
	if (result == -EACCES || result == -EPERM || result == -EROFS) {
		put(&line, own_prefix);
		put(&line, "refused: opening ");
		put(&line, path);
		put(&line, result == -EACCES ? " (EACCES)" : result == -EPERM ? " (EPERM)" : " (EROFS)");
		tell(&line);
	}
	return result;
}

static void refuse(int signal, siginfo_t *info, void *context)
{
	ucontext_t *at = context;
	int kept = errno;

	(void)signal;
	/* Somebody may send the signal, too. */
	if (info->si_code != 1 /* SYS_SECCOMP */)
		return;
	switch (info->si_syscall) {
	case SYS_openat:
		set_result(at, open_file((int)argument(at, 0), (const char *)argument(at, 1), (unsigned int)argument(at, 2),
					 (unsigned int)argument(at, 3)));
		break;
#ifdef SYS_open
	case SYS_open:
		set_result(at, open_file(AT_FDCWD, (const char *)argument(at, 0), (unsigned int)argument(at, 1),
					 (unsigned int)argument(at, 2)));
		break;
#endif
	default:
		tell_of_call(info->si_syscall, at);
		set_result(at, -EPERM);
	}
	errno = kept;
}

bool refusals_make_cookie(uint64_t *cookie)
{
	return getrandom(cookie, sizeof(*cookie), 0) == sizeof(*cookie);
}

bool refusals_listen(uint64_t cookie, const char *prefix)
{
	struct sigaction action = {.sa_sigaction = refuse, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigset_t set;

	own_cookie = cookie;
	strncpy(own_prefix, prefix, sizeof(own_prefix) - 1);
	if (sigaction(SIGSYS, &action, NULL) != 0)
		return false;
	/* One that is blocked would end the program in place of its handler. */
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	errno = pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	return errno == 0;
}
