// SPDX-License-Identifier: BSD-3-Clause
// Values of a type that the target does not know: turned into one that it knows. Small ones whole,
// streams of any size in parts; vector sets in the form that Redis 8.0 reads.
//
// A large stream: the nodes that hold its messages are kept aside (in a store) until its groups,
// which come behind them, are known. Then
//   RESTORE   the stream without messages: groups, consumers, pending entries (also those whose
//             message is gone: no command could make these)
//   XADD      each message, in batches; all ids are above the last id 0-0
//   XSETID    last id, and counters where the target has them (7.0)
//   PEXPIREAT last, so that the key cannot run out in between and be made anew by XADD
#include "engine/load.h"

#include "base/crc64.h"
#include "base/num.h"

#include <stdio.h>

static bool takes(const void *ctx, enum rdb_type type)
{
    return facts_takes_type(ctx, type);
}

/* What is wrong with the value is said with its key; what is wrong elsewhere is not. */
static int name_key(const struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    char name[160];
    if (err->code != ERR_FORMAT && err->code != ERR_LIMIT) return -1;
    return err_wrap(err, "key %s of database %llu", num_quote(name, sizeof(name), rec->a),
                    (unsigned long long)ld->db);
}

/* --- small values --- */

static int send_turned(struct load *ld, const struct rdb_rec *rec, enum rdb_type want,
                       unsigned loss, struct err *err)
{
    struct rdb_rec as = *rec;
    as.type = want;
    losses_note(&ld->pl->refusals.losses, loss, (int64_t)ld->db, rec->a);
    return load_restore(ld, &as, buf_span(&ld->scratch), err);
}

int load_transcoded(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    struct reader *r = &ld->pl->r;
    size_t held = (size_t)(r->p - r->keep);
    struct transcode how = {.have = rec->type, .allowed = ~0u};
    if (!load_degrades(ld)) how.allowed &= ~(unsigned)TRANSCODE_LOSS_FIELD_EXPIRY;
    unsigned loss;
    if (!transcode_choose(rec->type, takes, ld->target, &how.want, &loss)) return 1;
    int rc = rdb_value_skip(r, rec->type, false, LOAD_RESTORE_MAX, err);
    if (rc < 0) return -1;
    size_t end = (size_t)(r->p - r->keep);
    r->p = r->keep + held;
    if (rc == 1) return 1;
    switch (transcode_value(&how, r, ld->elems, &ld->scratch, &loss, err)) {
    case TRANSCODE_DONE: return send_turned(ld, rec, how.want, loss, err);
    case TRANSCODE_TOO_LARGE: r->p = r->keep + held; return 1;
    case TRANSCODE_LOSSY:
        r->p = r->keep + end;
        return load_unsupported(ld, rec, "the target has no expiry of hash fields", err);
    case TRANSCODE_ERROR: break;
    }
    return name_key(ld, rec, err);
}

/* --- large streams --- */

struct big {
    struct load *ld;
    const struct rdb_rec *rec;
    enum rdb_type want;
    struct rdb_stream_meta meta;
    struct rdb_stream *it;
    bool too_large; /* a node is larger than we can decode */
    uint64_t bytes;
};

/* A node's id and listpack as they are; *ret_n 0: too large, passed over. */
static int hold_node(struct big *b, size_t *ret_n, struct err *err)
{
    struct reader *r = &b->ld->pl->r;
    struct rdb_str s;
    reader_release(r);
    *ret_n = 0;
    if (rdb_str_head(r, &s, err) < 0) return -1;
    bool fits = s.stored <= 64;
    if (reader_skip(r, s.stored, !fits, err) < 0 || rdb_str_head(r, &s, err) < 0) return -1;
    fits = fits && s.n <= LOAD_ELEM_MAX && s.stored <= LOAD_ELEM_MAX;
    if (reader_skip(r, s.stored, !fits, err) < 0) return -1;
    if (fits) *ret_n = (size_t)(r->p - r->keep);
    b->too_large |= !fits;
    return 0;
}

/* All nodes go to the store, each behind its size (4 bytes, as the machine has it). */
static int keep_nodes(struct big *b, struct err *err)
{
    struct reader *r = &b->ld->pl->r;
    struct store *st = &b->ld->nodes;
    uint64_t n;
    size_t size;
    store_clear(st);
    if (rdb_len(r, &n, err) < 0) return -1;
    for (; n; n--) {
        if (hold_node(b, &size, err) < 0) return -1;
        uint32_t head = (uint32_t)size;
        if (b->too_large) continue;
        if (store_add(st, &head, sizeof(head), err) < 0 || store_add(st, r->keep, size, err) < 0)
            return -1;
    }
    reader_release(r);
    return 0;
}

static int keep_aside(void *ctx, struct span bytes, struct err *err)
{
    struct load *ld = ctx;
    ld->whole_crc = crc64(ld->whole_crc, bytes.p, bytes.n);
    return store_add(&ld->whole, bytes.p, bytes.n, err);
}

/* A value of any size that is written anew: through ld->scratch into ld->whole. */
static struct rdb_put write_aside(struct load *ld, enum rdb_type type)
{
    uint8_t byte = rdb_type_byte(type);
    buf_clear(&ld->scratch);
    store_clear(&ld->whole);
    ld->whole_crc = crc64(0, &byte, 1);
    return (struct rdb_put){.to = &ld->scratch, .spill = keep_aside, .ctx = ld};
}

static int keep_bare(struct big *b, unsigned *ret_loss, struct err *err)
{
    struct load *ld = b->ld;
    struct rdb_put out = write_aside(ld, b->want);
    return transcode_stream_bare(&ld->pl->r, b->rec->type, b->want, &out, &b->meta, ret_loss, err);
}

static int put_xadd(struct big *b, const struct rdb_stream_ev *ev, struct err *err)
{
    struct load *ld = b->ld;
    char id[48];
    snprintf(id, sizeof(id), "%llu-%llu", (unsigned long long)ev->id.ms,
             (unsigned long long)ev->id.seq);
    struct span argv[] = {span_str("XADD"), b->rec->a, span_str(id)};
    buf_clear(&ld->tail);
    if (resp_put_head(&ld->tail, 3 + ev->n_fields, err) < 0) return -1;
    for (size_t i = 0; i < 3; i++)
        if (resp_put_arg(&ld->tail, argv[i], err) < 0) return -1;
    for (size_t i = 0; i < ev->n_fields; i++)
        if (resp_put_arg(&ld->tail, ev->fields[i], err) < 0) return -1;
    b->bytes += ld->tail.n;
    if (batch_raw(load_batch(ld), buf_span(&ld->tail), err) < 0) return -1;
    return batch_full(load_batch(ld)) ? load_send_batch(ld, err) : 0;
}

/* The node lies in ld->args: as a stream of this one node, type 15, without groups. */
static int put_node(struct big *b, struct err *err)
{
    struct reader r;
    struct rdb_stream_ev ev;
    reader_init_mem(&r, b->ld->args.p, b->ld->args.n);
    if (rdb_stream_begin(b->it, &r, RDB_STREAM, false, err) < 0) return -1;
    for (;;) {
        if (rdb_stream_next(b->it, &ev, err) < 0) return -1;
        if (ev.kind == RDB_STREAM_END) return 0;
        if (ev.kind == RDB_STREAM_ENTRY && put_xadd(b, &ev, err) < 0) return -1;
    }
}

static int read_exactly(const struct store *st, uint64_t at, void *p, size_t n, struct err *err)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = store_read(st, at + got, (uint8_t *)p + got, n - got, err);
        if (k < 0) return -1;
        if (k == 0) return err_set(err, ERR_INTERNAL, "a store ends early");
        got += (size_t)k;
    }
    return 0;
}

static int put_nodes(struct big *b, struct err *err)
{
    static const uint8_t no_more[4] = {0}; /* length, last id (two numbers), groups */
    const struct store *st = &b->ld->nodes;
    struct buf *node = &b->ld->args;
    uint32_t n;
    for (uint64_t at = 0; at < store_size(st); at += sizeof(n) + n) {
        if (read_exactly(st, at, &n, sizeof(n), err) < 0) return -1;
        buf_clear(node);
        if (buf_add(node, "\x01", 1, err) < 0 || buf_reserve(node, n, err) < 0 ||
            read_exactly(st, at + sizeof(n), node->p + 1, n, err) < 0)
            return -1;
        node->n += n;
        if (buf_add(node, no_more, sizeof(no_more), err) < 0 || put_node(b, err) < 0) return -1;
    }
    return 0;
}

static int put_setid(struct big *b, struct err *err)
{
    const struct rdb_stream_meta *m = &b->meta;
    char last[48], added[24], deleted[48];
    snprintf(last, sizeof(last), "%llu-%llu", (unsigned long long)m->last_id.ms,
             (unsigned long long)m->last_id.seq);
    snprintf(added, sizeof(added), "%llu", (unsigned long long)m->entries_added);
    snprintf(deleted, sizeof(deleted), "%llu-%llu", (unsigned long long)m->max_deleted_id.ms,
             (unsigned long long)m->max_deleted_id.seq);
    struct span argv[] = {span_str("XSETID"),       b->rec->a,       span_str(last),
                          span_str("ENTRIESADDED"), span_str(added), span_str("MAXDELETEDID"),
                          span_str(deleted)};
    bool counters = m->has_counters && facts_has(b->ld->target, FACTS_XSETID_COUNTERS);
    return batch_args(load_batch(b->ld), counters ? 7 : 3, argv, err);
}

static int send_parts(struct big *b, struct err *err)
{
    struct load *ld = b->ld;
    struct rdb_rec bare = *b->rec;
    bare.type = b->want;
    bare.expire_ms = -1;
    int rc = load_send_whole(ld, &bare, err);
    if (rc) return rc < 0 ? -1 : 0; /* refused and told, or there already */
    if (load_begin_batches(ld, err) < 0 || put_nodes(b, err) < 0 || put_setid(b, err) < 0)
        return -1;
    return load_finish_batches(ld, b->rec, b->bytes, err);
}

static int rebuild(struct big *b, struct err *err)
{
    struct load *ld = b->ld;
    unsigned loss;
    if (keep_nodes(b, err) < 0 || keep_bare(b, &loss, err) < 0) return -1;
    if (b->too_large)
        return load_unsupported(ld, b->rec, "a node of its messages is larger than 7 MB", err);
    losses_note(&ld->pl->refusals.losses, loss, (int64_t)ld->db, b->rec->a);
    if (send_parts(b, err) < 0) return -1;
    store_clear(&ld->nodes);
    return 0;
}

int load_stream(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    struct big b = {.ld = ld, .rec = rec};
    unsigned loss;
    if (!transcode_choose(rec->type, takes, ld->target, &b.want, &loss)) return 1;
    int there = load_existing(ld, rec, err);
    if (there < 0) return -1;
    if (there) return rdb_value_skip(&ld->pl->r, rec->type, true, 0, err) < 0 ? -1 : 0;
    if (rdb_stream_new(&b.it, LOAD_ELEM_MAX, err) < 0) return -1;
    int rc = rebuild(&b, err);
    rdb_stream_free(b.it);
    return rc < 0 ? name_key(ld, rec, err) : 0;
}

/* --- vector sets --- */

static int pass_over(struct load *ld, const struct rdb_rec *rec, const char *words, struct err *err)
{
    if (rdb_value_skip(&ld->pl->r, rec->type, true, 0, err) < 0) return -1;
    return load_unsupported(ld, rec, words, err);
}

static int turn_vectors(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    bool unknown;
    struct rdb_put out = write_aside(ld, rec->type);
    if (transcode_vectors(&ld->pl->r, &out, &unknown, err) < 0) return name_key(ld, rec, err);
    if (unknown)
        return load_unsupported(ld, rec, "a vector set in a form that is newer than Redis 8.8's",
                                err);
    if (store_size(&ld->whole) == 0) return load_restore(ld, rec, buf_span(&ld->scratch), err);
    if (rdb_put_end(&out, err) < 0) return -1;
    uint64_t n = store_size(&ld->whole);
    int rc = load_send_whole(ld, rec, err);
    if (rc == 0) load_key_done(ld, n);
    return rc < 0 ? -1 : 0;
}

int load_vectors(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    bool vectors;
    if (facts_has(ld->target, FACTS_VECTOR_SETS_82)) return 1;
    if (transcode_is_vectors(&ld->pl->r, &vectors, err) < 0) return -1;
    if (!vectors) return 1;
    if (facts_has(ld->target, FACTS_VECTOR_SETS)) return turn_vectors(ld, rec, err);
    return pass_over(ld, rec, "the target has no vector sets", err);
}
