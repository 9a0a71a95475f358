// SPDX-License-Identifier: BSD-3-Clause
// What the parts of the spool share: the queue (spool.c) and the log that it becomes (spool_log.c).
//
// A record, in the files and in the blocks: u32 length of the payload, u32 checksum, i64 time of
// receipt (unix ms), payload. The checksum is the low half of XXH3 of the payload, seeded with its
// position and time and the files' salt: so that a record is only right in its own place, and what
// an older file left behind the end is none.
#ifndef KEYHAUL_IO_SPOOL_IMPL_H
#define KEYHAUL_IO_SPOOL_IMPL_H

#include "io/marks.h"
#include "io/segs.h"
#include "io/spool.h"

#include <string.h>
#include <xxhash.h>

#define BLOCK_BYTES   (256u << 10)
#define RECORD_HEADER 16u
#define RECORD_MAX    (BLOCK_BYTES - RECORD_HEADER)

/* Records as they stand in the files. */
struct block {
    uint8_t *p; /* BLOCK_BYTES */
    size_t n;   /* bytes in it, whole records (back: perhaps a cut one at the end) */
    size_t off; /* back: moved into the ring up to here */
};

struct spool {
    struct ring ring;
    uint8_t *rd, *wr; /* where ring.head and ring.tail are, within the first mapping */
    uint64_t tail;    /* received; ring.tail == tail in RAM mode */
    uint64_t pin;     /* bytes from here on stay in the ring: ring.head, or `logged` before it */
    struct marks marks;
    size_t offered;  /* by the last spool_space(), not committed yet */
    bool blocked;    /* that was nothing */
    size_t low_room; /* less room in the ring than this counts as full */
    bool disk_mode;

    struct segs segs;
    size_t side_bytes; /* size of the side block: a file holds it */
    struct block side, back;
    uint64_t side_payload; /* bytes in side that are no headers */
    bool back_is_file;     /* back came out of segs */
    size_t left;           /* payload bytes of the record at back.off still to move */
    int64_t left_ms;       /* and its time */
    bool no_room;
    int64_t no_room_until_ms; /* monotonic; no further try before */
    int64_t told_ms;          /* when that was said last, 0 never */

    /* of a log */
    uint64_t logged;     /* in the files up to here, and all before it; UINT64_MAX: it is none */
    size_t log_bytes;    /* so much is gathered before it is written ... */
    int64_t gathered_ms; /* ... unless it has begun to be so long ago (monotonic), 0 not yet seen */
    uint64_t done, keep_bytes;
    int64_t looked_ms;   /* monotonic: whether writing to the disk is to be begun */
    uint64_t looked_pos; /* `logged` then */
    bool behind;         /* then */
    struct err trouble;  /* of a call that cannot tell; code 0 none */
    bool starving;       /* what has been consumed may go though it is not done with */
    bool starved_told;
    uint64_t starve_head, starve_done; /* where it stood still since ... */
    int64_t starve_since_ms;           /* ... this (monotonic) */
};

static inline size_t spool_ring_room(const struct spool *s)
{
    return s->ring.size - (size_t)(s->ring.tail - s->pin);
}
static inline void spool_set_pin(struct spool *s)
{
    s->pin = s->logged < s->ring.head ? s->logged : s->ring.head;
    marks_consumed(&s->marks, s->pin);
}
static inline uint8_t *spool_forward(const struct spool *s, uint8_t *p, size_t n)
{
    p += n;
    return p >= s->ring.map + s->ring.size ? p - s->ring.size : p;
}
/* Where a byte from pin to ring.tail stands. */
static inline uint8_t *spool_ring_at(const struct spool *s, uint64_t pos)
{
    size_t back = (size_t)(s->ring.tail - pos), at = (size_t)(s->wr - s->ring.map);
    return s->wr + (at >= back ? 0 : s->ring.size) - back;
}

static inline uint32_t record_sum(uint32_t salt, const uint8_t *payload, size_t n, uint64_t pos,
                                  int64_t ms)
{
    uint64_t seed = pos + (uint64_t)ms * 0x9e3779b97f4a7c15ULL + salt * 0xd6e8feb86659fd93ULL;
    return (uint32_t)XXH3_64bits_withSeed(payload, n, seed);
}
static inline void record_header(uint8_t header[RECORD_HEADER], uint32_t salt,
                                 const uint8_t *payload, size_t n, uint64_t pos, int64_t ms)
{
    uint32_t head[2] = {(uint32_t)n, record_sum(salt, payload, n, pos, ms)};
    memcpy(header, head, 8);
    memcpy(header + 8, &ms, 8);
}
/* Look at what stands in `have` bytes: 1 a whole record of position pos, 0 not all of it is there,
 * -1 damaged, *ret_why tells. */
int record_look(uint32_t salt, const uint8_t *p, size_t have, uint64_t pos, size_t *ret_n,
                int64_t *ret_ms, const char **ret_why);

/* --- spool.c --- */

/* All but the files. */
KH_MUST int spool_new(struct spool **ret, const struct spool_config *cfg, struct err *err);
bool spool_make_blocks(struct spool *s);
/* Have a record to move: 1, 0 when there is none, -1. */
KH_MUST int spool_next_record(struct spool *s, struct err *err);
/* Note, and say once, that nothing more can be written now. */
void spool_no_room(struct spool *s);

/* --- spool_log.c --- */

/* Something has been received. Written when enough has. */
KH_MUST int spool_log_take(struct spool *s, struct err *err);
/* Something falls due sooner or later. */
static inline bool spool_log_is_busy(const struct spool *s)
{
    return s->segs.log && (s->done < s->tail || s->logged < s->tail || s->no_room);
}
/* Not all of it is in the files, or the last try found no room. */
static inline bool spool_log_waits(const struct spool *s)
{
    return s->segs.log && (s->logged < s->tail || s->no_room);
}
/* Then look whether it is time to do something. What goes wrong is told by the next
 * spool_log_step(). */
void spool_log_tend(struct spool *s);
/* ... and it is. */
void spool_log_urge(struct spool *s);
/* Write all that is not in the files yet. It may be that there is no room. */
KH_MUST int spool_log_catch_up(struct spool *s, struct err *err);
/* The same, and not held up by the quota. */
KH_MUST int spool_log_finish(struct spool *s, struct err *err);
/* Without room: give up keeping in memory what is done with. False: there is nothing such. */
bool spool_log_release(struct spool *s);
/* Bytes that one append may bring, after deletion of files that nobody needs. */
uint64_t spool_log_room(struct spool *s, uint64_t wanted);
/* What falls due now and then. */
KH_MUST int spool_log_step(struct spool *s, struct err *err);

#endif
