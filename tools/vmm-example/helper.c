/* SPDX-License-Identifier: Apache-2.0 */
/* The helper's process, and the protocol of vfio_ferry.h: one packet, one structure. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm.h"

enum { helper_fd = 3 };

bool helper_start(struct helper *helper, const char *program) {
  *helper = (struct helper){.socket = -1};
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return fail_errno("socketpair");
  pid_t pid = fork();
  if (pid < 0) {
    close(pair[0]);
    close(pair[1]);
    return fail_errno("fork");
  }
  if (pid == 0) {
    /* Nothing of ours but the socket: everything else closes on exec. */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (pair[1] == helper_fd ? fcntl(helper_fd, F_SETFD, 0) < 0 : dup2(pair[1], helper_fd) < 0) _exit(126);
    execlp(program, "vfio-ferry", "helper", "--fd", "3", (char *)NULL);
    fprintf(stderr, "vmm-example: can't start %s: %s\n", program, strerror(errno));
    _exit(127);
  }
  close(pair[1]);
  helper->socket = pair[0];
  helper->pid = pid;
  say("helper: process %d", (int)pid);
  return true;
}

static void helper_close(struct helper *helper) {
  if (helper->socket >= 0) close(helper->socket);
  helper->socket = -1;
}

static int helper_reap(struct helper *helper) {
  int status = 0;
  if (helper->pid > 0) {
    while (waitpid(helper->pid, &status, 0) < 0 && errno == EINTR) continue;
  }
  helper->pid = 0;
  return status;
}

void helper_end(struct helper *helper) {
  if (helper->pid <= 0) return;
  helper_close(helper);
  int status = helper_reap(helper);
  if (WIFEXITED(status)) say("the helper has ended with %d", WEXITSTATUS(status));
  else if (WIFSIGNALED(status)) say("the helper was ended by signal %d", WTERMSIG(status));
}

void helper_kill(struct helper *helper) {
  if (helper->pid > 0) kill(helper->pid, SIGKILL);
  helper_reap(helper);
}

/* The connection broke: whatever was asked last may have happened or not. */
static bool helper_lost(struct helper *helper, const char *reason) {
  helper->is_gone = true;
  helper_close(helper);
  return fail("the helper is gone: %s", reason);
}

struct vfio_ferry_header head(uint32_t type, size_t size, uint32_t descriptors) {
  return (struct vfio_ferry_header){.type = type, .size = (uint32_t)size, .descriptors = descriptors};
}

/* Room for the descriptors of a packet, aligned as the kernel wants it. */
union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(VFIO_FERRY_MAX_DESCRIPTORS * sizeof(int))];
};

static bool send_packet(struct helper *helper, const struct vfio_ferry_header *packet, const int *descriptors) {
  union control control = {0};
  struct iovec bytes = {.iov_base = (void *)packet, .iov_len = packet->size};
  struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
  if (packet->descriptors > 0) {
    size_t size = packet->descriptors * sizeof(int);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(size);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(head), descriptors, size);
  }
  ssize_t sent;
  while ((sent = sendmsg(helper->socket, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR) continue;
  if (sent < 0) return helper_lost(helper, strerror(errno));
  return true; /* a packet goes whole or not at all */
}

/* Takes one packet, which is checked to be as long as it says. A descriptor that comes with it is the caller's; -1: none. */
static bool take_packet(struct helper *helper, union packet *packet, int *file) {
  union control control;
  struct iovec bytes = {.iov_base = packet, .iov_len = sizeof *packet};
  struct msghdr message = {
      .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  ssize_t got;
  *file = -1;
  while ((got = recvmsg(helper->socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) continue;
  if (got < 0) return helper_lost(helper, strerror(errno));
  if (got == 0) return helper_lost(helper, "it has hung up");

  uint32_t descriptors = 0;
  for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(head) + at, sizeof descriptor);
      if (descriptors++ == 0) *file = descriptor;
      else close(descriptor); /* no packet to a VMM has two */
    }
  }
  bool is_whole = (size_t)got >= sizeof packet->header && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
                  packet->header.size == (size_t)got && packet->header.descriptors == descriptors && descriptors <= 1;
  if (is_whole) return true;
  if (*file >= 0) close(*file);
  *file = -1;
  return helper_lost(helper, "it sent a packet that is not as long as it says");
}

static void print_error(const char *what, const struct vfio_ferry_error *error) {
  char device[32] = "";
  if (error->device) snprintf(device, sizeof device, ", device %u", error->device);
  fail("%s: code %u (%s), errno %d (%s)%s: %.*s", what, error->code, code_name(error->code), error->error,
       error->error ? strerror(error->error) : "none", device, (int)sizeof error->text, error->text);
}

/* The bytes that an event of this type has; 0: it is not known here. */
static size_t event_size(uint32_t type) {
  switch (type) {
    case VFIO_FERRY_EVENT_PROGRESS: return sizeof(struct vfio_ferry_progress);
    case VFIO_FERRY_EVENT_ARC: return sizeof(struct vfio_ferry_arc);
    case VFIO_FERRY_EVENT_DECISION:
    case VFIO_FERRY_EVENT_READY: return sizeof(struct vfio_ferry_estimate);
    case VFIO_FERRY_EVENT_FAILED: return sizeof(struct vfio_ferry_error);
    case VFIO_FERRY_EVENT_PHASE:
    case VFIO_FERRY_EVENT_HUNG:
    case VFIO_FERRY_EVENT_SLOW:
    case VFIO_FERRY_EVENT_RESET:
    case VFIO_FERRY_EVENT_THROTTLE:
    case VFIO_FERRY_EVENT_TRACKER:
    case VFIO_FERRY_EVENT_LINK_LOST:
    case VFIO_FERRY_EVENT_TAG:
    case VFIO_FERRY_EVENT_LOADED: return sizeof(struct vfio_ferry_event);
    default: return 0;
  }
}

static void print_estimate(const char *what, const struct vfio_ferry_estimate *estimate) {
  say("  %s: round %u, %llu dirty pages, %llu bytes of pages and %llu of devices left: %s", what, estimate->round,
      (unsigned long long)estimate->dirty, (unsigned long long)estimate->page_bytes,
      (unsigned long long)estimate->device_bytes, verdict_name(estimate->verdict));
}

/* An event: printed, and noted where something waits for it. One that is not known means nothing to us. */
static bool take_event(struct helper *helper, const union packet *packet) {
  size_t size = event_size(packet->header.type);
  if (packet->header.type < VFIO_FERRY_EVENT_PHASE) return helper_lost(helper, "it sent an event that is none");
  if (size == 0) return true;
  if (packet->header.size != size || packet->header.descriptors != 0) {
    fail("event 0x%x has %u bytes, and should have %zu", packet->header.type, packet->header.size, size);
    return helper_lost(helper, "it sent an event of a wrong size");
  }
  const struct vfio_ferry_event *event = &packet->event;
  int length = (int)sizeof event->text;
  switch (packet->header.type) {
    case VFIO_FERRY_EVENT_PHASE:
      helper->phase = event->phase;
      say("  phase: %s", phase_name(event->phase));
      break;
    case VFIO_FERRY_EVENT_PROGRESS: break; /* too many for a person; a progress bar would take them */
    case VFIO_FERRY_EVENT_ARC:
      if (packet->arc.error) {
        say("  device %u: %s to %s failed: %s", packet->arc.device, state_name(packet->arc.from),
            state_name(packet->arc.to), strerror(packet->arc.error));
      } else {
        say("  device %u: %s to %s, %llu us", packet->arc.device, state_name(packet->arc.from),
            state_name(packet->arc.to), (unsigned long long)packet->arc.microseconds);
      }
      break;
    case VFIO_FERRY_EVENT_DECISION:
      helper->has_decided = true;
      print_estimate("decision", &packet->estimate);
      break;
    case VFIO_FERRY_EVENT_READY:
      helper->is_ready = true;
      print_estimate("ready", &packet->estimate);
      break;
    case VFIO_FERRY_EVENT_THROTTLE:
      helper->should_throttle = true;
      say("  throttle: %.*s", length, event->text);
      break;
    case VFIO_FERRY_EVENT_HUNG:
    case VFIO_FERRY_EVENT_SLOW:
      say("  slow: device %u, %llu us: %.*s", event->device, (unsigned long long)event->microseconds, length,
          event->text);
      break;
    case VFIO_FERRY_EVENT_RESET: say("  device %u was reset: %.*s", event->device, length, event->text); break;
    case VFIO_FERRY_EVENT_TRACKER: say("  tracker of device %u: %.*s", event->device, length, event->text); break;
    case VFIO_FERRY_EVENT_TAG: say("  tag of device %u: %.*s", event->device, length, event->text); break;
    case VFIO_FERRY_EVENT_LINK_LOST: say("  link lost: %.*s", length, event->text); break;
    case VFIO_FERRY_EVENT_LOADED:
      helper->is_loaded = true;
      say("  loaded");
      break;
    case VFIO_FERRY_EVENT_FAILED:
      helper->has_failed = true;
      print_error("the session has failed", &packet->error);
      break;
  }
  return true;
}

bool helper_take_event(struct helper *helper) {
  union packet packet;
  int file;
  if (!take_packet(helper, &packet, &file)) return false;
  if (file >= 0) close(file);
  if (packet.header.number != 0) return helper_lost(helper, "it answered what was not asked");
  return take_event(helper, &packet);
}

bool helper_ask(struct helper *helper, struct question question) {
  struct vfio_ferry_done done;
  struct vfio_ferry_header *request = question.request;
  if (question.reply == NULL) {
    question.reply = &done.header;
    question.reply_size = sizeof done;
  }
  if (helper->socket < 0) return fail("%s: there is no helper", question.what);
  request->number = ++helper->number;
  if (!send_packet(helper, request, question.descriptors)) return false;

  while (true) {
    union packet packet;
    int file;
    if (!take_packet(helper, &packet, &file)) return false;
    if (packet.header.number == 0 && packet.header.type != VFIO_FERRY_ERROR) {
      if (file >= 0) close(file);
      if (!take_event(helper, &packet)) return false;
      continue;
    }
    /* There is one request at a time here, so this is its reply. An error with number 0 is about a packet that could not be
     * read, and the helper hangs up after it. */
    bool is_ours = packet.header.number == request->number || packet.header.number == 0;
    if (is_ours && packet.header.type == VFIO_FERRY_ERROR && packet.header.size == sizeof packet.error) {
      print_error(question.what, &packet.error);
    } else if (is_ours && packet.header.type == (request->type | VFIO_FERRY_REPLY) &&
               packet.header.size == question.reply_size && (file < 0 || question.file)) {
      memcpy(question.reply, &packet, question.reply_size);
      if (question.file) *question.file = file;
      return true;
    } else {
      fail("%s: number %u, type 0x%x, %u bytes is not its reply", question.what, packet.header.number, packet.header.type,
           packet.header.size);
      helper_lost(helper, "it answered what was not asked");
    }
    if (file >= 0) close(file);
    return false;
  }
}

bool helper_tell(struct helper *helper, uint32_t type, const char *what) {
  struct vfio_ferry_header request = head(type, sizeof request, 0);
  return helper_ask(helper, (struct question){.what = what, .request = &request});
}
