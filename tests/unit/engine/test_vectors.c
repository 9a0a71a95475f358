// SPDX-License-Identifier: BSD-3-Clause
// What becomes of vector sets, of other modules' values and of functions where the target lacks
// them, or (Redis 8.0) reads vector sets only in its own form: in the snapshot and in the stream.
#include "../wire/rdb/vectors.h"
#include "load_kit.h"
#include "told.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BAD_DATA "-ERR Bad data format\r\n"

static const struct server_facts redis60 = RIG_SERVER(FACTS_REDIS, 6, 0, 9),
                                 redis70 = RIG_SERVER(FACTS_REDIS, 7, 0, 10),
                                 redis80 = RIG_SERVER(FACTS_REDIS, 8, 0, 12),
                                 redis82 = RIG_SERVER(FACTS_REDIS, 8, 2, 12),
                                 valkey91 = RIG_SERVER(FACTS_VALKEY, 9, 1, 80);

static struct make m;

static struct rig *rig_to(const struct server_facts *target, enum task_on_unsupported policy)
{
    struct rig *g = rig_new();
    g->target_facts = *target;
    g->task.on_unsupported = policy;
    return g;
}

/* --- the snapshot --- */

static struct buf snapshot(unsigned type, struct span value)
{
    struct buf b;
    kit_begin(&b, "REDIS0012");
    kit_key(&b, RDB_STRING, "a");
    kit_str(&b, "1");
    kit_key(&b, type, "odd");
    assert_int_equal(buf_add(&b, value.p, value.n, NULL), 0);
    kit_key(&b, RDB_STRING, "z");
    kit_str(&b, "2");
    kit_end(&b);
    return b;
}

static struct buf vectors_of(enum vector_form form, size_t vector_n)
{
    struct vector_options o = {.form = form, .attributes = true, .vector_n = vector_n};
    put_vector_set(&m, &o);
    return snapshot(RDB_MODULE_2, span_of(m.p, m.n));
}

/* Stops and names the key; with --on-unsupported the rest arrives, and it is counted. */
static void check_left_out(const struct server_facts *target, const struct buf *rdb,
                           const struct fake_rule *rule, const char *words)
{
    static const enum task_on_unsupported policies[] = {TASK_UNSUPPORTED_SKIP,
                                                        TASK_UNSUPPORTED_DEGRADE};
    struct rig *g = rig_to(target, TASK_UNSUPPORTED_FAIL);
    rig_rules(g, rule, rule ? 1 : 0);
    assert_int_equal(rig_load(g, buf_span(rdb), RIG_FLOWING), -1);
    if (g->err.code != ERR_TARGET || !strstr(g->err.msg, words) || !strstr(g->err.msg, "\"odd\"") ||
        !strstr(g->err.msg, "--on-unsupported"))
        fail_msg("%s", g->err.msg);
    rig_free(g);
    for (int i = 0; i < 2; i++) {
        g = rig_to(target, policies[i]);
        rig_rules(g, rule, rule ? 1 : 0);
        struct told t;
        told_begin(&t);
        kit_load(g, rdb, i ? RIG_STARVED : RIG_FLOWING);
        told_end(&t);
        assert_string_equal(fake_text(&g->target.ran), "0:SET a 1\n0:SET z 2\n");
        assert_int_equal(counter_get(&g->counters.keys_unsupported), 1);
        assert_int_equal(counter_get(&g->counters.errors), 0);
        assert_non_null(strstr(t.text, "key \"odd\" of database 0: lost everything"));
        assert_non_null(strstr(t.text, "1 key lost everything"));
        rig_free(g);
    }
}

static void without_vector_sets(void **state)
{
    (void)state;
    const struct server_facts *targets[] = {&redis60, &redis70, &valkey91};
    for (size_t i = 0; i < 3; i++) {
        struct buf b = vectors_of(FORM_1, 4);
        check_left_out(targets[i], &b, NULL, "has no vector sets");
        buf_release(&b);
    }
}

/* The value of the RESTORE that reached the target. */
static void check_restored(const struct server_facts *target, enum vector_form form, size_t n,
                           enum vector_form want)
{
    static struct make expected;
    struct vector_options o = {.form = want, .attributes = true, .vector_n = n};
    struct buf b = vectors_of(form, n);
    put_vector_set(&expected, &o);
    for (int i = 0; i < 2; i++) {
        struct rig *g = rig_to(target, TASK_UNSUPPORTED_FAIL);
        struct kit_cmds it;
        bool found = false;
        kit_load(g, &b, i ? RIG_STARVED : RIG_FLOWING);
        assert_int_equal(counter_get(&g->counters.keys_written), 3);
        for (kit_cmds_begin(&it, &g->target.raw); kit_cmds_next(&it);) {
            if (!span_is(it.cmd.argv[0], "RESTORE")) continue;
            struct span value = kit_payload(it.cmd.argv[3], RDB_MODULE_2, 6);
            assert_true(span_is(it.cmd.argv[1], "odd"));
            assert_true(span_eq(value, span_of(expected.p, expected.n)));
            found = true;
        }
        assert_true(found);
        kit_cmds_end(&it);
        rig_free(g);
    }
    buf_release(&b);
}

static void vector_sets(void **state)
{
    (void)state;
    static const size_t sizes[] = {4, 20000};
    for (size_t i = 0; i < 2; i++) {
        check_restored(&redis82, FORM_1, sizes[i], FORM_1);
        check_restored(&redis82, FORM_0, sizes[i], FORM_0);
        check_restored(&redis80, FORM_1, sizes[i], FORM_0);
        check_restored(&redis80, FORM_0, sizes[i], FORM_0);
    }
    struct buf b = vectors_of(FORM_2, 4);
    check_left_out(&redis80, &b, NULL, "newer");
    buf_release(&b);
}

/* Only the target can tell whether it has some other module. */
static void other_modules(void **state)
{
    (void)state;
    static const struct fake_rule rule = {.match = "RESTORE odd", .reply = BAD_DATA};
    static char large[60000];
    static struct make value;
    for (int i = 0; i < 2; i++) {
        value.n = 0;
        put_len(&value, 0x0102030405060708);
        for (int k = 0; k < (i ? 1 : 0); k++) {
            put_op(&value, 5);
            put_bytes(&value, large, sizeof(large));
        }
        put_op(&value, 0);
        struct buf b = snapshot(RDB_MODULE_2, span_of(value.p, value.n));
        check_left_out(&redis70, &b, &rule, "lacks the module");
        buf_release(&b);
    }
}

/* Of a set the same words mean that something is wrong: no policy about modules hides it. */
static void broken_values(void **state)
{
    (void)state;
    static const struct fake_rule rule = {.match = "RESTORE odd", .reply = BAD_DATA};
    m.n = 0;
    put_len(&m, 1);
    put_str(&m, "member");
    struct buf b = snapshot(RDB_SET, span_of(m.p, m.n));
    struct rig *g = rig_to(&redis70, TASK_UNSUPPORTED_DEGRADE);
    rig_rules(g, &rule, 1);
    assert_int_equal(rig_load(g, buf_span(&b), RIG_FLOWING), -1);
    assert_int_equal(g->err.code, ERR_TARGET);
    rig_free(g);
    buf_release(&b);
}

static void functions(void **state)
{
    (void)state;
    struct buf b;
    kit_begin(&b, "REDIS0010");
    kit_u8(&b, 245);
    kit_str(&b, "#!lua name=lib\nreturn 1");
    kit_key(&b, RDB_STRING, "z");
    kit_str(&b, "2");
    kit_end(&b);
    struct rig *g = rig_to(&redis60, TASK_UNSUPPORTED_FAIL);
    assert_int_equal(rig_load(g, buf_span(&b), RIG_FLOWING), -1);
    assert_non_null(strstr(g->err.msg, "no functions"));
    assert_non_null(strstr(g->err.msg, "--on-unsupported"));
    rig_free(g);
    g = rig_to(&redis60, TASK_UNSUPPORTED_SKIP);
    struct told t;
    told_begin(&t);
    kit_load(g, &b, RIG_FLOWING);
    told_end(&t);
    assert_string_equal(fake_text(&g->target.ran), "0:SET z 2\n");
    assert_non_null(strstr(t.text, "the library \"#!lua name=lib\" is left out"));
    assert_int_equal(counter_get(&g->counters.errors), 0);
    rig_free(g);
    buf_release(&b);
}

/* --- the stream --- */

/* RESTORE odd 0 <vector set>|SET z 1 */
static void put_stream(struct buf *b, enum vector_form form)
{
    struct vector_options o = {.form = form, .vector_n = 4};
    uint8_t type = RDB_MODULE_2, foot[10] = {12};
    struct buf payload;
    put_vector_set(&m, &o);
    buf_init(&payload, 1 << 20);
    buf_init(b, 1 << 20);
    assert_int_equal(buf_add(&payload, &type, 1, NULL), 0);
    assert_int_equal(buf_add(&payload, m.p, m.n, NULL), 0);
    uint64_t crc = crc64(crc64(0, payload.p, payload.n), foot, 2);
    for (int i = 0; i < 8; i++)
        foot[2 + i] = (uint8_t)(crc >> (8 * i));
    assert_int_equal(buf_add(&payload, foot, sizeof(foot), NULL), 0);
    struct span argv[] = {span_str("RESTORE"), span_str("odd"), span_str("0"), buf_span(&payload)};
    assert_int_equal(resp_put_cmd(b, 4, argv, NULL), 0);
    rig_commands(b, "SET z 1");
    buf_release(&payload);
}

static void restored_in_the_stream(void **state)
{
    (void)state;
    static const struct {
        const struct server_facts *target;
        enum vector_form have, want;
    } rows[] = {{&redis80, FORM_1, FORM_0}, {&redis80, FORM_0, FORM_0}, {&redis82, FORM_1, FORM_1}};
    for (size_t i = 0; i < 3; i++) {
        struct rig *g = rig_to(rows[i].target, TASK_UNSUPPORTED_FAIL);
        struct vector_options o = {.form = rows[i].want, .vector_n = 4};
        struct kit_cmds it;
        struct buf b;
        bool found = false;
        put_stream(&b, rows[i].have);
        rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_AT_ONCE), RIG_AT_ONCE);
        put_vector_set(&m, &o);
        for (kit_cmds_begin(&it, &g->target.raw); kit_cmds_next(&it);) {
            if (!span_is(it.cmd.argv[0], "RESTORE")) continue;
            unsigned version = rows[i].target == &redis82 ? 12 : 6;
            struct span value = kit_payload(it.cmd.argv[3], RDB_MODULE_2, version);
            assert_true(span_eq(value, span_of(m.p, m.n)));
            found = true;
        }
        assert_true(found);
        kit_cmds_end(&it);
        buf_release(&b);
        rig_free(g);
    }
}

static void refused_in_the_stream(void **state)
{
    (void)state;
    static const struct {
        const struct server_facts *target;
        enum vector_form form;
    } rows[] = {{&redis60, FORM_1}, {&redis70, FORM_0}, {&valkey91, FORM_1}, {&redis80, FORM_2}};
    for (size_t i = 0; i < 4; i++) {
        struct buf b;
        put_stream(&b, rows[i].form);
        struct rig *g = rig_to(rows[i].target, TASK_UNSUPPORTED_FAIL);
        assert_int_equal(rig_replay(g, buf_span(&b), RIG_AT_ONCE), -1);
        if (g->err.code != ERR_TARGET || !strstr(g->err.msg, "\"odd\"")) fail_msg("%s", g->err.msg);
        rig_free(g);
        g = rig_to(rows[i].target, TASK_UNSUPPORTED_SKIP);
        rig_assert_ended(g, rig_replay(g, buf_span(&b), RIG_AT_ONCE), RIG_AT_ONCE);
        assert_string_equal(fake_text(&g->target.ran), "0:SET z 1\n");
        rig_free(g);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_vector_sets),
        cmocka_unit_test(vector_sets),
        cmocka_unit_test(other_modules),
        cmocka_unit_test(broken_values),
        cmocka_unit_test(functions),
        cmocka_unit_test(restored_in_the_stream),
        cmocka_unit_test(refused_in_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
