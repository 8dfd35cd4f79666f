/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libibverbs behind a few calls. In C because it is loaded when it is first needed, so that a host without RDMA needs
 * no RDMA stack and the program starts quickly; and because its header puts inline functions and a changed structure
 * behind the names of ibv_query_port and others, which Swift would see as what they were before.
 */
#include <dlfcn.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>

#include "cibverbs.h"

/* The header has a macro of this name; here the symbol itself is meant, which fills the fields up to its own end. */
typedef int (*query_port)(struct ibv_context *context, uint8_t port, struct _compat_ibv_port_attr *attributes);

struct vf_verbs {
	void *library;
	struct ibv_device **devices;
	int count;
	struct ibv_device **(*get_device_list)(int *count);
	void (*free_device_list)(struct ibv_device **devices);
	const char *(*get_device_name)(struct ibv_device *device);
	struct ibv_context *(*open_device)(struct ibv_device *device);
	int (*close_device)(struct ibv_context *context);
	int (*query_device)(struct ibv_context *context, struct ibv_device_attr *attributes);
	query_port query_port;
	int (*query_gid)(struct ibv_context *context, uint8_t port, int index, union ibv_gid *gid);
};

struct vf_verbs_device {
	struct vf_verbs *verbs;
	struct ibv_context *context;
};

static bool find_symbols(struct vf_verbs *verbs)
{
	const struct {
		const char *name;
		void *place;
	} symbols[] = {
		{"ibv_get_device_list", &verbs->get_device_list},
		{"ibv_free_device_list", &verbs->free_device_list},
		{"ibv_get_device_name", &verbs->get_device_name},
		{"ibv_open_device", &verbs->open_device},
		{"ibv_close_device", &verbs->close_device},
		{"ibv_query_device", &verbs->query_device},
		{"ibv_query_port", &verbs->query_port},
		{"ibv_query_gid", &verbs->query_gid},
	};
	for (size_t n = 0; n < sizeof(symbols) / sizeof(symbols[0]); n++) {
		void *symbol = dlsym(verbs->library, symbols[n].name);
		if (!symbol)
			return false;
		memcpy(symbols[n].place, &symbol, sizeof(symbol));
	}
	return true;
}

struct vf_verbs *vf_verbs_open(void)
{
	struct vf_verbs *verbs = calloc(1, sizeof(*verbs));
	if (!verbs)
		return NULL;
	verbs->library = dlopen("libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
	/* The list is NULL, with ENOSYS, where the kernel has no RDMA. */
	if (verbs->library && find_symbols(verbs) && (verbs->devices = verbs->get_device_list(&verbs->count)))
		return verbs;
	vf_verbs_close(verbs);
	return NULL;
}

void vf_verbs_close(struct vf_verbs *verbs)
{
	/* It crashes on NULL. */
	if (verbs->devices)
		verbs->free_device_list(verbs->devices);
	/* The library stays loaded: providers that it loaded can't be unloaded safely. */
	free(verbs);
}

int vf_verbs_count(const struct vf_verbs *verbs)
{
	return verbs->count;
}

const char *vf_verbs_name(const struct vf_verbs *verbs, int index)
{
	return verbs->get_device_name(verbs->devices[index]);
}

struct vf_verbs_device *vf_verbs_open_device(struct vf_verbs *verbs, int index)
{
	struct vf_verbs_device *device = calloc(1, sizeof(*device));
	if (!device)
		return NULL;
	device->verbs = verbs;
	device->context = verbs->open_device(verbs->devices[index]);
	if (device->context)
		return device;
	free(device);
	return NULL;
}

void vf_verbs_close_device(struct vf_verbs_device *device)
{
	device->verbs->close_device(device->context);
	free(device);
}

bool vf_verbs_device_facts(struct vf_verbs_device *device, char firmware[64], int *ports)
{
	struct ibv_device_attr attributes;
	memset(&attributes, 0, sizeof(attributes));
	if (device->verbs->query_device(device->context, &attributes) != 0)
		return false;
	memcpy(firmware, attributes.fw_ver, 64);
	firmware[63] = 0;
	*ports = attributes.phys_port_cnt;
	return true;
}

bool vf_verbs_port_facts(struct vf_verbs_device *device, int port, int *state, int *link_layer, int *gids)
{
	struct ibv_port_attr attributes;
	memset(&attributes, 0, sizeof(attributes));
	if (device->verbs->query_port(device->context, (uint8_t)port, (struct _compat_ibv_port_attr *)&attributes) != 0)
		return false;
	*state = attributes.state;
	*link_layer = attributes.link_layer;
	*gids = attributes.gid_tbl_len;
	return true;
}

bool vf_verbs_gid(struct vf_verbs_device *device, int port, int index, uint8_t gid[16])
{
	union ibv_gid answer;
	if (device->verbs->query_gid(device->context, (uint8_t)port, index, &answer) != 0)
		return false;
	memcpy(gid, answer.raw, 16);
	return true;
}
