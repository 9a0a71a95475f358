// SPDX-License-Identifier: BSD-3-Clause
// What happens to a command of the stream: which database, which deadline, passed on or not.
//
// How each server version puts its writes into the stream was measured; see docs/formats.
#include "base/log.h"
#include "engine/reconcile.h"
#include "engine/replay_old.h"

#include <stdio.h>

#define SCRIPT_KEYS 1024 /* of one script, looked at; more are not given by any sane caller */

void replay_filtered(struct replay *rp)
{
    counter_add(&rp->pl->counters->commands_filtered, 1);
}

void replay_passed(struct replay *rp)
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
        replay_filtered(rp);
        return 0;
    }
    if (select_db(rp, to, err) < 0) return -1;
    replay_passed(rp);
    return 1;
}

int replay_pass_raw(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int rc = replay_selected(rp, err);
    return rc <= 0 ? rc : replay_put(rp, rp->info, cmd->raw, cmd->argc, cmd->argv, err);
}

int replay_pass_args(struct replay *rp, size_t argc, struct span *argv, struct err *err)
{
    int rc = replay_selected(rp, err);
    return rc <= 0 ? rc : replay_put(rp, cmd_find(argv[0]), span_of(NULL, 0), argc, argv, err);
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

/* It would go into the other database; the batch's end writes it anew. */
static int leave_no_checkpoint(struct replay *rp, int64_t a, int64_t b, struct err *err)
{
    const struct batch_checkpoint *cp = rp->checkpoint;
    if (!cp || (cp->db != a && cp->db != b)) return 0;
    struct span argv[] = {span_str("DEL"), cp->key};
    if (batch_select(replay_batch(rp), cp->db, err) < 0) return -1;
    return batch_args(replay_batch(rp), 2, argv, err);
}

static int rule_swapdb(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    uint64_t a, b;
    if (cmd->argc != 3 || !num_get_u64(cmd->argv[1], &a) || !num_get_u64(cmd->argv[2], &b))
        return err_set(err, ERR_PROTO, "stream: SWAPDB without two databases");
    int both = db_select_swap(rp->select, a, b);
    if (both == 0) {
        replay_filtered(rp);
        return 0;
    }
    if (both == 1)
        return err_set(err, ERR_UNSUPPORTED,
                       "the source ran SWAPDB %llu %llu, of which only one is selected: what came "
                       "in has never been moved; start again, with a new snapshot",
                       (unsigned long long)a, (unsigned long long)b);
    struct replay_num ta, tb;
    int64_t to_a = db_select_target(rp->select, a), to_b = db_select_target(rp->select, b);
    struct span argv[] = {span_str("SWAPDB"), replay_put_i64(&ta, to_a), replay_put_i64(&tb, to_b)};
    if (rp->existing_path && reconcile_note_swap(rp->existing_path, err) < 0) return -1;
    if (hold_swapped(&rp->pl->hold, to_a, to_b, err) < 0) return -1;
    if (leave_no_checkpoint(rp, to_a, to_b, err) < 0) return -1;
    replay_passed(rp);
    return replay_put(rp, rp->info, span_of(NULL, 0), 3, argv, err);
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
    if (rp->pl->cfg->slots) return replay_flush_shard(rp, false, err);
    if (to < 0) {
        replay_filtered(rp);
        return 0;
    }
    replay_passed(rp);
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
    if (rp->pl->cfg->slots) return replay_flush_shard(rp, true, err);
    int64_t n = source_databases(rp);
    for (int64_t db = 0; db < n; db++) {
        int64_t to = db_select_target(rp->select, (uint64_t)db);
        int has = to < 0 ? 0 : replay_has_db(rp, to, err);
        if (has < 0 || (has && flush_db(rp, to, err) < 0)) return -1;
    }
    replay_passed(rp);
    return 0;
}

/* A command that takes a key into another database; `at` is where that database is named. */
static int to_other_db(struct replay *rp, const struct resp_cmd *cmd, size_t at, const char *name,
                       bool removes, struct err *err)
{
    uint64_t db;
    struct span argv[ARGS_MAX];
    struct replay_num t;
    if (!num_get_u64(cmd->argv[at], &db) || cmd->argc > ARGS_MAX)
        return replay_pass_raw(rp, cmd, err);
    int64_t from = db_select_target(rp->select, rp->db), to = db_select_target(rp->select, db);
    if (to >= 0 && from < 0)
        return unresolved(rp, cmd->argv[1], name,
                          "it brings a key out of a database that is not selected; copy that key "
                          "by hand, or select its database too",
                          err);
    if (to < 0 && removes) { /* gone from what is moved */
        struct span del[] = {span_str("DEL"), cmd->argv[1]};
        return replay_pass_args(rp, 2, del, err);
    }
    if (to < 0) {
        replay_filtered(rp);
        return 0;
    }
    memcpy(argv, cmd->argv, cmd->argc * sizeof(*argv));
    argv[at] = replay_put_i64(&t, to);
    if (hold_moved(&rp->pl->hold, to, cmd->argv[removes ? 1 : 2], err) < 0) return -1;
    return replay_pass_args(rp, cmd->argc, argv, err);
}

/* The deadline goes along with the key: also one that is held. */
static int rule_rename(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    int64_t to = db_select_target(rp->select, rp->db);
    if (cmd->argc >= 3 && to >= 0 && hold_moved(&rp->pl->hold, to, cmd->argv[2], err) < 0)
        return -1;
    return replay_pass_raw(rp, cmd, err);
}

static int rule_move(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    return cmd->argc == 3 ? to_other_db(rp, cmd, 2, "MOVE", true, err)
                          : replay_pass_raw(rp, cmd, err);
}

static int rule_copy(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    for (size_t i = 3; i + 1 < cmd->argc; i++)
        if (span_is(cmd->argv[i], "DB")) return to_other_db(rp, cmd, i + 1, "COPY", false, err);
    return rule_rename(rp, cmd, err);
}

/* --- the rest --- */

/* Concerns no database: always passed on. */
static int rule_anywhere(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    replay_passed(rp);
    return replay_put(rp, rp->info, cmd->raw, cmd->argc, cmd->argv, err);
}

/* The source's Sentinels tell each other there of themselves and their primary. Those of the target
 * would take it to be their own, where both sides go by the same name, and turn to the source. */
static bool is_sentinels(struct span channel)
{
    return span_eq(channel, span_str("__sentinel__:hello"));
}

static int rule_publish(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    bool unknown = span_is(cmd->argv[0], "SPUBLISH") && !rp->spublish;
    if (unknown || (cmd->argc > 1 && is_sentinels(cmd->argv[1]))) {
        replay_filtered(rp);
        return 0;
    }
    return rule_anywhere(rp, cmd, err);
}

/* A library of the same name on the target: replaced where keys are. FUNCTION LOAD code, FUNCTION
 * RESTORE payload [APPEND]; who says REPLACE or FLUSH means it. */
static size_t replace_functions(struct span *argv, size_t argc)
{
    if (argc == 3 && span_is(argv[1], "LOAD")) {
        argv[3] = argv[2];
        argv[2] = span_str("REPLACE");
        return 4;
    }
    if (span_is(argv[1], "RESTORE") && (argc == 3 || (argc == 4 && span_is(argv[3], "APPEND")))) {
        argv[3] = span_str("REPLACE");
        return 4;
    }
    return argc;
}

static int rule_function(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    if (!rp->functions)
        return replay_old_refuse(rp, (struct span){0}, "FUNCTION",
                                 "the target has no functions (before 7.0)", err);
    struct span argv[4];
    size_t argc = cmd->argc;
    if (argc < 3 || argc > 4) return rule_anywhere(rp, cmd, err);
    memcpy(argv, cmd->argv, argc * sizeof(*argv));
    if (span_is(argv[1], "RESTORE") && replay_refoot(rp, &argv[2], err) < 0) return -1;
    int replace = rp->pl->cfg->on_conflict == TASK_CONFLICT_OVERWRITE
                      ? 1
                      : replay_replaces_library(rp, argc, argv, err);
    if (replace < 0) return -1;
    if (replace) argc = replace_functions(argv, argc);
    replay_passed(rp);
    return batch_args(replay_batch(rp), argc, argv, err);
}

/* Sources before 7.0 may pass scripts on as they are: one may give a key's deadline to another. */
static int note_script_keys(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    size_t at[SCRIPT_KEYS];
    int64_t to = db_select_target(rp->select, rp->db);
    const struct cmd_info *info = cmd_find(cmd->argv[0]);
    if (rp->pl->hold.n == 0 || to < 0 || !info) return 0;
    int n = cmd_keys(info, cmd->argc, cmd->argv, SCRIPT_KEYS, at);
    for (int i = 0; i < n && i < SCRIPT_KEYS; i++)
        if (hold_moved(&rp->pl->hold, to, cmd->argv[at[i]], err) < 0) return -1;
    return 0;
}

static int rule_script(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    if (note_script_keys(rp, cmd, err) < 0) return -1;
    return span_is(cmd->argv[0], "SCRIPT") ? rule_anywhere(rp, cmd, err)
                                           : replay_pass_raw(rp, cmd, err);
}

/* --- idempotent producers (Redis 8.6+) --- */

static void forget_producers(struct replay *rp)
{
    if (rp->told_idmp) return;
    rp->told_idmp = true;
    log_warn("messages of idempotent producers arrive, but not all of what is known of the "
             "producers: the target may take a message twice that is sent to it again");
}

/* XADD key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [IDMP pid iid|IDMPAUTO pid] [MAXLEN ...] id ...:
 * where IDMP or IDMPAUTO stands, 0 nowhere. */
static size_t find_idmp(const struct resp_cmd *cmd)
{
    for (size_t i = 2; i < cmd->argc; i++) {
        const struct span *a = &cmd->argv[i];
        if (span_is(*a, "IDMP") || span_is(*a, "IDMPAUTO")) return i;
        if (!span_is(*a, "NOMKSTREAM") && !span_is(*a, "KEEPREF") && !span_is(*a, "DELREF") &&
            !span_is(*a, "ACKED"))
            return 0;
    }
    return 0;
}

/* Where the id stands behind the options from `at` on. */
static size_t find_id(const struct resp_cmd *cmd, size_t at)
{
    while (at + 1 < cmd->argc) {
        if (span_is(cmd->argv[at], "LIMIT"))
            at += 2;
        else if (span_is(cmd->argv[at], "MAXLEN") || span_is(cmd->argv[at], "MINID"))
            at += span_is(cmd->argv[at + 1], "=") || span_is(cmd->argv[at + 1], "~") ? 3 : 2;
        else
            break;
    }
    return at;
}

/* A source sends the id that the message got, which servers only take from their own source: as a
 * plain XADD, and then whose it was. A message that came again was not added: it has "*". */
static int rule_xadd(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    size_t at = find_idmp(cmd), n = at && span_is(cmd->argv[at], "IDMP") ? 3 : 2;
    size_t id_at = at ? find_id(cmd, at + n) : 0;
    if (at == 0 || id_at >= cmd->argc) return replay_pass_raw(rp, cmd, err);
    struct span key = cmd->argv[1], id = cmd->argv[id_at], pid = cmd->argv[at + 1];
    struct span record[] = {span_str("XIDMPRECORD"), key, pid, cmd->argv[at + 2], id};
    if (span_is(id, "*")) {
        replay_filtered(rp);
        return 0;
    }
    memmove(cmd->argv + at, cmd->argv + at + n, (cmd->argc - at - n) * sizeof(*cmd->argv));
    int rc = replay_pass_args(rp, cmd->argc - n, cmd->argv, err);
    bool whose = rp->idmp && n == 3;
    if (!whose) forget_producers(rp);
    if (rc < 0 || !whose || db_select_target(rp->select, rp->db) < 0) return rc;
    return batch_args(replay_batch(rp), 5, record, err);
}

static int rule_idmp(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    if (span_is(cmd->argv[0], "XADD")) return rule_xadd(rp, cmd, err);
    if (rp->idmp) return replay_pass_raw(rp, cmd, err);
    forget_producers(rp);
    replay_filtered(rp);
    return 0;
}

static int rule_replconf(struct replay *rp, const struct resp_cmd *cmd)
{
    /* WAIT there is for what came before it, which may have to be applied yet. */
    if (cmd->argc > 1 && span_is(cmd->argv[1], "GETACK")) rp->ack_at = pipeline_offset(rp->pl);
    replay_filtered(rp);
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
    return replay_pass_raw(rp, cmd, err);
}

int replay_rule(struct replay *rp, const struct cmd_info *info, const struct resp_cmd *cmd,
                struct err *err)
{
    rp->info = info;
    if (KH_UNLIKELY(!info)) return rule_unknown(rp, cmd, err);
    if (KH_UNLIKELY(!replay_is_own(rp, info, cmd->argc, cmd->argv))) {
        replay_filtered(rp);
        return 0;
    }
    switch ((enum cmd_rule)info->rule) {
    case CMD_RULE_PASS: return replay_pass_raw(rp, cmd, err);
    case CMD_RULE_SELECT: return rule_select(rp, cmd, err);
    case CMD_RULE_MULTI: return rule_multi(rp);
    case CMD_RULE_EXEC: return rule_exec(rp);
    case CMD_RULE_SWAPDB: return rule_swapdb(rp, cmd, err);
    case CMD_RULE_FLUSHDB: return rule_flushdb(rp, err);
    case CMD_RULE_FLUSHALL: return rule_flushall(rp, err);
    case CMD_RULE_MOVE: return rule_move(rp, cmd, err);
    case CMD_RULE_COPY: return rule_copy(rp, cmd, err);
    case CMD_RULE_EXPIRE:
    case CMD_RULE_HEXPIRE: return replay_rule_expire(rp, cmd, err);
    case CMD_RULE_EXPIREAT: return replay_rule_expireat(rp, cmd, err);
    case CMD_RULE_RENAME: return rule_rename(rp, cmd, err);
    case CMD_RULE_SETEX: return replay_rule_setex(rp, cmd, err);
    case CMD_RULE_SET: return replay_rule_set(rp, cmd, err);
    case CMD_RULE_GETEX: return replay_rule_getex(rp, cmd, err);
    case CMD_RULE_RESTORE: return replay_rule_restore(rp, cmd, err);
    case CMD_RULE_HSETEX: return replay_rule_hsetex(rp, cmd, err);
    case CMD_RULE_PUBLISH: return rule_publish(rp, cmd, err);
    case CMD_RULE_SCRIPT: return rule_script(rp, cmd, err);
    case CMD_RULE_FUNCTION: return rule_function(rp, cmd, err);
    case CMD_RULE_IDMP: return rule_idmp(rp, cmd, err);
    case CMD_RULE_NOT_DATA: replay_filtered(rp); return 0;
    case CMD_RULE_REPLCONF: return rule_replconf(rp, cmd);
    case CMD_RULE_CLUSTER: return replay_rule_cluster(rp, cmd, err);
    }
    return err_set(err, ERR_INTERNAL, "command %s has no rule", info->name);
}
