// SPDX-License-Identifier: BSD-3-Clause
// import_mode: when it is used, whose it is, what is left behind; and on real Valkeys, where there
// are any (tests/servers), that keys then outlive their deadline.
#include "engine/import_mode.h"

#include "redis/fake_server.h"
#include "redis/live_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OFF "*2\r\n$11\r\nimport-mode\r\n$2\r\nno\r\n"
#define ON  "*2\r\n$11\r\nimport-mode\r\n$3\r\nyes\r\n"
#define OK  "+OK\r\n"
#define GET "CONFIG GET import-mode"
#define YES "CONFIG SET import-mode yes"
#define NO  "CONFIG SET import-mode no"
#define AM  "CLIENT IMPORT-SOURCE ON"

#define TO(command, answer)                                                                        \
    (struct fake_step)                                                                             \
    {                                                                                              \
        .expect = command, .reply = answer                                                         \
    }
#define GONE(command)                                                                              \
    (struct fake_step)                                                                             \
    {                                                                                              \
        .expect = command, .hang_up = true                                                         \
    }

static const struct server_facts plain;

struct fixture {
    struct fake_server s;
    struct client *c;
    struct import_mode im;
    struct err err;
};

/* The script, behind the client's PING. */
static struct fixture *fixture(const struct fake_step *step, size_t n)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct fake_step *all = calloc(n + 1, sizeof(*all));
    assert_non_null(f);
    assert_non_null(all);
    all[0] = (struct fake_step){.expect = "PING", .reply = "+PONG\r\n"};
    memcpy(all + 1, step, n * sizeof(*all));
    fake_start(&f->s, all, n + 1, false);
    struct client_config cfg = fake_config(&f->s, "target");
    assert_int_equal(client_open(&f->c, &cfg, &f->err), 0);
    return f;
}
#define FIXTURE(...)                                                                               \
    fixture((const struct fake_step[]){__VA_ARGS__},                                               \
            sizeof((const struct fake_step[]){__VA_ARGS__}) / sizeof(struct fake_step))

/* Whether it is on, and ours, in the end. */
static void finish(struct fixture *f, bool on, bool ours)
{
    assert_int_equal(import_mode_on(&f->im), on);
    assert_int_equal(f->im.ours, ours);
    client_close(f->c);
    void *steps = (void *)(uintptr_t)f->s.step;
    fake_stop(&f->s);
    free(steps);
    free(f);
}

static void look(struct fixture *f, const struct server_facts *facts, bool ours)
{
    assert_int_equal(
        import_mode_look(&f->im, &(struct primaries){.one = f->c}, facts, ours, &f->err), 0);
}

static void begin(struct fixture *f)
{
    assert_int_equal(import_mode_begin(&f->im, &(struct primaries){.one = f->c}, &f->err), 0);
}

static void end(struct fixture *f)
{
    assert_int_equal(import_mode_end(&f->im, &(struct primaries){.one = f->c}, &f->err), 0);
}

static void turned_on_and_off(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, OFF), TO(YES, OK), TO(AM, OK), TO(AM, OK), TO(NO, OK));
    look(f, &plain, false);
    assert_true(f->im.can && !f->im.was_on && !import_mode_on(&f->im));
    begin(f);
    assert_true(import_mode_on(&f->im) && f->im.ours);
    assert_int_equal(import_mode_mark_conn(&f->im, f->c, &f->err), 0);
    end(f);
    end(f); /* says nothing more */
    finish(f, false, false);
}

/* Somebody else's: used, and left as it is. */
static void on_before(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, ON), TO(AM, OK));
    look(f, &plain, false);
    begin(f);
    assert_true(import_mode_on(&f->im));
    end(f);
    finish(f, false, false);
}

/* A former run was killed. */
static void left_on_by_us(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, ON), TO(AM, OK), TO(NO, OK));
    look(f, &plain, true);
    begin(f);
    end(f);
    finish(f, false, false);
}

/* It has been turned off since by someone, or the target lost it in a failover. */
static void ours_no_more(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, OFF), TO(YES, "-NOPERM no\r\n"));
    look(f, &plain, true);
    begin(f);
    end(f);
    finish(f, false, false);
}

static void not_to_be_had(void **state)
{
    (void)state;
    static const char *const no[] = {
        "*0\r\n", "-NOPERM User u\r\n", "-ERR unknown command\r\n", "*-1\r\n",
        ":1\r\n", "*2\r\n*0\r\n*0\r\n"};
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        struct fixture *f = FIXTURE(TO(GET, no[i]));
        look(f, &plain, true);
        assert_false(f->im.can);
        begin(f);
        assert_int_equal(import_mode_mark_conn(&f->im, f->c, &f->err), 0);
        end(f);
        finish(f, false, false);
    }
}

/* Not marked, our connection would find nothing that is past its deadline: back off again. */
static void not_marked(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, OFF), TO(YES, OK), TO(AM, "-NOPERM no\r\n"), TO(NO, OK));
    look(f, &plain, false);
    begin(f);
    finish(f, false, false);
    f = FIXTURE(TO(GET, ON), TO(AM, "-NOPERM no\r\n"));
    look(f, &plain, false);
    begin(f);
    finish(f, false, false);
}

static void not_turned_off(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, OFF), TO(YES, OK), TO(AM, OK), TO(NO, "-NOPERM no\r\n"));
    look(f, &plain, false);
    begin(f);
    end(f);
    finish(f, false, true); /* so the task's state goes on saying so */
}

static void after_a_failover(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, ON), TO(AM, OK),
                                TO(AM, "-ERR Server is not in import mode\r\n"), TO(YES, OK),
                                TO(AM, OK), TO(NO, OK));
    look(f, &plain, false);
    begin(f);
    assert_false(f->im.ours);
    assert_int_equal(import_mode_mark_conn(&f->im, f->c, &f->err), 0);
    assert_true(import_mode_on(&f->im) && f->im.ours);
    end(f);
    finish(f, false, false);
}

static void after_a_failover_to_one_without(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(TO(GET, OFF), TO(YES, OK), TO(AM, OK), TO(AM, "-ERR no\r\n"),
                                TO(YES, "-ERR unknown option\r\n"));
    look(f, &plain, false);
    begin(f);
    assert_int_equal(import_mode_mark_conn(&f->im, f->c, &f->err), 0);
    finish(f, false, true);
}

/* A cache evicts what is too much; in import mode it would refuse writes. */
static void caches_are_left_alone(void **state)
{
    (void)state;
    struct server_facts facts = {.maxmemory = 1 << 20, .maxmemory_policy = "allkeys-lru"};
    struct fixture *f = FIXTURE(TO(GET, OFF));
    look(f, &facts, false);
    begin(f);
    finish(f, false, false);
    f = FIXTURE(TO(GET, OFF), TO(YES, OK), TO(AM, OK));
    facts.maxmemory = 0;
    look(f, &facts, false);
    begin(f);
    finish(f, true, true);
    f = FIXTURE(TO(GET, OFF), TO(YES, OK), TO(AM, OK));
    facts = (struct server_facts){.maxmemory = 1, .maxmemory_policy = "noeviction"};
    look(f, &facts, false);
    begin(f);
    finish(f, true, true);
}

static void link_lost(void **state)
{
    (void)state;
    struct fixture *f = FIXTURE(GONE(GET));
    assert_int_equal(
        import_mode_look(&f->im, &(struct primaries){.one = f->c}, &plain, false, &f->err), -1);
    finish(f, false, false);
    f = FIXTURE(TO(GET, OFF), TO(YES, OK), GONE(AM));
    look(f, &plain, false);
    assert_int_equal(import_mode_begin(&f->im, &(struct primaries){.one = f->c}, &f->err), -1);
    finish(f, false, true); /* to be turned off by the next that gets through */
}

/* --- real ones --- */

static bool find_valkey(char *path, size_t size, const char *name)
{
    char top[300];
    snprintf(path, size, "%s/%s/bin/valkey-server", live_folder(top, sizeof(top)), name);
    return access(path, X_OK) == 0;
}

static int64_t number(struct client *c, const char *cmd, const char *key)
{
    struct reply *r;
    struct err err;
    assert_int_equal(client_ask(c, &r, &err, cmd, key, NULL), 0);
    assert_int_equal(r->type, REPLY_INTEGER);
    int64_t n = r->integer;
    reply_free(r);
    return n;
}

static void outlives_its_deadline(const char *program)
{
    struct live_server s;
    struct import_mode im;
    struct server_facts facts;
    struct err err;
    live_start_program(&s, program, false, NULL);
    struct client *c = live_client(&s, "target"), *other = live_client(&s, "target");
    assert_int_equal(facts_read(c, &facts, &err), 0);
    assert_int_equal(import_mode_look(&im, &(struct primaries){.one = c}, &facts, false, &err), 0);
    assert_true(im.can && !im.was_on);
    assert_int_equal(import_mode_begin(&im, &(struct primaries){.one = c}, &err), 0);
    live_do(c, "SET k 1 PX 20");
    live_do(c, "SET gone 1 PX 20");
    live_do(c, "SET ancient 1 PXAT 1");
    usleep(300000);
    assert_int_equal(number(c, "EXISTS", "gone"), 1);
    assert_int_equal(number(other, "EXISTS", "k"), 0);
    assert_int_equal(number(c, "INCR", "k"), 2);
    assert_int_equal(number(c, "PERSIST", "k"), 1);
    assert_int_equal(number(other, "EXISTS", "k"), 1);
    assert_int_equal(import_mode_mark_conn(&im, other, &err), 0);
    assert_int_equal(number(other, "EXISTS", "gone"), 1);
    assert_int_equal(import_mode_end(&im, &(struct primaries){.one = other}, &err), 0);
    usleep(300000);
    assert_int_equal(number(c, "EXISTS", "gone"), 0);
    assert_int_equal(number(c, "EXISTS", "ancient"), 0);
    assert_int_equal(import_mode_look(&im, &(struct primaries){.one = c}, &facts, true, &err), 0);
    assert_false(im.was_on);
    client_close(c);
    client_close(other);
    facts_release(&facts);
    live_stop(&s);
}

static void on_real_ones(void **state)
{
    (void)state;
    static const char *const name[] = {"valkey-8.1", "valkey-9.1"};
    char path[600];
    unsigned n = 0;
    for (size_t i = 0; i < 2; i++) {
        if (!find_valkey(path, sizeof(path), name[i])) continue;
        outlives_its_deadline(path);
        n++;
    }
    if (n == 0) skip();
}

/* Servers of PATH (a Redis): they have no such mode. */
static void not_on_redis(void **state)
{
    (void)state;
    struct live_server s;
    struct import_mode im;
    struct err err;
    live_start(&s, false, NULL);
    struct client *c = live_client(&s, "target");
    assert_int_equal(import_mode_look(&im, &(struct primaries){.one = c}, &plain, false, &err), 0);
    assert_false(im.can);
    client_close(c);
    live_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turned_on_and_off),
        cmocka_unit_test(on_before),
        cmocka_unit_test(left_on_by_us),
        cmocka_unit_test(ours_no_more),
        cmocka_unit_test(not_to_be_had),
        cmocka_unit_test(not_marked),
        cmocka_unit_test(not_turned_off),
        cmocka_unit_test(after_a_failover),
        cmocka_unit_test(after_a_failover_to_one_without),
        cmocka_unit_test(caches_are_left_alone),
        cmocka_unit_test(link_lost),
        cmocka_unit_test(on_real_ones),
        cmocka_unit_test(not_on_redis),
    };
    return cmocka_run_group_tests_name("import_mode", tests, NULL, NULL);
}
