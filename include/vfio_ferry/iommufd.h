/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/iommu: the part of <linux/iommufd.h> that this project uses. Objects (address spaces, page tables,
 * bound devices) have numbers that mean something within one descriptor. An "IOAS" is an address space:
 * IOVAs and the memory behind them. A "HWPT" is a page table made from one for a device's IOMMU.
 *
 * size in a structure is its size in bytes as the caller knows it; what the kernel adds later may be left
 * off, and what it doesn't know may be there as zeros.
 */
#ifndef VFIO_FERRY_IOMMUFD_H
#define VFIO_FERRY_IOMMUFD_H

#include "layout.h"

/* Requests on an iommufd; each takes the structure of its own name in lower case. */
enum {
  VF_IOMMU_DESTROY = _IO(';', 0x80),
  VF_IOMMU_IOAS_ALLOC = _IO(';', 0x81),
  VF_IOMMU_IOAS_ALLOW_IOVAS = _IO(';', 0x82),
  VF_IOMMU_IOAS_COPY = _IO(';', 0x83),
  VF_IOMMU_IOAS_IOVA_RANGES = _IO(';', 0x84),
  VF_IOMMU_IOAS_MAP = _IO(';', 0x85),
  VF_IOMMU_IOAS_UNMAP = _IO(';', 0x86),
  VF_IOMMU_HWPT_ALLOC = _IO(';', 0x89),
  VF_IOMMU_GET_HW_INFO = _IO(';', 0x8a), /* struct vf_iommu_hw_info */
  VF_IOMMU_HWPT_SET_DIRTY_TRACKING = _IO(';', 0x8b), /* Since Linux 6.7 */
  VF_IOMMU_HWPT_GET_DIRTY_BITMAP = _IO(';', 0x8c),   /* Since Linux 6.7 */
  VF_IOMMU_IOAS_MAP_FILE = _IO(';', 0x8f),           /* Since Linux 6.13 */
};
VF_ASSERT_NUMBER(VF_IOMMU_DESTROY, 0x3b80);
VF_ASSERT_NUMBER(VF_IOMMU_IOAS_ALLOC, 0x3b81);
VF_ASSERT_NUMBER(VF_IOMMU_IOAS_ALLOW_IOVAS, 0x3b82);
VF_ASSERT_NUMBER(VF_IOMMU_IOAS_COPY, 0x3b83);
VF_ASSERT_NUMBER(VF_IOMMU_IOAS_IOVA_RANGES, 0x3b84);
VF_ASSERT_NUMBER(VF_IOMMU_IOAS_MAP, 0x3b85);
VF_ASSERT_NUMBER(VF_IOMMU_IOAS_UNMAP, 0x3b86);
VF_ASSERT_NUMBER(VF_IOMMU_HWPT_ALLOC, 0x3b89);
VF_ASSERT_NUMBER(VF_IOMMU_GET_HW_INFO, 0x3b8a);
VF_ASSERT_NUMBER(VF_IOMMU_HWPT_SET_DIRTY_TRACKING, 0x3b8b);
VF_ASSERT_NUMBER(VF_IOMMU_HWPT_GET_DIRTY_BITMAP, 0x3b8c);
VF_ASSERT_NUMBER(VF_IOMMU_IOAS_MAP_FILE, 0x3b8f);

/* Frees an object that nothing else uses. */
struct vf_iommu_destroy {
  uint32_t size;
  uint32_t id;
};
VF_ASSERT_SIZE(vf_iommu_destroy, 8);
VF_ASSERT_FIELD(vf_iommu_destroy, size, 0);
VF_ASSERT_FIELD(vf_iommu_destroy, id, 4);

/* Makes an empty address space. */
struct vf_iommu_ioas_alloc {
  uint32_t size;
  uint32_t flags; /* 0 */
  uint32_t out_ioas_id;
};
VF_ASSERT_SIZE(vf_iommu_ioas_alloc, 12);
VF_ASSERT_FIELD(vf_iommu_ioas_alloc, size, 0);
VF_ASSERT_FIELD(vf_iommu_ioas_alloc, flags, 4);
VF_ASSERT_FIELD(vf_iommu_ioas_alloc, out_ioas_id, 8);

/* IOVAs from start up to and including last. */
struct vf_iommu_iova_range {
  uint64_t start;
  uint64_t last;
};
VF_ASSERT_SIZE(vf_iommu_iova_range, 16);
VF_ASSERT_FIELD(vf_iommu_iova_range, start, 0);
VF_ASSERT_FIELD(vf_iommu_iova_range, last, 8);

/* Which IOVAs can be mapped, given the devices attached so far. Too small an array: EMSGSIZE and the count. */
struct vf_iommu_ioas_iova_ranges {
  uint32_t size;
  uint32_t ioas_id;
  uint32_t num_iovas; /* in: room in the array; out: how many there are */
  uint32_t __reserved;
  uint64_t allowed_iovas;      /* address of an array of struct vf_iommu_iova_range */
  uint64_t out_iova_alignment; /* bytes */
};
VF_ASSERT_SIZE(vf_iommu_ioas_iova_ranges, 32);
VF_ASSERT_FIELD(vf_iommu_ioas_iova_ranges, size, 0);
VF_ASSERT_FIELD(vf_iommu_ioas_iova_ranges, ioas_id, 4);
VF_ASSERT_FIELD(vf_iommu_ioas_iova_ranges, num_iovas, 8);
VF_ASSERT_FIELD(vf_iommu_ioas_iova_ranges, __reserved, 12);
VF_ASSERT_FIELD(vf_iommu_ioas_iova_ranges, allowed_iovas, 16);
VF_ASSERT_FIELD(vf_iommu_ioas_iova_ranges, out_iova_alignment, 24);

/* Promises to map only these IOVAs, so that no device that can't reach them may be attached later. */
struct vf_iommu_ioas_allow_iovas {
  uint32_t size;
  uint32_t ioas_id;
  uint32_t num_iovas;
  uint32_t __reserved;
  uint64_t allowed_iovas; /* address of an array of struct vf_iommu_iova_range */
};
VF_ASSERT_SIZE(vf_iommu_ioas_allow_iovas, 24);
VF_ASSERT_FIELD(vf_iommu_ioas_allow_iovas, size, 0);
VF_ASSERT_FIELD(vf_iommu_ioas_allow_iovas, ioas_id, 4);
VF_ASSERT_FIELD(vf_iommu_ioas_allow_iovas, num_iovas, 8);
VF_ASSERT_FIELD(vf_iommu_ioas_allow_iovas, __reserved, 12);
VF_ASSERT_FIELD(vf_iommu_ioas_allow_iovas, allowed_iovas, 16);

/* Flags of IOAS_MAP, IOAS_MAP_FILE and IOAS_COPY; what devices may do with the memory. */
enum {
  VF_IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0, /* the caller chose the IOVA; otherwise the kernel does */
  VF_IOMMU_IOAS_MAP_WRITEABLE = 1 << 1,
  VF_IOMMU_IOAS_MAP_READABLE = 1 << 2,
};

/* Maps a piece of this process's memory, in bytes, and pins it while a device can reach it. */
struct vf_iommu_ioas_map {
  uint32_t size;
  uint32_t flags;
  uint32_t ioas_id;
  uint32_t __reserved;
  uint64_t user_va;
  uint64_t length;
  uint64_t iova;
};
VF_ASSERT_SIZE(vf_iommu_ioas_map, 40);
VF_ASSERT_FIELD(vf_iommu_ioas_map, size, 0);
VF_ASSERT_FIELD(vf_iommu_ioas_map, flags, 4);
VF_ASSERT_FIELD(vf_iommu_ioas_map, ioas_id, 8);
VF_ASSERT_FIELD(vf_iommu_ioas_map, __reserved, 12);
VF_ASSERT_FIELD(vf_iommu_ioas_map, user_va, 16);
VF_ASSERT_FIELD(vf_iommu_ioas_map, length, 24);
VF_ASSERT_FIELD(vf_iommu_ioas_map, iova, 32);

/* The same from a memfd, and from newer kernels on a dma-buf. */
struct vf_iommu_ioas_map_file { /* Since Linux 6.13 */
  uint32_t size;
  uint32_t flags;
  uint32_t ioas_id;
  int32_t fd;
  uint64_t start; /* bytes from the file's beginning */
  uint64_t length;
  uint64_t iova;
};
VF_ASSERT_SIZE(vf_iommu_ioas_map_file, 40);
VF_ASSERT_FIELD(vf_iommu_ioas_map_file, size, 0);
VF_ASSERT_FIELD(vf_iommu_ioas_map_file, flags, 4);
VF_ASSERT_FIELD(vf_iommu_ioas_map_file, ioas_id, 8);
VF_ASSERT_FIELD(vf_iommu_ioas_map_file, fd, 12);
VF_ASSERT_FIELD(vf_iommu_ioas_map_file, start, 16);
VF_ASSERT_FIELD(vf_iommu_ioas_map_file, length, 24);
VF_ASSERT_FIELD(vf_iommu_ioas_map_file, iova, 32);

/* Maps in one address space what another has at src_iova. */
struct vf_iommu_ioas_copy {
  uint32_t size;
  uint32_t flags;
  uint32_t dst_ioas_id;
  uint32_t src_ioas_id;
  uint64_t length; /* bytes */
  uint64_t dst_iova;
  uint64_t src_iova;
};
VF_ASSERT_SIZE(vf_iommu_ioas_copy, 40);
VF_ASSERT_FIELD(vf_iommu_ioas_copy, size, 0);
VF_ASSERT_FIELD(vf_iommu_ioas_copy, flags, 4);
VF_ASSERT_FIELD(vf_iommu_ioas_copy, dst_ioas_id, 8);
VF_ASSERT_FIELD(vf_iommu_ioas_copy, src_ioas_id, 12);
VF_ASSERT_FIELD(vf_iommu_ioas_copy, length, 16);
VF_ASSERT_FIELD(vf_iommu_ioas_copy, dst_iova, 24);
VF_ASSERT_FIELD(vf_iommu_ioas_copy, src_iova, 32);

/* Unmaps whole mappings; 0 and UINT64_MAX unmap all. length comes back as what was unmapped, in bytes. */
struct vf_iommu_ioas_unmap {
  uint32_t size;
  uint32_t ioas_id;
  uint64_t iova;
  uint64_t length;
};
VF_ASSERT_SIZE(vf_iommu_ioas_unmap, 24);
VF_ASSERT_FIELD(vf_iommu_ioas_unmap, size, 0);
VF_ASSERT_FIELD(vf_iommu_ioas_unmap, ioas_id, 4);
VF_ASSERT_FIELD(vf_iommu_ioas_unmap, iova, 8);
VF_ASSERT_FIELD(vf_iommu_ioas_unmap, length, 16);

/* Makes a page table for a bound device from an address space. */
struct vf_iommu_hwpt_alloc {
  uint32_t size;
  uint32_t flags;
  uint32_t dev_id;
  uint32_t pt_id; /* the address space */
  uint32_t out_hwpt_id;
  uint32_t __reserved;
  uint32_t data_type;   /* Since Linux 6.7 */
  uint32_t data_len;    /* Since Linux 6.7 */
  uint64_t data_uptr;   /* Since Linux 6.7 */
  uint32_t fault_id;    /* Since Linux 6.11 */
  uint32_t __reserved2; /* Since Linux 6.11 */
};
enum {
  VF_IOMMU_HWPT_ALLOC_NEST_PARENT = 1 << 0,    /* Since Linux 6.7 */
  VF_IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1, /* refused where the IOMMU can't. Since Linux 6.7 */
};
enum {
  VF_IOMMU_HWPT_DATA_NONE = 0, /* data_type: nothing vendor-specific. Since Linux 6.7 */
};
VF_ASSERT_SIZE(vf_iommu_hwpt_alloc, 48);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, size, 0);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, flags, 4);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, dev_id, 8);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, pt_id, 12);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, out_hwpt_id, 16);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, __reserved, 20);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, data_type, 24);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, data_len, 28);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, data_uptr, 32);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, fault_id, 40);
VF_ASSERT_FIELD(vf_iommu_hwpt_alloc, __reserved2, 44);

/* What the IOMMU in front of a bound device can do. */
struct vf_iommu_hw_info {
  uint32_t size;
  uint32_t flags; /* 0 */
  uint32_t dev_id;
  uint32_t data_len;  /* in: room at data_uptr, bytes; out: how much vendor data there is */
  uint64_t data_uptr; /* may be 0 when data_len is */
  uint32_t out_data_type;
  uint8_t out_max_pasid_log2; /* 0: no PASID. Since Linux 6.15 */
  uint8_t __reserved[3];
  uint64_t out_capabilities; /* Since Linux 6.7 */
};
enum {
  VF_IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0, /* Since Linux 6.7 */
};
VF_ASSERT_SIZE(vf_iommu_hw_info, 40);
VF_ASSERT_FIELD(vf_iommu_hw_info, size, 0);
VF_ASSERT_FIELD(vf_iommu_hw_info, flags, 4);
VF_ASSERT_FIELD(vf_iommu_hw_info, dev_id, 8);
VF_ASSERT_FIELD(vf_iommu_hw_info, data_len, 12);
VF_ASSERT_FIELD(vf_iommu_hw_info, data_uptr, 16);
VF_ASSERT_FIELD(vf_iommu_hw_info, out_data_type, 24);
VF_ASSERT_FIELD(vf_iommu_hw_info, out_max_pasid_log2, 28);
VF_ASSERT_FIELD(vf_iommu_hw_info, __reserved, 29);
VF_ASSERT_FIELD(vf_iommu_hw_info, out_capabilities, 32);

/* Turns dirty tracking of a page table on or off. */
struct vf_iommu_hwpt_set_dirty_tracking { /* Since Linux 6.7 */
  uint32_t size;
  uint32_t flags;
  uint32_t hwpt_id;
  uint32_t __reserved;
};
enum {
  VF_IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1, /* without it: off. Since Linux 6.7 */
};
VF_ASSERT_SIZE(vf_iommu_hwpt_set_dirty_tracking, 16);
VF_ASSERT_FIELD(vf_iommu_hwpt_set_dirty_tracking, size, 0);
VF_ASSERT_FIELD(vf_iommu_hwpt_set_dirty_tracking, flags, 4);
VF_ASSERT_FIELD(vf_iommu_hwpt_set_dirty_tracking, hwpt_id, 8);
VF_ASSERT_FIELD(vf_iommu_hwpt_set_dirty_tracking, __reserved, 12);

/* Reads which pages of a range were written through a page table; bits are only ever set, not atomically. */
struct vf_iommu_hwpt_get_dirty_bitmap { /* Since Linux 6.7 */
  uint32_t size;
  uint32_t hwpt_id;
  uint32_t flags;
  uint32_t __reserved;
  uint64_t iova;
  uint64_t length;    /* bytes */
  uint64_t page_size; /* bytes that one bit stands for */
  uint64_t data;      /* address of an array of 64-bit words */
};
enum {
  VF_IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1, /* leaves them dirty in the page table. Since Linux 6.7 */
};
VF_ASSERT_SIZE(vf_iommu_hwpt_get_dirty_bitmap, 48);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, size, 0);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, hwpt_id, 4);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, flags, 8);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, __reserved, 12);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, iova, 16);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, length, 24);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, page_size, 32);
VF_ASSERT_FIELD(vf_iommu_hwpt_get_dirty_bitmap, data, 40);

#endif
