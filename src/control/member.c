// SPDX-License-Identifier: BSD-3-Clause
// What runs have from their group, under its lock.
#include "control/group_impl.h"

#include "base/clock.h"

#include <time.h>

#define WAIT_MS      100
#define LAST_LOOK_MS 10000

void group_wait(struct group *g, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&g->changed, &g->lock, &until);
}

/* --- slots that move; the lock is held --- */

static void take_out(struct slot_set *of, const struct slot_set *what)
{
    for (unsigned i = 0; i < SLOT_SET_WORDS; i++)
        of->word[i] &= ~what->word[i];
}

/* That it owns, but for those that are not adopted. */
static void find_slots(struct member *m)
{
    struct slot_set missing = m->part->settle;
    take_out(&missing, &m->pending);
    take_out(&missing, &m->loading);
    m->held = m->slots = m->part->slots;
    take_out(&m->slots, &missing);
    m->waits = slot_set_count(&missing) > 0;
    counter_set(&m->shard->counters.slots_unsettled, slot_set_count(&m->part->settle));
}

static void take_map(struct member *m)
{
    m->seen = m->group->map;
    find_slots(m);
}

static void idle(struct member *m)
{
    if (m->acked == m->group->map) return;
    take_map(m);
    m->acked = m->seen;
    pthread_cond_broadcast(&m->group->changed);
}

static unsigned acked_by_all(const struct group *g)
{
    unsigned least = g->map;
    for (unsigned i = 0; i < g->n; i++)
        if (!g->member[i]->ended && g->member[i]->acked < least) least = g->member[i]->acked;
    return least;
}

static void find_adoptable(const struct member *m, struct slot_set *ret)
{
    unsigned acked = acked_by_all(m->group);
    *ret = m->part->settle;
    take_out(ret, &m->pending);
    take_out(ret, &m->loading);
    if (acked == 0) slot_set_clear(ret);
    for (unsigned s = slot_set_next(ret, 0); s < SLOT_COUNT; s = slot_set_next(ret, s + 1))
        if (m->group->moved[s] > acked) slot_set_remove(ret, (uint16_t)s);
}

static int save(struct member *m, struct err *err)
{
    return group_state_save(&m->group->kept, state_dir(m->group->r->state), err);
}

/* It had come to its end, and then a slot came that it has not. */
static bool is_overtaken(const struct member *m)
{
    return slot_set_count(&m->part->settle) > 0;
}

/* The map has been looked at since all had come to their end, all owners agree to it, and no slot
 * is half way or still to be settled, be it one of a shard that has no run yet; or it cannot be
 * looked at any more. */
static bool has_looked(struct group *g)
{
    int64_t now = clock_mono_ms();
    if (!g->done_ms) {
        g->done_ms = now;
        g->done_looks = g->looks;
    }
    if (!group_is_settled(g)) return false;
    if (g->looks > g->done_looks + 1) return g->still;
    return now - g->done_ms > LAST_LOOK_MS;
}

/* --- the same, for its run --- */

bool member_map_changed(const struct member *m)
{
    return atomic_load_explicit(&m->group->map, memory_order_acquire) != m->acked;
}

unsigned member_map(const struct member *m)
{
    return m->seen;
}

void member_owned(struct member *m, struct slot_set *ret)
{
    group_lock(m->group);
    *ret = m->part->slots;
    group_unlock(m->group);
}

bool member_waits(const struct member *m)
{
    return m->waits;
}

void member_adoptable_since(struct member *m, unsigned map, struct slot_set *ret)
{
    group_lock(m->group);
    find_adoptable(m, ret);
    for (unsigned s = slot_set_next(ret, 0); s < SLOT_COUNT; s = slot_set_next(ret, s + 1))
        if (m->group->moved[s] > map) slot_set_remove(ret, (uint16_t)s);
    group_unlock(m->group);
}

void member_take_map(struct member *m)
{
    group_lock(m->group);
    take_map(m);
    group_unlock(m->group);
}

void member_ack_map(struct member *m)
{
    group_lock(m->group);
    m->acked = m->seen;
    pthread_cond_broadcast(&m->group->changed);
    group_unlock(m->group);
}

void member_idle(struct member *m)
{
    group_lock(m->group);
    idle(m);
    group_unlock(m->group);
}

bool member_is_settled(struct member *m)
{
    group_lock(m->group);
    bool settled = !is_overtaken(m);
    group_unlock(m->group);
    return settled;
}

bool member_has_unsettled(struct member *m)
{
    group_lock(m->group);
    struct slot_set left = m->part->settle;
    take_out(&left, &m->pending);
    group_unlock(m->group);
    return slot_set_count(&left) > 0;
}

void member_adoptable(struct member *m, struct slot_set *ret)
{
    group_lock(m->group);
    find_adoptable(m, ret);
    group_unlock(m->group);
}

void member_adopted(struct member *m, uint16_t slot, uint64_t offset)
{
    group_lock(m->group);
    /* Unless it has moved on, which the run is about to learn. */
    if (slot_set_has(&m->part->settle, slot) && m->group->moved[slot] <= m->seen) {
        slot_set_add(&m->pending, slot);
        slot_set_add(&m->slots, slot);
        if (offset > m->pending_to) m->pending_to = offset;
    }
    group_unlock(m->group);
}

int member_confirm(struct member *m, uint64_t offset, struct err *err)
{
    int rc = 0;
    group_lock(m->group);
    unsigned n = offset < m->pending_to ? 0 : slot_set_count(&m->pending);
    if (n) {
        struct group_shard before = *m->part;
        take_out(&m->part->settle, &m->pending);
        slot_set_or(&m->part->settled, &m->pending);
        if (m->pending_to > m->part->settled_to) m->part->settled_to = m->pending_to;
        rc = save(m, err);
        if (rc < 0) *m->part = before;
    }
    if (rc == 0 && n) slot_set_clear(&m->pending);
    bool left = slot_set_count(&m->pending) > 0;
    find_slots(m);
    group_unlock(m->group);
    if (rc == 0 && n) log_info("%u slots that came from other shards have been settled", n);
    return rc < 0 ? -1 : !left;
}

int member_go_back(struct member *m, uint64_t offset, struct err *err)
{
    int rc = 0;
    group_lock(m->group);
    struct group_shard *p = m->part;
    slot_set_clear(&m->pending);
    slot_set_clear(&m->loading);
    if (offset < p->settled_to && slot_set_count(&p->settled)) {
        slot_set_or(&p->settle, &p->settled);
        slot_set_and(&p->settle, &p->slots);
        slot_set_clear(&p->settled);
        p->settled_to = 0;
        rc = save(m, err);
    }
    find_slots(m);
    group_unlock(m->group);
    return rc;
}

int member_unsettle(struct member *m, const struct slot_set *slots, struct err *err)
{
    int rc = 0;
    struct slot_set own = *slots;
    group_lock(m->group);
    slot_set_and(&own, &m->slots);
    slot_set_and(&own, &m->part->slots);
    if (slot_set_count(&own)) {
        slot_set_or(&m->part->settle, &own);
        take_out(&m->part->settled, &own);
        take_out(&m->pending, &own);
        take_out(&m->loading, &own);
        find_slots(m);
        rc = save(m, err);
    }
    group_unlock(m->group);
    return rc;
}

const struct slot_set *member_slots_held(const struct member *m)
{
    return &m->held;
}

void member_must_reload(struct member *m)
{
    group_lock(m->group);
    m->must_reload = true;
    group_unlock(m->group);
}

bool member_reloads(struct member *m)
{
    group_lock(m->group);
    bool reloads = m->must_reload;
    group_unlock(m->group);
    return reloads;
}

void member_begin_load(struct member *m, bool late)
{
    struct slot_set now;
    group_lock(m->group);
    slot_set_clear(&m->pending);
    slot_set_clear(&m->loading);
    find_adoptable(m, &now);
    if (!late) m->loading = now;
    find_slots(m);
    group_unlock(m->group);
}

int member_loaded(struct member *m, struct err *err)
{
    group_lock(m->group);
    struct group_shard *p = m->part, before = *p;
    take_out(&p->settle, &m->loading);
    slot_set_clear(&p->settled);
    p->settled_to = 0;
    int rc = memcmp(p, &before, sizeof(before)) ? save(m, err) : 0;
    slot_set_clear(&m->loading);
    find_slots(m);
    m->must_reload = false;
    group_unlock(m->group);
    return rc;
}

bool member_is_leaving(const struct member *m)
{
    return m->leaving;
}

bool member_new_addresses(const struct member *m)
{
    return m->uri_changed;
}

void member_take_addresses(struct member *m)
{
    group_lock(m->group);
    if (m->uri_changed) {
        uri_release(&m->cfg.source.uri);
        m->cfg.source.uri = m->next_uri;
        m->next_uri = (struct uri){.db = -1};
        m->uri_changed = false;
    }
    group_unlock(m->group);
}

bool member_knows_node(struct member *m, const char *id)
{
    bool known = false;
    group_lock(m->group);
    for (unsigned i = 0; i < m->part->n_nodes && !known; i++)
        known = strcmp(m->part->node[i], id) == 0;
    group_unlock(m->group);
    return known;
}

/* --- meeting --- */

/* The first of those that wait does what is done once, when no one is missing. */
static bool is_on(const struct member *m, enum member_stage stage)
{
    const struct group *g = m->group;
    const struct member *first = NULL;
    for (unsigned i = 0; i < g->n; i++) {
        if (g->member[i]->ended || g->member[i]->leaving) continue;
        if (g->member[i]->stage < stage) return false;
        if (!first && g->member[i]->stage == stage) first = g->member[i];
    }
    return first == m;
}

static void decide(struct group *g)
{
    bool any = false;
    for (unsigned i = 0; i < g->n; i++)
        any |= g->member[i]->has_checkpoint;
    g->fresh = !any;
    g->unsure = any && !state_known(g->r->state);
    for (unsigned i = 0; g->unsure && i < g->n; i++)
        g->member[i]->part->settle = g->member[i]->part->slots;
}

int member_meet(struct member *m, enum member_stage stage,
                int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                struct err *err)
{
    struct group *g = m->group;
    struct err ignored;
    int rc = -1;
    group_lock(g);
    m->stage = stage;
    pthread_cond_broadcast(&g->changed);
    while (rc < 0 && !m->stop) {
        idle(m);
        if (g->open >= stage) {
            rc = 0;
        } else if (stage == MEMBER_DONE && is_overtaken(m)) {
            m->stage = MEMBER_CHECKED;
            g->done_ms = 0;
            rc = 2;
        } else if (is_on(m, stage) && (stage != MEMBER_DONE || has_looked(g))) {
            if (stage == MEMBER_PLANNED) decide(g);
            rc = 1;
        } else if (step) {
            group_unlock(g);
            if (step(ctx, WAIT_MS, &ignored) < 0) step = NULL;
            group_lock(g);
        } else {
            group_wait(g, WAIT_MS);
        }
    }
    group_unlock(g);
    return rc < 0 ? err_set(err, ERR_STOPPED, "stopped") : rc;
}

void member_go_on(struct member *m, enum member_stage stage)
{
    struct group *g = m->group;
    group_lock(g);
    g->open = stage;
    pthread_cond_broadcast(&g->changed);
    group_unlock(g);
}

bool member_is_late(const struct member *m)
{
    return m->late;
}

unsigned member_count(const struct member *m)
{
    group_lock(m->group);
    unsigned n = m->group->n;
    group_unlock(m->group);
    return n;
}

struct state *member_task_state(const struct member *m)
{
    return m->group->r->state;
}

int member_task_done(struct member *m, struct err *err)
{
    struct group *g = m->group;
    group_lock(g); /* its own thread notes there how far the task is */
    int rc = task_flow_state(&state_progress(g->r->state)->phase, STATE_DONE, err);
    if (rc == 0) rc = state_save(g->r->state, err);
    group_unlock(g);
    return rc;
}

void member_tell_checkpoint(struct member *m, bool has)
{
    group_lock(m->group);
    m->has_checkpoint = has;
    group_unlock(m->group);
}

bool member_all_fresh(const struct member *m)
{
    group_lock(m->group);
    bool fresh = m->group->fresh;
    group_unlock(m->group);
    return fresh;
}

bool member_unsure(const struct member *m)
{
    group_lock(m->group);
    bool unsure = m->group->unsure;
    group_unlock(m->group);
    return unsure;
}

/* What status tells, and finish goes by. */
int member_streams(struct member *m, struct err *err)
{
    struct group *g = m->group;
    struct state_progress *p = state_progress(g->r->state);
    int rc = 0;
    group_lock(g);
    m->streams = true;
    bool all = p->phase == STATE_LOADING;
    for (unsigned i = 0; i < g->n; i++)
        all &= g->member[i]->streams || g->member[i]->ended;
    if (all) rc = task_flow_state(&p->phase, STATE_STREAM, err);
    if (all && rc == 0) rc = state_save(g->r->state, err);
    group_unlock(g);
    return rc;
}

/* --- turns --- */

static bool take_turn(struct member *m)
{
    struct group *g = m->group;
    unsigned max = g->r->cfg->max_snapshots;
    if (m->has_turn) return true;
    if (max && g->turns >= max) return false;
    g->turns++;
    m->has_turn = true;
    return true;
}

bool member_try_turn(struct member *m)
{
    group_lock(m->group);
    bool mine = take_turn(m);
    group_unlock(m->group);
    return mine;
}

int member_wait_turn(struct member *m, struct err *err)
{
    struct group *g = m->group;
    bool mine = false;
    group_lock(g);
    while (!m->stop && !(mine = take_turn(m))) {
        idle(m);
        group_wait(g, WAIT_MS);
    }
    group_unlock(g);
    return mine ? 0 : err_set(err, ERR_STOPPED, "stopped");
}

void member_end_turn(struct member *m)
{
    struct group *g = m->group;
    group_lock(g);
    if (m->has_turn) g->turns--;
    m->has_turn = false;
    pthread_cond_broadcast(&g->changed);
    group_unlock(g);
}

/* --- the rest --- */

struct import_mode *member_import(struct member *m)
{
    return &m->group->import;
}

void member_import_cluster(struct member *m)
{
    group_lock(m->group);
    m->group->import_cluster = true;
    group_unlock(m->group);
}

void member_import_ours(struct member *m)
{
    group_lock(m->group);
    m->group->import_ours = true;
    group_unlock(m->group);
}
