// SPDX-License-Identifier: BSD-3-Clause
// The words beside the counters: what is waited for and why, written by one thread, read by any.
#include "engine/counters.h"

#include <stdbool.h>
#include <string.h>

/* A reader that meets the writer reads again: `turns` is odd while words change. Each word is
 * written after the odd number and read before the second look at it, so a mix is always noticed.
 */
void counters_set_why(struct counters *c, const char *why)
{
    struct counters_why *w = &c->why;
    uint64_t word[COUNTERS_WHY_WORDS] = {0};
    size_t n = strlen(why), max = sizeof(word) - 1;
    memcpy(word, why, n < max ? n : max);
    uint64_t turns = atomic_load_explicit(&w->turns, memory_order_relaxed);
    atomic_store_explicit(&w->turns, turns + 1, memory_order_relaxed);
    for (unsigned i = 0; i < COUNTERS_WHY_WORDS; i++)
        atomic_store_explicit(&w->word[i], word[i], memory_order_release);
    atomic_store_explicit(&w->turns, turns + 2, memory_order_release);
}

static bool read_whole(struct counters_why *w, uint64_t *word)
{
    uint64_t turns = atomic_load_explicit(&w->turns, memory_order_acquire);
    for (unsigned i = 0; i < COUNTERS_WHY_WORDS; i++)
        word[i] = atomic_load_explicit(&w->word[i], memory_order_acquire);
    return turns % 2 == 0 && atomic_load_explicit(&w->turns, memory_order_relaxed) == turns;
}

void counters_get_why(struct counters *c, char ret[COUNTERS_WHY])
{
    uint64_t word[COUNTERS_WHY_WORDS];
    for (unsigned i = 0; i < 100; i++) {
        if (!read_whole(&c->why, word)) continue;
        memcpy(ret, word, COUNTERS_WHY);
        ret[COUNTERS_WHY - 1] = 0;
        return;
    }
    *ret = 0; /* the writer was put to sleep in the middle: the next look finds it */
}

void counters_wait(struct counters *c, enum counters_waits what, int64_t until_ms, const char *why)
{
    counters_set_why(c, what ? why : "");
    counter_set(&c->waiting_until_ms, what ? (uint64_t)until_ms : 0);
    counter_set(&c->waiting_for, what);
}
