// SPDX-License-Identifier: BSD-3-Clause
// What the packed encodings share: a value out of a blob, and little-endian fields.
//
// Each encoding has `x_open()`, which checks the whole blob (every length against the bytes in
// hand, counts, end mark), and `x_next()`, which then walks it. The blob must stay in place.
#ifndef KEYHAUL_WIRE_RDB_PACKED_H
#define KEYHAUL_WIRE_RDB_PACKED_H

#include "base/err.h"
#include "base/num.h"
#include "base/span.h"

/* A value: bytes in the blob, or an integer that stands for its decimal text. */
struct packed_val {
    bool is_int;
    int64_t i;
    struct span s;
};

/* The value as text; `scratch` has room for NUM_INT64_CHARS. */
static inline struct span packed_text(const struct packed_val *v, char *scratch)
{
    return v->is_int ? span_of(scratch, num_put_i64(scratch, v->i)) : v->s;
}

static inline void packed_set_int(struct packed_val *v, int64_t i)
{
    v->is_int = true;
    v->i = i;
}

static inline void packed_set_span(struct packed_val *v, const uint8_t *p, size_t n)
{
    v->is_int = false;
    v->s = span_of(p, n);
}

static inline uint16_t packed_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t packed_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t packed_u64(const uint8_t *p)
{
    return packed_u32(p) | (uint64_t)packed_u32(p + 4) << 32;
}

static inline int64_t packed_i16(const uint8_t *p)
{
    return (int16_t)packed_u16(p);
}

static inline int64_t packed_i24(const uint8_t *p)
{
    uint32_t top = (uint32_t)p[0] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 24;
    return (int32_t)top / 256; /* the low byte is 0: exact, and the sign is kept */
}

static inline int64_t packed_i32(const uint8_t *p)
{
    return (int32_t)packed_u32(p);
}

static inline int64_t packed_i64(const uint8_t *p)
{
    return (int64_t)packed_u64(p);
}

#endif
