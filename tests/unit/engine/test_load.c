// SPDX-License-Identifier: BSD-3-Clause
// load: small values, RESTORE, conflicts, databases, functions, what ends it.
#include "load_kit.h"
#include "told.h"

#include "engine/emit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OOM     "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
#define BUSYKEY "-BUSYKEY Target key name already exists.\r\n"
#define FEEDS   RIG_FLOWING, RIG_STARVED

static const enum rig_feed feeds[] = {FEEDS};
#define N_FEEDS (sizeof(feeds) / sizeof(feeds[0]))

struct options {
    enum task_conflict on_conflict;
    enum task_on_error on_error;
    enum task_type type;
    const char *db, *map;
    struct server_facts target;
    const struct fake_rule *rules;
    size_t n_rules;
};
#define RULES(r) .rules = (r), .n_rules = sizeof(r) / sizeof((r)[0])

static struct rig *rig_with(const struct options *o)
{
    struct rig *g = rig_new();
    g->task.on_conflict = o->on_conflict;
    g->task.on_error = o->on_error;
    g->task.type = o->type;
    if (o->target.version) g->target_facts = o->target;
    assert_int_equal(db_select_parse(&g->task.select, o->db, NULL), 0);
    assert_int_equal(db_select_parse_map(&g->task.select, o->map, NULL), 0);
    rig_rules(g, o->rules, o->n_rules);
    return g;
}

/* What the target applied, in both feeds. The snapshot is freed. */
static void check_ran(const struct options *o, struct buf *rdb, const char *ran)
{
    for (size_t i = 0; i < N_FEEDS; i++) {
        struct rig *g = rig_with(o);
        kit_load(g, rdb, feeds[i]);
        assert_string_equal(fake_text(&g->target.ran), ran);
        rig_free(g);
    }
    buf_release(rdb);
}

static void check_fails(const struct options *o, struct buf *rdb, enum err_code code,
                        const char *words)
{
    for (size_t i = 0; i < N_FEEDS; i++) {
        struct rig *g = rig_with(o);
        assert_int_equal(rig_load(g, buf_span(rdb), feeds[i]), -1);
        if (g->err.code != code || !strstr(g->err.msg, words)) fail_msg("%s", g->err.msg);
        rig_free(g);
    }
    buf_release(rdb);
}

static const struct options overwrite = {.on_conflict = TASK_CONFLICT_OVERWRITE};

/* --- strings --- */

static void strings(void **state)
{
    (void)state;
    struct buf b;
    kit_begin(&b, "REDIS0009");
    kit_key(&b, RDB_STRING, "a");
    kit_str(&b, "1");
    kit_key(&b, RDB_STRING, "empty");
    kit_str(&b, "");
    kit_key(&b, RDB_STRING, "");
    kit_str(&b, "no-key");
    kit_key(&b, RDB_STRING, "int8");
    kit_le(&b, 0xffc0, 2); /* int of one byte: -1 */
    kit_key(&b, RDB_STRING, "int32");
    kit_u8(&b, 0xc2);
    kit_le(&b, 1234567, 4);
    kit_u8(&b, RDB_STRING);
    kit_bytes(&b, "k\0\r\n", 4);
    kit_bytes(&b, "\xff\0", 2);
    kit_select(&b, 11);
    kit_key(&b, RDB_STRING, "z");
    kit_lzf(&b, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 40);
    kit_end(&b);
    check_ran(&overwrite, &b,
              "0:SET a 1\n0:SET empty \n0:SET  no-key\n0:SET int8 -1\n0:SET int32 1234567\n"
              "0:SET k\\x00\\x0d\\x0a \\xff\\x00\n"
              "11:SET z aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
}

/* A deadline before 1970, or just then, is long past, not "none". */
static void deadlines(void **state)
{
    (void)state;
    static const int64_t ms[] = {1900000000000, 1, 0, -5};
    struct buf b;
    kit_begin(&b, "REDIS0009");
    for (int i = 0; i < 4; i++) {
        kit_expire(&b, ms[i]);
        kit_key(&b, RDB_STRING, "k");
        kit_str(&b, "v");
    }
    kit_key(&b, RDB_STRING, "k");
    kit_str(&b, "v");
    kit_end(&b);
    check_ran(&overwrite, &b,
              "0:SET k v PXAT 1900000000000\n0:SET k v PXAT 1\n0:SET k v PXAT 1\n"
              "0:SET k v PXAT 1\n0:SET k v\n");
}

static void never_replacing(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct buf b;
        kit_begin(&b, "REDIS0009");
        kit_key(&b, RDB_STRING, "a");
        kit_str(&b, "1");
        kit_expire(&b, 1900000000000);
        kit_key(&b, RDB_STRING, "b");
        kit_str(&b, "2");
        kit_end(&b);
        struct options o = {.on_conflict = i ? TASK_CONFLICT_SKIP : TASK_CONFLICT_FAIL};
        check_ran(&o, &b, "0:SET a 1 NX\n0:SET b 2 NX PXAT 1900000000000\n");
    }
}

/* Where SET leaves the ring: an item of 256 KB, then in place. Both sides of the border, raw and
 * compressed. */
static void string_sizes(void **state)
{
    (void)state;
    static uint8_t value[1 << 20];
    static const size_t sizes[] = {LANE_ITEM_MAX - 258, LANE_ITEM_MAX - 257, LANE_ITEM_MAX - 256,
                                   LANE_ITEM_MAX, 1 << 20};
    struct buf b, want;
    buf_init(&want, 4096);
    kit_begin(&b, "REDIS0009");
    kit_noise(value, sizeof(value), 1);
    for (int lzf = 0; lzf < 2; lzf++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            if (lzf) memset(value, 'a' + (int)i, sizeof(value) / 2);
            kit_expire(&b, 77);
            kit_key(&b, RDB_STRING, "k");
            (lzf ? kit_lzf : kit_bytes)(&b, value, sizes[i]);
            assert_int_equal(buf_printf(&want, NULL, "0:SET k "), 0);
            fake_word(&want, span_of(value, sizes[i]));
            assert_int_equal(buf_printf(&want, NULL, " PXAT 77\n"), 0);
        }
    }
    kit_end(&b);
    struct rig *g = rig_with(&overwrite);
    kit_load(g, &b, RIG_FLOWING);
    assert_string_equal(fake_text(&g->target.ran), fake_text(&want));
    assert_int_equal(counter_get(&g->counters.keys_written), 10);
    rig_free(g);
    buf_release(&b);
    buf_release(&want);
}

/* A key that is itself larger than an item, with values of every kind. */
static void long_keys(void **state)
{
    (void)state;
    static char key[300001];
    memset(key, 'K', sizeof(key) - 1);
    struct buf b, word;
    kit_begin(&b, "REDIS0009");
    kit_key(&b, RDB_STRING, key);
    kit_str(&b, "");
    kit_key(&b, RDB_STRING, key);
    kit_le(&b, 0x07c0, 2);
    kit_key(&b, RDB_STRING, key);
    kit_str(&b, "text");
    kit_key(&b, RDB_SET, key);
    kit_len(&b, 1);
    kit_str(&b, "m");
    kit_end(&b);
    buf_init(&word, 1000);
    fake_word(&word, span_str(key));
    struct rig *g = rig_with(&overwrite);
    kit_load(g, &b, RIG_FLOWING);
    assert_int_equal(counter_get(&g->counters.keys_written), 4);
    struct kit_cmds it;
    unsigned restores = 0, sets = 0;
    kit_cmds_begin(&it, &g->target.raw);
    while (kit_cmds_next(&it)) {
        if (it.cmd.argc < 3) continue;
        assert_true(span_eq(it.cmd.argv[1], span_str(key)));
        restores += span_is(it.cmd.argv[0], "RESTORE");
        sets += span_is(it.cmd.argv[0], "SET") || span_is(it.cmd.argv[0], "SETRANGE");
    }
    kit_cmds_end(&it);
    assert_int_equal(restores, 1);
    assert_true(sets >= 3);
    rig_free(g);
    buf_release(&b);
    buf_release(&word);
}

/* --- RESTORE --- */

static void put_hinted(struct buf *b, int idle, int freq, int64_t expire_ms)
{
    if (expire_ms) kit_expire(b, expire_ms);
    if (idle >= 0) {
        kit_u8(b, 248);
        kit_len(b, (uint64_t)idle);
    }
    if (freq >= 0) {
        kit_u8(b, 249);
        kit_u8(b, (unsigned)freq);
    }
    kit_key(b, RDB_SET, "key");
    kit_len(b, 1);
    kit_str(b, "m");
}

/* The one RESTORE in the log: its arguments without the payload, which is checked. */
static void check_restore(const struct options *o, const struct buf *rdb, unsigned type,
                          unsigned version, struct span value, const char *rest)
{
    for (size_t i = 0; i < N_FEEDS; i++) {
        struct rig *g = rig_with(o);
        struct buf got;
        struct kit_cmds it;
        unsigned n = 0;
        buf_init(&got, 4096);
        kit_load(g, rdb, feeds[i]);
        kit_cmds_begin(&it, &g->target.raw);
        while (kit_cmds_next(&it)) {
            if (!span_is(it.cmd.argv[0], "RESTORE")) continue;
            struct span bytes = kit_payload(it.cmd.argv[3], type, version);
            assert_true(span_eq(bytes, value));
            for (size_t a = 1; a < it.cmd.argc; a++) {
                if (a == 3) continue;
                fake_word(&got, it.cmd.argv[a]);
                assert_int_equal(buf_add(&got, " ", 1, NULL), 0);
            }
            n++;
        }
        kit_cmds_end(&it);
        assert_int_equal(n, 1);
        assert_string_equal(fake_text(&got), rest);
        assert_int_equal(counter_get(&g->counters.keys_written), 1);
        buf_release(&got);
        rig_free(g);
    }
}

static void restore_frames(void **state)
{
    (void)state;
    static const struct {
        int idle, freq;
        int64_t expire_ms;
        enum task_conflict on_conflict;
        const char *rest;
    } cases[] = {
        {-1, -1, 0, TASK_CONFLICT_OVERWRITE, "key 0 REPLACE "},
        {-1, -1, 0, TASK_CONFLICT_FAIL, "key 0 "},
        {-1, -1, 0, TASK_CONFLICT_SKIP, "key 0 "},
        {-1, -1, 1900000000000, TASK_CONFLICT_OVERWRITE, "key 1900000000000 REPLACE ABSTTL "},
        {-1, -1, -7, TASK_CONFLICT_FAIL, "key 1 ABSTTL "},
        {86400, -1, 0, TASK_CONFLICT_FAIL, "key 0 IDLETIME 86400 "},
        {-1, 255, 0, TASK_CONFLICT_OVERWRITE, "key 0 REPLACE FREQ 255 "},
        {0, 0, 5, TASK_CONFLICT_OVERWRITE, "key 5 REPLACE ABSTTL IDLETIME 0 "},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b;
        kit_begin(&b, "REDIS0009");
        put_hinted(&b, cases[i].idle, cases[i].freq, cases[i].expire_ms);
        kit_end(&b);
        struct options o = {.on_conflict = cases[i].on_conflict};
        check_restore(&o, &b, RDB_SET, 6, span_str("\x01\x01m"), cases[i].rest);
        buf_release(&b);
    }
}

/* Strings with a hint, and with a deadline where there is no PXAT. */
static void restored_strings(void **state)
{
    (void)state;
    static const struct options v60 = {.on_conflict = TASK_CONFLICT_OVERWRITE,
                                       .target = RIG_SERVER(FACTS_REDIS, 6, 0, 9)};
    struct buf b;
    kit_begin(&b, "REDIS0009");
    kit_u8(&b, 249);
    kit_u8(&b, 9);
    kit_key(&b, RDB_STRING, "key");
    kit_str(&b, "v");
    kit_end(&b);
    check_restore(&overwrite, &b, RDB_STRING, 6, span_str("\x01v"), "key 0 REPLACE FREQ 9 ");
    buf_release(&b);
    kit_begin(&b, "REDIS0009");
    kit_expire(&b, 1900000000000);
    kit_key(&b, RDB_STRING, "key");
    kit_le(&b, 0x05c0, 2);
    kit_end(&b);
    check_restore(&v60, &b, RDB_STRING, 6, span_str("\xc0\x05"),
                  "key 1900000000000 REPLACE ABSTTL ");
    buf_release(&b);
}

/* Targets before 5.0 know neither ABSTTL nor IDLETIME nor FREQ, those before 3.0 no REPLACE. */
static void old_targets(void **state)
{
    (void)state;
    static const struct options v40 = {.on_conflict = TASK_CONFLICT_OVERWRITE,
                                       .target = RIG_SERVER(FACTS_REDIS, 4, 0, 8)};
    struct buf b;
    kit_begin(&b, "REDIS0008");
    put_hinted(&b, 50, -1, RIG_WALL_MS + 60000);
    kit_end(&b);
    check_restore(&v40, &b, RDB_SET, 6, span_str("\x01\x01m"), "key 60000 REPLACE ");
    buf_release(&b);
    kit_begin(&b, "REDIS0008");
    put_hinted(&b, -1, -1, RIG_WALL_MS - 60000); /* past */
    kit_end(&b);
    check_restore(&v40, &b, RDB_SET, 6, span_str("\x01\x01m"), "key 1 REPLACE ");
    buf_release(&b);
}

/* Valkey's own hash: byte 22 as Redis 7.4 rc1, so that only the version tells it. */
static void valkey_hash(void **state)
{
    (void)state;
    static const struct options v9 = {.target = RIG_SERVER(FACTS_VALKEY, 9, 0, 80)};
    struct buf b;
    kit_begin(&b, "VALKEY080");
    kit_key(&b, 22, "key");
    size_t from = b.n;
    kit_len(&b, 1);
    kit_str(&b, "f");
    kit_str(&b, "v");
    kit_le(&b, 1900000000000, 8);
    size_t n = b.n - from;
    kit_end(&b);
    check_restore(&v9, &b, 22, 80, span_of(b.p + from, n), "key 0 ");
    buf_release(&b);
}

/* Larger than an item: sent from where it lies; up to 1 MB. */
static void larger_restore(void **state)
{
    (void)state;
    static uint8_t member[LANE_ITEM_MAX * 2];
    kit_noise(member, sizeof(member), 5);
    struct buf b;
    kit_begin(&b, "REDIS0009");
    kit_expire(&b, 1900000000000);
    kit_key(&b, RDB_SET, "key");
    size_t from = b.n;
    kit_len(&b, 1);
    kit_bytes(&b, member, sizeof(member));
    size_t n = b.n - from;
    kit_end(&b);
    struct rig *g = rig_with(&overwrite);
    struct kit_cmds it;
    unsigned restores = 0;
    kit_load(g, &b, RIG_FLOWING);
    kit_cmds_begin(&it, &g->target.raw);
    while (kit_cmds_next(&it)) {
        if (!span_is(it.cmd.argv[0], "RESTORE")) continue;
        restores++;
        assert_int_equal(it.cmd.argc, 6);
        struct span bytes = kit_payload(it.cmd.argv[3], RDB_SET, 6);
        assert_true(span_eq(bytes, span_of(b.p + from, n)));
    }
    kit_cmds_end(&it);
    assert_int_equal(restores, 1);
    assert_int_equal(counter_get(&g->counters.keys_written), 1);
    rig_free(g);
    buf_release(&b);
}

/* --- conflicts --- */

static struct buf two_keys_and_a_set(void)
{
    struct buf b;
    kit_begin(&b, "REDIS0009");
    kit_select(&b, 2);
    kit_key(&b, RDB_STRING, "a");
    kit_str(&b, "1");
    kit_key(&b, RDB_SET, "s");
    kit_len(&b, 1);
    kit_str(&b, "m");
    kit_key(&b, RDB_STRING, "z");
    kit_str(&b, "1");
    kit_end(&b);
    return b;
}

static void conflicts(void **state)
{
    (void)state;
    static const struct fake_rule string[] = {{.match = "SET a", .reply = "$-1\r\n"}};
    static const struct fake_rule set[] = {{.match = "RESTORE s", .reply = BUSYKEY}};
    struct buf b = two_keys_and_a_set();
    check_fails(&(struct options){RULES(string)}, &b, ERR_CONFLICT, "\"a\" of database 2");
    b = two_keys_and_a_set();
    check_fails(&(struct options){RULES(set)}, &b, ERR_CONFLICT, "\"s\" of database 2");
    static const struct fake_rule both[] = {{.match = "SET a", .reply = "$-1\r\n"},
                                            {.match = "RESTORE s", .reply = BUSYKEY}};
    b = two_keys_and_a_set();
    for (size_t i = 0; i < N_FEEDS; i++) {
        struct rig *g = rig_with(&(struct options){RULES(both), .on_conflict = TASK_CONFLICT_SKIP});
        kit_load(g, &b, feeds[i]);
        assert_int_equal(counter_get(&g->counters.keys_skipped), 2);
        assert_int_equal(counter_get(&g->counters.keys_written), 1);
        assert_int_equal(counter_get(&g->counters.db[2].skipped), 2);
        assert_int_equal(counter_get(&g->counters.errors), 0);
        rig_free(g);
    }
    buf_release(&b);
}

/* The same for values that go as calls: a string in place. */
static void conflict_in_place(void **state)
{
    (void)state;
    static uint8_t value[LANE_ITEM_MAX];
    static const struct fake_rule rules[] = {{.match = "SET big", .reply = "$-1\r\n"}};
    struct buf b;
    kit_begin(&b, "REDIS0009");
    kit_key(&b, RDB_STRING, "big");
    kit_bytes(&b, value, sizeof(value));
    kit_key(&b, RDB_STRING, "z");
    kit_str(&b, "1");
    kit_end(&b);
    struct rig *g = rig_with(&(struct options){RULES(rules)});
    assert_int_equal(rig_load(g, buf_span(&b), RIG_FLOWING), -1);
    assert_int_equal(g->err.code, ERR_CONFLICT);
    rig_free(g);
    g = rig_with(&(struct options){RULES(rules), .on_conflict = TASK_CONFLICT_SKIP});
    kit_load(g, &b, RIG_FLOWING);
    assert_int_equal(counter_get(&g->counters.keys_skipped), 1);
    assert_string_equal(fake_text(&g->target.ran), "0:SET z 1 NX\n");
    rig_free(g);
    buf_release(&b);
}

/* --- refusals --- */

static void passing_faults(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "RESTORE s", .reply = OOM, .times = 1},
                                             {.match = "SET z", .reply = OOM, .times = 2}};
    struct buf b = two_keys_and_a_set();
    struct rig *g = rig_with(&(struct options){RULES(rules)});
    kit_load(g, &b, RIG_FLOWING);
    assert_int_equal(counter_get(&g->counters.keys_written), 3);
    assert_int_equal(counter_get(&g->counters.retries), 3);
    rig_free(g);
    buf_release(&b);
}

static void hard_errors(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "RESTORE s", .reply = "-ERR Bad data format\r\n"}};
    struct buf b = two_keys_and_a_set();
    check_fails(&(struct options){RULES(rules)}, &b, ERR_TARGET,
                "(database 2, key \"s\"): ERR Bad data format");
    b = two_keys_and_a_set();
    check_ran(&(struct options){RULES(rules), .on_error = TASK_ON_ERROR_CONTINUE}, &b,
              "2:SET a 1 NX\n2:SET z 1 NX\n");
}

static void link_closed(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {{.match = "RESTORE s", .hang_up = true}};
    struct buf b = two_keys_and_a_set();
    check_fails(&(struct options){RULES(rules)}, &b, ERR_NET, "target: ");
}

/* A module's value for a target that would exit over it, or refuse it. */
static void unknown_types(void **state)
{
    (void)state;
    struct options o = {.target = RIG_SERVER(FACTS_REDIS, 6, 0, 9)};
    for (int go_on = 0; go_on < 2; go_on++) {
        struct buf b;
        kit_begin(&b, "REDIS0009");
        kit_key(&b, RDB_MODULE_2, "mod");
        kit_u8(&b, 0x81); /* module id of 64 bits */
        kit_le(&b, 0x0102030405060708, 8);
        kit_len(&b, 5); /* a string, then the end */
        kit_str(&b, "opaque");
        kit_len(&b, 0);
        kit_key(&b, RDB_STRING, "z");
        kit_str(&b, "1");
        kit_end(&b);
        o.on_error = go_on ? TASK_ON_ERROR_CONTINUE : TASK_ON_ERROR_STOP;
        if (go_on)
            check_ran(&o, &b, "0:SET z 1 NX\n");
        else
            check_fails(&o, &b, ERR_TARGET, "key \"mod\"");
    }
}

/* --- databases --- */

static void chosen_databases(void **state)
{
    (void)state;
    struct buf b;
    kit_begin(&b, "REDIS0009");
    for (unsigned db = 0; db < 4; db++) {
        kit_select(&b, db);
        kit_u8(&b, 251); /* sizes: keys, keys with expiry */
        kit_len(&b, 2);
        kit_len(&b, 0);
        kit_key(&b, RDB_STRING, "k");
        kit_le(&b, db << 8 | 0xc0, 2);
        kit_key(&b, RDB_SET, "s");
        kit_len(&b, 0);
    }
    kit_end(&b);
    static const struct options o = {.db = "1,3", .map = "3:9"};
    for (size_t i = 0; i < N_FEEDS; i++) {
        struct rig *g = rig_with(&o);
        kit_load(g, &b, feeds[i]);
        assert_int_equal(counter_get(&g->counters.keys_read), 8);
        assert_int_equal(counter_get(&g->counters.keys_filtered), 4);
        assert_int_equal(counter_get(&g->counters.keys_written), 4);
        assert_int_equal(counter_get(&g->counters.db[3].keys), 2);
        assert_int_equal(counter_get(&g->counters.snapshot_keys_expected), 4);
        const char *ran = fake_text(&g->target.ran);
        assert_non_null(strstr(ran, "1:SET k 1 NX\n"));
        assert_non_null(strstr(ran, "9:SET k 3 NX\n"));
        assert_null(strstr(ran, "0:"));
        rig_free(g);
    }
    buf_release(&b);
}

static void only_the_place_in_the_stream(void **state)
{
    (void)state;
    struct buf b;
    kit_begin(&b, "REDIS0009");
    kit_aux(&b, "repl-stream-db", "7");
    kit_aux(&b, "lua", "return 1");
    kit_key(&b, RDB_STRING, "k");
    kit_str(&b, "v");
    kit_end(&b);
    struct rig *g = rig_with(&(struct options){.type = TASK_INCREMENTAL});
    kit_load(g, &b, RIG_FLOWING);
    assert_int_equal(g->stream_db, 7);
    assert_string_equal(fake_text(&g->target.wire), "");
    rig_free(g);
    buf_release(&b);
}

/* --- functions and scripts --- */

static struct buf with_function(void)
{
    struct buf b;
    kit_begin(&b, "REDIS0010");
    kit_aux(&b, "lua", "return 1");
    kit_u8(&b, 245);
    kit_str(&b, "#!lua name=lib");
    kit_key(&b, RDB_STRING, "k");
    kit_str(&b, "v");
    kit_end(&b);
    return b;
}

static void functions(void **state)
{
    (void)state;
    struct buf b = with_function();
    check_ran(&overwrite, &b,
              "0:SCRIPT LOAD return\\x201\n0:FUNCTION LOAD REPLACE #!lua\\x20name=lib\n"
              "0:SET k v\n");
    b = with_function();
    check_ran(&(struct options){.db = "0"}, &b,
              "0:SCRIPT LOAD return\\x201\n0:FUNCTION LOAD #!lua\\x20name=lib\n0:SET k v NX\n");
    static const struct fake_rule there[] = {
        {.match = "FUNCTION", .reply = "-ERR Library 'lib' already exists\r\n"}};
    b = with_function();
    check_fails(&(struct options){RULES(there)}, &b, ERR_CONFLICT, "Library 'lib'");
    b = with_function();
    check_ran(&(struct options){RULES(there), .on_conflict = TASK_CONFLICT_SKIP}, &b,
              "0:SCRIPT LOAD return\\x201\n0:SET k v NX\n");
    static const struct fake_rule broken[] = {
        {.match = "FUNCTION", .reply = "-ERR Error compiling function\r\n"}};
    b = with_function();
    check_fails(&(struct options){RULES(broken)}, &b, ERR_TARGET, "Error compiling");
    struct options old = {.target = RIG_SERVER(FACTS_REDIS, 6, 2, 9)};
    b = with_function();
    check_fails(&old, &b, ERR_TARGET, "no functions");
    old.on_error = TASK_ON_ERROR_CONTINUE;
    b = with_function();
    check_ran(&old, &b, "0:SCRIPT LOAD return\\x201\n0:SET k v NX\n");
}

/* --- ends --- */

static void damaged(void **state)
{
    (void)state;
    struct buf b = two_keys_and_a_set();
    b.p[b.n - 1] ^= 1;
    check_fails(&overwrite, &b, ERR_FORMAT, "snapshot");
    b = two_keys_and_a_set();
    b.p[0] = 'X';
    check_fails(&overwrite, &b, ERR_FORMAT, "snapshot");
}

/* Cut anywhere: the link is lost, and that is what is told. */
static void cut_short(void **state)
{
    (void)state;
    struct buf b = two_keys_and_a_set();
    for (size_t n = 0; n < b.n; n++) {
        struct rig *g = rig_with(&overwrite);
        assert_int_equal(rig_load(g, span_of(b.p, n), RIG_FLOWING), -1);
        if (g->err.code != ERR_NET || !strstr(g->err.msg, "source: ")) fail_msg("%s", g->err.msg);
        rig_free(g);
    }
    buf_release(&b);
}

static void stopped(void **state)
{
    (void)state;
    struct buf b = two_keys_and_a_set();
    struct rig *g = rig_with(&overwrite);
    g->stop = true;
    assert_int_equal(rig_load(g, buf_span(&b), RIG_KEPT_OPEN), -1);
    assert_int_equal(g->err.code, ERR_STOPPED);
    rig_free(g);
    buf_release(&b);
}

/* The reader stands behind the snapshot: what follows is the stream's. */
static void stream_follows(void **state)
{
    (void)state;
    struct buf b = two_keys_and_a_set();
    size_t n = b.n;
    rig_commands(&b, "SELECT 2|DEL a");
    for (size_t i = 0; i < N_FEEDS; i++) {
        struct rig *g = rig_with(&overwrite);
        rig_open_bytes(g, buf_span(&b), feeds[i]);
        if (rig_run_load(g) < 0) fail_msg("%s", g->err.msg);
        assert_int_equal(reader_pos(&g->pl.r), n);
        assert_int_equal(counter_get(&g->counters.snapshot_bytes_decoded), n);
        rig_assert_ended(g, rig_run_replay(g, g->stream_db), feeds[i]);
        rig_close(g);
        assert_non_null(strstr(fake_text(&g->target.ran), "2:SET z 1\n2:DEL a\n"));
        assert_int_equal(g->applied, RIG_OFFSET + b.n - n);
        rig_free(g);
    }
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings),          cmocka_unit_test(deadlines),
        cmocka_unit_test(never_replacing),  cmocka_unit_test(string_sizes),
        cmocka_unit_test(long_keys),        cmocka_unit_test(restore_frames),
        cmocka_unit_test(restored_strings), cmocka_unit_test(old_targets),
        cmocka_unit_test(valkey_hash),      cmocka_unit_test(larger_restore),
        cmocka_unit_test(conflicts),        cmocka_unit_test(conflict_in_place),
        cmocka_unit_test(passing_faults),   cmocka_unit_test(hard_errors),
        cmocka_unit_test(link_closed),      cmocka_unit_test(unknown_types),
        cmocka_unit_test(chosen_databases), cmocka_unit_test(only_the_place_in_the_stream),
        cmocka_unit_test(functions),        cmocka_unit_test(damaged),
        cmocka_unit_test(cut_short),        cmocka_unit_test(stopped),
        cmocka_unit_test(stream_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
