/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A filter of system calls by libseccomp. In C because a signal handler may only call what POSIX lists, and Swift's runtime
 * is not on that list.
 *
 * libseccomp is loaded when it is needed: linked, every host would have to have it, also for commands that confine nothing.
 * (libseccomp2 is on every Debian with systemd.) Without it nothing is confined, and the caller says so and ends.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "cconfinement.h"
#include "refusals.h"

struct vf_call_filter {
	void *library;
	scmp_filter_ctx context;
	uint64_t cookie;
	__typeof__(seccomp_init) *init;
	__typeof__(seccomp_release) *release;
	__typeof__(seccomp_attr_set) *attr_set;
	__typeof__(seccomp_syscall_resolve_name) *resolve_name;
	__typeof__(seccomp_rule_add_array) *rule_add;
	__typeof__(seccomp_load) *load;
};

static bool find_symbols(struct vf_call_filter *filter)
{
	const struct {
		const char *name;
		void *place;
	} symbols[] = {
		{"seccomp_init", &filter->init},
		{"seccomp_release", &filter->release},
		{"seccomp_attr_set", &filter->attr_set},
		{"seccomp_syscall_resolve_name", &filter->resolve_name},
		{"seccomp_rule_add_array", &filter->rule_add},
		{"seccomp_load", &filter->load},
	};
	for (size_t n = 0; n < sizeof(symbols) / sizeof(symbols[0]); n++) {
		void *symbol = dlsym(filter->library, symbols[n].name);
		if (!symbol)
			return false;
		memcpy(symbols[n].place, &symbol, sizeof(symbol));
	}
	return true;
}

void vf_filter_release(struct vf_call_filter *filter)
{
	if (filter->context)
		filter->release(filter->context);
	if (filter->library)
		dlclose(filter->library);
	free(filter);
}

/* libseccomp answers with a negative error number. */
static bool is_done(int result)
{
	if (result < 0)
		errno = -result;
	return result >= 0;
}

static bool add(struct vf_call_filter *filter, uint32_t action, int call, const struct scmp_arg_cmp *comparison)
{
	return is_done(filter->rule_add(filter->context, action, call, comparison ? 1 : 0, comparison));
}

static bool add_rule(struct vf_call_filter *filter, const struct vf_call_rule *rule, int call)
{
	struct scmp_arg_cmp comparison = {.arg = rule->argument};

	switch (rule->condition) {
	case VF_CONDITION_NONE:
		return add(filter, SCMP_ACT_ALLOW, call, NULL);
	case VF_CONDITION_MASKED:
		comparison.op = SCMP_CMP_MASKED_EQ;
		comparison.datum_a = rule->mask;
		comparison.datum_b = rule->value;
		return add(filter, SCMP_ACT_ALLOW, call, &comparison);
	}
	errno = EINVAL;
	return false;
}

/* What the handler of SIGSYS needs, and the C library. */
static bool add_own(struct vf_call_filter *filter)
{
	const struct scmp_arg_cmp from_handler = {
		.arg = REFUSALS_COOKIE_ARGUMENT, .op = SCMP_CMP_EQ, .datum_a = filter->cookie};

	return add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), &from_handler) &&
	       add(filter, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigreturn), NULL) &&
	       add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), NULL);
}

enum vf_filter_result vf_filter_make(const struct vf_call_rule *rules, size_t count, struct vf_call_filter **made,
				     size_t *place)
{
	struct vf_call_filter *filter = calloc(1, sizeof(*filter));
	enum vf_filter_result result = VF_FILTER_FAILED;

	*place = count;
	if (!filter)
		return VF_FILTER_FAILED;
	filter->library = dlopen("libseccomp.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!filter->library || !find_symbols(filter)) {
		result = VF_FILTER_NO_LIBRARY;
		goto fail;
	}
	if (!refusals_make_cookie(&filter->cookie))
		goto fail;
	errno = ENOMEM;
	filter->context = filter->init(SCMP_ACT_TRAP);
	if (!filter->context)
		goto fail;
	/* All threads; and the caller sets no-new-privileges. */
	if (!is_done(filter->attr_set(filter->context, SCMP_FLTATR_CTL_TSYNC, 1)) ||
	    /* Whoever calls by another ABI is an attacker: one thread less would leave devices in the middle of their stop. */
	    !is_done(filter->attr_set(filter->context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS)) ||
	    !is_done(filter->attr_set(filter->context, SCMP_FLTATR_CTL_NNP, 0)) || !add_own(filter))
		goto fail;
	for (*place = 0; *place < count; (*place)++) {
		int call = filter->resolve_name(rules[*place].name);

		/* A call that this architecture does not have has a negative number of its own, and is passed over. */
		if (call == __NR_SCMP_ERROR) {
			result = VF_FILTER_UNKNOWN_CALL;
			goto fail;
		}
		if (!add_rule(filter, &rules[*place], call))
			goto fail;
	}
	*made = filter;
	return VF_FILTER_MADE;

fail:;
	int error = errno;
	vf_filter_release(filter);
	errno = error;
	return result;
}

int vf_filter_load(struct vf_call_filter *filter, const char *prefix)
{
	bool is_loaded = refusals_listen(filter->cookie, prefix) && is_done(filter->load(filter->context));
	int error = errno;

	vf_filter_release(filter);
	errno = error;
	return is_loaded ? 0 : -1;
}
