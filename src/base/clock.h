// SPDX-License-Identifier: BSD-3-Clause
// Time. Wall time for expiries (unix ms), monotonic time for everything that is waited for.
#ifndef KEYHAUL_BASE_CLOCK_H
#define KEYHAUL_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);

/* Tests: replace the wall clock; NULL puts the real one back. Not while threads run. */
void clock_set_wall(int64_t (*wall_ms)(void));

#endif
