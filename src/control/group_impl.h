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
    struct group_shard *part; /* under the lock */
    struct shard *shard;
    struct state *state;
    struct task_config cfg; /* the task's, with a source of its own */
    struct slot_set slots;  /* cfg.slots: its run's thread's, once it runs */
    struct slot_set held;   /* the same\'s: that it owns, adopted or not */
    struct task_facts facts;
    struct log_name log;
    pthread_t thread;
    bool started, late;
    atomic_bool stop, finish;
    atomic_bool leaving;     /* its slots have gone to others: it is to end */
    atomic_bool uri_changed; /* next_uri is newer */
    unsigned seen;           /* its run's thread's: the map that it goes by */
    bool waits;              /* the same\'s: there are slots to be adopted */

    /* under the group's lock */
    enum member_stage stage; /* that it has come to */
    bool has_checkpoint, has_turn, streams;
    bool must_reload; /* slots cannot be adopted: a snapshot is to be taken */
    unsigned acked;   /* this map, and nothing is on its way that was sent by one before; its thread
                         alone sets it */
    struct slot_set loading; /* to be adopted, and in the snapshot that is on its way */
    struct slot_set pending; /* adopted, once what was sent up to ... */
    uint64_t pending_to;     /* ... this offset is known to be applied */
    struct uri next_uri;
    int64_t bare_since_ms; /* monotonic: without slots; 0: it has some */
    bool ended, left;
    int rc; /* of its run, with err */
    struct err err;
    uint64_t refused;
};

struct group {
    struct run *r; /* the task's */
    struct shards *shards;
    struct cluster *cluster; /* of the source; the watcher's, once there is one */
    pthread_t watcher;
    bool watched;
    atomic_bool leave;   /* the watcher is to end */
    atomic_uint map;     /* number of the map that is in force, from 1 on */
    uint64_t map_hash;   /* the watcher's: of what it saw last */
    bool unsaved;        /* the watcher's: the same has still to be saved */
    uint64_t looks;      /* under the lock: how often it has looked */
    uint64_t done_looks; /* the same, when all had come to their end, at ... */
    int64_t done_ms;     /* ... this time; 0: they have not */
    bool finishing;      /* under the lock: all are to end when they have caught up */
    bool ask_still;      /* the same: only slots on their way may keep it from that */
    bool still;   /* the same: asked, all owners say that no slot is, as of the map in force */
    int half_way; /* the watcher's: a slot that it has told of, -1 none */
    int64_t next_try_ms; /* the watcher's: to begin with a shard that could not be begun with */

    pthread_mutex_t lock;
    struct group_state kept;
    unsigned moved[SLOT_COUNT]; /* the map with which a slot came to its owner */
    pthread_cond_t changed;
    struct member **member;
    unsigned n;
    enum member_stage open; /* nobody waits for this stage or one before it any more */
    bool fresh, unsure;     /* from PLANNED on */
    unsigned turns;         /* taken */
    struct import_mode import;
    bool import_ours, import_cluster; /* a run turned it on again; the target is a cluster */
    const struct member *failed;      /* the first that did for good */
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
/* The map has changed: g->kept, not saved. Slots that have moved are on the lists of their new
 * owners, and no run is to know of it yet (g->moved is of the map that comes next). How many. The
 * lock is held. */
KH_MUST int group_change_shards(struct group *g, unsigned *ret_moved, struct err *err);
/* The addresses of a shard, its primary first. */
KH_MUST int group_shard_uri(struct group *g, const struct group_shard *s, struct uri *ret,
                            struct err *err);
/* "127.0.0.1:7001" of its primary, as the map tells. */
char *group_shard_address(const struct group *g, const struct group_shard *s, char *out,
                          size_t size);

/* --- group.c, for group_watch.c; the lock is held --- */

/* A member for a shard that has none, and its thread. */
KH_MUST int group_begin_member(struct group *g, struct group_shard *part, struct err *err);
struct member *group_member_of(const struct group *g, const struct group_shard *part);
/* No slot of any shard is still to be settled. */
bool group_is_settled(const struct group *g);

/* --- group_watch.c --- */

KH_MUST int group_watch(struct group *g, struct err *err);
void group_watch_end(struct group *g);

#endif
