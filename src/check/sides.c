// SPDX-License-Identifier: BSD-3-Clause
// What the two servers are decides first whether a migration between them makes sense.
#include "check/check.h"

#include "base/num.h"

#include <stdarg.h>
#include <stdio.h>

void check_note(struct check_notes *notes, const char *fmt, ...)
{
    if (!notes || notes->n == CHECK_NOTES_MAX) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(notes->text[notes->n++], sizeof(notes->text[0]), fmt, ap);
    va_end(ap);
}

struct side {
    const char *name, *shown;
    const struct server_facts *f;
};

/* A clustered source is moved shard by shard; a task that began with a single server is another. */
static int check_shape(const struct side *src, const struct task_config *cfg, struct err *err)
{
    if (src->f->cluster == (cfg->slots != NULL)) return 0;
    return err_set(err, ERR_REFUSED,
                   "source %s is %s of a cluster, and was %s when this task began; begin another "
                   "one, with --task",
                   src->shown, src->f->cluster ? "part" : "not part",
                   src->f->cluster ? "not" : "part of one");
}

static int check_kind(const struct side *s, struct err *err)
{
    if (s->f->sentinel)
        return err_set(
            err, ERR_REFUSED,
            "%s %s is a Sentinel and holds no data; write "
            "redis+sentinel://host:port/NAME for the server that it watches by that name",
            s->name, s->shown);
    return 0;
}

static bool same_text(const char *a, const char *b)
{
    return a[0] && strcasecmp(a, b) == 0;
}

/* Two servers with one replication id hold one history: one of them follows the other, or both
 * follow a third. */
static int check_related(const struct side *src, const struct side *dst, struct err *err)
{
    if (same_text(src->f->run_id, dst->f->run_id))
        return err_set(err, ERR_REFUSED, "source %s and target %s are the same server", src->shown,
                       dst->shown);
    if (!same_text(src->f->replid, dst->f->replid)) return 0;
    if (dst->f->role == FACTS_REPLICA)
        return err_set(
            err, ERR_REFUSED,
            "target %s is a replica of the source's data set already (of %s:%s): give it "
            "REPLICAOF NO ONE first, if it is to live on its own",
            dst->shown, dst->f->primary_host, dst->f->primary_port);
    if (src->f->role == FACTS_REPLICA)
        return err_set(err, ERR_REFUSED,
                       "source %s replicates from the target %s: what is written there would come "
                       "back",
                       src->shown, dst->shown);
    return 0;
}

static int check_writable(const struct side *dst, struct err *err)
{
    if (dst->f->role != FACTS_REPLICA) return 0;
    return err_set(err, ERR_REFUSED,
                   "target %s is a replica: writes go to its primary %s:%s; give that one as "
                   "--target",
                   dst->shown, dst->f->primary_host, dst->f->primary_port);
}

static int check_loaded(const struct side *s, struct err *err)
{
    if (!s->f->loading) return 0;
    return err_set(err, ERR_BUSY, "%s %s is loading its data; wait until that is done", s->name,
                   s->shown);
}

static int check_age(const struct side *dst, struct err *err)
{
    char name[64];
    if (facts_has(dst->f, FACTS_RESTORE)) return 0;
    return err_set(err, ERR_REFUSED,
                   "target %s (%s) knows no RESTORE: Redis 2.6 is the oldest target", dst->shown,
                   facts_name(name, sizeof(name), dst->f));
}

static int check_roles(const struct side *src, const struct side *dst, struct err *err)
{
    if (check_writable(dst, err) < 0 || check_loaded(src, err) < 0 || check_loaded(dst, err) < 0)
        return -1;
    if (src->f->role == FACTS_REPLICA && !src->f->link_up)
        return err_set(err, ERR_BUSY,
                       "source %s is a replica that lost its primary %s:%s; wait for the link, or "
                       "give the primary as --source",
                       src->shown, src->f->primary_host, src->f->primary_port);
    return 0;
}

static void note_memory(const struct server_facts *source, const struct server_facts *target,
                        struct check_notes *notes)
{
    if (target->maxmemory == 0) return;
    const char *policy = target->maxmemory_policy;
    if (policy[0] && strcmp(policy, "noeviction") != 0)
        check_note(notes,
                   "the target may throw keys away when its memory is full (maxmemory-policy %s); "
                   "set noeviction for the migration",
                   policy);
    uint64_t room = target->maxmemory > target->used_memory
                        ? target->maxmemory - target->used_memory
                        : 0;
    if (source->used_memory <= room) return;
    char have[24], need[24];
    check_note(notes,
               "the source uses %s of memory, the target has room for %s below its maxmemory",
               num_human_bytes(need, sizeof(need), source->used_memory),
               num_human_bytes(have, sizeof(have), room));
}

int check_sides(const struct server_facts *source, const struct server_facts *target,
                const struct task_config *cfg, struct check_notes *notes, struct err *err)
{
    struct side src = {"source", cfg->source.uri.shown, source};
    struct side dst = {"target", cfg->target.uri.shown, target};
    if (check_kind(&src, err) < 0 || check_kind(&dst, err) < 0 || check_shape(&src, cfg, err) < 0 ||
        check_related(&src, &dst, err) < 0 || check_roles(&src, &dst, err) < 0)
        return -1;
    if (check_age(&dst, err) < 0) return -1;
    note_memory(source, target, notes);
    return check_unsupported(source, target, cfg, notes, err);
}

static int apart_from(void *ctx, struct client *c, struct err *err)
{
    const struct side *src = ctx;
    struct server_facts facts;
    if (facts_read(c, &facts, err) < 0) return -1;
    struct side dst = {"target", client_name(c), &facts};
    int rc = check_related(src, &dst, err);
    facts_release(&facts);
    return rc;
}

int check_apart(const struct server_facts *source, const struct primaries *target,
                const struct task_config *cfg, struct err *err)
{
    struct side src = {"source", cfg->source.uri.shown, source};
    return primaries_each(target, apart_from, &src, err);
}

int check_target(const struct server_facts *target, const struct task_config *cfg, struct err *err)
{
    struct side dst = {"target", cfg->target.uri.shown, target};
    if (check_kind(&dst, err) < 0 || check_writable(&dst, err) < 0 || check_loaded(&dst, err) < 0)
        return -1;
    return check_age(&dst, err);
}

/* May the task write to this database of the target? */
static bool is_aim(const struct db_select *s, uint32_t db)
{
    for (uint32_t from = 0; from < SELECT_DBS_MAX; from++)
        if (db_select_target(s, from) == (int64_t)db) return true;
    return false;
}

int check_empty(const struct server_facts *target, const struct task_config *cfg, struct err *err)
{
    char count[32];
    for (size_t i = 0; i < target->n_db; i++) {
        const struct facts_db *d = &target->db[i];
        if (d->keys == 0 || !is_aim(&cfg->select, d->db)) continue;
        return err_set(err, ERR_CONFLICT,
                       "target %s holds %s keys in database %u, and what the file holds is not "
                       "known beforehand; choose --on-conflict overwrite or skip, or empty it",
                       cfg->target.uri.shown, num_human_count(count, sizeof(count), d->keys),
                       d->db);
    }
    return 0;
}

/* 1: there, 0: not there, -1. Asks only where the configuration was not told (of a cluster it is
 * known). */
static int has_database(struct client *target, const struct server_facts *f, uint64_t db,
                        struct err *err)
{
    if (f->databases >= 0) return db < (uint64_t)f->databases;
    struct err why = {.code = ERR_NONE};
    if (client_select(target, db, &why) == 0) return 1;
    return why.code == ERR_REFUSED ? 0 : err_set(err, why.code, "%s", why.msg);
}

int check_databases(const struct primaries *target, const struct server_facts *source_facts,
                    const struct server_facts *target_facts, const struct db_select *select,
                    struct err *err)
{
    char list[160] = "";
    size_t n = 0;
    unsigned missing = 0;
    for (size_t i = 0; i < source_facts->n_db; i++) {
        const struct facts_db *d = &source_facts->db[i];
        int64_t to = d->keys ? db_select_target(select, d->db) : -1;
        if (to < 0) continue;
        int rc = has_database(target->one, target_facts, (uint64_t)to, err);
        if (rc < 0) return -1;
        if (rc > 0) continue;
        if (missing++ < 8)
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%lld", n ? ", " : "",
                                  (long long)to);
    }
    if (target->one && client_select(target->one, 0, err) < 0) return -1;
    if (missing == 0) return 0;
    struct client *any;
    if (primaries_any(target, &any, err) < 0) return -1;
    if (target->cluster)
        return err_set(
            err, ERR_REFUSED,
            "%s: a cluster has %lld database%s, and keys of the source go to: %s%s; choose "
            "with --db and --db-map",
            client_name(any), (long long)target_facts->databases,
            target_facts->databases == 1 ? "" : "s", list, missing > 8 ? ", ..." : "");
    char have[64] = "";
    if (target_facts->databases >= 0)
        snprintf(have, sizeof(have), " (it has %lld)", (long long)target_facts->databases);
    return err_set(err, ERR_REFUSED,
                   "%s: lacks databases that the source's keys go to: %s%s%s; raise `databases` "
                   "there, or choose with --db and --db-map",
                   client_name(any), list, missing > 8 ? ", ..." : "", have);
}
