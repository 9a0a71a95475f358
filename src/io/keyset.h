// SPDX-License-Identifier: BSD-3-Clause
// A set of 64-bit hashes of keys, of any size, in bounded memory: a sorted file.
//
//    keyset_new ──keyset_add...──▶ keyset_seal ──▶ keyset_has ...
//
// Sorted runs of 8 MB, merged at the seal. Afterwards one page of the file a question, by an index
// of the first hash of each page in memory (100 million keys: 800 MB of file, 1.6 MB of index).
// A hash is of database and name, keyed by a random number, so that nobody can make names that
// meet; with a hundred million keys one stale key in 10^11 is taken for one that is there.
// One owner thread.
#ifndef KEYHAUL_IO_KEYSET_H
#define KEYHAUL_IO_KEYSET_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>

struct keyset;

/* `dir`: where its file is made, with no name. */
KH_MUST int keyset_new(struct keyset **ret, const char *dir, uint64_t seed, struct err *err);
void keyset_free(struct keyset *k); /* NULL-safe */

KH_MUST int keyset_add(struct keyset *k, uint64_t db, struct span key, struct err *err);
KH_MUST int keyset_seal(struct keyset *k, struct err *err);
/* 1, 0, -1. Only when sealed. */
KH_MUST int keyset_has(struct keyset *k, uint64_t db, struct span key, struct err *err);
uint64_t keyset_count(const struct keyset *k); /* different ones; only when sealed */

/* Write a sealed set to a file (replaced as a whole, synced, mode 0600), read one back. A file that
 * is damaged or of another version: ERR_FORMAT. */
KH_MUST int keyset_save(struct keyset *k, const char *path, struct err *err);
KH_MUST int keyset_load(struct keyset **ret, const char *path, struct err *err);

#endif
