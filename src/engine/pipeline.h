// SPDX-License-Identifier: BSD-3-Clause
// The pipeline: one thread, one source link, its spool, the reader over it, the lane to the target.
//
// Load and replay are straight-line code that pulls from `r` and pushes into `lane`. Whenever one
// of the two has to wait, pipeline_step() runs: it drains the source into the spool (whatever the
// target does, C4), pumps the lane, acknowledges, asks the source for its offset. Nothing else
// waits anywhere.
//
//          fill() ─ nothing to read ─┐            ┌─ window full ─ lane_reserve(), lane_drain()
//                                    ▼            ▼
//                              pipeline_step(): poll source, target, probe
//
// At most a few descriptors, so poll(2): see docs/decisions/0002.
#ifndef KEYHAUL_ENGINE_PIPELINE_H
#define KEYHAUL_ENGINE_PIPELINE_H

#include "engine/hold.h"
#include "io/spool.h"
#include "wire/reader.h"

#include <stdatomic.h>

#define PIPELINE_RING_BYTES (16u << 20)

/* Asks the source for its replication offset on a connection of its own, without ever waiting. */
struct probe {
    struct conn *conn; /* owned; NULL: not to be had (lag is then told from what was received) */
    struct resp_scan scan;
    struct buf reply;
    bool asked;
    int64_t next_ms, every_ms;
    uint64_t answers; /* so far */
    uint64_t offset;  /* the last */
};

struct fan;

enum relinked {
    RELINK_WAIT,
    RELINK_DONE,     /* pipeline_relink() has been called */
    RELINK_GIVEN_UP, /* err tells why; what has been received is applied still */
    RELINK_HOLE,     /* the source has not kept what comes next */
};

struct pipeline {
    const struct task_config *cfg;
    struct counters *counters;
    const atomic_bool *stop;
    const atomic_bool *finish;   /* set: end as soon as it has caught up; NULL: never */
    bool (*finish_take)(void *); /* that moment is now: is it still asked for? Once taken, it is */
    void *finish_ctx;

    struct conn *source;   /* owned; NULL once closed */
    struct err source_err; /* why it closed */
    /* The stream's source is called again: asked in every step while it is lost. NULL: a lost
     * source is the end of what can be read. */
    enum relinked (*relink)(void *ctx, struct err *err);
    void *relink_ctx;
    bool hole; /* the source cannot go on where we are: a new snapshot is needed */
    int64_t source_heard_ms;
    int file; /* read instead of a link, -1 none; borrowed. Never spooled to disk: it waits itself
               */
    int64_t file_ms;      /* "receipt" of its bytes, unix ms */
    uint64_t before_file; /* bytes of the files before it: the reader counts from 0 in each */
    struct spool *spool;
    struct reader r;

    struct refusals refusals;
    /* Some were refused for good (refusals.count tells how many so far), and what came with them is
     * applied. May be NULL. */
    void (*on_refused)(void *ctx);
    void *refused_ctx;
    struct lane lane; /* to the target; of a cluster it has no connection, the fan has */
    struct fan *fan;  /* to a clustered target; NULL: it is none. Borrowed */
    struct hold hold; /* deadlines kept back until the stream has caught up */
    struct probe probe;

    bool ack; /* send REPLCONF ACK (not after a plain SYNC) */
    int64_t next_ack_ms, ack_every_ms;
    struct buf ack_out;
    size_t ack_at;

    /* Offsets: reader position `stream_pos` is offset `stream_offset`. Before the stream begins all
     * three stay at the snapshot's offset. */
    bool streaming;
    uint64_t stream_pos, stream_offset, applied_offset;
    int64_t oldest_ms; /* receipt (unix ms) of the oldest change not applied, 0 none */
    bool silent_end;   /* the source is expected to close after the snapshot */

    /* Called by the reader when it finds nothing to read, before it waits. May be NULL. */
    int (*on_dry)(void *ctx, struct err *err);
    void *dry_ctx;
};

struct pipeline_config {
    const struct task_config *task;
    struct counters *counters;
    const atomic_bool *stop;
    struct conn *source, *target, *probe; /* taken over, also on failure; probe may be NULL */
    struct fan *fan;                      /* a clustered target: then `target` is NULL */
    struct spool *spool;                  /* taken over; NULL: one is opened by: */
    struct spool_config spool_config;
    bool ack;
    uint64_t offset;       /* of the snapshot */
    bool hold, hold_exact; /* a stream follows; the target knows PEXPIRETIME */
};

/* For further lanes of its own. */
struct lane_config pipeline_lane_config(struct pipeline *pl);

KH_MUST int pipeline_init(struct pipeline *pl, const struct pipeline_config *cfg, struct err *err);
void pipeline_release(struct pipeline *pl);

/* Wait for whatever comes first, at most max_wait_ms, and deal with it. ctx is the pipeline. */
KH_MUST int pipeline_step(void *ctx, int max_wait_ms, struct err *err);

/* Read this file from now on, its bytes dated `ms`, positions counted from its start. The one
 * before must be at its end, which the reader tells by ERR_END. fd -1: no more. */
void pipeline_read_file(struct pipeline *pl, int fd, int64_t ms);

/* The stream begins at the reader's place, with the snapshot's offset. */
void pipeline_begin_stream(struct pipeline *pl);
/* A stream that was begun before: this position of the spool is that offset. */
void pipeline_go_on(struct pipeline *pl, uint64_t pos, uint64_t offset);
/* The source again, from the byte on that is received next; probe may be NULL. Both taken over. */
void pipeline_relink(struct pipeline *pl, struct conn *source, struct conn *probe);
/* The reader goes to this replication offset of the stream: back, to send again what a target has
 * lost, or on. It must be in the spool. */
KH_MUST int pipeline_seek(struct pipeline *pl, uint64_t offset, struct err *err);
/* Position in the spool of a replication offset of the stream. */
static inline uint64_t pipeline_pos(const struct pipeline *pl, uint64_t offset)
{
    return pl->stream_pos + (offset - pl->stream_offset);
}
/* Replication offset behind what has been received. */
uint64_t pipeline_received(const struct pipeline *pl);
/* Replication offset of the reader's place. */
uint64_t pipeline_offset(const struct pipeline *pl);
/* The lane to the node that has this key. */
struct lane *pipeline_lane(struct pipeline *pl, struct span key);
/* All items that were sent are answered. */
KH_MUST int pipeline_drain(struct pipeline *pl, struct err *err);
/* Acknowledge at the next step. */
void pipeline_ack_now(struct pipeline *pl);

#endif
