// SPDX-License-Identifier: BSD-3-Clause
// The replica's handshake against a scripted source: every reply, newlines, refusals, limits; and
// that not one byte beyond the header is taken.
#include "base/clock.h"
#include "fake_server.h"
#include "redis/psync.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ID     "0123456789abcdef0123456789abcdef01234567"
#define ID_NEW "fedcba9876543210fedcba9876543210fedcba98"
#define MARK   "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd"
#define PONG                                                                                       \
    {                                                                                              \
        "PING", "+PONG\r\n", 0, 0, false, false                                                    \
    }
#define CAPA                                                                                       \
    {                                                                                              \
        "REPLCONF capa eof capa psync2", "+OK\r\n", 0, 0, false, false                             \
    }
#define VERSION                                                                                    \
    {                                                                                              \
        "REPLCONF version 9.1.0", "-ERR Unrecognized REPLCONF option: version\r\n", 0, 0, false,   \
            false                                                                                  \
    }
#define N(a) (sizeof(a) / sizeof((a)[0]))

static bool has(const char *text, const char *part)
{
    if (strstr(text, part)) return true;
    print_error("\"%s\" lacks \"%s\"\n", text, part);
    return false;
}

/* Start against a strict script that begins behind PING and AUTH. */
static int start(struct fake_server *s, const struct fake_step *steps, size_t n,
                 const struct psync_request *req, struct psync_result *ps, struct err *err)
{
    fake_start(s, steps, n, false);
    struct client_config cfg = fake_config(s, "source");
    struct client *c = NULL;
    assert_int_equal(client_open(&c, &cfg, err), 0);
    return psync_start(ps, c, req, err);
}

/* What is in the connection now, without a wait of more than 2 s for the first byte. */
static void check_rest(struct psync_result *ps, const char *rest)
{
    char got[64];
    size_t n = 0, want = strlen(rest);
    while (n < want) {
        ssize_t r = conn_read(ps->conn, got + n, sizeof(got) - n, NULL);
        assert_true(r >= 0);
        n += (size_t)r;
        if (r == 0) assert_int_equal(conn_wait(ps->conn, true, false, 2000, NULL), 1);
    }
    assert_int_equal(n, want);
    assert_memory_equal(got, rest, want);
}

static void test_disk(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        CAPA,
        VERSION,
        {.expect = "PSYNC ? -1", .reply = "+FULLRESYNC " ID " 0\r\n$175\r\nREDIS0011"}};
    struct fake_server s;
    struct psync_request req = {0};
    struct psync_result ps = {0};
    struct err err = {0};
    assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
    assert_int_equal(ps.kind, PSYNC_FULL);
    assert_string_equal(ps.replid, ID);
    assert_int_equal(ps.offset, 0);
    assert_int_equal(psync_bulk_header(&ps, &req, &err), 0);
    assert_false(ps.eof_mark);
    assert_int_equal(ps.rdb_bytes, 175);
    check_rest(&ps, "REDIS0011");
    psync_release(&ps);
    psync_release(&ps);
    fake_stop(&s);
}

static void test_diskless_starved(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        CAPA,
        VERSION,
        {.expect = "PSYNC ? -1", .reply = "\n\n"},
        {.reply = "+FULLRESYNC " ID " 98765432101\r\n", .starve = true, .delay_ms = 30},
        {.reply = "\n", .delay_ms = 30},
        {.reply = "\n\n$EOF:" MARK "\r\nREDIS", .starve = true, .delay_ms = 30},
    };
    struct fake_server s;
    struct psync_request req = {0};
    struct psync_result ps = {0};
    struct err err = {0};
    assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
    assert_int_equal(ps.offset, 98765432101);
    assert_int_equal(psync_bulk_header(&ps, &req, &err), 0);
    assert_true(ps.eof_mark);
    assert_memory_equal(ps.mark, MARK, 40);
    check_rest(&ps, "REDIS");
    psync_release(&ps);
    fake_stop(&s);
}

static void test_continue(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *replid;
    } cases[] = {{"+CONTINUE\r\n*1\r\n", ID},
                 {"+CONTINUE " ID_NEW "\r\n*1\r\n", ID_NEW},
                 {"\n+CONTINUE " ID "\r\n*1\r\n", ID}};
    for (size_t i = 0; i < N(cases); i++) {
        const struct fake_step steps[] = {
            PONG, CAPA, VERSION, {.expect = "PSYNC " ID " 1001", .reply = cases[i].reply}};
        struct fake_server s;
        struct psync_request req = {.replid = ID, .offset = 1000};
        struct psync_result ps = {0};
        struct err err = {0};
        assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
        assert_int_equal(ps.kind, PSYNC_CONTINUE);
        assert_string_equal(ps.replid, cases[i].replid);
        assert_int_equal(ps.offset, 1000);
        check_rest(&ps, "*1\r\n");
        psync_release(&ps);
        fake_stop(&s);
    }
}

/* What is announced, by what the source knows. */
static void test_options(void **state)
{
    (void)state;
    struct err err = {0};
    struct server_facts redis = {.flavour = FACTS_REDIS, .version = 0x07000f};
    struct psync_request req = {
        .facts = &redis, .rdb_only = true, .empty_rdb = true, .announce_port = 7777};
    const struct fake_step steps[] = {
        PONG,
        {.expect = "REPLCONF listening-port 7777", .reply = "+OK\r\n"},
        CAPA,
        {.expect = "REPLCONF rdb-only 1", .reply = "+OK\r\n"},
        {.expect = "REPLCONF rdb-filter-only ", .reply = "+OK\r\n"},
        {.expect = "PSYNC ? -1", .reply = "+FULLRESYNC " ID " 5\r\n"},
    };
    struct fake_server s;
    struct psync_result ps = {0};
    assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
    assert_true(ps.rdb_only);
    assert_true(ps.rdb_filtered);
    psync_release(&ps);
    fake_stop(&s);

    /* Redis 6.0 knows neither; refused listening-port and capa are no obstacles. */
    redis.version = 0x060010;
    const struct fake_step old[] = {
        PONG,
        {.expect = "REPLCONF listening-port", .reply = "-ERR whatever\r\n"},
        {.expect = "REPLCONF capa", .reply = "-ERR Unrecognized REPLCONF option: capa\r\n"},
        {.expect = "PSYNC ? -1", .reply = "+FULLRESYNC " ID " 5\r\n"},
    };
    assert_int_equal(start(&s, old, N(old), &req, &ps, &err), 0);
    assert_false(ps.rdb_only);
    assert_false(ps.rdb_filtered);
    psync_release(&ps);
    fake_stop(&s);

    /* Valkey: always its version; an option it refuses is not in force. */
    struct server_facts valkey = {.flavour = FACTS_VALKEY, .version = 0x090100};
    req = (struct psync_request){.facts = &valkey, .empty_rdb = true};
    const struct fake_step vk[] = {
        PONG,
        CAPA,
        {.expect = "REPLCONF version 9.1.0", .reply = "+OK\r\n"},
        {.expect = "REPLCONF rdb-filter-only", .reply = "-ERR no\r\n"},
        {.expect = "PSYNC ? -1", .reply = "+FULLRESYNC " ID " 5\r\n"},
    };
    assert_int_equal(start(&s, vk, N(vk), &req, &ps, &err), 0);
    assert_false(ps.rdb_filtered);
    psync_release(&ps);
    fake_stop(&s);
}

static void test_plain_sync(void **state)
{
    (void)state;
    struct server_facts old = {.flavour = FACTS_REDIS, .version = 0x020611};
    struct psync_request req = {.facts = &old};
    const struct fake_step steps[] = {
        PONG,
        {.expect = "REPLCONF capa", .reply = "-ERR Unrecognized REPLCONF option: capa\r\n"},
        {.expect = "PSYNC", .reply = "-ERR unknown command 'PSYNC'\r\n"},
        {.expect = "SYNC", .reply = "\n\n$9\r\nREDIS"},
    };
    struct fake_server s;
    struct psync_result ps = {0};
    struct err err = {0};
    assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
    assert_true(ps.plain_sync);
    assert_string_equal(ps.replid, "");
    assert_int_equal(psync_bulk_header(&ps, &req, &err), 0);
    assert_int_equal(ps.rdb_bytes, 9);
    check_rest(&ps, "REDIS");
    psync_release(&ps);
    fake_stop(&s);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        enum err_code code;
        const char *words;
    } cases[] = {
        {"-NOPERM this user has no permissions to run the 'psync' command or its subcommand\r\n",
         ERR_PERM, "ACL SETUSER default +psync +replconf +ping"},
        {"-NOPERM this user has no permissions to run the 'psync' command\r\n", ERR_PERM,
         "may not replicate"},
        {"-NOAUTH Authentication required.\r\n", ERR_AUTH, "--source-password-file"},
        {"-ERR unknown command 'PSYNC', with args beginning with: '?' '-1' \r\n", ERR_SOURCE,
         "offers no replication"},
        {"-ERR BGSAVE failed, replication can't continue\r\n", ERR_SOURCE,
         "could not make its snapshot"},
        {"-LOADING Redis is loading the dataset in memory\r\n", ERR_BUSY, "loading"},
        {"-NOMASTERLINK Can't SYNC while not connected with my master\r\n", ERR_BUSY,
         "lost its primary"},
        {"+FULLRESYNC short 0\r\n", ERR_PROTO, "broken FULLRESYNC"},
        {"+FULLRESYNC " ID "\r\n", ERR_PROTO, "broken FULLRESYNC"},
        {"+FULLRESYNC " ID " -5\r\n", ERR_PROTO, "broken FULLRESYNC"},
        {"+FULLRESYNC " ID "0 5\r\n", ERR_PROTO, "broken FULLRESYNC"},
        {"+CONTINUE\r\n", ERR_PROTO, "not asked for"},
        {"+CONTINUED\r\n", ERR_PROTO, "answered with"},
        {"$5\r\n", ERR_PROTO, "answered with"},
        {"\x7f\x01garbage\r\n", ERR_PROTO, "answered with \"??garbage\""},
    };
    struct server_facts redis = {.flavour = FACTS_REDIS, .version = 0x07000f};
    struct psync_request req = {.facts = &redis};
    for (size_t i = 0; i < N(cases); i++) {
        const struct fake_step steps[] = {PONG, CAPA, {.expect = "PSYNC", .reply = cases[i].reply}};
        struct fake_server s;
        struct psync_result ps = {0};
        struct err err = {0};
        assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), -1);
        if (err.code != cases[i].code) fail_msg("%s: %s", cases[i].reply, err.msg);
        assert_true(has(err.msg, cases[i].words));
        assert_true(has(err.msg, "source fake: "));
        assert_null(ps.conn);
        fake_stop(&s);
    }
}

static void test_replconf_forbidden(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        {.expect = "REPLCONF capa",
         .reply = "-NOPERM this user has no permissions to run the 'replconf' command\r\n"}};
    struct fake_server s;
    struct psync_request req = {0};
    struct psync_result ps = {0};
    struct err err = {0};
    assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), -1);
    assert_int_equal(err.code, ERR_PERM);
    assert_true(has(err.msg, "+psync +replconf +ping"));
    fake_stop(&s);
}

static void test_bulk_refused(void **state)
{
    (void)state;
    static const struct {
        const char *reply;
        enum err_code code;
        const char *words;
    } cases[] = {
        {"-ERR BGSAVE failed, replication can't continue\r\n", ERR_SOURCE, "see its log"},
        {"$EOF:tooshort\r\n", ERR_PROTO, "end mark"},
        {"$EOF:" MARK "d\r\n", ERR_PROTO, "end mark"},
        {"$EOF:aaaaaaaaaabbbbbbbbbbcccccccccc\x01"
         "ddddddddd\r\n",
         ERR_PROTO, "end mark"},
        {"$-1\r\n", ERR_PROTO, "length belongs"},
        {"$\r\n", ERR_PROTO, "length belongs"},
        {"$99999999999999999999\r\n", ERR_PROTO, "length belongs"},
        {"*1\r\n", ERR_PROTO, "length belongs"},
    };
    for (size_t i = 0; i < N(cases); i++) {
        char reply[256];
        snprintf(reply, sizeof(reply), "+FULLRESYNC " ID " 0\r\n%s", cases[i].reply);
        const struct fake_step steps[] = {
            PONG, CAPA, VERSION, {.expect = "PSYNC", .reply = reply, .hang_up = true}};
        struct fake_server s;
        struct psync_request req = {0};
        struct psync_result ps = {0};
        struct err err = {0};
        assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
        assert_int_equal(psync_bulk_header(&ps, &req, &err), -1);
        assert_int_equal(err.code, cases[i].code);
        assert_true(has(err.msg, cases[i].words));
        psync_release(&ps);
        fake_stop(&s);
    }
}

static void test_hang_up_and_endless_line(void **state)
{
    (void)state;
    char line[2000];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = 0;
    line[0] = '-';
    const struct fake_step endless[] = {PONG, CAPA, VERSION, {.expect = "PSYNC", .reply = line}};
    struct fake_server s;
    struct psync_request req = {0};
    struct psync_result ps = {0};
    struct err err = {0};
    assert_int_equal(start(&s, endless, N(endless), &req, &ps, &err), -1);
    assert_int_equal(err.code, ERR_PROTO);
    fake_stop(&s);

    const struct fake_step cut[] = {
        PONG,
        CAPA,
        VERSION,
        {.expect = "PSYNC", .reply = "+FULLRESYNC " ID " 7\r\n\n", .hang_up = true}};
    assert_int_equal(start(&s, cut, N(cut), &req, &ps, &err), 0);
    assert_int_equal(psync_bulk_header(&ps, &req, &err), -1);
    assert_int_equal(err.code, ERR_NET);
    assert_true(has(err.msg, "no snapshot came"));
    psync_release(&ps);
    fake_stop(&s);
}

/* Loading twice, then ready: waited out on the same connection. */
static void test_retry(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        CAPA,
        VERSION,
        {.expect = "PSYNC", .reply = "-LOADING Redis is loading the dataset in memory\r\n"},
        {.expect = "PSYNC", .reply = "-ERR Can't SYNC while not connected with my master\r\n"},
        {.expect = "PSYNC", .reply = "+FULLRESYNC " ID " 7\r\n"},
    };
    struct fake_server s;
    struct psync_request req = {.retry_ms = 10000};
    struct psync_result ps = {0};
    struct err err = {0};
    int64_t t = clock_mono_ms();
    assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
    t = clock_mono_ms() - t;
    assert_in_range(t, 1900, 5000);
    psync_release(&ps);
    fake_stop(&s);
}

/* Newlines keep the wait alive beyond the time-out; without them it ends. */
static void test_silence(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG,
        CAPA,
        VERSION,
        {.expect = "PSYNC", .reply = "+FULLRESYNC " ID " 7\r\n"},
        {.reply = "\n", .delay_ms = 200},
        {.reply = "\n", .delay_ms = 200},
        {.reply = "\n", .delay_ms = 200},
    };
    struct fake_server s;
    struct psync_request req = {.silence_ms = 350};
    struct psync_result ps = {0};
    struct err err = {0};
    assert_int_equal(start(&s, steps, N(steps), &req, &ps, &err), 0);
    int64_t t = clock_mono_ms();
    assert_int_equal(psync_bulk_header(&ps, &req, &err), -1);
    t = clock_mono_ms() - t;
    assert_int_equal(err.code, ERR_NET);
    assert_true(has(err.msg, "nothing heard for 350 ms"));
    assert_in_range(t, 800, 3000);
    psync_release(&ps);
    fake_stop(&s);
}

static int tick_thrice(void *ctx, struct err *err)
{
    int *n = ctx;
    return ++*n < 3 ? 0 : err_set(err, ERR_STOPPED, "enough");
}

static void test_stop_and_tick(void **state)
{
    (void)state;
    const struct fake_step steps[] = {
        PONG, CAPA, VERSION, {.expect = "PSYNC", .reply = "+FULLRESYNC " ID " 7\r\n"}};
    atomic_bool stop = true;
    int ticks = 0;
    struct psync_request stopping = {.stop = &stop};
    struct psync_request ticking = {.tick = tick_thrice, .ctx = &ticks};
    struct psync_request quiet = {0};
    const struct psync_request *reqs[] = {&stopping, &ticking};
    for (size_t i = 0; i < 2; i++) {
        struct fake_server s;
        struct psync_result ps = {0};
        struct err err = {0};
        assert_int_equal(start(&s, steps, N(steps), &quiet, &ps, &err), 0);
        int64_t t = clock_mono_ms();
        assert_int_equal(psync_bulk_header(&ps, reqs[i], &err), -1);
        assert_int_equal(err.code, ERR_STOPPED);
        assert_true(clock_mono_ms() - t < 2000);
        psync_release(&ps);
        fake_stop(&s);
    }
    assert_int_equal(ticks, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk),
        cmocka_unit_test(test_diskless_starved),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_plain_sync),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_replconf_forbidden),
        cmocka_unit_test(test_bulk_refused),
        cmocka_unit_test(test_hang_up_and_endless_line),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_stop_and_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
