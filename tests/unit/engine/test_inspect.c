// SPDX-License-Identifier: BSD-3-Clause
// Inspecting: the digests of all golden dumps, counts by hand, bounded lists, broken files.
#include "engine/inspect.h"

#include "../wire/rdb/make.h"
#include "golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HOUR 3600000LL
#define NOW  1700000000000LL

/* --- against the manifests --- */

struct lines {
    struct buf all; /* of char * */
    size_t keys;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_line(struct lines *l, const char *db, const char *key, const char *type,
                     const char *expire, const char *sha, const char *freq, const char *idle)
{
    char *text;
    assert_true(asprintf(&text, "%s %s %s %s %s %s %s", db, key, type, expire, sha, freq, idle) >
                0);
    assert_int_equal(buf_add(&l->all, &text, sizeof(text), NULL), 0);
    l->keys++;
}

static void number(char *out, size_t size, int64_t v)
{
    if (v < 0)
        snprintf(out, size, "-");
    else
        snprintf(out, size, "%lld", (long long)v);
}

static int take_key(void *ctx, const struct inspect_key *key, struct err *err)
{
    char db[24], expire[24], freq[24], idle[24];
    char *name = golden_hex(key->name.p, key->name.n);
    char *sha = golden_hex(key->digest.content, DIGEST_BYTES);
    (void)err;
    snprintf(db, sizeof(db), "%llu", (unsigned long long)key->db);
    snprintf(expire, sizeof(expire), "%lld", (long long)key->expire_ms);
    number(freq, sizeof(freq), key->freq);
    number(idle, sizeof(idle), key->idle_s);
    add_line(ctx, db, name, rdb_kind_name(rdb_kind_of(key->type)), expire, sha, freq, idle);
    free(name);
    free(sha);
    return 0;
}

static void read_manifest(struct lines *l, const char *name)
{
    struct buf tsv = golden_read(name, ".tsv");
    char *column[GOLDEN_COLUMNS];
    for (char *at = (char *)tsv.p; (at = golden_line(at, column)) != NULL;)
        if (strcmp(column[0], "key") == 0)
            add_line(l, column[1], column[2], column[3], column[4], column[5], column[6],
                     column[7]);
    buf_release(&tsv);
}

static void free_lines(struct lines *l)
{
    for (size_t i = 0; i < l->keys; i++)
        free(((char **)(void *)l->all.p)[i]);
    buf_release(&l->all);
}

static void compare(const char *name, struct lines *want, struct lines *got)
{
    char **w = (char **)(void *)want->all.p, **g = (char **)(void *)got->all.p;
    if (want->keys != got->keys) fail_msg("%s: %zu keys, %zu told", name, want->keys, got->keys);
    if (want->keys == 0) return;
    qsort(w, want->keys, sizeof(*w), by_text);
    qsort(g, got->keys, sizeof(*g), by_text);
    for (size_t i = 0; i < want->keys; i++)
        if (strcmp(w[i], g[i]) != 0) fail_msg("%s:\n want %s\n got  %s", name, w[i], g[i]);
}

static void digest_golden(const char *name, bool starve)
{
    struct buf rdb = golden_read(name, ".rdb");
    struct lines want = {0}, got = {0};
    struct inspect in;
    struct reader r;
    struct err err;
    buf_init(&want.all, 16u << 20);
    buf_init(&got.all, 16u << 20);
    struct inspect_config cfg = {.now_ms = NOW, .on_key = take_key, .ctx = &got};
    assert_int_equal(digest_new(&cfg.digest, "/tmp", &err), 0);
    assert_int_equal(inspect_init(&in, &err), 0);
    (starve ? reader_init_starving : reader_init_mem)(&r, rdb.p, rdb.n);
    if (inspect_run(&in, &cfg, &r, &err) < 0) fail_msg("%s: %s", name, err.msg);
    assert_int_equal(in.bytes, rdb.n);
    read_manifest(&want, name);
    compare(name, &want, &got);
    assert_int_equal(in.all.keys, want.keys);
    free_lines(&want);
    free_lines(&got);
    inspect_release(&in);
    digest_free(cfg.digest);
    buf_release(&rdb);
}

static void every_golden_key_has_its_digest(void **state)
{
    (void)state;
    struct golden g;
    golden_list(&g);
    for (size_t i = 0; i < g.n; i++)
        digest_golden(g.name[i], false);
    digest_golden("redis-8.6.3", true);
    digest_golden("valkey-9.1.2", true);
    golden_free(&g);
}

/* --- by hand --- */

struct run {
    struct inspect in;
    int rc;
    struct err err;
};

static void inspect_made(struct run *run, const struct make *m, const struct inspect_config *cfg)
{
    struct reader r;
    reader_init_mem(&r, m->p, m->n);
    assert_int_equal(inspect_init(&run->in, &run->err), 0);
    run->rc = inspect_run(&run->in, cfg, &r, &run->err);
}

static void magic(struct make *m, const char *text)
{
    *m = (struct make){0};
    put(m, text, strlen(text));
}

static void put_end(struct make *m)
{
    put_u8(m, 255);
    put_le(m, 0, 8); /* "not computed" */
}

static void put_key(struct make *m, const char *key, const char *value, int64_t expire_ms)
{
    if (expire_ms != -1) {
        put_u8(m, 252);
        put_le(m, (uint64_t)expire_ms, 8);
    }
    put_u8(m, RDB_STRING);
    put_str(m, key);
    put_str(m, value);
}

static void put_db(struct make *m, unsigned db)
{
    put_u8(m, 254);
    put_len(m, db);
}

static void put_aux(struct make *m, const char *name, const char *value)
{
    put_u8(m, 250);
    put_str(m, name);
    put_str(m, value);
}

static void counts_are_those_of_the_file(void **state)
{
    (void)state;
    static struct make m;
    struct run run;
    magic(&m, "REDIS0010");
    put_aux(&m, "redis-ver", "7.0.15");
    put_aux(&m, "lua", "return 1");
    put_u8(&m, 245);
    put_str(&m, "#!lua name=mylib engine=x\nredis.register_function('f', 1)");
    put_db(&m, 3);
    size_t before = m.n;
    put_key(&m, "a", "1234567890", -1);
    put_key(&m, "b", "1", NOW + HOUR);
    size_t in_3 = m.n - before;
    put_db(&m, 0);
    before = m.n;
    put_u8(&m, RDB_LIST);
    put_str(&m, "list");
    put_len(&m, 2);
    put_str(&m, "x");
    put_str(&m, "y");
    size_t list = m.n - before;
    put_end(&m);
    struct inspect_config cfg = {.top = 20, .now_ms = NOW};
    inspect_made(&run, &m, &cfg);
    assert_int_equal(run.rc, 0);
    struct inspect *in = &run.in;
    assert_int_equal(in->version, 10);
    assert_int_equal(in->bytes, m.n);
    assert_int_equal(in->all.keys, 3);
    assert_int_equal(in->all.bytes, in_3 + list);
    assert_int_equal(in->n_db, 2);
    assert_int_equal(in->db[0].db, 0);
    assert_int_equal(in->db[0].kind[RDB_KIND_LIST].bytes, list);
    assert_int_equal(in->db[1].db, 3);
    assert_int_equal(in->db[1].all.bytes, in_3);
    assert_int_equal(in->db[1].expires, 1);
    assert_int_equal(in->type[RDB_STRING].sum.keys, 2);
    assert_int_equal(in->type[RDB_STRING].first_db, 3);
    assert_memory_equal(in->type[RDB_STRING].first.p, "a", 1);
    assert_int_equal(in->functions, 1);
    assert_string_equal(in->library[0].name, "mylib");
    assert_int_equal(in->scripts, 1);
    assert_int_equal(in->n_aux, 1);
    assert_string_equal(in->aux[0].value, "7.0.15");
    assert_int_equal(in->n_top, 3);
    /* "a" and "b" with its expiry are of one size: the earlier one first */
    assert_memory_equal(in->top[0].key.p, "a", 1);
    assert_memory_equal(in->top[1].key.p, "b", 1);
    assert_memory_equal(in->top[2].key.p, "list", 4);
    assert_int_equal(in->top[2].elements, 2);
    inspect_release(in);
}

static void expiries_fall_into_their_ranges(void **state)
{
    (void)state;
    static struct make m;
    struct run run;
    const struct {
        int64_t at;
        enum inspect_expiry want;
    } c[] = {
        {-1, INSPECT_NONE},
        {0, INSPECT_PAST},
        {-2, INSPECT_PAST},
        {NOW, INSPECT_PAST},
        {NOW + 1, INSPECT_HOUR},
        {NOW + HOUR - 1, INSPECT_HOUR},
        {NOW + HOUR, INSPECT_DAY},
        {NOW + 24 * HOUR - 1, INSPECT_DAY},
        {NOW + 24 * HOUR, INSPECT_WEEK},
        {NOW + 168 * HOUR - 1, INSPECT_WEEK},
        {NOW + 168 * HOUR, INSPECT_MONTH},
        {NOW + 720 * HOUR - 1, INSPECT_MONTH},
        {NOW + 720 * HOUR, INSPECT_LATER},
        {INT64_MAX, INSPECT_LATER},
    };
    uint64_t want[INSPECT_EXPIRIES] = {0};
    magic(&m, "REDIS0010");
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        put_key(&m, "k", "v", c[i].at);
        want[c[i].want]++;
    }
    put_end(&m);
    struct inspect_config cfg = {.top = 1, .now_ms = NOW};
    inspect_made(&run, &m, &cfg);
    assert_int_equal(run.rc, 0);
    assert_memory_equal(run.in.expiry, want, sizeof(want));
    assert_int_equal(run.in.n_db, 1); /* keys before any SELECTDB are of database 0 */
    inspect_release(&run.in);
}

/* All sizes in a scrambled order: the largest of them, largest first. */
static void the_biggest_are_kept(void **state)
{
    (void)state;
    static struct make m;
    static char value[1000];
    struct run run;
    memset(value, 'v', sizeof(value) - 1);
    for (unsigned top = 0; top <= 40; top += 8) {
        magic(&m, "REDIS0010");
        for (unsigned i = 0; i < 101; i++) {
            unsigned size = 1 + i * 37 % 101;
            put_u8(&m, RDB_STRING);
            put_str(&m, "k");
            put_bytes(&m, value, size);
        }
        put_end(&m);
        struct inspect_config cfg = {.top = top, .now_ms = NOW};
        inspect_made(&run, &m, &cfg);
        assert_int_equal(run.rc, 0);
        assert_int_equal(run.in.n_top, top);
        for (unsigned i = 0; i < top; i++)
            assert_int_equal(run.in.top[i].bytes, 1 + 2 + (101 - i > 63 ? 2 : 1) + 101 - i);
        inspect_release(&run.in);
    }
}

static void databases_may_be_chosen(void **state)
{
    (void)state;
    static struct make m;
    struct run run;
    struct db_select select;
    assert_int_equal(db_select_parse(&select, "1", &run.err), 0);
    magic(&m, "REDIS0010");
    for (unsigned db = 0; db < 3; db++) {
        put_db(&m, db);
        put_key(&m, db == 1 ? "yes" : "no", "v", NOW);
    }
    put_end(&m);
    struct inspect_config cfg = {.top = 9, .now_ms = NOW, .select = &select};
    inspect_made(&run, &m, &cfg);
    assert_int_equal(run.rc, 0);
    assert_int_equal(run.in.all.keys, 1);
    assert_int_equal(run.in.unselected, 2);
    assert_int_equal(run.in.n_db, 1);
    assert_memory_equal(run.in.top[0].key.p, "yes", 3);
    inspect_release(&run.in);
}

/* No server writes it so, but a file may be anything. */
static void keys_before_any_database_are_of_database_0(void **state)
{
    (void)state;
    static struct make m;
    struct run run;
    struct db_select select;
    for (int chosen = 0; chosen < 2; chosen++) {
        assert_int_equal(db_select_parse(&select, chosen ? "0" : "1", &run.err), 0);
        magic(&m, "REDIS0010");
        put_key(&m, "early", "v", NOW);
        put_end(&m);
        struct inspect_config cfg = {.top = 9, .now_ms = NOW, .select = &select};
        inspect_made(&run, &m, &cfg);
        assert_int_equal(run.rc, 0);
        assert_int_equal(run.in.all.keys, chosen);
        assert_int_equal(run.in.unselected, !chosen);
        inspect_release(&run.in);
    }
}

static void many_databases_share_the_last_entry(void **state)
{
    (void)state;
    static struct make m;
    struct run run;
    magic(&m, "REDIS0010");
    for (unsigned db = 0; db < INSPECT_DBS + 100; db++) {
        put_db(&m, db);
        put_key(&m, "k", "v", -1);
    }
    put_end(&m);
    struct inspect_config cfg = {.top = 1, .now_ms = NOW};
    inspect_made(&run, &m, &cfg);
    assert_int_equal(run.rc, 0);
    assert_int_equal(run.in.n_db, INSPECT_DBS);
    assert_int_equal(run.in.db[INSPECT_DBS - 1].all.keys, 101);
    assert_int_equal(run.in.db[0].all.keys, 1);
    inspect_release(&run.in);
}

static void what_came_before_a_break_is_counted(void **state)
{
    (void)state;
    static struct make m;
    struct run run;
    magic(&m, "REDIS0010");
    put_key(&m, "a", "1", -1);
    put_u8(&m, 99);
    put_str(&m, "odd");
    struct inspect_config cfg = {.top = 5, .now_ms = NOW};
    inspect_made(&run, &m, &cfg);
    assert_int_equal(run.rc, -1);
    assert_int_equal(run.err.code, ERR_FORMAT);
    assert_non_null(strstr(run.err.msg, "value type 99"));
    assert_int_equal(run.in.all.keys, 1);
    assert_int_equal(run.in.n_top, 1);
    inspect_release(&run.in);
}

/* --- elements at the front --- */

static void check_peek(enum rdb_type type, const struct make *value, uint64_t want)
{
    for (int starve = 0; starve < 2; starve++) {
        struct reader r;
        (starve ? reader_init_starving : reader_init_mem)(&r, value->p, value->n);
        assert_int_equal(inspect_peek(&r, type), want);
        assert_int_equal(reader_pos(&r), 0);
        assert_ptr_equal(r.p, r.keep);
    }
}

static void elements_are_told_where_they_stand_at_the_front(void **state)
{
    (void)state;
    static struct make m;
    m = (struct make){0};
    put_len(&m, 70000);
    check_peek(RDB_HASH, &m, 70000);
    check_peek(RDB_ZSET_2, &m, 70000);
    check_peek(RDB_VALKEY_HASH_2, &m, 70000);
    check_peek(RDB_STRING, &m, INSPECT_UNKNOWN);
    check_peek(RDB_LIST_QUICKLIST_2, &m, INSPECT_UNKNOWN); /* nodes, not elements */
    m = (struct make){0};
    put_le(&m, NOW, 8);
    put_len(&m, 5);
    check_peek(RDB_HASH_METADATA, &m, 5);
    m = (struct make){0};
    put_bytes(&m, "\x20\0\0\0\x06\0 and more", 15); /* listpack: bytes, elements */
    check_peek(RDB_SET_LISTPACK, &m, 6);
    check_peek(RDB_HASH_LISTPACK, &m, 3);
    m = (struct make){0};
    put_bytes(&m, "\x20\0\0\0\xff\xff and more", 15); /* 65535: more than it can say */
    check_peek(RDB_SET_LISTPACK, &m, INSPECT_UNKNOWN);
    m = (struct make){0};
    put_bytes(&m, "\x20\0\0\0\x10\0\0\0\x04\0 and more", 19); /* ziplist */
    check_peek(RDB_LIST_ZIPLIST, &m, 4);
    check_peek(RDB_ZSET_ZIPLIST, &m, 2);
    m = (struct make){0};
    put_bytes(&m, "\x02\0\0\0\x03\x01\0\0 and more", 17); /* intset */
    check_peek(RDB_SET_INTSET, &m, 259);
    m = (struct make){0};
    put_bytes(&m, "\x20\0\0", 3); /* too short: whoever decodes it will say so */
    check_peek(RDB_SET_LISTPACK, &m, INSPECT_UNKNOWN);
    m = (struct make){0};
    put_u8(&m, 0xc0); /* an integer in the place of a length */
    check_peek(RDB_HASH, &m, INSPECT_UNKNOWN);
    check_peek(RDB_HASH_METADATA, &m, INSPECT_UNKNOWN);
}

/* --- for another server --- */

static void fates(void **state)
{
    (void)state;
    struct server_facts f = {.flavour = FACTS_REDIS, .version = 0x060200};
    assert_int_equal(inspect_fate(&f, RDB_LIST_QUICKLIST).kind, INSPECT_AS_IS);
    struct inspect_fate fate = inspect_fate(&f, RDB_LIST_QUICKLIST_2);
    assert_int_equal(fate.kind, INSPECT_TURNED);
    assert_int_equal(fate.as, RDB_LIST);
    fate = inspect_fate(&f, RDB_HASH_LISTPACK_EX);
    assert_int_equal(fate.kind, INSPECT_LESS);
    assert_int_equal(fate.as, RDB_HASH);
    assert_true(fate.loss != 0);
    assert_int_equal(inspect_fate(&f, RDB_ARRAY).kind, INSPECT_REFUSED);
    f.version = 0x040000;
    assert_int_equal(inspect_fate(&f, RDB_STREAM).kind, INSPECT_REFUSED);
}

static void every_type_has_its_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < INSPECT_TYPES; i++) {
        const char *name = inspect_type_name(inspect_type_at(i));
        assert_non_null(name);
        if (i != 8) assert_string_not_equal(name, "unknown"); /* 8 was never given */
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(name, inspect_type_name(inspect_type_at(k)));
    }
    assert_string_equal(inspect_type_name(RDB_VALKEY_HASH_2), "hash-2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_golden_key_has_its_digest),
        cmocka_unit_test(counts_are_those_of_the_file),
        cmocka_unit_test(expiries_fall_into_their_ranges),
        cmocka_unit_test(the_biggest_are_kept),
        cmocka_unit_test(databases_may_be_chosen),
        cmocka_unit_test(keys_before_any_database_are_of_database_0),
        cmocka_unit_test(many_databases_share_the_last_entry),
        cmocka_unit_test(what_came_before_a_break_is_counted),
        cmocka_unit_test(elements_are_told_where_they_stand_at_the_front),
        cmocka_unit_test(fates),
        cmocka_unit_test(every_type_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
