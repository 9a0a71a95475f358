// SPDX-License-Identifier: BSD-3-Clause
// The reader: slow paths, and readers over memory.
#include "wire/reader.h"

#include "base/crc64.h"

static int account(struct reader *r, struct err *err)
{
    size_t n = (size_t)(r->keep - r->base);
    if (n == 0) return 0;
    if (r->crc_on) r->crc = crc64(r->crc, r->base, n);
    if (r->tap && r->tap(r->tap_ctx, r->base, n, err) < 0) return -1;
    return 0;
}

/* Account what was released, drop it, and ask for `need` bytes more. */
static int drop_and_fill(struct reader *r, size_t need, struct err *err)
{
    if (account(r, err) < 0) return -1;
    size_t drop = (size_t)(r->keep - r->base), held = (size_t)(r->p - r->keep);
    int rc = r->fill(r, drop, need, err);
    r->base_pos += drop;
    if (rc < 0) {
        r->base = r->keep; /* what was accounted must not be accounted again */
        return -1;
    }
    r->keep = r->base;
    r->p = r->base + held;
    return 0;
}

int reader_fill(struct reader *r, size_t n, struct err *err)
{
    size_t have = (size_t)(r->end - r->p), held = (size_t)(r->p - r->keep);
    if (have >= n) return 0;
    if (n > r->cap || held > r->cap - n)
        return err_set(err, ERR_LIMIT, "an item of more than %zu bytes cannot be held in memory",
                       r->cap);
    return drop_and_fill(r, n - have, err);
}

int reader_settle(struct reader *r, struct err *err)
{
    return r->keep == r->base ? 0 : drop_and_fill(r, 0, err);
}

int reader_skip(struct reader *r, uint64_t n, bool release, struct err *err)
{
    while (n) {
        if (r->p == r->end) {
            if (release) reader_release(r);
            if (reader_fill(r, 1, err) < 0) return -1;
        }
        uint64_t step = (uint64_t)(r->end - r->p);
        if (step > n) step = n;
        r->p += step;
        n -= step;
    }
    if (release) reader_release(r);
    return 0;
}

/* Memory: everything is in place; `end` is all of it, or creeps forward one byte at a fill. */

static int end_of_input(uint64_t pos, struct err *err)
{
    return err_set(err, ERR_FORMAT, "unexpected end of input after %llu bytes",
                   (unsigned long long)pos);
}

static int fill_mem(struct reader *r, size_t drop, size_t need, struct err *err)
{
    uint64_t at = r->base_pos + (uint64_t)(r->end - r->base);
    r->base += drop;
    return need == 0 ? 0 : end_of_input(at, err);
}

static int fill_starving(struct reader *r, size_t drop, size_t need, struct err *err)
{
    const uint8_t *stop = r->ctx;
    uint64_t at = r->base_pos + (uint64_t)(stop - r->base);
    r->base += drop;
    if ((size_t)(stop - r->end) < need) return end_of_input(at, err);
    r->end += need;
    return 0;
}

void reader_init_mem(struct reader *r, const void *p, size_t n)
{
    const uint8_t *b = p;
    *r = (struct reader){
        .base = b, .keep = b, .p = b, .end = b + n, .cap = SIZE_MAX / 2, .fill = fill_mem};
}

void reader_init_starving(struct reader *r, const void *p, size_t n)
{
    const uint8_t *b = p;
    *r = (struct reader){.base = b,
                         .keep = b,
                         .p = b,
                         .end = b,
                         .cap = SIZE_MAX / 2,
                         .fill = fill_starving,
                         .ctx = (void *)(uintptr_t)(b + n)};
}

int reader_u64le(struct reader *r, uint64_t *ret, struct err *err)
{
    if (reader_need(r, 8, err) < 0) return -1;
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | r->p[i];
    r->p += 8;
    *ret = v;
    return 0;
}

int reader_u32le(struct reader *r, uint32_t *ret, struct err *err)
{
    if (reader_need(r, 4, err) < 0) return -1;
    *ret = (uint32_t)r->p[3] << 24 | (uint32_t)r->p[2] << 16 | (uint32_t)r->p[1] << 8 | r->p[0];
    r->p += 4;
    return 0;
}

int reader_u64be(struct reader *r, uint64_t *ret, struct err *err)
{
    if (reader_need(r, 8, err) < 0) return -1;
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | r->p[i];
    r->p += 8;
    *ret = v;
    return 0;
}
