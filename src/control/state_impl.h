// SPDX-License-Identifier: BSD-3-Clause
// What the files behind state.h share: names and shape of a task, its lock, its JSON files.
#ifndef KEYHAUL_CONTROL_STATE_IMPL_H
#define KEYHAUL_CONTROL_STATE_IMPL_H

#include "control/state.h"
#include "control/text.h"

#include <jansson.h>
#include <limits.h>

#define STATE_SCHEMA 1 /* grows when an older keyhaul must not go on with the files */

/* --- what a task is (state_shape.c) --- */

/* A folder is that of the same task when all of these are equal. */
#define STATE_SHAPE_TABLE(X)                                                                       \
    X(SOURCE, "source", "--source")                                                                \
    X(TARGET, "target", "--target")                                                                \
    X(DATABASES, "databases", "--db")                                                              \
    X(DATABASE_MAP, "database_map", "--db-map")                                                    \
    X(TYPE, "type", "--type")                                                                      \
    X(ON_CONFLICT, "on_conflict", "--on-conflict")

enum state_shape_field {
#define X(id, json, option) STATE_SHAPE_##id,
    STATE_SHAPE_TABLE(X)
#undef X
        STATE_SHAPE_FIELDS
};

struct state_shape {
    char *text[STATE_SHAPE_FIELDS];
};

const char *state_shape_json(enum state_shape_field f);
const char *state_shape_option(enum state_shape_field f);
KH_MUST int state_shape_make(struct state_shape *ret, const struct task_config *cfg,
                             struct err *err);
void state_shape_release(struct state_shape *shape); /* safe on zeroed */
/* "--db was all, now 0" for each difference; false: there is none. */
bool state_shape_differs(const struct state_shape *was, const struct state_shape *now,
                         struct text *words);

/* ERR_USAGE: no name for a task. */
KH_MUST int state_check_name(const char *name, struct err *err);

/* --- its files (state_file.c) --- */

#define STATE_ID_CHARS 16

/* task.json */
struct state_task {
    struct state_shape shape;
    char id[STATE_ID_CHARS + 1]; /* random: names what is the task's outside of its folder */
    int64_t created_ms;
    bool source_login, target_login; /* a password was given */
    json_t *options;                 /* name to text, as given; an object */
};

void state_task_release(struct state_task *t); /* safe on zeroed */
void state_task_put(struct text *t, const char *name, const struct state_task *task);
/* 1; 0: no such file; -1: ERR_FORMAT, the words begin with the path. */
KH_MUST int state_task_read(struct state_task *ret, const char *dir, struct err *err);

/* state.json; spool_dir is where the spool it tells of lies. */
void state_progress_put(struct text *t, const struct state_progress *p, const char *spool_dir);
KH_MUST int state_progress_read(struct state_progress *ret, char spool_dir[PATH_MAX],
                                const char *dir, struct err *err);

/* Of the options given those that make the task what it is: an object, without passwords. */
KH_MUST int state_keep_options(json_t **ret, const struct option_values *options, struct err *err);

/* What all runs have moved so far, by the file of the last one; left as they are where it cannot be
 * read. */
void state_moved_read(struct state_progress *p, const char *dir);
/* metrics.json, as far as it tells. */
void state_shards_read(struct shards_look *ret, const char *dir);
void state_metrics_read(struct state_seen *ret, const char *dir);

/* --- its lock (state_lock.c) --- */

/* The descriptor that holds it, to be closed. -1: ERR_REFUSED, a process runs it. The folder must
 * be there; ret_gone: it was removed meanwhile, make it again. */
int state_lock_take(const char *dir, const char *name, bool *ret_gone, struct err *err);
KH_MUST int state_lock_look(const char *dir, bool *ret_running, long *ret_pid, struct err *err);

/* --- being asked (state_ask.c) --- */

KH_MUST int state_ask_write(const char *path, struct span bytes, struct err *err);

/* Path of a part, ERR_USAGE when it is too long. */
KH_MUST int state_path(char ret[PATH_MAX], const char *dir, const char *name, struct err *err);

#endif
