// SPDX-License-Identifier: BSD-3-Clause
// The far end of one connection, in a thread.
#include "fake_link.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void fake_link_start(struct fake_link *l, void *(*run)(void *), void *arg)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    l->fd = -1;
    snprintf(l->dir, sizeof(l->dir), "/tmp/keyhaul-link-XXXXXX");
    assert_non_null(mkdtemp(l->dir));
    snprintf(l->path, sizeof(l->path), "%s/s", l->dir);
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", l->path);
    l->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(l->listener >= 0);
    assert_int_equal(bind(l->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(l->listener, 8), 0);
    assert_int_equal(pipe(l->wake), 0);
    assert_int_equal(pthread_create(&l->thread, NULL, run, arg), 0);
}

void fake_link_stop(struct fake_link *l)
{
    close(l->wake[1]);
    pthread_join(l->thread, NULL);
    fake_link_hang_up(l);
    close(l->wake[0]);
    close(l->listener);
    unlink(l->path);
    rmdir(l->dir);
}

struct conn *fake_link_dial(const struct fake_link *l)
{
    struct conn_addr addr = {.unix_path = l->path, .connect_timeout_ms = 2000};
    struct conn *c = NULL;
    struct err err = {0};
    if (conn_open(&c, &addr, NULL, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

/* 1: fd is ready, 0: not within wait_ms, -1: has to end. */
static int wait_for(struct fake_link *l, int fd, short events, int wait_ms)
{
    struct pollfd p[] = {{.fd = fd, .events = events}, {.fd = l->wake[0], .events = POLLIN}};
    while (poll(p, 2, wait_ms) < 0)
        if (errno != EINTR) return -1;
    if (p[1].revents) return -1;
    return p[0].revents != 0;
}

bool fake_link_accept(struct fake_link *l)
{
    if (wait_for(l, l->listener, POLLIN, -1) < 0) return false;
    l->fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return l->fd >= 0;
}

ssize_t fake_link_read(struct fake_link *l, void *p, size_t n, int wait_ms)
{
    for (;;) {
        int rc = wait_for(l, l->fd, POLLIN, wait_ms);
        if (rc <= 0) return rc < 0 ? -1 : -2;
        ssize_t got = recv(l->fd, p, n, 0);
        if (got >= 0) return got;
        if (errno != EAGAIN && errno != EINTR) return 0;
    }
}

bool fake_link_settle(struct fake_link *l)
{
    int left = 1;
    while (ioctl(l->fd, SIOCOUTQ, &left) == 0 && left > 0) {
        if (wait_for(l, -1, 0, 0) < 0) return false;
        usleep(10);
    }
    return true;
}

bool fake_link_write(struct fake_link *l, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t sent = send(l->fd, at, l->starve ? 1 : n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) return true; /* closed over there */
        if (sent < 0) {
            if (wait_for(l, l->fd, POLLOUT, -1) < 0) return false;
            continue;
        }
        at += sent;
        n -= (size_t)sent;
        if (l->starve && !fake_link_settle(l)) return false;
    }
    return true;
}

void fake_link_hang_up(struct fake_link *l)
{
    if (l->fd >= 0) close(l->fd);
    l->fd = -1;
}
