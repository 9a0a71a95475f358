// SPDX-License-Identifier: BSD-3-Clause
// RDB lengths and strings, whole. (Piece by piece: pieces.c.)
//
// The first byte tells by its two top bits:
//   00xxxxxx               6-bit length
//   01xxxxxx +1            14 bits, the high ones first
//   10000000 +4            32 bits, big endian
//   10000001 +8            64 bits, big endian (RDB 8)
//   11xxxxxx               not a length: 0-2 an integer of 1, 2, 4 bytes little endian, 3 LZF
#include "wire/rdb/str.h"

#include "base/num.h"

#include <limits.h>
#include <lzf.h>
#include <stdarg.h>
#include <stdio.h>

#define LEN_32 0x80
#define LEN_64 0x81

enum str_code { CODE_INT8, CODE_INT16, CODE_INT32, CODE_LZF };

/* The best LZF can do: 3 bytes stand for 264. */
#define LZF_MAX_RATIO 88

int rdb_bad(struct err *err, const struct reader *r, const char *fmt, ...)
{
    char words[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof(words), fmt, ap);
    va_end(ap);
    return err_set(err, ERR_FORMAT, "RDB byte %llu: %s", (unsigned long long)reader_pos(r), words);
}

static int wide_len(struct reader *r, uint64_t *ret, struct err *err)
{
    unsigned c = *r->p, n = c == LEN_32 ? 4 : 8;
    if (c > LEN_64) return rdb_bad(err, r, "expected a length, found byte %u", c);
    if (reader_need(r, n + 1, err) < 0) return -1;
    uint64_t v = 0;
    for (unsigned i = 1; i <= n; i++)
        v = v << 8 | r->p[i];
    r->p += n + 1;
    *ret = v;
    return 0;
}

/* 0: a length. 1: *ret is the number of a special string encoding. */
static inline int len_or_code(struct reader *r, uint64_t *ret, struct err *err)
{
    if (reader_need(r, 1, err) < 0) return -1;
    unsigned c = *r->p;
    if (KH_LIKELY(c < 0x40)) {
        r->p++;
        *ret = c;
        return 0;
    }
    if (c < 0x80) {
        if (reader_need(r, 2, err) < 0) return -1;
        *ret = (c & 0x3f) << 8 | r->p[1];
        r->p += 2;
        return 0;
    }
    if (c < 0xc0) return wide_len(r, ret, err);
    r->p++;
    *ret = c & 0x3f;
    return 1;
}

int rdb_len(struct reader *r, uint64_t *ret, struct err *err)
{
    uint64_t v;
    int rc = len_or_code(r, &v, err);
    if (rc < 0) return -1;
    if (rc > 0) return rdb_bad(err, r, "expected a length, found string encoding %u", (unsigned)v);
    *ret = v;
    return 0;
}

static int int_head(struct reader *r, unsigned code, struct rdb_str *s, struct err *err)
{
    unsigned n = 1u << code;
    if (reader_need(r, n, err) < 0) return -1;
    uint32_t v = 0;
    for (unsigned i = n; i-- > 0;)
        v = v << 8 | r->p[i];
    r->p += n;
    int64_t i = n == 1 ? (int8_t)v : n == 2 ? (int16_t)v : (int32_t)v;
    s->kind = RDB_STR_INT;
    s->stored = 0;
    s->n = num_put_i64(s->text, i);
    return 0;
}

static int lzf_head(struct reader *r, uint64_t *ret_stored, uint64_t *ret_n, struct err *err)
{
    uint64_t stored = 0, n = 0;
    if (rdb_len(r, &stored, err) < 0 || rdb_len(r, &n, err) < 0) return -1;
    if (stored == 0 || n == 0 || n / LZF_MAX_RATIO > stored)
        return rdb_bad(err, r, "%llu bytes of LZF cannot stand for %llu",
                       (unsigned long long)stored, (unsigned long long)n);
    *ret_stored = stored;
    *ret_n = n;
    return 0;
}

int rdb_str_head(struct reader *r, struct rdb_str *s, struct err *err)
{
    uint64_t v;
    int rc = len_or_code(r, &v, err);
    if (rc < 0) return -1;
    if (rc == 0) {
        s->kind = RDB_STR_RAW;
        s->n = s->stored = v;
        return 0;
    }
    if (v <= CODE_INT32) return int_head(r, (unsigned)v, s, err);
    if (v != CODE_LZF) return rdb_bad(err, r, "unknown string encoding %u", (unsigned)v);
    s->kind = RDB_STR_LZF;
    return lzf_head(r, &s->stored, &s->n, err);
}

int rdb_str_stored(struct reader *r, uint64_t *ret, struct err *err)
{
    uint64_t v, n;
    int rc = len_or_code(r, &v, err);
    if (rc < 0) return -1;
    if (KH_UNLIKELY(rc > 0)) {
        if (v == CODE_LZF) return lzf_head(r, ret, &n, err);
        if (v > CODE_LZF) return rdb_bad(err, r, "unknown string encoding %u", (unsigned)v);
        v = 1u << v;
    }
    *ret = v;
    return 0;
}

static int unpack_lzf(struct reader *r, const struct rdb_str *s, uint8_t *out, struct err *err)
{
    if (s->stored > UINT_MAX || s->n > UINT_MAX)
        return err_set(err, ERR_LIMIT, "an LZF string of %llu bytes is too large",
                       (unsigned long long)s->n);
    if (reader_need(r, (size_t)s->stored, err) < 0) return -1;
    if (lzf_decompress(r->p, (unsigned)s->stored, out, (unsigned)s->n) != s->n)
        return rdb_bad(err, r, "broken LZF data");
    r->p += s->stored;
    return 0;
}

int rdb_str_body(struct reader *r, const struct rdb_str *s, struct buf *scratch, size_t max_bytes,
                 struct span *ret, struct err *err)
{
    if (s->n > max_bytes)
        return err_set(err, ERR_LIMIT, "RDB byte %llu: a string of %llu bytes, the limit is %zu",
                       (unsigned long long)reader_pos(r), (unsigned long long)s->n, max_bytes);
    size_t n = (size_t)s->n;
    if (KH_LIKELY(s->kind == RDB_STR_RAW)) {
        if (reader_need(r, n, err) < 0) return -1;
        *ret = span_of(r->p, n);
        r->p += n;
        return 0;
    }
    if (buf_reserve(scratch, n, err) < 0) return -1;
    uint8_t *out = scratch->p + scratch->n;
    if (rdb_str_decode(r, s, out, err) < 0) return -1;
    scratch->n += n;
    *ret = span_of(out, n);
    return 0;
}

int rdb_str_get(struct reader *r, struct buf *scratch, size_t max_bytes, struct span *ret,
                struct err *err)
{
    struct rdb_str s;
    if (rdb_str_head(r, &s, err) < 0) return -1;
    return rdb_str_body(r, &s, scratch, max_bytes, ret, err);
}

int rdb_str_decode(struct reader *r, const struct rdb_str *s, uint8_t *out, struct err *err)
{
    size_t n = (size_t)s->n;
    switch (s->kind) {
    case RDB_STR_RAW:
        if (reader_need(r, n, err) < 0) return -1;
        if (n) memcpy(out, r->p, n);
        r->p += n;
        return 0;
    case RDB_STR_INT: memcpy(out, s->text, n); return 0;
    case RDB_STR_LZF: return unpack_lzf(r, s, out, err);
    }
    return err_set(err, ERR_INTERNAL, "string kind %d", (int)s->kind);
}

int rdb_str_skip(struct reader *r, bool release, struct err *err)
{
    uint64_t n;
    if (rdb_str_stored(r, &n, err) < 0) return -1;
    return reader_skip(r, n, release, err);
}
