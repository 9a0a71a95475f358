// SPDX-License-Identifier: BSD-3-Clause
// What the parts of client share: the talk (client.c), whom to call (client_open.c) and whom to ask
// who that is (sentinel.c).
#ifndef KEYHAUL_REDIS_CLIENT_IMPL_H
#define KEYHAUL_REDIS_CLIENT_IMPL_H

#include "redis/client.h"

/* Connect to the i-th address (from 0 on) of `u`, which stands in for cfg->uri, log in, PING. */
KH_MUST int client_dial(struct client **ret, const struct client_config *cfg, const struct uri *u,
                        unsigned i, int io_timeout_ms, struct err *err);

/* The same at an address that a server has told, as the map of addresses has it. Who is slow to
 * answer is given up after the time that a connection may take; until patience is set. */
KH_MUST int client_dial_at(struct client **ret, const struct client_config *cfg, const char *host,
                           const char *port, struct err *err);

/* 1, 0: a replica, -1. One that will not tell is taken for a primary. */
KH_MUST int client_is_primary(struct client *c, struct err *err);

static inline int client_connect_timeout(const struct client_config *cfg)
{
    return cfg->connect_timeout_ms > 0 ? cfg->connect_timeout_ms : CONN_TIMEOUT_MS;
}

static inline int client_io_timeout(const struct client_config *cfg)
{
    return cfg->io_timeout_ms > 0 ? cfg->io_timeout_ms : 60000;
}

/* Until it is known that somebody is there. */
static inline int client_first_timeout(const struct client_config *cfg)
{
    int connect_ms = client_connect_timeout(cfg), io_ms = client_io_timeout(cfg);
    return connect_ms < io_ms ? connect_ms : io_ms;
}

/* What to tell of several failures: who refuses us says more than who is not there. ERR_NONE in
 * `all` to begin. */
void client_gather_failure(struct err *all, const struct err *one);

#endif
