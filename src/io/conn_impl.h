// SPDX-License-Identifier: BSD-3-Clause
// What the two halves of conn share: plain sockets (conn.c) and TLS over them (conn_tls.c).
#ifndef KEYHAUL_IO_CONN_IMPL_H
#define KEYHAUL_IO_CONN_IMPL_H

#include "io/conn.h"

#include <stdatomic.h>

/* As the calls of conn.h; the plain ones work on the socket itself. */
struct conn_ops {
    ssize_t (*read)(struct conn *c, void *p, size_t n, struct err *err);
    ssize_t (*write)(struct conn *c, const void *p, size_t n, struct err *err);
    ssize_t (*writev)(struct conn *c, const struct iovec *iov, int n, struct err *err);
    bool (*pending)(const struct conn *c);
    void (*close)(struct conn *c); /* all but the socket; may be NULL */
};

struct conn {
    const struct conn_ops *ops;
    int fd;
    short read_event, write_event; /* what poll() must report before a read or write gets on */
    struct conn_tls_state *tls;    /* NULL: plain */
};

/* What a connection attempt is bounded by, and how errors name its peer. */
struct conn_attempt {
    const char *shown; /* host:port or path */
    int timeout_ms;    /* of the whole attempt, for the words */
    int64_t deadline_ms;
    const atomic_bool *stop;
};

/* poll() until an event, the deadline (monotonic, ms) or stop: 1, 0, -1. Goes on after EINTR. */
int conn_poll(int fd, short events, int64_t deadline_ms, const atomic_bool *stop, struct err *err);

/* Words for what a system call on an established link said: always -1. */
int conn_link_error(int errnum, struct err *err);

/* Put TLS on a connected socket and shake hands. */
int conn_tls_start(struct conn *c, const struct conn_addr *addr, const struct conn_attempt *at,
                   struct err *err);

#endif
