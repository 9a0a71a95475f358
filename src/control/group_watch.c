// SPDX-License-Identifier: BSD-3-Clause
// Watching the source's topology, on a thread of its own: slots that move, shards that come and go,
// nodes at other addresses.
//
//   map read ──▶ lists changed ──▶ saved and synced ──▶ in force: runs take it over (member.h)
//                                                  └──▶ members for shards that are new
#include "control/group_impl.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LOOK_MS 200
#define TRY_MS  2000 /* to begin with a shard that could not be begun with */
#define BARE_MS 3000 /* a shard without slots may get some again */

/* --- has anything changed? --- */

static void add_text(XXH3_state_t *h, const char *text)
{
    XXH3_64bits_update(h, text, strlen(text) + 1);
}

static uint64_t hash_map(const struct cluster_map *m)
{
    XXH3_state_t h;
    XXH3_64bits_reset(&h);
    for (uint16_t i = 0; i < m->n; i++) {
        const struct cluster_node *n = &m->node[i];
        add_text(&h, n->id);
        add_text(&h, n->host);
        add_text(&h, n->hostname);
        add_text(&h, n->port);
        add_text(&h, n->primary_id);
        XXH3_64bits_update(&h, &n->handshake, sizeof(n->handshake));
    }
    XXH3_64bits_update(&h, m->owner, sizeof(m->owner));
    return XXH3_64bits_digest(&h);
}

/* --- what follows for members; the lock is held --- */

static void readdress(struct group *g, struct member *m)
{
    struct uri now;
    struct err err;
    char address[SHARDS_ADDRESS_MAX], words[LOG_NAME_MAX];
    group_shard_address(g, m->part, address, sizeof(address));
    shards_change(g->shards, m->shard, address, slot_set_count(&m->part->slots), false);
    snprintf(words, sizeof(words), "shard %u (%s)", m->part->number, address);
    if (strcmp(words, m->log.words) != 0) {
        log_info("shard %u is at %s now", m->part->number, address);
        log_name_change(&m->log, words);
    }
    if (group_shard_uri(g, m->part, &now, &err) < 0) return;
    const struct uri *known = m->uri_changed ? &m->next_uri : &m->cfg.source.uri;
    if (strcmp(now.shown, known->shown) == 0) {
        uri_release(&now);
        return;
    }
    uri_release(&m->next_uri);
    m->next_uri = now;
    m->uri_changed = true;
}

static void readdress_all(struct group *g)
{
    for (unsigned i = 0; i < g->n; i++)
        if (!g->member[i]->ended && !g->member[i]->leaving) readdress(g, g->member[i]);
}

/* A shard without slots has nothing to do, once what it had is settled elsewhere. */
static void let_bare_ones_go(struct group *g)
{
    int64_t now = clock_mono_ms();
    for (unsigned i = 0; i < g->n; i++) {
        struct member *m = g->member[i];
        if (m->ended || m->leaving) continue;
        if (slot_set_count(&m->part->slots)) {
            m->bare_since_ms = 0;
        } else if (!m->bare_since_ms) {
            m->bare_since_ms = now;
        } else if (now - m->bare_since_ms > BARE_MS && group_is_settled(g) && m->acked == g->map &&
                   m->stage < MEMBER_DONE && !m->finish) {
            log_info("shard %u has no slots any more", m->part->number);
            m->leaving = true;
            m->stop = true;
        }
    }
}

static void begin_new_ones(struct group *g)
{
    struct err err;
    if (g->failed || g->open >= MEMBER_DONE || clock_mono_ms() < g->next_try_ms) return;
    for (unsigned i = 0; i < g->kept.n; i++) {
        struct group_shard *s = g->kept.shard[i];
        if (slot_set_count(&s->slots) == 0 || group_member_of(g, s)) continue;
        log_info("shard %u is new: %u slots", s->number, slot_set_count(&s->slots));
        if (group_begin_member(g, s, &err) == 0) continue;
        log_warn("shard %u: %s", s->number, err.msg);
        g->next_try_ms = clock_mono_ms() + TRY_MS;
    }
}

/* --- the map --- */

/* First it is on the disk which slots are to be settled, then runs act by it. */
static void put_in_force(struct group *g)
{
    struct err err;
    if (!g->unsaved) return;
    if (group_state_save(&g->kept, state_dir(g->r->state), &err) < 0) {
        log_warn("%s; again", err.msg);
        return;
    }
    g->unsaved = false;
    atomic_fetch_add(&g->map, 1);
    readdress_all(g);
}

static void take_map(struct group *g)
{
    struct err err;
    unsigned moved = 0;
    uint64_t hash = hash_map(cluster_map(g->cluster));
    if (hash != g->map_hash) {
        if (group_change_shards(g, &moved, &err) < 0) {
            log_warn("source: %s", err.msg);
            return;
        }
        g->map_hash = hash;
        g->unsaved = true;
        if (moved) log_info("source: %u slots have moved to another shard", moved);
    }
    put_in_force(g);
    begin_new_ones(g);
    let_bare_ones_go(g);
}

/* --- slots that are half way; the map of all owners --- */

static void tell_half_way(struct group *g, int slot)
{
    if (slot == g->half_way) return;
    if (slot >= 0)
        log_warn("source: slot %d is half way between two shards, each of which has a part of its "
                 "keys: the task does not end before it has arrived (redis-cli --cluster fix)",
                 slot);
    else
        log_info("source: no slot is half way between two shards any more");
    g->half_way = slot;
}

/* Does the primary say of its own slots what the map does? *half_way: a slot that is. */
static bool agrees(const struct cluster_map *m, uint16_t i, const struct cluster_map *own,
                   int *half_way)
{
    bool same = true;
    for (int s = 0; s < SLOT_COUNT; s++) {
        bool has = own->myself != CLUSTER_NO_NODE && own->owner[s] == own->myself;
        same &= has == (m->owner[s] == i);
        if (own->moving[s] != CLUSTER_STAYS) *half_way = s;
    }
    return same;
}

/* Each primary is asked: which slots are half way only it tells, and the node that told the map may
 * not have heard of the last move. */
static int ask_owners(struct group *g, bool *ret_still, struct err *err)
{
    const struct cluster_map *m = cluster_map(g->cluster);
    int half_way = -1;
    bool same = true;
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u)) {
        struct client *c;
        struct cluster_map *own;
        if (cluster_client(g->cluster, i, &c, err) < 0 || cluster_read_map(c, &own, err) < 0)
            return -1;
        same &= agrees(m, i, own, &half_way);
        cluster_map_free(own);
    }
    tell_half_way(g, half_way);
    *ret_still = same && half_way < 0;
    return 0;
}

/* A look at the source, without the lock. *ret_still, when asked for: no slot is half way, and the
 * map is that of all owners. */
static int look(struct group *g, bool ask, bool *ret_still, struct err *err)
{
    *ret_still = false;
    if (cluster_refresh(g->cluster, err) < 0) return -1;
    return ask ? ask_owners(g, ret_still, err) : 0;
}

static void *watch(void *arg)
{
    struct group *g = arg;
    struct err err;
    group_lock(g);
    for (int64_t next = 0; !g->leave;) {
        int64_t left = next - clock_mono_ms();
        if (left > 0) group_wait(g, (int)left); /* others are waited for by the same means */
        if (g->leave || left > 0 || g->open < MEMBER_CHECKED) {
            if (left <= 0) next = clock_mono_ms() + LOOK_MS;
            continue;
        }
        next = clock_mono_ms() + LOOK_MS;
        bool ask = g->ask_still || g->done_ms, still = false;
        group_unlock(g);
        int rc = look(g, ask, &still, &err);
        if (rc < 0) log_debug("%s", err.msg);
        group_lock(g);
        if (rc == 0 && !g->leave) take_map(g);
        g->looks += rc == 0;
        g->still = still;
    }
    group_unlock(g);
    return NULL;
}

int group_watch(struct group *g, struct err *err)
{
    g->map_hash = hash_map(cluster_map(g->cluster));
    g->half_way = -1;
    int rc = pthread_create(&g->watcher, NULL, watch, g);
    if (rc != 0) return err_set(err, ERR_NOMEM, "cannot start a thread: %s", strerror(rc));
    g->watched = true;
    return 0;
}

void group_watch_end(struct group *g)
{
    if (!g->watched) return;
    group_lock(g);
    g->leave = true;
    pthread_cond_broadcast(&g->changed);
    group_unlock(g);
    pthread_join(g->watcher, NULL);
    g->watched = false;
}
