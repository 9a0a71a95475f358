// SPDX-License-Identifier: BSD-3-Clause
// Snapshots and streams that are always the same.
#include "input.h"

#include "base/crc64.h"
#include "wire/rdb/put.h"
#include "wire/rdb/rdb.h"
#include "wire/resp.h"

#include <lzf.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTES_MAX (64u << 20)
#define TEXT_MAX  1024

struct maker {
    struct rdb_put out;
    struct buf bytes, pack; /* the RDB; a listpack that is being made */
    unsigned pack_n;
    uint32_t seed;
};

static void must(int rc)
{
    if (rc == 0) return;
    fprintf(stderr, "cost: no memory for the input\n");
    exit(2);
}

static uint32_t noise(struct maker *m)
{
    m->seed = m->seed * 1664525 + 1013904223;
    return m->seed >> 8;
}

static struct span noise_bytes(struct maker *m, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)noise(m);
    return span_of(out, n);
}

static void put_bytes(struct maker *m, const void *p, size_t n)
{
    must(rdb_put_bytes(&m->out, p, n, NULL));
}

static void put_byte(struct maker *m, unsigned v)
{
    put_bytes(m, &(uint8_t){(uint8_t)v}, 1);
}

static void put_str(struct maker *m, struct span s)
{
    must(rdb_put_str(&m->out, s, NULL));
}

/* --- listpacks --- */

static void pack_begin(struct maker *m)
{
    buf_clear(&m->pack);
    must(buf_add(&m->pack, "\0\0\0\0\0\0", 6, NULL));
    m->pack_n = 0;
}

static void pack_entry(struct maker *m, const uint8_t *head, size_t head_n, struct span body)
{
    uint8_t back = (uint8_t)(head_n + body.n); /* below 128 it is one byte */
    must(buf_add(&m->pack, head, head_n, NULL));
    if (body.n) must(buf_add(&m->pack, body.p, body.n, NULL));
    must(buf_add(&m->pack, &back, 1, NULL));
    m->pack_n++;
}

static void pack_str(struct maker *m, struct span s) /* up to 63 bytes */
{
    pack_entry(m, &(uint8_t){(uint8_t)(0x80 | s.n)}, 1, s);
}

static void pack_int(struct maker *m, uint32_t v) /* up to 24 bits */
{
    uint8_t e[] = {0xf2, (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16 & 0x7f)};
    if (v < 128)
        pack_entry(m, &(uint8_t){(uint8_t)v}, 1, (struct span){0});
    else
        pack_entry(m, e, sizeof(e), (struct span){0});
}

static void pack_end(struct maker *m)
{
    must(buf_add(&m->pack, "\xff", 1, NULL));
    for (unsigned i = 0; i < 4; i++)
        m->pack.p[i] = (uint8_t)(m->pack.n >> (8 * i));
    m->pack.p[4] = (uint8_t)m->pack_n;
    m->pack.p[5] = (uint8_t)(m->pack_n >> 8);
    put_str(m, buf_span(&m->pack));
}

/* --- keys --- */

static void put_key(struct maker *m, unsigned type, const char *prefix, unsigned i)
{
    char key[32];
    int n = snprintf(key, sizeof(key), "%s:%u", prefix, i);
    put_byte(m, type);
    put_str(m, span_of(key, (size_t)n));
}

static void put_plain(struct maker *m, unsigned i, size_t n)
{
    uint8_t value[TEXT_MAX];
    put_key(m, RDB_STRING, "key", i);
    put_str(m, noise_bytes(m, value, n));
}

static void put_hash(struct maker *m, unsigned i, unsigned fields)
{
    uint8_t value[20];
    char name[16];
    put_key(m, RDB_HASH_LISTPACK, "hash", i);
    pack_begin(m);
    for (unsigned f = 0; f < fields; f++) {
        int n = snprintf(name, sizeof(name), "field:%u", f);
        pack_str(m, span_of(name, (size_t)n));
        pack_str(m, noise_bytes(m, value, sizeof(value)));
    }
    pack_end(m);
}

static void put_list(struct maker *m, unsigned i)
{
    uint8_t value[32];
    put_key(m, RDB_LIST_QUICKLIST_2, "list", i);
    must(rdb_put_len(&m->out, 1, NULL)); /* nodes */
    must(rdb_put_len(&m->out, 2, NULL)); /* packed */
    pack_begin(m);
    pack_str(m, noise_bytes(m, value, sizeof(value)));
    pack_int(m, i);
    pack_str(m, span_str("c"));
    pack_end(m);
}

static void put_zset(struct maker *m, unsigned i)
{
    uint8_t value[24];
    char score[16];
    put_key(m, RDB_ZSET_LISTPACK, "zset", i);
    pack_begin(m);
    for (unsigned j = 0; j < 3; j++) {
        pack_str(m, noise_bytes(m, value, sizeof(value)));
        int n = snprintf(score, sizeof(score), "%u.5", noise(m) % 1000);
        pack_str(m, span_of(score, (size_t)n));
    }
    pack_end(m);
}

static void put_set(struct maker *m, unsigned i)
{
    uint8_t ints[8 + 4 * 4] = {4, 0, 0, 0, 4}; /* of 4 bytes, so many */
    put_key(m, RDB_SET_INTSET, "set", i);
    for (unsigned j = 0; j < 4; j++)
        for (unsigned b = 0; b < 4; b++)
            ints[8 + 4 * j + b] = (uint8_t)((i + j * 1000) >> (8 * b));
    put_str(m, span_of(ints, sizeof(ints)));
}

static void put_table(struct maker *m, unsigned i)
{
    uint8_t value[70]; /* longer than a listpack takes */
    put_key(m, RDB_HASH, "table", i);
    must(rdb_put_len(&m->out, 2, NULL));
    for (unsigned j = 0; j < 2; j++) {
        put_str(m, span_str(j ? "name" : "mail"));
        put_str(m, noise_bytes(m, value, sizeof(value)));
    }
}

static void put_mixed(struct maker *m, unsigned i)
{
    if (i % 2) {
        put_byte(m, 252); /* expires, ms */
        must(rdb_put_u64le(&m->out, 1900000000000 + noise(m), NULL));
    }
    switch (i % 7) {
    case 0: put_plain(m, i, 32); break;
    case 1: put_list(m, i); break;
    case 2: put_zset(m, i); break;
    case 3: put_set(m, i); break;
    case 4: put_table(m, i); break;
    case 5: put_hash(m, i, 3); break;
    default:
        put_key(m, RDB_STRING, "count", i);
        put_bytes(m, (uint8_t[]){0xc1, (uint8_t)i, (uint8_t)(i >> 8)}, 3); /* as an int16 */
    }
}

static void put_compressed(struct maker *m, unsigned i)
{
    char text[TEXT_MAX];
    uint8_t packed[TEXT_MAX];
    size_t n = 0;
    for (unsigned j = 0; j < 8; j++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "{\"id\":%u,\"name\":\"user%u\",\"email\":\"user%u@example.com\"},",
                              i * j, i, i);
    unsigned stored = lzf_compress(text, (unsigned)n, packed, (unsigned)n - 1);
    must(stored ? 0 : -1);
    put_key(m, RDB_STRING, "json", i);
    put_byte(m, 0xc3);
    must(rdb_put_len(&m->out, stored, NULL));
    must(rdb_put_len(&m->out, n, NULL));
    put_bytes(m, packed, stored);
}

static void put_one(struct maker *m, enum input_kind kind, unsigned i)
{
    switch (kind) {
    case INPUT_STRINGS: put_plain(m, i, 100); return;
    case INPUT_MIXED: put_mixed(m, i); return;
    case INPUT_HASHES: put_hash(m, i, 20); return;
    case INPUT_COMPRESSED: put_compressed(m, i); return;
    }
}

void input_rdb(struct buf *ret, enum input_kind kind, unsigned keys)
{
    struct maker m = {.seed = 7};
    buf_init(&m.bytes, BYTES_MAX);
    buf_init(&m.pack, TEXT_MAX);
    m.out.to = &m.bytes;
    put_bytes(&m, "REDIS0011\xfe\0", 11); /* database 0 */
    for (unsigned i = 0; i < keys; i++)
        put_one(&m, kind, i);
    put_byte(&m, 255);
    must(rdb_put_u64le(&m.out, crc64(0, m.bytes.p, m.bytes.n), NULL));
    buf_release(&m.pack);
    *ret = m.bytes;
}

/* --- the stream --- */

/* Of the words '#' is this number. */
static void put_words(struct buf *to, const char *words, unsigned number, struct span last)
{
    char text[128];
    struct span argv[8];
    size_t argc = 0;
    char *at = text;
    for (; *words; words++) {
        char *from = at;
        if (*words == '#')
            at += snprintf(at, 12, "%u", number);
        else if (*words != ' ')
            *at++ = *words;
        if (from == text || words[-1] == ' ') argv[argc++] = span_of(from, 0);
        argv[argc - 1].n += (size_t)(at - from);
    }
    if (last.n) argv[argc++] = last;
    must(resp_put_cmd(to, argc, argv, NULL));
}

static uint64_t put_turn(struct maker *m, unsigned i)
{
    static const char *const usual[] = {
        "SET key:#",    "SET key:#",       "SET session:#",
        "INCR count:#", "LPUSH list:#",    "HSET hash:# field",
        "SADD set:#",   "ZADD zset:# 1.5", "PEXPIREAT key:# 1900000000000"};
    uint8_t value[100];
    uint64_t n = 0;
    for (size_t j = 0; j < sizeof(usual) / sizeof(usual[0]); j++, n++) {
        bool none = j == 3 || j == 8;
        put_words(&m->bytes, usual[j], noise(m) % 100000,
                  none ? (struct span){0} : noise_bytes(m, value, j < 3 ? 100 : 20));
    }
    put_words(&m->bytes, "MULTI", 0, (struct span){0});
    for (unsigned j = 0; j < 3; j++, n++)
        put_words(&m->bytes, j == 2 ? "DEL key:#" : "HINCRBY total:# sum 1", i + j,
                  (struct span){0});
    put_words(&m->bytes, "EXEC", 0, (struct span){0});
    return n;
}

void input_stream(struct buf *ret, unsigned turns, uint64_t *ret_n)
{
    struct maker m = {.seed = 11};
    buf_init(&m.bytes, BYTES_MAX);
    put_words(&m.bytes, "SELECT 0", 0, (struct span){0});
    *ret_n = 0;
    for (unsigned i = 0; i < turns; i++)
        *ret_n += put_turn(&m, i);
    *ret = m.bytes;
}
