// SPDX-License-Identifier: BSD-3-Clause
// A value's serialized form turned into that of another type, which an older server, or one of the
// other family, knows: so that it can be RESTOREd there as a whole.
//
//   lists            -> 1             hashes                     -> 4
//   sets             -> 2             hashes with field expiries -> 24, Valkey's 22, or 4 without
//   sorted sets      -> 5, or 3       streams                    -> 26, 21, 19, or 15
//
// Streams only go down: the nodes that hold the messages are copied as they are, what the older
// type has no place for is left out and told as a loss. Strings and arrays have one form, and so
// have the values of modules: but for vector sets, which lost and found a number without a new
// type.
#ifndef KEYHAUL_WIRE_RDB_TRANSCODE_H
#define KEYHAUL_WIRE_RDB_TRANSCODE_H

#include "wire/rdb/elems.h"
#include "wire/rdb/put.h"
#include "wire/rdb/stream.h"

/* What of a value an older type has no place for: bits. */
enum transcode_loss {
    TRANSCODE_LOSS_FIELD_EXPIRY = 1 << 0,
    TRANSCODE_LOSS_COUNTERS = 1 << 1, /* stream: entries added, max deleted id, entries read */
    TRANSCODE_LOSS_ACTIVE = 1 << 2,   /* when a consumer was last active */
    TRANSCODE_LOSS_IDMP = 1 << 3,     /* idempotent producers: configuration and records */
    TRANSCODE_LOSS_NACKED = 1 << 4,   /* pending entries without owner: they are given one */
};
#define TRANSCODE_LOSS_BITS 5

/* Owner of pending entries that had none (longer when a consumer is called so already). */
#define TRANSCODE_NACK_OWNER "keyhaul-nacked"

/* The type that loses least, of those that takes() says yes to; `have` itself is asked first.
 * False when there is none. *ret_loss: what may be lost. */
KH_MUST bool transcode_choose(enum rdb_type have, bool (*takes)(const void *ctx, enum rdb_type),
                              const void *ctx, enum rdb_type *ret, unsigned *ret_loss);

enum transcode_result {
    TRANSCODE_ERROR = -1,
    TRANSCODE_DONE,
    TRANSCODE_TOO_LARGE, /* more than fits out's cap, or an element than elems'; or empty, which
                            RESTORE does not take */
    TRANSCODE_LOSSY,     /* something would be lost that `allowed` does not allow */
};

struct transcode {
    enum rdb_type have, want; /* want: of the table above, and not `have` */
    unsigned allowed;         /* enum transcode_loss */
};

/* Write the value at r->p, without type byte and footer, to `out` (what was in it is dropped). The
 * value is held in the reader, not released; r->p stands behind it when DONE, else anywhere: the
 * caller may put it back. *ret_loss (DONE, LOSSY): what really was, or would be, lost. */
KH_MUST enum transcode_result transcode_value(const struct transcode *how, struct reader *r,
                                              struct rdb_elems *elems, struct buf *out,
                                              unsigned *ret_loss, struct err *err);

/* A stream without its messages: the same groups, consumers and pending entries, those included
 * whose message is gone, which no command can make. RESTOREd first, then filled by XADD (any id is
 * larger than its last id, 0-0), then XSETID tells the last id and counters, which are in *ret.
 *
 * The reader stands behind the stream's nodes. Bytes are released as they pass. */
KH_MUST int transcode_stream_bare(struct reader *r, enum rdb_type have, enum rdb_type want,
                                  struct rdb_put *out, struct rdb_stream_meta *ret,
                                  unsigned *ret_loss, struct err *err);

/* Is this value of a module, whose id stands at r->p, a vector set (Redis 8.0)? r->p stays. */
KH_MUST int transcode_is_vectors(struct reader *r, bool *ret, struct err *err);
/* A vector set as Redis 8.0 reads it: it does not read those of 8.2 and later, though their type
 * and version are the same. Every later server reads it too. Nothing is lost. Bytes are released as
 * they pass. *ret_unknown: it has a form that we do not know either, and has been left in it. */
KH_MUST int transcode_vectors(struct reader *r, struct rdb_put *out, bool *ret_unknown,
                              struct err *err);

/* --- between transcode.c and transcode_stream.c --- */
KH_MUST int transcode_stream(struct reader *r, enum rdb_type have, enum rdb_type want,
                             struct rdb_put *out, unsigned *ret_loss, struct err *err);

#endif
