// SPDX-License-Identifier: BSD-3-Clause
// Pairs of bytes, given back in the order of the first: bytewise, shorter before longer, then by
// the second. In bounded memory: what is more than 8 MB goes to an unlinked file in sorted runs,
// which are merged.
#ifndef KEYHAUL_ENGINE_SORTER_H
#define KEYHAUL_ENGINE_SORTER_H

#include "io/store.h"

/* Before a run is written; a larger pair is a run of its own. */
#define SORTER_MEM_BYTES (8u << 20)
#define SORTER_PAIR_MAX  (15u << 20) /* both parts together, bytes */

struct sorter {
    struct buf mem, index; /* pairs, and where each lies */
    struct store file[2];  /* runs, and those they are merged to */
    struct buf runs;
    size_t mem_bytes, largest;
};

/* mem_bytes 0: SORTER_MEM_BYTES. `dir` is borrowed. */
void sorter_init(struct sorter *s, size_t mem_bytes, const char *dir);
void sorter_release(struct sorter *s);
void sorter_clear(struct sorter *s);

/* The second part in two pieces, which come back as one. */
KH_MUST int sorter_add(struct sorter *s, struct span key, struct span rest, struct span tail,
                       struct err *err);

typedef int sorter_fn(void *ctx, struct span key, struct span rest, struct err *err);
/* Each pair in order; -1 of `fn` ends it. The sorter is empty afterwards. */
KH_MUST int sorter_each(struct sorter *s, sorter_fn *fn, void *ctx, struct err *err);

#endif
