// SPDX-License-Identifier: BSD-3-Clause
// A task's folder whose files are damaged or hostile; options that are kept in it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/state_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- options that finish takes again --- */

static void reopen(struct option_values *v, const struct given *g)
{
    state_close(must_begin(g), false);
    *v = (struct option_values){.command = OPTION_COMMAND_MIGRATE};
}

static void test_options_again(void **state)
{
    (void)state;
    struct given g;
    struct option_values v;
    struct config cfg;
    struct err err = {0};
    give(&g, (const char *const[]){"--source",
                                   "redis://me@old:1/3",
                                   "--target",
                                   "rediss://new:2",
                                   "--task",
                                   "shop",
                                   "--db-map",
                                   "3:7",
                                   "--target-tls-ca",
                                   "certs/ca.pem",
                                   "--insecure-skip-verify",
                                   "--spool-max",
                                   "500M",
                                   "--io-timeout",
                                   "7s",
                                   "--on-error",
                                   "continue",
                                   "--quiet",
                                   "--metrics-file",
                                   "m.json",
                                   NULL});
    reopen(&v, &g);
    if (state_options(&v, state_kit_root(), "shop", &err) < 0) fail_msg("%s", err.msg);
    if (config_from_options(&cfg, &v, &err) < 0) fail_msg("%s", err.msg);
    assert_string_equal(cfg.task.source.uri.user, "me");
    assert_string_equal(cfg.task.source.uri.host, "old");
    assert_int_equal(db_select_target(&cfg.task.select, 3), 7);
    assert_int_equal(db_select_target(&cfg.task.select, 7), -1);
    assert_true(cfg.task.target.tls.insecure_skip_verify);
    assert_int_equal(cfg.task.target.tls.ca_file[0], '/');
    assert_non_null(strstr(cfg.task.target.tls.ca_file, "/certs/ca.pem"));
    assert_int_equal(cfg.task.spool_max_bytes, 500000000);
    assert_int_equal(cfg.task.io_timeout_ms, 7000);
    assert_int_equal(cfg.task.on_error, TASK_ON_ERROR_CONTINUE);
    /* how a run shows itself is not the task */
    assert_false(cfg.quiet);
    assert_null(cfg.metrics_file);
    config_release(&cfg);
    options_release(&v);
    take_back(&g);
}

static void expect_no_secret(void)
{
    static const char *const names[] = {"shop/task.json", "shop/state.json", "shop/lock"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *text = slurp(file(names[i]));
        if (strcasestr(text, STATE_KIT_SECRET) || strcasestr(text, "Pa55"))
            fail_msg("%s: %s", names[i], text);
        free(text);
    }
}

static void test_passwords_are_not_kept(void **state)
{
    (void)state;
    static const char *const uris[] = {"redis://me:" STATE_KIT_SECRET "@old:1/3",
                                       "redis://:" STATE_KIT_SECRET "@old:1/3",
                                       "redis://me:x@" STATE_KIT_SECRET "@old:1/3",
                                       "redis://me:x:" STATE_KIT_SECRET "@old:1?db=3",
                                       "rediss://me:" STATE_KIT_SECRET "@old:1/3",
                                       "unix://me:" STATE_KIT_SECRET "@/run/x.sock?db=3"};
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        struct given g;
        struct option_values v;
        struct err err = {0};
        give(&g, (const char *const[]){"--source", uris[i], "--target", "redis://new:2", "--task",
                                       "shop", "--restart", "--db-map", "3:3", NULL});
        reopen(&v, &g);
        expect_no_secret();
        assert_int_equal(state_options(&v, state_kit_root(), "shop", &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--source-password-file"));
        assert_non_null(strstr(err.msg, "KEYHAUL_SOURCE_PASSWORD"));
        options_release(&v);
        v = (struct option_values){.command = OPTION_COMMAND_MIGRATE};
        v.text[OPTION_ENV_SOURCE_PASSWORD] = strdup("again");
        if (state_options(&v, state_kit_root(), "shop", &err) < 0) fail_msg("%s", err.msg);
        assert_null(strstr(v.text[OPTION_SOURCE], "Pa55"));
        options_release(&v);
        take_back(&g);
    }
}

/* --- damage --- */

static const char *const broken_states[] = {
    "",
    "\n",
    "{",
    "[]",
    "null",
    "7",
    "{}",
    "{\"schema\":1}",
    "{\"schema\":2}",
    "\xff\xfe\x00",
    "{\"schema\":1,\"schema\":1}",
    "{\"schema\":99999999999999999999999999}",
};

/* In a valid one, this replaced by that. */
static const struct {
    const char *from, *to;
} broken_fields[] = {
    {"\"schema\":1", "\"schema\":2"},
    {"\"schema\":1", "\"schema\":\"1\""},
    {"\"stream\"", "\"dream\""},
    {"\"stream\"", "3"},
    {"\"snapshots\":1", "\"snapshots\":-1"},
    {"\"snapshots\":1", "\"snapshots\":1.5"},
    {STATE_KIT_REPLID, "0123"},
    {STATE_KIT_REPLID, STATE_KIT_REPLID STATE_KIT_REPLID},
    {STATE_KIT_REPLID, "x123456789abcdef0123456789abcdef01234567"},
    {"\"spool_dir\":", "\"spool_dirt\":"},
    {"\"spool_valid\":true", "\"spool_valid\":1"},
    {"\"spool_pos\":17", "\"spool_pos\":-17"},
    {"\"spool_pos\":17", "\"spool_pos\":null"},
    {"\"spool_offset\":9223372036854775807", "\"spool_offset\":18446744073709551615"},
    {"\"seed\":\"", "\"seed\":\"0"},
    {"\"seed\":\"", "\"seed\":\"\",\"x\":\""},
    {"\"import_ours\":false", "\"import_ours\":0"},
    {"\"keys_before\":0", "\"keys_before\":-1"},
    {"\"refused\":0", "\"refused\":\"\""},
};

static void expect_damaged(const struct given *g, const char *name, const char *text, size_t n)
{
    struct err err = {0};
    struct state_seen seen;
    char *path = strdup(file(name));
    put(path, text, n);
    assert_int_equal(must_refuse(g, &err), ERR_FORMAT);
    if (!strstr(err.msg, path) || !strstr(err.msg, "--restart")) fail_msg("%s", err.msg);
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_true(seen.damaged);
    /* the file, but not the folder, which is known */
    assert_memory_equal(seen.why, strrchr(path, '/') + 1, strlen(strrchr(path, '/') + 1));
    free(path);
}

static void test_damaged_state(void **state)
{
    (void)state;
    struct given g, again;
    char text[600];
    GIVE(&g, "--task", "shop");
    GIVE(&again, "--task", "shop", "--restart");
    state_close(must_begin(&g), false);
    char *valid = slurp(file("shop/state.json"));
    for (size_t i = 0; i < sizeof(broken_states) / sizeof(broken_states[0]); i++)
        expect_damaged(&g, "shop/state.json", broken_states[i], strlen(broken_states[i]));
    for (size_t i = 0; i < sizeof(broken_fields) / sizeof(broken_fields[0]); i++) {
        const char *at = strstr(valid, broken_fields[i].from);
        assert_non_null(at);
        int n = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - valid), valid,
                         broken_fields[i].to, at + strlen(broken_fields[i].from));
        assert_true((size_t)n < sizeof(text));
        expect_damaged(&g, "shop/state.json", text, (size_t)n);
    }
    for (size_t n = 0; n + 2 < strlen(valid); n++)
        expect_damaged(&g, "shop/state.json", valid, n);
    put(file("shop/state.json"), valid, strlen(valid));
    state_close(must_open(&g), false); /* which the others are made of */
    free(valid);
    char *deep = malloc(1 << 20), *large = calloc(1, (1 << 20) + 1);
    memset(deep, '[', 1 << 20);
    expect_damaged(&g, "shop/state.json", deep, 1 << 20);
    expect_damaged(&g, "shop/state.json", large, (1 << 20) + 1);
    free(deep);
    free(large);
    struct state *s = must_open(&again);
    assert_false(state_known(s));
    state_close(s, false);
    take_back(&g);
    take_back(&again);
}

/* As the first keyhaul that had folders wrote them. */
static void test_older_state(void **state)
{
    (void)state;
    static const char old[] =
        "{\"schema\":1,\"phase\":\"stream\",\"snapshots\":2,\"replid\":\"" STATE_KIT_REPLID
        "\",\"spool_dir\":\"/x\",\"spool_valid\":false,\"spool_pos\":17,"
        "\"spool_offset\":18,\"clean\":true,\"hold_base_ms\":12345,"
        "\"seed\":\"0123456789abcdef\"}\n";
    struct given g;
    GIVE(&g, "--task", "shop");
    state_close(must_begin(&g), false);
    put(file("shop/state.json"), old, strlen(old));
    struct state *s = must_open(&g);
    const struct state_progress *p = state_progress(s);
    assert_true(state_known(s));
    assert_int_equal(p->phase, STATE_STREAM);
    assert_int_equal(p->snapshots, 2);
    assert_int_equal(p->spool_offset, 18);
    assert_string_equal(p->replid, STATE_KIT_REPLID);
    assert_string_equal(p->replid_before, "");
    assert_int_equal(p->refused, 0);
    assert_false(p->import_ours);
    state_close(s, false);
    take_back(&g);
}

static void test_damaged_task(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "",
        "{}",
        "[]",
        "{\"schema\":1,\"id\":\"../../../../etc\",\"options\":{}}",
    };
    struct given g;
    struct err err = {0};
    struct option_values v;
    GIVE(&g, "--task", "shop");
    state_close(must_begin(&g), false);
    char *valid = slurp(file("shop/task.json"));
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
        expect_damaged(&g, "shop/task.json", broken[i], strlen(broken[i]));
    for (size_t n = 0; n + 2 < strlen(valid); n++)
        expect_damaged(&g, "shop/task.json", valid, n);
    /* any byte changed: refused or not, but in words */
    for (size_t i = 0; valid[i]; i++) {
        struct state *s = NULL;
        char was = valid[i];
        valid[i] = (char)(was ^ 0x15);
        put(file("shop/task.json"), valid, strlen(valid));
        if (state_open(&s, &g.cfg.task, &g.values, &err) < 0) assert_true(*err.msg);
        state_close(s, false);
        v = (struct option_values){.command = OPTION_COMMAND_MIGRATE};
        put(file("shop/task.json"), valid, strlen(valid));
        if (state_options(&v, state_kit_root(), "shop", &err) < 0) assert_true(*err.msg);
        options_release(&v);
        valid[i] = was;
    }
    unlink(file("shop/task.json"));
    assert_int_equal(must_refuse(&g, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "task.json is missing"));
    put(file("shop/task.json"), valid, strlen(valid));
    unlink(file("shop/state.json"));
    assert_int_equal(must_refuse(&g, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "state.json is missing"));
    free(valid);
    take_back(&g);
}

static void test_hostile_options(void **state)
{
    (void)state;
    static const char *const options[] = {
        "{}",
        "{\"source\":\"redis://a:1\"}",
        "{\"source\":\"redis://a:1\",\"target\":7}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"nosuch\":\"x\"}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"state-dir\":\"/x\"}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"log-file\":\"/x\"}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"type\":\"all\"}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"io-timeout\":\"soon\"}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"insecure-skip-verify\":\"x\"}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"db\":\"\"}",
        "{\"source\":\"redis://a:1\",\"target\":\"redis://b:1\",\"KEYHAUL_SOURCE_PASSWORD\":\"\"}",
    };
    struct given g;
    struct err err = {0};
    struct option_values v;
    GIVE(&g, "--task", "shop");
    state_close(must_begin(&g), false);
    char *valid = slurp(file("shop/task.json"));
    char *at = strstr(valid, "\"options\":");
    assert_non_null(at);
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        char text[2000];
        int n = snprintf(text, sizeof(text), "%.*s\"options\":%s}", (int)(at - valid), valid,
                         options[i]);
        put(file("shop/task.json"), text, (size_t)n);
        v = (struct option_values){.command = OPTION_COMMAND_MIGRATE};
        if (state_options(&v, state_kit_root(), "shop", &err) == 0) fail_msg("%s", options[i]);
        assert_int_equal(err.code, ERR_FORMAT == err.code ? ERR_FORMAT : ERR_USAGE);
        assert_non_null(strstr(err.msg, "task.json"));
        options_release(&v);
    }
    free(valid);
    take_back(&g);
}

static void test_not_files(void **state)
{
    (void)state;
    struct given g;
    struct err err = {0};
    GIVE(&g, "--task", "shop");
    state_close(must_begin(&g), false);
    unlink(file("shop/state.json"));
    assert_int_equal(mkfifo(file("shop/state.json"), 0600), 0); /* must not be waited for */
    assert_int_equal(must_refuse(&g, &err), ERR_IO);
    unlink(file("shop/lock"));
    assert_int_equal(symlink("/etc/passwd", file("shop/lock")), 0);
    assert_int_equal(must_refuse(&g, &err), ERR_IO);
    put(file("flat"), "x", 1);
    g.cfg.task.name = "flat";
    assert_int_equal(must_refuse(&g, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "--state-dir"));
    take_back(&g);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, state_kit_make, state_kit_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_options_again), TEST(test_passwords_are_not_kept), TEST(test_damaged_state),
        TEST(test_older_state),   TEST(test_damaged_task),           TEST(test_hostile_options),
        TEST(test_not_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
