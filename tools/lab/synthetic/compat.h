/* SPDX-License-Identifier: GPL-2.0 */
/* What changed between Linux 6.12 and the newest kernel that this was written for. */
#ifndef VFIO_SYNTHETIC_COMPAT_H
#define VFIO_SYNTHETIC_COMPAT_H

#include <linux/module.h>
#include <linux/version.h>

/* iova_bitmap_set() lives in this namespace; the macro takes a string since 6.13. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define VSYN_IMPORT_NS MODULE_IMPORT_NS("IOMMUFD")
#else
#define VSYN_IMPORT_NS MODULE_IMPORT_NS(IOMMUFD)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define VSYN_HAS_ALLOC_PAGING_FLAGS
#endif

/* Also in 6.17's stable releases, where the hook began to name the IOMMU by itself. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 3)
#define VSYN_HAS_MOCK_DEVICE_ADD
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define VSYN_ATTACH_ARGUMENTS \
	struct iommu_domain *domain, struct device *dev, struct iommu_domain *old
/* The core answers VFIO_DEVICE_GET_REGION_INFO from an operation of its own. */
#define VSYN_HAS_GET_REGION_INFO
#else
#define VSYN_ATTACH_ARGUMENTS struct iommu_domain *domain, struct device *dev
#endif

/*
 * Pre-copy info v2: user space opts in by VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, and
 * flags are looked at only then.
 */
#ifdef VFIO_PRECOPY_INFO_REINIT
#define VSYN_PRECOPY_INFO_REINIT VFIO_PRECOPY_INFO_REINIT
#define vsyn_wants_reinit(vdev) ((vdev)->precopy_info_v2)
#else
#define VSYN_PRECOPY_INFO_REINIT 0
#define vsyn_wants_reinit(vdev) ((void)(vdev), false)
#endif

#endif
