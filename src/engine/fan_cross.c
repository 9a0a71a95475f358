// SPDX-License-Identifier: BSD-3-Clause
// The fan: commands that concern several slots. What they read is brought to where they write
// (docs/decisions/0004); of those that write two slots, the one that receives goes first:
//
//   SUNIONSTORE d a b    MULTI  RESTORE tmp:0 ..  RESTORE tmp:1 ..  SUNIONSTORE d tmp:0 tmp:1
//                               DEL tmp:0 tmp:1  SET <mark of d's slot> ..  EXEC
//   RENAME a d           MULTI  RESTORE d ..  SET <mark of d's slot> ..  EXEC
//                        MULTI  DEL a         SET <mark of a's slot> ..  EXEC
//   LMOVE a d LEFT RIGHT as RENAME, by RPUSH d <what LINDEX a 0 was> and LPOP a
//
// A slot whose mark tells that it has had its part is left alone.
#include "engine/fan_impl.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#define TMP_NAME 48

struct cross {
    struct fan *f;
    struct batch *b;
    struct fan_cmd c;  /* its argv is a copy of ours */
    struct span *keys; /* owned, with room for all arguments twice */
    size_t *at;        /* owned: where they are among the arguments */
    size_t n;
};

int fan_cross_refuse(struct fan *f, const struct fan_cmd *c, struct span key, const char *words,
                     struct err *err)
{
    char name[32];
    snprintf(name, sizeof(name), "%.*s", (int)(c->argv[0].n < 31 ? c->argv[0].n : 31),
             (const char *)c->argv[0].p);
    return refusals_report(f->lane_config.refusals, 0, key, name, words, err);
}

static bool has_had(const struct cross *x, uint16_t slot)
{
    return x->c.when.offset <= x->f->stream->slots[slot].o;
}

static int add(struct cross *x, uint16_t slot, size_t argc, const struct span *argv, uint64_t in_at,
               struct err *err)
{
    return fan_stage_add(x->f->stream, &x->c, slot, argc, argv, in_at, err);
}

/* --- read here, written there --- */

/* Under a name of ours in the slot `of`. */
static struct span tmp_name(const struct cross *x, char out[TMP_NAME], uint16_t of, size_t i)
{
    int n = snprintf(out, TMP_NAME, "keyhaul:tmp:{%s}:%zu",
                     slot_tag(&x->f->stream->place->tags, of), i);
    return span_of(out, (size_t)n);
}

static int add_restore(struct cross *x, uint16_t slot, struct span key,
                       const struct inputs_value *v, struct err *err)
{
    struct span restore[] = {
        span_str("RESTORE"), key, span_str("0"), {NULL, (size_t)v->n}, span_str("REPLACE")};
    return add(x, slot, 5, restore, v->at, err);
}

/* Those keys of other slots that are there; in the command their names become ours. */
static int add_inputs(struct cross *x, uint16_t slot, char (*names)[TMP_NAME], struct span *del,
                      size_t *n_del, struct err *err)
{
    const struct inputs_value *v;
    struct span *others = x->keys + x->c.argc;
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++)
        if (slot_of(x->keys[i]) != slot) others[n++] = x->keys[i];
    if (fan_take_inputs(x->f, &x->c, FAN_INPUT_VALUE, others, n, &v, err) < 0) return -1;
    fan_stage_begin(x->f->stream);
    for (size_t i = 0, k = 0; i < x->n; i++) {
        if (slot_of(x->keys[i]) == slot) continue;
        struct span tmp = tmp_name(x, names[k], slot, k);
        x->c.argv[x->at[i]] = tmp;
        if (v[k].there && add_restore(x, slot, tmp, &v[k], err) < 0) return -1;
        if (v[k].there) del[(*n_del)++] = tmp;
        k++;
    }
    return 0;
}

/* It writes the key with this index, and reads all. */
static int combine(struct cross *x, size_t writes, struct err *err)
{
    uint16_t slot = slot_of(x->keys[writes]);
    size_t n_del = 1;
    if (has_had(x, slot)) return 0;
    char(*names)[TMP_NAME] = calloc(x->n, TMP_NAME);
    struct span *del = calloc(x->n + 1, sizeof(*del));
    int rc = names && del ? 0 : err_set(err, ERR_NOMEM, "out of memory for a command");
    if (rc == 0) {
        del[0] = span_str("DEL");
        rc = add_inputs(x, slot, names, del, &n_del, err);
    }
    if (rc == 0) rc = add(x, slot, x->c.argc, x->c.argv, 0, err);
    if (rc == 0 && n_del > 1) rc = add(x, slot, n_del, del, 0, err);
    if (rc == 0) rc = fan_run_stage(x->f, x->b, err);
    free(names);
    free(del);
    return rc;
}

static int combine_into_first(struct cross *x, struct err *err)
{
    return combine(x, 0, err);
}

static int combine_into_last(struct cross *x, struct err *err)
{
    return combine(x, x->n - 1, err);
}

/* BY and GET name further keys by patterns. */
static int sort(struct cross *x, struct err *err)
{
    const struct fan_cmd *c = &x->c;
    for (size_t i = 2; i + 1 < c->argc; i++) {
        bool by = span_is(c->argv[i], "BY"), get = span_is(c->argv[i], "GET");
        if (span_is(c->argv[i], "LIMIT")) i += 2;
        if (!by && !get) continue;
        struct span pattern = c->argv[++i];
        if (pattern.n && memchr(pattern.p, '*', pattern.n))
            return fan_cross_refuse(x->f, c, x->keys[x->n - 1],
                                    "it sorts by other keys, which are in several slots of the "
                                    "cluster",
                                    err);
    }
    return combine(x, x->n - 1, err);
}

/* --- from one slot to another --- */

/* 1: not there, which has been told; `again`: when it was applied first. */
static int missing(struct cross *x, bool again, struct err *err)
{
    if (again) return 1;
    return fan_cross_refuse(x->f, &x->c, x->keys[0], "this key is not on the target", err) < 0 ? -1
                                                                                               : 1;
}

/* The second key becomes what the first was. 1: that was nothing. */
static int receive(struct cross *x, struct err *err)
{
    const struct inputs_value *v;
    struct span to = x->keys[1];
    uint16_t slot = slot_of(to);
    if (has_had(x, slot)) return 0;
    int rc = fan_take_inputs(x->f, &x->c, FAN_INPUT_DEADLINE, x->keys, 1, &v, err);
    if (rc < 0) return -1;
    if (!v->there) return missing(x, rc == 1, err);
    char ms[NUM_INT64_CHARS];
    struct span expire[] = {span_str("PEXPIREAT"), to,
                            span_of(ms, num_put_i64(ms, v->deadline_ms))};
    fan_stage_begin(x->f->stream);
    if (add_restore(x, slot, to, v, err) < 0) return -1;
    if (v->deadline_ms && add(x, slot, 3, expire, 0, err) < 0) return -1;
    return fan_run_stage(x->f, x->b, err);
}

/* COPY without REPLACE took effect, or would not be in the stream. */
static int copy(struct cross *x, struct err *err)
{
    return receive(x, err) < 0 ? -1 : 0;
}

static int give(struct cross *x, size_t argc, const struct span *argv, struct err *err)
{
    fan_stage_begin(x->f->stream);
    if (add(x, slot_of(x->keys[0]), argc, argv, 0, err) < 0) return -1;
    return fan_run_stage(x->f, x->b, err);
}

static int rename_key(struct cross *x, struct err *err)
{
    struct span del[] = {span_str("DEL"), x->keys[0]};
    int rc = receive(x, err);
    return rc < 0 ? -1 : rc > 0 ? 0 : give(x, 2, del, err);
}

static int move_element(struct cross *x, bool from_left, bool to_left, struct err *err)
{
    const struct inputs_value *v;
    uint16_t slot = slot_of(x->keys[1]);
    struct span pop[] = {span_str(from_left ? "LPOP" : "RPOP"), x->keys[0]};
    if (!has_had(x, slot)) {
        enum fan_input what = from_left ? FAN_INPUT_FIRST : FAN_INPUT_LAST;
        int rc = fan_take_inputs(x->f, &x->c, what, x->keys, 1, &v, err);
        if (rc < 0) return -1;
        if (!v->there) return missing(x, rc == 1, err) < 0 ? -1 : 0;
        struct span push[] = {
            span_str(to_left ? "LPUSH" : "RPUSH"), x->keys[1], {NULL, (size_t)v->n}};
        fan_stage_begin(x->f->stream);
        if (add(x, slot, 3, push, v->at, err) < 0 || fan_run_stage(x->f, x->b, err) < 0) return -1;
    }
    return give(x, 2, pop, err);
}

/* LMOVE, BLMOVE from to LEFT|RIGHT LEFT|RIGHT */
static int lmove(struct cross *x, struct err *err)
{
    const struct fan_cmd *c = &x->c;
    return move_element(x, c->argc > 3 && span_is(c->argv[3], "LEFT"),
                        c->argc > 4 && span_is(c->argv[4], "LEFT"), err);
}

static int rpoplpush(struct cross *x, struct err *err)
{
    return move_element(x, false, true, err);
}

/* --- which is which --- */

static const struct verb {
    const char *name;
    int (*apply)(struct cross *x, struct err *err);
} verbs[] = {
    {"SUNIONSTORE", combine_into_first},
    {"SINTERSTORE", combine_into_first},
    {"SDIFFSTORE", combine_into_first},
    {"ZUNIONSTORE", combine_into_first},
    {"ZINTERSTORE", combine_into_first},
    {"ZDIFFSTORE", combine_into_first},
    {"ZRANGESTORE", combine_into_first},
    {"GEOSEARCHSTORE", combine_into_first},
    {"PFMERGE", combine_into_first},
    {"BITOP", combine_into_first},
    {"GEORADIUS", combine_into_last},
    {"GEORADIUSBYMEMBER", combine_into_last},
    {"SORT", sort},
    {"COPY", copy},
    {"RENAME", rename_key},
    {"RENAMENX", rename_key},
    {"LMOVE", lmove},
    {"BLMOVE", lmove},
    {"RPOPLPUSH", rpoplpush},
    {"BRPOPLPUSH", rpoplpush},
};

static const struct verb *find_verb(struct span name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (span_is(name, verbs[i].name)) return &verbs[i];
    return NULL;
}

/* A script of ours (replay_script.c), for what the target does not know: it begins with the name of
 * what it stands for, and has the same keys in the same order. 1: it is none. */
static int script(struct cross *x, struct err *err)
{
    static const char ours[] = "-- keyhaul: ";
    const struct fan_cmd *c = &x->c;
    const size_t from = sizeof(ours) - 1;
    struct span text = c->argv[1];
    if (text.n < from || memcmp(text.p, ours, from) != 0) return 1;
    const uint8_t *end = memchr(text.p + from, '\n', text.n - from);
    struct span name = span_of(text.p + from, end ? (size_t)(end - text.p) - from : 0);
    if (span_is(name, "LMOVE") && c->argc == 8) /* from, to, index, pop, push */
        return move_element(x, span_is(c->argv[5], "0"), span_is(c->argv[7], "LPUSH"), err);
    const struct verb *v = find_verb(name);
    return v ? v->apply(x, err) : 1;
}

static int apply(struct cross *x, struct err *err)
{
    struct span name = span_str(x->c.info->name);
    const struct verb *v = find_verb(name);
    if (x->c.info->flags & CMD_READONLY) return 0;
    if (v) return v->apply(x, err);
    int rc = span_is(name, "EVAL") ? script(x, err) : 1;
    if (rc <= 0) return rc;
    return fan_cross_refuse(x->f, &x->c, x->keys[0], "its keys are in several slots of the cluster",
                            err);
}

static int own_arguments(struct cross *x, const struct fan_cmd *c, const size_t *index, size_t n,
                         struct err *err)
{
    x->c.argv = calloc(c->argc, sizeof(*x->c.argv));
    x->keys = calloc(2 * c->argc, sizeof(*x->keys));
    x->at = calloc(n, sizeof(*x->at));
    if (!x->c.argv || !x->keys || !x->at)
        return err_set(err, ERR_NOMEM, "out of memory for a command");
    memcpy(x->c.argv, c->argv, c->argc * sizeof(*c->argv));
    memcpy(x->at, index, n * sizeof(*index));
    x->n = n;
    for (size_t i = 0; i < n; i++)
        x->keys[i] = c->argv[index[i]];
    return 0;
}

int fan_cross(struct fan *f, struct batch *b, const struct fan_cmd *c, struct err *err)
{
    const size_t *index;
    size_t n;
    if (fan_keys(f->stream, c, &index, &n, err) < 0) return -1;
    fan_stage_begin(f->stream);
    if (n == 0) return fan_cross_nodes(f, b, c, err);
    struct cross x = {.f = f, .b = b, .c = *c};
    int rc = own_arguments(&x, c, index, n, err);
    counter_add(&f->lane_config.counters->commands_carried, 1);
    if (rc == 0) rc = apply(&x, err);
    free(x.c.argv);
    free(x.keys);
    free(x.at);
    return rc;
}
