// SPDX-License-Identifier: BSD-3-Clause
// The sorter: in memory, through runs on disk, and through several passes of merging.
#include "engine/sorter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct seen {
    size_t pairs;
    struct buf last_key, last_rest;
    uint64_t sum;
};

static int order(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static void keep(struct buf *b, struct span s)
{
    buf_clear(b);
    assert_int_equal(buf_add(b, s.p, s.n, NULL), 0);
}

static uint64_t weigh(struct span key, struct span rest)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < key.n; i++)
        h = (h ^ key.p[i]) * 1099511628211u;
    for (size_t i = 0; i < rest.n; i++)
        h = (h ^ rest.p[i]) * 1099511628211u + 7;
    return h;
}

static int see(void *ctx, struct span key, struct span rest, struct err *err)
{
    struct seen *s = ctx;
    (void)err;
    if (s->pairs) {
        int c = order(buf_span(&s->last_key), key);
        if (c == 0) c = order(buf_span(&s->last_rest), rest);
        assert_true(c <= 0);
    }
    keep(&s->last_key, key);
    keep(&s->last_rest, rest);
    s->pairs++;
    s->sum += weigh(key, rest);
    return 0;
}

static struct seen new_seen(void)
{
    struct seen s = {0};
    buf_init(&s.last_key, SORTER_PAIR_MAX);
    buf_init(&s.last_rest, SORTER_PAIR_MAX);
    return s;
}

static void free_seen(struct seen *s)
{
    buf_release(&s->last_key);
    buf_release(&s->last_rest);
}

/* Random pairs, of which every 50th is `big` bytes; twice, for a sorter can be used again. */
static void sort_many(size_t mem, unsigned n, size_t big)
{
    struct sorter s;
    struct err err;
    uint8_t *junk = malloc(big + 64);
    assert_non_null(junk);
    sorter_init(&s, mem, "/tmp");
    for (int round = 0; round < 2; round++) {
        uint64_t sum = 0;
        srand(7);
        for (unsigned i = 0; i < n; i++) {
            size_t size = i % 50 == 49 ? big : (size_t)(rand() % 20);
            for (size_t k = 0; k < size + 8; k++)
                junk[k] = (uint8_t)(rand() >> 7);
            struct span key = span_of(junk, size), rest = span_of(junk + size, (size_t)(i % 9));
            sum += weigh(key, rest);
            assert_int_equal(sorter_add(&s, key, rest, span_of(NULL, 0), &err), 0);
        }
        struct seen seen = new_seen();
        if (sorter_each(&s, see, &seen, &err) < 0) fail_msg("%s", err.msg);
        assert_int_equal(seen.pairs, n);
        assert_true(seen.sum == sum);
        free_seen(&seen);
    }
    sorter_release(&s);
    free(junk);
}

static void sorts_in_memory(void **state)
{
    (void)state;
    sort_many(0, 5000, 300);
}

static void sorts_through_one_merge(void **state)
{
    (void)state;
    sort_many(20000, 5000, 300);
}

/* Windows as large as the largest pair: at 1 MB only 16 runs fit a pass. */
static void sorts_through_several_passes(void **state)
{
    (void)state;
    sort_many(4096, 3000, 1u << 20);
    sort_many(512, 20000, 40);
}

/* Keys of zeros and ones, all of up to 10 bytes: the first 8 bytes alone do not tell them apart. */
static void sorts_what_begins_alike(void **state)
{
    (void)state;
    for (unsigned all = 8; all <= 2048; all *= 16)
        for (size_t mem = 0; mem <= 1024; mem += 1024) {
            struct sorter s;
            struct err err;
            struct seen seen = new_seen();
            sorter_init(&s, mem, "/tmp");
            for (unsigned i = 0; i < all; i++) {
                uint8_t key[10];
                unsigned mixed = i * 1027 % all, n = mixed % 11;
                for (unsigned k = 0; k < sizeof(key); k++)
                    key[k] = mixed >> k & 1;
                assert_int_equal(
                    sorter_add(&s, span_of(key, n), span_of(&i, 1), span_of(&i, 1), &err), 0);
            }
            assert_int_equal(sorter_each(&s, see, &seen, &err), 0);
            assert_int_equal(seen.pairs, all);
            free_seen(&seen);
            sorter_release(&s);
        }
}

static void nothing_and_one(void **state)
{
    (void)state;
    struct sorter s;
    struct err err;
    struct seen seen = new_seen();
    sorter_init(&s, 0, "/tmp");
    assert_int_equal(sorter_each(&s, see, &seen, &err), 0);
    assert_int_equal(seen.pairs, 0);
    assert_int_equal(sorter_add(&s, span_str(""), span_str(""), span_str(""), &err), 0);
    assert_int_equal(sorter_each(&s, see, &seen, &err), 0);
    assert_int_equal(seen.pairs, 1);
    free_seen(&seen);
    sorter_release(&s);
}

static int refuse(void *ctx, struct span key, struct span rest, struct err *err)
{
    (void)key, (void)rest;
    return ++*(int *)ctx == 3 ? err_set(err, ERR_STOPPED, "enough") : 0;
}

static void a_failure_of_the_taker_ends_it(void **state)
{
    (void)state;
    for (size_t mem = 0; mem <= 64; mem += 64) {
        struct sorter s;
        struct err err;
        int n = 0;
        sorter_init(&s, mem, "/tmp");
        for (int i = 0; i < 10; i++)
            assert_int_equal(sorter_add(&s, span_str("key"), span_str("re"), span_str("st"), &err),
                             0);
        assert_int_equal(sorter_each(&s, refuse, &n, &err), -1);
        assert_int_equal(err.code, ERR_STOPPED);
        assert_int_equal(n, 3);
        sorter_release(&s);
    }
}

static void too_large_a_pair_is_refused(void **state)
{
    (void)state;
    struct sorter s;
    struct err err;
    uint8_t *big = calloc(1, SORTER_PAIR_MAX + 1u);
    assert_non_null(big);
    sorter_init(&s, 0, "/tmp");
    assert_int_equal(
        sorter_add(&s, span_of(big, SORTER_PAIR_MAX), span_str("x"), span_str(""), &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(
        sorter_add(&s, span_of(big, SORTER_PAIR_MAX - 9), span_str(""), span_str("x"), &err), 0);
    sorter_release(&s);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorts_in_memory),
        cmocka_unit_test(sorts_through_one_merge),
        cmocka_unit_test(sorts_through_several_passes),
        cmocka_unit_test(sorts_what_begins_alike),
        cmocka_unit_test(nothing_and_one),
        cmocka_unit_test(a_failure_of_the_taker_ends_it),
        cmocka_unit_test(too_large_a_pair_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
