/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-memory ioas NODE | hwpt NODE | group /dev/vfio/GROUP NAME
 *
 * Stands in for a VMM with memory, in the lab's tests of dirty tracking: it opens one synthetic device, maps
 * memory for it, and keeps a shadow of this memory into which it copies only those pages that were reported as
 * written, as a VMM sends only those. When the device has stopped, shadow and memory must be the same. It shares
 * nothing with vfio-ferry but the uAPI layouts.
 *
 * With "ioas" and "group" the device's own log tracks; with "hwpt" the IOMMU does. The program says "ready" and
 * does what lines on its standard input say, each with one line of answer:
 *
 *   map IOVA LENGTH            ok; of memory that is all zeros, whole pages
 *   unmap IOVA                 ok; the mapping that begins there
 *   track [PAGE_SIZE]          ok PAGE_SIZE: everything mapped is tracked, with a bit for so many bytes
 *   log PAGE_SIZE IOVA+LENGTH… ok PAGE_SIZE: the device's log with ranges of its own
 *   untrack                    ok
 *   copy                       PAGES that were reported once and copied
 *   follow POSITION            READINGS PAGES: copies again and again until the device has written so many pages
 *   runs IOVA LENGTH PAGE_SIZE COUNT IOVA+LENGTH…: what is reported for that range; the shadow stays as it is
 *   control BITS               ok; the device's control register
 *   set STATE                  ok
 *   compare                    same, or different COUNT IOVA: pages of the shadow that memory has otherwise
 *   recompute SEED PATTERN POSITION IOVA+LENGTH…
 *                              same COUNT, the pages written; or different COUNT IOVA: pages that are not what
 *                              a generator must have left that wrote to these ranges until that position
 *   quit                       ok, and it ends
 *
 * What the kernel refuses answers "errno NAME CALL". Numbers are as in C; what is no command: "what?".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest.h"
#include "vfio_ferry/vfio.h"

enum { line_max = 1 << 16, words_max = 512 };

struct map maps[maps_max];
int map_count;
static uint64_t bit_bytes = page_bytes; /* what a bit of the tracker stands for */

static void answer(bool is_done) {
  const char *name = strerrorname_np(errno);
  if (is_done) puts("ok");
  else printf("errno %s %s\n", name ? name : "unknown", failed_call);
}

static uint64_t number(const char *text) { return strtoull(text, NULL, 0); }

/* Reads IOVA+LENGTH. */
static void range(const char *text, uint64_t *iova, uint64_t *length) {
  char *rest;
  *iova = strtoull(text, &rest, 0);
  *length = *rest == '+' ? number(rest + 1) : 0;
}

static void *memory(const char *name, uint64_t length) {
  /* A file, as guest memory is, so that nothing but what is mapped can be meant. */
  int file = memfd_create(name, MFD_CLOEXEC);
  void *address = MAP_FAILED;
  if (file >= 0 && ftruncate(file, (off_t)length) == 0) {
    address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  }
  if (address == MAP_FAILED) {
    perror("guest-memory: memory");
    exit(1);
  }
  close(file);
  return address;
}

static bool map(uint64_t iova, uint64_t length) {
  errno = E2BIG;
  failed_call = "map";
  if (map_count == maps_max) return false;
  struct map *new = &maps[map_count];
  *new = (struct map){.iova = iova, .length = length, .memory = memory("guest", length),
                      .shadow = memory("shadow", length)};
  if (!device_map(iova, length, new->memory)) return false;
  map_count++;
  return true;
}

static bool unmap(uint64_t iova) {
  int i = 0;
  while (i < map_count && maps[i].iova != iova) i++;
  errno = ENOENT;
  failed_call = "unmap";
  if (i == map_count || !device_unmap(iova, maps[i].length)) return false;
  munmap(maps[i].memory, maps[i].length);
  munmap(maps[i].shadow, maps[i].length);
  maps[i] = maps[--map_count];
  return true;
}

static uint64_t *bitmap_for(uint64_t length, uint64_t unit) {
  uint64_t *bitmap = calloc((length + 64 * unit - 1) / (64 * unit), sizeof *bitmap);
  if (bitmap == NULL) abort();
  return bitmap;
}

static bool is_set(const uint64_t *bitmap, uint64_t bit) { return bitmap[bit / 64] >> bit % 64 & 1; }

/* Copies what is reported as written, and adds to `pages` how many bits that were. */
static bool copy(uint64_t *pages) {
  bool is_done = true;
  for (int i = 0; i < map_count; i++) {
    const struct map *map = &maps[i];
    uint64_t *bitmap = bitmap_for(map->length, bit_bytes);
    /* After a failure too: what was reported before it is not reported again. */
    bool is_whole = track_report(map->iova, map->length, bit_bytes, bitmap);
    is_done = is_done && is_whole;
    for (uint64_t at = 0; at < map->length; at += bit_bytes) {
      if (!is_set(bitmap, at / bit_bytes)) continue;
      uint64_t rest = map->length - at;
      memcpy(map->shadow + at, map->memory + at, rest < bit_bytes ? rest : bit_bytes);
      ++*pages;
    }
    free(bitmap);
    if (!is_whole) break;
  }
  return is_done;
}

static void follow(uint64_t end) {
  uint64_t readings = 0, pages = 0, position = 0;
  while (position < end) {
    if (!copy(&pages) || !device_position(&position)) {
      answer(false);
      return;
    }
    readings++;
  }
  printf("%llu %llu\n", (unsigned long long)readings, (unsigned long long)pages);
}

/* The next run of bits from `first` on, up to `end`. */
static bool next_run(const uint64_t *bitmap, uint64_t bits, uint64_t *first, uint64_t *end) {
  /* By words first: a bitmap of terabytes is mostly zeros. */
  while (*first < bits && !is_set(bitmap, *first)) *first += *first % 64 == 0 && bitmap[*first / 64] == 0 ? 64 : 1;
  for (*end = *first; *end < bits && is_set(bitmap, *end);) ++*end;
  return *first < bits;
}

static void runs(uint64_t iova, uint64_t length, uint64_t unit) {
  uint64_t *bitmap = bitmap_for(length, unit), bits = (length + unit - 1) / unit, count = 0;
  if (!track_report(iova, length, unit, bitmap)) {
    answer(false);
  } else {
    for (uint64_t first = 0, end; next_run(bitmap, bits, &first, &end); first = end) count++;
    printf("%llu", (unsigned long long)count);
    for (uint64_t first = 0, end; next_run(bitmap, bits, &first, &end); first = end) {
      printf(" 0x%llx+0x%llx", (unsigned long long)(iova + first * unit), (unsigned long long)((end - first) * unit));
    }
    putchar('\n');
  }
  free(bitmap);
}

static void different(struct verdict verdict) {
  printf("different %llu 0x%llx\n", (unsigned long long)verdict.wrong, (unsigned long long)verdict.first);
}

static void compare(void) {
  struct verdict verdict = {0};
  for (int i = 0; i < map_count; i++) {
    for (uint64_t at = 0; at < maps[i].length; at += page_bytes) {
      if (memcmp(maps[i].memory + at, maps[i].shadow + at, page_bytes) == 0) continue;
      if (verdict.wrong++ == 0) verdict.first = maps[i].iova + at;
    }
  }
  if (verdict.wrong) different(verdict);
  else puts("same");
}

static void recompute(int words, char **word) {
  struct generator generator = {.seed = number(word[1]), .pattern = word[2][0], .position = number(word[3])};
  for (int i = 4; i < words && generator.range_count < maps_max; i++, generator.range_count++) {
    range(word[i], &generator.ranges[generator.range_count].iova, &generator.ranges[generator.range_count].length);
  }
  struct verdict verdict = content_check(&generator);
  if (verdict.wrong) different(verdict);
  else printf("same %llu\n", (unsigned long long)verdict.written);
}

static void start(bool is_done) {
  if (is_done) printf("ok %llu\n", (unsigned long long)bit_bytes);
  else answer(false);
}

static void start_log(int words, char **word) {
  static struct vf_vfio_device_feature_dma_logging_range ranges[words_max];
  for (int i = 2; i < words; i++) {
    uint64_t iova, length;
    range(word[i], &iova, &length);
    ranges[i - 2] = (struct vf_vfio_device_feature_dma_logging_range){.iova = iova, .length = length};
  }
  bit_bytes = number(word[1]);
  start(log_start(ranges, (uint32_t)(words - 2), &bit_bytes));
}

/* Does what one line says; false when it was the last. */
static bool obey(char *line) {
  static char *word[words_max];
  char *rest = line;
  int words = 0;
  for (char *next; words < words_max && (next = strtok_r(rest, " \n", &rest)) != NULL;) word[words++] = next;
  const char *command = words ? word[0] : "";
  uint64_t pages = 0;
  if (strcmp(command, "map") == 0 && words == 3) {
    answer(map(number(word[1]), number(word[2])));
  } else if (strcmp(command, "unmap") == 0 && words == 2) {
    answer(unmap(number(word[1])));
  } else if (strcmp(command, "track") == 0 && words <= 2) {
    bit_bytes = words == 2 ? number(word[1]) : page_bytes;
    start(track_start(&bit_bytes));
  } else if (strcmp(command, "log") == 0 && words > 2) {
    start_log(words, word);
  } else if (strcmp(command, "untrack") == 0) {
    answer(track_stop());
  } else if (strcmp(command, "copy") == 0) {
    if (copy(&pages)) printf("%llu\n", (unsigned long long)pages);
    else answer(false);
  } else if (strcmp(command, "follow") == 0 && words == 2) {
    follow(number(word[1]));
  } else if (strcmp(command, "runs") == 0 && words == 4) {
    runs(number(word[1]), number(word[2]), number(word[3]));
  } else if (strcmp(command, "control") == 0 && words == 2) {
    answer(device_control((uint32_t)number(word[1])));
  } else if (strcmp(command, "set") == 0 && words == 2) {
    answer(device_set_state(word[1]));
  } else if (strcmp(command, "compare") == 0) {
    compare();
  } else if (strcmp(command, "recompute") == 0 && words > 4) {
    recompute(words, word);
  } else if (strcmp(command, "quit") == 0) {
    puts("ok");
    return false;
  } else {
    puts("what?");
  }
  return true;
}

int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (!device_open(count - 1, arguments + 1)) {
    answer(false);
    return 1;
  }
  puts("ready");
  static char line[line_max];
  while (fgets(line, sizeof line, stdin) != NULL && obey(line)) continue;
  return 0;
}
