// SPDX-License-Identifier: BSD-3-Clause
// Which modules are noted as missing, and that a server that does not tell them stops nothing.
#include "check/check.h"
#include "redis/fake_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MODULE(name) "*4\r\n$4\r\nname\r\n$4\r\n" name "\r\n$3\r\nver\r\n:1\r\n"

/* Run with these answers to MODULE LIST of the two sides. */
static int run(const char *source_says, const char *target_says, struct check_notes *notes)
{
    struct fake_server source, target;
    const struct fake_step source_steps[] = {{.expect = "PING", .reply = "+PONG\r\n"},
                                             {.expect = "MODULE LIST", .reply = source_says}};
    const struct fake_step target_steps[] = {{.expect = "PING", .reply = "+PONG\r\n"},
                                             {.expect = "MODULE LIST", .reply = target_says}};
    FAKE_RULES(&source, source_steps);
    FAKE_RULES(&target, target_steps);
    struct client_config sc = fake_config(&source, "source"), tc = fake_config(&target, "target");
    struct client *s = NULL, *t = NULL;
    struct err err = {0};
    assert_int_equal(client_open(&s, &sc, &err), 0);
    assert_int_equal(client_open(&t, &tc, &err), 0);
    int rc = check_modules(s, &(struct primaries){.one = t}, notes, &err);
    client_close(s);
    client_close(t);
    fake_stop(&source);
    fake_stop(&target);
    return rc;
}

static void test_missing_are_named(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    assert_int_equal(
        run("*3\r\n" MODULE("aaaa") MODULE("bbbb") MODULE("cccc"), "*1\r\n" MODULE("bbbb"), &notes),
        0);
    assert_int_equal(notes.n, 1);
    assert_non_null(strstr(notes.text[0], "aaaa, cccc;"));
    assert_null(strstr(notes.text[0], "bbbb"));
}

static void test_nothing_to_say(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    assert_int_equal(run("*0\r\n", "*0\r\n", &notes), 0);
    assert_int_equal(run("*1\r\n" MODULE("aaaa"), "*1\r\n" MODULE("aaaa"), &notes), 0);
    assert_int_equal(run("-NOPERM no\r\n", "*0\r\n", &notes), 0);
    assert_int_equal(run("*1\r\n" MODULE("aaaa"), "-ERR unknown command\r\n", &notes), 0);
    assert_int_equal(notes.n, 0);
}

static void test_odd_forms(void **state)
{
    (void)state;
    struct check_notes notes = {0};
    /* No name, a number for a name, no array: passed over. */
    assert_int_equal(run("*4\r\n*0\r\n*2\r\n$4\r\nname\r\n:7\r\n:1\r\n" MODULE("aaaa"),
                         "*2\r\n*1\r\n$4\r\nname\r\n$-1\r\n", &notes),
                     0);
    assert_int_equal(notes.n, 1);
    assert_non_null(strstr(notes.text[0], "aaaa;"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_are_named),
        cmocka_unit_test(test_nothing_to_say),
        cmocka_unit_test(test_odd_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
