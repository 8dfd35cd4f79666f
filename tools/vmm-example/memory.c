/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory, where devices find it, and who else writes to it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vfio_ferry/iommufd.h"
#include "vmm.h"

bool space_make(struct address_space *space) {
  space->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
  if (space->iommufd < 0) return fail_errno("/dev/iommu");
  struct vf_iommu_ioas_alloc request = {.size = sizeof request};
  if (ioctl(space->iommufd, VF_IOMMU_IOAS_ALLOC, &request) < 0) return fail_errno("IOAS_ALLOC");
  space->ioas = request.out_ioas_id;
  return true;
}

bool memory_make(struct memory *memory) {
  if (memory->bytes == 0) return true;
  memory->file = memfd_create("guest memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory->file < 0) return fail_errno("memfd_create");
  /* Sealed, so that it can't shrink under a helper that has it mapped. */
  if (ftruncate(memory->file, (off_t)memory->bytes) < 0 ||
      fcntl(memory->file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
    return fail_errno("guest memory of %llu bytes", (unsigned long long)memory->bytes);
  }
  memory->at = mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->file, 0);
  if (memory->at == MAP_FAILED) return fail_errno("mapping guest memory");
  return true;
}

bool memory_map(const struct memory *memory, const struct address_space *space) {
  if (memory->bytes == 0) return true;
  struct vf_iommu_ioas_map map = {
      .size = sizeof map,
      .flags = VF_IOMMU_IOAS_MAP_FIXED_IOVA | VF_IOMMU_IOAS_MAP_WRITEABLE | VF_IOMMU_IOAS_MAP_READABLE,
      .ioas_id = space->ioas, .user_va = (uintptr_t)memory->at, .length = memory->bytes, .iova = memory->iova};
  return ioctl(space->iommufd, VF_IOMMU_IOAS_MAP, &map) == 0 ||
         fail_errno("IOAS_MAP of %llu bytes at 0x%llx", (unsigned long long)memory->bytes,
                    (unsigned long long)memory->iova);
}

uint64_t memory_checksum(const struct memory *memory) {
  const uint64_t *words = (const uint64_t *)(const void *)memory->at;
  uint64_t sum = 1;
  for (uint64_t i = 0; i < memory->bytes / sizeof *words; i++) sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15 + i;
  return sum == 0 ? 1 : sum; /* 0 says that there is none */
}

/* ---- The guest ---- */

static struct {
  pthread_t thread;
  const struct memory *memory;
  atomic_bool runs;
  bool is_started;
  _Atomic uint64_t writes_per_second;
  _Atomic uint64_t *log; /* a bit for each page, as a hypervisor's dirty log */
  uint64_t random, written;
} vcpu = {.random = 1};

static uint64_t next_random(void) {
  vcpu.random ^= vcpu.random << 13;
  vcpu.random ^= vcpu.random >> 7;
  vcpu.random ^= vcpu.random << 17;
  return vcpu.random;
}

static void *vcpu_run(void *nothing) {
  enum { ticks = 100 };
  const struct timespec tick = {.tv_nsec = 1000000000 / ticks};
  uint64_t pages = vcpu.memory->bytes / page_bytes, owed = 0;
  while (atomic_load(&vcpu.runs)) {
    for (owed += atomic_load(&vcpu.writes_per_second); owed >= ticks; owed -= ticks) {
      uint64_t page = next_random() % pages;
      uint64_t *word = (uint64_t *)(void *)(vcpu.memory->at + page * page_bytes) + next_random() % (page_bytes / 8);
      *word = ++vcpu.written;
      /* Logged after it was written: whoever takes the log and then copies the page has this word or another log entry. */
      atomic_fetch_or(&vcpu.log[page / 64], UINT64_C(1) << page % 64);
    }
    nanosleep(&tick, NULL);
  }
  return nothing;
}

bool vcpus_start(const struct memory *memory, uint64_t writes_per_second) {
  if (writes_per_second == 0 || memory->bytes == 0) return true;
  vcpu.memory = memory;
  if (vcpu.log == NULL) vcpu.log = calloc(memory->bytes / page_bytes / 64 + 1, sizeof *vcpu.log);
  if (vcpu.log == NULL) return fail_errno("the vCPUs' log");
  atomic_store(&vcpu.writes_per_second, writes_per_second);
  atomic_store(&vcpu.runs, true);
  errno = pthread_create(&vcpu.thread, NULL, vcpu_run, NULL);
  vcpu.is_started = errno == 0;
  return vcpu.is_started || fail_errno("pthread_create");
}

void vcpus_stop(void) {
  if (!vcpu.is_started) return;
  atomic_store(&vcpu.runs, false);
  pthread_join(vcpu.thread, NULL);
  vcpu.is_started = false;
}

void vcpus_slow(void) { atomic_store(&vcpu.writes_per_second, atomic_load(&vcpu.writes_per_second) / 2); }

bool vcpus_take_log(uint64_t *bitmap, uint64_t words) {
  bool is_any = false;
  for (uint64_t i = 0; vcpu.log && i < words; i++) {
    if (atomic_load(&vcpu.log[i]) == 0) continue;
    bitmap[i] |= atomic_exchange(&vcpu.log[i], 0);
    is_any = true;
  }
  return is_any;
}
