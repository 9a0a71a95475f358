// SPDX-License-Identifier: BSD-3-Clause
// Names of keys of one slot, each once, by a hash: to be gone through in its order, or asked for.
// Bounded. One owner thread.
#ifndef KEYHAUL_ENGINE_ADOPT_KEYS_H
#define KEYHAUL_ENGINE_ADOPT_KEYS_H

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>

struct adopt_key {
    uint64_t hash;
    uint32_t at, n; /* in the names */
    bool gone;      /* taken out */
};

struct adopt_keys {
    struct buf names;
    struct buf keys;  /* struct adopt_key */
    struct buf index; /* uint32_t: 1 + place in `keys`, 0 none; of a power of two places */
    size_t n;         /* that are not gone */
};

uint64_t adopt_hash(struct span key);

void adopt_keys_init(struct adopt_keys *k, size_t max_bytes); /* of names, and as much again */
void adopt_keys_release(struct adopt_keys *k);
void adopt_keys_clear(struct adopt_keys *k);

/* One that is there already is there once. ERR_LIMIT: there is no more room. */
KH_MUST int adopt_keys_add(struct adopt_keys *k, struct span key, struct err *err);
bool adopt_keys_has(const struct adopt_keys *k, struct span key);
void adopt_keys_remove(struct adopt_keys *k, struct span key);

/* In the order of hashes, those that are gone left out. Afterwards only adopt_keys_at() and
 * adopt_keys_clear() are of use. */
void adopt_keys_sort(struct adopt_keys *k);
static inline const struct adopt_key *adopt_keys_at(const struct adopt_keys *k, size_t i)
{
    return (const struct adopt_key *)(const void *)k->keys.p + i;
}
static inline struct span adopt_keys_name(const struct adopt_keys *k, size_t i)
{
    return span_of(k->names.p + adopt_keys_at(k, i)->at, adopt_keys_at(k, i)->n);
}

#endif
