// SPDX-License-Identifier: BSD-3-Clause
// A real cluster of three primaries for tests.
#ifndef KEYHAUL_TEST_LIVE_CLUSTER_H
#define KEYHAUL_TEST_LIVE_CLUSTER_H

#include "live_server.h"
#include "redis/cluster.h"

#define LIVE_NODES 3

struct live_cluster {
    struct live_server server[LIVE_NODES]; /* slots from 0, 5461, 10923 on */
    struct client *client[LIVE_NODES];
    char id[LIVE_NODES][CLUSTER_ID_MAX];
    char text[80];  /* of uri */
    struct uri uri; /* nobody, and the second one */
};

/* Fixtures: *state is a struct live_cluster. */
int live_cluster_start(void **state);
int live_cluster_stop(void **state);

/* What a command of two words is answered with; to be freed. */
char *live_text(struct client *c, const char *a, const char *b);
/* A slot is on its way, and has arrived; keys are moved in between. */
void live_cluster_move(struct live_cluster *k, unsigned from, unsigned to, const char *slot);
void live_cluster_moved(struct live_cluster *k, unsigned from, unsigned to, const char *slot);

#endif
