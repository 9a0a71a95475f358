// SPDX-License-Identifier: BSD-3-Clause
// Items that the nodes of a cluster have refused in passing: again, each over the lane that its key
// has by then.
//
// All lanes are looked at at once, in rounds, so that none waits for another that waits for it:
//
//    all windows empty ──▶ what was refused, of all lanes ──▶ wait, follow ──▶ out again ──┐
//            ▲                                                                             │
//            └─────────────────────────────────────────────────────────────────────────────┘
#include "engine/lane.h"

#include <stdio.h>

#define REST_BYTES (1u << 30) /* a window of each lane: what is kept of the snapshot is bounded */

void lane_peers_init(struct lane_peers *p)
{
    buf_init(&p->rest, REST_BYTES);
}

void lane_peers_release(struct lane_peers *p)
{
    buf_release(&p->rest);
}

struct refused {
    struct lane *passing; /* has met a fault other than a redirection; NULL none */
    bool redirected;
    char why[RESP_ERROR_MAX], where[RESP_ERROR_MAX];
};

static void note_why(struct refused *f, struct lane *l)
{
    bool redirect = refusal_is_redirect(l->retry_why);
    snprintf(redirect ? f->where : f->why, RESP_ERROR_MAX, "%s", l->retry_why);
    if (redirect)
        f->redirected = true;
    else
        f->passing = l;
}

static int gather(struct lane_peers *p, struct refused *f, struct err *err)
{
    struct lane *l;
    for (unsigned i = 0; (l = p->nth(p->ctx, i)) != NULL; i++)
        if (lane_flush(l, err) < 0) return -1;
    for (unsigned i = 0; (l = p->nth(p->ctx, i)) != NULL; i++) {
        if (l->n_retry == 0) continue;
        note_why(f, l);
        if (buf_add(&p->rest, l->retry.p, l->retry.n, err) < 0) return -1;
        buf_clear(&l->retry);
        l->n_retry = 0;
    }
    return 0;
}

static int wait_and_follow(struct lane_peers *p, struct refused *f, struct err *err)
{
    if (f->redirected && p->follow(p->ctx, f->where, err) < 0) return -1;
    if (!f->redirected && p->recovered) p->recovered(p->ctx);
    return f->passing ? lane_pause(f->passing, f->why, err) : 0;
}

/* As long as nothing is refused again; the rest stays for the next round. */
static int put_rest(struct lane_peers *p, struct err *err)
{
    size_t at = 0;
    while (at < p->rest.n) {
        struct lane_item item;
        memcpy(&item, p->rest.p + at, sizeof(item));
        const uint8_t *bytes = p->rest.p + at + sizeof(item);
        struct lane *to = p->of(p->ctx, span_of(bytes + item.key_at, item.key_n));
        int rc = to->n_retry ? 1 : lane_put_again(to, &item, bytes, err);
        if (rc < 0) return -1;
        if (rc > 0) break;
        at += sizeof(item) + item.n;
    }
    memmove(p->rest.p, p->rest.p + at, p->rest.n - at);
    p->rest.n -= at;
    return 0;
}

static void recovered(struct lane_peers *p)
{
    struct lane *l;
    for (unsigned i = 0; (l = p->nth(p->ctx, i)) != NULL; i++)
        lane_recovered(l);
    p->recovered(p->ctx);
    buf_trim(&p->rest, 0);
}

int lane_peers_drain(struct lane_peers *p, struct err *err)
{
    for (;;) {
        struct refused f = {0};
        if (gather(p, &f, err) < 0) return -1;
        if (p->rest.n == 0) break;
        if (wait_and_follow(p, &f, err) < 0 || put_rest(p, err) < 0) return -1;
    }
    recovered(p);
    return 0;
}
