// SPDX-License-Identifier: BSD-3-Clause
// What the tests of the packed encodings share: a blob as text, and hostile blobs.
#ifndef TESTS_WIRE_RDB_PACKED_CHECK_H
#define TESTS_WIRE_RDB_PACKED_CHECK_H

#include "make.h"

#include "wire/rdb/packed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Open `blob`, append each value and a space to out. Its number, or -1. */
typedef int packed_read_fn(struct span blob, struct buf *out, struct err *err);

/* Body of such a function for encoding `kind`. */
#define PACKED_READ(kind)                                                                          \
    static int kind##_read(struct span blob, struct buf *out, struct err *err)                     \
    {                                                                                              \
        struct kind it;                                                                            \
        struct packed_val v;                                                                       \
        size_t n = 0, seen = 0;                                                                    \
        if (kind##_open(&it, blob, &n, err) < 0) return -1;                                        \
        for (; kind##_next(&it, &v); seen++)                                                       \
            packed_add(out, &v, blob);                                                             \
        assert_int_equal(seen, n);                                                                 \
        return (int)n;                                                                             \
    }

static inline void packed_add(struct buf *out, const struct packed_val *v, struct span blob)
{
    char text[NUM_INT64_CHARS];
    struct span s = packed_text(v, text);
    assert_true(v->is_int || (s.p >= blob.p && s.n <= (size_t)(blob.p + blob.n - s.p)));
    assert_int_equal(buf_add(out, s.p, s.n, NULL), 0);
    assert_int_equal(buf_add(out, " ", 1, NULL), 0);
}

static inline void packed_is(packed_read_fn *read, struct span blob, const char *want)
{
    struct buf out;
    struct err err;
    buf_init(&out, 1 << 20);
    if (read(blob, &out, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(out.n, strlen(want));
    if (out.n) assert_memory_equal(out.p, want, out.n);
    buf_release(&out);
}

static inline void packed_bad(packed_read_fn *read, struct span blob, const char *words)
{
    struct buf out;
    struct err err = {.code = ERR_NONE};
    uint8_t *copy = malloc(blob.n + !blob.n); /* exactly so long: a sanitizer sees a step beyond */
    assert_non_null(copy);
    memcpy(copy, blob.p, blob.n);
    buf_init(&out, 1 << 20);
    int rc = read(span_of(copy, blob.n), &out, &err);
    if (rc >= 0) fail_msg("taken as good, but expected: %s", words);
    assert_int_equal(err.code, ERR_FORMAT);
    if (!strstr(err.msg, words)) fail_msg("expected \"%s\" in \"%s\"", words, err.msg);
    buf_release(&out);
    free(copy);
}

/* Cut short, bits flipped, and noise behind a header that fits: an error or a clean walk. */
static inline void packed_hostile(packed_read_fn *read, struct span good, size_t fixed_header)
{
    uint64_t seed = 7;
    struct buf out;
    buf_init(&out, 8u << 20);
    for (int round = 0; round < 20000; round++) {
        size_t n = round < (int)good.n ? (size_t)round : good.n;
        if (round % 3 == 2) n = fixed_header + 1 + next_random(&seed) % 40;
        if (n > good.n) n = good.n;
        uint8_t *p = malloc(n + !n);
        assert_non_null(p);
        memcpy(p, good.p, n);
        if (round % 3 == 2 && n > fixed_header) {
            for (size_t i = fixed_header; i + 1 < n; i++)
                p[i] = (uint8_t)next_random(&seed);
            p[n - 1] = 0xff;
        }
        for (unsigned flips = round % 4; n && flips; flips--)
            p[next_random(&seed) % n] ^= (uint8_t)(1u << (next_random(&seed) & 7));
        if (round & 1 && n >= 4) /* let the length be right, so that the rest is looked at */
            for (unsigned i = 0; i < 4; i++)
                p[i] = (uint8_t)(n >> (8 * i));
        buf_clear(&out);
        (void)!read(span_of(p, n), &out, NULL);
        free(p);
    }
    buf_release(&out);
}

#endif
