// SPDX-License-Identifier: BSD-3-Clause
// Every value of the golden dumps turned into every type it can be turned into, and decoded again:
// its content must still be what the server said. (Streams by hand: test_transcode_stream.c.)
#include "canon.h"
#include "make.h"

#include "wire/rdb/rdb.h"
#include "wire/rdb/str.h"
#include "wire/rdb/transcode.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define GOLDEN   "tests/golden/rdb"
#define MAX      (64u << 20)
#define ANY_LOSS (~0u)

static const enum rdb_type wants[] = {
    RDB_LIST,          RDB_SET,           RDB_ZSET,   RDB_ZSET_2,   RDB_HASH,
    RDB_HASH_METADATA, RDB_VALKEY_HASH_2, RDB_STREAM, RDB_STREAM_2, RDB_STREAM_3};
#define N_WANTS (sizeof(wants) / sizeof(wants[0]))

enum feed { WHOLE, STARVING, MOVING };

struct dump {
    char name[100];
    uint8_t *rdb;
    size_t n;
    char *tsv;
};

static struct dump dumps[64];
static size_t n_dumps;
static size_t turned; /* values so far: none may stay untested */
static struct err err;

static uint8_t *slurp(const char *name, const char *ext, size_t *ret_n)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/%s%s", GOLDEN, name, ext);
    FILE *in = fopen(path, "rb");
    if (!in) return NULL;
    uint8_t *p = malloc(32u << 20);
    assert_non_null(p);
    *ret_n = fread(p, 1, (32u << 20) - 1, in);
    p[*ret_n] = 0;
    fclose(in);
    return p;
}

static int load_all(void **state)
{
    (void)state;
    struct dirent **e;
    int n = scandir(GOLDEN, &e, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        struct dump *d = &dumps[n_dumps];
        char *dot = strstr(e[i]->d_name, ".tsv");
        size_t unused;
        if (dot) {
            snprintf(d->name, sizeof(d->name), "%.*s", (int)(dot - e[i]->d_name), e[i]->d_name);
            d->tsv = (char *)slurp(d->name, ".tsv", &unused);
            d->rdb = slurp(d->name, ".rdb", &d->n);
            if (d->tsv && d->rdb) n_dumps++;
        }
        free(e[i]);
    }
    free(e);
    return n_dumps >= 35 ? 0 : -1;
}

static int free_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_dumps; i++) {
        free(dumps[i].rdb);
        free(dumps[i].tsv);
    }
    return 0;
}

/* --- what is expected: the manifest's lines of that kind, less what the type cannot hold --- */

static int order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "first=..;idmp=..;p:..;g:name:read:consumers:pending" as far as type t holds it. */
static void reduce_state(char *out, size_t size, char *state, enum rdb_type t)
{
    size_t n = 0;
    char *save = NULL;
    out[0] = 0;
    for (char *s = strtok_r(state, ";", &save); s; s = strtok_r(NULL, ";", &save)) {
        const char *sep = n ? ";" : "";
        char *name_end = strncmp(s, "g:", 2) == 0 ? strchr(s + 2, ':') : NULL;
        if (strncmp(s, "first=", 6) == 0 && t < RDB_STREAM_2) continue;
        if ((strncmp(s, "idmp=", 5) == 0 || strncmp(s, "p:", 2) == 0) && t < RDB_STREAM_4) continue;
        if (name_end && t < RDB_STREAM_2) {
            char *rest = strchr(name_end + 1, ':');
            n += (size_t)snprintf(out + n, size - n, "%s%.*s:-%s", sep, (int)(name_end - s), s,
                                  rest);
        } else {
            n += (size_t)snprintf(out + n, size - n, "%s%s", sep, s);
        }
        assert_true(n < size);
    }
    if (n == 0) snprintf(out, size, "-");
}

static char *reduce(const char *line, size_t n, enum rdb_type want)
{
    static char copy[1 << 20], state[1 << 20];
    assert_true(n < sizeof(copy));
    memcpy(copy, line, n);
    copy[n] = 0;
    char *stream = strrchr(copy, '\t') + 1;
    stream[-1] = 0;
    char *fields = strrchr(copy, '\t') + 1;
    fields[-1] = 0;
    if (rdb_kind_of(want) == RDB_KIND_STREAM)
        reduce_state(state, sizeof(state), stream, want);
    else
        snprintf(state, sizeof(state), "-");
    char *ret = NULL;
    assert_true(asprintf(&ret, "%s\t%s\t%s", copy, want == RDB_HASH ? "-" : fields, state) > 0);
    return ret;
}

static size_t expected(const struct dump *d, enum rdb_type want, char ***ret)
{
    const char *kind = rdb_kind_name(rdb_kind_of(want));
    size_t n = 0;
    *ret = calloc(1000, sizeof(char *));
    assert_non_null(*ret);
    for (const char *line = d->tsv, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        const char *p = line;
        if (strncmp(line, "key\t", 4) != 0) continue;
        for (int tab = 0; tab < 3; tab++)
            p = strchr(p, '\t') + 1;
        if (strncmp(p, kind, strlen(kind)) != 0 || p[strlen(kind)] != '\t') continue;
        assert_true(n < 1000);
        (*ret)[n++] = reduce(line, (size_t)(end - line), want);
    }
    if (n) qsort(*ret, n, sizeof(char *), order);
    return n;
}

/* --- turning: a new file of just these values --- */

struct work {
    const struct dump *d;
    enum rdb_type want;
    struct rdb_elems *elems;
    struct buf file, value;
    struct rdb_put out;
    uint64_t db;
    size_t n;
};

static void turn_value(struct work *w, struct reader *r, enum rdb_type have)
{
    struct transcode how = {have, w->want, ANY_LOSS};
    unsigned loss = 0;
    enum transcode_result res = transcode_value(&how, r, w->elems, &w->value, &loss, &err);
    if (res != TRANSCODE_DONE)
        fail_msg("%s: %d to %d: result %d, %s", w->d->name, (int)have, (int)w->want, (int)res,
                 err.msg);
    turned++;
}

static void copy_value(struct work *w, struct reader *r, enum rdb_type t)
{
    assert_int_equal(rdb_value_skip(r, t, false, SIZE_MAX, &err), 0);
    buf_clear(&w->value);
    assert_int_equal(buf_add(&w->value, r->keep, (size_t)(r->p - r->keep), &err), 0);
}

static void take_key(struct work *w, struct reader *r, const struct rdb_rec *rec)
{
    bool stream = rdb_kind_of(rec->type) == RDB_KIND_STREAM;
    enum rdb_type to = stream && rec->type <= w->want ? rec->type : w->want;
    if (rdb_kind_of(rec->type) != rdb_kind_of(w->want)) {
        assert_int_equal(rdb_value_skip(r, rec->type, true, 0, &err), 0);
        return;
    }
    if (to == rec->type)
        copy_value(w, r, to);
    else
        turn_value(w, r, rec->type);
    uint8_t op[] = {254, 252, 249, 248, rdb_type_byte(to)};
    struct rdb_put *o = &w->out;
    int rc = rdb_put_bytes(o, &op[0], 1, &err) | rdb_put_len(o, w->db, &err);
    if (rec->expire_ms != -1)
        rc |= rdb_put_bytes(o, &op[1], 1, &err) | rdb_put_u64le(o, (uint64_t)rec->expire_ms, &err);
    uint8_t freq = (uint8_t)rec->freq;
    if (rec->freq >= 0) rc |= rdb_put_bytes(o, &op[2], 1, &err) | rdb_put_bytes(o, &freq, 1, &err);
    if (rec->idle_s >= 0)
        rc |= rdb_put_bytes(o, &op[3], 1, &err) | rdb_put_len(o, (uint64_t)rec->idle_s, &err);
    rc |= rdb_put_bytes(o, &op[4], 1, &err) | rdb_put_str(o, rec->a, &err);
    rc |= rdb_put_bytes(o, w->value.p, w->value.n, &err);
    assert_int_equal(rc, 0);
    w->n++;
}

static void turn_file(struct work *w, struct reader *r)
{
    static const uint8_t end[9] = {255};
    struct rdb f;
    struct rdb_rec rec;
    int rc;
    const char *magic = w->want == RDB_VALKEY_HASH_2 ? "VALKEY080" : "REDIS0014";
    assert_int_equal(rdb_put_bytes(&w->out, magic, 9, &err), 0);
    assert_int_equal(rdb_open(&f, r, &err), 0);
    while ((rc = rdb_next(&f, &rec, &err)) == 1) {
        if (rec.kind == RDB_REC_SELECTDB) w->db = rec.n;
        if (rec.kind == RDB_REC_KEY) take_key(w, r, &rec);
    }
    if (rc < 0) fail_msg("%s to %d: %s", w->d->name, (int)w->want, err.msg);
    rdb_release(&f);
    assert_int_equal(rdb_put_bytes(&w->out, end, sizeof(end), &err), 0);
}

static void compare(const struct work *w)
{
    struct reader r;
    struct canon got;
    char **want;
    size_t n = expected(w->d, w->want, &want);
    reader_init_mem(&r, w->file.p, w->file.n);
    if (canon_read(&got, &r, CANON_HOLD, &err) < 0)
        fail_msg("%s to %d: %s", w->d->name, (int)w->want, err.msg);
    for (size_t i = 0; i < n && i < got.n; i++)
        if (strcmp(want[i], got.line[i]) != 0)
            fail_msg("%s to type %d:\n want %.400s\n got  %.400s", w->d->name, (int)w->want,
                     want[i], got.line[i]);
    if (n != got.n || n != w->n)
        fail_msg("%s to %d: %zu keys, should be %zu", w->d->name, (int)w->want, got.n, n);
    for (size_t i = 0; i < n; i++)
        free(want[i]);
    free(want);
    canon_free(&got);
}

static void turn_dump(const struct dump *d, enum rdb_type want, enum feed feed)
{
    struct work w = {.d = d, .want = want};
    struct reader r;
    struct nasty *s = NULL;
    buf_init(&w.file, MAX);
    buf_init(&w.value, MAX);
    w.out.to = &w.file;
    assert_int_equal(rdb_elems_new(&w.elems, MAX, &err), 0);
    if (feed == WHOLE) reader_init_mem(&r, d->rdb, d->n);
    if (feed == STARVING) reader_init_starving(&r, d->rdb, d->n);
    if (feed == MOVING) s = nasty_new(&r, d->rdb, d->n);
    turn_file(&w, &r);
    compare(&w);
    if (s) nasty_free(s);
    rdb_elems_free(w.elems);
    buf_release(&w.file);
    buf_release(&w.value);
}

static void turn_all(enum feed feed, size_t most)
{
    for (size_t i = 0; i < N_WANTS; i++) {
        size_t before = turned;
        for (size_t k = 0; k < n_dumps; k++)
            if (dumps[k].n <= most) turn_dump(&dumps[k], wants[i], feed);
        if (turned - before < (feed == MOVING ? 3 : 10))
            fail_msg("type %d was hardly tested", (int)wants[i]);
    }
}

static void content_stays(void **state)
{
    (void)state;
    turn_all(WHOLE, SIZE_MAX);
}

static void content_stays_with_a_starving_reader(void **state)
{
    (void)state;
    turn_all(STARVING, 200000);
}

static void content_stays_with_moving_bytes(void **state)
{
    (void)state;
    turn_all(MOVING, 10000); /* each fill copies what is held */
}

/* --- choosing --- */

struct knows {
    const enum rdb_type *t;
    size_t n;
};

static bool takes(const void *ctx, enum rdb_type t)
{
    const struct knows *k = ctx;
    for (size_t i = 0; i < k->n; i++)
        if (k->t[i] == t) return true;
    return false;
}

#define KNOWS(...)                                                                                 \
    (struct knows)                                                                                 \
    {                                                                                              \
        (const enum rdb_type[]){__VA_ARGS__},                                                      \
            sizeof((const enum rdb_type[]){__VA_ARGS__}) / sizeof(enum rdb_type)                   \
    }

static void choose(enum rdb_type have, struct knows k, int want, unsigned loss)
{
    enum rdb_type got = RDB_MODULE_PRE_GA;
    unsigned lost = 12345;
    bool found = transcode_choose(have, takes, &k, &got, &lost);
    assert_int_equal(found, want >= 0);
    if (!found) {
        assert_int_equal(got, RDB_MODULE_PRE_GA);
        assert_int_equal(lost, 12345);
        return;
    }
    assert_int_equal(got, want);
    assert_int_equal(lost, loss);
}

static void the_type_that_loses_least(void **state)
{
    (void)state;
    const struct knows old = KNOWS(RDB_STRING, RDB_LIST, RDB_SET, RDB_ZSET, RDB_HASH);
    choose(RDB_LIST_QUICKLIST_2, old, RDB_LIST, 0);
    choose(RDB_SET_LISTPACK, old, RDB_SET, 0);
    choose(RDB_ZSET_2, old, RDB_ZSET, 0);
    choose(RDB_ZSET_LISTPACK, KNOWS(RDB_ZSET, RDB_ZSET_2), RDB_ZSET_2, 0);
    choose(RDB_ZSET_LISTPACK, KNOWS(RDB_ZSET_LISTPACK, RDB_ZSET_2), RDB_ZSET_LISTPACK, 0);
    choose(RDB_HASH_LISTPACK, old, RDB_HASH, 0);
    choose(RDB_HASH_LISTPACK_EX, old, RDB_HASH, TRANSCODE_LOSS_FIELD_EXPIRY);
    choose(RDB_HASH_LISTPACK_EX, KNOWS(RDB_HASH, RDB_VALKEY_HASH_2), RDB_VALKEY_HASH_2, 0);
    choose(RDB_VALKEY_HASH_2, KNOWS(RDB_HASH, RDB_HASH_METADATA), RDB_HASH_METADATA, 0);
    choose(RDB_STREAM, old, -1, 0);
    choose(RDB_STREAM_2, KNOWS(RDB_STREAM, RDB_STREAM_3), RDB_STREAM, TRANSCODE_LOSS_COUNTERS);
    choose(RDB_STREAM_3, KNOWS(RDB_STREAM_2, RDB_STREAM), RDB_STREAM_2, TRANSCODE_LOSS_ACTIVE);
    choose(RDB_STREAM_4, KNOWS(RDB_STREAM_3, RDB_STREAM_2), RDB_STREAM_3, TRANSCODE_LOSS_IDMP);
    choose(RDB_STREAM_5, KNOWS(RDB_STREAM_4, RDB_STREAM_3), RDB_STREAM_4, TRANSCODE_LOSS_NACKED);
    choose(RDB_STREAM_5, KNOWS(RDB_STREAM), RDB_STREAM,
           TRANSCODE_LOSS_NACKED | TRANSCODE_LOSS_IDMP | TRANSCODE_LOSS_ACTIVE |
               TRANSCODE_LOSS_COUNTERS);
    choose(RDB_MODULE_2, old, -1, 0);
    choose(RDB_ARRAY, old, -1, 0);
}

/* --- limits --- */

static enum transcode_result turn_made(const struct make *m, enum rdb_type have, enum rdb_type want,
                                       unsigned allowed, size_t cap, struct buf *out,
                                       unsigned *loss)
{
    struct transcode how = {have, want, allowed};
    struct rdb_elems *elems;
    struct reader r;
    reader_init_mem(&r, m->p, m->n);
    buf_init(out, cap);
    err.code = ERR_NONE;
    assert_int_equal(rdb_elems_new(&elems, 1000, &err), 0);
    enum transcode_result res = transcode_value(&how, &r, elems, out, loss, &err);
    assert_ptr_equal(r.keep, r.base); /* held, all of it */
    if (res == TRANSCODE_DONE) assert_int_equal(reader_pos(&r), m->n);
    rdb_elems_free(elems);
    return res;
}

static void field_expiries_are_only_dropped_when_allowed(void **state)
{
    (void)state;
    struct make m = {.n = 0};
    struct buf out;
    unsigned loss = 77;
    put_le(&m, 5000, 8);
    put_len(&m, 2);
    for (unsigned t = 0; t < 2; t++) { /* none; at the earliest */
        put_len(&m, t);
        put_str(&m, t ? "g" : "f");
        put_str(&m, "v");
    }
    const uint8_t plain[] = {0x80, 0, 0, 0, 2, 1, 'f', 1, 'v', 1, 'g', 1, 'v'};
    assert_int_equal(turn_made(&m, RDB_HASH_METADATA, RDB_HASH, 0, 1000, &out, &loss),
                     TRANSCODE_LOSSY);
    assert_int_equal(loss, TRANSCODE_LOSS_FIELD_EXPIRY);
    buf_release(&out);
    assert_int_equal(turn_made(&m, RDB_HASH_METADATA, RDB_HASH, ANY_LOSS, 1000, &out, &loss),
                     TRANSCODE_DONE);
    assert_int_equal(loss, TRANSCODE_LOSS_FIELD_EXPIRY);
    assert_int_equal(out.n, sizeof(plain));
    assert_memory_equal(out.p, plain, sizeof(plain));
    buf_release(&out);
    struct make none = {.n = 0}; /* it could hold expiries, but there is none to lose */
    put_le(&none, 0, 8);
    put_len(&none, 1);
    put_len(&none, 0);
    put_str(&none, "f");
    put_str(&none, "v");
    assert_int_equal(turn_made(&none, RDB_HASH_METADATA, RDB_HASH, 0, 1000, &out, &loss),
                     TRANSCODE_DONE);
    assert_int_equal(loss, 0);
    buf_release(&out);
}

static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    struct make m = {.n = 0};
    struct buf out;
    unsigned loss;
    put_len(&m, 3);
    for (int i = 0; i < 3; i++)
        put_str(&m, "0123456789");
    size_t need = 5 + 33;
    assert_int_equal(turn_made(&m, RDB_LIST, RDB_LIST, 0, need, &out, &loss), TRANSCODE_DONE);
    assert_int_equal(out.n, need);
    buf_release(&out);
    assert_int_equal(turn_made(&m, RDB_LIST, RDB_LIST, 0, need - 1, &out, &loss),
                     TRANSCODE_TOO_LARGE);
    buf_release(&out);
    m.n = 0; /* an element beyond the decoder's 1000 bytes */
    put_len(&m, 1);
    put_len(&m, 1001);
    m.n += 1001;
    assert_int_equal(turn_made(&m, RDB_LIST, RDB_LIST, 0, 1u << 20, &out, &loss),
                     TRANSCODE_TOO_LARGE);
    buf_release(&out);
    m.n = 0;
    put_len(&m, 0);
    assert_int_equal(turn_made(&m, RDB_SET, RDB_SET, 0, 1000, &out, &loss), TRANSCODE_TOO_LARGE);
    buf_release(&out);
    m.n = 0;
    put_len(&m, 2);
    put_str(&m, "cut off");
    assert_int_equal(turn_made(&m, RDB_SET, RDB_SET, 0, 1000, &out, &loss), TRANSCODE_ERROR);
    assert_int_equal(err.code, ERR_FORMAT);
    buf_release(&out);
}

static void kinds_do_not_mix(void **state)
{
    (void)state;
    static const enum rdb_type pairs[][2] = {{RDB_LIST, RDB_SET},
                                             {RDB_STRING, RDB_STRING},
                                             {RDB_STREAM, RDB_STREAM_2},
                                             {RDB_MODULE_2, RDB_MODULE_2}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct make m = {.n = 0};
        struct buf out;
        unsigned loss;
        put_len(&m, 0);
        put_len(&m, 0);
        assert_int_equal(turn_made(&m, pairs[i][0], pairs[i][1], 0, 100, &out, &loss),
                         TRANSCODE_ERROR);
        assert_int_equal(err.code, ERR_INTERNAL);
        buf_release(&out);
    }
}

/* --- damage --- */

/* A collection that was made is sound; a stream's frame is, its nodes are the source's. */
static void check_made(struct span value, enum rdb_type t)
{
    struct reader r;
    struct rdb_elems *it;
    struct rdb_elem e;
    int rc;
    reader_init_mem(&r, value.p, value.n);
    if (rdb_kind_of(t) == RDB_KIND_STREAM) {
        assert_int_equal(rdb_value_skip(&r, t, false, SIZE_MAX, &err), 0);
    } else {
        assert_int_equal(rdb_elems_new(&it, MAX, &err), 0);
        assert_int_equal(rdb_elems_begin(it, &r, t, false, &err), 0);
        while ((rc = rdb_elems_next(it, &e, &err)) == 1)
            continue;
        assert_int_equal(rc, 0);
        rdb_elems_free(it);
    }
    assert_int_equal(reader_pos(&r), value.n);
}

struct damage {
    struct rdb_elems *elems;
    struct buf out;
    unsigned done, refused;
};

static void turn_damaged(struct damage *d, struct reader *r, enum rdb_type have)
{
    size_t at = (size_t)(r->p - r->keep);
    for (size_t i = 0; i < N_WANTS; i++) {
        struct transcode how = {have, wants[i], ANY_LOSS};
        unsigned loss;
        bool stream = rdb_kind_of(have) == RDB_KIND_STREAM;
        if (rdb_kind_of(have) != rdb_kind_of(wants[i]) || (stream && wants[i] > have)) continue;
        r->p = r->keep + at;
        err.code = ERR_NONE;
        switch (transcode_value(&how, r, d->elems, &d->out, &loss, &err)) {
        case TRANSCODE_DONE:
            check_made(buf_span(&d->out), wants[i]);
            d->done++;
            break;
        case TRANSCODE_ERROR:
            assert_int_equal(err.code, ERR_FORMAT);
            d->refused++;
            break;
        case TRANSCODE_TOO_LARGE: break;
        case TRANSCODE_LOSSY: fail_msg("all was allowed");
        }
        if (d->out.alloc > d->out.cap) fail_msg("more memory than its cap");
    }
}

/* As the load does: each value is skipped first, and what cannot be skipped ends the file. */
static void walk_damaged(struct damage *d, const uint8_t *p, size_t n)
{
    struct reader r;
    struct rdb f;
    struct rdb_rec rec;
    reader_init_mem(&r, p, n);
    r.cap = 1u << 20;
    int rc = rdb_open(&f, &r, &err);
    while (rc == 0 && rdb_next(&f, &rec, &err) == 1) {
        if (rec.kind != RDB_REC_KEY) continue;
        rc = rdb_value_skip(&r, rec.type, false, SIZE_MAX, &err);
        size_t end = (size_t)(r.p - r.keep);
        r.p = r.keep;
        if (rc == 0) turn_damaged(d, &r, rec.type);
        r.p = r.keep + end;
    }
    rdb_release(&f);
}

static void damage_is_met_with_words(void **state)
{
    (void)state;
    struct damage d = {.done = 0};
    uint64_t seed = 777;
    buf_init(&d.out, 1u << 20);
    assert_int_equal(rdb_elems_new(&d.elems, 1u << 20, &err), 0);
    for (size_t i = 0; i < n_dumps; i++) {
        size_t n = dumps[i].n;
        if (n > 10000) continue;
        for (int round = 0; round < 200; round++) {
            uint8_t *p = malloc(n);
            assert_non_null(p);
            memcpy(p, dumps[i].rdb, n);
            memset(p + n - 8, 0, 8); /* "not computed" */
            for (int flips = 1 + round % 4; flips; flips--)
                p[9 + next_random(&seed) % (n - 17)] ^= (uint8_t)(1u << (next_random(&seed) & 7));
            walk_damaged(&d, p, n);
            free(p);
        }
    }
    rdb_elems_free(d.elems);
    buf_release(&d.out);
    assert_true(d.done > 10000 && d.refused > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_stays),
        cmocka_unit_test(content_stays_with_a_starving_reader),
        cmocka_unit_test(content_stays_with_moving_bytes),
        cmocka_unit_test(the_type_that_loses_least),
        cmocka_unit_test(field_expiries_are_only_dropped_when_allowed),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(kinds_do_not_mix),
        cmocka_unit_test(damage_is_met_with_words),
    };
    return cmocka_run_group_tests(tests, load_all, free_all);
}
