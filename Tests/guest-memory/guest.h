/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of guest-memory share; main.c says what the program is for. */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { page_bytes = 4096, page_words = page_bytes / 8, maps_max = 16 };

/* A piece of guest memory, and the copy of it that knows only what the tracker has reported. */
struct map {
  uint64_t iova, length; /* bytes */
  uint8_t *memory, *shadow;
};
extern struct map maps[maps_max];
extern int map_count;

/* How the device is attached, which decides who tracks: the device's own log, or the IOMMU. */
enum way { by_ioas, by_hwpt, by_group };
extern enum way way;

/* device.c: each says false, with errno and `failed_call` set, where the kernel refused. */
extern const char *failed_call;
bool device_open(int count, char **arguments);
bool device_map(uint64_t iova, uint64_t length, void *memory);
bool device_unmap(uint64_t iova, uint64_t length);
bool device_set_state(const char *name);
bool device_control(uint32_t bits);
bool device_position(uint64_t *position);
struct vf_vfio_device_feature_dma_logging_range;
bool log_start(const struct vf_vfio_device_feature_dma_logging_range *ranges, uint32_t count, uint64_t *page_size);
bool track_start(uint64_t *page_size);
bool track_stop(void);
bool track_report(uint64_t iova, uint64_t length, uint64_t page_size, uint64_t *bitmap);

/* content.c: what memory must hold, by the formulas of docs/synthetic-devices.md. */
struct generator {
  uint64_t seed, position;
  char pattern; /* s, r or h */
  struct {
    uint64_t iova, length;
  } ranges[maps_max];
  int range_count;
};
/* How many mapped pages are not what they must be, the first one's IOVA, and how many have been written. */
struct verdict {
  uint64_t wrong, first, written;
};
struct verdict content_check(const struct generator *generator);

#endif
