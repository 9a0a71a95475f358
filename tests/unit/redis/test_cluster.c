// SPDX-License-Identifier: BSD-3-Clause
// Clients to a cluster's nodes, on a real one of three primaries and a stranger.
#include "redis/cluster.h"

#include "base/clock.h"
#include "live_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define NODES 3

struct nodes {
    struct live_server server[NODES];
    struct client *client[NODES];
    char id[NODES][CLUSTER_ID_MAX];
    char text[80]; /* of uri */
    struct uri uri;
};

static char *ask_text(struct client *c, const char *a, const char *b)
{
    struct reply *r;
    assert_int_equal(client_ask(c, &r, NULL, a, b, NULL), 0);
    char *text = strdup((const char *)r->str.p);
    reply_free(r);
    return text;
}

static void start_node(struct nodes *k, unsigned i)
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
    char *id = ask_text(k->client[i], "CLUSTER", "MYID");
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
    bool whole = !m->down && m->n == NODES && m->owned == SLOT_COUNT;
    for (unsigned i = 0; i < m->n; i++)
        whole &= !m->node[i].handshake && m->node[i].host[0];
    cluster_map_free(m);
    return whole;
}

static int start(void **state)
{
    struct nodes *k = calloc(1, sizeof(*k));
    for (unsigned i = 0; i < NODES; i++)
        start_node(k, i);
    for (unsigned i = 0, tries = 0; i < NODES; i++)
        while (!is_whole(k->client[i])) {
            if (++tries > 500) fail_msg("no cluster came about");
            usleep(20000);
        }
    snprintf(k->text, sizeof(k->text), "redis://127.0.0.1:1,127.0.0.1:%d", k->server[1].port);
    assert_int_equal(uri_parse(&k->uri, k->text, NULL), 0);
    *state = k;
    return 0;
}

static int stop(void **state)
{
    struct nodes *k = *state;
    uri_release(&k->uri);
    for (unsigned i = 0; i < NODES; i++) {
        client_close(k->client[i]);
        live_stop(&k->server[i]);
    }
    free(k);
    return 0;
}

static struct client_config config(const struct uri *uri)
{
    return (struct client_config){
        .uri = uri, .connect_timeout_ms = 5000, .io_timeout_ms = 10000, .side = "target"};
}

static struct cluster *open_cluster(const struct nodes *k)
{
    struct client_config cfg = config(&k->uri);
    struct cluster *c = NULL;
    struct err err = {0};
    if (cluster_open(&c, &cfg, NULL, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

/* SET key value by way of the cluster. */
static void set(struct cluster *c, const char *key, const char *value)
{
    struct span argv[] = {span_str("SET"), span_str(key), span_str(value)};
    struct reply *r = NULL;
    struct err err = {0};
    if (cluster_callv(c, slot_of(argv[1]), 5000, &r, 3, argv, &err) < 0) fail_msg("%s", err.msg);
    if (!reply_is(r, "OK")) fail_msg("%s", (const char *)r->str.p);
    reply_free(r);
}

static void the_map_is_that_of_the_servers(void **state)
{
    struct nodes *k = *state;
    struct cluster *c = open_cluster(k);
    const struct cluster_map *m = cluster_map(c);
    assert_int_equal(m->n, NODES);
    assert_int_equal(m->epoch, 3);
    assert_false(m->down);
    for (unsigned i = 0, slot = 0; i < NODES; i++, slot += 5500) {
        const struct cluster_node *n = &m->node[m->owner[slot]];
        char port[8];
        snprintf(port, sizeof(port), "%d", k->server[i].port);
        assert_string_equal(n->id, k->id[i]);
        assert_string_equal(n->port, port);
        assert_string_equal(n->host, "127.0.0.1");
    }
    assert_string_equal(m->node[m->myself].id, k->id[1]); /* that the URI leads to */
    cluster_close(c);
}

static void each_node_has_its_client(void **state)
{
    struct nodes *k = *state;
    struct cluster *c = open_cluster(k);
    for (unsigned i = 0, slot = 0; i < NODES; i++, slot += 5500) {
        struct client *a, *b, *own;
        assert_int_equal(cluster_client_of(c, (uint16_t)slot, &a, NULL), 0);
        assert_int_equal(cluster_client_of(c, (uint16_t)(slot + 1), &b, NULL), 0);
        assert_ptr_equal(a, b);
        char *id = ask_text(a, "CLUSTER", "MYID");
        assert_string_equal(id, k->id[i]);
        free(id);
        char port[16];
        snprintf(port, sizeof(port), ":%d", k->server[i].port);
        assert_non_null(strstr(client_name(a), port));
        assert_int_equal(cluster_dial(c, cluster_map(c)->owner[slot], &own, NULL), 0);
        assert_ptr_not_equal(own, a);
        client_close(own);
        assert_int_equal(cluster_refresh(c, NULL), 0);
        assert_int_equal(cluster_client_of(c, (uint16_t)slot, &b, NULL), 0);
        assert_ptr_equal(a, b); /* it stays over a refresh */
    }
    struct client *none;
    struct err err;
    assert_int_equal(cluster_client(c, NODES, &none, &err), -1);
    cluster_close(c);
}

static void a_lost_connection_is_dialled_again(void **state)
{
    struct nodes *k = *state;
    struct cluster *c = open_cluster(k);
    set(c, "a", "1");
    for (unsigned i = 0; i < NODES; i++)
        live_do(k->client[i], "CLIENT KILL TYPE normal SKIPME yes");
    set(c, "a", "2");
    char *text = ask_text(k->client[2], "GET", "a");
    assert_string_equal(text, "2");
    free(text);
    cluster_close(c);
}

/* All clients at hand are dead, the node first asked is as well: the others are asked. */
static void a_refresh_asks_who_is_there(void **state)
{
    struct nodes *k = *state;
    struct cluster *c = open_cluster(k);
    for (unsigned i = 0; i < NODES; i++)
        live_do(k->client[i], "CLIENT KILL TYPE normal SKIPME yes");
    struct err err = {0};
    if (cluster_refresh(c, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(cluster_map(c)->owned, SLOT_COUNT);
    kill(k->server[1].pid, SIGSTOP);
    int64_t began = clock_mono_ms();
    struct client_config cfg = config(&k->uri);
    cfg.io_timeout_ms = 500;
    cluster_close(c);
    cfg.connect_timeout_ms = 500;
    int rc = cluster_open(&c, &cfg, NULL, &err); /* it is the only one of the URI that is there */
    kill(k->server[1].pid, SIGCONT);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_NET);
    assert_true(clock_mono_ms() - began < 4000);
}

static void move_slot(struct nodes *k, unsigned from, unsigned to, const char *slot)
{
    char words[120];
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %s IMPORTING %s", slot, k->id[from]);
    live_do(k->client[to], words);
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %s MIGRATING %s", slot, k->id[to]);
    live_do(k->client[from], words);
}

static void end_move(struct nodes *k, unsigned from, unsigned to, const char *slot)
{
    char words[120];
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %s NODE %s", slot, k->id[to]);
    live_do(k->client[to], words);
    live_do(k->client[from], words);
}

/* Slot 866 is that of "hello". */
static void a_slot_is_followed_while_it_moves_and_after(void **state)
{
    struct nodes *k = *state;
    struct cluster *c = open_cluster(k);
    set(c, "hello", "1");
    move_slot(k, 0, 2, "866");

    struct cluster_map *m;
    assert_int_equal(cluster_read_map(k->client[0], &m, NULL), 0);
    assert_int_equal(m->moving[866], CLUSTER_MIGRATING);
    assert_string_equal(m->node[m->other[866]].id, k->id[2]);
    cluster_map_free(m);

    set(c, "hello", "2");        /* still there */
    set(c, "{hello}new", "new"); /* ASK */
    char *text = ask_text(k->client[0], "GET", "hello");
    assert_string_equal(text, "2");
    free(text);
    char port[8];
    snprintf(port, sizeof(port), "%d", k->server[2].port);
    struct reply *r;
    assert_int_equal(client_ask(k->client[0], &r, NULL, "MIGRATE", "127.0.0.1", port, "hello", "0",
                                "5000", NULL),
                     0);
    reply_free(r);
    end_move(k, 0, 2, "866");

    const char *before = cluster_map(c)->node[cluster_map(c)->owner[866]].id;
    assert_string_equal(before, k->id[0]);
    set(c, "hello", "3"); /* MOVED */
    set(c, "{hello}new", "newer");
    text = ask_text(k->client[2], "GET", "hello");
    assert_string_equal(text, "3");
    free(text);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(cluster_refresh(c, NULL), 0);
        if (strcmp(cluster_map(c)->node[cluster_map(c)->owner[866]].id, k->id[2]) == 0) break;
        usleep(20000);
    }
    assert_string_equal(cluster_map(c)->node[cluster_map(c)->owner[866]].id, k->id[2]);
    cluster_close(c);
}

/* A key is missing on one side, and the other has but one of the two: TRYAGAIN, until the wait is
 * over, or the move is. */
static void what_cannot_be_followed_is_waited_for_and_then_told(void **state)
{
    struct nodes *k = *state;
    struct cluster *c = open_cluster(k);
    set(c, "foo", "1");
    move_slot(k, 2, 1, "12182");
    struct span argv[] = {span_str("MSET"), span_str("{foo}x"), span_str("1"), span_str("foo"),
                          span_str("2")};
    struct reply *r = NULL;
    struct err err = {0};
    int64_t began = clock_mono_ms();
    assert_int_equal(cluster_callv(c, 12182, 300, &r, 5, argv, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_non_null(strstr(err.msg, "TRYAGAIN"));
    assert_in_range(clock_mono_ms() - began, 50, 3000);
    live_do(k->client[2], "CLUSTER SETSLOT 12182 STABLE");
    live_do(k->client[1], "CLUSTER SETSLOT 12182 STABLE");
    assert_int_equal(cluster_callv(c, 12182, 300, &r, 5, argv, &err), 0);
    reply_free(r);
    struct span wrong[] = {span_str("LPUSH"), span_str("foo"), span_str("x")};
    assert_int_equal(cluster_callv(c, 12182, 300, &r, 3, wrong, &err), 0);
    assert_true(reply_error_is(r, "WRONGTYPE"));
    reply_free(r);
    atomic_bool stop_now = true;
    struct client_config cfg = config(&k->uri);
    cfg.stop = &stop_now;
    struct cluster *d;
    assert_int_equal(cluster_open(&d, &cfg, NULL, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    cluster_close(c);
}

static void addresses_are_mapped(void **state)
{
    struct nodes *k = *state;
    char text[200];
    struct cluster_addresses a;
    snprintf(text, sizeof(text), "127.0.0.1:%d=127.0.0.1:1,127.0.0.1=localhost", k->server[0].port);
    assert_int_equal(cluster_addresses_parse(&a, text, NULL), 0);
    struct client_config cfg = config(&k->uri);
    struct cluster *c;
    assert_int_equal(cluster_open(&c, &cfg, &a, NULL), 0);
    struct client *client;
    struct err err;
    assert_int_equal(cluster_client_of(c, 0, &client, &err), -1); /* nobody at port 1 */
    assert_int_equal(err.code, ERR_NET);
    assert_int_equal(cluster_client_of(c, 16383, &client, &err), 0);
    assert_string_equal(client_host(client), "localhost");
    cluster_close(c);
    cluster_addresses_release(&a);
}

static void a_single_server_is_refused(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false, NULL);
    struct client_config cfg = live_config(&s, "source");
    struct cluster *c;
    struct err err;
    assert_int_equal(cluster_open(&c, &cfg, NULL, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    live_stop(&s);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_is_that_of_the_servers),
        cmocka_unit_test(each_node_has_its_client),
        cmocka_unit_test(a_lost_connection_is_dialled_again),
        cmocka_unit_test(a_refresh_asks_who_is_there),
        cmocka_unit_test(a_slot_is_followed_while_it_moves_and_after),
        cmocka_unit_test(what_cannot_be_followed_is_waited_for_and_then_told),
        cmocka_unit_test(addresses_are_mapped),
        cmocka_unit_test(a_single_server_is_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
