// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "mock_iommu.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio_ferry/iommufd.h"

/* From the kernel's drivers/iommu/iommufd/iommufd_test.h, which is no uAPI: as much as is used here. */
struct test_command {
	uint32_t size, op, id, reserved;
	union {
		struct {
			uint32_t out_stdev_id, out_hwpt_id, out_idev_id, dev_flags;
		} device;
		struct {
			uint32_t pt_id;
		} replace;
		struct {
			uint32_t flags, pad;
			uint64_t iova, length, page_size, uptr, out_nr_dirty;
		} dirty;
	};
	uint32_t last;
};
_Static_assert(sizeof(struct test_command) == 72, "struct iommu_test_cmd");
enum { op_replace = 10, op_device = 12, op_dirty = 13, flag_no_dirty = 1 };
enum { test_request = _IO(';', 0x80 + 32) };

static int test(int iommufd, struct test_command *command)
{
	command->size = sizeof *command;
	return ioctl(iommufd, test_request, command) < 0 ? -1 : 0;
}

int mock_device_make(int iommufd, uint32_t ioas, int can_track, struct mock_device *device)
{
	struct test_command command = {.op = op_device, .id = ioas, .device.dev_flags = can_track ? 0 : flag_no_dirty};

	if (test(iommufd, &command))
		return -1;
	device->standard_device = command.device.out_stdev_id;
	device->page_table = command.device.out_hwpt_id;
	device->device = command.device.out_idev_id;
	return 0;
}

int mock_device_attach(int iommufd, uint32_t standard_device, uint32_t page_table)
{
	struct test_command command = {.op = op_replace, .id = standard_device, .replace.pt_id = page_table};

	return test(iommufd, &command);
}

int mock_set_dirty(int iommufd, uint32_t page_table, uint64_t iova, uint64_t length, const uint64_t *bits)
{
	struct test_command command = {.op = op_dirty, .id = page_table,
				       .dirty = {.iova = iova, .length = length, .page_size = MOCK_PAGE,
						 .uptr = (uintptr_t)bits}};

	return test(iommufd, &command);
}

/* As much as is asked for, of which at most 2 MiB are real: the same again and again. */
static void *repeated(uint64_t length)
{
	uint64_t piece = length < 2 << 20 ? length : 2 << 20;
	int file = memfd_create("mock", MFD_CLOEXEC);
	char *memory = MAP_FAILED;

	if (file < 0)
		return MAP_FAILED;
	if (ftruncate(file, (off_t)piece) == 0)
		memory = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (uint64_t at = 0; memory != MAP_FAILED && at < length; at += piece) {
		uint64_t part = length - at < piece ? length - at : piece;

		if (mmap(memory + at, part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
			munmap(memory, length);
			memory = MAP_FAILED;
		}
	}
	close(file);
	return memory;
}

int mock_map(int iommufd, uint32_t ioas, uint64_t iova, uint64_t length)
{
	void *memory = repeated(length);
	struct vf_iommu_ioas_map map = {
		.size = sizeof map,
		.flags = VF_IOMMU_IOAS_MAP_FIXED_IOVA | VF_IOMMU_IOAS_MAP_WRITEABLE | VF_IOMMU_IOAS_MAP_READABLE,
		.ioas_id = ioas, .user_va = (uintptr_t)memory, .length = length, .iova = iova};
	int result;

	if (memory == MAP_FAILED)
		return -1;
	result = ioctl(iommufd, VF_IOMMU_IOAS_MAP, &map) < 0 ? -1 : 0;
	munmap(memory, length); /* what is mapped stays pinned */
	return result;
}

int mock_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t length)
{
	struct vf_iommu_ioas_unmap unmap = {.size = sizeof unmap, .ioas_id = ioas, .iova = iova, .length = length};

	return ioctl(iommufd, VF_IOMMU_IOAS_UNMAP, &unmap) < 0 ? -1 : 0;
}

int mock_read(int iommufd, uint32_t page_table, uint64_t iova, uint64_t length, uint64_t *bits)
{
	struct vf_iommu_hwpt_get_dirty_bitmap request = {.size = sizeof request, .hwpt_id = page_table, .iova = iova,
							 .length = length, .page_size = 4096,
							 .data = (uintptr_t)bits};

	return ioctl(iommufd, VF_IOMMU_HWPT_GET_DIRTY_BITMAP, &request) < 0 ? -1 : 0;
}

int mock_read_lost(int iommufd, uint32_t page_table, uint64_t iova, uint64_t length)
{
	uint64_t bytes = (length / 4096 / 8 + 4095) / 4096 * 4096 + 4096;
	void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int result;

	if (memory == MAP_FAILED)
		return -1;
	result = mock_read(iommufd, page_table, iova, length, memory);
	munmap(memory, bytes);
	return result;
}

int mock_set_tracking(int iommufd, uint32_t page_table, int is_on)
{
	struct vf_iommu_hwpt_set_dirty_tracking request = {
		.size = sizeof request, .flags = is_on ? VF_IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0, .hwpt_id = page_table};

	return ioctl(iommufd, VF_IOMMU_HWPT_SET_DIRTY_TRACKING, &request) < 0 ? -1 : 0;
}
