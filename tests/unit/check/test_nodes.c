// SPDX-License-Identifier: BSD-3-Clause
// What holds for all nodes of a cluster, told by a real one.
#include "check/check.h"
#include "redis/live_cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct cluster *open_cluster(const struct live_cluster *k)
{
    struct client_config cfg = {
        .uri = &k->uri, .connect_timeout_ms = 5000, .io_timeout_ms = 10000, .side = "target"};
    struct cluster *c = NULL;
    struct err err = {0};
    if (cluster_open(&c, &cfg, NULL, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

static void together(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct server_facts f, one;
    live_do(k->client[0], "SET hello 1"); /* slot 866 */
    live_do(k->client[0], "CONFIG SET maxmemory 100mb");
    live_do(k->client[2], "SET foo 1"); /* 12182 */
    assert_int_equal(facts_read(k->client[0], &one, NULL), 0);
    assert_int_equal(check_nodes(&p, &f, NULL), 0);
    assert_true(f.cluster);
    assert_int_equal(f.databases, 1);
    assert_int_equal(f.version, one.version);
    assert_int_equal(f.n_db, 1);
    assert_int_equal(f.db[0].keys, 2);
    assert_true(f.used_memory > one.used_memory);
    assert_int_equal(f.maxmemory, 0); /* the others have no limit */
    facts_release(&f);
    for (int i = 0; i < LIVE_NODES; i++) {
        live_do(k->client[i], "CONFIG SET maxmemory 100mb");
        live_do(k->client[i], "CONFIG SET proto-max-bulk-len 512mb");
    }
    live_do(k->client[1], "CONFIG SET proto-max-bulk-len 10mb");
    live_do(k->client[1], "CONFIG SET maxmemory-policy allkeys-lru");
    assert_int_equal(check_nodes(&p, &f, NULL), 0);
    assert_int_equal(f.maxmemory, 300 << 20);
    assert_int_equal(f.proto_max_bulk_len, 10 << 20);
    assert_string_equal(f.maxmemory_policy, "allkeys-lru");
    facts_release(&f);
    facts_release(&one);
    live_do(k->client[1], "CONFIG SET maxmemory-policy noeviction");
    cluster_close(c);
}

static void a_node_is_no_source(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct task_config *cfg = calloc(1, sizeof(*cfg));
    struct server_facts one, strange = {.run_id = "another", .replid = "one"};
    struct err err;
    snprintf(cfg->source.uri.shown, sizeof(cfg->source.uri.shown), "redis://s:1");
    assert_int_equal(facts_read(k->client[2], &one, NULL), 0);
    assert_int_equal(check_apart(&strange, &p, cfg, &err), 0);
    assert_int_equal(check_apart(&one, &p, cfg, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.msg, "are the same server"));
    facts_release(&one);
    free(cfg);
    cluster_close(c);
}

/* Where the key of a probe is at another node, the right to it has been looked at all the same. */
static void rights_on_each_node(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct task_config *cfg = calloc(1, sizeof(*cfg));
    struct server_facts f;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(check_nodes(&p, &f, NULL), 0);
    if (check_target_rights(&p, &f, cfg, &notes, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(notes.n, 0);
    live_do(k->client[1], "ACL SETUSER default -restore -dump");
    assert_int_equal(check_target_rights(&p, &f, cfg, &notes, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_non_null(strstr(err.msg, "ACL SETUSER default +restore +dump"));
    char port[16];
    snprintf(port, sizeof(port), ":%d", k->server[1].port);
    assert_non_null(strstr(err.msg, port)); /* that one is named */
    cfg->type = TASK_FULL;
    live_do(k->client[1], "ACL SETUSER default +restore");
    assert_int_equal(check_target_rights(&p, &f, cfg, &notes, &err), 0);
    live_do(k->client[1], "ACL SETUSER default +@all");
    facts_release(&f);
    free(cfg);
    cluster_close(c);
}

static void databases(void **state)
{
    struct live_cluster *k = *state;
    struct cluster *c = open_cluster(k);
    struct primaries p = {.cluster = c};
    struct facts_db db[] = {{0, 5, 0, 0}, {3, 1, 0, 0}};
    struct server_facts source = {.db = db, .n_db = 1}, f;
    struct db_select all = {.all = true};
    struct err err = {0};
    assert_int_equal(check_nodes(&p, &f, NULL), 0);
    assert_int_equal(check_databases(&p, &source, &f, &all, &err), 0);
    source.n_db = 2;
    assert_int_equal(check_databases(&p, &source, &f, &all, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.msg, "a cluster has 1 database, and keys of the source go to: 3"));
    facts_release(&f);
    cluster_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together),
        cmocka_unit_test(a_node_is_no_source),
        cmocka_unit_test(rights_on_each_node),
        cmocka_unit_test(databases),
    };
    return cmocka_run_group_tests(tests, live_cluster_start, live_cluster_stop);
}
