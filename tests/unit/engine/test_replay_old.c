// SPDX-License-Identifier: BSD-3-Clause
// replay_old, replay_turn, replay_script, replay_payload: what becomes of what a target does not
// know. What the scripts do is tested on real servers (tests/e2e/test_stream_down.py).
#include "rig.h"

#include "base/crc64.h"
#include "told.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct row {
    const char *stream, *ran; /* ran: a long argument, such as a script, is "%" */
};

struct side {
    struct server_facts target;
    enum task_on_error on_error;
    enum task_on_unsupported on_unsupported;
    struct server_facts source;
};

#define REDIS(major, minor)                                                                        \
    {                                                                                              \
        .target = RIG_SERVER(FACTS_REDIS, major, minor, 9)                                         \
    }
#define VALKEY(major, minor)                                                                       \
    {                                                                                              \
        .target = RIG_SERVER(FACTS_VALKEY, major, minor, 11)                                       \
    }

static const struct side redis28 = REDIS(2, 8), redis32 = REDIS(3, 2), redis40 = REDIS(4, 0),
                         redis50 = REDIS(5, 0), redis60 = REDIS(6, 0), redis62 = REDIS(6, 2),
                         redis70 = REDIS(7, 0), redis74 = REDIS(7, 4), redis80 = REDIS(8, 0),
                         redis86 = REDIS(8, 6);
static const struct side valkey80 = VALKEY(8, 0), valkey81 = VALKEY(8, 1), valkey91 = VALKEY(9, 1);

static struct rig *rig_for(const struct side *s)
{
    struct rig *g = rig_new();
    g->target_facts = s->target;
    if (s->source.version) g->source_facts = s->source;
    g->task.on_error = s->on_error;
    g->task.on_unsupported = s->on_unsupported;
    return g;
}

/* "<123:0123456789abcdef>" becomes "%". */
static char *without_long_words(const char *text)
{
    char *out = calloc(1, strlen(text) + 1), *to = out;
    assert_non_null(out);
    for (; *text; text++) {
        const char *end = *text == '<' ? strchr(text, '>') : NULL;
        if (end) text = end;
        *to++ = end ? '%' : *text;
    }
    return out;
}

static void check_row(const struct side *s, const struct row *row, enum rig_feed feed)
{
    struct rig *g = rig_for(s);
    struct buf b;
    buf_init(&b, 1 << 20);
    rig_commands(&b, row->stream);
    rig_assert_ended(g, rig_replay(g, buf_span(&b), feed), feed);
    char *ran = without_long_words(fake_text(&g->target.ran));
    if (strcmp(ran, row->ran) != 0) fail_msg("%s\nwanted: %sgot: %s", row->stream, row->ran, ran);
    assert_int_equal(g->applied, RIG_OFFSET + b.n);
    free(ran);
    buf_release(&b);
    rig_free(g);
}

static void check_rows(const struct side *s, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        check_row(s, &rows[i], RIG_AT_ONCE);
        check_row(s, &rows[i], RIG_STARVED);
    }
}

#define CHECK_ROWS(s, rows)   check_rows(s, rows, sizeof(rows) / sizeof((rows)[0]))
#define CHECK(s, stream, ran) check_row(s, &(struct row){stream, ran}, RIG_AT_ONCE)

/* Stops by default, with these words; goes on where --on-error, --on-unsupported say so, and `ran`
 * is what comes of it. */
static void check_refused(const struct side *s, const char *stream, const char *words,
                          const char *ran)
{
    struct side go_on = *s, skip = *s;
    struct buf b;
    struct rig *g = rig_for(s);
    buf_init(&b, 1 << 20);
    rig_commands(&b, stream);
    assert_int_equal(rig_replay(g, buf_span(&b), RIG_AT_ONCE), -1);
    if (g->err.code != ERR_TARGET || !strstr(g->err.msg, words))
        fail_msg("%s: %s", stream, g->err.msg);
    buf_release(&b);
    rig_free(g);
    go_on.on_error = TASK_ON_ERROR_CONTINUE;
    CHECK(&go_on, stream, ran);
    skip.on_unsupported = TASK_UNSUPPORTED_SKIP;
    CHECK(&skip, stream, ran);
    skip.on_unsupported = TASK_UNSUPPORTED_DEGRADE;
    CHECK(&skip, stream, ran);
}

/* --- strings, keys --- */

static void set(void **state)
{
    (void)state;
    static const struct row v60[] = {
        {"SET k v PXAT 5", "0:SET k v\n0:PEXPIREAT k 5\n"},
        {"SET k v EXAT 5 NX", "0:SET k v NX\n0:PEXPIREAT k 5000\n"},
        {"SET k v IFEQ PXAT PXAT 7", "0:SET k v\n0:PEXPIREAT k 7\n"},
        {"SET k v GET XX", "0:SET k v XX\n"},
        {"SET k v KEEPTTL", "0:SET k v KEEPTTL\n"},
        {"SET k v KEEPTTL IFEQ w", "0:SET k v KEEPTTL\n"},
        {"SET IFEQ KEEPTTL", "0:SET IFEQ KEEPTTL\n"},
        {"SET k v PXAT x", "0:SET k v PXAT x\n"},
        {"SET k v EXAT 9223372036854775807", "0:SET k v EXAT 9223372036854775807\n"},
        {"SET k v PXAT", "0:SET k v PXAT\n"},
    };
    CHECK_ROWS(&redis60, v60);
    CHECK(&redis50, "SET k v KEEPTTL", "0:EVAL % 1 k v\n");
    CHECK(&redis50, "SET k v KEEPTTL XX", "0:EVAL % 1 k v\n");
    CHECK(&redis70, "SET k v IFEQ x", "0:SET k v\n");
    CHECK(&redis70, "SET k v IFEQ x KEEPTTL", "0:SET k v KEEPTTL\n");
    CHECK(&valkey80, "SET k v IFEQ x", "0:SET k v\n");
    CHECK(&valkey81, "SET k v IFEQ x", "0:SET k v IFEQ x\n");
    CHECK(&redis86, "SET k v IFEQ x PXAT 5", "0:SET k v IFEQ x PXAT 5\n");
    CHECK(&redis86, "SET k v IFNE x", "0:SET k v IFNE x\n");
    CHECK(&valkey91, "SET k v IFNE x", "0:SET k v\n");
    CHECK(&valkey91, "SET k v IFDEQ 12 NX", "0:SET k v NX\n");
}

static void keys(void **state)
{
    (void)state;
    static const struct row v60[] = {
        {"MSETEX 2 a 1 b 2 PXAT 5", "0:SET a 1\n0:PEXPIREAT a 5\n0:SET b 2\n0:PEXPIREAT b 5\n"},
        {"MSETEX 1 PXAT PXAT NX", "0:SET PXAT PXAT\n"},
        {"MSETEX 2 a 1 b 2 KEEPTTL", "0:SET a 1 KEEPTTL\n0:SET b 2 KEEPTTL\n"},
        {"MSETEX 3 a 1 b 2", "0:MSETEX 3 a 1 b 2\n"},
        {"MSETEX x a 1", "0:MSETEX x a 1\n"},
        {"MSETEX 18446744073709551615 a 1", "0:MSETEX 18446744073709551615 a 1\n"},
        {"GETDEL k|DELEX k IFEQ v|DELIFEQ k v", "0:DEL k\n0:DEL k\n0:DEL k\n"},
        {"UNLINK a b", "0:UNLINK a b\n"},
        {"COPY a b", "0:EVAL % 2 a b \n"},
        {"COPY a b REPLACE", "0:EVAL % 2 a b \n"},
        {"COPY a b DB 3 REPLACE", "0:EVAL % 2 a b 3\n"},
        {"COPY a", "0:COPY a\n"},
        {"PEXPIREAT k 5 NX|EXPIREAT k 5 GT", "0:PEXPIREAT k 5\n0:EXPIREAT k 5\n"},
        {"PEXPIREAT k 5 xx lt", "0:PEXPIREAT k 5\n"},
        {"PEXPIREAT NX 5", "0:PEXPIREAT NX 5\n"},
        {"EXPIRE k 10 GT", "0:PEXPIREAT k 1700000010000\n"},
        {"SCRIPT FLUSH ASYNC|SCRIPT FLUSH", "0:SCRIPT FLUSH\n0:SCRIPT FLUSH\n"},
    };
    CHECK_ROWS(&redis60, v60);
    CHECK(&redis70, "MSETEX 1 a 1 PXAT 5", "0:SET a 1 PXAT 5\n");
    CHECK(&valkey91, "MSETEX 1 a 1 PXAT 5", "0:MSETEX 1 a 1 PXAT 5\n");
    CHECK(&redis86, "MSETEX 1 a 1 PXAT 5", "0:MSETEX 1 a 1 PXAT 5\n");
    CHECK(&redis62, "COPY a b DB 3", "0:COPY a b DB 3\n");
    CHECK(&redis32, "UNLINK a b", "0:DEL a b\n");
    CHECK(&redis70, "PEXPIREAT k 5 NX", "0:PEXPIREAT k 5 NX\n");
    check_refused(&redis32, "SWAPDB 0 1|SET a 1", "SWAPDB", "0:SET a 1\n");
    CHECK(&valkey80, "SWAPDB 0 1", "0:SWAPDB 0 1\n");
    CHECK(&redis40, "SWAPDB 0 1", "0:SWAPDB 0 1\n");
    check_refused(&redis80, "BITOP DIFF d a b", "BITOP (database 0, key \"d\")", "");
    CHECK(&redis80, "BITOP AND DIFF a b", "0:BITOP AND DIFF a b\n");
    CHECK(&redis86, "BITOP DIFF d a b", "0:BITOP DIFF d a b\n");
}

static void restore(void **state)
{
    (void)state;
    static const struct row v32[] = {
        {"RESTORE k 5 short ABSTTL", "0:RESTORE k 0 short\n0:PEXPIREAT k 5\n"},
        {"RESTORE k 0 short ABSTTL REPLACE", "0:RESTORE k 0 short REPLACE\n"},
        {"RESTORE k 10 short REPLACE",
         "0:RESTORE k 0 short REPLACE\n0:PEXPIREAT k 1700000000010\n"},
        {"RESTORE k 0 short IDLETIME 5", "0:RESTORE k 0 short\n"},
        {"RESTORE k x short", "0:RESTORE k x short\n"},
    };
    CHECK_ROWS(&redis32, v32);
    CHECK(&redis28, "RESTORE k 5 short ABSTTL REPLACE",
          "0:DEL k\n0:RESTORE k 0 short\n0:PEXPIREAT k 5\n");
    CHECK(&redis50, "RESTORE k 5 short ABSTTL", "0:RESTORE k 5 short ABSTTL\n");
}

/* --- lists, sorted sets --- */

static void collections(void **state)
{
    (void)state;
    static const struct row v60[] = {
        {"LPOP l|RPOP l", "0:LPOP l\n0:RPOP l\n"},
        {"LPOP l 2|RPOP l 3", "0:LTRIM l 2 -1\n0:LTRIM l 0 -4\n"},
        {"LPOP l x", "0:LPOP l x\n"},
        {"LMOVE a b RIGHT LEFT", "0:RPOPLPUSH a b\n"},
        {"LMOVE a b left right", "0:EVAL % 2 a b 0 LPOP RPUSH\n"},
        {"LMOVE a b RIGHT RIGHT", "0:EVAL % 2 a b -1 RPOP RPUSH\n"},
        {"LMOVE a b", "0:LMOVE a b\n"},
        {"ZADD z GT 1 m", "0:ZADD z 1 m\n"},
        {"ZADD z XX LT CH 1 m", "0:ZADD z XX CH 1 m\n"},
        {"ZADD z GT INCR 1 m", "0:ZADD z INCR 1 m\n"},
        {"ZADD z GT 1 m 2 n", "0:EVAL % 1 z GT  1 m 2 n\n"},
        {"ZADD z XX CH LT 1 m 2 n", "0:EVAL % 1 z LT XX 1 m 2 n\n"},
        {"ZADD z 1 GT", "0:ZADD z 1 GT\n"},
        {"ZPOPMIN z 2", "0:ZPOPMIN z 2\n"},
        {"ZRANGESTORE d s 0 -1", "0:EVAL % 2 d s ZRANGE 0 -1\n"},
        {"ZRANGESTORE d s (1 5 BYSCORE LIMIT 1 2", "0:EVAL % 2 d s ZRANGEBYSCORE (1 5 LIMIT 1 2\n"},
        {"ZRANGESTORE d s + - REV BYLEX", "0:EVAL % 2 d s ZREVRANGEBYLEX + -\n"},
        {"ZRANGESTORE d s 0", "0:ZRANGESTORE d s 0\n"},
        {"ZDIFFSTORE d 2 a b", "0:EVAL % 3 d a b\n"},
        {"ZDIFFSTORE d 3 a b", "0:ZDIFFSTORE d 3 a b\n"},
        {"GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 200 km",
         "0:GEORADIUS s 15 37 200 km STORE d\n"},
        {"GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 2 m DESC COUNT 3 STOREDIST",
         "0:GEORADIUSBYMEMBER s m 2 m COUNT 3 DESC STOREDIST d\n"},
    };
    CHECK_ROWS(&redis60, v60);
    CHECK(&redis62, "LMOVE a b LEFT LEFT|LPOP l 2|ZADD z GT 1 m 2 n",
          "0:LMOVE a b LEFT LEFT\n0:LPOP l 2\n0:ZADD z GT 1 m 2 n\n");
    check_refused(&redis60, "GEOSEARCHSTORE d s FROMMEMBER m BYBOX 1 1 m", "GEOSEARCHSTORE", "");
    check_refused(&redis60, "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 m COUNT 1 ANY", "ANY", "");
    static const struct row v40[] = {
        {"ZPOPMIN z", "0:ZREMRANGEBYRANK z 0 0\n"},
        {"zpopmin z 3", "0:ZREMRANGEBYRANK z 0 2\n"},
        {"ZPOPMAX z 3", "0:ZREMRANGEBYRANK z -3 -1\n"},
        {"ZPOPMIN z 0", ""},
    };
    CHECK_ROWS(&redis40, v40);
    static const struct row v28[] = {
        {"ZADD z NX CH 1 m", "0:ZADD z 1 m\n"},    {"ZADD z XX 1 m", "0:ZADD z 1 m\n"},
        {"ZADD z INCR 1 m", "0:ZINCRBY z 1 m\n"},  {"HSET h f v", "0:HSET h f v\n"},
        {"HSET h f v g w", "0:HMSET h f v g w\n"},
    };
    CHECK_ROWS(&redis28, v28);
    check_refused(&redis28, "ZADD z NX 1 m 2 n", "ZADD", "");
}

/* --- hashes --- */

static void field_expiries(void **state)
{
    (void)state;
    static const struct row v74[] = {
        {"HSETEX h PXAT 5 FIELDS 2 f v g w", "0:HSET h f v g w\n0:HPEXPIREAT h 5 FIELDS 2 f g\n"},
        {"HSETEX h FXX EXAT 5 FIELDS 1 f v", "0:HSET h f v\n0:HPEXPIREAT h 5000 FIELDS 1 f\n"},
        {"HSETEX h KEEPTTL FIELDS 1 f v", "0:EVAL % 1 h f v\n"},
        {"HSETEX h FIELDS 1 f v", "0:HSET h f v\n"},
        {"HSETEX h PXAT x FIELDS 1 f v", "0:HSETEX h PXAT x FIELDS 1 f v\n"},
        {"HSETEX h FIELDS 2 f v", "0:HSETEX h FIELDS 2 f v\n"},
        {"HGETDEL h FIELDS 2 f g", "0:HDEL h f g\n"},
        {"HPEXPIREAT h 5 FIELDS 1 f", "0:HPEXPIREAT h 5 FIELDS 1 f\n"},
    };
    CHECK_ROWS(&redis74, v74);
    static const struct row v70[] = {
        {"HSETEX h KEEPTTL FIELDS 1 f v", "0:HSET h f v\n"},
        {"HPERSIST h FIELDS 1 f", ""},
        {"HGETDEL h FIELDS 1 f", "0:HDEL h f\n"},
    };
    CHECK_ROWS(&redis70, v70);
    CHECK(&redis28, "HSETEX h KEEPTTL FIELDS 2 f v g w", "0:HMSET h f v g w\n");
    check_refused(&redis70, "HPEXPIREAT h 5 FIELDS 1 f|SET a 1",
                  "HPEXPIREAT (database 0, key \"h\"): the target has no expiry of hash fields",
                  "0:SET a 1\n");
    check_refused(&valkey81, "HSETEX h PXAT 5 FIELDS 1 f v",
                  "HSETEX (database 0, key \"h\"): the target has no expiry of hash fields",
                  "0:HSET h f v\n");
    /* Each family has conditions of its own. */
    CHECK(&redis86, "HSETEX h NX FNX PXAT 5 FIELDS 1 f v", "0:HSETEX h PXAT 5 FIELDS 1 f v\n");
    CHECK(&valkey91, "HSETEX h FXX KEEPTTL FIELDS 1 FNX XX",
          "0:HSETEX h KEEPTTL FIELDS 1 FNX XX\n");
    CHECK(&valkey91, "HGETDEL h FIELDS 1 f", "0:HGETDEL h FIELDS 1 f\n");
}

/* --- streams --- */

static void streams(void **state)
{
    (void)state;
    static const struct row v60[] = {
        {"XADD s NOMKSTREAM 1-1 f v", "0:XADD s 1-1 f v\n"},
        {"XADD s MAXLEN = 3 1-1 f v", "0:XADD s MAXLEN = 3 1-1 f v\n"},
        {"XADD s NOMKSTREAM MINID = 5-1 9-1 MINID 4-4",
         "0:XADD s 9-1 MINID 4-4\n0:EVAL % 1 s 5-0\n"},
        {"XADD s MINID 5-0 9-1 f v", "0:XADD s 9-1 f v\n0:EVAL % 1 s 4-18446744073709551615\n"},
        {"XADD s MINID = 5 LIMIT 10 9-1 f v",
         "0:XADD s 9-1 f v\n0:EVAL % 1 s 4-18446744073709551615\n"},
        {"XADD s MINID 0-0 9-1 f v", "0:XADD s 9-1 f v\n"},
        {"XADD s MINID x 9-1 f v", "0:XADD s 9-1 f v\n"},
        {"XTRIM s MINID = 7-7", "0:EVAL % 1 s 7-6\n"},
        {"XTRIM s MINID 0", ""},
        {"XTRIM s MAXLEN 4", "0:XTRIM s MAXLEN 4\n"},
        {"XSETID s 5-5 ENTRIESADDED 9 MAXDELETEDID 1-1", "0:XSETID s 5-5\n"},
        {"XGROUP CREATE s g $ MKSTREAM ENTRIESREAD 5", "0:XGROUP CREATE s g $ MKSTREAM\n"},
        {"XGROUP SETID s g 5-5 ENTRIESREAD 5", "0:XGROUP SETID s g 5-5\n"},
        {"XGROUP CREATE s ENTRIESREAD 5-5", "0:XGROUP CREATE s ENTRIESREAD 5-5\n"},
        {"XGROUP CREATECONSUMER s g c", "0:XREADGROUP GROUP g c COUNT 1 STREAMS s 0\n"},
        {"XGROUP DELCONSUMER s g CREATECONSUMER", "0:XGROUP DELCONSUMER s g CREATECONSUMER\n"},
        {"XCLAIM s g c 0 1-1 TIME 5 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1",
         "0:EVAL % 1 s g c 0 1-1 TIME 5 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1\n"},
        {"XDELEX s DELREF IDS 2 1-1 2-2", "0:EVAL % 1 s  DELREF 1-1 2-2\n"},
        {"XDELEX s IDS 1 1-1", "0:EVAL % 1 s  KEEPREF 1-1\n"},
        {"XACKDEL s g ACKED IDS 1 1-1", "0:EVAL % 1 s g ACKED 1-1\n"},
        {"XACKDEL s g ACKED IDS 1", "0:XACKDEL s g ACKED IDS 1\n"},
    };
    CHECK_ROWS(&redis60, v60);
    static const struct row v70[] = {
        {"XADD s NOMKSTREAM MINID = 5-1 LIMIT 10 9-1 LIMIT 1",
         "0:XADD s NOMKSTREAM MINID = 5-1 9-1 LIMIT 1\n"},
        {"XTRIM s MAXLEN = 5 LIMIT 10", "0:XTRIM s MAXLEN = 5\n"},
        {"XSETID s 5-5 ENTRIESADDED 9", "0:XSETID s 5-5 ENTRIESADDED 9\n"},
        {"XGROUP CREATECONSUMER s g c", "0:XGROUP CREATECONSUMER s g c\n"},
        {"XCLAIM s g c 0 1-1 FORCE", "0:XCLAIM s g c 0 1-1 FORCE\n"},
        {"XADD s KEEPREF MAXLEN 5 9-1 f v", "0:XADD s MAXLEN 5 9-1 f v\n"},
        {"XACKDEL s g IDS 1 1-1", "0:EVAL % 1 s g KEEPREF 1-1\n"},
    };
    CHECK_ROWS(&redis70, v70);
    CHECK(&redis86, "XADD s DELREF MAXLEN = 5 LIMIT 10 9-1 f v|XACKDEL s g IDS 1 1-1",
          "0:XADD s DELREF MAXLEN = 5 9-1 f v\n0:XACKDEL s g IDS 1 1-1\n");
    check_refused(&valkey91, "XADD s DELREF MAXLEN = 5 9-1 f v", "XADD", "");
    check_refused(&redis80, "XTRIM s ACKED MAXLEN = 5", "XTRIM (database 0, key \"s\")", "");
    check_refused(&redis86, "XNACK s g FAIL IDS 1 1-1", "XNACK", "");
    /* A source of before 7.0 leaves such an entry pending as well. */
    struct side older = redis60;
    older.source = (struct server_facts)RIG_SERVER(FACTS_REDIS, 6, 2, 9);
    CHECK(&older, "XCLAIM s g c 0 1-1 FORCE", "0:XCLAIM s g c 0 1-1 FORCE\n");
}

static int times(const struct told *t, const char *words)
{
    int n = 0;
    for (const char *p = t->text; (p = strstr(p, words)) != NULL; p++)
        n++;
    return n;
}

/* What got lost is told once for a key. */
static void losses(void **state)
{
    (void)state;
    static const char stream[] = "XGROUP SETID s g 5-5 ENTRIESREAD 5|XSETID s 5-5 ENTRIESADDED 9|"
                                 "SELECT 3|XGROUP SETID t g 5-5 ENTRIESREAD 5";
    struct rig *g = rig_for(&redis60);
    struct buf b;
    buf_init(&b, 1 << 20);
    rig_commands(&b, stream);
    struct told told = {0};
    told_begin(&told);
    rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_AT_ONCE), RIG_AT_ONCE);
    told_end(&told);
    assert_int_equal(times(&told, "lost counters of the stream"), 2);
    assert_int_equal(times(&told, "key \"s\" of database 0"), 1);
    assert_int_equal(times(&told, "key \"t\" of database 3"), 1);
    assert_int_equal(counter_get(&g->counters.errors), 0);
    buf_release(&b);
    rig_free(g);
}

/* Named up to ten keys, counted all. */
static void left_out(void **state)
{
    (void)state;
    struct side skip = valkey91;
    skip.on_unsupported = TASK_UNSUPPORTED_SKIP;
    struct rig *g = rig_for(&skip);
    struct buf b;
    char cmd[64];
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 24; i++) {
        snprintf(cmd, sizeof(cmd), "VADD vs%d VALUES 2 1 2 e", i / 2);
        rig_commands(&b, cmd);
    }
    struct told told = {0};
    told_begin(&told);
    rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_AT_ONCE), RIG_AT_ONCE);
    told_end(&told);
    assert_int_equal(times(&told, "lost VADD: the target has no vector sets"), 10);
    assert_int_equal(times(&told, "24 changes were left out"), 1);
    assert_string_equal(fake_text(&g->target.ran), "");
    buf_release(&b);
    rig_free(g);
}

static void whole_types(void **state)
{
    (void)state;
    check_refused(&redis70, "VADD vs VALUES 2 1 2 e|VREM vs e|SET a 1", "no vector sets",
                  "0:SET a 1\n");
    check_refused(&valkey91, "VSETATTR vs e {}", "VSETATTR (database 0, key \"vs\")", "");
    check_refused(&redis86, "ARSET a 3 x", "no arrays", "");
    check_refused(&redis86, "INCREX k", "INCREX", "");
    CHECK(&redis80, "VADD vs VALUES 2 1 2 e", "0:VADD vs VALUES 2 1 2 e\n");
    CHECK(&redis80, "NOSUCH k VADD", "0:NOSUCH k VADD\n");
}

/* --- payloads --- */

static struct span payload(struct buf *b, const void *value, size_t n, unsigned version)
{
    uint8_t foot[10] = {(uint8_t)version, (uint8_t)(version >> 8)};
    buf_init(b, 1 << 20);
    assert_int_equal(buf_add(b, value, n, NULL), 0);
    uint64_t crc = crc64_portable(crc64_portable(0, value, n), foot, 2);
    for (int i = 0; i < 8; i++)
        foot[2 + i] = (uint8_t)(crc >> (8 * i));
    assert_int_equal(buf_add(b, foot, sizeof(foot), NULL), 0);
    return buf_span(b);
}

struct turned {
    const struct side *side;
    const char *value, *want; /* NULL: refused */
    size_t n, want_n;
    unsigned version, want_version;
};

static void check_turned(const struct turned *c)
{
    struct buf in, out, stream, want;
    struct side go_on = *c->side;
    if (!c->want) go_on.on_error = TASK_ON_ERROR_CONTINUE;
    struct rig *g = rig_for(&go_on);
    buf_init(&stream, 1 << 20);
    buf_init(&want, 1 << 20);
    struct span argv[] = {span_str("RESTORE"), span_str("k"), span_str("0"),
                          payload(&in, c->value, c->n, c->version)};
    assert_int_equal(resp_put_cmd(&stream, 4, argv, NULL), 0);
    rig_assert_ended(g, rig_replay(g, buf_span(&stream), RIG_AT_ONCE), RIG_AT_ONCE);
    buf_init(&out, 1);
    if (c->want) {
        assert_int_equal(buf_add(&want, "0:RESTORE k 0 ", 14, NULL), 0);
        fake_word(&want, payload(&out, c->want, c->want_n, c->want_version));
        assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
    }
    assert_string_equal(fake_text(&g->target.ran), fake_text(&want));
    assert_int_equal(counter_get(&g->counters.errors), c->want ? 0 : 1);
    buf_release(&in);
    buf_release(&out);
    buf_release(&stream);
    buf_release(&want);
    rig_free(g);
}

#define BYTES(s) (s), sizeof(s) - 1
#define TURNED(side, in, version, out, out_version)                                                \
    {                                                                                              \
        side, in, out, sizeof(in) - 1, sizeof(out) - 1, version, out_version                       \
    }
#define REFUSED(side, in, version)                                                                 \
    {                                                                                              \
        side, in, NULL, sizeof(in) - 1, 0, version, 0                                              \
    }

/* A hash as a listpack: f, v. A set as one: a. */
#define HASH_LISTPACK                                                                              \
    "\x10\x0d\x0d\0\0\0\x02\0\x81"                                                                 \
    "f\x02\x81v\x02\xff"
#define HASH_PLAIN                                                                                 \
    "\x04\x80\0\0\0\x01\x01"                                                                       \
    "f\x01v"
#define SET_LISTPACK                                                                               \
    "\x14\x0a\x0a\0\0\0\x01\0\x81"                                                                 \
    "a\x02\xff"
/* A hash with field expiries: smallest deadline, one field with one, 1000 ms after. */
#define HASH_EXPIRES                                                                               \
    "\x18\xe8\x03\0\0\0\0\0\0\x01\x01\x01"                                                         \
    "f\x01v"

static void payloads(void **state)
{
    (void)state;
    static const struct side valkey90 = {.target = RIG_SERVER(FACTS_VALKEY, 9, 0, 80)};
    struct side degrade = redis70;
    degrade.on_unsupported = TASK_UNSUPPORTED_DEGRADE;
    const struct turned cases[] = {
        TURNED(&redis60, HASH_LISTPACK, 10, HASH_PLAIN, 6),
        TURNED(&redis70, HASH_LISTPACK, 9, HASH_LISTPACK, 9),
        TURNED(&redis70, SET_LISTPACK, 11,
               "\x02\x80\0\0\0\x01\x01"
               "a",
               6),
        TURNED(&redis60, "\0\x01v", 13, "\0\x01v", 6),
        TURNED(&valkey90, HASH_EXPIRES, 12,
               "\x16\x80\0\0\0\x01\x01"
               "f\x01v\xe8\x03\0\0\0\0\0\0",
               80),
        TURNED(&degrade, HASH_EXPIRES, 12, HASH_PLAIN, 6),
        REFUSED(&redis70, HASH_EXPIRES, 12),                /* would lose the expiry */
        REFUSED(&redis60, "\x07\x81\0\0\0\0\0\0\0\0\0", 9), /* a module: 6.0 would exit */
        REFUSED(&redis60, "\x10\x0d\x0d\0\0", 10),          /* cut */
        REFUSED(&redis80, "\x1c\x01\x02", 14),              /* an array */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_turned(&cases[i]);
}

/* --- hostile --- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Words that mean something somewhere, in any order and number: each command is dealt with. */
static void any_words(void **state)
{
    (void)state;
    static const char *const names[] = {
        "SET",    "MSETEX",  "COPY",     "RESTORE",     "PEXPIREAT",  "BITOP",  "LPOP",
        "LMOVE",  "ZADD",    "ZPOPMAX",  "ZRANGESTORE", "ZDIFFSTORE", "HSET",   "GEOSEARCHSTORE",
        "HSETEX", "HGETDEL", "HPERSIST", "HPEXPIREAT",  "XADD",       "XTRIM",  "XSETID",
        "XGROUP", "XCLAIM",  "XDELEX",   "XACKDEL",     "VADD",       "GETDEL", "UNLINK"};
    static const char *const words[] = {
        "k",      "0",           "-1",      "5-5",      "18446744073709551615",
        "EX",     "PXAT",        "EXAT",    "KEEPTTL",  "IFEQ",
        "GET",    "NX",          "XX",      "GT",       "LT",
        "CH",     "INCR",        "FIELDS",  "IDS",      "ACKED",
        "DELREF", "MINID",       "MAXLEN",  "=",        "~",
        "LIMIT",  "ENTRIESREAD", "",        "1",        "2",
        "DB",     "REPLACE",     "BYSCORE", "REV",      "FROMMEMBER",
        "LEFT",   "COUNT",       "IDMP",    "BYRADIUS", "CREATECONSUMER",
        "ABSTTL", "STOREDIST"};
    static const struct side *const sides[] = {&redis28, &redis40,  &redis60, &redis74,
                                               &redis86, &valkey80, &valkey91};
    enum { COMMANDS = 4000 };
    for (uint32_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
        struct side go_on = *sides[i];
        struct buf b;
        uint32_t seed = i + 1;
        go_on.on_error = TASK_ON_ERROR_CONTINUE;
        struct rig *g = rig_for(&go_on);
        buf_init(&b, 4 << 20);
        for (int n = 0; n < COMMANDS; n++) {
            struct span argv[12] = {span_str(names[next_random(&seed) % 28])};
            size_t argc = 1 + next_random(&seed) % 11;
            for (size_t a = 1; a < argc; a++)
                argv[a] = span_str(words[next_random(&seed) % 42]);
            assert_int_equal(resp_put_cmd(&b, argc, argv, NULL), 0);
        }
        struct log_config quiet = {.level = LOG_ERROR, .file = "/dev/null"};
        assert_int_equal(log_open(&quiet, &g->err), 0);
        rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_AT_ONCE), RIG_AT_ONCE);
        log_close();
        assert_int_equal(g->applied, RIG_OFFSET + b.n);
        assert_int_equal(counter_get(&g->counters.commands_read), COMMANDS);
        buf_release(&b);
        rig_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set),
        cmocka_unit_test(keys),
        cmocka_unit_test(restore),
        cmocka_unit_test(collections),
        cmocka_unit_test(field_expiries),
        cmocka_unit_test(streams),
        cmocka_unit_test(losses),
        cmocka_unit_test(left_out),
        cmocka_unit_test(whole_types),
        cmocka_unit_test(payloads),
        cmocka_unit_test(any_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
