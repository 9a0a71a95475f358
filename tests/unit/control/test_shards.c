// SPDX-License-Identifier: BSD-3-Clause
// Tests of the shards of a task: sums of their counters, and looks at them.
#include "control/shards.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct shards s;
    struct shard *a, *b;
    struct counters sum;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct err err;
    shards_init(&f->s);
    assert_int_equal(shards_add(&f->s, 2, &f->b, &err), 0);
    assert_int_equal(shards_add(&f->s, 1, &f->a, &err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    shards_release(&f->s);
    test_free(f);
    return 0;
}

static uint64_t phase_of(struct fixture *f, enum phase a, enum phase b)
{
    counter_set(&f->a->counters.phase, a);
    counter_set(&f->b->counters.phase, b);
    shards_sum(&f->s, &f->sum);
    return counter_get(&f->sum.phase);
}

static void in_order(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->s.n, 2);
    assert_ptr_equal(f->s.item[0], f->a);
    assert_ptr_equal(f->s.item[1], f->b);
}

static void sums(void **state)
{
    struct fixture *f = *state;
    struct counters *a = &f->a->counters, *b = &f->b->counters;
    counter_set(&a->keys_written, 3);
    counter_set(&b->keys_written, 4);
    counter_set(&a->db[5].commands, 10);
    counter_set(&b->db[5].commands, 20);
    counter_set(&a->lag_bytes, 100);
    counter_set(&b->lag_bytes, 50);
    counter_set(&a->lag_ms, 7);
    counter_set(&b->lag_ms, 9);
    counter_set(&a->applied_offset, 77);
    counter_set(&f->sum.started_wall_ms, 5);
    counter_set(&f->sum.keys_before, 1000);
    shards_sum(&f->s, &f->sum);
    shards_sum(&f->s, &f->sum); /* anew each time, not on top */
    assert_int_equal(counter_get(&f->sum.keys_written), 7);
    assert_int_equal(counter_get(&f->sum.db[5].commands), 30);
    assert_int_equal(counter_get(&f->sum.lag_bytes), 150);
    assert_int_equal(counter_get(&f->sum.lag_ms), 9);
    assert_int_equal(counter_get(&f->sum.applied_offset), 0);
    assert_int_equal(counter_get(&f->sum.started_wall_ms), 5);
    assert_int_equal(counter_get(&f->sum.keys_before), 1000);
}

static void phases(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(phase_of(f, PHASE_CONNECT, PHASE_CHECK), PHASE_CONNECT);
    assert_int_equal(phase_of(f, PHASE_WAIT_DUMP, PHASE_SNAPSHOT), PHASE_SNAPSHOT);
    assert_int_equal(phase_of(f, PHASE_WAIT_DUMP, PHASE_STREAM), PHASE_SNAPSHOT);
    assert_int_equal(phase_of(f, PHASE_CONNECT, PHASE_STREAM), PHASE_CATCH_UP);
    assert_int_equal(phase_of(f, PHASE_STREAM, PHASE_CATCH_UP), PHASE_CATCH_UP);
    assert_int_equal(phase_of(f, PHASE_DONE, PHASE_STREAM), PHASE_STREAM);
    assert_int_equal(phase_of(f, PHASE_DONE, PHASE_DONE), PHASE_DONE);
}

static void times_of_all(void **state)
{
    struct fixture *f = *state;
    struct counters *a = &f->a->counters, *b = &f->b->counters;
    counter_set(&a->snapshot_started_ms, 200);
    counter_set(&b->snapshot_started_ms, 100);
    counter_set(&a->snapshot_done_ms, 300);
    counter_set(&a->caught_up_ms, 400);
    counter_set(&b->caught_up_ms, 500);
    shards_sum(&f->s, &f->sum);
    assert_int_equal(counter_get(&f->sum.snapshot_started_ms), 100);
    assert_int_equal(counter_get(&f->sum.snapshot_done_ms), 0); /* not all are */
    assert_int_equal(counter_get(&f->sum.caught_up_ms), 500);
}

/* No size is told that is not of all of them. */
static void sizes(void **state)
{
    struct fixture *f = *state;
    counter_set(&f->a->counters.snapshot_bytes_total, 1000);
    counter_set(&f->a->counters.snapshot_keys_expected, 10);
    phase_of(f, PHASE_SNAPSHOT, PHASE_WAIT_DUMP);
    assert_int_equal(counter_get(&f->sum.snapshot_bytes_total), 0);
    assert_int_equal(counter_get(&f->sum.snapshot_keys_expected), 0);
    counter_set(&f->b->counters.snapshot_bytes_total, 500);
    counter_set(&f->b->counters.snapshot_keys_expected, 5);
    phase_of(f, PHASE_SNAPSHOT, PHASE_SNAPSHOT);
    assert_int_equal(counter_get(&f->sum.snapshot_bytes_total), 1500);
    assert_int_equal(counter_get(&f->sum.snapshot_keys_expected), 15);
}

/* What one has done counts, where it is no more. */
static void one_that_has_ended(void **state)
{
    struct fixture *f = *state;
    counter_set(&f->b->counters.keys_written, 4);
    counter_set(&f->b->counters.lag_ms, 99);
    counter_set(&f->a->counters.phase, PHASE_STREAM);
    shards_change(&f->s, f->b, "h:1", 0, true);
    shards_sum(&f->s, &f->sum);
    assert_int_equal(counter_get(&f->sum.keys_written), 4);
    assert_int_equal(counter_get(&f->sum.phase), PHASE_STREAM);
    assert_int_equal(counter_get(&f->sum.lag_ms), 0);
}

static void looks(void **state)
{
    struct fixture *f = *state;
    struct shards_look l = {0};
    struct err err;
    struct shard *c;
    shards_change(&f->s, f->a, "h:7001", 5461, false);
    counter_set(&f->a->counters.phase, PHASE_STREAM);
    counter_set(&f->a->counters.commands_written, 1000);
    shards_look(&l, &f->s, 10000);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.item[0].address, "h:7001");
    assert_int_equal(l.item[0].slots, 5461);
    counter_set(&f->a->counters.commands_written, 7000);
    assert_int_equal(shards_add(&f->s, 3, &c, &err), 0);
    shards_look(&l, &f->s, 13000);
    assert_int_equal(l.n, 3);
    assert_float_equal(l.item[0].per_s, 2000, 0.001);
    assert_int_equal(l.item[2].number, 3);
    shards_look_release(&l);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(in_order), T(sums), T(phases), T(times_of_all), T(sizes), T(one_that_has_ended), T(looks),
    };
    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}
