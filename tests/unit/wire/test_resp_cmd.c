// SPDX-License-Identifier: BSD-3-Clause
// RESP commands: each case read from memory and again one byte at a time, hostile bytes, writing.
#include "wire/resp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct resp_cmds cmds;
    struct reader r;
    struct resp_cmd cmd;
    struct err err;
};

static struct span span_lit(const char *s, size_t n)
{
    return span_of(s, n);
}
#define LIT(s) span_lit(s, sizeof(s) - 1)

static void open_text(struct fixture *f, struct span text, bool starve)
{
    *f = (struct fixture){0};
    resp_cmds_init(&f->cmds);
    if (starve)
        reader_init_starving(&f->r, text.p, text.n);
    else
        reader_init_mem(&f->r, text.p, text.n);
}

static int next(struct fixture *f, size_t limit)
{
    return resp_cmd_next(&f->cmds, &f->r, limit, &f->cmd, &f->err);
}

static void assert_arg(const struct fixture *f, size_t i, struct span want)
{
    assert_true(i < f->cmd.argc);
    assert_true(span_eq(f->cmd.argv[i], want));
}

static void reads_commands_in_order(void **state)
{
    (void)state;
    struct span text = LIT("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"
                           "*1\r\n$4\r\nPING\r\n"
                           "\n\r\n*2\r\n$3\r\nGET\r\n$6\r\na\r\n\0b\n\r\n");
    for (int starve = 0; starve < 2; starve++) {
        struct fixture f;
        open_text(&f, text, starve);
        assert_int_equal(next(&f, 1000), 0);
        assert_int_equal(f.cmd.argc, 3);
        assert_arg(&f, 0, LIT("SET"));
        assert_arg(&f, 1, LIT("k"));
        assert_arg(&f, 2, LIT(""));
        assert_true(span_eq(f.cmd.raw, span_of(text.p, 26)));
        reader_release(&f.r);
        assert_int_equal(next(&f, 1000), 0);
        assert_int_equal(f.cmd.argc, 1);
        assert_int_equal(reader_pos(&f.r), 40);
        reader_release(&f.r);
        assert_int_equal(next(&f, 1000), 0);
        assert_int_equal(f.cmd.argc, 2);
        assert_arg(&f, 1, LIT("a\r\n\0b\n"));
        assert_true(span_eq(f.cmd.raw, span_of(text.p + 43, text.n - 43)));
        assert_int_equal(next(&f, 1000), -1);
        assert_int_equal(f.err.code, ERR_FORMAT);
        resp_cmds_release(&f.cmds);
    }
}

/* A batch is held until it is released: its spans stay good while more is read. */
static void earlier_commands_stay_in_place(void **state)
{
    (void)state;
    struct span text = LIT("*1\r\n$3\r\nONE\r\n\r\n*1\r\n$3\r\nTWO\r\n");
    struct fixture f;
    open_text(&f, text, true);
    assert_int_equal(next(&f, 100), 0);
    struct span one = f.cmd.raw, arg = f.cmd.argv[0];
    assert_int_equal(next(&f, 100), 0);
    assert_arg(&f, 0, LIT("TWO"));
    assert_ptr_equal(f.r.keep, text.p);
    assert_true(span_eq(one, LIT("*1\r\n$3\r\nONE\r\n")));
    assert_true(span_eq(arg, LIT("ONE")));
    resp_cmds_release(&f.cmds);
}

static void newlines_alone_hold_nothing(void **state)
{
    (void)state;
    struct fixture f;
    open_text(&f, LIT("\n\n\n\n\n\n\n\n*1\r\n$1\r\nX\r\n"), true);
    f.r.cap = 12;
    assert_int_equal(next(&f, 100), 0);
    assert_int_equal(f.cmd.raw.n, 11);
    resp_cmds_release(&f.cmds);
}

/* Redis 2.4 and 2.6 */
static void reads_inline_select(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        struct fixture f;
        open_text(&f, LIT("select 3\r\n  *"), starve);
        assert_int_equal(next(&f, 100), 0);
        assert_int_equal(f.cmd.argc, 2);
        assert_arg(&f, 0, LIT("select"));
        assert_arg(&f, 1, LIT("3"));
        assert_int_equal(f.cmd.raw.n, 10);
        assert_int_equal(reader_pos(&f.r), 10);
        resp_cmds_release(&f.cmds);
        open_text(&f, LIT("a\tb  c \n"), starve);
        assert_int_equal(next(&f, 100), 0);
        assert_int_equal(f.cmd.argc, 3);
        assert_arg(&f, 2, LIT("c"));
        resp_cmds_release(&f.cmds);
    }
}

static void an_inline_line_has_an_end(void **state)
{
    (void)state;
    size_t n = 70000;
    char *line = malloc(n);
    memset(line, 'a', n);
    struct fixture f;
    open_text(&f, span_of(line, n), false);
    assert_int_equal(next(&f, SIZE_MAX), -1);
    assert_int_equal(f.err.code, ERR_PROTO);
    assert_ptr_equal(f.r.p, line);
    resp_cmds_release(&f.cmds);
    open_text(&f, LIT("select 3\r\n"), false);
    assert_int_equal(next(&f, 9), 1);
    assert_int_equal(f.cmd.argc, 0);
    assert_int_equal(next(&f, 10), 0);
    resp_cmds_release(&f.cmds);
    free(line);
}

static void too_large_gives_the_start_back(void **state)
{
    (void)state;
    struct span text = LIT("\n*3\r\n$3\r\nSET\r\n$2\r\nkk\r\n$5\r\nabcde\r\n");
    for (int starve = 0; starve < 2; starve++) {
        struct fixture f;
        open_text(&f, text, starve);
        assert_int_equal(next(&f, text.n - 2), 1);
        assert_int_equal(f.cmd.argc, 2);
        assert_arg(&f, 0, LIT("SET"));
        assert_arg(&f, 1, LIT("kk"));
        assert_int_equal(f.cmd.raw.n, 0);
        assert_int_equal(reader_pos(&f.r), 1);
        /* known from the length alone: the last argument was not asked for */
        if (starve) assert_ptr_equal(f.r.end, text.p + text.n - 7);
        assert_int_equal(next(&f, text.n - 1), 0);
        assert_int_equal(f.cmd.argc, 3);
        assert_int_equal(f.cmd.raw.n, text.n - 1);
        resp_cmds_release(&f.cmds);
    }
}

/* "$1099511627776" with nothing behind it must neither wait nor allocate. */
static void huge_counts_cost_nothing(void **state)
{
    (void)state;
    struct fixture f;
    open_text(&f, LIT("*2\r\n$3\r\nSET\r\n$1099511627776\r\n"), false);
    assert_int_equal(next(&f, 1 << 20), 1);
    assert_int_equal(f.cmd.argc, 1);
    resp_cmds_release(&f.cmds);
    open_text(&f, LIT("*2147483647\r\n$1\r\na\r\n$1\r\nb\r\n"), false);
    assert_int_equal(next(&f, 1 << 20), -1);
    assert_int_equal(f.err.code, ERR_FORMAT);
    assert_in_range(f.cmds.alloc, 2, 64);
    resp_cmds_release(&f.cmds);
}

static void more_arguments_than_kept_is_too_large(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    struct err err;
    assert_int_equal(resp_put_head(&b, 101, &err), 0);
    for (int i = 0; i < 101; i++)
        assert_int_equal(resp_put_arg(&b, LIT("x"), &err), 0);
    struct fixture f;
    open_text(&f, buf_span(&b), false);
    f.cmds.max_args = 100;
    assert_int_equal(next(&f, SIZE_MAX), 1);
    assert_int_equal(f.cmd.argc, 100);
    assert_int_equal(reader_pos(&f.r), 0);
    f.cmds.max_args = 101;
    assert_int_equal(next(&f, SIZE_MAX), 0);
    assert_int_equal(f.cmd.argc, 101);
    resp_cmds_release(&f.cmds);
    buf_release(&b);
}

static void refuses_what_is_no_command(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *where;
    } bad[] = {
        {"*-1\r\n", "byte 0"},
        {"*0\r\n", "no arguments"},
        {"*\r\n", "byte 0"},
        {"*x\r\n", "byte 0"},
        {"*1x\r\n", "byte 0"},
        {"*1\n$1\r\n", "byte 0"},
        {"*1\rx", "byte 0"},
        {"*2147483648\r\n", "2147483648"},
        {"*0000000000000000001\r\n", "byte 0"},
        {"*99999999999999999999999\r\n", "byte 0"},
        {"*1\r\n$-1\r\n", "byte 4"},
        {"*1\r\n:1\r\n", "byte 4"},
        {"*1\r\n$1099511627777\r\n", "byte 4"},
        {"*1\r\n$1\r\nabc\r\n", "byte 9"},
        {"*1\r\n$1\r\na\rx", "byte 9"},
        {"\n\n+OK\r\n", "byte 2"},
        {"$5\r\nhello\r\n", "0x24"},
        {"#TS:1\r\n", "0x23"},
        {"sel\x01\n", "byte 3"},
        {"sel\x80\n", "byte 3"},
        {" a\n", "0x20"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int starve = 0; starve < 2; starve++) {
            struct fixture f;
            open_text(&f, span_str(bad[i].text), starve);
            f.cmd.argc = 77;
            if (next(&f, 1ULL << 50) != -1 || f.err.code != ERR_PROTO)
                fail_msg("%s: %s", bad[i].text, f.err.msg);
            if (!strstr(f.err.msg, bad[i].where)) fail_msg("%s: %s", bad[i].text, f.err.msg);
            assert_int_equal(f.cmd.argc, 77);
            resp_cmds_release(&f.cmds);
        }
    }
}

static void every_truncation_is_an_end_of_input(void **state)
{
    (void)state;
    struct span text = LIT("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nabcdefghijkl\r\n");
    for (size_t n = 0; n < text.n; n++) {
        for (int starve = 0; starve < 2; starve++) {
            char *copy = malloc(n + 1); /* exact size: the sanitizer sees one byte too many */
            memcpy(copy, text.p, n);
            char *exact = realloc(copy, n ? n : 1);
            struct fixture f;
            open_text(&f, span_of(exact, n), starve);
            assert_int_equal(next(&f, 1000), -1);
            assert_int_equal(f.err.code, ERR_FORMAT);
            assert_int_equal(reader_pos(&f.r), 0);
            resp_cmds_release(&f.cmds);
            free(exact);
        }
    }
}

/* Whatever one flipped bit makes of it: an answer, the same one with a starving reader. */
static void bit_flips_are_survived(void **state)
{
    (void)state;
    struct span text = LIT("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nabcdefghijkl\r\n");
    for (size_t bit = 0; bit < text.n * 8; bit++) {
        int rc[2];
        size_t argc[2], raw[2];
        char *copy = malloc(text.n);
        for (int starve = 0; starve < 2; starve++) {
            memcpy(copy, text.p, text.n);
            copy[bit / 8] ^= (char)(1 << bit % 8);
            struct fixture f;
            open_text(&f, span_of(copy, text.n), starve);
            rc[starve] = next(&f, 1000);
            argc[starve] = f.cmd.argc;
            raw[starve] = f.cmd.raw.n;
            resp_cmds_release(&f.cmds);
        }
        free(copy);
        assert_int_equal(rc[0], rc[1]);
        assert_int_equal(argc[0], argc[1]);
        assert_int_equal(raw[0], raw[1]);
    }
}

static void heads_can_be_read_alone(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t v = 7;
    open_text(&f, LIT("*12\r\n$345\r\n$9\r\n"), true);
    assert_int_equal(resp_head_next(&f.r, '*', 100, &v, &f.err), 0);
    assert_int_equal(v, 12);
    assert_int_equal(resp_head_next(&f.r, '$', 1000, &v, &f.err), 0);
    assert_int_equal(v, 345);
    assert_int_equal(resp_head_next(&f.r, '$', 8, &v, &f.err), -1);
    assert_int_equal(f.err.code, ERR_PROTO);
    assert_int_equal(v, 345);
    assert_int_equal(reader_pos(&f.r), 11);
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    struct buf b;
    struct err err;
    struct span argv[] = {LIT("SET"), LIT("a\0\r\n"), LIT("")};
    buf_init(&b, 1000);
    assert_int_equal(resp_put_cmd(&b, 3, argv, &err), 0);
    assert_true(span_eq(buf_span(&b), LIT("*3\r\n$3\r\nSET\r\n$4\r\na\0\r\n\r\n$0\r\n\r\n")));
    struct fixture f;
    open_text(&f, buf_span(&b), false);
    assert_int_equal(next(&f, 1000), 0);
    for (size_t i = 0; i < 3; i++)
        assert_arg(&f, i, argv[i]);
    resp_cmds_release(&f.cmds);
    buf_clear(&b);
    assert_int_equal(resp_put_strs(&b, &err, "SELECT", "11", NULL), 0);
    assert_true(span_eq(buf_span(&b), LIT("*2\r\n$6\r\nSELECT\r\n$2\r\n11\r\n")));
    buf_release(&b);
}

/* Nothing of a command that does not fit is left behind. */
static void writes_all_or_nothing(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 120; cap++) {
        struct buf b;
        struct err err;
        buf_init(&b, cap);
        struct span argv[] = {LIT("SET"), LIT("key"), LIT("0123456789012345678901234567890")};
        size_t whole = 4 + 9 + 9 + 38;
        int rc = resp_put_cmd(&b, 3, argv, &err);
        assert_int_equal(b.n, rc == 0 ? whole : 0);
        if (rc < 0) assert_int_equal(err.code, ERR_LIMIT);
        if (cap < whole) assert_int_equal(rc, -1);
        buf_clear(&b);
        rc = resp_put_strs(&b, &err, "SET", "key", "0123456789012345678901234567890", NULL);
        assert_int_equal(b.n, rc == 0 ? whole : 0);
        if (cap == 119) assert_int_equal(rc, 0);
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_commands_in_order),
        cmocka_unit_test(earlier_commands_stay_in_place),
        cmocka_unit_test(newlines_alone_hold_nothing),
        cmocka_unit_test(reads_inline_select),
        cmocka_unit_test(an_inline_line_has_an_end),
        cmocka_unit_test(too_large_gives_the_start_back),
        cmocka_unit_test(huge_counts_cost_nothing),
        cmocka_unit_test(more_arguments_than_kept_is_too_large),
        cmocka_unit_test(refuses_what_is_no_command),
        cmocka_unit_test(every_truncation_is_an_end_of_input),
        cmocka_unit_test(bit_flips_are_survived),
        cmocka_unit_test(heads_can_be_read_alone),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(writes_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
