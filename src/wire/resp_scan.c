// SPDX-License-Identifier: BSD-3-Clause
// RESP replies: a push scanner that finds where each reply ends and keeps only what is asked for.
//
//   TYPE ──type byte──▶ LINE ──"\r"──▶ LF ──"\n"──▶ value done, or more of it:
//    ▲                                  ├─ $ = !     ▶ BULK ──▶ BULK_CR ──▶ BULK_LF ──▶ done
//    │                                  └─ * % ~ > | ▶ one level down, its elements from TYPE on
//    └── done: next element; with the last one the level above is done too, and so on up
#include "wire/resp.h"

#include "base/num.h"

enum scan_state {
    SCAN_TYPE,
    SCAN_LINE,
    SCAN_LF,
    SCAN_BULK,
    SCAN_BULK_CR,
    SCAN_BULK_LF,
};

/* Far more than a server can send, far from overflow when doubled. */
#define ELEMENTS_MAX (1LL << 40)

void resp_scan_init(struct resp_scan *s)
{
    memset(s, 0, sizeof *s);
}

static bool is_error(char type)
{
    return type == '-' || type == '!';
}

static void finish_top(struct resp_scan *s)
{
    memcpy(s->reply.line, s->line, s->line_n + 1);
    bool bulk = (s->type == '$' || s->type == '=') && !s->reply.is_null;
    if (bulk && s->keep_bulk && !s->take_bulk) s->reply.bulk = buf_span(s->keep_bulk);
}

/* A value that is no aggregate, or an empty one, is complete. 1: with it the top-level reply. */
static int value_done(struct resp_scan *s)
{
    s->state = SCAN_TYPE;
    if (s->depth == 0) {
        finish_top(s);
        return 1;
    }
    if (is_error(s->type) && s->on_nested_error) s->on_nested_error(s->ctx, s->top_index, s->line);
    for (;;) {
        unsigned up = s->depth - 1;
        if (up == 0) s->top_index++;
        if (--s->stack[up].left > 0) return 0;
        s->depth = up;
        if (s->stack[up].attr) return 0; /* the value it belongs to is still to come */
        if (up == 0) return 1;
    }
}

static int null_done(struct resp_scan *s)
{
    if (s->depth == 0) s->reply.is_null = true;
    return value_done(s);
}

static int open_aggregate(struct resp_scan *s, int64_t n, struct err *err)
{
    bool attr = s->type == '|';
    if (s->depth == 0 && !attr) s->reply.integer = n;
    if (n == 0 && attr) {
        s->state = SCAN_TYPE;
        return 0;
    }
    if (n == 0) return value_done(s);
    if (s->depth == RESP_DEPTH_MAX)
        return err_set(err, ERR_PROTO, "a reply is nested deeper than %d levels", RESP_DEPTH_MAX);
    if (s->depth == 0) s->top_index = 0;
    s->stack[s->depth].left = (uint64_t)n << (s->type == '%' || attr);
    s->stack[s->depth].attr = attr;
    s->depth++;
    s->state = SCAN_TYPE;
    return 0;
}

static int open_bulk(struct resp_scan *s, int64_t n)
{
    s->bulk_left = (uint64_t)n;
    s->state = n ? SCAN_BULK : SCAN_BULK_CR;
    if (s->depth == 0 && s->keep_bulk) buf_clear(s->keep_bulk);
    return 0;
}

/* $5, *3, %1, ... or the nulls of RESP2, $-1 and *-1. */
static int counted(struct resp_scan *s, struct err *err)
{
    int64_t n = 0;
    bool bulk = s->type == '$' || s->type == '=' || s->type == '!';
    int64_t max = bulk ? (int64_t)RESP_BULK_MAX : ELEMENTS_MAX;
    int64_t min = s->type == '$' || s->type == '*' ? -1 : 0;
    if (!num_get_i64(span_of(s->line, s->line_n), &n) || n < min || n > max)
        return err_set(err, ERR_PROTO, "a reply has a wrong length after '%c'", s->type);
    s->line_n = 0; /* a '!' will keep its text there */
    s->line[0] = 0;
    if (n < 0) return null_done(s);
    if (bulk) return open_bulk(s, n);
    return open_aggregate(s, n, err);
}

static int integer(struct resp_scan *s, struct err *err)
{
    int64_t v = 0;
    if (!num_get_i64(span_of(s->line, s->line_n), &v))
        return err_set(err, ERR_PROTO, "a reply has no integer after ':'");
    if (s->depth == 0) s->reply.integer = v;
    return value_done(s);
}

static int boolean(struct resp_scan *s, struct err *err)
{
    if (s->line_n != 1 || (s->line[0] != 't' && s->line[0] != 'f'))
        return err_set(err, ERR_PROTO, "a reply has neither t nor f after '#'");
    if (s->depth == 0) s->reply.integer = s->line[0] == 't';
    return value_done(s);
}

static int null(struct resp_scan *s, struct err *err)
{
    if (s->line_n != 0) return err_set(err, ERR_PROTO, "a reply has text after '_'");
    return null_done(s);
}

static int line_done(struct resp_scan *s, struct err *err)
{
    s->line[s->line_n] = 0;
    switch (s->type) {
    case ':': return integer(s, err);
    case '#': return boolean(s, err);
    case '_': return null(s, err);
    case '+':
    case '-':
    case ',':
    case '(': return value_done(s);
    default: return counted(s, err);
    }
}

static int take_type(struct resp_scan *s, uint8_t b, struct err *err)
{
    if (b == 0 || !strchr("+-:$*_#,(!=%~>|", b))
        return err_set(err, ERR_PROTO, "a reply begins with byte 0x%02x", (unsigned)b);
    s->type = (char)b;
    s->line_n = 0;
    s->state = SCAN_LINE;
    if (s->depth == 0) {
        s->reply.type = s->type;
        s->reply.is_null = false;
        s->reply.integer = 0;
        s->reply.bulk = span_of(NULL, 0);
        s->reply.line[0] = 0;
    }
    return 0;
}

/* Text up to "\r", cut to what s->line holds. A bare "\n" cannot be in it. */
static int take_line(struct resp_scan *s, const uint8_t **p, const uint8_t *end, struct err *err)
{
    const uint8_t *q = *p;
    for (; q < end && *q != '\r'; q++) {
        if (*q == '\n') return err_set(err, ERR_PROTO, "a reply's line has no \\r");
        if (s->line_n < RESP_ERROR_MAX - 1) s->line[s->line_n++] = (char)*q;
    }
    if (q < end) {
        q++;
        s->state = SCAN_LF;
    }
    *p = q;
    return 0;
}

static int take_bulk(struct resp_scan *s, const uint8_t **p, const uint8_t *end, struct err *err)
{
    size_t n = (size_t)(end - *p);
    if (n > s->bulk_left) n = (size_t)s->bulk_left;
    if (s->type == '!') {
        size_t room = RESP_ERROR_MAX - 1 - s->line_n, take = n < room ? n : room;
        memcpy(s->line + s->line_n, *p, take);
        s->line_n += take;
        s->line[s->line_n] = 0;
    } else if (s->depth == 0 && s->take_bulk) {
        s->take_bulk(s->take_ctx, *p, n);
    } else if (s->depth == 0 && s->keep_bulk && buf_add(s->keep_bulk, *p, n, err) < 0) {
        return -1;
    }
    *p += n;
    s->bulk_left -= n;
    if (s->bulk_left == 0) s->state = SCAN_BULK_CR;
    return 0;
}

static int expect(uint8_t got, uint8_t want, struct err *err)
{
    return got == want ? 0 : err_set(err, ERR_PROTO, "a reply has no line end where one must be");
}

/* At least one byte at *p. 1: a top-level reply is complete. */
static int step(struct resp_scan *s, const uint8_t **p, const uint8_t *end, struct err *err)
{
    switch ((enum scan_state)s->state) {
    case SCAN_TYPE: return take_type(s, *(*p)++, err);
    case SCAN_LINE: return take_line(s, p, end, err);
    case SCAN_LF: return expect(*(*p)++, '\n', err) < 0 ? -1 : line_done(s, err);
    case SCAN_BULK: return take_bulk(s, p, end, err);
    case SCAN_BULK_CR: s->state = SCAN_BULK_LF; return expect(*(*p)++, '\r', err);
    case SCAN_BULK_LF: return expect(*(*p)++, '\n', err) < 0 ? -1 : value_done(s);
    }
    return err_set(err, ERR_INTERNAL, "reply scanner in state %u", s->state);
}

#define OK_LEN     5 /* "+OK\r\n" */
#define QUEUED_LEN 9 /* "+QUEUED\r\n" */
#define DIGITS_MAX 18

/* "<digits>\r\n": where it ends, NULL: not all there, or something else. */
static const uint8_t *pass_number(const uint8_t *q, const uint8_t *end, uint64_t *ret)
{
    uint64_t v = 0;
    const uint8_t *first = q;
    while (q < end && *q >= '0' && *q <= '9' && q - first < DIGITS_MAX)
        v = v * 10 + (uint64_t)(*q++ - '0');
    if (q == first || end - q < 2 || q[0] != '\r' || q[1] != '\n') return NULL;
    *ret = v;
    return q + 2;
}

static const uint8_t *pass_text(const uint8_t *q, const uint8_t *end)
{
    if (end - q >= OK_LEN && memcmp(q, "+OK\r\n", OK_LEN) == 0) return q + OK_LEN;
    if (end - q >= QUEUED_LEN && memcmp(q, "+QUEUED\r\n", QUEUED_LEN) == 0) return q + QUEUED_LEN;
    while (q < end && *q != '\r' && *q != '\n')
        q++;
    return end - q >= 2 && q[0] == '\r' && q[1] == '\n' ? q + 2 : NULL;
}

/* A whole value that is no aggregate and no error: where it ends. */
static const uint8_t *pass_value(const uint8_t *q, const uint8_t *end, bool bulks)
{
    uint64_t n;
    if (q == end) return NULL;
    if (*q == '+') return pass_text(q, end);
    if (*q == ':') return pass_number(end - q > 1 && q[1] == '-' ? q + 2 : q + 1, end, &n);
    if (*q != '$' || !bulks) return NULL;
    q = pass_number(q + 1, end, &n);
    if (!q || (uint64_t)(end - q) < n + 2 || q[n] != '\r' || q[n + 1] != '\n') return NULL;
    return q + n + 2;
}

/* An array of such values. */
static const uint8_t *pass_array(const uint8_t *q, const uint8_t *end)
{
    uint64_t n;
    q = pass_number(q + 1, end, &n);
    while (q && n--)
        q = pass_value(q, end, true);
    return q;
}

/* Of an array's elements but the last those that are such values. */
static void pass_elements(struct resp_scan *s, const uint8_t **p, const uint8_t *end)
{
    const uint8_t *q;
    while (s->stack[0].left > 1 && (q = pass_value(*p, end, true)) != NULL) {
        s->stack[0].left--;
        s->top_index++;
        *p = q;
    }
}

int resp_scan_feed(struct resp_scan *s, const uint8_t *p, size_t n, size_t *ret_used,
                   struct err *err)
{
    const uint8_t *q = p, *end = p + n;
    while (q < end) {
        if (s->depth == 1 && s->state == SCAN_TYPE && !s->stack[0].attr) pass_elements(s, &q, end);
        if (q == end) break;
        int rc = step(s, &q, end, err);
        if (rc < 0) return -1;
        if (rc == 0) continue;
        *ret_used = (size_t)(q - p);
        return 1;
    }
    *ret_used = n;
    return 0;
}

size_t resp_scan_plain(const uint8_t *p, size_t n, size_t max, size_t *ret_replies)
{
    static const char ok8[] = "+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";
    const uint8_t *q = p, *end = p + n;
    size_t replies = 0;
    while (replies < max) {
        size_t left = (size_t)(end - q);
        if (left >= 8 * OK_LEN && max - replies >= 8 && memcmp(q, ok8, 8 * OK_LEN) == 0) {
            q += 8 * OK_LEN;
            replies += 8;
        } else if (left >= OK_LEN && memcmp(q, ok8, OK_LEN) == 0) {
            q += OK_LEN;
            replies++;
        } else if (left >= QUEUED_LEN && memcmp(q, "+QUEUED\r\n", QUEUED_LEN) == 0) {
            q += QUEUED_LEN;
            replies++;
        } else {
            break;
        }
    }
    *ret_replies = replies;
    return (size_t)(q - p);
}

size_t resp_scan_quiet(const uint8_t *p, size_t n, size_t max, size_t *ret_replies)
{
    const uint8_t *q = p, *end = p + n;
    size_t replies = 0;
    while (replies < max && q < end) {
        size_t run;
        q += resp_scan_plain(q, (size_t)(end - q), max - replies, &run);
        replies += run;
        if (replies == max || q == end) break;
        const uint8_t *to = *q == '*' ? pass_array(q, end) : pass_value(q, end, false);
        if (!to) break;
        q = to;
        replies++;
    }
    *ret_replies = replies;
    return (size_t)(q - p);
}
