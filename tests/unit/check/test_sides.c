// SPDX-License-Identifier: BSD-3-Clause
// Which pairs of servers are refused, in which words, and what is only noted.
#include "check/check.h"
#include "redis/fake_server.h"
#include "redis/live_server.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool has(const char *text, const char *part)
{
    if (strstr(text, part)) return true;
    print_error("\"%s\" lacks \"%s\"\n", text, part);
    return false;
}

#define SET_TEXT(to, text) snprintf(to, sizeof(to), "%s", text)

struct fixture {
    struct server_facts source, target;
    struct task_config *cfg; /* large */
    struct check_notes notes;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->cfg = calloc(1, sizeof(*f->cfg));
    f->source = (struct server_facts){.flavour = FACTS_REDIS, .version = 0x07000f, .databases = 16};
    f->target = f->source;
    snprintf(f->source.run_id, sizeof(f->source.run_id), "run-1");
    snprintf(f->target.run_id, sizeof(f->target.run_id), "run-2");
    snprintf(f->source.replid, sizeof(f->source.replid), "history-1");
    snprintf(f->target.replid, sizeof(f->target.replid), "history-2");
    snprintf(f->cfg->source.uri.shown, sizeof(f->cfg->source.uri.shown), "redis://s:1");
    snprintf(f->cfg->target.uri.shown, sizeof(f->cfg->target.uri.shown), "redis://t:2");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    free(f->cfg);
    free(f);
    return 0;
}

static int run(struct fixture *f)
{
    return check_sides(&f->source, &f->target, f->cfg, &f->notes, &f->err);
}

static void refused(struct fixture *f, enum err_code code, const char *words)
{
    assert_int_equal(run(f), -1);
    assert_int_equal(f->err.code, code);
    assert_true(has(f->err.msg, words));
}

static void test_well(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(run(f), 0);
    assert_int_equal(f->notes.n, 0);
    /* Servers that tell neither id are not taken for one. */
    f->source.run_id[0] = f->target.run_id[0] = 0;
    f->source.replid[0] = f->target.replid[0] = 0;
    assert_int_equal(run(f), 0);
}

static void test_same_server(void **state)
{
    struct fixture *f = *state;
    SET_TEXT(f->target.run_id, "RUN-1");
    refused(f, ERR_REFUSED, "source redis://s:1 and target redis://t:2 are the same server");
}

static void test_target_replicates_from_source(void **state)
{
    struct fixture *f = *state;
    SET_TEXT(f->target.replid, "history-1");
    f->target.role = FACTS_REPLICA;
    SET_TEXT(f->target.primary_host, "s");
    SET_TEXT(f->target.primary_port, "1");
    refused(f, ERR_REFUSED, "REPLICAOF NO ONE");
}

static void test_source_replicates_from_target(void **state)
{
    struct fixture *f = *state;
    SET_TEXT(f->target.replid, "history-1");
    f->source.role = FACTS_REPLICA;
    f->source.link_up = true;
    refused(f, ERR_REFUSED, "source redis://s:1 replicates from the target");
}

static void test_target_is_replica(void **state)
{
    struct fixture *f = *state;
    f->target.role = FACTS_REPLICA;
    SET_TEXT(f->target.primary_host, "10.0.0.9");
    SET_TEXT(f->target.primary_port, "6390");
    refused(f, ERR_REFUSED, "writes go to its primary 10.0.0.9:6390");
}

static void test_replica_as_source(void **state)
{
    struct fixture *f = *state;
    f->source.role = FACTS_REPLICA;
    SET_TEXT(f->source.primary_host, "p");
    SET_TEXT(f->source.primary_port, "3");
    refused(f, ERR_BUSY, "lost its primary p:3");
    f->source.link_up = true;
    assert_int_equal(run(f), 0);
}

static void test_kinds(void **state)
{
    struct fixture *f = *state;
    f->source.cluster = true;
    refused(f, ERR_REFUSED, "source redis://s:1 is part of a cluster, and was not when this task");
    f->source.cluster = false;
    f->target.cluster = true;
    assert_int_equal(run(f), 0);
    f->target.cluster = false;
    f->source.sentinel = true;
    refused(f, ERR_REFUSED, "is a Sentinel");
    f->source.sentinel = false;
    f->target.loading = true;
    refused(f, ERR_BUSY, "target redis://t:2 is loading");
    f->target.loading = false;
    f->source.loading = true;
    refused(f, ERR_BUSY, "source redis://s:1 is loading");
    f->source.loading = false;
    f->target.version = 0x020412;
    refused(f, ERR_REFUSED, "knows no RESTORE");
}

/* One shard of it, as a run of its own. */
static void test_shard(void **state)
{
    struct fixture *f = *state;
    static const struct slot_set slots;
    f->cfg->slots = &slots;
    f->source.cluster = f->target.cluster = true;
    assert_int_equal(run(f), 0);
    f->source.cluster = false;
    refused(f, ERR_REFUSED, "source redis://s:1 is not part of a cluster, and was part of one");
}

static void test_memory_notes(void **state)
{
    struct fixture *f = *state;
    f->source.used_memory = 5000000000;
    assert_int_equal(run(f), 0);
    assert_int_equal(f->notes.n, 0); /* no maxmemory: nothing to say */
    f->target.maxmemory = 4000000000;
    f->target.used_memory = 1000000000;
    SET_TEXT(f->target.maxmemory_policy, "allkeys-lru");
    assert_int_equal(run(f), 0);
    assert_int_equal(f->notes.n, 2);
    assert_true(has(f->notes.text[0], "allkeys-lru"));
    assert_true(has(f->notes.text[1], "5.0 GB"));
    assert_true(has(f->notes.text[1], "3.0 GB"));
    f->notes.n = CHECK_NOTES_MAX; /* full: no more, and no overflow */
    assert_int_equal(run(f), 0);
    assert_int_equal(f->notes.n, CHECK_NOTES_MAX);
}

static void add_db(struct server_facts *f, uint32_t db, uint64_t keys)
{
    f->db = realloc(f->db, (f->n_db + 1) * sizeof(*f->db));
    f->db[f->n_db++] = (struct facts_db){.db = db, .keys = keys};
}

/* Told by CONFIG or found out by SELECT: the same answer. */
static void test_databases(void **state)
{
    struct fixture *f = *state;
    struct live_server s;
    live_start(&s, false, (const char *const[]){"--databases", "4", NULL});
    struct client *c = live_client(&s, "target");
    add_db(&f->source, 0, 5);
    add_db(&f->source, 3, 5);
    add_db(&f->source, 9, 0); /* empty: needs no place */
    struct db_select *sel = &f->cfg->select;
    for (int told = 0; told < 2; told++) {
        f->target.databases = told ? 4 : -1;
        assert_int_equal(db_select_parse(sel, "0,3,9", &f->err), 0);
        assert_int_equal(db_select_parse_map(sel, NULL, &f->err), 0);
        assert_int_equal(
            check_databases(&(struct primaries){.one = c}, &f->source, &f->target, sel, &f->err),
            0);
        assert_int_equal(db_select_parse_map(sel, "3:12", &f->err), 0);
        assert_int_equal(
            check_databases(&(struct primaries){.one = c}, &f->source, &f->target, sel, &f->err),
            -1);
        assert_int_equal(f->err.code, ERR_REFUSED);
        assert_true(
            has(f->err.msg, "target live: lacks databases that the source's keys go to: 12"));
        assert_int_equal(strstr(f->err.msg, "(it has 4)") != NULL, told);
        assert_int_equal(db_select_parse(sel, "0,9", &f->err), 0); /* 3 is not selected */
        assert_int_equal(db_select_parse_map(sel, NULL, &f->err), 0);
        assert_int_equal(
            check_databases(&(struct primaries){.one = c}, &f->source, &f->target, sel, &f->err),
            0);
    }
    facts_release(&f->source);
    client_close(c);
    live_stop(&s);
}

/* A great many missing databases still make one short message. */
static void test_many_databases(void **state)
{
    struct fixture *f = *state;
    const struct fake_step ping[] = {{.expect = "PING", .reply = "+PONG\r\n"}};
    struct fake_server s;
    FAKE_RULES(&s, ping);
    struct client_config cfg = fake_config(&s, "target");
    struct client *c = NULL;
    assert_int_equal(client_open(&c, &cfg, &f->err), 0);
    for (uint32_t db = 60000; db < 60100; db++)
        add_db(&f->source, db, 1);
    assert_int_equal(db_select_parse(&f->cfg->select, NULL, &f->err), 0);
    assert_int_equal(check_databases(&(struct primaries){.one = c}, &f->source, &f->target,
                                     &f->cfg->select, &f->err),
                     -1);
    assert_true(has(f->err.msg, "60000, 60001"));
    assert_true(has(f->err.msg, "60007, ... (it has 16)"));
    facts_release(&f->source);
    client_close(c);
    fake_stop(&s);
}

/* What the source counts, and an older target has no place for. */
static void test_unsupported(void **state)
{
    struct fixture *f = *state;
    struct facts_db db[] = {{.db = 0, .keys = 9}, {.db = 3, .keys = 9, .timed = 2}};
    assert_int_equal(db_select_parse(&f->cfg->select, NULL, NULL), 0);
    f->source.version = 0x080000;
    f->source.db = db;
    f->source.n_db = 2;
    f->source.libraries = 1;
    refused(f, ERR_REFUSED, "has 2 hashes with fields that expire: Redis server cannot");
    assert_true(has(f->err.msg, "--on-unsupported degrade"));
    f->target.version = 0x060000;
    refused(f, ERR_REFUSED, "2 hashes with fields that expire, 1 library of functions");
    assert_int_equal(db_select_parse(&f->cfg->select, "0", NULL), 0);
    refused(f, ERR_REFUSED, "has 1 library of functions: Redis server");
    assert_int_equal(f->notes.n, 0);

    f->cfg->on_unsupported = TASK_UNSUPPORTED_SKIP;
    assert_int_equal(run(f), 0);
    assert_true(has(f->notes.text[0], "the source has 1 library of functions, which Redis server"));
    f->cfg->on_unsupported = TASK_UNSUPPORTED_FAIL;
    f->cfg->on_error = TASK_ON_ERROR_CONTINUE;
    assert_int_equal(run(f), 0);
    assert_int_equal(f->notes.n, 2);
    f->cfg->on_error = TASK_ON_ERROR_STOP;
    f->cfg->type = TASK_INCREMENTAL;
    assert_int_equal(run(f), 0);
    f->cfg->type = TASK_FULL;
    f->target.version = 0x080000;
    assert_int_equal(run(f), 0);
    f->target.flavour = FACTS_VALKEY;
    f->target.version = 0x090000;
    assert_int_equal(run(f), 0);
    assert_int_equal(f->notes.n, 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_well),
        T(test_same_server),
        T(test_target_replicates_from_source),
        T(test_source_replicates_from_target),
        T(test_target_is_replica),
        T(test_replica_as_source),
        T(test_kinds),
        T(test_shard),
        T(test_memory_notes),
        T(test_databases),
        T(test_many_databases),
        T(test_unsupported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
