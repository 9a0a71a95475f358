// SPDX-License-Identifier: BSD-3-Clause
// A source that is a cluster: one run per shard, each on a thread of its own, as one task
// (docs/decisions/0004).
//
//   group_run() ── map of the cluster ──▶ a member per shard: own source addresses, slots, folder
//        │                                (shards/<n>), checkpoint (<task>/<n>), counters, thread
//        └─ waits: adds up counters, lets members meet (member.h), passes on a stop, ends the
//        others
//           when one has failed, lets all end together when all have caught up
//
// The calling thread is the group's. Members and group share what group_impl.h says, under a lock.
#ifndef KEYHAUL_CONTROL_GROUP_H
#define KEYHAUL_CONTROL_GROUP_H

#include "control/run_parts.h"
#include "control/shards.h"

/* Does the task's folder tell that its source is a cluster? */
bool group_began(struct state *state);

/* The whole of it; `r` is the task's own: configuration, state, counters, facts, stop. Results as
 * of a single run. */
KH_MUST int group_run(struct run *r, struct shards *shards, uint64_t *ret_refused, struct err *err);

#endif
