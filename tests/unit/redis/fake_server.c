// SPDX-License-Identifier: BSD-3-Clause
// The scripted server: accepts one connection, reads commands, answers as told.
#include "fake_server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CMD_BYTES 4096

static void note_failure(struct fake_server *s, const char *what, const char *want, const char *got)
{
    if (!s->failure[0])
        snprintf(s->failure, sizeof(s->failure), "%s: wanted \"%.80s\", got \"%.80s\"", what, want,
                 got);
}

static int read_byte(struct fake_server *s)
{
    unsigned char c;
    ssize_t n = read(s->fd, &c, 1);
    return n == 1 ? c : -1;
}

static long read_number(struct fake_server *s, char type)
{
    char text[24];
    size_t n = 0;
    int c = read_byte(s);
    if (c != type) return -1;
    while ((c = read_byte(s)) >= 0 && c != '\n')
        if (n < sizeof(text) - 1) text[n++] = (char)c;
    text[n] = 0;
    return c < 0 ? -1 : strtol(text, NULL, 10);
}

/* One command, its words joined by spaces; false at the end of the connection. */
static bool read_command(struct fake_server *s, char out[CMD_BYTES])
{
    size_t o = 0;
    long argc = read_number(s, '*');
    if (argc <= 0) return false;
    for (long i = 0; i < argc; i++) {
        long n = read_number(s, '$');
        if (n < 0) return false;
        if (i > 0 && o < CMD_BYTES - 1) out[o++] = ' ';
        for (long j = 0; j < n + 2; j++) {
            int c = read_byte(s);
            if (c < 0) return false;
            if (j < n && o < CMD_BYTES - 1) out[o++] = (char)c;
        }
    }
    out[o] = 0;
    pthread_mutex_lock(&s->lock);
    size_t used = strlen(s->log);
    snprintf(s->log + used, sizeof(s->log) - used, "%s\n", out);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static bool say(struct fake_server *s, const struct fake_step *step)
{
    if (step->delay_ms) usleep((useconds_t)step->delay_ms * 1000);
    size_t n = step->n ? step->n : step->reply ? strlen(step->reply) : 0;
    size_t piece = step->starve ? 1 : n;
    for (size_t at = 0; at < n;) {
        ssize_t w = send(s->fd, step->reply + at, n - at < piece ? n - at : piece, MSG_NOSIGNAL);
        if (w <= 0) return false;
        at += (size_t)w;
        if (step->starve) usleep(200);
    }
    if (step->hang_up) shutdown(s->fd, SHUT_RDWR);
    return !step->hang_up;
}

static bool starts_with(const char *cmd, const char *expect)
{
    return strncmp(cmd, expect, strlen(expect)) == 0;
}

static void run_strict(struct fake_server *s)
{
    char cmd[CMD_BYTES];
    for (size_t i = 0; i < s->n_steps; i++) {
        const struct fake_step *step = &s->step[i];
        if (step->expect) {
            if (!read_command(s, cmd)) {
                note_failure(s, "connection ended", step->expect, "");
                return;
            }
            if (!starts_with(cmd, step->expect)) note_failure(s, "command", step->expect, cmd);
        }
        if (!say(s, step)) return;
    }
    if (read_command(s, cmd)) note_failure(s, "after the script", "", cmd);
}

static void run_loose(struct fake_server *s)
{
    static const struct fake_step ok = {.reply = "+OK\r\n"};
    char cmd[CMD_BYTES];
    while (read_command(s, cmd)) {
        const struct fake_step *step = &ok;
        for (size_t i = 0; i < s->n_steps && step == &ok; i++)
            if (starts_with(cmd, s->step[i].expect)) step = &s->step[i];
        if (!say(s, step)) return;
    }
}

static void *run(void *ctx)
{
    struct fake_server *s = ctx;
    int fd = accept(s->listener, NULL, NULL);
    if (fd < 0) return NULL;
    pthread_mutex_lock(&s->lock);
    s->fd = fd;
    pthread_mutex_unlock(&s->lock);
    if (s->any_order)
        run_loose(s);
    else
        run_strict(s);
    return NULL;
}

void fake_start(struct fake_server *s, const struct fake_step *step, size_t n_steps, bool any_order)
{
    *s = (struct fake_server){.step = step, .n_steps = n_steps, .any_order = any_order, .fd = -1};
    pthread_mutex_init(&s->lock, NULL);
    snprintf(s->dir, sizeof(s->dir), "/tmp/kh-fake-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%s/s", s->dir);
    s->uri = (struct uri){.unix_path = s->path, .db = -1};
    snprintf(s->uri.shown, sizeof(s->uri.shown), "fake");
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", s->path);
    s->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(s->listener >= 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(s->listener, 4), 0);
    assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
}

void fake_stop(struct fake_server *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_mutex_lock(&s->lock);
    if (s->fd >= 0) shutdown(s->fd, SHUT_RDWR);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
    if (s->fd >= 0) close(s->fd);
    close(s->listener);
    unlink(s->path);
    rmdir(s->dir);
    if (s->failure[0]) fail_msg("script not followed: %s", s->failure);
}

struct client_config fake_config(const struct fake_server *s, const char *side)
{
    return (struct client_config){
        .uri = &s->uri, .connect_timeout_ms = 2000, .io_timeout_ms = 2000, .side = side};
}
