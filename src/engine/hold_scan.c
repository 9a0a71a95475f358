// SPDX-License-Identifier: BSD-3-Clause
// Finding the deadlines on the target that a former run held and had no time to settle.
#include "engine/hold.h"

#include "base/clock.h"
#include "base/log.h"

void hold_scan_begin(struct hold *h, const struct db_select *select, int64_t now_ms)
{
    hold_scan_release(h);
    h->scan = (struct hold_scan){.wanted = true, .select = select};
    if (h->base_ms == 0) h->base_ms = now_ms;
    /* As far back and ahead as one may have been held, by any run. */
    h->min_ms = now_ms - HOLD_MARGIN_MS;
    h->max_ms = now_ms + HOLD_MARGIN_MS;
}

static void leave_node(struct hold_scan *s)
{
    if (s->open) scan_end(&s->page);
    s->open = false;
    s->i = 0;
    s->node = NULL;
    facts_release(&s->dbs);
    s->dbs = (struct server_facts){0};
}

static void begin_again(struct hold_scan *s)
{
    leave_node(s);
    if (s->walking) walk_end(&s->walk);
    s->walking = false;
}

static void close_client(struct hold_scan *s)
{
    begin_again(s);
    client_close(s->c);
    cluster_close(s->cluster);
    s->c = NULL;
    s->cluster = NULL;
}

void hold_scan_release(struct hold *h)
{
    close_client(&h->scan);
}

void hold_scan_client(struct hold *h, struct client *c)
{
    close_client(&h->scan);
    h->scan.c = c;
}

void hold_scan_cluster(struct hold *h, struct cluster *c)
{
    close_client(&h->scan);
    h->scan.cluster = c;
}

/* A node with keys to be looked at: an enum walk_step, or -1. */
static int find_node(struct hold *h, struct err *err)
{
    struct hold_scan *s = &h->scan;
    struct primaries at = {.one = s->c, .cluster = s->cluster, .slots = h->slots};
    if (s->node) return WALK_NODE;
    if (!s->walking && walk_begin(&s->walk, &at, err) < 0) {
        walk_end(&s->walk);
        return -1;
    }
    s->walking = true;
    return walk_next(&s->walk, &s->node, err);
}

/* Which databases have keys is asked once: what is written later has notes. */
static int read_databases(struct hold_scan *s, struct err *err)
{
    if (s->dbs.version_text[0]) return 0;
    if (facts_read(s->node, &s->dbs, err) < 0) return -1;
    if (s->dbs.role == FACTS_PRIMARY && !s->dbs.loading) return 0;
    return err_set(err, ERR_BUSY, "%s: %s", client_name(s->node),
                   s->dbs.loading ? "is loading its data" : "has become a replica");
}

static bool may_have(const struct hold_scan *s)
{
    const struct facts_db *d = &s->dbs.db[s->i];
    return d->keys && db_select_is_aim(s->select, d->db);
}

/* 1: a database is open, 0: there are no more. */
static int open_database(struct hold_scan *s, struct err *err)
{
    if (s->open) return 1;
    while (s->i < s->dbs.n_db && !may_have(s))
        s->i++;
    if (s->i == s->dbs.n_db) return 0;
    if (client_select(s->node, s->dbs.db[s->i].db, err) < 0) return -1;
    scan_begin(&s->page, s->node, &s->dbs);
    s->open = true;
    return 1;
}

static int note_held(struct hold *h, int64_t db, struct span key, const struct reply *told,
                     struct err *err)
{
    int64_t at_ms;
    if (h->scan.cluster && primaries_redirects(told)) {
        walk_again(&h->scan.walk, slot_of(key));
        return 0;
    }
    if (told->type != REPLY_INTEGER) return client_refused(h->scan.node, "PEXPIRETIME", told, err);
    if (key.n > HOLD_KEY_MAX || !hold_decode(h, told->integer, clock_wall_ms(), &at_ms)) return 0;
    h->scan.found++;
    return hold_found(h, db, key, at_ms, err);
}

static int look_at(struct hold *h, const struct reply *keys, struct err *err)
{
    struct client *c = h->scan.node;
    int64_t db = h->scan.dbs.db[h->scan.i].db;
    for (size_t i = 0; i < keys->n; i++) {
        if (!walk_wants(&h->scan.walk, keys->item[i].str)) continue;
        struct span argv[] = {span_str(h->exact ? "PEXPIRETIME" : "PTTL"), keys->item[i].str};
        if (client_sendv(c, 2, argv, err) < 0) return -1;
    }
    for (size_t i = 0; i < keys->n; i++) {
        struct reply *told;
        if (!walk_wants(&h->scan.walk, keys->item[i].str)) continue;
        if (client_recv(c, &told, err) < 0) return -1;
        int rc = note_held(h, db, keys->item[i].str, told, err);
        reply_free(told);
        if (rc < 0) return -1;
    }
    return 0;
}

/* 1: there is more. 2: later. 0: that was all. */
static int next_page(struct hold *h, struct err *err)
{
    struct hold_scan *s = &h->scan;
    const struct reply *keys;
    int rc = find_node(h, err);
    if (rc != WALK_NODE) return rc == WALK_LATER ? 2 : rc == WALK_OVER ? 0 : -1;
    if (read_databases(s, err) < 0) return -1;
    rc = open_database(s, err);
    if (rc < 0) return -1;
    if (rc == 0) {
        leave_node(s);
        return 1;
    }
    rc = scan_page(&s->page, &keys, err);
    if (rc < 0) return -1;
    if (rc > 0) return look_at(h, keys, err) < 0 ? -1 : 1;
    scan_end(&s->page);
    s->open = false;
    s->i++;
    return 1;
}

static void end(struct hold *h)
{
    struct hold_scan *s = &h->scan;
    if (s->found)
        log_info("target: %llu expiries of before are still held back, and are put right",
                 (unsigned long long)s->found);
    close_client(s);
    s->wanted = false;
}

int hold_scan_step(struct hold *h)
{
    struct hold_scan *s = &h->scan;
    struct err err;
    if (!s->wanted || (!s->c && !s->cluster)) return 0;
    if (s->swaps != h->swaps) begin_again(s); /* databases have changed places under it */
    s->swaps = h->swaps;
    int rc = next_page(h, &err);
    if (rc > 0) return rc;
    if (rc == 0) {
        end(h);
        return 0;
    }
    if (err.code != ERR_STOPPED)
        log_warn("%s; looking for expiries that are still held back begins again later", err.msg);
    close_client(s);
    return 0;
}
