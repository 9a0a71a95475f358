// SPDX-License-Identifier: BSD-3-Clause
// The spool against a simple model: every byte and every time of receipt, in RAM and on disk.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "io/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64], dir[80];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/kh-spool-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(dir, sizeof(dir), "%s/d", root);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    rmdir(dir);
    return rmdir(root);
}

static unsigned count_files(char *ret_path, size_t size)
{
    DIR *d = opendir(dir);
    unsigned n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        n++;
        if (ret_path) snprintf(ret_path, size, "%s/%.40s", dir, e->d_name);
    }
    if (d) closedir(d);
    return n;
}

static struct spool *open_spool(size_t ram, uint64_t quota, uint64_t segment)
{
    struct spool_config cfg = {ram, dir, quota, segment};
    struct spool *s = NULL;
    struct err err;
    assert_int_equal(spool_open(&s, &cfg, &err), 0);
    return s;
}

/* The byte and the time that belong to a position: enough of a model, as both are a function. */
static uint8_t byte_at(uint64_t pos)
{
    return (uint8_t)((pos * 0x9e3779b97f4a7c15ULL) >> 56);
}

struct model {
    uint64_t rng;
    uint64_t tail, head, asked;
    int64_t now;
    int32_t *when; /* time of receipt by position */
    size_t max;
};

static uint64_t next(struct model *m)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return m->rng >> 11;
}

/* Commit up to n bytes; returns how many went. */
static size_t produce(struct model *m, struct spool *s, size_t n)
{
    uint8_t *p;
    struct err err;
    size_t room = spool_space(s, &p);
    if (n > room) n = room;
    if (n > m->max - m->tail) n = m->max - m->tail;
    for (size_t i = 0; i < n; i++) {
        p[i] = byte_at(m->tail + i);
        m->when[m->tail + i] = (int32_t)m->now;
    }
    /* A whole clobbered room shows whether anything but what was committed is looked at. */
    if (room > n && room - n < 4096) memset(p + n, 0xee, room - n);
    assert_int_equal(spool_commit(s, n, m->now, &err), 0);
    m->tail += n;
    assert_int_equal(spool_tail(s), m->tail);
    return n;
}

/* Check all that can be seen, then consume up to n of it. */
static size_t consume(struct model *m, struct spool *s, size_t n)
{
    const uint8_t *p;
    size_t have = spool_peek(s, &p);
    assert_int_equal(spool_head(s), m->head);
    assert_int_equal(spool_ram_bytes(s), have);
    assert_int_equal(m->head + have + spool_disk_bytes(s), m->tail);
    if (n > have) n = have;
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte_at(m->head + i)) fail_msg("byte %llu", (unsigned long long)(m->head + i));
    for (size_t i = 0; i < n; i++)
        if (spool_time_at(s, m->head + i) != m->when[m->head + i])
            fail_msg("time of %llu", (unsigned long long)(m->head + i));
    if (have > n) { /* looking ahead and coming back is allowed too */
        uint64_t far = m->head + n + next(m) % (have - n);
        assert_int_equal(spool_time_at(s, far), m->when[far]);
        if (n) assert_int_equal(spool_time_at(s, m->head), m->when[m->head]);
    }
    spool_consume(s, n);
    m->head += n;
    return n;
}

static void model_init(struct model *m, uint64_t seed, size_t max)
{
    *m = (struct model){.rng = seed * 2654435761u + 88172645463325252ULL, .max = max, .now = 1000};
    m->when = calloc(max, sizeof(*m->when));
    assert_non_null(m->when);
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
        size_t n = next(&m) % (next(&m) % 4 ? 300 : 9000) + 1;
        if (next(&m) % 3 == 0) m.now += (int64_t)(next(&m) % 5) - 1; /* also backwards */
        if (next(&m) % 8 < bias)
            produce(&m, s, n);
        else
            consume(&m, s, n);
        if (next(&m) % 3 == 0) assert_true(spool_refill(s, &err) >= 0);
        if (next(&m) % 512 == 0) bias = (unsigned)(1 + next(&m) % 7);
        stuck = m.head + m.tail == before ? stuck + 1 : 0;
        assert_true(stuck < 1000);
    }
    assert_int_equal(spool_disk_bytes(s), 0);
    spool_close(s);
    assert_int_equal(count_files(NULL, 0), 0);
    free(m.when);
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
    while (produce(m, s, 5000))
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
        consume(&m, s, 3000);
        assert_true(spool_refill(s, &err) >= 0);
    }
    fill(&m, s); /* half was read, so about half fits again */
    assert_true(m.tail > full + full / 4);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    char path[128];
    assert_true(count_files(path, sizeof(path)) > 3);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    spool_close(s); /* with all that in it */
    assert_int_equal(count_files(NULL, 0), 0);
    free(m.when);
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
        assert_int_equal(produce(&m, s, 10), 10);
    assert_int_equal(spool_ram_bytes(s), 40960);
    assert_int_equal(spool_refill(s, &err), 0);
    consume(&m, s, 25);
    assert_int_equal(spool_refill(s, &err), 20);
    while (m.head < m.max) {
        consume(&m, s, 1000);
        assert_true(spool_refill(s, &err) >= 0);
    }
    spool_close(s);
    free(m.when);
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
        assert_int_equal(produce(&m, s, 1), 1);
    assert_int_equal(spool_ram_bytes(s), 4096); /* as many as there are marks */
    assert_int_equal(spool_disk_bytes(s), 10000 - 4096);
    while (m.head < 4096)
        consume(&m, s, 100);
    assert_true(spool_refill(s, &err) > 0);
    assert_int_equal(m.head, 4096);
    const uint8_t *p;
    assert_true(spool_peek(s, &p) > 4095);
    for (unsigned i = 0; i < 4095; i++) { /* the last mark of before stays, so one less */
        assert_int_equal(p[i], byte_at(4096 + i));
        assert_int_equal(spool_time_at(s, 4096 + i), m.when[4096 + i]);
    }
    spool_close(s);

    /* No disk, and the decoder needs more than there are marks for. */
    m.head = m.tail = 0;
    s = open_spool(16384, 0, 0);
    for (; m.tail < 8192; m.now++)
        assert_int_equal(produce(&m, s, 1), 1);
    assert_int_equal(produce(&m, s, 1), 0); /* half full: now it has to consume first */
    assert_int_equal(spool_peek(s, &p), 8192);
    for (unsigned i = 0; i < 8192; i++)
        assert_int_equal(p[i], byte_at(i));
    spool_consume(s, 10);
    assert_int_equal(produce(&m, s, 1), 1);
    spool_close(s);
    free(m.when);
}

static int damage(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t b;
    if (fd < 0 || pread(fd, &b, 1, at) != 1) return -1;
    b ^= 0x10;
    if (pwrite(fd, &b, 1, at) != 1) return -1;
    return close(fd);
}

static void check_damage(off_t at, bool cut, const char *words)
{
    struct model m;
    struct err err = {.msg = ""};
    char path[128];
    model_init(&m, 1, 1 << 20);
    struct spool *s = open_spool(4096, 1 << 20, 1 << 20);
    while (m.tail < 262144) /* one file, as a quarter of the quota is the longest */
        produce(&m, s, 5000);
    assert_int_equal(count_files(path, sizeof(path)), 1);
    assert_int_equal(cut ? truncate(path, at) : damage(path, at), 0);
    while (consume(&m, s, 4096))
        if (spool_refill(s, &err) < 0) break;
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, words));
    assert_non_null(strstr(err.msg, path));
    consume(&m, s, 4096);
    assert_int_equal(spool_refill(s, &err), -1); /* and it stays an error */
    spool_close(s);
    assert_int_equal(count_files(NULL, 0), 0);
    free(m.when);
}

static void test_damaged_segment(void **state)
{
    (void)state;
    check_damage(1000, false, "checksum differs");
    check_damage(60000, false, "checksum differs");
    check_damage(9, false, "checksum differs"); /* the time */
    check_damage(5, false, "checksum differs"); /* the checksum itself */
    check_damage(2, false, "impossible length");
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
        produce(&m, s, 5000);
    assert_int_equal(count_files(path, sizeof(path)), 1);
    assert_int_equal(unlink(path), 0);
    consume(&m, s, 4096);
    assert_int_equal(spool_refill(s, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    spool_close(s);
    free(m.when);
}

static void test_no_folder(void **state)
{
    (void)state;
    struct spool_config cfg = {4096, "/proc/no/such", 1 << 20, 1024};
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

static unsigned count_lines(const char *path)
{
    char buf[4096];
    FILE *f = fopen(path, "r");
    unsigned n = 0;
    while (f && fgets(buf, sizeof(buf), f))
        n++;
    if (f) fclose(f);
    return n;
}

/* A full disk, played by the limit on file sizes (EFBIG). */
static void test_full_disk(void **state)
{
    (void)state;
    struct model m;
    struct err err;
    char log[80];
    struct rlimit old, low;
    snprintf(log, sizeof(log), "%s/log", root);
    struct log_config cfg = {.level = LOG_INFO, .file = log};
    assert_int_equal(log_open(&cfg, &err), 0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = (struct rlimit){3000, old.rlim_max};
    model_init(&m, 1, 1 << 20);
    struct spool *s = open_spool(4096, 1 << 24, 8192);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    fill(&m, s);
    assert_in_range(m.tail, 4096, 16384); /* ring and side buffer are full */
    uint64_t full = m.tail;
    for (unsigned i = 0; i < 3; i++) { /* still no room */
        usleep(110000);
        assert_true(spool_refill(s, &err) >= 0);
        assert_int_equal(produce(&m, s, 100), 0);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    usleep(110000);
    assert_true(spool_refill(s, &err) >= 0);
    for (unsigned i = 0; i < 20; i++) /* there is room again */
        assert_true(produce(&m, s, 1000) > 0);
    assert_true(m.tail > full);
    while (m.head < m.tail) {
        assert_true(spool_refill(s, &err) >= 0);
        consume(&m, s, 1000);
    }
    spool_close(s);
    log_close();
    assert_int_equal(count_lines(log), 1); /* told once */
    assert_int_equal(unlink(log), 0);
    assert_int_equal(count_files(NULL, 0), 0);
    free(m.when);
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
        produce(&a, sa, 700);
        produce(&b, sb, 900);
    }
    while (a.head < a.max || b.head < b.max) {
        consume(&a, sa, 1000);
        consume(&b, sb, 1000);
        assert_true(spool_refill(sa, &err) >= 0 && spool_refill(sb, &err) >= 0);
    }
    spool_close(sa);
    spool_close(sb);
    free(a.when);
    free(b.when);
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
