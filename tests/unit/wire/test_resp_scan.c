// SPDX-License-Identifier: BSD-3-Clause
// RESP replies: each case fed whole, byte by byte and cut at every place; hostile bytes; fast path.
#include "wire/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define LIT(s) span_of(s, sizeof(s) - 1)

struct seen {
    char log[1000]; /* every reply and nested error, as text */
    size_t n;
};

static void KH_PRINTF(2, 3) note(struct seen *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(s->log + s->n, sizeof s->log - s->n, fmt, ap);
    va_end(ap);
    assert_true(n >= 0 && (size_t)n < sizeof s->log - s->n);
    s->n += (size_t)n;
}

static void on_error(void *ctx, size_t index, const char *line)
{
    note(ctx, "[%zu %s]", index, line);
}

static void note_reply(struct seen *seen, const struct resp_reply *r)
{
    note(seen, "%c", r->type);
    if (r->is_null) note(seen, "null");
    if (r->integer) note(seen, "%lld", (long long)r->integer);
    if (r->line[0] && r->type != ':') note(seen, "%.30s", r->line);
    if (r->bulk.p) note(seen, "<%.*s>", (int)r->bulk.n, (const char *)r->bulk.p);
    note(seen, ";");
}

/* Feed all of `text` in pieces of at most `piece` bytes, the first one of `first` bytes. Each piece
 * is a block of its own, so that the sanitizer sees a step beyond it. */
static int feed_all(struct resp_scan *s, struct span text, size_t first, size_t piece,
                    struct seen *seen, struct err *err)
{
    size_t at = 0, want = first;
    while (at < text.n) {
        size_t n = text.n - at < want ? text.n - at : want, used = 0;
        uint8_t *block = malloc(n);
        memcpy(block, text.p + at, n);
        int rc = resp_scan_feed(s, block, n, &used, err);
        free(block);
        if (rc < 0) return -1;
        if (rc == 0) assert_int_equal(used, n);
        if (rc == 1) note_reply(seen, &s->reply);
        at += used;
        want = piece;
    }
    return 0;
}

static int scan_text(struct span text, size_t first, size_t piece, bool keep, struct seen *seen,
                     struct err *err)
{
    struct resp_scan s;
    struct buf b;
    *seen = (struct seen){0};
    resp_scan_init(&s);
    buf_init(&b, 1000);
    s.on_nested_error = on_error;
    s.ctx = seen;
    if (keep) s.keep_bulk = &b;
    int rc = feed_all(&s, text, first, piece, seen, err);
    if (rc == 0) note(seen, s.depth || s.state ? "more" : "");
    buf_release(&b);
    return rc;
}

/* The outcome must not depend on how the bytes come. */
static void assert_scan(struct span text, bool keep, const char *want)
{
    struct seen seen;
    struct err err;
    for (size_t first = 1; first <= text.n; first++) {
        if (scan_text(text, first, text.n, keep, &seen, &err) < 0)
            fail_msg("%s: %s", text.p, err.msg);
        assert_string_equal(seen.log, want);
    }
    assert_int_equal(scan_text(text, 1, 1, keep, &seen, &err), 0);
    assert_string_equal(seen.log, want);
}

static void simple_replies(void **state)
{
    (void)state;
    assert_scan(LIT("+OK\r\n+\r\n-ERR no such key\r\n"), false, "+OK;+;-ERR no such key;");
    assert_scan(LIT(":1\r\n:0\r\n:-9223372036854775808\r\n:9223372036854775807\r\n"), false,
                ":1;:;:-9223372036854775808;:9223372036854775807;");
    assert_scan(LIT("$5\r\nhe\r\no\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n_\r\n"), false,
                "$;$;$null;*null;*;_null;");
}

static void resp3_replies(void **state)
{
    (void)state;
    assert_scan(
        LIT("#t\r\n#f\r\n,3.14\r\n,inf\r\n(3492890328409238509324850943850943825024385\r\n"), false,
        "#1t;#f;,3.14;,inf;(349289032840923850932485094385;");
    assert_scan(LIT("!21\r\nSYNTAX invalid syntax\r\n=7\r\ntxt:a\r\n\r\n"), false,
                "!SYNTAX invalid syntax;=;");
    assert_scan(LIT("%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n~1\r\n#t\r\n>2\r\n+x\r\n+y\r\n"), false,
                "%2;~1;>2;");
    assert_scan(LIT("|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n|0\r\n+OK\r\n"), true, "$<x>;+OK;");
    assert_scan(LIT("*2\r\n|1\r\n+k\r\n*1\r\n:1\r\n:5\r\n|0\r\n-ERR x\r\n+OK\r\n"), false,
                "[1 ERR x]*2;+OK;");
}

static void nested_replies(void **state)
{
    (void)state;
    assert_scan(LIT("*3\r\n*2\r\n:1\r\n$2\r\n\r\n\r\n*0\r\n$-1\r\n+OK\r\n"), false, "*3;+OK;");
    assert_scan(LIT("*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"), true, "*2;");
}

/* EXEC: each error is told with the place of the command it belongs to. */
static void errors_in_exec(void **state)
{
    (void)state;
    assert_scan(
        LIT("*4\r\n+OK\r\n-OOM a\r\n*3\r\n:1\r\n*1\r\n-ERR b\r\n!3\r\nERR\r\n-WRONGTYPE c\r\n"
            "+OK\r\n"),
        false, "[1 OOM a][2 ERR b][2 ERR][3 WRONGTYPE c]*4;+OK;");
    assert_scan(LIT("*1\r\n-A\r\n*1\r\n-B\r\n-C\r\n"), false, "[0 A]*1;[0 B]*1;-C;");
    struct resp_scan s;
    struct err err;
    size_t used = 0;
    resp_scan_init(&s); /* without a callback it is passed over */
    assert_int_equal(resp_scan_feed(&s, (const uint8_t *)"*1\r\n-A\r\n", 8, &used, &err), 1);
}

static void keeps_bulks_when_asked(void **state)
{
    (void)state;
    assert_scan(LIT("$5\r\nhe\r\no\r\n+OK\r\n$1\r\nx\r\n$-1\r\n=5\r\ntxt:b\r\n"), true,
                "$<he\r\no>;+OK;$<x>;$null;=<txt:b>;");
    struct buf b;
    struct resp_scan s;
    struct err err;
    size_t used = 77;
    buf_init(&b, 4);
    resp_scan_init(&s);
    s.keep_bulk = &b;
    assert_int_equal(resp_scan_feed(&s, (const uint8_t *)"$5\r\nhello\r\n", 11, &used, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(used, 77);
    buf_release(&b);
}

static void long_errors_are_cut(void **state)
{
    (void)state;
    char text[2000];
    for (int blob = 0; blob < 2; blob++) {
        int n = blob ? snprintf(text, sizeof text, "!%d\r\n", 1000) : 1;
        if (!blob) text[0] = '-';
        memset(text + n, 'e', 1000);
        memcpy(text + n + 1000, "\r\n+OK\r\n", 7);
        for (size_t piece = 1; piece < 1100; piece += 99) {
            struct resp_scan s;
            struct err err;
            size_t at = 0, used = 0, whole = (size_t)n + 1002;
            int rc = 0;
            resp_scan_init(&s);
            while (rc == 0 && at < whole) {
                rc = resp_scan_feed(&s, (uint8_t *)text + at,
                                    piece < whole - at ? piece : whole - at, &used, &err);
                at += used;
            }
            assert_int_equal(rc, 1);
            assert_int_equal(at, whole);
            assert_int_equal(strlen(s.reply.line), RESP_ERROR_MAX - 1);
        }
    }
}

/* 1 TB of bulk: nothing is held, and the scanner goes on counting. */
static void bulks_of_any_size_are_passed_over(void **state)
{
    (void)state;
    static uint8_t block[1 << 16];
    struct resp_scan s;
    struct err err;
    size_t used = 0;
    resp_scan_init(&s);
    assert_int_equal(resp_scan_feed(&s, (const uint8_t *)"$1099511627776\r\n", 16, &used, &err), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(resp_scan_feed(&s, block, sizeof block, &used, &err), 0);
    assert_int_equal(s.bulk_left, (1ULL << 40) - 100 * sizeof block);
}

static void refuses_what_is_no_reply(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "x\r\n",
        "\r\n",
        "+OK\n",
        "+O\nK\r\n",
        "+OK\rx",
        ":\r\n",
        ":1x\r\n",
        ":9223372036854775808\r\n",
        ":1111111111111111111111111111111111111111\r\n",
        "$-2\r\n",
        "$x\r\n",
        "$\r\n",
        "$?\r\n",
        "$1099511627777\r\n",
        "$1\r\nab\r\n",
        "$1\r\na\rb",
        "*-2\r\n",
        "*1099511627777\r\n",
        "%-1\r\n",
        "~-1\r\n",
        ">-1\r\n",
        "|-1\r\n",
        "!-1\r\n",
        "=-1\r\n",
        "#x\r\n",
        "#\r\n",
        "#tt\r\n",
        "_x\r\n",
        ".\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct seen seen;
        struct err err = {0};
        struct span text = span_str(bad[i]);
        for (size_t first = 1; first <= text.n; first++) {
            if (scan_text(text, first, 1, false, &seen, &err) == 0)
                fail_msg("%s taken as %s", bad[i], seen.log);
            assert_int_equal(err.code, ERR_PROTO);
        }
    }
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[300];
    struct seen seen;
    struct err err;
    for (size_t i = 0; i < RESP_DEPTH_MAX; i++)
        memcpy(text + i * 4, "*1\r\n", 4);
    memcpy(text + RESP_DEPTH_MAX * 4, ":1\r\n", 5);
    assert_scan(span_str(text), false, "*1;");
    memmove(text + 4, text, strlen(text) + 1);
    memcpy(text, "*1\r\n", 4);
    assert_int_equal(scan_text(span_str(text), 300, 300, false, &seen, &err), -1);
    assert_int_equal(err.code, ERR_PROTO);
    assert_int_equal(
        scan_text(LIT("*1\r\n*1\r\n*1099511627776\r\n:1\r\n"), 99, 99, false, &seen, &err), 0);
    assert_string_equal(seen.log, "more");
}

static void every_truncation_wants_more(void **state)
{
    (void)state;
    struct span text = LIT("*3\r\n*2\r\n:1\r\n$2\r\nab\r\n|1\r\n+a\r\n+b\r\n-ERR\r\n$-1\r\n");
    for (size_t n = 1; n < text.n; n++) {
        struct seen seen;
        struct err err;
        assert_int_equal(scan_text(span_of(text.p, n), n, n, false, &seen, &err), 0);
        assert_non_null(strstr(seen.log, "more"));
        assert_null(strchr(seen.log, ';'));
    }
}

static void bit_flips_are_survived(void **state)
{
    (void)state;
    const char text[] = "*3\r\n*2\r\n:1\r\n$2\r\nab\r\n%1\r\n+a\r\n+b\r\n-ERR\r\n$-1\r\n#t\r\n";
    for (size_t bit = 0; bit < (sizeof text - 1) * 8; bit++) {
        char flipped[sizeof text];
        struct seen whole, bytes;
        struct err err;
        memcpy(flipped, text, sizeof text);
        flipped[bit / 8] ^= (char)(1 << bit % 8);
        struct span s = span_of(flipped, sizeof text - 1);
        int a = scan_text(s, s.n, s.n, true, &whole, &err);
        int b = scan_text(s, 1, 1, true, &bytes, &err);
        assert_int_equal(a, b);
        assert_string_equal(whole.log, bytes.log);
    }
}

static void assert_plain(const char *text, size_t max, size_t want_bytes, size_t want_replies)
{
    size_t n = strlen(text), replies = 99;
    char *exact = malloc(n ? n : 1);
    memcpy(exact, text, n);
    assert_int_equal(resp_scan_plain((uint8_t *)exact, n, max, &replies), want_bytes);
    assert_int_equal(replies, want_replies);
    free(exact);
}

static void assert_quiet(const char *text, size_t max, size_t want_bytes, size_t want_replies)
{
    size_t n = strlen(text), replies = 99;
    char *exact = malloc(n ? n : 1);
    memcpy(exact, text, n);
    assert_int_equal(resp_scan_quiet((uint8_t *)exact, n, max, &replies), want_bytes);
    assert_int_equal(replies, want_replies);
    free(exact);
}

static void quiet_runs(void **state)
{
    (void)state;
    assert_quiet("", 10, 0, 0);
    assert_quiet(":1\r\n+OK\r\n:-12\r\n+PONG\r\n", 10, 22, 4);
    assert_quiet(":1\r\n+OK\r\n:-12\r\n+PONG\r\n", 2, 9, 2);
    assert_quiet("+OK\r\n+QUEUED\r\n*2\r\n:5\r\n+OK\r\n+OK\r\n-ERR\r\n", 10, 32, 4);
    assert_quiet("*3\r\n$3\r\na\rb\r\n$0\r\n\r\n+x\r\n*0\r\n", 10, 27, 2);
    assert_quiet("$3\r\nabc\r\n", 10, 0, 0); /* somebody may ask for it */
    static const char *const others[] = {"-ERR\r\n",
                                         "*-1\r\n",
                                         "*2\r\n:1\r\n-ERR\r\n",
                                         "*1\r\n*1\r\n:1\r\n",
                                         "*1\r\n$-1\r\n",
                                         "+a\nb\r\n",
                                         ":\r\n",
                                         ":-\r\n",
                                         ":1x\r\n",
                                         "*2\r\n:1\r\n",
                                         "*1\r\n$2\r\nabc\r\n",
                                         ":1234567890123456789\r\n",
                                         "_\r\n",
                                         ":1\r",
                                         "*1\r\n$9\r\nab\r\n"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_quiet(others[i], 10, 0, 0);
}

static void plain_runs(void **state)
{
    (void)state;
    assert_plain("", 10, 0, 0);
    assert_plain("+OK\r\n", 10, 5, 1);
    assert_plain("+OK\r", 10, 0, 0);
    assert_plain("+QUEUED\r\n+QUEUED\r\n+OK\r\n+QUEUED\r", 10, 23, 3);
    assert_plain("+OK\r\n-ERR\r\n+OK\r\n", 10, 5, 1);
    assert_plain("+OK\r\n+OK\r\n", 0, 0, 0);
    assert_plain("+OX\r\n", 10, 0, 0);
    char many[20 * 5 + 1];
    for (size_t i = 0; i < 20; i++)
        memcpy(many + i * 5, "+OK\r\n", 6);
    for (size_t max = 0; max <= 25; max++) {
        size_t n = max < 20 ? max : 20;
        assert_plain(many, max, n * 5, n);
    }
    for (size_t at = 0; at < 100; at++) {
        many[at] ^= 1;
        assert_plain(many, SIZE_MAX, at / 5 * 5, at / 5);
        many[at] ^= 1;
    }
}

static void take(void *ctx, const uint8_t *p, size_t n)
{
    struct err err;
    assert_int_equal(buf_add(ctx, p, n, &err), 0);
}

/* Bulks of any size, without being kept here; not those inside of arrays. */
static void bulks_as_they_come(void **state)
{
    (void)state;
    struct span text = LIT("$5\r\nhe\r\no\r\n*1\r\n$2\r\nno\r\n$-1\r\n$0\r\n\r\n$1\r\n!\r\n");
    for (size_t piece = 1; piece <= text.n; piece++) {
        struct resp_scan s;
        struct buf taken, kept;
        struct err err;
        unsigned replies = 0;
        resp_scan_init(&s);
        buf_init(&taken, 100);
        buf_init(&kept, 1); /* not used */
        s.keep_bulk = &kept;
        s.take_bulk = take;
        s.take_ctx = &taken;
        for (size_t at = 0, used; at < text.n; at += used) {
            size_t n = text.n - at < piece ? text.n - at : piece;
            int rc = resp_scan_feed(&s, text.p + at, n, &used, &err);
            assert_true(rc >= 0);
            replies += (unsigned)rc;
            assert_int_equal(s.reply.bulk.n, 0);
        }
        assert_int_equal(replies, 5);
        assert_true(span_eq(buf_span(&taken), LIT("he\r\no!")));
        buf_release(&taken);
        buf_release(&kept);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simple_replies),
        cmocka_unit_test(resp3_replies),
        cmocka_unit_test(nested_replies),
        cmocka_unit_test(errors_in_exec),
        cmocka_unit_test(keeps_bulks_when_asked),
        cmocka_unit_test(long_errors_are_cut),
        cmocka_unit_test(bulks_of_any_size_are_passed_over),
        cmocka_unit_test(refuses_what_is_no_reply),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(every_truncation_wants_more),
        cmocka_unit_test(bit_flips_are_survived),
        cmocka_unit_test(plain_runs),
        cmocka_unit_test(quiet_runs),
        cmocka_unit_test(bulks_as_they_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
