// SPDX-License-Identifier: BSD-3-Clause
// How much memory this program's own code has asked for: its calls of malloc and its like are
// redirected here by the linker (--wrap), also under sanitizers, whose own memory does not count.
#ifndef TESTS_MUTATE_ALLOC_H
#define TESTS_MUTATE_ALLOC_H

#include <stddef.h>

/* What is there now does not count. */
void alloc_begin(void);
/* From now on the most is counted anew. */
void alloc_reset(void);
/* The most at once since then, bytes. */
size_t alloc_peak(void);

#endif
