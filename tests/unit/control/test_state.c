// SPDX-License-Identifier: BSD-3-Clause
// A task's folder: made, locked, known again, refused, damaged, removed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/state_kit.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- names --- */

static void name_of(const char *source, const char *target, char *ret)
{
    struct given g;
    struct err err = {0};
    give(&g, (const char *const[]){"--source", source, "--target", target, NULL});
    if (state_task_name(ret, &g.cfg.task, &err) < 0) fail_msg("%s", err.msg);
    take_back(&g);
}

static void test_plain_names(void **state)
{
    (void)state;
    char name[STATE_NAME_MAX + 1];
    name_of("redis://127.0.0.1:7001", "redis://127.0.0.1:7002", name);
    assert_string_equal(name, "127.0.0.1-7001-to-127.0.0.1-7002");
    name_of("redis://u:pw@Old.Example.COM/3", "redis://new:16379", name);
    assert_string_equal(name, "old.example.com-6379-to-new-16379");
}

#define HOST60 "a23456789.b23456789.c23456789.d23456789.e23456789.f23456789"

/* All pairs of these are different tasks, and need different names. */
static const char *const sides[] = {
    "redis://a:1",
    "rediss://a:1",
    "redis://a:11",
    "redis://a-1:1",
    "redis://a-1-to-a:1",
    "redis://a-to-a:1",
    "redis://[::1]:1",
    "redis://[::1:1]:1",
    "redis://[fe80::1%25eth0]:1",
    "redis://a_b:1",
    "redis://a-b:1",
    "redis://tls-a:1",
    "redis+sentinel://a:1/mine",
    "redis+sentinel://a:1/mine.1",
    "redis+sentinel://b:1/mine",
    "rediss+sentinel://a:1/mine",
    "redis+sentinel://a:1/---",
    "redis+sentinel://a:1/" HOST60 "." HOST60,
    "redis://" HOST60 ":1",
    "redis://" HOST60 "x:1",
    "unix:///a/b-c",
    "unix:///a/b/c",
    "unix:///a-b-c",
    "unix:///---",
    "unix:///r%C3%A9dis/so%20ck",
    "unix:///var/run/somewhere/very/deep/down/in/the/tree/of/folders/redis.sock",
    "unix:///var/run/elsewhere/very/deep/down/in/the/tree/of/folders/redis.sock",
};

#define SIDES (sizeof(sides) / sizeof(sides[0]))

static void test_names_differ(void **state)
{
    (void)state;
    static char name[SIDES * SIDES][STATE_NAME_MAX + 1];
    size_t n = 0;
    for (size_t a = 0; a < SIDES; a++)
        for (size_t b = 0; b < SIDES; b++, n++) {
            char *made = name[n];
            name_of(sides[a], sides[b], made);
            assert_true(isalnum((unsigned char)made[0]));
            assert_int_equal(strspn(made, "abcdefghijklmnopqrstuvwxyz0123456789-."), strlen(made));
            for (size_t i = 0; i < n; i++)
                if (strcmp(name[i], made) == 0)
                    fail_msg("%s is also that of %s to %s", made, sides[a], sides[b]);
        }
}

static void test_given_names(void **state)
{
    (void)state;
    struct given g;
    struct err err;
    char name[STATE_NAME_MAX + 1], longest[STATE_NAME_MAX + 2];
    GIVE(&g, "--quiet");
    memset(longest, 'x', sizeof(longest));
    longest[STATE_NAME_MAX + 1] = 0;
    static const char *const bad[] = {"",    ".",        "..",      ".x",  "-x", "a/b", "a b",
                                      "a\n", "\xc3\xa9", "../../x", "a:b", "*",  "~"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        g.cfg.task.name = bad[i];
        assert_int_equal(state_task_name(name, &g.cfg.task, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--task"));
    }
    g.cfg.task.name = longest;
    assert_int_equal(state_task_name(name, &g.cfg.task, &err), -1);
    longest[STATE_NAME_MAX] = 0;
    assert_int_equal(state_task_name(name, &g.cfg.task, &err), 0);
    assert_string_equal(name, longest);
    g.cfg.task.name = "_Shop-2.b";
    assert_int_equal(state_task_name(name, &g.cfg.task, &err), 0);
    assert_string_equal(name, "_Shop-2.b");
    take_back(&g);
}

static void test_root(void **state)
{
    (void)state;
    char path[100], small[8];
    struct err err;
    setenv("HOME", "/home/me", 1);
    setenv("XDG_STATE_HOME", "/xdg", 1);
    assert_int_equal(state_root(path, sizeof(path), "given", &err), 0);
    assert_string_equal(path, "given");
    assert_int_equal(state_root(path, sizeof(path), NULL, &err), 0);
    assert_string_equal(path, "/xdg/keyhaul");
    assert_int_equal(state_root(small, sizeof(small), NULL, &err), -1);
    setenv("XDG_STATE_HOME", "relative", 1);
    assert_int_equal(state_root(path, sizeof(path), NULL, &err), 0);
    assert_string_equal(path, "/home/me/.local/state/keyhaul");
    unsetenv("XDG_STATE_HOME");
    unsetenv("HOME");
    assert_int_equal(state_root(path, sizeof(path), NULL, &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "--state-dir"));
}

/* --- from run to run --- */

static void test_goes_on(void **state)
{
    (void)state;
    struct given g;
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    assert_false(state_known(s));
    struct state_progress before = *state_progress(s);
    assert_string_equal(state_name(s), "shop");
    assert_string_equal(state_dir(s), file("shop"));
    assert_string_equal(state_spool_dir(s), file("shop/spool"));
    assert_string_equal(state_existing_path(s), file("shop/existing.keys"));
    assert_string_equal(state_metrics_path(s), file("shop/metrics.json"));
    put(file("shop/existing.keys"), "x", 1);
    put(file("shop/spool/1.seg"), "x", 1);
    state_close(s, false);
    s = must_open(&g);
    assert_true(state_known(s));
    struct state_progress *now = state_progress(s);
    assert_int_equal(now->phase, STATE_STREAM);
    assert_int_equal(now->snapshots, 1);
    assert_string_equal(now->replid, STATE_KIT_REPLID);
    assert_int_equal(now->spool_pos, 17);
    assert_int_equal(now->spool_offset, INT64_MAX);
    assert_true(now->spool_valid);
    assert_false(now->clean);
    assert_int_equal(now->hold_base_ms, 12345);
    assert_true(before.seed == now->seed && now->seed != 0);
    assert_true(there(file("shop/existing.keys")) && there(file("shop/spool/1.seg")));
    state_close(s, true);
    assert_false(there(file("shop")));
    s = must_open(&g);
    assert_false(state_known(s));
    assert_false(there(file("shop/existing.keys")));
    assert_true(state_progress(s)->seed != before.seed);
    assert_true(state_progress(s)->clean);
    state_close(s, false);
    take_back(&g);
}

static void test_modes(void **state)
{
    (void)state;
    struct given g;
    mode_t mask = umask(0);
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    umask(mask);
    assert_int_equal(mode_of(file("shop")), 0700);
    assert_int_equal(mode_of(file("shop/spool")), 0700);
    assert_int_equal(mode_of(file("shop/lock")), 0600);
    assert_int_equal(mode_of(file("shop/task.json")), 0600);
    assert_int_equal(mode_of(file("shop/state.json")), 0600);
    state_close(s, true);
    take_back(&g);
}

/* What has written nothing leaves nothing; what a killed run left of that is begun anew. */
static void test_new_counts_for_nothing(void **state)
{
    (void)state;
    struct given g, other;
    struct err err;
    GIVE(&g, "--task", "shop");
    GIVE(&other, "--task", "shop", "--on-conflict", "overwrite");
    state_close(must_open(&g), false);
    assert_false(there(file("shop")));
    pid_t child = fork();
    if (child == 0) {
        must_open(&g);
        put(file("shop/existing.keys"), "x", 1);
        put(file("shop/state.json.123.0.tmp"), "x", 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    assert_true(there(file("shop/existing.keys")));
    struct state *s = must_open(&other);
    assert_false(state_known(s));
    assert_false(there(file("shop/existing.keys")));
    assert_false(there(file("shop/state.json.123.0.tmp")));
    state_close(s, false);
    child = fork();
    if (child == 0) {
        s = must_begin(&g);
        state_progress(s)->phase = STATE_DONE;
        _exit(state_save(s, &err) < 0); /* before it was removed */
    }
    waitpid(child, NULL, 0);
    assert_true(there(file("shop/state.json")));
    s = must_open(&other);
    assert_false(state_known(s));
    assert_int_equal(state_progress(s)->phase, STATE_NEW);
    state_close(s, false);
    take_back(&g);
    take_back(&other);
}

static void test_save(void **state)
{
    (void)state;
    struct given g;
    struct err err;
    struct stat a, b, c;
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    assert_int_equal(stat(file("shop/state.json"), &a), 0);
    int held = open(file("shop/state.json"), O_RDONLY); /* so that its number is not used again */
    assert_int_equal(state_save(s, &err), 0);
    assert_int_equal(stat(file("shop/state.json"), &b), 0);
    assert_int_equal(a.st_ino, b.st_ino); /* unchanged: not written */
    state_progress(s)->spool_offset--;
    assert_int_equal(state_save(s, &err), 0);
    assert_int_equal(stat(file("shop/state.json"), &c), 0);
    assert_int_not_equal(a.st_ino, c.st_ino);
    close(held);
    /* a save that failed is made up for by the next, though nothing has changed since */
    state_progress(s)->spool_offset--;
    char *away = strdup(file("x"));
    assert_int_equal(rename(file("shop"), away), 0);
    assert_int_equal(state_save(s, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(rename(away, file("shop")), 0);
    free(away);
    assert_int_equal(state_save(s, &err), 0);
    state_close(s, false);
    s = must_open(&g);
    assert_true(state_progress(s)->spool_offset == (uint64_t)INT64_MAX - 2);
    state_close(s, true);
    take_back(&g);
}

/* --- the lock --- */

/* Holds the task until it is told to go, in a process of its own. */
static pid_t hold(const struct given *g, int ret_pipe[2])
{
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(ret_pipe), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ret_pipe[1]);
        struct state *s = must_begin(g);
        if (write(ready[1], "x", 1) != 1 || read(ret_pipe[0], &byte, 1) < 0) _exit(1);
        state_close(s, byte == 'r');
        _exit(0);
    }
    close(ready[1]);
    close(ret_pipe[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static void test_lock(void **state)
{
    (void)state;
    struct given g;
    struct err err;
    struct state_seen seen;
    int leash[2];
    char number[32];
    bool running;
    long pid;
    GIVE(&g, "--task", "shop", "--restart");
    pid_t child = hold(&g, leash);
    assert_int_equal(must_refuse(&g, &err), ERR_REFUSED);
    snprintf(number, sizeof(number), "process %d;", child);
    assert_non_null(strstr(err.msg, number));
    assert_non_null(strstr(err.msg, "keyhaul stop shop"));
    char *text = slurp(file("shop/lock"));
    snprintf(number, sizeof(number), "%d\n", child);
    assert_string_equal(text, number);
    free(text);
    /* the text is for people only */
    int fd = open(file("shop/lock"), O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "1\n", 2), 2);
    close(fd);
    assert_int_equal(state_running(state_kit_root(), "shop", &running, &pid, &err), 0);
    assert_true(running);
    assert_int_equal(pid, child);
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_true(seen.running && !seen.damaged);
    assert_int_equal(seen.pid, child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(leash[1]);
    assert_int_equal(state_running(state_kit_root(), "shop", &running, &pid, &err), 0);
    assert_false(running);
    assert_int_equal(pid, 0);
    struct state *s = must_open(&g); /* --restart, but of the same shape */
    assert_true(state_known(s));
    state_close(s, true);
    assert_int_equal(state_running(state_kit_root(), "shop", &running, &pid, &err), 0);
    assert_false(running);
    take_back(&g);
}

/* Whoever waits for the lock of a folder that is being removed makes a new one. */
static void test_removed_meanwhile(void **state)
{
    (void)state;
    struct given g;
    int leash[2];
    GIVE(&g, "--task", "shop");
    for (int round = 0; round < 20; round++) {
        pid_t child = hold(&g, leash);
        assert_int_equal(write(leash[1], "r", 1), 1);
        struct state *s = must_open(&g);
        waitpid(child, NULL, 0);
        close(leash[1]);
        assert_false(state_known(s));
        assert_true(there(file("shop/state.json")) && there(file("shop/lock")));
        state_close(s, true);
    }
    take_back(&g);
}

/* Looking takes the lock for a moment; that must not keep a run from starting. */
static void test_look_harms_nothing(void **state)
{
    (void)state;
    struct given g;
    GIVE(&g, "--task", "shop");
    state_close(must_begin(&g), false);
    pid_t child = fork();
    if (child == 0) {
        bool running;
        long pid;
        struct err err;
        for (;;)
            if (state_running(state_kit_root(), "shop", &running, &pid, &err) < 0) _exit(1);
    }
    for (int i = 0; i < 200; i++)
        state_close(must_open(&g), false);
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    take_back(&g);
}

/* --- another task --- */

static void test_refuses_another(void **state)
{
    (void)state;
    static const struct {
        const char *args[10], *words;
    } other[] = {
        {{"--source", "redis://older:1", "--target", "redis://new:2"},
         "--source was redis://old:1, now redis://older:1"},
        {{"--source", "redis://old:1", "--target", "rediss://new:2"},
         "--target was redis://new:2, now rediss://new:2"},
        {{"--source", "redis://old:1", "--target", "redis://new:2", "--db", "0-3,7"},
         "--db was all, now 0-3,7"},
        {{"--source", "redis://old:1", "--target", "redis://new:2", "--db-map", "5:3,3:5,1:1"},
         "--db-map was not given, now 3:5,5:3"},
        {{"--source", "redis://old:1", "--target", "redis://new:2", "--type", "incremental"},
         "--type was full+incremental, now incremental"},
        {{"--source", "redis://old:1", "--target", "redis://new:2", "--on-conflict", "skip"},
         "--on-conflict was fail, now skip"},
        {{"--source", "redis://old:1/4", "--target", "redis://new:2/5"},
         "--db was all, now 4; --db-map was not given, now 4:5"},
    };
    struct given g, o;
    struct err err;
    GIVE(&g, "--task", "shop");
    state_close(must_begin(&g), false);
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        give(&o, other[i].args);
        o.cfg.task.name = "shop";
        assert_int_equal(must_refuse(&o, &err), ERR_REFUSED);
        if (!strstr(err.msg, other[i].words)) fail_msg("%s", err.msg);
        assert_non_null(strstr(err.msg, "--task"));
        assert_non_null(strstr(err.msg, "--restart"));
        take_back(&o);
    }
    /* what makes no other task of it */
    give(&o, (const char *const[]){"--source", "redis://me:" STATE_KIT_SECRET "@OLD:1", "--target",
                                   "redis://new:2", "--task", "shop", "--io-timeout", "3s", "--db",
                                   "all", "--db-map", "2:2", "--on-error", "continue", NULL});
    struct state *s = must_open(&o);
    assert_true(state_known(s));
    state_close(s, false);
    take_back(&o);
    take_back(&g);
}

static void test_restart_empties_another(void **state)
{
    (void)state;
    struct given g, o;
    GIVE(&g, "--task", "shop");
    GIVE(&o, "--task", "shop", "--restart", "--db", "1");
    struct state *s = must_begin(&g);
    put(file("shop/existing.keys"), "x", 1);
    put(file("shop/spool/1.seg"), "x", 1);
    state_close(s, false);
    s = must_open(&o);
    assert_false(state_known(s));
    assert_int_equal(state_progress(s)->phase, STATE_NEW);
    assert_false(there(file("shop/existing.keys")) || there(file("shop/spool/1.seg")));
    state_progress(s)->phase = STATE_LOADING;
    struct err err;
    assert_int_equal(state_save(s, &err), 0);
    state_close(s, false);
    assert_int_equal(must_refuse(&g, &err), ERR_REFUSED);
    take_back(&g);
    take_back(&o);
}

static void test_spool_dir(void **state)
{
    (void)state;
    struct given g, o;
    char first[200];
    GIVE(&g, "--task", "shop", "--spool-dir", state_kit_spool_root());
    GIVE(&o, "--task", "shop");
    struct state *s = must_begin(&g);
    snprintf(first, sizeof(first), "%s", state_spool_dir(s));
    assert_int_equal(strncmp(first, state_kit_spool_root(), strlen(state_kit_spool_root())), 0);
    assert_int_equal(mode_of(first), 0700);
    snprintf(first + strlen(first), 20, "/1.seg");
    put(first, "x", 1);
    state_close(s, false);
    s = must_open(&g);
    assert_true(state_progress(s)->spool_valid && there(first));
    state_close(s, false);
    s = must_open(&o); /* elsewhere: what waits there is of no use */
    assert_true(state_known(s));
    assert_false(state_progress(s)->spool_valid);
    assert_int_equal(state_progress(s)->phase, STATE_STREAM);
    state_close(s, false);
    s = must_open(&g);
    state_close(s, true);
    assert_false(there(first));
    *strrchr(first, '/') = 0;
    assert_false(there(first));
    assert_true(there(state_kit_spool_root()));
    take_back(&g);
    take_back(&o);
}

/* --- looking --- */

struct seen_names {
    char text[400];
    unsigned damaged;
};

static int note(void *ctx, const struct state_seen *seen, struct err *err)
{
    struct seen_names *s = ctx;
    (void)err;
    snprintf(s->text + strlen(s->text), sizeof(s->text) - strlen(s->text), "%s ", seen->name);
    s->damaged += seen->damaged;
    return 0;
}

static void test_each(void **state)
{
    (void)state;
    struct seen_names names = {0};
    struct err err = {0};
    struct state_seen seen;
    assert_int_equal(state_each(state_kit_root(), note, &names, &err), 0);
    assert_int_equal(state_each("/no/such/folder", note, &names, &err), 0);
    assert_string_equal(names.text, "");
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "no task at all"));
    begin_named("shop");
    begin_named("cart");
    begin_named("users");
    put(file("cart/state.json"), "{", 1);
    mkdir(file("not a task"), 0700);
    mkdir(file("empty"), 0700);
    mkdir(file(".shop.gone"), 0700);
    put(file("flat"), "x", 1);
    assert_int_equal(state_each(state_kit_root(), note, &names, &err), 0);
    assert_string_equal(names.text, "cart shop users ");
    assert_int_equal(names.damaged, 1);
    assert_int_equal(state_see(&seen, state_kit_root(), "shopp", &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "cart, shop, users"));
    assert_int_equal(state_see(&seen, state_kit_root(), "../x", &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
}

static void test_see(void **state)
{
    (void)state;
    static const char metrics[] =
        "{\"schema\":1,\"wall_ms\":1700,\"phase\":\"str\\u001bea\\n\",\"outcome\":\"failed\","
        "\"error\":\"target: no\",\"counters\":{\"lag_bytes\":5,\"lag_ms\":6,\"keys_written\":7,"
        "\"commands_written\":8,\"errors\":\"x\"}}";
    struct err err = {0};
    struct state_seen seen;
    begin_named("shop");
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_string_equal(seen.source, "redis://old:1");
    assert_string_equal(seen.target, "redis://new:2");
    assert_int_equal(seen.progress.phase, STATE_STREAM);
    assert_int_equal(seen.progress.spool_pos, 17);
    assert_string_equal(seen.phase, "");
    assert_int_equal(seen.lag_bytes, -1);
    assert_int_equal(seen.updated_ms, -1);
    put(file("shop/metrics.json"), metrics, strlen(metrics));
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_string_equal(seen.phase, "str?ea?");
    assert_string_equal(seen.outcome, "failed");
    assert_string_equal(seen.error, "target: no");
    assert_int_equal(seen.lag_bytes, 5);
    assert_int_equal(seen.lag_ms, 6);
    assert_int_equal(seen.keys, 7);
    assert_int_equal(seen.commands, 8);
    assert_int_equal(seen.errors, -1);
    assert_int_equal(seen.updated_ms, 1700);
    put(file("shop/metrics.json"), "{\"counters\":[", 13);
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_false(seen.damaged);
    assert_int_equal(seen.lag_bytes, -1);
}

/* The figures of the run before are those that this one goes on from, whatever came after them. */
static void test_moved_by_all_runs(void **state)
{
    (void)state;
    static const char metrics[] = "{\"counters\":{\"keys_written\":7,\"keys_before\":500,"
                                  "\"commands_written\":8,\"commands_before\":1000}}";
    struct err err = {0};
    struct state_seen seen;
    struct given g;
    begin_named("shop");
    put(file("shop/metrics.json"), metrics, strlen(metrics));
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_int_equal(seen.keys, 507);
    assert_int_equal(seen.commands, 1008);
    GIVE(&g, "--task", "shop");
    for (int i = 0; i < 2; i++) { /* killed before it wrote figures of its own */
        struct state *s = must_open(&g);
        assert_int_equal(state_progress(s)->keys_before, 507);
        assert_int_equal(state_progress(s)->commands_before, 1008);
        state_close(s, false);
    }
    assert_int_equal(unlink(file("shop/metrics.json")), 0); /* by a power cut */
    struct state *s = must_open(&g);
    assert_int_equal(state_progress(s)->keys_before, 507);
    assert_int_equal(state_progress(s)->commands_before, 1008);
    state_close(s, true);
    take_back(&g);
}

static void test_waits(void **state)
{
    (void)state;
    static const char metrics[] =
        "{\"wall_ms\":1700,\"mono_ms\":50,\"outcome\":null,\"waiting_why\":\"no\\u001b\","
        "\"counters\":{\"waiting_for\":2,\"waiting_until_ms\":80}}";
    struct err err = {0};
    struct state_seen seen;
    struct given g;
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    put(file("shop/metrics.json"), metrics, strlen(metrics));
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_true(seen.running);
    assert_int_equal(seen.waiting_for, COUNTERS_WAITS_FOR_TARGET);
    assert_int_equal(seen.waiting_until_ms, 1730);
    assert_string_equal(seen.waiting_why, "no?");
    state_close(s, false);
    assert_int_equal(state_see(&seen, state_kit_root(), "shop", &err), 0);
    assert_false(seen.running); /* nothing waits that does not run */
    assert_int_equal(seen.waiting_for, COUNTERS_WAITS_FOR_NONE);
    assert_string_equal(seen.waiting_why, "");
    take_back(&g);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, state_kit_make, state_kit_drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_plain_names),
        TEST(test_names_differ),
        TEST(test_given_names),
        TEST(test_root),
        TEST(test_goes_on),
        TEST(test_modes),
        TEST(test_new_counts_for_nothing),
        TEST(test_save),
        TEST(test_lock),
        TEST(test_removed_meanwhile),
        TEST(test_look_harms_nothing),
        TEST(test_refuses_another),
        TEST(test_restart_empties_another),
        TEST(test_spool_dir),
        TEST(test_each),
        TEST(test_see),
        TEST(test_moved_by_all_runs),
        TEST(test_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
