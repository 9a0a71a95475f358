// SPDX-License-Identifier: BSD-3-Clause
// Time, with a wall clock that tests can replace.
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static int64_t (*wall_hook)(void);

static int64_t now_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_wall_ms(void)
{
    return wall_hook ? wall_hook() : now_ns(CLOCK_REALTIME) / 1000000;
}

int64_t clock_mono_ms(void)
{
    return now_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_mono_us(void)
{
    return now_ns(CLOCK_MONOTONIC) / 1000;
}

void clock_set_wall(int64_t (*wall_ms)(void))
{
    wall_hook = wall_ms;
}
