// SPDX-License-Identifier: BSD-3-Clause
// What the run of one shard has from the group that it is of. All calls by the run's own thread.
//
//    plan ──▶ meet PLANNED ──▶ checks ──▶ meet CHECKED ──▶ turn ──▶ snapshot ──▶ stream ──▶ meet
//    DONE
//
// Nothing is written to the target before each shard has passed its checks, and no checkpoint goes
// before each shard has come to its end: a task is refused, or done, as a whole.
#ifndef KEYHAUL_CONTROL_MEMBER_H
#define KEYHAUL_CONTROL_MEMBER_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct member;
struct state;
struct import_mode;

enum member_stage {
    MEMBER_STARTED,
    MEMBER_PLANNED, /* what the target tells is known */
    MEMBER_CHECKED, /* nothing speaks against it */
    MEMBER_DONE,    /* all is on the target that was to be */
};

/* Wait until all shards have come so far. 1: what is to be done once falls to this one, and others
 * wait until member_go_on(). 0: that has been done. ERR_STOPPED. `step` (may be NULL): run
 * meanwhile, waits itself for at most max_wait_ms; its errors are its own. */
KH_MUST int member_meet(struct member *m, enum member_stage stage,
                        int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                        struct err *err);
void member_go_on(struct member *m, enum member_stage stage);

/* Of the whole task; its folder. Changed by this thread before CHECKED only. */
struct state *member_task_state(const struct member *m);
/* All shards have come to their end: from here on the folder counts no more. On disk. ERR_IO. */
KH_MUST int member_task_done(struct member *m, struct err *err);

/* Has the target a checkpoint of this shard? Before PLANNED. */
void member_tell_checkpoint(struct member *m, bool has);
/* After PLANNED: it has none of any shard, so the task begins anew. */
bool member_all_fresh(const struct member *m);
/* After PLANNED: the target knows the task, but its folder is new. */
bool member_unsure(const struct member *m);
/* Slots have come to it from other shards that are not settled yet: a snapshot settles them. */
bool member_has_unsettled(struct member *m);
/* The snapshot of all its slots is on the target. ERR_IO. */
KH_MUST int member_loaded(struct member *m, struct err *err);

/* To load a snapshot: false, it is another's turn. */
bool member_try_turn(struct member *m);
KH_MUST int member_wait_turn(struct member *m, struct err *err); /* ERR_STOPPED */
void member_end_turn(struct member *m);                          /* also when it has none */

/* The target's import mode is the task's: turned on once, turned off at the end. */
struct import_mode *member_import(struct member *m); /* written before CHECKED only */
void member_import_cluster(struct member *m);        /* before that: it is that of a cluster */
void member_import_ours(struct member *m);           /* a run had to turn it on again */

#endif
