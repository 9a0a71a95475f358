// SPDX-License-Identifier: BSD-3-Clause
// Hashing values in their canonical form.
#include "engine/digest.h"

#include "engine/sorter.h"
#include "wire/rdb/elems.h"
#include "wire/rdb/str.h"
#include "wire/rdb/stream.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define ID_BYTES 16

/* Behind the id in the sorter's keys: what a group knows of a pending entry, then who has it. */
enum pending_tag { PENDING_ENTRY, PENDING_OWNED, PENDING_NACK };

struct digest {
    EVP_MD *kind;
    EVP_MD_CTX *content, *state;
    bool has_state;
    struct rdb_elems *elems;
    struct rdb_stream *stream;
    struct sorter sorter;
    struct buf consumer; /* name of the one whose entries are being told */
    bool in_group, idmp;
    uint64_t pending_count; /* deliveries of the entry told last */
    enum rdb_kind value;
};

/* OpenSSL fails here only for want of memory at the start; then the digest would be wrong. */
static int update(EVP_MD_CTX *md, const void *p, size_t n, struct err *err)
{
    if (n == 0 || EVP_DigestUpdate(md, p, n) == 1) return 0;
    return err_set(err, ERR_INTERNAL, "SHA-256 failed");
}

static void put_be(uint8_t *out, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

static int update_be(EVP_MD_CTX *md, uint64_t v, unsigned n, struct err *err)
{
    uint8_t b[8];
    put_be(b, v, n);
    return update(md, b, n, err);
}

static int update_str(EVP_MD_CTX *md, struct span s, struct err *err)
{
    return update_be(md, s.n, 4, err) < 0 ? -1 : update(md, s.p, s.n, err);
}

static int update_id(EVP_MD_CTX *md, struct stream_id id, struct err *err)
{
    return update_be(md, id.ms, 8, err) < 0 ? -1 : update_be(md, id.seq, 8, err);
}

/* A letter and an id: how most things of a stream begin. */
static int update_tagged(EVP_MD_CTX *md, char tag, struct stream_id id, struct err *err)
{
    return update(md, &tag, 1, err) < 0 ? -1 : update_id(md, id, err);
}

static int begin(struct digest *d, EVP_MD_CTX *md, struct err *err)
{
    if (EVP_DigestInit_ex(md, d->kind, NULL) == 1) return 0;
    return err_set(err, ERR_INTERNAL, "SHA-256 failed");
}

/* To what is told beside the content; it begins with the first byte. */
static int state_begin(struct digest *d, struct err *err)
{
    if (d->has_state) return 0;
    d->has_state = true;
    return begin(d, d->state, err);
}

/* --- strings, and what is not looked into --- */

static int do_string(struct digest *d, struct reader *r, struct digest_result *ret, struct err *err)
{
    struct rdb_str s;
    struct rdb_pieces it;
    struct span piece;
    if (rdb_str_head(r, &s, err) < 0) return -1;
    ret->elements = s.n;
    if (update_be(d->content, s.n, 4, err) < 0 || rdb_pieces_begin(&it, &s, err) < 0) return -1;
    int rc;
    while ((rc = rdb_pieces_next(&it, r, &piece, err)) > 0)
        if ((rc = update(d->content, piece.p, piece.n, err)) < 0) break;
    rdb_pieces_end(&it);
    return rc;
}

static int tap(void *ctx, const uint8_t *p, size_t n, struct err *err)
{
    struct digest *d = ctx;
    return update(d->content, p, n, err);
}

/* As it stands in the file, behind its type byte: what DUMP gives, less the footer. */
static int do_opaque(struct digest *d, struct reader *r, enum rdb_type type, struct err *err)
{
    uint8_t byte = rdb_type_byte(type);
    if (begin(d, d->content, err) < 0 || update(d->content, &byte, 1, err) < 0 ||
        reader_settle(r, err) < 0)
        return -1;
    r->tap = tap;
    r->tap_ctx = d;
    int rc = rdb_value_skip(r, type, true, 0, err);
    if (rc == 0) rc = reader_settle(r, err);
    r->tap = NULL;
    return rc;
}

/* --- lists, sets, sorted sets, hashes --- */

/* Behind a field: value, and 8 bytes of its expiry. Behind a member: 8 bytes of score. */
static int take_sorted(void *ctx, struct span key, struct span rest, struct err *err)
{
    struct digest *d = ctx;
    if (update_str(d->content, key, err) < 0) return -1;
    if (d->value == RDB_KIND_ZSET) return update(d->content, rest.p, rest.n, err);
    if (d->value == RDB_KIND_SET) return 0;
    struct span value = span_of(rest.p, rest.n - 8), expire = span_of(rest.p + value.n, 8);
    if (update_str(d->content, value, err) < 0) return -1;
    if (expire.p[0] & 0x80) return 0; /* -1: none */
    if (state_begin(d, err) < 0 || update_str(d->state, key, err) < 0) return -1;
    return update(d->state, expire.p, expire.n, err);
}

static int add_field(struct digest *d, const struct rdb_elem *e, struct err *err)
{
    struct buf *b = &d->consumer;
    uint8_t expire[8];
    put_be(expire, (uint64_t)e->expire_ms, 8);
    buf_clear(b);
    if (buf_add(b, e->b.p, e->b.n, err) < 0 || buf_add(b, expire, 8, err) < 0) return -1;
    return sorter_add(&d->sorter, e->a, buf_span(b), err);
}

static int add_elem(struct digest *d, const struct rdb_elem *e, struct err *err)
{
    uint8_t score[8];
    uint64_t bits;
    switch (d->value) {
    case RDB_KIND_LIST: return update_str(d->content, e->a, err);
    case RDB_KIND_HASH: return add_field(d, e, err);
    case RDB_KIND_ZSET:
        memcpy(&bits, &e->score, sizeof(bits));
        put_be(score, bits, 8);
        return sorter_add(&d->sorter, e->a, span_of(score, 8), err);
    default: return sorter_add(&d->sorter, e->a, span_of(NULL, 0), err);
    }
}

static int do_elems(struct digest *d, struct reader *r, enum rdb_type type,
                    struct digest_result *ret, struct err *err)
{
    struct rdb_elem e;
    int rc = rdb_elems_begin(d->elems, r, type, true, err);
    while (rc >= 0 && (rc = rdb_elems_next(d->elems, &e, err)) == 1) {
        if (add_elem(d, &e, err) < 0) return -1;
        ret->elements++;
    }
    if (rc < 0) return -1;
    return d->value == RDB_KIND_LIST ? 0 : sorter_each(&d->sorter, take_sorted, d, err);
}

/* --- streams --- */

static int add_pending(struct digest *d, struct stream_id id, enum pending_tag tag,
                       struct span rest, struct err *err)
{
    uint8_t key[ID_BYTES + 1];
    put_be(key, id.ms, 8);
    put_be(key + 8, id.seq, 8);
    key[ID_BYTES] = (uint8_t)tag;
    return sorter_add(&d->sorter, span_of(key, sizeof(key)), rest, err);
}

static int take_pending(void *ctx, struct span key, struct span rest, struct err *err)
{
    struct digest *d = ctx;
    if (key.p[ID_BYTES] == PENDING_ENTRY) {
        memcpy(&d->pending_count, rest.p + 8, 8);
        if (update(d->state, "P", 1, err) < 0 || update(d->state, key.p, ID_BYTES, err) < 0)
            return -1;
        return update(d->state, rest.p, 8, err);
    }
    if (update(d->content, "P", 1, err) < 0 || update(d->content, key.p, ID_BYTES, err) < 0 ||
        update_str(d->content, rest, err) < 0)
        return -1;
    return update_be(d->content, d->pending_count, 8, err);
}

/* Its pending entries are known: each with its owner, by id. */
static int end_group(struct digest *d, struct err *err)
{
    if (!d->in_group) return 0;
    d->in_group = false;
    return sorter_each(&d->sorter, take_pending, d, err);
}

static int tell_entry(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    if (update_tagged(d->content, 'E', ev->id, err) < 0 ||
        update_be(d->content, ev->n_fields, 4, err) < 0)
        return -1;
    for (size_t i = 0; i < ev->n_fields; i++)
        if (update_str(d->content, ev->fields[i], err) < 0) return -1;
    return 0;
}

static int tell_meta(struct digest *d, const struct rdb_stream_meta *m, struct err *err)
{
    if (update_tagged(d->content, 'L', m->last_id, err) < 0) return -1;
    if (!m->has_counters) return 0;
    if (state_begin(d, err) < 0 || update_tagged(d->state, 'C', m->first_id, err) < 0 ||
        update_id(d->state, m->max_deleted_id, err) < 0)
        return -1;
    return update_be(d->state, m->entries_added, 8, err);
}

static int tell_name(EVP_MD_CTX *md, char tag, struct span name, struct err *err)
{
    return update(md, &tag, 1, err) < 0 ? -1 : update_str(md, name, err);
}

static int tell_group(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    if (end_group(d, err) < 0) return -1;
    d->in_group = true;
    if (tell_name(d->content, 'G', ev->name, err) < 0 || update_id(d->content, ev->id, err) < 0 ||
        state_begin(d, err) < 0 || tell_name(d->state, 'G', ev->name, err) < 0)
        return -1;
    return update_be(d->state, ev->entries_read, 8, err);
}

static int tell_pending(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    uint8_t rest[16];
    put_be(rest, (uint64_t)ev->time_ms, 8);
    memcpy(rest + 8, &ev->count, 8);
    return add_pending(d, ev->id, PENDING_ENTRY, span_of(rest, sizeof(rest)), err);
}

static int tell_consumer(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    buf_clear(&d->consumer);
    if (buf_add(&d->consumer, ev->name.p, ev->name.n, err) < 0) return -1;
    return tell_name(d->state, 'K', ev->name, err);
}

static int tell_numbers(struct digest *d, char tag, uint64_t a, uint64_t b, struct err *err)
{
    struct stream_id both = {a, b};
    return update_tagged(d->state, tag, both, err);
}

static int tell_idmp(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    if (end_group(d, err) < 0 || state_begin(d, err) < 0) return -1;
    if (ev->kind == RDB_STREAM_IDMP_PRODUCER) return tell_name(d->state, 'p', ev->name, err);
    if (ev->kind == RDB_STREAM_IDMP_ID) {
        if (tell_name(d->state, 'i', ev->name, err) < 0) return -1;
        return update_id(d->state, ev->id, err);
    }
    d->idmp = true;
    return tell_numbers(d, 'I', ev->n, ev->count, err);
}

static int tell_end(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    if (end_group(d, err) < 0) return -1;
    return d->idmp ? tell_numbers(d, 'D', ev->n, ev->count, err) : 0;
}

static int tell_event(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    switch (ev->kind) {
    case RDB_STREAM_ENTRY: return tell_entry(d, ev, err);
    case RDB_STREAM_META: return tell_meta(d, &ev->meta, err);
    case RDB_STREAM_GROUP: return tell_group(d, ev, err);
    case RDB_STREAM_PEL: return tell_pending(d, ev, err);
    case RDB_STREAM_CONSUMER: return tell_consumer(d, ev, err);
    case RDB_STREAM_CONSUMER_PEL:
        return add_pending(d, ev->id, PENDING_OWNED, buf_span(&d->consumer), err);
    case RDB_STREAM_NACK: return add_pending(d, ev->id, PENDING_NACK, span_of(NULL, 0), err);
    case RDB_STREAM_IDMP_CONFIG:
    case RDB_STREAM_IDMP_PRODUCER:
    case RDB_STREAM_IDMP_ID: return tell_idmp(d, ev, err);
    case RDB_STREAM_END: return tell_end(d, ev, err);
    }
    return err_set(err, ERR_INTERNAL, "unknown event of a stream");
}

static int do_stream(struct digest *d, struct reader *r, enum rdb_type type,
                     struct digest_result *ret, struct err *err)
{
    struct rdb_stream_ev ev = {.kind = RDB_STREAM_ENTRY};
    d->in_group = d->idmp = false;
    if (rdb_stream_begin(d->stream, r, type, true, err) < 0) return -1;
    do {
        if (rdb_stream_next(d->stream, &ev, err) < 0 || tell_event(d, &ev, err) < 0) return -1;
        if (ev.kind == RDB_STREAM_META) ret->elements = ev.meta.length;
    } while (ev.kind != RDB_STREAM_END);
    return 0;
}

/* --- any --- */

static int do_value(struct digest *d, struct reader *r, enum rdb_type type,
                    struct digest_result *ret, struct err *err)
{
    const char *name = rdb_kind_name(d->value);
    if (begin(d, d->content, err) < 0 || update(d->content, name, strlen(name) + 1, err) < 0)
        return -1;
    switch (d->value) {
    case RDB_KIND_STRING: return do_string(d, r, ret, err);
    case RDB_KIND_LIST:
    case RDB_KIND_SET:
    case RDB_KIND_ZSET:
    case RDB_KIND_HASH: return do_elems(d, r, type, ret, err);
    case RDB_KIND_STREAM: return do_stream(d, r, type, ret, err);
    case RDB_KIND_MODULE:
    case RDB_KIND_ARRAY: break;
    }
    ret->counted = false;
    return do_opaque(d, r, type, err);
}

static int end(EVP_MD_CTX *md, uint8_t *out, struct err *err)
{
    unsigned n = DIGEST_BYTES;
    if (EVP_DigestFinal_ex(md, out, &n) == 1 && n == DIGEST_BYTES) return 0;
    return err_set(err, ERR_INTERNAL, "SHA-256 failed");
}

int digest_value(struct digest *d, struct reader *r, enum rdb_type type, struct digest_result *ret,
                 struct err *err)
{
    struct digest_result got = {.counted = true};
    d->value = rdb_kind_of(type);
    d->has_state = false;
    if (do_value(d, r, type, &got, err) < 0) {
        sorter_clear(&d->sorter);
        return -1;
    }
    buf_trim(&d->consumer, 1u << 20);
    got.has_state = d->has_state;
    if (end(d->content, got.content, err) < 0) return -1;
    if (d->has_state && end(d->state, got.state, err) < 0) return -1;
    reader_release(r);
    *ret = got;
    return 0;
}

int digest_new(struct digest **ret, const char *dir, struct err *err)
{
    struct digest *d = calloc(1, sizeof(*d));
    if (!d) return err_set(err, ERR_NOMEM, "out of memory");
    sorter_init(&d->sorter, 0, dir);
    buf_init(&d->consumer, DIGEST_ELEM_MAX + 64);
    d->kind = EVP_MD_fetch(NULL, "SHA2-256", NULL); /* once: looking it up costs more than a hash */
    d->content = EVP_MD_CTX_new();
    d->state = EVP_MD_CTX_new();
    int rc = d->kind && d->content && d->state ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    if (rc == 0) rc = rdb_elems_new(&d->elems, DIGEST_ELEM_MAX, err);
    if (rc == 0) rc = rdb_stream_new(&d->stream, DIGEST_ELEM_MAX, err);
    if (rc < 0) {
        digest_free(d);
        return -1;
    }
    *ret = d;
    return 0;
}

void digest_free(struct digest *d)
{
    if (!d) return;
    rdb_elems_free(d->elems);
    rdb_stream_free(d->stream);
    sorter_release(&d->sorter);
    buf_release(&d->consumer);
    EVP_MD_CTX_free(d->content);
    EVP_MD_CTX_free(d->state);
    EVP_MD_free(d->kind);
    free(d);
}
