// SPDX-License-Identifier: BSD-3-Clause
// A server's reply (RESP2) as a tree in one allocation. Pure: bytes in, a tree or an error out.
//
// For the small talk only (handshakes, facts, checks); the hot path uses resp_scan and builds
// nothing. A reply is first scanned as it arrives (each byte once, elements counted), and built
// when its end is known, so that a hostile length never makes us allocate.
#ifndef KEYHAUL_REDIS_REPLY_H
#define KEYHAUL_REDIS_REPLY_H

#include "base/err.h"
#include "base/span.h"

#define REPLY_DEPTH_MAX 8 /* arrays in arrays */

enum reply_type {
    REPLY_STATUS, /* +OK */
    REPLY_ERROR,  /* -ERR ... */
    REPLY_INTEGER,
    REPLY_STRING,
    REPLY_NULL, /* $-1, *-1 */
    REPLY_ARRAY,
};

struct reply {
    enum reply_type type;
    struct span str;    /* STATUS, ERROR (without '+', '-'), STRING; a NUL follows, not counted */
    int64_t integer;    /* INTEGER */
    size_t n;           /* ARRAY: number of items */
    struct reply *item; /* ARRAY: part of the root's allocation */
};

/* Where a reply ends. Zeroed to begin; feed it the same growing buffer until it says 1. */
struct reply_scan {
    size_t at;    /* bytes looked at so far; when done: length of the reply */
    size_t nodes; /* elements met so far */
    unsigned depth;
    uint64_t left[REPLY_DEPTH_MAX + 1]; /* elements still to come, by depth */
};

/* 1: a whole reply lies in p[0 .. s->at). 0: more bytes are needed. -1: ERR_PROTO (not RESP2),
 * ERR_LIMIT (nested too deep, or tree and bytes together larger than max_bytes). */
KH_MUST int reply_scan(struct reply_scan *s, const uint8_t *p, size_t n, size_t max_bytes,
                       struct err *err);

/* Build the tree of a reply that reply_scan() has measured. Copies the bytes. */
KH_MUST int reply_build(struct reply **ret, const struct reply_scan *s, const uint8_t *p,
                        struct err *err);
void reply_free(struct reply *root); /* NULL-safe; only the root may be freed */

static inline bool reply_is_error(const struct reply *r)
{
    return r->type == REPLY_ERROR;
}

/* An error whose text starts with this word: reply_error_is(r, "NOPERM"). */
bool reply_error_is(const struct reply *r, const char *word);

/* +STATUS or string equal to s, case ignored. */
bool reply_is(const struct reply *r, const char *s);

static inline bool reply_has_text(const struct reply *r)
{
    return r->type == REPLY_STATUS || r->type == REPLY_STRING;
}

/* Item i of an array; NULL: not an array, or shorter. */
const struct reply *reply_at(const struct reply *r, size_t i);

/* Printable copy of a text or error for messages: control bytes become '?', cut to fit. Returns
 * out. */
char *reply_words(char *out, size_t size, const struct reply *r);

#endif
