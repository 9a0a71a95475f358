// SPDX-License-Identifier: BSD-3-Clause
// Intset: its three widths, and what must be refused.
#include "packed_check.h"

#include "wire/rdb/intset.h"

PACKED_READ(intset)

#define SPAN(s) span_of(s, sizeof(s) - 1)

static void its_three_widths(void **state)
{
    (void)state;
    packed_is(intset_read, SPAN("\x02\0\0\0\0\0\0\0"), "");
    packed_is(intset_read, SPAN("\x02\0\0\0\x03\0\0\0\x00\x80\xff\xff\xff\x7f"),
              "-32768 -1 32767 ");
    packed_is(intset_read, SPAN("\x04\0\0\0\x02\0\0\0\x00\x00\x00\x80\xff\xff\xff\x7f"),
              "-2147483648 2147483647 ");
    packed_is(intset_read, SPAN("\x08\0\0\0\x01\0\0\0\x00\x00\x00\x00\x00\x00\x00\x80"),
              "-9223372036854775808 ");
}

static void what_does_not_hold_together_is_refused(void **state)
{
    (void)state;
    packed_bad(intset_read, SPAN(""), "0 bytes");
    packed_bad(intset_read, SPAN("\x02\0\0\0\0\0\0"), "7 bytes");
    packed_bad(intset_read, SPAN("\x03\0\0\0\0\0\0\0"), "members of 3 bytes");
    packed_bad(intset_read, SPAN("\x00\0\0\0\0\0\0\0"), "members of 0 bytes");
    packed_bad(intset_read, SPAN("\x02\0\0\0\x02\0\0\0\x01\x00"), "do not hold 2");
    packed_bad(intset_read, SPAN("\x02\0\0\0\x00\0\0\0\x01\x00"), "do not hold 0");
    packed_bad(intset_read, SPAN("\x08\0\0\0\xff\xff\xff\xff\x01\x00"), "do not hold 4294967295");
    packed_bad(intset_read, SPAN("\x02\0\0\0\x02\0\0\0\x01\x00\x01\x00"), "member 1");
    packed_bad(intset_read, SPAN("\x02\0\0\0\x02\0\0\0\x01\x00\xff\xff"), "member 1");
}

static void hostile_bytes_do_no_harm(void **state)
{
    (void)state;
    packed_hostile(intset_read, SPAN("\x02\0\0\0\x04\0\0\0\x01\x00\x02\x00\x03\x00\x04\x00"), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_three_widths),
        cmocka_unit_test(what_does_not_hold_together_is_refused),
        cmocka_unit_test(hostile_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
