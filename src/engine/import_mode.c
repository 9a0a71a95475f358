// SPDX-License-Identifier: BSD-3-Clause
// Valkey's import mode: asked for, turned on, turned off.
#include "engine/import_mode.h"

#include "base/log.h"
#include "engine/refuse.h"

#define WORDS_MAX 200

/* The target evicts keys when it is full. With the mode on it refuses writes instead. */
static bool evicts(const struct server_facts *f)
{
    return f->maxmemory > 0 && f->maxmemory_policy[0] &&
           strcmp(f->maxmemory_policy, "noeviction") != 0;
}

struct census { /* of the nodes */
    unsigned n, known, on;
};

static int count_node(void *ctx, struct client *c, struct err *err)
{
    struct census *s = ctx;
    struct reply *r;
    if (client_call(c, &r, err, "CONFIG", "GET", "import-mode", NULL) < 0) return -1;
    const struct reply *value = reply_at(r, 1);
    bool known = value && reply_has_text(value);
    s->n++;
    s->known += known;
    s->on += known && reply_is(value, "yes");
    reply_free(r);
    return 0;
}

int import_mode_look(struct import_mode *im, const struct primaries *target,
                     const struct server_facts *facts, bool ours, struct err *err)
{
    struct census s = {0};
    struct client *c;
    if (primaries_each(target, count_node, &s, err) < 0 || primaries_any(target, &c, err) < 0)
        return -1;
    bool known = s.known == s.n, on = known && s.on == s.n, some = s.on && !on;
    *im = (struct import_mode){.was_on = on, .ours = ours && s.on, .can = known};
    if (known && !on && evicts(facts)) {
        im->can = false;
        log_info("%s evicts keys when it is full (%s): it is not put into import mode, which would "
                 "stop that",
                 client_side(c), facts->maxmemory_policy);
    }
    if (on && !ours)
        log_info("%s is in import mode already, and will be left in it", client_side(c));
    if (some && !ours) {
        im->can = false;
        log_info("%s: only some of its nodes are in import mode: it is left alone", client_side(c));
    }
    return 0;
}

/* 1 done, 0 refused, in these words; -1. */
static int told(struct client *c, char why[WORDS_MAX], struct err *err, const char *a,
                const char *b, const char *d, const char *e)
{
    struct reply *r;
    if (client_call(c, &r, err, a, b, d, e, NULL) < 0) return -1;
    int well = !reply_is_error(r);
    if (!well) reply_words(why, WORDS_MAX, r);
    reply_free(r);
    return well;
}

static int turn_on(struct client *c, char why[WORDS_MAX], struct err *err)
{
    return told(c, why, err, "CONFIG", "SET", "import-mode", "yes");
}

static int mark(struct client *c, char why[WORDS_MAX], struct err *err)
{
    return told(c, why, err, "CLIENT", "IMPORT-SOURCE", "ON", NULL);
}

/* Without it all goes on, more slowly for keys that expire. */
static void give_up(struct import_mode *im, const struct client *c, const char *why)
{
    im->on = im->can = false;
    if (im->hold) *im->hold = true;
    log_info("%s: import mode is not to be had (%s); near deadlines are held by keyhaul",
             client_side(c), why);
}

struct beginning {
    struct import_mode *im;
    bool refused;
    char why[WORDS_MAX];
};

static int begin_node(void *ctx, struct client *c, struct err *err)
{
    struct beginning *b = ctx;
    if (b->refused) return 0;
    int rc = b->im->was_on ? 1 : turn_on(c, b->why, err);
    if (rc < 0) return -1;
    if (rc > 0 && !b->im->was_on) b->im->ours = true;
    if (rc > 0) rc = mark(c, b->why, err);
    b->refused = rc == 0;
    return rc < 0 ? -1 : 0;
}

int import_mode_begin(struct import_mode *im, const struct primaries *target, struct err *err)
{
    struct beginning b = {.im = im};
    struct client *c;
    if (!im->can) return 0;
    if (primaries_each(target, begin_node, &b, err) < 0 || primaries_any(target, &c, err) < 0)
        return -1;
    if (b.refused) {
        give_up(im, c, b.why);
        return import_mode_end(im, target, err);
    }
    im->on = true;
    if (im->ours)
        log_info("%s expires no keys by itself from now on (import mode)", client_side(c));
    return 0;
}

int import_mode_mark_conn(struct import_mode *im, struct client *c, struct err *err)
{
    char why[WORDS_MAX];
    if (!im->on) return 0;
    int rc = mark(c, why, err);
    if (rc != 0) return rc < 0 ? -1 : 0;
    /* "ERR Server is not in import mode" */
    rc = turn_on(c, why, err);
    if (rc > 0) {
        im->ours = true;
        rc = mark(c, why, err);
    }
    if (rc == 0 && refusal_classify(why) == REFUSAL_TRANSIENT)
        return err_set(err, ERR_BUSY, "%s: %s", client_name(c), why);
    if (rc == 0) give_up(im, c, why);
    return rc < 0 ? -1 : 0;
}

static int end_node(void *ctx, struct client *c, struct err *err)
{
    bool *refused = ctx;
    char why[WORDS_MAX];
    int rc = told(c, why, err, "CONFIG", "SET", "import-mode", "no");
    if (rc != 0) return rc < 0 ? -1 : 0;
    *refused = true;
    log_error("%s: import mode cannot be turned off (%s); do it by hand, or keys never expire "
              "there: CONFIG SET import-mode no",
              client_name(c), why);
    return 0;
}

/* Those that were primaries when it was turned on: it would count again should they be. */
static void end_replicas(struct cluster *cluster)
{
    const struct cluster_map *m = cluster_map(cluster);
    for (uint16_t i = 0; i < m->n; i++) {
        struct client *c;
        struct err err;
        char why[WORDS_MAX];
        if (m->node[i].primary || m->node[i].failed || m->node[i].handshake) continue;
        if (cluster_client(cluster, i, &c, &err) < 0 ||
            told(c, why, &err, "CONFIG", "SET", "import-mode", "no") < 0)
            log_warn("%s; should it be in import mode, turn that off by hand: CONFIG SET "
                     "import-mode no",
                     err.msg);
    }
}

int import_mode_end(struct import_mode *im, const struct primaries *target, struct err *err)
{
    bool refused = false;
    im->on = false;
    if (!im->ours) return 0;
    if (primaries_each(target, end_node, &refused, err) < 0) return -1;
    if (target->cluster) end_replicas(target->cluster);
    im->ours = refused;
    return 0;
}
