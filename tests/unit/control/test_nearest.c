// SPDX-License-Identifier: BSD-3-Clause
// Tests of "did you mean".
#include "control/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char *nearest(const char *word)
{
    static const char *const names[] = {"source", "target", "db", "db-map", "on-conflict", "quiet"};
    struct nearest n;
    nearest_init(&n, word);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        nearest_try(&n, names[i]);
    return n.best;
}

static void finds_slips(void **state)
{
    (void)state;
    assert_string_equal(nearest("sorce"), "source");
    assert_string_equal(nearest("suorce"), "source");
    assert_string_equal(nearest("targets"), "target");
    assert_string_equal(nearest("bd"), "db");
    assert_string_equal(nearest("dbmap"), "db-map");
    assert_string_equal(nearest("onconflict"), "on-conflict");
    assert_string_equal(nearest("quite"), "quiet");
    assert_string_equal(nearest("quiet"), "quiet");
    assert_string_equal(nearest("on-c"), "on-conflict"); /* cut short */
}

static void leaves_the_far_alone(void **state)
{
    (void)state;
    assert_null(nearest("frobnicate"));
    assert_null(nearest(""));
    assert_null(nearest("xy"));
    char longer[500];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = 0;
    assert_null(nearest(longer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_slips),
        cmocka_unit_test(leaves_the_far_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
