// SPDX-License-Identifier: BSD-3-Clause
// A side that is lost is called again: by a thread while the stream goes on, else in place.
#include "control/member.h"
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"

#include <poll.h>
#include <stdio.h>

#define PAUSE_MIN_MS  100
#define PAUSE_MAX_MS  5000
#define PAUSE_LOAD_MS 60000
#define WHY_MS        500
#define SAVE_MS       1000

/* --- waiting --- */

static void tell_waiting(struct run *r, enum counters_waits side, int64_t until_ms, const char *why)
{
    counters_wait(r->counters, side, until_ms, why);
    r->why_ms = clock_mono_ms() + WHY_MS;
}

static void tell_over(struct run *r)
{
    counters_wait(r->counters, COUNTERS_WAITS_FOR_NONE, 0, "");
}

/* Refused now, where it was cut at first. */
static void tell_why(struct run *r, struct redial *dial)
{
    char why[COUNTERS_WHY];
    if (clock_mono_ms() < r->why_ms) return;
    r->why_ms = clock_mono_ms() + WHY_MS;
    if (*redial_why(dial, why, sizeof(why))) counters_set_why(r->counters, why);
}

static int pause_ms(struct run *r, int64_t ms, struct err *err)
{
    int64_t until = clock_mono_ms() + ms;
    while (clock_mono_ms() < until) {
        if (*r->stop) return err_set(err, ERR_STOPPED, "stopped");
        if (r->member) shard_idle(r);
        poll(NULL, 0, 50);
    }
    return 0;
}

/* --- both sides, in place --- */

/* *ret_side: which of them stands in the way. */
static int meet_both(struct run *r, enum counters_waits *ret_side, struct err *err)
{
    *ret_side = COUNTERS_WAITS_FOR_TARGET;
    if (run_phase(r, PHASE_CONNECT, err) < 0) return -1;
    facts_release(&r->target_facts);
    if (run_meet_target(r, err) < 0) return -1;
    if (r->target_facts.role == FACTS_REPLICA && r->target_facts.read_only)
        return err_set(err, ERR_BUSY, "target: is a replica now");
    if (r->target_facts.loading) return err_set(err, ERR_BUSY, "target: is loading its data");
    if (migrate_read_plan(r, err) < 0) return -1;
    if (r->psync.conn && r->plan == PLAN_FRESH) { /* not before the keys of both are compared */
        psync_release(&r->psync);
        client_close(r->probe);
        r->probe = NULL;
    }
    if (r->psync.conn) return 0;
    *ret_side = COUNTERS_WAITS_FOR_SOURCE;
    facts_release(&r->source_facts);
    if (run_meet_source(r, err) < 0) return -1;
    if (r->source_facts.loading) return err_set(err, ERR_BUSY, "source: is loading its data");
    return run_open_side(r, &r->cfg->source, "source", &r->probe, err);
}

/* A snapshot that is on its way is kept, and who can tell how far its source is: without that the
 * stream would never be known to have caught up. */
static void part(struct run *r)
{
    client_close(r->target);
    client_close(r->source);
    r->target = r->source = NULL;
    if (r->psync.conn) return;
    client_close(r->probe);
    r->probe = NULL;
}

int migrate_meet_again(struct run *r, struct err *err)
{
    /* A source that drops us in every snapshot is not to make one after the other. */
    int64_t pause = r->pause_ms ? r->pause_ms : PAUSE_MIN_MS;
    r->pause_ms = pause * 2 > PAUSE_LOAD_MS ? PAUSE_LOAD_MS : pause * 2;
    bool told = false;
    enum counters_waits side;
    if (!r->lost_since_ms) r->lost_since_ms = clock_mono_ms();
    int64_t until = r->lost_since_ms + r->cfg->retry_time_ms;
    for (;;) {
        if (r->met && pause_ms(r, pause, err) < 0) return -1;
        if (meet_both(r, &side, err) == 0) break;
        part(r);
        if (err_class(err->code) != ERR_CLASS_TRANSIENT) return -1;
        tell_waiting(r, side, until, err->msg);
        if (!told) counter_add(&r->counters->links_lost, 1);
        if (!told)
            log_warn("%s; again, for %lld s at most", err->msg,
                     (long long)(r->cfg->retry_time_ms / 1000));
        told = true;
        struct err stopped;
        if (!r->met && pause_ms(r, pause, &stopped) < 0) {
            *err = stopped;
            return -1;
        }
        if (clock_mono_ms() > until) return err_wrap(err, "gave up (--retry-time waits longer)");
        if (pause < PAUSE_MAX_MS) pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
    }
    tell_over(r);
    return 0;
}

/* --- instead of going on --- */

int migrate_cannot_follow(const struct run *r, const char *why, struct err *err)
{
    return err_set(err, ERR_SOURCE,
                   "source: %s since offset %llu, so they cannot be followed; run with --type "
                   "full+incremental --on-conflict overwrite --restart",
                   why, (unsigned long long)r->at.offset);
}

int migrate_load_instead(struct run *r, struct err *err)
{
    if (r->cfg->type == TASK_INCREMENTAL)
        return migrate_cannot_follow(r, "a failover may have lost changes", err);
    log_warn("the source has failed over since offset %llu, and what came between is not in the "
             "spool: everything is copied again; the target is not emptied",
             (unsigned long long)r->at.offset);
    if (task_flow_state(&state_progress(r->state)->phase, STATE_LOADING, err) < 0 ||
        state_save(r->state, err) < 0)
        return -1;
    psync_release(&r->psync);
    migrate_let_go(r);
    return migrate_meet_again(r, err);
}

/* --- the source, while what it sent is applied --- */

static void dial(struct run *r, struct redial **dial, bool source, int64_t give_up_ms,
                 struct err *why)
{
    struct redial_config cfg = {.side = source ? &r->cfg->source : &r->cfg->target,
                                .name = source ? "source" : "target",
                                .connect_timeout_ms = r->cfg->connect_timeout_ms,
                                .io_timeout_ms = r->cfg->io_timeout_ms,
                                .give_up_ms = give_up_ms,
                                .primary = !source,
                                .stop = r->stop};
    struct psync_request req;
    if (source && r->member) member_take_addresses(r->member);
    if (source) {
        req = run_psync_request(r);
        req.replid = r->mark.replid;
        req.offset = pipeline_received(&r->pl);
        cfg.psync = &req;
    }
    log_warn("%s; calling again, for %lld s at most", why->msg, (long long)(give_up_ms / 1000));
    tell_waiting(r, source ? COUNTERS_WAITS_FOR_SOURCE : COUNTERS_WAITS_FOR_TARGET,
                 clock_mono_ms() + give_up_ms, why->msg);
    counter_add(&r->counters->links_lost, 1);
    struct err err;
    if (redial_start(dial, &cfg, &err) < 0) log_error("%s", err.msg);
}

/* The disk is full, say: as long as the name of the history is not on it, nothing that comes under
 * it may be applied, or the spool would be worth nothing to the next run. That passes. */
static enum relinked wait_to_save(struct run *r, const struct err *why, struct err *err)
{
    int64_t now = clock_mono_ms();
    if (!r->save_ms) {
        r->save_until_ms = now + r->cfg->retry_time_ms;
        log_error("%s; the source is back, but nothing is read from it until that can be written, "
                  "for %lld s at most",
                  why->msg, (long long)(r->cfg->retry_time_ms / 1000));
    }
    tell_waiting(r, COUNTERS_WAITS_FOR_SOURCE, r->save_until_ms, why->msg);
    r->save_ms = now + SAVE_MS;
    if (now < r->save_until_ms) return RELINK_WAIT;
    r->gave_up = true;
    *err = *why;
    (void)!err_wrap(err, "gave up (--retry-time waits longer)");
    return RELINK_GIVEN_UP;
}

static enum relinked go_on_with_source(struct run *r, struct err *err)
{
    struct conn *probe = NULL;
    struct err why;
    if (r->save_ms && clock_mono_ms() < r->save_ms) return RELINK_WAIT;
    if (state_save(r->state, &why) < 0) return wait_to_save(r, &why, err);
    memcpy(r->mark.replid, state_progress(r->state)->replid, sizeof(r->mark.replid));
    if (r->back_probe && client_take_conn(r->back_probe, &probe, &why) < 0)
        client_close(r->back_probe);
    pipeline_relink(&r->pl, r->back, probe);
    r->back = NULL;
    r->back_probe = NULL;
    if (!r->target_dial) tell_over(r);
    log_info("source is back; going on without a new snapshot");
    return RELINK_DONE;
}

static enum relinked relink(void *ctx, struct err *err)
{
    struct run *r = ctx;
    struct redial_result got;
    if (r->back) return go_on_with_source(r, err);
    if (!r->source_dial) {
        dial(r, &r->source_dial, true, r->cfg->retry_time_ms, &r->pl.source_err);
        if (!r->source_dial) return RELINK_GIVEN_UP;
    }
    int rc = redial_poll(r->source_dial, &got, err);
    if (rc == 0 && r->member && member_new_addresses(r->member)) {
        redial_free(r->source_dial);
        r->source_dial = NULL;
        return RELINK_WAIT;
    }
    if (rc == 0) {
        if (!r->target_dial) tell_why(r, r->source_dial);
        return RELINK_WAIT;
    }
    redial_free(r->source_dial);
    r->source_dial = NULL;
    if (rc < 0) {
        r->gave_up = true;
        return RELINK_GIVEN_UP;
    }
    if (r->member && shard_check_node(r, got.probe, err) < 0) {
        psync_release(&got.psync);
        facts_release(&got.facts);
        client_close(got.probe);
        return RELINK_WAIT;
    }
    if (r->target_dial)
        tell_waiting(r, COUNTERS_WAITS_FOR_TARGET, r->target_until_ms, "");
    else
        tell_over(r);
    psync_release(&r->psync);
    r->psync = got.psync;
    facts_release(&r->source_facts);
    r->source_facts = got.facts;
    if (r->psync.kind == PSYNC_CONTINUE) {
        r->back = r->psync.conn;
        r->back_probe = got.probe;
        r->psync.conn = NULL;
        migrate_note_history(r);
        r->save_ms = 0;
        return go_on_with_source(r, err);
    }
    r->probe = got.probe;
    return RELINK_HOLE;
}

void migrate_keep_source(struct run *r)
{
    r->pl.relink = relink;
    r->pl.relink_ctx = r;
}

/* --- the target, while the source is drained --- */

/* 1: *ret answers as a primary. 0: the source's history has a hole. -1. */
static int call_target(struct run *r, int64_t give_up_ms, const struct err *why,
                       struct redial_result *ret, struct err *err)
{
    struct err first = *why;
    int rc;
    dial(r, &r->target_dial, false, give_up_ms, &first);
    if (!r->target_dial) return err_set(err, ERR_NOMEM, "cannot start a thread");
    while ((rc = redial_poll(r->target_dial, ret, err)) == 0) {
        tell_why(r, r->target_dial);
        if (*r->stop || pipeline_step(&r->pl, 100, err) < 0) break;
    }
    redial_free(r->target_dial);
    r->target_dial = NULL;
    if (rc > 0) return 1;
    if (*r->stop)
        return err_set(err, ERR_NET,
                       "stopped while the target was lost (%s); what has been received is kept, "
                       "run the same command again to go on",
                       why->msg);
    if (rc < 0) r->gave_up = true;
    return rc == 0 && r->pl.hole ? 0 : -1;
}

/* It is there, but does not take us yet. */
static int wait_a_while(struct run *r, int64_t ms, struct err *err)
{
    int64_t until = clock_mono_ms() + ms;
    for (int64_t now; (now = clock_mono_ms()) < until && !*r->stop;)
        if (pipeline_step(&r->pl, (int)(until - now), err) < 0) return r->pl.hole ? 1 : -1;
    return 0;
}

static int take(struct run *r, struct redial_result *got, struct err *err)
{
    client_close(r->target);
    r->target = got->client;
    facts_release(&r->target_facts);
    r->target_facts = got->facts;
    int rc = migrate_take_target(r, err);
    if (rc >= 0) return rc;
    client_close(r->target);
    r->target = NULL;
    return -1;
}

int migrate_find_target(struct run *r, struct err *err)
{
    struct redial_result got = {0};
    struct err why = *err;
    int64_t until = clock_mono_ms() + r->cfg->retry_time_ms, pause = PAUSE_MIN_MS;
    r->target_until_ms = until;
    lane_drop(&r->pl.lane, LANE_LOST);
    for (;;) {
        int64_t left = until - clock_mono_ms();
        int rc = call_target(r, left > 0 ? left : 0, &why, &got, err);
        if (rc <= 0) return rc < 0 ? -1 : 1;
        rc = take(r, &got, &why);
        if (rc < 0) *err = why;
        if (rc >= 0 || err_class(why.code) != ERR_CLASS_TRANSIENT || *r->stop) {
            tell_over(r);
            return rc;
        }
        rc = wait_a_while(r, pause, err);
        if (rc != 0) return rc;
        pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
    }
}
