// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/config/vfio_synthetic: a folder for each device, a file for each setting.
 * Here are the items' life and what acts on a live device; scalars.c and lists.c hold
 * the settings.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "settings.h"

static bool vsyn_is_live(struct config_item *item)
{
	return READ_ONCE(to_vsyn_config(item)->function);
}

/* While the device is bound, with a reference; or NULL. */
static struct vsyn_device *vsyn_get_device(struct config_item *item)
{
	struct vsyn_config *config = to_vsyn_config(item);
	struct vsyn_device *vsyn;

	spin_lock(&config->device_lock);
	vsyn = config->device;
	if (vsyn)
		get_device(&vsyn->vdev.device);
	spin_unlock(&config->device_lock);
	return vsyn;
}

static void vsyn_release_device(struct vsyn_device *vsyn)
{
	put_device(&vsyn->vdev.device);
}

void vsyn_config_set_device(struct vsyn_config *config, struct vsyn_device *vsyn)
{
	spin_lock(&config->device_lock);
	config->device = vsyn;
	spin_unlock(&config->device_lock);
}

/* Actions on the live device. */

#define VSYN_ACTION(_name, _body)							\
static ssize_t vsyn_##_name##_store(struct config_item *item, const char *page, size_t count) \
{											\
	struct vsyn_device *vsyn = vsyn_get_device(item);				\
											\
	if (!vsyn)									\
		return -ENODEV;								\
	_body;										\
	vsyn_release_device(vsyn);								\
	return count;									\
}											\
CONFIGFS_ATTR_WO(vsyn_, _name)

VSYN_ACTION(release, vsyn_release_hangs(vsyn));
VSYN_ACTION(reset, vsyn_reset(vsyn));
VSYN_ACTION(reinit, vsyn_reinit(vsyn));

static ssize_t vsyn_activity_show(struct config_item *item, char *page)
{
	struct vsyn_device *vsyn = vsyn_get_device(item);
	u32 control = vsyn ? READ_ONCE(vsyn->control) : 0;

	if (vsyn)
		vsyn_release_device(vsyn);
	return vsyn_show_words(page, vsyn_activity_names, control);
}

static ssize_t vsyn_activity_store(struct config_item *item, const char *page, size_t count)
{
	struct vsyn_device *vsyn;
	char *copy = kstrndup(page, count, GFP_KERNEL);
	ssize_t ret;
	u64 control;

	if (!copy)
		return -ENOMEM;
	ret = vsyn_parse_words(vsyn_activity_names, copy, &control);
	kfree(copy);
	if (ret)
		return ret;
	vsyn = vsyn_get_device(item);
	if (!vsyn)
		return -ENODEV;
	spin_lock(&vsyn->rx_lock);
	if (vsyn->open)
		WRITE_ONCE(vsyn->control, control);
	else
		ret = -ENODEV;
	spin_unlock(&vsyn->rx_lock);
	vsyn_traffic_kick(vsyn);
	vsyn_release_device(vsyn);
	return ret ?: count;
}
CONFIGFS_ATTR(vsyn_, activity);

static ssize_t vsyn_log_set_store(struct config_item *item, const char *page, size_t count)
{
	u64 iova, length, stride = 0, runs = 1;
	struct vsyn_device *vsyn;
	char *copy = kstrndup(page, count, GFP_KERNEL), *line = copy;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	if (!vsyn_take_u64(&line, &iova) || !vsyn_take_u64(&line, &length) ||
	    (!vsyn_nothing_left(line) &&
	     (!vsyn_take_u64(&line, &stride) || !vsyn_take_u64(&line, &runs) ||
	      !vsyn_nothing_left(line))))
		ret = -EINVAL;
	kfree(copy);
	if (ret)
		return ret;
	vsyn = vsyn_get_device(item);
	if (!vsyn)
		return -ENODEV;
	ret = vsyn_log_set(vsyn, iova, length, stride, runs);
	vsyn_release_device(vsyn);
	return ret ?: count;
}
CONFIGFS_ATTR_WO(vsyn_, log_set);

/* Life. */

static int vsyn_set_live(struct vsyn_config *config, bool live)
{
	struct vsyn_function *function;
	int ret = 0;

	mutex_lock(&config->live_mutex);
	if (live && !config->function) {
		function = vsyn_function_create(config, config_item_name(&config->item));
		if (IS_ERR(function))
			ret = PTR_ERR(function);
		else
			WRITE_ONCE(config->function, function);
	} else if (!live && config->function) {
		vsyn_function_remove(config->function);
		WRITE_ONCE(config->function, NULL);
	}
	mutex_unlock(&config->live_mutex);
	return ret;
}

static ssize_t vsyn_live_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%d\n", vsyn_is_live(item));
}

static ssize_t vsyn_live_store(struct config_item *item, const char *page, size_t count)
{
	bool live;
	int ret = kstrtobool(page, &live);

	if (!ret)
		ret = vsyn_set_live(to_vsyn_config(item), live);
	return ret ?: count;
}
CONFIGFS_ATTR(vsyn_, live);

static struct configfs_attribute *const vsyn_own_attributes[] = {
	&vsyn_attr_live, &vsyn_attr_activity, &vsyn_attr_release, &vsyn_attr_reset,
	&vsyn_attr_reinit, &vsyn_attr_log_set, NULL
};

static struct configfs_attribute *vsyn_attributes[64];

static void vsyn_add_attributes(struct configfs_attribute *const *attributes)
{
	unsigned int count = 0;

	while (vsyn_attributes[count])
		count++;
	while (*attributes && !WARN_ON(count == ARRAY_SIZE(vsyn_attributes) - 1))
		vsyn_attributes[count++] = *attributes++;
}

static void vsyn_config_release(struct config_item *item)
{
	kfree(to_vsyn_config(item));
}

static struct configfs_item_operations vsyn_item_ops = {
	.release = vsyn_config_release,
};

static const struct config_item_type vsyn_item_type = {
	.ct_item_ops = &vsyn_item_ops,
	.ct_attrs = vsyn_attributes,
	.ct_owner = THIS_MODULE,
};

static struct config_item *vsyn_make_item(struct config_group *group, const char *name)
{
	/* In the folders of debugfs and sysfs that the devices' are made in. */
	static const char *const taken[] = { "referee", "referee.json", "power", "uevent" };
	struct vsyn_config *config;

	/* The name goes into JSON, a folder of debugfs and lines of "peers". */
	if (strpbrk(name, " \t\n\"\\/:") || match_string(taken, ARRAY_SIZE(taken), name) >= 0)
		return ERR_PTR(-EINVAL);
	if (strlen(name) >= CONFIGFS_ITEM_NAME_LEN)
		return ERR_PTR(-ENAMETOOLONG);
	config = kzalloc(sizeof(*config), GFP_KERNEL);
	if (!config)
		return ERR_PTR(-ENOMEM);
	mutex_init(&config->live_mutex);
	spin_lock_init(&config->device_lock);
	vsyn_scalars_default(&config->settings);
	mutex_init(&config->settings.lock);
	config_item_init_type_name(&config->item, name, &vsyn_item_type);
	return &config->item;
}

static void vsyn_drop_item(struct config_group *group, struct config_item *item)
{
	vsyn_set_live(to_vsyn_config(item), false);
	config_item_put(item);
}

static struct configfs_group_operations vsyn_group_ops = {
	.make_item = vsyn_make_item,
	.drop_item = vsyn_drop_item,
};

static const struct config_item_type vsyn_group_type = {
	.ct_group_ops = &vsyn_group_ops,
	.ct_owner = THIS_MODULE,
};

static struct configfs_subsystem vsyn_subsystem = {
	.su_group.cg_item = {
		.ci_namebuf = VSYN_NAME,
		.ci_type = &vsyn_group_type,
	},
};

int vsyn_settings_register(void)
{
	vsyn_add_attributes(vsyn_own_attributes);
	vsyn_add_attributes(vsyn_scalar_attributes);
	vsyn_add_attributes(vsyn_list_attributes);
	config_group_init(&vsyn_subsystem.su_group);
	mutex_init(&vsyn_subsystem.su_mutex);
	return configfs_register_subsystem(&vsyn_subsystem);
}

void vsyn_settings_unregister(void)
{
	configfs_unregister_subsystem(&vsyn_subsystem);
}
