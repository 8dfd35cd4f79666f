/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VFIO groups, devices and migration data descriptors: the part of <linux/vfio.h> that this project uses.
 * The legacy container is in vfio_container.h. The same request number can mean different things on
 * different kinds of descriptor, so each request says which kind takes it.
 *
 * argsz in a structure is its size in bytes as the caller knows it.
 */
#ifndef VFIO_FERRY_VFIO_H
#define VFIO_FERRY_VFIO_H

#include "layout.h"

/* Requests on a group descriptor, /dev/vfio/GROUP. */
enum {
  VF_VFIO_GROUP_GET_STATUS = _IO(';', 100 + 3),      /* struct vf_vfio_group_status */
  VF_VFIO_GROUP_SET_CONTAINER = _IO(';', 100 + 4),   /* pointer to the container's descriptor number, an int */
  VF_VFIO_GROUP_UNSET_CONTAINER = _IO(';', 100 + 5), /* no argument */
  VF_VFIO_GROUP_GET_DEVICE_FD = _IO(';', 100 + 6),   /* the device's name as a C string; returns a new descriptor */
};

/* Requests on a device descriptor, whether it came from a group or from /dev/vfio/devices. */
enum {
  VF_VFIO_DEVICE_GET_INFO = _IO(';', 100 + 7),        /* struct vf_vfio_device_info */
  VF_VFIO_DEVICE_GET_REGION_INFO = _IO(';', 100 + 8), /* struct vf_vfio_region_info */
  VF_VFIO_DEVICE_GET_IRQ_INFO = _IO(';', 100 + 9),    /* struct vf_vfio_irq_info */
  VF_VFIO_DEVICE_SET_IRQS = _IO(';', 100 + 10),       /* struct vf_vfio_irq_set and its data */
  VF_VFIO_DEVICE_RESET = _IO(';', 100 + 11),          /* no argument */
  VF_VFIO_DEVICE_FEATURE = _IO(';', 100 + 17),        /* struct vf_vfio_device_feature and a payload */
};

/* Requests on a device descriptor that was opened from /dev/vfio/devices; nothing else works before the first. */
enum {
  VF_VFIO_DEVICE_BIND_IOMMUFD = _IO(';', 100 + 18),      /* struct vf_vfio_device_bind_iommufd */
  VF_VFIO_DEVICE_ATTACH_IOMMUFD_PT = _IO(';', 100 + 19), /* struct vf_vfio_device_attach_iommufd_pt */
  VF_VFIO_DEVICE_DETACH_IOMMUFD_PT = _IO(';', 100 + 20), /* struct vf_vfio_device_detach_iommufd_pt */
};

/* The one request on a migration data descriptor; it answers in the PRE_COPY states only. */
enum {
  VF_VFIO_MIG_GET_PRECOPY_INFO = _IO(';', 100 + 21), /* struct vf_vfio_precopy_info */
};

VF_ASSERT_NUMBER(VF_VFIO_GROUP_GET_STATUS, 0x3b67);
VF_ASSERT_NUMBER(VF_VFIO_GROUP_SET_CONTAINER, 0x3b68);
VF_ASSERT_NUMBER(VF_VFIO_GROUP_UNSET_CONTAINER, 0x3b69);
VF_ASSERT_NUMBER(VF_VFIO_GROUP_GET_DEVICE_FD, 0x3b6a);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_GET_INFO, 0x3b6b);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_GET_REGION_INFO, 0x3b6c);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_GET_IRQ_INFO, 0x3b6d);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_SET_IRQS, 0x3b6e);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_RESET, 0x3b6f);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_FEATURE, 0x3b75);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_BIND_IOMMUFD, 0x3b76);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0x3b77);
VF_ASSERT_NUMBER(VF_VFIO_DEVICE_DETACH_IOMMUFD_PT, 0x3b78);
VF_ASSERT_NUMBER(VF_VFIO_MIG_GET_PRECOPY_INFO, 0x3b79);

/* Whether every device of a group is out of its host driver's hands, and whether it has a container. */
struct vf_vfio_group_status {
  uint32_t argsz;
  uint32_t flags;
};
enum {
  VF_VFIO_GROUP_FLAGS_VIABLE = 1 << 0,
  VF_VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1,
};
VF_ASSERT_SIZE(vf_vfio_group_status, 8);
VF_ASSERT_FIELD(vf_vfio_group_status, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_group_status, flags, 4);

/* What kind of device it is and how many regions and interrupts it may have. */
struct vf_vfio_device_info {
  uint32_t argsz;
  uint32_t flags;
  uint32_t num_regions; /* one more than the highest region index */
  uint32_t num_irqs;    /* one more than the highest interrupt index */
  uint32_t cap_offset;  /* bytes from the start of this structure to the first capability, 0: none */
  uint32_t pad;         /* Since Linux 6.7 */
};
enum {
  VF_VFIO_DEVICE_FLAGS_RESET = 1 << 0, /* says so when it can be reset; some that can don't say so */
  VF_VFIO_DEVICE_FLAGS_PCI = 1 << 1,
  VF_VFIO_DEVICE_FLAGS_CAPS = 1 << 7,
};
VF_ASSERT_SIZE(vf_vfio_device_info, 24);
VF_ASSERT_FIELD(vf_vfio_device_info, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_device_info, flags, 4);
VF_ASSERT_FIELD(vf_vfio_device_info, num_regions, 8);
VF_ASSERT_FIELD(vf_vfio_device_info, num_irqs, 12);
VF_ASSERT_FIELD(vf_vfio_device_info, cap_offset, 16);
VF_ASSERT_FIELD(vf_vfio_device_info, pad, 20);

/* Where a region is in the device descriptor's offsets, for pread, pwrite and mmap. */
struct vf_vfio_region_info {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index;      /* in: which region */
  uint32_t cap_offset; /* bytes from the start of this structure to the first capability, 0: none */
  uint64_t size;       /* bytes, 0: the device doesn't have it */
  uint64_t offset;     /* bytes from the start of the descriptor */
};
enum {
  VF_VFIO_REGION_INFO_FLAG_READ = 1 << 0,
  VF_VFIO_REGION_INFO_FLAG_WRITE = 1 << 1,
  VF_VFIO_REGION_INFO_FLAG_MMAP = 1 << 2,
  VF_VFIO_REGION_INFO_FLAG_CAPS = 1 << 3,
};
VF_ASSERT_SIZE(vf_vfio_region_info, 32);
VF_ASSERT_FIELD(vf_vfio_region_info, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_region_info, flags, 4);
VF_ASSERT_FIELD(vf_vfio_region_info, index, 8);
VF_ASSERT_FIELD(vf_vfio_region_info, cap_offset, 12);
VF_ASSERT_FIELD(vf_vfio_region_info, size, 16);
VF_ASSERT_FIELD(vf_vfio_region_info, offset, 24);

/* Region indices that every PCI device shares; those from VF_VFIO_PCI_NUM_REGIONS on are a device's own. */
enum {
  VF_VFIO_PCI_BAR0_REGION_INDEX = 0,
  VF_VFIO_PCI_BAR1_REGION_INDEX = 1,
  VF_VFIO_PCI_BAR2_REGION_INDEX = 2,
  VF_VFIO_PCI_BAR3_REGION_INDEX = 3,
  VF_VFIO_PCI_BAR4_REGION_INDEX = 4,
  VF_VFIO_PCI_BAR5_REGION_INDEX = 5,
  VF_VFIO_PCI_ROM_REGION_INDEX = 6,
  VF_VFIO_PCI_CONFIG_REGION_INDEX = 7,
  VF_VFIO_PCI_VGA_REGION_INDEX = 8,
  VF_VFIO_PCI_NUM_REGIONS = 9,
};

/* How many interrupts an index has and how they behave. */
struct vf_vfio_irq_info {
  uint32_t argsz;
  uint32_t flags;
  uint32_t index; /* in: which kind of interrupt */
  uint32_t count;
};
enum {
  VF_VFIO_IRQ_INFO_EVENTFD = 1 << 0,
  VF_VFIO_IRQ_INFO_MASKABLE = 1 << 1,
  VF_VFIO_IRQ_INFO_AUTOMASKED = 1 << 2,
  VF_VFIO_IRQ_INFO_NORESIZE = 1 << 3,
};
enum {
  VF_VFIO_PCI_INTX_IRQ_INDEX = 0,
  VF_VFIO_PCI_MSI_IRQ_INDEX = 1,
  VF_VFIO_PCI_MSIX_IRQ_INDEX = 2,
  VF_VFIO_PCI_ERR_IRQ_INDEX = 3,
  VF_VFIO_PCI_REQ_IRQ_INDEX = 4,
};
VF_ASSERT_SIZE(vf_vfio_irq_info, 16);
VF_ASSERT_FIELD(vf_vfio_irq_info, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_irq_info, flags, 4);
VF_ASSERT_FIELD(vf_vfio_irq_info, index, 8);
VF_ASSERT_FIELD(vf_vfio_irq_info, count, 12);

/* Says where some interrupts of an index are to be signalled, or raises or masks them; the data follow. */
struct vf_vfio_irq_set {
  uint32_t argsz;
  uint32_t flags; /* one kind of data and one action */
  uint32_t index;
  uint32_t start;
  uint32_t count;
};
enum {
  VF_VFIO_IRQ_SET_DATA_NONE = 1 << 0,
  VF_VFIO_IRQ_SET_DATA_BOOL = 1 << 1,
  VF_VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2, /* an int each, -1 for none */
  VF_VFIO_IRQ_SET_ACTION_MASK = 1 << 3,
  VF_VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4,
  VF_VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5,
};
VF_ASSERT_SIZE(vf_vfio_irq_set, 20);
VF_ASSERT_FIELD(vf_vfio_irq_set, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_irq_set, flags, 4);
VF_ASSERT_FIELD(vf_vfio_irq_set, index, 8);
VF_ASSERT_FIELD(vf_vfio_irq_set, start, 12);
VF_ASSERT_FIELD(vf_vfio_irq_set, count, 16);

/*
 * Ties a device to an iommufd and thereby opens it: a PCI device is reset here. Newer kernels have a token
 * behind these fields that a flag makes valid; without the flag they accept this size.
 */
struct vf_vfio_device_bind_iommufd {
  uint32_t argsz;
  uint32_t flags;     /* 0 */
  int32_t iommufd;    /* descriptor */
  uint32_t out_devid; /* the device's object number in that iommufd */
};
VF_ASSERT_SIZE(vf_vfio_device_bind_iommufd, 16);
VF_ASSERT_FIELD(vf_vfio_device_bind_iommufd, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_device_bind_iommufd, flags, 4);
VF_ASSERT_FIELD(vf_vfio_device_bind_iommufd, iommufd, 8);
VF_ASSERT_FIELD(vf_vfio_device_bind_iommufd, out_devid, 12);

/*
 * Gives the device an address space (the kernel picks or makes a page table in it) or a page table. Newer
 * kernels have a PASID behind these fields that a flag makes valid.
 */
struct vf_vfio_device_attach_iommufd_pt {
  uint32_t argsz;
  uint32_t flags; /* 0 */
  uint32_t pt_id; /* in: address space or page table; out: the page table, if there is one */
};
VF_ASSERT_SIZE(vf_vfio_device_attach_iommufd_pt, 12);
VF_ASSERT_FIELD(vf_vfio_device_attach_iommufd_pt, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_device_attach_iommufd_pt, flags, 4);
VF_ASSERT_FIELD(vf_vfio_device_attach_iommufd_pt, pt_id, 8);

/* Takes the address space away again. */
struct vf_vfio_device_detach_iommufd_pt {
  uint32_t argsz;
  uint32_t flags; /* 0 */
};
VF_ASSERT_SIZE(vf_vfio_device_detach_iommufd_pt, 8);
VF_ASSERT_FIELD(vf_vfio_device_detach_iommufd_pt, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_device_detach_iommufd_pt, flags, 4);

/* The head of every feature request; the payload follows at once, and argsz counts both. */
struct vf_vfio_device_feature {
  uint32_t argsz;
  uint32_t flags; /* the feature's number and what to do with it */
};
enum {
  VF_VFIO_DEVICE_FEATURE_MASK = 0xffff,
  VF_VFIO_DEVICE_FEATURE_GET = 1 << 16,
  VF_VFIO_DEVICE_FEATURE_SET = 1 << 17,
  VF_VFIO_DEVICE_FEATURE_PROBE = 1 << 18, /* only asks; with GET or SET: is that supported */
};
enum {
  VF_VFIO_DEVICE_FEATURE_MIGRATION = 1,
  VF_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2,
  VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6,
  VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7, /* SET, no payload */
  VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8,
  VF_VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9,
  VF_VFIO_DEVICE_FEATURE_DMA_BUF = 11,           /* Since Linux 7.0 */
  VF_VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12, /* SET, no payload. Since Linux 7.1 */
};
VF_ASSERT_SIZE(vf_vfio_device_feature, 8);
VF_ASSERT_FIELD(vf_vfio_device_feature, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_device_feature, flags, 4);

/* GET MIGRATION: which states the device has besides RUNNING and ERROR. */
struct vf_vfio_device_feature_migration {
  uint64_t flags;
};
enum {
  VF_VFIO_MIGRATION_STOP_COPY = 1 << 0, /* STOP, STOP_COPY, RESUMING */
  VF_VFIO_MIGRATION_P2P = 1 << 1,       /* RUNNING_P2P, and PRE_COPY_P2P if it has PRE_COPY */
  VF_VFIO_MIGRATION_PRE_COPY = 1 << 2,
};
VF_ASSERT_SIZE(vf_vfio_device_feature_migration, 8);
VF_ASSERT_FIELD(vf_vfio_device_feature_migration, flags, 0);

/* GET or SET MIG_DEVICE_STATE. SET may hand out a new descriptor, which the caller owns. */
struct vf_vfio_device_feature_mig_state {
  uint32_t device_state;
  int32_t data_fd; /* -1 when there is no new one */
};
enum {
  VF_VFIO_DEVICE_STATE_ERROR = 0,
  VF_VFIO_DEVICE_STATE_STOP = 1,
  VF_VFIO_DEVICE_STATE_RUNNING = 2,
  VF_VFIO_DEVICE_STATE_STOP_COPY = 3,
  VF_VFIO_DEVICE_STATE_RESUMING = 4,
  VF_VFIO_DEVICE_STATE_RUNNING_P2P = 5,
  VF_VFIO_DEVICE_STATE_PRE_COPY = 6,
  VF_VFIO_DEVICE_STATE_PRE_COPY_P2P = 7,
};
VF_ASSERT_SIZE(vf_vfio_device_feature_mig_state, 8);
VF_ASSERT_FIELD(vf_vfio_device_feature_mig_state, device_state, 0);
VF_ASSERT_FIELD(vf_vfio_device_feature_mig_state, data_fd, 4);

/* An estimate, in bytes, of what pre-copy has left to read. */
struct vf_vfio_precopy_info {
  uint32_t argsz;
  uint32_t flags;         /* undefined until MIG_PRECOPY_INFOv2 was set */
  uint64_t initial_bytes; /* of the part that the destination wants before the stop */
  uint64_t dirty_bytes;   /* of what changed since it was read */
};
enum {
  VF_VFIO_PRECOPY_INFO_REINIT = 1 << 0, /* there is initial data anew. Since Linux 7.1 */
};
VF_ASSERT_SIZE(vf_vfio_precopy_info, 24);
VF_ASSERT_FIELD(vf_vfio_precopy_info, argsz, 0);
VF_ASSERT_FIELD(vf_vfio_precopy_info, flags, 4);
VF_ASSERT_FIELD(vf_vfio_precopy_info, initial_bytes, 8);
VF_ASSERT_FIELD(vf_vfio_precopy_info, dirty_bytes, 16);

/* SET DMA_LOGGING_START: the device notes which pages of these ranges it writes. */
struct vf_vfio_device_feature_dma_logging_control {
  uint64_t page_size; /* bytes; in: wished for, out: what the device took */
  uint32_t num_ranges;
  uint32_t __reserved;
  uint64_t ranges; /* address of an array of struct vf_vfio_device_feature_dma_logging_range */
};
VF_ASSERT_SIZE(vf_vfio_device_feature_dma_logging_control, 24);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_control, page_size, 0);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_control, num_ranges, 8);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_control, __reserved, 12);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_control, ranges, 16);

/* IOVAs from iova up to, not including, iova + length, in bytes. */
struct vf_vfio_device_feature_dma_logging_range {
  uint64_t iova;
  uint64_t length;
};
VF_ASSERT_SIZE(vf_vfio_device_feature_dma_logging_range, 16);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_range, iova, 0);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_range, length, 8);

/* GET DMA_LOGGING_REPORT: reads what was noted in the range and forgets it; bits are only ever set. */
struct vf_vfio_device_feature_dma_logging_report {
  uint64_t iova;
  uint64_t length;    /* bytes */
  uint64_t page_size; /* bytes that one bit stands for */
  uint64_t bitmap;    /* address of an array of 64-bit words */
};
VF_ASSERT_SIZE(vf_vfio_device_feature_dma_logging_report, 32);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_report, iova, 0);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_report, length, 8);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_report, page_size, 16);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_logging_report, bitmap, 24);

/* GET MIG_DATA_SIZE: an estimate, in bytes, of what stop-copy will have to read. */
struct vf_vfio_device_feature_mig_data_size {
  uint64_t stop_copy_length;
};
VF_ASSERT_SIZE(vf_vfio_device_feature_mig_data_size, 8);
VF_ASSERT_FIELD(vf_vfio_device_feature_mig_data_size, stop_copy_length, 0);

/* A part of a region, in bytes from the region's start. */
struct vf_vfio_region_dma_range { /* Since Linux 7.0 */
  uint64_t offset;
  uint64_t length;
};
VF_ASSERT_SIZE(vf_vfio_region_dma_range, 16);
VF_ASSERT_FIELD(vf_vfio_region_dma_range, offset, 0);
VF_ASSERT_FIELD(vf_vfio_region_dma_range, length, 8);

/* GET DMA_BUF: a dma-buf of parts of one region; the ranges follow. The request returns its descriptor. */
struct vf_vfio_device_feature_dma_buf { /* Since Linux 7.0 */
  uint32_t region_index;
  uint32_t open_flags; /* as in open(2): O_RDWR, O_CLOEXEC */
  uint32_t flags;      /* 0 */
  uint32_t nr_ranges;
};
VF_ASSERT_SIZE(vf_vfio_device_feature_dma_buf, 16);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_buf, region_index, 0);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_buf, open_flags, 4);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_buf, flags, 8);
VF_ASSERT_FIELD(vf_vfio_device_feature_dma_buf, nr_ranges, 12);

/*
 * Whole requests, head and payload in one. The kernel has no name for these; features without a
 * payload (DMA_LOGGING_STOP, MIG_PRECOPY_INFOv2) are a bare head.
 */
struct vf_request_irq_eventfd { /* of one interrupt */
  struct vf_vfio_irq_set header;
  int32_t eventfd;
};
struct vf_request_migration {
  struct vf_vfio_device_feature header;
  struct vf_vfio_device_feature_migration body;
};
struct vf_request_mig_state {
  struct vf_vfio_device_feature header;
  struct vf_vfio_device_feature_mig_state body;
};
struct vf_request_dma_logging_control {
  struct vf_vfio_device_feature header;
  struct vf_vfio_device_feature_dma_logging_control body;
};
struct vf_request_dma_logging_report {
  struct vf_vfio_device_feature header;
  struct vf_vfio_device_feature_dma_logging_report body;
};
struct vf_request_mig_data_size {
  struct vf_vfio_device_feature header;
  struct vf_vfio_device_feature_mig_data_size body;
};
struct vf_request_dma_buf { /* of one range */
  struct vf_vfio_device_feature header;
  struct vf_vfio_device_feature_dma_buf body;
  struct vf_vfio_region_dma_range range;
};
VF_ASSERT_SIZE(vf_request_irq_eventfd, 24);
VF_ASSERT_FIELD(vf_request_irq_eventfd, eventfd, sizeof(struct vf_vfio_irq_set));
VF_ASSERT_SIZE(vf_request_migration, 16);
VF_ASSERT_FIELD(vf_request_migration, body, sizeof(struct vf_vfio_device_feature));
VF_ASSERT_SIZE(vf_request_mig_state, 16);
VF_ASSERT_FIELD(vf_request_mig_state, body, sizeof(struct vf_vfio_device_feature));
VF_ASSERT_SIZE(vf_request_dma_logging_control, 32);
VF_ASSERT_FIELD(vf_request_dma_logging_control, body, sizeof(struct vf_vfio_device_feature));
VF_ASSERT_SIZE(vf_request_dma_logging_report, 40);
VF_ASSERT_FIELD(vf_request_dma_logging_report, body, sizeof(struct vf_vfio_device_feature));
VF_ASSERT_SIZE(vf_request_mig_data_size, 16);
VF_ASSERT_FIELD(vf_request_mig_data_size, body, sizeof(struct vf_vfio_device_feature));
VF_ASSERT_SIZE(vf_request_dma_buf, 40);
VF_ASSERT_FIELD(vf_request_dma_buf, body, sizeof(struct vf_vfio_device_feature));
VF_ASSERT_FIELD(vf_request_dma_buf, range, 24);

#endif
