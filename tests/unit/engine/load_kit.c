// SPDX-License-Identifier: BSD-3-Clause
// Snapshots made by hand, and the commands that a load made of them.
#include "load_kit.h"

#include "base/crc64.h"

#include <lzf.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RDB_BYTES (64u << 20)

static void put(struct buf *b, const void *p, size_t n)
{
    assert_int_equal(buf_add(b, p, n, NULL), 0);
}

void kit_begin(struct buf *b, const char *magic)
{
    buf_init(b, RDB_BYTES);
    put(b, magic, 9);
}

void kit_u8(struct buf *b, unsigned v)
{
    put(b, &(uint8_t){(uint8_t)v}, 1);
}

void kit_le(struct buf *b, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        kit_u8(b, (unsigned)(v >> (8 * i) & 0xff));
}

void kit_len(struct buf *b, uint64_t n)
{
    if (n < 64) {
        kit_u8(b, (unsigned)n);
        return;
    }
    kit_u8(b, 0x80);
    for (int i = 3; i >= 0; i--)
        kit_u8(b, (unsigned)(n >> (8 * i) & 0xff));
}

void kit_bytes(struct buf *b, const void *p, size_t n)
{
    kit_len(b, n);
    put(b, p, n);
}

void kit_str(struct buf *b, const char *s)
{
    kit_bytes(b, s, strlen(s));
}

void kit_lzf(struct buf *b, const void *p, size_t n)
{
    uint8_t *out = malloc(n);
    assert_non_null(out);
    unsigned stored = lzf_compress(p, (unsigned)n, out, (unsigned)n - 1);
    assert_true(stored > 0);
    kit_u8(b, 0xc3);
    kit_len(b, stored);
    kit_len(b, n);
    put(b, out, stored);
    free(out);
}

void kit_select(struct buf *b, unsigned db)
{
    kit_u8(b, 254);
    kit_len(b, db);
}

void kit_aux(struct buf *b, const char *name, const char *value)
{
    kit_u8(b, 250);
    kit_str(b, name);
    kit_str(b, value);
}

void kit_expire(struct buf *b, int64_t ms)
{
    kit_u8(b, 252);
    kit_le(b, (uint64_t)ms, 8);
}

void kit_key(struct buf *b, unsigned type, const char *key)
{
    kit_u8(b, type);
    kit_str(b, key);
}

void kit_end(struct buf *b)
{
    kit_u8(b, 255);
    kit_le(b, crc64_portable(0, b->p, b->n), 8);
}

void kit_cmds_begin(struct kit_cmds *it, const struct buf *raw)
{
    reader_init_mem(&it->r, raw->p, raw->n);
    resp_cmds_init(&it->parser);
}

bool kit_cmds_next(struct kit_cmds *it)
{
    reader_release(&it->r);
    if (it->r.p == it->r.end) return false;
    assert_int_equal(resp_cmd_next(&it->parser, &it->r, SIZE_MAX / 2, &it->cmd, NULL), 0);
    return true;
}

void kit_cmds_end(struct kit_cmds *it)
{
    resp_cmds_release(&it->parser);
}

/* CRC-64 "Jones" bit by bit, from its polynomial 0xad93d23594c935a9 read backwards. */
static uint64_t crc_by_bits(const uint8_t *p, size_t n)
{
    uint64_t crc = 0;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x95ac9329ac4bc9b5 : crc >> 1;
    }
    return crc;
}

struct span kit_payload(struct span payload, unsigned type, unsigned version)
{
    assert_true(payload.n >= 11);
    const uint8_t *foot = payload.p + payload.n - 10;
    uint64_t crc = 0;
    for (int i = 7; i >= 0; i--)
        crc = crc << 8 | foot[2 + i];
    assert_int_equal(payload.p[0], type);
    assert_int_equal(foot[0] | foot[1] << 8, version);
    assert_int_equal(crc, crc_by_bits(payload.p, payload.n - 8));
    return span_of(payload.p + 1, payload.n - 11);
}

void kit_noise(uint8_t *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = (uint8_t)(seed >> 24);
    }
}

void kit_load(struct rig *g, const struct buf *rdb, enum rig_feed feed)
{
    if (rig_load(g, buf_span(rdb), feed) < 0) fail_msg("%s", g->err.msg);
}
