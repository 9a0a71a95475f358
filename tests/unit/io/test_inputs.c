// SPDX-License-Identifier: BSD-3-Clause
// Inputs against what was put in: over restarts, torn and damaged files, bounds.
#include "io/inputs.h"

#include "base/crc64.h"
#include "io/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char dir[64];

static void each_file(void (*fn)(const char *path))
{
    char path[512];
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        fn(path);
    }
    closedir(d);
}

static void drop(const char *path)
{
    unlink(path);
}

static unsigned n_files;
static void count(const char *path)
{
    (void)path;
    n_files++;
}

static unsigned files(void)
{
    n_files = 0;
    each_file(count);
    return n_files;
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/kh-inputs-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    each_file(drop);
    return rmdir(dir);
}

static struct inputs *open_as(const char *load, uint64_t since, uint64_t max, uint64_t segment)
{
    struct inputs *in = NULL;
    struct err err = {0};
    struct inputs_config cfg = {
        .dir = dir, .load = load, .since = since, .max_bytes = max, .segment_bytes = segment};
    if (inputs_open(&in, &cfg, &err) < 0) fail_msg("%s", err.msg);
    return in;
}

static struct inputs *open_it(void)
{
    return open_as("0badcafe", 100, 1 << 20, 0);
}

/* A record of two values, one of them missing, and one of so many bytes. */
static void put(struct inputs *in, uint64_t offset, const char *text, size_t bytes)
{
    struct err err = {0};
    char part[100];
    memset(part, (int)('a' + offset % 26), sizeof(part));
    int rc = inputs_begin(in, offset, 3, &err);
    if (rc == 0) rc = inputs_part(in, text, strlen(text), &err);
    if (rc == 0) rc = inputs_value(in, true, 77, &err);
    if (rc == 0) rc = inputs_value(in, false, 0, &err);
    for (size_t at = 0; rc == 0 && at < bytes; at += sizeof(part))
        rc = inputs_part(in, part, bytes - at < sizeof(part) ? bytes - at : sizeof(part), &err);
    if (rc == 0) rc = inputs_value(in, true, 0, &err);
    if (rc == 0) rc = inputs_end(in, &err);
    if (rc < 0) fail_msg("%s", err.msg);
}

static void assert_has(struct inputs *in, uint64_t offset, const char *text, size_t bytes)
{
    const struct inputs_value *v;
    struct err err = {0};
    size_t n;
    char got[300];
    if (inputs_find(in, offset, &v, &n, &err) != 1) fail_msg("no %d", (int)offset);
    assert_int_equal(n, 3);
    assert_true(v[0].there && v[0].n == strlen(text) && v[0].deadline_ms == 77);
    assert_int_equal(inputs_read(in, v[0].at, got, (size_t)v[0].n, &err), 0);
    assert_memory_equal(got, text, v[0].n);
    assert_true(!v[1].there && v[1].n == 0);
    assert_true(v[2].there && v[2].n == bytes && v[2].deadline_ms == 0);
    for (size_t i = 0; i < bytes; i += 50) {
        assert_int_equal(inputs_read(in, v[2].at + i, got, 1, &err), 0);
        assert_int_equal(got[0], 'a' + offset % 26);
    }
}

static void assert_not(struct inputs *in, uint64_t offset)
{
    const struct inputs_value *v;
    struct err err = {0};
    size_t n;
    assert_int_equal(inputs_find(in, offset, &v, &n, &err), 0);
}

static void gives_back_what_was_put(void **state)
{
    (void)state;
    struct inputs *in = open_it();
    put(in, 101, "one", 0);
    put(in, 250, "", 1000);
    put(in, 180, "between", 3);
    assert_has(in, 101, "one", 0);
    assert_has(in, 250, "", 1000);
    assert_has(in, 180, "between", 3);
    assert_not(in, 100);
    assert_not(in, 251);
    put(in, 101, "another", 5);
    assert_has(in, 101, "another", 5);
    inputs_discard(in);
    assert_int_equal(files(), 0);
}

static void outlives_the_process(void **state)
{
    (void)state;
    struct inputs *in = open_it();
    put(in, 101, "one", 0);
    put(in, 250, "two", 1000);
    inputs_close(in);
    in = open_as("0badcafe", 9000, 1 << 20, 0);
    assert_has(in, 250, "two", 1000);
    assert_true(inputs_covers(in, 101)); /* as of the first time */
    assert_false(inputs_covers(in, 100));
    put(in, 300, "three", 1);
    inputs_close(in);
    in = open_it();
    assert_has(in, 101, "one", 0);
    assert_has(in, 300, "three", 1);
    inputs_discard(in);
}

static void forgets_another_load(void **state)
{
    (void)state;
    struct inputs *in = open_it();
    put(in, 101, "one", 0);
    inputs_close(in);
    in = open_as("11111111", 50, 1 << 20, 0);
    assert_not(in, 101);
    assert_true(inputs_covers(in, 101));
    assert_int_equal(files(), 1);
    inputs_discard(in);
}

static void what_was_begun_is_forgotten(void **state)
{
    (void)state;
    struct inputs *in = open_it();
    struct err err;
    put(in, 101, "one", 0);
    assert_int_equal(inputs_begin(in, 200, 2, &err), 0);
    assert_int_equal(inputs_part(in, "xxxxxxxx", 8, &err), 0);
    assert_int_equal(inputs_end(in, &err), -1); /* values are wanting */
    assert_int_equal(inputs_value(in, true, 0, &err), 0);
    assert_int_equal(inputs_value(in, false, 0, &err), 0);
    assert_int_equal(inputs_value(in, false, 0, &err), -1); /* one too many */
    put(in, 300, "three", 1);
    assert_not(in, 200);
    assert_has(in, 300, "three", 1);
    assert_int_equal(inputs_begin(in, 400, 1, &err), 0);
    assert_int_equal(inputs_part(in, "yyyyyyyyyyyyyyyyyyyyy", 21, &err), 0);
    inputs_close(in);
    in = open_it();
    assert_has(in, 101, "one", 0);
    assert_has(in, 300, "three", 1);
    assert_not(in, 400);
    put(in, 500, "five", 2);
    assert_has(in, 500, "five", 2);
    inputs_discard(in);
}

/* --- bounds --- */

static void old_ones_go(void **state)
{
    (void)state;
    struct inputs *in = open_as("0badcafe", 100, 1 << 30, 5000);
    for (uint64_t o = 1000; o < 1100; o++)
        put(in, o, "text", 1000);
    unsigned before = files();
    assert_true(before > 15);
    inputs_done(in, 1050);
    assert_true(files() < before - 5);
    assert_has(in, 1050, "text", 1000);
    assert_has(in, 1099, "text", 1000);
    assert_not(in, 1000);
    assert_false(inputs_covers(in, 1000));
    assert_true(inputs_covers(in, 1050));
    inputs_close(in);
    in = open_as("0badcafe", 100, 1 << 30, 5000);
    assert_not(in, 1000);
    assert_false(inputs_covers(in, 1000));
    assert_true(inputs_covers(in, 1050));
    inputs_discard(in);
}

static void never_more_than_allowed(void **state)
{
    (void)state;
    struct inputs *in = open_as("0badcafe", 100, 20000, 5000);
    for (uint64_t o = 1000; o < 1200; o++) {
        put(in, o, "text", 1000);
        assert_true(files() < 8);
        assert_has(in, o, "text", 1000);
    }
    assert_has(in, 1190, "text", 1000);
    assert_not(in, 1100);
    assert_false(inputs_covers(in, 1100));
    put(in, 1200, "long", 100000); /* more than all may be: for as long as it is wanted */
    assert_has(in, 1200, "long", 100000);
    put(in, 1201, "text", 10);
    assert_has(in, 1201, "text", 10);
    assert_int_equal(files(), 1);
    inputs_discard(in);
}

static void a_record_has_an_end(void **state)
{
    (void)state;
    struct inputs *in = open_it();
    struct err err;
    assert_int_equal(inputs_begin(in, 200, 1, &err), 0);
    assert_int_equal(inputs_part(in, &err, (size_t)INPUTS_BYTES + 1, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(inputs_begin(in, 200, SIZE_MAX / 2, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    put(in, 300, "three", 1);
    assert_has(in, 300, "three", 1);
    inputs_discard(in);
}

/* --- files that are not what they were --- */

static char the_file[512];
static void keep_path(const char *path)
{
    if (strcmp(path, the_file) > 0) snprintf(the_file, sizeof(the_file), "%s", path);
}

static const char *last_file(void)
{
    the_file[0] = 0;
    each_file(keep_path);
    return the_file;
}

static const char texts[3][8] = {"one", "two", "three"};

/* Three records. Where each ends. */
static void write_three(off_t ret_end[3])
{
    struct stat st;
    struct inputs *in = open_it();
    for (uint64_t i = 0; i < 3; i++) {
        put(in, 200 + i, texts[i], 100);
        assert_int_equal(stat(last_file(), &st), 0);
        ret_end[i] = st.st_size;
    }
    inputs_close(in);
}

/* Cut anywhere: whole records stay, what is torn goes, it can be gone on with. */
static void torn_tails_are_cut(void **state)
{
    (void)state;
    off_t end[3];
    write_three(end);
    for (off_t cut = end[2]; cut >= 0; cut--) {
        each_file(drop);
        write_three(end);
        assert_int_equal(truncate(last_file(), cut), 0);
        struct inputs *in = open_it();
        for (uint64_t i = 0; i < 3; i++)
            if (end[i] <= cut)
                assert_has(in, 200 + i, texts[i], 100);
            else
                assert_not(in, 200 + i);
        put(in, 900, "more", 9);
        inputs_close(in);
        in = open_it();
        assert_has(in, 900, "more", 9);
        if (cut >= end[0]) assert_has(in, 200, "one", 100);
        inputs_discard(in);
    }
}

/* Any byte changed: nothing false is given, and it is not taken for never read. */
static void damage_is_seen(void **state)
{
    (void)state;
    off_t end[3] = {0};
    write_three(end);
    for (off_t at = 0; at < end[2]; at++) {
        uint8_t b;
        each_file(drop);
        write_three(end);
        int fd = open(last_file(), O_RDWR);
        assert_int_equal(pread(fd, &b, 1, at), 1);
        b ^= 0x41;
        assert_int_equal(pwrite(fd, &b, 1, at), 1);
        close(fd);
        struct inputs *in = open_as("0badcafe", 500, 1 << 20, 0);
        for (uint64_t i = 0; i < 3; i++) {
            const struct inputs_value *v;
            struct err err;
            size_t n;
            int rc = inputs_find(in, 200 + i, &v, &n, &err);
            assert_in_range(rc, 0, 1);
            if (rc) assert_has(in, 200 + i, texts[i], 100);
        }
        inputs_discard(in);
    }
    each_file(drop);
}

static void damage_before_the_end_is_unknown(void **state)
{
    (void)state;
    struct inputs *in = open_as("0badcafe", 100, 1 << 30, 2000);
    for (uint64_t o = 1000; o < 1010; o++)
        put(in, o, "text", 1000);
    inputs_close(in);
    char path[512];
    snprintf(path, sizeof(path), "%s/inputs-%016x.log", dir, 2);
    assert_int_equal(truncate(path, 1000), 0);
    in = open_as("0badcafe", 1500, 1 << 30, 2000);
    assert_has(in, 1000, "text", 1000);
    assert_has(in, 1009, "text", 1000);
    assert_not(in, 1002);
    assert_false(inputs_covers(in, 1002));
    inputs_discard(in);
}

/* Heads that are right by their sums, and lie. */
static void hostile_heads(void **state)
{
    (void)state;
    static const struct {
        uint32_t values;
        uint64_t bytes, row;
    } lies[] = {{UINT32_MAX, 0, 0},      {0, UINT64_MAX, 0}, {1, UINT64_MAX - 30, 5},
                {1, 10, UINT64_MAX - 1}, {1, 10, 11},        {0x10000000, 100, 0}};
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct {
            uint64_t offset;
            uint32_t values, mark;
            uint64_t bytes, bytes_crc, crc, row;
            int64_t ms;
            char data[10];
        } h = {.offset = 200,
               .values = lies[i].values,
               .mark = 0x54504e49,
               .bytes = lies[i].bytes,
               .row = lies[i].row,
               .data = "abcdefghi"};
        each_file(drop);
        inputs_close(open_it());
        h.bytes_crc = crc64(0, h.data, 10);
        h.crc = crc64(crc64(0, &h, offsetof(__typeof__(h), crc)), &h.row, 16);
        int fd = open(last_file(), O_RDWR | O_APPEND);
        assert_int_equal(write(fd, &h, offsetof(__typeof__(h), data) + 10), 66);
        close(fd);
        struct inputs *in = open_it();
        assert_not(in, 200);
        inputs_discard(in);
    }
}

static void other_files_are_left_alone(void **state)
{
    (void)state;
    static const char *const names[] = {"inputs-1.log", "inputs-00000000000000zz.log",
                                        "inputs-0000000000000001.log.bak",
                                        "stream-0000000000000000.seg"};
    char path[512];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    struct inputs *in = open_it();
    assert_int_equal(files(), 5);
    inputs_discard(in);
    assert_int_equal(files(), 4);
    each_file(drop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_what_was_put),
        cmocka_unit_test(outlives_the_process),
        cmocka_unit_test(forgets_another_load),
        cmocka_unit_test(what_was_begun_is_forgotten),
        cmocka_unit_test(old_ones_go),
        cmocka_unit_test(never_more_than_allowed),
        cmocka_unit_test(a_record_has_an_end),
        cmocka_unit_test(torn_tails_are_cut),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(damage_before_the_end_is_unknown),
        cmocka_unit_test(hostile_heads),
        cmocka_unit_test(other_files_are_left_alone),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
