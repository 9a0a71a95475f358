// SPDX-License-Identifier: BSD-3-Clause
// Elements of collections: each type from hand-made bytes, field expiries, scores, limits.
#include "make.h"

#include "base/num.h"
#include "wire/rdb/elems.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct make m, lp;

static void tell(struct buf *out, enum rdb_kind kind, const struct rdb_elem *e)
{
    char score[NUM_DOUBLE_CHARS];
    int rc = buf_printf(out, NULL, "%.*s", (int)e->a.n, (const char *)e->a.p);
    if (kind == RDB_KIND_HASH)
        rc |= buf_printf(out, NULL, "=%.*s", (int)e->b.n, (const char *)e->b.p);
    if (kind == RDB_KIND_ZSET)
        rc |= buf_printf(out, NULL, "@%.*s", (int)num_put_double(score, e->score), score);
    if (e->expire_ms != -1) rc |= buf_printf(out, NULL, "!%lld", (long long)e->expire_ms);
    rc |= buf_add(out, " ", 1, NULL);
    assert_int_equal(rc, 0);
}

/* The strings of a split element, put together. */
static int join(struct rdb_elems *it, struct rdb_elem *e, struct buf strings[2], struct err *err)
{
    uint64_t n;
    struct span piece;
    int rc, i = 0;
    while ((rc = rdb_elems_split_next(it, e, &n, err)) > 0) {
        assert_true(i < 2);
        buf_clear(&strings[i]);
        while ((rc = rdb_elems_piece(it, &piece, err)) > 0) {
            assert_true(piece.n > 0);
            assert_int_equal(buf_add(&strings[i], piece.p, piece.n, err), 0);
        }
        if (rc < 0) return -1;
        assert_int_equal(strings[i].n, n);
        i++;
    }
    e->a = buf_span(&strings[0]);
    e->b = buf_span(&strings[1]);
    return rc;
}

struct how {
    size_t max, split; /* split above; 0: not */
    bool release;
};

static int read_all(struct reader *r, enum rdb_type t, const struct how *how, struct buf *out,
                    struct err *err)
{
    struct rdb_elems *it;
    struct rdb_elem e;
    struct buf strings[2];
    buf_init(&strings[0], 1 << 20);
    buf_init(&strings[1], 1 << 20);
    assert_int_equal(rdb_elems_new(&it, how->max, err), 0);
    rdb_elems_split_above(it, how->split);
    int rc = rdb_elems_begin(it, r, t, how->release, err);
    while (rc == 0 && (rc = rdb_elems_next(it, &e, err)) > 0) {
        rc = e.split ? join(it, &e, strings, err) : 0;
        if (rc == 0) tell(out, rdb_kind_of(t), &e);
    }
    rdb_elems_free(it);
    buf_release(&strings[0]);
    buf_release(&strings[1]);
    return rc;
}

static void is(enum rdb_type t, const char *want)
{
    for (int way = 0; way < 16; way++) {
        static const size_t splits[] = {0, 1, 2, 7};
        struct how how = {1 << 20, splits[way >> 2], way & 2};
        struct reader r;
        struct buf out;
        struct err err;
        buf_init(&out, 1 << 20);
        (way & 1 ? reader_init_mem : reader_init_starving)(&r, m.p, m.n);
        if (read_all(&r, t, &how, &out, &err) < 0) fail_msg("%s", err.msg);
        assert_int_equal(buf_add(&out, "", 1, NULL), 0);
        assert_string_equal((char *)out.p, want);
        assert_int_equal(reader_pos(&r), m.n);
        assert_ptr_equal(r.keep, way & 2 ? r.p : m.p);
        /* Passing over it ends at the same place. */
        (way & 1 ? reader_init_mem : reader_init_starving)(&r, m.p, m.n);
        assert_int_equal(rdb_value_skip(&r, t, way & 2, m.n, &err), 0);
        assert_int_equal(reader_pos(&r), m.n);
        /* Cut anywhere: an error. */
        for (size_t cut = 0; cut < m.n; cut++) {
            buf_clear(&out);
            reader_init_mem(&r, m.p, cut);
            assert_int_equal(read_all(&r, t, &how, &out, &err), -1);
            reader_init_mem(&r, m.p, cut);
            assert_int_equal(rdb_value_skip(&r, t, way & 2, m.n, &err), -1);
        }
        buf_release(&out);
    }
}

static void bad(enum rdb_type t, enum err_code code, const char *words)
{
    struct reader r;
    struct buf out;
    struct err err = {.code = ERR_NONE};
    buf_init(&out, 1 << 20);
    reader_init_mem(&r, m.p, m.n);
    if (read_all(&r, t, &(struct how){64, 0, true}, &out, &err) == 0)
        fail_msg("taken, but expected: %s", words);
    if (err.code != code || !strstr(err.msg, words))
        fail_msg("expected %s, got %s: %s", words, err_name(err.code), err.msg);
    buf_release(&out);
}

static void begin(unsigned n)
{
    m.n = 0;
    put_len(&m, n);
}

static void lists_and_sets(void **state)
{
    (void)state;
    begin(3);
    put_str(&m, "b");
    put_str(&m, "");
    put(&m, "\xc0\xfb", 2);
    is(RDB_LIST, "b  -5 ");
    is(RDB_SET, "b  -5 ");
    begin(0);
    is(RDB_LIST, "");
}

static void hashes(void **state)
{
    (void)state;
    begin(2);
    put_str(&m, "f");
    put_str(&m, "v");
    put_str(&m, "g");
    put(&m, "\xc3\x05\x0a\x00x\xe0\x00\x00", 8);
    is(RDB_HASH, "f=v g=xxxxxxxxxx ");
}

static void both_strings_compressed_do_not_share_memory(void **state)
{
    (void)state;
    begin(1);
    put(&m, "\xc3\x05\x0a\x00x\xe0\x00\x00", 8);
    put(&m, "\xc3\x05\x0a\x00y\xe0\x00\x00", 8);
    is(RDB_HASH, "xxxxxxxxxx=yyyyyyyyyy ");
}

/* Much more than the limit in all, each below it. */
static void scratch_is_used_again(void **state)
{
    (void)state;
    struct reader r;
    struct buf out;
    struct err err;
    begin(100);
    for (int i = 0; i < 100; i++)
        put(&m, "\xc3\x05\x0a\x00x\xe0\x00\x00", 8);
    buf_init(&out, 1 << 20);
    reader_init_starving(&r, m.p, m.n);
    if (read_all(&r, RDB_LIST, &(struct how){64, 0, true}, &out, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(out.n, 1100);
    buf_release(&out);
}

static void scores_as_text_and_binary(void **state)
{
    (void)state;
    begin(4);
    put_str(&m, "a");
    put_str(&m, "0.10000000000000001");
    put_str(&m, "b");
    put_u8(&m, 254);
    put_str(&m, "c");
    put_u8(&m, 255);
    put_str(&m, "d");
    put_str(&m, "-3");
    is(RDB_ZSET, "a@0.10000000000000001 b@inf c@-inf d@-3 ");
    begin(3);
    put_str(&m, "a");
    put_double(&m, -0.5);
    put_str(&m, "b");
    put_double(&m, INFINITY);
    put_str(&m, "c");
    put_double(&m, 5e-324);
    is(RDB_ZSET_2, "a@-0.5 b@inf c@4.9406564584124654e-324 ");
}

static void scores_that_are_none_are_refused(void **state)
{
    (void)state;
    begin(1);
    put_str(&m, "a");
    put_u8(&m, 253);
    bad(RDB_ZSET, ERR_FORMAT, "not a number");
    begin(1);
    put_str(&m, "a");
    put_str(&m, "one");
    bad(RDB_ZSET, ERR_FORMAT, "expected a score");
    begin(1);
    put_str(&m, "a");
    put_str(&m, "");
    bad(RDB_ZSET, ERR_FORMAT, "expected a score");
    begin(1);
    put_str(&m, "a");
    put_double(&m, NAN);
    bad(RDB_ZSET_2, ERR_FORMAT, "not a number");
}

static void field_expiries_of_each_kind(void **state)
{
    (void)state;
    m.n = 0; /* 24: from the minimum, plus 1 */
    put_le(&m, 1700000000000, 8);
    put_len(&m, 3);
    put_len(&m, 1);
    put_str(&m, "a");
    put_str(&m, "1");
    put_len(&m, 0);
    put_str(&m, "b");
    put_str(&m, "2");
    put_len(&m, 1001);
    put_str(&m, "c");
    put_str(&m, "3");
    is(RDB_HASH_METADATA, "a=1!1700000000000 b=2 c=3!1700000001000 ");
    begin(2); /* 22 of Redis: absolute */
    put_len(&m, 1700000000000);
    put_str(&m, "a");
    put_str(&m, "1");
    put_len(&m, 0);
    put_str(&m, "b");
    put_str(&m, "2");
    is(RDB_HASH_METADATA_PRE_GA, "a=1!1700000000000 b=2 ");
    begin(2); /* 22 of Valkey: absolute, behind the value, -1 none */
    put_str(&m, "a");
    put_str(&m, "1");
    put_le(&m, 1700000000000, 8);
    put_str(&m, "b");
    put_str(&m, "2");
    put_le(&m, UINT64_MAX, 8);
    is(RDB_VALKEY_HASH_2, "a=1!1700000000000 b=2 ");
}

static void packed_field_expiries(void **state)
{
    (void)state;
    lp_begin(&lp);
    lp_text(&lp, "a");
    lp_int(&lp, 1);
    lp_int(&lp, 1700000000000);
    lp_int(&lp, 77);
    lp_text(&lp, "x");
    lp_int(&lp, 0);
    lp_end(&lp);
    m.n = 0;
    put_bytes(&m, lp.p, lp.n);
    is(RDB_HASH_LISTPACK_EX_PRE_GA, "a=1!1700000000000 77=x ");
    m.n = 0;
    put_le(&m, 0, 8);
    put_bytes(&m, lp.p, lp.n);
    is(RDB_HASH_LISTPACK_EX, "a=1!1700000000000 77=x ");
}

static void expiries_out_of_range_are_refused(void **state)
{
    (void)state;
    m.n = 0;
    put_le(&m, UINT64_MAX, 8);
    put_len(&m, 1);
    put_len(&m, UINT64_MAX);
    put_str(&m, "a");
    put_str(&m, "1");
    bad(RDB_HASH_METADATA, ERR_FORMAT, "expiry is out of range");
    begin(1);
    put_str(&m, "a");
    put_str(&m, "1");
    put_le(&m, (uint64_t)-2, 8);
    bad(RDB_VALKEY_HASH_2, ERR_FORMAT, "expiry is out of range");
    lp_begin(&lp);
    lp_text(&lp, "a");
    lp_int(&lp, 1);
    lp_int(&lp, -1);
    lp_end(&lp);
    m.n = 0;
    put_bytes(&m, lp.p, lp.n);
    bad(RDB_HASH_LISTPACK_EX_PRE_GA, ERR_FORMAT, "expiry is not a time");
}

static void list_nodes_plain_and_packed(void **state)
{
    (void)state;
    lp_begin(&lp);
    lp_text(&lp, "a");
    lp_int(&lp, 2);
    lp_end(&lp);
    begin(4);
    put_len(&m, 2);
    put_bytes(&m, lp.p, lp.n);
    put_len(&m, 1);
    put_str(&m, "a plain one");
    put_len(&m, 1);
    put_str(&m, "");
    put_len(&m, 2);
    put_bytes(&m, lp.p, lp.n);
    is(RDB_LIST_QUICKLIST_2, "a 2 a plain one  a 2 ");
    begin(1);
    put_len(&m, 3);
    bad(RDB_LIST_QUICKLIST_2, ERR_FORMAT, "expected a list container");
}

static void packed_scores(void **state)
{
    (void)state;
    lp_begin(&lp);
    lp_text(&lp, "a");
    lp_int(&lp, -7);
    lp_int(&lp, 5);
    lp_text(&lp, "1.5");
    lp_text(&lp, "b");
    lp_text(&lp, "inf");
    lp_end(&lp);
    m.n = 0;
    put_bytes(&m, lp.p, lp.n);
    is(RDB_ZSET_LISTPACK, "a@-7 5@1.5 b@inf ");
    lp_begin(&lp);
    lp_text(&lp, "a");
    lp_text(&lp, "x");
    lp_end(&lp);
    m.n = 0;
    put_bytes(&m, lp.p, lp.n);
    bad(RDB_ZSET_LISTPACK, ERR_FORMAT, "expected a score");
}

static void odd_and_broken_blobs_are_refused(void **state)
{
    (void)state;
    lp_begin(&lp);
    lp_text(&lp, "a");
    lp_end(&lp);
    m.n = 0;
    put_bytes(&m, lp.p, lp.n);
    bad(RDB_HASH_LISTPACK, ERR_FORMAT, "a hash of 1 values");
    bad(RDB_ZSET_LISTPACK, ERR_FORMAT, "a zset of 1 values");
    bad(RDB_HASH_LISTPACK_EX_PRE_GA, ERR_FORMAT, "not groups of 3");
    bad(RDB_HASH_ZIPLIST, ERR_FORMAT, "RDB byte 0, a hash: ziplist:");
    bad(RDB_SET_INTSET, ERR_FORMAT, "RDB byte 0, a set: intset:");
    bad(RDB_HASH_ZIPMAP, ERR_FORMAT, "zipmap:");
    is(RDB_SET_LISTPACK, "a ");
}

static void an_element_over_the_limit_is_told(void **state)
{
    (void)state;
    begin(1);
    put_str(&m, "0123456789012345678901234567890123456789012345678901234567890123+");
    bad(RDB_LIST, ERR_LIMIT, "65 bytes, the limit is 64");
    begin(1);
    put(&m, "\xc3\x05\x40\x41\x00x\xe0\x37\x00", 9);
    bad(RDB_LIST, ERR_LIMIT, "65 bytes, the limit is 64");
    begin(0);
    bad(RDB_STRING, ERR_INTERNAL, "no elements");
    bad(RDB_STREAM, ERR_INTERNAL, "no elements");
}

/* --- nodes of lists that hold one large element --- */

static void ziplist_node(struct make *blob, const char *s)
{
    size_t n = strlen(s);
    blob->n = 0;
    put_le(blob, 10 + 6 + n + 1, 4);
    put_le(blob, 10, 4);
    put_le(blob, 1, 2);
    put_u8(blob, 0);
    put_u8(blob, 0x80);
    put_be(blob, n, 4);
    put(blob, s, n);
    put_u8(blob, 0xff);
}

static void listpack_node(struct make *blob, const char *s)
{
    size_t n = strlen(s);
    blob->n = 0;
    put_le(blob, 6 + 5 + n + (5 + n < 128 ? 1 : 2) + 1, 4);
    put_le(blob, 1, 2);
    put_u8(blob, 0xf0);
    put_le(blob, n, 4);
    put(blob, s, n);
    if (5 + n >= 128) put_u8(blob, (unsigned)((5 + n) >> 7));
    put_u8(blob, (unsigned)((5 + n) & 127) | (5 + n >= 128 ? 128 : 0));
    put_u8(blob, 0xff);
}

#define HUNDRED                                                                                    \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"  \
    "123456789"

static void node_list(enum rdb_type t, const char *s)
{
    begin(3);
    for (int i = 0; i < 3; i++) {
        if (t == RDB_LIST_QUICKLIST_2) put_u8(&m, 2);
        (t == RDB_LIST_QUICKLIST ? ziplist_node : listpack_node)(&lp, i == 1 ? s : "small");
        put_bytes(&m, lp.p, lp.n);
    }
}

static void large_nodes_of_one(void **state)
{
    (void)state;
    static const enum rdb_type types[] = {RDB_LIST_QUICKLIST, RDB_LIST_QUICKLIST_2};
    static const char *const texts[] = {HUNDRED, HUNDRED HUNDRED};
    for (int i = 0; i < 16; i++) {
        struct reader r;
        struct buf out;
        struct err err;
        char want[300];
        enum rdb_type t = types[i & 1];
        const char *text = texts[i >> 1 & 1];
        snprintf(want, sizeof(want), "small %s small ", text);
        node_list(t, text);
        buf_init(&out, 1 << 20);
        (i & 4 ? reader_init_mem : reader_init_starving)(&r, m.p, m.n);
        struct how how = {64, i & 8 ? 64 : 3, true};
        if (read_all(&r, t, &how, &out, &err) < 0) fail_msg("%s", err.msg);
        assert_int_equal(buf_add(&out, "", 1, NULL), 0);
        assert_string_equal((char *)out.p, want);
        assert_int_equal(reader_pos(&r), m.n);
        for (size_t cut = 0; cut < m.n; cut++) {
            reader_init_mem(&r, m.p, cut);
            assert_int_equal(read_all(&r, t, &how, &out, &err), -1);
        }
        buf_release(&out);
    }
}

/* Anything that differs from what it is to look like is refused; never read beyond. */
static void large_nodes_that_are_broken(void **state)
{
    (void)state;
    static const enum rdb_type types[] = {RDB_LIST_QUICKLIST, RDB_LIST_QUICKLIST_2};
    static const size_t head[] = {16, 11};
    for (int i = 0; i < 2; i++) {
        struct reader r;
        struct buf out;
        struct err err;
        node_list(types[i], HUNDRED);
        const uint8_t *text = memmem(m.p, m.n, HUNDRED, 100);
        size_t at = (size_t)(text - m.p) - head[i];
        buf_init(&out, 1 << 20);
        for (size_t k = 0; k < head[i] + 2; k++) {
            size_t pos = k < head[i] ? at + k : at + head[i] + 100 + (i ? 1 : 0); /* the end mark */
            m.p[pos] ^= 1;
            reader_init_mem(&r, m.p, m.n);
            assert_int_equal(read_all(&r, types[i], &(struct how){64, 64, true}, &out, &err), -1);
            assert_true(err.code == ERR_LIMIT || err.code == ERR_FORMAT);
            m.p[pos] ^= 1;
        }
        buf_release(&out);
    }
}

/* Of blobs that cannot be split it can be told beforehand. */
static void size_of_a_blob(void **state)
{
    (void)state;
    static const struct {
        enum rdb_type t;
        bool blob;
        unsigned before;
    } cases[] = {{RDB_HASH_LISTPACK, true, 0},
                 {RDB_HASH_LISTPACK_EX, true, 8},
                 {RDB_SET_INTSET, true, 0},
                 {RDB_HASH_ZIPMAP, true, 0},
                 {RDB_ZSET_ZIPLIST, true, 0},
                 {RDB_LIST_QUICKLIST, false, 0},
                 {RDB_LIST_QUICKLIST_2, false, 0},
                 {RDB_HASH, false, 0},
                 {RDB_HASH_METADATA, false, 0},
                 {RDB_STREAM, false, 0},
                 {RDB_STRING, false, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct reader r;
        struct err err;
        uint64_t n;
        m.n = 0;
        put_le(&m, 1, cases[i].before);
        put_len(&m, 12345678);
        reader_init_starving(&r, m.p, m.n);
        assert_int_equal(rdb_elems_blob_bytes(&r, cases[i].t, &n, &err), 0);
        assert_int_equal(n, cases[i].blob ? 12345678 : 0);
        assert_int_equal(reader_pos(&r), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_and_sets),
        cmocka_unit_test(hashes),
        cmocka_unit_test(both_strings_compressed_do_not_share_memory),
        cmocka_unit_test(scratch_is_used_again),
        cmocka_unit_test(scores_as_text_and_binary),
        cmocka_unit_test(scores_that_are_none_are_refused),
        cmocka_unit_test(field_expiries_of_each_kind),
        cmocka_unit_test(packed_field_expiries),
        cmocka_unit_test(expiries_out_of_range_are_refused),
        cmocka_unit_test(list_nodes_plain_and_packed),
        cmocka_unit_test(packed_scores),
        cmocka_unit_test(odd_and_broken_blobs_are_refused),
        cmocka_unit_test(an_element_over_the_limit_is_told),
        cmocka_unit_test(large_nodes_of_one),
        cmocka_unit_test(large_nodes_that_are_broken),
        cmocka_unit_test(size_of_a_blob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
