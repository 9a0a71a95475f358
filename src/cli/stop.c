// SPDX-License-Identifier: BSD-3-Clause
// `keyhaul stop`: SIGTERM to the process that holds a task's lock, then wait until it is free.
//
// A number read from a file may be that of another process by now. So the kernel is asked who holds
// the lock, a pidfd is taken of that process, and the kernel is asked again: what the pidfd stands
// for is the holder then, and stays itself whatever becomes of its number.
#include "cli/stop.h"
#include "base/clock.h"
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAUSE_US 50000
#define NAME_MS  1000 /* between taking the lock and being named as its holder */

struct holder {
    const char *state_dir, *name;
    bool running;
    long pid;
    int64_t asked_ms; /* since when it runs and cannot be named; 0 */
};

static int look(struct holder *h, struct err *err)
{
    return state_running(h->state_dir, h->name, &h->running, &h->pid, err);
}

static int cannot_name(const struct holder *h, struct err *err)
{
    return err_set(err, ERR_REFUSED,
                   "the task %s runs in another container or on another machine, where this "
                   "command does not reach; stop it there",
                   h->name);
}

static int cannot_signal(const struct holder *h, struct err *err)
{
    return err_set(err, ERR_PERM, "cannot send SIGTERM to process %ld, which runs the task %s: %s",
                   h->pid, h->name, strerror(errno));
}

/* glibc has no wrapper of the same name everywhere. -1 with ENOSYS before Linux 5.3. */
static int open_process(long pid)
{
    return (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
}

static int send_signal(int fd, long pid)
{
    if (fd < 0) return kill((pid_t)pid, SIGTERM);
    return (int)syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
}

/* 1: it was sent; 0: to be tried again, or no longer needed: look. */
static int signal_holder(struct holder *h, struct err *err)
{
    long pid = h->pid;
    int fd = open_process(pid), rc = 0;
    if (fd < 0 && errno == ESRCH) return 0;
    if (fd < 0 && errno != ENOSYS) return cannot_signal(h, err);
    if (look(h, err) < 0)
        rc = -1;
    else if (h->running && h->pid == pid)
        rc = send_signal(fd, pid) == 0 ? 1 : errno == ESRCH ? 0 : cannot_signal(h, err);
    if (fd >= 0) close(fd);
    return rc;
}

/* 1: it was asked to stop; 0: nothing runs. */
static int ask(struct holder *h, struct err *err)
{
    for (;;) {
        if (look(h, err) < 0) return -1;
        if (!h->running) return 0;
        if (h->pid) {
            int rc = signal_holder(h, err);
            if (rc != 0) return rc;
        } else if (!h->asked_ms) {
            h->asked_ms = clock_mono_ms();
        } else if (clock_mono_ms() - h->asked_ms > NAME_MS) {
            return cannot_name(h, err);
        }
        usleep(PAUSE_US);
    }
}

/* Until the lock is free, or another process has taken it. */
static int wait_for_end(struct holder *h, int64_t timeout_ms, struct err *err)
{
    long pid = h->pid;
    int64_t until = clock_mono_ms() + timeout_ms;
    while (h->running && (h->pid == pid || h->pid == 0)) {
        if (clock_mono_ms() >= until)
            return err_set(err, ERR_BUSY,
                           "process %ld was asked to stop and still runs the task %s; wait longer "
                           "(--timeout), or kill -9 %ld: the next run goes on all the same",
                           pid, h->name, pid);
        usleep(PAUSE_US);
        if (look(h, err) < 0) return -1;
    }
    return 1;
}

int stop_task(const char *state_dir, const char *name, int64_t timeout_ms, struct err *err)
{
    struct holder h = {.state_dir = state_dir, .name = name};
    int rc = ask(&h, err);
    return rc == 1 ? wait_for_end(&h, timeout_ms, err) : rc;
}

/* --- the command --- */

static int tell(const char *name, const char *words, const char *more)
{
    char line[600];
    int n = snprintf(line, sizeof(line), "%s %s%s\n", name, words, more);
    return cli_print(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static bool exists(const char *state_dir, const char *name, struct state_seen *ret)
{
    struct err err;
    return state_see(ret, state_dir, name, &err) == 0;
}

static int tell_end(const struct state_seen *before, const char *state_dir)
{
    struct state_seen now;
    const char *name = before->name;
    if (!exists(state_dir, name, &now) && before->progress.phase == STATE_NEW)
        return tell(name, "has stopped before anything was written", "");
    if (!exists(state_dir, name, &now)) return tell(name, "came to its end", "");
    if (now.running) return tell(name, "was stopped, and runs again by now", "");
    if (strcmp(now.outcome, "stopped") == 0)
        return tell(name,
                    "has stopped; the same command as before goes on\n"
                    "Until then the target expires keys by itself, even what the source renews.",
                    "");
    return tell(name, "has ended: ", *now.error ? now.error : now.outcome);
}

static int stop(const struct option_values *v)
{
    struct err err = {0};
    struct state_seen before;
    const char *name = options_text(v, OPTION_TASK_NAME);
    const char *state_dir = options_text(v, OPTION_STATE_DIR);
    if (state_see(&before, state_dir, name, &err) < 0)
        return err.code == ERR_USAGE ? cli_usage("stop", &err) : cli_fail(&err);
    int rc = stop_task(state_dir, name, options_duration_ms(v, OPTION_TIMEOUT), &err);
    if (rc < 0) return cli_fail(&err);
    return rc == 0 ? tell(name, "does not run", "") : tell_end(&before, state_dir);
}

int cli_stop(int argc, char **argv)
{
    return cli_with_options(argc, argv, stop);
}
