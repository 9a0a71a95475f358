// SPDX-License-Identifier: BSD-3-Clause
// Marks of time: bounded, dropped when consumed, asked in any order.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/marks.h"

static void test_questions(void **state)
{
    (void)state;
    struct marks m;
    struct err err;
    assert_int_equal(marks_init(&m, 1000, &err), 0);
    assert_int_equal(m.max, 1024);
    assert_int_equal(marks_time_at(&m, 0), 0);
    assert_true(marks_differs(&m, 0)); /* even time 0 is news at first */
    uint64_t n = 0;
    for (; !marks_full(&m); n++)
        assert_int_equal(marks_add(&m, n * 10, (int64_t)n + 500, &err), 0);
    assert_int_equal(n, 1024);
    assert_false(marks_differs(&m, 1523));
    assert_true(marks_differs(&m, 1522));
    for (uint64_t pos = 0; pos < 10240; pos++)
        assert_int_equal(marks_time_at(&m, pos), 500 + pos / 10);
    assert_int_equal(marks_time_at(&m, 25), 502); /* and back */
    assert_int_equal(marks_time_at(&m, 999999), 1523);
    marks_release(&m);
    marks_release(&m);
}

static void test_runs(void **state)
{
    (void)state;
    struct marks m;
    struct err err;
    uint64_t end = 7;
    assert_int_equal(marks_init(&m, 64, &err), 0);
    assert_int_equal(marks_run(&m, 5, &end), 0);
    assert_true(end == UINT64_MAX);
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t n = 0; n < 5; n++)
            assert_int_equal(marks_add(&m, 100 + n * 10, (int64_t)n, &err), 0);
        assert_int_equal(marks_run(&m, 125, &end), 2);
        assert_int_equal(end, 130);
        assert_int_equal(marks_time_at(&m, 101), 0); /* a reader elsewhere */
        assert_int_equal(m.run_cursor - m.first, 2);
        assert_int_equal(marks_run(&m, 130, &end), 3);
        assert_int_equal(end, 140);
        assert_int_equal(marks_run(&m, 100, &end), 0); /* back */
        assert_int_equal(end, 110);
        assert_int_equal(marks_run(&m, 500, &end), 4);
        assert_true(end == UINT64_MAX);
        marks_consumed(&m, 125);
        assert_int_equal(m.end - m.first, 3);
        marks_clear(&m);
        assert_true(marks_differs(&m, 4)); /* the last time of before is news again */
        assert_int_equal(marks_time_at(&m, 125), 0);
    }
    marks_release(&m);
}

static void test_consumed(void **state)
{
    (void)state;
    struct marks m;
    struct err err;
    assert_int_equal(marks_init(&m, 64, &err), 0);
    for (uint64_t n = 0; n < 5000; n++) {
        assert_false(marks_full(&m));
        assert_int_equal(marks_add(&m, n * 10, (int64_t)n, &err), 0);
        uint64_t head = n < 20 ? n % 10 : (n - 20) * 10 + n % 10;
        marks_consumed(&m, head);
        assert_int_equal(marks_time_at(&m, head), head / 10);
        assert_true(m.end - m.first <= 22);
    }
    marks_consumed(&m, 1000000);
    assert_int_equal(m.end - m.first, 1); /* holds for what comes next */
    assert_int_equal(marks_time_at(&m, 1000000), 4999);
    marks_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_consumed),
    };
    return cmocka_run_group_tests_name("marks", tests, NULL, NULL);
}
