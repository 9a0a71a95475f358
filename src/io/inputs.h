// SPDX-License-Identifier: BSD-3-Clause
// Inputs: what commands have read that cannot be read again, in files that outlive the process.
//
// A command of the stream that reads keys of other nodes is applied with their values as of its
// offset. They are written down here, on the disk, before anything that it writes is: should it be
// applied again, it is with the same (docs/decisions/0004).
//
//   <dir>/inputs-<number, 16 hex digits>.log:
//     "KHINPUTS"  u32 version 1  char load[12]  u64 since  u64 CRC-64 of these 32 bytes
//     records: u64 offset  u32 values  u32 mark  u64 bytes  u64 CRC-64 of these bytes
//              u64 CRC-64 of all that before, and of the table     table     bytes
//     table, for each value: u64 bytes, all ones: there is none    i64 its deadline, unix ms, 0
//     none
//
// In the host's byte order. A record is whole or not there. `load` names what the offsets are of:
// files of another load are deleted. `since`: what is not in files, of offsets up to there, may
// have been read all the same.
// One owner thread.
#ifndef KEYHAUL_IO_INPUTS_H
#define KEYHAUL_IO_INPUTS_H

#include "base/buf.h"

#define INPUTS_LOAD_MAX 12           /* with its NUL */
#define INPUTS_BYTES    (512u << 20) /* of one record */

struct inputs;

struct inputs_config {
    const char *dir;        /* copied */
    const char *load;       /* shorter than INPUTS_LOAD_MAX */
    uint64_t since;         /* when there are no files: nothing beyond this has been read yet */
    uint64_t max_bytes;     /* of all files: beyond, the oldest goes */
    uint64_t segment_bytes; /* of a file, about; 0: 64 MB */
};

/* With what a former run has left. Damaged files are told and done without. */
KH_MUST int inputs_open(struct inputs **ret, const struct inputs_config *cfg, struct err *err);
void inputs_close(struct inputs *in);   /* NULL-safe */
void inputs_discard(struct inputs *in); /* the same, and delete them; NULL-safe */

/* A record: begin, for each of its values parts and then the value, end; it is on the disk then.
 * What was begun and not ended is forgotten by the next begin. */
KH_MUST int inputs_begin(struct inputs *in, uint64_t offset, size_t values, struct err *err);
/* ERR_LIMIT: the record is larger than INPUTS_BYTES. */
KH_MUST int inputs_part(struct inputs *in, const void *p, size_t n, struct err *err);
/* All parts since the last one are this value's; `there` false: there is none (and no parts). */
KH_MUST int inputs_value(struct inputs *in, bool there, int64_t deadline_ms, struct err *err);
KH_MUST int inputs_end(struct inputs *in, struct err *err);

struct inputs_value {
    uint64_t at, n; /* where it lies, for inputs_read() */
    int64_t deadline_ms;
    bool there;
};
/* Those of the record of this offset: 1, as many as were begun for, valid until the next begin or
 * find. 0: it is not there. */
KH_MUST int inputs_find(struct inputs *in, uint64_t offset, const struct inputs_value **ret,
                        size_t *ret_n, struct err *err);
/* Has nothing been read for this offset, when there is no record of it? Otherwise it is not known.
 */
bool inputs_covers(const struct inputs *in, uint64_t offset);
/* Of the record found last. */
KH_MUST int inputs_read(const struct inputs *in, uint64_t at, void *p, size_t n, struct err *err);

/* Records before this offset are not asked for any more. Cheap. */
void inputs_done(struct inputs *in, uint64_t offset);

#endif
