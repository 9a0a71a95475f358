// SPDX-License-Identifier: BSD-3-Clause
// Ziplist: u32 bytes, u32 offset of the last entry, u16 count (65535 = unknown), entries, 0xFF.
//
// An entry is the length of the one before (1 byte, or 0xFE and 4 bytes: a server keeps the long
// form where a short one would do), head and data. Little endian but for the 32-bit string length.
#include "wire/rdb/ziplist.h"

#define HEADER        10
#define END_MARK      0xff
#define COUNT_UNKNOWN 65535
#define PREV_LONG     0xfe

static size_t put_string(const uint8_t *p, size_t room, size_t head, size_t n, struct packed_val *v)
{
    if (room < head || n > room - head) return 0;
    packed_set_span(v, p + head, n);
    return head + n;
}

static size_t read_int(const uint8_t *p, size_t room, struct packed_val *v)
{
    uint8_t c = p[0];
    size_t size = c == 0xc0 ? 3 : c == 0xd0 ? 5 : c == 0xe0 ? 9 : c == 0xf0 ? 4 : c == 0xfe ? 2 : 1;
    if (room < size) return 0;
    switch (c) {
    case 0xc0: packed_set_int(v, packed_i16(p + 1)); break;
    case 0xd0: packed_set_int(v, packed_i32(p + 1)); break;
    case 0xe0: packed_set_int(v, packed_i64(p + 1)); break;
    case 0xf0: packed_set_int(v, packed_i24(p + 1)); break;
    case 0xfe: packed_set_int(v, (int8_t)p[1]); break;
    default:
        if (c < 0xf1 || c > 0xfd) return 0;
        packed_set_int(v, (c & 0x0f) - 1);
    }
    return size;
}

/* Bytes of head and data at p, of which `room` may be read (at least 1); 0 if it does not fit. */
static size_t read_entry(const uint8_t *p, size_t room, struct packed_val *v)
{
    uint8_t c = p[0];
    switch (c >> 6) {
    case 0: return put_string(p, room, 1, c & 0x3f, v);
    case 1: return room < 2 ? 0 : put_string(p, room, 2, (size_t)(c & 0x3f) << 8 | p[1], v);
    case 2:
        if (room < 5) return 0;
        return put_string(p, room, 5, __builtin_bswap32(packed_u32(p + 1)), v);
    default: return read_int(p, room, v);
    }
}

static size_t prev_size(const uint8_t *p)
{
    return *p < PREV_LONG ? 1 : 5;
}

/* One entry at p: its whole size, or 0. */
static size_t check_entry(const uint8_t *p, size_t room, size_t prev)
{
    size_t head = prev_size(p);
    if (*p > PREV_LONG || room <= head) return 0;
    if ((head == 1 ? *p : packed_u32(p + 1)) != prev) return 0;
    struct packed_val v;
    size_t n = read_entry(p + head, room - head, &v);
    return n ? head + n : 0;
}

int ziplist_open(struct ziplist *it, struct span blob, size_t *ret_n, struct err *err)
{
    if (blob.n < HEADER + 1 || packed_u32(blob.p) != blob.n || blob.p[blob.n - 1] != END_MARK)
        return err_set(err, ERR_FORMAT,
                       "ziplist: %zu bytes do not begin with their number and end with 255",
                       blob.n);
    const uint8_t *p = blob.p + HEADER, *end = blob.p + blob.n - 1, *last = p;
    size_t n = 0, prev = 0, said = packed_u16(blob.p + 8);
    for (; p < end; n++) {
        last = p;
        prev = check_entry(p, (size_t)(end - p), prev);
        if (prev == 0)
            return err_set(err, ERR_FORMAT, "ziplist: the entry at byte %zu is broken",
                           (size_t)(p - blob.p));
        p += prev;
    }
    if (said != COUNT_UNKNOWN && said != n)
        return err_set(err, ERR_FORMAT, "ziplist: says %zu entries, holds %zu", said, n);
    if (packed_u32(blob.p + 4) != (size_t)(last - blob.p))
        return err_set(err, ERR_FORMAT, "ziplist: the last entry is at byte %zu, not at %lu",
                       (size_t)(last - blob.p), (unsigned long)packed_u32(blob.p + 4));
    *it = (struct ziplist){blob.p + HEADER, end};
    *ret_n = n;
    return 0;
}

bool ziplist_next(struct ziplist *it, struct packed_val *v)
{
    if (it->p >= it->end) return false;
    it->p += prev_size(it->p);
    it->p += read_entry(it->p, (size_t)(it->end - it->p), v);
    return true;
}
