// SPDX-License-Identifier: BSD-3-Clause
// Making a target equal to a new snapshot without emptying it: keys of the snapshot replace what is
// there, keys that are not in it are deleted, but not those that were never the task's.
//
//   first load     reconcile_note_existing(), then a load with a struct begun `first`: nothing is
//                  replaced that the policy does not allow, nothing deleted; a key that stood on
//                  the target and is written becomes the task's
//   a load again   reconcile_begin, load, reconcile_sweep, reconcile_end
//
// What stands there before the first load, and is not the task's, is kept in a file of hashes
// (io/keyset.h). It gets fewer: a key of the source that is written over it is taken out before it
// is written. Libraries of functions are in both sets as keys of a database that no server has.
//
// All of it for the databases that the task selects, and the slots where it is one shard's of a
// source (struct primaries; libraries, which all shards have, are not deleted then). Checkpoint
// keys of any task are left alone. Talks to the target over clients of its own: of a cluster to
// each primary, and again where slots moved meanwhile. One owner thread.
#ifndef KEYHAUL_ENGINE_RECONCILE_H
#define KEYHAUL_ENGINE_RECONCILE_H

#include "base/buf.h"
#include "engine/counters.h"
#include "engine/select.h"
#include "io/keyset.h"
#include "redis/facts.h"
#include "redis/primaries.h"
#include "redis/scan.h"

#define RECONCILE_LATE_MAX (64u << 20) /* bytes of libraries that are put off, see below */

struct reconcile {
    struct keyset *existing; /* stood there before the first load; NULL none */
    struct keyset *seen;     /* of this snapshot; NULL in a first load */
    const struct db_select *select;
    struct counters *counters;
    bool first;  /* the task's first load */
    bool whole;  /* the snapshot was loaded to its end: without that nothing is deleted */
    bool unsure; /* what existed may be the task's own: replaced, but not deleted */
    bool moved;  /* the source has swapped databases since: what existed may be in any of `dbs` */
    int64_t dbs;
    bool unclear; /* a library has no name that could be read: then none is deleted */
    /* Libraries that the target did not take because another one there, which may be about to go,
     * has a function of theirs: uint32_t length, code. Loaded by the sweep. */
    struct buf late;
};

/* `existing_path`: written by reconcile_note_existing(); where it is not there, there were none.
 * reconcile_end() it also when this fails.
 * `dir`: for files without a name; borrowed, as are the others. ERR_FORMAT: the file is damaged. */
KH_MUST int reconcile_begin(struct reconcile *rc, const struct db_select *select,
                            struct counters *counters, const char *dir, const char *existing_path,
                            bool first, struct err *err);
void reconcile_end(struct reconcile *rc); /* safe on zeroed */

/* How many databases the target has; before anything else is asked. */
void reconcile_dbs(struct reconcile *rc, const struct server_facts *target);

/* --- by the load; a library of functions is a key of database RECONCILE_LIBRARIES --- */

#define RECONCILE_LIBRARIES INT64_MAX

/* A key of the snapshot, target database `db`, was seen, and is on the target or will be. */
KH_MUST int reconcile_seen(struct reconcile *rc, int64_t db, struct span key, struct err *err);
/* Did it stand there before the task, and has not become the task's? 1, 0, -1. */
KH_MUST int reconcile_existed(struct reconcile *rc, int64_t db, struct span key, struct err *err);
/* It is about to be written, so it is the task's from now on. */
KH_MUST int reconcile_take(struct reconcile *rc, int64_t db, struct span key, struct err *err);
/* The snapshot was seen to its end, and all of it is on the target. */
KH_MUST int reconcile_loaded(struct reconcile *rc, struct err *err);

/* The name in a library's code: "#!lua name=mylib\n"; empty: cannot be told. */
struct span reconcile_library_name(struct span code);
KH_MUST int reconcile_late_library(struct reconcile *rc, struct span code, struct err *err);

/* --- around it --- */

/* All keys of the snapshot are on the target: delete what is not in it. What passes (network,
 * LOADING, BUSY, READONLY ...) ends it with ERR_NET or ERR_BUSY: it may be run again from the
 * start, with another client where it is a single server. `step` (may be NULL) is run at least
 * every 100 ms, also while the target says nothing. */
KH_MUST int reconcile_sweep(struct reconcile *rc, const struct primaries *target,
                            const struct server_facts *facts,
                            int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                            uint64_t *ret_deleted, struct err *err);

/* Before a first load: note what stands in the target's selected databases, and its libraries, in a
 * file at `path`; no file when there is nothing. */
KH_MUST int reconcile_note_existing(const struct primaries *target,
                                    const struct server_facts *facts,
                                    const struct db_select *select, const char *dir,
                                    const char *path, struct err *err);
/* The task has been here before, but what was noted is gone (another machine): note all of it, as
 * keys that are the task's or not. */
KH_MUST int reconcile_note_unsure(const struct primaries *target, const struct server_facts *facts,
                                  const struct db_select *select, const char *dir, const char *path,
                                  struct err *err);

/* Delete all keys of the target's slots (target->slots) but checkpoints: of one database, or of all
 * that the task goes to (-1). Those of one slot go at once. `dir`: for files without a name. As
 * reconcile_sweep(). */
KH_MUST int reconcile_flush(const struct primaries *target, const struct server_facts *facts,
                            const struct db_select *select, int64_t db, const char *dir,
                            int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                            struct err *err);
/* Did a library of this name stand there before the task, and has not become the task's? 1, 0, -1.
 * `path`: as above. */
KH_MUST int reconcile_is_foreign_library(const char *path, struct span code, struct err *err);

/* The source is about to swap databases on the target: what stood there before the task goes along.
 * `path`: as above; where there is no such file, there is nothing to remember. */
KH_MUST int reconcile_note_swap(const char *path, struct err *err);

/* --- reconcile.c for reconcile_flush.c --- */

/* `scan`: to ask for the next page. Of the keys those that walk_wants() matter. */
typedef int reconcile_page_fn(void *ctx, struct walk *w, uint32_t db, struct scan *scan,
                              const struct reply *keys, struct err *err);

struct reconcile_visit {
    const struct primaries *target;
    const struct db_select *select;
    const int64_t *only_db; /* NULL: all that the task goes to */
    reconcile_page_fn *fn;
    void *ctx;
    int (*step)(void *ctx, int max_wait_ms, struct err *err); /* while waiting; may be NULL */
    void *step_ctx;
};
/* All keys of the target, page by page. */
KH_MUST int reconcile_each_page(const struct reconcile_visit *v, struct err *err);
void reconcile_expect_another(struct err *err);

/* --- reconcile_lib.c, for reconcile.c --- */

KH_MUST int reconcile_note_libraries(struct keyset *to, const struct primaries *target,
                                     const struct server_facts *facts, struct err *err);
KH_MUST int reconcile_sweep_libraries(struct reconcile *rc, const struct primaries *target,
                                      const struct server_facts *facts, struct err *err);

#endif
