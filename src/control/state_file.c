// SPDX-License-Identifier: BSD-3-Clause
// The JSON files of a task's folder. What stands there may be damaged or not ours: all of it is
// checked, and words name the file and what is wrong with it.
#include "control/metrics.h"
#include "control/state_impl.h"

#include "io/file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)

int state_path(char ret[PATH_MAX], const char *dir, const char *name, struct err *err)
{
    if (snprintf(ret, PATH_MAX, "%s/%s", dir, name) < PATH_MAX) return 0;
    return err_set(err, ERR_USAGE, "path is too long: %.300s", dir);
}

/* --- reading --- */

static int damaged(struct err *err, const char *path, const char *what)
{
    return err_set(err, ERR_FORMAT, "%.300s is damaged: %s", path, what);
}

static int parse(json_t **ret, const char *path, const struct buf *text, struct err *err)
{
    json_error_t why;
    json_t *made = json_loadb((const char *)text->p, text->n, JSON_REJECT_DUPLICATES, &why);
    if (!made) {
        text_make_plain(why.text);
        return err_set(err, ERR_FORMAT, "%.300s is damaged: line %d: %s", path, why.line, why.text);
    }
    if (json_is_object(made)) {
        *ret = made;
        return 1;
    }
    json_decref(made);
    return damaged(err, path, "it holds no JSON object");
}

/* 1; 0: no such file. */
static int load(json_t **ret, const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, FILE_MAX);
    int rc = file_read_whole(path, &text, err);
    if (rc == 1) rc = parse(ret, path, &text, err);
    buf_release(&text);
    return rc;
}

/* One field after the other; the first that is wrong is kept, so that what reads a file reads like
 * the file. */
struct fields {
    const json_t *of;
    const char *wrong;
};

static json_t *field(struct fields *f, const char *name)
{
    json_t *v = json_object_get(f->of, name);
    if (!v && !f->wrong) f->wrong = name;
    return v;
}

static const char *get_text(struct fields *f, const char *name)
{
    const char *text = json_string_value(field(f, name));
    if (text) return text;
    if (!f->wrong) f->wrong = name;
    return "";
}

/* Folders of before there was such a field are gone on with. */
static bool is_told(const struct fields *f, const char *name)
{
    return json_object_get(f->of, name) != NULL;
}

static int64_t get_number(struct fields *f, const char *name)
{
    const json_t *v = field(f, name);
    if (json_is_integer(v) && json_integer_value(v) >= 0) return json_integer_value(v);
    if (!f->wrong) f->wrong = name;
    return 0;
}

static bool get_flag(struct fields *f, const char *name)
{
    const json_t *v = field(f, name);
    if (!json_is_boolean(v) && !f->wrong) f->wrong = name;
    return json_is_true(v);
}

/* Exactly n hexadecimal digits, or none where that is allowed. */
static void get_hex(struct fields *f, const char *name, char *ret, size_t n, bool may_be_empty)
{
    const char *text = get_text(f, name);
    size_t len = strspn(text, "0123456789abcdef");
    ret[0] = 0;
    if (!text[len] && (len == n || (len == 0 && may_be_empty)))
        memcpy(ret, text, len + 1);
    else if (!f->wrong)
        f->wrong = name;
}

static int check_fields(const struct fields *f, const char *path, struct err *err)
{
    if (!f->wrong) return 0;
    return err_set(err, ERR_FORMAT, "%.300s is damaged: \"%s\" is missing or not what it must be",
                   path, f->wrong);
}

static int check_schema(const json_t *of, const char *path, struct err *err)
{
    struct fields f = {.of = of};
    int64_t schema = get_number(&f, "schema");
    if (!f.wrong && schema > STATE_SCHEMA)
        return err_set(err, ERR_FORMAT, "%.300s was written by a later version of keyhaul", path);
    return check_fields(&f, path, err);
}

/* --- task.json --- */

void state_task_release(struct state_task *t)
{
    state_shape_release(&t->shape);
    json_decref(t->options);
    *t = (struct state_task){0};
}

static void put_flag(struct text *t, const char *name, bool flag)
{
    text_json_name(t, name);
    text_add(t, flag ? "true" : "false");
}

static void put_options(struct text *t, json_t *options)
{
    const char *name;
    json_t *value;
    text_json_name(t, "options");
    text_json_open(t, '{');
    json_object_foreach(options, name, value) text_json_text(t, name, json_string_value(value));
    text_add(t, "}");
}

void state_task_put(struct text *t, const char *name, const struct state_task *task)
{
    text_json_open(t, '{');
    text_json_u64(t, "schema", STATE_SCHEMA);
    text_json_text(t, "version", KEYHAUL_VERSION);
    text_json_text(t, "task", name);
    text_json_text(t, "id", task->id);
    text_json_i64(t, "created_ms", task->created_ms);
    for (int f = 0; f < STATE_SHAPE_FIELDS; f++)
        text_json_text(t, state_shape_json((enum state_shape_field)f), task->shape.text[f]);
    put_flag(t, "source_login", task->source_login);
    put_flag(t, "target_login", task->target_login);
    put_options(t, task->options);
    text_add(t, "}\n");
}

static int read_shape(struct state_shape *ret, struct fields *f, struct err *err)
{
    for (int i = 0; i < STATE_SHAPE_FIELDS; i++) {
        ret->text[i] = strdup(get_text(f, state_shape_json((enum state_shape_field)i)));
        if (!ret->text[i]) return err_set(err, ERR_NOMEM, "out of memory");
    }
    return 0;
}

static void read_options(struct state_task *ret, struct fields *f)
{
    const char *name;
    json_t *value, *options = field(f, "options");
    if (!json_is_object(options) && !f->wrong) f->wrong = "options";
    json_object_foreach(options, name, value) if (!json_is_string(value) && !f->wrong)
        f->wrong = "options";
    ret->options = json_incref(options);
}

static int read_task(struct state_task *ret, const json_t *of, const char *path, struct err *err)
{
    struct fields f = {.of = of};
    if (check_schema(of, path, err) < 0 || read_shape(&ret->shape, &f, err) < 0) return -1;
    get_hex(&f, "id", ret->id, STATE_ID_CHARS, false);
    ret->created_ms = get_number(&f, "created_ms");
    ret->source_login = get_flag(&f, "source_login");
    ret->target_login = get_flag(&f, "target_login");
    read_options(ret, &f);
    return check_fields(&f, path, err);
}

int state_task_read(struct state_task *ret, const char *dir, struct err *err)
{
    struct state_task made = {0};
    char path[PATH_MAX];
    json_t *json = NULL;
    if (state_path(path, dir, "task.json", err) < 0) return -1;
    int rc = load(&json, path, err);
    if (rc == 1 && read_task(&made, json, path, err) < 0) rc = -1;
    if (rc == 1)
        *ret = made;
    else
        state_task_release(&made);
    json_decref(json);
    return rc;
}

/* --- state.json --- */

static const char *const phase_name[] = {
    [STATE_NEW] = "new",
    [STATE_LOADING] = "loading",
    [STATE_STREAM] = "stream",
    [STATE_DONE] = "done",
};

#define PHASES (sizeof(phase_name) / sizeof(phase_name[0]))

const char *state_phase_name(enum state_phase phase)
{
    return phase < PHASES ? phase_name[phase] : "unknown";
}

void state_progress_put(struct text *t, const struct state_progress *p, const char *spool_dir)
{
    char seed[17];
    snprintf(seed, sizeof(seed), "%016llx", (unsigned long long)p->seed);
    text_json_open(t, '{');
    text_json_u64(t, "schema", STATE_SCHEMA);
    text_json_text(t, "phase", state_phase_name(p->phase));
    text_json_u64(t, "snapshots", p->snapshots);
    text_json_text(t, "replid", p->replid);
    text_json_text(t, "replid_before", p->replid_before);
    text_json_text(t, "spool_dir", spool_dir);
    put_flag(t, "spool_valid", p->spool_valid);
    text_json_u64(t, "spool_pos", p->spool_pos);
    text_json_u64(t, "spool_offset", p->spool_offset);
    put_flag(t, "clean", p->clean);
    put_flag(t, "import_ours", p->import_ours);
    text_json_i64(t, "hold_base_ms", p->hold_base_ms);
    text_json_u64(t, "keys_before", p->keys_before);
    text_json_u64(t, "commands_before", p->commands_before);
    text_json_text(t, "seed", seed);
    text_json_u64(t, "refused", p->refused);
    text_add(t, "}\n");
}

static enum state_phase get_phase(struct fields *f)
{
    const char *name = get_text(f, "phase");
    for (unsigned i = 0; i < PHASES; i++)
        if (strcmp(name, phase_name[i]) == 0) return (enum state_phase)i;
    if (!f->wrong) f->wrong = "phase";
    return STATE_NEW;
}

static int read_progress(struct state_progress *ret, char spool_dir[PATH_MAX], const json_t *of,
                         const char *path, struct err *err)
{
    struct fields f = {.of = of};
    struct state_progress p = {0};
    char seed[17];
    if (check_schema(of, path, err) < 0) return -1;
    p.phase = get_phase(&f);
    p.snapshots = (uint64_t)get_number(&f, "snapshots");
    get_hex(&f, "replid", p.replid, sizeof(p.replid) - 1, true);
    if (is_told(&f, "replid_before"))
        get_hex(&f, "replid_before", p.replid_before, sizeof(p.replid_before) - 1, true);
    p.spool_valid = get_flag(&f, "spool_valid");
    p.spool_pos = (uint64_t)get_number(&f, "spool_pos");
    p.spool_offset = (uint64_t)get_number(&f, "spool_offset");
    p.clean = get_flag(&f, "clean");
    if (is_told(&f, "import_ours")) p.import_ours = get_flag(&f, "import_ours");
    p.hold_base_ms = get_number(&f, "hold_base_ms");
    if (is_told(&f, "keys_before")) p.keys_before = (uint64_t)get_number(&f, "keys_before");
    if (is_told(&f, "commands_before"))
        p.commands_before = (uint64_t)get_number(&f, "commands_before");
    if (is_told(&f, "refused")) p.refused = (uint64_t)get_number(&f, "refused");
    get_hex(&f, "seed", seed, sizeof(seed) - 1, false);
    p.seed = strtoull(seed, NULL, 16);
    snprintf(spool_dir, PATH_MAX, "%s", get_text(&f, "spool_dir"));
    if (check_fields(&f, path, err) < 0) return -1;
    *ret = p;
    return 1;
}

int state_progress_read(struct state_progress *ret, char spool_dir[PATH_MAX], const char *dir,
                        struct err *err)
{
    char path[PATH_MAX];
    json_t *json = NULL;
    if (state_path(path, dir, "state.json", err) < 0) return -1;
    int rc = load(&json, path, err);
    if (rc == 1) rc = read_progress(ret, spool_dir, json, path, err);
    json_decref(json);
    return rc;
}

/* --- metrics.json --- */

static void copy_text(char *ret, size_t size, const json_t *of, const char *name)
{
    const char *text = json_string_value(json_object_get(of, name));
    snprintf(ret, size, "%s", text ? text : "");
    text_make_plain(ret);
}

static int64_t figure(const json_t *of, const char *name)
{
    const json_t *v = json_object_get(of, name);
    return json_is_integer(v) && json_integer_value(v) >= 0 ? json_integer_value(v) : -1;
}

/* It is not synced, and tells nothing that a task depends on: as good as not there. */
static json_t *load_metrics(const char *dir)
{
    char path[PATH_MAX];
    struct err err;
    json_t *json = NULL;
    if (state_path(path, dir, "metrics.json", &err) < 0 || load(&json, path, &err) < 0) return NULL;
    return json;
}

/* Sum of two, or the first where the second is not told. */
static int64_t sum(const json_t *of, const char *name, const char *before)
{
    int64_t n = figure(of, name), more = figure(of, before), ret;
    return n < 0 || more < 0 || __builtin_add_overflow(n, more, &ret) ? n : ret;
}

void state_moved_read(struct state_progress *p, const char *dir)
{
    json_t *json = load_metrics(dir);
    const json_t *counters = json_object_get(json, "counters");
    int64_t keys = sum(counters, "keys_written", "keys_before");
    int64_t commands = sum(counters, "commands_written", "commands_before");
    if (keys >= 0) p->keys_before = (uint64_t)keys;
    if (commands >= 0) p->commands_before = (uint64_t)commands;
    json_decref(json);
}

static void read_waiting(struct state_seen *ret, const json_t *of, const json_t *counters)
{
    int64_t until = figure(counters, "waiting_until_ms"), mono = figure(of, "mono_ms");
    ret->waiting_for = ret->running && !*ret->outcome ? figure(counters, "waiting_for") : 0;
    if (ret->waiting_for <= 0 || until < 0 || mono < 0 || ret->updated_ms < 0) {
        ret->waiting_for = 0;
        return;
    }
    ret->waiting_until_ms = ret->updated_ms + (until > mono ? until - mono : 0);
    copy_text(ret->waiting_why, sizeof(ret->waiting_why), of, "waiting_why");
}

void state_metrics_read(struct state_seen *ret, const char *dir)
{
    json_t *json = load_metrics(dir);
    const json_t *counters = json_object_get(json, "counters");
    copy_text(ret->phase, sizeof(ret->phase), json, "phase");
    copy_text(ret->outcome, sizeof(ret->outcome), json, "outcome");
    copy_text(ret->error, sizeof(ret->error), json, "error");
    int64_t snapshots = figure(counters, "snapshots"); /* those of shards are in their folders */
    if (snapshots > (int64_t)ret->progress.snapshots) ret->progress.snapshots = (uint64_t)snapshots;
    ret->lag_bytes = figure(counters, "lag_bytes");
    ret->lag_ms = figure(counters, "lag_ms");
    ret->keys = sum(counters, "keys_written", "keys_before");
    ret->commands = sum(counters, "commands_written", "commands_before");
    ret->errors = figure(counters, "errors");
    ret->updated_ms = figure(json, "wall_ms");
    read_waiting(ret, json, counters);
    json_decref(json);
}

static uint64_t count(const json_t *of, const char *name)
{
    int64_t n = figure(of, name);
    return n < 0 ? 0 : (uint64_t)n;
}

static void read_shard(struct shard_look *s, const json_t *of)
{
    char phase[24];
    copy_text(s->address, sizeof(s->address), of, "address");
    copy_text(phase, sizeof(phase), of, "phase");
    s->ended = strcmp(phase, "ended") == 0;
    while (s->phase < PHASE_DONE && strcmp(phase, metrics_phase_name(s->phase, false)) != 0)
        s->phase++;
    s->number = (unsigned)count(of, "shard");
    s->slots = (unsigned)count(of, "slots");
    s->waiting_for = count(of, "waiting_for");
    s->lag_bytes = count(of, "lag_bytes");
    s->lag_ms = count(of, "lag_ms");
    s->slots_unsettled = count(of, "slots_unsettled");
    s->keys_written = count(of, "keys_written");
    s->keys_skipped = count(of, "keys_skipped");
    s->commands_written = count(of, "commands_written");
    s->errors = count(of, "errors");
    s->bytes_read = count(of, "bytes_read");
    s->bytes_waiting = count(of, "bytes_waiting");
    s->snapshot_bytes_total = count(of, "snapshot_bytes_total");
    s->snapshot_bytes_decoded = count(of, "snapshot_bytes_decoded");
    s->source_offset = count(of, "source_offset");
    s->received_offset = count(of, "received_offset");
    s->applied_offset = count(of, "applied_offset");
    double per_s = json_number_value(json_object_get(of, "per_s"));
    s->per_s = per_s > 0 ? per_s : 0;
}

void state_shards_read(struct shards_look *ret, const char *dir)
{
    json_t *json = load_metrics(dir);
    const json_t *list = json_object_get(json, "shards");
    size_t n = json_array_size(list);
    if (n && n <= UINT16_MAX) ret->item = calloc(n, sizeof(*ret->item));
    for (size_t i = 0; ret->item && i < n; i++)
        read_shard(&ret->item[ret->n++], json_array_get(list, i));
    json_decref(json);
}
