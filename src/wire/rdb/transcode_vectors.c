// SPDX-License-Identifier: BSD-3-Clause
// Vector sets of Redis 8.2 and later in the form that Redis 8.0 reads.
//
//   module id | dimension, nodes, config, flags | [input dimension, "matrix"] |
//   per node: "element" ["attributes"] "vector", n, n numbers | end
//
// The n numbers of a node:
//   id | form << 24 | level | per layer 0 .. level: links, room, links x id, [worst] | norm and
//   range
// Form 1 (8.2) has `worst`, the farthest link and its distance; form 0 (8.0) has not, and a server
// that wants it works it out. 8.0 takes form and level together for the level: a node of 16 million
// layers, which it refuses after a second of standing still.
#include "wire/rdb/transcode.h"

#include "wire/rdb/str.h"

enum module_op { OP_END = 0, OP_UINT = 2, OP_STRING = 5 };
enum set_flag { FLAG_PROJECTION = 1, FLAG_ATTRIBUTES = 2 };

#define PIECE_BYTES (64u << 10)
#define FORM_1      1
#define LEVEL_MAX   255

struct vectors {
    struct reader *r;
    struct rdb_put *out;
    bool unknown; /* some node has a form that is newer than these */
};

/* Nine characters of six bits, then ten bits of version. */
static bool is_vectorset(uint64_t module_id)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t name = 0;
    for (const char *p = "vectorset"; *p; p++)
        name = name << 6 | (uint64_t)(strchr(letters, *p) - letters);
    return module_id >> 10 == name;
}

int transcode_is_vectors(struct reader *r, bool *ret, struct err *err)
{
    size_t held = (size_t)(r->p - r->keep);
    uint64_t id;
    if (rdb_len(r, &id, err) < 0) return -1;
    r->p = r->keep + held;
    *ret = is_vectorset(id);
    return 0;
}

/* --- items: an opcode and what it is about --- */

static int read_op(struct vectors *v, uint64_t want, struct err *err)
{
    uint64_t op;
    reader_release(v->r);
    if (rdb_len(v->r, &op, err) < 0) return -1;
    if (op == want) return 0;
    return rdb_bad(err, v->r, "a vector set: expected module opcode %llu, found %llu",
                   (unsigned long long)want, (unsigned long long)op);
}

static int read_number(struct vectors *v, uint64_t *ret, struct err *err)
{
    return read_op(v, OP_UINT, err) < 0 ? -1 : rdb_len(v->r, ret, err);
}

static int put_number(struct vectors *v, uint64_t n, struct err *err)
{
    return rdb_put_len(v->out, OP_UINT, err) < 0 ? -1 : rdb_put_len(v->out, n, err);
}

static int copy_number(struct vectors *v, uint64_t *ret, struct err *err)
{
    return read_number(v, ret, err) < 0 ? -1 : put_number(v, *ret, err);
}

/* What lies between `at` bytes behind r->keep and r->p. */
static int put_read(struct vectors *v, size_t at, struct err *err)
{
    const uint8_t *from = v->r->keep + at;
    return rdb_put_bytes(v->out, from, (size_t)(v->r->p - from), err);
}

/* In the form it has, of any length. */
static int copy_string(struct vectors *v, struct err *err)
{
    struct reader *r = v->r;
    uint64_t left;
    if (read_op(v, OP_STRING, err) < 0 || rdb_put_len(v->out, OP_STRING, err) < 0) return -1;
    reader_release(r);
    if (rdb_str_stored(r, &left, err) < 0 || put_read(v, 0, err) < 0) return -1;
    while (left) {
        size_t n = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        reader_release(r);
        if (reader_need(r, n, err) < 0 || rdb_put_bytes(v->out, r->p, n, err) < 0) return -1;
        r->p += n;
        left -= n;
    }
    return 0;
}

/* --- nodes --- */

static int copy_numbers(struct vectors *v, uint64_t n, struct err *err)
{
    uint64_t ignored;
    for (; n; n--)
        if (copy_number(v, &ignored, err) < 0) return -1;
    return 0;
}

/* links, room, the links, worst: *left numbers are there for this layer and what follows. */
static int copy_layer(struct vectors *v, uint64_t *left, struct err *err)
{
    uint64_t links, room, worst;
    if (*left < 3) return rdb_bad(err, v->r, "a vector set: a node with too few numbers");
    if (copy_number(v, &links, err) < 0 || copy_number(v, &room, err) < 0) return -1;
    if (links > *left - 3)
        return rdb_bad(err, v->r, "a vector set: a node with %llu links has %llu numbers left",
                       (unsigned long long)links, (unsigned long long)*left);
    *left -= 3 + links;
    if (copy_numbers(v, links, err) < 0) return -1;
    return read_number(v, &worst, err);
}

/* n numbers, of which id and level have been read. */
static int copy_form_1(struct vectors *v, uint64_t n, uint64_t id, uint64_t level, struct err *err)
{
    uint64_t left = n - 2;
    if (left < 3 * (level + 1) + 1)
        return rdb_bad(err, v->r, "a vector set: a node of %llu layers has %llu numbers",
                       (unsigned long long)level + 1, (unsigned long long)n);
    if (put_number(v, n - (level + 1), err) < 0 || put_number(v, id, err) < 0 ||
        put_number(v, level, err) < 0)
        return -1;
    for (uint64_t i = 0; i <= level; i++)
        if (copy_layer(v, &left, err) < 0) return -1;
    return copy_numbers(v, left, err);
}

static int copy_graph(struct vectors *v, struct err *err)
{
    uint64_t n, id, level;
    if (read_number(v, &n, err) < 0) return -1;
    if (n < 2) return rdb_bad(err, v->r, "a vector set: a node without a level");
    if (read_number(v, &id, err) < 0 || read_number(v, &level, err) < 0) return -1;
    uint64_t form = level >> 24;
    if (form == FORM_1 && (level & 0xffffff) <= LEVEL_MAX)
        return copy_form_1(v, n, id, level & 0xffffff, err);
    v->unknown |= form != 0;
    if (put_number(v, n, err) < 0 || put_number(v, id, err) < 0 || put_number(v, level, err) < 0)
        return -1;
    return copy_numbers(v, n - 2, err);
}

static int copy_node(struct vectors *v, bool attributes, struct err *err)
{
    if (copy_string(v, err) < 0 || (attributes && copy_string(v, err) < 0)) return -1;
    return copy_string(v, err) < 0 ? -1 : copy_graph(v, err);
}

/* --- the whole --- */

static int copy_set(struct vectors *v, struct err *err)
{
    uint64_t dimension, nodes, config, flags, input;
    if (copy_number(v, &dimension, err) < 0 || copy_number(v, &nodes, err) < 0 ||
        copy_number(v, &config, err) < 0 || copy_number(v, &flags, err) < 0)
        return -1;
    if (flags & FLAG_PROJECTION && (copy_number(v, &input, err) < 0 || copy_string(v, err) < 0))
        return -1;
    for (; nodes; nodes--)
        if (copy_node(v, flags & FLAG_ATTRIBUTES, err) < 0) return -1;
    return read_op(v, OP_END, err) < 0 ? -1 : rdb_put_len(v->out, OP_END, err);
}

int transcode_vectors(struct reader *r, struct rdb_put *out, bool *ret_unknown, struct err *err)
{
    struct vectors v = {.r = r, .out = out};
    uint64_t id;
    reader_release(r);
    if (rdb_len(r, &id, err) < 0 || rdb_put_len(out, id, err) < 0) return -1;
    if (!is_vectorset(id)) return rdb_bad(err, r, "expected a vector set");
    if (copy_set(&v, err) < 0) return -1;
    reader_release(r);
    *ret_unknown = v.unknown;
    return 0;
}
