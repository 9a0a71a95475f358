// SPDX-License-Identifier: BSD-3-Clause
// The reader: how decoders get bytes. They pull; where the bytes come from is not their business.
//
//        base        keep            p                 end
//   ------|===========|===============|==================|----------
//     done with:    held: stays in    next byte       what is in hand
//     may go at     place until
//     the next fill  released
//
// Invariants: base <= keep <= p <= end. Every pointer into [keep, end) stays valid and unchanged,
// also across fills, until reader_release() lets it go. A decoder never looks at or beyond `end`
// without reader_need().
//
// `cap` bounds what one can hold at once (end - keep): asking for more is ERR_LIMIT, so hostile
// lengths cannot make us allocate.
//
// One owner thread. Pure: fill() is the only way out, a true seam: memory (tests, small payloads),
// one byte at a time (tests), or the pipeline's spool, whose fill waits by running the poll step.
#ifndef KEYHAUL_WIRE_READER_H
#define KEYHAUL_WIRE_READER_H

#include "base/err.h"
#include "base/span.h"

struct reader;

/* Drop `drop` bytes from the front (base moves on), then have at least `need` bytes beyond what is
 * left, more if there are. On success sets r->base and r->end; bytes that were held keep their
 * content at the new base, and old pointers to them stay valid. Returns 0, or -1 with err
 * (end of input: ERR_FORMAT "unexpected end of input"). Must not touch keep and p. */
typedef int reader_fill_fn(struct reader *r, size_t drop, size_t need, struct err *err);

struct reader {
    const uint8_t *base, *keep, *p, *end;
    uint64_t base_pos; /* position of base since the reader was opened, bytes */
    size_t cap;        /* most bytes that can be held, bytes */
    reader_fill_fn *fill;
    void *ctx;

    /* CRC-64 of all bytes dropped so far while crc_on (RDB files end with it). */
    bool crc_on;
    uint64_t crc;

    /* Sees every byte as it is dropped, when set. Used to copy a value aside while skipping it. */
    int (*tap)(void *tap_ctx, const uint8_t *p, size_t n, struct err *err);
    void *tap_ctx;
};

/* Slow path of reader_need(). */
KH_MUST int reader_fill(struct reader *r, size_t n, struct err *err);

/* At least n bytes from p on. n <= cap less what is held. */
KH_MUST static inline int reader_need(struct reader *r, size_t n, struct err *err)
{
    return KH_LIKELY((size_t)(r->end - r->p) >= n) ? 0 : reader_fill(r, n, err);
}

/* Everything before p may go. */
static inline void reader_release(struct reader *r)
{
    r->keep = r->p;
}

/* Position of p, bytes since open. */
static inline uint64_t reader_pos(const struct reader *r)
{
    return r->base_pos + (uint64_t)(r->p - r->base);
}

/* Positions count from p on. */
static inline void reader_count_from_here(struct reader *r)
{
    r->base_pos -= reader_pos(r);
}

/* Account (crc, tap) and drop all released bytes now. */
KH_MUST int reader_settle(struct reader *r, struct err *err);

/* Skip n bytes, however many. With `release` bytes are let go as they pass, so n may exceed cap. */
KH_MUST int reader_skip(struct reader *r, uint64_t n, bool release, struct err *err);

/* A reader over memory that outlives it. `starve`: hand out one byte more at each fill (tests). */
void reader_init_mem(struct reader *r, const void *p, size_t n);
void reader_init_starving(struct reader *r, const void *p, size_t n);

/* Fixed-size fields. */
KH_MUST static inline int reader_u8(struct reader *r, uint8_t *ret, struct err *err)
{
    if (reader_need(r, 1, err) < 0) return -1;
    *ret = *r->p++;
    return 0;
}
KH_MUST int reader_u64le(struct reader *r, uint64_t *ret, struct err *err);
KH_MUST int reader_u32le(struct reader *r, uint32_t *ret, struct err *err);
KH_MUST int reader_u64be(struct reader *r, uint64_t *ret, struct err *err);

#endif
