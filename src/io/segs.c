// SPDX-License-Identifier: BSD-3-Clause
// Segment files: a queue of bytes on disk.
#include "io/segs.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_NAME_TRIES 1000000 /* names another spool of this process, or a dead one, has taken */

struct seg {
    struct seg *next;
    uint64_t bytes;
    char path[]; /* NUL-terminated */
};

static int io_error(const char *what, const struct seg *seg, struct err *err)
{
    return err_set(err, ERR_IO, "cannot %s the spool file %.300s: %s", what, seg->path,
                   errno ? strerror(errno) : "it has become shorter");
}

int segs_init(struct segs *q, const char *dir, uint64_t max_bytes, uint64_t segment_bytes,
              struct err *err)
{
    char *copy = strdup(dir);
    if (!copy) return err_set(err, ERR_NOMEM, "out of memory");
    *q = (struct segs){.dir = copy,
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

static void drop_head(struct segs *q)
{
    struct seg *seg = q->head;
    unlink(seg->path);
    close_fd(&q->read_fd);
    q->read_at = 0;
    q->file_bytes -= seg->bytes;
    q->head = seg->next;
    if (!q->head) {
        q->tail = NULL;
        close_fd(&q->write_fd);
    }
    free(seg);
}

void segs_clear(struct segs *q)
{
    while (q->head)
        drop_head(q);
}

void segs_release(struct segs *q)
{
    segs_clear(q);
    free(q->dir);
    *q = (struct segs){.read_fd = -1, .write_fd = -1};
}

/* ---- appending ---- */

/* A file under the first free name, its path in seg->path (which has room for `size` bytes). */
static int create_file(struct segs *q, struct seg *seg, size_t size)
{
    for (unsigned tries = 0; tries < MAX_NAME_TRIES; tries++) {
        snprintf(seg->path, size, "%s/spool-%ld-%llu.seg", q->dir, (long)getpid(),
                 (unsigned long long)q->next_number++);
        int fd = open(seg->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

/* A new file at the tail: 1, 0 when the disk has no room for it, -1. */
static int add_segment(struct segs *q, struct err *err)
{
    if (!q->dir_made && file_make_dir(q->dir, err) < 0) return -1;
    q->dir_made = true;
    size_t size = strlen(q->dir) + 64;
    struct seg *seg = calloc(1, sizeof(*seg) + size);
    if (!seg) return err_set(err, ERR_NOMEM, "out of memory");
    int fd = create_file(q, seg, size);
    if (fd < 0) {
        int rc = file_no_room(errno) ? 0 : io_error("create", seg, err);
        free(seg);
        return rc;
    }
    close_fd(&q->write_fd);
    q->write_fd = fd;
    if (q->tail)
        q->tail->next = seg;
    else
        q->head = seg;
    q->tail = seg;
    return 1;
}

int segs_append(struct segs *q, const void *p, size_t n, struct err *err)
{
    if (n > q->max_bytes || q->file_bytes > q->max_bytes - n) return 0;
    bool full = q->tail && q->tail->bytes > 0 && q->tail->bytes + n > q->segment_bytes;
    if (!q->tail || full) {
        int rc = add_segment(q, err);
        if (rc <= 0) return rc;
    }
    if (file_pwrite(q->write_fd, p, n, q->tail->bytes) < 0) {
        if (!file_no_room(errno)) return io_error("write", q->tail, err);
        /* The part that was written is given back; where that fails it is overwritten later. */
        if (ftruncate(q->write_fd, (off_t)q->tail->bytes) < 0) errno = 0;
        return 0;
    }
    q->tail->bytes += n;
    q->file_bytes += n;
    return 1;
}

/* ---- reading ---- */

ssize_t segs_read(struct segs *q, void *p, size_t n, struct err *err)
{
    while (q->head && q->head->next && q->read_at >= q->head->bytes)
        drop_head(q);
    if (!q->head || q->read_at >= q->head->bytes) return 0;
    if (q->read_fd < 0) q->read_fd = open(q->head->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (q->read_fd < 0) return io_error("open", q->head, err);
    uint64_t left = q->head->bytes - q->read_at;
    if (n > left) n = (size_t)left;
    if (file_pread(q->read_fd, p, n, q->read_at) < 0) return io_error("read", q->head, err);
    return (ssize_t)n;
}

void segs_advance(struct segs *q, size_t n)
{
    q->read_at += n;
    while (q->head && q->head->next && q->read_at >= q->head->bytes)
        drop_head(q);
}

int segs_damaged(const struct segs *q, size_t ahead, const char *what, struct err *err)
{
    return err_set(err, ERR_IO,
                   "the spool file %.300s is damaged at byte %llu: %s (the disk or another program "
                   "changed it)",
                   q->head ? q->head->path : q->dir, (unsigned long long)(q->read_at + ahead),
                   what);
}
