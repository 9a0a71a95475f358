// SPDX-License-Identifier: BSD-3-Clause
// Becoming a replica of the source: REPLCONF, PSYNC (SYNC for servers without), the bulk's header.
//
//   psync_start ──▶ PSYNC_CONTINUE: the stream follows on the connection
//               └─▶ PSYNC_FULL ──▶ psync_bulk_header (may take minutes: the source forks)
//                                  └─▶ rdb_bytes, or eof_mark: the snapshot follows
//
// Reads byte by byte, so nothing beyond the header is taken from the connection. After `$EOF:` the
// source sends no command before it gets a REPLCONF ACK: that is the caller's, as are all later
// ones.
#ifndef KEYHAUL_REDIS_PSYNC_H
#define KEYHAUL_REDIS_PSYNC_H

#include "redis/facts.h"

#include <stdatomic.h>

#define PSYNC_MARK_BYTES 40

enum psync_kind { PSYNC_FULL, PSYNC_CONTINUE };

struct psync_request {
    const struct server_facts *facts; /* of the source; NULL: every option is tried */
    const char *replid;               /* continue this history ... NULL: none, full */
    uint64_t offset;                  /* ... of which everything up to here was received */
    bool rdb_only;                    /* snapshot, then the source closes (6.2+; else ignored) */
    bool empty_rdb;                   /* a snapshot without keys, to have only the stream (7.0+) */
    uint16_t announce_port;           /* shown by the source's INFO as ours; 0: not announced */

    int silence_ms;          /* nothing heard, not even a newline: ERR_NET; 0: 60 s */
    int64_t retry_ms;        /* how long LOADING and NOMASTERLINK are waited out; 0: not at all */
    const atomic_bool *stop; /* ERR_STOPPED; may be NULL */
    /* Called about every 100 ms while nothing comes; -1 with err ends the wait. May be NULL. */
    int (*tick)(void *ctx, struct err *err);
    void *ctx;
};

struct psync_result {
    struct conn *conn; /* owned; closed by psync_release() unless taken (set to NULL) */
    enum psync_kind kind;
    char replid[41];   /* history that goes on; "" for SYNC, which tells none */
    uint64_t offset;   /* the next byte of the stream has offset + 1 */
    bool plain_sync;   /* SYNC was used: no offsets, no ACK (before 2.8) */
    bool rdb_only;     /* accepted */
    bool rdb_filtered; /* the source sends no keys */

    /* by psync_bulk_header */
    bool eof_mark;                  /* diskless: ends with mark; else rdb_bytes are to come */
    uint8_t mark[PSYNC_MARK_BYTES]; /* the 40 bytes that follow the RDB */
    uint64_t rdb_bytes;

    struct peer peer; /* for words of errors */
};

/* Takes the client and closes it, whatever happens; its connection lives on in ret->conn.
 * ERR_PERM, ERR_AUTH: the user lacks rights. ERR_SOURCE: no replication there (managed service,
 * proxy), or the source could not make a snapshot. ERR_BUSY: still loading, or its own link is
 * down. ERR_NET, ERR_PROTO, ERR_STOPPED. */
KH_MUST int psync_start(struct psync_result *ret, struct client *c, const struct psync_request *req,
                        struct err *err);

/* Wait for the header of the snapshot. Only after PSYNC_FULL. */
KH_MUST int psync_bulk_header(struct psync_result *ps, const struct psync_request *req,
                              struct err *err);

void psync_release(struct psync_result *ps); /* safe on zeroed */

#endif
