// SPDX-License-Identifier: BSD-3-Clause
// The commands of an AOF, counted and not run: how many of which name, in which database, and from
// when to when. Bounded whatever the file: nothing grows with the number of commands.
#ifndef KEYHAUL_ENGINE_TALLY_H
#define KEYHAUL_ENGINE_TALLY_H

#include "engine/key_select.h"
#include "engine/select.h"
#include "wire/resp.h"

#include <stdatomic.h>

#define TALLY_DBS        1024 /* databases told one by one; what is in others goes to the last */
#define TALLY_UNKNOWN    64   /* names that the command table does not know, told one by one */
#define TALLY_NAME_BYTES 40

struct tally_sum {
    uint64_t commands, bytes;
};

/* A sum, and what of it belongs to transaction `tx`: taken back where that has no end. */
struct tally_cell {
    struct tally_sum sum, open;
    uint64_t tx;
};

struct tally_db {
    uint64_t db;
    struct tally_cell n;
};

struct tally_command {
    char name[TALLY_NAME_BYTES]; /* upper case, made plain */
    struct tally_cell n;
};

struct tally_config {
    const struct db_select *select; /* NULL: all */
    const struct key_select *keys; /* NULL: all; of commands that name keys, one must be selected */
    const atomic_bool *stop;       /* may be NULL */
};

/* MULTI, EXEC and SELECT count as bytes only. */
struct tally {
    uint64_t bytes; /* read, comments and all */
    struct tally_cell all, left_out;
    struct tally_cell nowhere; /* of no database, or all: FLUSHALL, SWAPDB, FUNCTION, PUBLISH */
    struct tally_db *db;
    size_t n_db;
    struct tally_command *command; /* the last of those unknown stands for all further ones */
    size_t n_command, n_unknown;
    uint64_t transactions;
    int64_t first_ms, last_ms; /* annotated, the earliest and the latest; 0: none */

    struct resp_cmds cmds;
    uint16_t
        *slot; /* of each entry of the command table: 1 + where it is in `command`, 0 nowhere */
    uint64_t tx;
    bool in_tx;
    uint64_t at_db;
};

KH_MUST int tally_init(struct tally *t, struct err *err);
void tally_release(struct tally *t); /* safe on zeroed */

/* What of a file's end was left out, as servers do: a command or transaction that is not whole. */
struct tally_cut {
    bool cut;
    uint64_t at; /* byte of the file where it begins */
};
/* From the reader's place to the end of the file; the sums go on from file to file. After a failure
 * the counts are those up to there. */
KH_MUST int tally_run(struct tally *t, const struct tally_config *cfg, struct reader *r,
                      struct tally_cut *ret, struct err *err);

/* Order `db` by number and `command` by how often each came. Nothing can be counted after it. */
void tally_sort(struct tally *t);

#endif
