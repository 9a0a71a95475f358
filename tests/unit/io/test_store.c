// SPDX-License-Identifier: BSD-3-Clause
// The store against a plain array: memory, file and the border between them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64], dir[80];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/kh-store-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(dir, sizeof(dir), "%s/d", root);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    rmdir(dir); /* fails when a file was left in it, and so does the next */
    return rmdir(root);
}

static uint64_t rng = 12345;

static size_t below(size_t n)
{
    rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (size_t)((rng >> 33) % n);
}

static void test_memory_only(void **state)
{
    (void)state;
    struct store s;
    struct err err;
    char back[8] = "";
    store_init(&s, 100, 1000, dir);
    assert_int_equal(store_read(&s, 0, back, 8, &err), 0);
    assert_int_equal(store_add(&s, "hello", 5, &err), 0);
    assert_int_equal(s.fd, -1);
    assert_int_equal(store_read(&s, 1, back, 8, &err), 4);
    assert_memory_equal(back, "ello", 4);
    assert_int_equal(store_read(&s, 5, back, 8, &err), 0);
    assert_int_equal(store_read(&s, 99, back, 8, &err), 0);
    store_release(&s);
    assert_int_equal(access(dir, F_OK), -1); /* no folder before it is needed */
}

static void fill(struct store *s, uint8_t *model, size_t *size, size_t max)
{
    struct err err;
    while (*size < max) {
        size_t n = below(700);
        if (n > max - *size) n = max - *size;
        for (size_t i = 0; i < n; i++)
            model[*size + i] = (uint8_t)below(256);
        assert_int_equal(store_add(s, model + *size, n, &err), 0);
        *size += n;
        assert_int_equal(store_size(s), *size);
    }
}

static void check(const struct store *s, const uint8_t *model, size_t size)
{
    uint8_t back[3000];
    struct err err;
    for (unsigned i = 0; i < 500; i++) {
        size_t at = below(size), n = below(sizeof(back));
        size_t want = n < size - at ? n : size - at;
        assert_int_equal(store_read(s, at, back, n, &err), want);
        assert_memory_equal(back, model + at, want);
    }
}

static void test_memory_and_file(void **state)
{
    (void)state;
    static const size_t caps[] = {0, 1, 5000, 19999, 20000, 30000};
    uint8_t *model = malloc(20000);
    struct err err;
    for (size_t c = 0; c < sizeof(caps) / sizeof(*caps); c++) {
        struct store s;
        store_init(&s, caps[c], 20000, dir);
        for (unsigned turn = 0; turn < 3; turn++) {
            size_t size = 0;
            fill(&s, model, &size, 20000);
            check(&s, model, size);
            for (unsigned i = 0; i < 100; i++) {
                uint8_t patch[500];
                size_t n = below(500), at = below(20000 - n);
                memset(patch, (int)i, sizeof(patch));
                memcpy(model + at, patch, n);
                assert_int_equal(store_patch(&s, at, patch, n, &err), 0);
            }
            check(&s, model, size);
            assert_int_equal(s.fd >= 0, caps[c] < 20000);
            assert_int_equal(store_add(&s, "x", 1, &err), -1);
            assert_int_equal(err.code, ERR_LIMIT);
            assert_int_equal(store_patch(&s, 19999, "xy", 2, &err), -1);
            assert_int_equal(store_patch(&s, UINT64_MAX, "xy", 2, &err), -1);
            assert_int_equal(store_size(&s), 20000);
            store_clear(&s);
            assert_int_equal(store_size(&s), 0);
        }
        store_release(&s);
    }
    free(model);
}

static void test_clear_gives_blocks_back(void **state)
{
    (void)state;
    struct store s;
    struct err err;
    struct stat st;
    char *big = calloc(1, 3 << 20);
    store_init(&s, 10, 1 << 30, dir);
    assert_int_equal(store_add(&s, big, 3 << 20, &err), 0);
    assert_int_equal(fstat(s.fd, &st), 0);
    assert_int_equal(st.st_size, (3 << 20) - 10);
    assert_int_equal(st.st_nlink, 0); /* nobody finds it, nothing is left after a crash */
    store_clear(&s);
    assert_int_equal(fstat(s.fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    store_release(&s);
    store_release(&s);
    free(big);
}

static void test_no_folder(void **state)
{
    (void)state;
    struct store s;
    struct err err = {.msg = ""};
    store_init(&s, 4, 1000, "/proc/no/such");
    assert_int_equal(store_add(&s, "abcd", 4, &err), 0);
    assert_int_equal(store_add(&s, "efgh", 4, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/proc/no/such"));
    assert_int_equal(store_size(&s), 4); /* what failed was not added in part */
    store_release(&s);
}

/* store_put() where store_add() is meant: at the edges as well. */
static void test_put_is_add(void **state)
{
    (void)state;
    struct store a, b;
    struct err err;
    char text[64], back_a[400], back_b[400];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)i;
    store_init(&a, 100, 300, dir);
    store_init(&b, 100, 300, dir);
    for (int i = 0; i < 200; i++) {
        size_t n = below(sizeof(text));
        int rc = store_add(&a, text, n, &err);
        assert_int_equal(store_put(&b, text, n, &err), rc);
        assert_int_equal(store_size(&b), store_size(&a));
        assert_int_equal(b.mem.n, a.mem.n);
        if (rc == 0) continue;
        assert_int_equal(store_read(&a, 0, back_a, 400, &err), store_size(&a));
        assert_int_equal(store_read(&b, 0, back_b, 400, &err), store_size(&a));
        assert_memory_equal(back_b, back_a, store_size(&a));
        store_cut(&a, n);
        store_cut(&b, n);
    }
    store_release(&a);
    store_release(&b);
}

static void test_shortened_file(void **state)
{
    (void)state;
    struct store s;
    struct err err = {.msg = ""};
    char back[100];
    store_init(&s, 0, 1000, dir);
    memset(back, 7, sizeof(back));
    assert_int_equal(store_add(&s, back, 100, &err), 0);
    assert_int_equal(ftruncate(s.fd, 50), 0);
    assert_int_equal(store_read(&s, 0, back, 100, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    store_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_only),
        cmocka_unit_test(test_memory_and_file),
        cmocka_unit_test(test_clear_gives_blocks_back),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_put_is_add),
        cmocka_unit_test(test_shortened_file),
    };
    return cmocka_run_group_tests_name("store", tests, make_root, drop_root);
}
