/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device-holder [--group] DEVICE
 *
 * Stands in for a VMM in the lab's tests: it opens one VFIO device, says "ready", keeps it open, and does
 * what lines on its standard input say, each with one line of answer. It shares nothing with vfio-ferry but
 * the uAPI layouts, so what both see is what the kernel has.
 *
 * DEVICE is an mdev UUID, a PCI address or /dev/vfio/devices/vfioN. It is opened as a cdev with an iommufd
 * of its own, or with --group through its group and a legacy container.
 *
 *   peek REGION OFFSET         0xNN, one byte
 *   poke REGION OFFSET VALUE   ok
 *   state                      NUMBER NAME
 *   set NAME                   ok; a data descriptor that comes with it replaces the one held
 *   read N                     COUNT HEX, up to N bytes from the data descriptor
 *   write HEX                  ok
 *   reset                      ok
 *   features                   the migration flags, 0xN and their names
 *   quit                       ok, and it ends
 *
 * What the kernel refuses answers "errno NAME CALL". Numbers are as in C; what is no command: "what?".
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vfio_ferry/iommufd.h"
#include "vfio_ferry/vfio.h"
#include "vfio_ferry/vfio_container.h"

enum { data_max = 1 << 20, line_max = 2 * data_max + 64 };

static int device = -1;
static int data_fd = -1;

static const char *const state_names[] = {
    [VF_VFIO_DEVICE_STATE_ERROR] = "error",
    [VF_VFIO_DEVICE_STATE_STOP] = "stop",
    [VF_VFIO_DEVICE_STATE_RUNNING] = "running",
    [VF_VFIO_DEVICE_STATE_STOP_COPY] = "stop-copy",
    [VF_VFIO_DEVICE_STATE_RESUMING] = "resuming",
    [VF_VFIO_DEVICE_STATE_RUNNING_P2P] = "running-p2p",
    [VF_VFIO_DEVICE_STATE_PRE_COPY] = "pre-copy",
    [VF_VFIO_DEVICE_STATE_PRE_COPY_P2P] = "pre-copy-p2p",
};
enum { state_count = sizeof state_names / sizeof *state_names };

/* The answer to what the kernel refused. */
static bool failed(const char *call) {
  const char *name = strerrorname_np(errno);
  printf("errno %s %s\n", name ? name : "unknown", call);
  return false;
}

/* The answer to what was done and has no other. */
static bool done(void) {
  puts("ok");
  return true;
}

static bool not_understood(void) {
  puts("what?");
  return false;
}

static _Noreturn void give_up(const char *call) {
  failed(call);
  exit(1);
}

/* A descriptor of a node, or the end of the program. */
static int opened(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) give_up(path);
  return fd;
}

/* Writes the device's sysfs folder to `folder`, which has PATH_MAX bytes. */
static void find_device(const char *name, char *folder) {
  static const char *const places[] = {"/sys/bus/mdev/devices/%s", "/sys/bus/pci/devices/%s",
                                       "/sys/class/vfio-dev/%s/device"};
  if (strncmp(name, "/dev/vfio/devices/", 18) == 0) name += 18;
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, places[i], name);
    if (strchr(name, '/') == NULL && realpath(path, folder) != NULL) return;
  }
  errno = ENODEV;
  give_up("find the device");
}

static void open_cdev(const char *folder) {
  char path[PATH_MAX + 32];
  snprintf(path, sizeof path, "%s/vfio-dev", folder);
  DIR *children = opendir(path);
  if (children == NULL) give_up("vfio-dev");
  struct dirent *child;
  while ((child = readdir(children)) != NULL && strncmp(child->d_name, "vfio", 4) != 0) continue;
  if (child == NULL) {
    errno = ENODEV;
    give_up("vfio-dev");
  }
  snprintf(path, sizeof path, "/dev/vfio/devices/%s", child->d_name);
  closedir(children);
  device = opened(path);

  int iommufd = opened("/dev/iommu");
  struct vf_vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommufd};
  if (ioctl(device, VF_VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0) give_up("BIND_IOMMUFD");
  struct vf_iommu_ioas_alloc space = {.size = sizeof space};
  if (ioctl(iommufd, VF_IOMMU_IOAS_ALLOC, &space) < 0) give_up("IOAS_ALLOC");
  struct vf_vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = space.out_ioas_id};
  if (ioctl(device, VF_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) < 0) give_up("ATTACH_IOMMUFD_PT");
}

static void open_group(const char *folder) {
  char path[PATH_MAX + 32], target[PATH_MAX];
  snprintf(path, sizeof path, "%s/iommu_group", folder);
  ssize_t length = readlink(path, target, sizeof target - 1);
  if (length < 0) give_up("iommu_group");
  target[length] = 0;
  const char *number = strrchr(target, '/');
  snprintf(path, sizeof path, "/dev/vfio/%s", number ? number + 1 : target);
  int group = opened(path);
  int container = opened("/dev/vfio/vfio");

  struct vf_vfio_group_status status = {.argsz = sizeof status};
  if (ioctl(group, VF_VFIO_GROUP_GET_STATUS, &status) < 0) give_up("GROUP_GET_STATUS");
  if ((status.flags & VF_VFIO_GROUP_FLAGS_VIABLE) == 0) {
    errno = EPERM;
    give_up("the group is not viable");
  }
  if (ioctl(group, VF_VFIO_GROUP_SET_CONTAINER, &container) < 0) give_up("GROUP_SET_CONTAINER");
  if (ioctl(container, VF_VFIO_SET_IOMMU, VF_VFIO_TYPE1v2_IOMMU) < 0) give_up("SET_IOMMU");
  device = ioctl(group, VF_VFIO_GROUP_GET_DEVICE_FD, strrchr(folder, '/') + 1);
  if (device < 0) give_up("GROUP_GET_DEVICE_FD");
}

/* Reads (VALUE NULL) or writes one byte of a region. */
static bool touch(char *region, char *offset, const char *value) {
  struct vf_vfio_region_info info = {.argsz = sizeof info, .index = (uint32_t)strtoul(region, NULL, 0)};
  if (ioctl(device, VF_VFIO_DEVICE_GET_REGION_INFO, &info) < 0) return failed("GET_REGION_INFO");
  uint64_t at = strtoull(offset, NULL, 0);
  if (at >= info.size) {
    errno = ERANGE;
    return failed("the offset is outside of the region");
  }
  off_t position = (off_t)(info.offset + at);
  uint8_t byte = value ? (uint8_t)strtoul(value, NULL, 0) : 0;
  errno = EIO; /* for a call that moves no byte and says no error */
  if (value) {
    return pwrite(device, &byte, 1, position) == 1 ? done() : failed("pwrite");
  }
  if (pread(device, &byte, 1, position) != 1) return failed("pread");
  printf("0x%02x\n", byte);
  return true;
}

static bool get_state(void) {
  struct vf_request_mig_state request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_GET | VF_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE}};
  if (ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) < 0) return failed("GET MIG_DEVICE_STATE");
  uint32_t state = request.body.device_state;
  printf("%u %s\n", state, state < state_count ? state_names[state] : "unknown");
  return true;
}

static bool set_state(const char *name) {
  uint32_t state = 0;
  while (state < state_count && strcmp(name, state_names[state]) != 0) state++;
  if (state == state_count) return not_understood();
  struct vf_request_mig_state request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_SET | VF_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE},
      .body = {.device_state = state, .data_fd = -1}};
  if (ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) < 0) return failed("SET MIG_DEVICE_STATE");
  if (request.body.data_fd >= 0) {
    if (data_fd >= 0) close(data_fd);
    data_fd = request.body.data_fd;
  }
  return done();
}

static bool get_features(void) {
  struct vf_request_migration request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_GET | VF_VFIO_DEVICE_FEATURE_MIGRATION}};
  if (ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) < 0) return failed("GET MIGRATION");
  uint64_t flags = request.body.flags;
  printf("0x%llx%s%s%s\n", (unsigned long long)flags, flags & VF_VFIO_MIGRATION_STOP_COPY ? " stop-copy" : "",
         flags & VF_VFIO_MIGRATION_P2P ? " p2p" : "", flags & VF_VFIO_MIGRATION_PRE_COPY ? " pre-copy" : "");
  return true;
}

static uint8_t data[data_max];

static bool read_data(const char *count) {
  size_t wanted = strtoul(count, NULL, 0);
  ssize_t got = read(data_fd, data, wanted < data_max ? wanted : data_max);
  if (got < 0) return failed("read");
  printf("%zd ", got);
  for (ssize_t i = 0; i < got; i++) printf("%02x", data[i]);
  putchar('\n');
  return true;
}

static bool write_data(const char *hex) {
  size_t count = strlen(hex) / 2;
  for (size_t i = 0; i < count; i++) {
    unsigned byte;
    if (i == data_max || sscanf(hex + 2 * i, "%2x", &byte) != 1) return not_understood();
    data[i] = (uint8_t)byte;
  }
  for (size_t written = 0; written < count;) {
    ssize_t put = write(data_fd, data + written, count - written);
    if (put < 0) return failed("write");
    written += (size_t)put;
  }
  return done();
}

/* Does what one line says; false when it was the last. */
static bool obey(char *line) {
  char *rest = line;
  char *word[4];
  int words = 0;
  for (char *next; words < 4 && (next = strtok_r(rest, " \n", &rest)) != NULL;) word[words++] = next;
  const char *command = words ? word[0] : "";
  if (strcmp(command, "peek") == 0 && words == 3) {
    touch(word[1], word[2], NULL);
  } else if (strcmp(command, "poke") == 0 && words == 4) {
    touch(word[1], word[2], word[3]);
  } else if (strcmp(command, "state") == 0) {
    get_state();
  } else if (strcmp(command, "set") == 0 && words == 2) {
    set_state(word[1]);
  } else if (strcmp(command, "read") == 0 && words == 2) {
    read_data(word[1]);
  } else if (strcmp(command, "write") == 0 && words == 2) {
    write_data(word[1]);
  } else if (strcmp(command, "reset") == 0) {
    (void)(ioctl(device, VF_VFIO_DEVICE_RESET) == 0 ? done() : failed("DEVICE_RESET"));
  } else if (strcmp(command, "features") == 0) {
    get_features();
  } else if (strcmp(command, "quit") == 0) {
    done();
    return false;
  } else {
    not_understood();
  }
  return true;
}

int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  bool by_group = count == 3 && strcmp(arguments[1], "--group") == 0;
  if (!by_group && count != 2) {
    fputs("usage: device-holder [--group] DEVICE\n", stderr);
    return 2;
  }
  char folder[PATH_MAX];
  find_device(arguments[count - 1], folder);
  if (by_group) open_group(folder);
  else open_cdev(folder);
  puts("ready");

  static char line[line_max];
  while (fgets(line, sizeof line, stdin) != NULL && obey(line)) continue;
  return 0;
}
