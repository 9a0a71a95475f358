// SPDX-License-Identifier: BSD-3-Clause
// Ziplist: the packed encoding of small lists, hashes and sorted sets up to Redis 6.2.
#ifndef KEYHAUL_WIRE_RDB_ZIPLIST_H
#define KEYHAUL_WIRE_RDB_ZIPLIST_H

#include "wire/rdb/packed.h"

struct ziplist {
    const uint8_t *p, *end; /* next entry; the end mark */
};

/* Check the blob whole; *ret_n is the number of entries. ERR_FORMAT says which byte is wrong. */
KH_MUST int ziplist_open(struct ziplist *it, struct span blob, size_t *ret_n, struct err *err);
/* False at the end. */
KH_MUST bool ziplist_next(struct ziplist *it, struct packed_val *v);

#endif
