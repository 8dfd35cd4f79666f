/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp-traffic send ADDRESS PORT SIZE [SEGMENT] | receive ADDRESS PORT
 *
 * Traffic for the lab's tests: says "ready", and does what lines on its standard input say, each with one line of answer.
 * It runs in the network namespace that it was started in.
 *
 *   run MILLISECONDS   sends for that long, as fast as it can: BYTES MICROSECONDS, the payload sent and the time taken
 *   count              DATAGRAMS BYTES received since the last time, payload
 *   quit               ok, and it ends
 *
 * With SEGMENT the kernel is given SIZE bytes at a time and cuts them into datagrams of SEGMENT bytes as late as it can
 * (UDP_SEGMENT).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[65536];

static void fail(const char *call)
{
	printf("%s: %s\n", call, strerror(errno));
	exit(1);
}

static int64_t now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000) + time.tv_nsec / 1000;
}

static void run(int number, size_t size, int64_t duration_us)
{
	int64_t start = now_us(), end = start;
	uint64_t sent = 0;
	while (end - start < duration_us) {
		/* What a filter drops is sent, as far as the sender can see. */
		if (send(number, buffer, size, 0) == (ssize_t)size)
			sent += size;
		else if (errno != ENOBUFS)
			fail("send");
		end = now_us();
	}
	printf("%llu %lld\n", (unsigned long long)sent, (long long)(end - start));
}

static void receive(int number, uint64_t *datagrams, uint64_t *bytes)
{
	ssize_t size;
	while ((size = recv(number, buffer, sizeof(buffer), MSG_DONTWAIT)) >= 0) {
		++*datagrams;
		*bytes += (uint64_t)size;
	}
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int sends = count >= 5 && !strcmp(arguments[1], "send");
	if ((!sends && count != 4) || inet_pton(AF_INET, arguments[2], &address.sin_addr) != 1)
		return 2;
	address.sin_port = htons((uint16_t)atoi(arguments[3]));
	int number = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 8 << 20;
	if (number < 0)
		fail("socket");
	if (sends ? connect(number, (struct sockaddr *)&address, sizeof(address))
		  : bind(number, (struct sockaddr *)&address, sizeof(address)))
		fail(sends ? "connect" : "bind");
	if (!sends && setsockopt(number, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		fail("SO_RCVBUFFORCE");
	int segment = count > 5 ? atoi(arguments[5]) : 0;
	if (segment && setsockopt(number, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)))
		fail("UDP_SEGMENT");
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Unbuffered, so that poll sees what there is to read. */
	setvbuf(stdin, NULL, _IONBF, 0);
	puts("ready");
	uint64_t datagrams = 0, bytes = 0;
	struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = sends ? -1 : number, .events = POLLIN}};
	char line[64];
	while (poll(ready, 2, -1) > 0) {
		if (ready[1].revents)
			receive(number, &datagrams, &bytes);
		if (!ready[0].revents)
			continue;
		if (!fgets(line, sizeof(line), stdin))
			return 0;
		if (sends && !strncmp(line, "run ", 4)) {
			run(number, (size_t)atoi(arguments[4]), atoll(line + 4) * 1000);
		} else if (!sends && !strcmp(line, "count\n")) {
			receive(number, &datagrams, &bytes);
			printf("%llu %llu\n", (unsigned long long)datagrams, (unsigned long long)bytes);
			datagrams = bytes = 0;
		} else if (!strcmp(line, "quit\n")) {
			puts("ok");
			return 0;
		} else {
			puts("what?");
		}
	}
	fail("poll");
}
