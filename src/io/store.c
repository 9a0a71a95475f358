// SPDX-License-Identifier: BSD-3-Clause
// Bytes kept aside: memory first, then an unlinked file.
#include "io/store.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define KEEP_FILE_BYTES 1048576u /* a cleared file up to this size keeps its blocks */

void store_init(struct store *s, size_t mem_cap, uint64_t max_bytes, const char *dir)
{
    *s = (struct store){.fd = -1, .max_bytes = max_bytes, .dir = dir};
    buf_init(&s->mem, mem_cap);
}

void store_release(struct store *s)
{
    buf_release(&s->mem);
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->disk_bytes = 0;
}

void store_cut(struct store *s, uint64_t size)
{
    if (size >= store_size(s)) return;
    uint64_t on_disk = size > s->mem.n ? size - s->mem.n : 0;
    /* A file that could not be cut is no loss: its bytes are overwritten next time. */
    if (s->disk_bytes > on_disk + KEEP_FILE_BYTES && ftruncate(s->fd, (off_t)on_disk) < 0)
        errno = 0;
    s->disk_bytes = on_disk;
    if (on_disk == 0) s->mem.n = (size_t)size;
}

void store_clear(struct store *s)
{
    store_cut(s, 0);
}

static int io_error(const struct store *s, const char *what, struct err *err)
{
    enum err_code code = errno && file_no_room(errno) ? ERR_BUSY : ERR_IO;
    return err_set(err, code, "cannot %s a temporary file in %.300s: %s", what, s->dir,
                   errno ? strerror(errno) : "it has become shorter");
}

/* For file systems without O_TMPFILE (NFS, some overlays). */
static int open_unlinked(const char *dir)
{
    char *path;
    if (asprintf(&path, "%s/keyhaul-XXXXXX", dir) < 0) return -1;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    free(path);
    return fd;
}

static int open_file(struct store *s, struct err *err)
{
    if (s->fd >= 0) return 0;
    if (file_make_dir(s->dir, err) < 0) return -1;
    s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (s->fd < 0) s->fd = open_unlinked(s->dir);
    return s->fd < 0 ? io_error(s, "create", err) : 0;
}

/* Part of an access at `at` that lies in memory, given that memory holds `mem` bytes. */
static size_t mem_part(size_t mem, uint64_t at, size_t n)
{
    if (at >= mem) return 0;
    return n < mem - at ? n : (size_t)(mem - at);
}

int store_add(struct store *s, const void *p, size_t n, struct err *err)
{
    if (n == 0) return 0;
    uint64_t size = store_size(s);
    if (n > s->max_bytes || size > s->max_bytes - n)
        return err_set(err, ERR_LIMIT, "more than %llu bytes to keep aside",
                       (unsigned long long)s->max_bytes);
    size_t head = s->disk_bytes ? 0 : mem_part(s->mem.cap, s->mem.n, n);
    size_t tail = n - head;
    if (buf_reserve(&s->mem, head, err) < 0) return -1;
    if (tail) {
        if (open_file(s, err) < 0) return -1;
        if (file_pwrite(s->fd, (const uint8_t *)p + head, tail, s->disk_bytes) < 0)
            return io_error(s, "write", err);
    }
    s->disk_bytes += tail;
    return buf_add(&s->mem, p, head, err);
}

int store_patch(struct store *s, uint64_t at, const void *p, size_t n, struct err *err)
{
    uint64_t size = store_size(s);
    if (at > size || n > size - at)
        return err_set(err, ERR_INTERNAL, "patch beyond what was kept aside");
    size_t head = mem_part(s->mem.n, at, n), tail = n - head;
    if (head) memcpy(s->mem.p + at, p, head);
    if (tail && file_pwrite(s->fd, (const uint8_t *)p + head, tail, at + head - s->mem.n) < 0)
        return io_error(s, "write", err);
    return 0;
}

ssize_t store_read(const struct store *s, uint64_t at, void *p, size_t n, struct err *err)
{
    uint64_t size = store_size(s);
    if (at >= size) return 0;
    if (n > size - at) n = (size_t)(size - at);
    size_t head = mem_part(s->mem.n, at, n), tail = n - head;
    if (head) memcpy(p, s->mem.p + at, head);
    if (tail && file_pread(s->fd, (uint8_t *)p + head, tail, at + head - s->mem.n) < 0)
        return io_error(s, "read", err);
    return (ssize_t)n;
}
