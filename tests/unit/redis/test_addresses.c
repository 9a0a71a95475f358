// SPDX-License-Identifier: BSD-3-Clause
// A URI with several addresses: which server is taken, and what is said when none is there.
#include "base/clock.h"
#include "live_server.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

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

/* Open by these ports; which address it was, or -1. */
static int opened(int port0, int port1, unsigned only, struct err *err)
{
    char text[100];
    struct uri uri;
    snprintf(text, sizeof(text), "redis://:pw@127.0.0.1:%d,127.0.0.1:%d/3", port0, port1);
    assert_int_equal(uri_parse(&uri, text, err), 0);
    struct client_config cfg = {.uri = &uri,
                                .connect_timeout_ms = 500,
                                .io_timeout_ms = 10000,
                                .side = "source",
                                .only_address = only};
    struct client *c;
    int rc = client_open(&c, &cfg, err);
    if (rc == 0) {
        char port[16];
        rc = (int)client_address(c);
        snprintf(port, sizeof(port), ":%d/3", rc == 1 ? port0 : port1);
        assert_true(has(client_name(c), port));
        assert_null(strchr(client_name(c), ','));
        live_do(c, "PING");
        client_close(c);
    }
    uri_release(&uri);
    return rc;
}

static void replicate(struct live_server *s, const struct live_server *primary)
{
    char words[60];
    struct client *c = live_client(s, "target");
    snprintf(words, sizeof(words), "REPLICAOF 127.0.0.1 %d", primary->port);
    live_do(c, words);
    client_close(c);
}

static void first_that_is_there(void **state)
{
    (void)state;
    struct live_server s;
    struct err err;
    live_start(&s, true, NULL);
    int none = live_free_port();
    assert_int_equal(opened(none, s.port, 0, &err), 2);
    assert_int_equal(opened(s.port, none, 0, &err), 1);
    assert_int_equal(opened(s.port, s.port, 0, &err), 1);
    assert_int_equal(opened(s.port, s.port, 2, &err), 2);
    assert_int_equal(opened(none, s.port, 1, &err), -1);
    assert_int_equal(err.code, ERR_NET);
    live_stop(&s);
}

static void the_primary(void **state)
{
    (void)state;
    struct live_server a, b;
    struct err err;
    live_start(&a, true, NULL);
    live_start(&b, true, NULL);
    replicate(&a, &b);
    assert_int_equal(opened(a.port, b.port, 0, &err), 2);
    assert_int_equal(opened(b.port, a.port, 0, &err), 1);
    replicate(&b, &a); /* each of the other: none is one */
    assert_int_equal(opened(a.port, b.port, 0, &err), 1);
    live_stop(&b);
    assert_int_equal(opened(b.port, a.port, 0, &err), 2);
    live_stop(&a);
}

/* It takes the connection, for the kernel does, and then says nothing. */
static void one_that_hangs(void **state)
{
    (void)state;
    struct live_server a, b;
    struct err err;
    live_start(&a, true, NULL);
    live_start(&b, true, NULL);
    kill(a.pid, SIGSTOP);
    int64_t begin = clock_mono_ms();
    assert_int_equal(opened(a.port, b.port, 0, &err), 2);
    assert_in_range(clock_mono_ms() - begin, 400, 3000);
    kill(a.pid, SIGCONT);
    live_stop(&a);
    live_stop(&b);
}

static void none_of_them(void **state)
{
    (void)state;
    struct live_server s;
    struct err err;
    char port[16];
    int none = live_free_port();
    live_start(&s, true, (const char *const[]){"--requirepass", "right", NULL});
    for (int i = 0; i < 2; i++) {
        assert_int_equal(i ? opened(none, s.port, 0, &err) : opened(s.port, none, 0, &err), -1);
        assert_int_equal(err.code, ERR_AUTH); /* a person can do something about that one */
        assert_true(has(err.msg, "WRONGPASS") && has(err.msg, "connection refused"));
        snprintf(port, sizeof(port), ":%d", none);
        assert_true(has(err.msg, port));
        snprintf(port, sizeof(port), ":%d", s.port);
        assert_true(has(err.msg, port));
    }
    live_stop(&s);
}

static void stopped(void **state)
{
    (void)state;
    struct uri uri;
    struct err err;
    atomic_bool stop = true;
    struct client *c;
    assert_int_equal(uri_parse(&uri, "redis://127.0.0.1:1,127.0.0.1:2", &err), 0);
    struct live_server s;
    live_start(&s, true, NULL);
    snprintf(uri.port, sizeof(uri.port), "%d", s.port);
    struct client_config cfg = {.uri = &uri, .side = "source", .stop = &stop};
    assert_int_equal(client_open(&c, &cfg, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    uri_release(&uri);
    live_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_that_is_there),
        cmocka_unit_test(the_primary),
        cmocka_unit_test(one_that_hangs),
        cmocka_unit_test(none_of_them),
        cmocka_unit_test(stopped),
    };
    return cmocka_run_group_tests_name("addresses", tests, NULL, NULL);
}
