// SPDX-License-Identifier: BSD-3-Clause
// The load: a snapshot, record by record, into the target.
#include "engine/load.h"

#include "base/clock.h"
#include "base/crc64.h"
#include "base/log.h"
#include "engine/checkpoint.h"
#include "engine/emit.h"
#include "engine/fan.h"

#include <stdio.h>

/* How long load and catching up may take at worst: ten minutes, and 2 MB of the source a second. */
#define HOLD_LEAST_MS     600000
#define HOLD_BYTES_PER_MS 2000
#define STRS_BYTES        (600u << 20) /* a key may have 512 MB */

int64_t load_hold_margin_ms(uint64_t bytes)
{
    return HOLD_LEAST_MS + (int64_t)(bytes / HOLD_BYTES_PER_MS);
}

int load_init(struct load *ld, const struct load_config *cfg, struct err *err)
{
    const struct task_config *task = cfg->pl->cfg;
    *ld = (struct load){.pl = cfg->pl,
                        .lane = &cfg->pl->lane,
                        .target = cfg->target,
                        .select = &task->select,
                        .keys = &task->keys,
                        .on_conflict = task->on_conflict,
                        .replace = task->on_conflict == TASK_CONFLICT_OVERWRITE,
                        .reconcile = cfg->reconcile,
                        .hold_margin_ms = load_hold_margin_ms(cfg->source_bytes),
                        .between = cfg->between,
                        .between_ctx = cfg->between_ctx,
                        .discard = task->type == TASK_INCREMENTAL,
                        .set_pxat = facts_has(cfg->target, FACTS_SET_PXAT),
                        .absttl = facts_has(cfg->target, FACTS_RESTORE_ABSTTL),
                        .restore_replace = facts_has(cfg->target, FACTS_RESTORE_REPLACE),
                        .unlink = facts_has(cfg->target, FACTS_UNLINK),
                        .field_ttl = facts_has(cfg->target, FACTS_HASH_FIELD_TTL)};
    facts_name(ld->target_name, sizeof(ld->target_name), cfg->target);
    ld->to_db = ld->discard ? -1 : db_select_target(ld->select, 0);
    buf_init(&ld->scratch, LOAD_INPLACE_MAX + 64);
    buf_init(&ld->args, 2 * LOAD_ELEM_MAX + (2u << 20));
    buf_init(&ld->tail, 2 * LOAD_ELEM_MAX + (2u << 20));
    for (int i = 0; i < 2; i++)
        batch_init(&ld->batch[i], cfg->store_dir, cfg->store_max_bytes);
    store_init(&ld->whole, BATCH_MEM_BYTES, cfg->store_max_bytes, cfg->store_dir);
    store_init(&ld->nodes, BATCH_MEM_BYTES, cfg->store_max_bytes, cfg->store_dir);
    if (rdb_elems_new(&ld->elems, LOAD_ELEM_MAX, err) < 0) return -1;
    rdb_elems_split_above(ld->elems, LOAD_SPLIT_ABOVE);
    if (ld->reconcile) reconcile_dbs(ld->reconcile, ld->target);
    /* What is not looked at would be taken for gone. */
    if (ld->reconcile && (ld->discard || !key_select_all(ld->keys)))
        return err_set(err, ERR_INTERNAL, "only a whole snapshot can be reconciled");
    if (ld->reconcile && ld->reconcile->unsure && ld->on_conflict == TASK_CONFLICT_SKIP)
        return err_set(
            err, ERR_REFUSED,
            "which keys stood on the target before this task is not known any more (its "
            "folder is new, the target knows it already), so --on-conflict skip cannot "
            "tell what to leave alone; nothing was written; begin anew with --restart and "
            "--on-conflict overwrite");
    return 0;
}

void load_release(struct load *ld)
{
    rdb_release(&ld->rdb);
    rdb_elems_free(ld->elems);
    buf_release(&ld->scratch);
    buf_release(&ld->args);
    buf_release(&ld->tail);
    for (int i = 0; i < 2; i++)
        batch_release(&ld->batch[i]);
    store_release(&ld->whole);
    store_release(&ld->nodes);
}

static bool hinted(const struct rdb_rec *rec)
{
    return rec->idle_s >= 0 || rec->freq >= 0;
}

/* Deadlines of zero and before mean "long past" in a file, but "none" or "wrong" in a command. */
static int64_t deadline(const struct rdb_rec *rec)
{
    return rec->expire_ms > 0 ? rec->expire_ms : 1;
}

/* --- where it goes --- */

/* By pl->fan, for of a cluster pl->lane has no connection. */
static void choose_lane(struct load *ld, struct span key)
{
    ld->key = key;
    ld->lane = pipeline_lane(ld->pl, key);
}

int load_follow(struct load *ld, const char *where, struct err *err)
{
    char line[RESP_ERROR_MAX];
    snprintf(line, sizeof(line), "%s", where);
    counter_add(&ld->pl->counters->retries, 1);
    if (fan_follow(ld->pl->fan, line, err) < 0) return -1;
    choose_lane(ld, ld->key);
    return 0;
}

int load_call(struct load *ld, const struct lane_part *parts, unsigned n_parts, struct err *err)
{
    for (;;) {
        if (lane_select(ld->lane, ld->to_db, err) < 0 ||
            lane_call(ld->lane, parts, n_parts, err) < 0)
            return -1;
        const struct resp_reply *reply = &ld->lane->outcome.last;
        if (KH_LIKELY(!ld->pl->fan)) return 0;
        if (reply->type != '-' || !refusal_is_redirect(reply->line)) break;
        if (load_follow(ld, reply->line, err) < 0) return -1;
    }
    fan_recovered(ld->pl->fan);
    return 0;
}

static int call_strs(struct load *ld, size_t argc, const struct span *argv, struct err *err)
{
    struct buf b;
    buf_init(&b, STRS_BYTES);
    int rc = resp_put_cmd(&b, argc, argv, err);
    struct lane_part part = {.mem = buf_span(&b)};
    if (rc == 0) rc = load_call(ld, &part, 1, err);
    buf_release(&b);
    return rc;
}

int load_delete(struct load *ld, struct err *err)
{
    struct span argv[] = {span_str(ld->unlink ? "UNLINK" : "DEL"), ld->key};
    if (call_strs(ld, 2, argv, err) < 0) return -1;
    if (ld->lane->outcome.last.type != '-') return 0;
    return err_set(err, ERR_TARGET, "target: %s was refused: %s", ld->unlink ? "UNLINK" : "DEL",
                   ld->lane->outcome.last.line);
}

/* --- RESTORE --- */

static bool with_replace(const struct load *ld)
{
    return ld->replace && ld->restore_replace;
}

/* Before 3.0 RESTORE replaces nothing. */
int load_make_room(struct load *ld, struct err *err)
{
    return KH_LIKELY(!ld->replace || ld->restore_replace) ? 0 : load_delete(ld, err);
}

/* Before 5.0 there is only a relative one, and no hints. */
static int64_t restore_ttl(const struct load *ld, const struct rdb_rec *rec)
{
    if (rec->expire_ms == -1) return 0;
    if (ld->absttl) return deadline(rec);
    int64_t now = clock_wall_ms();
    return rec->expire_ms > now ? rec->expire_ms - now : 1;
}

void load_frame_head(const struct load *ld, const struct rdb_rec *rec, uint64_t value_n,
                     struct load_frame *f)
{
    unsigned argc = 4u + with_replace(ld);
    if (ld->absttl) argc += (rec->expire_ms != -1) + (hinted(rec) ? 2u : 0);
    uint8_t *out = emit_head(f->head, '*', argc);
    out = emit_str(out, "RESTORE");
    out = emit_arg(out, rec->a.p, rec->a.n);
    out = emit_num(out, restore_ttl(ld, rec));
    out = emit_head(out, '$', 1 + value_n + 10);
    *out++ = rdb_type_byte(rec->type);
    f->head_n = (size_t)(out - f->head);
}

void load_frame_tail(const struct load *ld, const struct rdb_rec *rec, uint64_t crc,
                     struct load_frame *f)
{
    /* Version 6 is taken by every server; only the type has to be known. Valkey's own types are
     * told from Redis's of the same number by a version of 80. */
    uint8_t version[2] = {rec->type >= 256 ? 80 : 6, 0};
    crc = crc64(crc, version, 2);
    uint8_t *out = f->tail;
    *out++ = version[0];
    *out++ = version[1];
    for (int i = 0; i < 8; i++)
        *out++ = (uint8_t)(crc >> (8 * i));
    out = emit_crlf(out);
    if (with_replace(ld)) out = emit_str(out, "REPLACE");
    if (ld->absttl && rec->expire_ms != -1) out = emit_str(out, "ABSTTL");
    if (ld->absttl && rec->idle_s >= 0) {
        out = emit_str(out, "IDLETIME");
        out = emit_num(out, rec->idle_s);
    } else if (ld->absttl && rec->freq >= 0) {
        out = emit_str(out, "FREQ");
        out = emit_num(out, rec->freq);
    }
    f->tail_n = (size_t)(out - f->tail);
}

static int commit(struct load *ld, const struct rdb_rec *rec, const uint8_t *start,
                  const uint8_t *end, const uint8_t *key, struct err *err)
{
    struct lane_item item = {.n = (uint32_t)(end - start),
                             .key_at = (uint32_t)(key - start),
                             .key_n = (uint32_t)rec->a.n,
                             .source_db = (uint32_t)ld->db,
                             .db = (uint32_t)ld->to_db,
                             .kind = LANE_KEY,
                             .module = rec->type == RDB_MODULE_2};
    return lane_commit(ld->lane, &item, err);
}

static int restore_small(struct load *ld, const struct rdb_rec *rec, struct span value,
                         struct err *err)
{
    uint8_t *start;
    size_t most = LOAD_FRAME_MAX + rec->a.n + value.n + sizeof(((struct load_frame *)0)->tail);
    if (lane_reserve(ld->lane, ld->to_db, most, &start, err) < 0) return -1;
    struct load_frame f = {.head = start};
    load_frame_head(ld, rec, value.n, &f);
    uint8_t *payload = start + f.head_n - 1; /* from the type byte on */
    memcpy(payload + 1, value.p, value.n);
    load_frame_tail(ld, rec, crc64(0, payload, 1 + value.n), &f);
    memcpy(payload + 1 + value.n, f.tail, f.tail_n);
    char digits[NUM_INT64_CHARS];
    /* "*n\r\n" "$7\r\nRESTORE\r\n" "$len\r\n" key; RESTORE never has more than nine arguments. */
    const uint8_t *key = start + 4 + 13 + 1 + num_put_u64(digits, rec->a.n) + 2;
    return commit(ld, rec, start, payload + 1 + value.n + f.tail_n, key, err);
}

/* Larger than the lane's items: sent from where it lies. */
static int restore_in_place(struct load *ld, const struct rdb_rec *rec, struct span value,
                            struct err *err)
{
    buf_clear(&ld->args);
    if (buf_reserve(&ld->args, LOAD_FRAME_MAX + rec->a.n, err) < 0) return -1;
    struct load_frame f = {.head = ld->args.p};
    load_frame_head(ld, rec, value.n, &f);
    uint8_t type = rdb_type_byte(rec->type);
    load_frame_tail(ld, rec, crc64(crc64(0, &type, 1), value.p, value.n), &f);
    struct lane_part parts[] = {
        {.mem = span_of(f.head, f.head_n)}, {.mem = value}, {.mem = span_of(f.tail, f.tail_n)}};
    if (load_call(ld, parts, 3, err) < 0) return -1;
    return load_call_reply(ld, rec, value.n, err);
}

int load_restore(struct load *ld, const struct rdb_rec *rec, struct span value, struct err *err)
{
    if (load_make_room(ld, err) < 0) return -1;
    /* Whether it was left out has to be known before the next key, when that deletes what is there.
     */
    bool ask = rec->type == RDB_MODULE_2 && ld->reconcile && !ld->reconcile->first;
    if (!ask && value.n + rec->a.n + 512 <= LANE_ITEM_MAX)
        return restore_small(ld, rec, value, err);
    return restore_in_place(ld, rec, value, err);
}

/* --- strings --- */

/* SET's arguments after the value. */
static uint8_t *put_set_tail(const struct load *ld, const struct rdb_rec *rec, uint8_t *out)
{
    if (!ld->replace) out = emit_str(out, "NX");
    if (rec->expire_ms == -1) return out;
    out = emit_str(out, "PXAT");
    return emit_num(out, deadline(rec));
}

static unsigned set_argc(const struct load *ld, const struct rdb_rec *rec)
{
    return 3u + !ld->replace + (rec->expire_ms != -1 ? 2 : 0);
}

static int set_small(struct load *ld, const struct rdb_rec *rec, const struct rdb_str *s,
                     struct err *err)
{
    uint8_t *start;
    if (lane_reserve(ld->lane, ld->to_db, 160 + rec->a.n + s->n, &start, err) < 0) return -1;
    uint8_t *out = emit_head(start, '*', set_argc(ld, rec));
    memcpy(out, "$3\r\nSET\r\n", 9);
    out = emit_head(out + 9, '$', rec->a.n);
    uint8_t *key = out;
    memcpy(out, rec->a.p, rec->a.n);
    out = emit_crlf(out + rec->a.n);
    out = emit_head(out, '$', s->n);
    if (rdb_str_decode(&ld->pl->r, s, out, err) < 0) return -1;
    out = put_set_tail(ld, rec, emit_crlf(out + s->n));
    return commit(ld, rec, start, out, key, err);
}

static int set_in_place(struct load *ld, const struct rdb_rec *rec, const struct rdb_str *s,
                        struct err *err)
{
    struct span value;
    buf_clear(&ld->scratch);
    buf_clear(&ld->args);
    if (rdb_str_body(&ld->pl->r, s, &ld->scratch, LOAD_INPLACE_MAX, &value, err) < 0) return -1;
    if (buf_reserve(&ld->args, 160 + rec->a.n, err) < 0) return -1;
    uint8_t *out = emit_head(ld->args.p, '*', set_argc(ld, rec));
    out = emit_str(out, "SET");
    out = emit_arg(out, rec->a.p, rec->a.n);
    out = emit_head(out, '$', value.n);
    struct span head = span_of(ld->args.p, (size_t)(out - ld->args.p));
    uint8_t tail[96];
    uint8_t *end = put_set_tail(ld, rec, emit_crlf(tail));
    struct lane_part parts[] = {
        {.mem = head}, {.mem = value}, {.mem = span_of(tail, (size_t)(end - tail))}};
    if (load_call(ld, parts, 3, err) < 0) return -1;
    return load_call_reply(ld, rec, value.n, err);
}

static int load_value(struct load *ld, const struct rdb_rec *rec, struct err *err);

static int load_string(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    struct reader *r = &ld->pl->r;
    if (hinted(rec) || (rec->expire_ms != -1 && !ld->set_pxat)) return load_value(ld, rec, err);
    struct rdb_str s;
    if (rdb_str_head(r, &s, err) < 0) return -1;
    if (rec->a.n + s.n + 256 <= LANE_ITEM_MAX) return set_small(ld, rec, &s, err);
    /* In place: the stored bytes and, when compressed, the text must both fit. */
    if (rec->a.n <= LANE_ITEM_MAX && s.n <= LOAD_INPLACE_MAX && s.stored <= LOAD_INPLACE_MAX)
        return set_in_place(ld, rec, &s, err);
    return load_long_string(ld, rec, &s, err);
}

/* --- values --- */

static bool by_elements(enum rdb_type type)
{
    enum rdb_kind k = rdb_kind_of(type);
    return k == RDB_KIND_LIST || k == RDB_KIND_SET || k == RDB_KIND_ZSET || k == RDB_KIND_HASH;
}

static struct refused_key refused_key(const struct load *ld, const struct rdb_rec *rec)
{
    return (struct refused_key){(int64_t)ld->db, ld->to_db, rec->a};
}

int load_unsupported(struct load *ld, const struct rdb_rec *rec, const char *words, struct err *err)
{
    struct refused_key k = refused_key(ld, rec);
    if (ld->pl->cfg->on_unsupported != TASK_UNSUPPORTED_FAIL) ld->left_out = true;
    return refusals_unsupported(&ld->pl->refusals, &k, rdb_kind_name(rdb_kind_of(rec->type)), words,
                                err);
}

static int unsupported(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    char words[200];
    snprintf(words, sizeof(words), "%s does not know this kind of value (type %u of the snapshot)",
             ld->target_name, (unsigned)rdb_type_byte(rec->type));
    if (rdb_value_skip(&ld->pl->r, rec->type, true, 0, err) < 0) return -1;
    return load_unsupported(ld, rec, words, err);
}

/* Anything but a plain string: passed through when small and known, else taken apart. */
static int load_value(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    struct reader *r = &ld->pl->r;
    if (rec->type == RDB_MODULE_2) {
        int rc = load_vectors(ld, rec, err);
        if (rc != 1) return rc;
    }
    bool known = facts_takes_type(ld->target, rec->type);
    if (known) {
        size_t held = (size_t)(r->p - r->keep);
        int rc = rdb_value_skip(r, rec->type, false, LOAD_RESTORE_MAX, err);
        if (rc < 0) return -1;
        struct span value = span_of(r->keep + held, (size_t)(r->p - r->keep) - held);
        if (rc == 0) return load_restore(ld, rec, value, err);
        r->p = r->keep + held;
    } else {
        int rc = load_transcoded(ld, rec, err);
        if (rc != 1) return rc;
    }
    uint64_t blob;
    if (rdb_elems_blob_bytes(r, rec->type, &blob, err) < 0) return -1;
    if (by_elements(rec->type) && blob <= LOAD_ELEM_MAX) return load_chunked(ld, rec, err);
    if (rec->type == RDB_STRING) { /* too large for one RESTORE: its hint is given up */
        struct rdb_str s;
        if (rdb_str_head(r, &s, err) < 0) return -1;
        return load_long_string(ld, rec, &s, err);
    }
    if (known) return load_whole(ld, rec, err);
    int rc = rdb_kind_of(rec->type) == RDB_KIND_STREAM ? load_stream(ld, rec, err) : 1;
    return rc == 1 ? unsupported(ld, rec, err) : rc;
}

static int load_selected(struct load *ld, struct rdb_rec *rec, struct err *err)
{
    if (rec->expire_ms != -1 &&
        hold_deadline(&ld->pl->hold, ld->to_db, rec->a, rec->expire_ms, clock_wall_ms(),
                      ld->hold_margin_ms, &rec->expire_ms, err) < 0)
        return -1;
    return rec->type == RDB_STRING ? load_string(ld, rec, err) : load_value(ld, rec, err);
}

/* It stood there before the task. Under skip, and in a first load, it is met as any other. */
static int load_foreign(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    const struct reconcile *rc = ld->reconcile;
    ld->replace = rc->unsure;
    if (ld->on_conflict == TASK_CONFLICT_SKIP) return 0;
    if (ld->on_conflict == TASK_CONFLICT_FAIL) {
        if (rc->first) return 0;
        if (load_existing(ld, rec, err) < 0) return -1;
    }
    ld->replace = true;
    return reconcile_take(ld->reconcile, ld->to_db, rec->a, err);
}

static int load_reconciled(struct load *ld, struct rdb_rec *rec, struct err *err)
{
    struct reconcile *rc = ld->reconcile;
    int foreign = reconcile_existed(rc, ld->to_db, rec->a, err);
    ld->replace = ld->on_conflict == TASK_CONFLICT_OVERWRITE || !rc->first;
    if (foreign < 0 || (foreign && load_foreign(ld, rec, err) < 0)) return -1;
    ld->left_out = false;
    if (load_selected(ld, rec, err) < 0) return -1;
    /* What the target cannot hold is not there: an older value of that name goes. */
    return ld->left_out ? 0 : reconcile_seen(rc, ld->to_db, rec->a, err);
}

static int load_key(struct load *ld, struct rdb_rec *rec, struct err *err)
{
    struct counters *c = ld->pl->counters;
    counter_add(&c->keys_read, 1);
    /* A source that was a target once may have checkpoints: they tell nothing of this target. */
    if (ld->to_db < 0 || !key_selected(ld->keys, rec->a) || checkpoint_is_key(rec->a) ||
        !slot_set_has_key(ld->pl->cfg->slots, rec->a)) {
        counter_add(&c->keys_filtered, 1);
        return rdb_value_skip(&ld->pl->r, rec->type, true, 0, err);
    }
    if (KH_UNLIKELY(rec->has_meta) && !ld->told_meta) {
        ld->told_meta = true;
        log_warn("the source attaches module metadata to keys; keyhaul moves the keys without it");
    }
    if (KH_UNLIKELY(ld->pl->fan)) choose_lane(ld, rec->a);
    ld->key = rec->a;
    return ld->reconcile ? load_reconciled(ld, rec, err) : load_selected(ld, rec, err);
}

/* --- records that are not keys --- */

/* May a library of that name on the target be replaced? 1, 0, -1. */
static int replaces_library(struct load *ld, struct span code, struct err *err)
{
    struct reconcile *rc = ld->reconcile;
    bool over = ld->on_conflict == TASK_CONFLICT_OVERWRITE;
    if (!rc) return over;
    struct span name = reconcile_library_name(code);
    rc->unclear |= name.n == 0;
    if (reconcile_seen(rc, RECONCILE_LIBRARIES, name, err) < 0) return -1;
    int foreign = reconcile_existed(rc, RECONCILE_LIBRARIES, name, err);
    if (foreign < 0) return -1;
    over |= rc->unsure;
    if (over && reconcile_take(rc, RECONCILE_LIBRARIES, name, err) < 0) return -1;
    /* Each shard of a cluster brings the same: what was not there before is the task's. */
    bool first = rc->first && !ld->pl->cfg->slots;
    return over || !(first || foreign);
}

/* Named by its first line, "#!lua name=...". */
static int no_functions(struct load *ld, struct span code, struct err *err)
{
    char name[160];
    const uint8_t *nl = code.n ? memchr(code.p, '\n', code.n) : NULL;
    if (nl) code.n = (size_t)(nl - code.p);
    num_quote(name, sizeof(name), code);
    if (ld->pl->cfg->on_unsupported == TASK_UNSUPPORTED_FAIL)
        return refusals_report(&ld->pl->refusals, 0, (struct span){0}, "FUNCTION LOAD",
                               "the target has no functions (before 7.0) (--on-unsupported skip or "
                               "degrade goes on)",
                               err);
    log_warn("%s has no functions (before 7.0): the library %s is left out", ld->target_name, name);
    return 0;
}

/* Of a cluster the lane of each primary, from 0 on; else the one there is. NULL: no more. */
static struct lane *next_lane(struct load *ld, unsigned *i)
{
    struct fan *f = ld->pl->fan;
    if (!f) return (*i)++ == 0 ? &ld->pl->lane : NULL;
    while (*i < f->n && !f->nodes[*i]->used)
        ++*i;
    return *i < f->n ? &f->nodes[(*i)++]->lane : NULL;
}

/* 1: it is put off; another one is to go first. */
static int library_refused(struct load *ld, const struct resp_reply *reply, bool replace,
                           struct err *err)
{
    if (strstr(reply->line, "already exists") && replace && ld->reconcile && !ld->reconcile->first)
        return 1;
    if (strstr(reply->line, "already exists") && ld->on_conflict == TASK_CONFLICT_SKIP) {
        log_warn("target: %s; left as it is (--on-conflict skip)", reply->line);
        return 0;
    }
    if (strstr(reply->line, "already exists"))
        return err_set(err, ERR_CONFLICT,
                       "target: function library: %s; choose --on-conflict overwrite or skip, or "
                       "delete it",
                       reply->line);
    return refusals_report(&ld->pl->refusals, 0, (struct span){0}, "FUNCTION LOAD", reply->line,
                           err);
}

static int load_function(struct load *ld, struct span code, struct err *err)
{
    if (!facts_has(ld->target, FACTS_FUNCTIONS)) return no_functions(ld, code, err);
    struct span argv[4] = {span_str("FUNCTION"), span_str("LOAD")};
    size_t n = 2;
    int replace = replaces_library(ld, code, err), late = 0;
    bool written = true;
    if (replace < 0) return -1;
    if (replace) argv[n++] = span_str("REPLACE");
    argv[n++] = code;
    struct lane *lane;
    for (unsigned i = 0; (lane = next_lane(ld, &i)) != NULL;) {
        if (lane_call_strs(lane, -1, n, argv, err) < 0) return -1;
        const struct resp_reply *reply = &lane->outcome.last;
        if (reply->type != '-') continue;
        int rc = library_refused(ld, reply, replace, err);
        if (rc < 0) return -1;
        late |= rc;
        written = false;
    }
    counter_add(&ld->pl->counters->functions_written, written);
    return late ? reconcile_late_library(ld->reconcile, code, err) : 0;
}

static int load_script(struct load *ld, struct span body, struct err *err)
{
    struct span argv[] = {span_str("SCRIPT"), span_str("LOAD"), body};
    struct lane *lane;
    for (unsigned i = 0; (lane = next_lane(ld, &i)) != NULL;) {
        if (lane_call_strs(lane, -1, 3, argv, err) < 0) return -1;
        if (lane->outcome.last.type == '-')
            return refusals_report(&ld->pl->refusals, 0, (struct span){0}, "SCRIPT LOAD",
                                   lane->outcome.last.line, err);
    }
    counter_add(&ld->pl->counters->functions_written, 1);
    return 0;
}

static int load_aux(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    /* Redis 4.0 to 6.2: a body that EVALSHA in the stream may call. */
    if (span_is(rec->a, "lua") && !ld->discard) return load_script(ld, rec->b, err);
    /* A source that is itself a replica passes its stream on in the database it was in. */
    uint64_t db;
    if (span_is(rec->a, "repl-stream-db") && num_get_u64(rec->b, &db)) ld->stream_db = db;
    /* The head of an AOF: what follows may renew keys whose time is over. */
    if (ld->pl->cfg->file && span_is(rec->b, "1") &&
        (span_is(rec->a, "aof-preamble") || span_is(rec->a, "aof-base")))
        ld->pl->hold.on = true;
    return 0;
}

static int load_record(struct load *ld, struct rdb_rec *rec, struct err *err)
{
    switch (rec->kind) {
    case RDB_REC_KEY: return load_key(ld, rec, err);
    case RDB_REC_SELECTDB:
        if (rec->n > INT32_MAX)
            return err_set(err, ERR_FORMAT, "snapshot: an impossible database number");
        ld->db = rec->n;
        if (rec->n > ld->db_max) ld->db_max = rec->n;
        ld->to_db = ld->discard ? -1 : db_select_target(ld->select, rec->n);
        return 0;
    case RDB_REC_RESIZEDB:
        if (ld->to_db >= 0) counter_add(&ld->pl->counters->snapshot_keys_expected, rec->n);
        return 0;
    case RDB_REC_AUX: return load_aux(ld, rec, err);
    case RDB_REC_FUNCTION: return ld->discard ? 0 : load_function(ld, rec->a, err);
    case RDB_REC_MODULE_AUX:
        log_warn("data of module %.*s that belongs to no key is not moved", (int)rec->a.n,
                 (const char *)rec->a.p);
        return 0;
    case RDB_REC_SLOT_INFO: return 0;
    }
    return err_set(err, ERR_INTERNAL, "unknown record");
}

/* What one large key needed is not kept for the next. */
static void trim(struct load *ld)
{
    struct buf *const bufs[] = {&ld->scratch, &ld->args, &ld->tail, &ld->rdb.key, &ld->rdb.val};
    for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++)
        buf_trim(bufs[i], BATCH_MEM_BYTES);
}

static void note_decoded(struct load *ld)
{
    counter_set(&ld->pl->counters->snapshot_bytes_decoded,
                ld->pl->before_file + reader_pos(&ld->pl->r));
}

/* Ended early: a batch that is on its way is still answered, so that the lane is idle. */
static void end_early(struct load *ld)
{
    struct err ignored;
    struct lane *lane = ld->lane;
    char where[RESP_ERROR_MAX];
    for (int i = 0; i < 2; i++)
        if (ld->batch[i].in_flight && lane->calling &&
            batch_finish_or(&ld->batch[i], lane, where, &ignored))
            return;
}

/* A primary that has changed meanwhile, and nobody has noticed, may have lost some of it. */
static int end_whole(struct load *ld, struct err *err)
{
    bool moved;
    if (pipeline_drain(ld->pl, err) < 0) return -1;
    return ld->pl->fan ? fan_look(ld->pl->fan, &moved, err) : 0;
}

static int load_records(struct load *ld, struct err *err)
{
    struct pipeline *pl = ld->pl;
    struct rdb_rec rec;
    int rc;
    if (rdb_open(&ld->rdb, &pl->r, err) < 0) return err_wrap(err, "snapshot");
    while ((rc = rdb_next(&ld->rdb, &rec, err)) == 1) {
        if (load_record(ld, &rec, err) < 0) return -1;
        note_decoded(ld);
        trim(ld);
        if (*pl->stop) return err_set(err, ERR_STOPPED, "stopped");
        if (ld->between && ld->between(ld->between_ctx, err) < 0) return -1;
    }
    if (rc < 0) return err_wrap(err, "snapshot");
    reader_release(&pl->r);
    note_decoded(ld);
    if (end_whole(ld, err) < 0) return -1;
    losses_tell(&pl->refusals.losses, ld->target_name);
    return ld->reconcile ? reconcile_loaded(ld->reconcile, err) : 0;
}

int load_run(struct load *ld, struct err *err)
{
    int rc = load_records(ld, err);
    if (rc < 0) end_early(ld);
    return rc;
}

/* --- shared with load_big.c and load_stream.c --- */

void load_key_done(struct load *ld, uint64_t bytes)
{
    struct counters *c = ld->pl->counters;
    unsigned db = counters_db(ld->db);
    counter_add(&c->keys_written, 1);
    counter_add(&c->db[db].keys, 1);
    counter_add(&c->db[db].bytes, bytes);
}

static int exists_already(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    if (ld->on_conflict == TASK_CONFLICT_SKIP) {
        counter_add(&ld->pl->counters->keys_skipped, 1);
        counter_add(&ld->pl->counters->db[counters_db(ld->db)].skipped, 1);
        return 1;
    }
    char name[160];
    if (ld->reconcile && !ld->reconcile->first)
        return err_set(err, ERR_CONFLICT,
                       "key %s of database %lld stood on the target before this task, and now the "
                       "source has one of that name; it was not overwritten; remove it there and "
                       "start again, or begin anew with --restart and --on-conflict overwrite or "
                       "skip",
                       num_quote(name, sizeof(name), rec->a), (long long)ld->to_db);
    return err_set(err, ERR_CONFLICT,
                   "key %s of database %lld appeared on the target during the load; nothing was "
                   "overwritten; choose --on-conflict overwrite or skip, or remove it",
                   num_quote(name, sizeof(name), rec->a), (long long)ld->to_db);
}

int load_call_refused(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    const struct resp_reply *reply = &ld->lane->outcome.last;
    bool exists = reply->is_null;
    if (reply->type == '-' && refusal_classify(reply->line) == REFUSAL_EXISTS) exists = true;
    if (exists) return exists_already(ld, rec, err);
    if (reply->type != '-') return 0;
    struct refused_key k = refused_key(ld, rec);
    bool module = rec->type == RDB_MODULE_2;
    if (module) ld->left_out = true;
    return refusals_restore(&ld->pl->refusals, &k, module, reply->line, err) < 0 ? -1 : 1;
}

int load_call_reply(struct load *ld, const struct rdb_rec *rec, uint64_t bytes, struct err *err)
{
    int rc = load_call_refused(ld, rec, err);
    if (rc == 0) load_key_done(ld, bytes);
    return rc < 0 ? -1 : 0;
}

int load_existing(struct load *ld, const struct rdb_rec *rec, struct err *err)
{
    if (ld->replace) return 0;
    struct span argv[] = {span_str("EXISTS"), rec->a};
    if (call_strs(ld, 2, argv, err) < 0) return -1;
    const struct resp_reply *reply = &ld->lane->outcome.last;
    if (reply->type == '-')
        return err_set(err, ERR_TARGET, "target: EXISTS was refused: %s", reply->line);
    return reply->integer == 0 ? 0 : exists_already(ld, rec, err);
}
