/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the uAPI headers beside this one pin themselves down.
 *
 * Every request number, structure size and field offset in them is asserted against a literal, so a slip
 * is a compile error on any machine; tools/check-uapi compares the same names with a kernel's own headers.
 *
 * Names are the kernel's behind VF_ and vf_, so that both can be included in one file. Constants are
 * enumerators because Swift imports those as Int and skips macros that call macros. A structure whose
 * kernel twin ends in a flexible array has the fixed head only.
 *
 * A name that is younger than Linux 6.6 carries "Since Linux X.Y" on its line: check-uapi takes its
 * absence from an older kernel's headers for granted, and from any other's for an error.
 */
#ifndef VFIO_FERRY_LAYOUT_H
#define VFIO_FERRY_LAYOUT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define VF_ASSERT_NUMBER(name, value) _Static_assert((name) == (value), #name " is not " #value)
#define VF_ASSERT_SIZE(type, bytes) \
  _Static_assert(sizeof(struct type) == (bytes), "struct " #type " is not of " #bytes " bytes")
#define VF_ASSERT_FIELD(type, field, offset) \
  _Static_assert(offsetof(struct type, field) == (offset), #type "." #field " is not at " #offset)

#endif
