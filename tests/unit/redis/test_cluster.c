// SPDX-License-Identifier: BSD-3-Clause
// Clients to a cluster's nodes, on a real one of three primaries and a stranger.
#include "redis/cluster.h"

#include "base/clock.h"
#include "live_cluster.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct client_config config(const struct uri *uri)
{
    return (struct client_config){
        .uri = uri, .connect_timeout_ms = 5000, .io_timeout_ms = 10000, .side = "target"};
}

static struct cluster *open_cluster(const struct live_cluster *k)
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
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    const struct cluster_map *m = cluster_map(c);
    assert_int_equal(m->n, LIVE_NODES);
    assert_int_equal(m->epoch, 3);
    assert_false(m->down);
    for (unsigned i = 0, slot = 0; i < LIVE_NODES; i++, slot += 5500) {
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
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    for (unsigned i = 0, slot = 0; i < LIVE_NODES; i++, slot += 5500) {
        struct client *a, *b, *own;
        assert_int_equal(cluster_client_of(c, (uint16_t)slot, &a, NULL), 0);
        assert_int_equal(cluster_client_of(c, (uint16_t)(slot + 1), &b, NULL), 0);
        assert_ptr_equal(a, b);
        char *id = live_text(a, "CLUSTER", "MYID");
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
    assert_int_equal(cluster_client(c, LIVE_NODES, &none, &err), -1);
    cluster_close(c);
}

static void a_lost_connection_is_dialled_again(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    set(c, "a", "1");
    for (unsigned i = 0; i < LIVE_NODES; i++)
        live_do(k->client[i], "CLIENT KILL TYPE normal SKIPME yes");
    set(c, "a", "2");
    char *text = live_text(k->client[2], "GET", "a");
    assert_string_equal(text, "2");
    free(text);
    cluster_close(c);
}

/* All clients at hand are dead, the node first asked is as well: the others are asked. */
static void a_refresh_asks_who_is_there(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    for (unsigned i = 0; i < LIVE_NODES; i++)
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

/* Slot 866 is that of "hello". */
static void a_slot_is_followed_while_it_moves_and_after(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    set(c, "hello", "1");
    live_cluster_move(k, 0, 2, "866");

    struct cluster_map *m;
    assert_int_equal(cluster_read_map(k->client[0], &m, NULL), 0);
    assert_int_equal(m->moving[866], CLUSTER_MIGRATING);
    assert_string_equal(m->node[m->other[866]].id, k->id[2]);
    cluster_map_free(m);

    set(c, "hello", "2");        /* still there */
    set(c, "{hello}new", "new"); /* ASK */
    char *text = live_text(k->client[0], "GET", "hello");
    assert_string_equal(text, "2");
    free(text);
    char port[8];
    snprintf(port, sizeof(port), "%d", k->server[2].port);
    struct reply *r;
    assert_int_equal(client_ask(k->client[0], &r, NULL, "MIGRATE", "127.0.0.1", port, "hello", "0",
                                "5000", NULL),
                     0);
    reply_free(r);
    live_cluster_moved(k, 0, 2, "866");

    const char *before = cluster_map(c)->node[cluster_map(c)->owner[866]].id;
    assert_string_equal(before, k->id[0]);
    set(c, "hello", "3"); /* MOVED */
    set(c, "{hello}new", "newer");
    text = live_text(k->client[2], "GET", "hello");
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
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    set(c, "foo", "1");
    live_cluster_move(k, 2, 1, "12182");
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
    struct live_cluster *k = *state;
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
    return cmocka_run_group_tests(tests, live_cluster_start, live_cluster_stop);
}
