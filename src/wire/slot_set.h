// SPDX-License-Identifier: BSD-3-Clause
// A set of slots. Pure.
#ifndef KEYHAUL_WIRE_SLOT_SET_H
#define KEYHAUL_WIRE_SLOT_SET_H

#include "wire/slot.h"

#include <stdbool.h>
#include <string.h>

#define SLOT_SET_WORDS (SLOT_COUNT / 64)

struct slot_set { /* zeroed: empty */
    uint64_t word[SLOT_SET_WORDS];
};

static inline void slot_set_clear(struct slot_set *s)
{
    memset(s, 0, sizeof(*s));
}
static inline void slot_set_fill(struct slot_set *s)
{
    memset(s, 0xff, sizeof(*s));
}
static inline void slot_set_add(struct slot_set *s, uint16_t slot)
{
    s->word[slot / 64] |= (uint64_t)1 << (slot % 64);
}
static inline void slot_set_remove(struct slot_set *s, uint16_t slot)
{
    s->word[slot / 64] &= ~((uint64_t)1 << (slot % 64));
}
static inline bool slot_set_has(const struct slot_set *s, uint16_t slot)
{
    return s->word[slot / 64] >> (slot % 64) & 1;
}
/* The key's slot, of a set that may be NULL: all slots. */
static inline bool slot_set_has_key(const struct slot_set *s, struct span key)
{
    return !s || slot_set_has(s, slot_of(key));
}

unsigned slot_set_count(const struct slot_set *s);
void slot_set_and(struct slot_set *s, const struct slot_set *with);
void slot_set_or(struct slot_set *s, const struct slot_set *with);
/* The first slot of it from this one on; SLOT_COUNT: no more. */
unsigned slot_set_next(const struct slot_set *s, unsigned from);

#endif
