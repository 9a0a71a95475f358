// SPDX-License-Identifier: BSD-3-Clause
// A connection to one server: TCP, TLS or Unix socket, non-blocking, TCP_NODELAY, keepalive.
//
// Bytes in, bytes out; no protocol. A true seam: tests put a fake vtable or a fault proxy here.
// One owner thread. conn_read and conn_write never block; conn_wait does, for one connection
// (handshakes); the pipeline polls several by conn_fd and conn_want.
#ifndef KEYHAUL_IO_CONN_H
#define KEYHAUL_IO_CONN_H

#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct conn_tls {
    const char *ca_file;   /* NULL: the system's certificates */
    const char *cert_file; /* client certificate, NULL none */
    const char *key_file;
    const char *server_name; /* SNI and name to verify; NULL: the host (an IP address is verified
                                against the certificate's IP names) */
    bool insecure_skip_verify;
};

struct conn_addr {
    const char *unix_path; /* NULL: host and port */
    const char *host, *port;
    const struct conn_tls *tls; /* NULL: plain */
    int connect_timeout_ms; /* covers name look-up's result to TLS handshake's end; 0: default */
};

struct conn;

#define CONN_TIMEOUT_MS 10000 /* default of connect_timeout_ms */

/* Connect, all addresses of the name in turn, and shake hands. `stop` (may be NULL) ends the wait
 * when it becomes true: ERR_STOPPED. ERR_NET, or ERR_TLS with what to do (wrong CA, name, no TLS
 * on that port). */
KH_MUST int conn_open(struct conn **ret, const struct conn_addr *addr, const atomic_bool *stop,
                      struct err *err);
void conn_close(struct conn *c); /* NULL-safe */

int conn_fd(const struct conn *c);
/* poll() events this connection waits for: POLLIN or POLLOUT as asked, or what TLS needs now: a
 * write may have to wait for POLLIN and a read for POLLOUT. So whichever event comes, try both. */
short conn_want(const struct conn *c, bool want_read, bool want_write);
/* Bytes that are in hand already (TLS) and for which poll() will not wake up. */
bool conn_pending(const struct conn *c);

/* Bytes read, 0: nothing there now (try again when poll says so), -1: error. End of file is
 * ERR_NET "connection closed by the server". */
KH_MUST ssize_t conn_read(struct conn *c, void *p, size_t n, struct err *err);
/* Bytes taken (maybe fewer), 0: none now, -1: error. After 0 the next write must begin with the
 * same bytes and offer no fewer of them (TLS has encrypted them already); they may lie elsewhere.
 */
KH_MUST ssize_t conn_write(struct conn *c, const void *p, size_t n, struct err *err);
KH_MUST ssize_t conn_writev(struct conn *c, const struct iovec *iov, int n, struct err *err);

/* Wait until readable (or writable) or timeout. 1 ready, 0 timeout, -1 error. */
KH_MUST int conn_wait(struct conn *c, bool want_read, bool want_write, int timeout_ms,
                      struct err *err);

#endif
