// SPDX-License-Identifier: BSD-3-Clause
// Marks of time along a byte stream.
#include "io/marks.h"

#include <stdlib.h>

#define FIRST_CAP 64

static struct mark *at(const struct marks *m, uint64_t number)
{
    return &m->slot[number & (m->cap - 1)];
}

int marks_init(struct marks *m, size_t max, struct err *err)
{
    size_t cap = FIRST_CAP, limit = cap;
    while (limit < max)
        limit *= 2;
    struct mark *slot = calloc(cap, sizeof(*slot));
    if (!slot) return err_set(err, ERR_NOMEM, "out of memory");
    *m = (struct marks){.slot = slot, .cap = cap, .max = limit, .next_pos = UINT64_MAX};
    return 0;
}

void marks_release(struct marks *m)
{
    free(m->slot);
    *m = (struct marks){0};
}

static int grow(struct marks *m, struct err *err)
{
    struct mark *slot = calloc(2 * m->cap, sizeof(*slot));
    if (!slot) return err_set(err, ERR_NOMEM, "out of memory (times of receipt)");
    for (uint64_t i = m->first; i < m->end; i++)
        slot[i & (2 * m->cap - 1)] = *at(m, i);
    free(m->slot);
    m->slot = slot;
    m->cap *= 2;
    return 0;
}

int marks_add(struct marks *m, uint64_t pos, int64_t ms, struct err *err)
{
    if (m->end - m->first == m->cap && grow(m, err) < 0) return -1;
    *at(m, m->end) = (struct mark){pos, ms};
    m->end++;
    m->last_ms = ms;
    if (m->end - m->first == 2) m->next_pos = pos;
    return 0;
}

void marks_drop(struct marks *m, uint64_t head)
{
    while (m->end - m->first > 1 && at(m, m->first + 1)->pos <= head)
        m->first++;
    m->next_pos = m->end - m->first > 1 ? at(m, m->first + 1)->pos : UINT64_MAX;
}

void marks_clear(struct marks *m)
{
    m->first = m->end = m->cursor = m->run_cursor = 0;
    m->next_pos = UINT64_MAX;
}

/* The mark that holds at pos, from *cursor on, which moves there. */
static const struct mark *look(const struct marks *m, uint64_t *cursor, uint64_t pos)
{
    if (*cursor < m->first || at(m, *cursor)->pos > pos) *cursor = m->first;
    while (*cursor + 1 < m->end && at(m, *cursor + 1)->pos <= pos)
        (*cursor)++;
    return at(m, *cursor);
}

int64_t marks_time_at(struct marks *m, uint64_t pos)
{
    return m->end == m->first ? 0 : look(m, &m->cursor, pos)->ms;
}

int64_t marks_run(struct marks *m, uint64_t pos, uint64_t *ret_end)
{
    *ret_end = UINT64_MAX;
    if (m->end == m->first) return 0;
    int64_t ms = look(m, &m->run_cursor, pos)->ms;
    if (m->run_cursor + 1 < m->end) *ret_end = at(m, m->run_cursor + 1)->pos;
    return ms;
}
