// SPDX-License-Identifier: BSD-3-Clause
// The keys of some slots, deleted: slot by slot, and those of one slot at once, as a transaction of
// the source would have them.
#include "engine/reconcile.h"

#include "engine/checkpoint.h"
#include "engine/sorter.h"

#include <stdlib.h>

#define NAMES_MAX (32u << 20) /* of the keys of one slot, in one command; more go in several */
#define ARGS_MAX  (1u << 20)

struct flush {
    const struct primaries *target;
    const char *command;
    struct sorter names; /* by database and slot */
    struct buf held;     /* names of one slot: uint32_t length, bytes */
    size_t n_held;
    uint8_t group[6]; /* whose they are */
    int (*step)(void *ctx, int max_wait_ms, struct err *err);
    void *step_ctx;
};

static int note_page(void *ctx, struct walk *w, uint32_t db, struct scan *scan,
                     const struct reply *keys, struct err *err)
{
    struct flush *f = ctx;
    if (scan_ahead(scan, err) < 0) return -1;
    for (size_t i = 0; i < keys->n; i++) {
        struct span key = keys->item[i].str;
        if (!walk_wants(w, key) || checkpoint_is_key(key)) continue;
        uint16_t slot = slot_of(key);
        uint8_t group[6] = {(uint8_t)(db >> 24), (uint8_t)(db >> 16),  (uint8_t)(db >> 8),
                            (uint8_t)db,         (uint8_t)(slot >> 8), (uint8_t)slot};
        if (sorter_add(&f->names, span_of(group, sizeof(group)), key, span_of(NULL, 0), err) < 0)
            return -1;
    }
    return f->step ? f->step(f->step_ctx, 0, err) : 0;
}

static int send(struct flush *f, struct client *c, struct span *argv, struct err *err)
{
    struct reply *r;
    size_t argc = 1;
    argv[0] = span_str(f->command);
    for (size_t at = 0; at < f->held.n;) {
        uint32_t n;
        memcpy(&n, f->held.p + at, sizeof(n));
        argv[argc++] = span_of(f->held.p + at + sizeof(n), n);
        at += sizeof(n) + n;
    }
    uint32_t db = (uint32_t)f->group[0] << 24 | (uint32_t)f->group[1] << 16 |
                  (uint32_t)f->group[2] << 8 | f->group[3];
    if (client_select(c, db, err) < 0) return -1;
    client_while_waiting(c, f->step, f->step_ctx);
    int rc = client_callv(c, &r, argc, argv, err);
    client_while_waiting(c, NULL, NULL);
    if (rc < 0) return -1;
    if (primaries_redirects(r))
        rc = err_set(err, ERR_BUSY, "%s: a slot is on its way", client_name(c));
    else if (reply_is_error(r))
        rc = client_refused(c, f->command, r, err);
    reply_free(r);
    return rc;
}

static int delete_held(struct flush *f, struct err *err)
{
    struct client *c;
    uint32_t n;
    if (f->n_held == 0) return 0;
    memcpy(&n, f->held.p, sizeof(n));
    if (primaries_client_of(f->target, span_of(f->held.p + sizeof(n), n), &c, err) < 0) return -1;
    struct span *argv = calloc(f->n_held + 1, sizeof(*argv));
    if (!argv) return err_set(err, ERR_NOMEM, "out of memory");
    int rc = send(f, c, argv, err);
    free(argv);
    f->n_held = 0;
    buf_clear(&f->held);
    return rc;
}

static int take(void *ctx, struct span group, struct span name, struct err *err)
{
    struct flush *f = ctx;
    uint32_t n = (uint32_t)name.n;
    bool same = f->n_held && memcmp(f->group, group.p, sizeof(f->group)) == 0;
    bool full = f->held.n > NAMES_MAX || f->n_held + 1 == ARGS_MAX;
    if ((!same || full) && delete_held(f, err) < 0) return -1;
    memcpy(f->group, group.p, sizeof(f->group));
    if (buf_add(&f->held, &n, sizeof(n), err) < 0 || buf_add(&f->held, name.p, name.n, err) < 0)
        return -1;
    f->n_held++;
    return 0;
}

int reconcile_flush(const struct primaries *target, const struct server_facts *facts,
                    const struct db_select *select, int64_t db, const char *dir,
                    int (*step)(void *ctx, int max_wait_ms, struct err *err), void *ctx,
                    struct err *err)
{
    struct flush f = {.target = target,
                      .command = facts_has(facts, FACTS_UNLINK) ? "UNLINK" : "DEL",
                      .step = step,
                      .step_ctx = ctx};
    struct reconcile_visit v = {.target = target,
                                .select = select,
                                .only_db = db < 0 ? NULL : &db,
                                .fn = note_page,
                                .ctx = &f,
                                .step = step,
                                .step_ctx = ctx};
    sorter_init(&f.names, 0, dir);
    buf_init(&f.held, 2 * NAMES_MAX + SORTER_PAIR_MAX);
    int rc = reconcile_each_page(&v, err);
    if (rc == 0) rc = sorter_each(&f.names, take, &f, err);
    if (rc == 0) rc = delete_held(&f, err);
    sorter_release(&f.names);
    buf_release(&f.held);
    if (rc == 0) return 0;
    reconcile_expect_another(err);
    return err ? err_wrap(err, "deleting the keys of a shard that was flushed") : -1;
}
