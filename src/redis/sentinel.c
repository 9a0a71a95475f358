// SPDX-License-Identifier: BSD-3-Clause
// SENTINEL GET-MASTER-ADDR-BY-NAME, and going there.
#include "redis/sentinel.h"

#include "base/num.h"
#include "redis/client_impl.h"

#include <stdio.h>

bool sentinel_server_ok(const struct sentinel_server *s)
{
    uint64_t port;
    if (!num_get_u64(span_str(s->port), &port) || port < 1 || port > 65535 || !s->host[0])
        return false;
    for (const char *p = s->host; *p; p++)
        if (*p <= ' ' || *p >= 0x7f || strchr("/@?#", *p)) return false;
    return true;
}

/* --- talking with a Sentinel --- */

static int dial(struct client **ret, const struct client_config *cfg, unsigned i, const char *user,
                const char *password, struct err *err)
{
    struct uri base = *cfg->uri, uri; /* base: for a look only */
    struct client_config own = *cfg;
    base.db = -1;
    own.password = NULL;
    if (uri_with_address(&uri, &base, uri_host(&base, i), uri_port(&base, i), err) < 0) return -1;
    int rc = uri_set_login(&uri, user, password, err);
    if (rc == 0) rc = client_dial(ret, &own, &uri, 0, client_first_timeout(cfg), err);
    uri_release(&uri);
    return rc;
}

static int login(struct client **ret, const struct client_config *cfg, unsigned i, struct err *err)
{
    const struct uri *u = cfg->uri;
    const char *password = cfg->sentinel_password ? cfg->sentinel_password : u->sentinel_password;
    const char *servers = cfg->password ? cfg->password : u->password;
    if (password) return dial(ret, cfg, i, u->sentinel_user, password, err);
    struct err first = {.code = ERR_NONE};
    if (dial(ret, cfg, i, NULL, NULL, &first) == 0) return 0;
    if (first.code != ERR_AUTH || !servers) return err_set(err, first.code, "%s", first.msg);
    return dial(ret, cfg, i, u->user, servers, err);
}

/* The words of a login are about the servers' password. */
static int tell_login(const struct client_config *cfg, unsigned i, struct err *err)
{
    const struct uri *u = cfg->uri;
    if (err->code != ERR_AUTH) return err_wrap(err, "Sentinel");
    return err_set(err, ERR_AUTH,
                   "%s: the Sentinel at %s:%s asks for a password and does not get the right one; "
                   "give that of the Sentinels with --sentinel-password-file, in "
                   "KEYHAUL_SENTINEL_PASSWORD or as ?sentinel-password=",
                   cfg->side, uri_host(u, i), uri_port(u, i));
}

static int copy(char *out, size_t size, const struct reply *r)
{
    if (!r || !reply_has_text(r) || r->str.n >= size || memchr(r->str.p, 0, r->str.n)) return -1;
    memcpy(out, r->str.p, r->str.n);
    out[r->str.n] = 0;
    return 0;
}

static int read_answer(struct client *c, const struct reply *r, const char *name,
                       struct sentinel_server *ret, struct err *err)
{
    char words[200];
    struct sentinel_server s;
    if (reply_is_error(r) && peer_unknown_command(reply_words(words, sizeof(words), r)))
        return err_set(err, ERR_REFUSED, "%s: is no Sentinel", client_name(c));
    if (reply_is_error(r)) return client_refused(c, "SENTINEL", r, err);
    if (r->type == REPLY_NULL)
        return err_set(err, ERR_REFUSED, "%s: knows no server of the name '%s'", client_name(c),
                       name);
    if (copy(s.host, sizeof(s.host), reply_at(r, 0)) < 0 ||
        copy(s.port, sizeof(s.port), reply_at(r, 1)) < 0 || !sentinel_server_ok(&s))
        return err_set(err, ERR_PROTO, "%s: names no address as that of the primary",
                       client_name(c));
    *ret = s;
    return 0;
}

int sentinel_ask(const struct client_config *cfg, unsigned i, struct sentinel_server *ret,
                 struct err *err)
{
    struct client *c = NULL;
    struct reply *r;
    const char *name = cfg->uri->sentinel;
    struct err why = {.code = ERR_NONE};
    if (login(&c, cfg, i, &why) < 0) {
        tell_login(cfg, i, &why);
        return err_set(err, why.code, "%s", why.msg);
    }
    int rc = client_call(c, &r, err, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name, NULL);
    if (rc == 0) {
        rc = read_answer(c, r, name, ret, err);
        reply_free(r);
    }
    client_close(c);
    return rc < 0 ? err_wrap(err, "Sentinel") : 0;
}

/* --- going there --- */

/* A server says best itself what it is: a Sentinel may have been cut off from the others. */
static int go(struct client **ret, const struct client_config *cfg, unsigned i, struct err *err)
{
    struct sentinel_server s = {.host = ""};
    struct client *c;
    if (sentinel_ask(cfg, i, &s, err) < 0 || client_dial_at(&c, cfg, s.host, s.port, err) < 0)
        return -1;
    int primary = client_is_primary(c, err);
    if (primary > 0) {
        client_patience(c, client_io_timeout(cfg));
        *ret = c;
        return 0;
    }
    if (primary == 0)
        err_set(err, ERR_BUSY, "%s: is a replica, though a Sentinel names it as the primary",
                client_name(c));
    client_close(c);
    return -1;
}

int sentinel_open(struct client **ret, const struct client_config *cfg, struct err *err)
{
    struct err all = {.code = ERR_NONE}, one = all;
    for (unsigned i = 0; i < uri_addresses(cfg->uri); i++) {
        if (go(ret, cfg, i, &one) == 0) return 0;
        client_gather_failure(&all, &one);
        if (one.code == ERR_STOPPED || one.code == ERR_NOMEM) break;
    }
    return err_set(err, all.code, "%s", all.msg);
}
