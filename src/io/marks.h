// SPDX-License-Identifier: BSD-3-Clause
// Marks of time along a byte stream: from this position on, bytes were received at that time.
//
// A bounded queue: positions ascend, the oldest mark goes once the next one's position is consumed.
// The last one always stays, as it holds for what comes after. One owner thread.
#ifndef KEYHAUL_IO_MARKS_H
#define KEYHAUL_IO_MARKS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mark {
    uint64_t pos;
    int64_t ms;
};

struct marks {
    struct mark *slot;   /* a ring of `cap` (a power of two) */
    size_t cap, max;     /* grows up to max */
    uint64_t first, end; /* running numbers; slot = number % cap */
    uint64_t cursor;     /* where the last question was answered */
    uint64_t run_cursor; /* the same, of marks_run() */
    uint64_t next_pos;   /* of mark first + 1; UINT64_MAX when there is none */
    int64_t last_ms;     /* of mark end - 1 */
};

KH_MUST int marks_init(struct marks *m, size_t max, struct err *err); /* max is rounded up */
void marks_release(struct marks *m);

static inline bool marks_full(const struct marks *m)
{
    return m->end - m->first >= m->max;
}

/* Whether bytes of this time need a mark of their own. */
static inline bool marks_differs(const struct marks *m, int64_t ms)
{
    return ms != m->last_ms || m->end == m->first;
}

/* Not when full. */
KH_MUST int marks_add(struct marks *m, uint64_t pos, int64_t ms, struct err *err);

void marks_drop(struct marks *m, uint64_t head);
static inline void marks_consumed(struct marks *m, uint64_t head)
{
    if (head >= m->next_pos) marks_drop(m, head);
}

/* Forget them all. */
void marks_clear(struct marks *m);

/* 0 when there is no mark. Ascending questions are O(1) amortised. */
int64_t marks_time_at(struct marks *m, uint64_t pos);
/* The same, and up to which position that time holds (UINT64_MAX: of all that comes). Ascending by
 * itself: whoever writes need not be where the reader is. */
int64_t marks_run(struct marks *m, uint64_t pos, uint64_t *ret_end);

#endif
