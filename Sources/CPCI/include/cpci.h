/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vfio-ferry asks libpci: a function's capabilities and its name in words. See pci.c for why this is in C.
 */
#ifndef VFIO_FERRY_CPCI_H
#define VFIO_FERRY_CPCI_H

#include <stdbool.h>
#include <stdint.h>

/* libpci, loaded and looking at one system's sysfs. To be used by one thread at a time. */
struct vf_pci;

/*
 * Loads libpci. bus is where to look: "/sys/bus/pci". NULL where there is no such library on this machine, or it does
 * not have what is needed. The caller closes what it gets.
 */
struct vf_pci *vf_pci_open(const char *bus);
void vf_pci_close(struct vf_pci *pci);

/* Loads libpci, where there is one, and never unloads it: vf_pci_open opens no file then. */
void vf_pci_keep(void);

/* What the configuration space says. Registers are as they were read, and 0 where the function has none. */
struct vf_pci_registers {
	/* The capability list could be read to its end, and so the next fields mean something. */
	bool list_read;
	bool has_express;
	/* PCI_EXP_FLAGS: the port's type is in bits 4 to 7. */
	uint16_t express_flags;
	uint16_t device_control;
	uint16_t device_control_2;
	/* The extended list could be read to its end, or the function can have none. */
	bool extended_list_read;
	bool has_acs;
	uint16_t acs_capability;
	uint16_t acs_control;
	bool has_ats;
	uint16_t ats_control;
};

/*
 * Reads a function's capabilities. false: libpci gave up; out then says that nothing was read. A function that is gone,
 * and one of which only 64 bytes may be read, give true with list_read false.
 */
bool vf_pci_read(struct vf_pci *pci, int domain, int bus, int device, int function, struct vf_pci_registers *out);

/* Vendor and device in words, zero-terminated, from the list of PCI ids; false where it is absent or lacks them. */
bool vf_pci_name(struct vf_pci *pci, uint16_t vendor, uint16_t device, char *name, int size);

#endif
