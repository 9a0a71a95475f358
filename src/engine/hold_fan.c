// SPDX-License-Identifier: BSD-3-Clause
// Settling held deadlines on a cluster: each key at the node that has it, all nodes at once.
//
// Both asking for a deadline and giving one may be done twice, so commands go without MULTI, and
// those that are redirected or refused in passing go again.
#include "engine/hold_impl.h"

#include "base/num.h"
#include "engine/fan.h"

#include <stdio.h>

struct settling {
    struct hold *h;
    struct hold_taken *t;
    bool give;                        /* else ask */
    bool open[HOLD_SETTLE_KEYS];      /* not answered yet */
    uint16_t order[HOLD_SETTLE_KEYS]; /* of t->a, as sent: the keys of a node together */
    int64_t answer[HOLD_SETTLE_KEYS]; /* in that order */
    struct lane *passing;             /* has refused one in passing */
    bool redirected;
    char why[RESP_ERROR_MAX], where[RESP_ERROR_MAX];
};

struct share { /* what one node gets */
    struct lane *lane;
    size_t at, n;      /* bytes in h->ask */
    unsigned first, k; /* in s->order */
};

static int put_command(const struct settling *s, const struct hold_asked *a, struct err *err)
{
    const char *ask = s->h->exact ? "PEXPIRETIME" : "PTTL";
    char ms[NUM_INT64_CHARS];
    struct span argv[] = {span_str(s->give ? "PEXPIREAT" : ask), hold_key_of(s->h, a),
                          span_of(ms, num_put_i64(ms, a->give_ms))};
    return resp_put_cmd(&s->h->ask, s->give ? 3 : 2, argv, err);
}

/* Those that are open, node by node. Returns how many shares; -1. */
static int put_shares(struct settling *s, struct share *share, struct err *err)
{
    struct fan *f = s->h->fan;
    uint16_t node[HOLD_SETTLE_KEYS];
    unsigned n_order = 0;
    int n = 0;
    buf_clear(&s->h->ask);
    for (int i = 0; i < s->t->n; i++)
        node[i] = f->node_of[slot_of(hold_key_of(s->h, &s->t->a[i]))];
    for (unsigned at = 0; at < f->n; at++) {
        struct share sh = {.lane = &f->nodes[at]->lane, .at = s->h->ask.n, .first = n_order};
        for (int i = 0; i < s->t->n; i++) {
            if (!s->open[i] || node[i] != at) continue;
            if (put_command(s, &s->t->a[i], err) < 0) return -1;
            s->order[n_order++] = (uint16_t)i;
        }
        sh.n = s->h->ask.n - sh.at;
        sh.k = n_order - sh.first;
        if (sh.k) share[n++] = sh;
    }
    return n;
}

static int send_share(struct settling *s, const struct share *sh, struct err *err)
{
    struct lane_part part = {.mem = span_of(s->h->ask.p + sh->at, sh->n)};
    sh->lane->outcome.integers = s->answer + sh->first;
    return lane_call_begin(sh->lane, &part, 1, sh->k, err);
}

static int refused(struct settling *s, struct lane *l, unsigned i, const char *line,
                   struct err *err)
{
    const struct hold_asked *a = &s->t->a[i];
    bool redirect = refusal_is_redirect(line);
    if (redirect || refusal_classify(line) == REFUSAL_TRANSIENT) {
        snprintf(redirect ? s->where : s->why, RESP_ERROR_MAX, "%s", line);
        s->redirected |= redirect;
        if (!redirect) s->passing = l;
        s->open[i] = true;
        return 0;
    }
    if (s->give)
        return refusals_report(l->refusals, a->db, hold_key_of(s->h, a), "PEXPIREAT", line, err);
    return err_set(err, ERR_TARGET, "target: %s was refused: %s",
                   s->h->exact ? "PEXPIRETIME" : "PTTL", line);
}

static int take_share(struct settling *s, const struct share *sh, int64_t *ret, struct err *err)
{
    struct lane_error e;
    const char *line;
    if (lane_call_wait(sh->lane, err) < 0) return -1;
    sh->lane->outcome.integers = NULL;
    for (unsigned k = sh->first; k < sh->first + sh->k; k++) {
        unsigned i = s->order[k];
        s->open[i] = false;
        if (ret) ret[s->t->a[i].reply] = s->answer[k];
    }
    for (size_t at = 0; (line = lane_outcome_next(&sh->lane->outcome, &at, &e)) != NULL;)
        if (refused(s, sh->lane, s->order[sh->first + e.reply], line, err) < 0) return -1;
    return 0;
}

/* Once all of them. 1: some are to be sent again. */
static int round_of(struct settling *s, int64_t *ret, struct err *err)
{
    struct share share[FAN_NODES_MAX];
    struct fan *f = s->h->fan;
    s->redirected = false;
    s->passing = NULL;
    int n = put_shares(s, share, err);
    if (n < 0) return -1;
    for (int i = 0; i < n; i++)
        if (send_share(s, &share[i], err) < 0) return -1;
    for (int i = 0; i < n; i++)
        if (take_share(s, &share[i], ret, err) < 0) return -1;
    if (s->redirected && fan_follow(f, s->where, err) < 0) return -1;
    if (s->passing && lane_pause(s->passing, s->why, err) < 0) return -1;
    return s->redirected || s->passing;
}

static int settle(struct settling *s, int64_t *ret, struct err *err)
{
    struct fan *f = s->h->fan;
    int rc;
    while ((rc = round_of(s, ret, err)) == 1)
        continue;
    if (rc < 0) return -1;
    for (unsigned i = 0; i < f->n; i++)
        lane_recovered(&f->nodes[i]->lane);
    fan_recovered(f);
    return 0;
}

int hold_fan_ask(struct hold *h, struct hold_taken *t, int64_t *ret, struct err *err)
{
    struct settling s = {.h = h, .t = t};
    for (int i = 0; i < t->n; i++) {
        t->a[i].reply = (size_t)i;
        s.open[i] = true;
    }
    return settle(&s, ret, err);
}

int hold_fan_give(struct hold *h, struct hold_taken *t, struct err *err)
{
    struct settling s = {.h = h, .t = t, .give = true};
    for (int i = 0; i < t->n; i++)
        s.open[i] = t->a[i].give_ms != 0;
    return settle(&s, NULL, err);
}
