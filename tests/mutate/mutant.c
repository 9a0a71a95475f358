// SPDX-License-Identifier: BSD-3-Clause
// Damaging bytes.
#include "mutant.h"

#include "base/crc64.h"
#include "wire/rdb/value.h"

#include <stdio.h>
#include <stdlib.h>

#define MAGIC_BYTES 9
#define ROOM        8192 /* that damages may add */
#define NEAR        64   /* lengths stand at the front of a value */
#define VALKEY_RDB  80

struct work {
    uint64_t random;
    const struct inputs *in;
    uint8_t *p;
    size_t n, room;
    size_t first; /* bytes before it stay: a file's magic */
    char *how;
    size_t how_n;
};

/* splitmix64 */
static uint64_t next(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(struct work *w, size_t n)
{
    return n ? (size_t)(next(&w->random) % n) : 0;
}

static void say(struct work *w, const char *what, size_t at)
{
    size_t room = 200 - w->how_n;
    int n = snprintf(w->how + w->how_n, room, "%s%s at %zu", w->how_n ? ", " : "", what, at);
    w->how_n += (size_t)n < room ? (size_t)n : room - 1;
}

/* A place; often near the front, where lengths and counts are. */
static size_t place(struct work *w)
{
    size_t n = w->n - w->first;
    if (n > NEAR && below(w, 3) == 0) n = NEAR;
    return w->first + below(w, n);
}

static uint8_t edge(struct work *w)
{
    static const uint8_t v[] = {0,    1,    2,    0x3f, 0x40, 0x7f, 0x80, 0x81, 0xbf, 0xc0, 0xc1,
                                0xc2, 0xc3, 0xe0, 0xf0, 0xf1, 0xf4, 0xfa, 0xfc, 0xfd, 0xfe, 0xff};
    return v[below(w, sizeof(v))];
}

/* --- kinds of damage: each on at least one byte --- */

static void flip_bit(struct work *w)
{
    size_t at = place(w);
    w->p[at] ^= (uint8_t)(1u << below(w, 8));
    say(w, "bit", at);
}

static void set_edge(struct work *w)
{
    size_t at = place(w);
    w->p[at] = edge(w);
    say(w, "byte", at);
}

static void cut_off(struct work *w)
{
    w->n = place(w);
    say(w, "cut", w->n);
}

/* Room of n bytes at `at`; what was there moves back. 0: there is none. */
static size_t make_room(struct work *w, size_t at, size_t n)
{
    if (n > w->room - w->n) return 0;
    memmove(w->p + at + n, w->p + at, w->n - at);
    w->n += n;
    return n;
}

static void insert(struct work *w)
{
    size_t at = place(w), n = make_room(w, at, 1 + below(w, 16));
    for (size_t i = 0; i < n; i++)
        w->p[at + i] = below(w, 2) ? edge(w) : (uint8_t)next(&w->random);
    say(w, "insert", at);
}

static size_t piece_at(struct work *w, size_t at)
{
    size_t most = below(w, 4) ? 16 : 1024, left = w->n - at;
    return 1 + below(w, most < left ? most : left);
}

static void take_out(struct work *w)
{
    size_t at = place(w), n = piece_at(w, at);
    memmove(w->p + at, w->p + at + n, w->n - at - n);
    w->n -= n;
    say(w, "delete", at);
}

static void twice(struct work *w)
{
    uint8_t piece[1024];
    size_t from = place(w), n = piece_at(w, from), at = below(w, 2) ? from : place(w);
    memcpy(piece, w->p + from, n);
    n = make_room(w, at, n);
    memcpy(w->p + at, piece, n);
    say(w, "duplicate", at);
}

/* A length as RDB writes it, in the place of a byte: 32 or 64 bits, or LZF's two. */
static void blow_up(struct work *w)
{
    static const uint64_t v[] = {0x3fff,        0x10000,           0xffffff,   0x7fffffff,
                                 0xffffffff,    0x100000000,       UINT64_MAX, 0x7fffffffffffffff,
                                 0xfffffffffff, 0x8000000000000000};
    size_t at = place(w);
    bool wide = below(w, 2);
    uint64_t len = below(w, 3) ? v[below(w, 10)] : w->n - at + below(w, 5) - 2;
    uint8_t b[12] = {wide ? 0x81 : 0x80};
    size_t n = wide ? 9 : 5;
    for (size_t i = 1; i < n; i++)
        b[i] = (uint8_t)(len >> (8 * (n - 1 - i)));
    n = make_room(w, at, n - 1) + 1;
    memcpy(w->p + at, b, n);
    say(w, "length", at);
}

/* A little-endian field of 2 or 4 bytes, as packed values have. */
static void set_field(struct work *w)
{
    static const uint32_t v[] = {0, 1, 2, 0x7f, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, ~0u};
    size_t at = place(w), n = below(w, 2) ? 2 : 4;
    uint32_t x = v[below(w, 10)];
    if (below(w, 3) == 0) memcpy(&x, w->p + at, w->n - at < n ? w->n - at : n);
    x += (uint32_t)below(w, 3) - 1;
    for (size_t i = 0; i < n && at + i < w->n; i++)
        w->p[at + i] = (uint8_t)(x >> (8 * i));
    say(w, "field", at);
}

/* A piece of another one. */
static void splice(struct work *w)
{
    const struct input *x = &w->in->values[below(w, w->in->n_values)];
    size_t at = place(w), from = below(w, x->n), n = 1 + below(w, 200);
    if (n > x->n - from) n = x->n - from;
    if (n > w->n - at) n = w->n - at;
    memcpy(w->p + at, x->p + from, n);
    say(w, "splice", at);
}

typedef void damage_fn(struct work *w);
static damage_fn *const damages[] = {flip_bit, flip_bit, set_edge, set_edge, set_field, cut_off,
                                     insert,   take_out, twice,    blow_up,  blow_up,   splice};

static void damage(struct work *w)
{
    size_t times = 1 + (below(w, 3) == 0) + (below(w, 6) == 0) * below(w, 6);
    for (size_t i = 0; i < times && w->n > w->first; i++)
        damages[below(w, sizeof(damages) / sizeof(damages[0]))](w);
}

/* --- the whole --- */

static const struct input *choose(struct work *w)
{
    const struct inputs *in = w->in;
    size_t r = below(w, 1000);
    if (r < 4) return &in->large[below(w, in->n_large)];
    if (r < 40) return &in->middle[below(w, in->n_middle)];
    if (r < 350) return &in->small[below(w, in->n_small)];
    const struct input *x = &in->values[below(w, in->n_values)];
    if (x->n > 20000 && below(w, 10)) x = &in->values[below(w, in->n_values)];
    return x;
}

/* Bytes at the end that are no data. Files have a checksum since version 5. */
static size_t tail_of(const struct input *x)
{
    if (!x->file) return FOOT_BYTES;
    return memcmp(x->p, "REDIS", 5) == 0 && memcmp(x->p + 5, "0005", 4) < 0 ? 0 : 8;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    while (n && *p == 0)
        p++, n--;
    return n == 0;
}

/* So that what follows is not stopped by the checksum; or zero, which says that there is none; or
 * left as it was. */
static void mend_checksum(struct work *w, struct mutant *m)
{
    const struct input *x = m->of;
    size_t how = below(w, 16);
    if (tail_of(x) == 0 || w->n < w->first + 8) return;
    if (x->file && how == 0) {
        m->checked = w->first && !is_zero(x->p + x->n - 8, 8);
        return;
    }
    uint64_t crc = x->file && how < 3 ? 0 : crc64(0, w->p, w->n - 8);
    for (int i = 0; i < 8; i++)
        w->p[w->n - 8 + i] = (uint8_t)(crc >> (8 * i));
}

void mutant_make(struct mutant *m, const struct inputs *in, uint64_t seed, uint64_t number)
{
    struct work w = {.random = seed, .in = in, .how = m->how};
    w.random = next(&w.random) ^ number * 0xd1342543de82ef95u;
    *m = (struct mutant){.of = choose(&w)};
    w.n = m->of->n;
    w.room = w.n + ROOM;
    w.p = malloc(w.room);
    if (!w.p) abort();
    memcpy(w.p, m->of->p, w.n);
    if (m->of->file) w.first = below(&w, 50) ? MAGIC_BYTES : 0;
    size_t tail = tail_of(m->of);
    w.n -= tail;
    damage(&w);
    memcpy(w.p + w.n, m->of->p + m->of->n - tail, tail);
    w.n += tail;
    mend_checksum(&w, m);
    m->differs = w.n != m->of->n || memcmp(w.p, m->of->p, w.n) != 0;
    m->n = w.n;
    m->p = malloc(m->n + !m->n);
    if (!m->p) abort();
    memcpy(m->p, w.p, m->n);
    free(w.p);
}

void mutant_free(struct mutant *m)
{
    free(m->p);
}

bool payload_type(const uint8_t *p, size_t n, enum rdb_type *ret)
{
    if (n < 1 + FOOT_BYTES) return false;
    const uint8_t *foot = p + n - FOOT_BYTES;
    unsigned type = p[0];
    bool valkey = (foot[0] | (unsigned)foot[1] << 8) >= VALKEY_RDB;
    if (valkey && type == rdb_type_byte(RDB_VALKEY_HASH_2)) type = RDB_VALKEY_HASH_2;
    if (!rdb_type_known(type)) return false;
    *ret = (enum rdb_type)type;
    return true;
}
