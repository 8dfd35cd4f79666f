// SPDX-License-Identifier: Apache-2.0
#include "crew.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { most = 64 };

struct crew {
	atomic_int turn;    /* the part that is under way; threads wait for the next */
	atomic_int missing; /* threads that are still at work */
	atomic_int given;   /* places that threads have taken */
	unsigned microseconds;
	int count, ends;
	long took[most];
	pthread_t threads[most];
};

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000 + time.tv_nsec;
}

static void wait_while(atomic_int *word, int value)
{
	while (atomic_load(word) == value)
		syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(atomic_int *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

static void *work(void *argument)
{
	struct crew *crew = argument;
	int place = atomic_fetch_add(&crew->given, 1);

	for (int turn = 0;; turn++) {
		long began;

		wait_while(&crew->turn, turn);
		if (crew->ends)
			return NULL;
		began = now();
		if (crew->microseconds > 0)
			usleep(crew->microseconds);
		crew->took[place] = now() - began;
		if (atomic_fetch_sub(&crew->missing, 1) == 1)
			wake_all(&crew->missing);
	}
}

struct crew *crew_begin(int threads)
{
	struct crew *crew = calloc(1, sizeof(*crew));

	if (!crew)
		return NULL;
	for (; crew->count < threads && crew->count < most; crew->count++) {
		if (pthread_create(&crew->threads[crew->count], NULL, work, crew) != 0) {
			crew_end(crew);
			return NULL;
		}
	}
	return crew;
}

long crew_work(struct crew *crew, int parts, unsigned microseconds)
{
	long began = now(), slept = 0;

	crew->microseconds = microseconds;
	for (int part = 0; part < parts; part++) {
		long slowest = 0;
		int missing;

		atomic_store(&crew->missing, crew->count);
		atomic_fetch_add(&crew->turn, 1);
		wake_all(&crew->turn);
		while ((missing = atomic_load(&crew->missing)) > 0)
			wait_while(&crew->missing, missing);
		for (int index = 0; index < crew->count; index++)
			if (crew->took[index] > slowest)
				slowest = crew->took[index];
		slept += slowest;
	}
	return now() - began - slept;
}

void crew_end(struct crew *crew)
{
	crew->ends = 1;
	atomic_fetch_add(&crew->turn, 1);
	wake_all(&crew->turn);
	for (int index = 0; index < crew->count; index++)
		pthread_join(crew->threads[index], NULL);
	free(crew);
}
