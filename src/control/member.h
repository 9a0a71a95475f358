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

#include "wire/slot_set.h"

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
 * wait until member_go_on(). 0: that has been done. 2: at DONE: slots have come to it meanwhile,
 * so it has not come so far. ERR_STOPPED. `step` (may be NULL): run
 * meanwhile, waits itself for at most max_wait_ms; its errors are its own. */
KH_MUST int member_meet(struct member *m, enum member_stage stage,
                        int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                        struct err *err);
void member_go_on(struct member *m, enum member_stage stage);

/* It came when the task was under way: nothing that passes is a mistake of the user's. */
bool member_is_late(const struct member *m);
/* How many shards there are. */
unsigned member_count(const struct member *m);
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

/* Its stream begins, or goes on: when all have come so far, so has the task. ERR_IO. */
KH_MUST int member_streams(struct member *m, struct err *err);

/* --- slots that move --- */

/* The slots of the configuration (cfg.slots) are those that the run acts upon: it owns them, and
 * has adopted those that came from another shard. The run takes a new map over when nothing is
 * under way that the old one would let through, and says so when nothing is any more. */
bool member_map_changed(const struct member *m);
unsigned member_map(const struct member *m); /* the number of that which was taken over last */
void member_owned(struct member *m, struct slot_set *ret);
void member_take_map(struct member *m);
void member_ack_map(struct member *m);
/* Both, of a run that has sent nothing since it claimed its checkpoint, or has had all answered. */
void member_idle(struct member *m);

/* Are there slots to be adopted, whether they can be now or not? The second costs nothing. */
bool member_has_unsettled(struct member *m);
/* Nothing is to be adopted, or adopted and not known to be applied: the stream may end. */
bool member_is_settled(struct member *m);
bool member_waits(const struct member *m);
/* Those that can be: every run has taken over the map in which they are this one's. */
void member_adoptable(struct member *m, struct slot_set *ret);
/* Of these those that have not moved since that map. */
void member_adoptable_since(struct member *m, unsigned map, struct slot_set *ret);
/* Slots that the run acts upon, and is to adopt again. ERR_IO. */
KH_MUST int member_unsettle(struct member *m, const struct slot_set *slots, struct err *err);
/* Those that it owns, adopted or not; changed with cfg.slots. */
const struct slot_set *member_slots_held(const struct member *m);
/* All of the slot is on the target, or on its way, as of that offset. */
void member_adopted(struct member *m, uint16_t slot, uint64_t offset);
/* Everything up to that offset is applied, and the next run goes on there at least. 1: nothing is
 * left to be confirmed. ERR_IO. */
KH_MUST int member_confirm(struct member *m, uint64_t offset, struct err *err);
/* The stream goes on at this offset: what was adopted behind it is to be adopted again. ERR_IO. */
KH_MUST int member_go_back(struct member *m, uint64_t offset, struct err *err);

/* Adopting does not do, a snapshot is to be taken; until one has been loaded. */
void member_must_reload(struct member *m);
bool member_reloads(struct member *m);
/* A snapshot is about to be asked for; `late`: it has been already. It brings what can be adopted
 * now. */
void member_begin_load(struct member *m, bool late);
KH_MUST int member_loaded(struct member *m, struct err *err); /* ERR_IO */

/* Its slots have all gone to others: the run is to end, and its checkpoint to go. */
bool member_is_leaving(const struct member *m);

/* The addresses of its nodes, when they are others than before: true, and cfg has them. Not while
 * another thread uses them. */
bool member_new_addresses(const struct member *m);
void member_take_addresses(struct member *m);
/* Is this node one of the shard's? */
bool member_knows_node(struct member *m, const char *id);

/* To load a snapshot: false, it is another's turn. */
bool member_try_turn(struct member *m);
KH_MUST int member_wait_turn(struct member *m, struct err *err); /* ERR_STOPPED */
void member_end_turn(struct member *m);                          /* also when it has none */

/* The target's import mode is the task's: turned on once, turned off at the end. */
struct import_mode *member_import(struct member *m); /* written before CHECKED only */
void member_import_cluster(struct member *m);        /* before that: it is that of a cluster */
void member_import_ours(struct member *m);           /* a run had to turn it on again */

#endif
