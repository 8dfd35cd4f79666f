/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libudev behind a few calls. In C because it is loaded when it is first needed: only `monitor` needs it, and what is
 * linked every vfio-ferry would load, also the one that udevd starts for each device.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <libudev.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cudev.h"

enum { SUBSYSTEMS_MAX = 16 };

struct vf_udev {
	void *library;
	struct udev *context;
	struct udev_monitor *monitor;
	/* Words of one text. */
	char *words;
	const char *subsystems[SUBSYSTEMS_MAX];
	size_t count;
	__typeof__(udev_new) *new;
	__typeof__(udev_unref) *unref;
	__typeof__(udev_monitor_new_from_netlink) *monitor_new;
	__typeof__(udev_monitor_unref) *monitor_unref;
	__typeof__(udev_monitor_filter_add_match_subsystem_devtype) *monitor_match;
	__typeof__(udev_monitor_set_receive_buffer_size) *monitor_set_room;
	__typeof__(udev_monitor_enable_receiving) *monitor_enable;
	__typeof__(udev_monitor_get_fd) *monitor_fd;
	__typeof__(udev_monitor_receive_device) *monitor_receive;
	__typeof__(udev_enumerate_new) *enumerate_new;
	__typeof__(udev_enumerate_unref) *enumerate_unref;
	__typeof__(udev_enumerate_add_match_subsystem) *enumerate_match;
	__typeof__(udev_enumerate_add_match_is_initialized) *enumerate_initialized;
	__typeof__(udev_enumerate_scan_devices) *enumerate_scan;
	__typeof__(udev_enumerate_get_list_entry) *enumerate_first;
	__typeof__(udev_list_entry_get_next) *entry_next;
	__typeof__(udev_list_entry_get_name) *entry_name;
	__typeof__(udev_list_entry_get_value) *entry_value;
	__typeof__(udev_device_new_from_syspath) *device_new;
	__typeof__(udev_device_unref) *device_unref;
	__typeof__(udev_device_get_action) *device_action;
	__typeof__(udev_device_get_syspath) *device_path;
	__typeof__(udev_device_get_subsystem) *device_subsystem;
	__typeof__(udev_device_get_seqnum) *device_sequence;
	__typeof__(udev_device_get_properties_list_entry) *device_properties;
};

struct vf_udev_device {
	struct vf_udev *udev;
	struct udev_device *device;
};

struct vf_udev_list {
	struct vf_udev *udev;
	struct udev_enumerate *enumerate;
	struct udev_list_entry *next;
};

static bool find_symbols(struct vf_udev *udev)
{
	const struct {
		const char *name;
		void *place;
	} symbols[] = {
		{"udev_new", &udev->new},
		{"udev_unref", &udev->unref},
		{"udev_monitor_new_from_netlink", &udev->monitor_new},
		{"udev_monitor_unref", &udev->monitor_unref},
		{"udev_monitor_filter_add_match_subsystem_devtype", &udev->monitor_match},
		{"udev_monitor_set_receive_buffer_size", &udev->monitor_set_room},
		{"udev_monitor_enable_receiving", &udev->monitor_enable},
		{"udev_monitor_get_fd", &udev->monitor_fd},
		{"udev_monitor_receive_device", &udev->monitor_receive},
		{"udev_enumerate_new", &udev->enumerate_new},
		{"udev_enumerate_unref", &udev->enumerate_unref},
		{"udev_enumerate_add_match_subsystem", &udev->enumerate_match},
		{"udev_enumerate_add_match_is_initialized", &udev->enumerate_initialized},
		{"udev_enumerate_scan_devices", &udev->enumerate_scan},
		{"udev_enumerate_get_list_entry", &udev->enumerate_first},
		{"udev_list_entry_get_next", &udev->entry_next},
		{"udev_list_entry_get_name", &udev->entry_name},
		{"udev_list_entry_get_value", &udev->entry_value},
		{"udev_device_new_from_syspath", &udev->device_new},
		{"udev_device_unref", &udev->device_unref},
		{"udev_device_get_action", &udev->device_action},
		{"udev_device_get_syspath", &udev->device_path},
		{"udev_device_get_subsystem", &udev->device_subsystem},
		{"udev_device_get_seqnum", &udev->device_sequence},
		{"udev_device_get_properties_list_entry", &udev->device_properties},
	};
	for (size_t n = 0; n < sizeof(symbols) / sizeof(symbols[0]); n++) {
		void *symbol = dlsym(udev->library, symbols[n].name);
		if (!symbol)
			return false;
		memcpy(symbols[n].place, &symbol, sizeof(symbol));
	}
	return true;
}

/* libudev's own calls return a negative error number, and those that make something NULL and errno. */
static bool succeeded(int result)
{
	if (result < 0)
		errno = -result;
	return result >= 0;
}

static bool listen_to(struct vf_udev *udev, const char *subsystems, int room)
{
	char *rest;

	udev->context = udev->new();
	udev->monitor = udev->context ? udev->monitor_new(udev->context, "udev") : NULL;
	udev->words = strdup(subsystems);
	if (!udev->monitor || !udev->words)
		return false;
	for (char *word = strtok_r(udev->words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		if (udev->count == SUBSYSTEMS_MAX) {
			errno = E2BIG;
			return false;
		}
		udev->subsystems[udev->count++] = word;
		if (!succeeded(udev->monitor_match(udev->monitor, word, NULL)))
			return false;
	}
	/* Who may not have so much gets what he may have. */
	(void)udev->monitor_set_room(udev->monitor, room);
	return succeeded(udev->monitor_enable(udev->monitor));
}

enum vf_udev_result vf_udev_open(const char *subsystems, int room, struct vf_udev **out)
{
	enum vf_udev_result result = VF_UDEV_FAILED;
	struct vf_udev *udev = calloc(1, sizeof(*udev));

	if (!udev)
		return result;
	udev->library = dlopen("libudev.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!udev->library || !find_symbols(udev))
		result = VF_UDEV_NO_LIBRARY;
	else if (listen_to(udev, subsystems, room)) {
		*out = udev;
		return VF_UDEV_LISTENING;
	}
	int error = errno;
	vf_udev_close(udev);
	errno = error;
	return result;
}

void vf_udev_close(struct vf_udev *udev)
{
	free(udev->words);
	if (udev->monitor)
		udev->monitor_unref(udev->monitor);
	if (udev->context)
		udev->unref(udev->context);
	if (udev->library)
		dlclose(udev->library);
	free(udev);
}

int vf_udev_descriptor(const struct vf_udev *udev)
{
	return udev->monitor_fd(udev->monitor);
}

/* Takes the device, also where there is no memory for more. */
static struct vf_udev_device *wrapped(struct vf_udev *udev, struct udev_device *device)
{
	struct vf_udev_device *wrap = malloc(sizeof(*wrap));

	if (!wrap) {
		udev->device_unref(device);
		return NULL;
	}
	*wrap = (struct vf_udev_device){udev, device};
	return wrap;
}

void vf_udev_release(struct vf_udev_device *device)
{
	device->udev->device_unref(device->device);
	free(device);
}

struct vf_udev_device *vf_udev_receive(struct vf_udev *udev)
{
	/* Not every way to none sets it. */
	errno = EAGAIN;
	struct udev_device *device = udev->monitor_receive(udev->monitor);

	return device ? wrapped(udev, device) : NULL;
}

static bool scan(struct vf_udev_list *list)
{
	struct vf_udev *udev = list->udev;

	for (size_t n = 0; n < udev->count; n++)
		if (!succeeded(udev->enumerate_match(list->enumerate, udev->subsystems[n])))
			return false;
	if (!succeeded(udev->enumerate_initialized(list->enumerate)))
		return false;
	if (!succeeded(udev->enumerate_scan(list->enumerate)))
		return false;
	list->next = udev->enumerate_first(list->enumerate);
	return true;
}

struct vf_udev_list *vf_udev_find(struct vf_udev *udev)
{
	struct vf_udev_list *list = calloc(1, sizeof(*list));

	if (!list)
		return NULL;
	list->udev = udev;
	list->enumerate = udev->enumerate_new(udev->context);
	if (list->enumerate && scan(list))
		return list;
	int error = errno;
	vf_udev_release_list(list);
	errno = error;
	return NULL;
}

void vf_udev_release_list(struct vf_udev_list *list)
{
	if (list->enumerate)
		list->udev->enumerate_unref(list->enumerate);
	free(list);
}

struct vf_udev_device *vf_udev_next(struct vf_udev_list *list)
{
	struct vf_udev *udev = list->udev;

	while (list->next) {
		const char *path = udev->entry_name(list->next);
		struct udev_device *device = path ? udev->device_new(udev->context, path) : NULL;

		list->next = udev->entry_next(list->next);
		if (device)
			return wrapped(udev, device);
	}
	return NULL;
}

struct vf_udev_device *vf_udev_at(struct vf_udev *udev, const char *path)
{
	struct udev_device *device = udev->device_new(udev->context, path);

	return device ? wrapped(udev, device) : NULL;
}

const char *vf_udev_action(struct vf_udev_device *device)
{
	return device->udev->device_action(device->device);
}

const char *vf_udev_path(struct vf_udev_device *device)
{
	return device->udev->device_path(device->device);
}

const char *vf_udev_subsystem(struct vf_udev_device *device)
{
	return device->udev->device_subsystem(device->device);
}

unsigned long long vf_udev_sequence(struct vf_udev_device *device)
{
	return device->udev->device_sequence(device->device);
}

void vf_udev_properties(struct vf_udev_device *device, void (*take)(void *context, const char *name, const char *value),
			void *context)
{
	struct vf_udev *udev = device->udev;

	for (struct udev_list_entry *entry = udev->device_properties(device->device); entry; entry = udev->entry_next(entry)) {
		const char *name = udev->entry_name(entry), *value = udev->entry_value(entry);

		if (name && value)
			take(context, name, value);
	}
}
