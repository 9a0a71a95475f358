// SPDX-License-Identifier: BSD-3-Clause
// Running a task: one migration, from connect to the last reply.
//
// task_run() does it all on the calling thread (the pipeline's thread), but where the source is a
// cluster: there each shard has a thread of its own (group.h). Others look at the counters, of the
// task and of its shards, and set `stop`; nothing else is shared.
#ifndef KEYHAUL_CONTROL_RUN_H
#define KEYHAUL_CONTROL_RUN_H

#include "control/shards.h"
#include "control/state.h"
#include "engine/counters.h"
#include "engine/task.h"

#include <stdatomic.h>

/* Run to the end. `state`: the folder of a migration, open, its caller's to close after (removed
 * when the task came to its end); NULL for restore and backup. 0: done (or stopped by *stop with
 * nothing lost). `shards`: empty; of a source that is a cluster it gets them. -1: err says why and
 * decides the exit status (err_exit_status). Unresolved errors under on_error continue:
 * ERR_UNRESOLVED.
 * `*stop` may be set at any time by another thread or a signal handler. */
KH_MUST int task_run(const struct task_config *cfg, struct state *state, struct counters *counters,
                     struct shards *shards, struct task_facts *facts, const atomic_bool *stop,
                     struct err *err);

#endif
