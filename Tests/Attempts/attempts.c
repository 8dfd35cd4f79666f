/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "attempts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

/* Open before the confinement, and not handed over. */
static int left_open = -1;
static pid_t parent;

void attempts_prepare(void)
{
	left_open = open("/dev/null", O_RDWR);
	parent = getppid();
}

static int result(long value)
{
	return value < 0 ? errno : 0;
}

/* ---- What a helper does ---- */

static void *nothing(void *argument)
{
	return argument;
}

static int thread(void)
{
	pthread_t made;
	int error = pthread_create(&made, NULL, nothing, NULL);

	return error ? error : pthread_join(made, NULL);
}

static int memory(void)
{
	void *mapped = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mapped == MAP_FAILED)
		return errno;
	memset(mapped, 1, 1 << 22);
	return result(munmap(mapped, 1 << 22));
}

static int locked_memory(void)
{
	void *mapped = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mapped == MAP_FAILED ? errno : result(mlock(mapped, 1 << 16));
}

static int sealed_file(void)
{
	int file = memfd_create("attempt", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (file < 0 || ftruncate(file, 4096) != 0)
		return errno;
	return result(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}

static int bell(void) { return result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
static int read_sysfs(void) { return result(open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC)); }
static int list_sysfs(void) { return result(open("/sys/class", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }
/* The kernel gets the request, and has something else to say of this file. */
static int vfio_ioctl(void) { return result(ioctl(STDIN_FILENO, 0x3b64)); }

/* ---- What it has no business with ---- */

static int left_descriptor(void) { return result(fcntl(left_open, F_GETFD)); }
static int read_file(void) { return result(open("/etc/passwd", O_RDONLY | O_CLOEXEC)); }
static int write_sysfs(void) { return result(open("/sys/bus/pci/rescan", O_WRONLY | O_CLOEXEC)); }
static int read_proc(void) { return result(open("/proc/self/maps", O_RDONLY | O_CLOEXEC)); }
static int open_device(void) { return result(open("/dev/zero", O_RDWR | O_CLOEXEC)); }
static int list_root(void) { return result(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }
static int make_file(void) { return result(open("/tmp/vfio-ferry-attempt", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)); }
static int temporary(void) { return result(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)); }
static int remove_file(void) { return result(unlinkat(AT_FDCWD, "/tmp/vfio-ferry-nothing", 0)); }
/* That of a device's node, to what everybody may read, would be worth the most. */
static int change_mode(void) { return result(fchmod(STDERR_FILENO, 0644)); }
static int make_folder(void) { return result(mkdirat(AT_FDCWD, "/tmp/vfio-ferry-attempt", 0700)); }

/* By a call that no handler makes in its place. */
static int past_handler(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {.flags = O_RDONLY};

	return result(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof(how), 0));
}

static int network_socket(void) { return result(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
static int unix_socket(void) { return result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
static int netlink_socket(void) { return result(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)); }

static int socket_pair(void)
{
	int pair[2];

	return result(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
}

/* On whatever descriptor: the filter does not look which. */
static int connect_socket(void)
{
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return result(connect(STDIN_FILENO, (struct sockaddr *)&there, sizeof(there)));
}

static int send_elsewhere(void)
{
	struct sockaddr_un there = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};

	return result(sendto(STDIN_FILENO, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&there, sizeof(there)));
}

static int run_program(void)
{
	char *const arguments[] = {(char *)"true", NULL};
	char *const environment[] = {NULL};

	return result(execve("/bin/true", arguments, environment));
}

static int new_process(void)
{
	long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (child == 0)
		_exit(0);
	return result(child);
}

static int new_kind_of_clone(void) { return result(syscall(SYS_clone3, NULL, 0)); }
static int trace(void) { return result(ptrace(PTRACE_ATTACH, parent, 0, 0)); }
static int signal_other(void) { return result(kill(parent, 0)); }
static int other_memory(void) { return result(process_vm_readv(parent, NULL, 0, NULL, 0, 0)); }
static int other_descriptor(void) { return result(syscall(SYS_pidfd_open, parent, 0)); }
static int mount_something(void) { return result(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL)); }
static int new_namespace(void) { return result(syscall(SYS_unshare, CLONE_NEWUSER)); }
static int bpf(void) { return result(syscall(SYS_bpf, 0, NULL, 0)); }
static int uring(void) { return result(syscall(SYS_io_uring_setup, 1, NULL)); }
static int raise_limit(void) { return result(setrlimit(RLIMIT_NOFILE, &(struct rlimit){1 << 20, 1 << 20})); }
static int be_dumpable(void) { return result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }
static int be_root(void) { return result(syscall(SYS_setresuid, 0, 0, 0)); }
static int take_signal(void) { return result(sigaction(SIGSYS, &(struct sigaction){.sa_handler = SIG_DFL}, NULL)); }

static int terminal_ioctl(void)
{
	struct termios settings;

	return result(ioctl(STDIN_FILENO, TCGETS, &settings));
}

static int program_memory(void)
{
	void *mapped = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mapped == MAP_FAILED ? errno : 0;
}

static int make_program(void)
{
	void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mapped == MAP_FAILED ? ENOMEM : result(mprotect(mapped, 4096, PROT_READ | PROT_EXEC));
}

static const struct {
	const char *name;
	int (*make)(void);
} attempts[] = {
	/* First, while nothing else has its number. */
	{"a descriptor that was left open", left_descriptor},
	{"a thread", thread},
	{"memory", memory},
	{"locked memory", locked_memory},
	{"a sealed file in memory", sealed_file},
	{"a bell", bell},
	{"reading sysfs", read_sysfs},
	{"listing sysfs", list_sysfs},
	{"an ioctl of VFIO's", vfio_ioctl},
	{"reading a file", read_file},
	{"writing to sysfs", write_sysfs},
	{"reading procfs", read_proc},
	{"opening a device", open_device},
	{"listing the root folder", list_root},
	{"making a file", make_file},
	{"a temporary file", temporary},
	{"removing a file", remove_file},
	{"changing a mode", change_mode},
	{"making a folder", make_folder},
	{"opening past the handler", past_handler},
	{"a network socket", network_socket},
	{"a Unix socket", unix_socket},
	{"a netlink socket", netlink_socket},
	{"a pair of sockets", socket_pair},
	{"connecting", connect_socket},
	{"sending to an address", send_elsewhere},
	{"running a program", run_program},
	{"a new process", new_process},
	{"clone3", new_kind_of_clone},
	{"tracing a process", trace},
	{"signalling a process", signal_other},
	{"reading a process's memory", other_memory},
	{"taking hold of a process", other_descriptor},
	{"mounting", mount_something},
	{"a namespace", new_namespace},
	{"a BPF program", bpf},
	{"io_uring", uring},
	{"raising a limit", raise_limit},
	{"being dumpable", be_dumpable},
	{"being root", be_root},
	{"taking SIGSYS", take_signal},
	{"another ioctl", terminal_ioctl},
	{"memory to run", program_memory},
	{"making memory a program", make_program},
};

enum { COUNT = sizeof(attempts) / sizeof(attempts[0]) };

const char *attempt_name(int number)
{
	return number < COUNT ? attempts[number].name : NULL;
}

int attempt_make(int number)
{
	return attempts[number].make();
}

const char *attempt_error(int error)
{
	return strerrorname_np(error);
}
