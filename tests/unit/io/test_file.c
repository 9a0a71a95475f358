// SPDX-License-Identifier: BSD-3-Clause
// Files: replaced as a whole, secrets read with care.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64], path[80];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/kh-file-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(path, sizeof(path), "%s/f", root);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(root);
}

static size_t slurp(const char *name, char *out, size_t size)
{
    FILE *f = fopen(name, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, size, f);
    fclose(f);
    return n;
}

static unsigned entries(const char *name)
{
    DIR *d = opendir(name);
    unsigned n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static void test_replace(void **state)
{
    (void)state;
    struct err err;
    char back[100];
    struct stat a, b;
    assert_int_equal(file_write_atomic(path, span_str("first"), false, &err), 0);
    assert_int_equal(slurp(path, back, sizeof(back)), 5);
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &a), 0);
    assert_int_equal(file_write_atomic(path, span_str("second!"), true, &err), 0);
    assert_int_equal(slurp(path, back, sizeof(back)), 7);
    assert_memory_equal(back, "second!", 7);
    assert_int_equal(read(fd, back, sizeof(back)), 5); /* who has the old one open sees all of it */
    assert_int_equal(stat(path, &b), 0);
    assert_int_not_equal(a.st_ino, b.st_ino);
    close(fd);
    assert_int_equal(file_write_atomic(path, span_of(NULL, 0), false, &err), 0);
    assert_int_equal(slurp(path, back, sizeof(back)), 0);
    assert_int_equal(entries(root), 1);
}

static void test_replace_fails(void **state)
{
    (void)state;
    struct err err = {.msg = ""};
    assert_int_equal(file_write_atomic("/proc/no/such", span_str("x"), false, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/proc/no/such"));
    char sub[100];
    snprintf(sub, sizeof(sub), "%s/sub", root);
    assert_int_equal(mkdir(sub, 0700), 0);
    assert_int_equal(file_write_atomic(sub, span_str("x"), false, &err),
                     -1); /* a folder is there */
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(rmdir(sub), 0);
    unlink(path);
    assert_int_equal(entries(root), 0); /* no temporary file is left */
}

static void put(const void *p, size_t n)
{
    struct err err;
    assert_int_equal(file_write_atomic(path, span_of(p, n), false, &err), 0);
}

static void expect_secret(const char *text, size_t n, const char *want)
{
    struct buf b;
    struct err err;
    buf_init(&b, 1 << 17);
    put(text, n);
    assert_int_equal(file_read_secret(path, &b, &err), 0);
    assert_int_equal(b.n, strlen(want));
    assert_string_equal((char *)b.p, want);
    buf_release(&b);
}

static void test_secret(void **state)
{
    (void)state;
    expect_secret("pass word", 9, "pass word");
    expect_secret("pw\n", 3, "pw");
    expect_secret("pw\r\nsecond line\n", 16, "pw");
    expect_secret(" pw \n", 5, " pw ");
    char *big = malloc(FILE_SECRET_MAX_BYTES + 1);
    memset(big, 'x', FILE_SECRET_MAX_BYTES);
    big[FILE_SECRET_MAX_BYTES] = 0;
    expect_secret(big, FILE_SECRET_MAX_BYTES, big);
    free(big);
}

static void expect_no_secret(const char *name, const char *words)
{
    struct buf b;
    struct err err = {.msg = ""};
    buf_init(&b, 1 << 17);
    assert_int_equal(buf_add(&b, "old", 3, &err), 0);
    assert_int_equal(file_read_secret(name, &b, &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    if (!strstr(err.msg, words)) fail_msg("'%s' lacks '%s'", err.msg, words);
    assert_int_equal(b.n, 3);
    buf_release(&b);
}

static void test_bad_secrets(void **state)
{
    (void)state;
    expect_no_secret("/no/such/file", "No such file");
    expect_no_secret("/tmp", "directory");
    put("", 0);
    expect_no_secret(path, "empty");
    put("\npw", 3);
    expect_no_secret(path, "empty");
    put("p\0w\n", 4);
    expect_no_secret(path, "not a text file");
    char *big = malloc(FILE_SECRET_MAX_BYTES + 1);
    memset(big, 'x', FILE_SECRET_MAX_BYTES + 1);
    put(big, FILE_SECRET_MAX_BYTES + 1);
    free(big);
    expect_no_secret(path, "larger than 64 KB");
}

static void test_free_space(void **state)
{
    (void)state;
    struct err err;
    uint64_t here = 0, below = 0, n = 0;
    char sub[100];
    assert_int_equal(file_free_space(root, &here, &err), 0);
    assert_true(here > 0);
    snprintf(sub, sizeof(sub), "%s/not/there//yet/", root);
    assert_int_equal(file_free_space(sub, &below, &err), 0);
    assert_true(below > here / 2 && below < here * 2); /* others write to this disk meanwhile */
    assert_int_equal(file_free_space("nothing-here/at-all", &n, &err), 0);
    assert_int_equal(file_free_space("/no-such-root/x", &n, &err), 0);
    snprintf(sub, sizeof(sub), "%s/f/x", root);
    put("x", 1);
    assert_int_equal(file_free_space(sub, &n, &err), -1); /* below a file */
    assert_int_equal(err.code, ERR_IO);
}

static void test_make_dir(void **state)
{
    (void)state;
    struct err err = {.msg = ""};
    char sub[100];
    struct stat st;
    snprintf(sub, sizeof(sub), "%s/made", root);
    assert_int_equal(file_make_dir(sub, &err), 0);
    assert_int_equal(file_make_dir(sub, &err), 0);
    assert_int_equal(stat(sub, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(rmdir(sub), 0);
    put("x", 1);
    assert_int_equal(file_make_dir(path, &err), -1);
    assert_non_null(strstr(err.msg, "Not a directory"));
    assert_int_equal(file_make_dir("/no/such/parent", &err), -1);
}

static void test_at_positions(void **state)
{
    (void)state;
    char back[10];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(file_pwrite(fd, "abc", 3, 5), 0);
    assert_int_equal(file_pread(fd, back, 2, 6), 0);
    assert_memory_equal(back, "bc", 2);
    errno = 99;
    assert_int_equal(file_pread(fd, back, 3, 6), -1);
    assert_int_equal(errno, 0);
    assert_int_equal(file_pread(-1, back, 3, 6), -1);
    assert_int_equal(errno, EBADF);
    close(fd);
    fd = open("/dev/full", O_WRONLY);
    assert_int_equal(file_pwrite(fd, "abc", 3, 0), -1);
    assert_true(file_no_room(errno));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replace),      cmocka_unit_test(test_replace_fails),
        cmocka_unit_test(test_secret),       cmocka_unit_test(test_bad_secrets),
        cmocka_unit_test(test_free_space),   cmocka_unit_test(test_make_dir),
        cmocka_unit_test(test_at_positions),
    };
    return cmocka_run_group_tests_name("file", tests, make_root, drop_root);
}
