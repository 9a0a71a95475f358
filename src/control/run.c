// SPDX-License-Identifier: BSD-3-Clause
// A task from connect to the last reply: checks first, then snapshot, then stream.
#include "control/group.h"
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "control/member.h"
#include "engine/side.h"
#include "io/file.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPOOL_SHARE 10          /* default quota: a tenth of what is free */
#define SPOOL_KEEP  (64u << 20) /* of what is applied, for a target that loses its last writes */
#define STORE_MIN   (32u << 20) /* a command or chunk is kept aside however small the quota */

/* --- both sides --- */

static int open_side(struct run *r, const struct task_side *side, const char *name,
                     const atomic_bool *stop, struct client **ret, struct err *err)
{
    struct client_config cfg = task_side_client(side, name, r->cfg->connect_timeout_ms,
                                                r->cfg->io_timeout_ms, stop);
    if (r->plan == PLAN_STREAM) cfg.resume_offset = r->at.offset;
    bool second = side == &r->cfg->source && r->source;
    if (second)
        return task_side_probe(ret, cfg, r->source, r->source_facts.role == FACTS_REPLICA, err);
    return client_open(ret, &cfg, err);
}

int run_open_side(struct run *r, const struct task_side *side, const char *name,
                  struct client **ret, struct err *err)
{
    return open_side(r, side, name, r->stop, ret, err);
}

int run_open_at_end(struct run *r, struct client **ret, struct err *err)
{
    return open_side(r, &r->cfg->target, "target", NULL, ret, err);
}

/* In import mode, keys that are past their deadline are there only for who imports. */
static int greet(void *ctx, struct client *c, struct err *err)
{
    return import_mode_mark_conn(ctx, c, err);
}

struct primaries run_target(struct run *r)
{
    return (struct primaries){.one = r->cluster ? NULL : r->target,
                              .cluster = r->cluster,
                              .slots = r->cfg->slots,
                              .greet = greet,
                              .greet_ctx = &r->import};
}

void run_tell_notes(const struct check_notes *notes)
{
    for (unsigned i = 0; i < notes->n; i++)
        log_warn("%s", notes->text[i]);
}

void run_tell_selection(const struct run *r)
{
    uint64_t read = counter_get(&r->counters->keys_read);
    if (key_select_all(&r->cfg->keys) || counter_get(&r->counters->keys_filtered) < read) return;
    log_warn("no key was selected: --keys, --skip-keys and --db leave out all %llu",
             (unsigned long long)read);
}

int run_meet_target(struct run *r, struct err *err)
{
    struct task_facts *f = r->facts;
    snprintf(f->target_shown, sizeof(f->target_shown), "%s", r->cfg->target.uri.shown);
    if (run_open_side(r, &r->cfg->target, "target", &r->target, err) < 0 ||
        facts_read(r->target, &r->target_facts, err) < 0)
        return -1;
    if (r->target_facts.cluster &&
        (migrate_meet_cluster(r, err) < 0 || migrate_know_cluster(r, err) < 0))
        return -1;
    facts_name(f->target_name, sizeof(f->target_name), &r->target_facts);
    log_info("target is %s at %s", f->target_name, f->target_shown);
    return 0;
}

static void tell_replica(const struct run *r)
{
    bool whole_cluster = r->source_facts.cluster && !r->cfg->slots;
    if (!r->cfg->source.prefer_replica || whole_cluster) return;
    if (r->source_facts.role == FACTS_REPLICA)
        log_info("reading from a replica, %s", client_name(r->source));
    else
        log_warn("no replica follows the source that can be read in its place: reading from the "
                 "primary, %s",
                 client_name(r->source));
}

int run_meet_source(struct run *r, struct err *err)
{
    struct task_facts *f = r->facts;
    if (run_phase(r, PHASE_CONNECT, err) < 0) return -1;
    snprintf(f->source_shown, sizeof(f->source_shown), "%s", r->cfg->source.uri.shown);
    if (r->member) member_take_addresses(r->member);
    if (run_open_side(r, &r->cfg->source, "source", &r->source, err) < 0 ||
        (r->member && shard_check_node(r, r->source, err) < 0) ||
        facts_read(r->source, &r->source_facts, err) < 0)
        return -1;
    facts_name(f->source_name, sizeof(f->source_name), &r->source_facts);
    log_info("source is %s at %s", f->source_name, f->source_shown);
    tell_replica(r);
    return 0;
}

static int check_existing(struct run *r, struct err *err)
{
    if (r->cfg->on_conflict != TASK_CONFLICT_FAIL || r->cfg->type == TASK_INCREMENTAL) return 0;
    struct conflict_report report;
    struct primaries target = run_target(r);
    struct client *any;
    if (check_conflicts(r->source, &target, &r->source_facts, &r->cfg->select, &report, err) < 0 ||
        primaries_any(&target, &any, err) < 0)
        return -1;
    return report.collisions ? check_conflict_err(&report, client_name(any), err) : 0;
}

int run_check(struct run *r, bool conflicts, struct err *err)
{
    struct primaries target = run_target(r);
    struct check_notes notes = {0};
    if (run_phase(r, PHASE_CHECK, err) < 0) return -1;
    if (check_sides(&r->source_facts, &r->target_facts, r->cfg, &notes, err) < 0 ||
        (r->cluster && check_apart(&r->source_facts, &target, r->cfg, err) < 0) ||
        check_databases(&target, &r->source_facts, &r->target_facts, &r->cfg->select, err) < 0 ||
        check_target_rights(&target, &r->target_facts, r->cfg, &notes, err) < 0 ||
        check_modules(r->source, &target, &notes, err) < 0)
        return -1;
    run_tell_notes(&notes);
    return conflicts ? check_existing(r, err) : 0;
}

/* --- the source's snapshot --- */

struct psync_request run_psync_request(struct run *r)
{
    return (struct psync_request){.facts = &r->source_facts,
                                  .rdb_only = r->cfg->type == TASK_FULL,
                                  .empty_rdb = r->cfg->type == TASK_INCREMENTAL,
                                  .silence_ms = r->cfg->io_timeout_ms,
                                  .retry_ms = r->cfg->retry_time_ms,
                                  .stop = r->stop,
                                  .tick = r->member ? shard_tick : NULL,
                                  .ctx = r->member ? (void *)r : NULL};
}

int run_await_snapshot(struct run *r, struct err *err)
{
    struct psync_request req = run_psync_request(r);
    if (run_phase(r, PHASE_WAIT_DUMP, err) < 0) return -1;
    if (psync_bulk_header(&r->psync, &req, err) < 0) return -1;
    counter_set(&r->counters->snapshot_bytes_total, r->psync.eof_mark ? 0 : r->psync.rdb_bytes);
    return 0;
}

int run_attach(struct run *r, struct err *err)
{
    if (run_phase(r, PHASE_WAIT_DUMP, err) < 0) return -1;
    struct psync_request req = run_psync_request(r);
    struct client *c = r->source;
    r->source = NULL; /* psync_start takes it */
    if (psync_start(&r->psync, c, &req, err) < 0) return -1;
    if (r->psync.kind != PSYNC_FULL)
        return err_set(err, ERR_PROTO, "source: continued a stream that was never begun");
    return run_await_snapshot(r, err);
}

int run_choose_spool(struct run *r, struct err *err)
{
    const char *dir = r->state ? state_spool_dir(r->state) : r->cfg->spool_dir;
    if (!dir) dir = getenv("TMPDIR");
    if (!dir || !*dir) dir = "/tmp";
    snprintf(r->spool_dir, sizeof(r->spool_dir), "%s", dir);
    unsigned shares = r->member ? member_count(r->member) : 1;
    r->spool_max = r->cfg->spool_max_bytes / shares;
    if (file_make_dir(r->spool_dir, err) < 0) return err_wrap(err, "spool directory");
    if (r->spool_max) return 0;
    uint64_t free_bytes;
    if (file_free_space(r->spool_dir, &free_bytes, err) < 0)
        return err_wrap(err, "spool directory");
    r->spool_max = free_bytes / SPOOL_SHARE / shares;
    /* Where there is no room now there may be later. */
    if (r->spool_max < STORE_MIN) r->spool_max = STORE_MIN;
    return 0;
}

struct spool_config run_spool_config(const struct run *r)
{
    return (struct spool_config){.ram_bytes = PIPELINE_RING_BYTES,
                                 .dir = r->spool_dir,
                                 .max_disk_bytes = r->spool_max,
                                 .keep_bytes = SPOOL_KEEP,
                                 .log_name = r->state ? "stream" : NULL};
}

/* Of a shard it is the group that takes it, for all of them. */
static bool take_request(void *ctx)
{
    const struct run *r = ctx;
    if (r->member) return member_is_settled(r->member);
    return state_take_asked(r->state);
}

int run_build(struct run *r, struct spool *spool, struct err *err)
{
    struct pipeline_config cfg = {.task = r->cfg,
                                  .counters = r->counters,
                                  .stop = r->stop,
                                  .spool = spool,
                                  .spool_config = run_spool_config(r),
                                  /* A source that closes behind the snapshot with our ACK unread
                                   * would reset the link, and what is still on its way is lost. */
                                  .ack = !r->psync.plain_sync && r->cfg->type != TASK_FULL,
                                  .hold = r->cfg->type != TASK_FULL,
                                  .hold_exact = facts_has(&r->target_facts, FACTS_PEXPIRETIME),
                                  .offset = r->psync.offset};
    struct conn *target = NULL, *probe = NULL;
    if ((!r->cluster && client_take_conn(r->target, &target, err) < 0) ||
        (r->probe && client_take_conn(r->probe, &probe, err) < 0)) {
        if (target) r->target = NULL;
        conn_close(target);
        spool_close(spool);
        return -1;
    }
    cfg.target = target;
    if (r->cluster) client_close(r->target);
    cfg.probe = probe;
    cfg.source = r->psync.conn;
    r->target = r->probe = NULL;
    r->psync.conn = NULL;
    if (r->state) r->refused_before = state_progress(r->state)->refused;
    r->has_pipeline = true; /* from here on it owns the connections */
    r->idle = false;
    if (pipeline_init(&r->pl, &cfg, err) < 0) return -1;
    if (r->cluster && migrate_open_fan(r, err) < 0) return -1;
    if (!r->state) return 0;
    r->pl.finish = r->finish ? r->finish : state_asked(r->state);
    r->pl.finish_take = take_request;
    r->pl.finish_ctx = r;
    return 0;
}

/* Behind the RDB: the announced end, by length or by the 40 bytes of the header. */
int run_snapshot_end(const struct psync_result *ps, struct reader *in, struct err *err)
{
    if (!ps->eof_mark) {
        if (reader_pos(in) == ps->rdb_bytes) return 0;
        return err_set(err, ERR_PROTO, "snapshot: %llu bytes announced, but it ends at %llu",
                       (unsigned long long)ps->rdb_bytes, (unsigned long long)reader_pos(in));
    }
    if (reader_need(in, PSYNC_MARK_BYTES, err) < 0) return err_wrap(err, "snapshot");
    if (memcmp(in->p, ps->mark, PSYNC_MARK_BYTES) != 0)
        return err_set(err, ERR_PROTO, "snapshot: its end mark is missing");
    in->p += PSYNC_MARK_BYTES;
    reader_release(in);
    return 0;
}

uint64_t run_store_max(const struct run *r)
{
    return r->spool_max > STORE_MIN ? r->spool_max : STORE_MIN;
}

int run_load(struct run *r, struct err *err)
{
    struct load_config cfg = {.pl = &r->pl,
                              .target = &r->target_facts,
                              .reconcile = r->has_reconcile ? &r->reconcile : NULL,
                              .source_bytes = r->source_facts.used_memory,
                              .store_dir = r->spool_dir,
                              .store_max_bytes = run_store_max(r)};
    if (run_phase(r, PHASE_SNAPSHOT, err) < 0) return -1;
    counter_set(&r->counters->snapshot_started_ms, (uint64_t)clock_mono_ms());
    if (r->member) shard_begin_load(r, &cfg);
    r->has_load = true;
    if (load_init(&r->load, &cfg, err) < 0) return -1;
    return load_run(&r->load, err);
}

void run_tell_loaded(const struct run *r)
{
    char keys[32];
    counter_set(&r->counters->snapshot_done_ms, (uint64_t)clock_mono_ms());
    log_info("snapshot loaded: %s keys",
             num_human_count(keys, sizeof(keys), counter_get(&r->counters->keys_written)));
}

/* Stopped while loading: what is in flight is finished, so that nothing is half written. */
int run_stopped_in_load(struct run *r, struct err *err)
{
    struct err last;
    if (pipeline_drain(&r->pl, &last) < 0 || hold_settle(&r->pl.hold, &r->pl.lane, 0, &last) < 0)
        *err = last;
    return -1;
}

/* After a failure the lane may be in the middle of anything: what is held can only be told. */
static void tell_held(const struct run *r)
{
    if (!r->has_pipeline || r->pl.hold.n == 0) return;
    char count[32];
    log_error("%s keys on the target have an expiry that was held back and lies thousands of years "
              "ahead; %s",
              num_human_count(count, sizeof(count), r->pl.hold.n),
              r->state ? "the next run of this task puts them right"
                       : "run again with --on-conflict overwrite to put them right");
}

void run_note_refused(struct run *r)
{
    if (r->state && r->has_pipeline)
        state_progress(r->state)->refused = r->refused_before + r->pl.refusals.missing;
}

void run_release_parts(struct run *r)
{
    run_note_refused(r);
    redial_free(r->source_dial);
    redial_free(r->target_dial);
    r->source_dial = r->target_dial = NULL;
    conn_close(r->back);
    client_close(r->back_probe);
    r->back = NULL;
    r->back_probe = NULL;
    adopt_release(&r->adopt);
    if (r->has_replay) replay_release(&r->replay);
    if (r->has_load) load_release(&r->load);
    fan_close(r->fan);
    r->fan = NULL;
    if (r->has_pipeline) pipeline_release(&r->pl);
    if (r->has_reconcile) reconcile_end(&r->reconcile);
    r->has_replay = r->has_load = r->has_pipeline = r->has_reconcile = false;
}

void run_release(struct run *r)
{
    run_release_parts(r);
    migrate_release_cluster(r);
    buf_release(&r->fence);
    client_close(r->source);
    client_close(r->target);
    client_close(r->probe);
    psync_release(&r->psync);
    facts_release(&r->source_facts);
    facts_release(&r->target_facts);
}

static struct run *new_run(const struct run_setup *setup, struct err *err)
{
    struct run *r = calloc(1, sizeof(*r));
    if (!r) {
        err_set(err, ERR_NOMEM, "out of memory");
        return NULL;
    }
    r->cfg = setup->cfg;
    r->state = setup->state;
    r->counters = setup->counters;
    r->facts = setup->facts;
    r->stop = setup->stop;
    r->finish = setup->finish;
    r->member = setup->member;
    counter_set(&r->counters->started_wall_ms, (uint64_t)clock_wall_ms());
    return r;
}

static int end_run(struct run *r, int rc, uint64_t *ret_refused, struct err *err)
{
    run_note_refused(r);
    *ret_refused += r->state ? state_progress(r->state)->refused : r->pl.refusals.count;
    /* of a group it is that of its shards, added up */
    if (rc == 0 && counter_get(&r->counters->phase) != PHASE_DONE)
        rc = run_phase(r, PHASE_DONE, err);
    tell_held(r);
    run_release(r);
    free(r);
    return rc;
}

int run_shard(const struct run_setup *setup, uint64_t *ret_refused, struct err *err)
{
    struct run *r = new_run(setup, err);
    if (!r) return -1;
    int rc = run_migrate(r, err);
    if (member_is_leaving(r->member) && (rc == 0 || err->code == ERR_STOPPED)) shard_leave(r);
    return end_run(r, rc, ret_refused, err);
}

/* A source that is a cluster is moved shard by shard. A task that has begun knows what it is; of
 * another the source is asked, which is then not called again. */
static int run_servers(struct run *r, struct shards *shards, uint64_t *ret_refused, struct err *err)
{
    bool group = group_began(r->state);
    if (!group && !state_known(r->state)) {
        if (run_meet_source(r, err) < 0) return -1;
        group = r->source_facts.cluster;
    }
    if (!group) return run_migrate(r, err);
    client_close(r->source);
    r->source = NULL;
    return group_run(r, shards, ret_refused, err);
}

static int run_way(struct run *r, struct shards *shards, uint64_t *ret_refused, struct err *err)
{
    switch (task_way(r->cfg)) {
    case TASK_MIGRATE: break;
    case TASK_RESTORE: return run_restore(r, err);
    case TASK_BACKUP: return run_backup(r, err);
    }
    return run_servers(r, shards, ret_refused, err);
}

int task_run(const struct task_config *cfg, struct state *state, struct counters *counters,
             struct shards *shards, struct task_facts *facts, const atomic_bool *stop,
             struct err *err)
{
    uint64_t refused = 0;
    struct run *r = new_run(
        &(struct run_setup){
            .cfg = cfg, .state = state, .counters = counters, .facts = facts, .stop = stop},
        err);
    if (!r) return -1;
    int rc = run_way(r, shards, &refused, err);
    rc = end_run(r, rc, &refused, err);
    if (refused && (rc == 0 || err->code == ERR_STOPPED))
        return err_set(err, ERR_UNRESOLVED,
                       "%llu writes were refused by the target and are not there; each is named "
                       "in the log",
                       (unsigned long long)refused);
    return rc;
}
