// SPDX-License-Identifier: BSD-3-Clause
// What each flavour and version knows: tables measured on real servers, 21 by 21 versions.
#include "redis/facts.h"

#define V(major, minor, patch) FACTS_VERSION(major, minor, patch)
#define NEVER                  FACTS_NEVER

/* The version of Redis whose commands this server has: forks froze theirs. */
static unsigned redis_level(const struct server_facts *f)
{
    bool fork = f->flavour == FACTS_VALKEY || f->flavour == FACTS_REDICT;
    return fork ? V(7, 2, 4) : f->version;
}

unsigned facts_rdb_version(enum facts_flavour flavour, unsigned version)
{
    static const struct {
        unsigned since, rdb;
    } redis[] = {
        {V(8, 8, 0), 14}, {V(8, 6, 0), 13}, {V(7, 4, 0), 12}, {V(7, 2, 0), 11}, {V(7, 0, 0), 10},
        {V(5, 0, 0), 9},  {V(4, 0, 0), 8},  {V(3, 2, 0), 7},  {V(2, 6, 0), 6},
    };
    if (flavour == FACTS_VALKEY) return version >= V(9, 0, 0) ? 80 : 11;
    if (flavour == FACTS_REDICT) return 12; /* yet without the types of Redis' 12 */
    if (flavour == FACTS_KEYDB) return 9;
    for (size_t i = 0; i < sizeof(redis) / sizeof(redis[0]); i++)
        if (version >= redis[i].since) return redis[i].rdb;
    return 0;
}

/* First version of Redis whose RESTORE knows a type; 0 all. */
static unsigned redis_type_since(enum rdb_type type)
{
    switch (type) {
    case RDB_STRING:
    case RDB_LIST:
    case RDB_SET:
    case RDB_ZSET:
    case RDB_HASH:
    case RDB_HASH_ZIPMAP:
    case RDB_LIST_ZIPLIST:
    case RDB_SET_INTSET:
    case RDB_ZSET_ZIPLIST:
    case RDB_HASH_ZIPLIST: return V(2, 6, 0);
    case RDB_LIST_QUICKLIST: return V(3, 2, 0);
    case RDB_ZSET_2: return V(4, 0, 0);
    case RDB_STREAM: return V(5, 0, 0);
    /* Known since 4.0, but before 6.2 a module the server does not have makes it exit. */
    case RDB_MODULE_2: return V(6, 2, 0);
    case RDB_HASH_LISTPACK:
    case RDB_ZSET_LISTPACK:
    case RDB_LIST_QUICKLIST_2:
    case RDB_STREAM_2: return V(7, 0, 0);
    case RDB_SET_LISTPACK:
    case RDB_STREAM_3: return V(7, 2, 0);
    case RDB_HASH_METADATA_PRE_GA:
    case RDB_HASH_LISTPACK_EX_PRE_GA:
    case RDB_HASH_METADATA:
    case RDB_HASH_LISTPACK_EX: return V(7, 4, 0);
    case RDB_STREAM_4: return V(8, 6, 0);
    case RDB_STREAM_5:
    case RDB_ARRAY: return V(8, 8, 0);
    case RDB_MODULE_PRE_GA:
    case RDB_VALKEY_HASH_2: break;
    }
    return NEVER;
}

bool facts_takes_type(const struct server_facts *f, enum rdb_type type)
{
    if (type == RDB_VALKEY_HASH_2) return f->flavour == FACTS_VALKEY && f->version >= V(9, 0, 0);
    return redis_level(f) >= redis_type_since(type);
}

/* Since which version of Redis, and of Valkey where its own additions matter (0: as the Redis it
 * was forked from). */
static const struct {
    unsigned redis, valkey;
} FEATURES[FACTS_FEATURES] = {
    [FACTS_SCAN] = {V(2, 8, 0), 0},
    [FACTS_RESTORE] = {V(2, 6, 0), 0},
    [FACTS_RESTORE_REPLACE] = {V(3, 0, 0), 0},
    [FACTS_RESTORE_ABSTTL] = {V(5, 0, 0), 0},
    [FACTS_SET_PXAT] = {V(6, 2, 0), 0},
    [FACTS_PEXPIRETIME] = {V(7, 0, 0), 0},
    [FACTS_SET_KEEPTTL] = {V(6, 0, 0), 0},
    [FACTS_UNLINK] = {V(4, 0, 0), 0},
    [FACTS_STREAMS] = {V(5, 0, 0), 0},
    [FACTS_XGROUP_CREATECONSUMER] = {V(6, 2, 0), 0},
    [FACTS_XSETID_COUNTERS] = {V(7, 0, 0), 0},
    [FACTS_FUNCTIONS] = {V(7, 0, 0), 0},
    [FACTS_SPUBLISH] = {V(7, 0, 0), 0},
    [FACTS_HASH_FIELD_TTL] = {V(7, 4, 0), V(9, 0, 0)},
    [FACTS_HSETEX] = {V(8, 0, 0), V(9, 0, 0)},
    [FACTS_VECTOR_SETS] = {V(8, 0, 0), NEVER},
    [FACTS_VECTOR_SETS_82] = {V(8, 2, 0), NEVER},
    [FACTS_ACL] = {V(6, 0, 0), 0},
    [FACTS_PSYNC] = {V(2, 8, 0), 0},
    [FACTS_PSYNC2] = {V(4, 0, 0), 0},
    [FACTS_RDB_ONLY] = {V(6, 2, 0), 0},
    [FACTS_RDB_FILTER_ONLY] = {V(7, 0, 0), 0},
    [FACTS_REPLCONF_VERSION] = {NEVER, V(8, 0, 0)},
};

bool facts_since(const struct server_facts *f, unsigned redis, unsigned valkey)
{
    if (f->flavour == FACTS_VALKEY && valkey) return f->version >= valkey;
    return redis_level(f) >= redis;
}

bool facts_has(const struct server_facts *f, enum facts_feature feature)
{
    return facts_since(f, FEATURES[feature].redis, FEATURES[feature].valkey);
}
