/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a guest, for tests: made, mapped for devices, copied and compared. Addresses in this process are numbers, so that
 * Swift need not touch them. What returns an int returns 0, or -1 with errno set.
 */
#ifndef GUEST_PAGES_H
#define GUEST_PAGES_H

#include <stdint.h>

/* Fresh memory, all zeros; 0 with errno set where there is none. */
uint64_t pages_make(uint64_t bytes);
void pages_free(uint64_t address, uint64_t bytes);

void pages_copy(uint64_t to, uint64_t from, uint64_t bytes);
/* How many pages of 4 KiB are not the same in both. */
uint64_t pages_differing(uint64_t one, uint64_t other, uint64_t bytes);

/* Maps memory at an I/O address of an iommufd's address space, for reading and writing, and unmaps it. */
int pages_map(int iommufd, uint32_t ioas, uint64_t iova, uint64_t address, uint64_t bytes);
int pages_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t bytes);
/* The same in a container. */
int pages_map_container(int container, uint64_t iova, uint64_t address, uint64_t bytes);
int pages_unmap_container(int container, uint64_t iova, uint64_t bytes);

#endif
