/* SPDX-License-Identifier: Apache-2.0 */
/* The least that a process needs to speak to another by packets, and a VMM that measures a helper by it. */
#ifndef PACKETS_H
#define PACKETS_H

#include <stddef.h>
#include <stdint.h>

/* Starts a program, with up to three arguments (NULL: no more), a socket as its descriptor 3 and a file as its descriptor
 * 4 (-1: none). Both stay the caller's. Returns its process, or -1 with errno. */
int packets_start(const char *program, const char *first, const char *second, const char *third, int socket, int file);

/* Waits for its end. Returns its exit status, or -1. */
int packets_end(int process);

/* Has a process's first thread, or the calling one (0), run on one processor only, or on all that there are (-1). Which one it
 * is counts from 0 among those that the calling process may use. Returns 0, or -1 where there are not so many. */
int packets_place(int process, int processor);

/* Answers every packet with one of `size` bytes until the other end hangs up: the bare ping-pong's other side. */
void packets_echo(int socket, size_t size);

/* Sends a packet and waits for the next that comes, of any size. Returns the nanoseconds that took, or -1. */
long packets_ask(int socket, const void *packet, size_t size);

/* The sizes of VFIO_FERRY_STATUS and its reply, and such a request. */
size_t packets_status_reply(void);
size_t packets_status(void *packet, size_t room);

/* A VMM without a guest. Each returns 0, or -1 after it has said on standard error what the helper answered. */
int packets_hello(int socket);
int packets_add_device(int socket, uint32_t device, const char *name, int file);
/* Saves with pre-copy and waits until the devices are ready to be stopped. */
int packets_save(int socket, int stream);
/* Has everything run again. */
int packets_resume(int socket);

/* From VFIO_FERRY_VCPUS_STOPPED to the reply of VFIO_FERRY_COMPLETE: the stop window's part that is the helper's.
 * Returns nanoseconds, or -1. */
long packets_stop(int socket);

#endif
