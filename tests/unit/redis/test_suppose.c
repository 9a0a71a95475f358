// SPDX-License-Identifier: BSD-3-Clause
// Servers that are only talked about.
#include "redis/suppose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void names_are_read(void **state)
{
    (void)state;
    const struct {
        const char *text;
        enum facts_flavour flavour;
        unsigned version, rdb;
        const char *name;
    } c[] = {
        {"redis-6.2", FACTS_REDIS, 0x060200, 9, "Redis 6.2"},
        {"Redis-7.0.15", FACTS_REDIS, 0x07000f, 10, "Redis 7.0.15"},
        {"valkey-9.1", FACTS_VALKEY, 0x090100, 80, "Valkey 9.1"},
        {"redict-7.3.6", FACTS_REDICT, 0x070306, 12, "Redict 7.3.6"},
        {"keydb-6.3", FACTS_KEYDB, 0x060300, 9, "KeyDB 6.3"},
        {"redis-2.6", FACTS_REDIS, 0x020600, 6, "Redis 2.6"},
        {"redis-99.99.99", FACTS_REDIS, 0x636363, 14, "Redis 99.99.99"},
    };
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        struct server_facts f;
        struct err err;
        char name[96];
        assert_int_equal(suppose_server(&f, c[i].text, &err), 0);
        assert_int_equal(f.flavour, c[i].flavour);
        assert_int_equal(f.version, c[i].version);
        assert_int_equal(f.rdb_version, c[i].rdb);
        assert_string_equal(facts_name(name, sizeof(name), &f), c[i].name);
    }
}

static void what_is_no_server_is_refused(void **state)
{
    (void)state;
    const char *const bad[] = {
        "",           "redis",         "redis-",        "redis-7",   "redis-7.",
        "redis-7.0.", "redis-7.0.1.2", "redis-123.0",   "redis-7.x", "redis-7.0 ",
        "valkey-1.0", "redict-6.0",    "memcached-1.6", "7.0",       "redis-1.3",
        "redis--7.0", "redis-7.123"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct server_facts f;
        struct err err = {0};
        if (suppose_server(&f, bad[i], &err) == 0) fail_msg("taken: %s", bad[i]);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "redis-6.2"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read),
        cmocka_unit_test(what_is_no_server_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
