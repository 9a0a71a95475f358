// SPDX-License-Identifier: BSD-3-Clause
// Prechecks: what would go wrong is said before anything is written.
//
// Each check is one call: 0 well, -1 with words for a person. Nothing is changed on either side.
// What is worth knowing but stops nothing is added to the notes.
// A target may be a cluster: then each of its primaries is asked.
#ifndef KEYHAUL_CHECK_CHECK_H
#define KEYHAUL_CHECK_CHECK_H

#include "engine/task.h"
#include "redis/facts.h"
#include "redis/primaries.h"

#define CHECK_NOTES_MAX 12

struct check_notes {
    unsigned n;
    char text[CHECK_NOTES_MAX][300];
};
void check_note(struct check_notes *notes, const char *fmt, ...) KH_PRINTF(2, 3);

/* From the facts alone. ERR_REFUSED: same server or one replicates from the other, the target is a
 * replica, a cluster or sentinel on either side. ERR_BUSY: one of them is loading, or the source is
 * a replica whose link is down (the caller may wait and ask for the facts again). Ends with
 * check_unsupported(). */
KH_MUST int check_sides(const struct server_facts *source, const struct server_facts *target,
                        const struct task_config *cfg, struct check_notes *notes, struct err *err);

/* Facts that hold for every primary of a cluster: the oldest version, the least room, the keys of
 * all. ret is overwritten on success; facts_release() it. ERR_REFUSED: nodes of different kinds, of
 * which none takes no more than all others do. ERR_BUSY: one is loading, or a replica by now. */
KH_MUST int check_nodes(const struct primaries *target, struct server_facts *ret, struct err *err);
/* As check_sides() does for a single target: is the source one of its nodes? ERR_REFUSED. */
KH_MUST int check_apart(const struct server_facts *source, const struct primaries *target,
                        const struct task_config *cfg, struct err *err);

/* What the source counts and the target cannot hold: hashes with fields that expire, functions.
 * ERR_REFUSED where it would end the task later, else a note. (Of the rest only the data tells.) */
KH_MUST int check_unsupported(const struct server_facts *source, const struct server_facts *target,
                              const struct task_config *cfg, struct check_notes *notes,
                              struct err *err);

/* As check_sides() for a target that is filled from a file. */
KH_MUST int check_target(const struct server_facts *target, const struct task_config *cfg,
                         struct err *err);

/* A file's keys are not known beforehand: under `fail` every database of the target that may be
 * written to must be empty. ERR_CONFLICT. */
KH_MUST int check_empty(const struct server_facts *target, const struct task_config *cfg,
                        struct err *err);

/* Every selected database of the source that has keys must exist on the target. ERR_REFUSED. */
KH_MUST int check_databases(const struct primaries *target, const struct server_facts *source_facts,
                            const struct server_facts *target_facts, const struct db_select *select,
                            struct err *err);

/* Modules that only the source has are noted: keys of their types cannot be moved. Servers that do
 * not tell their modules are passed over. */
KH_MUST int check_modules(struct client *source, const struct primaries *target,
                          struct check_notes *notes, struct err *err);

/* May the target's user do what the task needs? Queues one command of each kind in a MULTI that is
 * always discarded: nothing is executed. ERR_PERM names all commands that are missing, and the
 * ACL line to fix it; ERR_REFUSED, ERR_BUSY: it takes no writes now. Out of memory is only noted.
 */
KH_MUST int check_target_rights(const struct primaries *target, const struct server_facts *facts,
                                const struct task_config *cfg, struct check_notes *notes,
                                struct err *err);

#define CHECK_CONFLICT_NAMES 10
#define CHECK_CONFLICT_MAX   1000 /* counted no further */

struct conflict_report {
    uint64_t collisions; /* keys of the source that exist on the target */
    bool at_least;       /* counting was given up at CHECK_CONFLICT_MAX */
    unsigned n_names;
    struct {
        uint32_t db;   /* of the target */
        char key[140]; /* quoted for people */
    } name[CHECK_CONFLICT_NAMES];
};

/* Keys that exist on both sides, database by database as selected and mapped. A database that is
 * empty on either side costs one command. Works in pages: bounded memory. All clients have
 * database 0 selected afterwards. Only keys of target->slots are looked at; what the source (a
 * shard of a cluster, then) does not have any more is another's. */
KH_MUST int check_conflicts(struct client *source, const struct primaries *target,
                            const struct server_facts *source_facts, const struct db_select *select,
                            struct conflict_report *ret, struct err *err);

/* ERR_CONFLICT in words: how many, the first ten, what to choose. Always returns -1. */
int check_conflict_err(const struct conflict_report *r, const char *target_name, struct err *err);

#endif
