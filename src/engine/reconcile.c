// SPDX-License-Identifier: BSD-3-Clause
// Making a target equal to a new snapshot without emptying it: which keys are whose, and the sweep.
#include "engine/reconcile.h"

#include "engine/checkpoint.h"
#include "engine/refuse.h"
#include "redis/scan.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* Databases of one key each, which tells something of the whole file: of unknown origin; no
 * database has been swapped (taken out when one is). */
#define UNSURE      (INT64_MAX - 1)
#define UNMOVED     (INT64_MAX - 2)
#define DBS_USUAL   16  /* where the target does not tell */
#define UNLINK_KEYS 256 /* of one command */
#define DEL_KEYS    16  /* the same before 4.0, where deleting takes time and holds the server up */

static const struct span no_name = {NULL, 0};

static int read_marks(struct reconcile *rc, struct err *err)
{
    int unsure = keyset_has(rc->existing, UNSURE, no_name, err);
    int unmoved = unsure < 0 ? -1 : keyset_has(rc->existing, UNMOVED, no_name, err);
    if (unmoved < 0) return -1;
    rc->unsure = unsure;
    rc->moved = !unmoved;
    rc->dbs = DBS_USUAL;
    return 0;
}

void reconcile_dbs(struct reconcile *rc, const struct server_facts *target)
{
    rc->dbs = target->databases > 0 ? target->databases : DBS_USUAL;
}

int reconcile_begin(struct reconcile *rc, const struct db_select *select, struct counters *counters,
                    const char *dir, const char *existing_path, bool first, struct err *err)
{
    struct err why;
    uint64_t seed;
    *rc = (struct reconcile){.select = select, .counters = counters, .first = first};
    buf_init(&rc->late, RECONCILE_LATE_MAX);
    if (keyset_load(&rc->existing, existing_path, &why) < 0)
        return err_set(err, why.code, "%.400s%s", why.msg,
                       why.code != ERR_FORMAT
                           ? ""
                           : "; it tells which keys of the target are not the task's: put a good "
                             "copy back, or remove the folder it is in: the task goes on then, "
                             "but deletes no key that is on the target now");
    if (rc->existing && read_marks(rc, err) < 0) return -1;
    if (first) return 0;
    if (keyset_seed(&seed, err) < 0) return -1;
    return keyset_new(&rc->seen, dir, seed, 0, err);
}

void reconcile_end(struct reconcile *rc)
{
    keyset_free(rc->existing);
    keyset_free(rc->seen);
    buf_release(&rc->late);
    *rc = (struct reconcile){0};
}

/* --- by the load --- */

int reconcile_seen(struct reconcile *rc, int64_t db, struct span key, struct err *err)
{
    return rc->seen ? keyset_add(rc->seen, (uint64_t)db, key, err) : 0;
}

static int existed_anywhere(struct reconcile *rc, struct span key, struct err *err)
{
    int found = 0;
    for (int64_t db = 0; db < rc->dbs && found == 0; db++)
        found = keyset_has(rc->existing, (uint64_t)db, key, err);
    return found;
}

int reconcile_existed(struct reconcile *rc, int64_t db, struct span key, struct err *err)
{
    if (!rc->existing) return 0;
    int found = keyset_has(rc->existing, (uint64_t)db, key, err);
    if (found != 0 || !rc->moved || db == RECONCILE_LIBRARIES) return found;
    return existed_anywhere(rc, key, err);
}

int reconcile_take(struct reconcile *rc, int64_t db, struct span key, struct err *err)
{
    /* Once databases have been swapped nobody knows which of that name it is. */
    if (!rc->existing || (rc->moved && db != RECONCILE_LIBRARIES)) return 0;
    return keyset_remove(rc->existing, (uint64_t)db, key, err) < 0 ? -1 : 0;
}

int reconcile_loaded(struct reconcile *rc, struct err *err)
{
    if (rc->existing && keyset_sync(rc->existing, err) < 0) return -1;
    if (rc->seen && keyset_seal(rc->seen, err) < 0) return -1;
    rc->whole = true;
    return 0;
}

/* --- which databases --- */

/* What the target has in its databases now. One that is loading does not tell all of it; what a
 * replica tells is not worth anything. */
static int read_databases(struct client *target, struct server_facts *ret, struct err *err)
{
    if (facts_read(target, ret, err) < 0) return -1;
    if (ret->role == FACTS_PRIMARY && !ret->loading) return 0;
    facts_release(ret);
    return err_set(err, ERR_BUSY, "%s: %s", client_name(target),
                   ret->loading ? "is loading its data" : "has become a replica");
}

static int each_page(const struct reconcile_visit *v, struct walk *w, struct client *target,
                     const struct server_facts *facts, uint32_t db, struct err *err)
{
    struct scan scan;
    const struct reply *keys;
    int rc;
    if (client_select(target, db, err) < 0) return -1;
    scan_begin(&scan, target, facts);
    while ((rc = scan_page(&scan, &keys, err)) == 1)
        if ((rc = v->fn(v->ctx, w, db, &scan, keys, err)) < 0) break;
    scan_end(&scan);
    return rc;
}

static bool is_wanted(const struct reconcile_visit *v, uint32_t db)
{
    return v->only_db ? *v->only_db == (int64_t)db : db_select_is_aim(v->select, db);
}

/* Each page of keys of the databases that the task goes to. It must be what it was to the end. */
static int each_database(const struct reconcile_visit *v, struct walk *w, struct client *target,
                         struct err *err)
{
    struct server_facts now, after;
    int rc = 0;
    if (read_databases(target, &now, err) < 0) return -1;
    for (size_t i = 0; i < now.n_db && rc == 0; i++)
        if (now.db[i].keys && is_wanted(v, now.db[i].db))
            rc = each_page(v, w, target, &now, now.db[i].db, err);
    facts_release(&now);
    if (rc == 0) rc = client_select(target, 0, err);
    if (rc == 0) rc = read_databases(target, &after, err);
    if (rc == 0) facts_release(&after);
    return rc;
}

int reconcile_each_page(const struct reconcile_visit *v, struct err *err)
{
    struct walk w = {0};
    struct client *c;
    int rc = walk_begin(&w, v->target, err);
    while (rc == 0 && (rc = walk_wait_next(&w, &c, v->step, v->step_ctx, err)) == WALK_NODE) {
        client_while_waiting(c, v->step, v->step_ctx);
        rc = each_database(v, &w, c, err);
        client_while_waiting(c, NULL, NULL);
    }
    walk_end(&w);
    return rc;
}

/* --- the sweep --- */

struct sweep {
    struct reconcile *rc;
    bool unlink;
    bool one_by_one; /* of a cluster: a command of several keys is of one slot */
    int (*step)(void *ctx, int max_wait_ms, struct err *err);
    void *step_ctx;
    uint64_t deleted;
    struct buf unanswered;             /* deletions: uint16_t, the slot of each */
    struct span argv[1 + UNLINK_KEYS]; /* the command being gathered */
    size_t argc;
};

static int is_stale(struct reconcile *rc, uint32_t db, struct span key, struct err *err)
{
    if (checkpoint_is_key(key)) return 0;
    int seen = keyset_has(rc->seen, db, key, err);
    if (seen != 0) return seen < 0 ? -1 : 0;
    int existed = reconcile_existed(rc, db, key, err);
    return existed < 0 ? -1 : !existed;
}

static size_t most_keys(const struct sweep *s)
{
    if (s->one_by_one) return 1;
    return s->unlink ? UNLINK_KEYS : DEL_KEYS;
}

static int send_deletion(struct sweep *s, struct client *c, struct err *err)
{
    if (s->argc == 1) return 0;
    uint16_t slot = s->one_by_one ? slot_of(s->argv[1]) : 0;
    if (client_sendv(c, s->argc, s->argv, err) < 0) return -1;
    s->argc = 1;
    return buf_add(&s->unanswered, &slot, sizeof(slot), err);
}

static int take_deletion(struct sweep *s, struct walk *w, struct client *c, uint16_t slot,
                         struct err *err)
{
    struct reply *r;
    int rc = 0;
    if (client_recv(c, &r, err) < 0) return -1;
    if (s->one_by_one && primaries_redirects(r)) {
        walk_again(w, slot);
    } else if (reply_is_error(r)) {
        rc = client_refused(c, s->unlink ? "UNLINK" : "DEL", r, err);
    } else if (r->type == REPLY_INTEGER && r->integer > 0) {
        s->deleted += (uint64_t)r->integer;
        counter_add(&s->rc->counters->keys_deleted, (uint64_t)r->integer);
    }
    reply_free(r);
    return rc;
}

static int take_deletions(struct sweep *s, struct walk *w, struct client *c, struct err *err)
{
    for (size_t at = 0; at < s->unanswered.n; at += sizeof(uint16_t)) {
        uint16_t slot;
        memcpy(&slot, s->unanswered.p + at, sizeof(slot));
        if (take_deletion(s, w, c, slot, err) < 0) return -1;
    }
    buf_clear(&s->unanswered);
    return 0;
}

/* On the wire: SCAN 1, SCAN 2, deletions of 1, SCAN 3, deletions of 2 ...: the target looks for the
 * next page while this one is looked at. */
static int sweep_page(void *ctx, struct walk *w, uint32_t db, struct scan *scan,
                      const struct reply *keys, struct err *err)
{
    struct sweep *s = ctx;
    if (take_deletions(s, w, scan->c, err) < 0 || scan_ahead(scan, err) < 0) return -1;
    for (size_t i = 0; i < keys->n; i++) {
        struct span key = keys->item[i].str;
        int stale = walk_wants(w, key) ? is_stale(s->rc, db, key, err) : 0;
        if (stale < 0) return -1;
        if (stale) s->argv[s->argc++] = key;
        if (s->argc == 1 + most_keys(s) && send_deletion(s, scan->c, err) < 0) return -1;
    }
    if (send_deletion(s, scan->c, err) < 0) return -1;
    if (scan->over && take_deletions(s, w, scan->c, err) < 0) return -1;
    return s->step ? s->step(s->step_ctx, 0, err) : 0;
}

static int sweep_all(struct sweep *s, const struct primaries *target,
                     const struct server_facts *facts, struct err *err)
{
    struct reconcile_visit v = {.target = target,
                                .select = s->rc->select,
                                .fn = sweep_page,
                                .ctx = s,
                                .step = s->step,
                                .step_ctx = s->step_ctx};
    if (reconcile_sweep_libraries(s->rc, target, facts, err) < 0) return -1;
    return reconcile_each_page(&v, err);
}

/* A server that is a replica now may be followed by one that is not. */
void reconcile_expect_another(struct err *err)
{
    if (err && err->code == ERR_REFUSED && strstr(err->msg, "READONLY")) err->code = ERR_BUSY;
}

int reconcile_sweep(struct reconcile *rc, const struct primaries *target,
                    const struct server_facts *facts,
                    int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                    uint64_t *ret_deleted, struct err *err)
{
    if (rc->first || !rc->whole)
        return err_set(err, ERR_INTERNAL, "keys would be deleted by a snapshot that is not whole");
    struct sweep s = {.rc = rc,
                      .one_by_one = target->cluster != NULL,
                      .unlink = facts_has(facts, FACTS_UNLINK),
                      .step = step,
                      .step_ctx = ctx,
                      .argc = 1};
    s.argv[0] = span_str(s.unlink ? "UNLINK" : "DEL");
    reconcile_dbs(rc, facts);
    buf_init(&s.unanswered, 1u << 30); /* of one page */
    int done = sweep_all(&s, target, facts, err);
    buf_release(&s.unanswered);
    if (done == 0) {
        *ret_deleted = s.deleted;
        return 0;
    }
    reconcile_expect_another(err);
    return err ? err_wrap(err, "deleting what the new snapshot does not have") : -1;
}

/* --- before the first load --- */

static int note_page(void *ctx, struct walk *w, uint32_t db, struct scan *scan,
                     const struct reply *keys, struct err *err)
{
    struct keyset *to = ctx;
    if (scan_ahead(scan, err) < 0) return -1;
    for (size_t i = 0; i < keys->n; i++) {
        struct span key = keys->item[i].str;
        if (!walk_wants(w, key) || checkpoint_is_key(key)) continue;
        if (keyset_add(to, db, key, err) < 0) return -1;
    }
    return 0;
}

static int note_all(struct keyset *to, unsigned marks, const struct primaries *target,
                    const struct server_facts *facts, const struct db_select *select,
                    const char *path, struct err *err)
{
    struct reconcile_visit v = {.target = target, .select = select, .fn = note_page, .ctx = to};
    if (reconcile_note_libraries(to, target, facts, err) < 0 || reconcile_each_page(&v, err) < 0 ||
        keyset_seal(to, err) < 0)
        return -1;
    if (keyset_count(to) > marks) return keyset_save(to, path, err);
    if (unlink(path) == 0 || errno == ENOENT) return 0;
    return err_set(err, ERR_IO, "cannot remove %.300s: %s", path, strerror(errno));
}

static int note(const struct primaries *target, const struct server_facts *facts,
                const struct db_select *select, const char *dir, const char *path, bool unsure,
                struct err *err)
{
    struct keyset *to;
    uint64_t seed;
    if (keyset_seed(&seed, err) < 0 || keyset_new(&to, dir, seed, 0, err) < 0) return -1;
    int rc = keyset_add(to, UNMOVED, no_name, err);
    if (rc == 0 && unsure) rc = keyset_add(to, UNSURE, no_name, err);
    if (rc == 0) rc = note_all(to, 1u + unsure, target, facts, select, path, err);
    keyset_free(to);
    return rc < 0 && err ? err_wrap(err, "noting what stands on the target") : rc;
}

int reconcile_note_existing(const struct primaries *target, const struct server_facts *facts,
                            const struct db_select *select, const char *dir, const char *path,
                            struct err *err)
{
    return note(target, facts, select, dir, path, false, err);
}

int reconcile_note_unsure(const struct primaries *target, const struct server_facts *facts,
                          const struct db_select *select, const char *dir, const char *path,
                          struct err *err)
{
    return note(target, facts, select, dir, path, true, err);
}

int reconcile_note_swap(const char *path, struct err *err)
{
    struct keyset *k;
    int rc = keyset_load(&k, path, err);
    if (rc != 0) return rc < 0 ? -1 : 0;
    rc = keyset_remove(k, UNMOVED, no_name, err);
    if (rc == 1) rc = keyset_sync(k, err);
    keyset_free(k);
    return rc;
}
