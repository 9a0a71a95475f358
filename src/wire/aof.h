// SPDX-License-Identifier: BSD-3-Clause
// AOF, as far as it is not RESP: the manifest of a multi-part AOF, and what stands between
// commands. Pure.
//
// Redis 7.0+, Valkey, Redict: a directory holds a manifest, at most one base (RDB or commands) and
// any number of increments. Before that: one file, which may begin with an RDB (4.0+).
#ifndef KEYHAUL_WIRE_AOF_H
#define KEYHAUL_WIRE_AOF_H

#include "base/err.h"
#include "wire/reader.h"

#define AOF_NAME_MAX  256 /* file name in a manifest, bytes */
#define AOF_PARTS_MAX 4096

enum aof_part_type { AOF_BASE, AOF_INCR, AOF_HISTORY };

struct aof_part {
    char name[AOF_NAME_MAX]; /* a plain name, never a path */
    int64_t seq;
    enum aof_part_type type;
};

/* Parts that make up the data, in the order they are to be read: the base, then the increments.
 * History files are left out. */
struct aof_manifest {
    struct aof_part *part;
    size_t n;
};

/* ERR_FORMAT with the line: unknown words are passed over as servers do, but a name with a slash, a
 * second base, or increments out of order are refused. */
KH_MUST int aof_manifest_parse(struct aof_manifest *ret, struct span text, struct err *err);
void aof_manifest_release(struct aof_manifest *m);

/* Pass over comments, up to a command. 0: it begins at r->p. 1: the file ends here; a comment
 * without an end ends it too, as for servers. The time that an annotation tells goes to
 * *annotated_ms. ERR_FORMAT: something else. */
KH_MUST int aof_to_command(struct reader *r, int64_t *annotated_ms, struct err *err);

/* "#TS:<unix seconds>" (without line end): its time in *ret_ms. Other comments: false. */
bool aof_timestamp(struct span line, int64_t *ret_ms);

/* Does it begin like an RDB? n: bytes in hand, 6 are enough. */
bool aof_is_rdb(const uint8_t *p, size_t n);

#endif
