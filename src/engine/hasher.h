// SPDX-License-Identifier: BSD-3-Clause
// SHA-256 of many small pieces: they are put together here first, and the library sees a whole
// value, or blocks of 2 KB. It takes longer to be called than to hash 30 bytes.
//
// One owner thread; no pointers, may be copied.
#ifndef KEYHAUL_ENGINE_HASHER_H
#define KEYHAUL_ENGINE_HASHER_H

#include "base/attr.h"
#include "base/span.h"

#include <endian.h>
#include <openssl/sha.h>

#define HASHER_BYTES 32
#define HASHER_HELD  2048u

struct hasher {
    SHA256_CTX sha;
    bool begun;                                /* something has gone from `held` to `sha` */
    size_t n;                                  /* of `held` */
    uint8_t held[HASHER_HELD + SHA256_CBLOCK]; /* room for the padding */
};

void hasher_end(struct hasher *h, uint8_t out[HASHER_BYTES]);

static inline void hasher_begin(struct hasher *h)
{
    h->n = 0;
    h->begun = false;
}

void hasher_put_slow(struct hasher *h, const void *p, size_t n);

static inline void hasher_put(struct hasher *h, const void *p, size_t n)
{
    if (KH_UNLIKELY(n > HASHER_HELD - h->n)) {
        hasher_put_slow(h, p, n);
        return;
    }
    if (n) memcpy(h->held + h->n, p, n);
    h->n += n;
}

static inline void hasher_byte(struct hasher *h, char c)
{
    hasher_put(h, &c, 1);
}

/* Big endian. */
static inline void hasher_u32(struct hasher *h, uint64_t v)
{
    uint32_t b = htobe32((uint32_t)v);
    hasher_put(h, &b, sizeof(b));
}

static inline void hasher_u64(struct hasher *h, uint64_t v)
{
    uint64_t b = htobe64(v);
    hasher_put(h, &b, sizeof(b));
}

/* The length in 4 bytes, then the bytes. */
static inline void hasher_str(struct hasher *h, struct span s)
{
    hasher_u32(h, s.n);
    hasher_put(h, s.p, s.n);
}

#endif
