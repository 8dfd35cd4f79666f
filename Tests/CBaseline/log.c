/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "vfio_ferry/vfio.h"

uint64_t *log_bitmap(uint64_t words) {
  uint64_t *bitmap = malloc(words * sizeof *bitmap);
  if (bitmap == NULL) abort();
  memset(bitmap, 0xff, words * sizeof *bitmap);
  /* As what it is compared with. */
  if (mlock(bitmap, words * sizeof *bitmap) != 0) abort();
  return bitmap;
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

int64_t log_report(int device, uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap, uint64_t *pages) {
  struct vf_request_dma_logging_report request = {
      .header = {.argsz = sizeof request,
                 .flags = VF_VFIO_DEVICE_FEATURE_GET | VF_VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT},
      .body = {.iova = iova, .length = length, .page_size = page_size, .bitmap = (uintptr_t)bitmap}};
  uint64_t words = (length / page_size + 63) / 64;
  memset(bitmap, 0, words * sizeof *bitmap);
  int64_t begin = now();
  if (ioctl(device, VF_VFIO_DEVICE_FEATURE, &request) < 0) return -errno;
  int64_t took = now() - begin;
  *pages = 0;
  for (uint64_t i = 0; i < words; i++) *pages += (uint64_t)__builtin_popcountll(bitmap[i]);
  return took;
}
