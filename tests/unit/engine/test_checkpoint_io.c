// SPDX-License-Identifier: BSD-3-Clause
// checkpoint_io: taking a task over, and noticing that somebody else has.
#include "engine/checkpoint_io.h"

#include "redis/fake_server.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OK         "+OK\r\n"
#define HAS(owner) "$18\r\n1 loading " owner "\r\n"
#define NONE       "$-1\r\n"
#define SET(owner) "SET ck 1 loading " owner
#define TO(c, r)                                                                                   \
    {                                                                                              \
        .expect = c, .reply = r                                                                    \
    }
#define QUEUED  "+QUEUED\r\n"
#define ABORTED "-EXECABORT Transaction discarded because of previous errors.\r\n"

struct fixture {
    struct fake_server s;
    struct client *c;
    struct checkpoint at;
    char owner[9];
    struct err err;
};

static void setup(struct fixture *f, const struct fake_step *step, size_t n, const char *owner)
{
    static struct fake_step all[24];
    memset(f, 0, sizeof(*f));
    memset(all, 0, sizeof(all));
    all[0] = (struct fake_step){.expect = "PING", .reply = "+PONG\r\n"};
    memcpy(all + 1, step, n * sizeof(*all));
    fake_start(&f->s, all, n + 1, false);
    struct client_config cfg = fake_config(&f->s, "target");
    assert_int_equal(client_open(&f->c, &cfg, &f->err), 0);
    snprintf(f->owner, sizeof(f->owner), "%s", owner);
}

static void teardown(struct fixture *f)
{
    client_close(f->c);
    fake_stop(&f->s);
}

#define SETUP(f, steps, owner) setup(f, steps, sizeof(steps) / sizeof((steps)[0]), owner)

static int claim(struct fixture *f, bool began)
{
    return checkpoint_claim(f->c, 0, span_str("ck"), f->owner, began, &f->at, &f->err);
}

static int replace(struct fixture *f, bool is_new)
{
    struct checkpoint to = {.kind = CHECKPOINT_LOADING};
    memcpy(to.owner, f->owner, sizeof(to.owner));
    return checkpoint_replace(f->c, 0, span_str("ck"), &to, is_new, &f->err);
}

/* --- claim --- */

static void nothing_there(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_step steps[] = {TO("WATCH ck", OK), TO("GET ck", NONE),
                                             TO("UNWATCH", OK)};
    SETUP(&f, steps, "00000000");
    assert_int_equal(claim(&f, false), 0);
    assert_int_equal(f.at.kind, CHECKPOINT_NONE);
    assert_string_equal(f.owner, "00000001");
    teardown(&f);
}

/* In one step: who writes between reading and writing is met again, and outnumbered. */
static void taken_over_whole(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_step steps[] = {
        TO("WATCH ck", OK),          TO("GET ck", HAS("00000005")), TO("MULTI", OK),
        TO(SET("00000006"), QUEUED), TO("EXEC", "*-1\r\n"), /* he has written */
        TO("WATCH ck", OK),          TO("GET ck", HAS("0000000f")), TO("MULTI", OK),
        TO(SET("00000010"), QUEUED), TO("EXEC", "*1\r\n+OK\r\n")};
    SETUP(&f, steps, "00000000");
    assert_int_equal(claim(&f, false), 0);
    assert_int_equal(f.at.kind, CHECKPOINT_LOADING);
    assert_string_equal(f.owner, "00000010");
    assert_string_equal(f.at.owner, f.owner);
    teardown(&f);
}

/* We have begun, and find a higher number: left as it is. */
static void replaced(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_step steps[] = {TO("WATCH ck", OK), TO("GET ck", HAS("00000007")),
                                             TO("UNWATCH", OK)};
    SETUP(&f, steps, "00000006");
    assert_int_equal(claim(&f, true), 0);
    assert_string_equal(f.owner, "00000006");
    assert_string_equal(f.at.owner, "00000007");
    teardown(&f);
}

/* A failover has lost our claim: it is made again. */
static void claim_lost(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_step steps[] = {TO("WATCH ck", OK), TO("GET ck", HAS("00000005")),
                                             TO("MULTI", OK), TO(SET("00000007"), QUEUED),
                                             TO("EXEC", "*1\r\n+OK\r\n")};
    SETUP(&f, steps, "00000006");
    assert_int_equal(claim(&f, true), 0);
    assert_string_equal(f.owner, "00000007");
    teardown(&f);
}

/* What passes is told as such, whatever it is wrapped in: the caller tries again. */
static void refused_in_passing(void **state)
{
    (void)state;
    static const struct {
        const char *set, *exec;
    } cases[] = {
        {"-OOM command not allowed\r\n", ABORTED},
        {"-READONLY You can't write against a read only replica.\r\n", ABORTED},
        {QUEUED, "-EXECABORT Transaction discarded because of: OOM command not allowed\r\n"},
        {QUEUED, "-EXECABORT Transaction discarded because of: READONLY You can't write\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        const struct fake_step steps[] = {TO("WATCH ck", OK), TO("GET ck", HAS("00000005")),
                                          TO("MULTI", OK), TO("SET ck", cases[i].set),
                                          TO("EXEC", cases[i].exec)};
        SETUP(&f, steps, "00000000");
        assert_int_equal(claim(&f, false), -1);
        if (f.err.code != ERR_BUSY) fail_msg("case %zu: %s", i, f.err.msg);
        assert_string_equal(f.owner, "00000000");
        teardown(&f);
    }
}

static void not_ours_to_read(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_step steps[] = {TO("WATCH ck", OK), TO("GET ck", "$5\r\nhello\r\n")};
    SETUP(&f, steps, "00000000");
    assert_int_equal(claim(&f, false), -1);
    assert_int_equal(f.err.code, ERR_FORMAT);
    teardown(&f);
}

/* --- replace --- */

static void ours_is_replaced(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_step steps[] = {TO("WATCH ck", OK), TO("GET ck", HAS("00000006")),
                                             TO("MULTI", OK), TO(SET("00000006"), QUEUED),
                                             TO("EXEC", "*1\r\n+OK\r\n")};
    SETUP(&f, steps, "00000006");
    assert_int_equal(replace(&f, false), 0);
    teardown(&f);
}

/* Another's, one that is there already, one that is gone, one written in between. */
static void others_are_not(void **state)
{
    (void)state;
    static const struct {
        const char *has;
        bool is_new;
    } cases[] = {{HAS("00000007"), false}, {HAS("00000006"), true}, {NONE, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        const struct fake_step steps[] = {TO("WATCH ck", OK), TO("GET ck", cases[i].has),
                                          TO("UNWATCH", OK)};
        SETUP(&f, steps, "00000006");
        assert_int_equal(replace(&f, cases[i].is_new), -1);
        assert_int_equal(f.err.code, ERR_REFUSED);
        teardown(&f);
    }
    struct fixture f;
    static const struct fake_step between[] = {TO("WATCH ck", OK), TO("GET ck", HAS("00000006")),
                                               TO("MULTI", OK), TO(SET("00000006"), QUEUED),
                                               TO("EXEC", "*-1\r\n")};
    SETUP(&f, between, "00000006");
    assert_int_equal(replace(&f, false), -1);
    assert_int_equal(f.err.code, ERR_REFUSED);
    teardown(&f);
}

/* In the lowest database that is moved to. */
static void which_database(void **state)
{
    (void)state;
    static const struct {
        const char *dbs, *map;
        int64_t db;
    } cases[] = {{NULL, NULL, 0}, {"3,5", NULL, 3}, {"3,5", "5:2", 2}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct db_select s;
        struct err err;
        assert_int_equal(db_select_parse(&s, cases[i].dbs, &err), 0);
        assert_int_equal(db_select_parse_map(&s, cases[i].map, &err), 0);
        assert_int_equal(checkpoint_db(&s), cases[i].db);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_there),      cmocka_unit_test(taken_over_whole),
        cmocka_unit_test(replaced),           cmocka_unit_test(claim_lost),
        cmocka_unit_test(refused_in_passing), cmocka_unit_test(not_ours_to_read),
        cmocka_unit_test(ours_is_replaced),   cmocka_unit_test(others_are_not),
        cmocka_unit_test(which_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
