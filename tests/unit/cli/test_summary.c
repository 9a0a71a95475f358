// SPDX-License-Identifier: BSD-3-Clause
// Tests of the closing summary: outcome, tables, sentence, JSON.
#include "cli/summary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct task_config cfg;
    struct task_facts facts;
    struct metrics first, last;
    struct summary_marks marks;
    struct err err;
    struct text t;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct err err;
    assert_int_equal(db_select_parse(&f->cfg.select, "0,3", &err), 0);
    assert_int_equal(db_select_parse_map(&f->cfg.select, "3:5", &err), 0);
    snprintf(f->cfg.source.uri.shown, sizeof(f->cfg.source.uri.shown), "%s", "redis://a:6379");
    snprintf(f->cfg.target.uri.shown, sizeof(f->cfg.target.uri.shown), "%s", "redis://b:6379");
    snprintf(f->facts.source_name, sizeof(f->facts.source_name), "%s", "Redis 7.0.15");
    snprintf(f->facts.target_name, sizeof(f->facts.target_name), "%s", "Valkey 9.1.0");
    text_init(&f->t, 1 << 16);
    f->first.mono_ms = 1000;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    text_release(&f->t);
    test_free(f);
    return 0;
}

/* Snapshot of 10 s and 1,000,000 keys, catching up in 2 s with 500 commands, 8 s of stream. */
static void run_through(struct fixture *f)
{
    struct metrics *m = &f->last;
    m->phase = PHASE_SNAPSHOT;
    m->snapshot_started_ms = 2000;
    m->mono_ms = 11000;
    summary_note(&f->marks, m);
    m->snapshot_done_ms = 12000;
    m->keys_written = m->keys_read = 1000000;
    m->snapshot_bytes_decoded = m->snapshot_bytes_received = m->bytes_read = 500000000;
    m->db[0] = (struct metrics_db){.keys = 900000, .bytes = 400000000};
    m->db[3] = (struct metrics_db){.keys = 100000, .bytes = 100000000};
    m->phase = PHASE_CATCH_UP;
    m->mono_ms = 12100;
    summary_note(&f->marks, m);
    m->caught_up_ms = 14000;
    m->mono_ms = 14000;
    m->commands_written = m->db[0].commands = 500;
    m->bytes_read += 20000;
    m->phase = PHASE_STREAM;
    summary_note(&f->marks, m);
    m->mono_ms = 22000;
    m->commands_written = m->db[0].commands = 1300;
    m->bytes_read += 80000;
    summary_note(&f->marks, m);
}

static struct summary made(struct fixture *f, bool stopped)
{
    const struct err *err = f->err.code ? &f->err : NULL;
    return (struct summary){
        .cfg = &f->cfg,
        .facts = &f->facts,
        .first = &f->first,
        .last = &f->last,
        .marks = &f->marks,
        .err = err,
        .outcome = summary_outcome(&f->cfg, &f->last, err, stopped),
        .exit_status = err ? err_exit_status(err->code) : 0,
    };
}

static const char *table(struct fixture *f, bool stopped)
{
    struct summary s = made(f, stopped);
    text_clear(&f->t);
    summary_table(&s, &f->t);
    text_printf(&f->t, "%c", 0);
    assert_int_equal(f->t.err.code, ERR_NONE);
    return (const char *)f->t.buf.p;
}

static const char *json(struct fixture *f, bool stopped)
{
    struct summary s = made(f, stopped);
    text_clear(&f->t);
    summary_json(&s, &f->t);
    text_printf(&f->t, "%c", 0);
    return (const char *)f->t.buf.p;
}

static void ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), e = strlen(end);
    if (n < e || strcmp(text + n - e, end) != 0) print_error("got: %s\n", text);
    assert_true(n >= e);
    assert_string_equal(text + n - e, end);
}

static void tables_of_a_whole_run(void **state)
{
    struct fixture *f = *state;
    run_through(f);
    assert_string_equal(
        table(f, true),
        "source  Redis 7.0.15, redis://a:6379\n"
        "target  Valkey 9.1.0, redis://b:6379\n"
        "\n"
        "database         keys written      skipped      bytes        commands    errors\n"
        "0                     900,000            0   400.0 MB           1,300         0\n"
        "3 to 5                100,000            0   100.0 MB               0         0\n"
        "total               1,000,000            0   500.0 MB           1,300         0\n"
        "\n"
        "phase             time                   moved     bytes        per s    bytes/s\n"
        "snapshot        10.0 s      1,000,000 keys      500.0 MB      100,000    50.0 MB\n"
        "catch-up         2.0 s            500 commands   20.0 kB          250    10.0 kB\n"
        "stream           8.0 s            800 commands   80.0 kB          100    10.0 kB\n"
        "total           21.0 s\n"
        "\n"
        "stopped by signal, lag 0.\n");
}

static void one_database_needs_no_total(void **state)
{
    struct fixture *f = *state;
    run_through(f);
    f->last.db[3] = (struct metrics_db){0};
    assert_null(strstr(table(f, true), "total               "));
    assert_non_null(strstr(table(f, true), "total           21.0 s"));
}

static void sentences(void **state)
{
    struct fixture *f = *state;
    run_through(f);
    f->last.lag_bytes = 1234;
    ends_with(table(f, true), "stopped by signal, lag 1.2 kB: so much of the source's changes is "
                              "not on the\ntarget.\n");
    f->last.lag_bytes = 0;
    f->cfg.until = TASK_UNTIL_CAUGHT_UP;
    ends_with(table(f, false), "\ncaught up, lag 0.\n");
    f->last.keys_skipped = 7;
    ends_with(table(f, false),
              "\ncaught up, lag 0. 7 keys were on the target already and left alone.\n");
    f->last.keys_skipped = 0;
    err_set(&f->err, ERR_UNRESOLVED, "3 writes");
    ends_with(table(f, false), "\nENDED WITH ERRORS: 3 writes\n");
    err_set(&f->err, ERR_NET, "link lost \x1b[2J");
    ends_with(table(f, false), "\nFAILED: link lost ?[2J\n");
    f->err = (struct err){0};
    f->cfg.type = TASK_FULL;
    f->last.phase = PHASE_DONE;
    ends_with(table(f, false), "\ndone.\n");
}

static void stopped_too_early_is_said(void **state)
{
    struct fixture *f = *state;
    err_set(&f->err, ERR_STOPPED, "stopped");
    ends_with(table(f, true), "\nstopped by signal before anything was written.\n");
    run_through(f);
    f->last.caught_up_ms = 0;
    ends_with(table(f, true), "\nstopped by signal before it had caught up, lag 0: the target is "
                              "not yet equal to\nthe source.\n");
    f->last.snapshot_done_ms = 0;
    f->last.phase = PHASE_SNAPSHOT;
    ends_with(table(f, true), "\nstopped by signal before the snapshot was complete: the target "
                              "holds only part\nof the data.\n");
}

/* No snapshot, and perhaps no change: what is there was moved by the runs before. */
static void a_resumed_run_is_whole(void **state)
{
    struct fixture *f = *state;
    f->last.phase = PHASE_DONE;
    f->last.caught_up_ms = 1;
    ends_with(table(f, true), "\nstopped by signal, lag 0.\n");
    f->last.caught_up_ms = 0;
    f->last.phase = PHASE_CATCH_UP;
    ends_with(table(f, true), "\nstopped by signal before it had caught up, lag 0: the target is "
                              "not yet equal to\nthe source.\n");
}

static void outcomes(void **state)
{
    struct fixture *f = *state;
    struct err stop = {.code = ERR_STOPPED}, net = {.code = ERR_NET};
    struct err unresolved = {.code = ERR_UNRESOLVED};
    run_through(f);
    const struct metrics *m = &f->last;
    assert_int_equal(summary_outcome(&f->cfg, m, &unresolved, true), SUMMARY_UNRESOLVED);
    assert_int_equal(summary_outcome(&f->cfg, m, &net, true), SUMMARY_FAILED);
    assert_int_equal(summary_outcome(&f->cfg, m, &stop, true), SUMMARY_STOPPED);
    assert_int_equal(summary_outcome(&f->cfg, m, NULL, true), SUMMARY_STOPPED);
    f->cfg.until = TASK_UNTIL_CAUGHT_UP;
    assert_int_equal(summary_outcome(&f->cfg, m, NULL, false), SUMMARY_CAUGHT_UP);
    f->last.caught_up_ms = 0;
    assert_int_equal(summary_outcome(&f->cfg, m, NULL, true), SUMMARY_STOPPED);
    f->cfg.type = TASK_FULL;
    f->last.phase = PHASE_DONE;
    assert_int_equal(summary_outcome(&f->cfg, m, NULL, false), SUMMARY_DONE);
    for (int o = 0; o <= SUMMARY_FAILED; o++)
        assert_string_not_equal(summary_outcome_name((enum summary_outcome)o), "unknown");
}

static void phases_not_reached_are_left_out(void **state)
{
    struct fixture *f = *state;
    f->last.mono_ms = 3000;
    const char *text = table(f, false);
    assert_null(strstr(text, "\nphase"));
    assert_non_null(strstr(text, "\ntotal            2.0 s"));
    f->last.snapshot_started_ms = 2000;
    text = table(f, false);
    assert_non_null(strstr(text, "\nsnapshot         1.0 s"));
    assert_null(strstr(text, "\ncatch-up"));
    /* incremental: no snapshot, the stream is timed from its first look */
    f->last = (struct metrics){.phase = PHASE_CATCH_UP, .mono_ms = 2000};
    summary_note(&f->marks, &f->last);
    f->last.mono_ms = 5000;
    text = table(f, false);
    assert_null(strstr(text, "\nsnapshot"));
    assert_non_null(strstr(text, "\ncatch-up         3.0 s"));
}

static void json_of_a_whole_run(void **state)
{
    struct fixture *f = *state;
    run_through(f);
    assert_string_equal(
        json(f, true),
        "{\"event\":\"summary\",\"wall_ms\":0,\"elapsed_ms\":21000,\"outcome\":\"stopped\","
        "\"exit_status\":0,\"error\":null,\"phase\":\"stream\","
        "\"source\":{\"uri\":\"redis://a:6379\",\"server\":\"Redis 7.0.15\"},"
        "\"target\":{\"uri\":\"redis://b:6379\",\"server\":\"Valkey 9.1.0\"},"
        "\"keys\":1000000,\"keys_skipped\":0,\"commands\":1300,\"errors\":0,\"retries\":0,"
        "\"lag_bytes\":0,\"phases\":["
        "{\"phase\":\"snapshot\",\"elapsed_ms\":10000,\"keys\":1000000,\"bytes\":500000000},"
        "{\"phase\":\"catch-up\",\"elapsed_ms\":2000,\"commands\":500,\"bytes\":20000},"
        "{\"phase\":\"stream\",\"elapsed_ms\":8000,\"commands\":800,\"bytes\":80000}],"
        "\"databases\":["
        "{\"db\":0,\"target_db\":0,\"keys\":900000,\"skipped\":0,\"bytes\":400000000,"
        "\"commands\":1300,\"errors\":0},"
        "{\"db\":3,\"target_db\":5,\"keys\":100000,\"skipped\":0,\"bytes\":100000000,"
        "\"commands\":0,\"errors\":0}]}\n");
    err_set(&f->err, ERR_NET, "gone");
    assert_non_null(strstr(json(f, false), "\"outcome\":\"failed\",\"exit_status\":1,"
                                           "\"error\":\"gone\""));
}

/* A file of 500 keys and then 40 commands, read in 2 s. */
static void restore_through(struct fixture *f)
{
    f->cfg.file = "/backup/appendonlydir";
    f->cfg.type = TASK_FULL;
    f->facts.source_name[0] = 0;
    f->last = (struct metrics){.phase = PHASE_DONE,
                               .snapshot_started_ms = 1500,
                               .snapshot_done_ms = 3500,
                               .mono_ms = 3600,
                               .keys_written = 500,
                               .commands_written = 40,
                               .commands_read = 41,
                               .snapshot_bytes_decoded = 20000,
                               .bytes_read = 20000};
    f->last.db[0] = (struct metrics_db){.keys = 500, .bytes = 18000, .commands = 40};
}

static void a_restore_has_one_phase(void **state)
{
    struct fixture *f = *state;
    restore_through(f);
    assert_string_equal(
        table(f, false),
        "source  /backup/appendonlydir\n"
        "target  Valkey 9.1.0, redis://b:6379\n"
        "\n"
        "database         keys written      skipped      bytes        commands    errors\n"
        "0                         500            0    18.0 kB              40         0\n"
        "\n"
        "phase             time                   moved     bytes        per s    bytes/s\n"
        "restore          2.0 s            540 records    20.0 kB          270    10.0 kB\n"
        "total            2.6 s\n"
        "\n"
        "done.\n");
    assert_string_equal(
        json(f, false),
        "{\"event\":\"summary\",\"wall_ms\":0,\"elapsed_ms\":2600,\"outcome\":\"done\","
        "\"exit_status\":0,\"error\":null,\"phase\":\"done\","
        "\"source\":{\"file\":\"/backup/appendonlydir\"},"
        "\"target\":{\"uri\":\"redis://b:6379\",\"server\":\"Valkey 9.1.0\"},"
        "\"keys\":500,\"keys_skipped\":0,\"commands\":40,\"errors\":0,\"retries\":0,"
        "\"lag_bytes\":0,\"phases\":["
        "{\"phase\":\"restore\",\"elapsed_ms\":2000,\"keys\":500,\"commands\":40,"
        "\"bytes\":20000}],\"databases\":["
        "{\"db\":0,\"target_db\":0,\"keys\":500,\"skipped\":0,\"bytes\":18000,"
        "\"commands\":40,\"errors\":0}]}\n");
    f->last.commands_written = 0;
    assert_non_null(strstr(table(f, false), "            500 keys "));
    f->last.commands_written = 40;
    f->last.keys_written = 0;
    assert_non_null(strstr(table(f, false), "             40 commands "));
    f->cfg.file = "-";
    assert_non_null(strstr(table(f, false), "source  standard input\n"));
    assert_non_null(strstr(json(f, false), "\"source\":{\"file\":\"-\"}"));
}

static void a_restore_that_was_stopped(void **state)
{
    struct fixture *f = *state;
    restore_through(f);
    err_set(&f->err, ERR_STOPPED, "stopped");
    f->last.phase = PHASE_SNAPSHOT;
    f->last.snapshot_done_ms = f->last.keys_written = 0;
    ends_with(table(f, true), "\nstopped by signal before the end of the data was reached: the "
                              "target holds only\npart of the data.\n");
    assert_non_null(strstr(json(f, true), "\"outcome\":\"stopped\",\"exit_status\":0,"
                                          "\"error\":null,\"phase\":\"restore\""));
    f->last.commands_written = 0;
    ends_with(table(f, true), "\nstopped by signal before anything was written.\n");
}

static void never_too_wide(void **state)
{
    struct fixture *f = *state;
    run_through(f);
    struct metrics *m = &f->last;
    m->keys_written = m->commands_written = 9999999999ull;
    m->db[255] = (struct metrics_db){.keys = 9999999999ull,
                                     .bytes = UINT64_MAX / 4,
                                     .commands = 9999999999ull,
                                     .skipped = 999999999,
                                     .errors = 999999};
    err_set(&f->err, ERR_NET,
            "target: a long story with many words that goes on and on until the line has to be "
            "broken, and once more after that, as words of a server may be");
    for (const char *s = table(f, false); *s; s += strcspn(s, "\n") + 1)
        assert_true(strcspn(s, "\n") <= 80);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tables_of_a_whole_run),
        TEST(one_database_needs_no_total),
        TEST(sentences),
        TEST(stopped_too_early_is_said),
        TEST(a_resumed_run_is_whole),
        TEST(outcomes),
        TEST(phases_not_reached_are_left_out),
        TEST(json_of_a_whole_run),
        TEST(a_restore_has_one_phase),
        TEST(a_restore_that_was_stopped),
        TEST(never_too_wide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
