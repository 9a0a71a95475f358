// SPDX-License-Identifier: BSD-3-Clause
// Connections without a network: a source of bytes, and a target that answers.
#include "sham_conn.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REPLIES_MAX (8u << 20)
#define NAME_MAX    16

struct conn {
    int fd;
    struct span bytes; /* of a source, not read yet */
    bool target;
    const char *value;
    uint8_t *replies; /* those from `read_to` to `replies_n` are not read yet */
    size_t read_to, replies_n;
    /* The command that is being taken: RESP as we send it. */
    uint64_t args, skip; /* still to come: arguments, bytes of the one at hand and its line end */
    uint64_t number;     /* of the head at hand */
    bool in_head, first;
    char type, name[NAME_MAX];
    size_t name_n;
    bool multi;
    uint64_t queued;
};

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "cost: %s\n", what);
    exit(2);
}

static struct conn *new_conn(void)
{
    struct conn *c = calloc(1, sizeof(*c));
    must(c != NULL, "out of memory");
    c->fd = open("/dev/null", O_RDWR);
    must(c->fd >= 0, "/dev/null");
    c->replies = malloc(REPLIES_MAX);
    must(c->replies != NULL, "out of memory");
    return c;
}

struct conn *sham_source(struct span bytes)
{
    struct conn *c = new_conn();
    c->bytes = bytes;
    return c;
}

struct conn *sham_target(const char *value)
{
    struct conn *c = new_conn();
    c->target = true;
    c->value = value;
    return c;
}

/* --- what the target answers --- */

static void answer(struct conn *c, const char *text)
{
    size_t n = strlen(text);
    must(n <= REPLIES_MAX - c->replies_n, "too many replies");
    memcpy(c->replies + c->replies_n, text, n);
    c->replies_n += n;
}

static void answer_exec(struct conn *c)
{
    char head[32];
    snprintf(head, sizeof(head), "*%llu\r\n", (unsigned long long)c->queued);
    answer(c, head);
    for (; c->queued; c->queued--)
        answer(c, "+OK\r\n");
    c->multi = false;
}

static bool named(const struct conn *c, const char *name)
{
    return c->name_n == strlen(name) && memcmp(c->name, name, c->name_n) == 0;
}

static void command_ends(struct conn *c)
{
    if (named(c, "EXEC")) {
        answer_exec(c);
    } else if (c->multi) {
        c->queued++;
        answer(c, "+QUEUED\r\n");
    } else if (named(c, "GET")) {
        char head[32];
        snprintf(head, sizeof(head), "$%zu\r\n", strlen(c->value));
        answer(c, head);
        answer(c, c->value);
        answer(c, "\r\n");
    } else {
        c->multi = named(c, "MULTI");
        answer(c, "+OK\r\n");
    }
}

/* --- taking commands apart --- */

static void head_ends(struct conn *c)
{
    c->in_head = false;
    if (c->type == '*') {
        must(c->args == 0 && c->number > 0, "a command within a command");
        c->args = c->number;
        c->first = true;
        return;
    }
    must(c->type == '$' && c->args > 0, "an argument of no command");
    c->skip = c->number + 2;
    c->name_n = c->first ? 0 : c->name_n;
}

static void take_head(struct conn *c, uint8_t byte)
{
    if (!c->in_head) {
        c->in_head = true;
        c->type = (char)byte;
        c->number = 0;
    } else if (byte == '\n') {
        head_ends(c);
    } else if (byte != '\r') {
        must(byte >= '0' && byte <= '9', "a head that is no number");
        c->number = c->number * 10 + (byte - '0');
    }
}

static size_t take_body(struct conn *c, const uint8_t *p, size_t n)
{
    size_t step = n < c->skip ? n : (size_t)c->skip;
    for (size_t i = 0; c->first && i < step && c->skip - i > 2; i++)
        if (c->name_n < NAME_MAX) c->name[c->name_n++] = (char)p[i];
    c->skip -= step;
    if (c->skip == 0) {
        c->first = false;
        if (--c->args == 0) command_ends(c);
    }
    return step;
}

static void take(struct conn *c, const uint8_t *p, size_t n)
{
    if (!c->target) return; /* acknowledgements */
    while (n) {
        size_t step = 1;
        if (c->skip)
            step = take_body(c, p, n);
        else
            take_head(c, *p);
        p += step;
        n -= step;
    }
}

/* --- io/conn.h --- */

int conn_open(struct conn **ret, const struct conn_addr *addr, const atomic_bool *stop,
              struct err *err)
{
    (void)ret, (void)addr, (void)stop;
    return err_set(err, ERR_NET, "no network here");
}

void conn_close(struct conn *c)
{
    if (!c) return;
    close(c->fd);
    free(c->replies);
    free(c);
}

int conn_fd(const struct conn *c)
{
    return c->fd;
}

short conn_want(const struct conn *c, bool want_read, bool want_write)
{
    (void)c;
    return (short)((want_read ? POLLIN : 0) | (want_write ? POLLOUT : 0));
}

bool conn_pending(const struct conn *c)
{
    (void)c;
    return false;
}

static size_t give(void *to, size_t room, const uint8_t *from, size_t n)
{
    if (n > room) n = room;
    if (n) memcpy(to, from, n);
    return n;
}

ssize_t conn_read(struct conn *c, void *p, size_t n, struct err *err)
{
    if (!c->target && c->bytes.n == 0)
        return err_set(err, ERR_NET, "connection closed by the server");
    if (!c->target) {
        n = give(p, n, c->bytes.p, c->bytes.n);
        c->bytes = span_of(c->bytes.p + n, c->bytes.n - n);
        return (ssize_t)n;
    }
    n = give(p, n, c->replies + c->read_to, c->replies_n - c->read_to);
    c->read_to += n;
    if (c->read_to == c->replies_n) c->replies_n = c->read_to = 0;
    return (ssize_t)n;
}

ssize_t conn_write(struct conn *c, const void *p, size_t n, struct err *err)
{
    (void)err;
    take(c, p, n);
    return (ssize_t)n;
}

ssize_t conn_writev(struct conn *c, const struct iovec *iov, int n, struct err *err)
{
    (void)err;
    ssize_t all = 0;
    for (int i = 0; i < n; i++) {
        take(c, iov[i].iov_base, iov[i].iov_len);
        all += (ssize_t)iov[i].iov_len;
    }
    return all;
}

int conn_wait(struct conn *c, bool want_read, bool want_write, int timeout_ms, struct err *err)
{
    (void)c, (void)want_read, (void)want_write, (void)timeout_ms, (void)err;
    return 1;
}
