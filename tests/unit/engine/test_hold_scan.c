// SPDX-License-Identifier: BSD-3-Clause
// hold_scan: what a killed run held is found on real servers, whichever they are, and put right;
// nothing else is touched, and databases may change places meanwhile.
#include "engine/hold.h"

#include "base/clock.h"
#include "redis/live_server.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define KEYS      2500
#define YEAR_9999 INT64_C(253402300799000)
#define BASE_AGO  86400000 /* the run before began a day ago */

struct fixture {
    struct live_server srv;
    struct client *c; /* for the test */
    struct lane lane;
    struct refusals refusals;
    struct counters counters;
    atomic_bool stop;
    struct db_select select;
    struct hold h;
    int64_t now;
    struct err err;
};

static int step(void *ctx, int max_wait_ms, struct err *err)
{
    struct fixture *f = ctx;
    struct pollfd p = {.fd = conn_fd(f->lane.conn), .events = lane_poll_events(&f->lane)};
    poll(&p, 1, max_wait_ms);
    return lane_pump(&f->lane, p.revents != 0, err) < 0 ? -1 : 0;
}

static struct fixture *fixture(const char *program, bool exact)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    live_start_program(&f->srv, program, false, NULL);
    f->c = live_client(&f->srv, "target");
    f->refusals = (struct refusals){.policy = TASK_ON_ERROR_STOP, .counters = &f->counters};
    struct lane_config cfg = {.refusals = &f->refusals,
                              .counters = &f->counters,
                              .stop = &f->stop,
                              .retry_limit_ms = 1000,
                              .io_timeout_ms = 5000,
                              .step = step,
                              .step_ctx = f};
    assert_int_equal(client_take_conn(live_client(&f->srv, "target"), &cfg.conn, &f->err), 0);
    assert_int_equal(lane_init(&f->lane, &cfg, &f->err), 0);
    assert_int_equal(db_select_parse(&f->select, "0-1,5", &f->err), 0);
    f->now = clock_wall_ms();
    hold_init(&f->h, true, exact, f->srv.dir, 1 << 20);
    hold_set_base(&f->h, f->now - BASE_AGO);
    return f;
}

static void finish(struct fixture *f)
{
    hold_release(&f->h);
    lane_release(&f->lane);
    client_close(f->c);
    live_stop(&f->srv);
    free(f);
}

static void at(struct fixture *f, int db, const char *key, int64_t ms)
{
    char text[200];
    snprintf(text, sizeof(text), "SELECT %d", db);
    live_do(f->c, text);
    snprintf(text, sizeof(text), "SET %s v", key);
    live_do(f->c, text);
    snprintf(text, sizeof(text), "PEXPIREAT %s %" PRId64, key, ms);
    live_do(f->c, text);
}

/* As the run before has written it. */
static void held(struct fixture *f, int db, const char *key, int64_t ms)
{
    int64_t base = f->now - BASE_AGO;
    at(f, db, key, f->h.exact ? ms + HOLD_SHIFT_MS : HOLD_FAR_MS + (ms - base) * HOLD_SPREAD);
}

/* How far its deadline is from the one it should have. */
static int64_t off(struct fixture *f, int db, const char *key, int64_t ms)
{
    char text[40];
    struct reply *r;
    snprintf(text, sizeof(text), "SELECT %d", db);
    live_do(f->c, text);
    const char *ask = f->h.exact ? "PEXPIRETIME" : "PTTL";
    assert_int_equal(client_ask(f->c, &r, &f->err, ask, key, NULL), 0);
    int64_t told = r->integer;
    reply_free(r);
    if (told < 0) return told - INT32_MAX; /* none */
    return f->h.exact ? told - ms : told + clock_wall_ms() - ms;
}

static void scan(struct fixture *f)
{
    hold_scan_begin(&f->h, &f->select, f->now);
    assert_true(hold_scan_wanted(&f->h) && hold_scan_needs_client(&f->h));
    assert_int_equal(hold_scan_step(&f->h), 0); /* has no connection */
    hold_scan_client(&f->h, live_client(&f->srv, "target"));
    assert_false(hold_scan_needs_client(&f->h));
}

static void settle(struct fixture *f)
{
    if (hold_settle(&f->h, &f->lane, 0, &f->err) < 0) fail_msg("%s", f->err.msg);
    assert_int_equal(f->h.n, 0);
}

static void assert_at(struct fixture *f, int db, const char *key, int64_t ms)
{
    int64_t by = off(f, db, key, ms);
    if (f->h.exact ? by != 0 : by < -20 || by > 20)
        fail_msg("%s of %d is off by %" PRId64, key, db, by);
}

static void put_right_on(const char *program, bool exact)
{
    struct fixture *f = fixture(program, exact);
    char key[40];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        held(f, i % 2, key, f->now + 100000 + i);
    }
    held(f, 5, "five", f->now + 300 * INT64_C(86400000));
    held(f, 5, "passed", f->now - 1000);
    at(f, 0, "year9999", YEAR_9999);
    at(f, 0, "soon", f->now + 500000);
    scan(f);
    while (hold_scan_step(&f->h) > 0)
        continue;
    assert_false(hold_scan_wanted(&f->h));
    assert_in_range(f->h.n, KEYS + 2, 3 * KEYS);
    settle(f);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_at(f, i % 2, key, f->now + 100000 + i);
    }
    assert_at(f, 5, "five", f->now + 300 * INT64_C(86400000));
    assert_true(off(f, 5, "passed", 0) < -INT32_MAX);
    assert_at(f, 0, "year9999", YEAR_9999);
    assert_at(f, 0, "soon", f->now + 500000);
    finish(f);
}

static void put_right(void **state)
{
    (void)state;
    put_right_on("redis-server", true);
}

static void put_right_before_7_0(void **state)
{
    (void)state;
    char top[300], path[600];
    snprintf(path, sizeof(path), "%s/redis-6.0/bin/redis-server", live_folder(top, sizeof(top)));
    if (access(path, X_OK) != 0) skip();
    put_right_on(path, false);
}

/* Other databases than those that the task moves to may be another task's. */
static void others_are_left_alone(void **state)
{
    (void)state;
    struct fixture *f = fixture("redis-server", true);
    held(f, 3, "k", f->now + 100000);
    held(f, 1, "k", f->now + 100000);
    scan(f);
    while (hold_scan_step(&f->h) > 0)
        continue;
    assert_int_equal(f->h.n, 1);
    settle(f);
    assert_at(f, 3, "k", f->now + 100000 + HOLD_SHIFT_MS);
    assert_at(f, 1, "k", f->now + 100000);
    finish(f);
}

/* The stream goes on meanwhile. */
static void changes_meanwhile(void **state)
{
    (void)state;
    struct fixture *f = fixture("redis-server", true);
    held(f, 0, "renamed", f->now + 100000);
    held(f, 0, "renewed", f->now + 100000);
    held(f, 0, "persisted", f->now + 100000);
    scan(f);
    /* named as where it goes, for it may have been passed over under both names */
    assert_int_equal(hold_moved(&f->h, 0, span_str("to"), &f->err), 0);
    assert_int_equal(f->h.n, 1);
    while (hold_scan_step(&f->h) > 0)
        continue;
    live_do(f->c, "RENAME renamed to");
    live_do(f->c, "PERSIST persisted");
    at(f, 0, "renewed", f->now + 200000);
    settle(f);
    assert_at(f, 0, "to", f->now + 100000);
    assert_at(f, 0, "renewed", f->now + 200000);
    assert_int_equal(off(f, 0, "persisted", 0), -1 - (int64_t)INT32_MAX);
    finish(f);
}

static void databases_change_places(void **state)
{
    (void)state;
    struct fixture *f = fixture("redis-server", true);
    char key[40];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        held(f, 0, key, f->now + 100000 + i);
    }
    held(f, 1, "one", f->now + 100000);
    scan(f);
    assert_int_equal(hold_scan_step(&f->h), 1); /* some of 0 */
    live_do(f->c, "SWAPDB 0 1");
    assert_int_equal(hold_swapped(&f->h, 0, 1, &f->err), 0);
    while (hold_scan_step(&f->h) > 0)
        continue;
    settle(f);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_at(f, 1, key, f->now + 100000 + i);
    }
    assert_at(f, 0, "one", f->now + 100000);
    finish(f);
}

static void connection_lost(void **state)
{
    (void)state;
    struct fixture *f = fixture("redis-server", true);
    char key[40];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        held(f, 0, key, f->now + 100000);
    }
    scan(f);
    assert_int_equal(hold_scan_step(&f->h), 1);
    live_do(f->c, "CLIENT KILL TYPE normal SKIPME yes");
    while (hold_scan_step(&f->h) > 0)
        continue;
    assert_true(hold_scan_wanted(&f->h) && hold_scan_needs_client(&f->h));
    lane_release(&f->lane);
    struct lane_config cfg = {.refusals = &f->refusals,
                              .counters = &f->counters,
                              .stop = &f->stop,
                              .io_timeout_ms = 5000,
                              .step = step,
                              .step_ctx = f};
    assert_int_equal(client_take_conn(live_client(&f->srv, "target"), &cfg.conn, &f->err), 0);
    assert_int_equal(lane_init(&f->lane, &cfg, &f->err), 0);
    hold_scan_client(&f->h, live_client(&f->srv, "target"));
    while (hold_scan_step(&f->h) > 0)
        continue;
    assert_false(hold_scan_wanted(&f->h));
    settle(f);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_at(f, 0, key, f->now + 100000);
    }
    finish(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_right),
        cmocka_unit_test(put_right_before_7_0),
        cmocka_unit_test(others_are_left_alone),
        cmocka_unit_test(changes_meanwhile),
        cmocka_unit_test(databases_change_places),
        cmocka_unit_test(connection_lost),
    };
    return cmocka_run_group_tests_name("hold_scan", tests, NULL, NULL);
}
