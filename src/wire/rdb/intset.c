// SPDX-License-Identifier: BSD-3-Clause
// Intset: u32 width, u32 count, then the members, signed, little endian, ascending.
#include "wire/rdb/intset.h"

#define HEADER 8

static int64_t member(const uint8_t *p, unsigned width)
{
    return width == 2 ? packed_i16(p) : width == 4 ? packed_i32(p) : packed_i64(p);
}

int intset_open(struct intset *it, struct span blob, size_t *ret_n, struct err *err)
{
    if (blob.n < HEADER)
        return err_set(err, ERR_FORMAT, "intset: %zu bytes are less than a header", blob.n);
    uint32_t width = packed_u32(blob.p), n = packed_u32(blob.p + 4);
    if (width != 2 && width != 4 && width != 8)
        return err_set(err, ERR_FORMAT, "intset: members of %lu bytes", (unsigned long)width);
    if (blob.n != HEADER + (uint64_t)width * n)
        return err_set(err, ERR_FORMAT, "intset: %zu bytes do not hold %lu members of %lu bytes",
                       blob.n, (unsigned long)n, (unsigned long)width);
    const uint8_t *p = blob.p + HEADER;
    for (uint32_t i = 1; i < n; i++)
        if (member(p + (size_t)i * width, width) <= member(p + (size_t)(i - 1) * width, width))
            return err_set(err, ERR_FORMAT, "intset: member %lu is out of order", (unsigned long)i);
    *it = (struct intset){p, blob.p + blob.n, width};
    *ret_n = n;
    return 0;
}

bool intset_next(struct intset *it, struct packed_val *v)
{
    if (it->p >= it->end) return false;
    packed_set_int(v, member(it->p, it->width));
    it->p += it->width;
    return true;
}
