// SPDX-License-Identifier: BSD-3-Clause
// Canonical content of values, hashed, as one line per key.
#include "canon.h"

#include "base/buf.h"
#include "base/num.h"
#include "wire/rdb/elems.h"
#include "wire/rdb/rdb.h"
#include "wire/rdb/str.h"
#include "wire/rdb/stream.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_BYTES (64u << 20)

struct item { /* a member or field, with what goes with it, in `store` */
    size_t key, key_n, rest, rest_n;
    int64_t expire_ms;
};

struct pel_entry {
    struct stream_id id;
    int64_t time_ms;
    uint64_t count;
    int owner; /* index of its consumer, -1 none */
    bool listed;
};

struct group {
    struct buf name, consumers, pel; /* arrays of struct buf, struct pel_entry */
    struct stream_id last;
    uint64_t read;
};

struct work {
    struct reader *r;
    enum canon_mode mode;
    EVP_MD_CTX *md;
    struct rdb_elems *elems;
    struct rdb_stream *stream;
    struct buf store, items, groups, line, extra, lines;
};

static void must(int rc)
{
    assert(rc == 0);
    (void)rc;
}

static void hash(struct work *w, const void *p, size_t n)
{
    int ok = EVP_DigestUpdate(w->md, p, n);
    assert(ok == 1);
    (void)ok;
}

static void hash_be(struct work *w, uint64_t v, unsigned n)
{
    uint8_t b[8];
    for (unsigned i = 0; i < n; i++)
        b[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    hash(w, b, n);
}

static void hash_b(struct work *w, struct span s)
{
    hash_be(w, s.n, 4);
    hash(w, s.p, s.n);
}

static void hash_id(struct work *w, struct stream_id id)
{
    hash_be(w, id.ms, 8);
    hash_be(w, id.seq, 8);
}

static void hash_begin(struct work *w, const char *type)
{
    int ok = EVP_DigestInit_ex(w->md, EVP_sha256(), NULL);
    assert(ok == 1);
    (void)ok;
    if (type) hash(w, type, strlen(type) + 1);
}

static void add_hex(struct buf *b, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        must(buf_printf(b, NULL, "%02x", s.p[i]));
}

/* Strings. */

static int do_string(struct work *w, struct err *err)
{
    struct rdb_str s;
    struct rdb_pieces it;
    struct span piece;
    if (rdb_str_head(w->r, &s, err) < 0) return -1;
    hash_be(w, s.n, 4);
    if (w->mode == CANON_HOLD) { /* pieces would release; both ways are compared by the caller */
        buf_clear(&w->store);
        if (rdb_str_body(w->r, &s, &w->store, MAX_BYTES, &piece, err) < 0) return -1;
        hash(w, piece.p, piece.n);
        return 0;
    }
    if (rdb_pieces_begin(&it, &s, err) < 0) return -1;
    int rc;
    while ((rc = rdb_pieces_next(&it, w->r, &piece, err)) > 0)
        hash(w, piece.p, piece.n);
    rdb_pieces_end(&it);
    return rc;
}

/* Collections. */

static size_t store(struct work *w, struct span s)
{
    size_t at = w->store.n;
    must(buf_add(&w->store, s.p, s.n, NULL));
    return at;
}

static void add_item(struct work *w, enum rdb_kind kind, const struct rdb_elem *e)
{
    struct item i = {.key = store(w, e->a), .key_n = e->a.n, .expire_ms = e->expire_ms};
    struct span rest = e->b;
    if (kind == RDB_KIND_ZSET) rest = span_of(&e->score, sizeof(e->score));
    if (kind == RDB_KIND_SET) rest.n = 0;
    i.rest = store(w, rest);
    i.rest_n = rest.n;
    must(buf_add(&w->items, &i, sizeof(i), NULL));
}

static int item_order(const void *a, const void *b, void *base)
{
    const struct item *x = a, *y = b;
    const uint8_t *p = base;
    size_t n = x->key_n < y->key_n ? x->key_n : y->key_n;
    int c = n ? memcmp(p + x->key, p + y->key, n) : 0;
    return c ? c : (x->key_n > y->key_n) - (x->key_n < y->key_n);
}

static void hash_item(struct work *w, enum rdb_kind kind, const struct item *i)
{
    struct span key = span_of(w->store.p + i->key, i->key_n);
    struct span rest = span_of(w->store.p + i->rest, i->rest_n);
    hash_b(w, key);
    if (kind == RDB_KIND_HASH) hash_b(w, rest);
    if (kind == RDB_KIND_ZSET) {
        uint64_t bits;
        memcpy(&bits, rest.p, sizeof(bits));
        hash_be(w, bits, 8);
    }
    if (kind != RDB_KIND_HASH || i->expire_ms < 0) return;
    if (w->extra.n) must(buf_add(&w->extra, ",", 1, NULL));
    add_hex(&w->extra, key);
    must(buf_printf(&w->extra, NULL, "=%lld", (long long)i->expire_ms));
}

static int do_elems(struct work *w, enum rdb_type t, struct err *err)
{
    enum rdb_kind kind = rdb_kind_of(t);
    struct rdb_elem e;
    int rc;
    buf_clear(&w->store);
    buf_clear(&w->items);
    if (rdb_elems_begin(w->elems, w->r, t, w->mode == CANON_RELEASE, err) < 0) return -1;
    while ((rc = rdb_elems_next(w->elems, &e, err)) > 0) {
        if (kind == RDB_KIND_LIST)
            hash_b(w, e.a);
        else
            add_item(w, kind, &e);
    }
    struct item *item = (void *)w->items.p;
    size_t n = w->items.n / sizeof(*item);
    if (n) qsort_r(item, n, sizeof(*item), item_order, w->store.p);
    for (size_t i = 0; i < n; i++)
        hash_item(w, kind, &item[i]);
    return rc;
}

/* Streams. */

static struct group *last_group(struct work *w)
{
    assert(w->groups.n);
    return (struct group *)(void *)(w->groups.p + w->groups.n) - 1;
}

static void new_group(struct work *w, const struct rdb_stream_ev *ev)
{
    struct group g = {.last = ev->id, .read = ev->entries_read};
    buf_init(&g.name, MAX_BYTES);
    buf_init(&g.consumers, MAX_BYTES);
    buf_init(&g.pel, MAX_BYTES);
    must(buf_add(&g.name, ev->name.p, ev->name.n, NULL));
    must(buf_add(&w->groups, &g, sizeof(g), NULL));
}

static void new_consumer(struct work *w, const struct rdb_stream_ev *ev)
{
    struct buf name;
    buf_init(&name, MAX_BYTES);
    must(buf_add(&name, ev->name.p, ev->name.n, NULL));
    must(buf_add(&last_group(w)->consumers, &name, sizeof(name), NULL));
}

static void own(struct work *w, const struct rdb_stream_ev *ev)
{
    struct group *g = last_group(w);
    struct pel_entry *p = (void *)g->pel.p;
    for (size_t i = 0; i < g->pel.n / sizeof(*p); i++)
        if (p[i].id.ms == ev->id.ms && p[i].id.seq == ev->id.seq) {
            p[i].listed = true;
            if (ev->kind == RDB_STREAM_CONSUMER_PEL)
                p[i].owner = (int)(g->consumers.n / sizeof(struct buf)) - 1;
        }
}

static int id_order(struct stream_id a, struct stream_id b)
{
    if (a.ms != b.ms) return a.ms < b.ms ? -1 : 1;
    return (a.seq > b.seq) - (a.seq < b.seq);
}

static int pel_order(const void *a, const void *b)
{
    return id_order(((const struct pel_entry *)a)->id, ((const struct pel_entry *)b)->id);
}

static int buf_order(const void *a, const void *b)
{
    const struct buf *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int c = n ? memcmp(x->p, y->p, n) : 0;
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static int group_order(const void *a, const void *b)
{
    return buf_order(&((const struct group *)a)->name, &((const struct group *)b)->name);
}

static void tell(struct work *w, const char *sep)
{
    if (w->extra.n) must(buf_add(&w->extra, sep, strlen(sep), NULL));
}

static void tell_meta(struct work *w, const struct rdb_stream_meta *m)
{
    hash(w, "L", 1);
    hash_id(w, m->last_id);
    if (!m->has_counters) return;
    must(buf_printf(&w->extra, NULL, "first=%llu-%llu,maxdel=%llu-%llu,added=%llu",
                    (unsigned long long)m->first_id.ms, (unsigned long long)m->first_id.seq,
                    (unsigned long long)m->max_deleted_id.ms,
                    (unsigned long long)m->max_deleted_id.seq,
                    (unsigned long long)m->entries_added));
}

static void tell_pel(struct work *w, const struct pel_entry *p, size_t n, const struct buf *names)
{
    for (size_t i = 0; i < n; i++) {
        must(buf_printf(&w->extra, NULL, "%s%llu-%llu@%lld", i ? "," : "",
                        (unsigned long long)p[i].id.ms, (unsigned long long)p[i].id.seq,
                        (long long)p[i].time_ms));
        if (!p[i].listed) continue;
        hash(w, "P", 1);
        hash_id(w, p[i].id);
        hash_b(w, p[i].owner < 0 ? span_of(NULL, 0) : buf_span(&names[p[i].owner]));
        hash_be(w, p[i].count, 8);
    }
}

static void tell_group(struct work *w, struct group *g)
{
    struct buf *names = (void *)g->consumers.p;
    struct pel_entry *pel = (void *)g->pel.p;
    size_t n_names = g->consumers.n / sizeof(*names), n_pel = g->pel.n / sizeof(*pel);
    hash(w, "G", 1);
    hash_b(w, buf_span(&g->name));
    hash_id(w, g->last);
    tell(w, ";");
    must(buf_printf(&w->extra, NULL, "g:"));
    add_hex(&w->extra, buf_span(&g->name));
    if (g->read == UINT64_MAX)
        must(buf_printf(&w->extra, NULL, ":-:"));
    else
        must(buf_printf(&w->extra, NULL, ":%llu:", (unsigned long long)g->read));
    struct buf sorted[64];
    assert(n_names <= 64);
    if (n_names) memcpy(sorted, names, n_names * sizeof(*names));
    if (n_names) qsort(sorted, n_names, sizeof(*names), buf_order);
    for (size_t i = 0; i < n_names; i++) {
        if (i) must(buf_printf(&w->extra, NULL, ","));
        add_hex(&w->extra, buf_span(&sorted[i]));
    }
    must(buf_printf(&w->extra, NULL, ":"));
    if (n_pel) qsort(pel, n_pel, sizeof(*pel), pel_order);
    tell_pel(w, pel, n_pel, names);
}

static void free_groups(struct work *w)
{
    struct group *g = (void *)w->groups.p;
    for (size_t i = 0; i < w->groups.n / sizeof(*g); i++) {
        struct buf *names = (void *)g[i].consumers.p;
        for (size_t k = 0; k < g[i].consumers.n / sizeof(*names); k++)
            buf_release(&names[k]);
        buf_release(&g[i].name);
        buf_release(&g[i].consumers);
        buf_release(&g[i].pel);
    }
    buf_clear(&w->groups);
}

static void hash_entry(struct work *w, const struct rdb_stream_ev *ev)
{
    hash(w, "E", 1);
    hash_id(w, ev->id);
    hash_be(w, ev->n_fields, 4);
    for (size_t i = 0; i < ev->n_fields; i++)
        hash_b(w, ev->fields[i]);
}

/* Idempotent producers come after the groups in the file, but before them in the line. */
static void tell_idmp(struct work *w, const struct rdb_stream_ev *ev, struct buf *idmp)
{
    switch (ev->kind) {
    case RDB_STREAM_IDMP_CONFIG:
        must(buf_printf(idmp, NULL, ";idmp=%llu,%llu", (unsigned long long)ev->n,
                        (unsigned long long)ev->count));
        break;
    case RDB_STREAM_IDMP_PRODUCER:
        must(buf_printf(&w->store, NULL, ";p:"));
        add_hex(&w->store, ev->name);
        must(buf_printf(&w->store, NULL, ":"));
        break;
    case RDB_STREAM_IDMP_ID:
        if (w->store.p[w->store.n - 1] != ':') must(buf_printf(&w->store, NULL, ","));
        add_hex(&w->store, ev->name);
        must(buf_printf(&w->store, NULL, "=%llu-%llu", (unsigned long long)ev->id.ms,
                        (unsigned long long)ev->id.seq));
        break;
    case RDB_STREAM_END:
        if (idmp->n == 0) break;
        must(buf_printf(idmp, NULL, ",%llu,%llu", (unsigned long long)ev->n,
                        (unsigned long long)ev->count));
        must(buf_add(idmp, w->store.p, w->store.n, NULL));
        must(buf_add(&w->extra, idmp->p, idmp->n, NULL));
        break;
    default: break;
    }
}

static void take_event(struct work *w, const struct rdb_stream_ev *ev, struct buf *idmp)
{
    switch (ev->kind) {
    case RDB_STREAM_ENTRY: hash_entry(w, ev); break;
    case RDB_STREAM_META: tell_meta(w, &ev->meta); break;
    case RDB_STREAM_GROUP: new_group(w, ev); break;
    case RDB_STREAM_PEL: {
        struct pel_entry p = {ev->id, ev->time_ms, ev->count, -1, false};
        must(buf_add(&last_group(w)->pel, &p, sizeof(p), NULL));
        break;
    }
    case RDB_STREAM_CONSUMER: new_consumer(w, ev); break;
    case RDB_STREAM_CONSUMER_PEL:
    case RDB_STREAM_NACK: own(w, ev); break;
    default: tell_idmp(w, ev, idmp);
    }
}

static int do_stream(struct work *w, enum rdb_type t, struct err *err)
{
    struct rdb_stream_ev ev = {.kind = RDB_STREAM_ENTRY};
    struct buf idmp;
    buf_init(&idmp, MAX_BYTES);
    buf_clear(&w->store);
    int rc = rdb_stream_begin(w->stream, w->r, t, w->mode == CANON_RELEASE, err);
    while (rc == 0 && ev.kind != RDB_STREAM_END)
        if ((rc = rdb_stream_next(w->stream, &ev, err)) == 0) take_event(w, &ev, &idmp);
    struct group *g = (void *)w->groups.p;
    size_t n = w->groups.n / sizeof(*g);
    if (n) qsort(g, n, sizeof(*g), group_order);
    for (size_t i = 0; i < n; i++)
        tell_group(w, &g[i]);
    free_groups(w);
    buf_release(&idmp);
    return rc;
}

/* Records. */

static int do_opaque(struct work *w, enum rdb_type t, struct err *err)
{
    hash_begin(w, NULL); /* as DUMP gives it: the type, then the bytes of the file */
    hash_be(w, rdb_type_byte(t), 1);
    const uint8_t *keep = w->r->keep;
    assert(keep == w->r->p);
    if (rdb_value_skip(w->r, t, false, SIZE_MAX, err) < 0) return -1;
    hash(w, w->r->keep, (size_t)(w->r->p - w->r->keep));
    return 0;
}

static int do_value(struct work *w, enum rdb_type t, struct err *err)
{
    enum rdb_kind kind = rdb_kind_of(t);
    uint64_t start = reader_pos(w->r), end = 0;
    hash_begin(w, rdb_kind_name(kind));
    buf_clear(&w->extra);
    if (w->mode == CANON_HOLD) {
        if (rdb_value_skip(w->r, t, false, SIZE_MAX, err) < 0) return -1;
        end = reader_pos(w->r);
        w->r->p = w->r->keep;
        assert(reader_pos(w->r) == start);
    }
    int rc = kind == RDB_KIND_STRING                             ? do_string(w, err)
             : kind == RDB_KIND_STREAM                           ? do_stream(w, t, err)
             : kind == RDB_KIND_MODULE || kind == RDB_KIND_ARRAY ? do_opaque(w, t, err)
                                                                 : do_elems(w, t, err);
    if (rc == 0 && w->mode == CANON_HOLD && reader_pos(w->r) != end)
        return err_set(err, ERR_INTERNAL, "type %d: skipped to %llu, decoded to %llu", (int)t,
                       (unsigned long long)end, (unsigned long long)reader_pos(w->r));
    return rc;
}

static void tell_hash(struct work *w)
{
    uint8_t md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int ok = EVP_DigestFinal_ex(w->md, md, &n);
    assert(ok == 1);
    (void)ok;
    add_hex(&w->line, span_of(md, n));
}

static void tell_number(struct buf *b, int64_t v)
{
    if (v < 0)
        must(buf_printf(b, NULL, "\t-"));
    else
        must(buf_printf(b, NULL, "\t%lld", (long long)v));
}

static int do_key(struct work *w, uint64_t db, const struct rdb_rec *rec, struct err *err)
{
    if (do_value(w, rec->type, err) < 0) return -1;
    struct buf *b = &w->line;
    bool hash_type = rdb_kind_of(rec->type) == RDB_KIND_HASH;
    must(buf_printf(b, NULL, "key\t%llu\t", (unsigned long long)db));
    add_hex(b, rec->a); /* still valid, though the value has been consumed */
    must(buf_printf(b, NULL, "\t%s\t%lld\t", rdb_kind_name(rdb_kind_of(rec->type)),
                    (long long)rec->expire_ms));
    tell_hash(w);
    tell_number(b, rec->freq);
    tell_number(b, rec->idle_s);
    if (w->extra.n == 0) must(buf_add(&w->extra, "-", 1, NULL));
    must(buf_printf(b, NULL, hash_type ? "\t%.*s\t-" : "\t-\t%.*s", (int)w->extra.n,
                    (const char *)w->extra.p));
    return 0;
}

static void end_line(struct work *w)
{
    if (w->line.n == 0) return;
    char *s = strndup((const char *)w->line.p, w->line.n);
    assert(s);
    must(buf_add(&w->lines, &s, sizeof(s), NULL));
}

static int do_record(struct work *w, const struct rdb_rec *rec, uint64_t *db, struct err *err)
{
    buf_clear(&w->line);
    switch (rec->kind) {
    case RDB_REC_KEY:
        if (do_key(w, *db, rec, err) < 0) return -1;
        break;
    case RDB_REC_SELECTDB: *db = rec->n; break;
    case RDB_REC_AUX:
        must(buf_printf(&w->line, NULL, "aux\t"));
        add_hex(&w->line, rec->a);
        must(buf_printf(&w->line, NULL, "\t"));
        add_hex(&w->line, rec->b);
        break;
    case RDB_REC_FUNCTION:
        must(buf_printf(&w->line, NULL, "function\t"));
        add_hex(&w->line, rec->a);
        break;
    case RDB_REC_MODULE_AUX:
        must(buf_printf(&w->line, NULL, "module-aux\t%.*s", (int)rec->a.n, (const char *)rec->a.p));
        break;
    case RDB_REC_RESIZEDB:
    case RDB_REC_SLOT_INFO: break;
    }
    end_line(w);
    return 0;
}

static void work_release(struct work *w)
{
    rdb_elems_free(w->elems);
    rdb_stream_free(w->stream);
    EVP_MD_CTX_free(w->md);
    struct buf *all[] = {&w->store, &w->items, &w->groups, &w->line, &w->extra};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buf_release(all[i]);
}

static int line_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int canon_read(struct canon *ret, struct reader *r, enum canon_mode mode, struct err *err)
{
    struct work w = {.r = r, .mode = mode, .md = EVP_MD_CTX_new()};
    struct buf *all[] = {&w.store, &w.items, &w.groups, &w.line, &w.extra, &w.lines};
    struct rdb f;
    struct rdb_rec rec;
    uint64_t db = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buf_init(all[i], MAX_BYTES);
    must(rdb_elems_new(&w.elems, MAX_BYTES, err));
    must(rdb_stream_new(&w.stream, MAX_BYTES, err));
    int rc = rdb_open(&f, r, err);
    while (rc == 0 && (rc = rdb_next(&f, &rec, err)) > 0)
        rc = do_record(&w, &rec, &db, err);
    rdb_release(&f);
    work_release(&w);
    *ret = (struct canon){(char **)(void *)w.lines.p, w.lines.n / sizeof(char *)};
    if (ret->n) qsort(ret->line, ret->n, sizeof(char *), line_order);
    return rc;
}

void canon_free(struct canon *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->line[i]);
    free(c->line);
    *c = (struct canon){0};
}
