// SPDX-License-Identifier: BSD-3-Clause
// Errors: codes, classes, exit status, and words that keep their context.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <string.h>

static void test_table(void **state)
{
    (void)state;
    static const struct {
        enum err_code code;
        const char *name;
        enum err_class cls;
        int status;
    } t[] = {
        {ERR_NONE, "none", ERR_CLASS_OPERATOR, 0},
        {ERR_USAGE, "usage", ERR_CLASS_OPERATOR, 2},
        {ERR_REFUSED, "refused", ERR_CLASS_OPERATOR, 3},
        {ERR_CONFLICT, "conflict", ERR_CLASS_OPERATOR, 3},
        {ERR_UNRESOLVED, "unresolved", ERR_CLASS_OPERATOR, 4},
        {ERR_NET, "network", ERR_CLASS_TRANSIENT, 1},
        {ERR_BUSY, "busy", ERR_CLASS_TRANSIENT, 1},
        {ERR_FORMAT, "format", ERR_CLASS_FATAL, 1},
        {ERR_STOPPED, "stopped", ERR_CLASS_OPERATOR, 0},
        {ERR_INTERNAL, "internal", ERR_CLASS_FATAL, 1},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
        assert_string_equal(err_name(t[i].code), t[i].name);
        assert_int_equal(err_class(t[i].code), t[i].cls);
        assert_int_equal(err_exit_status(t[i].code), t[i].status);
    }
    for (int a = ERR_NONE; a <= ERR_INTERNAL; a++) { /* names are for machines: each its own */
        assert_in_range(err_exit_status((enum err_code)a), 0, 4);
        for (int b = ERR_NONE; b < a; b++)
            assert_string_not_equal(err_name((enum err_code)a), err_name((enum err_code)b));
    }
}

static void test_set_and_wrap(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(err_set(&e, ERR_NET, "%s:%d refused", "host", 6379), -1);
    assert_int_equal(err_wrap(&e, "source %d", 1), -1);
    assert_int_equal(err_wrap(&e, "task"), -1);
    assert_int_equal(e.code, ERR_NET);
    assert_string_equal(e.msg, "task: source 1: host:6379 refused");
    assert_int_equal(err_set(NULL, ERR_NET, "x"), -1);
    assert_int_equal(err_wrap(NULL, "x"), -1);
}

static void test_too_long(void **state)
{
    (void)state;
    struct err e;
    char big[2000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = 0;
    err_set(&e, ERR_IO, "%s", big);
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    for (unsigned i = 0; i < 5; i++) { /* context is what stays */
        err_wrap(&e, "context %u", i);
        assert_true(strlen(e.msg) < sizeof(e.msg));
    }
    assert_memory_equal(e.msg, "context 4: context 3: context 2: context 1: context 0: xxx", 58);
    err_wrap(&e, "%s", big);
    assert_true(strlen(e.msg) < sizeof(e.msg));
    assert_non_null(strstr(e.msg, "x: context 4: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_set_and_wrap),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
