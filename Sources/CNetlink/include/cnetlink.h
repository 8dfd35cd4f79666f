/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vfio-ferry asks over netlink: police filters of traffic control, devlink's rates, and what identifies a function. See
 * netlink.c for why this is in C.
 *
 * Calls return 0 or an errno, positive. Who passes a struct vf_netlink_words finds there what the kernel said besides.
 */
#ifndef VFIO_FERRY_CNETLINK_H
#define VFIO_FERRY_CNETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A socket. For one thread at a time. */
struct vf_netlink;

/* What the kernel said of the last request that failed, in words; empty where it said nothing. */
struct vf_netlink_words {
	char text[192];
};

/* The kernel's two families that are spoken here. */
enum vf_netlink_family {
	vf_netlink_route,
	vf_netlink_devlink,
};

/*
 * ELIBACC where libnl is not installed; for devlink ENOENT where the kernel has none. The caller closes what it gets.
 */
int vf_netlink_open(enum vf_netlink_family family, struct vf_netlink **netlink);
void vf_netlink_close(struct vf_netlink *netlink);

/* Traffic control. An interface is given by its number, as elsewhere in the kernel. */

/* Where packets are looked at. */
enum vf_hook {
	vf_hook_ingress,
	vf_hook_egress,
};

/* The qdisc that holds both hooks. */
struct vf_hooks {
	bool present;
	/* Its kind: "clsact" has both hooks, "ingress" one. */
	char kind[16];
	/* Whether its filters are in a block that other interfaces share. */
	bool shared;
};

int vf_tc_hooks(struct vf_netlink *netlink, int interface, struct vf_hooks *hooks, struct vf_netlink_words *words);
/* EEXIST where there is such a qdisc, of whatever kind. */
int vf_tc_add_clsact(struct vf_netlink *netlink, int interface, struct vf_netlink_words *words);
int vf_tc_delete_clsact(struct vf_netlink *netlink, int interface, struct vf_netlink_words *words);

/*
 * Sixteen bytes that an action carries for whoever made it: by these a filter is known. What begins with the same eight
 * is kin: made by the same program for something else.
 */
struct vf_cookie {
	uint8_t bytes[16];
};

/* What is at a hook, and a filter with a given cookie among it. */
struct vf_survey {
	/* Filters of all chains: of others, and kin. */
	uint32_t others;
	uint32_t kin;
	/* The smallest preference that is free in chain 0, and the smallest that a filter of others has; 0 for none. */
	uint16_t free_preference;
	uint16_t first_other;
	/* The filter with the cookie. */
	bool found;
	uint16_t preference;
	/* The bits that the kernel keeps a filter's place in: preference above, protocol below. */
	uint32_t info;
	uint32_t handle;
	char kind[16];
	/* The TCA_CLS_FLAGS_… of the filter. */
	bool in_hardware;
	/* Its police action: number, rate in bytes a second, packets seen and dropped. */
	uint32_t police;
	uint64_t rate;
	uint64_t bytes;
	uint32_t drops;
};

int vf_tc_survey(struct vf_netlink *netlink, int interface, enum vf_hook hook, const struct vf_cookie *cookie,
		 struct vf_survey *survey, struct vf_netlink_words *words);

/* An interface that has a qdisc with hooks. */
struct vf_hook_holder {
	int interface;
	/* Whether it has both hooks; else ingress alone. */
	bool both;
};

/* All that there are: `count` may come to more than there is `room` for, and then those that fit are there. */
int vf_tc_hook_holders(struct vf_netlink *netlink, struct vf_hook_holder *holders, size_t room, size_t *count,
		       struct vf_netlink_words *words);

/* What an interface is called where its number would mean nothing. */
struct vf_interface_name {
	uint32_t interface;
	/* As this host calls it. */
	char kernel_name[16];
	/* As it counts. */
	char name[32];
};

/* How many filters there are, and a number for what they say: see rules.c for what it depends on. */
struct vf_rules {
	uint32_t count;
	uint64_t digest;
};

/* A function whose filters are read. */
struct vf_rule_function {
	uint32_t representor;
	/* 0 for none. */
	uint32_t uplink;
	/* What was found. */
	struct vf_rules rules;
	/* Of the reading under way, and of the one before it. */
	struct vf_rules now, before;
};

/*
 * Which filters to read. At a function's representor all are its own; elsewhere those at ingress are that send or copy packets
 * to its representor.
 */
struct vf_rule_reading {
	int interface;
	enum vf_hook hook;
	/* Filters with an action of its kin are left out. */
	struct vf_cookie kin;
	struct vf_rule_function *functions;
	size_t function_count;
	/* So many for each function, one after the other, by ascending interface. */
	const struct vf_interface_name *names;
	size_t name_count;
};

/* Adds them to what the functions have, in whatever order; EINTR where they don't stay the same for long enough to be read. */
int vf_tc_add_rules(struct vf_netlink *netlink, const struct vf_rule_reading *reading, struct vf_netlink_words *words);

struct vf_police {
	uint64_t rate; /* bytes a second */
	uint64_t burst; /* bytes */
	struct vf_cookie cookie;
	/* What follows for a packet within the rate: other filters, or this action's successor. */
	bool pipe;
};

struct vf_filter {
	int interface;
	enum vf_hook hook;
	uint16_t preference;
	struct vf_police police;
	/* Where to send what is within the rate; 0 leaves that to the filters after this one. */
	int redirect;
	/* The destination that is looked for; without has_mac every packet is meant. */
	bool has_mac;
	uint8_t mac[6];
	/* Refuse unless hardware does it. The corresponding C constant is TCA_CLS_FLAGS_SKIP_SW. */
	bool hardware_only;
};

/* EEXIST or EINVAL where the preference is taken. */
int vf_tc_add_filter(struct vf_netlink *netlink, const struct vf_filter *filter, struct vf_netlink_words *words);
/* The filter that a survey found. */
int vf_tc_delete_filter(struct vf_netlink *netlink, int interface, enum vf_hook hook, const struct vf_survey *found,
			struct vf_netlink_words *words);
/* Gives the police action with that number another rate, at one stroke. */
int vf_tc_replace_police(struct vf_netlink *netlink, uint32_t number, const struct vf_police *police,
			 struct vf_netlink_words *words);

/* devlink. A port is given as devlink does: bus, device and number. */

struct vf_devlink_port {
	const char *bus;
	const char *device;
	uint32_t number;
};

/* The port of a virtual function of this host; ENOENT where the device has none. */
int vf_devlink_find_port(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t function,
			 uint32_t *number, struct vf_netlink_words *words);
/* The most that the port's function may send, bytes a second, 0 for no limit. ENODEV where the port has no rate. */
int vf_devlink_get_rate(struct vf_netlink *netlink, const struct vf_devlink_port *port, uint64_t *rate,
			struct vf_netlink_words *words);
int vf_devlink_set_rate(struct vf_netlink *netlink, const struct vf_devlink_port *port, uint64_t rate,
			struct vf_netlink_words *words);

/* What a NIC's functions are prepared with, before a driver has them. */

/* A DEVLINK_ESWITCH_MODE_…. */
int vf_devlink_set_eswitch_mode(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t mode,
				struct vf_netlink_words *words);
/* The Ethernet address of the function behind a port. */
int vf_devlink_set_function_address(struct vf_netlink *netlink, const struct vf_devlink_port *port, const uint8_t mac[6],
				    struct vf_netlink_words *words);
/*
 * Whether the function behind a virtual function's port is made to be one that can be migrated; ENOENT for no port, ENODATA
 * where the port does not say, as its driver knows no such thing. Kernels before 6.2 don't.
 */
int vf_devlink_function_migratable(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t function,
				   bool *migratable, struct vf_netlink_words *words);
int vf_devlink_set_function_migratable(struct vf_netlink *netlink, const struct vf_devlink_port *port, bool migratable,
				       struct vf_netlink_words *words);

/* What identifies a function, and the NIC that it is a part of. Nothing is changed. */

/* The mode of a NIC's switch, a DEVLINK_ESWITCH_MODE_…; ENODATA where the answer has none. */
int vf_devlink_eswitch_mode(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t *mode,
			    struct vf_netlink_words *words);
/*
 * The firmware that runs: the version named "fw.version", else "fw", else "fw.mgmt", cut where it does not fit. ENODATA
 * where there is none of them.
 */
int vf_devlink_firmware(struct vf_netlink *netlink, const char *bus, const char *device, char version[64],
			struct vf_netlink_words *words);
/* The Ethernet address of the function behind a virtual function's port; ENOENT for no port, ENODATA for no such address. */
int vf_devlink_function_address(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t function,
				uint8_t mac[6], struct vf_netlink_words *words);
/* A virtual function as its physical function's interface has it. */
struct vf_link_function {
	uint8_t mac[6];
	/* 0 for none. */
	uint32_t vlan;
	uint32_t priority;
	/* The tag's ETH_P_…; 0 where the kernel does not say. */
	uint16_t vlan_protocol;
	/* 0 or 1; -1 where the driver does not say. */
	int8_t spoof_check;
	int8_t trust;
};

/* ENODATA where the interface knows no function of that number. */
int vf_link_function(struct vf_netlink *netlink, int interface, uint16_t function, struct vf_link_function *facts,
		     struct vf_netlink_words *words);
/* Gives a virtual function another Ethernet address. The interface is the physical function's. */
int vf_link_set_function_address(struct vf_netlink *netlink, int interface, uint16_t function, const uint8_t mac[6],
				 struct vf_netlink_words *words);

/*
 * A conversation that was written down, in the kernel's place: for tests of what hardware is needed for. Each request is
 * handed to `request`, and each answer is what `answer` returns: how many bytes it has put into a buffer of that size, 0
 * for none left. Whoever answers finds port and sequence number in the request, which are other ones each time.
 */
struct vf_conversation {
	void *context;
	void (*request)(void *context, const uint8_t *bytes, size_t size);
	size_t (*answer)(void *context, uint8_t *bytes, size_t size);
};

/* A socket in name only. `family` is the number that the kernel would have given devlink; `conversation` must outlive it. */
int vf_netlink_replay(const struct vf_conversation *conversation, int family, struct vf_netlink **netlink);

#endif
