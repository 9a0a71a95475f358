// SPDX-License-Identifier: BSD-3-Clause
// Reading and writing the checkpoint by itself, before and after the stream (docs/decisions/0003).
#ifndef KEYHAUL_ENGINE_CHECKPOINT_IO_H
#define KEYHAUL_ENGINE_CHECKPOINT_IO_H

#include "engine/checkpoint.h"
#include "engine/select.h"
#include "redis/client.h"

/* The target's database that the key of this task is in. */
int64_t checkpoint_db(const struct db_select *select);

/* What the target says: CHECKPOINT_NONE when there is no such key. */
KH_MUST int checkpoint_read(struct client *c, int64_t db, struct span key, struct checkpoint *ret,
                            struct err *err);

KH_MUST int checkpoint_write(struct client *c, int64_t db, struct span key,
                             const struct checkpoint *cp, struct err *err);
KH_MUST int checkpoint_remove(struct client *c, int64_t db, struct span key, struct err *err);

#endif
