// SPDX-License-Identifier: BSD-3-Clause
// A set of hashes of keys, of any size, in bounded memory: a sorted file.
//
//    keyset_new ──keyset_add...──▶ keyset_seal ──▶ keyset_has, keyset_remove ...
//    keyset_load ─────────────────────────────────▲
//
// Sorted runs of 8 MB, merged at the seal. Afterwards one page of the file a question, by an index
// of the first hash of each page in memory (100 million keys: 800 MB of file, 1.6 MB of index).
// A hash is of database and name, keyed by a random number, so that nobody can make names that
// meet; with a hundred million keys one stale key in 10^11 is taken for one that is there.
// Its lowest bit is none of it: it says that the key was removed.
// One owner thread.
//
// The file (numbers little endian):
//    0  "keyhaul keys\0\0\0\1"  16 bytes; the last one is the version
//   16  seed
//   24  how many hashes
//   32  XXH3 of them, lowest bits 0
//   40  XXH3 of the 40 bytes before
//   48  the hashes, 8 bytes each, ascending
#ifndef KEYHAUL_IO_KEYSET_H
#define KEYHAUL_IO_KEYSET_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

#define KEYSET_MEM_BYTES (8u << 20) /* before a run is written */

struct keyset;

/* `dir`: where its files are made, with no names; borrowed. mem_bytes 0: KEYSET_MEM_BYTES. */
KH_MUST int keyset_new(struct keyset **ret, const char *dir, uint64_t seed, size_t mem_bytes,
                       struct err *err);
void keyset_free(struct keyset *k);                      /* NULL-safe */
KH_MUST int keyset_seed(uint64_t *ret, struct err *err); /* a random one */

KH_MUST int keyset_add(struct keyset *k, uint64_t db, struct span key, struct err *err);
KH_MUST int keyset_seal(struct keyset *k, struct err *err); /* again: nothing happens */

/* Only when sealed. 1, 0, -1. */
KH_MUST int keyset_has(struct keyset *k, uint64_t db, struct span key, struct err *err);
/* 1: it was there, 0: it was not. Of a set that was loaded, the file has changed (in place, not
 * synced) when it returns: it outlives this process. */
KH_MUST int keyset_remove(struct keyset *k, uint64_t db, struct span key, struct err *err);
uint64_t keyset_count(const struct keyset *k); /* different ones, less those removed */

/* Write a sealed set to a file (replaced as a whole, synced, mode 0600). */
KH_MUST int keyset_save(struct keyset *k, const char *path, struct err *err);
/* Open a saved set, where it lies. 1: there is no such file. A file that is damaged or of another
 * version: ERR_FORMAT. */
KH_MUST int keyset_load(struct keyset **ret, const char *path, struct err *err);
/* What was removed of a set that was loaded is on the disk. */
KH_MUST int keyset_sync(struct keyset *k, struct err *err);

#endif
