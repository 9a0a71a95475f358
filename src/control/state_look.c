// SPDX-License-Identifier: BSD-3-Clause
// Tasks seen from outside: by status, stop and finish, while others run them.
#include "control/state_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Words begin with the path of a file: the folder is told apart from them. */
static void damage(struct state_seen *seen, const char *dir, const struct err *err)
{
    size_t n = strlen(dir);
    const char *words = err->msg;
    if (strncmp(words, dir, n) == 0 && words[n] == '/') words += n + 1;
    seen->damaged = true;
    snprintf(seen->why, sizeof(seen->why), "%.*s", (int)sizeof(seen->why) - 1, words);
    text_make_plain(seen->why);
}

static void copy_plain(char *ret, size_t size, const char *text)
{
    snprintf(ret, size, "%s", text);
    text_make_plain(ret);
}

/* 1; 0: a folder, but not that of a task (or of one that is being made). */
static int see(struct state_seen *ret, const char *root, const char *name, struct err *err)
{
    char dir[PATH_MAX], spool_dir[PATH_MAX];
    struct state_task task = {0};
    struct err why;
    *ret = (struct state_seen){0};
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    if (state_path(dir, root, name, err) < 0) return -1;
    if (state_lock_look(dir, &ret->running, &ret->pid, &why) < 0) damage(ret, dir, &why);
    int has_state = state_progress_read(&ret->progress, spool_dir, dir, &why);
    if (has_state < 0) damage(ret, dir, &why);
    int has_task = state_task_read(&task, dir, &why);
    if (has_task < 0) damage(ret, dir, &why);
    if (!has_state && !has_task && !ret->damaged) return 0;
    /* state.json is there first: it may be that the other is just being written */
    if (!has_state || (!has_task && !ret->running)) {
        err_set(&why, ERR_FORMAT, "%s is missing", has_state ? "task.json" : "state.json");
        damage(ret, dir, &why);
    }
    if (has_task == 1) {
        copy_plain(ret->source, sizeof(ret->source), task.shape.text[STATE_SHAPE_SOURCE]);
        copy_plain(ret->target, sizeof(ret->target), task.shape.text[STATE_SHAPE_TARGET]);
    }
    state_metrics_read(ret, dir);
    int64_t missing = (int64_t)ret->progress.refused;
    if (missing > 0 && ret->errors < missing) ret->errors = missing;
    state_task_release(&task);
    return 1;
}

static int is_candidate(const struct dirent *e)
{
    struct err err;
    return state_check_name(e->d_name, &err) == 0;
}

static bool is_folder(const char *root, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    struct err err;
    return state_path(path, root, name, &err) == 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int each(const char *root, struct dirent **list, int n,
                int (*fn)(void *ctx, const struct state_seen *seen, struct err *err), void *ctx,
                struct err *err)
{
    struct state_seen seen;
    for (int i = 0; i < n; i++) {
        if (!is_folder(root, list[i]->d_name)) continue;
        int rc = see(&seen, root, list[i]->d_name, err);
        if (rc < 0 || (rc == 1 && fn(ctx, &seen, err) < 0)) return -1;
    }
    return 0;
}

int state_each(const char *state_dir,
               int (*fn)(void *ctx, const struct state_seen *seen, struct err *err), void *ctx,
               struct err *err)
{
    char root[PATH_MAX];
    struct dirent **list = NULL;
    if (state_root(root, sizeof(root), state_dir, err) < 0) return -1;
    int n = scandir(root, &list, is_candidate, alphasort);
    if (n < 0 && errno == ENOENT) return 0;
    if (n < 0) return err_set(err, ERR_IO, "cannot read %.300s: %s", root, strerror(errno));
    int rc = each(root, list, n, fn, ctx, err);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return rc;
}

static int name_one(void *ctx, const struct state_seen *seen, struct err *err)
{
    struct text *t = ctx;
    (void)err;
    text_printf(t, "%s%s", t->buf.n ? ", " : "", seen->name);
    return 0;
}

static int tell_others(const char *state_dir, const char *root, const char *name, struct err *err)
{
    struct text names;
    text_init(&names, 1 << 20);
    int rc = state_each(state_dir, name_one, &names, err);
    if (rc == 0 && names.buf.n == 0)
        rc = err_set(err, ERR_USAGE, "there is no task %s: no task at all in %.300s", name, root);
    else if (rc == 0)
        rc = err_set(err, ERR_USAGE, "there is no task %s in %.150s; there are %.*s%s", name, root,
                     names.buf.n > 250 ? 250 : (int)names.buf.n, (char *)names.buf.p,
                     names.buf.n > 250 ? "..." : "");
    text_release(&names);
    return rc;
}

int state_see(struct state_seen *ret, const char *state_dir, const char *name, struct err *err)
{
    char root[PATH_MAX];
    struct state_seen seen;
    if (state_check_name(name, err) < 0 || state_root(root, sizeof(root), state_dir, err) < 0)
        return -1;
    int rc = is_folder(root, name) ? see(&seen, root, name, err) : 0;
    if (rc == 1) *ret = seen;
    return rc == 1 ? 0 : rc < 0 ? -1 : tell_others(state_dir, root, name, err);
}

void state_see_shards(struct shards_look *ret, const char *state_dir, const char *name)
{
    char root[PATH_MAX], dir[PATH_MAX];
    struct err err;
    *ret = (struct shards_look){0};
    if (state_check_name(name, &err) == 0 && state_root(root, sizeof(root), state_dir, &err) == 0 &&
        state_path(dir, root, name, &err) == 0)
        state_shards_read(ret, dir);
}

int state_running(const char *state_dir, const char *name, bool *ret_running, long *ret_pid,
                  struct err *err)
{
    char root[PATH_MAX], dir[PATH_MAX];
    if (state_check_name(name, err) < 0 || state_root(root, sizeof(root), state_dir, err) < 0 ||
        state_path(dir, root, name, err) < 0)
        return -1;
    return state_lock_look(dir, ret_running, ret_pid, err);
}
