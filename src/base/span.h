// SPDX-License-Identifier: BSD-3-Clause
// A span: bytes that someone else owns. Not NUL-terminated, may hold any byte.
#ifndef KEYHAUL_BASE_SPAN_H
#define KEYHAUL_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct span {
    const uint8_t *p;
    size_t n;
};

static inline struct span span_of(const void *p, size_t n)
{
    return (struct span){p, n};
}

static inline struct span span_str(const char *s)
{
    return (struct span){(const uint8_t *)s, strlen(s)};
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Equal to a C string, ASCII case ignored (command names, options of commands). */
static inline bool span_is(struct span a, const char *s)
{
    size_t n = strlen(s);
    return a.n == n && strncasecmp((const char *)a.p, s, n) == 0;
}

#endif
