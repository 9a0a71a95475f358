// SPDX-License-Identifier: BSD-3-Clause
// The elements of a list, set, sorted set or hash, whatever its encoding, one at a time.
//
// Covers RDB types 1-5, 9-14, 16-18, 20, 22-25 and Valkey's 22. Packed blobs (ziplist, listpack,
// intset, zipmap) are validated whole before they are walked. Bounded: one blob or one element in
// memory, each at most max_bytes. Larger elements are given in pieces to those who ask for it.
#ifndef KEYHAUL_WIRE_RDB_ELEMS_H
#define KEYHAUL_WIRE_RDB_ELEMS_H

#include "wire/rdb/rdb.h"

struct rdb_elem {
    struct span a;     /* list element, set or zset member, hash field */
    struct span b;     /* hash value */
    double score;      /* zset */
    int64_t expire_ms; /* hash field, unix ms; -1 none */
    bool split;        /* nothing of the above is set: a string in it is too large, see below */
};

struct rdb_elems; /* opaque: keeps scratch between values, make one per pipeline */

KH_MUST int rdb_elems_new(struct rdb_elems **ret, size_t max_bytes, struct err *err);
void rdb_elems_free(struct rdb_elems *it);

/* The reader stands at the value. `release`: let bytes go as elements pass. */
KH_MUST int rdb_elems_begin(struct rdb_elems *it, struct reader *r, enum rdb_type type,
                            bool release, struct err *err);
/* 1: *e filled, spans valid until the next call. 0: value consumed. -1: error. */
KH_MUST int rdb_elems_next(struct rdb_elems *it, struct rdb_elem *e, struct err *err);

/* --- elements that are larger than memory should hold --- */

/* Where bytes are released: elements with a string above this are given as split (0: not, and they
 * are ERR_LIMIT). Not out of packed blobs, but for nodes of lists that hold just the one: servers
 * before 7.2 store large elements so. */
void rdb_elems_split_above(struct rdb_elems *it, size_t bytes);
/* The strings of a split element, in order (element; member; field, value). 1: *ret_n bytes of one
 * are to be taken, by rdb_elems_piece() until it gives 0. 0: there are no more; the score and
 * expiry are in *e now, and rdb_elems_next() may be called again. */
KH_MUST int rdb_elems_split_next(struct rdb_elems *it, struct rdb_elem *e, uint64_t *ret_n,
                                 struct err *err);
/* 1: *ret is valid until the next call. */
KH_MUST int rdb_elems_piece(struct rdb_elems *it, struct span *ret, struct err *err);

/* How many bytes a value takes that is one packed blob, which cannot be split; 0: it is none. The
 * reader stands at the value, and still does afterwards (a few bytes are held). */
KH_MUST int rdb_elems_blob_bytes(struct reader *r, enum rdb_type type, uint64_t *ret,
                                 struct err *err);

#endif
