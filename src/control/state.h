// SPDX-License-Identifier: BSD-3-Clause
// The folder of a task: who it is, how far it is, and the lock that lets it run once only.
//
//   <state dir>/<task>/lock             held (flock) while a process runs it; its text is that
//                                       process's number
//                      task.json        what it is: both sides (no passwords), selection, policies;
//                                       written once
//                      state.json       how far it is; replaced and synced at each step
//                      metrics.json     counters, replaced every second (see metrics.h)
//                      existing.keys    keys that stood on the target before (engine/reconcile.h)
//                      spool/           what was received and is not applied yet
//
// All of mode 0700 and 0600. Default state dir: $XDG_STATE_HOME/keyhaul, else
// ~/.local/state/keyhaul. One owner thread.
#ifndef KEYHAUL_CONTROL_STATE_H
#define KEYHAUL_CONTROL_STATE_H

#include "engine/task.h"

#define STATE_NAME_MAX 100 /* of a task: letters, digits, - _ . */

enum state_phase {
    STATE_NEW,     /* nothing has been written to the target */
    STATE_LOADING, /* a snapshot was being loaded */
    STATE_STREAM,  /* the checkpoint on the target tells how far it is */
    STATE_DONE,    /* finished: the next run begins anew */
};

struct state_progress {
    enum state_phase phase;
    uint64_t snapshots;    /* taken so far */
    char replid[41];       /* history of the stream received last */
    uint64_t spool_pos;    /* this position in the spool ... */
    uint64_t spool_offset; /* ... is this replication offset of it */
    bool spool_valid;      /* the two hold for the files in spool/ */
    bool clean;            /* the last run ended in order: no deadlines are held on the target */
    int64_t hold_base_ms;  /* see hold.h; 0 none */
    uint64_t seed;         /* of keysets; made when the folder is made */
};

struct state;

/* The name given, or one made of both addresses ("127.0.0.1-7001-to-127.0.0.1-7002"). ERR_USAGE:
 * impossible as a folder's name. */
KH_MUST int state_task_name(char ret[STATE_NAME_MAX + 1], const struct task_config *cfg,
                            struct err *err);

/* Open or make the folder of this task, take the lock.
 * ERR_BUSY: a process runs it (its number is named). ERR_USAGE: the folder is of a task with other
 * sides, selection or policy: the words tell each difference, and what to do (--task, --restart).
 * With cfg->restart a folder of another shape is emptied. *ret_known: it ran before. */
KH_MUST int state_open(struct state **ret, const struct task_config *cfg, bool *ret_known,
                       struct err *err);
/* Gives the lock back. `remove`: the task is over, the folder goes. NULL-safe. */
void state_close(struct state *s, bool remove);

const char *state_name(const struct state *s);
const char *state_dir(const struct state *s);       /* the task's folder */
const char *state_spool_dir(const struct state *s); /* --spool-dir where given, else spool/ there */
const char *state_existing_path(const struct state *s);

/* To be changed in place, then saved: on disk (fsync of file and folder) when it returns 0. */
struct state_progress *state_progress(struct state *s);
KH_MUST int state_save(struct state *s, struct err *err);

/* --- looking at tasks from outside (status, stop, finish); takes no lock for long --- */

struct state_seen {
    char name[STATE_NAME_MAX + 1];
    bool damaged; /* its files cannot be read: `why` */
    char why[200];
    long pid; /* of the process that runs it, 0 none */
    char source[160], target[160];
    struct state_progress progress;
    /* out of metrics.json, -1 where not told */
    char phase[24];
    int64_t lag_bytes, lag_ms, keys_written, commands_written, errors;
    int64_t updated_ms; /* unix ms of metrics.json */
};

/* Every task of the state dir (NULL: the default one), in order of names. -1 of fn ends it. */
KH_MUST int state_each(const char *state_dir,
                       int (*fn)(void *ctx, const struct state_seen *seen, struct err *err),
                       void *ctx, struct err *err);
/* One by name. ERR_USAGE: there is none (the words name those that are). */
KH_MUST int state_see(struct state_seen *ret, const char *state_dir, const char *name,
                      struct err *err);

#endif
