// SPDX-License-Identifier: BSD-3-Clause
// Values that are too large for one command: in chunks, one batch in flight while the next is
// built, in bounded memory.
#include "engine/load.h"

#include "base/crc64.h"
#include "engine/emit.h"
#include "engine/fan.h"

#include <stdio.h>

#define CHUNK_BYTES (256u << 10)
#define CHUNK_ELEMS 2048 /* one command must not hold the target up */

struct batch *load_batch(struct load *ld)
{
    return &ld->batch[ld->cur];
}

static int send_batch(struct load *ld, struct batch *b, struct err *err)
{
    if (lane_select(ld->lane, ld->to_db, err) < 0 || lane_drain(ld->lane, err) < 0) return -1;
    return batch_send(b, ld->lane, err);
}

/* Wherever the key is by then. */
static int finish_batch(struct load *ld, struct batch *b, struct err *err)
{
    char where[RESP_ERROR_MAX];
    int rc;
    while ((rc = batch_finish_or(b, ld->lane, where, err)) == 1)
        if (load_follow(ld, where, err) < 0 || send_batch(ld, b, err) < 0) return -1;
    if (rc == 0 && ld->pl->fan) fan_recovered(ld->pl->fan);
    return rc;
}

/* Send the batch that was built, once the one before it has been applied. */
int load_send_batch(struct load *ld, struct err *err)
{
    struct batch *b = load_batch(ld), *before = &ld->batch[!ld->cur];
    if (before->in_flight && finish_batch(ld, before, err) < 0) return -1;
    if (b->n == 0) return 0;
    if (send_batch(ld, b, err) < 0) return -1;
    ld->cur = !ld->cur;
    return batch_begin(load_batch(ld), ld->to_db, err);
}

int load_begin_batches(struct load *ld, struct err *err)
{
    if (lane_select(ld->lane, ld->to_db, err) < 0 || lane_drain(ld->lane, err) < 0) return -1;
    ld->refused_before = ld->pl->refusals.count;
    return batch_begin(load_batch(ld), ld->to_db, err);
}

/* The lane is idle and in the right database; what stood there goes when the policy says so. */
static int begin(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    if (load_begin_batches(ld, err) < 0) return -1;
    if (!ld->replace) return 0;
    if (ld->pl->fan) return load_delete(ld, err); /* batches of a cluster are not taken apart */
    struct span argv[] = {span_str(ld->unlink ? "UNLINK" : "DEL"), rec->a};
    if (batch_args(load_batch(ld), 2, argv, err) < 0) return -1;
    batch_mark(load_batch(ld)); /* may go by itself: it frees memory */
    return 0;
}

/* Deadline, last batch, and wait for all of it. */
int load_finish_batches(struct load *ld, const struct rdb_rec *rec, uint64_t bytes, struct err *err)
{
    if (rec->expire_ms != -1) {
        char ms[24];
        snprintf(ms, sizeof(ms), "%lld", (long long)rec->expire_ms);
        struct span argv[] = {span_str("PEXPIREAT"), rec->a, span_str(ms)};
        if (batch_args(load_batch(ld), 3, argv, err) < 0) return -1;
    }
    if (load_send_batch(ld, err) < 0 || load_send_batch(ld, err) < 0) return -1;
    if (ld->pl->refusals.count == ld->refused_before) load_key_done(ld, bytes);
    return 0;
}

/* --- lists, sets, sorted sets, hashes --- */

static const char *command_of(enum rdb_kind kind)
{
    switch (kind) {
    case RDB_KIND_LIST: return "RPUSH";
    case RDB_KIND_SET: return "SADD";
    case RDB_KIND_ZSET: return "ZADD";
    default: return "HSET";
    }
}

static int close_command(struct load *ld, const struct rdb_rec *rec, uint64_t n_args,
                         struct err *err)
{
    if (n_args == 0) return 0;
    struct batch *b = load_batch(ld);
    uint8_t head[EMIT_HEAD_MAX * 3];
    uint8_t *out = emit_head(head, '*', 2 + n_args);
    out = emit_str(out, command_of(rdb_kind_of(rec->type)));
    out = emit_head(out, '$', rec->a.n);
    if (batch_part(b, head, (size_t)(out - head), err) < 0 ||
        batch_part(b, rec->a.p, rec->a.n, err) < 0 || batch_part(b, "\r\n", 2, err) < 0 ||
        batch_part(b, ld->args.p, ld->args.n, err) < 0)
        return -1;
    batch_count(b);
    if (ld->tail.n && batch_part(b, ld->tail.p, ld->tail.n, err) < 0) return -1;
    for (; ld->n_tail; ld->n_tail--)
        batch_count(b);
    buf_clear(&ld->args);
    buf_clear(&ld->tail);
    return load_send_batch(ld, err);
}

/* A field's deadline: a command of its own, behind the HSET, in the same transaction. */
static int put_field_ttl(struct load *ld, const struct rdb_rec *rec, const struct rdb_elem *e,
                         struct err *err)
{
    char ms[24];
    snprintf(ms, sizeof(ms), "%lld", (long long)e->expire_ms);
    struct span argv[] = {span_str("HPEXPIREAT"), rec->a,        span_str(ms),
                          span_str("FIELDS"),     span_str("1"), e->a};
    ld->n_tail++;
    return resp_put_cmd(&ld->tail, 6, argv, err);
}

static int put_elem(struct load *ld, const struct rdb_rec *rec, const struct rdb_elem *e,
                    struct err *err)
{
    char score[NUM_DOUBLE_CHARS];
    switch (rdb_kind_of(rec->type)) {
    case RDB_KIND_ZSET:
        if (resp_put_arg(&ld->args, span_of(score, num_put_double(score, e->score)), err) < 0)
            return -1;
        return resp_put_arg(&ld->args, e->a, err);
    case RDB_KIND_HASH:
        if (resp_put_arg(&ld->args, e->a, err) < 0) return -1;
        if (resp_put_arg(&ld->args, e->b, err) < 0) return -1;
        return e->expire_ms != -1 && ld->field_ttl ? put_field_ttl(ld, rec, e, err) : 0;
    default: return resp_put_arg(&ld->args, e->a, err);
    }
}

static int put_elems(struct load *ld, const struct rdb_rec *rec, uint64_t *ret_bytes,
                     struct err *err)
{
    enum rdb_kind kind = rdb_kind_of(rec->type);
    uint64_t per = kind == RDB_KIND_ZSET || kind == RDB_KIND_HASH ? 2 : 1, n = 0, bytes = 0;
    struct rdb_elem e;
    int rc;
    while ((rc = rdb_elems_next(ld->elems, &e, err)) == 1) {
        if (e.split) {
            if (close_command(ld, rec, n * per, err) < 0) return -1;
            n = 0;
            if ((rc = load_split_elem(ld, rec, &e, &bytes, err)) != 0) return rc;
            continue;
        }
        if (put_elem(ld, rec, &e, err) < 0) return -1;
        n++;
        if (n < CHUNK_ELEMS && ld->args.n + ld->tail.n < CHUNK_BYTES) continue;
        bytes += ld->args.n;
        if (close_command(ld, rec, n * per, err) < 0) return -1;
        n = 0;
    }
    if (rc < 0) return -1;
    *ret_bytes += bytes + ld->args.n;
    return close_command(ld, rec, n * per, err);
}

static int pass_over(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    return rdb_value_skip(&ld->pl->r, rec->type, true, 0, err) < 0 ? -1 : 0;
}

static bool has_field_ttl(enum rdb_type type)
{
    return type == RDB_HASH_METADATA || type == RDB_HASH_LISTPACK_EX ||
           type == RDB_HASH_METADATA_PRE_GA || type == RDB_HASH_LISTPACK_EX_PRE_GA ||
           type == RDB_VALKEY_HASH_2;
}

/* Refused, and the policy is to go on: without the rest of it, and without what was sent. */
static int drop_rest(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    struct rdb_elem e;
    struct span piece, argv[] = {span_str(ld->unlink ? "UNLINK" : "DEL"), rec->a};
    uint64_t n;
    int rc;
    while ((rc = rdb_elems_next(ld->elems, &e, err)) == 1) {
        while (e.split && (rc = rdb_elems_split_next(ld->elems, &e, &n, err)) == 1)
            while ((rc = rdb_elems_piece(ld->elems, &piece, err)) == 1)
                continue;
        if (rc < 0) return -1;
    }
    return rc < 0 ? -1 : batch_args(load_batch(ld), 2, argv, err);
}

int load_chunked(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    int there = load_existing(ld, rec, err);
    if (there < 0) return -1;
    if (there) return pass_over(ld, rec, err);
    if (has_field_ttl(rec->type) && !ld->field_ttl) {
        if (!load_degrades(ld)) {
            if (pass_over(ld, rec, err) < 0) return -1;
            return load_unsupported(ld, rec, "the target has no expiry of hash fields", err);
        }
        losses_note(&ld->pl->refusals.losses, TRANSCODE_LOSS_FIELD_EXPIRY, (int64_t)ld->db, rec->a);
    }
    buf_clear(&ld->args);
    buf_clear(&ld->tail);
    ld->n_tail = 0;
    uint64_t bytes = 0;
    if (begin(ld, rec, err) < 0) return -1;
    if (rdb_elems_begin(ld->elems, &ld->pl->r, rec->type, true, err) < 0) return -1;
    int rc = put_elems(ld, rec, &bytes, err);
    if (rc == 1) rc = drop_rest(ld, rec, err);
    if (rc < 0) {
        char name[160];
        return err_wrap(err, "key %s of database %llu", num_quote(name, sizeof(name), rec->a),
                        (unsigned long long)ld->db);
    }
    return load_finish_batches(ld, rec, bytes, err);
}

/* --- strings --- */

static int put_range(struct load *ld, const struct rdb_rec *rec, uint64_t at, struct span bytes,
                     struct err *err)
{
    char num[24];
    snprintf(num, sizeof(num), "%llu", (unsigned long long)at);
    struct batch *b = load_batch(ld);
    struct span argv[] = {span_str("SETRANGE"), rec->a, span_str(num), bytes};
    buf_clear(&ld->args);
    if (resp_put_cmd(&ld->args, 4, argv, err) < 0) return -1;
    return batch_raw(b, buf_span(&ld->args), err);
}

/* The last byte first, so that the target allocates once; then the content, piece by piece. */
static int put_ranges(struct load *ld, const struct rdb_rec *rec, const struct rdb_str *s,
                      struct rdb_pieces *it, struct err *err)
{
    uint64_t at = 0;
    struct span piece;
    int rc;
    if (s->n == 0) { /* only its key is long; SETRANGE makes no empty strings */
        struct span argv[] = {span_str("SET"), rec->a, span_of("", 0)};
        return batch_args(load_batch(ld), 3, argv, err);
    }
    if (put_range(ld, rec, s->n - 1, span_of("", 1), err) < 0) return -1;
    while ((rc = rdb_pieces_next(it, &ld->pl->r, &piece, err)) == 1) {
        while (piece.n) {
            struct span part = span_of(piece.p, piece.n < CHUNK_BYTES ? piece.n : CHUNK_BYTES);
            if (put_range(ld, rec, at, part, err) < 0) return -1;
            if (batch_bytes(load_batch(ld)) >= CHUNK_BYTES && load_send_batch(ld, err) < 0)
                return -1;
            at += part.n;
            piece = span_of(piece.p + part.n, piece.n - part.n);
        }
    }
    return rc;
}

/* Said before hours are spent on receiving it. 1: reported, to be passed over. */
static int too_long(struct load *ld, const struct rdb_rec *rec, uint64_t n, struct err *err)
{
    if (n <= ld->target->proto_max_bulk_len) return 0;
    return refusals_report(&ld->pl->refusals, ld->to_db, rec->a, "a string",
                           "it is larger than the target's proto-max-bulk-len", err) < 0
               ? -1
               : 1;
}

int load_long_string(struct load *ld, const struct rdb_rec *rec, const struct rdb_str *s,
                     struct err *err)
{
    struct rdb_pieces it;
    struct span piece;
    int there = too_long(ld, rec, s->n, err);
    if (there == 0) there = load_existing(ld, rec, err);
    if (there < 0 || rdb_pieces_begin(&it, s, err) < 0) return -1;
    int rc = there ? 0 : begin(ld, rec, err);
    if (rc == 0 && there) {
        while ((rc = rdb_pieces_next(&it, &ld->pl->r, &piece, err)) == 1)
            continue;
    } else if (rc == 0) {
        rc = put_ranges(ld, rec, s, &it, err);
    }
    rdb_pieces_end(&it);
    if (rc < 0) return -1;
    return there ? 0 : load_finish_batches(ld, rec, s->n, err);
}

/* --- everything else, by one RESTORE --- */

static int keep_aside(void *ctx, const uint8_t *p, size_t n, struct err *err)
{
    struct load *ld = ctx;
    ld->whole_crc = crc64(ld->whole_crc, p, n);
    return store_add(&ld->whole, p, n, err);
}

static int copy_value(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    struct reader *r = &ld->pl->r;
    uint8_t type = rdb_type_byte(rec->type);
    ld->whole_crc = crc64(0, &type, 1);
    store_clear(&ld->whole);
    reader_release(r);
    if (reader_settle(r, err) < 0) return -1;
    r->tap = keep_aside;
    r->tap_ctx = ld;
    int rc = rdb_value_skip(r, rec->type, true, 0, err);
    if (rc == 0) {
        reader_release(r);
        rc = reader_settle(r, err);
    }
    r->tap = NULL;
    return rc;
}

int load_send_whole(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    uint64_t n = store_size(&ld->whole);
    if (n + 11 > ld->target->proto_max_bulk_len)
        return refusals_report(
                   &ld->pl->refusals, ld->to_db, rec->a, rdb_kind_name(rdb_kind_of(rec->type)),
                   "larger than the target's proto-max-bulk-len, which this type needs", err) < 0
                   ? -1
                   : 1;
    buf_clear(&ld->args);
    if (load_make_room(ld, err) < 0 || buf_reserve(&ld->args, LOAD_FRAME_MAX + rec->a.n, err) < 0)
        return -1;
    struct load_frame f = {.head = ld->args.p};
    load_frame_head(ld, rec, n, &f);
    load_frame_tail(ld, rec, ld->whole_crc, &f);
    struct lane_part parts[] = {{.mem = span_of(f.head, f.head_n)},
                                {.store = &ld->whole},
                                {.mem = span_of(f.tail, f.tail_n)}};
    if (load_call(ld, parts, 3, err) < 0) return -1;
    store_clear(&ld->whole);
    return load_call_refused(ld, rec, err);
}

int load_whole(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    if (copy_value(ld, rec, err) < 0) return -1;
    uint64_t n = store_size(&ld->whole);
    int rc = load_send_whole(ld, rec, err);
    if (rc == 0) load_key_done(ld, n);
    return rc < 0 ? -1 : 0;
}
