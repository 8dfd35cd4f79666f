/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that the VMM sends by itself: runs of pages, each behind a head that says where they go, and a head of zeros at the
 * end. A VMM that has a way of its own to send memory uses that; what matters is what the bitmap means (docs/helper-protocol.md).
 */
#include <stdlib.h>

#include "vmm.h"

struct run {
  uint64_t offset, bytes; /* in guest memory; both 0: the end */
};
enum { run_pages = 256 };

static bool is_set(const uint64_t *bitmap, uint64_t page) { return (bitmap[page / 64] >> page % 64 & 1) != 0; }

bool pages_send(int connection, const struct memory *memory, uint64_t *bitmap, uint64_t words, uint64_t *bytes) {
  /* One range of memory, and bits that stand for 4,096 bytes: page i is bit i. */
  uint64_t pages = memory->bytes / page_bytes;
  if (words < (pages + 63) / 64) return fail("the bitmap has %llu words only", (unsigned long long)words);
  for (uint64_t first = 0, end; first < pages; first = end) {
    if (bitmap[first / 64] == 0) {
      end = (first / 64 + 1) * 64;
      continue;
    }
    for (end = first; end < pages && end - first < run_pages && is_set(bitmap, end); end++) {
      /* Cleared first: what is written to the page from now on shows in the next reading. */
      bitmap[end / 64] &= ~(UINT64_C(1) << end % 64);
    }
    if (end == first) {
      end++;
      continue;
    }
    struct run run = {.offset = first * page_bytes, .bytes = (end - first) * page_bytes};
    if (!write_all(connection, &run, sizeof run) ||
        !write_all(connection, memory->at + run.offset, (size_t)run.bytes)) {
      return fail_errno("sending guest memory");
    }
    *bytes += sizeof run + run.bytes;
  }
  return true;
}

bool pages_send_end(int connection) {
  struct run end = {0};
  return write_all(connection, &end, sizeof end) || fail_errno("sending the end of guest memory");
}

bool pages_take(int connection, const struct memory *memory, bool *is_end) {
  struct run run;
  if (!read_all(connection, &run, sizeof run)) return fail_errno("taking guest memory in");
  *is_end = run.bytes == 0 && run.offset == 0;
  if (*is_end) return true;
  if (run.bytes == 0 || run.bytes > run_pages * page_bytes || run.offset > memory->bytes ||
      run.bytes > memory->bytes - run.offset) {
    return fail("the other VMM sends what is no guest memory here");
  }
  return read_all(connection, memory->at + run.offset, (size_t)run.bytes) || fail_errno("taking guest memory in");
}
