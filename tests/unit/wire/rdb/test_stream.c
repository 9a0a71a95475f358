// SPDX-License-Identifier: BSD-3-Clause
// Streams: every kind of event in every version of the type, and what must be refused.
#include "make.h"
#include "tell_stream.h"

#include "wire/rdb/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct make m, lp;

static int read_all(struct reader *r, enum rdb_type t, bool release, size_t max, struct buf *out,
                    struct err *err)
{
    struct rdb_stream *it;
    struct rdb_stream_ev ev = {.kind = RDB_STREAM_ENTRY};
    assert_int_equal(rdb_stream_new(&it, max, err), 0);
    int rc = rdb_stream_begin(it, r, t, release, err);
    while (rc == 0 && ev.kind != RDB_STREAM_END) {
        rc = rdb_stream_next(it, &ev, err);
        if (rc == 0) assert_int_equal(tell_stream(out, &ev) | buf_add(out, " ", 1, NULL), 0);
    }
    rdb_stream_free(it);
    return rc;
}

static void is(enum rdb_type t, const char *want)
{
    for (int way = 0; way < 4; way++) {
        struct reader r;
        struct buf out;
        struct err err;
        buf_init(&out, 1 << 20);
        (way & 1 ? reader_init_mem : reader_init_starving)(&r, m.p, m.n);
        if (read_all(&r, t, way & 2, 1 << 20, &out, &err) < 0) fail_msg("%s", err.msg);
        assert_int_equal(buf_add(&out, "", 1, NULL), 0);
        assert_string_equal((char *)out.p, want);
        assert_int_equal(reader_pos(&r), m.n);
        assert_ptr_equal(r.keep, way & 2 ? r.p : m.p);
        (way & 1 ? reader_init_mem : reader_init_starving)(&r, m.p, m.n);
        assert_int_equal(rdb_value_skip(&r, t, way & 2, m.n, &err), 0);
        assert_int_equal(reader_pos(&r), m.n);
        for (size_t cut = 0; cut < m.n; cut++) {
            buf_clear(&out);
            reader_init_mem(&r, m.p, cut);
            assert_int_equal(read_all(&r, t, way & 2, 1 << 20, &out, &err), -1);
            reader_init_mem(&r, m.p, cut);
            assert_int_equal(rdb_value_skip(&r, t, way & 2, m.n, &err), -1);
        }
        buf_release(&out);
    }
}

/* Node 5-1 with three messages: same fields, own fields, deleted. */
static void node(int64_t live, int64_t deleted)
{
    lp_begin(&lp);
    lp_int(&lp, live);
    lp_int(&lp, deleted);
    lp_int(&lp, 2);
    lp_text(&lp, "temp");
    lp_int(&lp, 100000); /* a field whose name is a number */
    lp_int(&lp, 0);
    const int64_t first[] = {2, 0, 0, -12345678, 7, 5};
    for (size_t i = 0; i < 6; i++)
        lp_int(&lp, first[i]);
    const int64_t second[] = {0, 3, -1, 1};
    for (size_t i = 0; i < 4; i++)
        lp_int(&lp, second[i]);
    lp_text(&lp, "f");
    lp_text(&lp, "v");
    lp_int(&lp, 6);
    const int64_t third[] = {3, 4, 0, 1, 1, 5};
    for (size_t i = 0; i < 6; i++)
        lp_int(&lp, third[i]);
    lp_end(&lp);
    put_len(&m, 16);
    put_id(&m, 5, 1);
    put_bytes(&m, lp.p, lp.n);
}

static void lens(size_t n, const uint64_t *v)
{
    for (size_t i = 0; i < n; i++)
        put_len(&m, v[i]);
}

#define LENS(...)                                                                                  \
    lens(sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), (uint64_t[]){__VA_ARGS__})

/* The whole value as the type `t` has it. */
static void make(enum rdb_type t)
{
    m.n = 0;
    LENS(1);
    node(2, 1);
    LENS(2, 9, 1);                              /* length, last id */
    if (t >= RDB_STREAM_2) LENS(5, 1, 9, 0, 3); /* first, max deleted, added */
    LENS(1);                                    /* groups */
    put_str(&m, "g");
    LENS(8, 0);
    if (t >= RDB_STREAM_2) LENS(UINT64_MAX);
    LENS(2); /* pending */
    put_id(&m, 5, 1);
    put_le(&m, 1700000000000, 8);
    LENS(3);
    put_id(&m, 8, 0);
    put_le(&m, 1700000000001, 8);
    LENS(1);
    LENS(2); /* consumers */
    put_str(&m, "idle");
    put_le(&m, 1700000000002, 8);
    if (t >= RDB_STREAM_3) put_le(&m, UINT64_MAX, 8);
    LENS(0);
    put_str(&m, "busy");
    put_le(&m, 1700000000003, 8);
    if (t >= RDB_STREAM_3) put_le(&m, 1700000000004, 8);
    LENS(1);
    put_id(&m, 5, 1);
    if (t >= RDB_STREAM_5) {
        LENS(1);
        put_id(&m, 8, 0);
    }
    if (t < RDB_STREAM_4) return;
    LENS(100, 50, 1); /* duration, max, producers */
    put_str(&m, "pid");
    LENS(1);
    put_str(&m, "iid");
    LENS(5, 1, 3, 2); /* its id; added, duplicates */
}

#define ENTRIES "E5-1:temp:-12345678:100000:7 E8-0:f:v "
#define PEL     "P5-1,1700000000000,3 P8-0,1700000000001,1 "

static void every_version_tells_what_it_has(void **state)
{
    (void)state;
    make(RDB_STREAM);
    is(RDB_STREAM, ENTRIES "M2,9-1,5-1,0-0,2,0 Gg,8-0,-1 " PEL
                           "Cidle,1700000000002,-1 Cbusy,1700000000003,-1 o5-1 X0,0 ");
    make(RDB_STREAM_2);
    is(RDB_STREAM_2, ENTRIES "M2,9-1,5-1,9-0,3,1 Gg,8-0,-1 " PEL
                             "Cidle,1700000000002,-1 Cbusy,1700000000003,-1 o5-1 X0,0 ");
    make(RDB_STREAM_3);
    is(RDB_STREAM_3, ENTRIES "M2,9-1,5-1,9-0,3,1 Gg,8-0,-1 " PEL
                             "Cidle,1700000000002,-1 Cbusy,1700000000003,1700000000004 o5-1 X0,0 ");
    make(RDB_STREAM_4);
    is(RDB_STREAM_4, ENTRIES
       "M2,9-1,5-1,9-0,3,1 Gg,8-0,-1 " PEL
       "Cidle,1700000000002,-1 Cbusy,1700000000003,1700000000004 o5-1 I100,50 ppid iiid,5-1 X3,2 ");
    make(RDB_STREAM_5);
    is(RDB_STREAM_5,
       ENTRIES "M2,9-1,5-1,9-0,3,1 Gg,8-0,-1 " PEL
               "Cidle,1700000000002,-1 Cbusy,1700000000003,1700000000004 o5-1 n8-0 I100,50 ppid "
               "iiid,5-1 X3,2 ");
}

static void an_empty_stream(void **state)
{
    (void)state;
    m.n = 0;
    LENS(0, 0, 0, 0, 0);
    is(RDB_STREAM, "M0,0-0,0-0,0-0,0,0 X0,0 ");
}

/* ms and seq are added modulo 2^64. */
static void ids_at_the_ends_of_the_range(void **state)
{
    (void)state;
    lp_begin(&lp);
    const int64_t v[] = {1, 0, 1, 7, 0, 2, -1, -2, 9, 4};
    for (size_t i = 0; i < 10; i++)
        lp_int(&lp, v[i]);
    lp_end(&lp);
    m.n = 0;
    LENS(1, 16);
    put_id(&m, 0, 1);
    put_bytes(&m, lp.p, lp.n);
    LENS(1, UINT64_MAX, UINT64_MAX, 0);
    is(RDB_STREAM, "E18446744073709551615-18446744073709551615:7:9 "
                   "M1,18446744073709551615-18446744073709551615,"
                   "18446744073709551615-18446744073709551615,0-0,1,0 X0,0 ");
}

static void bad(const char *words, enum err_code code, size_t max)
{
    struct reader r;
    struct buf out;
    struct err err = {.code = ERR_NONE};
    buf_init(&out, 1 << 20);
    reader_init_mem(&r, m.p, m.n);
    if (read_all(&r, RDB_STREAM, true, max, &out, &err) == 0) fail_msg("taken: %s", words);
    if (err.code != code || !strstr(err.msg, words))
        fail_msg("expected %s, got %s: %s", words, err_name(err.code), err.msg);
    buf_release(&out);
}

static void bad_values(size_t n, const int64_t *v, const char *words)
{
    lp_begin(&lp);
    for (size_t i = 0; i < n; i++)
        lp_int(&lp, v[i]);
    lp_end(&lp);
    m.n = 0;
    LENS(1, 16);
    put_id(&m, 0, 1);
    put_bytes(&m, lp.p, lp.n);
    LENS(0, 0, 0, 0);
    bad(words, ERR_FORMAT, 1 << 20);
}

#define BAD(words, ...)                                                                            \
    bad_values(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__}, words)

static void nodes_that_do_not_hold_together_are_refused(void **state)
{
    (void)state;
    BAD("mid-message", 0, 0);
    BAD("negative", -1, 0, 0, 0);
    BAD("negative", 0, 0, -1, 0);
    BAD("mid-message", 0, 0, 1000000, 0);
    BAD("do not end with 0", 0, 0, 0, 1);
    BAD("another number of messages", 1, 0, 0, 0);
    BAD("another number of messages", 0, 0, 0, 0, 2, 0, 0, 3);
    BAD("length is wrong", 1, 0, 0, 0, 2, 0, 0, 4);
    BAD("mid-message", 1, 0, 0, 0, 2, 0, 0);
    BAD("mid-message", 1, 0, 0, 0, 0, 0, 0, 5, 1, 1);
    BAD("field count", 1, 0, 0, 0, 0, 0, 0, -1, 2);
    BAD("field count", 1, 0, 0, 0, 0, 0, 0, INT64_MAX, 2);
    m.n = 0;
    LENS(1);
    put_str(&m, "fifteen bytes..");
    put_str(&m, "");
    bad("16 bytes, found 15", ERR_FORMAT, 1 << 20);
    m.n = 0;
    LENS(1, 16);
    put_id(&m, 0, 0);
    put_str(&m, "no listpack");
    bad("a stream: listpack:", ERR_FORMAT, 1 << 20);
    lp_begin(&lp);
    lp_text(&lp, "text");
    lp_end(&lp);
    m.n = 0;
    LENS(1, 16);
    put_id(&m, 0, 0);
    put_bytes(&m, lp.p, lp.n);
    bad("expected a number", ERR_FORMAT, 1 << 20);
}

static void limits_hold(void **state)
{
    (void)state;
    make(RDB_STREAM);
    bad("the limit is 50", ERR_LIMIT, 50); /* the node's blob */
    lp_begin(&lp);                         /* many tiny fields: their spans would be larger */
    lp_int(&lp, 0);
    lp_int(&lp, 0);
    lp_int(&lp, 100);
    for (int i = 0; i < 101; i++)
        lp_int(&lp, 0);
    lp_end(&lp);
    m.n = 0;
    LENS(1, 16);
    put_id(&m, 0, 0);
    put_bytes(&m, lp.p, lp.n);
    bad("limited to 300", ERR_LIMIT, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_tells_what_it_has),
        cmocka_unit_test(an_empty_stream),
        cmocka_unit_test(ids_at_the_ends_of_the_range),
        cmocka_unit_test(nodes_that_do_not_hold_together_are_refused),
        cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
