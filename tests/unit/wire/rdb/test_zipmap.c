// SPDX-License-Identifier: BSD-3-Clause
// Zipmap: lengths short and long, unused bytes, and what must be refused.
#include "packed_check.h"

#include "wire/rdb/zipmap.h"

PACKED_READ(zipmap)

#define SPAN(s) span_of(s, sizeof(s) - 1)

static void pairs_with_and_without_unused_bytes(void **state)
{
    (void)state;
    packed_is(zipmap_read, SPAN("\x00\xff"), "");
    packed_is(zipmap_read,
              SPAN("\x02\x03"
                   "foo\x03\x00"
                   "bar\x05"
                   "hello\x05\x00world\xff"),
              "foo bar hello world ");
    packed_is(zipmap_read,
              SPAN("\x01\x01"
                   "a\x02\x03"
                   "bc\xff\xff\xff\xff"),
              "a bc ");
    packed_is(zipmap_read,
              SPAN("\xfe\x01"
                   "a\x00\x00\xff"),
              "a  "); /* count unknown */
    packed_is(zipmap_read,
              SPAN("\x01\xfe\x01\x00\x00\x00"
                   "a\xfe\x02\x00\x00\x00\x00"
                   "bc\xff"),
              "a bc ");
}

static void what_does_not_hold_together_is_refused(void **state)
{
    (void)state;
    packed_bad(zipmap_read, SPAN(""), "0 bytes");
    packed_bad(zipmap_read, SPAN("\xff"), "1 bytes");
    packed_bad(zipmap_read, SPAN("\x00\x00"), "2 bytes");
    packed_bad(zipmap_read,
               SPAN("\x01\x01"
                    "a\xff"),
               "no value");
    packed_bad(zipmap_read,
               SPAN("\x02\x01"
                    "a\x01\x00"
                    "b\xff"),
               "says 2 pairs, holds 1");
    packed_bad(zipmap_read,
               SPAN("\x01\x05"
                    "a\x01\x00"
                    "b\xff"),
               "at byte 1 does not fit");
    packed_bad(zipmap_read,
               SPAN("\x01\x01"
                    "a\x01\x05"
                    "b\xff"),
               "at byte 3 does not fit");
    packed_bad(zipmap_read,
               SPAN("\x01\x01"
                    "a\x01\xff"),
               "does not fit");
    packed_bad(zipmap_read,
               SPAN("\x01\xfe\xff\xff\xff\xff"
                    "a\xff"),
               "does not fit");
    packed_bad(zipmap_read, SPAN("\x01\xfe\x01\xff"), "does not fit");
    packed_bad(zipmap_read,
               SPAN("\x01\xff"
                    "a\xff"),
               "does not fit");
}

static void hostile_bytes_do_no_harm(void **state)
{
    (void)state;
    packed_hostile(zipmap_read,
                   SPAN("\x02\x03"
                        "foo\x03\x00"
                        "bar\x05"
                        "hello\x05\x00world\xff"),
                   1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_with_and_without_unused_bytes),
        cmocka_unit_test(what_does_not_hold_together_is_refused),
        cmocka_unit_test(hostile_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
