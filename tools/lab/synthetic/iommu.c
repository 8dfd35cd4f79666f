// SPDX-License-Identifier: GPL-2.0
/*
 * A software IOMMU with dirty bits, for the devices whose setting "iommu" is "own". It is
 * registered on the module's bus through the hook that the kernel's mock IOMMU uses,
 * which the kernel exports only with IOMMUFD_TEST. Devices name it by a firmware node,
 * so it stands beside a real IOMMU of the machine.
 *
 * A page table is an xarray of page numbers; marks on its entries are the dirty bits.
 */
#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/module.h>
#include <linux/msi.h>
#include <linux/property.h>
#include <linux/slab.h>
#include <uapi/linux/iommufd.h>

#include "synthetic.h"

#if IS_ENABLED(CONFIG_IOMMUFD_TEST)

/* From the kernel's private drivers/iommu/iommu-priv.h. */
int iommu_device_register_bus(struct iommu_device *iommu, const struct iommu_ops *ops,
			      const struct bus_type *bus, struct notifier_block *nb);
void iommu_device_unregister_bus(struct iommu_device *iommu, const struct bus_type *bus,
				 struct notifier_block *nb);
#ifdef VSYN_HAS_MOCK_DEVICE_ADD
int iommu_mock_device_add(struct device *dev, struct iommu_device *iommu);
#endif

#define VSYN_DIRTY	XA_MARK_0
/* The referee's: written under tracking, and not reported since. */
#define VSYN_OWED	XA_MARK_1

#define VSYN_ENTRY_WRITE	BIT(0)
#define VSYN_ENTRY_SHIFT	1

struct vsyn_domain {
	struct iommu_domain domain;
	struct xarray pages;
	bool tracking;
	atomic64_t owed;
	atomic64_t lost;	/* owed, and unmapped */
};

#define to_vsyn_domain(d) container_of(d, struct vsyn_domain, domain)

static struct iommu_device vsyn_iommu;
static struct notifier_block vsyn_iommu_notifier;
static struct fwnode_handle *vsyn_msi_fwnode;
static struct irq_domain *vsyn_msi_domain;

/* Page tables. */

static int vsyn_map_pages(struct iommu_domain *domain, unsigned long iova, phys_addr_t phys,
			  size_t page_size, size_t count, int prot, gfp_t gfp, size_t *mapped)
{
	struct vsyn_domain *table = to_vsyn_domain(domain);
	unsigned long end = iova + page_size * count;

	for (; iova < end; iova += VSYN_PAGE_SIZE, phys += VSYN_PAGE_SIZE) {
		unsigned long entry = phys >> VSYN_PAGE_SHIFT << VSYN_ENTRY_SHIFT;
		void *old;

		if (prot & IOMMU_WRITE)
			entry |= VSYN_ENTRY_WRITE;
		old = xa_store(&table->pages, iova >> VSYN_PAGE_SHIFT, xa_mk_value(entry), gfp);
		/* What was mapped so far is said, and undone by the caller. */
		if (xa_is_err(old))
			return xa_err(old);
		WARN_ON(old);
		*mapped += VSYN_PAGE_SIZE;
	}
	return 0;
}

static size_t vsyn_unmap_pages(struct iommu_domain *domain, unsigned long iova, size_t page_size,
			       size_t count, struct iommu_iotlb_gather *gather)
{
	struct vsyn_domain *table = to_vsyn_domain(domain);
	unsigned long first = iova >> VSYN_PAGE_SHIFT;
	unsigned long pages = page_size * count >> VSYN_PAGE_SHIFT;
	XA_STATE(xas, &table->pages, first);
	size_t unmapped = 0;
	void *entry;

	xas_lock(&xas);
	xas_for_each(&xas, entry, first + pages - 1) {
		if (xas_get_mark(&xas, VSYN_OWED)) {
			atomic64_dec(&table->owed);
			atomic64_inc(&table->lost);
		}
		xas_store(&xas, NULL);
		unmapped += VSYN_PAGE_SIZE;
		if (unmapped % SZ_16M)
			continue;
		/* Not xas_pause(): the node may be gone with its last entry. */
		xas_set(&xas, first + (unmapped >> VSYN_PAGE_SHIFT));
		xas_unlock(&xas);
		xas_lock(&xas);
	}
	xas_unlock(&xas);
	return unmapped;
}

static phys_addr_t vsyn_iova_to_phys(struct iommu_domain *domain, dma_addr_t iova)
{
	void *entry = xa_load(&to_vsyn_domain(domain)->pages, iova >> VSYN_PAGE_SHIFT);

	if (!entry)
		return 0;
	return ((phys_addr_t)(xa_to_value(entry) >> VSYN_ENTRY_SHIFT) << VSYN_PAGE_SHIFT) +
	       offset_in_page(iova);
}

static void vsyn_domain_free(struct iommu_domain *domain)
{
	struct vsyn_domain *table = to_vsyn_domain(domain);

	xa_destroy(&table->pages);
	kfree(table);
	module_put(THIS_MODULE);
}

/* The referee starts from zero; what is dirty stays so. */
static void vsyn_forgive(struct vsyn_domain *table)
{
	XA_STATE(xas, &table->pages, 0);
	unsigned int count = 0;
	void *entry;

	xas_lock(&xas);
	xas_for_each_marked(&xas, entry, ULONG_MAX, VSYN_OWED) {
		xas_clear_mark(&xas, VSYN_OWED);
		atomic64_dec(&table->owed);
		if (++count % SZ_4K)
			continue;
		xas_pause(&xas);
		xas_unlock(&xas);
		cond_resched();
		xas_lock(&xas);
	}
	xas_unlock(&xas);
	atomic64_set(&table->lost, 0);
}

static int vsyn_set_dirty_tracking(struct iommu_domain *domain, bool enable)
{
	struct vsyn_domain *table = to_vsyn_domain(domain);

	if (enable && !table->tracking)
		vsyn_forgive(table);
	xa_lock(&table->pages);
	table->tracking = enable;
	xa_unlock(&table->pages);
	return 0;
}

#define VSYN_DIRTY_BATCH 64

/* Recording may sleep, so the marks are gathered and cleared in batches under the lock. */
static int vsyn_read_and_clear_dirty(struct iommu_domain *domain, unsigned long iova, size_t size,
				     unsigned long flags, struct iommu_dirty_bitmap *dirty)
{
	unsigned long last = (iova + size - 1) >> VSYN_PAGE_SHIFT;
	struct vsyn_domain *table = to_vsyn_domain(domain);
	XA_STATE(xas, &table->pages, iova >> VSYN_PAGE_SHIFT);
	unsigned long batch[VSYN_DIRTY_BATCH];
	unsigned int i, count;
	void *entry;

	if (!table->tracking && dirty->bitmap)
		return -EINVAL;
	do {
		count = 0;
		xas_lock(&xas);
		xas_for_each_marked(&xas, entry, last, VSYN_DIRTY) {
			batch[count++] = xas.xa_index;
			if (!(flags & IOMMU_DIRTY_NO_CLEAR))
				xas_clear_mark(&xas, VSYN_DIRTY);
			if (xas_get_mark(&xas, VSYN_OWED)) {
				xas_clear_mark(&xas, VSYN_OWED);
				atomic64_dec(&table->owed);
			}
			if (count == VSYN_DIRTY_BATCH)
				break;
		}
		xas_pause(&xas);
		xas_unlock(&xas);
		for (i = 0; i < count; i++)
			iommu_dirty_bitmap_record(dirty, batch[i] << VSYN_PAGE_SHIFT, VSYN_PAGE_SIZE);
		cond_resched();
	} while (count == VSYN_DIRTY_BATCH);
	return 0;
}

static const struct iommu_dirty_ops vsyn_dirty_ops = {
	.set_dirty_tracking = vsyn_set_dirty_tracking,
	.read_and_clear_dirty = vsyn_read_and_clear_dirty,
};

/* Devices. */

/* A page that the device writes. With "hide" it leaves no dirty bit, and only the referee knows. */
int vsyn_iommu_write(struct vsyn_device *vsyn, u64 iova, const __le64 *words, bool hide)
{
	struct vsyn_domain *table;
	unsigned long entry;
	int ret = -EFAULT;

	mutex_lock(&vsyn->domain_lock);
	table = vsyn->domain;
	if (table) {
		XA_STATE(xas, &table->pages, iova >> VSYN_PAGE_SHIFT);
		void *value;

		/* Held over the copy: the page can't be unmapped, and so not unpinned, meanwhile. */
		xas_lock(&xas);
		value = xas_load(&xas);
		entry = value ? xa_to_value(value) : 0;
		if (entry & VSYN_ENTRY_WRITE) {
			memcpy_to_page(pfn_to_page(entry >> VSYN_ENTRY_SHIFT), 0,
				       (const char *)words, VSYN_PAGE_SIZE);
			if (table->tracking) {
				if (!xas_get_mark(&xas, VSYN_OWED))
					atomic64_inc(&table->owed);
				xas_set_mark(&xas, VSYN_OWED);
				if (!hide)
					xas_set_mark(&xas, VSYN_DIRTY);
			}
			ret = 0;
		}
		xas_unlock(&xas);
	}
	mutex_unlock(&vsyn->domain_lock);
	return ret;
}

/* Fetches what unmappings have lost into the device's counter. */
static void vsyn_collect_lost(struct vsyn_device *vsyn)
{
	lockdep_assert_held(&vsyn->domain_lock);
	if (vsyn->domain)
		atomic64_add(atomic64_xchg(&vsyn->domain->lost, 0),
			     &vsyn->counters[VSYN_UNMAPPED_UNREPORTED]);
}

/* Brings the device's counters up to date; returns how many pages no reading has reported yet. */
u64 vsyn_iommu_collect(struct vsyn_device *vsyn)
{
	u64 owed;

	mutex_lock(&vsyn->domain_lock);
	vsyn_collect_lost(vsyn);
	owed = vsyn->unreported + (vsyn->domain ? atomic64_read(&vsyn->domain->owed) : 0);
	mutex_unlock(&vsyn->domain_lock);
	return owed;
}

void vsyn_iommu_forgive(struct vsyn_device *vsyn)
{
	mutex_lock(&vsyn->domain_lock);
	if (vsyn->domain)
		vsyn_forgive(vsyn->domain);
	vsyn->unreported = 0;
	mutex_unlock(&vsyn->domain_lock);
}

static int vsyn_attach(VSYN_ATTACH_ARGUMENTS)
{
	struct vsyn_function *function = to_vsyn_function(dev);
	struct vsyn_device *vsyn;

	down_read(&vsyn_registry);
	vsyn = function->device;
	if (vsyn) {
		mutex_lock(&vsyn->domain_lock);
		vsyn_collect_lost(vsyn);
		if (vsyn->domain)
			vsyn->unreported += atomic64_read(&vsyn->domain->owed);
		vsyn->domain = domain->type == IOMMU_DOMAIN_BLOCKED ? NULL : to_vsyn_domain(domain);
		mutex_unlock(&vsyn->domain_lock);
	}
	up_read(&vsyn_registry);
	return 0;
}

static const struct iommu_domain_ops vsyn_blocking_ops = {
	.attach_dev = vsyn_attach,
};

static struct iommu_domain vsyn_blocking_domain = {
	.type = IOMMU_DOMAIN_BLOCKED,
	.ops = &vsyn_blocking_ops,
};

static const struct iommu_domain_ops vsyn_paging_ops = {
	.attach_dev = vsyn_attach,
	.map_pages = vsyn_map_pages,
	.unmap_pages = vsyn_unmap_pages,
	.iova_to_phys = vsyn_iova_to_phys,
	.free = vsyn_domain_free,
};

static struct iommu_domain *vsyn_domain_alloc_flags(struct device *dev, u32 flags,
						    const struct iommu_user_data *user_data)
{
	struct vsyn_domain *table;

	if ((flags & ~IOMMU_HWPT_ALLOC_DIRTY_TRACKING) || user_data)
		return ERR_PTR(-EOPNOTSUPP);
	/* A page table of iommufd's may outlive the device that it was made for, and so this module. */
	if (!try_module_get(THIS_MODULE))
		return ERR_PTR(-ENODEV);
	table = kzalloc(sizeof(*table), GFP_KERNEL_ACCOUNT);
	if (!table) {
		module_put(THIS_MODULE);
		return ERR_PTR(-ENOMEM);
	}
	xa_init(&table->pages);
	table->domain.type = IOMMU_DOMAIN_UNMANAGED;
	table->domain.ops = &vsyn_paging_ops;
	table->domain.pgsize_bitmap = VSYN_PAGE_SIZE;
	table->domain.geometry.aperture_end = BIT_ULL(48) - 1;
	table->domain.geometry.force_aperture = true;
	if (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
		table->domain.dirty_ops = &vsyn_dirty_ops;
	return &table->domain;
}

static struct iommu_domain *vsyn_domain_alloc_paging(struct device *dev)
{
	struct iommu_domain *domain = vsyn_domain_alloc_flags(dev, 0, NULL);

	return IS_ERR(domain) ? NULL : domain;
}

#ifndef VSYN_HAS_ALLOC_PAGING_FLAGS
static struct iommu_domain *vsyn_domain_alloc_user(struct device *dev, u32 flags,
						   struct iommu_domain *parent,
						   const struct iommu_user_data *user_data)
{
	return parent ? ERR_PTR(-EOPNOTSUPP) : vsyn_domain_alloc_flags(dev, flags, user_data);
}
#endif

static bool vsyn_iommu_capable(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY || cap == IOMMU_CAP_DIRTY_TRACKING;
}

static struct iommu_device *vsyn_iommu_probe(struct device *dev)
{
	return dev->bus == &vsyn_bus ? &vsyn_iommu : ERR_PTR(-ENODEV);
}

static const struct iommu_ops vsyn_iommu_ops = {
	.owner = THIS_MODULE,
	.capable = vsyn_iommu_capable,
	.probe_device = vsyn_iommu_probe,
	.device_group = generic_device_group,
	.default_domain = &vsyn_blocking_domain,
	.blocked_domain = &vsyn_blocking_domain,
	.domain_alloc_paging = vsyn_domain_alloc_paging,
#ifdef VSYN_HAS_ALLOC_PAGING_FLAGS
	.domain_alloc_paging_flags = vsyn_domain_alloc_flags,
#else
	.domain_alloc_user = vsyn_domain_alloc_user,
#endif
	.default_domain_ops = &vsyn_paging_ops,
};

#ifdef VSYN_HAS_MOCK_DEVICE_ADD

static int vsyn_add_behind_iommu(struct device *dev)
{
	return iommu_mock_device_add(dev, &vsyn_iommu);
}

static int vsyn_iommu_name(void)
{
	return 0;
}

static void vsyn_iommu_unname(void)
{
}

#else

static struct fwnode_handle *vsyn_fwnode;

/*
 * What iommu_fwspec_init() does. That wants a lock held which modules can't reach; for a
 * device that nobody else can see yet, none is needed.
 */
static int vsyn_add_behind_iommu(struct device *dev)
{
	struct dev_iommu *param = kzalloc(sizeof(*param), GFP_KERNEL);
	struct iommu_fwspec *fwspec = kzalloc(struct_size(fwspec, ids, 1), GFP_KERNEL);
	int ret = -ENOMEM;

	if (!param || !fwspec)
		goto free;
	mutex_init(&param->lock);
	fwspec->iommu_fwnode = fwnode_handle_get(vsyn_fwnode);
	param->fwspec = fwspec;
	dev->iommu = param;
	ret = device_add(dev);
	if (!ret)
		return 0;
	if (!dev->iommu)
		return ret;	/* probed and released: the core has freed both */
	dev->iommu = NULL;
	fwnode_handle_put(vsyn_fwnode);
free:
	kfree(fwspec);
	kfree(param);
	return ret;
}

static int vsyn_iommu_name(void)
{
	vsyn_fwnode = fwnode_create_software_node(NULL, NULL);
	if (IS_ERR(vsyn_fwnode))
		return PTR_ERR(vsyn_fwnode);
	vsyn_iommu.fwnode = vsyn_fwnode;
	return 0;
}

static void vsyn_iommu_unname(void)
{
	fwnode_remove_software_node(vsyn_fwnode);
}

#endif

/* Adds a device to the bus, with this as its IOMMU and a domain for interrupts that can't leave it. */
int vsyn_iommu_add(struct vsyn_function *function)
{
	dev_set_msi_domain(&function->dev, vsyn_msi_domain);
	return vsyn_add_behind_iommu(&function->dev);
}

static const struct irq_domain_ops vsyn_msi_domain_ops = {};

int vsyn_iommu_register(void)
{
	int ret = -ENOMEM;

	/* iommufd wants interrupts isolated. These go to an eventfd and nowhere else, so they are. */
	vsyn_msi_fwnode = irq_domain_alloc_named_fwnode(VSYN_NAME);
	if (!vsyn_msi_fwnode)
		return -ENOMEM;
	vsyn_msi_domain = irq_domain_create_linear(vsyn_msi_fwnode, 1, &vsyn_msi_domain_ops, NULL);
	if (!vsyn_msi_domain)
		goto msi_fwnode;
	vsyn_msi_domain->flags |= IRQ_DOMAIN_FLAG_ISOLATED_MSI;

	ret = vsyn_iommu_name();
	if (ret)
		goto msi_domain;
	ret = iommu_device_sysfs_add(&vsyn_iommu, NULL, NULL, VSYN_NAME);
	if (ret)
		goto name;
	ret = iommu_device_register_bus(&vsyn_iommu, &vsyn_iommu_ops, &vsyn_bus, &vsyn_iommu_notifier);
	if (ret)
		goto sysfs;
	return 0;

sysfs:
	iommu_device_sysfs_remove(&vsyn_iommu);
name:
	vsyn_iommu_unname();
msi_domain:
	irq_domain_remove(vsyn_msi_domain);
msi_fwnode:
	irq_domain_free_fwnode(vsyn_msi_fwnode);
	return ret;
}

void vsyn_iommu_unregister(void)
{
	iommu_device_unregister_bus(&vsyn_iommu, &vsyn_bus, &vsyn_iommu_notifier);
	iommu_device_sysfs_remove(&vsyn_iommu);
	vsyn_iommu_unname();
	irq_domain_remove(vsyn_msi_domain);
	irq_domain_free_fwnode(vsyn_msi_fwnode);
}

#else

int vsyn_iommu_add(struct vsyn_function *function)
{
	return -EOPNOTSUPP;
}

int vsyn_iommu_write(struct vsyn_device *vsyn, u64 iova, const __le64 *words, bool hide)
{
	return -EOPNOTSUPP;
}

u64 vsyn_iommu_collect(struct vsyn_device *vsyn)
{
	return 0;
}

void vsyn_iommu_forgive(struct vsyn_device *vsyn)
{
}

int vsyn_iommu_register(void)
{
	return 0;
}

void vsyn_iommu_unregister(void)
{
}

#endif
