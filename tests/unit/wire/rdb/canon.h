// SPDX-License-Identifier: BSD-3-Clause
// An RDB as text lines, to be compared with what the server said it held (tests/golden/rdb).
#ifndef TESTS_WIRE_RDB_CANON_H
#define TESTS_WIRE_RDB_CANON_H

#include "wire/reader.h"

struct canon {
    char **line; /* sorted by strcmp() */
    size_t n;
};

enum canon_mode {
    CANON_HOLD,    /* each value is skipped first, then decoded from the held bytes */
    CANON_RELEASE, /* decoded as it comes */
};

/* Decode all that r holds. The format of the lines is told in tests/golden/rdb/README.md. */
KH_MUST int canon_read(struct canon *ret, struct reader *r, enum canon_mode mode, struct err *err);
void canon_free(struct canon *c);

/* A reader that is as unhelpful as its contract allows: at each fill the bytes move, what has been
 * released is overwritten, and little more than asked for is handed out. */
struct nasty;
struct nasty *nasty_new(struct reader *r, const void *p, size_t n);
void nasty_free(struct nasty *s);

#endif
