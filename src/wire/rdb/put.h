// SPDX-License-Identifier: BSD-3-Clause
// Writing RDB lengths, strings and numbers.
//
// Bytes gather in a buffer with a cap; with `spill` it is emptied now and then, so that a value of
// any size can be written in bounded memory.
#ifndef KEYHAUL_WIRE_RDB_PUT_H
#define KEYHAUL_WIRE_RDB_PUT_H

#include "base/buf.h"

struct rdb_put {
    struct buf *to;
    /* Takes bytes away; NULL: all of them stay in `to`. */
    int (*spill)(void *ctx, struct span bytes, struct err *err);
    void *ctx;
    bool hold; /* a count is still to be filled in: nothing spills */
};

KH_MUST int rdb_put_bytes(struct rdb_put *o, const void *p, size_t n, struct err *err);
KH_MUST int rdb_put_len(struct rdb_put *o, uint64_t v, struct err *err);
KH_MUST int rdb_put_str(struct rdb_put *o, struct span s, struct err *err); /* as it is */
KH_MUST int rdb_put_u64le(struct rdb_put *o, uint64_t v, struct err *err);
KH_MUST int rdb_put_double(struct rdb_put *o, double v, struct err *err);      /* 8 bytes */
KH_MUST int rdb_put_text_double(struct rdb_put *o, double v, struct err *err); /* type 3's */

/* A length that is known only later: its place is kept (the 32-bit form, which every version
 * reads), what follows stays in `to` until it is filled in. One at a time. */
KH_MUST int rdb_put_count_begin(struct rdb_put *o, size_t *ret_at, struct err *err);
void rdb_put_count_end(struct rdb_put *o, size_t at, uint32_t n);

/* Spill what is left. */
KH_MUST int rdb_put_end(struct rdb_put *o, struct err *err);

#endif
