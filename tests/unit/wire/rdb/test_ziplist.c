// SPDX-License-Identifier: BSD-3-Clause
// Ziplist: each form of entry, and what must be refused.
#include "packed_check.h"

#include "wire/rdb/ziplist.h"

PACKED_READ(ziplist)

static struct make m;

static struct span blob(const char *entries, size_t n, unsigned count, unsigned last)
{
    m.n = 0;
    put_le(&m, n + 11, 4);
    put_le(&m, last, 4);
    put_le(&m, count, 2);
    put(&m, entries, n);
    put_u8(&m, 0xff);
    return span_of(m.p, m.n);
}

#define BLOB(count, last, s) blob(s, sizeof(s) - 1, count, last)

static void each_form_of_entry(void **state)
{
    (void)state;
    packed_is(ziplist_read, BLOB(0, 10, ""), "");
    packed_is(ziplist_read,
              BLOB(2, 12,
                   "\x00\x00\x02\x03"
                   "abc"),
              " abc ");
    packed_is(ziplist_read, BLOB(1, 10, "\x00\x40\x03xyz"), "xyz ");
    packed_is(ziplist_read, BLOB(1, 10, "\x00\x80\x00\x00\x00\x02hi"), "hi ");
    packed_is(ziplist_read, BLOB(1, 10, "\x00\xc0\x00\x80"), "-32768 ");
    packed_is(ziplist_read, BLOB(1, 10, "\x00\xd0\xff\xff\xff\x7f"), "2147483647 ");
    packed_is(ziplist_read, BLOB(1, 10, "\x00\xe0\x00\x00\x00\x00\x00\x00\x00\x80"),
              "-9223372036854775808 ");
    packed_is(ziplist_read, BLOB(1, 10, "\x00\xf0\x00\x00\x80"), "-8388608 ");
    packed_is(ziplist_read, BLOB(1, 10, "\x00\xfe\x80"), "-128 ");
    packed_is(ziplist_read, BLOB(2, 12, "\x00\xf1\x02\xfd"), "0 12 ");
    packed_is(ziplist_read, BLOB(65535, 12, "\x00\xf1\x02\xfd"), "0 12 "); /* count unknown */
    /* The long form of a short length: servers leave it there. */
    packed_is(ziplist_read, BLOB(2, 12, "\x00\xf1\xfe\x02\x00\x00\x00\xf2"), "0 1 ");
}

static void what_does_not_hold_together_is_refused(void **state)
{
    (void)state;
    packed_bad(ziplist_read, span_of("", 0), "0 bytes");
    packed_bad(ziplist_read, span_of("\x0a\0\0\0\x0a\0\0\0\0\xff", 10), "10 bytes");
    packed_bad(ziplist_read, span_of("\x0c\0\0\0\x0a\0\0\0\0\0\xff", 11), "11 bytes");
    packed_bad(ziplist_read, span_of("\x0b\0\0\0\x0a\0\0\0\0\0\xfe", 11), "11 bytes");
    packed_bad(ziplist_read, BLOB(1, 12, "\x00\xf1\x02\xfd"), "says 1 entries, holds 2");
    packed_bad(ziplist_read, BLOB(2, 10, "\x00\xf1\x02\xfd"), "last entry is at byte 12");
    packed_bad(ziplist_read, BLOB(2, 12, "\x00\xf1\x03\xfd"), "at byte 12 is broken");
    packed_bad(ziplist_read, BLOB(1, 10, "\x01\xf1"), "at byte 10 is broken");
    packed_bad(ziplist_read, BLOB(1, 10, "\x00"), "is broken");
    packed_bad(ziplist_read, BLOB(1, 10, "\xfe\x00\x00\x00"), "is broken");
    packed_bad(ziplist_read,
               BLOB(1, 10,
                    "\x00\x05"
                    "ab"),
               "is broken");
    packed_bad(ziplist_read, BLOB(1, 10, "\x00\x40"), "is broken");
    packed_bad(ziplist_read,
               BLOB(1, 10,
                    "\x00\x80\xff\xff\xff\xff"
                    "a"),
               "is broken");
    packed_bad(ziplist_read, BLOB(1, 10, "\x00\x80\x00\x00"), "is broken");
    packed_bad(ziplist_read, BLOB(1, 10, "\x00\xe0\x00\x00"), "is broken");
    for (unsigned c = 0xc1; c < 0x100; c++) {
        char entry[] = {0, (char)c, 0, 0, 0, 0, 0, 0, 0, 0};
        if (c == 0xd0 || c == 0xe0 || (c >= 0xf0 && c != 0xff)) continue;
        packed_bad(ziplist_read, blob(entry, sizeof(entry), 1, 10), "at byte 10 is broken");
    }
}

static void hostile_bytes_do_no_harm(void **state)
{
    (void)state;
    packed_hostile(ziplist_read,
                   BLOB(7, 37,
                        "\x00\x03"
                        "abc\x05\xf1\x02\x40\x03xyz\x06\xc0\x01\x02\x04\xf0\x01"
                        "\x02\x03\x05\xfe\x80\x03\x80\x00\x00\x00\x02hi"),
                   10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_of_entry),
        cmocka_unit_test(what_does_not_hold_together_is_refused),
        cmocka_unit_test(hostile_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
