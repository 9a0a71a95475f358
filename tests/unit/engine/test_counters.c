// SPDX-License-Identifier: BSD-3-Clause
// What is waited for and why: told whole to whoever looks, whenever that is.
#include "engine/counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

static void waits(void **state)
{
    (void)state;
    struct counters *c = test_calloc(1, sizeof(*c));
    char why[COUNTERS_WHY];
    counters_get_why(c, why);
    assert_string_equal(why, "");
    counters_wait(c, COUNTERS_WAITS_FOR_TARGET, 5000, "target: connection refused");
    counters_get_why(c, why);
    assert_string_equal(why, "target: connection refused");
    assert_int_equal(counter_get(&c->waiting_for), COUNTERS_WAITS_FOR_TARGET);
    assert_int_equal(counter_get(&c->waiting_until_ms), 5000);
    counters_wait(c, COUNTERS_WAITS_FOR_NONE, 5000, "over");
    counters_get_why(c, why);
    assert_string_equal(why, "");
    assert_int_equal(counter_get(&c->waiting_for), COUNTERS_WAITS_FOR_NONE);
    assert_int_equal(counter_get(&c->waiting_until_ms), 0);
    test_free(c);
}

static void long_words_are_cut(void **state)
{
    (void)state;
    struct counters *c = test_calloc(1, sizeof(*c));
    char why[COUNTERS_WHY], in[COUNTERS_WHY * 2];
    memset(in, 'x', sizeof(in));
    in[sizeof(in) - 1] = 0;
    counters_set_why(c, in);
    counters_get_why(c, why);
    assert_int_equal(strlen(why), COUNTERS_WHY - 1);
    test_free(c);
}

static void *write_words(void *arg)
{
    struct counters *c = arg;
    char text[COUNTERS_WHY] = "";
    for (unsigned i = 0; i < 200000; i++) {
        memset(text, 'a' + (int)(i % 26), COUNTERS_WHY - 1);
        counters_set_why(c, text);
    }
    counter_set(&c->errors, 1);
    return NULL;
}

static void never_a_mix(void **state)
{
    (void)state;
    struct counters *c = test_calloc(1, sizeof(*c));
    pthread_t t;
    unsigned long seen = 0;
    char why[COUNTERS_WHY];
    assert_int_equal(pthread_create(&t, NULL, write_words, c), 0);
    for (;;) {
        uint64_t ended = counter_get(&c->errors);
        counters_get_why(c, why);
        for (unsigned i = 0; *why && i < COUNTERS_WHY - 1; i++)
            assert_int_equal(why[i], why[0]);
        seen += *why != 0;
        if (ended) break;
    }
    pthread_join(t, NULL);
    assert_true(seen > 0);
    test_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(never_a_mix),
    };
    return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
