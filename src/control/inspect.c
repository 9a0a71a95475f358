// SPDX-License-Identifier: BSD-3-Clause
// Inspecting a file or a live server.
#include "control/inspect.h"
#include "control/run_parts.h"

#include "io/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct job {
    const struct inspect_task *task;
    struct inspect_config cfg;
    struct inspect *in;
    struct inspect_source *source;
    struct feed feed;
    uint64_t total; /* 0: not known */
};

static void tell_read(void *ctx, uint64_t bytes)
{
    const struct job *j = ctx;
    if (j->task->on_read) j->task->on_read(j->task->ctx, bytes, j->total);
}

static int open_feed(struct job *j, int fd, struct conn *conn, struct err *err)
{
    struct feed_config cfg = {.fd = fd,
                              .conn = conn,
                              .silence_ms = j->task->cfg->task.io_timeout_ms,
                              .stop = j->task->stop,
                              .on_read = tell_read,
                              .ctx = j};
    return feed_init(&j->feed, &cfg, err);
}

/* --- files --- */

static int cannot(const char *what, const char *path, struct err *err)
{
    return err_set(err, errno == ENOENT ? ERR_USAGE : ERR_IO, "cannot %s %.300s: %s", what, path,
                   strerror(errno));
}

static int open_input(struct job *j, const char *path, struct err *err)
{
    struct stat st;
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) return cannot("open", path, err);
    if (S_ISDIR(st.st_mode)) {
        close(fd);
        return err_set(err, ERR_USAGE,
                       "%.300s is a directory: name the RDB in it, or the AOF that begins with one "
                       "(...base.rdb)",
                       path);
    }
    if (S_ISREG(st.st_mode)) j->total = (uint64_t)st.st_size;
    return fd;
}

/* The words for what is no snapshot at all. */
static int check_start(struct reader *r, struct err *err)
{
    struct err why;
    if (reader_need(r, 1, &why) < 0)
        return why.code == ERR_END ? err_set(err, ERR_FORMAT, "it is empty")
                                   : err_set(err, why.code, "%s", why.msg);
    if (*r->p != '*' && *r->p != '#') return 0;
    return err_set(err, ERR_FORMAT,
                   "it holds commands only (an AOF without a snapshot at its start): there is "
                   "nothing that could be counted without running them");
}

static int read_file(struct job *j, struct err *err)
{
    struct reader *r = &j->feed.r;
    struct err why;
    if (check_start(r, err) < 0 || inspect_run(j->in, &j->cfg, r, err) < 0) return -1;
    j->source->commands_follow = reader_need(r, 1, &why) == 0;
    return 0;
}

static int inspect_file(struct job *j, struct err *err)
{
    const char *path = j->task->cfg->task.file;
    bool standard = strcmp(path, "-") == 0;
    int fd = open_input(j, path, err);
    if (fd < 0) return -1;
    snprintf(j->source->shown, sizeof(j->source->shown), "%s", standard ? "standard input" : path);
    int rc = open_feed(j, fd, NULL, err);
    if (rc == 0) rc = read_file(j, err);
    if (!standard) close(fd);
    return rc < 0 && err->code != ERR_STOPPED ? err_wrap(err, "%.150s", j->source->shown) : rc;
}

/* --- a live server --- */

static int read_server(struct job *j, struct run *r, struct err *err)
{
    if (run_attach(r, err) < 0) return -1;
    j->total = r->psync.eof_mark ? 0 : r->psync.rdb_bytes;
    if (open_feed(j, -1, r->psync.conn, err) < 0) return -1;
    if (inspect_run(j->in, &j->cfg, &j->feed.r, err) < 0 ||
        run_snapshot_end(&r->psync, &j->feed.r, err) < 0)
        return err->code == ERR_STOPPED ? -1 : err_wrap(err, "source");
    return 0;
}

static int inspect_server(struct job *j, struct err *err)
{
    struct counters *c = calloc(1, sizeof(*c));
    struct run *r = calloc(1, sizeof(*r));
    struct task_facts facts = {0};
    int rc = c && r ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    if (rc == 0) {
        r->cfg = &j->task->cfg->task;
        r->counters = c;
        r->facts = &facts;
        r->stop = j->task->stop;
        rc = run_meet_source(r, err);
        j->source->live = true;
        snprintf(j->source->shown, sizeof(j->source->shown), "%s", facts.source_shown);
        snprintf(j->source->name, sizeof(j->source->name), "%s", facts.source_name);
        if (rc == 0) rc = read_server(j, r, err);
        j->source->facts = r->source_facts;
        r->source_facts = (struct server_facts){0}; /* they are the caller's now */
        run_release(r);
    }
    free(r);
    free(c);
    return rc;
}

int inspect_task_run(const struct inspect_task *t, struct inspect *in, struct inspect_source *ret,
                     struct err *err)
{
    struct job j = {.task = t, .cfg = t->inspect, .in = in, .source = ret};
    *ret = (struct inspect_source){0};
    j.cfg.select = &t->cfg->task.select;
    j.cfg.keys = &t->cfg->task.keys;
    j.cfg.stop = t->stop;
    if (inspect_init(in, err) < 0) return -1;
    int rc = t->cfg->task.file ? inspect_file(&j, err) : inspect_server(&j, err);
    feed_release(&j.feed);
    if (rc < 0 && err->code == ERR_STOPPED)
        err_set(err, ERR_INCOMPLETE, "stopped by a signal before the end was reached");
    return rc;
}

void inspect_source_release(struct inspect_source *s)
{
    facts_release(&s->facts);
}
