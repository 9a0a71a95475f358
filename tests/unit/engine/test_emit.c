// SPDX-License-Identifier: BSD-3-Clause
// emit: RESP written straight into room.
#include "engine/emit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void check(const uint8_t *p, const uint8_t *end, const char *want, size_t n)
{
    assert_int_equal(end - p, n);
    assert_memory_equal(p, want, n);
}

#define CHECK(p, end, want) check(p, end, want, sizeof(want) - 1)

static void heads(void **state)
{
    (void)state;
    uint8_t b[64];
    CHECK(b, emit_head(b, '*', 0), "*0\r\n");
    CHECK(b, emit_head(b, '$', 10), "$10\r\n");
    CHECK(b, emit_head(b, '$', UINT64_MAX), "$18446744073709551615\r\n");
    assert_true(emit_head(b, '$', UINT64_MAX) - b <= EMIT_HEAD_MAX);
}

static void arguments(void **state)
{
    (void)state;
    uint8_t b[96];
    CHECK(b, emit_arg(b, "a\0\r\nb", 5), "$5\r\na\0\r\nb\r\n");
    CHECK(b, emit_arg(b, "", 0), "$0\r\n\r\n");
    CHECK(b, emit_str(b, "SET"), "$3\r\nSET\r\n");
    CHECK(b, emit_crlf(b), "\r\n");
}

static void numbers(void **state)
{
    (void)state;
    uint8_t b[64];
    CHECK(b, emit_num(b, 0), "$1\r\n0\r\n");
    CHECK(b, emit_num(b, -1), "$2\r\n-1\r\n");
    CHECK(b, emit_num(b, INT64_MAX), "$19\r\n9223372036854775807\r\n");
    CHECK(b, emit_num(b, INT64_MIN), "$20\r\n-9223372036854775808\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads),
        cmocka_unit_test(arguments),
        cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
