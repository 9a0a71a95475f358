// SPDX-License-Identifier: BSD-3-Clause
// Tests of progress: figures from looks, and texts that fit.
#include "cli/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct progress p;
    struct metrics m;
    struct text t;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    progress_init(&f->p, false);
    text_init(&f->t, 1 << 16);
    f->m.mono_ms = 50000;
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

static const char *shown(struct fixture *f)
{
    text_printf(&f->t, "%c", 0);
    assert_int_equal(f->t.err.code, ERR_NONE);
    f->t.buf.n--;
    return (const char *)f->t.buf.p;
}

static void assert_narrow(const char *text, size_t columns)
{
    for (; *text; text += strcspn(text, "\n") + 1)
        assert_true(strcspn(text, "\n") <= columns);
}

/* A snapshot of 1 GB at 100 MB and 10,000 keys a second, looked at every 250 ms for `seconds`. */
static void load(struct fixture *f, unsigned seconds)
{
    f->m.phase = PHASE_SNAPSHOT;
    f->m.snapshot_bytes_total = 1000000000;
    for (unsigned i = 0; i <= seconds * 4; i++) {
        f->m.snapshot_bytes_decoded = f->m.snapshot_bytes_received = i * 25000000ull;
        f->m.bytes_read = i * 25000000ull + 4000000;
        f->m.spool_ram_bytes = 4000000;
        f->m.keys_read = f->m.keys_written = i * 2500ull;
        progress_add(&f->p, &f->m);
        if (i < seconds * 4) f->m.mono_ms += 250;
    }
}

static void nothing_known_yet(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    struct progress_style style = {0};
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_true(g.percent < 0 && g.left_s < 0);
    assert_true(g.keys_per_s >= 0 && g.keys_per_s <= 0);
    assert_int_equal(progress_block(&f->p, &style, &f->t), 1);
    assert_string_equal(shown(f), "connecting   0.0 s\n");
    text_clear(&f->t);
    progress_line(&f->p, &f->t);
    assert_string_equal(shown(f), "connecting, 0.0 s\n");
}

static void rates_by_the_last_seconds(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    load(f, 4);
    progress_figures(&f->p, &g);
    assert_float_equal(g.percent, 40.0, 0.001);
    assert_false(g.estimated);
    assert_float_equal(g.keys_per_s, 10000, 0.001);
    assert_float_equal(g.bytes_per_s, 100e6, 0.001);
    assert_float_equal(g.left_s, 6.0, 0.001);
    /* A stall shows once the window has passed, not before the last of its looks. */
    for (int i = 0; i < 20; i++) {
        f->m.mono_ms += 250;
        progress_add(&f->p, &f->m);
    }
    progress_figures(&f->p, &g);
    assert_true(g.keys_per_s < 1);
    assert_true(g.left_s < 0);
}

static void rates_over_a_gap(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    load(f, 4);
    f->m.mono_ms += 60000; /* suspended; the last but one look is still good for an average */
    f->m.keys_written += 120000;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_float_equal(g.keys_per_s, 2000, 0.001);
}

static void rates_begin_with_the_phase(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    f->m.phase = PHASE_WAIT_DUMP;
    progress_add(&f->p, &f->m);
    f->m.mono_ms += 4000; /* waiting does not make the load slower */
    f->m.phase = PHASE_SNAPSHOT;
    f->m.keys_written = 5;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_true(g.keys_per_s <= 0);
    f->m.mono_ms += 500;
    f->m.keys_written = 1005;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_float_equal(g.keys_per_s, 2000, 0.001);
}

static void counters_that_go_back_give_no_rate(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    load(f, 1);
    f->m.mono_ms += 5000;
    f->m.keys_written = f->m.bytes_read = 0;
    f->m.spool_ram_bytes = UINT64_MAX / 2;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_true(g.keys_per_s <= 0 && g.bytes_per_s <= 0);
}

static void percent_by_keys_is_a_guess(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    f->m.phase = PHASE_SNAPSHOT;
    f->m.snapshot_keys_expected = 1000;
    f->m.keys_read = 250;
    progress_add(&f->p, &f->m);
    f->m.mono_ms += 1000;
    f->m.keys_read = 500;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_true(g.estimated);
    assert_float_equal(g.percent, 50, 0.001);
    assert_float_equal(g.left_s, 2, 0.001);
    struct progress_style style = {0};
    progress_block(&f->p, &style, &f->t);
    assert_non_null(strstr(shown(f), "[##############..............] ~50.0 %"));
    f->m.keys_read = 3000; /* more than announced */
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_float_equal(g.percent, 100, 0.001);
}

static void catching_up_is_done_when_the_lag_is(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    f->m.phase = PHASE_CATCH_UP;
    f->m.keys_read = 1;
    f->m.lag_bytes = 5000;
    progress_add(&f->p, &f->m);
    f->m.mono_ms += 1000;
    f->m.lag_bytes = 4000;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_float_equal(g.left_s, 4, 0.001);
    assert_float_equal(g.percent, 100, 0.001);
    f->m.mono_ms += 1000;
    f->m.lag_bytes = 9000; /* the source is faster */
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_true(g.left_s < 0);
}

static void block_of_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct progress_style style = {.columns = 80};
    f->m.lag_bytes = 12300000;
    f->m.lag_ms = 1234;
    load(f, 4);
    assert_int_equal(progress_block(&f->p, &style, &f->t), 4);
    assert_string_equal(shown(f),
                        "snapshot    [###########.................] 40.0 %  4.0 s, 6.0 s left\n"
                        "  keys      40,000, 10,000/s   400.0 MB, 100.0 MB/s\n"
                        "  lag       12.3 MB, 1.2 s   waiting: 4.0 MB in memory, 0 B on disk\n"
                        "  errors    0\n");
}

static void block_of_a_stream(void **state)
{
    struct fixture *f = *state;
    struct progress_style style = {.columns = 80, .color = true};
    f->m.phase = PHASE_STREAM;
    f->m.keys_written = 1234567;
    f->m.keys_skipped = 5;
    f->m.retries = 6;
    f->m.errors = 7;
    progress_add(&f->p, &f->m);
    f->m.mono_ms += 2000;
    f->m.commands_written = 9000;
    progress_add(&f->p, &f->m);
    progress_block(&f->p, &style, &f->t);
    assert_string_equal(shown(f),
                        "\x1b[1mstreaming    2.0 s\x1b[0m\n"
                        "  commands  9,000, 4,500/s   0 B, 0 B/s\n"
                        "  lag       0 B, 0.0 s   waiting: 0 B in memory, 0 B on disk\n"
                        "\x1b[31m  errors    7   keys skipped 5   retries 6   keys of the "
                        "snapshot 1,234,567\x1b[0m\n");
}

/* No lag; commands of an AOF take the place of the keys of its head. */
static void a_restore(void **state)
{
    struct fixture *f = *state;
    struct progress_style style = {.columns = 80};
    progress_init(&f->p, true);
    f->m.phase = PHASE_CHECK;
    progress_add(&f->p, &f->m);
    progress_block(&f->p, &style, &f->t);
    assert_string_equal(shown(f), "checking the target  0.0 s\n");
    progress_init(&f->p, true);
    load(f, 4);
    text_clear(&f->t);
    assert_int_equal(progress_block(&f->p, &style, &f->t), 3);
    assert_string_equal(shown(f),
                        "restore     [###########.................] 40.0 %  4.0 s, 6.0 s left\n"
                        "  keys      40,000, 10,000/s   400.0 MB, 100.0 MB/s\n"
                        "  errors    0\n");
    f->m.mono_ms += 500;
    f->m.commands_read = f->m.commands_written = 700;
    progress_add(&f->p, &f->m);
    text_clear(&f->t);
    progress_block(&f->p, &style, &f->t);
    assert_non_null(strstr(shown(f), "\n  commands  700, "));
    assert_non_null(strstr(shown(f), "\n  errors    0   keys of the snapshot 40,000\n"));
    text_clear(&f->t);
    progress_line(&f->p, &f->t);
    assert_memory_equal(shown(f), "restore 40.0%: cmds 700 ", 24);
    assert_null(strstr(shown(f), "lag"));
    text_clear(&f->t);
    progress_json(&f->p, &f->t);
    assert_non_null(strstr(shown(f), "\"phase\":\"restore\",\"percent\":40.0,"));
}

/* A pipe: its size is not known, nor how many commands will come. */
static void a_restore_of_unknown_size(void **state)
{
    struct fixture *f = *state;
    struct progress_figures g;
    progress_init(&f->p, true);
    f->m.phase = PHASE_SNAPSHOT;
    f->m.snapshot_keys_expected = f->m.keys_read = 1000;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_float_equal(g.percent, 100, 0.001);
    f->m.commands_read = 1;
    f->m.mono_ms += 1000;
    progress_add(&f->p, &f->m);
    progress_figures(&f->p, &g);
    assert_true(g.percent < 0 && g.left_s < 0);
}

static void line_off_a_terminal(void **state)
{
    struct fixture *f = *state;
    load(f, 4);
    progress_line(&f->p, &f->t);
    assert_string_equal(shown(f), "snapshot 40.0%: keys 40,000 10,000/s, 400.0 MB 100.0 MB/s, "
                                  "lag 0 B 0.0 s, errors 0\n");
}

static void set_all(struct metrics *m, uint64_t v, uint64_t phase, int64_t mono_ms)
{
#define X(name, help) m->name = v;
    COUNTERS_TABLE(X)
#undef X
    m->phase = phase;
    m->mono_ms = mono_ms;
    m->spool_ram_bytes = m->spool_disk_bytes = v / 4;
}

/* Whatever the numbers, whatever the phase: no line is wider than the terminal or 80. */
static void never_too_wide(void **state)
{
    struct fixture *f = *state;
    static const uint64_t values[] = {0, 1, 999999999999ull, UINT64_MAX};
    static const unsigned widths[] = {0, 1, 20, 79, 80, 200};
    for (uint64_t phase = 0; phase <= PHASE_DONE + 1; phase++)
        for (int i = 0; i < 4; i++)
            for (int w = 0; w < 6; w++) {
                struct progress_style style = {.columns = widths[w]};
                unsigned columns = widths[w] && widths[w] < 80 ? widths[w] : 80;
                progress_init(&f->p, i % 2);
                set_all(&f->m, 0, phase, 0);
                progress_add(&f->p, &f->m);
                set_all(&f->m, values[i], phase, 400000000);
                progress_add(&f->p, &f->m);
                text_clear(&f->t);
                unsigned rows = progress_block(&f->p, &style, &f->t);
                assert_narrow(shown(f), columns);
                for (const char *s = shown(f); *s; s++)
                    rows -= *s == '\n';
                assert_int_equal(rows, 0);
                text_clear(&f->t);
                progress_line(&f->p, &f->t);
                assert_narrow(shown(f), 160);
                text_clear(&f->t);
                progress_json(&f->p, &f->t);
                assert_non_null(strchr(shown(f), '}'));
            }
}

/* Why, and how long yet: also while both sides are called again from the start. */
static void waits(void **state)
{
    struct fixture *f = *state;
    struct progress_style style = {.columns = 80};
    static const uint64_t phases[] = {PHASE_STREAM, PHASE_CONNECT};
    for (int i = 0; i < 2; i++) {
        f->m.phase = phases[i];
        f->m.waiting_for = COUNTERS_WAITS_FOR_TARGET;
        f->m.waiting_until_ms = (uint64_t)f->m.mono_ms + 3600000;
        snprintf(f->m.waiting_why, sizeof(f->m.waiting_why), "gone");
        progress_add(&f->p, &f->m);
        text_clear(&f->t);
        assert_int_equal(progress_block(&f->p, &style, &f->t), i ? 2 : 5);
        assert_non_null(strstr(
            shown(f), "\n  waits     target is lost, called again; given up in 1 h 00 min\n"));
        text_clear(&f->t);
        progress_line(&f->p, &f->t);
        assert_non_null(
            strstr(shown(f), ", target is lost, called again; given up in 1 h 00 min\n"));
        text_clear(&f->t);
        progress_json(&f->p, &f->t);
        assert_non_null(strstr(shown(f), "\"waiting\":\"target is lost, called again\","
                                         "\"waiting_left_s\":3600.0,\"waiting_why\":\"gone\"}"));
    }
}

static void json_line(void **state)
{
    struct fixture *f = *state;
    f->m.wall_ms = 1700000000000;
    load(f, 4);
    progress_json(&f->p, &f->t);
    assert_string_equal(
        shown(f),
        "{\"event\":\"progress\",\"wall_ms\":1700000000000,\"elapsed_ms\":4000,"
        "\"phase\":\"snapshot\",\"percent\":40.0,\"percent_estimated\":false,\"keys\":40000,"
        "\"keys_skipped\":0,\"commands\":0,\"bytes\":400000000,\"keys_per_s\":10000.0,"
        "\"commands_per_s\":0.0,\"bytes_per_s\":100000000.0,\"errors\":0,\"retries\":0,"
        "\"lag_bytes\":0,\"lag_ms\":0,\"slots_unsettled\":0,"
        "\"spool_ram_bytes\":4000000,\"spool_disk_bytes\":0,"
        "\"left_s\":6.0,\"waiting\":null,\"waiting_left_s\":null,\"waiting_why\":null}\n");
}

static void times(void **state)
{
    (void)state;
    char out[32];
    assert_string_equal(progress_time(out, sizeof(out), -1), "0.0 s");
    assert_string_equal(progress_time(out, sizeof(out), 5.04), "5.0 s");
    assert_string_equal(progress_time(out, sizeof(out), 59.4), "59.4 s");
    assert_string_equal(progress_time(out, sizeof(out), 59.97), "1 min 00 s");
    assert_string_equal(progress_time(out, sizeof(out), 184), "3 min 04 s");
    assert_string_equal(progress_time(out, sizeof(out), 3599.9), "1 h 00 min");
    assert_string_equal(progress_time(out, sizeof(out), 90000), "25 h 00 min");
    assert_string_equal(progress_time(out, sizeof(out), 1e12), "long");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_known_yet),
        TEST(rates_by_the_last_seconds),
        TEST(rates_over_a_gap),
        TEST(rates_begin_with_the_phase),
        TEST(counters_that_go_back_give_no_rate),
        TEST(percent_by_keys_is_a_guess),
        TEST(catching_up_is_done_when_the_lag_is),
        TEST(block_of_a_snapshot),
        TEST(block_of_a_stream),
        TEST(a_restore),
        TEST(a_restore_of_unknown_size),
        TEST(line_off_a_terminal),
        TEST(never_too_wide),
        TEST(waits),
        TEST(json_line),
        TEST(times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
