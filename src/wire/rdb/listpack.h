// SPDX-License-Identifier: BSD-3-Clause
// Listpack: the packed encoding of small collections and stream nodes since Redis 5.0 / 7.0.
#ifndef KEYHAUL_WIRE_RDB_LISTPACK_H
#define KEYHAUL_WIRE_RDB_LISTPACK_H

#include "wire/rdb/packed.h"

struct listpack {
    const uint8_t *p, *end; /* next entry; the end mark */
};

/* Check the blob whole; *ret_n is the number of entries. ERR_FORMAT says which byte is wrong. */
KH_MUST int listpack_open(struct listpack *it, struct span blob, size_t *ret_n, struct err *err);
/* False at the end. */
KH_MUST bool listpack_next(struct listpack *it, struct packed_val *v);

#endif
