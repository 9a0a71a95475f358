// SPDX-License-Identifier: BSD-3-Clause
// batch: all or none, in order, sent again or told by name.
#include "engine/batch.h"
#include "lane_rig.h"
#include "told.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RULES(r)  r, sizeof(r) / sizeof((r)[0])
#define OOM       "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
#define ABORT     "-EXECABORT Transaction discarded because of: OOM command not allowed\r\n"
#define BUSY      "-BUSY Redis is busy running a script.\r\n"
#define STORE_MAX (64u << 20)

struct fixture {
    struct lane_rig *g;
    struct batch b;
};

static void setup(struct fixture *f, const struct fake_rule *rules, size_t n_rules, bool starve)
{
    f->g = lane_rig_new(rules, n_rules, starve, NULL);
    f->g->lane.db = 0;
    batch_init(&f->b, f->g->dir, STORE_MAX);
    assert_int_equal(batch_begin(&f->b, 0, &f->g->err), 0);
}

static void teardown(struct fixture *f)
{
    batch_release(&f->b);
    lane_rig_free(f->g);
}

/* "SET a 1|DEL b" */
static void add(struct fixture *f, const char *text)
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
    }
}

static int apply(struct fixture *f)
{
    if (batch_send(&f->b, &f->g->lane, &f->g->err) < 0) return -1;
    return batch_finish(&f->b, &f->g->lane, &f->g->err);
}

static void applied(struct fixture *f, const char *wire)
{
    if (apply(f) < 0) fail_msg("%s", f->g->err.msg);
    assert_false(f->b.in_flight);
    assert_false(lane_busy(&f->g->lane));
    lane_rig_end(f->g);
    assert_string_equal(fake_text(&f->g->target.wire), wire);
    teardown(f);
}

static void one_goes_bare(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, NULL, 0, false);
    add(&f, "SET a 1");
    applied(&f, "SET a 1\n");
}

static void more_go_as_transaction(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        struct fixture f;
        setup(&f, NULL, 0, starve);
        add(&f, "SET a 1|DEL b|INCR c");
        applied(&f, "MULTI\nSET a 1\nDEL b\nINCR c\nEXEC\n");
    }
}

static void ways_to_add(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, NULL, 0, false);
    struct err *err = &f.g->err;
    assert_int_equal(batch_raw(&f.b, span_str("*2\r\n$3\r\nDEL\r\n$1\r\na\r\n"), err), 0);
    assert_int_equal(batch_part(&f.b, "*2\r\n$3\r\nDEL\r\n", 13, err), 0);
    assert_int_equal(batch_part(&f.b, "$1\r\nb\r\n", 7, err), 0);
    batch_count(&f.b);
    assert_int_equal(batch_strs(&f.b, err, "DEL", "c", NULL), 0);
    assert_int_equal(batch_select(&f.b, 0, err), 0); /* is selected: nothing */
    assert_int_equal(f.b.n, 3);
    applied(&f, "MULTI\nDEL a\nDEL b\nDEL c\nEXEC\n");
}

static void selects(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, NULL, 0, false);
    struct err *err = &f.g->err;
    assert_int_equal(batch_select(&f.b, 3, err), 0);
    add(&f, "SET a 1");
    assert_int_equal(batch_select(&f.b, 12, err), 0);
    add(&f, "SET b 2");
    assert_int_equal(apply(&f), 0);
    assert_int_equal(f.g->lane.db, 12);
    lane_rig_end(f.g);
    assert_string_equal(fake_text(&f.g->target.groups), "{\n3:SET a 1\n12:SET b 2\n}\n");
    teardown(&f);
}

/* What was dropped goes, what was marked stays. */
static void back_to_the_mark(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, NULL, 0, false);
    struct err *err = &f.g->err;
    add(&f, "SET a 1|SET b 2");
    f.b.data_cmds = 2;
    batch_mark(&f.b);
    assert_int_equal(batch_select(&f.b, 4, err), 0);
    add(&f, "SET c 3");
    f.b.data_cmds = 3;
    assert_int_equal(batch_part(&f.b, "*3\r\n$3\r\nSET\r\n$1", 15, err), 0);
    batch_back(&f.b);
    assert_int_equal(f.b.data_cmds, 2);
    assert_int_equal(f.b.db, 0);
    applied(&f, "MULTI\nSET a 1\nSET b 2\nEXEC\n");
}

/* What is said of a command's way goes with it when it is taken back. */
static void ways_of_commands(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, NULL, 0, false);
    const struct batch_route *r;
    add(&f, "SET a 1");
    batch_route(&f.b, 1, true);
    assert_int_equal(f.b.routes.n, 0); /* nobody asked for it */
    f.b.routed = true;
    assert_int_equal(batch_begin(&f.b, 0, &f.g->err), 0);
    add(&f, "SET a 1|SET b 2");
    batch_route(&f.b, 7, true);
    batch_mark(&f.b);
    add(&f, "SET c 3");
    batch_route(&f.b, 8, true);
    batch_back(&f.b);
    add(&f, "SET d 4");
    r = (const struct batch_route *)(const void *)f.b.routes.p;
    assert_int_equal(f.b.routes.n, 3 * sizeof(*r));
    assert_true(!r[0].known && r[1].known && r[1].again && r[1].slot == 7 && !r[2].known);
    assert_int_equal(r[2].to, batch_bytes(&f.b));
    assert_true(r[0].to < r[1].to && r[1].to < r[2].to);

    /* One is missing: nothing is said of those behind it. */
    f.b.routes.n -= sizeof(*r);
    add(&f, "SET e 5");
    batch_route(&f.b, 9, true);
    assert_int_equal(f.b.routes.n, 2 * sizeof(*r));
    assert_true(r[1].slot == 7);

    /* Shared out among nodes, so there is more of it. */
    for (uint64_t i = f.b.n; i < BATCH_ROUTED_TIMES * BATCH_CLOSE_CMDS; i++) {
        assert_false(batch_full(&f.b));
        add(&f, "DEL a");
    }
    assert_true(batch_full(&f.b));
    lane_rig_end(f.g);
    teardown(&f);
}

/* Full at 128 KB or 2048 commands. */
static void full(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, NULL, 0, false);
    for (unsigned i = 0; i < BATCH_CLOSE_CMDS; i++) {
        assert_false(batch_full(&f.b));
        add(&f, "DEL a");
    }
    assert_true(batch_full(&f.b));
    assert_int_equal(batch_begin(&f.b, 0, &f.g->err), 0);
    assert_false(batch_full(&f.b));
    static uint8_t big[BATCH_CLOSE_BYTES];
    assert_int_equal(batch_part(&f.b, big, sizeof(big), &f.g->err), 0);
    assert_true(batch_full(&f.b));
    lane_rig_end(f.g);
    teardown(&f);
}

/* --- passing faults --- */

static void single_again(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a", .reply = OOM, .times = 2}};
    struct fixture f;
    setup(&f, RULES(rules), false);
    f.b.data_cmds = 1;
    add(&f, "SET a 1");
    assert_int_equal(apply(&f), 0);
    assert_int_equal(counter_get(&f.g->counters.retries), 2);
    lane_rig_end(f.g);
    assert_string_equal(fake_text(&f.g->target.wire), "SET a 1\nSET a 1\nSET a 1\n");
    teardown(&f);
}

/* Refused while queueing, on EXEC, or all of it: the same bytes again, in order, applied once. */
static void whole_batch_again(void **state)
{
    (void)state;
    static const struct fake_rule queued[] = {{.match = "SET b", .reply = OOM, .times = 1}};
    static const struct fake_rule on_exec[] = {{.match = "EXEC", .reply = ABORT, .times = 1}};
    static const struct fake_rule all[] = {{.reply = BUSY, .times = 5}};
    static const struct {
        const struct fake_rule *rule;
        bool starve;
    } cases[] = {{queued, false}, {queued, true}, {on_exec, false}, {all, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        setup(&f, cases[i].rule, 1, cases[i].starve);
        f.b.data_cmds = 3;
        add(&f, "SET a 1|SET b 2|SET c 3");
        if (apply(&f) < 0) fail_msg("%s", f.g->err.msg);
        assert_int_equal(counter_get(&f.g->counters.retries), 3);
        assert_int_equal(counter_get(&f.g->counters.errors), 0);
        lane_rig_end(f.g);
        static const char once[] = "MULTI\nSET a 1\nSET b 2\nSET c 3\nEXEC\n";
        char twice[200];
        snprintf(twice, sizeof(twice), "%s%s", once, once);
        assert_string_equal(fake_text(&f.g->target.wire), twice);
        assert_string_equal(fake_text(&f.g->target.groups),
                            "{\n0:SET a 1\n0:SET b 2\n0:SET c 3\n}\n");
        teardown(&f);
    }
}

/* MULTI alone refused: what came behind it ran bare. Never again, never on. */
static void multi_refused(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "MULTI", .reply = BUSY}};
    struct fixture f;
    setup(&f, RULES(rules), false);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    add(&f, "INCR a|INCR b");
    assert_int_equal(apply(&f), -1);
    assert_int_equal(f.g->err.code, ERR_TARGET);
    assert_non_null(strstr(f.g->err.msg, "MULTI was refused"));
    lane_rig_end(f.g);
    assert_string_equal(fake_text(&f.g->target.ran), "0:INCR a\n0:INCR b\n");
    teardown(&f);
}

static void exec_gives_nothing(void **state)
{
    (void)state;
    static const struct fake_rule nil[] = {{.match = "EXEC", .reply = "*-1\r\n"}};
    static const struct fake_rule no[] = {{.match = "EXEC", .reply = "-NOPERM no\r\n"}};
    const struct fake_rule *rules[] = {nil, no};
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        setup(&f, rules[i], 1, false);
        f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
        add(&f, "SET a 1|SET b 2");
        assert_int_equal(apply(&f), -1);
        assert_int_equal(f.g->err.code, ERR_TARGET);
        assert_non_null(strstr(f.g->err.msg, i ? "NOPERM" : "EXEC gave nothing"));
        lane_rig_end(f.g);
        teardown(&f);
    }
}

static void link_closed(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "EXEC", .hang_up = true}};
    struct fixture f;
    setup(&f, RULES(rules), false);
    add(&f, "SET a 1|SET b 2");
    assert_int_equal(apply(&f), -1);
    assert_int_equal(f.g->err.code, ERR_NET);
    assert_non_null(strstr(f.g->err.msg, "target: "));
    lane_rig_end(f.g);
    teardown(&f);
}

/* --- refused for good --- */

static const struct fake_rule unknown[] = {{.match = "FOO", .reply = "-ERR unknown command\r\n"}};
static const struct fake_rule wrong_type[] = {
    {.match = "HSET h", .reply = "-WRONGTYPE no hash\r\n", .when = FAKE_RUN}};

static void single_refused(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, RULES(wrong_type), false);
    add(&f, "HSET h f v");
    assert_int_equal(apply(&f), -1);
    assert_int_equal(f.g->err.code, ERR_TARGET);
    assert_non_null(strstr(f.g->err.msg, "HSET (database 0, key \"h\"): WRONGTYPE no hash"));
    assert_null(strstr(f.g->err.msg, " v"));
    lane_rig_end(f.g);
    teardown(&f);
}

static void refused_stops(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, RULES(unknown), false);
    assert_int_equal(batch_select(&f.b, 5, &f.g->err), 0);
    add(&f, "SET a 1|FOO k1 x|SET b 2");
    assert_int_equal(apply(&f), -1);
    assert_int_equal(f.g->err.code, ERR_TARGET);
    assert_non_null(strstr(f.g->err.msg, "FOO (database 5, key \"k1\"): ERR unknown command"));
    lane_rig_end(f.g);
    assert_string_equal(fake_text(&f.g->target.ran), ""); /* all or none */
    teardown(&f);
}

/* While queueing: the culprits are named and left out, the others sent again. */
static void refused_left_out(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "FOO", .reply = "-ERR unknown command\r\n"},
        {.match = "SET c", .reply = "-NOPERM not this key\r\n"}};
    struct fixture f;
    static struct told told;
    told_begin(&told);
    setup(&f, RULES(rules), false);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    add(&f, "SET a 1|FOO k1 x");
    assert_int_equal(batch_select(&f.b, 5, &f.g->err), 0);
    add(&f, "SET c 1|SET b 2");
    assert_int_equal(apply(&f), 0);
    told_end(&told);
    assert_int_equal(f.g->refusals.count, 2);
    assert_int_equal(f.g->lane.db, 5);
    lane_rig_end(f.g);
    assert_string_equal(fake_text(&f.g->target.groups), "{\n0:SET a 1\n5:SET b 2\n}\n");
    assert_non_null(strstr(told.text, "FOO (database 0, key \"k1\"): ERR unknown command"));
    assert_non_null(strstr(told.text, "SET (database 5, key \"c\"): NOPERM not this key"));
    teardown(&f);
}

/* One is left: it goes bare. None is left: nothing goes. */
static void few_left(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, RULES(unknown), false);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    add(&f, "FOO k|SET a 1");
    applied(&f, "MULTI\nFOO k\nSET a 1\nEXEC\nSET a 1\n");
    setup(&f, RULES(unknown), false);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    add(&f, "FOO k|FOO l");
    applied(&f, "MULTI\nFOO k\nFOO l\nEXEC\n");
}

/* On EXEC: the others have been applied, nothing is sent again. */
static void refused_on_exec(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        struct fixture f;
        static struct told told;
        told_begin(&told);
        setup(&f, RULES(wrong_type), starve);
        f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
        add(&f, "SET a 1");
        assert_int_equal(batch_select(&f.b, 7, &f.g->err), 0);
        add(&f, "HSET h f v|SET b 2|HSET h2 f v");
        assert_int_equal(apply(&f), 0);
        told_end(&told);
        assert_int_equal(f.g->refusals.count, 2);
        assert_int_equal(counter_get(&f.g->counters.db[7].errors), 2);
        lane_rig_end(f.g);
        assert_string_equal(fake_text(&f.g->target.groups), "{\n0:SET a 1\n7:SET b 2\n}\n");
        assert_non_null(strstr(told.text, "HSET (database 7, key \"h\"): WRONGTYPE no hash"));
        assert_non_null(strstr(told.text, "HSET (database 7, key \"h2\"): WRONGTYPE no hash"));
        teardown(&f);
    }
}

/* What follows would run in another database. */
static void refused_select_always_stops(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "SELECT 99", .reply = "-ERR DB index is out of range\r\n", .when = FAKE_RUN}};
    static const struct fake_rule queued[] = {{.match = "SELECT 99", .reply = "-NOPERM no\r\n"}};
    const struct fake_rule *all[] = {rules, queued};
    for (int i = 0; i < 4; i++) {
        struct fixture f;
        setup(&f, all[i / 2], 1, false);
        f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
        assert_int_equal(batch_select(&f.b, 99, &f.g->err), 0);
        if (i % 2) add(&f, "SET a 1");
        assert_int_equal(apply(&f), -1);
        assert_int_equal(f.g->err.code, ERR_TARGET);
        assert_non_null(strstr(f.g->err.msg, "database 99"));
        lane_rig_end(f.g);
        teardown(&f);
    }
}

/* Key named by the command table, not by position; binary and long ones. */
static void names(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.reply = "-ERR no\r\n", .when = FAKE_RUN}};
    struct fixture f;
    static struct told told;
    static uint8_t long_key[5000];
    memset(long_key, 'L', sizeof(long_key));
    told_begin(&told);
    setup(&f, RULES(rules), false);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    add(&f, "XGROUP CREATE stream g $|BITOP AND dst src|FLUSHALL");
    struct span binary[] = {span_str("DEL"), span_of("k\0\r\n", 4)};
    assert_int_equal(batch_args(&f.b, 2, binary, &f.g->err), 0);
    struct span lengthy[] = {span_str("DEL"), span_of(long_key, sizeof(long_key))};
    assert_int_equal(batch_args(&f.b, 2, lengthy, &f.g->err), 0);
    assert_int_equal(apply(&f), 0);
    told_end(&told);
    lane_rig_end(f.g);
    assert_non_null(strstr(told.text, "XGROUP (database 0, key \"stream\")"));
    assert_non_null(strstr(told.text, "BITOP (database 0, key \"dst\")"));
    assert_non_null(strstr(told.text, "FLUSHALL (database 0): ERR no"));
    assert_non_null(strstr(told.text, "DEL (database 0, key \"k\\x00\\x0d\\x0a\")"));
    assert_non_null(strstr(told.text, "key \"LLLL"));
    assert_int_equal(f.g->refusals.count, 5);
    teardown(&f);
}

/* --- out of memory for long: taken apart --- */

/* In a transaction SET is refused, so EXEC is: as often as `times` says (0: always). */
#define OOM_EXEC(n)                                                                                \
    {                                                                                              \
        .match = "EXEC", .reply = ABORT, .times = (n)                                              \
    }

static void mark(struct fixture *f, const char *text)
{
    add(f, text);
    batch_mark(&f->b);
}

static void wants_groups(struct fixture *f, const char *groups)
{
    if (apply(f) < 0) fail_msg("%s", f->g->err.msg);
    assert_false(f->b.in_flight);
    assert_false(lane_busy(&f->g->lane));
    assert_int_equal(f->g->lane.db, f->b.db);
    assert_int_equal(f->g->lane.retry_since_ms, 0);
    lane_rig_end(f->g);
    assert_string_equal(fake_text(&f->g->target.groups), groups);
    teardown(f);
}

/* Below so many tries all of it goes as one. */
static void not_taken_apart_at_once(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {OOM_EXEC(2)};
    struct fixture f;
    setup(&f, RULES(rules), false);
    mark(&f, "SET a 1");
    mark(&f, "DEL b");
    wants_groups(&f, "{\n0:SET a 1\n0:DEL b\n}\n");
}

/* Each by itself and in order; the SET waits until the memory is there. */
static void taken_apart(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        OOM_EXEC(0), {.match = "SET c", .reply = OOM, .after = 3, .times = 4}};
    for (int starve = 0; starve < 2; starve++) {
        struct fixture f;
        setup(&f, RULES(rules), starve);
        mark(&f, "RPUSH a 1");
        mark(&f, "DEL b");
        mark(&f, "SET c 1");
        mark(&f, "RPUSH a 2");
        wants_groups(&f, "0:RPUSH a 1\n0:DEL b\n0:SET c 1\n0:RPUSH a 2\n");
    }
}

/* What was one transaction stays one, also one that is in several databases, or the last. */
static void groups_stay_together(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        OOM_EXEC(3), {.match = "EXEC", .reply = ABORT, .after = 1, .times = 2}};
    struct fixture f;
    setup(&f, RULES(rules), false);
    mark(&f, "DEL x");
    mark(&f, "SET a 1|SELECT 3|DEL b|SET c 1");
    mark(&f, "DEL d");
    mark(&f, "DEL e|SELECT 0");
    add(&f, "SET g 1|SET h 1"); /* not marked */
    f.b.db = 0;
    wants_groups(&f, "0:DEL x\n{\n0:SET a 1\n3:DEL b\n3:SET c 1\n}\n3:DEL d\n"
                     "{\n3:DEL e\n}\n{\n0:SET g 1\n0:SET h 1\n}\n");
}

/* One group cannot be taken apart; nor can a batch of commands that were never marked. */
static void one_group_waits(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {OOM_EXEC(5)};
    for (int marked = 0; marked < 2; marked++) {
        struct fixture f;
        setup(&f, RULES(rules), false);
        add(&f, "DEL a|SET b 1");
        if (marked) batch_mark(&f.b);
        wants_groups(&f, "{\n0:DEL a\n0:SET b 1\n}\n");
    }
}

/* Other passing faults say nothing about what is in it. */
static void only_for_lack_of_memory(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "EXEC", .reply = BUSY, .times = 5}};
    struct fixture f;
    setup(&f, RULES(rules), false);
    mark(&f, "DEL a");
    mark(&f, "SET b 1");
    wants_groups(&f, "{\n0:DEL a\n0:SET b 1\n}\n");
}

/* By its name and in its database, as ever. */
static void refused_when_apart(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        OOM_EXEC(3), {.match = "LPUSH k", .reply = "-WRONGTYPE no\r\n", .when = FAKE_RUN}};
    static struct told told;
    for (int stop = 0; stop < 2; stop++) {
        struct fixture f;
        setup(&f, RULES(rules), false);
        f.g->refusals.policy = stop ? TASK_ON_ERROR_STOP : TASK_ON_ERROR_CONTINUE;
        mark(&f, "SELECT 5|DEL a");
        mark(&f, "LPUSH k 1");
        mark(&f, "SET b 1|LPUSH k 2");
        mark(&f, "SET c 1");
        f.b.db = 5;
        told_begin(&told);
        int rc = apply(&f);
        told_end(&told);
        lane_rig_end(f.g);
        assert_int_equal(rc, stop ? -1 : 0);
        if (stop) {
            assert_non_null(strstr(f.g->err.msg, "LPUSH (database 5, key \"k\"): WRONGTYPE"));
        } else {
            assert_non_null(strstr(told.text, "LPUSH (database 5, key \"k\"): WRONGTYPE"));
            assert_int_equal(f.g->refusals.count, 2);
            assert_string_equal(fake_text(&f.g->target.groups),
                                "{\n5:DEL a\n}\n{\n5:SET b 1\n}\n5:SET c 1\n");
        }
        teardown(&f);
    }
}

/* Larger than memory: its parts are read back from the file. */
static void large_ones_apart(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {OOM_EXEC(0)};
    enum { EACH = 700000, MANY = 4 };
    uint8_t *value = malloc(EACH);
    assert_non_null(value);
    struct fixture f;
    struct buf want;
    setup(&f, RULES(rules), false);
    buf_init(&want, 1 << 20);
    for (int i = 0; i < MANY; i++) {
        memset(value, 'a' + i, EACH);
        struct span argv[] = {span_str("RPUSH"), span_str("k"), span_of(value, EACH)};
        assert_int_equal(batch_args(&f.b, 3, argv, &f.g->err), 0);
        batch_mark(&f.b);
        assert_int_equal(buf_add(&want, "0:RPUSH k ", 10, NULL), 0);
        fake_word(&want, argv[2]);
        assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
    }
    assert_true(f.b.st.disk_bytes > 0);
    wants_groups(&f, fake_text(&want));
    buf_release(&want);
    free(value);
}

/* Begun anew, it knows nothing of the groups before. */
static void groups_of_the_next_batch(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "EXEC", .reply = ABORT, .after = 1, .times = 3}};
    struct fixture f;
    setup(&f, RULES(rules), false);
    mark(&f, "SET a 1|SET b 1|SET c 1");
    mark(&f, "SET d 1");
    assert_int_equal(apply(&f), 0);
    assert_int_equal(batch_begin(&f.b, 0, &f.g->err), 0);
    mark(&f, "DEL a");
    mark(&f, "DEL b");
    wants_groups(&f, "{\n0:SET a 1\n0:SET b 1\n0:SET c 1\n0:SET d 1\n}\n0:DEL a\n0:DEL b\n");
}

/* --- large --- */

/* More than is kept in memory, refused in passing once: the same bytes come twice. */
static void larger_than_memory(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "EXEC", .reply = ABORT, .times = 1}};
    enum { EACH = 300000, MANY = 9 };
    static uint8_t value[EACH];
    struct fixture f;
    setup(&f, RULES(rules), false);
    struct buf want;
    buf_init(&want, 1 << 20);
    assert_int_equal(buf_add(&want, "{\n", 2, NULL), 0);
    for (int i = 0; i < MANY; i++) {
        memset(value, 'a' + i, sizeof(value));
        value[EACH / 2] = '\n';
        struct span argv[] = {span_str("SET"), span_str("k"), span_of(value, sizeof(value))};
        assert_int_equal(batch_args(&f.b, 3, argv, &f.g->err), 0);
        assert_int_equal(buf_add(&want, "0:SET k ", 8, NULL), 0);
        fake_word(&want, argv[2]);
        assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
    }
    assert_int_equal(buf_add(&want, "}\n", 2, NULL), 0);
    assert_true(f.b.st.disk_bytes > 0);
    if (apply(&f) < 0) fail_msg("%s", f.g->err.msg);
    lane_rig_end(f.g);
    assert_string_equal(fake_text(&f.g->target.groups), fake_text(&want));
    buf_release(&want);
    teardown(&f);
}

static void larger_than_allowed(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f, NULL, 0, false);
    f.b.st.max_bytes = 1000;
    static uint8_t value[2000];
    struct span argv[] = {span_str("SET"), span_str("k"), span_of(value, sizeof(value))};
    assert_int_equal(batch_args(&f.b, 3, argv, &f.g->err), -1);
    assert_int_equal(f.g->err.code, ERR_LIMIT);
    lane_rig_end(f.g);
    teardown(&f);
}

/* Every other one of very many refused while queueing: those are left out, in bounded time, though
 * there are more errors than are kept. */
static void very_many_refused(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    struct fixture f;
    setup(&f, RULES(unknown), false);
    static struct told told;
    told_begin(&told);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    for (int i = 0; i < MANY / 2; i++)
        add(&f, "FOO k|SET a 1");
    int64_t start = clock_mono_ms();
    if (apply(&f) < 0) fail_msg("%s", f.g->err.msg);
    assert_true(clock_mono_ms() - start < 10000);
    told_end(&told);
    assert_int_equal(f.g->refusals.count, MANY / 2);
    lane_rig_end(f.g);
    size_t lines = 0;
    for (size_t i = 0; i < f.g->target.ran.n; i++)
        lines += f.g->target.ran.p[i] == '\n';
    assert_int_equal(lines, MANY / 2);
    assert_null(strstr(fake_text(&f.g->target.ran), "FOO"));
    teardown(&f);
}

/* The same on EXEC, where nothing is sent again: each counts, also those whose words are lost. */
static void very_many_refused_on_exec(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    struct fixture f;
    setup(&f, RULES(wrong_type), false);
    static struct told told;
    told_begin(&told);
    f.g->refusals.policy = TASK_ON_ERROR_CONTINUE;
    for (int i = 0; i < MANY / 2; i++)
        add(&f, "HSET h f v|SET a 1");
    if (apply(&f) < 0) fail_msg("%s", f.g->err.msg);
    told_end(&told);
    assert_int_equal(f.g->refusals.count, MANY / 2);
    lane_rig_end(f.g);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_goes_bare),
        cmocka_unit_test(more_go_as_transaction),
        cmocka_unit_test(ways_to_add),
        cmocka_unit_test(selects),
        cmocka_unit_test(back_to_the_mark),
        cmocka_unit_test(ways_of_commands),
        cmocka_unit_test(full),
        cmocka_unit_test(single_again),
        cmocka_unit_test(whole_batch_again),
        cmocka_unit_test(multi_refused),
        cmocka_unit_test(exec_gives_nothing),
        cmocka_unit_test(link_closed),
        cmocka_unit_test(single_refused),
        cmocka_unit_test(refused_stops),
        cmocka_unit_test(refused_left_out),
        cmocka_unit_test(few_left),
        cmocka_unit_test(refused_on_exec),
        cmocka_unit_test(refused_select_always_stops),
        cmocka_unit_test(names),
        cmocka_unit_test(larger_than_memory),
        cmocka_unit_test(larger_than_allowed),
        cmocka_unit_test(very_many_refused),
        cmocka_unit_test(very_many_refused_on_exec),
        cmocka_unit_test(not_taken_apart_at_once),
        cmocka_unit_test(taken_apart),
        cmocka_unit_test(groups_stay_together),
        cmocka_unit_test(one_group_waits),
        cmocka_unit_test(only_for_lack_of_memory),
        cmocka_unit_test(refused_when_apart),
        cmocka_unit_test(large_ones_apart),
        cmocka_unit_test(groups_of_the_next_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
