// SPDX-License-Identifier: BSD-3-Clause
// Database selection and mapping.
#include "engine/select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct db_select parsed(const char *list, const char *map)
{
    struct db_select s;
    struct err err = {0};
    if (db_select_parse(&s, list, &err) < 0 || db_select_parse_map(&s, map, &err) < 0)
        fail_msg("%s %s: %s", list, map, err.msg);
    return s;
}

static void all_databases(void **state)
{
    (void)state;
    const char *const lists[] = {NULL, "all"};
    for (size_t i = 0; i < 2; i++) {
        struct db_select s = parsed(lists[i], NULL);
        assert_int_equal(db_select_target(&s, 0), 0);
        assert_int_equal(db_select_target(&s, 15), 15);
        assert_int_equal(db_select_target(&s, 70000), 70000);
        assert_int_equal(db_select_target(&s, UINT64_MAX), -1);
    }
}

static void lists_and_ranges(void **state)
{
    (void)state;
    struct db_select s = parsed("0,3,8-15,65535", NULL);
    for (uint64_t db = 0; db < 70000; db++) {
        bool want = db == 0 || db == 3 || (db >= 8 && db <= 15) || db == 65535;
        assert_int_equal(db_select_target(&s, db), want ? (int64_t)db : -1);
    }
    s = parsed("5-5,5", NULL);
    assert_int_equal(db_select_target(&s, 5), 5);
    assert_int_equal(db_select_target(&s, 4), -1);
}

static void maps(void **state)
{
    (void)state;
    struct db_select s = parsed("0,3,7", "0:5,3:0");
    assert_int_equal(db_select_target(&s, 0), 5);
    assert_int_equal(db_select_target(&s, 3), 0);
    assert_int_equal(db_select_target(&s, 7), 7);
    assert_int_equal(db_select_target(&s, 5), -1);
    s = parsed(NULL, "0:5,5:0");
    assert_int_equal(db_select_target(&s, 0), 5);
    assert_int_equal(db_select_target(&s, 5), 0);
    assert_int_equal(db_select_target(&s, 1), 1);
    s = parsed("2", "2:2");
    assert_int_equal(db_select_target(&s, 2), 2);
}

static void refuses_wrong_lists(void **state)
{
    (void)state;
    const char *const bad[] = {
        "",      ",",   "0,",    "a",    "-1",      "1-",  "3-2",
        "0-1-2", "1 2", "65536", "0,,1", "0-65536", "ALL", "18446744073709551616"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct db_select s = {.n_map = 9};
        struct err err = {0};
        if (db_select_parse(&s, bad[i], &err) == 0) fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--db"));
        assert_int_equal(s.n_map, 9);
    }
}

static void refuses_wrong_maps(void **state)
{
    (void)state;
    static const struct {
        const char *list, *map;
    } bad[] = {
        {NULL, ""},     {NULL, "0"},        {NULL, "0:"},      {NULL, ":1"},     {NULL, "0:1:2"},
        {NULL, "0:1,"}, {NULL, "a:1"},      {NULL, "0:65536"}, {NULL, "0:5"},    {NULL, "0:5,5:5"},
        {"0,3", "0:3"}, {"0,3", "0:7,3:7"}, {"0,3", "5:7"},    {"0", "0:1,0:2"}, {"0", "0-1:2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct db_select s = parsed(bad[i].list, NULL);
        struct err err = {0};
        if (db_select_parse_map(&s, bad[i].map, &err) == 0) fail_msg("'%s' was taken", bad[i].map);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--db-map"));
        assert_int_equal(s.n_map, 0);
    }
}

static void too_many_pairs(void **state)
{
    (void)state;
    char map[257 * 12] = "";
    size_t n = 0;
    for (int i = 0; i < 256; i++)
        n += (size_t)snprintf(map + n, sizeof map - n, "%s%d:%d", i ? "," : "", i, i + 1000);
    struct db_select s = parsed("0-256", map);
    assert_int_equal(s.n_map, 256);
    assert_int_equal(db_select_target(&s, 255), 1255);
    snprintf(map + n, sizeof map - n, ",256:1256");
    struct err err;
    assert_int_equal(db_select_parse_map(&s, map, &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
}

static void swaps(void **state)
{
    (void)state;
    struct db_select s = parsed("0,3", NULL);
    assert_int_equal(db_select_swap(&s, 0, 3), 2);
    assert_int_equal(db_select_swap(&s, 0, 1), 1);
    assert_int_equal(db_select_swap(&s, 1, 0), 1);
    assert_int_equal(db_select_swap(&s, 1, 2), 0);
    s = parsed(NULL, NULL);
    assert_int_equal(db_select_swap(&s, 0, 12), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_databases),
        cmocka_unit_test(lists_and_ranges),
        cmocka_unit_test(maps),
        cmocka_unit_test(refuses_wrong_lists),
        cmocka_unit_test(refuses_wrong_maps),
        cmocka_unit_test(too_many_pairs),
        cmocka_unit_test(swaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
