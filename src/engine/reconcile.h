// SPDX-License-Identifier: BSD-3-Clause
// Making a target equal to a new snapshot without emptying it: keys of the snapshot replace what is
// there, keys that are not in it are deleted, but not those that were never the task's.
//
//   first load   reconcile_note_existing() before it: what stands on the target already
//   later ones   reconcile_begin, reconcile_seen for each key loaded, reconcile_sweep,
//   reconcile_end
//
// All of it for the databases that the task selects. Checkpoint keys of any task are left alone.
// Talks to the target over a client of its own, so the lane need not be idle.
#ifndef KEYHAUL_ENGINE_RECONCILE_H
#define KEYHAUL_ENGINE_RECONCILE_H

#include "engine/counters.h"
#include "engine/select.h"
#include "io/keyset.h"
#include "redis/facts.h"

struct reconcile {
    struct keyset *existing; /* stood there before the first load; NULL none */
    struct keyset *seen;     /* of this snapshot */
    const struct db_select *select;
    struct counters *counters;
    const char *dir; /* for files without a name; borrowed */
};

/* `existing_path`: written by a first load; where it is not there, there were none. */
KH_MUST int reconcile_begin(struct reconcile *rc, const struct db_select *select,
                            struct counters *counters, const char *dir, const char *existing_path,
                            struct err *err);
void reconcile_end(struct reconcile *rc); /* safe on zeroed */

/* A key of the snapshot, target database `db`, was seen (whether written or not). */
KH_MUST int reconcile_seen(struct reconcile *rc, int64_t db, struct span key, struct err *err);
/* Policy skip: is it one that stood there before? 1, 0, -1. */
KH_MUST int reconcile_existed(struct reconcile *rc, int64_t db, struct span key, struct err *err);

/* All keys of the snapshot are on the target: delete what is not in it. Passing faults (LOADING,
 * BUSY, READONLY ...) end it with ERR_BUSY: it may be run again from the start. Runs `step` (may be
 * NULL) at least every 100 ms. */
KH_MUST int reconcile_sweep(struct reconcile *rc, struct client *target,
                            const struct server_facts *facts,
                            int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                            uint64_t *ret_deleted, struct err *err);

/* Before a first load: note the keys of the target's selected databases in a file at `path`; no
 * file when there are none. */
KH_MUST int reconcile_note_existing(struct client *target, const struct server_facts *facts,
                                    const struct db_select *select, const char *dir,
                                    const char *path, struct err *err);

#endif
