/* SPDX-License-Identifier: Apache-2.0 */
/* devlink's ports and their rates, and what identifies a NIC and its functions. */
#include <errno.h>
#include <linux/devlink.h>
#include <string.h>

#include "netlink.h"

static struct nl_msg *start(struct vf_netlink *netlink, int command, int flags)
{
	struct nl_msg *message = netlink->nl->msg_alloc_simple(0, 0);
	/* Port and sequence number 0 are filled in when it is sent. */
	if (message && !netlink->nl->genlmsg_put(message, 0, 0, netlink->family, 0, flags, (uint8_t)command,
						 DEVLINK_GENL_VERSION)) {
		netlink->nl->msg_free(message);
		return NULL;
	}
	return message;
}

/* Finds the attributes behind both headers. */
static bool attributes(const struct libnl *nl, const struct nlmsghdr *answer, struct nlattr *found[])
{
	const int headers = NLMSG_HDRLEN + GENL_HDRLEN;
	if ((int)answer->nlmsg_len < headers)
		return false;
	struct nlattr *first = (struct nlattr *)((char *)answer + headers);
	return nl->parse(found, DEVLINK_ATTR_MAX, first, (int)answer->nlmsg_len - headers, NULL) == 0;
}

static bool is_text(const struct nlattr *attribute, const char *text)
{
	size_t size = strlen(text) + 1;
	return attribute && attribute_size(attribute) == (int)size && !memcmp(attribute_bytes(attribute), text, size);
}

/* Newer than the headers of Debian 12: of Linux 6.2, which writes them DEVLINK_PORT_FN_ATTR_CAPS and …_CAP_MIGRATABLE. */
enum { function_capabilities = 4, function_attributes = 4, capability_migratable = 1u << 1 };

struct port_search {
	const char *bus;
	const char *device;
	uint16_t function;
	uint32_t number;
	int count;
	/* The address of the function behind it, where the port says it. */
	uint8_t mac[6];
	bool has_mac;
	/* What the function can be made to have (selector) and has (value). */
	struct nla_bitfield32 capabilities;
};

static void look_at_port_function(const struct libnl *nl, const struct nlattr *nest, struct port_search *search)
{
	struct nlattr *found[function_attributes + 1];
	search->has_mac = false;
	search->capabilities = (struct nla_bitfield32){0};
	if (!nest || nl->parse(found, function_attributes, (struct nlattr *)attribute_bytes(nest), attribute_size(nest),
			       NULL) < 0)
		return;
	/* Functions have addresses of other lengths too, as those of InfiniBand do. */
	const struct nlattr *address = found[DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR];
	search->has_mac = address && attribute_size(address) == 6 && attribute_read(address, search->mac, 6);
	attribute_read(found[function_capabilities], &search->capabilities, sizeof(search->capabilities));
}

static void look_at_port(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct port_search *search = context;
	struct nlattr *found[DEVLINK_ATTR_MAX + 1];
	uint16_t flavour, function;
	uint32_t number;
	uint8_t external = 0;
	if (!attributes(nl, answer, found) || !is_text(found[DEVLINK_ATTR_BUS_NAME], search->bus) ||
	    !is_text(found[DEVLINK_ATTR_DEV_NAME], search->device) ||
	    !attribute_read(found[DEVLINK_ATTR_PORT_FLAVOUR], &flavour, sizeof(flavour)) ||
	    !attribute_read(found[DEVLINK_ATTR_PORT_PCI_VF_NUMBER], &function, sizeof(function)) ||
	    !attribute_read(found[DEVLINK_ATTR_PORT_INDEX], &number, sizeof(number)))
		return;
	/* The function of another host, on a NIC that several share, is external. */
	attribute_read(found[DEVLINK_ATTR_PORT_EXTERNAL], &external, sizeof(external));
	if (flavour != DEVLINK_PORT_FLAVOUR_PCI_VF || function != search->function || external)
		return;
	search->number = number;
	search->count++;
	look_at_port_function(nl, found[DEVLINK_ATTR_PORT_FUNCTION], search);
}

static int find_port(struct vf_netlink *netlink, const struct port_search *wanted, struct port_search *search,
		     struct vf_netlink_words *words)
{
	int error = EINTR;
	for (int tries = 0; error == EINTR && tries < 8; tries++) {
		struct nl_msg *message = start(netlink, DEVLINK_CMD_PORT_GET, NLM_F_DUMP);
		*search = *wanted;
		error = netlink_ask(netlink, message, message ? 0 : -1, look_at_port, search, words);
		if (!error && search->count != 1)
			error = search->count ? EEXIST : ENOENT;
	}
	return error;
}

int vf_devlink_find_port(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t function,
			 uint32_t *number, struct vf_netlink_words *words)
{
	const struct port_search wanted = {.bus = bus, .device = device, .function = function};
	struct port_search search;
	int error = find_port(netlink, &wanted, &search, words);
	*number = search.number;
	return error;
}

int vf_devlink_function_address(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t function,
				uint8_t mac[6], struct vf_netlink_words *words)
{
	const struct port_search wanted = {.bus = bus, .device = device, .function = function};
	struct port_search search;
	int error = find_port(netlink, &wanted, &search, words);
	memcpy(mac, search.mac, sizeof(search.mac));
	return error ? error : search.has_mac ? 0 : ENODATA;
}

int vf_devlink_function_migratable(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t function,
				   bool *migratable, struct vf_netlink_words *words)
{
	const struct port_search wanted = {.bus = bus, .device = device, .function = function};
	struct port_search search;
	int error = find_port(netlink, &wanted, &search, words);
	*migratable = search.capabilities.value & capability_migratable;
	return error ? error : search.capabilities.selector & capability_migratable ? 0 : ENODATA;
}

static struct nl_msg *ask_device(struct vf_netlink *netlink, int command, const char *bus, const char *device, int *built)
{
	struct nl_msg *message = start(netlink, command, 0);
	*built = !message || netlink->nl->put(message, DEVLINK_ATTR_BUS_NAME, (int)strlen(bus) + 1, bus) ||
				 netlink->nl->put(message, DEVLINK_ATTR_DEV_NAME, (int)strlen(device) + 1, device)
			 ? -1
			 : 0;
	return message;
}

struct mode_answer {
	uint16_t mode;
	bool known;
};

static void look_at_mode(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct mode_answer *mode = context;
	struct nlattr *found[DEVLINK_ATTR_MAX + 1];
	if (attributes(nl, answer, found))
		mode->known = attribute_read(found[DEVLINK_ATTR_ESWITCH_MODE], &mode->mode, sizeof(mode->mode));
}

int vf_devlink_eswitch_mode(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t *mode,
			    struct vf_netlink_words *words)
{
	struct mode_answer answer = {0};
	int built;
	struct nl_msg *message = ask_device(netlink, DEVLINK_CMD_ESWITCH_GET, bus, device, &built);
	int error = netlink_ask(netlink, message, built, look_at_mode, &answer, words);
	*mode = answer.mode;
	return error ? error : answer.known ? 0 : ENODATA;
}

int vf_devlink_set_eswitch_mode(struct vf_netlink *netlink, const char *bus, const char *device, uint16_t mode,
				struct vf_netlink_words *words)
{
	int built;
	struct nl_msg *message = ask_device(netlink, DEVLINK_CMD_ESWITCH_SET, bus, device, &built);
	if (!built)
		built = netlink->nl->put(message, DEVLINK_ATTR_ESWITCH_MODE, sizeof(mode), &mode);
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}

struct version_answer {
	char *version;
	/* The place of what was found in the list of names, which begins with the best. */
	size_t rank;
};

static const char *const firmware_names[] = {"fw.version", "fw", "fw.mgmt"};
enum { firmware_names_count = sizeof(firmware_names) / sizeof(firmware_names[0]) };

static void look_at_version(const struct libnl *nl, const struct nlattr *nest, struct version_answer *best)
{
	struct nlattr *found[DEVLINK_ATTR_MAX + 1];
	if (nl->parse(found, DEVLINK_ATTR_MAX, (struct nlattr *)attribute_bytes(nest), attribute_size(nest), NULL) < 0 ||
	    !found[DEVLINK_ATTR_INFO_VERSION_VALUE])
		return;
	for (size_t rank = 0; rank < best->rank; rank++) {
		if (!is_text(found[DEVLINK_ATTR_INFO_VERSION_NAME], firmware_names[rank]))
			continue;
		const struct nlattr *value = found[DEVLINK_ATTR_INFO_VERSION_VALUE];
		size_t size = (size_t)attribute_size(value) < 63 ? (size_t)attribute_size(value) : 63;
		memset(best->version, 0, 64);
		memcpy(best->version, attribute_bytes(value), strnlen(attribute_bytes(value), size));
		best->rank = rank;
	}
}

static void look_at_info(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	const int headers = NLMSG_HDRLEN + GENL_HDRLEN;
	if ((int)answer->nlmsg_len < headers)
		return;
	struct attribute_walk walk = {(char *)answer + headers, (int)answer->nlmsg_len - headers};
	for (struct nlattr *one = next_attribute(&walk); one; one = next_attribute(&walk))
		if ((one->nla_type & NLA_TYPE_MASK) == DEVLINK_ATTR_INFO_VERSION_RUNNING)
			look_at_version(nl, one, context);
}

int vf_devlink_firmware(struct vf_netlink *netlink, const char *bus, const char *device, char version[64],
			struct vf_netlink_words *words)
{
	struct version_answer answer = {.version = version, .rank = firmware_names_count};
	int built;
	memset(version, 0, 64);
	struct nl_msg *message = ask_device(netlink, DEVLINK_CMD_INFO_GET, bus, device, &built);
	int error = netlink_ask(netlink, message, built, look_at_info, &answer, words);
	return error ? error : version[0] ? 0 : ENODATA;
}

static int put_port(const struct libnl *nl, struct nl_msg *message, const struct vf_devlink_port *port)
{
	if (!message || nl->put(message, DEVLINK_ATTR_BUS_NAME, (int)strlen(port->bus) + 1, port->bus) ||
	    nl->put(message, DEVLINK_ATTR_DEV_NAME, (int)strlen(port->device) + 1, port->device) ||
	    nl->put(message, DEVLINK_ATTR_PORT_INDEX, sizeof(port->number), &port->number))
		return -1;
	return 0;
}

struct rate_answer {
	uint64_t rate;
	bool known;
};

static void look_at_rate(const struct libnl *nl, const struct nlmsghdr *answer, void *context)
{
	struct rate_answer *rate = context;
	struct nlattr *found[DEVLINK_ATTR_MAX + 1];
	if (attributes(nl, answer, found))
		rate->known = attribute_read(found[DEVLINK_ATTR_RATE_TX_MAX], &rate->rate, sizeof(rate->rate));
}

int vf_devlink_get_rate(struct vf_netlink *netlink, const struct vf_devlink_port *port, uint64_t *rate,
			struct vf_netlink_words *words)
{
	struct rate_answer answer = {0};
	struct nl_msg *message = start(netlink, DEVLINK_CMD_RATE_GET, 0);
	int built = put_port(netlink->nl, message, port);
	int error = netlink_ask(netlink, message, built, look_at_rate, &answer, words);
	*rate = answer.rate;
	return error ? error : answer.known ? 0 : ENODATA;
}

int vf_devlink_set_rate(struct vf_netlink *netlink, const struct vf_devlink_port *port, uint64_t rate,
			struct vf_netlink_words *words)
{
	struct nl_msg *message = start(netlink, DEVLINK_CMD_RATE_SET, 0);
	int built = put_port(netlink->nl, message, port);
	if (!built)
		built = netlink->nl->put(message, DEVLINK_ATTR_RATE_TX_MAX, sizeof(rate), &rate);
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}

/* Sets one thing of the function behind a port. */
static int set_function(struct vf_netlink *netlink, const struct vf_devlink_port *port, int attribute, const void *value,
			int size, struct vf_netlink_words *words)
{
	struct nl_msg *message = start(netlink, DEVLINK_CMD_PORT_SET, 0);
	struct nlattr *nest = NULL;
	int built = put_port(netlink->nl, message, port);
	if (!built && (!(nest = netlink->nl->nest_start(message, DEVLINK_ATTR_PORT_FUNCTION | NLA_F_NESTED)) ||
		       netlink->nl->put(message, attribute, size, value)))
		built = -1;
	if (!built)
		netlink->nl->nest_end(message, nest);
	return netlink_ask(netlink, message, built, NULL, NULL, words);
}

int vf_devlink_set_function_address(struct vf_netlink *netlink, const struct vf_devlink_port *port, const uint8_t mac[6],
				    struct vf_netlink_words *words)
{
	return set_function(netlink, port, DEVLINK_PORT_FUNCTION_ATTR_HW_ADDR, mac, 6, words);
}

int vf_devlink_set_function_migratable(struct vf_netlink *netlink, const struct vf_devlink_port *port, bool migratable,
				       struct vf_netlink_words *words)
{
	const struct nla_bitfield32 capabilities = {
		.value = migratable ? capability_migratable : 0, .selector = capability_migratable};
	return set_function(netlink, port, function_capabilities, &capabilities, sizeof(capabilities), words);
}
