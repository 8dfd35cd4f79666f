/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about traffic control share: its messages. */
#ifndef VFIO_FERRY_CNETLINK_TRAFFIC_H
#define VFIO_FERRY_CNETLINK_TRAFFIC_H

#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "netlink.h"

enum {
	changes_tolerated = 8, /* how often a dump is made before it is given up, where changes overtake it */
	kin_bytes = 8, /* of a cookie */
};

static inline struct nl_msg *start(struct vf_netlink *netlink, int type, int flags, const struct tcmsg *header)
{
	struct nl_msg *message = netlink->nl->msg_alloc_simple(type, flags);
	if (message && netlink->nl->msg_append(message, (void *)header, sizeof(*header), NLMSG_ALIGNTO)) {
		netlink->nl->msg_free(message);
		return NULL;
	}
	return message;
}

/* Finds the attributes behind both headers. */
static inline const struct tcmsg *attributes(const struct libnl *nl, const struct nlmsghdr *answer,
					     struct nlattr *found[])
{
	const int headers = NLMSG_HDRLEN + (int)NLMSG_ALIGN(sizeof(struct tcmsg));
	if ((int)answer->nlmsg_len < headers)
		return NULL;
	struct nlattr *first = (struct nlattr *)((char *)answer + headers);
	if (nl->parse(found, TCA_MAX, first, (int)answer->nlmsg_len - headers, NULL) < 0)
		return NULL;
	return NLMSG_DATA(answer);
}

static inline bool parse_nested(const struct libnl *nl, const struct nlattr *nest, struct nlattr *found[], int most)
{
	return nest && nl->parse(found, most, (struct nlattr *)attribute_bytes(nest), attribute_size(nest), NULL) == 0;
}

static inline void copy_kind(const struct nlattr *attribute, char kind[16])
{
	size_t size = attribute ? (size_t)attribute_size(attribute) : 0;
	if (size > 15)
		size = 15;
	memset(kind, 0, 16);
	if (attribute)
		memcpy(kind, attribute_bytes(attribute), strnlen(attribute_bytes(attribute), size));
}

static inline uint32_t parent_of(enum vf_hook hook)
{
	return TC_H_MAKE(TC_H_CLSACT, hook == vf_hook_ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

#endif
