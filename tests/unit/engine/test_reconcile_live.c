// SPDX-License-Identifier: BSD-3-Clause
// Loading a snapshot again: real snapshots of a real source into a real target, compared by the
// servers' own digests.
#include "base/clock.h"
#include "base/num.h"
#include "redis/live_server.h"
#include "rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RDB_BYTES (256u << 20)

struct world {
    struct live_server source, target;
    struct client *s, *t;
    struct server_facts facts; /* of the target */
    struct db_select select;
    enum task_conflict policy;
    enum task_on_unsupported unsupported;
    char dir[40], existing[64];
    uint64_t deleted; /* by the last sweep */
    struct counters counters;
    struct err err;
};

static const char *const server_options[] = {"--enable-debug-command", "yes", "--databases", "1200",
                                             "--rdbcompression",       "no",  NULL};

static struct world *world_new(enum task_conflict policy)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    live_start(&w->source, false, server_options);
    live_start(&w->target, false, server_options);
    w->s = live_client(&w->source, "source");
    w->t = live_client(&w->target, "target");
    w->policy = policy;
    assert_int_equal(facts_read(w->t, &w->facts, NULL), 0);
    assert_int_equal(db_select_parse(&w->select, NULL, NULL), 0);
    snprintf(w->dir, sizeof(w->dir), "/tmp/kh-reconcile-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->existing, sizeof(w->existing), "%s/existing.keys", w->dir);
    return w;
}

static void world_free(struct world *w)
{
    client_close(w->s);
    client_close(w->t);
    live_stop(&w->source);
    live_stop(&w->target);
    facts_release(&w->facts);
    unlink(w->existing);
    assert_int_equal(rmdir(w->dir), 0); /* nothing was left in it */
    free(w);
}

static void select_db(struct client *c, uint64_t db)
{
    assert_int_equal(client_select(c, db, NULL), 0);
}

/* Lua, without a word of Lua's own about redis: r(...) is redis.call(...). */
static void script(struct client *c, const char *body)
{
    char text[2000];
    struct reply *r = NULL;
    struct err err = {0};
    snprintf(text, sizeof(text), "local r = redis.call; %s", body);
    if (client_ask(c, &r, &err, "EVAL", text, "0", NULL) < 0) fail_msg("%s", err.msg);
    reply_free(r);
}

static void put(struct client *c, uint64_t db, struct span key, const char *value)
{
    struct span argv[] = {span_str("SET"), key, span_str(value)};
    struct reply *r = NULL;
    select_db(c, db);
    assert_int_equal(client_callv(c, &r, 3, argv, NULL), 0);
    assert_true(reply_is(r, "OK"));
    reply_free(r);
}

/* The value of a string; "" of what is not there. Static. */
static const char *get(struct client *c, uint64_t db, struct span key)
{
    static char value[200];
    struct span argv[] = {span_str("GET"), key};
    struct reply *r = NULL;
    select_db(c, db);
    assert_int_equal(client_callv(c, &r, 2, argv, NULL), 0);
    reply_words(value, sizeof(value), r);
    if (r->type == REPLY_NULL) value[0] = 0;
    reply_free(r);
    return value;
}

static void remove_key(struct client *c, uint64_t db, struct span key)
{
    struct span argv[] = {span_str("DEL"), key};
    struct reply *r = NULL;
    select_db(c, db);
    assert_int_equal(client_callv(c, &r, 2, argv, NULL), 0);
    reply_free(r);
}

static struct buf snapshot(struct world *w)
{
    char path[80];
    struct buf b;
    struct stat st;
    live_do(w->s, "SAVE");
    snprintf(path, sizeof(path), "%s/dump.rdb", w->source.dir);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    buf_init(&b, RDB_BYTES);
    assert_int_equal(buf_reserve(&b, (size_t)st.st_size, NULL), 0);
    assert_int_equal(read(fd, b.p, (size_t)st.st_size), st.st_size);
    b.n = (size_t)st.st_size;
    close(fd);
    return b;
}

static void note(struct world *w)
{
    struct client *c = live_client(&w->target, "target");
    if (reconcile_note_existing(&(struct primaries){.one = c}, &w->facts, &w->select, w->dir,
                                w->existing, &w->err) < 0)
        fail_msg("%s", w->err.msg);
    client_close(c);
}

static int load_into(struct world *w, struct reconcile *rc, struct span rdb)
{
    struct rig *g = rig_new();
    struct client *c = live_client(&w->target, "target");
    g->task.select = w->select;
    g->task.on_conflict = w->policy;
    g->task.on_unsupported = w->unsupported;
    g->target_facts = w->facts;
    g->reconcile = rc;
    assert_int_equal(client_take_conn(c, &g->server, NULL), 0);
    int done = rig_load(g, rdb, RIG_FLOWING);
    w->err = g->err;
    rig_free(g);
    return done;
}

/* What a task does with a snapshot; the first one, or one more. Only its first n bytes come. */
static int move_part(struct world *w, bool first, const struct buf *rdb, size_t n)
{
    struct reconcile rc;
    if (reconcile_begin(&rc, &w->select, &w->counters, w->dir, w->existing, first, &w->err) < 0)
        fail_msg("%s", w->err.msg);
    int done = load_into(w, &rc, span_of(rdb->p, n));
    assert_int_equal(rc.whole, done == 0);
    if (done == 0 && !first) {
        struct client *c = live_client(&w->target, "target");
        done = reconcile_sweep(&rc, &(struct primaries){.one = c}, &w->facts, NULL, NULL,
                               &w->deleted, &w->err);
        client_close(c);
    }
    reconcile_end(&rc);
    return done;
}

static int move(struct world *w, bool first)
{
    struct buf rdb = snapshot(w);
    int done = move_part(w, first, &rdb, rdb.n);
    buf_release(&rdb);
    return done;
}

static void must_move(struct world *w, bool first)
{
    if (move(w, first) < 0) fail_msg("%s", w->err.msg);
}

static int64_t number(struct client *c, uint64_t db, const char *verb, const char *key)
{
    struct reply *r = NULL;
    select_db(c, db);
    assert_int_equal(client_ask(c, &r, NULL, verb, key, NULL), 0);
    assert_int_equal(r->type, REPLY_INTEGER);
    int64_t n = r->integer;
    reply_free(r);
    return n;
}

static void digest(struct client *c, char ret[48])
{
    struct reply *r = NULL;
    assert_int_equal(client_ask(c, &r, NULL, "DEBUG", "DIGEST", NULL), 0);
    reply_words(ret, 48, r);
    reply_free(r);
}

/* Name the first key that differs. */
static void tell_difference(struct world *w, uint64_t db)
{
    struct reply *keys = NULL;
    char a[48], b[48], name[160];
    select_db(w->s, db);
    select_db(w->t, db);
    assert_int_equal(client_ask(w->s, &keys, NULL, "KEYS", "*", NULL), 0);
    for (size_t i = 0; i < keys->n; i++) {
        struct span argv[] = {span_str("DEBUG"), span_str("DIGEST-VALUE"), keys->item[i].str};
        struct reply *x = NULL, *y = NULL;
        assert_int_equal(client_callv(w->s, &x, 3, argv, NULL), 0);
        assert_int_equal(client_callv(w->t, &y, 3, argv, NULL), 0);
        reply_words(a, sizeof(a), reply_at(x, 0));
        reply_words(b, sizeof(b), reply_at(y, 0));
        if (strcmp(a, b) != 0)
            print_error("database %d, key %s\n", (int)db,
                        num_quote(name, sizeof(name), keys->item[i].str));
        reply_free(x);
        reply_free(y);
    }
    reply_free(keys);
}

/* Both servers hold the same: every key, type, value, and whether it expires. */
static void assert_same(struct world *w)
{
    char a[48], b[48];
    number(w->s, 0, "EXISTS", "short"); /* over, but the server may not have noticed */
    digest(w->s, a);
    digest(w->t, b);
    for (uint64_t db = 0; db < 12 && strcmp(a, b) != 0; db++)
        tell_difference(w, db);
    assert_string_equal(a, b);
}

/* --- every type, every size, several databases, twice --- */

static void fill(struct client *s)
{
    live_do(s, "DEBUG POPULATE 20000 many 10");
    script(s, "for i = 1, 150000 do r('RPUSH', 'big:list', 'element-' .. i) end "
              "for i = 1, 40000 do r('HSET', 'big:hash', 'field-' .. i, 'value-' .. i * 7) "
              "  r('ZADD', 'big:zset', i / 3, 'member-' .. i) r('SADD', 'big:set', 'm-' .. i) end "
              "r('SET', 'big:string', string.rep('x', 9 * 1024 * 1024)) "
              "r('PEXPIREAT', 'big:string', 4000000000001) "
              "r('PEXPIREAT', 'big:hash', 4000000000002) ");
    script(s,
           "for i = 1, 20000 do r('XADD', 'big:stream', i .. '-1', 'f', string.rep('v', 60)) end "
           "r('XGROUP', 'CREATE', 'big:stream', 'g', '0') "
           "r('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 10, 'STREAMS', 'big:stream', '>') "
           "r('SET', 'str', 'one', 'PXAT', 4000000000003) r('SET', 'str2', 'two') "
           "r('RPUSH', 'list', 1, 2, 3) r('SADD', 'set', 'a', 'b') r('HSET', 'hash', 'f', 'v') "
           "r('ZADD', 'zset', 1.5, 'm') r('XADD', 'stream', '5-5', 'f', 'v') "
           "r('SET', 'mid', string.rep('m', 2 * 1024 * 1024))");
    select_db(s, 3);
    live_do(s, "DEBUG POPULATE 500 three 10");
    select_db(s, 9);
    live_do(s, "DEBUG POPULATE 300 nine 10");
    select_db(s, 0);
}

static void change(struct client *s)
{
    select_db(s, 0);
    script(s, "for i = 0, 19999, 2 do r('DEL', 'many:' .. i) end "
              "for i = 1, 19999, 20 do r('SET', 'many:' .. i, 'changed') end "
              "r('DEL', 'big:list', 'big:string', 'mid', 'set') "
              "for i = 1, 120000 do r('LPUSH', 'big:list', 'other-' .. i) end "
              "r('DEL', 'big:hash') r('SET', 'big:hash', 'now a string') "
              "r('DEL', 'hash') for i = 1, 60000 do r('SADD', 'hash', 'now-a-set-' .. i) end "
              "r('ZREMRANGEBYRANK', 'big:zset', 0, 9999) r('PERSIST', 'str') "
              "r('PEXPIREAT', 'str2', 4000000000004) r('XTRIM', 'big:stream', 'MAXLEN', 15000) "
              "r('DEL', 'list') r('SET', 'list', string.rep('y', 10 * 1024 * 1024)) "
              "r('SET', 'short', 'x', 'PX', 1)");
    select_db(s, 9);
    live_do(s, "FLUSHDB");
    select_db(s, 11);
    live_do(s, "DEBUG POPULATE 100 eleven 10");
    select_db(s, 0);
    usleep(20000); /* `short` is over */
}

#define FOREIGN 5
static const struct {
    uint64_t db;
    struct span key;
} foreign[FOREIGN] = {
    {0, {(const uint8_t *)"foreign", 7}},  {0, {(const uint8_t *)"\0\r\n\xff*?", 6}},
    {0, {(const uint8_t *)"", 0}},         {9, {(const uint8_t *)"foreign", 7}},
    {700, {(const uint8_t *)"many:1", 6}}, /* in no database of the source */
};

static const struct span checkpoint = {(const uint8_t *)"keyhaul:checkpoint:x", 20};

static void put_foreign(struct world *w)
{
    for (size_t i = 0; i < FOREIGN; i++)
        put(w->t, foreign[i].db, foreign[i].key, "mine");
}

static void assert_foreign_and_remove(struct world *w)
{
    for (size_t i = 0; i < FOREIGN; i++) {
        assert_string_equal(get(w->t, foreign[i].db, foreign[i].key), "mine");
        remove_key(w->t, foreign[i].db, foreign[i].key);
    }
}

static void twice(enum task_conflict policy)
{
    struct world *w = world_new(policy);
    fill(w->s);
    put_foreign(w);
    note(w);
    put(w->t, 0, checkpoint, "1 loading"); /* as the flow does */
    put(w->t, 9, checkpoint, "of another task");
    put(w->s, 0, checkpoint, "of the source, once a target");
    must_move(w, true);
    assert_string_equal(get(w->t, 0, checkpoint), "1 loading");
    change(w->s);
    for (int again = 0; again < 2; again++) { /* it makes no difference */
        must_move(w, false);
        assert_int_equal(w->deleted, again ? 0 : 10000 + 300 + 3);
        assert_string_equal(get(w->t, 0, checkpoint), "1 loading");
        assert_string_equal(get(w->t, 9, checkpoint), "of another task");
    }
    assert_int_equal(counter_get(&w->counters.keys_deleted), 10303);
    remove_key(w->s, 0, checkpoint);
    remove_key(w->t, 0, checkpoint);
    remove_key(w->t, 9, checkpoint);
    assert_foreign_and_remove(w);
    assert_same(w);
    assert_int_equal(number(w->t, 0, "PEXPIRETIME", "str2"), 4000000000004);
    assert_int_equal(number(w->t, 0, "PEXPIRETIME", "str"), -1);
    assert_int_equal(number(w->t, 0, "PEXPIRETIME", "big:hash"), -1);
    world_free(w);
}

static void twice_overwrite(void **state)
{
    (void)state;
    twice(TASK_CONFLICT_OVERWRITE);
}

static void twice_skip(void **state)
{
    (void)state;
    twice(TASK_CONFLICT_SKIP);
}

/* --- cut off in the midst, wherever --- */

static size_t find(const struct buf *rdb, const char *text)
{
    const uint8_t *at = memmem(rdb->p, rdb->n, text, strlen(text));
    assert_non_null(at);
    return (size_t)(at - rdb->p);
}

static void cut_in_big_values(void **state)
{
    (void)state;
    static const char *const places[] = {"element-75000", "field-20000", "member-20000", "m-30000"};
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    fill(w->s);
    struct buf rdb = snapshot(w);
    put_foreign(w);
    note(w);
    assert_int_equal(move_part(w, true, &rdb, find(&rdb, "element-75000")), -1);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        assert_int_equal(move_part(w, false, &rdb, find(&rdb, places[i])), -1);
    assert_int_equal(move_part(w, false, &rdb, rdb.n - 1), -1); /* without its checksum */
    assert_true(number(w->t, 0, "EXISTS", "big:hash") == 1);    /* something was written */
    buf_release(&rdb);
    change(w->s);
    must_move(w, false);
    assert_foreign_and_remove(w);
    assert_same(w);
    world_free(w);
}

static void nothing_without_the_whole(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_OVERWRITE);
    struct reconcile rc;
    uint64_t deleted = 77;
    put(w->t, 0, span_str("k"), "v");
    for (int first = 0; first < 2; first++) {
        assert_int_equal(
            reconcile_begin(&rc, &w->select, &w->counters, w->dir, w->existing, first, NULL), 0);
        if (first) assert_int_equal(reconcile_loaded(&rc, NULL), 0);
        assert_int_equal(reconcile_sweep(&rc, &(struct primaries){.one = w->t}, &w->facts, NULL,
                                         NULL, &deleted, &w->err),
                         -1);
        assert_int_equal(w->err.code, ERR_INTERNAL);
        reconcile_end(&rc);
    }
    assert_int_equal(deleted, 77);
    assert_string_equal(get(w->t, 0, span_str("k")), "v");
    world_free(w);
}

/* --- databases --- */

static void mapped_databases(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    assert_int_equal(db_select_parse(&w->select, "0-2,5", NULL), 0);
    assert_int_equal(db_select_parse_map(&w->select, "0:7,2:1,1:2", NULL), 0);
    /* 0 to 7, 1 to 2, 2 to 1, 5 to 5: not the task's are 0, 3 and all others. */
    for (uint64_t db = 0; db < 9; db++)
        put(w->t, db, span_str("old"), "foreign");
    note(w);
    for (uint64_t db = 0; db < 9; db++) {
        char value[8];
        snprintf(value, sizeof(value), "%d", (int)db);
        put(w->s, db, span_str("a"), value);
        put(w->s, db, span_str("b"), value);
    }
    must_move(w, true);
    for (uint64_t db = 0; db < 9; db++) {
        remove_key(w->s, db, span_str("b"));
        put(w->t, db, span_str("b2"), "stale"); /* as if it came by the stream */
    }
    must_move(w, false);
    assert_int_equal(w->deleted, 8);
    static const char *const a[9] = {"", "2", "1", "", "", "5", "", "0", ""};
    for (uint64_t db = 0; db < 9; db++) {
        assert_string_equal(get(w->t, db, span_str("old")), "foreign");
        assert_string_equal(get(w->t, db, span_str("a")), a[db]);
        assert_string_equal(get(w->t, db, span_str("b")), "");
        assert_string_equal(get(w->t, db, span_str("b2")), *a[db] ? "" : "stale");
    }
    world_free(w);
}

static void a_thousand_databases(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    note(w);
    assert_int_equal(access(w->existing, F_OK), -1); /* there was nothing */
    for (uint64_t db = 0; db < 1200; db++) {
        put(w->s, db, span_str("stays"), "1");
        put(w->s, db, span_str("goes"), "1");
    }
    must_move(w, true);
    assert_same(w);
    for (uint64_t db = 0; db < 1200; db++)
        remove_key(w->s, db, span_str(db % 3 ? "goes" : "stays"));
    must_move(w, false);
    assert_int_equal(w->deleted, 1200);
    assert_same(w);
    world_free(w);
}

/* --- how fast; KEYHAUL_TEST_KEYS=1000000 for so many --- */

static int64_t lap(int64_t *since)
{
    int64_t now = clock_mono_ms(), took = now - *since;
    *since = now;
    return took;
}

static void many_keys(void **state)
{
    (void)state;
    const char *many = getenv("KEYHAUL_TEST_KEYS");
    int n = many ? (int)strtoul(many, NULL, 10) : 120000;
    char text[80];
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    snprintf(text, sizeof(text), "DEBUG POPULATE %d foreign 10", n);
    live_do(w->t, text);
    int64_t at = clock_mono_ms();
    note(w);
    print_message("%d keys noted in %lld ms\n", n, (long long)lap(&at));
    snprintf(text, sizeof(text), "DEBUG POPULATE %d key 10", n);
    live_do(w->s, text);
    lap(&at);
    must_move(w, true);
    print_message("%d keys loaded in %lld ms\n", n, (long long)lap(&at));
    must_move(w, false);
    print_message("%d keys loaded again, %d compared, in %lld ms\n", n, 2 * n, (long long)lap(&at));
    assert_int_equal(w->deleted, 0);
    live_do(w->s, "FLUSHALL");
    must_move(w, false);
    print_message("%d of %d keys deleted in %lld ms\n", n, 2 * n, (long long)lap(&at));
    assert_int_equal(w->deleted, n);
    assert_int_equal(number(w->t, 0, "EXISTS", "foreign:1"), 1);
    struct reply *r = NULL;
    assert_int_equal(client_ask(w->t, &r, NULL, "DBSIZE", NULL), 0);
    assert_int_equal(r->integer, n);
    reply_free(r);
    world_free(w);
}

/* --- keys that both have --- */

/* What the task has written over is its own, also when the first load was cut off. */
static void overwritten_is_ours(void **state)
{
    (void)state;
    for (int cut = 0; cut < 2; cut++) {
        struct world *w = world_new(TASK_CONFLICT_OVERWRITE);
        put(w->t, 0, span_str("both"), "target");
        put(w->t, 0, span_str("alone"), "target");
        put(w->s, 0, span_str("both"), "source");
        note(w);
        struct buf rdb = snapshot(w);
        assert_int_equal(move_part(w, true, &rdb, cut ? rdb.n - 1 : rdb.n), cut ? -1 : 0);
        buf_release(&rdb);
        if (!cut) assert_string_equal(get(w->t, 0, span_str("both")), "source");
        remove_key(w->s, 0, span_str("both"));
        must_move(w, false);
        assert_string_equal(get(w->t, 0, span_str("both")), "");
        assert_string_equal(get(w->t, 0, span_str("alone")), "target");
        world_free(w);
    }
}

static void skipped_stays(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_SKIP);
    put(w->t, 0, span_str("both"), "target");
    put(w->t, 0, span_str("later"), "target");
    put(w->s, 0, span_str("both"), "source");
    put(w->s, 0, span_str("ours"), "1");
    script(w->t, "r('SET', 'big', 'target') r('SET', 'gone', 'target')");
    script(w->s, "for i = 1, 150000 do r('RPUSH', 'big', 'element-' .. i) end");
    note(w);
    must_move(w, true);
    put(w->s, 0, span_str("ours"), "2");
    put(w->s, 0, span_str("later"), "source");
    put(w->s, 0, span_str("gone"), "source");
    remove_key(w->t, 0, span_str("gone")); /* by the user: not in the way any more */
    for (int again = 0; again < 2; again++) {
        must_move(w, false);
        assert_int_equal(w->deleted, 0);
        assert_string_equal(get(w->t, 0, span_str("both")), "target");
        assert_string_equal(get(w->t, 0, span_str("later")), "target");
        assert_string_equal(get(w->t, 0, span_str("big")), "target");
        assert_string_equal(get(w->t, 0, span_str("ours")), "2");
        assert_string_equal(get(w->t, 0, span_str("gone")), "source");
    }
    world_free(w);
}

static void conflict_is_told(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    put(w->t, 0, span_str("later"), "target");
    put(w->s, 0, span_str("ours"), "1");
    note(w);
    must_move(w, true);
    put(w->s, 0, span_str("ours"), "2");
    put(w->s, 0, span_str("later"), "source");
    assert_int_equal(move(w, false), -1);
    assert_int_equal(w->err.code, ERR_CONFLICT);
    assert_non_null(strstr(w->err.msg, "key \"later\" of database 0 stood on the target before"));
    assert_string_equal(get(w->t, 0, span_str("later")), "target");
    remove_key(w->t, 0, span_str("later")); /* as the words say */
    must_move(w, false);
    assert_same(w);
    remove_key(w->s, 0, span_str("later")); /* now it is the task's */
    must_move(w, false);
    assert_same(w);
    world_free(w);
}

/* Somebody has made keys since the note was taken: a first load meets them by its policy. */
static void made_meanwhile(void **state)
{
    (void)state;
    for (int skip = 0; skip < 2; skip++) {
        struct world *w = world_new(skip ? TASK_CONFLICT_SKIP : TASK_CONFLICT_FAIL);
        put(w->t, 0, span_str("foreign"), "mine");
        note(w);
        put(w->t, 0, span_str("a"), "target");
        put(w->s, 0, span_str("a"), "source");
        assert_int_equal(move(w, true), skip ? 0 : -1);
        if (!skip) assert_non_null(strstr(w->err.msg, "appeared on the target during the load"));
        assert_string_equal(get(w->t, 0, span_str("a")), "target");
        world_free(w);
    }
}

/* What stood there goes along when the source swaps databases. */
static void swapped(void **state)
{
    (void)state;
    static const char *const keys[] = {"same", "one", "other"};
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    put(w->t, 0, span_str("one"), "mine");
    put(w->t, 1, span_str("same"), "mine");
    note(w);
    put(w->s, 0, span_str("a"), "1");
    put(w->s, 1, span_str("b"), "1");
    must_move(w, true);
    for (int i = 0; i < 2; i++)
        assert_int_equal(reconcile_note_swap(w->existing, NULL), 0);
    live_do(w->s, "SWAPDB 0 1");
    live_do(w->t, "SWAPDB 0 1");
    remove_key(w->s, 1, span_str("a"));
    put(w->t, 5, span_str("other"), "stale");
    for (int again = 0; again < 2; again++) {
        must_move(w, false);
        assert_int_equal(w->deleted, again ? 0 : 2);
        assert_string_equal(get(w->t, 1, span_str(keys[1])), "mine");
        assert_string_equal(get(w->t, 0, span_str(keys[0])), "mine");
        assert_string_equal(get(w->t, 0, span_str("b")), "1");
        assert_string_equal(get(w->t, 1, span_str("a")), "");
        assert_string_equal(get(w->t, 5, span_str(keys[2])), "");
    }
    put(w->s, 0, span_str("same"), "source");
    assert_int_equal(move(w, false), -1);
    assert_int_equal(w->err.code, ERR_CONFLICT);
    assert_string_equal(get(w->t, 0, span_str("same")), "mine");
    unlink(w->existing);
    assert_int_equal(reconcile_note_swap(w->existing, NULL), 0);
    world_free(w);
}

/* From another machine: what was noted is gone. Nothing there now is deleted, all is replaced. */
static void unsure(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    put(w->t, 0, span_str("foreign"), "mine");
    put(w->s, 0, span_str("a"), "1");
    put(w->s, 0, span_str("b"), "1");
    note(w);
    must_move(w, true);
    assert_int_equal(reconcile_note_unsure(&(struct primaries){.one = w->t}, &w->facts, &w->select,
                                           w->dir, w->existing, NULL),
                     0);
    put(w->s, 0, span_str("a"), "2");
    remove_key(w->s, 0, span_str("b"));
    w->policy = TASK_CONFLICT_SKIP;
    assert_int_equal(move(w, false), -1);
    assert_int_equal(w->err.code, ERR_REFUSED);
    assert_string_equal(get(w->t, 0, span_str("a")), "1");
    w->policy = TASK_CONFLICT_FAIL;
    must_move(w, false);
    assert_int_equal(w->deleted, 0);
    assert_string_equal(get(w->t, 0, span_str("a")), "2");
    assert_string_equal(get(w->t, 0, span_str("b")), "1");
    assert_string_equal(get(w->t, 0, span_str("foreign")), "mine");
    remove_key(w->s, 0, span_str("a")); /* it has become the task's */
    must_move(w, false);
    assert_int_equal(w->deleted, 1);
    assert_string_equal(get(w->t, 0, span_str("foreign")), "mine");
    world_free(w);
}

/* --- values that the target cannot hold --- */

static void left_out_is_gone(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_OVERWRITE);
    w->unsupported = TASK_UNSUPPORTED_SKIP;
    w->facts.version = FACTS_VERSION(4, 0, 0); /* as if it knew no streams */
    w->facts.rdb_version = 8;
    put(w->t, 0, span_str("foreign"), "mine");
    note(w);
    put(w->s, 0, span_str("a"), "1");
    must_move(w, true);
    script(w->s,
           "r('DEL', 'a') r('XADD', 'a', '1-1', 'f', 'v') r('XADD', 'foreign', '1-1', 'f', 1)");
    w->policy = TASK_CONFLICT_SKIP;
    must_move(w, false);
    assert_int_equal(w->deleted, 1);
    assert_string_equal(get(w->t, 0, span_str("foreign")), "mine");
    world_free(w);
}

/* --- libraries of functions --- */

static void library(struct client *c, const char *name, const char *functions)
{
    char code[600];
    size_t n = (size_t)snprintf(code, sizeof(code), "#!lua name=%s\n", name);
    for (const char *f = functions; *f; f++)
        n += (size_t)snprintf(code + n, sizeof(code) - n,
                              "redis.register_function('%c', function() return '%s' end)\n", *f,
                              name);
    struct reply *r = NULL;
    struct err err = {0};
    if (client_ask(c, &r, &err, "FUNCTION", "LOAD", "REPLACE", code, NULL) < 0)
        fail_msg("%s", err.msg);
    reply_free(r);
}

/* Which library has function f; "" none. */
static const char *owner(struct client *c, const char *f)
{
    static char name[100];
    struct reply *r = NULL;
    assert_int_equal(client_call(c, &r, NULL, "FCALL", f, "0", NULL), 0);
    reply_words(name, sizeof(name), r);
    if (reply_is_error(r)) name[0] = 0;
    reply_free(r);
    return name;
}

static void drop_library(struct client *c, const char *name)
{
    struct reply *r = NULL;
    assert_int_equal(client_ask(c, &r, NULL, "FUNCTION", "DELETE", name, NULL), 0);
    reply_free(r);
}

static void libraries(void **state)
{
    (void)state;
    struct world *w = world_new(TASK_CONFLICT_FAIL);
    library(w->t, "foreign", "z");
    library(w->s, "one", "ab");
    library(w->s, "two", "cd");
    library(w->s, "three", "e");
    library(w->s, "four", "f");
    note(w);
    must_move(w, true);
    assert_string_equal(owner(w->t, "d"), "two");
    /* Functions change places, also in a ring and from a library that goes. */
    drop_library(w->s, "three");
    live_do(w->s, "FUNCTION FLUSH");
    library(w->s, "one", "cb");
    library(w->s, "two", "ae");
    library(w->s, "five", "f");
    must_move(w, false);
    assert_string_equal(owner(w->t, "a"), "two");
    assert_string_equal(owner(w->t, "b"), "one");
    assert_string_equal(owner(w->t, "c"), "one");
    assert_string_equal(owner(w->t, "d"), "");
    assert_string_equal(owner(w->t, "e"), "two");
    assert_string_equal(owner(w->t, "f"), "five");
    assert_string_equal(owner(w->t, "z"), "foreign");
    live_do(w->s, "FUNCTION FLUSH");
    must_move(w, false);
    assert_string_equal(owner(w->t, "a"), "");
    assert_string_equal(owner(w->t, "z"), "foreign");
    library(w->s, "foreign", "z");
    assert_int_equal(move(w, false), -1);
    assert_int_equal(w->err.code, ERR_CONFLICT);
    w->policy = TASK_CONFLICT_OVERWRITE;
    must_move(w, false);
    live_do(w->s, "FUNCTION FLUSH");
    must_move(w, false); /* written over, it has become the task's */
    assert_string_equal(owner(w->t, "z"), "");
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twice_overwrite),
        cmocka_unit_test(twice_skip),
        cmocka_unit_test(cut_in_big_values),
        cmocka_unit_test(mapped_databases),
        cmocka_unit_test(a_thousand_databases),
        cmocka_unit_test(many_keys),
        cmocka_unit_test(overwritten_is_ours),
        cmocka_unit_test(skipped_stays),
        cmocka_unit_test(conflict_is_told),
        cmocka_unit_test(left_out_is_gone),
        cmocka_unit_test(libraries),
        cmocka_unit_test(unsure),
        cmocka_unit_test(made_meanwhile),
        cmocka_unit_test(swapped),
        cmocka_unit_test(nothing_without_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
