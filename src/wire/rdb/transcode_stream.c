// SPDX-License-Identifier: BSD-3-Clause
// Streams turned into an older type: copied field by field, less what that type has no place for.
//
//                              15   19   21   26   27
//   first id, max deleted,          x    x    x    x
//     entries added
//   group: entries read             x    x    x    x
//   consumer: active time                x    x    x
//   idempotent producers                      x    x
//   group: entries without owner                   x
#include "wire/rdb/transcode.h"

#include "wire/rdb/str.h"

#define NO_ENTRIES_READ UINT64_MAX
#define IDMP_DEFAULT    100 /* seconds, and records: what a stream has when nobody set it */

struct conv {
    struct reader *r;
    struct rdb_put *out;
    enum rdb_type have, want;
    bool release;
    bool bare; /* without its messages */
    unsigned loss;
    struct rdb_stream_meta meta;
    size_t owner_n; /* longest consumer of the group whose name begins with TRANSCODE_NACK_OWNER */
    struct buf name;
};

#define NAME_MAX_BYTES (8u << 20)

static void passed(struct conv *c)
{
    if (c->release) reader_release(c->r);
}

/* --- fields --- */

static int copy_len(struct conv *c, uint64_t *ret, struct err *err)
{
    return rdb_len(c->r, ret, err) < 0 ? -1 : rdb_put_len(c->out, *ret, err);
}

/* n is small. */
static int copy_raw(struct conv *c, size_t n, struct err *err)
{
    if (reader_need(c->r, n, err) < 0 || rdb_put_bytes(c->out, c->r->p, n, err) < 0) return -1;
    c->r->p += n;
    return 0;
}

/* In the form it has, compressed or not. */
static int copy_str(struct conv *c, struct err *err)
{
    size_t at = (size_t)(c->r->p - c->r->keep);
    if (rdb_str_skip(c->r, false, err) < 0) return -1;
    const uint8_t *p = c->r->keep + at;
    return rdb_put_bytes(c->out, p, (size_t)(c->r->p - p), err);
}

static int copy_nodes(struct conv *c, struct err *err)
{
    uint64_t n;
    if (copy_len(c, &n, err) < 0) return -1;
    for (; n; n--)
        if (copy_str(c, err) < 0 || copy_str(c, err) < 0) return -1;
    return 0;
}

static int read_id(struct conv *c, struct stream_id *ret, struct err *err)
{
    return rdb_len(c->r, &ret->ms, err) < 0 ? -1 : rdb_len(c->r, &ret->seq, err);
}

static int put_id(struct conv *c, struct stream_id id, struct err *err)
{
    return rdb_put_len(c->out, id.ms, err) < 0 ? -1 : rdb_put_len(c->out, id.seq, err);
}

/* --- what describes the whole stream --- */

static int read_meta(struct conv *c, struct rdb_stream_meta *m, struct err *err)
{
    *m = (struct rdb_stream_meta){.has_counters = c->have >= RDB_STREAM_2};
    if (rdb_len(c->r, &m->length, err) < 0 || read_id(c, &m->last_id, err) < 0) return -1;
    m->entries_added = m->length;
    if (!m->has_counters) return 0;
    if (read_id(c, &m->first_id, err) < 0 || read_id(c, &m->max_deleted_id, err) < 0) return -1;
    return rdb_len(c->r, &m->entries_added, err);
}

static int copy_meta(struct conv *c, struct err *err)
{
    struct rdb_stream_meta m;
    if (read_meta(c, &m, err) < 0) return -1;
    c->meta = m;
    bool deleted = m.max_deleted_id.ms || m.max_deleted_id.seq;
    if (c->want < RDB_STREAM_2 && (deleted || m.entries_added != m.length))
        c->loss |= TRANSCODE_LOSS_COUNTERS;
    if (c->bare) m = (struct rdb_stream_meta){0};
    if (rdb_put_len(c->out, m.length, err) < 0 || put_id(c, m.last_id, err) < 0) return -1;
    if (c->want < RDB_STREAM_2) return 0;
    if (put_id(c, m.first_id, err) < 0 || put_id(c, m.max_deleted_id, err) < 0) return -1;
    return rdb_put_len(c->out, m.entries_added, err);
}

/* --- groups --- */

/* name, last delivered id, entries read */
static int copy_group_head(struct conv *c, struct err *err)
{
    uint64_t ms, seq, read;
    if (copy_str(c, err) < 0 || copy_len(c, &ms, err) < 0 || copy_len(c, &seq, err) < 0) return -1;
    passed(c);
    if (c->have < RDB_STREAM_2) return 0;
    if (c->want >= RDB_STREAM_2) return copy_len(c, &read, err);
    if (rdb_len(c->r, &read, err) < 0) return -1;
    if (read != NO_ENTRIES_READ) c->loss |= TRANSCODE_LOSS_COUNTERS;
    return 0;
}

/* id (16 bytes), delivery time (8 bytes), deliveries */
static int copy_pel(struct conv *c, struct err *err)
{
    uint64_t n, count;
    if (copy_len(c, &n, err) < 0) return -1;
    for (; n; n--) {
        if (copy_raw(c, 24, err) < 0 || copy_len(c, &count, err) < 0) return -1;
        passed(c);
    }
    return 0;
}

static int copy_ids(struct conv *c, uint64_t n, struct err *err)
{
    for (; n; n--) {
        if (copy_raw(c, 16, err) < 0) return -1;
        passed(c);
    }
    return 0;
}

/* Ownerless entries of a type that has none of them go to a consumer of ours. */
static bool adopts(const struct conv *c)
{
    return c->have >= RDB_STREAM_5 && c->want < RDB_STREAM_5;
}

static int copy_consumer_name(struct conv *c, struct err *err)
{
    static const char ours[] = TRANSCODE_NACK_OWNER;
    struct span name;
    if (!adopts(c)) return copy_str(c, err);
    buf_clear(&c->name);
    if (rdb_str_get(c->r, &c->name, NAME_MAX_BYTES, &name, err) < 0) return -1;
    bool alike = name.n >= sizeof(ours) - 1 && memcmp(name.p, ours, sizeof(ours) - 1) == 0;
    if (alike && name.n > c->owner_n) c->owner_n = name.n;
    return rdb_put_str(c->out, name, err);
}

/* name, seen time, active time, ids of the group's pending list */
static int copy_consumer(struct conv *c, struct err *err)
{
    uint64_t seen, active, n;
    if (copy_consumer_name(c, err) < 0 || reader_u64le(c->r, &seen, err) < 0 ||
        rdb_put_u64le(c->out, seen, err) < 0)
        return -1;
    if (c->have >= RDB_STREAM_3) {
        if (reader_u64le(c->r, &active, err) < 0) return -1;
        if (c->want >= RDB_STREAM_3 && rdb_put_u64le(c->out, active, err) < 0) return -1;
        if (c->want < RDB_STREAM_3 && active != seen) c->loss |= TRANSCODE_LOSS_ACTIVE;
    }
    passed(c);
    return copy_len(c, &n, err) < 0 ? -1 : copy_ids(c, n, err);
}

/* A name that no consumer of the group has: longer than each that begins like it. */
static int put_owner_name(struct conv *c, struct err *err)
{
    size_t n = sizeof(TRANSCODE_NACK_OWNER) - 1;
    buf_clear(&c->name);
    if (buf_add(&c->name, TRANSCODE_NACK_OWNER, n, err) < 0) return -1;
    for (; n <= c->owner_n; n++)
        if (buf_add(&c->name, "+", 1, err) < 0) return -1;
    return rdb_put_str(c->out, buf_span(&c->name), err);
}

static int adopt(struct conv *c, uint64_t n, struct err *err)
{
    c->loss |= TRANSCODE_LOSS_NACKED;
    if (put_owner_name(c, err) < 0 || rdb_put_u64le(c->out, 0, err) < 0) return -1;
    if (c->want >= RDB_STREAM_3 && rdb_put_u64le(c->out, UINT64_MAX, err) < 0) return -1;
    return rdb_put_len(c->out, n, err) < 0 ? -1 : copy_ids(c, n, err);
}

static int copy_consumers_adopting(struct conv *c, struct err *err)
{
    uint64_t n, nacked;
    size_t at;
    c->owner_n = 0;
    if (rdb_len(c->r, &n, err) < 0 || rdb_put_count_begin(c->out, &at, err) < 0) return -1;
    for (uint64_t i = 0; i < n; i++)
        if (copy_consumer(c, err) < 0) return -1;
    if (rdb_len(c->r, &nacked, err) < 0) return -1;
    if (nacked && adopt(c, nacked, err) < 0) return -1;
    /* All of them are in the buffer, whose cap is far below 2^32. */
    rdb_put_count_end(c->out, at, (uint32_t)(n + (nacked ? 1 : 0)));
    return 0;
}

static int copy_consumers(struct conv *c, struct err *err)
{
    uint64_t n;
    if (adopts(c)) return copy_consumers_adopting(c, err);
    if (copy_len(c, &n, err) < 0) return -1;
    for (; n; n--)
        if (copy_consumer(c, err) < 0) return -1;
    if (c->have < RDB_STREAM_5) return 0;
    return copy_len(c, &n, err) < 0 ? -1 : copy_ids(c, n, err);
}

static int copy_groups(struct conv *c, struct err *err)
{
    uint64_t n;
    if (copy_len(c, &n, err) < 0) return -1;
    for (; n; n--)
        if (copy_group_head(c, err) < 0 || copy_pel(c, err) < 0 || copy_consumers(c, err) < 0)
            return -1;
    return 0;
}

/* --- idempotent producers --- */

static int copy_idmp_ids(struct conv *c, struct err *err)
{
    uint64_t n, ms, seq;
    if (copy_len(c, &n, err) < 0) return -1;
    for (; n; n--) {
        if (copy_str(c, err) < 0 || copy_len(c, &ms, err) < 0 || copy_len(c, &seq, err) < 0)
            return -1;
        passed(c);
    }
    return 0;
}

static int copy_idmp(struct conv *c, struct err *err)
{
    uint64_t duration, most, producers, added, twice;
    if (copy_len(c, &duration, err) < 0 || copy_len(c, &most, err) < 0 ||
        copy_len(c, &producers, err) < 0)
        return -1;
    for (uint64_t i = 0; i < producers; i++)
        if (copy_str(c, err) < 0 || copy_idmp_ids(c, err) < 0) return -1;
    return copy_len(c, &added, err) < 0 ? -1 : copy_len(c, &twice, err);
}

static int drop_idmp_ids(struct conv *c, struct err *err)
{
    uint64_t n, ms, seq;
    if (rdb_len(c->r, &n, err) < 0) return -1;
    for (; n; n--) {
        if (rdb_str_skip(c->r, c->release, err) < 0 || rdb_len(c->r, &ms, err) < 0 ||
            rdb_len(c->r, &seq, err) < 0)
            return -1;
        passed(c);
    }
    return 0;
}

static int drop_idmp(struct conv *c, struct err *err)
{
    uint64_t duration, most, producers, added, twice;
    if (rdb_len(c->r, &duration, err) < 0 || rdb_len(c->r, &most, err) < 0 ||
        rdb_len(c->r, &producers, err) < 0)
        return -1;
    for (uint64_t i = 0; i < producers; i++)
        if (rdb_str_skip(c->r, c->release, err) < 0 || drop_idmp_ids(c, err) < 0) return -1;
    if (rdb_len(c->r, &added, err) < 0 || rdb_len(c->r, &twice, err) < 0) return -1;
    if (duration != IDMP_DEFAULT || most != IDMP_DEFAULT || producers || added || twice)
        c->loss |= TRANSCODE_LOSS_IDMP;
    return 0;
}

/* --- the whole --- */

static int convert(struct conv *c, struct err *err)
{
    int rc = c->bare ? rdb_put_len(c->out, 0, err) : copy_nodes(c, err);
    if (rc == 0) rc = copy_meta(c, err);
    if (rc == 0) rc = copy_groups(c, err);
    if (rc == 0 && c->have >= RDB_STREAM_4)
        rc = c->want >= RDB_STREAM_4 ? copy_idmp(c, err) : drop_idmp(c, err);
    passed(c);
    return rc;
}

static int run(struct conv *c, struct err *err)
{
    if (rdb_kind_of(c->have) != RDB_KIND_STREAM || rdb_kind_of(c->want) != RDB_KIND_STREAM ||
        c->want > c->have)
        return err_set(err, ERR_INTERNAL, "stream type %d does not turn into %d", (int)c->have,
                       (int)c->want);
    buf_init(&c->name, NAME_MAX_BYTES);
    int rc = convert(c, err);
    buf_release(&c->name);
    return rc;
}

int transcode_stream(struct reader *r, enum rdb_type have, enum rdb_type want, struct rdb_put *out,
                     unsigned *ret_loss, struct err *err)
{
    struct conv c = {.r = r, .out = out, .have = have, .want = want};
    if (run(&c, err) < 0) return -1;
    *ret_loss = c.loss;
    return 0;
}

int transcode_stream_bare(struct reader *r, enum rdb_type have, enum rdb_type want,
                          struct rdb_put *out, struct rdb_stream_meta *ret, unsigned *ret_loss,
                          struct err *err)
{
    struct conv c = {.r = r, .out = out, .have = have, .want = want, .release = true, .bare = true};
    if (run(&c, err) < 0) return -1;
    if (rdb_put_end(out, err) < 0) return -1;
    *ret = c.meta;
    *ret_loss = c.loss;
    return 0;
}
