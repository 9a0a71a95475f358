// SPDX-License-Identifier: BSD-3-Clause
// Snapshots made by hand, and the commands that a load made of them: for the tests of the load.
#ifndef KEYHAUL_TEST_LOAD_KIT_H
#define KEYHAUL_TEST_LOAD_KIT_H

#include "rig.h"

/* --- an RDB, piece by piece --- */
void kit_begin(struct buf *b, const char *magic); /* "REDIS0011"; empties nothing: init here */
void kit_u8(struct buf *b, unsigned v);
void kit_le(struct buf *b, uint64_t v, unsigned n);
void kit_len(struct buf *b, uint64_t n);
void kit_str(struct buf *b, const char *s);
void kit_bytes(struct buf *b, const void *p, size_t n);
void kit_lzf(struct buf *b, const void *p, size_t n); /* must be compressible */
void kit_select(struct buf *b, unsigned db);
void kit_aux(struct buf *b, const char *name, const char *value);
void kit_expire(struct buf *b, int64_t ms);
void kit_key(struct buf *b, unsigned type, const char *key);
void kit_end(struct buf *b); /* end and checksum */

/* --- what reached the target: commands of the raw log --- */
struct kit_cmds {
    struct reader r;
    struct resp_cmds parser;
    struct resp_cmd cmd;
};
void kit_cmds_begin(struct kit_cmds *it, const struct buf *raw);
bool kit_cmds_next(struct kit_cmds *it);
void kit_cmds_end(struct kit_cmds *it);

/* A DUMP payload: type, version, and that its checksum is right, by another way than the engine's.
 * Returns the value's bytes. */
struct span kit_payload(struct span payload, unsigned type, unsigned version);

/* Bytes that do not compress: told by seed. */
void kit_noise(uint8_t *p, size_t n, uint32_t seed);

/* Load in a given feed; fails unless it goes well. Frees nothing. */
void kit_load(struct rig *g, const struct buf *rdb, enum rig_feed feed);

#endif
