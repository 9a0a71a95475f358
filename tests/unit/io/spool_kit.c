// SPDX-License-Identifier: BSD-3-Clause
// A simple model of a spool: the byte and the time that belong to a position are known.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "io/spool_kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM_BYTES 3000 /* so large may a file be when there is no room */

/* ---- files ---- */

void kit_make(struct kit *k)
{
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; /* syncs fast */
    snprintf(k->root, sizeof(k->root), "%s/kh-spool-XXXXXX", base);
    assert_non_null(mkdtemp(k->root));
    snprintf(k->dir, sizeof(k->dir), "%s/d", k->root);
}

void kit_drop(struct kit *k)
{
    rmdir(k->dir);
    assert_int_equal(rmdir(k->root), 0);
}

unsigned kit_files(const char *dir, char *ret_path, size_t size)
{
    DIR *d = opendir(dir);
    unsigned n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        n++;
        if (ret_path) snprintf(ret_path, size, "%s/%.60s", dir, e->d_name);
    }
    if (d) closedir(d);
    return n;
}

void kit_empty(const char *dir)
{
    char path[300];
    while (kit_files(dir, path, sizeof(path)))
        assert_int_equal(remove(path), 0);
}

static void copy_file(const char *from, const char *to)
{
    char buf[65536];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, buf, sizeof(buf))) > 0;)
        assert_int_equal(write(out, buf, (size_t)n), n);
    close(in);
    close(out);
}

void kit_copy(const char *from, const char *to)
{
    mkdir(to, 0700);
    kit_empty(to);
    DIR *d = opendir(from);
    for (struct dirent *e; d && (e = readdir(d));) {
        char a[400], b[400];
        if (e->d_name[0] == '.') continue;
        snprintf(a, sizeof(a), "%s/%s", from, e->d_name);
        snprintf(b, sizeof(b), "%s/%s", to, e->d_name);
        copy_file(a, b);
    }
    if (d) closedir(d);
}

void kit_flip(const char *path, long at)
{
    int fd = open(path, O_RDWR);
    uint8_t b = 0;
    assert_true(fd >= 0 && pread(fd, &b, 1, at) == 1);
    b ^= 0x10;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    close(fd);
}

unsigned kit_lines(const char *path, const char *with)
{
    char buf[4096];
    FILE *f = fopen(path, "r");
    unsigned n = 0;
    while (f && fgets(buf, sizeof(buf), f))
        n += strstr(buf, with) != NULL;
    if (f) fclose(f);
    return n;
}

static void log_path(const struct kit *k, char *ret, size_t size)
{
    snprintf(ret, size, "%s/log", k->root);
}

const char *kit_log(struct kit *k)
{
    static char path[80];
    struct err err;
    log_path(k, path, sizeof(path));
    struct log_config cfg = {.level = LOG_INFO, .file = path};
    assert_int_equal(log_open(&cfg, &err), 0);
    return path;
}

void kit_unlog(struct kit *k)
{
    char path[80];
    log_close();
    log_path(k, path, sizeof(path));
    assert_int_equal(unlink(path), 0);
}

/* Played by the limit on file sizes (EFBIG). */
void kit_no_room(bool on)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = on ? ROOM_BYTES : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* ---- the model ---- */

uint8_t model_byte(uint64_t pos)
{
    return (uint8_t)((pos * 0x9e3779b97f4a7c15ULL) >> 56);
}

uint64_t model_next(struct model *m)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return m->rng >> 11;
}

void model_init(struct model *m, uint64_t seed, size_t max)
{
    *m = (struct model){.rng = seed * 2654435761u + 88172645463325252ULL, .max = max, .now = 1000};
    m->when = calloc(max, sizeof(*m->when));
    assert_non_null(m->when);
}

void model_release(struct model *m)
{
    free(m->when);
}

size_t model_produce(struct model *m, struct spool *s, size_t n)
{
    uint8_t *p;
    struct err err = {.msg = ""};
    size_t room = spool_space(s, &p);
    if (n > room) n = room;
    if (n > m->max - m->tail) n = m->max - m->tail;
    for (size_t i = 0; i < n; i++) {
        p[i] = model_byte(m->tail + i);
        m->when[m->tail + i] = (int32_t)m->now;
    }
    /* A whole clobbered room shows whether anything but what was committed is looked at. */
    if (room > n && room - n < 4096) memset(p + n, 0xee, room - n);
    if (spool_commit(s, n, m->now, &err) < 0) fail_msg("%s", err.msg);
    m->tail += n;
    assert_int_equal(spool_tail(s), m->tail);
    return n;
}

size_t model_consume(struct model *m, struct spool *s, size_t n)
{
    const uint8_t *p;
    size_t have = spool_peek(s, &p);
    assert_int_equal(spool_head(s), m->head);
    assert_int_equal(spool_ram_bytes(s), have);
    assert_int_equal(m->head + have + spool_disk_bytes(s), m->tail);
    if (n > have) n = have;
    for (size_t i = 0; i < n; i++)
        if (p[i] != model_byte(m->head + i))
            fail_msg("byte %llu", (unsigned long long)(m->head + i));
    for (size_t i = 0; i < n; i++)
        if (spool_time_at(s, m->head + i) != m->when[m->head + i])
            fail_msg("time of %llu", (unsigned long long)(m->head + i));
    if (have > n) { /* looking ahead and coming back is allowed too */
        uint64_t far = m->head + n + model_next(m) % (have - n);
        assert_int_equal(spool_time_at(s, far), m->when[far]);
        if (n) assert_int_equal(spool_time_at(s, m->head), m->when[m->head]);
    }
    spool_consume(s, n);
    m->head += n;
    return n;
}

void model_read_all(struct model *m, struct spool *s)
{
    struct err err = {.msg = ""};
    while (m->head < m->tail) {
        if (spool_refill(s, &err) < 0) fail_msg("%s", err.msg);
        if (model_consume(m, s, SIZE_MAX) == 0 && spool_refill(s, &err) == 0)
            fail_msg("nothing comes after %llu", (unsigned long long)m->head);
    }
}
