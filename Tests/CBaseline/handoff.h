/* SPDX-License-Identifier: Apache-2.0 */
/* The least that it takes to move several VFIO devices at once: a waiting thread for each, and a barrier. */
#ifndef HANDOFF_H
#define HANDOFF_H

#include <stdint.h>

struct handoff;

/* Starts a thread for each device. The descriptors stay the caller's. Returns NULL where something could not be had. */
struct handoff *handoff_begin(const int *devices, int count);

/* Takes all devices through these states: hands the first to every thread, waits until each device is in it, then the
 * next. Data descriptors that come with a state are closed with the next state that has none.
 * Returns nanoseconds from the first request handed out to the last answer, or minus the errno of a request that failed.
 */
long handoff_walk(struct handoff *handoff, const uint32_t *states, int count);

/* Ends the threads. */
void handoff_end(struct handoff *handoff);

#endif
