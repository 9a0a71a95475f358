// SPDX-License-Identifier: BSD-3-Clause
// The elements of a list, set, sorted set or hash, whatever its encoding, one at a time.
//
// Covers RDB types 1-5, 9-14, 16-18, 20, 22-25 and Valkey's 22. Packed blobs (ziplist, listpack,
// intset, zipmap) are validated whole before they are walked. Bounded: one blob or one element in
// memory, each at most max_bytes.
#ifndef KEYHAUL_WIRE_RDB_ELEMS_H
#define KEYHAUL_WIRE_RDB_ELEMS_H

#include "wire/rdb/rdb.h"

struct rdb_elem {
    struct span a;     /* list element, set or zset member, hash field */
    struct span b;     /* hash value */
    double score;      /* zset */
    int64_t expire_ms; /* hash field, unix ms; -1 none */
};

struct rdb_elems; /* opaque: keeps scratch between values, make one per pipeline */

KH_MUST int rdb_elems_new(struct rdb_elems **ret, size_t max_bytes, struct err *err);
void rdb_elems_free(struct rdb_elems *it);

/* The reader stands at the value. `release`: let bytes go as elements pass. */
KH_MUST int rdb_elems_begin(struct rdb_elems *it, struct reader *r, enum rdb_type type,
                            bool release, struct err *err);
/* 1: *e filled, spans valid until the next call. 0: value consumed. -1: error. */
KH_MUST int rdb_elems_next(struct rdb_elems *it, struct rdb_elem *e, struct err *err);

#endif
