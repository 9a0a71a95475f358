// SPDX-License-Identifier: BSD-3-Clause
// The sweep and the note against a scripted target: old ones, faults that pass, those that do not.
#include "engine/reconcile.h"

#include "base/clock.h"
#include "redis/fake_server.h"
#include "redis/scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define STEP(command, answer)                                                                      \
    {                                                                                              \
        .expect = (command), .reply = (answer)                                                     \
    }
#define ABC   "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"
#define SCAN1 "*2\r\n$1\r\n0\r\n" ABC

static char dir[64], path[80];

/* INFO as it comes: db0 has keys, but for the last two. */
static char new_info[200], v3_info[200], old_info[200], replica[200], loading[200], empty[200];

static void set_info(char out[200], const char *version, const char *role, const char *rest)
{
    char text[150];
    int n = snprintf(text, sizeof(text), "redis_version:%s\r\nrole:%s\r\n%s\r\n", version, role,
                     rest);
    snprintf(out, 200, "$%d\r\n%s\r\n", n, text);
}

static int make_dir(void **state)
{
    (void)state;
    set_info(new_info, "7.0.15", "master", "db0:keys=3,expires=0");
    set_info(v3_info, "3.2.12", "master", "db0:keys=3,expires=0");
    set_info(old_info, "2.6.17", "master", "db0:keys=3,expires=0");
    set_info(replica, "7.0.15", "slave", "db0:keys=3,expires=0");
    set_info(loading, "7.0.15", "master", "loading:1");
    set_info(empty, "7.0.15", "master", "");
    snprintf(dir, sizeof(dir), "/tmp/kh-reconcile-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof(path), "%s/existing.keys", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

struct told {
    uint64_t deleted;
    unsigned steps;
    struct err err;
    char log[16384];
};

static int step(void *ctx, int max_wait_ms, struct err *err)
{
    struct told *t = ctx;
    (void)err;
    assert_int_equal(max_wait_ms, 0);
    t->steps++;
    return 0;
}

static int step_fails(void *ctx, int max_wait_ms, struct err *err)
{
    (void)ctx;
    (void)max_wait_ms;
    return err_set(err, ERR_STOPPED, "stopped by the step");
}

static void start(struct fake_server *s, struct fake_step all[8], const struct fake_step *steps,
                  size_t n)
{
    assert_true(n < 8);
    all[0] = (struct fake_step)STEP("PING", "+PONG\r\n");
    memcpy(all + 1, steps, n * sizeof(*steps));
    fake_start(s, all, n + 1, true);
}

/* A sweep where "b" has been seen, and "c" stood there before. */
static int sweep(const struct fake_step *steps, size_t n, struct told *t,
                 int (*step_fn)(void *, int, struct err *))
{
    struct fake_server s;
    struct client *c = NULL;
    struct counters counters = {0};
    static struct db_select all = {.all = true};
    struct server_facts facts = {0};
    struct reconcile rc;
    *t = (struct told){.deleted = 77};
    struct fake_step with_ping[8];
    start(&s, with_ping, steps, n);
    struct client_config cfg = fake_config(&s, "target");
    assert_int_equal(client_open(&c, &cfg, &t->err), 0);
    assert_int_equal(facts_read(c, &facts, &t->err), 0);
    unlink(path);
    assert_int_equal(reconcile_begin(&rc, &all, &counters, dir, path, false, &t->err), 0);
    assert_null(rc.existing);
    assert_int_equal(keyset_new(&rc.existing, dir, 5, 0, NULL), 0);
    assert_int_equal(keyset_add(rc.existing, 0, span_str("c"), NULL), 0);
    assert_int_equal(keyset_seal(rc.existing, NULL), 0);
    assert_int_equal(reconcile_seen(&rc, 0, span_str("b"), NULL), 0);
    assert_int_equal(reconcile_loaded(&rc, NULL), 0);
    int done = reconcile_sweep(&rc, &(struct primaries){.one = c}, &facts, step_fn, t, &t->deleted,
                               &t->err);
    if (done == 0) assert_int_equal(counter_get(&counters.keys_deleted), t->deleted);
    reconcile_end(&rc);
    facts_release(&facts);
    client_close(c);
    fake_stop(&s);
    memcpy(t->log, s.log, sizeof(t->log));
    return done;
}
#define SWEEP(steps, t, step_fn) sweep(steps, sizeof(steps) / sizeof((steps)[0]), t, step_fn)

static void unlinks(void **state)
{
    (void)state;
    const struct fake_step steps[] = {STEP("INFO", new_info), STEP("FUNCTION LIST", "*0\r\n"),
                                      STEP("SCAN", SCAN1), STEP("UNLINK a", ":1\r\n")};
    struct told t;
    if (SWEEP(steps, &t, step) < 0) fail_msg("%s", t.err.msg);
    assert_int_equal(t.deleted, 1);
    assert_non_null(strstr(t.log, "UNLINK a\n"));
    assert_true(t.steps >= 1);
}

static void deletes_before_4_0(void **state)
{
    (void)state;
    const struct fake_step steps[] = {STEP("INFO", v3_info), STEP("SCAN", SCAN1),
                                      STEP("DEL a", ":1\r\n")};
    struct told t;
    if (SWEEP(steps, &t, NULL) < 0) fail_msg("%s", t.err.msg);
    assert_int_equal(t.deleted, 1);
    assert_non_null(strstr(t.log, "DEL a\n"));
    assert_null(strstr(t.log, "FUNCTION"));
}

static void lists_before_2_8(void **state)
{
    (void)state;
    const struct fake_step steps[] = {STEP("INFO", old_info), STEP("DBSIZE", ":3\r\n"),
                                      STEP("KEYS *", ABC), STEP("DEL a", ":1\r\n")};
    const struct fake_step many[] = {STEP("INFO", old_info), STEP("DBSIZE", ":100001\r\n")};
    struct told t;
    if (SWEEP(steps, &t, NULL) < 0) fail_msg("%s", t.err.msg);
    assert_int_equal(t.deleted, 1);
    assert_int_equal(SWEEP(many, &t, NULL), -1);
    assert_int_equal(t.err.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(t.err.msg, "100001 keys are too many"));
    assert_null(strstr(t.log, "KEYS"));
}

/* While the target says nothing, the others' work goes on. */
static void steps_while_waiting(void **state)
{
    (void)state;
    const struct fake_step steps[] = {STEP("INFO", new_info),
                                      STEP("FUNCTION LIST", "*0\r\n"),
                                      {.expect = "SCAN", .reply = SCAN1, .delay_ms = 400},
                                      STEP("UNLINK a", ":1\r\n")};
    struct told t;
    if (SWEEP(steps, &t, step) < 0) fail_msg("%s", t.err.msg);
    assert_true(t.steps >= 6);
    assert_int_equal(SWEEP(steps, &t, step_fails), -1);
    assert_int_equal(t.err.code, ERR_STOPPED);
}

static void check_passing(const struct fake_step *steps, size_t n, enum err_code code,
                          const char *words)
{
    struct told t;
    assert_int_equal(sweep(steps, n, &t, NULL), -1);
    if (t.err.code != code || !strstr(t.err.msg, words)) fail_msg("%s", t.err.msg);
    assert_int_equal(t.deleted, 77);
}

static void passing_faults(void **state)
{
    (void)state;
    const struct {
        const char *info, *scan, *unlink;
        enum err_code code;
        const char *words;
    } cases[] = {
        {new_info, "-LOADING Redis is loading\r\n", NULL, ERR_BUSY, "loading"},
        {new_info, "-BUSY a script\r\n", NULL, ERR_BUSY, "BUSY"},
        {new_info, SCAN1, "-READONLY You can't write\r\n", ERR_BUSY, "READONLY"},
        {new_info, SCAN1, "-MISCONF no disk\r\n", ERR_BUSY, "MISCONF"},
        {replica, SCAN1, ":1\r\n", ERR_BUSY, "has become a replica"},
        {loading, SCAN1, ":1\r\n", ERR_BUSY, "is loading its data"},
        {new_info, "-NOPERM this user has no permissions\r\n", NULL, ERR_PERM, "+scan"},
        {new_info, SCAN1, "-ERR no\r\n", ERR_TARGET, "UNLINK"},
        {new_info, "*1\r\n$1\r\n0\r\n", NULL, ERR_PROTO, "SCAN"},
        {new_info, "*2\r\n$1\r\nx\r\n*0\r\n", NULL, ERR_PROTO, "SCAN"},
        {new_info, "*2\r\n$1\r\n0\r\n*1\r\n:5\r\n", NULL, ERR_PROTO, "SCAN"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct fake_step steps[] = {
            STEP("INFO", cases[i].info), STEP("FUNCTION LIST", "*0\r\n"),
            STEP("SCAN", cases[i].scan),
            STEP("UNLINK", cases[i].unlink ? cases[i].unlink : ":1\r\n")};
        check_passing(steps, 4, cases[i].code, cases[i].words);
    }
}

static void hung_up(void **state)
{
    (void)state;
    const struct fake_step steps[] = {STEP("INFO", new_info),
                                      STEP("FUNCTION LIST", "*0\r\n"),
                                      {.expect = "SCAN", .hang_up = true}};
    struct told t;
    assert_int_equal(SWEEP(steps, &t, NULL), -1);
    assert_int_equal(t.err.code, ERR_NET);
}

static void libraries_that_cannot_be_listed(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        STEP("INFO", new_info),
        STEP("FUNCTION LIST", "-NOPERM no permissions to run 'function|list'\r\n"),
        STEP("SCAN", SCAN1), STEP("UNLINK a", ":1\r\n")};
    const struct fake_step not_yet[] = {STEP("INFO", new_info),
                                        STEP("FUNCTION LIST", "-LOADING l\r\n")};
    struct told t;
    if (SWEEP(steps, &t, NULL) < 0) fail_msg("%s", t.err.msg);
    assert_int_equal(t.deleted, 1);
    assert_int_equal(SWEEP(not_yet, &t, NULL), -1);
    assert_int_equal(t.err.code, ERR_BUSY);
}

/* --- noting --- */

static int note(const struct fake_step *steps, size_t n, struct err *err)
{
    struct fake_server s;
    struct client *c = NULL;
    static struct db_select all = {.all = true};
    struct server_facts facts = {0};
    struct fake_step with_ping[8];
    start(&s, with_ping, steps, n);
    struct client_config cfg = fake_config(&s, "target");
    if (client_open(&c, &cfg, err) < 0 || facts_read(c, &facts, err) < 0) fail_msg("%s", err->msg);
    int done = reconcile_note_existing(&(struct primaries){.one = c}, &facts, &all, dir, path, err);
    facts_release(&facts);
    client_close(c);
    fake_stop(&s);
    return done;
}

static void notes(void **state)
{
    (void)state;
    const struct fake_step full[] = {STEP("INFO", new_info), STEP("FUNCTION LIST", "*0\r\n"),
                                     STEP("SCAN", SCAN1)};
    const struct fake_step none[] = {STEP("INFO", empty), STEP("FUNCTION LIST", "*0\r\n")};
    const struct fake_step own[] = {
        STEP("INFO", new_info), STEP("FUNCTION LIST", "*0\r\n"),
        STEP("SCAN", "*2\r\n$1\r\n0\r\n*1\r\n$20\r\nkeyhaul:checkpoint:x\r\n")};
    const struct fake_step not_yet[] = {STEP("INFO", loading), STEP("FUNCTION LIST", "*0\r\n")};
    struct err err = {0};
    struct keyset *k = NULL;
    if (note(full, 3, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(keyset_load(&k, path, NULL), 0);
    assert_int_equal(keyset_count(k), 3 + 1); /* and that nothing was swapped */
    keyset_free(k);
    if (note(none, 2, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(access(path, F_OK), -1); /* that of an earlier run is gone */
    if (note(own, 3, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(note(not_yet, 2, &err), -1); /* it does not tell yet what it has */
    assert_int_equal(err.code, ERR_BUSY);
}

static void damaged_notes(void **state)
{
    (void)state;
    struct reconcile rc;
    struct err err = {0};
    static struct db_select all = {.all = true};
    struct counters counters = {0};
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("not a set of keys, but long enough to be one of them", f);
    fclose(f);
    assert_int_equal(reconcile_begin(&rc, &all, &counters, dir, path, false, &err), -1);
    assert_int_equal(err.code, ERR_FORMAT);
    if (!strstr(err.msg, path) || !strstr(err.msg, "remove the folder")) fail_msg("%s", err.msg);
    reconcile_end(&rc);
}

/* --- names of libraries --- */

static void library_names(void **state)
{
    (void)state;
    static const char *const codes[][2] = {
        {"#!lua name=mylib\nredis.x()", "mylib"},
        {"#!lua name=mylib", "mylib"},
        {"#!lua  NAME=a_1 \n", "a_1"},
        {"#!lua name=x\r\nname=y", "x"},
        {"#!lua\n-- name=no", ""},
        {"", ""},
        {"name=x", ""},
        {"#!lua name=", ""},
        {"#!lua name=\n", ""},
        {"#!js filename=a name=b\n", "b"},
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct span name = reconcile_library_name(span_str(codes[i][0]));
        if (!span_eq(name, span_str(codes[i][1]))) fail_msg("%s", codes[i][0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unlinks),
        cmocka_unit_test(deletes_before_4_0),
        cmocka_unit_test(lists_before_2_8),
        cmocka_unit_test(steps_while_waiting),
        cmocka_unit_test(passing_faults),
        cmocka_unit_test(hung_up),
        cmocka_unit_test(libraries_that_cannot_be_listed),
        cmocka_unit_test(notes),
        cmocka_unit_test(damaged_notes),
        cmocka_unit_test(library_names),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
