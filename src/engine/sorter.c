// SPDX-License-Identifier: BSD-3-Clause
// Sorting in memory, runs on disk, merging: as many runs at once as fit the memory.
#include "engine/sorter.h"

#include <endian.h>
#include <stdlib.h>

#define HEAD        8           /* length of key and rest, 4 bytes each, before both */
#define MERGE_BYTES (16u << 20) /* for the windows of the runs being merged */
#define WINDOW_MIN  (64u << 10) /* of one run */
#define FAN_MAX     64          /* runs merged at once; never fewer than 2 */
#define INSERT_MAX  24          /* so few are sorted by insertion */

/* Where a pair lies, and the start of its key: most are told apart by that. */
struct place {
    uint64_t first; /* 8 bytes of the key, big endian, filled up with zeros */
    uint32_t at, key_n;
};

struct run {
    uint64_t at, end;
};

/* A run being read: its next pair lies at p. */
struct cursor {
    const struct store *from;
    uint64_t at, end; /* still to be read */
    uint8_t *window;
    size_t p, n, size;
};

/* Where merged pairs go: to a file, or to whoever asked for them. */
struct merge {
    struct store *to; /* NULL: fn */
    struct buf out;
    sorter_fn *fn;
    void *ctx;
};

static void read_head(const uint8_t *p, struct span *key, struct span *rest)
{
    uint32_t n[2];
    memcpy(n, p, HEAD);
    *key = span_of(p + HEAD, n[0]);
    *rest = span_of(p + HEAD + n[0], n[1]);
}

static int span_order(struct span a, struct span b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int pair_order(const uint8_t *a, const uint8_t *b)
{
    struct span ka, ra, kb, rb;
    read_head(a, &ka, &ra);
    read_head(b, &kb, &rb);
    int c = span_order(ka, kb);
    return c ? c : span_order(ra, rb);
}

static inline uint64_t first_of(struct span s)
{
    uint64_t v = 0;
    if (KH_LIKELY(s.n >= sizeof(v))) {
        memcpy(&v, s.p, sizeof(v));
        return be64toh(v);
    }
    for (size_t i = 0; i < s.n; i++)
        v |= (uint64_t)s.p[i] << (56 - 8 * i);
    return v;
}

static int place_order(const void *a, const void *b, void *base)
{
    const struct place *x = a, *y = b;
    const uint8_t *mem = base;
    if (KH_LIKELY(x->first != y->first)) return x->first < y->first ? -1 : 1;
    if (x->key_n <= sizeof(x->first) && x->key_n != y->key_n) return x->key_n < y->key_n ? -1 : 1;
    return pair_order(mem + x->at, mem + y->at);
}

void sorter_init(struct sorter *s, size_t mem_bytes, const char *dir)
{
    *s = (struct sorter){.mem_bytes = mem_bytes ? mem_bytes : SORTER_MEM_BYTES};
    buf_init(&s->mem, SORTER_PAIR_MAX + s->mem_bytes);
    buf_init(&s->index, s->mem.cap);
    buf_init(&s->runs, 64u << 20);
    for (int i = 0; i < 2; i++)
        store_init(&s->file[i], 0, UINT64_MAX, dir);
}

static void clear_files(struct sorter *s)
{
    buf_clear(&s->runs);
    for (int i = 0; i < 2; i++)
        store_clear(&s->file[i]);
}

void sorter_clear(struct sorter *s)
{
    buf_clear(&s->mem);
    buf_clear(&s->index);
    buf_trim(&s->mem, s->mem_bytes);
    buf_trim(&s->index, s->mem_bytes);
    s->largest = 0;
    if (s->runs.n || store_size(&s->file[0]) || store_size(&s->file[1])) clear_files(s);
}

void sorter_release(struct sorter *s)
{
    buf_release(&s->mem);
    buf_release(&s->index);
    buf_release(&s->runs);
    for (int i = 0; i < 2; i++)
        store_release(&s->file[i]);
}

/* --- in memory --- */

static struct place *places(const struct sorter *s)
{
    return (struct place *)(void *)s->index.p;
}

static size_t count(const struct sorter *s)
{
    return s->index.n / sizeof(struct place);
}

static void insertion_sort(struct place *p, size_t n, uint8_t *mem)
{
    for (size_t i = 1; i < n; i++) {
        struct place x = p[i];
        size_t k = i;
        for (; k && place_order(&x, &p[k - 1], mem) < 0; k--)
            p[k] = p[k - 1];
        p[k] = x;
    }
}

static void sort_mem(struct sorter *s)
{
    size_t n = count(s);
    if (n <= INSERT_MAX)
        insertion_sort(places(s), n, s->mem.p);
    else
        qsort_r(places(s), n, sizeof(struct place), place_order, s->mem.p);
}

static size_t pair_bytes(const uint8_t *p)
{
    struct span key, rest;
    read_head(p, &key, &rest);
    return HEAD + key.n + rest.n;
}

static const uint8_t *nth(const struct sorter *s, size_t i)
{
    return s->mem.p + places(s)[i].at;
}

static int flush_out(struct merge *m, struct err *err)
{
    int rc = store_add(m->to, m->out.p, m->out.n, err);
    buf_clear(&m->out);
    return rc;
}

static int put_pair(struct merge *m, const uint8_t *pair, struct err *err)
{
    if (!m->to) {
        struct span key, rest;
        read_head(pair, &key, &rest);
        return m->fn(m->ctx, key, rest, err);
    }
    size_t n = pair_bytes(pair);
    if (m->out.n + n > WINDOW_MIN && flush_out(m, err) < 0) return -1;
    if (n > WINDOW_MIN) return store_add(m->to, pair, n, err);
    return buf_add(&m->out, pair, n, err);
}

static int add_run(struct buf *runs, uint64_t from, struct err *err)
{
    struct run run = {from, 0};
    return buf_add(runs, &run, sizeof(run), err);
}

static struct run *run_at(const struct buf *runs, size_t i)
{
    return (struct run *)(void *)(runs->p + i * sizeof(struct run));
}

/* What is in memory becomes a run. */
static int write_run(struct sorter *s, struct err *err)
{
    struct merge m = {.to = &s->file[0]};
    size_t n = count(s);
    if (n == 0) return 0;
    buf_init(&m.out, WINDOW_MIN);
    sort_mem(s);
    int rc = add_run(&s->runs, store_size(m.to), err);
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = put_pair(&m, nth(s, i), err);
    if (rc == 0) rc = flush_out(&m, err);
    if (rc == 0) run_at(&s->runs, s->runs.n / sizeof(struct run) - 1)->end = store_size(m.to);
    buf_release(&m.out);
    buf_clear(&s->mem);
    buf_clear(&s->index);
    buf_trim(&s->mem, s->mem_bytes);
    return rc;
}

static int no_pair(size_t n, struct err *err)
{
    return err_set(err, ERR_LIMIT, "an element of %zu bytes, the limit is %u", n, SORTER_PAIR_MAX);
}

int sorter_add(struct sorter *s, struct span key, struct span rest, struct span tail,
               struct err *err)
{
    size_t rest_n = rest.n + tail.n, n = HEAD + key.n + rest_n;
    if (key.n > SORTER_PAIR_MAX || rest_n > SORTER_PAIR_MAX || n > SORTER_PAIR_MAX)
        return no_pair(n, err);
    size_t used = s->mem.n + s->index.n + sizeof(struct place);
    if (used + n > s->mem_bytes && write_run(s, err) < 0) return -1;
    struct place place = {first_of(key), (uint32_t)s->mem.n, (uint32_t)key.n};
    uint32_t lengths[2] = {(uint32_t)key.n, (uint32_t)rest_n};
    if (n > s->largest) s->largest = n;
    if (buf_add(&s->index, &place, sizeof(place), err) < 0 || buf_reserve(&s->mem, n, err) < 0)
        return -1;
    uint8_t *to = s->mem.p + s->mem.n;
    memcpy(to, lengths, HEAD);
    if (key.n) memcpy(to + HEAD, key.p, key.n);
    if (rest.n) memcpy(to + HEAD + key.n, rest.p, rest.n);
    if (tail.n) memcpy(to + HEAD + key.n + rest.n, tail.p, tail.n);
    s->mem.n += n;
    return 0;
}

/* --- merging --- */

/* The next pair of a run as a whole in its window. 1: there is one, 0: the run is at its end. */
static int advance(struct cursor *c, struct err *err)
{
    bool whole = c->n - c->p >= HEAD && c->n - c->p >= pair_bytes(c->window + c->p);
    if (!whole) {
        memmove(c->window, c->window + c->p, c->n - c->p);
        c->n -= c->p;
        c->p = 0;
        uint64_t want = c->end - c->at < c->size - c->n ? c->end - c->at : c->size - c->n;
        ssize_t got = store_read(c->from, c->at, c->window + c->n, (size_t)want, err);
        if (got < 0) return -1;
        c->at += (uint64_t)got;
        c->n += (size_t)got;
    }
    return c->n > 0;
}

static int smallest(const struct cursor *c, size_t n)
{
    int best = -1;
    for (size_t i = 0; i < n; i++)
        if (c[i].window && c[i].n > c[i].p &&
            (best < 0 || pair_order(c[i].window + c[i].p, c[best].window + c[best].p) < 0))
            best = (int)i;
    return best;
}

static int open_cursors(struct sorter *s, const struct run *runs, size_t n, struct cursor *c,
                        struct err *err)
{
    size_t size = s->largest > WINDOW_MIN ? s->largest : WINDOW_MIN;
    for (size_t i = 0; i < n; i++) {
        c[i] = (struct cursor){
            .from = &s->file[0], .at = runs[i].at, .end = runs[i].end, .size = size};
        c[i].window = malloc(size);
        if (!c[i].window) return err_set(err, ERR_NOMEM, "out of memory");
        if (advance(&c[i], err) < 0) return -1;
    }
    return 0;
}

static int merge_runs(struct sorter *s, const struct run *runs, size_t n, struct merge *m,
                      struct err *err)
{
    struct cursor c[FAN_MAX] = {{0}};
    int rc = open_cursors(s, runs, n, c, err);
    for (int i; rc == 0 && (i = smallest(c, n)) >= 0;) {
        rc = put_pair(m, c[i].window + c[i].p, err);
        c[i].p += pair_bytes(c[i].window + c[i].p);
        if (rc == 0 && advance(&c[i], err) < 0) rc = -1;
    }
    if (rc == 0 && m->to) rc = flush_out(m, err);
    for (size_t i = 0; i < n; i++)
        free(c[i].window);
    return rc;
}

/* All runs become fewer, in the other file, which then takes the place of the first. */
static int merge_pass(struct sorter *s, size_t fan, struct err *err)
{
    struct merge m = {.to = &s->file[1]};
    struct buf runs;
    size_t n = s->runs.n / sizeof(struct run);
    int rc = 0;
    buf_init(&m.out, WINDOW_MIN);
    buf_init(&runs, s->runs.cap);
    for (size_t i = 0; i < n && rc == 0; i += fan) {
        rc = add_run(&runs, store_size(m.to), err);
        if (rc == 0) rc = merge_runs(s, run_at(&s->runs, i), n - i < fan ? n - i : fan, &m, err);
        if (rc == 0) run_at(&runs, i / fan)->end = store_size(m.to);
    }
    buf_release(&m.out);
    buf_release(&s->runs);
    s->runs = runs;
    struct store merged = s->file[1];
    s->file[1] = s->file[0];
    s->file[0] = merged;
    store_clear(&s->file[1]);
    return rc;
}

static int each_of_files(struct sorter *s, sorter_fn *fn, void *ctx, struct err *err)
{
    struct merge m = {.fn = fn, .ctx = ctx};
    if (write_run(s, err) < 0) return -1;
    buf_trim(&s->mem, 0);
    buf_trim(&s->index, 0);
    size_t window = s->largest > WINDOW_MIN ? s->largest : WINDOW_MIN;
    size_t fan = MERGE_BYTES / window;
    if (fan < 2) fan = 2;
    if (fan > FAN_MAX) fan = FAN_MAX;
    while (s->runs.n / sizeof(struct run) > fan)
        if (merge_pass(s, fan, err) < 0) return -1;
    return merge_runs(s, run_at(&s->runs, 0), s->runs.n / sizeof(struct run), &m, err);
}

static int each_in_memory(struct sorter *s, sorter_fn *fn, void *ctx, struct err *err)
{
    struct span key, rest;
    sort_mem(s);
    for (size_t i = 0; i < count(s); i++) {
        read_head(nth(s, i), &key, &rest);
        if (fn(ctx, key, rest, err) < 0) return -1;
    }
    return 0;
}

int sorter_each(struct sorter *s, sorter_fn *fn, void *ctx, struct err *err)
{
    int rc = s->runs.n ? each_of_files(s, fn, ctx, err) : each_in_memory(s, fn, ctx, err);
    sorter_clear(s);
    return rc;
}
