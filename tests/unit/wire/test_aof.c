// SPDX-License-Identifier: BSD-3-Clause
// AOF manifests and annotations: what servers write, and what nobody should.
#include "wire/aof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka wants these before it
#include <cmocka.h>

static int parse(const char *text, struct aof_manifest *m, struct err *err)
{
    return aof_manifest_parse(m, span_str(text), err);
}

static void test_as_written_by_servers(void **state)
{
    (void)state;
    struct aof_manifest m;
    struct err err;
    /* Redis 7.0 with history, base in the first line, increments of both kinds. */
    assert_int_equal(parse("file appendonly.aof.3.base.rdb seq 3 type b\n"
                           "file appendonly.aof.2.incr.aof seq 2 type h\n"
                           "file appendonly.aof.3.incr.aof seq 3 type i startoffset 2495\n"
                           "file appendonly.aof.4.incr.aof seq 4 type i endoffset 9\n",
                           &m, &err),
                     0);
    assert_int_equal(m.n, 3);
    assert_string_equal(m.part[0].name, "appendonly.aof.3.base.rdb");
    assert_int_equal(m.part[0].type, AOF_BASE);
    assert_string_equal(m.part[1].name, "appendonly.aof.3.incr.aof");
    assert_int_equal(m.part[1].seq, 3);
    assert_string_equal(m.part[2].name, "appendonly.aof.4.incr.aof");
    aof_manifest_release(&m);
}

static void test_forms(void **state)
{
    (void)state;
    struct aof_manifest m;
    struct err err;
    /* Pairs in any order, comments, CRLF, a quoted name, the base last, no newline at the end. */
    assert_int_equal(parse("# made by hand\r\n\r\nseq 1 type i file \"a \\\"b\\x21.aof\"\r\n"
                           "type b seq 1 file base.rdb",
                           &m, &err),
                     0);
    assert_int_equal(m.n, 2);
    assert_string_equal(m.part[0].name, "base.rdb");
    assert_string_equal(m.part[1].name, "a \"b!.aof");
    aof_manifest_release(&m);
    assert_int_equal(parse("", &m, &err), 0);
    assert_int_equal(m.n, 0);
    aof_manifest_release(&m);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "file a seq 1\n",                             /* no type */
        "file a seq 1 type x\n",                      /* unknown type */
        "file a seq one type b\n",                    /* no number */
        "file ../../etc/passwd seq 1 type b\n",       /* a path */
        "file .. seq 1 type b\n",                     /* a directory */
        "file \"a\\x00b\" seq 1 type b\n",            /* a NUL in a name */
        "file \"a seq 1 type b\n",                    /* quotes do not end */
        "file a seq 1 type b odd\n",                  /* a key without value */
        "file a seq 1 type b\nfile b seq 2 type b\n", /* two bases */
        "file a seq 2 type i\nfile b seq 1 type i\n", /* out of order */
        "file a seq 2 type i\nfile b seq 2 type i\n", /* twice */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct aof_manifest m;
        struct err err = {0};
        if (parse(bad[i], &m, &err) == 0) fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERR_FORMAT);
    }
    char *huge = malloc(4000);
    memset(huge, 'n', 3999);
    memcpy(huge, "file ", 5);
    huge[3999] = 0;
    struct aof_manifest m;
    struct err err;
    assert_int_equal(parse(huge, &m, &err), -1);
    free(huge);
}

static void test_cut_and_flipped(void **state)
{
    (void)state;
    static const char text[] =
        "file \"a\\x41b\" seq 12 type b startoffset 7\nfile c seq 3 type i\n";
    uint32_t seed = 7;
    for (size_t round = 0; round < 20000; round++) {
        char copy[sizeof(text)];
        memcpy(copy, text, sizeof(text));
        seed = seed * 1664525 + 1013904223;
        copy[seed % (sizeof(text) - 1)] = (char)(seed >> 24);
        size_t n = round % sizeof(text);
        char *exact = malloc(n + 1); /* so that a sanitizer sees a read too far */
        memcpy(exact, copy, n);
        struct aof_manifest m;
        struct err err;
        if (aof_manifest_parse(&m, span_of(exact, n), &err) == 0) aof_manifest_release(&m);
        free(exact);
    }
}

static void test_annotations(void **state)
{
    (void)state;
    int64_t ms = 0;
    assert_true(aof_timestamp(span_str("#TS:1795341260"), &ms));
    assert_int_equal(ms, 1795341260000);
    assert_false(aof_timestamp(span_str("#TS:"), &ms));
    assert_false(aof_timestamp(span_str("#TS:x"), &ms));
    assert_false(aof_timestamp(span_str("#TS:-5"), &ms));
    assert_false(aof_timestamp(span_str("#TS:9223372036854775807"), &ms));
    assert_false(aof_timestamp(span_str("# a comment"), &ms));
    assert_true(aof_is_rdb((const uint8_t *)"REDIS0011", 9));
    assert_true(aof_is_rdb((const uint8_t *)"VALKEY080", 9));
    assert_false(aof_is_rdb((const uint8_t *)"VALKE", 5));
    assert_false(aof_is_rdb((const uint8_t *)"*2\r\n$6\r\n", 8));
}

static reader_fill_fn *inner;

/* A file's end is told as such. */
static int fill_file(struct reader *r, size_t drop, size_t need, struct err *err)
{
    int rc = inner(r, drop, need, err);
    if (rc < 0) err->code = ERR_END;
    return rc;
}

/* What stands before the command at `left` of the text's end; rc and the time it tells. */
static void walk(const char *text, bool starve, int want_rc, size_t left, int64_t want_ms)
{
    struct reader r;
    struct err err = {0};
    int64_t ms = 7;
    (starve ? reader_init_starving : reader_init_mem)(&r, text, strlen(text));
    inner = r.fill;
    r.fill = fill_file;
    int rc = aof_to_command(&r, &ms, &err);
    if (rc != want_rc) fail_msg("%s: %d %s", text, rc, err.msg);
    assert_int_equal(ms, want_ms);
    if (rc >= 0) assert_int_equal(reader_pos(&r), strlen(text) - left);
    if (rc < 0) assert_int_equal(err.code, ERR_FORMAT);
}

static void test_between_commands(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        walk("", starve, 1, 0, 7);
        walk("*1", starve, 0, 2, 7);
        walk("#TS:5\r\n*1", starve, 0, 2, 5000);
        walk("#TS:5\n# free words\n#TS:6\r\n*", starve, 0, 1, 6000);
        walk("#TS:5\r\n", starve, 1, 0, 5000);
        walk("#TS:5\r\n#TS:6", starve, 1, 0, 5000); /* cut off: not taken */
        walk("#", starve, 1, 0, 7);
        walk("SET a 1\r\n", starve, -1, 0, 7);
        walk("#TS:5\n\n*1", starve, -1, 0, 5000);
    }
    static char endless[6000] = "#";
    memset(endless + 1, 'x', sizeof(endless) - 2);
    walk(endless, false, -1, 0, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_written_by_servers),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut_and_flipped),
        cmocka_unit_test(test_annotations),
        cmocka_unit_test(test_between_commands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
