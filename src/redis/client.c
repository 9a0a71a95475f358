// SPDX-License-Identifier: BSD-3-Clause
// The synchronous client: one connection, a bounded buffer each way, waits in slices.
#include "redis/client_impl.h"

#include "base/buf.h"
#include "base/clock.h"
#include "redis/peer.h"
#include "wire/resp.h"

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define SLICE_MS    100                             /* how late a request to stop may be seen */
#define STEP_MS     20                              /* the same with others' work to be done */
#define READ_BYTES  (64u << 10)                     /* asked for at once */
#define FLUSH_BYTES (64u << 10)                     /* commands gathered before they are sent */
#define ARGS_MAX    32                              /* of the variadic calls */
#define OUT_MAX     (CLIENT_REPLY_MAX + (1u << 20)) /* a key we were told must fit a command */

struct client {
    struct conn *conn;
    struct buf out; /* not sent yet from out_at on */
    size_t out_at;
    struct buf in; /* received, replies not taken from in_at on */
    size_t in_at;
    struct reply_scan scan; /* of the reply at in_at */
    unsigned due;
    bool broken; /* a call has failed: what is still to come belongs to nothing */
    uint64_t db;
    int io_timeout_ms;
    unsigned address; /* of the URI, from 0 on */
    char host[256], port[8];
    const atomic_bool *stop;
    int (*step)(void *ctx, int max_wait_ms, struct err *err);
    void *step_ctx;
    struct peer peer;
};

const char *client_side(const struct client *c)
{
    return c->peer.side;
}

const char *client_name(const struct client *c)
{
    return c->peer.name;
}

const char *client_user(const struct client *c)
{
    return c->peer.user;
}

unsigned client_address(const struct client *c)
{
    return c->address + 1;
}

const struct peer *client_peer(const struct client *c)
{
    return &c->peer;
}

const char *client_host(const struct client *c)
{
    return c->host;
}

const char *client_port(const struct client *c)
{
    return c->port;
}

void client_stop_by(struct client *c, const atomic_bool *stop)
{
    c->stop = stop;
}

bool client_stopped(const struct client *c)
{
    return c->stop && *c->stop;
}

unsigned client_due(const struct client *c)
{
    return c->due;
}

bool client_broken(const struct client *c)
{
    return c->broken;
}

int client_patience(struct client *c, int io_timeout_ms)
{
    int before = c->io_timeout_ms;
    c->io_timeout_ms = io_timeout_ms;
    return before;
}

void client_while_waiting(struct client *c,
                          int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx)
{
    c->step = step;
    c->step_ctx = ctx;
}

/* Wait for the socket; the deadline counts from the last byte that moved. */
static int wait_io(struct client *c, bool want_write, int64_t deadline_ms, struct err *err)
{
    for (;;) {
        if (client_stopped(c)) return err_set(err, ERR_STOPPED, "stopped");
        int64_t left = deadline_ms - clock_mono_ms();
        if (left <= 0)
            return err_set(err, ERR_NET, "%s: nothing heard for %d ms", c->peer.name,
                           c->io_timeout_ms);
        int slice = c->step ? STEP_MS : SLICE_MS;
        if (c->step && c->step(c->step_ctx, 0, err) < 0) return -1;
        int rc = conn_wait(c->conn, !want_write, want_write, left < slice ? (int)left : slice, err);
        if (rc < 0) return err_wrap(err, "%s", c->peer.name);
        if (rc > 0) return 0;
    }
}

static int send_all(struct client *c, struct err *err)
{
    int64_t deadline = clock_mono_ms() + c->io_timeout_ms;
    while (c->out_at < c->out.n) {
        ssize_t n = conn_write(c->conn, c->out.p + c->out_at, c->out.n - c->out_at, err);
        if (n < 0) return err_wrap(err, "%s", c->peer.name);
        c->out_at += (size_t)n;
        if (n > 0)
            deadline = clock_mono_ms() + c->io_timeout_ms;
        else if (wait_io(c, true, deadline, err) < 0)
            return -1;
    }
    buf_clear(&c->out);
    c->out_at = 0;
    return 0;
}

int client_flush(struct client *c, struct err *err)
{
    int rc = send_all(c, err);
    if (rc < 0) c->broken = true;
    return rc;
}

/* Bytes into `in`, at least one. What was taken already makes room first. */
static int receive(struct client *c, struct err *err)
{
    if (c->in_at > 0) {
        memmove(c->in.p, c->in.p + c->in_at, c->in.n - c->in_at);
        c->in.n -= c->in_at;
        c->in_at = 0;
    }
    if (buf_reserve(&c->in, READ_BYTES, err) < 0) return err_wrap(err, "%s", c->peer.name);
    int64_t deadline = clock_mono_ms() + c->io_timeout_ms;
    for (;;) {
        ssize_t n = conn_read(c->conn, c->in.p + c->in.n, c->in.alloc - c->in.n, err);
        if (n < 0) return err_wrap(err, "%s", c->peer.name);
        c->in.n += (size_t)n;
        if (n > 0) return 0;
        if (wait_io(c, false, deadline, err) < 0) return -1;
    }
}

static int take_reply(struct client *c, struct reply **ret, struct err *err)
{
    for (;;) {
        int rc = reply_scan(&c->scan, c->in.p + c->in_at, c->in.n - c->in_at, CLIENT_REPLY_MAX,
                            err);
        if (rc < 0) return err_wrap(err, "%s", c->peer.name);
        if (rc > 0) break;
        if (receive(c, err) < 0) return -1;
    }
    if (reply_build(ret, &c->scan, c->in.p + c->in_at, err) < 0)
        return err_wrap(err, "%s", c->peer.name);
    c->in_at += c->scan.at;
    c->scan = (struct reply_scan){0};
    c->due--;
    return 0;
}

int client_recv(struct client *c, struct reply **ret, struct err *err)
{
    if (c->due == 0) return err_set(err, ERR_INTERNAL, "%s: no reply is due", c->peer.name);
    if (client_flush(c, err) < 0) return -1;
    int rc = take_reply(c, ret, err);
    if (rc < 0) c->broken = true;
    return rc;
}

int client_sendv(struct client *c, size_t argc, const struct span *argv, struct err *err)
{
    if (resp_put_cmd(&c->out, argc, argv, err) < 0) return err_wrap(err, "%s", c->peer.name);
    c->due++;
    return c->out.n - c->out_at >= FLUSH_BYTES ? client_flush(c, err) : 0;
}

int client_callv(struct client *c, struct reply **ret, size_t argc, const struct span *argv,
                 struct err *err)
{
    if (c->due > 0) return err_set(err, ERR_INTERNAL, "%s: replies are due", c->peer.name);
    if (client_sendv(c, argc, argv, err) < 0) return -1;
    return client_recv(c, ret, err);
}

/* The variadic calls' arguments as spans; how many. */
static size_t gather(struct span argv[ARGS_MAX], va_list ap)
{
    const char *s = va_arg(ap, const char *);
    assert(s); /* a command has a name */
    argv[0] = span_str(s);
    size_t n = 1;
    while ((s = va_arg(ap, const char *)) != NULL) {
        assert(n < ARGS_MAX);
        argv[n++] = span_str(s);
    }
    return n;
}

int client_send(struct client *c, struct err *err, ...)
{
    struct span argv[ARGS_MAX];
    va_list ap;
    va_start(ap, err);
    size_t argc = gather(argv, ap);
    va_end(ap);
    return client_sendv(c, argc, argv, err);
}

int client_call(struct client *c, struct reply **ret, struct err *err, ...)
{
    struct span argv[ARGS_MAX];
    va_list ap;
    va_start(ap, err);
    size_t argc = gather(argv, ap);
    va_end(ap);
    return client_callv(c, ret, argc, argv, err);
}

int client_ask(struct client *c, struct reply **ret, struct err *err, ...)
{
    struct span argv[ARGS_MAX];
    va_list ap;
    va_start(ap, err);
    size_t argc = gather(argv, ap);
    va_end(ap);
    struct reply *r;
    if (client_callv(c, &r, argc, argv, err) < 0) return -1;
    if (!reply_is_error(r)) {
        *ret = r;
        return 0;
    }
    client_refused(c, (const char *)argv[0].p, r, err);
    reply_free(r);
    return -1;
}

int client_refused(const struct client *c, const char *command, const struct reply *r,
                   struct err *err)
{
    char words[200];
    return peer_refused(&c->peer, command, reply_words(words, sizeof(words), r), err);
}

int client_select(struct client *c, uint64_t db, struct err *err)
{
    if (c->db == db) return 0;
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)db);
    struct reply *r;
    if (client_call(c, &r, err, "SELECT", text, NULL) < 0) return -1;
    int rc = 0;
    char words[120];
    if (!reply_is_error(r))
        c->db = db;
    else if (reply_error_is(r, "ERR"))
        /* "invalid DB index" (before 4.0), "DB index is out of range", "SELECT is not allowed in
         * cluster mode" */
        rc = err_set(err, ERR_REFUSED, "%s: has no database %s (%s)", c->peer.name, text,
                     reply_words(words, sizeof(words), r));
    else
        rc = client_refused(c, "SELECT", r, err);
    reply_free(r);
    return rc;
}

/* --- opening --- */

static int auth_refused(struct client *c, bool with_user, const struct reply *r, struct err *err)
{
    char words[200];
    reply_words(words, sizeof(words), r);
    /* A password where none is set: before 6.0 "Client sent AUTH, but no password is set", later
     * "AUTH <password> called without any password configured". Nothing is locked: go on. */
    if (strstr(words, "no password is set") || strstr(words, "without any password configured"))
        return 0;
    if (with_user && strstr(words, "wrong number of arguments"))
        return err_set(err, ERR_AUTH,
                       "%s: knows no users (before Redis 6.0): leave the user out of the URI",
                       c->peer.name);
    return client_refused(c, "AUTH", r, err);
}

static int log_in(struct client *c, const char *user, const char *password, struct err *err)
{
    if (!password) return 0;
    struct span argv[3] = {span_str("AUTH")};
    size_t argc = 1;
    if (user) argv[argc++] = span_str(user);
    argv[argc++] = span_str(password);
    struct reply *r;
    int rc = client_callv(c, &r, argc, argv, err);
    if (c->out.p) explicit_bzero(c->out.p, c->out.alloc);
    if (rc < 0) return -1;
    if (reply_is_error(r)) rc = auth_refused(c, user != NULL, r, err);
    reply_free(r);
    return rc;
}

static int ping(struct client *c, struct err *err)
{
    struct reply *r;
    if (client_call(c, &r, err, "PING", NULL) < 0) return -1;
    int rc = 0;
    if (reply_is_error(r)) {
        /* Not allowed, or not now: what is really needed will tell. */
        bool go_on = reply_error_is(r, "NOPERM") || reply_error_is(r, "LOADING") ||
                     reply_error_is(r, "MASTERDOWN") || reply_error_is(r, "BUSY");
        rc = go_on ? 0 : client_refused(c, "PING", r, err);
    } else if (!reply_is(r, "PONG")) {
        rc = err_set(err, ERR_PROTO, "%s: does not answer as a Redis server", c->peer.name);
    }
    reply_free(r);
    return rc;
}

static int connect_to(struct client *c, const struct client_config *cfg, const struct uri *u,
                      struct err *err)
{
    static const struct conn_tls usual = {0};
    struct conn_addr addr = {
        .unix_path = u->unix_path,
        .host = uri_host(u, c->address),
        .port = uri_port(u, c->address),
        .tls = !u->tls    ? NULL
               : cfg->tls ? cfg->tls
                          : &usual,
        .connect_timeout_ms = client_connect_timeout(cfg),
    };
    if (conn_open(&c->conn, &addr, cfg->stop, err) < 0) return err_wrap(err, "%s", c->peer.side);
    return 0;
}

/* Who hangs up on, or does not understand, the first words is often asked the wrong way. */
static void hint_tls(struct client *c, const struct uri *u, struct err *err)
{
    if (!err || u->tls || u->unix_path || c->in.n > 0) return;
    size_t n = strlen(err->msg);
    if (err->code == ERR_NET)
        snprintf(err->msg + n, sizeof(err->msg) - n,
                 " before it said anything; if that port wants TLS, use rediss://");
}

int client_dial(struct client **ret, const struct client_config *cfg, const struct uri *u,
                unsigned i, int io_timeout_ms, struct err *err)
{
    struct client *c = calloc(1, sizeof(*c));
    if (!c) return err_set(err, ERR_NOMEM, "out of memory for a client");
    char one[sizeof(u->shown)];
    peer_init(&c->peer, cfg->side, uri_addresses(u) > 1 ? uri_show(one, u, i) : u->shown, u->user);
    c->io_timeout_ms = io_timeout_ms;
    c->address = i;
    snprintf(c->host, sizeof(c->host), "%s", u->unix_path ? "127.0.0.1" : uri_host(u, i));
    snprintf(c->port, sizeof(c->port), "%s", u->unix_path ? "" : uri_port(u, i));
    c->stop = cfg->stop;
    buf_init(&c->out, OUT_MAX);
    buf_init(&c->in, CLIENT_REPLY_MAX + READ_BYTES);

    if (connect_to(c, cfg, u, err) < 0) goto fail;
    if (log_in(c, u->user, cfg->password ? cfg->password : u->password, err) < 0 ||
        ping(c, err) < 0) {
        hint_tls(c, u, err);
        goto fail;
    }
    *ret = c;
    return 0;
fail:
    client_close(c);
    return -1;
}

static void release(struct client *c)
{
    buf_release(&c->out);
    buf_release(&c->in);
    free(c);
}

void client_close(struct client *c)
{
    if (!c) return;
    conn_close(c->conn);
    release(c);
}

int client_take_conn(struct client *c, struct conn **ret, struct err *err)
{
    if (c->due > 0 || c->in_at < c->in.n || c->out.n > 0)
        return err_set(err, ERR_INTERNAL, "%s: connection taken in the middle of a talk",
                       c->peer.name);
    *ret = c->conn;
    release(c);
    return 0;
}
