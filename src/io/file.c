// SPDX-License-Identifier: BSD-3-Clause
// Local files: replaced atomically, read as secrets, written and read at a position.
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int io_error(struct err *err, const char *what, const char *path)
{
    return err_set(err, ERR_IO, "cannot %s %.300s: %s", what, path, strerror(errno));
}

int file_pwrite(int fd, const void *p, size_t n, uint64_t at)
{
    const uint8_t *b = p;
    while (n) {
        ssize_t w = pwrite(fd, b, n, (off_t)at);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return -1;
        if (w == 0) {
            errno = EIO;
            return -1;
        }
        b += w;
        at += (uint64_t)w;
        n -= (size_t)w;
    }
    return 0;
}

int file_pread(int fd, void *p, size_t n, uint64_t at)
{
    uint8_t *b = p;
    while (n) {
        ssize_t r = pread(fd, b, n, (off_t)at);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -1;
        if (r == 0) {
            errno = 0;
            return -1;
        }
        b += r;
        at += (uint64_t)r;
        n -= (size_t)r;
    }
    return 0;
}

bool file_no_room(int errnum)
{
    return errnum == ENOSPC || errnum == EDQUOT || errnum == EFBIG;
}

int file_sync_parent(const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    char *dir = slash ? strndup(path, n ? n : 1) : strdup(".");
    if (!dir) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = 0, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system that cannot sync directories */
    if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL)) rc = io_error(err, "sync", dir);
    if (fd >= 0) close(fd);
    free(dir);
    return rc;
}

/* Not mkstemp, whose files are private: what is published gets the usual mode, and the umask cannot
 * be read without changing it for all threads. */
int file_new_begin(struct file_new *f, const char *path, mode_t mode, struct err *err)
{
    f->path = path;
    f->fd = -1;
    for (unsigned i = 0; i < 100; i++) {
        int n = snprintf(f->temp, sizeof(f->temp), "%s.%ld.%u.tmp", path, (long)getpid(), i);
        if (n < 0 || (size_t)n >= sizeof(f->temp))
            return err_set(err, ERR_IO, "path is too long: %.300s", path);
        f->fd = open(f->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
        if (f->fd >= 0) return 0;
        if (errno != EEXIST) break;
    }
    return io_error(err, "create", f->temp);
}

void file_new_drop(struct file_new *f)
{
    if (f->fd < 0) return;
    close(f->fd);
    unlink(f->temp);
    f->fd = -1;
}

int file_new_write(struct file_new *f, const void *p, size_t n, uint64_t at, struct err *err)
{
    return file_pwrite(f->fd, p, n, at) < 0 ? io_error(err, "write", f->temp) : 0;
}

int file_new_commit(struct file_new *f, bool sync, struct err *err)
{
    int rc = 0;
    if (sync && fsync(f->fd) < 0) rc = io_error(err, "sync", f->temp);
    if (close(f->fd) < 0 && rc == 0) rc = io_error(err, "close", f->temp);
    f->fd = -1;
    if (rc == 0 && rename(f->temp, f->path) < 0) rc = io_error(err, "replace", f->path);
    if (rc < 0) {
        unlink(f->temp);
        return -1;
    }
    return sync ? file_sync_parent(f->path, err) : 0;
}

static int replace(const char *path, struct span bytes, mode_t mode, bool sync, struct err *err)
{
    struct file_new f;
    if (file_new_begin(&f, path, mode, err) < 0) return -1;
    if (file_new_write(&f, bytes.p, bytes.n, 0, err) == 0) return file_new_commit(&f, sync, err);
    file_new_drop(&f);
    return -1;
}

int file_write_atomic(const char *path, struct span bytes, bool sync, struct err *err)
{
    return replace(path, bytes, 0644, sync, err);
}

int file_write_private(const char *path, struct span bytes, bool sync, struct err *err)
{
    return replace(path, bytes, 0600, sync, err);
}

/* Up to `max` bytes of a file or pipe; returns how many, -1 with errno. */
static ssize_t read_some(int fd, uint8_t *p, size_t max)
{
    size_t n = 0;
    while (n < max) {
        ssize_t r = read(fd, p + n, max - n);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -1;
        if (r == 0) break;
        n += (size_t)r;
    }
    return (ssize_t)n;
}

/* What is open as fd, at most buf->cap bytes. */
static int read_open(int fd, const char *path, struct buf *buf, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0) return io_error(err, "read", path);
    if (!S_ISREG(st.st_mode)) return err_set(err, ERR_IO, "%.300s is no regular file", path);
    if ((uint64_t)st.st_size > buf->cap)
        return err_set(err, ERR_LIMIT, "%.300s is larger than %zu bytes", path, buf->cap);
    size_t max = (size_t)st.st_size;
    if (buf_reserve(buf, max ? max : 1, err) < 0) return -1;
    ssize_t n = read_some(fd, buf->p, max);
    if (n < 0) return io_error(err, "read", path);
    buf->n = (size_t)n;
    return 1;
}

int file_read_whole(const char *path, struct buf *buf, struct err *err)
{
    buf_clear(buf);
    /* not to wait for whoever might write into a pipe */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? 0 : io_error(err, "read", path);
    int rc = read_open(fd, path, buf, err);
    close(fd);
    return rc;
}

/* Keep the first line of what was read, NUL behind it. */
static int first_line(const char *path, struct buf *buf, const uint8_t *p, size_t n,
                      struct err *err)
{
    const uint8_t *nl = n ? memchr(p, '\n', n) : NULL;
    size_t len = nl ? (size_t)(nl - p) : n;
    if (len && p[len - 1] == '\r') len--;
    if (len == 0) return err_set(err, ERR_USAGE, "%.300s: the first line is empty", path);
    if (memchr(p, 0, len)) return err_set(err, ERR_USAGE, "%.300s: not a text file", path);
    buf_clear(buf);
    if (buf_reserve(buf, len + 1, err) < 0) return -1;
    memcpy(buf->p, p, len);
    buf->p[len] = 0;
    buf->n = len;
    return 0;
}

int file_read_secret(const char *path, struct buf *buf, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(err, ERR_USAGE, "cannot read %.300s: %s", path, strerror(errno));
    uint8_t *p = malloc(FILE_SECRET_MAX_BYTES + 1);
    ssize_t n = p ? read_some(fd, p, FILE_SECRET_MAX_BYTES + 1) : -1;
    int rc;
    if (!p)
        rc = err_set(err, ERR_NOMEM, "out of memory");
    else if (n < 0)
        rc = err_set(err, ERR_USAGE, "cannot read %.300s: %s", path, strerror(errno));
    else if (n > FILE_SECRET_MAX_BYTES)
        rc = err_set(err, ERR_USAGE, "%.300s is larger than 64 KB: not a password file", path);
    else
        rc = first_line(path, buf, p, (size_t)n, err);
    if (p) explicit_bzero(p, FILE_SECRET_MAX_BYTES + 1);
    free(p);
    close(fd);
    return rc;
}

/* Cut the last component off; false when nothing is left to cut. */
static bool to_parent(char *path)
{
    if (strcmp(path, ".") == 0 || strcmp(path, "/") == 0) return false;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n == 0) {
        path[0] = '.';
        n = 1;
    } else {
        while (n > 1 && path[n - 1] == '/')
            n--;
    }
    path[n] = 0;
    return true;
}

int file_free_space(const char *dir, uint64_t *ret_bytes, struct err *err)
{
    char *path = strdup(*dir ? dir : ".");
    if (!path) return err_set(err, ERR_NOMEM, "out of memory");
    struct statvfs fs;
    int rc;
    do {
        do {
            rc = statvfs(path, &fs);
        } while (rc < 0 && errno == EINTR);
    } while (rc < 0 && errno == ENOENT && to_parent(path));
    if (rc < 0)
        rc = io_error(err, "ask for the free space of", dir);
    else
        *ret_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    free(path);
    return rc;
}

int file_make_dir(const char *dir, struct err *err)
{
    if (mkdir(dir, 0700) == 0) return 0;
    struct stat st;
    if (errno == EEXIST && stat(dir, &st) == 0 && S_ISDIR(st.st_mode)) return 0;
    if (errno == EEXIST) errno = ENOTDIR;
    return io_error(err, "make the directory", dir);
}

int file_make_dirs(const char *dir, struct err *err)
{
    char *path = strdup(dir);
    if (!path) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = 0;
    for (char *p = path + 1; *dir && *p && rc == 0; p++) {
        if (*p != '/') continue;
        *p = 0;
        rc = file_make_dir(path, err);
        *p = '/';
    }
    free(path);
    return rc < 0 ? -1 : file_make_dir(dir, err);
}
