// SPDX-License-Identifier: BSD-3-Clause
// Walk a whole RDB with every decoder and throw away what they say: for hostile input. Header only,
// because the fuzz target uses it too.
#ifndef TESTS_WIRE_RDB_WALK_H
#define TESTS_WIRE_RDB_WALK_H

#include "wire/rdb/elems.h"
#include "wire/rdb/rdb.h"
#include "wire/rdb/str.h"
#include "wire/rdb/stream.h"

#include <stdlib.h>

#define WALK_SPLIT 40 /* where bytes are released: larger elements in pieces */

struct walk {
    struct rdb_elems *elems;
    struct rdb_stream *stream;
    bool release;
    bool skip_too; /* hold each value by rdb_value_skip() first, then decode it */
    size_t max_bytes;
    uint64_t sum;                /* of all bytes told: sanitizers see each of them read */
    uint64_t keys, skips_differ; /* decoder and skip ended at different places */
};

static inline int walk_new(struct walk *w, size_t max_bytes, struct err *err)
{
    *w = (struct walk){.max_bytes = max_bytes};
    if (rdb_elems_new(&w->elems, max_bytes, err) < 0) return -1;
    return rdb_stream_new(&w->stream, max_bytes, err);
}

static inline void walk_free(struct walk *w)
{
    rdb_elems_free(w->elems);
    rdb_stream_free(w->stream);
}

static inline void walk_touch(struct walk *w, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        w->sum = w->sum * 31 + s.p[i];
}

static inline int walk_string(struct walk *w, struct reader *r, struct err *err)
{
    struct rdb_str s;
    struct rdb_pieces it;
    struct span piece;
    if (rdb_str_head(r, &s, err) < 0) return -1;
    if (!w->release && s.n <= w->max_bytes) { /* whole */
        struct buf scratch;
        buf_init(&scratch, w->max_bytes);
        int rc = rdb_str_body(r, &s, &scratch, w->max_bytes, &piece, err);
        if (rc == 0) walk_touch(w, piece);
        buf_release(&scratch);
        return rc;
    }
    if (s.n > 64 * w->max_bytes) return err_set(err, ERR_LIMIT, "enough"); /* only for speed */
    if (rdb_pieces_begin(&it, &s, err) < 0) return -1;
    int rc;
    while ((rc = rdb_pieces_next(&it, r, &piece, err)) > 0)
        walk_touch(w, piece);
    rdb_pieces_end(&it);
    return rc;
}

static inline int walk_split(struct walk *w, struct rdb_elem *e, struct err *err)
{
    uint64_t n;
    struct span piece;
    int rc;
    while ((rc = rdb_elems_split_next(w->elems, e, &n, err)) > 0) {
        if (n > 64 * w->max_bytes) return err_set(err, ERR_LIMIT, "enough"); /* only for speed */
        while ((rc = rdb_elems_piece(w->elems, &piece, err)) > 0)
            walk_touch(w, piece);
        if (rc < 0) return -1;
    }
    return rc;
}

static inline int walk_elems(struct walk *w, struct reader *r, enum rdb_type t, struct err *err)
{
    struct rdb_elem e;
    rdb_elems_split_above(w->elems, WALK_SPLIT);
    int rc = rdb_elems_begin(w->elems, r, t, w->release, err);
    while (rc == 0 && (rc = rdb_elems_next(w->elems, &e, err)) > 0) {
        rc = 0;
        if (e.split) {
            rc = walk_split(w, &e, err);
            continue;
        }
        walk_touch(w, e.a);
        if (rdb_kind_of(t) == RDB_KIND_HASH) walk_touch(w, e.b);
    }
    return rc;
}

static inline int walk_stream(struct walk *w, struct reader *r, enum rdb_type t, struct err *err)
{
    struct rdb_stream_ev ev;
    if (rdb_stream_begin(w->stream, r, t, w->release, err) < 0) return -1;
    do {
        ev.name = span_of(NULL, 0);
        if (rdb_stream_next(w->stream, &ev, err) < 0) return -1;
        walk_touch(w, ev.name);
        for (size_t i = 0; ev.kind == RDB_STREAM_ENTRY && i < ev.n_fields; i++)
            walk_touch(w, ev.fields[i]);
    } while (ev.kind != RDB_STREAM_END);
    return 0;
}

/* Holding, a length of nearly 2^64 is more than any limit. */
static inline int walk_skip(struct reader *r, enum rdb_type t, bool release, struct err *err)
{
    int rc = rdb_value_skip(r, t, release, SIZE_MAX, err);
    return rc == 1 && !release ? err_set(err, ERR_LIMIT, "more than can be held") : rc;
}

static inline int walk_value(struct walk *w, struct reader *r, enum rdb_type t, struct err *err)
{
    switch (rdb_kind_of(t)) {
    case RDB_KIND_STRING: return walk_string(w, r, err);
    case RDB_KIND_STREAM: return walk_stream(w, r, t, err);
    case RDB_KIND_MODULE:
    case RDB_KIND_ARRAY: return walk_skip(r, t, w->release, err);
    default: return walk_elems(w, r, t, err);
    }
}

static inline int walk_key(struct walk *w, struct reader *r, enum rdb_type t, struct err *err)
{
    uint64_t end = 0;
    if (w->skip_too) {
        if (walk_skip(r, t, false, err) < 0) return -1;
        end = reader_pos(r);
        r->p = r->keep;
    }
    if (walk_value(w, r, t, err) < 0) return -1;
    w->keys++;
    w->skips_differ += w->skip_too && end != reader_pos(r);
    return 0;
}

/* 0: a clean end. -1: an error, and it has words. */
static inline int walk_file(struct walk *w, struct reader *r, struct err *err)
{
    struct rdb f;
    struct rdb_rec rec;
    int rc = rdb_open(&f, r, err);
    while (rc == 0 && (rc = rdb_next(&f, &rec, err)) > 0) {
        if (rec.kind == RDB_REC_AUX) walk_touch(w, rec.b);
        if (rec.kind != RDB_REC_SELECTDB && rec.kind != RDB_REC_RESIZEDB &&
            rec.kind != RDB_REC_SLOT_INFO)
            walk_touch(w, rec.a);
        rc = rec.kind == RDB_REC_KEY ? walk_key(w, r, rec.type, err) : 0;
    }
    rdb_release(&f);
    return rc;
}

#endif
