// SPDX-License-Identifier: BSD-3-Clause
// A batch: commands that reach the target in order, all or none.
//
//   build: batch_begin ── batch_raw / batch_args / batch_part ... ──▶ batch_send ──▶ batch_finish
//                                                                        ▲               │
//                                        next batch is built meanwhile ──┘   passing fault: again
//
// More than one command go as MULTI ... EXEC, so that a passing fault (OOM, READONLY ...) refuses
// all of them and the same bytes can be sent again, in order. One batch is in flight at a time.
// When the target is out of memory and stays so, what is in the batch may free some (DEL): then it
// is taken apart, and each command sent by itself, in order; those that belong together (a
// transaction of the source, a command and its deadline) stay together.
// Bytes are kept until answered: up to 1 MB in memory, more in a file, so a transaction or value of
// any size fits.
//
// With a checkpoint (batch_checkpoint) the last command of every transaction writes how far it
// takes the target, and the EXEC is fenced: see docs/decisions/0003. Taken apart, each unit carries
// its own.
#ifndef KEYHAUL_ENGINE_BATCH_H
#define KEYHAUL_ENGINE_BATCH_H

#include "engine/checkpoint.h"
#include "engine/lane.h"

#define BATCH_MEM_BYTES   (1u << 20)
#define BATCH_CLOSE_BYTES (128u << 10) /* full enough to be sent */
#define BATCH_CLOSE_CMDS  2048
/* For a cluster so many times as much: it is shared out among nodes, and each slot's share of what
 * must not be applied twice has a transaction around it, the cheaper the more is in it. */
#define BATCH_ROUTED_TIMES 2

struct batch_whole { /* up to here a batch is whole: between commands, outside of transactions */
    uint64_t n;      /* commands before it */
    uint64_t offset; /* replication offset there */
    uint64_t db;     /* the source's selected database there */
    bool read;       /* it has been read from the source, at that offset */
};

/* Which way a command goes on a cluster (engine/fan), as whoever put it into the batch knows. */
struct batch_route {
    uint64_t to; /* behind its bytes, in the store */
    uint16_t slot;
    bool known; /* all of it belongs to that slot; else it has to be looked at */
    bool again; /* may be applied twice: cmd_is_idempotent() */
};

/* How the checkpoint is written; borrowed by the batches. */
struct batch_checkpoint {
    struct span key;
    int64_t db;    /* of the target, where the key is */
    char owner[9]; /* this process */
    char replid[41];
};

struct batch {
    struct store st;    /* room for MULTI, then the commands */
    struct buf scratch; /* one small command while it is put together */
    uint64_t n;         /* commands */
    int64_t db;         /* selected after its last command; -1 unknown */
    /* What it stands for, kept for the caller. */
    uint64_t end_offset; /* replication offset behind its last command */
    uint64_t end_db;     /* the source's selected database there */
    uint64_t data_cmds;  /* commands of the source in it */
    int64_t received_ms; /* unix ms: when its first command was received; 0 none */
    bool in_flight;
    struct buf marks;  /* struct batch_whole, ascending: units that can be sent by themselves */
    bool together;     /* not to be taken apart: the marks do not tell all */
    bool read;         /* what is added now is no part of the stream: for the next marks */
    bool routed;       /* the ways of its commands are kept ... */
    struct buf routes; /* struct batch_route; of as many of the first as there was room for */
    struct batch_checkpoint *checkpoint; /* NULL none */
    bool guarded;     /* writes none, but is to come to nothing where somebody else has */
    bool sealed;      /* it has been added ... */
    uint64_t seal_at; /* ... behind so many commands */
    struct { /* how much of it is whole: between commands, outside of the source's transactions */
        uint64_t bytes, n, data_cmds;
        int64_t db;
    } whole;
};

void batch_init(struct batch *b, const char *store_dir, uint64_t max_bytes);
void batch_release(struct batch *b);
KH_MUST int batch_begin(struct batch *b, int64_t db, struct err *err); /* empty, database db */

/* All that is in it now is whole, and what came since the last mark stays together; back to that,
 * dropping what was begun since. */
void batch_mark_at(struct batch *b, uint64_t offset, uint64_t db);
static inline void batch_mark(struct batch *b)
{
    batch_mark_at(b, 0, 0);
}
void batch_back(struct batch *b);

static inline uint64_t batch_bytes(const struct batch *b)
{
    return store_size(&b->st);
}
static inline bool batch_full(const struct batch *b)
{
    uint64_t times = b->routed ? BATCH_ROUTED_TIMES : 1;
    return store_size(&b->st) >= times * BATCH_CLOSE_BYTES || b->n >= times * BATCH_CLOSE_CMDS;
}

/* SELECT, when another database is selected. */
KH_MUST int batch_select(struct batch *b, int64_t db, struct err *err);
/* One whole command as it came. */
KH_MUST int batch_raw(struct batch *b, struct span cmd, struct err *err);
KH_MUST int batch_args(struct batch *b, size_t argc, const struct span *argv, struct err *err);
KH_MUST int batch_strs(struct batch *b, struct err *err, ...) __attribute__((sentinel));
/* A command in pieces: its bytes, then batch_count(b) once. */
KH_MUST int batch_part(struct batch *b, const void *p, size_t n, struct err *err);
void batch_count(struct batch *b);
/* The way of the last command. */
static inline void batch_route(struct batch *b, uint16_t slot, bool again)
{
    struct batch_route *r = (struct batch_route *)(void *)b->routes.p;
    size_t n = b->routes.n / sizeof(*r);
    if (n == 0 || n != b->n) return;
    r[n - 1].slot = slot;
    r[n - 1].again = again;
    r[n - 1].known = true;
}

/* Nothing more goes into it: add the checkpoint, when there is one. Position as of the last mark,
 * or, in an empty batch, as given here. */
KH_MUST int batch_seal(struct batch *b, uint64_t offset, uint64_t db, struct err *err);
/* Send; the lane must be idle. The database the lane has selected must be the batch's first. */
KH_MUST int batch_send(struct batch *b, struct lane *l, struct err *err);
/* Wait until the batch has been applied; passing faults are waited out and it is sent again;
 * refused commands are reported by name: 0 when the policy says go on without them. Then it is
 * empty.
 * batch_finish_or(), of a lane with peers: 1 when redirected, in the words `ret_where` (of
 * RESP_ERROR_MAX). Nothing was applied, and nothing is in flight; to be sent again, as it
 * is, over the lane to the node that has the slot by then. */
KH_MUST int batch_finish_or(struct batch *b, struct lane *l, char *ret_where, struct err *err);
KH_MUST static inline int batch_finish(struct batch *b, struct lane *l, struct err *err)
{
    return batch_finish_or(b, l, NULL, err);
}

#endif
