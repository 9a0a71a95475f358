// SPDX-License-Identifier: BSD-3-Clause
// The line of a key. Millions of them are written in a second: without printf, names and digests
// eight bytes at a time.
#include "base/num.h"
#include "cli/inspect_report.h"

#include <endian.h>

#define LINE_BYTES  4096
#define VALUES_MAX  400 /* what stands behind a name is never longer */
#define NAME_SIMPLE 1024

struct line {
    int (*put)(void *ctx, const void *p, size_t n, struct err *err);
    void *ctx;
    size_t n;
    char text[LINE_BYTES];
};

static int give(struct line *o, struct err *err)
{
    size_t n = o->n;
    o->n = 0;
    return o->put(o->ctx, o->text, n, err);
}

static const char digits[] = "0123456789abcdef";

#define EACH(byte) ((byte)*0x0101010101010101u)

/* Some byte of v is 0. */
static inline bool has_zero(uint64_t v)
{
    return ((v - EACH(1)) & ~v & EACH(0x80u)) != 0;
}

/* ASCII from space to tilde, and nothing to be escaped: such names are copied. */
static bool is_simple(struct span name)
{
    const uint8_t *p = name.p, *end = p + name.n;
    for (; end - p >= 8; p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        bool below_space = ((v - EACH(0x20u)) & ~v & EACH(0x80u)) != 0;
        if ((v & EACH(0x80u)) || below_space || has_zero(v ^ EACH(0x7fu)) ||
            has_zero(v ^ EACH((uint8_t)'"')) || has_zero(v ^ EACH((uint8_t)'\\')))
            return false;
    }
    for (; p < end; p++)
        if (*p < 0x20 || *p > 0x7e || *p == '"' || *p == '\\') return false;
    return true;
}

static inline void add_chars(struct line *o, const char *words, size_t n)
{
    memcpy(o->text + o->n, words, n);
    o->n += n;
}

#define ADD_WORDS(o, words) add_chars(o, words, sizeof(words) - 1)

static int put_name(struct line *o, struct span name, bool plain, struct err *err)
{
    for (size_t i = 0; i < name.n; i++) {
        if (o->n > sizeof(o->text) - 4 && give(o, err) < 0) return -1;
        uint8_t c = name.p[i];
        if (!plain) {
            o->text[o->n++] = digits[c >> 4];
            o->text[o->n++] = digits[c & 15];
            continue;
        }
        if (c == '"' || c == '\\') o->text[o->n++] = '\\';
        o->text[o->n++] = (char)c;
    }
    return 0;
}

static inline void add_number(struct line *o, bool known, int64_t v)
{
    if (!known)
        ADD_WORDS(o, "null");
    else
        o->n += num_put_i64(o->text + o->n, v);
}

/* Four bytes as eight characters: spread to 16 bits each, the halves of a byte to their places,
 * then 0 to 15 become '0' to '9' and 'a' to 'f'. */
static inline uint64_t hex_of(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof(four));
    uint64_t v = le32toh(four);
    v = (v | v << 16) & 0x0000ffff0000ffffu;
    v = (v | v << 8) & 0x00ff00ff00ff00ffu;
    v = (v >> 4 & 0x000f000f000f000fu) | (v << 8 & 0x0f000f000f000f00u);
    uint64_t letters = (v + EACH(6u)) >> 4 & EACH(1u);
    return htole64(v + EACH((uint8_t)'0') + letters * ('a' - '0' - 10));
}

static void add_digest(struct line *o, const uint8_t *p)
{
    char *out = o->text + o->n;
    *out++ = '"';
    for (size_t i = 0; i < DIGEST_BYTES; i += 4, out += 8) {
        uint64_t chars = hex_of(p + i);
        memcpy(out, &chars, sizeof(chars));
    }
    *out = '"';
    o->n += 2 * DIGEST_BYTES + 2;
}

static int put_values(struct line *o, const struct inspect_key *k, struct err *err)
{
    const struct digest_result *d = &k->digest;
    const char *kind = rdb_kind_name(rdb_kind_of(k->type));
    if (o->n > sizeof(o->text) - VALUES_MAX && give(o, err) < 0) return -1;
    ADD_WORDS(o, "\",\"type\":\"");
    add_chars(o, kind, strlen(kind));
    ADD_WORDS(o, "\",\"expire_ms\":");
    add_number(o, k->expire_ms != -1, k->expire_ms);
    ADD_WORDS(o, ",\"elements\":");
    add_number(o, d->counted, (int64_t)d->elements);
    ADD_WORDS(o, ",\"sha256\":");
    add_digest(o, d->content);
    ADD_WORDS(o, ",\"state_sha256\":");
    if (d->has_state)
        add_digest(o, d->state);
    else
        ADD_WORDS(o, "null");
    ADD_WORDS(o, ",\"idle_s\":");
    add_number(o, k->idle_s >= 0, k->idle_s);
    ADD_WORDS(o, ",\"freq\":");
    add_number(o, k->freq >= 0, k->freq);
    ADD_WORDS(o, "}\n");
    return give(o, err);
}

int inspect_report_key(const struct inspect_key *key,
                       int (*put)(void *ctx, const void *p, size_t n, struct err *err), void *ctx,
                       struct err *err)
{
    struct line o;
    o.put = put;
    o.ctx = ctx;
    o.n = 0;
    struct span name = key->name;
    bool simple = name.n <= NAME_SIMPLE && is_simple(name);
    bool plain = simple || inspect_report_is_plain(name.p, name.n);
    ADD_WORDS(&o, "{\"db\":");
    o.n += num_put_u64(o.text + o.n, key->db);
    if (plain)
        ADD_WORDS(&o, ",\"key\":\"");
    else
        ADD_WORDS(&o, ",\"key_hex\":\"");
    if (simple)
        add_chars(&o, (const char *)name.p, name.n);
    else if (put_name(&o, name, plain, err) < 0)
        return -1;
    return put_values(&o, key, err);
}
