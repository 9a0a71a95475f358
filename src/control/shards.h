// SPDX-License-Identifier: BSD-3-Clause
// The shards of a source that is a cluster, as others see them: who each is, and its counters.
//
// The group (group.h) adds and changes them; progress, metrics and summary look. An entry is there
// until shards_release(), also when its run has ended: what it has counted is part of the sums.
#ifndef KEYHAUL_CONTROL_SHARDS_H
#define KEYHAUL_CONTROL_SHARDS_H

#include "base/err.h"
#include "engine/counters.h"

#include <pthread.h>
#include <stdbool.h>

#define SHARDS_ADDRESS_MAX 160

struct shard {
    unsigned number; /* from 1 on; it stays with the shard through failovers */
    /* under the lock */
    char address[SHARDS_ADDRESS_MAX]; /* of its primary, for people */
    unsigned slots;                   /* that it owns */
    bool ended;                       /* it has no slots any more */
    struct counters counters;         /* written by its own thread */
};

struct shards {
    pthread_mutex_t lock;
    struct shard **item; /* in the order of numbers */
    unsigned n;
};

void shards_init(struct shards *s);
void shards_release(struct shards *s);

/* *ret stays the shards'; one of that number that was there before is it. ERR_NOMEM. */
KH_MUST int shards_add(struct shards *s, unsigned number, struct shard **ret, struct err *err);
void shards_change(struct shards *s, struct shard *of, const char *address, unsigned slots,
                   bool ended);

/* The task's own counters: sums, but the longest of the lags, the phase of the least advanced, and
 * the times from the first that began to the last that was done. Offsets do not add up: 0. */
void shards_sum(struct shards *s, struct counters *to);

/* One look, of one shard. */
struct shard_look {
    unsigned number;
    char address[SHARDS_ADDRESS_MAX];
    unsigned slots;
    bool ended;
    uint64_t phase, waiting_for;
    uint64_t lag_bytes, lag_ms, slots_unsettled;
    uint64_t keys_written, keys_skipped, commands_written, errors;
    uint64_t bytes_read, bytes_waiting; /* received; of that in the spool still */
    uint64_t snapshot_bytes_total, snapshot_bytes_decoded;
    uint64_t source_offset, received_offset, applied_offset;
    double per_s; /* keys or commands, whatever its phase moves; over the last looks */

    uint64_t from_moved, from_phase; /* where the rate is counted from */
    int64_t from_ms;
};

struct shards_look {
    struct shard_look *item;
    unsigned n; /* 0: the source is no cluster */
};

/* The next look: the same that was used last, zeroed at first. What does not fit into memory is
 * left out. */
void shards_look(struct shards_look *l, struct shards *s, int64_t mono_ms);
void shards_look_release(struct shards_look *l);

#endif
