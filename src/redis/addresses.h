// SPDX-License-Identifier: BSD-3-Clause
// Where nodes can be reached that announce themselves at another address (--source-address-map):
// behind NAT, in containers. Pure.
#ifndef KEYHAUL_REDIS_ADDRESSES_H
#define KEYHAUL_REDIS_ADDRESSES_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define ADDRESSES_MAX 1024

struct cluster_address_pair;

/* A list; the first entry that fits is used. */
struct cluster_addresses {
    struct cluster_address_pair *pair;
    size_t n;
};

/* "announced=reachable,...". Each side is host:port or [IPv6]:port; without a port on the left
 * every port fits, without one on the right the port stays: "10.0.0.5=gate",
 * "10.0.0.5:7000=gate:1". ERR_USAGE. */
KH_MUST int cluster_addresses_parse(struct cluster_addresses *ret, const char *text,
                                    struct err *err);
void cluster_addresses_release(struct cluster_addresses *a); /* safe on zeroed */

/* Replace host and port by what they are reached at; may be what they are. `a` may be NULL. True
 * when an entry fits. The texts live as long as `a`. */
bool cluster_addresses_find(const struct cluster_addresses *a, const char **host,
                            const char **port);

#endif
