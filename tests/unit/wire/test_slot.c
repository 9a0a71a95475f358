// SPDX-License-Identifier: BSD-3-Clause
// Slots: the published check value, slots as servers tell them, the rule of tags, a tag for each.
#include "wire/slot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint16_t slot(const char *key)
{
    return slot_of(span_str(key));
}

static void the_check_value(void **state)
{
    (void)state;
    assert_int_equal(slot_crc16(span_str("123456789")), 0x31c3);
    assert_int_equal(slot_crc16(span_of(NULL, 0)), 0);
    assert_int_equal(slot_crc16(span_of("\xff\xff", 2)), 0x1d0f);
    assert_int_equal(slot("123456789"), 0x31c3 & 16383);
}

/* As CLUSTER KEYSLOT of redis 7.0 answers. */
static void slots_as_servers_tell_them(void **state)
{
    (void)state;
    assert_int_equal(slot("foo"), 12182);
    assert_int_equal(slot("bar"), 5061);
    assert_int_equal(slot("hello"), 866);
    assert_int_equal(slot("user:1000"), 1649);
    assert_int_equal(slot(""), 0);
    assert_int_equal(slot_of(span_of("a\0b\xff", 4)), 7390);
}

static void only_the_first_tag_counts_and_an_empty_one_is_none(void **state)
{
    (void)state;
    assert_int_equal(slot("{user1000}.following"), slot("user1000"));
    assert_int_equal(slot("x{user1000}"), slot("user1000"));
    assert_int_equal(slot("foo{bar}{zap}"), slot("bar"));
    assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
    assert_int_equal(slot("{}{tag}"), slot_crc16(span_str("{}{tag}")) % SLOT_COUNT);
    assert_int_equal(slot("foo{}"), slot_crc16(span_str("foo{}")) % SLOT_COUNT);
    assert_int_equal(slot("foo{bar"), slot_crc16(span_str("foo{bar")) % SLOT_COUNT);
    assert_int_equal(slot("foo}bar{"), slot_crc16(span_str("foo}bar{")) % SLOT_COUNT);
    assert_int_equal(slot("}{a}"), slot("a"));
    assert_int_not_equal(slot("{}{tag}"), slot("tag"));
}

static void each_slot_has_a_tag(void **state)
{
    (void)state;
    struct slot_tags tags;
    assert_int_equal(slot_tags_init(&tags, NULL), 0);
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        char key[32];
        const char *tag = slot_tag(&tags, (uint16_t)i);
        size_t n = strlen(tag);
        assert_in_range(n, 1, SLOT_TAG_MAX);
        assert_int_equal(strspn(tag, "abcdefghijklmnopqrstuvwxyz0123456789"), n);
        snprintf(key, sizeof(key), "keyhaul:{%s}:more", tag);
        assert_int_equal(slot(key), i);
    }
    slot_tags_release(&tags);
    slot_tags_release(&tags);
}

/* Names on targets are made of them: another choice would not find what an older version wrote. */
static void the_tags_never_change(void **state)
{
    (void)state;
    struct slot_tags tags;
    assert_int_equal(slot_tags_init(&tags, NULL), 0);
    uint64_t sum = 0;
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        for (const char *p = slot_tag(&tags, (uint16_t)i);; p++) {
            sum = sum * 1099511628211u + (uint8_t)*p;
            if (!*p) break;
        }
    assert_true(sum == 0x1140719870fd27df);
    slot_tags_release(&tags);
}

/* Bit by bit, at every length and place in memory. */
static void as_defined(void **state)
{
    (void)state;
    uint8_t bytes[40];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 167 + 13);
    for (size_t at = 0; at < 4; at++) {
        for (size_t n = 0; n + at < sizeof(bytes); n++) {
            unsigned crc = 0;
            for (size_t i = 0; i < 8 * n; i++) {
                unsigned bit = bytes[at + i / 8] >> (7 - i % 8) & 1;
                crc = (crc << 1 ^ ((crc >> 15 ^ bit) & 1 ? 0x1021 : 0)) & 0xffff;
            }
            assert_int_equal(slot_crc16(span_of(bytes + at, n)), crc);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_defined),
        cmocka_unit_test(the_check_value),
        cmocka_unit_test(slots_as_servers_tell_them),
        cmocka_unit_test(only_the_first_tag_counts_and_an_empty_one_is_none),
        cmocka_unit_test(each_slot_has_a_tag),
        cmocka_unit_test(the_tags_never_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
