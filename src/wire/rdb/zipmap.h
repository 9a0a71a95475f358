// SPDX-License-Identifier: BSD-3-Clause
// Zipmap: the packed encoding of small hashes in Redis 2.4 and before.
#ifndef KEYHAUL_WIRE_RDB_ZIPMAP_H
#define KEYHAUL_WIRE_RDB_ZIPMAP_H

#include "wire/rdb/packed.h"

struct zipmap {
    const uint8_t *p, *end; /* next length; the end mark */
    bool at_value;
};

/* Check the blob whole; *ret_n counts fields and values, so it is even. */
KH_MUST int zipmap_open(struct zipmap *it, struct span blob, size_t *ret_n, struct err *err);
/* Field, value, field, value ... False at the end. */
KH_MUST bool zipmap_next(struct zipmap *it, struct packed_val *v);

#endif
