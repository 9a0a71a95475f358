// SPDX-License-Identifier: BSD-3-Clause
// The fan: what a command reads of slots other than the one it writes. It is taken from the target,
// where everything before the command has been applied and nothing after it, and written down
// before anything is made of it: when the command is applied again, the target's keys may be of
// later.
#include "engine/fan_impl.h"

#define KEEP_BYTES (64u << 20) /* of the stream: so far back a target may have lost it */
#define CALL_BYTES (32u << 20)

/* --- asking --- */

static int ask_once(struct fan *f, struct lane *l, struct span cmd, struct err *err)
{
    struct lane_part part = {.mem = cmd};
    if (lane_call_begin(l, &part, 1, 1, err) == 0 && lane_call_wait(l, err) == 0) return 0;
    if (l->lost) fan_lose(f, l->lost);
    return -1;
}

int fan_ask(struct fan *f, uint16_t slot, size_t argc, const struct span *argv,
            void (*take)(void *ctx, const uint8_t *p, size_t n), void *ctx,
            const struct resp_reply **ret, struct err *err)
{
    struct buf cmd;
    buf_init(&cmd, CALL_BYTES);
    int rc = resp_put_cmd(&cmd, argc, argv, err);
    while (rc == 0) {
        struct lane *l = &fan_node_of(f, slot)->lane;
        l->scan.take_bulk = take;
        l->scan.take_ctx = ctx;
        rc = ask_once(f, l, buf_span(&cmd), err);
        l->scan.take_bulk = NULL;
        *ret = &l->outcome.last;
        if (rc < 0 || (*ret)->type != '-' || !fan_is_passing((*ret)->line)) break;
        char why[RESP_ERROR_MAX];
        memcpy(why, (*ret)->line, sizeof(why));
        rc = fan_wait(f, why, err);
    }
    buf_release(&cmd);
    if (rc == 0) fan_recovered(f);
    return rc;
}

static int refused(const char *name, const struct resp_reply *r, struct err *err)
{
    return err_set(err, ERR_TARGET, "target: %s was refused: %s", name, r->line);
}

/* --- deadlines --- */

/* Before 7.0. To the millisecond: the clock must not tick meanwhile. */
static const char deadline_script[] =
    "-- keyhaul: PEXPIRETIME\nlocal function now() local t=redis.call('TIME') "
    "return t[1]*1000+math.floor(t[2]/1000) end local at,left repeat at=now() "
    "left=redis.call('PTTL',KEYS[1]) until now()==at if left<0 then return left end return at+left";

/* *ret_ms: -1 none, -2 there is no such key. */
static int deadline_of(struct fan *f, struct span key, int64_t *ret_ms, struct err *err)
{
    struct fan_stream *s = f->stream;
    const struct resp_reply *r;
    struct span ask[] = {span_str("PEXPIRETIME"), key};
    struct span eval[] = {span_str("EVAL"), span_str(deadline_script), span_str("1"), key};
    uint16_t slot = slot_of(key);
    if (!s->no_expiretime) {
        if (fan_ask(f, slot, 2, ask, NULL, NULL, &r, err) < 0) return -1;
        s->no_expiretime = r->type == '-' && strstr(r->line, "unknown command");
    }
    if (s->no_expiretime && fan_ask(f, slot, 4, eval, NULL, NULL, &r, err) < 0) return -1;
    if (r->type != ':') return refused(s->no_expiretime ? "EVAL" : "PEXPIRETIME", r, err);
    *ret_ms = r->integer;
    return 0;
}

/* --- taking --- */

struct taking {
    struct inputs *in;
    struct err err;
    bool failed;
};

/* What goes wrong with our file must not end the talk with the target. */
static void take(void *ctx, const uint8_t *p, size_t n)
{
    struct taking *t = ctx;
    if (!t->failed && inputs_part(t->in, p, n, &t->err) < 0) t->failed = true;
}

static int take_one(struct fan *f, enum fan_input what, struct span key, struct err *err)
{
    struct taking t = {.in = f->stream->inputs};
    const struct resp_reply *r;
    int64_t ms = -1;
    bool element = what == FAN_INPUT_FIRST || what == FAN_INPUT_LAST;
    struct span argv[] = {span_str(element ? "LINDEX" : "DUMP"), key,
                          span_str(what == FAN_INPUT_FIRST ? "0" : "-1")};
    if (what == FAN_INPUT_DEADLINE && deadline_of(f, key, &ms, err) < 0) return -1;
    if (fan_ask(f, slot_of(key), element ? 3 : 2, argv, take, &t, &r, err) < 0) return -1;
    if (t.failed) {
        *err = t.err;
        return -1;
    }
    bool other_type = r->type == '-' && strncmp(r->line, "WRONGTYPE", 9) == 0;
    if (r->type != '$' && !r->is_null && !other_type)
        return refused(element ? "LINDEX" : "DUMP", r, err);
    return inputs_value(t.in, r->type == '$' && !r->is_null, ms > 0 ? ms : 0, err);
}

static int take_all(struct fan *f, const struct fan_cmd *c, enum fan_input what,
                    const struct span *keys, size_t n, struct err *err)
{
    struct inputs *in = f->stream->inputs;
    uint64_t told = f->stream->told_w;
    inputs_done(in, told > KEEP_BYTES ? told - KEEP_BYTES : 0);
    if (inputs_begin(in, c->when.offset, n, err) < 0) return -1;
    for (size_t i = 0; i < n; i++)
        if (take_one(f, what, keys[i], err) < 0) return -1;
    return inputs_end(in, err);
}

/* Again while the disk is full. */
static int take_patiently(struct fan *f, const struct fan_cmd *c, enum fan_input what,
                          const struct span *keys, size_t n, struct err *err)
{
    for (;;) {
        struct err why;
        if (take_all(f, c, what, keys, n, &why) == 0) return 0;
        if (why.code != ERR_BUSY || f->lost || f->pause->gave_up || *f->lane_config.stop) {
            *err = why;
            return -1;
        }
        if (lane_pause(f->pause, why.msg, err) < 0) return -1;
    }
}

int fan_take_inputs(struct fan *f, const struct fan_cmd *c, enum fan_input what,
                    const struct span *keys, size_t n, const struct inputs_value **ret,
                    struct err *err)
{
    struct inputs *in = f->stream->inputs;
    size_t found;
    int rc = inputs_find(in, c->when.offset, ret, &found, err);
    if (rc < 0) return -1;
    bool again = rc == 1;
    if (!again) {
        if (!inputs_covers(in, c->when.offset) &&
            fan_cross_refuse(f, c, keys[0],
                             "it may have been applied before, and what it read of other slots is "
                             "not known any more (is the folder of this task not the one it had?); "
                             "the key that it writes has to be compared",
                             err) < 0)
            return -1;
        if (take_patiently(f, c, what, keys, n, err) < 0) return -1;
        rc = inputs_find(in, c->when.offset, ret, &found, err);
    }
    if (rc < 0) return -1;
    return rc == 1 && found == n ? again : err_set(err, ERR_INTERNAL, "inputs do not read back");
}
