// SPDX-License-Identifier: BSD-3-Clause
// When a held deadline can be given to its key (C8), while the stream goes on.
//
//   ripe   all that was received until some time after it has been applied: nothing can renew the
//          key any more, and its source's DEL has come or will not
//   far    it would not be held if it came now
//   quiet  the source has had nothing new for a moment and says so itself: whoever has stopped the
//          writers and compares the two sides is to find deadlines exact. Keys that are about to
//          expire are left to the source, for in these last moments a change may be on its way.
#include "engine/replay_rules.h"

#include "base/clock.h"
#include "base/log.h"

#define RIPE_MS     60000 /* our clock may be so far ahead of the source's */
#define QUIET_MS    250
#define NEAR_MS     1000 /* about to expire, ... */
#define PASSED_MS   5000 /* ... or the source has not got round yet to deleting it */
#define ROUND_MS    250
#define SETTLE_MS   100  /* those that are ripe are gathered for so long, ... */
#define SETTLE_KEYS 1024 /* ... and so many are asked for at once, or the stream would wait */
#define FULL_KEYS   4096 /* must be more than commands fit a batch */
#define SCAN_MS     100  /* between two goes at what a former run has left, while changes come */
#define SCAN_DRY_MS 10   /* how long one goes on when none come */
#define SCAN_END_MS 5000 /* when told to stop: the rest is for the next run */

static int leave_lane(struct replay *rp, int64_t db, struct err *err)
{
    return db >= 0 ? lane_select(&rp->pl->lane, db, err) : 0;
}

static int settle(struct replay *rp, uint64_t max_keys, struct hold_due due, struct err *err)
{
    struct lane *l = &rp->pl->lane;
    int64_t db = l->db;
    if (rp->pl->hold.n == 0) return 0;
    if (hold_settle_due(&rp->pl->hold, l, max_keys, due, err) < 0) return -1;
    return leave_lane(rp, db, err);
}

static struct hold_due ripe_or_far(const struct replay *rp)
{
    int64_t now = clock_wall_ms();
    if (rp->file) return (struct hold_due){INT64_MIN, INT64_MAX};
    return (struct hold_due){rp->now_ms - RIPE_MS, now + replay_hold_margin(rp, now)};
}

/* --- what a former run has left --- */

static bool scan_is_due(const struct replay *rp)
{
    const struct hold *h = &rp->pl->hold;
    return rp->caught_up && h->scan.wanted && !hold_scan_needs_client(h) &&
           clock_mono_ms() >= rp->settle.next_scan_ms;
}

static void scan_for(struct replay *rp, int64_t ms)
{
    int64_t end = clock_mono_ms() + ms;
    while (hold_scan_step(&rp->pl->hold) == 1 && clock_mono_ms() < end)
        continue;
    rp->settle.next_scan_ms = clock_mono_ms() + SCAN_MS;
}

static int scan_rest(struct replay *rp, struct err *err)
{
    struct hold *h = &rp->pl->hold;
    int64_t end = clock_mono_ms() + SCAN_END_MS;
    int rc;
    if (!h->scan.wanted) return 0;
    while ((rc = hold_scan_step(h)) > 0 && !(*rp->pl->stop && clock_mono_ms() > end))
        if (rc == 2 && pipeline_step(rp->pl, SCAN_MS, err) < 0) return -1;
    if (h->scan.wanted)
        log_warn("target: not all keys have been looked at; some may have an expiry that was held "
                 "back, thousands of years ahead, until the task runs again");
    return 0;
}

/* --- by time --- */

bool replay_settle_full(struct replay *rp)
{
    if (scan_is_due(rp)) return true;
    return rp->pl->hold.n >= FULL_KEYS && hold_is_due(&rp->pl->hold, ripe_or_far(rp));
}

int replay_settle_some(struct replay *rp, struct err *err)
{
    if (scan_is_due(rp)) scan_for(rp, 0);
    return settle(rp, FULL_KEYS, ripe_or_far(rp), err);
}

int replay_settle_all(struct replay *rp, struct err *err)
{
    if (scan_rest(rp, err) < 0) return -1;
    return settle(rp, 0, HOLD_ALL, err);
}

/* --- quiet --- */

/* Nothing came for a while, which may be the network's doing: the source is asked whether it has
 * more, by a question that is sent after that while. */
static bool is_quiet(struct replay *rp, int64_t now_ms)
{
    struct replay_settle *s = &rp->settle;
    struct probe *pr = &rp->pl->probe;
    if (!rp->pl->source || now_ms - s->passed_ms < QUIET_MS) return false;
    if (s->asked_ms != s->passed_ms) {
        s->asked_ms = s->passed_ms;
        s->answers = pr->answers + pr->asked;
        s->quiet = false;
        pr->next_ms = 0;
    }
    if (!pr->conn || (pr->answers > s->answers && rp->pl->applied_offset >= pr->offset))
        s->quiet = true;
    return s->quiet;
}

static int settle_quiet(struct replay *rp, int64_t now_ms, struct err *err)
{
    struct hold *h = &rp->pl->hold;
    struct lane *l = &rp->pl->lane;
    int64_t db = l->db, wall = clock_wall_ms();
    if (h->round == 0 && now_ms < rp->settle.next_round_ms) return 0;
    struct hold_due due = {wall - PASSED_MS, wall + NEAR_MS};
    if (hold_go_round(h, l, SETTLE_KEYS, due, err) < 0) return -1;
    if (h->round == 0) rp->settle.next_round_ms = now_ms + ROUND_MS;
    return leave_lane(rp, db, err);
}

int replay_settle_dry(struct replay *rp, struct err *err)
{
    struct hold *h = &rp->pl->hold;
    if (scan_is_due(rp)) scan_for(rp, SCAN_DRY_MS);
    int64_t now = clock_mono_ms();
    if (h->n == 0 || rp->file) return 0;
    if (rp->caught_up && is_quiet(rp, now)) return settle_quiet(rp, now, err);
    if (now < rp->settle.next_ms) return 0;
    uint64_t before = h->n;
    if (settle(rp, SETTLE_KEYS, ripe_or_far(rp), err) < 0) return -1;
    /* More may be due: then soon again. */
    if (before - h->n < SETTLE_KEYS) rp->settle.next_ms = now + SETTLE_MS;
    return 0;
}
