// SPDX-License-Identifier: BSD-3-Clause
// An RDB string piece by piece, so that its size needs no memory.
//
// LZF looks back at most 8 KB, so a window of that, and room for a piece, is all that is kept:
//   c < 32            copy the next c + 1 bytes
//   LLLooooo [len] o  copy L + 2 bytes (L = 7: + len) from offset ooooo:o + 1 back in the output;
//                     they may overlap what is being written
#include "wire/rdb/str.h"

#include <stdlib.h>

#define HISTORY   8192u
#define PIECE     65536u
#define WINDOW    (HISTORY + PIECE)
#define LITERALS  32u /* control bytes below this copy literals */
#define LEN_MORE  7u
#define LEN_EXTRA 2u

int rdb_pieces_begin(struct rdb_pieces *it, const struct rdb_str *s, struct err *err)
{
    uint8_t *window = NULL;
    if (s->kind == RDB_STR_LZF) {
        window = malloc(WINDOW);
        if (!window) return err_set(err, ERR_NOMEM, "out of memory (%u bytes)", WINDOW);
    }
    *it = (struct rdb_pieces){
        .s = *s, .left_stored = s->stored, .left_out = s->n, .window = window};
    return 0;
}

void rdb_pieces_end(struct rdb_pieces *it)
{
    free(it->window);
    it->window = NULL;
}

static size_t smallest(size_t a, size_t b, uint64_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : (size_t)c;
}

static int bad_lzf(const struct reader *r, struct err *err)
{
    return rdb_bad(err, r, "broken LZF data");
}

static int take(struct rdb_pieces *it, struct reader *r, unsigned *ret, struct err *err)
{
    if (it->left_stored == 0) return bad_lzf(r, err);
    reader_release(r);
    uint8_t b;
    if (reader_u8(r, &b, err) < 0) return -1;
    it->left_stored--;
    *ret = b;
    return 0;
}

static int lzf_control(struct rdb_pieces *it, struct reader *r, struct err *err)
{
    unsigned c, more = 0, low;
    if (take(it, r, &c, err) < 0) return -1;
    if (c < LITERALS) {
        it->literal_left = c + 1;
        return it->literal_left > it->left_stored ? bad_lzf(r, err) : 0;
    }
    unsigned len = c >> 5;
    if (len == LEN_MORE && take(it, r, &more, err) < 0) return -1;
    if (take(it, r, &low, err) < 0) return -1;
    it->copy_left = len + more + LEN_EXTRA;
    it->copy_off = ((c & 31) << 8 | low) + 1;
    /* The window always holds the last 8 KB of output, or all of it. */
    return it->copy_off > it->window_n ? bad_lzf(r, err) : 0;
}

static int lzf_literal(struct rdb_pieces *it, struct reader *r, struct err *err)
{
    reader_release(r);
    if (reader_need(r, 1, err) < 0) return -1;
    size_t n = smallest(it->literal_left, WINDOW - it->window_n, it->left_out);
    n = smallest(n, (size_t)(r->end - r->p), n);
    memcpy(it->window + it->window_n, r->p, n);
    r->p += n;
    it->window_n += n;
    it->literal_left -= n;
    it->left_stored -= n;
    it->left_out -= n;
    return 0;
}

static void lzf_copy(struct rdb_pieces *it)
{
    size_t n = smallest(it->copy_left, WINDOW - it->window_n, it->left_out);
    uint8_t *to = it->window + it->window_n;
    const uint8_t *from = to - it->copy_off;
    if (it->copy_off >= n)
        memcpy(to, from, n);
    else
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    it->window_n += n;
    it->copy_left -= n;
    it->left_out -= n;
}

static int lzf_step(struct rdb_pieces *it, struct reader *r, struct err *err)
{
    if (it->literal_left) return lzf_literal(it, r, err);
    if (!it->copy_left) return lzf_control(it, r, err);
    lzf_copy(it);
    return 0;
}

static int lzf_piece(struct rdb_pieces *it, struct reader *r, struct span *ret, struct err *err)
{
    if (it->left_out == 0) return 0;
    if (it->window_n > HISTORY) {
        memmove(it->window, it->window + it->window_n - HISTORY, HISTORY);
        it->window_n = HISTORY;
    }
    it->window_given = it->window_n;
    while (it->left_out && it->window_n < WINDOW)
        if (lzf_step(it, r, err) < 0) return -1;
    if (it->left_out == 0 && (it->left_stored || it->literal_left || it->copy_left))
        return bad_lzf(r, err);
    reader_release(r);
    *ret = span_of(it->window + it->window_given, it->window_n - it->window_given);
    return 1;
}

static int raw_piece(struct rdb_pieces *it, struct reader *r, struct span *ret, struct err *err)
{
    reader_release(r);
    if (it->left_out == 0) return 0;
    if (reader_need(r, 1, err) < 0) return -1;
    size_t n = (size_t)(r->end - r->p);
    if (n > it->left_out) n = (size_t)it->left_out;
    *ret = span_of(r->p, n);
    r->p += n;
    it->left_out -= n;
    it->left_stored -= n;
    return 1;
}

int rdb_pieces_next(struct rdb_pieces *it, struct reader *r, struct span *ret, struct err *err)
{
    if (it->s.kind == RDB_STR_RAW) return raw_piece(it, r, ret, err);
    if (it->s.kind == RDB_STR_LZF) return lzf_piece(it, r, ret, err);
    reader_release(r);
    if (it->left_out == 0) return 0;
    *ret = span_of(it->s.text, (size_t)it->s.n);
    it->left_out = 0;
    return 1;
}
