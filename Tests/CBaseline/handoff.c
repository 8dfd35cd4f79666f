// SPDX-License-Identifier: Apache-2.0
#include "handoff.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vfio_ferry/vfio.h"

enum { nothing = -1, quit = -2 };

struct worker {
	struct handoff *handoff;
	pthread_t thread;
	pthread_cond_t asked;
	int device, data;
	int request; /* a state, nothing, or quit */
	int result;
};

struct handoff {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	int count, missing;
	struct worker workers[];
};

static int set_state(struct worker *worker, uint32_t state)
{
	struct vf_request_mig_state request = {
		.header.argsz = sizeof(request),
		.header.flags = VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
		.body.device_state = state,
		.body.data_fd = -1,
	};

	if (ioctl(worker->device, VF_VFIO_DEVICE_FEATURE, &request) < 0)
		return -errno;
	if (worker->data >= 0)
		close(worker->data);
	worker->data = request.body.data_fd;
	return 0;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct handoff *handoff = worker->handoff;

	pthread_mutex_lock(&handoff->lock);
	for (;;) {
		int request, result;

		while (worker->request == nothing)
			pthread_cond_wait(&worker->asked, &handoff->lock);
		request = worker->request;
		if (request == quit)
			break;
		pthread_mutex_unlock(&handoff->lock);
		result = set_state(worker, (uint32_t)request);
		pthread_mutex_lock(&handoff->lock);
		worker->request = nothing;
		worker->result = result;
		if (--handoff->missing == 0)
			pthread_cond_signal(&handoff->answered);
	}
	pthread_mutex_unlock(&handoff->lock);
	if (worker->data >= 0)
		close(worker->data);
	return NULL;
}

struct handoff *handoff_begin(const int *devices, int count)
{
	struct handoff *handoff = calloc(1, sizeof(*handoff) + (size_t)count * sizeof(handoff->workers[0]));

	if (!handoff)
		return NULL;
	pthread_mutex_init(&handoff->lock, NULL);
	pthread_cond_init(&handoff->answered, NULL);
	for (; handoff->count < count; handoff->count++) {
		struct worker *worker = &handoff->workers[handoff->count];

		*worker = (struct worker){
			.handoff = handoff, .device = devices[handoff->count], .data = -1, .request = nothing
		};
		pthread_cond_init(&worker->asked, NULL);
		if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
			handoff_end(handoff);
			return NULL;
		}
	}
	return handoff;
}

long handoff_walk(struct handoff *handoff, const uint32_t *states, int count)
{
	struct timespec begin, end;
	int result = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int step = 0; step < count && result == 0; step++) {
		pthread_mutex_lock(&handoff->lock);
		handoff->missing = handoff->count;
		for (int index = 0; index < handoff->count; index++)
			handoff->workers[index].request = (int)states[step];
		pthread_mutex_unlock(&handoff->lock);
		/* Without the lock, so that nobody wakes up only to wait for it. */
		for (int index = 0; index < handoff->count; index++)
			pthread_cond_signal(&handoff->workers[index].asked);
		pthread_mutex_lock(&handoff->lock);
		while (handoff->missing > 0)
			pthread_cond_wait(&handoff->answered, &handoff->lock);
		for (int index = 0; index < handoff->count; index++)
			if (handoff->workers[index].result < 0)
				result = handoff->workers[index].result;
		pthread_mutex_unlock(&handoff->lock);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (result < 0)
		return result;
	return (end.tv_sec - begin.tv_sec) * 1000000000 + (end.tv_nsec - begin.tv_nsec);
}

void handoff_end(struct handoff *handoff)
{
	pthread_mutex_lock(&handoff->lock);
	for (int index = 0; index < handoff->count; index++) {
		handoff->workers[index].request = quit;
		pthread_cond_signal(&handoff->workers[index].asked);
	}
	pthread_mutex_unlock(&handoff->lock);
	for (int index = 0; index < handoff->count; index++) {
		pthread_join(handoff->workers[index].thread, NULL);
		pthread_cond_destroy(&handoff->workers[index].asked);
	}
	pthread_cond_destroy(&handoff->answered);
	pthread_mutex_destroy(&handoff->lock);
	free(handoff);
}
