// SPDX-License-Identifier: BSD-3-Clause
// Several lanes to the nodes of one cluster: what is redirected arrives once, where it belongs.
//
// A key belongs to the node that `owner` tells for its first letter; following moves that on.
#include "base/num.h"
#include "engine/batch.h"
#include "engine/emit.h"
#include "fake_target.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NODES   3
#define MOVED   "-MOVED 1 127.0.0.1:7000\r\n"
#define ASK     "-ASK 1 127.0.0.1:7000\r\n"
#define OOM     "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
#define RULE(r) r, sizeof(r) / sizeof((r)[0])

struct cluster_rig {
    struct fake_target node[NODES];
    struct lane lane[NODES];
    struct lane_peers peers;
    struct refusals refusals;
    struct counters counters;
    atomic_bool stop;
    uint8_t owner[256];
    struct { /* what following finds, in turn; the last one again and again */
        uint8_t letter, node;
    } move[4];
    unsigned n_moves, followed, recovered;
    bool lost; /* following ends it */
    char line[RESP_ERROR_MAX];
    struct err err;
};

static int rig_step(void *ctx, int max_wait_ms, struct err *err)
{
    struct cluster_rig *g = ctx;
    struct pollfd p[NODES];
    for (int i = 0; i < NODES; i++)
        p[i] = (struct pollfd){.fd = conn_fd(g->lane[i].conn),
                               .events = lane_poll_events(&g->lane[i])};
    poll(p, NODES, max_wait_ms);
    for (int i = 0; i < NODES; i++)
        if (lane_pump(&g->lane[i], p[i].revents != 0, err) < 0) return -1;
    return 0;
}

static struct lane *nth(void *ctx, unsigned i)
{
    struct cluster_rig *g = ctx;
    return i < NODES ? &g->lane[i] : NULL;
}

static struct lane *of(void *ctx, struct span key)
{
    struct cluster_rig *g = ctx;
    return &g->lane[g->owner[key.p[0]]];
}

static int follow(void *ctx, const char *line, struct err *err)
{
    struct cluster_rig *g = ctx;
    snprintf(g->line, sizeof(g->line), "%s", line);
    if (g->lost) return err_set(err, ERR_BUSY, "a primary is none any more");
    if (g->n_moves) {
        unsigned i = g->followed < g->n_moves ? g->followed : g->n_moves - 1;
        g->owner[g->move[i].letter] = g->move[i].node;
    }
    g->followed++;
    return g->followed < 100 ? 0 : err_set(err, ERR_BUSY, "it does not end");
}

static void recovered(void *ctx)
{
    ((struct cluster_rig *)ctx)->recovered++;
}

/* Keys of "a..." are at node 0, "b..." at 1, "c..." at 2. */
static struct cluster_rig *rig_new(const struct fake_rule *rules, size_t n, bool starve)
{
    struct cluster_rig *g = calloc(1, sizeof(*g));
    assert_non_null(g);
    g->refusals = (struct refusals){.policy = TASK_ON_ERROR_STOP, .counters = &g->counters};
    lane_peers_init(&g->peers);
    g->peers.nth = nth;
    g->peers.of = of;
    g->peers.follow = follow;
    g->peers.recovered = recovered;
    g->peers.ctx = g;
    for (int i = 0; i < NODES; i++) {
        g->owner['a' + i] = (uint8_t)i;
        g->node[i].link.starve = starve;
        fake_target_start(&g->node[i], i == 0 ? rules : NULL, i == 0 ? n : 0);
        struct lane_config c = {.conn = fake_link_dial(&g->node[i].link),
                                .peers = &g->peers,
                                .refusals = &g->refusals,
                                .counters = &g->counters,
                                .stop = &g->stop,
                                .retry_limit_ms = 5000,
                                .io_timeout_ms = 10000,
                                .step = rig_step,
                                .step_ctx = g};
        assert_int_equal(lane_init(&g->lane[i], &c, &g->err), 0);
    }
    return g;
}

/* Then the logs may be read. */
static void rig_end(struct cluster_rig *g)
{
    for (int i = 0; i < NODES; i++) {
        lane_release(&g->lane[i]);
        fake_target_stop(&g->node[i]);
    }
    lane_peers_release(&g->peers);
}

static void rig_free(struct cluster_rig *g)
{
    for (int i = 0; i < NODES; i++)
        fake_target_release(&g->node[i]);
    free(g);
}

static int put(struct cluster_rig *g, int64_t db, const char *key, size_t value_n)
{
    uint8_t *start;
    size_t key_n = strlen(key);
    struct lane *l = of(g, span_str(key));
    if (lane_reserve(l, db, 64 + key_n + value_n, &start, &g->err) < 0) return -1;
    uint8_t *out = emit_str(emit_head(start, '*', 3), "SET");
    out = emit_head(out, '$', key_n);
    struct lane_item item = {.key_at = (uint32_t)(out - start),
                             .key_n = (uint32_t)key_n,
                             .source_db = (uint32_t)db,
                             .db = (uint32_t)db};
    memcpy(out, key, key_n);
    out = emit_head(emit_crlf(out + key_n), '$', value_n);
    memset(out, 'v', value_n);
    out = emit_crlf(out + value_n);
    item.n = (uint32_t)(out - start);
    return lane_commit(l, &item, &g->err);
}

static void put_well(struct cluster_rig *g, int64_t db, const char *key)
{
    if (put(g, db, key, 1) < 0) fail_msg("%s", g->err.msg);
}

static void drain(struct cluster_rig *g)
{
    if (lane_peers_drain(&g->peers, &g->err) < 0) fail_msg("%s", g->err.msg);
    for (int i = 0; i < NODES; i++) {
        assert_false(lane_busy(&g->lane[i]));
        assert_int_equal(g->lane[i].n_retry, 0);
    }
    assert_int_equal(g->peers.rest.n, 0);
}

static void assert_ran(struct cluster_rig *g, int node, const char *want)
{
    assert_string_equal(fake_text(&g->node[node].ran), want);
}

/* Each once, in whatever order. */
static void assert_ran_each(struct cluster_rig *g, int node, const char *const *want, size_t n)
{
    const char *text = fake_text(&g->node[node].ran);
    size_t length = 0;
    for (size_t i = 0; i < n; i++) {
        assert_non_null(strstr(text, want[i]));
        length += strlen(want[i]);
    }
    assert_int_equal(strlen(text), length);
}

static void a_moved_key_goes_to_its_new_node(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a", .reply = MOVED}};
    for (int starve = 0; starve < 2; starve++) {
        struct cluster_rig *g = rig_new(RULE(rules), starve);
        g->move[0].letter = 'a';
        g->move[0].node = 2;
        g->n_moves = 1;
        const char *const keys[] = {"a1", "b1", "a2", "c1"};
        for (size_t i = 0; i < 4; i++)
            put_well(g, 0, keys[i]);
        drain(g);
        /* Once for both keys, or, where the second answer came later, for each. */
        assert_in_range(g->followed, 1, 2);
        assert_int_equal(g->recovered, g->followed);
        assert_string_equal(g->line, "MOVED 1 127.0.0.1:7000");
        assert_int_equal(counter_get(&g->counters.keys_written), 4);
        assert_int_equal(counter_get(&g->counters.retries), 2);
        rig_end(g);
        assert_ran(g, 0, "");
        assert_ran(g, 1, "0:SET b1 v\n");
        const char *const all[] = {"0:SET c1 v\n", "0:SET a1 v\n", "0:SET a2 v\n"};
        assert_ran_each(g, 2, all, 3);
        rig_free(g);
    }
}

/* Half way: asked again on the same node until it takes it. */
static void an_asked_key_is_waited_for(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "SET a1", .reply = ASK, .times = 2},
        {.match = "SET a2", .reply = "-TRYAGAIN Multiple keys request\r\n", .times = 1},
        {.match = "SET a3", .reply = "-CLUSTERDOWN The cluster is down\r\n", .times = 1}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    for (int i = 0; i < 4; i++)
        put_well(g, 0, (const char *const[]){"a1", "a2", "a3", "a4"}[i]);
    drain(g);
    assert_int_equal(g->followed, 2);
    rig_end(g);
    assert_ran(g, 0, "0:SET a4 v\n0:SET a2 v\n0:SET a3 v\n0:SET a1 v\n");
    rig_free(g);
}

/* Refused for another reason at the same moment: both are waited for. */
static void other_faults_pass_meanwhile(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a1", .reply = OOM, .times = 1},
                                             {.match = "SET a2", .reply = MOVED}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    g->move[0].letter = 'x';
    g->n_moves = 1;
    g->owner['a'] = 0;
    put_well(g, 0, "a1");
    put_well(g, 0, "a2");
    g->move[0].letter = 'a';
    g->move[0].node = 1;
    drain(g);
    rig_end(g);
    assert_ran(g, 0, "");
    assert_ran(g, 1, "0:SET a1 v\n0:SET a2 v\n");
    rig_free(g);
}

/* Away, and back again before it got there. */
static void a_slot_that_comes_back(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a", .reply = MOVED, .times = 3}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    static const struct fake_rule there[] = {{.match = "SET a", .reply = MOVED}};
    g->node[1].rule = there;
    g->node[1].n_rules = 1;
    g->move[0].letter = g->move[1].letter = 'a';
    g->move[0].node = 1;
    g->move[1].node = 0;
    g->n_moves = 2;
    for (int i = 0; i < 3; i++)
        put_well(g, 0, (const char *const[]){"a1", "a2", "a3"}[i]);
    drain(g);
    assert_int_equal(g->followed, 2);
    rig_end(g);
    assert_ran(g, 0, "0:SET a1 v\n0:SET a2 v\n0:SET a3 v\n");
    assert_ran(g, 1, "");
    rig_free(g);
}

/* More than a window's worth, all of it refused while more is put, each key once in the end. */
static void many(void **state)
{
    (void)state;
    enum { MANY = 12000 };
    static const struct fake_rule rules[] = {{.match = "SET ", .reply = MOVED}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    g->move[0].letter = 'a';
    g->move[0].node = 1;
    g->move[1].letter = 'x';
    g->n_moves = 2;
    for (unsigned i = 0; i < MANY; i++) {
        char key[16];
        snprintf(key, sizeof(key), "%c%05u", "abc"[i % 3], i);
        if (put(g, 0, key, 300) < 0) fail_msg("%s", g->err.msg);
    }
    drain(g);
    assert_int_equal(counter_get(&g->counters.keys_written), MANY);
    rig_end(g);
    static uint8_t seen[MANY];
    memset(seen, 0, sizeof(seen));
    for (int node = 0; node < NODES; node++) {
        const char *at = fake_text(&g->node[node].ran);
        for (; (at = strstr(at, "0:SET ")) != NULL; at++) {
            char letter = at[6];
            assert_true(letter == "?bc"[node] || (node == 1 && letter == 'a'));
            seen[strtoul(at + 7, NULL, 10)]++;
        }
    }
    for (unsigned i = 0; i < MANY; i++)
        if (seen[i] != 1) fail_msg("key %u came %u times", i, seen[i]);
    rig_free(g);
}

/* A lane that has another database selected, as a cluster of Valkey 9 may. */
static void the_database_goes_along(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a", .reply = MOVED}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    g->move[0].letter = 'a';
    g->move[0].node = 1;
    g->n_moves = 1;
    put_well(g, 3, "a1");
    put_well(g, 0, "b1");
    drain(g);
    put_well(g, 0, "b2");
    drain(g);
    rig_end(g);
    assert_ran(g, 1, "0:SET b1 v\n3:SET a1 v\n0:SET b2 v\n");
    rig_free(g);
}

static void following_fails(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a", .reply = MOVED}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    g->lost = true;
    put_well(g, 0, "a1");
    assert_int_equal(lane_drain(&g->lane[0], &g->err), -1);
    assert_string_equal(g->err.msg, "a primary is none any more");
    rig_end(g);
    rig_free(g);
}

/* READONLY is about who is primary, too. */
static void a_replica_is_asked_about(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "FUNCTION",
         .reply = "-READONLY You can't write against a read only replica.\r\n",
         .times = 1}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    struct span argv[] = {span_str("FUNCTION"), span_str("LOAD"), span_str("x")};
    assert_int_equal(lane_call_strs(&g->lane[0], -1, 3, argv, &g->err), 0);
    assert_int_equal(g->followed, 1);
    rig_end(g);
    assert_ran(g, 0, "0:FUNCTION LOAD x\n");
    rig_free(g);
}

static void a_call_comes_back(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "EXISTS", .reply = MOVED}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    struct span argv[] = {span_str("EXISTS"), span_str("a1")};
    assert_int_equal(lane_call_strs(&g->lane[0], 0, 2, argv, &g->err), 0);
    assert_true(refusal_is_redirect(g->lane[0].outcome.last.line));
    assert_int_equal(g->followed, 0);
    rig_end(g);
    rig_free(g);
}

static void batch_of(struct batch *b, const char *const *words)
{
    batch_init(b, "/tmp", 1 << 20);
    assert_int_equal(batch_begin(b, 0, NULL), 0);
    for (; *words; words++)
        assert_int_equal(batch_strs(b, NULL, "RPUSH", "a1", *words, NULL), 0);
}

/* A batch of the lane, redirected by what these rules say, then sent to another. */
static void redirected_batch(const struct fake_rule *rules, size_t n, const char *const *words,
                             const char *want)
{
    struct cluster_rig *g = rig_new(rules, n, false);
    char where[RESP_ERROR_MAX] = "";
    struct batch b;
    batch_of(&b, words);
    for (int i = 0; i < 2; i++)
        assert_int_equal(lane_select(&g->lane[i], 0, &g->err), 0);
    assert_int_equal(batch_send(&b, &g->lane[0], &g->err), 0);
    int rc = batch_finish_or(&b, &g->lane[0], where, &g->err);
    if (rc < 0) fail_msg("%s", g->err.msg);
    assert_int_equal(rc, 1);
    assert_true(refusal_is_redirect(where));
    assert_false(b.in_flight);
    assert_int_equal(batch_send(&b, &g->lane[1], &g->err), 0);
    assert_int_equal(batch_finish_or(&b, &g->lane[1], where, &g->err), 0);
    assert_int_equal(g->refusals.count, 0);
    batch_release(&b);
    rig_end(g);
    assert_ran(g, 0, "");
    assert_ran(g, 1, want);
    rig_free(g);
}

static void a_batch_comes_back_whole(void **state)
{
    (void)state;
    static const char *const one[] = {"x", NULL}, *const three[] = {"x", "y", "z", NULL};
    static const char want[] = "0:RPUSH a1 x\n0:RPUSH a1 y\n0:RPUSH a1 z\n";
    static const struct fake_rule all[] = {{.match = "RPUSH", .reply = MOVED}};
    static const struct fake_rule last[] = {{.match = "RPUSH a1 z", .reply = ASK}};
    static const struct fake_rule exec[] = {{.match = "EXEC", .reply = MOVED}};
    static const struct fake_rule down[] = {
        {.match = "EXEC",
         .reply = "-EXECABORT Transaction discarded because of: CLUSTERDOWN x\r\n"}};
    redirected_batch(RULE(all), one, "0:RPUSH a1 x\n");
    redirected_batch(RULE(all), three, want);
    redirected_batch(RULE(last), three, want);
    redirected_batch(RULE(exec), three, want);
    redirected_batch(RULE(down), three, want);
}

/* A command of it that is refused for good as well waits until the others are not redirected. */
static void redirected_before_refused(void **state)
{
    (void)state;
    static const char *const two[] = {"x", "y", NULL};
    static const struct fake_rule rules[] = {
        {.match = "RPUSH a1 x", .reply = "-ERR unknown command\r\n"},
        {.match = "RPUSH a1 y", .reply = MOVED}};
    redirected_batch(RULE(rules), two, "0:RPUSH a1 x\n0:RPUSH a1 y\n");
}

/* Without peers a redirection is what it was: an answer for good. */
static void alone_it_is_refused(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a", .reply = MOVED}};
    struct cluster_rig *g = rig_new(RULE(rules), false);
    g->lane[0].peers = NULL;
    put_well(g, 0, "a1");
    assert_int_equal(lane_drain(&g->lane[0], &g->err), -1);
    assert_int_equal(g->err.code, ERR_TARGET);
    assert_int_equal(g->followed, 0);
    rig_end(g);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_moved_key_goes_to_its_new_node),
        cmocka_unit_test(an_asked_key_is_waited_for),
        cmocka_unit_test(other_faults_pass_meanwhile),
        cmocka_unit_test(a_slot_that_comes_back),
        cmocka_unit_test(many),
        cmocka_unit_test(the_database_goes_along),
        cmocka_unit_test(following_fails),
        cmocka_unit_test(a_replica_is_asked_about),
        cmocka_unit_test(a_call_comes_back),
        cmocka_unit_test(a_batch_comes_back_whole),
        cmocka_unit_test(redirected_before_refused),
        cmocka_unit_test(alone_it_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
