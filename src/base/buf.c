// SPDX-License-Identifier: BSD-3-Clause
// A growing byte buffer with a cap.
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *b, size_t cap_bytes)
{
    *b = (struct buf){.cap = cap_bytes};
}

void buf_release(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.cap = b->cap};
}

void buf_trim(struct buf *b, size_t keep_bytes)
{
    if (b->alloc > keep_bytes) buf_release(b);
}

int buf_reserve(struct buf *b, size_t n, struct err *err)
{
    if (n <= b->alloc - b->n) return 0;
    if (n > b->cap || b->n > b->cap - n)
        return err_set(err, ERR_LIMIT, "%zu bytes do not fit a buffer limited to %zu", b->n + n,
                       b->cap);
    size_t want = b->n + n;
    size_t alloc = b->alloc < 64 ? 64 : b->alloc;
    while (alloc < want)
        alloc = alloc > SIZE_MAX / 2 ? want : alloc * 2;
    if (alloc > b->cap) alloc = b->cap;
    uint8_t *p = realloc(b->p, alloc);
    if (!p) return err_set(err, ERR_NOMEM, "out of memory (%zu bytes)", alloc);
    b->p = p;
    b->alloc = alloc;
    return 0;
}

int buf_add(struct buf *b, const void *p, size_t n, struct err *err)
{
    if (buf_reserve(b, n, err) < 0) return -1;
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    return 0;
}

int buf_printf(struct buf *b, struct err *err, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    int rc = n < 0 ? err_set(err, ERR_INTERNAL, "bad format") : buf_reserve(b, (size_t)n + 1, err);
    if (rc == 0) {
        vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
    return rc;
}
