// SPDX-License-Identifier: BSD-3-Clause
// Selecting keys by lists of patterns.
#include "engine/key_select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static bool taken(const char *keep, const char *skip, const char *key)
{
    struct key_select s;
    struct err err;
    if (key_select_parse(&s, keep, skip, &err) < 0) fail_msg("%s", err.msg);
    bool is = key_selected(&s, span_str(key));
    key_select_release(&s);
    return is;
}

static void all_where_nothing_is_said(void **state)
{
    (void)state;
    struct key_select s = {0};
    assert_true(key_select_all(&s) && key_selected(&s, span_str("a")));
    assert_true(taken(NULL, NULL, "a") && taken(NULL, NULL, ""));
}

static void any_of_the_patterns(void **state)
{
    (void)state;
    assert_true(taken("a*", NULL, "abc"));
    assert_false(taken("a*", NULL, "b"));
    assert_true(taken("a*,b*,c", NULL, "b"));
    assert_true(taken("a*,b*,c", NULL, "c"));
    assert_false(taken("a*,b*,c", NULL, "cc"));
    assert_false(taken("a*,b*,c", NULL, ""));
}

static void none_of_those_to_skip(void **state)
{
    (void)state;
    assert_false(taken(NULL, "tmp:*", "tmp:1"));
    assert_true(taken(NULL, "tmp:*", "user:1"));
    assert_false(taken("user:*", "*:tmp,*:old", "user:1:old"));
    assert_false(taken("user:*", "*:tmp,*:old", "x:1"));
    assert_true(taken("user:*", "*:tmp,*:old", "user:1"));
    assert_false(taken("*", "*", "a"));
}

static void a_comma_in_a_pattern(void **state)
{
    (void)state;
    assert_true(taken("a\\,b,c", NULL, "a,b") && taken("a\\,b,c", NULL, "c"));
    assert_false(taken("a\\,b,c", NULL, "a"));
    assert_true(taken("[\\,;]", NULL, ",") && taken("[\\,;]", NULL, ";"));
    assert_true(taken("a\\\\,b", NULL, "a\\") && taken("a\\\\,b", NULL, "b"));
}

static void refuses_empty_patterns(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ",", "a,", ",a", "a,,b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct key_select s = {.n_skip = 9};
        struct err err = {0};
        if (key_select_parse(&s, bad[i], NULL, &err) == 0) fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--keys: a pattern is empty"));
        assert_int_equal(key_select_parse(&s, "a", bad[i], &err), -1);
        assert_non_null(strstr(err.msg, "--skip-keys: a pattern is empty"));
        assert_int_equal(s.n_skip, 9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_where_nothing_is_said), cmocka_unit_test(any_of_the_patterns),
        cmocka_unit_test(none_of_those_to_skip),     cmocka_unit_test(a_comma_in_a_pattern),
        cmocka_unit_test(refuses_empty_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
