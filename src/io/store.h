// SPDX-License-Identifier: BSD-3-Clause
// Bytes kept aside so that they can be sent, and sent again: in memory up to a cap, what comes
// after in an unlinked file. Append, then read from the start as often as needed.
//
// Used where something has to go out whole but may be larger than memory: a transaction of the
// source, a value that only fits one RESTORE. Bounded: at most max_bytes in all.
#ifndef KEYHAUL_IO_STORE_H
#define KEYHAUL_IO_STORE_H

#include "base/buf.h"

#include <sys/types.h>

struct store {
    struct buf mem;      /* the first bytes; never more than mem.cap */
    int fd;              /* -1: nothing on disk yet */
    uint64_t disk_bytes; /* follow those of mem */
    uint64_t max_bytes;
    const char *dir; /* where the file is made (spool dir); borrowed */
};

void store_init(struct store *s, size_t mem_cap, uint64_t max_bytes, const char *dir);
void store_release(struct store *s);
void store_clear(struct store *s); /* empty; keeps memory, gives the file's blocks back */
void store_cut(struct store *s, uint64_t size); /* keep the first `size` bytes only */

static inline uint64_t store_size(const struct store *s)
{
    return s->mem.n + s->disk_bytes;
}

KH_MUST int store_add(struct store *s, const void *p, size_t n, struct err *err);

/* The same, of few bytes, for which there mostly is room. */
KH_MUST static inline int store_put(struct store *s, const void *p, size_t n, struct err *err)
{
    bool fits = n <= s->mem.alloc - s->mem.n && s->mem.n + n <= s->max_bytes;
    if (KH_UNLIKELY(s->disk_bytes || !fits)) return store_add(s, p, n, err);
    memcpy(s->mem.p + s->mem.n, p, n);
    s->mem.n += n;
    return 0;
}

/* Overwrite n bytes at `at`, all within what was added. */
KH_MUST int store_patch(struct store *s, uint64_t at, const void *p, size_t n, struct err *err);

/* Up to n bytes from `at` into p (or fewer at the end); returns how many, -1 on error. */
KH_MUST ssize_t store_read(const struct store *s, uint64_t at, void *p, size_t n, struct err *err);

#endif
