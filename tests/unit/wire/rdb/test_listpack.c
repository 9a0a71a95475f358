// SPDX-License-Identifier: BSD-3-Clause
// Listpack: each form of entry, and what must be refused.
#include "packed_check.h"

#include "wire/rdb/listpack.h"

PACKED_READ(listpack)

static struct make m;

static struct span blob(const char *entries, size_t n, unsigned count)
{
    m.n = 0;
    put_le(&m, n + 7, 4);
    put_le(&m, count, 2);
    put(&m, entries, n);
    put_u8(&m, 0xff);
    return span_of(m.p, m.n);
}

#define BLOB(count, s) blob(s, sizeof(s) - 1, count)

static void each_form_of_entry(void **state)
{
    (void)state;
    packed_is(listpack_read, BLOB(0, ""), "");
    packed_is(listpack_read, BLOB(2, "\x00\x01\x7f\x01"), "0 127 ");
    packed_is(listpack_read,
              BLOB(2, "\x80\x01\x83"
                      "abc\x04"),
              " abc ");
    packed_is(listpack_read, BLOB(3, "\xc0\x80\x02\xcf\xff\x02\xd0\x00\x02"), "128 4095 -4096 ");
    packed_is(listpack_read, BLOB(1, "\xdf\xff\x02"), "-1 ");
    packed_is(listpack_read, BLOB(1, "\xe0\x03xyz\x05"), "xyz ");
    packed_is(listpack_read, BLOB(1, "\xf0\x02\x00\x00\x00hi\x07"), "hi ");
    packed_is(listpack_read, BLOB(2, "\xf1\xff\x7f\x03\xf1\x00\x80\x03"), "32767 -32768 ");
    packed_is(listpack_read, BLOB(2, "\xf2\xff\xff\x7f\x04\xf2\x00\x00\x80\x04"),
              "8388607 -8388608 ");
    packed_is(listpack_read, BLOB(1, "\xf3\x00\x00\x00\x80\x05"), "-2147483648 ");
    packed_is(listpack_read, BLOB(1, "\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09"),
              "-9223372036854775808 ");
    packed_is(listpack_read, BLOB(65535, "\x01\x01"), "1 "); /* count unknown */
}

/* A string of n bytes, its length given again in `back` groups of 7 bits. */
static struct span long_entry(size_t n, unsigned back)
{
    static char text[40000];
    m.n = 0;
    put_le(&m, 0, 4);
    put_le(&m, 1, 2);
    put_u8(&m, 0xf0);
    put_le(&m, n, 4);
    put(&m, text, n);
    for (unsigned i = back; i-- > 0;)
        put_u8(&m, (unsigned)((n + 5) >> (7 * i) & 0x7f) | (i + 1 < back ? 0x80 : 0));
    put_u8(&m, 0xff);
    for (unsigned i = 0; i < 4; i++)
        m.p[i] = (uint8_t)(m.n >> (8 * i));
    return span_of(m.p, m.n);
}

static void the_length_behind_an_entry_has_just_so_many_bytes(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(listpack_read(long_entry(122, 1), &out, NULL), 1); /* 127 with its head */
    assert_int_equal(listpack_read(long_entry(123, 2), &out, NULL), 1);
    assert_int_equal(listpack_read(long_entry(16378, 2), &out, NULL), 1);
    assert_int_equal(listpack_read(long_entry(16379, 3), &out, NULL), 1);
    buf_release(&out);
    packed_bad(listpack_read, long_entry(122, 2), "followed by another length");
    packed_bad(listpack_read, long_entry(16378, 3), "followed by another length");
}

static void what_does_not_hold_together_is_refused(void **state)
{
    (void)state;
    packed_bad(listpack_read, span_of("", 0), "0 bytes");
    packed_bad(listpack_read, span_of("\x06\0\0\0\0\0", 6), "6 bytes");
    packed_bad(listpack_read, span_of("\x08\0\0\0\0\0\xff", 7), "7 bytes");
    packed_bad(listpack_read, span_of("\x07\0\0\0\0\0\xfe", 7), "7 bytes");
    packed_bad(listpack_read, BLOB(2, "\x01\x01"), "says 2 entries, holds 1");
    packed_bad(listpack_read, BLOB(1, "\x01\x02"), "followed by another length");
    packed_bad(listpack_read, BLOB(1, "\x01"), "does not fit");
    packed_bad(listpack_read,
               BLOB(1, "\x83"
                       "ab\x04"),
               "does not fit");
    packed_bad(listpack_read, BLOB(1, "\xc0"), "does not fit");
    packed_bad(listpack_read, BLOB(1, "\xf0\xff\xff\xff\xff\x07"), "does not fit");
    packed_bad(listpack_read, BLOB(1, "\xf4\x00\x00\x09"), "does not fit");
    for (unsigned c = 0xf5; c <= 0xff; c++) {
        char entry[] = {(char)c, 1};
        packed_bad(listpack_read, blob(entry, 2, 1), "at byte 6 does not fit");
    }
}

static void hostile_bytes_do_no_harm(void **state)
{
    (void)state;
    packed_hostile(listpack_read,
                   BLOB(7, "\x05\x01\x83"
                           "abc\x04\xc1\x00\x02\xe0\x03xyz\x05\xf1\x01\x02\x03"
                           "\xf3\x01\x02\x03\x04\x05\xf0\x02\x00\x00\x00hi\x07"),
                   6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_of_entry),
        cmocka_unit_test(the_length_behind_an_entry_has_just_so_many_bytes),
        cmocka_unit_test(what_does_not_hold_together_is_refused),
        cmocka_unit_test(hostile_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
