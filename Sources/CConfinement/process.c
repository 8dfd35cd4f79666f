/* SPDX-License-Identifier: Apache-2.0 */
/* What a process gives up. In C because prctl(2) and syscall(2) are variadic, and libcap would be one more library. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cconfinement.h"

const uint64_t vf_capability_ipc_lock = UINT64_C(1) << CAP_IPC_LOCK;
const uint64_t vf_capability_sys_admin = UINT64_C(1) << CAP_SYS_ADMIN;

int vf_set_no_new_privileges(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int vf_set_not_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static struct __user_cap_header_struct header(void)
{
	return (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
}

int vf_keep_capabilities(uint64_t kept)
{
	struct __user_cap_header_struct self = header();
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	/* What programs inherit beside: no kernel before 4.3 has it. */
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &self, sets) != 0)
		return -1;
	for (int half = 0; half < _LINUX_CAPABILITY_U32S_3; half++) {
		uint32_t mask = (uint32_t)(kept >> (32 * half));

		sets[half].permitted &= mask;
		sets[half].effective = sets[half].permitted;
		sets[half].inheritable = 0;
	}
	return (int)syscall(SYS_capset, &self, sets);
}

int vf_capabilities(uint64_t *held)
{
	struct __user_cap_header_struct self = header();
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &self, sets) != 0)
		return -1;
	*held = 0;
	for (int half = 0; half < _LINUX_CAPABILITY_U32S_3; half++) {
		uint32_t all = sets[half].permitted | sets[half].effective | sets[half].inheritable;

		*held |= (uint64_t)all << (32 * half);
	}
	return 0;
}

static bool is_user(uid_t user, gid_t group)
{
	uid_t real, effective, saved;
	gid_t real_group, effective_group, saved_group;

	return getresuid(&real, &effective, &saved) == 0 && getresgid(&real_group, &effective_group, &saved_group) == 0 &&
	       real == user && effective == user && saved == user && real_group == group && effective_group == group &&
	       saved_group == group;
}

int vf_become(unsigned int user, unsigned int group)
{
	bool was = is_user(user, group);

	/* Groups first: they can't be given up any more by who is no longer root. */
	if (setgroups(0, NULL) != 0 && !(was && errno == EPERM))
		return -1;
	if (setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0)
		return -1;
	if (!is_user(user, group) || (!was && getgroups(0, NULL) != 0)) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

int vf_may_write(const char *folder, unsigned int user, unsigned int group)
{
	uid_t was = getuid();
	gid_t was_group = getgid();
	int count = getgroups(0, NULL), result = 0, error = 0;
	gid_t *groups = count < 0 ? NULL : malloc((size_t)(count + 1) * sizeof *groups);

	if (groups == NULL || getgroups(count, groups) != count) {
		free(groups);
		return 0;
	}
	/* access(2) asks as the real user and group, and the other groups; nothing else goes by the first two. */
	if (setgroups(0, NULL) == 0) {
		if (setresgid(group, -1, -1) == 0 && setresuid(user, -1, -1) == 0) {
			result = access(folder, W_OK | X_OK);
			error = errno;
		}
		/* Who could become another can become itself. */
		if (setresuid(was, -1, -1) != 0 || setresgid(was_group, -1, -1) != 0 || setgroups((size_t)count, groups) != 0)
			abort();
	}
	free(groups);
	errno = error;
	return result;
}

int vf_close_range(unsigned int first, unsigned int last)
{
	/* The number is the same on every architecture; older headers lack its name. */
	return (int)syscall(436, first, last, 0);
}
