// SPDX-License-Identifier: BSD-3-Clause
// replay: batches, transactions, long commands, ends of the stream, what counts as applied.
#include "rig.h"
#include "told.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OOM "-OOM command not allowed when used memory > 'maxmemory'.\r\n"

static struct buf stream_of(const char *text)
{
    struct buf b;
    buf_init(&b, 64u << 20);
    rig_commands(&b, text);
    return b;
}

static size_t length_of(const char *text)
{
    struct buf b = stream_of(text);
    size_t n = b.n;
    buf_release(&b);
    return n;
}

/* How often `part` stands in the log. */
static unsigned times_in(struct buf *log, const char *part)
{
    unsigned n = 0;
    for (const char *at = fake_text(log); (at = strstr(at, part)) != NULL; at++)
        n++;
    return n;
}

static void wants_in(struct buf *log, const char *part)
{
    if (!strstr(fake_text(log), part)) fail_msg("no %sin\n%.2000s", part, fake_text(log));
}

/* --- databases the stream begins in --- */

static void begins_in_database(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct buf b = stream_of("SET a 1");
    rig_open_bytes(g, buf_span(&b), RIG_AT_ONCE);
    assert_int_equal(rig_run_replay(g, 6), 0);
    rig_close(g);
    assert_string_equal(fake_text(&g->target.ran), "6:SET a 1\n");
    buf_release(&b);
    rig_free(g);
}

/* "select 3\r\n" of Redis 2.6, newlines between commands. */
static void inline_commands(void **state)
{
    (void)state;
    static const char text[] = "select 3\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n\nselect 0\r\n"
                               "*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n";
    for (int feed = RIG_AT_ONCE; feed <= RIG_STARVED; feed++) {
        struct rig *g = rig_new();
        int rc = rig_replay(g, span_str(text), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        assert_string_equal(fake_text(&g->target.ran), "3:INCR a\n0:INCR b\n");
        assert_int_equal(g->applied, RIG_OFFSET + strlen(text));
        rig_free(g);
    }
}

/* --- batches --- */

/* Thousands of commands: closed when full, all there, in order, each once. */
static void many_commands(void **state)
{
    (void)state;
    enum { MANY = 30000 };
    struct buf b, want;
    buf_init(&b, 8 << 20);
    buf_init(&want, 8 << 20);
    char text[64];
    for (int i = 0; i < MANY; i++) {
        snprintf(text, sizeof(text), "INCRBY k%d %d", i % 7, i);
        rig_commands(&b, text);
        assert_int_equal(buf_printf(&want, NULL, "0:%s\n", text), 0);
    }
    for (int feed = RIG_AT_ONCE; feed <= RIG_FLOWING; feed++) {
        struct rig *g = rig_new();
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        assert_string_equal(fake_text(&g->target.ran), fake_text(&want));
        assert_int_equal(g->applied, RIG_OFFSET + b.n);
        assert_int_equal(counter_get(&g->counters.commands_written), MANY);
        assert_int_equal(counter_get(&g->counters.commands_read), MANY);
        assert_true(times_in(&g->target.wire, "EXEC") >= MANY / BATCH_CLOSE_CMDS);
        rig_free(g);
    }
    buf_release(&b);
    buf_release(&want);
}

static void passing_fault_keeps_order(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "SET b", .reply = OOM, .times = 2},
        {.match = "EXEC",
         .reply = "-EXECABORT Transaction discarded because of: READONLY no\r\n",
         .times = 1}};
    for (int feed = RIG_FLOWING; feed <= RIG_STARVED; feed++) {
        struct rig *g = rig_new();
        RIG_RULES(g, rules);
        struct buf b = stream_of("SET a 1|SELECT 3|SET b 2|SET c 3|SELECT 0|SET d 4");
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        assert_string_equal(fake_text(&g->target.ran),
                            "0:SET a 1\n3:SET b 2\n3:SET c 3\n0:SET d 4\n");
        assert_int_equal(g->applied, RIG_OFFSET + b.n);
        assert_true(counter_get(&g->counters.retries) > 0);
        assert_int_equal(counter_get(&g->counters.commands_written), 4);
        buf_release(&b);
        rig_free(g);
    }
}

static void refused_stops(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "HSET h", .reply = "-WRONGTYPE no\r\n", .when = FAKE_RUN}};
    struct rig *g = rig_new();
    RIG_RULES(g, rules);
    struct buf b = stream_of("SET a 1|SELECT 2|HSET h f secret|SET c 3");
    assert_int_equal(rig_replay(g, buf_span(&b), RIG_KEPT_OPEN), -1);
    assert_int_equal(g->err.code, ERR_TARGET);
    assert_non_null(strstr(g->err.msg, "HSET (database 2, key \"h\"): WRONGTYPE no"));
    assert_null(strstr(g->err.msg, "secret"));
    assert_true(g->applied < RIG_OFFSET + b.n);
    buf_release(&b);
    rig_free(g);
}

/* The source is gone, and then the target refuses what it had sent: both are told. */
static void refused_after_the_source_is_lost(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "HSET h", .reply = "-WRONGTYPE no\r\n", .delay_ms = 300}};
    static struct told told;
    told_begin(&told);
    struct rig *g = rig_new();
    RIG_RULES(g, rules);
    struct buf b = stream_of("HSET h f v");
    rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_FLOWING), RIG_FLOWING);
    told_end(&told);
    assert_int_equal(g->pl.refusals.count, 1);
    assert_int_equal(g->applied, RIG_OFFSET);
    assert_non_null(strstr(told.text, "HSET (database 0, key \"h\"): WRONGTYPE no"));
    buf_release(&b);
    rig_free(g);
}

static void refused_passed_over(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "HSET h", .reply = "-WRONGTYPE no\r\n", .when = FAKE_RUN}};
    for (int feed = RIG_AT_ONCE; feed <= RIG_STARVED; feed++) {
        struct rig *g = rig_new();
        RIG_RULES(g, rules);
        g->task.on_error = TASK_ON_ERROR_CONTINUE;
        struct buf b = stream_of("SET a 1|HSET h f v|SET c 3");
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        assert_string_equal(fake_text(&g->target.ran), "0:SET a 1\n0:SET c 3\n");
        assert_int_equal(g->pl.refusals.count, 1);
        assert_int_equal(counter_get(&g->counters.commands_written), 2);
        assert_int_equal(g->applied, RIG_OFFSET + b.n);
        buf_release(&b);
        rig_free(g);
    }
}

static void target_lost(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET b", .hang_up = true}};
    struct rig *g = rig_new();
    RIG_RULES(g, rules);
    struct buf b = stream_of("SET a 1|SET b 2");
    rig_open_bytes(g, buf_span(&b), RIG_KEPT_OPEN);
    assert_int_equal(rig_run_replay(g, 0), -1);
    rig_close(g);
    assert_int_equal(g->err.code, ERR_NET);
    assert_non_null(strstr(g->err.msg, "target: "));
    buf_release(&b);
    rig_free(g);
}

/* --- transactions --- */

static void transactions_stay_whole(void **state)
{
    (void)state;
    for (int feed = RIG_AT_ONCE; feed <= RIG_STARVED; feed++) {
        struct rig *g = rig_new();
        struct buf b = stream_of(
            "SET x 0|MULTI|SET a 1|SELECT 3|SET b 2|PING|SELECT 0|SET c 3|EXEC|"
            "SET y 9|multi|INCR d|INCR e|exec|SET z 9");
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        assert_string_equal(fake_text(&g->target.ran),
                            "0:SET x 0\n0:SET a 1\n3:SET b 2\n0:SET c 3\n0:SET y 9\n"
                            "0:INCR d\n0:INCR e\n0:SET z 9\n");
        wants_in(&g->target.groups, "0:SET a 1\n3:SET b 2\n0:SET c 3\n");
        wants_in(&g->target.groups, "0:INCR d\n0:INCR e\n");
        if (feed == RIG_STARVED)
            wants_in(&g->target.groups, "{\n0:SET a 1\n3:SET b 2\n0:SET c 3\n}");
        assert_int_equal(counter_get(&g->counters.transactions), 2);
        assert_int_equal(g->applied, RIG_OFFSET + b.n);
        buf_release(&b);
        rig_free(g);
    }
}

/* Alone in a database that is not selected: nothing goes. One command: needs no MULTI. */
static void small_transactions(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    assert_int_equal(db_select_parse(&g->task.select, "0", NULL), 0);
    struct buf b = stream_of("SELECT 1|MULTI|SET a 1|SET b 1|EXEC|MULTI|SELECT 0|SET c 1|EXEC");
    rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_STARVED), RIG_STARVED);
    assert_string_equal(fake_text(&g->target.groups), "{\n0:SET c 1\n}\n"); /* with its SELECT */
    assert_int_equal(counter_get(&g->counters.transactions), 1);
    assert_int_equal(g->applied, RIG_OFFSET + b.n);
    buf_release(&b);
    rig_free(g);
}

/* Far more than a batch takes by count and bytes, more than memory holds: still one. */
static void large_transaction(void **state)
{
    (void)state;
    enum { MANY = 6000 };
    struct buf b = stream_of("SET before 1|MULTI"), want;
    buf_init(&want, 8 << 20);
    static uint8_t value[400];
    memset(value, 'v', sizeof(value));
    char key[16];
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        struct span argv[] = {span_str("SET"), span_str(key), span_of(value, sizeof(value))};
        assert_int_equal(resp_put_cmd(&b, 3, argv, NULL), 0);
        assert_int_equal(buf_printf(&want, NULL, "0:SET %s ", key), 0);
        fake_word(&want, argv[2]);
        assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
    }
    rig_commands(&b, "EXEC|SET after 1");
    for (int feed = RIG_AT_ONCE; feed <= RIG_FLOWING; feed++) {
        struct rig *g = rig_new();
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        wants_in(&g->target.groups, fake_text(&want));
        assert_int_equal(g->applied, RIG_OFFSET + b.n);
        rig_free(g);
    }
    buf_release(&b);
    buf_release(&want);
}

static void transaction_beyond_the_quota(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    g->store_max_bytes = 1 << 20;
    struct buf b = stream_of("MULTI");
    static uint8_t value[400000];
    struct span argv[] = {span_str("SET"), span_str("k"), span_of(value, sizeof(value))};
    for (int i = 0; i < 3; i++)
        assert_int_equal(resp_put_cmd(&b, 3, argv, NULL), 0);
    rig_commands(&b, "EXEC");
    assert_int_equal(rig_replay(g, buf_span(&b), RIG_AT_ONCE), -1);
    assert_int_equal(g->err.code, ERR_LIMIT);
    buf_release(&b);
    rig_free(g);
}

/* --- ends --- */

/* Stopped, or the source gone, in the middle: what came before is applied, no byte of the rest. */
static void check_cut(const char *whole, const struct buf *begun, const char *ran)
{
    struct buf b = stream_of(whole);
    assert_int_equal(buf_add(&b, begun->p, begun->n, NULL), 0);
    for (int feed = RIG_AT_ONCE; feed <= RIG_FLOWING; feed++) {
        struct rig *g = rig_new();
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        assert_string_equal(fake_text(&g->target.ran), ran);
        assert_int_equal(g->applied, RIG_OFFSET + length_of(whole));
        rig_free(g);
    }
    buf_release(&b);
}

static void cut_in_transaction(void **state)
{
    (void)state;
    struct buf tx = stream_of("MULTI|SET b 2|SELECT 5|SET c 3");
    check_cut("SET a 1|SELECT 2|SET a2 1", &tx, "0:SET a 1\n2:SET a2 1\n");
    check_cut("PING", &tx, "");
    buf_release(&tx);
}

static void cut_in_command(void **state)
{
    (void)state;
    struct buf cmd = stream_of("SET b 2");
    while (--cmd.n)
        check_cut("SET a 1", &cmd, "0:SET a 1\n");
    buf_release(&cmd);
}

static struct buf giant(const char *before, const char *after, size_t n)
{
    struct buf value, b;
    struct span argv[16];
    size_t argc = 0;
    buf_init(&value, n + 1);
    buf_init(&b, n + 4096);
    assert_int_equal(buf_reserve(&value, n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        value.p[i] = (uint8_t)(i * 2654435761u >> 11);
    for (const char *w = before; w; w = strchr(w, ' ') ? strchr(w, ' ') + 1 : NULL)
        argv[argc++] = span_of(w, strcspn(w, " "));
    argv[argc++] = span_of(value.p, n);
    for (const char *w = after; w; w = strchr(w, ' ') ? strchr(w, ' ') + 1 : NULL)
        argv[argc++] = span_of(w, strcspn(w, " "));
    assert_int_equal(resp_put_cmd(&b, argc, argv, NULL), 0);
    buf_release(&value);
    return b;
}

static void cut_in_long_command(void **state)
{
    (void)state;
    struct buf cmd = giant("SET k", NULL, 5 << 20);
    static const size_t lengths[] = {5000000, 4400000, 40};
    for (size_t i = 0; i < 3; i++) {
        cmd.n = lengths[i];
        check_cut("SET a 1|SET a 2", &cmd, "0:SET a 1\n0:SET a 2\n");
        check_cut("SELECT 4|PING", &cmd, "");
    }
    buf_release(&cmd);
}

static void broken_stream(void **state)
{
    (void)state;
    static const char *const ends[] = {"+OK\r\n", "*2\r\n$x\r\n", "*1\r\n:5\r\n", "\x80",
                                       "*2\r\n$3\r\nGETxx$1\r\na\r\n"};
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct rig *g = rig_new();
        struct buf b = stream_of("SET a 1");
        assert_int_equal(buf_add(&b, ends[i], strlen(ends[i]), NULL), 0);
        assert_int_equal(rig_replay(g, buf_span(&b), RIG_AT_ONCE), -1);
        assert_int_equal(g->err.code, ERR_PROTO);
        assert_non_null(strstr(g->err.msg, "stream"));
        buf_release(&b);
        rig_free(g);
    }
}

/* --- long commands --- */

/* In any feed: `groups` has the value in place of "%". */
static void check_giant(const char *text, const struct buf *cmd, size_t n, const char *groups,
                        const char *db)
{
    struct buf b = stream_of(text), want, word;
    buf_init(&want, 4096);
    buf_init(&word, 4096);
    assert_int_equal(buf_add(&b, cmd->p, cmd->n, NULL), 0);
    const uint8_t *value = memmem(cmd->p, cmd->n, "\x00", 1);
    assert_non_null(value); /* giant() makes values that begin with NUL */
    fake_word(&word, span_of(value, n));
    for (const char *p = groups; *p; p++) {
        struct span s = *p == '%' ? buf_span(&word) : span_of(p, 1);
        assert_int_equal(buf_add(&want, s.p, s.n, NULL), 0);
    }
    if (strncmp(text, "MULTI", 5) == 0) rig_commands(&b, "SET t 2|EXEC");
    for (int feed = RIG_AT_ONCE; feed <= RIG_FLOWING; feed++) {
        struct rig *g = rig_new();
        assert_int_equal(db_select_parse(&g->task.select, db, NULL), 0);
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        assert_string_equal(fake_text(&g->target.groups), fake_text(&want));
        assert_int_equal(g->applied, RIG_OFFSET + b.n);
        rig_free(g);
    }
    buf_release(&b);
    buf_release(&want);
    buf_release(&word);
}

#define FAR "140737488355328" /* in place of the time that a PEXPIREAT behind it sets */

static void long_commands(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after, *text, *groups, *db;
    } cases[] = {
        {"SET k", NULL, "", "{\n0:SET k %\n}\n", NULL}, /* with its SELECT */
        {"set k", "EX 10", "", "{\n0:set k %\n0:PEXPIREAT k 1700000010000\n}\n", NULL},
        {"SET k", "NX PX 10", "", "{\n0:SET k %\n0:PEXPIREAT k 1700000000010\n}\n", NULL},
        {"SET k", "PXAT 10", "", "{\n0:SET k %\n0:PEXPIREAT k 10\n}\n", NULL},
        {"SET k", "EXAT 10", "", "{\n0:SET k %\n0:PEXPIREAT k 10000\n}\n", NULL},
        {"SET k", "IFEQ PXAT EXAT 10", "", "{\n0:SET k %\n0:PEXPIREAT k 10000\n}\n", NULL},
        {"SET k", "IFEQ PXAT", "", "{\n0:SET k %\n}\n", NULL},
        {"SET k", "NX", "", "{\n0:SET k % NX\n}\n", NULL},
        {"SET k", "PX", "", "{\n0:SET k % PX\n}\n", NULL},
        {"RESTORE k 10", NULL, "", "{\n0:RESTORE k " FAR " %\n0:PEXPIREAT k 1700000000010\n}\n",
         NULL},
        {"RESTORE k 10", "REPLACE ABSTTL", "",
         "{\n0:RESTORE k " FAR " % REPLACE ABSTTL\n0:PEXPIREAT k 10\n}\n", NULL},
        {"RESTORE k 0", "REPLACE", "", "{\n0:RESTORE k 0 % REPLACE\n}\n", NULL},
        {"SETEX k 10", NULL, "", "{\n0:SETEX k " FAR " %\n0:PEXPIREAT k 1700000010000\n}\n", NULL},
        {"psetex k 10", NULL, "", "{\n0:psetex k " FAR " %\n0:PEXPIREAT k 1700000000010\n}\n",
         NULL},
        {"APPEND k", NULL, "MULTI|SET t 1", "{\n0:SET t 1\n0:APPEND k %\n0:SET t 2\n}\n", NULL},
        {"SET k", NULL, "SELECT 1", "", "0"},
        {"SET k", "EX 10", "SELECT 1", "", "0"},
    };
    enum { N = 5 << 20 };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf cmd = giant(cases[i].before, cases[i].after, N);
        check_giant(cases[i].text, &cmd, N, cases[i].groups, cases[i].db);
        buf_release(&cmd);
    }
}

/* --- deadlines that are held (hold.c) --- */

#define IN_10MS  "1700000000010"
#define HELD_10  "142437488355338" /* 1700000000010 + HOLD_SHIFT_MS */
#define HAS_HELD ":" HELD_10 "\r\n"
#define HAS_NONE ":-1\r\n"

/* The target tells of `key` alone that it has the held deadline. */
static void check_held(const char *stream, const char *key, const char *ran)
{
    char ask[64];
    snprintf(ask, sizeof(ask), "PEXPIRETIME %s", key);
    const struct fake_rule rules[] = {{.match = ask, .reply = HAS_HELD},
                                      {.match = "PEXPIRETIME", .reply = HAS_NONE}};
    for (int feed = RIG_AT_ONCE; feed <= RIG_STARVED; feed++) {
        struct rig *g = rig_new();
        struct buf b = stream_of(stream), log;
        g->hold = true;
        RIG_RULES(g, rules);
        int rc = rig_replay(g, buf_span(&b), (enum rig_feed)feed);
        rig_assert_ended(g, rc, (enum rig_feed)feed);
        buf_init(&log, 1 << 20);
        for (const char *p = fake_text(&g->target.ran); *p; p = strchr(p, '\n') + 1)
            if (strncmp(p + 1, ":PEXPIRETIME", 12) != 0)
                assert_int_equal(buf_add(&log, p, strcspn(p, "\n") + 1, NULL), 0);
        assert_string_equal(fake_text(&log), ran);
        assert_int_equal(g->pl.hold.n, 0);
        buf_release(&log);
        buf_release(&b);
        rig_free(g);
    }
}

static void held_deadlines(void **state)
{
    (void)state;
    static const struct {
        const char *stream, *key, *ran;
    } cases[] = {
        {"SET k v PX 10", "k", "0:SET k v PXAT " HELD_10 "\n0:PEXPIREAT k " IN_10MS "\n"},
        {"SET k v PX 10|SET k w PX 10000000", "none",
         "0:SET k v PXAT " HELD_10 "\n0:SET k w PXAT 1700010000000\n"},
        {"SET k v PX 10|RENAME k l", "l",
         "0:SET k v PXAT " HELD_10 "\n0:RENAME k l\n0:PEXPIREAT l " IN_10MS "\n"},
        /* what a script does with its keys cannot be seen */
        {"SET k v PX 10|EVAL rename 2 k l", "l",
         "0:SET k v PXAT " HELD_10 "\n0:EVAL rename 2 k l\n0:PEXPIREAT l " IN_10MS "\n"},
        {"SET k v PX 10|FCALL f 2 k l", "l",
         "0:SET k v PXAT " HELD_10 "\n0:FCALL f 2 k l\n0:PEXPIREAT l " IN_10MS "\n"},
        {"MSETEX 2 k v l w PXAT " IN_10MS, "l",
         "0:SET k v PXAT " HELD_10 "\n0:SET l w PXAT " HELD_10 "\n0:PEXPIREAT l " IN_10MS "\n"},
        {"MSETEX 2 k v l w NX PX 10", "k",
         "0:SET k v PXAT " HELD_10 "\n0:SET l w PXAT " HELD_10 "\n0:PEXPIREAT k " IN_10MS "\n"},
        {"SELECT 3|SET k v PX 10|SWAPDB 3 5|MULTI|SWAPDB 5 6|SELECT 6|PERSIST k|EXEC", "k",
         "3:SET k v PXAT " HELD_10 "\n3:SWAPDB 3 5\n3:SWAPDB 5 6\n6:PERSIST k\n"
         "6:PEXPIREAT k " IN_10MS "\n"},
        /* not finished: its databases were never swapped */
        {"SELECT 3|SET k v PX 10|SWAPDB 3 5|MULTI|SWAPDB 5 6", "k",
         "3:SET k v PXAT " HELD_10 "\n3:SWAPDB 3 5\n5:PEXPIREAT k " IN_10MS "\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_held(cases[i].stream, cases[i].key, cases[i].ran);
}

static void held_of_long_commands(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "PEXPIRETIME k", .reply = HAS_HELD}};
    static const char *const before[] = {"SET k", "PSETEX k 10", ("RESTORE k " IN_10MS)};
    static const char *const after[] = {("PXAT " IN_10MS), NULL, "ABSTTL"};
    for (size_t i = 0; i < 3; i++) {
        struct rig *g = rig_new();
        struct buf b = giant(before[i], after[i], 5 << 20);
        g->hold = true;
        RIG_RULES(g, rules);
        assert_int_equal(rig_replay(g, buf_span(&b), RIG_FLOWING), -1);
        if (i) wants_in(&g->target.groups, FAR);
        wants_in(&g->target.groups, "0:PEXPIREAT k " HELD_10 "\n}\n");
        wants_in(&g->target.groups, "}\n0:PEXPIREAT k " IN_10MS "\n");
        buf_release(&b);
        rig_free(g);
    }
}

/* Many arguments, together more than is held. */
static void long_command_of_many(void **state)
{
    (void)state;
    enum { MANY = 1200, EACH = 5000 };
    struct span *argv = calloc(MANY + 2, sizeof(*argv));
    uint8_t *value = malloc(EACH);
    assert_non_null(argv);
    assert_non_null(value);
    memset(value, 'x', EACH);
    argv[0] = span_str("RPUSH");
    argv[1] = span_str("list");
    struct buf b = stream_of("SET a 1"), want;
    buf_init(&want, 1 << 20);
    assert_int_equal(buf_add(&want, "0:RPUSH list", 12, NULL), 0);
    for (int i = 0; i < MANY; i++) {
        argv[2 + i] = span_of(value, EACH - (size_t)i);
        assert_int_equal(buf_add(&want, " ", 1, NULL), 0);
        fake_word(&want, argv[2 + i]);
    }
    assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
    assert_int_equal(resp_put_cmd(&b, MANY + 2, argv, NULL), 0);
    assert_true(b.n > REPLAY_HELD_MAX);
    rig_commands(&b, "SET z 1");
    struct rig *g = rig_new();
    rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_FLOWING), RIG_FLOWING);
    wants_in(&g->target.ran, fake_text(&want));
    wants_in(&g->target.ran, "0:SET z 1\n");
    assert_int_equal(g->applied, RIG_OFFSET + b.n);
    rig_free(g);
    buf_release(&b);
    buf_release(&want);
    free(value);
    free(argv);
}

/* KEEPTTL behind other options is seen only when the value has gone: told, and by policy an error.
 */
static void long_value_that_keeps_its_deadline(void **state)
{
    (void)state;
    struct buf cmd = giant("SET k", "IFEQ v KEEPTTL", 5 << 20);
    for (int go_on = 0; go_on < 2; go_on++) {
        struct rig *g = rig_new();
        g->task.on_error = go_on ? TASK_ON_ERROR_CONTINUE : TASK_ON_ERROR_STOP;
        int rc = rig_replay(g, buf_span(&cmd), RIG_AT_ONCE);
        assert_int_equal(rc, go_on ? 0 : -1);
        if (!go_on) assert_non_null(strstr(g->err.msg, "too large to be sent with these options"));
        assert_int_equal(counter_get(&g->counters.errors), 1);
        rig_free(g);
    }
    buf_release(&cmd);
}

/* The line end behind an argument is checked there as well. */
static void broken_long_command(void **state)
{
    (void)state;
    struct buf cmd = giant("SET k", "KEEPTTL", 5 << 20);
    uint8_t *end = memmem(cmd.p + (5 << 20), cmd.n - (5 << 20), "\r\n$7\r\n", 6);
    assert_non_null(end);
    end[1] = 'x';
    struct rig *g = rig_new();
    assert_int_equal(rig_replay(g, buf_span(&cmd), RIG_AT_ONCE), -1);
    assert_int_equal(g->err.code, ERR_PROTO);
    buf_release(&cmd);
    rig_free(g);
}

/* --- time --- */

/* A relative time counts from the receipt, however long the bytes waited. */
static void time_of_receipt(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct buf first = stream_of("EXPIRE k 10"), second = stream_of("EXPIRE k 10");
    struct fake_part parts[] = {{.bytes = buf_span(&first), .pause_ms = 500},
                                {.bytes = buf_span(&second)}};
    rig_open(g, parts, 2, RIG_KEPT_OPEN);
    rig_receive(g, first.n);
    rig_set_wall(RIG_WALL_MS + 5000);
    rig_receive(g, first.n + second.n);
    rig_set_wall(RIG_WALL_MS + 3600000);
    g->stop = true;
    assert_int_equal(rig_run_replay(g, 0), 0);
    rig_close(g);
    assert_string_equal(fake_text(&g->target.ran),
                        "0:PEXPIREAT k 1700000010000\n0:PEXPIREAT k 1700000015000\n");
    buf_release(&first);
    buf_release(&second);
    rig_free(g);
}

/* --- acknowledging, catching up --- */

/* GETACK (of WAIT on the source) is answered as soon as what came before it is applied. */
static void acknowledges_when_asked(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct buf first = stream_of("SET a 1"), second = stream_of("SET b 2|REPLCONF GETACK *");
    struct fake_part parts[] = {{.bytes = buf_span(&first), .pause_ms = 200},
                                {.bytes = buf_span(&second), .pause_ms = 700}};
    rig_open(g, parts, 2, RIG_FLOWING);
    rig_assert_ended(g, rig_run_replay(g, 0), RIG_FLOWING);
    rig_close(g);
    char num[24], want[64];
    int n = snprintf(num, sizeof(num), "%zu", RIG_OFFSET + first.n + second.n);
    snprintf(want, sizeof(want), "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$%d\r\n%s\r\n", n, num);
    wants_in(&g->source.back, want);
    buf_release(&first);
    buf_release(&second);
    rig_free(g);
}

static void caught_up_by_probe(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct buf b = stream_of("SET a 1|SET b 2");
    char info[100];
    snprintf(info, sizeof(info), "# Replication\r\nrole:master\r\nmaster_repl_offset:%zu\r\n",
             RIG_OFFSET + b.n);
    g->info = info;
    g->task.until = TASK_UNTIL_CAUGHT_UP;
    rig_open_bytes(g, buf_span(&b), RIG_KEPT_OPEN);
    if (rig_run_replay(g, 0) < 0) fail_msg("%s", g->err.msg);
    rig_close(g);
    assert_int_equal(counter_get(&g->counters.phase), PHASE_STREAM);
    assert_int_equal(counter_get(&g->counters.source_offset), RIG_OFFSET + b.n);
    assert_true(counter_get(&g->counters.caught_up_ms) > 0);
    assert_int_equal(g->applied, RIG_OFFSET + b.n);
    assert_string_equal(fake_text(&g->target.ran), "0:SET a 1\n0:SET b 2\n");
    buf_release(&b);
    rig_free(g);
}

/* The source says that there is more: not caught up, and it goes on until the link ends. */
static void not_caught_up(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct buf b = stream_of("SET a 1");
    struct fake_part part = {.bytes = buf_span(&b), .pause_ms = 1000};
    char info[100];
    snprintf(info, sizeof(info), "# Replication\r\nmaster_repl_offset:%zu\r\n",
             RIG_OFFSET + b.n + 1);
    g->info = info;
    g->task.until = TASK_UNTIL_CAUGHT_UP;
    rig_open(g, &part, 1, RIG_FLOWING);
    rig_assert_ended(g, rig_run_replay(g, 0), RIG_FLOWING);
    rig_close(g);
    assert_int_equal(counter_get(&g->counters.caught_up_ms), 0);
    assert_int_equal(counter_get(&g->counters.lag_bytes), 1);
    buf_release(&b);
    rig_free(g);
}

/* A target that hangs and comes back: lag is told meanwhile, nothing is lost. */
static void lag_is_told(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "SET a", .reply = OOM, .times = 1}};
    struct rig *g = rig_new();
    RIG_RULES(g, rules);
    struct buf b = stream_of("PING|SET a 1");
    rig_open_bytes(g, buf_span(&b), RIG_FLOWING);
    rig_assert_ended(g, rig_run_replay(g, 0), RIG_FLOWING);
    rig_close(g);
    assert_int_equal(g->pl.oldest_ms, 0);
    assert_int_equal(g->applied, RIG_OFFSET + b.n);
    assert_string_equal(fake_text(&g->target.ran), "0:SET a 1\n");
    buf_release(&b);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_in_database),
        cmocka_unit_test(inline_commands),
        cmocka_unit_test(many_commands),
        cmocka_unit_test(passing_fault_keeps_order),
        cmocka_unit_test(refused_stops),
        cmocka_unit_test(refused_after_the_source_is_lost),
        cmocka_unit_test(refused_passed_over),
        cmocka_unit_test(target_lost),
        cmocka_unit_test(transactions_stay_whole),
        cmocka_unit_test(small_transactions),
        cmocka_unit_test(large_transaction),
        cmocka_unit_test(transaction_beyond_the_quota),
        cmocka_unit_test(cut_in_transaction),
        cmocka_unit_test(cut_in_command),
        cmocka_unit_test(cut_in_long_command),
        cmocka_unit_test(broken_stream),
        cmocka_unit_test(long_commands),
        cmocka_unit_test(held_deadlines),
        cmocka_unit_test(held_of_long_commands),
        cmocka_unit_test(long_command_of_many),
        cmocka_unit_test(long_value_that_keeps_its_deadline),
        cmocka_unit_test(broken_long_command),
        cmocka_unit_test(time_of_receipt),
        cmocka_unit_test(acknowledges_when_asked),
        cmocka_unit_test(caught_up_by_probe),
        cmocka_unit_test(not_caught_up),
        cmocka_unit_test(lag_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
