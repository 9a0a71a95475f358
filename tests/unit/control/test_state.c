// SPDX-License-Identifier: BSD-3-Clause
// A task's folder: made, locked, known again, refused, damaged, removed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/config.h"
#include "control/state.h"
#include "io/file.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET "s3cr3t-Pa55"
#define REPLID "0123456789abcdef0123456789abcdef01234567"

static char root[64], spool_root[80];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/kh-state-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(spool_root, sizeof(spool_root), "%s.spool", root);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    char command[200];
    snprintf(command, sizeof(command), "rm -rf %s %s", root, spool_root);
    return system(command);
}

/* --- tasks, as a command line gives them --- */

struct given {
    struct option_values values;
    struct config cfg;
};

static void give(struct given *g, const char *const *args)
{
    struct err err = {0};
    char *argv[32] = {strdup("migrate")};
    int argc = 1;
    for (; args[argc - 1]; argc++)
        argv[argc] = strdup(args[argc - 1]);
    argv[argc++] = strdup("--state-dir");
    argv[argc++] = strdup(root);
    int rc = options_parse(&g->values, OPTION_COMMAND_MIGRATE, argc, argv, &err);
    if (rc == 0) rc = config_from_options(&g->cfg, &g->values, &err);
    if (rc < 0) fail_msg("%s", err.msg);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
}

static void take_back(struct given *g)
{
    config_release(&g->cfg);
    options_release(&g->values);
}

#define GIVE(g, ...)                                                                               \
    give(g, (const char *const[]){"--source", "redis://old:1", "--target", "redis://new:2",        \
                                  __VA_ARGS__ __VA_OPT__(, ) NULL})

static struct state *must_open(const struct given *g)
{
    struct err err = {0};
    struct state *s = NULL;
    if (state_open(&s, &g->cfg.task, &g->values, &err) < 0) fail_msg("%s", err.msg);
    return s;
}

static enum err_code must_refuse(const struct given *g, struct err *err)
{
    struct state *s = NULL;
    assert_int_equal(state_open(&s, &g->cfg.task, &g->values, err), -1);
    assert_null(s);
    return err->code;
}

/* One that has come so far that it counts. */
static struct state *must_begin(const struct given *g)
{
    struct err err = {0};
    struct state *s = must_open(g);
    struct state_progress *p = state_progress(s);
    p->phase = STATE_STREAM;
    p->snapshots = 1;
    snprintf(p->replid, sizeof(p->replid), "%s", REPLID);
    p->spool_pos = 17;
    p->spool_offset = (uint64_t)INT64_MAX;
    p->spool_valid = true;
    p->clean = false;
    p->hold_base_ms = 12345;
    if (state_save(s, &err) < 0) fail_msg("%s", err.msg);
    return s;
}

/* --- files --- */

static const char *file(const char *name)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

static char *slurp(const char *path)
{
    struct buf b;
    struct err err;
    buf_init(&b, 1 << 20);
    if (file_read_whole(path, &b, &err) != 1) fail_msg("%s", path);
    char *text = strndup(b.n ? (char *)b.p : "", b.n);
    buf_release(&b);
    return text;
}

static void put(const char *path, const void *p, size_t n)
{
    struct err err;
    assert_int_equal(file_write_private(path, span_of(p, n), false, &err), 0);
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

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
    GIVE(&g);
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
    assert_string_equal(now->replid, REPLID);
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
    state_progress(s)->phase = STATE_DONE;
    assert_int_equal(state_save(s, &err), 0);
    state_close(s, false);
    assert_true(there(file("shop"))); /* finished, but not yet removed when it was killed */
    s = must_open(&g);
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
    char command[300];
    state_progress(s)->spool_offset--;
    snprintf(command, sizeof(command), "mv %s/shop %s/x", root, root);
    assert_int_equal(system(command), 0);
    assert_int_equal(state_save(s, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    snprintf(command, sizeof(command), "mv %s/x %s/shop", root, root);
    assert_int_equal(system(command), 0);
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
    assert_int_equal(atol(text), child);
    free(text);
    /* the text is for people only */
    int fd = open(file("shop/lock"), O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "1\n", 2), 2);
    close(fd);
    assert_int_equal(state_running(root, "shop", &running, &pid, &err), 0);
    assert_true(running);
    assert_int_equal(pid, child);
    assert_int_equal(state_see(&seen, root, "shop", &err), 0);
    assert_true(seen.running && !seen.damaged);
    assert_int_equal(seen.pid, child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(leash[1]);
    assert_int_equal(state_running(root, "shop", &running, &pid, &err), 0);
    assert_false(running);
    assert_int_equal(pid, 0);
    struct state *s = must_open(&g); /* --restart, but of the same shape */
    assert_true(state_known(s));
    state_close(s, true);
    assert_int_equal(state_running(root, "shop", &running, &pid, &err), 0);
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
            if (state_running(root, "shop", &running, &pid, &err) < 0) _exit(1);
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
    give(&o, (const char *const[]){"--source", "redis://me:" SECRET "@OLD:1", "--target",
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
    GIVE(&g, "--task", "shop", "--spool-dir", spool_root);
    GIVE(&o, "--task", "shop");
    struct state *s = must_begin(&g);
    snprintf(first, sizeof(first), "%s", state_spool_dir(s));
    assert_int_equal(strncmp(first, spool_root, strlen(spool_root)), 0);
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
    assert_true(there(spool_root));
    take_back(&g);
    take_back(&o);
}

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
    if (state_options(&v, root, "shop", &err) < 0) fail_msg("%s", err.msg);
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
        if (strcasestr(text, SECRET) || strcasestr(text, "Pa55"))
            fail_msg("%s: %s", names[i], text);
        free(text);
    }
}

static void test_passwords_are_not_kept(void **state)
{
    (void)state;
    static const char *const uris[] = {
        "redis://me:" SECRET "@old:1/3",   "redis://:" SECRET "@old:1/3",
        "redis://me:x@" SECRET "@old:1/3", "redis://me:x:" SECRET "@old:1?db=3",
        "rediss://me:" SECRET "@old:1/3",  "unix://me:" SECRET "@/run/x.sock?db=3"};
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        struct given g;
        struct option_values v;
        struct err err = {0};
        give(&g, (const char *const[]){"--source", uris[i], "--target", "redis://new:2", "--task",
                                       "shop", "--restart", "--db-map", "3:3", NULL});
        reopen(&v, &g);
        expect_no_secret();
        assert_int_equal(state_options(&v, root, "shop", &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--source-password-file"));
        assert_non_null(strstr(err.msg, "KEYHAUL_SOURCE_PASSWORD"));
        options_release(&v);
        v = (struct option_values){.command = OPTION_COMMAND_MIGRATE};
        v.text[OPTION_ENV_SOURCE_PASSWORD] = strdup("again");
        if (state_options(&v, root, "shop", &err) < 0) fail_msg("%s", err.msg);
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
    {REPLID, "0123"},
    {REPLID, REPLID REPLID},
    {REPLID, "x123456789abcdef0123456789abcdef01234567"},
    {"\"spool_dir\":", "\"spool_dirt\":"},
    {"\"spool_valid\":true", "\"spool_valid\":1"},
    {"\"spool_pos\":17", "\"spool_pos\":-17"},
    {"\"spool_pos\":17", "\"spool_pos\":null"},
    {"\"spool_offset\":9223372036854775807", "\"spool_offset\":18446744073709551615"},
    {"\"seed\":\"", "\"seed\":\"0"},
    {"\"seed\":\"", "\"seed\":\"\",\"x\":\""},
};

static void expect_damaged(const struct given *g, const char *name, const char *text, size_t n)
{
    struct err err = {0};
    struct state_seen seen;
    char *path = strdup(file(name));
    put(path, text, n);
    assert_int_equal(must_refuse(g, &err), ERR_FORMAT);
    if (!strstr(err.msg, path) || !strstr(err.msg, "--restart")) fail_msg("%s", err.msg);
    assert_int_equal(state_see(&seen, root, "shop", &err), 0);
    assert_true(seen.damaged);
    assert_non_null(strstr(seen.why, path));
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
        if (state_options(&v, root, "shop", &err) < 0) assert_true(*err.msg);
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
        if (state_options(&v, root, "shop", &err) == 0) fail_msg("%s", options[i]);
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

static void begin_named(const char *name)
{
    struct given g;
    GIVE(&g, "--task", name);
    state_close(must_begin(&g), false);
    take_back(&g);
}

static void test_each(void **state)
{
    (void)state;
    struct seen_names names = {0};
    struct err err = {0};
    struct state_seen seen;
    assert_int_equal(state_each(root, note, &names, &err), 0);
    assert_int_equal(state_each("/no/such/folder", note, &names, &err), 0);
    assert_string_equal(names.text, "");
    assert_int_equal(state_see(&seen, root, "shop", &err), -1);
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
    assert_int_equal(state_each(root, note, &names, &err), 0);
    assert_string_equal(names.text, "cart shop users ");
    assert_int_equal(names.damaged, 1);
    assert_int_equal(state_see(&seen, root, "shopp", &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, "cart, shop, users"));
    assert_int_equal(state_see(&seen, root, "../x", &err), -1);
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
    assert_int_equal(state_see(&seen, root, "shop", &err), 0);
    assert_string_equal(seen.source, "redis://old:1");
    assert_string_equal(seen.target, "redis://new:2");
    assert_int_equal(seen.progress.phase, STATE_STREAM);
    assert_int_equal(seen.progress.spool_pos, 17);
    assert_string_equal(seen.phase, "");
    assert_int_equal(seen.lag_bytes, -1);
    assert_int_equal(seen.updated_ms, -1);
    put(file("shop/metrics.json"), metrics, strlen(metrics));
    assert_int_equal(state_see(&seen, root, "shop", &err), 0);
    assert_string_equal(seen.phase, "str?ea?");
    assert_string_equal(seen.outcome, "failed");
    assert_string_equal(seen.error, "target: no");
    assert_int_equal(seen.lag_bytes, 5);
    assert_int_equal(seen.lag_ms, 6);
    assert_int_equal(seen.keys_written, 7);
    assert_int_equal(seen.commands_written, 8);
    assert_int_equal(seen.errors, -1);
    assert_int_equal(seen.updated_ms, 1700);
    put(file("shop/metrics.json"), "{\"counters\":[", 13);
    assert_int_equal(state_see(&seen, root, "shop", &err), 0);
    assert_false(seen.damaged);
    assert_int_equal(seen.lag_bytes, -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, drop_root)

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
        TEST(test_options_again),
        TEST(test_passwords_are_not_kept),
        TEST(test_damaged_state),
        TEST(test_damaged_task),
        TEST(test_hostile_options),
        TEST(test_not_files),
        TEST(test_each),
        TEST(test_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
