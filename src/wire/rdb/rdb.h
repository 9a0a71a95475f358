// SPDX-License-Identifier: BSD-3-Clause
// RDB, record by record: what a snapshot (or file) says, in order.
//
// Pulls from a struct reader. After RDB_KEY the reader stands at the key's value, and the caller
// must consume exactly that value (rdb_value_skip, rdb_elems, rdb_stream or rdb_str_*) before the
// next call. Knows RDB 1 to 14 (Redis 8.8) with magic REDIS, 80 with magic VALKEY; numbers 22, 23,
// 242, 243 are told apart by the magic. Unknown opcode or type: ERR_FORMAT with offset.
#ifndef KEYHAUL_WIRE_RDB_RDB_H
#define KEYHAUL_WIRE_RDB_RDB_H

#include "base/buf.h"
#include "wire/reader.h"

enum rdb_type { /* value types; see docs/formats */
                RDB_STRING = 0,
                RDB_LIST = 1,
                RDB_SET = 2,
                RDB_ZSET = 3,
                RDB_HASH = 4,
                RDB_ZSET_2 = 5,
                RDB_MODULE_PRE_GA = 6,
                RDB_MODULE_2 = 7,
                RDB_HASH_ZIPMAP = 9,
                RDB_LIST_ZIPLIST = 10,
                RDB_SET_INTSET = 11,
                RDB_ZSET_ZIPLIST = 12,
                RDB_HASH_ZIPLIST = 13,
                RDB_LIST_QUICKLIST = 14,
                RDB_STREAM = 15,
                RDB_HASH_LISTPACK = 16,
                RDB_ZSET_LISTPACK = 17,
                RDB_LIST_QUICKLIST_2 = 18,
                RDB_STREAM_2 = 19,
                RDB_SET_LISTPACK = 20,
                RDB_STREAM_3 = 21,
                RDB_HASH_METADATA_PRE_GA = 22,    /* Redis 7.4 rc1 */
                RDB_HASH_LISTPACK_EX_PRE_GA = 23, /* Redis 7.4 rc1 */
                RDB_HASH_METADATA = 24,
                RDB_HASH_LISTPACK_EX = 25,
                RDB_STREAM_4 = 26,
                RDB_STREAM_5 = 27,
                RDB_ARRAY = 28,
                RDB_VALKEY_HASH_2 = 256 + 22, /* Valkey 9: byte 22 under magic VALKEY */
};

/* The byte that stands for a type in a file or DUMP payload. */
static inline uint8_t rdb_type_byte(enum rdb_type t)
{
    return (uint8_t)(t & 0xff);
}

enum rdb_kind { /* what a type is to a user: TYPE's words */
                RDB_KIND_STRING,
                RDB_KIND_LIST,
                RDB_KIND_SET,
                RDB_KIND_ZSET,
                RDB_KIND_HASH,
                RDB_KIND_STREAM,
                RDB_KIND_MODULE,
                RDB_KIND_ARRAY,
};
enum rdb_kind rdb_kind_of(enum rdb_type t);
const char *rdb_kind_name(enum rdb_kind k);

enum rdb_rec_kind {
    RDB_REC_AUX,        /* a = name, b = value */
    RDB_REC_SELECTDB,   /* n = database */
    RDB_REC_RESIZEDB,   /* n = keys, m = keys with expiry: hints */
    RDB_REC_FUNCTION,   /* a = source of the library, with its #!lua line */
    RDB_REC_MODULE_AUX, /* a = module's name; its data has been skipped */
    RDB_REC_SLOT_INFO,  /* n = slot, m = keys */
    RDB_REC_KEY,        /* a = key, and the fields below */
};

struct rdb_rec {
    enum rdb_rec_kind kind;
    struct span a, b; /* valid until the next rdb_next(), also while the value is consumed */
    uint64_t n, m;
    enum rdb_type type;
    int64_t expire_ms; /* unix ms, -1 none; may lie in the past */
    int64_t idle_s;    /* -1 none */
    int freq;          /* LFU counter 0-255, -1 none */
    bool has_meta;     /* Redis 8.6+ KEY_META stood before the key; it has been skipped */
};

struct rdb {
    struct reader *r;
    unsigned version;    /* from the magic */
    bool valkey;         /* magic VALKEY */
    struct buf key, val; /* scratch for rec.a and rec.b */
    /* Said about the next key so far (KeyDB puts AUX records between this and the key). */
    int64_t expire_ms, idle_s;
    int freq;
    bool has_meta;
};

#define RDB_KEY_MAX (8u << 20) /* longest key, AUX or function source held in memory, bytes */

/* Read the magic. The reader's crc is switched on. A version newer than those known is let in: its
 * unknown types and opcodes are met one by one, and the checksum is there. */
KH_MUST int rdb_open(struct rdb *f, struct reader *r, struct err *err);
void rdb_release(struct rdb *f);

/* 1: *rec filled. 0: end of file, checksum verified (a stored 0 means "not computed"), and the
 * reader stands behind it: a command stream may follow. -1: error.
 * Releases the reader up to the record's end (for RDB_REC_KEY: to the value's first byte). */
KH_MUST int rdb_next(struct rdb *f, struct rdb_rec *rec, struct err *err);

/* Pass over a value. `release`: let bytes go as they pass (any size); otherwise they are held, and
 * if more than `limit` bytes are met the answer is 1 and the reader stands somewhere inside: put
 * r->p back. 0: done, p after the value. Checks lengths, not the inside of packed blobs. */
KH_MUST int rdb_value_skip(struct reader *r, enum rdb_type type, bool release, size_t limit,
                           struct err *err);

#endif
