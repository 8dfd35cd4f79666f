/* SPDX-License-Identifier: Apache-2.0 */
/* A move, on the source: "A move, on the source" in docs/helper-protocol.md, request by request. */
#include <unistd.h>

#include "vmm.h"

static bool prepare(struct vmm *vmm) {
  return session_open(vmm) && session_add_devices(vmm) && session_add_memory(vmm) &&
         (vmm->pages == PAGES_NONE || session_start_tracking(vmm));
}

static bool begin(struct vmm *vmm) {
  bool by_helper = vmm->pages == PAGES_BY_HELPER;
  struct vfio_ferry_save save = {
      .header = head(VFIO_FERRY_SAVE_BEGIN, sizeof save, by_helper ? 2 : 1),
      .flags = VFIO_FERRY_SAVE_PRE_COPY,
      .last_resort = vmm->forces ? VFIO_FERRY_RESORT_FORCE : VFIO_FERRY_RESORT_GIVE_UP,
      .downtime_us = vmm->downtime_us,
      .interval_us = 100000,
      .quiescing_us = VFIO_FERRY_UNKNOWN,
      .loading_us = VFIO_FERRY_UNKNOWN,
  };
  if (by_helper) save.flags |= VFIO_FERRY_SAVE_PAGES_BY_HELPER;
  if (vmm->pages == PAGES_BY_VMM) save.flags |= VFIO_FERRY_SAVE_PAGES_BY_VMM;
  vmm->has_begun = true;
  if (!helper_ask(&vmm->helper, (struct question){.what = "SAVE_BEGIN", .request = &save.header,
                                                  .descriptors = {vmm->peer.stream, vmm->peer.memory}})) {
    return false;
  }
  session_gave_away(vmm);
  reached(vmm, STEP_AFTER_BEGIN);
  return true;
}

/* STEP, QUIESCE and COMPLETE give the bitmap back, and say how much was sent for what is clear in it. What the vCPUs have written is set
 * before, and not after the reply: so it counts in the estimate. */
static bool give_back(struct vmm *vmm, uint32_t type, const char *what, uint64_t bytes, struct vfio_ferry_estimate *estimate) {
  struct vfio_ferry_sent sent = {.header = head(type, sizeof sent, 0), .bytes = bytes};
  if (vmm->pages == PAGES_BY_VMM) vcpus_take_log(vmm->bitmap, vmm->words);
  return helper_ask(&vmm->helper, (struct question){.what = what, .request = &sent.header,
                                                    .reply = estimate ? &estimate->header : NULL,
                                                    .reply_size = sizeof *estimate});
}

/* The bitmap is ours: sends all that is dirty. */
static bool send_pages(struct vmm *vmm, uint64_t *bytes) {
  *bytes = 0;
  if (vmm->pages != PAGES_BY_VMM) return true;
  return pages_send(vmm->peer.memory, &vmm->memory, vmm->bitmap, vmm->words, bytes);
}

/* Until little enough is left. `bytes`: what was sent since the helper was told last. */
static bool pre_copy(struct vmm *vmm, uint64_t *bytes) {
  *bytes = 0;
  while (!vmm->helper.is_ready) {
    if (!session_take(vmm, vmm->pages != PAGES_BY_VMM)) return false;
    /* A round was judged by what was known then: now there is more. */
    if (vmm->helper.has_decided && !session_add_written(vmm)) return false;
    vmm->helper.has_decided = false;
    if (vmm->pages != PAGES_BY_VMM) continue;
    struct vfio_ferry_estimate estimate;
    if (!give_back(vmm, VFIO_FERRY_STEP, "STEP", *bytes, &estimate) || !send_pages(vmm, bytes)) return false;
    say("round %u: %llu bytes of pages sent, verdict: %s", estimate.round, (unsigned long long)*bytes,
        verdict_name(estimate.verdict));
    if (estimate.verdict == VFIO_FERRY_VERDICT_THROTTLE) vcpus_slow();
    if (estimate.verdict == VFIO_FERRY_VERDICT_GIVE_UP) return fail("the guest dirties more than can be sent");
    if (estimate.verdict == VFIO_FERRY_VERDICT_STOP || estimate.verdict == VFIO_FERRY_VERDICT_FORCE) break;
  }
  reached(vmm, STEP_AFTER_READY);
  return true;
}

static bool stop(struct vmm *vmm, uint64_t bytes) {
  vcpus_stop();
  vmm->vcpus_run = false;
  /* The last touch of the devices' regions: nothing changes in configuration space any more, and from VCPUS_STOPPED on a touch
   * would end a P2P state. */
  for (int i = 0; i < vmm->device_count; i++) {
    if (!device_read_config(&vmm->devices[i])) return false;
  }
  if (!helper_tell(&vmm->helper, VFIO_FERRY_VCPUS_STOPPED, "VCPUS_STOPPED")) return false;
  say("the vCPUs have stopped");
  reached(vmm, STEP_AFTER_VCPUS_STOPPED);
  /* What they have written last. In the reading of QUIESCE it is known. */
  if (!session_add_written(vmm)) return false;

  struct vfio_ferry_estimate estimate;
  if (!give_back(vmm, VFIO_FERRY_QUIESCE, "QUIESCE", bytes, &estimate)) return false;
  if (vmm->pages != PAGES_NONE && !estimate.is_last) return fail("QUIESCE: the trackers were not read for the last time");
  say("the devices have stopped: %llu dirty pages", (unsigned long long)estimate.dirty);
  reached(vmm, STEP_AFTER_QUIESCE);
  return true;
}

/* Interrupts came until the devices stopped, so what is pending is known only now. */
static bool send_blobs(struct vmm *vmm) {
  for (int i = 0; i < vmm->device_count; i++) {
    struct device *device = &vmm->devices[i];
    if (!device_take_interrupts(device)) return false;
    struct vfio_ferry_blob blob = {.header = head(VFIO_FERRY_DEVICE_BLOB, sizeof blob, 1), .device = device->id};
    int file = device_make_blob(device, &blob.size);
    if (file < 0) return false;
    bool is_sent = helper_ask(
        &vmm->helper, (struct question){.what = "DEVICE_BLOB", .request = &blob.header, .descriptors = {file}});
    close(file);
    if (!is_sent) return false;
    say("device %u: %u bytes of configuration space, %u interrupts of kind %u, pending 0x%llx", device->id,
        device->config_size, device->irq_count, device->irq_index, (unsigned long long)device->pending);
  }
  reached(vmm, STEP_AFTER_BLOBS);
  return true;
}

static bool complete(struct vmm *vmm) {
  uint64_t bytes;
  if (!send_pages(vmm, &bytes) || (vmm->pages == PAGES_BY_VMM && !pages_send_end(vmm->peer.memory))) return false;
  if (!give_back(vmm, VFIO_FERRY_COMPLETE, "COMPLETE", bytes, NULL)) return false;
  say("everything has gone out");
  reached(vmm, STEP_AFTER_COMPLETE);
  return true;
}

static bool move(struct vmm *vmm) {
  uint64_t bytes, began;
  if (!prepare(vmm) || !begin(vmm) || !pre_copy(vmm, &bytes)) return false;
  began = milliseconds();
  if (!stop(vmm, bytes) || !send_blobs(vmm) || !complete(vmm)) return false;
  uint64_t checksum = vmm->verifies && vmm->memory.bytes > 0 ? memory_checksum(&vmm->memory) : 0;
  if (!peer_say(&vmm->peer, WORD_COMPLETE, checksum) || !peer_await(&vmm->peer, WORD_LOADED)) return false;
  reached(vmm, STEP_BEFORE_COMMIT);
  /* Until here we may go back: a last look for whoever has died meanwhile. */
  if (!session_take(vmm, false)) return false;
  /* Our helper first: if it fails, the other VMM has not heard the word and does not run. */
  if (!helper_tell(&vmm->helper, VFIO_FERRY_COMMIT, "COMMIT")) return false;
  reached(vmm, STEP_AFTER_COMMIT);
  /* And from here on never, whether the word arrives or not. */
  vmm->has_committed = true;
  if (!peer_say(&vmm->peer, WORD_COMMITTED, 0) || !peer_await(&vmm->peer, WORD_RUNNING)) return false;
  say("the guest runs there; it stood still for %llu ms", (unsigned long long)(milliseconds() - began));
  return true;
}

/* Where a device is now, and whether the guest can run with it. */
static bool runs(struct vmm *vmm, struct device *device) {
  struct vfio_ferry_device ask = {.header = head(VFIO_FERRY_DEVICE_DESCRIBE, sizeof ask, 0), .device = device->id};
  if (device->info.device == 0) return true; /* it was not added yet, and so not touched */
  if (!helper_ask(&vmm->helper, (struct question){.what = "DEVICE_DESCRIBE", .request = &ask.header,
                                                  .reply = &device->info.header, .reply_size = sizeof device->info})) {
    return false;
  }
  return device->info.state == VFIO_FERRY_STATE_RUNNING ||
         fail("device %u is in %s: the guest can't run on", device->id, state_name(device->info.state));
}

/* It failed while we may go back: the guest runs on here. */
static enum ending go_back(struct vmm *vmm) {
  /* If that does not arrive nothing is lost: without COMMITTED the other side does not run. */
  peer_say(&vmm->peer, WORD_ABORT, 0);
  peer_end_data(&vmm->peer);
  bool has_helper = vmm->helper.socket >= 0;
  /* A session that has failed by itself has gone back already, as far as it could, and so has one whose abort fails: the devices
   * say how far. */
  if (has_helper) helper_tell(&vmm->helper, VFIO_FERRY_ABORT, "ABORT");
  for (int i = 0; has_helper && !vmm->helper.is_gone && i < vmm->device_count; i++) {
    if (!runs(vmm, &vmm->devices[i]) && !vmm->helper.is_gone) return ENDING_FAILED;
  }
  if (vmm->helper.is_gone) return recovery_run_on(vmm);

  if (!vmm->vcpus_run && !vcpus_start(&vmm->memory, vmm->vcpu_writes)) return ENDING_FAILED;
  vmm->vcpus_run = true;
  say("the guest runs on here");
  /* The trackers are on still, and cost. The next move starts them anew, with everything dirty. */
  return session_stop_tracking(vmm) ? ENDING_BACK : ENDING_FAILED;
}

enum ending source_run(struct vmm *vmm) {
  struct message agreed = {.devices = (uint32_t)vmm->device_count, .bytes = vmm->memory.bytes, .pages = vmm->pages};
  if (!peer_connect(&vmm->peer, vmm->place, &agreed)) return go_back(vmm);
  say("connected: the other VMM has the same");
  if (vmm->cut_at && !peer_keep(&vmm->peer)) return go_back(vmm);
  if (move(vmm)) return ENDING_DONE;
  if (!vmm->has_committed) return go_back(vmm);
  fail("the other VMM may run the guest, and does not say so: it stays stopped here, until somebody knows");
  return ENDING_FAILED;
}
