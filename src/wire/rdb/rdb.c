// SPDX-License-Identifier: BSD-3-Clause
// The records of an RDB: magic, opcodes, keys, checksum.
#include "wire/rdb/rdb.h"

#include "wire/rdb/str.h"
#include "wire/rdb/value.h"

enum opcode {
    OP_SLOT_IMPORT_OR_KEY_META = 243, /* magic VALKEY: the first; magic REDIS (8.6): the second */
    OP_SLOT_INFO = 244,
    OP_FUNCTION = 245,
    OP_FUNCTION_PRE_GA = 246,
    OP_MODULE_AUX = 247,
    OP_IDLE = 248,
    OP_FREQ = 249,
    OP_AUX = 250,
    OP_RESIZEDB = 251,
    OP_EXPIRE_MS = 252,
    OP_EXPIRE_S = 253,
    OP_SELECTDB = 254,
    OP_EOF = 255,
};

#define OP_LOWEST           242 /* numbers from here on are opcodes, not types */
#define MAGIC_BYTES         9
#define VALKEY_FIRST        80 /* the magic is VALKEY from this version on, REDIS before */
#define CHECKSUM_FIRST      5
#define SCRATCH_FIRST       256
#define WHOLE_MAX           65536 /* strings up to this are decoded in one, bytes */
#define MODULE_OP_UINT      2
#define MODULE_NAME_CHARS   9
#define MODULE_VERSION_BITS 10

static int digits(const uint8_t *p, size_t n, unsigned *ret)
{
    unsigned v = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        v = v * 10 + (p[i] - '0');
    }
    *ret = v;
    return 0;
}

/* "REDIS" and 4 digits, or "VALKEY" and 3. */
static int read_magic(struct rdb *f, struct err *err)
{
    struct reader *r = f->r;
    if (reader_need(r, MAGIC_BYTES, err) < 0) return err_wrap(err, "no RDB header");
    f->valkey = memcmp(r->p, "VALKEY", 6) == 0;
    size_t name = f->valkey ? 6 : 5;
    if ((!f->valkey && memcmp(r->p, "REDIS", 5) != 0) ||
        digits(r->p + name, MAGIC_BYTES - name, &f->version) < 0)
        return rdb_bad(err, r, "this is no RDB: expected REDIS or VALKEY and a version");
    if (f->version < 1 || f->valkey != (f->version >= VALKEY_FIRST))
        return rdb_bad(err, r, "RDB version %u does not go with the magic %s", f->version,
                       f->valkey ? "VALKEY" : "REDIS");
    r->p += MAGIC_BYTES;
    return 0;
}

static void forget_attributes(struct rdb *f)
{
    f->expire_ms = f->idle_s = f->freq = -1;
    f->has_meta = false;
}

int rdb_open(struct rdb *f, struct reader *r, struct err *err)
{
    *f = (struct rdb){.r = r};
    forget_attributes(f);
    buf_init(&f->key, RDB_KEY_MAX);
    buf_init(&f->val, RDB_KEY_MAX);
    if (buf_reserve(&f->key, SCRATCH_FIRST, err) < 0 ||
        buf_reserve(&f->val, SCRATCH_FIRST, err) < 0)
        return -1;
    reader_release(r);
    if (reader_settle(r, err) < 0) return -1; /* what came before does not count */
    r->crc = 0;
    r->crc_on = true;
    return read_magic(f, err);
}

void rdb_release(struct rdb *f)
{
    buf_release(&f->key);
    buf_release(&f->val);
}

/* Strings are copied, so that they outlive what the reader lets go. */

static int copy_pieces(struct rdb *f, const struct rdb_str *s, struct buf *to, struct err *err)
{
    struct rdb_pieces it;
    struct span piece;
    if (rdb_pieces_begin(&it, s, err) < 0) return -1;
    int rc;
    while ((rc = rdb_pieces_next(&it, f->r, &piece, err)) > 0)
        if ((rc = buf_add(to, piece.p, piece.n, err)) < 0) break;
    rdb_pieces_end(&it);
    return rc;
}

static int copy_long(struct rdb *f, const struct rdb_str *s, struct buf *to, const char *what,
                     struct err *err)
{
    if (s->n > RDB_KEY_MAX)
        return err_set(err, ERR_LIMIT, "RDB byte %llu: a %s of %llu bytes, the limit is %u",
                       (unsigned long long)reader_pos(f->r), what, (unsigned long long)s->n,
                       RDB_KEY_MAX);
    if (buf_reserve(to, (size_t)s->n, err) < 0) return -1;
    if (s->n > WHOLE_MAX) return copy_pieces(f, s, to, err);
    if (rdb_str_decode(f->r, s, to->p, err) < 0) return -1;
    to->n = (size_t)s->n;
    return 0;
}

static int copy_str(struct rdb *f, struct buf *to, struct span *ret, const char *what,
                    struct err *err)
{
    struct rdb_str s;
    struct reader *r = f->r;
    if (rdb_str_head(r, &s, err) < 0) return -1;
    buf_clear(to);
    if (KH_LIKELY(s.kind == RDB_STR_RAW && s.n <= to->alloc && s.n <= (size_t)(r->end - r->p))) {
        memcpy(to->p, r->p, (size_t)s.n);
        r->p += s.n;
        to->n = (size_t)s.n;
    } else if (copy_long(f, &s, to, what, err) < 0) {
        return -1;
    }
    *ret = buf_span(to);
    return 0;
}

/* What is said about the next key. */

static int expire_s(struct rdb *f, struct err *err)
{
    uint32_t v;
    if (reader_u32le(f->r, &v, err) < 0) return -1;
    f->expire_ms = (int64_t)(int32_t)v * 1000;
    return 0;
}

static int expire_ms(struct rdb *f, struct err *err)
{
    uint64_t v;
    if (reader_u64le(f->r, &v, err) < 0) return -1;
    f->expire_ms = (int64_t)v;
    return 0;
}

static int freq(struct rdb *f, struct err *err)
{
    uint8_t v;
    if (reader_u8(f->r, &v, err) < 0) return -1;
    f->freq = v;
    return 0;
}

static int idle(struct rdb *f, struct err *err)
{
    uint64_t v;
    if (rdb_len(f->r, &v, err) < 0) return -1;
    f->idle_s = v > INT64_MAX ? INT64_MAX : (int64_t)v;
    return 0;
}

/* Redis 8.6: n x { class, 4 bytes; module data }. The classes are modules' own: passed over. */
static int key_meta(struct rdb *f, struct err *err)
{
    uint64_t n;
    uint32_t cls;
    if (rdb_len(f->r, &n, err) < 0) return -1;
    for (; n; n--)
        if (reader_u32le(f->r, &cls, err) < 0 || rdb_module_skip(f->r, err) < 0) return -1;
    f->has_meta = true;
    return 0;
}

/* Valkey 9: job name, n x { first slot, last slot } of an unfinished slot import. */
static int slot_import(struct rdb *f, struct err *err)
{
    uint64_t n, slot;
    if (rdb_str_skip(f->r, true, err) < 0 || rdb_len(f->r, &n, err) < 0) return -1;
    for (; n; n--) {
        if (rdb_len(f->r, &slot, err) < 0 || rdb_len(f->r, &slot, err) < 0) return -1;
        reader_release(f->r);
    }
    return 0;
}

/* Records. All answer 1, or -1. */

static int rec_select(struct rdb *f, struct rdb_rec *rec, struct err *err)
{
    rec->kind = RDB_REC_SELECTDB;
    return rdb_len(f->r, &rec->n, err) < 0 ? -1 : 1;
}

static int rec_resize(struct rdb *f, struct rdb_rec *rec, struct err *err)
{
    rec->kind = RDB_REC_RESIZEDB;
    if (rdb_len(f->r, &rec->n, err) < 0) return -1;
    return rdb_len(f->r, &rec->m, err) < 0 ? -1 : 1;
}

static int rec_slot_info(struct rdb *f, struct rdb_rec *rec, struct err *err)
{
    uint64_t with_expiry;
    rec->kind = RDB_REC_SLOT_INFO;
    if (rdb_len(f->r, &rec->n, err) < 0 || rdb_len(f->r, &rec->m, err) < 0) return -1;
    return rdb_len(f->r, &with_expiry, err) < 0 ? -1 : 1;
}

static int rec_aux(struct rdb *f, struct rdb_rec *rec, struct err *err)
{
    rec->kind = RDB_REC_AUX;
    if (copy_str(f, &f->key, &rec->a, "name of an AUX field", err) < 0) return -1;
    return copy_str(f, &f->val, &rec->b, "value of an AUX field", err) < 0 ? -1 : 1;
}

static int rec_function(struct rdb *f, struct rdb_rec *rec, struct err *err)
{
    rec->kind = RDB_REC_FUNCTION;
    return copy_str(f, &f->key, &rec->a, "function library", err) < 0 ? -1 : 1;
}

/* 9 characters of 6 bits, most significant first, then 10 bits of encoding version. */
static void module_name(uint64_t id, uint8_t *out)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    id >>= MODULE_VERSION_BITS;
    for (int i = MODULE_NAME_CHARS; i-- > 0; id >>= 6)
        out[i] = (uint8_t)chars[id & 63];
}

static int rec_module_aux(struct rdb *f, struct rdb_rec *rec, struct err *err)
{
    uint64_t id, op, when;
    rec->kind = RDB_REC_MODULE_AUX;
    if (rdb_len(f->r, &id, err) < 0 || rdb_len(f->r, &op, err) < 0) return -1;
    if (op != MODULE_OP_UINT)
        return rdb_bad(err, f->r, "expected module opcode 2 before the time of module data");
    if (rdb_len(f->r, &when, err) < 0 || rdb_module_skip(f->r, err) < 0) return -1;
    module_name(id, f->key.p);
    f->key.n = MODULE_NAME_CHARS;
    rec->a = buf_span(&f->key);
    return 1;
}

static int bad_type(const struct rdb *f, unsigned byte, struct err *err)
{
    if (byte == RDB_MODULE_PRE_GA)
        return rdb_bad(err, f->r,
                       "a module value as release candidates of Redis 4.0 wrote it (type 6): its "
                       "length is not told, nothing can read it; delete such keys on the source");
    return rdb_bad(err, f->r,
                   "unknown %s %u in an RDB of version %u (%s): written by a newer server, or "
                   "damaged; update keyhaul",
                   byte >= OP_LOWEST ? "opcode" : "value type", byte, f->version,
                   f->valkey ? "Valkey" : "Redis");
}

static int rec_key(struct rdb *f, unsigned byte, struct rdb_rec *rec, struct err *err)
{
    unsigned type = byte;
    if (KH_UNLIKELY(f->valkey && byte > RDB_STREAM_3)) {
        /* Redis gave 22 and more to other types after the two had parted. */
        if (byte != rdb_type_byte(RDB_VALKEY_HASH_2)) return bad_type(f, byte, err);
        type = RDB_VALKEY_HASH_2;
    }
    if (!rdb_type_known(type)) return bad_type(f, byte, err);
    if (copy_str(f, &f->key, &rec->a, "key", err) < 0) return -1;
    rec->kind = RDB_REC_KEY;
    rec->type = (enum rdb_type)type;
    rec->expire_ms = f->expire_ms;
    rec->idle_s = f->idle_s;
    rec->freq = f->freq;
    rec->has_meta = f->has_meta;
    forget_attributes(f);
    return 1;
}

static int rec_end(struct rdb *f, struct err *err)
{
    struct reader *r = f->r;
    reader_release(r);
    if (reader_settle(r, err) < 0) return -1;
    r->crc_on = false;
    if (f->version < CHECKSUM_FIRST) return 0;
    uint64_t stored;
    if (reader_u64le(r, &stored, err) < 0) return -1;
    if (stored != 0 && stored != r->crc)
        return rdb_bad(err, r,
                       "the checksum is wrong: stored %016llx, computed %016llx; the data was "
                       "damaged on its way or on disk",
                       (unsigned long long)stored, (unsigned long long)r->crc);
    reader_release(r);
    return 0;
}

/* 2: it was about the next key. */
static int read_record(struct rdb *f, unsigned op, struct rdb_rec *rec, struct err *err)
{
    switch (op) {
    case OP_EXPIRE_MS: return expire_ms(f, err) < 0 ? -1 : 2;
    case OP_EXPIRE_S: return expire_s(f, err) < 0 ? -1 : 2;
    case OP_FREQ: return freq(f, err) < 0 ? -1 : 2;
    case OP_IDLE: return idle(f, err) < 0 ? -1 : 2;
    case OP_SLOT_IMPORT_OR_KEY_META:
        return (f->valkey ? slot_import(f, err) : key_meta(f, err)) < 0 ? -1 : 2;
    case OP_EOF: return rec_end(f, err);
    case OP_SELECTDB: return rec_select(f, rec, err);
    case OP_RESIZEDB: return rec_resize(f, rec, err);
    case OP_AUX: return rec_aux(f, rec, err);
    case OP_FUNCTION: return rec_function(f, rec, err);
    case OP_MODULE_AUX: return rec_module_aux(f, rec, err);
    case OP_SLOT_INFO: return rec_slot_info(f, rec, err);
    case OP_FUNCTION_PRE_GA:
        return rdb_bad(err, f->r,
                       "functions as release candidates of Redis 7.0 wrote them (opcode 246): no "
                       "released server reads them; update the source, or delete its functions "
                       "(FUNCTION FLUSH)");
    default: return rec_key(f, op, rec, err);
    }
}

int rdb_next(struct rdb *f, struct rdb_rec *rec, struct err *err)
{
    for (;;) {
        uint8_t op;
        reader_release(f->r);
        if (reader_u8(f->r, &op, err) < 0) return -1;
        int rc = read_record(f, op, rec, err);
        if (rc == 2) continue;
        if (rc > 0) reader_release(f->r);
        return rc;
    }
}
