// SPDX-License-Identifier: BSD-3-Clause
// Streams turned into older types: what is kept, what is told as lost, entries without owner, the
// stream without its messages, and damaged bytes.
#include "make.h"
#include "tell_stream.h"

#include "wire/rdb/str.h"
#include "wire/rdb/transcode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX      (1u << 20)
#define ANY_LOSS (~0u)

static struct err err;
static struct make m;

static void put_message_node(void)
{
    static struct make lp;
    lp_begin(&lp);
    lp_int(&lp, 1); /* live */
    lp_int(&lp, 0);
    lp_int(&lp, 1);
    lp_text(&lp, "f");
    lp_int(&lp, 0);
    lp_int(&lp, 2); /* same fields */
    lp_int(&lp, 0);
    lp_int(&lp, 0);
    lp_text(&lp, "v");
    lp_int(&lp, 4);
    lp_end(&lp);
    static struct make id;
    id.n = 0;
    put_id(&id, 5, 1);
    put_bytes(&m, id.p, id.n);
    put_bytes(&m, lp.p, lp.n);
}

static void put_consumer(const char *name, int64_t seen, int64_t active, unsigned owned)
{
    put_str(&m, name);
    put_le(&m, (uint64_t)seen, 8);
    put_le(&m, (uint64_t)active, 8);
    put_len(&m, owned ? 1 : 0);
    if (owned) put_id(&m, owned, 1);
}

struct parts {
    const char *second;    /* name of the second consumer, NULL none */
    bool counters, active; /* something there to be lost */
    unsigned nacked;       /* entries 2-1, 3-1 ... without owner */
    bool idmp;
};

/* Type 27: message 5-1, group g; 1-1 (whose message is gone) is owned by "one". */
static void put_stream(const struct parts *p)
{
    m.n = 0;
    put_len(&m, 1);
    put_message_node();
    uint64_t meta[] = {1, 5, 1, 5, 1, p->counters ? 4u : 0, 0, p->counters ? 9u : 1};
    for (size_t i = 0; i < 8; i++)
        put_len(&m, meta[i]);
    put_len(&m, 1);
    put_str(&m, "g");
    put_len(&m, 5);
    put_len(&m, 1);
    put_len(&m, p->counters ? 8 : UINT64_MAX);
    put_len(&m, 1 + p->nacked);
    for (unsigned i = 1; i <= 1 + p->nacked; i++) {
        put_id(&m, i, 1);
        put_le(&m, 1000 * i, 8);
        put_len(&m, i);
    }
    put_len(&m, p->second ? 2 : 1);
    put_consumer("one", 70, p->active ? 60 : 70, 1);
    if (p->second) put_consumer(p->second, 80, 80, 0);
    put_len(&m, p->nacked);
    for (unsigned i = 0; i < p->nacked; i++)
        put_id(&m, i + 2, 1);
    uint64_t idmp[] = {p->idmp ? 5u : 100, 100, p->idmp};
    for (size_t i = 0; i < 3; i++)
        put_len(&m, idmp[i]);
    if (p->idmp) {
        put_str(&m, "pid");
        put_len(&m, 1);
        put_str(&m, "iid");
        put_len(&m, 5);
        put_len(&m, 1);
    }
    put_len(&m, p->idmp);
    put_len(&m, p->idmp);
}

static void tell_value(struct buf *out, struct span value, enum rdb_type t)
{
    struct rdb_stream *it;
    struct rdb_stream_ev ev = {.kind = RDB_STREAM_ENTRY};
    struct reader r;
    reader_init_mem(&r, value.p, value.n);
    assert_int_equal(rdb_stream_new(&it, MAX, &err), 0);
    assert_int_equal(rdb_stream_begin(it, &r, t, false, &err), 0);
    while (ev.kind != RDB_STREAM_END) {
        if (rdb_stream_next(it, &ev, &err) < 0) fail_msg("%s", err.msg);
        assert_int_equal(tell_stream(out, &ev) | buf_add(out, " ", 1, NULL), 0);
    }
    assert_int_equal(reader_pos(&r), value.n);
    assert_int_equal(buf_add(out, "", 1, NULL), 0);
    rdb_stream_free(it);
}

/* As transcode_value() makes it, whole and starving; and without its messages. */
static enum transcode_result turn(enum rdb_type want, bool starve, unsigned allowed,
                                  struct buf *out, unsigned *loss)
{
    struct transcode how = {RDB_STREAM_5, want, allowed};
    struct reader r;
    if (starve)
        reader_init_starving(&r, m.p, m.n);
    else
        reader_init_mem(&r, m.p, m.n);
    enum transcode_result res = transcode_value(&how, &r, NULL, out, loss, &err);
    if (res == TRANSCODE_DONE) assert_int_equal(reader_pos(&r), m.n);
    return res;
}

static void becomes(enum rdb_type want, const char *text, unsigned want_loss)
{
    for (int starve = 0; starve < 2; starve++) {
        struct buf out, told;
        unsigned loss = 12345;
        buf_init(&out, MAX);
        buf_init(&told, MAX);
        if (turn(want, starve, ANY_LOSS, &out, &loss) != TRANSCODE_DONE) fail_msg("%s", err.msg);
        tell_value(&told, buf_span(&out), want);
        assert_string_equal(told.p, text);
        assert_int_equal(loss, want_loss);
        if (want_loss) {
            assert_int_equal(turn(want, starve, 0, &out, &loss), TRANSCODE_LOSSY);
            assert_int_equal(loss, want_loss);
        }
        buf_release(&out);
        buf_release(&told);
    }
}

static void what_each_type_keeps(void **state)
{
    (void)state;
    put_stream(&(struct parts){.counters = true, .active = true, .idmp = true});
    becomes(RDB_STREAM_4,
            "E5-1:f:v M1,5-1,5-1,4-0,9,1 Gg,5-1,8 P1-1,1000,1 Cone,70,60 o1-1 I5,100 ppid "
            "iiid,5-1 X1,1 ",
            0);
    becomes(RDB_STREAM_3, "E5-1:f:v M1,5-1,5-1,4-0,9,1 Gg,5-1,8 P1-1,1000,1 Cone,70,60 o1-1 X0,0 ",
            TRANSCODE_LOSS_IDMP);
    becomes(RDB_STREAM_2, "E5-1:f:v M1,5-1,5-1,4-0,9,1 Gg,5-1,8 P1-1,1000,1 Cone,70,-1 o1-1 X0,0 ",
            TRANSCODE_LOSS_IDMP | TRANSCODE_LOSS_ACTIVE);
    becomes(RDB_STREAM, "E5-1:f:v M1,5-1,5-1,0-0,1,0 Gg,5-1,-1 P1-1,1000,1 Cone,70,-1 o1-1 X0,0 ",
            TRANSCODE_LOSS_IDMP | TRANSCODE_LOSS_ACTIVE | TRANSCODE_LOSS_COUNTERS);
}

static void nothing_is_told_as_lost_that_was_not_there(void **state)
{
    (void)state;
    put_stream(&(struct parts){0});
    becomes(RDB_STREAM, "E5-1:f:v M1,5-1,5-1,0-0,1,0 Gg,5-1,-1 P1-1,1000,1 Cone,70,-1 o1-1 X0,0 ",
            0);
}

static void entries_without_owner_get_one(void **state)
{
    (void)state;
    put_stream(&(struct parts){.nacked = 2});
    becomes(RDB_STREAM_4,
            "E5-1:f:v M1,5-1,5-1,0-0,1,1 Gg,5-1,-1 P1-1,1000,1 P2-1,2000,2 P3-1,3000,3 "
            "Cone,70,70 o1-1 Ckeyhaul-nacked,0,-1 o2-1 o3-1 I100,100 X0,0 ",
            TRANSCODE_LOSS_NACKED);
    becomes(RDB_STREAM,
            "E5-1:f:v M1,5-1,5-1,0-0,1,0 Gg,5-1,-1 P1-1,1000,1 P2-1,2000,2 P3-1,3000,3 "
            "Cone,70,-1 o1-1 Ckeyhaul-nacked,0,-1 o2-1 o3-1 X0,0 ",
            TRANSCODE_LOSS_NACKED);
    /* Moved here before: the name is taken. */
    put_stream(&(struct parts){.nacked = 1, .second = "keyhaul-nacked"});
    becomes(RDB_STREAM,
            "E5-1:f:v M1,5-1,5-1,0-0,1,0 Gg,5-1,-1 P1-1,1000,1 P2-1,2000,2 "
            "Cone,70,-1 o1-1 Ckeyhaul-nacked,80,-1 Ckeyhaul-nacked+,0,-1 o2-1 X0,0 ",
            TRANSCODE_LOSS_NACKED);
    put_stream(&(struct parts){.nacked = 1, .second = "keyhaul-nacked++"});
    becomes(RDB_STREAM,
            "E5-1:f:v M1,5-1,5-1,0-0,1,0 Gg,5-1,-1 P1-1,1000,1 P2-1,2000,2 "
            "Cone,70,-1 o1-1 Ckeyhaul-nacked++,80,-1 Ckeyhaul-nacked+++,0,-1 o2-1 X0,0 ",
            TRANSCODE_LOSS_NACKED);
}

/* --- without messages --- */

static int collect(void *ctx, struct span bytes, struct err *e)
{
    return buf_add(ctx, bytes.p, bytes.n, e);
}

static void pass_nodes(struct reader *r)
{
    uint64_t n;
    assert_int_equal(rdb_len(r, &n, &err), 0);
    for (n *= 2; n; n--)
        assert_int_equal(rdb_str_skip(r, true, &err), 0);
}

static void bare(enum rdb_type want, const char *text)
{
    struct buf small, all, told;
    struct reader r;
    struct rdb_stream_meta meta;
    unsigned loss;
    struct rdb_put out = {.to = &small, .spill = collect, .ctx = &all};
    buf_init(&small, MAX);
    buf_init(&all, 64u << 20);
    buf_init(&told, MAX);
    reader_init_starving(&r, m.p, m.n);
    pass_nodes(&r);
    assert_int_equal(transcode_stream_bare(&r, RDB_STREAM_5, want, &out, &meta, &loss, &err), 0);
    assert_int_equal(reader_pos(&r), m.n);
    assert_ptr_equal(r.keep, r.p); /* let go */
    assert_int_equal(meta.length, 1);
    assert_int_equal(meta.last_id.ms, 5);
    assert_int_equal(meta.last_id.seq, 1);
    assert_int_equal(meta.max_deleted_id.ms, 4);
    assert_int_equal(meta.entries_added, 9);
    assert_true(meta.has_counters);
    tell_value(&told, buf_span(&all), want);
    assert_string_equal(told.p, text);
    buf_release(&small);
    buf_release(&all);
    buf_release(&told);
}

static void without_messages_the_groups_are_all_there(void **state)
{
    (void)state;
    put_stream(&(struct parts){.counters = true, .nacked = 1});
    bare(RDB_STREAM, "M0,0-0,0-0,0-0,0,0 Gg,5-1,-1 P1-1,1000,1 P2-1,2000,2 Cone,70,-1 o1-1 "
                     "Ckeyhaul-nacked,0,-1 o2-1 X0,0 ");
    bare(RDB_STREAM_3, "M0,0-0,0-0,0-0,0,1 Gg,5-1,8 P1-1,1000,1 P2-1,2000,2 Cone,70,70 o1-1 "
                       "Ckeyhaul-nacked,0,-1 o2-1 X0,0 ");
    bare(RDB_STREAM_5, "M0,0-0,0-0,0-0,0,1 Gg,5-1,8 P1-1,1000,1 P2-1,2000,2 Cone,70,70 o1-1 n2-1 "
                       "I100,100 X0,0 ");
}

/* A pending list far beyond the buffer passes through it. */
static void a_long_pending_list_takes_little_memory(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct buf in, small, all;
    struct rdb_put put_in = {.to = &in};
    struct rdb_put out = {.to = &small, .spill = collect, .ctx = &all};
    buf_init(&in, 64u << 20);
    buf_init(&small, 100u << 10);
    buf_init(&all, 64u << 20);
    int rc = 0;
    for (int i = 0; i < 3; i++)
        rc |= rdb_put_len(&put_in, 0, &err); /* length, last id */
    rc |= rdb_put_len(&put_in, 1, &err) | rdb_put_str(&put_in, span_str("g"), &err);
    rc |= rdb_put_len(&put_in, 0, &err) | rdb_put_len(&put_in, 0, &err);
    rc |= rdb_put_len(&put_in, N, &err);
    for (uint64_t i = 0; i < N; i++)
        rc |= rdb_put_u64le(&put_in, i, &err) | rdb_put_u64le(&put_in, i, &err) |
              rdb_put_u64le(&put_in, i, &err) | rdb_put_len(&put_in, 1, &err);
    rc |= rdb_put_len(&put_in, 0, &err);
    assert_int_equal(rc, 0);
    struct reader r;
    struct rdb_stream_meta meta;
    unsigned loss;
    reader_init_mem(&r, in.p, in.n);
    assert_int_equal(transcode_stream_bare(&r, RDB_STREAM, RDB_STREAM, &out, &meta, &loss, &err),
                     0);
    assert_int_equal(all.n, in.n + 1); /* "no nodes" in front */
    assert_memory_equal(all.p + 1, in.p, in.n);
    buf_release(&in);
    buf_release(&small);
    buf_release(&all);
}

/* --- damage --- */

static enum transcode_result turn_damaged(const uint8_t *p, size_t n, enum rdb_type want)
{
    struct transcode how = {RDB_STREAM_5, want, ANY_LOSS};
    struct reader r;
    struct buf out;
    unsigned loss;
    uint8_t *copy = malloc(n + !n); /* just these bytes, so that a sanitizer sees a step beyond */
    assert_non_null(copy);
    memcpy(copy, p, n);
    reader_init_mem(&r, copy, n);
    r.cap = MAX;
    buf_init(&out, MAX);
    err.code = ERR_NONE;
    enum transcode_result res = transcode_value(&how, &r, NULL, &out, &loss, &err);
    if (res == TRANSCODE_ERROR) assert_int_equal(err.code, ERR_FORMAT);
    if (res == TRANSCODE_DONE) { /* its frame is sound: it ends where it ends */
        struct reader again;
        reader_init_mem(&again, out.p, out.n);
        assert_int_equal(rdb_value_skip(&again, want, false, SIZE_MAX, &err), 0);
        assert_int_equal(reader_pos(&again), out.n);
    }
    buf_release(&out);
    free(copy);
    return res;
}

static void damage_is_met_with_words(void **state)
{
    (void)state;
    static const enum rdb_type wants[] = {RDB_STREAM, RDB_STREAM_2, RDB_STREAM_3, RDB_STREAM_4};
    unsigned done = 0, refused = 0;
    uint64_t seed = 31337;
    put_stream(
        &(struct parts){.counters = true, .nacked = 2, .idmp = true, .second = "keyhaul-nacked"});
    for (size_t w = 0; w < 4; w++) {
        for (size_t n = 0; n < m.n; n++)
            assert_int_equal(turn_damaged(m.p, n, wants[w]), TRANSCODE_ERROR);
        for (int round = 0; round < 5000; round++) {
            struct make bad = m;
            for (int flips = 1 + round % 3; flips; flips--)
                bad.p[next_random(&seed) % m.n] ^= (uint8_t)(1u << (next_random(&seed) & 7));
            if (turn_damaged(bad.p, bad.n, wants[w]) == TRANSCODE_DONE)
                done++;
            else
                refused++;
        }
    }
    assert_true(done > 1000 && refused > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_each_type_keeps),
        cmocka_unit_test(nothing_is_told_as_lost_that_was_not_there),
        cmocka_unit_test(entries_without_owner_get_one),
        cmocka_unit_test(without_messages_the_groups_are_all_there),
        cmocka_unit_test(a_long_pending_list_takes_little_memory),
        cmocka_unit_test(damage_is_met_with_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
