// SPDX-License-Identifier: BSD-3-Clause
// A migration into a cluster: what it does where one into a single server has one connection
// (docs/decisions/0004).
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/checkpoint_io.h"
#include "engine/fan_mark.h"
#include "engine/side.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 2000
#define LOADS_MAX    64 /* whose marks are looked for at the end */

/* --- the cluster --- */

static int open_cluster(struct run *r, const atomic_bool *stop, struct cluster **ret,
                        struct err *err)
{
    const struct task_side *side = &r->cfg->target;
    struct client_config cfg = task_side_client(side, "target", r->cfg->connect_timeout_ms,
                                                r->cfg->io_timeout_ms, stop);
    return cluster_open(ret, &cfg, &side->addresses, err);
}

int migrate_open_at_end(struct run *r, struct cluster **ret, struct err *err)
{
    return open_cluster(r, NULL, ret, err);
}

int migrate_meet_cluster(struct run *r, struct err *err)
{
    if (!r->cluster) {
        if (open_cluster(r, r->stop, &r->cluster, err) < 0) return -1;
    } else if (cluster_refresh(r->cluster, err) < 0) {
        return -1;
    }
    const struct cluster_map *m = cluster_map(r->cluster);
    if (m->owned < SLOT_COUNT)
        return err_set(err, ERR_BUSY, "target: %u slots of the cluster have no node",
                       SLOT_COUNT - m->owned);
    struct primaries all = {.cluster = r->cluster};
    struct server_facts facts;
    if (check_nodes(&all, &facts, err) < 0) return -1;
    facts_release(&r->target_facts);
    r->target_facts = facts;
    return 0;
}

static int dial_primary(struct run *r, struct err *err)
{
    client_close(r->target);
    r->target = NULL;
    return cluster_dial(r->cluster, cluster_map_primary(cluster_map(r->cluster), 0), &r->target,
                        err);
}

int migrate_know_cluster(struct run *r, struct err *err)
{
    struct server_facts all;
    struct primaries target = run_target(r);
    if (dial_primary(r, err) < 0 || check_nodes(&target, &all, err) < 0) return -1;
    facts_release(&r->target_facts);
    r->target_facts = all;
    return 0;
}

int migrate_mark_client(struct run *r, struct client **ret, struct err *err)
{
    if (r->cluster) return cluster_client_of(r->cluster, slot_of(r->mark.key), ret, err);
    if (!r->target && run_open_side(r, &r->cfg->target, "target", &r->target, err) < 0) return -1;
    *ret = r->target;
    return 0;
}

/* --- where it is --- */

static int new_place(struct run *r, const char *load, uint64_t offset, uint64_t db, struct err *err)
{
    fan_place_free(r->place);
    r->place = NULL;
    return fan_place_new(&r->place, r->mark.key, load, offset, db, err);
}

/* The checkpoint is claimed: what the slots have. r->at then tells where the stream goes on. */
int migrate_read_slots(struct run *r, struct err *err)
{
    if (r->at.kind != CHECKPOINT_STREAM || !r->at.load[0]) return 0;
    memcpy(r->load_id, r->at.load, sizeof(r->load_id));
    r->begin_offset = r->at.offset;
    r->begin_db = r->at.db;
    if (fan_evict(r->cluster, state_name(r->state), err) < 0 ||
        new_place(r, r->load_id, r->at.offset, r->at.db, err) < 0)
        return -1;
    int rc = fan_place_read(r->place, r->cluster, err);
    if (rc < 0) return -1;
    if (rc > 0) {
        log_warn("a node of the target has no checkpoint of this task: what it has is not known, "
                 "so everything is copied again; the target is not emptied");
        r->plan = PLAN_RELOAD;
        return 0;
    }
    r->at.offset = r->place->w;
    r->at.db = r->place->db;
    return 0;
}

static int clear_marks(struct run *r, const char *load, struct err *err)
{
    if (new_place(r, load, 0, 0, err) < 0) return -1;
    int rc = fan_marks_clear(r->place, r->cluster, err);
    fan_place_free(r->place); /* a stream has another one, of its own load */
    r->place = NULL;
    return rc;
}

static void name_load(char out[9], uint32_t number)
{
    snprintf(out, 9, "%08x", (unsigned)number);
}

static uint32_t load_number(const char *name)
{
    return (uint32_t)strtoul(name, NULL, 16);
}

/* Before the checkpoint says that a snapshot is loaded: the marks of the one before go. Loads are
 * numbered on, so that at the end all of them can be named. */
int migrate_name_load(struct run *r, struct err *err)
{
    uint32_t number;
    const char *last = r->at.load[0] ? r->at.load : r->load_id;
    if (r->at.load[0] && clear_marks(r, r->at.load, err) < 0) return -1;
    if (last[0])
        number = load_number(last) + 1;
    else if (RAND_bytes((unsigned char *)&number, sizeof(number)) != 1)
        return err_set(err, ERR_INTERNAL, "no random numbers");
    name_load(r->load_id, number);
    return 0;
}

/* --- lanes --- */

int migrate_open_fan(struct run *r, struct err *err)
{
    struct fan_config cfg = {.cluster = r->cluster,
                             .import = &r->import,
                             .lane = pipeline_lane_config(&r->pl),
                             .pause = &r->pl.lane,
                             .task = r->state ? state_name(r->state) : "",
                             .inputs_dir = r->state ? state_dir(r->state) : NULL,
                             .store_dir = r->spool_dir,
                             .store_max_bytes = run_store_max(r)};
    client_close(r->target);
    r->target = NULL;
    r->pl.lane.db = 0;
    if (fan_open(&r->fan, &cfg, err) < 0) return -1;
    r->pl.fan = r->pl.hold.fan = r->fan;
    return 0;
}

/* Nothing beyond this can have been applied by whoever came before: what has been received, or, by
 * another spool's run, what the source had when we came. */
static uint64_t applied_at_most(const struct run *r)
{
    uint64_t received = pipeline_received(&r->pl);
    int64_t had = r->source_facts.repl_offset;
    return had > 0 && (uint64_t)had > received ? (uint64_t)had : received;
}

/* The stream goes on, or begins, at r->place. */
int migrate_begin_fan(struct run *r, bool again, struct err *err)
{
    if (!r->place && new_place(r, r->load_id, r->pl.applied_offset, r->load.stream_db, err) < 0)
        return -1;
    struct fan_place *place = r->place;
    r->place = NULL;
    return fan_begin_stream(r->fan, place, again ? applied_at_most(r) : 0, err);
}

/* --- lost, and found again --- */

/* Whole, and a lane to each of its nodes. */
static int meet(struct run *r, struct err *err)
{
    if (migrate_meet_cluster(r, err) < 0) return -1;
    return dial_primary(r, err) < 0 ? -1 : migrate_take_target(r, err);
}

static int wait_a_while(struct run *r, int64_t ms, struct err *err)
{
    int64_t until = clock_mono_ms() + ms;
    for (int64_t now; (now = clock_mono_ms()) < until && !*r->stop;)
        if (pipeline_step(&r->pl, (int)(until - now), err) < 0) return r->pl.hole ? 1 : -1;
    return 0;
}

/* Words of what came last. */
static int gave_up(struct run *r, const struct err *why, struct err *err)
{
    if (*r->stop)
        return err_set(err, ERR_NET,
                       "stopped while the target was lost (%s); what has been received is kept, "
                       "run the same command again to go on",
                       why->msg);
    r->gave_up = true;
    *err = *why;
    return err_wrap(err, "gave up (--retry-time waits longer)");
}

int migrate_find_cluster(struct run *r, struct err *err)
{
    struct err why = *err;
    int64_t until = clock_mono_ms() + r->cfg->retry_time_ms, pause = PAUSE_MIN_MS;
    fan_drop(r->fan);
    fan_lose(r->fan, LANE_LOST);
    log_warn("%s; calling again, for %lld s at most", why.msg,
             (long long)(r->cfg->retry_time_ms / 1000));
    counters_wait(r->counters, COUNTERS_WAITS_FOR_TARGET, until, why.msg);
    counter_add(&r->counters->links_lost, 1);
    for (;;) {
        int rc = wait_a_while(r, pause, err);
        if (rc != 0) return rc;
        if (*r->stop || clock_mono_ms() > until) return gave_up(r, &why, err);
        rc = meet(r, &why);
        if (rc >= 0) {
            counters_wait(r->counters, COUNTERS_WAITS_FOR_NONE, 0, "");
            return rc;
        }
        if (err_class(why.code) != ERR_CLASS_TRANSIENT) {
            *err = why;
            return -1;
        }
        log_debug("%s", why.msg);
        counters_set_why(r->counters, why.msg);
        pause = pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : pause * 2;
    }
}

/* In the place of a single target's new connection: lanes to all nodes. */
int migrate_take_cluster(struct run *r, struct err *err)
{
    client_close(r->target);
    r->target = NULL;
    r->fan->lost = r->pl.lane.lost = LANE_FINE;
    r->pl.lane.retry_since_ms = 0;
    if (fan_connect(r->fan, err) == 0 && migrate_begin_fan(r, true, err) == 0) return 0;
    fan_drop(r->fan);
    fan_lose(r->fan, LANE_LOST);
    return -1;
}

/* --- the end --- */

/* Marks, then the checkpoint itself. A failover that lost writes may have brought back marks of
 * loads before. */
int migrate_unmark_cluster(struct run *r, struct err *err)
{
    struct client *c;
    uint64_t loads = state_progress(r->state)->snapshots + 1;
    if (loads > LOADS_MAX) loads = LOADS_MAX;
    for (uint32_t i = 0; i < loads; i++) {
        char load[9];
        name_load(load, load_number(r->load_id) - i);
        if (clear_marks(r, load, err) < 0) return -1;
    }
    if (r->fan) fan_forget(r->fan);
    if (migrate_mark_client(r, &c, err) < 0) return -1;
    return checkpoint_remove(c, r->mark.db, r->mark.key, err);
}

void migrate_release_cluster(struct run *r)
{
    fan_place_free(r->place);
    cluster_close(r->cluster);
    r->place = NULL;
    r->cluster = NULL;
}
