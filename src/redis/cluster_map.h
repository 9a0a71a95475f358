// SPDX-License-Identifier: BSD-3-Clause
// Who is in a cluster and who owns which slot, as one of its nodes tells it. Pure.
//
// CLUSTER NODES, since Redis 3.0, a line for each node:
//   <id> <ip:port[@cport][,hostname[,k=v...]]> <flags> <primary's id or -> <ping> <pong> <epoch>
//   <link> <slot> <slot>-<slot> [<slot>->-<id>] [<slot>-<-<id>] ...
// "@cport" since 4.0, the host name since 7.0. Slots on their way stand on the line of the node
// that was asked ("myself") only.
#ifndef KEYHAUL_REDIS_CLUSTER_MAP_H
#define KEYHAUL_REDIS_CLUSTER_MAP_H

#include "base/err.h"
#include "wire/slot.h"

#define CLUSTER_NO_NODE   0xffff
#define CLUSTER_NODES_MAX 4096
#define CLUSTER_ID_MAX    48  /* with its NUL; ids are 40 hex digits */
#define CLUSTER_HOST_MAX  256 /* with its NUL */

struct cluster_node {
    char id[CLUSTER_ID_MAX];
    char host[CLUSTER_HOST_MAX];     /* address; "" not known. IPv6 without brackets */
    char hostname[CLUSTER_HOST_MAX]; /* announced name; "" none */
    char port[8];                    /* "0" not known */
    char primary_id[CLUSTER_ID_MAX]; /* "" of a primary */
    bool primary;
    bool myself;    /* that was asked */
    bool failed;    /* agreed to be lost (fail) */
    bool suspected; /* not heard of by the one that was asked (fail?) */
    bool handshake; /* not a member yet */
    bool linked;    /* the one that was asked is connected with it, or is it */
    uint64_t epoch; /* configuration epoch: of two claims to a slot the higher one holds */
    unsigned slots; /* how many it owns */
};

enum cluster_moving { CLUSTER_STAYS, CLUSTER_MIGRATING, CLUSTER_IMPORTING };

struct cluster_map {
    struct cluster_node *node;
    uint16_t n;
    uint16_t myself;            /* index of the node that was asked; CLUSTER_NO_NODE: not told */
    uint64_t epoch;             /* the highest of all nodes */
    bool down;                  /* CLUSTER INFO says other than "ok"; of cluster_read_map() only */
    unsigned owned;             /* slots that have an owner */
    uint16_t owner[SLOT_COUNT]; /* index of node, or CLUSTER_NO_NODE */
    uint8_t moving[SLOT_COUNT]; /* enum cluster_moving, seen from `myself` */
    uint16_t other[SLOT_COUNT]; /* and to or from whom; CLUSTER_NO_NODE: none, or not a member */
};

/* The text of CLUSTER NODES as got from `dialled` (the host; for a node that does not know its own
 * address). ERR_PROTO: not such a text. ERR_LIMIT: more than CLUSTER_NODES_MAX nodes. */
KH_MUST int cluster_map_parse(struct cluster_map **ret, struct span text, const char *dialled,
                              struct err *err);
void cluster_map_free(struct cluster_map *m); /* NULL-safe */

/* Does each slot have the same owner (by id) in both? */
bool cluster_map_same(const struct cluster_map *a, const struct cluster_map *b);

/* CLUSTER_NO_NODE when there is none. The address is that of a redirection: host or host name. */
uint16_t cluster_map_by_id(const struct cluster_map *m, const char *id);
uint16_t cluster_map_by_address(const struct cluster_map *m, const char *host, const char *port);

/* First primary with slots from this index on; CLUSTER_NO_NODE: no more.
 *   for (unsigned i = cluster_map_primary(m, 0); i != CLUSTER_NO_NODE;
 *        i = cluster_map_primary(m, i + 1)) */
uint16_t cluster_map_primary(const struct cluster_map *m, unsigned from);
/* The same of the replicas of a node that are neither failed nor in handshake. */
uint16_t cluster_map_replica(const struct cluster_map *m, uint16_t of, unsigned from);

/* "MOVED 3999 127.0.0.1:6381" and "ASK 3999 [::1]:6381" (also without the brackets), without '-'.
 */
struct cluster_redirect {
    bool ask;
    uint16_t slot;
    char host[CLUSTER_HOST_MAX]; /* "": the same as that of the node that answers */
    char port[8];
    bool unknown; /* "?": the node does not know it either: read the map again */
};

/* 0; -1: the line is none. ret is untouched then. */
KH_MUST int cluster_redirect_parse(const char *error_line, struct cluster_redirect *ret);

#endif
