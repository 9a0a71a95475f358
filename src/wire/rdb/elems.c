// SPDX-License-Identifier: BSD-3-Clause
// The elements of lists, sets, sorted sets and hashes: plain types, and packed blobs.
#include "wire/rdb/elems.h"

#include "wire/rdb/intset.h"
#include "wire/rdb/listpack.h"
#include "wire/rdb/str.h"
#include "wire/rdb/ziplist.h"
#include "wire/rdb/zipmap.h"

#include <math.h>
#include <stdlib.h>

enum encoding { PLAIN, ZIPLIST, LISTPACK, INTSET, ZIPMAP };

/* How a type holds its elements. Plain: one string or two per element. Packed: `width` values. */
struct layout {
    enum encoding enc;
    uint8_t width;
    bool counted; /* a number of elements (plain) or blobs stands in front */
};

struct rdb_elems {
    struct reader *r;
    enum rdb_type type;
    enum rdb_kind kind;
    struct layout lay;
    bool release;
    bool in_blob;
    size_t max_bytes;
    uint64_t left;       /* plain elements, or blobs, still to come */
    uint64_t min_expire; /* type 24: what field expiries count from, unix ms */
    union {
        struct ziplist zl;
        struct listpack lp;
        struct intset is;
        struct zipmap zm;
    } blob;
    struct buf a, b; /* scratch; a also holds a blob that was compressed */
    size_t split_bytes;
    struct { /* an element that is given in pieces */
        unsigned strings, given;
        bool node; /* the only one of a list's packed node */
        struct rdb_pieces it;
        struct span rest; /* of the piece at hand */
        uint64_t left;    /* of the string */
        uint8_t last;     /* byte of the node */
    } split;
    char text_a[NUM_INT64_CHARS], text_b[NUM_INT64_CHARS];
};

static const struct layout layouts[] = {
    [RDB_LIST] = {PLAIN, 1, true},
    [RDB_SET] = {PLAIN, 1, true},
    [RDB_ZSET] = {PLAIN, 1, true},
    [RDB_HASH] = {PLAIN, 2, true},
    [RDB_ZSET_2] = {PLAIN, 1, true},
    [RDB_HASH_ZIPMAP] = {ZIPMAP, 2, false},
    [RDB_LIST_ZIPLIST] = {ZIPLIST, 1, false},
    [RDB_SET_INTSET] = {INTSET, 1, false},
    [RDB_ZSET_ZIPLIST] = {ZIPLIST, 2, false},
    [RDB_HASH_ZIPLIST] = {ZIPLIST, 2, false},
    [RDB_LIST_QUICKLIST] = {ZIPLIST, 1, true},
    [RDB_HASH_LISTPACK] = {LISTPACK, 2, false},
    [RDB_ZSET_LISTPACK] = {LISTPACK, 2, false},
    [RDB_LIST_QUICKLIST_2] = {LISTPACK, 1, true},
    [RDB_SET_LISTPACK] = {LISTPACK, 1, false},
    [RDB_HASH_METADATA_PRE_GA] = {PLAIN, 2, true},
    [RDB_HASH_LISTPACK_EX_PRE_GA] = {LISTPACK, 3, false},
    [RDB_HASH_METADATA] = {PLAIN, 2, true},
    [RDB_HASH_LISTPACK_EX] = {LISTPACK, 3, false},
};
static const struct layout valkey_hash_2 = {PLAIN, 2, true};

#define N_LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

static const struct layout *layout_of(unsigned t)
{
    if (t == RDB_VALKEY_HASH_2) return &valkey_hash_2;
    return t < N_LAYOUTS && layouts[t].width ? &layouts[t] : NULL;
}

int rdb_elems_new(struct rdb_elems **ret, size_t max_bytes, struct err *err)
{
    struct rdb_elems *it = calloc(1, sizeof(*it));
    if (!it) return err_set(err, ERR_NOMEM, "out of memory");
    it->max_bytes = max_bytes;
    buf_init(&it->a, max_bytes);
    buf_init(&it->b, max_bytes);
    *ret = it;
    return 0;
}

void rdb_elems_free(struct rdb_elems *it)
{
    if (!it) return;
    rdb_pieces_end(&it->split.it);
    buf_release(&it->a);
    buf_release(&it->b);
    free(it);
}

int rdb_elems_begin(struct rdb_elems *it, struct reader *r, enum rdb_type type, bool release,
                    struct err *err)
{
    const struct layout *lay = layout_of(type);
    if (!lay) return err_set(err, ERR_INTERNAL, "RDB type %d has no elements", (int)type);
    it->r = r;
    it->type = type;
    it->kind = rdb_kind_of(type);
    it->lay = *lay;
    it->release = release;
    it->in_blob = false;
    it->left = 1;
    /* In a packed hash the minimum is only informative: its times are absolute. */
    if ((type == RDB_HASH_METADATA || type == RDB_HASH_LISTPACK_EX) &&
        reader_u64le(r, &it->min_expire, err) < 0)
        return -1;
    return lay->counted ? rdb_len(r, &it->left, err) : 0;
}

/* 1: larger than `most`; the reader is where it was. */
static int get_at_most(struct rdb_elems *it, size_t most, struct buf *scratch, struct span *ret,
                       struct err *err)
{
    struct rdb_str s;
    size_t held = (size_t)(it->r->p - it->r->keep);
    buf_clear(scratch);
    if (rdb_str_head(it->r, &s, err) < 0) return -1;
    if (KH_UNLIKELY(s.n > most) && it->split_bytes && it->release) {
        it->r->p = it->r->keep + held;
        return 1;
    }
    return rdb_str_body(it->r, &s, scratch, it->max_bytes, ret, err);
}

static int get_str(struct rdb_elems *it, struct buf *scratch, struct span *ret, struct err *err)
{
    return get_at_most(it, it->split_bytes, scratch, ret, err);
}

static int check_score(struct rdb_elems *it, double v, double *ret, struct err *err)
{
    if (isnan(v)) return rdb_bad(err, it->r, "a score that is not a number");
    *ret = v;
    return 0;
}

static int text_score(struct rdb_elems *it, struct span s, double *ret, struct err *err)
{
    double v;
    if (!num_get_double(s, &v)) return rdb_bad(err, it->r, "expected a score as text");
    return check_score(it, v, ret, err);
}

/* Type 3: 1 byte n; 253 nan, 254 inf, 255 -inf, else n bytes of text. */
static int read_text_score(struct rdb_elems *it, double *ret, struct err *err)
{
    uint8_t n;
    if (reader_u8(it->r, &n, err) < 0) return -1;
    if (n == 253) return check_score(it, NAN, ret, err);
    if (n >= 254) return check_score(it, n == 254 ? INFINITY : -INFINITY, ret, err);
    if (reader_need(it->r, n, err) < 0) return -1;
    if (text_score(it, span_of(it->r->p, n), ret, err) < 0) return -1;
    it->r->p += n;
    return 0;
}

static int read_binary_score(struct rdb_elems *it, double *ret, struct err *err)
{
    uint64_t bits;
    double v;
    if (reader_u64le(it->r, &bits, err) < 0) return -1;
    memcpy(&v, &bits, sizeof(v));
    return check_score(it, v, ret, err);
}

static int set_expire(struct rdb_elems *it, uint64_t ms, int64_t *ret, struct err *err)
{
    if (ms > INT64_MAX) return rdb_bad(err, it->r, "a field's expiry is out of range");
    *ret = (int64_t)ms;
    return 0;
}

/* Types 22 (absolute) and 24 (from the minimum, plus 1); 0 is none. */
static int read_expire_len(struct rdb_elems *it, int64_t *ret, struct err *err)
{
    uint64_t t;
    if (rdb_len(it->r, &t, err) < 0) return -1;
    if (t == 0) {
        *ret = -1;
        return 0;
    }
    if (it->type == RDB_HASH_METADATA && __builtin_add_overflow(t - 1, it->min_expire, &t))
        t = UINT64_MAX;
    return set_expire(it, t, ret, err);
}

static int read_expire_fixed(struct rdb_elems *it, int64_t *ret, struct err *err)
{
    uint64_t t;
    if (reader_u64le(it->r, &t, err) < 0) return -1;
    if (t != UINT64_MAX) return set_expire(it, t, ret, err);
    *ret = -1;
    return 0;
}

static bool timed_before(const struct rdb_elems *it)
{
    return it->type == RDB_HASH_METADATA || it->type == RDB_HASH_METADATA_PRE_GA;
}

/* What stands behind the strings. */
static int plain_end(struct rdb_elems *it, struct rdb_elem *e, struct err *err)
{
    if (it->type == RDB_ZSET) return read_text_score(it, &e->score, err);
    if (it->type == RDB_ZSET_2) return read_binary_score(it, &e->score, err);
    if (it->type == RDB_VALKEY_HASH_2) return read_expire_fixed(it, &e->expire_ms, err);
    return 0;
}

static int begin_split(struct rdb_elems *it, struct rdb_elem *e, unsigned strings, bool node)
{
    e->split = true;
    it->split.strings = strings;
    it->split.given = 0;
    it->split.node = node;
    return 1;
}

static int next_plain(struct rdb_elems *it, struct rdb_elem *e, struct err *err)
{
    struct reader *r = it->r;
    if (it->release) reader_release(r);
    if (it->left == 0) return 0;
    it->left--;
    size_t held = (size_t)(r->p - r->keep);
    e->expire_ms = -1;
    if (timed_before(it) && read_expire_len(it, &e->expire_ms, err) < 0) return -1;
    int rc = get_str(it, &it->a, &e->a, err);
    if (rc == 0 && it->lay.width == 2) rc = get_str(it, &it->b, &e->b, err);
    if (rc < 0) return -1;
    if (rc == 1) {
        r->p = r->keep + held;
        return begin_split(it, e, it->lay.width, false);
    }
    return plain_end(it, e, err) < 0 ? -1 : 1;
}

static int open_packed(struct rdb_elems *it, struct span blob, size_t *ret_n, struct err *err)
{
    switch (it->lay.enc) {
    case ZIPLIST: return ziplist_open(&it->blob.zl, blob, ret_n, err);
    case LISTPACK: return listpack_open(&it->blob.lp, blob, ret_n, err);
    case INTSET: return intset_open(&it->blob.is, blob, ret_n, err);
    case ZIPMAP: return zipmap_open(&it->blob.zm, blob, ret_n, err);
    case PLAIN: break;
    }
    return err_set(err, ERR_INTERNAL, "not a packed encoding");
}

static bool next_packed(struct rdb_elems *it, struct packed_val *v)
{
    switch (it->lay.enc) {
    case ZIPLIST: return ziplist_next(&it->blob.zl, v);
    case LISTPACK: return listpack_next(&it->blob.lp, v);
    case INTSET: return intset_next(&it->blob.is, v);
    case ZIPMAP: return zipmap_next(&it->blob.zm, v);
    case PLAIN: break;
    }
    return false;
}

/* 1: too large. */
static int load_blob(struct rdb_elems *it, struct err *err)
{
    struct span blob;
    uint64_t pos = reader_pos(it->r);
    size_t n;
    /* Only of lists' nodes it is known that so large ones hold a single element. */
    size_t most = it->lay.counted ? it->max_bytes : SIZE_MAX;
    int rc = get_at_most(it, most, &it->a, &blob, err);
    if (rc) return rc;
    if (open_packed(it, blob, &n, err) < 0)
        return err_wrap(err, "RDB byte %llu, a %s", (unsigned long long)pos,
                        rdb_kind_name(it->kind));
    if (n % it->lay.width)
        return rdb_bad(err, it->r, "a %s of %zu values, which are not groups of %u",
                       rdb_kind_name(it->kind), n, it->lay.width);
    it->in_blob = true;
    return 0;
}

enum container { CONTAINER_PLAIN = 1, CONTAINER_PACKED = 2 };

/* The next blob, or a plain node of a list (7.0+). 1: *e holds the latter's element, or tells that
 * it is too large. */
static int next_node(struct rdb_elems *it, struct rdb_elem *e, struct err *err)
{
    it->left--;
    if (it->type == RDB_LIST_QUICKLIST_2) {
        uint64_t c;
        if (rdb_len(it->r, &c, err) < 0) return -1;
        if (c == CONTAINER_PLAIN) {
            int rc = get_str(it, &it->a, &e->a, err);
            return rc < 0 ? -1 : rc == 0 ? 1 : begin_split(it, e, 1, false);
        }
        if (c != CONTAINER_PACKED)
            return rdb_bad(err, it->r, "expected a list container (1 or 2), found %llu",
                           (unsigned long long)c);
    }
    int rc = load_blob(it, err);
    return rc <= 0 ? rc : begin_split(it, e, 1, true);
}

static int packed_score(struct rdb_elems *it, const struct packed_val *v, double *ret,
                        struct err *err)
{
    if (!v->is_int) return text_score(it, v->s, ret, err);
    *ret = (double)v->i;
    return 0;
}

static int packed_expire(struct rdb_elems *it, const struct packed_val *v, int64_t *ret,
                         struct err *err)
{
    if (!v->is_int || v->i < 0) return rdb_bad(err, it->r, "a field's expiry is not a time");
    *ret = v->i ? v->i : -1;
    return 0;
}

/* v[0] is there already; the blob holds whole groups. */
static int fill_packed(struct rdb_elems *it, struct packed_val v[3], struct rdb_elem *e,
                       struct err *err)
{
    for (unsigned i = 1; i < it->lay.width; i++)
        if (!next_packed(it, &v[i])) return err_set(err, ERR_INTERNAL, "a group is cut short");
    e->a = packed_text(&v[0], it->text_a);
    if (it->kind == RDB_KIND_ZSET) return packed_score(it, &v[1], &e->score, err);
    if (it->lay.width > 1) e->b = packed_text(&v[1], it->text_b);
    if (it->lay.width > 2) return packed_expire(it, &v[2], &e->expire_ms, err);
    return 0;
}

int rdb_elems_next(struct rdb_elems *it, struct rdb_elem *e, struct err *err)
{
    e->split = false;
    if (it->lay.enc == PLAIN) return next_plain(it, e, err);
    e->expire_ms = -1;
    for (;;) {
        struct packed_val v[3];
        if (it->in_blob && next_packed(it, &v[0])) return fill_packed(it, v, e, err) < 0 ? -1 : 1;
        it->in_blob = false;
        if (it->release) reader_release(it->r);
        if (it->left == 0) return 0;
        int rc = next_node(it, e, err);
        if (rc) return rc;
    }
}

/* --- in pieces --- */

void rdb_elems_split_above(struct rdb_elems *it, size_t bytes)
{
    it->split_bytes = bytes;
}

/* More of the string into it->split.rest. 0: none. */
static int refill(struct rdb_elems *it, struct err *err)
{
    int rc = rdb_pieces_next(&it->split.it, it->r, &it->split.rest, err);
    if (rc == 1 && it->split.rest.n) it->split.last = it->split.rest.p[it->split.rest.n - 1];
    return rc;
}

static struct span take(struct rdb_elems *it, uint64_t most)
{
    struct span *rest = &it->split.rest;
    struct span some = span_of(rest->p, rest->n < most ? rest->n : (size_t)most);
    *rest = span_of(rest->p + some.n, rest->n - some.n);
    return some;
}

/* A node of one element, before and behind which stands:
 *   ziplist   <bytes u32> <tail u32 = 10> <count u16 = 1> 00 80 <length u32 be> ... ff
 *   listpack  <bytes u32> <count u16 = 1> f0 <length u32> ... <entry's length, 5 bytes at most> ff
 */
#define ZIPLIST_HEAD  16
#define LISTPACK_HEAD 11

static bool is_single(enum encoding enc, const uint8_t *head, uint64_t n, uint64_t *ret_n)
{
    if (enc == ZIPLIST) {
        uint32_t len = (uint32_t)head[12] << 24 | (uint32_t)head[13] << 16 |
                       (uint32_t)head[14] << 8 | head[15];
        *ret_n = len;
        return packed_u32(head) == n && packed_u32(head + 4) == 10 && packed_u16(head + 8) == 1 &&
               head[10] == 0 && head[11] == 0x80 && n == ZIPLIST_HEAD + (uint64_t)len + 1;
    }
    uint64_t entry = 5 + (uint64_t)packed_u32(head + 7);
    unsigned back = entry < 1u << 7    ? 1
                    : entry < 1u << 14 ? 2
                    : entry < 1u << 21 ? 3
                    : entry < 1u << 28 ? 4
                                       : 5;
    *ret_n = entry - 5;
    return packed_u32(head) == n && packed_u16(head + 4) == 1 && head[6] == 0xf0 &&
           n == 6 + entry + back + 1;
}

static int open_single(struct rdb_elems *it, uint64_t n, uint64_t *ret_n, struct err *err)
{
    uint8_t head[ZIPLIST_HEAD];
    size_t want = it->lay.enc == ZIPLIST ? ZIPLIST_HEAD : LISTPACK_HEAD, got = 0;
    while (got < want) {
        int rc = it->split.rest.n ? 1 : refill(it, err);
        if (rc < 0) return -1;
        if (rc == 0) return rdb_bad(err, it->r, "a node of a list is cut short");
        struct span some = take(it, want - got);
        memcpy(head + got, some.p, some.n);
        got += some.n;
    }
    if (is_single(it->lay.enc, head, n, ret_n)) return 0;
    return err_set(err, ERR_LIMIT,
                   "RDB byte %llu: a list's node of %llu bytes that holds several elements, the "
                   "limit is %zu",
                   (unsigned long long)reader_pos(it->r), (unsigned long long)n, it->split_bytes);
}

int rdb_elems_split_next(struct rdb_elems *it, struct rdb_elem *e, uint64_t *ret_n, struct err *err)
{
    struct rdb_str s;
    bool plain = it->lay.enc == PLAIN;
    if (it->split.given == 0) e->expire_ms = -1;
    if (it->split.given == it->split.strings) return plain ? plain_end(it, e, err) : 0;
    if (plain && it->split.given == 0 && timed_before(it) &&
        read_expire_len(it, &e->expire_ms, err) < 0)
        return -1;
    it->split.given++;
    if (rdb_str_head(it->r, &s, err) < 0) return -1;
    rdb_pieces_end(&it->split.it);
    if (rdb_pieces_begin(&it->split.it, &s, err) < 0) return -1;
    it->split.rest = span_of(NULL, 0);
    uint64_t n = s.n;
    if (it->split.node && open_single(it, s.n, &n, err) < 0) return -1;
    *ret_n = it->split.left = n;
    return 1;
}

int rdb_elems_piece(struct rdb_elems *it, struct span *ret, struct err *err)
{
    for (;;) {
        if (it->split.left && it->split.rest.n) {
            *ret = take(it, it->split.left);
            it->split.left -= ret->n;
            return 1;
        }
        int rc = refill(it, err);
        if (rc == 1) continue;
        rdb_pieces_end(&it->split.it);
        if (rc == 0 && it->split.node && it->split.last != 0xff)
            return rdb_bad(err, it->r, "a node of a list without its end mark");
        return rc;
    }
}

int rdb_elems_blob_bytes(struct reader *r, enum rdb_type type, uint64_t *ret, struct err *err)
{
    const struct layout *lay = layout_of(type);
    struct rdb_str s = {.n = 0};
    uint64_t min;
    size_t held = (size_t)(r->p - r->keep);
    if (lay && lay->enc != PLAIN && !lay->counted) {
        if (type == RDB_HASH_LISTPACK_EX && reader_u64le(r, &min, err) < 0) return -1;
        if (rdb_str_head(r, &s, err) < 0) return -1;
    }
    r->p = r->keep + held;
    *ret = s.n;
    return 0;
}
