// SPDX-License-Identifier: BSD-3-Clause
// Text under construction: screens, help, JSON. A failure sticks and is asked for once, at the end,
// so that code which lays out a page reads like the page.
#ifndef KEYHAUL_CONTROL_TEXT_H
#define KEYHAUL_CONTROL_TEXT_H

#include "base/buf.h"

struct text {
    struct buf buf;
    struct err err; /* of the first failure; ERR_NONE: none so far */
};

void text_init(struct text *t, size_t cap_bytes);
void text_release(struct text *t);
void text_clear(struct text *t);

void text_printf(struct text *t, const char *fmt, ...) KH_PRINTF(2, 3);
void text_add(struct text *t, const char *words);

/* Words that came from a server or a file, for a terminal: control characters, which could move the
 * cursor or worse, and bytes that are no UTF-8 become '?', in place. Returns words. */
char *text_make_plain(char *words);

/* Fill up with spaces to column `column` of the last line. */
void text_to_column(struct text *t, unsigned column);
/* Words from where the last line stands, broken at spaces before column `width`; further lines
 * begin at column `indent`. Ends the line. */
void text_wrap(struct text *t, const char *words, unsigned indent, unsigned width);

/* One JSON string with its quotes; bytes that are no UTF-8 become U+FFFD. NULL: null. */
void text_json_string(struct text *t, const char *s);
/* `"name":`, after a comma where one is needed: not after '{' or '['. */
void text_json_name(struct text *t, const char *name);
void text_json_text(struct text *t, const char *name, const char *s);
void text_json_u64(struct text *t, const char *name, uint64_t v);
void text_json_i64(struct text *t, const char *name, int64_t v);
/* A number with one decimal; null where `v` is negative: not known. */
void text_json_known(struct text *t, const char *name, double v);
/* Opens an object or an array: '{', '['; a comma before where needed. */
void text_json_open(struct text *t, char bracket);

/* 0, or the first failure. */
KH_MUST int text_result(const struct text *t, struct err *err);

#endif
