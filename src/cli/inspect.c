// SPDX-License-Identifier: BSD-3-Clause
// `keyhaul inspect`: read it, then print the report; or a line for each key as it passes.
//
// A thread waits for SIGINT and SIGTERM: the first asks to stop, the second leaves at once.
#include "base/clock.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/inspect_report.h"
#include "cli/screen.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TICK_MS    250
#define OUT_BYTES  (64u << 10) /* of lines, written at once */
#define REPORT_MAX (8u << 20)

struct inspection {
    struct option_values options;
    struct config cfg;
    struct inspect_task task;
    struct inspect in;
    struct inspect_source source;
    atomic_bool stop, leaving;
    sigset_t signals;
    struct buf lines;
    bool live; /* the progress is drawn */
    int64_t next_ms;
};

static void *watch_signals(void *arg)
{
    struct inspection *s = arg;
    for (;;) {
        int sig;
        if (sigwait(&s->signals, &sig) != 0) continue;
        if (atomic_load(&s->leaving)) return NULL;
        if (atomic_exchange(&s->stop, true)) _exit(err_exit_status(ERR_INTERNAL));
    }
}

static int start_signals(struct inspection *s, pthread_t *ret, struct err *err)
{
    sigemptyset(&s->signals);
    sigaddset(&s->signals, SIGINT);
    sigaddset(&s->signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    int rc = pthread_create(ret, NULL, watch_signals, s);
    return rc ? err_set(err, ERR_NOMEM, "cannot start a thread: %s", strerror(rc)) : 0;
}

/* --- while it goes --- */

static void draw(void *ctx, uint64_t bytes, uint64_t total)
{
    struct inspection *s = ctx;
    int64_t now = clock_mono_ms();
    char read[32];
    if (!s->live || now < s->next_ms) return;
    s->next_ms = now + TICK_MS;
    num_human_bytes(read, sizeof(read), bytes);
    if (total)
        fprintf(stderr, "\r\x1b[Kinspecting  %.1f %%  %s", 100.0 * (double)bytes / (double)total,
                read);
    else
        fprintf(stderr, "\r\x1b[Kinspecting  %s", read);
    fflush(stderr);
}

static void erase(const struct inspection *s)
{
    if (s->live && s->next_ms) fprintf(stderr, "\r\x1b[K");
}

static int print_bytes(const void *p, size_t n, struct err *err)
{
    if (fwrite(p, 1, n, stdout) == n) return 0;
    return err_set(err, ERR_IO, "cannot write to standard output: %s", strerror(errno));
}

static int flush_lines(struct inspection *s, struct err *err)
{
    int rc = print_bytes(s->lines.p, s->lines.n, err);
    buf_clear(&s->lines);
    return rc;
}

/* stdio would cost as much as the line itself. */
static int add_line(void *ctx, const void *p, size_t n, struct err *err)
{
    struct inspection *s = ctx;
    if (n > OUT_BYTES - s->lines.n && flush_lines(s, err) < 0) return -1;
    return buf_add(&s->lines, p, n, err);
}

static int print_key(void *ctx, const struct inspect_key *key, struct err *err)
{
    return inspect_report_key(key, add_line, ctx, err);
}

/* --- at its end --- */

static int print_report(struct inspection *s, struct err *err)
{
    struct inspect_report report = {.in = &s->in,
                                    .source = &s->source,
                                    .supposed = s->cfg.has_supposed ? &s->cfg.supposed : NULL};
    struct text t;
    text_init(&t, REPORT_MAX);
    if (s->cfg.output == CONFIG_OUTPUT_JSON)
        inspect_report_json(&report, &t);
    else
        inspect_report_table(&report, &t);
    int rc = text_result(&t, err);
    if (rc == 0) rc = print_bytes(t.buf.p, t.buf.n, err);
    text_release(&t);
    return rc;
}

/* A report tells by itself. */
static void tell_commands(const struct inspection *s)
{
    char count[32];
    uint64_t n = s->source.tally.all.sum.commands;
    if (n == 0 || s->cfg.output != CONFIG_OUTPUT_JSONL) return;
    log_warn("%s commands stand behind the snapshot, and were not run: the lines are the keys of "
             "the snapshot alone",
             num_human_count(count, sizeof(count), n));
}

static int print_end(struct inspection *s, struct err *err)
{
    if (flush_lines(s, err) < 0) return -1;
    tell_commands(s);
    if (s->cfg.output != CONFIG_OUTPUT_JSONL && print_report(s, err) < 0) return -1;
    if (fflush(stdout) == 0) return 0;
    return err_set(err, ERR_IO, "cannot write to standard output: %s", strerror(errno));
}

/* What was counted before the break is worth being seen, as long as nobody takes it for all. */
static void print_part(struct inspection *s, const struct err *why)
{
    struct err err;
    if (flush_lines(s, &err) < 0) clearerr(stdout); /* lines of the keys before */
    bool nothing = !s->in.all.keys && !s->source.tally.all.sum.commands;
    if (s->cfg.output != CONFIG_OUTPUT_HUMAN || nothing || why->code == ERR_INCOMPLETE) return;
    printf("ONLY UP TO WHERE IT FAILED (%s):\n\n",
           num_human_bytes((char[32]){0}, 32, s->in.bytes + s->source.tally.bytes));
    if (print_end(s, &err) < 0) clearerr(stdout);
}

static int run(struct inspection *s, struct err *err)
{
    const char *dir = getenv("TMPDIR");
    bool lines = s->cfg.output == CONFIG_OUTPUT_JSONL;
    s->task = (struct inspect_task){.cfg = &s->cfg, .stop = &s->stop, .on_read = draw, .ctx = s};
    s->task.inspect = (struct inspect_config){
        .top = lines ? 0 : s->cfg.top, .now_ms = clock_wall_ms(), .on_key = print_key, .ctx = s};
    s->live = !s->cfg.quiet && screen_can_redraw() && !(lines && isatty(STDOUT_FILENO));
    if (lines && digest_new(&s->task.inspect.digest, dir && *dir ? dir : "/tmp", err) < 0)
        return -1;
    int rc = inspect_task_run(&s->task, &s->in, &s->source, err);
    erase(s);
    if (rc < 0) print_part(s, err);
    digest_free(s->task.inspect.digest);
    return rc < 0 ? -1 : print_end(s, err);
}

static int run_watched(struct inspection *s, struct err *err)
{
    pthread_t watcher;
    if (start_signals(s, &watcher, err) < 0) return -1;
    int rc = run(s, err);
    if (rc < 0) (void)!fflush(stdout); /* what was printed comes before the words */
    atomic_store(&s->leaving, true);
    pthread_kill(watcher, SIGINT);
    pthread_join(watcher, NULL);
    return rc;
}

static int configure_and_run(struct inspection *s, int argc, char **argv)
{
    struct err err = {0};
    char help[] = "help";
    if (options_parse(&s->options, OPTION_COMMAND_INSPECT, argc, argv, &err) < 0)
        return cli_usage(argv[0], &err);
    if (options_given(&s->options, OPTION_HELP))
        return cli_help(2, (char *[]){help, argv[0], NULL});
    if (config_from_options(&s->cfg, &s->options, &err) < 0)
        return err.code == ERR_USAGE ? cli_usage(argv[0], &err) : cli_fail(&err);
    if (log_open(&s->cfg.log, &err) < 0) {
        err_wrap(&err, "--log-file");
        return cli_fail(&err);
    }
    int rc = run_watched(s, &err);
    log_close();
    return rc < 0 ? cli_fail(&err) : 0;
}

int cli_inspect(int argc, char **argv)
{
    struct err err = {0};
    struct inspection *s = calloc(1, sizeof(*s));
    if (!s) {
        err_set(&err, ERR_NOMEM, "out of memory");
        return cli_fail(&err);
    }
    buf_init(&s->lines, OUT_BYTES);
    int status = configure_and_run(s, argc, argv);
    buf_release(&s->lines);
    inspect_release(&s->in);
    inspect_source_release(&s->source);
    config_release(&s->cfg);
    options_release(&s->options);
    free(s);
    return status;
}
