/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpci behind a few calls. In C for two reasons.
 *
 * It is loaded when it is first needed: linked, it and what it pulls in (libudev, libz, libresolv) would be loaded by
 * every vfio-ferry, also by one that only prints its version, and every host would have to have it. Without the library
 * capabilities are unknown and functions have no names; nothing else changes.
 *
 * Its error handler must not return, and the one it comes with ends the process. Few of its calls can get there: those
 * that read attributes of a function that may be gone (most of pci_fill_info, pci_scan_bus), which is why nothing of
 * that is used here; a path longer than 1,024 bytes, a list of ids with a syntax error, and no memory. For these the
 * handler leaves by longjmp, which Swift has no word for. What libpci held then is lost: a few hundred bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pci/pci.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "cpci.h"

struct vf_pci {
	void *library;
	struct pci_access *access;
	__typeof__(pci_alloc) *alloc;
	__typeof__(pci_init) *init;
	__typeof__(pci_cleanup) *cleanup;
	__typeof__(pci_set_param) *set_param;
	__typeof__(pci_get_dev) *get_dev;
	__typeof__(pci_free_dev) *free_dev;
	__typeof__(pci_find_cap) *find_cap;
	__typeof__(pci_read_word) *read_word;
	__typeof__(pci_read_long) *read_long;
	__typeof__(pci_read_block) *read_block;
	__typeof__(pci_lookup_name) *lookup_name;
};

/* Where this thread's call into libpci comes back to when libpci gives up. */
static _Thread_local jmp_buf way_back;

static void __attribute__((noreturn, format(printf, 1, 2))) give_up(char *message, ...)
{
	(void)message;
	longjmp(way_back, 1);
}

static void __attribute__((format(printf, 1, 2))) say_nothing(char *message, ...)
{
	(void)message;
}

static bool find_symbols(struct vf_pci *pci)
{
	const struct {
		const char *name;
		void *place;
	} symbols[] = {
		{"pci_alloc", &pci->alloc},
		{"pci_init", &pci->init},
		{"pci_cleanup", &pci->cleanup},
		{"pci_set_param", &pci->set_param},
		{"pci_get_dev", &pci->get_dev},
		{"pci_free_dev", &pci->free_dev},
		{"pci_find_cap", &pci->find_cap},
		{"pci_read_word", &pci->read_word},
		{"pci_read_long", &pci->read_long},
		{"pci_read_block", &pci->read_block},
		{"pci_lookup_name", &pci->lookup_name},
	};
	for (size_t n = 0; n < sizeof(symbols) / sizeof(symbols[0]); n++) {
		void *symbol = dlsym(pci->library, symbols[n].name);
		if (!symbol)
			return false;
		memcpy(symbols[n].place, &symbol, sizeof(symbol));
	}
	return true;
}

static bool start(struct vf_pci *pci, const char *bus)
{
	if (setjmp(way_back))
		return false;
	pci->access = pci->alloc();
	if (!pci->access)
		return false;
	pci->access->error = give_up;
	pci->access->warning = say_nothing;
	pci->access->debug = say_nothing;
	pci->access->method = PCI_ACCESS_SYS_BUS_PCI;
	/* Names come from the list on this machine only: no cache in a home folder, no question to the network. */
	pci->access->id_lookup_mode = 0;
	/* libpci copies the value. */
	if (pci->set_param(pci->access, (char *)"sysfs.path", (char *)bus) != 0)
		return false;
	pci->init(pci->access);
	return true;
}

struct vf_pci *vf_pci_open(const char *bus)
{
	struct vf_pci *pci = calloc(1, sizeof(*pci));
	if (!pci)
		return NULL;
	pci->library = dlopen("libpci.so.3", RTLD_NOW | RTLD_LOCAL);
	if (pci->library && find_symbols(pci) && start(pci, bus))
		return pci;
	vf_pci_close(pci);
	return NULL;
}

void vf_pci_keep(void)
{
	(void)dlopen("libpci.so.3", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

void vf_pci_close(struct vf_pci *pci)
{
	/* cleanup calls a back end that is there only after init. */
	if (pci->access && pci->access->methods && !setjmp(way_back))
		pci->cleanup(pci->access);
	if (pci->library)
		dlclose(pci->library);
	free(pci);
}

/*
 * Whether the lists that libpci followed ended where they say they end. It takes bytes that it can't read for ones and
 * stops at them without a word: half a list then looks like a whole one, and "no ACS" like an answer.
 */
static bool ends_well(struct vf_pci *pci, struct pci_dev *device, unsigned int type)
{
	for (struct pci_cap *cap = device->first_cap; cap; cap = cap->next) {
		if (cap->type != type)
			continue;
		unsigned int next = type == PCI_CAP_NORMAL ? (pci->read_word(device, cap->addr) >> 8) & 0xfc
							   : (pci->read_long(device, cap->addr) >> 20) & 0xffc;
		struct pci_cap *found = device->first_cap;
		while (found && (found->addr != next || found->type != type))
			found = found->next;
		if (next && !found)
			return false;
	}
	return true;
}

static bool read_word(struct vf_pci *pci, struct pci_dev *device, unsigned int at, uint16_t *value)
{
	uint8_t bytes[2];
	/* pci_read_word would say ones where there is nothing to read. */
	if (!pci->read_block(device, (int)at, bytes, sizeof(bytes)))
		return false;
	*value = (uint16_t)(bytes[0] | bytes[1] << 8);
	return true;
}

/* The first list, and the PCI Express capability in it. Returns whether what it set is all there is. */
static bool read_list(struct vf_pci *pci, struct pci_dev *device, struct vf_pci_registers *out)
{
	uint16_t status, beyond_header;
	/* Beyond its first 64 bytes only root may read. A function that is gone answers in ones. */
	if (!read_word(pci, device, 0x40, &beyond_header) || !read_word(pci, device, PCI_STATUS, &status) ||
	    status == 0xffff)
		return false;
	struct pci_cap *express = pci->find_cap(device, PCI_CAP_ID_EXP, PCI_CAP_NORMAL);
	if ((status & PCI_STATUS_CAP_LIST) && (!device->first_cap || !ends_well(pci, device, PCI_CAP_NORMAL)))
		return false;
	if (!express)
		return true;
	out->has_express = true;
	if (!read_word(pci, device, express->addr + PCI_EXP_FLAGS, &out->express_flags) ||
	    !read_word(pci, device, express->addr + PCI_EXP_DEVCTL, &out->device_control))
		return false;
	/* The first version of the capability ends before the second control register. */
	return (out->express_flags & PCI_EXP_FLAGS_VERS) < 2 ||
	       read_word(pci, device, express->addr + PCI_EXP_DEVCTL2, &out->device_control_2);
}

/* The same for the extended list, which only what has a PCI Express capability can have. */
static bool read_extended_list(struct vf_pci *pci, struct pci_dev *device, struct vf_pci_registers *out)
{
	uint16_t low, high;
	if (!out->has_express)
		return true;
	if (!read_word(pci, device, 0x100, &low) || !read_word(pci, device, 0x102, &high) ||
	    (low == 0xffff && high == 0xffff))
		return false;
	/* An empty list begins with zeros. */
	if (low == 0 && high == 0)
		return true;
	struct pci_cap *acs = pci->find_cap(device, PCI_EXT_CAP_ID_ACS, PCI_CAP_EXTENDED);
	struct pci_cap *ats = pci->find_cap(device, PCI_EXT_CAP_ID_ATS, PCI_CAP_EXTENDED);
	if (!ends_well(pci, device, PCI_CAP_EXTENDED))
		return false;
	out->has_acs = acs != NULL;
	if (acs && (!read_word(pci, device, acs->addr + PCI_ACS_CAP, &out->acs_capability) ||
		    !read_word(pci, device, acs->addr + PCI_ACS_CTRL, &out->acs_control)))
		return false;
	out->has_ats = ats != NULL;
	if (ats && !read_word(pci, device, ats->addr + PCI_ATS_CTRL, &out->ats_control))
		return false;
	/* A last look: if it went meanwhile, what was read last was ones. */
	return read_word(pci, device, 0x100, &low) && low != 0xffff;
}

bool vf_pci_read(struct vf_pci *pci, int domain, int bus, int device, int function, struct vf_pci_registers *out)
{
	memset(out, 0, sizeof(*out));
	if (setjmp(way_back)) {
		memset(out, 0, sizeof(*out));
		return false;
	}
	struct pci_dev *found = pci->get_dev(pci->access, domain, bus, device, function);
	out->list_read = read_list(pci, found, out);
	out->extended_list_read = out->list_read && read_extended_list(pci, found, out);
	pci->free_dev(found);
	return true;
}

bool vf_pci_name(struct vf_pci *pci, uint16_t vendor, uint16_t device, char *name, int size)
{
	if (setjmp(way_back))
		return false;
	int flags = PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE | PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB;
	/* libpci answers with another pointer where the buffer was too short. */
	return size > 0 && pci->lookup_name(pci->access, name, size, flags, vendor, device) == name;
}
