/* SPDX-License-Identifier: Apache-2.0 */
/* A move, on the destination: "The order on the destination" in docs/helper-protocol.md, step by step. */
#include <unistd.h>

#include "vmm.h"

/* Steps 1 and 2: devices and address spaces. Their descriptors were opened before. */
static bool prepare(struct vmm *vmm) { return session_open(vmm) && session_add_devices(vmm) && session_add_memory(vmm); }

/* Step 3: from here to LOADED nobody touches the devices' regions, and no interrupt is set up. */
static bool load(struct vmm *vmm) {
  bool by_helper = vmm->pages == PAGES_BY_HELPER;
  struct vfio_ferry_load begin = {
      .header = head(VFIO_FERRY_LOAD_BEGIN, sizeof begin, by_helper ? 2 : 1),
      /* There is nothing in these devices that a reset could lose. */
      .flags = VFIO_FERRY_LOAD_RESET | (by_helper ? VFIO_FERRY_LOAD_PAGES : 0u),
  };
  if (!helper_ask(&vmm->helper, (struct question){.what = "LOAD_BEGIN", .request = &begin.header,
                                                  .descriptors = {vmm->peer.stream, vmm->peer.memory}})) {
    return false;
  }
  session_gave_away(vmm);
  reached(vmm, STEP_AFTER_BEGIN);

  vmm->memory_has_ended = vmm->pages != PAGES_BY_VMM;
  while (!vmm->helper.is_loaded || !vmm->memory_has_ended || !vmm->is_complete) {
    if (!session_take(vmm, true)) return false;
  }
  say("everything is in the devices and in memory");
  reached(vmm, STEP_AFTER_LOADED);
  if (vmm->checksum != 0) {
    if (memory_checksum(&vmm->memory) != vmm->checksum) return fail("guest memory is not what it was on the source");
    say("guest memory is what it was on the source");
  }
  return true;
}

/* Steps 4 and 5: what the VMM keeps itself. The devices are in STOP, where they may be touched. */
static bool restore(struct vmm *vmm) {
  int files[devices_max];
  uint32_t sizes[devices_max];
  int count = 0;
  bool is_done = true;
  for (; is_done && count < vmm->device_count; count++) {
    struct vfio_ferry_device ask = {.header = head(VFIO_FERRY_BLOB_READ, sizeof ask, 0), .device = vmm->devices[count].id};
    struct vfio_ferry_blob blob = {0};
    files[count] = -1;
    is_done = helper_ask(&vmm->helper, (struct question){.what = "BLOB_READ", .request = &ask.header, .file = &files[count],
                                                         .reply = &blob.header, .reply_size = sizeof blob});
    sizes[count] = blob.size;
  }
  if (is_done) reached(vmm, STEP_AFTER_BLOBS);
  for (int i = 0; i < count; i++) {
    struct device *device = &vmm->devices[i];
    is_done = is_done && device_restore_blob(device, files[i], sizes[i]);
    if (files[i] >= 0) close(files[i]);
    if (is_done) {
      say("device %u: configuration space of %u bytes and %u interrupts of kind %u are back", device->id,
          device->config_size, device->irq_count, device->irq_index);
    }
  }
  vmm->is_restored = is_done;
  if (is_done) reached(vmm, STEP_AFTER_RESTORE);
  return is_done;
}

/* Step 7. There is no way back, so it is tried twice: with another helper where one has died. The devices are in STOP then, or already on
 * their way to RUNNING, and RESUME takes them from anywhere there. */
static bool resume(struct vmm *vmm) {
  if (helper_tell(&vmm->helper, VFIO_FERRY_RESUME, "RESUME")) return true;
  if (vmm->helper.is_gone && !recovery_adopt(vmm)) return false;
  return helper_tell(&vmm->helper, VFIO_FERRY_RESUME, "RESUME");
}

/* It failed before the source's word: the guest is the source's, and what is in the devices is worth nothing. */
static enum ending give_up(struct vmm *vmm) {
  peer_say(&vmm->peer, WORD_ABORT, 0);
  peer_end_data(&vmm->peer);
  if (vmm->helper.socket >= 0) helper_tell(&vmm->helper, VFIO_FERRY_ABORT, "ABORT");
  if (vmm->helper.is_gone) return recovery_empty(vmm);
  say("given up: the guest is the source's");
  return ENDING_FAILED;
}

enum ending destination_run(struct vmm *vmm) {
  struct message agreed = {.devices = (uint32_t)vmm->device_count, .bytes = vmm->memory.bytes};
  if (!peer_accept(&vmm->peer, vmm->place, &agreed)) return ENDING_FAILED;
  vmm->pages = (enum pages)agreed.pages;
  say("connected: the other VMM has the same");
  if (vmm->cut_at && !peer_keep(&vmm->peer)) return give_up(vmm);
  if (!prepare(vmm) || !load(vmm) || !restore(vmm)) return give_up(vmm);

  /* Step 6. What we say here is a promise: we can run it. */
  if (!peer_say(&vmm->peer, WORD_LOADED, 0) || !peer_await(&vmm->peer, WORD_COMMITTED)) return give_up(vmm);
  /* From here on the guest is ours: the source never runs it again, whatever becomes of it. */
  vmm->is_ours = true;
  reached(vmm, STEP_BEFORE_RESUME);
  if (!resume(vmm)) {
    fail("the guest is ours, and does not run");
    return ENDING_FAILED;
  }
  reached(vmm, STEP_AFTER_RESUME);
  /* Step 8. */
  if (!vcpus_start(&vmm->memory, vmm->vcpu_writes)) return ENDING_FAILED;
  vmm->vcpus_run = true;
  say("the guest runs here");
  bool is_marked = true;
  for (int i = 0; vmm->marks && i < vmm->device_count; i++) {
    bool is_there = device_check_mark(&vmm->devices[i]);
    if (is_there) say("device %u has its mark", vmm->devices[i].id);
    is_marked = is_marked && is_there;
  }
  /* It runs, whether the source hears that or not. */
  peer_say(&vmm->peer, WORD_RUNNING, 0);
  return is_marked ? ENDING_DONE : ENDING_FAILED;
}
