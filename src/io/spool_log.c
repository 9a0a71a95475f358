// SPDX-License-Identifier: BSD-3-Clause
// The spool as a log: what is received goes to disk as well, and stays until it is done with.
//
//        first           done    head                              tail
//   files  │─────────────│───────│────────────── ... ──────────────│        the usual state
//   ring                         │──────────────────────│                   RAM mode: up to the
//   tail
//
// What was received last is not written before there is enough of it, see spool.h, and none of it
// as long as there is no room on the disk: the files end at `logged`, before the tail. What they
// lack is, in order: the end of the ring, from `logged` on (kept there though it may be consumed:
// `pin`); what is left of the back block, unless `logged` is beyond it; the side block.
// spool_log_catch_up() writes that.
//
// Room is made, in this order: files that are done with go, though keep_bytes would hold them; when
// none is left, what is done with need not be written at all and the log begins anew behind it;
// when the consumer needs more than all that is there, what it has consumed goes too.
#include "io/spool_impl.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define WRITE_BACK_MS    1000
#define WRITE_BACK_BYTES (8u << 20)
#define STARVE_MS        1000
#define GATHER_MS        50
#define PIECES           (SEGS_IOV_MAX / 2)

/* ---- room ---- */

/* Nobody needs what is before this when there is no room. */
static uint64_t needless_until(const struct spool *s)
{
    return s->starving || s->ring.head < s->done ? s->ring.head : s->done;
}

static bool drop_needless(struct spool *s)
{
    if (segs_drop_spare(&s->segs)) return true;
    if (!s->segs.head || segs_first_end(&s->segs) > needless_until(s)) return false;
    segs_drop_head(&s->segs);
    return true;
}

uint64_t spool_log_room(struct spool *s, uint64_t wanted)
{
    while (segs_room(&s->segs) < wanted && drop_needless(s))
        ;
    return segs_room(&s->segs);
}

/* No file is left, so the log may as well begin where it is needed. */
static bool skip_needless(struct spool *s)
{
    uint64_t until = needless_until(s);
    if (s->segs.head || until <= s->logged) return false;
    s->logged = until;
    spool_set_pin(s);
    return true;
}

bool spool_log_release(struct spool *s)
{
    while (drop_needless(s))
        ;
    return skip_needless(s);
}

/* ---- writing ---- */

/* Now and then: when not all has been applied that was in the files the last time, they are to be
 * on the disk, the first ones as well, since nothing counts that comes after damage. As long as the
 * target keeps up, nothing is: a log that ends before the checkpoint, as it would after a power cut
 * all the same, is of no use. */
static int write_back_when_due(struct spool *s, int64_t now, struct err *err)
{
    bool much = s->behind && s->logged - s->looked_pos >= WRITE_BACK_BYTES;
    if (now - s->looked_ms < WRITE_BACK_MS && !much) return 0;
    s->behind = s->done < s->looked_pos;
    s->looked_ms = now;
    s->looked_pos = s->logged;
    if (!s->behind) return 0;
    if (segs_settle(&s->segs, err) < 0) return -1;
    segs_write_back(&s->segs);
    return 0;
}

/* Append what comes after `logged`: 1, 0 no room (which is noted), -1. */
static int put(struct spool *s, const struct segs_put *what, struct err *err)
{
    for (;;) {
        int rc = segs_append(&s->segs, s->logged, what, err);
        if (rc > 0) {
            s->logged += what->payload;
            if (write_back_when_due(s, clock_mono_ms(), err) < 0) return -1;
        }
        if (rc != 0) return rc;
        if (drop_needless(s)) continue;
        spool_no_room(s);
        return 0;
    }
}

static int put_bytes(struct spool *s, uint8_t *p, size_t n, size_t payload, struct err *err)
{
    struct iovec iov = {p, n};
    return put(s, &(struct segs_put){&iov, 1, payload}, err);
}

/* Bytes of the ring as records: their headers, and where they stand. */
struct pieces {
    uint8_t header[PIECES][RECORD_HEADER];
    struct iovec iov[2 * PIECES];
};

/* From..to, as many as fit. */
static struct segs_put gather(struct spool *s, uint64_t from, uint64_t to, struct pieces *ret)
{
    struct segs_put made = {.iov = ret->iov};
    size_t room = s->side_bytes;
    for (unsigned i = 0; i < PIECES && from < to && room > RECORD_HEADER; i++) {
        uint64_t end;
        int64_t ms = marks_run(&s->marks, from, &end);
        if (end > to) end = to;
        size_t n = room - RECORD_HEADER;
        if (n > end - from) n = (size_t)(end - from);
        uint8_t *p = spool_ring_at(s, from);
        record_header(ret->header[i], s->segs.salt, p, n, from, ms);
        ret->iov[2 * i] = (struct iovec){ret->header[i], RECORD_HEADER};
        ret->iov[2 * i + 1] = (struct iovec){p, n};
        made.n_iov += 2;
        made.payload += n;
        from += n;
        room -= RECORD_HEADER + n;
    }
    return made;
}

/* The end of the ring: 1 all of it is in the files, 0 no room, -1. */
static int write_ring(struct spool *s, struct err *err)
{
    struct pieces pieces;
    int rc = 1;
    while (rc > 0 && s->logged < s->ring.tail) {
        struct segs_put what = gather(s, s->logged, s->ring.tail, &pieces);
        rc = put(s, &what, err);
        if (rc == 0 && skip_needless(s)) rc = 1;
        segs_read_from_end(&s->segs); /* as the ring has it */
    }
    spool_set_pin(s);
    return rc;
}

/* Make what is left of the back block whole records again. */
static void mend_back(struct spool *s)
{
    if (s->left == 0) return;
    /* At least its old header stands before it, and is of no more use. */
    s->back.off -= RECORD_HEADER;
    uint8_t *record = s->back.p + s->back.off;
    record_header(record, s->segs.salt, record + RECORD_HEADER, s->left, s->ring.tail, s->left_ms);
    s->left = 0;
}

static size_t back_payload(const struct spool *s)
{
    return (size_t)(s->tail - s->ring.tail - s->side_payload);
}

/* What is left of the back block; it is read again from the file. */
static int write_back_block(struct spool *s, struct err *err)
{
    mend_back(s);
    int rc = put_bytes(s, s->back.p + s->back.off, s->back.n - s->back.off, back_payload(s), err);
    if (rc > 0) s->back.n = s->back.off = 0;
    return rc;
}

static int write_side(struct spool *s, struct err *err)
{
    int rc = put_bytes(s, s->side.p, s->side.n, s->side_payload, err);
    if (rc > 0) s->side.n = s->side_payload = 0;
    return rc;
}

int spool_log_catch_up(struct spool *s, struct err *err)
{
    int rc = 1;
    if (s->logged < s->ring.tail) rc = write_ring(s, err);
    if (rc > 0 && s->logged == s->ring.tail && s->back.off < s->back.n)
        rc = write_back_block(s, err);
    if (rc > 0 && s->side.n) rc = write_side(s, err);
    if (rc > 0) s->no_room = false;
    if (rc > 0) s->gathered_ms = 0;
    return rc < 0 ? -1 : 0;
}

int spool_log_take(struct spool *s, struct err *err)
{
    if (s->tail - s->logged < s->log_bytes || s->no_room) return 0;
    return spool_log_catch_up(s, err);
}

int spool_write(struct spool *s, struct err *err)
{
    if (!spool_log_waits(s) || s->no_room) return 0;
    return spool_log_catch_up(s, err);
}

void spool_log_urge(struct spool *s)
{
    struct err err;
    if (!s->trouble.code && spool_log_catch_up(s, &err) < 0) s->trouble = err;
}

static void write_when_due(struct spool *s, int64_t now)
{
    if (!spool_log_waits(s)) return;
    if (s->gathered_ms == 0) s->gathered_ms = now;
    if (now >= (s->no_room ? s->no_room_until_ms : s->gathered_ms + GATHER_MS)) spool_log_urge(s);
}

void spool_log_tend(struct spool *s)
{
    struct err err;
    int64_t now = clock_mono_ms();
    write_when_due(s, now);
    if (!s->trouble.code && write_back_when_due(s, now, &err) < 0) s->trouble = err;
}

int spool_log_finish(struct spool *s, struct err *err)
{
    uint64_t quota = s->segs.max_bytes;
    s->segs.max_bytes = UINT64_MAX;
    int rc = spool_log_catch_up(s, err);
    s->segs.max_bytes = quota;
    return rc;
}

/* ---- now and then ---- */

/* The source may bring no more, as there is no room for it; and the consumer goes on with no less.
 * (A command larger than the quota.) It cannot be read again then, so it is let go of. */
static int relieve(struct spool *s, int64_t now, struct err *err)
{
    if (!s->blocked || s->starve_head != s->ring.head || s->starve_done != s->done) {
        s->starve_head = s->ring.head;
        s->starve_done = s->done;
        s->starve_since_ms = now;
    }
    if (now - s->starve_since_ms < STARVE_MS) return 0;
    if (!s->starved_told)
        log_warn("the spool in %s has no room for a command and what was sent but is not answered; "
                 "if the target is lost now, that is asked of the source again",
                 s->segs.dir);
    s->starved_told = true;
    s->starving = true;
    while (drop_needless(s))
        ;
    int rc = spool_log_catch_up(s, err);
    s->starving = false;
    return rc;
}

int spool_log_step(struct spool *s, struct err *err)
{
    if (!spool_log_is_busy(s) && !s->trouble.code) return 0;
    spool_log_tend(s);
    if (s->trouble.code) {
        *err = s->trouble;
        return -1;
    }
    return s->no_room ? relieve(s, clock_mono_ms(), err) : 0;
}

/* ---- becoming one ---- */

/* What is before the files, in the ring and perhaps in the back block: 1, 0 no room, -1. */
static int fill_front(struct spool *s, struct segs *front, struct err *err)
{
    struct pieces pieces;
    uint64_t pos = s->ring.head, until = segs_first(&s->segs);
    uint64_t in_ring = until < s->ring.tail ? until : s->ring.tail;
    int rc = 1;
    while (rc > 0 && pos < in_ring) {
        struct segs_put what = gather(s, pos, in_ring, &pieces);
        rc = segs_append(front, pos, &what, err);
        pos += what.payload;
    }
    if (rc <= 0 || pos == until) return rc;
    mend_back(s);
    struct iovec iov = {s->back.p + s->back.off, s->back.n - s->back.off};
    return segs_append(front, pos, &(struct segs_put){&iov, 1, (size_t)(until - pos)}, err);
}

/* Over the quota if need be, by no more than the ring. */
static int write_front(struct spool *s, struct err *err)
{
    struct segs front;
    if (segs_init(&front, s->segs.dir, s->segs.name, UINT64_MAX, s->segs.segment_bytes, err) < 0)
        return -1;
    front.log = front.dir_made = true;
    front.salt = s->segs.salt;
    int rc = fill_front(s, &front, err);
    if (rc > 0)
        rc = segs_join(&front, &s->segs, err);
    else if (rc == 0)
        log_warn("no room in %s for what is in memory (the disk is full): after a crash that is "
                 "asked of the source again",
                 s->segs.dir);
    segs_clear(&front);
    segs_release(&front);
    return rc;
}

int spool_keep(struct spool *s, struct err *err)
{
    if (s->segs.log) return 0;
    if (!s->segs.name) return err_set(err, ERR_INTERNAL, "a spool needs a log_name to be a log");
    s->offered = 0;
    if (segs_keep(&s->segs, err) < 0) return -1;
    bool files = s->segs.head;
    if (files && segs_first(&s->segs) > s->ring.head && write_front(s, err) < 0) return -1;
    s->logged = files ? segs_end(&s->segs) : s->ring.head;
    s->done = s->ring.head;
    spool_set_pin(s);
    return spool_log_catch_up(s, err);
}

/* ---- as one ---- */

void spool_done(struct spool *s, uint64_t pos)
{
    if (!s->segs.log || pos <= s->done) return;
    s->done = pos < s->tail ? pos : s->tail;
    uint64_t until = s->done < s->ring.head ? s->done : s->ring.head;
    until = until > s->keep_bytes ? until - s->keep_bytes : 0;
    while (s->segs.head != s->segs.tail && segs_first_end(&s->segs) <= until)
        segs_retire_head(&s->segs);
}

uint64_t spool_first(const struct spool *s)
{
    if (!s->segs.log) return s->ring.head;
    return s->segs.head ? segs_first(&s->segs) : s->logged;
}

int spool_sync(struct spool *s, struct err *err)
{
    if (!s->segs.log) return 0;
    if (s->trouble.code) {
        *err = s->trouble;
        return -1;
    }
    if (spool_log_finish(s, err) < 0) return -1;
    if (s->logged < s->tail)
        return err_set(err, ERR_BUSY, "no room in %.300s for all that was received", s->segs.dir);
    return segs_sync(&s->segs, err);
}

static bool in_ring(const struct spool *s, uint64_t pos)
{
    return pos >= s->pin && pos <= s->ring.tail;
}

/* Nothing in the ring, and the next byte to come into it is the first of the file that holds pos.
 * What is in the side block stays. */
static void start_over(struct spool *s, uint64_t pos)
{
    s->back.n = s->back.off = s->left = 0;
    s->back_is_file = false;
    s->rd = s->wr = s->ring.map;
    marks_clear(&s->marks);
    if (s->segs.head && pos < s->logged) {
        s->ring.tail = segs_read_from(&s->segs, pos);
    } else {
        segs_read_from_end(&s->segs);
        s->ring.tail = s->logged;
    }
    s->ring.head = s->pin = s->ring.tail;
}

/* Pass by what stands before pos. */
static int skip_to(struct spool *s, uint64_t pos, struct err *err)
{
    while (s->ring.tail < pos) {
        int rc = spool_next_record(s, err);
        if (rc < 0) return -1;
        if (rc == 0) return segs_damaged(&s->segs, 0, "it has become shorter", err);
        size_t step = s->left < pos - s->ring.tail ? s->left : (size_t)(pos - s->ring.tail);
        s->back.off += step;
        s->left -= step;
        s->ring.tail += step;
    }
    s->ring.head = s->pin = s->ring.tail;
    return 0;
}

static int seek_in_files(struct spool *s, uint64_t pos, struct err *err)
{
    if (!spool_make_blocks(s)) return err_set(err, ERR_NOMEM, "out of memory");
    start_over(s, pos);
    s->disk_mode = true;
    if (skip_to(s, pos, err) < 0) {
        s->trouble = *err;
        return -1;
    }
    s->disk_mode = pos < s->tail;
    return 0;
}

int spool_seek(struct spool *s, uint64_t pos, struct err *err)
{
    if (!s->segs.log && !in_ring(s, pos))
        return err_set(err, ERR_INTERNAL, "a spool that is no log is read once");
    if (!in_ring(s, pos) && (pos < spool_first(s) || pos > s->tail))
        return err_set(err, ERR_INTERNAL, "position %llu is not in the spool (%llu to %llu)",
                       (unsigned long long)pos, (unsigned long long)spool_first(s),
                       (unsigned long long)s->tail);
    if (pos < s->done) s->done = pos; /* the target has lost it */
    s->offered = 0;
    if (in_ring(s, pos)) {
        s->rd = spool_ring_at(s, pos);
        s->ring.head = pos;
        spool_set_pin(s);
        return 0;
    }
    if (spool_log_finish(s, err) < 0) return -1;
    bool only_copy = s->logged < s->ring.tail || (s->logged == s->ring.tail && back_payload(s));
    if (only_copy || pos > s->logged)
        return err_set(err, ERR_BUSY, "no room in %.300s for what would be overwritten in memory",
                       s->segs.dir);
    return seek_in_files(s, pos, err);
}

/* ---- after a former run ---- */

/* How much of a file is whole records; see segs_check_fn. ctx: a block. */
static int check_records(void *ctx, const struct segs *q, int fd, uint64_t pos, uint64_t *ret_bytes,
                         uint64_t *ret_payload)
{
    uint8_t *block = ctx;
    uint64_t at = SEG_HEADER_BYTES, payload = 0;
    for (int rc = 1; rc > 0;) {
        ssize_t got = pread(fd, block, BLOCK_BYTES, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        size_t off = 0, n;
        int64_t ms;
        const char *why;
        while ((rc = record_look(q->salt, block + off, (size_t)got - off, pos + payload, &n, &ms,
                                 &why)) > 0) {
            off += RECORD_HEADER + n;
            payload += n;
        }
        at += off;
        if (rc == 0) rc = off > 0; /* a record that begins in this block is whole in the next */
    }
    *ret_bytes = payload ? at : 0;
    *ret_payload = payload;
    return 0;
}

static int recover(struct spool *s, struct err *err)
{
    uint8_t *block = malloc(BLOCK_BYTES);
    if (!block) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = segs_recover(&s->segs, check_records, block, err);
    free(block);
    if (rc < 0) return -1;
    if (!s->segs.head) {
        s->segs.log = false;
        return 0;
    }
    s->logged = s->tail = segs_end(&s->segs);
    s->done = segs_first(&s->segs);
    return seek_in_files(s, s->done, err);
}

int spool_recover(struct spool **ret, const struct spool_config *cfg, uint64_t *ret_pos,
                  struct err *err)
{
    struct spool *s;
    if (!cfg->log_name) return err_set(err, ERR_INTERNAL, "a spool needs a log_name to be a log");
    if (spool_new(&s, cfg, err) < 0) return -1;
    if (recover(s, err) < 0) {
        s->segs.log = true; /* its files stay as they are */
        s->logged = s->tail;
        spool_close(s);
        return -1;
    }
    *ret_pos = s->segs.head ? segs_first(&s->segs) : UINT64_MAX;
    *ret = s;
    return 0;
}
