// SPDX-License-Identifier: BSD-3-Clause
// facts_takes_type against the real servers that are here: each type of the golden dumps is tried.
//
// Here are: redis-server of PATH, and what tests/servers has fetched.
#include "base/crc64.h"
#include "engine/golden.h"
#include "live_server.h"
#include "redis/facts.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TYPES     (RDB_VALKEY_HASH_2 + 1)
#define VALUE_MAX (64u << 10)

/* One value of each type that the golden dumps have, as they hold it. */
struct samples {
    struct buf value[TYPES];
    size_t n;
};

static void take(struct samples *s, const struct rdb_rec *rec, struct span value)
{
    struct buf *b = &s->value[rec->type];
    if (b->p || value.n > VALUE_MAX) return;
    buf_init(b, VALUE_MAX + 1);
    assert_int_equal(buf_add(b, value.p, value.n, NULL), 0);
    s->n++;
}

static void take_file(struct samples *s, const char *name)
{
    struct buf file = golden_read(name, ".rdb");
    struct reader r;
    struct rdb f;
    struct rdb_rec rec;
    struct err err = {0};
    reader_init_mem(&r, file.p, file.n);
    assert_int_equal(rdb_open(&f, &r, &err), 0);
    while (rdb_next(&f, &rec, &err) > 0) {
        if (rec.kind != RDB_REC_KEY) continue;
        const uint8_t *start = r.p;
        assert_int_equal(rdb_value_skip(&r, rec.type, false, SIZE_MAX, &err), 0);
        take(s, &rec, span_of(start, (size_t)(r.p - start)));
    }
    rdb_release(&f);
    buf_release(&file);
}

static void samples_of_golden(struct samples *s)
{
    struct golden g;
    *s = (struct samples){.n = 0};
    golden_list(&g);
    for (size_t i = 0; i < g.n; i++)
        take_file(s, g.name[i]);
    golden_free(&g);
    assert_true(s->n >= 22);
}

/* Did RESTORE take it? With the footer that keyhaul gives it. */
static bool restores(struct client *c, enum rdb_type type, const struct buf *value)
{
    struct buf b;
    struct reply *r = NULL;
    struct err err = {0};
    uint8_t byte = rdb_type_byte(type), foot[10] = {type >= 256 ? 80 : 6};
    buf_init(&b, VALUE_MAX + 32);
    assert_int_equal(buf_add(&b, &byte, 1, NULL), 0);
    assert_int_equal(buf_add(&b, value->p, value->n, NULL), 0);
    uint64_t crc = crc64(crc64(0, b.p, b.n), foot, 2);
    for (int i = 0; i < 8; i++)
        foot[2 + i] = (uint8_t)(crc >> (8 * i));
    assert_int_equal(buf_add(&b, foot, sizeof(foot), NULL), 0);
    struct span argv[] = {span_str("RESTORE"), span_str("k"), span_str("0"), buf_span(&b)};
    if (client_callv(c, &r, 4, argv, &err) < 0) fail_msg("type %d: %s", type, err.msg);
    bool ok = !reply_is_error(r);
    reply_free(r);
    buf_release(&b);
    live_do(c, "FLUSHALL");
    return ok;
}

static void check_server(const char *program, const struct samples *s)
{
    struct live_server srv;
    struct server_facts f;
    struct err err = {0};
    char name[64];
    live_start_program(&srv, program, false, NULL);
    struct client *c = live_client(&srv, "target");
    assert_int_equal(facts_read(c, &f, &err), 0);
    facts_name(name, sizeof(name), &f);
    size_t taken = 0;
    for (int t = 0; t < TYPES; t++) {
        /* Of a module it lacks a server says no in another way: see facts_takes_type(). */
        if (!s->value[t].p || rdb_kind_of((enum rdb_type)t) == RDB_KIND_MODULE) continue;
        bool takes = restores(c, (enum rdb_type)t, &s->value[t]);
        taken += takes;
        if (takes != facts_takes_type(&f, (enum rdb_type)t))
            fail_msg("%s %s type %d", name, takes ? "takes" : "does not take", t);
    }
    print_message("%s takes %zu types\n", name, taken);
    assert_true(taken >= 10);
    facts_release(&f);
    client_close(c);
    live_stop(&srv);
}

static void of_this_machine(void **state)
{
    (void)state;
    struct samples s;
    samples_of_golden(&s);
    check_server("redis-server", &s);
    for (int t = 0; t < TYPES; t++)
        buf_release(&s.value[t]);
}

static void of_fetched_servers(void **state)
{
    (void)state;
    struct samples s;
    char top[300], program[900];
    const char *path = live_folder(top, sizeof(top));
    struct dirent **e;
    int n = scandir(path, &e, NULL, alphasort), tried = 0;
    if (n < 0) skip();
    samples_of_golden(&s);
    for (int i = 0; i < n; i++) {
        snprintf(program, sizeof(program), "%s/%s/bin/%.*s-server", path, e[i]->d_name,
                 (int)strcspn(e[i]->d_name, "-"), e[i]->d_name);
        if (e[i]->d_name[0] != '.' && access(program, X_OK) == 0) {
            check_server(program, &s);
            tried++;
        }
        free(e[i]);
    }
    free(e);
    for (int t = 0; t < TYPES; t++)
        buf_release(&s.value[t]);
    if (tried == 0) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_this_machine),
        cmocka_unit_test(of_fetched_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
