// SPDX-License-Identifier: BSD-3-Clause
// Segment files that outlive the process: kept under names of their own, synced, found again.
//
// Every byte of what is found is hostile: names, sizes, headers and, through the caller's check,
// records.
#include "io/segs.h"

#include "base/log.h"
#include "io/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES (1u << 18)
#define MAX_POS   (1ULL << 62) /* no stream comes that far, and sums below it do not overflow */

/* ---- on the disk ---- */

static void begin_writing(struct segs *q, struct seg *seg)
{
    bool here = seg == q->tail && q->write_fd >= 0;
    int fd = here ? q->write_fd : open(seg->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    /* No promise, so no failure; segs_sync() is where one shows. */
    (void)sync_file_range(fd, (off_t)seg->begun, (off_t)(seg->bytes - seg->begun),
                          SYNC_FILE_RANGE_WRITE);
    seg->begun = seg->bytes;
    if (!here) close(fd);
}

void segs_write_back(struct segs *q)
{
    for (struct seg *seg = q->head; seg; seg = seg->next)
        if (seg->begun < seg->bytes) begin_writing(q, seg);
}

int segs_sync_dir(const struct segs *q, struct err *err)
{
    int rc = 0, fd = open(q->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system that cannot sync directories */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
        rc = err_set(err, ERR_IO, "cannot sync the spool's directory %.300s: %s", q->dir,
                     strerror(errno));
    if (fd >= 0) close(fd);
    return rc;
}

static int sync_file(struct seg *seg, struct err *err)
{
    int fd = open(seg->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int rc = fd < 0 || fdatasync(fd) < 0 ? segs_io_error("sync", seg->path, err) : 0;
    if (fd >= 0) close(fd);
    if (rc == 0) seg->unsynced = false;
    return rc;
}

int segs_sync_tail(struct segs *q, struct err *err)
{
    if (!q->tail || !q->tail->unsynced) return 0;
    if (q->write_fd < 0) return sync_file(q->tail, err);
    if (fdatasync(q->write_fd) < 0) return segs_io_error("sync", q->tail->path, err);
    q->tail->unsynced = false;
    q->tail->begun = q->tail->bytes;
    return 0;
}

static int settle_names(struct segs *q, struct err *err)
{
    if (!q->unsettled) return 0;
    if (segs_sync_dir(q, err) < 0) return -1;
    if (q->spare) q->spare->unsynced = false; /* as far as its name goes */
    q->unsettled = false;
    return 0;
}

int segs_settle(struct segs *q, struct err *err)
{
    for (struct seg *seg = q->head; seg && seg != q->tail; seg = seg->next)
        if (seg->unsynced && seg->begun == seg->bytes && sync_file(seg, err) < 0) return -1;
    return settle_names(q, err);
}

int segs_sync(struct segs *q, struct err *err)
{
    if (segs_sync_tail(q, err) < 0 || settle_names(q, err) < 0) return -1;
    for (struct seg *seg = q->head; seg; seg = seg->next)
        if (seg->unsynced && sync_file(seg, err) < 0) return -1;
    return 0;
}

/* ---- becoming a log ---- */

/* One file under its name as a log, in place of `seg`. */
static struct seg *rename_one(struct segs *q, struct seg *seg, struct err *err)
{
    struct seg *named = segs_new(q, seg->pos);
    if (!named) {
        err_set(err, ERR_NOMEM, "out of memory");
        return NULL;
    }
    if (rename(seg->path, named->path) < 0) {
        segs_io_error("rename", seg->path, err);
        free(named);
        return NULL;
    }
    named->next = seg->next;
    named->payload = seg->payload;
    named->bytes = seg->bytes;
    named->size = seg->size;
    named->unsynced = true;
    if (q->rd == seg) q->rd = named;
    if (q->tail == seg) q->tail = named;
    free(seg);
    begin_writing(q, named); /* so that a later sync has less to wait for */
    return named;
}

int segs_keep(struct segs *q, struct err *err)
{
    q->log = true;
    for (struct seg **at = &q->head; *at; at = &(*at)->next) {
        struct seg *named = rename_one(q, *at, err);
        if (!named) return -1;
        *at = named;
    }
    return q->head ? segs_sync_dir(q, err) : 0;
}

int segs_join(struct segs *front, struct segs *q, struct err *err)
{
    assert(segs_end(front) == segs_first(q));
    if (segs_sync_tail(front, err) < 0) return -1;
    front->tail->next = q->head;
    q->head = front->head;
    q->file_bytes += front->file_bytes;
    if (front->write_fd >= 0) close(front->write_fd);
    front->head = front->tail = front->rd = NULL;
    front->write_fd = -1;
    front->file_bytes = 0;
    return 0;
}

/* ---- what a former run left ---- */

struct found {
    uint64_t *pos;
    size_t n, cap;
};

/* What comes between "<name>-" and the ending; NULL: the file has another name. */
static const char *middle(const char *file, const char *name, const char *ending, size_t *ret_n)
{
    size_t head = strlen(name), all = strlen(file), tail = strlen(ending);
    if (all < head + 1 + tail || memcmp(file, name, head) != 0 || file[head] != '-') return NULL;
    if (strcmp(file + all - tail, ending) != 0) return NULL;
    *ret_n = all - tail - head - 1;
    return file + head + 1;
}

static bool is_queue_file(const char *file, const char *name)
{
    size_t n;
    const char *p = middle(file, name, ".tmp", &n);
    return p && n > 0 && n <= 20 && strspn(p, "0123456789") == n;
}

static bool is_log_file(const char *file, const char *name, uint64_t *ret_pos)
{
    size_t n;
    const char *p = middle(file, name, ".seg", &n);
    if (!p || n != 16 || strspn(p, "0123456789abcdef") != n) return false;
    *ret_pos = strtoull(p, NULL, 16);
    return true;
}

static int remove_file(int dir_fd, const char *dir, const char *file, struct err *err)
{
    if (unlinkat(dir_fd, file, 0) == 0 || errno == ENOENT) return 0;
    return err_set(err, ERR_IO, "cannot delete the spool file %.300s/%.100s: %s", dir, file,
                   strerror(errno));
}

static int note(struct found *found, uint64_t pos, struct err *err)
{
    if (found->n == MAX_FILES)
        return err_set(err, ERR_LIMIT, "more than %u spool files of a former run", MAX_FILES);
    if (found->n == found->cap) {
        size_t cap = found->cap ? 2 * found->cap : 64;
        uint64_t *more = realloc(found->pos, cap * sizeof(*more));
        if (!more) return err_set(err, ERR_NOMEM, "out of memory");
        found->pos = more;
        found->cap = cap;
    }
    found->pos[found->n++] = pos;
    return 0;
}

/* Look through the folder: files of the queue go, those of the log too unless they are asked for.
 */
static int scan(const char *dir, const char *name, struct found *log, struct err *err)
{
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return 0;
    if (!d)
        return err_set(err, ERR_IO, "cannot read the directory %.300s: %s", dir, strerror(errno));
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        uint64_t pos;
        bool of_log = is_log_file(e->d_name, name, &pos);
        if (of_log && log)
            rc = note(log, pos, err);
        else if (of_log || is_queue_file(e->d_name, name))
            rc = remove_file(dirfd(d), dir, e->d_name, err);
    }
    closedir(d);
    return rc;
}

int segs_remove_left(const char *dir, const char *name, struct err *err)
{
    return scan(dir, name, NULL, err);
}

static int by_pos(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

/* How much of one file is good, into seg->bytes and payload (0: nothing); seg->size as
 * it is. What is no readable regular file has nothing good in it. */
static int look(struct segs *q, struct seg *seg, segs_check_fn *check, void *ctx, struct err *err)
{
    uint8_t header[SEG_HEADER_BYTES];
    struct stat st;
    uint32_t salt;
    seg->size = seg->bytes = seg->payload = 0;
    /* Not blocked by a pipe of that name. */
    int fd = open(seg->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && (errno == ELOOP || errno == ENXIO)) return 0; /* a link, a socket */
    if (fd < 0) return segs_io_error("open", seg->path, err);
    int rc = fstat(fd, &st);
    if (rc == 0 && S_ISREG(st.st_mode)) {
        seg->size = (uint64_t)st.st_size;
        if (seg->pos < MAX_POS && seg->size < MAX_POS &&
            file_pread(fd, header, sizeof(header), 0) == 0 &&
            segs_is_header(header, seg->pos, &salt) && (!q->tail || salt == q->salt)) {
            q->salt = salt;
            rc = check(ctx, q, fd, seg->pos, &seg->bytes, &seg->payload);
        }
    }
    if (rc < 0) rc = segs_io_error("read", seg->path, err);
    close(fd);
    return rc;
}

/* Take the file over, cut to what is good of it. */
static int take(struct segs *q, struct seg *seg, struct err *err)
{
    if (seg->size > seg->bytes && truncate(seg->path, (off_t)seg->bytes) < 0)
        return segs_io_error("cut", seg->path, err);
    seg->unsynced = seg->size > seg->bytes;
    seg->size = seg->begun = seg->bytes;
    segs_link(q, seg);
    return 0;
}

/* Where the part of a file that is good ends before the file does. */
static void tell_cut(const struct seg *seg, bool last)
{
    if (last) /* as a rule: it was written over one that was done with */
        log_info("spool: the last file of the former run, %.300s, is good for %llu bytes of %llu",
                 seg->path, (unsigned long long)seg->bytes, (unsigned long long)seg->size);
    else
        log_warn("spool: the file %.300s is damaged behind byte %llu; neither the rest of it nor "
                 "the files after it are of use",
                 seg->path, (unsigned long long)seg->bytes);
}

/* The file of pos[0], the next of n in order: 1 the one after it joins, 0 it is the last that does
 * (or not even that), -1. */
static int recover_one(struct segs *q, const uint64_t *pos, size_t n, segs_check_fn *check,
                       void *ctx, struct err *err)
{
    if (q->tail && segs_end(q) != pos[0]) {
        log_warn("spool: files of the former run are missing from position %llu on; what comes "
                 "after them is of no use",
                 (unsigned long long)segs_end(q));
        return 0;
    }
    struct seg *seg = segs_new(q, pos[0]);
    if (!seg) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = look(q, seg, check, ctx, err);
    bool last = n == 1, joins = !last && pos[1] == seg->pos + seg->payload;
    bool whole = seg->payload > 0 && (joins || seg->bytes == seg->size);
    if (rc == 0 && !whole) tell_cut(seg, last);
    if (rc == 0 && seg->payload > 0) {
        rc = take(q, seg, err);
        if (rc == 0) return whole;
    }
    free(seg);
    return rc;
}

/* Files behind the end of what was recovered, and before its beginning, which cannot be. */
static int remove_rest(struct segs *q, const uint64_t *pos, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct seg *seg = segs_new(q, pos[i]);
        if (!seg) return err_set(err, ERR_NOMEM, "out of memory");
        int rc = unlink(seg->path) < 0 && errno != ENOENT ? segs_io_error("delete", seg->path, err)
                                                          : 0;
        free(seg);
        if (rc < 0) return rc;
    }
    return 0;
}

static int recover_all(struct segs *q, const struct found *found, segs_check_fn *check, void *ctx,
                       struct err *err)
{
    size_t i = 0;
    for (; i < found->n; i++) {
        int rc = recover_one(q, found->pos + i, found->n - i, check, ctx, err);
        if (rc < 0) return -1;
        if (rc == 0) break;
    }
    bool part = q->tail && i < found->n && q->tail->pos == found->pos[i];
    i += part;
    return i < found->n ? remove_rest(q, found->pos + i, found->n - i, err) : 0;
}

int segs_recover(struct segs *q, segs_check_fn *check, void *ctx, struct err *err)
{
    struct found found = {0};
    q->log = true;
    int rc = scan(q->dir, q->name, &found, err);
    if (rc == 0) {
        if (found.n) qsort(found.pos, found.n, sizeof(*found.pos), by_pos);
        rc = recover_all(q, &found, check, ctx, err);
    }
    free(found.pos);
    if (rc == 0 && q->tail) rc = segs_sync(q, err);
    return rc;
}
