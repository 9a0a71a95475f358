// SPDX-License-Identifier: BSD-3-Clause
// Counting allocations. One thread.
#include "alloc.h"

#include <malloc.h>
#include <stdint.h>

/* What the linker calls the real ones, and what it calls in their place. */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static size_t now, most, before;

static void *count(void *p)
{
    if (p) now += malloc_usable_size(p);
    if (now > most) most = now;
    return p;
}

/* What came from within the C library was never counted. */
static void discount(void *p)
{
    size_t n = p ? malloc_usable_size(p) : 0;
    now = n < now ? now - n : 0;
}

void *__wrap_malloc(size_t n)
{
    return count(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return count(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n)
{
    discount(p);
    void *q = __real_realloc(p, n);
    return count(q ? q : p);
}

void __wrap_free(void *p)
{
    discount(p);
    __real_free(p);
}

void alloc_begin(void)
{
    before = now;
}

void alloc_reset(void)
{
    most = now;
}

size_t alloc_peak(void)
{
    return most > before ? most - before : 0;
}
