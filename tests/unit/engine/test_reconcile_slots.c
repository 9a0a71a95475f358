// SPDX-License-Identifier: BSD-3-Clause
// Reconciling a cluster, and the share that one shard of a source has in a target: real servers.
#include "check/check.h"
#include "engine/reconcile.h"
#include "redis/live_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define KEYS 900

struct side {
    struct live_cluster *k; /* NULL: */
    struct live_server one;
    struct client *c;
    struct cluster *cluster;
    struct primaries at;
    struct server_facts facts;
    struct db_select all;
    struct counters counters;
    char dir[40], existing[64];
    uint64_t deleted;
    struct err err;
};

static void open_side(struct side *s, struct live_cluster *k)
{
    *s = (struct side){.k = k, .all = {.all = true}};
    if (k) {
        struct client_config cfg = {
            .uri = &k->uri, .connect_timeout_ms = 5000, .io_timeout_ms = 10000, .side = "target"};
        assert_int_equal(cluster_open(&s->cluster, &cfg, NULL, NULL), 0);
        s->at.cluster = s->cluster;
        for (int i = 0; i < LIVE_NODES; i++)
            live_do(k->client[i], "FLUSHALL");
    } else {
        live_start(&s->one, false, NULL);
        s->c = s->at.one = live_client(&s->one, "target");
    }
    assert_int_equal(check_nodes(&s->at, &s->facts, NULL), 0);
    snprintf(s->dir, sizeof(s->dir), "/tmp/kh-slots-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->existing, sizeof(s->existing), "%s/existing.keys", s->dir);
}

static void close_side(struct side *s)
{
    facts_release(&s->facts);
    cluster_close(s->cluster);
    client_close(s->c);
    if (!s->k) live_stop(&s->one);
    unlink(s->existing);
    assert_int_equal(rmdir(s->dir), 0);
}

static struct span key_of(unsigned i)
{
    static char text[4][16];
    static unsigned at;
    char *t = text[at++ % 4];
    snprintf(t, sizeof(text[0]), "k%u", i);
    return span_str(t);
}

static int64_t call(struct side *s, const char *verb, unsigned i)
{
    struct client *c;
    struct reply *r = NULL;
    struct span argv[] = {span_str(verb), key_of(i), span_str("x")};
    size_t argc = strcmp(verb, "SET") == 0 ? 3 : 2;
    assert_int_equal(primaries_client_of(&s->at, argv[1], &c, NULL), 0);
    assert_int_equal(client_callv(c, &r, argc, argv, NULL), 0);
    assert_false(reply_is_error(r));
    int64_t n = r->integer;
    reply_free(r);
    return n;
}

static void put(struct side *s, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        call(s, "SET", i);
}

static void note(struct side *s)
{
    if (reconcile_note_existing(&s->at, &s->facts, &s->all, s->dir, s->existing, &s->err) < 0)
        fail_msg("%s", s->err.msg);
}

/* A snapshot that has every key of `seen`, and the sweep behind it. */
static void sweep(struct side *s, bool (*seen)(unsigned i))
{
    struct reconcile rc;
    assert_int_equal(
        reconcile_begin(&rc, &s->all, &s->counters, s->dir, s->existing, false, &s->err), 0);
    for (unsigned i = 0; i < KEYS; i++)
        if (seen(i)) assert_int_equal(reconcile_seen(&rc, 0, key_of(i), &s->err), 0);
    assert_int_equal(reconcile_loaded(&rc, &s->err), 0);
    if (reconcile_sweep(&rc, &s->at, &s->facts, NULL, NULL, &s->deleted, &s->err) < 0)
        fail_msg("%s", s->err.msg);
    reconcile_end(&rc);
}

static bool even(unsigned i)
{
    return i % 2 == 0;
}

static bool none(unsigned i)
{
    (void)i;
    return false;
}

/* Existed: below 300. On the target: all. In the snapshot: the even ones. */
static void a_cluster_is_swept(void **state)
{
    struct side s;
    open_side(&s, *state);
    put(&s, 0, 300);
    note(&s);
    put(&s, 300, KEYS);
    sweep(&s, even);
    assert_int_equal(s.deleted, 300);
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(call(&s, "EXISTS", i), i < 300 || even(i));
    close_side(&s);
}

/* A key that is half way when the sweep comes to it: on the node that does not own its slot. */
static void a_slot_that_moves(void **state)
{
    struct live_cluster *k = *state;
    struct side s;
    struct reply *r;
    char port[8], slot[8];
    open_side(&s, k);
    put(&s, 0, KEYS);
    unsigned i = 1; /* an odd one at node 0 */
    while (slot_of(key_of(i)) > 5460)
        i += 2;
    snprintf(port, sizeof(port), "%d", k->server[1].port);
    snprintf(slot, sizeof(slot), "%u", slot_of(key_of(i)));
    live_cluster_move(k, 0, 1, slot);
    assert_int_equal(client_ask(k->client[0], &r, NULL, "MIGRATE", "127.0.0.1", port,
                                (const char *)key_of(i).p, "0", "5000", NULL),
                     0);
    reply_free(r);
    pid_t mover = fork();
    if (mover == 0) { /* the move ends while the sweep is under way */
        usleep(600000);
        char words[120];
        struct client *to = live_client(&k->server[1], "target"),
                      *from = live_client(&k->server[0], "target");
        snprintf(words, sizeof(words), "CLUSTER SETSLOT %s NODE %s", slot, k->id[1]);
        live_do(to, words);
        live_do(from, words);
        _exit(0);
    }
    sweep(&s, even);
    assert_int_equal(waitpid(mover, NULL, 0), mover);
    for (unsigned n = 0; n < KEYS; n++) {
        struct client *c = n == i ? k->client[1] : NULL;
        if (!c && primaries_client_of(&s.at, key_of(n), &c, NULL) < 0) fail();
        assert_int_equal(client_ask(c, &r, NULL, "EXISTS", (const char *)key_of(n).p, NULL), 0);
        assert_int_equal(r->integer, even(n));
        reply_free(r);
    }
    close_side(&s);
}

/* The rest is another shard's: neither noted nor deleted. */
static void only_some_slots(struct live_cluster *k)
{
    struct side s;
    struct slot_set mine = {0};
    for (uint16_t slot = 3000; slot < 9000; slot++)
        slot_set_add(&mine, slot);
    open_side(&s, k);
    s.at.slots = &mine;
    put(&s, 0, 300);
    note(&s);
    put(&s, 300, KEYS);
    sweep(&s, none);
    uint64_t gone = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        bool stays = i < 300 || !slot_set_has_key(&mine, key_of(i));
        assert_int_equal(call(&s, "EXISTS", i), stays);
        gone += !stays;
    }
    assert_true(gone > 100);
    assert_int_equal(s.deleted, gone);
    /* What is not its own was not noted either. */
    struct slot_set rest = {0};
    for (uint16_t slot = 0; slot < 3000; slot++)
        slot_set_add(&rest, slot);
    s.at.slots = &rest;
    sweep(&s, none);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(call(&s, "EXISTS", i), !slot_set_has_key(&rest, key_of(i)));
    close_side(&s);
}

static void only_some_slots_of_a_cluster(void **state)
{
    only_some_slots(*state);
}

static void only_some_slots_of_a_server(void **state)
{
    (void)state;
    only_some_slots(NULL);
}

static uint64_t collisions(struct client *source, struct side *s)
{
    struct facts_db db = {.db = 0, .keys = 1};
    struct server_facts facts = {.db = &db, .n_db = 1};
    struct conflict_report report;
    if (check_conflicts(source, &s->at, &facts, &s->all, &report, &s->err) < 0)
        fail_msg("%s", s->err.msg);
    return report.collisions;
}

/* Whichever side is the smaller one, and so is looked through. */
static void conflicts(void **state)
{
    struct live_server source;
    struct side s;
    struct slot_set mine = {0};
    open_side(&s, *state);
    live_start(&source, false, NULL);
    struct client *c = live_client(&source, "source");
    assert_int_equal(collisions(c, &s), 0);
    put(&s, 0, 20);
    live_do(c, "MSET k3 x k7 x other x");
    assert_int_equal(collisions(c, &s), 2);
    for (unsigned i = 100; i <= 400; i++) {
        char words[40];
        snprintf(words, sizeof(words), "SET k%u x", i);
        live_do(c, words);
    }
    assert_int_equal(collisions(c, &s), 2);
    slot_set_add(&mine, slot_of(key_of(7)));
    s.at.slots = &mine;
    assert_int_equal(collisions(c, &s), 1);
    put(&s, 400, KEYS);
    assert_int_equal(collisions(c, &s), 1);
    s.at.slots = NULL;
    assert_int_equal(collisions(c, &s), 3);
    client_close(c);
    live_stop(&source);
    close_side(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_is_swept),
        cmocka_unit_test(only_some_slots_of_a_cluster),
        cmocka_unit_test(only_some_slots_of_a_server),
        cmocka_unit_test(conflicts),
        cmocka_unit_test(a_slot_that_moves), /* last: the slot stays there */
    };
    return cmocka_run_group_tests(tests, live_cluster_start, live_cluster_stop);
}
