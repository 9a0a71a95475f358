// SPDX-License-Identifier: BSD-3-Clause
// The hasher against OpenSSL's own: every length around the blocks, whatever the pieces.
#include "engine/hasher.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define LONGEST 9000

static uint8_t data[LONGEST];

static int fill(void **state)
{
    (void)state;
    srand(1);
    for (size_t i = 0; i < LONGEST; i++)
        data[i] = (uint8_t)(rand() >> 5);
    return 0;
}

static void check(struct hasher *h, size_t n, size_t piece)
{
    uint8_t want[HASHER_BYTES], got[HASHER_BYTES];
    assert_int_equal(EVP_Digest(data, n, want, NULL, EVP_sha256(), NULL), 1);
    hasher_begin(h);
    for (size_t at = 0; at < n; at += piece)
        hasher_put(h, data + at, n - at < piece ? n - at : piece);
    hasher_end(h, got);
    assert_memory_equal(got, want, HASHER_BYTES);
}

static void every_length(void **state)
{
    (void)state;
    struct hasher h;
    for (size_t n = 0; n <= 2 * HASHER_HELD + 100; n++)
        check(&h, n, n % 7 == 0 ? 1 : n % 300 + 1);
}

static void every_size_of_pieces(void **state)
{
    (void)state;
    struct hasher h;
    for (size_t piece = 1; piece < LONGEST; piece += 1 + piece / 9)
        check(&h, LONGEST, piece);
}

static void numbers_are_big_endian(void **state)
{
    (void)state;
    struct hasher a, b;
    uint8_t x[HASHER_BYTES], y[HASHER_BYTES];
    hasher_begin(&a);
    hasher_u32(&a, 0x01020304);
    hasher_u64(&a, 0x05060708090a0b0cu);
    hasher_byte(&a, 'x');
    hasher_str(&a, span_str("yz"));
    hasher_end(&a, x);
    hasher_begin(&b);
    hasher_put(&b, "\1\2\3\4\5\6\7\10\11\12\13\14x\0\0\0\2yz", 19);
    hasher_end(&b, y);
    assert_memory_equal(x, y, HASHER_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length),
        cmocka_unit_test(every_size_of_pieces),
        cmocka_unit_test(numbers_are_big_endian),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
