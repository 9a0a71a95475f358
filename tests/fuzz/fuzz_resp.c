// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target for RESP, commands and replies: any bytes give an answer, and the same one however
// the bytes come. Byte 0 chooses which and the limit; the rest is the input.
#include "wire/cmd.h"
#include "wire/resp.h"

#include <stdlib.h>

#define KEEP_CAP 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok) abort();
}

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3;
    return h;
}

static uint64_t mix_num(uint64_t h, uint64_t v)
{
    return mix(h, &v, sizeof v);
}

static uint64_t mix_command(uint64_t h, const struct resp_cmd *cmd)
{
    size_t index[8];
    h = mix_num(h, cmd->argc);
    h = mix(h, cmd->raw.p, cmd->raw.n);
    for (size_t i = 0; i < cmd->argc; i++)
        h = mix(h, cmd->argv[i].p, cmd->argv[i].n);
    const struct cmd_info *info = cmd->argc ? cmd_find(cmd->argv[0]) : NULL;
    if (!info) return h;
    int n = cmd_keys(info, cmd->argc, cmd->argv, 8, index);
    for (int i = 0; i < n && i < 8; i++) {
        check(index[i] > 0 && index[i] < cmd->argc);
        h = mix_num(h, index[i]);
    }
    return mix_num(h, cmd_first_key(info, cmd->argc, cmd->argv));
}

/* What was read can be written, and read again as the same. */
static void check_written(const struct resp_cmd *cmd, struct err *err)
{
    struct buf b;
    struct reader r;
    struct resp_cmds cmds;
    struct resp_cmd again;
    buf_init(&b, 1 << 22);
    resp_cmds_init(&cmds);
    check(resp_put_cmd(&b, cmd->argc, cmd->argv, err) == 0);
    reader_init_mem(&r, b.p, b.n);
    check(resp_cmd_next(&cmds, &r, SIZE_MAX, &again, err) == 0);
    check(again.argc == cmd->argc && r.p == r.end);
    for (size_t i = 0; i < cmd->argc; i++)
        check(span_eq(again.argv[i], cmd->argv[i]));
    resp_cmds_release(&cmds);
    buf_release(&b);
}

static uint64_t read_commands(struct reader *r, size_t limit)
{
    struct resp_cmds cmds;
    struct resp_cmd cmd;
    struct err err;
    uint64_t h = 0;
    int rc;
    resp_cmds_init(&cmds);
    cmds.max_args = 64;
    while ((rc = resp_cmd_next(&cmds, r, limit, &cmd, &err)) == 0) {
        check(cmd.argc > 0 && cmd.argc <= 64);
        h = mix_command(h, &cmd);
        check_written(&cmd, &err);
        reader_release(r);
    }
    h = rc == 1 ? mix_command(h, &cmd) : mix_num(h, err.code);
    check(r->p == r->keep); /* back where the command began */
    h = mix_num(h, reader_pos(r));
    resp_cmds_release(&cmds);
    return h;
}

static void on_error(void *ctx, size_t index, const char *line)
{
    uint64_t *h = ctx;
    *h = mix_num(*h, index);
    *h = mix(*h, line, strlen(line));
}

static uint64_t mix_reply(uint64_t h, const struct resp_reply *r)
{
    check(strlen(r->line) < RESP_ERROR_MAX);
    h = mix(h, &r->type, 1);
    h = mix_num(h, (uint64_t)r->integer * 2 + r->is_null);
    h = mix(h, r->line, strlen(r->line));
    return mix(h, r->bulk.p, r->bulk.n);
}

/* Each piece is a block of its own, so that a step beyond it is seen. */
static uint64_t scan_replies(const uint8_t *p, size_t n, size_t piece, bool keep)
{
    struct resp_scan s;
    struct buf b;
    struct err err;
    uint64_t h = 0;
    int rc = 0;
    resp_scan_init(&s);
    buf_init(&b, KEEP_CAP);
    s.on_nested_error = on_error;
    s.ctx = &h;
    if (keep) s.keep_bulk = &b;
    for (size_t at = 0, used = 0; at < n && rc >= 0; at += used) {
        size_t take = n - at < piece ? n - at : piece;
        uint8_t *block = malloc(take);
        memcpy(block, p + at, take);
        rc = resp_scan_feed(&s, block, take, &used, &err);
        free(block);
        check(rc < 0 || (used > 0 && used <= take && (rc == 1 || used == take)));
        if (rc == 1) h = mix_num(mix_reply(h, &s.reply), at + used);
    }
    h = rc < 0 ? mix_num(h, err.code) : mix_num(h, s.depth);
    buf_release(&b);
    return h;
}

/* The fast path must see what the scanner sees. */
static void check_plain(const uint8_t *p, size_t n)
{
    struct resp_scan s;
    struct err err;
    size_t replies = 0, used = 0, at = 0, bytes = resp_scan_plain(p, n, SIZE_MAX, &replies);
    check(bytes <= n);
    resp_scan_init(&s);
    for (size_t i = 0; i < replies; i++, at += used) {
        check(resp_scan_feed(&s, p + at, n - at, &used, &err) == 1);
        check(strcmp(s.reply.line, "OK") == 0 || strcmp(s.reply.line, "QUEUED") == 0);
    }
    check(at == bytes);
}

static void on_nested(void *ctx, size_t index, const char *line)
{
    (void)ctx;
    (void)index;
    (void)line;
    check(false);
}

/* Likewise, and what it passes over tells no error. */
static void check_quiet(const uint8_t *p, size_t n)
{
    struct resp_scan s;
    struct err err;
    size_t replies = 0, used = 0, at = 0, bytes = resp_scan_quiet(p, n, SIZE_MAX, &replies);
    check(bytes <= n);
    resp_scan_init(&s);
    s.on_nested_error = on_nested;
    for (size_t i = 0; i < replies; i++, at += used) {
        check(resp_scan_feed(&s, p + at, n - at, &used, &err) == 1);
        check(s.reply.type == '+' || s.reply.type == ':' || s.reply.type == '*');
        check(!s.reply.is_null);
    }
    check(at == bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    uint8_t how = data[0];
    size_t n = size - 1;
    const uint8_t *p = data + 1;
    if (how & 1) {
        struct reader whole, starved;
        size_t limit = how & 2 ? SIZE_MAX : (size_t)how;
        reader_init_mem(&whole, p, n);
        reader_init_starving(&starved, p, n);
        check(read_commands(&whole, limit) == read_commands(&starved, limit));
        return 0;
    }
    check_plain(p, n);
    check_quiet(p, n);
    uint64_t h = scan_replies(p, n, n, how & 2);
    check(h == scan_replies(p, n, 1, how & 2));
    check(h == scan_replies(p, n, 2 + how / 4, how & 2));
    return 0;
}
