// SPDX-License-Identifier: BSD-3-Clause
// The servers that hold the keys of one side: one, or the primaries of a cluster; and a walk over
// them that misses no key of a slot that moves meanwhile.
//
//    walk_begin ── walk_next ─▶ a node: SCAN it, look at the keys that walk_wants() ──┐
//                     ▲                                                               │
//                     └───────────────────────────────────────────────────────────────┘
//                     └─▶ over, when each slot has been gone through while it stood still
//
// A key that is moved from a node that is still to come to one that is through would be missed. So
// after each pass the owners are read again, and slots that had moved, were on their way or were
// answered by a redirection are gone through once more, at the nodes concerned. (Of slots that
// stand still a key may be given twice as well: SCAN's promise is no other.) One owner thread.
#ifndef KEYHAUL_REDIS_PRIMARIES_H
#define KEYHAUL_REDIS_PRIMARIES_H

#include "redis/cluster.h"
#include "wire/slot_set.h"

struct primaries {                /* all borrowed */
    struct client *one;           /* a server by itself; NULL: */
    struct cluster *cluster;      /* its primaries with slots */
    const struct slot_set *slots; /* only keys of these matter; NULL: all */
    /* What a connection needs before it is asked for keys; may be NULL. */
    int (*greet)(void *ctx, struct client *c, struct err *err);
    void *greet_ctx;
};

/* The client that has a key. ERR_BUSY: its slot has no node now. */
KH_MUST int primaries_client_of(const struct primaries *p, struct span key, struct client **ret,
                                struct err *err);
/* For words, and for the user's name: any client of it. */
KH_MUST int primaries_any(const struct primaries *p, struct client **ret, struct err *err);
/* Each client, once; the first -1 of `fn` ends it. */
KH_MUST int primaries_each(const struct primaries *p,
                           int (*fn)(void *ctx, struct client *c, struct err *err), void *ctx,
                           struct err *err);

/* "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN": the slot of what was asked is not there now. */
bool primaries_redirects(const struct reply *r);

struct walk_view;

struct walk {
    struct primaries at;
    struct walk_view *before; /* who owned what when the pass began; owned */
    struct slot_set left;     /* what this pass is for */
    struct slot_set again;    /* and the next one */
    bool filtered;            /* `left` is not all */
    unsigned next;            /* node of the pass that comes next */
    int64_t since_ms;         /* monotonic: no slot less is left since then */
    int64_t not_before_ms;    /* the next pass */
};

enum walk_step {
    WALK_OVER,
    WALK_NODE,  /* *ret is to be gone through */
    WALK_LATER, /* slots are on their way: call again in some 100 ms */
};

KH_MUST int walk_begin(struct walk *w, const struct primaries *p, struct err *err);
void walk_end(struct walk *w); /* safe on zeroed */
/* An enum walk_step, or -1: ERR_BUSY when slots have been on their way for too long, or a primary
 * is none any more; ERR_NET ... The client stays whose it is, and is good until the next call. */
KH_MUST int walk_next(struct walk *w, struct client **ret, struct err *err);
/* The same, waiting where it is to be called later; `step` (may be NULL) is run meanwhile. Never
 * WALK_LATER. */
KH_MUST int walk_wait_next(struct walk *w, struct client **ret,
                           int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                           struct err *err);
/* Is this key one to look at in this pass? */
static inline bool walk_wants(const struct walk *w, struct span key)
{
    return !w->filtered || slot_set_has(&w->left, slot_of(key));
}
/* What was asked of a key of this slot was redirected: it is to be gone through again. */
void walk_again(struct walk *w, uint16_t slot);

#endif
