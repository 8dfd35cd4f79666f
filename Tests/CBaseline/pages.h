/* SPDX-License-Identifier: Apache-2.0 */
/* What a C program would write for its own dirty pages: 64-bit words, a bit for each page, nothing checked. */
#ifndef PAGES_H
#define PAGES_H

#include <stddef.h>
#include <stdint.h>

/* words[i] |= other[i] */
void pages_union(uint64_t *words, const uint64_t *other, size_t count);

/* How many bits are 1. */
size_t pages_count(const uint64_t *words, size_t count);

/* What going through all runs of dirty pages of 4 KiB found, so that nobody can leave the going out. */
struct pages_runs {
	uint64_t runs, bytes, mixed;
};

/* Every run, by the guest addresses of its first byte and of the one after its last, in bytes: counted, its bytes summed
 * up, its addresses mixed. `guest` is what bit 0 stands for. Adds to *found. */
void pages_runs(const uint64_t *words, size_t count, uint64_t guest, struct pages_runs *found);

/* Two reads and a write for each element: what memory gives a program that computes next to nothing. */
void pages_triad(double *to, const double *from, size_t count);

/* How often this thread has asked for memory: malloc(3) and its like are counted in the whole program. */
unsigned long pages_allocations(void);

#endif
