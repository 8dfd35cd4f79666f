/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few calls that Swift can't make by itself. Each returns what the system call returns and leaves errno set.
 *
 * Plain C types stand for pid_t, dev_t and struct iovec: including their headers here would make Swift see
 * libc's types as this module's.
 */
#ifndef VFIO_FERRY_LINUX_CALLS_H
#define VFIO_FERRY_LINUX_CALLS_H


/* pidfd_open(2): a descriptor for a process. In C because Debian 12's glibc has it and older ones have not. */
int vf_pidfd_open(int pid, unsigned int flags);

/* pidfd_getfd(2): a duplicate of another process's descriptor, close-on-exec; the caller owns it. In C because
 * syscall(2) is variadic. */
int vf_pidfd_getfd(int pidfd, int target, unsigned int flags);

/* The C constant's name of an error number, or NULL. In C because strerrorname_np(3) needs _GNU_SOURCE. */
const char *vf_error_name(int error);

/* Names the calling thread, with at most 15 bytes. In C because prctl(2) is variadic. Naming another thread would write to a
 * file in /proc, which a confined process can't open. */
int vf_name_this_thread(const char *name);

/* An eventfd(2), close-on-exec and non-blocking; the caller owns it. In C because Swift's Glibc lacks the header. */
int vf_eventfd(void);

/* Whether two descriptors are one open file: 1 or 0, or -1 with errno where the kernel does not tell. In C because
 * kcmp(2) is called by syscall(2), and an older libc lacks F_DUPFD_QUERY. */
int vf_is_same_file(int descriptor, int other);

/* writev(2) that takes what fits and never waits, also on a descriptor in blocking mode; EAGAIN when nothing fits,
 * EOPNOTSUPP where the descriptor knows no such mode. In C because RWF_NOWAIT needs _GNU_SOURCE. */
long vf_writev_nowait(int descriptor, const void *pieces, int count);

/* A file without a name in a folder, for reading and writing, close-on-exec; the caller owns it. In C because O_TMPFILE
 * needs _GNU_SOURCE. */
int vf_open_temporary(const char *folder);

/* memfd_create(2) with close-on-exec; the caller owns the descriptor. In C because it needs _GNU_SOURCE. */
int vf_memfd_create(const char *name);

/* The same for a file that seals can be put on: without asking for that, it has the seal that forbids all others. */
int vf_memfd_create_sealable(const char *name);

/* Seals a file in memory so that its size stays, and puts a seal on its seals. In C because F_ADD_SEALS needs
 * _GNU_SOURCE. */
int vf_seal_size(int descriptor);

/* The same for all that is in it. Nobody may have it mapped for writing. */
int vf_seal_all(int descriptor);

/* mlock2() with MLOCK_ONFAULT, both of which Swift sees only with _GNU_SOURCE: counts as locked what takes no memory
 * before it is touched. */
int vf_lock_on_fault(const void *address, unsigned long bytes);

/* The size of a page, in bytes, of a file on hugetlbfs or in memory of huge pages; 0 where it is another kind of file, -1
 * with errno where it can't be told. In C because HUGETLBFS_MAGIC is a macro of a header that Swift does not see. */
long vf_huge_page_size(int descriptor);

/* Whether a signal is ignored, as nohup(1) arranges it. In C because Swift can't compare with SIG_IGN. */
int vf_signal_is_ignored(int signal);

/* What the calling thread's last words are, should the program trap in it: written to standard error, once, before the
 * program ends as it would have. The text is copied, up to 255 bytes; an empty one says nothing. In C because a signal
 * handler may only call what POSIX lists, and Swift's runtime is not on that list. */
void vf_set_last_words(const char *text);

/* The most descriptors that are taken with one packet. */
enum { VF_PACKET_DESCRIPTORS = 2 };

/* A packet that has come, and its descriptors: close-on-exec, and the caller's, all of them. */
struct vf_packet {
	unsigned long size;	/* bytes that were sent; more than the buffer has where the rest is lost */
	int missing;		/* whether more descriptors were sent than are here */
	int count;
	int descriptors[VF_PACKET_DESCRIPTORS];
};

/* recvmsg(2) of one packet, which never waits: 0, or -1 and errno. Of a socket that the other end has closed it is one of
 * 0 bytes. In C because of the CMSG macros. */
int vf_receive_packet(int socket, void *bytes, unsigned long size, struct vf_packet *packet);

/* sendmsg(2) of one packet with up to 4 descriptors, which stay the caller's. It never waits and raises no signal. Returns
 * 0, or -1 and errno. In C because of the CMSG macros. */
int vf_send_packet(int socket, const void *bytes, unsigned long size, const int *descriptors, int count);

/* Has packets come with descriptors only, whatever else whoever made the socket asked for (SO_PASSCRED and its like). In C
 * because SO_PASSPIDFD is newer than some headers. */
void vf_receive_descriptors_only(int socket);

/* accept4(2), close-on-exec; the caller owns the descriptor. In C because it needs _GNU_SOURCE. */
int vf_accept(int socket);

/* Who connected, or made the pair (SO_PEERCRED). In C because struct ucred needs _GNU_SOURCE. */
int vf_peer_credentials(int socket, int *pid, unsigned int *uid, unsigned int *gid);

/* The halves of a device number. In C because major(3) and minor(3) are macros. */
unsigned int vf_device_major(unsigned long device);
unsigned int vf_device_minor(unsigned long device);

#endif
