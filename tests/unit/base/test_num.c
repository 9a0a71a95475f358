// SPDX-License-Identifier: BSD-3-Clause
// Numbers as text both ways, quoting, and sizes for people.
#include "base/num.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void integers_there_and_back(void **state)
{
    (void)state;
    const int64_t v[] = {0,     1,         -1,        9,         10,           -10,
                         99999, INT32_MIN, INT64_MAX, INT64_MIN, INT64_MIN + 1};
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
        char out[NUM_INT64_CHARS], want[32];
        int64_t back = 77;
        size_t n = num_put_i64(out, v[i]);
        assert_int_equal(n, snprintf(want, sizeof(want), "%lld", (long long)v[i]));
        assert_memory_equal(out, want, n);
        assert_true(num_get_i64(span_of(out, n), &back) && back == v[i]);
    }
    for (uint64_t ten = 1; ten <= UINT64_MAX / 10; ten *= 10)
        for (uint64_t u = ten - 1; u <= ten + 1; u++) {
            char out[NUM_INT64_CHARS], want[32];
            size_t n = num_put_u64(out, u);
            assert_int_equal(n, snprintf(want, sizeof(want), "%llu", (unsigned long long)u));
            assert_memory_equal(out, want, n);
        }
    char out[NUM_INT64_CHARS];
    uint64_t back = 0;
    size_t n = num_put_u64(out, UINT64_MAX);
    assert_int_equal(n, 20);
    assert_true(num_get_u64(span_of(out, n), &back) && back == UINT64_MAX);
}

static void what_is_no_integer_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"",
                               "-",
                               "+1",
                               " 1",
                               "1 ",
                               "1.0",
                               "0x1",
                               "--1",
                               "a",
                               "1\n",
                               "18446744073709551616",
                               "99999999999999999999",
                               "111111111111111111111"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t s = 77;
        uint64_t u = 77;
        assert_false(num_get_i64(span_str(bad[i]), &s));
        assert_false(num_get_u64(span_str(bad[i]), &u));
        assert_true(s == 77 && u == 77);
    }
    int64_t s;
    uint64_t u;
    assert_false(num_get_i64(span_str("9223372036854775808"), &s));
    assert_false(num_get_i64(span_str("-9223372036854775809"), &s));
    assert_false(num_get_u64(span_str("-1"), &u));
    assert_false(num_get_u64(span_of("1\0002", 3), &u));
}

static void doubles_there_and_back(void **state)
{
    (void)state;
    const double v[] = {0,      -0.0, 1,         0.1,      -3.5e-7,   1e300,
                        5e-324, 1e16, 123456789, INFINITY, -INFINITY, 1.7976931348623157e308};
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
        char out[NUM_DOUBLE_CHARS];
        double back = 77;
        size_t n = num_put_double(out, v[i]);
        assert_true(n < sizeof(out));
        assert_true(num_get_double(span_of(out, n), &back));
        assert_memory_equal(&back, &v[i], sizeof(back));
    }
    char out[NUM_DOUBLE_CHARS];
    double back = 0;
    assert_int_equal(num_put_double(out, NAN), 3);
    assert_true(num_get_double(span_str("nan"), &back) && isnan(back));
    assert_int_equal(num_put_double(out, 0.1), 19);
    assert_memory_equal(out, "0.10000000000000001", 19);
}

static void check_double(const char *text)
{
    double want = strtod(text, NULL), got = 77;
    if (!num_get_double(span_str(text), &got) || memcmp(&got, &want, sizeof(got)) != 0)
        fail_msg("%s: %.17g instead of %.17g", text, got, want);
}

/* Digits with a point take a short way; it must be as exact as the C library. */
static void plain_doubles_are_exact(void **state)
{
    (void)state;
    const char *const v[] = {"0", "-0", "0.0", "-0.00", ".5", "-.5", "5.", "007.250",
                             /* between two doubles, in the middle and beside it */
                             "9007199254740993", "9007199254740992.9", "9007199254740993.1",
                             "-9007199254740993", "4503599627370497.5", "4503599627370496.5",
                             "4503599627370496.49", "4503599627370496.51", "9999999999999999999",
                             "9223372036854775807", "9223372036854776833", "0.000000000000000001",
                             "999999999999999999.9"};
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
        check_double(v[i]);
    srand(5);
    for (int i = 0; i < 200000; i++) {
        char text[64];
        double d = (double)rand() / (1 + rand() % 100000) - (rand() & 1 ? 1e6 : 0);
        if (i & 1)
            snprintf(text, sizeof(text), "%.17g", d);
        else
            snprintf(text, sizeof(text), "%.*f", rand() % 12, d);
        check_double(text);
    }
}

static void what_is_no_double_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {"", " 1", "\n1", "\v1", "1 ", "+1", "one", "1e", "1..0", "-"};
    double v = 77;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (num_get_double(span_str(bad[i]), &v)) fail_msg("taken: \"%s\"", bad[i]);
    assert_false(num_get_double(span_of("\0", 1), &v));
    assert_false(num_get_double(span_of("1\0", 2), &v));
    char digits[500];
    memset(digits, '1', sizeof(digits));
    assert_false(num_get_double(span_of(digits, sizeof(digits)), &v));
    assert_true(v == 77);
}

static void quoting_is_printable_and_bounded(void **state)
{
    (void)state;
    char out[200];
    assert_string_equal(num_quote(out, sizeof(out), span_of("a\"\\\0\n\xff z", 8)),
                        "\"a\\\"\\\\\\x00\\x0a\\xff z\"");
    assert_string_equal(num_quote(out, sizeof(out), span_of("", 0)), "\"\"");
    uint8_t noise[1000];
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)(i * 7);
    for (size_t size = 1; size <= sizeof(out); size++)
        for (size_t n = 0; n < 300; n += 37) {
            char *exact = malloc(size); /* a sanitizer sees a step beyond */
            assert_non_null(exact);
            num_quote(exact, size, span_of(noise, n));
            assert_true(strlen(exact) < size);
            for (char *c = exact; *c; c++)
                assert_true(*c >= 32 && *c < 127);
            if (size == sizeof(out) && n > 130) assert_non_null(strstr(exact, "\"..."));
            free(exact);
        }
}

static void sizes_for_people(void **state)
{
    (void)state;
    char out[40];
    assert_string_equal(num_human_bytes(out, sizeof(out), 0), "0 B");
    assert_string_equal(num_human_bytes(out, sizeof(out), 999), "999 B");
    assert_string_equal(num_human_bytes(out, sizeof(out), 1000), "1.0 kB");
    assert_string_equal(num_human_bytes(out, sizeof(out), 12345678), "12.3 MB");
    assert_string_equal(num_human_bytes(out, sizeof(out), 999949), "999.9 kB");
    assert_string_equal(num_human_bytes(out, sizeof(out), 999950), "1.0 MB");
    assert_string_equal(num_human_bytes(out, sizeof(out), UINT64_MAX), "18446.7 PB");
    assert_string_equal(num_human_count(out, sizeof(out), 0), "0");
    assert_string_equal(num_human_count(out, sizeof(out), 999), "999");
    assert_string_equal(num_human_count(out, sizeof(out), 1000), "1,000");
    assert_string_equal(num_human_count(out, sizeof(out), 1234567), "1,234,567");
    assert_string_equal(num_human_count(out, sizeof(out), UINT64_MAX),
                        "18,446,744,073,709,551,615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_there_and_back),
        cmocka_unit_test(what_is_no_integer_is_refused),
        cmocka_unit_test(doubles_there_and_back),
        cmocka_unit_test(plain_doubles_are_exact),
        cmocka_unit_test(what_is_no_double_is_refused),
        cmocka_unit_test(quoting_is_printable_and_bounded),
        cmocka_unit_test(sizes_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
