// SPDX-License-Identifier: BSD-3-Clause
// The replay: the loop over the stream, the batches, what counts as caught up.
#include "engine/replay_rules.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "engine/fan.h"
#include "engine/replay_old.h"
#include "wire/aof.h"

#include <stdio.h>

#define END_MS        5000 /* how long what was received is still applied after a stop */
#define QUIET_MS      2000 /* without a probe: so long nothing new means caught up */
#define PROBE_FAST_MS 100
#define PROBE_SLOW_MS 1000
#define SMALL_ARG_MAX (64u << 10)
#define CHECKPOINT_MS 1000 /* at most so late, when nothing else is sent */
#define LEVEL_MS      1000 /* what the source had so lately is as good as what it has */

static struct batch *other(struct replay *rp)
{
    return &rp->batch[!rp->cur];
}

/* --- progress --- */

static bool nothing_waits(struct replay *rp)
{
    return !rp->in_tx && !rp->mid_command && replay_batch(rp)->n == 0 && !other(rp)->in_flight;
}

static bool source_is_quiet(const struct replay *rp)
{
    const struct pipeline *pl = rp->pl;
    if (pl->probe.conn || !pl->source) return false;
    return clock_mono_ms() - pl->source_heard_ms > QUIET_MS;
}

/* Applied all that the source had when it last told, not too long ago. While it writes without a
 * pause, each answer is beyond what has been applied by then. */
static bool has_reached_source(struct replay *rp)
{
    const struct probe *pr = &rp->pl->probe;
    int64_t now = clock_mono_ms();
    /* The first answer may have been on its way before the stream began. */
    if (pr->answers <= rp->answers_at_start + 1) return false;
    if (rp->goal_ms && rp->pl->applied_offset >= rp->goal && now - rp->goal_ms <= LEVEL_MS)
        return true;
    /* Another source, after a failover, may have less than the one that was asked before. */
    if (rp->goal_ms && rp->pl->applied_offset < rp->goal && pr->offset >= rp->goal) return false;
    rp->goal = pr->offset;
    rp->goal_ms = now;
    return rp->pl->applied_offset >= rp->goal;
}

static void note_caught_up(struct replay *rp)
{
    struct pipeline *pl = rp->pl;
    if (rp->caught_up || rp->file) return;
    if (!has_reached_source(rp) && !(source_is_quiet(rp) && nothing_waits(rp))) return;
    rp->caught_up = true;
    pl->probe.every_ms = PROBE_SLOW_MS;
    if (counter_get(&pl->counters->caught_up_ms) == 0)
        counter_set(&pl->counters->caught_up_ms, (uint64_t)clock_mono_ms());
    counter_set(&pl->counters->phase, PHASE_STREAM);
    log_info("caught up with the source at offset %llu", (unsigned long long)pl->applied_offset);
}

/* Asked in the middle of it all: what the source told before that does not count. */
static bool wants_end(struct replay *rp)
{
    struct pipeline *pl = rp->pl;
    bool asked = pl->finish && *pl->finish;
    if (asked && !rp->finishing) {
        rp->caught_up = false;
        rp->answers_at_start = pl->probe.answers;
        rp->goal_ms = 0;
        pl->probe.every_ms = PROBE_FAST_MS;
        pl->probe.next_ms = 0;
        log_info("asked to finish: the task ends as soon as it has caught up");
    }
    rp->finishing = asked;
    return asked || pl->cfg->until == TASK_UNTIL_CAUGHT_UP;
}

static bool is_done(struct replay *rp)
{
    struct pipeline *pl = rp->pl;
    if (rp->done || !wants_end(rp) || !rp->caught_up) return rp->done;
    rp->done = pl->cfg->until == TASK_UNTIL_CAUGHT_UP || pl->finish_take(pl->finish_ctx);
    return rp->done;
}

static void note_applied(struct replay *rp)
{
    struct pipeline *pl = rp->pl;
    if (nothing_waits(rp)) {
        pl->applied_offset = rp->offset;
        rp->swaps = pl->hold.swaps;
    }
    if (rp->ack_at && pl->applied_offset >= rp->ack_at) {
        rp->ack_at = 0;
        pipeline_ack_now(pl);
    }
    pl->oldest_ms = other(rp)->in_flight      ? other(rp)->received_ms
                    : replay_batch(rp)->n > 0 ? replay_batch(rp)->received_ms
                                              : 0;
    note_caught_up(rp);
}

/* --- batches --- */

static int finish_flying(struct replay *rp, struct err *err)
{
    struct batch *b = other(rp);
    if (!b->in_flight) return 0;
    uint64_t cmds = b->data_cmds, offset = b->end_offset, refused = rp->pl->refusals.count;
    struct pipeline *pl = rp->pl;
    if ((pl->fan ? fan_finish(pl->fan, b, err) : batch_finish(b, &pl->lane, err)) < 0) return -1;
    refused = rp->pl->refusals.count - refused;
    if (KH_UNLIKELY(refused) && pl->on_refused) pl->on_refused(pl->refused_ctx);
    counter_add(&rp->pl->counters->commands_written, cmds > refused ? cmds - refused : 0);
    rp->pl->applied_offset = offset;
    if (pl->fan && rp->checkpoint) {
        rp->checkpoint_offset = fan_told(pl->fan);
        spool_done(pl->spool, pipeline_pos(pl, rp->checkpoint_offset));
    } else if (b->sealed) { /* still: what just removes may have gone without */
        rp->checkpoint_offset = offset;
        spool_done(pl->spool, pipeline_pos(pl, offset));
    }
    if (cmds) rp->settle.passed_ms = clock_mono_ms();
    note_applied(rp);
    return 0;
}

/* Nothing is to be sent, but how far the target is has long not been told (commands of databases
 * that are not selected, PING). */
static bool checkpoint_is_due(const struct replay *rp)
{
    return rp->checkpoint && rp->offset != rp->checkpoint_offset &&
           (rp->ending || clock_mono_ms() - rp->checkpoint_ms >= CHECKPOINT_MS);
}

static int send_batch(struct replay *rp, struct batch *b, struct err *err)
{
    struct pipeline *pl = rp->pl;
    return pl->fan ? fan_send(pl->fan, b, err) : batch_send(b, &pl->lane, err);
}

/* Send what has been built, when the one before it is done. */
static int send_built(struct replay *rp, struct err *err)
{
    struct batch *b = replay_batch(rp);
    if (rp->in_tx || (b->n == 0 && !checkpoint_is_due(rp))) return 0;
    b->end_offset = rp->offset;
    b->end_db = rp->db;
    if (rp->checkpoint) {
        if (!rp->pl->fan && batch_seal(b, rp->offset, rp->db, err) < 0) return -1;
        rp->checkpoint_ms = clock_mono_ms();
    }
    if (spool_write(rp->pl->spool, err) < 0) return -1;
    int64_t db = b->db;
    if (send_batch(rp, b, err) < 0) return -1;
    rp->cur = !rp->cur;
    return batch_begin(replay_batch(rp), db, err);
}

static bool answered(const struct pipeline *pl)
{
    return pl->fan ? fan_answered(pl->fan) : pl->lane.outcome.seen >= pl->lane.outcome.due;
}

static int on_dry(void *ctx, struct err *err)
{
    struct replay *rp = ctx;
    if (other(rp)->in_flight) {
        if (!answered(rp->pl)) return 0;
        if (finish_flying(rp, err) < 0) return -1;
    }
    if (rp->mid_command) return 0;
    if (rp->between && !rp->in_tx && rp->between(rp->shard_ctx, true, err) < 0) return -1;
    if (other(rp)->in_flight) return 0; /* what was adopted filled a batch, and there is more */
    if (send_built(rp, err) < 0) return -1;
    note_applied(rp);
    if (nothing_waits(rp) && replay_settle_dry(rp, err) < 0) return -1;
    if (nothing_waits(rp) && is_done(rp)) return err_set(err, ERR_STOPPED, "caught up");
    return 0;
}

int replay_flush_if_full(struct replay *rp, struct err *err)
{
    if (rp->in_tx || !batch_full(replay_batch(rp))) return 0;
    if (finish_flying(rp, err) < 0 || send_built(rp, err) < 0) return -1;
    if (!replay_settle_full(rp)) return 0;
    return finish_flying(rp, err) < 0 ? -1 : replay_settle_some(rp, err);
}

static int flush_batches(struct replay *rp, struct err *err)
{
    if (finish_flying(rp, err) < 0 || send_built(rp, err) < 0) return -1;
    return finish_flying(rp, err);
}

static int flush_all(struct replay *rp, struct err *err)
{
    return flush_batches(rp, err) < 0 ? -1 : replay_settle_all(rp, err);
}

int replay_mark(struct replay *rp, struct err *err)
{
    batch_mark_at(replay_batch(rp), rp->offset, rp->db);
    return hold_mark(&rp->pl->hold, err);
}

int replay_barrier(struct replay *rp, struct err *err)
{
    uint64_t offset = rp->offset, db = rp->db;
    bool in_tx = rp->in_tx;
    batch_back(replay_batch(rp));
    rp->offset = rp->whole_offset;
    rp->db = rp->whole_db;
    rp->in_tx = false;
    int rc = flush_batches(rp, err);
    rp->offset = offset;
    rp->db = db;
    rp->in_tx = in_tx;
    return rc;
}

/* --- databases of the target --- */

/* Ask for it outside of the batch, and leave the lane as the batch expects it. */
static int try_db(struct replay *rp, int64_t db, struct err *err)
{
    struct lane *l = &rp->pl->lane;
    char num[24];
    snprintf(num, sizeof(num), "%lld", (long long)db);
    struct span argv[] = {span_str("SELECT"), span_str(num)};
    if (finish_flying(rp, err) < 0) return -1;
    int64_t before = l->db;
    if (lane_call_strs(l, -1, 2, argv, err) < 0) return -1;
    if (l->outcome.last.type == '-') return 0;
    l->db = db;
    return before >= 0 && lane_select(l, before, err) < 0 ? -1 : 1;
}

int replay_has_db(struct replay *rp, int64_t db, struct err *err)
{
    if (rp->pl->fan) return db == 0; /* what the lanes have selected */
    if (rp->target->databases >= 0) return db < rp->target->databases;
    if (db < rp->dbs_known) return 1;
    if (rp->dbs_end && db >= rp->dbs_end) return 0;
    int has = try_db(rp, db, err);
    if (has > 0) rp->dbs_known = db + 1;
    if (has == 0) rp->dbs_end = db;
    return has;
}

/* --- commands larger than memory should hold --- */

#define GIANT_ARGS    16
#define GIANT_KEY_MAX (8u << 20)
#define FAR_NUMBER    "140737488355328" /* 2^47: thousands of years, in s or in ms */

struct giant {
    struct span args[GIANT_ARGS]; /* the small ones, copied into text */
    struct buf text, key;         /* where they lie: the key may be longer than the others */
    uint64_t argc;
    uint64_t kept; /* arguments that are passed on */
    const struct cmd_info *info;
    bool pass, has_key;
};

static int giant_put(struct replay *rp, const struct giant *g, const void *p, size_t n,
                     struct err *err)
{
    return g->pass ? batch_part(replay_batch(rp), p, n, err) : 0;
}

static int giant_head(struct replay *rp, const struct giant *g, char type, uint64_t n,
                      struct err *err)
{
    char head[32];
    int head_n = snprintf(head, sizeof(head), "%c%llu\r\n", type, (unsigned long long)n);
    return giant_put(rp, g, head, (size_t)head_n, err);
}

static int giant_bytes(struct replay *rp, const struct giant *g, uint64_t n, struct err *err)
{
    struct reader *r = &rp->pl->r;
    while (n) {
        reader_release(r);
        if (r->p == r->end && reader_need(r, 1, err) < 0) return -1;
        uint64_t step = (uint64_t)(r->end - r->p);
        if (step > n) step = n;
        if (giant_put(rp, g, r->p, (size_t)step, err) < 0) return -1;
        r->p += step;
        n -= step;
    }
    return 0;
}

/* Is argument i a time to live or deadline that a PEXPIREAT behind the command can set as well? */
static bool giant_time(const struct giant *g, uint64_t i)
{
    int64_t v;
    if (!g->info || !g->has_key || i < 2 || !num_get_i64(g->args[i], &v) || v <= 0) return false;
    if (v > (int64_t)1 << 52) return false; /* the deadline in ms must not overflow */
    return i == 2 && (g->info->rule == CMD_RULE_SETEX || g->info->rule == CMD_RULE_RESTORE);
}

/* Kept, in case that it tells a time; a time goes out as one far ahead. */
static int giant_small(struct replay *rp, struct giant *g, uint64_t i, size_t n, struct err *err)
{
    struct reader *r = &rp->pl->r;
    if (reader_need(r, n, err) < 0) return -1;
    /* text never moves, its room was taken at the start; of keys there is one */
    struct buf *to = i == 1 ? &g->key : &g->text;
    if (buf_add(to, r->p, n, err) < 0) return -1;
    g->args[i] = span_of(to->p + to->n - n, n);
    r->p += n;
    g->has_key |= i == 1;
    struct span out = giant_time(g, i) ? span_str(FAR_NUMBER) : g->args[i];
    if (giant_head(rp, g, '$', out.n, err) < 0) return -1;
    return giant_put(rp, g, out.p, out.n, err);
}

static int giant_arg(struct replay *rp, struct giant *g, uint64_t i, struct err *err)
{
    struct reader *r = &rp->pl->r;
    uint64_t n;
    reader_release(r);
    if (resp_head_next(r, '$', RESP_BULK_MAX, &n, err) < 0) return -1;
    g->pass &= i < g->kept;
    if (i < GIANT_ARGS && n <= (i == 1 ? GIANT_KEY_MAX : SMALL_ARG_MAX)) {
        if (giant_small(rp, g, i, (size_t)n, err) < 0) return -1;
    } else if (giant_head(rp, g, '$', n, err) < 0 || giant_bytes(rp, g, n, err) < 0) {
        return -1;
    }
    if (reader_need(r, 2, err) < 0) return -1;
    if (r->p[0] != '\r' || r->p[1] != '\n')
        return err_set(err, ERR_PROTO, "stream: no line end after an argument");
    return giant_bytes(rp, g, 2, err);
}

/* The deadline, made absolute and maybe held, in the same transaction. */
static int giant_deadline(struct replay *rp, const struct giant *g, struct err *err)
{
    if (!g->has_key) return 0; /* too long to be kept: its relative time stays as it is */
    size_t argc = g->argc < GIANT_ARGS ? (size_t)g->argc : GIANT_ARGS;
    int64_t at = replay_deadline(rp, g->info, argc, g->args);
    if (at < 0) return 0;
    if (replay_hold(rp, g->args[1], &at, err) < 0) return -1;
    char ms[NUM_INT64_CHARS];
    struct span argv[] = {span_str("PEXPIREAT"), g->args[1], span_of(ms, num_put_i64(ms, at))};
    return batch_args(replay_batch(rp), 3, argv, err);
}

/* What was cut off SET: conditions have been met, the deadline follows by itself. KEEPTTL would
 * have had to be told before. */
static int giant_options(struct replay *rp, const struct giant *g, struct err *err)
{
    bool lost = !g->has_key || g->argc > GIANT_ARGS;
    for (uint64_t i = 3; i < g->argc && i < GIANT_ARGS; i++)
        lost |= span_is(g->args[i], "KEEPTTL");
    if (!lost) return 0;
    return refusals_report(&rp->pl->refusals, (int64_t)rp->db, g->args[1], "SET",
                           "the value is too large to be sent with these options; it was sent "
                           "without, and its key has no deadline now",
                           err);
}

static int giant_pass(struct replay *rp, struct giant *g, struct err *err)
{
    struct reader *r = &rp->pl->r;
    if (resp_head_next(r, '*', INT32_MAX, &g->argc, err) < 0) return -1;
    /* SET key value NX|XX|KEEPTTL is old. What is longer has options that came later. */
    bool pass = g->pass, cut = g->info && g->info->rule == CMD_RULE_SET && g->argc > 4;
    g->kept = cut ? 3 : g->argc;
    if (giant_head(rp, g, '*', g->kept, err) < 0) return -1;
    for (uint64_t i = 0; i < g->argc; i++)
        if (giant_arg(rp, g, i, err) < 0) return -1;
    reader_release(r);
    if (!pass) return 0;
    batch_count(replay_batch(rp));
    if (cut && giant_options(rp, g, err) < 0) return -1;
    return giant_deadline(rp, g, err);
}

static int replay_giant(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    if (cmd->argc == 0)
        return err_set(err, ERR_PROTO, "stream: a command whose name is longer than %u bytes",
                       REPLAY_HELD_MAX);
    struct giant g = {.info = cmd_find(cmd->argv[0])};
    buf_init(&g.text, (GIANT_ARGS + 1) * SMALL_ARG_MAX);
    buf_init(&g.key, GIANT_KEY_MAX);
    rp->mid_command = true;
    bool own = replay_is_own(rp, g.info, cmd->argc, cmd->argv);
    if (!own) replay_filtered(rp);
    int rc = own ? replay_selected(rp, err) : 0;
    g.pass = rc == 1;
    if (rc >= 0) rc = buf_reserve(&g.text, GIANT_ARGS * SMALL_ARG_MAX, err);
    if (rc >= 0) rc = giant_pass(rp, &g, err);
    buf_release(&g.text);
    buf_release(&g.key);
    rp->mid_command = false;
    return rc;
}

/* --- the loop --- */

/* When the command at this place was received, or written into the file. */
static int64_t written_at(const struct replay *rp, uint64_t pos)
{
    if (!rp->file) return spool_time_at(rp->pl->spool, pos);
    return rp->annotated_ms ? rp->annotated_ms : rp->pl->file_ms;
}

static int next_command(struct replay *rp, struct err *err)
{
    struct pipeline *pl = rp->pl;
    struct reader *r = &pl->r;
    struct resp_cmd cmd;
    int rc = resp_cmd_next(&rp->cmds, r, REPLAY_HELD_MAX, &cmd, err);
    if (rc < 0) return err->code == ERR_STOPPED || rp->file ? -1 : err_wrap(err, "stream");
    rp->now_ms = written_at(rp, reader_pos(r) - (rc == 0 ? cmd.raw.n : 0));
    counter_add(&pl->counters->commands_read, 1);
    struct batch *b = replay_batch(rp);
    if (b->n == 0) b->received_ms = rp->now_ms;
    if (rc == 1)
        rc = replay_giant(rp, &cmd, err);
    else
        rc = replay_rule(rp, cmd_find(cmd.argv[0]), &cmd, err);
    if (rc < 0) return -1;
    reader_release(r);
    rp->offset = pipeline_offset(pl);
    if (!rp->in_tx) {
        if (replay_mark(rp, err) < 0) return -1;
        rp->whole_offset = rp->offset;
        rp->whole_db = rp->db;
    }
    pl->ack_every_ms = 1000;
    if (replay_flush_if_full(rp, err) < 0) return -1;
    return rp->between && !rp->in_tx ? rp->between(rp->shard_ctx, false, err) : 0;
}

/* The stream ends in the middle of a transaction or of a long command: that is left out, what came
 * before it is not. */
static void drop_unfinished(struct replay *rp)
{
    batch_back(replay_batch(rp));
    hold_back(&rp->pl->hold);
    rp->offset = rp->whole_offset;
    rp->db = rp->whole_db;
    rp->in_tx = false;
}

/* Told to stop: what has been received by now is still applied, for a while. */
static bool is_over(struct replay *rp)
{
    struct pipeline *pl = rp->pl;
    if (rp->in_tx) return false;
    if (is_done(rp)) return true;
    if (!*pl->stop) return false;
    if (!rp->ending) {
        rp->ending = true;
        rp->end_by_ms = clock_mono_ms() + END_MS;
        rp->end_pos = spool_tail(pl->spool);
    }
    return reader_pos(&pl->r) >= rp->end_pos || clock_mono_ms() > rp->end_by_ms;
}

/* Databases that were swapped by what is sent again would be taken for swapped twice: notes from
 * before name the wrong ones. What they tell of is looked for. */
static void unswap(struct replay *rp)
{
    struct hold *h = &rp->pl->hold;
    hold_back(h);
    if (h->swaps == rp->swaps || !h->on) return;
    rp->swaps = h->swaps;
    hold_scan_begin(h, rp->select, clock_wall_ms());
}

int replay_restart(struct replay *rp, uint64_t db, struct err *err)
{
    unswap(rp);
    for (int i = 0; i < 2; i++)
        if (batch_begin(&rp->batch[i], rp->pl->lane.db, err) < 0) return -1;
    rp->db = rp->whole_db = db;
    rp->offset = rp->whole_offset = rp->checkpoint_offset = pipeline_offset(rp->pl);
    rp->goal_ms = 0;
    rp->pl->applied_offset = rp->offset;
    rp->pl->oldest_ms = 0;
    rp->in_tx = rp->mid_command = rp->caught_up = rp->ending = rp->done = false;
    rp->ack_at = 0;
    return 0;
}

int replay_run(struct replay *rp, struct err *err)
{
    struct pipeline *pl = rp->pl;
    pl->on_dry = on_dry;
    pl->dry_ctx = rp;
    pl->probe.every_ms = PROBE_FAST_MS;
    pl->probe.next_ms = 0;
    rp->answers_at_start = pl->probe.answers;
    rp->settle.passed_ms = clock_mono_ms();
    rp->offset = rp->whole_offset = pipeline_offset(pl);
    rp->whole_db = rp->db;
    counter_set(&pl->counters->phase, PHASE_CATCH_UP);
    int rc = 0;
    while (rc == 0 && !is_over(rp))
        rc = next_command(rp, err);
    pl->on_dry = NULL;
    if (rc < 0 && (pl->lane.lost || pl->hole)) return -1;
    bool stopped = rc == 0 || err->code == ERR_STOPPED;
    rp->ending = true;
    /* A lost source is no reason to leave what it sent before unapplied; a target's error is. */
    if (!stopped && (pl->source || err->code != pl->source_err.code)) return -1;
    struct err last;
    drop_unfinished(rp);
    if (flush_all(rp, stopped ? err : &last) < 0) {
        if (!stopped) log_error("%s", last.msg); /* err tells what came first */
        return -1;
    }
    note_applied(rp);
    replay_old_tell(rp);
    pipeline_ack_now(pl);
    if (pipeline_step(pl, 0, stopped ? err : &last) < 0) return -1;
    return stopped ? 0 : -1;
}

/* --- an AOF --- */

/* 0: one dealt with, 1: the file ends here, -1. */
static int next_of_file(struct replay *rp, struct err *err)
{
    struct pipeline *pl = rp->pl;
    struct reader *r = &pl->r;
    if (*pl->stop) return err_set(err, ERR_STOPPED, "stopped");
    counter_set(&pl->counters->snapshot_bytes_decoded, pl->before_file + reader_pos(r));
    int rc = aof_to_command(r, &rp->annotated_ms, err);
    return rc == 0 ? next_command(rp, err) : rc;
}

/* What stands behind the last whole command is passed over, so that the next file can follow. */
static int pass_over_tail(struct replay *rp, struct err *err)
{
    struct reader *r = &rp->pl->r;
    for (;;) {
        r->p = r->end;
        reader_release(r);
        if (reader_need(r, 1, err) < 0) return err->code == ERR_END ? 0 : -1;
    }
}

/* May what was read before be sent still? Not when it is the target that is the trouble. */
static bool is_about_input(enum err_code code)
{
    return code == ERR_END || code == ERR_STOPPED || code == ERR_FORMAT || code == ERR_PROTO ||
           code == ERR_LIMIT || code == ERR_IO || code == ERR_UNSUPPORTED;
}

static int finish_file(struct replay *rp, int rc, struct err *err)
{
    struct err last;
    bool cut = rc > 0 || err->code == ERR_END;
    if (!cut && !is_about_input(err->code)) return -1;
    drop_unfinished(rp);
    if (flush_batches(rp, &last) == 0) return cut ? 0 : -1;
    if (cut || err->code == ERR_STOPPED)
        *err = last; /* not all of it is there: that must not pass for a stop */
    else
        log_error("%s", last.msg); /* err tells what came first */
    return -1;
}

int replay_file(struct replay *rp, struct replay_cut *ret, struct err *err)
{
    struct pipeline *pl = rp->pl;
    rp->file = true;
    rp->annotated_ms = 0;
    rp->db = 0;
    pl->on_dry = on_dry;
    pl->dry_ctx = rp;
    pl->stream_pos = pl->stream_offset = 0;
    rp->offset = rp->whole_offset = pipeline_offset(pl);
    int rc;
    while ((rc = next_of_file(rp, err)) == 0)
        continue;
    pl->on_dry = NULL;
    struct replay_cut cut = {.cut = rc < 0 || rp->in_tx, .at = rp->whole_offset};
    if (finish_file(rp, rc, err) < 0) return -1;
    replay_old_tell(rp);
    *ret = cut;
    return cut.cut ? pass_over_tail(rp, err) : 0;
}

/* --- life --- */

int replay_init(struct replay *rp, const struct replay_config *cfg, struct err *err)
{
    *rp = (struct replay){.pl = cfg->pl,
                          .select = &cfg->pl->cfg->select,
                          .source = cfg->source,
                          .target = cfg->target,
                          .db = cfg->db,
                          .db_max = cfg->db > cfg->db_max ? cfg->db : cfg->db_max,
                          .hold_margin_ms = cfg->hold_margin_ms,
                          .checkpoint = cfg->checkpoint,
                          .unlink = facts_has(cfg->target, FACTS_UNLINK),
                          .functions = facts_has(cfg->target, FACTS_FUNCTIONS),
                          .spublish = facts_has(cfg->target, FACTS_SPUBLISH),
                          .idmp = facts_takes_type(cfg->target, RDB_STREAM_4)};
    resp_cmds_init(&rp->cmds);
    buf_init(&rp->scratch, REPLAY_TURNED_MAX + 64);
    buf_init(&rp->turned, REPLAY_TURNED_MAX);
    for (int i = 0; i < 2; i++) {
        batch_init(&rp->batch[i], cfg->store_dir, cfg->store_max_bytes);
        rp->batch[i].checkpoint = cfg->checkpoint;
        rp->batch[i].routed = cfg->pl->fan != NULL;
        if (batch_begin(&rp->batch[i], cfg->pl->lane.db, err) < 0) return -1;
    }
    /* Deadlines that are settled belong to the stream's own place as well. */
    cfg->pl->hold.batch.checkpoint = cfg->checkpoint;
    cfg->pl->hold.batch.guarded = cfg->checkpoint != NULL;
    return replay_old_new(&rp->old, rp, err);
}

void replay_release(struct replay *rp)
{
    resp_cmds_release(&rp->cmds);
    buf_release(&rp->scratch);
    buf_release(&rp->turned);
    rdb_elems_free(rp->elems);
    replay_old_free(rp->old);
    for (int i = 0; i < 2; i++)
        batch_release(&rp->batch[i]);
}
