// SPDX-License-Identifier: BSD-3-Clause
// Tests of the names of keys of a slot: each once, asked for, taken out, in the order of hashes.
#include "engine/adopt_keys.h"

#include "base/num.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct span name(char *out, size_t size, unsigned i)
{
    return span_of(out, (size_t)snprintf(out, size, "key:%u", i));
}

static int setup(void **state)
{
    struct adopt_keys *k = test_malloc(sizeof(*k));
    adopt_keys_init(k, 1 << 20);
    *state = k;
    return 0;
}

static int teardown(void **state)
{
    adopt_keys_release(*state);
    test_free(*state);
    return 0;
}

static void empty(void **state)
{
    struct adopt_keys *k = *state;
    assert_false(adopt_keys_has(k, span_str("a")));
    adopt_keys_remove(k, span_str("a"));
    adopt_keys_sort(k);
    assert_int_equal(k->n, 0);
}

static void each_once(void **state)
{
    struct adopt_keys *k = *state;
    struct err err;
    char text[32];
    for (int round = 0; round < 2; round++)
        for (unsigned i = 0; i < 5000; i++)
            assert_int_equal(adopt_keys_add(k, name(text, sizeof(text), i), &err), 0);
    assert_int_equal(adopt_keys_add(k, span_of("", 0), &err), 0);
    assert_int_equal(k->n, 5001);
    for (unsigned i = 0; i < 5000; i++)
        assert_true(adopt_keys_has(k, name(text, sizeof(text), i)));
    assert_true(adopt_keys_has(k, span_of("", 0)));
    assert_false(adopt_keys_has(k, name(text, sizeof(text), 5000)));
}

static void out_and_in_again(void **state)
{
    struct adopt_keys *k = *state;
    struct err err;
    char text[32];
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(adopt_keys_add(k, name(text, sizeof(text), i), &err), 0);
    for (unsigned i = 0; i < 100; i += 2)
        adopt_keys_remove(k, name(text, sizeof(text), i));
    adopt_keys_remove(k, name(text, sizeof(text), 0)); /* twice */
    assert_int_equal(k->n, 50);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(adopt_keys_has(k, name(text, sizeof(text), i)), i % 2);
    assert_int_equal(adopt_keys_add(k, name(text, sizeof(text), 0), &err), 0);
    assert_true(adopt_keys_has(k, name(text, sizeof(text), 0)));
    assert_int_equal(k->n, 51);
}

static void in_order(void **state)
{
    struct adopt_keys *k = *state;
    struct err err;
    char text[32];
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(adopt_keys_add(k, name(text, sizeof(text), i), &err), 0);
    for (unsigned i = 0; i < 1000; i += 3)
        adopt_keys_remove(k, name(text, sizeof(text), i));
    adopt_keys_sort(k);
    assert_int_equal(k->n, 666);
    for (size_t i = 0; i < k->n; i++) {
        assert_int_equal(adopt_keys_at(k, i)->hash, adopt_hash(adopt_keys_name(k, i)));
        assert_true(i == 0 || adopt_keys_at(k, i - 1)->hash <= adopt_keys_at(k, i)->hash);
        uint64_t number;
        struct span s = adopt_keys_name(k, i);
        assert_true(num_get_u64(span_of(s.p + 4, s.n - 4), &number) && number % 3 != 0);
    }
    adopt_keys_clear(k);
    assert_int_equal(k->n, 0);
    assert_int_equal(adopt_keys_add(k, span_str("a"), &err), 0);
    assert_true(adopt_keys_has(k, span_str("a")));
}

static void bounded(void **state)
{
    struct adopt_keys k;
    struct err err;
    char text[32];
    unsigned i = 0;
    (void)state;
    adopt_keys_init(&k, 4096);
    while (adopt_keys_add(&k, name(text, sizeof(text), i), &err) == 0)
        assert_true(++i < 4096);
    assert_int_equal(err.code, ERR_LIMIT);
    adopt_keys_release(&k);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(empty), T(each_once), T(out_and_in_again), T(in_order), cmocka_unit_test(bounded),
    };
    return cmocka_run_group_tests_name("adopt_keys", tests, NULL, NULL);
}
