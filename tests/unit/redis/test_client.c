// SPDX-License-Identifier: BSD-3-Clause
// The client against a scripted server: log-in, refusals in words, pipelining, time-outs, stopping.
#include "base/clock.h"
#include "fake_server.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PONG                                                                                       \
    {                                                                                              \
        "PING", "+PONG\r\n", 0, 0, false, false                                                    \
    }

static bool has(const char *text, const char *part)
{
    if (strstr(text, part)) return true;
    print_error("\"%s\" lacks \"%s\"\n", text, part);
    return false;
}

/* Open against one scripted conversation; the words of the error at err. */
static int open_once(const struct fake_step *steps, size_t n, char *user, char *password,
                     const char *config_password, struct err *err)
{
    struct fake_server s;
    fake_start(&s, steps, n, false);
    s.uri.user = user;
    s.uri.password = password;
    struct client_config cfg = fake_config(&s, "target");
    cfg.password = config_password;
    struct client *c = NULL;
    int rc = client_open(&c, &cfg, err);
    client_close(c);
    fake_stop(&s);
    return rc;
}

static void test_log_in(void **state)
{
    (void)state;
    struct err err = {0};
    char user[] = "app", password[] = "from uri";
    const struct fake_step none[] = {PONG};
    assert_int_equal(open_once(none, 1, NULL, NULL, NULL, &err), 0);
    const struct fake_step old[] = {{.expect = "AUTH from uri", .reply = "+OK\r\n"}, PONG};
    assert_int_equal(open_once(old, 2, NULL, password, NULL, &err), 0);
    const struct fake_step acl[] = {{.expect = "AUTH app from file", .reply = "+OK\r\n"}, PONG};
    assert_int_equal(open_once(acl, 2, user, password, "from file", &err), 0);
}

static void test_password_not_needed(void **state)
{
    (void)state;
    static const char *const words[] = {
        "-ERR Client sent AUTH, but no password is set\r\n",
        "-ERR AUTH <password> called without any password configured for the default user. Are you "
        "sure your configuration is correct?\r\n",
    };
    for (size_t i = 0; i < 2; i++) {
        const struct fake_step steps[] = {{.expect = "AUTH", .reply = words[i]}, PONG};
        struct err err = {0};
        assert_int_equal(open_once(steps, 2, NULL, NULL, "x", &err), 0);
    }
}

static void test_log_in_refused(void **state)
{
    (void)state;
    char user[] = "app";
    static const struct {
        const char *reply;
        bool with_user;
        enum err_code code;
        const char *words;
    } cases[] = {
        {"-WRONGPASS invalid username-password pair or user is disabled.\r\n", true, ERR_AUTH,
         "target fake: wrong password for user app (WRONGPASS"},
        {"-ERR invalid password\r\n", false, ERR_AUTH, "check --target-password-file"},
        {"-ERR wrong number of arguments for 'auth' command\r\n", true, ERR_AUTH,
         "leave the user out"},
        {"-LOADING Redis is loading the dataset in memory\r\n", false, ERR_BUSY, "loading"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct fake_step steps[] = {{.expect = "AUTH", .reply = cases[i].reply}};
        struct err err = {0};
        assert_int_equal(
            open_once(steps, 1, cases[i].with_user ? user : NULL, NULL, "s3cret", &err), -1);
        assert_int_equal(err.code, cases[i].code);
        assert_true(has(err.msg, cases[i].words));
        assert_null(strstr(err.msg, "s3cret"));
    }
}

static void test_ping_refused(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        enum err_code code; /* NONE: well */
        const char *words;
    } cases[] = {
        {"-NOAUTH Authentication required.\r\n", ERR_AUTH,
         "target fake: needs a password: give it with --target-password-file or in "
         "KEYHAUL_TARGET_PASSWORD"},
        {"-ERR operation not permitted\r\n", ERR_AUTH, "needs a password"},
        {"-DENIED Redis is running in protected mode because ...\r\n", ERR_PERM, "protected mode"},
        {"-ERR max number of clients reached\r\n", ERR_BUSY, "maxclients"},
        {"-NOPERM this user has no permissions to run the 'ping' command\r\n", ERR_NONE, ""},
        {"-LOADING Redis is loading the dataset in memory\r\n", ERR_NONE, ""},
        {"-MASTERDOWN Link with MASTER is down\r\n", ERR_NONE, ""},
        {"+HELLO\r\n", ERR_PROTO, "does not answer as a Redis server"},
        {"HTTP/1.1 400 Bad Request\r\n", ERR_PROTO, "not a reply of a Redis server"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct fake_step steps[] = {{.expect = "PING", .reply = cases[i].reply}};
        struct err err = {0};
        int rc = open_once(steps, 1, NULL, NULL, NULL, &err);
        assert_int_equal(rc, cases[i].code ? -1 : 0);
        assert_int_equal(err.code, cases[i].code);
        assert_true(has(err.msg, cases[i].words));
    }
}

static void test_hang_up(void **state)
{
    (void)state;
    const struct fake_step steps[] = {{.expect = "PING", .hang_up = true}};
    struct err err = {0};
    assert_int_equal(open_once(steps, 1, NULL, NULL, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NET);
    assert_true(has(err.msg, "target fake: connection closed"));
}

static void test_no_server(void **state)
{
    (void)state;
    char path[] = "/tmp/kh-no-such-socket";
    struct uri u = {.unix_path = path, .shown = "unix:///nowhere"};
    struct client_config cfg = {.uri = &u, .side = "source", .connect_timeout_ms = 500};
    struct client *c = NULL;
    struct err err = {0};
    assert_int_equal(client_open(&c, &cfg, &err), -1);
    assert_int_equal(err.code, ERR_NET);
    assert_true(has(err.msg, "source: /tmp/kh-no-such-socket"));
    assert_null(c);
}

static struct client *open_fake(struct fake_server *s, const struct fake_step *steps, size_t n)
{
    fake_start(s, steps, n, false);
    struct client_config cfg = fake_config(s, "source");
    struct client *c = NULL;
    struct err err = {0};
    if (client_open(&c, &cfg, &err) < 0) fail_msg("%s", err.msg);
    return c;
}
#define OPEN(s, steps) open_fake(s, steps, sizeof(steps) / sizeof((steps)[0]))

static void test_starved_calls(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        {.expect = "GET a", .reply = "$3\r\nx\0y\r\n", .n = 9, .starve = true},
        {.expect = "KEYS *", .reply = "*2\r\n$1\r\na\r\n*1\r\n:7\r\n", .starve = true},
        {.expect = "GET b", .reply = "-WRONGTYPE no\r\n", .starve = true},
    };
    struct fake_server s;
    struct client *c = OPEN(&s, steps);
    struct reply *r = NULL;
    struct err err = {0};
    assert_int_equal(client_call(c, &r, &err, "GET", "a", NULL), 0);
    assert_int_equal(r->str.n, 3);
    assert_memory_equal(r->str.p, "x\0y", 3);
    reply_free(r);
    assert_int_equal(client_call(c, &r, &err, "KEYS", "*", NULL), 0);
    assert_int_equal(reply_at(reply_at(r, 1), 0)->integer, 7);
    reply_free(r);
    assert_int_equal(client_ask(c, &r, &err, "GET", "b", NULL), -1);
    assert_int_equal(err.code, ERR_SOURCE);
    assert_true(has(err.msg, "source fake: GET was refused (WRONGTYPE no)"));
    client_close(c);
    fake_stop(&s);
}

static void test_pipelining(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        {.expect = "GET 1"},
        {.expect = "GET 2"},
        /* All in one packet, and the first half of the last apart. */
        {.expect = "GET 3", .reply = "$1\r\na\r\n$1\r\nb\r\n$1"},
        {.reply = "\r\nc\r\n", .delay_ms = 20},
    };
    struct fake_server s;
    struct client *c = OPEN(&s, steps);
    struct err err = {0};
    assert_int_equal(client_send(c, &err, "GET", "1", NULL), 0);
    assert_int_equal(client_send(c, &err, "GET", "2", NULL), 0);
    assert_int_equal(client_send(c, &err, "GET", "3", NULL), 0);
    assert_int_equal(client_due(c), 3);
    struct conn *conn = NULL;
    assert_int_equal(client_take_conn(c, &conn, &err), -1); /* replies are due */
    assert_int_equal(err.code, ERR_INTERNAL);
    for (int i = 0; i < 3; i++) {
        struct reply *r = NULL;
        assert_int_equal(client_recv(c, &r, &err), 0);
        assert_int_equal(r->str.p[0], 'a' + i);
        reply_free(r);
    }
    struct reply *none = NULL;
    assert_int_equal(client_recv(c, &none, &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(client_take_conn(c, &conn, &err), 0);
    conn_close(conn);
    fake_stop(&s);
}

static void test_select(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        {.expect = "SELECT 3", .reply = "+OK\r\n"},
        {.expect = "SELECT 99", .reply = "-ERR DB index is out of range\r\n"},
        {.expect = "SELECT 4",
         .reply = "-NOPERM this user has no permissions to run the 'select' command\r\n"},
    };
    struct fake_server s;
    struct client *c = OPEN(&s, steps);
    struct err err = {0};
    assert_int_equal(client_select(c, 0, &err), 0); /* selected already: nothing sent */
    assert_int_equal(client_select(c, 3, &err), 0);
    assert_int_equal(client_select(c, 3, &err), 0);
    assert_int_equal(client_select(c, 99, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(client_select(c, 4, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_true(has(err.msg, "ACL SETUSER default +select"));
    client_close(c);
    fake_stop(&s);
}

/* A string of 3 MB out and in: more than any socket buffer, so both loops have to wait. */
static void test_large(void **state)
{
    (void)state;
    size_t n = 3u << 20;
    char *reply = malloc(n + 32);
    int head = snprintf(reply, 32, "$%zu\r\n", n);
    memset(reply + head, 'r', n);
    memcpy(reply + head + n, "\r\n", 2);
    const struct fake_step steps[] = {
        PONG, {.expect = "ECHO", .reply = reply, .n = (size_t)head + n + 2, .delay_ms = 30}};
    struct fake_server s;
    struct client *c = OPEN(&s, steps);
    struct reply *r = NULL;
    struct err err = {0};
    struct span argv[2] = {span_str("ECHO"), span_of(reply + head, n)};
    assert_int_equal(client_callv(c, &r, 2, argv, &err), 0);
    assert_int_equal(r->str.n, n);
    reply_free(r);
    client_close(c);
    fake_stop(&s);
    free(reply);
}

static void test_too_large(void **state)
{
    (void)state;
    const struct fake_step steps[] = {PONG, {.expect = "GET", .reply = "$999999999\r\nabc"}};
    struct fake_server s;
    struct client *c = OPEN(&s, steps);
    struct reply *r = NULL;
    struct err err = {0};
    assert_int_equal(client_call(c, &r, &err, "GET", "x", NULL), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    client_close(c);
    fake_stop(&s);
}

static void test_silence(void **state)
{
    (void)state;
    /* Slow, but never silent for long: well. Then silent: an error after the time-out. */
    const struct fake_step steps[] = {PONG,
                                      {.expect = "GET x", .reply = "$2\r\n", .delay_ms = 150},
                                      {.reply = "ab", .delay_ms = 150},
                                      {.reply = "\r\n", .delay_ms = 150},
                                      {.expect = "GET y", .reply = "$2\r\na"}};
    struct fake_server s;
    fake_start(&s, steps, 5, false);
    struct client_config cfg = fake_config(&s, "source");
    cfg.io_timeout_ms = 300;
    struct client *c = NULL;
    struct reply *r = NULL;
    struct err err = {0};
    assert_int_equal(client_open(&c, &cfg, &err), 0);
    assert_int_equal(client_call(c, &r, &err, "GET", "x", NULL), 0);
    reply_free(r);
    int64_t t = clock_mono_ms();
    assert_int_equal(client_call(c, &r, &err, "GET", "y", NULL), -1);
    t = clock_mono_ms() - t;
    assert_int_equal(err.code, ERR_NET);
    assert_true(has(err.msg, "source fake: nothing heard for 300 ms"));
    assert_in_range(t, 290, 1500);
    client_close(c);
    fake_stop(&s);
}

static atomic_bool stop_flag;

static void on_alarm(int sig)
{
    (void)sig;
    stop_flag = true;
}

static void test_stop(void **state)
{
    (void)state;
    const struct fake_step steps[] = {PONG, {.expect = "GET x"}};
    struct fake_server s;
    fake_start(&s, steps, 2, false);
    struct client_config cfg = fake_config(&s, "source");
    cfg.io_timeout_ms = 10000;
    cfg.stop = &stop_flag;
    stop_flag = false;
    struct client *c = NULL;
    struct reply *r = NULL;
    struct err err = {0};
    assert_int_equal(client_open(&c, &cfg, &err), 0);
    signal(SIGALRM, on_alarm);
    ualarm(100000, 0);
    int64_t began = clock_mono_ms();
    assert_int_equal(client_call(c, &r, &err, "GET", "x", NULL), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_true(clock_mono_ms() - began < 2000);
    signal(SIGALRM, SIG_DFL);
    client_close(c);
    fake_stop(&s);
}

/* The table of refusals, by the words of real servers of each age. */
static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        enum err_code code;
        const char *advice;
    } cases[] = {
        {"NOPERM this user has no permissions to run the 'restore' command or its subcommand",
         ERR_PERM, "ACL SETUSER app +restore"},
        {"NOPERM this user has no permissions to run the 'restore' command", ERR_PERM, "+restore"},
        {"NOPERM User app has no permissions to run the 'restore' command", ERR_PERM, "+restore"},
        {"NOPERM this user has no permissions to access one of the keys used as arguments",
         ERR_PERM, "ACL SETUSER app ~*"},
        {"NOPERM No permissions to access a key", ERR_PERM, "ACL SETUSER app ~*"},
        {"NOPERM this user has no permissions to access one of the channels used as arguments",
         ERR_PERM, "ACL SETUSER app &*"},
        {"READONLY You can't write against a read only replica.", ERR_REFUSED, "replica"},
        {"OOM command not allowed when used memory > 'maxmemory'.", ERR_BUSY, "maxmemory"},
        {"MISCONF Redis is configured to save RDB snapshots", ERR_BUSY, "disk"},
        {"BUSY Redis is busy running a script.", ERR_BUSY, "SCRIPT KILL"},
        {"BUSYKEY Target key name already exists.", ERR_TARGET, "was refused"},
        {"ERR unknown command 'RESTORE', with args beginning with: ", ERR_TARGET, "does not offer"},
        {"ERR something else", ERR_TARGET, "was refused (ERR something else)"},
        {"", ERR_TARGET, "was refused"},
    };
    struct peer p;
    peer_init(&p, "target", "redis://t:1", "app");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {0};
        assert_int_equal(peer_refused(&p, "RESTORE", cases[i].words, &err), -1);
        if (err.code != cases[i].code) fail_msg("%s: code %d", cases[i].words, (int)err.code);
        assert_true(has(err.msg, cases[i].advice));
        assert_true(has(err.msg, "target redis://t:1: "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_in),         cmocka_unit_test(test_password_not_needed),
        cmocka_unit_test(test_log_in_refused), cmocka_unit_test(test_ping_refused),
        cmocka_unit_test(test_hang_up),        cmocka_unit_test(test_no_server),
        cmocka_unit_test(test_starved_calls),  cmocka_unit_test(test_pipelining),
        cmocka_unit_test(test_select),         cmocka_unit_test(test_large),
        cmocka_unit_test(test_too_large),      cmocka_unit_test(test_silence),
        cmocka_unit_test(test_stop),           cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
