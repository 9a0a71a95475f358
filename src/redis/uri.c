// SPDX-License-Identifier: BSD-3-Clause
// Where a server is: the URIs of --source and --target. Errors never repeat a part of the text.
#include "redis/uri.h"

#include "base/num.h"
#include "base/span.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX 8192 /* longest text taken; a host name has at most 253 bytes */
#define HOST_MAX 253

#define SHOWN_NAME_MAX 24 /* characters shown of the name that a Sentinel knows */

/* ---- pieces of the text ---- */

static struct span cut(struct span s, size_t from, size_t to)
{
    return span_of(s.p + from, to - from);
}

/* Position of c in s, s.n when it is not there. */
static size_t find(struct span s, char c)
{
    const uint8_t *at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}

static size_t find_last(struct span s, char c)
{
    const uint8_t *at = s.n ? memrchr(s.p, c, s.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decode into a new string. */
static int decode(struct span s, const char *what, char **ret, struct err *err)
{
    char *out = malloc(s.n + 1);
    if (!out) return err_set(err, ERR_NOMEM, "out of memory");
    size_t o = 0;
    for (size_t i = 0; i < s.n; i++, o++) {
        out[o] = (char)s.p[i];
        if (s.p[i] != '%') continue;
        int hi = i + 2 < s.n ? hex(s.p[i + 1]) : -1;
        int lo = i + 2 < s.n ? hex(s.p[i + 2]) : -1;
        if (hi < 0 || lo < 0 || (hi | lo) == 0) {
            explicit_bzero(out, o);
            free(out);
            return err_set(err, ERR_USAGE,
                           "the %s of the URI has a %% without two hexadecimal digits behind it "
                           "(or %%00); write %% itself as %%25",
                           what);
        }
        out[o] = (char)(hi << 4 | lo);
        i += 2;
    }
    out[o] = 0;
    *ret = out;
    return 0;
}

/* ---- parts of the URI ---- */

static int parse_db(struct uri *u, struct span s, struct err *err)
{
    uint64_t db;
    if (!num_get_u64(s, &db) || db > INT_MAX)
        return err_set(err, ERR_USAGE,
                       "the database of the URI must be a number, as in redis://host:6379/3");
    if (u->db >= 0) return err_set(err, ERR_USAGE, "the URI gives the database twice");
    u->db = (int)db;
    return 0;
}

/* Is it word=value? The value is what is left then. */
static bool take_word(struct span *s, const char *word)
{
    size_t n = strlen(word);
    if (s->n <= n || memcmp(s->p, word, n) != 0 || s->p[n] != '=') return false;
    *s = cut(*s, n + 1, s->n);
    return true;
}

static int parse_secret(char **ret, struct span s, const char *what, struct err *err)
{
    if (*ret) return err_set(err, ERR_USAGE, "the URI gives the %s twice", what);
    return s.n ? decode(s, what, ret, err) : 0;
}

static int parse_word(struct uri *u, struct span s, struct err *err)
{
    if (take_word(&s, "db")) return parse_db(u, s, err);
    if (u->sentinel && take_word(&s, "sentinel-user"))
        return parse_secret(&u->sentinel_user, s, "user of the Sentinels", err);
    if (u->sentinel && take_word(&s, "sentinel-password"))
        return parse_secret(&u->sentinel_password, s, "password of the Sentinels", err);
    return err_set(err, ERR_USAGE,
                   "what follows the '?' of the URI is not understood: only db=N%s may stand there "
                   "(a '?' in a password is written %%3F)",
                   u->sentinel ? ", sentinel-user=... and sentinel-password=..., with '&' between,"
                               : "");
}

/* What follows '?'. */
static int parse_query(struct uri *u, struct span s, struct err *err)
{
    for (;;) {
        size_t end = find(s, '&');
        if (parse_word(u, cut(s, 0, end), err) < 0) return -1;
        if (end == s.n) return 0;
        s = cut(s, end + 1, s.n);
    }
}

/* user:password; an empty one of them counts as not given. */
static int parse_userinfo(struct uri *u, struct span s, struct err *err)
{
    size_t colon = find(s, ':');
    if (colon > 0 && decode(cut(s, 0, colon), "user", &u->user, err) < 0) return -1;
    if (colon + 1 < s.n && decode(cut(s, colon + 1, s.n), "password", &u->password, err) < 0)
        return -1;
    return 0;
}

static int parse_port(char ret[8], struct span s, struct err *err)
{
    uint64_t port;
    if (!num_get_u64(s, &port) || port < 1 || port > 65535)
        return err_set(err, ERR_USAGE,
                       "the port of the URI must be a number from 1 to 65535 (in a user or "
                       "password ':' is written %%3A, '/' %%2F, '@' %%40)");
    snprintf(ret, 8, "%u", (unsigned)port);
    return 0;
}

static bool name_ok(struct span s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alnum && c != '-' && c != '.' && c != '_') return false;
    }
    return s.n > 0 && s.n <= HOST_MAX;
}

/* The text between the brackets: an address, perhaps with a zone (fe80::1%eth0). */
static bool ipv6_ok(struct span s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr a;
    size_t n = find(s, '%');
    if (n >= sizeof(text)) return false;
    memcpy(text, s.p, n);
    text[n] = 0;
    return inet_pton(AF_INET6, text, &a) == 1 && (n == s.n || name_ok(cut(s, n + 1, s.n)));
}

/* host, host:port, [ipv6], [ipv6]:port */
static int parse_address(struct uri_address *a, struct span s, const char *port, struct err *err)
{
    bool bracket = s.n > 0 && s.p[0] == '[';
    size_t close = bracket ? find(s, ']') : 0;
    if (bracket && (close == s.n || !ipv6_ok(cut(s, 1, close))))
        return err_set(err, ERR_USAGE, "between the brackets of the URI there is no IPv6 address");
    struct span host = bracket ? cut(s, 1, close) : cut(s, 0, find(s, ':'));
    size_t after = bracket ? close + 1 : host.n;
    if (!bracket && find(cut(s, after, s.n), ':') + after < find_last(s, ':') && after < s.n)
        return err_set(err, ERR_USAGE,
                       "the URI has more than one ':' behind the host: an IPv6 address stands in "
                       "brackets, as in redis://[::1]:6379");
    if (host.n == 0) return err_set(err, ERR_USAGE, "the URI names no host");
    if (!bracket && !name_ok(host))
        return err_set(err, ERR_USAGE, "the host of the URI has characters that no name has");
    if (after < s.n && s.p[after] != ':')
        return err_set(err, ERR_USAGE, "the URI has text between the address and the port");
    snprintf(a->port, sizeof(a->port), "%s", port);
    if (after < s.n && parse_port(a->port, cut(s, after + 1, s.n), err) < 0) return -1;
    a->host = strndup((const char *)host.p, host.n);
    return a->host ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int add_address(struct uri *u, struct span s, const char *port, struct err *err)
{
    struct uri_address a = {.host = NULL};
    if (u->n_more + 1 == URI_ADDRESSES_MAX)
        return err_set(err, ERR_USAGE, "the URI has more than %d addresses", URI_ADDRESSES_MAX);
    struct uri_address *more = realloc(u->more, (u->n_more + 1) * sizeof(*more));
    if (!more) return err_set(err, ERR_NOMEM, "out of memory");
    u->more = more;
    if (parse_address(&a, s, port, err) < 0) return -1;
    u->more[u->n_more++] = a;
    return 0;
}

/* One address or several, with ',' between them, which none of them has in it. */
static int parse_addresses(struct uri *u, struct span s, const char *port, struct err *err)
{
    struct uri_address first;
    size_t end = find(s, ',');
    if (parse_address(&first, cut(s, 0, end), port, err) < 0) return -1;
    u->host = first.host;
    memcpy(u->port, first.port, sizeof(u->port));
    while (end < s.n) {
        s = cut(s, end + 1, s.n);
        end = find(s, ',');
        if (add_address(u, cut(s, 0, end), port, err) < 0) return -1;
    }
    return 0;
}

/* name[/db]: the name is as Sentinel wants it in its own configuration. */
static int parse_set(struct uri *u, struct span path, struct span *ret_db, struct err *err)
{
    struct span name = cut(path, 0, find(path, '/'));
    if (!name_ok(name))
        return err_set(err, ERR_USAGE,
                       "the URI of a Sentinel ends with the name that it knows the server by, as "
                       "in redis+sentinel://host:26379/mymaster (letters, digits, '.', '-', '_')");
    u->sentinel = strndup((const char *)name.p, name.n);
    if (!u->sentinel) return err_set(err, ERR_NOMEM, "out of memory");
    *ret_db = cut(path, name.n < path.n ? name.n + 1 : name.n, path.n);
    return 0;
}

/* [user[:password]@]host[:port][,...][/db][?db=N], of a Sentinel with its name before the db */
static int parse_tcp(struct uri *u, struct span s, bool sentinel, struct err *err)
{
    size_t q = find(s, '?');
    struct span query = cut(s, q, s.n);
    s.n = q;
    size_t slash = find(s, '/');
    struct span path = cut(s, slash, s.n), auth = cut(s, 0, slash);
    /* The last '@': one in a password ought to be %40, but cannot be meant otherwise. */
    size_t at = find_last(auth, '@');
    bool login = at < auth.n;
    if (login && parse_userinfo(u, cut(auth, 0, at), err) < 0) return -1;
    if (!login && (find(path, '@') < path.n || find(query, '@') < query.n))
        return err_set(err, ERR_USAGE,
                       "in the user or password of the URI '/' is written %%2F and '?' %%3F");
    struct span addresses = login ? cut(auth, at + 1, auth.n) : auth;
    if (parse_addresses(u, addresses, sentinel ? "26379" : "6379", err) < 0) return -1;
    if (path.n > 0) path = cut(path, 1, path.n);
    if (sentinel && parse_set(u, path, &path, err) < 0) return -1;
    if (path.n > 0 && parse_db(u, path, err) < 0) return -1;
    return query.n ? parse_query(u, cut(query, 1, query.n), err) : 0;
}

/* [user[:password]@]/path[?db=N] */
static int parse_unix(struct uri *u, struct span s, struct err *err)
{
    size_t q = find(s, '?');
    struct span query = cut(s, q, s.n);
    s.n = q;
    size_t slash = find(s, '/');
    struct span login = cut(s, 0, slash);
    bool at_end = login.n > 0 && login.p[login.n - 1] == '@';
    if (slash >= s.n || slash + 1 == s.n || (login.n && !at_end))
        return err_set(err, ERR_USAGE,
                       "a Unix socket is written with its whole path: unix:///run/redis.sock");
    if (at_end && parse_userinfo(u, cut(login, 0, login.n - 1), err) < 0) return -1;
    if (decode(cut(s, slash, s.n), "path", &u->unix_path, err) < 0) return -1;
    for (const char *p = u->unix_path; *p; p++)
        if (*p > 0 && *p < ' ')
            return err_set(err, ERR_USAGE, "the path of the URI has a control character in it");
    return query.n ? parse_query(u, cut(query, 1, query.n), err) : 0;
}

/* ---- the whole ---- */

/* "host:port" of the i-th; returns its length, cut to fit. */
static size_t show_address(char *out, size_t size, const struct uri *u, unsigned i)
{
    const char *host = uri_host(u, i);
    bool v6 = strchr(host, ':') != NULL;
    int most = u->sentinel ? 80 : 120;
    int n = snprintf(out, size, "%s%.*s%s:%s", v6 ? "[" : "", most, host, v6 ? "]" : "",
                     uri_port(u, i));
    return (size_t)n < size ? (size_t)n : size - 1;
}

static void show_tail(char out[160], size_t n, const struct uri *u)
{
    if (u->sentinel) n += (size_t)snprintf(out + n, 160 - n, "/%.*s", SHOWN_NAME_MAX, u->sentinel);
    if (u->db >= 0) snprintf(out + n, 160 - n, u->unix_path ? "?db=%d" : "/%d", u->db);
}

static size_t show_head(char out[160], const struct uri *u, unsigned i)
{
    if (u->unix_path) return (size_t)snprintf(out, 145, "unix://%.130s", u->unix_path);
    size_t n = (size_t)snprintf(out, 24, "%s%s://", u->tls ? "rediss" : "redis",
                                u->sentinel ? "+sentinel" : "");
    return n + show_address(out + n, 160 - n, u, i);
}

char *uri_show(char out[160], const struct uri *u, unsigned i)
{
    show_tail(out, show_head(out, u, i), u);
    return out;
}

static void show(struct uri *u)
{
    const size_t room = sizeof(u->shown) - sizeof(",.../2147483647") -
                        (u->sentinel ? SHOWN_NAME_MAX + 1 : 0);
    char one[160];
    size_t n = show_head(u->shown, u, 0);
    for (unsigned i = 1; i < uri_addresses(u); i++) {
        size_t add = 1 + show_address(one, sizeof(one), u, i);
        bool fits = n + add <= room;
        n += (size_t)snprintf(u->shown + n, sizeof(u->shown) - n, ",%s", fits ? one : "...");
        if (!fits) break;
    }
    show_tail(u->shown, n, u);
}

enum scheme { SCHEME_TCP, SCHEME_UNIX, SCHEME_SENTINEL };

static int parse_scheme(struct uri *u, struct span *rest, enum scheme *ret, struct err *err)
{
    static const struct {
        const char *name;
        enum scheme scheme;
        bool tls;
    } known[] = {
        {"redis", SCHEME_TCP, false},
        {"rediss", SCHEME_TCP, true},
        {"unix", SCHEME_UNIX, false},
        {"redis+sentinel", SCHEME_SENTINEL, false},
        {"rediss+sentinel", SCHEME_SENTINEL, true},
    };
    const uint8_t *sep = memmem(rest->p, rest->n, "://", 3);
    if (!sep)
        return err_set(err, ERR_USAGE,
                       "the URI has no scheme: write redis://host:port, rediss://host:port (TLS) "
                       "or unix:///path.sock");
    struct span scheme = span_of(rest->p, (size_t)(sep - rest->p));
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!span_is(scheme, known[i].name)) continue;
        u->tls = known[i].tls;
        *ret = known[i].scheme;
        *rest = cut(*rest, scheme.n + 3, rest->n);
        return 0;
    }
    return err_set(err, ERR_USAGE,
                   "the scheme of the URI is not known: it must be redis://, rediss:// (TLS), "
                   "unix://, redis+sentinel:// or rediss+sentinel://");
}

static int check_text(struct span s, struct err *err)
{
    if (s.n == 0) return err_set(err, ERR_USAGE, "the URI is empty");
    if (s.n > TEXT_MAX) return err_set(err, ERR_USAGE, "the URI is too long");
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == 0x7f)
            return err_set(err, ERR_USAGE,
                           "the URI has a space or control character in it (write it as %%20)");
    if (find(s, '#') < s.n)
        return err_set(err, ERR_USAGE,
                       "the URI has a '#' in it (in a password it is written %%23)");
    return 0;
}

int uri_parse(struct uri *u, const char *text, struct err *err)
{
    struct uri tmp = {.db = -1};
    struct span rest = span_str(text);
    enum scheme scheme = SCHEME_TCP;
    if (check_text(rest, err) < 0 || parse_scheme(&tmp, &rest, &scheme, err) < 0) return -1;
    int rc = scheme == SCHEME_UNIX ? parse_unix(&tmp, rest, err)
                                   : parse_tcp(&tmp, rest, scheme == SCHEME_SENTINEL, err);
    if (rc < 0) {
        uri_release(&tmp);
        return -1;
    }
    show(&tmp);
    *u = tmp;
    explicit_bzero(&tmp, sizeof(tmp));
    return 0;
}

/* A copy of what may be NULL. */
static bool copy_text(char **ret, const char *s)
{
    return !s || (*ret = strdup(s)) != NULL;
}

int uri_with_address(struct uri *ret, const struct uri *base, const char *host, const char *port,
                     struct err *err)
{
    struct uri u = {.tls = base->tls, .db = base->db};
    if (!copy_text(&u.host, host) || !copy_text(&u.user, base->user) ||
        !copy_text(&u.password, base->password)) {
        uri_release(&u);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    snprintf(u.port, sizeof(u.port), "%s", port);
    show(&u);
    *ret = u;
    return 0;
}

int uri_add_address(struct uri *u, const char *host, const char *port, struct err *err)
{
    if (uri_addresses(u) == URI_ADDRESSES_MAX)
        return err_set(err, ERR_LIMIT, "more than %d addresses of one server", URI_ADDRESSES_MAX);
    struct uri_address *more = realloc(u->more, (u->n_more + 1) * sizeof(*more));
    if (more) u->more = more;
    if (!more || !copy_text(&more[u->n_more].host, host))
        return err_set(err, ERR_NOMEM, "out of memory");
    snprintf(more[u->n_more].port, sizeof(more->port), "%s", port);
    u->n_more++;
    show(u);
    return 0;
}

static void free_secret(char *s)
{
    if (s) explicit_bzero(s, strlen(s));
    free(s);
}

int uri_set_login(struct uri *u, const char *user, const char *password, struct err *err)
{
    char *own_user = NULL, *own_password = NULL;
    if (!copy_text(&own_user, user) || !copy_text(&own_password, password)) {
        free(own_user);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    free(u->user);
    free_secret(u->password);
    u->user = own_user;
    u->password = own_password;
    return 0;
}

void uri_release(struct uri *u)
{
    free_secret(u->password);
    free_secret(u->sentinel_password);
    free(u->user);
    free(u->sentinel);
    free(u->sentinel_user);
    free(u->host);
    for (unsigned i = 0; i < u->n_more; i++)
        free(u->more[i].host);
    free(u->more);
    free(u->unix_path);
    *u = (struct uri){.db = -1};
}
