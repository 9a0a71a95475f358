// SPDX-License-Identifier: BSD-3-Clause
// What the ways to run a task share: run.c (server to server), restore.c (files), backup.c,
// inspect.c.
#ifndef KEYHAUL_CONTROL_RUN_PARTS_H
#define KEYHAUL_CONTROL_RUN_PARTS_H

#include "check/check.h"
#include "control/run.h"
#include "control/task_flow.h"
#include "engine/adopt.h"
#include "engine/fan.h"
#include "engine/import_mode.h"
#include "engine/load.h"
#include "engine/reconcile.h"
#include "engine/redial.h"
#include "engine/replay.h"
#include "redis/psync.h"

#include <limits.h>

/* Where a migration goes on, by what the target says. */
enum run_plan {
    PLAN_FRESH,  /* it was never here: a snapshot, under the conflict policy */
    PLAN_RELOAD, /* it has loaded some of a snapshot: another one, reconciled */
    PLAN_STREAM, /* from the checkpoint */
};

/* A run; but for the first five, of one shard of several (group.h). */
struct run_setup {
    const struct task_config *cfg;
    struct state *state; /* of a migration, else NULL; borrowed */
    struct counters *counters;
    struct task_facts *facts;
    const atomic_bool *stop;
    const atomic_bool *finish; /* end once it has caught up */
    struct member *member;
};

struct run {
    const struct task_config *cfg;
    struct state *state; /* of a migration, else NULL; borrowed */
    struct counters *counters;
    struct task_facts *facts;
    const atomic_bool *stop;
    const atomic_bool *finish; /* of a shard; NULL: as the state tells */
    struct member *member;     /* of a group; NULL: the whole source is one server */
    struct client *source, *target, *probe;
    struct server_facts source_facts, target_facts;
    struct psync_result psync;
    char spool_dir[PATH_MAX];
    uint64_t spool_max;
    struct pipeline pl;
    struct load load;
    struct replay replay;
    bool has_pipeline, has_load, has_replay;

    /* a migration's own (migrate.c) */
    enum run_plan plan;
    bool known;         /* the task ran before, or has begun */
    bool met;           /* both sides, and nothing speaks against the task */
    bool began;         /* this process has written to the target */
    struct adopt adopt; /* of a shard (migrate_slots.c); goes with the replay */
    unsigned adopt_map; /* the map that its round is of */
    bool adopted;       /* something that is still to be confirmed */
    bool idle;          /* the checkpoint is claimed, and nothing has been sent since */
    int64_t adopt_at_ms, confirm_at_ms;
    struct checkpoint at; /* what the target told last */
    struct batch_checkpoint mark;
    char mark_key[CHECKPOINT_KEY_MAX];
    struct buf fence;
    struct import_mode import;
    struct reconcile reconcile;
    bool has_reconcile;
    struct redial *source_dial, *target_dial;
    struct conn *back; /* the source, found again, until its history's name is on the disk */
    struct client *back_probe;
    int64_t save_ms, save_until_ms; /* that is tried again then, and given up; 0: not yet tried */
    /* a target that is a cluster (migrate_cluster.c) */
    struct cluster *cluster; /* NULL: it is none */
    struct fan *fan;
    struct fan_place *place;         /* where the stream goes on, until it does */
    char load_id[9];                 /* names the snapshot */
    uint64_t begin_offset, begin_db; /* where its stream began */
    int64_t lost_since_ms;           /* monotonic; 0: nothing is lost */
    int64_t failing_since_ms;        /* monotonic: no snapshot has come since; 0: one has */
    int64_t target_until_ms;         /* the target is called until then */
    int64_t why_ms;                  /* monotonic: why it is, told again */
    bool gave_up;                    /* a side was called for as long as was asked */
    int64_t pause_ms;        /* before the next try; 0: it has been caught up since the last one */
    uint64_t refused_before; /* as state_progress.refused, when the pipeline was built */
    int64_t refused_ms;      /* monotonic: when that was saved last */
    bool told_refused;
    bool renamed_unheard; /* since the target was lost, the source's history has got a new name */
    bool torn; /* some of what is beyond the checkpoint has been applied, or is missing before it */
};

KH_MUST static inline int run_phase(struct run *r, enum phase p, struct err *err)
{
    return task_flow_phase(&r->counters->phase, p, err);
}

/* Whoever holds the target's keys. */
struct primaries run_target(struct run *r);
/* Connect to the source and learn what it is. */
KH_MUST int run_meet_source(struct run *r, struct err *err);
/* Become its replica, up to the first byte of the snapshot, on r->psync.conn. */
KH_MUST int run_attach(struct run *r, struct err *err);
/* The reader stands behind the RDB: is that the end that was announced? */
KH_MUST int run_snapshot_end(const struct psync_result *ps, struct reader *in, struct err *err);
/* Connect to the target and learn what it is. */
KH_MUST int run_meet_target(struct run *r, struct err *err);
void run_tell_notes(const struct check_notes *notes);
/* At the end: a pattern that no key matched is likely a slip. */
void run_tell_selection(const struct run *r);
KH_MUST int run_choose_spool(struct run *r, struct err *err);
uint64_t run_store_max(const struct run *r);
/* Load the snapshot at the reader's place. */
KH_MUST int run_load(struct run *r, struct err *err);
/* Stopped while loading: what is in flight is finished. Always -1. */
int run_stopped_in_load(struct run *r, struct err *err);

/* The whole task with a file in the source's place (cfg->file). */
KH_MUST int run_restore(struct run *r, struct err *err);
/* The whole task with a file in the target's place (cfg->backup). */
KH_MUST int run_backup(struct run *r, struct err *err);
void run_release(struct run *r);
/* Pipeline, load, replay: to be built anew. */
void run_release_parts(struct run *r);

/* The whole of a migration. */
KH_MUST int run_migrate(struct run *r, struct err *err);
/* The same of one shard, from set-up to release. *ret_refused: writes refused for good. */
KH_MUST int run_shard(const struct run_setup *setup, uint64_t *ret_refused, struct err *err);
KH_MUST int run_open_side(struct run *r, const struct task_side *side, const char *name,
                          struct client **ret, struct err *err);
/* The target, for what is to be done although the task was told to stop. */
KH_MUST int run_open_at_end(struct run *r, struct client **ret, struct err *err);
/* Prechecks; `conflicts`: under the policy `fail`, by key. */
KH_MUST int run_check(struct run *r, bool conflicts, struct err *err);
struct psync_request run_psync_request(struct run *r);
struct spool_config run_spool_config(const struct run *r);
/* The snapshot that PSYNC has announced, up to its first byte. */
KH_MUST int run_await_snapshot(struct run *r, struct err *err);
/* The pipeline, of r->psync.conn, r->target and r->probe, which it takes; and of a spool (taken,
 * also on failure), NULL: a new one. */
KH_MUST int run_build(struct run *r, struct spool *spool, struct err *err);
void run_tell_loaded(const struct run *r);

/* --- between migrate.c and migrate_lost.c --- */

/* Everything of this attempt goes, but for a snapshot that is on its way. */
void migrate_let_go(struct run *r);

/* Into the state, unless it is NULL: what the target has refused for good by now, and is missing.
 */
void run_note_refused(struct run *r);

/* The source is to be called again by itself, whenever it is lost. */
void migrate_keep_source(struct run *r);
/* The target is lost: drain the source, call the target. 0: r->pl goes on with it. 1: it is there,
 * but not where the stream could go on. -1. */
KH_MUST int migrate_find_target(struct run *r, struct err *err);
KH_MUST int migrate_take_target(struct run *r, struct err *err);
/* Both sides again, in place, and a plan; but for a source whose snapshot is on its way (r->psync).
 */
void migrate_note_history(struct run *r);
KH_MUST int migrate_read_plan(struct run *r, struct err *err);
KH_MUST int migrate_meet_again(struct run *r, struct err *err);
/* The source has failed over since, and what has been applied beyond the checkpoint is not known:
 * that is kept, and both sides are met again, by a plan that loads. */
KH_MUST int migrate_load_instead(struct run *r, struct err *err);
/* Changes only: always -1. */
KH_MUST int migrate_cannot_follow(const struct run *r, const char *why, struct err *err);

/* --- migrate_shard.c: of a run with a member --- */

void shard_read_plan(struct run *r);
KH_MUST int shard_meet_planned(struct run *r, struct err *err);
KH_MUST int shard_meet_checked(struct run *r, struct err *err);
KH_MUST int shard_keep_time(struct run *r, struct err *err);
void shard_give_time_back(struct run *r);
void shard_begin_replay(struct run *r);
KH_MUST int shard_take_turn(struct run *r, struct err *err);
KH_MUST int shard_end_full(struct run *r, struct err *err);
KH_MUST int shard_end_stream(struct run *r, struct err *err);
KH_MUST int shard_end_again(struct run *r, struct err *err);

/* --- migrate_slots.c --- */

void shard_begin_load(struct run *r, struct load_config *cfg);
void shard_begin_adopting(struct run *r);
KH_MUST int shard_go_back(struct run *r, uint64_t offset, struct err *err);
/* Is the server at the other end a node of this shard? ERR_BUSY: not any more. */
KH_MUST int shard_check_node(struct run *r, struct client *c, struct err *err);
/* Nothing is under way, as long as r->idle says so. */
void shard_idle(struct run *r);
KH_MUST int shard_tick(void *ctx, struct err *err);
/* Ended, and not to be begun again: its checkpoint goes. */
void shard_leave(struct run *r);

/* --- migrate_cluster.c --- */

/* The target is part of a cluster: its map, whole. */
KH_MUST int migrate_meet_cluster(struct run *r, struct err *err);
/* The same cluster by clients of its own, for what is to be done although the task was told to
 * stop. */
KH_MUST int migrate_open_at_end(struct run *r, struct cluster **ret, struct err *err);
/* Any node was met: instead, r->target is a primary, and the facts are what all have in common. */
KH_MUST int migrate_know_cluster(struct run *r, struct err *err);
/* The client to where the checkpoint is; it stays another's. */
KH_MUST int migrate_mark_client(struct run *r, struct client **ret, struct err *err);
KH_MUST int migrate_read_slots(struct run *r, struct err *err);
KH_MUST int migrate_name_load(struct run *r, struct err *err);
KH_MUST int migrate_open_fan(struct run *r, struct err *err);
KH_MUST int migrate_begin_fan(struct run *r, bool again, struct err *err);
/* As migrate_find_target(). */
KH_MUST int migrate_find_cluster(struct run *r, struct err *err);
KH_MUST int migrate_take_cluster(struct run *r, struct err *err);
KH_MUST int migrate_unmark_cluster(struct run *r, struct err *err);
void migrate_release_cluster(struct run *r);

#endif
