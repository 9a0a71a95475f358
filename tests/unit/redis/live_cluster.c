// SPDX-License-Identifier: BSD-3-Clause
// Starting and ending a real cluster.
#include "live_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

char *live_text(struct client *c, const char *a, const char *b)
{
    struct reply *r;
    assert_int_equal(client_ask(c, &r, NULL, a, b, NULL), 0);
    char *text = strdup((const char *)r->str.p);
    reply_free(r);
    return text;
}

static void start_node(struct live_cluster *k, unsigned i)
{
    static const char *const slots[] = {"CLUSTER ADDSLOTSRANGE 0 5460",
                                        "CLUSTER ADDSLOTSRANGE 5461 10922",
                                        "CLUSTER ADDSLOTSRANGE 10923 16383"};
    char bus[8], words[80];
    snprintf(bus, sizeof(bus), "%d", live_free_port());
    const char *extra[] = {
        "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "2000", NULL};
    live_start(&k->server[i], true, extra);
    k->client[i] = live_client(&k->server[i], "target");
    char *id = live_text(k->client[i], "CLUSTER", "MYID");
    snprintf(k->id[i], sizeof(k->id[i]), "%s", id);
    free(id);
    live_do(k->client[i], slots[i]);
    snprintf(words, sizeof(words), "CLUSTER SET-CONFIG-EPOCH %u", i + 1);
    live_do(k->client[i], words);
    if (i == 0) return;
    snprintf(words, sizeof(words), "CLUSTER MEET 127.0.0.1 %d %s", k->server[i].port, bus);
    live_do(k->client[0], words);
}

static bool is_whole(struct client *c)
{
    struct cluster_map *m;
    assert_int_equal(cluster_read_map(c, &m, NULL), 0);
    bool whole = !m->down && m->n == LIVE_NODES && m->owned == SLOT_COUNT;
    for (unsigned i = 0; i < m->n; i++)
        whole &= !m->node[i].handshake && m->node[i].host[0];
    cluster_map_free(m);
    return whole;
}

int live_cluster_start(void **state)
{
    struct live_cluster *k = calloc(1, sizeof(*k));
    for (unsigned i = 0; i < LIVE_NODES; i++)
        start_node(k, i);
    for (unsigned i = 0, tries = 0; i < LIVE_NODES; i++)
        while (!is_whole(k->client[i])) {
            if (++tries > 500) fail_msg("no cluster came about");
            usleep(20000);
        }
    snprintf(k->text, sizeof(k->text), "redis://127.0.0.1:1,127.0.0.1:%d", k->server[1].port);
    assert_int_equal(uri_parse(&k->uri, k->text, NULL), 0);
    *state = k;
    return 0;
}

int live_cluster_stop(void **state)
{
    struct live_cluster *k = *state;
    uri_release(&k->uri);
    for (unsigned i = 0; i < LIVE_NODES; i++) {
        client_close(k->client[i]);
        live_stop(&k->server[i]);
    }
    free(k);
    return 0;
}

void live_cluster_move(struct live_cluster *k, unsigned from, unsigned to, const char *slot)
{
    char words[120];
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %s IMPORTING %s", slot, k->id[from]);
    live_do(k->client[to], words);
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %s MIGRATING %s", slot, k->id[to]);
    live_do(k->client[from], words);
}

void live_cluster_moved(struct live_cluster *k, unsigned from, unsigned to, const char *slot)
{
    char words[120];
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %s NODE %s", slot, k->id[to]);
    live_do(k->client[to], words);
    live_do(k->client[from], words);
}
