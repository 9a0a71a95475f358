// SPDX-License-Identifier: BSD-3-Clause
// The folder of a task: who it is, how far it is, and the lock that lets it run once only.
//
//   <state dir>/<task>/lock             held while a process runs the task (see state_lock.c); its
//                                       text, for people, is the number of that process
//                      task.json        what it is: both sides (no passwords), selection, policies,
//                                       and the options it was begun with
//                      state.json       how far it is; replaced and synced at each step
//                      metrics.json     counters, replaced every second (see metrics.h)
//                      finish           there while another process asks to finish (state_ask);
//                                       finish.taken once that can be taken back no more
//                      shards.json      of a source that is a cluster: its shards (group_state.h)
//                      shards/<n>/      how far shard n is: a state.json of its own; its spool is
//                                       spool/<n>
//                      existing.keys    keys that stood on the target before (engine/reconcile.h)
//                      spool/           what was received and is not applied yet; with --spool-dir
//                                       it is <spool dir>/<task>-<id> instead
//
// All of mode 0700 and 0600. Default state dir: $XDG_STATE_HOME/keyhaul, else
// ~/.local/state/keyhaul. One owner thread, which is the task's from task_run() to its end.
//
// A folder counts for nothing as long as its phase is STATE_NEW: nothing was written to the target.
// It goes when the run ends, and whatever a killed run left of it is begun anew.
#ifndef KEYHAUL_CONTROL_STATE_H
#define KEYHAUL_CONTROL_STATE_H

#include "base/buf.h"
#include "control/options.h"
#include "control/shards.h"
#include "engine/counters.h"
#include "engine/task.h"

#include <stdatomic.h>

#define STATE_NAME_MAX 78 /* of a task: letters, digits, - _ . */

enum state_phase {
    STATE_NEW,     /* nothing has been written to the target */
    STATE_LOADING, /* a snapshot was being loaded */
    STATE_STREAM,  /* the checkpoint on the target tells how far it is */
    STATE_DONE,    /* finished: the next run begins anew */
};

const char *state_phase_name(enum state_phase phase); /* "loading", as in state.json */

struct state_progress {
    enum state_phase phase;
    uint64_t snapshots;       /* taken so far */
    char replid[41];          /* history of the stream received last; "" none */
    char replid_before[41];   /* another name of it: of before a failover of the source; "" none */
    uint64_t spool_pos;       /* this position in the spool ... */
    uint64_t spool_offset;    /* ... is this replication offset of it */
    bool spool_valid;         /* the two hold for the files in spool/ */
    bool clean;               /* the last run ended in order: no deadlines are held on the target */
    int64_t hold_base_ms;     /* see hold.h; 0 none */
    bool import_ours;         /* the task has turned on the target's import mode (import_mode.h) */
    uint64_t keys_before;     /* of the snapshot, loaded by runs before this one */
    uint64_t commands_before; /* of the stream, the same */
    uint64_t seed;            /* of keysets; made when the folder is made */
    uint64_t refused;         /* writes that the target has refused for good since the last snapshot
                               * began: they are not there */
};

struct state;

/* The name given, or one made of both addresses ("127.0.0.1-7001-to-127.0.0.1-7002"). ERR_USAGE:
 * impossible as a folder's name. */
KH_MUST int state_task_name(char ret[STATE_NAME_MAX + 1], const struct task_config *cfg,
                            struct err *err);

/* Open or make the folder of this task, take the lock. `options` (may be NULL: finish will not do)
 * are kept in task.json but for passwords.
 * ERR_REFUSED: a process runs it (its number is named), or the folder is of a task with other
 * sides, selection or policy: the words tell each difference, and what to do (--task, --restart).
 * ERR_FORMAT: damaged, with what to do. With cfg->restart such a folder, or one of another shape,
 * is emptied; one of the same shape is taken as it is (known, see below): what --restart means for
 * it is the caller's. */
KH_MUST int state_open(struct state **ret, const struct task_config *cfg,
                       const struct option_values *options, struct err *err);
/* The part of a shard, where the source is a cluster (control/group.h): shards/<number> in the
 * task's folder, with a state.json and a spool of its own. What existed before is the task's. Its
 * name is "<task>/<number>". `task` stays open meanwhile. Errors as above. */
KH_MUST int state_open_shard(struct state **ret, const struct state *task, unsigned number,
                             bool restart, struct err *err);
/* Gives the lock back. `remove`: the task is over, the folder goes (and the spool's); so it does
 * while the phase is STATE_NEW, and when it is STATE_DONE. NULL-safe. */
void state_close(struct state *s, bool remove);

bool state_known(const struct state *s); /* it ran before, and came so far that it counts */
const char *state_name(const struct state *s);
const char *state_dir(const struct state *s);       /* the task's folder */
const char *state_spool_dir(const struct state *s); /* exists */
const char *state_existing_path(const struct state *s);
const char *state_metrics_path(const struct state *s);

/* To be changed in place, then saved: on disk (fsync of file and folder) when it returns 0. Costs
 * nothing when nothing has changed since. */
struct state_progress *state_progress(struct state *s);
KH_MUST int state_save(struct state *s, struct err *err);

/* --- being asked to finish: to end once it has caught up --- */

/* Look whether another process asks for that. Any thread. */
void state_look_asked(struct state *s);
const atomic_bool *state_asked(const struct state *s); /* as it was found last */
/* From now on it cannot be taken back. False: it has been, just then. */
bool state_take_asked(struct state *s);
/* To whoever asked, before the folder goes. Nobody does any more: that is no error. */
KH_MUST int state_answer(const struct state *s, struct span bytes, struct err *err);

/* The other side of it. The file of the request is held open: the answer is read from it when the
 * folder is gone. */
struct state_ask {
    char path[4096], taken[4096];
    int fd; /* -1: none */
};
/* Ask, or (again and again) make sure that it is still asked: the file goes when another process
 * takes the task over. fd must be -1 at first. ERR_IO. */
KH_MUST int state_ask(struct state_ask *a, const char *state_dir, const char *name,
                      struct err *err);
/* What was answered, into buf, which is emptied first; nothing: 0 bytes. */
KH_MUST int state_ask_answer(const struct state_ask *a, struct buf *buf, struct err *err);
/* Ask no more. False: it is being done already. */
bool state_ask_withdraw(struct state_ask *a);
void state_ask_end(struct state_ask *a); /* the same, and closed */

/* --- looking at tasks from outside (status, stop, finish); takes no lock for long --- */

struct state_seen {
    char name[STATE_NAME_MAX + 1];
    bool damaged; /* its files cannot be read: `why` */
    char why[300];
    bool running;
    long pid; /* of the process that runs it; 0: none, or one of another machine or container */
    char source[160], target[160];
    struct state_progress progress;
    /* out of metrics.json, -1 and "" where not told */
    char phase[24];
    char outcome[24]; /* of the last run, if it has ended */
    char error[300];  /* that it ended with */
    int64_t lag_bytes, lag_ms, errors;
    int64_t keys, commands;   /* runs before the last included */
    int64_t waiting_for;      /* enum counters_waits; 0 unless it runs */
    int64_t waiting_until_ms; /* unix ms */
    char waiting_why[COUNTERS_WHY];
    int64_t updated_ms; /* unix ms of metrics.json */
};

/* The state dir: the one given, or (NULL) the default one. ERR_USAGE: there is no home. */
KH_MUST int state_root(char *ret, size_t size, const char *state_dir, struct err *err);

/* Every task of the state dir (NULL: the default one), in order of names. -1 of fn ends it. */
KH_MUST int state_each(const char *state_dir,
                       int (*fn)(void *ctx, const struct state_seen *seen, struct err *err),
                       void *ctx, struct err *err);
/* One by name. ERR_USAGE: there is none (the words name those that are). */
KH_MUST int state_see(struct state_seen *ret, const char *state_dir, const char *name,
                      struct err *err);
/* Its shards, by its metrics.json, as they were last; none where its source is no cluster. To be
 * released. */
void state_see_shards(struct shards_look *ret, const char *state_dir, const char *name);
/* Only whether it runs. The process named is the one that holds the lock, as the kernel says; a
 * task that is not there does not run. */
KH_MUST int state_running(const char *state_dir, const char *name, bool *ret_running, long *ret_pid,
                          struct err *err);

/* Options of `name` as task.json keeps them, to those of *v that are not given. ERR_USAGE: a side
 * needs a password, which is never kept, and none is given. */
KH_MUST int state_options(struct option_values *v, const char *state_dir, const char *name,
                          struct err *err);

#endif
