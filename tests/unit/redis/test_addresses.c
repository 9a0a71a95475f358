// SPDX-License-Identifier: BSD-3-Clause
// The map from announced to reachable addresses.
#include "redis/addresses.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void leads(const struct cluster_addresses *a, const char *host, const char *port,
                  const char *to_host, const char *to_port)
{
    cluster_addresses_find(a, &host, &port);
    assert_string_equal(host, to_host);
    assert_string_equal(port, to_port);
}

static void addresses_lead_where_they_are_told_to(void **state)
{
    (void)state;
    struct cluster_addresses a;
    const char *text = "10.0.0.5:7000=gate.example:1,10.0.0.5=gate,[fd00::1]:7000=[::1]:2,"
                       "fd00::2=127.0.0.1,Name:1=10.0.0.5";
    assert_int_equal(cluster_addresses_parse(&a, text, NULL), 0);
    assert_int_equal(a.n, 5);
    leads(&a, "10.0.0.5", "7000", "gate.example", "1");
    leads(&a, "10.0.0.5", "7001", "gate", "7001");
    leads(&a, "fd00::1", "7000", "::1", "2");
    leads(&a, "fd00::1", "7001", "fd00::1", "7001");
    leads(&a, "fd00::2", "9", "127.0.0.1", "9");
    leads(&a, "nAME", "1", "10.0.0.5", "1"); /* and not on from there */
    leads(&a, "other", "1", "other", "1");
    leads(NULL, "other", "1", "other", "1");
    cluster_addresses_release(&a);
    cluster_addresses_release(&a);
    const char *host = "x", *port = "1";
    assert_false(cluster_addresses_find(&a, &host, &port));
}

static void what_is_no_map_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          "a",     "a=",    "=b",     "a=b,",   ",a=b",    "a=b,,c=d", "a:0=b",
        "a:65536=b", "a=b:x", "a:=b",  "a=b=c",  "[::1=b", "[]=b",    "[::1]x=b", "[::1]:=b",
        "a b=c",     "a=b/0", "u@a=b", "a=\x1b", "[a]]=b", "[a=b]=c",
    };
    struct cluster_addresses a = {.n = 77};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err err = {0};
        if (cluster_addresses_parse(&a, bad[i], &err) == 0) fail_msg("taken: %s", bad[i]);
        assert_int_equal(a.n, 77);
    }
}

static void a_list_without_end_is_refused(void **state)
{
    (void)state;
    char *text = malloc((ADDRESSES_MAX + 1) * 4 + 1);
    for (size_t i = 0; i <= ADDRESSES_MAX; i++)
        memcpy(text + i * 4, "a=b,", 5);
    text[(ADDRESSES_MAX + 1) * 4 - 1] = 0;
    struct cluster_addresses a;
    assert_int_equal(cluster_addresses_parse(&a, text, NULL), -1);
    text[ADDRESSES_MAX * 4 - 1] = 0;
    assert_int_equal(cluster_addresses_parse(&a, text, NULL), 0);
    assert_int_equal(a.n, ADDRESSES_MAX);
    cluster_addresses_release(&a);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_lead_where_they_are_told_to),
        cmocka_unit_test(what_is_no_map_is_refused),
        cmocka_unit_test(a_list_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
