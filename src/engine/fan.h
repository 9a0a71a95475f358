// SPDX-License-Identifier: BSD-3-Clause
// The fan: the way to a clustered target. A lane to each of its primaries; each key goes to the
// node that has its slot (docs/decisions/0004).
//
//  load     fan_lane_of(key): the lane to use like that of a single target, items or calls. What is
//           answered by a redirection is sent again elsewhere after fan_follow().
//  stream   a batch at a time, in place of batch_send() and batch_finish():
//
//               fan_send ──▶ groups, one per slot, over the lanes ──▶ fan_answered ──▶ fan_finish
//                                 ▲                                                       │
//                                 └────────── those refused in passing, again ────────────┘
//
// A node that is lost, or has lost its office, ends it all (`lost`): then fan_drop(), and
// fan_connect() when the cluster is whole again.
// One owner thread.
#ifndef KEYHAUL_ENGINE_FAN_H
#define KEYHAUL_ENGINE_FAN_H

#include "engine/batch.h"
#include "engine/import_mode.h"
#include "redis/cluster.h"
#include "wire/slot.h"

#include <poll.h>

#define FAN_NODES_MAX 256
#define FAN_NO_NODE   0xffff
#define FAN_MARKS     3
#define FAN_MARK_MAX  96 /* of a mark's value (fan_mark.h) */

struct fan_node {
    struct lane lane;
    char id[CLUSTER_ID_MAX];
    bool used;        /* it has slots */
    struct store out; /* what it gets of the batch at hand */
    struct buf order; /* uint32_t: its groups, in the order of their replies */
    uint64_t replies; /* due for it */
    /* Some of its slots, for the marks of the node: the ends are what moves away first. */
    uint16_t mark_slot[FAN_MARKS];
    unsigned marking;             /* so many such marks are on their way */
    uint64_t flushed;             /* the last FLUSHDB of the stream that it has had for certain */
    char mark_rest[FAN_MARK_MAX]; /* of all marks that it gets now, behind their o */
    size_t mark_rest_n;
};

struct fan {
    struct cluster *cluster;               /* blocking clients, and the map; borrowed */
    struct fan_node *nodes[FAN_NODES_MAX]; /* owned */
    unsigned n;
    uint16_t node_of[SLOT_COUNT];   /* index of nodes; FAN_NO_NODE */
    enum lane_lost lost;            /* pause->lost as well */
    struct lane *pause;             /* has no connection: what is waited for, and for how long */
    struct lane_config lane_config; /* but for the connection */
    struct lane_peers peers;        /* of all lanes */
    struct import_mode *import;
    char task[CHECKPOINT_KEY_MAX]; /* the name that connections are known by */
    const char *inputs_dir;        /* see io/inputs.h */
    const char *store_dir;
    uint64_t store_max_bytes;
    int64_t told_moved_ms;     /* monotonic: when it was said that slots move */
    int64_t stop_ms;           /* monotonic: when a redirection was met by a task that is to stop */
    struct fan_stream *stream; /* fan_stream.c; NULL before fan_begin_stream() */
};

struct fan_config {
    struct cluster *cluster;
    struct import_mode *import; /* each connection is marked by it; may be NULL. Borrowed */
    struct lane_config lane;    /* conn is not looked at */
    struct lane *pause;
    const char *task; /* the name that connections are known by; see checkpoint_evict(). "" none */
    const char *inputs_dir; /* the task's own, kept: what commands have read; borrowed */
    const char *store_dir;
    uint64_t store_max_bytes;
};

KH_MUST int fan_open(struct fan **ret, const struct fan_config *cfg, struct err *err);
void fan_close(struct fan *f); /* NULL-safe */
/* The task is done: what commands have read (io/inputs) is deleted. */
void fan_forget(struct fan *f);

/* Lanes to all primaries with slots, as the cluster's map tells now; those that are there stay.
 * ERR_BUSY: slots without a node, or a node that is not to be reached: later, perhaps. */
KH_MUST int fan_connect(struct fan *f, struct err *err);
/* All connections are given up; what was in flight is unknown. */
void fan_drop(struct fan *f);

/* --- called by the poll step --- */
/* At most `max` entries at `fds`; returns how many. *ret_wait: 0 when bytes are in hand already. */
unsigned fan_poll(struct fan *f, struct pollfd *fds, unsigned max, int *ret_wait);
KH_MUST int fan_pump(struct fan *f, const struct pollfd *fds, unsigned n, struct err *err);

/* --- load, and whatever is asked of single keys --- */
static inline struct fan_node *fan_node_of(struct fan *f, uint16_t slot)
{
    return f->nodes[f->node_of[slot]]; /* fan_connect() sees to it that each slot has one */
}
static inline struct lane *fan_lane_of(struct fan *f, struct span key)
{
    return &fan_node_of(f, slot_of(key))->lane;
}
/* All lanes idle: every item answered, redirected ones included. */
KH_MUST int fan_drain(struct fan *f, struct err *err);
/* "MOVED ...", "ASK ...", "TRYAGAIN ...", "CLUSTERDOWN ...": an error line that tells to go
 * elsewhere, or to come back later. */
static inline bool fan_is_redirect(const char *line)
{
    return refusal_is_redirect(line);
}
/* Read the map again after such an answer, and wait a while when nothing is new. Lanes that a
 * caller holds stay valid, but may have become the wrong ones. -1 with `lost` set: a primary is
 * none any more; ERR_BUSY: it has lasted for the task's retry time. */
KH_MUST int fan_follow(struct fan *f, const char *line, struct err *err);
/* It has gone through. */
void fan_recovered(struct fan *f);
/* Read the map again, and follow it: have slots moved since? */
KH_MUST int fan_look(struct fan *f, bool *ret_moved, struct err *err);

/* --- stream --- */

/* Where a target is, as its slots tell it (fan_mark.h), or where a stream begins. */
struct fan_place;

/* Batches follow. `place`: taken over. `tolerate`: up to this offset commands may have been applied
 * before, and an error that one meets is none. */
KH_MUST int fan_begin_stream(struct fan *f, struct fan_place *place, uint64_t tolerate,
                             struct err *err);
/* Every node is told where all are, and has answered. */
KH_MUST int fan_tell(struct fan *f, struct err *err);
KH_MUST int fan_send(struct fan *f, struct batch *b, struct err *err);
bool fan_answered(const struct fan *f);
KH_MUST int fan_finish(struct fan *f, struct batch *b, struct err *err);
/* Everything of this slot up to here is applied, as its mark says; 0 not known. */
uint64_t fan_slot_applied(const struct fan *f, uint16_t slot);
/* Every node knows that all up to here is applied; where the next run goes on at least. */
uint64_t fan_told(const struct fan *f);

/* --- between fan.c and fan_stream.c --- */
void fan_lose(struct fan *f, enum lane_lost why);
void fan_stream_free(struct fan_stream *s); /* NULL-safe */
/* Slots have moved: all nodes are told the place before anything else. */
void fan_stream_joined(struct fan_stream *s);

#endif
