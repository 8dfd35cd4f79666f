/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A netlink socket through libnl. In C because libnl is loaded when it is first needed, so that a host where nothing is
 * ever throttled needs none and the program starts quickly; and because netlink's messages are C structures with
 * attributes behind them.
 *
 * libnl-3 and libnl-genl-3 are used, and libnl-route-3 is not: it knows filters, but no police action (as of 3.7), so its
 * objects can't say what is said here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "netlink.h"

static struct libnl libnl;
static bool libnl_found;

static bool find_symbols(void *core, void *generic)
{
	const struct {
		void *library;
		const char *name;
		void *place;
	} symbols[] = {
		{core, "nl_socket_alloc", &libnl.socket_alloc},
		{core, "nl_socket_free", &libnl.socket_free},
		{core, "nl_socket_get_fd", &libnl.socket_get_fd},
		{core, "nl_connect", &libnl.connect},
		{core, "nl_send_auto", &libnl.send_auto},
		{core, "nl_recvmsgs", &libnl.recvmsgs},
		{core, "nl_cb_alloc", &libnl.cb_alloc},
		{core, "nl_cb_put", &libnl.cb_put},
		{core, "nl_cb_set", &libnl.cb_set},
		{core, "nl_cb_err", &libnl.cb_err},
		{core, "nl_cb_overwrite_recv", &libnl.cb_overwrite_recv},
		{core, "nl_cb_overwrite_send", &libnl.cb_overwrite_send},
		{core, "nl_socket_get_cb", &libnl.socket_get_cb},
		{core, "nlmsg_alloc_simple", &libnl.msg_alloc_simple},
		{core, "nlmsg_free", &libnl.msg_free},
		{core, "nlmsg_append", &libnl.msg_append},
		{core, "nlmsg_hdr", &libnl.msg_hdr},
		{core, "nla_put", &libnl.put},
		{core, "nla_nest_start", &libnl.nest_start},
		{core, "nla_nest_end", &libnl.nest_end},
		{core, "nla_parse", &libnl.parse},
		{generic, "genl_connect", &libnl.genl_connect},
		{generic, "genl_ctrl_resolve", &libnl.genl_ctrl_resolve},
		{generic, "genlmsg_put", &libnl.genlmsg_put},
	};
	for (size_t n = 0; n < sizeof(symbols) / sizeof(symbols[0]); n++) {
		void *symbol = dlsym(symbols[n].library, symbols[n].name);
		if (!symbol)
			return false;
		memcpy(symbols[n].place, &symbol, sizeof(symbol));
	}
	return true;
}

/* The libraries stay loaded. */
static void load(void)
{
	void *core = dlopen("libnl-3.so.200", RTLD_NOW | RTLD_LOCAL);
	void *generic = core ? dlopen("libnl-genl-3.so.200", RTLD_NOW | RTLD_LOCAL) : NULL;
	libnl_found = generic && find_symbols(core, generic);
}

int netlink_make(struct vf_netlink **made)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
	if (!libnl_found)
		return ELIBACC;
	struct vf_netlink *netlink = calloc(1, sizeof(*netlink));
	if (!netlink)
		return ENOMEM;
	netlink->nl = &libnl;
	netlink->socket = libnl.socket_alloc();
	if (!netlink->socket) {
		free(netlink);
		return ENOMEM;
	}
	*made = netlink;
	return 0;
}

int vf_netlink_open(enum vf_netlink_family family, struct vf_netlink **opened)
{
	struct vf_netlink *netlink;
	int error = netlink_make(&netlink);
	if (error)
		return error;
	/* libnl makes its own numbers of errnos; errno itself is still what the system call left. */
	errno = 0;
	if (!error && family == vf_netlink_route && libnl.connect(netlink->socket, NETLINK_ROUTE) < 0)
		error = errno ? errno : EIO;
	if (!error && family == vf_netlink_devlink) {
		if (libnl.genl_connect(netlink->socket) < 0)
			error = errno ? errno : EIO;
		else if ((netlink->family = libnl.genl_ctrl_resolve(netlink->socket, "devlink")) < 0)
			error = ENOENT;
	}
	if (error) {
		vf_netlink_close(netlink);
		return error;
	}
	/* Without these the kernel says less, and all else is the same. */
	int on = 1;
	setsockopt(libnl.socket_get_fd(netlink->socket), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(libnl.socket_get_fd(netlink->socket), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	*opened = netlink;
	return 0;
}

void vf_netlink_close(struct vf_netlink *netlink)
{
	if (netlink->socket)
		libnl.socket_free(netlink->socket);
	free(netlink);
}

/* An exchange under way. */
struct exchange {
	visitor visit;
	void *context;
	struct vf_netlink_words *words;
	bool ended;
	int error;
};

static int answered(struct nl_msg *message, void *context)
{
	struct exchange *exchange = context;
	if (exchange->visit)
		exchange->visit(&libnl, libnl.msg_hdr(message), exchange->context);
	return NL_OK;
}

static int acknowledged(struct nl_msg *message, void *context)
{
	(void)message;
	struct exchange *exchange = context;
	exchange->ended = true;
	return NL_STOP;
}

/* The kernel's errnos are negative, and end here; what is none is EPROTO. */
static int errno_of(int error)
{
	return error < 0 && error >= -4095 ? -error : EPROTO;
}

/* The end of a dump carries its error, 0 or negative. */
static int finished(struct nl_msg *message, void *context)
{
	struct exchange *exchange = context;
	const struct nlmsghdr *header = libnl.msg_hdr(message);
	int error = 0;
	if (header->nlmsg_len >= NLMSG_LENGTH(sizeof(error)))
		memcpy(&error, NLMSG_DATA(header), sizeof(error));
	exchange->error = error < 0 ? errno_of(error) : 0;
	exchange->ended = true;
	return NL_STOP;
}

static int refused(struct sockaddr_nl *sender, struct nlmsgerr *refusal, void *context)
{
	(void)sender;
	struct exchange *exchange = context;
	exchange->ended = true;
	exchange->error = errno_of(refusal->error);
	/* libnl has checked that the header's length is not larger than what was received. */
	const struct nlmsghdr *header = (const struct nlmsghdr *)((char *)refusal - NLMSG_HDRLEN);
	int size = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*refusal)));
	if (!exchange->words || !(header->nlmsg_flags & NLM_F_ACK_TLVS) || !(header->nlmsg_flags & NLM_F_CAPPED))
		return NL_STOP;
	struct nlattr *found[NLMSGERR_ATTR_MAX + 1];
	if (libnl.parse(found, NLMSGERR_ATTR_MAX, (struct nlattr *)(refusal + 1), size, NULL) < 0 ||
	    !found[NLMSGERR_ATTR_MSG])
		return NL_STOP;
	const size_t most = sizeof(exchange->words->text) - 1;
	size_t length = (size_t)attribute_size(found[NLMSGERR_ATTR_MSG]);
	length = strnlen(attribute_bytes(found[NLMSGERR_ATTR_MSG]), length < most ? length : most);
	memcpy(exchange->words->text, attribute_bytes(found[NLMSGERR_ATTR_MSG]), length);
	exchange->words->text[length] = 0;
	return NL_STOP;
}

int netlink_ask(struct vf_netlink *netlink, struct nl_msg *message, int built, visitor visit, void *context,
		struct vf_netlink_words *words)
{
	struct exchange exchange = {.visit = visit, .context = context, .words = words};
	struct nl_cb *calls = NULL;
	int result = 0;
	if (words)
		words->text[0] = 0;
	if (built == 0 && (calls = libnl.cb_alloc(NL_CB_DEFAULT))) {
		libnl.cb_set(calls, NL_CB_VALID, NL_CB_CUSTOM, answered, &exchange);
		libnl.cb_set(calls, NL_CB_ACK, NL_CB_CUSTOM, acknowledged, &exchange);
		libnl.cb_set(calls, NL_CB_FINISH, NL_CB_CUSTOM, finished, &exchange);
		libnl.cb_err(calls, NL_CB_CUSTOM, refused, &exchange);
		if (netlink->conversation)
			netlink_converse(netlink, calls);
		errno = 0;
		result = libnl.send_auto(netlink->socket, message);
		while (result >= 0 && !exchange.ended)
			result = libnl.recvmsgs(netlink->socket, calls);
	} else {
		result = -NLE_NOMEM;
	}
	if (calls)
		libnl.cb_put(calls);
	if (message)
		libnl.msg_free(message);
	if (result == -NLE_DUMP_INTR)
		return EINTR;
	if (exchange.ended)
		return exchange.error;
	return result == -NLE_NOMEM ? ENOMEM : errno ? errno : EPROTO;
}
