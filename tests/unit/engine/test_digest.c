// SPDX-License-Identifier: BSD-3-Clause
// Digests of values whose elements are too large to be sorted in memory: those that are told by the
// definition, from all elements sorted here.
#include "engine/digest.h"

#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MB     (1u << 20)
#define N_KEYS 9

struct elem {
    struct buf key, value;
    double score;
    int64_t expire_ms;
};

/* Ends of each other, equal up to the last byte, and small ones between the large. */
static struct elem elems[N_KEYS];

static void fill(struct buf *b, size_t n, int last)
{
    buf_init(b, 8 * MB);
    assert_int_equal(buf_reserve(b, n + 1, NULL), 0);
    for (size_t i = 0; i < n; i++)
        b->p[i] = (uint8_t)('a' + i / 7 % 20);
    if (last && n) b->p[n - 1] = (uint8_t)last;
    b->n = n;
}

static int make_elems(void **state)
{
    (void)state;
    const struct {
        size_t n;
        int last;
        size_t value;
    } c[N_KEYS] = {
        {MB + 5000, 'z', 3}, {20, 0, MB + 1},      {MB + 5000, 'y', 2 * MB},
        {MB, 0, 10},         {MB + 4999, 0, 0},    {5, 0xff, 5},
        {0, 0, 3 * MB},      {3 * MB, 0, MB + 77}, {6, 0x01, 4},
    };
    for (int i = 0; i < N_KEYS; i++) {
        struct elem *e = &elems[i];
        fill(&e->key, c[i].n, c[i].last);
        fill(&e->value, c[i].value, 'A' + i);
        e->score = i * -1.75;
        e->expire_ms = i % 2 ? 1700000000000LL + i : -1;
    }
    return 0;
}

static int free_elems(void **state)
{
    (void)state;
    for (int i = 0; i < N_KEYS; i++) {
        buf_release(&elems[i].key);
        buf_release(&elems[i].value);
    }
    return 0;
}

/* --- the value, as it lies in a file --- */

static void add(struct buf *b, const void *p, size_t n)
{
    assert_int_equal(buf_add(b, p, n, NULL), 0);
}

static void add_le(struct buf *b, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        add(b, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

static void add_be(struct buf *b, uint64_t v, unsigned n)
{
    while (n--)
        add(b, &(uint8_t){(uint8_t)(v >> 8 * n)}, 1);
}

static void add_str(struct buf *b, const struct buf *s)
{
    add(b, "\x80", 1);
    add_be(b, s->n, 4);
    add(b, s->p, s->n);
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

static void make_value(struct buf *b, enum rdb_type type)
{
    buf_init(b, 64 * MB);
    add(b, &(uint8_t){N_KEYS}, 1);
    for (int i = 0; i < N_KEYS; i++) {
        const struct elem *e = &elems[i];
        if (type == RDB_LIST_QUICKLIST_2) add(b, "\x01", 1); /* a plain node */
        if (type == RDB_HASH_METADATA_PRE_GA) {              /* expiry, 0: none */
            add(b, "\x81", 1);
            add_be(b, e->expire_ms == -1 ? 0 : (uint64_t)e->expire_ms, 8);
        }
        add_str(b, &e->key);
        if (rdb_kind_of(type) == RDB_KIND_HASH) add_str(b, &e->value);
        if (type == RDB_ZSET_2) add_le(b, bits_of(e->score));
        if (type == RDB_VALKEY_HASH_2) add_le(b, (uint64_t)e->expire_ms);
    }
}

/* --- what docs/formats/canonical.md says --- */

static int by_key(const void *a, const void *b)
{
    const struct buf *x = &elems[*(const int *)a].key, *y = &elems[*(const int *)b].key;
    size_t n = x->n < y->n ? x->n : y->n;
    int c = n ? memcmp(x->p, y->p, n) : 0;
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static void add_b(struct buf *out, const struct buf *s)
{
    add_be(out, s->n, 4);
    add(out, s->p, s->n);
}

static void sha256(struct buf *of, uint8_t *out)
{
    assert_int_equal(EVP_Digest(of->p, of->n, out, NULL, EVP_sha256(), NULL), 1);
    buf_release(of);
}

static void expect(enum rdb_type type, struct digest_result *ret)
{
    enum rdb_kind kind = rdb_kind_of(type);
    int order[N_KEYS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    struct buf content, state;
    buf_init(&content, 64 * MB);
    buf_init(&state, 64 * MB);
    add(&content, rdb_kind_name(kind), strlen(rdb_kind_name(kind)) + 1);
    if (kind != RDB_KIND_LIST) qsort(order, N_KEYS, sizeof(int), by_key);
    for (int i = 0; i < N_KEYS; i++) {
        const struct elem *e = &elems[order[i]];
        add_b(&content, &e->key);
        if (kind == RDB_KIND_ZSET) add_be(&content, bits_of(e->score), 8);
        if (kind == RDB_KIND_HASH) add_b(&content, &e->value);
        if (type == RDB_HASH || kind != RDB_KIND_HASH || e->expire_ms == -1) continue;
        add_b(&state, &e->key);
        add_be(&state, (uint64_t)e->expire_ms, 8);
    }
    *ret = (struct digest_result){.counted = true, .elements = N_KEYS, .has_state = state.n > 0};
    sha256(&content, ret->content);
    sha256(&state, ret->state);
}

static void check(struct digest *d, enum rdb_type type, bool starve)
{
    struct digest_result want, got;
    struct reader r;
    struct buf value;
    struct err err;
    make_value(&value, type);
    expect(type, &want);
    (starve ? reader_init_starving : reader_init_mem)(&r, value.p, value.n);
    r.cap = 4 * MB; /* nothing that is larger is ever held */
    if (digest_value(d, &r, type, &got, &err) < 0) fail_msg("type %d: %s", (int)type, err.msg);
    assert_int_equal(reader_pos(&r), value.n);
    assert_true(got.counted);
    assert_int_equal(got.elements, want.elements);
    assert_memory_equal(got.content, want.content, DIGEST_BYTES);
    assert_int_equal(got.has_state, want.has_state);
    if (want.has_state) assert_memory_equal(got.state, want.state, DIGEST_BYTES);
    buf_release(&value);
}

static void large_elements_are_as_any(void **state)
{
    (void)state;
    static const enum rdb_type types[] = {
        RDB_LIST, RDB_LIST_QUICKLIST_2,     RDB_SET,          RDB_ZSET_2,
        RDB_HASH, RDB_HASH_METADATA_PRE_GA, RDB_VALKEY_HASH_2};
    struct digest *d;
    struct err err;
    assert_int_equal(digest_new(&d, "/tmp", &err), 0);
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
            check(d, types[i], false);
    check(d, RDB_VALKEY_HASH_2, true);
    digest_free(d);
}

/* Cut off anywhere: an error, and the next value is told as if nothing had been. */
static void a_cut_leaves_nothing_behind(void **state)
{
    (void)state;
    struct digest *d;
    struct digest_result got;
    struct err err;
    struct buf value;
    assert_int_equal(digest_new(&d, "/tmp", &err), 0);
    make_value(&value, RDB_VALKEY_HASH_2);
    for (size_t n = 0; n < value.n; n += value.n / 13) {
        struct reader r;
        reader_init_mem(&r, value.p, n);
        assert_int_equal(digest_value(d, &r, RDB_VALKEY_HASH_2, &got, &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
    }
    buf_release(&value);
    check(d, RDB_SET, false);
    digest_free(d);
}

static void a_file_that_cannot_be_made_is_told(void **state)
{
    (void)state;
    struct digest *d;
    struct digest_result got;
    struct err err;
    struct buf value;
    struct reader r;
    assert_int_equal(digest_new(&d, "/proc/nowhere", &err), 0);
    make_value(&value, RDB_SET);
    reader_init_mem(&r, value.p, value.n);
    assert_int_equal(digest_value(d, &r, RDB_SET, &got, &err), -1);
    assert_true(err.code == ERR_IO);
    buf_release(&value);
    digest_free(d);
}

/* A stream without messages, of one group: pending is `id`, once; its consumer has `owned`. */
static int digest_pending(struct digest *d, uint8_t id, uint8_t owned, struct err *err)
{
    struct digest_result got;
    struct reader r;
    uint8_t pel[16 + 8 + 1] = {0}, consumer[1 + 1 + 8 + 1 + 16] = {1, 'c', [10] = 1};
    struct buf value;
    buf_init(&value, 1000);
    add(&value, "\0\0\0\0\1\1g\0\0\1", 10); /* no nodes, length, last ID; g, ID, 1 pending */
    pel[15] = id;
    pel[24] = 7; /* deliveries */
    add(&value, pel, sizeof(pel));
    add(&value, "\1", 1);
    consumer[26] = owned;
    add(&value, consumer, sizeof(consumer));
    reader_init_mem(&r, value.p, value.n);
    int rc = digest_value(d, &r, RDB_STREAM, &got, err);
    buf_release(&value);
    return rc;
}

/* Else its deliveries would be those of whatever entry came before, be it of another key. */
static void a_consumer_cannot_have_what_its_group_has_not(void **state)
{
    (void)state;
    struct digest *d;
    struct err err;
    assert_int_equal(digest_new(&d, "/tmp", &err), 0);
    assert_int_equal(digest_pending(d, 5, 5, &err), 0);
    for (uint8_t owned = 4; owned <= 6; owned += 2) {
        assert_int_equal(digest_pending(d, 5, owned, &err), -1);
        assert_int_equal(err.code, ERR_FORMAT);
        assert_non_null(strstr(err.msg, "pending entry"));
    }
    assert_int_equal(digest_pending(d, 5, 5, &err), 0);
    digest_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_elements_are_as_any),
        cmocka_unit_test(a_cut_leaves_nothing_behind),
        cmocka_unit_test(a_file_that_cannot_be_made_is_told),
        cmocka_unit_test(a_consumer_cannot_have_what_its_group_has_not),
    };
    return cmocka_run_group_tests(tests, make_elems, free_elems);
}
