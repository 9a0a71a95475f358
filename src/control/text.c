// SPDX-License-Identifier: BSD-3-Clause
// Text under construction, plain and JSON.
#include "control/text.h"

#include <stdarg.h>
#include <stdio.h>

void text_init(struct text *t, size_t cap_bytes)
{
    buf_init(&t->buf, cap_bytes);
    t->err = (struct err){0};
}

void text_release(struct text *t)
{
    buf_release(&t->buf);
}

void text_clear(struct text *t)
{
    buf_clear(&t->buf);
    t->err = (struct err){0};
}

static void put(struct text *t, const void *p, size_t n)
{
    if (t->err.code != ERR_NONE) return;
    struct err err;
    if (buf_add(&t->buf, p, n, &err) < 0) t->err = err;
}

void text_printf(struct text *t, const char *fmt, ...)
{
    char small[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(small)) {
        put(t, small, (size_t)n);
        return;
    }
    struct err err;
    if (t->err.code != ERR_NONE) return;
    if (n < 0 || buf_reserve(&t->buf, (size_t)n + 1, &err) < 0) {
        t->err = n < 0 ? (struct err){ERR_INTERNAL, "bad format"} : err;
        return;
    }
    va_start(ap, fmt);
    vsnprintf((char *)t->buf.p + t->buf.n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->buf.n += (size_t)n;
}

void text_add(struct text *t, const char *words)
{
    put(t, words, strlen(words));
}

static unsigned column_now(const struct text *t)
{
    size_t n = t->buf.n;
    while (n > 0 && t->buf.p[n - 1] != '\n')
        n--;
    return (unsigned)(t->buf.n - n);
}

void text_to_column(struct text *t, unsigned column)
{
    unsigned now = column_now(t);
    if (now < column) text_printf(t, "%*s", (int)(column - now), "");
}

void text_wrap(struct text *t, const char *words, unsigned indent, unsigned width)
{
    unsigned column = column_now(t);
    bool fresh = true;
    while (*words) {
        size_t n = strcspn(words, " ");
        if (!fresh && column + 1 + n > width) {
            text_printf(t, "\n%*s", (int)indent, "");
            column = indent;
            fresh = true;
        }
        if (!fresh) put(t, " ", 1);
        put(t, words, n);
        column += (unsigned)n + !fresh;
        fresh = false;
        words += n + (words[n] == ' ');
    }
    put(t, "\n", 1);
}

/* Length of the UTF-8 sequence at s, 0: none. No overlong forms, surrogates, nor beyond U+10FFFF.
 */
static size_t utf8_length(const unsigned char *s)
{
    unsigned c = s[0];
    size_t n = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : 4;
    if (n == 4 && (c < 0xf0 || c > 0xf4)) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f)) return 0;
    if ((c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

char *text_make_plain(char *words)
{
    for (unsigned char *p = (unsigned char *)words; *p;) {
        size_t n = utf8_length(p);
        /* C1 controls stand in UTF-8 as c2 80 to c2 9f. */
        bool control = *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0);
        if (n == 0 || control) memset(p, '?', n ? n : 1);
        p += n ? n : 1;
    }
    return words;
}

void text_json_string(struct text *t, const char *s)
{
    if (!s) {
        text_add(t, "null");
        return;
    }
    put(t, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        size_t n = utf8_length(p);
        if (n == 0)
            text_add(t, "\\ufffd");
        else if (*p == '"' || *p == '\\')
            text_printf(t, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            text_printf(t, "\\u%04x", *p);
        else
            put(t, p, n);
        p += n ? n : 1;
    }
    put(t, "\"", 1);
}

static void comma(struct text *t)
{
    if (t->buf.n == 0) return;
    char last = (char)t->buf.p[t->buf.n - 1];
    if (!strchr("{[:\n", last)) put(t, ",", 1);
}

void text_json_name(struct text *t, const char *name)
{
    comma(t);
    text_json_string(t, name);
    put(t, ":", 1);
}

void text_json_text(struct text *t, const char *name, const char *s)
{
    text_json_name(t, name);
    text_json_string(t, s);
}

void text_json_u64(struct text *t, const char *name, uint64_t v)
{
    text_json_name(t, name);
    text_printf(t, "%llu", (unsigned long long)v);
}

void text_json_i64(struct text *t, const char *name, int64_t v)
{
    text_json_name(t, name);
    text_printf(t, "%lld", (long long)v);
}

void text_json_known(struct text *t, const char *name, double v)
{
    text_json_name(t, name);
    if (v >= 0)
        text_printf(t, "%.1f", v);
    else
        text_add(t, "null");
}

void text_json_open(struct text *t, char bracket)
{
    comma(t);
    put(t, &bracket, 1);
}

int text_result(const struct text *t, struct err *err)
{
    if (t->err.code == ERR_NONE) return 0;
    return err_set(err, t->err.code, "%s", t->err.msg);
}
