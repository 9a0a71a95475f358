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
// directly when the consumer has caught up, so that none waits while the ring has room. What a log
// does otherwise is told in spool_log.c.
#include "io/spool_impl.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <stdlib.h>

#define SEGMENT_BYTES     (16u << 20)
#define SEGMENT_MIN_BYTES 256u
#define MARKS_MIN         4096u
#define LOW_ROOM_BYTES    16384u
#define NO_ROOM_WAIT_MS   100
#define TELL_EVERY_MS     60000

/* ---- making ---- */

static uint64_t segment_size(const struct spool_config *cfg)
{
    uint64_t n = cfg->segment_bytes ? cfg->segment_bytes : SEGMENT_BYTES;
    /* A file only goes once it is read to its end: with a few of them in the quota, room comes back
     * bit by bit. */
    if (n > cfg->max_disk_bytes / 4) n = cfg->max_disk_bytes / 4;
    return n < SEGMENT_MIN_BYTES ? SEGMENT_MIN_BYTES : n;
}

int spool_new(struct spool **ret, const struct spool_config *cfg, struct err *err)
{
    const char *dir = cfg->dir ? cfg->dir : ".", *name = cfg->log_name;
    if (name && (!*name || strlen(name) > SPOOL_NAME_MAX || strchr(name, '/')))
        return err_set(err, ERR_INTERNAL, "a spool cannot be named so");
    struct spool *s = calloc(1, sizeof(*s));
    if (!s) return err_set(err, ERR_NOMEM, "out of memory");
    uint64_t segment = segment_size(cfg);
    s->side_bytes = segment < BLOCK_BYTES ? (size_t)segment : BLOCK_BYTES;
    s->log_bytes = s->side_bytes / 4;
    s->keep_bytes = cfg->keep_bytes;
    s->logged = UINT64_MAX;
    if (ring_init(&s->ring, cfg->ram_bytes, err) < 0) goto fail;
    s->rd = s->wr = s->ring.map;
    s->low_room = s->ring.size / 16 < LOW_ROOM_BYTES ? s->ring.size / 16 : LOW_ROOM_BYTES;
    /* Enough for any commands of the protocol (the shortest has 14 bytes) at one per ms. */
    size_t marks = s->ring.size / 16 > MARKS_MIN ? s->ring.size / 16 : MARKS_MIN;
    if (marks_init(&s->marks, marks, err) < 0) goto fail;
    if (segs_init(&s->segs, dir, name, cfg->max_disk_bytes, segment, err) < 0) goto fail;
    *ret = s;
    return 0;
fail:
    spool_close(s);
    return -1;
}

int spool_open(struct spool **ret, const struct spool_config *cfg, struct err *err)
{
    if (cfg->log_name && segs_remove_left(cfg->dir ? cfg->dir : ".", cfg->log_name, err) < 0)
        return -1;
    return spool_new(ret, cfg, err);
}

static void free_spool(struct spool *s)
{
    if (s->segs.dir) segs_release(&s->segs);
    free(s->side.p);
    free(s->back.p);
    marks_release(&s->marks);
    ring_release(&s->ring);
    free(s);
}

void spool_close(struct spool *s)
{
    if (!s) return;
    struct err err;
    /* What cannot be written now is asked for again. */
    if (s->segs.log && spool_log_finish(s, &err) < 0) log_warn("%s", err.msg);
    free_spool(s);
}

void spool_discard(struct spool *s)
{
    if (!s) return;
    segs_clear(&s->segs);
    free_spool(s);
}

/* ---- RAM mode ---- */

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
    s->wr = spool_forward(s, s->wr, n);
    return 0;
}

static size_t space_disk(struct spool *s, uint8_t **ret_p);
static size_t space_short(struct spool *s, uint8_t **ret_p);

static size_t offer(struct spool *s, size_t room)
{
    s->blocked = room == 0;
    return s->offered = room;
}

static bool is_short(const struct spool *s)
{
    return spool_ring_room(s) < s->low_room || marks_full(&s->marks);
}

size_t spool_space(struct spool *s, uint8_t **ret_p)
{
    if (spool_log_is_busy(s)) spool_log_tend(s);
    if (KH_UNLIKELY(s->disk_mode)) return space_disk(s, ret_p);
    size_t room = spool_ring_room(s);
    /* An empty ring starts over at its first page: while the consumer keeps up, only as much memory
     * is touched as one read brings, and it stays in the cache. */
    if (room == s->ring.size) s->rd = s->wr = s->ring.map;
    if (KH_UNLIKELY(is_short(s))) return space_short(s, ret_p);
    *ret_p = s->wr;
    return offer(s, room);
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
    s->rd = spool_forward(s, s->rd, n);
    spool_set_pin(s);
}

/* ---- disk mode: in ---- */

bool spool_make_blocks(struct spool *s)
{
    if (!s->side.p) s->side.p = malloc(BLOCK_BYTES);
    if (!s->back.p) s->back.p = malloc(BLOCK_BYTES);
    return s->side.p && s->back.p;
}

/* Bytes of payload that fit the side buffer and the quota. */
static size_t side_room(struct spool *s)
{
    uint64_t quota = s->segs.log ? spool_log_room(s, s->side_bytes) : segs_room(&s->segs);
    size_t limit = quota < s->side_bytes ? (size_t)quota : s->side_bytes;
    return limit > s->side.n + RECORD_HEADER ? limit - s->side.n - RECORD_HEADER : 0;
}

static size_t space_disk(struct spool *s, uint8_t **ret_p)
{
    size_t room = side_room(s);
    if (room == 0 && !s->no_room && spool_log_waits(s)) {
        spool_log_urge(s);
        room = side_room(s);
    }
    *ret_p = s->side.p + s->side.n + RECORD_HEADER;
    if (s->segs.log && room == 0 && !s->no_room) {
        s->segs.quota_hit = true;
        spool_no_room(s);
    } else if (s->segs.log && room > 0 && s->logged == s->tail) {
        s->no_room = false;
    }
    return offer(s, room);
}

/* A log goes on in the files only when these hold all that came before. */
static bool may_leave_ram(struct spool *s)
{
    if (s->segs.max_bytes <= RECORD_HEADER + SEG_HEADER_BYTES || !spool_make_blocks(s))
        return false;
    if (!s->segs.log) return true;
    return s->logged == s->tail && spool_log_room(s, s->side_bytes) > RECORD_HEADER;
}

/* The ring is full, or nearly so. */
static size_t space_short(struct spool *s, uint8_t **ret_p)
{
    s->offered = 0;
    *ret_p = s->wr;
    if (!s->no_room && spool_log_waits(s)) { /* so much room is just not written yet */
        spool_log_urge(s);
        if (!is_short(s)) return offer(s, spool_ring_room(s));
    }
    if (s->segs.log && s->no_room && spool_log_release(s)) return offer(s, spool_ring_room(s));
    if (may_leave_ram(s)) {
        if (s->segs.log) segs_read_from_end(&s->segs);
        s->disk_mode = true;
        return space_disk(s, ret_p);
    }
    /* No disk to go to: the last bytes of the ring, then back-pressure. */
    bool wait = marks_full(&s->marks) && ring_used(&s->ring) >= s->ring.size / 2;
    return offer(s, wait ? 0 : spool_ring_room(s));
}

void spool_no_room(struct spool *s)
{
    int64_t now = clock_mono_ms();
    bool tell = !s->no_room && (s->told_ms == 0 || now - s->told_ms >= TELL_EVERY_MS);
    s->no_room = true;
    s->no_room_until_ms = now + NO_ROOM_WAIT_MS;
    if (!tell) return;
    s->told_ms = now;
    log_warn("no room for more spool files in %s (%s): the source is read no further until there "
             "is",
             s->segs.dir, s->segs.quota_hit ? "--spool-max is reached" : "the disk is full");
}

/* Write the side buffer out. A full disk is no error: it stays where it is. */
static int flush_side(struct spool *s, struct err *err)
{
    struct iovec iov = {s->side.p, s->side.n};
    struct segs_put put = {&iov, 1, s->side_payload};
    int rc = segs_append(&s->segs, s->tail - s->side_payload, &put, err);
    if (rc < 0) return -1;
    if (rc == 0) {
        spool_no_room(s);
        return 0;
    }
    s->no_room = false;
    s->side.n = s->side_payload = 0;
    return 0;
}

/* n bytes, counted in `tail` already, stand behind the room for a header in the side buffer. */
static int side_take(struct spool *s, size_t n, int64_t ms, struct err *err)
{
    uint8_t *record = s->side.p + s->side.n;
    record_header(record, s->segs.salt, record + RECORD_HEADER, n, s->tail - n, ms);
    s->side.n += RECORD_HEADER + n;
    s->side_payload += n;
    if (s->segs.log) return spool_log_take(s, err);
    if (s->no_room) return 0;
    return s->side_bytes - s->side.n < s->side_bytes / 4 ? flush_side(s, err) : 0;
}

int spool_commit(struct spool *s, size_t n, int64_t received_ms, struct err *err)
{
    assert(n <= s->offered);
    s->offered = 0;
    if (n == 0) return 0;
    s->tail += n;
    if (KH_UNLIKELY(s->disk_mode)) return side_take(s, n, received_ms, err);
    if (ring_take(s, n, received_ms, err) < 0) return -1;
    return s->segs.log ? spool_log_take(s, err) : 0;
}

/* ---- disk mode: out ---- */

int record_look(uint32_t salt, const uint8_t *p, size_t have, uint64_t pos, size_t *ret_n,
                int64_t *ret_ms, const char **ret_why)
{
    uint32_t head[2];
    if (have < RECORD_HEADER) return 0;
    memcpy(head, p, 8);
    memcpy(ret_ms, p + 8, 8);
    if (head[0] == 0 || head[0] > RECORD_MAX) {
        *ret_why = "impossible length";
        return -1;
    }
    if (head[0] > have - RECORD_HEADER) return 0;
    *ret_n = head[0];
    if (head[1] == record_sum(salt, p + RECORD_HEADER, head[0], pos, *ret_ms)) return 1;
    *ret_why = "checksum differs";
    return -1;
}

/* The record at back.off: 1 all of it is there and right, 0 not all, -1 damaged. */
static int open_record(struct spool *s, struct err *err)
{
    size_t have = s->back.n - s->back.off;
    const char *why;
    int rc = record_look(s->segs.salt, s->back.p + s->back.off, have, s->ring.tail, &s->left,
                         &s->left_ms, &why);
    if (rc <= 0) s->left = 0;
    if (rc < 0) return segs_damaged(&s->segs, s->back_is_file ? have : 0, why, err);
    if (rc > 0) s->back.off += RECORD_HEADER;
    return rc;
}

/* Fill back anew: from the files, or when these are read, from the side buffer. 0: nothing left. */
static int load_block(struct spool *s, struct err *err)
{
    if (s->back_is_file) segs_unread(&s->segs, s->back.n - s->back.off);
    s->back.n = s->back.off = 0;
    s->back_is_file = false;
    ssize_t n = segs_read(&s->segs, s->back.p, BLOCK_BYTES, err);
    if (n < 0) return -1;
    s->back_is_file = n > 0;
    s->back.n = (size_t)n;
    if (n > 0) return 1;
    struct block empty = s->back;
    s->back = s->side;
    s->side = empty;
    s->side_payload = 0;
    if (s->segs.log) return s->back.n > 0;
    /* So that the files which come next join each other. */
    segs_clear(&s->segs);
    s->no_room = false;
    return s->back.n > 0;
}

int spool_next_record(struct spool *s, struct err *err)
{
    if (s->left) return 1;
    int rc = open_record(s, err);
    if (rc != 0) return rc;
    rc = load_block(s, err);
    if (rc <= 0) return rc;
    rc = open_record(s, err);
    /* A block begins with a record, and the longest fits it. */
    return rc == 0 ? segs_damaged(&s->segs, s->back.n, "a record is cut short", err) : rc;
}

static ssize_t move_records(struct spool *s, struct err *err)
{
    size_t moved = 0;
    for (;;) {
        size_t room = spool_ring_room(s);
        if (room == 0) break;
        int rc = spool_next_record(s, err);
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
    s->side.n = s->back.n = s->back.off = s->side_payload = 0;
    s->back_is_file = s->disk_mode = false;
    s->offered = 0;
    if (s->segs.log) return;
    segs_clear(&s->segs);
    s->no_room = false;
}

ssize_t spool_refill(struct spool *s, struct err *err)
{
    if (KH_UNLIKELY(s->segs.log) && spool_log_step(s, err) < 0) return -1;
    if (KH_LIKELY(!s->disk_mode)) return 0;
    s->offered = 0;
    bool retry = s->no_room && !s->segs.log && clock_mono_ms() >= s->no_room_until_ms;
    if (retry && flush_side(s, err) < 0) return -1;
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
