// SPDX-License-Identifier: BSD-3-Clause
// What runs have from their group, under its lock.
#include "control/group_impl.h"

#include <time.h>

#define WAIT_MS 100

void group_wait(struct group *g, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&g->changed, &g->lock, &until);
}

/* --- meeting --- */

/* The first of those that wait does what is done once, when no one is missing. */
static bool is_on(const struct member *m, enum member_stage stage)
{
    const struct group *g = m->group;
    const struct member *first = NULL;
    for (unsigned i = 0; i < g->n; i++) {
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
        if (g->open >= stage) {
            rc = 0;
        } else if (is_on(m, stage)) {
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

bool member_has_unsettled(struct member *m)
{
    group_lock(m->group);
    bool unsettled = m->unsettled;
    group_unlock(m->group);
    return unsettled;
}

int member_loaded(struct member *m, struct err *err)
{
    struct group *g = m->group;
    int rc = 0;
    group_lock(g);
    if (m->unsettled) {
        slot_set_clear(&m->part->settle);
        rc = group_state_save(&g->kept, state_dir(g->r->state), err);
        m->unsettled = rc < 0;
    }
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
    while (!m->stop && !(mine = take_turn(m)))
        group_wait(g, WAIT_MS);
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
