// SPDX-License-Identifier: BSD-3-Clause
// Hashing values in their canonical form.
#include "engine/digest.h"

#include "engine/hasher.h"
#include "engine/large.h"
#include "engine/sorter.h"
#include "wire/rdb/elems.h"
#include "wire/rdb/str.h"
#include "wire/rdb/stream.h"

#include <endian.h>
#include <stdlib.h>

#define ID_BYTES    16
#define WHOLE_BYTES (64u << 10) /* strings up to this are taken in one */
#define SPLIT_BYTES (1u << 20)  /* larger strings of an element are taken in pieces */

/* Behind the id in the sorter's keys: what a group knows of a pending entry, then who has it. */
enum pending_tag { PENDING_ENTRY, PENDING_OWNED, PENDING_NACK };

struct digest {
    struct hasher content, state;
    bool has_state;
    struct rdb_elems *elems;
    struct rdb_stream *stream;
    struct sorter sorter;
    struct large large;
    struct buf scratch; /* a string; name of the consumer whose entries are being told */
    bool in_group, idmp;
    bool pending; /* an entry has been told; its ID and deliveries */
    uint8_t pending_id[ID_BYTES];
    uint64_t pending_count;
    enum rdb_kind value;
};

static const struct span nothing = {NULL, 0};

static void put_be(uint8_t *out, uint64_t v)
{
    v = htobe64(v);
    memcpy(out, &v, sizeof(v));
}

static void tell_id(struct hasher *h, struct stream_id id)
{
    hasher_u64(h, id.ms);
    hasher_u64(h, id.seq);
}

/* A letter and an id: how most things of a stream begin. */
static void tell_tagged(struct hasher *h, char tag, struct stream_id id)
{
    hasher_byte(h, tag);
    tell_id(h, id);
}

/* What is told beside the content; it begins with the first byte. */
static struct hasher *state_of(struct digest *d)
{
    if (!d->has_state) hasher_begin(&d->state);
    d->has_state = true;
    return &d->state;
}

/* --- strings, and what is not looked into --- */

static int tell_pieces(struct digest *d, struct reader *r, const struct rdb_str *s, struct err *err)
{
    struct rdb_pieces it;
    struct span piece;
    int rc = rdb_pieces_begin(&it, s, err);
    if (rc < 0) return -1;
    while ((rc = rdb_pieces_next(&it, r, &piece, err)) > 0)
        hasher_put(&d->content, piece.p, piece.n);
    rdb_pieces_end(&it);
    return rc;
}

static int do_string(struct digest *d, struct reader *r, struct digest_result *ret, struct err *err)
{
    struct rdb_str s;
    struct span whole;
    if (rdb_str_head(r, &s, err) < 0) return -1;
    ret->elements = s.n;
    hasher_u32(&d->content, s.n);
    reader_release(r); /* so that what is still to be read may come to where this was */
    if (s.n > WHOLE_BYTES || s.stored > WHOLE_BYTES) return tell_pieces(d, r, &s, err);
    buf_clear(&d->scratch);
    if (rdb_str_body(r, &s, &d->scratch, WHOLE_BYTES, &whole, err) < 0) return -1;
    hasher_put(&d->content, whole.p, whole.n);
    return 0;
}

static int tap(void *ctx, const uint8_t *p, size_t n, struct err *err)
{
    struct digest *d = ctx;
    (void)err;
    hasher_put(&d->content, p, n);
    return 0;
}

/* As it stands in the file, behind its type byte: what DUMP gives, less the footer. */
static int do_opaque(struct digest *d, struct reader *r, enum rdb_type type, struct err *err)
{
    uint8_t byte = rdb_type_byte(type);
    hasher_begin(&d->content);
    hasher_put(&d->content, &byte, 1);
    if (reader_settle(r, err) < 0) return -1;
    r->tap = tap;
    r->tap_ctx = d;
    int rc = rdb_value_skip(r, type, true, 0, err);
    if (rc == 0) rc = reader_settle(r, err);
    r->tap = NULL;
    return rc;
}

/* --- lists, sets, sorted sets, hashes --- */

static bool is_expiry(uint64_t ms)
{
    return (int64_t)ms >= 0;
}

/* One that lies in a file. */
static int take_large(void *ctx, const struct large_elem *e, struct err *err)
{
    struct digest *d = ctx;
    if (large_hash(&d->large, e->at, e->key_n, &d->content, err) < 0) return -1;
    if (d->value == RDB_KIND_ZSET) hasher_u64(&d->content, e->tail);
    if (d->value != RDB_KIND_HASH) return 0;
    if (large_hash(&d->large, e->at + e->key_n, e->rest_n, &d->content, err) < 0) return -1;
    if (!is_expiry(e->tail)) return 0;
    if (large_hash(&d->large, e->at, e->key_n, state_of(d), err) < 0) return -1;
    hasher_u64(&d->state, e->tail);
    return 0;
}

/* Behind a field: value, and 8 bytes of its expiry. Behind a member: 8 bytes of score. */
static int take_sorted(void *ctx, struct span key, struct span rest, struct err *err)
{
    struct digest *d = ctx;
    if (KH_UNLIKELY(!large_is_empty(&d->large)) &&
        large_tell_before(&d->large, &key, take_large, d, err) < 0)
        return -1;
    hasher_str(&d->content, key);
    if (d->value != RDB_KIND_HASH) {
        hasher_put(&d->content, rest.p, rest.n);
        return 0;
    }
    const uint8_t *expire = rest.p + rest.n - 8;
    hasher_str(&d->content, span_of(rest.p, rest.n - 8));
    if (expire[0] & 0x80) return 0; /* -1: none */
    hasher_str(state_of(d), key);
    hasher_put(&d->state, expire, 8);
    return 0;
}

static uint64_t score_bits(double score)
{
    uint64_t bits;
    memcpy(&bits, &score, sizeof(bits));
    return bits;
}

static int add_elem(struct digest *d, const struct rdb_elem *e, struct err *err)
{
    uint8_t tail[8];
    switch (d->value) {
    case RDB_KIND_LIST: hasher_str(&d->content, e->a); return 0;
    case RDB_KIND_HASH:
        put_be(tail, (uint64_t)e->expire_ms);
        return sorter_add(&d->sorter, e->a, e->b, span_of(tail, 8), err);
    case RDB_KIND_ZSET:
        put_be(tail, score_bits(e->score));
        return sorter_add(&d->sorter, e->a, span_of(tail, 8), nothing, err);
    default: return sorter_add(&d->sorter, e->a, nothing, nothing, err);
    }
}

/* The string at hand: a list's straight into the hash, others kept aside. */
static int take_pieces(struct digest *d, uint64_t n, struct err *err)
{
    struct span piece;
    int rc;
    bool list = d->value == RDB_KIND_LIST;
    if (list) hasher_u32(&d->content, n);
    while ((rc = rdb_elems_piece(d->elems, &piece, err)) == 1) {
        if (list)
            hasher_put(&d->content, piece.p, piece.n);
        else if (large_add(&d->large, piece, err) < 0)
            return -1;
    }
    return rc;
}

/* An element with a string that is too large for memory. */
static int add_split(struct digest *d, struct rdb_elem *e, struct err *err)
{
    bool list = d->value == RDB_KIND_LIST;
    uint64_t n;
    int rc;
    if (!list && large_begin(&d->large, err) < 0) return -1;
    for (unsigned i = 0; (rc = rdb_elems_split_next(d->elems, e, &n, err)) == 1; i++) {
        if (take_pieces(d, n, err) < 0) return -1;
        if (!list && i == 0) large_key_ends(&d->large);
    }
    if (rc < 0 || list) return rc;
    bool hash = d->value == RDB_KIND_HASH;
    large_end(&d->large, hash ? (uint64_t)e->expire_ms : score_bits(e->score));
    return 0;
}

static int tell_all_sorted(struct digest *d, struct err *err)
{
    if (large_is_empty(&d->large)) return sorter_each(&d->sorter, take_sorted, d, err);
    if (large_sort(&d->large, err) < 0 || sorter_each(&d->sorter, take_sorted, d, err) < 0)
        return -1;
    return large_tell_before(&d->large, NULL, take_large, d, err);
}

static int do_elems(struct digest *d, struct reader *r, enum rdb_type type,
                    struct digest_result *ret, struct err *err)
{
    struct rdb_elem e = {.score = 0};
    int rc = rdb_elems_begin(d->elems, r, type, true, err);
    while (rc >= 0 && (rc = rdb_elems_next(d->elems, &e, err)) == 1) {
        if ((e.split ? add_split(d, &e, err) : add_elem(d, &e, err)) < 0) return -1;
        ret->elements++;
    }
    if (rc < 0) return -1;
    return d->value == RDB_KIND_LIST ? 0 : tell_all_sorted(d, err);
}

/* --- streams --- */

static int add_pending(struct digest *d, struct stream_id id, enum pending_tag tag,
                       struct span rest, struct err *err)
{
    uint8_t key[ID_BYTES + 1];
    put_be(key, id.ms);
    put_be(key + 8, id.seq);
    key[ID_BYTES] = (uint8_t)tag;
    return sorter_add(&d->sorter, span_of(key, sizeof(key)), rest, nothing, err);
}

static void tell_pending_entry(struct digest *d, struct span key, struct span rest)
{
    struct hasher *h = state_of(d);
    d->pending = true;
    memcpy(d->pending_id, key.p, ID_BYTES);
    memcpy(&d->pending_count, rest.p + 8, 8);
    hasher_byte(h, 'P');
    hasher_put(h, key.p, ID_BYTES);
    hasher_put(h, rest.p, 8);
}

static int take_pending(void *ctx, struct span key, struct span rest, struct err *err)
{
    struct digest *d = ctx;
    if (key.p[ID_BYTES] == PENDING_ENTRY) {
        tell_pending_entry(d, key, rest);
        return 0;
    }
    if (!d->pending || memcmp(d->pending_id, key.p, ID_BYTES) != 0)
        return err_set(err, ERR_FORMAT,
                       "a consumer of a stream has a pending entry that its group does not have");
    hasher_byte(&d->content, 'P');
    hasher_put(&d->content, key.p, ID_BYTES);
    hasher_str(&d->content, rest);
    hasher_u64(&d->content, d->pending_count);
    return 0;
}

/* Its pending entries are known: each with its owner, by id. */
static int end_group(struct digest *d, struct err *err)
{
    if (!d->in_group) return 0;
    d->in_group = false;
    return sorter_each(&d->sorter, take_pending, d, err);
}

static void tell_entry(struct digest *d, const struct rdb_stream_ev *ev)
{
    tell_tagged(&d->content, 'E', ev->id);
    hasher_u32(&d->content, ev->n_fields);
    for (size_t i = 0; i < ev->n_fields; i++)
        hasher_str(&d->content, ev->fields[i]);
}

static void tell_meta(struct digest *d, const struct rdb_stream_meta *m)
{
    tell_tagged(&d->content, 'L', m->last_id);
    if (!m->has_counters) return;
    tell_tagged(state_of(d), 'C', m->first_id);
    tell_id(&d->state, m->max_deleted_id);
    hasher_u64(&d->state, m->entries_added);
}

static void tell_name(struct hasher *h, char tag, struct span name)
{
    hasher_byte(h, tag);
    hasher_str(h, name);
}

static int tell_group(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    if (end_group(d, err) < 0) return -1;
    d->in_group = true;
    d->pending = false;
    tell_name(&d->content, 'G', ev->name);
    tell_id(&d->content, ev->id);
    tell_name(state_of(d), 'G', ev->name);
    hasher_u64(&d->state, ev->entries_read);
    return 0;
}

static int tell_pending(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    uint8_t rest[16];
    put_be(rest, (uint64_t)ev->time_ms);
    memcpy(rest + 8, &ev->count, 8);
    return add_pending(d, ev->id, PENDING_ENTRY, span_of(rest, sizeof(rest)), err);
}

static int tell_consumer(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    buf_clear(&d->scratch);
    if (buf_add(&d->scratch, ev->name.p, ev->name.n, err) < 0) return -1;
    tell_name(state_of(d), 'K', ev->name);
    return 0;
}

static void tell_numbers(struct digest *d, char tag, uint64_t a, uint64_t b)
{
    tell_tagged(state_of(d), tag, (struct stream_id){a, b});
}

static int tell_idmp(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    if (end_group(d, err) < 0) return -1;
    if (ev->kind == RDB_STREAM_IDMP_PRODUCER) {
        tell_name(state_of(d), 'p', ev->name);
    } else if (ev->kind == RDB_STREAM_IDMP_ID) {
        tell_name(state_of(d), 'i', ev->name);
        tell_id(&d->state, ev->id);
    } else {
        d->idmp = true;
        tell_numbers(d, 'I', ev->n, ev->count);
    }
    return 0;
}

static int tell_end(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    if (end_group(d, err) < 0) return -1;
    if (d->idmp) tell_numbers(d, 'D', ev->n, ev->count);
    return 0;
}

static int tell_event(struct digest *d, const struct rdb_stream_ev *ev, struct err *err)
{
    switch (ev->kind) {
    case RDB_STREAM_ENTRY: tell_entry(d, ev); return 0;
    case RDB_STREAM_META: tell_meta(d, &ev->meta); return 0;
    case RDB_STREAM_GROUP: return tell_group(d, ev, err);
    case RDB_STREAM_PEL: return tell_pending(d, ev, err);
    case RDB_STREAM_CONSUMER: return tell_consumer(d, ev, err);
    case RDB_STREAM_CONSUMER_PEL:
        return add_pending(d, ev->id, PENDING_OWNED, buf_span(&d->scratch), err);
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
    hasher_begin(&d->content);
    hasher_put(&d->content, name, strlen(name) + 1);
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

int digest_value(struct digest *d, struct reader *r, enum rdb_type type, struct digest_result *ret,
                 struct err *err)
{
    struct digest_result got = {.counted = true};
    d->value = rdb_kind_of(type);
    d->has_state = false;
    int rc = do_value(d, r, type, &got, err);
    if (KH_UNLIKELY(!large_is_empty(&d->large))) large_clear(&d->large);
    if (rc < 0) {
        sorter_clear(&d->sorter);
        return -1;
    }
    buf_trim(&d->scratch, SPLIT_BYTES);
    ret->counted = got.counted;
    ret->elements = got.elements;
    ret->has_state = d->has_state;
    hasher_end(&d->content, ret->content);
    if (d->has_state) hasher_end(&d->state, ret->state);
    reader_release(r);
    return 0;
}

int digest_new(struct digest **ret, const char *dir, struct err *err)
{
    struct digest *d = calloc(1, sizeof(*d));
    if (!d) return err_set(err, ERR_NOMEM, "out of memory");
    sorter_init(&d->sorter, 0, dir);
    large_init(&d->large, dir);
    buf_init(&d->scratch, DIGEST_BLOB_MAX);
    if (rdb_elems_new(&d->elems, DIGEST_BLOB_MAX, err) < 0 ||
        rdb_stream_new(&d->stream, DIGEST_BLOB_MAX, err) < 0) {
        digest_free(d);
        return -1;
    }
    rdb_elems_split_above(d->elems, SPLIT_BYTES);
    *ret = d;
    return 0;
}

void digest_free(struct digest *d)
{
    if (!d) return;
    rdb_elems_free(d->elems);
    rdb_stream_free(d->stream);
    sorter_release(&d->sorter);
    large_release(&d->large);
    buf_release(&d->scratch);
    free(d);
}
