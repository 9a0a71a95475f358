// SPDX-License-Identifier: BSD-3-Clause
// Blocking clients to the nodes of one cluster, and its map.
//
// Opened from the addresses of any nodes. Nodes are dialled when first asked for, with the same
// user, password and TLS, at the address that they announce (host name first where they announce
// one, then the address), as changed by the address map. Indexes of nodes are those of the map that
// cluster_map() tells now: cluster_refresh(), cluster_call() and cluster_callv() may replace it.
// One owner thread.
#ifndef KEYHAUL_REDIS_CLUSTER_H
#define KEYHAUL_REDIS_CLUSTER_H

#include "redis/addresses.h"
#include "redis/client.h"
#include "redis/cluster_map.h"

struct cluster;

/* Asks whichever node answers. What cfg and addresses (may be NULL) point to is borrowed for the
 * cluster's life. It waits for nothing: the map may tell that slots have no owner, or that the
 * cluster is down. ERR_REFUSED: the server that answers is part of no cluster. Others as
 * client_open(). */
KH_MUST int cluster_open(struct cluster **ret, const struct client_config *cfg,
                         const struct cluster_addresses *addresses, struct err *err);
void cluster_close(struct cluster *c); /* NULL-safe */

const struct cluster_map *cluster_map(const struct cluster *c);

/* Read the map again: from a primary where one answers, and never one older (by its epoch) than
 * what is known as long as another one answers. Members of the last map are asked, then the
 * addresses of the URI. */
KH_MUST int cluster_refresh(struct cluster *c, struct err *err);

/* The client to a node; it stays the cluster's. It is dialled again when it has become of no use
 * (client_broken()), or the node is at another address now. ERR_BUSY: the node's address is not
 * known. */
KH_MUST int cluster_client(struct cluster *c, uint16_t node, struct client **ret, struct err *err);
/* The same of the owner of a slot. ERR_BUSY: it has none. */
KH_MUST int cluster_client_of(struct cluster *c, uint16_t slot, struct client **ret,
                              struct err *err);
void cluster_stop_by(struct cluster *c, const atomic_bool *stop); /* from now on; may be NULL */
/* Clients that were left in the middle of something (replies are due) are given up. */
void cluster_tidy(struct cluster *c);
/* A client to a node that is the caller's: for a lane, a link. */
KH_MUST int cluster_dial(struct cluster *c, uint16_t node, struct client **ret, struct err *err);

/* Where a node may be reached, as the list of addresses changes it: how many of at most 2 ways.
 * Texts live as long as the map and the list. */
unsigned cluster_ways(const struct cluster *c, const struct cluster_node *n, const char *host[2],
                      const char *port[2]);

/* One command at the node of the slot, wherever it is now: MOVED, ASK, TRYAGAIN, CLUSTERDOWN,
 * READONLY, LOADING, MASTERDOWN and lost connections are followed or waited out, for at most
 * wait_ms. ERR_BUSY, ERR_NET: that was not enough. Mind that a connection lost in the middle sends
 * the command a second time. An error reply other than these is a reply, not a failure. */
KH_MUST int cluster_callv(struct cluster *c, uint16_t slot, int wait_ms, struct reply **ret,
                          size_t argc, const struct span *argv, struct err *err);

/* A node's own view, asked from it. ERR_REFUSED: it is part of no cluster. */
KH_MUST int cluster_read_map(struct client *c, struct cluster_map **ret, struct err *err);

#endif
