// SPDX-License-Identifier: BSD-3-Clause
// The replica's side of the handshake, up to the first byte of the snapshot or of the stream.
#include "redis/psync.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/num.h"
#include "wire/resp.h"

#include <ctype.h>
#include <stdio.h>

#define SLICE_MS       100  /* how late stop and tick may be seen */
#define RETRY_EVERY_MS 1000 /* LOADING, NOMASTERLINK */
#define LINE_BYTES     512  /* longest reply line we look at */

struct line {
    char text[LINE_BYTES]; /* without CR LF; NUL-terminated, control bytes made '?' */
    bool odd;              /* there were such bytes */
};

/* --- the raw link --- */

static int check_stop(const struct psync_request *req, struct err *err)
{
    if (req->stop && *req->stop) return err_set(err, ERR_STOPPED, "stopped");
    return req->tick ? req->tick(req->ctx, err) : 0;
}

static int wait_link(struct psync_result *ps, const struct psync_request *req, bool want_write,
                     int64_t heard_ms, struct err *err)
{
    int silence = req->silence_ms > 0 ? req->silence_ms : 60000;
    for (;;) {
        if (check_stop(req, err) < 0) return -1;
        int64_t left = heard_ms + silence - clock_mono_ms();
        if (left <= 0)
            return err_set(err, ERR_NET, "%s: nothing heard for %d ms, not even a newline",
                           ps->peer.name, silence);
        int rc = conn_wait(ps->conn, !want_write, want_write,
                           left < SLICE_MS ? (int)left : SLICE_MS, err);
        if (rc < 0) return err_wrap(err, "%s", ps->peer.name);
        if (rc > 0) return 0;
    }
}

static int send_cmd(struct psync_result *ps, const struct psync_request *req, size_t argc,
                    const struct span *argv, struct err *err)
{
    struct buf b;
    buf_init(&b, 4096);
    int rc = resp_put_cmd(&b, argc, argv, err);
    size_t at = 0;
    while (rc == 0 && at < b.n) {
        ssize_t n = conn_write(ps->conn, b.p + at, b.n - at, err);
        if (n < 0)
            rc = err_wrap(err, "%s", ps->peer.name);
        else if (n == 0)
            rc = wait_link(ps, req, true, clock_mono_ms(), err);
        else
            at += (size_t)n;
    }
    buf_release(&b);
    return rc;
}

/* One line, byte by byte, so that what follows stays in the connection. Newlines before it are the
 * source's sign of life while it forks or waits for more replicas. */
static int read_line(struct psync_result *ps, const struct psync_request *req, struct line *ret,
                     struct err *err)
{
    size_t n = 0;
    int64_t heard = clock_mono_ms();
    for (;;) {
        uint8_t c;
        ssize_t got = conn_read(ps->conn, &c, 1, err);
        if (got < 0) return err_wrap(err, "%s", ps->peer.name);
        if (got == 0) {
            if (wait_link(ps, req, false, heard, err) < 0) return -1;
            continue;
        }
        heard = clock_mono_ms();
        if (c == '\n' && n == 0) {
            if (check_stop(req, err) < 0) return -1; /* a flood of newlines is no prison */
            continue;
        }
        if (c == '\n') break;
        if (n == sizeof(ret->text) - 1)
            return err_set(err, ERR_PROTO, "%s: reply line too long for a handshake",
                           ps->peer.name);
        ret->text[n++] = (char)c;
    }
    if (n > 0 && ret->text[n - 1] == '\r') n--;
    ret->odd = false;
    for (size_t i = 0; i < n; i++) {
        if ((uint8_t)ret->text[i] >= 32 && (uint8_t)ret->text[i] < 127) continue;
        ret->text[i] = '?';
        ret->odd = true;
    }
    ret->text[n] = 0;
    return 0;
}

/* --- refusals --- */

static int refused(const struct peer *p, const char *command, const char *words, struct err *err)
{
    if (peer_says(words, "NOPERM"))
        return err_set(err, ERR_PERM,
                       "%s: user %s may not replicate (%s); on that server: "
                       "ACL SETUSER %s +psync +replconf +ping",
                       p->name, p->user, words, p->user);
    if (peer_unknown_command(words))
        return err_set(err, ERR_SOURCE,
                       "%s: offers no replication: %s was refused (%s); a managed service or a "
                       "proxy? Use the server itself, or ask its provider to allow PSYNC",
                       p->name, command, words);
    if (strcasestr(words, "BGSAVE failed") || strcasestr(words, "can't replicate"))
        return err_set(err, ERR_SOURCE,
                       "%s: could not make its snapshot (%s); see its log (memory for the fork, "
                       "disk space), then start again",
                       p->name, words);
    return peer_refused(p, command, words, err);
}

/* Refusals that pass while the source gets ready. "ERR Can't SYNC while not connected with my
 * master" is how 2.x and 3.x say NOMASTERLINK. */
static bool passes(const char *words)
{
    return peer_says(words, "LOADING") || peer_says(words, "NOMASTERLINK") ||
           peer_says(words, "MASTERDOWN") || peer_says(words, "BUSY") ||
           strstr(words, "SYNC while not connected with my master");
}

/* --- REPLCONF --- */

/* 1 accepted, 0 refused (old version, unknown option: not fatal), -1 error. */
static int replconf(struct client *c, struct err *err, size_t argc, const char *const *args)
{
    struct span argv[8] = {span_str("REPLCONF")};
    for (size_t i = 0; i < argc; i++)
        argv[i + 1] = span_str(args[i]);
    struct reply *r;
    if (client_callv(c, &r, argc + 1, argv, err) < 0) return -1;
    int rc = !reply_is_error(r);
    /* Without the right to REPLCONF no ACK gets through, and the stream would never start. */
    if (reply_error_is(r, "NOPERM") || reply_error_is(r, "NOAUTH")) {
        char words[200];
        rc = refused(client_peer(c), "REPLCONF", reply_words(words, sizeof(words), r), err);
    }
    reply_free(r);
    return rc;
}

#define REPLCONF(c, err, ...)                                                                      \
    replconf(c, err, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *),                       \
             (const char *const[]){__VA_ARGS__})

static bool may_know(const struct psync_request *req, enum facts_feature feature)
{
    return !req->facts || facts_has(req->facts, feature);
}

static int introduce(struct psync_result *ps, struct client *c, const struct psync_request *req,
                     struct err *err)
{
    if (req->announce_port) {
        char port[8];
        snprintf(port, sizeof(port), "%u", req->announce_port);
        if (REPLCONF(c, err, "listening-port", port) < 0) return -1;
    }
    if (REPLCONF(c, err, "capa", "eof", "capa", "psync2") < 0) return -1;
    /* Valkey 8+: without it 9.x sends RDB 11, and fails on the first hash field with a TTL; newer
     * than this it may send an RDB version that we do not know. */
    if (may_know(req, FACTS_REPLCONF_VERSION) && REPLCONF(c, err, "version", "9.1.0") < 0)
        return -1;
    if (req->rdb_only && may_know(req, FACTS_RDB_ONLY)) {
        int rc = REPLCONF(c, err, "rdb-only", "1");
        if (rc < 0) return -1;
        ps->rdb_only = rc > 0;
    }
    if (req->empty_rdb && may_know(req, FACTS_RDB_FILTER_ONLY)) {
        int rc = REPLCONF(c, err, "rdb-filter-only", "");
        if (rc < 0) return -1;
        ps->rdb_filtered = rc > 0;
    }
    return 0;
}

/* --- PSYNC --- */

/* The 40 hex digits of a replication id at *p, followed by a space or the end; *p moves behind. */
static bool take_replid(const char **p, char ret[41])
{
    size_t n = 0;
    while (isxdigit((unsigned char)(*p)[n]))
        n++;
    if (n != 40 || ((*p)[n] != 0 && (*p)[n] != ' ')) return false;
    memcpy(ret, *p, 40);
    ret[40] = 0;
    *p += (*p)[n] == ' ' ? n + 1 : n;
    return true;
}

/* "FULLRESYNC <replid> <offset>" */
static int take_full(struct psync_result *ps, const char *p, struct err *err)
{
    char id[41];
    uint64_t offset;
    if (!take_replid(&p, id) || !num_get_u64(span_str(p), &offset) || offset > INT64_MAX)
        return err_set(err, ERR_PROTO, "%s: broken FULLRESYNC reply", ps->peer.name);
    ps->kind = PSYNC_FULL;
    memcpy(ps->replid, id, sizeof(id));
    ps->offset = offset;
    return 0;
}

/* "CONTINUE [<replid>]": with psync2 (4.0+) the id may be another one, to be used from now on. */
static int take_continue(struct psync_result *ps, const struct psync_request *req, const char *p,
                         struct err *err)
{
    if (!req->replid)
        return err_set(err, ERR_PROTO, "%s: continues a replication that was not asked for",
                       ps->peer.name);
    char id[41];
    snprintf(id, sizeof(id), "%s", req->replid);
    if (*p && !take_replid(&p, id))
        return err_set(err, ERR_PROTO, "%s: broken CONTINUE reply", ps->peer.name);
    ps->kind = PSYNC_CONTINUE;
    memcpy(ps->replid, id, sizeof(id));
    ps->offset = req->offset;
    return 0;
}

static int send_psync(struct psync_result *ps, const struct psync_request *req, struct err *err)
{
    char offset[24] = "-1";
    if (req->replid) snprintf(offset, sizeof(offset), "%llu", (unsigned long long)req->offset + 1);
    struct span argv[3] = {span_str("PSYNC"), span_str(req->replid ? req->replid : "?"),
                           span_str(offset)};
    return send_cmd(ps, req, 3, argv, err);
}

/* Before 2.8: SYNC, answered by the bulk at once; no ids, no offsets. */
static int send_sync(struct psync_result *ps, const struct psync_request *req, struct err *err)
{
    struct span argv[1] = {span_str("SYNC")};
    ps->kind = PSYNC_FULL;
    ps->plain_sync = true;
    return send_cmd(ps, req, 1, argv, err);
}

/* Wait before asking again; a hang-up ends it early. */
static int pause_ms(struct psync_result *ps, const struct psync_request *req, int64_t ms,
                    struct err *err)
{
    int64_t end = clock_mono_ms() + ms, left;
    int rc = 0;
    while (rc == 0 && (left = end - clock_mono_ms()) > 0) {
        if (check_stop(req, err) < 0) return -1;
        rc = conn_wait(ps->conn, false, false, left < SLICE_MS ? (int)left : SLICE_MS, err);
    }
    return rc < 0 ? err_wrap(err, "%s", ps->peer.name) : 0;
}

static int ask_psync(struct psync_result *ps, const struct psync_request *req, struct err *err)
{
    int64_t give_up = clock_mono_ms() + req->retry_ms;
    for (;;) {
        struct line line;
        if (send_psync(ps, req, err) < 0 || read_line(ps, req, &line, err) < 0) return -1;
        const char *t = line.text;
        if (strncmp(t, "+FULLRESYNC ", 12) == 0) return take_full(ps, t + 12, err);
        if (strcmp(t, "+CONTINUE") == 0 || strncmp(t, "+CONTINUE ", 10) == 0)
            return take_continue(ps, req, t[9] ? t + 10 : t + 9, err);
        if (t[0] != '-')
            return err_set(err, ERR_PROTO, "%s: PSYNC was answered with \"%.60s\"", ps->peer.name,
                           t);
        if (peer_unknown_command(t + 1) && (!req->facts || !facts_has(req->facts, FACTS_PSYNC)))
            return send_sync(ps, req, err);
        if (!passes(t + 1) || clock_mono_ms() >= give_up)
            return refused(&ps->peer, "PSYNC", t + 1, err);
        if (pause_ms(ps, req, RETRY_EVERY_MS, err) < 0) return -1;
    }
}

int psync_start(struct psync_result *ret, struct client *c, const struct psync_request *req,
                struct err *err)
{
    struct psync_result ps = {.peer = *client_peer(c)};
    if (introduce(&ps, c, req, err) < 0 || client_take_conn(c, &ps.conn, err) < 0) {
        client_close(c);
        return -1;
    }
    if (ask_psync(&ps, req, err) < 0) {
        psync_release(&ps);
        return -1;
    }
    *ret = ps;
    return 0;
}

int psync_bulk_header(struct psync_result *ps, const struct psync_request *req, struct err *err)
{
    struct line line;
    if (read_line(ps, req, &line, err) < 0) {
        if (err && err->code == ERR_NET)
            err_wrap(err, "no snapshot came (the source's log may say why)");
        return -1;
    }
    const char *t = line.text;
    if (t[0] == '-') return refused(&ps->peer, ps->plain_sync ? "SYNC" : "PSYNC", t + 1, err);
    if (strncmp(t, "$EOF:", 5) == 0) {
        if (line.odd || strlen(t + 5) != PSYNC_MARK_BYTES)
            return err_set(err, ERR_PROTO, "%s: broken end mark of the snapshot", ps->peer.name);
        memcpy(ps->mark, t + 5, PSYNC_MARK_BYTES);
        ps->eof_mark = true;
        ps->rdb_bytes = 0;
        return 0;
    }
    uint64_t n;
    if (t[0] != '$' || !num_get_u64(span_str(t + 1), &n) || n > INT64_MAX)
        return err_set(err, ERR_PROTO, "%s: \"%.60s\" where the snapshot's length belongs",
                       ps->peer.name, t);
    ps->rdb_bytes = n;
    ps->eof_mark = false;
    return 0;
}

void psync_release(struct psync_result *ps)
{
    conn_close(ps->conn);
    ps->conn = NULL;
}
