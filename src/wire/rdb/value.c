// SPDX-License-Identifier: BSD-3-Clause
// The layout of every value type, as one table, and how to pass over a value by it.
#include "wire/rdb/value.h"
#include "wire/rdb/str.h"

/* How a type lies in the file:
 *   s  string              l  length            8  eight bytes       i  stream ID, 16 bytes
 *   t  score as text       m  module data       a  array elements
 *   *( ... )  a length, then the group so many times */
#define STREAM_1 "*(ss)lll*(sll*(i8l)*(s8*(i)))"
#define STREAM_2 "*(ss)llllllll*(slll*(i8l)*(s8*(i)))"
#define STREAM_3 "*(ss)llllllll*(slll*(i8l)*(s88*(i)))" /* + active time of a consumer */
#define STREAM_5 "*(ss)llllllll*(slll*(i8l)*(s88*(i))*(i))"
#define IDMP     "ll*(s*(sll))ll"

static const struct layout {
    const char *form;
    enum rdb_kind kind;
} layouts[] = {
    [RDB_STRING] = {"s", RDB_KIND_STRING},
    [RDB_LIST] = {"*(s)", RDB_KIND_LIST},
    [RDB_SET] = {"*(s)", RDB_KIND_SET},
    [RDB_ZSET] = {"*(st)", RDB_KIND_ZSET},
    [RDB_HASH] = {"*(ss)", RDB_KIND_HASH},
    [RDB_ZSET_2] = {"*(s8)", RDB_KIND_ZSET},
    [RDB_MODULE_2] = {"lm", RDB_KIND_MODULE},
    [RDB_HASH_ZIPMAP] = {"s", RDB_KIND_HASH},
    [RDB_LIST_ZIPLIST] = {"s", RDB_KIND_LIST},
    [RDB_SET_INTSET] = {"s", RDB_KIND_SET},
    [RDB_ZSET_ZIPLIST] = {"s", RDB_KIND_ZSET},
    [RDB_HASH_ZIPLIST] = {"s", RDB_KIND_HASH},
    [RDB_LIST_QUICKLIST] = {"*(s)", RDB_KIND_LIST},
    [RDB_STREAM] = {STREAM_1, RDB_KIND_STREAM},
    [RDB_HASH_LISTPACK] = {"s", RDB_KIND_HASH},
    [RDB_ZSET_LISTPACK] = {"s", RDB_KIND_ZSET},
    [RDB_LIST_QUICKLIST_2] = {"*(ls)", RDB_KIND_LIST},
    [RDB_STREAM_2] = {STREAM_2, RDB_KIND_STREAM},
    [RDB_SET_LISTPACK] = {"s", RDB_KIND_SET},
    [RDB_STREAM_3] = {STREAM_3, RDB_KIND_STREAM},
    [RDB_HASH_METADATA_PRE_GA] = {"*(lss)", RDB_KIND_HASH},
    [RDB_HASH_LISTPACK_EX_PRE_GA] = {"s", RDB_KIND_HASH},
    [RDB_HASH_METADATA] = {"8*(lss)", RDB_KIND_HASH},
    [RDB_HASH_LISTPACK_EX] = {"8s", RDB_KIND_HASH},
    [RDB_STREAM_4] = {STREAM_3 IDMP, RDB_KIND_STREAM},
    [RDB_STREAM_5] = {STREAM_5 IDMP, RDB_KIND_STREAM},
    [RDB_ARRAY] = {"a", RDB_KIND_ARRAY},
};
static const struct layout valkey_hash_2 = {"*(ss8)", RDB_KIND_HASH};

#define SHORT_STR  64 /* a first byte below this is a raw string's length */
#define SHORT_ROOM 64 /* the longest of these, with its length */

#define N_LAYOUTS (sizeof(layouts) / sizeof(layouts[0]))

static const struct layout *layout_of(unsigned t)
{
    if (t == RDB_VALKEY_HASH_2) return &valkey_hash_2;
    return t < N_LAYOUTS && layouts[t].form ? &layouts[t] : NULL;
}

bool rdb_type_known(unsigned t)
{
    return layout_of(t) != NULL;
}

enum rdb_kind rdb_kind_of(enum rdb_type t)
{
    const struct layout *l = layout_of(t);
    return l ? l->kind : RDB_KIND_MODULE;
}

const char *rdb_kind_name(enum rdb_kind k)
{
    static const char *const name[] = {
        [RDB_KIND_STRING] = "string", [RDB_KIND_LIST] = "list",   [RDB_KIND_SET] = "set",
        [RDB_KIND_ZSET] = "zset",     [RDB_KIND_HASH] = "hash",   [RDB_KIND_STREAM] = "stream",
        [RDB_KIND_MODULE] = "module", [RDB_KIND_ARRAY] = "array",
    };
    return name[k];
}

/* Passing over. All answer as rdb_value_skip() does: 0, 1 (over the limit) or -1. */
struct skip {
    struct reader *r;
    bool release;
    uint64_t stop; /* holding: the position that must not be passed */
};

static int skip_bytes(struct skip *k, uint64_t n, struct err *err)
{
    struct reader *r = k->r;
    uint64_t pos = reader_pos(r);
    if (!k->release && (pos > k->stop || n > k->stop - pos)) return 1;
    if (KH_LIKELY(n <= (size_t)(r->end - r->p))) {
        r->p += n;
        if (k->release) reader_release(r);
        return 0;
    }
    return reader_skip(r, n, k->release, err);
}

static int skip_str(struct skip *k, struct err *err)
{
    uint64_t n;
    if (rdb_str_stored(k->r, &n, err) < 0) return -1;
    return skip_bytes(k, n, err);
}

static int skip_len(struct skip *k, uint64_t *ret, struct err *err)
{
    if (rdb_len(k->r, ret, err) < 0) return -1;
    return skip_bytes(k, 0, err);
}

/* 1 byte: 253 nan, 254 inf, 255 -inf, else so many bytes of text. */
static int skip_text_score(struct skip *k, struct err *err)
{
    uint8_t n;
    if (reader_u8(k->r, &n, err) < 0) return -1;
    return skip_bytes(k, n < 253 ? n : 0, err);
}

enum module_op { MOD_EOF, MOD_SINT, MOD_UINT, MOD_FLOAT, MOD_DOUBLE, MOD_STRING };

static int skip_module(struct skip *k, struct err *err)
{
    for (;;) {
        uint64_t op, v;
        int rc = skip_len(k, &op, err);
        if (rc) return rc;
        switch (op) {
        case MOD_EOF: return 0;
        case MOD_SINT:
        case MOD_UINT: rc = skip_len(k, &v, err); break;
        case MOD_FLOAT: rc = skip_bytes(k, 4, err); break;
        case MOD_DOUBLE: rc = skip_bytes(k, 8, err); break;
        case MOD_STRING: rc = skip_str(k, err); break;
        default:
            return rdb_bad(err, k->r, "expected a module opcode (0 to 5), found %llu",
                           (unsigned long long)op);
        }
        if (rc) return rc;
    }
}

enum array_tag { ARRAY_STRING, ARRAY_INT, ARRAY_DOUBLE, ARRAY_SMALL };

static int skip_array_elem(struct skip *k, struct err *err)
{
    uint64_t index, tag;
    int rc = skip_len(k, &index, err);
    if (rc == 0) rc = skip_len(k, &tag, err);
    if (rc) return rc;
    if (tag == ARRAY_STRING || tag == ARRAY_SMALL) return skip_str(k, err);
    if (tag == ARRAY_INT || tag == ARRAY_DOUBLE) return skip_bytes(k, 8, err);
    return rdb_bad(err, k->r, "expected the kind of an array element (0 to 3), found %llu",
                   (unsigned long long)tag);
}

/* Redis 8.8: count, has-cursor, [cursor], count x { index, tag, value }. */
static int skip_array(struct skip *k, struct err *err)
{
    uint64_t n, has_cursor, cursor;
    int rc = skip_len(k, &n, err);
    if (rc == 0) rc = skip_len(k, &has_cursor, err);
    if (rc == 0 && has_cursor) rc = skip_len(k, &cursor, err);
    for (; rc == 0 && n; n--)
        rc = skip_array_elem(k, err);
    return rc;
}

static int skip_one(struct skip *k, char what, struct err *err)
{
    uint64_t n;
    switch (what) {
    case 's': return skip_str(k, err);
    case 'l': return skip_len(k, &n, err);
    case '8': return skip_bytes(k, 8, err);
    case 'i': return skip_bytes(k, 16, err);
    case 't': return skip_text_score(k, err);
    case 'm': return skip_module(k, err);
    case 'a': return skip_array(k, err);
    default: return err_set(err, ERR_INTERNAL, "layout letter %d", what);
    }
}

static const char *group_end(const char *form)
{
    int depth = 0;
    for (;; form++) {
        depth += (*form == '(') - (*form == ')');
        if (*form == ')' && depth == 0) return form;
    }
}

/* The hot path: as many of n short raw strings as are in hand. Returns how many are left. */
static uint64_t skip_short(struct skip *k, uint64_t n)
{
    struct reader *r = k->r;
    const uint8_t *p = r->p, *end = r->end;
    uint64_t pos = reader_pos(r), room = k->stop > pos ? k->stop - pos : 0;
    if ((uint64_t)(end - p) > room) end = p + room;
    for (; n && end - p >= SHORT_ROOM && *p < SHORT_STR; n--)
        p += 1 + *p;
    r->p = p;
    if (k->release) reader_release(r);
    return n;
}

static int skip_strs(struct skip *k, uint64_t n, struct err *err)
{
    int rc = 0;
    while (rc == 0 && (n = skip_short(k, n)) > 0) {
        rc = skip_str(k, err);
        n--;
    }
    return rc;
}

static int skip_form(struct skip *k, const char *form, const char *end, struct err *err);

static int skip_group(struct skip *k, const char *form, const char *end, struct err *err)
{
    uint64_t n;
    size_t width = (size_t)(end - form);
    int rc = skip_len(k, &n, err);
    if (rc == 0 && strspn(form, "s") == width && n <= UINT64_MAX / 2)
        return skip_strs(k, n * width, err);
    for (; rc == 0 && n; n--)
        rc = skip_form(k, form, end, err);
    return rc;
}

/* Depth is that of the table's brackets: at most 3. */
static int skip_form(struct skip *k, const char *form, const char *end, struct err *err)
{
    for (; form < end; form++) {
        int rc;
        if (*form != '*') {
            rc = skip_one(k, *form, err);
        } else {
            const char *first = form + 2;
            form = group_end(form + 1);
            rc = skip_group(k, first, form, err);
        }
        if (rc) return rc;
    }
    return 0;
}

int rdb_value_skip(struct reader *r, enum rdb_type type, bool release, size_t limit,
                   struct err *err)
{
    const struct layout *l = layout_of(type);
    if (!l) return err_set(err, ERR_INTERNAL, "no layout for RDB type %d", (int)type);
    uint64_t pos = reader_pos(r);
    struct skip k = {r, release, release || limit > UINT64_MAX - pos ? UINT64_MAX : pos + limit};
    return skip_form(&k, l->form, l->form + strlen(l->form), err);
}

int rdb_module_skip(struct reader *r, struct err *err)
{
    struct skip k = {r, true, UINT64_MAX};
    return skip_module(&k, err);
}
