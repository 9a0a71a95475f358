// SPDX-License-Identifier: BSD-3-Clause
// What makes a task this one and no other, as text; and the name it gets when none is given.
#include "control/state_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define TEXT_MAX    (512u << 10) /* a list of every other database */
#define SHOWN_CHARS 120          /* of a text, in words */
#define HASH_CHARS  10

static const struct {
    const char *json, *option;
} fields[STATE_SHAPE_FIELDS] = {
#define X(id, json_, option_) [STATE_SHAPE_##id] = {json_, option_},
    STATE_SHAPE_TABLE(X)
#undef X
};

const char *state_shape_json(enum state_shape_field f)
{
    return fields[f].json;
}

const char *state_shape_option(enum state_shape_field f)
{
    return fields[f].option;
}

/* --- the texts --- */

/* Address only: the user may change with the rights, and the database is part of the selection. */
static void put_side(struct text *t, const struct uri *u)
{
    if (u->unix_path) {
        text_printf(t, "unix://%s", u->unix_path);
        return;
    }
    bool v6 = strchr(u->host, ':');
    text_printf(t, "%s%s://%s", u->tls ? "rediss" : "redis", u->sentinel ? "+sentinel" : "",
                v6 ? "[" : "");
    for (const char *p = u->host; *p; p++)
        text_printf(t, "%c", tolower((unsigned char)*p));
    text_printf(t, "%s:%s", v6 ? "]" : "", u->port);
    if (u->sentinel) text_printf(t, "/%s", u->sentinel);
}

static bool has_db(const struct db_select *s, uint32_t db)
{
    return s->bits[db / 8] >> db % 8 & 1;
}

static void put_databases(struct text *t, const struct db_select *s)
{
    const char *comma = "";
    if (s->all) {
        text_add(t, "all");
        return;
    }
    for (uint32_t from = 0; from < SELECT_DBS_MAX; from++) {
        uint32_t to = from;
        if (!has_db(s, from)) continue;
        while (to + 1 < SELECT_DBS_MAX && has_db(s, to + 1))
            to++;
        text_printf(t, to > from ? "%s%u-%u" : "%s%u", comma, from, to);
        comma = ",";
        from = to;
    }
}

/* Pairs in order of their first, those that change nothing left out. */
static void put_map(struct text *t, const struct db_select *s)
{
    const char *comma = "";
    for (int64_t last = -1;;) {
        unsigned next = s->n_map;
        for (unsigned i = 0; i < s->n_map; i++)
            if (s->map[i].from > last && (next == s->n_map || s->map[i].from < s->map[next].from))
                next = i;
        if (next == s->n_map) return;
        last = s->map[next].from;
        if (s->map[next].from == s->map[next].to) continue;
        text_printf(t, "%s%u:%u", comma, s->map[next].from, s->map[next].to);
        comma = ",";
    }
}

/* The word of an option of kind CHOICE. */
static void put_choice(struct text *t, enum option_id id, unsigned index)
{
    const char *at = option_def(id)->choices;
    for (; index && strchr(at, '|'); index--)
        at = strchr(at, '|') + 1;
    text_printf(t, "%.*s", (int)strcspn(at, "|"), at);
}

static void put_field(struct text *t, enum state_shape_field f, const struct task_config *cfg)
{
    switch (f) {
    case STATE_SHAPE_SOURCE: put_side(t, &cfg->source.uri); break;
    case STATE_SHAPE_TARGET: put_side(t, &cfg->target.uri); break;
    case STATE_SHAPE_DATABASES: put_databases(t, &cfg->select); break;
    case STATE_SHAPE_DATABASE_MAP: put_map(t, &cfg->select); break;
    case STATE_SHAPE_TYPE: put_choice(t, OPTION_TYPE, cfg->type); break;
    case STATE_SHAPE_ON_CONFLICT: put_choice(t, OPTION_ON_CONFLICT, cfg->on_conflict); break;
    case STATE_SHAPE_FIELDS: break;
    }
}

int state_shape_make(struct state_shape *ret, const struct task_config *cfg, struct err *err)
{
    struct state_shape made = {0};
    struct text t;
    int rc = 0;
    text_init(&t, TEXT_MAX);
    for (int f = 0; f < STATE_SHAPE_FIELDS && rc == 0; f++) {
        text_clear(&t);
        put_field(&t, (enum state_shape_field)f, cfg);
        rc = text_result(&t, err);
        if (rc == 0) made.text[f] = strndup(t.buf.n ? (char *)t.buf.p : "", t.buf.n);
        if (rc == 0 && !made.text[f]) rc = err_set(err, ERR_NOMEM, "out of memory");
    }
    text_release(&t);
    if (rc < 0)
        state_shape_release(&made);
    else
        *ret = made;
    return rc;
}

void state_shape_release(struct state_shape *shape)
{
    for (int f = 0; f < STATE_SHAPE_FIELDS; f++) {
        free(shape->text[f]);
        shape->text[f] = NULL;
    }
}

bool state_shape_differs(const struct state_shape *was, const struct state_shape *now,
                         struct text *words)
{
    bool differs = false;
    for (int f = 0; f < STATE_SHAPE_FIELDS; f++) {
        const char *a = was->text[f], *b = now->text[f];
        if (strcmp(a, b) == 0) continue;
        text_printf(words, "%s%s was %.*s, now %.*s", differs ? "; " : "", fields[f].option,
                    SHOWN_CHARS, *a ? a : "not given", SHOWN_CHARS, *b ? b : "not given");
        differs = true;
    }
    return differs;
}

/* --- names --- */

int state_check_name(const char *name, struct err *err)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t n = strlen(name);
    if (n == 0 || n > STATE_NAME_MAX || name[strspn(name, letters)] || *name == '.' || *name == '-')
        return err_set(err, ERR_USAGE,
                       "the name of a task has 1 to %d letters, digits, '-', '_' and '.', and "
                       "begins with a letter, a digit or '_'",
                       STATE_NAME_MAX);
    return 0;
}

/* Does the host say all of the address in a name, and nothing else? "-to-" stands between two. */
static bool is_plain(const struct uri *u)
{
    if (u->unix_path || u->sentinel || u->tls || strcasestr(u->host, "-to-")) return false;
    if (!isalnum((unsigned char)*u->host)) return false;
    for (const char *p = u->host; *p; p++)
        if (!isascii(*p) || (!isalnum((unsigned char)*p) && *p != '-' && *p != '.')) return false;
    return true;
}

/* What is readable of an address, at most `max` characters of it; hosts are told by their
 * beginning, paths by their end. */
static void put_readable(struct text *t, const struct uri *u, size_t max)
{
    const char *from = u->unix_path ? u->unix_path : u->sentinel ? u->sentinel : u->host;
    size_t n = strlen(from);
    text_add(t, u->unix_path ? "unix-" : u->sentinel ? "sentinel-" : u->tls ? "tls-" : "");
    if (u->unix_path && n > max) from += n - max;
    while (*from && !isalnum((unsigned char)*from))
        from++;
    for (size_t i = 0; i < max && from[i]; i++) {
        unsigned char c = (unsigned char)from[i];
        text_printf(t, "%c", isascii(c) && isalnum(c) ? tolower(c) : c == '.' ? '.' : '-');
    }
    if (!u->unix_path && !u->sentinel) text_printf(t, "-%s", u->port);
}

/* Where letters cannot say it all, a hash of both addresses does. No plain name ends so: a port has
 * at most five digits. */
static void put_hashed(struct text *t, const struct task_config *cfg)
{
    const size_t max = (STATE_NAME_MAX - sizeof("tls--65535-to-tls--65535-") - HASH_CHARS) / 2;
    struct text both;
    text_init(&both, TEXT_MAX);
    put_side(&both, &cfg->source.uri);
    text_add(&both, " ");
    put_side(&both, &cfg->target.uri);
    unsigned long long hash = XXH3_64bits(both.buf.p, both.buf.n);
    put_readable(t, &cfg->source.uri, max);
    text_add(t, "-to-");
    put_readable(t, &cfg->target.uri, max);
    text_printf(t, "-%0*llx", HASH_CHARS, hash & 0xffffffffffull);
    if (both.err.code != ERR_NONE) t->err = both.err;
    text_release(&both);
}

static void put_name(struct text *t, const struct task_config *cfg)
{
    const struct uri *source = &cfg->source.uri, *target = &cfg->target.uri;
    if (is_plain(source) && is_plain(target)) {
        put_readable(t, source, TEXT_MAX);
        text_add(t, "-to-");
        put_readable(t, target, TEXT_MAX);
        if (t->buf.n <= STATE_NAME_MAX) return;
        text_clear(t);
    }
    put_hashed(t, cfg);
}

int state_task_name(char ret[STATE_NAME_MAX + 1], const struct task_config *cfg, struct err *err)
{
    if (cfg->name) {
        if (state_check_name(cfg->name, err) < 0) return err_wrap(err, "--task");
        snprintf(ret, STATE_NAME_MAX + 1, "%s", cfg->name);
        return 0;
    }
    struct text t;
    text_init(&t, TEXT_MAX);
    put_name(&t, cfg);
    int rc = text_result(&t, err);
    if (rc == 0) snprintf(ret, STATE_NAME_MAX + 1, "%.*s", (int)t.buf.n, (char *)t.buf.p);
    text_release(&t);
    return rc;
}
