// SPDX-License-Identifier: BSD-3-Clause
// Vector sets of Redis 8.2 in the form of Redis 8.0: exactly the bytes that 8.0 would have written;
// damaged ones, and forms that nobody knows yet.
#include "vectors.h"

#include "wire/rdb/str.h"
#include "wire/rdb/transcode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MAX (1u << 20)

static struct err err;

/* Where it spills to. */
static int add(void *ctx, struct span bytes, struct err *e)
{
    return buf_add(ctx, bytes.p, bytes.n, e);
}

static int turn(struct reader *r, struct buf *all, bool *ret_unknown)
{
    struct buf part;
    struct rdb_put out = {.to = &part, .spill = add, .ctx = all};
    buf_init(&part, MAX);
    buf_init(all, MAX);
    int rc = transcode_vectors(r, &out, ret_unknown, &err);
    if (rc == 0) rc = rdb_put_end(&out, &err);
    buf_release(&part);
    return rc;
}

static void check(const struct vector_options *from, const struct vector_options *to,
                  bool expect_unknown)
{
    static struct make have, want;
    put_vector_set(&have, from);
    put_vector_set(&want, to);
    for (int starving = 0; starving < 2; starving++) {
        struct reader r;
        struct buf got;
        bool unknown = !expect_unknown, vectors = false;
        if (starving)
            reader_init_starving(&r, have.p, have.n);
        else
            reader_init_mem(&r, have.p, have.n);
        assert_int_equal(transcode_is_vectors(&r, &vectors, &err), 0);
        assert_true(vectors);
        if (turn(&r, &got, &unknown) < 0) fail_msg("%s", err.msg);
        assert_int_equal(unknown, expect_unknown);
        assert_int_equal(reader_pos(&r), have.n);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.p, want.p, want.n);
        buf_release(&got);
    }
}

static void of_8_2(void **state)
{
    (void)state;
    static const size_t sizes[] = {2, 13, 20000};
    for (unsigned i = 0; i < 12; i++) {
        struct vector_options o = {FORM_1, i & 1, i >> 1 & 1, sizes[i / 4], false}, old = o;
        old.form = FORM_0;
        check(&o, &old, false);
        check(&old, &old, false);
    }
}

static void of_the_future(void **state)
{
    (void)state;
    struct vector_options o = {.form = FORM_2, .attributes = true, .vector_n = 4};
    check(&o, &o, true);
}

static void other_modules(void **state)
{
    (void)state;
    static struct make m;
    struct reader r;
    struct buf got;
    bool vectors = true, unknown;
    put_len(&m, VECTORSET_ID ^ 1ULL << 40);
    reader_init_mem(&r, m.p, m.n);
    assert_int_equal(transcode_is_vectors(&r, &vectors, &err), 0);
    assert_false(vectors);
    assert_int_equal(turn(&r, &got, &unknown), -1);
    assert_int_equal(err.code, ERR_FORMAT);
    buf_release(&got);
    reader_init_mem(&r, m.p, 0);
    assert_int_equal(transcode_is_vectors(&r, &vectors, &err), -1);
}

static void cut_anywhere(void **state)
{
    (void)state;
    static struct make m;
    struct vector_options o = {FORM_1, true, true, 4, false};
    put_vector_set(&m, &o);
    for (size_t n = 0; n < m.n; n++) {
        struct reader r;
        struct buf got;
        bool unknown;
        reader_init_mem(&r, m.p, n);
        assert_int_equal(turn(&r, &got, &unknown), -1);
        buf_release(&got);
    }
}

/* Any damage: an error, or a value that is no larger. */
static void damaged(void **state)
{
    (void)state;
    static struct make m;
    uint64_t seed = 11;
    struct vector_options o = {FORM_1, true, true, 4, false};
    for (int round = 0; round < 100000; round++) {
        struct reader r;
        struct buf got;
        bool unknown;
        if (round % 50 == 0) put_vector_set(&m, &o);
        uint8_t *at = &m.p[next_random(&seed) % m.n], before = *at;
        *at = (uint8_t)next_random(&seed);
        reader_init_mem(&r, m.p, m.n);
        if (turn(&r, &got, &unknown) == 0)
            assert_true(got.n <= m.n + 64); /* lengths in their shortest form, mostly */
        else
            assert_int_not_equal(err.code, ERR_INTERNAL);
        if (round % 3) *at = before;
        buf_release(&got);
    }
}

/* Numbers that do not fit together. */
static void impossible_nodes(void **state)
{
    (void)state;
    static const struct {
        uint64_t n, level, links;
    } wrong[] = {{1, 1 << 24, 0}, {2, 1 << 24, 0},           {5, 1 << 24 | 1, 0},
                 {6, 1 << 24, 2}, {6, 1 << 24, UINT64_MAX},  {UINT64_MAX, 1 << 24 | 255, 0},
                 {0, 0, 0},       {600, 1 << 24 | 255, 600}, {UINT64_MAX, 1 << 24, 1}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        static struct make m;
        struct reader r;
        struct buf got;
        bool unknown;
        m.n = 0;
        put_len(&m, VECTORSET_ID);
        uint64_t head[] = {1, 1, 1, 0};
        for (size_t k = 0; k < 4; k++)
            put_number(&m, head[k]);
        put_name(&m, "e");
        put_name(&m, "v");
        uint64_t node[] = {wrong[i].n, 1, wrong[i].level, wrong[i].links, 32, 0, 0};
        for (size_t k = 0; k < 7; k++)
            put_number(&m, node[k]);
        put_op(&m, 0);
        reader_init_mem(&r, m.p, m.n);
        if (turn(&r, &got, &unknown) == 0) fail_msg("node %zu", i);
        assert_int_equal(err.code, ERR_FORMAT);
        buf_release(&got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_8_2),        cmocka_unit_test(of_the_future),
        cmocka_unit_test(other_modules), cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(damaged),       cmocka_unit_test(impossible_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
