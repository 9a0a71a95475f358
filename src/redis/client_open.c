// SPDX-License-Identifier: BSD-3-Clause
// Whom to call: one address, the primary of several, who a Sentinel names, a replica of theirs.
#include "redis/client_impl.h"

#include "base/num.h"
#include "redis/facts.h"
#include "redis/sentinel.h"

#include <stdio.h>

/* --- several addresses --- */

int client_is_primary(struct client *c, struct err *err)
{
    struct reply *r;
    if (client_call(c, &r, err, "INFO", "replication", NULL) < 0) return -1;
    int primary = !reply_has_text(r) || !memmem(r->str.p, r->str.n, "role:slave", 10);
    reply_free(r);
    return primary;
}

void client_gather_failure(struct err *all, const struct err *one)
{
    struct err before = *all;
    bool telling = err_class(before.code) != ERR_CLASS_TRANSIENT && one->code != ERR_STOPPED;
    if (before.code == ERR_NONE)
        *all = *one;
    else
        err_set(all, telling ? before.code : one->code, "%.290s; %.290s", before.msg, one->msg);
}

/* Connected, and 1: to a primary, 0: to a replica. */
static int try_address(struct client **ret, const struct client_config *cfg, unsigned i,
                       struct err *err)
{
    struct client *c;
    if (client_dial(&c, cfg, cfg->uri, i, client_first_timeout(cfg), err) < 0) return -1;
    int rc = client_is_primary(c, err);
    client_patience(c, client_io_timeout(cfg));
    if (rc < 0)
        client_close(c);
    else
        *ret = c;
    return rc;
}

static int open_any(struct client **ret, const struct client_config *cfg, struct err *err)
{
    struct client *best = NULL, *c;
    struct err all = {.code = ERR_NONE}, one = all;
    int rc = 0;
    for (unsigned i = 0; i < uri_addresses(cfg->uri) && rc <= 0; i++) {
        rc = try_address(&c, cfg, i, &one);
        if (rc < 0) {
            client_gather_failure(&all, &one);
            if (one.code == ERR_STOPPED || one.code == ERR_NOMEM) break;
        } else if (rc > 0 || !best) {
            client_close(best);
            best = c;
        } else {
            client_close(c);
        }
    }
    if (!best) return err_set(err, all.code, "%s", all.msg);
    *ret = best;
    return 0;
}

/* --- an address that somebody has told --- */

int client_dial_at(struct client **ret, const struct client_config *cfg, const char *host,
                   const char *port, struct err *err)
{
    struct uri uri;
    cluster_addresses_find(cfg->addresses, &host, &port);
    if (uri_with_address(&uri, cfg->uri, host, port, err) < 0) return -1;
    int rc = client_dial(ret, cfg, &uri, 0, client_first_timeout(cfg), err);
    uri_release(&uri);
    return rc;
}

/* To where `same` is connected. */
static int open_same(struct client **ret, const struct client_config *cfg,
                     const struct client *same, struct err *err)
{
    const struct uri *u = cfg->uri;
    struct client_config plain = *cfg;
    plain.addresses = NULL; /* it is known where that is */
    if (u->unix_path) return client_dial(ret, cfg, u, 0, client_io_timeout(cfg), err);
    for (unsigned i = 0; !u->sentinel && i < uri_addresses(u); i++)
        if (strcmp(uri_host(u, i), client_host(same)) == 0 &&
            strcmp(uri_port(u, i), client_port(same)) == 0)
            return client_dial(ret, cfg, u, i, client_io_timeout(cfg), err);
    if (client_dial_at(ret, &plain, client_host(same), client_port(same), err) < 0) return -1;
    client_patience(*ret, client_io_timeout(cfg));
    return 0;
}

/* --- a replica in place of its primary --- */

/* INFO replication, as text and as facts; both to be released on success. */
static int read_replication(struct client *c, struct reply **ret, struct server_facts *facts,
                            struct err *err)
{
    struct reply *r;
    if (client_ask(c, &r, err, "INFO", "replication", NULL) < 0) return -1;
    if (!reply_has_text(r) || facts_parse(facts, r->str, err) < 0) {
        reply_free(r);
        return -1;
    }
    *ret = r;
    return 0;
}

/* Can a stream be gone on with from there? A replica that has begun anew has but a short backlog.
 */
static bool reaches_back(struct span info, uint64_t offset)
{
    static const char word[] = "repl_backlog_first_byte_offset:";
    const uint8_t *at = memmem(info.p, info.n, word, sizeof(word) - 1);
    if (offset == 0) return true;
    if (!at) return false;
    struct span rest = span_of(at + sizeof(word) - 1,
                               info.n - (size_t)(at - info.p) - sizeof(word) + 1);
    size_t n = 0;
    while (n < rest.n && rest.p[n] >= '0' && rest.p[n] <= '9')
        n++;
    uint64_t first;
    return num_get_u64(span_of(rest.p, n), &first) && first <= offset + 1;
}

/* It has the primary's history, and goes on receiving it. Before 4.0 a replica has an id and
 * offsets of its own. */
static bool follows(struct client *c, const struct client_config *cfg, const char *replid)
{
    struct reply *r;
    struct server_facts f;
    if (read_replication(c, &r, &f, NULL) < 0) return false;
    bool well = f.role == FACTS_REPLICA && f.link_up && strcasecmp(f.replid, replid) == 0 &&
                f.repl_offset >= (int64_t)cfg->resume_offset &&
                reaches_back(r->str, cfg->resume_offset);
    reply_free(r);
    facts_release(&f);
    return well;
}

/* The client becomes one to that replica, if it is one and is there. */
static bool go_over(struct client **c, const struct client_config *cfg, const char *replid,
                    const char *host, const char *port)
{
    struct client *other;
    if (client_dial_at(&other, cfg, host, port, NULL) < 0) return false;
    if (!follows(other, cfg, replid)) {
        client_close(other);
        return false;
    }
    client_patience(other, client_io_timeout(cfg));
    client_close(*c);
    *c = other;
    return true;
}

/* The value of word= in "ip=10.0.0.1,port=6379,state=online,offset=12,lag=0". */
static bool find_value(char *out, size_t size, struct span line, const char *word)
{
    size_t n = strlen(word);
    for (const uint8_t *at = line.p, *end = line.p + line.n; at < end;) {
        const uint8_t *comma = memchr(at, ',', (size_t)(end - at));
        size_t len = (size_t)((comma ? comma : end) - at);
        if (len > n && memcmp(at, word, n) == 0 && len - n < size) {
            memcpy(out, at + n, len - n);
            out[len - n] = 0;
            return true;
        }
        at = comma ? comma + 1 : end;
    }
    return false;
}

/* "slave0:ip=...,port=...,state=online,..." */
static bool read_slave(struct span line, struct sentinel_server *ret)
{
    char state[16];
    const uint8_t *colon = line.n ? memchr(line.p, ':', line.n) : NULL;
    if (!colon || line.n < 5 || memcmp(line.p, "slave", 5) != 0) return false;
    struct span values = span_of(colon + 1, line.n - (size_t)(colon + 1 - line.p));
    return find_value(state, sizeof(state), values, "state=") && strcmp(state, "online") == 0 &&
           find_value(ret->host, sizeof(ret->host), values, "ip=") &&
           find_value(ret->port, sizeof(ret->port), values, "port=") && sentinel_server_ok(ret);
}

static bool go_to_told(struct client **c, const struct client_config *cfg, const char *replid,
                       struct span info)
{
    while (info.n) {
        const uint8_t *eol = memchr(info.p, '\n', info.n);
        size_t n = eol ? (size_t)(eol - info.p) : info.n;
        struct span line = span_of(info.p, n && info.p[n - 1] == '\r' ? n - 1 : n);
        info = span_of(info.p + n + (eol != NULL), info.n - n - (eol != NULL));
        struct sentinel_server s;
        if (read_slave(line, &s) && go_over(c, cfg, replid, s.host, s.port)) return true;
    }
    return false;
}

/* Those of the URI are known to be reachable as they are written. */
static bool go_to_listed(struct client **c, const struct client_config *cfg, const char *replid)
{
    struct client_config plain = *cfg;
    plain.addresses = NULL;
    unsigned n = cfg->uri->sentinel ? 0 : uri_addresses(cfg->uri);
    for (unsigned i = 0; n > 1 && i < n; i++)
        if (go_over(c, &plain, replid, uri_host(cfg->uri, i), uri_port(cfg->uri, i))) return true;
    return false;
}

/* From the primary to a replica of its, where one is; else it stays as it is. */
static int prefer_replica(struct client **c, const struct client_config *cfg, struct err *err)
{
    struct reply *r;
    struct server_facts f;
    struct err ignored;
    if (read_replication(*c, &r, &f, &ignored) < 0)
        return client_broken(*c) ? err_set(err, ignored.code, "%s", ignored.msg) : 0;
    if (f.role == FACTS_PRIMARY && f.replid[0] && !go_to_listed(c, cfg, f.replid))
        go_to_told(c, cfg, f.replid, r->str);
    reply_free(r);
    facts_release(&f);
    return 0;
}

/* --- the whole --- */

static int open_usual(struct client **ret, const struct client_config *cfg, struct err *err)
{
    unsigned n = uri_addresses(cfg->uri), only = cfg->only_address;
    if (cfg->uri->sentinel) return sentinel_open(ret, cfg, err);
    if (n > 1 && only == 0) return open_any(ret, cfg, err);
    return client_dial(ret, cfg, cfg->uri, only && only <= n ? only - 1 : 0, client_io_timeout(cfg),
                       err);
}

int client_open(struct client **ret, const struct client_config *cfg, struct err *err)
{
    if (cfg->same_as) return open_same(ret, cfg, cfg->same_as, err);
    struct client *c;
    if (open_usual(&c, cfg, err) < 0) return -1;
    if (cfg->prefer_replica && prefer_replica(&c, cfg, err) < 0) {
        client_close(c);
        return -1;
    }
    *ret = c;
    return 0;
}
