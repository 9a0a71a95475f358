// SPDX-License-Identifier: BSD-3-Clause
// Which keys of the source exist on the target already: SCAN on the smaller side, EXISTS on the
// other, page by page.
#include "check/check.h"

#include "base/crc64.h"
#include "base/num.h"
#include "redis/scan.h"

#include <stdio.h>
#include <stdlib.h>

struct meeting { /* one database of each side */
    struct client *scan, *ask;
    uint32_t target_db;
    struct conflict_report *ret;
    uint64_t *seen; /* SCAN may tell a key twice: hashes of those counted */
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

static int take_answer(struct meeting *m, const struct reply *key, struct err *err)
{
    struct reply *r;
    if (client_recv(m->ask, &r, err) < 0) return -1;
    int rc = 0;
    if (reply_is_error(r))
        rc = client_refused(m->ask, "EXISTS", r, err);
    else if (r->type == REPLY_INTEGER && r->integer > 0 && !m->ret->at_least)
        collide(m, key->str);
    reply_free(r);
    return rc;
}

/* Ask the other side for every key of a page. */
static int ask_page(struct meeting *m, const struct reply *keys, struct err *err)
{
    for (size_t i = 0; i < keys->n; i++) {
        struct span argv[2] = {span_str("EXISTS"), keys->item[i].str};
        if (client_sendv(m->ask, 2, argv, err) < 0) return -1;
    }
    for (size_t i = 0; i < keys->n; i++)
        if (take_answer(m, &keys->item[i], err) < 0) return -1;
    return 0;
}

static int scan_db(struct meeting *m, struct err *err)
{
    struct scan scan;
    const struct reply *keys;
    int rc;
    scan_begin(&scan, m->scan, NULL);
    while ((rc = scan_page(&scan, &keys, err)) == 1) {
        rc = ask_page(m, keys, err);
        if (rc < 0 || m->ret->at_least) break;
    }
    scan_end(&scan);
    return rc;
}

static int check_db(struct client *source, struct client *target, uint32_t from, uint32_t to,
                    struct conflict_report *ret, uint64_t *seen, struct err *err)
{
    uint64_t on_source, on_target;
    if (client_select(target, to, err) < 0 || dbsize(target, &on_target, err) < 0) return -1;
    if (on_target == 0) return 0;
    if (client_select(source, from, err) < 0 || dbsize(source, &on_source, err) < 0) return -1;
    if (on_source == 0) return 0;
    bool scan_source = on_source < on_target;
    struct meeting m = {
        .scan = scan_source ? source : target,
        .ask = scan_source ? target : source,
        .target_db = to,
        .ret = ret,
        .seen = seen,
    };
    return scan_db(&m, err);
}

int check_conflicts(struct client *source, struct client *target,
                    const struct server_facts *source_facts, const struct db_select *select,
                    struct conflict_report *ret, struct err *err)
{
    struct conflict_report report = {0};
    uint64_t *seen = calloc(CHECK_CONFLICT_MAX, sizeof(*seen));
    if (!seen) return err_set(err, ERR_NOMEM, "out of memory for the check of conflicts");
    int rc = 0;
    for (size_t i = 0; i < source_facts->n_db && rc == 0 && !report.at_least; i++) {
        const struct facts_db *d = &source_facts->db[i];
        int64_t to = d->keys ? db_select_target(select, d->db) : -1;
        if (to >= 0) rc = check_db(source, target, d->db, (uint32_t)to, &report, seen, err);
    }
    free(seen);
    if (rc < 0 || client_select(source, 0, err) < 0 || client_select(target, 0, err) < 0)
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
