// SPDX-License-Identifier: BSD-3-Clause
// Checkpoints on a clustered target.
#include "engine/fan_mark.h"

#include "base/num.h"
#include "engine/checkpoint_io.h"
#include "engine/emit.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE    1024 /* questions on their way at once */
#define LATE_MS 10000

size_t fan_mark_put_rest(char out[FAN_MARK_MAX], const struct fan_mark *m)
{
    char *p = out;
    *p++ = ' ';
    p += num_put_u64(p, m->w);
    *p++ = ' ';
    p += num_put_u64(p, m->f);
    *p++ = ' ';
    p += num_put_u64(p, m->d);
    return (size_t)(p - out);
}

int fan_mark_parse(struct fan_mark *ret, struct span value, struct err *err)
{
    struct fan_mark m;
    uint64_t *to[] = {&m.o, &m.w, &m.f, &m.d};
    struct span rest = value;
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *space = i < 3 && rest.n ? memchr(rest.p, ' ', rest.n) : NULL;
        size_t n = space ? (size_t)(space - rest.p) : rest.n;
        if ((i < 3 && !space) || !num_get_u64(span_of(rest.p, n), to[i]))
            return err_set(err, ERR_FORMAT, "a checkpoint that is none of keyhaul's");
        rest = i < 3 ? span_of(rest.p + n + 1, rest.n - n - 1) : rest;
    }
    *ret = m;
    return 0;
}

size_t fan_mark_key(char out[FAN_KEY_MAX], const struct fan_place *p, uint16_t slot)
{
    const char *tag = slot_tag(&p->tags, slot);
    size_t n = strlen(tag);
    memcpy(out, p->prefix, p->prefix_n);
    char *at = out + p->prefix_n;
    *at++ = '{';
    memcpy(at, tag, n);
    at[n] = '}';
    return p->prefix_n + n + 2;
}

size_t fan_mark_set(uint8_t out[FAN_SET_MAX], const struct fan_place *p, uint16_t slot, uint64_t o,
                    struct span rest)
{
    static const char set[] = "*3\r\n$3\r\nSET\r\n";
    char text[NUM_INT64_CHARS];
    size_t text_n = num_put_u64(text, o);
    uint8_t *at = out;
    memcpy(at, set, sizeof(set) - 1);
    at = emit_head(at + sizeof(set) - 1, '$', p->prefix_n + strlen(slot_tag(&p->tags, slot)) + 2);
    at = emit_crlf(at + fan_mark_key((char *)at, p, slot));
    at = emit_head(at, '$', text_n + rest.n);
    memcpy(at, text, text_n);
    memcpy(at + text_n, rest.p, rest.n);
    return (size_t)(emit_crlf(at + text_n + rest.n) - out);
}

int fan_place_new(struct fan_place **ret, struct span checkpoint_key, const char *load,
                  uint64_t begin, uint64_t db, struct err *err)
{
    struct fan_place *p = calloc(1, sizeof(*p));
    if (!p) return err_set(err, ERR_NOMEM, "out of memory");
    snprintf(p->prefix, sizeof(p->prefix), "%.*s:%s:", (int)checkpoint_key.n,
             (const char *)checkpoint_key.p, load);
    p->prefix_n = strlen(p->prefix);
    p->w = begin;
    p->db = db;
    p->o = calloc(SLOT_COUNT, sizeof(*p->o));
    if (!p->o || slot_tags_init(&p->tags, err) < 0) {
        fan_place_free(p);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    *ret = p;
    return 0;
}

void fan_place_load(const struct fan_place *p, char ret[FAN_LOAD_MAX])
{
    size_t n = strlen(p->prefix), from = n > FAN_LOAD_MAX ? n - FAN_LOAD_MAX : 0;
    snprintf(ret, FAN_LOAD_MAX, "%.*s", (int)(n - from - (n > 0)), p->prefix + from);
}

void fan_place_free(struct fan_place *p)
{
    if (!p) return;
    slot_tags_release(&p->tags);
    free(p->o);
    free(p);
}

/* --- reading --- */

struct told { /* by one node */
    bool any;
    uint64_t w, f, d;
};

/* Slots that were on their way when they were asked for. */
struct late {
    uint16_t slot[SLOT_COUNT];
    unsigned n;
};

static int take_mark(struct fan_place *p, uint16_t slot, const struct reply *r, struct told *t,
                     struct late *late, struct err *err)
{
    struct fan_mark m;
    char words[RESP_ERROR_MAX];
    if (late && reply_is_error(r) && fan_is_redirect((const char *)r->str.p)) {
        late->slot[late->n++] = slot;
        return 0;
    }
    if (reply_is_error(r))
        return err_set(err, ERR_BUSY, "target: a checkpoint cannot be read: %s",
                       reply_words(words, sizeof(words), r));
    if (!reply_has_text(r)) return 0;
    if (fan_mark_parse(&m, r->str, err) < 0) return -1;
    p->o[slot] = m.o;
    if (!t->any || m.w > t->w) {
        t->w = m.w;
        t->d = m.d;
    }
    if (m.f > t->f) t->f = m.f;
    t->any = true;
    return 0;
}

/* The slots of one node from `*at` on, a page of them. */
static int read_page(struct fan_place *p, const struct cluster_map *m, uint16_t node,
                     struct client *c, unsigned *at, struct told *t, struct late *late,
                     struct err *err)
{
    uint16_t asked[PAGE];
    unsigned n = 0;
    char key[FAN_KEY_MAX];
    for (; *at < SLOT_COUNT && n < PAGE; ++*at) {
        if (m->owner[*at] != node) continue;
        struct span get[] = {span_str("GET"), span_of(key, fan_mark_key(key, p, (uint16_t)*at))};
        if (client_sendv(c, 2, get, err) < 0) return -1;
        asked[n++] = (uint16_t)*at;
    }
    int rc = 0;
    for (unsigned i = 0; i < n; i++) {
        struct reply *r;
        struct err why;
        if (client_recv(c, &r, err) < 0) return -1;
        if (rc == 0 && take_mark(p, asked[i], r, t, late, &why) < 0) {
            *err = why;
            rc = -1;
        }
        reply_free(r);
    }
    return rc;
}

static int read_node(struct fan_place *p, struct cluster *cl, uint16_t node, struct told *t,
                     struct late *late, struct err *err)
{
    const struct cluster_map *m = cluster_map(cl);
    struct client *c;
    if (p->n_flushed == FAN_NODES_MAX)
        return err_set(err, ERR_LIMIT, "target: a cluster of more than %d primaries",
                       FAN_NODES_MAX);
    if (cluster_client(cl, node, &c, err) < 0) return -1;
    for (unsigned slot = 0; slot < SLOT_COUNT;)
        if (read_page(p, m, node, c, &slot, t, late, err) < 0) return -1;
    memcpy(p->flushed[p->n_flushed].id, m->node[node].id, CLUSTER_ID_MAX);
    p->flushed[p->n_flushed++].offset = t->f;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (m->owner[slot] == node && p->o[slot] < t->f) p->o[slot] = t->f;
    return 0;
}

static int read_late(struct fan_place *p, struct cluster *c, const struct late *late,
                     struct err *err)
{
    char key[FAN_KEY_MAX];
    for (unsigned i = 0; i < late->n; i++) {
        struct told none = {0}; /* of the slot, not of a node */
        struct reply *r;
        struct span get[] = {span_str("GET"), span_of(key, fan_mark_key(key, p, late->slot[i]))};
        if (cluster_callv(c, late->slot[i], LATE_MS, &r, 2, get, err) < 0) return -1;
        int rc = take_mark(p, late->slot[i], r, &none, NULL, err);
        reply_free(r);
        if (rc < 0) return -1;
    }
    return 0;
}

int fan_place_read(struct fan_place *p, struct cluster *c, struct err *err)
{
    const struct cluster_map *m = cluster_map(c);
    struct late late;
    late.n = 0;
    struct told least = {.w = UINT64_MAX};
    bool all = true;
    memset(p->o, 0, SLOT_COUNT * sizeof(*p->o));
    p->n_flushed = 0;
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u)) {
        struct told t = {0};
        if (read_node(p, c, i, &t, &late, err) < 0) return -1;
        all &= t.any;
        if (t.w < least.w) least = t;
    }
    if (!all && late.n)
        return err_set(err, ERR_BUSY,
                       "target: %u slots of the cluster are not served now, their checkpoints are "
                       "not known",
                       late.n);
    if (!all) return 1;
    p->w = least.w;
    p->db = least.d;
    return read_late(p, c, &late, err);
}

/* --- whoever wrote before --- */

int fan_evict(struct cluster *c, const char *task, struct err *err)
{
    const struct cluster_map *m = cluster_map(c);
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u)) {
        struct client *one;
        if (cluster_dial(c, i, &one, err) < 0) return -1;
        int rc = checkpoint_evict(one, task, err);
        client_close(one);
        if (rc < 0) return -1;
    }
    return 0;
}

/* --- clearing --- */

static int judge_deleted(uint16_t slot, const struct reply *r, struct late *late, struct err *err)
{
    char words[RESP_ERROR_MAX];
    if (!reply_is_error(r)) return 0;
    if (late && fan_is_redirect((const char *)r->str.p)) {
        late->slot[late->n++] = slot;
        return 0;
    }
    return err_set(err, ERR_BUSY, "target: a checkpoint cannot be deleted: %s",
                   reply_words(words, sizeof(words), r));
}

static int clear_page(struct fan_place *p, const struct cluster_map *m, uint16_t node,
                      struct client *c, unsigned *at, struct late *late, struct err *err)
{
    uint16_t asked[PAGE];
    char key[FAN_KEY_MAX];
    unsigned n = 0;
    int rc = 0;
    for (; *at < SLOT_COUNT && n < PAGE; ++*at) {
        if (m->owner[*at] != node) continue;
        struct span del[] = {span_str("DEL"), span_of(key, fan_mark_key(key, p, (uint16_t)*at))};
        if (client_sendv(c, 2, del, err) < 0) return -1;
        asked[n++] = (uint16_t)*at;
    }
    for (unsigned i = 0; i < n; i++) {
        struct reply *r;
        struct err why;
        if (client_recv(c, &r, err) < 0) return -1;
        if (rc == 0 && judge_deleted(asked[i], r, late, &why) < 0) {
            *err = why;
            rc = -1;
        }
        reply_free(r);
    }
    return rc;
}

static int clear_late(struct fan_place *p, struct cluster *cl, const struct late *late,
                      struct err *err)
{
    char key[FAN_KEY_MAX];
    for (unsigned i = 0; i < late->n; i++) {
        struct reply *r;
        struct span del[] = {span_str("DEL"), span_of(key, fan_mark_key(key, p, late->slot[i]))};
        if (cluster_callv(cl, late->slot[i], LATE_MS, &r, 2, del, err) < 0) return -1;
        int rc = judge_deleted(late->slot[i], r, NULL, err);
        reply_free(r);
        if (rc < 0) return -1;
    }
    return 0;
}

int fan_marks_clear(struct fan_place *p, struct cluster *cl, struct err *err)
{
    struct late late;
    late.n = 0;
    if (cluster_refresh(cl, err) < 0) return -1;
    const struct cluster_map *m = cluster_map(cl);
    for (uint16_t i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
         i = cluster_map_primary(m, i + 1u)) {
        struct client *c;
        if (cluster_client(cl, i, &c, err) < 0) return -1;
        for (unsigned slot = 0; slot < SLOT_COUNT;)
            if (clear_page(p, m, i, c, &slot, &late, err) < 0) return -1;
    }
    return clear_late(p, cl, &late, err);
}
