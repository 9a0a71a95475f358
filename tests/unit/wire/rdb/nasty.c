// SPDX-License-Identifier: BSD-3-Clause
// The unhelpful reader: finds decoders that look at bytes which they have released.
#include "canon.h"

#include <assert.h>
#include <stdlib.h>

/* Bytes at [pos, pos + n) of the input, as handed out once. Old pointers to held bytes must stay
 * valid, so a block lives on until its last byte is released. */
struct block {
    struct block *next;
    uint64_t pos;
    size_t n;
    uint8_t p[];
};

struct nasty {
    const uint8_t *data;
    size_t n;
    struct block *blocks;
    uint64_t random;
};

static void scribble(struct nasty *s, uint64_t keep)
{
    struct block **at = &s->blocks;
    while (*at) {
        struct block *b = *at;
        if (b->pos + b->n <= keep) {
            *at = b->next;
            memset(b->p, 0xdd, b->n);
            free(b);
            continue;
        }
        if (keep > b->pos) memset(b->p, 0xdd, (size_t)(keep - b->pos));
        at = &b->next;
    }
}

static int fill_nasty(struct reader *r, size_t drop, size_t need, struct err *err)
{
    struct nasty *s = r->ctx;
    uint64_t pos = r->base_pos + drop;
    size_t have = (size_t)(r->end - r->base) - drop;
    size_t left = (size_t)(s->n - pos) - have;
    scribble(s, pos);
    if (need > left) {
        r->base += drop;
        return err_set(err, ERR_FORMAT, "unexpected end of input");
    }
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    size_t more = need ? need + (s->random >> 60) : 0;
    if (more > left) more = left;
    struct block *b = malloc(sizeof(*b) + have + more);
    assert(b);
    *b = (struct block){.next = s->blocks, .pos = pos, .n = have + more};
    memcpy(b->p, s->data + pos, b->n);
    s->blocks = b;
    r->base = b->p;
    r->end = b->p + b->n;
    return 0;
}

struct nasty *nasty_new(struct reader *r, const void *p, size_t n)
{
    struct nasty *s = calloc(1, sizeof(*s));
    assert(s);
    *s = (struct nasty){.data = p, .n = n, .random = 1};
    *r = (struct reader){.cap = SIZE_MAX / 2, .fill = fill_nasty, .ctx = s};
    r->base = r->keep = r->p = r->end = s->data;
    return s;
}

void nasty_free(struct nasty *s)
{
    while (s->blocks) {
        struct block *b = s->blocks;
        s->blocks = b->next;
        free(b);
    }
    free(s);
}
