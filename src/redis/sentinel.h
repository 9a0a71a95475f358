// SPDX-License-Identifier: BSD-3-Clause
// Asking Sentinels which server is the primary now (redis+sentinel:// URIs).
//
// They are asked without a password first: most have none. One that wants one gets that of the URI
// (sentinel-password=) or of the configuration; where there is none, the servers' own.
#ifndef KEYHAUL_REDIS_SENTINEL_H
#define KEYHAUL_REDIS_SENTINEL_H

#include "redis/client.h"

struct sentinel_server {
    char host[256], port[8];
};

/* What the i-th Sentinel (from 0 on) of cfg->uri says of the primary: where it announces itself,
 * the map of addresses not applied. ERR_REFUSED: it is no Sentinel, or knows none of this name. */
KH_MUST int sentinel_ask(const struct client_config *cfg, unsigned i, struct sentinel_server *ret,
                         struct err *err);

/* Connect to the primary that a Sentinel names: each of them is asked in turn until one names a
 * server that is there and says of itself that it is a primary. ERR_BUSY: it says that it is a
 * replica, as in the middle of a failover. client_open() of such URIs does this. */
KH_MUST int sentinel_open(struct client **ret, const struct client_config *cfg, struct err *err);

/* Texts that may stand as an address: a port, and a host without anything odd in it. */
bool sentinel_server_ok(const struct sentinel_server *s);

#endif
