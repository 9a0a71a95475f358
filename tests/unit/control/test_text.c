// SPDX-License-Identifier: BSD-3-Clause
// Tests of text under construction: wrapping, JSON, sticking failures.
#include "control/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *end(struct text *t)
{
    text_printf(t, "%c", 0);
    struct err err;
    assert_int_equal(text_result(t, &err), 0);
    return (const char *)t->buf.p;
}

static void wraps_at_the_width(void **state)
{
    (void)state;
    struct text t;
    text_init(&t, 1000);
    text_add(&t, "  --db");
    text_to_column(&t, 10);
    text_wrap(&t, "one two three four", 10, 18);
    assert_string_equal(end(&t), "  --db    one two\n          three\n          four\n");
    text_clear(&t);
    text_wrap(&t, "123456789012345 67", 2, 10); /* what is longer than the line stands alone */
    assert_string_equal(end(&t), "123456789012345\n  67\n");
    text_release(&t);
}

static void escapes_json(void **state)
{
    (void)state;
    struct text t;
    text_init(&t, 1000);
    text_json_string(&t, "a\"b\\c\n\x01\x7f \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_string_equal(end(&t), "\"a\\\"b\\\\c\\u000a\\u0001\\u007f \xc3\xa4 \xe2\x82\xac "
                                 "\xf0\x9f\x98\x80\"");
    text_clear(&t);
    text_json_string(&t, NULL);
    assert_string_equal(end(&t), "null");
    text_release(&t);
}

static void replaces_what_is_no_utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",
                                      "\x80",
                                      "\xc0\x80",
                                      "\xc3",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xe2\x82"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct text t;
        text_init(&t, 1000);
        text_json_string(&t, bad[i]);
        const char *got = end(&t);
        for (const char *p = got; *p; p++)
            assert_true(*p > 0);
        assert_memory_equal(got, "\"\\ufffd", 7);
        text_release(&t);
    }
}

static void makes_plain(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain words", "plain words"},
        {"a\x1b[31mb", "a?[31mb"},
        {"a\nb\tc\x7f", "a?b?c?"},
        {"\xc2\x9b"
         "1m",
         "??1m"},
        {"\xff\xfe", "??"},
        {"\xc3\xa4", "\xc3\xa4"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char words[32];
        snprintf(words, sizeof(words), "%s", cases[i][0]);
        assert_string_equal(text_make_plain(words), cases[i][1]);
    }
}

static void sets_commas(void **state)
{
    (void)state;
    struct text t;
    text_init(&t, 1000);
    text_json_open(&t, '{');
    text_json_u64(&t, "a", UINT64_MAX);
    text_json_i64(&t, "b", -3);
    text_json_name(&t, "c");
    text_json_open(&t, '[');
    text_json_open(&t, '{');
    text_add(&t, "}");
    text_json_open(&t, '{');
    text_json_known(&t, "d", 1.25);
    text_json_known(&t, "e", -1);
    text_add(&t, "}]}");
    assert_string_equal(end(&t),
                        "{\"a\":18446744073709551615,\"b\":-3,\"c\":[{},{\"d\":1.2,\"e\":null}]}");
    text_release(&t);
}

static void long_words_and_limits(void **state)
{
    (void)state;
    struct text t;
    char words[2000];
    memset(words, 'x', sizeof(words) - 1);
    words[sizeof(words) - 1] = 0;
    text_init(&t, 4096);
    text_printf(&t, "%s|", words);
    assert_int_equal(t.buf.n, 2000);
    assert_string_equal(end(&t) + 1998, "x|");
    text_release(&t);

    text_init(&t, 1000);
    text_add(&t, "kept");
    text_printf(&t, "%s", words);
    text_add(&t, "dropped");
    struct err err = {0};
    assert_int_equal(text_result(&t, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(t.buf.n, 4);
    text_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wraps_at_the_width),
        cmocka_unit_test(escapes_json),
        cmocka_unit_test(replaces_what_is_no_utf8),
        cmocka_unit_test(sets_commas),
        cmocka_unit_test(makes_plain),
        cmocka_unit_test(long_words_and_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
