// SPDX-License-Identifier: BSD-3-Clause
// The checkpoint: how far the target is, kept on the target, written in the transaction of the
// data. See docs/decisions/0003. Pure text.
#ifndef KEYHAUL_ENGINE_CHECKPOINT_H
#define KEYHAUL_ENGINE_CHECKPOINT_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

#define CHECKPOINT_PREFIX    "keyhaul:checkpoint:"
#define CHECKPOINT_KEY_MAX   160
#define CHECKPOINT_VALUE_MAX 128

enum checkpoint_kind {
    CHECKPOINT_NONE,    /* no such key */
    CHECKPOINT_LOADING, /* a snapshot is being loaded */
    CHECKPOINT_STREAM,
};

struct checkpoint {
    enum checkpoint_kind kind;
    char replid[41]; /* history of the source; "" where it tells none (plain SYNC) */
    uint64_t offset; /* everything up to here is applied */
    uint64_t db;     /* the source's selected database there */
    char owner[9];   /* the process that wrote it */
    char load[9];    /* on a cluster: names the snapshot, and so the marks of the slots; else "" */
};

/* Text of the value, NUL-terminated; returns its length. */
size_t checkpoint_put(char out[CHECKPOINT_VALUE_MAX], const struct checkpoint *c);
/* ERR_FORMAT: written by something else, or by a later version. */
KH_MUST int checkpoint_parse(struct checkpoint *ret, struct span value, struct err *err);

/* A key that is some task's checkpoint: never counted, compared or deleted as data. */
static inline bool checkpoint_is_key(struct span key)
{
    return key.n > sizeof(CHECKPOINT_PREFIX) - 1 &&
           memcmp(key.p, CHECKPOINT_PREFIX, sizeof(CHECKPOINT_PREFIX) - 1) == 0;
}

#endif
