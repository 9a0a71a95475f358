// SPDX-License-Identifier: BSD-3-Clause
// Large elements: kept in a file, compared there.
#include "engine/large.h"

#include <endian.h>
#include <stdlib.h>

#define CHUNK_BYTES (64u << 10)
#define ELEMS_BYTES (8u << 20) /* of struct large_elem: 200,000 elements of more than 1 MB */
#define FIRST_BYTES 8

void large_init(struct large *l, const char *dir)
{
    *l = (struct large){0};
    store_init(&l->store, 0, UINT64_MAX, dir);
    buf_init(&l->elems, ELEMS_BYTES);
    for (int i = 0; i < 2; i++)
        buf_init(&l->chunk[i], CHUNK_BYTES);
}

void large_release(struct large *l)
{
    store_release(&l->store);
    buf_release(&l->elems);
    for (int i = 0; i < 2; i++)
        buf_release(&l->chunk[i]);
}

void large_clear(struct large *l)
{
    store_clear(&l->store);
    buf_clear(&l->elems);
    l->told = 0;
}

static struct large_elem *elems_of(const struct large *l)
{
    return (struct large_elem *)(void *)l->elems.p;
}

static size_t count_of(const struct large *l)
{
    return l->elems.n / sizeof(struct large_elem);
}

static struct large_elem *last(const struct large *l)
{
    return &elems_of(l)[count_of(l) - 1];
}

int large_begin(struct large *l, struct err *err)
{
    struct large_elem e = {.at = store_size(&l->store)};
    return buf_add(&l->elems, &e, sizeof(e), err);
}

int large_add(struct large *l, struct span piece, struct err *err)
{
    return store_add(&l->store, piece.p, piece.n, err);
}

void large_key_ends(struct large *l)
{
    last(l)->key_n = store_size(&l->store) - last(l)->at;
}

void large_end(struct large *l, uint64_t tail)
{
    struct large_elem *e = last(l);
    e->rest_n = store_size(&l->store) - e->at - e->key_n;
    e->tail = tail;
}

/* --- order: bytewise, shorter first --- */

static uint64_t first_of(struct span s)
{
    uint8_t b[FIRST_BYTES] = {0};
    if (s.n) memcpy(b, s.p, s.n < sizeof(b) ? s.n : sizeof(b));
    uint64_t v;
    memcpy(&v, b, sizeof(v));
    return be64toh(v);
}

static int order_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Up to a chunk of what is kept. */
static int read_chunk(struct large *l, int which, uint64_t at, uint64_t n, struct err *err)
{
    struct buf *b = &l->chunk[which];
    buf_clear(b);
    if (n > CHUNK_BYTES) n = CHUNK_BYTES;
    if (buf_reserve(b, CHUNK_BYTES, err) < 0) return -1;
    ssize_t got = store_read(&l->store, at, b->p, (size_t)n, err);
    if (got < 0) return -1;
    b->n = (size_t)got;
    return 0;
}

/* A key that is kept, and another one: kept as well, or in memory. */
static int compare(struct large *l, const struct large_elem *a, const struct large_elem *b,
                   const struct span *key, int *ret, struct err *err)
{
    uint64_t b_n = key ? key->n : b->key_n, n = a->key_n < b_n ? a->key_n : b_n;
    int c = order_u64(a->first, key ? first_of(*key) : b->first);
    for (uint64_t at = 0; c == 0 && at < n;) {
        if (read_chunk(l, 0, a->at + at, n - at, err) < 0) return -1;
        size_t step = l->chunk[0].n;
        if (!key && read_chunk(l, 1, b->at + at, step, err) < 0) return -1;
        c = memcmp(l->chunk[0].p, key ? key->p + at : l->chunk[1].p, step);
        at += step;
    }
    *ret = c ? c : order_u64(a->key_n, b_n);
    return 0;
}

struct sorting {
    struct large *l;
    struct err *err;
    bool failed;
};

static int by_key(const void *a, const void *b, void *arg)
{
    struct sorting *s = arg;
    int c = 0;
    if (!s->failed && compare(s->l, a, b, NULL, &c, s->err) < 0) s->failed = true;
    return s->failed ? 0 : c;
}

int large_sort(struct large *l, struct err *err)
{
    struct sorting s = {.l = l, .err = err};
    struct large_elem *e = elems_of(l);
    for (size_t i = 0; i < count_of(l); i++) {
        uint64_t n = e[i].key_n < FIRST_BYTES ? e[i].key_n : FIRST_BYTES;
        if (read_chunk(l, 0, e[i].at, n, err) < 0) return -1;
        e[i].first = first_of(buf_span(&l->chunk[0]));
    }
    if (count_of(l)) qsort_r(e, count_of(l), sizeof(*e), by_key, &s);
    return s.failed ? -1 : 0;
}

/* --- telling --- */

int large_tell_before(struct large *l, const struct span *key, large_tell_fn *fn, void *ctx,
                      struct err *err)
{
    for (; l->told < count_of(l); l->told++) {
        const struct large_elem *e = &elems_of(l)[l->told];
        int c = -1;
        if (key && compare(l, e, NULL, key, &c, err) < 0) return -1;
        if (c >= 0) return 0;
        if (fn(ctx, e, err) < 0) return -1;
    }
    return 0;
}

int large_hash(struct large *l, uint64_t at, uint64_t n, struct hasher *h, struct err *err)
{
    hasher_u32(h, n);
    while (n) {
        if (read_chunk(l, 0, at, n, err) < 0) return -1;
        hasher_put(h, l->chunk[0].p, l->chunk[0].n);
        at += l->chunk[0].n;
        n -= l->chunk[0].n;
    }
    return 0;
}
