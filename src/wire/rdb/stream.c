// SPDX-License-Identifier: BSD-3-Clause
// A stream value as events: one state per kind of thing that can come next.
//
//   NODES ─▶ META ─▶ GROUPS ─▶ PEL ─▶ CONSUMERS ⇄ CONSUMER_PEL
//                    ▲  │               │
//                    └──┼── NACKS ◀─────┘   (NACKS is empty before type 27)
//                       ▼
//                    IDMP_CONFIG ─▶ PRODUCERS ⇄ IDMP_IDS        (type 26 and later)
//                       └─────────────▶ END ◀─┘
#include "wire/rdb/stream.h"

#include "wire/rdb/listpack.h"
#include "wire/rdb/str.h"

#include <stdlib.h>

enum state {
    NODES,
    META,
    GROUPS,
    PEL,
    CONSUMERS,
    CONSUMER_PEL,
    NACKS,
    IDMP_CONFIG,
    PRODUCERS,
    IDMP_IDS,
    END,
};

struct rdb_stream {
    struct reader *r;
    enum rdb_type type;
    bool release;
    size_t max_bytes;
    enum state state;

    /* What is left of each list, and its next state's work. */
    uint64_t nodes, groups, pel, consumers, consumer_pel, nacks, producers, idmp_ids;
    uint64_t idmp_added, idmp_duplicates;

    /* The node being walked. */
    bool in_node;
    struct listpack lp;
    struct stream_id master;
    uint64_t said, seen; /* messages, live and deleted */
    struct stream_id first_live;
    bool any_live;

    struct buf blob; /* the node's listpack, if it was compressed */
    struct buf text; /* decimal text of the node's integers; never moves within a node */
    struct buf fields, master_fields; /* arrays of struct span */
    struct buf name;
};

int rdb_stream_new(struct rdb_stream **ret, size_t max_bytes, struct err *err)
{
    struct rdb_stream *it = calloc(1, sizeof(*it));
    if (!it) return err_set(err, ERR_NOMEM, "out of memory");
    it->max_bytes = max_bytes;
    buf_init(&it->blob, max_bytes);
    buf_init(&it->text, max_bytes > SIZE_MAX / 2 ? SIZE_MAX : 2 * max_bytes);
    buf_init(&it->fields, max_bytes);
    buf_init(&it->master_fields, max_bytes);
    buf_init(&it->name, max_bytes);
    *ret = it;
    return 0;
}

void rdb_stream_free(struct rdb_stream *it)
{
    if (!it) return;
    buf_release(&it->blob);
    buf_release(&it->text);
    buf_release(&it->fields);
    buf_release(&it->master_fields);
    buf_release(&it->name);
    free(it);
}

int rdb_stream_begin(struct rdb_stream *it, struct reader *r, enum rdb_type type, bool release,
                     struct err *err)
{
    if (rdb_kind_of(type) != RDB_KIND_STREAM)
        return err_set(err, ERR_INTERNAL, "RDB type %d is no stream", (int)type);
    it->r = r;
    it->type = type;
    it->release = release;
    it->state = NODES;
    it->in_node = false;
    it->any_live = false;
    it->first_live = (struct stream_id){0, 0};
    it->idmp_added = it->idmp_duplicates = 0;
    return rdb_len(r, &it->nodes, err);
}

/* Fields of the file. */

static int get_name(struct rdb_stream *it, struct span *ret, struct err *err)
{
    buf_clear(&it->name);
    return rdb_str_get(it->r, &it->name, it->max_bytes, ret, err);
}

static int get_id_lens(struct rdb_stream *it, struct stream_id *ret, struct err *err)
{
    return rdb_len(it->r, &ret->ms, err) < 0 ? -1 : rdb_len(it->r, &ret->seq, err);
}

static int get_id_raw(struct rdb_stream *it, struct stream_id *ret, struct err *err)
{
    return reader_u64be(it->r, &ret->ms, err) < 0 ? -1 : reader_u64be(it->r, &ret->seq, err);
}

static int get_ms(struct rdb_stream *it, int64_t *ret, struct err *err)
{
    uint64_t v;
    if (reader_u64le(it->r, &v, err) < 0) return -1;
    *ret = (int64_t)v;
    return 0;
}

/* Nodes: count, deleted, n, n fields, 0, then messages; see read_message(). */

static int bad_node(struct rdb_stream *it, struct err *err, const char *what)
{
    return rdb_bad(err, it->r, "in the stream node that ends here: %s", what);
}

static int node_int(struct rdb_stream *it, int64_t *ret, struct err *err)
{
    struct packed_val v;
    if (!listpack_next(&it->lp, &v)) return bad_node(it, err, "it ends in mid-message");
    if (!v.is_int) return bad_node(it, err, "expected a number, found text");
    *ret = v.i;
    return 0;
}

/* Append the next n values to the span array. Room for integers' text was made by load_node(). */
static int node_text(struct rdb_stream *it, struct buf *spans, struct err *err)
{
    struct packed_val v;
    if (!listpack_next(&it->lp, &v)) return bad_node(it, err, "it ends in mid-message");
    struct span s = packed_text(&v, (char *)it->text.p + it->text.n);
    if (v.is_int) it->text.n += s.n;
    return buf_add(spans, &s, sizeof(s), err);
}

static int node_header(struct rdb_stream *it, struct err *err)
{
    int64_t count, deleted, n, zero;
    if (node_int(it, &count, err) < 0 || node_int(it, &deleted, err) < 0 ||
        node_int(it, &n, err) < 0)
        return -1;
    if (count < 0 || deleted < 0 || n < 0) return bad_node(it, err, "a count is negative");
    it->said = (uint64_t)count + (uint64_t)deleted;
    it->seen = 0;
    buf_clear(&it->master_fields);
    for (; n; n--)
        if (node_text(it, &it->master_fields, err) < 0) return -1;
    if (node_int(it, &zero, err) < 0) return -1;
    return zero == 0 ? 0 : bad_node(it, err, "its field names do not end with 0");
}

static int load_node(struct rdb_stream *it, struct err *err)
{
    struct span key, blob;
    uint64_t pos = reader_pos(it->r);
    size_t n;
    if (get_name(it, &key, err) < 0) return -1;
    if (key.n != 16)
        return rdb_bad(err, it->r, "expected a stream node's ID of 16 bytes, found %zu", key.n);
    struct reader id;
    reader_init_mem(&id, key.p, key.n);
    if (reader_u64be(&id, &it->master.ms, err) < 0 || reader_u64be(&id, &it->master.seq, err) < 0)
        return -1;
    buf_clear(&it->blob);
    if (rdb_str_get(it->r, &it->blob, it->max_bytes, &blob, err) < 0) return -1;
    if (listpack_open(&it->lp, blob, &n, err) < 0)
        return err_wrap(err, "RDB byte %llu, a stream", (unsigned long long)pos);
    /* The text of an integer is never longer than twice its entry (7 bits: 2 bytes, "127"). */
    buf_clear(&it->text);
    if (buf_reserve(&it->text, 2 * blob.n, err) < 0) return -1;
    it->in_node = true;
    return node_header(it, err);
}

enum { MSG_DELETED = 1, MSG_SAME_FIELDS = 2 };

/* flags & 2:  n values, the names are the master's.    Else: k, then k names and values. */
static int read_fields(struct rdb_stream *it, int64_t flags, int64_t *ret_entries, struct err *err)
{
    buf_clear(&it->fields);
    if (flags & MSG_SAME_FIELDS) {
        size_t n = it->master_fields.n / sizeof(struct span);
        for (size_t i = 0; i < n; i++)
            if (buf_add(&it->fields, it->master_fields.p + i * sizeof(struct span),
                        sizeof(struct span), err) < 0 ||
                node_text(it, &it->fields, err) < 0)
                return -1;
        *ret_entries = (int64_t)n + 3;
        return 0;
    }
    int64_t k;
    if (node_int(it, &k, err) < 0) return -1;
    if (k < 0 || k > (int64_t)it->max_bytes) return bad_node(it, err, "a field count is wrong");
    for (int64_t i = 0; i < 2 * k; i++)
        if (node_text(it, &it->fields, err) < 0) return -1;
    *ret_entries = 2 * k + 4;
    return 0;
}

/* flags, ms and seq less the master's, fields, number of listpack entries so far. 1: a live one. */
static int read_message(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    int64_t flags, ms, seq, said, entries = 0;
    if (node_int(it, &flags, err) < 0 || node_int(it, &ms, err) < 0 || node_int(it, &seq, err) < 0)
        return -1;
    if (read_fields(it, flags, &entries, err) < 0 || node_int(it, &said, err) < 0) return -1;
    if (said != entries) return bad_node(it, err, "a message's length is wrong");
    it->seen++;
    if (flags & MSG_DELETED) return 0;
    ev->kind = RDB_STREAM_ENTRY;
    ev->id.ms = it->master.ms + (uint64_t)ms; /* modulo 2^64, as the server adds */
    ev->id.seq = it->master.seq + (uint64_t)seq;
    ev->fields = (const void *)it->fields.p;
    ev->n_fields = it->fields.n / sizeof(struct span);
    if (!it->any_live) it->first_live = ev->id;
    it->any_live = true;
    return 1;
}

/* Steps. 1: *ev filled. 0: only the state has changed. */

static int step_nodes(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (it->in_node) {
        if (it->lp.p < it->lp.end) return read_message(it, ev, err);
        it->in_node = false;
        if (it->seen != it->said)
            return bad_node(it, err, "it holds another number of messages than it says");
        return 0;
    }
    if (it->release) reader_release(it->r);
    if (it->nodes == 0) {
        it->state = META;
        return 0;
    }
    it->nodes--;
    return load_node(it, err);
}

static int step_meta(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    struct rdb_stream_meta *m = &ev->meta;
    if (rdb_len(it->r, &m->length, err) < 0 || get_id_lens(it, &m->last_id, err) < 0) return -1;
    m->has_counters = it->type >= RDB_STREAM_2;
    m->first_id = it->first_live;
    m->max_deleted_id = (struct stream_id){0, 0};
    m->entries_added = m->length;
    if (m->has_counters &&
        (get_id_lens(it, &m->first_id, err) < 0 || get_id_lens(it, &m->max_deleted_id, err) < 0 ||
         rdb_len(it->r, &m->entries_added, err) < 0))
        return -1;
    if (rdb_len(it->r, &it->groups, err) < 0) return -1;
    ev->kind = RDB_STREAM_META;
    it->state = GROUPS;
    return 1;
}

static int step_groups(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (it->groups == 0) {
        it->state = it->type >= RDB_STREAM_4 ? IDMP_CONFIG : END;
        return 0;
    }
    it->groups--;
    if (get_name(it, &ev->name, err) < 0 || get_id_lens(it, &ev->id, err) < 0) return -1;
    ev->entries_read = UINT64_MAX;
    if (it->type >= RDB_STREAM_2 && rdb_len(it->r, &ev->entries_read, err) < 0) return -1;
    if (rdb_len(it->r, &it->pel, err) < 0) return -1;
    ev->kind = RDB_STREAM_GROUP;
    it->state = PEL;
    return 1;
}

static int step_pel(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (it->pel == 0) {
        it->state = CONSUMERS;
        return rdb_len(it->r, &it->consumers, err);
    }
    it->pel--;
    if (get_id_raw(it, &ev->id, err) < 0 || get_ms(it, &ev->time_ms, err) < 0 ||
        rdb_len(it->r, &ev->count, err) < 0)
        return -1;
    ev->kind = RDB_STREAM_PEL;
    return 1;
}

static int step_consumers(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (it->consumers == 0) {
        it->state = NACKS;
        it->nacks = 0;
        return it->type >= RDB_STREAM_5 ? rdb_len(it->r, &it->nacks, err) : 0;
    }
    it->consumers--;
    if (get_name(it, &ev->name, err) < 0 || get_ms(it, &ev->time_ms, err) < 0) return -1;
    ev->active_ms = -1;
    if (it->type >= RDB_STREAM_3 && get_ms(it, &ev->active_ms, err) < 0) return -1;
    if (rdb_len(it->r, &it->consumer_pel, err) < 0) return -1;
    ev->kind = RDB_STREAM_CONSUMER;
    it->state = CONSUMER_PEL;
    return 1;
}

/* A counted list of raw IDs; `then` is what follows it. */
static int step_ids(struct rdb_stream *it, uint64_t *left, enum rdb_stream_ev_kind kind,
                    enum state then, struct rdb_stream_ev *ev, struct err *err)
{
    if (*left == 0) {
        it->state = then;
        return 0;
    }
    --*left;
    ev->kind = kind;
    return get_id_raw(it, &ev->id, err) < 0 ? -1 : 1;
}

static int step_idmp_config(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (rdb_len(it->r, &ev->n, err) < 0 || rdb_len(it->r, &ev->count, err) < 0 ||
        rdb_len(it->r, &it->producers, err) < 0)
        return -1;
    ev->kind = RDB_STREAM_IDMP_CONFIG;
    it->state = PRODUCERS;
    return 1;
}

static int step_producers(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (it->producers == 0) {
        it->state = END;
        if (rdb_len(it->r, &it->idmp_added, err) < 0) return -1;
        return rdb_len(it->r, &it->idmp_duplicates, err);
    }
    it->producers--;
    if (get_name(it, &ev->name, err) < 0 || rdb_len(it->r, &it->idmp_ids, err) < 0) return -1;
    ev->kind = RDB_STREAM_IDMP_PRODUCER;
    it->state = IDMP_IDS;
    return 1;
}

static int step_idmp_ids(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (it->idmp_ids == 0) {
        it->state = PRODUCERS;
        return 0;
    }
    it->idmp_ids--;
    if (get_name(it, &ev->name, err) < 0 || get_id_lens(it, &ev->id, err) < 0) return -1;
    ev->kind = RDB_STREAM_IDMP_ID;
    return 1;
}

static int step_end(struct rdb_stream *it, struct rdb_stream_ev *ev)
{
    if (it->release) reader_release(it->r);
    ev->n = it->idmp_added;
    ev->count = it->idmp_duplicates;
    ev->kind = RDB_STREAM_END;
    return 1;
}

static int step(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    switch (it->state) {
    case NODES: return step_nodes(it, ev, err);
    case META: return step_meta(it, ev, err);
    case GROUPS: return step_groups(it, ev, err);
    case PEL: return step_pel(it, ev, err);
    case CONSUMERS: return step_consumers(it, ev, err);
    case CONSUMER_PEL:
        return step_ids(it, &it->consumer_pel, RDB_STREAM_CONSUMER_PEL, CONSUMERS, ev, err);
    case NACKS: return step_ids(it, &it->nacks, RDB_STREAM_NACK, GROUPS, ev, err);
    case IDMP_CONFIG: return step_idmp_config(it, ev, err);
    case PRODUCERS: return step_producers(it, ev, err);
    case IDMP_IDS: return step_idmp_ids(it, ev, err);
    case END: return step_end(it, ev);
    }
    return err_set(err, ERR_INTERNAL, "stream state %d", (int)it->state);
}

int rdb_stream_next(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err)
{
    if (it->release && it->state != NODES) reader_release(it->r);
    for (;;) {
        int rc = step(it, ev, err);
        if (rc) return rc < 0 ? -1 : 0;
    }
}
