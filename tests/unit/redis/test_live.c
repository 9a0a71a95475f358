// SPDX-License-Identifier: BSD-3-Clause
// Client, facts and handshake against a real redis-server.
#include "live_server.h"
#include "redis/facts.h"
#include "redis/psync.h"

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

static int try_open(struct live_server *s, char *user, const char *password, struct err *err)
{
    struct client_config cfg = live_config(s, "source");
    s->uri.user = user;
    cfg.password = password;
    struct client *c = NULL;
    int rc = client_open(&c, &cfg, err);
    client_close(c);
    s->uri.user = NULL;
    return rc;
}

static void test_passwords(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false, (const char *const[]){"--requirepass", "right", NULL});
    struct err err = {0};
    char user[] = "nobody";
    assert_int_equal(try_open(&s, NULL, NULL, &err), -1);
    assert_int_equal(err.code, ERR_AUTH);
    assert_true(has(err.msg, "source live: needs a password"));
    assert_int_equal(try_open(&s, NULL, "wrong", &err), -1);
    assert_int_equal(err.code, ERR_AUTH);
    assert_true(has(err.msg, "WRONGPASS"));
    assert_int_equal(try_open(&s, user, "right", &err), -1);
    assert_true(has(err.msg, "user nobody"));
    assert_int_equal(try_open(&s, NULL, "right", &err), 0);
    live_stop(&s);
}

static void test_password_on_open_server(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false, NULL);
    struct err err = {0};
    assert_int_equal(try_open(&s, NULL, "needless", &err), 0);
    live_stop(&s);
}

static void test_facts(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false, (const char *const[]){"--databases", "20", "--maxmemory", "100mb", NULL});
    struct client *c = live_client(&s, "source");
    live_do(c, "SET a 1");
    struct err err = {0};
    assert_int_equal(client_select(c, 19, &err), 0);
    live_do(c, "MSET x 1 y 2");
    assert_int_equal(client_select(c, 20, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    struct server_facts f;
    assert_int_equal(facts_read(c, &f, &err), 0);
    char name[64];
    assert_true(has(facts_name(name, sizeof(name), &f), "."));
    assert_true(f.version > 0x060000);
    assert_int_equal(strlen(f.run_id), 40);
    assert_int_equal(strlen(f.replid), 40);
    assert_int_equal(f.role, FACTS_PRIMARY);
    assert_false(f.cluster || f.sentinel || f.loading);
    assert_int_equal(f.databases, 20);
    assert_int_equal(f.maxmemory, 100 << 20);
    assert_string_equal(f.maxmemory_policy, "noeviction");
    assert_int_equal(f.proto_max_bulk_len, 512 << 20);
    assert_int_equal(facts_keys(&f, 0), 1);
    assert_int_equal(facts_keys(&f, 19), 2);
    assert_int_equal(f.n_db, 2);
    facts_release(&f);
    uint64_t offset;
    assert_int_equal(facts_replication_offset(c, &offset, &err), 0);
    client_close(c);
    live_stop(&s);
}

static void test_cluster(void **state)
{
    (void)state;
    struct live_server s;
    char bus[8]; /* its default, port + 10000, may be beyond the last port */
    snprintf(bus, sizeof(bus), "%d", live_free_port());
    live_start(&s, true,
               (const char *const[]){"--cluster-enabled", "yes", "--cluster-port", bus, NULL});
    struct client *c = live_client(&s, "source");
    struct server_facts f;
    struct err err = {0};
    assert_int_equal(facts_read(c, &f, &err), 0);
    assert_true(f.cluster);
    facts_release(&f);
    client_close(c);
    live_stop(&s);
}

/* Read n bytes of a fresh link. */
static void read_exact(struct conn *conn, uint8_t *p, size_t n)
{
    struct err err = {0};
    while (n > 0) {
        ssize_t r = conn_read(conn, p, n, &err);
        if (r < 0) fail_msg("%s", err.msg);
        p += r;
        n -= (size_t)r;
        if (r == 0) assert_int_equal(conn_wait(conn, true, false, 5000, &err), 1);
    }
}

static bool is_rdb(const uint8_t *p)
{
    return memcmp(p, "REDIS0", 6) == 0 || memcmp(p, "VALKEY", 6) == 0;
}

static int start_psync(struct live_server *s, const struct psync_request *req,
                       struct psync_result *ps, struct err *err)
{
    struct client *c = live_client(s, "source");
    return psync_start(ps, c, req, err);
}

static void test_disk_then_continue(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false,
               (const char *const[]){"--repl-diskless-sync", "no", "--repl-ping-replica-period",
                                     "3600", NULL});
    struct client *c = live_client(&s, "source");
    live_do(c, "SET a 1");
    struct server_facts f;
    struct err err = {0};
    assert_int_equal(facts_read(c, &f, &err), 0);
    struct psync_request req = {.facts = &f, .silence_ms = 20000};
    struct psync_result ps;
    assert_int_equal(start_psync(&s, &req, &ps, &err), 0);
    assert_int_equal(ps.kind, PSYNC_FULL);
    assert_int_equal(psync_bulk_header(&ps, &req, &err), 0);
    assert_false(ps.eof_mark);
    assert_in_range(ps.rdb_bytes, 20, 1000);
    uint8_t rdb[1000];
    read_exact(ps.conn, rdb, (size_t)ps.rdb_bytes);
    assert_true(is_rdb(rdb));
    assert_int_equal(rdb[ps.rdb_bytes - 9], 0xff); /* EOF, and then the checksum */

    char replid[41];
    memcpy(replid, ps.replid, sizeof(replid));
    uint64_t offset = ps.offset;
    psync_release(&ps);
    live_do(c, "SET b 2");
    req.replid = replid;
    req.offset = offset;
    assert_int_equal(start_psync(&s, &req, &ps, &err), 0);
    assert_int_equal(ps.kind, PSYNC_CONTINUE);
    assert_string_equal(ps.replid, replid);
    uint8_t stream[23];
    read_exact(ps.conn, stream, 14);
    /* Valkey greets a replica that is up with a PING. */
    size_t n = strncasecmp((const char *)stream, "*1\r\n$4\r\nPING\r\n", 14) == 0 ? 0 : 14;
    read_exact(ps.conn, stream + n, sizeof(stream) - n);
    assert_memory_equal(stream, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", 23);
    psync_release(&ps);
    uint64_t now;
    assert_int_equal(facts_replication_offset(c, &now, &err), 0);
    assert_true(now > offset);

    /* A history it does not know: everything anew. */
    req.replid = "0123456789abcdef0123456789abcdef01234567";
    assert_int_equal(start_psync(&s, &req, &ps, &err), 0);
    assert_int_equal(ps.kind, PSYNC_FULL);
    assert_string_equal(ps.replid, replid);
    psync_release(&ps);
    facts_release(&f);
    client_close(c);
    live_stop(&s);
}

static void test_diskless_and_filter(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false,
               (const char *const[]){"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay",
                                     "0", NULL});
    struct client *c = live_client(&s, "source");
    live_do(c, "SET somekey somevalue");
    struct server_facts f;
    struct err err = {0};
    assert_int_equal(facts_read(c, &f, &err), 0);
    client_close(c);
    for (int filter = 0; filter < 2; filter++) {
        struct psync_request req = {.facts = &f, .empty_rdb = filter, .rdb_only = true};
        struct psync_result ps;
        assert_int_equal(start_psync(&s, &req, &ps, &err), 0);
        assert_int_equal(psync_bulk_header(&ps, &req, &err), 0);
        assert_true(ps.eof_mark);
        assert_true(ps.rdb_only);
        assert_int_equal(ps.rdb_filtered, filter && facts_has(&f, FACTS_RDB_FILTER_ONLY));
        uint8_t rdb[4096] = {0};
        size_t n = 0;
        /* rdb-only: the source closes behind the mark. */
        for (;;) {
            ssize_t r = conn_read(ps.conn, rdb + n, sizeof(rdb) - n, &err);
            if (r < 0) break;
            n += (size_t)r;
            if (r == 0) assert_int_equal(conn_wait(ps.conn, true, false, 5000, &err), 1);
        }
        assert_true(n > 60);
        assert_true(is_rdb(rdb));
        assert_memory_equal(rdb + n - PSYNC_MARK_BYTES, ps.mark, PSYNC_MARK_BYTES);
        bool key = memmem(rdb, n, "somekey", 7) != NULL;
        assert_int_equal(key, !ps.rdb_filtered);
        psync_release(&ps);
    }
    facts_release(&f);
    live_stop(&s);
}

static void test_user_without_rights(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false, NULL);
    struct client *c = live_client(&s, "source");
    live_do(c, "ACL SETUSER app on >pw ~* +@all -psync -config");
    live_do(c, "ACL SETUSER bare on >pw +ping");
    client_close(c);
    static char users[][8] = {"app", "bare"};
    for (size_t i = 0; i < 2; i++) {
        struct client_config cfg = live_config(&s, "source");
        s.uri.user = users[i];
        cfg.password = "pw";
        struct err err = {0};
        assert_int_equal(client_open(&c, &cfg, &err), 0);
        assert_string_equal(client_user(c), users[i]);
        struct server_facts f = {0};
        if (i == 0) {
            assert_int_equal(facts_read(c, &f, &err), 0);
            assert_int_equal(f.databases, -1); /* CONFIG is forbidden, and that is tolerated */
            facts_release(&f);
        } else {
            assert_int_equal(facts_read(c, &f, &err), -1);
            assert_int_equal(err.code, ERR_PERM);
            assert_true(has(err.msg, "ACL SETUSER bare +info"));
        }
        struct psync_request req = {0};
        struct psync_result ps;
        assert_int_equal(psync_start(&ps, c, &req, &err), -1);
        assert_int_equal(err.code, ERR_PERM);
        assert_true(has(err.msg, "+psync +replconf +ping"));
        assert_true(has(err.msg, users[i]));
    }
    s.uri.user = NULL;
    live_stop(&s);
}

static void test_replica(void **state)
{
    (void)state;
    struct live_server primary, replica;
    live_start(&primary, true, (const char *const[]){"--repl-diskless-sync-delay", "0", NULL});
    char port[8];
    snprintf(port, sizeof(port), "%d", primary.port);
    live_start(&replica, false, (const char *const[]){"--replicaof", "127.0.0.1", port, NULL});
    struct client *c = live_client(&replica, "source");
    struct server_facts f = {0};
    struct err err = {0};
    for (int i = 0; i < 500 && !f.link_up; i++) {
        facts_release(&f);
        usleep(10000);
        assert_int_equal(facts_read(c, &f, &err), 0);
    }
    assert_true(f.link_up);
    assert_int_equal(f.role, FACTS_REPLICA);
    assert_true(f.read_only);
    assert_string_equal(f.primary_host, "127.0.0.1");
    assert_string_equal(f.primary_port, port);
    struct client *p = live_client(&primary, "source");
    struct server_facts pf;
    assert_int_equal(facts_read(p, &pf, &err), 0);
    assert_string_equal(pf.replid, f.replid);
    facts_release(&pf);
    facts_release(&f);
    client_close(p);
    client_close(c);
    live_stop(&replica);
    live_stop(&primary);
}

/* A replica that never had a link refuses, and is asked again for a while. */
static void test_replica_without_link(void **state)
{
    (void)state;
    struct live_server s;
    live_start(&s, false, (const char *const[]){"--replicaof", "127.0.0.1", "1", NULL});
    struct client *c = live_client(&s, "source");
    struct psync_request req = {.retry_ms = 500};
    struct psync_result ps;
    struct err err = {0};
    assert_int_equal(psync_start(&ps, c, &req, &err), -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_true(has(err.msg, "lost its primary"));
    live_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_password_on_open_server),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_cluster),
        cmocka_unit_test(test_disk_then_continue),
        cmocka_unit_test(test_diskless_and_filter),
        cmocka_unit_test(test_user_without_rights),
        cmocka_unit_test(test_replica),
        cmocka_unit_test(test_replica_without_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
