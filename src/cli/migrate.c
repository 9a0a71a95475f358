// SPDX-License-Identifier: BSD-3-Clause
// `keyhaul migrate`, `restore`, `backup`, `finish`: run the task on a thread, watch it, tell how it
// went.
//
//   task thread      task_run(); wakes the watcher when it ends
//   signal thread    SIGINT, SIGTERM: the first sets `stop` and wakes the watcher, the second
//   leaves main thread      the watcher: looks at the counters four times a second, writes
//   everything
//
// The signals have a thread of their own so that the second one works even while the watcher hangs
// in a write to a pipe that nobody reads.
#include "cli/migrate.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/help.h"
#include "cli/screen.h"
#include "cli/summary.h"
#include "control/config.h"
#include "control/run.h"
#include "io/file.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TICK_MS       250
#define TICKS_JSON    4  /* a JSON line every second */
#define TICKS_LINE    20 /* a line off a terminal every 5 s */
#define TICKS_METRICS 4  /* the metrics file every second */

struct migrate {
    struct option_values options;
    const struct migrate_way *way; /* never NULL */
    struct config cfg;
    struct state *state; /* of a migration, NULL of others */
    struct counters counters;
    struct shards shards;
    struct shards_look looks;
    struct task_facts facts;
    atomic_bool stop; /* for the task */
    atomic_bool asked_to_stop, ended;
    atomic_bool leaving; /* everything is told: the signal thread may end */
    int wake;            /* eventfd: one of these has changed */
    sigset_t signals;
    pthread_t task_thread, signal_thread;
    int rc; /* of the task, with err */
    struct err err;

    /* the watcher's own */
    bool log_is_open;
    bool live, told_stopping, told_metrics, stdout_gone;
    struct screen screen;
    struct progress progress;
    struct summary_marks marks;
    struct metrics first, now;
    struct text text; /* for what is written now */
};

static bool is_json(const struct migrate *m)
{
    return m->cfg.output == CONFIG_OUTPUT_JSON;
}

static void wake_watcher(struct migrate *m)
{
    uint64_t one = 1;
    /* Cannot fail: the counter is far from its end, the descriptor is ours. */
    if (write(m->wake, &one, sizeof(one)) < 0) abort();
}

static void *run_task(void *arg)
{
    struct migrate *m = arg;
    m->rc = task_run(&m->cfg.task, m->state, &m->counters, &m->shards, &m->facts, &m->stop,
                     &m->err);
    atomic_store(&m->ended, true);
    wake_watcher(m);
    return NULL;
}

static void *watch_signals(void *arg)
{
    struct migrate *m = arg;
    for (;;) {
        int sig;
        if (sigwait(&m->signals, &sig) != 0) continue;
        if (atomic_load(&m->leaving)) return NULL;
        if (atomic_exchange(&m->asked_to_stop, true)) _exit(err_exit_status(ERR_INTERNAL));
        m->stop = true;
        wake_watcher(m);
    }
}

/* To standard output. That nobody reads any more is no reason to stop moving data. */
static void print_text(struct migrate *m)
{
    struct err err = {0};
    if (m->stdout_gone || text_result(&m->text, &err) < 0) return;
    if (fwrite(m->text.buf.p, 1, m->text.buf.n, stdout) == m->text.buf.n && fflush(stdout) == 0)
        return;
    m->stdout_gone = true;
    log_warn("cannot write to standard output, going on without");
}

/* The metrics file of the user's, and that of the task's folder. */
static int write_metrics_files(struct migrate *m, const struct metrics_end *end, struct err *err)
{
    const char *file = m->cfg.metrics_file;
    if (!file && !m->state) return 0;
    text_clear(&m->text);
    metrics_json(&m->text, &m->now, &m->looks, &m->cfg.task, end);
    if (text_result(&m->text, err) < 0) return -1;
    struct span json = buf_span(&m->text.buf);
    if (m->state && file_write_private(state_metrics_path(m->state), json, false, err) < 0)
        return err_wrap(err, "--state-dir");
    if (!file || file_write_atomic(file, json, false, err) == 0) return 0;
    return err_wrap(err, "--metrics-file");
}

static void write_metrics(struct migrate *m, const struct metrics_end *end)
{
    struct err err = {0};
    if (write_metrics_files(m, end, &err) == 0) return;
    if (!m->told_metrics) log_warn("metrics: %s", err.msg);
    m->told_metrics = true;
}

static void look(struct migrate *m)
{
    metrics_take(&m->now, &m->counters, clock_wall_ms(), clock_mono_ms());
    shards_look(&m->looks, &m->shards, m->now.mono_ms);
    m->progress.shards = &m->looks;
    progress_add(&m->progress, &m->now);
    summary_note(&m->marks, &m->now);
}

static void tell_stopping(struct migrate *m)
{
    static const char words[] = "stopping: finishing what is in flight (again to leave at once)";
    if (m->told_stopping || !atomic_load(&m->asked_to_stop)) return;
    m->told_stopping = true;
    if (m->cfg.quiet) return;
    if (m->live) {
        screen_say(&m->screen, words);
    } else if (is_json(m)) {
        text_clear(&m->text);
        text_json_open(&m->text, '{');
        text_json_text(&m->text, "event", "stopping");
        text_json_i64(&m->text, "wall_ms", clock_wall_ms());
        text_add(&m->text, "}\n");
        print_text(m);
    } else {
        fprintf(stderr, "%s\n", words);
    }
}

static void show_progress(struct migrate *m, unsigned tick)
{
    if (m->cfg.quiet) return;
    if (m->live) {
        screen_draw(&m->screen, &m->progress);
        return;
    }
    if (tick % (is_json(m) ? TICKS_JSON : TICKS_LINE) != 0) return;
    text_clear(&m->text);
    if (is_json(m)) {
        progress_json(&m->progress, &m->text);
        print_text(m);
    } else {
        progress_line(&m->progress, &m->text);
        fwrite(m->text.buf.p, 1, m->text.buf.n, stderr);
    }
}

/* Until `at` or a wake-up; true when it is time. */
static bool sleep_until(struct migrate *m, int64_t at)
{
    struct pollfd fd = {.fd = m->wake, .events = POLLIN};
    int64_t left = at - clock_mono_ms();
    uint64_t count;
    if (left <= 0) return true;
    if (poll(&fd, 1, (int)left) > 0 && read(m->wake, &count, sizeof(count)) < 0) abort();
    return clock_mono_ms() >= at;
}

static void watch(struct migrate *m)
{
    int64_t next = clock_mono_ms() + TICK_MS;
    unsigned tick = 0;
    while (!atomic_load(&m->ended)) {
        bool due = sleep_until(m, next);
        tell_stopping(m);
        if (!due || atomic_load(&m->ended)) continue;
        next += TICK_MS;
        if (next < clock_mono_ms()) next = clock_mono_ms() + TICK_MS; /* was held up */
        tick++;
        if (m->state) state_look_asked(m->state);
        look(m);
        show_progress(m, tick);
        if (tick % TICKS_METRICS == 0) write_metrics(m, NULL);
    }
}

/* By a signal of our own; pthread_cancel() would leave the sanitizers with a stack in disorder. */
static void end_signal_thread(struct migrate *m)
{
    atomic_store(&m->leaving, true);
    pthread_kill(m->signal_thread, SIGINT);
    pthread_join(m->signal_thread, NULL);
}

static int start_threads(struct migrate *m, struct err *err)
{
    sigemptyset(&m->signals);
    sigaddset(&m->signals, SIGINT);
    sigaddset(&m->signals, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its size limit is an error like a full disk */
    /* Blocked here, and so in every thread made from here on: only sigwait() gets them. */
    pthread_sigmask(SIG_BLOCK, &m->signals, NULL);
    m->wake = eventfd(0, EFD_CLOEXEC);
    if (m->wake < 0) return err_set(err, ERR_IO, "cannot make an eventfd: %s", strerror(errno));
    int rc = pthread_create(&m->signal_thread, NULL, watch_signals, m);
    if (rc == 0) {
        rc = pthread_create(&m->task_thread, NULL, run_task, m);
        if (rc == 0) return 0;
        end_signal_thread(m);
    }
    close(m->wake);
    return err_set(err, ERR_NOMEM, "cannot start a thread: %s", strerror(rc));
}

static void print_error_event(struct migrate *m, const struct err *err)
{
    if (!is_json(m)) return;
    text_clear(&m->text);
    text_json_open(&m->text, '{');
    text_json_text(&m->text, "event", "error");
    text_json_i64(&m->text, "wall_ms", clock_wall_ms());
    text_json_text(&m->text, "code", err_name(err->code));
    text_json_text(&m->text, "message", err->msg);
    text_json_i64(&m->text, "exit_status", err_exit_status(err->code));
    text_add(&m->text, "}\n");
    print_text(m);
}

/* Once and no more on standard error: as a line of the log for who reads JSON, else in plain words.
 */
static int print_error(struct migrate *m, const struct err *err)
{
    print_error_event(m, err);
    if (m->log_is_open && (is_json(m) || m->cfg.log.file)) log_error("%s", err->msg);
    return m->log_is_open && is_json(m) ? err_exit_status(err->code) : cli_fail(err);
}

/* A person who mistyped a host needs one line, not empty tables. */
static bool worth_a_table(const struct migrate *m)
{
    return m->now.phase > PHASE_CHECK || m->now.keys_read || m->now.commands_read;
}

static void print_summary(struct migrate *m, const struct summary *s)
{
    if (m->cfg.quiet || (!is_json(m) && !worth_a_table(m))) return;
    text_clear(&m->text);
    if (is_json(m))
        summary_json(s, &m->text);
    else
        summary_table(s, &m->text);
    print_text(m);
}

/* What came to its end needs no folder any more; what stopped or failed goes on from there. */
static void close_state(struct migrate *m, enum summary_outcome outcome)
{
    state_close(m->state, outcome == SUMMARY_DONE || outcome == SUMMARY_CAUGHT_UP);
    m->state = NULL;
}

/* To who asked for it from another process: JSON on the first line, the table for people below. */
static void answer(struct migrate *m, const struct summary *s)
{
    struct err err = {0};
    text_clear(&m->text);
    summary_json(s, &m->text);
    summary_table(s, &m->text);
    if (text_result(&m->text, &err) < 0 || state_answer(m->state, buf_span(&m->text.buf), &err) < 0)
        log_warn("%s", err.msg);
}

/* The checkpoint is gone, there is nothing to go on with. */
static bool is_finished(const struct migrate *m)
{
    return m->state && state_progress(m->state)->phase == STATE_DONE;
}

static void add_advice(const struct migrate *m, struct err *err)
{
    char words[sizeof(err->msg)];
    if (!m->way->advice || err_class(err->code) != ERR_CLASS_TRANSIENT) return;
    snprintf(words, sizeof(words), "%.*s", (int)(sizeof(words) - strlen(m->way->advice) - 3),
             err->msg);
    err_set(err, err->code, "%s; %s", words, m->way->advice);
}

/* Of a task that was stopped: where its user goes from here; else nothing. Before its folder is
 * closed; to be printed after, for that may hang. */
static void word_way_on(const struct migrate *m, enum summary_outcome outcome, char *out,
                        size_t size)
{
    const char *dir = m->cfg.task.state_dir;
    *out = 0;
    if (!m->state || !m->asked_to_stop || outcome == SUMMARY_FAILED) return;
    enum state_phase phase = state_progress(m->state)->phase;
    if (m->cfg.quiet || is_json(m) || (phase != STATE_LOADING && phase != STATE_STREAM)) return;
    snprintf(out, size, "the same command goes on with it; to close it: keyhaul finish %s%s%s\n",
             state_name(m->state), dir ? " --state-dir " : "", dir ? dir : "");
}

static int tell_end(struct migrate *m)
{
    struct err *err = m->rc < 0 ? &m->err : NULL;
    if (err && err->code == ERR_NONE) err_set(err, ERR_INTERNAL, "ended without saying why");
    if (err) add_advice(m, err);
    look(m);
    struct summary s = {
        .cfg = &m->cfg.task,
        .facts = &m->facts,
        .first = &m->first,
        .last = &m->now,
        .shards = &m->looks,
        .marks = &m->marks,
        .err = err,
        .outcome = summary_outcome(&m->cfg.task, &m->now, err, atomic_load(&m->asked_to_stop)),
        .exit_status = err ? err_exit_status(err->code) : 0,
    };
    if (!err && is_finished(m) && s.cfg->type != TASK_FULL) s.outcome = SUMMARY_CAUGHT_UP;
    bool failed = err && err->code != ERR_STOPPED;
    struct metrics_end end = {.outcome = summary_outcome_name(s.outcome),
                              .err = failed ? err : NULL,
                              .exit_status = s.exit_status,
                              .facts = &m->facts};
    write_metrics(m, &end);
    if (is_finished(m)) answer(m, &s);
    char way_on[STATE_NAME_MAX + PATH_MAX + 100];
    word_way_on(m, s.outcome, way_on, sizeof(way_on));
    close_state(m, s.outcome);
    if (failed) print_error(m, err);
    print_summary(m, &s);
    fputs(way_on, stderr);
    return s.exit_status;
}

/* From here on there are threads; everything that can be wrong with the options was found. */
static int run(struct migrate *m)
{
    struct err err = {0};
    if (start_threads(m, &err) < 0) {
        if (m->live) screen_close(&m->screen);
        return print_error(m, &err);
    }
    watch(m);
    pthread_join(m->task_thread, NULL);
    if (m->live) screen_close(&m->screen);
    m->live = false;
    int status = tell_end(m);
    end_signal_thread(m); /* not before: telling may hang as well */
    close(m->wake);
    return status;
}

static int open_outputs(struct migrate *m, struct err *err)
{
    m->live = !m->cfg.quiet && !is_json(m) && screen_can_redraw();
    if (m->live && !m->cfg.log.file) m->cfg.log.around = screen_around;
    if (log_open(&m->cfg.log, err) < 0) return err_wrap(err, "--log-file");
    m->log_is_open = true;
    progress_init(&m->progress, task_way(&m->cfg.task));
    look(m);
    m->first = m->now;
    return 0;
}

/* A file that is read or written once has no task to go on with. */
static int open_state(struct migrate *m, struct err *err)
{
    if (task_way(&m->cfg.task) != TASK_MIGRATE) return 0;
    if (state_open(&m->state, &m->cfg.task, &m->options, err) < 0) return -1;
    const struct state_progress *p = state_progress(m->state);
    counter_set(&m->counters.keys_before, p->keys_before);
    counter_set(&m->counters.commands_before, p->commands_before);
    look(m);
    if (!m->way->known || state_known(m->state)) return 0;
    return err_set(err, ERR_REFUSED,
                   "the task %s has moved nothing yet: there is nothing to go on with",
                   state_name(m->state));
}

static int refuse(struct migrate *m, const char *command, const struct err *err)
{
    /* Not configured yet, but whoever reads JSON wants to read this too. */
    enum option_id output = config_output_option(m->options.command);
    if (options_given(&m->options, output))
        m->cfg.output = (enum config_output)options_choice(&m->options, output);
    if (err->code != ERR_USAGE) return print_error(m, err);
    print_error_event(m, err);
    return cli_usage(command, err);
}

/* 1: there is nothing left to do. */
static int configure(struct migrate *m, int *ret_status, struct err *err)
{
    const struct migrate_way *way = m->way;
    int rc = way->fill ? way->fill(&m->options, ret_status, err) : 0;
    if (rc != 0) return rc;
    if (config_from_options(&m->cfg, &m->options, err) < 0) return -1;
    if (open_outputs(m, err) < 0 || open_state(m, err) < 0) return -1;
    /* Tried before anything is moved: whoever asked for a metrics file relies on it. */
    return write_metrics_files(m, NULL, err);
}

static int configure_and_run(struct migrate *m, int argc, char **argv)
{
    struct err err = {0};
    if (options_parse(&m->options, cli_option_bit(argv[0]), argc, argv, &err) < 0)
        return refuse(m, argv[0], &err);
    if (options_given(&m->options, OPTION_HELP)) {
        char help[] = "help";
        return cli_help(2, (char *[]){help, argv[0], NULL});
    }
    int status = 0, rc = configure(m, &status, &err);
    if (rc != 0) return rc < 0 ? refuse(m, argv[0], &err) : status;
    if (m->live) screen_open(&m->screen);
    return run(m);
}

int migrate_run(int argc, char **argv, const struct migrate_way *way)
{
    struct err err = {0};
    struct migrate *m = calloc(1, sizeof(*m));
    if (!m) {
        err_set(&err, ERR_NOMEM, "out of memory");
        return cli_fail(&err);
    }
    m->way = way;
    text_init(&m->text, 1 << 20);
    shards_init(&m->shards);
    int status = configure_and_run(m, argc, argv);
    state_close(m->state, false);
    log_close();
    config_release(&m->cfg);
    options_release(&m->options);
    text_release(&m->text);
    shards_look_release(&m->looks);
    shards_release(&m->shards);
    free(m);
    return status;
}

int cli_migrate(int argc, char **argv)
{
    static const struct migrate_way way = {0};
    return migrate_run(argc, argv, &way);
}
