// SPDX-License-Identifier: BSD-3-Clause
// Segment files: a queue of bytes on disk.
#include "io/segs.h"

#include "io/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define MAX_NAME_TRIES   1000000 /* names another spool of this process, or a dead one, has taken */
#define WRITE_BACK_BYTES (8u << 20)

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
    *q = (struct segs){.dir = copy,
                       .name = name_copy,
                       .max_bytes = max_bytes,
                       .segment_bytes = segment_bytes,
                       .read_fd = -1,
                       .write_fd = -1};
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Forget the first file, and delete it. */
static void take_head(struct segs *q, bool delete)
{
    struct seg *seg = q->head;
    assert(seg);
    if (delete) unlink(seg->path);
    q->file_bytes -= seg->bytes;
    q->head = seg->next;
    if (q->rd == seg) {
        close_fd(&q->read_fd);
        q->rd = seg->next;
        q->read_at = SEG_HEADER_BYTES;
    }
    if (!q->head) {
        q->tail = NULL;
        close_fd(&q->write_fd);
        q->dirty_bytes = 0;
    }
    free(seg);
}

void segs_drop_head(struct segs *q)
{
    take_head(q, true);
}

void segs_clear(struct segs *q)
{
    while (q->head)
        take_head(q, true);
}

void segs_release(struct segs *q)
{
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
    q->file_bytes += seg->bytes;
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

static int pwrite_all(int fd, struct iovec *v, int n, uint64_t at)
{
    while (n) {
        ssize_t w = pwritev(fd, v, n, (off_t)at);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) {
            if (w == 0) errno = EIO;
            return -1;
        }
        at += (uint64_t)w;
        size_t done = (size_t)w;
        for (; n && done >= v->iov_len; v++, n--)
            done -= v->iov_len;
        if (n) {
            v->iov_base = (uint8_t *)v->iov_base + done;
            v->iov_len -= done;
        }
    }
    return 0;
}

static void make_header(uint8_t header[SEG_HEADER_BYTES], uint64_t pos)
{
    uint32_t version[2] = {1, 0};
    memcpy(header, "KHSPOOL\n", 8);
    memcpy(header + 8, version, 8);
    memcpy(header + 16, &pos, 8);
    uint64_t sum = XXH3_64bits(header, 24);
    memcpy(header + 24, &sum, 8);
}

bool segs_is_header(const uint8_t header[SEG_HEADER_BYTES], uint64_t pos)
{
    uint8_t right[SEG_HEADER_BYTES];
    make_header(right, pos);
    return memcmp(header, right, sizeof(right)) == 0;
}

/* Another file at the tail, with these bytes behind its header; they come to it in one call, so
 * that no file without a record is ever left. 1, 0, -1. */
static int append_new(struct segs *q, uint64_t pos, const struct iovec iov[2], size_t n,
                      struct err *err)
{
    uint8_t header[SEG_HEADER_BYTES];
    make_header(header, pos);
    struct iovec all[3] = {{header, sizeof(header)}, iov[0], iov[1]};
    int fd = -1;
    struct seg *seg = create_file(q, pos, &fd);
    if (!seg) return err_set(err, ERR_NOMEM, "out of memory");
    if (fd < 0 || pwrite_all(fd, all, 3, 0) < 0) {
        int rc = file_no_room(errno) ? 0 : segs_io_error("create", seg->path, err);
        if (fd >= 0) unlink(seg->path);
        close_fd(&fd);
        free(seg);
        return rc;
    }
    seg->bytes = sizeof(header) + n;
    close_fd(&q->write_fd);
    q->write_fd = fd;
    segs_link(q, seg);
    return q->log && segs_sync_dir(q, err) < 0 ? -1 : 1;
}

static int append_here(struct segs *q, struct iovec iov[2], size_t n, struct err *err)
{
    if (q->write_fd < 0) q->write_fd = open(q->tail->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (q->write_fd < 0) return segs_io_error("open", q->tail->path, err);
    if (pwrite_all(q->write_fd, iov, 2, q->tail->bytes) < 0) {
        if (!file_no_room(errno)) return segs_io_error("write", q->tail->path, err);
        /* The part that was written is given back; where that fails it is overwritten later. */
        if (ftruncate(q->write_fd, (off_t)q->tail->bytes) < 0) errno = 0;
        return 0;
    }
    q->tail->bytes += n;
    q->file_bytes += n;
    return 1;
}

int segs_append(struct segs *q, uint64_t pos, struct iovec iov[2], size_t payload, struct err *err)
{
    assert(!q->tail || pos == segs_end(q));
    size_t n = iov[0].iov_len + iov[1].iov_len;
    bool fresh = !q->tail || q->tail->bytes + n > q->segment_bytes;
    size_t need = fresh ? n + SEG_HEADER_BYTES : n;
    q->quota_hit = need > q->max_bytes || q->file_bytes > q->max_bytes - need;
    if (q->quota_hit) return 0;
    if (fresh && !q->dir_made && file_make_dir(q->dir, err) < 0) return -1;
    q->dir_made = true;
    /* Only the last file of a log may ever be found torn. */
    if (fresh && q->log && segs_sync_tail(q, err) < 0) return -1;
    int rc = fresh ? append_new(q, pos, iov, n, err) : append_here(q, iov, n, err);
    if (rc <= 0) return rc;
    q->tail->payload += payload;
    q->tail->unsynced = true;
    q->dirty_bytes = fresh ? need : q->dirty_bytes + n;
    if (q->log && q->dirty_bytes >= WRITE_BACK_BYTES) segs_write_back(q);
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
