// SPDX-License-Identifier: BSD-3-Clause
// Inspecting files or a live server: opening, reading to the end.
#ifndef KEYHAUL_CONTROL_INSPECT_H
#define KEYHAUL_CONTROL_INSPECT_H

#include "control/config.h"
#include "engine/inspect.h"
#include "engine/tally.h"

struct inspect_task {
    const struct config *cfg;
    const atomic_bool *stop;
    struct inspect_config inspect; /* select and stop are filled in */
    /* Told now and then; total 0: not known. May be NULL. */
    void (*on_read)(void *ctx, uint64_t bytes, uint64_t total);
    void *ctx;
};

/* What was looked into. */
struct inspect_source {
    bool live; /* a server: `facts`, `name` */
    char shown[160], name[96];
    struct server_facts facts;
    size_t files;
    bool has_snapshot;  /* an AOF may begin without */
    struct tally tally; /* of an AOF: the commands behind its snapshot, sorted */
    struct tally_cut cut;
};

/* Fills *in and *ret as far as it came, also when it fails; release both. ERR_INCOMPLETE: stopped.
 */
KH_MUST int inspect_task_run(const struct inspect_task *t, struct inspect *in,
                             struct inspect_source *ret, struct err *err);
void inspect_source_release(struct inspect_source *s); /* safe on zeroed */

#endif
