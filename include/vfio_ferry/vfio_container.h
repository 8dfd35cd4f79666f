/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The legacy way to give VFIO devices an address space: a container, /dev/vfio/vfio, that groups are put
 * into. From the part of <linux/vfio.h> that its newer rival iommufd (iommufd.h) replaces.
 */
#ifndef VFIO_FERRY_VFIO_CONTAINER_H
#define VFIO_FERRY_VFIO_CONTAINER_H

#include "layout.h"

/* Requests on a container descriptor. From SET_IOMMU on it must have a group, and after that an IOMMU type. */
enum {
  VF_VFIO_GET_API_VERSION = _IO(';', 100 + 0),   /* returns VF_VFIO_API_VERSION */
  VF_VFIO_CHECK_EXTENSION = _IO(';', 100 + 1),   /* the extension's number; returns 0 without it */
  VF_VFIO_SET_IOMMU = _IO(';', 100 + 2),         /* an IOMMU type, by value */
  VF_VFIO_IOMMU_GET_INFO = _IO(';', 100 + 12),   /* struct vf_vfio_iommu_type1_info */
  VF_VFIO_IOMMU_MAP_DMA = _IO(';', 100 + 13),    /* struct vf_vfio_iommu_type1_dma_map */
  VF_VFIO_IOMMU_UNMAP_DMA = _IO(';', 100 + 14),  /* struct vf_vfio_iommu_type1_dma_unmap */
  VF_VFIO_IOMMU_DIRTY_PAGES = _IO(';', 100 + 17), /* struct vf_vfio_iommu_type1_dirty_bitmap */
};
VF_ASSERT_NUMBER(VF_VFIO_GET_API_VERSION, 0x3b64);
VF_ASSERT_NUMBER(VF_VFIO_CHECK_EXTENSION, 0x3b65);
VF_ASSERT_NUMBER(VF_VFIO_SET_IOMMU, 0x3b66);
VF_ASSERT_NUMBER(VF_VFIO_IOMMU_GET_INFO, 0x3b70);
VF_ASSERT_NUMBER(VF_VFIO_IOMMU_MAP_DMA, 0x3b71);
VF_ASSERT_NUMBER(VF_VFIO_IOMMU_UNMAP_DMA, 0x3b72);
VF_ASSERT_NUMBER(VF_VFIO_IOMMU_DIRTY_PAGES, 0x3b75);

/* The only version there has been, IOMMU types, and extensions to ask for. */
enum {
  VF_VFIO_API_VERSION = 0,
  VF_VFIO_TYPE1_IOMMU = 1,
  VF_VFIO_TYPE1v2_IOMMU = 3, /* unmaps whole mappings only */
  VF_VFIO_UNMAP_ALL = 9,
};

/* The head of each capability in a chain behind an info structure. */
struct vf_vfio_info_cap_header {
  uint16_t id;
  uint16_t version;
  uint32_t next; /* bytes from the start of the info structure to the next one, 0: the last */
};
VF_ASSERT_SIZE(vf_vfio_info_cap_header, 8);
VF_ASSERT_FIELD(vf_vfio_info_cap_header, id, 0);
VF_ASSERT_FIELD(vf_vfio_info_cap_header, version, 2);
VF_ASSERT_FIELD(vf_vfio_info_cap_header, next, 4);

/* What the container's IOMMU can do; capabilities follow when argsz has room for them. */
struct vf_vfio_iommu_type1_info {
  uint32_t argsz;
  uint32_t flags;
  uint64_t iova_pgsizes; /* bit n: pages of 1 << n bytes */
  uint32_t cap_offset;   /* bytes from the start of this structure to the first capability, 0: none */
  uint32_t pad;          /* Since Linux 6.7 */
};
enum {
  VF_VFIO_IOMMU_INFO_PGSIZES = 1 << 0, /* iova_pgsizes is valid */
  VF_VFIO_IOMMU_INFO_CAPS = 1 << 1,    /* cap_offset is valid */
};
VF_ASSERT_SIZE(vf_vfio_iommu_type1_info, 24);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info, flags, 4);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info, iova_pgsizes, 8);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info, cap_offset, 16);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info, pad, 20);

/* Capability ids. */
enum {
  VF_VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1,
  VF_VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2,
};

/* Usable IOVAs from start up to and including end. */
struct vf_vfio_iova_range {
  uint64_t start;
  uint64_t end;
};
VF_ASSERT_SIZE(vf_vfio_iova_range, 16);
VF_ASSERT_FIELD(vf_vfio_iova_range, start, 0);
VF_ASSERT_FIELD(vf_vfio_iova_range, end, 8);

/* The IOVA_RANGE capability; the ranges follow. */
struct vf_vfio_iommu_type1_info_cap_iova_range {
  struct vf_vfio_info_cap_header header;
  uint32_t nr_iovas;
  uint32_t reserved;
};
VF_ASSERT_SIZE(vf_vfio_iommu_type1_info_cap_iova_range, 16);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info_cap_iova_range, header, 0);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info_cap_iova_range, nr_iovas, 8);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info_cap_iova_range, reserved, 12);

/* The MIGRATION capability: the container keeps dirty bitmaps. */
struct vf_vfio_iommu_type1_info_cap_migration {
  struct vf_vfio_info_cap_header header;
  uint32_t flags;
  uint64_t pgsize_bitmap;         /* bit n: bitmaps over pages of 1 << n bytes */
  uint64_t max_dirty_bitmap_size; /* bytes of bitmap in one request */
};
VF_ASSERT_SIZE(vf_vfio_iommu_type1_info_cap_migration, 32);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info_cap_migration, header, 0);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info_cap_migration, flags, 8);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info_cap_migration, pgsize_bitmap, 16);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_info_cap_migration, max_dirty_bitmap_size, 24);

/* Maps a piece of this process's memory, in bytes, into the container's address space. */
struct vf_vfio_iommu_type1_dma_map {
  uint32_t argsz;
  uint32_t flags;
  uint64_t vaddr;
  uint64_t iova;
  uint64_t size;
};
enum {
  VF_VFIO_DMA_MAP_FLAG_READ = 1 << 0,  /* devices may read it */
  VF_VFIO_DMA_MAP_FLAG_WRITE = 1 << 1, /* devices may write it */
};
VF_ASSERT_SIZE(vf_vfio_iommu_type1_dma_map, 32);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_map, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_map, flags, 4);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_map, vaddr, 8);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_map, iova, 16);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_map, size, 24);

/* Where a dirty bitmap is to be written: one bit for each pgsize bytes of IOVA. */
struct vf_vfio_bitmap {
  uint64_t pgsize;
  uint64_t size;  /* of the bitmap, bytes */
  uint64_t data; /* address of an array of 64-bit words; the kernel writes over it */
};
VF_ASSERT_SIZE(vf_vfio_bitmap, 24);
VF_ASSERT_FIELD(vf_vfio_bitmap, pgsize, 0);
VF_ASSERT_FIELD(vf_vfio_bitmap, size, 8);
VF_ASSERT_FIELD(vf_vfio_bitmap, data, 16);

/* Unmaps; size comes back as what was unmapped, in bytes. With GET_DIRTY_BITMAP a vf_vfio_bitmap follows. */
struct vf_vfio_iommu_type1_dma_unmap {
  uint32_t argsz;
  uint32_t flags;
  uint64_t iova;
  uint64_t size;
};
enum {
  VF_VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1 << 0,
  VF_VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1, /* iova and size must be 0 */
};
VF_ASSERT_SIZE(vf_vfio_iommu_type1_dma_unmap, 24);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_unmap, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_unmap, flags, 4);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_unmap, iova, 8);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dma_unmap, size, 16);

/* Starts or stops tracking, or reads the bitmap, by one flag; for reading, a ..._get follows. */
struct vf_vfio_iommu_type1_dirty_bitmap {
  uint32_t argsz;
  uint32_t flags;
};
enum {
  VF_VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1 << 0,
  VF_VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 1 << 1,
  VF_VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 1 << 2,
};
VF_ASSERT_SIZE(vf_vfio_iommu_type1_dirty_bitmap, 8);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dirty_bitmap, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dirty_bitmap, flags, 4);

/* The IOVAs, in bytes, whose dirty pages are asked for; reading forgets them. */
struct vf_vfio_iommu_type1_dirty_bitmap_get {
  uint64_t iova;
  uint64_t size;
  struct vf_vfio_bitmap bitmap;
};
VF_ASSERT_SIZE(vf_vfio_iommu_type1_dirty_bitmap_get, 40);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dirty_bitmap_get, iova, 0);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dirty_bitmap_get, size, 8);
VF_ASSERT_FIELD(vf_vfio_iommu_type1_dirty_bitmap_get, bitmap, 16);

/* Whole requests, head and payload in one. The kernel has no name for these. */
struct vf_request_container_dirty_bitmap {
  struct vf_vfio_iommu_type1_dirty_bitmap header;
  struct vf_vfio_iommu_type1_dirty_bitmap_get body;
};
struct vf_request_container_unmap_dirty {
  struct vf_vfio_iommu_type1_dma_unmap header;
  struct vf_vfio_bitmap body;
};
VF_ASSERT_SIZE(vf_request_container_dirty_bitmap, 48);
VF_ASSERT_FIELD(vf_request_container_dirty_bitmap, body, sizeof(struct vf_vfio_iommu_type1_dirty_bitmap));
VF_ASSERT_SIZE(vf_request_container_unmap_dirty, 48);
VF_ASSERT_FIELD(vf_request_container_unmap_dirty, body, sizeof(struct vf_vfio_iommu_type1_dma_unmap));

#endif
