// SPDX-License-Identifier: BSD-3-Clause
// Replies as trees: find the end as bytes arrive, then build in one allocation.
#include "redis/reply.h"

#include "base/num.h"

#include <stdlib.h>

#define LINE_MAX_BYTES 65536 /* no server's status, error or number is longer */

struct head { /* first line of an element: "$3\r\n", "+OK\r\n" */
    char type;
    int64_t value;    /* '$' '*' ':' */
    struct span text; /* between the type byte and CRLF */
    size_t bytes;     /* whole line */
};

/* 1: a whole line. 0: more bytes are needed. */
static int head_parse(struct head *h, const uint8_t *p, size_t n, struct err *err)
{
    if (n == 0) return 0;
    if (!memchr("+-:$*_", p[0], 6))
        return err_set(err, ERR_PROTO, "not a reply of a Redis server (it starts with byte 0x%02x)",
                       p[0]);
    size_t look = n < LINE_MAX_BYTES ? n : LINE_MAX_BYTES;
    const uint8_t *nl = memchr(p, '\n', look);
    if (!nl) {
        if (look < LINE_MAX_BYTES) return 0;
        return err_set(err, ERR_PROTO, "reply with a line of more than %d bytes", LINE_MAX_BYTES);
    }
    if (nl[-1] != '\r') return err_set(err, ERR_PROTO, "reply line that does not end in CR LF");
    *h = (struct head){(char)p[0], 0, span_of(p + 1, (size_t)(nl - p) - 2), (size_t)(nl - p) + 1};
    bool number = h->type == ':' || h->type == '$' || h->type == '*';
    if (number && !num_get_i64(h->text, &h->value))
        return err_set(err, ERR_PROTO, "reply with a broken number");
    if ((h->type == '$' || h->type == '*') && h->value < -1)
        return err_set(err, ERR_PROTO, "reply with a negative length");
    return 1;
}

static int too_large(size_t max_bytes, struct err *err)
{
    return err_set(err, ERR_LIMIT, "reply larger than %zu bytes", max_bytes);
}

/* An element with its content has been passed: true when it was the last one of the reply. */
static bool scan_up(struct reply_scan *s)
{
    while (s->depth > 0 && --s->left[s->depth] == 0)
        s->depth--;
    return s->depth == 0;
}

/* One element. 1: the reply is complete, 0: more bytes are needed, 2: go on. */
static int scan_one(struct reply_scan *s, const uint8_t *p, size_t n, size_t max_bytes,
                    struct err *err)
{
    struct head h;
    int rc = head_parse(&h, p + s->at, n - s->at, err);
    if (rc <= 0) return rc;

    size_t room = max_bytes / sizeof(struct reply);
    if (s->nodes >= room) return too_large(max_bytes, err);
    size_t used = s->at + h.bytes + (s->nodes + 1) * sizeof(struct reply);
    size_t body = 0;
    if (h.type == '$' && h.value >= 0) {
        if (used > max_bytes || (uint64_t)h.value > max_bytes - used)
            return too_large(max_bytes, err);
        body = (size_t)h.value + 2;
        if (n - s->at - h.bytes < body) return 0;
        if (memcmp(p + s->at + h.bytes + h.value, "\r\n", 2) != 0)
            return err_set(err, ERR_PROTO, "reply string that does not end in CR LF");
    } else if (used > max_bytes) {
        return too_large(max_bytes, err);
    }
    s->at += h.bytes + body;
    s->nodes++;

    if (h.type == '*' && h.value > 0) {
        if ((uint64_t)h.value > room) return too_large(max_bytes, err);
        if (s->depth == REPLY_DEPTH_MAX)
            return err_set(err, ERR_LIMIT, "reply nested deeper than %d", REPLY_DEPTH_MAX);
        s->left[++s->depth] = (uint64_t)h.value;
        return 2;
    }
    return scan_up(s) ? 1 : 2;
}

int reply_scan(struct reply_scan *s, const uint8_t *p, size_t n, size_t max_bytes, struct err *err)
{
    int rc;
    do
        rc = scan_one(s, p, n, max_bytes, err);
    while (rc == 2);
    return rc;
}

struct builder {
    struct reply *next; /* first node not handed out */
    uint8_t *p, *end;   /* our copy of the bytes */
};

static int build_array(struct builder *b, struct reply *r, size_t n, struct err *err);

/* The bytes have passed the scan: lengths fit, and the depth is bounded. */
static int build(struct builder *b, struct reply *r, struct err *err)
{
    struct head h;
    int rc = head_parse(&h, b->p, (size_t)(b->end - b->p), err);
    if (rc <= 0) return rc < 0 ? -1 : err_set(err, ERR_INTERNAL, "reply was not scanned");
    b->p += h.bytes;
    if (h.type == '_' || ((h.type == '$' || h.type == '*') && h.value < 0)) {
        r->type = REPLY_NULL;
        return 0;
    }
    if (h.type == ':') {
        *r = (struct reply){.type = REPLY_INTEGER, .integer = h.value};
        return 0;
    }
    if (h.type == '*') return build_array(b, r, (size_t)h.value, err);

    r->type = h.type == '$' ? REPLY_STRING : h.type == '-' ? REPLY_ERROR : REPLY_STATUS;
    r->str = h.text;
    if (h.type == '$') {
        r->str = span_of(b->p, (size_t)h.value);
        b->p += r->str.n + 2;
    }
    b->p[-2] = 0; /* the CR behind the text: a NUL there makes it a C string */
    return 0;
}

static int build_array(struct builder *b, struct reply *r, size_t n, struct err *err)
{
    *r = (struct reply){.type = REPLY_ARRAY, .n = n, .item = b->next};
    b->next += n;
    for (size_t i = 0; i < n; i++)
        if (build(b, &r->item[i], err) < 0) return -1;
    return 0;
}

int reply_build(struct reply **ret, const struct reply_scan *s, const uint8_t *p, struct err *err)
{
    size_t tree = s->nodes * sizeof(struct reply);
    struct reply *root = malloc(tree + s->at);
    if (!root) return err_set(err, ERR_NOMEM, "out of memory for a reply of %zu bytes", s->at);
    memset(root, 0, tree);
    uint8_t *bytes = (uint8_t *)root + tree;
    memcpy(bytes, p, s->at);
    struct builder b = {root + 1, bytes, bytes + s->at};
    if (build(&b, root, err) < 0) {
        free(root);
        return -1;
    }
    *ret = root;
    return 0;
}

void reply_free(struct reply *root)
{
    free(root);
}

bool reply_error_is(const struct reply *r, const char *word)
{
    size_t n = strlen(word);
    return r->type == REPLY_ERROR && r->str.n >= n && memcmp(r->str.p, word, n) == 0 &&
           (r->str.n == n || r->str.p[n] == ' ');
}

bool reply_is(const struct reply *r, const char *s)
{
    return reply_has_text(r) && span_is(r->str, s);
}

const struct reply *reply_at(const struct reply *r, size_t i)
{
    return r && r->type == REPLY_ARRAY && i < r->n ? &r->item[i] : NULL;
}

char *reply_words(char *out, size_t size, const struct reply *r)
{
    static const char *const what[] = {"status", "error", "a number", "string", "null", "an array"};
    bool text = r->type == REPLY_STATUS || r->type == REPLY_ERROR || r->type == REPLY_STRING;
    struct span s = text ? r->str : span_str(what[r->type]);
    size_t n = s.n < size - 1 ? s.n : size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = s.p[i] >= 32 && s.p[i] < 127 ? (char)s.p[i] : '?';
    out[n] = 0;
    return out;
}
