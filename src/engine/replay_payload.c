// SPDX-License-Identifier: BSD-3-Clause
// Payloads of RESTORE in the stream: a footer, and a type, that the target takes.
#include "engine/replay_old.h"

#include "base/crc64.h"
#include "engine/losses.h"
#include "wire/rdb/transcode.h"

#define FOOT_VALKEY 80 /* Valkey 9's own; up to 11 it shares with Redis */
#define FOOT_SHARED 11

static bool takes_version(const struct server_facts *target, unsigned version)
{
    if (target->rdb_version == 0) return true; /* unknown: let it judge */
    if (target->rdb_version >= FOOT_VALKEY && version < FOOT_VALKEY) return version <= FOOT_SHARED;
    return version <= target->rdb_version;
}

/* A footer that the target takes: a checksum of zero means "not computed" to Redis 8.4+ only, and a
 * version that it does not know is refused, though only the type counts. Of type 22 there are two,
 * told apart by the version. */
int replay_refoot(struct replay *rp, struct span *payload, struct err *err)
{
    if (payload->n < 11) return 0;
    const uint8_t *foot = payload->p + payload->n - 10;
    unsigned version = foot[0] | (unsigned)foot[1] << 8;
    static const uint8_t zero[8];
    bool unchecked = memcmp(foot + 2, zero, 8) == 0;
    bool two = version >= FOOT_VALKEY && payload->p[0] == rdb_type_byte(RDB_VALKEY_HASH_2);
    bool refoots = !two && !takes_version(rp->target, version);
    if (!unchecked && !refoots) return 0;
    buf_clear(&rp->scratch);
    if (buf_add(&rp->scratch, payload->p, payload->n, err) < 0) return -1;
    uint8_t *end = rp->scratch.p + payload->n - 10;
    if (refoots) {
        end[0] = 6;
        end[1] = 0;
    }
    uint64_t crc = crc64(0, rp->scratch.p, payload->n - 8);
    for (int i = 0; i < 8; i++)
        end[2 + i] = (uint8_t)(crc >> (8 * i));
    *payload = buf_span(&rp->scratch);
    return 0;
}

/* --- types --- */

#define FOOT_BYTES 10 /* version, checksum */
#define ELEM_MAX   (7u << 20)

static bool takes(const void *ctx, enum rdb_type type)
{
    return facts_takes_type(ctx, type);
}

/* What stands behind the type byte, up to the footer, as a value of another type. */
static enum transcode_result turn(struct replay *rp, struct span payload, enum rdb_type have,
                                  enum rdb_type want, unsigned *ret_loss, struct err *err)
{
    struct reader r;
    struct transcode how = {.have = have, .want = want, .allowed = ~0u};
    if (rp->pl->cfg->on_unsupported != TASK_UNSUPPORTED_DEGRADE)
        how.allowed &= ~(unsigned)TRANSCODE_LOSS_FIELD_EXPIRY;
    if (!rp->elems && rdb_elems_new(&rp->elems, ELEM_MAX, err) < 0) return TRANSCODE_ERROR;
    reader_init_mem(&r, payload.p + 1, payload.n - 1 - FOOT_BYTES);
    return transcode_value(&how, &r, rp->elems, &rp->turned, ret_loss, err);
}

/* Type byte, value, footer: version 6 is taken by all, Valkey's own type 22 needs its own. */
static int put_payload(struct replay *rp, enum rdb_type type, struct span *ret, struct err *err)
{
    uint8_t byte = rdb_type_byte(type), foot[FOOT_BYTES] = {type >= 256 ? FOOT_VALKEY : 6, 0};
    struct buf *b = &rp->scratch;
    buf_clear(b);
    if (buf_add(b, &byte, 1, err) < 0 || buf_add(b, rp->turned.p, rp->turned.n, err) < 0) return -1;
    uint64_t crc = crc64(crc64(0, b->p, b->n), foot, 2);
    for (int i = 0; i < 8; i++)
        foot[2 + i] = (uint8_t)(crc >> (8 * i));
    if (buf_add(b, foot, sizeof(foot), err) < 0) return -1;
    *ret = buf_span(b);
    return 0;
}

static bool type_of(struct span payload, enum rdb_type *ret)
{
    if (payload.n < 1 + FOOT_BYTES || payload.p[0] > RDB_ARRAY) return false;
    const uint8_t *foot = payload.p + payload.n - FOOT_BYTES;
    bool valkey = (foot[0] | (unsigned)foot[1] << 8) >= FOOT_VALKEY;
    *ret = payload.p[0];
    if (valkey && *ret == rdb_type_byte(RDB_VALKEY_HASH_2)) *ret = RDB_VALKEY_HASH_2;
    return true;
}

/* A module's value: known to all that answer one they do not know; but of vector sets we know more.
 */
static int retype_module(struct replay *rp, struct span key, struct span *payload, struct err *err)
{
    struct reader r;
    bool vectors, unknown;
    struct rdb_put out = {.to = &rp->turned};
    const char *words = "the target has no vector sets";
    reader_init_mem(&r, payload->p + 1, payload->n - 1 - FOOT_BYTES);
    if (transcode_is_vectors(&r, &vectors, err) < 0 || !vectors) return 1;
    if (facts_has(rp->target, FACTS_VECTOR_SETS)) {
        buf_clear(&rp->turned);
        if (transcode_vectors(&r, &out, &unknown, err) == 0 && !unknown)
            return put_payload(rp, RDB_MODULE_2, payload, err) < 0 ? -1 : 1;
        words = "its payload cannot be read";
    }
    replay_filtered(rp);
    return replay_old_refuse(rp, key, "RESTORE", words, err);
}

int replay_retype(struct replay *rp, struct span key, struct span *payload, struct err *err)
{
    enum rdb_type have, want;
    unsigned loss;
    const char *words = "the target does not know this kind of value";
    if (!type_of(*payload, &have) || db_select_target(rp->select, rp->db) < 0) return 1;
    if (have == RDB_MODULE_2 && !facts_has(rp->target, FACTS_VECTOR_SETS_82)) {
        int rc = retype_module(rp, key, payload, err);
        if (rc != 1) return rc;
    }
    if (facts_takes_type(rp->target, have)) return 1;
    if (transcode_choose(have, takes, rp->target, &want, &loss)) {
        switch (turn(rp, *payload, have, want, &loss, err)) {
        case TRANSCODE_DONE:
            replay_old_lost(rp, loss, key);
            return put_payload(rp, want, payload, err) < 0 ? -1 : 1;
        case TRANSCODE_LOSSY: words = "the target has no expiry of hash fields"; break;
        case TRANSCODE_TOO_LARGE:
            words = "it is too large to be turned";
            if (replay_batch(rp)->read) return err_set(err, ERR_UNSUPPORTED, "a key: %s", words);
            break;
        case TRANSCODE_ERROR:
            if (err->code != ERR_FORMAT && err->code != ERR_END) return -1;
            words = "its payload cannot be read";
            break;
        }
    }
    replay_filtered(rp);
    return replay_old_refuse(rp, key, "RESTORE", words, err);
}
