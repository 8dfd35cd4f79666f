// SPDX-License-Identifier: GPL-2.0
/* The module, its bus, and the driver that makes a VFIO device of what is on it. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>

#include "synthetic.h"

static_assert(PAGE_SIZE == VSYN_PAGE_SIZE, "vfio_synthetic knows pages of 4 KiB only");

DECLARE_RWSEM(vsyn_registry);
LIST_HEAD(vsyn_devices);

static struct device *vsyn_root;

static int vsyn_match(struct device *dev, const struct device_driver *driver)
{
	return 1;
}

static void vsyn_enter(struct vsyn_device *vsyn)
{
	down_write(&vsyn_registry);
	list_add_tail(&vsyn->registered, &vsyn_devices);
	vsyn->function->device = vsyn;
	up_write(&vsyn_registry);
}

static void vsyn_leave(struct vsyn_device *vsyn)
{
	down_write(&vsyn_registry);
	vsyn->function->device = NULL;
	list_del(&vsyn->registered);
	up_write(&vsyn_registry);
}

static int vsyn_probe(struct device *dev)
{
	struct vsyn_function *function = to_vsyn_function(dev);
	struct vsyn_settings *settings = &function->config->settings;
	bool own = settings->iommu == VSYN_IOMMU_OWN;
	struct vsyn_device *vsyn;
	int ret;

	vsyn = vfio_alloc_device(vsyn_device, vdev, dev, own ? &vsyn_own_ops : &vsyn_emulated_ops);
	if (IS_ERR(vsyn))
		return PTR_ERR(vsyn);
	/* Kept until the last descriptor of it is gone, which may be a data descriptor. */
	get_device(dev);
	vsyn->function = function;
	vsyn->settings = settings;
	vsyn->name = dev_name(dev);
	if (settings->migration) {
		vsyn->vdev.migration_flags = settings->migration;
		vsyn->vdev.mig_ops = &vsyn_migration_ops;
	}
	if (settings->log)
		vsyn->vdev.log_ops = &vsyn_log_ops;

	ret = vsyn_traffic_init(vsyn);
	if (ret)
		goto put;
	ret = vsyn_content_init(&vsyn->content, settings->state_bytes, settings->state_seed);
	if (ret)
		goto put;
	vsyn_reset(vsyn);
	ret = vsyn_referee_add(vsyn);
	if (ret)
		goto put;
	/* Before somebody can open it and attach it to a page table. */
	vsyn_enter(vsyn);
	ret = own ? vfio_register_group_dev(&vsyn->vdev) :
		    vfio_register_emulated_iommu_dev(&vsyn->vdev);
	if (ret)
		goto leave;
	vsyn_config_set_device(function->config, vsyn);
	return 0;

leave:
	vsyn_leave(vsyn);
	vsyn_referee_remove(vsyn);
put:
	vfio_put_device(&vsyn->vdev);
	return ret;
}

static void vsyn_remove(struct device *dev)
{
	struct vsyn_function *function = to_vsyn_function(dev);
	struct vsyn_device *vsyn = function->device;

	/* Who holds the device may be waiting in an arc that hangs. */
	WRITE_ONCE(vsyn->leaving, true);
	vsyn_release_hangs(vsyn);
	vfio_unregister_group_dev(&vsyn->vdev);

	vsyn_config_set_device(function->config, NULL);
	vsyn_leave(vsyn);
	vsyn_referee_remove(vsyn);
	vfio_put_device(&vsyn->vdev);
}

const struct bus_type vsyn_bus = {
	.name = "vfio-synthetic",
	.match = vsyn_match,
	.probe = vsyn_probe,
	.remove = vsyn_remove,
};

static struct device_driver vsyn_driver = {
	.name = VSYN_NAME,
	.owner = THIS_MODULE,
	.bus = &vsyn_bus,
};

static void vsyn_function_release(struct device *dev)
{
	struct vsyn_function *function = to_vsyn_function(dev);

	config_item_put(&function->config->item);
	kfree(function);
}

/* A device on the bus, with the driver bound to it, or an error. */
struct vsyn_function *vsyn_function_create(struct vsyn_config *config, const char *name)
{
	struct vsyn_function *function = kzalloc(sizeof(*function), GFP_KERNEL);
	int ret;

	if (!function)
		return ERR_PTR(-ENOMEM);
	config_item_get(&config->item);
	function->config = config;
	device_initialize(&function->dev);
	function->dev.bus = &vsyn_bus;
	function->dev.parent = vsyn_root;
	function->dev.release = vsyn_function_release;
	ret = dev_set_name(&function->dev, "%s", name);
	if (!ret)
		ret = config->settings.iommu == VSYN_IOMMU_OWN ? vsyn_iommu_add(function) :
								 device_add(&function->dev);
	if (ret) {
		put_device(&function->dev);
		return ERR_PTR(ret);
	}
	if (!function->device) {
		/* The driver has said why, in the kernel's log. */
		device_unregister(&function->dev);
		return ERR_PTR(-ENXIO);
	}
	return function;
}

void vsyn_function_remove(struct vsyn_function *function)
{
	device_unregister(&function->dev);
}

static int __init vsyn_init(void)
{
	int ret;

	vsyn_root = root_device_register("vfio-synthetic");
	if (IS_ERR(vsyn_root))
		return PTR_ERR(vsyn_root);
	vsyn_referee_init();
	ret = bus_register(&vsyn_bus);
	if (ret)
		goto referee;
	ret = vsyn_iommu_register();
	if (ret)
		goto bus;
	ret = driver_register(&vsyn_driver);
	if (ret)
		goto iommu;
	ret = vsyn_settings_register();
	if (ret)
		goto driver;
	return 0;

driver:
	driver_unregister(&vsyn_driver);
iommu:
	vsyn_iommu_unregister();
bus:
	bus_unregister(&vsyn_bus);
referee:
	vsyn_referee_exit();
	root_device_unregister(vsyn_root);
	return ret;
}

static void __exit vsyn_exit(void)
{
	/* No item is left: each holds the module. */
	vsyn_settings_unregister();
	driver_unregister(&vsyn_driver);
	vsyn_iommu_unregister();
	bus_unregister(&vsyn_bus);
	vsyn_referee_exit();
	root_device_unregister(vsyn_root);
}

module_init(vsyn_init);
module_exit(vsyn_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("VFIO devices made of memory that referee their migrations");
MODULE_AUTHOR("the vfio-ferry authors");
VSYN_IMPORT_NS;
