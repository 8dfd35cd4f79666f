/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of a move, and crashes that are played at them. Nothing of this file belongs into a real VMM. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm.h"

static const char *const step_names[STEP_COUNT] = {
    [STEP_AFTER_HELLO] = "after-hello",
    [STEP_AFTER_ADD] = "after-add",
    [STEP_AFTER_MEMORY] = "after-memory",
    [STEP_AFTER_TRACKING] = "after-tracking",
    [STEP_AFTER_BEGIN] = "after-begin",
    [STEP_AFTER_READY] = "after-ready",
    [STEP_AFTER_VCPUS_STOPPED] = "after-vcpus-stopped",
    [STEP_AFTER_QUIESCE] = "after-quiesce",
    [STEP_AFTER_BLOBS] = "after-blobs",
    [STEP_AFTER_COMPLETE] = "after-complete",
    [STEP_BEFORE_COMMIT] = "before-commit",
    [STEP_AFTER_COMMIT] = "after-commit",
    [STEP_AFTER_LOADED] = "after-loaded",
    [STEP_AFTER_RESTORE] = "after-restore",
    [STEP_BEFORE_RESUME] = "before-resume",
    [STEP_AFTER_RESUME] = "after-resume",
};

enum step step_named(const char *text) {
  for (int i = 1; i < STEP_COUNT; i++) {
    if (strcmp(text, step_names[i]) == 0) return (enum step)i;
  }
  return STEP_NONE;
}

void print_steps(FILE *file) {
  for (int i = 1; i < STEP_COUNT; i++) fprintf(file, "%s%s", i % 7 == 1 ? "\n  " : ", ", step_names[i]);
  fputc('\n', file);
}

void reached(struct vmm *vmm, enum step step) {
  if (step == vmm->crash_at) {
    say("crashing %s", step_names[step]);
    fflush(NULL);
    kill(getpid(), SIGKILL);
  }
  if (step == vmm->helper_crash_at) {
    say("killing the helper %s", step_names[step]);
    vmm->helper_crash_at = STEP_NONE;
    helper_kill(&vmm->helper);
  }
  if (step == vmm->cut_at) {
    say("cutting the link %s", step_names[step]);
    vmm->cut_at = STEP_NONE;
    peer_cut(&vmm->peer);
  }
  if (step == vmm->pause_at) {
    say("paused %s, until SIGUSR2", step_names[step]);
    vmm->pause_at = STEP_NONE;
    await_signal(SIGUSR2, SIGUSR2);
  }
}
