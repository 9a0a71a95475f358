// SPDX-License-Identifier: BSD-3-Clause
// Facts out of INFO texts of several servers, hostile ones too, and the tables of what they know.
#include "fake_server.h"
#include "redis/facts.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ID1 "0123456789abcdef0123456789abcdef01234567"
#define ID2 "76543210fedcba9876543210fedcba9876543210"
#define ID0 "0000000000000000000000000000000000000000"

static const char REDIS_70[] =
    "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:" ID1 "\r\n"
    "executable:/usr/bin/redis-server\r\n"
    "# "
    "Memory\r\nnumber_of_libraries:3\r\nused_memory:1000000\r\nmaxmemory:2000000\r\nmaxmemory_"
    "policy:allkeys-lru\r\n"
    "# Persistence\r\nloading:0\r\nasync_loading:0\r\n"
    "# Replication\r\nrole:master\r\nmaster_replid:" ID2 "\r\nmaster_replid2:" ID0 "\r\n"
    "master_repl_offset:12345\r\nrepl_backlog_size:1048576\r\n"
    "# Cluster\r\ncluster_enabled:0\r\n"
    "# "
    "Keyspace\r\ndb10:keys=7,expires=1,avg_ttl=5\r\ndb0:keys=3,expires=0,avg_ttl=0,subexpiry=2\r\n";

static struct server_facts parse(const char *text)
{
    /* A copy of exactly that size, so that the sanitizer sees a look beyond. */
    size_t n = strlen(text);
    char *p = malloc(n ? n : 1);
    memcpy(p, text, n);
    struct server_facts f = {0};
    struct err err = {0};
    assert_int_equal(facts_parse(&f, span_of(p, n), &err), 0);
    free(p);
    return f;
}

static void test_redis_primary(void **state)
{
    (void)state;
    struct server_facts f = parse(REDIS_70);
    char name[64];
    assert_string_equal(facts_name(name, sizeof(name), &f), "Redis 7.0.15");
    assert_int_equal(f.version, 0x07000f);
    assert_int_equal(f.rdb_version, 10);
    assert_string_equal(f.run_id, ID1);
    assert_string_equal(f.replid, ID2);
    assert_string_equal(f.replid2, "");
    assert_false(f.cluster || f.sentinel || f.loading);
    assert_int_equal(f.role, FACTS_PRIMARY);
    assert_int_equal(f.repl_offset, 12345);
    assert_int_equal(f.backlog_bytes, 1048576);
    assert_int_equal(f.used_memory, 1000000);
    assert_int_equal(f.maxmemory, 2000000);
    assert_string_equal(f.maxmemory_policy, "allkeys-lru");
    assert_int_equal(f.databases, -1);
    assert_int_equal(f.proto_max_bulk_len, 512 << 20);
    assert_int_equal(f.n_db, 2);
    assert_int_equal(f.db[0].db, 0); /* ascending, whatever the order told */
    assert_int_equal(f.db[1].db, 10);
    assert_int_equal(f.db[1].expires, 1);
    assert_int_equal(f.db[0].timed, 2);
    assert_int_equal(f.db[1].timed, 0);
    assert_int_equal(f.libraries, 3);
    assert_int_equal(facts_keys(&f, 10), 7);
    assert_int_equal(facts_keys(&f, 3), 0);
    facts_release(&f);
    facts_release(&f); /* safe twice */
}

static void test_valkey_keyspace(void **state)
{
    (void)state;
    struct server_facts f = parse("redis_version:7.2.4\r\nvalkey_version:9.1.2\r\n# Keyspace\r\n"
                                  "db2:keys=5,expires=1,avg_ttl=0,keys_with_volatile_items=4\r\n");
    assert_int_equal(f.n_db, 1);
    assert_int_equal(f.db[0].timed, 4);
    facts_release(&f);
}

static void test_replica(void **state)
{
    (void)state;
    struct server_facts f = parse("redis_version:6.2.16\nrole:slave\nmaster_host:10.0.0.1\n"
                                  "master_port:6380\nmaster_link_status:down\nslave_read_only:1\n"
                                  "slave_repl_offset:77\nmaster_repl_offset:99\nloading:1\n"
                                  "master_replid2:" ID1 "\n");
    assert_int_equal(f.role, FACTS_REPLICA);
    assert_string_equal(f.primary_host, "10.0.0.1");
    assert_string_equal(f.primary_port, "6380");
    assert_false(f.link_up);
    assert_true(f.read_only);
    assert_true(f.loading);
    assert_int_equal(f.repl_offset, 77);
    assert_string_equal(f.replid2, ID1);
    facts_release(&f);
}

static void test_flavours(void **state)
{
    (void)state;
    static const struct {
        const char *info, *name;
        enum facts_flavour flavour;
        unsigned rdb;
    } cases[] = {
        {"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nserver_mode:cluster",
         "Valkey 9.1.2", FACTS_VALKEY, 80},
        {"redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n", "Valkey 8.0.1", FACTS_VALKEY, 11},
        {"redis_version:7.2.4\r\nredict_version:7.3.6\r\n", "Redict 7.3.6", FACTS_REDICT, 12},
        {"redis_version:6.3.4\r\nmvcc_depth:0\r\n", "KeyDB 6.3.4", FACTS_KEYDB, 9},
        {"redis_version:6.3.4\r\nexecutable:/opt/keydb-server\r\n", "KeyDB 6.3.4", FACTS_KEYDB, 9},
        {"redis_version:7.4.0\r\ndragonfly_version:df-v1.2\r\n", "Redis-like 7.4.0", FACTS_UNKNOWN,
         12},
        {"redis_version:255.255.255\r\n", "Redis 255.255.255", FACTS_REDIS, 14},
        {"redis_version:2.4.18\r\n", "Redis 2.4.18", FACTS_REDIS, 0},
        {"", "Redis-like server", FACTS_UNKNOWN, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct server_facts f = parse(cases[i].info);
        char name[64];
        assert_string_equal(facts_name(name, sizeof(name), &f), cases[i].name);
        assert_int_equal(f.flavour, cases[i].flavour);
        assert_int_equal(f.rdb_version, cases[i].rdb);
        assert_int_equal(f.cluster, i == 0);
        facts_release(&f);
    }
    struct server_facts f = parse("redis_version:7.0.0\r\nredis_mode:sentinel\r\n");
    assert_true(f.sentinel);
}

static void test_hostile(void **state)
{
    (void)state;
    static const char *const texts[] = {
        ":",
        "::::\r\n:\r\n\n\n",
        "redis_version",
        "db:keys=1",
        "dbx:keys=1",
        "db-1:keys=1",
        "db99999999999999999999:keys=1",
        "db4294967296:keys=1",
        "used_memory:-5\r\nmaxmemory:x",
        "db1:keys",
        "db1:,,,=,",
        "db1:keys=99999999999999999999",
        "redis_version:\x01\x02\xff\r\nmaster_repl_offset:99999999999999999999",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct server_facts f = parse(texts[i]);
        assert_int_equal(facts_keys(&f, 1), 0);
        assert_int_equal(f.used_memory + f.maxmemory, 0);
        facts_release(&f);
    }
    char *many = malloc(70000 * 24), *p = many;
    for (int i = 0; i < 70000; i++)
        p += snprintf(p, 24, "db%d:keys=1\r\n", i);
    struct server_facts f = {0};
    struct err err = {0};
    assert_int_equal(facts_parse(&f, span_of(many, (size_t)(p - many)), &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    free(many);
    char longer[1000];
    memset(longer, 'v', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = 0;
    memcpy(longer, "run_id:", 7);
    f = parse(longer);
    assert_int_equal(strlen(f.run_id), sizeof(f.run_id) - 1);
}

static bool takes(const char *info, enum rdb_type type)
{
    struct server_facts f = parse(info);
    return facts_takes_type(&f, type);
}

/* formats: what each server's RESTORE takes, by measurement. */
static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *info;
        int yes[6], no[6];
    } cases[] = {
        {"redis_version:2.8.24", {0, 4, 9, 13, -1}, {14, 5, 15, 7, -1}},
        {"redis_version:3.2.13", {14, -1}, {5, 15, -1}},
        {"redis_version:4.0.14", {5, 14, -1}, {15, 7, 6, -1}},
        {"redis_version:6.0.16", {15, -1}, {7, 16, -1}},
        {"redis_version:6.2.16", {7, 15, -1}, {16, 19, 6, -1}},
        {"redis_version:7.0.15", {16, 17, 18, 19, -1}, {20, 21, 22, -1}},
        {"redis_version:7.2.6", {20, 21, -1}, {22, 24, 25, 278, -1}},
        {"redis_version:7.4.1", {22, 23, 24, 25, -1}, {26, 278, -1}},
        {"redis_version:8.4.0", {24, 25, -1}, {26, 27, -1}},
        {"redis_version:8.6.3", {26, -1}, {27, 28, 278, -1}},
        {"redis_version:8.8.0", {27, 28, -1}, {278, 6, -1}},
        {"redis_version:7.2.4\nvalkey_version:8.1.1", {20, 21, 7, -1}, {22, 24, 26, 278, -1}},
        {"redis_version:7.2.4\nvalkey_version:9.1.2", {21, 278, -1}, {22, 24, 25, 28, -1}},
        {"redis_version:7.2.4\nredict_version:7.3.6", {21, -1}, {22, 24, 25, 278, -1}},
        {"redis_version:6.3.4\nmvcc_depth:0", {7, 15, -1}, {16, 20, -1}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (const int *t = cases[i].yes; *t >= 0; t++)
            if (!takes(cases[i].info, (enum rdb_type) * t))
                fail_msg("%s should take %d", cases[i].info, *t);
        for (const int *t = cases[i].no; *t >= 0; t++)
            if (takes(cases[i].info, (enum rdb_type) * t))
                fail_msg("%s should not take %d", cases[i].info, *t);
    }
}

static void test_features(void **state)
{
    (void)state;
    static const struct {
        const char *before, *since;
        enum facts_feature feature;
    } cases[] = {
        {"redis_version:2.4.18", "redis_version:2.6.0", FACTS_RESTORE},
        {"redis_version:2.6.17", "redis_version:2.8.0", FACTS_PSYNC},
        {"redis_version:3.2.13", "redis_version:4.0.0", FACTS_UNLINK},
        {"redis_version:4.0.14", "redis_version:5.0.0", FACTS_RESTORE_ABSTTL},
        {"redis_version:5.0.14", "redis_version:6.0.0", FACTS_ACL},
        {"redis_version:6.0.16", "redis_version:6.2.0", FACTS_SET_PXAT},
        {"redis_version:6.0.16", "redis_version:6.2.0", FACTS_RDB_ONLY},
        {"redis_version:6.2.16", "redis_version:7.0.0", FACTS_FUNCTIONS},
        {"redis_version:6.2.16", "redis_version:7.0.0", FACTS_RDB_FILTER_ONLY},
        {"redis_version:7.2.6", "redis_version:7.4.0", FACTS_HASH_FIELD_TTL},
        {"redis_version:7.2.4\nvalkey_version:8.1.1", "redis_version:7.2.4\nvalkey_version:9.0.0",
         FACTS_HASH_FIELD_TTL},
        {"redis_version:7.4.1", "redis_version:8.0.0", FACTS_HSETEX},
        {"redis_version:8.8.0", "redis_version:7.2.4\nvalkey_version:8.0.0",
         FACTS_REPLCONF_VERSION},
        {"redis_version:6.2.16", "redis_version:7.2.4\nvalkey_version:7.2.7", FACTS_SPUBLISH},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct server_facts a = parse(cases[i].before), b = parse(cases[i].since);
        if (facts_has(&a, cases[i].feature)) fail_msg("%s has it", cases[i].before);
        if (!facts_has(&b, cases[i].feature)) fail_msg("%s lacks it", cases[i].since);
    }
}

/* First version of Redis, and of Valkey where that is not 0. */
static void test_since(void **state)
{
    (void)state;
    static const struct {
        const char *server;
        unsigned redis, valkey;
        bool is;
    } cases[] = {
        {"redis_version:7.0.15", FACTS_VERSION(7, 0, 0), 0, true},
        {"redis_version:7.0.15", FACTS_VERSION(7, 2, 0), FACTS_VERSION(7, 0, 0), false},
        {"redis_version:8.6.3", FACTS_NEVER, FACTS_VERSION(7, 0, 0), false},
        {"redis_version:7.2.4\nvalkey_version:9.1.2", FACTS_VERSION(7, 2, 0), 0, true},
        {"redis_version:7.2.4\nvalkey_version:9.1.2", FACTS_VERSION(7, 4, 0), 0, false},
        {"redis_version:7.2.4\nvalkey_version:9.1.2", FACTS_NEVER, FACTS_VERSION(9, 1, 0), true},
        {"redis_version:7.2.4\nvalkey_version:9.1.2", FACTS_VERSION(7, 0, 0), FACTS_NEVER, false},
        {"redis_version:7.2.4\nredict_version:7.3.6", FACTS_VERSION(7, 2, 0), FACTS_NEVER, true},
        {"redis_version:7.2.4\nredict_version:7.3.6", FACTS_VERSION(7, 4, 0), 1, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct server_facts f = parse(cases[i].server);
        if (facts_since(&f, cases[i].redis, cases[i].valkey) != cases[i].is)
            fail_msg("case %zu: %s", i, cases[i].server);
    }
}

static struct client *open_fake(struct fake_server *s, const struct fake_step *steps, size_t n)
{
    fake_start(s, steps, n, true);
    struct client_config cfg = fake_config(s, "source");
    struct client *c = NULL;
    struct err err = {0};
    if (client_open(&c, &cfg, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

static void test_config(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        {.expect = "PING", .reply = "+PONG\r\n"},
        {.expect = "INFO", .reply = "$23\r\nredis_version:7.0.15\r\n \r\n"},
        {.expect = "CONFIG GET databases", .reply = "*2\r\n$9\r\ndatabases\r\n$2\r\n32\r\n"},
        {.expect = "CONFIG GET proto", .reply = "*0\r\n"},
        {.expect = "CONFIG GET maxmemory", .reply = "*2\r\n$9\r\nmaxmemory\r\n$4\r\n1000\r\n"},
    };
    struct fake_server s;
    struct client *c = open_fake(&s, steps, 5);
    struct server_facts f;
    struct err err = {0};
    assert_int_equal(facts_read(c, &f, &err), 0);
    assert_int_equal(f.databases, 32);
    assert_int_equal(f.proto_max_bulk_len, 512 << 20);
    assert_int_equal(f.maxmemory, 1000);
    facts_release(&f);
    client_close(c);
    fake_stop(&s);
}

static void test_config_forbidden(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        {.expect = "PING", .reply = "+PONG\r\n"},
        {.expect = "INFO replication", .reply = "$26\r\nrole:master\r\nloading:0\r\n\r\n\r\n"},
        {.expect = "INFO", .reply = "$23\r\nredis_version:7.0.15\r\n \r\n"},
        {.expect = "CONFIG",
         .reply = "-NOPERM this user has no permissions to run the 'config|get' command\r\n"},
    };
    struct fake_server s;
    struct client *c = open_fake(&s, steps, 4);
    struct server_facts f;
    struct err err = {0};
    assert_int_equal(facts_read(c, &f, &err), 0);
    assert_int_equal(f.databases, -1);
    facts_release(&f);
    uint64_t offset = 5;
    assert_int_equal(facts_replication_offset(c, &offset, &err), -1);
    assert_int_equal(err.code, ERR_SOURCE);
    assert_int_equal(offset, 5);
    client_close(c);
    fake_stop(&s);
}

static void test_info_forbidden(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        {.expect = "PING", .reply = "+PONG\r\n"},
        {.expect = "INFO",
         .reply = "-NOPERM this user has no permissions to run the 'info' command\r\n"},
    };
    struct fake_server s;
    struct client *c = open_fake(&s, steps, 2);
    struct server_facts f;
    struct err err = {0};
    assert_int_equal(facts_read(c, &f, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_non_null(strstr(err.msg, "ACL SETUSER default +info"));
    client_close(c);
    fake_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redis_primary),  cmocka_unit_test(test_valkey_keyspace),
        cmocka_unit_test(test_replica),        cmocka_unit_test(test_flavours),
        cmocka_unit_test(test_hostile),        cmocka_unit_test(test_types),
        cmocka_unit_test(test_features),       cmocka_unit_test(test_since),
        cmocka_unit_test(test_config),         cmocka_unit_test(test_config_forbidden),
        cmocka_unit_test(test_info_forbidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
