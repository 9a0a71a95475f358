// SPDX-License-Identifier: BSD-3-Clause
// Keys on both sides: counted and named on real servers, and bounded against hostile ones.
#include "check/check.h"
#include "redis/fake_server.h"
#include "redis/live_server.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool has(const char *text, const char *part)
{
    if (strstr(text, part)) return true;
    print_error("\"%s\" lacks \"%s\"\n", text, part);
    return false;
}

struct fixture {
    struct live_server s, t;
    struct client *source, *target;
    struct db_select *select;
    struct conflict_report report;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    live_start(&f->s, false, NULL);
    live_start(&f->t, false, NULL);
    f->source = live_client(&f->s, "source");
    f->target = live_client(&f->t, "target");
    f->select = calloc(1, sizeof(*f->select));
    assert_int_equal(db_select_parse(f->select, NULL, &f->err), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(f->source);
    client_close(f->target);
    live_stop(&f->s);
    live_stop(&f->t);
    free(f->select);
    free(f);
    return 0;
}

static int run(struct fixture *f)
{
    struct server_facts facts;
    assert_int_equal(facts_read(f->source, &facts, &f->err), 0);
    f->report = (struct conflict_report){.collisions = 99};
    int rc = check_conflicts(f->source, &(struct primaries){.one = f->target}, &facts, f->select,
                             &f->report, &f->err);
    facts_release(&facts);
    return rc;
}

/* Keys <prefix>0 .. <prefix>n-1 in a database. */
static void fill(struct client *c, uint64_t db, const char *prefix, int n)
{
    struct err err = {0};
    assert_int_equal(client_select(c, db, &err), 0);
    for (int i = 0; i < n; i++) {
        char key[64];
        snprintf(key, sizeof(key), "%s%d", prefix, i);
        assert_int_equal(client_send(c, &err, "SET", key, "v", NULL), 0);
    }
    while (client_due(c) > 0) {
        struct reply *r = NULL;
        assert_int_equal(client_recv(c, &r, &err), 0);
        assert_true(reply_is(r, "OK"));
        reply_free(r);
    }
    assert_int_equal(client_select(c, 0, &err), 0);
}

static void test_none(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(run(f), 0); /* both empty */
    assert_int_equal(f->report.collisions, 0);
    fill(f->source, 0, "a", 3000);
    assert_int_equal(run(f), 0); /* target empty */
    fill(f->target, 0, "b", 2500);
    fill(f->target, 5, "a", 10); /* another database */
    assert_int_equal(run(f), 0);
    assert_int_equal(f->report.collisions, 0);
    assert_int_equal(f->report.n_names, 0);
    assert_false(f->report.at_least);
}

/* The smaller side is scanned, whichever it is. */
static void test_some(void **state)
{
    struct fixture *f = *state;
    fill(f->source, 0, "k", 5000);
    fill(f->target, 0, "k", 37);
    fill(f->target, 0, "other", 500);
    assert_int_equal(run(f), 0);
    assert_int_equal(f->report.collisions, 37);
    assert_int_equal(f->report.n_names, 10);
    assert_false(f->report.at_least);
    fill(f->target, 0, "more", 9000);
    assert_int_equal(run(f), 0);
    assert_int_equal(f->report.collisions, 37);
    struct err err = {0};
    assert_int_equal(check_conflict_err(&f->report, "target redis://t:1", &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_true(has(err.msg, "target redis://t:1: 37 keys of the source exist there already: db 0 "
                             "\"k"));
    assert_true(has(err.msg, ", ...; choose --on-conflict overwrite or skip, or empty the target"));
}

static void test_many(void **state)
{
    struct fixture *f = *state;
    fill(f->source, 0, "k", 3000);
    fill(f->target, 0, "k", 3000);
    assert_int_equal(run(f), 0);
    assert_int_equal(f->report.collisions, CHECK_CONFLICT_MAX);
    assert_true(f->report.at_least);
    struct err err = {0};
    check_conflict_err(&f->report, "target", &err);
    assert_true(has(err.msg, "at least 1000 keys"));
}

static void test_selection_and_map(void **state)
{
    struct fixture *f = *state;
    fill(f->source, 1, "k", 3);
    fill(f->source, 2, "k", 3);
    fill(f->target, 1, "k", 3);
    fill(f->target, 7, "k", 1);
    assert_int_equal(db_select_parse(f->select, "2", &f->err), 0);
    assert_int_equal(run(f), 0);
    assert_int_equal(f->report.collisions, 0); /* 1 is not selected */
    assert_int_equal(db_select_parse_map(f->select, "2:7", &f->err), 0);
    assert_int_equal(run(f), 0);
    assert_int_equal(f->report.collisions, 1);
    assert_int_equal(f->report.name[0].db, 7);
    assert_string_equal(f->report.name[0].key, "\"k0\"");
    /* Both clients are back in database 0. */
    fill(f->source, 0, "zero", 1);
    struct server_facts facts;
    assert_int_equal(facts_read(f->source, &facts, &f->err), 0);
    assert_int_equal(facts_keys(&facts, 0), 1);
    facts_release(&facts);
}

/* Long, binary and empty names; pages shrink instead of growing beyond the client's limit. */
static void test_odd_keys(void **state)
{
    struct fixture *f = *state;
    size_t n = 300000;
    char *key = malloc(n);
    memset(key, 'x', n);
    struct reply *r = NULL;
    for (int i = 0; i < 60; i++) {
        key[0] = (char)i;
        struct span argv[3] = {span_str("SET"), span_of(key, i ? n : 0), span_str("v")};
        assert_int_equal(client_callv(f->source, &r, 3, argv, &f->err), 0);
        reply_free(r);
        assert_int_equal(client_callv(f->target, &r, 3, argv, &f->err), 0);
        reply_free(r);
    }
    free(key);
    assert_int_equal(run(f), 0);
    assert_int_equal(f->report.collisions, 60);
    struct err err = {0};
    check_conflict_err(&f->report, "target", &err);
    assert_true(has(err.msg, "or empty the target")); /* the advice was not cut off */
}

static void test_no_right_to_scan(void **state)
{
    struct fixture *f = *state;
    fill(f->source, 0, "k", 3);
    fill(f->target, 0, "k", 30);
    live_do(f->source, "ACL SETUSER app on >pw ~* +@all -scan");
    live_do(f->source, "AUTH app pw");
    assert_int_equal(run(f), -1);
    assert_int_equal(f->err.code, ERR_PERM);
    assert_true(has(f->err.msg, "+scan"));
    assert_int_equal(f->report.collisions, 99); /* untouched on failure */
}

/* A source that tells the same key over and over, and cursors that are none. */
static void test_hostile(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *scan;
        enum err_code code;
    } cases[] = {
        {"*2\r\n$1\r\n0\r\n*3\r\n$2\r\nk0\r\n$2\r\nk0\r\n$2\r\nk0\r\n", ERR_NONE},
        {"*2\r\n$1\r\nx\r\n*0\r\n", ERR_PROTO},
        {"*2\r\n$30\r\n123456789012345678901234567890\r\n*0\r\n", ERR_PROTO},
        {"*2\r\n$1\r\n0\r\n*1\r\n*1\r\n$2\r\nk0\r\n", ERR_PROTO},
        {"*1\r\n$1\r\n0\r\n", ERR_PROTO},
        {"$1\r\n0\r\n", ERR_PROTO},
        {"*0\r\n", ERR_PROTO},
    };
    fill(f->target, 0, "k", 30);
    struct facts_db db = {.db = 0, .keys = 3};
    struct server_facts facts = {.db = &db, .n_db = 1};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct fake_step rules[] = {{.expect = "PING", .reply = "+PONG\r\n"},
                                          {.expect = "DBSIZE", .reply = ":3\r\n"},
                                          {.expect = "SCAN", .reply = cases[i].scan}};
        struct fake_server s;
        FAKE_RULES(&s, rules);
        struct client_config cfg = fake_config(&s, "source");
        struct client *c = NULL;
        struct err err = {0};
        assert_int_equal(client_open(&c, &cfg, &err), 0);
        int rc = check_conflicts(c, &(struct primaries){.one = f->target}, &facts, f->select,
                                 &f->report, &err);
        assert_int_equal(rc, cases[i].code ? -1 : 0);
        assert_int_equal(err.code, cases[i].code);
        if (rc == 0) assert_int_equal(f->report.collisions, 1); /* told thrice, counted once */
        client_close(c);
        fake_stop(&s);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_none),     T(test_some),
        T(test_many),     T(test_selection_and_map),
        T(test_odd_keys), T(test_no_right_to_scan),
        T(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
