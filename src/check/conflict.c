// SPDX-License-Identifier: BSD-3-Clause
// Which keys of the source exist on the target already: SCAN on the smaller side, EXISTS on the
// other, page by page.
#include "check/check.h"

#include "base/crc64.h"
#include "base/num.h"
#include "redis/scan.h"

#include <stdio.h>
#include <stdlib.h>

#define AGAIN_MS 30000 /* for keys of slots that move */

struct meeting { /* one database of each side */
    struct client *source;
    const struct primaries *target;
    uint32_t target_db;
    struct conflict_report *ret;
    uint64_t *seen;       /* SCAN may tell a key twice: hashes of those counted */
    struct buf elsewhere; /* size_t: keys of the page that the target redirected */
};

static int dbsize(struct client *c, uint64_t *ret, struct err *err)
{
    struct reply *r;
    if (client_ask(c, &r, err, "DBSIZE", NULL) < 0) return -1;
    int rc = 0;
    if (r->type == REPLY_INTEGER && r->integer >= 0)
        *ret = (uint64_t)r->integer;
    else
        rc = err_set(err, ERR_PROTO, "%s: DBSIZE was not answered with a number", client_name(c));
    reply_free(r);
    return rc;
}

struct sizes {
    uint32_t db;
    uint64_t keys;
};

static int add_size(void *ctx, struct client *c, struct err *err)
{
    struct sizes *s = ctx;
    uint64_t n;
    if (client_select(c, s->db, err) < 0 || dbsize(c, &n, err) < 0) return -1;
    s->keys += n;
    return 0;
}

static void collide(struct meeting *m, struct span key)
{
    struct conflict_report *ret = m->ret;
    uint64_t hash = crc64(m->target_db, key.p, key.n);
    for (uint64_t i = 0; i < ret->collisions; i++)
        if (m->seen[i] == hash) return;
    m->seen[ret->collisions++] = hash;
    if (ret->n_names < CHECK_CONFLICT_NAMES) {
        ret->name[ret->n_names].db = m->target_db;
        num_quote(ret->name[ret->n_names].key, sizeof(ret->name[0].key), key);
        ret->n_names++;
    }
    ret->at_least = ret->collisions == CHECK_CONFLICT_MAX;
}

/* Ask one side for the keys of a page. */
static int send_question(struct client *c, struct span key, struct err *err)
{
    struct span argv[] = {span_str("EXISTS"), key};
    return client_sendv(c, 2, argv, err);
}

static void take_answer(struct meeting *m, struct span key, const struct reply *r)
{
    if (r->type == REPLY_INTEGER && r->integer > 0 && !m->ret->at_least) collide(m, key);
}

static int ask_source(struct meeting *m, const struct walk *w, const struct reply *keys,
                      struct err *err)
{
    for (size_t i = 0; i < keys->n; i++)
        if (walk_wants(w, keys->item[i].str) &&
            send_question(m->source, keys->item[i].str, err) < 0)
            return -1;
    for (size_t i = 0; i < keys->n; i++) {
        struct reply *r;
        int rc = 0;
        if (!walk_wants(w, keys->item[i].str)) continue;
        if (client_recv(m->source, &r, err) < 0) return -1;
        /* A shard whose slot has moved: it is another one's to ask. */
        if (reply_is_error(r) && !primaries_redirects(r))
            rc = client_refused(m->source, "EXISTS", r, err);
        take_answer(m, keys->item[i].str, r);
        reply_free(r);
        if (rc < 0) return -1;
    }
    return 0;
}

static int take_from_target(struct meeting *m, const struct reply *keys, size_t i, struct err *err)
{
    struct client *c;
    struct reply *r;
    struct span key = keys->item[i].str;
    int rc = 0;
    if (primaries_client_of(m->target, key, &c, err) < 0 || client_recv(c, &r, err) < 0) return -1;
    if (m->target->cluster && primaries_redirects(r))
        rc = buf_add(&m->elsewhere, &i, sizeof(i), err);
    else if (reply_is_error(r))
        rc = client_refused(c, "EXISTS", r, err);
    take_answer(m, key, r);
    reply_free(r);
    return rc;
}

/* Nothing is due by now: the map may be read again. */
static int ask_elsewhere(struct meeting *m, const struct reply *keys, struct err *err)
{
    for (size_t at = 0; at < m->elsewhere.n; at += sizeof(size_t)) {
        size_t i;
        struct reply *r;
        memcpy(&i, m->elsewhere.p + at, sizeof(i));
        struct span argv[] = {span_str("EXISTS"), keys->item[i].str};
        if (cluster_callv(m->target->cluster, slot_of(argv[1]), AGAIN_MS, &r, 2, argv, err) < 0)
            return -1;
        take_answer(m, argv[1], r);
        int rc = r->type == REPLY_INTEGER
                     ? 0
                     : err_set(err, ERR_TARGET, "target: EXISTS was not answered with a number");
        reply_free(r);
        if (rc < 0) return -1;
    }
    buf_clear(&m->elsewhere);
    return 0;
}

static int ask_target(struct meeting *m, const struct reply *keys, struct err *err)
{
    struct client *c;
    const struct slot_set *slots = m->target->slots;
    for (size_t i = 0; i < keys->n; i++) {
        if (!slot_set_has_key(slots, keys->item[i].str)) continue;
        if (primaries_client_of(m->target, keys->item[i].str, &c, err) < 0 ||
            send_question(c, keys->item[i].str, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < keys->n; i++)
        if (slot_set_has_key(slots, keys->item[i].str) && take_from_target(m, keys, i, err) < 0)
            return -1;
    return ask_elsewhere(m, keys, err);
}

/* `w`: of the target, whose keys are asked for on the source. NULL: the other way round. */
static int scan_db(struct meeting *m, struct client *c, const struct walk *w, struct err *err)
{
    struct scan scan;
    const struct reply *keys;
    int rc;
    scan_begin(&scan, c, NULL);
    while ((rc = scan_page(&scan, &keys, err)) == 1) {
        rc = w ? ask_source(m, w, keys, err) : ask_target(m, keys, err);
        if (rc < 0 || m->ret->at_least) break;
    }
    scan_end(&scan);
    return rc < 0 ? -1 : 0;
}

static int scan_target(struct meeting *m, struct err *err)
{
    struct walk w = {0};
    struct client *c;
    int rc = walk_begin(&w, m->target, err);
    while (rc == 0 && !m->ret->at_least &&
           (rc = walk_wait_next(&w, &c, NULL, NULL, err)) == WALK_NODE)
        rc = client_select(c, m->target_db, err) < 0 ? -1 : scan_db(m, c, &w, err);
    walk_end(&w);
    return rc;
}

static int check_db(struct meeting *m, uint32_t from, struct err *err)
{
    uint64_t on_source;
    struct sizes on_target = {.db = m->target_db};
    if (primaries_each(m->target, add_size, &on_target, err) < 0) return -1;
    if (on_target.keys == 0) return 0;
    if (client_select(m->source, from, err) < 0 || dbsize(m->source, &on_source, err) < 0)
        return -1;
    if (on_source == 0) return 0;
    return on_source < on_target.keys ? scan_db(m, m->source, NULL, err) : scan_target(m, err);
}

static int select_first(void *ctx, struct client *c, struct err *err)
{
    (void)ctx;
    return client_select(c, 0, err);
}

int check_conflicts(struct client *source, const struct primaries *target,
                    const struct server_facts *source_facts, const struct db_select *select,
                    struct conflict_report *ret, struct err *err)
{
    struct conflict_report report = {0};
    struct meeting m = {.source = source, .target = target, .ret = &report};
    m.seen = calloc(CHECK_CONFLICT_MAX, sizeof(*m.seen));
    if (!m.seen) return err_set(err, ERR_NOMEM, "out of memory for the check of conflicts");
    buf_init(&m.elsewhere, 64u << 20);
    int rc = 0;
    for (size_t i = 0; i < source_facts->n_db && rc == 0 && !report.at_least; i++) {
        const struct facts_db *d = &source_facts->db[i];
        int64_t to = d->keys ? db_select_target(select, d->db) : -1;
        m.target_db = (uint32_t)to;
        if (to >= 0) rc = check_db(&m, d->db, err);
    }
    free(m.seen);
    buf_release(&m.elsewhere);
    if (target->cluster) cluster_tidy(target->cluster);
    if (rc < 0 || client_select(source, 0, err) < 0 ||
        primaries_each(target, select_first, NULL, err) < 0)
        return err ? err_wrap(err, "looking for keys that exist on both sides") : -1;
    *ret = report;
    return 0;
}

int check_conflict_err(const struct conflict_report *r, const char *target_name, struct err *err)
{
    char list[400];
    size_t n = 0;
    for (unsigned i = 0; i < r->n_names && n < sizeof(list) - 48; i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%sdb %u %.24s%s", i ? ", " : "",
                              r->name[i].db, r->name[i].key,
                              strlen(r->name[i].key) > 24 ? "..." : "");
    return err_set(err, ERR_CONFLICT,
                   "%s: %s%llu keys of the source exist there already: %s%s; choose --on-conflict "
                   "overwrite or skip, or empty the target",
                   target_name, r->at_least ? "at least " : "", (unsigned long long)r->collisions,
                   list, r->collisions > r->n_names ? ", ..." : "");
}
