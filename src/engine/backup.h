// SPDX-License-Identifier: BSD-3-Clause
// A snapshot written to a file as the source said it: records byte by byte, those of databases and
// keys that are not selected left out, the checksum computed anew.
//
//   backup_open ──▶ FILE.tmp, locked ──▶ backup_run ──▶ backup_finish: synced, renamed to FILE
//                                    └─────────────────▶ backup_release: removed
//
// Under its final name there is never a part of a backup.
#ifndef KEYHAUL_ENGINE_BACKUP_H
#define KEYHAUL_ENGINE_BACKUP_H

#include "engine/counters.h"
#include "engine/key_select.h"
#include "engine/select.h"
#include "wire/rdb/rdb.h"

struct backup_config {
    const char *path;
    bool force;                     /* replace what is there */
    const struct db_select *select; /* borrowed, as all of these */
    const struct key_select *keys;
    struct counters *counters;
    const atomic_bool *stop;
};

enum backup_mode {
    BACKUP_COPY, /* bytes go to the file */
    BACKUP_DROP,
    BACKUP_WAIT, /* they are kept until it is told where they belong */
};

struct backup {
    struct backup_config cfg;
    char temp[4096]; /* "": there is none */
    int fd;
    struct buf out, held; /* gathered for the file; of a record not decided upon */
    uint64_t written, crc;
    enum backup_mode mode;
    bool in_db;    /* a database has been entered: SELECTDB, or 0 for keys before any */
    bool selected; /* the database that records belong to now, or what stands before any */
    bool part;     /* not all is selected */
    bool key_kept; /* the last key */
    uint64_t db;
};

/* Make FILE.tmp. ERR_REFUSED: FILE is there and not to be replaced, or another process is writing
 * it. `b` must not move afterwards. */
KH_MUST int backup_open(struct backup *b, const struct backup_config *cfg, struct err *err);
/* Removes the temporary file, where there is still one. Safe on zeroed. */
void backup_release(struct backup *b);

/* The whole snapshot at the reader's place, its checksum verified. */
KH_MUST int backup_run(struct backup *b, struct reader *r, struct err *err);
/* Everything is on the disk, and under its name. */
KH_MUST int backup_finish(struct backup *b, struct err *err);

#endif
