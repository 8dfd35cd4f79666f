// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "packets.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vfio_ferry.h"

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000 + time.tv_nsec;
}

/* A duplicate that no dup2() of this function can overwrite. */
static int out_of_the_way(int descriptor)
{
	return descriptor < 0 ? -1 : fcntl(descriptor, F_DUPFD_CLOEXEC, 10);
}

int packets_start(const char *program, const char *first, const char *second, const char *third, int socket, int file)
{
	const char *arguments[] = { program, first, second, third, NULL };
	int ours = out_of_the_way(socket), also = out_of_the_way(file);
	pid_t child = -1;

	if (ours >= 0 && (file < 0 || also >= 0))
		child = fork();
	if (child == 0) {
		if (dup2(ours, 3) == 3 && (also < 0 || dup2(also, 4) == 4))
			execv(program, (char *const *)arguments);
		_exit(127);
	}
	if (ours >= 0)
		close(ours);
	if (also >= 0)
		close(also);
	return child;
}

int packets_end(int process)
{
	int status;

	if (waitpid(process, &status, 0) != process || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int packets_place(int process, int processor)
{
	static cpu_set_t all;
	static int known;
	cpu_set_t one;

	if (!known && sched_getaffinity(0, sizeof(all), &all) == 0)
		known = 1;
	if (processor < 0)
		return sched_setaffinity(process, sizeof(all), &all);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || processor-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		return sched_setaffinity(process, sizeof(one), &one);
	}
	return -1;
}

void packets_echo(int socket, size_t size)
{
	char buffer[VFIO_FERRY_MAX_PACKET], answer[VFIO_FERRY_MAX_PACKET] = {0};

	while (recv(socket, buffer, sizeof(buffer), 0) > 0)
		if (send(socket, answer, size, MSG_NOSIGNAL) < 0)
			return;
}

long packets_ask(int socket, const void *packet, size_t size)
{
	char buffer[VFIO_FERRY_MAX_PACKET];
	long begin = now();

	if (send(socket, packet, size, MSG_NOSIGNAL) < 0 || recv(socket, buffer, sizeof(buffer), 0) <= 0)
		return -1;
	return now() - begin;
}

size_t packets_status_reply(void)
{
	return sizeof(struct vfio_ferry_status);
}

static uint32_t last_number;

static struct vfio_ferry_header head(uint32_t type, size_t size, uint32_t descriptors)
{
	return (struct vfio_ferry_header){
		.type = type, .size = (uint32_t)size, .number = ++last_number, .descriptors = descriptors
	};
}

size_t packets_status(void *packet, size_t room)
{
	struct vfio_ferry_header header = head(VFIO_FERRY_STATUS, sizeof(header), 0);

	if (room < sizeof(header))
		return 0;
	memcpy(packet, &header, sizeof(header));
	return sizeof(header);
}

union packet {
	struct vfio_ferry_header header;
	struct vfio_ferry_error error;
	char bytes[VFIO_FERRY_MAX_PACKET];
};

static int send_with(int socket, const struct vfio_ferry_header *request, int file)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr alignment;
	} control = {{0}};
	struct iovec piece = { .iov_base = (void *)request, .iov_len = request->size };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

	if (file >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		struct cmsghdr *item = CMSG_FIRSTHDR(&message);
		item->cmsg_level = SOL_SOCKET;
		item->cmsg_type = SCM_RIGHTS;
		item->cmsg_len = CMSG_LEN(sizeof(file));
		memcpy(CMSG_DATA(item), &file, sizeof(file));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* Takes packets until there is one of that number and type; a number of 0 is an event's, a type of 0 any. */
static int wait_for(int socket, uint32_t number, uint32_t type)
{
	for (;;) {
		union packet packet;
		ssize_t size = recv(socket, &packet, sizeof(packet), 0);

		if (size < (ssize_t)sizeof(packet.header)) {
			fprintf(stderr, "bench: the helper hung up\n");
			return -1;
		}
		if (packet.header.type == VFIO_FERRY_ERROR || packet.header.type == VFIO_FERRY_EVENT_FAILED) {
			fprintf(stderr, "bench: the helper says: %.*s\n", (int)sizeof(packet.error.text), packet.error.text);
			return -1;
		}
		if (packet.header.number == number && (type == 0 || packet.header.type == type))
			return 0;
	}
}

static int ask(int socket, const struct vfio_ferry_header *request, int file)
{
	return send_with(socket, request, file) < 0 ? -1 : wait_for(socket, request->number, 0);
}

int packets_hello(int socket)
{
	struct vfio_ferry_hello hello = { .header = head(VFIO_FERRY_HELLO, sizeof(hello), 0),
					  .major = VFIO_FERRY_VERSION_MAJOR,
					  .minor = VFIO_FERRY_VERSION_MINOR,
					  .version = "ferry-bench" };

	return ask(socket, &hello.header, -1);
}

int packets_add_device(int socket, uint32_t device, const char *name, int file)
{
	struct vfio_ferry_device_add add = { .header = head(VFIO_FERRY_DEVICE_ADD, sizeof(add), 1),
					     .device = device,
					     .space = 1,
					     .tracker = VFIO_FERRY_TRACKER_EVERYTHING };

	strncpy(add.name, name, sizeof(add.name) - 1);
	return ask(socket, &add.header, file);
}

int packets_save(int socket, int stream)
{
	struct vfio_ferry_save save = { .header = head(VFIO_FERRY_SAVE_BEGIN, sizeof(save), 1),
					.flags = VFIO_FERRY_SAVE_PRE_COPY,
					.last_resort = VFIO_FERRY_RESORT_GIVE_UP,
					.downtime_us = 300000,
					.interval_us = 10000,
					.quiescing_us = VFIO_FERRY_UNKNOWN,
					.loading_us = VFIO_FERRY_UNKNOWN };

	if (send_with(socket, &save.header, stream) < 0)
		return -1;
	/* READY may come before the reply. */
	return wait_for(socket, 0, VFIO_FERRY_EVENT_READY);
}

static int ask_bare(int socket, uint32_t type)
{
	struct vfio_ferry_header request = head(type, sizeof(request), 0);

	return ask(socket, &request, -1);
}

int packets_resume(int socket)
{
	return ask_bare(socket, VFIO_FERRY_RESUME);
}

long packets_stop(int socket)
{
	struct vfio_ferry_sent quiesce = { .header = head(VFIO_FERRY_QUIESCE, sizeof(quiesce), 0) };
	struct vfio_ferry_sent complete = { .header = head(VFIO_FERRY_COMPLETE, sizeof(complete), 0) };
	long begin = now();

	if (ask_bare(socket, VFIO_FERRY_VCPUS_STOPPED) < 0 || ask(socket, &quiesce.header, -1) < 0 ||
	    ask(socket, &complete.header, -1) < 0)
		return -1;
	return now() - begin;
}
