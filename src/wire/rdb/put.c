// SPDX-License-Identifier: BSD-3-Clause
// Writing RDB lengths, strings and numbers. (Reading them: str.c, which draws the forms.)
#include "wire/rdb/put.h"

#include "base/num.h"

#include <math.h>

#define LEN_14      0x40
#define LEN_32      0x80
#define LEN_64      0x81
#define SPILL_BYTES (64u << 10)

static void be(uint8_t *out, uint64_t v, unsigned n)
{
    while (n--)
        *out++ = (uint8_t)(v >> (8 * n));
}

static int spill(struct rdb_put *o, struct err *err)
{
    if (o->spill(o->ctx, buf_span(o->to), err) < 0) return -1;
    buf_clear(o->to);
    return 0;
}

int rdb_put_bytes(struct rdb_put *o, const void *p, size_t n, struct err *err)
{
    if (o->spill && !o->hold && o->to->n >= SPILL_BYTES && spill(o, err) < 0) return -1;
    return buf_add(o->to, p, n, err);
}

int rdb_put_len(struct rdb_put *o, uint64_t v, struct err *err)
{
    uint8_t b[9] = {(uint8_t)v};
    size_t n = 1;
    if (v > UINT32_MAX) {
        b[0] = LEN_64;
        be(b + 1, v, 8);
        n = 9;
    } else if (v >= 1u << 14) {
        b[0] = LEN_32;
        be(b + 1, v, 4);
        n = 5;
    } else if (v >= 1u << 6) {
        be(b, LEN_14 << 8 | v, 2);
        n = 2;
    }
    return rdb_put_bytes(o, b, n, err);
}

int rdb_put_str(struct rdb_put *o, struct span s, struct err *err)
{
    return rdb_put_len(o, s.n, err) < 0 ? -1 : rdb_put_bytes(o, s.p, s.n, err);
}

int rdb_put_u64le(struct rdb_put *o, uint64_t v, struct err *err)
{
    uint8_t b[8];
    for (unsigned i = 0; i < 8; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    return rdb_put_bytes(o, b, sizeof(b), err);
}

int rdb_put_double(struct rdb_put *o, double v, struct err *err)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return rdb_put_u64le(o, bits, err);
}

/* 1 byte n; 254 inf, 255 -inf, else n bytes of text. */
int rdb_put_text_double(struct rdb_put *o, double v, struct err *err)
{
    uint8_t b[1 + NUM_DOUBLE_CHARS];
    if (isinf(v)) {
        b[0] = v > 0 ? 254 : 255;
        return rdb_put_bytes(o, b, 1, err);
    }
    b[0] = (uint8_t)num_put_double((char *)b + 1, v);
    return rdb_put_bytes(o, b, 1u + b[0], err);
}

int rdb_put_count_begin(struct rdb_put *o, size_t *ret_at, struct err *err)
{
    static const uint8_t later[5] = {LEN_32};
    if (rdb_put_bytes(o, later, sizeof(later), err) < 0) return -1;
    *ret_at = o->to->n - sizeof(later);
    o->hold = true;
    return 0;
}

void rdb_put_count_end(struct rdb_put *o, size_t at, uint32_t n)
{
    be(o->to->p + at + 1, n, 4);
    o->hold = false;
}

int rdb_put_end(struct rdb_put *o, struct err *err)
{
    return o->spill ? spill(o, err) : 0;
}
