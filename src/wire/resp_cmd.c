// SPDX-License-Identifier: BSD-3-Clause
// RESP commands: parsed in place as the stream carries them, and written.
#include "wire/resp.h"

#include "base/num.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define HEAD_DIGITS 15          /* enough for 2^40; keeps the sum far from overflow */
#define COUNT_MAX   INT32_MAX   /* Redis 7.0+ takes that many arguments */
#define INLINE_MAX  (64 * 1024) /* as servers limit such a line */

void resp_cmds_init(struct resp_cmds *c)
{
    *c = (struct resp_cmds){.max_args = RESP_ARGS_MAX};
}

void resp_cmds_release(struct resp_cmds *c)
{
    free(c->argv);
    *c = (struct resp_cmds){.max_args = c->max_args};
}

/* argv grows with the arguments that are really there, whatever the head announced. */
static int grow_argv(struct resp_cmds *c, struct err *err)
{
    size_t alloc = c->alloc ? c->alloc * 2 : 16;
    if (alloc > c->max_args) alloc = c->max_args;
    struct span *argv = realloc(c->argv, alloc * sizeof *argv);
    if (!argv) return err_set(err, ERR_NOMEM, "out of memory (%zu arguments)", alloc);
    c->argv = argv;
    c->alloc = alloc;
    return 0;
}

/* Length of the head at p, 0 when its end is not in hand yet, -1 when it is none. */
static inline int scan_head(const uint8_t *p, const uint8_t *end, char type, uint64_t *ret)
{
    if (KH_UNLIKELY(p == end)) return 0;
    if (KH_UNLIKELY(*p != (uint8_t)type)) return -1;
    const uint8_t *q = p + 1;
    uint64_t v = 0;
    for (;; q++) {
        if (KH_UNLIKELY(q == end)) return 0;
        unsigned digit = (unsigned)*q - '0';
        if (digit > 9) break;
        if (KH_UNLIKELY(q - p > HEAD_DIGITS)) return -1;
        v = v * 10 + digit;
    }
    if (KH_UNLIKELY(*q != '\r' || q == p + 1)) return -1;
    if (KH_UNLIKELY(end - q < 2)) return 0;
    if (KH_UNLIKELY(q[1] != '\n')) return -1;
    *ret = v;
    return (int)(q + 2 - p);
}

int resp_head_next(struct reader *r, char type, uint64_t max, uint64_t *ret, struct err *err)
{
    uint64_t v = 0;
    int n;
    while ((n = scan_head(r->p, r->end, type, &v)) == 0)
        if (reader_need(r, (size_t)(r->end - r->p) + 1, err) < 0) return -1;
    if (n < 0)
        return err_set(err, ERR_PROTO, "no command at byte %" PRIu64 ": '%c' and a number expected",
                       reader_pos(r), type);
    if (v > max)
        return err_set(err, ERR_PROTO, "no command at byte %" PRIu64 ": %" PRIu64 " after '%c'",
                       reader_pos(r), v, type);
    r->p += n;
    *ret = v;
    return 0;
}

/* Content of a bulk string and its line end, with len + 2 bytes in hand. */
static int take_bulk(struct reader *r, size_t len, struct span *ret, struct err *err)
{
    const uint8_t *tail = r->p + len;
    if (tail[0] != '\r' || tail[1] != '\n')
        return err_set(err, ERR_PROTO,
                       "no command at byte %" PRIu64 ": no line end after an argument",
                       reader_pos(r) + len);
    *ret = span_of(r->p, len);
    r->p = tail + 2;
    return 0;
}

/* `start` is the command's offset from r->keep: that distance stays, pointers may move. */
static int read_array(struct resp_cmds *c, struct reader *r, size_t start, size_t limit,
                      size_t *argc, struct err *err)
{
    uint64_t count = 0, len = 0;
    if (resp_head_next(r, '*', COUNT_MAX, &count, err) < 0) return -1;
    if (count == 0)
        return err_set(err, ERR_PROTO, "no command at byte %" PRIu64 ": no arguments",
                       reader_pos(r));
    for (; *argc < count; ++*argc) {
        if (resp_head_next(r, '$', RESP_BULK_MAX, &len, err) < 0) return -1;
        size_t before = (size_t)(r->p - r->keep) - start;
        if (before + len + 2 > limit || *argc == c->max_args) return 1;
        if (*argc == c->alloc && grow_argv(c, err) < 0) return -1;
        if (reader_need(r, (size_t)len + 2, err) < 0) return -1;
        if (take_bulk(r, (size_t)len, &c->argv[*argc], err) < 0) return -1;
    }
    return 0;
}

/* Find the line's '\n'; only text is let through, so that a stream out of step is noticed here. */
static int inline_length(struct reader *r, size_t *ret, struct err *err)
{
    for (size_t n = 0;; n++) {
        if (reader_need(r, n + 1, err) < 0) return -1;
        uint8_t b = r->p[n];
        bool text = (b >= ' ' && b < 0x7f) || b == '\t' || b == '\r' || b == '\n';
        if (!text || n == INLINE_MAX)
            return err_set(err, ERR_PROTO, "no command at byte %" PRIu64, reader_pos(r) + n);
        if (b != '\n') continue;
        *ret = n;
        return 0;
    }
}

/* "select 3\r\n" */
static int read_inline(struct resp_cmds *c, struct reader *r, size_t limit, size_t *argc,
                       struct err *err)
{
    if (((unsigned)*r->p | 0x20) - 'a' > 'z' - 'a')
        return err_set(err, ERR_PROTO, "no command at byte %" PRIu64 ": it begins with byte 0x%02x",
                       reader_pos(r), (unsigned)*r->p);
    size_t n = 0;
    if (inline_length(r, &n, err) < 0) return -1;
    if (n + 1 > limit) return 1;
    for (size_t i = 0; i < n;) {
        size_t from = i;
        while (i < n && !strchr(" \t\r", r->p[i]))
            i++;
        if (i == from) {
            i++;
            continue;
        }
        if (*argc == c->max_args) return 1;
        if (*argc == c->alloc && grow_argv(c, err) < 0) return -1;
        c->argv[(*argc)++] = span_of(r->p + from, i - from);
    }
    r->p += n + 1;
    return 0;
}

static int pass_newlines(struct reader *r, struct err *err)
{
    bool nothing_held = r->keep == r->p;
    for (;;) {
        if (reader_need(r, 1, err) < 0) return -1;
        if (*r->p != '\n' && *r->p != '\r') return 0;
        r->p++;
        if (nothing_held) reader_release(r);
    }
}

int resp_cmd_next(struct resp_cmds *c, struct reader *r, size_t limit, struct resp_cmd *ret,
                  struct err *err)
{
    if (pass_newlines(r, err) < 0) return -1;
    size_t start = (size_t)(r->p - r->keep), argc = 0;
    int rc = *r->p == '*' ? read_array(c, r, start, limit, &argc, err)
                          : read_inline(c, r, limit, &argc, err);
    const uint8_t *first = r->keep + start;
    if (rc != 0) r->p = first;
    if (rc >= 0) *ret = (struct resp_cmd){c->argv, argc, span_of(first, (size_t)(r->p - first))};
    return rc;
}

static int put_number(struct buf *b, char type, uint64_t v, struct err *err)
{
    if (buf_reserve(b, NUM_INT64_CHARS + 3, err) < 0) return -1;
    b->p[b->n++] = (uint8_t)type;
    b->n += num_put_u64((char *)b->p + b->n, v);
    b->p[b->n++] = '\r';
    b->p[b->n++] = '\n';
    return 0;
}

int resp_put_head(struct buf *b, size_t argc, struct err *err)
{
    return put_number(b, '*', argc, err);
}

int resp_put_arg(struct buf *b, struct span arg, struct err *err)
{
    size_t before = b->n;
    if (put_number(b, '$', arg.n, err) < 0) return -1;
    if (buf_reserve(b, arg.n + 2, err) < 0) {
        b->n = before;
        return -1;
    }
    if (arg.n) memcpy(b->p + b->n, arg.p, arg.n);
    b->n += arg.n;
    b->p[b->n++] = '\r';
    b->p[b->n++] = '\n';
    return 0;
}

int resp_put_cmd(struct buf *b, size_t argc, const struct span *argv, struct err *err)
{
    size_t before = b->n;
    int rc = resp_put_head(b, argc, err);
    for (size_t i = 0; rc == 0 && i < argc; i++)
        rc = resp_put_arg(b, argv[i], err);
    if (rc < 0) b->n = before;
    return rc;
}

int resp_put_strs(struct buf *b, struct err *err, ...)
{
    va_list ap, count;
    va_start(ap, err);
    va_copy(count, ap);
    size_t argc = 0, before = b->n;
    while (va_arg(count, const char *))
        argc++;
    va_end(count);
    int rc = resp_put_head(b, argc, err);
    for (size_t i = 0; rc == 0 && i < argc; i++)
        rc = resp_put_arg(b, span_str(va_arg(ap, const char *)), err);
    va_end(ap);
    if (rc < 0) b->n = before;
    return rc;
}
