// SPDX-License-Identifier: BSD-3-Clause
// The feed: every byte once and in order, held bytes stay, ends and stops are told.
#include "io/feed.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (40u << 20) /* more than two rings */

static uint8_t byte_at(uint64_t pos)
{
    return (uint8_t)((pos * 2654435761u) >> 13);
}

static int made_file(size_t size)
{
    char path[] = "/tmp/kh-feed-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    uint8_t *b = malloc(size + 1);
    assert_non_null(b);
    for (size_t i = 0; i < size; i++)
        b[i] = byte_at(i);
    assert_int_equal(pwrite(fd, b, size, 0), size);
    free(b);
    return fd;
}

static void check(const uint8_t *p, uint64_t pos, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte_at(pos + i)) fail_msg("byte %zu is wrong", (size_t)(pos + i));
}

static void count(void *ctx, uint64_t bytes)
{
    *(uint64_t *)ctx = bytes;
}

/* Steps of all sizes; what is held is looked at again after later fills. */
static void walk(size_t hold_every)
{
    struct feed f;
    struct err err;
    uint64_t told = 0;
    int fd = made_file(SIZE);
    struct feed_config cfg = {.fd = fd, .on_read = count, .ctx = &told};
    assert_int_equal(feed_init(&f, &cfg, &err), 0);
    const uint8_t *held = NULL;
    uint64_t held_pos = 0;
    srand(3);
    for (size_t step = 0; reader_pos(&f.r) < SIZE; step++) {
        uint64_t pos = reader_pos(&f.r);
        size_t n = 1 + (size_t)rand() % (step % 100 == 0 ? 3000000 : 900);
        if (n > SIZE - pos) n = SIZE - pos;
        if (reader_need(&f.r, n, &err) < 0) fail_msg("%s", err.msg);
        if (held) check(held, held_pos, 300);
        check(f.r.p, pos, n < 5000 ? n : 5000);
        f.r.p += n;
        held = NULL;
        if (hold_every && step % hold_every == 0 && SIZE - pos > 2000000) {
            f.r.keep = f.r.p - (n < 300 ? n : 300);
            f.r.p = f.r.keep;
            if (reader_need(&f.r, 300, &err) < 0) fail_msg("%s", err.msg);
            held = f.r.keep;
            held_pos = reader_pos(&f.r);
            f.r.p += 300;
        } else {
            reader_release(&f.r);
        }
    }
    assert_int_equal(told, SIZE);
    assert_int_equal(reader_need(&f.r, 1, &err), -1);
    assert_int_equal(err.code, ERR_END);
    feed_release(&f);
    close(fd);
}

static void every_byte_in_order(void **state)
{
    (void)state;
    walk(0);
}

static void held_bytes_stay(void **state)
{
    (void)state;
    walk(3);
    walk(1);
}

/* Asking for more than there is tells the end, and what there is can still be read. */
static void the_end_takes_nothing_away(void **state)
{
    (void)state;
    for (size_t skip = 0; skip <= 900000; skip += 450000) {
        struct feed f;
        struct err err;
        int fd = made_file(1000000);
        struct feed_config cfg = {.fd = fd};
        assert_int_equal(feed_init(&f, &cfg, &err), 0);
        assert_int_equal(reader_skip(&f.r, skip, true, &err), 0);
        assert_int_equal(reader_need(&f.r, 1000001 - skip, &err), -1);
        assert_int_equal(err.code, ERR_END);
        assert_int_equal(reader_pos(&f.r), skip);
        if (reader_need(&f.r, 1000000 - skip, &err) < 0) fail_msg("%s", err.msg);
        check(f.r.p, skip, 1000000 - skip);
        feed_release(&f);
        close(fd);
    }
}

struct writer {
    int fd;
    atomic_bool *stop;
};

static void *write_later(void *arg)
{
    struct writer *w = arg;
    usleep(20000);
    if (w->stop)
        *w->stop = true;
    else
        (void)!write(w->fd, "hello", 5);
    return NULL;
}

/* A pipe with nothing in it: waited for, or a stop is seen. */
static void with_pipe(bool stop_it)
{
    int fd[2];
    atomic_bool stop = false;
    struct feed f;
    struct err err;
    pthread_t t;
    assert_int_equal(pipe(fd), 0);
    struct writer w = {fd[1], stop_it ? &stop : NULL};
    struct feed_config cfg = {.fd = fd[0], .stop = &stop};
    assert_int_equal(feed_init(&f, &cfg, &err), 0);
    pthread_create(&t, NULL, write_later, &w);
    int rc = reader_need(&f.r, 5, &err);
    pthread_join(t, NULL);
    assert_int_equal(rc, stop_it ? -1 : 0);
    if (stop_it)
        assert_int_equal(err.code, ERR_STOPPED);
    else
        assert_memory_equal(f.r.p, "hello", 5);
    feed_release(&f);
    close(fd[0]);
    close(fd[1]);
}

static void a_pipe_is_waited_for(void **state)
{
    (void)state;
    with_pipe(false);
}

static void a_stop_is_seen_while_waiting(void **state)
{
    (void)state;
    with_pipe(true);
}

static void more_than_the_ring_is_a_limit(void **state)
{
    (void)state;
    struct feed f;
    struct err err;
    int fd = made_file(SIZE);
    struct feed_config cfg = {.fd = fd};
    assert_int_equal(feed_init(&f, &cfg, &err), 0);
    assert_int_equal(reader_need(&f.r, FEED_RING_BYTES + 1, &err), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    assert_int_equal(reader_need(&f.r, FEED_RING_BYTES, &err), 0);
    check(f.r.p, 0, FEED_RING_BYTES);
    feed_release(&f);
    close(fd);
}

static void what_cannot_be_read_is_told(void **state)
{
    (void)state;
    struct feed f;
    struct err err;
    int fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    struct feed_config cfg = {.fd = fd};
    assert_int_equal(feed_init(&f, &cfg, &err), 0);
    assert_int_equal(reader_need(&f.r, 1, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    feed_release(&f);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_in_order),
        cmocka_unit_test(held_bytes_stay),
        cmocka_unit_test(the_end_takes_nothing_away),
        cmocka_unit_test(a_pipe_is_waited_for),
        cmocka_unit_test(a_stop_is_seen_while_waiting),
        cmocka_unit_test(more_than_the_ring_is_a_limit),
        cmocka_unit_test(what_cannot_be_read_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
