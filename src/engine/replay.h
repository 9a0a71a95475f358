// SPDX-License-Identifier: BSD-3-Clause
// The replay: the source's command stream, selected, mapped, made absolute in time, batched.
//
//   IDLE ──command──▶ BUILDING ──dry, full, or EXEC of the source──▶ sent (one in flight) ──▶
//   applied
//
// A batch is closed as soon as nothing more can be read at once, so batching costs no lag. A group
// MULTI ... EXEC of the source never straddles two batches (C6); its own MULTI and EXEC are not
// passed on, the batch's are around it. What is applied is acknowledged to the source (WAIT there
// counts it).
#ifndef KEYHAUL_ENGINE_REPLAY_H
#define KEYHAUL_ENGINE_REPLAY_H

#include "engine/batch.h"
#include "engine/pipeline.h"
#include "redis/facts.h"
#include "wire/cmd.h"
#include "wire/rdb/elems.h"

#define REPLAY_HELD_MAX                                                                            \
    (4u << 20) /* larger commands go through the batch's store piece by piece                      \
                */

#define REPLAY_TURNED_MAX (16u << 20) /* payload of a RESTORE that is given another type */

/* When held deadlines are settled: replay_settle.c. */
struct replay_settle {
    int64_t passed_ms; /* monotonic: when something was applied last */
    int64_t asked_ms;  /* passed_ms as it was when the source was asked whether it has more */
    uint64_t answers;  /* of the probe; those after this one tell */
    bool quiet;        /* it had no more */
    int64_t next_ms, next_round_ms, next_scan_ms;
};

struct replay {
    struct pipeline *pl;
    const struct db_select *select;
    const struct server_facts *source, *target;
    bool unlink, functions, spublish, idmp;
    bool told_idmp; /* that idempotent producers are forgotten, said once */

    struct resp_cmds cmds;
    struct buf scratch; /* a payload that is given a new footer */
    struct rdb_elems *elems;
    struct buf turned; /* a payload of another type */
    struct replay_old *old;
    const struct cmd_info *info; /* of the command at hand as it came, NULL unknown */
    struct span slotted;         /* its key, when the slot of that has been worked out ... */
    uint16_t slot;
    struct batch batch[2];
    unsigned cur;
    struct batch_checkpoint *checkpoint; /* written with each batch; NULL: none */
    uint64_t checkpoint_offset;          /* the last that the target has acknowledged */
    int64_t checkpoint_ms;               /* monotonic: when it was sent */

    /* Delete all keys of the shard's slots from the target's database, -1: from all that the task
     * goes to; of a source that is a shard. */
    int (*flush)(void *ctx, int64_t db, struct err *err);
    /* Called between two commands, outside of transactions; `dry`: none come. NULL: not. */
    int (*between)(void *ctx, bool dry, struct err *err);
    /* The source has let go of what it had of these slots; NULL: not asked. */
    int (*trimmed)(void *ctx, const struct slot_set *slots, struct err *err);
    void *shard_ctx;
    struct adopt *adopt; /* of the slot that it works on it tells what is applied; may be NULL */
    const char *existing_path; /* of what stood on the target before (reconcile.h); NULL: no such */
    int64_t dbs_known, dbs_end; /* target keeps its number of databases secret: it has those below
                                   the first, lacks those from the second on (0: not met yet) */
    uint64_t db;                /* the source's selected database */
    uint64_t db_max;            /* highest that it selected */
    bool file;                  /* an AOF is read: no offsets, no catching up */
    bool told_guess;            /* that relative times are counted from the file's own time */
    int64_t annotated_ms;       /* time annotated last, 0 none */
    int64_t hold_margin_ms;     /* of a file: nearer deadlines are held until its end */
    bool in_tx;                 /* between MULTI and EXEC of the source */
    bool mid_command;           /* a large command is going into the batch piece by piece */
    bool tx_passed;             /* something of it was passed on */
    int64_t now_ms;             /* when the command at hand was received */
    uint64_t offset;            /* behind the last command dealt with */
    uint64_t whole_offset;      /* the same, and outside of a transaction ... */
    uint64_t whole_db;          /* ... with this database selected */
    uint64_t ack_at;            /* to be acknowledged at once when applied (GETACK); 0 none */
    uint64_t answers_at_start;
    bool caught_up;  /* applied everything that the source had when it was asked, not long ago */
    uint64_t goal;   /* what it had */
    int64_t goal_ms; /* when that was told, monotonic; 0: not yet */
    bool finishing;  /* asked to end once caught up (pipeline.finish) */
    bool done;       /* it was to end once caught up, and has */
    uint64_t swaps;  /* of databases (hold.swaps), as of when nothing waited last */
    struct replay_settle settle;
    bool ending;
    int64_t end_by_ms;
    uint64_t end_pos;
};

struct replay_config {
    struct pipeline *pl;
    const struct server_facts *source, *target;
    const char *store_dir;
    uint64_t store_max_bytes;
    uint64_t db;                         /* database the stream begins in */
    uint64_t db_max;                     /* highest that is known to be in use, 0 unknown */
    struct batch_checkpoint *checkpoint; /* to be written with each batch; NULL: none. Borrowed. */
    int64_t hold_margin_ms;              /* for a file */
};

KH_MUST int replay_init(struct replay *rp, const struct replay_config *cfg, struct err *err);
void replay_release(struct replay *rp);

/* What was in flight and being built is forgotten: go on at the reader's place, where the source
 * has database `db` selected. May begin a scan for held deadlines, which needs a client then. */
KH_MUST int replay_restart(struct replay *rp, uint64_t db, struct err *err);

/* Follow the stream from the reader's place until told to stop, or caught up when the task wants
 * just that. On 0 everything dealt with is applied. On -1 what could be applied has been. */
KH_MUST int replay_run(struct replay *rp, struct err *err);

/* What of a file's end was left out, as the servers do: a command or transaction that is not whole.
 */
struct replay_cut {
    bool cut;
    uint64_t at; /* byte of the file where it begins */
};
/* The commands of an AOF, from the reader's place to the file's end. What is read before an error
 * is applied, except after one of the target. Held deadlines stay so: another file may follow. */
KH_MUST int replay_file(struct replay *rp, struct replay_cut *ret, struct err *err);

/* --- between replay.c and replay_rules.c --- */

static inline struct batch *replay_batch(struct replay *rp)
{
    return &rp->batch[rp->cur];
}

/* Deal with one command by its rule: into the batch, or not. */
KH_MUST int replay_rule(struct replay *rp, const struct cmd_info *info, const struct resp_cmd *cmd,
                        struct err *err);
/* What is in the batch now can go without what comes next; the same, and the batch is sent when
 * there is enough of it. */
KH_MUST int replay_mark(struct replay *rp, struct err *err);
KH_MUST int replay_flush_if_full(struct replay *rp, struct err *err);
/* Everything before the unfinished transaction, or the command at hand, is applied; of that
 * transaction nothing is, and what had been built of it is forgotten. */
KH_MUST int replay_barrier(struct replay *rp, struct err *err);
/* Has the target this database? 1, 0, -1. Asked beforehand, for EXEC goes on past a SELECT that
 * fails: what comes after would land in the database before. */
KH_MUST int replay_has_db(struct replay *rp, int64_t db, struct err *err);
/* A command of a database: 1 passed on may go (the batch has its database selected), 0 not
 * selected. */
KH_MUST int replay_selected(struct replay *rp, struct err *err);
/* Settle held deadlines that are due, some at a time. Nothing waits, is in flight or built, for a
 * note is of use only once its command has been applied; the lane is left as it was. */
KH_MUST int replay_settle_dry(struct replay *rp, struct err *err);  /* the stream ran dry */
bool replay_settle_full(struct replay *rp);                         /* it never does: is it time? */
KH_MUST int replay_settle_some(struct replay *rp, struct err *err); /* then this */
KH_MUST int replay_settle_all(struct replay *rp, struct err *err);  /* the end */
/* Deadlines within so long from `now_ms` on are held. */
int64_t replay_hold_margin(const struct replay *rp, int64_t now_ms);

/* Absolute deadline of an expiry in the command, -1 none: for commands passed on piece by piece. */
int64_t replay_deadline(struct replay *rp, const struct cmd_info *info, size_t argc,
                        const struct span *argv);

#endif
