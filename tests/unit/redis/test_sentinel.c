// SPDX-License-Identifier: BSD-3-Clause
// From Sentinels to the primary, and from the primary to a replica: on real ones.
#include "redis/sentinel.h"

#include "base/clock.h"
#include "base/num.h"
#include "live_server.h"
#include "redis/facts.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct guard { /* a Sentinel */
    char dir[32], conf[64];
    int port;
    pid_t pid;
};

struct set {
    struct live_server primary, replica;
    struct guard stale, right, locked;
};

static void write_conf(const struct guard *g, int port, const char *more)
{
    FILE *f = fopen(g->conf, "w");
    assert_non_null(f);
    fprintf(
        f,
        "port %d\nbind 127.0.0.1\ndir %s\nlogfile log\nsentinel monitor my-set 127.0.0.1 %d 5\n"
        "sentinel auth-pass my-set secret\nsentinel down-after-milliseconds my-set 600000\n%s\n",
        g->port, g->dir, port, more);
    assert_int_equal(fclose(f), 0);
}

static void wait_there(int port)
{
    char text[8];
    snprintf(text, sizeof(text), "%d", port);
    struct conn_addr addr = {.host = "127.0.0.1", .port = text, .connect_timeout_ms = 1000};
    struct conn *c;
    for (int i = 0; conn_open(&c, &addr, NULL, NULL) < 0; i++) {
        if (i == 500) fail_msg("nobody listens at %d", port);
        usleep(10000);
    }
    conn_close(c);
}

static void guard_start(struct guard *g, int port, const char *more)
{
    *g = (struct guard){.port = live_free_port(), .dir = "/tmp/kh-guard-XXXXXX"};
    assert_non_null(mkdtemp(g->dir));
    snprintf(g->conf, sizeof(g->conf), "%s/conf", g->dir);
    write_conf(g, port, more);
    g->pid = fork();
    assert_true(g->pid >= 0);
    if (g->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", g->conf, "--sentinel", NULL);
        _exit(127);
    }
    wait_there(g->port);
}

static void guard_stop(struct guard *g)
{
    char log[64];
    kill(g->pid, SIGKILL);
    waitpid(g->pid, NULL, 0);
    snprintf(log, sizeof(log), "%s/log", g->dir);
    unlink(log);
    unlink(g->conf);
    rmdir(g->dir);
}

static struct client *client_to(const struct live_server *s)
{
    struct client_config cfg = live_config(s, "source");
    cfg.password = "secret";
    struct client *c = NULL;
    assert_int_equal(client_open(&c, &cfg, NULL), 0);
    return c;
}

/* Both say so: the primary a second later, maybe. */
static void wait_linked(const struct live_server *primary)
{
    struct client *c = client_to(primary);
    for (int i = 0;; i++) {
        struct reply *r;
        assert_int_equal(client_ask(c, &r, NULL, "INFO", "replication", NULL), 0);
        bool online = strstr((const char *)r->str.p, "state=online");
        reply_free(r);
        if (online) break;
        if (i == 500) fail_msg("the replica does not follow");
        usleep(20000);
    }
    client_close(c);
}

static int start(void **state)
{
    struct set *k = calloc(1, sizeof(*k));
    const char *extra[] = {"--requirepass",
                           "secret",
                           "--masterauth",
                           "secret",
                           "--repl-diskless-sync-delay",
                           "0",
                           NULL};
    live_start(&k->primary, true, extra);
    live_start(&k->replica, true, extra);
    char words[64];
    snprintf(words, sizeof(words), "REPLICAOF 127.0.0.1 %d", k->primary.port);
    struct client *c = client_to(&k->replica);
    live_do(c, words);
    client_close(c);
    wait_linked(&k->primary);
    guard_start(&k->stale, k->replica.port, "");
    guard_start(&k->right, k->primary.port, "");
    guard_start(&k->locked, k->primary.port, "requirepass hidden");
    *state = k;
    return 0;
}

static int stop(void **state)
{
    struct set *k = *state;
    guard_stop(&k->stale);
    guard_stop(&k->right);
    guard_stop(&k->locked);
    live_stop(&k->replica);
    live_stop(&k->primary);
    free(k);
    return 0;
}

static int port_of(const struct client *c)
{
    int64_t port = 0;
    assert_true(num_get_i64(span_str(client_port(c)), &port));
    return (int)port;
}

/* client_open() by that URI: 0 and where it led, or -1. */
static int try_open(const char *text, const struct cluster_addresses *a, const char *password,
                    int *ret_port, struct err *err)
{
    struct uri uri;
    struct client *c;
    assert_int_equal(uri_parse(&uri, text, err), 0);
    struct client_config cfg = {.uri = &uri,
                                .connect_timeout_ms = 3000,
                                .io_timeout_ms = 10000,
                                .side = "source",
                                .sentinel_password = password,
                                .addresses = a};
    int rc = client_open(&c, &cfg, err);
    uri_release(&uri);
    if (rc < 0) return -1;
    *ret_port = port_of(c);
    live_do(c, "ROLE"); /* and we are logged in there */
    client_close(c);
    return 0;
}

static void leads_to(const char *text, const char *password, int port)
{
    int got = 0;
    struct err err = {0};
    if (try_open(text, NULL, password, &got, &err) < 0) fail_msg("%s: %s", text, err.msg);
    assert_int_equal(got, port);
}

static void fails(const char *text, enum err_code code, const char *words)
{
    int got = 0;
    struct err err = {0};
    if (try_open(text, NULL, NULL, &got, &err) == 0) fail_msg("%s led to %d", text, got);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, words)) fail_msg("%s: %s", text, err.msg);
    assert_null(strstr(err.msg, "secret"));
    assert_null(strstr(err.msg, "hidden"));
}

static void the_primary_is_found(void **state)
{
    struct set *k = *state;
    char text[200];
    snprintf(text, sizeof(text), "redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:%d/my-set/2",
             k->right.port);
    leads_to(text, NULL, k->primary.port); /* nobody is at the first address */
    snprintf(text, sizeof(text), "redis+sentinel://default:secret@127.0.0.1:%d,127.0.0.1:%d/my-set",
             k->stale.port, k->right.port);
    leads_to(text, NULL, k->primary.port); /* the first has it wrong */
}

static void what_leads_nowhere_is_told(void **state)
{
    struct set *k = *state;
    char text[200];
    snprintf(text, sizeof(text), "redis+sentinel://:secret@127.0.0.1:%d/my-set", k->stale.port);
    fails(text, ERR_BUSY, "is a replica, though a Sentinel names it");
    snprintf(text, sizeof(text), "redis+sentinel://:secret@127.0.0.1:%d/other", k->right.port);
    fails(text, ERR_REFUSED, "knows no server of the name 'other'");
    snprintf(text, sizeof(text), "redis+sentinel://:secret@127.0.0.1:%d/my-set", k->primary.port);
    fails(text, ERR_REFUSED, "is no Sentinel");
    snprintf(text, sizeof(text), "redis+sentinel://:secret@127.0.0.1:1/my-set");
    fails(text, ERR_NET, "Sentinel");
    snprintf(text, sizeof(text), "redis+sentinel://127.0.0.1:%d/my-set", k->right.port);
    fails(text, ERR_AUTH, "");
    /* Who is not allowed says more than who is not there. */
    snprintf(text, sizeof(text), "redis+sentinel://:wrong@127.0.0.1:%d,127.0.0.1:1/my-set",
             k->right.port);
    fails(text, ERR_AUTH, "");
}

static void sentinels_may_have_a_password_of_their_own(void **state)
{
    struct set *k = *state;
    char text[200];
    snprintf(text, sizeof(text),
             "redis+sentinel://:secret@127.0.0.1:%d/my-set?sentinel-password=hidden",
             k->locked.port);
    leads_to(text, NULL, k->primary.port);
    snprintf(text, sizeof(text),
             "redis+sentinel://:secret@127.0.0.1:%d/my-set?sentinel-user=default&"
             "sentinel-password=hidden",
             k->locked.port);
    leads_to(text, NULL, k->primary.port);
    snprintf(text, sizeof(text), "redis+sentinel://:secret@127.0.0.1:%d/my-set", k->locked.port);
    leads_to(text, "hidden", k->primary.port);
    fails(text, ERR_AUTH, "Sentinel"); /* it was given the servers' one: that is not it */
    snprintf(text, sizeof(text), "redis+sentinel://127.0.0.1:%d/my-set", k->locked.port);
    fails(text, ERR_AUTH, "Sentinel");
}

static void what_a_sentinel_announces_is_mapped(void **state)
{
    struct set *k = *state;
    char text[200];
    struct cluster_addresses a;
    snprintf(text, sizeof(text), "127.0.0.1:%d=127.0.0.1:%d", k->replica.port, k->primary.port);
    assert_int_equal(cluster_addresses_parse(&a, text, NULL), 0);
    snprintf(text, sizeof(text), "redis+sentinel://:secret@127.0.0.1:%d/my-set", k->stale.port);
    int got = 0;
    struct err err;
    assert_int_equal(try_open(text, &a, NULL, &got, &err), 0);
    assert_int_equal(got, k->primary.port);
    cluster_addresses_release(&a);
}

static int opened_port(const char *text, struct client_config cfg)
{
    struct uri uri;
    struct client *c, *same;
    struct err err = {0};
    assert_int_equal(uri_parse(&uri, text, NULL), 0);
    cfg.uri = &uri;
    cfg.side = "source";
    cfg.connect_timeout_ms = 3000;
    if (client_open(&c, &cfg, &err) < 0) fail_msg("%s: %s", text, err.msg);
    cfg.prefer_replica = false;
    cfg.same_as = c;
    if (client_open(&same, &cfg, &err) < 0) fail_msg("%s: %s", text, err.msg);
    uri_release(&uri);
    int port = port_of(c);
    assert_int_equal(port_of(same), port);
    live_do(same, "ROLE");
    client_close(c);
    client_close(same);
    return port;
}

static void a_replica_is_preferred_where_one_follows(void **state)
{
    struct set *k = *state;
    char one[100], both[200], named[200], map[200];
    snprintf(one, sizeof(one), "redis://:secret@127.0.0.1:%d", k->primary.port);
    snprintf(both, sizeof(both), "redis://:secret@127.0.0.1:%d,127.0.0.1:%d", k->primary.port,
             k->replica.port);
    snprintf(named, sizeof(named), "redis+sentinel://:secret@127.0.0.1:%d/my-set", k->right.port);
    struct client_config plain = {0}, prefer = {.prefer_replica = true};
    assert_int_equal(opened_port(one, plain), k->primary.port);
    assert_int_equal(opened_port(one, prefer), k->replica.port);
    assert_int_equal(opened_port(both, plain), k->primary.port);
    assert_int_equal(opened_port(both, prefer), k->replica.port);
    assert_int_equal(opened_port(named, prefer), k->replica.port);
    /* it must be able to go on from there */
    struct client *c = client_to(&k->replica);
    assert_int_equal(facts_replication_offset(c, &prefer.resume_offset, NULL), 0);
    client_close(c);
    assert_int_equal(opened_port(one, prefer), k->replica.port);
    prefer.resume_offset = 1u << 30;
    assert_int_equal(opened_port(one, prefer), k->primary.port);
    prefer.resume_offset = 0;
    /* it cannot be reached where the primary says */
    struct cluster_addresses a;
    snprintf(map, sizeof(map), "127.0.0.1:%d=127.0.0.1:1", k->replica.port);
    assert_int_equal(cluster_addresses_parse(&a, map, NULL), 0);
    prefer.addresses = &a;
    assert_int_equal(opened_port(one, prefer), k->primary.port);
    assert_int_equal(opened_port(both, prefer), k->replica.port); /* the URI says that it can */
    cluster_addresses_release(&a);
}

static void one_that_does_not_follow_is_not(void **state)
{
    struct set *k = *state;
    char one[100], both[200];
    struct live_server other;
    live_start(&other, true, (const char *[]){"--requirepass", "secret", NULL});
    struct client_config prefer = {.prefer_replica = true};
    snprintf(one, sizeof(one), "redis://:secret@127.0.0.1:%d", other.port);
    assert_int_equal(opened_port(one, prefer), other.port); /* it has none */
    snprintf(both, sizeof(both), "redis://:secret@127.0.0.1:%d,127.0.0.1:%d", other.port,
             k->replica.port);
    assert_int_equal(opened_port(both, prefer), other.port); /* that is another's */
    live_stop(&other);
    kill(k->replica.pid, SIGSTOP);
    snprintf(one, sizeof(one), "redis://:secret@127.0.0.1:%d", k->primary.port);
    int64_t began = clock_mono_ms();
    int port = opened_port(one, prefer);
    int64_t took = clock_mono_ms() - began;
    kill(k->replica.pid, SIGCONT);
    assert_int_equal(port, k->primary.port);
    assert_in_range(took, 2500, 6000);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_primary_is_found),
        cmocka_unit_test(what_leads_nowhere_is_told),
        cmocka_unit_test(sentinels_may_have_a_password_of_their_own),
        cmocka_unit_test(what_a_sentinel_announces_is_mapped),
        cmocka_unit_test(a_replica_is_preferred_where_one_follows),
        cmocka_unit_test(one_that_does_not_follow_is_not),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
