// SPDX-License-Identifier: BSD-3-Clause
// The fan: its lanes, and following the cluster where it goes.
#include "engine/fan.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/checkpoint_io.h"
#include "redis/facts.h"

#include <stdio.h>
#include <stdlib.h>

#define MOVED_MS 60000 /* so often it is said again that slots move */
#define STOP_MS  10000 /* so long a redirection is still followed when the task is to stop */

void fan_lose(struct fan *f, enum lane_lost why)
{
    f->lost = why;
    f->pause->lost = why;
}

/* --- nodes --- */

static struct fan_node *find(const struct fan *f, const char *id)
{
    for (unsigned i = 0; i < f->n; i++)
        if (strcmp(f->nodes[i]->id, id) == 0) return f->nodes[i];
    return NULL;
}

static void free_node(struct fan_node *n)
{
    if (!n) return;
    lane_release(&n->lane);
    store_release(&n->out);
    buf_release(&n->order);
    free(n);
}

static struct fan_node *add_node(struct fan *f, const char *id, struct err *err)
{
    struct lane_config cfg = f->lane_config;
    cfg.conn = NULL;
    if (f->n == FAN_NODES_MAX) {
        err_set(err, ERR_LIMIT, "target: a cluster of more than %d primaries", FAN_NODES_MAX);
        return NULL;
    }
    struct fan_node *n = calloc(1, sizeof(*n));
    if (!n) {
        err_set(err, ERR_NOMEM, "out of memory");
        return NULL;
    }
    snprintf(n->id, sizeof(n->id), "%s", id);
    store_init(&n->out, BATCH_MEM_BYTES, f->store_max_bytes, f->store_dir);
    buf_init(&n->order, 64u << 20);
    if (lane_init(&n->lane, &cfg, err) < 0) {
        free_node(n);
        return NULL;
    }
    f->nodes[f->n++] = n;
    return n;
}

/* Whoever wrote to it before in this task's name is cut off first. */
static int dial(struct fan *f, struct fan_node *n, uint16_t at, struct err *err)
{
    struct client *c;
    struct conn *conn;
    if (cluster_dial(f->cluster, at, &c, err) < 0) return -1;
    if ((f->task[0] && checkpoint_evict(c, f->task, err) < 0) ||
        (f->import && import_mode_mark_conn(f->import, c, err) < 0) ||
        client_take_conn(c, &conn, err) < 0) {
        client_close(c);
        return -1;
    }
    lane_reset(&n->lane, conn);
    return 0;
}

static int connect_node(struct fan *f, uint16_t at, struct err *err)
{
    const struct cluster_node *as = &cluster_map(f->cluster)->node[at];
    struct fan_node *n = find(f, as->id);
    if (!n && !(n = add_node(f, as->id, err))) return -1;
    if (n->lane.conn && !n->lane.lost) return 0;
    return dial(f, n, at, err);
}

/* The first, the last, and the middle one. */
static void choose_marks(struct fan *f, unsigned node)
{
    uint16_t *to = f->nodes[node]->mark_slot;
    unsigned n = 0, at = 0;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (f->node_of[slot] == node && n++ == 0) to[0] = to[1] = (uint16_t)slot;
    for (unsigned slot = to[0]; slot < SLOT_COUNT && n; slot++) {
        if (f->node_of[slot] != node) continue;
        if (at++ == n / 2) to[1] = (uint16_t)slot;
        to[2] = (uint16_t)slot;
    }
}

static int take_map(struct fan *f, const struct cluster_map *m, struct err *err)
{
    for (unsigned i = 0; i < f->n; i++)
        f->nodes[i]->used = false;
    for (unsigned slot = SLOT_COUNT; slot-- > 0;) {
        const char *id = m->node[m->owner[slot]].id;
        uint16_t i = 0;
        while (i < f->n && strcmp(f->nodes[i]->id, id) != 0)
            i++;
        if (i == f->n) return err_set(err, ERR_BUSY, "target: slot %u is with no primary", slot);
        f->node_of[slot] = i;
        f->nodes[i]->used = true;
    }
    for (unsigned i = 0; i < f->n; i++)
        choose_marks(f, i);
    if (f->stream) fan_stream_joined(f->stream);
    return 0;
}

int fan_connect(struct fan *f, struct err *err)
{
    const struct cluster_map *m = cluster_map(f->cluster);
    if (m->owned < SLOT_COUNT)
        return err_set(err, ERR_BUSY, "target: %u slots of the cluster have no node",
                       SLOT_COUNT - m->owned);
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u))
        if (connect_node(f, i, err) < 0) return -1;
    return take_map(f, m, err);
}

void fan_drop(struct fan *f)
{
    for (unsigned i = 0; i < f->n; i++)
        lane_drop(&f->nodes[i]->lane, LANE_LOST);
    buf_clear(&f->peers.rest);
    fan_stream_free(f->stream);
    f->stream = NULL;
    cluster_stop_by(f->cluster, f->lane_config.stop);
}

/* --- lanes that stand for each other --- */

static struct lane *nth_lane(void *ctx, unsigned i)
{
    struct fan *f = ctx;
    return i < f->n ? &f->nodes[i]->lane : NULL;
}

static struct lane *lane_of(void *ctx, struct span key)
{
    return fan_lane_of(ctx, key);
}

static int follow(void *ctx, const char *line, struct err *err)
{
    return fan_follow(ctx, line, err);
}

static void recovered(void *ctx)
{
    fan_recovered(ctx);
}

static void join_lanes(struct fan *f)
{
    lane_peers_init(&f->peers);
    f->peers.nth = nth_lane;
    f->peers.of = lane_of;
    f->peers.follow = follow;
    f->peers.recovered = recovered;
    f->peers.ctx = f;
    f->lane_config.peers = &f->peers;
}

int fan_open(struct fan **ret, const struct fan_config *cfg, struct err *err)
{
    struct fan *f = calloc(1, sizeof(*f));
    if (!f) return err_set(err, ERR_NOMEM, "out of memory");
    f->cluster = cfg->cluster;
    f->import = cfg->import;
    f->pause = cfg->pause;
    f->lane_config = cfg->lane;
    f->inputs_dir = cfg->inputs_dir;
    f->store_dir = cfg->store_dir;
    f->store_max_bytes = cfg->store_max_bytes;
    snprintf(f->task, sizeof(f->task), "%s", cfg->task);
    join_lanes(f);
    if (fan_connect(f, err) < 0) {
        fan_close(f);
        return -1;
    }
    *ret = f;
    return 0;
}

void fan_close(struct fan *f)
{
    if (!f) return;
    fan_drop(f);
    for (unsigned i = 0; i < f->n; i++)
        free_node(f->nodes[i]);
    lane_peers_release(&f->peers);
    free(f);
}

/* --- the poll step --- */

unsigned fan_poll(struct fan *f, struct pollfd *fds, unsigned max, int *ret_wait)
{
    unsigned n = 0;
    for (unsigned i = 0; i < f->n && n < max; i++, n++) {
        struct lane *l = &f->nodes[i]->lane;
        fds[n] = (struct pollfd){.fd = l->conn ? conn_fd(l->conn) : -1,
                                 .events = lane_poll_events(l)};
        if (l->conn && conn_pending(l->conn)) *ret_wait = 0;
    }
    return n;
}

int fan_pump(struct fan *f, const struct pollfd *fds, unsigned n, struct err *err)
{
    for (unsigned i = 0; i < f->n && i < n; i++) {
        struct lane *l = &f->nodes[i]->lane;
        bool readable = fds[i].revents != 0 || (l->conn && conn_pending(l->conn));
        if (lane_pump(l, readable, err) >= 0) continue;
        bool needed = f->nodes[i]->used || lane_busy(l) || l->n_retry;
        if (l->lost && needed) fan_lose(f, l->lost);
        if (needed || !l->lost) return -1;
        lane_drop(l, LANE_LOST); /* it has no slots any more */
    }
    return 0;
}

int fan_drain(struct fan *f, struct err *err)
{
    return lane_peers_drain(&f->peers, err);
}

/* --- following --- */

static bool same_owners(const struct fan *f, const struct cluster_map *m)
{
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (m->owner[slot] == CLUSTER_NO_NODE ||
            strcmp(f->nodes[f->node_of[slot]]->id, m->node[m->owner[slot]].id) != 0)
            return false;
    return true;
}

/* For its whole life, or so it says. */
static bool always_primary(struct fan *f, uint16_t at)
{
    struct client *c;
    struct server_facts facts;
    struct err ignored;
    if (cluster_client(f->cluster, at, &c, &ignored) < 0 || facts_read(c, &facts, &ignored) < 0)
        return false;
    bool always = facts.role == FACTS_PRIMARY && !facts.replid2[0];
    facts_release(&facts);
    return always;
}

/* Slots move from primary to primary with their data and marks. A primary that is none any more may
 * have lost writes. The replica that took over may be known before the other has given up its
 * office: till then that one is a primary without slots. */
static bool all_in_office(struct fan *f, const struct cluster_map *m)
{
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u)) {
        const struct fan_node *n = find(f, m->node[i].id);
        if (!(n && n->used) && !always_primary(f, i)) return false;
    }
    for (unsigned i = 0; i < f->n; i++) {
        uint16_t at = f->nodes[i]->used ? cluster_map_by_id(m, f->nodes[i]->id) : 0;
        if (!f->nodes[i]->used) continue;
        if (at == CLUSTER_NO_NODE || !m->node[at].primary || m->node[at].failed) return false;
    }
    return true;
}

/* Slots are often moved one after the other, by the thousand. */
static void tell_moved(struct fan *f)
{
    int64_t now = clock_mono_ms();
    if (f->told_moved_ms && now - f->told_moved_ms < MOVED_MS) return;
    f->told_moved_ms = now;
    log_info("target: slots of the cluster move to other nodes; following them");
}

static int lost_office(struct fan *f, const char *line, struct err *err)
{
    fan_lose(f, LANE_READONLY);
    return err_set(err, ERR_BUSY, "target: a primary of the cluster has lost its office (%s)",
                   line);
}

int fan_look(struct fan *f, bool *ret_moved, struct err *err)
{
    for (;;) {
        struct err why = {.msg = "slots have no node"};
        bool read = cluster_refresh(f->cluster, &why) == 0;
        const struct cluster_map *m = cluster_map(f->cluster);
        if (read && !all_in_office(f, m)) return lost_office(f, "the map tells", err);
        if (read && m->owned == SLOT_COUNT) {
            *ret_moved = !same_owners(f, m);
            if (!*ret_moved || fan_connect(f, &why) == 0) return 0;
        }
        if (lane_pause(f->pause, why.msg, err) < 0) return -1;
    }
}

/* What is on its way when the task is to stop does come to an end, where just its node changes. */
static int pause_for(struct fan *f, const char *line, struct err *err)
{
    struct lane *l = f->pause;
    int64_t now = clock_mono_ms();
    if (lane_pause(l, line, err) == 0) return 0;
    bool stopped = l->stop && *l->stop && !l->lost && !l->gave_up;
    if (!stopped || !fan_is_redirect(line)) return -1;
    if (!f->stop_ms) f->stop_ms = now;
    if (now - f->stop_ms > STOP_MS) return -1;
    return f->lane_config.step(f->lane_config.step_ctx, 50, err) < 0 ? -1 : 0;
}

int fan_follow(struct fan *f, const char *line, struct err *err)
{
    struct err why;
    if (cluster_refresh(f->cluster, &why) < 0) {
        log_debug("%s", why.msg);
        return pause_for(f, line, err);
    }
    const struct cluster_map *m = cluster_map(f->cluster);
    if (!all_in_office(f, m)) return lost_office(f, line, err);
    if (m->owned < SLOT_COUNT || same_owners(f, m)) return pause_for(f, line, err);
    if (fan_connect(f, &why) == 0) {
        tell_moved(f);
        return 0;
    }
    log_debug("%s", why.msg);
    return lane_pause(f->pause, why.msg, err);
}

void fan_recovered(struct fan *f)
{
    lane_recovered(f->pause);
}
