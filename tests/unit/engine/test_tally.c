// SPDX-License-Identifier: BSD-3-Clause
// Counting commands: by name and database, what a cut leaves out, what is bounded, broken bytes.
#include "engine/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct kit {
    struct tally t;
    struct db_select select;
    struct key_select keys;
    struct tally_config cfg;
    struct tally_cut cut;
    struct buf aof;
    struct err err;
};

static struct kit *new_kit(const char *dbs, const char *keys)
{
    struct kit *k = calloc(1, sizeof(*k));
    assert_non_null(k);
    buf_init(&k->aof, 64u << 20);
    assert_int_equal(tally_init(&k->t, &k->err), 0);
    assert_int_equal(db_select_parse(&k->select, dbs, &k->err), 0);
    assert_int_equal(key_select_parse(&k->keys, keys, NULL, &k->err), 0);
    k->cfg = (struct tally_config){.select = &k->select, .keys = &k->keys};
    return k;
}

static void free_kit(struct kit *k)
{
    tally_release(&k->t);
    key_select_release(&k->keys);
    buf_release(&k->aof);
    free(k);
}

/* Commands of words between bars; what begins with # is a comment. */
static void add(struct kit *k, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "|");
        struct span argv[16];
        size_t argc = 0;
        for (size_t i = 0; i < n;) {
            size_t len = strcspn(text + i, " |");
            argv[argc++] = span_of(text + i, len);
            i += len + 1;
        }
        int rc = *text == '#' ? buf_printf(&k->aof, NULL, "%.*s\r\n", (int)n, text)
                              : resp_put_cmd(&k->aof, argc, argv, NULL);
        assert_int_equal(rc, 0);
        text += n + (text[n] == '|');
    }
}

static reader_fill_fn *inner;

/* A file's end is told as such. */
static int fill_file(struct reader *r, size_t drop, size_t need, struct err *err)
{
    int rc = inner(r, drop, need, err);
    if (rc < 0) err->code = ERR_END;
    return rc;
}

static int run_bytes(struct kit *k, size_t n, bool starve)
{
    struct reader r;
    (starve ? reader_init_starving : reader_init_mem)(&r, k->aof.p, n);
    inner = r.fill;
    r.fill = fill_file;
    return tally_run(&k->t, &k->cfg, &r, &k->cut, &k->err);
}

static void run(struct kit *k)
{
    if (run_bytes(k, k->aof.n, false) < 0) fail_msg("%s", k->err.msg);
    assert_int_equal(k->t.bytes, k->aof.n);
    assert_false(k->cut.cut);
}

/* "SET 2,GET 1" in the order of the report. */
static void expect_names(struct kit *k, const char *want)
{
    char got[4096] = "";
    size_t n = 0;
    tally_sort(&k->t);
    for (size_t i = 0; i < k->t.n_command; i++)
        if (k->t.command[i].n.sum.commands)
            n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%s %d", n ? "," : "",
                                  k->t.command[i].name, (int)k->t.command[i].n.sum.commands);
    assert_string_equal(got, want);
}

static void expect_dbs(struct kit *k, const char *want)
{
    char got[4096] = "";
    size_t n = 0;
    tally_sort(&k->t);
    for (size_t i = 0; i < k->t.n_db; i++)
        n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%d:%d", n ? "," : "", (int)k->t.db[i].db,
                              (int)k->t.db[i].n.sum.commands);
    assert_string_equal(got, want);
}

static void by_name_and_database(void **state)
{
    (void)state;
    struct kit *k = new_kit(NULL, NULL);
    add(k, "#TS:50|SELECT 3|set a 1|SET b 2|#TS:60|SELECT 0|INCR n|#TS:55|Json.Set j $ 1|"
           "FLUSHALL|SWAPDB 0 1|FUNCTION LOAD x|SCRIPT LOAD y|EVAL z 0|SET c 3");
    run(k);
    expect_names(k, "SET 3,EVAL 1,FLUSHALL 1,FUNCTION 1,INCR 1,JSON.SET 1,SCRIPT 1,SWAPDB 1");
    expect_dbs(k, "0:4,3:2");
    assert_int_equal(k->t.nowhere.sum.commands, 4);
    assert_int_equal(k->t.all.sum.commands, 10);
    assert_int_equal(k->t.first_ms, 50000);
    assert_int_equal(k->t.last_ms, 60000);
    assert_int_equal(k->t.left_out.sum.commands, 0);
    free_kit(k);
}

static void bytes_add_up(void **state)
{
    (void)state;
    struct kit *k = new_kit("0", NULL);
    add(k, "SET a 1|INCR n|SET abc 123");
    size_t inside = k->aof.n;
    add(k, "SELECT 1");
    size_t framing = k->aof.n - inside;
    add(k, "SET d 1");
    run(k);
    uint64_t sum = 0;
    for (size_t i = 0; i < k->t.n_command; i++)
        sum += k->t.command[i].n.sum.bytes;
    assert_int_equal(sum, inside);
    assert_int_equal(k->t.all.sum.bytes, inside);
    assert_int_equal(k->t.left_out.sum.bytes, k->aof.n - inside - framing);
    free_kit(k);
}

static void what_is_not_asked_for(void **state)
{
    (void)state;
    struct kit *k = new_kit("0,2", "user:*");
    add(k, "SET user:1 1|SET x 1|SELECT 1|SET user:2 1|SELECT 2|DEL a user:1|DEL a b|FLUSHDB|"
           "FLUSHALL|EVAL s 1 user:3|EVAL s 1 x|EVAL s many x|FOO x|RENAME user:1 b|MSET a 1 b 1");
    run(k);
    expect_names(k, "EVAL 2,DEL 1,FLUSHALL 1,FLUSHDB 1,FOO 1,RENAME 1,SET 1");
    assert_int_equal(k->t.left_out.sum.commands, 5);
    free_kit(k);
}

static void transactions(void **state)
{
    (void)state;
    struct kit *k = new_kit(NULL, NULL);
    add(k, "SET a 1|MULTI|SET b 1|INCR n|EXEC|MULTI|EXEC|SET c 1");
    run(k);
    expect_names(k, "SET 3,INCR 1");
    assert_int_equal(k->t.transactions, 2);
    free_kit(k);
}

/* The counts of a cut file are those of its whole commands and transactions. */
static void cut_anywhere(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int commands; /* in all, behind this one */
    } parts[] = {{"SET a 1", 1},  {"SELECT 2", 1},
                 {"SADD s x", 2}, {"MULTI|SET b 1|SET a 2|SELECT 4|DEL a|EXEC", 5},
                 {"#TS:70", 5},   {"INCR n", 6}};
    for (int starve = 0; starve < 2; starve++) {
        struct kit *whole = new_kit(NULL, NULL);
        size_t from = 0, valid = 0; /* a comment belongs to what follows, as for servers */
        int before = 0;
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            add(whole, parts[i].text);
            for (size_t n = from; n < whole->aof.n; n++) {
                struct kit *k = new_kit(NULL, NULL);
                assert_int_equal(buf_add(&k->aof, whole->aof.p, n, NULL), 0);
                if (run_bytes(k, n, starve) < 0) fail_msg("%zu: %s", n, k->err.msg);
                assert_int_equal(k->t.all.sum.commands, before);
                uint64_t in_dbs = 0, by_name = 0;
                for (size_t d = 0; d < k->t.n_db; d++)
                    in_dbs += k->t.db[d].n.sum.commands;
                for (size_t c = 0; c < k->t.n_command; c++)
                    by_name += k->t.command[c].n.sum.commands;
                assert_int_equal(in_dbs, before);
                assert_int_equal(by_name, before);
                bool comment = parts[i].text[0] == '#'; /* cut, it ends the file */
                assert_int_equal(k->cut.cut, n > from && !comment);
                if (k->cut.cut) assert_int_equal(k->cut.at, valid);
                free_kit(k);
            }
            from = whole->aof.n;
            if (parts[i].text[0] != '#') valid = from;
            before = parts[i].commands;
        }
        free_kit(whole);
    }
}

/* Passed over piece by piece, and counted by their names and keys. */
static void commands_larger_than_memory(void **state)
{
    (void)state;
    size_t big = 6u << 20;
    char *value = malloc(big + 1);
    assert_non_null(value);
    memset(value, 'v', big);
    for (int chosen = 0; chosen < 2; chosen++) {
        struct kit *k = new_kit(NULL, chosen ? "a" : "z");
        struct span set[] = {span_str("SET"), span_str("a"), span_of(value, big)};
        struct span mset[] = {span_str("MSET"), span_str("a"), span_of(value, big), span_str("b"),
                              span_of(value, big)};
        assert_int_equal(resp_put_cmd(&k->aof, 3, set, NULL), 0);
        size_t one = k->aof.n;
        assert_int_equal(resp_put_cmd(&k->aof, 5, mset, NULL), 0);
        add(k, "INCR a");
        run(k);
        expect_names(k, chosen ? "INCR 1,MSET 1,SET 1" : "MSET 1"); /* it may name others */
        assert_int_equal(k->t.left_out.sum.bytes, chosen ? 0 : one + 21);
        free_kit(k);
        k = new_kit(NULL, NULL); /* cut within */
        assert_int_equal(resp_put_cmd(&k->aof, 3, set, NULL), 0);
        assert_int_equal(run_bytes(k, k->aof.n - 9, false), 0);
        assert_true(k->cut.cut && k->cut.at == 0 && k->t.all.sum.commands == 0);
        free_kit(k);
    }
    free(value);
}

static void lists_are_bounded(void **state)
{
    (void)state;
    struct kit *k = new_kit(NULL, NULL);
    char text[100];
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof(text), "SELECT %d|MOD.CMD%d x|SET a 1", i, i % 500);
        add(k, text);
    }
    run(k);
    assert_int_equal(k->t.n_db, TALLY_DBS);
    assert_int_equal(k->t.n_command, TALLY_UNKNOWN + 2);
    uint64_t n = 0;
    for (size_t i = 0; i < k->t.n_db; i++)
        n += k->t.db[i].n.sum.commands;
    assert_int_equal(n, 10000);
    tally_sort(&k->t);
    assert_string_equal(k->t.command[0].name, "SET");
    assert_string_equal(k->t.command[1].name, "(others)");
    assert_int_equal(k->t.command[1].n.sum.commands, (500 - TALLY_UNKNOWN) * 10);
    free_kit(k);
}

static void names_are_made_plain(void **state)
{
    (void)state;
    struct kit *k = new_kit(NULL, NULL);
    add(k, "\x1b[2J\"x y|aVeryLongCommandNameOfAModuleThatDoesNotKnowWhenToStopAtAll z");
    run(k);
    expect_names(k, "?[2J\"X 1,AVERYLONGCOMMANDNAMEOFAMODULETHATDOESNO 1");
    free_kit(k);
}

static void what_is_no_aof(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *words;
    } bad[] = {{"hello", "no command at byte 0"},
               {"*1\r\n$4\r\nPING\r\nx", "no command at byte 14"},
               {"*0\r\n", "no arguments"},
               {"*1\r\n$3\r\nPING\r\n", "no line end"},
               {"*2\r\n$6\r\nSELECT\r\n$1\r\nx\r\n", "a SELECT without a database"}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct kit *k = new_kit(NULL, NULL);
        assert_int_equal(buf_add(&k->aof, bad[i].bytes, strlen(bad[i].bytes), NULL), 0);
        assert_int_equal(run_bytes(k, k->aof.n, false), -1);
        if (!strstr(k->err.msg, bad[i].words)) fail_msg("%s", k->err.msg);
        free_kit(k);
    }
}

static void mutated(void **state)
{
    (void)state;
    unsigned seed = 7;
    struct kit *base = new_kit(NULL, NULL);
    add(base,
        "#TS:50|SELECT 3|SET a 1|MULTI|INCR n|EXEC|EVAL s 1 k|MSET a 1 b 2|XGROUP CREATE k g 0");
    for (int round = 0; round < 30000; round++) {
        struct kit *k = new_kit("3", "a*");
        assert_int_equal(buf_add(&k->aof, base->aof.p, base->aof.n, NULL), 0);
        for (int flips = 0; flips < 2; flips++) {
            seed = seed * 1664525 + 1013904223;
            k->aof.p[(seed >> 8) % k->aof.n] = round % 2
                                                   ? (uint8_t)(seed >> 24)
                                                   : (uint8_t) "*$0123#\r\n"[(seed >> 24) % 9];
        }
        seed = seed * 1664525 + 1013904223;
        (void)!run_bytes(k, 1 + (seed >> 8) % k->aof.n, false);
        assert_true(k->t.all.sum.commands <= 20);
        free_kit(k);
    }
    free_kit(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_name_and_database),  cmocka_unit_test(bytes_add_up),
        cmocka_unit_test(what_is_not_asked_for), cmocka_unit_test(transactions),
        cmocka_unit_test(cut_anywhere),          cmocka_unit_test(commands_larger_than_memory),
        cmocka_unit_test(lists_are_bounded),     cmocka_unit_test(names_are_made_plain),
        cmocka_unit_test(what_is_no_aof),        cmocka_unit_test(mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
