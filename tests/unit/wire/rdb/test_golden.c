// SPDX-License-Identifier: BSD-3-Clause
// Dumps of real servers: every key must come out as the server said it held it.
#include "canon.h"

#include "wire/rdb/rdb.h"
#include "wire/rdb/str.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/rdb"

struct file {
    uint8_t *p;
    size_t n;
};

static struct file slurp(const char *path)
{
    FILE *in = fopen(path, "rb");
    if (!in) fail_msg("cannot open %s (run from the top of the repository)", path);
    fseek(in, 0, SEEK_END);
    long n = ftell(in);
    rewind(in);
    struct file f = {malloc((size_t)n + 1), (size_t)n};
    assert_non_null(f.p);
    assert_int_equal(fread(f.p, 1, f.n, in), f.n);
    f.p[n] = 0;
    fclose(in);
    return f;
}

static char *golden_path(const char *name, const char *ext)
{
    char *path = NULL;
    assert_true(asprintf(&path, "%s/%s%s", GOLDEN, name, ext) > 0);
    return path;
}

static struct file golden(const char *name, const char *ext)
{
    char *path = golden_path(name, ext);
    struct file f = slurp(path);
    free(path);
    return f;
}

/* Names of all dumps that have a manifest, sorted. */
static size_t list_dumps(char ***ret)
{
    struct dirent **e;
    int n = scandir(GOLDEN, &e, NULL, alphasort);
    assert_true(n > 0);
    size_t found = 0;
    *ret = calloc((size_t)n, sizeof(char *));
    for (int i = 0; i < n; i++) {
        char *dot = strrchr(e[i]->d_name, '.');
        if (dot && strcmp(dot, ".tsv") == 0)
            (*ret)[found++] = strndup(e[i]->d_name, (size_t)(dot - e[i]->d_name));
        free(e[i]);
    }
    free(e);
    assert_true(found >= 35);
    return found;
}

/* The manifest's lines are sorted by strcmp(), as canon's are. */
static void compare(const char *name, const char *how, const struct canon *got)
{
    struct file want = golden(name, ".tsv");
    char *line = (char *)want.p;
    size_t i = 0;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1, i++) {
        *end = 0;
        if (i >= got->n) fail_msg("%s (%s): missing: %.300s", name, how, line);
        if (strcmp(line, got->line[i]) != 0)
            fail_msg("%s (%s):\n want %.300s\n got  %.300s", name, how, line, got->line[i]);
    }
    if (i < got->n) fail_msg("%s (%s): more than expected: %.300s", name, how, got->line[i]);
    assert_true(i > 0);
    free(want.p);
}

static void check(const char *name, const char *how, struct reader *r, size_t size,
                  enum canon_mode mode)
{
    struct canon got;
    struct err err;
    if (canon_read(&got, r, mode, &err) < 0) fail_msg("%s (%s): %s", name, how, err.msg);
    compare(name, how, &got);
    assert_int_equal(reader_pos(r), size); /* exactly behind the checksum */
    canon_free(&got);
}

static void each_dump(void (*test)(const char *name, const struct file *f))
{
    char **names;
    size_t n = list_dumps(&names);
    for (size_t i = 0; i < n; i++) {
        struct file f = golden(names[i], ".rdb");
        test(names[i], &f);
        free(f.p);
        free(names[i]);
    }
    free(names);
}

static void whole(const char *name, const struct file *f)
{
    struct reader r;
    reader_init_mem(&r, f->p, f->n);
    check(name, "skipped, then decoded", &r, f->n, CANON_HOLD);
    reader_init_mem(&r, f->p, f->n);
    check(name, "released", &r, f->n, CANON_RELEASE);
}

static void starved(const char *name, const struct file *f)
{
    struct reader r;
    reader_init_starving(&r, f->p, f->n);
    check(name, "starving", &r, f->n, CANON_RELEASE);
}

static void nasty(const char *name, const struct file *f)
{
    struct reader r;
    struct nasty *s = nasty_new(&r, f->p, f->n);
    check(name, "nasty", &r, f->n, CANON_RELEASE);
    nasty_free(s);
}

static void every_key_is_as_the_server_said(void **state)
{
    (void)state;
    each_dump(whole);
}

static void every_key_again_with_a_starving_reader(void **state)
{
    (void)state;
    each_dump(starved);
}

static void every_key_again_with_moving_bytes(void **state)
{
    (void)state;
    each_dump(nasty);
}

/* Skipping alone, releasing, starving: ends where the file ends. Also: over the limit answers 1. */
static void skip_all(const char *name, const struct file *f)
{
    struct reader r;
    struct rdb rdb;
    struct rdb_rec rec;
    struct err err;
    int rc;
    reader_init_starving(&r, f->p, f->n);
    assert_int_equal(rdb_open(&rdb, &r, &err), 0);
    while ((rc = rdb_next(&rdb, &rec, &err)) > 0) {
        if (rec.kind != RDB_REC_KEY) continue;
        uint64_t start = reader_pos(&r);
        assert_int_equal(rdb_value_skip(&r, rec.type, false, 0, &err), 1);
        r.p = r.keep;
        assert_int_equal(rdb_value_skip(&r, rec.type, false, SIZE_MAX, &err), 0);
        uint64_t size = reader_pos(&r) - start;
        r.p = r.keep;
        assert_int_equal(rdb_value_skip(&r, rec.type, false, size, &err), 0);
        r.p = r.keep;
        assert_int_equal(rdb_value_skip(&r, rec.type, false, size - 1, &err), 1);
        r.p = r.keep;
        assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
        if (reader_pos(&r) - start != size) fail_msg("%s: released skip ends elsewhere", name);
        assert_ptr_equal(r.keep, r.p);
    }
    if (rc < 0) fail_msg("%s: %s", name, err.msg);
    assert_int_equal(reader_pos(&r), f->n);
    rdb_release(&rdb);
}

static void skipping_ends_where_decoding_ends(void **state)
{
    (void)state;
    each_dump(skip_all);
}

static uint64_t sum_slots(const struct file *f, uint64_t *ret_keys)
{
    struct reader r;
    struct rdb rdb;
    struct rdb_rec rec;
    struct err err;
    uint64_t sum = 0, keys = 0;
    reader_init_mem(&r, f->p, f->n);
    assert_int_equal(rdb_open(&rdb, &r, &err), 0);
    while (rdb_next(&rdb, &rec, &err) > 0) {
        if (rec.kind == RDB_REC_SLOT_INFO) sum += rec.m;
        if (rec.kind != RDB_REC_KEY) continue;
        keys++;
        assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
    }
    rdb_release(&rdb);
    *ret_keys = keys;
    return sum;
}

static void slot_info_counts_all_keys(void **state)
{
    (void)state;
    const char *const names[] = {"redis-7.4.1-cluster", "redis-8.6.3-cluster",
                                 "redict-7.3.6-cluster"};
    for (size_t i = 0; i < 3; i++) {
        struct file f = golden(names[i], ".rdb");
        uint64_t keys, sum = sum_slots(&f, &keys);
        assert_int_equal(sum, keys);
        assert_true(keys > 200);
        free(f.p);
    }
}

static void functions_of_a_release_candidate_are_refused_with_advice(void **state)
{
    (void)state;
    struct file f = golden("redis-7.0-rc1-prerelease", ".rdb");
    struct reader r;
    struct canon c;
    struct err err;
    reader_init_mem(&r, f.p, f.n);
    assert_int_equal(canon_read(&c, &r, CANON_RELEASE, &err), -1);
    assert_int_equal(err.code, ERR_FORMAT);
    assert_non_null(strstr(err.msg, "FUNCTION FLUSH"));
    canon_free(&c);
    free(f.p);
}

static void key_metadata_is_skipped_and_told(void **state)
{
    (void)state;
    struct file f = golden("redis-8.6.3-keymeta", ".rdb");
    struct reader r;
    struct rdb rdb;
    struct rdb_rec rec;
    struct err err;
    int with = 0, without = 0;
    reader_init_mem(&r, f.p, f.n);
    assert_int_equal(rdb_open(&rdb, &r, &err), 0);
    while (rdb_next(&rdb, &rec, &err) > 0) {
        if (rec.kind != RDB_REC_KEY) continue;
        rec.has_meta ? with++ : without++;
        assert_int_equal(rdb_value_skip(&r, rec.type, true, 0, &err), 0);
    }
    assert_int_equal(with, 1);
    assert_int_equal(without, 8);
    rdb_release(&rdb);
    free(f.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_is_as_the_server_said),
        cmocka_unit_test(every_key_again_with_a_starving_reader),
        cmocka_unit_test(every_key_again_with_moving_bytes),
        cmocka_unit_test(skipping_ends_where_decoding_ends),
        cmocka_unit_test(slot_info_counts_all_keys),
        cmocka_unit_test(functions_of_a_release_candidate_are_refused_with_advice),
        cmocka_unit_test(key_metadata_is_skipped_and_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
