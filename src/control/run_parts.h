// SPDX-License-Identifier: BSD-3-Clause
// What the ways to run a task share: run.c (server to server), restore.c (files), backup.c,
// inspect.c.
#ifndef KEYHAUL_CONTROL_RUN_PARTS_H
#define KEYHAUL_CONTROL_RUN_PARTS_H

#include "check/check.h"
#include "control/run.h"
#include "engine/load.h"
#include "engine/replay.h"
#include "redis/psync.h"

#include <limits.h>

struct run {
    const struct task_config *cfg;
    struct state *state; /* of a migration, else NULL; borrowed */
    struct counters *counters;
    struct task_facts *facts;
    const atomic_bool *stop;
    struct client *source, *target, *probe;
    struct server_facts source_facts, target_facts;
    struct psync_result psync;
    char spool_dir[PATH_MAX];
    uint64_t spool_max;
    struct pipeline pl;
    struct load load;
    struct replay replay;
    bool has_pipeline, has_load, has_replay;
};

static inline void run_phase(struct run *r, enum phase p)
{
    counter_set(&r->counters->phase, p);
}

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

#endif
