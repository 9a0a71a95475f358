// SPDX-License-Identifier: BSD-3-Clause
// What holds for every primary of a cluster: while it is being upgraded, nodes differ.
#include "check/check.h"

#include <stdio.h>
#include <stdlib.h>

struct gathering {
    struct server_facts all;
    bool any;
};

/* Can `b` whatever `a` can? */
static bool covers(const struct server_facts *b, const struct server_facts *a)
{
    for (int f = 0; f < FACTS_FEATURES; f++)
        if (facts_has(a, (enum facts_feature)f) && !facts_has(b, (enum facts_feature)f))
            return false;
    for (int t = 0; t <= RDB_ARRAY; t++)
        if (facts_takes_type(a, (enum rdb_type)t) && !facts_takes_type(b, (enum rdb_type)t))
            return false;
    return !facts_takes_type(a, RDB_VALKEY_HASH_2) || facts_takes_type(b, RDB_VALKEY_HASH_2);
}

static bool older(const struct server_facts *a, const struct server_facts *b)
{
    if (!covers(a, b)) return true;
    return a->flavour == b->flavour && a->version < b->version;
}

static void take_version(struct server_facts *all, const struct server_facts *one)
{
    all->flavour = one->flavour;
    all->version = one->version;
    memcpy(all->version_text, one->version_text, sizeof(all->version_text));
    all->rdb_version = one->rdb_version;
}

static int add_database(struct server_facts *all, const struct facts_db *d, struct err *err)
{
    size_t i = 0;
    while (i < all->n_db && all->db[i].db < d->db)
        i++;
    if (i < all->n_db && all->db[i].db == d->db) {
        all->db[i].keys += d->keys;
        all->db[i].expires += d->expires;
        all->db[i].timed += d->timed;
        return 0;
    }
    struct facts_db *more = realloc(all->db, (all->n_db + 1) * sizeof(*more));
    if (!more) return err_set(err, ERR_NOMEM, "out of memory for the list of databases");
    memmove(more + i + 1, more + i, (all->n_db - i) * sizeof(*more));
    more[i] = *d;
    all->db = more;
    all->n_db++;
    return 0;
}

static bool evicts(const struct server_facts *f)
{
    return f->maxmemory_policy[0] && strcmp(f->maxmemory_policy, "noeviction") != 0;
}

static int add_node(struct server_facts *all, const struct server_facts *one, struct err *err)
{
    if (older(one, all)) take_version(all, one);
    /* Without a limit on one of them there is none that could be told of all. */
    all->maxmemory = all->maxmemory && one->maxmemory ? all->maxmemory + one->maxmemory : 0;
    all->used_memory += one->used_memory;
    if (!evicts(all))
        memcpy(all->maxmemory_policy, one->maxmemory_policy, sizeof(all->maxmemory_policy));
    if (one->libraries > all->libraries) all->libraries = one->libraries;
    if (one->databases < all->databases) all->databases = one->databases;
    if (one->proto_max_bulk_len < all->proto_max_bulk_len)
        all->proto_max_bulk_len = one->proto_max_bulk_len;
    for (size_t i = 0; i < one->n_db; i++)
        if (add_database(all, &one->db[i], err) < 0) return -1;
    return 0;
}

static int gather(void *ctx, struct client *c, struct err *err)
{
    struct gathering *g = ctx;
    struct server_facts one;
    if (facts_read(c, &one, err) < 0) return -1;
    if (one.loading || one.role != FACTS_PRIMARY) {
        facts_release(&one);
        return err_set(err, ERR_BUSY, "%s: %s", client_name(c),
                       one.loading ? "is loading its data" : "has become a replica");
    }
    if (!g->any) {
        g->any = true;
        g->all = one;
        return 0;
    }
    int rc = add_node(&g->all, &one, err);
    facts_release(&one);
    return rc;
}

static int covered(void *ctx, struct client *c, struct err *err)
{
    const struct server_facts *all = ctx;
    struct server_facts one;
    char a[64], b[64];
    if (facts_read(c, &one, err) < 0) return -1;
    bool well = covers(&one, all);
    facts_name(a, sizeof(a), all);
    facts_name(b, sizeof(b), &one);
    facts_release(&one);
    if (well) return 0;
    return err_set(err, ERR_REFUSED,
                   "%s: is %s, and other nodes of the cluster are %s: what one of them takes the "
                   "other does not; give it nodes of one kind first",
                   client_name(c), b, a);
}

int check_nodes(const struct primaries *target, struct server_facts *ret, struct err *err)
{
    struct gathering g = {.any = false};
    int rc = primaries_each(target, gather, &g, err);
    if (rc == 0 && !g.any) rc = err_set(err, ERR_BUSY, "no node of the cluster has a slot");
    if (rc == 0) rc = primaries_each(target, covered, &g.all, err);
    if (rc < 0) {
        facts_release(&g.all);
        return -1;
    }
    *ret = g.all;
    return 0;
}
