// SPDX-License-Identifier: BSD-3-Clause
// Replies: every form, whole and byte by byte, cut, bent, and hostile.
#include "redis/reply.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CAP (1u << 20)

/* Scan and build from a copy of exactly n bytes, so that the sanitizer sees any look beyond. */
static int parse(struct reply **ret, const char *bytes, size_t n, size_t *used, struct err *err)
{
    uint8_t *p = malloc(n ? n : 1);
    memcpy(p, bytes, n);
    struct reply_scan s = {0};
    int rc = reply_scan(&s, p, n, CAP, err);
    if (rc == 1 && reply_build(ret, &s, p, err) < 0) rc = -1;
    if (used) *used = s.at;
    free(p);
    return rc;
}

/* The same with one byte more each time: no prefix may be taken for a whole reply. */
static struct reply *parse_both(const char *bytes, size_t n)
{
    struct reply *r = NULL;
    struct err err = {0};
    struct reply_scan s = {0};
    for (size_t i = 0; i < n; i++) {
        uint8_t *p = malloc(i + 1);
        memcpy(p, bytes, i);
        assert_int_equal(reply_scan(&s, p, i, CAP, &err), 0);
        free(p);
    }
    assert_int_equal(reply_scan(&s, (const uint8_t *)bytes, n, CAP, &err), 1);
    assert_int_equal(s.at, n);
    size_t used = 0;
    assert_int_equal(parse(&r, bytes, n, &used, &err), 1);
    assert_int_equal(used, n);
    return r;
}

static void check_text(const char *bytes, enum reply_type type, const char *text)
{
    struct reply *r = parse_both(bytes, strlen(bytes));
    assert_int_equal(r->type, type);
    assert_int_equal(r->str.n, strlen(text));
    assert_string_equal((const char *)r->str.p, text); /* a NUL follows */
    reply_free(r);
}

static void test_scalars(void **state)
{
    (void)state;
    check_text("+OK\r\n", REPLY_STATUS, "OK");
    check_text("+\r\n", REPLY_STATUS, "");
    check_text("-ERR no\r\n", REPLY_ERROR, "ERR no");
    check_text("$5\r\nhello\r\n", REPLY_STRING, "hello");
    check_text("$0\r\n\r\n", REPLY_STRING, "");
    struct reply *r = parse_both(":-42\r\n", 6);
    assert_int_equal(r->type, REPLY_INTEGER);
    assert_int_equal(r->integer, -42);
    reply_free(r);
    static const char *const nulls[] = {"$-1\r\n", "*-1\r\n", "_\r\n"};
    for (size_t i = 0; i < 3; i++) {
        r = parse_both(nulls[i], strlen(nulls[i]));
        assert_int_equal(r->type, REPLY_NULL);
        reply_free(r);
    }
}

static void test_binary_string(void **state)
{
    (void)state;
    struct reply *r = parse_both("$6\r\n\r\n\0\r\n*\r\n", 12);
    assert_int_equal(r->str.n, 6);
    assert_memory_equal(r->str.p, "\r\n\0\r\n*", 6);
    reply_free(r);
}

static void test_array(void **state)
{
    (void)state;
    const char *bytes = "*4\r\n$1\r\n7\r\n*3\r\n$1\r\na\r\n*0\r\n$-1\r\n:5\r\n-ERR x\r\n";
    struct reply *r = parse_both(bytes, strlen(bytes));
    assert_int_equal(r->type, REPLY_ARRAY);
    assert_int_equal(r->n, 4);
    assert_true(reply_is(reply_at(r, 0), "7"));
    const struct reply *in = reply_at(r, 1);
    assert_int_equal(in->n, 3);
    assert_true(reply_is(reply_at(in, 0), "A"));
    assert_int_equal(reply_at(in, 1)->type, REPLY_ARRAY);
    assert_int_equal(reply_at(in, 1)->n, 0);
    assert_int_equal(reply_at(in, 2)->type, REPLY_NULL);
    assert_null(reply_at(in, 3));
    assert_int_equal(reply_at(r, 2)->integer, 5);
    assert_true(reply_error_is(reply_at(r, 3), "ERR"));
    assert_null(reply_at(r, 4));
    assert_null(reply_at(reply_at(r, 2), 0));
    reply_free(r);
}

static void test_stops_at_its_end(void **state)
{
    (void)state;
    struct reply *r = NULL;
    size_t used = 0;
    assert_int_equal(parse(&r, "*1\r\n:1\r\n+next\r\n", 15, &used, NULL), 1);
    assert_int_equal(used, 8);
    reply_free(r);
}

static void test_broken(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "HTTP/1.1 400\r\n", "\r\n",    ":12x\r\n",     ":\r\n",         "$x\r\n",
        "$-2\r\n",          "*-2\r\n", "+OK\n",        "$2\r\nabc\r\n", "*1\r\nx",
        "$1 \r\n",          "%1\r\n",  "$+1\r\na\r\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct reply *r = NULL;
        struct err err = {0};
        if (parse(&r, bad[i], strlen(bad[i]), NULL, &err) != -1) fail_msg("accepted %s", bad[i]);
        assert_int_equal(err.code, ERR_PROTO);
        assert_null(r);
    }
}

static void test_hostile_lengths(void **state)
{
    (void)state;
    static const char *const big[] = {
        "$9223372036854775807\r\n",
        "*9223372036854775807\r\n",
        "$1048577\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
    };
    for (size_t i = 0; i < sizeof(big) / sizeof(big[0]); i++) {
        struct reply *r = NULL;
        struct err err = {0};
        assert_int_equal(parse(&r, big[i], strlen(big[i]), NULL, &err), -1);
        assert_int_equal(err.code, ERR_LIMIT);
    }
}

/* Many small elements: it is the tree that would be large, not the bytes. */
static void test_tree_counts(void **state)
{
    (void)state;
    size_t n = 8;
    char *p = malloc(CAP);
    memcpy(p, "*20000\r\n", n);
    for (int i = 0; i < 20000; i++) {
        memcpy(p + n, ":1\r\n", 4);
        n += 4;
    }
    struct reply_scan s = {0};
    struct err err = {0};
    assert_int_equal(reply_scan(&s, (uint8_t *)p, n, 200000, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    s = (struct reply_scan){0};
    assert_int_equal(reply_scan(&s, (uint8_t *)p, n, 4u << 20, &err), 1);
    assert_int_equal(s.nodes, 20001);
    free(p);
}

static void test_endless_line(void **state)
{
    (void)state;
    size_t n = 100000;
    uint8_t *p = malloc(n);
    memset(p, 'a', n);
    p[0] = '+';
    struct reply_scan s = {0};
    struct err err = {0};
    assert_int_equal(reply_scan(&s, p, n, CAP, &err), -1);
    assert_int_equal(err.code, ERR_PROTO);
    free(p);
}

/* Every bit of a reply flipped once: an error or a value, never a look outside. */
static void test_bit_flips(void **state)
{
    (void)state;
    const char *bytes = "*3\r\n$3\r\nabc\r\n*2\r\n:1\r\n-E\r\n+OK\r\n";
    size_t n = strlen(bytes);
    char bent[64];
    unsigned errors = 0;
    for (size_t bit = 0; bit < n * 8; bit++) {
        memcpy(bent, bytes, n);
        bent[bit / 8] ^= (char)(1 << bit % 8);
        struct reply *r = NULL;
        if (parse(&r, bent, n, NULL, NULL) < 0) errors++;
        reply_free(r);
    }
    assert_true(errors > n);
}

static void test_words(void **state)
{
    (void)state;
    char out[8];
    struct reply *r = parse_both("-a\x01\xff longer\r\n", 13);
    assert_string_equal(reply_words(out, sizeof(out), r), "a?? lon");
    reply_free(r);
    r = parse_both(":1\r\n", 4);
    char what[16];
    assert_string_equal(reply_words(what, sizeof(what), r), "a number");
    assert_false(reply_is(r, "1"));
    reply_free(r);
    r = parse_both("-BUSYKEY x\r\n", 12);
    assert_false(reply_error_is(r, "BUSY"));
    assert_true(reply_error_is(r, "BUSYKEY"));
    reply_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),     cmocka_unit_test(test_binary_string),
        cmocka_unit_test(test_array),       cmocka_unit_test(test_stops_at_its_end),
        cmocka_unit_test(test_broken),      cmocka_unit_test(test_hostile_lengths),
        cmocka_unit_test(test_tree_counts), cmocka_unit_test(test_endless_line),
        cmocka_unit_test(test_bit_flips),   cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
