// SPDX-License-Identifier: BSD-3-Clause
// Adopting slots: what is done when, and which commands of a slot are let through meanwhile.
#include "engine/adopt.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/replay_rules.h"

#include <stdio.h>
#include <stdlib.h>

#define RETRY_MS  300 /* after what passes: the slot may move on, its owner fail over */
#define DRY_MS    10  /* how long one go lasts while nothing else is to be done */
#define BUSY_MS   2   /* between two pages of names while commands come */
#define KEYS_MAX  1024
#define NAMES_MEM (1u << 20)
#define STORE_MAX (1ull << 40)
#define DIRTY_MAX (8u << 20)

/* --- life --- */

void adopt_init(struct adopt *a, const struct adopt_config *cfg)
{
    *a = (struct adopt){.cfg = *cfg, .slot = SLOT_COUNT};
    const char *dir = cfg->rp->batch[0].st.dir;
    adopt_keys_init(&a->keys, ADOPT_NAMES_MAX);
    adopt_keys_init(&a->dirty, DIRTY_MAX);
    store_init(&a->names, NAMES_MEM, STORE_MAX, dir);
    sorter_init(&a->sorter, 0, dir);
}

static void forget_slot(struct adopt *a)
{
    reply_free(a->values);
    a->values = NULL;
    a->chunk_n = a->next = 0;
    a->slot = SLOT_COUNT;
    a->frontier = 0;
    a->all_put = a->again = false;
    adopt_keys_clear(&a->keys);
    adopt_keys_clear(&a->dirty);
}

void adopt_release(struct adopt *a)
{
    if (!a->cfg.rp) return;
    forget_slot(a);
    adopt_close(a);
    adopt_keys_release(&a->keys);
    adopt_keys_release(&a->dirty);
    store_release(&a->names);
    sorter_release(&a->sorter);
    slot_tags_release(&a->tags);
    free(a->names_at);
    *a = (struct adopt){0};
}

void adopt_cancel(struct adopt *a)
{
    if (a->state == ADOPT_IDLE) return;
    forget_slot(a);
    adopt_close(a);
    sorter_clear(&a->sorter);
    store_clear(&a->names);
    slot_set_clear(&a->round);
    a->state = ADOPT_IDLE;
}

int adopt_begin(struct adopt *a, const struct slot_set *slots, struct err *err)
{
    if (!a->tags.text && slot_tags_init(&a->tags, err) < 0) return -1;
    if (!a->names_at) a->names_at = calloc(SLOT_COUNT + 1, sizeof(*a->names_at));
    if (!a->names_at) return err_set(err, ERR_NOMEM, "out of memory");
    a->round = *slots;
    a->state = ADOPT_NAMES;
    return 0;
}

/* --- what is let through --- */

static bool is_put(const struct adopt *a, struct span key)
{
    return (a->all_put || adopt_hash(key) < a->frontier) && !adopt_keys_has(&a->dirty, key);
}

void adopt_flushed(struct adopt *a)
{
    if (a->state >= ADOPT_LIST) a->again = true;
}

bool adopt_takes(struct adopt *a, const struct cmd_info *info, size_t argc, const struct span *argv)
{
    size_t at[KEYS_MAX];
    struct err full;
    bool all = true;
    if (a->state < ADOPT_LIST || a->again) return false;
    int n = cmd_keys(info, argc, argv, KEYS_MAX, at);
    a->again = n < 0 || n > KEYS_MAX;
    for (int i = 0; !a->again && i < n; i++)
        if (at[i] >= argc) a->again = true; /* larger than is held */
    for (int i = 0; !a->again && i < n; i++)
        all &= is_put(a, argv[at[i]]);
    if (all && !a->again) return true;
    for (int i = 0; !a->again && i < n; i++)
        a->again = adopt_keys_add(&a->dirty, argv[at[i]], &full) < 0;
    return false;
}

/* --- putting --- */

/* What stood on the target before the task, and is not the task's. */
static int is_foreign(struct adopt *a, struct span key, bool to_be_written, struct err *err)
{
    struct replay *rp = a->cfg.rp;
    int64_t db = db_select_target(rp->select, 0);
    int foreign = reconcile_existed(&a->existing, db, key, err);
    if (foreign <= 0 || !to_be_written) return foreign;
    if (rp->pl->cfg->on_conflict != TASK_CONFLICT_OVERWRITE) return 1;
    return reconcile_take(&a->existing, db, key, err) < 0 ? -1 : 0;
}

static int put_value(struct replay *rp, struct span key, const struct reply *value, int64_t ms,
                     struct err *err)
{
    struct replay_num t;
    struct span argv[8] = {span_str("RESTORE"), key,
                           replay_put_i64(&t, ms < 0 ? 0
                                              : ms   ? ms
                                                     : 1),
                           value->str, span_str("REPLACE")};
    struct resp_cmd cmd = {.argv = argv, .argc = 5};
    if (ms >= 0) argv[cmd.argc++] = span_str("ABSTTL");
    rp->info = cmd_find(argv[0]);
    return replay_rule_restore(rp, &cmd, err);
}

static int put_key(struct adopt *a, size_t i, struct err *err)
{
    struct replay *rp = a->cfg.rp;
    int64_t ms;
    struct span key = adopt_keys_name(&a->keys, a->next + i);
    const struct reply *value = adopt_value(a, i, &ms);
    bool there = value != NULL;
    int foreign = is_foreign(a, key, there, err);
    if (foreign != 0) return foreign < 0 ? -1 : 0;
    if (there) return put_value(rp, key, value, ms, err);
    struct span del[] = {span_str("DEL"), key};
    rp->info = cmd_find(del[0]);
    return replay_pass_args(rp, 2, del, err);
}

/* The stream stands at X, between two commands. */
static int put_chunk(struct adopt *a, struct err *err)
{
    struct replay *rp = a->cfg.rp;
    int rc = 0;
    rp->now_ms = clock_wall_ms();
    replay_batch(rp)->read = true;
    for (size_t i = 0; rc == 0 && i < a->chunk_n; i++) {
        if (put_key(a, i, err) < 0 || replay_mark(rp, err) < 0) rc = -1;
        if (rc == 0) adopt_keys_remove(&a->dirty, adopt_keys_name(&a->keys, a->next + i));
    }
    replay_batch(rp)->read = false;
    if (rc < 0) return -1;
    a->next += a->chunk_n;
    a->chunk_n = 0;
    if (a->next < a->keys.n) a->frontier = adopt_keys_at(&a->keys, a->next)->hash;
    reply_free(a->values);
    a->values = NULL;
    return a->has_existing && a->existing.existing ? keyset_sync(a->existing.existing, err) : 0;
}

/* --- the steps --- */

static int next_slot(struct adopt *a)
{
    forget_slot(a);
    a->slot = slot_set_next(&a->round, 0);
    if (a->slot == SLOT_COUNT) {
        adopt_cancel(a);
        return 0;
    }
    a->state = ADOPT_LIST;
    return 1;
}

/* Another round sees to the slot: by then the names of what was put of it are known too. */
static void later(struct adopt *a)
{
    slot_set_remove(&a->round, (uint16_t)a->slot);
    next_slot(a);
}

/* What has passed by meanwhile is read again, and passes by until it is put: the list is a copy. */
static int begin_dirty(struct adopt *a, struct err *err)
{
    struct adopt_keys list;
    size_t n = a->dirty.keys.n / sizeof(struct adopt_key);
    int rc = 0;
    adopt_keys_init(&list, ADOPT_NAMES_MAX);
    for (size_t i = 0; rc == 0 && i < n; i++)
        if (!adopt_keys_at(&a->dirty, i)->gone)
            rc = adopt_keys_add(&list, adopt_keys_name(&a->dirty, i), err);
    adopt_keys_sort(&list);
    adopt_keys_release(&a->keys);
    a->keys = list;
    a->next = 0;
    return rc;
}

static int after_chunk(struct adopt *a, struct err *err)
{
    a->state = ADOPT_FETCH;
    if (a->again) {
        later(a);
        return 0;
    }
    if (a->next < a->keys.n) return 0;
    a->all_put = true;
    if (a->dirty.n) return begin_dirty(a, err);
    uint16_t slot = (uint16_t)a->slot;
    slot_set_remove(&a->round, slot);
    a->cfg.adopted(a->cfg.ctx, slot, a->offset);
    next_slot(a);
    return 0;
}

/* 1: a step was done, 0: nothing is to be done before the stream goes on. */
static int read_some(struct adopt *a, struct err *err)
{
    if (adopt_open(a, err) < 0) return -1;
    int rc;
    switch (a->state) {
    case ADOPT_NAMES:
        rc = adopt_read_names(a, err);
        if (rc == 1) next_slot(a);
        return rc < 0 ? -1 : 1;
    case ADOPT_LIST:
        if (adopt_list(a, err) < 0) return -1;
        a->state = ADOPT_FETCH;
        return 1;
    case ADOPT_FETCH:
        if (adopt_fetch(a, err) < 0) return -1;
        a->state = ADOPT_WAIT;
        return 1;
    case ADOPT_IDLE:
    case ADOPT_WAIT: break;
    }
    return 0;
}

/* What passes: the slot is left for another round. What does not: there are snapshots. */
static int failed(struct adopt *a, struct err *err)
{
    const struct pipeline *pl = a->cfg.rp->pl;
    if (pl->lane.lost || pl->hole || err->code == ERR_STOPPED) return -1;
    bool passes = err_class(err->code) == ERR_CLASS_TRANSIENT;
    if (!passes && err->code != ERR_UNSUPPORTED && err->code != ERR_PROTO && err->code != ERR_LIMIT)
        return -1;
    if (!passes) {
        a->gave_up = true;
        a->why = *err;
        adopt_cancel(a);
        return 0;
    }
    log_debug("slot %u that came from another shard: %s; again", a->slot, err->msg);
    a->not_before_ms = clock_mono_ms() + RETRY_MS;
    if (a->state == ADOPT_NAMES) {
        adopt_cancel(a);
        return 0;
    }
    adopt_close(a);
    later(a);
    return 0;
}

/* After a failover of the source the offset is of another history, and so may be the values. */
static bool is_of_this_history(const struct adopt *a)
{
    return strcmp(a->replid, a->cfg.rp->checkpoint->replid) == 0;
}

/* Names and values are of the first database. */
static int check_databases(const struct adopt *a, struct err *err)
{
    if (a->cfg.rp->db_max == 0) return 0;
    return err_set(err, ERR_UNSUPPORTED, "several databases are in use");
}

static int one_step(struct adopt *a, struct err *err)
{
    if (check_databases(a, err) < 0) return failed(a, err);
    if (a->state != ADOPT_WAIT) {
        int rc = read_some(a, err);
        return rc < 0 ? failed(a, err) : rc;
    }
    if (a->cfg.rp->offset < a->offset && is_of_this_history(a)) return 0;
    if (!is_of_this_history(a)) {
        later(a);
        return 1;
    }
    if (put_chunk(a, err) < 0) return err->code == ERR_UNSUPPORTED ? failed(a, err) : -1;
    if (after_chunk(a, err) < 0) return -1;
    return replay_flush_if_full(a->cfg.rp, err) < 0 ? -1 : 1;
}

int adopt_step(struct adopt *a, bool dry, struct err *err)
{
    if (a->state == ADOPT_IDLE) return 0;
    if (a->state == ADOPT_WAIT && a->cfg.rp->offset < a->offset && is_of_this_history(a)) return 0;
    int64_t now = clock_mono_ms(), end = now + DRY_MS;
    int rc = 1;
    while (rc == 1 && a->state != ADOPT_IDLE && now >= a->not_before_ms && now < end) {
        rc = one_step(a, err);
        if (!dry) break;
        now = clock_mono_ms();
    }
    /* the stream goes first */
    if (!dry && a->state == ADOPT_NAMES) a->not_before_ms = clock_mono_ms() + BUSY_MS;
    return rc < 0 ? -1 : 0;
}
