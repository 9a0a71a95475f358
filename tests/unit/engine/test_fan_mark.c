// SPDX-License-Identifier: BSD-3-Clause
// Marks of slots: what is written is what is read, whatever the length of a number or a tag.
#include "engine/fan_mark.h"

#include "wire/resp.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_mark(const struct fan_place *p, uint16_t slot, const struct fan_mark *m)
{
    char rest[FAN_MARK_MAX], want[FAN_SET_MAX], key[64], value[FAN_MARK_MAX];
    uint8_t set[FAN_SET_MAX];
    struct fan_mark back;
    struct err err;
    size_t rest_n = fan_mark_put_rest(rest, m);
    size_t n = fan_mark_set(set, p, slot, m->o, span_of(rest, rest_n));
    int key_n = snprintf(key, sizeof(key), "keyhaul:checkpoint:t:0badcafe:{%s}",
                         slot_tag(&p->tags, slot));
    int value_n = snprintf(value, sizeof(value), "%llu %llu %llu %llu", (unsigned long long)m->o,
                           (unsigned long long)m->w, (unsigned long long)m->f,
                           (unsigned long long)m->d);
    int want_n = snprintf(want, sizeof(want), "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
                          key_n, key, value_n, value);
    assert_int_equal(n, want_n);
    assert_memory_equal(set, want, n);
    assert_int_equal(slot_of(span_of(key, (size_t)key_n)), slot);
    assert_int_equal(fan_mark_parse(&back, span_of(value, (size_t)value_n), &err), 0);
    assert_true(back.o == m->o && back.w == m->w && back.f == m->f && back.d == m->d);
}

static void written_as_read(void **state)
{
    (void)state;
    static const struct fan_mark marks[] = {
        {0, 0, 0, 0}, {1000, 99, 0, 15}, {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    struct fan_place *p;
    struct err err;
    assert_int_equal(fan_place_new(&p, span_str("keyhaul:checkpoint:t"), "0badcafe", 1, 0, &err),
                     0);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) /* tags of one character and of more */
        assert_mark(p, (uint16_t)slot, &marks[slot % 3]);
    fan_place_free(p);
}

static void what_is_none(void **state)
{
    (void)state;
    static const char *const texts[] = {"",       "1",         "1 2 3", "1 2 3 x",
                                        " 1 2 3", "1 2 3 4 5", "1  3 4"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct fan_mark m = {.o = 42};
        struct err err;
        assert_int_equal(fan_mark_parse(&m, span_str(texts[i]), &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
        assert_int_equal(m.o, 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_as_read),
        cmocka_unit_test(what_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
