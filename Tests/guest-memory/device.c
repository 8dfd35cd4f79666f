/* SPDX-License-Identifier: Apache-2.0 */
/* The device behind guest-memory, and whoever tracks what it writes. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfio_ferry/iommufd.h"
#include "vfio_ferry/vfio.h"
#include "vfio_ferry/vfio_container.h"

const char *failed_call = "";
enum way way;

static int device = -1, iommufd = -1, container = -1;
static uint32_t ioas, hwpt;
static uint64_t registers; /* where BAR 0 is in the device's descriptor */

static bool failed(const char *call) {
  failed_call = call;
  return false;
}

static int opened(const char *path) {
  failed_call = path;
  return open(path, O_RDWR | O_CLOEXEC);
}

static bool attach(uint32_t table) {
  struct vf_vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = table};
  return ioctl(device, VF_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0 || failed("ATTACH_IOMMUFD_PT");
}

static bool open_node(const char *node) {
  if ((device = opened(node)) < 0 || (iommufd = opened("/dev/iommu")) < 0) return false;
  struct vf_vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommufd};
  if (ioctl(device, VF_VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0) return failed("BIND_IOMMUFD");
  struct vf_iommu_ioas_alloc space = {.size = sizeof space};
  if (ioctl(iommufd, VF_IOMMU_IOAS_ALLOC, &space) < 0) return failed("IOAS_ALLOC");
  ioas = space.out_ioas_id;
  if (way == by_ioas) return attach(ioas);

  struct vf_iommu_hw_info hardware = {.size = sizeof hardware, .dev_id = bind.out_devid};
  if (ioctl(iommufd, VF_IOMMU_GET_HW_INFO, &hardware) < 0) return failed("GET_HW_INFO");
  if ((hardware.out_capabilities & VF_IOMMU_HW_CAP_DIRTY_TRACKING) == 0) {
    errno = EOPNOTSUPP;
    return failed("the IOMMU has no dirty tracking");
  }
  struct vf_iommu_hwpt_alloc table = {.size = sizeof table, .flags = VF_IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
                                      .dev_id = bind.out_devid, .pt_id = ioas};
  if (ioctl(iommufd, VF_IOMMU_HWPT_ALLOC, &table) < 0) return failed("HWPT_ALLOC");
  hwpt = table.out_hwpt_id;
  return attach(hwpt);
}

static bool open_group(const char *path, const char *name) {
  int group = opened(path);
  if (group < 0 || (container = opened("/dev/vfio/vfio")) < 0) return false;
  if (ioctl(group, VF_VFIO_GROUP_SET_CONTAINER, &container) < 0) return failed("GROUP_SET_CONTAINER");
  if (ioctl(container, VF_VFIO_SET_IOMMU, VF_VFIO_TYPE1v2_IOMMU) < 0) return failed("SET_IOMMU");
  device = ioctl(group, VF_VFIO_GROUP_GET_DEVICE_FD, name);
  return device >= 0 || failed("GROUP_GET_DEVICE_FD");
}

bool device_open(int count, char **arguments) {
  bool is_open;
  errno = EINVAL;
  if (count == 2 && strcmp(arguments[0], "ioas") == 0) {
    way = by_ioas;
    is_open = open_node(arguments[1]);
  } else if (count == 2 && strcmp(arguments[0], "hwpt") == 0) {
    way = by_hwpt;
    is_open = open_node(arguments[1]);
  } else if (count == 3 && strcmp(arguments[0], "group") == 0) {
    way = by_group;
    is_open = open_group(arguments[1], arguments[2]);
  } else {
    return failed("usage: guest-memory ioas NODE | hwpt NODE | group /dev/vfio/GROUP NAME");
  }
  struct vf_vfio_region_info info = {.argsz = sizeof info, .index = VF_VFIO_PCI_BAR0_REGION_INDEX};
  if (!is_open) return false;
  if (ioctl(device, VF_VFIO_DEVICE_GET_REGION_INFO, &info) < 0) return failed("GET_REGION_INFO");
  registers = info.offset;
  return true;
}

bool device_map(uint64_t iova, uint64_t length, void *memory) {
  if (way == by_group) {
    struct vf_vfio_iommu_type1_dma_map map = {
        .argsz = sizeof map, .flags = VF_VFIO_DMA_MAP_FLAG_READ | VF_VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)memory, .iova = iova, .size = length};
    return ioctl(container, VF_VFIO_IOMMU_MAP_DMA, &map) == 0 || failed("MAP_DMA");
  }
  struct vf_iommu_ioas_map map = {
      .size = sizeof map,
      .flags = VF_IOMMU_IOAS_MAP_FIXED_IOVA | VF_IOMMU_IOAS_MAP_WRITEABLE | VF_IOMMU_IOAS_MAP_READABLE,
      .ioas_id = ioas, .user_va = (uintptr_t)memory, .length = length, .iova = iova};
  return ioctl(iommufd, VF_IOMMU_IOAS_MAP, &map) == 0 || failed("IOAS_MAP");
}

bool device_unmap(uint64_t iova, uint64_t length) {
  if (way == by_group) {
    struct vf_vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = iova, .size = length};
    return ioctl(container, VF_VFIO_IOMMU_UNMAP_DMA, &unmap) == 0 || failed("UNMAP_DMA");
  }
  struct vf_iommu_ioas_unmap unmap = {.size = sizeof unmap, .ioas_id = ioas, .iova = iova, .length = length};
  return ioctl(iommufd, VF_IOMMU_IOAS_UNMAP, &unmap) == 0 || failed("IOAS_UNMAP");
}

bool device_set_state(const char *name) {
  static const struct {
    const char *name;
    uint32_t state;
  } states[] = {{"running", VF_VFIO_DEVICE_STATE_RUNNING}, {"running-p2p", VF_VFIO_DEVICE_STATE_RUNNING_P2P},
                {"stop", VF_VFIO_DEVICE_STATE_STOP}};
  size_t i = 0;
  while (i < sizeof states / sizeof *states && strcmp(name, states[i].name) != 0) i++;
  errno = EINVAL;
  if (i == sizeof states / sizeof *states) return failed("no such state here");
  struct vf_request_mig_state request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE},
      .body = {.device_state = states[i].state, .data_fd = -1}};
  return ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) == 0 || failed("SET MIG_DEVICE_STATE");
}

bool device_control(uint32_t bits) {
  errno = EIO; /* for a call that moves too little and says no error */
  return pwrite(device, &bits, sizeof bits, (off_t)(registers + 0x08)) == sizeof bits || failed("pwrite");
}

bool device_position(uint64_t *position) {
  errno = EIO;
  return pread(device, position, sizeof *position, (off_t)(registers + 0x50)) == sizeof *position || failed("pread");
}

bool log_start(const struct vf_vfio_device_feature_dma_logging_range *ranges, uint32_t count, uint64_t *page_size) {
  struct vf_request_dma_logging_control request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_START},
      .body = {.page_size = *page_size, .num_ranges = count, .ranges = (uintptr_t)ranges}};
  if (ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) < 0) return failed("DMA_LOGGING_START");
  *page_size = request.body.page_size;
  return true;
}

static bool set_tracking(uint32_t flags) {
  struct vf_iommu_hwpt_set_dirty_tracking request = {.size = sizeof request, .flags = flags, .hwpt_id = hwpt};
  return ioctl(iommufd, VF_IOMMU_HWPT_SET_DIRTY_TRACKING, &request) == 0 || failed("SET_DIRTY_TRACKING");
}

/* Tracks everything that is mapped; page_size is what one bit will stand for, in wished for and out had. */
bool track_start(uint64_t *page_size) {
  if (way == by_hwpt) return set_tracking(VF_IOMMU_HWPT_DIRTY_TRACKING_ENABLE);
  struct vf_vfio_device_feature_dma_logging_range ranges[maps_max];
  for (int i = 0; i < map_count; i++) {
    ranges[i] = (struct vf_vfio_device_feature_dma_logging_range){.iova = maps[i].iova, .length = maps[i].length};
  }
  return log_start(ranges, (uint32_t)map_count, page_size);
}

bool track_stop(void) {
  if (way == by_hwpt) return set_tracking(0);
  struct vf_vfio_device_feature request = {
      .argsz = sizeof request, .flags = VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP};
  return ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) == 0 || failed("DMA_LOGGING_STOP");
}

/* Adds to the bitmap what was written since the last time, and has the tracker forget it. */
bool track_report(uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap) {
  if (way == by_hwpt) {
    struct vf_iommu_hwpt_get_dirty_bitmap request = {.size = sizeof request, .hwpt_id = hwpt, .iova = iova,
                                                     .length = length, .page_size = page_size,
                                                     .data = (uintptr_t)bitmap};
    return ioctl(iommufd, VF_IOMMU_HWPT_GET_DIRTY_BITMAP, &request) == 0 || failed("GET_DIRTY_BITMAP");
  }
  struct vf_request_dma_logging_report request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_GET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT},
      .body = {.iova = iova, .length = length, .page_size = page_size, .bitmap = (uintptr_t)bitmap}};
  return ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) == 0 || failed("DMA_LOGGING_REPORT");
}
