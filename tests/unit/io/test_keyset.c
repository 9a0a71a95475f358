// SPDX-License-Identifier: BSD-3-Clause
// The set of keys against a plain array: many runs, removal, its file, damage to it.
//
// KEYHAUL_TEST_KEYS=20000000 makes the test of its speed one of so many keys.
#include "io/keyset.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char dir[64], path[80];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/kh-keyset-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof(path), "%s/saved", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir); /* fails when a file was left in it */
}

static struct keyset *new_set(uint64_t seed, size_t mem_bytes)
{
    struct keyset *k;
    assert_int_equal(keyset_new(&k, dir, seed, mem_bytes, NULL), 0);
    return k;
}

static struct keyset *load_set(void)
{
    struct keyset *k = NULL;
    struct err err = {0};
    if (keyset_load(&k, path, &err) != 0) fail_msg("%s", err.msg);
    return k;
}

static void seal(struct keyset *k)
{
    struct err err = {0};
    if (keyset_seal(k, &err) < 0) fail_msg("%s", err.msg);
}

/* Keys of tests are numbers: of database n % 3. */
static struct span key_of(char out[16], uint64_t n)
{
    return span_of(out, (size_t)snprintf(out, 16, "k%llu", (unsigned long long)n));
}

static void add(struct keyset *k, uint64_t n)
{
    char text[16];
    struct err err = {0};
    if (keyset_add(k, n % 3, key_of(text, n), &err) < 0) fail_msg("%s", err.msg);
}

static int has(struct keyset *k, uint64_t n)
{
    char text[16];
    return keyset_has(k, n % 3, key_of(text, n), NULL);
}

static int drop(struct keyset *k, uint64_t n)
{
    char text[16];
    return keyset_remove(k, n % 3, key_of(text, n), NULL);
}

static uint64_t rng = 4711;

static uint64_t below(uint64_t n)
{
    rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (rng >> 33) % n;
}

/* The set holds what the array says. */
static void compare(struct keyset *k, const bool *model, uint64_t n)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (has(k, i) != model[i]) fail_msg("key %llu", (unsigned long long)i);
        count += model[i];
    }
    assert_int_equal(keyset_count(k), count);
}

static void fill(struct keyset *k, bool *model, uint64_t n, uint64_t adds)
{
    for (uint64_t i = 0; i < adds; i++) {
        uint64_t key = below(n);
        add(k, key);
        model[key] = true;
    }
    seal(k);
}

/* 1 run in memory up to 37 on disk, many keys several times, others never. */
static void like_an_array(void **state)
{
    (void)state;
    static const uint64_t adds[] = {0, 1, 25, 511, 512, 513, 8191, 8192, 8193, 70000, 300000};
    for (size_t i = 0; i < sizeof(adds) / sizeof(adds[0]); i++) {
        uint64_t n = adds[i] + 10;
        bool *model = calloc(n, sizeof(*model));
        struct keyset *k = new_set(i, 64 << 10);
        fill(k, model, n, adds[i]);
        compare(k, model, n);
        seal(k); /* again */
        compare(k, model, n);
        keyset_free(k);
        free(model);
    }
}

static void removal_and_file(void **state)
{
    (void)state;
    enum { N = 50000 };
    static bool model[N];
    struct stat st;
    struct keyset *k = new_set(99, 64 << 10);
    fill(k, model, N, 60000);
    for (uint64_t i = 0; i < N; i += 7) { /* of one made here */
        assert_int_equal(drop(k, i), model[i]);
        assert_int_equal(drop(k, i), 0);
        model[i] = false;
    }
    compare(k, model, N);
    uint64_t count = keyset_count(k);
    assert_int_equal(keyset_save(k, path, NULL), 0);
    keyset_free(k);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 48 + 8 * count); /* without those removed */

    k = load_set();
    compare(k, model, N);
    for (uint64_t i = 0; i < N; i += 11) { /* of the file: the next one that reads it sees it */
        assert_int_equal(drop(k, i), model[i]);
        model[i] = false;
    }
    compare(k, model, N);
    struct keyset *other = load_set();
    compare(other, model, N);
    assert_int_equal(keyset_sync(k, NULL), 0);
    assert_int_equal(keyset_save(other, path, NULL), 0);
    keyset_free(k);
    keyset_free(other);
    k = load_set();
    compare(k, model, N);
    keyset_free(k);
}

static void names(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0, 1, 255, 0, '\r', '\n'};
    uint8_t *huge = calloc(1, 1 << 20);
    struct span key[] = {span_of(NULL, 0), span_of(bytes, 6),      span_of(bytes, 5),
                         span_str("a"),    span_of(huge, 1 << 20), span_of(huge, (1 << 20) - 1)};
    for (size_t i = 0; i < 6; i++) {
        struct keyset *k = new_set(5, 0);
        assert_int_equal(keyset_add(k, UINT64_MAX, key[i], NULL), 0);
        seal(k);
        for (size_t j = 0; j < 6; j++) {
            assert_int_equal(keyset_has(k, UINT64_MAX, key[j], NULL), i == j);
            assert_int_equal(keyset_has(k, 0, key[j], NULL), 0);
        }
        keyset_free(k);
    }
    free(huge);
}

static void random_seeds(void **state)
{
    (void)state;
    uint64_t a, b;
    assert_int_equal(keyset_seed(&a, NULL), 0);
    assert_int_equal(keyset_seed(&b, NULL), 0);
    assert_true(a != b);
}

static void wrong_order(void **state)
{
    (void)state;
    struct err err = {0};
    struct keyset *k = new_set(1, 0);
    assert_int_equal(keyset_has(k, 0, span_str("a"), &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    assert_int_equal(keyset_save(k, path, &err), -1);
    seal(k);
    assert_int_equal(keyset_add(k, 0, span_str("a"), &err), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
    keyset_free(k);
}

/* --- limits --- */

static void too_many_runs(void **state)
{
    (void)state;
    struct err err = {0};
    struct keyset *k = new_set(1, 4096); /* 512 at once, 8 runs */
    for (uint64_t i = 0; i < 512 * 8; i++)
        add(k, i);
    seal(k);
    assert_int_equal(keyset_count(k), 512 * 8);
    keyset_free(k);
    k = new_set(1, 4096);
    for (uint64_t i = 0; i < 512 * 8 + 1; i++)
        add(k, i);
    assert_int_equal(keyset_seal(k, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    keyset_free(k);
}

static void no_room(void **state)
{
    (void)state;
    struct rlimit before, small;
    struct err err = {0};
    char text[16];
    int rc = 0;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct keyset *k = new_set(1, 64 << 10);
    for (uint64_t i = 0; i < 200000 && rc == 0; i++)
        rc = keyset_add(k, 0, key_of(text, i), &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_BUSY);
    assert_non_null(strstr(err.msg, dir));
    keyset_free(k);
}

/* --- the file, damaged --- */

static size_t saved(uint8_t *bytes, size_t size)
{
    struct keyset *k = new_set(7, 0);
    for (uint64_t i = 0; i < 600; i++) /* two pages */
        add(k, i);
    seal(k);
    assert_int_equal(keyset_save(k, path, NULL), 0);
    keyset_free(k);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(bytes, 1, size, f);
    fclose(f);
    assert_int_equal(n, 48 + 600 * 8);
    return n;
}

static int load_bytes(const uint8_t *bytes, size_t n, struct err *err)
{
    struct keyset *k = NULL;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    int rc = keyset_load(&k, path, err);
    keyset_free(k);
    return rc;
}

static void damage(void **state)
{
    (void)state;
    uint8_t bytes[8192];
    struct err err = {0};
    size_t n = saved(bytes, sizeof(bytes));
    assert_int_equal(load_bytes(bytes, n, &err), 0);
    for (size_t i = 0; i < n; i++) { /* every bit but those that say "removed" */
        uint8_t bit = (uint8_t)(i >= 48 && i % 8 == 0 ? 2 : 1);
        bytes[i] ^= bit;
        if (load_bytes(bytes, n, &err) != -1) fail_msg("byte %zu", i);
        assert_int_equal(err.code, ERR_FORMAT);
        assert_non_null(strstr(err.msg, path));
        bytes[i] ^= bit;
    }
    for (size_t i = 0; i < n; i++) {
        if (load_bytes(bytes, i, &err) != -1) fail_msg("cut to %zu bytes", i);
        assert_int_equal(err.code, ERR_FORMAT);
    }
    bytes[n] = 0;
    assert_int_equal(load_bytes(bytes, n + 1, &err), -1);
    assert_int_equal(load_bytes(bytes, n + 8, &err), -1);
    bytes[15] = 2;
    assert_int_equal(load_bytes(bytes, n, &err), -1);
    assert_non_null(strstr(err.msg, "another version"));
}

static void no_file(void **state)
{
    (void)state;
    struct keyset *k = NULL;
    struct err err = {0};
    unlink(path);
    assert_int_equal(keyset_load(&k, path, &err), 1);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(keyset_load(&k, path, &err), -1);
    rmdir(path);
    assert_int_equal(keyset_load(&k, "/dev/null", &err), -1);
    assert_int_equal(err.code, ERR_FORMAT);
    assert_null(k);
}

/* --- how fast, in how much memory --- */

static long peak_kb(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

static void speed(void **state)
{
    (void)state;
    const char *many = getenv("KEYHAUL_TEST_KEYS");
    uint64_t n = many ? strtoull(many, NULL, 10) : 1500000, asked = n / 10, found = 0;
    long before = peak_kb();
    struct keyset *k = new_set(3, 0);
    int64_t t0 = clock_mono_ms();
    for (uint64_t i = 0; i < n; i++)
        add(k, i);
    int64_t t1 = clock_mono_ms();
    seal(k);
    int64_t t2 = clock_mono_ms();
    assert_int_equal(keyset_count(k), n);
    for (uint64_t i = 0; i < asked; i++)
        found += has(k, below(2 * n)) == 1;
    int64_t t3 = clock_mono_ms();
    assert_true(found > asked / 3 && found < asked * 2 / 3);
    assert_int_equal(keyset_save(k, path, NULL), 0);
    struct keyset *again = load_set(); /* which looks at the order */
    assert_int_equal(keyset_count(again), n);
    keyset_free(again);
    print_message("%llu keys: added in %lld ms, sealed in %lld ms; %llu asked in %lld ms; "
                  "%ld KB of memory more\n",
                  (unsigned long long)n, (long long)(t1 - t0), (long long)(t2 - t1),
                  (unsigned long long)asked, (long long)(t3 - t2), peak_kb() - before);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(peak_kb() - before < 16 << 10);
#endif
    keyset_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(speed), /* first: its memory is told by the peak */
        cmocka_unit_test(like_an_array), cmocka_unit_test(removal_and_file),
        cmocka_unit_test(names),         cmocka_unit_test(random_seeds),
        cmocka_unit_test(wrong_order),   cmocka_unit_test(too_many_runs),
        cmocka_unit_test(no_room),       cmocka_unit_test(damage),
        cmocka_unit_test(no_file),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
