/* SPDX-License-Identifier: Apache-2.0 */
/* A device's log of what it wrote, as a C program reads it: the bare ioctl. */
#ifndef LOG_H
#define LOG_H

#include <stdint.h>

/* Memory for a bitmap, all of it there; never freed. */
uint64_t *log_bitmap(uint64_t words);

/*
 * Clears the bitmap, and reports the log of a range of addresses into it.
 * Returns the nanoseconds that the ioctl took, or -errno; *pages is how many bits are 1 then.
 */
int64_t log_report(int device, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap, uint64_t *pages);

#endif
