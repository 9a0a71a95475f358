// SPDX-License-Identifier: BSD-3-Clause
// What a snapshot holds, counted in one pass: databases, types, expiries, the biggest keys.
//
// Values are only passed over, so it goes at the speed of the disk; with a digest each is decoded
// and told key by key. Bounded whatever the file: nothing grows with the number of keys.
#ifndef KEYHAUL_ENGINE_INSPECT_H
#define KEYHAUL_ENGINE_INSPECT_H

#include "engine/digest.h"
#include "engine/key_select.h"
#include "engine/select.h"
#include "redis/facts.h"

#include <stdatomic.h>

#define INSPECT_DBS       1024 /* databases told one by one; what is in others goes to the last */
#define INSPECT_TOP_MAX   1000
#define INSPECT_KEY_BYTES 200 /* of a key that are kept for the report */
#define INSPECT_NOTES     32  /* AUX fields, libraries, modules that are kept */
#define INSPECT_KINDS     (RDB_KIND_ARRAY + 1)
#define INSPECT_TYPES     (RDB_ARRAY + 2) /* the last: RDB_VALKEY_HASH_2 */
#define INSPECT_UNKNOWN   UINT64_MAX      /* number of elements that is not told cheaply */

enum inspect_expiry {
    INSPECT_NONE,
    INSPECT_PAST,
    INSPECT_HOUR,
    INSPECT_DAY,
    INSPECT_WEEK,
    INSPECT_MONTH, /* 30 days */
    INSPECT_LATER,
    INSPECT_EXPIRIES,
};

struct inspect_sum {
    uint64_t keys, bytes; /* of their records in the snapshot: key, value, expiry and hints */
};

struct inspect_db {
    uint64_t db;
    struct inspect_sum all, kind[INSPECT_KINDS];
    uint64_t expires;
};

struct inspect_key_name {
    uint8_t p[INSPECT_KEY_BYTES];
    size_t n; /* of the key; more than is kept when it is long */
};

struct inspect_type {
    struct inspect_sum sum;
    struct inspect_key_name first; /* the first key of the type, in database first_db */
    uint64_t first_db;
};

struct inspect_top {
    uint64_t db, bytes, elements;
    enum rdb_type type;
    int64_t expire_ms; /* -1 none */
    uint64_t order;    /* in the snapshot; the earlier of two equals goes first */
    struct inspect_key_name key;
};

struct inspect_note { /* NUL-terminated, made plain, cut where long */
    char name[64], value[128];
};

/* A key in full, valid during the call. */
struct inspect_key {
    uint64_t db;
    struct span name;
    enum rdb_type type;
    int64_t expire_ms, idle_s;
    int freq;
    struct digest_result digest;
};

struct inspect_config {
    unsigned top;                   /* how many of the biggest keys, at most INSPECT_TOP_MAX */
    int64_t now_ms;                 /* that expiries are measured by */
    const struct db_select *select; /* NULL: all; what is not selected is passed over */
    const struct key_select *keys;  /* NULL: all */
    const atomic_bool *stop;        /* may be NULL */
    struct digest *digest;          /* NULL: values are not looked into, on_key is not called */
    int (*on_key)(void *ctx, const struct inspect_key *key, struct err *err);
    void *ctx;
};

struct inspect {
    unsigned version; /* of the RDB */
    bool valkey;
    uint64_t bytes; /* of the whole snapshot */
    struct inspect_sum all;
    uint64_t expires, unselected, with_meta;
    uint64_t functions, function_bytes, scripts, module_aux;
    uint64_t expiry[INSPECT_EXPIRIES];
    struct inspect_type type[INSPECT_TYPES];
    struct inspect_db *db;
    size_t n_db;
    struct inspect_top *top; /* after inspect_run() the biggest first; until then a heap */
    size_t n_top;
    struct inspect_note aux[INSPECT_NOTES], library[INSPECT_NOTES], module[INSPECT_NOTES];
    size_t n_aux, n_library, n_module;
};

KH_MUST int inspect_init(struct inspect *in, struct err *err);
void inspect_release(struct inspect *in); /* safe on zeroed */

/* From the magic to behind the checksum. After a failure the counts are those up to there. */
KH_MUST int inspect_run(struct inspect *in, const struct inspect_config *cfg, struct reader *r,
                        struct err *err);

/* "list-quicklist-2": how the servers' sources call a type. */
const char *inspect_type_name(enum rdb_type t);
enum rdb_type inspect_type_at(size_t i); /* of the i-th entry of `type` */

/* The number of elements where it stands at the front of a value, else INSPECT_UNKNOWN. Nothing is
 * consumed; the reader stands at the value, which is all that is held. */
uint64_t inspect_peek(struct reader *r, enum rdb_type type);

enum inspect_fate_kind { INSPECT_AS_IS, INSPECT_TURNED, INSPECT_LESS, INSPECT_REFUSED };

/* What becomes of values of a type on the way to such a server. */
struct inspect_fate {
    enum inspect_fate_kind kind;
    enum rdb_type as; /* TURNED, LESS */
    unsigned loss;    /* LESS: what may be lost, enum transcode_loss */
};
struct inspect_fate inspect_fate(const struct server_facts *target, enum rdb_type type);

#endif
