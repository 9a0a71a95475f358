// SPDX-License-Identifier: BSD-3-Clause
// What a task is to do: one migration from one source to one target. control/run.h runs it.
#ifndef KEYHAUL_ENGINE_TASK_H
#define KEYHAUL_ENGINE_TASK_H

#include "engine/key_select.h"
#include "engine/select.h"
#include "io/conn.h"
#include "redis/addresses.h"
#include "redis/uri.h"
#include "wire/slot_set.h"

enum task_type { TASK_FULL_INCREMENTAL, TASK_FULL, TASK_INCREMENTAL };
enum task_conflict { TASK_CONFLICT_FAIL, TASK_CONFLICT_OVERWRITE, TASK_CONFLICT_SKIP };
enum task_until { TASK_UNTIL_STOPPED, TASK_UNTIL_CAUGHT_UP };
/* A value that the target cannot hold as it is. */
enum task_on_unsupported { TASK_UNSUPPORTED_FAIL, TASK_UNSUPPORTED_SKIP, TASK_UNSUPPORTED_DEGRADE };
enum task_on_error { TASK_ON_ERROR_STOP, TASK_ON_ERROR_CONTINUE };

struct task_side {
    struct uri uri;
    char *password; /* from file or environment; before the URI's; NULL none; wiped at release */
    struct conn_tls tls;                /* used when uri.tls */
    struct cluster_addresses addresses; /* of nodes and servers that others name: where they are
                                           reached */
    char *sentinel_password;            /* before the URI's; NULL none; wiped at release */
    bool prefer_replica;                /* of a source: read from a replica where one follows */
};

struct task_config {
    struct task_side source, target;
    enum task_type type;
    enum task_conflict on_conflict;
    enum task_until until;
    enum task_on_error on_error;
    enum task_on_unsupported on_unsupported;
    struct db_select select;
    struct key_select keys; /* of snapshots only: migrate has no such choice */
    const char *name;       /* --task; NULL: made of both addresses (control/state.h) */
    const char *state_dir;  /* NULL: the default one */
    bool restart;           /* begin anew, with a new snapshot */
    bool no_resume;         /* no checkpoint in the stream, no log: lost once, copied again */
    const char *backup;     /* backup: RDB file to write; NULL: the target is a server */
    bool force;             /* backup: replace that file */
    const char *file; /* restore: RDB or AOF, "-" standard input; NULL: the source is a server */
    const char *spool_dir; /* made if missing; NULL: in the task's folder, else $TMPDIR or /tmp */
    uint64_t spool_max_bytes; /* 0: a tenth of the free space of spool_dir */
    int connect_timeout_ms;   /* default 10 s */
    int io_timeout_ms;        /* nothing heard from a side for so long: link lost; default 60 s */
    int64_t retry_time_ms;    /* how long passing faults of the target are waited out */
    unsigned max_snapshots;   /* shards of a cluster that load at once; 0: all */
    /* The source is one shard of a cluster: only keys of these slots are its own, and on the
     * target only such keys are the run's. NULL: all. May change between two commands. */
    const struct slot_set *slots;
};

enum task_way { TASK_MIGRATE, TASK_RESTORE, TASK_BACKUP };

static inline enum task_way task_way(const struct task_config *cfg)
{
    if (cfg->backup) return TASK_BACKUP;
    return cfg->file ? TASK_RESTORE : TASK_MIGRATE;
}

/* Facts for the summary, filled as they become known; written by the task's thread before it ends,
 * read by others after. */
struct task_facts {
    char source_name[96], target_name[96]; /* "Redis 7.0.15", for people */
    char source_shown[160], target_shown[160];
};

#endif
