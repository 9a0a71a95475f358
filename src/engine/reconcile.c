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

/* `scan`: to ask for the next page. */
typedef int page_fn(void *ctx, uint32_t db, struct scan *scan, const struct reply *keys,
                    struct err *err);

static int each_page(struct client *target, const struct server_facts *facts, uint32_t db,
                     page_fn *fn, void *ctx, struct err *err)
{
    struct scan scan;
    const struct reply *keys;
    int rc;
    if (client_select(target, db, err) < 0) return -1;
    scan_begin(&scan, target, facts);
    while ((rc = scan_page(&scan, &keys, err)) == 1)
        if ((rc = fn(ctx, db, &scan, keys, err)) < 0) break;
    scan_end(&scan);
    return rc;
}

/* Each page of keys of the databases that the task goes to. */
static int each_database(struct client *target, const struct db_select *select, page_fn *fn,
                         void *ctx, struct err *err)
{
    struct server_facts now;
    int rc = 0;
    if (read_databases(target, &now, err) < 0) return -1;
    for (size_t i = 0; i < now.n_db && rc == 0; i++)
        if (now.db[i].keys && db_select_is_aim(select, now.db[i].db))
            rc = each_page(target, &now, now.db[i].db, fn, ctx, err);
    facts_release(&now);
    if (rc == 0) rc = client_select(target, 0, err);
    return rc;
}

/* --- the sweep --- */

struct sweep {
    struct reconcile *rc;
    struct client *target;
    bool unlink;
    int (*step)(void *ctx, int max_wait_ms, struct err *err);
    void *step_ctx;
    uint64_t deleted;
    unsigned unanswered;               /* deletions */
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

static int send_deletion(struct sweep *s, struct err *err)
{
    if (s->argc == 1) return 0;
    if (client_sendv(s->target, s->argc, s->argv, err) < 0) return -1;
    s->argc = 1;
    s->unanswered++;
    return 0;
}

static int take_deletion(struct sweep *s, struct err *err)
{
    struct reply *r;
    int rc = 0;
    if (client_recv(s->target, &r, err) < 0) return -1;
    if (reply_is_error(r)) {
        rc = client_refused(s->target, s->unlink ? "UNLINK" : "DEL", r, err);
    } else if (r->type == REPLY_INTEGER && r->integer > 0) {
        s->deleted += (uint64_t)r->integer;
        counter_add(&s->rc->counters->keys_deleted, (uint64_t)r->integer);
    }
    reply_free(r);
    return rc;
}

static int take_deletions(struct sweep *s, struct err *err)
{
    for (; s->unanswered; s->unanswered--)
        if (take_deletion(s, err) < 0) return -1;
    return 0;
}

/* On the wire: SCAN 1, SCAN 2, deletions of 1, SCAN 3, deletions of 2 ...: the target looks for the
 * next page while this one is looked at. */
static int sweep_page(void *ctx, uint32_t db, struct scan *scan, const struct reply *keys,
                      struct err *err)
{
    struct sweep *s = ctx;
    if (take_deletions(s, err) < 0 || scan_ahead(scan, err) < 0) return -1;
    for (size_t i = 0; i < keys->n; i++) {
        int stale = is_stale(s->rc, db, keys->item[i].str, err);
        if (stale < 0) return -1;
        if (stale) s->argv[s->argc++] = keys->item[i].str;
        if (s->argc == 1 + (s->unlink ? UNLINK_KEYS : DEL_KEYS) && send_deletion(s, err) < 0)
            return -1;
    }
    if (send_deletion(s, err) < 0) return -1;
    if (scan->over && take_deletions(s, err) < 0) return -1;
    return s->step ? s->step(s->step_ctx, 0, err) : 0;
}

static int sweep_all(struct sweep *s, const struct server_facts *facts, struct err *err)
{
    struct server_facts after;
    if (reconcile_sweep_libraries(s->rc, s->target, facts, err) < 0 ||
        each_database(s->target, s->rc->select, sweep_page, s, err) < 0)
        return -1;
    if (read_databases(s->target, &after, err) < 0) return -1;
    facts_release(&after);
    return 0;
}

int reconcile_sweep(struct reconcile *rc, struct client *target, const struct server_facts *facts,
                    int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                    uint64_t *ret_deleted, struct err *err)
{
    if (rc->first || !rc->whole)
        return err_set(err, ERR_INTERNAL, "keys would be deleted by a snapshot that is not whole");
    struct sweep s = {.rc = rc,
                      .target = target,
                      .unlink = facts_has(facts, FACTS_UNLINK),
                      .step = step,
                      .step_ctx = ctx,
                      .argc = 1};
    s.argv[0] = span_str(s.unlink ? "UNLINK" : "DEL");
    reconcile_dbs(rc, facts);
    client_while_waiting(target, step, ctx);
    int done = sweep_all(&s, facts, err);
    client_while_waiting(target, NULL, NULL);
    if (done == 0) {
        *ret_deleted = s.deleted;
        return 0;
    }
    /* A server that is a replica now may be followed by one that is not. */
    if (err && err->code == ERR_REFUSED && strstr(err->msg, "READONLY")) err->code = ERR_BUSY;
    return err ? err_wrap(err, "deleting what the new snapshot does not have") : -1;
}

/* --- before the first load --- */

static int note_page(void *ctx, uint32_t db, struct scan *scan, const struct reply *keys,
                     struct err *err)
{
    struct keyset *to = ctx;
    if (scan_ahead(scan, err) < 0) return -1;
    for (size_t i = 0; i < keys->n; i++)
        if (!checkpoint_is_key(keys->item[i].str) && keyset_add(to, db, keys->item[i].str, err) < 0)
            return -1;
    return 0;
}

static int note_all(struct keyset *to, unsigned marks, struct client *target,
                    const struct server_facts *facts, const struct db_select *select,
                    const char *path, struct err *err)
{
    if (reconcile_note_libraries(to, target, facts, err) < 0 ||
        each_database(target, select, note_page, to, err) < 0 || keyset_seal(to, err) < 0)
        return -1;
    if (keyset_count(to) > marks) return keyset_save(to, path, err);
    if (unlink(path) == 0 || errno == ENOENT) return 0;
    return err_set(err, ERR_IO, "cannot remove %.300s: %s", path, strerror(errno));
}

static int note(struct client *target, const struct server_facts *facts,
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

int reconcile_note_existing(struct client *target, const struct server_facts *facts,
                            const struct db_select *select, const char *dir, const char *path,
                            struct err *err)
{
    return note(target, facts, select, dir, path, false, err);
}

int reconcile_note_unsure(struct client *target, const struct server_facts *facts,
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
