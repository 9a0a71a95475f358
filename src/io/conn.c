// SPDX-License-Identifier: BSD-3-Clause
// Connections: name look-up, connecting with a deadline, reading and writing plain sockets.
#include "base/clock.h"
#include "io/conn_impl.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STOP_CHECK_MS  50
#define BACKLOG_NAP_MS 10
#define MAX_IOV        1024 /* IOV_MAX of Linux */

/* ---- waiting ---- */

static bool stopped(const atomic_bool *stop)
{
    return stop && *stop;
}

int conn_poll(int fd, short events, int64_t deadline_ms, const atomic_bool *stop, struct err *err)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        if (stopped(stop)) return err_set(err, ERR_STOPPED, "stopped");
        int64_t left = deadline_ms - clock_mono_ms();
        if (left < 0) left = 0;
        int64_t nap = stop && left > STOP_CHECK_MS ? STOP_CHECK_MS : left;
        int rc = poll(&p, 1, nap > INT_MAX ? INT_MAX : (int)nap);
        if (rc > 0) return 1;
        if (rc < 0 && errno != EINTR)
            return err_set(err, ERR_INTERNAL, "poll: %s", strerror(errno));
        if (rc == 0 && nap == left) return 0;
    }
}

/* ---- plain sockets ---- */

int conn_link_error(int errnum, struct err *err)
{
    switch (errnum) {
    case ECONNRESET:
    case EPIPE: return err_set(err, ERR_NET, "connection reset by the server");
    case ETIMEDOUT: return err_set(err, ERR_NET, "connection lost: the server does not answer");
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN: return err_set(err, ERR_NET, "connection lost: no route to the server");
    default: return err_set(err, ERR_NET, "connection lost: %s", strerror(errnum));
    }
}

static ssize_t plain_read(struct conn *c, void *p, size_t n, struct err *err)
{
    if (n == 0) return 0;
    ssize_t r;
    do {
        r = recv(c->fd, p, n, 0);
    } while (r < 0 && errno == EINTR);
    if (r > 0) return r;
    if (r == 0) return err_set(err, ERR_NET, "connection closed by the server");
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    return conn_link_error(errno, err);
}

static ssize_t sent(ssize_t r, struct err *err)
{
    if (r >= 0) return r;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    return conn_link_error(errno, err);
}

static ssize_t plain_write(struct conn *c, const void *p, size_t n, struct err *err)
{
    if (n == 0) return 0;
    ssize_t r;
    do {
        r = send(c->fd, p, n, MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return sent(r, err);
}

static ssize_t plain_writev(struct conn *c, const struct iovec *iov, int n, struct err *err)
{
    /* sendmsg only reads the pieces; the type of msg_iov predates const. */
    union {
        const struct iovec *in;
        struct iovec *out;
    } pieces = {.in = iov};
    struct msghdr m = {.msg_iov = pieces.out, .msg_iovlen = (size_t)(n < MAX_IOV ? n : MAX_IOV)};
    if (n <= 0) return 0;
    ssize_t r;
    do {
        r = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return sent(r, err);
}

static bool plain_pending(const struct conn *c)
{
    (void)c;
    return false;
}

static const struct conn_ops plain_ops = {
    .read = plain_read,
    .write = plain_write,
    .writev = plain_writev,
    .pending = plain_pending,
};

/* ---- connecting ---- */

/* "host:port", brackets around an IPv6 address, or the path of the socket. */
static void name_peer(char *out, size_t size, const struct conn_addr *a)
{
    if (a->unix_path)
        snprintf(out, size, "%s", a->unix_path);
    else
        snprintf(out, size, strchr(a->host, ':') ? "[%s]:%s" : "%s:%s", a->host, a->port);
}

static int refuse_words(int errnum, const struct conn_attempt *at, struct err *err)
{
    const char *who = at->shown;
    switch (errnum) {
    case ECONNREFUSED:
        return err_set(err, ERR_NET,
                       "%s: connection refused (is the server running, and is this its port?)",
                       who);
    case ETIMEDOUT:
        return err_set(err, ERR_NET,
                       "%s: connection timed out, no answer in %d ms (is the host up, or does a "
                       "firewall drop the packets?)",
                       who, at->timeout_ms);
    case EHOSTUNREACH:
    case ENETUNREACH: return err_set(err, ERR_NET, "%s: no route to the host", who);
    case ENOENT: return err_set(err, ERR_NET, "%s: no such socket (is the server running?)", who);
    case EPROTOTYPE: return err_set(err, ERR_USAGE, "%s is not a stream socket", who);
    case EACCES:
    case EPERM: return err_set(err, ERR_PERM, "%s: no permission to connect", who);
    default: return err_set(err, ERR_NET, "%s: cannot connect: %s", who, strerror(errnum));
    }
}

static void set_option(int fd, int level, int name, int value)
{
    /* Each of these only improves the link; a kernel that refuses one still carries the data. */
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

static void set_tcp_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    /* No TCP_USER_TIMEOUT: it would cut a peer that is well but does not read for a while (a long
     * script); who waits for replies has a clock of his own. */
}

/* The outcome of a connect() in progress: 0, or -1 with err. */
static int await_connect(int fd, const struct conn_attempt *at, struct err *err)
{
    int rc = conn_poll(fd, POLLOUT, at->deadline_ms, at->stop, err);
    if (rc < 0) return -1;
    int e = ETIMEDOUT;
    socklen_t len = sizeof(e);
    if (rc > 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0) e = errno;
    return e ? refuse_words(e, at, err) : 0;
}

static int connect_to(int family, const struct sockaddr *sa, socklen_t len,
                      const struct conn_attempt *at, struct err *err)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(err, ERR_NET, "%s: cannot open a socket: %s", at->shown, strerror(errno));
    if (family != AF_UNIX) set_tcp_options(fd);
    int rc = connect(fd, sa, len);
    /* A Unix socket with a full backlog says EAGAIN, and there is nothing to poll for. */
    while (rc < 0 && errno == EAGAIN && family == AF_UNIX) {
        if (clock_mono_ms() >= at->deadline_ms) {
            errno = ETIMEDOUT;
            break;
        }
        int64_t nap_end = clock_mono_ms() + BACKLOG_NAP_MS;
        if (conn_poll(-1, 0, nap_end, at->stop, err) < 0) goto fail;
        rc = connect(fd, sa, len);
    }
    if (rc < 0 && (errno == EINPROGRESS || errno == EINTR)) {
        if (await_connect(fd, at, err) < 0) goto fail;
    } else if (rc < 0) {
        refuse_words(errno, at, err);
        goto fail;
    }
    return fd;
fail:
    close(fd);
    return -1;
}

static int connect_unix(const char *path, const struct conn_attempt *at, struct err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(sa.sun_path))
        return err_set(err, ERR_USAGE,
                       "%.200s: the path of a Unix socket has at most %zu bytes, this one has %zu",
                       path, sizeof(sa.sun_path) - 1, n);
    memcpy(sa.sun_path, path, n);
    return connect_to(AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa), at, err);
}

static int resolve(const struct conn_addr *a, struct addrinfo **ret, struct err *err)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    if (!*a->port || a->port[strspn(a->port, "0123456789")])
        return err_set(err, ERR_USAGE, "%s: the port must be a number", a->host);
    int rc = getaddrinfo(a->host, a->port, &hints, ret);
    switch (rc) {
    case 0: return 0;
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
        return err_set(err, ERR_NET, "%s:%s: no such host", a->host, a->port);
    case EAI_SERVICE: return err_set(err, ERR_USAGE, "%s:%s: bad port", a->host, a->port);
    case EAI_AGAIN:
        return err_set(err, ERR_NET, "%s:%s: the name server does not answer", a->host, a->port);
    case EAI_SYSTEM:
        return err_set(err, ERR_NET, "%s:%s: cannot look up the host: %s", a->host, a->port,
                       strerror(errno));
    default:
        return err_set(err, ERR_NET, "%s:%s: cannot look up the host: %s", a->host, a->port,
                       gai_strerror(rc));
    }
}

/* Each address gets an equal share of the time left, so that a dead first one (IPv6 without a
 * route, say) does not use it up. */
static int connect_tcp(const struct conn_addr *a, const struct conn_attempt *at, struct err *err)
{
    struct addrinfo *list, *ai;
    if (resolve(a, &list, err) < 0) return -1;
    int left = 0, fd = -1;
    struct err last = {.code = ERR_NONE};
    for (ai = list; ai; ai = ai->ai_next)
        left++;
    for (ai = list; ai && fd < 0 && last.code != ERR_STOPPED; ai = ai->ai_next, left--) {
        struct conn_attempt one = *at;
        int64_t now = clock_mono_ms();
        one.deadline_ms = now + (at->deadline_ms > now ? (at->deadline_ms - now) / left : 0);
        fd = connect_to(ai->ai_family, ai->ai_addr, ai->ai_addrlen, &one, &last);
    }
    freeaddrinfo(list);
    return fd < 0 ? err_set(err, last.code, "%s", last.msg) : fd;
}

int conn_open(struct conn **ret, const struct conn_addr *addr, const atomic_bool *stop,
              struct err *err)
{
    if (!addr->unix_path && (!addr->host || !addr->port))
        return err_set(err, ERR_USAGE, "no host or port to connect to");
    char shown[300];
    name_peer(shown, sizeof(shown), addr);
    int timeout = addr->connect_timeout_ms > 0 ? addr->connect_timeout_ms : CONN_TIMEOUT_MS;
    struct conn_attempt at = {shown, timeout, clock_mono_ms() + timeout, stop};
    struct conn *c = calloc(1, sizeof(*c));
    if (!c) return err_set(err, ERR_NOMEM, "out of memory");
    *c = (struct conn){.ops = &plain_ops, .read_event = POLLIN, .write_event = POLLOUT};
    c->fd = addr->unix_path ? connect_unix(addr->unix_path, &at, err) : connect_tcp(addr, &at, err);
    if (c->fd < 0 || (addr->tls && conn_tls_start(c, addr, &at, err) < 0)) {
        conn_close(c);
        return -1;
    }
    *ret = c;
    return 0;
}

void conn_close(struct conn *c)
{
    if (!c) return;
    if (c->ops->close) c->ops->close(c);
    if (c->fd >= 0) close(c->fd);
    free(c);
}

/* ---- the seam ---- */

int conn_fd(const struct conn *c)
{
    return c->fd;
}

short conn_want(const struct conn *c, bool want_read, bool want_write)
{
    return (short)((want_read ? c->read_event : 0) | (want_write ? c->write_event : 0));
}

bool conn_pending(const struct conn *c)
{
    return c->ops->pending(c);
}

ssize_t conn_read(struct conn *c, void *p, size_t n, struct err *err)
{
    return c->ops->read(c, p, n, err);
}

ssize_t conn_write(struct conn *c, const void *p, size_t n, struct err *err)
{
    return c->ops->write(c, p, n, err);
}

ssize_t conn_writev(struct conn *c, const struct iovec *iov, int n, struct err *err)
{
    return c->ops->writev(c, iov, n, err);
}

int conn_wait(struct conn *c, bool want_read, bool want_write, int timeout_ms, struct err *err)
{
    if (want_read && conn_pending(c)) return 1;
    int64_t deadline = timeout_ms < 0 ? INT64_MAX : clock_mono_ms() + timeout_ms;
    return conn_poll(c->fd, conn_want(c, want_read, want_write), deadline, NULL, err);
}
