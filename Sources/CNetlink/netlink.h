/* SPDX-License-Identifier: Apache-2.0 */
/* What the files here share: libnl's calls behind a table, a socket, and asking. */
#ifndef VFIO_FERRY_CNETLINK_PRIVATE_H
#define VFIO_FERRY_CNETLINK_PRIVATE_H

#include <netlink/attr.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include "cnetlink.h"

/* libnl-3 and libnl-genl-3, found once. */
struct libnl {
	__typeof__(nl_socket_alloc) *socket_alloc;
	__typeof__(nl_socket_free) *socket_free;
	__typeof__(nl_socket_get_fd) *socket_get_fd;
	__typeof__(nl_connect) *connect;
	__typeof__(nl_send_auto) *send_auto;
	__typeof__(nl_recvmsgs) *recvmsgs;
	__typeof__(nl_cb_alloc) *cb_alloc;
	__typeof__(nl_cb_put) *cb_put;
	__typeof__(nl_cb_set) *cb_set;
	__typeof__(nl_cb_err) *cb_err;
	__typeof__(nl_cb_overwrite_recv) *cb_overwrite_recv;
	__typeof__(nl_cb_overwrite_send) *cb_overwrite_send;
	__typeof__(nl_socket_get_cb) *socket_get_cb;
	__typeof__(nlmsg_alloc_simple) *msg_alloc_simple;
	__typeof__(nlmsg_free) *msg_free;
	__typeof__(nlmsg_append) *msg_append;
	__typeof__(nlmsg_hdr) *msg_hdr;
	__typeof__(nla_put) *put;
	__typeof__(nla_nest_start) *nest_start;
	__typeof__(nla_nest_end) *nest_end;
	__typeof__(nla_parse) *parse;
	__typeof__(genl_connect) *genl_connect;
	__typeof__(genl_ctrl_resolve) *genl_ctrl_resolve;
	__typeof__(genlmsg_put) *genlmsg_put;
};

struct vf_netlink {
	const struct libnl *nl;
	struct nl_sock *socket;
	int family; /* of generic netlink, else 0 */
	const struct vf_conversation *conversation; /* in the kernel's place, else NULL */
};

/* A socket that leads nowhere yet; 0 or an errno. */
int netlink_make(struct vf_netlink **made);
/* Has a socket's messages go to its conversation, and come from there. */
void netlink_converse(struct vf_netlink *netlink, struct nl_cb *calls);

/*
 * Sends a message, which is freed here, and takes every answer to `visit` (which may be NULL) until the kernel says that
 * this was all. `built` is what building the message came to. 0 or an errno; EINTR where the kernel says that a dump was
 * overtaken by changes. Of filters it never says so: whoever wants them right reads them until nothing changes.
 */
typedef void (*visitor)(const struct libnl *nl, const struct nlmsghdr *answer, void *context);
int netlink_ask(struct vf_netlink *netlink, struct nl_msg *message, int built, visitor visit, void *context,
		struct vf_netlink_words *words);

/* Attributes of a message: their bytes, and numbers where they are large enough for one. */
static inline int attribute_size(const struct nlattr *attribute)
{
	return (int)attribute->nla_len - NLA_HDRLEN;
}

static inline const void *attribute_bytes(const struct nlattr *attribute)
{
	return (const char *)attribute + NLA_HDRLEN;
}

static inline bool attribute_read(const struct nlattr *attribute, void *value, int size)
{
	if (!attribute || attribute_size(attribute) < size)
		return false;
	__builtin_memcpy(value, attribute_bytes(attribute), (size_t)size);
	return true;
}

/* Walks attributes of which several may have one type; parsing keeps the last of them only. */
struct attribute_walk {
	char *next;
	int left;
};

static inline struct attribute_walk attributes_in(const struct nlattr *nest)
{
	return (struct attribute_walk){(char *)nest + NLA_HDRLEN, attribute_size(nest)};
}

/* NULL after the last, and where what follows does not fit into what is left. */
static inline struct nlattr *next_attribute(struct attribute_walk *walk)
{
	struct nlattr *attribute = (struct nlattr *)walk->next;
	if (walk->left < NLA_HDRLEN || attribute->nla_len < NLA_HDRLEN || attribute->nla_len > walk->left)
		return NULL;
	walk->next += NLA_ALIGN(attribute->nla_len);
	walk->left -= NLA_ALIGN(attribute->nla_len);
	return attribute;
}

#endif
