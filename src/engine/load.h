// SPDX-License-Identifier: BSD-3-Clause
// The load: a snapshot, record by record, into the target while it is still being received.
//
// How a value goes out (design, section 2):
//   string                 SET, in the lane's ring up to 256 KB, in place up to 8 MB, else SETRANGE
//                          pieces; RESTORE when it has an LRU/LFU hint, or an expiry and the target
//                          knows no PXAT (before 6.2)
//   known type, <= 1 MB    RESTORE with the source's own bytes, footer version 6
//   list, set, zset, hash  RPUSH / SADD / ZADD / HSET in chunks, when larger or of an unknown type
//   stream, module, array  larger than 1 MB: RESTORE through a store
// `fail` and `skip` never replace: SET NX, RESTORE without REPLACE; chunked ones ask EXISTS first.
#ifndef KEYHAUL_ENGINE_LOAD_H
#define KEYHAUL_ENGINE_LOAD_H

#include "engine/batch.h"
#include "engine/pipeline.h"
#include "redis/facts.h"
#include "wire/rdb/elems.h"
#include "wire/rdb/rdb.h"
#include "wire/rdb/str.h"

#define LOAD_RESTORE_MAX (1u << 20) /* serialized bytes; above, chunks */
#define LOAD_INPLACE_MAX (8u << 20) /* strings sent in one piece */
#define LOAD_ELEM_MAX    (7u << 20) /* longest element, field or value of a chunked value */

struct load {
    struct pipeline *pl;
    const struct server_facts *target;
    const struct db_select *select;
    enum task_conflict on_conflict;
    bool discard; /* --type incremental: only the place where the stream begins is wanted */
    bool set_pxat, unlink, field_ttl;
    char target_name[64];

    struct rdb rdb;
    struct rdb_elems *elems;
    struct buf scratch; /* one decoded string */
    struct buf args;    /* arguments of the chunk being built */
    struct buf tail;    /* HPEXPIREAT commands that follow it */
    uint64_t n_tail;
    struct batch batch[2];
    unsigned cur;
    uint64_t refused_before; /* refusals when the key at hand was begun */
    struct store whole;      /* a payload kept aside, and the CRC so far of type byte and payload */
    uint64_t whole_crc;

    uint64_t start_pos; /* reader's place when the snapshot began */
    uint64_t stream_db; /* database that the stream begins in (AUX repl-stream-db), default 0 */
    uint64_t db;        /* of the source */
    int64_t to_db;      /* of the target, -1 not selected */
    bool told_meta;     /* key metadata was dropped, said once */
};

struct load_config {
    struct pipeline *pl;
    const struct server_facts *target;
    const char *store_dir;
    uint64_t store_max_bytes;
};

KH_MUST int load_init(struct load *ld, const struct load_config *cfg, struct err *err);
void load_release(struct load *ld);

/* The whole snapshot, to its checksum, and until every write is answered. Then the reader stands
 * behind it. */
KH_MUST int load_run(struct load *ld, struct err *err);

/* --- between load.c and load_big.c --- */

/* A value by chunks, in any size. */
KH_MUST int load_chunked(struct load *ld, const struct rdb_rec *rec, struct err *err);
/* A string larger than fits in place; its head has been read. */
KH_MUST int load_long_string(struct load *ld, const struct rdb_rec *rec, const struct rdb_str *s,
                             struct err *err);
/* A value of any size by one RESTORE, kept aside in a store first. */
KH_MUST int load_whole(struct load *ld, const struct rdb_rec *rec, struct err *err);

/* Under fail and skip: is it there already? 1: leave it alone (counted). 0: go on. */
KH_MUST int load_existing(struct load *ld, const struct rdb_rec *rec, struct err *err);
void load_key_done(struct load *ld, uint64_t bytes);
/* The reply to a SET or RESTORE that went as a call. */
KH_MUST int load_call_reply(struct load *ld, const struct rdb_rec *rec, uint64_t bytes,
                            struct err *err);

/* A RESTORE around a payload of value_n bytes: what stands before it (type byte included) and
 * after. */
struct load_frame {
    uint8_t *head;
    size_t head_n;
    uint8_t tail[96];
    size_t tail_n;
};
/* head: room for LOAD_FRAME_MAX + key. crc: of type byte and value. */
#define LOAD_FRAME_MAX 160
void load_frame_head(const struct load *ld, const struct rdb_rec *rec, uint64_t value_n,
                     struct load_frame *f);
void load_frame_tail(const struct load *ld, const struct rdb_rec *rec, uint64_t crc,
                     struct load_frame *f);

#endif
