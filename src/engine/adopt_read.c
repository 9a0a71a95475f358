// SPDX-License-Identifier: BSD-3-Clause
// Adopting slots, the reading: names on the target, names and values on the source.
#include "engine/adopt.h"

#include "base/num.h"
#include "engine/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

#define BLIND_KEYS 16 /* read at once where their sizes are not told */
#define GONE_MS    -2 /* PTTL, PEXPIRETIME: there is no such key */

/* --- clients --- */

int adopt_open(struct adopt *a, struct err *err)
{
    struct pipeline *pl = a->cfg.rp->pl;
    if (!a->source && a->cfg.open_source(a->cfg.ctx, &a->source, err) < 0) return -1;
    if (!a->one && !a->cluster && a->cfg.open_target(a->cfg.ctx, &a->one, &a->cluster, err) < 0)
        return -1;
    client_while_waiting(a->source, pipeline_step, pl);
    if (a->one) client_while_waiting(a->one, pipeline_step, pl);
    if (a->has_existing) return 0;
    a->has_existing = true;
    if (reconcile_begin(&a->existing, &pl->cfg->select, pl->counters, NULL, a->cfg.existing_path,
                        true, err) < 0)
        return -1;
    reconcile_dbs(&a->existing, a->cfg.rp->target);
    return 0;
}

void adopt_close(struct adopt *a)
{
    if (a->scanning) scan_end(&a->scan);
    a->scanning = false;
    client_close(a->source);
    client_close(a->one);
    a->source = a->one = NULL;
    a->cluster = NULL;
    if (a->has_existing) reconcile_end(&a->existing);
    a->has_existing = false;
}

static int64_t target_db(const struct adopt *a)
{
    return db_select_target(a->cfg.rp->select, 0);
}

/* --- names on a single target: one scan for all slots of the round --- */

static int check_primary(struct client *c, struct err *err)
{
    struct server_facts f;
    if (facts_read(c, &f, err) < 0) return -1;
    bool well = f.role == FACTS_PRIMARY && !f.loading;
    facts_release(&f);
    return well ? 0 : err_set(err, ERR_BUSY, "%s: is no primary now", client_name(c));
}

static int begin_scan(struct adopt *a, struct err *err)
{
    if (check_primary(a->one, err) < 0 || client_select(a->one, (uint64_t)target_db(a), err) < 0)
        return -1;
    sorter_clear(&a->sorter);
    scan_begin(&a->scan, a->one, a->cfg.rp->target);
    a->scanning = true;
    return 0;
}

static int note_names(struct adopt *a, const struct reply *keys, struct err *err)
{
    for (size_t i = 0; i < keys->n; i++) {
        struct span key = keys->item[i].str;
        uint16_t slot = slot_of(key);
        uint8_t group[2] = {(uint8_t)(slot >> 8), (uint8_t)slot};
        if (!slot_set_has(&a->round, slot) || checkpoint_is_key(key)) continue;
        if (sorter_add(&a->sorter, span_of(group, 2), key, span_of(NULL, 0), err) < 0) return -1;
    }
    return 0;
}

struct laying {
    struct adopt *a;
    unsigned slot; /* names of those before it are laid out */
};

static int lay_out(void *ctx, struct span group, struct span name, struct err *err)
{
    struct laying *l = ctx;
    unsigned slot = (unsigned)group.p[0] << 8 | group.p[1];
    uint32_t n = (uint32_t)name.n;
    while (l->slot <= slot)
        l->a->names_at[l->slot++] = store_size(&l->a->names);
    if (store_add(&l->a->names, &n, sizeof(n), err) < 0) return -1;
    return store_add(&l->a->names, name.p, name.n, err);
}

static int lay_out_all(struct adopt *a, struct err *err)
{
    struct laying l = {.a = a};
    store_clear(&a->names);
    if (sorter_each(&a->sorter, lay_out, &l, err) < 0) return -1;
    while (l.slot <= SLOT_COUNT)
        a->names_at[l.slot++] = store_size(&a->names);
    return 0;
}

int adopt_read_names(struct adopt *a, struct err *err)
{
    const struct reply *keys;
    if (a->cluster) return 1; /* its nodes tell of each slot */
    if (!a->scanning && begin_scan(a, err) < 0) return -1;
    int rc = scan_page(&a->scan, &keys, err);
    if (rc < 0) return -1;
    if (rc > 0) return note_names(a, keys, err);
    scan_end(&a->scan);
    a->scanning = false;
    if (check_primary(a->one, err) < 0 || lay_out_all(a, err) < 0) return -1;
    return 1;
}

static int names_of_slot(struct adopt *a, struct err *err)
{
    uint64_t at = a->names_at[a->slot], end = a->names_at[a->slot + 1];
    while (at < end) {
        uint32_t n;
        if (store_read(&a->names, at, &n, sizeof(n), err) != sizeof(n)) return -1;
        uint8_t *name = malloc(n + 1u);
        if (!name) return err_set(err, ERR_NOMEM, "out of memory");
        ssize_t got = store_read(&a->names, at + sizeof(n), name, n, err);
        int rc = got == (ssize_t)n ? adopt_keys_add(&a->keys, span_of(name, n), err) : -1;
        free(name);
        if (rc < 0) return -1;
        at += sizeof(n) + n;
    }
    return 0;
}

/* --- one step at a server: MULTI ... EXEC --- */

/* What the queueing and EXEC say; *ret the array. A slot that is not there (any more) ends it. */
static int take_exec(struct client *c, size_t queued, struct reply **ret, struct err *err)
{
    struct reply *r;
    struct err first = {.code = ERR_NONE};
    for (size_t i = 0; i < queued + 2; i++) {
        if (client_recv(c, &r, err) < 0) return -1;
        if (i == queued + 1 && first.code == ERR_NONE && r->type == REPLY_ARRAY) {
            *ret = r;
            return 0;
        }
        if (first.code == ERR_NONE && primaries_redirects(r))
            err_set(&first, ERR_BUSY, "%s: a slot is on its way", client_name(c));
        else if (first.code == ERR_NONE && reply_is_error(r))
            client_refused(c, "reading a slot", r, &first);
        reply_free(r);
    }
    if (first.code == ERR_NONE)
        return err_set(err, ERR_PROTO, "%s: EXEC gave nothing", client_name(c));
    *err = first;
    /* What is not permitted, or not known there, will not be later. */
    if (err_class(err->code) != ERR_CLASS_TRANSIENT) err->code = ERR_UNSUPPORTED;
    return -1;
}

/* --- the offset --- */

/* The value behind "name:" in the text of INFO; its length, 0: not there. */
static size_t info_value(const struct reply *info, const char *name, char *out, size_t size)
{
    char line[64];
    if (!reply_has_text(info)) return 0;
    int n = snprintf(line, sizeof(line), "\n%s:", name);
    const uint8_t *hit = memmem(info->str.p, info->str.n, line, (size_t)n);
    if (!hit) return 0;
    const uint8_t *from = hit + n, *end = info->str.p + info->str.n;
    size_t len = 0;
    while (from + len < end && from[len] > ' ' && len + 1 < size)
        len++;
    memcpy(out, from, len);
    out[len] = 0;
    return len;
}

/* It must be of the history that is followed, or it would mean something else. */
static int read_offset(struct adopt *a, const struct reply *info, struct err *err)
{
    char role[16], replid[48], offset[24];
    uint64_t at;
    if (!info_value(info, "role", role, sizeof(role)) ||
        !info_value(info, "master_replid", replid, sizeof(replid)) ||
        !info_value(info, "master_repl_offset", offset, sizeof(offset)) ||
        !num_get_u64(span_str(offset), &at))
        return err_set(err, ERR_UNSUPPORTED, "source: INFO replication tells no offset");
    const struct batch_checkpoint *mark = a->cfg.rp->checkpoint;
    if (strcmp(role, "master") != 0 || !mark || strcmp(replid, mark->replid) != 0 ||
        at < a->cfg.rp->offset)
        return err_set(err, ERR_BUSY, "source: the owner of a slot has just changed");
    a->offset = at;
    memcpy(a->replid, mark->replid, sizeof(a->replid));
    return 0;
}

/* --- listing --- */

/* A key of the slot is asked for as well, so that a node that has not got it says so. */
static int send_list(struct adopt *a, struct client *c, struct err *err)
{
    char slot[8], max[16], probe[32];
    snprintf(slot, sizeof(slot), "%u", a->slot);
    snprintf(max, sizeof(max), "%u", ADOPT_KEYS_MAX + 1);
    snprintf(probe, sizeof(probe), "keyhaul:{%s}", slot_tag(&a->tags, (uint16_t)a->slot));
    if (client_send(c, err, "MULTI", NULL) < 0 ||
        client_send(c, err, "CLUSTER", "GETKEYSINSLOT", slot, max, NULL) < 0 ||
        client_send(c, err, "EXISTS", probe, NULL) < 0 ||
        client_send(c, err, "INFO", "replication", NULL) < 0)
        return -1;
    return client_send(c, err, "EXEC", NULL);
}

static int take_list(struct adopt *a, const struct reply *list, struct err *err)
{
    if (list->type != REPLY_ARRAY)
        return err_set(err, ERR_UNSUPPORTED, "CLUSTER GETKEYSINSLOT gave no list");
    for (size_t i = 0; i < list->n; i++) {
        if (list->item[i].type != REPLY_STRING || checkpoint_is_key(list->item[i].str)) continue;
        if (adopt_keys_add(&a->keys, list->item[i].str, err) < 0) return -1;
    }
    return 0;
}

static int list_of(struct adopt *a, struct client *c, bool source, struct err *err)
{
    struct reply *r;
    if (send_list(a, c, err) < 0 || take_exec(c, 3, &r, err) < 0) return -1;
    int rc = r->n == 3 ? 0 : err_set(err, ERR_PROTO, "%s: EXEC gave too little", client_name(c));
    if (rc == 0 && source) rc = read_offset(a, &r->item[2], err);
    if (rc == 0) rc = take_list(a, &r->item[0], err);
    reply_free(r);
    return rc;
}

static int list_target(struct adopt *a, struct err *err)
{
    struct client *c;
    if (!a->cluster) return names_of_slot(a, err);
    if (cluster_client_of(a->cluster, (uint16_t)a->slot, &c, err) < 0) return -1;
    client_while_waiting(c, pipeline_step, a->cfg.rp->pl);
    int rc = list_of(a, c, false, err);
    client_while_waiting(c, NULL, NULL);
    if (rc < 0 && err->code == ERR_BUSY) {
        struct err ignored;
        if (cluster_refresh(a->cluster, &ignored) < 0) return -1;
    }
    return rc;
}

int adopt_list(struct adopt *a, struct err *err)
{
    adopt_keys_clear(&a->keys);
    int rc = list_of(a, a->source, true, err);
    if (rc == 0) rc = list_target(a, err);
    if (rc == 0 && a->keys.n > ADOPT_KEYS_MAX)
        rc = err_set(err, ERR_LIMIT, "slot %u has more than %u keys", a->slot, ADOPT_KEYS_MAX);
    if (rc < 0 && err->code == ERR_LIMIT) err->code = ERR_UNSUPPORTED;
    if (rc == 0) adopt_keys_sort(&a->keys);
    return rc;
}

/* --- values --- */

/* How many of the next keys, by their memory, make up a chunk. */
static int size_up(struct adopt *a, size_t *ret, struct err *err)
{
    struct client *c = a->source;
    size_t most = a->keys.n - a->next, n = 0;
    uint64_t sum = 0;
    bool blind = false;
    if (most > ADOPT_CHUNK_KEYS) most = ADOPT_CHUNK_KEYS;
    for (size_t i = 0; i < most; i++) {
        struct span argv[] = {span_str("MEMORY"), span_str("USAGE"),
                              adopt_keys_name(&a->keys, a->next + i)};
        if (client_sendv(c, 3, argv, err) < 0) return -1;
    }
    for (size_t i = 0; i < most; i++) {
        struct reply *r;
        if (client_recv(c, &r, err) < 0) return -1;
        uint64_t bytes = r->type == REPLY_INTEGER && r->integer > 0 ? (uint64_t)r->integer : 0;
        blind |= reply_is_error(r);
        reply_free(r);
        if (i == 0 && bytes > ADOPT_VALUE_MAX) sum = bytes;
        if (n == i && (n == 0 || sum + bytes <= ADOPT_CHUNK)) {
            n++;
            sum += bytes;
        }
    }
    if (sum > ADOPT_VALUE_MAX)
        return err_set(err, ERR_UNSUPPORTED, "a key of slot %u is larger than %u MB", a->slot,
                       ADOPT_VALUE_MAX >> 20);
    if (blind && n > BLIND_KEYS) n = BLIND_KEYS;
    /* Those of one hash stay together. */
    while (a->next + n < a->keys.n && adopt_keys_at(&a->keys, a->next + n)->hash ==
                                          adopt_keys_at(&a->keys, a->next + n - 1)->hash)
        n++;
    *ret = n;
    return 0;
}

static int send_fetch(struct adopt *a, size_t n, struct err *err)
{
    struct client *c = a->source;
    a->relative = !facts_has(a->cfg.rp->source, FACTS_PEXPIRETIME);
    if (client_send(c, err, "MULTI", NULL) < 0) return -1;
    for (size_t i = 0; i < n; i++) {
        struct span key = adopt_keys_name(&a->keys, a->next + i);
        struct span dump[] = {span_str("DUMP"), key};
        struct span time[] = {span_str(a->relative ? "PTTL" : "PEXPIRETIME"), key};
        if (client_sendv(c, 2, dump, err) < 0 || client_sendv(c, 2, time, err) < 0) return -1;
    }
    if (client_send(c, err, "TIME", NULL) < 0 ||
        client_send(c, err, "INFO", "replication", NULL) < 0)
        return -1;
    return client_send(c, err, "EXEC", NULL);
}

int adopt_fetch(struct adopt *a, struct err *err)
{
    size_t n = 0;
    reply_free(a->values);
    a->values = NULL;
    a->chunk_n = 0;
    if (a->next == a->keys.n) return 0; /* nothing is left: as of the list */
    if (size_up(a, &n, err) < 0 || send_fetch(a, n, err) < 0 ||
        take_exec(a->source, 2 * n + 2, &a->values, err) < 0)
        return -1;
    if (a->values->n != 2 * n + 2) return err_set(err, ERR_PROTO, "source: EXEC gave too little");
    for (size_t i = 0; i < 2 * n; i++)
        if (reply_is_error(&a->values->item[i])) {
            client_refused(a->source, "DUMP", &a->values->item[i], err);
            if (err_class(err->code) != ERR_CLASS_TRANSIENT) err->code = ERR_UNSUPPORTED;
            return -1;
        }
    a->chunk_n = n;
    return read_offset(a, &a->values->item[2 * n + 1], err);
}

/* Before 7.0 a deadline is the time there and what is left. */
static int64_t now_there_ms(const struct adopt *a)
{
    const struct reply *time = &a->values->item[2 * a->chunk_n];
    const struct reply *s = reply_at(time, 0), *us = reply_at(time, 1);
    int64_t sec, micro;
    if (!s || !us || !num_get_i64(s->str, &sec) || !num_get_i64(us->str, &micro)) return 0;
    return sec * 1000 + micro / 1000;
}

const struct reply *adopt_value(const struct adopt *a, size_t i, int64_t *ret_ms)
{
    const struct reply *value = &a->values->item[2 * i], *time = value + 1;
    int64_t ms = time->type == REPLY_INTEGER ? time->integer : -1;
    bool gone = ms == GONE_MS;
    if (ms >= 0 && a->relative) ms += now_there_ms(a);
    *ret_ms = ms < 0 ? -1 : ms;
    /* Before 6.0 time goes on within EXEC: it has expired behind the DUMP, and its DEL stands in
     * the stream before the offset. */
    return gone ? NULL : value->type == REPLY_STRING ? value : NULL;
}
