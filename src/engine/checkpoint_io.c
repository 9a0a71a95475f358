// SPDX-License-Identifier: BSD-3-Clause
// Reading and writing the checkpoint by itself.
#include "engine/checkpoint_io.h"

#include "base/log.h"
#include "base/num.h"
#include "engine/refuse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAIM_TRIES 1000

int64_t checkpoint_db(const struct db_select *select)
{
    if (select->all && select->n_map == 0) return 0;
    int64_t lowest = -1;
    for (uint64_t db = 0; db < SELECT_DBS_MAX && lowest != 0; db++) {
        int64_t to = db_select_target(select, db);
        if (to >= 0 && (lowest < 0 || to < lowest)) lowest = to;
    }
    return lowest < 0 ? 0 : lowest;
}

/* A replica takes no writes now; the next to be called may be its primary. */
static int why_not(struct client *c, const char *command, const struct reply *r, struct err *err)
{
    client_refused(c, command, r, err);
    char words[200];
    if (refusal_classify(reply_words(words, sizeof(words), r)) == REFUSAL_TRANSIENT)
        err->code = ERR_BUSY; /* EXECABORT wraps it in words of its own */
    return -1;
}

static int refused(struct client *c, const char *command, struct reply *r, struct err *err)
{
    why_not(c, command, r, err);
    reply_free(r);
    return err_wrap(err, "checkpoint");
}

/* WATCH and GET. */
static int look(struct client *c, int64_t db, struct span key, struct checkpoint *ret,
                struct err *err)
{
    struct reply *r;
    struct span watch[] = {span_str("WATCH"), key}, get[] = {span_str("GET"), key};
    *ret = (struct checkpoint){0};
    if (client_select(c, (uint64_t)db, err) < 0 || client_callv(c, &r, 2, watch, err) < 0)
        return -1;
    if (reply_is_error(r)) return refused(c, "WATCH", r, err);
    reply_free(r);
    if (client_callv(c, &r, 2, get, err) < 0) return -1;
    if (reply_is_error(r)) return refused(c, "GET", r, err);
    int rc = reply_has_text(r) ? checkpoint_parse(ret, r->str, err) : 0;
    reply_free(r);
    return rc;
}

/* MULTI, SET, EXEC: 1 written, 0 somebody else has written to the key, -1. */
static int put(struct client *c, struct span key, const struct checkpoint *cp, struct err *err)
{
    char value[CHECKPOINT_VALUE_MAX];
    struct span set[] = {span_str("SET"), key, span_of(value, checkpoint_put(value, cp))};
    struct err first = {0};
    int rc = 0;
    if (client_send(c, err, "MULTI", NULL) < 0 || client_sendv(c, 3, set, err) < 0 ||
        client_send(c, err, "EXEC", NULL) < 0)
        return -1;
    for (int i = 0; i < 3; i++) {
        struct reply *r;
        if (client_recv(c, &r, err) < 0) return -1;
        const struct reply *in = reply_at(r, 0);
        const struct reply *bad = reply_is_error(r) ? r : in && reply_is_error(in) ? in : NULL;
        if (bad && first.code == ERR_NONE) why_not(c, "SET", bad, &first);
        rc = i == 2 && r->type == REPLY_ARRAY;
        reply_free(r);
    }
    if (first.code == ERR_NONE) return rc;
    *err = first;
    return err_wrap(err, "checkpoint");
}

static int unwatch(struct client *c, struct err *err)
{
    struct reply *r;
    if (client_call(c, &r, err, "UNWATCH", NULL) < 0) return -1;
    reply_free(r);
    return 0;
}

int checkpoint_look(struct client *c, int64_t db, struct span key, struct checkpoint *ret,
                    struct err *err)
{
    return look(c, db, key, ret, err) < 0 ? -1 : unwatch(c, err);
}

static unsigned long number(const char *owner)
{
    return strtoul(owner, NULL, 16);
}

int checkpoint_claim(struct client *c, int64_t db, struct span key, char owner[9], bool began,
                     struct checkpoint *ret, struct err *err)
{
    for (int i = 0; i < CLAIM_TRIES; i++) {
        struct checkpoint at;
        if (look(c, db, key, &at, err) < 0) return -1;
        unsigned long theirs = number(at.owner), ours = number(owner);
        *ret = at;
        if (at.kind == CHECKPOINT_NONE) {
            if (ours == 0) snprintf(owner, 9, "%08x", 1);
            return unwatch(c, err);
        }
        if (began && theirs > ours) return unwatch(c, err);
        snprintf(at.owner, sizeof(at.owner), "%08lx", (theirs > ours ? theirs : ours) + 1);
        int rc = put(c, key, &at, err);
        if (rc < 0) return -1;
        if (rc == 0) continue;
        memcpy(owner, at.owner, sizeof(at.owner));
        *ret = at;
        return 0;
    }
    return err_set(err, ERR_BUSY, "checkpoint: another process writes to it all the time");
}

int checkpoint_replace(struct client *c, int64_t db, struct span key, const struct checkpoint *to,
                       bool is_new, struct err *err)
{
    struct checkpoint at;
    if (look(c, db, key, &at, err) < 0) return -1;
    bool may = is_new ? at.kind == CHECKPOINT_NONE : strcmp(at.owner, to->owner) == 0;
    int rc = may ? put(c, key, to, err) : unwatch(c, err);
    if (rc < 0 || (may && rc == 1)) return rc < 0 ? -1 : 0;
    if (at.kind != CHECKPOINT_NONE && number(at.owner) < number(to->owner))
        return err_set(err, ERR_BUSY, "checkpoint: the target has lost what was written last");
    return err_set(err, ERR_REFUSED,
                   "another process has taken this task over (two state folders, or two machines); "
                   "this one ends");
}

/* --- connections of the runs before --- */

/* The number behind "id=" of a line of CLIENT LIST whose "name=" is this; 0: it is another one. */
static uint64_t id_of(struct span line, const char *name)
{
    char want[CHECKPOINT_KEY_MAX + 16];
    int n = snprintf(want, sizeof(want), " name=%s ", name);
    uint64_t id = 0;
    if (line.n < 4 || memcmp(line.p, "id=", 3) != 0) return 0;
    if (!memmem(line.p, line.n, want, (size_t)n)) return 0;
    for (size_t i = 3; i < line.n && line.p[i] >= '0' && line.p[i] <= '9' && id < INT64_MAX / 16;
         i++)
        id = id * 10 + (line.p[i] - '0');
    return id;
}

static int end_client(struct client *c, uint64_t id, struct err *err)
{
    char num[24];
    struct reply *r;
    snprintf(num, sizeof(num), "%llu", (unsigned long long)id);
    if (client_call(c, &r, err, "CLIENT", "KILL", "ID", num, NULL) < 0) return -1;
    bool done = !reply_is_error(r);
    reply_free(r);
    if (done) log_info("target: a connection that was left there was ended");
    return 0;
}

static int end_named(struct client *c, const char *name, struct err *err)
{
    struct reply *r;
    int rc = 0;
    if (client_call(c, &r, err, "CLIENT", "LIST", NULL) < 0) return -1;
    struct span rest = reply_has_text(r) ? r->str : (struct span){0};
    while (rc == 0 && rest.n) {
        const uint8_t *end = memchr(rest.p, '\n', rest.n);
        size_t n = end ? (size_t)(end - rest.p) : rest.n;
        uint64_t id = id_of(span_of(rest.p, n), name);
        if (id) rc = end_client(c, id, err);
        size_t gone = end ? n + 1 : n;
        rest = span_of(rest.p + gone, rest.n - gone);
    }
    reply_free(r);
    return rc;
}

static void name_of(char out[CHECKPOINT_KEY_MAX], const char *what, const char *task)
{
    snprintf(out, CHECKPOINT_KEY_MAX, "%s:%.*s", what, CHECKPOINT_KEY_MAX - 16, task);
}

static int take_name(struct client *c, const char *name, struct err *err)
{
    struct reply *r;
    if (end_named(c, name, err) < 0 || client_call(c, &r, err, "CLIENT", "SETNAME", name, NULL) < 0)
        return -1;
    reply_free(r);
    return 0;
}

int checkpoint_evict_sweeps(struct client *c, const char *task, struct err *err)
{
    char name[CHECKPOINT_KEY_MAX];
    name_of(name, "keyhaul-sweep", task);
    return take_name(c, name, err);
}

int checkpoint_evict(struct client *c, const char *task, struct err *err)
{
    char name[CHECKPOINT_KEY_MAX];
    if (checkpoint_evict_sweeps(c, task, err) < 0) return -1;
    name_of(name, "keyhaul", task);
    return take_name(c, name, err);
}

int checkpoint_verify(struct client *c, int64_t db, struct span key, const char owner[9],
                      struct err *err)
{
    struct checkpoint at;
    if (look(c, db, key, &at, err) < 0 || unwatch(c, err) < 0) return -1;
    if (strcmp(at.owner, owner) == 0) return 0;
    if (at.kind == CHECKPOINT_NONE || number(at.owner) < number(owner))
        return err_set(err, ERR_BUSY, "checkpoint: the target has lost what was written last");
    return err_set(err, ERR_REFUSED, "another process has taken this task over: this one ends");
}

int checkpoint_remove(struct client *c, int64_t db, struct span key, struct err *err)
{
    struct reply *r;
    struct span argv[] = {span_str("DEL"), key};
    if (client_select(c, (uint64_t)db, err) < 0 || client_callv(c, &r, 2, argv, err) < 0) return -1;
    if (reply_is_error(r)) return refused(c, "DEL", r, err);
    reply_free(r);
    return 0;
}
