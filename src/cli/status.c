// SPDX-License-Identifier: BSD-3-Clause
// `keyhaul status`: the tasks of a state dir, as a table, one of them in full, or as JSON.
#include "base/clock.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/progress_shards.h"
#include "control/state.h"
#include "control/text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS  80
#define TEXT_MAX (16u << 20)

enum column { RUNS = 24, PHASE = 33, LAG = 45, KEYS = 55, ERRORS = 66, HEARD = 74 };

struct status {
    const struct option_values *options;
    const char *state_dir;
    int64_t now_ms;
    unsigned tasks;
    struct text text;
};

/* --- words of one task --- */

static const char *phase_of(const struct state_seen *t)
{
    if (t->running) return *t->phase ? t->phase : state_phase_name(t->progress.phase);
    if (*t->outcome) return t->outcome;
    return "killed"; /* no run ends in order without saying how */
}

static const char *runs(const struct state_seen *t, char *out, size_t size)
{
    if (!t->running) return "no";
    if (!t->pid) return "yes";
    snprintf(out, size, "%ld", t->pid);
    return out;
}

/* Seven digits in full, more in millions. */
static const char *count(char *out, size_t size, int64_t n)
{
    if (n < 0) return "-";
    if (n < 10000000) return num_human_count(out, size, (uint64_t)n);
    snprintf(out, size, n < 10000000000 ? "%.1f M" : "%.0f M", (double)n / 1e6);
    return out;
}

static const char *ago(char *out, size_t size, int64_t now_ms, int64_t then_ms)
{
    int64_t s = (now_ms - then_ms) / 1000;
    if (then_ms < 0) return "-";
    if (s < 1) return "now";
    if (s < 120)
        snprintf(out, size, "%lld s", (long long)s);
    else if (s < 120 * 60)
        snprintf(out, size, "%lld m", (long long)s / 60);
    else if (s < 48 * 3600)
        snprintf(out, size, "%lld h", (long long)s / 3600);
    else
        snprintf(out, size, "%lld d", (long long)s / 86400);
    return out;
}

/* What the last run said: how far a source has gone on since, nobody knows. */
static const char *lag(char *out, size_t size, const struct state_seen *t)
{
    if (!t->running || t->lag_bytes < 0) return "-";
    return num_human_bytes(out, size, (uint64_t)t->lag_bytes);
}

/* "source is lost, called again; given up in 11 h 59 min: connection refused", "" for nothing. */
static const char *waits(char *out, size_t size, const struct state_seen *t, int64_t now_ms)
{
    char left[32];
    const char *what = progress_waiting((uint64_t)t->waiting_for);
    *out = 0;
    if (!what) return out;
    double left_s = (double)(t->waiting_until_ms - now_ms) / 1000;
    snprintf(out, size, "%s; given up in %s%s%s", what,
             progress_time(left, sizeof(left), left_s > 0 ? left_s : 0),
             *t->waiting_why ? ": " : "", t->waiting_why);
    return out;
}

/* --- the table --- */

static void put_header(struct text *t)
{
    text_add(t, "task");
    text_to_column(t, RUNS);
    text_add(t, "process");
    text_to_column(t, PHASE);
    text_add(t, "phase");
    text_to_column(t, LAG);
    text_add(t, "lag");
    text_to_column(t, KEYS);
    text_add(t, "keys");
    text_to_column(t, ERRORS);
    text_add(t, "errors");
    text_to_column(t, HEARD);
    text_add(t, "heard\n");
}

static void put_cell(struct text *t, enum column at, const char *words)
{
    text_to_column(t, at);
    text_add(t, words);
}

static void put_words(struct text *t, const char *what, const char *words)
{
    char line[400];
    snprintf(line, sizeof(line), "%s%s", what, words);
    text_add(t, "    ");
    text_wrap(t, line, 4, COLUMNS);
}

static void put_row(struct text *t, const struct state_seen *seen, int64_t now_ms)
{
    char words[32], waiting[400];
    text_add(t, seen->name);
    if (strlen(seen->name) + 2 > RUNS) text_add(t, "\n");
    put_cell(t, RUNS, runs(seen, words, sizeof(words)));
    put_cell(t, PHASE, phase_of(seen));
    put_cell(t, LAG, lag(words, sizeof(words), seen));
    put_cell(t, KEYS, count(words, sizeof(words), seen->keys));
    put_cell(t, ERRORS, count(words, sizeof(words), seen->errors));
    put_cell(t, HEARD, ago(words, sizeof(words), now_ms, seen->updated_ms));
    text_add(t, "\n");
    if (!seen->running && *seen->error) put_words(t, "", seen->error);
    if (*waits(waiting, sizeof(waiting), seen, now_ms)) put_words(t, "", waiting);
}

static int add_row(struct status *s, const struct state_seen *seen)
{
    if (s->tasks == 0) put_header(&s->text);
    if (!seen->damaged) {
        put_row(&s->text, seen, s->now_ms);
        return 0;
    }
    text_printf(&s->text, "%s\n", seen->name);
    put_words(&s->text, seen->running ? "runs, but damaged: " : "damaged: ", seen->why);
    return 0;
}

/* --- one task in full --- */

#define FULL 12

static void put_line(struct text *t, const char *name, const char *words)
{
    text_add(t, name);
    text_to_column(t, FULL);
    text_wrap(t, words, FULL, COLUMNS);
}

static void put_lag(struct text *t, const struct state_seen *seen)
{
    char words[80], bytes[32], time[32];
    if (!seen->running || seen->lag_bytes < 0 || seen->lag_ms < 0) return;
    snprintf(words, sizeof(words), "%s, %s",
             num_human_bytes(bytes, sizeof(bytes), (uint64_t)seen->lag_bytes),
             progress_time(time, sizeof(time), (double)seen->lag_ms / 1000));
    put_line(t, "lag", words);
}

static void put_count(struct text *t, const char *name, int64_t n)
{
    char words[32];
    if (n >= 0) put_line(t, name, num_human_count(words, sizeof(words), (uint64_t)n));
}

static void put_end(struct text *t, const struct state_seen *seen)
{
    char words[400];
    if (seen->running) return;
    snprintf(words, sizeof(words), "%s%s%s", phase_of(seen), *seen->error ? ": " : "", seen->error);
    put_line(t, "ended", words);
}

static void put_heard(struct status *s, const struct state_seen *seen)
{
    char words[48], time[32];
    if (seen->updated_ms < 0) return;
    double ago_s = (double)(s->now_ms - seen->updated_ms) / 1000;
    snprintf(words, sizeof(words), "%s ago", progress_time(time, sizeof(time), ago_s));
    put_line(&s->text, "heard", words);
}

static void put_shard(void *ctx, const char *row)
{
    text_printf(ctx, "%s\n", row);
}

static void put_shards(struct status *s, const char *name)
{
    struct shards_look shards;
    state_see_shards(&shards, s->state_dir, name);
    if (shards.n) text_add(&s->text, "shards\n");
    progress_shards(&shards, shards.n, put_shard, &s->text);
    shards_look_release(&shards);
}

static int put_full(struct status *s, const struct state_seen *seen, const char *root)
{
    char words[PATH_MAX + STATE_NAME_MAX + 2], number[32], waiting[400];
    struct text *t = &s->text;
    put_line(t, "task", seen->name);
    snprintf(words, sizeof(words), "%s/%s", root, seen->name);
    put_line(t, "folder", words);
    if (seen->damaged) put_line(t, "damaged", seen->why);
    if (*seen->source) put_line(t, "source", seen->source);
    if (*seen->target) put_line(t, "target", seen->target);
    put_line(t, "process",
             seen->running && !seen->pid ? "of another container or machine"
                                         : runs(seen, number, sizeof(number)));
    if (seen->running) put_line(t, "phase", phase_of(seen));
    put_end(t, seen);
    if (*waits(waiting, sizeof(waiting), seen, s->now_ms)) put_line(t, "waits", waiting);
    put_lag(t, seen);
    put_count(t, "snapshots", (int64_t)seen->progress.snapshots);
    put_count(t, "keys", seen->keys);
    put_count(t, "commands", seen->commands);
    put_count(t, "errors", seen->errors);
    put_heard(s, seen);
    put_shards(s, seen->name);
    return 0;
}

/* --- JSON --- */

static void json_flag(struct text *t, const char *name, bool flag)
{
    text_json_name(t, name);
    text_add(t, flag ? "true" : "false");
}

static void json_known(struct text *t, const char *name, int64_t n)
{
    if (n >= 0)
        text_json_i64(t, name, n);
    else
        text_json_text(t, name, NULL);
}

static void json_words(struct text *t, const char *name, const char *words)
{
    text_json_text(t, name, *words ? words : NULL);
}

static void json_waiting(struct text *t, const struct state_seen *seen, int64_t now_ms)
{
    const char *what = progress_waiting((uint64_t)seen->waiting_for);
    int64_t left = seen->waiting_until_ms - now_ms;
    text_json_text(t, "waiting", what);
    json_words(t, "waiting_why", seen->waiting_why);
    json_known(t, "waiting_left_ms", !what ? -1 : left > 0 ? left : 0);
}

static void put_json(struct status *s, const struct state_seen *seen, int64_t now_ms)
{
    struct text *t = &s->text;
    struct shards_look shards;
    text_json_open(t, '{');
    text_json_text(t, "task", seen->name);
    json_flag(t, "running", seen->running);
    json_known(t, "pid", seen->pid ? seen->pid : -1);
    json_words(t, "damaged", seen->damaged ? seen->why : "");
    json_words(t, "source", seen->source);
    json_words(t, "target", seen->target);
    text_json_text(t, "state", seen->damaged ? NULL : state_phase_name(seen->progress.phase));
    text_json_u64(t, "snapshots", seen->progress.snapshots);
    json_words(t, "phase", seen->phase);
    json_words(t, "outcome", seen->outcome);
    json_words(t, "error", seen->error);
    json_waiting(t, seen, now_ms);
    json_known(t, "lag_bytes", seen->lag_bytes);
    json_known(t, "lag_ms", seen->lag_ms);
    json_known(t, "keys", seen->keys);
    json_known(t, "commands", seen->commands);
    json_known(t, "errors", seen->errors);
    json_known(t, "wall_ms", seen->updated_ms);
    state_see_shards(&shards, s->state_dir, seen->name);
    metrics_json_shards(t, &shards);
    shards_look_release(&shards);
    text_add(t, "}\n");
}

/* --- the command --- */

static bool is_json(const struct status *s)
{
    return options_choice(s->options, OPTION_STATUS_OUTPUT) == 1;
}

static int add(void *ctx, const struct state_seen *seen, struct err *err)
{
    struct status *s = ctx;
    (void)err;
    if (is_json(s))
        put_json(s, seen, s->now_ms);
    else
        add_row(s, seen);
    s->tasks++;
    return 0;
}

static int add_one(struct status *s, const char *name, struct err *err)
{
    struct state_seen seen;
    char root[PATH_MAX];
    if (state_see(&seen, s->state_dir, name, err) < 0 ||
        state_root(root, sizeof(root), s->state_dir, err) < 0)
        return -1;
    return is_json(s) ? add(s, &seen, err) : put_full(s, &seen, root);
}

static int add_all(struct status *s, struct err *err)
{
    char root[PATH_MAX];
    if (state_each(s->state_dir, add, s, err) < 0 ||
        state_root(root, sizeof(root), s->state_dir, err) < 0)
        return -1;
    if (s->tasks == 0 && !is_json(s)) text_printf(&s->text, "no tasks in %s\n", root);
    return 0;
}

static int status(const struct option_values *v)
{
    struct err err = {0};
    const char *name = options_text(v, OPTION_TASK_NAME_MAYBE);
    struct status s = {
        .options = v, .state_dir = options_text(v, OPTION_STATE_DIR), .now_ms = clock_wall_ms()};
    text_init(&s.text, TEXT_MAX);
    int rc = name ? add_one(&s, name, &err) : add_all(&s, &err), end;
    if (rc == 0) rc = text_result(&s.text, &err);
    if (rc < 0)
        end = err.code == ERR_USAGE ? cli_usage("status", &err) : cli_fail(&err);
    else
        end = s.text.buf.n ? cli_print(s.text.buf.p, s.text.buf.n) : 0;
    text_release(&s.text);
    return end;
}

int cli_status(int argc, char **argv)
{
    return cli_with_options(argc, argv, status);
}
