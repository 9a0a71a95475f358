// SPDX-License-Identifier: BSD-3-Clause
// RDB lengths and strings: every form, its limits, and LZF whole and in pieces.
#include "make.h"

#include "wire/rdb/str.h"

#include <lzf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct make m;

static struct reader over(const struct make *b)
{
    struct reader r;
    reader_init_starving(&r, b->p, b->n);
    return r;
}

static void a_length_is_read_back_in_every_width(void **state)
{
    (void)state;
    const uint64_t v[] = {0,     1,     63,    64,         255,        256,
                          16383, 16384, 65536, UINT32_MAX, 1ull << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
        m.n = 0;
        put_len(&m, v[i]);
        struct reader r = over(&m);
        uint64_t got = 77;
        assert_int_equal(rdb_len(&r, &got, NULL), 0);
        assert_true(got == v[i]);
        assert_int_equal(reader_pos(&r), m.n);
        for (size_t cut = 0; cut < m.n; cut++) {
            reader_init_mem(&r, m.p, cut);
            assert_int_equal(rdb_len(&r, &got, NULL), -1);
        }
    }
}

static void what_is_no_length_is_refused_with_its_place(void **state)
{
    (void)state;
    struct err err;
    for (unsigned c = 0x82; c < 0x100; c++) {
        m.n = 0;
        put_u8(&m, 5);
        put_u8(&m, c);
        put_le(&m, 0, 8);
        struct reader r = over(&m);
        uint64_t got = 77;
        assert_int_equal(rdb_len(&r, &got, &err), 0);
        got = 77;
        assert_int_equal(rdb_len(&r, &got, &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
        assert_non_null(strstr(err.msg, c < 0xc0 ? "RDB byte 1:" : "RDB byte 2:"));
        assert_int_equal(got, 77);
    }
}

static void get(struct buf *scratch, struct span *s)
{
    struct reader r = over(&m);
    struct err err;
    buf_clear(scratch);
    if (rdb_str_get(&r, scratch, 1 << 20, s, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(reader_pos(&r), m.n);
    reader_init_mem(&r, m.p, m.n);
    assert_int_equal(rdb_str_skip(&r, true, &err), 0);
    assert_int_equal(reader_pos(&r), m.n);
    uint64_t stored;
    reader_init_mem(&r, m.p, m.n);
    assert_int_equal(rdb_str_stored(&r, &stored, &err), 0);
    assert_int_equal(reader_pos(&r) + stored, m.n);
}

static void integers_stand_for_their_text(void **state)
{
    (void)state;
    const struct {
        unsigned code, width;
        int64_t v;
        const char *text;
    } t[] = {
        {0xc0, 1, 0, "0"},
        {0xc0, 1, 127, "127"},
        {0xc0, 1, -128, "-128"},
        {0xc1, 2, 32767, "32767"},
        {0xc1, 2, -32768, "-32768"},
        {0xc2, 4, INT32_MAX, "2147483647"},
        {0xc2, 4, INT32_MIN, "-2147483648"},
    };
    struct buf scratch;
    struct span s;
    buf_init(&scratch, 1 << 20);
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        m.n = 0;
        put_u8(&m, t[i].code);
        put_le(&m, (uint64_t)t[i].v, t[i].width);
        get(&scratch, &s);
        assert_true(span_eq(s, span_str(t[i].text)));
    }
    buf_release(&scratch);
}

static void a_raw_string_is_not_copied(void **state)
{
    (void)state;
    struct buf scratch;
    struct span s;
    buf_init(&scratch, 10);
    m.n = 0;
    put_bytes(&m, "a\0b\r\n", 5);
    get(&scratch, &s);
    assert_ptr_equal(s.p, m.p + 1);
    assert_int_equal(s.n, 5);
    assert_null(scratch.p);
}

static void limits_and_unknown_encodings_are_errors(void **state)
{
    (void)state;
    struct buf scratch;
    struct span s = {NULL, 77};
    struct err err;
    buf_init(&scratch, 10);
    m.n = 0;
    put_bytes(&m, "0123456789", 10);
    struct reader r = over(&m);
    assert_int_equal(rdb_str_get(&r, &scratch, 9, &s, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(s.n, 77);
    for (unsigned code = 0xc4; code <= 0xff; code++) {
        m.n = 0;
        put_u8(&m, code);
        put_le(&m, 0, 8);
        r = over(&m);
        assert_int_equal(rdb_str_get(&r, &scratch, 9, &s, &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
        r = over(&m);
        assert_int_equal(rdb_str_skip(&r, false, &err), -1);
    }
    m.n = 0; /* 2^64-1 bytes announced: no allocation, an error */
    put_len(&m, UINT64_MAX);
    r = over(&m);
    assert_int_equal(rdb_str_get(&r, &scratch, SIZE_MAX, &s, &err), -1);
    r = over(&m);
    assert_int_equal(rdb_str_skip(&r, true, &err), -1);
}

/* Compressible noise: pieces of what came before, at all distances up to beyond the window. */
static size_t make_noise(uint8_t *p, size_t n, uint64_t seed)
{
    size_t at = 0;
    while (at < n) {
        uint64_t x = next_random(&seed);
        size_t len = 1 + (x >> 8) % 300, off = 1 + (x >> 20) % 9000;
        if (len > n - at) len = n - at;
        for (size_t i = 0; i < len; i++, at++)
            p[at] = (x & 7) && off <= at ? p[at - off] : (uint8_t)(x >> 40);
    }
    return at;
}

static void put_lzf(const uint8_t *p, size_t n, size_t said)
{
    static uint8_t packed[60000];
    unsigned k = lzf_compress(p, (unsigned)n, packed, sizeof(packed));
    assert_true(k > 0);
    m.n = 0;
    put_u8(&m, 0xc3);
    put_len(&m, k);
    put_len(&m, said);
    put(&m, packed, k);
}

static void check_pieces(struct reader *r, const uint8_t *want, size_t n)
{
    struct rdb_str s;
    struct rdb_pieces it;
    struct span piece;
    struct err err;
    size_t at = 0;
    int rc;
    assert_int_equal(rdb_str_head(r, &s, &err), 0);
    assert_int_equal(s.n, n);
    assert_int_equal(rdb_pieces_begin(&it, &s, &err), 0);
    while ((rc = rdb_pieces_next(&it, r, &piece, &err)) > 0) {
        assert_true(piece.n > 0 && piece.n <= n - at);
        assert_memory_equal(piece.p, want + at, piece.n);
        assert_ptr_equal(r->p - r->keep, s.kind == RDB_STR_RAW ? piece.n : 0);
        at += piece.n;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(at, n);
    assert_int_equal(reader_pos(r), m.n);
    rdb_pieces_end(&it);
}

static void lzf_unfolds_whole_and_in_pieces(void **state)
{
    (void)state;
    static uint8_t text[300000];
    struct buf scratch;
    struct span s;
    buf_init(&scratch, 1 << 20);
    for (uint64_t seed = 1; seed <= 40; seed++) {
        size_t n = make_noise(text, seed * 7001, seed * 0x9e3779b97f4a7c15u);
        put_lzf(text, n, n);
        get(&scratch, &s);
        assert_true(span_eq(s, span_of(text, n)));
        struct reader r;
        reader_init_mem(&r, m.p, m.n);
        check_pieces(&r, text, n);
        r = over(&m);
        check_pieces(&r, text, n);
    }
    buf_release(&scratch);
}

static void raw_and_integer_strings_come_in_pieces_too(void **state)
{
    (void)state;
    m.n = 0;
    put_str(&m, "hello");
    struct reader r = over(&m);
    check_pieces(&r, (const uint8_t *)"hello", 5);
    m.n = 0;
    put_u8(&m, 0xc1);
    put_le(&m, 1234, 2);
    r = over(&m);
    check_pieces(&r, (const uint8_t *)"1234", 4);
    m.n = 0;
    put_str(&m, "");
    r = over(&m);
    check_pieces(&r, (const uint8_t *)"", 0);
}

/* A literal 'x', then copies of 264 bytes from 1 back: 512 MB out of 6 MB. */
static int fill_bomb(struct reader *r, size_t drop, size_t need, struct err *err)
{
    static const uint8_t copies[] = {0xe0, 0xff, 0x00, 0xe0, 0xff, 0x00, 0xe0, 0xff, 0x00};
    (void)drop;
    (void)err;
    assert_true(need <= sizeof(copies));
    assert_ptr_equal(r->base + drop, r->end); /* all released: nothing is held */
    r->base = copies;
    r->end = copies + sizeof(copies);
    return 0;
}

static void half_a_gigabyte_needs_no_memory(void **state)
{
    (void)state;
    static const uint8_t first[] = {0x00, 'x'};
    const uint64_t copies = 3 * 650000;
    struct rdb_str s = {.kind = RDB_STR_LZF, .n = 1 + copies * 264, .stored = 2 + copies * 3};
    struct reader r = {.base = first, .keep = first, .p = first, .end = first + 2, .cap = 100};
    struct rdb_pieces it;
    struct span piece;
    uint64_t total = 0;
    int rc;
    r.fill = fill_bomb;
    assert_int_equal(rdb_pieces_begin(&it, &s, NULL), 0);
    while ((rc = rdb_pieces_next(&it, &r, &piece, NULL)) > 0) {
        assert_true(piece.n <= 65536 + 8192);
        assert_true(piece.p[0] == 'x' && memcmp(piece.p, piece.p + 1, piece.n - 1) == 0);
        total += piece.n;
    }
    assert_int_equal(rc, 0);
    assert_true(total == s.n && total > 500000000);
    rdb_pieces_end(&it);
}

/* Both ways must refuse: the payload is `p`, the announced size `said`. */
static void refuse_lzf(const void *p, size_t n, uint64_t said)
{
    struct buf scratch;
    struct span s;
    struct err err = {.code = ERR_NONE};
    struct rdb_str head;
    struct rdb_pieces it;
    m.n = 0;
    put_u8(&m, 0xc3);
    put_len(&m, n);
    put_len(&m, said);
    put(&m, p, n);
    struct reader r = over(&m);
    buf_init(&scratch, 1 << 20);
    assert_int_equal(rdb_str_get(&r, &scratch, 1 << 20, &s, &err), -1);
    assert_int_equal(err.code, ERR_FORMAT);
    buf_release(&scratch);
    r = over(&m);
    if (rdb_str_head(&r, &head, &err) < 0) return;
    assert_int_equal(rdb_pieces_begin(&it, &head, &err), 0);
    int rc;
    while ((rc = rdb_pieces_next(&it, &r, &s, &err)) > 0)
        ;
    assert_int_equal(rc, -1);
    rdb_pieces_end(&it);
}

static void broken_lzf_is_refused(void **state)
{
    (void)state;
    refuse_lzf("\x02"
               "abc",
               4, 2); /* more than announced */
    refuse_lzf("\x02"
               "abc",
               4, 4); /* less */
    refuse_lzf("\x03"
               "abc",
               4, 4); /* literals beyond the end */
    refuse_lzf("\x00"
               "a\x20\x01",
               4, 4); /* 2 back, 1 is there */
    refuse_lzf("\x00"
               "a\x20",
               3, 4); /* offset missing */
    refuse_lzf("\x00"
               "a\xe0",
               3, 10); /* length missing */
    refuse_lzf("\x00"
               "a\x20\x00"
               "\x00",
               5, 4); /* a control with nothing after it */
    refuse_lzf("\x00"
               "a\x40\x00",
               4, 4);       /* a copy beyond the announced size */
    refuse_lzf("a", 1, 89); /* no LZF is that good */
    refuse_lzf("", 0, 0);
}

/* Before anything is allocated for it. */
static void an_impossible_size_is_refused_by_the_head(void **state)
{
    (void)state;
    struct rdb_str s;
    struct err err;
    m.n = 0;
    put_u8(&m, 0xc3);
    put_len(&m, 10);
    put_len(&m, 1000);
    struct reader r = over(&m);
    assert_int_equal(rdb_str_head(&r, &s, &err), -1);
    assert_non_null(strstr(err.msg, "10 bytes of LZF cannot stand for 1000"));
}

static void mutated_lzf_gives_the_same_both_ways(void **state)
{
    (void)state;
    static uint8_t text[20000];
    uint64_t seed = 42;
    struct buf scratch;
    buf_init(&scratch, 1 << 20);
    int well = 0;
    for (int i = 0; i < 3000; i++) {
        size_t n = make_noise(text, 200 + next_random(&seed) % 15000, next_random(&seed));
        put_lzf(text, n, n);
        m.p[10 + next_random(&seed) % (m.n - 10)] ^= (uint8_t)(1u << (next_random(&seed) & 7));
        struct reader r = over(&m);
        struct span s;
        buf_clear(&scratch);
        int rc = rdb_str_get(&r, &scratch, 1 << 20, &s, NULL);
        r = over(&m);
        if (rc == 0) {
            check_pieces(&r, s.p, s.n);
            well++;
        }
    }
    assert_true(well > 100 && well < 2900);
    buf_release(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_length_is_read_back_in_every_width),
        cmocka_unit_test(what_is_no_length_is_refused_with_its_place),
        cmocka_unit_test(integers_stand_for_their_text),
        cmocka_unit_test(a_raw_string_is_not_copied),
        cmocka_unit_test(limits_and_unknown_encodings_are_errors),
        cmocka_unit_test(lzf_unfolds_whole_and_in_pieces),
        cmocka_unit_test(raw_and_integer_strings_come_in_pieces_too),
        cmocka_unit_test(half_a_gigabyte_needs_no_memory),
        cmocka_unit_test(broken_lzf_is_refused),
        cmocka_unit_test(an_impossible_size_is_refused_by_the_head),
        cmocka_unit_test(mutated_lzf_gives_the_same_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
