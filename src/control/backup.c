// SPDX-License-Identifier: BSD-3-Clause
// A task that writes a live server's snapshot into a file.
#include "engine/backup.h"
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "io/feed.h"
#include "io/file.h"

#include <stdio.h>

struct backup_run {
    struct run *r;
    struct backup file;
    struct feed feed;
};

static void count_read(void *ctx, uint64_t bytes)
{
    struct counters *c = ctx;
    uint64_t total = counter_get(&c->snapshot_bytes_total);
    counter_set(&c->bytes_read, bytes);
    counter_set(&c->snapshot_bytes_received, total && bytes > total ? total : bytes);
}

/* The directory of the file that is to be. */
static int free_space(const char *path, uint64_t *ret, struct err *err)
{
    char dir[4096];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    return file_free_space(slash ? dir : ".", ret, err);
}

/* A source with a file of its own tells the size beforehand; a selection is smaller. */
static int check_room(const struct run *r, struct err *err)
{
    uint64_t room, need = counter_get(&r->counters->snapshot_bytes_total);
    if (need == 0 || !r->cfg->select.all || !key_select_all(&r->cfg->keys)) return 0;
    if (free_space(r->cfg->backup, &room, err) < 0) return -1;
    if (room >= need) return 0;
    char has[32], wants[32];
    return err_set(err, ERR_REFUSED, "%.300s: the snapshot has %s, but only %s are free there",
                   r->cfg->backup, num_human_bytes(wants, sizeof(wants), need),
                   num_human_bytes(has, sizeof(has), room));
}

/* Before the source forks: is there a place for the file? */
static int check(struct backup_run *b, struct err *err)
{
    struct run *r = b->r;
    struct backup_config cfg = {.path = r->cfg->backup,
                                .force = r->cfg->force,
                                .select = &r->cfg->select,
                                .keys = &r->cfg->keys,
                                .counters = r->counters,
                                .stop = r->stop};
    if (run_phase(r, PHASE_CHECK, err) < 0) return -1;
    if (r->source_facts.sentinel)
        return err_set(err, ERR_REFUSED, "source: this is a Sentinel; name a server it watches");
    if (r->source_facts.cluster)
        log_warn("the source is a node of a cluster: the backup holds its share of the keys only");
    return backup_open(&b->file, &cfg, err);
}

static int copy(struct backup_run *b, struct err *err)
{
    struct run *r = b->r;
    struct feed_config cfg = {.fd = -1,
                              .conn = r->psync.conn,
                              .silence_ms = r->cfg->io_timeout_ms,
                              .stop = r->stop,
                              .on_read = count_read,
                              .ctx = r->counters};
    if (run_phase(r, PHASE_SNAPSHOT, err) < 0) return -1;
    counter_set(&r->counters->snapshot_started_ms, (uint64_t)clock_mono_ms());
    if (feed_init(&b->feed, &cfg, err) < 0) return -1;
    int rc = backup_run(&b->file, &b->feed.r, err);
    if (rc == 0) rc = run_snapshot_end(&r->psync, &b->feed.r, err);
    if (rc < 0 && (err->code == ERR_FORMAT || err->code == ERR_NET)) err_wrap(err, "source");
    if (rc == 0) rc = backup_finish(&b->file, err);
    if (rc == 0) counter_set(&r->counters->snapshot_done_ms, (uint64_t)clock_mono_ms());
    return rc;
}

int run_backup(struct run *r, struct err *err)
{
    struct backup_run b = {.r = r, .file = {.fd = -1}};
    int rc = run_meet_source(r, err);
    if (rc == 0) rc = check(&b, err);
    if (rc == 0) rc = run_attach(r, err);
    if (rc == 0) rc = check_room(r, err);
    if (rc == 0) rc = copy(&b, err);
    if (rc == 0) run_tell_selection(r);
    backup_release(&b.file);
    feed_release(&b.feed);
    /* Unlike a move, half a backup is of no use: that is no good end. */
    if (rc < 0 && err->code == ERR_STOPPED)
        err_set(err, ERR_INCOMPLETE, "stopped by a signal: %.300s was not written", r->cfg->backup);
    return rc;
}
