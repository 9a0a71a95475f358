// SPDX-License-Identifier: BSD-3-Clause
// `keyhaul finish`: the process that runs the task is asked to end it; where none runs, the task is
// run once more, with the options it was begun with, until it has caught up.
//
// The process itself does it, because the target keeps time by itself from the moment that
// deadlines are made real: a second process would have to connect first, while the source may renew
// a key.
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/migrate.h"
#include "cli/progress.h"
#include "control/state.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS    50
#define HEAR_MS    1000  /* between two looks at what it tells of itself */
#define HEARD_MS   2000  /* it does so every second */
#define RETRY_TIME "30s" /* whoever finishes waits in front of it */
#define ADVICE                                                                                     \
    "the task is not finished and stays as it is: finish it again once both sides can be reached"
#define ANSWER_MAX (1u << 20)

struct finish {
    const struct option_values *v;
    const char *name, *state_dir;
    struct state_ask ask;
    struct state_seen seen; /* what it told last */
    int64_t asked_ms, hear_ms;
    int64_t waits_since_ms; /* monotonic: since when it waits for a side; 0: it does not */
};

/* A snapshot that is broken off has to be taken again. */
static int check_phase(const struct state_seen *seen, struct err *err)
{
    if (seen->damaged)
        return err_set(err, ERR_FORMAT, "the task %s cannot be read: %s", seen->name, seen->why);
    if (!seen->running || seen->progress.phase == STATE_STREAM) return 0;
    return err_set(err, ERR_REFUSED,
                   "the task %s is loading its snapshot (keyhaul status %s); finish it once that "
                   "is done, or stop it first: then finish takes a new snapshot",
                   seen->name, seen->name);
}

/* --- while another process runs it --- */

static bool is_json(const struct finish *f)
{
    return options_choice(f->v, OPTION_OUTPUT) == 1;
}

static void say(const struct finish *f, const char *words)
{
    if (options_given(f->v, OPTION_QUIET) || is_json(f)) return;
    fprintf(stderr, "%s: %s\n", f->name, words);
}

static int check_heard(const struct finish *f, struct err *err)
{
    int64_t heard = f->seen.updated_ms > f->asked_ms ? f->seen.updated_ms : f->asked_ms;
    if (clock_wall_ms() - heard <= HEARD_MS + options_duration_ms(f->v, OPTION_TIMEOUT)) return 0;
    return err_set(err, ERR_BUSY,
                   "process %ld, which runs the task %s, does not react; wait longer (--timeout), "
                   "or kill -9 %ld and finish again",
                   f->seen.pid, f->name, f->seen.pid);
}

/* The process goes on calling, but nobody is to sit in front of that for hours. */
static int check_waiting(struct finish *f, struct err *err)
{
    int64_t now = clock_mono_ms(), max = options_duration_ms(f->v, OPTION_RETRY_TIME);
    if (!f->seen.waiting_for) {
        f->waits_since_ms = 0;
        return 0;
    }
    if (!f->waits_since_ms) f->waits_since_ms = now;
    if (now - f->waits_since_ms < max || !state_ask_withdraw(&f->ask)) return 0;
    return err_set(err, ERR_BUSY, "%s%s%s (--retry-time waits longer); " ADVICE,
                   progress_waiting((uint64_t)f->seen.waiting_for),
                   *f->seen.waiting_why ? ": " : "", f->seen.waiting_why);
}

/* 1: it has ended, or the folder is gone. */
static int look(struct finish *f, struct err *err)
{
    struct err gone;
    bool running;
    long pid;
    if (state_running(f->state_dir, f->name, &running, &pid, err) < 0) return -1;
    if (!running) return 1;
    if (state_ask(&f->ask, f->state_dir, f->name, err) < 0) return -1;
    if (clock_mono_ms() < f->hear_ms) return 0;
    f->hear_ms = clock_mono_ms() + HEAR_MS;
    if (state_see(&f->seen, f->state_dir, f->name, &gone) < 0) return 0;
    return check_heard(f, err) < 0 ? -1 : check_waiting(f, err);
}

/* 1: it is too late for that. */
static int take_back(struct finish *f, struct err *err)
{
    if (!state_ask_withdraw(&f->ask)) {
        say(f, "it is being finished already");
        return 1;
    }
    return err_set(err, ERR_BUSY, "the task %s is not finished: stopped by signal; it runs on",
                   f->name);
}

/* Ctrl-C takes the request back: nothing may be finished behind one's back. */
static int wait_for_end(struct finish *f, struct err *err)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
    sigset_t signals, before;
    int rc;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, &before);
    while ((rc = look(f, err)) == 0)
        if (sigtimedwait(&signals, NULL, &pause) > 0 && take_back(f, err) < 0) {
            rc = -1;
            break;
        }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* The first line, JSON, tells the exit status, -1: it is no answer. */
static int read_status(const char *line, size_t n)
{
    json_t *json = json_loadb(line, n, 0, NULL);
    const json_t *status = json_object_get(json, "exit_status");
    int ret = json_is_integer(status) ? (int)(json_integer_value(status) & 255) : -1;
    json_decref(json);
    return ret;
}

static int print_answer(const struct finish *f, const struct buf *text)
{
    const char *line = (const char *)text->p;
    const char *end = text->n ? memchr(line, '\n', text->n) : NULL;
    if (!end) return -1;
    size_t n = (size_t)(end - line) + 1;
    int status = read_status(line, n), printed = 0;
    if (status < 0 || options_given(f->v, OPTION_QUIET)) return status;
    printed = is_json(f) ? cli_print(line, n) : cli_print(line + n, text->n - n);
    return status ? status : printed;
}

/* 1: it has been told how it ended. 0: nothing was answered. */
static int tell_answer(const struct finish *f, int *ret_status, struct err *err)
{
    struct buf text;
    buf_init(&text, ANSWER_MAX);
    int rc = state_ask_answer(&f->ask, &text, err);
    int status = rc == 0 ? print_answer(f, &text) : -1;
    buf_release(&text);
    if (status >= 0) *ret_status = status;
    return rc < 0 ? -1 : status >= 0;
}

/* 1: done. 0: it has ended without, the task is to be run. */
static int ask_and_wait(struct finish *f, int *ret_status, struct err *err)
{
    struct err why;
    f->asked_ms = clock_wall_ms();
    if (state_ask(&f->ask, f->state_dir, f->name, err) < 0) return -1;
    say(f, "the process that runs it has been asked to finish it");
    if (wait_for_end(f, err) < 0) /* it may just have been done */
        return tell_answer(f, ret_status, &why) == 1 ? 1 : -1;
    int rc = tell_answer(f, ret_status, err);
    if (rc != 0) return rc;
    if (state_see(&f->seen, f->state_dir, f->name, &why) < 0) {
        say(f, "has come to its end");
        return 1;
    }
    say(f, "the process that ran it has ended; going on from there");
    return 0;
}

/* --- run by ourselves --- */

static int put(struct option_values *v, enum option_id id, const char *text, struct err *err)
{
    free(v->text[id]);
    v->text[id] = strdup(text);
    return v->text[id] ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int fill(struct option_values *v, int *ret_status, struct err *err)
{
    struct finish f = {.v = v,
                       .name = options_text(v, OPTION_TASK_NAME),
                       .state_dir = options_text(v, OPTION_STATE_DIR),
                       .ask.fd = -1};
    if (state_see(&f.seen, f.state_dir, f.name, err) < 0 || check_phase(&f.seen, err) < 0)
        return -1;
    if (!options_given(v, OPTION_RETRY_TIME) && put(v, OPTION_RETRY_TIME, RETRY_TIME, err) < 0)
        return -1;
    if (f.seen.running) {
        int rc = ask_and_wait(&f, ret_status, err);
        state_ask_end(&f.ask);
        if (rc != 0) return rc;
    }
    if (state_options(v, f.state_dir, f.name, err) < 0) return -1;
    v->command = OPTION_COMMAND_MIGRATE;
    return put(v, OPTION_TASK, f.name, err) < 0 ? -1 : put(v, OPTION_UNTIL, "caught-up", err);
}

int cli_finish(int argc, char **argv)
{
    static const struct migrate_way way = {.known = true, .fill = fill, .advice = ADVICE};
    return migrate_run(argc, argv, &way);
}
