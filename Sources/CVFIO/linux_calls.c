// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "vfio_ferry/linux_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

int vf_pidfd_open(int pid, unsigned int flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

int vf_pidfd_getfd(int pidfd, int target, unsigned int flags)
{
	return (int)syscall(SYS_pidfd_getfd, pidfd, target, flags);
}

const char *vf_error_name(int error)
{
	return strerrorname_np(error);
}

int vf_name_thread(unsigned long thread, const char *name)
{
	return pthread_setname_np(thread, name);
}

static _Thread_local char last_words[256];

static void say_last_words(int signal)
{
	(void)signal;
	/* SA_RESETHAND: the instruction that trapped traps again, and then the program ends by it. */
	if (write(STDERR_FILENO, last_words, strlen(last_words)) < 0)
		_exit(1);
}

static const int traps[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE};

static void listen_for_traps(void)
{
	struct sigaction action = {.sa_handler = say_last_words, .sa_flags = (int)SA_RESETHAND};

	for (unsigned int i = 0; i < sizeof(traps) / sizeof(traps[0]); i++)
		sigaction(traps[i], &action, NULL);
}

void vf_set_last_words(const char *text)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, listen_for_traps);
	/* A trap whose signal is blocked ends the program without its handler, and threads here block all signals. */
	sigset_t set;
	sigemptyset(&set);
	for (unsigned int i = 0; i < sizeof(traps) / sizeof(traps[0]); i++)
		sigaddset(&set, traps[i]);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	strncpy(last_words, text, sizeof(last_words) - 1);
}

unsigned int vf_device_major(unsigned long device)
{
	return major(device);
}

unsigned int vf_device_minor(unsigned long device)
{
	return minor(device);
}

int vf_eventfd(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

long vf_writev_nowait(int descriptor, const void *pieces, int count)
{
	return pwritev2(descriptor, pieces, count, -1, RWF_NOWAIT);
}

int vf_open_temporary(const char *folder)
{
	return open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

int vf_memfd_create(const char *name)
{
	return memfd_create(name, MFD_CLOEXEC);
}

int vf_memfd_create_sealable(const char *name)
{
	return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

int vf_seal_size(int descriptor)
{
	return fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

int vf_lock_on_fault(const void *address, unsigned long bytes)
{
	return mlock2(address, bytes, MLOCK_ONFAULT);
}

int vf_signal_is_ignored(int signal)
{
	struct sigaction action;

	return sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}
