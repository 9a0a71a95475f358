// SPDX-License-Identifier: BSD-3-Clause
// Filling a reader straight from a descriptor.
#include "io/feed.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define READ_BYTES (256u << 10) /* more at once leaves the cache before it is decoded */
#define MOVE_BYTES (64u << 10)  /* at most so much is moved to the start of the ring */
#define SLICE_MS   100

static bool stopped(const struct feed *f)
{
    return f->cfg.stop && *f->cfg.stop;
}

/* 1: there is something to read, or an end; 0: not yet. */
static int wait_file(const struct feed *f, struct err *err)
{
    struct pollfd p = {.fd = f->cfg.fd, .events = POLLIN};
    int n = poll(&p, 1, SLICE_MS);
    if (n < 0 && errno != EINTR) return err_set(err, ERR_IO, "poll: %s", strerror(errno));
    return n > 0;
}

static ssize_t read_file(const struct feed *f, uint8_t *p, size_t room, struct err *err)
{
    int ready = wait_file(f, err);
    if (ready <= 0) return ready;
    ssize_t n = read(f->cfg.fd, p, room);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    if (n < 0) return err_set(err, ERR_IO, "cannot read: %s", strerror(errno));
    return n ? n : err_set(err, ERR_END, "unexpected end of input");
}

static ssize_t read_conn(struct feed *f, uint8_t *p, size_t room, struct err *err)
{
    ssize_t n = conn_read(f->cfg.conn, p, room, err);
    if (n != 0) {
        f->heard_ms = clock_mono_ms();
        return n;
    }
    if (clock_mono_ms() - f->heard_ms > f->cfg.silence_ms)
        return err_set(err, ERR_NET, "nothing heard for %d s (--io-timeout waits longer)",
                       f->cfg.silence_ms / 1000);
    return conn_wait(f->cfg.conn, true, false, SLICE_MS, err) < 0 ? -1 : 0;
}

static int read_some(struct feed *f, struct err *err)
{
    size_t room = ring_room(&f->ring);
    uint8_t *p = ring_write_ptr(&f->ring);
    if (room > READ_BYTES) room = READ_BYTES;
    if (stopped(f)) return err_set(err, ERR_STOPPED, "stopped");
    ssize_t n = f->cfg.conn ? read_conn(f, p, room, err) : read_file(f, p, room, err);
    if (n <= 0) return (int)n;
    f->ring.tail += (uint64_t)n;
    f->bytes += (uint64_t)n;
    if (f->cfg.on_read) f->cfg.on_read(f->cfg.ctx, f->bytes);
    return 0;
}

/* Nobody holds a pointer: go on at the start of the ring. */
static void move_to_start(struct ring *ring)
{
    size_t used = ring_used(ring), at = (size_t)(ring->head % ring->size);
    if (used > MOVE_BYTES || at < READ_BYTES || at + used > ring->size) return;
    memmove(ring->map, ring_read_ptr(ring), used);
    ring->head = 0;
    ring->tail = used;
}

static int fill(struct reader *r, size_t drop, size_t need, struct err *err)
{
    struct feed *f = r->ctx;
    size_t wanted = (size_t)(r->end - r->base) - drop + need;
    f->ring.head += drop;
    if (need && r->p == r->keep) move_to_start(&f->ring);
    int rc = 0;
    while (rc == 0 && ring_used(&f->ring) < wanted)
        rc = read_some(f, err);
    /* The reader may go on with what it had, which may lie at the start now. */
    if (rc < 0 && r->p == r->keep) {
        r->keep = r->p = ring_read_ptr(&f->ring);
        r->end = r->p + ring_used(&f->ring);
    }
    if (rc < 0) return -1;
    r->base = ring_read_ptr(&f->ring);
    r->end = r->base + ring_used(&f->ring);
    return 0;
}

int feed_init(struct feed *f, const struct feed_config *cfg, struct err *err)
{
    *f = (struct feed){.cfg = *cfg, .heard_ms = clock_mono_ms()};
    if (ring_init(&f->ring, FEED_RING_BYTES, err) < 0) return -1;
    const uint8_t *p = ring_read_ptr(&f->ring);
    f->r = (struct reader){
        .base = p, .keep = p, .p = p, .end = p, .cap = f->ring.size, .fill = fill, .ctx = f};
    return 0;
}

void feed_release(struct feed *f)
{
    ring_release(&f->ring);
}
