// SPDX-License-Identifier: BSD-3-Clause
// What is made of the answers to DUMP, PTTL or PEXPIRETIME, and TIME.
#include "engine/adopt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct reply number(int64_t n)
{
    return (struct reply){.type = REPLY_INTEGER, .integer = n};
}

static struct reply text(const char *s)
{
    return (struct reply){.type = REPLY_STRING, .str = span_str(s)};
}

/* Of one key, whether it is there; TIME is 1000 s and 5000 us. */
static bool told(bool relative, struct reply value, int64_t deadline, int64_t *ret_ms)
{
    struct reply time[] = {text("1000"), text("5000")};
    struct reply item[] = {value, number(deadline), {.type = REPLY_ARRAY, .item = time, .n = 2}};
    struct reply all = {.type = REPLY_ARRAY, .item = item, .n = 3};
    struct adopt a = {.values = &all, .chunk_n = 1, .relative = relative};
    return adopt_value(&a, 0, ret_ms) != NULL;
}

static void values(void **state)
{
    int64_t ms;
    (void)state;
    assert_true(told(false, text("v"), 77, &ms));
    assert_int_equal(ms, 77);
    assert_true(told(true, text("v"), 77, &ms));
    assert_int_equal(ms, 1000005 + 77);
    assert_true(told(true, text("v"), -1, &ms));
    assert_int_equal(ms, -1);
    assert_false(told(false, (struct reply){.type = REPLY_NULL}, -2, &ms));
}

/* Between DUMP and PTTL a key expires, on servers before 6.0: its DEL stands in the stream before
 * the offset, so what is put there would stay for ever. */
static void expired_behind_its_dump(void **state)
{
    int64_t ms;
    (void)state;
    assert_false(told(true, text("v"), -2, &ms));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(expired_behind_its_dump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
