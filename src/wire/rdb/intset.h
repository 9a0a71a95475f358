// SPDX-License-Identifier: BSD-3-Clause
// Intset: a sorted array of integers, the packed encoding of small sets of numbers.
#ifndef KEYHAUL_WIRE_RDB_INTSET_H
#define KEYHAUL_WIRE_RDB_INTSET_H

#include "wire/rdb/packed.h"

struct intset {
    const uint8_t *p, *end;
    unsigned width; /* 2, 4 or 8 bytes each */
};

/* Check the blob whole (size, ascending order); *ret_n is the number of members. */
KH_MUST int intset_open(struct intset *it, struct span blob, size_t *ret_n, struct err *err);
/* False at the end. */
KH_MUST bool intset_next(struct intset *it, struct packed_val *v);

#endif
