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

int vf_signal_is_ignored(int signal)
{
	struct sigaction action;

	return sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}
