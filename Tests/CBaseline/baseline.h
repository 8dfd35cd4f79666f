/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks compare with: the least that C can do. */
#ifndef BASELINE_H
#define BASELINE_H

#include <stddef.h>

/* Reads `from` to its end and writes it to `to`, `chunk` bytes at a time. Returns the bytes moved, or -1. */
long baseline_copy(int from, int to, size_t chunk);

/* Runs a program with one argument (or none: NULL) and its output thrown away.
 * Returns microseconds from start to end, or -1; the process's peak memory in KiB goes to *peak. */
long baseline_spawn(const char *program, const char *argument, long *peak);

#endif
