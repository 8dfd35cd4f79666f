// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "baseline.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

long baseline_copy(int from, int to, size_t chunk)
{
	char *buffer = aligned_alloc(4096, chunk);
	long total = 0;

	if (!buffer)
		return -1;
	for (;;) {
		ssize_t got = read(from, buffer, chunk);
		ssize_t put = 0;

		if (got <= 0) {
			free(buffer);
			return got < 0 ? -1 : total;
		}
		while (put < got) {
			ssize_t taken = write(to, buffer + put, (size_t)(got - put));

			if (taken <= 0) {
				free(buffer);
				return -1;
			}
			put += taken;
		}
		total += got;
	}
}

long baseline_spawn(const char *program, const char *argument, long *peak)
{
	char *arguments[] = { (char *)program, (char *)argument, NULL };
	posix_spawn_file_actions_t actions;
	struct timespec begin, end;
	struct rusage usage;
	int status, result;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	result = posix_spawn(&pid, program, &actions, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (result != 0 || wait4(pid, &status, 0, &usage) != pid || status != 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	*peak = usage.ru_maxrss;
	return (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000;
}
