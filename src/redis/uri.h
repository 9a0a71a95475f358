// SPDX-License-Identifier: BSD-3-Clause
// Where a server is: redis://[user[:password]@]host[:port][,host[:port]...][/db], rediss://…,
// unix:///path.sock[?db=n], redis+sentinel://[user[:password]@]host[:port][,...]/name[/db][?...]
//
// Several addresses are those at which the server may be found, one after the other: a primary and
// the replicas that may take its place. User, password, TLS and database are the same for all.
//
// With +sentinel they are those of Sentinels (port 26379 unless given) that know the server by this
// name. User and password are the server's; those of the Sentinels, where they have their own,
// stand in the query: ?sentinel-user=u&sentinel-password=p. TLS is for both.
#ifndef KEYHAUL_REDIS_URI_H
#define KEYHAUL_REDIS_URI_H

#include "base/err.h"

#include <stdbool.h>

#define URI_ADDRESSES_MAX 16

struct uri_address {
    char *host; /* without the brackets of an IPv6 address */
    char port[8];
};

struct uri {
    bool tls;
    char *unix_path;          /* NULL: host and port */
    char *host;               /* the first, without the brackets of an IPv6 address */
    char port[8];             /* default "6379", of a Sentinel "26379" */
    struct uri_address *more; /* the others */
    unsigned n_more;
    char *user;                              /* NULL: none; percent-decoded */
    char *password;                          /* NULL: none; percent-decoded */
    char *sentinel;                          /* NULL: a server; else its name: [A-Za-z0-9._-] */
    char *sentinel_user, *sentinel_password; /* NULL: none */
    int db;                                  /* -1: none given */
    char shown[160]; /* for people: scheme, hosts, ports, db; never user or password. Of very many
                        the last are left out ("...") */
};

/* ERR_USAGE with what is wrong; the words never repeat the text (it may hold a password). */
KH_MUST int uri_parse(struct uri *u, const char *text, struct err *err);
/* How many addresses, and the i-th of them (0: the first). */
static inline unsigned uri_addresses(const struct uri *u)
{
    return 1 + u->n_more;
}
static inline const char *uri_host(const struct uri *u, unsigned i)
{
    return i ? u->more[i - 1].host : u->host;
}
static inline const char *uri_port(const struct uri *u, unsigned i)
{
    return i ? u->more[i - 1].port : u->port;
}
/* As `shown`, but of that address only. Returns out. */
char *uri_show(char out[160], const struct uri *u, unsigned i);

/* Another server with the user, password, TLS and database of `base`: a node of its cluster.
 * ERR_NOMEM.
 */
KH_MUST int uri_with_address(struct uri *ret, const struct uri *base, const char *host,
                             const char *port, struct err *err);

/* One more at which it may be found. ERR_LIMIT: there are URI_ADDRESSES_MAX already. */
KH_MUST int uri_add_address(struct uri *u, const char *host, const char *port, struct err *err);

/* Another user and password in place of those that it has; NULL: none. ERR_NOMEM. */
KH_MUST int uri_set_login(struct uri *u, const char *user, const char *password, struct err *err);

void uri_release(struct uri *u); /* wipes the password */

#endif
