// SPDX-License-Identifier: BSD-3-Clause
// refuse: what an error reply means, and what becomes of a refused write.
#include "engine/refuse.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void passing_faults(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "LOADING",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
        "INPROG Failover already in progress.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> rep",
        "NOMASTERLINK Can't SYNC while not connected with my master",
        "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > ",
        "EXECABORT Transaction discarded because of: READONLY You can't write against a read onl",
        ("ERR Error running script (call to f_dba13b575c164a4c8b12019c1deebe1a2c6279f8): "
         "@user_script:2: @user_script: 2: -OOM command not allowed when used memory > "
         "'maxmemory'."),
        "ERR Error running script (call to f_dba1): @user_script:2: -READONLY You can't write",
        "OOM command not allowed when used memory > 'maxmemory'. script: dba1, on @user_script:2.",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (refusal_classify(lines[i]) != REFUSAL_TRANSIENT) fail_msg("%s", lines[i]);
}

static void out_of_memory(void **state)
{
    (void)state;
    static const char *const oom[] = {
        "OOM command not allowed when used memory > 'maxmemory'.",
        "EXECABORT Transaction discarded because of: OOM command not allowed",
        "ERR Error running script (call to f_dba1): @user_script:2: -OOM command not allowed"};
    static const char *const others[] = {"BUSY Redis is busy running a script.", "OOMPH", "ERR OOM",
                                         "EXECABORT Transaction discarded because of: READONLY",
                                         "EXECABORT OOM"};
    for (size_t i = 0; i < sizeof(oom) / sizeof(oom[0]); i++)
        assert_true(refusal_is_oom(oom[i]));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(refusal_is_oom(others[i]));
}

static void existing_keys(void **state)
{
    (void)state;
    assert_int_equal(refusal_classify("BUSYKEY Target key name already exists."), REFUSAL_EXISTS);
    assert_int_equal(refusal_classify("ERR Target key name is busy."), REFUSAL_EXISTS); /* 2.8 */
}

static void hard_errors(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "ERR unknown command 'FOO', with args beginning with: ",
        "ERR OOM is a word here, not the code",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "BUSYGROUP Consumer Group name already exists",
        "OOMPH",
        "LOADINGS",
        "NOPERM this user has no permissions to run the 'set' command",
        "EXECABORT Transaction discarded because of previous errors.",
        "EXECABORT Transaction discarded because of: ERR something",
        "oom lower case is no code of a server",
        "ERR Error running script (call to f_dba1): @user_script:2: -WRONGTYPE Operation against",
        "ERR something else: -OOM",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (refusal_classify(lines[i]) != REFUSAL_HARD) fail_msg("%s", lines[i]);
}

static void stop_names_it(void **state)
{
    (void)state;
    static struct counters c;
    struct refusals r = {.policy = TASK_ON_ERROR_STOP, .counters = &c};
    struct err err;
    int rc = refusals_report(&r, 3, span_of("a\0b", 3), "HSET", "WRONGTYPE no", &err);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_TARGET);
    assert_non_null(strstr(err.msg, "HSET (database 3, key \"a\\x00b\"): WRONGTYPE no"));
    assert_non_null(strstr(err.msg, "--on-error continue"));
    assert_int_equal(r.count, 1);
    assert_int_equal(counter_get(&c.errors), 1);
    assert_int_equal(counter_get(&c.db[3].errors), 1);
}

static void read_log(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    out[fread(out, 1, size - 1, f)] = 0;
    fclose(f);
}

static void continue_counts_and_logs(void **state)
{
    (void)state;
    static struct counters c;
    struct refusals r = {.policy = TASK_ON_ERROR_CONTINUE, .counters = &c};
    char path[] = "/tmp/keyhaul-refuse-XXXXXX", text[2000];
    close(mkstemp(path));
    struct err err = {.code = ERR_NONE};
    assert_int_equal(log_open(&(struct log_config){.level = LOG_INFO, .file = path}, &err), 0);
    assert_int_equal(refusals_report(&r, 0, span_str("k"), "SET", "ERR one", &err), 0);
    assert_int_equal(refusals_report(&r, 70000, span_of(NULL, 0), "FLUSHDB", "ERR two", &err), 0);
    log_close();
    read_log(path, text, sizeof(text));
    unlink(path);
    assert_int_equal(err.code, ERR_NONE);
    assert_int_equal(r.count, 2);
    assert_int_equal(counter_get(&c.errors), 2);
    assert_int_equal(counter_get(&c.db[0].errors), 1);
    assert_int_equal(counter_get(&c.db[COUNTERS_DBS - 1].errors), 1);
    assert_non_null(strstr(text, "target refused SET (database 0, key \"k\"): ERR one"));
    assert_non_null(strstr(text, "target refused FLUSHDB (database 70000): ERR two"));
}

/* A key longer than any line: cut, not beyond the buffer. */
static void long_key(void **state)
{
    (void)state;
    static struct counters c;
    static uint8_t key[100000];
    struct refusals r = {.policy = TASK_ON_ERROR_STOP, .counters = &c};
    struct err err;
    assert_int_equal(refusals_report(&r, 0, span_of(key, sizeof(key)), "SET", "ERR x", &err), -1);
    assert_non_null(strstr(err.msg, "..."));
    assert_non_null(strstr(err.msg, "ERR x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passing_faults), cmocka_unit_test(out_of_memory),
        cmocka_unit_test(existing_keys),  cmocka_unit_test(hard_errors),
        cmocka_unit_test(stop_names_it),  cmocka_unit_test(continue_counts_and_logs),
        cmocka_unit_test(long_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
