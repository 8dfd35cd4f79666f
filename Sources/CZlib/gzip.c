/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libz behind one call, loaded when it is first needed: only the doctor reads a packed file, and only where the kernel has
 * one (/proc/config.gz).
 */
#include <dlfcn.h>
#include <limits.h>
#include <zlib.h>

#include "czlib.h"

/* Of the largest window, and gzip and nothing else: see inflateInit2 in zlib.h. */
#define GZIP_ONLY (MAX_WBITS + 16)

static ssize_t unpack(void *library, z_stream *stream)
{
	__typeof__(inflateInit2_) *init = (__typeof__(init))dlsym(library, "inflateInit2_");
	__typeof__(inflate) *inflate = (__typeof__(inflate))dlsym(library, "inflate");
	__typeof__(inflateEnd) *end = (__typeof__(end))dlsym(library, "inflateEnd");
	int status;

	if (!init || !inflate || !end)
		return -1;
	if (init(stream, GZIP_ONLY, ZLIB_VERSION, (int)sizeof(*stream)) != Z_OK)
		return -1;
	status = inflate(stream, Z_FINISH);
	end(stream);
	return status == Z_STREAM_END ? (ssize_t)stream->total_out : -1;
}

ssize_t vf_gunzip(const uint8_t *packed, size_t count, uint8_t *into, size_t room)
{
	z_stream stream = {
		/* It does not write there; its type is older than const. */
		.next_in = (Bytef *)packed,
		.avail_in = (uInt)count,
		.next_out = into,
		.avail_out = (uInt)room,
	};
	void *library;
	ssize_t result;

	if (count > UINT_MAX || room > UINT_MAX)
		return -1;
	library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return -1;
	result = unpack(library, &stream);
	dlclose(library);
	return result;
}
