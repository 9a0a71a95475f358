// SPDX-License-Identifier: BSD-3-Clause
// The target user's rights: on a real server with ACLs, and by the words of other ages and
// services.
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

#define N(a) (sizeof(a) / sizeof((a)[0]))

static bool has(const char *text, const char *part)
{
    if (strstr(text, part)) return true;
    print_error("\"%s\" lacks \"%s\"\n", text, part);
    return false;
}

static struct task_config *new_config(enum task_type type)
{
    struct task_config *cfg = calloc(1, sizeof(*cfg));
    cfg->type = type;
    return cfg;
}

/* Run as a user with these rules on a real server that holds one key. */
static int run_config(const char *rules, struct task_config *cfg, struct check_notes *notes,
                      struct err *err)
{
    struct live_server s;
    live_start(&s, false, NULL);
    struct client *admin = live_client(&s, "target");
    live_do(admin, "SET precious 1");
    char line[512];
    snprintf(line, sizeof(line), "ACL SETUSER app on >pw %s", rules);
    live_do(admin, line);
    struct client_config ccfg = live_config(&s, "target");
    static char user[] = "app";
    s.uri.user = user;
    ccfg.password = "pw";
    struct client *c = NULL;
    assert_int_equal(client_open(&c, &ccfg, err), 0);
    struct server_facts f;
    assert_int_equal(facts_read(admin, &f, err), 0);
    int rc = check_target_rights(&(struct primaries){.one = c}, &f, cfg, notes, err);
    if (rc == 0) live_do(c, "PING"); /* not left inside of MULTI: this would say QUEUED */

    struct reply *r = NULL;
    struct err ignored;
    assert_int_equal(client_call(admin, &r, &ignored, "DBSIZE", NULL), 0);
    assert_int_equal(r->integer, 1); /* nothing was executed */
    reply_free(r);
    free(cfg);
    facts_release(&f);
    client_close(c);
    client_close(admin);
    live_stop(&s);
    return rc;
}

static int run_as(const char *rules, enum task_type type, struct check_notes *notes,
                  struct err *err)
{
    return run_config(rules, new_config(type), notes, err);
}

/* The same for a restore. */
static int run_file_as(const char *rules, struct check_notes *notes, struct err *err)
{
    struct task_config *cfg = new_config(TASK_FULL);
    cfg->file = "dump.rdb";
    return run_config(rules, cfg, notes, err);
}

static void test_all_rights(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    struct err err = {0};
    if (run_as("~* &* +@all", TASK_FULL_INCREMENTAL, &notes, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(notes.n, 0);
}

static void test_commands_missing(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(
        run_as("~* &* +@all -restore -xclaim -flushdb", TASK_FULL_INCREMENTAL, &notes, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_true(has(err.msg, "target live: user app lacks rights"));
    assert_true(has(err.msg, "ACL SETUSER app +restore +xclaim +flushdb"));
    /* A copy without a stream needs no FLUSHDB. */
    assert_int_equal(run_as("~* &* +@all -flushdb", TASK_FULL, &notes, &err), 0);
}

static void test_keys_and_channels(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(run_as("~app:* resetchannels +@all", TASK_FULL_INCREMENTAL, &notes, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_true(has(err.msg, "ACL SETUSER app ~* &*"));
}

/* What the checkpoint takes, of a user who has been given names apart; a restore has none. */
static void test_checkpoint(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    struct err err = {0};
    const char *no_watch = "~* &* +@all -watch -get";
    assert_int_equal(run_as(no_watch, TASK_FULL, &notes, &err), -1);
    assert_true(has(err.msg, "ACL SETUSER app +watch +get"));
    const char *read_only = "~keyhaul:rights-check %R~keyhaul:checkpoint:* &* +@all";
    assert_int_equal(run_as(read_only, TASK_FULL_INCREMENTAL, &notes, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_true(has(err.msg, "ACL SETUSER app ~*"));
    assert_int_equal(run_file_as(no_watch, &notes, &err), 0);
}

static void test_transactions_missing(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(run_as("~* &* +@all -multi", TASK_FULL, &notes, &err), -1);
    assert_true(has(err.msg, "ACL SETUSER app +multi"));
    assert_int_equal(run_as("~* &* +@all -exec -sadd", TASK_FULL, &notes, &err), -1);
    assert_true(has(err.msg, "ACL SETUSER app +exec +sadd"));
    assert_int_equal(run_as("~* &* +@all -discard", TASK_FULL, &notes, &err), -1);
    assert_true(has(err.msg, "ACL SETUSER app +discard"));
}

static void test_everything_missing(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(run_as("+ping +multi +exec +discard", TASK_FULL_INCREMENTAL, &notes, &err),
                     -1);
    assert_true(has(err.msg, "+exists +dbsize +scan +select +del"));
    assert_true(has(err.msg, "+flushall")); /* the last one: none was cut off */
}

static void test_live_states(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false, (const char *const[]){"--replicaof", "127.0.0.1", "1", NULL});
    struct client *c = live_client(&s, "target");
    struct server_facts f;
    struct err err = {0};
    struct check_notes notes = {0};
    struct task_config *cfg = new_config(TASK_FULL_INCREMENTAL);
    assert_int_equal(facts_read(c, &f, &err), 0);
    assert_int_equal(check_target_rights(&(struct primaries){.one = c}, &f, cfg, &notes, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_true(has(err.msg, "replica"));
    live_do(c, "REPLICAOF NO ONE");
    live_do(c, "CONFIG SET maxmemory 1");
    assert_int_equal(check_target_rights(&(struct primaries){.one = c}, &f, cfg, &notes, &err), 0);
    assert_int_equal(notes.n, 1);
    assert_true(has(notes.text[0], "OOM"));
    facts_release(&f);
    free(cfg);
    client_close(c);
    live_stop(&s);
}

/* Run against rules; redis_version as told. The commands sent are in s->log, after fake_stop(). */
static int run_fake(struct fake_server *s, const struct fake_step *rules, size_t n,
                    unsigned version, struct check_notes *notes, struct err *err)
{
    fake_start(s, rules, n, true);
    struct client_config ccfg = fake_config(s, "target");
    struct client *c = NULL;
    assert_int_equal(client_open(&c, &ccfg, err), 0);
    struct server_facts f = {.flavour = FACTS_REDIS, .version = version};
    struct task_config *cfg = new_config(TASK_FULL_INCREMENTAL);
    int rc = check_target_rights(&(struct primaries){.one = c}, &f, cfg, notes, err);
    free(cfg);
    client_close(c);
    return rc;
}

#define QUEUE                                                                                      \
    {.expect = "PING", .reply = "+PONG\r\n"}, {.expect = "MULTI", .reply = "+OK\r\n"},             \
        {.expect = "EXEC", .reply = "*0\r\n"}, {.expect = "DISCARD", .reply = "+OK\r\n"},          \
    {                                                                                              \
        .expect = "", .reply = "+QUEUED\r\n"                                                       \
    }

static void test_words_of_6_0(void **state)
{
    (void)state;
    const struct fake_step rules[] = {
        {.expect = "RESTORE",
         .reply = "-NOPERM this user has no permissions to run the 'restore' "
                  "command or its subcommand\r\n"},
        {.expect = "SET ",
         .reply = "-NOPERM this user has no permissions to access one of the keys "
                  "used as arguments\r\n"},
        QUEUE,
    };
    struct fake_server s;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(run_fake(&s, rules, N(rules), 0x060010, &notes, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_true(has(err.msg, "ACL SETUSER default +restore ~*"));
    fake_stop(&s);
    assert_null(strstr(s.log, "FUNCTION")); /* 6.0 knows none: not asked */
    assert_non_null(strstr(s.log, "XADD"));
}

static void test_managed_service(void **state)
{
    (void)state;
    const struct fake_step rules[] = {
        {.expect = "SWAPDB",
         .reply = "-ERR unknown command 'SWAPDB', with args beginning with: \r\n"},
        {.expect = "FLUSHALL", .reply = "-ERR command is not allowed\r\n"},
        QUEUE,
    };
    struct fake_server s;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(run_fake(&s, rules, N(rules), 0x07000f, &notes, &err), 0);
    assert_int_equal(notes.n, 1);
    assert_true(has(notes.text[0], "swapdb flushall"));
    fake_stop(&s);

    const struct fake_step no_restore[] = {
        {.expect = "RESTORE", .reply = "-ERR unknown command 'RESTORE'\r\n"}, QUEUE};
    assert_int_equal(run_fake(&s, no_restore, N(no_restore), 0x07000f, &notes, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    assert_true(has(err.msg, "does not offer restore"));
    fake_stop(&s);
}

/* A proxy that says OK to MULTI and then executes: found out before anything that writes. */
static void test_no_real_multi(void **state)
{
    (void)state;
    const struct fake_step rules[] = {{.expect = "EXISTS", .reply = ":0\r\n"}, QUEUE};
    struct fake_server s;
    struct check_notes notes = {0};
    struct err err = {0};
    assert_int_equal(run_fake(&s, rules, N(rules), 0x07000f, &notes, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_true(has(err.msg, "does not honour MULTI"));
    fake_stop(&s);
    assert_null(strstr(s.log, "SET "));
    assert_null(strstr(s.log, "DEL "));

    const struct fake_step none[] = {{.expect = "PING", .reply = "+PONG\r\n"},
                                     {.expect = "MULTI", .reply = "-ERR unknown command\r\n"},
                                     {.expect = "", .reply = "+QUEUED\r\n"}};
    assert_int_equal(run_fake(&s, none, N(none), 0x07000f, &notes, &err), -1);
    assert_int_equal(err.code, ERR_UNSUPPORTED);
    fake_stop(&s);
    assert_string_equal(s.log, "PING\nMULTI\n"); /* and nothing after it */
}

static void test_passing_faults(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *words;
    } cases[] = {
        {"-MISCONF Redis is configured to save RDB snapshots\r\n", "cannot save to its disk"},
        {"-NOREPLICAS Not enough good replicas to write.\r\n", "min-replicas-to-write"},
        {"-LOADING Redis is loading the dataset in memory\r\n", "loading"},
    };
    for (size_t i = 0; i < N(cases); i++) {
        const struct fake_step rules[] = {{.expect = "DEL", .reply = cases[i].reply}, QUEUE};
        struct fake_server s;
        struct check_notes notes = {0};
        struct err err = {0};
        assert_int_equal(run_fake(&s, rules, N(rules), 0x07000f, &notes, &err), -1);
        assert_int_equal(err.code, ERR_BUSY);
        assert_true(has(err.msg, cases[i].words));
        fake_stop(&s);
        size_t n = strlen(s.log);
        assert_string_equal(s.log + n - 8, "DISCARD\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_rights),         cmocka_unit_test(test_commands_missing),
        cmocka_unit_test(test_keys_and_channels),  cmocka_unit_test(test_transactions_missing),
        cmocka_unit_test(test_everything_missing), cmocka_unit_test(test_live_states),
        cmocka_unit_test(test_words_of_6_0),       cmocka_unit_test(test_managed_service),
        cmocka_unit_test(test_no_real_multi),      cmocka_unit_test(test_passing_faults),
        cmocka_unit_test(test_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
