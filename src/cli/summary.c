// SPDX-License-Identifier: BSD-3-Clause
// The closing summary, as tables and as JSON.
#include "cli/summary.h"
#include "cli/progress.h"

#include "base/num.h"

#include <stdio.h>

#define SHOWN   32
#define COLUMNS 80

/* Figures of one phase; every phase that was reached has seconds >= 0. */
struct phase_row {
    const char *name;
    double seconds;
    bool has_keys, has_commands;
    uint64_t keys, commands, bytes;
};

#define PHASE_ROWS 3

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t stream_bytes(const struct metrics *m)
{
    return less(m->bytes_read, m->snapshot_bytes_received);
}

void summary_note(struct summary_marks *marks, const struct metrics *m)
{
    if (!marks->stream_ms && (m->phase == PHASE_CATCH_UP || m->phase == PHASE_STREAM))
        marks->stream_ms = m->mono_ms;
    if (marks->caught_up || !m->caught_up_ms) return;
    marks->caught_up = true;
    marks->caught_up_commands = m->commands_written;
    marks->caught_up_bytes = stream_bytes(m);
}

enum summary_outcome summary_outcome(const struct task_config *cfg, const struct metrics *last,
                                     const struct err *err, bool stopped)
{
    if (err && err->code == ERR_UNRESOLVED) return SUMMARY_UNRESOLVED;
    if (err && err->code != ERR_STOPPED) return SUMMARY_FAILED;
    if (err) return SUMMARY_STOPPED;
    /* Asked to stop and ended well: it may have been done at that very moment. */
    if (cfg->type == TASK_FULL && last->phase == PHASE_DONE && last->snapshot_done_ms)
        return SUMMARY_DONE;
    if (cfg->until == TASK_UNTIL_CAUGHT_UP && last->caught_up_ms) return SUMMARY_CAUGHT_UP;
    return stopped ? SUMMARY_STOPPED : SUMMARY_DONE;
}

const char *summary_outcome_name(enum summary_outcome outcome)
{
    switch (outcome) {
    case SUMMARY_DONE: return "done";
    case SUMMARY_CAUGHT_UP: return "caught-up";
    case SUMMARY_STOPPED: return "stopped";
    case SUMMARY_UNRESOLVED: return "unresolved";
    case SUMMARY_FAILED: return "failed";
    }
    return "unknown";
}

static double seconds_between(uint64_t from, uint64_t to)
{
    return (double)less(to, from) / 1000;
}

/* The snapshot; or the file of a restore, whose commands are part of it. */
static struct phase_row first_phase(const struct summary *s)
{
    const struct metrics *m = s->last;
    uint64_t end = m->snapshot_done_ms ? m->snapshot_done_ms : (uint64_t)m->mono_ms;
    return (struct phase_row){
        .name = metrics_phase_name(PHASE_SNAPSHOT, s->cfg->file),
        .seconds = seconds_between(m->snapshot_started_ms, end),
        .has_keys = true,
        .has_commands = s->cfg->file,
        .keys = m->keys_written,
        .commands = s->cfg->file ? m->commands_written : 0,
        .bytes = m->snapshot_bytes_decoded,
    };
}

static struct phase_row stream_phase(const char *name, double seconds, uint64_t commands,
                                     uint64_t bytes)
{
    return (struct phase_row){.name = name,
                              .seconds = seconds,
                              .has_commands = true,
                              .commands = commands,
                              .bytes = bytes};
}

/* Rows of the phases that were reached; returns how many. */
static unsigned find_phases(const struct summary *s, struct phase_row *rows)
{
    const struct metrics *m = s->last;
    const struct summary_marks *k = s->marks;
    uint64_t now = (uint64_t)m->mono_ms;
    unsigned n = 0;
    if (m->snapshot_started_ms) rows[n++] = first_phase(s);
    if (s->cfg->file) return n;
    uint64_t start = m->snapshot_done_ms ? m->snapshot_done_ms : (uint64_t)k->stream_ms;
    if (!start || (!k->stream_ms && !m->commands_written && !m->caught_up_ms)) return n;
    uint64_t caught_up = m->caught_up_ms ? m->caught_up_ms : now;
    uint64_t commands = k->caught_up ? k->caught_up_commands : m->commands_written;
    uint64_t bytes = k->caught_up ? k->caught_up_bytes : stream_bytes(m);
    rows[n++] = stream_phase("catch-up", seconds_between(start, caught_up), commands, bytes);
    if (!m->caught_up_ms || m->phase == PHASE_CATCH_UP) return n;
    if (s->cfg->until == TASK_UNTIL_CAUGHT_UP && m->commands_written == commands) return n;
    rows[n++] = stream_phase("stream", seconds_between(caught_up, now),
                             less(m->commands_written, commands), less(stream_bytes(m), bytes));
    return n;
}

static void put_cells(struct text *t, const char *name, const struct metrics_db *d)
{
    char keys[SHOWN], skipped[SHOWN], bytes[SHOWN], commands[SHOWN], errors[SHOWN];
    num_human_count(keys, sizeof(keys), d->keys);
    num_human_count(skipped, sizeof(skipped), d->skipped);
    num_human_bytes(bytes, sizeof(bytes), d->bytes);
    num_human_count(commands, sizeof(commands), d->commands);
    num_human_count(errors, sizeof(errors), d->errors);
    text_printf(t, "%-14s%15s%13s%11s%16s%10s\n", name, keys, skipped, bytes, commands, errors);
}

/* "3" or, where it went elsewhere, "3 to 5" */
static void name_database(const struct task_config *cfg, unsigned db, char *out, size_t size)
{
    int64_t to = db_select_target(&cfg->select, db);
    if (db == COUNTERS_DBS - 1)
        snprintf(out, size, "%u and up", db); /* counted together */
    else if (to >= 0 && to != db)
        snprintf(out, size, "%u to %lld", db, (long long)to);
    else
        snprintf(out, size, "%u", db);
}

static void put_databases(const struct summary *s, struct text *t)
{
    struct metrics_db sum = {0};
    unsigned used = 0;
    text_printf(t, "%-14s%15s%13s%11s%16s%10s\n", "database", "keys written", "skipped", "bytes",
                "commands", "errors");
    for (unsigned i = 0; i < COUNTERS_DBS; i++) {
        const struct metrics_db *d = &s->last->db[i];
        char name[SHOWN];
        if (!metrics_db_used(d)) continue;
        name_database(s->cfg, i, name, sizeof(name));
        put_cells(t, name, d);
        sum.keys += d->keys;
        sum.skipped += d->skipped;
        sum.bytes += d->bytes;
        sum.commands += d->commands;
        sum.errors += d->errors;
        used++;
    }
    bool elsewhere = sum.errors != s->last->errors; /* such as functions, of no database */
    sum.errors = s->last->errors;
    if (used != 1 || elsewhere) put_cells(t, "total", &sum);
}

static double per_second(uint64_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

static void put_phase(struct text *t, const struct phase_row *r)
{
    char count[SHOWN], bytes[SHOWN], rate[SHOWN], byte_rate[SHOWN], time[SHOWN];
    uint64_t moved = r->keys + r->commands;
    const char *what = r->keys && r->commands ? "records" : "keys";
    if (!r->has_keys || (r->commands && !r->keys)) what = "commands";
    num_human_count(count, sizeof(count), moved);
    num_human_bytes(bytes, sizeof(bytes), r->bytes);
    num_human_count(rate, sizeof(rate), (uint64_t)per_second(moved, r->seconds));
    num_human_bytes(byte_rate, sizeof(byte_rate), (uint64_t)per_second(r->bytes, r->seconds));
    text_printf(t, "%-10s%12s%15s %-8s%10s%13s%11s\n", r->name,
                progress_time(time, sizeof(time), r->seconds), count, what, bytes, rate, byte_rate);
}

static void put_phases(const struct summary *s, struct text *t)
{
    struct phase_row rows[PHASE_ROWS];
    unsigned n = find_phases(s, rows);
    char time[SHOWN];
    if (n)
        text_printf(t, "\n%-10s%12s%24s%10s%13s%11s\n", "phase", "time", "moved", "bytes", "per s",
                    "bytes/s");
    for (unsigned i = 0; i < n; i++)
        put_phase(t, &rows[i]);
    progress_time(time, sizeof(time), (double)(s->last->mono_ms - s->first->mono_ms) / 1000);
    text_printf(t, "%s%-10s%12s\n", n ? "" : "\n", "total", time);
}

static void put_lag(const struct metrics *m, char *out, size_t size)
{
    char bytes[SHOWN];
    if (m->lag_bytes == 0)
        snprintf(out, size, "lag 0");
    else
        snprintf(out, size, "lag %s", num_human_bytes(bytes, sizeof(bytes), m->lag_bytes));
}

static void stopped_early_words(const struct summary *s, char *out, size_t size)
{
    const struct metrics *m = s->last;
    if (!m->keys_written && !m->commands_written)
        snprintf(out, size, "stopped by signal before anything was written.");
    else
        snprintf(out, size, "stopped by signal before %s: the target holds only part of the data.",
                 s->cfg->file ? "the end of the data was reached" : "the snapshot was complete");
}

/* Stopped: what the target holds now depends on how far it had come. */
static void stopped_words(const struct summary *s, char *out, size_t size)
{
    char lag[SHOWN * 2];
    const struct metrics *m = s->last;
    put_lag(m, lag, sizeof(lag));
    /* A run that went on with the stream has taken no snapshot of its own. */
    bool loaded = m->snapshot_done_ms || m->phase >= PHASE_CATCH_UP;
    if (s->cfg->type != TASK_INCREMENTAL && !loaded)
        stopped_early_words(s, out, size);
    else if (s->cfg->type != TASK_INCREMENTAL && !m->caught_up_ms)
        snprintf(out, size,
                 "stopped by signal before it had caught up, %s: the target is not yet "
                 "equal to the source.",
                 lag);
    else if (m->slots_unsettled)
        snprintf(out, size,
                 "stopped by signal, %s: %llu slots that have moved between shards of the source "
                 "are not all on the target yet. Run the same command again to go on.",
                 lag, (unsigned long long)m->slots_unsettled);
    else if (m->lag_bytes)
        snprintf(out, size,
                 "stopped by signal, %s: so much of the source's changes is not on the "
                 "target.",
                 lag);
    else
        snprintf(out, size, "stopped by signal, lag 0.");
}

static void put_sentence(const struct summary *s, struct text *t)
{
    char words[900], lag[SHOWN * 2], skipped[96] = "", count[SHOWN];
    put_lag(s->last, lag, sizeof(lag));
    if (s->last->keys_skipped)
        snprintf(skipped, sizeof(skipped), " %s keys were on the target already and left alone.",
                 num_human_count(count, sizeof(count), s->last->keys_skipped));
    const char *why = s->err ? s->err->msg : "";
    switch (s->outcome) {
    case SUMMARY_DONE: snprintf(words, sizeof(words), "done.%s", skipped); break;
    case SUMMARY_CAUGHT_UP: snprintf(words, sizeof(words), "caught up, %s.%s", lag, skipped); break;
    case SUMMARY_STOPPED: stopped_words(s, words, sizeof(words) - sizeof(skipped)); break;
    case SUMMARY_UNRESOLVED: snprintf(words, sizeof(words), "ENDED WITH ERRORS: %s", why); break;
    case SUMMARY_FAILED: snprintf(words, sizeof(words), "FAILED: %s", why); break;
    }
    text_add(t, "\n");
    text_wrap(t, text_make_plain(words), 0, COLUMNS);
    if (s->outcome == SUMMARY_STOPPED && *skipped) text_wrap(t, skipped + 1, 0, COLUMNS);
}

/* How the task names a side, else how it was given. */
static const char *shown(const char *fact, const struct task_side *side)
{
    return *fact ? fact : side->uri.shown;
}

static const char *shown_file(const char *file)
{
    return strcmp(file, "-") == 0 ? "standard input" : file;
}

static void put_side(struct text *t, const char *which, const char *server, const char *where)
{
    char words[300];
    snprintf(words, sizeof(words), "%s%s%s", server, *server ? ", " : "", where);
    text_printf(t, "%-8s", which);
    text_wrap(t, text_make_plain(words), 8, COLUMNS);
}

void summary_table(const struct summary *s, struct text *t)
{
    put_side(t, "source", s->facts->source_name,
             s->cfg->file ? shown_file(s->cfg->file)
                          : shown(s->facts->source_shown, &s->cfg->source));
    if (s->cfg->backup)
        put_side(t, "file", "", s->cfg->backup);
    else
        put_side(t, "target", s->facts->target_name,
                 shown(s->facts->target_shown, &s->cfg->target));
    text_add(t, "\n");
    put_databases(s, t);
    put_phases(s, t);
    put_sentence(s, t);
}

static void json_side(struct text *t, const char *which, const char *server, const char *where)
{
    text_json_name(t, which);
    text_json_open(t, '{');
    text_json_text(t, "uri", where);
    text_json_text(t, "server", *server ? server : NULL);
    text_add(t, "}");
}

static void json_databases(const struct summary *s, struct text *t)
{
    text_json_name(t, "databases");
    text_json_open(t, '[');
    for (unsigned i = 0; i < COUNTERS_DBS; i++) {
        const struct metrics_db *d = &s->last->db[i];
        if (!metrics_db_used(d)) continue;
        text_json_open(t, '{');
        text_json_u64(t, "db", i);
        text_json_i64(t, "target_db", db_select_target(&s->cfg->select, i));
        text_json_u64(t, "keys", d->keys);
        text_json_u64(t, "skipped", d->skipped);
        text_json_u64(t, "bytes", d->bytes);
        text_json_u64(t, "commands", d->commands);
        text_json_u64(t, "errors", d->errors);
        text_add(t, "}");
    }
    text_add(t, "]");
}

static void json_phases(const struct summary *s, struct text *t)
{
    struct phase_row rows[PHASE_ROWS];
    unsigned n = find_phases(s, rows);
    text_json_name(t, "phases");
    text_json_open(t, '[');
    for (unsigned i = 0; i < n; i++) {
        text_json_open(t, '{');
        text_json_text(t, "phase", rows[i].name);
        text_json_i64(t, "elapsed_ms", (int64_t)(rows[i].seconds * 1000 + 0.5));
        if (rows[i].has_keys) text_json_u64(t, "keys", rows[i].keys);
        if (rows[i].has_commands) text_json_u64(t, "commands", rows[i].commands);
        text_json_u64(t, "bytes", rows[i].bytes);
        text_add(t, "}");
    }
    text_add(t, "]");
}

void summary_json(const struct summary *s, struct text *t)
{
    const struct metrics *m = s->last;
    text_json_open(t, '{');
    text_json_text(t, "event", "summary");
    text_json_i64(t, "wall_ms", m->wall_ms);
    text_json_i64(t, "elapsed_ms", m->mono_ms - s->first->mono_ms);
    text_json_text(t, "outcome", summary_outcome_name(s->outcome));
    text_json_i64(t, "exit_status", s->exit_status);
    text_json_text(t, "error", s->err && s->err->code != ERR_STOPPED ? s->err->msg : NULL);
    text_json_text(t, "phase", metrics_phase_name(m->phase, s->cfg->file));
    if (s->cfg->file)
        metrics_json_file(t, "source", s->cfg->file);
    else
        json_side(t, "source", s->facts->source_name,
                  shown(s->facts->source_shown, &s->cfg->source));
    if (s->cfg->backup)
        metrics_json_file(t, "target", s->cfg->backup);
    else
        json_side(t, "target", s->facts->target_name,
                  shown(s->facts->target_shown, &s->cfg->target));
    text_json_u64(t, "keys", m->keys_written);
    text_json_u64(t, "keys_skipped", m->keys_skipped);
    text_json_u64(t, "commands", m->commands_written);
    text_json_u64(t, "errors", m->errors);
    text_json_u64(t, "retries", m->retries);
    text_json_u64(t, "lag_bytes", m->lag_bytes);
    json_phases(s, t);
    json_databases(s, t);
    metrics_json_shards(t, s->shards);
    text_add(t, "}\n");
}
