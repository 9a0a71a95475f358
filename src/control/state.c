// SPDX-License-Identifier: BSD-3-Clause
// The folder of a task: made, locked, known again, saved, removed.
#include "control/state_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES  (STATE_NAME_MAX + 12)
#define FILE_MAX    (1u << 20)
#define TREE_DEPTH  8  /* what we make is two deep; a folder that goes on is not ours */
#define TAKE_ROUNDS 10 /* the folder was removed just then, by the run before */

struct state {
    char name[NAME_BYTES]; /* of a shard: "<task>/<number>" */
    char root[PATH_MAX], dir[PATH_MAX], spool[PATH_MAX], existing[PATH_MAX], metrics[PATH_MAX];
    char finish[PATH_MAX], taken[PATH_MAX];
    char gone[PATH_MAX]; /* what a removal that was cut short leaves */
    int lock;            /* -1: not held */
    bool known;
    bool part; /* of the folder of a task, which goes with that one */
    atomic_bool asked, is_taken;
    char id[STATE_ID_CHARS + 1];
    int64_t created_ms;
    struct state_progress progress;
    struct text saved, now; /* state.json as it is on disk, as it is to be */
};

/* --- paths --- */

int state_root(char *ret, size_t size, const char *state_dir, struct err *err)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (state_dir)
        n = snprintf(ret, size, "%s", state_dir);
    else if (xdg && *xdg == '/') /* the XDG rules have others ignored */
        n = snprintf(ret, size, "%s/keyhaul", xdg);
    else if (home && *home)
        n = snprintf(ret, size, "%s/.local/state/keyhaul", home);
    else
        return err_set(err, ERR_USAGE,
                       "--state-dir: missing, and neither XDG_STATE_HOME nor HOME tells where the "
                       "state of tasks could be kept");
    if (n >= 0 && (size_t)n < size) return 0;
    return err_set(err, ERR_USAGE, "--state-dir: the path is too long");
}

static int fill_paths(struct state *s, const struct task_config *cfg, struct err *err)
{
    char gone[NAME_BYTES + 8];
    if (state_task_name(s->name, cfg, err) < 0 ||
        state_root(s->root, sizeof(s->root), cfg->state_dir, err) < 0)
        return -1;
    snprintf(gone, sizeof(gone), ".%s.gone", s->name);
    if (state_path(s->dir, s->root, s->name, err) < 0 ||
        state_path(s->gone, s->root, gone, err) < 0 ||
        state_path(s->existing, s->dir, "existing.keys", err) < 0 ||
        state_path(s->metrics, s->dir, "metrics.json", err) < 0 ||
        state_path(s->finish, s->dir, "finish", err) < 0 ||
        state_path(s->taken, s->dir, "finish.taken", err) < 0)
        return -1;
    return 0;
}

/* Two tasks may be given the same --spool-dir. */
static int place_spool(struct state *s, const struct task_config *cfg, struct err *err)
{
    char name[NAME_BYTES + STATE_ID_CHARS + 2];
    if (!cfg->spool_dir) return state_path(s->spool, s->dir, "spool", err);
    snprintf(name, sizeof(name), "%s-%s", s->name, s->id);
    return state_path(s->spool, cfg->spool_dir, name, err);
}

/* --- taking away --- */

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* As far as it goes: what cannot be removed is found again by whoever makes the folder next. Links
 * are removed, not followed. `keep`: NULL or names of entries at the top that stay, with the
 * folder. */
static void remove_tree(const char *path, const char *const keep[2], unsigned depth)
{
    char sub[PATH_MAX];
    struct err err;
    struct stat st;
    DIR *d = depth ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (is_dots(e->d_name)) continue;
        if (keep && (strcmp(e->d_name, keep[0]) == 0 || strcmp(e->d_name, keep[1]) == 0)) continue;
        if (state_path(sub, path, e->d_name, &err) < 0 || lstat(sub, &st) < 0) continue;
        if (S_ISDIR(st.st_mode))
            remove_tree(sub, NULL, depth - 1);
        else
            unlink(sub);
    }
    if (d) closedir(d);
    if (!keep) rmdir(path);
}

/* What a run that was killed while it replaced a file left beside it. */
static void sweep_temporary(const char *dir)
{
    char path[PATH_MAX];
    struct err err;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".tmp") == 0 &&
            state_path(path, dir, e->d_name, &err) == 0)
            unlink(path);
    }
    if (d) closedir(d);
}

/* At once for whoever looks, by its name. */
static void remove_folder(struct state *s)
{
    remove_tree(s->gone, NULL, TREE_DEPTH);
    if (rename(s->dir, s->gone) < 0) {
        log_warn("cannot remove %s: %s", s->dir, strerror(errno));
        return;
    }
    struct err err;
    if (file_sync_parent(s->dir, &err) < 0) log_warn("%s", err.msg);
    remove_tree(s->spool, NULL, 2);
    remove_tree(s->gone, NULL, TREE_DEPTH);
}

/* --- making --- */

/* What a folder tells that was there already. */
struct before {
    struct state_task task;
    struct state_progress progress;
    char spool_dir[PATH_MAX];
};

static int take(struct state *s, struct err *err)
{
    bool gone = true;
    if (file_make_dirs(s->root, err) < 0) return err_wrap(err, "--state-dir");
    for (unsigned i = 0; i < TAKE_ROUNDS && gone; i++) {
        if (file_make_dir(s->dir, err) < 0) return err_wrap(err, "--state-dir");
        s->lock = state_lock_take(s->dir, s->name, &gone, err);
        if (s->lock >= 0) return file_sync_parent(s->dir, err);
    }
    return -1;
}

static int make_random(void *p, size_t n, struct err *err)
{
    if (getrandom(p, n, 0) == (ssize_t)n) return 0;
    return err_set(err, ERR_IO, "cannot get random bytes: %s", strerror(errno));
}

/* First it is said that nothing here counts, then it goes. */
static int make_new(struct state *s, const struct task_config *cfg, const struct before *before,
                    struct err *err)
{
    static const char *const keep[] = {"lock", "state.json"};
    uint64_t id;
    s->progress = (struct state_progress){.clean = true};
    s->created_ms = clock_wall_ms();
    if (make_random(&id, sizeof(id), err) < 0 ||
        make_random(&s->progress.seed, sizeof(s->progress.seed), err) < 0)
        return -1;
    snprintf(s->id, sizeof(s->id), "%016llx", (unsigned long long)id);
    /* what is outside of the folder is found again by it */
    if (*before->task.id) memcpy(s->id, before->task.id, sizeof(s->id));
    if (place_spool(s, cfg, err) < 0 || state_save(s, err) < 0) return -1;
    remove_tree(s->dir, keep, TREE_DEPTH);
    remove_tree(s->spool, NULL, 2);
    return 0;
}

/* --- knowing again --- */

/* 1: it ran before, and came so far that it counts. state.json is written first, task.json removed
 * last: where one of them is missing, the phase tells whether that can be. */
static int read_before(const struct state *s, struct before *ret, struct err *err)
{
    int state = state_progress_read(&ret->progress, ret->spool_dir, s->dir, err);
    int task = state < 0 ? -1 : state_task_read(&ret->task, s->dir, err);
    if (task < 0) return -1;
    if (state && (ret->progress.phase == STATE_NEW || ret->progress.phase == STATE_DONE)) return 0;
    if (state == task) return state;
    return err_set(err, ERR_FORMAT, "%.300s is damaged: %s is missing", s->dir,
                   state ? "task.json" : "state.json");
}

static int tell_damaged(struct err *err)
{
    char words[sizeof(err->msg)];
    snprintf(words, sizeof(words), "%.400s", err->msg);
    return err_set(err, ERR_FORMAT,
                   "%s; --restart empties the task's folder and begins anew with a new snapshot, "
                   "--task with another name leaves it alone",
                   words);
}

static int tell_differs(const struct state *s, const struct text *words, struct err *err)
{
    return err_set(err, ERR_REFUSED,
                   "the task %s is another one (%.*s): give what it was begun with, another name "
                   "with --task, or --restart to begin anew",
                   s->name, words->buf.n > 300 ? 300 : (int)words->buf.n, (char *)words->buf.p);
}

/* Is it this task? 1; 0: no, but it may be emptied. */
static int compare(const struct state *s, const struct before *before,
                   const struct state_shape *shape, bool restart, struct err *err)
{
    struct text words;
    int rc = 1;
    text_init(&words, 4096);
    if (state_shape_differs(&before->task.shape, shape, &words)) {
        rc = restart ? 0 : tell_differs(s, &words, err);
        if (restart)
            log_info("the task was another one (%.*s): begun anew", (int)words.buf.n,
                     (char *)words.buf.p);
    }
    text_release(&words);
    return rc;
}

static int know(const struct state *s, struct before *before, const struct state_shape *shape,
                const struct task_config *cfg, struct err *err)
{
    int rc = read_before(s, before, err);
    if (rc >= 0) return rc == 1 ? compare(s, before, shape, cfg->restart, err) : 0;
    if (err->code != ERR_FORMAT && err->code != ERR_LIMIT) return -1;
    if (!cfg->restart) return tell_damaged(err);
    log_warn("%s: the task is begun anew", err->msg);
    return 0;
}

static void go_on(struct state *s, const struct before *before)
{
    s->progress = before->progress;
    state_moved_read(&s->progress, s->dir);
    s->created_ms = before->task.created_ms;
    memcpy(s->id, before->task.id, sizeof(s->id));
}

/* What stands in another place than the one given now is asked for again. */
static void check_spool_place(struct state *s, const struct before *before)
{
    if (!s->progress.spool_valid || strcmp(before->spool_dir, s->spool) == 0) return;
    log_info("the spool was in %s before; what waited there is asked for again", before->spool_dir);
    s->progress.spool_valid = false;
}

/* --- opening --- */

static int write_file(const struct state *s, const char *name, struct text *t, struct err *err)
{
    char path[PATH_MAX];
    if (text_result(t, err) < 0 || state_path(path, s->dir, name, err) < 0) return -1;
    return file_write_private(path, buf_span(&t->buf), true, err);
}

static int write_task(struct state *s, const struct state_shape *shape,
                      const struct task_config *cfg, const struct option_values *options,
                      struct err *err)
{
    struct state_task task = {.created_ms = s->created_ms, .shape = *shape};
    struct text t;
    memcpy(task.id, s->id, sizeof(task.id));
    task.source_login = cfg->source.password || cfg->source.uri.password;
    task.target_login = cfg->target.password || cfg->target.uri.password;
    if (state_keep_options(&task.options, options, err) < 0) return -1;
    text_init(&t, FILE_MAX);
    state_task_put(&t, s->name, &task);
    int rc = write_file(s, "task.json", &t, err);
    text_release(&t);
    json_decref(task.options);
    return rc;
}

static int make_spool(const struct state *s, const struct task_config *cfg, struct err *err)
{
    if (cfg->spool_dir && file_make_dir(cfg->spool_dir, err) < 0)
        return err_wrap(err, "spool directory");
    return file_make_dir(s->spool, err) < 0 ? err_wrap(err, "spool directory") : 0;
}

static int begin(struct state *s, struct before *before, struct state_shape *shape,
                 const struct task_config *cfg, struct err *err)
{
    int known = know(s, before, shape, cfg, err);
    if (known < 0) return -1;
    if (known)
        go_on(s, before);
    else if (make_new(s, cfg, before, err) < 0)
        return -1;
    if (place_spool(s, cfg, err) < 0 || make_spool(s, cfg, err) < 0) return -1;
    if (known) check_spool_place(s, before);
    s->known = known;
    return 0;
}

static int open_folder(struct state *s, const struct task_config *cfg,
                       const struct option_values *options, struct err *err)
{
    struct before *before = calloc(1, sizeof(*before));
    struct state_shape shape = {0};
    if (!before) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = take(s, err);
    if (rc == 0) {
        sweep_temporary(s->dir);
        unlink(s->finish); /* asked of a process before this one */
        unlink(s->taken);
        remove_tree(s->gone, NULL, TREE_DEPTH);
        rc = state_shape_make(&shape, cfg, err);
    }
    if (rc == 0) rc = begin(s, before, &shape, cfg, err);
    if (rc == 0) rc = state_save(s, err);
    if (rc == 0) rc = write_task(s, &shape, cfg, options, err);
    state_shape_release(&shape);
    state_task_release(&before->task);
    free(before);
    return rc;
}

static void release(struct state *s)
{
    if (s->lock >= 0) close(s->lock);
    text_release(&s->saved);
    text_release(&s->now);
    free(s);
}

int state_open(struct state **ret, const struct task_config *cfg,
               const struct option_values *options, struct err *err)
{
    struct state *s = calloc(1, sizeof(*s));
    if (!s) return err_set(err, ERR_NOMEM, "out of memory");
    s->lock = -1;
    text_init(&s->saved, FILE_MAX);
    text_init(&s->now, FILE_MAX);
    if (fill_paths(s, cfg, err) < 0 || open_folder(s, cfg, options, err) < 0) {
        release(s);
        return -1;
    }
    *ret = s;
    return 0;
}

/* --- a shard's part of it --- */

static int fill_shard_paths(struct state *s, const struct state *task, unsigned number,
                            struct err *err)
{
    char name[16];
    snprintf(name, sizeof(name), "%u", number);
    snprintf(s->name, sizeof(s->name), "%.*s/%u", STATE_NAME_MAX, task->name, number);
    if (state_path(s->root, task->dir, "shards", err) < 0 ||
        state_path(s->dir, s->root, name, err) < 0 ||
        state_path(s->spool, task->spool, name, err) < 0 ||
        state_path(s->metrics, s->dir, "metrics.json", err) < 0)
        return -1;
    memcpy(s->existing, task->existing, sizeof(s->existing));
    return 0;
}

/* As know(), where the task itself is known to be the same. */
static int know_shard(struct state *s, struct before *before, bool restart, struct err *err)
{
    int rc = state_progress_read(&before->progress, before->spool_dir, s->dir, err);
    if (rc >= 0) return rc == 1 && before->progress.phase != STATE_NEW;
    if (err->code != ERR_FORMAT && err->code != ERR_LIMIT) return -1;
    if (!restart) return tell_damaged(err);
    log_warn("%s: the shard is begun anew", err->msg);
    return 0;
}

static int begin_shard(struct state *s, struct before *before, bool restart, struct err *err)
{
    if (file_make_dirs(s->dir, err) < 0 || file_make_dirs(s->spool, err) < 0) return -1;
    sweep_temporary(s->dir);
    int known = know_shard(s, before, restart, err);
    if (known < 0) return -1;
    s->known = known;
    if (known) {
        s->progress = before->progress;
        check_spool_place(s, before);
        return 0;
    }
    static const char *const none[] = {"", ""};
    s->progress = (struct state_progress){.clean = true};
    remove_tree(s->spool, none, 1);
    return make_random(&s->progress.seed, sizeof(s->progress.seed), err);
}

int state_open_shard(struct state **ret, const struct state *task, unsigned number, bool restart,
                     struct err *err)
{
    struct state *s = calloc(1, sizeof(*s));
    struct before *before = calloc(1, sizeof(*before));
    int rc = s && before ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    if (rc == 0) {
        s->lock = -1;
        s->part = true;
        text_init(&s->saved, FILE_MAX);
        text_init(&s->now, FILE_MAX);
        rc = fill_shard_paths(s, task, number, err);
        if (rc == 0) rc = begin_shard(s, before, restart, err);
        if (rc == 0) rc = state_save(s, err);
    }
    free(before);
    if (rc == 0)
        *ret = s;
    else if (s)
        release(s);
    return rc;
}

void state_close(struct state *s, bool remove)
{
    if (!s) return;
    enum state_phase phase = s->progress.phase;
    if (s->part) {
        release(s);
        return;
    }
    if (remove || phase == STATE_NEW || phase == STATE_DONE) remove_folder(s);
    release(s);
}

int state_save(struct state *s, struct err *err)
{
    text_clear(&s->now);
    state_progress_put(&s->now, &s->progress, s->spool);
    if (span_eq(buf_span(&s->now.buf), buf_span(&s->saved.buf))) return 0;
    text_clear(&s->saved); /* a write that fails may have been done */
    if (write_file(s, "state.json", &s->now, err) < 0) return -1;
    struct text t = s->saved;
    s->saved = s->now;
    s->now = t;
    return 0;
}

void state_look_asked(struct state *s)
{
    s->asked = s->is_taken || access(s->finish, F_OK) == 0;
}

bool state_take_asked(struct state *s)
{
    if (!s->is_taken) s->is_taken = rename(s->finish, s->taken) == 0;
    return s->is_taken;
}

const atomic_bool *state_asked(const struct state *s)
{
    return &s->asked;
}

int state_answer(const struct state *s, struct span bytes, struct err *err)
{
    return state_ask_write(s->is_taken ? s->taken : s->finish, bytes, err);
}

struct state_progress *state_progress(struct state *s)
{
    return &s->progress;
}

bool state_known(const struct state *s)
{
    return s->known;
}

const char *state_name(const struct state *s)
{
    return s->name;
}

const char *state_dir(const struct state *s)
{
    return s->dir;
}

const char *state_spool_dir(const struct state *s)
{
    return s->spool;
}

const char *state_existing_path(const struct state *s)
{
    return s->existing;
}

const char *state_metrics_path(const struct state *s)
{
    return s->metrics;
}
