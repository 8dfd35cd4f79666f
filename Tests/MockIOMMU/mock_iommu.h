/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's mock IOMMU (CONFIG_IOMMUFD_TEST), and memory to map in it. Each returns 0, or -1 with errno set.
 * Its I/O addresses run from 16 MiB to 2 GiB, its pages have 2,048 bytes.
 */
#ifndef MOCK_IOMMU_H
#define MOCK_IOMMU_H

#include <stdint.h>

enum { MOCK_PAGE = 2048 };

/* A device that stands behind the mock IOMMU, attached to an address space. */
struct mock_device {
	uint32_t standard_device; /* what MOCK_DOMAIN_REPLACE wants */
	uint32_t page_table;
	uint32_t device; /* what the iommufd calls it */
};
int mock_device_make(int iommufd, uint32_t ioas, int can_track, struct mock_device *device);
int mock_device_attach(int iommufd, uint32_t standard_device, uint32_t page_table);

/* Sets dirty bits as a device that writes would: one bit for each MOCK_PAGE from iova on. */
int mock_set_dirty(int iommufd, uint32_t page_table, uint64_t iova, uint64_t length, const uint64_t *bits);

/* Maps fresh memory at an I/O address, and unmaps it. */
int mock_map(int iommufd, uint32_t ioas, uint64_t iova, uint64_t length);
int mock_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t length);

/* Bare GET_DIRTY_BITMAP into this memory, and the same into memory that can't be written. */
int mock_read(int iommufd, uint32_t page_table, uint64_t iova, uint64_t length, uint64_t *bits);
int mock_read_lost(int iommufd, uint32_t page_table, uint64_t iova, uint64_t length);
/* Turns tracking on or off behind everybody's back. */
int mock_set_tracking(int iommufd, uint32_t page_table, int is_on);

#endif
