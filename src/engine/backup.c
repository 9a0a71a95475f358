// SPDX-License-Identifier: BSD-3-Clause
// Writing a snapshot to a file, record by record.
#include "engine/backup.h"

#include "base/crc64.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUT_BYTES      (1u << 20)
#define HELD_MAX       (1u << 20) /* of a record, before it is decided by its first byte */
#define CHECKSUM_FIRST 5          /* RDB version */

enum opcode { OP_FUNCTION = 245, OP_MODULE_AUX = 247, OP_AUX = 250 };

/* --- the file --- */

static int cannot(const struct backup *b, const char *what, struct err *err)
{
    if (file_no_room(errno))
        return err_set(err, ERR_IO, "cannot %s %.300s: %s (%llu bytes were written)", what, b->temp,
                       strerror(errno), (unsigned long long)b->written);
    return err_set(err, ERR_IO, "cannot %s %.300s: %s%s", what, b->temp, strerror(errno),
                   errno == ENOENT   ? "; make its directory first"
                   : errno == EACCES ? "; name a place that you may write to"
                                     : "");
}

static int exists(const struct backup *b, struct err *err)
{
    return err_set(err, ERR_REFUSED, "%.300s is there already; --force replaces it", b->cfg.path);
}

/* Is the file that was opened still the one of that name? Its last writer may have renamed it
 * between our open and our lock. */
static bool is_ours(const struct backup *b)
{
    struct stat mine, named;
    return fstat(b->fd, &mine) == 0 && lstat(b->temp, &named) == 0 && mine.st_ino == named.st_ino &&
           mine.st_dev == named.st_dev;
}

/* A lock tells a backup that runs from one that was killed; the leftovers of that are written over.
 * 0: try again. */
static int open_temp(struct backup *b, struct err *err)
{
    b->fd = open(b->temp, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    int rc = b->fd < 0 ? cannot(b, "create", err) : 1;
    if (rc == 1 && flock(b->fd, LOCK_EX | LOCK_NB) < 0)
        rc = errno == EWOULDBLOCK
                 ? err_set(err, ERR_REFUSED, "another process is writing %.300s", b->temp)
                 : cannot(b, "lock", err);
    if (rc == 1 && !is_ours(b)) rc = 0;
    if (rc == 1 && ftruncate(b->fd, 0) < 0) rc = cannot(b, "empty", err);
    if (rc == 1) return 1;
    if (b->fd >= 0) close(b->fd);
    b->fd = -1;
    return rc;
}

int backup_open(struct backup *b, const struct backup_config *cfg, struct err *err)
{
    bool some = !key_select_all(cfg->keys);
    *b = (struct backup){
        .cfg = *cfg, .fd = -1, .selected = true, .part = some || !cfg->select->all};
    struct stat st;
    buf_init(&b->out, OUT_BYTES);
    buf_init(&b->held, HELD_MAX + (some ? RDB_KEY_MAX : 0));
    if (stat(cfg->path, &st) == 0 && !S_ISREG(st.st_mode))
        return err_set(err, ERR_USAGE,
                       S_ISDIR(st.st_mode) ? "%.300s is a directory; name the file to make in it"
                                           : "%.300s is no regular file",
                       cfg->path);
    if (!cfg->force && lstat(cfg->path, &st) == 0) return exists(b, err);
    int n = snprintf(b->temp, sizeof(b->temp), "%s.tmp", cfg->path), rc;
    if (n < 0 || (size_t)n >= sizeof(b->temp))
        rc = err_set(err, ERR_USAGE, "the path is too long");
    else
        while ((rc = open_temp(b, err)) == 0)
            ;
    if (rc < 0) b->temp[0] = 0; /* not ours to remove */
    return rc < 0 ? -1 : 0;
}

void backup_release(struct backup *b)
{
    if (b->temp[0]) unlink(b->temp); /* while it is locked */
    if (b->temp[0] || b->fd > 0) close(b->fd);
    buf_release(&b->out);
    buf_release(&b->held);
    *b = (struct backup){.fd = -1};
}

static int write_file(struct backup *b, const uint8_t *p, size_t n, struct err *err)
{
    if (n && file_pwrite(b->fd, p, n, b->written) < 0) return cannot(b, "write", err);
    b->written += n;
    counter_set(&b->cfg.counters->bytes_written, b->written);
    return 0;
}

static int flush(struct backup *b, struct err *err)
{
    size_t n = b->out.n;
    buf_clear(&b->out);
    return write_file(b, b->out.p, n, err);
}

static int put(struct backup *b, const uint8_t *p, size_t n, struct err *err)
{
    b->crc = crc64(b->crc, p, n);
    if (n >= OUT_BYTES) return flush(b, err) < 0 ? -1 : write_file(b, p, n, err);
    if (b->out.n + n > OUT_BYTES && flush(b, err) < 0) return -1;
    return buf_add(&b->out, p, n, err);
}

/* The directory as well: until then the name may be lost with the power. */
static int sync_parent(const char *path, struct err *err)
{
    char dir[4096];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    /* EINVAL: a file system that cannot sync directories */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
        rc = err_set(err, ERR_IO, "cannot sync %.300s: %s", slash ? dir : ".", strerror(errno));
    if (fd >= 0) close(fd);
    return rc;
}

static int publish(struct backup *b, struct err *err)
{
    unsigned flags = b->cfg.force ? 0 : RENAME_NOREPLACE;
    int rc = renameat2(AT_FDCWD, b->temp, AT_FDCWD, b->cfg.path, flags);
    /* EINVAL: a file system that cannot but replace; it was looked for before. */
    if (rc < 0 && errno == EINVAL) rc = rename(b->temp, b->cfg.path);
    if (rc < 0 && errno == EEXIST) return exists(b, err);
    if (rc < 0) return cannot(b, "rename", err);
    b->temp[0] = 0;
    return sync_parent(b->cfg.path, err);
}

int backup_finish(struct backup *b, struct err *err)
{
    if (flush(b, err) < 0) return -1;
    if (fsync(b->fd) < 0) return cannot(b, "sync", err);
    return publish(b, err);
}

/* --- the records --- */

/* Where a record goes that is too large to be kept until it is known as a whole: what may be told
 * apart from keys by its first byte is kept, the rest belongs to a key of this database. Where keys
 * are chosen by their names, the longest name fits into what is held. */
static int decide_early(struct backup *b, struct err *err)
{
    uint8_t op = b->held.p[0];
    bool some = b->in_db && !key_select_all(b->cfg.keys);
    bool apart = op == OP_FUNCTION || op == OP_MODULE_AUX || (op == OP_AUX && !some);
    b->mode = b->selected || apart ? BACKUP_COPY : BACKUP_DROP;
    if (apart || !b->selected || !some) return 0;
    return err_set(err, ERR_LIMIT, "what stands before a key is too large to choose by its name");
}

/* Every byte of the snapshot comes by here once, as the reader lets it go. */
static int tap(void *ctx, const uint8_t *p, size_t n, struct err *err)
{
    struct backup *b = ctx;
    if (b->mode == BACKUP_WAIT) {
        if (n <= b->held.cap - b->held.n) return buf_add(&b->held, p, n, err);
        if (b->held.n == 0) {
            if (buf_add(&b->held, p++, 1, err) < 0) return -1;
            n--;
        }
        if (decide_early(b, err) < 0) return -1;
        if (b->mode == BACKUP_COPY && put(b, b->held.p, b->held.n, err) < 0) return -1;
        buf_clear(&b->held);
    }
    return b->mode == BACKUP_COPY ? put(b, p, n, err) : 0;
}

static bool begins(struct span s, const char *with)
{
    return s.n >= strlen(with) && memcmp(s.p, with, strlen(with)) == 0;
}

/* Replication fields would let a server take the part for the whole of what its primary had. Others
 * go into the head of the file, but for KeyDB's: "mvcc-tstamp" stands between a key and its expiry,
 * "keydb-subexpire-..." behind its value. */
static enum backup_mode place_aux(const struct backup *b, struct span name)
{
    bool lua = span_is(name, "lua");
    if (begins(name, "repl-") || (!b->selected && !lua)) return BACKUP_DROP;
    if (!b->in_db || lua) return BACKUP_COPY;
    if (begins(name, "keydb-subexpire-")) return b->key_kept ? BACKUP_COPY : BACKUP_DROP;
    return BACKUP_WAIT;
}

static void enter_db(struct backup *b, uint64_t db)
{
    b->in_db = true;
    b->db = db;
    b->selected = db_select_target(b->cfg.select, db) >= 0;
}

static enum backup_mode place(struct backup *b, const struct rdb_rec *rec)
{
    bool keep = true;
    switch (rec->kind) {
    case RDB_REC_SELECTDB:
        enter_db(b, rec->n);
        keep = b->selected;
        break;
    case RDB_REC_AUX: return place_aux(b, rec->a);
    case RDB_REC_FUNCTION:
    case RDB_REC_MODULE_AUX: break;
    case RDB_REC_KEY:
        if (!b->in_db) enter_db(b, 0);
        keep = b->key_kept = b->selected && key_selected(b->cfg.keys, rec->a);
        break;
    case RDB_REC_RESIZEDB:
    case RDB_REC_SLOT_INFO: /* with room for all keys a server would fill its memory for some */
        keep = b->selected && key_select_all(b->cfg.keys);
        break;
    }
    return keep ? BACKUP_COPY : BACKUP_DROP;
}

/* What was kept of the record just read goes on, or away, or waits for the next. */
static int decide(struct backup *b, enum backup_mode where, struct err *err)
{
    if (b->mode != BACKUP_WAIT || where == BACKUP_WAIT) return 0;
    b->mode = where;
    int rc = where == BACKUP_COPY ? put(b, b->held.p, b->held.n, err) : 0;
    buf_clear(&b->held);
    return rc;
}

static void count_key(struct backup *b, uint64_t bytes)
{
    struct counters *c = b->cfg.counters;
    unsigned db = counters_db(b->db);
    counter_add(&c->keys_read, 1);
    if (!b->key_kept) {
        counter_add(&c->keys_filtered, 1);
        return;
    }
    counter_add(&c->keys_written, 1);
    counter_add(&c->db[db].keys, 1);
    counter_add(&c->db[db].bytes, bytes);
}

static int do_record(struct backup *b, struct reader *r, const struct rdb_rec *rec, uint64_t start,
                     struct err *err)
{
    enum backup_mode where = place(b, rec);
    if (b->part && (reader_settle(r, err) < 0 || decide(b, where, err) < 0)) return -1;
    if (rec->kind == RDB_REC_FUNCTION) counter_add(&b->cfg.counters->functions_written, 1);
    if (rec->kind == RDB_REC_RESIZEDB && b->selected)
        counter_add(&b->cfg.counters->snapshot_keys_expected, rec->n);
    if (rec->kind != RDB_REC_KEY) return 0;
    if (rdb_value_skip(r, rec->type, true, 0, err) < 0) return -1;
    count_key(b, reader_pos(r) - start);
    return 0;
}

/* Everything that is let go from here on belongs to the next record. */
static int begin_record(struct backup *b, struct reader *r, struct err *err)
{
    if (!b->part) return 0;
    if (reader_settle(r, err) < 0) return -1;
    b->mode = BACKUP_WAIT;
    return 0;
}

static int copy_records(struct backup *b, struct rdb *rdb, struct reader *r, struct err *err)
{
    struct rdb_rec rec;
    struct counters *c = b->cfg.counters;
    for (;;) {
        uint64_t start = reader_pos(r);
        if (begin_record(b, r, err) < 0) return -1;
        int rc = rdb_next(rdb, &rec, err);
        if (rc <= 0) return rc;
        if (do_record(b, r, &rec, start, err) < 0) return -1;
        counter_set(&c->snapshot_bytes_decoded, reader_pos(r));
        buf_trim(&rdb->key, HELD_MAX);
        buf_trim(&rdb->val, HELD_MAX);
        if (*b->cfg.stop) return err_set(err, ERR_STOPPED, "stopped");
    }
}

static int put_checksum(struct backup *b, struct err *err)
{
    uint8_t sum[8];
    for (int i = 0; i < 8; i++)
        sum[i] = (uint8_t)(b->crc >> (8 * i));
    return put(b, sum, sizeof(sum), err);
}

int backup_run(struct backup *b, struct reader *r, struct err *err)
{
    struct rdb rdb = {0};
    b->mode = BACKUP_COPY;
    int rc = reader_settle(r, err);
    r->tap = tap;
    r->tap_ctx = b;
    if (rc == 0) rc = rdb_open(&rdb, r, err);
    if (rc == 0) {
        reader_release(r); /* the magic is kept in any case */
        rc = copy_records(b, &rdb, r, err);
    }
    /* Up to and with the end's opcode all has passed; the source's checksum must not. */
    r->tap = NULL;
    if (rc == 0) rc = decide(b, BACKUP_COPY, err);
    if (rc == 0 && rdb.version >= CHECKSUM_FIRST) rc = put_checksum(b, err);
    counter_set(&b->cfg.counters->snapshot_bytes_decoded, reader_pos(r));
    rdb_release(&rdb);
    return rc;
}
