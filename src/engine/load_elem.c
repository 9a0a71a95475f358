// SPDX-License-Identifier: BSD-3-Clause
// An element, field or value that is larger than memory should hold: piece by piece into the batch,
// whose store has room for it on disk, as a command of its own.
#include "engine/load.h"

#include "engine/emit.h"

#define COPY_BYTES (64u << 10)

static int put_head(struct load *ld, const struct rdb_rec *rec, unsigned argc, const char *name,
                    struct err *err)
{
    uint8_t head[EMIT_HEAD_MAX * 3];
    uint8_t *out = emit_str(emit_head(head, '*', argc), name);
    out = emit_head(out, '$', rec->a.n);
    struct batch *b = load_batch(ld);
    if (batch_part(b, head, (size_t)(out - head), err) < 0 ||
        batch_part(b, rec->a.p, rec->a.n, err) < 0)
        return -1;
    return batch_part(b, "\r\n", 2, err);
}

static int put_len(struct load *ld, uint64_t n, struct err *err)
{
    uint8_t head[EMIT_HEAD_MAX];
    return batch_part(load_batch(ld), head, (size_t)(emit_head(head, '$', n) - head), err);
}

/* The string at hand into the batch, into the store, or both. */
static int take_string(struct load *ld, bool to_batch, bool to_store, struct err *err)
{
    struct span piece;
    int rc;
    while ((rc = rdb_elems_piece(ld->elems, &piece, err)) == 1) {
        if (to_batch && batch_part(load_batch(ld), piece.p, piece.n, err) < 0) return -1;
        if (to_store && store_add(&ld->whole, piece.p, piece.n, err) < 0) return -1;
    }
    if (rc < 0 || !to_batch) return rc;
    return batch_part(load_batch(ld), "\r\n", 2, err);
}

/* What was kept in the store, as an argument. */
static int put_kept(struct load *ld, struct err *err)
{
    uint64_t size = store_size(&ld->whole);
    if (put_len(ld, size, err) < 0) return -1;
    buf_clear(&ld->args);
    if (buf_reserve(&ld->args, COPY_BYTES, err) < 0) return -1;
    for (uint64_t at = 0; at < size;) {
        ssize_t n = store_read(&ld->whole, at, ld->args.p, COPY_BYTES, err);
        if (n <= 0 || batch_part(load_batch(ld), ld->args.p, (size_t)n, err) < 0) return -1;
        at += (uint64_t)n;
    }
    return batch_part(load_batch(ld), "\r\n", 2, err);
}

static int put_num(struct load *ld, const char *text, size_t n, struct err *err)
{
    if (put_len(ld, n, err) < 0 || batch_part(load_batch(ld), text, n, err) < 0) return -1;
    return batch_part(load_batch(ld), "\r\n", 2, err);
}

/* The score stands behind the member in the file, before it in the command. */
static int end_zset(struct load *ld, const struct rdb_rec *rec, const struct rdb_elem *e,
                    struct err *err)
{
    char score[NUM_DOUBLE_CHARS];
    if (put_head(ld, rec, 4, "ZADD", err) < 0 ||
        put_num(ld, score, num_put_double(score, e->score), err) < 0)
        return -1;
    return put_kept(ld, err);
}

/* The field's expiry, which needs the field again. */
static int end_hash(struct load *ld, const struct rdb_rec *rec, const struct rdb_elem *e,
                    struct err *err)
{
    char ms[NUM_INT64_CHARS];
    if (e->expire_ms == -1 || !ld->field_ttl) return 0;
    batch_count(load_batch(ld));
    if (put_head(ld, rec, 6, "HPEXPIREAT", err) < 0 ||
        put_num(ld, ms, num_put_i64(ms, e->expire_ms), err) < 0 ||
        put_num(ld, "FIELDS", 6, err) < 0 || put_num(ld, "1", 1, err) < 0)
        return -1;
    return put_kept(ld, err);
}

static int begin_command(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    switch (rdb_kind_of(rec->type)) {
    case RDB_KIND_LIST: return put_head(ld, rec, 3, "RPUSH", err);
    case RDB_KIND_SET: return put_head(ld, rec, 3, "SADD", err);
    case RDB_KIND_HASH: return put_head(ld, rec, 4, "HSET", err);
    default: return 0; /* sorted sets: once the score is known */
    }
}

/* Too long a string: the rest of the element is passed over. */
static int refuse(struct load *ld, const struct rdb_rec *rec, struct rdb_elem *e, struct err *err)
{
    struct span piece;
    uint64_t n;
    int rc = 1;
    batch_back(load_batch(ld));
    if (refusals_report(&ld->pl->refusals, ld->to_db, rec->a, rdb_kind_name(rdb_kind_of(rec->type)),
                        "an element of it is larger than the target's proto-max-bulk-len", err) < 0)
        return -1;
    while (rc == 1) {
        while ((rc = rdb_elems_piece(ld->elems, &piece, err)) == 1)
            continue;
        if (rc == 0) rc = rdb_elems_split_next(ld->elems, e, &n, err);
    }
    return rc < 0 ? -1 : 1;
}

static int put_strings(struct load *ld, const struct rdb_rec *rec, struct rdb_elem *e,
                       uint64_t *ret_bytes, struct err *err)
{
    enum rdb_kind kind = rdb_kind_of(rec->type);
    uint64_t n;
    int rc;
    for (unsigned i = 0; (rc = rdb_elems_split_next(ld->elems, e, &n, err)) == 1; i++) {
        if (n > ld->target->proto_max_bulk_len) return refuse(ld, rec, e, err);
        bool to_batch = kind != RDB_KIND_ZSET;
        bool to_store = !to_batch || (kind == RDB_KIND_HASH && i == 0);
        *ret_bytes += n;
        if (to_batch && put_len(ld, n, err) < 0) return -1;
        if (take_string(ld, to_batch, to_store, err) < 0) return -1;
    }
    return rc;
}

int load_split_elem(struct load *ld, const struct rdb_rec *rec, struct rdb_elem *e,
                    uint64_t *ret_bytes, struct err *err)
{
    store_clear(&ld->whole);
    batch_mark(load_batch(ld));
    if (begin_command(ld, rec, err) < 0) return -1;
    int rc = put_strings(ld, rec, e, ret_bytes, err);
    if (rc) return rc;
    batch_count(load_batch(ld));
    if (rdb_kind_of(rec->type) == RDB_KIND_ZSET) rc = end_zset(ld, rec, e, err);
    if (rdb_kind_of(rec->type) == RDB_KIND_HASH) rc = end_hash(ld, rec, e, err);
    store_clear(&ld->whole);
    return rc < 0 ? -1 : load_send_batch(ld, err);
}
