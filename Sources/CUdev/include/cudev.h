/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vfio-ferry asks libudev: which devices there are, and what becomes of them. See udev.c for why this is in C.
 */
#ifndef VFIO_FERRY_CUDEV_H
#define VFIO_FERRY_CUDEV_H

#include <stddef.h>

/* libudev, loaded, and its events of some subsystems. To be used by one thread at a time. */
struct vf_udev;

/* How beginning to listen ended. */
enum vf_udev_result {
	VF_UDEV_LISTENING = 1,
	VF_UDEV_NO_LIBRARY = 2,	/* this machine has no libudev, or it does not have what is needed */
	VF_UDEV_FAILED = 3,	/* errno says why */
};

/*
 * Loads libudev and listens to what udevd says once it has dealt with an event of one of these subsystems, which are at
 * most 16 words with spaces between. room is for events that wait, in bytes; who may not have so much gets less. *udev is
 * the caller's, who closes it.
 */
enum vf_udev_result vf_udev_open(const char *subsystems, int room, struct vf_udev **udev);
void vf_udev_close(struct vf_udev *udev);

/* The socket that can be read when there is an event; it stays this one's. It does not block. */
int vf_udev_descriptor(const struct vf_udev *udev);

/* A device as it was when it was received or found. The caller releases it. */
struct vf_udev_device;
void vf_udev_release(struct vf_udev_device *device);

/*
 * The next event; NULL and errno: EAGAIN where there is none, ENOBUFS where some are lost because there was no room for
 * them, and others for one that can't be read.
 */
struct vf_udev_device *vf_udev_receive(struct vf_udev *udev);

/* What libudev found in sysfs. The caller releases it, before it closes libudev. */
struct vf_udev_list;

/* All devices of the subsystems that udevd has dealt with. NULL and errno. */
struct vf_udev_list *vf_udev_find(struct vf_udev *udev);
void vf_udev_release_list(struct vf_udev_list *list);
/* The next of them; NULL at the end. One that has gone meanwhile is left out. */
struct vf_udev_device *vf_udev_next(struct vf_udev_list *list);

/* The device in this folder of sysfs as udevd knows it now; NULL where there is none. */
struct vf_udev_device *vf_udev_at(struct vf_udev *udev, const char *path);

/* What is known of a device, which lives as long as it; NULL where it has none. */
const char *vf_udev_action(struct vf_udev_device *device);
const char *vf_udev_path(struct vf_udev_device *device);
const char *vf_udev_subsystem(struct vf_udev_device *device);
unsigned long long vf_udev_sequence(struct vf_udev_device *device);
/* Calls back with each of a device's properties. */
void vf_udev_properties(struct vf_udev_device *device, void (*take)(void *context, const char *name, const char *value),
			void *context);

#endif
