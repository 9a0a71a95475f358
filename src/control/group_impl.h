// SPDX-License-Identifier: BSD-3-Clause
// What the files of the group share: its members, and what is under its lock.
#ifndef KEYHAUL_CONTROL_GROUP_IMPL_H
#define KEYHAUL_CONTROL_GROUP_IMPL_H

#include "base/log.h"
#include "control/group.h"
#include "control/group_state.h"
#include "control/member.h"
#include "redis/cluster.h"

#include <pthread.h>

struct member {
    struct group *group;
    struct group_shard *part; /* the group's thread's */
    struct shard *shard;
    struct state *state;
    struct task_config cfg; /* the task's, with a source of its own */
    struct slot_set slots;  /* cfg.slots: its run's thread's, once it runs */
    struct task_facts facts;
    struct log_name log;
    pthread_t thread;
    bool started;
    atomic_bool stop, finish;

    /* under the group's lock */
    enum member_stage stage; /* that it has come to */
    bool has_checkpoint, has_turn, unsettled;
    bool ended;
    int rc; /* of its run, with err */
    struct err err;
    uint64_t refused;
};

struct group {
    struct run *r; /* the task's */
    struct shards *shards;
    struct cluster *cluster; /* of the source; the group's thread's */
    struct group_state kept;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct member **member;
    unsigned n;
    enum member_stage open; /* nobody waits for this stage or one before it any more */
    bool fresh, unsure;     /* from PLANNED on */
    unsigned turns;         /* taken */
    struct import_mode import;
    bool import_ours, import_cluster; /* a run turned it on again; the target is a cluster */
    const struct member *failed;      /* the first that did for good */
    int64_t map_ms;                   /* monotonic: when the map was read last */
    unsigned moved;                   /* slots, since the runs began */
};

static inline void group_lock(struct group *g)
{
    pthread_mutex_lock(&g->lock);
}
static inline void group_unlock(struct group *g)
{
    pthread_mutex_unlock(&g->lock);
}
/* At most so long; the lock is held. */
void group_wait(struct group *g, int ms);

/* --- group_map.c --- */

/* Read the map, at the start: waits as long as the task may wait for its source. */
KH_MUST int group_meet_cluster(struct group *g, struct err *err);
/* Which shards there are now, and which of them were there before: g->kept, saved. */
KH_MUST int group_find_shards(struct group *g, struct err *err);
/* Slots that another shard owns than the one whose run has them. The map is read again; where that
 * cannot be, 0. */
unsigned group_slots_moved(struct group *g);
/* The addresses of a shard, its primary first. */
KH_MUST int group_shard_uri(struct group *g, const struct group_shard *s, struct uri *ret,
                            struct err *err);
/* "127.0.0.1:7001" of its primary, as the map tells. */
char *group_shard_address(const struct group *g, const struct group_shard *s, char *out,
                          size_t size);

#endif
