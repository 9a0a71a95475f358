// SPDX-License-Identifier: BSD-3-Clause
// Names of keys of one slot: a list, and a table of hashes over it.
#include "engine/adopt_keys.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PLACES_MIN 64

uint64_t adopt_hash(struct span key)
{
    return XXH3_64bits(key.p, key.n);
}

void adopt_keys_init(struct adopt_keys *k, size_t max_bytes)
{
    *k = (struct adopt_keys){0};
    buf_init(&k->names, max_bytes);
    buf_init(&k->keys, max_bytes);
    buf_init(&k->index, max_bytes);
}

void adopt_keys_release(struct adopt_keys *k)
{
    buf_release(&k->names);
    buf_release(&k->keys);
    buf_release(&k->index);
    k->n = 0;
}

void adopt_keys_clear(struct adopt_keys *k)
{
    buf_clear(&k->names);
    buf_clear(&k->keys);
    buf_clear(&k->index);
    k->n = 0;
}

static struct adopt_key *list(const struct adopt_keys *k)
{
    return (struct adopt_key *)(void *)k->keys.p;
}

static size_t listed(const struct adopt_keys *k)
{
    return k->keys.n / sizeof(struct adopt_key);
}

static size_t places(const struct adopt_keys *k)
{
    return k->index.n / sizeof(uint32_t);
}

/* Where the key is in the table, or is to be put. */
static uint32_t *place_of(const struct adopt_keys *k, uint64_t hash, struct span key)
{
    uint32_t *table = (uint32_t *)(void *)k->index.p;
    size_t mask = places(k) - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        if (table[i] == 0) return &table[i];
        const struct adopt_key *e = &list(k)[table[i] - 1];
        if (e->hash == hash && span_eq(span_of(k->names.p + e->at, e->n), key)) return &table[i];
    }
}

/* A table of twice as many places, at most half full. */
static int grow(struct adopt_keys *k, struct err *err)
{
    size_t want = places(k) ? 2 * places(k) : PLACES_MIN;
    buf_clear(&k->index);
    if (buf_reserve(&k->index, want * sizeof(uint32_t), err) < 0) return -1;
    memset(k->index.p, 0, want * sizeof(uint32_t));
    k->index.n = want * sizeof(uint32_t);
    for (size_t i = 0; i < listed(k); i++) {
        const struct adopt_key *e = &list(k)[i];
        *place_of(k, e->hash, span_of(k->names.p + e->at, e->n)) = (uint32_t)i + 1;
    }
    return 0;
}

int adopt_keys_add(struct adopt_keys *k, struct span key, struct err *err)
{
    if (2 * (listed(k) + 1) > places(k) && grow(k, err) < 0) return -1;
    uint64_t hash = adopt_hash(key);
    uint32_t *at = place_of(k, hash, key);
    if (*at) {
        struct adopt_key *e = &list(k)[*at - 1];
        k->n += e->gone;
        e->gone = false;
        return 0;
    }
    struct adopt_key e = {.hash = hash, .at = (uint32_t)k->names.n, .n = (uint32_t)key.n};
    if (buf_add(&k->names, key.p, key.n, err) < 0 || buf_add(&k->keys, &e, sizeof(e), err) < 0)
        return -1;
    *at = (uint32_t)listed(k);
    k->n++;
    return 0;
}

bool adopt_keys_has(const struct adopt_keys *k, struct span key)
{
    if (places(k) == 0) return false;
    uint32_t at = *place_of(k, adopt_hash(key), key);
    return at && !list(k)[at - 1].gone;
}

void adopt_keys_remove(struct adopt_keys *k, struct span key)
{
    if (places(k) == 0) return;
    uint32_t at = *place_of(k, adopt_hash(key), key);
    if (!at || list(k)[at - 1].gone) return;
    list(k)[at - 1].gone = true;
    k->n--;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = ((const struct adopt_key *)a)->hash, y = ((const struct adopt_key *)b)->hash;
    return x < y ? -1 : x > y;
}

void adopt_keys_sort(struct adopt_keys *k)
{
    size_t kept = 0;
    for (size_t i = 0; i < listed(k); i++)
        if (!list(k)[i].gone) list(k)[kept++] = list(k)[i];
    k->keys.n = kept * sizeof(struct adopt_key);
    if (kept) qsort(k->keys.p, kept, sizeof(struct adopt_key), compare);
    buf_clear(&k->index);
}
