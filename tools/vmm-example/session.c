/* SPDX-License-Identifier: Apache-2.0 */
/* What both sides ask of a helper before anything moves, and how they wait. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm.h"

bool session_open(struct vmm *vmm) {
  if (!helper_start(&vmm->helper, vmm->helper_program)) return false;
  vmm->is_tracking = false;
  struct vfio_ferry_hello hello = {.header = head(VFIO_FERRY_HELLO, sizeof hello, 0),
                                   .major = VFIO_FERRY_VERSION_MAJOR,
                                   .minor = VFIO_FERRY_VERSION_MINOR,
                                   .features = VFIO_FERRY_FEATURE_PAGES,
                                   .version = "vmm-example 1.0"};
  struct vfio_ferry_hello answer;
  if (!helper_ask(&vmm->helper, (struct question){.what = "HELLO", .request = &hello.header, .reply = &answer.header,
                                                  .reply_size = sizeof answer})) {
    return false;
  }
  say("helper: %.*s, protocol %u.%u", (int)sizeof answer.version, answer.version, answer.major, answer.minor);
  vmm->helper_knows_tags = answer.minor >= 1;
  if (vmm->pages == PAGES_BY_HELPER && (answer.features & VFIO_FERRY_FEATURE_PAGES) == 0) {
    return fail("this helper does not send guest memory: use --pages-by-vmm");
  }
  reached(vmm, STEP_AFTER_HELLO);
  return true;
}

static bool add_device(struct vmm *vmm, struct device *device) {
  struct vfio_ferry_device_add add = {
      .header = head(VFIO_FERRY_DEVICE_ADD, sizeof add, 2),
      .device = device->id,
      .flags = VFIO_FERRY_DEVICE_HAS_IOMMUFD | VFIO_FERRY_DEVICE_HAS_NUMBER,
      .space = vmm->space.ioas,
      .tracker = VFIO_FERRY_TRACKER_AUTO,
      .number = device->number,
      .page_table = device->page_table,
  };
  if (device->page_table) add.flags |= VFIO_FERRY_DEVICE_HAS_PAGE_TABLE;
  memcpy(add.name, device->name, sizeof add.name);
  if (!helper_ask(&vmm->helper, (struct question){.what = "DEVICE_ADD", .request = &add.header,
                                                  .descriptors = {device->fd, vmm->space.iommufd},
                                                  .reply = &device->info.header, .reply_size = sizeof device->info})) {
    return false;
  }
  const struct vfio_ferry_device_info *info = &device->info;
  say("device %u is %s: driver %.*s, %s,%s%s%s, tracked by %s", device->id, device->name, (int)sizeof info->driver,
      info->driver, state_name(info->state), info->features & VFIO_FERRY_DEVICE_STOP_COPY ? " stop-copy" : "",
      info->features & VFIO_FERRY_DEVICE_P2P ? " p2p" : "", info->features & VFIO_FERRY_DEVICE_PRE_COPY ? " pre-copy" : "",
      tracker_name(info->tracker));
  return true;
}

/* What the helper can't find out of it (MAC, VLAN, rules of the NIC's switch): what `vfio-ferry tag` has printed. It is the file itself that
 * goes to the helper. */
static bool give_tag(struct vmm *vmm, struct device *device) {
  if (device->tag == NULL) return true;
  if (!vmm->helper_knows_tags) return fail("this helper does not know DEVICE_TAG: leave --tag out, or use another helper");
  int file = open(device->tag, O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail_errno("%s", device->tag);
  struct stat status;
  struct vfio_ferry_tag tag = {.header = head(VFIO_FERRY_DEVICE_TAG, sizeof tag, 1), .device = device->id};
  bool is_given = fstat(file, &status) == 0 || fail_errno("%s", device->tag);
  if (is_given) {
    /* A size that does not fit is more than any helper takes, too. */
    tag.size = status.st_size < UINT32_MAX ? (uint32_t)status.st_size : UINT32_MAX;
    is_given = helper_ask(
        &vmm->helper, (struct question){.what = "DEVICE_TAG", .request = &tag.header, .descriptors = {file}});
  }
  close(file);
  return is_given;
}

bool session_add_devices(struct vmm *vmm) {
  for (int i = 0; i < vmm->device_count; i++) {
    if (!add_device(vmm, &vmm->devices[i]) || !give_tag(vmm, &vmm->devices[i])) return false;
  }
  reached(vmm, STEP_AFTER_ADD);
  return true;
}

bool session_add_memory(struct vmm *vmm) {
  const struct memory *memory = &vmm->memory;
  if (memory->bytes > 0) {
    struct vfio_ferry_memory add = {.header = head(VFIO_FERRY_MEMORY_ADD, sizeof add, 1),
                                    .flags = VFIO_FERRY_MEMORY_HAS_FILE | VFIO_FERRY_MEMORY_IS_MAPPED,
                                    .space = vmm->space.ioas, .guest = memory->guest, .size = memory->bytes,
                                    .address = memory->iova};
    if (!helper_ask(&vmm->helper, (struct question){.what = "MEMORY_ADD", .request = &add.header,
                                                    .descriptors = {memory->file}})) {
      return false;
    }
    say("%llu bytes of guest memory, which devices find at 0x%llx", (unsigned long long)memory->bytes,
        (unsigned long long)memory->iova);
  }
  reached(vmm, STEP_AFTER_MEMORY);
  return true;
}

static bool replace_by_own(int *file, uint64_t words) {
  close(*file);
  *file = memfd_create("written by vCPUs", MFD_CLOEXEC);
  return (*file >= 0 && ftruncate(*file, (off_t)(words * sizeof words)) == 0) || fail_errno("memfd_create");
}

bool session_add_written(struct vmm *vmm) {
  if (vmm->pages != PAGES_BY_HELPER || !vcpus_take_log(vmm->bitmap, vmm->words)) return true;
  struct vfio_ferry_header request = head(VFIO_FERRY_TRACKING_ADD, sizeof request, 1);
  if (!helper_ask(&vmm->helper, (struct question){.what = "TRACKING_ADD", .request = &request,
                                                  .descriptors = {vmm->bitmap_file}})) {
    return false;
  }
  memset(vmm->bitmap, 0, vmm->words * sizeof *vmm->bitmap);
  return true;
}

bool session_stop_tracking(struct vmm *vmm) {
  if (!vmm->is_tracking) return true;
  vmm->is_tracking = false;
  munmap(vmm->bitmap, vmm->words * sizeof *vmm->bitmap);
  close(vmm->bitmap_file);
  return helper_tell(&vmm->helper, VFIO_FERRY_TRACKING_STOP, "TRACKING_STOP");
}

bool session_start_tracking(struct vmm *vmm) {
  struct vfio_ferry_tracking start = {.header = head(VFIO_FERRY_TRACKING_START, sizeof start, 0), .page_size = page_bytes};
  struct vfio_ferry_bitmap answer;
  int file;
  if (!helper_ask(&vmm->helper, (struct question){.what = "TRACKING_START", .request = &start.header, .file = &file,
                                                  .reply = &answer.header, .reply_size = sizeof answer})) {
    return false;
  }
  /* With PAGES_BY_HELPER the helper's bitmap is none of our business, but we need one of the same layout. */
  if (vmm->pages == PAGES_BY_HELPER && !replace_by_own(&file, answer.words)) return false;
  vmm->words = answer.words;
  vmm->bitmap_file = file;
  vmm->bitmap = mmap(NULL, answer.words * sizeof *vmm->bitmap, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (vmm->bitmap == MAP_FAILED) return fail_errno("mapping the bitmap");
  vmm->is_tracking = true;
  say("trackers are on: %llu pages are dirty", (unsigned long long)answer.dirty);
  reached(vmm, STEP_AFTER_TRACKING);
  return true;
}

void session_gave_away(struct vmm *vmm) {
  int memory = vmm->peer.memory;
  if (vmm->pages == PAGES_BY_VMM) vmm->peer.memory = -1; /* that one stays ours */
  peer_end_data(&vmm->peer);
  if (vmm->pages == PAGES_BY_VMM) vmm->peer.memory = memory;
}

/* The other VMM says something while we wait for the helper. */
static bool hear(struct vmm *vmm) {
  struct message message;
  if (!peer_hear(&vmm->peer, &message)) return false;
  if (vmm->is_source || message.word != WORD_COMPLETE) return fail("the other VMM says that too early");
  vmm->is_complete = true;
  vmm->checksum = message.value;
  return true;
}

bool session_take(struct vmm *vmm, bool waits) {
  bool takes_pages = !vmm->is_source && vmm->pages == PAGES_BY_VMM && !vmm->memory_has_ended;
  struct pollfd fds[] = {
      {.fd = vmm->helper.socket, .events = POLLIN},
      {.fd = vmm->peer.control, .events = POLLIN},
      {.fd = takes_pages ? vmm->peer.memory : -1, .events = POLLIN},
  };
  if (poll(fds, 3, waits ? -1 : 0) < 0) return fail_errno("poll");
  if (fds[0].revents && (!helper_take_event(&vmm->helper) || vmm->helper.has_failed)) return false;
  if (fds[1].revents && !hear(vmm)) return false;
  if (fds[2].revents && !pages_take(vmm->peer.memory, &vmm->memory, &vmm->memory_has_ended)) return false;
  if (vmm->helper.should_throttle) vcpus_slow();
  vmm->helper.should_throttle = false;
  return true;
}
