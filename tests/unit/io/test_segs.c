// SPDX-License-Identifier: BSD-3-Clause
// Segment files by themselves: a queue, a log, joined, found again.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/segs.h"
#include "io/spool_kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct kit kit;

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

static void init(struct segs *q, const char *name, uint64_t quota, uint64_t segment)
{
    struct err err;
    assert_int_equal(segs_init(q, kit.dir, name, quota, segment, &err), 0);
}

/* n letters in two pieces; half of them count as payload. */
static int append(struct segs *q, uint64_t pos, char letter, size_t n)
{
    uint8_t bytes[1000];
    struct err err = {.msg = ""};
    memset(bytes, letter, n);
    struct iovec iov[2] = {{bytes, n / 3}, {bytes + n / 3, n - n / 3}};
    int rc = segs_append(q, pos, &(struct segs_put){iov, 2, n / 2}, &err);
    if (rc < 0) fail_msg("%s", err.msg);
    return rc;
}

static void expect(struct segs *q, char letter, size_t n)
{
    uint8_t bytes[2000];
    struct err err = {.msg = ""};
    memset(bytes, 0, sizeof(bytes));
    if (segs_read(q, bytes, n ? n : sizeof(bytes), &err) != (ssize_t)n) fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(bytes[i], letter);
}

static void test_queue(void **state)
{
    (void)state;
    struct segs q;
    init(&q, NULL, 500, 200);
    expect(&q, 0, 0);
    assert_int_equal(segs_room(&q), 500 - 32);
    assert_int_equal(append(&q, 1000, 'a', 60), 1);
    assert_int_equal(append(&q, 1030, 'b', 60), 1);
    assert_int_equal(append(&q, 1060, 'c', 60), 1); /* would bring it to 212: a new file */
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
    assert_int_equal(q.file_bytes, 32 + 120 + 32 + 60);
    assert_int_equal(segs_first(&q), 1000);
    assert_int_equal(segs_first_end(&q), 1060);
    assert_int_equal(segs_end(&q), 1090);
    assert_int_equal(append(&q, 1090, 'd', 300), 0);
    assert_true(q.quota_hit);
    assert_int_equal(q.file_bytes, 244);
    expect(&q, 'a', 50);
    segs_unread(&q, 40);
    expect(&q, 'a', 50);
    expect(&q, 'b', 60);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
    expect(&q, 'c', 60); /* the first is read: gone */
    assert_int_equal(kit_files(kit.dir, NULL, 0), 1);
    expect(&q, 0, 0);
    assert_int_equal(append(&q, 1090, 'd', 60), 1);
    assert_int_equal(append(&q, 1120, 'e', 300), 1); /* longer than a file should be */
    expect(&q, 'd', 60);
    expect(&q, 'e', 300);
    segs_clear(&q);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 0);
    assert_int_equal(q.file_bytes, 0);
    assert_int_equal(append(&q, 5, 'f', 60), 1); /* at another position */
    expect(&q, 'f', 60);
    segs_release(&q);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 0);
}

static void test_log(void **state)
{
    (void)state;
    struct segs q, front;
    struct err err;
    char path[200];
    init(&q, "x", 10000, 200);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(append(&q, 100 + 40 * i, (char)('a' + i), 80), 1);
    expect(&q, 'a', 80);
    snprintf(path, sizeof(path), "%s/x-0.tmp", kit.dir);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(segs_keep(&q, &err), 0);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof(path), "%s/x-%016x.seg", kit.dir, 100);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 4);
    init(&front, "x", 10000, 200);
    front.log = true;
    assert_int_equal(append(&front, 20, 'y', 80), 1);
    assert_int_equal(append(&front, 60, 'z', 80), 1);
    uint64_t bytes = q.file_bytes + front.file_bytes;
    assert_int_equal(segs_join(&front, &q, &err), 0);
    segs_release(&front);
    assert_int_equal(q.file_bytes, bytes);
    assert_int_equal(segs_first(&q), 20);
    expect(&q, 'b', 80); /* where it was */
    expect(&q, 'c', 80);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 5);
    assert_int_equal(segs_read_from(&q, 55), 20);
    expect(&q, 'y', 80);
    expect(&q, 'z', 80);
    expect(&q, 'a', 80);
    assert_int_equal(segs_read_from(&q, 100), 100);
    assert_int_equal(segs_read_from(&q, 99), 20);
    segs_read_from_end(&q);
    expect(&q, 0, 0);
    assert_int_equal(append(&q, 380, 'h', 80), 1);
    expect(&q, 'h', 80);
    segs_read_from(&q, 20);
    segs_drop_head(&q); /* the one that is read */
    expect(&q, 'a', 80);
    segs_drop_head(&q);
    assert_int_equal(segs_first(&q), 180);
    assert_int_equal(segs_sync(&q, &err), 0);
    segs_release(&q);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 3);
    assert_int_equal(segs_remove_left(kit.dir, "y", &err), 0);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 3);
    assert_int_equal(segs_remove_left(kit.dir, "x", &err), 0);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 0);
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_size : -1;
}

/* A log of files that hold two pieces each, of the letters from `letter` on. */
static void two_files(struct segs *q, uint64_t quota)
{
    init(q, "x", quota, 200);
    q->log = true;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(append(q, 100 + 40 * i, (char)('a' + i), 80), 1);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
}

/* What is done with is written over: nobody reads what it was. */
static void test_spare(void **state)
{
    (void)state;
    struct segs q;
    struct err err;
    char first[200], path[200];
    struct stat before, after;
    two_files(&q, 10000);
    snprintf(first, sizeof(first), "%s/x-%016x.seg", kit.dir, 100);
    assert_int_equal(stat(first, &before), 0);
    segs_retire_head(&q);
    assert_non_null(q.spare);
    assert_int_equal(access(first, F_OK), -1);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
    assert_int_equal(q.file_bytes, 2 * 192);
    assert_int_equal(append(&q, 260, 'x', 20), 1);
    assert_null(q.spare);
    assert_true(q.unsettled);
    snprintf(path, sizeof(path), "%s/x-%016x.seg", kit.dir, 260);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && after.st_size == 192);
    assert_int_equal(q.file_bytes, 2 * 192);
    expect(&q, 'c', 80);
    expect(&q, 'd', 80);
    expect(&q, 'x', 20);
    expect(&q, 0, 0); /* not the rest of what it was */
    assert_int_equal(append(&q, 270, 'y', 30), 1);
    expect(&q, 'y', 30);
    assert_int_equal(q.file_bytes, 2 * 192);
    assert_int_equal(append(&q, 285, 'z', 110), 1); /* up to its end, and not beyond */
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
    assert_int_equal(append(&q, 340, 'w', 50), 1);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 3);
    assert_true(q.unsettled);
    assert_int_equal(segs_settle(&q, &err), 0);
    assert_false(q.unsettled);
    assert_int_equal(q.file_bytes, 3 * 192 - 110);
    segs_retire_head(&q);
    segs_retire_head(&q); /* one is enough */
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
    assert_int_equal(append(&q, 365, 'v', 150), 1);
    assert_int_equal(q.tail->size, 192);
    assert_int_equal(append(&q, 440, 'u', 150), 1);
    segs_retire_head(&q);
    assert_int_equal(q.head->pos, 365);
    /* Too old: its pages are not in memory any more. */
    segs_drop_spare(&q);
    segs_retire_head(&q);
    assert_int_equal(q.spare->size, 192);
    q.spare->made_ms -= 3600000;
    uint64_t end = segs_end(&q);
    assert_int_equal(append(&q, end, 't', 150), 1);
    assert_null(q.spare);
    assert_int_equal(size_of(q.tail->path), 182);
    segs_clear(&q);
    segs_release(&q);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 0);
}

/* It counts, and goes before anything else has to. */
static void test_spare_quota(void **state)
{
    (void)state;
    struct segs q;
    struct err err;
    char path[200];
    two_files(&q, 3 * 192);
    segs_retire_head(&q);
    assert_int_equal(segs_room(&q), 192 - 32);
    assert_int_equal(append(&q, 260, 'x', 20), 1);
    assert_int_equal(segs_room(&q), 192 - 32); /* of another file, or over what is there: 140 */
    assert_int_equal(append(&q, 270, 'y', 140), 1);
    assert_int_equal(append(&q, 340, 'z', 160), 1);
    assert_int_equal(q.file_bytes, 3 * 192);
    assert_int_equal(segs_room(&q), 0);
    assert_int_equal(append(&q, 420, 'v', 20), 0);
    assert_true(q.quota_hit);
    segs_retire_head(&q);
    assert_int_equal(segs_room(&q), 0); /* for a file of its own */
    assert_int_equal(append(&q, 420, 'v', 20), 1);
    assert_int_equal(segs_room(&q), 140);
    assert_int_equal(append(&q, 430, 'u', 140), 1);
    segs_retire_head(&q);
    assert_true(segs_drop_spare(&q));
    assert_false(segs_drop_spare(&q));
    assert_int_equal(q.file_bytes, 2 * 192);
    segs_retire_head(&q);
    assert_int_equal(append(&q, 500, 'w', 40), 1);
    snprintf(path, sizeof(path), "%s/x-%016x.seg", kit.dir, 500);
    assert_int_equal(size_of(path), 192);
    assert_int_equal(segs_sync(&q, &err), 0);
    segs_retire_head(&q);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
    segs_release(&q); /* a log that has ended in order holds nothing else */
    assert_int_equal(kit_files(kit.dir, NULL, 0), 1);
    assert_int_equal(size_of(path), 32 + 40);
    assert_int_equal(segs_remove_left(kit.dir, "x", &err), 0);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 0);
}

/* All of a file is whole, but for what comes behind a '!'. */
static int check(void *ctx, const struct segs *q, int fd, uint64_t pos, uint64_t *ret_bytes,
                 uint64_t *ret_payload)
{
    (void)q;
    uint8_t bytes[2000];
    uint64_t *asked = ctx;
    *asked += pos;
    ssize_t n = pread(fd, bytes, sizeof(bytes), SEG_HEADER_BYTES);
    if (n < 0) return -1;
    const uint8_t *end = memchr(bytes, '!', (size_t)n);
    if (end) n = end - bytes;
    *ret_bytes = n ? SEG_HEADER_BYTES + (uint64_t)n : 0;
    *ret_payload = (uint64_t)n / 2;
    return 0;
}

static void leave(unsigned files)
{
    struct segs q;
    init(&q, "x", 10000, 200);
    q.log = true;
    for (unsigned i = 0; i < files; i++)
        assert_int_equal(append(&q, 1000 + 50 * i, (char)('a' + i), 100), 1);
    segs_release(&q);
    assert_int_equal(kit_files(kit.dir, NULL, 0), files);
}

static void test_recover(void **state)
{
    (void)state;
    struct segs q;
    struct err err;
    char path[200];
    leave(4);
    uint64_t asked = 0;
    init(&q, "x", 10000, 500);
    assert_int_equal(segs_recover(&q, check, &asked, &err), 0);
    assert_int_equal(asked, 1000 + 1050 + 1100 + 1150);
    assert_int_equal(q.file_bytes, 4 * 132);
    assert_int_equal(segs_first(&q), 1000);
    assert_int_equal(segs_end(&q), 1200);
    assert_int_equal(append(&q, 1200, 'z', 100), 1);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 4); /* in the last one */
    for (unsigned i = 0; i < 4; i++)
        expect(&q, (char)('a' + i), 100);
    expect(&q, 'z', 100);
    segs_release(&q);

    /* Cut in the last. */
    snprintf(path, sizeof(path), "%s/x-%016x.seg", kit.dir, 1150);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "!", 1, 32 + 140), 1);
    close(fd);
    init(&q, "x", 10000, 500);
    assert_int_equal(segs_recover(&q, check, &asked, &err), 0);
    assert_int_equal(segs_end(&q), 1220);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 32 + 140);
    assert_int_equal(append(&q, 1220, 'y', 100), 1);
    segs_release(&q);

    /* In the second: the third and fourth go. */
    snprintf(path, sizeof(path), "%s/x-%016x.seg", kit.dir, 1050);
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "!", 1, 32 + 20), 1);
    close(fd);
    kit_log(&kit);
    init(&q, "x", 10000, 500);
    assert_int_equal(segs_recover(&q, check, &asked, &err), 0);
    kit_unlog(&kit);
    assert_int_equal(segs_end(&q), 1060);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 2);
    segs_clear(&q);
    segs_release(&q);

    /* Of two runs that knew nothing of each other. */
    leave(2);
    char other[200];
    init(&q, "y", 10000, 200);
    q.log = true;
    assert_int_equal(append(&q, 1050, 'q', 100), 1);
    segs_release(&q);
    snprintf(path, sizeof(path), "%s/x-%016x.seg", kit.dir, 1050);
    snprintf(other, sizeof(other), "%s/y-%016x.seg", kit.dir, 1050);
    assert_int_equal(rename(other, path), 0);
    init(&q, "x", 10000, 500);
    assert_int_equal(segs_recover(&q, check, &asked, &err), 0);
    assert_int_equal(segs_end(&q), 1050);
    assert_int_equal(kit_files(kit.dir, NULL, 0), 1);
    segs_clear(&q);
    segs_release(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue),   cmocka_unit_test(test_log),
        cmocka_unit_test(test_spare),   cmocka_unit_test(test_spare_quota),
        cmocka_unit_test(test_recover),
    };
    return cmocka_run_group_tests_name("segs", tests, make_root, drop_root);
}
