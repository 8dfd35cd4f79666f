/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A conversation that was written down, in the place of the kernel's end of a socket. libnl takes its messages apart as it
 * does the kernel's, so what is asked and how the answers are understood can be tested where no such hardware is.
 */
#include <netlink/errno.h>
#include <stdlib.h>

#include "netlink.h"

/* libnl hands its calls nothing but the socket; a thread has one conversation under way at a time. */
static _Thread_local const struct vf_netlink *speaker;

static int say(struct nl_sock *socket, struct nl_msg *message)
{
	(void)socket;
	const struct nlmsghdr *header = speaker->nl->msg_hdr(message);
	speaker->conversation->request(speaker->conversation->context, (const uint8_t *)header, header->nlmsg_len);
	return (int)header->nlmsg_len;
}

/* libnl frees the buffer. */
static int hear(struct nl_sock *socket, struct sockaddr_nl *sender, unsigned char **buffer, struct ucred **credentials)
{
	enum { most = 32768 };
	(void)socket;
	(void)sender;
	(void)credentials;
	unsigned char *bytes = calloc(1, most);
	if (!bytes)
		return -NLE_NOMEM;
	size_t size = speaker->conversation->answer(speaker->conversation->context, bytes, most);
	if (size == 0 || size > most) {
		free(bytes);
		return -NLE_FAILURE;
	}
	*buffer = bytes;
	return (int)size;
}

void netlink_converse(struct vf_netlink *netlink, struct nl_cb *calls)
{
	struct nl_cb *own = netlink->nl->socket_get_cb(netlink->socket);
	speaker = netlink;
	netlink->nl->cb_overwrite_send(own, say);
	netlink->nl->cb_overwrite_recv(calls, hear);
	netlink->nl->cb_put(own);
}

int vf_netlink_replay(const struct vf_conversation *conversation, int family, struct vf_netlink **opened)
{
	int error = netlink_make(opened);
	if (error)
		return error;
	(*opened)->family = family;
	(*opened)->conversation = conversation;
	return 0;
}
