// SPDX-License-Identifier: BSD-3-Clause
// Options in task.json: kept without passwords, so that `finish` can run the task once more.
#include "control/state_impl.h"

#include "redis/uri.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_kept(const struct option_def *def)
{
    if (!(def->commands & OPTION_COMMAND_MIGRATE)) return false;
    if (def == option_def(OPTION_RESUME)) return true;
    switch (def->group) {
    case OPTION_GROUP_SERVERS:
    case OPTION_GROUP_DATA:
    case OPTION_GROUP_TLS:
    case OPTION_GROUP_LIMITS: return true;
    case OPTION_GROUP_TASK:
    case OPTION_GROUP_PASSWORDS:
    case OPTION_GROUP_OUTPUT:
    case OPTION_GROUP_ENVIRONMENT:
    case OPTION_GROUPS: break;
    }
    return false;
}

/* --- keeping --- */

static int strip(char *uri, struct err *err)
{
    struct uri parsed;
    option_strip_password(uri);
    if (uri_parse(&parsed, uri, err) < 0) return -1;
    bool left = parsed.password || parsed.sentinel_password;
    uri_release(&parsed);
    return left ? err_set(err, ERR_INTERNAL, "a password was left in a URI") : 0;
}

/* `finish` is called from anywhere. */
static char *absolute(const char *path)
{
    char *made = NULL, *here = *path == '/' ? NULL : getcwd(NULL, 0);
    if (*path == '/') return strdup(path);
    if (here && asprintf(&made, "%s/%s", here, path) < 0) made = NULL;
    free(here);
    return made;
}

static int keep(json_t *in, enum option_id id, const char *given, struct err *err)
{
    const struct option_def *def = option_def(id);
    char *text = def->kind == OPTION_KIND_FILE ? absolute(given) : strdup(given);
    if (!text) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = def->kind == OPTION_KIND_URI ? strip(text, err) : 0;
    /* Not checked for UTF-8 here: what is written out is made such. */
    if (rc == 0 && json_object_set_new_nocheck(in, def->name, json_string_nocheck(text)) < 0)
        rc = err_set(err, ERR_NOMEM, "out of memory");
    explicit_bzero(text, strlen(text));
    free(text);
    return rc;
}

int state_keep_options(json_t **ret, const struct option_values *options, struct err *err)
{
    json_t *made = json_object();
    int rc = made ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    for (int id = 0; id < OPTION_COUNT && options && rc == 0; id++)
        if (options->text[id] && is_kept(option_def((enum option_id)id)))
            rc = keep(made, (enum option_id)id, options->text[id], err);
    if (rc < 0)
        json_decref(made);
    else
        *ret = made;
    return rc;
}

/* --- taking again --- */

/* The option of that name that migrate takes and task.json keeps, OPTION_COUNT: none. */
static enum option_id find_kept(const char *name)
{
    int id = 0;
    while (id < OPTION_COUNT && (!is_kept(option_def((enum option_id)id)) ||
                                 strcmp(option_def((enum option_id)id)->name, name) != 0))
        id++;
    return (enum option_id)id;
}

static int take(struct option_values *v, json_t *options, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(options, name, value)
    {
        enum option_id id = find_kept(name);
        const char *text = json_string_value(value);
        if (id == OPTION_COUNT)
            return err_set(err, ERR_FORMAT, "task.json is damaged: an option is not known");
        if (v->text[id]) continue;
        if (option_check(id, text, err) < 0) return err_wrap(err, "task.json is damaged");
        v->text[id] = strdup(text);
        if (!v->text[id]) return err_set(err, ERR_NOMEM, "out of memory");
    }
    return 0;
}

static int need_password(const struct option_values *v, bool login, enum option_id file,
                         enum option_id env, const char *side, struct err *err)
{
    if (!login || v->text[file] || v->text[env]) return 0;
    return err_set(err, ERR_USAGE,
                   "the %s asks for a password, and passwords are never kept: give --%s, or set %s",
                   side, option_def(file)->name, option_def(env)->name);
}

static int take_task(struct option_values *v, const struct state_task *task, struct err *err)
{
    if (take(v, task->options, err) < 0) return -1;
    if (!v->text[OPTION_SOURCE] || !v->text[OPTION_TARGET])
        return err_set(err, ERR_FORMAT, "task.json does not tell both sides: begin it by migrate");
    if (need_password(v, task->source_login, OPTION_SOURCE_PASSWORD_FILE,
                      OPTION_ENV_SOURCE_PASSWORD, "source", err) < 0)
        return -1;
    return need_password(v, task->target_login, OPTION_TARGET_PASSWORD_FILE,
                         OPTION_ENV_TARGET_PASSWORD, "target", err);
}

int state_options(struct option_values *v, const char *state_dir, const char *name, struct err *err)
{
    char root[PATH_MAX], dir[PATH_MAX];
    struct state_task task = {0};
    if (state_check_name(name, err) < 0 || state_root(root, sizeof(root), state_dir, err) < 0 ||
        state_path(dir, root, name, err) < 0)
        return -1;
    int rc = state_task_read(&task, dir, err);
    if (rc < 0) return -1;
    if (rc == 0) return err_set(err, ERR_USAGE, "%.300s has no task.json", dir);
    rc = take_task(v, &task, err);
    state_task_release(&task);
    return rc;
}
