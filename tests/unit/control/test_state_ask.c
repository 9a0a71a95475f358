// SPDX-License-Identifier: BSD-3-Clause
// A task that is asked to finish, seen from both sides.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/state_kit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_asked(struct state *s)
{
    state_look_asked(s);
    return *state_asked(s);
}

static void must_ask(struct state_ask *a)
{
    struct err err = {0};
    if (state_ask(a, state_kit_root(), "shop", &err) < 0) fail_msg("%s", err.msg);
    assert_true(a->fd >= 0);
}

static void test_ask_and_take_back(void **state)
{
    (void)state;
    struct given g;
    struct state_ask a = {.fd = -1};
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    assert_false(is_asked(s));
    must_ask(&a);
    assert_true(is_asked(s));
    assert_int_equal(mode_of(file("shop/finish")), 0600);
    state_ask_end(&a);
    assert_false(is_asked(s));
    assert_false(there(file("shop/finish")));
    state_ask_end(&a);
    state_close(s, false);
    take_back(&g);
}

static void test_answer_outlives_the_folder(void **state)
{
    (void)state;
    struct given g;
    struct buf b;
    struct err err = {0};
    struct state_ask a = {.fd = -1};
    buf_init(&b, 100);
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    must_ask(&a);
    assert_int_equal(state_ask_answer(&a, &b, &err), 0);
    assert_int_equal(b.n, 0);
    assert_int_equal(state_answer(s, span_str("{}\nwords\n"), &err), 0);
    state_close(s, true);
    assert_false(there(file("shop")));
    assert_int_equal(state_ask_answer(&a, &b, &err), 0);
    assert_true(span_eq(buf_span(&b), span_str("{}\nwords\n")));
    state_ask_end(&a);
    buf_release(&b);
    take_back(&g);
}

/* It was asked of another process; who asks makes sure that this one is asked, too. */
static void test_next_process_is_not_asked(void **state)
{
    (void)state;
    struct given g;
    struct err err = {0};
    struct state_ask a = {.fd = -1};
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    must_ask(&a);
    state_close(s, false);
    s = must_open(&g);
    assert_false(is_asked(s));
    assert_false(there(file("shop/finish")));
    must_ask(&a);
    assert_true(is_asked(s));
    state_close(s, true);
    /* nobody to ask */
    assert_int_equal(state_ask(&a, state_kit_root(), "shop", &err), 0);
    state_ask_end(&a);
    assert_false(there(file("shop")));
    take_back(&g);
}

/* Either it is taken back or it is taken, never both. */
static void test_taken(void **state)
{
    (void)state;
    struct given g;
    struct buf b;
    struct err err = {0};
    struct state_ask a = {.fd = -1};
    buf_init(&b, 100);
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    must_ask(&a);
    assert_true(is_asked(s));
    assert_true(state_ask_withdraw(&a));
    assert_false(state_take_asked(s));
    must_ask(&a);
    assert_true(state_take_asked(s));
    assert_false(state_ask_withdraw(&a));
    must_ask(&a); /* is not asked a second time */
    assert_false(there(file("shop/finish")));
    assert_true(is_asked(s));
    assert_true(state_take_asked(s));
    assert_int_equal(state_answer(s, span_str("{}"), &err), 0);
    state_close(s, true);
    assert_int_equal(state_ask_answer(&a, &b, &err), 0);
    assert_true(span_eq(buf_span(&b), span_str("{}")));
    state_ask_end(&a);
    buf_release(&b);
    take_back(&g);
}

static void test_hostile(void **state)
{
    (void)state;
    struct given g;
    struct buf b;
    struct err err = {0};
    struct state_ask a = {.fd = -1};
    GIVE(&g, "--task", "shop");
    struct state *s = must_begin(&g);
    char path[300];
    snprintf(path, sizeof(path), "%s", file("shop/finish"));
    put(file("aim"), "x", 1);
    assert_int_equal(symlink(file("aim"), path), 0);
    assert_int_equal(state_ask(&a, state_kit_root(), "shop", &err), -1);
    assert_int_equal(state_answer(s, span_str("{}"), &err), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(state_answer(s, span_str("{}"), &err), 0); /* taken back just then */
    assert_false(there(path));
    /* more than any answer */
    must_ask(&a);
    buf_init(&b, 100);
    assert_int_equal(truncate(path, 1 << 30), 0);
    assert_int_equal(state_ask_answer(&a, &b, &err), -1);
    buf_release(&b);
    state_ask_end(&a);
    assert_int_equal(state_ask(&a, state_kit_root(), "../shop", &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    state_close(s, true);
    take_back(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ask_and_take_back, state_kit_make, state_kit_drop),
        cmocka_unit_test_setup_teardown(test_answer_outlives_the_folder, state_kit_make,
                                        state_kit_drop),
        cmocka_unit_test_setup_teardown(test_next_process_is_not_asked, state_kit_make,
                                        state_kit_drop),
        cmocka_unit_test_setup_teardown(test_taken, state_kit_make, state_kit_drop),
        cmocka_unit_test_setup_teardown(test_hostile, state_kit_make, state_kit_drop),
    };
    return cmocka_run_group_tests_name("state_ask", tests, NULL, NULL);
}
