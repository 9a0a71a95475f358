// SPDX-License-Identifier: BSD-3-Clause
// The reader: what is held stays, what is released is counted once, caps hold, fields are read.
#include "wire/reader.h"

#include "base/crc64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint8_t text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
#define N (sizeof(text) - 1)

static struct reader r;
static struct err err;

static void need_gives_what_is_asked_for(void **state)
{
    (void)state;
    reader_init_starving(&r, text, N);
    assert_int_equal(reader_need(&r, 3, &err), 0);
    assert_ptr_equal(r.end, text + 3);
    r.p += 2;
    assert_int_equal(reader_need(&r, 1, &err), 0);
    assert_ptr_equal(r.end, text + 3); /* it is there already */
    assert_int_equal(reader_need(&r, 5, &err), 0);
    assert_ptr_equal(r.end, text + 7);
    assert_int_equal(reader_pos(&r), 2);
    assert_ptr_equal(r.keep, text);
}

static void the_end_is_an_error_with_its_place(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        (way ? reader_init_mem : reader_init_starving)(&r, text, N);
        assert_int_equal(reader_skip(&r, 30, true, &err), 0);
        assert_int_equal(reader_need(&r, N - 30 + 1, &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
        assert_string_equal(err.msg, "unexpected end of input after 36 bytes");
        assert_int_equal(reader_pos(&r), 30);
        assert_int_equal(reader_need(&r, N - 30, &err), 0); /* what is there can still be had */
        assert_memory_equal(r.p, text + 30, N - 30);
    }
}

static void more_than_the_cap_cannot_be_held(void **state)
{
    (void)state;
    reader_init_starving(&r, text, N);
    r.cap = 10;
    assert_int_equal(reader_need(&r, 11, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(reader_need(&r, 10, &err), 0);
    r.p += 6;
    assert_int_equal(reader_need(&r, 5, &err), -1); /* 6 are held */
    assert_int_equal(err.code, ERR_LIMIT);
    reader_release(&r);
    assert_int_equal(reader_need(&r, 5, &err), 0);
    assert_int_equal(reader_need(&r, SIZE_MAX, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
}

struct seen {
    uint8_t p[100];
    size_t n;
    bool fail;
};

static int tap(void *ctx, const uint8_t *p, size_t n, struct err *e)
{
    struct seen *s = ctx;
    if (s->fail) return err_set(e, ERR_IO, "disk full");
    memcpy(s->p + s->n, p, n);
    s->n += n;
    return 0;
}

static void every_byte_is_counted_once_as_it_goes(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct seen seen = {.n = 0};
        (way ? reader_init_mem : reader_init_starving)(&r, text, N);
        r.crc_on = true;
        r.tap = tap;
        r.tap_ctx = &seen;
        assert_int_equal(reader_need(&r, 5, &err), 0);
        r.p += 5;
        assert_int_equal(reader_settle(&r, &err), 0);
        assert_int_equal(seen.n, 0); /* held */
        reader_release(&r);
        assert_int_equal(seen.n, 0); /* not yet dropped */
        assert_int_equal(reader_settle(&r, &err), 0);
        assert_int_equal(reader_settle(&r, &err), 0);
        assert_int_equal(seen.n, 5);
        assert_int_equal(reader_skip(&r, 20, true, &err), 0);
        assert_int_equal(reader_skip(&r, 4, false, &err), 0);
        assert_int_equal(reader_need(&r, N - 29 + 1, &err), -1); /* fails after dropping */
        assert_int_equal(reader_pos(&r), 29);
        assert_int_equal(reader_need(&r, N - 29, &err), 0);
        r.p += N - 29;
        reader_release(&r);
        assert_int_equal(reader_settle(&r, &err), 0);
        assert_int_equal(seen.n, N);
        assert_memory_equal(seen.p, text, N);
        assert_true(r.crc == crc64(0, text, N));
        assert_int_equal(reader_pos(&r), N);
    }
}

static void crc_counts_only_while_on(void **state)
{
    (void)state;
    reader_init_starving(&r, text, N);
    assert_int_equal(reader_skip(&r, 10, true, &err), 0);
    assert_int_equal(reader_settle(&r, &err), 0);
    r.crc_on = true;
    assert_int_equal(reader_skip(&r, 10, true, &err), 0);
    assert_int_equal(reader_settle(&r, &err), 0);
    r.crc_on = false;
    assert_int_equal(reader_skip(&r, 10, true, &err), 0);
    assert_int_equal(reader_settle(&r, &err), 0);
    assert_true(r.crc == crc64(0, text + 10, 10));
}

static void a_failing_tap_is_an_error(void **state)
{
    (void)state;
    struct seen seen = {.fail = true};
    reader_init_starving(&r, text, N);
    r.tap = tap;
    r.tap_ctx = &seen;
    assert_int_equal(reader_need(&r, 3, &err), 0);
    r.p += 3;
    reader_release(&r);
    assert_int_equal(reader_settle(&r, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(reader_skip(&r, 9, true, &err), -1);
}

static void skip_holds_or_lets_go(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        (way ? reader_init_mem : reader_init_starving)(&r, text, N);
        if (!way) r.cap = 8;
        assert_int_equal(reader_skip(&r, 0, false, &err), 0);
        assert_int_equal(reader_skip(&r, 8, false, &err), 0);
        assert_ptr_equal(r.keep, text);
        assert_memory_equal(r.keep, text, 8);
        if (!way) assert_int_equal(reader_skip(&r, 1, false, &err), -1); /* the cap */
        assert_int_equal(reader_skip(&r, 20, true, &err), 0);
        assert_ptr_equal(r.keep, r.p);
        assert_int_equal(reader_pos(&r), 28);
        assert_int_equal(reader_skip(&r, N, true, &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
        assert_int_equal(reader_skip(&r, UINT64_MAX, true, &err), -1);
    }
}

static void fields_of_fixed_size(void **state)
{
    (void)state;
    static const uint8_t b[] = {1, 2, 3, 4, 5, 6, 7, 0x88, 0xff};
    uint64_t u64 = 0;
    uint32_t u32 = 0;
    uint8_t u8 = 0;
    reader_init_starving(&r, b, 9);
    assert_int_equal(reader_u64le(&r, &u64, &err), 0);
    assert_true(u64 == 0x8807060504030201);
    assert_int_equal(reader_u8(&r, &u8, &err), 0);
    assert_int_equal(u8, 0xff);
    assert_int_equal(reader_u8(&r, &u8, &err), -1);
    reader_init_starving(&r, b, 9);
    assert_int_equal(reader_u64be(&r, &u64, &err), 0);
    assert_true(u64 == 0x0102030405060788);
    assert_int_equal(reader_u64be(&r, &u64, &err), -1);
    assert_true(u64 == 0x0102030405060788); /* untouched */
    reader_init_starving(&r, b + 5, 4);
    assert_int_equal(reader_u32le(&r, &u32, &err), 0);
    assert_int_equal(u32, 0xff880706);
    assert_int_equal(reader_u32le(&r, &u32, &err), -1);
    assert_int_equal(reader_u64le(&r, &u64, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(need_gives_what_is_asked_for),
        cmocka_unit_test(the_end_is_an_error_with_its_place),
        cmocka_unit_test(more_than_the_cap_cannot_be_held),
        cmocka_unit_test(every_byte_is_counted_once_as_it_goes),
        cmocka_unit_test(crc_counts_only_while_on),
        cmocka_unit_test(a_failing_tap_is_an_error),
        cmocka_unit_test(skip_holds_or_lets_go),
        cmocka_unit_test(fields_of_fixed_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
