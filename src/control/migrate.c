// SPDX-License-Identifier: BSD-3-Clause
// A migration: where it begins, what is done when a side is lost (docs/decisions/0003).
//
//                        ┌────────── hole in the history, or lost while loading ───────────┐
//                        ▼                                                                 │
//   plan ──FRESH──▶ snapshot, by the policy ──▶ follow ◀── target again ── target lost ◀───┤
//     │                                          ▲  │                                      │
//     ├──RELOAD─▶ snapshot, reconciled ──────────┤  └──────────────────────────────────────┘
//     │                                          │
//     └──STREAM─▶ PSYNC from the checkpoint ─────┘
//
// The plan is made of what the target says (its checkpoint), never of our own files alone.
#include "control/member.h"
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "engine/checkpoint_io.h"
#include "engine/replay_rules.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REFUSED_MS 1000

/* --- the checkpoint --- */

static int name_checkpoint(struct run *r, struct err *err)
{
    struct batch_checkpoint *m = &r->mark;
    buf_init(&r->fence, 2 * (CHECKPOINT_KEY_MAX + 64));
    int n = snprintf(r->mark_key, sizeof(r->mark_key), CHECKPOINT_PREFIX "%s",
                     state_name(r->state));
    m->key = span_of(r->mark_key, (size_t)n);
    m->db = checkpoint_db(&r->cfg->select);
    struct span watch[] = {span_str("WATCH"), m->key}, get[] = {span_str("GET"), m->key};
    memcpy(m->owner, "00000000", sizeof(m->owner));
    if (resp_put_cmd(&r->fence, 2, watch, err) < 0) return -1;
    return resp_put_cmd(&r->fence, 2, get, err);
}

static struct checkpoint place(const struct run *r, enum checkpoint_kind kind, uint64_t offset,
                               uint64_t db)
{
    struct checkpoint c = {.kind = kind, .offset = offset, .db = db};
    memcpy(c.owner, r->mark.owner, sizeof(c.owner));
    memcpy(c.replid, r->mark.replid, sizeof(c.replid));
    memcpy(c.load, r->load_id, sizeof(c.load));
    return c;
}

/* Over a connection of its own, for what a lane answers is not read. */
static int mark_stream(struct run *r, uint64_t db, struct err *err)
{
    struct checkpoint at = place(r, CHECKPOINT_STREAM, r->pl.applied_offset, db);
    struct client *c;
    r->begin_offset = at.offset;
    r->begin_db = db;
    if (migrate_mark_client(r, &c, err) < 0 ||
        checkpoint_replace(c, r->mark.db, r->mark.key, &at, false, err) < 0)
        return -1;
    client_close(r->target);
    r->target = NULL;
    return 0;
}

static int save(struct run *r, struct err *err)
{
    return state_save(r->state, err);
}

static int become(struct run *r, enum state_phase to, struct err *err)
{
    return task_flow_state(&state_progress(r->state)->phase, to, err);
}

static int unmark(struct run *r, struct err *err)
{
    /* Before the checkpoint goes: whoever is killed in between leaves a folder that counts no more.
     */
    if (become(r, STATE_DONE, err) < 0 || save(r, err) < 0) return -1;
    if (r->cluster) return migrate_unmark_cluster(r, err);
    struct lane *l = &r->pl.lane;
    struct span argv[] = {span_str("DEL"), r->mark.key};
    if (lane_call_strs(l, r->mark.db, 2, argv, err) < 0) return -1;
    if (l->outcome.last.type == '-')
        log_warn("target: cannot delete %s: %s", r->mark_key, l->outcome.last.line);
    return 0;
}

/* --- what was refused --- */

/* At once, and then once in a second: the run that comes after this one is to know. */
static void on_refused(void *ctx)
{
    struct run *r = ctx;
    struct err err;
    int64_t now = clock_mono_ms();
    run_note_refused(r);
    if (r->refused_ms && now - r->refused_ms < REFUSED_MS) return;
    r->refused_ms = now;
    if (save(r, &err) < 0) log_warn("%s", err.msg);
}

static void keep_refused(struct run *r)
{
    struct err err;
    run_note_refused(r);
    if (state_progress(r->state)->refused && save(r, &err) < 0) log_error("%s", err.msg);
}

/* --- the plan --- */

static void forget_existing(struct run *r)
{
    if (unlink(state_existing_path(r->state)) == 0)
        log_debug("what was noted of the target before is out of date");
}

/* We were never here, but the target says that the task was: which of its keys were there before
 * nobody knows any more, so none of them is deleted. */
static int note_all(struct run *r, struct err *err)
{
    log_warn("the folder of this task is new, but the target knows the task: no key that is on the "
             "target now will be deleted, should a new snapshot be needed");
    struct primaries target = run_target(r);
    return reconcile_note_unsure(&target, &r->target_facts, &r->cfg->select, state_dir(r->state),
                                 state_existing_path(r->state), err);
}

/* Beyond the checkpoint, writes are missing that the target has refused in a run before. Whoever
 * has not said that they may be left out wants them all the same. */
static bool lacks_writes(const struct run *r)
{
    return !r->began && r->cfg->on_error == TASK_ON_ERROR_STOP &&
           state_progress(r->state)->refused > 0;
}

static int plan_for_refused(struct run *r, struct err *err)
{
    unsigned long long n = state_progress(r->state)->refused;
    if (r->plan != PLAN_STREAM || !lacks_writes(r)) return 0;
    if (r->cfg->type == TASK_INCREMENTAL)
        return err_set(err, ERR_REFUSED,
                       "writes of task %s that the target has refused (%llu) are missing there and "
                       "cannot be had again, as it moves changes only: --on-error continue goes on "
                       "without them; to have all: --type full+incremental --on-conflict overwrite "
                       "--restart",
                       state_name(r->state), n);
    if (!r->told_refused)
        log_warn("writes that the target refused in a run before (%llu) are missing there: "
                 "everything is copied again; the target is not emptied (--on-error continue goes "
                 "on without them)",
                 n);
    r->told_refused = true;
    r->plan = PLAN_RELOAD;
    return 0;
}

/* No snapshot could bring what came between. */
static int plan_changes_only(struct run *r, bool known, bool restart, struct err *err)
{
    if (r->cfg->type != TASK_INCREMENTAL || r->plan == PLAN_STREAM) return 0;
    if ((known || r->plan != PLAN_FRESH) && !restart)
        return err_set(
            err, ERR_REFUSED,
            "task %s moves changes only, and from where on is not known any more (it was "
            "cut off while it attached, or the target has lost its checkpoint). "
            "--restart follows from now on, without what was written in between; to have "
            "all: --type full+incremental --on-conflict overwrite --restart",
            state_name(r->state));
    r->plan = PLAN_FRESH;
    return 0;
}

/* Names made of "localhost" are easily the same on two machines: before anything is claimed, which
 * would end whoever runs that task. */
static int check_whose_name(struct run *r, struct client *c, struct err *err)
{
    const struct server_facts *f = &r->source_facts;
    struct checkpoint at;
    if (r->known || r->began || r->member || r->cfg->restart || !f->replid[0]) return 0;
    if (checkpoint_look(c, r->mark.db, r->mark.key, &at, err) < 0) return -1;
    if (at.kind != CHECKPOINT_STREAM || !at.replid[0]) return 0;
    if (strcmp(at.replid, f->replid) == 0 || strcmp(at.replid, f->replid2) == 0) return 0;
    return err_set(err, ERR_REFUSED,
                   "the target knows a task %s of another source (or of this one before it lost "
                   "its replication history): choose another name with --task; --restart takes "
                   "that one over, with a new snapshot",
                   state_name(r->state));
}

/* It was seen that the stream cannot be gone on with, and only our own folder knows yet; or the
 * target has lost what said so. Where it is a cluster, its other nodes have not. */
static bool was_loading(const struct run *r)
{
    return r->cfg->type != TASK_INCREMENTAL && state_progress(r->state)->phase == STATE_LOADING;
}

int migrate_read_plan(struct run *r, struct err *err)
{
    bool known = r->known, restart = r->cfg->restart && !r->began;
    struct client *c;
    if (migrate_mark_client(r, &c, err) < 0 || check_whose_name(r, c, err) < 0 ||
        checkpoint_claim(c, r->mark.db, r->mark.key, r->mark.owner, r->began, &r->at, err) < 0)
        return -1;
    bool strange = r->began && r->at.kind != CHECKPOINT_NONE &&
                   strcmp(r->at.owner, r->mark.owner) != 0;
    if (strange)
        return err_set(err, ERR_REFUSED,
                       "another process runs task %s against this target now (two state folders, "
                       "or two machines): this one ends, nothing of it is half applied",
                       state_name(r->state));
    if (!r->cluster && checkpoint_evict(r->target, state_name(r->state), err) < 0) return -1;
    switch (r->at.kind) {
    case CHECKPOINT_NONE: r->plan = PLAN_FRESH; break;
    case CHECKPOINT_LOADING: r->plan = PLAN_RELOAD; break;
    case CHECKPOINT_STREAM:
        r->plan = restart || r->torn || was_loading(r) ? PLAN_RELOAD : PLAN_STREAM;
        break;
    }
    if (r->plan == PLAN_STREAM && r->cfg->no_resume)
        return err_set(err, ERR_REFUSED,
                       "task %s can go on where it stands: leave out --resume no, or begin anew "
                       "with --restart",
                       state_name(r->state));
    if (plan_for_refused(r, err) < 0) return -1;
    if (r->plan == PLAN_STREAM && r->cluster && migrate_read_slots(r, err) < 0) return -1;
    if (r->member) {
        shard_read_plan(r);
        return plan_changes_only(r, known, restart, err);
    }
    if (r->plan == PLAN_FRESH) {
        if (r->known)
            log_info("the target has no checkpoint of task %s: it begins anew",
                     state_name(r->state));
        forget_existing(r);
    } else if (!r->known && note_all(r, err) < 0) {
        return -1;
    }
    r->known = true;
    return plan_changes_only(r, known, restart, err);
}

/* --- deadlines --- */

/* r->target is connected, and will be the lane's. Either the target expires nothing by itself, or
 * deadlines are held. */
static int keep_time(struct run *r, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    if (r->member) return shard_keep_time(r, err);
    if (r->cfg->type == TASK_FULL) return 0;
    struct primaries target = run_target(r);
    if (import_mode_look(&r->import, &target, &r->target_facts, p->import_ours, err) < 0) return -1;
    if (r->import.can && !r->import.was_on) p->import_ours = true;
    if (!p->hold_base_ms) p->hold_base_ms = clock_wall_ms();
    if (save(r, err) < 0) return -1;
    return import_mode_begin(&r->import, &target, err);
}

static void begin_holding(struct run *r)
{
    r->pl.hold.on = r->cfg->type != TASK_FULL && !import_mode_on(&r->import);
    r->import.hold = &r->pl.hold.on;
    hold_set_base(&r->pl.hold, state_progress(r->state)->hold_base_ms);
}

/* A connection for finding deadlines that a run before has held. A stop does not end it: the search
 * itself ends soon then. */
static int give_scan_client(struct run *r, struct err *err)
{
    struct client *c;
    struct cluster *all;
    if (!hold_scan_needs_client(&r->pl.hold)) return 0;
    if (r->cluster) {
        if (migrate_open_at_end(r, &all, err) < 0) return -1;
        hold_scan_cluster(&r->pl.hold, all);
        return 0;
    }
    if (run_open_at_end(r, &c, err) < 0) return -1;
    hold_scan_client(&r->pl.hold, c);
    return 0;
}

static int find_held(struct run *r, struct err *err)
{
    hold_scan_begin(&r->pl.hold, &r->cfg->select, clock_wall_ms());
    return give_scan_client(r, err);
}

/* The last thing done: the target keeps time by itself again. */
static int give_time_back(struct run *r, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    struct primaries at = {0};
    if (r->member) shard_give_time_back(r);
    if (!r->import.ours || r->member) return 0;
    if ((r->cluster ? migrate_open_at_end(r, &at.cluster, err) : run_open_at_end(r, &at.one, err)) <
        0)
        return -1;
    int rc = import_mode_end(&r->import, &at, err);
    client_close(at.one);
    cluster_close(at.cluster);
    if (rc < 0) return -1;
    p->import_ours = r->import.ours;
    return save(r, err);
}

/* --- by a snapshot --- */

/* The source can tell where we are, and so can the next run. */
static bool can_resume(const struct run *r)
{
    return !r->cfg->no_resume && r->mark.replid[0] != 0;
}

/* Changes only: that is where they begin, whatever happens from here on. A primary names the
 * database again behind a full PSYNC; a replica does not, so its snapshot must tell it first. */
static bool is_attached(const struct run *r)
{
    return r->cfg->type == TASK_INCREMENTAL && can_resume(r) &&
           r->source_facts.role == FACTS_PRIMARY;
}

static int begin_loading(struct run *r, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    bool fresh = r->plan == PLAN_FRESH;
    struct primaries target = run_target(r);
    if (fresh && !r->member &&
        reconcile_note_existing(&target, &r->target_facts, &r->cfg->select, state_dir(r->state),
                                state_existing_path(r->state), err) < 0)
        return -1;
    if (become(r, STATE_LOADING, err) < 0) return -1;
    p->spool_valid = false;
    p->snapshots++;
    counter_set(&r->counters->snapshots, p->snapshots);
    p->keys_before = 0; /* they are loaded again */
    if (fresh) p->commands_before = 0;
    counter_set(&r->counters->keys_before, p->keys_before);
    counter_set(&r->counters->commands_before, p->commands_before);
    if (save(r, err) < 0) return -1;
    struct client *c;
    if ((r->cluster && migrate_name_load(r, err) < 0) || migrate_mark_client(r, &c, err) < 0)
        return -1;
    struct checkpoint at = place(r, CHECKPOINT_LOADING, 0, 0);
    if (is_attached(r)) {
        at = place(r, CHECKPOINT_STREAM, r->psync.offset, 0);
        r->begin_offset = at.offset;
        r->begin_db = at.db;
    }
    if (checkpoint_replace(c, r->mark.db, r->mark.key, &at, r->at.kind == CHECKPOINT_NONE, err) < 0)
        return -1;
    p->refused = 0; /* the snapshot has it */
    r->torn = false;
    if (r->cfg->type == TASK_INCREMENTAL) return 0; /* no key is loaded */
    r->has_reconcile = true;
    return reconcile_begin(&r->reconcile, &r->cfg->select, r->counters, state_dir(r->state),
                           state_existing_path(r->state), fresh, err);
}

/* 0: done, 1: not yet: what stood in the way has been waited for. */
static int sweep_once(struct run *r, uint64_t *ret_deleted, struct err *err)
{
    struct err why;
    client_close(r->target);
    r->target = NULL;
    int rc = r->cluster ? 0 : run_open_side(r, &r->cfg->target, "target", &r->target, &why);
    if (rc == 0 && !r->cluster) rc = checkpoint_evict_sweeps(r->target, state_name(r->state), &why);
    struct primaries target = run_target(r);
    if (rc == 0)
        rc = reconcile_sweep(&r->reconcile, &target, &r->target_facts, pipeline_step, &r->pl,
                             ret_deleted, &why);
    if (rc == 0) return 0;
    if (why.code != ERR_BUSY && why.code != ERR_NET) return err_set(err, why.code, "%s", why.msg);
    return lane_pause(&r->pl.lane, why.msg, err) < 0 ? -1 : 1;
}

/* Keys that the source has deleted since the snapshot before. Over a connection of its own. */
static int sweep(struct run *r, struct err *err)
{
    char count[32];
    int rc;
    if (r->plan == PLAN_FRESH || r->cfg->type == TASK_INCREMENTAL) return 0;
    uint64_t before = counter_get(&r->counters->keys_deleted), deleted = 0;
    while ((rc = sweep_once(r, &deleted, err)) == 1)
        continue;
    if (rc < 0) return -1;
    lane_recovered(&r->pl.lane);
    bool moved;
    if (r->fan && fan_look(r->fan, &moved, err) < 0) return -1; /* deletions may be lost as well */
    deleted = counter_get(&r->counters->keys_deleted) - before;
    log_info("%s keys that the new snapshot does not have were deleted from the target",
             num_human_count(count, sizeof(count), deleted));
    return 0;
}

static int begin_replay(struct run *r, uint64_t db, struct err *err)
{
    struct replay_config cfg = {.pl = &r->pl,
                                .source = &r->source_facts,
                                .target = &r->target_facts,
                                .store_dir = r->spool_dir,
                                .store_max_bytes = run_store_max(r),
                                .db = db,
                                .checkpoint = can_resume(r) ? &r->mark : NULL};
    r->has_replay = true;
    r->renamed_unheard = false;
    r->pl.on_refused = on_refused;
    r->pl.refused_ctx = r;
    if (replay_init(&r->replay, &cfg, err) < 0) return -1;
    r->replay.existing_path = state_existing_path(r->state);
    if (r->member) shard_begin_replay(r);
    if (r->member && member_streams(r->member, err) < 0) return -1;
    if (can_resume(r)) r->pl.lane.resumable = r->cfg->retry_time_ms > 0;
    if (r->fan) return migrate_begin_fan(r, r->place != NULL, err);
    if (!can_resume(r)) return 0;
    r->pl.lane.fence = buf_span(&r->fence);
    r->pl.lane.fence_db = r->mark.db;
    r->pl.lane.fence_down = true;
    return 0;
}

static int begin_stream(struct run *r, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    pipeline_begin_stream(&r->pl);
    run_note_refused(r);
    if (can_resume(r)) {
        if (spool_keep(r->pl.spool, err) < 0) return -1;
        if (become(r, STATE_STREAM, err) < 0) return -1;
        p->spool_pos = r->pl.stream_pos;
        p->spool_offset = r->pl.stream_offset;
        memcpy(p->replid, r->mark.replid, sizeof(p->replid));
        p->replid_before[0] = 0;
        p->spool_valid = true;
        p->clean = false;
        if (save(r, err) < 0) return -1;
    }
    /* A cluster: first where the stream begins, on every node, then that it has begun. */
    if (r->fan && (begin_replay(r, r->load.stream_db, err) < 0 || fan_tell(r->fan, err) < 0))
        return -1;
    if (can_resume(r) && mark_stream(r, r->load.stream_db, err) < 0) return -1;
    return r->fan ? 0 : begin_replay(r, r->load.stream_db, err);
}

static int take_snapshot(struct run *r, struct err *err)
{
    /* A first load replaces nothing: what has come from another shard is adopted after it. */
    if (r->member) member_begin_load(r->member, r->psync.conn || r->plan == PLAN_FRESH);
    if ((r->psync.conn ? run_await_snapshot(r, err) : run_attach(r, err)) < 0) return -1;
    r->failing_since_ms = 0;
    memcpy(r->mark.replid, r->psync.replid, sizeof(r->mark.replid));
    if (begin_loading(r, err) < 0 || keep_time(r, err) < 0 || run_build(r, NULL, err) < 0)
        return -1;
    r->began = true;
    begin_holding(r);
    if (run_load(r, err) < 0 || run_snapshot_end(&r->psync, &r->pl.r, err) < 0) return -1;
    run_tell_loaded(r);
    if (sweep(r, err) < 0 || (r->member && member_loaded(r->member, err) < 0)) return -1;
    if (r->cfg->type == TASK_FULL) return r->member ? shard_end_full(r, err) : unmark(r, err);
    if (r->member) member_end_turn(r->member);
    return begin_stream(r, err);
}

/* --- by the checkpoint --- */

/* Is the checkpoint of the history that the spool is of? A target that has lost its last writes may
 * be back in one that was given up, whose offsets mean something else. */
static bool is_our_history(const struct run *r)
{
    const struct state_progress *p = state_progress(r->state);
    return r->at.replid[0] &&
           (strcmp(r->at.replid, p->replid) == 0 || strcmp(r->at.replid, p->replid_before) == 0);
}

/* The source goes on with the history, perhaps by a new name (r->psync). No checkpoint may bear
 * that name before it is on the disk: the next run would not know its own spool again. What a
 * target bears that is lost is the name of before, however often the source fails over meanwhile.
 */
void migrate_note_history(struct run *r)
{
    struct state_progress *p = state_progress(r->state);
    if (strcmp(p->replid, r->psync.replid) == 0) return;
    const char *before = r->mark.replid[0] ? r->mark.replid : r->at.replid;
    if (!r->renamed_unheard) memcpy(p->replid_before, before, sizeof(p->replid_before));
    r->renamed_unheard = r->has_pipeline && r->pl.lane.lost;
    memcpy(p->replid, r->psync.replid, sizeof(p->replid));
}

/* The spool of the run before, where it reaches the checkpoint; else an empty one. */
static int recover_spool(struct run *r, struct spool **ret, uint64_t *ret_from, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    struct spool_config cfg = run_spool_config(r);
    uint64_t first;
    *ret_from = r->at.offset;
    if (!is_our_history(r)) p->spool_valid = false;
    if (!p->spool_valid) return spool_open(ret, &cfg, err);
    if (spool_recover(ret, &cfg, &first, err) < 0) return -1;
    if (first == UINT64_MAX) {
        p->spool_valid = false;
        return 0;
    }
    uint64_t pos = p->spool_pos + (r->at.offset - p->spool_offset);
    if (r->at.offset >= p->spool_offset && pos >= first && pos <= spool_tail(*ret)) {
        *ret_from = p->spool_offset + (spool_tail(*ret) - p->spool_pos);
        return 0;
    }
    p->spool_valid = false;
    spool_close(*ret);
    return spool_open(ret, &cfg, err);
}

/* Ask for what comes behind `from`. */
static int continue_source(struct run *r, uint64_t from, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    char replid[41];
    memcpy(replid, is_our_history(r) ? p->replid : r->at.replid, sizeof(replid));
    struct psync_request req = run_psync_request(r);
    req.replid = replid;
    req.offset = from;
    struct client *c = r->source;
    r->source = NULL;
    if (psync_start(&r->psync, c, &req, err) < 0) return -1;
    if (r->psync.kind != PSYNC_CONTINUE) return 1;
    bool forked = strcmp(replid, r->psync.replid) != 0;
    return forked && r->cluster && !p->spool_valid ? 2 : 0;
}

/* 1: the source has not kept what is needed; a snapshot of it is on its way. 2: it goes on, but
 * after a failover, and slots of the target may have more than what it goes on with: how much has
 * been received is not known without the spool. */
static int resume_stream(struct run *r, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    struct spool *spool;
    uint64_t from;
    if (recover_spool(r, &spool, &from, err) < 0) return -1;
    int rc = continue_source(r, from, err);
    if (rc != 0) {
        spool_close(spool);
        return rc;
    }
    migrate_note_history(r);
    memcpy(r->mark.replid, r->psync.replid, sizeof(r->mark.replid));
    r->psync.offset = r->at.offset;
    if (!p->spool_valid) {
        p->spool_pos = spool_tail(spool);
        p->spool_offset = r->at.offset;
    }
    if (keep_time(r, err) < 0) {
        spool_close(spool);
        return -1;
    }
    if (run_build(r, spool, err) < 0) return -1;
    r->began = true;
    begin_holding(r);
    pipeline_go_on(&r->pl, p->spool_pos, p->spool_offset);
    if (spool_keep(r->pl.spool, err) < 0 || pipeline_seek(&r->pl, r->at.offset, err) < 0) return -1;
    if (become(r, STATE_STREAM, err) < 0) return -1;
    p->spool_valid = true;
    bool clean = p->clean;
    p->clean = false;
    if (save(r, err) < 0) return -1;
    if (!clean && find_held(r, err) < 0) return -1;
    counter_set(&r->counters->snapshots, p->snapshots);
    char bytes[32];
    log_info("going on at offset %llu; %s wait in the spool", (unsigned long long)r->at.offset,
             num_human_bytes(bytes, sizeof(bytes), from - r->at.offset));
    if (r->member && shard_go_back(r, r->at.offset, err) < 0) return -1;
    return begin_replay(r, r->at.db, err);
}

/* --- following --- */

/* In order: the next run has nothing to put right. */
static int end_in_order(struct run *r, struct err *err)
{
    struct state_progress *p = state_progress(r->state);
    if (hold_scan_needs_client(&r->pl.hold)) { /* it was lost on the way */
        if (give_scan_client(r, err) < 0 || replay_settle_all(&r->replay, err) < 0) return -1;
    }
    bool until = r->cfg->until == TASK_UNTIL_CAUGHT_UP && r->replay.caught_up;
    if ((until || r->replay.done) && !r->member) {
        r->pl.lane.fence = (struct span){0};
        return unmark(r, err);
    }
    if (!can_resume(r)) return 0;
    if (!r->replay.done && (r->import.ours || !import_mode_on(&r->import)))
        log_info("from now on the target expires keys by itself, even those that the source renews "
                 "until the task goes on");
    p->clean = r->pl.hold.n == 0 && !hold_scan_wanted(&r->pl.hold);
    if (spool_sync(r->pl.spool, err) < 0 || save(r, err) < 0) return -1;
    return r->replay.done ? shard_end_stream(r, err) : 0;
}

/* What a snapshot brings is right whatever the target has had; should there be none, because we are
 * killed, the next run is to know. */
static int begin_torn(struct run *r, struct err *err)
{
    r->refused_before++;
    keep_refused(r);
    r->gave_up = r->cfg->type == TASK_INCREMENTAL;
    if (r->gave_up) return -1;
    log_warn("%s; everything is copied again, the target is not emptied", err->msg);
    r->torn = true;
    return 1;
}

/* 0: ended as asked. 1: begin again by a plan. -1. */
static int follow(struct run *r, struct err *err)
{
    if (can_resume(r) && r->cfg->retry_time_ms > 0) migrate_keep_source(r);
    for (;;) {
        if (replay_run(&r->replay, err) == 0) return end_in_order(r, err);
        if (r->replay.caught_up) r->pause_ms = 0;
        if (r->pl.hole || (r->member && member_reloads(r->member))) {
            log_warn("%s; a new snapshot is taken", err->msg);
            r->plan = PLAN_RELOAD;
            return 1;
        }
        if (r->pl.lane.lost == LANE_TORN) return begin_torn(r, err);
        if (!r->pl.lane.lost || !can_resume(r) || r->cfg->retry_time_ms == 0) return -1;
        int rc = r->fan ? migrate_find_cluster(r, err) : migrate_find_target(r, err);
        if (rc != 0) return rc;
    }
}

/* The target, found again while the stream goes on: r->target is connected, r->at is what it says.
 */
int migrate_take_target(struct run *r, struct err *err)
{
    struct pipeline *pl = &r->pl;
    struct conn *conn;
    if (migrate_read_plan(r, err) < 0) return -1;
    uint64_t pos = pipeline_pos(pl, r->at.offset);
    bool here = r->plan == PLAN_STREAM && is_our_history(r) && r->at.offset >= pl->stream_offset &&
                pos >= spool_first(pl->spool) && pos <= spool_tail(pl->spool);
    if (!here) return 1;
    if (client_select(r->target, 0, err) < 0) return -1;
    /* Not enough disk to go back: by PSYNC, then. */
    if (pipeline_seek(pl, r->at.offset, err) < 0) return err->code == ERR_BUSY ? 1 : -1;
    if (import_mode_mark_conn(&r->import, r->target, err) < 0) return -1;
    uint64_t before = pl->applied_offset;
    if (r->fan) {
        if (migrate_take_cluster(r, err) < 0) return -1;
    } else {
        if (client_take_conn(r->target, &conn, err) < 0) return -1;
        r->target = NULL;
        lane_reset(&pl->lane, conn);
    }
    r->renamed_unheard = false;
    pl->hold.on = !import_mode_on(&r->import);
    if (r->member && shard_go_back(r, r->at.offset, err) < 0) return -1;
    if (replay_restart(&r->replay, r->at.db, err) < 0) return -1;
    if (r->at.offset < before && !r->fan)
        log_warn("the target has lost the last %llu bytes of the stream that it had confirmed (a "
                 "failover?); they are sent again",
                 (unsigned long long)(before - r->at.offset));
    if (r->at.offset < before && find_held(r, err) < 0) return -1;
    if (give_scan_client(r, err) < 0) return -1;
    log_info("target is back; going on at offset %llu", (unsigned long long)r->at.offset);
    return 0;
}

/* --- all of it --- */

void migrate_let_go(struct run *r)
{
    run_release_parts(r);
    client_close(r->target);
    r->target = NULL;
    if (r->psync.conn) return;
    client_close(r->source);
    client_close(r->probe);
    r->source = r->probe = NULL;
}

static int attempt(struct run *r, struct err *err)
{
    int rc = 1;
    if (r->plan == PLAN_STREAM) rc = resume_stream(r, err);
    if (rc == 2) return migrate_load_instead(r, err) < 0 ? -1 : attempt(r, err);
    if (rc == 1) {
        if (r->plan == PLAN_STREAM && r->cfg->type == TASK_INCREMENTAL) r->plan = PLAN_RELOAD;
        if (r->plan == PLAN_STREAM) {
            r->plan = PLAN_RELOAD;
            log_warn("the source has not kept the changes since offset %llu (its backlog was too "
                     "small for the time that was lost): everything is copied again; the target "
                     "is not emptied",
                     (unsigned long long)r->at.offset);
        }
        if (r->cfg->type == TASK_INCREMENTAL && r->plan == PLAN_RELOAD)
            return migrate_cannot_follow(r, "has not kept the changes", err);
        rc = r->member ? shard_take_turn(r, err) : 0;
        if (rc == 1) return attempt(r, err);
        if (rc == 0) rc = take_snapshot(r, err);
    }
    if (r->member) member_end_turn(r->member);
    if (rc < 0 || r->cfg->type == TASK_FULL) return rc;
    r->lost_since_ms = r->failing_since_ms = 0;
    return follow(r, err);
}

/* May the failure be one that goes away? Not for ever, where both sides answer and no snapshot
 * comes all the same. */
static bool passes(struct run *r, struct err *err)
{
    bool lost = (r->has_pipeline && r->pl.lane.lost) || err_class(err->code) == ERR_CLASS_TRANSIENT;
    if (!lost || r->cfg->retry_time_ms == 0 || r->gave_up || *r->stop) return false;
    if (r->has_pipeline && r->pl.lane.gave_up) return false;
    int64_t now = clock_mono_ms();
    if (!r->failing_since_ms) r->failing_since_ms = now;
    if (now - r->failing_since_ms <= r->cfg->retry_time_ms) return true;
    (void)!err_wrap(err, "gave up (--retry-time waits longer)");
    return false;
}

/* Both sides again, and what the task wants there. */
static int come_back(struct run *r, struct err *err)
{
    for (;;) {
        migrate_let_go(r);
        if (migrate_meet_again(r, err) < 0) return -1;
        bool hole = r->psync.conn != NULL;
        if (hole) r->plan = PLAN_RELOAD;
        if (r->plan != PLAN_FRESH || run_check(r, true, err) == 0) return 0;
        if (!passes(r, err)) return -1;
        log_warn("%s", err->msg);
    }
}

/* A task that is known waits for its sides; of a new one a mistake in an address is told at once.
 */
static int begin(struct run *r, struct err *err)
{
    r->known = state_known(r->state);
    if (name_checkpoint(r, err) < 0) return -1;
    bool waits = r->known || (r->member && member_is_late(r->member));
    if (waits && r->cfg->retry_time_ms > 0) {
        if (migrate_meet_again(r, err) < 0) return -1;
    } else if ((!r->source && run_meet_source(r, err) < 0) || run_meet_target(r, err) < 0 ||
               migrate_read_plan(r, err) < 0 ||
               run_open_side(r, &r->cfg->source, "source", &r->probe, err) < 0) {
        return -1;
    }
    if (r->member && shard_meet_planned(r, err) < 0) return -1;
    if (run_check(r, r->plan == PLAN_FRESH, err) < 0) return -1;
    if (r->member && shard_meet_checked(r, err) < 0) return -1;
    r->met = true;
    return run_choose_spool(r, err);
}

static int migrate(struct run *r, struct err *err)
{
    if (r->member && state_progress(r->state)->phase == STATE_DONE &&
        !member_has_unsettled(r->member))
        return name_checkpoint(r, err) < 0 ? -1 : shard_end_again(r, err);
    if (begin(r, err) < 0) return -1;
    for (;;) {
        int rc = attempt(r, err);
        if (rc == 0) return 0;
        bool loading = r->has_load && !r->has_replay;
        if (rc < 0 && err->code == ERR_STOPPED && loading) return run_stopped_in_load(r, err);
        if (rc < 0 && !r->member &&
            state_progress(r->state)->phase == STATE_DONE) { /* all is done but the DEL */
            log_warn("%s: the key %s may be left there; delete it", err->msg, r->mark_key);
            return 0;
        }
        if (rc < 0 && !passes(r, err)) return -1;
        if (rc < 0) log_warn("%s", err->msg);
        if (rc < 0) psync_release(&r->psync); /* a snapshot that does not come any more */
        if (come_back(r, err) < 0) return -1;
    }
}

int run_migrate(struct run *r, struct err *err)
{
    struct err why;
    int rc = migrate(r, err);
    keep_refused(r);
    if (rc < 0 && err->code == ERR_TARGET && state_progress(r->state)->refused)
        log_warn("what came with it has been applied: the next run copies everything again, to "
                 "bring it; with --on-error continue it goes on without it");
    if (rc < 0 && err->code != ERR_STOPPED) {
        if (r->import.ours)
            log_warn("target: stays in import mode, for the changes that are still to come: until "
                     "this task runs again and ends in order, or: CONFIG SET import-mode no");
        return -1;
    }
    if (give_time_back(r, &why) == 0) return rc;
    *err = why;
    return err_wrap(err, "target: stays in import mode");
}
