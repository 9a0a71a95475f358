// SPDX-License-Identifier: BSD-3-Clause
// replay_rules: what becomes of each command of the stream.
#include "rig.h"

#include "base/crc64.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Receipt at 1700000000000. */
#define IN_10S  "1700000010000"
#define IN_10MS "1700000000010"

struct row {
    const char *stream, *ran;
};

struct sides {
    const char *db, *map; /* NULL: all, none */
    struct server_facts target;
    enum task_on_error on_error;
    enum task_conflict on_conflict;
};

static const struct server_facts redis70 = RIG_SERVER(FACTS_REDIS, 7, 0, 10);
static const struct server_facts redis86 = RIG_SERVER(FACTS_REDIS, 8, 6, 13);

static struct rig *rig_for(const struct sides *s)
{
    struct rig *g = rig_new();
    g->target_facts = s->target.version ? s->target : redis70;
    g->task.on_error = s->on_error;
    g->task.on_conflict = s->on_conflict;
    assert_int_equal(db_select_parse(&g->task.select, s->db, &g->err), 0);
    assert_int_equal(db_select_parse_map(&g->task.select, s->map, &g->err), 0);
    return g;
}

static void check_row(const struct sides *s, const struct row *row, enum rig_feed feed)
{
    struct rig *g = rig_for(s);
    struct buf b;
    buf_init(&b, 1 << 20);
    rig_commands(&b, row->stream);
    int rc = rig_replay(g, buf_span(&b), feed);
    rig_assert_ended(g, rc, feed);
    if (strcmp(fake_text(&g->target.ran), row->ran) != 0)
        fail_msg("%s\nwanted: %sgot: %s", row->stream, row->ran, fake_text(&g->target.ran));
    assert_int_equal(g->applied, RIG_OFFSET + b.n);
    buf_release(&b);
    rig_free(g);
}

static void check_rows(const struct sides *s, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        check_row(s, &rows[i], RIG_AT_ONCE);
        check_row(s, &rows[i], RIG_STARVED);
    }
}

#define CHECK_ROWS(s, rows) check_rows(s, rows, sizeof(rows) / sizeof((rows)[0]))

/* The replay stops with this code and these words; what came before is applied or not. */
static void check_stops(const struct sides *s, const char *stream, enum err_code code,
                        const char *words)
{
    struct rig *g = rig_for(s);
    struct buf b;
    buf_init(&b, 1 << 20);
    rig_commands(&b, stream);
    assert_int_equal(rig_replay(g, buf_span(&b), RIG_FLOWING), -1);
    if (g->err.code != code || !strstr(g->err.msg, words)) fail_msg("%s: %s", stream, g->err.msg);
    buf_release(&b);
    rig_free(g);
}

/* A source passes on the id that the message got, with whose it was; servers take the two together
 * only from their own source. */
static void idempotent_producers(void **state)
{
    (void)state;
    static const struct row plain[] = {
        {"XADD s IDMP p i 5-1 f v", "0:XADD s 5-1 f v\n"},
        {"XADD s IDMPAUTO p 5-1 f v", "0:XADD s 5-1 f v\n"},
        {"XADD s NOMKSTREAM idmp p i MAXLEN = 3 5-1 f v",
         "0:XADD s NOMKSTREAM MAXLEN = 3 5-1 f v\n"},
        {"XADD s KEEPREF IDMP p i MINID 4-0 5-1 f v", "0:XADD s MINID 4-0 5-1 f v\n"},
        {"XADD s MAXLEN = 3 5-1 IDMP v", "0:XADD s MAXLEN = 3 5-1 IDMP v\n"},
        {"XADD s 5-1 IDMP p i v", "0:XADD s 5-1 IDMP p i v\n"},
        /* came again, and was not added */
        {"XADD s IDMP p i * f v|SET a 1", "0:SET a 1\n"},
        {"XCFGSET s IDMP-DURATION 50|XIDMPRECORD s p i 5-1|SET a 1", "0:SET a 1\n"},
        {"XADD s IDMP p i", "0:XADD s IDMP p i\n"},
        {"XADD s IDMP p", "0:XADD s IDMP p\n"},
    };
    static const struct row known[] = {
        {"XADD s IDMP p i 5-1 f v", "0:XADD s 5-1 f v\n0:XIDMPRECORD s p i 5-1\n"},
        {"XADD s IDMPAUTO p 5-1 f v", "0:XADD s 5-1 f v\n"},
        {"XCFGSET s IDMP-DURATION 50|XIDMPRECORD s p i 5-1",
         "0:XCFGSET s IDMP-DURATION 50\n0:XIDMPRECORD s p i 5-1\n"},
    };
    static const struct row elsewhere[] = {
        {"XADD s IDMP p i 5-1 f v|SELECT 3|XADD s IDMP p i 5-1 f v",
         "0:XADD s 5-1 f v\n0:XIDMPRECORD s p i 5-1\n"},
    };
    CHECK_ROWS(&(struct sides){0}, plain);
    CHECK_ROWS((&(struct sides){.target = redis86}), known);
    CHECK_ROWS((&(struct sides){.target = redis86, .db = "0"}), elsewhere);
}

static void passed_on_as_they_are(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"SET a 1", "0:SET a 1\n"},
        {"set a 1|zadd z 1 m", "0:set a 1\n0:zadd z 1 m\n"},
        {"SELECT 0|INCR a|SELECT 9|INCR a", "0:INCR a\n9:INCR a\n"},
        {"PEXPIREAT k 5|EXPIREAT k 5 NX|PERSIST k", "0:PEXPIREAT k 5\n0:EXPIREAT k 5 NX\n"
                                                    "0:PERSIST k\n"},
        {"FOOBAR k v", "0:FOOBAR k v\n"}, /* in no table: the target judges */
        {"foobar k v", "0:foobar k v\n"},
        {"EVAL return 1 k|FCALL f 1 k", "0:EVAL return 1 k\n0:FCALL f 1 k\n"},
        {"XADD s 1-1 f v|XSETID s 2-2", "0:XADD s 1-1 f v\n0:XSETID s 2-2\n"},
    };
    CHECK_ROWS(&(struct sides){0}, rows);
}

static void not_data(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"PING", ""},
        {"CLUSTER SYNCSLOTS x|TRIMSLOTS RANGES 1 1 2", ""},
        {"ping|REPLCONF GETACK *|SET a 1|PING", "0:SET a 1\n"},
    };
    CHECK_ROWS(&(struct sides){0}, rows);
}

static void relative_times(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"EXPIRE k 10", "0:PEXPIREAT k " IN_10S "\n"},
        {"PEXPIRE k 10", "0:PEXPIREAT k " IN_10MS "\n"},
        {"expire k 10 GT", "0:PEXPIREAT k " IN_10S " GT\n"},
        {"SETEX k 10 v", "0:SET k v PXAT " IN_10S "\n"},
        {"psetex k 10 v", "0:SET k v PXAT " IN_10MS "\n"},
        {"SET k v EX 10", "0:SET k v PXAT " IN_10S "\n"},
        {"set k v px 10", "0:set k v PXAT " IN_10MS "\n"},
        {"SET k v NX EX 10", "0:SET k v NX PXAT " IN_10S "\n"},
        {"SET k v EX 10 XX", "0:SET k v PXAT " IN_10S " XX\n"},
        {"SET EX EX EX 10", "0:SET EX EX PXAT " IN_10S "\n"},
        {"SET k PX", "0:SET k PX\n"},
        {"SET k v KEEPTTL", "0:SET k v KEEPTTL\n"},
        {"SET k v PXAT 5", "0:SET k v PXAT 5\n"},
        {"SET k v EXAT 5 NX", "0:SET k v EXAT 5 NX\n"},
        {"GETEX k EX 10", "0:PEXPIREAT k " IN_10S "\n"},
        {"GETEX k PX 10", "0:PEXPIREAT k " IN_10MS "\n"},
        {"GETEX k PXAT 5", "0:PEXPIREAT k 5\n"},
        {"GETEX k EXAT 5", "0:PEXPIREAT k 5000\n"},
        {"getex k persist", "0:PERSIST k\n"},
    };
    CHECK_ROWS(&(struct sides){0}, rows);
}

static void relative_times_of_fields(void **state)
{
    (void)state;
    static const struct sides s = {.target = RIG_SERVER(FACTS_REDIS, 8, 6, 13)};
    static const struct row rows[] = {
        {"HPEXPIREAT h 5 FIELDS 1 f", "0:HPEXPIREAT h 5 FIELDS 1 f\n"},
        {"HEXPIRE h 10 FIELDS 1 f", "0:HPEXPIREAT h " IN_10S " FIELDS 1 f\n"},
        {"hpexpire h 10 NX FIELDS 2 f g", "0:HPEXPIREAT h " IN_10MS " NX FIELDS 2 f g\n"},
        {"HSETEX h EX 10 FIELDS 1 f v", "0:HSETEX h PXAT " IN_10S " FIELDS 1 f v\n"},
        {"HSETEX h FNX PX 10 FIELDS 1 EX 7", "0:HSETEX h PXAT " IN_10MS " FIELDS 1 EX 7\n"},
        {"HSETEX h FIELDS 1 EX 7", "0:HSETEX h FIELDS 1 EX 7\n"},
        {"HSETEX h KEEPTTL FIELDS 1 f v", "0:HSETEX h KEEPTTL FIELDS 1 f v\n"},
        {"HGETEX h EX 10 FIELDS 1 f", "0:HGETEX h PXAT " IN_10S " FIELDS 1 f\n"},
        {"HGETEX h PXAT 7 FIELDS 1 f", "0:HGETEX h PXAT 7 FIELDS 1 f\n"},
        {"MSETEX 2 a 1 EX 5 NX EX 10", "0:MSETEX 2 a 1 EX 5 NX PXAT " IN_10S "\n"},
        {"MSETEX 1 EX 5", "0:MSETEX 1 EX 5\n"},
        {"MSETEX 99 a 1", "0:MSETEX 99 a 1\n"},
    };
    CHECK_ROWS(&s, rows);
}

/* More fields than are rebuilt on the stack. */
static void many_fields(void **state)
{
    (void)state;
    char stream[2000], ran[2000];
    int s = snprintf(stream, sizeof(stream), "HEXPIRE h 10 FIELDS 200");
    int r = snprintf(ran, sizeof(ran), "0:HPEXPIREAT h " IN_10S " FIELDS 200");
    for (int i = 0; i < 200; i++) {
        s += snprintf(stream + s, sizeof(stream) - (size_t)s, " f%d", i);
        r += snprintf(ran + r, sizeof(ran) - (size_t)r, " f%d", i);
    }
    snprintf(ran + r, sizeof(ran) - (size_t)r, "\n");
    struct buf b;
    buf_init(&b, 1 << 20);
    struct span argv[205];
    size_t argc = 0;
    for (char *save, *w = strtok_r(stream, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = span_str(w);
    assert_int_equal(resp_put_cmd(&b, argc, argv, NULL), 0);
    struct rig *g = rig_new();
    g->target_facts = redis86;
    rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_AT_ONCE), RIG_AT_ONCE);
    assert_string_equal(fake_text(&g->target.ran), ran);
    buf_release(&b);
    rig_free(g);
}

/* No number, or one that does not fit: for the target to judge. */
static void impossible_times(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"EXPIRE k soon", "0:EXPIRE k soon\n"},
        {"EXPIRE k 9223372036854775807", "0:EXPIRE k 9223372036854775807\n"},
        {"PEXPIRE k 9223372036854775807", "0:PEXPIRE k 9223372036854775807\n"},
        {"EXPIRE k", "0:EXPIRE k\n"},
        {"EXPIRE", "0:EXPIRE\n"},
        {"SETEX k 9223372036854775807 v", "0:SETEX k 9223372036854775807 v\n"},
        {"SETEX k v", "0:SETEX k v\n"},
        {"SET k v EX x", "0:SET k v EX x\n"},
        {"SET k v EX", "0:SET k v EX\n"},
        {"SET", "0:SET\n"},
        {"GETEX k", "0:GETEX k\n"},
        {"GETEX k EX", "0:GETEX k EX\n"},
        {"HSETEX", "0:HSETEX\n"},
        {"MSETEX", "0:MSETEX\n"},
        {"MSETEX 18446744073709551615 a 1", "0:MSETEX 18446744073709551615 a 1\n"},
        {"RESTORE k x short", "0:RESTORE k x short\n"},
        {"RESTORE k", "0:RESTORE k\n"},
        {"COPY a b DB", "0:COPY a b DB\n"},
        {"COPY a b DB x", "0:COPY a b DB x\n"},
        {"MOVE k", "0:MOVE k\n"},
        {"FUNCTION", "0:FUNCTION\n"},
    };
    CHECK_ROWS(&(struct sides){0}, rows);
}

/* Before 6.2 there is no PXAT, before 5.0 no ABSTTL, before 4.0 no ASYNC. */
static void old_targets(void **state)
{
    (void)state;
    static const struct sides v60 = {.target = RIG_SERVER(FACTS_REDIS, 6, 0, 9)};
    static const struct row rows60[] = {
        {"SETEX k 10 v", "0:SET k v\n0:PEXPIREAT k " IN_10S "\n"},
        {"SET k v NX EX 10", "0:SET k v NX\n0:PEXPIREAT k " IN_10S "\n"},
        {"SET k v PX 10 XX", "0:SET k v XX\n0:PEXPIREAT k " IN_10MS "\n"},
        {"SET k v PXAT 5", "0:SET k v\n0:PEXPIREAT k 5\n"},
        {"SET k v EXAT 5", "0:SET k v\n0:PEXPIREAT k 5000\n"},
        {"SET k v", "0:SET k v\n"},
        {"SPUBLISH c m|PUBLISH c m", "0:PUBLISH c m\n"},
    };
    CHECK_ROWS(&v60, rows60);
    static const struct sides v32 = {.target = RIG_SERVER(FACTS_REDIS, 3, 2, 7)};
    static const struct row rows32[] = {{"FLUSHDB", "0:FLUSHDB\n"}};
    CHECK_ROWS(&v32, rows32);
    check_stops(&v60, "FUNCTION LOAD code", ERR_TARGET, "no functions");
    static const struct sides unselected = {.db = "3", .target = RIG_SERVER(FACTS_REDIS, 6, 0, 9)};
    static const struct row none[] = {{"SETEX k 10 v|SET k v PX 5", ""}};
    CHECK_ROWS(&unselected, none);
}

static void chosen_databases(void **state)
{
    (void)state;
    static const struct sides s = {.db = "0,3", .map = "3:5"};
    static const struct row rows[] = {
        {"SELECT 3|SET a 1|SELECT 1|SET b 2|SELECT 0|SET c 3", "5:SET a 1\n0:SET c 3\n"},
        {"SELECT 1|EXPIRE k 1|SETEX k 1 v|GETEX k EX 5|HSETEX h EX 1 FIELDS 1 f v", ""},
        {"SELECT 1|FLUSHDB|SELECT 3|FLUSHDB", "5:FLUSHDB ASYNC\n"},
        {"FLUSHALL|SET a 1", "0:FLUSHDB ASYNC\n5:FLUSHDB ASYNC\n0:SET a 1\n"},
        {"SELECT 1|flushall async", "0:FLUSHDB ASYNC\n5:FLUSHDB ASYNC\n"},
        {"SWAPDB 0 3", "0:SWAPDB 0 5\n"},
        {"SWAPDB 1 2", ""},
        {"MOVE k 3", "0:MOVE k 5\n"},
        {"MOVE k 1", "0:DEL k\n"},
        {"SELECT 1|MOVE k 2", ""},
        {"COPY a b DB 3 REPLACE", "0:COPY a b DB 5 REPLACE\n"},
        {"COPY a b DB 1", ""},
        {"SELECT 1|COPY a b DB 2", ""},
        {"COPY a b|COPY DB DB", "0:COPY a b\n0:COPY DB DB\n"},
        {"SELECT 1|PUBLISH c m|SCRIPT LOAD x|FUNCTION DELETE l",
         "0:PUBLISH c m\n0:SCRIPT LOAD x\n0:FUNCTION DELETE l\n"},
        {"SELECT 1|EVAL x 0|FOOBAR k", ""},
        {"PUBLISH __sentinel__:hello x|PUBLISH|PUBLISH __sentinel__:hell x",
         "0:PUBLISH\n0:PUBLISH __sentinel__:hell x\n"},
    };
    CHECK_ROWS(&s, rows);
}

static void what_cannot_be_told(void **state)
{
    (void)state;
    static const struct sides s = {.db = "0,3"};
    static const struct sides go_on = {.db = "0,3", .on_error = TASK_ON_ERROR_CONTINUE};
    check_stops(&s, "SWAPDB 0 1", ERR_UNSUPPORTED, "SWAPDB 0 1");
    check_stops(&go_on, "SWAPDB 1 3", ERR_UNSUPPORTED, "start again");
    check_stops(&s, "SELECT 1|MOVE key 0", ERR_TARGET, "MOVE (database 1, key \"key\")");
    check_stops(&s, "SELECT 1|COPY key b DB 0", ERR_TARGET, "COPY (database 1, key \"key\")");
    check_stops(&s, "SELECT", ERR_PROTO, "SELECT");
    check_stops(&s, "SELECT x", ERR_PROTO, "SELECT");
    check_stops(&s, "SELECT 4294967296", ERR_PROTO, "SELECT");
    check_stops(&s, "SWAPDB 1", ERR_PROTO, "SWAPDB");
    static const struct row rows[] = {{"SELECT 1|MOVE key 0|SELECT 0|SET a 1", "0:SET a 1\n"}};
    CHECK_ROWS(&go_on, rows);
}

/* A database that the target lacks stops before anything lands in another one. */
static void lacking_database(void **state)
{
    (void)state;
    check_stops(&(struct sides){.on_error = TASK_ON_ERROR_CONTINUE}, "SET a 1|SELECT 16|SET b 2",
                ERR_TARGET, "no database 16");
}

/* --- RESTORE --- */

static void put_payload(uint8_t out[13], uint8_t type, unsigned version, bool zero_crc)
{
    memcpy(out, (uint8_t[]){type, 1, 'v', (uint8_t)version, (uint8_t)(version >> 8)}, 5);
    uint64_t crc = zero_crc ? 0 : crc64_portable(0, out, 5);
    for (int i = 0; i < 8; i++)
        out[5 + i] = (uint8_t)(crc >> (8 * i));
}

struct foot {
    uint8_t type;
    unsigned version, want;
    bool zero_crc;
};

static void check_foot(const struct server_facts *target, const struct foot *c)
{
    uint8_t in[13], out[13];
    put_payload(in, c->type, c->version, c->zero_crc);
    put_payload(out, c->type, c->want, false);
    struct rig *g = rig_new();
    g->target_facts = *target;
    struct buf b, want;
    buf_init(&b, 1000);
    buf_init(&want, 1000);
    struct span argv[] = {span_str("RESTORE"), span_str("k"), span_str("0"), span_of(in, 13)};
    assert_int_equal(resp_put_cmd(&b, 4, argv, NULL), 0);
    assert_int_equal(buf_add(&want, "0:RESTORE k 0 ", 14, NULL), 0);
    fake_word(&want, span_of(out, 13));
    assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
    rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_AT_ONCE), RIG_AT_ONCE);
    if (strcmp(fake_text(&g->target.ran), fake_text(&want)) != 0)
        fail_msg("type %u, version %u: wanted %sgot %s", c->type, c->version, fake_text(&want),
                 fake_text(&g->target.ran));
    buf_release(&b);
    buf_release(&want);
    rig_free(g);
}

/* The footer that each target takes: its own version or older; Valkey 9 takes 80, but not 12. */
static void footers(void **state)
{
    (void)state;
    static const struct server_facts valkey9 = RIG_SERVER(FACTS_VALKEY, 9, 0, 80);
    static const struct foot to_redis70[] = {
        {.version = 6, .want = 6},
        {.version = 10, .want = 10},
        {.version = 12, .want = 6},
        {.version = 10, .want = 10, .zero_crc = true},
        {.version = 13, .want = 6, .zero_crc = true},
        {.version = 80, .want = 6}, /* from Valkey 9; the type is what counts */
    };
    static const struct foot to_valkey9[] = {
        {.version = 11, .want = 11},
        {.version = 80, .want = 80},
        {.version = 12, .want = 6}, /* of Redis 7.4 */
        {.type = 22, .version = 80, .want = 80},
    };
    for (size_t i = 0; i < sizeof(to_redis70) / sizeof(to_redis70[0]); i++)
        check_foot(&redis70, &to_redis70[i]);
    for (size_t i = 0; i < sizeof(to_valkey9) / sizeof(to_valkey9[0]); i++)
        check_foot(&valkey9, &to_valkey9[i]);
}

static void restores(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"RESTORE k 0 short", "0:RESTORE k 0 short\n"},
        {"RESTORE k 10 short REPLACE", "0:RESTORE k " IN_10MS " short REPLACE ABSTTL\n"},
        {"RESTORE k 10 short ABSTTL", "0:RESTORE k 10 short ABSTTL\n"},
        {"RESTORE k 10 short absttl FREQ 3", "0:RESTORE k 10 short absttl FREQ 3\n"},
        {"RESTORE-ASKING k 0 short", "0:RESTORE k 0 short\n"},
    };
    CHECK_ROWS(&(struct sides){0}, rows);
}

/* As those of a snapshot: libraries are replaced where keys are. */
static void functions_are_replaced_where_keys_are(void **state)
{
    (void)state;
    static const struct row as_they_are[] = {
        {"FUNCTION LOAD code", "0:FUNCTION LOAD code\n"},
        {"FUNCTION RESTORE short", "0:FUNCTION RESTORE short\n"},
        {"FUNCTION RESTORE short APPEND", "0:FUNCTION RESTORE short APPEND\n"},
    };
    static const struct row replaced[] = {
        {"FUNCTION LOAD code", "0:FUNCTION LOAD REPLACE code\n"},
        {"function load REPLACE code", "0:function load REPLACE code\n"},
        {"FUNCTION LOAD replace", "0:FUNCTION LOAD REPLACE replace\n"},
        {"FUNCTION RESTORE short", "0:FUNCTION RESTORE short REPLACE\n"},
        {"FUNCTION RESTORE short append", "0:FUNCTION RESTORE short REPLACE\n"},
        {"FUNCTION RESTORE short FLUSH", "0:FUNCTION RESTORE short FLUSH\n"},
        {"FUNCTION DELETE lib|FUNCTION FLUSH", "0:FUNCTION DELETE lib\n0:FUNCTION FLUSH\n"},
    };
    static const struct sides fail = {.on_conflict = TASK_CONFLICT_FAIL};
    static const struct sides skip = {.on_conflict = TASK_CONFLICT_SKIP};
    static const struct sides overwrite = {.on_conflict = TASK_CONFLICT_OVERWRITE};
    CHECK_ROWS(&fail, as_they_are);
    CHECK_ROWS(&skip, as_they_are);
    CHECK_ROWS(&overwrite, replaced);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idempotent_producers),
        cmocka_unit_test(passed_on_as_they_are),
        cmocka_unit_test(not_data),
        cmocka_unit_test(relative_times),
        cmocka_unit_test(relative_times_of_fields),
        cmocka_unit_test(many_fields),
        cmocka_unit_test(impossible_times),
        cmocka_unit_test(old_targets),
        cmocka_unit_test(chosen_databases),
        cmocka_unit_test(what_cannot_be_told),
        cmocka_unit_test(lacking_database),
        cmocka_unit_test(footers),
        cmocka_unit_test(restores),
        cmocka_unit_test(functions_are_replaced_where_keys_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
