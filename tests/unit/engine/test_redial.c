// SPDX-License-Identifier: BSD-3-Clause
// redial: real servers that come late, go and come again, at another address, as something else.
#include "engine/redial.h"

#include "base/clock.h"
#include "redis/live_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND 1000

struct fixture {
    struct task_side side;
    struct redial_config cfg;
    struct redial *d;
    struct redial_result got;
    atomic_bool stop;
    struct err err;
};

static struct fixture *fixture(const char *name, const char *uri)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    if (uri_parse(&f->side.uri, uri, &f->err) < 0) fail_msg("%s", f->err.msg);
    f->cfg = (struct redial_config){.side = &f->side,
                                    .name = name,
                                    .stop = &f->stop,
                                    .connect_timeout_ms = SECOND,
                                    .io_timeout_ms = 5 * SECOND,
                                    .give_up_ms = 30 * SECOND,
                                    .primary = strcmp(name, "target") == 0};
    return f;
}

static void start(struct fixture *f)
{
    if (redial_start(&f->d, &f->cfg, &f->err) < 0) fail_msg("%s", f->err.msg);
}

static void release_got(struct redial_result *r)
{
    client_close(r->client);
    client_close(r->probe);
    psync_release(&r->psync);
    facts_release(&r->facts);
    *r = (struct redial_result){0};
}

static void finish(struct fixture *f)
{
    redial_free(f->d);
    release_got(&f->got);
    uri_release(&f->side.uri);
    free(f);
}

static int poll_for(struct fixture *f, int ms)
{
    int rc;
    for (int64_t end = clock_mono_ms() + ms; (rc = redial_poll(f->d, &f->got, &f->err)) == 0;) {
        if (clock_mono_ms() > end) return 0;
        usleep(5000);
    }
    return rc;
}

/* It gets through, and what it gives can be used. */
static void reaches(struct fixture *f)
{
    if (poll_for(f, 20 * SECOND) != 1) fail_msg("%s", f->err.msg);
    redial_free(f->d);
    f->d = NULL;
    if (f->got.client) live_do(f->got.client, "PING");
    if (f->got.probe) live_do(f->got.probe, "PING");
}

/* Wait until the reason has this in it. */
static void says(struct fixture *f, const char *words)
{
    char why[600] = "";
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(redial_poll(f->d, &f->got, &f->err), 0);
        if (strstr(redial_why(f->d, why, sizeof(why)), words)) return;
        usleep(10000);
    }
    fail_msg("\"%s\" lacks \"%s\"", why, words);
}

static const char *at(char text[100], int port0, int port1)
{
    snprintf(text, 100, "redis://127.0.0.1:%d%s", port0, "");
    if (port1) snprintf(text, 100, "redis://127.0.0.1:%d,127.0.0.1:%d", port0, port1);
    return text;
}

static void started_late(void **state)
{
    (void)state;
    char text[100], number[16];
    int port = live_free_port();
    struct fixture *f = fixture("target", at(text, port, 0));
    struct live_server s;
    start(f);
    says(f, "connection refused");
    snprintf(number, sizeof(number), "%d", port);
    live_start(&s, false, (const char *const[]){"--port", number, NULL});
    reaches(f);
    assert_int_equal(f->got.facts.role, FACTS_PRIMARY);
    assert_null(f->got.probe);
    assert_null(f->got.psync.conn);
    finish(f);
    live_stop(&s);
}

/* Gone, and back at the second address. */
static void at_the_other_address(void **state)
{
    (void)state;
    char text[100], number[16];
    struct live_server s;
    live_start(&s, true, NULL);
    int other = live_free_port();
    struct fixture *f = fixture("target", at(text, s.port, other));
    start(f);
    reaches(f);
    assert_int_equal(client_address(f->got.client), 1);
    release_got(&f->got);
    live_stop(&s);
    start(f);
    says(f, "connection refused");
    snprintf(number, sizeof(number), "%d", other);
    live_start(&s, false, (const char *const[]){"--port", number, NULL});
    reaches(f);
    assert_int_equal(client_address(f->got.client), 2);
    finish(f);
    live_stop(&s);
}

/* A target that has become a replica is waited for until it is promoted. */
static void a_replica_is_promoted(void **state)
{
    (void)state;
    struct live_server s;
    char text[100];
    live_start(&s, true, NULL);
    struct client *c = live_client(&s, "target");
    live_do(c, "REPLICAOF 127.0.0.1 1");
    struct fixture *f = fixture("target", at(text, s.port, 0));
    start(f);
    says(f, "replica");
    live_do(c, "REPLICAOF NO ONE");
    reaches(f);
    client_close(c);
    finish(f);
    live_stop(&s);
}

static struct psync_request request(const char *replid, uint64_t offset)
{
    return (struct psync_request){
        .replid = replid, .offset = offset, .silence_ms = 5 * SECOND, .retry_ms = 5 * SECOND};
}

/* The stream goes on where it was, a second connection leads to the same server. */
static void a_source_goes_on(void **state)
{
    (void)state;
    struct live_server s;
    char text[100], replid[41] = "";
    live_start(&s, true, (const char *const[]){"--repl-diskless-sync-delay", "0", NULL});
    int none = live_free_port();
    struct fixture *f = fixture("source", at(text, none, s.port));
    struct psync_request req = request(NULL, 0);
    f->cfg.psync = &req;
    start(f);
    reaches(f);
    assert_int_equal(f->got.psync.kind, PSYNC_FULL);
    assert_null(f->got.client);
    assert_int_equal(client_address(f->got.probe), 2);
    snprintf(replid, sizeof(replid), "%s", f->got.psync.replid);
    uint64_t offset = f->got.psync.offset;
    release_got(&f->got);

    req = request(replid, offset);
    start(f);
    memset(&req, 0xff, sizeof(req)); /* it was copied, the id too */
    memset(replid, 'x', 40);
    reaches(f);
    assert_int_equal(f->got.psync.kind, PSYNC_CONTINUE);
    assert_int_equal(f->got.psync.offset, offset);
    release_got(&f->got);

    char other[41] = "0123456789012345678901234567890123456789";
    req = request(other, offset);
    start(f);
    reaches(f);
    assert_int_equal(f->got.psync.kind, PSYNC_FULL); /* told, not hidden: there is a hole */
    finish(f);
    live_stop(&s);
}

static void gives_up(void **state)
{
    (void)state;
    char text[100];
    struct fixture *f = fixture("target", at(text, live_free_port(), 0));
    f->cfg.give_up_ms = 700;
    int64_t begin = clock_mono_ms();
    start(f);
    assert_int_equal(poll_for(f, 20 * SECOND), -1);
    assert_in_range(clock_mono_ms() - begin, 600, 5 * SECOND);
    assert_int_equal(f->err.code, ERR_NET);
    assert_non_null(strstr(f->err.msg, "connection refused"));
    assert_non_null(strstr(f->err.msg, "--retry-time"));
    assert_int_equal(redial_poll(f->d, &f->got, &f->err), -1); /* and stays so */
    finish(f);
}

/* A wrong password may be being changed right now. */
static void a_password_heals(void **state)
{
    (void)state;
    struct live_server s;
    char text[100], pw[] = "right";
    live_start(&s, true, (const char *const[]){"--requirepass", "right", NULL});
    struct client_config cfg = live_config(&s, "target");
    cfg.password = pw;
    struct client *c;
    struct err err;
    assert_int_equal(client_open(&c, &cfg, &err), 0);
    struct fixture *f = fixture("target", at(text, s.port, 0));
    char new_pw[] = "new";
    f->side.password = new_pw;
    start(f);
    says(f, "WRONGPASS");
    live_do(c, "CONFIG SET requirepass new");
    reaches(f);
    client_close(c);
    finish(f);
    live_stop(&s);
}

static void stopped(void **state)
{
    (void)state;
    char text[100];
    struct fixture *f = fixture("source", at(text, live_free_port(), 0));
    start(f);
    says(f, "connection refused");
    f->stop = true;
    assert_int_equal(poll_for(f, 5 * SECOND), -1);
    assert_int_equal(f->err.code, ERR_STOPPED);
    finish(f);
}

/* At any moment, also one in which it has just got through: nothing is left open. */
static void left_at_any_moment(void **state)
{
    (void)state;
    struct live_server s;
    char text[100];
    live_start(&s, true, (const char *const[]){"--repl-diskless-sync-delay", "0", NULL});
    struct client *c = live_client(&s, "target");
    for (int i = 0; i < 30; i++) {
        struct fixture *f = fixture("source", at(text, s.port, i % 2 ? 1 : 0));
        struct psync_request req = request(NULL, 0);
        if (i % 3) f->cfg.psync = &req;
        start(f);
        usleep((useconds_t)(i * 300));
        if (i % 5 == 0) kill(s.pid, SIGSTOP);
        if (i % 5 == 0) usleep(20000);
        finish(f);
        if (i % 5 == 0) kill(s.pid, SIGCONT);
    }
    redial_free(NULL);
    for (int i = 0;; i++) {
        struct reply *r;
        struct err err;
        assert_int_equal(client_ask(c, &r, &err, "INFO", "clients", NULL), 0);
        bool alone = strstr((const char *)r->str.p, "connected_clients:1\r") != NULL;
        reply_free(r);
        if (alone) break;
        assert_true(i < 500);
        usleep(10000);
    }
    client_close(c);
    live_stop(&s);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(started_late),
        cmocka_unit_test(at_the_other_address),
        cmocka_unit_test(a_replica_is_promoted),
        cmocka_unit_test(a_source_goes_on),
        cmocka_unit_test(gives_up),
        cmocka_unit_test(a_password_heals),
        cmocka_unit_test(stopped),
        cmocka_unit_test(left_at_any_moment),
    };
    return cmocka_run_group_tests_name("redial", tests, NULL, NULL);
}
