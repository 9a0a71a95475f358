// SPDX-License-Identifier: BSD-3-Clause
// Zipmap: u8 pairs (254 and more = unknown), then length, field, length, u8 free, value, `free`
// unused bytes ..., 0xFF. A length is 1 byte below 254, or 0xFE and u32 little endian.
#include "wire/rdb/zipmap.h"

#define END_MARK    0xff
#define LEN_LONG    0xfe
#define PAIRS_KNOWN 253

/* Size of field or value with its length (and free bytes), or 0 if it does not fit in `room`. */
static size_t read_item(const uint8_t *p, size_t room, bool is_value, struct packed_val *v)
{
    size_t head = *p < LEN_LONG ? 1 : 5;
    if (*p > LEN_LONG || room < head) return 0;
    uint64_t n = head == 1 ? *p : packed_u32(p + 1), unused = 0;
    if (is_value) {
        if (room < head + 1) return 0;
        unused = p[head++];
    }
    if (n + unused > room - head) return 0;
    packed_set_span(v, p + head, (size_t)n);
    return head + (size_t)(n + unused);
}

int zipmap_open(struct zipmap *it, struct span blob, size_t *ret_n, struct err *err)
{
    if (blob.n < 2 || blob.p[blob.n - 1] != END_MARK)
        return err_set(err, ERR_FORMAT, "zipmap: %zu bytes do not end with 255", blob.n);
    const uint8_t *p = blob.p + 1, *end = blob.p + blob.n - 1;
    struct packed_val v;
    size_t items = 0;
    for (; p < end; items++) {
        size_t n = read_item(p, (size_t)(end - p), items % 2, &v);
        if (n == 0)
            return err_set(err, ERR_FORMAT, "zipmap: the item at byte %zu does not fit",
                           (size_t)(p - blob.p));
        p += n;
    }
    if (items % 2) return err_set(err, ERR_FORMAT, "zipmap: the last field has no value");
    if (blob.p[0] <= PAIRS_KNOWN && blob.p[0] != items / 2)
        return err_set(err, ERR_FORMAT, "zipmap: says %u pairs, holds %zu", blob.p[0], items / 2);
    *it = (struct zipmap){blob.p + 1, end, false};
    *ret_n = items;
    return 0;
}

bool zipmap_next(struct zipmap *it, struct packed_val *v)
{
    if (it->p >= it->end) return false;
    it->p += read_item(it->p, (size_t)(it->end - it->p), it->at_value, v);
    it->at_value = !it->at_value;
    return true;
}
