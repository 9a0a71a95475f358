// SPDX-License-Identifier: BSD-3-Clause
// lane: items through the window, calls, what comes back and what goes out again.
#include "lane_rig.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RULES(r) r, sizeof(r) / sizeof((r)[0])
#define OOM      "-OOM command not allowed when used memory > 'maxmemory'.\r\n"

static void put_items(struct lane_rig *g, int64_t db, unsigned from, unsigned to)
{
    char key[32];
    for (unsigned i = from; i < to; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        if (lane_rig_item(g, db, key, span_str("v")) < 0) fail_msg("%s", g->err.msg);
    }
}

static unsigned lines_of(struct buf *log)
{
    unsigned n = 0;
    for (size_t i = 0; i < log->n; i++)
        n += log->p[i] == '\n';
    return n;
}

static void items_arrive(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        struct lane_rig *g = lane_rig_new(NULL, 0, starve, NULL);
        put_items(g, 0, 0, 3);
        assert_true(lane_busy(&g->lane));
        assert_int_equal(lane_drain(&g->lane, &g->err), 0);
        assert_false(lane_busy(&g->lane));
        assert_int_equal(counter_get(&g->counters.keys_written), 3);
        assert_int_equal(counter_get(&g->counters.db[0].keys), 3);
        lane_rig_end(g);
        assert_string_equal(fake_text(&g->target.wire), "SELECT 0\nSET k0 v\nSET k1 v\nSET k2 v\n");
        lane_rig_free(g);
    }
}

/* More items than the window holds, and more bytes than the ring: each arrives once, in order. */
static void full_window(void **state)
{
    (void)state;
    enum { MANY = 40000 };
    struct lane_rig *g = lane_rig_new(NULL, 0, false, NULL);
    put_items(g, 0, 0, MANY);
    assert_int_equal(lane_drain(&g->lane, &g->err), 0);
    assert_true(g->steps > 2);
    assert_int_equal(counter_get(&g->counters.keys_written), MANY);
    lane_rig_end(g);
    const char *at = fake_text(&g->target.ran);
    char want[32];
    for (unsigned i = 0; i < MANY; i++) {
        int n = snprintf(want, sizeof(want), "0:SET k%u v\n", i);
        if (strncmp(at, want, (size_t)n) != 0) fail_msg("at %u: %.40s", i, at);
        at += n;
    }
    assert_string_equal(at, "");
    lane_rig_free(g);
}

/* A target that answers nothing for a while: the window fills, and nothing beyond it is taken. */
static void slow_target(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET k0 ", .delay_ms = 200}};
    static uint8_t value[200000];
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    char key[32];
    for (unsigned i = 0; i < 30; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(lane_rig_item(g, 0, key, span_of(value, sizeof(value))), 0);
        assert_true(ring_used(&g->lane.out) <= g->lane.out.size);
    }
    assert_int_equal(lane_drain(&g->lane, &g->err), 0);
    assert_int_equal(counter_get(&g->counters.keys_written), 30);
    lane_rig_end(g);
    assert_int_equal(lines_of(&g->target.ran), 30);
    lane_rig_free(g);
}

/* Refused in passing, some of those in flight: just these are sent again. */
static void passing_fault(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET k3 ", .reply = OOM, .times = 2},
                                             {.match = "SET k7 ", .reply = OOM, .times = 1}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    put_items(g, 0, 0, 10);
    assert_int_equal(lane_drain(&g->lane, &g->err), 0);
    put_items(g, 0, 10, 11);
    assert_int_equal(lane_drain(&g->lane, &g->err), 0);
    assert_int_equal(counter_get(&g->counters.keys_written), 11);
    assert_int_equal(counter_get(&g->counters.retries), 3);
    assert_true(counter_get(&g->counters.waits_ms) >= 100);
    assert_int_equal(counter_get(&g->counters.errors), 0);
    assert_int_equal(g->lane.retry_since_ms, 0);
    lane_rig_end(g);
    assert_string_equal(fake_text(&g->target.wire),
                        "SELECT 0\nSET k0 v\nSET k1 v\nSET k2 v\nSET k3 v\nSET k4 v\nSET k5 v\n"
                        "SET k6 v\nSET k7 v\nSET k8 v\nSET k9 v\nSET k3 v\nSET k7 v\nSET k3 v\n"
                        "SET k10 v\n");
    lane_rig_free(g);
}

/* The same while the window is full and the ring wraps: every item arrives exactly once. */
static void passing_faults_under_load(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.reply = OOM, .after = 5000, .times = 9000}};
    enum { MANY = 30000 };
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    put_items(g, 0, 0, MANY);
    assert_int_equal(lane_drain(&g->lane, &g->err), 0);
    assert_int_equal(counter_get(&g->counters.keys_written), MANY);
    assert_int_equal(counter_get(&g->counters.retries), 9000);
    lane_rig_end(g);
    static uint8_t seen[MANY];
    memset(seen, 0, sizeof(seen));
    for (const char *at = fake_text(&g->target.ran); *at; at = strchr(at, '\n') + 1) {
        unsigned i;
        assert_int_equal(sscanf(at, "0:SET k%u v\n", &i), 1);
        assert_true(i < MANY && seen[i] == 0);
        seen[i] = 1;
    }
    assert_int_equal(lines_of(&g->target.ran), MANY);
    lane_rig_free(g);
}

static void retry_time_runs_out(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET", .reply = OOM}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false,
                                      &(struct lane_config){.retry_limit_ms = 120});
    int64_t start = clock_mono_ms();
    put_items(g, 0, 0, 1);
    assert_int_equal(lane_drain(&g->lane, &g->err), -1);
    assert_int_equal(g->err.code, ERR_BUSY);
    assert_non_null(strstr(g->err.msg, "OOM command not allowed"));
    assert_non_null(strstr(g->err.msg, "--retry-time"));
    assert_true(clock_mono_ms() - start >= 120);
    assert_true(clock_mono_ms() - start < 20000);
    lane_rig_end(g);
    lane_rig_free(g);
}

static void stopped_while_waiting(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET", .reply = OOM}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    put_items(g, 0, 0, 1);
    g->stop = true;
    assert_int_equal(lane_drain(&g->lane, &g->err), -1);
    assert_int_equal(g->err.code, ERR_BUSY);
    assert_non_null(strstr(g->err.msg, "not applied"));
    lane_rig_end(g);
    lane_rig_free(g);
}

static void hard_error_stops(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET k1 ", .reply = "-ERR no\r\n"}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    put_items(g, 4, 0, 3);
    assert_int_equal(lane_drain(&g->lane, &g->err), -1);
    assert_int_equal(g->err.code, ERR_TARGET);
    assert_non_null(strstr(g->err.msg, "database 4, key \"k1\""));
    lane_rig_end(g);
    lane_rig_free(g);
}

static void hard_error_passed_over(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET k1 ", .reply = "-ERR no\r\n"}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    put_items(g, 4, 0, 3);
    assert_int_equal(lane_drain(&g->lane, &g->err), 0);
    assert_int_equal(g->refusals.count, 1);
    assert_int_equal(counter_get(&g->counters.keys_written), 2);
    lane_rig_end(g);
    lane_rig_free(g);
}

/* BUSYKEY of RESTORE, nil of SET NX. */
static const struct fake_rule there_already[] = {
    {.match = "SET k1 ", .reply = "-BUSYKEY Target key name already exists.\r\n"},
    {.match = "SET k2 ", .reply = "$-1\r\n"}};

static void existing_key_fails(void **state)
{
    (void)state;
    for (unsigned from = 1; from <= 2; from++) {
        struct lane_rig *g = lane_rig_new(RULES(there_already), false, NULL);
        put_items(g, 2, from, from + 1);
        assert_int_equal(lane_drain(&g->lane, &g->err), -1);
        assert_int_equal(g->err.code, ERR_CONFLICT);
        assert_non_null(strstr(g->err.msg, from == 1 ? "\"k1\" of database 2" : "\"k2\""));
        assert_int_equal(counter_get(&g->counters.keys_skipped), 0);
        lane_rig_end(g);
        lane_rig_free(g);
    }
}

static void existing_key_skipped(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        struct lane_rig *g = lane_rig_new(RULES(there_already), starve,
                                          &(struct lane_config){.keep_existing = true});
        put_items(g, 2, 0, 4);
        assert_int_equal(lane_drain(&g->lane, &g->err), 0);
        assert_int_equal(counter_get(&g->counters.keys_skipped), 2);
        assert_int_equal(counter_get(&g->counters.db[2].skipped), 2);
        assert_int_equal(counter_get(&g->counters.keys_written), 2);
        assert_int_equal(g->refusals.count, 0);
        lane_rig_end(g);
        lane_rig_free(g);
    }
}

/* Another database: everything before is answered first, faults included. */
static void database_change_drains(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET k1 ", .reply = OOM, .times = 1},
                                             {.match = "SELECT 5", .reply = OOM, .times = 1}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    put_items(g, 0, 0, 2);
    put_items(g, 5, 2, 4);
    put_items(g, 0, 4, 5);
    assert_int_equal(lane_drain(&g->lane, &g->err), 0);
    lane_rig_end(g);
    assert_string_equal(fake_text(&g->target.wire),
                        "SELECT 0\nSET k0 v\nSET k1 v\nSET k1 v\nSELECT 5\nSELECT 5\n"
                        "SET k2 v\nSET k3 v\nSELECT 0\nSET k4 v\n");
    lane_rig_free(g);
}

static void database_refused(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "SELECT 9", .reply = "-ERR DB index is out of range\r\n"}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    g->refusals.policy = TASK_ON_ERROR_CONTINUE; /* not even then */
    assert_int_equal(lane_rig_item(g, 9, "k", span_str("v")), -1);
    assert_int_equal(g->err.code, ERR_TARGET);
    assert_non_null(strstr(g->err.msg, "database 9"));
    assert_int_equal(g->lane.db, -1);
    lane_rig_end(g);
    assert_null(strstr(fake_text(&g->target.wire), "SET"));
    lane_rig_free(g);
}

static void link_closed(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET k2 ", .hang_up = true}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    put_items(g, 0, 0, 4);
    assert_int_equal(lane_drain(&g->lane, &g->err), -1);
    assert_int_equal(g->err.code, ERR_NET);
    assert_non_null(strstr(g->err.msg, "target: "));
    lane_rig_end(g);
    lane_rig_free(g);
}

static void no_answer(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET", .silent = true}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false,
                                      &(struct lane_config){.io_timeout_ms = 150});
    put_items(g, 0, 0, 1);
    assert_int_equal(lane_drain(&g->lane, &g->err), -1);
    assert_int_equal(g->err.code, ERR_NET);
    assert_non_null(strstr(g->err.msg, "target: no reply"));
    lane_rig_end(g);
    lane_rig_free(g);
}

static void garbage_and_surplus(void **state)
{
    (void)state;
    static const struct fake_rule garbage[] = {{.match = "SET", .reply = "HTTP/1.1 400\r\n"}};
    static const struct fake_rule surplus[] = {{.match = "SET k0", .reply = "+OK\r\n:1\r\n"}};
    const struct fake_rule *rules[] = {garbage, surplus};
    for (int i = 0; i < 2; i++) {
        struct lane_rig *g = lane_rig_new(rules[i], 1, false, NULL);
        put_items(g, 0, 0, 1);
        int rc = lane_drain(&g->lane, &g->err);
        for (int n = 0; rc == 0 && n < 20; n++)
            rc = g->lane.step(g->lane.step_ctx, 100, &g->err);
        assert_int_equal(rc, -1);
        assert_int_equal(g->err.code, ERR_PROTO);
        assert_non_null(strstr(g->err.msg, "target: "));
        lane_rig_end(g);
        lane_rig_free(g);
    }
}

/* --- calls --- */

/* SET k <value>, the value as three parts: memory, memory, a store that has overflowed to disk. */
static void call_of_parts(void **state)
{
    (void)state;
    enum { MEM = 1000, DISK = 3000000 };
    uint8_t *value = malloc(MEM + DISK);
    assert_non_null(value);
    for (size_t i = 0; i < MEM + DISK; i++)
        value[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int starve = 0; starve < 2; starve++) {
        struct lane_rig *g = lane_rig_new(NULL, 0, starve, NULL);
        struct store st;
        store_init(&st, 100000, 64 << 20, g->dir);
        assert_int_equal(store_add(&st, "skipped", 7, &g->err), 0);
        assert_int_equal(store_add(&st, value + MEM, DISK, &g->err), 0);
        assert_true(st.disk_bytes > 0);
        char head[64];
        int n = snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", MEM + DISK);
        struct lane_part parts[] = {{.mem = span_of(head, (size_t)n)},
                                    {.mem = span_of(value, MEM)},
                                    {.store = &st, .from = 7},
                                    {.mem = span_of("\r\n", 2)}};
        for (int again = 0; again < 2; again++) {
            assert_int_equal(lane_call(&g->lane, parts, 4, &g->err), 0);
            assert_int_equal(g->lane.outcome.last.type, '+');
            assert_false(lane_busy(&g->lane));
        }
        store_release(&st);
        lane_rig_end(g);
        struct buf want;
        buf_init(&want, 4096);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(buf_add(&want, "0:SET k ", 8, NULL), 0);
            fake_word(&want, span_of(value, MEM + DISK));
            assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
        }
        assert_string_equal(fake_text(&g->target.ran), fake_text(&want));
        buf_release(&want);
        lane_rig_free(g);
    }
    free(value);
}

static void call_waits_out_faults(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "PING", .reply = OOM, .times = 2}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    put_items(g, 0, 0, 2); /* a call drains first */
    struct span argv[] = {span_str("PING"), span_str("x")};
    assert_int_equal(lane_call_strs(&g->lane, 3, 2, argv, &g->err), 0);
    assert_int_equal(g->lane.outcome.last.type, ':');
    assert_int_equal(counter_get(&g->counters.retries), 2);
    lane_rig_end(g);
    assert_string_equal(fake_text(&g->target.wire),
                        "SELECT 0\nSET k0 v\nSET k1 v\nSELECT 3\nPING x\nPING x\nPING x\n");
    lane_rig_free(g);
}

static void call_hard_error_is_a_reply(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "PING", .reply = "-WRONGTYPE no\r\n"}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    struct span argv[] = {span_str("PING")};
    assert_int_equal(lane_call_strs(&g->lane, -1, 1, argv, &g->err), 0);
    assert_int_equal(g->lane.outcome.last.type, '-');
    assert_string_equal(g->lane.outcome.last.line, "WRONGTYPE no");
    assert_int_equal(g->lane.outcome.n_errors, 1);
    struct lane_error e;
    size_t at = 0;
    assert_string_equal(lane_outcome_next(&g->lane.outcome, &at, &e), "WRONGTYPE no");
    assert_int_equal(e.reply, 0);
    assert_int_equal(e.nested, -1);
    assert_null(lane_outcome_next(&g->lane.outcome, &at, &e));
    lane_rig_end(g);
    lane_rig_free(g);
}

#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"

/* More error text than is kept: what is kept stays readable, the rest is counted. */
static void more_errors_than_kept(void **state)
{
    (void)state;
    enum { MANY = 6000 };
    static const struct fake_rule rules[] = {
        {.match = "PING", .reply = "-ERR x\r\n", .times = 1},
        {.match = "PING", .reply = OOM, .times = 3500},
        {.match = "PING", .reply = "-ERR " LONG LONG LONG "\r\n", .times = 500},
        {.match = "PING", .reply = "-ERR this one is of another length\r\n"}};
    struct lane_rig *g = lane_rig_new(RULES(rules), false, NULL);
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(resp_put_strs(&b, &g->err, "PING", NULL), 0);
    struct lane_part part = {.mem = buf_span(&b)};
    assert_int_equal(lane_call_begin(&g->lane, &part, 1, MANY, &g->err), 0);
    assert_int_equal(lane_call_wait(&g->lane, &g->err), 0);
    const struct lane_outcome *o = &g->lane.outcome;
    assert_int_equal(o->n_errors, MANY);
    struct lane_error e;
    size_t kept = 0, at = 0;
    for (const char *line; (line = lane_outcome_next(o, &at, &e)) != NULL; kept++) {
        if (kept < 3501) assert_int_equal(e.reply, kept);
        assert_int_equal(e.nested, -1);
        assert_int_equal(strlen(line), e.text_n);
    }
    assert_int_equal(at, o->errors.n);
    assert_true(kept >= 3000 && kept < MANY);
    buf_release(&b);
    lane_rig_end(g);
    lane_rig_free(g);
}

/* A call whose replies are all there is no longer waited for, however late it is finished. */
static void answered_call_does_not_time_out(void **state)
{
    (void)state;
    struct lane_rig *g = lane_rig_new(NULL, 0, false, &(struct lane_config){.io_timeout_ms = 600});
    struct lane_part part = {.mem = span_str("*1\r\n$4\r\nPING\r\n")};
    assert_int_equal(lane_call_begin(&g->lane, &part, 1, 1, &g->err), 0);
    int64_t until = clock_mono_ms() + 1300;
    while (clock_mono_ms() < until)
        if (g->lane.step(g->lane.step_ctx, 50, &g->err) < 0) fail_msg("%s", g->err.msg);
    assert_int_equal(lane_call_wait(&g->lane, &g->err), 0);
    lane_rig_end(g);
    lane_rig_free(g);
}

static void call_on_busy_lane(void **state)
{
    (void)state;
    struct lane_rig *g = lane_rig_new(NULL, 0, false, NULL);
    struct lane_part part = {.mem = span_str("*1\r\n$4\r\nPING\r\n")};
    assert_int_equal(lane_call_begin(&g->lane, &part, 1, 1, &g->err), 0);
    assert_int_equal(lane_call_begin(&g->lane, &part, 1, 1, &g->err), -1);
    assert_int_equal(g->err.code, ERR_INTERNAL);
    lane_rig_end(g);
    lane_rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_arrive),
        cmocka_unit_test(full_window),
        cmocka_unit_test(slow_target),
        cmocka_unit_test(passing_fault),
        cmocka_unit_test(passing_faults_under_load),
        cmocka_unit_test(retry_time_runs_out),
        cmocka_unit_test(stopped_while_waiting),
        cmocka_unit_test(hard_error_stops),
        cmocka_unit_test(hard_error_passed_over),
        cmocka_unit_test(existing_key_fails),
        cmocka_unit_test(existing_key_skipped),
        cmocka_unit_test(database_change_drains),
        cmocka_unit_test(database_refused),
        cmocka_unit_test(link_closed),
        cmocka_unit_test(no_answer),
        cmocka_unit_test(garbage_and_surplus),
        cmocka_unit_test(call_of_parts),
        cmocka_unit_test(call_waits_out_faults),
        cmocka_unit_test(call_hard_error_is_a_reply),
        cmocka_unit_test(more_errors_than_kept),
        cmocka_unit_test(answered_call_does_not_time_out),
        cmocka_unit_test(call_on_busy_lane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
