// SPDX-License-Identifier: BSD-3-Clause
// The command table: finding a command by name, and the keys among its arguments.
#include "wire/cmd.h"

#include "base/num.h"

#include <limits.h>

#define ROW(name, arity, flags, first, last, step, rule, layout)                                   \
    {name, arity, flags, first, last, step, CMD_RULE_##rule, CMD_LAYOUT_##layout},
#include "wire/cmd_table.inc"
#undef ROW

#define CMD_COUNT (sizeof cmd_table / sizeof cmd_table[0])

static inline uint8_t upper(uint8_t b)
{
    return b >= 'a' && b <= 'z' ? (uint8_t)(b - 32) : b;
}

static inline bool same_name(const char *want, struct span name)
{
    for (size_t i = 0; i < name.n; i++)
        if (want[i] == 0 || (uint8_t)want[i] != upper(name.p[i])) return false;
    return want[name.n] == 0;
}

const struct cmd_info *cmd_find(struct span name)
{
    if (name.n > CMD_NAME_MAX) return NULL;
    uint32_t h = 2166136261U; /* FNV-1a, as tools/gen-commands computes it */
    for (size_t i = 0; i < name.n; i++)
        h = (h ^ upper(name.p[i])) * 16777619U;
    for (uint32_t at = h % CMD_SLOTS; cmd_slots[at]; at = (at + 1) % CMD_SLOTS) {
        const struct cmd_info *c = &cmd_table[cmd_slots[at] - 1];
        if (same_name(c->name, name)) return c;
    }
    return NULL;
}

const struct cmd_info *cmd_at(size_t i)
{
    return i < CMD_COUNT ? &cmd_table[i] : NULL;
}

/* Where key positions are collected; counts on when `index` is full. */
struct keys {
    size_t argc;
    const struct span *argv;
    size_t max;
    size_t *index;
    size_t n;
};

static void add_key(struct keys *k, size_t at)
{
    if (k->n < k->max) k->index[k->n] = at;
    k->n++;
}

/* `count` keys from argument `at` on, every step-th; each of them with what belongs to it. */
static int add_keys(struct keys *k, size_t at, size_t count, size_t step)
{
    if (at > k->argc || count > (k->argc - at) / step) return -1;
    for (size_t i = 0; i < count; i++)
        add_key(k, at + i * step);
    return 0;
}

/* Argument `at` tells how many keys follow it. */
static int add_counted(struct keys *k, size_t at, uint64_t least, size_t step)
{
    uint64_t count = 0;
    if (at >= k->argc || !num_get_u64(k->argv[at], &count)) return -1;
    if (count < least || count > k->argc) return -1;
    return add_keys(k, at + 1, (size_t)count, step);
}

/* first .. last by step; last counts from the end when negative. */
static int add_range(struct keys *k, const struct cmd_info *c)
{
    if (c->first_key <= 0) return 0;
    int64_t first = c->first_key, last = c->last_key, step = c->step > 0 ? c->step : 1;
    if (last < 0) last += (int64_t)k->argc;
    if (last < first || last >= (int64_t)k->argc) return -1;
    /* MSET a 1 b: the last key must bring its value */
    bool open_end = c->last_key == -1 && step > 1;
    if (open_end && ((int64_t)k->argc - first) % step != 0) return -1;
    for (int64_t at = first; at <= last; at += step)
        add_key(k, (size_t)at);
    return 0;
}

static int add_store_counted(struct keys *k)
{
    if (k->argc < 2) return -1;
    add_key(k, 1);
    return add_counted(k, 2, 1, 1);
}

/* The last STORE wins; LIMIT, GET and BY take arguments that must not be taken for it. */
static int add_sort(struct keys *k)
{
    size_t dst = 0;
    if (k->argc < 2) return -1;
    add_key(k, 1);
    for (size_t i = 2; i < k->argc; i++) {
        struct span arg = k->argv[i];
        if (span_is(arg, "LIMIT")) {
            i += 2;
        } else if (span_is(arg, "GET") || span_is(arg, "BY")) {
            i++;
        } else if (span_is(arg, "STORE")) {
            if (++i == k->argc) return -1;
            dst = i;
        }
    }
    if (dst) add_key(k, dst);
    return 0;
}

/* Options begin at 5 at the earliest (GEORADIUSBYMEMBER key member radius unit). */
static int add_georadius(struct keys *k)
{
    size_t dst = 0;
    if (k->argc < 5) return -1;
    add_key(k, 1);
    for (size_t i = 5; i < k->argc; i++) {
        if (!span_is(k->argv[i], "STORE") && !span_is(k->argv[i], "STOREDIST")) continue;
        if (++i == k->argc) return -1;
        dst = i;
    }
    if (dst) add_key(k, dst);
    return 0;
}

/* XREADGROUP GROUP g c [COUNT n] [BLOCK ms] [CLAIM ms] [NOACK] STREAMS key ... id ... */
static int add_streams(struct keys *k)
{
    size_t i = 1;
    for (; i < k->argc && !span_is(k->argv[i], "STREAMS"); i++) {
        struct span arg = k->argv[i];
        if (span_is(arg, "GROUP")) {
            i += 2;
        } else if (span_is(arg, "COUNT") || span_is(arg, "BLOCK") || span_is(arg, "CLAIM")) {
            i++;
        } else if (!span_is(arg, "NOACK")) {
            return -1;
        }
    }
    if (i >= k->argc) return -1;
    size_t rest = k->argc - i - 1;
    if (rest == 0 || rest % 2 != 0) return -1;
    return add_keys(k, i + 1, rest / 2, 1);
}

/* MIGRATE host port key db timeout [COPY] [REPLACE] [AUTH pw] [AUTH2 user pw] [KEYS key ...] */
static int add_migrate(struct keys *k)
{
    if (k->argc < 6) return -1;
    for (size_t i = 6; i < k->argc; i++) {
        struct span arg = k->argv[i];
        if (span_is(arg, "AUTH")) {
            i++;
        } else if (span_is(arg, "AUTH2")) {
            i += 2;
        } else if (span_is(arg, "KEYS")) {
            if (k->argv[3].n > 0 || i + 1 == k->argc) return -1;
            return add_keys(k, i + 1, k->argc - i - 1, 1);
        }
    }
    add_key(k, 3);
    return 0;
}

static int add_debug(struct keys *k)
{
    if (k->argc > 2 && span_is(k->argv[1], "OBJECT")) add_key(k, 2);
    return 0;
}

static int add_all(struct keys *k, const struct cmd_info *c)
{
    switch ((enum cmd_layout)c->layout) {
    case CMD_LAYOUT_RANGE: return add_range(k, c);
    case CMD_LAYOUT_SUB: return k->argc <= (size_t)c->first_key ? 0 : add_range(k, c);
    case CMD_LAYOUT_NUM1: return add_counted(k, 1, 1, 1);
    case CMD_LAYOUT_NUM2: return add_counted(k, 2, 1, 1);
    case CMD_LAYOUT_SCRIPT: return add_counted(k, 2, 0, 1);
    case CMD_LAYOUT_STORE_NUM2: return add_store_counted(k);
    case CMD_LAYOUT_NUM1_PAIRS: return add_counted(k, 1, 1, 2);
    case CMD_LAYOUT_SORT: return add_sort(k);
    case CMD_LAYOUT_GEORADIUS: return add_georadius(k);
    case CMD_LAYOUT_STREAMS: return add_streams(k);
    case CMD_LAYOUT_MIGRATE: return add_migrate(k);
    case CMD_LAYOUT_DEBUG: return add_debug(k);
    }
    return -1;
}

int cmd_keys(const struct cmd_info *c, size_t argc, const struct span *argv, size_t max,
             size_t *ret_index)
{
    struct keys k = {.argc = argc, .argv = argv, .max = max, .index = ret_index};
    if (argc > INT_MAX || add_all(&k, c) < 0) return -1;
    return (int)k.n;
}

size_t cmd_first_key(const struct cmd_info *c, size_t argc, const struct span *argv)
{
    size_t at = 0;
    if (c->layout == CMD_LAYOUT_RANGE) {
        at = c->first_key > 0 ? (size_t)c->first_key : 0;
        return at < argc ? at : 0;
    }
    return cmd_keys(c, argc, argv, 1, &at) > 0 ? at : 0;
}

/* --- what may be applied again --- */

static bool is_one_of(struct span arg, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n && arg.p; i++)
        if (span_is(arg, words[i])) return true;
    return false;
}
#define IS_ONE_OF(arg, words) is_one_of(arg, words, sizeof(words) / sizeof((words)[0]))

/* SET key value [...]: not with a time that counts from now, nor with a condition on the value. */
static bool set_is(size_t argc, const struct span *argv)
{
    static const char *const plain[] = {"NX", "XX", "GET", "KEEPTTL"}, *const at[] = {"EXAT",
                                                                                      "PXAT"};
    for (size_t i = 3; i < argc; i++)
        if (!IS_ONE_OF(argv[i], plain) && !(IS_ONE_OF(argv[i], at) && ++i < argc)) return false;
    return true;
}

/* ZADD key [NX|XX|GT|LT|INCR ...] [CH] score member ... */
static bool zadd_is(size_t argc, const struct span *argv)
{
    static const char *const plain[] = {"CH"}, *const others[] = {"NX", "XX", "GT", "LT", "INCR"};
    size_t i = 2;
    while (i < argc && IS_ONE_OF(argv[i], plain))
        i++;
    return i < argc && argv[i].p && !IS_ONE_OF(argv[i], others);
}

/* RESTORE key ms payload [REPLACE] [ABSTTL] ... */
static bool restore_is(size_t argc, const struct span *argv)
{
    static const char *const replace[] = {"REPLACE"}, *const absttl[] = {"ABSTTL"},
                             *const no[] = {"0"};
    bool replaces = false, absolute = argc > 2 && IS_ONE_OF(argv[2], no);
    for (size_t i = 4; i < argc; i++) {
        replaces |= IS_ONE_OF(argv[i], replace);
        absolute |= IS_ONE_OF(argv[i], absttl);
    }
    return replaces && absolute;
}

bool cmd_is_idempotent(const struct cmd_info *c, size_t argc, const struct span *argv)
{
    if (c->rule == CMD_RULE_SET) return set_is(argc, argv);
    if (c->rule == CMD_RULE_RESTORE) return restore_is(argc, argv);
    if (c->name[0] == 'Z' && strcmp(c->name, "ZADD") == 0) return zadd_is(argc, argv);
    return c->flags & CMD_IDEMPOTENT;
}
