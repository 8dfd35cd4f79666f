/* SPDX-License-Identifier: GPL-2.0 */
/* What the files that make up the settings share: items, and parsing of what is written. */
#ifndef VFIO_SYNTHETIC_SETTINGS_H
#define VFIO_SYNTHETIC_SETTINGS_H

#include "synthetic.h"

static inline struct vsyn_config *to_vsyn_config(struct config_item *item)
{
	return container_of(item, struct vsyn_config, item);
}

static inline struct vsyn_settings *to_vsyn_settings(struct config_item *item)
{
	return &to_vsyn_config(item)->settings;
}

/* parse.c: each takes its part off the front of a line, blanks before it included. */
bool vsyn_take_u64(char **line, u64 *value);
bool vsyn_take_number(char **line, u64 least, u64 most, u64 *value);
char *vsyn_take_word(char **line);
bool vsyn_take_arc(char **line, u8 *from, u8 *to);
bool vsyn_take_range(char *line, struct vsyn_range *range);
bool vsyn_nothing_left(const char *line);
int vsyn_parse_words(const char *const *words, char *text, u64 *bits);
ssize_t vsyn_parse_lines(const char *page, size_t count, void *target,
			 int (*parse)(char *line, void *target));

/* Each ends with NULL; settings.c puts them together. */
extern struct configfs_attribute *const vsyn_scalar_attributes[];
extern struct configfs_attribute *const vsyn_list_attributes[];

/* scalars.c */
void vsyn_scalars_default(struct vsyn_settings *settings);

#endif
