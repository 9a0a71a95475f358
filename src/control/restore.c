// SPDX-License-Identifier: BSD-3-Clause
// A task whose source is files: snapshots are loaded, commands replayed.
#include "control/input.h"
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

/* --- one file --- */

/* At the file's end? 1, 0, -1. */
static int at_end(struct run *r, struct err *err)
{
    if (reader_need(&r->pl.r, 1, err) == 0) return 0;
    return err->code == ERR_END ? 1 : -1;
}

static int no_skip(const char *path, struct err *err)
{
    return err_set(err, ERR_REFUSED,
                   "%.200s holds commands, which cannot leave existing keys alone: "
                   "--on-conflict skip is for snapshots; choose overwrite, or empty the target",
                   path);
}

/* RENAME, SUNIONSTORE, FLUSHALL: what they do to one key hangs on others. */
static int no_choice(const struct run *r, const char *path, struct err *err)
{
    return err_set(
        err, ERR_REFUSED,
        "%.200s holds commands, which reach several keys at once: --keys and --skip-keys "
        "are for snapshots%s; restore all of it into an empty server, then take the keys "
        "from there with keyhaul backup --keys",
        path, r->has_load ? " (the keys of its own have been loaded)" : "");
}

static int no_cluster(const struct run *r, const char *path, struct err *err)
{
    return err_set(err, ERR_REFUSED,
                   "%.200s holds commands, which are replayed to a single server only, and the "
                   "target is a cluster%s; restore all of it into an empty server, then migrate "
                   "that one",
                   path, r->has_load ? " (the keys of its own have been loaded)" : "");
}

static int check_commands(const struct run *r, const char *path, struct err *err)
{
    if (r->cluster) return no_cluster(r, path, err);
    if (r->cfg->on_conflict == TASK_CONFLICT_SKIP) return no_skip(path, err);
    return key_select_all(&r->cfg->keys) ? 0 : no_choice(r, path, err);
}

static int begin_replay(struct run *r, struct err *err)
{
    struct replay_config cfg = {.pl = &r->pl,
                                .source = &r->source_facts,
                                .target = &r->target_facts,
                                .store_dir = r->spool_dir,
                                .store_max_bytes = run_store_max(r),
                                .db_max = r->has_load ? r->load.db_max : 0,
                                .hold_margin_ms = load_hold_margin_ms(r->source_facts.used_memory)};
    r->has_replay = true;
    /* Servers do not expire keys while they read an AOF: a later command may renew them. */
    r->pl.hold.on = true;
    return replay_init(&r->replay, &cfg, err);
}

static int replay_part(struct run *r, const char *path, bool last, struct err *err)
{
    struct replay_cut cut = {0};
    if (check_commands(r, path, err) < 0) return -1;
    if (!r->has_replay && begin_replay(r, err) < 0) return -1;
    if (replay_file(&r->replay, &cut, err) < 0) return -1;
    if (!cut.cut) return 0;
    if (!last)
        return err_set(err, ERR_FORMAT,
                       "the command or transaction at byte %llu is not whole, and this is not the "
                       "last file: it is damaged",
                       (unsigned long long)cut.at);
    log_warn("%s: the command or transaction at byte %llu, its last, is not whole; it is left out, "
             "as a server would",
             path, (unsigned long long)cut.at);
    return 0;
}

/* The reader stands at the start of the i-th file. */
static int restore_part(struct run *r, const struct input *in, size_t i, struct err *err)
{
    enum input_kind kind;
    if (input_begins(in, i, &r->pl.r, &kind, err) < 0) return -1;
    if (kind == INPUT_EMPTY) return 0; /* an empty increment is none */
    if (kind == INPUT_RDB) {
        if (r->has_load || r->has_replay)
            return err_set(err, ERR_FORMAT,
                           "a snapshot behind other data: that is no AOF of a server");
        if (run_load(r, err) < 0) return -1;
        int end = at_end(r, err);
        if (end != 0) return end < 0 ? -1 : 0;
    }
    return replay_part(r, in->path[i], i + 1 == in->n, err);
}

static bool is_about_file(enum err_code code)
{
    return code == ERR_FORMAT || code == ERR_PROTO || code == ERR_END || code == ERR_IO ||
           code == ERR_LIMIT;
}

static int settle(struct run *r, struct err *err)
{
    return hold_settle(&r->pl.hold, &r->pl.lane, 0, err);
}

/* Ended early: what is held gets its deadline nevertheless. Always -1. */
static int restore_failed(struct run *r, struct err *err)
{
    struct err last;
    if (err->code == ERR_STOPPED) return run_stopped_in_load(r, err);
    if (!is_about_file(err->code)) return -1;
    if (pipeline_drain(&r->pl, &last) < 0 || settle(r, &last) < 0) log_error("%s", last.msg);
    return -1;
}

static int restore_one(struct run *r, const struct input *in, size_t i, struct err *err)
{
    struct input_file f;
    if (input_open(in, i, &f, err) < 0) return -1;
    pipeline_read_file(&r->pl, f.fd, f.ms);
    int rc = restore_part(r, in, i, err);
    pipeline_read_file(&r->pl, -1, 0);
    input_close(&f);
    const struct reader *at = &r->pl.r;
    if (rc < 0 && err->code == ERR_END)
        err_wrap(err, "cut off after %llu bytes",
                 (unsigned long long)(reader_pos(at) + (uint64_t)(at->end - at->p)));
    /* What the target says is not put under the file's name. */
    return rc < 0 && is_about_file(err->code) ? err_wrap(err, "%.150s", input_shown(in, i)) : rc;
}

static int restore_all(struct run *r, const struct input *in, struct err *err)
{
    if (run_phase(r, PHASE_SNAPSHOT, err) < 0) return -1;
    counter_set(&r->counters->snapshot_started_ms, (uint64_t)clock_mono_ms());
    r->pl.hold.on = in->n > 1;
    for (size_t i = 0; i < in->n; i++)
        if (restore_one(r, in, i, err) < 0) return restore_failed(r, err);
    uint64_t read = r->pl.before_file + reader_pos(&r->pl.r);
    if (read == 0) return err_set(err, ERR_FORMAT, "nothing came: there is nothing to restore");
    if (settle(r, err) < 0) return -1;
    counter_set(&r->counters->snapshot_bytes_decoded, read);
    counter_set(&r->counters->snapshot_done_ms, (uint64_t)clock_mono_ms());
    return 0;
}

/* --- the task --- */

/* Commands build upon what is there: only where nothing is they make what the file holds. */
static void tell_mixture(const struct run *r)
{
    struct err why;
    if (check_empty(&r->target_facts, r->cfg, &why) == 0) return;
    log_warn("the target holds keys already, and commands of an AOF change what they find: such "
             "keys may end as neither side had them");
}

static int check_target_side(struct run *r, const struct input *in, struct err *err)
{
    struct primaries target = run_target(r);
    struct check_notes notes = {0};
    if (run_phase(r, PHASE_CHECK, err) < 0) return -1;
    if (check_target(&r->target_facts, r->cfg, err) < 0 ||
        check_target_rights(&target, &r->target_facts, r->cfg, &notes, err) < 0)
        return -1;
    run_tell_notes(&notes);
    if (in->commands && check_commands(r, r->cfg->file, err) < 0) return -1;
    switch (r->cfg->on_conflict) {
    case TASK_CONFLICT_FAIL: return check_empty(&r->target_facts, r->cfg, err);
    case TASK_CONFLICT_SKIP: return 0;
    case TASK_CONFLICT_OVERWRITE: break;
    }
    if (in->commands) tell_mixture(r);
    return 0;
}

static int build(struct run *r, struct err *err)
{
    struct pipeline_config cfg = {.task = r->cfg,
                                  .counters = r->counters,
                                  .stop = r->stop,
                                  .spool_config = run_spool_config(r),
                                  .hold_exact = facts_has(&r->target_facts, FACTS_PEXPIRETIME)};
    if (!r->cluster && client_take_conn(r->target, &cfg.target, err) < 0) return -1;
    if (!r->cluster) r->target = NULL;
    r->has_pipeline = true;
    if (pipeline_init(&r->pl, &cfg, err) < 0) return -1;
    return r->cluster ? migrate_open_fan(r, err) : 0;
}

int run_restore(struct run *r, struct err *err)
{
    struct input in;
    if (run_phase(r, PHASE_CONNECT, err) < 0) return -1;
    snprintf(r->facts->source_shown, sizeof(r->facts->source_shown), "%s", r->cfg->file);
    r->source_facts.databases = -1; /* a file does not tell */
    int rc = input_find(&in, "restore", r->cfg->file, err);
    counter_set(&r->counters->snapshot_bytes_total, in.bytes);
    r->source_facts.used_memory = in.bytes;
    if (rc == 0) rc = run_meet_target(r, err);
    if (rc == 0) rc = check_target_side(r, &in, err);
    if (rc == 0) rc = run_choose_spool(r, err);
    if (rc == 0) rc = build(r, err);
    if (rc == 0) rc = restore_all(r, &in, err);
    if (rc == 0) run_tell_selection(r);
    input_release(&in);
    return rc;
}
