// SPDX-License-Identifier: BSD-3-Clause
// The lock of a task's folder: two kinds on one file, because neither is enough.
//
//   flock()          keeps others out; nothing but the end of the process or closing this very
//                    descriptor gives it back
//   fcntl(F_SETLK)   names its holder: F_GETLK tells the process, as the kernel knows it. But any
//                    close of the file within the process would give it back.
//
// Both go with the process, however it ends. Where the second cannot be had (a file system of
// another machine), the task runs all the same and cannot be named.
#include "control/state_impl.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS  500 /* who looks takes the lock for microseconds; that is not to run it */
#define PAUSE_US 5000

static int cannot(const char *what, const char *path, struct err *err)
{
    return err_set(err, ERR_IO, "cannot %s %.300s: %s", what, path, strerror(errno));
}

/* Was the folder removed (and perhaps made again) since the file was opened? */
static bool is_gone(int fd, const char *path)
{
    struct stat held, there;
    return fstat(fd, &held) < 0 || stat(path, &there) < 0 || held.st_ino != there.st_ino ||
           held.st_dev != there.st_dev;
}

static int refuse(const char *dir, const char *name, struct err *err)
{
    bool running;
    long pid;
    if (state_lock_look(dir, &running, &pid, err) < 0) return -1;
    if (pid)
        return err_set(err, ERR_REFUSED,
                       "the task %s runs already, as process %ld; to end it: keyhaul stop %s", name,
                       pid, name);
    return err_set(err, ERR_REFUSED,
                   "the task %s runs already, in another container or on another machine "
                   "(%.200s is locked)",
                   name, dir);
}

static int wait_for_lock(int fd)
{
    int64_t until = clock_mono_ms() + LOOK_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || clock_mono_ms() >= until) return -1;
        usleep(PAUSE_US);
    }
    return 0;
}

/* For people; that it cannot be written harms nothing. */
static void sign(int fd)
{
    char text[32];
    struct flock own = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (fcntl(fd, F_SETLK, &own) < 0 || ftruncate(fd, 0) < 0) return;
    (void)!pwrite(fd, text, (size_t)n, 0);
}

int state_lock_take(const char *dir, const char *name, bool *ret_gone, struct err *err)
{
    char path[PATH_MAX];
    *ret_gone = false;
    if (state_path(path, dir, "lock", err) < 0) return -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0) {
        *ret_gone = errno == ENOENT;
        return cannot("open", path, err);
    }
    if (wait_for_lock(fd) < 0) {
        if (errno == EWOULDBLOCK || errno == EINTR)
            refuse(dir, name, err);
        else
            cannot("lock", path, err);
        close(fd);
        return -1;
    }
    if (is_gone(fd, path)) {
        *ret_gone = true;
        close(fd);
        return err_set(err, ERR_IO, "%.300s was removed meanwhile", dir);
    }
    sign(fd);
    return fd;
}

int state_lock_look(const char *dir, bool *ret_running, long *ret_pid, struct err *err)
{
    char path[PATH_MAX];
    struct flock seen = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *ret_running = false;
    *ret_pid = 0;
    if (state_path(path, dir, "lock", err) < 0) return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? 0 : cannot("open", path, err);
    if (fcntl(fd, F_GETLK, &seen) == 0 && seen.l_type != F_UNLCK) {
        *ret_running = true;
        /* 0 or less: a process that this one cannot see */
        *ret_pid = seen.l_pid > 0 ? seen.l_pid : 0;
    } else {
        *ret_running = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    }
    close(fd);
    return 0;
}
