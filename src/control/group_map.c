// SPDX-License-Identifier: BSD-3-Clause
// From the map of the source to its shards: which there are, which of them were there before, where
// they are reached.
#include "control/group_impl.h"

#include "base/clock.h"
#include "engine/side.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define PAUSE_MS 500

/* --- meeting it --- */

static int open_cluster(struct group *g, struct err *err)
{
    const struct task_config *cfg = g->r->cfg;
    struct client_config client = task_side_client(&cfg->source, "source", cfg->connect_timeout_ms,
                                                   cfg->io_timeout_ms, g->r->stop);
    client.prefer_replica = false;
    return cluster_open(&g->cluster, &client, &cfg->source.addresses, err);
}

static int pause_ms(const struct group *g, int64_t ms, struct err *err)
{
    int64_t until = clock_mono_ms() + ms;
    while (clock_mono_ms() < until) {
        if (*g->r->stop) return err_set(err, ERR_STOPPED, "stopped");
        poll(NULL, 0, 50);
    }
    return 0;
}

/* A task that has begun waits for its source; before that a mistake in an address is told at once.
 */
int group_meet_cluster(struct group *g, struct err *err)
{
    const struct task_config *cfg = g->r->cfg;
    int64_t until = clock_mono_ms() + (state_known(g->r->state) ? cfg->retry_time_ms : 0);
    bool told = false;
    while (open_cluster(g, err) < 0) {
        if (err_class(err->code) != ERR_CLASS_TRANSIENT || clock_mono_ms() >= until) return -1;
        if (!told)
            log_warn("%s; again, for %lld s at most", err->msg,
                     (long long)(cfg->retry_time_ms / 1000));
        told = true;
        if (pause_ms(g, PAUSE_MS, err) < 0) return -1;
    }
    const struct cluster_map *m = cluster_map(g->cluster);
    if (m->owned == 0)
        return err_set(err, ERR_REFUSED, "source: no node of the cluster has any slots");
    if (m->owned < SLOT_COUNT)
        log_warn("source: %u slots of the cluster belong to no node: what is in them is not moved",
                 SLOT_COUNT - m->owned);
    return 0;
}

/* --- which shards --- */

static bool has_node(const struct group_shard *s, const char *id)
{
    for (unsigned i = 0; i < s->n_nodes; i++)
        if (strcmp(s->node[i], id) == 0) return true;
    return false;
}

static bool is_taken(const struct group *g, const uint16_t *primary_of, const struct group_shard *s)
{
    for (unsigned i = 0; i < g->kept.n; i++)
        if (g->kept.shard[i] == s) return primary_of[i] != CLUSTER_NO_NODE;
    return true;
}

static bool has_replica_of(const struct cluster_map *m, uint16_t primary,
                           const struct group_shard *s)
{
    for (unsigned i = cluster_map_replica(m, primary, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_replica(m, primary, i + 1))
        if (has_node(s, m->node[i].id)) return true;
    return false;
}

/* The shard that this primary is of, by who was in it: as primary, at all, or a replica of it was.
 * NULL: it is new. */
static struct group_shard *find_known(const struct group *g, const struct cluster_map *m,
                                      uint16_t primary, const uint16_t *primary_of)
{
    const char *id = m->node[primary].id;
    for (int how = 0; how < 3; how++)
        for (unsigned i = 0; i < g->kept.n; i++) {
            struct group_shard *s = g->kept.shard[i];
            bool fits = how == 0   ? s->n_nodes && strcmp(s->node[0], id) == 0
                        : how == 1 ? has_node(s, id)
                                   : has_replica_of(m, primary, s);
            if (fits && !is_taken(g, primary_of, s)) return s;
        }
    return NULL;
}

static void add_node(struct group_shard *s, const char *id)
{
    if (s->n_nodes == GROUP_NODES_MAX || has_node(s, id)) return;
    snprintf(s->node[s->n_nodes++], CLUSTER_ID_MAX, "%s", id);
}

/* Who was in it before is remembered, unless it is in another shard by now. */
static void note_nodes(struct group_shard *s, const struct cluster_map *m, uint16_t primary)
{
    struct group_shard before = *s;
    s->n_nodes = 0;
    add_node(s, m->node[primary].id);
    for (unsigned i = cluster_map_replica(m, primary, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_replica(m, primary, i + 1))
        add_node(s, m->node[i].id);
    for (unsigned i = 0; i < before.n_nodes; i++)
        if (cluster_map_by_id(m, before.node[i]) == CLUSTER_NO_NODE) add_node(s, before.node[i]);
}

static unsigned next_number(const struct group *g)
{
    return g->kept.n ? g->kept.shard[g->kept.n - 1]->number + 1 : 1;
}

static bool is_found(const struct group *g, const uint16_t *primary_of, uint16_t primary)
{
    for (unsigned k = 0; k < g->kept.n; k++)
        if (primary_of[k] == primary) return true;
    return false;
}

/* primary_of[i]: of g->kept.shard[i], CLUSTER_NO_NODE: it has no slots. */
static int match_shards(struct group *g, const struct cluster_map *m, uint16_t *primary_of,
                        struct err *err)
{
    for (unsigned i = 0; i < GROUP_SHARDS_MAX; i++)
        primary_of[i] = CLUSTER_NO_NODE;
    /* New ones get their numbers in the order of their slots. */
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        uint16_t i = m->owner[slot];
        if (i == CLUSTER_NO_NODE || (slot && i == m->owner[slot - 1]) || is_found(g, primary_of, i))
            continue;
        struct group_shard *s = find_known(g, m, i, primary_of);
        if (!s && g->kept.n == GROUP_SHARDS_MAX)
            return err_set(err, ERR_LIMIT, "source: more than %d shards", GROUP_SHARDS_MAX);
        if (!s && group_state_add(&g->kept, next_number(g), &s, err) < 0) return -1;
        for (unsigned k = 0; k < g->kept.n; k++)
            if (g->kept.shard[k] == s) primary_of[k] = i;
        note_nodes(s, m, i);
    }
    return 0;
}

/* --- which slots --- */

static void give_slot(struct group *g, uint16_t slot, struct group_shard *from,
                      struct group_shard *to, bool settled)
{
    if (from) {
        slot_set_remove(&from->slots, slot);
        slot_set_remove(&from->settle, slot);
        slot_set_remove(&from->settled, slot);
    }
    for (unsigned i = 0; i < g->n; i++) {
        slot_set_remove(&g->member[i]->loading, slot);
        slot_set_remove(&g->member[i]->pending, slot);
    }
    slot_set_add(&to->slots, slot);
    if (!settled) slot_set_add(&to->settle, slot);
    g->moved[slot] = g->map + 1;
}

/* A slot that has another owner than before is for that one to adopt. A slot of nobody stays with
 * who had it last: nothing can be written to it. */
static unsigned assign_slots(struct group *g, const struct cluster_map *m,
                             const uint16_t *primary_of, bool first)
{
    struct group_shard *had[SLOT_COUNT] = {NULL}, *has[CLUSTER_NODES_MAX] = {NULL};
    unsigned moved = 0;
    for (unsigned i = 0; i < g->kept.n; i++) {
        struct group_shard *s = g->kept.shard[i];
        if (primary_of[i] != CLUSTER_NO_NODE) has[primary_of[i]] = s;
        for (unsigned k = slot_set_next(&s->slots, 0); k < SLOT_COUNT;
             k = slot_set_next(&s->slots, k + 1))
            had[k] = s;
    }
    for (unsigned k = 0; k < SLOT_COUNT; k++) {
        struct group_shard *now = m->owner[k] == CLUSTER_NO_NODE ? NULL : has[m->owner[k]];
        if (!now || now == had[k]) continue;
        give_slot(g, (uint16_t)k, had[k], now, first);
        moved++;
    }
    return moved;
}

static int change_shards(struct group *g, bool first, unsigned *ret_moved, struct err *err)
{
    const struct cluster_map *m = cluster_map(g->cluster);
    uint16_t *primary_of = calloc(GROUP_SHARDS_MAX, sizeof(*primary_of));
    if (!primary_of) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = match_shards(g, m, primary_of, err);
    if (rc == 0) *ret_moved = assign_slots(g, m, primary_of, first);
    free(primary_of);
    return rc;
}

int group_change_shards(struct group *g, unsigned *ret_moved, struct err *err)
{
    return change_shards(g, false, ret_moved, err);
}

int group_find_shards(struct group *g, struct err *err)
{
    const char *dir = state_dir(g->r->state);
    bool restart = g->r->cfg->restart;
    unsigned moved;
    int known = group_state_read(&g->kept, dir, err);
    if (known < 0 && !(restart && err->code == ERR_FORMAT)) return -1;
    if (change_shards(g, known <= 0, &moved, err) < 0) return -1;
    if (known == 1 && moved)
        log_info("source: %u slots of the cluster have moved since the run before", moved);
    for (unsigned i = 0; i < g->kept.n; i++)
        g->kept.shard[i]->ended = slot_set_count(&g->kept.shard[i]->slots) == 0;
    memset(g->moved, 0, sizeof(g->moved)); /* no run knows of anything else */
    return group_state_save(&g->kept, dir, err);
}

/* --- where they are --- */

static const struct cluster_node *primary_of(const struct group *g, const struct group_shard *s)
{
    const struct cluster_map *m = cluster_map(g->cluster);
    uint16_t i = s->n_nodes ? cluster_map_by_id(m, s->node[0]) : CLUSTER_NO_NODE;
    return i == CLUSTER_NO_NODE ? NULL : &m->node[i];
}

char *group_shard_address(const struct group *g, const struct group_shard *s, char *out,
                          size_t size)
{
    const char *host[2], *port[2];
    const struct cluster_node *n = primary_of(g, s);
    unsigned ways = n ? cluster_ways(g->cluster, n, host, port) : 0;
    if (ways == 0)
        snprintf(out, size, "?");
    else
        snprintf(out, size, strchr(host[0], ':') ? "[%s]:%s" : "%s:%s", host[0], port[0]);
    return out;
}

static int add_ways(struct group *g, const struct cluster_node *n, struct uri *u, bool *first,
                    struct err *err)
{
    const char *host[2], *port[2];
    unsigned ways = cluster_ways(g->cluster, n, host, port);
    for (unsigned i = 0; i < ways && uri_addresses(u) < URI_ADDRESSES_MAX; i++) {
        int rc = *first ? uri_with_address(u, &g->r->cfg->source.uri, host[i], port[i], err)
                        : uri_add_address(u, host[i], port[i], err);
        if (rc < 0) return -1;
        *first = false;
    }
    return 0;
}

int group_shard_uri(struct group *g, const struct group_shard *s, struct uri *ret, struct err *err)
{
    const struct cluster_map *m = cluster_map(g->cluster);
    struct uri u = {.db = -1};
    bool first = true;
    for (unsigned i = 0; i < s->n_nodes; i++) {
        uint16_t node = cluster_map_by_id(m, s->node[i]);
        if (node == CLUSTER_NO_NODE || m->node[node].handshake) continue;
        if (add_ways(g, &m->node[node], &u, &first, err) < 0) {
            uri_release(&u);
            return -1;
        }
    }
    if (first)
        return err_set(err, ERR_BUSY, "source: no node of shard %u has an address", s->number);
    *ret = u;
    return 0;
}
