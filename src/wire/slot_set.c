// SPDX-License-Identifier: BSD-3-Clause
// A set of slots: counting, joining, going through it.
#include "wire/slot_set.h"

unsigned slot_set_count(const struct slot_set *s)
{
    unsigned n = 0;
    for (size_t i = 0; i < SLOT_SET_WORDS; i++)
        n += (unsigned)__builtin_popcountll(s->word[i]);
    return n;
}

void slot_set_and(struct slot_set *s, const struct slot_set *with)
{
    for (size_t i = 0; i < SLOT_SET_WORDS; i++)
        s->word[i] &= with->word[i];
}

void slot_set_or(struct slot_set *s, const struct slot_set *with)
{
    for (size_t i = 0; i < SLOT_SET_WORDS; i++)
        s->word[i] |= with->word[i];
}

unsigned slot_set_next(const struct slot_set *s, unsigned from)
{
    for (unsigned i = from; i < SLOT_COUNT;) {
        uint64_t rest = s->word[i / 64] >> (i % 64);
        if (rest) return i + (unsigned)__builtin_ctzll(rest);
        i = (i / 64 + 1) * 64;
    }
    return SLOT_COUNT;
}
