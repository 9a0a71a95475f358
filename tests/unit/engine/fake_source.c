// SPDX-License-Identifier: BSD-3-Clause
// The fake source.
#include "fake_source.h"

#include "base/clock.h"

#include <stdlib.h>

static bool take_back(struct fake_source *s, int wait_ms)
{
    uint8_t tmp[4096];
    ssize_t n = fake_link_read(&s->link, tmp, sizeof(tmp), wait_ms);
    if (n > 0 && buf_add(&s->back, tmp, (size_t)n, NULL) < 0) abort();
    return n > 0 || n == -2;
}

/* What comes back is taken in meanwhile. */
static bool pause_for(struct fake_source *s, int ms)
{
    int64_t until = clock_mono_ms() + ms, now;
    while ((now = clock_mono_ms()) < until)
        if (!take_back(s, (int)(until - now))) return false;
    return true;
}

static void *source_thread(void *arg)
{
    struct fake_source *s = arg;
    if (!fake_link_accept(&s->link)) return NULL;
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct fake_part *p = &s->part[i];
        if (!fake_link_write(&s->link, p->bytes.p, p->bytes.n)) return NULL;
        if (p->pause_ms && (!fake_link_settle(&s->link) || !pause_for(s, p->pause_ms))) return NULL;
    }
    while (s->keep_open && take_back(s, -1))
        continue;
    /* Closed before all was read, an ACK on its way would tear the link and lose the rest. */
    if (!s->keep_open && fake_link_settle(&s->link)) fake_link_hang_up(&s->link);
    return NULL;
}

void fake_source_start(struct fake_source *s, const struct fake_part *parts, size_t n_parts,
                       bool starve, bool keep_open)
{
    s->part = parts;
    s->n_parts = n_parts;
    s->keep_open = keep_open;
    s->link.starve = starve;
    buf_init(&s->back, 1 << 20);
    fake_link_start(&s->link, source_thread, s);
}

void fake_source_stop(struct fake_source *s)
{
    fake_link_stop(&s->link);
}

void fake_source_release(struct fake_source *s)
{
    buf_release(&s->back);
}
