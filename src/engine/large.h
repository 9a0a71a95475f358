// SPDX-License-Identifier: BSD-3-Clause
// Elements of a set, sorted set or hash that are too large to be sorted in memory: they come in
// pieces and lie in an unlinked file; where each begins, how long it is and its first bytes are
// known here. They are given to a hasher in order, one by one, in bounded memory.
//
// Use: large_begin(), pieces of the key by large_add(), large_key_ends(), pieces of the rest, and
// large_end(), for each; then large_sort(); then large_tell_before() with rising limits.
#ifndef KEYHAUL_ENGINE_LARGE_H
#define KEYHAUL_ENGINE_LARGE_H

#include "engine/hasher.h"
#include "io/store.h"

struct large_elem {
    uint64_t at, key_n, rest_n; /* in the store: key, then rest */
    uint64_t first;             /* 8 bytes of the key, big endian, filled up with zeros */
    uint64_t tail;              /* score or expiry */
};

struct large {
    struct store store;
    struct buf elems, chunk[2];
    size_t told; /* so many of them */
};

/* How one is told, behind the element's key. */
typedef int large_tell_fn(void *ctx, const struct large_elem *e, struct err *err);

void large_init(struct large *l, const char *dir); /* `dir` is borrowed */
void large_release(struct large *l);
void large_clear(struct large *l);

static inline bool large_is_empty(const struct large *l)
{
    return l->elems.n == 0;
}

KH_MUST int large_begin(struct large *l, struct err *err);
KH_MUST int large_add(struct large *l, struct span piece, struct err *err);
void large_key_ends(struct large *l);
void large_end(struct large *l, uint64_t tail);

KH_MUST int large_sort(struct large *l, struct err *err);
/* Those that come before `key`; NULL: all that are left. */
KH_MUST int large_tell_before(struct large *l, const struct span *key, large_tell_fn *fn, void *ctx,
                              struct err *err);
/* n bytes from `at`, with their length before them. */
KH_MUST int large_hash(struct large *l, uint64_t at, uint64_t n, struct hasher *h, struct err *err);

#endif
