// SPDX-License-Identifier: BSD-3-Clause
// A small synchronous client: connect, log in, ask, wait for the answer.
//
// For handshakes, facts and checks. Everything waits in slices of at most 100 ms, so that a request
// to stop is seen at once (ERR_STOPPED). The words of every error name the side and what to do:
//   target redis://127.0.0.1:7001: wrong password (WRONGPASS ...); check --target-password-file
// One owner thread.
#ifndef KEYHAUL_REDIS_CLIENT_H
#define KEYHAUL_REDIS_CLIENT_H

#include "io/conn.h"
#include "redis/addresses.h"
#include "redis/peer.h"
#include "redis/reply.h"
#include "redis/uri.h"

#include <stdatomic.h>

struct client;

#define CLIENT_REPLY_MAX (64u << 20) /* largest reply, bytes with its tree */

struct client_config { /* borrowed for client_open() only, but `stop`: for its life */
    const struct uri *uri;
    const char *password;         /* goes before the URI's; NULL: the URI's, or none */
    const struct conn_tls *tls;   /* used when uri->tls; may be NULL: verify as usual */
    int connect_timeout_ms;       /* 0: 10 s */
    int io_timeout_ms;            /* nothing heard for so long: ERR_NET; 0: 60 s */
    const char *side;             /* "source" or "target": words of errors, names of options */
    const atomic_bool *stop;      /* may be NULL */
    unsigned only_address;        /* of several in the URI just this one, from 1 on; 0: any */
    const struct client *same_as; /* to where this one is connected, whatever the URI; NULL */

    const char *sentinel_password; /* goes before that of the URI; NULL */
    /* How addresses are reached that servers and Sentinels tell of others; NULL: as they say. */
    const struct cluster_addresses *addresses;
    /* A replica of the primary that would be connected to, if one is there that follows it and
     * counts in its offsets (4.0+): one of the URI's, or one that the primary tells of. */
    bool prefer_replica;
    uint64_t resume_offset; /* from where it can go on with its stream; 0: no matter */
};

/* Connect, AUTH where a password is configured, PING. Database 0 stays selected.
 * Of several addresses the first that answers as a primary, else the first that answers; one that
 * takes the connection and then says nothing is given up after connect_timeout_ms. Of Sentinels:
 * the primary that they name (redis/sentinel.h).
 * ERR_NET, ERR_TLS, ERR_AUTH (wrong or missing password), ERR_PERM (protected mode), ERR_BUSY (too
 * many clients), ERR_PROTO (something else listens there), ERR_STOPPED. A server that is still
 * loading is connected to: see facts. */
KH_MUST int client_open(struct client **ret, const struct client_config *cfg, struct err *err);
void client_close(struct client *c); /* NULL-safe */

const char *client_side(const struct client *c); /* "source" or "target" */
const char *client_name(const struct client *c); /* "target redis://127.0.0.1:7001" */
unsigned client_address(const struct client *c); /* which address of the URI, from 1 on */
const char *client_host(const struct client *c); /* that was dialled; 127.0.0.1 for Unix sockets */
const char *client_port(const struct client *c); /* "" for Unix sockets */
const char *client_user(const struct client *c); /* ACL user; "default" when none was given */
const struct peer *client_peer(const struct client *c);
bool client_stopped(const struct client *c);
void client_stop_by(struct client *c, const atomic_bool *stop); /* from now on; may be NULL */
bool client_broken(const struct client *c); /* a call has failed: it is of no more use */
int client_patience(struct client *c, int io_timeout_ms); /* from now on; returns that of before */

/* While it waits for the server, run `step` every 20 ms, with max_wait_ms 0: others of this thread
 * have work too. Its errors end the waiting. NULL: no more. */
void client_while_waiting(struct client *c,
                          int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx);

/* One command, one reply, to be freed by reply_free(). An error reply of the server is a reply, not
 * a failure. ERR_NET, ERR_PROTO, ERR_LIMIT, ERR_STOPPED: the client is of no more use then. */
KH_MUST int client_call(struct client *c, struct reply **ret, struct err *err, ...)
    __attribute__((sentinel));
KH_MUST int client_callv(struct client *c, struct reply **ret, size_t argc, const struct span *argv,
                         struct err *err);

/* Same, and the reply must be well: an error reply fails with client_refused(). */
KH_MUST int client_ask(struct client *c, struct reply **ret, struct err *err, ...)
    __attribute__((sentinel));

/* Pipelining: send as many as wanted (they go out when 64 KB are due, or at client_recv), then take
 * the replies in order. */
KH_MUST int client_send(struct client *c, struct err *err, ...) __attribute__((sentinel));
KH_MUST int client_sendv(struct client *c, size_t argc, const struct span *argv, struct err *err);
KH_MUST int client_recv(struct client *c, struct reply **ret, struct err *err);
KH_MUST int client_flush(struct client *c, struct err *err);
unsigned client_due(const struct client *c); /* replies sent for and not received yet */

/* SELECT; nothing is sent when it is selected already. ERR_REFUSED: no such database there. */
KH_MUST int client_select(struct client *c, uint64_t db, struct err *err);

/* Turn an error reply to `command` into an err: NOAUTH, WRONGPASS → ERR_AUTH; NOPERM → ERR_PERM
 * with the ACL line that helps; LOADING, BUSY, OOM, MISCONF, MASTERDOWN, ... → ERR_BUSY; READONLY →
 * ERR_REFUSED; others → ERR_SOURCE or ERR_TARGET. Always returns -1. */
int client_refused(const struct client *c, const char *command, const struct reply *r,
                   struct err *err);

/* Hand the raw connection over (to a lane, or the replication link). The client is closed. Nothing
 * is lost: ERR_INTERNAL when replies are due or bytes are in hand; then the client stays as it is.
 * Database 0 is selected unless client_select() chose another. */
KH_MUST int client_take_conn(struct client *c, struct conn **ret, struct err *err);

#endif
