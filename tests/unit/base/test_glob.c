// SPDX-License-Identifier: BSD-3-Clause
// Patterns of key names: what they match, on any bytes, and that none of them takes for ever.
// (tests/e2e/test_selection.py asks a server's KEYS about others.)
#include "base/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct {
    const char *pattern;
    const char *yes[8], *no[8];
} cases[] = {
    {"", {""}, {"a"}},
    {"a", {"a"}, {"", "A", "b", "aa"}},
    {"*", {"", "a", "abc", "*"}, {NULL}},
    {"**", {"", "a", "abc"}, {NULL}},
    {"?", {"a", "?", "*"}, {"", "ab"}},
    {"a*", {"a", "ab", "a*"}, {"", "ba"}},
    {"*a", {"a", "ba", "aaa"}, {"", "ab"}},
    {"a*b*c", {"abc", "axbxc", "abbcc", "abcbc"}, {"ab", "acb", "abcd"}},
    {"*ab*ab", {"abab", "ababab", "aababxab"}, {"ab", "abb", "ababa"}},
    {"h?llo", {"hello", "hallo", "h\xffllo"}, {"hllo", "heello"}},
    {"user:*:name", {"user:1:name", "user::name", "user:1:name:name"}, {"user:name", "user:1"}},
    {"?*", {"a", "ab"}, {""}},
    {"*?", {"a", "ab"}, {""}},
    {"[abc]", {"a", "b", "c"}, {"", "d", "ab", "[abc]"}},
    {"[a-c]x", {"ax", "bx", "cx"}, {"dx", "-x", "x"}},
    {"[c-a]x", {"ax", "bx", "cx"}, {"dx", "-x"}},
    {"[a-c-e]", {"a", "b", "c", "-", "e"}, {"d", "f"}},
    {"[^a-c]", {"d", "-", "^"}, {"", "a", "b", "c"}},
    {"[a^]", {"a", "^"}, {"b"}},
    {"[]", {NULL}, {"", "]", "a", "[]"}},
    {"[]a]", {NULL}, {"a", "]", "a]"}},
    {"[^]", {"a", "]"}, {"", "aa"}},
    {"[\\]]", {"]"}, {"\\", "a"}},
    {"[\\a-c]", {"a", "-", "c"}, {"b", "\\"}},
    {"[a-]", {"a", "]", "^", "_"}, {"-", "b"}}, /* a range to ], and a set without an end */
    {"[ab", {"a", "b"}, {"", "[ab", "c"}},
    {"x[", {NULL}, {"x", "x[", "xa"}},
    {"x[^", {"xa", "x^"}, {"x"}},
    {"[a\\", {"a", "\\"}, {"b"}},
    {"[a-", {"a", "-"}, {"b"}},
    {"\\*", {"*"}, {"a", "", "\\*"}},
    {"\\?\\[\\\\", {"?[\\"}, {"a[\\", "?[a"}},
    {"\\a", {"a"}, {"\\a"}},
    {"a\\", {"a\\"}, {"a", "ab"}},
    {"\\,", {","}, {"\\,"}},
    {"*\\", {"\\", "a\\"}, {"a"}},
    {"*[ab]*[cd]", {"ac", "xaxbxd", "bcd"}, {"ca", "a", "ax"}},
};

static bool matches(const char *pattern, const char *text)
{
    return glob_match(span_str(pattern), span_str(text));
}

static void matches_what_it_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (const char *const *t = cases[i].yes; *t; t++)
            if (!matches(cases[i].pattern, *t)) fail_msg("%s not %s", cases[i].pattern, *t);
        for (const char *const *t = cases[i].no; *t; t++)
            if (matches(cases[i].pattern, *t)) fail_msg("%s %s", cases[i].pattern, *t);
    }
}

static void any_bytes(void **state)
{
    (void)state;
    static const char text[] = "a\0\xff\x80\n";
    struct span key = span_of(text, sizeof(text) - 1);
    assert_true(glob_match(span_str("a????"), key));
    assert_true(glob_match(span_str("*\n"), key));
    assert_true(glob_match(span_of("a\0*", 3), key));
    assert_true(glob_match(span_str("a?[\xf0-\xff][^a-z]*"), key));
    assert_false(glob_match(span_str("a"), key));
    assert_false(glob_match(span_of("a\0", 2), key));
    assert_true(glob_match(span_of(NULL, 0), span_of(NULL, 0)));
}

/* Exactly the bytes in hand are looked at: the rest of the allocation is none of its business. */
static void reads_no_further(void **state)
{
    (void)state;
    static const char all[] = "[a-\\*?^]";
    size_t n = sizeof(all) - 1;
    for (unsigned seed = 0; seed < 200000; seed++) {
        unsigned x = seed * 2654435761u;
        size_t len = 1 + x % 5;
        uint8_t *p = malloc(len), t[2] = {'a', (uint8_t)(x >> 8)};
        assert_non_null(p);
        for (size_t i = 0; i < len; i++)
            p[i] = (uint8_t)all[(x >> (3 * i + 5)) % n];
        bool first = glob_match(span_of(p, len), span_of(t, 2));
        assert_true(first == glob_match(span_of(p, len), span_of(t, 2)));
        free(p);
    }
}

/* Each of these takes for ever where every '*' is tried anew. */
static void never_for_ever(void **state)
{
    (void)state;
    static char text[200001], pattern[401];
    alarm(20);
    memset(text, 'a', sizeof(text) - 1);
    for (size_t i = 0; i < 400; i++)
        pattern[i] = i % 2 ? '*' : 'a';
    assert_true(matches(pattern, text));
    pattern[399] = 'b';
    assert_false(matches(pattern, text));
    assert_false(matches("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
    assert_false(matches("*[^b]*[^b]*[^b]*[^b]*[^b]*[^b]*[^b]*b", text));
    assert_false(matches("*a*?*a*?*a*?*a*?*a*?*a*?*a*?*a*b*", text));
    text[sizeof(text) - 2] = 'b';
    assert_true(matches("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
    memset(pattern, '*', 400);
    assert_true(matches(pattern, text));
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_what_it_should),
        cmocka_unit_test(any_bytes),
        cmocka_unit_test(reads_no_further),
        cmocka_unit_test(never_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
