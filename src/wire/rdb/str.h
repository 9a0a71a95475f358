// SPDX-License-Identifier: BSD-3-Clause
// RDB lengths and strings: plain, integer and LZF, whole or piece by piece.
#ifndef KEYHAUL_WIRE_RDB_STR_H
#define KEYHAUL_WIRE_RDB_STR_H

#include "base/buf.h"
#include "wire/reader.h"

/* ERR_FORMAT, with the reader's position in front of the words. Always returns -1. */
int rdb_bad(struct err *err, const struct reader *r, const char *fmt, ...) KH_PRINTF(3, 4);

/* A length (also 64 bit). ERR_FORMAT if a special string encoding stands there. */
KH_MUST int rdb_len(struct reader *r, uint64_t *ret, struct err *err);

enum rdb_str_kind { RDB_STR_RAW, RDB_STR_INT, RDB_STR_LZF };

struct rdb_str {
    enum rdb_str_kind kind;
    uint64_t n;      /* length of the string once decoded, bytes (INT: of its decimal text) */
    uint64_t stored; /* payload bytes that follow the head (INT: 0, they are consumed) */
    char text[24];   /* INT: the decimal text, payload already consumed */
};

/* Read the head: then r->p is at the payload (INT: after it). */
KH_MUST int rdb_str_head(struct reader *r, struct rdb_str *s, struct err *err);

/* The whole string after its head. RAW: ret points into the reader (held until released), nothing
 * is copied; INT, LZF: appended to scratch, ret points there (moves when scratch grows). ERR_LIMIT
 * when larger than max_bytes. */
KH_MUST int rdb_str_body(struct reader *r, const struct rdb_str *s, struct buf *scratch,
                         size_t max_bytes, struct span *ret, struct err *err);

/* Head and body in one. */
KH_MUST int rdb_str_get(struct reader *r, struct buf *scratch, size_t max_bytes, struct span *ret,
                        struct err *err);

/* Decode the body into exactly s->n bytes at out. */
KH_MUST int rdb_str_decode(struct reader *r, const struct rdb_str *s, uint8_t *out,
                           struct err *err);

/* The body piece by piece, for strings larger than memory: LZF needs just its window of 8 KB. */
struct rdb_pieces {
    struct rdb_str s;
    uint64_t left_stored, left_out;
    uint8_t *window; /* LZF: output buffer, allocated by _begin */
    size_t window_n, window_given, literal_left, copy_left, copy_off;
};
KH_MUST int rdb_pieces_begin(struct rdb_pieces *it, const struct rdb_str *s, struct err *err);
/* 1: *ret is the next piece (1 .. 64 KB or more for RAW; valid until the next call; the reader has
 * been released up to it). 0: all done. */
KH_MUST int rdb_pieces_next(struct rdb_pieces *it, struct reader *r, struct span *ret,
                            struct err *err);
void rdb_pieces_end(struct rdb_pieces *it);

/* Head only, of a string to be passed over: how many bytes follow it (INT: 1, 2 or 4). */
KH_MUST int rdb_str_stored(struct reader *r, uint64_t *ret, struct err *err);
KH_MUST int rdb_str_skip(struct reader *r, bool release, struct err *err);

#endif
