// SPDX-License-Identifier: BSD-3-Clause
// What the work is done on: snapshots and streams that are made anew each time, and always the
// same.
#ifndef KEYHAUL_TEST_COST_INPUT_H
#define KEYHAUL_TEST_COST_INPUT_H

#include "base/buf.h"

enum input_kind {
    INPUT_STRINGS,    /* of 100 B that do not compress */
    INPUT_MIXED,      /* small values of all kinds and encodings, half of them with an expiry */
    INPUT_HASHES,     /* of 20 fields, as a listpack */
    INPUT_COMPRESSED, /* strings of 700 B that do */
};

/* A whole RDB; to be released. */
void input_rdb(struct buf *ret, enum input_kind kind, unsigned keys);
/* Commands as a source sends them, one in ten a transaction of three; *ret_n: without MULTI and
 * EXEC and SELECT. */
void input_stream(struct buf *ret, unsigned turns, uint64_t *ret_n);

#endif
