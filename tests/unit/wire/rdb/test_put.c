// SPDX-License-Identifier: BSD-3-Clause
// What is written is read back; counts filled in later; spilling loses and doubles nothing.
#include "wire/rdb/put.h"

#include "wire/rdb/elems.h"
#include "wire/rdb/str.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct err err;

static void lengths_take_the_shortest_form(void **state)
{
    (void)state;
    static const struct {
        uint64_t v;
        size_t n;
    } cases[] = {{0, 1},     {63, 1},         {64, 2},         {16383, 2},
                 {16384, 5}, {UINT32_MAX, 5}, {1ULL << 32, 9}, {UINT64_MAX, 9}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b;
        struct rdb_put o = {.to = &b};
        struct reader r;
        uint64_t got;
        buf_init(&b, 100);
        assert_int_equal(rdb_put_len(&o, cases[i].v, &err), 0);
        assert_int_equal(b.n, cases[i].n);
        reader_init_mem(&r, b.p, b.n);
        assert_int_equal(rdb_len(&r, &got, &err), 0);
        assert_true(got == cases[i].v);
        assert_int_equal(reader_pos(&r), b.n);
        buf_release(&b);
    }
}

static void scores_read_back_exactly(void **state)
{
    (void)state;
    const double scores[] = {0,
                             -0.0,
                             1.5,
                             0.1,
                             -7,
                             1e300,
                             5e-324,
                             INFINITY,
                             -INFINITY,
                             1e17,
                             0.30000000000000004,
                             9007199254740993.0,
                             -1.7976931348623157e308};
    size_t n = sizeof(scores) / sizeof(scores[0]);
    for (int text = 0; text < 2; text++) {
        struct buf b;
        struct rdb_put o = {.to = &b};
        struct reader r;
        struct rdb_elems *it;
        struct rdb_elem e;
        size_t at, i = 0;
        buf_init(&b, 1000);
        assert_int_equal(rdb_put_count_begin(&o, &at, &err), 0);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(rdb_put_str(&o, span_str("m"), &err), 0);
            assert_int_equal(text ? rdb_put_text_double(&o, scores[k], &err)
                                  : rdb_put_double(&o, scores[k], &err),
                             0);
        }
        rdb_put_count_end(&o, at, (uint32_t)n);
        reader_init_mem(&r, b.p, b.n);
        assert_int_equal(rdb_elems_new(&it, 1000, &err), 0);
        assert_int_equal(rdb_elems_begin(it, &r, text ? RDB_ZSET : RDB_ZSET_2, true, &err), 0);
        for (; rdb_elems_next(it, &e, &err) == 1; i++)
            assert_memory_equal(&e.score, &scores[i], sizeof(double));
        assert_int_equal(i, n);
        rdb_elems_free(it);
        buf_release(&b);
    }
}

static int collect(void *ctx, struct span bytes, struct err *e)
{
    return buf_add(ctx, bytes.p, bytes.n, e);
}

static void what_spills_is_whole(void **state)
{
    (void)state;
    struct buf small, all;
    struct rdb_put o = {.to = &small, .spill = collect, .ctx = &all};
    buf_init(&small, 200u << 10);
    buf_init(&all, 8u << 20);
    for (uint64_t i = 0; i < 100000; i++) {
        size_t at = 0;
        bool counted = i % 10000 == 0;
        if (counted) assert_int_equal(rdb_put_count_begin(&o, &at, &err), 0);
        assert_int_equal(rdb_put_u64le(&o, i, &err), 0);
        if (counted) rdb_put_count_end(&o, at, (uint32_t)i);
    }
    assert_true(all.n > 0 && small.n < 100u << 10);
    assert_int_equal(rdb_put_end(&o, &err), 0);
    assert_int_equal(small.n, 0);
    struct reader r;
    reader_init_mem(&r, all.p, all.n);
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t v;
        if (i % 10000 == 0) {
            assert_int_equal(rdb_len(&r, &v, &err), 0);
            assert_int_equal(v, i);
        }
        assert_int_equal(reader_u64le(&r, &v, &err), 0);
        assert_int_equal(v, i);
    }
    assert_int_equal(reader_pos(&r), all.n);
    buf_release(&small);
    buf_release(&all);
}

/* While a count is open nothing spills: then the buffer's cap is the limit. */
static void an_open_count_is_bounded(void **state)
{
    (void)state;
    struct buf small, all;
    struct rdb_put o = {.to = &small, .spill = collect, .ctx = &all};
    size_t at;
    int rc = 0;
    uint64_t i = 0;
    buf_init(&small, 100u << 10);
    buf_init(&all, 8u << 20);
    assert_int_equal(rdb_put_count_begin(&o, &at, &err), 0);
    for (; rc == 0 && i < 1000000; i++)
        rc = rdb_put_u64le(&o, i, &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_true(i > 10000 && i < 14000);
    assert_int_equal(all.n, 0);
    buf_release(&small);
    buf_release(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_take_the_shortest_form),
        cmocka_unit_test(scores_read_back_exactly),
        cmocka_unit_test(what_spills_is_whole),
        cmocka_unit_test(an_open_count_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
