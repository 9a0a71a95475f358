// SPDX-License-Identifier: BSD-3-Clause
// Between hold.c and hold_fan.c: notes that are settled together.
#ifndef KEYHAUL_ENGINE_HOLD_IMPL_H
#define KEYHAUL_ENGINE_HOLD_IMPL_H

#include "engine/hold.h"

#define HOLD_SETTLE_KEYS 1024 /* asked for at once ... */

struct hold_asked {
    struct hold_note note;
    int64_t db;      /* as it is called now */
    size_t key_at;   /* in h->keys */
    size_t reply;    /* of the answers */
    int64_t give_ms; /* the deadline to be given to it, 0 none */
};

struct hold_taken {
    struct hold_asked a[HOLD_SETTLE_KEYS];
    int n;         /* of them */
    uint64_t kept; /* looked at, and noted anew */
};

static inline struct span hold_key_of(const struct hold *h, const struct hold_asked *a)
{
    return span_of(h->keys.p + a->key_at, a->note.key_n);
}

/* What each key's node tells of it, into ret[a->reply]; wherever the keys go meanwhile. All lanes
 * of h->fan are idle, and are so again. */
KH_MUST int hold_fan_ask(struct hold *h, struct hold_taken *t, int64_t *ret, struct err *err);
/* Give the deadlines; where one was redirected, again. Refused ones are reported by name. */
KH_MUST int hold_fan_give(struct hold *h, struct hold_taken *t, struct err *err);

#endif
