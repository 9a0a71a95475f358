// SPDX-License-Identifier: BSD-3-Clause
// CLUSTER NODES and redirections, read.
#include "redis/cluster_map.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#define FIELDS 8 /* before the slots */

/* --- pieces of text --- */

/* What comes before the next `sep`; `rest` is then what comes behind it. */
static struct span next(struct span *rest, char sep)
{
    const uint8_t *at = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
    size_t n = at ? (size_t)(at - rest->p) : rest->n;
    struct span s = span_of(rest->p, n);
    size_t skip = at ? n + 1 : n;
    *rest = span_of(rest->n ? rest->p + skip : rest->p, rest->n - skip);
    return s;
}

static bool is_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* A copy of what holds just letters, digits and `also`, and fits. */
static bool copy(char *out, size_t size, struct span s, const char *also)
{
    if (s.n >= size) return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && (!s.p[i] || !strchr(also, s.p[i]))) return false;
    if (s.n) memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return true;
}

static bool copy_id(char out[CLUSTER_ID_MAX], struct span s)
{
    return s.n > 0 && copy(out, CLUSTER_ID_MAX, s, "");
}

static bool copy_port(char out[8], struct span s)
{
    uint64_t port;
    if (!num_get_u64(s, &port) || port > 65535) return false;
    snprintf(out, 8, "%u", (unsigned)port);
    return true;
}

/* "host:port", "::1:port", "[::1]:port"; a host of "" and "?" is not known, and so is port 0. */
static bool copy_address(char host[CLUSTER_HOST_MAX], char port[8], struct span s)
{
    const uint8_t *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
    if (!colon) return false;
    struct span h = span_of(s.p, (size_t)(colon - s.p));
    if (!copy_port(port, span_of(colon + 1, s.n - h.n - 1))) return false;
    if (h.n >= 2 && h.p[0] == '[' && h.p[h.n - 1] == ']') h = span_of(h.p + 1, h.n - 2);
    if (span_is(h, "?")) h.n = 0;
    return copy(host, CLUSTER_HOST_MAX, h, ".-_:%");
}

static bool read_slot(struct span s, uint16_t *ret)
{
    uint64_t slot;
    if (!num_get_u64(s, &slot) || slot >= SLOT_COUNT) return false;
    *ret = (uint16_t)slot;
    return true;
}

/* --- a line --- */

/* "ip:port@cport,hostname,k=v" */
static bool read_address(struct cluster_node *n, struct span s)
{
    struct span address = next(&s, ','), name = next(&s, ',');
    if (!copy_address(n->host, n->port, next(&address, '@'))) return false;
    bool named = name.n > 0 && !memchr(name.p, '=', name.n) && !span_is(name, "?");
    return !named || copy(n->hostname, sizeof(n->hostname), name, ".-_:%");
}

static void read_flags(struct cluster_node *n, struct span s)
{
    while (s.n) {
        struct span flag = next(&s, ',');
        if (span_is(flag, "myself")) n->myself = true;
        if (span_is(flag, "master")) n->primary = true;
        if (span_is(flag, "fail")) n->failed = true;
        if (span_is(flag, "fail?")) n->suspected = true;
        if (span_is(flag, "handshake")) n->handshake = true;
    }
}

static int read_node(struct cluster_node *n, struct span *rest, const char *dialled,
                     struct err *err)
{
    struct span f[FIELDS];
    for (int i = 0; i < FIELDS; i++)
        f[i] = next(rest, ' ');
    *n = (struct cluster_node){0};
    bool well = copy_id(n->id, f[0]) && read_address(n, f[1]) && num_get_u64(f[6], &n->epoch) &&
                (span_is(f[3], "-") || copy_id(n->primary_id, f[3])) && f[7].n > 0;
    if (!well) return err_set(err, ERR_PROTO, "CLUSTER NODES: a line is not understood");
    read_flags(n, f[2]);
    if (n->primary) n->primary_id[0] = 0;
    n->linked = n->myself || span_is(f[7], "connected");
    if (n->myself && !n->host[0] && dialled) snprintf(n->host, sizeof(n->host), "%s", dialled);
    return 0;
}

/* Of two that say that they have it, the one with the newer configuration has. */
static void claim(struct cluster_map *m, uint16_t node, uint16_t slot)
{
    uint16_t had = m->owner[slot];
    if (had == node || (had != CLUSTER_NO_NODE && m->node[had].epoch >= m->node[node].epoch))
        return;
    if (had == CLUSTER_NO_NODE)
        m->owned++;
    else
        m->node[had].slots--;
    m->owner[slot] = node;
    m->node[node].slots++;
}

/* Slots on their way name nodes whose lines may come later. */
struct moves {
    struct span *text; /* "[s->-id]" */
    size_t n, alloc;
};

static int note_move(struct moves *v, struct span s, struct err *err)
{
    /* One for each slot, or the text is none of a server's. */
    if (v->n >= SLOT_COUNT) return err_set(err, ERR_PROTO, "CLUSTER NODES: too many slots move");
    if (v->n == v->alloc) {
        size_t alloc = v->alloc ? v->alloc * 2 : 16;
        struct span *more = realloc(v->text, alloc * sizeof(*more));
        if (!more) return err_set(err, ERR_NOMEM, "out of memory for the map of the cluster");
        v->text = more;
        v->alloc = alloc;
    }
    v->text[v->n++] = s;
    return 0;
}

static int read_slots(struct cluster_map *m, uint16_t node, struct span s, struct moves *moves,
                      struct err *err)
{
    while (s.n) {
        struct span one = next(&s, ' ');
        if (one.n == 0) continue;
        if (one.p[0] == '[') {
            if (m->node[node].myself && note_move(moves, one, err) < 0) return -1;
            continue;
        }
        uint16_t from, to;
        struct span last = one, first = next(&last, '-');
        bool range = first.n < one.n;
        if (!read_slot(first, &from) || !read_slot(range ? last : first, &to) || to < from)
            return err_set(err, ERR_PROTO, "CLUSTER NODES: slots are not understood");
        for (unsigned slot = from; slot <= to; slot++)
            claim(m, node, (uint16_t)slot);
    }
    return 0;
}

/* --- the whole --- */

static int add_node(struct cluster_map *m, size_t *alloc, struct span line, const char *dialled,
                    struct moves *moves, struct err *err)
{
    if (m->n == CLUSTER_NODES_MAX)
        return err_set(err, ERR_LIMIT, "a cluster of more than %d nodes", CLUSTER_NODES_MAX);
    if (m->n == *alloc) {
        size_t more = *alloc ? *alloc * 2 : 16;
        struct cluster_node *node = realloc(m->node, more * sizeof(*node));
        if (!node) return err_set(err, ERR_NOMEM, "out of memory for the map of the cluster");
        m->node = node;
        *alloc = more;
    }
    struct cluster_node *n = &m->node[m->n];
    if (read_node(n, &line, dialled, err) < 0) return -1;
    if (cluster_map_by_id(m, n->id) != CLUSTER_NO_NODE ||
        (n->myself && m->myself != CLUSTER_NO_NODE))
        return err_set(err, ERR_PROTO, "CLUSTER NODES: a node is listed twice");
    if (n->myself) m->myself = m->n;
    if (n->epoch > m->epoch) m->epoch = n->epoch;
    m->n++;
    return read_slots(m, (uint16_t)(m->n - 1), line, moves, err);
}

/* "[93->-id]" or "[93-<-id]". Atomic moves (Valkey 9, Redis 8.4) are told otherwise. */
static int read_move(struct cluster_map *m, struct span s, struct err *err)
{
    if (s.n < 2 || s.p[s.n - 1] != ']') goto fail;
    struct span id = span_of(s.p + 1, s.n - 2), number = next(&id, '-');
    uint16_t slot;
    char name[CLUSTER_ID_MAX];
    if (!read_slot(number, &slot) || id.n < 3 || id.p[1] != '-') goto fail;
    if ((id.p[0] != '>' && id.p[0] != '<') || !copy_id(name, span_of(id.p + 2, id.n - 2)))
        goto fail;
    m->moving[slot] = id.p[0] == '>' ? CLUSTER_MIGRATING : CLUSTER_IMPORTING;
    m->other[slot] = cluster_map_by_id(m, name);
    return 0;
fail:
    return err_set(err, ERR_PROTO, "CLUSTER NODES: a moving slot is not understood");
}

static int read_text(struct cluster_map *m, struct span text, const char *dialled,
                     struct moves *moves, struct err *err)
{
    size_t alloc = 0;
    while (text.n) {
        struct span line = next(&text, '\n');
        if (line.n && line.p[line.n - 1] == '\r') line.n--;
        if (line.n && add_node(m, &alloc, line, dialled, moves, err) < 0) return -1;
    }
    if (m->n == 0) return err_set(err, ERR_PROTO, "CLUSTER NODES: no node is listed");
    for (size_t i = 0; i < moves->n; i++)
        if (read_move(m, moves->text[i], err) < 0) return -1;
    return 0;
}

int cluster_map_parse(struct cluster_map **ret, struct span text, const char *dialled,
                      struct err *err)
{
    struct cluster_map *m = calloc(1, sizeof(*m));
    if (!m) return err_set(err, ERR_NOMEM, "out of memory for the map of a cluster");
    m->myself = CLUSTER_NO_NODE;
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        m->owner[i] = m->other[i] = CLUSTER_NO_NODE;
    struct moves moves = {0};
    int rc = read_text(m, text, dialled, &moves, err);
    free(moves.text);
    if (rc < 0)
        cluster_map_free(m);
    else
        *ret = m;
    return rc;
}

void cluster_map_free(struct cluster_map *m)
{
    if (!m) return;
    free(m->node);
    free(m);
}

/* --- questions --- */

static const char *owner_id(const struct cluster_map *m, uint16_t node)
{
    return node == CLUSTER_NO_NODE ? "" : m->node[node].id;
}

bool cluster_map_same(const struct cluster_map *a, const struct cluster_map *b)
{
    uint16_t x = CLUSTER_NO_NODE, y = CLUSTER_NO_NODE; /* known to be the same */
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        if (a->owner[i] == x && b->owner[i] == y) continue;
        x = a->owner[i];
        y = b->owner[i];
        if (strcmp(owner_id(a, x), owner_id(b, y)) != 0) return false;
    }
    return true;
}

uint16_t cluster_map_by_id(const struct cluster_map *m, const char *id)
{
    for (uint16_t i = 0; i < m->n; i++)
        if (strcmp(m->node[i].id, id) == 0) return i;
    return CLUSTER_NO_NODE;
}

uint16_t cluster_map_by_address(const struct cluster_map *m, const char *host, const char *port)
{
    for (uint16_t i = 0; host[0] && i < m->n; i++) {
        const struct cluster_node *n = &m->node[i];
        bool here = strcasecmp(n->host, host) == 0 || strcasecmp(n->hostname, host) == 0;
        if (here && strcmp(n->port, port) == 0) return i;
    }
    return CLUSTER_NO_NODE;
}

uint16_t cluster_map_primary(const struct cluster_map *m, unsigned from)
{
    for (unsigned i = from; i < m->n; i++)
        if (m->node[i].slots > 0) return (uint16_t)i;
    return CLUSTER_NO_NODE;
}

uint16_t cluster_map_replica(const struct cluster_map *m, uint16_t of, unsigned from)
{
    for (unsigned i = from; i < m->n; i++) {
        const struct cluster_node *n = &m->node[i];
        if (n->failed || n->handshake || !n->primary_id[0]) continue;
        if (strcmp(n->primary_id, m->node[of].id) == 0) return (uint16_t)i;
    }
    return CLUSTER_NO_NODE;
}

int cluster_redirect_parse(const char *error_line, struct cluster_redirect *ret)
{
    struct span rest = span_str(error_line);
    struct cluster_redirect r = {0};
    struct span word = next(&rest, ' ');
    /* Servers write them in capitals; words of a person do not count. */
    r.ask = span_eq(word, span_str("ASK"));
    if (!r.ask && !span_eq(word, span_str("MOVED"))) return -1;
    if (!read_slot(next(&rest, ' '), &r.slot)) return -1;
    struct span address = next(&rest, ' ');
    if (!copy_address(r.host, r.port, address)) return -1;
    r.unknown = (address.n && address.p[0] == '?') || strcmp(r.port, "0") == 0;
    *ret = r;
    return 0;
}
