// SPDX-License-Identifier: BSD-3-Clause
// Segment files: a queue of bytes on disk.
#include "io/segs.h"

#include "base/clock.h"
#include "io/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

#define MAX_NAME_TRIES 1000000 /* names another spool of this process, or a dead one, has taken */
#define BLOCKS_MIN     (1u << 20)
#define SPARE_MS       120000 /* after that its pages may have to be read in to be written over */

int segs_io_error(const char *what, const char *path, struct err *err)
{
    return err_set(err, ERR_IO, "cannot %s the spool file %.300s: %s", what, path,
                   errno ? strerror(errno) : "it has become shorter");
}

int segs_init(struct segs *q, const char *dir, const char *name, uint64_t max_bytes,
              uint64_t segment_bytes, struct err *err)
{
    char *copy = strdup(dir), *name_copy = name ? strdup(name) : NULL;
    if (!copy || (name && !name_copy)) {
        free(copy);
        free(name_copy);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    uint32_t salt;
    if (getrandom(&salt, sizeof(salt), GRND_NONBLOCK) != sizeof(salt))
        salt = (uint32_t)getpid() ^
               (uint32_t)clock_wall_ms(); /* just after the start of a machine */
    *q = (struct segs){.dir = copy,
                       .name = name_copy,
                       .max_bytes = max_bytes,
                       .segment_bytes = segment_bytes,
                       .salt = salt,
                       .read_fd = -1,
                       .write_fd = -1};
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* The first file is none of the queue's any more. */
static struct seg *unlink_head(struct segs *q)
{
    struct seg *seg = q->head;
    assert(seg);
    q->file_bytes -= seg->size;
    q->head = seg->next;
    if (q->rd == seg) {
        close_fd(&q->read_fd);
        q->rd = seg->next;
        q->read_at = SEG_HEADER_BYTES;
    }
    if (!q->head) {
        q->tail = NULL;
        close_fd(&q->write_fd);
    }
    return seg;
}

/* Forget the first file, and delete it. */
static void take_head(struct segs *q, bool delete)
{
    struct seg *seg = unlink_head(q);
    if (delete) unlink(seg->path);
    free(seg);
}

void segs_drop_head(struct segs *q)
{
    take_head(q, true);
}

bool segs_drop_spare(struct segs *q)
{
    if (!q->spare) return false;
    unlink(q->spare->path);
    q->file_bytes -= q->spare->size;
    free(q->spare);
    q->spare = NULL;
    return true;
}

/* Under a name of the queue's, which nobody takes for a part of the log after a crash. */
void segs_retire_head(struct segs *q)
{
    bool log = q->log, fits = !q->spare && q->head->size >= q->segment_bytes / 2;
    q->log = false;
    struct seg *spare = fits ? segs_new(q, 0) : NULL;
    q->log = log;
    if (!spare || rename(q->head->path, spare->path) < 0) {
        free(spare);
        take_head(q, true);
        return;
    }
    spare->size = q->head->size;
    spare->made_ms = q->head->made_ms;
    spare->unsynced = true;
    free(unlink_head(q));
    q->spare = spare;
    q->file_bytes += spare->size;
}

void segs_clear(struct segs *q)
{
    while (q->head)
        take_head(q, true);
    segs_drop_spare(q);
}

/* What stands behind the end of a log, of a file that was here before, is of no use. */
static void trim_tail(struct segs *q)
{
    struct seg *seg = q->tail;
    if (!q->log || !seg || seg->size == seg->bytes) return;
    if (truncate(seg->path, (off_t)seg->bytes) < 0) return; /* the next run does it */
    q->file_bytes -= seg->size - seg->bytes;
    seg->size = seg->bytes;
}

void segs_release(struct segs *q)
{
    trim_tail(q);
    segs_drop_spare(q);
    while (q->head)
        take_head(q, !q->log);
    free(q->dir);
    free(q->name);
    *q = (struct segs){.read_fd = -1, .write_fd = -1};
}

/* ---- appending ---- */

struct seg *segs_new(struct segs *q, uint64_t pos)
{
    size_t size = strlen(q->dir) + (q->name ? strlen(q->name) : 0) + 64;
    struct seg *seg = calloc(1, sizeof(*seg) + size);
    if (!seg) return NULL;
    seg->pos = pos;
    seg->made_ms = clock_mono_ms();
    if (q->log)
        snprintf(seg->path, size, "%s/%s-%016llx.seg", q->dir, q->name, (unsigned long long)pos);
    else if (q->name)
        snprintf(seg->path, size, "%s/%s-%llu.tmp", q->dir, q->name,
                 (unsigned long long)q->next_number++);
    else
        snprintf(seg->path, size, "%s/spool-%ld-%llu.seg", q->dir, (long)getpid(),
                 (unsigned long long)q->next_number++);
    return seg;
}

void segs_link(struct segs *q, struct seg *seg)
{
    if (q->tail)
        q->tail->next = seg;
    else
        q->head = seg;
    if (!q->rd) {
        q->rd = seg;
        q->read_at = SEG_HEADER_BYTES;
    }
    q->tail = seg;
    q->file_bytes += seg->size;
}

/* A file under the first free name (a log has but one). NULL: no memory or errno. */
static struct seg *create_file(struct segs *q, uint64_t pos, int *ret_fd)
{
    for (unsigned tries = 0; tries < MAX_NAME_TRIES; tries++) {
        struct seg *seg = segs_new(q, pos);
        if (!seg) return NULL;
        *ret_fd = open(seg->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (*ret_fd >= 0 || errno != EEXIST || q->log) return seg;
        free(seg);
    }
    return NULL;
}

static int pwrite_all(int fd, const struct iovec *iov, unsigned n, uint64_t at)
{
    struct iovec rest[SEGS_IOV_MAX + 1];
    while (n) {
        ssize_t w = pwritev(fd, iov, (int)n, (off_t)at);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) {
            if (w == 0) errno = EIO;
            return -1;
        }
        at += (uint64_t)w;
        size_t done = (size_t)w;
        for (; n && done >= iov->iov_len; iov++, n--)
            done -= iov->iov_len;
        if (n == 0) break;
        memmove(rest, iov, n * sizeof(*rest));
        rest[0].iov_base = (uint8_t *)rest[0].iov_base + done;
        rest[0].iov_len -= done;
        iov = rest;
    }
    return 0;
}

static void make_header(uint8_t header[SEG_HEADER_BYTES], uint64_t pos, uint32_t salt)
{
    uint32_t version[2] = {1, salt};
    memcpy(header, "KHSPOOL\n", 8);
    memcpy(header + 8, version, 8);
    memcpy(header + 16, &pos, 8);
    uint64_t sum = XXH3_64bits(header, 24);
    memcpy(header + 24, &sum, 8);
}

bool segs_is_header(const uint8_t header[SEG_HEADER_BYTES], uint64_t pos, uint32_t *ret_salt)
{
    uint8_t right[SEG_HEADER_BYTES];
    uint32_t salt;
    memcpy(&salt, header + 12, sizeof(salt));
    make_header(right, pos, salt);
    if (memcmp(header, right, sizeof(right)) != 0) return false;
    *ret_salt = salt;
    return true;
}

static size_t bytes_of(const struct segs_put *put)
{
    size_t n = 0;
    for (unsigned i = 0; i < put->n_iov; i++)
        n += put->iov[i].iov_len;
    return n;
}

/* Everything of a file in one call, so that none without a record is ever left. */
static int write_first(int fd, const struct segs *q, uint64_t pos, const struct segs_put *put)
{
    uint8_t header[SEG_HEADER_BYTES];
    struct iovec all[SEGS_IOV_MAX + 1] = {{header, sizeof(header)}};
    make_header(header, pos, q->salt);
    memcpy(all + 1, put->iov, put->n_iov * sizeof(*all));
    return pwrite_all(fd, all, put->n_iov + 1, 0);
}

/* Over the spare, which gets its name when that has been done. NULL: it will not do. */
static struct seg *reuse_file(struct segs *q, uint64_t pos, const struct segs_put *put, int *ret_fd)
{
    struct seg *spare = q->spare;
    struct err ignored;
    if (clock_mono_ms() - spare->made_ms > SPARE_MS) return NULL;
    /* Its old name must not come back after a power cut, with other bytes behind it. */
    if (spare->unsynced && segs_sync_dir(q, &ignored) < 0) return NULL;
    spare->unsynced = false;
    struct seg *seg = segs_new(q, pos);
    int fd = seg ? open(spare->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0 || write_first(fd, q, pos, put) < 0 || rename(spare->path, seg->path) < 0) {
        close_fd(&fd);
        free(seg);
        return NULL;
    }
    seg->size = spare->size;
    q->file_bytes -= spare->size;
    q->spare = NULL;
    free(spare);
    *ret_fd = fd;
    return seg;
}

/* What an append of n bytes would add to the files' sizes is more than the quota has left. */
static bool is_over_quota(const struct segs *q, size_t n, bool fresh)
{
    uint64_t end = fresh ? SEG_HEADER_BYTES + n : q->tail->bytes + n;
    uint64_t has = !fresh ? q->tail->size : q->spare ? q->spare->size : 0;
    uint64_t more = end > has ? end - has : 0;
    return more && (more > q->max_bytes || q->file_bytes > q->max_bytes - more);
}

/* All of the file's blocks at once, which is cheaper than bit by bit. Where that is not to be had
 * they come as it grows. */
static void take_blocks(struct segs *q, struct seg *seg, int fd)
{
    if (!q->log || q->segment_bytes < BLOCKS_MIN || is_over_quota(q, q->segment_bytes, true))
        return;
    if (fallocate(fd, 0, 0, (off_t)q->segment_bytes) == 0) seg->size = q->segment_bytes;
}

/* 1, 0, -1. */
static int make_file(struct segs *q, uint64_t pos, const struct segs_put *put, struct seg **ret,
                     int *ret_fd, struct err *err)
{
    int fd = -1;
    struct seg *seg = create_file(q, pos, &fd);
    if (!seg) return err_set(err, ERR_NOMEM, "out of memory");
    if (fd < 0 || write_first(fd, q, pos, put) < 0) {
        int rc = file_no_room(errno) ? 0 : segs_io_error("create", seg->path, err);
        if (fd >= 0) unlink(seg->path);
        close_fd(&fd);
        free(seg);
        return rc;
    }
    take_blocks(q, seg, fd);
    *ret = seg;
    *ret_fd = fd;
    return 1;
}

/* Another file at the tail: 1, 0, -1. */
static int append_new(struct segs *q, uint64_t pos, const struct segs_put *put, struct err *err)
{
    int fd = -1;
    struct seg *seg = q->spare ? reuse_file(q, pos, put, &fd) : NULL;
    if (!seg && segs_drop_spare(q)) return segs_append(q, pos, put, err); /* if the quota lets us */
    int rc = seg ? 1 : make_file(q, pos, put, &seg, &fd, err);
    if (rc <= 0) return rc;
    seg->bytes = SEG_HEADER_BYTES + bytes_of(put);
    if (seg->size < seg->bytes) seg->size = seg->bytes;
    close_fd(&q->write_fd);
    q->write_fd = fd;
    q->unsettled = q->log;
    segs_link(q, seg);
    return 1;
}

static void resize_tail(struct segs *q, uint64_t size)
{
    q->file_bytes += size - q->tail->size;
    q->tail->size = size;
}

static int append_here(struct segs *q, const struct segs_put *put, struct err *err)
{
    struct seg *tail = q->tail;
    if (q->write_fd < 0) q->write_fd = open(tail->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (q->write_fd < 0) return segs_io_error("open", tail->path, err);
    if (pwrite_all(q->write_fd, put->iov, put->n_iov, tail->bytes) < 0) {
        if (!file_no_room(errno)) return segs_io_error("write", tail->path, err);
        /* The part that was written is given back; where that fails it is overwritten later. */
        if (ftruncate(q->write_fd, (off_t)tail->bytes) == 0) resize_tail(q, tail->bytes);
        return 0;
    }
    tail->bytes += bytes_of(put);
    if (tail->size < tail->bytes) resize_tail(q, tail->bytes);
    return 1;
}

int segs_append(struct segs *q, uint64_t pos, const struct segs_put *put, struct err *err)
{
    assert(put->n_iov <= SEGS_IOV_MAX && (!q->tail || pos == segs_end(q)));
    size_t n = bytes_of(put);
    bool fresh = !q->tail || q->tail->bytes + n > q->segment_bytes;
    q->quota_hit = is_over_quota(q, n, fresh);
    if (q->quota_hit) return 0;
    if (fresh && !q->dir_made && file_make_dir(q->dir, err) < 0) return -1;
    q->dir_made = true;
    int rc = fresh ? append_new(q, pos, put, err) : append_here(q, put, err);
    if (rc <= 0) return rc;
    q->tail->payload += put->payload;
    q->tail->unsynced = true;
    return 1;
}

/* ---- reading ---- */

static void next_file(struct segs *q)
{
    if (!q->log) {
        take_head(q, true); /* which is the one that is read */
        return;
    }
    close_fd(&q->read_fd);
    q->rd = q->rd->next;
    q->read_at = SEG_HEADER_BYTES;
}

ssize_t segs_read(struct segs *q, void *p, size_t n, struct err *err)
{
    while (q->rd && q->rd->next && q->read_at >= q->rd->bytes)
        next_file(q);
    if (!q->rd || q->read_at >= q->rd->bytes) return 0;
    if (q->read_fd < 0) q->read_fd = open(q->rd->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (q->read_fd < 0) return segs_io_error("open", q->rd->path, err);
    uint64_t left = q->rd->bytes - q->read_at;
    if (n > left) n = (size_t)left;
    if (file_pread(q->read_fd, p, n, q->read_at) < 0)
        return segs_io_error("read", q->rd->path, err);
    q->read_at += n;
    return (ssize_t)n;
}

void segs_unread(struct segs *q, size_t n)
{
    q->read_at -= n;
}

static void read_at(struct segs *q, struct seg *seg, uint64_t at)
{
    if (q->rd != seg) close_fd(&q->read_fd);
    q->rd = seg;
    q->read_at = at;
}

void segs_read_from_end(struct segs *q)
{
    if (q->tail) read_at(q, q->tail, q->tail->bytes);
}

uint64_t segs_read_from(struct segs *q, uint64_t pos)
{
    struct seg *seg = q->head;
    while (seg->next && seg->next->pos <= pos)
        seg = seg->next;
    read_at(q, seg, SEG_HEADER_BYTES);
    return seg->pos;
}

int segs_damaged(const struct segs *q, size_t behind, const char *what, struct err *err)
{
    return err_set(err, ERR_IO,
                   "the spool file %.300s is damaged at byte %llu: %s (the disk or another program "
                   "changed it)",
                   q->rd ? q->rd->path : q->dir, (unsigned long long)(q->read_at - behind), what);
}
