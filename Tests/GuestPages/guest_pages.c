// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "guest_pages.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vfio_ferry/iommufd.h"
#include "vfio_ferry/vfio_container.h"

uint64_t pages_make(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? 0 : (uintptr_t)memory;
}

void pages_free(uint64_t address, uint64_t bytes) { munmap((void *)(uintptr_t)address, bytes); }

void pages_copy(uint64_t to, uint64_t from, uint64_t bytes)
{
	memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
}

uint64_t pages_differing(uint64_t one, uint64_t other, uint64_t bytes)
{
	uint64_t count = 0;

	for (uint64_t at = 0; at < bytes; at += 4096)
		count += memcmp((const void *)(uintptr_t)(one + at), (const void *)(uintptr_t)(other + at), 4096) != 0;
	return count;
}

int pages_map(int iommufd, uint32_t ioas, uint64_t iova, uint64_t address, uint64_t bytes)
{
	struct vf_iommu_ioas_map map = {
		.size = sizeof map,
		.flags = VF_IOMMU_IOAS_MAP_FIXED_IOVA | VF_IOMMU_IOAS_MAP_WRITEABLE | VF_IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas, .user_va = address, .length = bytes, .iova = iova};

	return ioctl(iommufd, VF_IOMMU_IOAS_MAP, &map) < 0 ? -1 : 0;
}

int pages_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t bytes)
{
	struct vf_iommu_ioas_unmap unmap = {.size = sizeof unmap, .ioas_id = ioas, .iova = iova, .length = bytes};

	return ioctl(iommufd, VF_IOMMU_IOAS_UNMAP, &unmap) < 0 ? -1 : 0;
}

int pages_map_container(int container, uint64_t iova, uint64_t address, uint64_t bytes)
{
	struct vf_vfio_iommu_type1_dma_map map = {
		.argsz = sizeof map, .flags = VF_VFIO_DMA_MAP_FLAG_READ | VF_VFIO_DMA_MAP_FLAG_WRITE, .vaddr = address,
		.iova = iova, .size = bytes};

	return ioctl(container, VF_VFIO_IOMMU_MAP_DMA, &map) < 0 ? -1 : 0;
}

int pages_unmap_container(int container, uint64_t iova, uint64_t bytes)
{
	struct vf_vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = iova, .size = bytes};

	return ioctl(container, VF_VFIO_IOMMU_UNMAP_DMA, &unmap) < 0 ? -1 : 0;
}
