// SPDX-License-Identifier: BSD-3-Clause
// A batch into groups, one per slot: each command, or its share, goes to the group of its slot.
#include "engine/fan_impl.h"

#include "base/num.h"

#include <stdio.h>

#define MULTI_BYTES 15          /* of a batch's store: MULTI, which is not for us */
#define HELD_MAX    (16u << 20) /* larger commands are looked at in part */
#define ARG_MAX     (64u << 10) /* of them, arguments that are */
#define GIANT_ARGS  64
#define EXTRA_MAX   (64u << 20)
#define NAME_BYTES  96
#define AHEAD       8 /* slots come in any order, and what is known of them is 256 KB */

void fan_split_begin(struct fan_stream *s)
{
    s->next_at = MULTI_BYTES;
    s->next_n = 0;
    s->unit = 0;
}

/* --- reading a command back --- */

static int broken(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "a batch does not read back");
}

/* "<type><number>\r\n" at *p. */
static bool take_number(const uint8_t **p, const uint8_t *end, char type, uint64_t *ret)
{
    const uint8_t *at = *p;
    uint64_t v = 0;
    if (at == end || *at++ != (uint8_t)type) return false;
    const uint8_t *first = at;
    while (at < end && *at >= '0' && *at <= '9' && at - first < 18)
        v = v * 10 + (uint64_t)(*at++ - '0');
    if (at == first || end - at < 2 || at[0] != '\r' || at[1] != '\n') return false;
    *ret = v;
    *p = at + 2;
    return true;
}

static int keep_arg(struct fan_stream *s, struct span arg, struct err *err)
{
    return buf_add(&s->argv, &arg, sizeof(arg), err);
}

/* 1 parsed, *ret_n bytes of it; 0 not all of it lies there, s->argv are the first arguments; -1 */
static int parse(struct fan_stream *s, const uint8_t *p, size_t n, size_t *ret_n, struct err *err)
{
    const uint8_t *at = p, *end = p + n;
    uint64_t argc, len;
    buf_clear(&s->argv);
    if (!take_number(&at, end, '*', &argc) || argc > n) return 0;
    if (buf_reserve(&s->argv, (size_t)argc * sizeof(struct span), err) < 0) return -1;
    struct span *argv = (struct span *)(void *)s->argv.p;
    for (uint64_t i = 0; i < argc; i++) {
        if (!take_number(&at, end, '$', &len) || (uint64_t)(end - at) < len + 2) {
            s->argv.n = (size_t)i * sizeof(struct span);
            return 0;
        }
        argv[i] = span_of(at, (size_t)len);
        at += len + 2;
    }
    s->argv.n = (size_t)argc * sizeof(struct span);
    *ret_n = (size_t)(at - p);
    return 1;
}

static int stored_number(const struct store *st, uint64_t *at, char type, uint64_t *ret,
                         struct err *err)
{
    uint8_t line[32];
    ssize_t n = store_read(st, *at, line, sizeof(line), err);
    const uint8_t *p = line;
    if (n < 0) return -1;
    if (!take_number(&p, line + n, type, ret)) return broken(err);
    *at += (uint64_t)(p - line);
    return 0;
}

/* Where it ends; of the first arguments those that are not too long are kept. */
static int parse_giant(struct fan_stream *s, const struct store *st, uint64_t from,
                       uint64_t *ret_to, struct err *err)
{
    uint64_t at = from, argc, len;
    buf_clear(&s->argv);
    buf_clear(&s->text);
    if (buf_reserve(&s->text, GIANT_ARGS * ARG_MAX, err) < 0) return -1; /* it must not move */
    if (stored_number(st, &at, '*', &argc, err) < 0) return -1;
    for (uint64_t i = 0; i < argc; i++) {
        if (stored_number(st, &at, '$', &len, err) < 0) return -1;
        struct span arg = {NULL, (size_t)len};
        if (i < GIANT_ARGS && len <= ARG_MAX) {
            arg.p = s->text.p + s->text.n;
            if (store_read(st, at, s->text.p + s->text.n, (size_t)len, err) < (ssize_t)len)
                return broken(err);
            s->text.n += (size_t)len;
        }
        if (i < RESP_ARGS_MAX && keep_arg(s, arg, err) < 0) return -1;
        at += len + 2;
    }
    *ret_to = at;
    return 0;
}

/* It lies on disk, or partly. */
static int parse_stored(struct fan_stream *s, const struct store *st, uint64_t from,
                        uint64_t *ret_to, struct err *err)
{
    uint64_t to = 0;
    size_t n;
    if (parse_giant(s, st, from, &to, err) < 0) return -1;
    *ret_to = to;
    if (to - from > HELD_MAX) return 0;
    buf_clear(&s->text);
    if (buf_reserve(&s->text, (size_t)(to - from), err) < 0) return -1;
    if (store_read(st, from, s->text.p, (size_t)(to - from), err) < (ssize_t)(to - from))
        return broken(err);
    int rc = parse(s, s->text.p, (size_t)(to - from), &n, err);
    return rc == 1 ? 0 : rc < 0 ? -1 : broken(err);
}

/* The unit of the command behind those dealt with, and its offset within that. */
static inline struct fan_when when(struct fan_stream *s, const struct batch *b)
{
    const struct batch_whole *w = (const struct batch_whole *)(const void *)b->marks.p;
    size_t n = b->marks.n / sizeof(*w);
    while (s->unit < n && w[s->unit].n <= s->next_n)
        s->unit++;
    bool last = s->unit == n;
    uint64_t end = last ? b->n : w[s->unit].n, offset = last ? b->end_offset : w[s->unit].offset;
    return (struct fan_when){.offset = offset - (end - 1 - s->next_n),
                             .unit = s->unit,
                             .read = !last && w[s->unit].read};
}

static int next_command(struct fan_stream *s, const struct batch *b, struct fan_cmd *c,
                        struct err *err)
{
    const struct store *st = &b->st;
    size_t n = 0;
    *c = (struct fan_cmd){.from = s->next_at};
    int rc = 0;
    if (s->next_at < st->mem.n)
        rc = parse(s, st->mem.p + s->next_at, st->mem.n - (size_t)s->next_at, &n, err);
    if (rc < 0) return -1;
    c->to = s->next_at + n * (rc == 1);
    if (rc == 0 && parse_stored(s, st, c->from, &c->to, err) < 0) return -1;
    c->argv = (struct span *)(void *)s->argv.p;
    c->argc = s->argv.n / sizeof(struct span);
    if (c->argc == 0) return broken(err);
    c->info = cmd_find(c->argv[0]);
    c->when = when(s, b);
    return 0;
}

static void pass(struct fan_stream *s, const struct fan_cmd *c)
{
    s->next_at = c->to;
    s->next_n++;
}

/* --- groups --- */

static inline struct fan_group *group_for(struct fan_stream *s, uint16_t slot, struct err *err)
{
    struct fan_slot *at = &s->slots[slot];
    if (at->stamp == s->stamp) return fan_group(s, at->group);
    at->stamp = s->stamp;
    at->group = fan_groups(s);
    struct fan_group *g = buf_more(&s->groups, sizeof(*g), err);
    if (g)
        *g = (struct fan_group){
            .slot = slot, .first = FAN_NONE, .last = FAN_NONE, .unit = FAN_NONE, .bare = true};
    return g;
}

static inline int add_piece(struct fan_stream *s, struct fan_when when, uint16_t slot,
                            const struct fan_piece *piece, struct err *err)
{
    /* By the run before; but what has been read may be of the offset of the slot's last change. */
    if (when.offset <= s->slots[slot].o && !when.read) return 0;
    uint32_t at = (uint32_t)(s->pieces.n / sizeof(*piece));
    struct fan_group *g = group_for(s, slot, err);
    struct fan_piece *p = g ? buf_more(&s->pieces, sizeof(*p), err) : NULL;
    if (!p) return -1;
    *p = *piece;
    p->next = FAN_NONE;
    if (g->first == FAN_NONE)
        g->first = at;
    else
        fan_piece(s, g->last)->next = at;
    /* What belongs together, a transaction of the source or a command and its deadline, stays so.
     */
    g->bare &= piece->again && g->unit != when.unit;
    g->last = at;
    g->unit = when.unit;
    g->offset = when.offset;
    g->n++;
    return 0;
}

static int add_raw(struct fan_stream *s, const struct fan_cmd *c, uint16_t slot, struct err *err)
{
    struct fan_piece piece = {.from = c->from,
                              .to = c->to,
                              .again = c->info && cmd_is_idempotent(c->info, c->argc, c->argv)};
    return add_piece(s, c->when, slot, &piece, err);
}

/* A command of ours in its place. */
static int add_made(struct fan_stream *s, const struct fan_cmd *c, size_t argc,
                    const struct span *argv, struct err *err)
{
    struct fan_piece piece = {.from = s->extra.n,
                              .extra = true,
                              .again = cmd_is_idempotent(cmd_find(argv[0]), argc, argv)};
    if (resp_put_cmd(&s->extra, argc, argv, err) < 0) return -1;
    piece.to = s->extra.n;
    return add_piece(s, c->when, slot_of(argv[1]), &piece, err);
}

/* --- keys --- */

int fan_keys(struct fan_stream *s, const struct fan_cmd *c, const size_t **ret, size_t *ret_n,
             struct err *err)
{
    static const size_t one = 1;
    *ret = &one;
    *ret_n = c->argc > 1;
    if (!c->info) return 0; /* a module's: most have their key there */
    buf_clear(&s->index);
    if (buf_reserve(&s->index, c->argc * sizeof(size_t), err) < 0) return -1;
    size_t *index = (size_t *)(void *)s->index.p;
    int n = cmd_keys(c->info, c->argc, c->argv, c->argc, index);
    *ret = index;
    *ret_n = n > 0 ? (size_t)n : 0;
    return 0;
}

/* The one slot that all of its keys are in; -1: several. */
static int one_slot(const struct fan_cmd *c, const size_t *index, size_t n)
{
    int slot = slot_of(c->argv[index[0]]);
    for (size_t i = 1; i < n; i++)
        if (slot_of(c->argv[index[i]]) != slot) return -1;
    return slot;
}

static bool all_at_hand(const struct fan_cmd *c, const size_t *index, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!c->argv[index[i]].p) return false;
    return true;
}

/* Then some arguments may not be at hand. */
static bool is_giant(const struct fan_cmd *c)
{
    return c->to - c->from > HELD_MAX;
}

static int too_large(const struct fan_cmd *c, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED,
                   "stream: %.*s of more than %u MB with several keys, or with a very long one: it "
                   "cannot be brought to the nodes of a cluster; start again with a new snapshot",
                   (int)c->argv[0].n, (const char *)c->argv[0].p, HELD_MAX >> 20);
}

/* --- commands over several slots that are the sum of their parts --- */

static int split_keys(struct fan_stream *s, const struct fan_cmd *c, const size_t *index, size_t n,
                      struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct span one[] = {c->argv[0], c->argv[index[i]]};
        if (add_made(s, c, 2, one, err) < 0) return -1;
    }
    return 0;
}

/* MSETNX took effect, or would not be in the stream. */
static int split_pairs(struct fan_stream *s, const struct fan_cmd *c, struct err *err)
{
    for (size_t i = 1; i + 1 < c->argc; i += 2) {
        struct span set[] = {span_str("SET"), c->argv[i], c->argv[i + 1]};
        if (add_made(s, c, 3, set, err) < 0) return -1;
    }
    return 0;
}

/* So did SMOVE. */
static int split_smove(struct fan_stream *s, const struct fan_cmd *c, struct err *err)
{
    struct span add[] = {span_str("SADD"), c->argv[2], c->argv[3]};
    struct span rem[] = {span_str("SREM"), c->argv[1], c->argv[3]};
    return add_made(s, c, 3, add, err) < 0 ? -1 : add_made(s, c, 3, rem, err);
}

/* MSETEX n key value ... [NX|XX] [EX|PX|EXAT|PXAT t|KEEPTTL]: its condition has been met. */
static int split_msetex(struct fan_stream *s, const struct fan_cmd *c, size_t n, struct err *err)
{
    struct span set[6] = {span_str("SET")};
    size_t argc = 3;
    for (size_t i = 2 + 2 * n; i < c->argc; i++) {
        if (span_is(c->argv[i], "NX") || span_is(c->argv[i], "XX")) continue;
        if (argc == 6) return 1;
        set[argc++] = c->argv[i];
    }
    for (size_t i = 0; i < n; i++) {
        set[1] = c->argv[2 + 2 * i];
        set[2] = c->argv[3 + 2 * i];
        if (add_made(s, c, argc, set, err) < 0) return -1;
    }
    return 0;
}

/* 1: it is none of these. */
static int split(struct fan_stream *s, const struct fan_cmd *c, const size_t *index, size_t n,
                 struct err *err)
{
    const char *name = c->info->name;
    if (!strcmp(name, "DEL") || !strcmp(name, "UNLINK") || !strcmp(name, "TOUCH"))
        return split_keys(s, c, index, n, err);
    if (!strcmp(name, "MSET") || !strcmp(name, "MSETNX")) return split_pairs(s, c, err);
    if (!strcmp(name, "MSETEX")) return split_msetex(s, c, n, err);
    if (!strcmp(name, "SMOVE") && c->argc == 4) return split_smove(s, c, err);
    return 1;
}

/* 0 in groups, 1 it is to be dealt with by itself, -1 */
static int route(struct fan_stream *s, const struct fan_cmd *c, struct err *err)
{
    const size_t *index;
    size_t n;
    size_t only = c->info ? cmd_only_key(c->info, c->argc) : 0;
    if (only) {
        struct span key = c->argv[only];
        return key.p ? add_raw(s, c, slot_of(key), err) : too_large(c, err);
    }
    if (is_giant(c) && c->info && c->info->layout != CMD_LAYOUT_RANGE) return too_large(c, err);
    if (fan_keys(s, c, &index, &n, err) < 0) return -1;
    if (n == 0) return 1;
    if (!all_at_hand(c, index, n)) return too_large(c, err);
    int slot = one_slot(c, index, n);
    if (slot >= 0) return add_raw(s, c, (uint16_t)slot, err);
    if (is_giant(c)) return too_large(c, err);
    return c->info ? split(s, c, index, n, err) : 1;
}

void fan_stage_begin(struct fan_stream *s)
{
    buf_clear(&s->pieces);
    buf_clear(&s->groups);
    buf_clear(&s->extra);
    s->stamp++;
}

/* Commands whose way is known, up to one that has to be looked at. */
static int take_known(struct fan_stream *s, const struct batch *b, struct err *err)
{
    const struct batch_route *r = (const struct batch_route *)(const void *)b->routes.p;
    uint64_t n = b->routes.n / sizeof(*r);
    for (; s->next_n < n && r[s->next_n].known; s->next_n++) {
        const struct batch_route *one = &r[s->next_n];
        if (s->next_n + AHEAD < n) __builtin_prefetch(&s->slots[one[AHEAD].slot]);
        struct fan_piece piece = {.from = s->next_at, .to = one->to, .again = one->again};
        if (add_piece(s, when(s, b), one->slot, &piece, err) < 0) return -1;
        s->next_at = one->to;
    }
    return 0;
}

int fan_split(struct fan *f, struct batch *b, struct fan_cmd *ret, struct err *err)
{
    struct fan_stream *s = f->stream;
    fan_stage_begin(s);
    for (;;) {
        if (take_known(s, b, err) < 0) return -1;
        if (s->next_n == b->n) return 0;
        int rc = next_command(s, b, ret, err);
        if (rc == 0) rc = route(s, ret, err);
        if (rc < 0) return -1;
        if (rc == 1 && fan_groups(s)) return 0; /* those first */
        pass(s, ret);
        if (rc == 1) return 1;
    }
}

/* --- stages of others' making --- */

int fan_stage_add(struct fan_stream *s, const struct fan_cmd *c, uint16_t slot, size_t argc,
                  const struct span *argv, uint64_t in_at, struct err *err)
{
    struct fan_piece piece = {.from = s->extra.n, .extra = true};
    if (resp_put_head(&s->extra, argc, err) < 0) return -1;
    for (size_t i = 0; i < argc; i++) {
        if (argv[i].p || argv[i].n == 0) {
            if (resp_put_arg(&s->extra, argv[i], err) < 0) return -1;
            continue;
        }
        if (buf_printf(&s->extra, err, "$%zu\r\n", argv[i].n) < 0) return -1;
        piece.in_at = in_at;
        piece.in_n = argv[i].n;
        piece.in_pos = (uint32_t)(s->extra.n - piece.from);
        if (buf_add(&s->extra, "\r\n", 2, err) < 0) return -1;
    }
    piece.to = s->extra.n;
    return add_piece(s, c->when, slot, &piece, err);
}

/* --- pieces --- */

static int copy_input(struct fan_stream *s, const struct fan_piece *p, struct store *to,
                      struct err *err)
{
    uint8_t tmp[16384];
    for (uint64_t at = 0; at < p->in_n;) {
        size_t n = p->in_n - at < sizeof(tmp) ? (size_t)(p->in_n - at) : sizeof(tmp);
        if (inputs_read(s->inputs, p->in_at + at, tmp, n, err) < 0 ||
            store_add(to, tmp, n, err) < 0)
            return -1;
        at += n;
    }
    return 0;
}

static int copy_extra(struct fan_stream *s, const struct fan_piece *p, struct store *to,
                      struct err *err)
{
    const uint8_t *from = s->extra.p + p->from;
    size_t n = (size_t)(p->to - p->from);
    if (p->in_n == 0) return store_add(to, from, n, err);
    if (store_add(to, from, p->in_pos, err) < 0 || copy_input(s, p, to, err) < 0) return -1;
    return store_add(to, from + p->in_pos, n - p->in_pos, err);
}

int fan_copy_piece(struct fan_stream *s, const struct batch *b, const struct fan_piece *p,
                   struct store *to, struct err *err)
{
    const struct store *st = &b->st;
    uint8_t tmp[16384];
    if (p->extra) return copy_extra(s, p, to, err);
    if (p->to <= st->mem.n)
        return store_add(to, st->mem.p + p->from, (size_t)(p->to - p->from), err);
    for (uint64_t at = p->from; at < p->to;) {
        size_t want = p->to - at < sizeof(tmp) ? (size_t)(p->to - at) : sizeof(tmp);
        ssize_t n = store_read(st, at, tmp, want, err);
        if (n < 0) return -1;
        if (n == 0) return broken(err);
        if (store_add(to, tmp, (size_t)n, err) < 0) return -1;
        at += (uint64_t)n;
    }
    return 0;
}

void fan_name_piece(struct fan_stream *s, const struct batch *b, const struct fan_piece *p,
                    char *name, size_t name_size, uint8_t *key, size_t *key_n)
{
    struct err ignored;
    struct store head;
    struct fan_piece named = *p;
    size_t n;
    *key_n = 0;
    named.in_n = 0; /* what comes before it tells */
    snprintf(name, name_size, "?");
    store_init(&head, HELD_MAX, HELD_MAX, b->st.dir);
    if (fan_copy_piece(s, b, &named, &head, &ignored) == 0 &&
        parse(s, head.mem.p, head.mem.n, &n, &ignored) >= (p->in_n == 0) && s->argv.n) {
        const struct span *argv = (const struct span *)(const void *)s->argv.p;
        size_t argc = s->argv.n / sizeof(*argv);
        const struct cmd_info *info = cmd_find(argv[0]);
        size_t at = info ? cmd_first_key(info, argc, argv) : 1;
        snprintf(name, name_size, "%.*s", (int)(argv[0].n < NAME_BYTES ? argv[0].n : NAME_BYTES),
                 (const char *)argv[0].p);
        if (at && at < argc) {
            *key_n = argv[at].n < NAME_BYTES ? argv[at].n : NAME_BYTES;
            memcpy(key, argv[at].p, *key_n);
        }
    }
    store_release(&head);
}
