/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock. In C because syscall(2) is variadic, and no C library has these calls. */
#define _GNU_SOURCE
#include "landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cconfinement.h"

int vf_landlock_version(void)
{
	long version = syscall(CALL_LANDLOCK_CREATE_RULESET, NULL, 0, ASK_VERSION);

	return version > 0 ? (int)version : 0;
}

static uint64_t file_accesses(int version)
{
	int bits = version >= 5 ? ACCESS_BITS_5 : version >= 3 ? ACCESS_BITS_3 : version == 2 ? ACCESS_BITS_2 : ACCESS_BITS_1;

	return (UINT64_C(1) << bits) - 1;
}

int vf_landlock_make(int version)
{
	struct ruleset_attributes all = {
		.files = file_accesses(version),
		.network = version >= 4 ? NETWORK_ALL : 0,
		.scope = version >= 6 ? SCOPE_ALL : 0,
	};

	/* A kernel that knows fewer fields takes them as long as they are 0. */
	return (int)syscall(CALL_LANDLOCK_CREATE_RULESET, &all, sizeof(all), 0);
}

/* Allows these for what is at the path, and those for all below it where that is a folder. */
static int allow(int rules, const char *path, uint64_t of_file, uint64_t of_folder)
{
	struct path_rule rule = {.allowed = of_file};
	struct stat status;
	int result = -1;
	int error;

	rule.folder = open(path, O_PATH | O_CLOEXEC);
	if (rule.folder < 0)
		return -1;
	if (fstat(rule.folder, &status) == 0) {
		if (S_ISDIR(status.st_mode))
			rule.allowed |= of_folder;
		result = (int)syscall(CALL_LANDLOCK_ADD_RULE, rules, RULE_PATH_BENEATH, &rule, 0);
	}
	error = errno;
	close(rule.folder);
	errno = error;
	return result;
}

int vf_landlock_allow_reading(int rules, const char *path)
{
	return allow(rules, path, ACCESS_READ_FILE, ACCESS_READ_FOLDER);
}

int vf_landlock_allow_files_in(int rules, const char *folder)
{
	return allow(rules, folder, ACCESS_WRITE_FILE, ACCESS_MAKE_FILE | ACCESS_REMOVE_FILE);
}

int vf_landlock_allow_removing_in(int rules, const char *folder)
{
	return allow(rules, folder, 0, ACCESS_REMOVE_FILE);
}

int vf_landlock_enforce(int rules)
{
	return (int)syscall(CALL_LANDLOCK_RESTRICT_SELF, rules, 0);
}
