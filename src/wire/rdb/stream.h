// SPDX-License-Identifier: BSD-3-Clause
// A stream value (types 15, 19, 21, 26, 27), event by event, in the order it is stored.
//
//   ENTRY* META { GROUP PEL* { CONSUMER CONSUMER_PEL* }* NACK* }* [IDMP_CONFIG {IDMP_PRODUCER
//   IDMP_ID*}*] END
#ifndef KEYHAUL_WIRE_RDB_STREAM_H
#define KEYHAUL_WIRE_RDB_STREAM_H

#include "wire/rdb/rdb.h"

struct stream_id {
    uint64_t ms, seq;
};

enum rdb_stream_ev_kind {
    RDB_STREAM_ENTRY,         /* id; fields, n_fields: field, value, field, value ... (2 * pairs) */
    RDB_STREAM_META,          /* everything in meta */
    RDB_STREAM_GROUP,         /* name, id = last delivered, entries_read (UINT64_MAX unknown) */
    RDB_STREAM_PEL,           /* id, time_ms, count: one pending entry of the group */
    RDB_STREAM_CONSUMER,      /* name, time_ms = seen, active_ms (-1 never, or not stored) */
    RDB_STREAM_CONSUMER_PEL,  /* id: owned by the consumer just told */
    RDB_STREAM_NACK,          /* id: pending entry without owner (type 27) */
    RDB_STREAM_IDMP_CONFIG,   /* n = duration s, count = max entries (type 26+) */
    RDB_STREAM_IDMP_PRODUCER, /* name */
    RDB_STREAM_IDMP_ID,       /* name = iid, id */
    RDB_STREAM_END,           /* value consumed; n = ids added, count = duplicates (type 26+) */
};

struct rdb_stream_meta {
    uint64_t length;
    struct stream_id last_id, first_id, max_deleted_id;
    uint64_t entries_added; /* before type 19: = length */
    bool has_counters;      /* type 19 and later */
};

struct rdb_stream_ev {
    enum rdb_stream_ev_kind kind;
    struct stream_id id;
    const struct span *fields;
    size_t n_fields;
    struct span name;
    int64_t time_ms, active_ms;
    uint64_t count, n, entries_read;
    struct rdb_stream_meta meta;
};

struct rdb_stream; /* opaque */

/* One node's blob and one entry in memory: each at most max_bytes. */
KH_MUST int rdb_stream_new(struct rdb_stream **ret, size_t max_bytes, struct err *err);
void rdb_stream_free(struct rdb_stream *it);
KH_MUST int rdb_stream_begin(struct rdb_stream *it, struct reader *r, enum rdb_type type,
                             bool release, struct err *err);
/* 0: *ev holds what its kind has, and no more. Spans are valid until the next call. After
 * RDB_STREAM_END do not call again. */
KH_MUST int rdb_stream_next(struct rdb_stream *it, struct rdb_stream_ev *ev, struct err *err);

#endif
