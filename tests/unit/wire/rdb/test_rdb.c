// SPDX-License-Identifier: BSD-3-Clause
// Records: magic, every opcode, what is said about the next key, checksum, and the errors' words.
#include "make.h"

#include "wire/rdb/rdb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct make m;
static struct reader r;
static struct rdb f;
static struct rdb_rec rec;
static struct err err;

static void magic(const char *s)
{
    m.n = 0;
    put(&m, s, strlen(s));
}

static void put_key(const char *key)
{
    put_u8(&m, RDB_STRING);
    put_str(&m, key);
    put_str(&m, "value");
}

static void open_it(void)
{
    reader_init_starving(&r, m.p, m.n);
    if (rdb_open(&f, &r, &err) < 0) fail_msg("%s", err.msg);
}

static void next(enum rdb_rec_kind kind)
{
    int rc = rdb_next(&f, &rec, &err);
    if (rc != 1) fail_msg("%d: %s", rc, rc < 0 ? err.msg : "end");
    assert_int_equal(rec.kind, kind);
    assert_ptr_equal(r.keep, r.p); /* released */
}

static void next_key(const char *key)
{
    next(RDB_REC_KEY);
    assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
    if (!span_eq(rec.a, span_str(key))) fail_msg("expected key %s", key);
}

static void end(void)
{
    int rc = rdb_next(&f, &rec, &err);
    if (rc != 0) fail_msg("%s", rc < 0 ? err.msg : "expected the end");
    assert_false(r.crc_on);
    rdb_release(&f);
}

static void fails(enum err_code code, const char *words)
{
    int rc = rdb_next(&f, &rec, &err);
    if (rc >= 0) fail_msg("expected: %s", words);
    if (err.code != code || !strstr(err.msg, words)) fail_msg("%s\nbut: %s", words, err.msg);
    rdb_release(&f);
}

static void the_magic_tells_version_and_flavour(void **state)
{
    (void)state;
    const struct {
        const char *magic;
        unsigned version;
        bool valkey;
    } good[] = {{"REDIS0001", 1, false}, {"REDIS0014", 14, false}, {"VALKEY080", 80, true}};
    for (size_t i = 0; i < 3; i++) {
        magic(good[i].magic);
        open_it();
        assert_int_equal(f.version, good[i].version);
        assert_int_equal(f.valkey, good[i].valkey);
        rdb_release(&f);
    }
    const char *const bad[] = {"REDIS0000", "REDIS0080", "VALKEY011", "REDIS00x1", "VALKEY08 ",
                               "redis0011", "REDI",      "",          "<html>..."};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        magic(bad[i]);
        reader_init_starving(&r, m.p, m.n);
        assert_int_equal(rdb_open(&f, &r, &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
        rdb_release(&f);
    }
}

static void every_record(void **state)
{
    (void)state;
    magic("REDIS0012");
    put_u8(&m, 250);
    put_str(&m, "redis-bits");
    put(&m, "\xc0\x40", 2);
    put_u8(&m, 245);
    put_str(&m, "#!lua name=x\n");
    put_u8(&m, 247);
    put_len(&m, 0xb5eb2d7f8bb0b5ull << 8 | 1); /* checked below only for being 9 characters */
    put_len(&m, 2);
    put_len(&m, 1);
    put_len(&m, 5);
    put_str(&m, "data");
    put_len(&m, 0);
    put_u8(&m, 254);
    put_len(&m, 300);
    put_u8(&m, 251);
    put_len(&m, 7);
    put_len(&m, 3);
    put_u8(&m, 244);
    put_len(&m, 16383);
    put_len(&m, 2);
    put_len(&m, 1);
    put_key("k");
    put_eof(&m);
    open_it();
    next(RDB_REC_AUX);
    assert_true(span_is(rec.a, "redis-bits") && span_is(rec.b, "64"));
    next(RDB_REC_FUNCTION);
    assert_true(span_is(rec.a, "#!lua name=x\n"));
    next(RDB_REC_MODULE_AUX);
    assert_int_equal(rec.a.n, 9);
    next(RDB_REC_SELECTDB);
    assert_int_equal(rec.n, 300);
    next(RDB_REC_RESIZEDB);
    assert_true(rec.n == 7 && rec.m == 3);
    next(RDB_REC_SLOT_INFO);
    assert_true(rec.n == 16383 && rec.m == 2);
    next_key("k");
    assert_true(rec.expire_ms == -1 && rec.idle_s == -1 && rec.freq == -1 && !rec.has_meta);
    end();
    assert_int_equal(reader_pos(&r), m.n);
}

static void a_module_name_is_spelt_from_its_id(void **state)
{
    (void)state;
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t id = 0;
    for (const char *c = "ReJSON-RL"; *c; c++)
        id = id << 6 | (uint64_t)(strchr(set, *c) - set);
    magic("REDIS0009");
    put_u8(&m, 247);
    put_len(&m, id << 10 | 3);
    put_len(&m, 2);
    put_len(&m, 2);
    put_len(&m, 0);
    put_u8(&m, 247);
    put_len(&m, id << 10 | 3);
    put_len(&m, 1);
    open_it();
    next(RDB_REC_MODULE_AUX);
    assert_memory_equal(rec.a.p, "ReJSON-RL", 9);
    fails(ERR_FORMAT, "expected module opcode 2");
}

static void what_is_said_holds_for_the_next_key_only(void **state)
{
    (void)state;
    magic("REDIS0013");
    put_u8(&m, 253);
    put_le(&m, (uint32_t)-5, 4);
    put_u8(&m, 249);
    put_u8(&m, 255);
    put_u8(&m, 250); /* KeyDB puts an AUX here */
    put_str(&m, "mvcc-tstamp");
    put_str(&m, "1");
    put_key("a");
    put_key("b");
    put_u8(&m, 252);
    put_le(&m, 1700000000123, 8);
    put_u8(&m, 248);
    put_len(&m, 70000);
    put_u8(&m, 243);
    put_len(&m, 2);
    put_le(&m, 0x12345678, 4);
    put_len(&m, 0);
    put_le(&m, 0x12345678, 4);
    put_len(&m, 2);
    put_len(&m, 5);
    put_len(&m, 0);
    put_key("c");
    put_key("d");
    put_eof(&m);
    open_it();
    next(RDB_REC_AUX);
    next_key("a");
    assert_true(rec.expire_ms == -5000 && rec.freq == 255 && rec.idle_s == -1 && !rec.has_meta);
    next_key("b");
    assert_true(rec.expire_ms == -1 && rec.freq == -1);
    next_key("c");
    assert_true(rec.expire_ms == 1700000000123 && rec.idle_s == 70000 && rec.has_meta);
    next_key("d");
    assert_true(rec.expire_ms == -1 && rec.idle_s == -1 && !rec.has_meta);
    end();
}

static void seconds_before_and_after_2038(void **state)
{
    (void)state;
    magic("REDIS0003");
    put_u8(&m, 253);
    put_le(&m, INT32_MAX, 4);
    put_key("a");
    put_u8(&m, 255);
    put(&m, "+OK", 3); /* no checksum before version 5: what follows is not ours */
    open_it();
    next_key("a");
    assert_true(rec.expire_ms == 2147483647000);
    end();
    assert_int_equal(reader_pos(&r), m.n - 3);
}

static void one_number_means_two_things_by_magic(void **state)
{
    (void)state;
    magic("VALKEY080");
    put_u8(&m, 243); /* Valkey: an unfinished slot import */
    put_str(&m, "0123456789012345678901234567890123456789");
    put_len(&m, 2);
    put_len(&m, 0);
    put_len(&m, 99);
    put_len(&m, 200);
    put_len(&m, 16383);
    put_u8(&m, 22);
    put_str(&m, "h");
    put_len(&m, 1);
    put_str(&m, "f");
    put_str(&m, "v");
    put_le(&m, UINT64_MAX, 8);
    put_eof(&m);
    open_it();
    next_key("h");
    assert_int_equal(rec.type, RDB_VALKEY_HASH_2);
    end();
    magic("REDIS0012");
    put_u8(&m, 22);
    put_str(&m, "h");
    open_it();
    next(RDB_REC_KEY);
    assert_int_equal(rec.type, RDB_HASH_METADATA_PRE_GA);
    rdb_release(&f);
}

static void what_is_unknown_is_named_with_advice(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        bool redis = byte <= 28 ? byte != 6 && byte != 8 : byte >= 243;
        bool valkey = byte <= 22 ? byte != 6 && byte != 8 : byte >= 243;
        for (int flavour = 0; flavour < 2; flavour++) {
            if (flavour ? valkey : redis) continue;
            char words[64];
            magic(flavour ? "VALKEY081" : "REDIS0015");
            put_u8(&m, byte);
            put_str(&m, "k");
            open_it();
            snprintf(words, sizeof(words), "RDB byte 10: unknown %s %u",
                     byte < 242 ? "value type" : "opcode", byte);
            fails(ERR_FORMAT, byte == 6 ? "release candidates of Redis 4.0" : words);
            if (byte != 6) assert_non_null(strstr(err.msg, "update keyhaul"));
        }
    }
    magic("REDIS0010");
    put_u8(&m, 246);
    open_it();
    fails(ERR_FORMAT, "FUNCTION FLUSH");
}

static void the_checksum_counts(void **state)
{
    (void)state;
    magic("REDIS0011");
    put_key("a");
    put_eof(&m);
    for (size_t i = 0; i < 8; i++) { /* each byte of it */
        m.p[m.n - 1 - i] ^= 0x10;
        open_it();
        next_key("a");
        fails(ERR_FORMAT, "checksum is wrong");
        m.p[m.n - 1 - i] ^= 0x10;
    }
    m.p[11] ^= 1; /* a byte of the key */
    open_it();
    next(RDB_REC_KEY);
    assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
    fails(ERR_FORMAT, "checksum is wrong");
    memset(m.p + m.n - 8, 0, 8); /* not computed: anything goes */
    open_it();
    next(RDB_REC_KEY);
    assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
    end();
    m.n -= 3; /* cut in the checksum */
    open_it();
    next(RDB_REC_KEY);
    assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
    fails(ERR_FORMAT, "unexpected end of input");
}

/* A bulk header before, a command stream behind: neither is touched. */
static void it_stands_within_other_bytes(void **state)
{
    (void)state;
    static struct make all;
    magic("REDIS0011");
    put_key("a");
    put_eof(&m);
    all.n = 0;
    put(&all, "$99\r\n", 5);
    put(&all, m.p, m.n);
    put(&all, "*1\r\n", 4);
    for (int way = 0; way < 2; way++) {
        (way ? reader_init_mem : reader_init_starving)(&r, all.p, all.n);
        assert_int_equal(reader_need(&r, 5, &err), 0);
        r.p += 5;
        r.crc_on = true; /* left over from a connection before */
        r.crc = 77;
        assert_int_equal(rdb_open(&f, &r, &err), 0);
        next_key("a");
        end();
        assert_int_equal(reader_pos(&r), 5 + m.n);
        if (way == 0) assert_ptr_equal(r.end, r.p); /* asked for not a byte more */
        assert_int_equal(reader_need(&r, 4, &err), 0);
        assert_memory_equal(r.p, "*1\r\n", 4);
    }
}

static void keys_come_in_every_encoding(void **state)
{
    (void)state;
    magic("REDIS0011");
    put_key("");
    put_u8(&m, 0);
    put(&m, "\xc1\xd2\x04", 3);
    put_str(&m, "v");
    put_u8(&m, 0);
    put(&m, "\xc3\x05\x0a\x00x\xe0\x00\x00", 8);
    put_str(&m, "v");
    put_u8(&m, 0);
    put_bytes(&m, "a\0\r\n", 4);
    put_str(&m, "v");
    put_eof(&m);
    open_it();
    next_key("");
    assert_non_null(rec.a.p);
    next_key("1234");
    next_key("xxxxxxxxxx");
    next(RDB_REC_KEY);
    assert_true(span_eq(rec.a, span_of("a\0\r\n", 4)));
    assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
    end();
}

/* A key larger than what the reader can hold, up to the limit; beyond it is refused. */
static void long_keys(void **state)
{
    (void)state;
    static uint8_t file[RDB_KEY_MAX + 100];
    for (int over = 0; over < 2; over++) {
        size_t n = RDB_KEY_MAX + (unsigned)over;
        magic("REDIS0003");
        put_u8(&m, 0);
        put_len(&m, n);
        memcpy(file, m.p, m.n);
        memset(file + m.n, 'k', n);
        memcpy(file + m.n + n, "\x01v\xff", 3);
        reader_init_mem(&r, file, m.n + n + 3);
        r.cap = 1 << 20;
        assert_int_equal(rdb_open(&f, &r, &err), 0);
        if (over) {
            fails(ERR_LIMIT, "a key of 8388609 bytes");
            continue;
        }
        next(RDB_REC_KEY);
        assert_int_equal(rec.a.n, n);
        assert_true(rec.a.p[0] == 'k' && rec.a.p[n - 1] == 'k');
        assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_magic_tells_version_and_flavour),
        cmocka_unit_test(every_record),
        cmocka_unit_test(a_module_name_is_spelt_from_its_id),
        cmocka_unit_test(what_is_said_holds_for_the_next_key_only),
        cmocka_unit_test(seconds_before_and_after_2038),
        cmocka_unit_test(one_number_means_two_things_by_magic),
        cmocka_unit_test(what_is_unknown_is_named_with_advice),
        cmocka_unit_test(the_checksum_counts),
        cmocka_unit_test(it_stands_within_other_bytes),
        cmocka_unit_test(keys_come_in_every_encoding),
        cmocka_unit_test(long_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
