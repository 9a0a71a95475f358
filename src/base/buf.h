// SPDX-License-Identifier: BSD-3-Clause
// A growing byte buffer that never grows beyond the cap given at init.
//
// Bytes lie in p[0 .. n). Growing may move them. Owned by one thread.
#ifndef KEYHAUL_BASE_BUF_H
#define KEYHAUL_BASE_BUF_H

#include "base/err.h"
#include "base/span.h"

struct buf {
    uint8_t *p;
    size_t n;     /* used */
    size_t alloc; /* allocated */
    size_t cap;   /* never more than this; ERR_LIMIT beyond */
};

void buf_init(struct buf *b, size_t cap_bytes);
void buf_release(struct buf *b); /* safe on a zeroed buffer; may be used again after buf_init */

/* Room for `n` more bytes at p + n. Does not change n. */
KH_MUST int buf_reserve(struct buf *b, size_t n, struct err *err);
KH_MUST int buf_add(struct buf *b, const void *p, size_t n, struct err *err);
/* n bytes more, for the caller to write; NULL: no room (err). */
static inline void *buf_more(struct buf *b, size_t n, struct err *err)
{
    if (KH_UNLIKELY(n > b->alloc - b->n) && buf_reserve(b, n, err) < 0) return NULL;
    b->n += n;
    return b->p + b->n - n;
}
KH_MUST int buf_printf(struct buf *b, struct err *err, const char *fmt, ...) KH_PRINTF(3, 4);

/* Give memory back when more than keep_bytes are allocated; the content goes too. */
void buf_trim(struct buf *b, size_t keep_bytes);

static inline void buf_clear(struct buf *b)
{
    b->n = 0;
}

static inline struct span buf_span(const struct buf *b)
{
    return span_of(b->p, b->n);
}

#endif
