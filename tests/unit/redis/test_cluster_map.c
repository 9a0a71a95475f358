// SPDX-License-Identifier: BSD-3-Clause
// CLUSTER NODES of every version, as servers write it and as nobody should; redirections.
#include "redis/cluster_map.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define A "07c37dfeb235213a872192d90877d0cd55635b91"
#define B "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1"
#define C "292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f"
#define D "6ec23923021cf3ffec47632106199cb7f496ce01"

static struct cluster_map *parse(const char *text)
{
    struct cluster_map *m = NULL;
    struct err err = {0};
    if (cluster_map_parse(&m, span_str(text), "asked.example", &err) < 0) fail_msg("%s", err.msg);
    return m;
}

/* Refused, with nothing leaked (the sanitizer tells). From a copy without a byte behind it. */
static void refused(const char *text, enum err_code code)
{
    size_t n = strlen(text);
    char *copy = malloc(n + !n);
    if (n) memcpy(copy, text, n);
    struct cluster_map *m = NULL;
    struct err err = {0};
    int rc = cluster_map_parse(&m, span_of(copy, n), NULL, &err);
    free(copy);
    if (rc == 0) fail_msg("taken: %s", text);
    assert_null(m);
    assert_int_equal(err.code, code);
}

static void a_cluster_of_redis_7(void **state)
{
    (void)state;
    struct cluster_map *m = parse(
        A " 127.0.0.1:30004@31004,hostname4 slave " B " 0 1426238317239 4 connected\n" B
          " 127.0.0.1:30002@31002,hostname2 master - 0 1426238316232 2 connected 0-8191\n" C
          " 127.0.0.1:30003@31003, myself,master - 0 0 3 connected 8192-16382 16383\n" D
          " 127.0.0.1:30005@31005 slave,fail " C " 1426238316232 1426238316232 5 disconnected\n");
    assert_int_equal(m->n, 4);
    assert_int_equal(m->myself, 2);
    assert_int_equal(m->epoch, 5);
    assert_int_equal(m->owned, SLOT_COUNT);
    assert_string_equal(m->node[0].id, A);
    assert_string_equal(m->node[0].host, "127.0.0.1");
    assert_string_equal(m->node[0].port, "30004");
    assert_string_equal(m->node[0].hostname, "hostname4");
    assert_string_equal(m->node[0].primary_id, B);
    assert_false(m->node[0].primary);
    assert_true(m->node[1].primary && m->node[1].linked && !m->node[1].myself);
    assert_string_equal(m->node[1].primary_id, "");
    assert_int_equal(m->node[1].slots, 8192);
    assert_string_equal(m->node[2].hostname, "");
    assert_true(m->node[3].failed && !m->node[3].linked);
    assert_int_equal(m->owner[0], 1);
    assert_int_equal(m->owner[8191], 1);
    assert_int_equal(m->owner[8192], 2);
    assert_int_equal(m->owner[16383], 2);
    assert_int_equal(cluster_map_primary(m, 0), 1);
    assert_int_equal(cluster_map_primary(m, 2), 2);
    assert_int_equal(cluster_map_primary(m, 3), CLUSTER_NO_NODE);
    assert_int_equal(cluster_map_replica(m, 1, 0), 0);
    assert_int_equal(cluster_map_replica(m, 1, 1), CLUSTER_NO_NODE);
    assert_int_equal(cluster_map_replica(m, 2, 0), CLUSTER_NO_NODE); /* it has failed */
    assert_int_equal(cluster_map_by_address(m, "HOSTNAME2", "30002"), 1);
    assert_int_equal(cluster_map_by_address(m, "127.0.0.1", "30003"), 2);
    assert_int_equal(cluster_map_by_address(m, "127.0.0.1", "1"), CLUSTER_NO_NODE);
    assert_int_equal(cluster_map_by_address(m, "", "30003"), CLUSTER_NO_NODE);
    assert_int_equal(cluster_map_by_id(m, D), 3);
    cluster_map_free(m);
}

/* No cport, a node that does not know its own address, one that is just being met. */
static void a_cluster_of_redis_3_0(void **state)
{
    (void)state;
    struct cluster_map *m = parse(A " :7000 myself,master - 0 0 0 connected\n" B
                                    " 127.0.0.1:7001 handshake - 1426238317239 0 0 disconnected\n" C
                                    " :0 master,noaddr,fail? - 0 0 1 disconnected 5\n");
    assert_string_equal(m->node[0].host, "asked.example");
    assert_string_equal(m->node[0].port, "7000");
    assert_true(m->node[1].handshake && !m->node[1].primary);
    assert_string_equal(m->node[2].host, "");
    assert_string_equal(m->node[2].port, "0");
    assert_true(m->node[2].suspected && !m->node[2].failed);
    assert_int_equal(m->owned, 1);
    cluster_map_free(m);
}

static void addresses_of_all_kinds(void **state)
{
    (void)state;
    struct cluster_map *m = parse(
        A " 2001:db8::1:7000@17000 myself,master - 0 0 1 connected 1\r\n" B
          " [::1]:7001@17001,a-b.example_c,nodename=x master - 0 0 2 connected\n" C
          " ?:7002@17002,?,shard-id=69bc080733d1355567173199cff4a6a039a2f024 master - 0 0 3 "
          "connected\n" D " 10.0.0.1:7003@17003,shard-id=1 master - 0 0 4 connected");
    assert_string_equal(m->node[0].host, "2001:db8::1");
    assert_string_equal(m->node[0].port, "7000");
    assert_string_equal(m->node[1].host, "::1");
    assert_string_equal(m->node[1].hostname, "a-b.example_c");
    assert_string_equal(m->node[2].host, "");
    assert_string_equal(m->node[2].hostname, "");
    assert_string_equal(m->node[3].hostname, "");
    assert_int_equal(m->n, 4);
    cluster_map_free(m);
}

static void slots_on_their_way(void **state)
{
    (void)state;
    struct cluster_map *m = parse(A " 127.0.0.1:1@2 myself,master - 0 0 1 connected 0-100 [93->-" B
                                    "] [77-<-" C "] [78->-" D "] \n" B
                                    " 127.0.0.1:2@3 master - 0 0 2 connected 101 [5->-" A "]\n" C
                                    " 127.0.0.1:3@4 master - 0 0 3 connected\n");
    assert_int_equal(m->moving[93], CLUSTER_MIGRATING);
    assert_int_equal(m->other[93], 1);
    assert_int_equal(m->moving[77], CLUSTER_IMPORTING);
    assert_int_equal(m->other[77], 2);
    assert_int_equal(m->moving[78], CLUSTER_MIGRATING);
    assert_int_equal(m->other[78], CLUSTER_NO_NODE); /* not a member */
    assert_int_equal(m->moving[5], CLUSTER_STAYS);   /* not the node that was asked */
    assert_int_equal(m->other[5], CLUSTER_NO_NODE);
    cluster_map_free(m);
}

static void of_two_claims_the_newer_one_holds(void **state)
{
    (void)state;
    struct cluster_map *m = parse(A " 127.0.0.1:1@2 master - 0 0 7 connected 0-9\n" B
                                    " 127.0.0.1:2@3 master - 0 0 9 connected 5-12 7\n" C
                                    " 127.0.0.1:3@4 master - 0 0 8 connected 9-13\n");
    assert_int_equal(m->myself, CLUSTER_NO_NODE);
    assert_int_equal(m->owner[4], 0);
    assert_int_equal(m->owner[5], 1);
    assert_int_equal(m->owner[9], 1);
    assert_int_equal(m->owner[13], 2);
    assert_int_equal(m->node[0].slots, 5);
    assert_int_equal(m->node[1].slots, 8);
    assert_int_equal(m->node[2].slots, 1);
    assert_int_equal(m->owned, 14);
    cluster_map_free(m);
}

static void add(struct buf *b, const char *text)
{
    assert_int_equal(buf_add(b, text, strlen(text), NULL), 0);
}

static void add_number(struct buf *b, unsigned n)
{
    assert_int_equal(buf_printf(b, NULL, " %u", n), 0);
}

/* One shard for each even slot, in as many ranges as there can be. */
static void many_ranges(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1u << 20);
    add(&b, A " 127.0.0.1:1@2 master - 0 0 7 connected");
    for (unsigned i = 0; i < SLOT_COUNT; i += 2)
        add_number(&b, i);
    add(&b, "\n" B " 127.0.0.1:2@3 master - 0 0 8 connected");
    for (unsigned i = 1; i < SLOT_COUNT; i += 2)
        add_number(&b, i);
    assert_int_equal(buf_add(&b, "", 1, NULL), 0);
    struct cluster_map *m = parse((const char *)b.p);
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        assert_int_equal(m->owner[i], i % 2);
    assert_int_equal(m->owned, SLOT_COUNT);
    cluster_map_free(m);
    buf_release(&b);
}

static void owners_are_compared_by_id(void **state)
{
    (void)state;
    const char *same = A " 127.0.0.1:1@2 master - 0 0 7 connected 0-9\n" B
                         " 127.0.0.1:2@3 master - 0 0 9 connected 10-20\n";
    const char *turned = B " 10.0.0.2:2@3 myself,master - 0 0 11 connected 10-20\n" C
                           " 127.0.0.1:3@3 slave " A " 0 0 9 connected\n" A
                           " 127.0.0.1:1@2 master - 0 0 7 connected 0-9\n";
    const char *moved = A " 127.0.0.1:1@2 master - 0 0 7 connected 0-8\n" B
                          " 127.0.0.1:2@3 master - 0 0 9 connected 9-20\n";
    const char *less = A " 127.0.0.1:1@2 master - 0 0 7 connected 0-9\n" B
                         " 127.0.0.1:2@3 master - 0 0 9 connected 10-19\n";
    struct cluster_map *a = parse(same), *b = parse(turned), *c = parse(moved), *d = parse(less);
    assert_true(cluster_map_same(a, a));
    assert_true(cluster_map_same(a, b));
    assert_true(cluster_map_same(b, a));
    assert_false(cluster_map_same(a, c));
    assert_false(cluster_map_same(b, c));
    assert_false(cluster_map_same(a, d));
    assert_false(cluster_map_same(d, a));
    cluster_map_free(a);
    cluster_map_free(b);
    cluster_map_free(c);
    cluster_map_free(d);
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\n\n",
        "hello",
        A,
        A " 127.0.0.1:1@2 master - 0 0 1",
        A " 127.0.0.1:1@2 master - 0 0 1 ",
        A " 127.0.0.1:1@2 master - 0 0 x connected",
        A " 127.0.0.1:1@2 master - 0 0 -1 connected",
        A " 127.0.0.1 master - 0 0 1 connected",
        A " 127.0.0.1:66000 master - 0 0 1 connected",
        A " 127.0.0.1:x@1 master - 0 0 1 connected",
        A " 127.0.0.1;reboot:1@2 master - 0 0 1 connected",
        A " 127.0.0.1:1@2,a\033[1mb master - 0 0 1 connected",
        A " 127.0.0.1:1@2 slave bad/id 0 0 1 connected",
        " 127.0.0.1:1@2 master - 0 0 1 connected",
        A A " 127.0.0.1:1@2 master - 0 0 1 connected",
        A " 127.0.0.1:1@2 master - 0 0 1 connected 16384",
        A " 127.0.0.1:1@2 master - 0 0 1 connected 5-16384",
        A " 127.0.0.1:1@2 master - 0 0 1 connected 6-5",
        A " 127.0.0.1:1@2 master - 0 0 1 connected -5",
        A " 127.0.0.1:1@2 master - 0 0 1 connected 5-",
        A " 127.0.0.1:1@2 master - 0 0 1 connected 5-6-7",
        A " 127.0.0.1:1@2 master - 0 0 1 connected 18446744073709551617",
        A " 127.0.0.1:1@2 master - 0 0 1 connected x",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected [",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected []",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected [5->-",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected [5->-]",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected [5->" B "]",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected [5-=-" B "]",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected [16384->-" B "]",
        A " 127.0.0.1:1@2 master - 0 0 1 connected\n" A " 127.0.0.1:1@2 master - 0 0 1 connected",
        A " 127.0.0.1:1@2 myself,master - 0 0 1 connected\n" B
          " 127.0.0.1:2@3 myself,master - 0 0 1 connected",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i], ERR_PROTO);
}

static void each_cut_and_each_wrong_byte_ends_well(void **state)
{
    (void)state;
    static const char good[] = A " 127.0.0.1:1@2,h myself,master - 0 0 1 connected 0-9 [5->-" B
                                 "]\n" B " ::1:2@3 slave,fail? " A " 0 0 9 connected\n";
    for (size_t n = 0; n < sizeof(good); n++)
        for (unsigned with = 0; with < 256; with += 3) {
            char *text = malloc(sizeof(good));
            memcpy(text, good, sizeof(good));
            text[n] = (char)with;
            struct cluster_map *m = NULL;
            if (cluster_map_parse(&m, span_of(text, with % 2 ? n : sizeof(good)), NULL, NULL) == 0)
                cluster_map_free(m);
            free(text);
        }
}

static void too_many_nodes_are_refused(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1u << 20);
    for (unsigned i = 0; i <= CLUSTER_NODES_MAX; i++)
        assert_int_equal(buf_printf(&b, NULL, "%06x h:1@2 master - 0 0 1 connected\n", i), 0);
    assert_int_equal(buf_add(&b, "", 1, NULL), 0);
    refused((const char *)b.p, ERR_LIMIT);
    buf_release(&b);
}

static void redirections_are_read(void **state)
{
    (void)state;
    struct cluster_redirect r = {0};
    assert_int_equal(cluster_redirect_parse("MOVED 3999 127.0.0.1:6381", &r), 0);
    assert_false(r.ask || r.unknown);
    assert_int_equal(r.slot, 3999);
    assert_string_equal(r.host, "127.0.0.1");
    assert_string_equal(r.port, "6381");
    assert_int_equal(cluster_redirect_parse("ASK 16383 2001:db8::1:6381", &r), 0);
    assert_true(r.ask);
    assert_string_equal(r.host, "2001:db8::1");
    assert_int_equal(cluster_redirect_parse("ASK 0 [::1]:6381", &r), 0);
    assert_string_equal(r.host, "::1");
    assert_int_equal(cluster_redirect_parse("MOVED 0 :7000", &r), 0);
    assert_string_equal(r.host, "");
    assert_string_equal(r.port, "7000");
    assert_false(r.unknown);
    assert_int_equal(cluster_redirect_parse("MOVED 0 ?:7000", &r), 0);
    assert_true(r.unknown);
    assert_int_equal(cluster_redirect_parse("MOVED 0 node-1.example:7000 more", &r), 0);
    assert_string_equal(r.host, "node-1.example");
}

static void other_errors_are_no_redirection(void **state)
{
    (void)state;
    static const char *const other[] = {
        "",          "MOVED",       "MOVED 1",          "MOVED 1 h",       "MOVED 16384 h:1",
        "MOVED x h", "MOVED 1 h:x", "MOVED 1 h:",       "moved 1 h:1",     "MOVED 1 h h:1",
        "ASKING",    "ERR no",      "MOVED 1 h:-1",     "MOVED 1 h:65536", "MOVED -1 h:1",
        "TRYAGAIN",  "CLUSTERDOWN", "MOVED 1 \x1b[1:1", "MOVEDX 1 h:1",
    };
    struct cluster_redirect r = {.slot = 77};
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        if (cluster_redirect_parse(other[i], &r) == 0) fail_msg("taken: %s", other[i]);
        assert_int_equal(r.slot, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_of_redis_7),
        cmocka_unit_test(a_cluster_of_redis_3_0),
        cmocka_unit_test(addresses_of_all_kinds),
        cmocka_unit_test(slots_on_their_way),
        cmocka_unit_test(of_two_claims_the_newer_one_holds),
        cmocka_unit_test(many_ranges),
        cmocka_unit_test(owners_are_compared_by_id),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(each_cut_and_each_wrong_byte_ends_well),
        cmocka_unit_test(too_many_nodes_are_refused),
        cmocka_unit_test(redirections_are_read),
        cmocka_unit_test(other_errors_are_no_redirection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
