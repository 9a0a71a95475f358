// SPDX-License-Identifier: BSD-3-Clause
// A walk over all keys: of one server, and of a real cluster whose slots move meanwhile.
#include "redis/primaries.h"

#include "base/num.h"
#include "live_cluster.h"
#include "redis/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define KEYS 600

struct seen { /* how often each of "k0", "k1" ... was wanted */
    unsigned times[KEYS];
    unsigned nodes;
};

static const char *key_name(unsigned i)
{
    static char text[16];
    snprintf(text, sizeof(text), "k%u", i);
    return text;
}

static struct cluster *open_cluster(const struct live_cluster *k)
{
    struct client_config cfg = {
        .uri = &k->uri, .connect_timeout_ms = 5000, .io_timeout_ms = 10000, .side = "target"};
    struct cluster *c = NULL;
    struct err err = {0};
    if (cluster_open(&c, &cfg, NULL, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

static void fill(const struct primaries *p)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char words[40];
        struct client *c;
        snprintf(words, sizeof(words), "SET k%u x", i);
        assert_int_equal(primaries_client_of(p, span_str(key_name(i)), &c, NULL), 0);
        live_do(c, words);
    }
}

static int empty(void *ctx, struct client *c, struct err *err)
{
    (void)err;
    live_do(c, "FLUSHALL");
    ++*(unsigned *)ctx;
    return 0;
}

static void count_key(struct seen *s, const struct walk *w, struct span key)
{
    uint64_t number;
    if (!walk_wants(w, key) || key.p[0] != 'k') return;
    if (num_get_u64(span_of(key.p + 1, key.n - 1), &number)) s->times[number]++;
}

static void look_at(struct seen *s, struct walk *w, struct client *c)
{
    struct scan scan;
    const struct reply *keys;
    scan_begin(&scan, c, NULL);
    while (scan_page(&scan, &keys, NULL) == 1)
        for (size_t i = 0; i < keys->n; i++)
            count_key(s, w, keys->item[i].str);
    scan_end(&scan);
    s->nodes++;
}

static int next(struct walk *w, struct client **ret)
{
    struct err err = {0};
    int rc = walk_next(w, ret, &err);
    if (rc < 0) fail_msg("%s", err.msg);
    return rc;
}

static void go_on(struct seen *s, struct walk *w)
{
    struct client *c;
    struct err err = {0};
    int rc;
    while ((rc = walk_wait_next(w, &c, NULL, NULL, &err)) == WALK_NODE)
        look_at(s, w, c);
    if (rc < 0) fail_msg("%s", err.msg);
    assert_int_equal(rc, WALK_OVER);
}

static void assert_all(const struct seen *s)
{
    for (unsigned i = 0; i < KEYS; i++)
        if (s->times[i] == 0) fail_msg("key %u was not seen", i);
}

/* The first of our keys in this slot, moved from node to node. */
static void carry(struct live_cluster *k, unsigned from, unsigned to, unsigned key)
{
    char port[8];
    struct reply *r;
    snprintf(port, sizeof(port), "%d", k->server[to].port);
    assert_int_equal(client_ask(k->client[from], &r, NULL, "MIGRATE", "127.0.0.1", port,
                                key_name(key), "0", "5000", NULL),
                     0);
    reply_free(r);
}

static unsigned node_index(const struct live_cluster *k, struct client *c)
{
    char *id = live_text(c, "CLUSTER", "MYID");
    unsigned i = 0;
    while (strcmp(k->id[i], id) != 0)
        i++;
    free(id);
    return i;
}

/* A key of ours at this node. */
static unsigned key_at(const struct live_cluster *k, struct cluster *c, unsigned node)
{
    const struct cluster_map *m = cluster_map(c);
    for (unsigned i = 0; i < KEYS; i++)
        if (strcmp(m->node[m->owner[slot_of(span_str(key_name(i)))]].id, k->id[node]) == 0)
            return i;
    fail();
    return 0;
}

static char *slot_text(unsigned key)
{
    static char text[8];
    snprintf(text, sizeof(text), "%u", slot_of(span_str(key_name(key))));
    return text;
}

/* --- tests --- */

static void a_single_server_is_walked_once(void **state)
{
    (void)state;
    struct live_server s;
    struct seen seen = {{0}, 0};
    struct slot_set one = {0};
    struct walk w;
    live_start(&s, false, NULL);
    struct client *c = live_client(&s, "target");
    struct primaries p = {.one = c};
    fill(&p);
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    go_on(&seen, &w);
    walk_end(&w);
    assert_int_equal(seen.nodes, 1);
    assert_all(&seen);
    slot_set_add(&one, slot_of(span_str("k7")));
    p.slots = &one;
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    assert_true(walk_wants(&w, span_str("k7")));
    assert_true(walk_wants(&w, span_str("x{k7}")));
    assert_false(walk_wants(&w, span_str("k8")));
    walk_end(&w);
    client_close(c);
    live_stop(&s);
}

static void a_cluster_at_rest(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct seen seen = {{0}, 0};
    struct walk w;
    struct client *any;
    unsigned nodes = 0;
    assert_int_equal(primaries_each(&p, empty, &nodes, NULL), 0);
    assert_int_equal(nodes, LIVE_NODES);
    assert_int_equal(primaries_any(&p, &any, NULL), 0);
    fill(&p);
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    go_on(&seen, &w);
    walk_end(&w);
    assert_int_equal(seen.nodes, LIVE_NODES);
    assert_all(&seen);
    /* Only nodes that have any of these. */
    struct slot_set some = {0};
    slot_set_add(&some, 100);
    slot_set_add(&some, 16000);
    p.slots = &some;
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    go_on(&seen, &w);
    walk_end(&w);
    assert_int_equal(seen.nodes, 2);
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(seen.times[i] > 0, slot_set_has_key(&some, span_str(key_name(i))));
    cluster_close(c);
}

/* From a node that is still to come to the one that is through. */
static void a_slot_that_moves_under_the_walk(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct seen seen = {{0}, 0};
    struct walk w;
    struct client *at;
    fill(&p);
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    assert_int_equal(next(&w, &at), WALK_NODE);
    look_at(&seen, &w, at);
    unsigned first = node_index(k, at), from = (first + 1) % LIVE_NODES;
    unsigned key = key_at(k, c, from);
    live_cluster_move(k, from, first, slot_text(key));
    carry(k, from, first, key);
    live_cluster_moved(k, from, first, slot_text(key));
    assert_int_equal(next(&w, &at), WALK_NODE);
    look_at(&seen, &w, at);
    assert_int_equal(next(&w, &at), WALK_NODE);
    look_at(&seen, &w, at);
    assert_int_equal(seen.times[key], 0);
    assert_int_equal(next(&w, &at), WALK_LATER);
    assert_true(walk_wants(&w, span_str(key_name(key))));
    assert_int_equal(slot_set_count(&w.left), 1);
    go_on(&seen, &w);
    walk_end(&w);
    assert_all(&seen);
    assert_in_range(seen.nodes, LIVE_NODES + 1, LIVE_NODES + 2); /* not all again */
    cluster_close(c);
}

/* Key by key: the slot's owner is the same before and after, and yet a key has moved. */
static void a_slot_half_way(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct seen seen = {{0}, 0};
    struct walk w;
    struct client *at;
    fill(&p);
    unsigned from = 2, to = 0, key = key_at(k, c, from);
    live_cluster_move(k, from, to, slot_text(key));
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    for (int i = 0; i < LIVE_NODES; i++) {
        assert_int_equal(next(&w, &at), WALK_NODE);
        if (node_index(k, at) == from) carry(k, from, to, key); /* just before it is looked at */
        look_at(&seen, &w, at);
    }
    for (int pass = 0; pass < 2; pass++) { /* as long as that lasts */
        assert_int_equal(next(&w, &at), WALK_LATER);
        assert_int_equal(slot_set_count(&w.left), 1);
        usleep(150000);
        while (next(&w, &at) == WALK_NODE)
            look_at(&seen, &w, at);
    }
    live_cluster_moved(k, from, to, slot_text(key));
    go_on(&seen, &w);
    walk_end(&w);
    assert_all(&seen);
    cluster_close(c);
}

/* Whoever was redirected says so; all of the slot is gone through once more. */
static void what_was_redirected(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct seen seen = {{0}, 0};
    struct walk w;
    struct client *at;
    fill(&p);
    uint16_t slot = slot_of(span_str("k5"));
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    assert_int_equal(next(&w, &at), WALK_NODE);
    look_at(&seen, &w, at);
    walk_again(&w, slot);
    go_on(&seen, &w);
    walk_end(&w);
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(seen.times[i], slot_of(span_str(key_name(i))) == slot ? 2 : 1);
    cluster_close(c);
}

/* A client left in the middle of a pipeline is not used again. */
static void a_walk_that_is_given_up(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct walk w;
    struct client *at;
    assert_int_equal(walk_begin(&w, &p, NULL), 0);
    assert_int_equal(next(&w, &at), WALK_NODE);
    assert_int_equal(client_send(at, NULL, "SET", "k1", "x", NULL), 0);
    walk_end(&w);
    unsigned nodes = 0;
    assert_int_equal(primaries_each(&p, empty, &nodes, NULL), 0);
    assert_int_equal(nodes, LIVE_NODES);
    cluster_close(c);
}

static void redirections(void **state)
{
    (void)state;
    static const char *const yes[] = {"MOVED 1 a:1", "ASK 1 a:1", "TRYAGAIN x", "CLUSTERDOWN x"};
    static const char *const no[] = {"ERR MOVED", "MOVEDX", "READONLY x", "NOPERM x"};
    for (int i = 0; i < 4; i++) {
        struct reply r = {.type = REPLY_ERROR, .str = span_str(yes[i])};
        assert_true(primaries_redirects(&r));
        r.type = REPLY_STRING;
        assert_false(primaries_redirects(&r));
        r = (struct reply){.type = REPLY_ERROR, .str = span_str(no[i])};
        assert_false(primaries_redirects(&r));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_server_is_walked_once),
        cmocka_unit_test(a_cluster_at_rest),
        cmocka_unit_test(a_slot_that_moves_under_the_walk),
        cmocka_unit_test(a_slot_half_way),
        cmocka_unit_test(what_was_redirected),
        cmocka_unit_test(a_walk_that_is_given_up),
        cmocka_unit_test(redirections),
    };
    return cmocka_run_group_tests(tests, live_cluster_start, live_cluster_stop);
}
