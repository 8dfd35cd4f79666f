/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What code that has taken over a helper would try, and what a helper has to be able to do. In C because syscall(2) is
 * variadic.
 */
#ifndef VFIO_FERRY_ATTEMPTS_H
#define VFIO_FERRY_ATTEMPTS_H

/* To be called before there is a confinement: opens what attempts need. */
void attempts_prepare(void);

/* What the attempt of that number is called; NULL behind the last. */
const char *attempt_name(int number);

/* Makes it: 0 where it works, else errno. */
int attempt_make(int number);

/* The C constant's name of an error number. */
const char *attempt_error(int error);

#endif
