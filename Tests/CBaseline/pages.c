// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

void pages_union(uint64_t *words, const uint64_t *other, size_t count)
{
	for (size_t index = 0; index < count; index++)
		words[index] |= other[index];
}

size_t pages_count(const uint64_t *words, size_t count)
{
	size_t ones = 0;

	for (size_t index = 0; index < count; index++)
		ones += (size_t)__builtin_popcountll(words[index]);
	return ones;
}

static inline void visit(struct pages_runs *found, uint64_t guest, uint64_t first, uint64_t end)
{
	uint64_t low = guest + (first << 12), high = guest + (end << 12);

	found->runs++;
	found->bytes += high - low;
	found->mixed ^= low + 2 * high;
}

void pages_runs(const uint64_t *words, size_t count, uint64_t guest, struct pages_runs *into)
{
	struct pages_runs found = *into;
	size_t index = 0;
	uint64_t word = words[0];

	for (;;) {
		uint64_t low, filled;

		if (word == 0) {
			do
				index++;
			while (index < count && words[index] == 0);
			if (index == count)
				break;
			word = words[index];
		}
		low = (index << 6) + (uint64_t)__builtin_ctzll(word);
		filled = word | (word - 1);
		if (filled != UINT64_MAX) {
			visit(&found, guest, low, (index << 6) + (uint64_t)__builtin_ctzll(~filled));
			word &= filled + 1;
			continue;
		}
		do
			index++;
		while (index < count && words[index] == UINT64_MAX);
		if (index == count) {
			visit(&found, guest, low, (uint64_t)count << 6);
			break;
		}
		word = words[index];
		visit(&found, guest, low, (index << 6) + (uint64_t)__builtin_ctzll(~word));
		word &= word + 1;
	}
	*into = found;
}

void pages_triad(double *to, const double *from, size_t count)
{
	for (size_t index = 0; index < count; index++)
		to[index] += 3 * from[index];
}
