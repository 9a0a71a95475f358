// SPDX-License-Identifier: BSD-3-Clause
// The spool against a simple model: every byte and every time of receipt, in RAM and on disk.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/spool_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct kit kit;
static char *dir = kit.dir;

static int make_root(void **state)
{
    (void)state;
    kit_make(&kit);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    kit_drop(&kit);
    return 0;
}

static struct spool *open_spool(size_t ram, uint64_t quota, uint64_t segment)
{
    struct spool_config cfg = {
        .ram_bytes = ram, .dir = dir, .max_disk_bytes = quota, .segment_bytes = segment};
    struct spool *s = NULL;
    struct err err;
    assert_int_equal(spool_open(&s, &cfg, &err), 0);
    return s;
}

/* Random steps. `bias`: how often out of 8 the producer goes. */
static void walk(uint64_t seed, size_t ram, uint64_t quota, uint64_t segment, unsigned bias)
{
    struct model m;
    struct err err;
    model_init(&m, seed, 300000);
    struct spool *s = open_spool(ram, quota, segment);
    unsigned stuck = 0;
    while (m.head < m.max) {
        uint64_t before = m.head + m.tail;
        size_t n = model_next(&m) % (model_next(&m) % 4 ? 300 : 9000) + 1;
        if (model_next(&m) % 3 == 0)
            m.now += (int64_t)(model_next(&m) % 5) - 1; /* also backwards */
        if (model_next(&m) % 8 < bias)
            model_produce(&m, s, n);
        else
            model_consume(&m, s, n);
        if (model_next(&m) % 3 == 0) assert_true(spool_refill(s, &err) >= 0);
        if (model_next(&m) % 512 == 0) bias = (unsigned)(1 + model_next(&m) % 7);
        stuck = m.head + m.tail == before ? stuck + 1 : 0;
        assert_true(stuck < 1000);
    }
    assert_int_equal(spool_disk_bytes(s), 0);
    spool_close(s);
    assert_int_equal(kit_files(dir, NULL, 0), 0);
    model_release(&m);
}

static void test_model(void **state)
{
    (void)state;
    static const struct {
        size_t ram;
        uint64_t quota, segment;
    } shape[] = {{4096, 1 << 20, 1024}, {4096, 1 << 20, 300}, {8192, 20000, 0},
                 {4096, 5000, 2048},    {4096, 0, 0},         {65536, 1 << 20, 40000},
                 {4096, 1 << 30, 0},    {65536, 3000, 0},     {4096, 17, 0},
                 {4096, 16, 0},         {65536, 1 << 22, 999}};
    for (size_t i = 0; i < sizeof(shape) / sizeof(*shape); i++)
        for (unsigned seed = 1; seed <= 3; seed++)
            walk(seed + 10 * i, shape[i].ram, shape[i].quota, shape[i].segment, 1 + 2 * seed);
}

static void test_ram_is_zero_copy(void **state)
{
    (void)state;
    struct err err;
    struct spool *s = open_spool(65536, 1 << 20, 0);
    uint8_t *in;
    const uint8_t *out;
    assert_int_equal(spool_space(s, &in), 65536);
    memcpy(in, "hello", 5);
    assert_int_equal(spool_commit(s, 5, 77, &err), 0);
    assert_int_equal(spool_peek(s, &out), 5);
    assert_ptr_equal(in, out);
    assert_int_equal(spool_time_at(s, 4), 77);
    assert_int_equal(spool_space(s, &in), 65531);
    spool_consume(s, 5);
    assert_int_equal(spool_space(s, &in), 65536);
    assert_ptr_equal(in, out); /* empty: the same pages again */
    assert_int_equal(spool_refill(s, &err), 0);
    spool_close(s);
    assert_int_equal(access(dir, F_OK), -1); /* no folder before it is needed */
}

static void fill(struct model *m, struct spool *s)
{
    while (model_produce(m, s, 5000))
        m->now++;
}

static void test_quota_is_back_pressure(void **state)
{
    (void)state;
    struct model m;
    struct err err;
    model_init(&m, 1, 1 << 20);
    struct spool *s = open_spool(65536, 200000, 20000);
    fill(&m, s);
    assert_in_range(m.tail, 250000, 266000);
    uint8_t *p;
    assert_int_equal(spool_space(s, &p), 0);
    assert_int_equal(spool_refill(s, &err) >= 0, 1);
    uint64_t full = m.tail;
    while (m.head < full / 2) {
        model_consume(&m, s, 3000);
        assert_true(spool_refill(s, &err) >= 0);
    }
    fill(&m, s); /* half was read, so about half fits again */
    assert_true(m.tail > full + full / 4);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    char path[128];
    assert_true(kit_files(dir, path, sizeof(path)) > 3);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    spool_close(s); /* with all that in it */
    assert_int_equal(kit_files(dir, NULL, 0), 0);
    model_release(&m);
}

/* No mark left and plenty in the ring: what is on disk waits, so that its times stay right. */
static void test_marks_before_haste(void **state)
{
    (void)state;
    struct model m;
    struct err err;
    model_init(&m, 1, 60000);
    struct spool *s = open_spool(65536, 1 << 20, 0);
    for (; m.tail < m.max; m.now++)
        assert_int_equal(model_produce(&m, s, 10), 10);
    assert_int_equal(spool_ram_bytes(s), 40960);
    assert_int_equal(spool_refill(s, &err), 0);
    model_consume(&m, s, 25);
    assert_int_equal(spool_refill(s, &err), 20);
    while (m.head < m.max) {
        model_consume(&m, s, 1000);
        assert_true(spool_refill(s, &err) >= 0);
    }
    spool_close(s);
    model_release(&m);
}

/* However slowly one byte after the other comes: the table of times is bounded, nothing is lost. */
static void test_many_times(void **state)
{
    (void)state;
    struct model m;
    struct err err;
    model_init(&m, 1, 20000);
    struct spool *s = open_spool(16384, 1 << 20, 0);
    for (; m.tail < 10000; m.now++)
        assert_int_equal(model_produce(&m, s, 1), 1);
    assert_int_equal(spool_ram_bytes(s), 4096); /* as many as there are marks */
    assert_int_equal(spool_disk_bytes(s), 10000 - 4096);
    while (m.head < 4096)
        model_consume(&m, s, 100);
    assert_true(spool_refill(s, &err) > 0);
    assert_int_equal(m.head, 4096);
    const uint8_t *p;
    assert_true(spool_peek(s, &p) > 4095);
    for (unsigned i = 0; i < 4095; i++) { /* the last mark of before stays, so one less */
        assert_int_equal(p[i], model_byte(4096 + i));
        assert_int_equal(spool_time_at(s, 4096 + i), m.when[4096 + i]);
    }
    spool_close(s);

    /* No disk, and the decoder needs more than there are marks for. */
    m.head = m.tail = 0;
    s = open_spool(16384, 0, 0);
    for (; m.tail < 8192; m.now++)
        assert_int_equal(model_produce(&m, s, 1), 1);
    assert_int_equal(model_produce(&m, s, 1), 0); /* half full: now it has to consume first */
    assert_int_equal(spool_peek(s, &p), 8192);
    for (unsigned i = 0; i < 8192; i++)
        assert_int_equal(p[i], model_byte(i));
    spool_consume(s, 10);
    assert_int_equal(model_produce(&m, s, 1), 1);
    spool_close(s);
    model_release(&m);
}

static void check_damage(off_t at, bool cut, const char *words)
{
    struct model m;
    struct err err = {.msg = ""};
    char path[128];
    model_init(&m, 1, 1 << 20);
    struct spool *s = open_spool(4096, 1 << 20, 1 << 20);
    while (m.tail < 262144) /* one file, as a quarter of the quota is the longest */
        model_produce(&m, s, 5000);
    assert_int_equal(kit_files(dir, path, sizeof(path)), 1);
    if (cut)
        assert_int_equal(truncate(path, at), 0);
    else
        kit_flip(path, at);
    while (model_consume(&m, s, 4096))
        if (spool_refill(s, &err) < 0) break;
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, words));
    assert_non_null(strstr(err.msg, path));
    model_consume(&m, s, 4096);
    assert_int_equal(spool_refill(s, &err), -1); /* and it stays an error */
    spool_close(s);
    assert_int_equal(kit_files(dir, NULL, 0), 0);
    model_release(&m);
}

static void test_damaged_segment(void **state)
{
    (void)state;
    check_damage(1000, false, "checksum differs");
    check_damage(60000, false, "checksum differs");
    check_damage(32 + 9, false, "checksum differs"); /* the time */
    check_damage(32 + 5, false, "checksum differs"); /* the checksum itself */
    check_damage(32 + 2, false, "impossible length");
    check_damage(70000, true, "shorter");
}

static void test_deleted_segment(void **state)
{
    (void)state;
    struct model m;
    struct err err = {.msg = ""};
    char path[128];
    model_init(&m, 1, 1 << 20);
    struct spool *s = open_spool(4096, 1 << 20, 0);
    while (m.tail < 262144)
        model_produce(&m, s, 5000);
    assert_int_equal(kit_files(dir, path, sizeof(path)), 1);
    assert_int_equal(unlink(path), 0);
    model_consume(&m, s, 4096);
    assert_int_equal(spool_refill(s, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    spool_close(s);
    model_release(&m);
}

static void test_no_folder(void **state)
{
    (void)state;
    struct spool_config cfg = {.ram_bytes = 4096,
                               .dir = "/proc/no/such",
                               .max_disk_bytes = 1 << 20,
                               .segment_bytes = 1024};
    struct spool *s = NULL;
    struct err err = {.msg = ""};
    uint8_t *p;
    assert_int_equal(spool_open(&s, &cfg, &err), 0);
    int rc = 0;
    for (unsigned i = 0; i < 100 && rc == 0; i++) {
        size_t n = spool_space(s, &p);
        memset(p, 'x', n);
        rc = spool_commit(s, n, 1, &err);
    }
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/proc/no/such"));
    spool_close(s);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct model m;
    struct err err;
    const char *log = kit_log(&kit);
    model_init(&m, 1, 1 << 20);
    struct spool *s = open_spool(4096, 1 << 24, 8192);
    kit_no_room(true);
    fill(&m, s);
    assert_in_range(m.tail, 4096, 16384); /* ring and side buffer are full */
    uint64_t full = m.tail;
    for (unsigned i = 0; i < 3; i++) { /* still no room */
        usleep(110000);
        assert_true(spool_refill(s, &err) >= 0);
        assert_int_equal(model_produce(&m, s, 100), 0);
    }
    kit_no_room(false);
    usleep(110000);
    assert_true(spool_refill(s, &err) >= 0);
    for (unsigned i = 0; i < 20; i++) /* there is room again */
        assert_true(model_produce(&m, s, 1000) > 0);
    assert_true(m.tail > full);
    while (m.head < m.tail) {
        assert_true(spool_refill(s, &err) >= 0);
        model_consume(&m, s, 1000);
    }
    spool_close(s);
    assert_int_equal(kit_lines(log, "no room for more spool files"), 1); /* told once */
    assert_int_equal(kit_lines(log, ""), 1);
    kit_unlog(&kit);
    assert_int_equal(kit_files(dir, NULL, 0), 0);
    model_release(&m);
}

/* Two spools, one folder, one process: their files do not meet. */
static void test_two_in_one_folder(void **state)
{
    (void)state;
    struct model a, b;
    struct err err;
    model_init(&a, 1, 100000);
    model_init(&b, 2, 100000);
    struct spool *sa = open_spool(4096, 1 << 20, 3000), *sb = open_spool(4096, 1 << 20, 3000);
    while (a.tail < a.max || b.tail < b.max) {
        model_produce(&a, sa, 700);
        model_produce(&b, sb, 900);
    }
    while (a.head < a.max || b.head < b.max) {
        model_consume(&a, sa, 1000);
        model_consume(&b, sb, 1000);
        assert_true(spool_refill(sa, &err) >= 0 && spool_refill(sb, &err) >= 0);
    }
    spool_close(sa);
    spool_close(sb);
    model_release(&a);
    model_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ram_is_zero_copy),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_quota_is_back_pressure),
        cmocka_unit_test(test_marks_before_haste),
        cmocka_unit_test(test_many_times),
        cmocka_unit_test(test_damaged_segment),
        cmocka_unit_test(test_deleted_segment),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_two_in_one_folder),
    };
    return cmocka_run_group_tests_name("spool", tests, make_root, drop_root);
}
