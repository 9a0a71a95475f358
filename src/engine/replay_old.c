// SPDX-License-Identifier: BSD-3-Clause
// What came later than the target, and what becomes of it: the table, and how it is read.
//
// What each version puts into its stream was measured with 131 client commands on 21 versions.
#include "engine/replay_old.h"

#include "base/crc64.h"
#include "base/log.h"
#include "engine/losses.h"

#include <stdio.h>
#include <stdlib.h>

#define V(major, minor) FACTS_VERSION(major, minor, 0)
#define NEVER           FACTS_NEVER
#define COMMANDS_MAX    512

enum how {
    KNOWN,  /* listed so that what stands behind it is found */
    DROP,   /* a condition that has been met, or without effect here */
    LOSE,   /* dropped, and something is lost */
    TURN,   /* put in other words */
    REFUSE, /* nothing of the target's does this */
};

struct row {
    const char *command;
    const char *word; /* an option, or a subcommand; NULL: the command itself */
    uint8_t from;     /* options begin at this argument */
    uint8_t args;     /* that follow the word */
    bool sign;        /* "=" or "~" may stand before them */
    /* First version that knows it, of Redis and (where not 0) of Valkey; other forks have what the
     * Redis has that they were made from. */
    unsigned redis, valkey;
    enum how how;
    unsigned loss;
    old_turn_fn *turn;
    const char *words;
};

#define OPTION(cmd, word, from, args, redis, valkey, how)                                          \
    {                                                                                              \
        cmd, word, from, args, false, redis, valkey, how, 0, NULL, NULL                            \
    }
#define OPTION_TURN(cmd, word, from, args, redis, valkey, turn)                                    \
    {                                                                                              \
        cmd, word, from, args, false, redis, valkey, TURN, 0, turn, NULL                           \
    }
#define OPTION_LOSE(cmd, word, from, args, redis, loss)                                            \
    {                                                                                              \
        cmd, word, from, args, false, redis, 0, LOSE, loss, NULL, NULL                             \
    }
#define OPTION_REFUSE(cmd, word, from, redis, words)                                               \
    {                                                                                              \
        cmd, word, from, 0, false, redis, 0, REFUSE, 0, NULL, words                                \
    }
/* MAXLEN, MINID [=|~] threshold */
#define TRIMMING(cmd, word, redis, how, turn)                                                      \
    {                                                                                              \
        cmd, word, 2, 1, true, redis, 0, how, 0, turn, NULL                                        \
    }
#define COMMAND(cmd, redis, valkey, turn)                                                          \
    {                                                                                              \
        cmd, NULL, 0, 0, false, redis, valkey, TURN, 0, turn, NULL                                 \
    }
#define COMMAND_REFUSE(cmd, redis, valkey, words)                                                  \
    {                                                                                              \
        cmd, NULL, 0, 0, false, redis, valkey, REFUSE, 0, NULL, words                              \
    }

static const char no_vectors[] = "the target has no vector sets";
static const char no_arrays[] = "the target has no arrays";
static const char no_deref[] = "the target cannot trim a stream with regard to its groups";
static const char no_bitop[] = "the target does not know this operation";

/* Rows of one command stand together: options in the order they are dealt with, the command itself
 * last. */
static const struct row rows[] = {
    OPTION("SET", "NX", 3, 0, 0, 0, KNOWN),
    OPTION("SET", "XX", 3, 0, 0, 0, KNOWN),
    OPTION("SET", "EX", 3, 1, 0, 0, KNOWN),
    OPTION("SET", "PX", 3, 1, 0, 0, KNOWN),
    OPTION("SET", "GET", 3, 0, V(6, 2), 0, DROP),
    OPTION("SET", "IFEQ", 3, 1, V(8, 4), V(8, 1), DROP),
    OPTION("SET", "IFNE", 3, 1, V(8, 4), NEVER, DROP),
    OPTION("SET", "IFDEQ", 3, 1, V(8, 4), NEVER, DROP),
    OPTION("SET", "IFDNE", 3, 1, V(8, 4), NEVER, DROP),
    OPTION_TURN("SET", "EXAT", 3, 1, V(6, 2), 0, old_set_time),
    OPTION_TURN("SET", "PXAT", 3, 1, V(6, 2), 0, old_set_time),
    OPTION_TURN("SET", "KEEPTTL", 3, 0, V(6, 0), 0, old_set_keepttl),
    COMMAND("MSETEX", V(8, 4), V(9, 1), old_msetex),
    COMMAND("GETDEL", V(6, 2), 0, old_del),
    COMMAND("DELEX", V(8, 4), NEVER, old_del),
    COMMAND("DELIFEQ", NEVER, V(9, 0), old_del),
    COMMAND("UNLINK", V(4, 0), 0, old_unlink),
    COMMAND("COPY", V(6, 2), 0, old_copy),
    COMMAND("RESTORE", V(5, 0), 0, old_restore),
    {"SWAPDB", NULL, 0, 0, false, V(4, 0), 0, REFUSE, 0, NULL, "the target cannot swap databases"},

    OPTION("EXPIREAT", "NX", 3, 0, V(7, 0), 0, DROP),
    OPTION("EXPIREAT", "XX", 3, 0, V(7, 0), 0, DROP),
    OPTION("EXPIREAT", "GT", 3, 0, V(7, 0), 0, DROP),
    OPTION("EXPIREAT", "LT", 3, 0, V(7, 0), 0, DROP),
    OPTION("PEXPIREAT", "NX", 3, 0, V(7, 0), 0, DROP),
    OPTION("PEXPIREAT", "XX", 3, 0, V(7, 0), 0, DROP),
    OPTION("PEXPIREAT", "GT", 3, 0, V(7, 0), 0, DROP),
    OPTION("PEXPIREAT", "LT", 3, 0, V(7, 0), 0, DROP),

    OPTION_REFUSE("BITOP", "DIFF", 1, V(8, 2), no_bitop),
    OPTION_REFUSE("BITOP", "DIFF1", 1, V(8, 2), no_bitop),
    OPTION_REFUSE("BITOP", "ANDOR", 1, V(8, 2), no_bitop),
    OPTION_REFUSE("BITOP", "ONE", 1, V(8, 2), no_bitop),

    COMMAND("LPOP", V(6, 2), 0, old_pop),
    COMMAND("RPOP", V(6, 2), 0, old_pop),
    COMMAND("LMOVE", V(6, 2), 0, old_lmove),

    OPTION("ZADD", "CH", 2, 0, V(3, 0), 0, DROP),
    OPTION_TURN("ZADD", "NX", 2, 0, V(3, 0), 0, old_zadd_flag),
    OPTION_TURN("ZADD", "GT", 2, 0, V(6, 2), 0, old_zadd_compare),
    OPTION_TURN("ZADD", "LT", 2, 0, V(6, 2), 0, old_zadd_compare),
    OPTION_TURN("ZADD", "XX", 2, 0, V(3, 0), 0, old_zadd_flag),
    OPTION_TURN("ZADD", "INCR", 2, 0, V(3, 0), 0, old_zadd_incr),
    COMMAND("ZPOPMIN", V(5, 0), 0, old_zpop),
    COMMAND("ZPOPMAX", V(5, 0), 0, old_zpop),
    COMMAND("ZRANGESTORE", V(6, 2), 0, old_zrangestore),
    COMMAND("ZDIFFSTORE", V(6, 2), 0, old_zdiffstore),
    COMMAND("GEOSEARCHSTORE", V(6, 2), 0, old_geosearchstore),

    COMMAND("HSET", V(4, 0), 0, old_hset),
    /* All or nothing, so met; Redis has no NX and XX, Valkey has all four. */
    OPTION("HSETEX", "FNX", 2, 0, NEVER, NEVER, DROP),
    OPTION("HSETEX", "FXX", 2, 0, NEVER, NEVER, DROP),
    OPTION("HSETEX", "NX", 2, 0, NEVER, NEVER, DROP),
    OPTION("HSETEX", "XX", 2, 0, NEVER, NEVER, DROP),
    OPTION("HSETEX", "EXAT", 2, 1, 0, 0, KNOWN),
    OPTION("HSETEX", "PXAT", 2, 1, 0, 0, KNOWN),
    OPTION("HSETEX", "KEEPTTL", 2, 0, 0, 0, KNOWN),
    COMMAND("HSETEX", V(8, 0), V(9, 0), old_hsetex),
    COMMAND("HGETDEL", V(8, 0), V(9, 1), old_hgetdel),
    COMMAND("HEXPIREAT", V(7, 4), V(9, 0), old_hexpire),
    COMMAND("HPEXPIREAT", V(7, 4), V(9, 0), old_hexpire),
    COMMAND("HPERSIST", V(7, 4), V(9, 0), old_hpersist),

    /* A source has resolved ~ into =, but leaves LIMIT beside it: nobody takes that from a client
     * that is not its source. */
    OPTION("XADD", "NOMKSTREAM", 2, 0, V(6, 2), 0, DROP),
    OPTION("XADD", "KEEPREF", 2, 0, V(8, 2), 0, DROP),
    OPTION_REFUSE("XADD", "DELREF", 2, V(8, 2), no_deref),
    OPTION_REFUSE("XADD", "ACKED", 2, V(8, 2), no_deref),
    TRIMMING("XADD", "MAXLEN", 0, KNOWN, NULL),
    OPTION("XADD", "LIMIT", 2, 1, NEVER, NEVER, DROP),
    TRIMMING("XADD", "MINID", V(6, 2), TURN, old_minid),
    OPTION("XTRIM", "KEEPREF", 2, 0, V(8, 2), 0, DROP),
    OPTION_REFUSE("XTRIM", "DELREF", 2, V(8, 2), no_deref),
    OPTION_REFUSE("XTRIM", "ACKED", 2, V(8, 2), no_deref),
    TRIMMING("XTRIM", "MAXLEN", 0, KNOWN, NULL),
    OPTION("XTRIM", "LIMIT", 2, 1, NEVER, NEVER, DROP),
    TRIMMING("XTRIM", "MINID", V(6, 2), TURN, old_minid),
    OPTION_LOSE("XSETID", "ENTRIESADDED", 3, 1, V(7, 0), TRANSCODE_LOSS_COUNTERS),
    OPTION_LOSE("XSETID", "MAXDELETEDID", 3, 1, V(7, 0), TRANSCODE_LOSS_COUNTERS),
    OPTION_TURN("XGROUP", "CREATECONSUMER", 1, 0, V(6, 2), 0, old_createconsumer),
    OPTION("XGROUP", "MKSTREAM", 5, 0, 0, 0, KNOWN),
    OPTION_LOSE("XGROUP", "ENTRIESREAD", 5, 1, V(7, 0), TRANSCODE_LOSS_COUNTERS),
    COMMAND("XCLAIM", V(7, 0), 0, old_xclaim),
    COMMAND("XDELEX", V(8, 2), NEVER, old_xdelex),
    COMMAND("XACKDEL", V(8, 2), NEVER, old_xackdel),
    COMMAND_REFUSE("XNACK", V(8, 8), NEVER, "the target has no pending entries without an owner"),

    COMMAND_REFUSE("VADD", V(8, 0), NEVER, no_vectors),
    COMMAND_REFUSE("VREM", V(8, 0), NEVER, no_vectors),
    COMMAND_REFUSE("VSETATTR", V(8, 0), NEVER, no_vectors),
    COMMAND_REFUSE("ARDEL", V(8, 8), NEVER, no_arrays),
    COMMAND_REFUSE("ARDELRANGE", V(8, 8), NEVER, no_arrays),
    COMMAND_REFUSE("ARINSERT", V(8, 8), NEVER, no_arrays),
    COMMAND_REFUSE("ARMSET", V(8, 8), NEVER, no_arrays),
    COMMAND_REFUSE("ARRING", V(8, 8), NEVER, no_arrays),
    COMMAND_REFUSE("ARSEEK", V(8, 8), NEVER, no_arrays),
    COMMAND_REFUSE("ARSET", V(8, 8), NEVER, no_arrays),
    COMMAND_REFUSE("INCREX", V(8, 8), NEVER, "the target does not know this command"),

    OPTION("SCRIPT", "ASYNC", 2, 0, V(6, 2), 0, DROP),
    OPTION("SCRIPT", "SYNC", 2, 0, V(6, 2), 0, DROP),
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

struct replay_old {
    bool lacks[ROWS];     /* the target does not know it */
    struct {              /* by place in the command table */
        uint8_t from, to; /* its rows, from the first that the target lacks */
    } rows_of[COMMANDS_MAX];
    uint64_t named[LOSSES_KINDS + 1][LOSSES_NAMED]; /* keys told of, by hash; the last: left out */
    uint64_t left_out;
};

static bool is_known(const struct server_facts *target, const struct row *r)
{
    return r->how == KNOWN || facts_since(target, r->redis, r->valkey);
}

int replay_old_new(struct replay_old **ret, const struct replay *rp, struct err *err)
{
    struct replay_old *old = calloc(1, sizeof(*old));
    if (!old) return err_set(err, ERR_NOMEM, "out of memory for the replay");
    _Static_assert(ROWS < UINT8_MAX, "a row's number fits a byte");
    for (size_t i = ROWS; i-- > 0;) {
        const struct cmd_info *info = cmd_find(span_str(rows[i].command));
        size_t at = info ? (size_t)(info - cmd_at(0)) : COMMANDS_MAX;
        if (at >= COMMANDS_MAX) {
            free(old);
            return err_set(err, ERR_INTERNAL, "command %s is not in the table", rows[i].command);
        }
        old->lacks[i] = !is_known(rp->target, &rows[i]);
        if (!old->lacks[i]) continue;
        old->rows_of[at].from = (uint8_t)i;
        if (old->rows_of[at].to == 0) old->rows_of[at].to = (uint8_t)(i + 1);
    }
    *ret = old;
    return 0;
}

void replay_old_free(struct replay_old *old)
{
    free(old);
}

/* --- what is told --- */

/* Is this the first we hear of the key, in this regard, and is there room to name it? */
static bool names(struct replay_old *old, unsigned kind, struct span key)
{
    uint64_t hash = crc64(~(uint64_t)0, key.p, key.n) | 1; /* 0 is free */
    for (size_t i = 0; i < LOSSES_NAMED; i++) {
        uint64_t *slot = &old->named[kind][i];
        if (*slot == hash) return false;
        if (*slot) continue;
        *slot = hash;
        return true;
    }
    return false;
}

void replay_old_lost(struct replay *rp, unsigned bits, struct span key)
{
    struct losses l = {0};
    for (unsigned i = 0; i < LOSSES_KINDS; i++)
        if (bits >> i & 1 && names(rp->old, i, key)) losses_note(&l, 1U << i, (int64_t)rp->db, key);
}

int replay_old_refuse(struct replay *rp, struct span key, const char *cmd, const char *words,
                      struct err *err)
{
    char text[200], name[160];
    if (rp->pl->cfg->on_unsupported == TASK_UNSUPPORTED_FAIL) {
        snprintf(text, sizeof(text), "%s (--on-unsupported skip or degrade goes on)", words);
        return refusals_report(&rp->pl->refusals, (int64_t)rp->db, key, cmd, text, err);
    }
    rp->old->left_out++;
    if (!key.p)
        log_warn("lost %s: %s", cmd, words);
    else if (names(rp->old, LOSSES_KINDS, key))
        log_warn("key %s of database %llu: lost %s: %s", num_quote(name, sizeof(name), key),
                 (unsigned long long)rp->db, cmd, words);
    return 0;
}

void replay_old_tell(struct replay *rp)
{
    if (rp->old->left_out)
        log_warn("%llu changes were left out: the target cannot make them",
                 (unsigned long long)rp->old->left_out);
    rp->old->left_out = 0;
}

/* --- reading the table --- */

static bool same_options(const struct row *a, const struct row *b)
{
    return a->word && strcmp(a->command, b->command) == 0 && a->from == b->from;
}

/* The rows of a's command with options at the same place: where they begin. */
static const struct row *options_of(const struct row *r)
{
    while (r > rows && strcmp(r[-1].command, r->command) == 0)
        r--;
    return r;
}

static size_t option_length(const struct row *r, const struct old_cmd *c, size_t at)
{
    bool sign = r->sign && at + 1 < c->argc &&
                (span_is(c->argv[at + 1], "=") || span_is(c->argv[at + 1], "~"));
    return 1U + r->args + sign;
}

/* Where an option stands; 0 nowhere. Options end at the first word that is none. */
static size_t find_option(const struct row *want, const struct old_cmd *c, size_t *ret_n)
{
    for (size_t at = want->from; at < c->argc;) {
        const struct row *r = options_of(want), *end = rows + ROWS;
        while (r < end && strcmp(r->command, want->command) == 0 &&
               !(same_options(r, want) && span_is(c->argv[at], r->word)))
            r++;
        if (r == end || strcmp(r->command, want->command) != 0) return 0;
        *ret_n = option_length(r, c, at);
        if (r == want) return at + *ret_n <= c->argc ? at : 0;
        at += *ret_n;
    }
    return 0;
}

static struct span key_of(const struct cmd_info *info, const struct old_cmd *c)
{
    size_t at = cmd_first_key(info, c->argc, c->argv);
    return at && at < c->argc ? c->argv[at] : span_of("", 0);
}

void old_cut(struct old_cmd *c, size_t at, size_t n)
{
    memmove(c->argv + at, c->argv + at + n, (c->argc - at - n) * sizeof(*c->argv));
    c->argc -= n;
}

int old_drop(struct replay *rp)
{
    replay_batch(rp)->data_cmds--;
    replay_filtered(rp);
    return 0;
}

/* One row that the target does not know. 0: the command has been dealt with. 1: go on. */
static int apply(struct replay *rp, const struct cmd_info *info, const struct row *r,
                 struct old_cmd *c, struct err *err)
{
    size_t n = 0;
    c->at = r->word ? find_option(r, c, &n) : 0;
    if (r->word && c->at == 0) return 1;
    switch (r->how) {
    case KNOWN: return 1;
    case LOSE:
        replay_old_lost(rp, r->loss, key_of(info, c));
        old_cut(c, c->at, n);
        return 1;
    case DROP: old_cut(c, c->at, n); return 1;
    case TURN: return r->turn(rp, c, err);
    case REFUSE: break;
    }
    if (replay_old_refuse(rp, key_of(info, c), info->name, r->words, err) < 0) return -1;
    return old_drop(rp);
}

/* A command of one key, which is by far the most there is: where it goes. */
static void route(struct replay *rp, const struct cmd_info *info, const struct old_cmd *c)
{
    size_t at = info ? cmd_only_key(info, c->argc) : 0;
    if (at == 0) return;
    struct span key = c->argv[at];
    bool known = key.p == rp->slotted.p && key.n == rp->slotted.n;
    batch_route(replay_batch(rp), known ? rp->slot : slot_of(key),
                cmd_is_idempotent(info, c->argc, c->argv));
}

int replay_put(struct replay *rp, const struct cmd_info *info, struct span raw, size_t argc,
               struct span *argv, struct err *err)
{
    struct batch *b = replay_batch(rp);
    struct old_cmd c = {.argc = argc, .argv = argv};
    size_t at = info ? (size_t)(info - cmd_at(0)) : 0;
    size_t from = rp->old->rows_of[at].from, to = info ? rp->old->rows_of[at].to : 0;
    for (size_t i = from; i < to; i++) {
        if (!rp->old->lacks[i]) continue;
        int rc = apply(rp, info, &rows[i], &c, err);
        if (rc <= 0) return rc;
    }
    bool as_it_came = raw.n && c.argc == argc;
    if ((as_it_came ? batch_raw(b, raw, err) : batch_args(b, c.argc, c.argv, err)) < 0) return -1;
    if (b->routed) route(rp, info, &c);
    return 0;
}

int old_put(struct replay *rp, size_t argc, struct span *argv, struct err *err)
{
    return replay_put(rp, cmd_find(argv[0]), span_of(NULL, 0), argc, argv, err);
}

int old_write(struct replay *rp, size_t argc, const struct span *argv, struct err *err)
{
    return batch_args(replay_batch(rp), argc, argv, err);
}

bool old_target_has(const struct replay *rp, enum facts_feature feature)
{
    return facts_has(rp->target, feature);
}
