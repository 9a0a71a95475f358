// SPDX-License-Identifier: BSD-3-Clause
// facts_takes_type against the real servers that are here: each type of the golden dumps is tried;
// where it is not taken, what it is turned into must be. (Content: tests/e2e/test_restore.py.)
//
// Here are: redis-server of PATH, and what tests/servers has fetched.
#include "../wire/rdb/vectors.h"
#include "engine/golden.h"
#include "live_server.h"
#include "redis/facts.h"
#include "wire/rdb/transcode.h"
#include "wire/rdb/value.h"

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

/* Redis 8.8 has written none of the dumps. */
static void add_sample(struct samples *s, enum rdb_type type, const struct make *m)
{
    struct rdb_rec rec = {.type = type};
    take(s, &rec, span_of(m->p, m->n));
}

static void samples_of_8_8(struct samples *s)
{
    static struct make m;
    m.n = 0;
    put_len(&m, 1); /* elements */
    put_len(&m, 0); /* no cursor */
    put_len(&m, 5); /* index */
    put_len(&m, 0); /* a string */
    put_str(&m, "v");
    add_sample(s, RDB_ARRAY, &m);
    m.n = 0;
    put_len(&m, 0);
    uint64_t meta[] = {0, 9, 1, 0, 0, 9, 1, 1}; /* of a stream whose only message is gone */
    for (size_t i = 0; i < 8; i++)
        put_len(&m, meta[i]);
    put_len(&m, 1);
    put_str(&m, "group");
    uint64_t group[] = {9, 1, 1, 1};
    for (size_t i = 0; i < 4; i++)
        put_len(&m, group[i]);
    put_id(&m, 9, 1); /* pending, without an owner */
    put_le(&m, 1700000000000, 8);
    put_len(&m, 3);
    put_len(&m, 0);
    put_len(&m, 1);
    put_id(&m, 9, 1);
    uint64_t idmp[] = {100, 100, 0, 0, 0};
    for (size_t i = 0; i < 5; i++)
        put_len(&m, idmp[i]);
    add_sample(s, RDB_STREAM_5, &m);
}

static void samples_of_golden(struct samples *s)
{
    struct golden g;
    *s = (struct samples){.n = 0};
    golden_list(&g);
    for (size_t i = 0; i < g.n; i++)
        take_file(s, g.name[i]);
    golden_free(&g);
    samples_of_8_8(s);
    for (int t = 0; t < TYPES;
         t++) /* all that there are, but module values of a candidate of 4.0 */
        if (rdb_type_known((unsigned)t) && !s->value[t].p) fail_msg("no sample of type %d", t);
}

struct tried {
    struct client *c;
    struct server_facts f;
    char name[64];
    size_t taken, turned, not_at_all;
};

/* RESTORE with the footer that keyhaul gives: 1 taken (key "k" is there), 0 refused, -1 the server
 * is gone. */
static int restore(struct tried *t, enum rdb_type type, struct span value)
{
    struct buf b;
    struct reply *r = NULL;
    struct err err = {0};
    uint8_t byte = rdb_type_byte(type), foot[10] = {type >= 256 ? 80 : 6};
    buf_init(&b, VALUE_MAX + 32);
    assert_int_equal(buf_add(&b, &byte, 1, NULL), 0);
    assert_int_equal(buf_add(&b, value.p, value.n, NULL), 0);
    uint64_t crc = crc64(crc64(0, b.p, b.n), foot, 2);
    for (int i = 0; i < 8; i++)
        foot[2 + i] = (uint8_t)(crc >> (8 * i));
    assert_int_equal(buf_add(&b, foot, sizeof(foot), NULL), 0);
    struct span argv[] = {span_str("RESTORE"), span_str("k"), span_str("0"), buf_span(&b)};
    int rc = client_callv(t->c, &r, 4, argv, &err) < 0 ? -1 : !reply_is_error(r);
    if (rc >= 0) reply_free(r);
    buf_release(&b);
    return rc;
}

static void check_kind(struct tried *t, enum rdb_type type)
{
    struct reply *r;
    struct err err;
    assert_int_equal(client_call(t->c, &r, &err, "TYPE", "k", NULL), 0);
    if (!reply_is(r, rdb_kind_name(rdb_kind_of(type)))) fail_msg("%s: type %d", t->name, type);
    reply_free(r);
}

static bool takes(const void *ctx, enum rdb_type type)
{
    return facts_takes_type(ctx, type);
}

/* It is not taken as it is: is it then as what we turn it into? */
static void check_turned(struct tried *t, enum rdb_type type, const struct buf *value)
{
    struct transcode how = {.have = type, .allowed = ~0U};
    struct rdb_elems *elems;
    struct reader r;
    struct buf out;
    struct err err = {0};
    unsigned loss;
    if (!transcode_choose(type, takes, &t->f, &how.want, &loss)) {
        if (rdb_kind_of(type) != RDB_KIND_ARRAY) fail_msg("%s: no way for type %d", t->name, type);
        t->not_at_all++;
        return;
    }
    assert_int_equal(rdb_elems_new(&elems, VALUE_MAX, &err), 0);
    buf_init(&out, VALUE_MAX);
    reader_init_mem(&r, value->p, value->n);
    if (transcode_value(&how, &r, elems, &out, &loss, &err) != TRANSCODE_DONE)
        fail_msg("type %d to %d: %s", type, how.want, err.msg);
    if (restore(t, how.want, buf_span(&out)) != 1)
        fail_msg("%s refuses type %d turned into %d", t->name, type, how.want);
    check_kind(t, type);
    live_do(t->c, "FLUSHALL");
    t->turned++;
    buf_release(&out);
    rdb_elems_free(elems);
}

static void check_types(struct tried *t, const struct samples *s)
{
    for (int i = 0; i < TYPES; i++) {
        enum rdb_type type = (enum rdb_type)i;
        if (!s->value[i].p || rdb_kind_of(type) == RDB_KIND_MODULE) continue;
        bool taken = restore(t, type, buf_span(&s->value[i])) == 1;
        if (taken != facts_takes_type(&t->f, type))
            fail_msg("%s %s type %d", t->name, taken ? "takes" : "does not take", i);
        if (taken) check_kind(t, type);
        t->taken += taken;
        live_do(t->c, "FLUSHALL");
        if (!taken) check_turned(t, type, &s->value[i]);
    }
}

/* As it is, or in the form of 8.0. */
static void check_vectors(struct tried *t, enum vector_form form)
{
    static struct make m;
    struct vector_options o = {.form = form, .attributes = true, .vector_n = 4, .alone = true};
    struct reader r;
    struct buf out;
    struct err err;
    bool unknown, has = facts_has(&t->f, FACTS_VECTOR_SETS),
                  reads_82 = facts_has(&t->f, FACTS_VECTOR_SETS_82);
    put_vector_set(&m, &o);
    bool taken = restore(t, RDB_MODULE_2, span_of(m.p, m.n)) == 1;
    if (taken != (form == FORM_0 ? has : reads_82))
        fail_msg("%s %s vector sets of form %d", t->name, taken ? "takes" : "does not take", form);
    live_do(t->c, "FLUSHALL");
    buf_init(&out, VALUE_MAX);
    reader_init_mem(&r, m.p, m.n);
    struct rdb_put put = {.to = &out};
    assert_int_equal(transcode_vectors(&r, &put, &unknown, &err), 0);
    if ((restore(t, RDB_MODULE_2, buf_span(&out)) == 1) != has)
        fail_msg("%s: vector sets of form %d, turned", t->name, form);
    live_do(t->c, "FLUSHALL");
    buf_release(&out);
}

/* A module it lacks: an answer, or the end of the server (before 6.2), which is why we ask first.
 */
static void check_modules(struct tried *t)
{
    static struct make m;
    bool survives = facts_takes_type(&t->f, RDB_MODULE_2);
    if (survives) {
        check_vectors(t, FORM_0);
        check_vectors(t, FORM_1);
    }
    m.n = 0;
    put_len(&m, 0x0102030405060708);
    put_op(&m, 0);
    int rc = restore(t, RDB_MODULE_2, span_of(m.p, m.n));
    if (rc != (survives ? 0 : -1)) fail_msg("%s, a module it lacks: %d", t->name, rc);
}

static void check_server(const char *program, const struct samples *s)
{
    struct live_server srv;
    struct tried t = {0};
    struct err err = {0};
    live_start_program(&srv, program, false, NULL);
    t.c = live_client(&srv, "target");
    assert_int_equal(facts_read(t.c, &t.f, &err), 0);
    facts_name(t.name, sizeof(t.name), &t.f);
    check_types(&t, s);
    assert_true(t.taken >= 10);
    check_modules(&t);
    print_message("%s: %zu types taken, %zu turned, %zu neither\n", t.name, t.taken, t.turned,
                  t.not_at_all);
    facts_release(&t.f);
    client_close(t.c);
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

static void of_fetched(void **state)
{
    const char *name = *state;
    struct samples s;
    char top[300], program[400];
    snprintf(program, sizeof(program), "%s/%s/bin/%.*s-server", live_folder(top, sizeof(top)), name,
             (int)strcspn(name, "-"), name);
    if (access(program, X_OK) != 0) {
        print_message("no %s: tests/servers fetches it\n", name);
        skip();
    }
    samples_of_golden(&s);
    check_server(program, &s);
    for (int t = 0; t < TYPES; t++)
        buf_release(&s.value[t]);
}

#define FETCHED(word, name_)                                                                       \
    {                                                                                              \
        .name = "of_" #word, .test_func = of_fetched, .initial_state = (char[])                    \
        {                                                                                          \
            name_                                                                                  \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_this_machine), FETCHED(redis_6_0, "redis-6.0"),
        FETCHED(redis_7_0, "redis-7.0"),   FETCHED(redis_8_0, "redis-8.0"),
        FETCHED(redis_8_6, "redis-8.6"),   FETCHED(valkey_8_0, "valkey-8.0"),
        FETCHED(valkey_8_1, "valkey-8.1"), FETCHED(valkey_9_1, "valkey-9.1"),
        FETCHED(redict_7_3, "redict-7.3"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
