// SPDX-License-Identifier: BSD-3-Clause
// Listpack: u32 bytes, u16 count (65535 = unknown), entries, 0xFF; all little endian.
//
// An entry is head, data and "backlen": the length of head and data again, written so that it can
// be read backwards (groups of 7 bits, most significant first, bit 7 set on all but the first).
#include "wire/rdb/listpack.h"

#define HEADER        6
#define END_MARK      0xff
#define COUNT_UNKNOWN 65535

static size_t put_string(const uint8_t *p, size_t room, size_t head, size_t n, struct packed_val *v)
{
    if (n > room - head) return 0;
    packed_set_span(v, p + head, n);
    return head + n;
}

/* 0xF0 .. 0xF4: a 32-bit string length, or an integer of 2, 3, 4 or 8 bytes. */
static size_t read_wide(const uint8_t *p, size_t room, struct packed_val *v)
{
    static const uint8_t size[] = {5, 3, 4, 5, 9};
    unsigned kind = p[0] - 0xf0u;
    if (kind > 4 || room < size[kind]) return 0;
    switch (kind) {
    case 0: return put_string(p, room, 5, packed_u32(p + 1), v);
    case 1: packed_set_int(v, packed_i16(p + 1)); break;
    case 2: packed_set_int(v, packed_i24(p + 1)); break;
    case 3: packed_set_int(v, packed_i32(p + 1)); break;
    default: packed_set_int(v, packed_i64(p + 1)); break;
    }
    return size[kind];
}

/* Bytes of head and data at p, of which `room` may be read (at least 1); 0 if it does not fit. */
static size_t read_entry(const uint8_t *p, size_t room, struct packed_val *v)
{
    uint8_t c = p[0];
    if (c < 0x80) {
        packed_set_int(v, c);
        return 1;
    }
    if (c < 0xc0) return put_string(p, room, 1, c & 0x3f, v);
    if (c >= 0xf0) return read_wide(p, room, v);
    if (room < 2) return 0;
    if (c >= 0xe0) return put_string(p, room, 2, (size_t)(c & 0x0f) << 8 | p[1], v);
    int i = (c & 0x1f) << 8 | p[1];
    packed_set_int(v, i >= 4096 ? i - 8192 : i);
    return 2;
}

static size_t backlen_size(size_t n)
{
    if (n < 128) return 1;
    if (n < 16384) return 2;
    if (n < 2097152) return 3;
    return n < 268435456 ? 4 : 5;
}

static bool backlen_is(const uint8_t *p, size_t size, size_t n)
{
    uint64_t got = 0;
    for (size_t i = 0; i < size; i++) {
        if ((p[i] >= 0x80) != (i > 0)) return false;
        got = got << 7 | (p[i] & 0x7f);
    }
    return got == n;
}

static int check_entries(const uint8_t *base, const uint8_t *p, const uint8_t *end, size_t *ret_n,
                         struct err *err)
{
    struct packed_val v;
    size_t count = 0;
    for (; p < end; count++) {
        size_t room = (size_t)(end - p), n = read_entry(p, room, &v);
        size_t back = backlen_size(n);
        if (n == 0 || back > room - n)
            return err_set(err, ERR_FORMAT, "listpack: the entry at byte %zu does not fit",
                           (size_t)(p - base));
        if (!backlen_is(p + n, back, n))
            return err_set(err, ERR_FORMAT,
                           "listpack: the entry at byte %zu is followed by another length than "
                           "its own",
                           (size_t)(p - base));
        p += n + back;
    }
    *ret_n = count;
    return 0;
}

int listpack_open(struct listpack *it, struct span blob, size_t *ret_n, struct err *err)
{
    if (blob.n < HEADER + 1 || packed_u32(blob.p) != blob.n || blob.p[blob.n - 1] != END_MARK)
        return err_set(err, ERR_FORMAT,
                       "listpack: %zu bytes do not begin with their number and end with 255",
                       blob.n);
    const uint8_t *first = blob.p + HEADER, *end = blob.p + blob.n - 1;
    size_t n = 0, said = packed_u16(blob.p + 4);
    if (check_entries(blob.p, first, end, &n, err) < 0) return -1;
    if (said != COUNT_UNKNOWN && said != n)
        return err_set(err, ERR_FORMAT, "listpack: says %zu entries, holds %zu", said, n);
    *it = (struct listpack){first, end};
    *ret_n = n;
    return 0;
}

bool listpack_next(struct listpack *it, struct packed_val *v)
{
    if (it->p >= it->end) return false;
    size_t n = read_entry(it->p, (size_t)(it->end - it->p), v);
    it->p += n + backlen_size(n);
    return true;
}
