// SPDX-License-Identifier: BSD-3-Clause
// `keyhaul finish`: the task once more, with the options it was begun with, until it has caught up.
#include "cli/cli.h"
#include "cli/migrate.h"
#include "cli/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A snapshot that is broken off has to be taken again. */
static int check_phase(const struct state_seen *seen, struct err *err)
{
    if (seen->damaged)
        return err_set(err, ERR_FORMAT, "the task %s cannot be read: %s", seen->name, seen->why);
    if (!seen->running || seen->progress.phase == STATE_STREAM) return 0;
    return err_set(err, ERR_REFUSED,
                   "the task %s is loading its snapshot (keyhaul status %s); finish it once that "
                   "is done, or stop it first: then finish takes a new snapshot",
                   seen->name, seen->name);
}

static int put(struct option_values *v, enum option_id id, const char *text, struct err *err)
{
    free(v->text[id]);
    v->text[id] = strdup(text);
    return v->text[id] ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int fill(struct option_values *v, struct err *err)
{
    struct state_seen seen;
    const char *name = options_text(v, OPTION_TASK_NAME);
    const char *state_dir = options_text(v, OPTION_STATE_DIR);
    if (state_see(&seen, state_dir, name, err) < 0 || check_phase(&seen, err) < 0 ||
        state_options(v, state_dir, name, err) < 0)
        return -1;
    v->command = OPTION_COMMAND_MIGRATE;
    return put(v, OPTION_TASK, name, err) < 0 ? -1 : put(v, OPTION_UNTIL, "caught-up", err);
}

static int ready(const struct config *cfg, struct err *err)
{
    const struct task_config *task = &cfg->task;
    struct state_seen seen;
    int rc = stop_task(task->state_dir, task->name, cfg->stop_timeout_ms, err);
    if (rc != 1) return rc;
    if (!cfg->quiet && cfg->output == CONFIG_OUTPUT_HUMAN)
        fprintf(stderr, "%s: the process that ran it has ended; going on from there\n", task->name);
    /* It may have come to its end by itself. */
    struct err gone;
    return state_see(&seen, task->state_dir, task->name, &gone) < 0;
}

int cli_finish(int argc, char **argv)
{
    static const struct migrate_way way = {.known = true, .fill = fill, .ready = ready};
    return migrate_run(argc, argv, &way);
}
