// SPDX-License-Identifier: BSD-3-Clause
// The command table. The key positions expected here are COMMAND GETKEYS answers of Redis 7.0.15
// and 8.6.3, Redict 7.3.6 and Valkey 9.1.2, but for those marked as ours.
#include "wire/cmd.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ARGS_MAX 32

/* Words between spaces; '' is an empty one. */
static size_t split(const char *text, struct span *argv)
{
    size_t argc = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        assert_true(argc < ARGS_MAX);
        argv[argc++] = n == 2 && text[0] == '\'' ? span_of(text, 0) : span_of(text, n);
        text += n;
        while (*text == ' ')
            text++;
    }
    return argc;
}

static const struct cmd_info *find(const char *name)
{
    const struct cmd_info *c = cmd_find(span_str(name));
    if (!c) fail_msg("%s is missing", name);
    return c;
}

static void finds_every_command_in_any_case(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct cmd_info *c; (c = cmd_at(n)); n++) {
        char name[64];
        assert_ptr_equal(cmd_find(span_str(c->name)), c);
        for (size_t i = 0; i <= strlen(c->name); i++)
            name[i] = (char)tolower((unsigned char)c->name[i]);
        assert_ptr_equal(cmd_find(span_str(name)), c);
        name[0] = c->name[0];
        assert_ptr_equal(cmd_find(span_str(name)), c);
        assert_ptr_equal(cmd_find(span_of(c->name, strlen(c->name) + 1)), NULL); /* with NUL */
        assert_ptr_not_equal(cmd_find(span_of(c->name, strlen(c->name) - 1)), c);
        if (n) assert_true(strcmp(cmd_at(n - 1)->name, c->name) < 0);
    }
    assert_in_range(n, 290, 400);
    assert_null(cmd_at(n));
    assert_null(cmd_at(SIZE_MAX));
}

static void finds_nothing_else(void **state)
{
    (void)state;
    const char *const no[] = {"",
                              "S",
                              "SETT",
                              "FOO",
                              "XGROUP|CREATE",
                              "SE\xd4",
                              "3ET",
                              "\0",
                              "AVERYLONGNAMETHATNOSERVERHASEVERHEARDOFINITSLIFE"};
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        assert_null(cmd_find(span_str(no[i])));
    assert_null(cmd_find(span_of(NULL, 0)));
    assert_null(cmd_find(span_of("\0\0\0", 3)));
    uint8_t big[300];
    memset(big, 'S', sizeof big);
    for (size_t n = 0; n <= sizeof big; n++)
        assert_null(cmd_find(span_of(big, n)));
}

static void flags_and_rules(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint16_t flags;
        int16_t arity;
        uint8_t rule;
    } want[] = {
        {"SET", CMD_WRITE | CMD_DENYOOM | CMD_IDEMPOTENT, -3, CMD_RULE_SET},
        {"GET", CMD_READONLY, 2, CMD_RULE_PASS},
        {"INCR", CMD_WRITE | CMD_DENYOOM, 2, CMD_RULE_PASS},
        {"DEL", CMD_WRITE | CMD_IDEMPOTENT, -2, CMD_RULE_PASS},
        {"UNLINK", CMD_WRITE | CMD_IDEMPOTENT, -2, CMD_RULE_PASS},
        {"ZADD", CMD_WRITE | CMD_DENYOOM, -4, CMD_RULE_PASS},
        {"XADD", CMD_WRITE | CMD_DENYOOM, -5, CMD_RULE_IDMP},
        {"LPUSH", CMD_WRITE | CMD_DENYOOM, -3, CMD_RULE_PASS},
        {"SELECT", 0, 2, CMD_RULE_SELECT},
        {"MULTI", 0, 1, CMD_RULE_MULTI},
        {"EXEC", 0, 1, CMD_RULE_EXEC},
        {"SWAPDB", CMD_WRITE, 3, CMD_RULE_SWAPDB},
        {"FLUSHDB", CMD_WRITE | CMD_IDEMPOTENT, -1, CMD_RULE_FLUSHDB},
        {"FLUSHALL", CMD_WRITE | CMD_IDEMPOTENT, -1, CMD_RULE_FLUSHALL},
        {"MOVE", CMD_WRITE, 3, CMD_RULE_MOVE},
        {"COPY", CMD_WRITE | CMD_DENYOOM, -3, CMD_RULE_COPY},
        {"PEXPIRE", CMD_WRITE, -3, CMD_RULE_EXPIRE},
        {"PEXPIREAT", CMD_WRITE | CMD_IDEMPOTENT, -3, CMD_RULE_EXPIREAT},
        {"RENAMENX", CMD_WRITE, 3, CMD_RULE_RENAME},
        {"PSETEX", CMD_WRITE | CMD_DENYOOM, 4, CMD_RULE_SETEX},
        {"GETEX", CMD_WRITE, -2, CMD_RULE_GETEX},
        {"RESTORE", CMD_WRITE | CMD_DENYOOM, -4, CMD_RULE_RESTORE},
        {"RESTORE-ASKING", CMD_WRITE | CMD_DENYOOM, -4, CMD_RULE_RESTORE},
        {"HPEXPIRE", CMD_WRITE, -6, CMD_RULE_HEXPIRE},
        {"HSETEX", CMD_WRITE | CMD_DENYOOM, -6, CMD_RULE_HSETEX},
        {"MSETEX", CMD_WRITE | CMD_DENYOOM | CMD_MOVABLE_KEYS, -4, CMD_RULE_HSETEX},
        {"PUBLISH", 0, 3, CMD_RULE_PUBLISH},
        {"SPUBLISH", 0, 3, CMD_RULE_PUBLISH},
        {"EVALSHA", CMD_MOVABLE_KEYS, -3, CMD_RULE_SCRIPT},
        {"FCALL", CMD_MOVABLE_KEYS, -3, CMD_RULE_SCRIPT},
        {"SCRIPT", 0, -2, CMD_RULE_SCRIPT},
        {"FUNCTION", CMD_WRITE | CMD_DENYOOM, -2, CMD_RULE_FUNCTION},
        {"PING", 0, -1, CMD_RULE_NOT_DATA},
        {"OPINFO", 0, -1, CMD_RULE_NOT_DATA},
        {"REPLCONF", 0, -1, CMD_RULE_REPLCONF},
        {"CLUSTER", CMD_WRITE, -2, CMD_RULE_CLUSTER},
        {"TRIMSLOTS", CMD_WRITE, -5, CMD_RULE_CLUSTER},
        {"XGROUP", CMD_WRITE | CMD_DENYOOM, -2, CMD_RULE_PASS},
        {"XINFO", CMD_READONLY, -2, CMD_RULE_PASS},
        {"PFCOUNT", CMD_READONLY, -2, CMD_RULE_PASS},
        {"PFDEBUG", CMD_WRITE | CMD_DENYOOM, 3, CMD_RULE_PASS},
        {"XSETID", CMD_WRITE | CMD_DENYOOM, -3, CMD_RULE_PASS},
        {"XIDMPRECORD", CMD_WRITE | CMD_DENYOOM, 5, CMD_RULE_IDMP},
        {"VADD", CMD_WRITE | CMD_DENYOOM, -5, CMD_RULE_PASS},
        {"DELIFEQ", CMD_WRITE, 3, CMD_RULE_PASS},
        {"INCREX", CMD_WRITE | CMD_DENYOOM, -2, CMD_RULE_PASS},
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const struct cmd_info *c = find(want[i].name);
        if (c->flags != want[i].flags || c->arity != want[i].arity || c->rule != want[i].rule)
            fail_msg("%s: flags %x arity %d rule %d", c->name, c->flags, c->arity, c->rule);
    }
}

/* No write may be both, and each has keys, a rule of its own, or is known to have none. */
static void the_table_is_sound(void **state)
{
    (void)state;
    for (size_t i = 0; cmd_at(i); i++) {
        const struct cmd_info *c = cmd_at(i);
        if ((c->flags & CMD_WRITE) && (c->flags & CMD_READONLY)) fail_msg("%s", c->name);
        if ((c->flags & CMD_WRITE) && !c->first_key && c->layout == CMD_LAYOUT_RANGE &&
            c->rule == CMD_RULE_PASS)
            fail_msg("%s has no keys and no rule", c->name);
        if ((c->flags & CMD_MOVABLE_KEYS) && c->layout == CMD_LAYOUT_RANGE)
            fail_msg("%s: where are its keys", c->name);
        if (c->first_key > 0 && c->step <= 0) fail_msg("%s: step %d", c->name, c->step);
        assert_true(c->arity != 0 && c->first_key >= 0);
    }
}

/* Keys as COMMAND GETKEYS gives them; NULL where it gives an error and so do we. */
static const struct {
    const char *cmd, *keys;
} key_cases[] = {
    {"SET a 1", "a"},
    {"get a", "a"},
    {"MSET a 1 b 2", "a b"},
    {"MSETNX a 1 b 2 c 3", "a b c"},
    {"DEL a b c", "a b c"},
    {"UNLINK a", "a"},
    {"BITOP AND d a b", "d a b"},
    {"BLPOP a b 0", "a b"},
    {"BZPOPMIN a b c 0", "a b c"},
    {"BRPOPLPUSH a b 0", "a b"},
    {"LMOVE a b LEFT RIGHT", "a b"},
    {"BLMOVE a b LEFT RIGHT 0", "a b"},
    {"COPY a b DB 3", "a b"},
    {"RENAME a b", "a b"},
    {"SMOVE a b m", "a b"},
    {"SINTERSTORE d a b", "d a b"},
    {"PFMERGE d a b", "d a b"},
    {"PFCOUNT a b", "a b"},
    {"EVAL s 2 a b c", "a b"},
    {"EVAL s 0 c", ""},
    {"EVALSHA s 1 a", "a"},
    {"FCALL f 1 a x", "a"},
    {"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"},
    {"ZINTERSTORE d 1 a AGGREGATE MAX", "d a"},
    {"ZDIFFSTORE d 2 a b", "d a b"},
    {"ZUNIONSTORE d 0 a", NULL},
    {"ZUNIONSTORE d 3 a b", NULL},
    {"ZUNION 2 a b", "a b"},
    {"ZINTERCARD 2 a b LIMIT 1", "a b"},
    {"SINTERCARD 1 a", "a"},
    {"LMPOP 2 a b LEFT", "a b"},
    {"ZMPOP 1 a MIN COUNT 2", "a"},
    {"BLMPOP 0 2 a b LEFT", "a b"},
    {"BZMPOP 0 1 a MAX", "a"},
    {"LMPOP 3 a LEFT", NULL},
    {"SORT a", "a"},
    {"SORT a BY w_* LIMIT 0 1 GET STORE STORE d", "a d"},
    {"SORT a STORE d STORE e", "a e"},
    {"SORT a STORE store STORE e", "a e"},
    {"SORT a LIMIT STORE x STORE d", "a d"},
    {"SORT a GET store", "a"},
    {"SORT_RO a BY nosort", "a"},
    {"GEORADIUS a 1 2 3 km STORE d", "a d"},
    {"GEORADIUS a 1 2 3 km STOREDIST d STORE e", "a e"}, /* Valkey; Redis lists d as well */
    {"GEORADIUSBYMEMBER a m 3 km STOREDIST d", "a d"},
    {"GEORADIUSBYMEMBER a m 3 km", "a"},
    {"GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 km", "d a"},
    {"ZRANGESTORE d a 0 -1", "d a"},
    {"XREAD COUNT 1 STREAMS a b 0 0", "a b"},
    {"XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >", "a b"},
    {"XREADGROUP GROUP STREAMS c BLOCK 0 STREAMS a >", "a"},
    {"XREADGROUP GROUP g c CLAIM 10 STREAMS a >", "a"},
    {"XREADGROUP GROUP g c COUNT 1 a >", NULL},
    {"MIGRATE h 1 a 0 100", "a"},
    {"MIGRATE h 1 '' 0 100 COPY AUTH keys KEYS a b", "a b"},
    {"MIGRATE h 1 '' 0 100 REPLACE AUTH2 keys keys KEYS a", "a"},
    {"MIGRATE h 1 a 0 100 KEYS b", NULL},
    {"XGROUP CREATE a g 0 MKSTREAM", "a"},
    {"XGROUP SETID a g 0", "a"},
    {"XGROUP HELP", ""},
    {"XINFO STREAM a", "a"},
    {"OBJECT ENCODING a", "a"},
    {"OBJECT HELP", ""},
    {"MEMORY USAGE a", "a"},
    {"MEMORY DOCTOR", ""},
    {"PFDEBUG GETREG a", "a"},
    {"RESTORE-ASKING a 0 x", "a"},
    {"RESTORE a 0 x REPLACE", "a"},
    {"XIDMPRECORD a g c 1-1", "a"},
    {"XSETID a 1-1", "a"},
    {"MSETEX 2 a 1 b 2 PX 100", "a b"},
    {"MSETEX 1 a 1 b 2", "a"},
    {"MSETEX 3 a 1 b 2", NULL},
    {"PUBLISH ch m", ""},
    {"FLUSHALL", ""},
    {"SWAPDB 0 1", ""},
    {"SELECT 1", ""},
    {"FUNCTION FLUSH", ""},
    {"SCRIPT LOAD x", ""},
    {"TRIMSLOTS RANGES 1 0 1", ""},
    {"VADD a VALUES 1 1 e", "a"},
    {"HSETEX a PX 10 FIELDS 1 f v", "a"},
    {"LCS a b", "a b"},
    /* ours: a shard channel goes where its slot is; DEBUG's key, which no server tells */
    {"SPUBLISH ch m", "ch"},
    {"DEBUG OBJECT a", "a"},
    {"DEBUG SLEEP 1", ""},
    /* ours: servers guess where they would refuse the command itself */
    {"MSET a 1 b", NULL},
    {"EVAL s 3 a b", NULL},
    {"EVAL s -1 a b", NULL},
    {"EVAL s x a b", NULL},
    {"EVAL s 18446744073709551615 a", NULL},
    {"EVAL s", NULL},
    {"XREADGROUP GROUP g c STREAMS a b >", NULL},
    {"XREADGROUP GROUP g c STREAMS", NULL},
    {"XREADGROUP GROUP", NULL},
    {"SORT", NULL},
    {"SORT a STORE", NULL},
    {"GEORADIUS a", NULL},
    {"GEORADIUS a 1 2 3 km STORE", NULL},
    {"MIGRATE h 1 a", NULL},
    {"MIGRATE h 1 '' 0 100 KEYS", NULL},
    {"SET", NULL},
    {"BLPOP a", NULL},
    {"RENAME a", NULL},
    {"ZUNIONSTORE", NULL},
    {"ZUNIONSTORE d", NULL},
    {"LMPOP", NULL},
};

static void key_positions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof key_cases / sizeof key_cases[0]; i++) {
        struct span argv[ARGS_MAX], want[ARGS_MAX];
        size_t index[ARGS_MAX], argc = split(key_cases[i].cmd, argv);
        const struct cmd_info *c = cmd_find(argv[0]);
        assert_non_null(c);
        int n = cmd_keys(c, argc, argv, ARGS_MAX, index);
        int n_want = key_cases[i].keys ? (int)split(key_cases[i].keys, want) : -1;
        if (n != n_want) fail_msg("%s: %d keys, not %d", key_cases[i].cmd, n, n_want);
        for (int k = 0; k < n; k++)
            if (!span_eq(argv[index[k]], want[k])) fail_msg("%s: key %d", key_cases[i].cmd, k);
        size_t first = cmd_first_key(c, argc, argv);
        if (n > 0) assert_int_equal(first, index[0]);
        if (n == 0) assert_int_equal(first, 0);
        if (n < 0) assert_true(first < argc);
    }
}

/* The caller's array is small: the count is whole, nothing beyond max is written. */
static void writes_no_more_than_asked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof key_cases / sizeof key_cases[0]; i++) {
        struct span argv[ARGS_MAX];
        size_t all[ARGS_MAX], argc = split(key_cases[i].cmd, argv);
        const struct cmd_info *c = cmd_find(argv[0]);
        int n = cmd_keys(c, argc, argv, ARGS_MAX, all);
        for (size_t max = 0; max < 4; max++) {
            size_t some[4] = {99, 99, 99, 99};
            assert_int_equal(cmd_keys(c, argc, argv, max, some), n);
            for (size_t k = 0; k < 4; k++)
                if (k >= max)
                    assert_int_equal(some[k], 99);
                else if ((int)k < n)
                    assert_int_equal(some[k], all[k]);
        }
        assert_int_equal(cmd_keys(c, argc, argv, 0, NULL), n);
    }
}

/* Every command with every number of arguments of every hostile kind stays within them. */
static void hostile_arguments_stay_inside(void **state)
{
    (void)state;
    const char *const words[] = {
        "",      "0",     "1",    "2",     "-1",      "9223372036854775807",
        "STORE", "LIMIT", "KEYS", "GROUP", "STREAMS", "OBJECT"};
    unsigned seed = 1;
    for (size_t i = 0; cmd_at(i); i++) {
        for (int round = 0; round < 200; round++) {
            size_t argc = (size_t)round % 12 + 1, index[16];
            struct span *argv = malloc(argc * sizeof *argv); /* exact, for the sanitizer */
            argv[0] = span_str(cmd_at(i)->name);
            for (size_t a = 1; a < argc; a++) {
                seed = seed * 1103515245 + 12345;
                argv[a] = span_str(words[(seed >> 16) % (sizeof words / sizeof words[0])]);
            }
            int n = cmd_keys(cmd_at(i), argc, argv, 16, index);
            assert_in_range(n + 1, 0, argc);
            for (int k = 0; k < n; k++)
                assert_in_range(index[k], 1, argc - 1);
            assert_in_range(cmd_first_key(cmd_at(i), argc, argv), 0, argc - 1);
            free(argv);
        }
    }
}

static void some_are_idempotent_by_their_arguments(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is;
    } want[] = {
        {"SET k v", true},
        {"set k v nx", true},
        {"SET k NX XX", true},
        {"SET k v KEEPTTL GET", true},
        {"SET k v PXAT 1 NX", true},
        {"SET k v XX EXAT 1", true},
        {"SET k v EX 1", false},
        {"SET k v PX 1", false},
        {"SET k v IFEQ NX", false},
        {"SET k v XX IFDEQ 1", false},
        {"SET k v PXAT", false},
        {"SET k v WHATEVER", false},
        {"ZADD k 1 m", true},
        {"zadd k 1 NX 2 INCR", true},
        {"ZADD k CH 1 m", true},
        {"ZADD k CH ch 1 m", true},
        {"ZADD k NX 1 m", false},
        {"ZADD k CH xx 1 m", false},
        {"ZADD k GT CH 1 m", false},
        {"ZADD k LT 1 m", false},
        {"ZADD k INCR 1 m", false},
        {"ZADD k CH", false},
        {"ZADD k", false},
        {"RESTORE k 0 p REPLACE", true},
        {"RESTORE k 5 p ABSTTL replace", true},
        {"RESTORE k 5 p REPLACE", false},
        {"RESTORE k 0 REPLACE", false},
        {"RESTORE k 5 p ABSTTL", false},
        {"RESTORE k", false},
        {"SADD s m", true},
        {"SREM s m", false},
        {"HDEL h f", false},
        {"INCR k", false},
        {"PFCOUNT k", false},
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct span argv[ARGS_MAX];
        size_t argc = split(want[i].text, argv);
        if (cmd_is_idempotent(cmd_find(argv[0]), argc, argv) != want[i].is)
            fail_msg("%s", want[i].text);
        for (size_t at = 1; at < argc; at++)
            argv[at].p = NULL; /* not at hand */
        const struct cmd_info *c = cmd_find(argv[0]);
        bool plain = !(c->rule == CMD_RULE_SET && argc > 3) && strcmp(c->name, "ZADD") != 0 &&
                     c->rule != CMD_RULE_RESTORE;
        assert_int_equal(cmd_is_idempotent(c, argc, argv), plain && want[i].is);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_command_in_any_case),
        cmocka_unit_test(finds_nothing_else),
        cmocka_unit_test(flags_and_rules),
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(key_positions),
        cmocka_unit_test(writes_no_more_than_asked),
        cmocka_unit_test(hostile_arguments_stay_inside),
        cmocka_unit_test(some_are_idempotent_by_their_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
