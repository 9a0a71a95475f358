// SPDX-License-Identifier: BSD-3-Clause
// Inspecting files or a live server.
#include "control/inspect.h"
#include "control/input.h"
#include "control/run_parts.h"

#include "io/feed.h"

#include <stdio.h>
#include <stdlib.h>

struct job {
    const struct inspect_task *task;
    struct inspect_config cfg;
    struct inspect *in;
    struct inspect_source *source;
    struct feed feed;
    uint64_t total;  /* 0: not known */
    uint64_t before; /* read of files before the one at hand */
};

static void tell_read(void *ctx, uint64_t bytes)
{
    const struct job *j = ctx;
    if (j->task->on_read) j->task->on_read(j->task->ctx, j->before + bytes, j->total);
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

static int lines_need_keys(struct err *err)
{
    return err_set(err, ERR_REFUSED,
                   "it holds commands only, and no snapshot whose keys could be printed; `keyhaul "
                   "restore` it into an empty server, and inspect that");
}

static int count_commands(struct job *j, struct reader *r, bool last, struct err *err)
{
    struct inspect_source *s = j->source;
    struct tally_config cfg = {.select = j->cfg.select, .keys = j->cfg.keys, .stop = j->task->stop};
    if (tally_run(&s->tally, &cfg, r, &s->cut, err) < 0) return -1;
    if (!s->cut.cut || last) return 0;
    return err_set(err, ERR_FORMAT,
                   "the command or transaction at byte %llu is not whole, and this is not the last "
                   "file: it is damaged",
                   (unsigned long long)s->cut.at);
}

/* The reader stands at the start of the i-th file. */
static int read_part(struct job *j, const struct input *in, size_t i, struct err *err)
{
    struct err why;
    enum input_kind kind;
    struct reader *r = &j->feed.r;
    struct inspect_source *s = j->source;
    if (input_begins(in, i, r, &kind, err) < 0) return -1;
    if (kind == INPUT_EMPTY) return 0;
    if (kind == INPUT_RDB) {
        if (s->has_snapshot || s->tally.bytes)
            return err_set(err, ERR_FORMAT,
                           "a snapshot behind other data: that is no AOF of a server");
        s->has_snapshot = true;
        if (inspect_run(j->in, &j->cfg, r, err) < 0) return -1;
        if (reader_need(r, 1, &why) < 0) /* what follows an RDB is none of its own errors */
            return why.code == ERR_END ? 0 : err_set(err, why.code, "%s", why.msg);
    } else if (!s->has_snapshot && j->cfg.digest) {
        return lines_need_keys(err);
    }
    return count_commands(j, r, i + 1 == in->n, err);
}

static int inspect_part(struct job *j, const struct input *in, size_t i, struct err *err)
{
    struct input_file f;
    if (input_open(in, i, &f, err) < 0) return -1;
    int rc = open_feed(j, f.fd, NULL, err);
    if (rc == 0) rc = read_part(j, in, i, err);
    j->before += j->feed.bytes;
    feed_release(&j->feed);
    j->feed = (struct feed){0};
    input_close(&f);
    return rc < 0 && err->code != ERR_STOPPED ? err_wrap(err, "%.150s", input_shown(in, i)) : rc;
}

static int inspect_files(struct job *j, struct err *err)
{
    struct input in;
    struct inspect_source *s = j->source;
    int rc = input_find(&in, "inspect", j->task->cfg->task.file, err);
    j->total = in.bytes;
    s->files = in.n;
    if (rc == 0) rc = tally_init(&s->tally, err);
    if (rc == 0)
        snprintf(s->shown, sizeof(s->shown), "%s",
                 in.n == 1 && !in.listed ? input_shown(&in, 0) : in.name);
    for (size_t i = 0; i < in.n && rc == 0; i++)
        rc = inspect_part(j, &in, i, err);
    if (rc == 0 && !s->has_snapshot && !s->tally.bytes)
        rc = err_set(err, ERR_FORMAT, "%s: nothing came: there is nothing to read", s->shown);
    tally_sort(&s->tally);
    input_release(&in);
    return rc;
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
        j->source->live = j->source->has_snapshot = true;
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
    int rc = t->cfg->task.file ? inspect_files(&j, err) : inspect_server(&j, err);
    feed_release(&j.feed);
    if (rc < 0 && err->code == ERR_STOPPED)
        err_set(err, ERR_INCOMPLETE, "stopped by a signal before the end was reached");
    return rc;
}

void inspect_source_release(struct inspect_source *s)
{
    facts_release(&s->facts);
    tally_release(&s->tally);
}
