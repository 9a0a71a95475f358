// SPDX-License-Identifier: BSD-3-Clause
// Commands that the target does not know, in words of older ones.
#include "engine/replay_old.h"

#include <stdlib.h>

#define WORD(s) span_str(s)

static bool put_number(struct span s, uint64_t *ret)
{
    return num_get_u64(s, ret) && *ret <= INT32_MAX;
}

/* --- strings and keys --- */

/* SET key value ... EXAT|PXAT t (6.2+): the deadline by itself, in the same transaction. */
int old_set_time(struct replay *rp, struct old_cmd *c, struct err *err)
{
    int64_t ms, unit = span_is(c->argv[c->at], "EXAT") ? 1000 : 1;
    struct replay_num t;
    if (!num_get_i64(c->argv[c->at + 1], &ms) || __builtin_mul_overflow(ms, unit, &ms))
        return old_write(rp, c->argc, c->argv, err); /* for the target to judge */
    struct span expire[] = {WORD("PEXPIREAT"), c->argv[1], replay_put_i64(&t, ms)};
    old_cut(c, c->at, 2);
    if (old_put(rp, c->argc, c->argv, err) < 0) return -1;
    return old_write(rp, 3, expire, err);
}

/* MSETEX n key value ... [EX|PX|EXAT|PXAT t] [KEEPTTL] [NX|XX]: one SET for each. */
int old_msetex(struct replay *rp, struct old_cmd *c, struct err *err)
{
    uint64_t n;
    if (c->argc < 2 || !put_number(c->argv[1], &n) || 2 + 2 * n > c->argc)
        return old_write(rp, c->argc, c->argv, err);
    struct span set[5] = {WORD("SET")};
    size_t options = 0;
    for (size_t i = 2 + 2 * (size_t)n; i < c->argc; i++) {
        bool keep = span_is(c->argv[i], "KEEPTTL");
        bool time = span_is(c->argv[i], "PXAT") || span_is(c->argv[i], "EXAT");
        if (keep) set[3 + options++] = c->argv[i];
        if (time && i + 1 < c->argc) {
            set[3] = c->argv[i];
            set[4] = c->argv[++i];
            options = 2;
        }
        if (options) break;
    }
    for (size_t i = 0; i < n; i++) {
        struct span one[5] = {set[0], c->argv[2 + 2 * i], c->argv[3 + 2 * i], set[3], set[4]};
        if (old_put(rp, 3 + options, one, err) < 0) return -1;
    }
    return 0;
}

/* GETDEL, DELEX, DELIFEQ: they did. */
int old_del(struct replay *rp, struct old_cmd *c, struct err *err)
{
    struct span del[] = {WORD("DEL"), c->argc > 1 ? c->argv[1] : WORD("")};
    return old_write(rp, 2, del, err);
}

int old_unlink(struct replay *rp, struct old_cmd *c, struct err *err)
{
    c->argv[0] = WORD("DEL");
    return old_write(rp, c->argc, c->argv, err);
}

/* RESTORE key ms payload [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n]: before 5.0 only relative times,
 * before 3.0 no REPLACE either. */
int old_restore(struct replay *rp, struct old_cmd *c, struct err *err)
{
    int64_t ms = 0;
    bool absolute = false, replace = false;
    for (size_t i = 4; i < c->argc; i++) {
        absolute |= span_is(c->argv[i], "ABSTTL");
        replace |= span_is(c->argv[i], "REPLACE");
    }
    if (c->argc < 4 || !num_get_i64(c->argv[2], &ms)) return old_write(rp, c->argc, c->argv, err);
    struct replay_num t;
    struct span key = c->argv[1], del[] = {WORD("DEL"), key};
    struct span expire[] = {WORD("PEXPIREAT"), key, replay_put_i64(&t, ms)};
    bool known = old_target_has(rp, FACTS_RESTORE_REPLACE), later = absolute && ms > 0;
    struct span restore[] = {WORD("RESTORE"), key, later ? WORD("0") : c->argv[2], c->argv[3],
                             WORD("REPLACE")};
    if (replace && !known && old_write(rp, 2, del, err) < 0) return -1;
    if (old_write(rp, replace && known ? 5 : 4, restore, err) < 0) return -1;
    return later ? old_write(rp, 3, expire, err) : 0;
}

/* --- lists and sorted sets --- */

/* LPOP, RPOP key count (6.2+): cut off by range. */
int old_pop(struct replay *rp, struct old_cmd *c, struct err *err)
{
    uint64_t n;
    if (c->argc != 3 || !put_number(c->argv[2], &n)) return old_write(rp, c->argc, c->argv, err);
    bool left = span_is(c->argv[0], "LPOP");
    struct replay_num t;
    struct span trim[] = {WORD("LTRIM"), c->argv[1],
                          left ? replay_put_i64(&t, (int64_t)n) : WORD("0"),
                          left ? WORD("-1") : replay_put_i64(&t, -(int64_t)n - 1)};
    return old_write(rp, 4, trim, err);
}

/* ZPOPMIN, ZPOPMAX key [count] (5.0+): by rank. */
int old_zpop(struct replay *rp, struct old_cmd *c, struct err *err)
{
    uint64_t n = 1;
    if (c->argc < 2 || (c->argc > 2 && !put_number(c->argv[2], &n)))
        return old_write(rp, c->argc, c->argv, err);
    if (n == 0) return old_drop(rp);
    bool min = span_is(c->argv[0], "ZPOPMIN");
    struct replay_num t;
    struct span rem[] = {WORD("ZREMRANGEBYRANK"), c->argv[1],
                         min ? WORD("0") : replay_put_i64(&t, -(int64_t)n),
                         min ? replay_put_i64(&t, (int64_t)n - 1) : WORD("-1")};
    return old_write(rp, 4, rem, err);
}

/* LMOVE from to LEFT|RIGHT LEFT|RIGHT (6.2+) */
int old_lmove(struct replay *rp, struct old_cmd *c, struct err *err)
{
    if (c->argc != 5) return old_write(rp, c->argc, c->argv, err);
    bool from_left = span_is(c->argv[3], "LEFT"), to_left = span_is(c->argv[4], "LEFT");
    if (from_left || !to_left) return old_lmove_script(rp, c->argv + 1, from_left, to_left, err);
    c->argv[0] = WORD("RPOPLPUSH");
    return old_write(rp, 3, c->argv, err);
}

/* ZADD key NX|XX score member before 3.0: of one member it took effect, of several only on some. */
int old_zadd_flag(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char words[] = "the target does not know NX and XX";
    if (c->argc - c->at > 4)
        return replay_old_refuse(rp, c->argv[1], "ZADD", words, err) < 0 ? -1 : old_drop(rp);
    old_cut(c, c->at, 1);
    return old_put(rp, c->argc, c->argv, err);
}

/* ZADD key INCR score member before 3.0 */
int old_zadd_incr(struct replay *rp, struct old_cmd *c, struct err *err)
{
    old_cut(c, c->at, 1);
    c->argv[0] = WORD("ZINCRBY");
    return old_write(rp, c->argc, c->argv, err);
}

/* GEOSEARCHSTORE dst src FROMLONLAT x y|FROMMEMBER m BYRADIUS r unit [ASC|DESC] [COUNT n]
 * [STOREDIST]: in the words of GEORADIUS (3.2+). */
struct search {
    struct span dst, src, center[2], radius[2], order, count;
    bool by_member, storedist;
};

/* Words that an option has behind it; -1: it is none that GEORADIUS knows as well. */
static int take_search_word(struct search *s, const struct span *w, size_t left)
{
    bool member = span_is(*w, "FROMMEMBER");
    if (member && left > 1) {
        s->by_member = true;
        s->center[0] = w[1];
        return 1;
    }
    if ((span_is(*w, "FROMLONLAT") || span_is(*w, "BYRADIUS")) && left > 2) {
        memcpy(span_is(*w, "BYRADIUS") ? s->radius : s->center, w + 1, 2 * sizeof(*w));
        return 2;
    }
    if (span_is(*w, "COUNT") && left > 1) {
        s->count = w[1];
        return 1;
    }
    if (span_is(*w, "STOREDIST")) {
        s->storedist = true;
        return 0;
    }
    if (!span_is(*w, "ASC") && !span_is(*w, "DESC")) return -1;
    s->order = *w;
    return 0;
}

static size_t put_search(const struct search *s, struct span *argv)
{
    size_t n = 0;
    argv[n++] = s->by_member ? WORD("GEORADIUSBYMEMBER") : WORD("GEORADIUS");
    argv[n++] = s->src;
    argv[n++] = s->center[0];
    if (!s->by_member) argv[n++] = s->center[1];
    argv[n++] = s->radius[0];
    argv[n++] = s->radius[1];
    if (s->count.n) {
        argv[n++] = WORD("COUNT");
        argv[n++] = s->count;
    }
    if (s->order.n) argv[n++] = s->order;
    argv[n++] = s->storedist ? WORD("STOREDIST") : WORD("STORE");
    argv[n++] = s->dst;
    return n;
}

int old_geosearchstore(struct replay *rp, struct old_cmd *c, struct err *err)
{
    struct search s = {0};
    struct span argv[16];
    bool known = c->argc > 2;
    if (known) {
        s.dst = c->argv[1];
        s.src = c->argv[2];
    }
    for (size_t i = 3; i < c->argc && known; i++) {
        int n = take_search_word(&s, &c->argv[i], c->argc - i);
        known = n >= 0;
        i += n > 0 ? (size_t)n : 0;
    }
    if (known && s.center[0].p && s.radius[0].p)
        return old_write(rp, put_search(&s, argv), argv, err);
    if (replay_old_refuse(rp, s.dst, "GEOSEARCHSTORE",
                          "the target searches by radius only, and not for ANY", err) < 0)
        return -1;
    return old_drop(rp);
}

/* --- hashes --- */

static const char no_field_expiry[] = "the target has no expiry of hash fields";

/* Several fields at once: since 4.0, before that HMSET. */
int old_hset(struct replay *rp, struct old_cmd *c, struct err *err)
{
    if (c->argc > 4) c->argv[0] = WORD("HMSET");
    return old_write(rp, c->argc, c->argv, err);
}

/* The expiry of fields of this hash has no place: 1 go on without, -1. */
static int lose_expiry(struct replay *rp, struct span key, const char *cmd, struct err *err)
{
    if (rp->pl->cfg->on_unsupported == TASK_UNSUPPORTED_FAIL)
        return replay_old_refuse(rp, key, cmd, no_field_expiry, err) < 0 ? -1 : 1;
    replay_old_lost(rp, TRANSCODE_LOSS_FIELD_EXPIRY, key);
    return 1;
}

/* HPEXPIREAT key ms [NX|XX|GT|LT] FIELDS n field ... */
int old_hexpire(struct replay *rp, struct old_cmd *c, struct err *err)
{
    struct span key = c->argc > 1 ? c->argv[1] : WORD("");
    return lose_expiry(rp, key, "HPEXPIREAT", err) < 0 ? -1 : old_drop(rp);
}

/* No field expires there. */
int old_hpersist(struct replay *rp, struct old_cmd *c, struct err *err)
{
    (void)c;
    (void)err;
    return old_drop(rp);
}

/* FIELDS n ...: where the first field stands, 0 nowhere. Each has `width` arguments. */
static size_t find_fields(const struct old_cmd *c, size_t width, size_t *ret_n)
{
    uint64_t n;
    for (size_t i = 2; i + 1 < c->argc; i++) {
        if (!span_is(c->argv[i], "FIELDS")) continue;
        if (!put_number(c->argv[i + 1], &n) || i + 2 + width * n > c->argc) return 0;
        *ret_n = (size_t)n;
        return i + 2;
    }
    return 0;
}

/* HGETDEL key FIELDS n field ... */
int old_hgetdel(struct replay *rp, struct old_cmd *c, struct err *err)
{
    size_t n, at = find_fields(c, 1, &n);
    if (at == 0) return old_write(rp, c->argc, c->argv, err);
    c->argv[at - 2] = WORD("HDEL");
    c->argv[at - 1] = c->argv[1];
    return old_write(rp, 2 + n, c->argv + at - 2, err);
}

/* HSET's fields, then their deadline. */
static int set_and_expire_fields(struct replay *rp, struct span key, struct span at, size_t n,
                                 struct span *pairs, struct err *err)
{
    struct span *expire = calloc(n + 5, sizeof(*expire));
    struct replay_num t;
    if (!expire) return err_set(err, ERR_NOMEM, "out of memory for a command");
    expire[0] = WORD("HPEXPIREAT");
    expire[1] = key;
    expire[2] = at;
    expire[3] = WORD("FIELDS");
    expire[4] = replay_put_i64(&t, (int64_t)n);
    for (size_t i = 0; i < n; i++)
        expire[5 + i] = pairs[2 * i];
    pairs[-2] = WORD("HSET");
    pairs[-1] = key;
    int rc = old_put(rp, 2 + 2 * n, pairs - 2, err);
    if (rc == 0) rc = old_write(rp, 5 + n, expire, err);
    free(expire);
    return rc;
}

/* HSETEX key [EXAT s|PXAT ms|KEEPTTL] FIELDS n field value ...: as a HSET, and where fields can
 * expire their deadline; one of their own they keep only with KEEPTTL (what HINCRBYFLOAT sends). */
int old_hsetex(struct replay *rp, struct old_cmd *c, struct err *err)
{
    int64_t ms = -1;
    bool keep = false;
    size_t n, at = find_fields(c, 2, &n);
    if (at == 0) return old_write(rp, c->argc, c->argv, err);
    for (size_t i = 2; i + 2 < at; i++) {
        bool s = span_is(c->argv[i], "EXAT");
        keep |= span_is(c->argv[i], "KEEPTTL");
        if (!s && !span_is(c->argv[i], "PXAT")) continue;
        if (!num_get_i64(c->argv[++i], &ms) || __builtin_mul_overflow(ms, s ? 1000 : 1, &ms))
            return old_write(rp, c->argc, c->argv, err);
    }
    struct span key = c->argv[1], *pairs = c->argv + at;
    struct replay_num t;
    bool expires = old_target_has(rp, FACTS_HASH_FIELD_TTL);
    if (keep && expires) return old_hsetex_keepttl(rp, key, n, pairs, err);
    if (ms >= 0 && expires)
        return set_and_expire_fields(rp, key, replay_put_i64(&t, ms), n, pairs, err);
    if (ms >= 0 && lose_expiry(rp, key, "HSETEX", err) < 0) return -1;
    pairs[-2] = WORD("HSET");
    pairs[-1] = key;
    return old_put(rp, 2 + 2 * n, pairs - 2, err);
}

/* --- streams --- */

/* XGROUP CREATECONSUMER key group consumer (6.2+): asking for what is pending makes it as well. */
int old_createconsumer(struct replay *rp, struct old_cmd *c, struct err *err)
{
    if (c->argc != 5) return old_write(rp, c->argc, c->argv, err);
    struct span read[] = {WORD("XREADGROUP"), WORD("GROUP"), c->argv[3],
                          c->argv[4],         WORD("COUNT"), WORD("1"),
                          WORD("STREAMS"),    c->argv[2],    WORD("0")};
    return old_write(rp, 9, read, err);
}
