/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CZLIB_H
#define CZLIB_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Unpacks one gzip file. Gives how many bytes it has become, or -1: it is damaged or cut, more than fits, or there is no
 * libz on this machine.
 */
ssize_t vf_gunzip(const uint8_t *packed, size_t count, uint8_t *into, size_t room);

#endif
