/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of the protocol in words. A later minor version may have some that are not known here. */
#include "vmm.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const char *name(const char *const *names, size_t count, uint32_t number) {
  return number < count && names[number] ? names[number] : "unknown";
}

const char *phase_name(uint32_t phase) {
  static const char *const names[] = {
      [VFIO_FERRY_PHASE_SETUP] = "setup",
      [VFIO_FERRY_PHASE_PRE_COPY] = "pre-copy",
      [VFIO_FERRY_PHASE_QUIESCING] = "quiescing",
      [VFIO_FERRY_PHASE_STOPPED] = "stopped",
      [VFIO_FERRY_PHASE_COMPLETE] = "complete",
      [VFIO_FERRY_PHASE_COMMITTED] = "committed",
      [VFIO_FERRY_PHASE_LOADING] = "loading",
      [VFIO_FERRY_PHASE_LOADED] = "loaded",
      [VFIO_FERRY_PHASE_RESUMING] = "resuming",
      [VFIO_FERRY_PHASE_GOING_BACK] = "going back",
  };
  return name(names, COUNT(names), phase);
}

const char *state_name(uint32_t state) {
  static const char *const names[] = {
      [VFIO_FERRY_STATE_ERROR] = "error",
      [VFIO_FERRY_STATE_STOP] = "stop",
      [VFIO_FERRY_STATE_RUNNING] = "running",
      [VFIO_FERRY_STATE_STOP_COPY] = "stop-copy",
      [VFIO_FERRY_STATE_RESUMING] = "resuming",
      [VFIO_FERRY_STATE_RUNNING_P2P] = "running-p2p",
      [VFIO_FERRY_STATE_PRE_COPY] = "pre-copy",
      [VFIO_FERRY_STATE_PRE_COPY_P2P] = "pre-copy-p2p",
  };
  return name(names, COUNT(names), state);
}

const char *tracker_name(uint32_t tracker) {
  static const char *const names[] = {
      [VFIO_FERRY_TRACKER_AUTO] = "auto",
      [VFIO_FERRY_TRACKER_IOMMU] = "the IOMMU's dirty bits",
      [VFIO_FERRY_TRACKER_DEVICE] = "its own log",
      [VFIO_FERRY_TRACKER_CONTAINER] = "the container",
      [VFIO_FERRY_TRACKER_EVERYTHING] = "nothing: everything is dirty",
  };
  return name(names, COUNT(names), tracker);
}

const char *code_name(uint32_t code) {
  static const char *const names[] = {
      [VFIO_FERRY_CODE_BAD_PACKET] = "bad packet",
      [VFIO_FERRY_CODE_UNKNOWN_REQUEST] = "unknown request",
      [VFIO_FERRY_CODE_VERSION] = "version",
      [VFIO_FERRY_CODE_BAD_ARGUMENT] = "bad argument",
      [VFIO_FERRY_CODE_WRONG_PHASE] = "wrong phase",
      [VFIO_FERRY_CODE_NO_SUCH] = "no such",
      [VFIO_FERRY_CODE_EXISTS] = "exists",
      [VFIO_FERRY_CODE_LIMIT] = "limit",
      [VFIO_FERRY_CODE_REFUSED] = "refused",
      [VFIO_FERRY_CODE_SYSTEM] = "system",
      [VFIO_FERRY_CODE_DEVICE] = "device",
      [VFIO_FERRY_CODE_LINK] = "link",
      [VFIO_FERRY_CODE_STREAM] = "stream",
      [VFIO_FERRY_CODE_MEMORY] = "memory",
      [VFIO_FERRY_CODE_OUTRUN] = "outrun",
      [VFIO_FERRY_CODE_ABORTED] = "aborted",
      [VFIO_FERRY_CODE_HUNG] = "hung",
  };
  return name(names, COUNT(names), code);
}

const char *verdict_name(uint32_t verdict) {
  static const char *const names[] = {
      [VFIO_FERRY_VERDICT_GO_ON] = "go on",
      [VFIO_FERRY_VERDICT_AWAIT_INITIAL] = "await initial data",
      [VFIO_FERRY_VERDICT_THROTTLE] = "throttle",
      [VFIO_FERRY_VERDICT_STOP] = "stop",
      [VFIO_FERRY_VERDICT_FORCE] = "force",
      [VFIO_FERRY_VERDICT_GIVE_UP] = "give up",
  };
  return verdict == 0 ? "none" : name(names, COUNT(names), verdict);
}
