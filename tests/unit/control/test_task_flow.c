// SPDX-License-Identifier: BSD-3-Clause
// Every pair of states: what may follow what, drawn as a table of its own.
#include "control/task_flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Row: from; column: to; x may be. */
static const char *const states[] = {
    /*            new loading stream done */
    /* new     */ ".xx.",
    /* loading */ ".xxx",
    /* stream  */ ".xxx",
    /* done    */ "....",
};

static const char *const phases[] = {
    /*              connect check wait-dump snapshot catch-up stream done */
    /* connect   */ "xxx.x..",
    /* check     */ "x.xxx..",
    /* wait-dump */ "x.xx...",
    /* snapshot  */ "x..xx.x",
    /* catch-up  */ "x...xxx",
    /* stream    */ "x...xxx",
    /* done      */ ".......",
};

#define N(table) (sizeof(table) / sizeof((table)[0]))

static void every_pair_of_states(void **state)
{
    (void)state;
    for (unsigned from = 0; from < N(states); from++)
        for (unsigned to = 0; to < N(states); to++) {
            enum state_phase at = (enum state_phase)from;
            struct err err = {0};
            int rc = task_flow_state(&at, (enum state_phase)to, &err);
            if (rc != (states[from][to] == 'x' ? 0 : -1)) fail_msg("%u to %u", from, to);
            assert_int_equal(at, rc == 0 ? to : from);
            assert_int_equal(err.code, rc == 0 ? ERR_NONE : ERR_INTERNAL);
        }
}

static void every_pair_of_phases(void **state)
{
    (void)state;
    for (unsigned from = 0; from < N(phases); from++)
        for (unsigned to = 0; to < N(phases); to++) {
            counter at;
            struct err err = {0};
            counter_set(&at, from);
            int rc = task_flow_phase(&at, (enum phase)to, &err);
            if (rc != (phases[from][to] == 'x' ? 0 : -1)) fail_msg("%u to %u", from, to);
            assert_int_equal(counter_get(&at), rc == 0 ? to : from);
            assert_int_equal(err.code, rc == 0 ? ERR_NONE : ERR_INTERNAL);
        }
}

static void what_is_no_state(void **state)
{
    (void)state;
    struct err err = {0};
    enum state_phase at = (enum state_phase)77;
    counter phase;
    counter_set(&phase, 77);
    assert_int_equal(N(states), STATE_DONE + 1);
    assert_int_equal(N(phases), PHASE_DONE + 1);
    assert_int_equal(task_flow_state(&at, STATE_STREAM, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(task_flow_phase(&phase, PHASE_STREAM, &err), -1);
    at = STATE_STREAM;
    assert_int_equal(task_flow_state(&at, (enum state_phase)77, &err), -1);
    assert_string_equal(err.msg, "a task that is stream cannot become unknown");
    counter_set(&phase, PHASE_STREAM);
    assert_int_equal(task_flow_phase(&phase, (enum phase)77, &err), -1);
    assert_int_equal(counter_get(&phase), PHASE_STREAM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_states),
        cmocka_unit_test(every_pair_of_phases),
        cmocka_unit_test(what_is_no_state),
    };
    return cmocka_run_group_tests_name("task_flow", tests, NULL, NULL);
}
