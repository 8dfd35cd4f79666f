/* SPDX-License-Identifier: Apache-2.0 */
/* "When a helper has died" in docs/helper-protocol.md: the VMM has its descriptors still, and gives them to another helper. */
#include "vmm.h"

bool recovery_adopt(struct vmm *vmm) {
  helper_end(&vmm->helper);
  say("another helper takes over");
  if (!session_open(vmm) || !session_add_devices(vmm)) return false;
  for (int i = 0; i < vmm->device_count; i++) {
    const struct vfio_ferry_device_info *info = &vmm->devices[i].info;
    say("device %u is in %s, and can:%s%s%s%s%s", vmm->devices[i].id, state_name(info->state),
        info->can & VFIO_FERRY_DEVICE_CAN_SAVE ? " save" : "", info->can & VFIO_FERRY_DEVICE_CAN_LOAD ? " load" : "",
        info->can & VFIO_FERRY_DEVICE_CAN_RESUME ? " resume" : "",
        info->can & VFIO_FERRY_DEVICE_NEEDS_RESET ? " only be reset" : "",
        info->can & VFIO_FERRY_DEVICE_IS_HUNG ? " do nothing: it hangs" : "");
  }
  return true;
}

static bool reset(struct vmm *vmm, struct device *device) {
  struct vfio_ferry_device ask = {.header = head(VFIO_FERRY_DEVICE_RESET, sizeof ask, 0), .device = device->id};
  if (!helper_ask(&vmm->helper, (struct question){.what = "DEVICE_RESET", .request = &ask.header,
                                                  .reply = &device->info.header, .reply_size = sizeof device->info})) {
    return false;
  }
  say("device %u was reset: it is empty, and in %s", device->id, state_name(device->info.state));
  return true;
}

enum ending recovery_run_on(struct vmm *vmm) {
  if (!recovery_adopt(vmm)) {
    if (vmm->has_begun) return ENDING_FAILED;
    say("nothing was begun, so the guest runs on here");
    return ENDING_BACK;
  }
  for (int i = 0; i < vmm->device_count; i++) {
    struct device *device = &vmm->devices[i];
    if (device->info.can & VFIO_FERRY_DEVICE_NEEDS_RESET) {
      fail("device %u has lost its state: its guest has to set it up anew", device->id);
      if (!reset(vmm, device)) return ENDING_FAILED;
    } else if ((device->info.can & VFIO_FERRY_DEVICE_CAN_RESUME) == 0) {
      fail("device %u can't go on", device->id);
      return ENDING_FAILED;
    }
  }
  if (!helper_tell(&vmm->helper, VFIO_FERRY_RESUME, "RESUME")) return ENDING_FAILED;
  say("all devices run");
  if (!vmm->vcpus_run && !vcpus_start(&vmm->memory, vmm->vcpu_writes)) return ENDING_FAILED;
  vmm->vcpus_run = true;
  say("the guest runs on here");
  /* The trackers that the dead helper has left on must not stand in the way of the next move. */
  if (vmm->pages != PAGES_NONE) {
    if (!session_add_memory(vmm) || !session_start_tracking(vmm) || !session_stop_tracking(vmm)) return ENDING_FAILED;
    say("it could be moved again");
  }
  return ENDING_BACK;
}

enum ending recovery_empty(struct vmm *vmm) {
  if (!recovery_adopt(vmm)) return ENDING_FAILED;
  for (int i = 0; i < vmm->device_count; i++) {
    /* RUNNING is a device that nothing was loaded into. In STOP it may hold the guest's state, but what the VMM needs with it was
     * in the helper that has died. */
    if (vmm->devices[i].info.state != VFIO_FERRY_STATE_RUNNING && !reset(vmm, &vmm->devices[i])) return ENDING_FAILED;
  }
  say("given up: the guest is the source's");
  return ENDING_FAILED;
}
