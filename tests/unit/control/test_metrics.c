// SPDX-License-Identifier: BSD-3-Clause
// Tests of counters to JSON: every counter of the table is taken and told.
#include "control/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char *render(struct text *t, const struct metrics *m, const struct metrics_end *end)
{
    struct task_config *cfg = test_calloc(1, sizeof(*cfg));
    snprintf(cfg->source.uri.shown, sizeof(cfg->source.uri.shown), "%s", "redis://a:6379");
    snprintf(cfg->target.uri.shown, sizeof(cfg->target.uri.shown), "%s", "unix:///\"b\"");
    text_init(t, 1 << 16);
    metrics_json(t, m, NULL, cfg, end);
    text_printf(t, "%c", 0);
    test_free(cfg);
    assert_int_equal(t->err.code, ERR_NONE);
    return (char *)t->buf.p;
}

static void has(const char *json, const char *part)
{
    if (!strstr(json, part)) print_error("%s is not in %s\n", part, json);
    assert_non_null(strstr(json, part));
}

static void every_counter_is_told(void **state)
{
    (void)state;
    struct counters *c = test_calloc(1, sizeof(*c));
    struct metrics *m = test_calloc(1, sizeof(*m));
    struct text t;
    uint64_t n = 1000;
#define X(name, help) counter_set(&c->name, n++);
    COUNTERS_TABLE(X)
#undef X
    counter_set(&c->phase, PHASE_SNAPSHOT);
    metrics_take(m, c, 1700000000123, 4567);
    const char *json = render(&t, m, NULL);
    n = 1000;
#define X(name, help)                                                                              \
    {                                                                                              \
        char want[80];                                                                             \
        snprintf(want, sizeof(want), "\"%s\":%llu", #name,                                         \
                 strcmp(#name, "phase") ? (unsigned long long)n : PHASE_SNAPSHOT);                 \
        has(json, want);                                                                           \
        n++;                                                                                       \
    }
    COUNTERS_TABLE(X)
#undef X
    has(json, "{\"schema\":1,");
    has(json, "\"wall_ms\":1700000000123,\"mono_ms\":4567,\"phase\":\"snapshot\",");
    has(json, "\"outcome\":null,\"error\":null,\"exit_status\":null,");
    has(json, "\"source\":{\"uri\":\"redis://a:6379\",\"server\":null}");
    has(json, "\"target\":{\"uri\":\"unix:///\\\"b\\\"\",\"server\":null}");
    has(json, "\"databases\":[]}\n");
    text_release(&t);
    test_free(m);
    test_free(c);
}

static void used_databases_are_told(void **state)
{
    (void)state;
    struct counters *c = test_calloc(1, sizeof(*c));
    struct metrics *m = test_calloc(1, sizeof(*m));
    struct text t;
    counter_set(&c->db[0].keys, 1);
    counter_set(&c->db[7].bytes, 2);
    counter_set(&c->db[8].commands, 3);
    counter_set(&c->db[9].skipped, 4);
    counter_set(&c->db[255].errors, 5);
    metrics_take(m, c, 0, 0);
    const char *json = render(&t, m, NULL);
    has(json, "\"databases\":["
              "{\"db\":0,\"keys\":1,\"skipped\":0,\"bytes\":0,\"commands\":0,\"errors\":0},"
              "{\"db\":7,\"keys\":0,\"skipped\":0,\"bytes\":2,\"commands\":0,\"errors\":0},"
              "{\"db\":8,\"keys\":0,\"skipped\":0,\"bytes\":0,\"commands\":3,\"errors\":0},"
              "{\"db\":9,\"keys\":0,\"skipped\":4,\"bytes\":0,\"commands\":0,\"errors\":0},"
              "{\"db\":255,\"keys\":0,\"skipped\":0,\"bytes\":0,\"commands\":0,\"errors\":5}]}\n");
    text_release(&t);
    test_free(m);
    test_free(c);
}

static void the_end_is_told(void **state)
{
    (void)state;
    struct metrics *m = test_calloc(1, sizeof(*m));
    struct task_facts facts = {.source_name = "Redis 7.0.15", .target_name = "Valkey 9.1.0"};
    struct err err;
    struct text t;
    err_set(&err, ERR_NET, "target: \"gone\"");
    struct metrics_end end = {.outcome = "failed", .err = &err, .exit_status = 1, .facts = &facts};
    const char *json = render(&t, m, &end);
    has(json, "\"outcome\":\"failed\",\"error\":\"target: \\\"gone\\\"\",\"exit_status\":1,");
    has(json, "\"server\":\"Redis 7.0.15\"");
    has(json, "\"server\":\"Valkey 9.1.0\"");
    text_release(&t);
    test_free(m);
}

static void a_restore_has_a_file(void **state)
{
    (void)state;
    struct metrics *m = test_calloc(1, sizeof(*m));
    struct task_config cfg = {.file = "/b/\"x\".rdb"};
    struct text t;
    m->phase = PHASE_SNAPSHOT;
    text_init(&t, 1 << 20);
    metrics_json(&t, m, NULL, &cfg, NULL);
    text_printf(&t, "%c", 0);
    const char *json = (const char *)t.buf.p;
    has(json, "\"phase\":\"restore\",");
    has(json, "\"source\":{\"file\":\"/b/\\\"x\\\".rdb\"},\"target\":{\"uri\":");
    text_release(&t);
    test_free(m);
}

static void the_largest_fits(void **state)
{
    (void)state;
    struct counters *c = test_calloc(1, sizeof(*c));
    struct metrics *m = test_calloc(1, sizeof(*m));
    struct text t;
    memset(c, 0xff, sizeof(*c));
    metrics_take(m, c, INT64_MAX, INT64_MAX);
    has(render(&t, m, NULL), "\"phase\":\"unknown\"");
    text_release(&t);
    test_free(m);
    test_free(c);
}

static void phases_have_names(void **state)
{
    (void)state;
    assert_string_equal(metrics_phase_name(PHASE_CONNECT, false), "connect");
    assert_string_equal(metrics_phase_name(PHASE_CHECK, false), "check");
    assert_string_equal(metrics_phase_name(PHASE_WAIT_DUMP, false), "wait-dump");
    assert_string_equal(metrics_phase_name(PHASE_CATCH_UP, false), "catch-up");
    assert_string_equal(metrics_phase_name(PHASE_STREAM, false), "stream");
    assert_string_equal(metrics_phase_name(PHASE_DONE, false), "done");
    assert_string_equal(metrics_phase_name(PHASE_DONE + 1, false), "unknown");
    assert_string_equal(metrics_phase_name(UINT64_MAX, false), "unknown");
    assert_string_equal(metrics_phase_name(PHASE_SNAPSHOT, false), "snapshot");
    assert_string_equal(metrics_phase_name(PHASE_SNAPSHOT, true), "restore");
    assert_string_equal(metrics_phase_name(PHASE_CHECK, true), "check");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_counter_is_told), cmocka_unit_test(used_databases_are_told),
        cmocka_unit_test(the_end_is_told),       cmocka_unit_test(the_largest_fits),
        cmocka_unit_test(phases_have_names),     cmocka_unit_test(a_restore_has_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
