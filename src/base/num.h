// SPDX-License-Identifier: BSD-3-Clause
// Numbers as the servers print and read them, and quoting of binary names for people.
#ifndef KEYHAUL_BASE_NUM_H
#define KEYHAUL_BASE_NUM_H

#include "base/err.h"
#include "base/span.h"

#define NUM_INT64_CHARS  21 /* sign, 19 or 20 digits; no NUL needed */
#define NUM_DOUBLE_CHARS 32

/* Decimal text of v at out (no NUL); returns its length. */
size_t num_put_i64(char *out, int64_t v);
size_t num_put_long(char *out, uint64_t v); /* for num_put_u64() */
static inline size_t num_put_u64(char *out, uint64_t v)
{
    if (v >= 10) return num_put_long(out, v);
    *out = (char)('0' + v);
    return 1;
}

/* Score as text that reads back to the same double: "%.17g", inf, -inf, nan. Returns length. */
size_t num_put_double(char *out, double v);

/* Whole text must be a number in range; no spaces, no '+'. */
KH_MUST bool num_get_i64(struct span s, int64_t *ret);
KH_MUST bool num_get_u64(struct span s, uint64_t *ret);
KH_MUST bool num_get_double(struct span s, double *ret); /* also inf, -inf, nan */

/* Printable form of binary bytes, as redis-cli quotes: "a\x00b"; cut after about 120 characters,
 * then "..." follows. Always NUL-terminated. Returns out. */
char *num_quote(char *out, size_t size, struct span s);

/* "12.3 MB" (powers of 1000), "1,234,567". Return out. */
char *num_human_bytes(char *out, size_t size, uint64_t bytes);
char *num_human_count(char *out, size_t size, uint64_t n);

#endif
