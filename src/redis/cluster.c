// SPDX-License-Identifier: BSD-3-Clause
// The clients to a cluster's nodes, its map kept fresh, and commands that follow their slot.
#include "redis/cluster.h"

#include "base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define MAP_TIMEOUT_MS 5000 /* who takes longer to tell its map is passed over */
#define PAUSE_MAX_MS   500

struct known { /* a node with a client */
    char id[CLUSTER_ID_MAX];
    char host[CLUSTER_HOST_MAX], port[8]; /* as announced when it was dialled */
    struct client *client;
};

struct cluster {
    struct client_config cfg;
    const struct cluster_addresses *addresses;
    struct cluster_map *map;
    struct known *known;
    size_t n, alloc;
};

const struct cluster_map *cluster_map(const struct cluster *c)
{
    return c->map;
}

/* --- clients --- */

static int dial_at(struct cluster *c, const char *host, const char *port, struct client **ret,
                   struct err *err)
{
    struct uri uri;
    if (uri_with_address(&uri, c->cfg.uri, host, port, err) < 0) return -1;
    struct client_config cfg = c->cfg;
    cfg.uri = &uri;
    cfg.only_address = 0;
    int rc = client_open(ret, &cfg, err);
    uri_release(&uri);
    return rc;
}

/* Host name and address, each as the map of addresses changes it; those it knows come alone. */
unsigned cluster_ways(const struct cluster *c, const struct cluster_node *n, const char *host[2],
                      const char *port[2])
{
    const char *announced[2] = {n->hostname, n->host};
    unsigned ways = 0;
    bool mapped = false;
    for (unsigned i = 0; i < 2; i++) {
        const char *h = announced[i], *p = n->port;
        bool found = h[0] && cluster_addresses_find(c->addresses, &h, &p);
        if (!h[0] || (mapped && !found)) continue;
        if (found && !mapped) ways = 0;
        mapped |= found;
        host[ways] = h;
        port[ways++] = p;
    }
    return strcmp(n->port, "0") == 0 && !mapped ? 0 : ways;
}

static int dial(struct cluster *c, const struct cluster_node *n, struct client **ret,
                struct err *err)
{
    const char *host[2], *port[2];
    unsigned ways = cluster_ways(c, n, host, port);
    if (ways == 0)
        return err_set(err, ERR_BUSY, "%s: the address of node %s of the cluster is not known",
                       c->cfg.side, n->id);
    for (unsigned i = 0;; i++) {
        struct err one;
        if (dial_at(c, host[i], port[i], ret, &one) == 0) return 0;
        bool other_way = one.code == ERR_NET || one.code == ERR_TLS || one.code == ERR_PROTO;
        if (i + 1 == ways || !other_way) return err_set(err, one.code, "%s", one.msg);
    }
}

static struct known *known_of(struct cluster *c, const char *id)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->known[i].id, id) == 0) return &c->known[i];
    return NULL;
}

static struct known *know(struct cluster *c, const struct cluster_node *n, struct err *err)
{
    struct known *k = known_of(c, n->id);
    if (!k && c->n == c->alloc) {
        size_t alloc = c->alloc ? c->alloc * 2 : 16;
        struct known *more = realloc(c->known, alloc * sizeof(*more));
        if (!more) {
            err_set(err, ERR_NOMEM, "out of memory for the nodes of a cluster");
            return NULL;
        }
        c->known = more;
        c->alloc = alloc;
    }
    if (!k) {
        k = &c->known[c->n++];
        *k = (struct known){0};
        memcpy(k->id, n->id, sizeof(k->id));
    }
    memcpy(k->host, n->host, sizeof(k->host));
    memcpy(k->port, n->port, sizeof(k->port));
    return k;
}

static bool moved_house(const struct known *k, const struct cluster_node *n)
{
    return strcmp(k->host, n->host) != 0 || strcmp(k->port, n->port) != 0;
}

/* Clients of no more use, or to who is no member any more. */
static void forget_gone(struct cluster *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        struct known *k = &c->known[i];
        bool member = !c->map || cluster_map_by_id(c->map, k->id) != CLUSTER_NO_NODE;
        if (k->client && member && !client_broken(k->client))
            c->known[kept++] = *k;
        else
            client_close(k->client);
    }
    c->n = kept;
}

int cluster_client(struct cluster *c, uint16_t node, struct client **ret, struct err *err)
{
    if (node >= c->map->n) return err_set(err, ERR_INTERNAL, "node %u of no cluster", node);
    const struct cluster_node *n = &c->map->node[node];
    struct known *k = known_of(c, n->id);
    if (k && k->client && (client_broken(k->client) || moved_house(k, n))) {
        client_close(k->client);
        k->client = NULL;
    }
    if (!k || !k->client) {
        struct client *client;
        if (dial(c, n, &client, err) < 0) return -1;
        k = know(c, n, err);
        if (!k) {
            client_close(client);
            return -1;
        }
        k->client = client;
    }
    *ret = k->client;
    return 0;
}

int cluster_client_of(struct cluster *c, uint16_t slot, struct client **ret, struct err *err)
{
    uint16_t node = c->map->owner[slot];
    if (node == CLUSTER_NO_NODE)
        return err_set(err, ERR_BUSY, "%s: slot %u of the cluster has no node", c->cfg.side, slot);
    return cluster_client(c, node, ret, err);
}

void cluster_stop_by(struct cluster *c, const atomic_bool *stop)
{
    c->cfg.stop = stop;
    for (size_t i = 0; i < c->n; i++)
        if (c->known[i].client) client_stop_by(c->known[i].client, stop);
}

void cluster_tidy(struct cluster *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct known *k = &c->known[i];
        if (!k->client || client_due(k->client) == 0) continue;
        client_close(k->client);
        k->client = NULL;
    }
}

int cluster_dial(struct cluster *c, uint16_t node, struct client **ret, struct err *err)
{
    if (node >= c->map->n) return err_set(err, ERR_INTERNAL, "node %u of no cluster", node);
    return dial(c, &c->map->node[node], ret, err);
}

/* --- one node's view --- */

static bool says_down(const struct reply *info)
{
    return reply_has_text(info) && !memmem(info->str.p, info->str.n, "cluster_state:ok", 16);
}

static int read_nodes(struct client *c, const struct reply *r, struct cluster_map **ret,
                      struct err *err)
{
    char words[200];
    if (reply_is_error(r) && strstr(reply_words(words, sizeof(words), r), "cluster support"))
        return err_set(err, ERR_REFUSED, "%s: is part of no cluster", client_name(c));
    if (reply_is_error(r)) return client_refused(c, "CLUSTER NODES", r, err);
    if (!reply_has_text(r))
        return err_set(err, ERR_PROTO, "%s: CLUSTER NODES was not answered with text",
                       client_name(c));
    if (cluster_map_parse(ret, r->str, client_host(c), err) < 0)
        return err_wrap(err, "%s", client_name(c));
    return 0;
}

int cluster_read_map(struct client *c, struct cluster_map **ret, struct err *err)
{
    struct reply *nodes = NULL, *info = NULL;
    int rc = -1;
    if (client_send(c, err, "CLUSTER", "NODES", NULL) < 0 ||
        client_send(c, err, "CLUSTER", "INFO", NULL) < 0 || client_recv(c, &nodes, err) < 0 ||
        client_recv(c, &info, err) < 0)
        goto out;
    struct cluster_map *m = NULL;
    rc = read_nodes(c, nodes, &m, err);
    if (rc < 0 || !m) goto out;
    m->down = says_down(info);
    *ret = m;
out:
    reply_free(nodes);
    reply_free(info);
    return rc;
}

/* --- the best view --- */

struct view {
    struct cluster_map *map; /* NULL: none yet */
    uint64_t wanted;         /* epoch that is known already */
    struct err err;          /* of the last who was asked in vain */
};

/* A whole cluster before one that is down (as who has been taken out of it sees it), the newer
 * configuration before the older one, a primary before a replica: that one learns later. */
static bool better(const struct cluster_map *a, const struct cluster_map *b)
{
    if (!b) return true;
    if (a->down != b->down) return b->down;
    if (a->epoch != b->epoch) return a->epoch > b->epoch;
    bool a_primary = a->myself != CLUSTER_NO_NODE && a->node[a->myself].primary;
    bool b_primary = b->myself != CLUSTER_NO_NODE && b->node[b->myself].primary;
    return a_primary && !b_primary;
}

static bool will_do(const struct view *v)
{
    return v->map && !v->map->down && v->map->epoch >= v->wanted &&
           v->map->myself != CLUSTER_NO_NODE && v->map->node[v->map->myself].primary;
}

/* It needs not be good, but it must not be a step back. */
static bool might_do(const struct view *v)
{
    return v->map && v->map->epoch >= v->wanted && !v->map->down;
}

static bool is_final(enum err_code code)
{
    return code == ERR_STOPPED || code == ERR_NOMEM || code == ERR_INTERNAL;
}

/* Ask one; false: no more is to be asked. */
static bool ask(struct view *v, struct client *client)
{
    int patience = client_patience(client, MAP_TIMEOUT_MS);
    if (patience < MAP_TIMEOUT_MS) client_patience(client, patience);
    struct cluster_map *m = NULL;
    int rc = cluster_read_map(client, &m, &v->err);
    client_patience(client, patience);
    if (rc < 0 || !m) return !is_final(v->err.code);
    if (better(m, v->map)) {
        cluster_map_free(v->map);
        v->map = m;
    } else {
        cluster_map_free(m);
    }
    return !will_do(v);
}

static const struct cluster_node *node_of(const struct cluster *c, const struct known *k)
{
    uint16_t i = c->map ? cluster_map_by_id(c->map, k->id) : CLUSTER_NO_NODE;
    return i == CLUSTER_NO_NODE ? NULL : &c->map->node[i];
}

/* Who we are connected with: primaries first. */
static bool ask_connected(struct cluster *c, struct view *v)
{
    for (int primaries = 1; primaries >= 0; primaries--)
        for (size_t i = 0; i < c->n; i++) {
            const struct known *k = &c->known[i];
            const struct cluster_node *n = node_of(c, k);
            if (!k->client || client_broken(k->client)) continue;
            if ((n && n->primary) == primaries && !ask(v, k->client)) return false;
        }
    return true;
}

/* It may take long to see that nobody is there: whoever knows better is believed. */
static bool worth_dialling(const struct view *v, const struct cluster_node *n)
{
    if (n->failed || n->handshake) return false;
    uint16_t i = v->map ? cluster_map_by_id(v->map, n->id) : CLUSTER_NO_NODE;
    const struct cluster_node *now = i == CLUSTER_NO_NODE ? n : &v->map->node[i];
    return !now->failed && !now->suspected && (now->linked || !v->map);
}

/* Members that we are not connected with. */
static bool ask_members(struct cluster *c, struct view *v)
{
    for (int primaries = 1; c->map && primaries >= 0; primaries--)
        for (uint16_t i = 0; i < c->map->n; i++) {
            const struct cluster_node *n = &c->map->node[i];
            const struct known *k = known_of(c, n->id);
            if (n->primary != primaries || !worth_dialling(v, n)) continue;
            if (k && k->client && !client_broken(k->client)) continue;
            struct client *client;
            if (cluster_client(c, i, &client, &v->err) < 0) {
                if (is_final(v->err.code)) return false;
            } else if (!ask(v, client)) {
                return false;
            }
            if (might_do(v)) return true;
        }
    return true;
}

/* A client from the URI's addresses is kept under the name that it gives itself. */
static int keep_seed(struct cluster *c, const struct cluster_map *m, struct client *client,
                     struct err *err)
{
    struct known *k = m->myself == CLUSTER_NO_NODE ? NULL : known_of(c, m->node[m->myself].id);
    if (m->myself == CLUSTER_NO_NODE || (k && k->client)) {
        client_close(client);
        return 0;
    }
    k = know(c, &m->node[m->myself], err);
    if (k)
        k->client = client;
    else
        client_close(client);
    return k ? 0 : -1;
}

static bool ask_seed(struct cluster *c, struct view *v, unsigned address)
{
    struct client_config cfg = c->cfg;
    cfg.only_address = address;
    struct client *client;
    struct cluster_map *before = v->map;
    if (client_open(&client, &cfg, &v->err) < 0) return !is_final(v->err.code);
    bool more = ask(v, client);
    if (v->map == before)
        client_close(client);
    else if (keep_seed(c, v->map, client, &v->err) < 0)
        return false;
    return more;
}

static bool ask_seeds(struct cluster *c, struct view *v)
{
    for (unsigned i = 1; i <= uri_addresses(c->cfg.uri); i++)
        if (!ask_seed(c, v, i)) return false;
    return true;
}

int cluster_refresh(struct cluster *c, struct err *err)
{
    struct view v = {.wanted = c->map ? c->map->epoch : 0, .err = {.code = ERR_NONE}};
    /* A node that sees slots of nobody has been taken out of the cluster. */
    if (ask_connected(c, &v) && !might_do(&v) && ask_members(c, &v) &&
        (!v.map || v.map->owned == 0))
        ask_seeds(c, &v);
    if (v.err.code != ERR_NONE && is_final(v.err.code)) {
        cluster_map_free(v.map);
        return err_set(err, v.err.code, "%s", v.err.msg);
    }
    if (!v.map) return err_set(err, v.err.code, "%s", v.err.msg);
    cluster_map_free(c->map);
    c->map = v.map;
    forget_gone(c);
    return 0;
}

int cluster_open(struct cluster **ret, const struct client_config *cfg,
                 const struct cluster_addresses *addresses, struct err *err)
{
    struct cluster *c = calloc(1, sizeof(*c));
    if (!c) return err_set(err, ERR_NOMEM, "out of memory for a cluster");
    c->cfg = *cfg;
    c->cfg.prefer_replica = false; /* each node is itself */
    c->cfg.same_as = NULL;
    c->addresses = addresses;
    if (cluster_refresh(c, err) < 0) {
        cluster_close(c);
        return -1;
    }
    *ret = c;
    return 0;
}

void cluster_close(struct cluster *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n; i++)
        client_close(c->known[i].client);
    free(c->known);
    cluster_map_free(c->map);
    free(c);
}

/* --- a command that follows its slot --- */

struct pursuit {
    struct cluster *c;
    uint16_t slot;
    size_t argc;
    const struct span *argv;
    int64_t deadline_ms;
    int pause_ms;   /* before the next attempt; 0: none */
    uint16_t at;    /* index of the node to ask, once; CLUSTER_NO_NODE: the owner */
    bool asking;    /* with ASKING */
    struct err err; /* why there has to be another attempt */
};

enum outcome { ANSWERED, AGAIN, OVER };

static int pause_for(struct pursuit *p)
{
    int64_t until = clock_mono_ms() + p->pause_ms;
    p->pause_ms = p->pause_ms ? p->pause_ms * 2 : 10;
    if (p->pause_ms > PAUSE_MAX_MS) p->pause_ms = PAUSE_MAX_MS;
    for (int64_t left; (left = until - clock_mono_ms()) > 0;) {
        if (p->c->cfg.stop && *p->c->cfg.stop) return -1;
        poll(NULL, 0, left < 50 ? (int)left : 50);
    }
    return 0;
}

/* The node that a redirection names, in the map as it is now. */
static uint16_t named(const struct pursuit *p, const struct cluster_redirect *r,
                      const char *answered_by)
{
    const struct cluster_map *m = p->c->map;
    if (r->unknown) return CLUSTER_NO_NODE;
    if (r->host[0]) return cluster_map_by_address(m, r->host, r->port);
    uint16_t by = cluster_map_by_id(m, answered_by);
    return by == CLUSTER_NO_NODE ? by : cluster_map_by_address(m, m->node[by].host, r->port);
}

static enum outcome read_again(struct pursuit *p)
{
    struct err err = {.code = ERR_NONE};
    if (cluster_refresh(p->c, &err) == 0 || !is_final(err.code)) return AGAIN;
    p->err = err;
    return OVER;
}

/* An error that this pursuit is about leads on; any other is the answer. */
static enum outcome led_on(struct pursuit *p, const struct reply *r, const char *answered_by)
{
    char words[CLUSTER_HOST_MAX + 64];
    struct cluster_redirect to;
    reply_words(words, sizeof(words), r);
    if (cluster_redirect_parse(words, &to) == 0) {
        if (to.ask) {
            p->at = named(p, &to, answered_by);
            p->asking = p->at != CLUSTER_NO_NODE;
            if (p->asking) return AGAIN;
        }
        enum outcome o = read_again(p);
        p->at = to.ask ? CLUSTER_NO_NODE : named(p, &to, answered_by);
        return o;
    }
    if (peer_says(words, "TRYAGAIN")) return AGAIN;
    static const char *const passing[] = {"CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN",
                                          "NOMASTERLINK"};
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        if (peer_says(words, passing[i])) return read_again(p);
    return ANSWERED;
}

static int call_at(struct pursuit *p, struct client *client, bool asking, struct reply **ret)
{
    struct reply *r;
    if (asking) {
        if (client_call(client, &r, &p->err, "ASKING", NULL) < 0) return -1;
        reply_free(r);
    }
    return client_callv(client, ret, p->argc, p->argv, &p->err);
}

static enum outcome attempt(struct pursuit *p, struct reply **ret)
{
    uint16_t node = p->at != CLUSTER_NO_NODE && p->at < p->c->map->n ? p->at
                                                                     : p->c->map->owner[p->slot];
    bool asking = p->asking;
    p->at = CLUSTER_NO_NODE;
    p->asking = false;
    if (node == CLUSTER_NO_NODE) {
        err_set(&p->err, ERR_BUSY, "%s: slot %u of the cluster has no node", p->c->cfg.side,
                p->slot);
        return read_again(p);
    }
    char id[CLUSTER_ID_MAX];
    memcpy(id, p->c->map->node[node].id, sizeof(id));
    struct client *client;
    struct reply *r;
    if (cluster_client(p->c, node, &client, &p->err) < 0 || call_at(p, client, asking, &r) < 0)
        return err_class(p->err.code) == ERR_CLASS_TRANSIENT ? read_again(p) : OVER;
    enum outcome o = ANSWERED;
    if (reply_is_error(r)) {
        client_refused(client, "the command", r, &p->err);
        p->err.code = ERR_BUSY;
        o = led_on(p, r, id);
    }
    if (o == ANSWERED)
        *ret = r;
    else
        reply_free(r);
    return o;
}

int cluster_callv(struct cluster *c, uint16_t slot, int wait_ms, struct reply **ret, size_t argc,
                  const struct span *argv, struct err *err)
{
    struct pursuit p = {.c = c,
                        .slot = slot,
                        .argc = argc,
                        .argv = argv,
                        .deadline_ms = clock_mono_ms() + wait_ms,
                        .at = CLUSTER_NO_NODE};
    for (;;) {
        enum outcome o = attempt(&p, ret);
        if (o == ANSWERED) return 0;
        if (o == OVER || clock_mono_ms() + p.pause_ms >= p.deadline_ms)
            return err_set(err, p.err.code, "%s", p.err.msg);
        if (pause_for(&p) < 0) return err_set(err, ERR_STOPPED, "stopped");
    }
}
