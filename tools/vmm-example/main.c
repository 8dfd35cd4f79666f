/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm.h"

static const char usage[] =
    "usage: vmm-example source|destination DEV... --peer PATH|HOST:PORT [OPTION]...\n"
    "\n"
    "A VMM without a guest. The source moves its devices and its guest memory to the destination by `vfio-ferry helper`.\n"
    "DEV is an mdev's UUID, a PCI address, or the name of a synthetic device; on both sides in the same order.\n"
    "\n"
    "  --peer PATH|HOST:PORT  where the destination listens and the source connects\n"
    "  --helper PROGRAM       the vfio-ferry executable (default: vfio-ferry)\n"
    "  --tag FILE             what `vfio-ferry tag DEV` has printed; once for each device, in their order\n"
    "  --memory BYTES         of guest memory, K, M or G behind it; 0: none (default: 64M)\n"
    "  --guest ADDRESS        its guest address (default: 0x100000000)\n"
    "  --iova ADDRESS         where devices find it (default: its guest address)\n"
    "  --run-for SECONDS      source: the guest runs for so long before it moves (default: 0)\n"
    "  --run-until-signal     source: or until SIGUSR1\n"
    "  --downtime MS          source: for how long it may stand still (default: 300)\n"
    "  --force                source: move it also if it dirties more than can be sent\n"
    "  --pages-by-vmm         source: this program sends the guest memory, not the helper\n"
    "  --vcpu-writes N        the guest writes to N random pages a second\n"
    "  --verify               source: have the destination compare a checksum of the memory\n"
    "  --mark                 source: write marks into the devices' registers before\n"
    "  --expect-mark          destination: look for them after\n"
    "  --hold                 stay alive at the end, with the devices open, until SIGTERM. SIGUSR1 tells a source that has\n"
    "                         committed, and does not know whether the guest runs there, that it does not, and never will\n"
    "  --crash-at STEP        kill this program at a step: see below\n"
    "  --helper-crash-at STEP kill the helper at a step\n"
    "  --cut-at STEP          cut the link to the other VMM at a step\n"
    "  --pause-at STEP        wait at a step until SIGUSR2, so that whatever is to die can be killed meanwhile\n"
    "  --quiet                print nothing but errors\n"
    "\n"
    "Exit status: 0 the guest runs on the destination; 1 it does not, or nobody knows; 2 misuse; 3 it runs on, on the source.\n"
    "Steps:";

static struct vmm vmm = {
    .helper_program = "vfio-ferry",
    .helper = {.socket = -1},
    .peer = {.control = -1, .stream = -1, .memory = -1, .kept = {-1, -1, -1}},
    .memory = {.bytes = 64 << 20, .guest = UINT64_C(0x100000000), .iova = UINT64_MAX, .file = -1},
    .pages = PAGES_BY_HELPER,
    .bitmap_file = -1,
    .downtime_us = 300000,
};
/* In the order of the devices, of which nothing is known yet where these are read. */
static const char *tags[devices_max];
static int tag_count;
static bool is_quiet;
static struct timespec started;

/* ---- What a person sees ---- */

uint64_t milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)((now.tv_sec - started.tv_sec) * 1000 + (now.tv_nsec - started.tv_nsec) / 1000000);
}

static void print(FILE *file, const char *format, va_list arguments, const char *cause) {
  uint64_t now = milliseconds();
  char text[1024];
  vsnprintf(text, sizeof text, format, arguments);
  fprintf(file, "%3" PRIu64 ".%03" PRIu64 " %s: %s%s%s\n", now / 1000, now % 1000,
          vmm.is_source ? "source" : "destination", text, cause ? ": " : "", cause ? cause : "");
}

void say(const char *format, ...) {
  va_list arguments;
  if (is_quiet) return;
  va_start(arguments, format);
  print(stdout, format, arguments, NULL);
  va_end(arguments);
}

bool fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  print(stderr, format, arguments, NULL);
  va_end(arguments);
  return false;
}

bool fail_errno(const char *format, ...) {
  const char *cause = strerror(errno);
  va_list arguments;
  va_start(arguments, format);
  print(stderr, format, arguments, cause);
  va_end(arguments);
  return false;
}

/* ---- Options ---- */

static void print_usage(FILE *file) {
  fputs(usage, file);
  print_steps(file);
}

static _Noreturn void misuse(const char *text) {
  fprintf(stderr, "vmm-example: %s (see --help)\n", text);
  exit(2);
}

static uint64_t number(const char *text) {
  char *end;
  errno = 0;
  uint64_t value = strtoull(text, &end, 0);
  int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  end += shift != 0;
  if (errno != 0 || end == text || *end != 0 || *text == '-' || value > UINT64_MAX >> shift) misuse("that is no number");
  return value << shift;
}

static enum step step(const char *text) {
  enum step step = step_named(text);
  if (step == STEP_NONE) misuse("there is no such step");
  return step;
}

enum choice {
  OPTION_PEER = 1, OPTION_HELPER, OPTION_TAG, OPTION_MEMORY, OPTION_GUEST, OPTION_IOVA, OPTION_RUN_FOR, OPTION_RUN_UNTIL_SIGNAL,
  OPTION_DOWNTIME, OPTION_FORCE, OPTION_PAGES_BY_VMM, OPTION_VCPU_WRITES, OPTION_VERIFY, OPTION_MARK, OPTION_HOLD,
  OPTION_CRASH_AT, OPTION_HELPER_CRASH_AT, OPTION_CUT_AT, OPTION_PAUSE_AT, OPTION_QUIET, OPTION_HELP,
};

static void take_option(int option, const char *value) {
  switch (option) {
    case OPTION_PEER: vmm.place = value; break;
    case OPTION_HELPER: vmm.helper_program = value; break;
    case OPTION_TAG:
      if (tag_count == devices_max) misuse("that are too many tags");
      tags[tag_count++] = value;
      break;
    case OPTION_MEMORY: vmm.memory.bytes = number(value); break;
    case OPTION_GUEST: vmm.memory.guest = number(value); break;
    case OPTION_IOVA: vmm.memory.iova = number(value); break;
    case OPTION_RUN_FOR: vmm.run_for = strtod(value, NULL); break;
    case OPTION_RUN_UNTIL_SIGNAL: vmm.runs_until_signal = true; break;
    case OPTION_DOWNTIME: vmm.downtime_us = number(value) * 1000; break;
    case OPTION_FORCE: vmm.forces = true; break;
    case OPTION_PAGES_BY_VMM: vmm.pages = PAGES_BY_VMM; break;
    case OPTION_VCPU_WRITES: vmm.vcpu_writes = number(value); break;
    case OPTION_VERIFY: vmm.verifies = true; break;
    case OPTION_MARK: vmm.marks = true; break;
    case OPTION_HOLD: vmm.holds = true; break;
    case OPTION_CRASH_AT: vmm.crash_at = step(value); break;
    case OPTION_HELPER_CRASH_AT: vmm.helper_crash_at = step(value); break;
    case OPTION_CUT_AT: vmm.cut_at = step(value); break;
    case OPTION_PAUSE_AT: vmm.pause_at = step(value); break;
    case OPTION_QUIET: is_quiet = true; break;
    case OPTION_HELP: print_usage(stdout); exit(0);
    default: exit(2); /* getopt has said why */
  }
}

static void take_arguments(int count, char **arguments) {
  static const struct option options[] = {
      {"peer", required_argument, NULL, OPTION_PEER},
      {"helper", required_argument, NULL, OPTION_HELPER},
      {"tag", required_argument, NULL, OPTION_TAG},
      {"memory", required_argument, NULL, OPTION_MEMORY},
      {"guest", required_argument, NULL, OPTION_GUEST},
      {"iova", required_argument, NULL, OPTION_IOVA},
      {"run-for", required_argument, NULL, OPTION_RUN_FOR},
      {"run-until-signal", no_argument, NULL, OPTION_RUN_UNTIL_SIGNAL},
      {"downtime", required_argument, NULL, OPTION_DOWNTIME},
      {"force", no_argument, NULL, OPTION_FORCE},
      {"pages-by-vmm", no_argument, NULL, OPTION_PAGES_BY_VMM},
      {"vcpu-writes", required_argument, NULL, OPTION_VCPU_WRITES},
      {"verify", no_argument, NULL, OPTION_VERIFY},
      {"mark", no_argument, NULL, OPTION_MARK},
      {"expect-mark", no_argument, NULL, OPTION_MARK},
      {"hold", no_argument, NULL, OPTION_HOLD},
      {"crash-at", required_argument, NULL, OPTION_CRASH_AT},
      {"helper-crash-at", required_argument, NULL, OPTION_HELPER_CRASH_AT},
      {"cut-at", required_argument, NULL, OPTION_CUT_AT},
      {"pause-at", required_argument, NULL, OPTION_PAUSE_AT},
      {"quiet", no_argument, NULL, OPTION_QUIET},
      {"help", no_argument, NULL, OPTION_HELP},
      {0},
  };
  int option;
  while ((option = getopt_long(count, arguments, "", options, NULL)) != -1) take_option(option, optarg);
  if (optind == count) misuse("source or destination?");
  const char *side = arguments[optind++];
  vmm.is_source = strcmp(side, "source") == 0;
  if (!vmm.is_source && strcmp(side, "destination") != 0) misuse("source or destination?");
  for (; optind < count; optind++) {
    if (vmm.device_count == devices_max) misuse("that are too many devices");
    int index = vmm.device_count++;
    vmm.devices[index] = (struct device){
        .argument = arguments[optind], .tag = tags[index], .id = (uint32_t)vmm.device_count, .fd = -1};
  }
  if (tag_count > vmm.device_count) misuse("there are more tags than devices");
  if (vmm.device_count == 0 || vmm.place == NULL) misuse("give at least one device, and --peer");
  if (vmm.memory.iova == UINT64_MAX) vmm.memory.iova = vmm.memory.guest;
  if ((vmm.memory.bytes | vmm.memory.guest | vmm.memory.iova) % page_bytes != 0) {
    misuse("memory and its addresses are in multiples of 4,096");
  }
  if (vmm.memory.bytes == 0) vmm.pages = PAGES_NONE;
}

/* ---- Signals ---- */

int await_signal(int wanted, int other) {
  sigset_t signals;
  int signal;
  sigemptyset(&signals);
  sigaddset(&signals, wanted);
  sigaddset(&signals, other);
  sigwait(&signals, &signal);
  return signal;
}

static void forget_signal(int unwanted) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, unwanted);
  while (sigtimedwait(&signals, NULL, &(struct timespec){0}) == unwanted) continue;
}

/* Signals that are waited for wait for us, too. */
static void block_signals(void) {
  sigset_t signals;
  sigemptyset(&signals);
  if (vmm.holds) sigaddset(&signals, SIGTERM);
  if (vmm.holds || vmm.runs_until_signal) sigaddset(&signals, SIGUSR1);
  if (vmm.pause_at) sigaddset(&signals, SIGUSR2);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  signal(SIGPIPE, SIG_IGN);
}

/* ---- The whole ---- */

static bool open_all(void) {
  if (!space_make(&vmm.space) || !memory_make(&vmm.memory)) return false;
  for (int i = 0; i < vmm.device_count; i++) {
    if (!device_open(&vmm.devices[i], &vmm.space, vmm.devices, i)) return false;
  }
  return memory_map(&vmm.memory, &vmm.space);
}

/* The guest, until it is to move. */
static bool run_guest(void) {
  for (int i = 0; i < vmm.device_count; i++) {
    if (!device_enable_interrupts(&vmm.devices[i])) return false;
    if (vmm.marks && !device_mark(&vmm.devices[i])) return false;
  }
  if (!vcpus_start(&vmm.memory, vmm.vcpu_writes)) return false;
  vmm.vcpus_run = true;
  say("the guest runs");
  if (vmm.runs_until_signal) await_signal(SIGUSR1, SIGUSR1);
  struct timespec rest = {.tv_sec = (time_t)vmm.run_for, .tv_nsec = (long)((vmm.run_for - (double)(time_t)vmm.run_for) * 1e9)};
  while (nanosleep(&rest, &rest) < 0 && errno == EINTR) continue;
  return true;
}

/* The source has let go, and has not heard that the guest runs on the other side. */
static bool is_in_doubt(enum ending ending) { return vmm.is_source && vmm.has_committed && ending == ENDING_FAILED; }

/* The last line, for programs: how it ended, and where the guest is as far as this VMM knows. */
static void report(enum ending ending) {
  static const char *const endings[] = {[ENDING_DONE] = "done", [ENDING_FAILED] = "failed", [ENDING_BACK] = "back"};
  const char *place = "stopped here";
  if (is_in_doubt(ending)) place = "stopped here, unless it runs there";
  else if (ending == ENDING_BACK || (!vmm.is_source && vmm.vcpus_run)) place = "here";
  else if (ending == ENDING_DONE || (!vmm.is_source && !vmm.is_ours)) place = "there";
  say("result: %s, guest %s", endings[ending], place);
}

/* Keeps the devices open. A source that is in doubt may be told meanwhile, by whoever has looked, that it may run its guest. */
static enum ending hold(enum ending ending) {
  say("holding the devices until SIGTERM");
  while (await_signal(SIGTERM, SIGUSR1) == SIGUSR1) {
    if (!is_in_doubt(ending)) continue;
    say("somebody has made sure that the guest does not run there");
    ending = recovery_run_on(&vmm);
    report(ending);
  }
  return ending;
}

int main(int count, char **arguments) {
  clock_gettime(CLOCK_MONOTONIC, &started);
  setvbuf(stdout, NULL, _IOLBF, 0);
  take_arguments(count, arguments);
  block_signals();
  if (!open_all() || (vmm.is_source && !run_guest())) return ENDING_FAILED;
  enum ending ending = vmm.is_source ? source_run(&vmm) : destination_run(&vmm);
  forget_signal(SIGUSR1); /* one that came before is no answer to what comes now */
  report(ending);
  if (vmm.holds) ending = hold(ending);
  vcpus_stop();
  helper_end(&vmm.helper); /* hanging up in SETUP or after COMMIT is a farewell */
  return ending;
}
