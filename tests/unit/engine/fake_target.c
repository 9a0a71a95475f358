// SPDX-License-Identifier: BSD-3-Clause
// The fake target: parses, answers, writes down.
#include "fake_target.h"

#include "base/crc64.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOG_BYTES  (128u << 20)
#define WORD_BYTES 64

static void must(int rc)
{
    if (rc < 0) abort(); /* a thread cannot fail a test in a better way */
}

static void add(struct buf *b, const char *text)
{
    must(buf_add(b, text, strlen(text), NULL));
}

void fake_word(struct buf *b, struct span arg)
{
    if (arg.n > WORD_BYTES) {
        must(buf_printf(b, NULL, "<%zu:%016" PRIx64 ">", arg.n, crc64_portable(0, arg.p, arg.n)));
        return;
    }
    for (size_t i = 0; i < arg.n; i++) {
        uint8_t c = arg.p[i];
        must(c > ' ' && c < 0x7f ? buf_add(b, &c, 1, NULL) : buf_printf(b, NULL, "\\x%02x", c));
    }
}

const char *fake_text(struct buf *log)
{
    must(buf_add(log, "", 1, NULL));
    log->n--;
    return (const char *)log->p;
}

/* --- what came --- */

/* "*3\r\n" at *at: the number; -1 when it is not all there. Anything else ends the test. */
static long head(const struct buf *in, size_t *at, char type)
{
    const uint8_t *p = in->p + *at, *end = in->p + in->n;
    const uint8_t *nl = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
    if (!nl) return -1;
    if (*p != (uint8_t)type || nl[-1] != '\r') {
        fprintf(stderr, "fake target: expected '%c' and a number, got \"%.*s\"\n", type,
                (int)(nl - p), (const char *)p);
        abort();
    }
    *at += (size_t)(nl - p) + 1;
    return strtol((const char *)p + 1, NULL, 10);
}

/* The next command's line in t->cmd; false: not all there. */
static bool next_command(struct fake_target *t, size_t *at)
{
    size_t pos = *at;
    long argc = head(&t->in, &pos, '*');
    if (argc < 0) return false;
    buf_clear(&t->cmd);
    for (long i = 0; i < argc; i++) {
        long n = head(&t->in, &pos, '$');
        if (n < 0 || t->in.n - pos < (size_t)n + 2) return false;
        if (i) add(&t->cmd, " ");
        fake_word(&t->cmd, span_of(t->in.p + pos, (size_t)n));
        pos += (size_t)n + 2;
        if (memcmp(t->in.p + pos - 2, "\r\n", 2) != 0) abort();
    }
    fake_text(&t->cmd);
    must(buf_add(&t->raw, t->in.p + *at, pos - *at, NULL));
    *at = pos;
    return true;
}

/* --- rules --- */

static bool begins(const char *line, const char *with)
{
    return strncmp(line, with, strlen(with)) == 0;
}

static const struct fake_rule *find_rule(struct fake_target *t, const char *line,
                                         enum fake_when when)
{
    for (size_t i = 0; i < t->n_rules && i < FAKE_RULES_MAX; i++) {
        const struct fake_rule *r = &t->rule[i];
        if (r->when != when || (r->match && !begins(line, r->match))) continue;
        unsigned n = t->met[i]++;
        if (n >= r->after && (r->times == 0 || n < r->after + r->times)) return r;
    }
    return NULL;
}

static void usual_reply(struct fake_target *t, const char *line)
{
    static const char *const ok[] = {"SET ", "RESTORE ", "FLUSHDB", "FLUSHALL", "SWAPDB", "MSET "};
    for (size_t i = 0; i < sizeof(ok) / sizeof(ok[0]); i++)
        if (begins(line, ok[i])) {
            add(&t->out, "+OK\r\n");
            return;
        }
    if (begins(line, "INFO") && t->info)
        must(buf_printf(&t->out, NULL, "$%zu\r\n%s\r\n", strlen(t->info), t->info));
    else if (begins(line, "EXISTS"))
        add(&t->out, ":0\r\n");
    else if (begins(line, "FUNCTION") || begins(line, "SCRIPT"))
        add(&t->out, "$3\r\nlib\r\n");
    else
        add(&t->out, ":1\r\n");
}

/* --- commands --- */

static void run(struct fake_target *t, const char *line)
{
    const struct fake_rule *r = find_rule(t, line, FAKE_RUN);
    if (r && r->reply) {
        add(&t->out, r->reply);
        if (*r->reply == '-') return;
    }
    if (begins(line, "SELECT ")) {
        t->db = strtol(line + 7, NULL, 10);
        if (!r || !r->reply) add(&t->out, "+OK\r\n");
        return;
    }
    must(buf_printf(&t->ran, NULL, "%" PRId64 ":%s\n", t->db, line));
    must(buf_printf(&t->groups, NULL, "%" PRId64 ":%s\n", t->db, line));
    if (!r || !r->reply) usual_reply(t, line);
}

static void exec(struct fake_target *t)
{
    t->in_multi = false;
    if (t->dirty) {
        add(&t->out, "-EXECABORT Transaction discarded because of previous errors.\r\n");
    } else {
        must(buf_printf(&t->out, NULL, "*%u\r\n", t->n_queue));
        add(&t->groups, "{\n");
        for (size_t at = 0; at < t->queue.n; at += strlen((char *)t->queue.p + at) + 1)
            run(t, (char *)t->queue.p + at);
        add(&t->groups, "}\n");
    }
    buf_clear(&t->queue);
    t->n_queue = 0;
}

static void enqueue(struct fake_target *t, const char *line)
{
    must(buf_add(&t->queue, line, strlen(line) + 1, NULL));
    t->n_queue++;
    add(&t->out, "+QUEUED\r\n");
}

static void by_itself(struct fake_target *t, const char *line)
{
    if (strcmp(line, "MULTI") == 0) {
        t->in_multi = true;
        t->dirty = false;
        add(&t->out, "+OK\r\n");
    } else if (strcmp(line, "EXEC") == 0) {
        if (t->in_multi)
            exec(t);
        else
            add(&t->out, "-ERR EXEC without MULTI\r\n");
    } else if (t->in_multi) {
        enqueue(t, line);
    } else {
        run(t, line);
    }
}

static bool flush(struct fake_target *t)
{
    bool go_on = fake_link_write(&t->link, t->out.p, t->out.n);
    buf_clear(&t->out);
    return go_on;
}

/* false: the connection is over. */
static bool answer(struct fake_target *t, const char *line)
{
    const struct fake_rule *r = find_rule(t, line, FAKE_SENT);
    must(buf_printf(&t->wire, NULL, "%s\n", line));
    if (r && r->delay_ms) {
        if (!flush(t)) return false;
        usleep((useconds_t)r->delay_ms * 1000);
    }
    if (r && r->hang_up) {
        if (flush(t)) fake_link_hang_up(&t->link);
        return false;
    }
    if (r && r->silent) return true;
    if (!r || !r->reply) {
        by_itself(t, line);
        return true;
    }
    add(&t->out, r->reply);
    if (*r->reply != '-') return true;
    if (strcmp(line, "EXEC") == 0) {
        t->in_multi = false;
        buf_clear(&t->queue);
        t->n_queue = 0;
    } else if (strcmp(line, "MULTI") != 0) {
        t->dirty = true;
    }
    return true;
}

static void serve(struct fake_target *t)
{
    static const size_t piece = 64 << 10;
    t->in_multi = t->dirty = false;
    buf_clear(&t->queue);
    t->n_queue = 0;
    t->db = 0;
    for (;;) {
        must(buf_reserve(&t->in, piece, NULL));
        ssize_t n = fake_link_read(&t->link, t->in.p + t->in.n, piece, -1);
        if (n <= 0) return;
        t->in.n += (size_t)n;
        size_t at = 0;
        while (next_command(t, &at))
            if (!answer(t, (char *)t->cmd.p)) return;
        memmove(t->in.p, t->in.p + at, t->in.n - at);
        t->in.n -= at;
        if (!flush(t)) return;
    }
}

static void *target_thread(void *arg)
{
    struct fake_target *t = arg;
    while (fake_link_accept(&t->link)) {
        serve(t);
        fake_link_hang_up(&t->link);
        buf_clear(&t->in);
    }
    return NULL;
}

void fake_target_start(struct fake_target *t, const struct fake_rule *rules, size_t n_rules)
{
    t->rule = rules;
    t->n_rules = n_rules;
    struct buf *bufs[] = {&t->in,   &t->out, &t->cmd,    &t->queue,
                          &t->wire, &t->ran, &t->groups, &t->raw};
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_init(bufs[i], LOG_BYTES);
    fake_link_start(&t->link, target_thread, t);
}

void fake_target_stop(struct fake_target *t)
{
    fake_link_stop(&t->link);
}

void fake_target_release(struct fake_target *t)
{
    struct buf *bufs[] = {&t->in,   &t->out, &t->cmd,    &t->queue,
                          &t->wire, &t->ran, &t->groups, &t->raw};
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_release(bufs[i]);
}
