// SPDX-License-Identifier: BSD-3-Clause
// Adopting slots that have come from another shard of a clustered source (docs/decisions/0004).
//
// The streams of two shards are not ordered with each other, so what the target has of such a slot
// may miss anything. Nothing of the slot is applied until it is adopted: what its keys are is read
// from its owner, at the owner's offset X, in one step; when the stream comes to X they are put on
// the target, just there, as if they had been in the stream; keys that the owner has not are
// deleted. From there on the slot's changes are applied as all others.
//
//   IDLE ─▶ NAMES ─▶ LIST ─▶ FETCH ─▶ WAIT ─stream is at X─▶ put ─┬─▶ adopted; next slot, or IDLE
//    ▲   (of the     (of a    ▲ (MULTI DUMP ... INFO EXEC)        │
//    │    target)    slot)    └───────────────── more of its keys ┘
//    └── anything fails, or the slot moves on: all of the slot again, later
//
// A large slot is read in several steps, in the order of a hash of its keys: a key that has been
// put takes part in the stream from its own X on. A command of several keys of which one has not
// been put is passed over, and all of its keys are read again.
//
// The slot that is worked on: adopt_takes() decides for its commands. Blocking clients, which let
// the pipeline step meanwhile. One owner thread.
#ifndef KEYHAUL_ENGINE_ADOPT_H
#define KEYHAUL_ENGINE_ADOPT_H

#include "engine/adopt_keys.h"
#include "engine/reconcile.h"
#include "engine/replay.h"
#include "engine/sorter.h"
#include "redis/primaries.h"
#include "redis/scan.h"

#define ADOPT_KEYS_MAX   (200u << 10) /* of one slot; with more a new snapshot is taken */
#define ADOPT_NAMES_MAX  (32u << 20)
#define ADOPT_VALUE_MAX  (32u << 20) /* of one key, as the source tells its memory; the same */
#define ADOPT_CHUNK      (2u << 20)  /* of values, read at once */
#define ADOPT_CHUNK_KEYS 256

enum adopt_state { ADOPT_IDLE, ADOPT_NAMES, ADOPT_LIST, ADOPT_FETCH, ADOPT_WAIT };

struct adopt_config {
    struct replay *rp;
    const char *existing_path; /* of what stood on the target before (reconcile.h) */
    /* To the owner of the shard's slots, a primary; and to the target, for reading. */
    int (*open_source)(void *ctx, struct client **ret, struct err *err);
    int (*open_target)(void *ctx, struct client **ret, struct cluster **ret_cluster,
                       struct err *err);
    /* All of the slot is on the target, or on its way, as of this offset. */
    void (*adopted)(void *ctx, uint16_t slot, uint64_t offset);
    void *ctx;
};

struct adopt {
    struct adopt_config cfg;
    enum adopt_state state;
    int64_t not_before_ms; /* monotonic: after a failure */
    bool gave_up;          /* there is no adopting: `why`. A snapshot is to be taken */
    struct err why;

    struct client *source;
    struct client *one;      /* the target's, owned; or: */
    struct cluster *cluster; /* borrowed */

    struct slot_set round; /* slots to be adopted with the names at hand */
    struct store names;    /* of keys on the target, by slot; a single server's: */
    uint64_t *names_at;    /* by slot: where its names begin, and end with the next's */
    struct sorter sorter;
    struct scan scan;
    bool scanning;
    struct slot_tags tags;

    unsigned slot; /* at hand, SLOT_COUNT none */
    struct adopt_keys keys, dirty;
    size_t next;       /* of keys: those before it have been put */
    uint64_t frontier; /* hash: those below it take part; */
    bool all_put;      /* ... all do */
    bool again;        /* what passed by could not be told: all of the slot again */
    size_t chunk_n;    /* of keys, read and not put yet */
    struct reply *values;
    bool relative;   /* deadlines are what is left, by the TIME behind them */
    uint64_t offset; /* X, ... */
    char replid[41]; /* ... of this history */

    struct reconcile existing;
    bool has_existing;
};

void adopt_init(struct adopt *a, const struct adopt_config *cfg);
void adopt_release(struct adopt *a); /* safe on zeroed */

static inline bool adopt_is_idle(const struct adopt *a)
{
    return a->state == ADOPT_IDLE;
}
/* A round of these slots; only when idle. */
KH_MUST int adopt_begin(struct adopt *a, const struct slot_set *slots, struct err *err);
/* Some of it. To be called between two commands, outside of transactions; `dry`: there are none.
 * Fails only as the replay does. */
KH_MUST int adopt_step(struct adopt *a, bool dry, struct err *err);
/* What is under way is forgotten, what was adopted stays so. */
void adopt_cancel(struct adopt *a);

/* The stream has deleted all keys of the slot at hand, of which some may have been put. */
void adopt_flushed(struct adopt *a);

/* Does the slot at hand let this command through? */
bool adopt_takes(struct adopt *a, const struct cmd_info *info, size_t argc,
                 const struct span *argv);

/* --- between adopt.c and adopt_read.c --- */

KH_MUST int adopt_open(struct adopt *a, struct err *err);
void adopt_close(struct adopt *a);
/* NAMES: 1 when all names are there, 0 not yet. */
KH_MUST int adopt_read_names(struct adopt *a, struct err *err);
/* The keys of the slot at hand, of both sides, into a->keys. ERR_UNSUPPORTED: too many. */
KH_MUST int adopt_list(struct adopt *a, struct err *err);
/* The next of a->keys, with their values and the offset. ERR_UNSUPPORTED: too large. */
KH_MUST int adopt_fetch(struct adopt *a, struct err *err);

/* Of key i of the chunk: its value (NULL: it is not there) and deadline in unix ms, -1 none. */
const struct reply *adopt_value(const struct adopt *a, size_t i, int64_t *ret_ms);

#endif
