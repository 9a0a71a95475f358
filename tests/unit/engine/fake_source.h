// SPDX-License-Identifier: BSD-3-Clause
// A source for tests: sends bytes it was given, part by part, and keeps what comes back (ACKs).
#ifndef KEYHAUL_TEST_FAKE_SOURCE_H
#define KEYHAUL_TEST_FAKE_SOURCE_H

#include "base/buf.h"
#include "fake_link.h"

struct fake_part {
    struct span bytes;
    int pause_ms; /* after it has been read over there */
};

struct fake_source {
    struct fake_link link;
    const struct fake_part *part;
    size_t n_parts;
    bool keep_open;  /* else the link is closed after the last part */
    struct buf back; /* look at it after fake_source_stop() */
};

/* `starve`: one byte at a time, each waited for. */
void fake_source_start(struct fake_source *s, const struct fake_part *parts, size_t n_parts,
                       bool starve, bool keep_open);
void fake_source_stop(struct fake_source *s);
void fake_source_release(struct fake_source *s);

#endif
