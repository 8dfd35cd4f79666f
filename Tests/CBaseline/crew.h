/* SPDX-License-Identifier: Apache-2.0 */
/* The least that it takes to have several devices at work at once, part after part: a waiting thread for each. */
#ifndef CREW_H
#define CREW_H

struct crew;

/* Starts so many threads, 64 at most. NULL where they could not be had. */
struct crew *crew_begin(int threads);

/* Part after part, wakes all threads, which sleep for so many microseconds (0: not at all), and waits for all of them.
 * Returns the nanoseconds that this takes beyond the slowest thread's sleep in each part.
 */
long crew_work(struct crew *crew, int parts, unsigned microseconds);

/* Ends the threads. */
void crew_end(struct crew *crew);

#endif
