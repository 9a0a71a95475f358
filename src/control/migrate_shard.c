// SPDX-License-Identifier: BSD-3-Clause
// What a migration does otherwise when it is that of one shard: decisions and what is there once on
// the target are shared with the others (member.h).
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "control/member.h"
#include "engine/checkpoint_io.h"

/* --- the plan --- */

/* Slots that came from another shard hold keys that this task has brought: a first load would meet
 * them as a stranger's. And whatever it is that they miss, a snapshot has it. */
void shard_read_plan(struct run *r)
{
    bool was_here = state_progress(r->state)->phase != STATE_NEW;
    bool unsettled = member_has_unsettled(r->member);
    member_tell_checkpoint(r->member, r->at.kind != CHECKPOINT_NONE);
    if (r->plan == PLAN_FRESH && (was_here || unsettled)) r->plan = PLAN_RELOAD;
    if (r->plan == PLAN_STREAM && member_reloads(r->member)) r->plan = PLAN_RELOAD;
    r->known = was_here;
    r->idle = true;
    shard_idle(r);
}

int shard_meet_planned(struct run *r, struct err *err)
{
    int rc = member_meet(r->member, MEMBER_PLANNED, NULL, NULL, err);
    if (rc < 0) return -1;
    if (rc == 1) {
        if (member_all_fresh(r->member) && state_known(member_task_state(r->member)))
            log_info("the target has no checkpoint of the task: it begins anew");
        if (member_unsure(r->member))
            log_warn("the folder of this task is new, but the target knows the task: each shard is "
                     "copied again, and no key that is on the target now will be deleted");
        member_go_on(r->member, MEMBER_PLANNED);
    }
    if (member_all_fresh(r->member)) r->plan = PLAN_FRESH;
    /* Which slots have moved meanwhile nobody knows. */
    if (member_unsure(r->member) && r->plan == PLAN_STREAM) r->plan = PLAN_RELOAD;
    return 0;
}

/* --- once for all --- */

static int note_existing(struct run *r, struct err *err)
{
    const char *dir = state_dir(member_task_state(r->member));
    const char *path = state_existing_path(r->state);
    struct primaries target = run_target(r);
    target.slots = NULL; /* of all shards */
    if (member_all_fresh(r->member))
        return reconcile_note_existing(&target, &r->target_facts, &r->cfg->select, dir, path, err);
    if (!member_unsure(r->member)) return 0;
    return reconcile_note_unsure(&target, &r->target_facts, &r->cfg->select, dir, path, err);
}

/* From here on the task counts. */
static int begin_task(struct run *r, struct err *err)
{
    struct state *task = member_task_state(r->member);
    struct state_progress *p = state_progress(task);
    struct import_mode *im = member_import(r->member);
    struct primaries target = run_target(r);
    if (note_existing(r, err) < 0) return -1;
    if (r->cfg->type != TASK_FULL) {
        if (import_mode_look(im, &target, &r->target_facts, p->import_ours, err) < 0) return -1;
        if (im->can && !im->was_on) p->import_ours = true;
    }
    if (r->cluster) member_import_cluster(r->member);
    if (p->phase != STATE_STREAM && task_flow_state(&p->phase, STATE_LOADING, err) < 0) return -1;
    if (state_save(task, err) < 0) return -1;
    return import_mode_begin(im, &target, err);
}

int shard_meet_checked(struct run *r, struct err *err)
{
    int rc = member_meet(r->member, MEMBER_CHECKED, NULL, NULL, err);
    if (rc <= 0) return rc;
    if (begin_task(r, err) < 0) return -1;
    member_go_on(r->member, MEMBER_CHECKED);
    return 0;
}

int shard_keep_time(struct run *r, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    if (r->cfg->type == TASK_FULL) return 0;
    r->import = *member_import(r->member);
    r->import.was_on = true; /* only this connection is to be marked */
    r->import.ours = false;
    if (!p->hold_base_ms) p->hold_base_ms = clock_wall_ms();
    if (state_save(r->state, err) < 0) return -1;
    struct primaries target = run_target(r);
    return import_mode_on(&r->import) ? import_mode_begin(&r->import, &target, err) : 0;
}

void shard_give_time_back(struct run *r)
{
    if (r->import.ours) member_import_ours(r->member);
}

/* --- FLUSHALL of the shard --- */

/* A slot whose mark lies behind the FLUSH has had it: what came after it there would be taken for
 * done, and not sent again. */
static struct slot_set slots_to_flush(const struct run *r)
{
    struct slot_set s = *r->cfg->slots;
    uint64_t at = pipeline_offset(&r->pl);
    for (unsigned i = slot_set_next(&s, 0); r->fan && i < SLOT_COUNT; i = slot_set_next(&s, i + 1))
        if (fan_slot_applied(r->fan, (uint16_t)i) >= at) slot_set_remove(&s, (uint16_t)i);
    return s;
}

static int flush_once(struct run *r, int64_t db, struct err *err)
{
    struct client *mark;
    client_close(r->target);
    r->target = NULL;
    if (!r->cluster && (run_open_side(r, &r->cfg->target, "target", &r->target, err) < 0 ||
                        checkpoint_evict_sweeps(r->target, state_name(r->state), err) < 0))
        return -1;
    /* Known by name, so that whoever takes over ends it; and not without being asked. */
    if (migrate_mark_client(r, &mark, err) < 0 ||
        checkpoint_verify(mark, r->mark.db, r->mark.key, r->mark.owner, err) < 0)
        return -1;
    struct primaries target = run_target(r);
    struct slot_set slots = slots_to_flush(r);
    target.slots = &slots;
    return reconcile_flush(&target, &r->target_facts, &r->cfg->select, db, r->spool_dir,
                           pipeline_step, &r->pl, err);
}

/* The map of a cluster is not read again by itself: a primary that is none any more would be asked
 * for ever. */
static int look_again(struct run *r, struct err *err)
{
    bool moved;
    return r->fan ? fan_look(r->fan, &moved, err) : 0;
}

/* What passes is waited out. A lane that is lost meanwhile ends it: the FLUSH is met again. */
static int flush(void *ctx, int64_t db, struct err *err)
{
    struct run *r = ctx;
    struct err why;
    int rc;
    while ((rc = flush_once(r, db, &why)) < 0) {
        bool passes = why.code == ERR_BUSY || why.code == ERR_NET;
        if (!passes || r->pl.lane.lost) {
            *err = why;
            break;
        }
        if (lane_pause(&r->pl.lane, why.msg, err) < 0 || look_again(r, err) < 0) break;
    }
    if (rc == 0) lane_recovered(&r->pl.lane);
    client_close(r->target);
    r->target = NULL;
    return rc;
}

void shard_begin_replay(struct run *r)
{
    r->replay.flush = flush;
    r->replay.shard_ctx = r;
    shard_begin_adopting(r);
}

/* --- turns --- */

/* A snapshot that has to wait for others is asked for when it is its turn. 1: it has waited, and
 * both sides were met again. */
int shard_take_turn(struct run *r, struct err *err)
{
    if (member_try_turn(r->member)) return 0;
    psync_release(&r->psync);
    migrate_let_go(r);
    counters_wait(r->counters, COUNTERS_WAITS_FOR_TURN, 0, "");
    int rc = member_wait_turn(r->member, err);
    counters_wait(r->counters, COUNTERS_WAITS_FOR_NONE, 0, "");
    if (rc < 0) return -1;
    return migrate_meet_again(r, err) < 0 ? -1 : 1;
}

/* --- the end --- */

/* The checkpoint goes when all shards have come so far: until then each can go on. */
static int end_together(struct run *r, bool keeps_up, struct err *err)
{
    struct client *c = NULL;
    int rc = keeps_up ? member_meet(r->member, MEMBER_DONE, pipeline_step, &r->pl, err)
                      : member_meet(r->member, MEMBER_DONE, NULL, NULL, err);
    if (rc < 0 || rc == 2) return rc;
    if (rc == 1) {
        if (member_task_done(r->member, err) < 0) return -1;
        member_go_on(r->member, MEMBER_DONE);
    }
    if (r->cluster) return migrate_unmark_cluster(r, err);
    struct err why;
    if (run_open_at_end(r, &c, &why) < 0 || checkpoint_remove(c, r->mark.db, r->mark.key, &why) < 0)
        log_warn("%s: the key %s may be left there; delete it", why.msg, r->mark_key);
    client_close(c);
    return 0;
}

/* Loaded, and nothing is to follow. 1: slots have come meanwhile, all is to be loaded again. */
int shard_end_full(struct run *r, struct err *err)
{
    if (task_flow_state(&state_progress(r->state)->phase, STATE_DONE, err) < 0 ||
        state_save(r->state, err) < 0)
        return -1;
    run_release_parts(r);
    member_end_turn(r->member);
    r->idle = true;
    int rc = end_together(r, false, err);
    if (rc != 2) return rc;
    log_info("slots have come from other shards: all is loaded again");
    state_progress(r->state)->phase = STATE_LOADING;
    return state_save(r->state, err) < 0 ? -1 : 1;
}

/* Caught up, and asked to end. 1: slots have come meanwhile, the stream is to go on. */
int shard_end_stream(struct run *r, struct err *err)
{
    int rc = end_together(r, true, err);
    if (rc == 2) log_info("slots have come from other shards: the stream goes on");
    return rc == 2 ? 1 : rc;
}

/* A run before this one has done all that there was to be done. */
int shard_end_again(struct run *r, struct err *err)
{
    counter_set(&r->counters->phase, PHASE_DONE);
    int rc = end_together(r, false, err);
    return rc == 2 ? err_set(err, ERR_BUSY, "slots have come from other shards") : rc;
}
