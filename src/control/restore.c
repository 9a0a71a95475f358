// SPDX-License-Identifier: BSD-3-Clause
// A task whose source is files: an RDB, an AOF of one file (which may begin with an RDB) or of many
// with a manifest. What a file is, its content tells, never its name.
#include "control/run_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/file.h"
#include "wire/aof.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX (1u << 20) /* bytes */

struct parts {
    char (*path)[PATH_MAX];
    size_t n;
    bool listed;   /* by a manifest */
    bool commands; /* not all of them are snapshots, as far as can be told beforehand */
};

static int add_part(struct parts *ps, const char *dir, const char *name, struct err *err)
{
    char(*grown)[PATH_MAX] = realloc(ps->path, (ps->n + 1) * sizeof(*grown));
    if (!grown) return err_set(err, ERR_NOMEM, "out of memory");
    ps->path = grown;
    int n = snprintf(grown[ps->n], PATH_MAX, "%s%s%s", dir, *dir ? "/" : "", name);
    if (n < 0 || n >= PATH_MAX) return err_set(err, ERR_USAGE, "the path is too long");
    ps->n++;
    return 0;
}

/* By errno. What the user names wrongly is wrong usage; a file that a manifest names is missing. */
static int cannot(const char *what, const char *path, bool named, struct err *err)
{
    return err_set(err, errno == ENOENT && named ? ERR_USAGE : ERR_IO, "cannot %s %.300s: %s", what,
                   path, strerror(errno));
}

/* --- which files --- */

static int read_small(const char *path, struct buf *b, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cannot("open", path, true, err);
    ssize_t n = 0;
    int rc = buf_reserve(b, MANIFEST_MAX, err);
    while (rc == 0 && (n = read(fd, b->p + b->n, MANIFEST_MAX - b->n)) > 0)
        b->n += (size_t)n;
    if (n < 0) rc = cannot("read", path, true, err);
    close(fd);
    if (rc == 0 && b->n == MANIFEST_MAX)
        return err_set(err, ERR_FORMAT, "%.300s is too large for a manifest", path);
    return rc;
}

static int add_manifest(struct parts *ps, const char *dir, const char *path, struct err *err)
{
    struct buf text;
    struct aof_manifest m = {0};
    buf_init(&text, MANIFEST_MAX);
    int rc = read_small(path, &text, err);
    if (rc == 0 && aof_manifest_parse(&m, buf_span(&text), err) < 0)
        rc = err_wrap(err, "%.200s", path);
    if (rc == 0 && m.n == 0)
        rc = err_set(err, ERR_FORMAT, "%.300s names no files that hold data", path);
    ps->listed = true;
    for (size_t i = 0; i < m.n && rc == 0; i++)
        rc = add_part(ps, dir, m.part[i].name, err);
    aof_manifest_release(&m);
    buf_release(&text);
    return rc;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), e = strlen(end);
    return n > e && strcmp(s + n - e, end) == 0;
}

/* The manifest of a directory into name; 1 found, 0 none, -1 several or unreadable. */
static int find_manifest(const char *dir, char *name, size_t size, struct err *err)
{
    DIR *d = opendir(dir);
    if (!d) return cannot("read", dir, true, err);
    int found = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (!ends_with(e->d_name, ".manifest") || strncmp(e->d_name, "temp-", 5) == 0) continue;
        snprintf(name, size, "%s", e->d_name);
        found++;
    }
    closedir(d);
    if (found > 1) return err_set(err, ERR_USAGE, "%.300s holds several manifests: name one", dir);
    return found;
}

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A server's data directory, or the appendonlydir in it, or a copy of either. */
static int add_directory(struct parts *ps, const char *dir, struct err *err)
{
    char name[NAME_MAX + 1], path[PATH_MAX];
    int found = find_manifest(dir, name, sizeof(name), err);
    if (found < 0) return -1;
    if (found == 1 && snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path))
        return add_manifest(ps, dir, path, err);
    if (snprintf(path, sizeof(path), "%s/appendonlydir", dir) < (int)sizeof(path) && is_dir(path)) {
        found = find_manifest(path, name, sizeof(name), err);
        if (found < 0) return -1;
        if (found == 1) return add_directory(ps, path, err);
    }
    if (snprintf(path, sizeof(path), "%s/appendonly.aof", dir) < (int)sizeof(path) &&
        access(path, R_OK) == 0)
        return add_part(ps, dir, "appendonly.aof", err);
    return err_set(err, ERR_USAGE,
                   "%.300s is a directory without a manifest or an appendonly.aof; name the file",
                   dir);
}

static int list_parts(struct parts *ps, const char *file, struct err *err)
{
    if (strcmp(file, "-") == 0) return add_part(ps, "", "-", err);
    if (is_dir(file)) return add_directory(ps, file, err);
    if (!ends_with(file, ".manifest")) return add_part(ps, "", file, err);
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", file);
    char *slash = strrchr(dir, '/');
    if (slash) *slash = 0;
    return add_manifest(ps, slash ? dir : ".", file, err);
}

/* --- one file --- */

struct opened {
    int fd;
    int64_t ms; /* last changed: the best guess for relative times in an AOF without annotations */
};

static bool is_standard(const char *path)
{
    return strcmp(path, "-") == 0;
}

static int open_part(const struct parts *ps, size_t i, struct opened *ret, struct err *err)
{
    struct stat st;
    const char *path = ps->path[i];
    int fd = is_standard(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) return cannot("open", path, !ps->listed, err);
    bool file = S_ISREG(st.st_mode);
    *ret = (struct opened){fd, file ? (int64_t)st.st_mtim.tv_sec * 1000 : clock_wall_ms()};
    return 0;
}

static void close_part(const struct opened *o)
{
    if (o->fd != STDIN_FILENO) close(o->fd);
}

/* Does this file, which is no pipe, begin as a snapshot or with nothing at all? 1, 0, -1. */
static int begins_as_snapshot(const struct parts *ps, size_t i, struct err *err)
{
    struct opened o;
    uint8_t magic[6];
    if (open_part(ps, i, &o, err) < 0) return -1;
    ssize_t n = pread(o.fd, magic, sizeof(magic), 0);
    close_part(&o);
    if (n < 0) return cannot("read", ps->path[i], !ps->listed, err);
    return n == 0 || aof_is_rdb(magic, (size_t)n);
}

/* Every file must be there before the first is read. Pipes are not opened twice: whoever writes
 * into one would be told that nobody reads any more. */
static int weigh_parts(struct run *r, struct parts *ps, struct err *err)
{
    uint64_t total = 0;
    bool known = true;
    for (size_t i = 0; i < ps->n; i++) {
        struct stat st;
        const char *path = ps->path[i];
        if ((is_standard(path) ? fstat(STDIN_FILENO, &st) : stat(path, &st)) < 0)
            return cannot("open", path, !ps->listed, err);
        if (S_ISDIR(st.st_mode))
            return err_set(err, ps->listed ? ERR_IO : ERR_USAGE, "%.300s is a directory", path);
        known &= S_ISREG(st.st_mode);
        if (!S_ISREG(st.st_mode)) continue;
        total += (uint64_t)st.st_size;
        if (is_standard(path)) continue;
        int snapshot = begins_as_snapshot(ps, i, err);
        if (snapshot < 0) return -1;
        ps->commands |= !snapshot;
    }
    if (known && total == 0)
        return err_set(err, ERR_FORMAT, "%.300s is empty: there is nothing to restore",
                       r->cfg->file);
    counter_set(&r->counters->snapshot_bytes_total, known ? total : 0);
    r->source_facts.used_memory = total;
    return 0;
}

/* At the file's end? 1, 0, -1. */
static int at_end(struct run *r, struct err *err)
{
    if (reader_need(&r->pl.r, 1, err) == 0) return 0;
    return err->code == ERR_END ? 1 : -1;
}

static int begins_with_rdb(struct run *r, struct err *err)
{
    struct reader *in = &r->pl.r;
    struct err why;
    if (reader_need(in, 6, &why) < 0 && why.code != ERR_END)
        return err_set(err, why.code, "%s", why.msg);
    return aof_is_rdb(in->p, (size_t)(in->end - in->p));
}

static int no_skip(const char *path, struct err *err)
{
    return err_set(err, ERR_REFUSED,
                   "%.200s holds commands, which cannot leave existing keys alone: "
                   "--on-conflict skip is for snapshots; choose overwrite, or empty the target",
                   path);
}

static int begin_replay(struct run *r, struct err *err)
{
    struct replay_config cfg = {.pl = &r->pl,
                                .source = &r->source_facts,
                                .target = &r->target_facts,
                                .store_dir = r->spool_dir,
                                .store_max_bytes = run_store_max(r),
                                .db_max = r->has_load ? r->load.db_max : 0,
                                .hold_margin_ms = load_hold_margin_ms(r->source_facts.used_memory)};
    r->has_replay = true;
    /* Servers do not expire keys while they read an AOF: a later command may renew them. */
    r->pl.hold.on = true;
    return replay_init(&r->replay, &cfg, err);
}

static int replay_part(struct run *r, const char *path, bool last, struct err *err)
{
    struct replay_cut cut = {0};
    if (r->cfg->on_conflict == TASK_CONFLICT_SKIP) return no_skip(path, err);
    if (!r->has_replay && begin_replay(r, err) < 0) return -1;
    if (replay_file(&r->replay, &cut, err) < 0) return -1;
    if (!cut.cut) return 0;
    if (!last)
        return err_set(err, ERR_FORMAT,
                       "the command or transaction at byte %llu is not whole, and this is not the "
                       "last file: it is damaged",
                       (unsigned long long)cut.at);
    log_warn("%s: the command or transaction at byte %llu, its last, is not whole; it is left out, "
             "as a server would",
             path, (unsigned long long)cut.at);
    return 0;
}

/* The reader stands at the start of a file. */
static int restore_part(struct run *r, const char *path, bool last, struct err *err)
{
    int end = at_end(r, err);
    if (end != 0) return end < 0 ? -1 : 0; /* an empty increment is none */
    int rdb = begins_with_rdb(r, err);
    if (rdb < 0) return -1;
    if (rdb && (r->has_load || r->has_replay))
        return err_set(err, ERR_FORMAT, "a snapshot behind other data: that is no AOF of a server");
    if (rdb && run_load(r, err) < 0) return -1;
    if (rdb) end = at_end(r, err);
    if (end != 0) return end < 0 ? -1 : 0;
    return replay_part(r, path, last, err);
}

static bool is_about_file(enum err_code code)
{
    return code == ERR_FORMAT || code == ERR_PROTO || code == ERR_END || code == ERR_IO ||
           code == ERR_LIMIT;
}

static int settle(struct run *r, struct err *err)
{
    return hold_settle(&r->pl.hold, &r->pl.lane, 0, err);
}

/* Ended early: what is held gets its deadline nevertheless. Always -1. */
static int restore_failed(struct run *r, struct err *err)
{
    struct err last;
    if (err->code == ERR_STOPPED) return run_stopped_in_load(r, err);
    if (!is_about_file(err->code)) return -1;
    if (lane_drain(&r->pl.lane, &last) < 0 || settle(r, &last) < 0) log_error("%s", last.msg);
    return -1;
}

static int restore_one(struct run *r, const struct parts *ps, size_t i, struct err *err)
{
    struct opened o;
    if (open_part(ps, i, &o, err) < 0) return -1;
    pipeline_read_file(&r->pl, o.fd, o.ms);
    int rc = restore_part(r, ps->path[i], i + 1 == ps->n, err);
    pipeline_read_file(&r->pl, -1, 0);
    close_part(&o);
    const struct reader *in = &r->pl.r;
    if (rc < 0 && err->code == ERR_END)
        err_wrap(err, "cut off after %llu bytes",
                 (unsigned long long)(reader_pos(in) + (uint64_t)(in->end - in->p)));
    /* What the target says is not put under the file's name. */
    return rc < 0 && is_about_file(err->code) ? err_wrap(err, "%.150s", ps->path[i]) : rc;
}

static int restore_parts(struct run *r, const struct parts *ps, struct err *err)
{
    run_phase(r, PHASE_SNAPSHOT);
    counter_set(&r->counters->snapshot_started_ms, (uint64_t)clock_mono_ms());
    r->pl.hold.on = ps->n > 1;
    for (size_t i = 0; i < ps->n; i++)
        if (restore_one(r, ps, i, err) < 0) return restore_failed(r, err);
    uint64_t read = r->pl.before_file + reader_pos(&r->pl.r);
    if (read == 0) return err_set(err, ERR_FORMAT, "nothing came: there is nothing to restore");
    if (settle(r, err) < 0) return -1;
    counter_set(&r->counters->snapshot_bytes_decoded, read);
    counter_set(&r->counters->snapshot_done_ms, (uint64_t)clock_mono_ms());
    return 0;
}

/* --- the task --- */

/* Commands build upon what is there: only where nothing is they make what the file holds. */
static void tell_mixture(const struct run *r)
{
    struct err why;
    if (check_empty(&r->target_facts, r->cfg, &why) == 0) return;
    log_warn("the target holds keys already, and commands of an AOF change what they find: such "
             "keys may end as neither side had them");
}

static int check_target_side(struct run *r, const struct parts *ps, struct err *err)
{
    struct check_notes notes = {0};
    run_phase(r, PHASE_CHECK);
    if (check_target(&r->target_facts, r->cfg, err) < 0 ||
        check_target_rights(r->target, &r->target_facts, r->cfg, &notes, err) < 0)
        return -1;
    run_tell_notes(&notes);
    switch (r->cfg->on_conflict) {
    case TASK_CONFLICT_FAIL: return check_empty(&r->target_facts, r->cfg, err);
    case TASK_CONFLICT_SKIP: return ps->commands ? no_skip(r->cfg->file, err) : 0;
    case TASK_CONFLICT_OVERWRITE: break;
    }
    if (ps->commands) tell_mixture(r);
    return 0;
}

static int build(struct run *r, struct err *err)
{
    struct pipeline_config cfg = {.task = r->cfg,
                                  .counters = r->counters,
                                  .stop = r->stop,
                                  .spool_dir = r->spool_dir,
                                  .spool_max_bytes = r->spool_max,
                                  .hold_exact = facts_has(&r->target_facts, FACTS_PEXPIRETIME)};
    if (client_take_conn(r->target, &cfg.target, err) < 0) return -1;
    r->target = NULL;
    r->has_pipeline = true;
    return pipeline_init(&r->pl, &cfg, err);
}

int run_restore(struct run *r, struct err *err)
{
    struct parts ps = {0};
    run_phase(r, PHASE_CONNECT);
    snprintf(r->facts->source_shown, sizeof(r->facts->source_shown), "%s", r->cfg->file);
    r->source_facts.databases = -1; /* a file does not tell */
    int rc = list_parts(&ps, r->cfg->file, err);
    if (rc == 0) rc = weigh_parts(r, &ps, err);
    if (rc == 0) rc = run_meet_target(r, err);
    if (rc == 0) rc = check_target_side(r, &ps, err);
    if (rc == 0) rc = run_choose_spool(r, err);
    if (rc == 0) rc = build(r, err);
    if (rc == 0) rc = restore_parts(r, &ps, err);
    free(ps.path);
    return rc;
}
