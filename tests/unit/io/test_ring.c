// SPDX-License-Identifier: BSD-3-Clause
// The ring: the same pages twice, so that its content is always in one piece.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/ring.h"

#include <string.h>
#include <unistd.h>

static void test_size_is_rounded_up(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static const size_t ask[] = {0, 1, 4095, 4097, 100000};
    for (size_t i = 0; i < sizeof(ask) / sizeof(*ask); i++) {
        struct ring r;
        struct err err;
        assert_int_equal(ring_init(&r, ask[i], &err), 0);
        assert_true(r.size >= ask[i] && r.size > 0 && r.size < ask[i] + 2 * page);
        assert_int_equal(r.size % page, 0);
        assert_int_equal(ring_room(&r), r.size);
        ring_release(&r);
        ring_release(&r); /* twice is well */
    }
}

static void test_both_halves_are_one(void **state)
{
    (void)state;
    struct ring r;
    struct err err;
    assert_int_equal(ring_init(&r, 8192, &err), 0);
    memset(r.map, 0, r.size);
    for (size_t i = 0; i < r.size; i += 61) {
        r.map[i] = (uint8_t)i;
        assert_int_equal(r.map[r.size + i], (uint8_t)i);
        r.map[r.size + i] = 0x5a;
        assert_int_equal(r.map[i], 0x5a);
    }
    ring_release(&r);
}

static void test_across_the_end(void **state)
{
    (void)state;
    struct ring r;
    struct err err;
    assert_int_equal(ring_init(&r, 4096, &err), 0);
    for (unsigned turn = 0; turn < 50; turn++) {
        char text[1000], back[1000];
        memset(text, 'a' + (int)(turn % 26), sizeof(text));
        memcpy(ring_write_ptr(&r), text, sizeof(text));
        r.tail += sizeof(text);
        assert_int_equal(ring_used(&r), 1000);
        assert_int_equal(ring_room(&r), r.size - 1000);
        memcpy(back, ring_read_ptr(&r), sizeof(back));
        assert_memory_equal(text, back, sizeof(text));
        r.head += sizeof(text);
    }
    ring_release(&r);
}

static void test_too_large(void **state)
{
    (void)state;
    struct ring r;
    struct err err = {.code = ERR_NONE};
    memset(&r, 0x11, sizeof(r));
    struct ring before = r;
    assert_int_equal(ring_init(&r, SIZE_MAX, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(ring_init(&r, (size_t)1 << 60, &err), -1);
    assert_int_equal(err.code, ERR_NOMEM);
    assert_memory_equal(&r, &before, sizeof(r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_is_rounded_up),
        cmocka_unit_test(test_both_halves_are_one),
        cmocka_unit_test(test_across_the_end),
        cmocka_unit_test(test_too_large),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
