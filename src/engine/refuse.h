// SPDX-License-Identifier: BSD-3-Clause
// What to make of a target's "no": one place decides, counts and names every refused write (C7).
#ifndef KEYHAUL_ENGINE_REFUSE_H
#define KEYHAUL_ENGINE_REFUSE_H

#include "base/span.h"
#include "engine/counters.h"
#include "engine/losses.h"
#include "engine/task.h"

enum refusal {
    REFUSAL_TRANSIENT, /* OOM, READONLY, LOADING, BUSY ...: goes away, send again in order */
    REFUSAL_EXISTS,    /* BUSYKEY: the key is there already */
    REFUSAL_HARD,      /* anything else: by policy stop or continue */
};

/* `line` is an error reply without its '-'. Looks through "EXECABORT ... because of: OOM ...". */
enum refusal refusal_classify(const char *line);

/* MOVED, ASK, TRYAGAIN, CLUSTERDOWN, by itself or inside EXECABORT: the node of a cluster does not
 * have the slot now. Nothing was applied. */
bool refusal_is_redirect(const char *line);

/* Of those that pass: is the target out of memory? */
bool refusal_is_oom(const char *line);

struct refusals {
    enum task_on_error policy;
    enum task_on_unsupported on_unsupported;
    struct counters *counters;
    bool shard; /* of a cluster: other shards send FUNCTION DELETE of the same libraries */
    uint64_t count;
    uint64_t missing; /* of them, those that are not sent again by a run that goes on where this one
                       * ends: under stop, what came with them has been applied */
    struct losses losses; /* what values of the snapshot had to leave behind */
};

/* A write was refused for good. Counts and logs it; 0 when the policy says continue, -1
 * (ERR_TARGET) when it says stop. The server's words are passed on, never the value. key may be
 * empty. */
KH_MUST int refusals_report(struct refusals *r, int64_t db, struct span key, const char *cmd,
                            const char *line, struct err *err);

/* Where a key of the snapshot comes from, and where it was to go. */
struct refused_key {
    int64_t source_db, db;
    struct span key;
};
/* The target cannot hold a value of the snapshot, `words` say why. By --on-unsupported: fail is an
 * error as above, skip and degrade leave the key out, named and counted. */
KH_MUST int refusals_unsupported(struct refusals *r, const struct refused_key *k, const char *what,
                                 const char *words, struct err *err);
/* A key of the snapshot was refused for good; of a module's value it may be that the target lacks
 * the module. */
KH_MUST int refusals_restore(struct refusals *r, const struct refused_key *k, bool module,
                             const char *line, struct err *err);

#endif
