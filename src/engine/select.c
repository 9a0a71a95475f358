// SPDX-License-Identifier: BSD-3-Clause
// Which databases are moved, and into which of the target.
#include "engine/select.h"

#include "base/attr.h"
#include "base/num.h"

#include <limits.h>

#define MAP_MAX (sizeof((struct db_select){0}.map) / sizeof((struct db_select){0}.map[0]))

static bool has_bit(const struct db_select *s, uint64_t db)
{
    return db < SELECT_DBS_MAX && (s->bits[db / 8] >> (db % 8) & 1);
}

static bool selected(const struct db_select *s, uint64_t db)
{
    return s->all || has_bit(s, db);
}

/* Cut the text before the next `sep`, or all that is left; *rest.p is NULL after the last one. */
static struct span next_part(struct span *rest, char sep)
{
    const uint8_t *at = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
    if (!at) {
        struct span last = *rest;
        *rest = span_of(NULL, 0);
        return last;
    }
    struct span part = span_of(rest->p, (size_t)(at - rest->p));
    *rest = span_of(at + 1, rest->n - part.n - 1);
    return part;
}

static int parse_db(struct span text, uint32_t *ret, struct err *err)
{
    uint64_t v = 0;
    char name[NUM_INT64_CHARS * 2];
    if (!num_get_u64(text, &v))
        return err_set(err, ERR_USAGE, "%s is not a database number",
                       num_quote(name, sizeof name, text));
    if (v >= SELECT_DBS_MAX)
        return err_set(err, ERR_USAGE, "database %llu is beyond the highest possible, %d",
                       (unsigned long long)v, SELECT_DBS_MAX - 1);
    *ret = (uint32_t)v;
    return 0;
}

/* "3" or "8-15" */
static int parse_range(struct db_select *s, struct span text, struct err *err)
{
    uint32_t from = 0, to = 0;
    struct span rest = text;
    if (parse_db(next_part(&rest, '-'), &from, err) < 0) return -1;
    to = from;
    if (rest.p && parse_db(rest, &to, err) < 0) return -1;
    if (to < from) return err_set(err, ERR_USAGE, "the range %u-%u runs backwards", from, to);
    for (uint32_t db = from; db <= to; db++)
        s->bits[db / 8] |= (uint8_t)(1 << db % 8);
    return 0;
}

int db_select_parse(struct db_select *s, const char *list, struct err *err)
{
    struct db_select made = {0};
    if (!list || strcmp(list, "all") == 0) {
        made.all = true;
        *s = made;
        return 0;
    }
    struct span rest = span_str(list);
    do {
        if (parse_range(&made, next_part(&rest, ','), err) < 0)
            return err_wrap(err, "--db %.200s", list);
    } while (rest.p);
    *s = made;
    return 0;
}

/* "0:5" */
static int parse_pair(struct db_select *s, struct span text, struct err *err)
{
    uint32_t from = 0, to = 0;
    struct span rest = text;
    if (parse_db(next_part(&rest, ':'), &from, err) < 0) return -1;
    if (!rest.p) return err_set(err, ERR_USAGE, "a pair FROM:TO is wanted");
    if (parse_db(rest, &to, err) < 0) return -1;
    if (!selected(s, from)) return err_set(err, ERR_USAGE, "database %u is not selected", from);
    for (unsigned i = 0; i < s->n_map; i++)
        if (s->map[i].from == from)
            return err_set(err, ERR_USAGE, "database %u is mapped twice", from);
    if (s->n_map == MAP_MAX) return err_set(err, ERR_USAGE, "more than %zu pairs", MAP_MAX);
    s->map[s->n_map].from = from;
    s->map[s->n_map].to = to;
    s->n_map++;
    return 0;
}

static bool is_mapped(const struct db_select *s, uint32_t db)
{
    for (unsigned i = 0; i < s->n_map; i++)
        if (s->map[i].from == db) return true;
    return false;
}

/* Two databases in one would mix their keys. */
static int check_meeting(const struct db_select *s, struct err *err)
{
    for (unsigned i = 0; i < s->n_map; i++) {
        uint32_t from = s->map[i].from, to = s->map[i].to;
        if (selected(s, to) && !is_mapped(s, to))
            return err_set(err, ERR_USAGE, "databases %u and %u would both go into %u", from, to,
                           to);
        for (unsigned j = 0; j < i; j++)
            if (s->map[j].to == to)
                return err_set(err, ERR_USAGE, "databases %u and %u would both go into %u",
                               s->map[j].from, from, to);
    }
    return 0;
}

int db_select_parse_map(struct db_select *s, const char *map, struct err *err)
{
    struct db_select made = *s;
    struct span rest = map ? span_str(map) : span_of(NULL, 0);
    made.n_map = 0;
    while (rest.p)
        if (parse_pair(&made, next_part(&rest, ','), err) < 0)
            return err_wrap(err, "--db-map %.200s", map);
    if (check_meeting(&made, err) < 0) return err_wrap(err, "--db-map %.200s", map);
    *s = made;
    return 0;
}

int64_t db_select_target(const struct db_select *s, uint64_t db)
{
    if (KH_UNLIKELY(db > INT32_MAX)) return -1; /* no server has it, and -1 must stay ours */
    if (KH_LIKELY(s->all && s->n_map == 0)) return (int64_t)db;
    if (!selected(s, db)) return -1;
    for (unsigned i = 0; i < s->n_map; i++)
        if (s->map[i].from == db) return s->map[i].to;
    return (int64_t)db;
}

bool db_select_is_aim(const struct db_select *s, uint32_t to)
{
    if (db_select_target(s, to) == (int64_t)to) return true;
    for (unsigned i = 0; i < s->n_map; i++)
        if (s->map[i].to == to && db_select_target(s, s->map[i].from) == (int64_t)to) return true;
    return false;
}

int db_select_swap(const struct db_select *s, uint64_t a, uint64_t b)
{
    bool has_a = db_select_target(s, a) >= 0, has_b = db_select_target(s, b) >= 0;
    return has_a && has_b ? 2 : has_a || has_b;
}
