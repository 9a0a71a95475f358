// SPDX-License-Identifier: BSD-3-Clause
// May the target's user do what the task needs? Asked inside MULTI ... DISCARD: the server checks
// rights, role and memory when it queues a command, and then nothing is executed.
#include "check/check.h"
#include "engine/checkpoint.h"

#include <ctype.h>
#include <stdio.h>

#define PROBE_KEY "keyhaul:rights-check"
/* A user may have been given these keys apart from the others. */
#define MARK_KEY CHECKPOINT_PREFIX "rights-check"

enum need {
    NEED_LOAD,   /* the task cannot do without */
    NEED_MARK,   /* the same, for its checkpoint; a restore has none */
    NEED_STREAM, /* only when the source sends one */
    NEED_SWAP,   /* that, and the target has several databases */
    NEED_BRING,  /* the task cannot do without in a cluster: keys are brought to another slot */
};

/* Harmless ones first: should a server not honour MULTI, it is noticed before anything that
 * writes. The arguments only have to pass the check of their number. */
static const struct probe {
    enum need need;
    int feature; /* enum facts_feature the server must have; -1 none */
    const char *words;
} PROBES[] = {
    {NEED_LOAD, -1, "EXISTS " PROBE_KEY},
    {NEED_LOAD, -1, "DBSIZE"},
    {NEED_LOAD, FACTS_SCAN, "SCAN 0"},
    {NEED_LOAD, -1, "SELECT 0"},
    {NEED_LOAD, -1, "DEL " PROBE_KEY},
    {NEED_LOAD, FACTS_UNLINK, "UNLINK " PROBE_KEY},
    {NEED_LOAD, -1, "PEXPIREAT " PROBE_KEY " 1"},
    {NEED_LOAD, FACTS_RESTORE, "RESTORE " PROBE_KEY " 0 x"},
    {NEED_LOAD, -1, "SET " PROBE_KEY " x"},
    {NEED_MARK, -1, "WATCH " MARK_KEY},
    {NEED_MARK, -1, "GET " MARK_KEY},
    {NEED_MARK, -1, "SET " MARK_KEY " x"},
    {NEED_LOAD, -1, "APPEND " PROBE_KEY " x"},
    {NEED_LOAD, -1, "RPUSH " PROBE_KEY " x"},
    {NEED_LOAD, -1, "SADD " PROBE_KEY " x"},
    {NEED_LOAD, -1, "ZADD " PROBE_KEY " 1 x"},
    {NEED_LOAD, -1, "HSET " PROBE_KEY " f x"},
    {NEED_LOAD, FACTS_STREAMS, "XADD " PROBE_KEY " * f x"},
    {NEED_LOAD, FACTS_STREAMS, "XGROUP CREATE " PROBE_KEY " g $"},
    {NEED_LOAD, FACTS_STREAMS, "XCLAIM " PROBE_KEY " g c 0 1-1"},
    {NEED_LOAD, FACTS_STREAMS, "XSETID " PROBE_KEY " 1-1"},
    {NEED_LOAD, FACTS_FUNCTIONS, "FUNCTION LOAD x"},
    {NEED_STREAM, -1, "SCRIPT LOAD x"},
    {NEED_STREAM, -1, "EVAL x 0"},
    {NEED_STREAM, -1, "PUBLISH " PROBE_KEY " x"},
    {NEED_STREAM, FACTS_SPUBLISH, "SPUBLISH " PROBE_KEY " x"},
    {NEED_SWAP, FACTS_UNLINK, "SWAPDB 0 0"},
    {NEED_STREAM, -1, "FLUSHDB"},
    {NEED_STREAM, -1, "FLUSHALL"},
    {NEED_BRING, -1, "DUMP " PROBE_KEY},
};

struct findings {
    char denied[320];   /* rules for ACL SETUSER: "+restore +flushdb ~*" */
    char absent[200];   /* commands the server does not know, needed */
    char optional[200]; /* the same, needed only when the source sends one */
    bool oom;
};

/* Add a word to a list, once. */
static void add_word(char *list, size_t size, const char *prefix, const char *word)
{
    char item[48];
    size_t n = (size_t)snprintf(item, sizeof(item), "%s%s", prefix, word);
    if (n >= sizeof(item)) n = sizeof(item) - 1;
    for (const char *at = list; (at = strstr(at, item)) != NULL; at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == 0 || at[n] == ' ')) return;
    size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%s", used ? " " : "", item);
}

static void add_denied(struct findings *f, const char *command, const char *words)
{
    switch (peer_denied(words)) {
    case PEER_DENIED_COMMAND: add_word(f->denied, sizeof(f->denied), "+", command); break;
    case PEER_DENIED_KEY: add_word(f->denied, sizeof(f->denied), "", "~*"); break;
    case PEER_DENIED_CHANNEL: add_word(f->denied, sizeof(f->denied), "", "&*"); break;
    case PEER_DENIED_DB: add_word(f->denied, sizeof(f->denied), "", "alldbs"); break;
    }
}

/* One error reply. -1: it stops everything. */
static int weigh_error(const struct client *c, const struct reply *r, enum need need,
                       const char *command, struct findings *f, struct err *err)
{
    char text[200];
    const char *words = reply_words(text, sizeof(text), r);
    /* How 6.2+ refuse EXEC: "EXECABORT Transaction discarded because of: NOPERM ..." */
    const char *inner = peer_says(words, "EXECABORT") ? strstr(words, "because of: ") : NULL;
    if (inner) words = inner + strlen("because of: ");
    if (peer_says(words, "NOPERM")) {
        add_denied(f, command, words);
        return 0;
    }
    if (peer_says(words, "OOM")) {
        f->oom = true;
        return 0;
    }
    if (peer_unknown_command(words) && !strstr(words, "transaction")) {
        bool optional = need == NEED_STREAM || need == NEED_SWAP;
        char *list = optional ? f->optional : f->absent;
        add_word(list, optional ? sizeof(f->optional) : sizeof(f->absent), "", command);
        return 0;
    }
    /* Another node has the key: rights are looked at before that. */
    if (peer_says(words, "MOVED") || peer_says(words, "ASK")) return 0;
    /* "wrong number of arguments", "not allowed inside a transaction": known and allowed. */
    return peer_says(words, "ERR") ? 0 : peer_refused(client_peer(c), command, words, err);
}

/* Split at spaces; the first word in lower case at `command`. */
static size_t split(const char *words, struct span argv[8], char *command, size_t size)
{
    size_t argc = 0;
    for (const char *p = words; *p && argc < 8; argc++) {
        size_t n = strcspn(p, " ");
        argv[argc] = span_of(p, n);
        p += p[n] ? n + 1 : n;
    }
    size_t n = argv[0].n < size - 1 ? argv[0].n : size - 1;
    for (size_t i = 0; i < n; i++)
        command[i] = (char)tolower(argv[0].p[i]);
    command[n] = 0;
    return argc;
}

static int run_probe(struct client *c, const struct probe *p, struct findings *f, struct err *err)
{
    struct span argv[8];
    char command[24];
    size_t argc = split(p->words, argv, command, sizeof(command));
    struct reply *r;
    if (client_callv(c, &r, argc, argv, err) < 0) return -1;
    int rc = 0;
    if (reply_is_error(r))
        rc = weigh_error(c, r, p->need, command, f, err);
    else if (!reply_is(r, "QUEUED"))
        rc = err_set(err, ERR_REFUSED,
                     "%s: does not honour MULTI (%s was executed at once): a proxy? Give the "
                     "address of the server itself",
                     client_name(c), command);
    reply_free(r);
    return rc;
}

/* One command outside of the queue: MULTI, EXEC, DISCARD. 1 well, 0 refused and noted. */
static int run_plain(struct client *c, const char *command, struct findings *f, struct err *err)
{
    struct probe p = {NEED_LOAD, -1, command};
    struct span argv[8];
    char lower[24];
    struct reply *r;
    if (client_callv(c, &r, split(p.words, argv, lower, sizeof(lower)), argv, err) < 0) return -1;
    int rc = reply_is_error(r) ? weigh_error(c, r, NEED_LOAD, lower, f, err) : 1;
    reply_free(r);
    return rc;
}

/* An empty transaction: shows whether EXEC is allowed, and executes nothing. */
static int probe_exec(struct client *c, struct findings *f, struct err *err)
{
    int rc = run_plain(c, "MULTI", f, err);
    if (rc <= 0) return rc;
    rc = run_plain(c, "EXEC", f, err);
    if (rc != 0) return rc;
    /* 6.0 stays in the transaction, later ones have left it: "ERR DISCARD without MULTI". */
    return run_plain(c, "DISCARD", f, err) < 0 ? -1 : 1;
}

static bool is_needed(const struct probe *p, const struct server_facts *facts,
                      const struct task_config *cfg)
{
    bool streams = cfg->type != TASK_FULL;
    if (p->feature >= 0 && !facts_has(facts, (enum facts_feature)p->feature)) return false;
    switch (p->need) {
    case NEED_LOAD: break;
    case NEED_MARK: return task_way(cfg) == TASK_MIGRATE;
    case NEED_STREAM: return streams;
    case NEED_SWAP: return streams && !facts->cluster;
    case NEED_BRING: return streams && facts->cluster;
    }
    return true;
}

static int probe_all(struct client *c, const struct server_facts *facts,
                     const struct task_config *cfg, struct findings *f, struct err *err)
{
    int rc = probe_exec(c, f, err);
    if (rc > 0) rc = run_plain(c, "MULTI", f, err);
    /* Not in a transaction: whatever came now would be executed. */
    if (rc <= 0) return rc;
    for (size_t i = 0; i < sizeof(PROBES) / sizeof(PROBES[0]); i++) {
        const struct probe *p = &PROBES[i];
        if (!is_needed(p, facts, cfg)) continue;
        if (run_probe(c, p, f, err) < 0) {
            struct findings rest = {0};
            run_plain(c, "DISCARD", &rest, NULL); /* the first error is the one to tell */
            return -1;
        }
    }
    return run_plain(c, "DISCARD", f, err) < 0 ? -1 : 0;
}

struct probing {
    const struct server_facts *facts;
    const struct task_config *cfg;
    struct findings f; /* of all nodes */
};

static int probe_node(void *ctx, struct client *target, struct err *err)
{
    struct probing *x = ctx;
    if (probe_all(target, x->facts, x->cfg, &x->f, err) < 0) return -1;
    if (x->f.denied[0])
        return err_set(err, ERR_PERM,
                       "%s: user %s lacks rights that the task needs; on that server: "
                       "ACL SETUSER %s %s",
                       client_name(target), client_user(target), client_user(target), x->f.denied);
    if (x->f.absent[0])
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: does not offer %s: renamed there, or blocked by its provider; the task "
                       "needs them",
                       client_name(target), x->f.absent);
    return 0;
}

int check_target_rights(const struct primaries *target, const struct server_facts *facts,
                        const struct task_config *cfg, struct check_notes *notes, struct err *err)
{
    struct probing x = {.facts = facts, .cfg = cfg};
    struct client *any;
    if (primaries_each(target, probe_node, &x, err) < 0 || primaries_any(target, &any, err) < 0)
        return -1;
    if (x.f.optional[0])
        check_note(notes,
                   "the target does not let user %s run: %s; should the source send one of these, "
                   "the task's error policy decides",
                   client_user(any), x.f.optional);
    if (x.f.oom)
        check_note(notes, "the target's memory is full now (OOM): writes wait until there is room");
    return 0;
}
