// SPDX-License-Identifier: BSD-3-Clause
// load_big: chunks of large collections, pieces of long strings, values kept aside.
#include "load_kit.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OOM  "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
#define MANY 9000
#define EACH 130 /* bytes of a value: MANY of them are more than one RESTORE is for */

/* --- a large value, and the arguments that are to arrive --- */

struct big {
    struct buf rdb;
    struct buf want; /* all arguments behind the key, joined */
    const char *command;
};

static void want(struct big *g, struct span s)
{
    assert_int_equal(resp_put_arg(&g->want, s, NULL), 0);
}

static struct span text_of(char out[EACH], int i)
{
    memset(out, 'a' + i % 26, EACH);
    int n = snprintf(out, EACH, "%d:", i);
    out[n] = '\0'; /* NUL and all */
    return span_of(out, EACH);
}

static void put_element(struct big *g, unsigned type, int i)
{
    char value[EACH], num[32];
    struct span v = text_of(value, i);
    if (type == RDB_HASH || type == RDB_ZSET || type == RDB_ZSET_2) {
        double score = i / 8.0 - 100;
        int n = type == RDB_HASH ? snprintf(num, sizeof(num), "f%d", i)
                                 : snprintf(num, sizeof(num), "%.17g", score);
        want(g, span_of(num, (size_t)n));
        if (type == RDB_HASH) kit_bytes(&g->rdb, num, (size_t)n);
        want(g, v);
        kit_bytes(&g->rdb, v.p, v.n);
        if (type == RDB_ZSET_2) assert_int_equal(buf_add(&g->rdb, &score, 8, NULL), 0);
        if (type == RDB_ZSET) kit_bytes(&g->rdb, num, (size_t)n);
        return;
    }
    kit_bytes(&g->rdb, v.p, v.n);
    want(g, v);
}

static void make_big(struct big *g, unsigned type, int64_t expire_ms)
{
    static const char *const commands[] = {"", "RPUSH", "SADD", "ZADD", "HSET", "ZADD"};
    g->command = commands[type];
    buf_init(&g->want, 64u << 20);
    kit_begin(&g->rdb, "REDIS0009");
    kit_select(&g->rdb, 3);
    if (expire_ms) kit_expire(&g->rdb, expire_ms);
    kit_key(&g->rdb, type, "big");
    kit_len(&g->rdb, MANY);
    for (int i = 0; i < MANY; i++)
        put_element(g, type, i);
    kit_key(&g->rdb, RDB_STRING, "after");
    kit_str(&g->rdb, "1");
    kit_end(&g->rdb);
}

static void free_big(struct big *g)
{
    buf_release(&g->rdb);
    buf_release(&g->want);
}

/* Every element in its place, in commands that are not too long. Returns how many commands. */
static unsigned check_elements(const struct big *g, const struct buf *raw)
{
    struct kit_cmds it;
    struct buf got;
    unsigned n = 0;
    buf_init(&got, 64u << 20);
    kit_cmds_begin(&it, raw);
    while (kit_cmds_next(&it)) {
        if (!span_is(it.cmd.argv[0], g->command)) continue;
        n++;
        assert_true(span_is(it.cmd.argv[1], "big"));
        assert_true(it.cmd.argc <= 2 + 2 * 2048);
        assert_true(it.cmd.raw.n < (300u << 10));
        for (size_t i = 2; i < it.cmd.argc; i++)
            assert_int_equal(resp_put_arg(&got, it.cmd.argv[i], NULL), 0);
    }
    kit_cmds_end(&it);
    assert_true(span_eq(buf_span(&got), buf_span(&g->want)));
    buf_release(&got);
    return n;
}

static void collections(void **state)
{
    (void)state;
    static const unsigned types[] = {RDB_LIST, RDB_SET, RDB_ZSET, RDB_HASH, RDB_ZSET_2};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct big big;
        make_big(&big, types[i], 1900000000000);
        struct rig *g = rig_new();
        kit_load(g, &big.rdb, RIG_FLOWING);
        assert_true(check_elements(&big, &g->target.raw) >= 4);
        assert_int_equal(counter_get(&g->counters.keys_written), 2);
        const char *groups = fake_text(&g->target.groups);
        /* What stood there goes together with the first chunk; the deadline comes last. */
        assert_memory_equal(groups, "{\n3:UNLINK big\n3:", 17);
        const char *expire = strstr(groups, "3:PEXPIREAT big 1900000000000\n");
        assert_non_null(expire);
        assert_null(strstr(expire, big.command));
        assert_non_null(strstr(expire, "3:SET after 1\n"));
        rig_free(g);
        free_big(&big);
    }
}

/* fail and skip look first, and then never replace. */
static void collections_that_exist(void **state)
{
    (void)state;
    static const struct fake_rule there[] = {{.match = "EXISTS big", .reply = ":1\r\n"}};
    struct big big;
    make_big(&big, RDB_HASH, 0);
    struct rig *g = rig_new();
    g->task.on_conflict = TASK_CONFLICT_FAIL;
    kit_load(g, &big.rdb, RIG_FLOWING);
    check_elements(&big, &g->target.raw);
    assert_non_null(strstr(fake_text(&g->target.wire), "EXISTS big\n"));
    assert_null(strstr(fake_text(&g->target.wire), "LINK"));
    rig_free(g);
    g = rig_new();
    g->task.on_conflict = TASK_CONFLICT_FAIL;
    RIG_RULES(g, there);
    assert_int_equal(rig_load(g, buf_span(&big.rdb), RIG_FLOWING), -1);
    assert_int_equal(g->err.code, ERR_CONFLICT);
    assert_non_null(strstr(g->err.msg, "\"big\" of database 3"));
    rig_free(g);
    g = rig_new();
    g->task.on_conflict = TASK_CONFLICT_SKIP;
    RIG_RULES(g, there);
    kit_load(g, &big.rdb, RIG_FLOWING);
    assert_string_equal(fake_text(&g->target.ran), "3:SET after 1 NX\n");
    assert_int_equal(counter_get(&g->counters.keys_skipped), 1);
    assert_int_equal(counter_get(&g->counters.keys_written), 1);
    rig_free(g);
    free_big(&big);
}

static void passing_fault_in_a_chunk(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "RPUSH big", .reply = OOM, .after = 2, .times = 1}};
    struct big big;
    make_big(&big, RDB_LIST, 0);
    struct rig *g = rig_new();
    RIG_RULES(g, rules);
    kit_load(g, &big.rdb, RIG_FLOWING);
    assert_int_equal(counter_get(&g->counters.retries), 1);
    /* Each element was applied once, in order: the chunk that was refused is not in `ran`. */
    unsigned chunks = 0;
    for (const char *at = fake_text(&g->target.ran); (at = strstr(at, "RPUSH")) != NULL; at++)
        chunks++;
    unsigned sent = 0;
    for (const char *at = fake_text(&g->target.wire); (at = strstr(at, "RPUSH")) != NULL; at++)
        sent++;
    assert_int_equal(sent, chunks + 1);
    assert_int_equal(counter_get(&g->counters.keys_written), 2);
    rig_free(g);
    free_big(&big);
}

static void refused_chunk(void **state)
{
    (void)state;
    static const struct fake_rule rules[] = {
        {.match = "HSET big", .reply = "-ERR no\r\n", .after = 1, .times = 1, .when = FAKE_RUN}};
    struct big big;
    make_big(&big, RDB_HASH, 0);
    for (int go_on = 0; go_on < 2; go_on++) {
        struct rig *g = rig_new();
        RIG_RULES(g, rules);
        g->task.on_error = go_on ? TASK_ON_ERROR_CONTINUE : TASK_ON_ERROR_STOP;
        int rc = rig_load(g, buf_span(&big.rdb), RIG_FLOWING);
        assert_int_equal(rc, go_on ? 0 : -1);
        if (go_on) {
            assert_int_equal(counter_get(&g->counters.keys_written), 1); /* not counted as moved */
            assert_non_null(strstr(fake_text(&g->target.ran), "3:SET after 1\n"));
        } else {
            assert_non_null(strstr(g->err.msg, "HSET (database 3, key \"big\"): ERR no"));
        }
        rig_free(g);
    }
    free_big(&big);
}

/* A source that trickles for longer than --io-timeout, while a chunk is answered already. */
static void slow_source(void **state)
{
    (void)state;
    struct big big;
    make_big(&big, RDB_LIST, 0);
    size_t half = big.rdb.n / 2, piece = (big.rdb.n - half) / 10 + 1;
    struct fake_part parts[12] = {{.bytes = span_of(big.rdb.p, half), .pause_ms = 130}};
    size_t n = 1;
    for (size_t at = half; at < big.rdb.n; at += piece)
        parts[n++] = (struct fake_part){
            .bytes = span_of(big.rdb.p + at, at + piece < big.rdb.n ? piece : big.rdb.n - at),
            .pause_ms = 130};
    struct rig *g = rig_new();
    g->task.io_timeout_ms = 800;
    rig_open(g, parts, n, RIG_FLOWING);
    if (rig_run_load(g) < 0) fail_msg("%s", g->err.msg);
    rig_close(g);
    check_elements(&big, &g->target.raw);
    rig_free(g);
    free_big(&big);
}

/* --- hashes whose fields have deadlines --- */

static void make_fields(struct buf *b, int64_t base)
{
    char value[EACH], field[32];
    kit_begin(b, "REDIS0012");
    kit_key(b, RDB_HASH_METADATA, "big");
    kit_le(b, (uint64_t)base, 8);
    kit_len(b, MANY);
    for (int i = 0; i < MANY; i++) {
        kit_len(b, i % 3 == 0 ? (unsigned)i + 1 : 0); /* every third: base + i */
        int n = snprintf(field, sizeof(field), "f%d", i);
        kit_bytes(b, field, (size_t)n);
        kit_bytes(b, text_of(value, i).p, EACH);
    }
    kit_key(b, RDB_STRING, "after");
    kit_str(b, "1");
    kit_end(b);
}

static void field_deadlines(void **state)
{
    (void)state;
    static const struct server_facts v74 = RIG_SERVER(FACTS_REDIS, 7, 4, 12);
    struct buf b;
    make_fields(&b, 1900000000000);
    struct rig *g = rig_new();
    g->target_facts = v74;
    kit_load(g, &b, RIG_FLOWING);
    struct kit_cmds it;
    int next = 0, fields = 0;
    char want_ms[24], want_field[16];
    kit_cmds_begin(&it, &g->target.raw);
    while (kit_cmds_next(&it)) {
        if (span_is(it.cmd.argv[0], "HSET")) fields += (int)(it.cmd.argc - 2) / 2;
        if (!span_is(it.cmd.argv[0], "HPEXPIREAT")) continue;
        snprintf(want_ms, sizeof(want_ms), "%lld", 1900000000000LL + next);
        snprintf(want_field, sizeof(want_field), "f%d", next);
        assert_int_equal(it.cmd.argc, 6);
        assert_true(span_is(it.cmd.argv[2], want_ms));
        assert_true(span_is(it.cmd.argv[5], want_field));
        assert_true(next < fields); /* behind its HSET */
        next += 3;
    }
    kit_cmds_end(&it);
    assert_int_equal(fields, MANY);
    assert_int_equal(next, MANY);
    assert_int_equal(counter_get(&g->counters.keys_written), 2);
    rig_free(g);
    buf_release(&b);
}

/* A target without them: told, and what follows still arrives. */
static void no_field_deadlines(void **state)
{
    (void)state;
    struct buf b;
    make_fields(&b, 1900000000000);
    static const enum task_conflict policies[] = {TASK_CONFLICT_OVERWRITE, TASK_CONFLICT_FAIL};
    for (int i = 0; i < 2; i++) {
        struct rig *g = rig_new();
        g->task.on_conflict = policies[i];
        g->task.io_timeout_ms = 3000;
        g->task.on_error = TASK_ON_ERROR_CONTINUE;
        if (rig_load(g, buf_span(&b), RIG_FLOWING) < 0) fail_msg("%s", g->err.msg);
        assert_true(g->pl.refusals.count >= 1);
        assert_non_null(strstr(fake_text(&g->target.ran), "0:SET after 1"));
        rig_free(g);
        g = rig_new();
        g->task.on_conflict = policies[i];
        assert_int_equal(rig_load(g, buf_span(&b), RIG_FLOWING), -1);
        assert_non_null(strstr(g->err.msg, "\"big\""));
        rig_free(g);
    }
    buf_release(&b);
}

/* --- long strings --- */

/* What SETRANGE after SETRANGE makes. */
static void check_pieces(const struct buf *raw, const uint8_t *value, size_t n)
{
    uint8_t *made = calloc(1, n);
    size_t size = 0, covered = 0;
    struct kit_cmds it;
    assert_non_null(made);
    kit_cmds_begin(&it, raw);
    while (kit_cmds_next(&it)) {
        uint64_t at;
        if (!span_is(it.cmd.argv[0], "SETRANGE")) continue;
        assert_true(num_get_u64(it.cmd.argv[2], &at));
        struct span piece = it.cmd.argv[3];
        assert_true(piece.n <= (256u << 10) && at <= n && piece.n <= n - at);
        memcpy(made + at, piece.p, piece.n);
        if (at + piece.n > size) size = (size_t)at + piece.n;
        if (piece.n > 1) covered += piece.n;
    }
    kit_cmds_end(&it);
    assert_int_equal(size, n);
    assert_true(covered >= n - 1 && covered <= n);
    assert_memory_equal(made, value, n);
    free(made);
}

static void check_long_string(const uint8_t *value, size_t n, bool lzf, int64_t expire_ms)
{
    struct buf b;
    kit_begin(&b, "REDIS0009");
    if (expire_ms) kit_expire(&b, expire_ms);
    kit_key(&b, RDB_STRING, "long");
    (lzf ? kit_lzf : kit_bytes)(&b, value, n);
    kit_key(&b, RDB_STRING, "after");
    kit_str(&b, "1");
    kit_end(&b);
    struct rig *g = rig_new();
    kit_load(g, &b, RIG_FLOWING);
    const char *ran = fake_text(&g->target.ran);
    if (n <= LOAD_INPLACE_MAX) {
        assert_null(strstr(ran, "SETRANGE"));
        assert_non_null(strstr(ran, "0:SET long <"));
    } else {
        assert_memory_equal(ran, "0:UNLINK long\n", 14);
        check_pieces(&g->target.raw, value, n);
        assert_true((strstr(ran, "0:PEXPIREAT long 1900000000000\n0:SET after") != NULL) ==
                    (expire_ms != 0));
    }
    assert_int_equal(counter_get(&g->counters.keys_written), 2);
    rig_free(g);
    buf_release(&b);
}

static void long_strings(void **state)
{
    (void)state;
    size_t most = LOAD_INPLACE_MAX + (3u << 20);
    uint8_t *value = malloc(most);
    assert_non_null(value);
    kit_noise(value, most, 3);
    check_long_string(value, LOAD_INPLACE_MAX, false, 0);
    check_long_string(value, LOAD_INPLACE_MAX + 1, false, 0);
    check_long_string(value, most, false, 1900000000000);
    for (size_t i = 0; i < most; i++)
        value[i] = (uint8_t)(i / 1000 % 251);
    check_long_string(value, LOAD_INPLACE_MAX, true, 0);
    check_long_string(value, most, true, 1900000000000);
    free(value);
}

static void long_string_that_exists(void **state)
{
    (void)state;
    static const struct fake_rule there[] = {{.match = "EXISTS long", .reply = ":1\r\n"}};
    size_t n = LOAD_INPLACE_MAX + 5;
    uint8_t *value = calloc(1, n);
    assert_non_null(value);
    for (int lzf = 0; lzf < 2; lzf++) {
        struct buf b;
        kit_begin(&b, "REDIS0009");
        kit_key(&b, RDB_STRING, "long");
        (lzf ? kit_lzf : kit_bytes)(&b, value, n);
        kit_key(&b, RDB_STRING, "after");
        kit_str(&b, "1");
        kit_end(&b);
        struct rig *g = rig_new();
        RIG_RULES(g, there);
        g->task.on_conflict = TASK_CONFLICT_SKIP;
        kit_load(g, &b, RIG_FLOWING);
        assert_string_equal(fake_text(&g->target.ran), "0:SET after 1 NX\n");
        assert_int_equal(counter_get(&g->counters.keys_skipped), 1);
        rig_free(g);
        buf_release(&b);
    }
    free(value);
}

/* --- values that need one RESTORE, however large --- */

/* A module's value of several MB: passed on whole through a store. */
static struct buf large_module(size_t n, size_t *ret_from, size_t *ret_n)
{
    struct buf b;
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    kit_noise(bytes, n, 9);
    kit_begin(&b, "REDIS0009");
    kit_expire(&b, 1900000000000);
    kit_key(&b, RDB_MODULE_2, "mod");
    *ret_from = b.n;
    kit_u8(&b, 0x81);
    kit_le(&b, 0x0102030405060708, 8);
    for (int i = 0; i < 3; i++) {
        kit_len(&b, 5);
        kit_bytes(&b, bytes, n);
    }
    kit_len(&b, 0);
    *ret_n = b.n - *ret_from;
    kit_key(&b, RDB_STRING, "after");
    kit_str(&b, "1");
    kit_end(&b);
    free(bytes);
    return b;
}

static void kept_aside(void **state)
{
    (void)state;
    size_t from, n;
    struct buf b = large_module(900000, &from, &n);
    struct rig *g = rig_new();
    kit_load(g, &b, RIG_FLOWING);
    struct kit_cmds it;
    unsigned restores = 0;
    kit_cmds_begin(&it, &g->target.raw);
    while (kit_cmds_next(&it)) {
        if (!span_is(it.cmd.argv[0], "RESTORE")) continue;
        restores++;
        assert_true(span_is(it.cmd.argv[2], "1900000000000"));
        struct span bytes = kit_payload(it.cmd.argv[3], RDB_MODULE_2, 6);
        assert_true(span_eq(bytes, span_of(b.p + from, n)));
    }
    kit_cmds_end(&it);
    assert_int_equal(restores, 1);
    assert_int_equal(counter_get(&g->counters.keys_written), 2);
    assert_non_null(strstr(fake_text(&g->target.ran), "0:SET after 1\n"));
    rig_free(g);
    /* Longer than the target takes in one argument. */
    for (int go_on = 0; go_on < 2; go_on++) {
        g = rig_new();
        g->target_facts.proto_max_bulk_len = 1 << 20;
        g->task.on_error = go_on ? TASK_ON_ERROR_CONTINUE : TASK_ON_ERROR_STOP;
        assert_int_equal(rig_load(g, buf_span(&b), RIG_FLOWING), go_on ? 0 : -1);
        if (go_on)
            assert_string_equal(fake_text(&g->target.ran), "0:SET after 1\n");
        else
            assert_non_null(strstr(g->err.msg, "key \"mod\""));
        rig_free(g);
    }
    /* Longer than may be kept aside. */
    g = rig_new();
    g->store_max_bytes = 2 << 20;
    assert_int_equal(rig_load(g, buf_span(&b), RIG_FLOWING), -1);
    assert_int_equal(g->err.code, ERR_LIMIT);
    rig_free(g);
    buf_release(&b);
}

/* --- elements that are too large to be held --- */

#define HUGE ((1u << 20) + 70000) /* above LOAD_SPLIT_ABOVE */
#define NODE ((7u << 20) + 5)     /* above LOAD_ELEM_MAX */

static uint8_t *noise_of(size_t n, uint32_t seed)
{
    uint8_t *p = malloc(n);
    assert_non_null(p);
    kit_noise(p, n, seed);
    return p;
}

static void put_score(struct buf *b, unsigned type)
{
    double score = -1.5;
    if (type == RDB_ZSET_2) assert_int_equal(buf_add(b, &score, 8, NULL), 0);
    if (type == RDB_ZSET) assert_int_equal(buf_add(b, "\x04-1.5", 5, NULL), 0);
}

/* One element: strings of these lengths, the second only of hashes. */
static void put_lengths(struct buf *b, unsigned type, const uint8_t *p, size_t n, const uint8_t *v,
                        size_t v_n)
{
    bool hash = rdb_kind_of((enum rdb_type)type) == RDB_KIND_HASH;
    if (type == RDB_HASH_METADATA) kit_len(b, 6); /* minimum + 5 */
    if (type == RDB_LIST_QUICKLIST_2) kit_len(b, 1);
    kit_bytes(b, p, n);
    if (hash) kit_bytes(b, v, v_n);
    if (type == RDB_VALKEY_HASH_2) kit_le(b, 1900000000005, 8);
    put_score(b, type);
}

/* "RPUSH big <17:...>" as the fake target shows a large argument. */
static void told(struct buf *want, const char *before, const uint8_t *p, size_t n)
{
    assert_int_equal(buf_add(want, before, strlen(before), NULL), 0);
    fake_word(want, span_of(p, n));
}

static void want_element(struct buf *want, unsigned type, const uint8_t *p, size_t n,
                         const uint8_t *v, size_t v_n)
{
    switch (rdb_kind_of((enum rdb_type)type)) {
    case RDB_KIND_LIST: told(want, "3:RPUSH big ", p, n); break;
    case RDB_KIND_SET: told(want, "3:SADD big ", p, n); break;
    case RDB_KIND_ZSET: told(want, "3:ZADD big -1.5 ", p, n); break;
    default:
        told(want, "3:HSET big ", p, n);
        told(want, " ", v, v_n);
        if (type != RDB_HASH) told(want, "\n3:HPEXPIREAT big 1900000000005 FIELDS 1 ", p, n);
    }
    assert_int_equal(buf_add(want, "\n", 1, NULL), 0);
}

static void check_huge(unsigned type, size_t n, size_t v_n, enum rig_feed feed)
{
    struct buf rdb, want;
    uint8_t *p = noise_of(n, 7), *v = noise_of(v_n, 8);
    bool timed = type == RDB_HASH_METADATA || type == RDB_VALKEY_HASH_2;
    buf_init(&want, 1 << 20);
    kit_begin(&rdb, type == RDB_VALKEY_HASH_2 ? "VALKEY080" : "REDIS0012");
    kit_select(&rdb, 3);
    kit_key(&rdb, type & 255, "big");
    if (type == RDB_HASH_METADATA) kit_le(&rdb, 1900000000000, 8);
    kit_len(&rdb, 3);
    /* Something small before and behind it, in this order. */
    const uint8_t *small = (const uint8_t *)"small", *last = (const uint8_t *)"last";
    put_lengths(&rdb, type, small, 5, small, 5);
    put_lengths(&rdb, type, p, n, v, v_n);
    put_lengths(&rdb, type, last, 4, last, 4);
    kit_end(&rdb);
    assert_int_equal(buf_add(&want, "3:UNLINK big\n", 13, NULL), 0);
    want_element(&want, type, small, 5, small, 5);
    want_element(&want, type, p, n, v, v_n);
    want_element(&want, type, last, 4, last, 4);

    struct rig *g = rig_new();
    if (timed) g->target_facts = (struct server_facts)RIG_SERVER(FACTS_REDIS, 7, 4, 12);
    if (type == RDB_VALKEY_HASH_2)
        g->target_facts = (struct server_facts)RIG_SERVER(FACTS_VALKEY, 9, 0, 80);
    kit_load(g, &rdb, feed);
    if (strcmp(fake_text(&g->target.ran), fake_text(&want)) != 0)
        fail_msg("type %u\nwanted %s\ngot %s", type, fake_text(&want), fake_text(&g->target.ran));
    assert_int_equal(counter_get(&g->counters.keys_written), 1);
    rig_free(g);
    buf_release(&rdb);
    buf_release(&want);
    free(p);
    free(v);
}

static void huge_elements(void **state)
{
    (void)state;
    static const unsigned types[] = {RDB_LIST,          RDB_SET,          RDB_ZSET,
                                     RDB_ZSET_2,        RDB_HASH,         RDB_LIST_QUICKLIST_2,
                                     RDB_HASH_METADATA, RDB_VALKEY_HASH_2};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        bool hash = rdb_kind_of((enum rdb_type)types[i]) == RDB_KIND_HASH;
        check_huge(types[i], HUGE, 3, RIG_FLOWING);
        if (hash) check_huge(types[i], 3, HUGE, RIG_FLOWING);
        if (hash) check_huge(types[i], HUGE, HUGE + 1, RIG_FLOWING);
    }
    check_huge(RDB_ZSET_2, HUGE, 1, RIG_STARVED);
}

/* Larger than the target takes: told by name, and nothing of the key stays there. */
static void huge_elements_refused(void **state)
{
    (void)state;
    static const unsigned types[] = {RDB_LIST, RDB_ZSET_2, RDB_HASH, RDB_HASH};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t n = i == 3 ? 3 : HUGE, v_n = i == 3 ? HUGE : 3;
        for (int stop = 0; stop < 2; stop++) {
            struct buf rdb;
            uint8_t *p = noise_of(HUGE, 7);
            kit_begin(&rdb, "REDIS0012");
            kit_key(&rdb, types[i], "big");
            kit_len(&rdb, 3);
            put_lengths(&rdb, types[i], (const uint8_t *)"a", 1, (const uint8_t *)"a", 1);
            put_lengths(&rdb, types[i], p, n, p, v_n);
            put_lengths(&rdb, types[i], p, HUGE, p, HUGE);
            kit_key(&rdb, RDB_STRING, "after");
            kit_str(&rdb, "1");
            kit_end(&rdb);
            struct rig *g = rig_new();
            g->target_facts.proto_max_bulk_len = HUGE - 1;
            g->task.on_error = stop ? TASK_ON_ERROR_STOP : TASK_ON_ERROR_CONTINUE;
            assert_int_equal(rig_load(g, buf_span(&rdb), RIG_FLOWING), stop ? -1 : 0);
            const char *ran = fake_text(&g->target.ran);
            if (stop) {
                assert_int_equal(g->err.code, ERR_TARGET);
                assert_non_null(strstr(g->err.msg, "\"big\""));
                assert_non_null(strstr(g->err.msg, "proto-max-bulk-len"));
            } else {
                assert_int_equal(counter_get(&g->counters.errors), 1);
                assert_int_equal(counter_get(&g->counters.keys_written), 1);
                const char *end = strstr(ran, "0:UNLINK big\n0:SET after 1\n");
                assert_non_null(end);
                assert_string_equal(end, "0:UNLINK big\n0:SET after 1\n");
            }
            assert_null(strchr(ran, '<'));
            rig_free(g);
            buf_release(&rdb);
            free(p);
        }
    }
}

/* As servers before 7.2 store them: a packed node of the one element. */
static void huge_nodes(void **state)
{
    (void)state;
    for (int packed = 0; packed < 2; packed++) {
        struct buf rdb, node, want;
        uint8_t *p = noise_of(NODE, 9);
        buf_init(&node, NODE + 100);
        buf_init(&want, 4096);
        if (packed) {
            kit_le(&node, 6 + 5 + NODE + 4 + 1, 4);
            kit_le(&node, 1, 2);
            kit_u8(&node, 0xf0);
            kit_le(&node, NODE, 4);
        } else {
            kit_le(&node, 10 + 6 + NODE + 1, 4);
            kit_le(&node, 10, 4);
            kit_le(&node, 1, 2);
            kit_le(&node, 0x8000, 2);
            for (int i = 3; i >= 0; i--)
                kit_u8(&node, NODE >> (8 * i) & 0xff);
        }
        assert_int_equal(buf_add(&node, p, NODE, NULL), 0);
        if (packed) kit_le(&node, 0, 4);
        kit_u8(&node, 0xff);
        kit_begin(&rdb, "REDIS0010");
        kit_key(&rdb, packed ? RDB_LIST_QUICKLIST_2 : RDB_LIST_QUICKLIST, "big");
        kit_len(&rdb, 2);
        for (int i = 0; i < 2; i++) {
            if (packed) kit_len(&rdb, 2);
            kit_bytes(&rdb, node.p, node.n);
        }
        kit_end(&rdb);
        told(&want, "0:UNLINK big\n0:RPUSH big ", p, NODE);
        told(&want, "\n0:RPUSH big ", p, NODE);
        assert_int_equal(buf_add(&want, "\n", 1, NULL), 0);
        struct rig *g = rig_new();
        kit_load(g, &rdb, RIG_FLOWING);
        assert_string_equal(fake_text(&g->target.ran), fake_text(&want));
        rig_free(g);
        buf_release(&rdb);
        buf_release(&node);
        buf_release(&want);
        free(p);
    }
}

/* One packed blob that is larger than what is taken apart: as it is, or not at all. */
static void huge_blobs(void **state)
{
    (void)state;
    for (int known = 0; known < 2; known++) {
        struct buf rdb;
        uint8_t *p = noise_of(NODE, 9);
        kit_begin(&rdb, "REDIS0010");
        kit_key(&rdb, RDB_HASH_LISTPACK, "big");
        kit_bytes(&rdb, p, NODE);
        kit_key(&rdb, RDB_STRING, "after");
        kit_str(&rdb, "1");
        kit_end(&rdb);
        struct rig *g = rig_new();
        g->task.on_error = TASK_ON_ERROR_CONTINUE;
        if (!known) g->target_facts = (struct server_facts)RIG_SERVER(FACTS_REDIS, 6, 2, 9);
        kit_load(g, &rdb, RIG_FLOWING);
        const char *ran = fake_text(&g->target.ran);
        if (known) assert_memory_equal(ran, "0:RESTORE big 0 <", 17);
        if (!known) assert_string_equal(ran, "0:SET after 1\n");
        assert_int_equal(counter_get(&g->counters.keys_written), known ? 2 : 1);
        assert_int_equal(counter_get(&g->counters.errors), !known);
        rig_free(g);
        buf_release(&rdb);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collections),
        cmocka_unit_test(collections_that_exist),
        cmocka_unit_test(passing_fault_in_a_chunk),
        cmocka_unit_test(refused_chunk),
        cmocka_unit_test(slow_source),
        cmocka_unit_test(field_deadlines),
        cmocka_unit_test(no_field_deadlines),
        cmocka_unit_test(long_strings),
        cmocka_unit_test(long_string_that_exists),
        cmocka_unit_test(kept_aside),
        cmocka_unit_test(huge_elements),
        cmocka_unit_test(huge_elements_refused),
        cmocka_unit_test(huge_nodes),
        cmocka_unit_test(huge_blobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
