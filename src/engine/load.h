// SPDX-License-Identifier: BSD-3-Clause
// The load: a snapshot, record by record, into the target while it is still being received.
//
// How a value goes out (design, section 2):
//   string                 SET, in the lane's ring up to 256 KB, in place up to 8 MB, else SETRANGE
//                          pieces; RESTORE when it has an LRU/LFU hint, or an expiry and the target
//                          knows no PXAT (before 6.2)
//   known type, <= 1 MB    RESTORE with the source's own bytes, footer version 6
//   unknown, <= 1 MB       turned into a type that the target knows, RESTORE (wire/rdb/transcode.h)
//   list, set, zset, hash  larger: RPUSH / SADD / ZADD / HSET in chunks; an element above 1 MB has
//                          a command of its own; one packed blob above 7 MB: RESTORE through a
//                          store
//   stream, module, array  larger: RESTORE through a store
//   vector set             for Redis 8.0: RESTORE in the form that it reads, of any size
//   stream, unknown type   larger: RESTORE without messages, then XADD in batches
// `fail` and `skip` never replace: SET NX, RESTORE without REPLACE; chunked ones ask EXISTS first.
// A snapshot that is loaded again (reconcile.h) replaces under any policy, but not what stood there
// before the task.
#ifndef KEYHAUL_ENGINE_LOAD_H
#define KEYHAUL_ENGINE_LOAD_H

#include "engine/batch.h"
#include "engine/losses.h"
#include "engine/pipeline.h"
#include "engine/reconcile.h"
#include "redis/facts.h"
#include "wire/rdb/elems.h"
#include "wire/rdb/rdb.h"
#include "wire/rdb/str.h"

#define LOAD_RESTORE_MAX (1u << 20) /* serialized bytes; above, chunks */
#define LOAD_INPLACE_MAX (8u << 20) /* strings sent in one piece */
#define LOAD_SPLIT_ABOVE (1u << 20) /* elements larger than this go in pieces, through a store */
#define LOAD_ELEM_MAX    (7u << 20) /* longest packed blob that is taken apart */

struct load {
    struct pipeline *pl;
    struct lane *lane; /* of a cluster: to the node that has the key at hand, as far as is known */
    struct span key;   /* that one */
    const struct server_facts *target;
    const struct db_select *select;
    const struct key_select *keys;
    enum task_conflict on_conflict;
    struct reconcile *reconcile; /* NULL: neither is anything there that was not the task's, nor was
                                    a snapshot loaded before */
    bool replace;                /* the key at hand may be written over another */
    bool left_out;               /* it is not written: the target cannot hold it */
    bool discard; /* --type incremental: only the place where the stream begins is wanted */
    int64_t hold_margin_ms; /* deadlines nearer than this are held until the stream has caught up */
    bool set_pxat, absttl, unlink, field_ttl, restore_replace;
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
    struct store nodes; /* of a stream that is sent in parts */

    uint64_t stream_db; /* database that the stream begins in (AUX repl-stream-db), default 0 */
    uint64_t db;        /* of the source */
    uint64_t db_max;    /* highest in it */
    int64_t to_db;      /* of the target, -1 not selected */
    bool told_meta;     /* key metadata was dropped, said once */
    int (*between)(void *ctx, struct err *err);
    void *between_ctx;
};

struct load_config {
    struct pipeline *pl;
    const struct server_facts *target;
    struct reconcile *reconcile; /* may be NULL; told when the snapshot has been loaded */
    uint64_t source_bytes; /* size of the source's data, 0 unknown: tells how long it may take */
    const char *store_dir;
    uint64_t store_max_bytes;
    /* Called between two keys; NULL: not. What it is to find answered it has to drain. */
    int (*between)(void *ctx, struct err *err);
    void *between_ctx;
};

/* Deadlines nearer than this are held while so many bytes are moved, 0 unknown. */
int64_t load_hold_margin_ms(uint64_t bytes);

KH_MUST int load_init(struct load *ld, const struct load_config *cfg, struct err *err);
void load_release(struct load *ld);

/* The whole snapshot, to its checksum, and until every write is answered. Then the reader stands
 * behind it. */
KH_MUST int load_run(struct load *ld, struct err *err);

/* --- between load.c, load_big.c and load_stream.c --- */

/* A value by chunks, in any size. */
KH_MUST int load_chunked(struct load *ld, const struct rdb_rec *rec, struct err *err);
/* An element with a string that is too large to be held, by a command of its own. 1: larger than
 * the target takes; nothing of it was sent, and it has been passed over. */
KH_MUST int load_split_elem(struct load *ld, const struct rdb_rec *rec, struct rdb_elem *e,
                            uint64_t *ret_bytes, struct err *err);
/* A string larger than fits in place; its head has been read. */
KH_MUST int load_long_string(struct load *ld, const struct rdb_rec *rec, const struct rdb_str *s,
                             struct err *err);
/* A value of any size by one RESTORE, kept aside in a store first. */
KH_MUST int load_whole(struct load *ld, const struct rdb_rec *rec, struct err *err);
/* Serialized bytes of rec->type, at most a few MB, by one RESTORE. */
KH_MUST int load_restore(struct load *ld, const struct rdb_rec *rec, struct span value,
                         struct err *err);

/* Of a type that the target does not know. 1: cannot be turned into one RESTORE; the reader stands
 * at the value again. */
KH_MUST int load_transcoded(struct load *ld, const struct rdb_rec *rec, struct err *err);
/* A module's value: a vector set that the target lacks, or reads only in an older form. 1: it is
 * none, or goes as it is; nothing was read. */
KH_MUST int load_vectors(struct load *ld, const struct rdb_rec *rec, struct err *err);
/* A stream in parts, of any size. 1: the target has no streams; nothing was read. */
KH_MUST int load_stream(struct load *ld, const struct rdb_rec *rec, struct err *err);

/* RESTORE what lies in ld->whole. 0: done, but not counted. 1: not taken, and that was told. */
KH_MUST int load_send_whole(struct load *ld, const struct rdb_rec *rec, struct err *err);

/* One request about the key at hand, as lane_call(); of a cluster to whichever node has the key by
 * then. ld->lane->outcome.last is its reply, and no redirection. */
KH_MUST int load_call(struct load *ld, const struct lane_part *parts, unsigned n_parts,
                      struct err *err);

/* The key at hand goes from the target. */
KH_MUST int load_delete(struct load *ld, struct err *err);
/* After a redirection: ld->lane is the one that has the key now, perhaps after a while. */
KH_MUST int load_follow(struct load *ld, const char *where, struct err *err);

/* Commands in batches, one in flight while the next is built: begin, add to load_batch(), send as
 * often as wanted, finish (with the key's deadline; counts the key). The lane is in the database.
 */
KH_MUST int load_begin_batches(struct load *ld, struct err *err);
struct batch *load_batch(struct load *ld);
KH_MUST int load_send_batch(struct load *ld, struct err *err);
KH_MUST int load_finish_batches(struct load *ld, const struct rdb_rec *rec, uint64_t bytes,
                                struct err *err);

/* Before a RESTORE: the key may be there, and the target's RESTORE not know REPLACE. */
KH_MUST int load_make_room(struct load *ld, struct err *err);

/* Under fail and skip: is it there already? 1: leave it alone (counted). 0: go on. */
KH_MUST int load_existing(struct load *ld, const struct rdb_rec *rec, struct err *err);
void load_key_done(struct load *ld, uint64_t bytes);
/* The target cannot hold this value, `words` say why. By --on-unsupported: fail is an error like
 * any other (0 when --on-error says go on), skip and degrade leave the key out, named and counted.
 */
KH_MUST int load_unsupported(struct load *ld, const struct rdb_rec *rec, const char *words,
                             struct err *err);
/* Leave out what the target has no place for, keep the rest. */
static inline bool load_degrades(const struct load *ld)
{
    return ld->pl->cfg->on_unsupported == TASK_UNSUPPORTED_DEGRADE;
}

/* The reply to a SET or RESTORE that went as a call: was it taken? 1: no, and that was told. */
KH_MUST int load_call_refused(struct load *ld, const struct rdb_rec *rec, struct err *err);
/* The same, and the key is counted. */
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
