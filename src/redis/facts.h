// SPDX-License-Identifier: BSD-3-Clause
// What a server is: flavour, version, role, databases, limits; and what follows from that.
//
// Asked once after connecting: INFO (needed), CONFIG GET (each tolerated when forbidden). The
// tables of what a version knows were measured on real servers, see docs/formats.
#ifndef KEYHAUL_REDIS_FACTS_H
#define KEYHAUL_REDIS_FACTS_H

#include "redis/client.h"
#include "wire/rdb/rdb.h"

enum facts_flavour {
    FACTS_UNKNOWN, /* says it is like Redis of `version`, but is something else */
    FACTS_REDIS,
    FACTS_VALKEY,
    FACTS_REDICT,
    FACTS_KEYDB,
};

enum facts_role { FACTS_PRIMARY, FACTS_REPLICA };

struct facts_db {
    uint32_t db;
    uint64_t keys, expires;
    uint64_t timed; /* hashes with fields that expire */
};

struct server_facts {
    enum facts_flavour flavour;
    unsigned version;      /* of that flavour, 0xMMmmpp; development builds say 255.255.255 */
    char version_text[32]; /* "7.0.15" */
    unsigned rdb_version;  /* that it writes, and the highest footer RESTORE takes; 0 unknown */

    char run_id[48];  /* "" unknown */
    char replid[48];  /* master_replid, 4.0+; "" unknown */
    char replid2[48]; /* of before its last failover; "" none */
    bool cluster, sentinel;
    bool loading;

    enum facts_role role;
    char primary_host[128]; /* FACTS_REPLICA: where its primary is */
    char primary_port[8];
    bool link_up;              /* FACTS_REPLICA: link to its primary */
    bool read_only;            /* FACTS_REPLICA: refuses writes */
    int64_t repl_offset;       /* of its stream, as a replica: received so far; -1 unknown */
    uint64_t backlog_bytes;    /* repl_backlog_size, 0 unknown or none yet */
    uint64_t libraries;        /* of functions */
    uint64_t used_memory;      /* bytes, 0 unknown */
    uint64_t maxmemory;        /* bytes, 0 none or unknown */
    char maxmemory_policy[32]; /* "" unknown */

    int64_t databases;           /* CONFIG GET databases, -1 unknown */
    uint64_t proto_max_bulk_len; /* longest argument, bytes; 512 MB when it does not tell */

    struct facts_db *db; /* databases with keys, ascending; owned */
    size_t n_db;
};

/* Ask. ERR_PERM when INFO is forbidden. ret is overwritten on success; facts_release() it. */
KH_MUST int facts_read(struct client *c, struct server_facts *ret, struct err *err);
void facts_release(struct server_facts *f); /* safe on zeroed */

/* The pure part: fill from the text of INFO. For facts_read() and tests. */
KH_MUST int facts_parse(struct server_facts *ret, struct span info, struct err *err);

/* "Redis 7.0.15", "Valkey 9.1.2". Returns out. */
char *facts_name(char *out, size_t size, const struct server_facts *f);

uint64_t facts_keys(const struct server_facts *f, uint64_t db); /* 0 when not listed */

/* Replication offset now: of a primary master_repl_offset, of a replica what it has received. */
KH_MUST int facts_replication_offset(struct client *c, uint64_t *ret, struct err *err);

/* RDB version that such a server writes; 0 unknown. */
unsigned facts_rdb_version(enum facts_flavour flavour, unsigned version);

/* Does its RESTORE take a value of this type (the type counts, the footer can be
 * rewritten)? Values of modules: only
 * from servers that answer an unknown module with an error; Redis before 6.2 exits. */
bool facts_takes_type(const struct server_facts *f, enum rdb_type type);

enum facts_feature {
    FACTS_SCAN,
    FACTS_RESTORE,         /* DUMP, RESTORE */
    FACTS_RESTORE_REPLACE, /* RESTORE ... REPLACE */
    FACTS_RESTORE_ABSTTL,  /* RESTORE ... ABSTTL, IDLETIME, FREQ */
    FACTS_SET_PXAT,        /* SET ... PXAT, EXAT */
    FACTS_PEXPIRETIME,     /* also EXPIRETIME */
    FACTS_SET_KEEPTTL,
    FACTS_UNLINK, /* also FLUSHDB ASYNC, SWAPDB */
    FACTS_STREAMS,
    FACTS_XGROUP_CREATECONSUMER,
    FACTS_XSETID_COUNTERS, /* XSETID ENTRIESADDED, XGROUP ENTRIESREAD */
    FACTS_FUNCTIONS,
    FACTS_SPUBLISH,
    FACTS_HASH_FIELD_TTL, /* HPEXPIREAT */
    FACTS_HSETEX,
    FACTS_VECTOR_SETS,
    FACTS_VECTOR_SETS_82, /* and reads those that Redis 8.2 and later write */
    FACTS_ACL,
    FACTS_PSYNC,
    FACTS_PSYNC2, /* replication id survives a failover */
    FACTS_RDB_ONLY,
    FACTS_RDB_FILTER_ONLY,
    FACTS_REPLCONF_VERSION, /* Valkey: decides the RDB version it sends */
    FACTS_FEATURES,         /* how many there are */
};
bool facts_has(const struct server_facts *f, enum facts_feature feature);

#define FACTS_VERSION(major, minor, patch) ((unsigned)(major) << 16 | (minor) << 8 | (patch))
#define FACTS_NEVER                        0xffffffffu
/* Is it at least this version of Redis, or of Valkey where that one is not 0? Valkey otherwise, and
 * Redict, have what Redis 7.2.4 has. */
bool facts_since(const struct server_facts *f, unsigned redis, unsigned valkey);

#endif
