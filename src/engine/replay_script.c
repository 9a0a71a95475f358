// SPDX-License-Identifier: BSD-3-Clause
// Commands that the target does not know, as scripts: where what they do depends on what is there.
//
// Each script begins with a comment that says what it stands for: it is what shows in the target's
// slow log, and where an error is told. A script of the time before 5.0 may only write after it has
// looked at the clock when it asks for its effects to be replicated (3.2+).
#include "engine/replay_old.h"

#include <stdio.h>
#include <stdlib.h>

#define WORD(s) span_str(s)

/* EVAL script n key ... arg ... */
static int eval(struct replay *rp, const char *script, size_t n_keys, const struct span *keys,
                size_t n_args, const struct span *args, struct err *err)
{
    struct replay_num t;
    struct span *argv = calloc(3 + n_keys + n_args, sizeof(*argv));
    if (!argv) return err_set(err, ERR_NOMEM, "out of memory for a command");
    argv[0] = WORD("EVAL");
    argv[1] = WORD(script);
    argv[2] = replay_put_i64(&t, (int64_t)n_keys);
    memcpy(argv + 3, keys, n_keys * sizeof(*argv));
    if (n_args) memcpy(argv + 3 + n_keys, args, n_args * sizeof(*argv));
    int rc = old_write(rp, 3 + n_keys + n_args, argv, err);
    free(argv);
    return rc;
}

/* deadline(key): in unix ms, nil without. To the millisecond: the clock must not tick meanwhile. */
#define DEADLINE                                                                                   \
    "if redis.replicate_commands then redis.replicate_commands() end "                             \
    "local function now() local t=redis.call('TIME') "                                             \
    "return t[1]*1000+math.floor(t[2]/1000) end "                                                  \
    "local function deadline(k) local at,left repeat at=now() left=redis.call('PTTL',k) "          \
    "until now()==at if left<0 then return nil end return string.format('%.0f',at+left) end "

/* SET key value KEEPTTL (6.0+); of its conditions, those that the target knows are needless. */
int old_set_keepttl(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] =
        "-- keyhaul: SET KEEPTTL\n" DEADLINE "local t=deadline(KEYS[1]) "
        "redis.call('SET',KEYS[1],ARGV[1]) if t then redis.call('PEXPIREAT',KEYS[1],t) end";
    return eval(rp, script, 1, c->argv + 1, 1, c->argv + 2, err);
}

/* COPY from to [DB n] [REPLACE] (6.2+) */
int old_copy(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] =
        "-- keyhaul: COPY\n" DEADLINE "local v=redis.call('DUMP',KEYS[1]) if not v then return end "
        "local t=deadline(KEYS[1]) if ARGV[1]~='' then redis.call('SELECT',ARGV[1]) end "
        "redis.call('DEL',KEYS[2]) redis.call('RESTORE',KEYS[2],0,v) "
        "if t then redis.call('PEXPIREAT',KEYS[2],t) end";
    struct span db = WORD("");
    if (c->argc < 3) return old_write(rp, c->argc, c->argv, err);
    for (size_t i = 3; i + 1 < c->argc; i++)
        if (span_is(c->argv[i], "DB")) db = c->argv[++i];
    return eval(rp, script, 2, c->argv + 1, 1, &db, err);
}

/* The element is pushed before it is popped, so that a key that is moved within itself lives on. */
int old_lmove_script(struct replay *rp, struct span *key, bool from_left, bool to_left,
                     struct err *err)
{
    static const char script[] =
        "-- keyhaul: LMOVE\nlocal v=redis.call('LINDEX',KEYS[1],ARGV[1]) if not v then return end "
        "redis.call(ARGV[3],KEYS[2],v) redis.call(ARGV[2],KEYS[1])";
    struct span args[] = {from_left ? WORD("0") : WORD("-1"),
                          from_left ? WORD("LPOP") : WORD("RPOP"),
                          to_left ? WORD("LPUSH") : WORD("RPUSH")};
    return eval(rp, script, 2, key, 3, args, err);
}

/* --- sorted sets --- */

/* ZADD key [XX] GT|LT [CH] [INCR] score member ... (6.2+). Of one member it took effect; of several
 * perhaps only on some. */
int old_zadd_compare(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] =
        "-- keyhaul: ZADD GT, LT\nfor i=3,#ARGV,2 do "
        "local old,new=redis.call('ZSCORE',KEYS[1],ARGV[i+1]),tonumber(ARGV[i]) "
        "local more=old and (ARGV[1]=='GT' and new>tonumber(old) or "
        "ARGV[1]=='LT' and new<tonumber(old)) "
        "if more or (not old and ARGV[2]=='') then "
        "redis.call('ZADD',KEYS[1],ARGV[i],ARGV[i+1]) end end";
    bool gt = span_is(c->argv[c->at], "GT"), xx = false;
    size_t first = 2;
    old_cut(c, c->at, 1);
    for (; first < c->argc; first++) {
        bool flag = span_is(c->argv[first], "CH") || span_is(c->argv[first], "INCR");
        if (span_is(c->argv[first], "XX")) xx = flag = true;
        if (!flag) break;
    }
    if (c->argc - first <= 2) return old_put(rp, c->argc, c->argv, err);
    struct span key = c->argv[1];
    c->argv[first - 2] = gt ? WORD("GT") : WORD("LT");
    c->argv[first - 1] = xx ? WORD("XX") : WORD("");
    return eval(rp, script, 1, &key, c->argc - first + 2, c->argv + first - 2, err);
}

/* ZRANGESTORE dst src min max [BYSCORE|BYLEX] [REV] [LIMIT offset count] (6.2+): the command that
 * reads the same, and where its LIMIT stands. */
int old_zrangestore(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] =
        "-- keyhaul: ZRANGESTORE\nlocal m,s=redis.call(ARGV[1],KEYS[2],unpack(ARGV,2)),{} "
        "for i,x in ipairs(m) do s[i]=redis.call('ZSCORE',KEYS[2],x) end "
        "redis.call('DEL',KEYS[1]) "
        "for i,x in ipairs(m) do redis.call('ZADD',KEYS[1],s[i],x) end";
    static const char *const commands[3][2] = {{"ZRANGE", "ZREVRANGE"},
                                               {"ZRANGEBYSCORE", "ZREVRANGEBYSCORE"},
                                               {"ZRANGEBYLEX", "ZREVRANGEBYLEX"}};
    unsigned by = 0, rev = 0;
    if (c->argc < 5) return old_write(rp, c->argc, c->argv, err);
    struct span args[6] = {WORD(""), c->argv[3], c->argv[4]};
    size_t n = 3;
    for (size_t i = 5; i < c->argc; i++) {
        if (span_is(c->argv[i], "BYSCORE")) by = 1;
        if (span_is(c->argv[i], "BYLEX")) by = 2;
        if (span_is(c->argv[i], "REV")) rev = 1;
        if (!span_is(c->argv[i], "LIMIT") || i + 2 >= c->argc) continue;
        memcpy(args + 3, c->argv + i, 3 * sizeof(*args));
        n = 6;
        i += 2;
    }
    args[0] = WORD(commands[by][rev]);
    return eval(rp, script, 2, c->argv + 1, n, args, err);
}

/* ZDIFFSTORE dst n key ... (6.2+); sets count as sorted sets whose scores are all 1. */
int old_zdiffstore(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] =
        "-- keyhaul: ZDIFFSTORE\nlocal is={} "
        "for i=2,#KEYS do is[i]=redis.call('TYPE',KEYS[i]).ok=='set' end "
        "local m,left=is[2] and redis.call('SMEMBERS',KEYS[2]) or "
        "redis.call('ZRANGE',KEYS[2],0,-1),{} "
        "for _,x in ipairs(m) do local found=false for i=3,#KEYS do "
        "if is[i] then found=found or redis.call('SISMEMBER',KEYS[i],x)==1 "
        "else found=found or redis.call('ZSCORE',KEYS[i],x) end end "
        "if not found then left[#left+1]={x,is[2] and 1 or redis.call('ZSCORE',KEYS[2],x)} end end "
        "redis.call('DEL',KEYS[1]) "
        "for _,e in ipairs(left) do redis.call('ZADD',KEYS[1],e[2],e[1]) end";
    uint64_t n;
    if (c->argc < 4 || !num_get_u64(c->argv[2], &n) || n != c->argc - 3)
        return old_write(rp, c->argc, c->argv, err);
    c->argv[2] = c->argv[1];
    return eval(rp, script, c->argc - 2, c->argv + 2, 0, NULL, err);
}

/* --- hashes --- */

/* HSETEX key KEEPTTL FIELDS ... on Redis 7.4: fields can expire, but HSET ends that. */
int old_hsetex_keepttl(struct replay *rp, struct span key, size_t n_pairs, struct span *pairs,
                       struct err *err)
{
    static const char script[] = "-- keyhaul: HSETEX KEEPTTL\nfor i=1,#ARGV,2 do "
                                 "local t=redis.call('HPEXPIRETIME',KEYS[1],'FIELDS',1,ARGV[i]) "
                                 "redis.call('HSET',KEYS[1],ARGV[i],ARGV[i+1]) "
                                 "if t and t[1] and t[1]>0 then "
                                 "redis.call('HPEXPIREAT',KEYS[1],t[1],'FIELDS',1,ARGV[i]) end end";
    return eval(rp, script, 1, &key, 2 * n_pairs, pairs, err);
}

/* --- streams --- */

/* XCLAIM of an entry whose message is gone takes it off the list of pending ones, since 7.0 (also
 * on behalf of XAUTOCLAIM); before that it gives it a new owner. */
int old_xclaim(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] = "-- keyhaul: XCLAIM\nredis.call('XCLAIM',KEYS[1],unpack(ARGV)) "
                                 "if #redis.call('XRANGE',KEYS[1],ARGV[4],ARGV[4])==0 then "
                                 "redis.call('XACK',KEYS[1],ARGV[1],ARGV[4]) end";
    bool gone = rp->source->version && facts_since(rp->source, FACTS_VERSION(7, 0, 0), 0);
    if (!gone || c->argc < 6) return old_write(rp, c->argc, c->argv, err);
    return eval(rp, script, 1, c->argv + 1, c->argc - 2, c->argv + 2, err);
}

struct id_text {
    char text[2 * NUM_INT64_CHARS + 1];
};

/* The id right below this one, empty: there is none, or it is no id. */
static struct span id_below(struct span id, struct id_text *t)
{
    uint64_t ms, seq = 0;
    const uint8_t *dash = memchr(id.p, '-', id.n);
    size_t n = dash ? (size_t)(dash - id.p) : id.n;
    if (!num_get_u64(span_of(id.p, n), &ms)) return WORD("");
    if (dash && !num_get_u64(span_of(dash + 1, id.n - n - 1), &seq)) return WORD("");
    if (ms == 0 && seq == 0) return WORD("");
    if (seq == 0) ms--;
    seq--; /* of 0: the largest */
    n = num_put_u64(t->text, ms);
    t->text[n++] = '-';
    n += num_put_u64(t->text + n, seq);
    return span_of(t->text, n);
}

/* XADD, XTRIM key ... MINID [=] id ... (6.2+): the message, then what is older goes one by one. */
int old_minid(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] =
        "-- keyhaul: MINID\nrepeat local m=redis.call('XRANGE',KEYS[1],'-',ARGV[1],'COUNT',1000) "
        "for _,e in ipairs(m) do redis.call('XDEL',KEYS[1],e[1]) end until #m<1000";
    size_t sign = span_is(c->argv[c->at + 1], "=") || span_is(c->argv[c->at + 1], "~");
    struct id_text t;
    struct span key = c->argv[1], id = c->argv[c->at + 1 + sign], below = id_below(id, &t);
    bool adds = span_is(c->argv[0], "XADD");
    if (below.n == 0 && !adds) return old_drop(rp);
    old_cut(c, c->at, 2 + sign);
    if (adds && old_put(rp, c->argc, c->argv, err) < 0) return -1;
    return below.n ? eval(rp, script, 1, &key, 1, &below, err) : 0;
}

/* XDELEX key [KEEPREF|DELREF|ACKED] IDS n id ...
 * XACKDEL key group [KEEPREF|DELREF|ACKED] IDS n id ... (both 8.2+)
 * DELREF takes the message out of all groups, ACKED keeps it while one has not acknowledged it. */
#define DELETE_ENTRIES                                                                             \
    "local function after(a,b) local m,s,n,t=a:match('^(%d+)%-(%d+)$') n,t=b:match("               \
    "'^(%d+)%-(%d+)$') if m~=n then if #m~=#n then return #m>#n end return m>n end "               \
    "if #s~=#t then return #s>#t end return s>t end "                                              \
    "local function field(g,name) for i=1,#g,2 do if g[i]==name then return g[i+1] end end end "   \
    "local function full(id) return id:find('-',1,true) and id or id..'-0' end "                   \
    "local groups=redis.call('XINFO','GROUPS',KEYS[1]) "                                           \
    "local function delete(id) local keep=false for _,g in ipairs(groups) do "                     \
    "local name=field(g,'name') "                                                                  \
    "if ARGV[2]=='DELREF' then redis.call('XACK',KEYS[1],name,id) end "                            \
    "if ARGV[2]=='ACKED' then keep=keep or after(id,field(g,'last-delivered-id')) or "             \
    "#redis.call('XPENDING',KEYS[1],name,id,id,1)>0 end end "                                      \
    "if not keep then redis.call('XDEL',KEYS[1],id) end end "

static int delete_entries(struct replay *rp, struct old_cmd *c, const char *script, size_t from,
                          struct span group, struct err *err)
{
    size_t at = from;
    struct span mode = WORD("KEEPREF"), key = c->argv[1];
    while (at + 1 < c->argc && !span_is(c->argv[at], "IDS")) {
        if (span_is(c->argv[at], "DELREF")) mode = WORD("DELREF");
        if (span_is(c->argv[at], "ACKED")) mode = WORD("ACKED");
        at++;
    }
    if (at + 2 >= c->argc) return old_write(rp, c->argc, c->argv, err);
    c->argv[at] = group;
    c->argv[at + 1] = mode;
    return eval(rp, script, 1, &key, c->argc - at, c->argv + at, err);
}

int old_xdelex(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] = "-- keyhaul: XDELEX\n" DELETE_ENTRIES
                                 "for i=3,#ARGV do local id=full(ARGV[i]) "
                                 "if #redis.call('XRANGE',KEYS[1],id,id)>0 then delete(id) end end";
    if (c->argc < 5) return old_write(rp, c->argc, c->argv, err);
    return delete_entries(rp, c, script, 2, WORD(""), err);
}

int old_xackdel(struct replay *rp, struct old_cmd *c, struct err *err)
{
    static const char script[] =
        "-- keyhaul: XACKDEL\n" DELETE_ENTRIES "for i=3,#ARGV do local id=full(ARGV[i]) "
        "if redis.call('XACK',KEYS[1],ARGV[1],id)==1 then delete(id) end end";
    if (c->argc < 6) return old_write(rp, c->argc, c->argv, err);
    return delete_entries(rp, c, script, 3, c->argv[2], err);
}
