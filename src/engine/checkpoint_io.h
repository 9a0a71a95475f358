// SPDX-License-Identifier: BSD-3-Clause
// Reading and writing the checkpoint by itself, before and after the stream (docs/decisions/0003).
#ifndef KEYHAUL_ENGINE_CHECKPOINT_IO_H
#define KEYHAUL_ENGINE_CHECKPOINT_IO_H

#include "engine/checkpoint.h"
#include "engine/select.h"
#include "redis/client.h"

/* The target's database that the key of this task is in. */
int64_t checkpoint_db(const struct db_select *select);

/* What stands there, left to whose it is; CHECKPOINT_NONE: nothing. */
KH_MUST int checkpoint_look(struct client *c, int64_t db, struct span key, struct checkpoint *ret,
                            struct err *err);
/* What the target says, and from now on it is ours: in one step, so that nobody who wrote it before
 * gets a batch through afterwards. Owners are numbered: `owner` is ours (in hex; "00000000" before
 * the first time), and becomes one higher than any we know. A lower one there may be that of a run
 * before, or a claim of ours that a failover has lost; `began`: a higher one is of a process that
 * has taken over, and is left as it is (then ret->owner is that).
 * CHECKPOINT_NONE when there is no such key (nothing is written). ERR_BUSY: it is written to all
 * the time. */
KH_MUST int checkpoint_claim(struct client *c, int64_t db, struct span key, char owner[9],
                             bool began, struct checkpoint *ret, struct err *err);

/* Write it, if its owner is still that of `to`, or, with `is_new`, if there is none. ERR_REFUSED:
 * another process has taken over. ERR_BUSY: our
 * claim has been lost by a failover. */
KH_MUST int checkpoint_replace(struct client *c, int64_t db, struct span key,
                               const struct checkpoint *to, bool is_new, struct err *err);
/* Connections of the runs before, which may still have writes in the server's buffers (of a load,
 * say, which no checkpoint fences): ended, and this one is given the name they are known by.
 * Where that is not permitted it is left out. Fails only when the connection does. */
KH_MUST int checkpoint_evict(struct client *c, const char *task, struct err *err);
/* The same just for those that deleted what a new snapshot lacks: a deletion that comes late must
 * not meet a key that has come back. */
KH_MUST int checkpoint_evict_sweeps(struct client *c, const char *task, struct err *err);
/* Is it still ours? ERR_REFUSED: another process has taken over. ERR_BUSY: our claim has been lost
 * by a failover. */
KH_MUST int checkpoint_verify(struct client *c, int64_t db, struct span key, const char owner[9],
                              struct err *err);
KH_MUST int checkpoint_remove(struct client *c, int64_t db, struct span key, struct err *err);

#endif
