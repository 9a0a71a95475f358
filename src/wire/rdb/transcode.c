// SPDX-License-Identifier: BSD-3-Clause
// Which type to turn a value into, and lists, sets, sorted sets and hashes turned.
#include "wire/rdb/transcode.h"

#include "wire/rdb/str.h"

/* --- choosing --- */

struct choice {
    enum rdb_type type;
    unsigned loss;
};

#define NO_MORE       RDB_STRING
#define CHOICES_MAX   5
#define LOSS_BELOW_27 TRANSCODE_LOSS_NACKED
#define LOSS_BELOW_26 (LOSS_BELOW_27 | TRANSCODE_LOSS_IDMP)
#define LOSS_BELOW_21 (LOSS_BELOW_26 | TRANSCODE_LOSS_ACTIVE)
#define LOSS_BELOW_19 (LOSS_BELOW_21 | TRANSCODE_LOSS_COUNTERS)

static const struct choice lists[CHOICES_MAX] = {{RDB_LIST, 0}};
static const struct choice sets[CHOICES_MAX] = {{RDB_SET, 0}};
static const struct choice zsets[CHOICES_MAX] = {{RDB_ZSET_2, 0}, {RDB_ZSET, 0}};
static const struct choice hashes[CHOICES_MAX] = {{RDB_HASH, 0}};
static const struct choice timed_hashes[CHOICES_MAX] = {
    {RDB_HASH_METADATA, 0}, {RDB_VALKEY_HASH_2, 0}, {RDB_HASH, TRANSCODE_LOSS_FIELD_EXPIRY}};
static const struct choice streams[CHOICES_MAX] = {{RDB_STREAM_4, LOSS_BELOW_27},
                                                   {RDB_STREAM_3, LOSS_BELOW_26},
                                                   {RDB_STREAM_2, LOSS_BELOW_21},
                                                   {RDB_STREAM, LOSS_BELOW_19}};

static bool timed(enum rdb_type t)
{
    return t == RDB_HASH_METADATA || t == RDB_HASH_LISTPACK_EX || t == RDB_HASH_METADATA_PRE_GA ||
           t == RDB_HASH_LISTPACK_EX_PRE_GA || t == RDB_VALKEY_HASH_2;
}

static const struct choice *choices_of(enum rdb_type have)
{
    switch (rdb_kind_of(have)) {
    case RDB_KIND_LIST: return lists;
    case RDB_KIND_SET: return sets;
    case RDB_KIND_ZSET: return zsets;
    case RDB_KIND_HASH: return timed(have) ? timed_hashes : hashes;
    case RDB_KIND_STREAM: return streams;
    case RDB_KIND_STRING:
    case RDB_KIND_MODULE:
    case RDB_KIND_ARRAY: break;
    }
    return NULL;
}

/* What a stream of an older type never had, it cannot lose. */
static unsigned can_lose(enum rdb_type have)
{
    if (rdb_kind_of(have) != RDB_KIND_STREAM || have >= RDB_STREAM_5) return ~0u;
    if (have >= RDB_STREAM_4) return ~(unsigned)LOSS_BELOW_27;
    return have >= RDB_STREAM_3 ? ~(unsigned)LOSS_BELOW_26 : ~(unsigned)LOSS_BELOW_21;
}

bool transcode_choose(enum rdb_type have, bool (*takes)(const void *ctx, enum rdb_type),
                      const void *ctx, enum rdb_type *ret, unsigned *ret_loss)
{
    if (takes(ctx, have)) {
        *ret = have;
        *ret_loss = 0;
        return true;
    }
    const struct choice *c = choices_of(have);
    bool stream = rdb_kind_of(have) == RDB_KIND_STREAM;
    for (; c && c->type != NO_MORE; c++) {
        if ((stream && c->type >= have) || !takes(ctx, c->type)) continue;
        *ret = c->type;
        *ret_loss = c->loss & can_lose(have);
        return true;
    }
    return false;
}

/* --- writing --- */

struct turn {
    struct reader *r;
    struct rdb_elems *elems;
    enum rdb_type have, want;
    struct rdb_put out;
    bool expiries;       /* some field has one */
    uint64_t min_expire; /* the earliest, unix ms */
};

/* A first walk through a hash: which expiries are there? The reader is put back. */
static int survey(struct turn *t, struct err *err)
{
    size_t held = (size_t)(t->r->p - t->r->keep);
    struct rdb_elem e;
    int rc = rdb_elems_begin(t->elems, t->r, t->have, false, err);
    t->min_expire = 0;
    while (rc >= 0 && (rc = rdb_elems_next(t->elems, &e, err)) == 1) {
        if (e.expire_ms == -1) continue;
        if (!t->expiries || (uint64_t)e.expire_ms < t->min_expire)
            t->min_expire = (uint64_t)e.expire_ms;
        t->expiries = true;
    }
    t->r->p = t->r->keep + held;
    return rc;
}

static int put_pair(struct turn *t, const struct rdb_elem *e, struct err *err)
{
    return rdb_put_str(&t->out, e->a, err) < 0 ? -1 : rdb_put_str(&t->out, e->b, err);
}

static int put_elem(struct turn *t, const struct rdb_elem *e, struct err *err)
{
    struct rdb_put *o = &t->out;
    uint64_t expire = (uint64_t)e->expire_ms;
    switch (t->want) {
    case RDB_LIST:
    case RDB_SET: return rdb_put_str(o, e->a, err);
    case RDB_ZSET:
        return rdb_put_str(o, e->a, err) < 0 ? -1 : rdb_put_text_double(o, e->score, err);
    case RDB_ZSET_2: return rdb_put_str(o, e->a, err) < 0 ? -1 : rdb_put_double(o, e->score, err);
    case RDB_HASH: return put_pair(t, e, err);
    case RDB_HASH_METADATA: /* 0 none, else from the earliest on, plus 1 */
        if (rdb_put_len(o, e->expire_ms == -1 ? 0 : expire - t->min_expire + 1, err) < 0) return -1;
        return put_pair(t, e, err);
    case RDB_VALKEY_HASH_2: /* -1 none */
        return put_pair(t, e, err) < 0 ? -1 : rdb_put_u64le(o, expire, err);
    default: return err_set(err, ERR_INTERNAL, "no values of type %d are made", (int)t->want);
    }
}

static int put_elems(struct turn *t, uint32_t *ret_n, struct err *err)
{
    struct rdb_elem e;
    size_t at;
    int rc;
    uint32_t n = 0;
    if (t->want == RDB_HASH_METADATA && rdb_put_u64le(&t->out, t->min_expire, err) < 0) return -1;
    if (rdb_put_count_begin(&t->out, &at, err) < 0) return -1;
    if (rdb_elems_begin(t->elems, t->r, t->have, false, err) < 0) return -1;
    while ((rc = rdb_elems_next(t->elems, &e, err)) == 1) {
        if (put_elem(t, &e, err) < 0) return -1;
        n++; /* each took a byte of the buffer, or more: it cannot wrap */
    }
    rdb_put_count_end(&t->out, at, n);
    *ret_n = n;
    return rc;
}

static enum transcode_result by_elements(const struct transcode *how, struct turn *t,
                                         unsigned *ret_loss, struct err *err)
{
    uint32_t n;
    if (timed(how->have) && survey(t, err) < 0) return TRANSCODE_ERROR;
    bool lost = t->expiries && how->want == RDB_HASH;
    *ret_loss = lost ? TRANSCODE_LOSS_FIELD_EXPIRY : 0;
    if (*ret_loss & ~how->allowed) return TRANSCODE_LOSSY;
    if (put_elems(t, &n, err) < 0) return TRANSCODE_ERROR;
    return n ? TRANSCODE_DONE : TRANSCODE_TOO_LARGE;
}

static enum transcode_result turn(const struct transcode *how, struct turn *t, unsigned *ret_loss,
                                  struct err *err)
{
    enum rdb_kind kind = rdb_kind_of(how->have);
    if (!choices_of(how->have) || rdb_kind_of(how->want) != kind) {
        err_set(err, ERR_INTERNAL, "type %d does not turn into %d", (int)how->have, (int)how->want);
        return TRANSCODE_ERROR;
    }
    if (kind != RDB_KIND_STREAM) return by_elements(how, t, ret_loss, err);
    if (transcode_stream(t->r, how->have, how->want, &t->out, ret_loss, err) < 0)
        return TRANSCODE_ERROR;
    return *ret_loss & ~how->allowed ? TRANSCODE_LOSSY : TRANSCODE_DONE;
}

enum transcode_result transcode_value(const struct transcode *how, struct reader *r,
                                      struct rdb_elems *elems, struct buf *out, unsigned *ret_loss,
                                      struct err *err)
{
    struct turn t = {
        .r = r, .elems = elems, .have = how->have, .want = how->want, .out = {.to = out}};
    struct err why = {.code = ERR_NONE};
    unsigned loss = 0;
    buf_clear(out);
    enum transcode_result res = turn(how, &t, &loss, &why);
    if (res == TRANSCODE_ERROR && why.code == ERR_LIMIT) return TRANSCODE_TOO_LARGE;
    if (res == TRANSCODE_ERROR && err) *err = why;
    if (res == TRANSCODE_DONE || res == TRANSCODE_LOSSY) *ret_loss = loss;
    return res;
}
