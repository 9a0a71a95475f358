// SPDX-License-Identifier: BSD-3-Clause
// SHA-256 through OpenSSL's interface of 1.1: that of 3.0 needs 70 ns more for each hash, which is
// half of what a small value takes in all.
#define OPENSSL_API_COMPAT 10100
#include "engine/hasher.h"

void hasher_put_slow(struct hasher *h, const void *p, size_t n)
{
    if (!h->begun) SHA256_Init(&h->sha);
    h->begun = true;
    SHA256_Update(&h->sha, h->held, h->n);
    h->n = 0;
    if (n > HASHER_HELD / 2) {
        SHA256_Update(&h->sha, p, n);
        return;
    }
    memcpy(h->held, p, n);
    h->n = n;
}

/* All of it lies here. With its padding (a bit, zeros, the length in bits) it is whole blocks, on
 * which the library works in place, and nothing is left for SHA256_Final() to copy and wipe. */
static void end_whole(struct hasher *h, uint8_t out[HASHER_BYTES])
{
    uint64_t bits = htobe64((uint64_t)h->n * 8);
    size_t n = (h->n + 1 + sizeof(bits) + SHA256_CBLOCK - 1) / SHA256_CBLOCK * SHA256_CBLOCK;
    memset(h->held + h->n, 0, n - h->n);
    h->held[h->n] = 0x80;
    memcpy(h->held + n - sizeof(bits), &bits, sizeof(bits));
    SHA256_Init(&h->sha);
    SHA256_Update(&h->sha, h->held, n);
    for (int i = 0; i < 8; i++) {
        uint32_t word = htobe32(h->sha.h[i]);
        memcpy(out + 4 * i, &word, sizeof(word));
    }
}

void hasher_end(struct hasher *h, uint8_t out[HASHER_BYTES])
{
    if (KH_LIKELY(!h->begun)) {
        end_whole(h, out);
        return;
    }
    SHA256_Update(&h->sha, h->held, h->n);
    SHA256_Final(out, &h->sha);
}
