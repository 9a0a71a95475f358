// SPDX-License-Identifier: BSD-3-Clause
// Passing over values: modules and arrays (which have no other decoder), limits, kinds of types.
#include "make.h"

#include "wire/rdb/rdb.h"
#include "wire/rdb/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct make m;

static void passes(enum rdb_type t)
{
    struct reader r;
    struct err err;
    for (int way = 0; way < 4; way++) {
        (way & 1 ? reader_init_mem : reader_init_starving)(&r, m.p, m.n);
        if (rdb_value_skip(&r, t, way & 2, m.n, &err) < 0) fail_msg("%s", err.msg);
        assert_int_equal(reader_pos(&r), m.n);
        assert_ptr_equal(r.keep, way & 2 ? r.p : m.p);
        for (size_t cut = 0; cut < m.n; cut++) {
            reader_init_mem(&r, m.p, cut);
            assert_int_equal(rdb_value_skip(&r, t, way & 2, m.n, &err), -1);
            assert_int_equal(err.code, ERR_FORMAT);
            assert_true(r.p <= r.end);
        }
    }
    for (size_t limit = 0; limit < m.n; limit++) {
        for (int way = 0; way < 2; way++) {
            (way ? reader_init_mem : reader_init_starving)(&r, m.p, m.n);
            assert_int_equal(rdb_value_skip(&r, t, false, limit, &err), 1);
            assert_ptr_equal(r.keep, m.p);
        }
    }
}

static void refused(enum rdb_type t, const char *words)
{
    struct reader r;
    struct err err;
    reader_init_mem(&r, m.p, m.n);
    assert_int_equal(rdb_value_skip(&r, t, true, 0, &err), -1);
    if (!strstr(err.msg, words)) fail_msg("expected %s: %s", words, err.msg);
}

static void module_data_of_each_opcode(void **state)
{
    (void)state;
    m.n = 0;
    put_len(&m, 0x8143c5d32f1c4c01); /* some module id */
    put_len(&m, 1);
    put_len(&m, UINT64_MAX);
    put_len(&m, 2);
    put_len(&m, 70000);
    put_len(&m, 3);
    put_le(&m, 0, 4);
    put_len(&m, 4);
    put_le(&m, 0, 8);
    put_len(&m, 5);
    put_str(&m, "text");
    put_len(&m, 5);
    put(&m, "\xc1\x05\x06", 3);
    put_len(&m, 5);
    put(&m, "\xc3\x05\x0a\x00x\xe0\x00\x00", 8);
    put_len(&m, 0);
    passes(RDB_MODULE_2);
    m.n = 0;
    put_len(&m, 1);
    put_len(&m, 6);
    refused(RDB_MODULE_2, "expected a module opcode (0 to 5), found 6");
}

static void array_elements_of_each_kind(void **state)
{
    (void)state;
    m.n = 0;
    put_len(&m, 4);
    put_len(&m, 1);
    put_len(&m, 70000); /* cursor */
    put_len(&m, 0);
    put_len(&m, 0);
    put_str(&m, "a string");
    put_len(&m, 5);
    put_len(&m, 1);
    put_le(&m, (uint64_t)-5, 8);
    put_len(&m, 1000000);
    put_len(&m, 2);
    put_double(&m, 1.5);
    put_len(&m, 1ull << 40);
    put_len(&m, 3);
    put_str(&m, "x");
    passes(RDB_ARRAY);
    m.n = 0;
    put_len(&m, 1);
    put_len(&m, 0); /* no cursor */
    put_len(&m, 9);
    put_len(&m, 0);
    put_str(&m, "a");
    passes(RDB_ARRAY);
    m.p[3] = 4;
    refused(RDB_ARRAY, "expected the kind of an array element (0 to 3), found 4");
}

/* Strings on both sides of where the fast way ends, at every distance from the end. */
static void many_short_strings(void **state)
{
    (void)state;
    static const uint8_t text[300];
    const size_t sizes[] = {0, 1, 62, 63, 64, 65, 300};
    for (size_t i = 0; i < 7; i++) {
        for (unsigned extra = 0; extra < 3; extra++) {
            m.n = 0;
            put_len(&m, 6 + extra);
            for (unsigned k = 0; k < 6; k++)
                put_bytes(&m, text, sizes[i]);
            for (unsigned k = 0; k < extra; k++)
                put_bytes(&m, text, 20);
            passes(RDB_SET);
            if (extra % 2 == 0) { /* the same as pairs */
                m.p[0] = (uint8_t)((6 + extra) / 2);
                passes(RDB_HASH);
            }
        }
    }
}

static void text_scores(void **state)
{
    (void)state;
    m.n = 0;
    put_len(&m, 4);
    for (unsigned i = 253; i < 256; i++) {
        put_str(&m, "a");
        put_u8(&m, i);
    }
    put_str(&m, "b");
    put_str(&m, "1.5");
    passes(RDB_ZSET);
}

/* What is larger than the reader can hold passes only when let go. */
static void any_size_passes_when_let_go(void **state)
{
    (void)state;
    struct reader r;
    struct err err;
    m.n = 0;
    put_len(&m, 2);
    put_len(&m, 20000);
    memset(m.p + m.n, 'x', 20000);
    m.n += 20000;
    put_len(&m, 20000);
    memset(m.p + m.n, 'y', 20000);
    m.n += 20000;
    reader_init_starving(&r, m.p, m.n);
    r.cap = 100;
    assert_int_equal(rdb_value_skip(&r, RDB_LIST, true, 0, &err), 0);
    assert_int_equal(reader_pos(&r), m.n);
    reader_init_starving(&r, m.p, m.n);
    r.cap = 100;
    assert_int_equal(rdb_value_skip(&r, RDB_LIST, false, SIZE_MAX, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    reader_init_starving(&r, m.p, m.n);
    r.cap = 100;
    assert_int_equal(rdb_value_skip(&r, RDB_LIST, false, 90, &err), 1);
}

/* Not "over the limit", for there is none: what follows would be taken for records. */
static void no_length_is_too_large_to_be_missed(void **state)
{
    (void)state;
    static const enum rdb_type types[] = {RDB_STRING, RDB_SET, RDB_HASH_LISTPACK_EX, RDB_MODULE_2};
    for (uint64_t n = UINT64_MAX - 20; n; n++) { /* up to the last */
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
            m.n = 0;
            if (types[i] == RDB_SET) put_len(&m, 2);
            if (types[i] == RDB_HASH_LISTPACK_EX) put_le(&m, 0, 8);
            if (types[i] == RDB_MODULE_2) put(&m, "\1\5", 2); /* id; opcode of a string */
            put_len(&m, n);
            put(&m, "some bytes", 10);
            refused(types[i], "unexpected end of input");
        }
    }
}

static void every_type_has_its_kind(void **state)
{
    (void)state;
    const char *const kind[] = {
        "string", "list",   "set",  "zset", "hash", "zset",   NULL,     "module", NULL,   "hash",
        "list",   "set",    "zset", "hash", "list", "stream", "hash",   "zset",   "list", "stream",
        "set",    "stream", "hash", "hash", "hash", "hash",   "stream", "stream", "array"};
    for (unsigned t = 0; t < 400; t++) {
        bool known = t < 29 ? kind[t] != NULL : t == RDB_VALKEY_HASH_2;
        assert_int_equal(rdb_type_known(t), known);
        if (!known) continue;
        const char *want = t == RDB_VALKEY_HASH_2 ? "hash" : kind[t];
        assert_string_equal(rdb_kind_name(rdb_kind_of((enum rdb_type)t)), want);
    }
    assert_int_equal(rdb_type_byte(RDB_VALKEY_HASH_2), 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(module_data_of_each_opcode),
        cmocka_unit_test(array_elements_of_each_kind),
        cmocka_unit_test(many_short_strings),
        cmocka_unit_test(text_scores),
        cmocka_unit_test(any_size_passes_when_let_go),
        cmocka_unit_test(no_length_is_too_large_to_be_missed),
        cmocka_unit_test(every_type_has_its_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
