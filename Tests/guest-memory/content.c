/* SPDX-License-Identifier: Apache-2.0 */
/* Recomputes what a synthetic device has written, from its seed and its position alone. */
#include "guest.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t z) {
  z ^= z >> 30;
  z *= 0xbf58476d1ce4e5b9;
  z ^= z >> 27;
  z *= 0x94d049bb133111eb;
  return z ^ z >> 31;
}

/* Which page write n goes to, counted through the ranges in their order. */
static uint64_t target(const struct generator *generator, uint64_t n, uint64_t pages) {
  uint64_t h = mix(generator->seed + n);
  switch (generator->pattern) {
    case 's': return n % pages;
    case 'r': return h % pages;
    default: break;
  }
  uint64_t hot = pages / 10 ? pages / 10 : 1;
  return (h >> 8) % (h % 10 == 0 ? pages : hot);
}

static const uint8_t *mapped(uint64_t iova) {
  for (int i = 0; i < map_count; i++) {
    if (iova >= maps[i].iova && iova - maps[i].iova < maps[i].length) return maps[i].memory + (iova - maps[i].iova);
  }
  return NULL;
}

/* Whether a page holds what write n left, or zeros where there was none (n is SIZE_MAX). */
static bool holds(const uint8_t *page, uint64_t seed, uint64_t n) {
  uint64_t key = mix(seed ^ n);
  for (uint64_t k = 0; k < page_words; k++) {
    uint64_t word;
    memcpy(&word, page + 8 * k, 8);
    if (word != (n == UINT64_MAX ? 0 : mix(key + k))) return false;
  }
  return true;
}

struct verdict content_check(const struct generator *generator) {
  struct verdict verdict = {0};
  uint64_t pages = 0;
  for (int i = 0; i < generator->range_count; i++) pages += generator->ranges[i].length / page_bytes;
  uint64_t *last = malloc(pages * sizeof *last); /* the write that came last to each page */
  if (last == NULL) abort();
  memset(last, 0xff, pages * sizeof *last);
  for (uint64_t n = 0; n < generator->position; n++) last[target(generator, n, pages)] = n;

  uint64_t index = 0;
  for (int i = 0; i < generator->range_count; i++) {
    for (uint64_t at = 0; at < generator->ranges[i].length; at += page_bytes, index++) {
      uint64_t iova = generator->ranges[i].iova + at;
      const uint8_t *page = mapped(iova);
      if (page == NULL) continue; /* written to nowhere */
      if (last[index] != UINT64_MAX) verdict.written++;
      if (holds(page, generator->seed, last[index])) continue;
      if (verdict.wrong++ == 0) verdict.first = iova;
    }
  }
  free(last);
  return verdict;
}
