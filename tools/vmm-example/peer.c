/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections of the two VMMs. They agree on one of their own; the other two they hand to their helpers. In a real VMM these are
 * authenticated and encrypted: whoever can write to them writes to the guest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmm.h"

enum { magic = 0x564d4d31, role_control = 1, role_stream = 2, role_memory = 3, patience_ms = 20000 };

/* What is said first on a connection. */
struct greeting {
  uint32_t magic, role;
};

bool write_all(int fd, const void *bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    ssize_t put = write(fd, (const char *)bytes + done, count - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    done += (size_t)put;
  }
  return true;
}

bool read_all(int fd, void *bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    ssize_t got = read(fd, (char *)bytes + done, count - done);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = ECONNRESET;
    if (got <= 0) return false;
    done += (size_t)got;
  }
  return true;
}

const char *word_name(uint32_t word) {
  static const char *const names[] = {
      [WORD_AGREE] = "agree",         [WORD_REFUSE] = "refuse",   [WORD_COMPLETE] = "complete", [WORD_LOADED] = "loaded",
      [WORD_COMMITTED] = "committed", [WORD_RUNNING] = "running", [WORD_ABORT] = "abort",
  };
  return word < sizeof names / sizeof *names && names[word] ? names[word] : "unknown";
}

/* ---- Places ---- */

struct place {
  struct sockaddr_storage address;
  socklen_t size;
};

/* A path, or HOST:PORT. */
static bool find_place(const char *text, struct place *place) {
  memset(place, 0, sizeof *place);
  const char *colon = strrchr(text, ':');
  if (strchr(text, '/') != NULL || colon == NULL) {
    struct sockaddr_un *local = (struct sockaddr_un *)&place->address;
    if (strlen(text) >= sizeof local->sun_path) return fail("%s is too long for a socket", text);
    local->sun_family = AF_UNIX;
    strcpy(local->sun_path, text);
    place->size = sizeof *local;
    return true;
  }
  char host[256];
  if ((size_t)snprintf(host, sizeof host, "%.*s", (int)(colon - text), text) >= sizeof host) return fail("%s is too long", text);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
  int error = getaddrinfo(host, colon + 1, &hints, &found);
  if (error != 0) return fail("%s: %s", text, gai_strerror(error));
  memcpy(&place->address, found->ai_addr, found->ai_addrlen);
  place->size = found->ai_addrlen;
  freeaddrinfo(found);
  return true;
}

static void send_at_once(int fd, const struct place *place) {
  int on = 1;
  if (place->address.ss_family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* ---- Source ---- */

/* Connects; the other side may still be on its way to listening. */
static int connect_once(const struct place *place, const char *text, uint32_t role) {
  for (int waited = 0;; waited += 50) {
    int fd = socket(place->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) break;
    if (connect(fd, (const struct sockaddr *)&place->address, place->size) == 0) {
      struct greeting greeting = {.magic = magic, .role = role};
      send_at_once(fd, place);
      if (write_all(fd, &greeting, sizeof greeting)) return fd;
    }
    int error = errno;
    close(fd);
    errno = error;
    if ((error != ENOENT && error != ECONNREFUSED) || waited >= patience_ms) break;
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
  }
  fail_errno("connecting to %s", text);
  return -1;
}

static bool send_message(struct peer *peer, struct message message) {
  message.magic = magic;
  return write_all(peer->control, &message, sizeof message) ||
         fail_errno("telling the other VMM \"%s\"", word_name(message.word));
}

static bool take_message(struct peer *peer, struct message *message) {
  if (!read_all(peer->control, message, sizeof *message)) return fail_errno("hearing from the other VMM");
  return message->magic == magic || fail("the other side is no vmm-example");
}

bool peer_connect(struct peer *peer, const char *text, const struct message *agreed) {
  struct place place;
  struct message answer, ours = *agreed;
  if (!find_place(text, &place) || (peer->control = connect_once(&place, text, role_control)) < 0) return false;
  ours.word = WORD_AGREE;
  if (!send_message(peer, ours) || !take_message(peer, &answer)) return false;
  if (answer.word != WORD_AGREE) {
    return fail("the other VMM does not agree: it has %u devices, and %llu bytes of memory", answer.devices,
                (unsigned long long)answer.bytes);
  }
  if ((peer->stream = connect_once(&place, text, role_stream)) < 0) return false;
  return agreed->pages == PAGES_NONE || (peer->memory = connect_once(&place, text, role_memory)) >= 0;
}

/* ---- Destination ---- */

static int accept_once(int listener, const struct place *place, uint32_t role) {
  struct greeting greeting;
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EINTR) continue;
  if (fd < 0) {
    fail_errno("accept");
    return -1;
  }
  if (read_all(fd, &greeting, sizeof greeting) && greeting.magic == magic && greeting.role == role) {
    send_at_once(fd, place);
    return fd;
  }
  fail("what connects is no vmm-example, or too early");
  close(fd);
  return -1;
}

/* Agrees where devices and memory are as many here; who sends pages is for the source to say. */
static bool agree(struct peer *peer, struct message *agreed) {
  struct message theirs;
  if (!take_message(peer, &theirs)) return false;
  bool has_pages = theirs.pages == PAGES_BY_HELPER || theirs.pages == PAGES_BY_VMM;
  bool fits = theirs.word == WORD_AGREE && theirs.devices == agreed->devices && theirs.bytes == agreed->bytes &&
              (theirs.bytes > 0 ? has_pages : theirs.pages == PAGES_NONE);
  agreed->word = fits ? WORD_AGREE : WORD_REFUSE;
  agreed->pages = theirs.pages;
  if (!send_message(peer, *agreed)) return false;
  return fits || fail("the other VMM has %u devices and %llu bytes of memory: that does not fit", theirs.devices,
                      (unsigned long long)theirs.bytes);
}

bool peer_accept(struct peer *peer, const char *text, struct message *agreed) {
  struct place place;
  if (!find_place(text, &place)) return false;
  int on = 1, listener = socket(place.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) return fail_errno("socket");
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  bool is_there = bind(listener, (const struct sockaddr *)&place.address, place.size) == 0 && listen(listener, 3) == 0;
  if (!is_there) fail_errno("listening at %s", text);
  else say("listening at %s", text);
  is_there = is_there && (peer->control = accept_once(listener, &place, role_control)) >= 0 && agree(peer, agreed) &&
             (peer->stream = accept_once(listener, &place, role_stream)) >= 0 &&
             (agreed->pages == PAGES_NONE || (peer->memory = accept_once(listener, &place, role_memory)) >= 0);
  close(listener);
  if (place.address.ss_family == AF_UNIX) unlink(text);
  return is_there;
}

static void end(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

void peer_end_data(struct peer *peer) {
  end(&peer->stream);
  end(&peer->memory);
}

/* ---- Cuts ---- */

bool peer_keep(struct peer *peer) {
  const int all[] = {peer->control, peer->stream, peer->memory};
  for (int i = 0; i < 3; i++) {
    if (all[i] >= 0 && (peer->kept[i] = fcntl(all[i], F_DUPFD_CLOEXEC, 0)) < 0) return fail_errno("keeping a connection");
  }
  return true;
}

void peer_cut(const struct peer *peer) {
  for (int i = 0; i < 3; i++) {
    if (peer->kept[i] >= 0) shutdown(peer->kept[i], SHUT_RDWR);
  }
}

/* ---- Words ---- */

bool peer_say(struct peer *peer, enum word word, uint64_t value) {
  if (peer->control < 0) return true;
  say("telling the other VMM: %s", word_name(word));
  return send_message(peer, (struct message){.word = word, .value = value});
}

bool peer_hear(struct peer *peer, struct message *message) {
  if (!take_message(peer, message)) return false;
  say("the other VMM says: %s", word_name(message->word));
  return message->word != WORD_ABORT || fail("the other VMM has given up");
}

bool peer_await(struct peer *peer, enum word word) {
  struct message message;
  if (!peer_hear(peer, &message)) return false;
  return message.word == (uint32_t)word || fail("the other VMM says \"%s\" where \"%s\" was to come",
                                                word_name(message.word), word_name(word));
}
