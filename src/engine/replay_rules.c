// SPDX-License-Identifier: BSD-3-Clause
// What happens to a command of the stream: which database, which deadline, passed on or not.
//
// How each server version puts its writes into the stream was measured; see docs/formats. Relative
// expiries (sources up to 6.2) become absolute at the time of receipt (C8).
#include "base/crc64.h"
#include "base/log.h"
#include "base/num.h"
#include "engine/replay.h"

#include <stdio.h>

#define ARGS_MAX 64 /* arguments of the commands that are rebuilt here */

static void filtered(struct replay *rp)
{
    counter_add(&rp->pl->counters->commands_filtered, 1);
}

static void passed(struct replay *rp)
{
    replay_batch(rp)->data_cmds++;
    rp->tx_passed = true;
    counter_add(&rp->pl->counters->db[counters_db(rp->db)].commands, 1);
}

static int select_db(struct replay *rp, int64_t to, struct err *err)
{
    if (replay_batch(rp)->db == to) return 0;
    int has = replay_has_db(rp, to, err);
    if (has < 0) return -1;
    if (!has)
        return err_set(
            err, ERR_TARGET,
            "target: has no database %lld, where database %llu of the source goes, which "
            "is in use now; raise `databases` there, or choose with --db and --db-map",
            (long long)to, (unsigned long long)rp->db);
    return batch_select(replay_batch(rp), to, err);
}

int replay_selected(struct replay *rp, struct err *err)
{
    int64_t to = db_select_target(rp->select, rp->db);
    if (to < 0) {
        filtered(rp);
        return 0;
    }
    if (select_db(rp, to, err) < 0) return -1;
    passed(rp);
    return 1;
}

static int pass_raw(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int rc = replay_selected(rp, err);
    return rc <= 0 ? rc : batch_raw(replay_batch(rp), cmd->raw, err);
}

static int pass_args(struct replay *rp, size_t argc, const struct span *argv, struct err *err)
{
    int rc = replay_selected(rp, err);
    return rc <= 0 ? rc : batch_args(replay_batch(rp), argc, argv, err);
}

/* --- deadlines --- */

struct num_text {
    char text[24];
};

static struct span put_i64(struct num_text *t, int64_t v)
{
    return span_of(t->text, num_put_i64(t->text, v));
}

/* Receipt plus a relative time; false when it is no number or out of range (then the command is
 * passed on as it is, for the target to judge). */
static bool absolute(const struct replay *rp, struct span relative, int64_t unit_ms, int64_t *ret)
{
    int64_t v;
    return num_get_i64(relative, &v) && !__builtin_mul_overflow(v, unit_ms, &v) &&
           !__builtin_add_overflow(v, rp->now_ms, ret);
}

/* A time option: EX, PX relative; EXAT, PXAT absolute. Position of the option in argv from..to, 0
 * none; its deadline in *ret_ms (-1: not to be told). */
static size_t find_time(const struct replay *rp, const struct span *argv, size_t from, size_t to,
                        bool *ret_relative, int64_t *ret_ms)
{
    for (size_t i = from; i + 1 < to; i++) {
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

int64_t replay_deadline(const struct replay *rp, const struct cmd_info *info, size_t argc,
                        const struct span *argv)
{
    int64_t ms = -1;
    bool relative = false, absttl = false;
    if (!info) return -1;
    switch (info->rule) {
    case CMD_RULE_SET: find_time(rp, argv, 3, argc, &relative, &ms); return relative ? ms : -1;
    case CMD_RULE_SETEX:
        return argc == 4 && absolute(rp, argv[2], argv[0].n == 5 ? 1000 : 1, &ms) ? ms : -1;
    case CMD_RULE_RESTORE:
        for (size_t i = 4; i < argc; i++)
            absttl |= span_is(argv[i], "ABSTTL");
        if (absttl || argc < 4 || span_is(argv[2], "0")) return -1;
        return absolute(rp, argv[2], 1, &ms) ? ms : -1;
    default: return -1;
    }
}

/* SET key value, then its deadline: for targets before 6.2, which know no PXAT. */
static int set_and_expire(struct replay *rp, const struct span *argv, size_t argc, int64_t ms,
                          struct err *err)
{
    struct num_text t;
    struct span expire[] = {span_str("PEXPIREAT"), argv[1], put_i64(&t, ms)};
    int rc = pass_args(rp, argc, argv, err);
    if (rc < 0 || db_select_target(rp->select, rp->db) < 0) return rc;
    return batch_args(replay_batch(rp), 3, expire, err);
}

static int rule_expire(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms;
    struct num_text t;
    int64_t unit = span_is(cmd->argv[0], "EXPIRE") || span_is(cmd->argv[0], "HEXPIRE") ? 1000 : 1;
    bool field = cmd->argv[0].p[0] == 'H' || cmd->argv[0].p[0] == 'h';
    if (cmd->argc < 3 || !absolute(rp, cmd->argv[2], unit, &ms)) return pass_raw(rp, cmd, err);
    cmd->argv[0] = span_str(field ? "HPEXPIREAT" : "PEXPIREAT");
    cmd->argv[2] = put_i64(&t, ms);
    return pass_args(rp, cmd->argc, cmd->argv, err);
}

static int rule_setex(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms;
    struct num_text t;
    int64_t unit = span_is(cmd->argv[0], "SETEX") ? 1000 : 1;
    if (cmd->argc != 4 || !absolute(rp, cmd->argv[2], unit, &ms)) return pass_raw(rp, cmd, err);
    struct span argv[] = {span_str("SET"), cmd->argv[1], cmd->argv[3], span_str("PXAT"),
                          put_i64(&t, ms)};
    if (rp->set_pxat) return pass_args(rp, 5, argv, err);
    return set_and_expire(rp, argv, 3, ms, err);
}

static int rule_set(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms;
    bool relative;
    struct num_text t;
    struct span argv[ARGS_MAX];
    if (cmd->argc < 5 || cmd->argc > ARGS_MAX) return pass_raw(rp, cmd, err);
    size_t at = find_time(rp, cmd->argv, 3, cmd->argc, &relative, &ms);
    if (at == 0 || ms < 0 || (!relative && rp->set_pxat)) return pass_raw(rp, cmd, err);
    memcpy(argv, cmd->argv, cmd->argc * sizeof(*argv));
    if (rp->set_pxat) {
        argv[at] = span_str("PXAT");
        argv[at + 1] = put_i64(&t, ms);
        return pass_args(rp, cmd->argc, argv, err);
    }
    for (size_t i = at; i + 2 < cmd->argc; i++)
        argv[i] = argv[i + 2];
    return set_and_expire(rp, argv, cmd->argc - 2, ms, err);
}

/* Reads with a side effect: only the effect is wanted. */
static int rule_getex(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t ms = -1;
    bool relative;
    struct num_text t;
    if (cmd->argc == 3 && span_is(cmd->argv[2], "PERSIST")) {
        struct span argv[] = {span_str("PERSIST"), cmd->argv[1]};
        return pass_args(rp, 2, argv, err);
    }
    if (cmd->argc < 4 || find_time(rp, cmd->argv, 2, cmd->argc, &relative, &ms) == 0 || ms < 0)
        return pass_raw(rp, cmd, err);
    struct span argv[] = {span_str("PEXPIREAT"), cmd->argv[1], put_i64(&t, ms)};
    return pass_args(rp, 3, argv, err);
}

/* HSETEX, HGETEX key [...] [EX n ...] FIELDS ...; MSETEX numkeys key value ... [EX n ...]. */
static int rule_hsetex(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    size_t from = 2, to = cmd->argc;
    uint64_t pairs;
    int64_t ms;
    bool relative;
    if (span_is(cmd->argv[0], "MSETEX")) {
        if (cmd->argc < 2 || !num_get_u64(cmd->argv[1], &pairs) || pairs > cmd->argc)
            return pass_raw(rp, cmd, err);
        from = 2 + 2 * (size_t)pairs;
    } else {
        for (size_t i = 2; i < to; i++)
            if (span_is(cmd->argv[i], "FIELDS")) to = i;
    }
    size_t at = from < to ? find_time(rp, cmd->argv, from, to, &relative, &ms) : 0;
    if (at == 0 || !relative || ms < 0) return pass_raw(rp, cmd, err);
    struct num_text t;
    cmd->argv[at] = span_str("PXAT");
    cmd->argv[at + 1] = put_i64(&t, ms);
    return pass_args(rp, cmd->argc, cmd->argv, err);
}

/* --- RESTORE --- */

#define FOOT_VALKEY 80 /* Valkey 9's own; up to 11 it shares with Redis */
#define FOOT_SHARED 11

static bool takes_version(const struct server_facts *target, unsigned version)
{
    if (target->rdb_version == 0) return true; /* unknown: let it judge */
    if (target->rdb_version >= FOOT_VALKEY && version < FOOT_VALKEY) return version <= FOOT_SHARED;
    return version <= target->rdb_version;
}

/* A footer that the target takes: a checksum of zero means "not computed" to Redis 8.4+ only, and a
 * version that it does not know is refused, though only the type counts. Of type 22 there are two,
 * told apart by the version. */
static int refoot(struct replay *rp, struct span *payload, struct err *err)
{
    if (payload->n < 11) return 0;
    const uint8_t *foot = payload->p + payload->n - 10;
    unsigned version = foot[0] | (unsigned)foot[1] << 8;
    static const uint8_t zero[8];
    bool unchecked = memcmp(foot + 2, zero, 8) == 0;
    bool two = version >= FOOT_VALKEY && payload->p[0] == rdb_type_byte(RDB_VALKEY_HASH_2);
    bool refoots = !two && !takes_version(rp->target, version);
    if (!unchecked && !refoots) return 0;
    buf_clear(&rp->scratch);
    if (buf_add(&rp->scratch, payload->p, payload->n, err) < 0) return -1;
    uint8_t *end = rp->scratch.p + payload->n - 10;
    if (refoots) {
        end[0] = 6;
        end[1] = 0;
    }
    uint64_t crc = crc64(0, rp->scratch.p, payload->n - 8);
    for (int i = 0; i < 8; i++)
        end[2 + i] = (uint8_t)(crc >> (8 * i));
    *payload = buf_span(&rp->scratch);
    return 0;
}

static int rule_restore(struct replay *rp, const struct cmd_info *info, const struct resp_cmd *cmd,
                        struct err *err)
{
    struct span argv[ARGS_MAX];
    struct num_text t;
    size_t argc = cmd->argc;
    if (argc < 4 || argc + 1 > ARGS_MAX) return pass_raw(rp, cmd, err);
    memcpy(argv, cmd->argv, argc * sizeof(*argv));
    argv[0] = span_str("RESTORE");
    int64_t ms = replay_deadline(rp, info, argc, argv);
    if (refoot(rp, &argv[3], err) < 0) return -1;
    if (ms > 0 && rp->absttl) {
        argv[2] = put_i64(&t, ms);
        argv[argc++] = span_str("ABSTTL");
    }
    return pass_args(rp, argc, argv, err);
}

/* --- databases --- */

static int unresolved(struct replay *rp, struct span key, const char *cmd, const char *words,
                      struct err *err)
{
    return refusals_report(&rp->pl->refusals, (int64_t)rp->db, key, cmd, words, err);
}

static int rule_select(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    uint64_t db;
    if (cmd->argc != 2 || !num_get_u64(cmd->argv[1], &db))
        return err_set(err, ERR_PROTO, "stream: SELECT without a database");
    if (db > INT32_MAX) return err_set(err, ERR_PROTO, "stream: SELECT of an impossible database");
    rp->db = db;
    if (db > rp->db_max) rp->db_max = db;
    return 0;
}

static int rule_swapdb(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    uint64_t a, b;
    if (cmd->argc != 3 || !num_get_u64(cmd->argv[1], &a) || !num_get_u64(cmd->argv[2], &b))
        return err_set(err, ERR_PROTO, "stream: SWAPDB without two databases");
    int both = db_select_swap(rp->select, a, b);
    if (both == 0) {
        filtered(rp);
        return 0;
    }
    if (both == 1)
        return err_set(err, ERR_UNSUPPORTED,
                       "the source ran SWAPDB %llu %llu, of which only one is selected: what came "
                       "in has never been moved; start again, with a new snapshot",
                       (unsigned long long)a, (unsigned long long)b);
    struct num_text ta, tb;
    struct span argv[] = {span_str("SWAPDB"), put_i64(&ta, db_select_target(rp->select, a)),
                          put_i64(&tb, db_select_target(rp->select, b))};
    passed(rp);
    return batch_args(replay_batch(rp), 3, argv, err);
}

static int flush_db(struct replay *rp, int64_t to, struct err *err)
{
    struct batch *b = replay_batch(rp);
    if (select_db(rp, to, err) < 0) return -1;
    return rp->unlink ? batch_strs(b, err, "FLUSHDB", "ASYNC", NULL)
                      : batch_strs(b, err, "FLUSHDB", NULL);
}

static int rule_flushdb(struct replay *rp, struct err *err)
{
    int64_t to = db_select_target(rp->select, rp->db);
    if (to < 0) {
        filtered(rp);
        return 0;
    }
    passed(rp);
    return flush_db(rp, to, err);
}

/* How many databases the source has; where it does not tell, those that were ever seen in use. */
static int64_t source_databases(const struct replay *rp)
{
    const struct server_facts *f = rp->source;
    if (f->databases > 0) return f->databases;
    uint64_t max = rp->db_max > 15 ? rp->db_max : 15;
    if (f->n_db && f->db[f->n_db - 1].db > max) max = f->db[f->n_db - 1].db;
    return (int64_t)max + 1;
}

/* Of the target, only the databases that the task moves are emptied (C9). */
static int rule_flushall(struct replay *rp, struct err *err)
{
    int64_t n = source_databases(rp);
    for (int64_t db = 0; db < n; db++) {
        int64_t to = db_select_target(rp->select, (uint64_t)db);
        int has = to < 0 ? 0 : replay_has_db(rp, to, err);
        if (has < 0 || (has && flush_db(rp, to, err) < 0)) return -1;
    }
    passed(rp);
    return 0;
}

/* A command that takes a key into another database; `at` is where that database is named. */
static int to_other_db(struct replay *rp, const struct resp_cmd *cmd, size_t at, const char *name,
                       bool removes, struct err *err)
{
    uint64_t db;
    struct span argv[ARGS_MAX];
    struct num_text t;
    if (!num_get_u64(cmd->argv[at], &db) || cmd->argc > ARGS_MAX) return pass_raw(rp, cmd, err);
    int64_t from = db_select_target(rp->select, rp->db), to = db_select_target(rp->select, db);
    if (to >= 0 && from < 0)
        return unresolved(rp, cmd->argv[1], name,
                          "it brings a key out of a database that is not selected; copy that key "
                          "by hand, or select its database too",
                          err);
    if (to < 0 && removes) { /* gone from what is moved */
        struct span del[] = {span_str("DEL"), cmd->argv[1]};
        return pass_args(rp, 2, del, err);
    }
    if (to < 0) {
        filtered(rp);
        return 0;
    }
    memcpy(argv, cmd->argv, cmd->argc * sizeof(*argv));
    argv[at] = put_i64(&t, to);
    return pass_args(rp, cmd->argc, argv, err);
}

static int rule_move(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    return cmd->argc == 3 ? to_other_db(rp, cmd, 2, "MOVE", true, err) : pass_raw(rp, cmd, err);
}

static int rule_copy(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    for (size_t i = 3; i + 1 < cmd->argc; i++)
        if (span_is(cmd->argv[i], "DB")) return to_other_db(rp, cmd, i + 1, "COPY", false, err);
    return pass_raw(rp, cmd, err);
}

/* --- the rest --- */

/* Concerns no database: always passed on. */
static int rule_anywhere(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    passed(rp);
    return batch_raw(replay_batch(rp), cmd->raw, err);
}

static int rule_publish(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    if (span_is(cmd->argv[0], "SPUBLISH") && !rp->spublish) {
        filtered(rp);
        return 0;
    }
    return rule_anywhere(rp, cmd, err);
}

static int rule_function(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    if (!rp->functions)
        return unresolved(rp, (struct span){0}, "FUNCTION",
                          "the target has no functions (before 7.0)", err);
    if (cmd->argc < 3 || !span_is(cmd->argv[1], "RESTORE")) return rule_anywhere(rp, cmd, err);
    if (refoot(rp, &cmd->argv[2], err) < 0) return -1;
    passed(rp);
    return batch_args(replay_batch(rp), cmd->argc, cmd->argv, err);
}

static int rule_script(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    return span_is(cmd->argv[0], "SCRIPT") ? rule_anywhere(rp, cmd, err) : pass_raw(rp, cmd, err);
}

static int rule_replconf(struct replay *rp, const struct resp_cmd *cmd)
{
    /* WAIT there is for what came before it, which may have to be applied yet. */
    if (cmd->argc > 1 && span_is(cmd->argv[1], "GETACK")) rp->ack_at = pipeline_offset(rp->pl);
    filtered(rp);
    return 0;
}

static int rule_exec(struct replay *rp)
{
    if (rp->in_tx && rp->tx_passed) counter_add(&rp->pl->counters->transactions, 1);
    rp->in_tx = false;
    return 0;
}

static int rule_multi(struct replay *rp)
{
    rp->in_tx = true;
    rp->tx_passed = false;
    return 0;
}

/* Not in the table: a module's command, or one newer than this program. The target judges: a
 * command that it does not know either is refused by name. */
static int rule_unknown(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    char name[64];
    log_debug("command %s is not in the command table, passed on as it came",
              num_quote(name, sizeof(name), cmd->argv[0]));
    return pass_raw(rp, cmd, err);
}

int replay_rule(struct replay *rp, const struct cmd_info *info, const struct resp_cmd *cmd,
                struct err *err)
{
    if (KH_UNLIKELY(!info)) return rule_unknown(rp, cmd, err);
    switch ((enum cmd_rule)info->rule) {
    case CMD_RULE_PASS: return pass_raw(rp, cmd, err);
    case CMD_RULE_SELECT: return rule_select(rp, cmd, err);
    case CMD_RULE_MULTI: return rule_multi(rp);
    case CMD_RULE_EXEC: return rule_exec(rp);
    case CMD_RULE_SWAPDB: return rule_swapdb(rp, cmd, err);
    case CMD_RULE_FLUSHDB: return rule_flushdb(rp, err);
    case CMD_RULE_FLUSHALL: return rule_flushall(rp, err);
    case CMD_RULE_MOVE: return rule_move(rp, cmd, err);
    case CMD_RULE_COPY: return rule_copy(rp, cmd, err);
    case CMD_RULE_EXPIRE:
    case CMD_RULE_HEXPIRE: return rule_expire(rp, cmd, err);
    case CMD_RULE_SETEX: return rule_setex(rp, cmd, err);
    case CMD_RULE_SET: return rule_set(rp, cmd, err);
    case CMD_RULE_GETEX: return rule_getex(rp, cmd, err);
    case CMD_RULE_RESTORE: return rule_restore(rp, info, cmd, err);
    case CMD_RULE_HSETEX: return rule_hsetex(rp, cmd, err);
    case CMD_RULE_PUBLISH: return rule_publish(rp, cmd, err);
    case CMD_RULE_SCRIPT: return rule_script(rp, cmd, err);
    case CMD_RULE_FUNCTION: return rule_function(rp, cmd, err);
    case CMD_RULE_NOT_DATA: filtered(rp); return 0;
    case CMD_RULE_REPLCONF: return rule_replconf(rp, cmd);
    case CMD_RULE_CLUSTER:
        return err_set(err, ERR_UNSUPPORTED,
                       "the source moves cluster slots (%.*s); clusters are not supported yet",
                       (int)cmd->argv[0].n, (const char *)cmd->argv[0].p);
    }
    return err_set(err, ERR_INTERNAL, "command %s has no rule", info->name);
}
