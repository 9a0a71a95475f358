// SPDX-License-Identifier: BSD-3-Clause
// A reader over a file, pipe or connection for tasks that only read: no spool, no other traffic.
//
// Reads 256 KB at a time and blocks until there is something, in slices of at most 100 ms, so that
// a request to stop is seen at once. As long as nothing is held, the same first pages of the ring
// are used again and again: they stay in the processor's cache, and the rest is never touched.
// One owner thread.
#ifndef KEYHAUL_IO_FEED_H
#define KEYHAUL_IO_FEED_H

#include "io/conn.h"
#include "io/ring.h"
#include "wire/reader.h"

#define FEED_RING_BYTES (16u << 20) /* most that a decoder can hold */

struct feed_config {
    int fd;                  /* -1: read `conn` */
    struct conn *conn;       /* both borrowed */
    int silence_ms;          /* connection: nothing heard for so long is ERR_NET */
    const atomic_bool *stop; /* ERR_STOPPED; may be NULL */
    /* Told what has been read, in all; may be NULL. */
    void (*on_read)(void *ctx, uint64_t bytes);
    void *ctx;
};

struct feed {
    struct reader r; /* the end of a file is ERR_END */
    struct ring ring;
    struct feed_config cfg;
    uint64_t bytes; /* read so far */
    int64_t heard_ms;
};

/* `f` must not move afterwards: the reader points to it. */
KH_MUST int feed_init(struct feed *f, const struct feed_config *cfg, struct err *err);
void feed_release(struct feed *f); /* safe on zeroed */

#endif
