// SPDX-License-Identifier: BSD-3-Clause
// Real dumps, damaged: an error with words or a clean end, never a crash, a hang or a surprise.
#include "make.h"
#include "walk.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define GOLDEN    "tests/golden/rdb"
#define SMALL     10000  /* every truncation, many flips */
#define MIDDLE    250000 /* some */
#define VALUE_MAX (1u << 20)

struct dump {
    char name[100];
    uint8_t *p;
    size_t n;
};

static struct dump dumps[64];
static size_t n_dumps;

static void load(const char *name)
{
    struct dump *d = &dumps[n_dumps];
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", GOLDEN, name);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    d->p = malloc(MIDDLE);
    assert_non_null(d->p);
    d->n = fread(d->p, 1, MIDDLE, in);
    fclose(in);
    snprintf(d->name, sizeof(d->name), "%s", name);
    if (d->n == MIDDLE)
        free(d->p);
    else
        n_dumps++;
}

static int load_all(void **state)
{
    (void)state;
    struct dirent **e;
    int n = scandir(GOLDEN, &e, NULL, alphasort);
    if (n < 0) return -1;
    for (int i = 0; i < n; i++) {
        size_t len = strlen(e[i]->d_name);
        if (len > 4 && strcmp(e[i]->d_name + len - 4, ".rdb") == 0) load(e[i]->d_name);
        free(e[i]);
    }
    free(e);
    return n_dumps >= 28 ? 0 : -1;
}

static int free_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_dumps; i++)
        free(dumps[i].p);
    return 0;
}

/* p has exactly n bytes, so that a sanitizer sees a step beyond. */
static int walk(const char *name, const uint8_t *p, size_t n, bool release)
{
    struct walk w;
    struct reader r;
    struct err err = {.code = ERR_NONE};
    reader_init_mem(&r, p, n);
    r.cap = VALUE_MAX;
    assert_int_equal(walk_new(&w, VALUE_MAX, &err), 0);
    w.release = release;
    w.skip_too = !release;
    int rc = walk_file(&w, &r, &err);
    walk_free(&w);
    if (rc < 0 && (err.code == ERR_NONE || err.code == ERR_INTERNAL || !err.msg[0]))
        fail_msg("%s: an error without sense: %s", name, err.msg);
    if (w.skips_differ) fail_msg("%s: skipped to another place than decoded", name);
    return rc;
}

static int walk_copy(const struct dump *d, const uint8_t *p, size_t n, bool release)
{
    uint8_t *copy = malloc(n + !n);
    assert_non_null(copy);
    memcpy(copy, p, n);
    int rc = walk(d->name, copy, n, release);
    free(copy);
    return rc;
}

static void cut_short(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_dumps; i++) {
        const struct dump *d = &dumps[i];
        size_t step = d->n < SMALL ? 1 + d->n / 700 : d->n / 40;
        for (size_t n = 0; n < d->n; n += step)
            if (walk_copy(d, d->p, n, n & 1) != -1) fail_msg("%s: %zu bytes", d->name, n);
    }
}

/* With its checksum zeroed ("not computed"), so that nothing but the decoders can object. */
static void bits_flipped(void **state)
{
    (void)state;
    uint64_t seed = 20240229;
    unsigned well = 0, refused = 0;
    for (size_t i = 0; i < n_dumps; i++) {
        const struct dump *d = &dumps[i];
        unsigned rounds = d->n < SMALL ? 250 : 12;
        uint8_t *p = malloc(d->n);
        assert_non_null(p);
        for (unsigned k = 0; k < rounds; k++) {
            memcpy(p, d->p, d->n);
            memset(p + d->n - 8, 0, 8);
            for (unsigned flips = 1 + k % 3; flips; flips--)
                p[9 + next_random(&seed) % (d->n - 17)] ^= (uint8_t)(1u
                                                                     << (next_random(&seed) & 7));
            if (walk(d->name, p, d->n, k & 1) == 0)
                well++;
            else
                refused++;
        }
        free(p);
    }
    assert_true(well > 100 && refused > 1000);
}

/* Every flip is noticed where there is a checksum. */
static void no_flip_passes_the_checksum(void **state)
{
    (void)state;
    uint64_t seed = 99;
    const struct dump *d = dumps;
    while (strcmp(d->name, "valkey-9.1.2-module.rdb") != 0)
        assert_true(++d < dumps + n_dumps);
    uint8_t *p = malloc(d->n);
    assert_non_null(p);
    memcpy(p, d->p, d->n);
    assert_int_equal(walk(d->name, p, d->n, true), 0);
    for (size_t bit = 0; bit < (d->n - 8) * 8; bit++) {
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(walk(d->name, p, d->n, next_random(&seed) & 1), -1);
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(p);
}

/* Every value type, with noise for a value. */
static void noise(void **state)
{
    (void)state;
    uint64_t seed = 4711;
    for (int round = 0; round < 20000; round++) {
        size_t n = 13 + next_random(&seed) % 80;
        uint8_t *p = malloc(n);
        assert_non_null(p);
        for (size_t i = 0; i < n; i++) {
            uint64_t x = next_random(&seed);
            p[i] = (uint8_t)(x & 0x300 ? x & 7 : x); /* small numbers: they lead further */
        }
        memcpy(p, round & 1 ? "REDIS0014" : "VALKEY080", 9);
        p[9] = (uint8_t)(next_random(&seed) % 29);
        p[10] = 1;
        walk("noise", p, n, round & 2);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_short),
        cmocka_unit_test(bits_flipped),
        cmocka_unit_test(no_flip_passes_the_checksum),
        cmocka_unit_test(noise),
    };
    return cmocka_run_group_tests(tests, load_all, free_all);
}
