// SPDX-License-Identifier: BSD-3-Clause
// What the run of one shard does when slots of the source move (docs/decisions/0004): takes a new
// map over, adopts slots that have come, keeps to nodes that are the shard's.
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "control/member.h"
#include "engine/checkpoint_io.h"
#include "engine/side.h"
#include "redis/cluster.h"

#define ROUND_MS   100 /* between two rounds of adopting: slots come one by one */
#define CONFIRM_MS 200 /* between two looks at what has been applied */

/* --- the map --- */

/* What has been sent by the map before is answered; what is adopted just now may have moved on. */
static int take_map(struct run *r, struct err *err)
{
    struct slot_set still;
    member_take_map(r->member);
    if (replay_barrier(&r->replay, err) < 0) return -1;
    member_ack_map(r->member);
    if (adopt_is_idle(&r->adopt)) return 0;
    member_adoptable_since(r->member, r->adopt_map, &still);
    slot_set_and(&r->adopt.round, &still);
    if (r->adopt.slot < SLOT_COUNT && !slot_set_has(&still, (uint16_t)r->adopt.slot))
        adopt_cancel(&r->adopt);
    return 0;
}

static int between_keys(void *ctx, struct err *err)
{
    struct run *r = ctx;
    if (!member_map_changed(r->member)) return 0;
    if (pipeline_drain(&r->pl, err) < 0) return -1;
    member_idle(r->member);
    return 0;
}

void shard_idle(struct run *r)
{
    if (r->idle && member_map_changed(r->member)) member_idle(r->member);
}

int shard_tick(void *ctx, struct err *err)
{
    (void)err;
    shard_idle(ctx);
    return 0;
}

void shard_begin_load(struct run *r, struct load_config *cfg)
{
    cfg->between = between_keys;
    cfg->between_ctx = r;
}

/* --- adopting --- */

static int open_source(void *ctx, struct client **ret, struct err *err)
{
    struct run *r = ctx;
    struct client_config cfg = task_side_client(
        &r->cfg->source, "source", r->cfg->connect_timeout_ms, r->cfg->io_timeout_ms, r->stop);
    cfg.prefer_replica = false;
    return client_open(ret, &cfg, err);
}

static int open_target(void *ctx, struct client **ret, struct cluster **ret_cluster,
                       struct err *err)
{
    struct run *r = ctx;
    *ret = NULL;
    *ret_cluster = r->cluster;
    return r->cluster ? 0 : run_open_side(r, &r->cfg->target, "target", ret, err);
}

static void adopted(void *ctx, uint16_t slot, uint64_t offset)
{
    struct run *r = ctx;
    member_adopted(r->member, slot, offset);
    r->adopted = true;
}

/* NULL: slots can be adopted. Without checkpoints nothing tells that what was put is applied. */
static const char *why_not(const struct run *r)
{
    const struct server_facts *f = &r->source_facts;
    if (r->replay.db_max > 0 || (f->n_db && f->db[f->n_db - 1].db > 0))
        return "several databases are in use";
    if (db_select_target(&r->cfg->select, 0) < 0) return "the first database is not selected";
    return r->replay.checkpoint ? NULL : "the task does without checkpoints";
}

static int look_for_slots(struct run *r, struct err *err)
{
    struct slot_set slots;
    int64_t now = clock_mono_ms();
    if (now < r->adopt_at_ms) return 0;
    r->adopt_at_ms = now + ROUND_MS;
    member_adoptable(r->member, &slots);
    if (slot_set_count(&slots) == 0) return 0;
    const char *words = why_not(r);
    if (words) {
        err_set(&r->adopt.why, ERR_UNSUPPORTED, "%s", words);
        r->adopt.gave_up = true;
        return 0;
    }
    r->adopt_map = member_map(r->member);
    return adopt_begin(&r->adopt, &slots, err);
}

static int confirm(struct run *r, struct err *err)
{
    int64_t now = clock_mono_ms();
    if (!r->adopted || now < r->confirm_at_ms) return 0;
    r->confirm_at_ms = now + CONFIRM_MS;
    int rc = member_confirm(r->member, r->replay.checkpoint_offset, err);
    if (rc == 1) r->adopted = false;
    return rc < 0 ? -1 : 0;
}

/* With slots to be settled the target is behind, whatever the lag says. */
static void tell_phase(struct run *r)
{
    counter *phase = &r->counters->phase;
    bool behind = r->adopted || member_waits(r->member);
    if (behind && counter_get(phase) == PHASE_STREAM) counter_set(phase, PHASE_CATCH_UP);
    if (!behind && r->replay.caught_up && counter_get(phase) == PHASE_CATCH_UP)
        counter_set(phase, PHASE_STREAM);
}

static int between(void *ctx, bool dry, struct err *err)
{
    struct run *r = ctx;
    if (KH_UNLIKELY(member_map_changed(r->member)) && take_map(r, err) < 0) return -1;
    if (KH_LIKELY(!r->adopted && adopt_is_idle(&r->adopt) && !dry && !member_waits(r->member)))
        return 0;
    tell_phase(r);
    if (confirm(r, err) < 0) return -1;
    if (adopt_is_idle(&r->adopt) ? look_for_slots(r, err) < 0 : adopt_step(&r->adopt, dry, err) < 0)
        return -1;
    if (!r->adopt.gave_up) return 0;
    log_warn("slots that came from other shards cannot be settled one by one (%s)",
             r->adopt.why.msg);
    member_must_reload(r->member);
    return err_set(err, ERR_BUSY, "source: slots have come that only a snapshot can bring");
}

static int trimmed(void *ctx, const struct slot_set *slots, struct err *err)
{
    struct run *r = ctx;
    const struct adopt *a = &r->adopt;
    /* what has been put of it has gone there without being deleted here */
    if (a->slot < SLOT_COUNT && slot_set_has(slots, (uint16_t)a->slot)) adopt_flushed(&r->adopt);
    return member_unsettle(r->member, slots, err);
}

void shard_begin_adopting(struct run *r)
{
    adopt_init(&r->adopt, &(struct adopt_config){.rp = &r->replay,
                                                 .existing_path = state_existing_path(r->state),
                                                 .open_source = open_source,
                                                 .open_target = open_target,
                                                 .adopted = adopted,
                                                 .ctx = r});
    r->replay.adopt = &r->adopt;
    r->replay.between = between;
    r->replay.trimmed = trimmed;
    r->pl.hold.slots = member_slots_held(r->member);
    r->adopted = false;
    r->adopt_at_ms = 0;
}

/* The stream goes on at another place. */
int shard_go_back(struct run *r, uint64_t offset, struct err *err)
{
    if (r->has_replay) adopt_cancel(&r->adopt);
    r->adopted = false;
    return member_go_back(r->member, offset, err);
}

/* --- nodes --- */

/* An address may have gone to a node of another shard, whose history would be taken for ours. */
int shard_check_node(struct run *r, struct client *c, struct err *err)
{
    struct cluster_map *m;
    if (cluster_read_map(c, &m, err) < 0) return -1;
    bool known = false, serves = false;
    if (m->myself != CLUSTER_NO_NODE) {
        const struct cluster_node *me = &m->node[m->myself];
        const char *primary = me->primary ? me->id : me->primary_id;
        known = member_knows_node(r->member, me->id) || member_knows_node(r->member, primary);
        uint16_t at = cluster_map_by_id(m, primary);
        struct slot_set own;
        member_owned(r->member, &own);
        serves = slot_set_count(&own) == 0;
        for (unsigned s = slot_set_next(&own, 0); !serves && s < SLOT_COUNT;
             s = slot_set_next(&own, s + 1))
            serves = m->owner[s] == at;
    }
    cluster_map_free(m);
    if (known && serves) return 0;
    return err_set(err, ERR_BUSY, "%s: is a node of another shard", client_name(c));
}

void shard_leave(struct run *r)
{
    struct err why;
    struct client *c = NULL;
    int rc = r->cluster ? migrate_unmark_cluster(r, &why) : run_open_at_end(r, &c, &why);
    if (rc == 0 && !r->cluster) rc = checkpoint_remove(c, r->mark.db, r->mark.key, &why);
    if (rc < 0) log_warn("%s: the key %s may be left there; delete it", why.msg, r->mark_key);
    client_close(c);
}
