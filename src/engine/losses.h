// SPDX-License-Identifier: BSD-3-Clause
// What values of the snapshot had to leave behind, because the target has no place for it: each
// kind is named with its first keys, and counted.
#ifndef KEYHAUL_ENGINE_LOSSES_H
#define KEYHAUL_ENGINE_LOSSES_H

#include "wire/rdb/transcode.h"

#define LOSSES_NAMED 10 /* keys of each kind that are named in the log */

#define LOSSES_WHOLE (1u << TRANSCODE_LOSS_BITS) /* the key was not moved at all */
#define LOSSES_KINDS (TRANSCODE_LOSS_BITS + 1)

struct losses {
    uint64_t keys[LOSSES_KINDS]; /* by kind: the bit's number */
};

/* A key lost what `bits` (enum transcode_loss, LOSSES_WHOLE) says. */
void losses_note(struct losses *l, unsigned bits, int64_t db, struct span key);
/* One line for each kind that was met. */
void losses_tell(const struct losses *l, const char *target);

#endif
