// SPDX-License-Identifier: BSD-3-Clause
// The checkpoint as text: what is written is read, and nothing else.
#include "engine/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef01234567"

static void same(const struct checkpoint *a, const struct checkpoint *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_string_equal(a->owner, b->owner);
    assert_string_equal(a->replid, b->replid);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->db, b->db);
}

static const struct checkpoint cases[] = {
    {.kind = CHECKPOINT_LOADING, .owner = "0badcafe"},
    {.kind = CHECKPOINT_STREAM, .owner = "0badcafe", .replid = ID, .offset = 0, .db = 0},
    {.kind = CHECKPOINT_STREAM,
     .owner = "ffffffff",
     .replid = ID,
     .offset = INT64_MAX,
     .db = INT32_MAX},
    {.kind = CHECKPOINT_STREAM, .owner = "00000000", .replid = "", .offset = 7, .db = 15},
};

static void reads_what_it_writes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[CHECKPOINT_KEY_MAX + CHECKPOINT_VALUE_MAX];
        struct checkpoint c = {0};
        struct err err;
        size_t n = checkpoint_put(text, &cases[i]);
        assert_true(n < CHECKPOINT_VALUE_MAX);
        assert_int_equal(checkpoint_parse(&c, span_of(text, n), &err), 0);
        same(&c, &cases[i]);
        for (size_t cut = 0; cut < 10; cut++) /* a number cut short is a number still */
            assert_int_equal(checkpoint_parse(&c, span_of(text, cut), &err), -1);
    }
}

static void refuses_what_it_did_not_write(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "1",
                                      "1 ",
                                      "1 loading",
                                      "1 loading 0badcaf",
                                      "2 loading 0badcafe",
                                      "1 loading 0badcafe x",
                                      "1 stream 0badcafe " ID " -1 0",
                                      "1 stream 0badcafe " ID " 1",
                                      "1 stream 0badcafe 12 1 0",
                                      "1 stream 0badcafe " ID " 99999999999999999999 0",
                                      "1 other 0badcafe",
                                      "1 stream 0badcafe " ID " 1 0 0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct checkpoint c;
        struct err err;
        assert_int_equal(checkpoint_parse(&c, span_str(bad[i]), &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
    }
    assert_false(checkpoint_is_key(span_str("keyhaul:checkpoint:")));
    assert_false(checkpoint_is_key(span_str("keyhaul:check")));
    assert_true(checkpoint_is_key(span_str(CHECKPOINT_PREFIX "a-to-b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_writes),
        cmocka_unit_test(refuses_what_it_did_not_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
