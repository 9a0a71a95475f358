// SPDX-License-Identifier: BSD-3-Clause
// Asking the process that runs a task to finish it: a file in the task's folder, which that process
// looks for and writes its answer into.
//
// A file reaches a process of another container as well, is seen by who looks into the folder, and
// asks for no right but that of the folder.
#include "control/state_impl.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLAGS (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)

static int cannot(const char *what, const char *path, struct err *err)
{
    return err_set(err, ERR_IO, "cannot %s %.300s: %s", what, path, strerror(errno));
}

/* Is it our file that is at this path? */
static bool is_at(const struct state_ask *a, const char *path)
{
    struct stat held, there;
    return a->fd >= 0 && fstat(a->fd, &held) == 0 && lstat(path, &there) == 0 &&
           held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

int state_ask(struct state_ask *a, const char *state_dir, const char *name, struct err *err)
{
    char root[PATH_MAX], dir[PATH_MAX], path[PATH_MAX];
    if (is_at(a, a->path) || is_at(a, a->taken)) return 0;
    if (state_check_name(name, err) < 0 || state_root(root, sizeof(root), state_dir, err) < 0 ||
        state_path(dir, root, name, err) < 0 || state_path(path, dir, "finish", err) < 0)
        return -1;
    int fd = open(path, O_RDWR | O_CREAT | FLAGS, 0600);
    if (fd < 0 && errno == ENOENT) return 0; /* the folder is gone: so is the process, soon */
    if (fd < 0) return cannot("open", path, err);
    if (a->fd >= 0) close(a->fd);
    a->fd = fd;
    memcpy(a->path, path, sizeof(a->path));
    return state_path(a->taken, dir, "finish.taken", err);
}

int state_ask_answer(const struct state_ask *a, struct buf *buf, struct err *err)
{
    struct stat st;
    buf_clear(buf);
    if (a->fd < 0) return 0;
    if (fstat(a->fd, &st) < 0) return cannot("read", a->path, err);
    size_t n = S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : 0;
    if (n == 0) return 0;
    if (buf_reserve(buf, n, err) < 0) return -1;
    if (file_pread(a->fd, buf->p, n, 0) < 0) return cannot("read", a->path, err);
    buf->n = n;
    return 0;
}

bool state_ask_withdraw(struct state_ask *a)
{
    if (a->fd < 0 || (is_at(a, a->path) && unlink(a->path) == 0)) return true;
    return !is_at(a, a->taken);
}

void state_ask_end(struct state_ask *a)
{
    if (a->fd < 0) return;
    state_ask_withdraw(a);
    close(a->fd);
    a->fd = -1;
}

int state_ask_write(const char *path, struct span bytes, struct err *err)
{
    int fd = open(path, O_WRONLY | O_TRUNC | FLAGS), rc = 0;
    if (fd < 0) return errno == ENOENT ? 0 : cannot("open", path, err);
    if (file_pwrite(fd, bytes.p, bytes.n, 0) < 0) rc = cannot("write", path, err);
    close(fd);
    return rc;
}
