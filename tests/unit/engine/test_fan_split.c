// SPDX-License-Identifier: BSD-3-Clause
// A batch into groups, slot by slot: which go bare, what belongs together, what is left out, what
// is split, what is on disk.
#include "engine/fan_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct kit {
    struct fan fan;
    struct batch b;
    struct buf told; /* what went into the groups */
    struct err err;
    char dir[40];
};

static struct kit *kit_new(void)
{
    struct kit *k = calloc(1, sizeof(*k));
    struct fan_stream *s = calloc(1, sizeof(*s));
    assert_true(k && s);
    snprintf(k->dir, sizeof(k->dir), "/tmp/kh-split-XXXXXX");
    assert_non_null(mkdtemp(k->dir));
    k->fan.stream = s;
    struct buf *all[] = {&s->pieces, &s->groups, &s->extra, &s->argv,
                         &s->index,  &s->text,   &k->told};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        buf_init(all[i], 64u << 20);
    batch_init(&k->b, k->dir, 1u << 30);
    assert_int_equal(batch_begin(&k->b, 0, &k->err), 0);
    return k;
}

static void kit_free(struct kit *k)
{
    fan_stream_free(k->fan.stream);
    batch_release(&k->b);
    buf_release(&k->told);
    rmdir(k->dir);
    free(k);
}

/* As the replay does, where that is asked for. */
static void add(struct kit *k, size_t argc, const struct span *argv)
{
    const struct cmd_info *info = cmd_find(argv[0]);
    size_t at = info ? cmd_only_key(info, argc) : 0;
    assert_int_equal(batch_args(&k->b, argc, argv, &k->err), 0);
    if (at) batch_route(&k->b, slot_of(argv[at]), cmd_is_idempotent(info, argc, argv));
}

/* "SET {1}a v|INCR b;": '|' within a unit, ';' ends it. Offsets: 1000, 1010 ... of units. */
static void put(struct kit *k, const char *text)
{
    uint64_t offset = k->b.end_offset ? k->b.end_offset : 990;
    while (*text) {
        struct span argv[40];
        size_t argc = 0, n = strcspn(text, "|;");
        for (size_t at = 0; at < n;) {
            size_t word = strcspn(text + at, " |;");
            argv[argc++] = span_of(text + at, word);
            at += word + 1;
        }
        add(k, argc, argv);
        text += n;
        if (*text == ';') batch_mark_at(&k->b, offset += 10, 0);
        if (*text) text++;
    }
    k->b.end_offset = offset;
}

static void tell_piece(struct kit *k, const struct fan_piece *p)
{
    struct store st;
    store_init(&st, 1 << 20, 1 << 20, k->dir);
    assert_int_equal(fan_copy_piece(k->fan.stream, &k->b, p, &st, &k->err), 0);
    struct span all = buf_span(&st.mem);
    for (size_t i = 0; i < all.n; i++) { /* "*1\r\n$3\r\nGET\r\n" as " GET" */
        if (all.p[i] == '*' || all.p[i] == '$') {
            while (all.p[i] != '\n')
                i++;
        } else if (all.p[i] == '\r') {
            i++;
        } else {
            const uint8_t *end = memchr(all.p + i, '\r', all.n - i);
            size_t n = (size_t)(end - all.p) - i;
            assert_int_equal(buf_printf(&k->told, &k->err, " %.*s", (int)n, all.p + i), 0);
            i += n + 1;
        }
    }
    store_release(&st);
}

/* "(bare 1010 SET {1}a v, ...)" for each group. */
static const char *groups(struct kit *k)
{
    struct fan_stream *s = k->fan.stream;
    buf_clear(&k->told);
    for (uint32_t i = 0; i < fan_groups(s); i++) {
        struct fan_group *g = fan_group(s, i);
        uint32_t n = 0;
        assert_int_equal(
            buf_printf(&k->told, &k->err, "(%s%u", g->bare ? "bare " : "", (unsigned)g->offset), 0);
        for (uint32_t at = g->first; at != FAN_NONE; at = fan_piece(s, at)->next, n++) {
            if (n) assert_int_equal(buf_printf(&k->told, &k->err, ","), 0);
            tell_piece(k, fan_piece(s, at));
        }
        assert_int_equal(n, g->n);
        assert_int_equal(buf_printf(&k->told, &k->err, ")"), 0);
    }
    assert_int_equal(buf_add(&k->told, "", 1, &k->err), 0);
    return (const char *)k->told.p;
}

static int split(struct kit *k, struct fan_cmd *ret)
{
    int rc = fan_split(&k->fan, &k->b, ret, &k->err);
    if (rc < 0) print_message("%s\n", k->err.msg);
    return rc;
}

/* All in one stage, as `want`, whether it is known where commands go or not. */
static void assert_groups(const char *batch, const char *want)
{
    for (int routed = 0; routed < 2; routed++) {
        struct kit *k = kit_new();
        struct fan_cmd c;
        k->b.routed = routed;
        put(k, batch);
        assert_int_equal(k->b.routes.n, routed * k->b.n * sizeof(struct batch_route));
        fan_split_begin(k->fan.stream);
        assert_int_equal(split(k, &c), 0);
        assert_string_equal(groups(k), want);
        assert_int_equal(k->fan.stream->next_n, k->b.n);
        kit_free(k);
    }
}

static void one_group_for_each_slot(void **state)
{
    (void)state;
    assert_groups("SET {1}a v;SET {2}a v;SET {1}b w;",
                  "(bare 1020 SET {1}a v, SET {1}b w)(bare 1010 SET {2}a v)");
    assert_groups("", "");
}

static void what_counts_is_not_bare(void **state)
{
    (void)state;
    assert_groups("INCR {1}a;SADD {2}s m;SREM {3}s m;", "(1000 INCR {1}a)(bare 1010 SADD {2}s m)"
                                                        "(1020 SREM {3}s m)");
    assert_groups("SET {1}a v;INCR {1}b;SET {1}c v;", "(1020 SET {1}a v, INCR {1}b, SET {1}c v)");
    assert_groups("SET {1}a v IFEQ w;ZADD {2}z 1 m;ZADD {3}z NX 1 m;",
                  "(1000 SET {1}a v IFEQ w)(bare 1010 ZADD {2}z 1 m)(1020 ZADD {3}z NX 1 m)");
    assert_groups("UNHEARD {1}of;", "(1000 UNHEARD {1}of)");
}

/* A transaction of the source within a slot stays one; of several slots each has its part. Commands
 * of a unit have offsets of their own, ascending, up to its end. */
static void units_stay_together(void **state)
{
    (void)state;
    assert_groups("SET {1}a v|SET {1}b v;", "(1000 SET {1}a v, SET {1}b v)");
    assert_groups("SET {1}a v|SET {2}a v|SET {3}a v;SET {4}a v;",
                  "(bare 998 SET {1}a v)(bare 999 SET {2}a v)(bare 1000 SET {3}a v)"
                  "(bare 1010 SET {4}a v)");
    assert_groups("SET {1}a v|INCR {2}a|SET {1}b v|INCR {2}b;",
                  "(999 SET {1}a v, SET {1}b v)(1000 INCR {2}a, INCR {2}b)");
}

static void what_a_slot_has_had_is_left_out(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    struct fan_cmd c;
    put(k, "INCR {1}a;INCR {2}a;INCR {1}b;SET {2}b v|INCR {1}c;");
    k->fan.stream->slots[slot_of(span_str("{1}"))].o = 1020;
    k->fan.stream->slots[slot_of(span_str("{2}"))].o = 1010;
    fan_split_begin(k->fan.stream);
    assert_int_equal(split(k, &c), 0);
    assert_string_equal(groups(k), "(bare 1029 SET {2}b v)(1030 INCR {1}c)");
    kit_free(k);
}

static void sums_of_their_parts(void **state)
{
    (void)state;
    assert_groups("DEL {1}a {2}a {1}b;", "(1000 DEL {1}a, DEL {1}b)(bare 1000 DEL {2}a)");
    assert_groups("DEL {1}a {1}b;", "(bare 1000 DEL {1}a {1}b)");
    assert_groups("UNLINK {1}a {2}a;", "(bare 1000 UNLINK {1}a)(bare 1000 UNLINK {2}a)");
    assert_groups("MSET {1}a 1 {2}a 2;", "(bare 1000 SET {1}a 1)(bare 1000 SET {2}a 2)");
    assert_groups("MSETNX {1}a 1 {2}a 2;", "(bare 1000 SET {1}a 1)(bare 1000 SET {2}a 2)");
    assert_groups("MSETEX 2 {1}a 1 {2}a 2 XX PXAT 99;",
                  "(bare 1000 SET {1}a 1 PXAT 99)(bare 1000 SET {2}a 2 PXAT 99)");
    assert_groups("MSETEX 2 {1}a 1 {2}a 2 KEEPTTL NX;",
                  "(bare 1000 SET {1}a 1 KEEPTTL)(bare 1000 SET {2}a 2 KEEPTTL)");
    assert_groups("SMOVE {1}a {2}a m;", "(bare 1000 SADD {2}a m)(1000 SREM {1}a m)");
}

static void others_come_by_themselves(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    struct fan_cmd c;
    k->b.routed = true;
    put(k, "SET {1}a v;RENAME {1}a {2}a;FLUSHDB;SET {1}a w;RENAME {1}a {1}b;");
    fan_split_begin(k->fan.stream);
    assert_int_equal(split(k, &c), 0); /* what is before it, first */
    assert_string_equal(groups(k), "(bare 1000 SET {1}a v)");
    assert_int_equal(split(k, &c), 1);
    assert_true(span_is(c.argv[0], "RENAME") && c.when.offset == 1010 && c.argc == 3);
    assert_int_equal(split(k, &c), 1);
    assert_true(span_is(c.argv[0], "FLUSHDB") && c.when.offset == 1020);
    assert_int_equal(split(k, &c), 0);
    assert_string_equal(groups(k), "(1040 SET {1}a w, RENAME {1}a {1}b)");
    kit_free(k);
}

/* --- on disk --- */

static void put_long(struct kit *k, const char *name, const char *key, size_t n, const char *more)
{
    char *value = malloc(n);
    assert_non_null(value);
    memset(value, 'x', n);
    struct span argv[] = {span_str(name), span_str(key), span_of(value, n),
                          span_str(more ? more : "")};
    add(k, more ? 4 : 3, argv);
    free(value);
    k->b.end_offset = k->b.end_offset ? k->b.end_offset + 10 : 1000;
    batch_mark_at(&k->b, k->b.end_offset, 0);
}

static void assert_long_piece(struct kit *k, uint32_t group, size_t n)
{
    struct fan_stream *s = k->fan.stream;
    struct store st;
    uint8_t end[4];
    store_init(&st, 1 << 16, 1u << 30, k->dir);
    const struct fan_piece *p = fan_piece(s, fan_group(s, group)->first);
    assert_int_equal(fan_copy_piece(s, &k->b, p, &st, &k->err), 0);
    assert_in_range(store_size(&st), n + 20, n + 60);
    assert_int_equal(store_read(&st, store_size(&st) - 3, end, 3, &k->err), 3);
    assert_memory_equal(end, "x\r\n", 3);
    store_release(&st);
}

static void split_of_disk(bool routed)
{
    struct kit *k = kit_new();
    struct fan_cmd c;
    k->b.routed = routed;
    put_long(k, "SET", "{1}a", BATCH_MEM_BYTES - 100, NULL);
    put_long(k, "SET", "{2}a", 50, NULL); /* across the edge */
    put_long(k, "APPEND", "{3}a", 3u << 20, NULL);
    put_long(k, "SET", "{4}a", 40u << 20, NULL); /* just its head is looked at */
    put(k, "DEL {5}a {6}a;");
    fan_split_begin(k->fan.stream);
    assert_int_equal(split(k, &c), 0);
    assert_int_equal(fan_groups(k->fan.stream), 6);
    const size_t size[] = {BATCH_MEM_BYTES - 100, 50, 3u << 20, 40u << 20};
    for (uint32_t i = 0; i < 4; i++) {
        struct fan_group *g = fan_group(k->fan.stream, i);
        assert_int_equal(g->slot, slot_of(span_of(&"1234"[i], 1)));
        assert_int_equal(g->bare, i != 2);
        assert_long_piece(k, i, size[i]);
    }
    kit_free(k);
}

static void commands_on_disk(void **state)
{
    (void)state;
    split_of_disk(false);
    split_of_disk(true);
}

static void too_long_to_be_split(void **state)
{
    (void)state;
    static const char *const names[] = {"PFMERGE", "RENAME", "EVAL", "ZUNIONSTORE", "XREADGROUP"};
    for (size_t i = 0; i < 5; i++) {
        struct kit *k = kit_new();
        struct fan_cmd c;
        put_long(k, names[i], "{1}a", 20u << 20, "{2}a");
        fan_split_begin(k->fan.stream);
        assert_int_equal(split(k, &c), -1);
        assert_int_equal(k->err.code, ERR_UNSUPPORTED);
        kit_free(k);
    }
}

/* Arguments that are not at hand must not be looked at. */
static void long_commands_of_many_arguments(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    struct fan_cmd c;
    static char value[200000];
    struct span argv[200] = {span_str("SADD"), span_str("{1}a")};
    for (size_t i = 2; i < 200; i++)
        argv[i] = i % 2 ? span_str("MAXLEN") : span_of(value, sizeof(value));
    assert_int_equal(batch_args(&k->b, 200, argv, &k->err), 0);
    argv[0] = span_str("ZADD");
    assert_int_equal(batch_args(&k->b, 200, argv, &k->err), 0);
    argv[0] = span_str("RESTORE");
    assert_int_equal(batch_args(&k->b, 200, argv, &k->err), 0);
    argv[0] = span_str("SORT");
    assert_int_equal(batch_args(&k->b, 200, argv, &k->err), 0);
    batch_mark_at(&k->b, 1000, 0);
    k->b.end_offset = 1000;
    fan_split_begin(k->fan.stream);
    assert_int_equal(split(k, &c), -1); /* SORT */
    assert_int_equal(k->err.code, ERR_UNSUPPORTED);
    assert_int_equal(fan_groups(k->fan.stream), 1);
    assert_int_equal(fan_group(k->fan.stream, 0)->n, 3);
    kit_free(k);
}

/* --- stages of our own --- */

static void with_what_lies_in_a_file(void **state)
{
    (void)state;
    struct kit *k = kit_new();
    struct fan_stream *s = k->fan.stream;
    const struct inputs_value *v;
    size_t n;
    char name[40];
    uint8_t key[128];
    struct inputs_config cfg = {.dir = k->dir, .load = "0badcafe", .max_bytes = 1 << 20};
    assert_int_equal(inputs_open(&s->inputs, &cfg, &k->err), 0);
    assert_int_equal(inputs_begin(s->inputs, 1000, 1, &k->err), 0);
    assert_int_equal(inputs_part(s->inputs, "payload", 7, &k->err), 0);
    assert_int_equal(inputs_value(s->inputs, true, 0, &k->err), 0);
    assert_int_equal(inputs_end(s->inputs, &k->err), 0);
    assert_int_equal(inputs_find(s->inputs, 1000, &v, &n, &k->err), 1);

    struct fan_cmd c = {.when = {.offset = 1000}};
    struct span restore[] = {span_str("RESTORE"),
                             span_str("{1}t"),
                             span_str("0"),
                             {NULL, (size_t)v->n},
                             span_str("REPLACE")};
    struct span set[] = {span_str("SET"), span_str("{1}a"), span_of(NULL, 0)};
    fan_stage_begin(s);
    assert_int_equal(fan_stage_add(s, &c, 5, 5, restore, v->at, &k->err), 0);
    assert_int_equal(fan_stage_add(s, &c, 5, 3, set, 0, &k->err), 0);
    assert_string_equal(groups(k), "(1000 RESTORE {1}t 0 payload REPLACE, SET {1}a)");
    fan_name_piece(s, &k->b, fan_piece(s, 0), name, sizeof(name), key, &n);
    assert_string_equal(name, "RESTORE");
    assert_true(n == 4 && memcmp(key, "{1}t", 4) == 0);
    inputs_discard(s->inputs);
    s->inputs = NULL;
    kit_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_group_for_each_slot),
        cmocka_unit_test(what_counts_is_not_bare),
        cmocka_unit_test(units_stay_together),
        cmocka_unit_test(what_a_slot_has_had_is_left_out),
        cmocka_unit_test(sums_of_their_parts),
        cmocka_unit_test(others_come_by_themselves),
        cmocka_unit_test(commands_on_disk),
        cmocka_unit_test(too_long_to_be_split),
        cmocka_unit_test(long_commands_of_many_arguments),
        cmocka_unit_test(with_what_lies_in_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
