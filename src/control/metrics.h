// SPDX-License-Identifier: BSD-3-Clause
// One look at the counters, and the JSON of it. Pure but for metrics_take().
#ifndef KEYHAUL_CONTROL_METRICS_H
#define KEYHAUL_CONTROL_METRICS_H

#include "control/shards.h"
#include "control/text.h"
#include "engine/counters.h"
#include "engine/task.h"

#define METRICS_SCHEMA                                                                             \
    1 /* grows when a name goes away or changes its meaning; new ones may come                     \
       */

struct metrics {
    int64_t wall_ms, mono_ms; /* of the look */
#define X(name, help) uint64_t name;
    COUNTERS_TABLE(X)
#undef X
    struct metrics_db {
        uint64_t keys, bytes, commands, skipped, errors;
    } db[COUNTERS_DBS];
    char waiting_why[COUNTERS_WHY]; /* "": for nothing */
};

void metrics_take(struct metrics *ret, struct counters *c, int64_t wall_ms, int64_t mono_ms);

/* "snapshot", as in JSON; "unknown" for what is no phase. `file`: of a restore, whose only phase in
 * which data is moved is called so. */
const char *metrics_phase_name(uint64_t phase, bool file);

/* `which`: "source" of a restore, "target" of a backup. */
void metrics_json_file(struct text *t, const char *which, const char *file);

bool metrics_db_used(const struct metrics_db *db);

/* How the task ended. */
struct metrics_end {
    const char *outcome;   /* one word: "caught-up", "failed" ... */
    const struct err *err; /* NULL: none */
    int exit_status;
    const struct task_facts *facts; /* complete only now; NULL: the task never ran */
};

/* The metrics file: one object, one line. end NULL: the task runs. `shards` may be NULL or empty:
 * the source is no cluster. */
void metrics_json(struct text *t, const struct metrics *m, const struct shards_look *shards,
                  const struct task_config *cfg, const struct metrics_end *end);
/* "shards":[...], nothing where there are none. */
void metrics_json_shards(struct text *t, const struct shards_look *shards);

#endif
