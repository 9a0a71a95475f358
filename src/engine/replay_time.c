// SPDX-License-Identifier: BSD-3-Clause
// Deadlines in the stream: relative ones become absolute at the time of receipt, those that may
// pass before what comes after them has been applied are held (C8).
//
// Sources up to 6.2 send relative times, later ones absolute ones; see docs/formats.
#include "base/clock.h"
#include "base/log.h"
#include "engine/replay_rules.h"

#include <time.h>

/* So late as this command is will be what comes after it, or later. And the target may stand still
 * with this batch or the one before it, each for as long as it is not given up for lost. */
int64_t replay_hold_margin(const struct replay *rp, int64_t now_ms)
{
    if (rp->file) return rp->hold_margin_ms;
    int64_t late = now_ms > rp->now_ms ? now_ms - rp->now_ms : 0;
    return 2 * (late + rp->pl->cfg->io_timeout_ms);
}

static int hold(struct replay *rp, struct span key, int64_t *ms, struct err *err)
{
    int64_t to = db_select_target(rp->select, rp->db), now = clock_wall_ms();
    if (to < 0) return 0;
    return hold_deadline(&rp->pl->hold, to, key, *ms, now, replay_hold_margin(rp, now), ms, err);
}

int replay_hold(struct replay *rp, struct span key, int64_t *ms, struct err *err)
{
    return hold(rp, key, ms, err);
}

/* An AOF without annotations does not say when a command was written. */
static void tell_guess(struct replay *rp)
{
    char at[40] = "?";
    struct tm tm;
    time_t sec = (time_t)(rp->now_ms / 1000);
    if (!rp->file || rp->annotated_ms || rp->told_guess) return;
    rp->told_guess = true;
    if (gmtime_r(&sec, &tm)) strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
    log_warn("there are times to live that count from when they were written, which the file does "
             "not tell; they are counted from %s, when it was last changed",
             at);
}

/* Receipt plus a relative time; false when it is no number or out of range (then the command is
 * passed on as it is, for the target to judge). */
static bool absolute(struct replay *rp, struct span relative, int64_t unit_ms, int64_t *ret)
{
    int64_t v;
    if (!num_get_i64(relative, &v) || __builtin_mul_overflow(v, unit_ms, &v) ||
        __builtin_add_overflow(v, rp->now_ms, ret))
        return false;
    tell_guess(rp);
    return true;
}

/* A time option: EX, PX relative; EXAT, PXAT absolute. Position of the option in argv from..to, 0
 * none; its deadline in *ret_ms (-1: not to be told). */
static size_t find_time(struct replay *rp, const struct span *argv, size_t from, size_t to,
                        bool *ret_relative, int64_t *ret_ms)
{
    for (size_t i = from; i + 1 < to; i++) {
        if (span_is(argv[i], "IFEQ") || span_is(argv[i], "IFNE") || span_is(argv[i], "IFDEQ") ||
            span_is(argv[i], "IFDNE"))
            i += 2; /* a value of any content */
        if (i + 1 >= to) break;
        bool ex = span_is(argv[i], "EX"), px = span_is(argv[i], "PX");
        bool exat = span_is(argv[i], "EXAT"), pxat = span_is(argv[i], "PXAT");
        if (!ex && !px && !exat && !pxat) continue;
        int64_t unit = ex || exat ? 1000 : 1, v;
        *ret_relative = ex || px;
        if (ex || px)
            *ret_ms = absolute(rp, argv[i + 1], unit, &v) ? v : -1;
        else
            *ret_ms = num_get_i64(argv[i + 1], &v) && !__builtin_mul_overflow(v, unit, &v) ? v : -1;
        return i;
    }
    return 0;
}

int64_t replay_deadline(struct replay *rp, const struct cmd_info *info, size_t argc,
                        const struct span *argv)
{
    int64_t ms = -1;
    bool relative = false, absttl = false;
    if (!info) return -1;
    switch (info->rule) {
    case CMD_RULE_SET: find_time(rp, argv, 3, argc, &relative, &ms); return ms;
    case CMD_RULE_SETEX:
        return argc == 4 && absolute(rp, argv[2], argv[0].n == 5 ? 1000 : 1, &ms) ? ms : -1;
    case CMD_RULE_RESTORE:
        for (size_t i = 4; i < argc; i++)
            absttl |= span_is(argv[i], "ABSTTL");
        if (argc < 4 || span_is(argv[2], "0")) return -1;
        if (absttl) return num_get_i64(argv[2], &ms) ? ms : -1;
        return absolute(rp, argv[2], 1, &ms) ? ms : -1;
    default: return -1;
    }
}

int replay_rule_expire(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms;
    struct replay_num t;
    int64_t unit = span_is(cmd->argv[0], "EXPIRE") || span_is(cmd->argv[0], "HEXPIRE") ? 1000 : 1;
    bool field = cmd->argv[0].p[0] == 'H' || cmd->argv[0].p[0] == 'h';
    if (cmd->argc < 3 || !absolute(rp, cmd->argv[2], unit, &ms))
        return replay_pass_raw(rp, cmd, err);
    if (!field && hold(rp, cmd->argv[1], &ms, err) < 0) return -1;
    cmd->argv[0] = span_str(field ? "HPEXPIREAT" : "PEXPIREAT");
    cmd->argv[2] = replay_put_i64(&t, ms);
    return replay_pass_args(rp, cmd->argc, cmd->argv, err);
}

/* EXPIREAT, PEXPIREAT key time [NX|XX|GT|LT]. The source passes on only what took effect, so the
 * condition has been met; with held deadlines on the target it could be judged wrongly there. */
int replay_rule_expireat(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms;
    struct replay_num t;
    int64_t unit = span_is(cmd->argv[0], "EXPIREAT") ? 1000 : 1;
    if (cmd->argc < 3 || !num_get_i64(cmd->argv[2], &ms) || __builtin_mul_overflow(ms, unit, &ms))
        return replay_pass_raw(rp, cmd, err);
    int64_t real = ms;
    if (hold(rp, cmd->argv[1], &ms, err) < 0) return -1;
    if (ms == real && (cmd->argc == 3 || rp->pl->hold.n == 0)) return replay_pass_raw(rp, cmd, err);
    struct span argv[] = {span_str("PEXPIREAT"), cmd->argv[1], replay_put_i64(&t, ms)};
    return replay_pass_args(rp, 3, argv, err);
}

int replay_rule_setex(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms;
    struct replay_num t;
    int64_t unit = span_is(cmd->argv[0], "SETEX") ? 1000 : 1;
    if (cmd->argc != 4 || !absolute(rp, cmd->argv[2], unit, &ms))
        return replay_pass_raw(rp, cmd, err);
    if (hold(rp, cmd->argv[1], &ms, err) < 0) return -1;
    struct span argv[] = {span_str("SET"), cmd->argv[1], cmd->argv[3], span_str("PXAT"),
                          replay_put_i64(&t, ms)};
    return replay_pass_args(rp, 5, argv, err);
}

int replay_rule_set(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms;
    bool relative;
    struct replay_num t;
    struct span argv[ARGS_MAX];
    if (cmd->argc < 5 || cmd->argc > ARGS_MAX) return replay_pass_raw(rp, cmd, err);
    size_t at = find_time(rp, cmd->argv, 3, cmd->argc, &relative, &ms);
    if (at == 0 || ms < 0) return replay_pass_raw(rp, cmd, err);
    int64_t real = ms;
    if (hold(rp, cmd->argv[1], &ms, err) < 0) return -1;
    if (!relative && ms == real) return replay_pass_raw(rp, cmd, err);
    memcpy(argv, cmd->argv, cmd->argc * sizeof(*argv));
    argv[at] = span_str("PXAT");
    argv[at + 1] = replay_put_i64(&t, ms);
    return replay_pass_args(rp, cmd->argc, argv, err);
}

/* Reads with a side effect: only the effect is wanted. */
int replay_rule_getex(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms = -1;
    bool relative;
    struct replay_num t;
    if (cmd->argc == 3 && span_is(cmd->argv[2], "PERSIST")) {
        struct span argv[] = {span_str("PERSIST"), cmd->argv[1]};
        return replay_pass_args(rp, 2, argv, err);
    }
    if (cmd->argc < 4 || find_time(rp, cmd->argv, 2, cmd->argc, &relative, &ms) == 0 || ms < 0)
        return replay_pass_raw(rp, cmd, err);
    if (hold(rp, cmd->argv[1], &ms, err) < 0) return -1;
    struct span argv[] = {span_str("PEXPIREAT"), cmd->argv[1], replay_put_i64(&t, ms)};
    return replay_pass_args(rp, 3, argv, err);
}

/* HSETEX, HGETEX key [...] [EX n ...] FIELDS ...; MSETEX numkeys key value ... [EX n ...]. */
int replay_rule_hsetex(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    size_t from = 2, to = cmd->argc;
    uint64_t pairs;
    int64_t ms;
    bool relative, msetex = span_is(cmd->argv[0], "MSETEX");
    if (msetex) {
        if (cmd->argc < 2 || !num_get_u64(cmd->argv[1], &pairs) || pairs > cmd->argc)
            return replay_pass_raw(rp, cmd, err);
        from = 2 + 2 * (size_t)pairs;
    } else {
        for (size_t i = 2; i < to; i++)
            if (span_is(cmd->argv[i], "FIELDS")) to = i;
    }
    size_t at = from < to ? find_time(rp, cmd->argv, from, to, &relative, &ms) : 0;
    if (at == 0 || ms < 0) return replay_pass_raw(rp, cmd, err);
    int64_t real = ms;
    for (size_t i = 2; msetex && i < from; i += 2) {
        ms = real; /* servers that know MSETEX tell deadlines exactly: all are written alike */
        if (hold(rp, cmd->argv[i], &ms, err) < 0) return -1;
    }
    if (!relative && ms == real) return replay_pass_raw(rp, cmd, err);
    struct replay_num t;
    cmd->argv[at] = span_str("PXAT");
    cmd->argv[at + 1] = replay_put_i64(&t, ms);
    return replay_pass_args(rp, cmd->argc, cmd->argv, err);
}

/* --- RESTORE --- */

int replay_rule_restore(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    struct span argv[ARGS_MAX];
    struct replay_num t;
    size_t argc = cmd->argc;
    bool absttl = false;
    int64_t ms;
    if (argc < 4 || argc + 1 > ARGS_MAX) return replay_pass_raw(rp, cmd, err);
    memcpy(argv, cmd->argv, argc * sizeof(*argv));
    argv[0] = span_str("RESTORE");
    for (size_t i = 4; i < argc; i++)
        absttl |= span_is(argv[i], "ABSTTL");
    int rc = replay_retype(rp, argv[1], &argv[3], err);
    if (rc <= 0) return rc;
    if (replay_refoot(rp, &argv[3], err) < 0) return -1;
    bool expires = num_get_i64(argv[2], &ms) && ms > 0;
    if (expires && (absttl || absolute(rp, argv[2], 1, &ms))) {
        if (hold(rp, argv[1], &ms, err) < 0) return -1;
        argv[2] = replay_put_i64(&t, ms);
        if (!absttl) argv[argc++] = span_str("ABSTTL");
    }
    return replay_pass_args(rp, argc, argv, err);
}
