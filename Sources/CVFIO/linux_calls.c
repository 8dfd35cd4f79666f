// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "vfio_ferry/linux_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
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

int vf_name_this_thread(const char *name)
{
	return prctl(PR_SET_NAME, name, 0, 0, 0);
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

int vf_is_same_file(int descriptor, int other)
{
	enum { DUPFD_QUERY = 1024 + 3 }; /* F_DUPFD_QUERY, which an older libc lacks */
	const int result = fcntl(descriptor, DUPFD_QUERY, other);
	const pid_t own = getpid();
	long order;

	/* EINVAL is a kernel before 6.10, which has another call for it, where that was not left out. */
	if (result >= 0 || errno != EINVAL)
		return result;
	order = syscall(SYS_kcmp, own, own, KCMP_FILE, (unsigned long)descriptor, (unsigned long)other);
	return order < 0 ? -1 : order == 0;
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

int vf_seal_all(int descriptor)
{
	return fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

int vf_lock_on_fault(const void *address, unsigned long bytes)
{
	return mlock2(address, bytes, MLOCK_ONFAULT);
}

long vf_huge_page_size(int descriptor)
{
	struct statfs status;

	if (fstatfs(descriptor, &status) != 0)
		return -1;
	return status.f_type == HUGETLBFS_MAGIC ? status.f_bsize : 0;
}

int vf_signal_is_ignored(int signal)
{
	struct sigaction action;

	return sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int vf_receive_packet(int socket, void *bytes, unsigned long size, struct vf_packet *packet)
{
	union {
		char bytes[CMSG_SPACE(sizeof(packet->descriptors))];
		struct cmsghdr alignment;
	} control;
	struct iovec piece = {.iov_base = bytes, .iov_len = size};
	struct msghdr message = {
		.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	/* With MSG_TRUNC the result is the packet's size, also where the buffer has less. */
	ssize_t result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | MSG_TRUNC);

	if (result < 0)
		return -1;
	*packet = (struct vf_packet){
		.size = (unsigned long)result, .missing = (message.msg_flags & MSG_CTRUNC) != 0};
	for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
		if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
			continue;
		/* The buffer has room for no more than the array has. */
		packet->count = (int)((item->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(packet->descriptors, CMSG_DATA(item), (size_t)packet->count * sizeof(int));
	}
	return 0;
}

int vf_send_packet(int socket, const void *bytes, unsigned long size, const int *descriptors, int count)
{
	enum { MOST = 4 };
	union {
		char bytes[CMSG_SPACE(sizeof(int) * MOST)];
		struct cmsghdr alignment;
	} control = {{0}};
	struct iovec piece = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

	if (count < 0 || count > MOST) {
		errno = EINVAL;
		return -1;
	}
	if (count > 0) {
		size_t length = sizeof(int) * (size_t)count;

		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(length);
		struct cmsghdr *item = CMSG_FIRSTHDR(&message);
		item->cmsg_level = SOL_SOCKET;
		item->cmsg_type = SCM_RIGHTS;
		item->cmsg_len = CMSG_LEN(length);
		memcpy(CMSG_DATA(item), descriptors, length);
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -1 : 0;
}

void vf_receive_descriptors_only(int socket)
{
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
	static const int extras[] = {SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD};
	const int off = 0;

	/* A kernel that does not know one of them has not got it on. */
	for (unsigned int i = 0; i < sizeof(extras) / sizeof(extras[0]); i++)
		setsockopt(socket, SOL_SOCKET, extras[i], &off, sizeof(off));
}

int vf_accept(int socket)
{
	return accept4(socket, NULL, NULL, SOCK_CLOEXEC);
}

int vf_peer_credentials(int socket, int *pid, unsigned int *uid, unsigned int *gid)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return -1;
	*pid = credentials.pid;
	*uid = credentials.uid;
	*gid = credentials.gid;
	return 0;
}
