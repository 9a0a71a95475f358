// SPDX-License-Identifier: BSD-3-Clause
// Running a task with progress, signals and summary, for all commands that do.
#ifndef KEYHAUL_CLI_MIGRATE_H
#define KEYHAUL_CLI_MIGRATE_H

#include "control/config.h"

/* What a command does otherwise than migrate. */
struct migrate_way {
    /* Behind the words of an error that may pass. NULL: none. */
    const char *advice;
    bool known; /* only a task that has begun: none is made */
    /* More options, before they are understood. 1: there is nothing left to do, end with
     * *ret_status. May be NULL. */
    int (*fill)(struct option_values *v, int *ret_status, struct err *err);
};

/* Returns the exit status. */
int migrate_run(int argc, char **argv, const struct migrate_way *way);

#endif
