// SPDX-License-Identifier: BSD-3-Clause
// What the group of a task's shards keeps in the task's folder: shards.json, replaced and synced
// before any run acts by it (docs/decisions/0004).
//
//   {"schema":1,"shards":[{"shard":1,"ended":false,"nodes":["<id>", ...],"slots":"0-5460",
//                          "settle":"100,102-105","settled":"99","settled_to":123456}, ...]}
//
// A shard keeps its number as long as one of its nodes is known again, whatever address it has.
// One owner thread.
#ifndef KEYHAUL_CONTROL_GROUP_STATE_H
#define KEYHAUL_CONTROL_GROUP_STATE_H

#include "base/err.h"
#include "redis/cluster_map.h"
#include "wire/slot_set.h"

#define GROUP_SHARDS_MAX 1000
#define GROUP_NODES_MAX  64 /* of one shard, that are remembered */

struct group_shard {
    unsigned number; /* from 1 on: folder shards/<number>, checkpoint <task>/<number> */
    bool ended;      /* it had no slots any more, and is not run */
    char node[GROUP_NODES_MAX][CLUSTER_ID_MAX]; /* the primary first, then the replicas */
    unsigned n_nodes;
    struct slot_set slots;   /* that it owns, as far as any run has learnt */
    struct slot_set settle;  /* of them: came from another shard, and are to be adopted (adopt.h) */
    struct slot_set settled; /* were, since the last snapshot: to be again, should the target ... */
    uint64_t settled_to;     /* ... fall back to before this replication offset */
};

struct group_state {
    struct group_shard **shard; /* owned; in the order of numbers */
    unsigned n;
};

/* 1; 0: there is no such file in the task's folder. ERR_FORMAT: it is damaged. */
KH_MUST int group_state_read(struct group_state *ret, const char *dir, struct err *err);
KH_MUST int group_state_save(const struct group_state *s, const char *dir, struct err *err);
void group_state_release(struct group_state *s); /* safe on zeroed */
KH_MUST int group_state_add(struct group_state *s, unsigned number, struct group_shard **ret,
                            struct err *err);

/* Is there such a file? */
bool group_state_exists(const char *dir);

#endif
