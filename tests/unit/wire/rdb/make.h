// SPDX-License-Identifier: BSD-3-Clause
// Bytes of an RDB, made by hand in tests.
#ifndef TESTS_WIRE_RDB_MAKE_H
#define TESTS_WIRE_RDB_MAKE_H

#include "base/buf.h"
#include "base/crc64.h"

#include <assert.h>

struct make {
    uint8_t p[70000];
    size_t n;
};

static inline void put(struct make *m, const void *p, size_t n)
{
    assert(n <= sizeof(m->p) - m->n);
    memcpy(m->p + m->n, p, n);
    m->n += n;
}

static inline void put_u8(struct make *m, unsigned v)
{
    put(m, &(uint8_t){(uint8_t)v}, 1);
}

/* Little endian, n bytes. */
static inline void put_le(struct make *m, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put_u8(m, (unsigned)(v >> (8 * i) & 0xff));
}

static inline void put_be(struct make *m, uint64_t v, unsigned n)
{
    while (n--)
        put_u8(m, (unsigned)(v >> (8 * n) & 0xff));
}

static inline void put_len(struct make *m, uint64_t v)
{
    if (v < 64) {
        put_u8(m, (unsigned)v);
    } else if (v < 16384) {
        put_be(m, 0x4000 | v, 2);
    } else if (v <= UINT32_MAX) {
        put_u8(m, 0x80);
        put_be(m, v, 4);
    } else {
        put_u8(m, 0x81);
        put_be(m, v, 8);
    }
}

static inline void put_bytes(struct make *m, const void *p, size_t n)
{
    put_len(m, n);
    put(m, p, n);
}

static inline void put_str(struct make *m, const char *s)
{
    put_bytes(m, s, strlen(s));
}

static inline void put_double(struct make *m, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    put_le(m, bits, 8);
}

static inline void put_id(struct make *m, uint64_t ms, uint64_t seq)
{
    put_be(m, ms, 8);
    put_be(m, seq, 8);
}

/* Listpacks: lp_begin, lp_int / lp_text ..., lp_end. Only short forms. */

static inline void lp_begin(struct make *m)
{
    m->n = 0;
    put_le(m, 0, 6);
}

static inline void lp_bump(struct make *m)
{
    m->p[4]++;
}

static inline void lp_int(struct make *m, int64_t v)
{
    if (v >= 0 && v < 128) {
        put_u8(m, (unsigned)v);
        put_u8(m, 1);
    } else {
        put_u8(m, 0xf4);
        put_le(m, (uint64_t)v, 8);
        put_u8(m, 9);
    }
    lp_bump(m);
}

static inline void lp_text(struct make *m, const char *s)
{
    size_t n = strlen(s);
    assert(n < 64);
    put_u8(m, (unsigned)(0x80 | n));
    put(m, s, n);
    put_u8(m, (unsigned)n + 1);
    lp_bump(m);
}

static inline void lp_end(struct make *m)
{
    put_u8(m, 0xff);
    for (unsigned i = 0; i < 4; i++)
        m->p[i] = (uint8_t)(m->n >> (8 * i));
}

/* End of file with the right checksum. */
static inline void put_eof(struct make *m)
{
    put_u8(m, 255);
    put_le(m, crc64(0, m->p, m->n), 8);
}

/* Numbers that are the same in every run (xorshift). */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
