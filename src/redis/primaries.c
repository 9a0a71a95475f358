// SPDX-License-Identifier: BSD-3-Clause
// The servers that hold one side's keys, and the walk over them.
#include "redis/primaries.h"

#include "base/clock.h"

#include <poll.h>
#include <stdlib.h>

#define PASS_PAUSE_MS 100   /* slots move on meanwhile */
#define PATIENCE_MS   60000 /* for slots that stay on their way */
#define SLICE_MS      50

int primaries_client_of(const struct primaries *p, struct span key, struct client **ret,
                        struct err *err)
{
    if (p->cluster) return cluster_client_of(p->cluster, slot_of(key), ret, err);
    *ret = p->one;
    return 0;
}

int primaries_any(const struct primaries *p, struct client **ret, struct err *err)
{
    if (p->cluster) {
        uint16_t i = cluster_map_primary(cluster_map(p->cluster), 0);
        if (i == CLUSTER_NO_NODE)
            return err_set(err, ERR_BUSY, "no node of the cluster has a slot");
        return cluster_client(p->cluster, i, ret, err);
    }
    *ret = p->one;
    return 0;
}

int primaries_each(const struct primaries *p,
                   int (*fn)(void *ctx, struct client *c, struct err *err), void *ctx,
                   struct err *err)
{
    struct client *c;
    if (!p->cluster) return fn(ctx, p->one, err);
    const struct cluster_map *m = cluster_map(p->cluster);
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u))
        if (cluster_client(p->cluster, i, &c, err) < 0 || fn(ctx, c, err) < 0) return -1;
    return 0;
}

bool primaries_redirects(const struct reply *r)
{
    return reply_error_is(r, "MOVED") || reply_error_is(r, "ASK") ||
           reply_error_is(r, "TRYAGAIN") || reply_error_is(r, "CLUSTERDOWN");
}

/* --- who owns what --- */

struct seen { /* a primary, by what it says itself */
    char id[CLUSTER_ID_MAX];
    bool moves; /* slots are on their way to it, or from it */
};

struct walk_view {
    struct seen *node;
    unsigned n;
    uint16_t owner[SLOT_COUNT]; /* index of node, or CLUSTER_NO_NODE */
    struct slot_set moving;
};

static void view_free(struct walk_view *v)
{
    if (!v) return;
    free(v->node);
    free(v);
}

static struct walk_view *view_new(const struct cluster_map *m, struct err *err)
{
    struct walk_view *v = calloc(1, sizeof(*v));
    if (v) v->node = calloc(m->n ? m->n : 1u, sizeof(*v->node));
    if (!v || !v->node) {
        view_free(v);
        err_set(err, ERR_NOMEM, "out of memory for the nodes of a cluster");
        return NULL;
    }
    memset(v->owner, 0xff, sizeof(v->owner));
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u))
        memcpy(v->node[v->n++].id, m->node[i].id, CLUSTER_ID_MAX);
    return v;
}

/* What the node says of its own slots. */
static int take_view(struct walk_view *v, unsigned i, const struct cluster_map *own,
                     const struct client *c, struct err *err)
{
    if (own->myself == CLUSTER_NO_NODE || strcmp(own->node[own->myself].id, v->node[i].id) != 0 ||
        !own->node[own->myself].primary)
        return err_set(err, ERR_BUSY, "%s: is no primary any more", client_name(c));
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        if (own->owner[slot] == own->myself) v->owner[slot] = (uint16_t)i;
        if (own->moving[slot] == CLUSTER_STAYS) continue;
        slot_set_add(&v->moving, (uint16_t)slot);
        v->node[i].moves = true;
    }
    return 0;
}

static int client_by_id(struct cluster *c, const char *id, struct client **ret, struct err *err)
{
    uint16_t i = cluster_map_by_id(cluster_map(c), id);
    if (i == CLUSTER_NO_NODE) return err_set(err, ERR_BUSY, "node %s has left the cluster", id);
    return cluster_client(c, i, ret, err);
}

static int read_view(struct cluster *c, struct walk_view **ret, struct err *err)
{
    if (cluster_refresh(c, err) < 0) return -1;
    struct walk_view *v = view_new(cluster_map(c), err);
    if (!v) return -1;
    for (unsigned i = 0; i < v->n; i++) {
        struct client *client;
        struct cluster_map *own;
        int rc = client_by_id(c, v->node[i].id, &client, err);
        if (rc == 0) rc = cluster_read_map(client, &own, err);
        if (rc == 0) {
            rc = take_view(v, i, own, client, err);
            cluster_map_free(own);
        }
        if (rc < 0) {
            view_free(v);
            return -1;
        }
    }
    *ret = v;
    return 0;
}

static bool same_owner(const struct walk_view *a, const struct walk_view *b, unsigned slot)
{
    uint16_t x = a->owner[slot], y = b->owner[slot];
    return x != CLUSTER_NO_NODE && y != CLUSTER_NO_NODE &&
           strcmp(a->node[x].id, b->node[y].id) == 0;
}

/* --- the walk --- */

int walk_begin(struct walk *w, const struct primaries *p, struct err *err)
{
    *w = (struct walk){.at = *p, .filtered = p->slots != NULL, .since_ms = clock_mono_ms()};
    if (p->slots)
        w->left = *p->slots;
    else
        slot_set_fill(&w->left);
    return p->cluster ? read_view(p->cluster, &w->before, err) : 0;
}

void walk_end(struct walk *w)
{
    if (w->at.cluster) cluster_tidy(w->at.cluster);
    view_free(w->before);
    *w = (struct walk){0};
}

void walk_again(struct walk *w, uint16_t slot)
{
    slot_set_add(&w->again, slot);
}

/* May node i have keys that this pass is for? */
static bool concerns(const struct walk *w, unsigned i)
{
    if (!w->filtered || w->before->node[i].moves) return true;
    for (unsigned s = slot_set_next(&w->left, 0); s < SLOT_COUNT;
         s = slot_set_next(&w->left, s + 1))
        if (w->before->owner[s] == i) return true;
    return false;
}

/* What this pass may have missed is for the next one. */
static int end_pass(struct walk *w, struct err *err)
{
    struct walk_view *after;
    if (read_view(w->at.cluster, &after, err) < 0) return -1;
    slot_set_or(&w->again, &w->before->moving);
    slot_set_or(&w->again, &after->moving);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (!same_owner(w->before, after, slot)) slot_set_add(&w->again, (uint16_t)slot);
    slot_set_and(&w->again, &w->left);
    view_free(w->before);
    w->before = after;
    return 0;
}

static int next_pass(struct walk *w, struct err *err)
{
    int64_t now = clock_mono_ms();
    unsigned left = slot_set_count(&w->again);
    if (left < slot_set_count(&w->left)) w->since_ms = now;
    if (left && now - w->since_ms > PATIENCE_MS)
        return err_set(err, ERR_BUSY,
                       "%u slots of the cluster have been on their way between nodes for a long "
                       "time (slot %u is one); see to it that they arrive",
                       left, slot_set_next(&w->again, 0));
    w->left = w->again;
    slot_set_clear(&w->again);
    w->filtered = true;
    w->next = 0;
    w->not_before_ms = now + PASS_PAUSE_MS;
    return left ? WALK_LATER : WALK_OVER;
}

static int give(struct walk *w, struct client *c, struct client **ret, struct err *err)
{
    if (w->at.greet && w->at.greet(w->at.greet_ctx, c, err) < 0) return -1;
    w->next++;
    *ret = c;
    return WALK_NODE;
}

int walk_next(struct walk *w, struct client **ret, struct err *err)
{
    struct client *c;
    if (!w->at.cluster) return w->next ? WALK_OVER : give(w, w->at.one, ret, err);
    if (clock_mono_ms() < w->not_before_ms) return WALK_LATER;
    while (w->next < w->before->n && !concerns(w, w->next))
        w->next++;
    if (w->next == w->before->n) return end_pass(w, err) < 0 ? -1 : next_pass(w, err);
    if (client_by_id(w->at.cluster, w->before->node[w->next].id, &c, err) < 0) return -1;
    return give(w, c, ret, err);
}

int walk_wait_next(struct walk *w, struct client **ret,
                   int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                   struct err *err)
{
    struct client *any;
    int rc;
    while ((rc = walk_next(w, ret, err)) == WALK_LATER) {
        if (primaries_any(&w->at, &any, err) < 0) return -1;
        if (client_stopped(any)) return err_set(err, ERR_STOPPED, "stopped");
        if (!step)
            poll(NULL, 0, SLICE_MS);
        else if (step(ctx, SLICE_MS, err) < 0)
            return -1;
    }
    return rc;
}
