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
#include "redis/cluster.h"
#include "wire/slot.h"

#include <poll.h>

#define FAN_NODES_MAX 256

struct fan_node {
    struct lane lane;
    struct cluster_node as; /* as the map told when it was connected; primary of slots */
    bool used;              /* it has slots, as the map tells */
    struct store out;       /* of the batch at hand */
    uint64_t replies;       /* due for it */
    uint16_t mark_slot;     /* one of its slots, for the mark of the node */
    uint64_t w;             /* all up to here was applied, by what the node told when connected */
};

struct fan_piece; /* a command, or one slot's share of it */
struct fan_group; /* what of a batch concerns one slot */

struct fan {
    struct cluster *cluster;         /* blocking clients, and the map; borrowed */
    struct fan_node *nodes[FAN_NODES_MAX]; /* owned */
    unsigned n;
    uint16_t node_of[SLOT_COUNT];    /* index of nodes */
    enum lane_lost lost;
    struct lane *pause;              /* has no connection: what it waits for, and how long already */
    struct lane_config lane_config;  /* but for the connection */
    char client_name[CHECKPOINT_KEY_MAX]; /* of the connections: CLIENT SETNAME */

    /* --- stream: fan_stream.c --- */
    char mark_prefix[CHECKPOINT_KEY_MAX]; /* "keyhaul:checkpoint:<task>:<load>:"; empty: no marks */
    uint64_t *o;          /* by slot: everything of it up to here is applied (fan_mark.h) */
    uint64_t w;           /* everything of all slots */
    uint64_t told_w;      /* the last that every node has been told */
    int64_t told_ms;      /* monotonic: when */
    uint64_t tolerate;    /* up to here a command may be sent a second time */
    struct buf pieces, groups, extra;
    uint32_t stamp, *stamp_of; /* by slot: group_of is of the batch at hand */
    uint16_t *group_of;
    uint64_t w_sent;      /* on its way */
    bool in_flight, told_split;
};

struct fan_config {
    struct cluster *cluster;
    struct lane_config lane; /* conn is not looked at */
    struct lane *pause;
    const char *task; /* the name that connections are known by; see checkpoint_evict() */
};

KH_MUST int fan_open(struct fan **ret, const struct fan_config *cfg, struct err *err);
void fan_close(struct fan *f); /* NULL-safe */

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
    return f->nodes[f->node_of[slot]];
}
static inline struct lane *fan_lane_of(struct fan *f, struct span key)
{
    return &fan_node_of(f, slot_of(key))->lane;
}
/* All lanes idle: every item answered, redirected ones included. */
KH_MUST int fan_drain(struct fan *f, struct err *err);
/* "MOVED ...", "ASK ...", "TRYAGAIN ...", "CLUSTERDOWN ...": an error line that tells to go
 * elsewhere, or to come back later. */
bool fan_is_redirect(const char *line);
/* Read the map again after such an answer, and wait a while when nothing is new. Lanes that a
 * caller holds stay valid, but may have become the wrong ones. -1 with `lost` set: a primary is none any
 * more; ERR_BUSY: it has lasted for the task's retry time. */
KH_MUST int fan_follow(struct fan *f, const char *line, struct err *err);
/* It has gone through. */
void fan_recovered(struct fan *f);

/* --- stream --- */
KH_MUST int fan_send(struct fan *f, struct batch *b, struct err *err);
bool fan_answered(const struct fan *f);
KH_MUST int fan_finish(struct fan *f, struct batch *b, struct err *err);

#endif
