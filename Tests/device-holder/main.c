/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device-holder [--group] DEVICE…
 *
 * Stands in for a VMM in the lab's tests: it opens VFIO devices, says "ready", keeps them open, and does
 * what lines on its standard input say, each with one line of answer. It shares nothing with vfio-ferry but
 * the uAPI layouts, so what both see is what the kernel has.
 *
 * DEVICE is an mdev UUID, a PCI address, a synthetic device's name or /dev/vfio/devices/vfioN. All are opened
 * as cdevs and share an iommufd and an address space, or with --group through their groups and share a legacy
 * container.
 *
 *   use N                      ok; what follows is for the N-th device, from 0. It begins with the first
 *   peek REGION OFFSET [SIZE]  0xNN; SIZE is 1, 4 or 8 bytes, 1 where it is left out
 *   poke REGION OFFSET VALUE [SIZE]  ok
 *   state                      NUMBER NAME
 *   set NAME                   ok; a data descriptor that comes with it replaces the one held
 *   read N                     COUNT HEX, up to N bytes from the data descriptor
 *   write HEX                  ok
 *   drain FILE                 COUNT END: reads all there is now into the file's end; END is 0 or an errno's name
 *   fill FILE                  ok; writes the whole file
 *   arm                        ok; from now on the device's first MSI is counted
 *   interrupts                 COUNT since the last time
 *   info                       INITIAL DIRTY, bytes of pre-copy data left
 *   poll                       the events that the data descriptor has now, 0xN
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
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vfio_ferry/iommufd.h"
#include "vfio_ferry/vfio.h"
#include "vfio_ferry/vfio_container.h"

enum { data_max = 1 << 20, line_max = 2 * data_max + 64, devices_max = 8 };

/* The devices by the order of the command line, and the data descriptor that each has handed out last. */
static int devices[devices_max], data_fds[devices_max];
static int held, used;

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
                                       "/sys/bus/vfio-synthetic/devices/%s", "/sys/class/vfio-dev/%s/device"};
  if (strncmp(name, "/dev/vfio/devices/", 18) == 0) name += 18;
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, places[i], name);
    if (strchr(name, '/') == NULL && realpath(path, folder) != NULL) return;
  }
  errno = ENODEV;
  give_up("find the device");
}

static int open_cdev(const char *folder) {
  static int iommufd = -1;
  static struct vf_iommu_ioas_alloc space = {.size = sizeof space};
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
  int device = opened(path);

  if (iommufd < 0) {
    iommufd = opened("/dev/iommu");
    if (ioctl(iommufd, VF_IOMMU_IOAS_ALLOC, &space) < 0) give_up("IOAS_ALLOC");
  }
  struct vf_vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommufd};
  if (ioctl(device, VF_VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0) give_up("BIND_IOMMUFD");
  struct vf_vfio_device_attach_iommufd_pt attach = {.argsz = sizeof attach, .pt_id = space.out_ioas_id};
  if (ioctl(device, VF_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) < 0) give_up("ATTACH_IOMMUFD_PT");
  return device;
}

static int open_group(const char *folder) {
  static int container = -1;
  char path[PATH_MAX + 32], target[PATH_MAX];
  snprintf(path, sizeof path, "%s/iommu_group", folder);
  ssize_t length = readlink(path, target, sizeof target - 1);
  if (length < 0) give_up("iommu_group");
  target[length] = 0;
  const char *number = strrchr(target, '/');
  snprintf(path, sizeof path, "/dev/vfio/%s", number ? number + 1 : target);
  int group = opened(path);
  bool is_first = container < 0;
  if (is_first) container = opened("/dev/vfio/vfio");

  struct vf_vfio_group_status status = {.argsz = sizeof status};
  if (ioctl(group, VF_VFIO_GROUP_GET_STATUS, &status) < 0) give_up("GROUP_GET_STATUS");
  if ((status.flags & VF_VFIO_GROUP_FLAGS_VIABLE) == 0) {
    errno = EPERM;
    give_up("the group is not viable");
  }
  if (ioctl(group, VF_VFIO_GROUP_SET_CONTAINER, &container) < 0) give_up("GROUP_SET_CONTAINER");
  if (is_first && ioctl(container, VF_VFIO_SET_IOMMU, VF_VFIO_TYPE1v2_IOMMU) < 0) give_up("SET_IOMMU");
  int device = ioctl(group, VF_VFIO_GROUP_GET_DEVICE_FD, strrchr(folder, '/') + 1);
  if (device < 0) give_up("GROUP_GET_DEVICE_FD");
  return device;
}

/* Reads (VALUE NULL) or writes a register of a region, of 1, 4 or 8 bytes. */
static bool touch(const char *region, const char *offset, const char *value, const char *size) {
  size_t bytes = size ? strtoul(size, NULL, 0) : 1;
  if (bytes != 1 && bytes != 4 && bytes != 8) return not_understood();
  struct vf_vfio_region_info info = {.argsz = sizeof info, .index = (uint32_t)strtoul(region, NULL, 0)};
  if (ioctl(devices[used], VF_VFIO_DEVICE_GET_REGION_INFO, &info) < 0) return failed("GET_REGION_INFO");
  uint64_t at = strtoull(offset, NULL, 0);
  if (at >= info.size) {
    errno = ERANGE;
    return failed("the offset is outside of the region");
  }
  off_t position = (off_t)(info.offset + at);
  /* Little-endian, as the device is and as this machine has to be. */
  uint64_t content = value ? strtoull(value, NULL, 0) : 0;
  errno = EIO; /* for a call that moves too little and says no error */
  if (value) {
    return pwrite(devices[used], &content, bytes, position) == (ssize_t)bytes ? done() : failed("pwrite");
  }
  if (pread(devices[used], &content, bytes, position) != (ssize_t)bytes) return failed("pread");
  printf("0x%02llx\n", (unsigned long long)content);
  return true;
}

static bool get_state(void) {
  struct vf_request_mig_state request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_GET | VF_VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE}};
  if (ioctl(devices[used], VF_VFIO_DEVICE_FEATURE, &request) < 0) return failed("GET MIG_DEVICE_STATE");
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
  if (ioctl(devices[used], VF_VFIO_DEVICE_FEATURE, &request) < 0) return failed("SET MIG_DEVICE_STATE");
  if (request.body.data_fd >= 0) {
    if (data_fds[used] >= 0) close(data_fds[used]);
    data_fds[used] = request.body.data_fd;
  }
  return done();
}

static bool get_features(void) {
  struct vf_request_migration request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_GET | VF_VFIO_DEVICE_FEATURE_MIGRATION}};
  if (ioctl(devices[used], VF_VFIO_DEVICE_FEATURE, &request) < 0) return failed("GET MIGRATION");
  uint64_t flags = request.body.flags;
  printf("0x%llx%s%s%s\n", (unsigned long long)flags, flags & VF_VFIO_MIGRATION_STOP_COPY ? " stop-copy" : "",
         flags & VF_VFIO_MIGRATION_P2P ? " p2p" : "", flags & VF_VFIO_MIGRATION_PRE_COPY ? " pre-copy" : "");
  return true;
}

static uint8_t data[data_max];

static bool read_data(const char *count) {
  size_t wanted = strtoul(count, NULL, 0);
  ssize_t got = read(data_fds[used], data, wanted < data_max ? wanted : data_max);
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
    ssize_t put = write(data_fds[used], data + written, count - written);
    if (put < 0) return failed("write");
    written += (size_t)put;
  }
  return done();
}

static bool drain_data(const char *path) {
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return failed("open");
  unsigned long long count = 0;
  ssize_t got;
  while ((got = read(data_fds[used], data, data_max)) > 0 && write(file, data, (size_t)got) == got) {
    count += (unsigned long long)got;
  }
  const char *end = got == 0 ? "0" : strerrorname_np(errno);
  printf("%llu %s\n", count, end ? end : "unknown");
  close(file);
  return true;
}

static bool fill_data(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return failed("open");
  ssize_t got;
  while ((got = read(file, data, data_max)) > 0) {
    for (ssize_t at = 0, put; at < got; at += put) {
      put = write(data_fds[used], data + at, (size_t)(got - at));
      if (put < 0) {
        failed("write");
        close(file);
        return false;
      }
    }
  }
  close(file);
  return done();
}

static int interrupts = -1;

static bool arm(void) {
  if (interrupts < 0) interrupts = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (interrupts < 0) return failed("eventfd");
  struct vf_request_irq_eventfd request = {
      .header = {.argsz = sizeof request, .index = VF_VFIO_PCI_MSI_IRQ_INDEX, .count = 1,
                 .flags = VF_VFIO_IRQ_SET_DATA_EVENTFD | VF_VFIO_IRQ_SET_ACTION_TRIGGER},
      .eventfd = interrupts};
  return ioctl(devices[used], VF_VFIO_DEVICE_SET_IRQS, &request) == 0 ? done() : failed("SET_IRQS");
}

static bool count_interrupts(void) {
  uint64_t count = 0;
  if (read(interrupts, &count, sizeof count) < 0 && errno != EAGAIN) return failed("read");
  printf("%llu\n", (unsigned long long)count);
  return true;
}

static bool get_info(void) {
  struct vf_vfio_precopy_info info = {.argsz = sizeof info};
  if (ioctl(data_fds[used], VF_VFIO_MIG_GET_PRECOPY_INFO, &info) < 0) return failed("GET_PRECOPY_INFO");
  printf("%llu %llu\n", (unsigned long long)info.initial_bytes, (unsigned long long)info.dirty_bytes);
  return true;
}

static bool poll_data(void) {
  struct pollfd wanted = {.fd = data_fds[used], .events = POLLIN | POLLRDNORM};
  if (poll(&wanted, 1, 0) < 0) return failed("poll");
  printf("0x%x\n", (unsigned)wanted.revents);
  return true;
}

static bool use(const char *number) {
  int wanted = atoi(number);
  if (wanted < 0 || wanted >= held) return not_understood();
  used = wanted;
  return done();
}

/* Does what one line says; false when it was the last. */
static bool obey(char *line) {
  char *rest = line;
  char *word[5] = {NULL};
  int words = 0;
  for (char *next; words < 5 && (next = strtok_r(rest, " \n", &rest)) != NULL;) word[words++] = next;
  const char *command = words ? word[0] : "";
  if (strcmp(command, "use") == 0 && words == 2) {
    use(word[1]);
  } else if (strcmp(command, "peek") == 0 && (words == 3 || words == 4)) {
    touch(word[1], word[2], NULL, word[3]);
  } else if (strcmp(command, "poke") == 0 && words >= 4) {
    touch(word[1], word[2], word[3], word[4]);
  } else if (strcmp(command, "state") == 0) {
    get_state();
  } else if (strcmp(command, "set") == 0 && words == 2) {
    set_state(word[1]);
  } else if (strcmp(command, "read") == 0 && words == 2) {
    read_data(word[1]);
  } else if (strcmp(command, "write") == 0 && words == 2) {
    write_data(word[1]);
  } else if (strcmp(command, "drain") == 0 && words == 2) {
    drain_data(word[1]);
  } else if (strcmp(command, "fill") == 0 && words == 2) {
    fill_data(word[1]);
  } else if (strcmp(command, "arm") == 0) {
    arm();
  } else if (strcmp(command, "interrupts") == 0) {
    count_interrupts();
  } else if (strcmp(command, "info") == 0) {
    get_info();
  } else if (strcmp(command, "poll") == 0) {
    poll_data();
  } else if (strcmp(command, "reset") == 0) {
    (void)(ioctl(devices[used], VF_VFIO_DEVICE_RESET) == 0 ? done() : failed("DEVICE_RESET"));
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
  bool by_group = count > 1 && strcmp(arguments[1], "--group") == 0;
  int first = by_group ? 2 : 1;
  if (first == count || count - first > devices_max) {
    fputs("usage: device-holder [--group] DEVICE…, at most 8\n", stderr);
    return 2;
  }
  for (held = 0; first + held < count; held++) {
    char folder[PATH_MAX];
    find_device(arguments[first + held], folder);
    devices[held] = by_group ? open_group(folder) : open_cdev(folder);
    data_fds[held] = -1;
  }
  puts("ready");

  static char line[line_max];
  while (fgets(line, sizeof line, stdin) != NULL && obey(line)) continue;
  return 0;
}
