// SPDX-License-Identifier: BSD-3-Clause
// A byte ring whose content is always contiguous: its pages are mapped twice, one after the other,
// so that a read or write across the end needs no second piece, and a pointer to a byte stays
// valid until that byte is consumed.
#ifndef KEYHAUL_IO_RING_H
#define KEYHAUL_IO_RING_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct ring {
    uint8_t *map;        /* 2 * size bytes of address space */
    size_t size;         /* multiple of the page size */
    uint64_t head, tail; /* bytes consumed and produced since init; tail - head <= size */
};

KH_MUST int ring_init(struct ring *r, size_t size_bytes, struct err *err); /* rounds up to pages */
void ring_release(struct ring *r);

static inline size_t ring_used(const struct ring *r)
{
    return (size_t)(r->tail - r->head);
}
static inline size_t ring_room(const struct ring *r)
{
    return r->size - ring_used(r);
}
static inline uint8_t *ring_at(const struct ring *r, uint64_t pos)
{
    return r->map + pos % r->size;
}
static inline uint8_t *ring_read_ptr(const struct ring *r)
{
    return ring_at(r, r->head);
}
static inline uint8_t *ring_write_ptr(const struct ring *r)
{
    return ring_at(r, r->tail);
}

#endif
