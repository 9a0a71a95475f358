// SPDX-License-Identifier: BSD-3-Clause
// The group: its members made, started, watched, ended.
#include "control/group_impl.h"

#include "base/clock.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_MS 100

bool group_began(struct state *state)
{
    return group_state_exists(state_dir(state));
}

/* --- members --- */

static void release_member(struct member *m)
{
    if (!m) return;
    state_close(m->state, false);
    uri_release(&m->cfg.source.uri);
    uri_release(&m->next_uri);
    free(m);
}

static void name_member(struct member *m, const char *address)
{
    snprintf(m->log.words, sizeof(m->log.words), "shard %u (%s)", m->part->number, address);
}

static int fill_member(struct member *m, struct group *g, struct group_shard *part, struct err *err)
{
    char address[SHARDS_ADDRESS_MAX];
    m->group = g;
    m->part = part;
    m->seen = g->map;
    m->held = m->slots = part->slots;
    for (unsigned i = 0; i < SLOT_SET_WORDS; i++)
        m->slots.word[i] &= ~part->settle.word[i];
    m->cfg = *g->r->cfg;
    m->cfg.source.uri = (struct uri){.db = -1};
    m->cfg.source.addresses = (struct cluster_addresses){0}; /* the map's have been changed */
    m->cfg.until = TASK_UNTIL_STOPPED;                       /* all end together: m->finish */
    m->cfg.slots = &m->slots;
    if (group_shard_uri(g, part, &m->cfg.source.uri, err) < 0 ||
        state_open_shard(&m->state, g->r->state, part->number, g->r->cfg->restart, err) < 0 ||
        shards_add(g->shards, part->number, &m->shard, err) < 0)
        return -1;
    /* it may have been there before, and have left */
    counter_set(&m->shard->counters.phase, PHASE_CONNECT);
    group_shard_address(g, part, address, sizeof(address));
    shards_change(g->shards, m->shard, address, slot_set_count(&part->slots), false);
    name_member(m, address);
    return 0;
}

static int make_member(struct group *g, struct group_shard *part, struct err *err)
{
    struct member *m = calloc(1, sizeof(*m));
    struct member **more = m ? realloc(g->member, (g->n + 1) * sizeof(*more)) : NULL;
    if (!more) {
        free(m);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    g->member = more;
    m->cfg.source.uri.db = m->next_uri.db = -1;
    if (fill_member(m, g, part, err) < 0) {
        release_member(m);
        return -1;
    }
    more[g->n++] = m;
    return 0;
}

/* The lock is held. */
static void leave(struct member *m)
{
    m->left = true;
    m->part->ended = true;
    slot_set_clear(&m->part->settled);
    char address[SHARDS_ADDRESS_MAX];
    memcpy(address, m->shard->address, sizeof(address));
    shards_change(m->group->shards, m->shard, address, 0, true);
    state_close(m->state, false);
    m->state = NULL;
}

static void *run_member(void *arg)
{
    struct member *m = arg;
    struct group *g = m->group;
    struct err err = {0};
    uint64_t refused = 0;
    char words[LOG_NAME_MAX];
    snprintf(words, sizeof(words), "%s", m->log.words);
    log_name_begin(&m->log, words);
    int rc = run_shard(&(struct run_setup){.cfg = &m->cfg,
                                           .state = m->state,
                                           .counters = &m->shard->counters,
                                           .facts = &m->facts,
                                           .stop = &m->stop,
                                           .finish = &m->finish,
                                           .member = m},
                       &refused, &err);
    log_name_end(&m->log);
    member_end_turn(m);
    group_lock(g);
    m->rc = rc;
    m->err = err;
    m->refused = refused;
    m->ended = true;
    if (m->leaving && (rc == 0 || err.code == ERR_STOPPED)) leave(m);
    if (rc < 0 && err.code != ERR_STOPPED && !g->failed) g->failed = m;
    pthread_cond_broadcast(&g->changed);
    group_unlock(g);
    return NULL;
}

static int start_member(struct member *m, struct err *err)
{
    int rc = pthread_create(&m->thread, NULL, run_member, m);
    if (rc != 0) return err_set(err, ERR_NOMEM, "cannot start a thread: %s", strerror(rc));
    m->started = true;
    return 0;
}

int group_begin_member(struct group *g, struct group_shard *part, struct err *err)
{
    if (make_member(g, part, err) < 0) return -1;
    g->member[g->n - 1]->late = true;
    return start_member(g->member[g->n - 1], err);
}

struct member *group_member_of(const struct group *g, const struct group_shard *part)
{
    for (unsigned i = 0; i < g->n; i++)
        if (g->member[i]->part == part && !g->member[i]->left) return g->member[i];
    return NULL;
}

bool group_is_settled(const struct group *g)
{
    for (unsigned i = 0; i < g->kept.n; i++)
        if (slot_set_count(&g->kept.shard[i]->settle)) return false;
    return true;
}

/* --- watching them --- */

static void stop_all(struct group *g)
{
    for (unsigned i = 0; i < g->n; i++)
        g->member[i]->stop = true;
    pthread_cond_broadcast(&g->changed);
}

static bool all_ended(const struct group *g)
{
    for (unsigned i = 0; i < g->n; i++)
        if (g->member[i]->started && !g->member[i]->ended) return false;
    return true;
}

static bool all_in_phase(const struct group *g, enum phase from)
{
    for (unsigned i = 0; i < g->n; i++) {
        struct counters *c = &g->member[i]->shard->counters;
        if (!g->member[i]->ended && counter_get(&c->phase) < from) return false;
    }
    return true;
}

/* Slots that have moved are where they belong, and every run knows it. */
static bool all_settled(const struct group *g)
{
    for (unsigned i = 0; i < g->n; i++) {
        const struct member *m = g->member[i];
        if (m->ended) continue;
        if (m->leaving || m->acked != g->map || slot_set_count(&m->part->settle)) return false;
    }
    for (unsigned i = 0; i < g->kept.n; i++)
        if (slot_set_count(&g->kept.shard[i]->slots) && !group_member_of(g, g->kept.shard[i]))
            return false;
    return true;
}

static bool may_end(struct group *g)
{
    g->ask_still = g->n && all_in_phase(g, PHASE_STREAM) && all_settled(g);
    return g->ask_still && g->still;
}

/* Whoever has caught up goes on until all have: then each ends as soon as it has applied what its
 * source has by then. */
static void end_together(struct group *g)
{
    struct run *r = g->r;
    bool until = r->cfg->until == TASK_UNTIL_CAUGHT_UP;
    if (r->cfg->type == TASK_FULL || (!until && !*state_asked(r->state))) return;
    if (!g->finishing && (!may_end(g) || (!until && !state_take_asked(r->state)))) return;
    g->finishing = true;
    for (unsigned i = 0; i < g->n; i++) /* also those that are new */
        g->member[i]->finish = true;
}

static void watch(struct group *g)
{
    group_lock(g);
    while (!all_ended(g)) {
        if (g->failed || *g->r->stop) stop_all(g);
        end_together(g);
        group_wait(g, LOOK_MS);
        shards_sum(g->shards, g->r->counters);
    }
    group_unlock(g);
}

/* --- the end --- */

static void join_all(struct group *g)
{
    for (unsigned i = 0; i < g->n; i++)
        if (g->member[i]->started) pthread_join(g->member[i]->thread, NULL);
    shards_sum(g->shards, g->r->counters);
}

/* Of the first that failed; else whether one was stopped. */
static int result(struct group *g, uint64_t *ret_refused, struct err *err)
{
    const struct member *stopped = NULL;
    for (unsigned i = 0; i < g->n; i++) {
        *ret_refused += g->member[i]->refused;
        if (g->member[i]->rc < 0 && !g->member[i]->left) stopped = g->member[i];
    }
    if (g->failed) {
        *err = g->failed->err;
        return err_wrap(err, "%s", g->failed->log.words);
    }
    if (!stopped) return 0;
    *err = stopped->err;
    return -1;
}

static int give_time_back(struct group *g, int rc, struct err *err)
{
    struct run *r = g->r;
    struct err why;
    struct primaries at = {0};
    if (!g->import_ours && !g->import.ours) return rc;
    if (rc < 0 && err->code != ERR_STOPPED) {
        log_warn("target: stays in import mode, for the changes that are still to come: until this "
                 "task runs again and ends in order, or: CONFIG SET import-mode no");
        return rc;
    }
    g->import.ours = true;
    if ((g->import_cluster ? migrate_open_at_end(r, &at.cluster, &why)
                           : run_open_at_end(r, &at.one, &why)) == 0) {
        int done = import_mode_end(&g->import, &at, &why);
        client_close(at.one);
        cluster_close(at.cluster);
        state_progress(r->state)->import_ours = g->import.ours;
        if (done == 0 && state_save(r->state, &why) == 0) return rc;
    }
    *err = why;
    return err_wrap(err, "target: stays in import mode");
}

static void tell_facts(struct group *g)
{
    struct task_facts *to = g->r->facts;
    if (g->n == 0) return;
    *to = g->member[0]->facts;
    snprintf(to->source_shown, sizeof(to->source_shown), "%s", g->r->cfg->source.uri.shown);
    size_t n = strlen(to->source_name);
    if (n) snprintf(to->source_name + n, sizeof(to->source_name) - n, " (%u shards)", g->n);
}

/* --- all of it --- */

static int start_all(struct group *g, struct err *err)
{
    for (unsigned i = 0; i < g->kept.n; i++)
        if (!g->kept.shard[i]->ended && make_member(g, g->kept.shard[i], err) < 0) return -1;
    char shown[SHARDS_ADDRESS_MAX];
    log_info("source is a cluster of %u shards", g->n);
    for (unsigned i = 0; i < g->n; i++)
        log_info("shard %u is at %s: %u slots", g->member[i]->part->number,
                 group_shard_address(g, g->member[i]->part, shown, sizeof(shown)),
                 slot_set_count(&g->member[i]->slots));
    for (unsigned i = 0; i < g->n; i++)
        if (start_member(g->member[i], err) < 0) {
            group_lock(g);
            stop_all(g);
            group_unlock(g);
            return -1;
        }
    return 0;
}

static int run_all(struct group *g, uint64_t *ret_refused, struct err *err)
{
    if (group_meet_cluster(g, err) < 0 || group_find_shards(g, err) < 0) return -1;
    int rc = start_all(g, err);
    if (rc == 0) rc = group_watch(g, err);
    if (rc == 0) watch(g);
    group_watch_end(g);
    if (rc < 0) {
        group_lock(g);
        stop_all(g);
        group_unlock(g);
    }
    join_all(g);
    tell_facts(g);
    if (rc < 0) return -1;
    rc = result(g, ret_refused, err);
    return give_time_back(g, rc, err);
}

static void init(struct group *g, struct run *r, struct shards *shards)
{
    pthread_condattr_t attr;
    *g = (struct group){.r = r, .shards = shards};
    atomic_store(&g->map, 1);
    pthread_mutex_init(&g->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&g->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static void release(struct group *g)
{
    for (unsigned i = 0; i < g->n; i++)
        release_member(g->member[i]);
    free(g->member);
    cluster_close(g->cluster);
    group_state_release(&g->kept);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

int group_run(struct run *r, struct shards *shards, uint64_t *ret_refused, struct err *err)
{
    struct group g;
    init(&g, r, shards);
    int rc = run_all(&g, ret_refused, err);
    release(&g);
    return rc;
}
