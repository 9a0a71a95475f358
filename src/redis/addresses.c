// SPDX-License-Identifier: BSD-3-Clause
// The map from announced to reachable addresses.
#include "redis/addresses.h"

#include "base/num.h"
#include "base/span.h"

#include <stdio.h>
#include <stdlib.h>

#define HOST_ROOM 256

struct cluster_address_pair {
    char host[HOST_ROOM], port[8];       /* announced; port "": any */
    char to_host[HOST_ROOM], to_port[8]; /* reachable; port "": the same */
};

static const char USAGE[] = "announced=reachable, each host:port or [IPv6]:port or only a host; "
                            "several with ',' between them";

static bool host_ok(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("[]/@=,", s.p[i])) return false;
    return s.n > 0 && s.n < HOST_ROOM;
}

/* host, host:port, [ipv6], [ipv6]:port; also a bare IPv6 address, which has two colons at least. */
static bool read_address(char host[HOST_ROOM], char port[8], struct span s)
{
    struct span h = s, p = {0};
    bool bracket = s.n && s.p[0] == '[';
    const uint8_t *close = bracket ? memchr(s.p, ']', s.n) : NULL;
    const uint8_t *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
    if (bracket && !close) return false;
    if (bracket) {
        h = span_of(s.p + 1, (size_t)(close - s.p) - 1);
        size_t behind = s.n - h.n - 2;
        if (behind > 0 && close[1] != ':') return false;
        if (behind > 0) p = span_of(close + 2, behind - 1);
        if (behind == 1) return false;
    } else if (colon && memchr(s.p, ':', s.n) == colon) {
        h = span_of(s.p, (size_t)(colon - s.p));
        p = span_of(colon + 1, s.n - h.n - 1);
        if (p.n == 0) return false;
    }
    uint64_t n = 0;
    if (!host_ok(h) || (p.p && (!num_get_u64(p, &n) || n < 1 || n > 65535))) return false;
    snprintf(host, HOST_ROOM, "%.*s", (int)h.n, (const char *)h.p);
    port[0] = 0;
    if (p.p) snprintf(port, 8, "%u", (unsigned)n);
    return true;
}

static bool read_pair(struct cluster_address_pair *pair, struct span s)
{
    const uint8_t *eq = s.n ? memchr(s.p, '=', s.n) : NULL;
    if (!eq) return false;
    struct span left = span_of(s.p, (size_t)(eq - s.p));
    struct span right = span_of(eq + 1, s.n - left.n - 1);
    return read_address(pair->host, pair->port, left) &&
           read_address(pair->to_host, pair->to_port, right);
}

static size_t count(struct span s)
{
    size_t n = 1;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == ',';
    return n;
}

int cluster_addresses_parse(struct cluster_addresses *ret, const char *text, struct err *err)
{
    struct span s = span_str(text);
    size_t n = count(s);
    if (n > ADDRESSES_MAX)
        return err_set(err, ERR_USAGE, "has more than %d addresses", ADDRESSES_MAX);
    struct cluster_addresses a = {.pair = calloc(n, sizeof(*a.pair)), .n = n};
    if (!a.pair) return err_set(err, ERR_NOMEM, "out of memory for addresses");
    for (size_t i = 0; i < n; i++) {
        const uint8_t *comma = s.n ? memchr(s.p, ',', s.n) : NULL;
        struct span one = comma ? span_of(s.p, (size_t)(comma - s.p)) : s;
        if (comma) s = span_of(comma + 1, s.n - one.n - 1);
        if (read_pair(&a.pair[i], one)) continue;
        cluster_addresses_release(&a);
        return err_set(err, ERR_USAGE, "must be %s", USAGE);
    }
    *ret = a;
    return 0;
}

void cluster_addresses_release(struct cluster_addresses *a)
{
    free(a->pair);
    *a = (struct cluster_addresses){0};
}

bool cluster_addresses_find(const struct cluster_addresses *a, const char **host, const char **port)
{
    for (size_t i = 0; a && i < a->n; i++) {
        const struct cluster_address_pair *p = &a->pair[i];
        if (strcasecmp(p->host, *host) != 0) continue;
        if (p->port[0] && strcmp(p->port, *port) != 0) continue;
        *host = p->to_host;
        if (p->to_port[0]) *port = p->to_port;
        return true;
    }
    return false;
}
