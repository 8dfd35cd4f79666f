/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vfio-ferry asks libibverbs: which RDMA devices there are, and their ports. See verbs.c for why this is in C.
 */
#ifndef VFIO_FERRY_CIBVERBS_H
#define VFIO_FERRY_CIBVERBS_H

#include <stdbool.h>
#include <stdint.h>

/* The list of devices as it was when it was opened. */
struct vf_verbs;

/* NULL where there is no libibverbs on this machine, or the kernel has no RDMA. The caller closes what it gets. */
struct vf_verbs *vf_verbs_open(void);
void vf_verbs_close(struct vf_verbs *verbs);
int vf_verbs_count(const struct vf_verbs *verbs);
/* A device's name as in /sys/class/infiniband; lives as long as the list. */
const char *vf_verbs_name(const struct vf_verbs *verbs, int index);

/* A device, open. */
struct vf_verbs_device;

/*
 * NULL where the device can't be opened: no permission, or no provider for it is installed. The caller closes it
 * before it closes the list.
 */
struct vf_verbs_device *vf_verbs_open_device(struct vf_verbs *verbs, int index);
void vf_verbs_close_device(struct vf_verbs_device *device);
/* The firmware's version, empty where it has none, and how many ports there are. */
bool vf_verbs_device_facts(struct vf_verbs_device *device, char firmware[64], int *ports);
/* An ibv_port_state, an IBV_LINK_LAYER and the number of GIDs; ports count from 1. */
bool vf_verbs_port_facts(struct vf_verbs_device *device, int port, int *state, int *link_layer, int *gids);
bool vf_verbs_gid(struct vf_verbs_device *device, int port, int index, uint8_t gid[16]);

#endif
