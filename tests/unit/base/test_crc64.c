// SPDX-License-Identifier: BSD-3-Clause
// CRC-64: the published check value, both ways the same, in any pieces.
#include "base/crc64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void the_check_value(void **state)
{
    (void)state;
    assert_true(crc64(0, "123456789", 9) == 0xe9c6d914c4b8d9ca);
    assert_true(crc64_portable(0, "123456789", 9) == 0xe9c6d914c4b8d9ca);
    assert_true(crc64(0, "", 0) == 0 && crc64_portable(0, "", 0) == 0);
    assert_true(crc64(77, NULL, 0) == 77 && crc64_portable(77, NULL, 0) == 77);
}

static void both_ways_agree_at_every_length_offset_and_cut(void **state)
{
    (void)state;
    uint8_t b[700];
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < sizeof(b); i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        b[i] = (uint8_t)x;
    }
    for (size_t n = 0; n < 600; n++) {
        const uint8_t *p = b + n % 17;
        uint64_t whole = crc64(x, p, n);
        assert_true(crc64_portable(x, p, n) == whole);
        size_t cut = n * 7 % (n + 1);
        assert_true(crc64(crc64(x, p, cut), p + cut, n - cut) == whole);
        assert_true(crc64_portable(crc64_portable(x, p, cut), p + cut, n - cut) == whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_value),
        cmocka_unit_test(both_ways_agree_at_every_length_offset_and_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
