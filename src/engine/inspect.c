// SPDX-License-Identifier: BSD-3-Clause
// Counting what a snapshot holds.
#include "engine/inspect.h"

#include "wire/rdb/str.h"
#include "wire/rdb/transcode.h"

#include <stdlib.h>

#define HOUR_MS     3600000LL
#define STOP_KEYS   1024 /* between two looks at `stop` */
#define SCRATCH_MAX (1u << 20)

struct pass {
    struct inspect *in;
    const struct inspect_config *cfg;
    struct reader *r;
    struct rdb rdb;
    bool in_db; /* a database has been entered: SELECTDB, or 0 for keys before any */
    uint64_t db_number;
    struct inspect_db *db; /* that keys belong to now; NULL: not asked for */
};

/* --- names --- */

static const char *const type_names[INSPECT_TYPES] = {
    [RDB_STRING] = "string",
    [RDB_LIST] = "list",
    [RDB_SET] = "set",
    [RDB_ZSET] = "zset",
    [RDB_HASH] = "hash",
    [RDB_ZSET_2] = "zset-2",
    [RDB_MODULE_PRE_GA] = "module-pre-ga",
    [RDB_MODULE_2] = "module-2",
    [RDB_HASH_ZIPMAP] = "hash-zipmap",
    [RDB_LIST_ZIPLIST] = "list-ziplist",
    [RDB_SET_INTSET] = "set-intset",
    [RDB_ZSET_ZIPLIST] = "zset-ziplist",
    [RDB_HASH_ZIPLIST] = "hash-ziplist",
    [RDB_LIST_QUICKLIST] = "list-quicklist",
    [RDB_STREAM] = "stream-listpacks",
    [RDB_HASH_LISTPACK] = "hash-listpack",
    [RDB_ZSET_LISTPACK] = "zset-listpack",
    [RDB_LIST_QUICKLIST_2] = "list-quicklist-2",
    [RDB_STREAM_2] = "stream-listpacks-2",
    [RDB_SET_LISTPACK] = "set-listpack",
    [RDB_STREAM_3] = "stream-listpacks-3",
    [RDB_HASH_METADATA_PRE_GA] = "hash-metadata-pre-ga",
    [RDB_HASH_LISTPACK_EX_PRE_GA] = "hash-listpack-ex-pre-ga",
    [RDB_HASH_METADATA] = "hash-metadata",
    [RDB_HASH_LISTPACK_EX] = "hash-listpack-ex",
    [RDB_STREAM_4] = "stream-listpacks-4",
    [RDB_STREAM_5] = "stream-listpacks-5",
    [RDB_ARRAY] = "array",
    [INSPECT_TYPES - 1] = "hash-2",
};

static size_t slot(enum rdb_type t)
{
    return t == RDB_VALKEY_HASH_2 ? INSPECT_TYPES - 1 : (size_t)t;
}

enum rdb_type inspect_type_at(size_t i)
{
    return i == INSPECT_TYPES - 1 ? RDB_VALKEY_HASH_2 : (enum rdb_type)i;
}

const char *inspect_type_name(enum rdb_type t)
{
    size_t i = slot(t);
    return i < INSPECT_TYPES && type_names[i] ? type_names[i] : "unknown";
}

/* --- elements, where they are told at the front --- */

enum front {
    FRONT_NONE,
    FRONT_LENGTH,   /* a length */
    FRONT_LISTPACK, /* a blob: u32 bytes, u16 elements */
    FRONT_ZIPLIST,  /* a blob: u32 bytes, u32 tail, u16 elements */
    FRONT_INTSET,   /* a blob: u32 width, u32 elements */
};

static const struct {
    uint8_t front, skip, width; /* width: values of the blob that make one element */
} fronts[INSPECT_TYPES] = {
    [RDB_LIST] = {FRONT_LENGTH, 0, 1},
    [RDB_SET] = {FRONT_LENGTH, 0, 1},
    [RDB_ZSET] = {FRONT_LENGTH, 0, 1},
    [RDB_HASH] = {FRONT_LENGTH, 0, 1},
    [RDB_ZSET_2] = {FRONT_LENGTH, 0, 1},
    [RDB_HASH_METADATA_PRE_GA] = {FRONT_LENGTH, 0, 1},
    [RDB_HASH_METADATA] = {FRONT_LENGTH, 8, 1},
    [RDB_ARRAY] = {FRONT_LENGTH, 0, 1},
    [INSPECT_TYPES - 1] = {FRONT_LENGTH, 0, 1},
    [RDB_LIST_ZIPLIST] = {FRONT_ZIPLIST, 0, 1},
    [RDB_ZSET_ZIPLIST] = {FRONT_ZIPLIST, 0, 2},
    [RDB_HASH_ZIPLIST] = {FRONT_ZIPLIST, 0, 2},
    [RDB_SET_INTSET] = {FRONT_INTSET, 0, 1},
    [RDB_SET_LISTPACK] = {FRONT_LISTPACK, 0, 1},
    [RDB_HASH_LISTPACK] = {FRONT_LISTPACK, 0, 2},
    [RDB_ZSET_LISTPACK] = {FRONT_LISTPACK, 0, 2},
    [RDB_HASH_LISTPACK_EX] = {FRONT_LISTPACK, 8, 3},
    [RDB_HASH_LISTPACK_EX_PRE_GA] = {FRONT_LISTPACK, 0, 3},
};

static uint64_t peek_blob(struct reader *r, enum front front, unsigned width)
{
    struct rdb_str s;
    size_t need = front == FRONT_ZIPLIST ? 10 : front == FRONT_INTSET ? 8 : 6;
    if (rdb_str_head(r, &s, NULL) < 0 || s.kind != RDB_STR_RAW || s.stored < need ||
        reader_need(r, need, NULL) < 0)
        return INSPECT_UNKNOWN;
    const uint8_t *p = r->p + need;
    if (front == FRONT_INTSET)
        return p[-4] | (uint64_t)p[-3] << 8 | (uint64_t)p[-2] << 16 | (uint64_t)p[-1] << 24;
    unsigned n = p[-2] | (unsigned)p[-1] << 8;
    return n == UINT16_MAX ? INSPECT_UNKNOWN : n / width; /* that many or more */
}

uint64_t inspect_peek(struct reader *r, enum rdb_type type)
{
    size_t i = slot(type), held = (size_t)(r->p - r->keep);
    uint64_t n = INSPECT_UNKNOWN;
    if (i >= INSPECT_TYPES || fronts[i].front == FRONT_NONE) return n;
    if (reader_need(r, fronts[i].skip, NULL) == 0) {
        r->p += fronts[i].skip;
        if (fronts[i].front != FRONT_LENGTH)
            n = peek_blob(r, (enum front)fronts[i].front, fronts[i].width);
        else if (rdb_len(r, &n, NULL) < 0)
            n = INSPECT_UNKNOWN;
    }
    r->p = r->keep + held;
    return n;
}

/* --- the biggest keys --- */

static bool smaller(const struct inspect_top *a, const struct inspect_top *b)
{
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->order > b->order;
}

static int bigger_first(const void *a, const void *b)
{
    return smaller(a, b) ? 1 : -1;
}

static void name_key(struct inspect_key_name *to, struct span key)
{
    to->n = key.n;
    if (key.n) memcpy(to->p, key.p, key.n < sizeof(to->p) ? key.n : sizeof(to->p));
}

static void swap(struct inspect_top *a, struct inspect_top *b)
{
    struct inspect_top t = *a;
    *a = *b;
    *b = t;
}

static void sift_up(struct inspect_top *heap, size_t i)
{
    for (; i && smaller(&heap[i], &heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&heap[i], &heap[(i - 1) / 2]);
}

static void sift_down(struct inspect_top *heap, size_t n)
{
    for (size_t i = 0;;) {
        size_t least = i, kid = 2 * i + 1;
        if (kid < n && smaller(&heap[kid], &heap[least])) least = kid;
        if (kid + 1 < n && smaller(&heap[kid + 1], &heap[least])) least = kid + 1;
        if (least == i) return;
        swap(&heap[i], &heap[least]);
        i = least;
    }
}

static void consider(struct pass *p, const struct rdb_rec *rec, uint64_t bytes, uint64_t elements)
{
    struct inspect *in = p->in;
    bool full = in->n_top == p->cfg->top;
    if (p->cfg->top == 0 || (full && bytes <= in->top[0].bytes)) return;
    struct inspect_top *t = full ? in->top : &in->top[in->n_top++];
    t->db = p->db_number;
    t->bytes = bytes;
    t->elements = elements;
    t->type = rec->type;
    t->expire_ms = rec->expire_ms;
    t->order = in->all.keys;
    name_key(&t->key, rec->a);
    if (full)
        sift_down(in->top, in->n_top);
    else
        sift_up(in->top, in->n_top - 1);
}

/* --- counting --- */

static void count(struct inspect_sum *s, uint64_t bytes)
{
    s->keys++;
    s->bytes += bytes;
}

static enum inspect_expiry expiry_of(int64_t at_ms, int64_t now_ms)
{
    static const int64_t limit[] = {HOUR_MS, 24 * HOUR_MS, 7 * 24 * HOUR_MS, 30 * 24 * HOUR_MS};
    if (at_ms == -1) return INSPECT_NONE;
    if (at_ms <= now_ms) return INSPECT_PAST;
    uint64_t left = (uint64_t)at_ms - (uint64_t)now_ms;
    for (int i = 0; i < 4; i++)
        if (left < (uint64_t)limit[i]) return (enum inspect_expiry)(INSPECT_HOUR + i);
    return INSPECT_LATER;
}

static void count_key(struct pass *p, const struct rdb_rec *rec, uint64_t bytes, uint64_t elements)
{
    struct inspect *in = p->in;
    struct inspect_type *t = &in->type[slot(rec->type)];
    if (t->sum.keys == 0) {
        name_key(&t->first, rec->a);
        t->first_db = p->db_number;
    }
    count(&t->sum, bytes);
    count(&p->db->all, bytes);
    count(&p->db->kind[rdb_kind_of(rec->type)], bytes);
    count(&in->all, bytes);
    in->expiry[expiry_of(rec->expire_ms, p->cfg->now_ms)]++;
    if (rec->expire_ms != -1) {
        in->expires++;
        p->db->expires++;
    }
    in->with_meta += rec->has_meta;
    consider(p, rec, bytes, elements);
}

/* The entry of a database, made when it is met first. */
static int enter_db(struct pass *p, uint64_t db, struct err *err)
{
    struct inspect *in = p->in;
    p->in_db = true;
    p->db_number = db;
    p->db = NULL;
    if (p->cfg->select && db_select_target(p->cfg->select, db) < 0) return 0;
    for (size_t i = 0; i < in->n_db && !p->db; i++)
        if (in->db[i].db == db) p->db = &in->db[i];
    if (!p->db && in->n_db == INSPECT_DBS) p->db = &in->db[INSPECT_DBS - 1];
    if (p->db) return 0;
    struct inspect_db *grown = realloc(in->db, (in->n_db + 1) * sizeof(*grown));
    if (!grown) return err_set(err, ERR_NOMEM, "out of memory");
    in->db = grown;
    p->db = &grown[in->n_db++];
    *p->db = (struct inspect_db){.db = db};
    return 0;
}

static int tell_key(struct pass *p, const struct rdb_rec *rec, uint64_t *ret_elements,
                    struct err *err)
{
    struct inspect_key key = {.db = p->db_number,
                              .name = rec->a,
                              .type = rec->type,
                              .expire_ms = rec->expire_ms,
                              .idle_s = rec->idle_s,
                              .freq = rec->freq};
    if (digest_value(p->cfg->digest, p->r, rec->type, &key.digest, err) < 0) return -1;
    *ret_elements = key.digest.counted ? key.digest.elements : INSPECT_UNKNOWN;
    return p->cfg->on_key(p->cfg->ctx, &key, err);
}

static int do_key(struct pass *p, const struct rdb_rec *rec, uint64_t start, struct err *err)
{
    if (!p->in_db && enter_db(p, 0, err) < 0) return -1;
    if (!p->db || (p->cfg->keys && !key_selected(p->cfg->keys, rec->a))) {
        p->in->unselected++;
        return rdb_value_skip(p->r, rec->type, true, 0, err);
    }
    uint64_t elements;
    if (p->cfg->digest) {
        if (tell_key(p, rec, &elements, err) < 0) return -1;
    } else {
        elements = inspect_peek(p->r, rec->type);
        if (rdb_value_skip(p->r, rec->type, true, 0, err) < 0) return -1;
    }
    count_key(p, rec, reader_pos(p->r) - start, elements);
    return 0;
}

/* --- what is not a key --- */

static void keep_words(char *to, size_t size, struct span s)
{
    size_t n = s.n < size - 1 ? s.n : size - 1;
    for (size_t i = 0; i < n; i++)
        to[i] = s.p[i] >= 32 && s.p[i] < 127 ? (char)s.p[i] : '?';
    to[n] = 0;
}

static void note(struct inspect_note *list, size_t *n, struct span name, struct span value)
{
    if (*n == INSPECT_NOTES) return;
    keep_words(list[*n].name, sizeof(list[*n].name), name);
    keep_words(list[*n].value, sizeof(list[*n].value), value);
    ++*n;
}

/* "#!lua name=mylib\n..." */
static struct span library_name(struct span code)
{
    const uint8_t *end = code.n ? memchr(code.p, '\n', code.n) : NULL;
    size_t n = end ? (size_t)(end - code.p) : code.n;
    const uint8_t *at = n ? memmem(code.p, n, "name=", 5) : NULL;
    if (!at) return span_str("?");
    at += 5;
    size_t left = n - (size_t)(at - code.p), len = 0;
    while (len < left && at[len] != ' ' && at[len] != '\r')
        len++;
    return span_of(at, len);
}

static void do_aux(struct inspect *in, const struct rdb_rec *rec)
{
    if (span_is(rec->a, "lua"))
        in->scripts++;
    else
        note(in->aux, &in->n_aux, rec->a, rec->b);
}

static int do_record(struct pass *p, const struct rdb_rec *rec, uint64_t start, struct err *err)
{
    struct inspect *in = p->in;
    switch (rec->kind) {
    case RDB_REC_KEY: return do_key(p, rec, start, err);
    case RDB_REC_SELECTDB: return enter_db(p, rec->n, err);
    case RDB_REC_AUX: do_aux(in, rec); return 0;
    case RDB_REC_FUNCTION:
        in->functions++;
        in->function_bytes += rec->a.n;
        note(in->library, &in->n_library, library_name(rec->a), span_of(NULL, 0));
        return 0;
    case RDB_REC_MODULE_AUX:
        in->module_aux++;
        note(in->module, &in->n_module, rec->a, span_of(NULL, 0));
        return 0;
    case RDB_REC_RESIZEDB:
    case RDB_REC_SLOT_INFO: return 0;
    }
    return err_set(err, ERR_INTERNAL, "unknown record");
}

static bool is_stopped(const struct pass *p)
{
    return p->cfg->stop && p->in->all.keys % STOP_KEYS == 0 && *p->cfg->stop;
}

static int walk(struct pass *p, struct err *err)
{
    struct rdb_rec rec;
    int rc;
    for (;;) {
        uint64_t start = reader_pos(p->r);
        if ((rc = rdb_next(&p->rdb, &rec, err)) != 1) break;
        if ((rc = do_record(p, &rec, start, err)) < 0) break;
        buf_trim(&p->rdb.key, SCRATCH_MAX);
        buf_trim(&p->rdb.val, SCRATCH_MAX);
        if (is_stopped(p)) return err_set(err, ERR_STOPPED, "stopped");
    }
    return rc;
}

static int by_number(const void *a, const void *b)
{
    const struct inspect_db *x = a, *y = b;
    return (x->db > y->db) - (x->db < y->db);
}

int inspect_init(struct inspect *in, struct err *err)
{
    *in = (struct inspect){.top = calloc(INSPECT_TOP_MAX, sizeof(*in->top))};
    return in->top ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

void inspect_release(struct inspect *in)
{
    free(in->top);
    free(in->db);
    *in = (struct inspect){0};
}

int inspect_run(struct inspect *in, const struct inspect_config *cfg, struct reader *r,
                struct err *err)
{
    struct pass p = {.in = in, .cfg = cfg, .r = r};
    int rc = rdb_open(&p.rdb, r, err);
    in->version = p.rdb.version;
    in->valkey = p.rdb.valkey;
    if (rc == 0) rc = walk(&p, err);
    in->bytes = reader_pos(r);
    rdb_release(&p.rdb);
    qsort(in->top, in->n_top, sizeof(*in->top), bigger_first);
    if (in->n_db) qsort(in->db, in->n_db, sizeof(*in->db), by_number);
    return rc;
}

/* --- for another server --- */

static bool takes(const void *ctx, enum rdb_type t)
{
    return facts_takes_type(ctx, t);
}

struct inspect_fate inspect_fate(const struct server_facts *target, enum rdb_type type)
{
    struct inspect_fate f = {.kind = INSPECT_AS_IS, .as = type};
    if (!transcode_choose(type, takes, target, &f.as, &f.loss))
        f.kind = INSPECT_REFUSED;
    else if (f.as != type)
        f.kind = f.loss ? INSPECT_LESS : INSPECT_TURNED;
    return f;
}
