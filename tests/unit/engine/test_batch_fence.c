// SPDX-License-Identifier: BSD-3-Clause
// batch: the checkpoint in it, and the WATCH that fences it.
#include "engine/batch.h"
#include "lane_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RULES(r) r, sizeof(r) / sizeof((r)[0])
#define OOM      "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
#define OURS                                                                                       \
    {                                                                                              \
        .match = "GET ck", .reply = "$18\r\n1 loading 0000000a\r\n"                                \
    }
#define THEIRS                                                                                     \
    {                                                                                              \
        .match = "GET ck", .reply = "$18\r\n1 loading 0000000b\r\n"                                \
    }
#define SET(o)    "SET ck 1\\x20stream\\x200000000a\\x20-\\x20" o "\\x200"
#define STORE_MAX (64u << 20)

struct fixture {
    struct lane_rig *g;
    struct batch b;
    struct batch_checkpoint cp;
};

static void setup(struct fixture *f, const struct fake_rule *rules, size_t n, int64_t cp_db)
{
    static const char watch[] = "*2\r\n$5\r\nWATCH\r\n$2\r\nck\r\n"
                                "*2\r\n$3\r\nGET\r\n$2\r\nck\r\n";
    f->g = lane_rig_new(rules, n, false, NULL);
    f->g->lane.db = 0;
    f->g->lane.fence = span_of(watch, sizeof(watch) - 1);
    f->g->lane.fence_db = cp_db;
    f->g->lane.fence_down = true;
    f->g->lane.resumable = true;
    f->cp = (struct batch_checkpoint){.key = span_str("ck"), .db = cp_db, .owner = "0000000a"};
    batch_init(&f->b, f->g->dir, STORE_MAX);
    f->b.checkpoint = &f->cp;
    assert_int_equal(batch_begin(&f->b, 0, &f->g->err), 0);
}

/* "SET a 1|DEL b": each whole by itself, or all of it together. */
static void put(struct fixture *f, const char *text, bool each)
{
    while (*text) {
        struct span argv[16];
        size_t argc = 0;
        do {
            size_t n = strcspn(text, " |");
            argv[argc++] = span_of(text, n);
            text += n;
        } while (*text == ' ' && *text++);
        if (*text == '|') text++;
        assert_int_equal(batch_args(&f->b, argc, argv, &f->g->err), 0);
        if (each || !*text) batch_mark_at(&f->b, f->b.n, 0);
    }
}

static void add(struct fixture *f, const char *text)
{
    put(f, text, true);
}

static void add_whole(struct fixture *f, const char *text)
{
    put(f, text, false);
}

static int apply(struct fixture *f)
{
    if (batch_seal(&f->b, f->b.n, 0, &f->g->err) < 0) return -1;
    if (batch_send(&f->b, &f->g->lane, &f->g->err) < 0) return -1;
    return batch_finish(&f->b, &f->g->lane, &f->g->err);
}

static void applied(struct fixture *f)
{
    if (apply(f) < 0) fail_msg("%s", f->g->err.msg);
    assert_false(f->b.in_flight);
}

static void is_wire(struct fixture *f, const char *wire)
{
    lane_rig_end(f->g);
    assert_string_equal(fake_text(&f->g->target.wire), wire);
    batch_release(&f->b);
    lane_rig_free(f->g);
}

static void is_groups(struct fixture *f, const char *groups)
{
    lane_rig_end(f->g);
    assert_string_equal(fake_text(&f->g->target.groups), groups);
    batch_release(&f->b);
    lane_rig_free(f->g);
}

/* Raised once, and whose the checkpoint is looked at; then each EXEC brings the next WATCH along.
 */
static void fence_goes_along(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS};
    setup(&f, RULES(rules), 0);
    add(&f, "SET a 1");
    applied(&f);
    assert_int_equal(batch_begin(&f.b, 0, &f.g->err), 0);
    add(&f, "SET b 1|DEL a");
    applied(&f);
    assert_false(f.g->lane.fence_down);
    is_wire(&f, "WATCH ck\nGET ck\n"
                "MULTI\nSET a 1\n" SET("1") "\nEXEC\nWATCH ck\nGET ck\n"
                                            "MULTI\nSET b 1\nDEL a\n" SET(
                                                "2") "\nEXEC\nWATCH ck\nGET ck\n");
}

/* A WATCH does not tell what was done before it: with another's name there, nothing is sent. */
static void taken_over_before_the_fence(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {THEIRS};
    setup(&f, RULES(rules), 0);
    add(&f, "SET a 1");
    assert_int_equal(apply(&f), -1);
    assert_int_equal(f.g->lane.lost, LANE_FENCED);
    is_wire(&f, "WATCH ck\nGET ck\n");
}

static void no_checkpoint_any_more(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {{.match = "GET ck", .reply = "$-1\r\n"}};
    setup(&f, RULES(rules), 0);
    add(&f, "SET a 1");
    assert_int_equal(apply(&f), -1);
    assert_int_equal(f.g->lane.lost, LANE_FENCED);
    is_wire(&f, "WATCH ck\nGET ck\n");
}

static void taken_over_behind_the_fence(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "EXEC", .reply = "*-1\r\n"}};
    setup(&f, RULES(rules), 0);
    add(&f, "SET a 1");
    assert_int_equal(apply(&f), -1);
    assert_int_equal(f.g->lane.lost, LANE_FENCED);
    lane_rig_end(f.g);
    batch_release(&f.b);
    lane_rig_free(f.g);
}

/* A transaction that was refused has selected nothing: the WATCH behind it is of a key of the
 * batch's first database, which fences nothing. */
static void watch_of_a_refused_one_counts_for_nothing(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {
        {.match = "GET ck", .reply = "$18\r\n1 loading 0000000a\r\n", .times = 1},
        {.match = "GET ck", .reply = "$-1\r\n", .times = 1},
        OURS,
        {.match = "SET a", .reply = OOM, .times = 1}};
    setup(&f, RULES(rules), 3);
    add(&f, "SET a 1");
    applied(&f);
    /* in database 0 there is none */
    static const char batch[] = "MULTI\nSET a 1\nSELECT 3\n" SET("1") "\nEXEC\nWATCH ck\nGET ck\n";
    static const char raise[] = "SELECT 3\nWATCH ck\nGET ck\nSELECT 0\n";
    char wire[400];
    snprintf(wire, sizeof(wire), "%s%s%s%s", raise, batch, raise, batch);
    assert_int_equal(f.g->lane.db, 3);
    is_wire(&f, wire);
}

/* The same where a refused command is left out. */
static void fence_without_the_refused(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "SET a", .reply = "-ERR no\r\n"}};
    setup(&f, RULES(rules), 0);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    add(&f, "SET a 1|SET b 1");
    applied(&f);
    assert_int_equal(f.g->refusals.count, 1);
    is_wire(&f, "WATCH ck\nGET ck\n"
                "MULTI\nSET a 1\nSET b 1\n" SET("2") "\nEXEC\nWATCH ck\nGET ck\n"
                                                     "MULTI\nSET b 1\n" SET(
                                                         "2") "\nEXEC\nWATCH ck\nGET ck\n");
}

/* Data without its checkpoint would come again after a crash: not even with --on-error continue. */
static void checkpoint_is_not_left_out(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "SET ck", .reply = "-NOPERM no\r\n"}};
    setup(&f, RULES(rules), 0);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    add(&f, "SET a 1");
    assert_int_equal(apply(&f), -1);
    assert_non_null(strstr(f.g->err.msg, "checkpoint was refused"));
    is_groups(&f, "0:WATCH ck\n0:WATCH ck\n");
}

/* A WATCH refused behind an EXEC that went well. */
static void fence_refused_behind(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {
        OURS, {.match = "WATCH", .reply = "-BUSY\r\n", .after = 1, .times = 1}};
    setup(&f, RULES(rules), 0);
    add(&f, "SET a 1");
    applied(&f);
    assert_true(f.g->lane.fence_down);
    assert_int_equal(f.g->lane.outcome.n_errors, 0);
    is_wire(&f, "WATCH ck\nGET ck\nMULTI\nSET a 1\n" SET("1") "\nEXEC\nWATCH ck\nGET ck\n");
}

/* --- taken apart --- */

static void each_unit_has_its_own(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "SET b", .reply = OOM, .times = 3}};
    setup(&f, RULES(rules), 0);
    add(&f, "SET a 1|DEL x|SET b 1");
    applied(&f);
    assert_true(f.b.sealed);
    is_groups(&f, "0:WATCH ck\n0:WATCH ck\n0:WATCH ck\n0:WATCH ck\n"
                  "{\n0:SET a 1\n"
                  "0:" SET("1") "\n}\n0:WATCH ck\n"
                                "0:DEL x\n"
                                "{\n0:SET b 1\n"
                                "0:" SET("3") "\n}\n0:WATCH ck\n");
}

/* The checkpoint behind a unit leaves its own database selected; the next one goes where the one
 * before it was. */
static void each_unit_in_its_database(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "SET a", .reply = OOM, .times = 3}};
    setup(&f, RULES(rules), 0);
    add_whole(&f, "SELECT 5|SET a 1");
    add(&f, "SET b 1|DEL x");
    add_whole(&f, "DEL y|SET c 1");
    add_whole(&f, "SELECT 7|DEL z");
    add(&f, "SET d 1");
    f.b.db = 7;
    applied(&f);
    assert_int_equal(f.g->lane.db, 0);
    lane_rig_end(f.g);
    const char *apart = strchr(fake_text(&f.g->target.groups), '{');
    assert_non_null(apart);
    assert_string_equal(apart,
                        "{\n5:SET a 1\n0:" SET("2") "\n}\n0:WATCH ck\n"
                                                    "{\n5:SET b 1\n0:" SET(
                                                        "3") "\n}\n0:WATCH ck\n"
                                                             "5:DEL x\n"
                                                             "{\n5:DEL y\n5:SET c 1\n0:" SET(
                                                                 "6") "\n}\n0:WATCH ck\n"
                                                                      "7:DEL z\n"
                                                                      "{\n7:SET d 1\n0:" SET(
                                                                          "9") "\n}\n0:WATCH ck\n");
    batch_release(&f.b);
    lane_rig_free(f.g);
}

/* What only removes goes without: the caller must not take the checkpoint for written. */
static void removal_at_the_end_is_not_told(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "SET ck", .reply = OOM}};
    setup(&f, RULES(rules), 0);
    add(&f, "DEL x");
    applied(&f);
    assert_false(f.b.sealed);
    lane_rig_end(f.g);
    assert_non_null(strstr(fake_text(&f.g->target.groups), "0:DEL x\n"));
    assert_null(strstr(fake_text(&f.g->target.groups), "SET ck"));
    batch_release(&f.b);
    lane_rig_free(f.g);
}

/* By itself FLUSHDB would take the checkpoint with it, and all would begin anew. */
static void flushdb_takes_no_checkpoint_away(void **state)
{
    (void)state;
    for (int64_t cp_db = 0; cp_db < 2; cp_db++) {
        struct fixture f;
        static const struct fake_rule rules[] = {OURS,
                                                 {.match = "SET b", .reply = OOM, .times = 3}};
        setup(&f, RULES(rules), cp_db);
        add(&f, "FLUSHDB|SET b 1");
        applied(&f);
        lane_rig_end(f.g);
        bool with = strstr(fake_text(&f.g->target.groups), "{\n0:FLUSHDB\n") != NULL;
        assert_int_equal(with, cp_db == 0);
        batch_release(&f.b);
        lane_rig_free(f.g);
    }
}

/* --- guarded, without a checkpoint of its own --- */

static void guarded_is_fenced(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "EXEC", .reply = "*-1\r\n"}};
    setup(&f, RULES(rules), 0);
    f.b.guarded = true;
    add(&f, "PEXPIREAT a 1");
    assert_int_equal(batch_send(&f.b, &f.g->lane, &f.g->err), 0);
    assert_int_equal(batch_finish(&f.b, &f.g->lane, &f.g->err), -1);
    assert_int_equal(f.g->lane.lost, LANE_FENCED);
    is_wire(&f, "WATCH ck\nGET ck\nMULTI\nPEXPIREAT a 1\nEXEC\n");
}

/* MULTI alone refused: what came behind it ran by itself, the checkpoint as well. Deadlines that
 * were held may be set once more; of anything else nobody knows what the target has. */
static void falls_apart(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        OURS, {.match = "MULTI", .reply = "-LOADING Redis is loading\r\n"}};
    for (int guarded = 0; guarded < 2; guarded++) {
        struct fixture f;
        setup(&f, RULES(rules), 0);
        f.b.guarded = guarded;
        add(&f, "INCR a|INCR b");
        int rc = guarded ? 0 : batch_seal(&f.b, f.b.n, 0, &f.g->err);
        if (rc == 0) rc = batch_send(&f.b, &f.g->lane, &f.g->err);
        assert_int_equal(rc, 0);
        assert_int_equal(batch_finish(&f.b, &f.g->lane, &f.g->err), -1);
        assert_non_null(strstr(f.g->err.msg, "MULTI was refused"));
        assert_int_equal(f.g->lane.lost, guarded ? LANE_LOST : LANE_TORN);
        lane_rig_end(f.g);
        batch_release(&f.b);
        lane_rig_free(f.g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fence_goes_along),
        cmocka_unit_test(falls_apart),
        cmocka_unit_test(taken_over_before_the_fence),
        cmocka_unit_test(no_checkpoint_any_more),
        cmocka_unit_test(taken_over_behind_the_fence),
        cmocka_unit_test(watch_of_a_refused_one_counts_for_nothing),
        cmocka_unit_test(fence_without_the_refused),
        cmocka_unit_test(checkpoint_is_not_left_out),
        cmocka_unit_test(fence_refused_behind),
        cmocka_unit_test(each_unit_has_its_own),
        cmocka_unit_test(each_unit_in_its_database),
        cmocka_unit_test(removal_at_the_end_is_not_told),
        cmocka_unit_test(flushdb_takes_no_checkpoint_away),
        cmocka_unit_test(guarded_is_fenced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
