// SPDX-License-Identifier: BSD-3-Clause
// The spool: RAM ring first, segment files when it is full, in order, with times of receipt.
//
//   RAM mode    commit ──▶ ring ──▶ peek                     (nothing anywhere else)
//        │ ring or marks full                  ▲ all that is behind the ring has been moved into it
//        ▼                                     │
//   disk mode   commit ──▶ side ──▶ segments ──▶ back ──▶ ring ──▶ peek
//                            └───── refill, when no segment is unread ─────▲
//
// `side` and `back` are blocks of records as they stand in the files. Bytes go from side to back
// directly when the consumer has caught up, so that none waits while the ring has room.
#include "io/spool.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/marks.h"
#include "io/segs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SEGMENT_BYTES   (64u << 20)
#define BLOCK_BYTES     (256u << 10)
#define BLOCK_MIN_BYTES 256u
#define RECORD_HEADER   16u
#define MARKS_MIN       4096u
#define LOW_ROOM_BYTES  16384u
#define NO_ROOM_WAIT_MS 100

struct block {
    uint8_t *p;
    size_t n;   /* bytes in it, whole records (back: perhaps a cut one at the end) */
    size_t off; /* back: moved into the ring up to here */
};

struct spool {
    struct ring ring;
    uint8_t *rd, *wr; /* where ring.head and ring.tail are, within the first mapping */
    uint64_t tail;    /* received; ring.tail == tail in RAM mode */
    struct marks marks;
    size_t offered;  /* by the last spool_space(), not committed yet */
    size_t low_room; /* less room in the ring than this counts as full */
    bool disk_mode;

    struct segs segs;
    size_t block_bytes;
    struct block side, back;
    bool back_is_file; /* back holds bytes of segs, which is told when they are done with */
    size_t left;       /* payload bytes of the record at back.off still to move */
    int64_t left_ms;   /* and its time */
    bool no_room, no_room_told;
    int64_t no_room_until_ms; /* monotonic; no further try before */
};

/* ---- making ---- */

static uint64_t segment_size(const struct spool_config *cfg)
{
    uint64_t n = cfg->segment_bytes ? cfg->segment_bytes : SEGMENT_BYTES;
    /* A file only goes once it is read to its end: with a few of them in the quota, room comes back
     * bit by bit. */
    if (n > cfg->max_disk_bytes / 4) n = cfg->max_disk_bytes / 4;
    return n < BLOCK_MIN_BYTES ? BLOCK_MIN_BYTES : n;
}

int spool_open(struct spool **ret, const struct spool_config *cfg, struct err *err)
{
    struct spool *s = calloc(1, sizeof(*s));
    if (!s) return err_set(err, ERR_NOMEM, "out of memory");
    uint64_t segment = segment_size(cfg);
    s->block_bytes = segment < BLOCK_BYTES ? (size_t)segment : BLOCK_BYTES;
    if (ring_init(&s->ring, cfg->ram_bytes, err) < 0) goto fail;
    s->rd = s->wr = s->ring.map;
    s->low_room = s->ring.size / 16 < LOW_ROOM_BYTES ? s->ring.size / 16 : LOW_ROOM_BYTES;
    /* Enough for any commands of the protocol (the shortest has 14 bytes) at one per ms. */
    size_t marks = s->ring.size / 16 > MARKS_MIN ? s->ring.size / 16 : MARKS_MIN;
    if (marks_init(&s->marks, marks, err) < 0) goto fail;
    if (segs_init(&s->segs, cfg->dir ? cfg->dir : ".", cfg->max_disk_bytes, segment, err) < 0)
        goto fail;
    *ret = s;
    return 0;
fail:
    spool_close(s);
    return -1;
}

void spool_close(struct spool *s)
{
    if (!s) return;
    if (s->segs.dir) segs_release(&s->segs);
    free(s->side.p);
    free(s->back.p);
    marks_release(&s->marks);
    ring_release(&s->ring);
    free(s);
}

/* ---- RAM mode ---- */

static uint8_t *forward(const struct spool *s, uint8_t *p, size_t n)
{
    p += n;
    return p >= s->ring.map + s->ring.size ? p - s->ring.size : p;
}

/* May bytes of this time go into the ring? Without a mark left they must wait, unless so little is
 * in the ring that the decoder may be waiting for more. */
static bool may_take(const struct spool *s, int64_t ms)
{
    return !marks_full(&s->marks) || !marks_differs(&s->marks, ms) ||
           ring_used(&s->ring) < s->ring.size / 2;
}

/* n bytes stand at the ring's write pointer. Without a mark left they take the time of the bytes
 * before them: a millisecond that is wrong is better than standing still. */
static int ring_take(struct spool *s, size_t n, int64_t ms, struct err *err)
{
    if (KH_UNLIKELY(marks_differs(&s->marks, ms)) && !marks_full(&s->marks) &&
        marks_add(&s->marks, s->ring.tail, ms, err) < 0)
        return -1;
    s->ring.tail += n;
    s->wr = forward(s, s->wr, n);
    return 0;
}

static size_t space_disk(struct spool *s, uint8_t **ret_p);

size_t spool_space(struct spool *s, uint8_t **ret_p)
{
    if (KH_UNLIKELY(s->disk_mode)) return space_disk(s, ret_p);
    size_t room = ring_room(&s->ring);
    /* An empty ring starts over at its first page: while the consumer keeps up, only as much memory
     * is touched as one read brings, and it stays in the cache. */
    if (room == s->ring.size) s->rd = s->wr = s->ring.map;
    if (KH_UNLIKELY(room < s->low_room || marks_full(&s->marks))) return space_disk(s, ret_p);
    *ret_p = s->wr;
    return s->offered = room;
}

size_t spool_peek(const struct spool *s, const uint8_t **ret_p)
{
    *ret_p = s->rd;
    return ring_used(&s->ring);
}

void spool_consume(struct spool *s, size_t n)
{
    assert(n <= ring_used(&s->ring));
    s->ring.head += n;
    s->rd = forward(s, s->rd, n);
    marks_consumed(&s->marks, s->ring.head);
}

/* ---- disk mode: in ---- */

static bool make_blocks(struct spool *s)
{
    if (!s->side.p) s->side.p = malloc(s->block_bytes);
    if (!s->back.p) s->back.p = malloc(s->block_bytes);
    return s->side.p && s->back.p;
}

/* Bytes of payload that fit the side buffer and the quota. */
static size_t side_room(const struct spool *s)
{
    uint64_t quota = s->segs.max_bytes - s->segs.file_bytes;
    size_t limit = quota < s->block_bytes ? (size_t)quota : s->block_bytes;
    return limit > s->side.n + RECORD_HEADER ? limit - s->side.n - RECORD_HEADER : 0;
}

static size_t space_disk(struct spool *s, uint8_t **ret_p)
{
    s->offered = 0;
    if (!s->disk_mode && (s->segs.max_bytes <= RECORD_HEADER || !make_blocks(s))) {
        /* No disk to go to: the last bytes of the ring, then back-pressure. */
        *ret_p = s->wr;
        bool wait = marks_full(&s->marks) && ring_used(&s->ring) >= s->ring.size / 2;
        return s->offered = wait ? 0 : ring_room(&s->ring);
    }
    s->disk_mode = true;
    *ret_p = s->side.p + s->side.n + RECORD_HEADER;
    return s->offered = side_room(s);
}

/* Write the side buffer out. A full disk is no error: it stays where it is. */
static int flush_side(struct spool *s, struct err *err)
{
    int rc = segs_append(&s->segs, s->side.p, s->side.n, err);
    if (rc < 0) return -1;
    s->no_room = rc == 0;
    if (rc > 0) {
        s->side.n = 0;
        return 0;
    }
    s->no_room_until_ms = clock_mono_ms() + NO_ROOM_WAIT_MS;
    if (!s->no_room_told)
        log_warn("no room for more spool files in %s: the source is read no further until there is",
                 s->segs.dir);
    s->no_room_told = true;
    return 0;
}

static uint32_t checksum(const uint8_t *record, size_t n)
{
    return (uint32_t)XXH64(record + 8, n + 8, 0);
}

/* n bytes stand behind the room for a header in the side buffer. */
static int side_take(struct spool *s, size_t n, int64_t ms, struct err *err)
{
    uint8_t *record = s->side.p + s->side.n;
    uint32_t len = (uint32_t)n;
    memcpy(record, &len, 4);
    memcpy(record + 8, &ms, 8);
    uint32_t sum = checksum(record, n);
    memcpy(record + 4, &sum, 4);
    s->side.n += RECORD_HEADER + n;
    bool full = s->block_bytes - s->side.n < s->block_bytes / 4;
    return full && !s->no_room ? flush_side(s, err) : 0;
}

int spool_commit(struct spool *s, size_t n, int64_t received_ms, struct err *err)
{
    assert(n <= s->offered);
    s->offered = 0;
    if (n == 0) return 0;
    s->tail += n;
    return KH_LIKELY(!s->disk_mode) ? ring_take(s, n, received_ms, err)
                                    : side_take(s, n, received_ms, err);
}

/* ---- disk mode: out ---- */

/* Look at the record at back.off: 1 all of it is there and right, 0 not all, -1 damaged. */
static int open_record(struct spool *s, struct err *err)
{
    const uint8_t *record = s->back.p + s->back.off;
    size_t have = s->back.n - s->back.off;
    uint32_t len, sum;
    if (have < RECORD_HEADER) return 0;
    memcpy(&len, record, 4);
    memcpy(&sum, record + 4, 4);
    if (len == 0 || len > s->block_bytes - RECORD_HEADER)
        return segs_damaged(&s->segs, s->back.off, "impossible length", err);
    if (len > have - RECORD_HEADER) return 0;
    if (sum != checksum(record, len))
        return segs_damaged(&s->segs, s->back.off, "checksum differs", err);
    memcpy(&s->left_ms, record + 8, 8);
    s->left = len;
    s->back.off += RECORD_HEADER;
    return 1;
}

/* Fill back anew: from the files, or when these are read, from the side buffer. 0: nothing left. */
static int load_block(struct spool *s, struct err *err)
{
    if (s->back_is_file) segs_advance(&s->segs, s->back.off);
    s->back.n = s->back.off = 0;
    s->back_is_file = false;
    ssize_t n = segs_read(&s->segs, s->back.p, s->block_bytes, err);
    if (n < 0) return -1;
    s->back_is_file = n > 0;
    s->back.n = (size_t)n;
    if (n > 0) return 1;
    struct block empty = s->back;
    s->back = s->side;
    s->side = empty;
    s->no_room = false;
    return s->back.n > 0;
}

/* Have a record to move: 1, 0 when there is none, -1. */
static int next_record(struct spool *s, struct err *err)
{
    if (s->left) return 1;
    int rc = open_record(s, err);
    if (rc != 0) return rc;
    rc = load_block(s, err);
    if (rc <= 0) return rc;
    rc = open_record(s, err);
    /* A block begins with a record, and the longest fits it. */
    return rc == 0 ? segs_damaged(&s->segs, 0, "a record is cut short", err) : rc;
}

static ssize_t move_records(struct spool *s, struct err *err)
{
    size_t moved = 0;
    for (;;) {
        size_t room = ring_room(&s->ring);
        if (room == 0) break;
        int rc = next_record(s, err);
        if (rc < 0) return -1;
        if (rc == 0 || !may_take(s, s->left_ms)) break;
        size_t step = s->left < room ? s->left : room;
        memcpy(s->wr, s->back.p + s->back.off, step);
        if (ring_take(s, step, s->left_ms, err) < 0) return -1;
        s->back.off += step;
        s->left -= step;
        moved += step;
    }
    return (ssize_t)moved;
}

static void leave_disk_mode(struct spool *s)
{
    segs_clear(&s->segs);
    s->side.n = s->back.n = s->back.off = 0;
    s->back_is_file = s->no_room = s->disk_mode = false;
    s->offered = 0;
}

ssize_t spool_refill(struct spool *s, struct err *err)
{
    if (KH_LIKELY(!s->disk_mode)) return 0;
    s->offered = 0;
    if (s->no_room && clock_mono_ms() >= s->no_room_until_ms && flush_side(s, err) < 0) return -1;
    ssize_t moved = move_records(s, err);
    if (moved >= 0 && spool_disk_bytes(s) == 0) leave_disk_mode(s);
    return moved;
}

/* ---- questions ---- */

uint64_t spool_head(const struct spool *s)
{
    return s->ring.head;
}

uint64_t spool_tail(const struct spool *s)
{
    return s->tail;
}

uint64_t spool_ram_bytes(const struct spool *s)
{
    return ring_used(&s->ring);
}

uint64_t spool_disk_bytes(const struct spool *s)
{
    return s->tail - s->ring.tail;
}

int64_t spool_time_at(struct spool *s, uint64_t pos)
{
    return marks_time_at(&s->marks, pos);
}
