// SPDX-License-Identifier: BSD-3-Clause
// Holding deadlines (C8): a key must not die on the target by its own clock while the change that
// renewed it still waits here.
//
// A replica never expires keys by itself; a target does. So a deadline that may pass before the
// changes behind it have been applied is written HOLD_SHIFT_MS later than it is, and the key is
// noted. Once the stream has caught up the notes are gone through: a key that still has exactly the
// shifted deadline gets its real one (and dies at once when that has passed, as on the source); one
// that the stream has changed meanwhile, in whatever way, is left alone.
//
//    hold_deadline() ─▶ noted ─▶ caught up ─▶ hold_settle() ─▶ exact
//
// Notes lie in a store: memory first, then disk. One owner thread.
#ifndef KEYHAUL_ENGINE_HOLD_H
#define KEYHAUL_ENGINE_HOLD_H

#include "engine/batch.h"

/* No real deadline lies this far ahead: about 4,459 years. */
#define HOLD_SHIFT_MS ((int64_t)1 << 47)

struct hold {
    bool on;    /* false: no stream follows, deadlines are written as they are */
    bool exact; /* the target knows PEXPIRETIME (7.0+) */
    struct store notes;
    uint64_t read_at; /* notes before this have been settled */
    uint64_t n;       /* notes left */
    struct buf swaps; /* struct hold_swap: SWAPDBs since the first note */
    struct buf keys, ask;
    struct batch batch;
};

void hold_init(struct hold *h, bool on, bool exact, const char *store_dir, uint64_t max_bytes);
void hold_release(struct hold *h);

/* The deadline (unix ms) to write for this key of target database `db`: `at_ms`, or a later one
 * when it would pass within margin_ms from now; then the key is noted. */
KH_MUST int hold_deadline(struct hold *h, int64_t db, struct span key, int64_t at_ms,
                          int64_t now_ms, int64_t margin_ms, int64_t *ret_ms, struct err *err);

/* The stream gave a key's deadline to another key (RENAME, COPY, MOVE), or swapped databases. Free
 * when nothing is held. */
KH_MUST int hold_moved(struct hold *h, int64_t db, struct span key, struct err *err);
KH_MUST int hold_swapped(struct hold *h, int64_t a, int64_t b, struct err *err);

/* Settle some (up to about max_keys; 0: all). The lane must be idle; it is so again afterwards. */
KH_MUST int hold_settle(struct hold *h, struct lane *l, uint64_t max_keys, struct err *err);

#endif
