// SPDX-License-Identifier: Apache-2.0
// Stands in front of the C library's malloc and its like in this program, to count the calls. What they give is the
// library's, and so is free.
#include "pages.h"

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static _Thread_local unsigned long allocations;

unsigned long pages_allocations(void)
{
	return allocations;
}

void *malloc(size_t bytes)
{
	allocations++;
	return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	allocations++;
	return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
	allocations++;
	return __libc_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	allocations++;
	return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
	void *got = aligned_alloc(alignment, bytes);

	if (!got)
		return 12; /* ENOMEM, returned and not put into errno */
	*memory = got;
	return 0;
}
