// SPDX-License-Identifier: BSD-3-Clause
// What a former run left, in whatever state: cut at every byte, damaged, missing, hostile.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "io/spool_kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER  32 /* of a file */
#define RECORD  16 /* header of a record */
#define RECORDS 410

static struct kit kit;
static char copy_dir[80];
static struct model model;
static uint64_t ends[RECORDS]; /* position behind each record */
static uint64_t file_pos[40];  /* of the files, in order */
static unsigned files;

static const struct spool_config small = {.ram_bytes = 4096,
                                          .dir = copy_dir,
                                          .max_disk_bytes = 1 << 20,
                                          .segment_bytes = 3000,
                                          .log_name = "task-1"};

static void file_path(char ret[200], const char *dir, uint64_t pos)
{
    snprintf(ret, 200, "%s/task-1-%016llx.seg", dir, (unsigned long long)pos);
}

/* A log of RECORDS commits in a dozen files, in kit.dir. */
static int make_log(void **state)
{
    (void)state;
    kit_make(&kit);
    snprintf(copy_dir, sizeof(copy_dir), "%s/copy", kit.root);
    model_init(&model, 5, RECORDS * 150);
    struct spool_config cfg = small;
    struct spool *s;
    struct err err;
    cfg.dir = kit.dir;
    if (spool_open(&s, &cfg, &err) < 0 || spool_keep(s, &err) < 0) return -1;
    for (unsigned i = 0; i < RECORDS; i++) {
        model.now += (int64_t)(model_next(&model) % 3);
        size_t n = model_produce(&model, s, 1 + model_next(&model) % 130);
        char path[200];
        uint64_t begin = model.tail - n;
        ends[i] = model.tail;
        if (spool_write(s, &err) < 0) return -1;
        model_read_all(&model, s);
        file_path(path, kit.dir, begin);
        if (access(path, F_OK) == 0) file_pos[files++] = begin;
    }
    spool_close(s);
    kit_log(&kit);
    return files > 8 && files == kit_files(kit.dir, NULL, 0) ? 0 : -1;
}

static int drop_log(void **state)
{
    (void)state;
    kit_unlog(&kit);
    kit_empty(kit.dir);
    kit_empty(copy_dir);
    rmdir(copy_dir);
    kit_drop(&kit);
    model_release(&model);
    return 0;
}

/* A model of its own, of which from..to is in the spool. */
static struct model a_clone(uint64_t from, uint64_t to)
{
    struct model m = model;
    m.when = malloc(model.max * sizeof(*m.when));
    assert_non_null(m.when);
    memcpy(m.when, model.when, model.max * sizeof(*m.when));
    m.head = from;
    m.tail = to;
    return m;
}

/* A fresh copy to play with. */
static void fresh(void)
{
    kit_copy(kit.dir, copy_dir);
}

static off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* Position up to which the file that begins at `pos` is whole when only `bytes` of it are. */
static uint64_t whole_until(uint64_t pos, off_t bytes)
{
    uint64_t end = pos, at = HEADER;
    for (unsigned i = 0; i < RECORDS; i++) {
        uint64_t begin = i ? ends[i - 1] : 0;
        if (begin < pos) continue;
        at += RECORD + ends[i] - begin;
        if (at > (uint64_t)bytes) break;
        end = ends[i];
    }
    return end;
}

/* What is found reaches from..to and reads as it was written; it can be gone on with, and found
 * again. to == from: nothing is. */
static void check(uint64_t from, uint64_t to)
{
    struct spool *s = NULL;
    struct err err = {.msg = ""};
    uint64_t pos = 7;
    struct model m = a_clone(from, to);
    if (spool_recover(&s, &small, &pos, &err) < 0) fail_msg("%s", err.msg);
    if (to == from) {
        assert_true(pos == UINT64_MAX);
        assert_int_equal(kit_files(copy_dir, NULL, 0), 0);
        spool_discard(s);
        model_release(&m);
        return;
    }
    assert_int_equal(pos, from);
    assert_int_equal(spool_first(s), from);
    assert_int_equal(spool_tail(s), to);
    model_read_all(&m, s);
    m.now += 10;
    model_produce(&m, s, 100);
    model_produce(&m, s, 5);
    spool_close(s);
    assert_int_equal(spool_recover(&s, &small, &pos, &err), 0);
    assert_int_equal(pos, from);
    assert_int_equal(spool_tail(s), m.tail);
    m.head = from;
    model_read_all(&m, s);
    spool_discard(s);
    assert_int_equal(kit_files(copy_dir, NULL, 0), 0);
    model_release(&m);
}

static void test_whole(void **state)
{
    (void)state;
    fresh();
    check(0, model.tail);
}

/* The last file cut after every one of its bytes. */
static void test_cut(void **state)
{
    (void)state;
    fresh();
    char path[200];
    file_path(path, copy_dir, file_pos[files - 1]);
    off_t size = size_of(path);
    assert_true(size > 500);
    for (off_t n = 0; n < size; n++) {
        fresh();
        assert_int_equal(truncate(path, n), 0);
        check(0, whole_until(file_pos[files - 1], n));
    }
}

/* ... and nothing but zeroes from there on, as after a power cut. */
static void test_zeroes(void **state)
{
    (void)state;
    fresh();
    char path[200];
    file_path(path, copy_dir, file_pos[files - 1]);
    off_t size = size_of(path);
    for (off_t n = 0; n < size; n++) {
        fresh();
        assert_int_equal(truncate(path, n), 0);
        assert_int_equal(truncate(path, size + 1000), 0);
        struct spool *s;
        struct err err;
        uint64_t pos;
        assert_int_equal(spool_recover(&s, &small, &pos, &err), 0);
        /* what was cut off may have been zeroes */
        assert_true(spool_tail(s) >= whole_until(file_pos[files - 1], n));
        assert_true(spool_tail(s) <= whole_until(file_pos[files - 1], n + 12));
        struct model m = a_clone(0, spool_tail(s));
        model_read_all(&m, s);
        model_release(&m);
        spool_discard(s);
    }
}

/* One bit of every byte: what is before its record is kept, no more. */
static void damage(unsigned file, bool warned)
{
    fresh();
    char path[200];
    file_path(path, copy_dir, file_pos[file]);
    off_t size = size_of(path);
    unsigned lines = kit_lines(kit_log(&kit), "is damaged");
    for (off_t n = 0; n < size; n++) {
        fresh();
        kit_flip(path, n);
        struct spool *s;
        struct err err;
        uint64_t pos, to = n < HEADER ? file_pos[file] : whole_until(file_pos[file], n);
        assert_int_equal(spool_recover(&s, &small, &pos, &err), 0);
        assert_int_equal(spool_tail(s), to);
        assert_true(to ? pos == 0 : pos == UINT64_MAX);
        struct model m = a_clone(0, to);
        model_read_all(&m, s);
        model_release(&m);
        spool_discard(s);
        assert_int_equal(kit_files(copy_dir, NULL, 0), 0);
    }
    assert_int_equal(kit_lines(kit_log(&kit), "is damaged") - lines, warned ? size : 0);
}

static void test_damage(void **state)
{
    (void)state;
    fresh();
    damage(files - 1, false);
    damage(3, true);
    damage(0, true);
}

static void test_missing(void **state)
{
    (void)state;
    fresh();
    char path[200], other[200];
    for (unsigned i = 0; i < files; i++) {
        fresh();
        file_path(path, copy_dir, file_pos[i]);
        assert_int_equal(unlink(path), 0);
        check(i ? 0 : file_pos[1], i ? file_pos[i] : model.tail);
    }
    /* Under the name of another position, where nothing or something else is. */
    fresh();
    file_path(path, copy_dir, file_pos[2]);
    file_path(other, copy_dir, file_pos[2] + 1);
    assert_int_equal(rename(path, other), 0);
    check(0, file_pos[2]);
    fresh();
    file_path(other, copy_dir, file_pos[4]);
    assert_int_equal(rename(path, other), 0);
    check(0, file_pos[2]);
    /* An older one that overlaps: it is the first. */
    fresh();
    for (unsigned i = 1; i < files; i++) {
        file_path(path, copy_dir, file_pos[i]);
        if (i != 2) assert_int_equal(unlink(path), 0);
    }
    check(0, file_pos[1]);
}

/* Right records in a wrong place. */
static void test_moved(void **state)
{
    (void)state;
    char path[200], bytes[8000];
    fresh();
    file_path(path, copy_dir, file_pos[5]);
    int fd = open(path, O_RDWR);
    ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
    uint32_t first;
    memcpy(&first, bytes + HEADER, 4);
    ssize_t rest = n - HEADER - RECORD - (ssize_t)first;
    assert_true(rest > 1000);
    assert_int_equal(pwrite(fd, bytes + n - rest, (size_t)rest, HEADER), rest);
    assert_int_equal(ftruncate(fd, HEADER + rest), 0);
    close(fd);
    check(0, file_pos[5]);
}

/* Files larger than what is read of them at once. */
static void test_large_file(void **state)
{
    (void)state;
    struct spool_config cfg = small;
    struct model m;
    struct spool *s;
    struct err err;
    char path[200];
    uint64_t pos, before = 0;
    cfg.ram_bytes = 1 << 20;
    cfg.max_disk_bytes = 1 << 30;
    cfg.segment_bytes = 4 << 20;
    model_init(&m, 9, 2000000);
    assert_int_equal(spool_open(&s, &cfg, &err), 0);
    assert_int_equal(spool_keep(s, &err), 0);
    while (m.tail < m.max) {
        before = m.tail;
        model_produce(&m, s, 1 + model_next(&m) % (model_next(&m) % 4 ? 3000 : 600000));
        m.now++;
        model_read_all(&m, s);
    }
    spool_close(s);
    assert_int_equal(kit_files(copy_dir, path, sizeof(path)), 1);
    assert_int_equal(spool_recover(&s, &cfg, &pos, &err), 0);
    assert_int_equal(pos, 0);
    assert_int_equal(spool_tail(s), m.max);
    m.head = 0;
    model_read_all(&m, s);
    spool_close(s);
    assert_int_equal(truncate(path, size_of(path) - 1), 0);
    assert_int_equal(spool_recover(&s, &cfg, &pos, &err), 0);
    assert_true(spool_tail(s) >= before && spool_tail(s) < m.max);
    spool_discard(s);
    model_release(&m);
}

static void put_bytes(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

/* Random bytes, under a right name, behind a right header, behind right records. */
static void test_random(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        fresh();
        char path[200];
        uint8_t junk[5000];
        for (size_t i = 0; i < sizeof(junk); i++)
            junk[i] = round % 2 ? (uint8_t)model_next(&model) : (uint8_t)(model_next(&model) % 2);
        unsigned file = round % files;
        file_path(path, copy_dir, file_pos[file]);
        off_t at = round % 3 == 0 ? 0 : round % 3 == 1 ? HEADER : size_of(path);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
        close(fd);
        struct spool *s;
        struct err err;
        uint64_t pos;
        assert_int_equal(spool_recover(&s, &small, &pos, &err), 0);
        /* behind right records, up to where the next file begins, it does no harm */
        uint64_t to = round % 3 == 2 ? model.tail : file_pos[file];
        assert_int_equal(spool_tail(s), to);
        spool_discard(s);
    }
}

static void test_no_files(void **state)
{
    (void)state;
    fresh();
    char path[200], target[200];
    file_path(path, copy_dir, file_pos[1]);
    snprintf(target, sizeof(target), "%s/elsewhere", kit.root);
    put_bytes(target, "mine", 4);
    unlink(path);
    assert_int_equal(symlink(target, path), 0);
    check(0, file_pos[1]);
    assert_int_equal(size_of(target), 4);
    unlink(target);

    fresh();
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    check(0, file_pos[1]);

    struct spool *s;
    struct err err = {.msg = ""};
    uint64_t pos;
    fresh();
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(spool_recover(&s, &small, &pos, &err), -1); /* it cannot be deleted */
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(rmdir(path), 0);
    kit_empty(copy_dir);

    /* A position that no stream comes to. */
    struct spool_config cfg = small;
    file_path(path, copy_dir, UINT64_MAX);
    put_bytes(path, "KHSPOOL\n", 8);
    assert_int_equal(spool_recover(&s, &cfg, &pos, &err), 0);
    assert_true(pos == UINT64_MAX);
    assert_int_equal(kit_files(copy_dir, NULL, 0), 0);
    spool_discard(s);
    cfg.dir = "/proc/no/such";
    assert_int_equal(spool_recover(&s, &cfg, &pos, &err), 0); /* not there: nothing */
    assert_true(pos == UINT64_MAX);
    spool_close(s);
    cfg.dir = "/proc/version";
    assert_int_equal(spool_recover(&s, &cfg, &pos, &err), -1);
    cfg = small;
    cfg.log_name = NULL;
    assert_int_equal(spool_recover(&s, &cfg, &pos, &err), -1);
}

/* With other sizes than those it was written with. */
static void test_other_sizes(void **state)
{
    (void)state;
    static const struct {
        size_t ram;
        uint64_t quota, segment;
    } shape[] = {{4096, 1, 0}, {65536, 2000, 300}, {1 << 20, 1ULL << 40, 0}};
    for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++) {
        struct spool_config cfg = small;
        struct model m = a_clone(ends[300] + 1, model.tail);
        struct spool *s;
        struct err err;
        uint64_t pos;
        fresh();
        cfg.ram_bytes = shape[i].ram;
        cfg.max_disk_bytes = shape[i].quota;
        cfg.segment_bytes = shape[i].segment;
        assert_int_equal(spool_recover(&s, &cfg, &pos, &err), 0);
        assert_int_equal(pos, 0);
        assert_int_equal(spool_seek(s, ends[300] + 1, &err), 0);
        model_read_all(&m, s);
        spool_done(s, m.head);
        uint64_t end = m.tail + 20000;
        while (m.tail < end) {
            m.now++;
            model_produce(&m, s, 100);
            model_read_all(&m, s);
            spool_done(s, m.head);
        }
        model_release(&m);
        spool_discard(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),      cmocka_unit_test(test_cut),
        cmocka_unit_test(test_zeroes),     cmocka_unit_test(test_damage),
        cmocka_unit_test(test_missing),    cmocka_unit_test(test_moved),
        cmocka_unit_test(test_large_file), cmocka_unit_test(test_random),
        cmocka_unit_test(test_no_files),   cmocka_unit_test(test_other_sizes),
    };
    return cmocka_run_group_tests_name("spool, recovered", tests, make_log, drop_log);
}
