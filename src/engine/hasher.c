// SPDX-License-Identifier: BSD-3-Clause
// SHA-256 through OpenSSL's interface of 1.1: that of 3.0 needs 70 ns more for each hash, which is
// half of what a small value takes in all.
#define OPENSSL_API_COMPAT 10100
#include "engine/hasher.h"

void hasher_begin(struct hasher *h)
{
    h->n = 0;
    SHA256_Init(&h->sha);
}

void hasher_put_slow(struct hasher *h, const void *p, size_t n)
{
    SHA256_Update(&h->sha, h->held, h->n);
    h->n = 0;
    if (n > HASHER_HELD / 2) {
        SHA256_Update(&h->sha, p, n);
        return;
    }
    memcpy(h->held, p, n);
    h->n = n;
}

void hasher_end(struct hasher *h, uint8_t out[HASHER_BYTES])
{
    SHA256_Update(&h->sha, h->held, h->n);
    SHA256_Final(out, &h->sha);
}
