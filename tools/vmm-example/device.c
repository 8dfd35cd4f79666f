/* SPDX-License-Identifier: Apache-2.0 */
/* A VFIO device: how it is opened, and what of it the VMM keeps itself and carries to the other side. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio_ferry/iommufd.h"
#include "vfio_ferry/vfio.h"
#include "vmm.h"

/* ---- Opening ---- */

/* The device's node in /dev/vfio/devices, and the name that the helper knows it by. */
static bool find(struct device *device, char *node, size_t size) {
  static const char *const buses[] = {"mdev", "pci", "vfio-synthetic"};
  char folder[PATH_MAX];
  for (size_t i = 0; i < sizeof buses / sizeof *buses && strchr(device->argument, '/') == NULL; i++) {
    snprintf(folder, sizeof folder, "/sys/bus/%s/devices/%s/vfio-dev", buses[i], device->argument);
    DIR *children = opendir(folder);
    if (children == NULL) continue;
    struct dirent *child;
    while ((child = readdir(children)) != NULL && strncmp(child->d_name, "vfio", 4) != 0) continue;
    int length = child ? snprintf(node, size, "/dev/vfio/devices/%s", child->d_name) : 0;
    closedir(children);
    if (length <= 0 || (size_t)length >= size) continue;
    /* A device of a bus that the helper does not know goes by its node. */
    const char *name = i < 2 ? device->argument : node;
    if ((size_t)snprintf(device->name, sizeof device->name, "%s", name) >= sizeof device->name) break;
    return true;
  }
  return fail("%s is no VFIO device: give the UUID of an mdev or the PCI address of a device on a VFIO driver",
              device->argument);
}

static bool attach(const struct device *device, uint32_t table) {
  struct vf_vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = table};
  return ioctl(device->fd, VF_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0;
}

/* Attaches it to a page table with dirty bits where its IOMMU has them, and to the address space otherwise. */
static bool attach_best(
    struct device *device, const struct address_space *space, const struct device *others, int count) {
  struct vf_iommu_hw_info hardware = {.size = sizeof hardware, .dev_id = device->number};
  bool is_behind_iommu = ioctl(space->iommufd, VF_IOMMU_GET_HW_INFO, &hardware) == 0;
  /* Emulated devices have no IOMMU, and so no such object in the iommufd. */
  if (!is_behind_iommu && errno != ENOENT) return fail_errno("%s: GET_HW_INFO", device->argument);
  if (!is_behind_iommu || (hardware.out_capabilities & VF_IOMMU_HW_CAP_DIRTY_TRACKING) == 0) {
    return attach(device, space->ioas) || fail_errno("%s: ATTACH_IOMMUFD_PT", device->argument);
  }
  /* Devices behind the same IOMMU share a page table. */
  for (int i = 0; i < count; i++) {
    if (others[i].page_table == 0 || !attach(device, others[i].page_table)) continue;
    device->page_table = others[i].page_table;
    return true;
  }
  struct vf_iommu_hwpt_alloc table = {.size = sizeof table, .flags = VF_IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
                                      .dev_id = device->number, .pt_id = space->ioas};
  if (ioctl(space->iommufd, VF_IOMMU_HWPT_ALLOC, &table) < 0) return fail_errno("%s: HWPT_ALLOC", device->argument);
  device->page_table = table.out_hwpt_id;
  return attach(device, table.out_hwpt_id) || fail_errno("%s: ATTACH_IOMMUFD_PT", device->argument);
}

bool device_open(struct device *device, struct address_space *space, const struct device *others, int count) {
  char node[64];
  device->fd = -1;
  if (!find(device, node, sizeof node)) return false;
  device->fd = open(node, O_RDWR | O_CLOEXEC);
  if (device->fd < 0) return fail_errno("%s", node);
  /* This resets a PCI device: whatever was in it is gone. */
  struct vf_vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = space->iommufd};
  if (ioctl(device->fd, VF_VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0) {
    return fail_errno("%s: BIND_IOMMUFD", device->argument);
  }
  device->number = bind.out_devid;
  struct vf_vfio_device_info info = {.argsz = sizeof info};
  if (ioctl(device->fd, VF_VFIO_DEVICE_GET_INFO, &info) < 0) return fail_errno("%s: GET_INFO", device->argument);
  /* What region and what interrupt has which number is known for PCI devices only. */
  bool is_pci = (info.flags & VF_VFIO_DEVICE_FLAGS_PCI) != 0;
  device->region_count = is_pci ? info.num_regions : 0;
  device->irq_kinds = is_pci ? info.num_irqs : 0;
  return attach_best(device, space, others, count);
}

/* ---- Regions ---- */

/* Where a region is in the device's descriptor; size 0: the device does not have it. */
static bool region(const struct device *device, uint32_t index, struct vf_vfio_region_info *info) {
  *info = (struct vf_vfio_region_info){.argsz = sizeof *info, .index = index};
  return index >= device->region_count || ioctl(device->fd, VF_VFIO_DEVICE_GET_REGION_INFO, info) == 0 ||
         fail_errno("%s: GET_REGION_INFO", device->argument);
}

static bool access_region(const struct device *device, const struct vf_vfio_region_info *info, uint64_t offset,
                          void *bytes, size_t count, bool writes) {
  if (offset > info->size || count > info->size - offset) {
    return fail("%s: region %u has no %zu bytes at 0x%llx", device->argument, info->index, count,
                (unsigned long long)offset);
  }
  for (size_t done = 0; done < count;) {
    off_t at = (off_t)(info->offset + offset + done);
    char *rest = (char *)bytes + done;
    ssize_t moved = writes ? pwrite(device->fd, rest, count - done, at) : pread(device->fd, rest, count - done, at);
    if (moved < 0 && errno == EINTR) continue;
    if (moved == 0) errno = EIO;
    if (moved <= 0) return fail_errno("%s: region %u at 0x%llx", device->argument, info->index, (unsigned long long)offset);
    done += (size_t)moved;
  }
  return true;
}

/* ---- Configuration space ---- */

enum {
  config_command = 0x04,
  config_status = 0x06,
  config_cache_line = 0x0c,
  config_bars = 0x10,
  config_bars_end = 0x28,
  config_rom = 0x30,
  config_capabilities = 0x34,
  config_interrupt_line = 0x3c,
  config_header_end = 0x40,
  status_has_capabilities = 1 << 4,
  capability_msi = 0x05,
  msi_is_64_bit = 1 << 7, /* in its control register, at 2 */
};

bool device_read_config(struct device *device) {
  struct vf_vfio_region_info info;
  if (!region(device, VF_VFIO_PCI_CONFIG_REGION_INDEX, &info)) return false;
  device->config_size = info.size < config_max ? (uint32_t)info.size : config_max;
  return access_region(device, &info, 0, device->config, device->config_size, false);
}

/* Where the MSI capability is; 0: there is none. */
static uint32_t find_msi(const struct device *device) {
  const uint8_t *config = device->config;
  if (device->config_size < config_header_end || (config[config_status] & status_has_capabilities) == 0) return 0;
  uint32_t at = config[config_capabilities] & 0xfcu;
  /* At most as many as there is room for, in case it leads in a circle. */
  for (int left = 48; at >= config_header_end && at + 14 <= device->config_size && left > 0; left--) {
    if (config[at] == capability_msi) return at;
    at = config[at + 1] & 0xfcu;
  }
  return 0;
}

/*
 * Puts back what the guest has set: BARs, ROM, cache line, interrupt line, MSI's address and data, and at last the command register,
 * because from its bits on the device decodes the BARs and may write. The rest a driver of the device may have changed is in the
 * device's own state, or read-only; writing all of it back would also touch registers that do something when they are written.
 */
bool device_restore_config(const struct device *device) {
  struct vf_vfio_region_info info;
  if (device->config_size == 0) return true;
  if (!region(device, VF_VFIO_PCI_CONFIG_REGION_INDEX, &info)) return false;
  if (info.size < device->config_size || device->config_size < config_header_end) {
    return fail("%s: its configuration space has %llu bytes here, and had %u", device->argument,
                (unsigned long long)info.size, device->config_size);
  }
  uint8_t bytes[config_max];
  memcpy(bytes, device->config, device->config_size);
  for (uint32_t at = config_bars; at < config_bars_end; at += 4) {
    if (!access_region(device, &info, at, bytes + at, 4, true)) return false;
  }
  if (!access_region(device, &info, config_rom, bytes + config_rom, 4, true) ||
      !access_region(device, &info, config_cache_line, bytes + config_cache_line, 1, true) ||
      !access_region(device, &info, config_interrupt_line, bytes + config_interrupt_line, 1, true)) {
    return false;
  }
  uint32_t msi = find_msi(device), msi_bytes = bytes[msi + 2] & msi_is_64_bit ? 14 : 10;
  for (uint32_t at = msi + 2; msi != 0 && at < msi + msi_bytes; at += 2) {
    if (!access_region(device, &info, at, bytes + at, 2, true)) return false;
  }
  return access_region(device, &info, config_command, bytes + config_command, 2, true);
}

/* ---- Interrupts ---- */

bool device_set_interrupts(struct device *device, uint32_t index, uint32_t count) {
  struct {
    struct vf_vfio_irq_set header;
    int32_t descriptors[irqs_max];
  } request = {.header = {.argsz = (uint32_t)(sizeof request.header + count * sizeof(int32_t)), .index = index,
                          .count = count,
                          .flags = VF_VFIO_IRQ_SET_DATA_EVENTFD | VF_VFIO_IRQ_SET_ACTION_TRIGGER}};
  device->irq_index = index;
  for (device->irq_count = 0; device->irq_count < count; device->irq_count++) {
    int descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (descriptor < 0) return fail_errno("eventfd");
    request.descriptors[device->irq_count] = device->irqs[device->irq_count] = descriptor;
  }
  if (count == 0) return true;
  return ioctl(device->fd, VF_VFIO_DEVICE_SET_IRQS, &request) == 0 || fail_errno("%s: SET_IRQS", device->argument);
}

bool device_enable_interrupts(struct device *device) {
  static const uint32_t kinds[] = {VF_VFIO_PCI_MSIX_IRQ_INDEX, VF_VFIO_PCI_MSI_IRQ_INDEX, VF_VFIO_PCI_INTX_IRQ_INDEX};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    struct vf_vfio_irq_info info = {.argsz = sizeof info, .index = kinds[i]};
    bool is_known = kinds[i] < device->irq_kinds && ioctl(device->fd, VF_VFIO_DEVICE_GET_IRQ_INFO, &info) == 0;
    /* Some drivers refuse to tell of a kind that they don't have. */
    if (!is_known && kinds[i] < device->irq_kinds && errno != EINVAL) return fail_errno("%s: GET_IRQ_INFO", device->argument);
    if (!is_known || info.count == 0 || (info.flags & VF_VFIO_IRQ_INFO_EVENTFD) == 0) continue;
    return device_set_interrupts(device, kinds[i], info.count < irqs_max ? info.count : irqs_max);
  }
  return true;
}

bool device_take_interrupts(struct device *device) {
  for (uint32_t i = 0; i < device->irq_count; i++) {
    uint64_t count = 0;
    if (read(device->irqs[i], &count, sizeof count) < 0 && errno != EAGAIN) return fail_errno("reading an eventfd");
    device->pending |= count ? UINT64_C(1) << i : 0;
  }
  return true;
}

/* ---- The blob ---- */

/* What the VMM keeps of a device, as it goes along in the stream. To the helper these are bytes. */
struct blob {
  uint32_t magic, irq_index, irq_count, config_size;
  uint64_t pending;
  uint8_t config[config_max]; /* of it, config_size bytes */
};
enum { blob_magic = 0x424d4d56, blob_head = offsetof(struct blob, config) };

int device_make_blob(struct device *device, uint32_t *size) {
  struct blob blob = {.magic = blob_magic, .irq_index = device->irq_index, .irq_count = device->irq_count,
                      .config_size = device->config_size, .pending = device->pending};
  memcpy(blob.config, device->config, device->config_size);
  *size = blob_head + device->config_size;
  int file = memfd_create("blob", MFD_CLOEXEC);
  if (file < 0) {
    fail_errno("memfd_create");
  } else if (!write_all(file, &blob, *size)) {
    fail_errno("writing a blob");
    close(file);
    file = -1;
  }
  return file;
}

bool device_restore_blob(struct device *device, int file, uint32_t size) {
  struct blob blob;
  if (size < blob_head || size > sizeof blob || pread(file, &blob, size, 0) != (ssize_t)size ||
      blob.magic != blob_magic || blob.irq_count > irqs_max || blob.config_size != size - blob_head) {
    return fail("%s: what came of its configuration is not what a vmm-example sends", device->argument);
  }
  device->config_size = blob.config_size;
  memcpy(device->config, blob.config, blob.config_size);
  if (!device_restore_config(device) || !device_set_interrupts(device, blob.irq_index, blob.irq_count)) return false;
  /* An interrupt that came and was not taken comes again: the guest waits for it. */
  for (uint32_t i = 0; i < blob.irq_count; i++) {
    uint64_t one = 1;
    if ((blob.pending >> i & 1) != 0 && write(device->irqs[i], &one, sizeof one) < 0) {
      return fail_errno("raising an interrupt");
    }
  }
  return true;
}

/* ---- Marks ---- */

/* A register that keeps what is written to it, and what is written. */
struct mark {
  uint32_t bar, offset;
  uint8_t value;
};

/* Marks for what kind of device it is, told by BAR 0; returns how many. */
static int marks(const struct device *device, struct mark marks[6]) {
  enum { uart_lcr = 3, uart_mcr = 4, uart_scratch = 7, uart_bytes = 8, synthetic_magic = 0x4e595356, synthetic_scratch = 0x10 };
  struct vf_vfio_region_info info;
  if (!region(device, VF_VFIO_PCI_BAR0_REGION_INDEX, &info)) return -1;
  int count = 0;
  if (info.size == uart_bytes) {
    /* mtty: a 16550 each in BAR 0 and BAR 1. No bit is used that does something else. */
    for (uint32_t bar = 0; bar < 2; bar++) {
      uint8_t value = (uint8_t)(2 * device->id + bar);
      marks[count++] = (struct mark){.bar = bar, .offset = uart_scratch, .value = (uint8_t)(0x50 + value)};
      marks[count++] = (struct mark){.bar = bar, .offset = uart_lcr, .value = value & 0x1f};
      marks[count++] = (struct mark){.bar = bar, .offset = uart_mcr, .value = value & 0x07};
    }
    return count;
  }
  uint32_t magic = 0;
  if (info.size >= 0x1000 && !access_region(device, &info, 0, &magic, sizeof magic, false)) return -1;
  for (uint32_t i = 0; i < 6 && magic == synthetic_magic; i++) {
    marks[count++] = (struct mark){.offset = synthetic_scratch + i, .value = (uint8_t)(0x50 + 8 * device->id + i)};
  }
  if (count == 0) {
    fail("%s: there is no register known that could carry a mark", device->argument);
    return -1;
  }
  return count;
}

static bool touch_marks(const struct device *device, bool writes) {
  struct mark all[6];
  int count = marks(device, all);
  for (int i = 0; i < count; i++) {
    struct vf_vfio_region_info info;
    uint8_t value = all[i].value;
    if (!region(device, VF_VFIO_PCI_BAR0_REGION_INDEX + all[i].bar, &info) ||
        !access_region(device, &info, all[i].offset, &value, 1, writes)) {
      return false;
    }
    if (value == all[i].value) continue;
    return fail("%s: BAR %u has 0x%02x at %u, and should have 0x%02x", device->argument, all[i].bar, value,
                all[i].offset, all[i].value);
  }
  return count > 0;
}

bool device_mark(const struct device *device) { return touch_marks(device, true); }
bool device_check_mark(const struct device *device) { return touch_marks(device, false); }
