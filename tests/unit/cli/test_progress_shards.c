// SPDX-License-Identifier: BSD-3-Clause
// Tests of the lines of shards: they fit, and those that matter most are shown.
#include "cli/progress_shards.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void rows_of_each_phase(void **state)
{
    (void)state;
    char row[PROGRESS_SHARD_ROW];
    struct shard_look s = {.number = 2, .address = "10.11.12.13:7001"};
    assert_string_equal(progress_shard_row(row, sizeof(row), &s),
                        "     2 10.11.12.13:7001          connecting");
    s.phase = PHASE_SNAPSHOT;
    s.keys_written = 1234567;
    s.per_s = 45678.9;
    assert_string_equal(progress_shard_row(row, sizeof(row), &s),
                        "     2 10.11.12.13:7001          snapshot, 1,234,567 keys              "
                        " 45,678/s");
    s.snapshot_bytes_total = 1000;
    s.snapshot_bytes_decoded = 432;
    progress_shard_row(row, sizeof(row), &s);
    assert_non_null(strstr(row, "snapshot 43.2 %, 1,234,567 keys"));
    s.phase = PHASE_STREAM;
    s.lag_bytes = 1200000;
    s.lag_ms = 400;
    assert_string_equal(progress_shard_row(row, sizeof(row), &s),
                        "     2 10.11.12.13:7001          streaming, lag 1.2 MB 0.4 s           "
                        " 45,678/s");
    s.waiting_for = COUNTERS_WAITS_FOR_SOURCE;
    assert_string_equal(progress_shard_row(row, sizeof(row), &s),
                        "     2 10.11.12.13:7001          source is lost, called again");
    s.ended = true;
    assert_string_equal(progress_shard_row(row, sizeof(row), &s),
                        "     2 10.11.12.13:7001          has no slots any more");
}

static void never_too_wide(void **state)
{
    (void)state;
    char row[PROGRESS_SHARD_ROW];
    struct shard_look s = {.number = 1000,
                           .phase = PHASE_STREAM,
                           .lag_bytes = UINT64_MAX,
                           .lag_ms = UINT64_MAX,
                           .keys_written = UINT64_MAX,
                           .commands_written = UINT64_MAX,
                           .per_s = 1e15};
    memset(s.address, 'x', sizeof(s.address) - 6);
    memcpy(s.address + sizeof(s.address) - 6, ":7001", 6);
    for (s.phase = 0; s.phase <= PHASE_DONE + 1; s.phase++)
        assert_true(strlen(progress_shard_row(row, sizeof(row), &s)) <= PROGRESS_COLUMNS);
    assert_non_null(strstr(row, " ...xxx"));
    assert_non_null(strstr(row, ":7001 "));
}

struct rows {
    unsigned n;
    char text[40][PROGRESS_SHARD_ROW];
};

static void keep(void *ctx, const char *row)
{
    struct rows *r = ctx;
    snprintf(r->text[r->n++], PROGRESS_SHARD_ROW, "%s", row);
}

static void as_many_as_fit(void **state)
{
    (void)state;
    struct shard_look item[20] = {0};
    struct shards_look l = {item, 20};
    struct rows all = {0}, some = {0}, none = {0};
    for (unsigned i = 0; i < 20; i++)
        item[i] = (struct shard_look){.number = i + 1, .phase = PHASE_STREAM, .lag_bytes = i};
    item[7].phase = PHASE_SNAPSHOT;
    item[3].ended = true;
    assert_int_equal(progress_shards(&l, 20, keep, &all), 20);
    assert_int_equal(all.n, 20);
    assert_memory_equal(all.text[6], "     7 ", 7);
    assert_int_equal(progress_shards(&l, 4, keep, &some), 4);
    assert_memory_equal(some.text[0], "     8 ", 7); /* least advanced */
    assert_memory_equal(some.text[1], "    20 ", 7); /* longest lag */
    assert_memory_equal(some.text[2], "    19 ", 7);
    assert_string_equal(some.text[3], "       ... and 17 more");
    assert_int_equal(progress_shards(&l, 0, keep, &none), 0);
    l.n = 0;
    assert_int_equal(progress_shards(&l, 5, keep, &none), 0);
}

static void put(void *ctx, const char *row)
{
    (void)ctx;
    (void)row;
}

/* The block stays below the height of the screen. */
static void block_fits_the_screen(void **state)
{
    (void)state;
    static struct progress p;
    static struct metrics m;
    struct shard_look item[30] = {0};
    struct shards_look l = {item, 30};
    struct text t;
    for (unsigned i = 0; i < 30; i++)
        item[i].number = i + 1;
    progress_init(&p, TASK_MIGRATE);
    p.shards = &l;
    m.phase = PHASE_STREAM;
    progress_add(&p, &m);
    for (unsigned rows = 1; rows < 50; rows++) {
        struct progress_style style = {.rows = rows, .columns = 80};
        text_init(&t, 1 << 16);
        unsigned n = progress_block(&p, &style, &t), lines = 0;
        for (size_t i = 0; i < t.buf.n; i++)
            lines += t.buf.p[i] == '\n';
        assert_int_equal(n, lines);
        assert_true(n < rows || n == 4);
        assert_int_equal(n == 34, rows >= 35);
        text_release(&t);
    }
    assert_int_equal(progress_shards(&l, 30, put, NULL), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_each_phase),
        cmocka_unit_test(never_too_wide),
        cmocka_unit_test(as_many_as_fit),
        cmocka_unit_test(block_fits_the_screen),
    };
    return cmocka_run_group_tests_name("progress_shards", tests, NULL, NULL);
}
