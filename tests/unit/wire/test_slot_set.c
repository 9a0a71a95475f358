// SPDX-License-Identifier: BSD-3-Clause
// Sets of slots: at their edges, against a plain array.
#include "wire/slot_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void edges(void **state)
{
    (void)state;
    static const uint16_t at[] = {0, 1, 63, 64, 127, 8191, 16319, 16320, 16383};
    struct slot_set s = {0};
    assert_int_equal(slot_set_next(&s, 0), SLOT_COUNT);
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
        slot_set_add(&s, at[i]);
    unsigned next = 0;
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++, next++) {
        next = slot_set_next(&s, next);
        assert_int_equal(next, at[i]);
        assert_true(slot_set_has(&s, at[i]));
    }
    assert_int_equal(slot_set_next(&s, next), SLOT_COUNT);
    assert_int_equal(slot_set_count(&s), 9);
    slot_set_remove(&s, 64);
    slot_set_remove(&s, 65); /* was not there */
    assert_false(slot_set_has(&s, 64));
    assert_int_equal(slot_set_count(&s), 8);
    assert_int_equal(slot_set_next(&s, 64), 127);
    slot_set_fill(&s);
    assert_int_equal(slot_set_count(&s), SLOT_COUNT);
    slot_set_clear(&s);
    assert_int_equal(slot_set_count(&s), 0);
}

static void as_an_array(void **state)
{
    (void)state;
    static bool a[SLOT_COUNT], b[SLOT_COUNT];
    struct slot_set x = {0}, y = {0};
    srand(1);
    for (int i = 0; i < 9000; i++) {
        uint16_t s = (uint16_t)(rand() % SLOT_COUNT), t = (uint16_t)(rand() % SLOT_COUNT);
        a[s] = b[t] = true;
        slot_set_add(&x, s);
        slot_set_add(&y, t);
    }
    struct slot_set both = x, any = x;
    slot_set_and(&both, &y);
    slot_set_or(&any, &y);
    unsigned n_both = 0, n_any = 0;
    for (uint16_t i = 0; i < SLOT_COUNT; i++) {
        assert_int_equal(slot_set_has(&both, i), a[i] && b[i]);
        assert_int_equal(slot_set_has(&any, i), a[i] || b[i]);
        n_both += a[i] && b[i];
        n_any += a[i] || b[i];
    }
    assert_int_equal(slot_set_count(&both), n_both);
    assert_int_equal(slot_set_count(&any), n_any);
}

static void keys(void **state)
{
    (void)state;
    struct slot_set s = {0};
    slot_set_add(&s, 12182); /* "foo" */
    assert_true(slot_set_has_key(&s, span_str("foo")));
    assert_true(slot_set_has_key(&s, span_str("{foo}bar")));
    assert_false(slot_set_has_key(&s, span_str("bar")));
    assert_true(slot_set_has_key(NULL, span_str("bar")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges),
        cmocka_unit_test(as_an_array),
        cmocka_unit_test(keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
