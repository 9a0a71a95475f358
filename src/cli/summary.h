// SPDX-License-Identifier: BSD-3-Clause
// What a task did, told once at its end: a table per database, one per phase, one sentence. Pure.
#ifndef KEYHAUL_CLI_SUMMARY_H
#define KEYHAUL_CLI_SUMMARY_H

#include "control/metrics.h"

enum summary_outcome {
    SUMMARY_DONE,      /* --type full: all of the snapshot is on the target */
    SUMMARY_CAUGHT_UP, /* --until caught-up */
    SUMMARY_STOPPED,   /* by a signal, nothing lost of what was read */
    SUMMARY_UNRESOLVED,
    SUMMARY_FAILED,
};

/* Looks that later figures are counted from. The counters are totals: what belongs to which phase
 * of the stream is only known from a look at the moment of change. */
struct summary_marks {
    int64_t stream_ms; /* monotonic ms of the first look in the stream, 0: never */
    bool caught_up;    /* the two below are of the first look that saw the lag at zero */
    uint64_t caught_up_commands, caught_up_bytes;
};

struct summary {
    const struct task_config *cfg;
    const struct task_facts *facts;
    const struct metrics *first, *last;
    const struct shards_look *shards; /* of a clustered source; may be NULL */
    const struct summary_marks *marks;
    const struct err *err; /* NULL: none */
    enum summary_outcome outcome;
    int exit_status;
};

void summary_note(struct summary_marks *marks, const struct metrics *m);

enum summary_outcome summary_outcome(const struct task_config *cfg, const struct metrics *last,
                                     const struct err *err, bool stopped);
const char *summary_outcome_name(enum summary_outcome outcome); /* "caught-up", as in JSON */

void summary_table(const struct summary *s, struct text *t); /* at most 80 columns */
void summary_json(const struct summary *s, struct text *t);  /* one line */

#endif
