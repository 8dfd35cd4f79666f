// SPDX-License-Identifier: GPL-2.0
/* Taking apart what is written to a setting. */
#include <linux/ctype.h>
#include <linux/hex.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "settings.h"

bool vsyn_take_u64(char **line, u64 *value)
{
	char *at = skip_spaces(*line);
	u64 number = 0, unit = 1;
	unsigned int base = 10;

	if (!isdigit(*at))
		return false;
	if (*at == '0' && tolower(at[1]) == 'x') {
		base = 16;
		at += 2;
		if (!isxdigit(*at))
			return false;
	} else if (*at == '0' && isdigit(at[1])) {
		return false;	/* octal to some, not to others */
	}
	for (; base == 16 ? isxdigit(*at) : isdigit(*at); at++)
		if (check_mul_overflow(number, (u64)base, &number) ||
		    check_add_overflow(number, (u64)hex_to_bin(*at), &number))
			return false;
	switch (*at) {
	case 'T':
		unit *= SZ_1K;
		fallthrough;
	case 'G':
		unit *= SZ_1K;
		fallthrough;
	case 'M':
		unit *= SZ_1K;
		fallthrough;
	case 'K':
		unit *= SZ_1K;
		at++;
		break;
	}
	*line = at;
	return !check_mul_overflow(number, unit, value);
}

char *vsyn_take_word(char **line)
{
	char *word = skip_spaces(*line), *end = word;

	while (*end && !isspace(*end))
		end++;
	*line = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

bool vsyn_nothing_left(const char *line)
{
	return !*skip_spaces(line);
}

bool vsyn_take_arc(char **line, u8 *from, u8 *to)
{
	char *name = vsyn_take_word(line), *second = strchr(name, ':');
	int f, t;

	if (!second)
		return false;
	*second++ = '\0';
	f = match_string(vsyn_state_names, VSYN_STATES, name);
	t = match_string(vsyn_state_names, VSYN_STATES, second);
	if (f < 0 || t < 0)
		return false;
	*from = f;
	*to = t;
	return true;
}

/*
 * Hands each line of what was written to parse(), with a target of the caller's. Nothing
 * takes effect unless every line is right: the caller copies the target then.
 */
ssize_t vsyn_parse_lines(const char *page, size_t count, void *target,
				int (*parse)(char *line, void *target))
{
	char *copy = kstrndup(page, count, GFP_KERNEL), *rest = copy, *line;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	while (!ret && (line = strsep(&rest, "\n")))
		if (!vsyn_nothing_left(line))
			ret = parse(line, target);
	kfree(copy);
	return ret ?: count;
}

int vsyn_parse_words(const char *const *words, char *text, u64 *bits)
{
	unsigned int i;

	*bits = 0;
	while (!vsyn_nothing_left(text)) {
		char *word = vsyn_take_word(&text);

		for (i = 0; words[i] && strcmp(words[i], word); i++)
			;
		if (!words[i])
			return -EINVAL;
		*bits |= BIT_ULL(i);
	}
	return 0;
}

bool vsyn_take_number(char **line, u64 least, u64 most, u64 *value)
{
	return vsyn_take_u64(line, value) && *value >= least && *value <= most;
}

bool vsyn_take_range(char *line, struct vsyn_range *range)
{
	if (!vsyn_take_u64(&line, &range->start) || *line++ != '+' ||
	    !vsyn_take_u64(&line, &range->length) || !vsyn_nothing_left(line))
		return false;
	return range->length && range->start + range->length - 1 >= range->start;
}
