// SPDX-License-Identifier: BSD-3-Clause
// Facts from INFO and CONFIG GET.
#include "redis/facts.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#define DBS_MAX 65536 /* databases listed by INFO that we remember */

/* --- INFO's lines, one table --- */

enum field_kind { F_TEXT, F_U64, F_I64, F_BOOL };

struct info_field {
    const char *name;
    enum field_kind kind;
    size_t at, size; /* in struct info */
};

struct info { /* raw values, as INFO gives them */
    char redis_version[32], valkey_version[32], redict_version[32], dragonfly_version[32];
    char executable[256], mvcc_depth[32];
    char redis_mode[16], server_mode[16], redict_mode[16], role[16];
    char run_id[48], replid[48], replid2[48];
    char master_host[128], master_port[8], link[16], policy[32];
    bool loading, async_loading, cluster, read_only;
    int64_t master_offset, slave_offset;
    uint64_t backlog, libraries, used_memory, maxmemory;
};

#define FIELD(name, kind, member)                                                                  \
    {                                                                                              \
        name, kind, offsetof(struct info, member), sizeof(((struct info *)0)->member)              \
    }

static const struct info_field FIELDS[] = {
    FIELD("redis_version", F_TEXT, redis_version),
    FIELD("valkey_version", F_TEXT, valkey_version),
    FIELD("redict_version", F_TEXT, redict_version),
    FIELD("dragonfly_version", F_TEXT, dragonfly_version),
    FIELD("executable", F_TEXT, executable),
    FIELD("mvcc_depth", F_TEXT, mvcc_depth), /* KeyDB alone has it */
    FIELD("redis_mode", F_TEXT, redis_mode),
    FIELD("server_mode", F_TEXT, server_mode),
    FIELD("redict_mode", F_TEXT, redict_mode),
    FIELD("role", F_TEXT, role),
    FIELD("run_id", F_TEXT, run_id),
    FIELD("master_replid", F_TEXT, replid),
    FIELD("master_replid2", F_TEXT, replid2),
    FIELD("master_host", F_TEXT, master_host),
    FIELD("master_port", F_TEXT, master_port),
    FIELD("master_link_status", F_TEXT, link),
    FIELD("maxmemory_policy", F_TEXT, policy),
    FIELD("loading", F_BOOL, loading),
    FIELD("async_loading", F_BOOL, async_loading),
    FIELD("cluster_enabled", F_BOOL, cluster),
    FIELD("slave_read_only", F_BOOL, read_only),
    FIELD("master_repl_offset", F_I64, master_offset),
    FIELD("slave_repl_offset", F_I64, slave_offset),
    FIELD("repl_backlog_size", F_U64, backlog),
    FIELD("number_of_libraries", F_U64, libraries),
    FIELD("used_memory", F_U64, used_memory),
    FIELD("maxmemory", F_U64, maxmemory),
};

/* Text of the server's for people: no control bytes, cut to fit. */
static void copy_text(char *out, size_t size, struct span s)
{
    size_t n = s.n < size - 1 ? s.n : size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = s.p[i] >= 32 && s.p[i] < 127 ? (char)s.p[i] : '?';
    out[n] = 0;
}

static void set_field(struct info *in, const struct info_field *f, struct span value)
{
    void *at = (char *)in + f->at;
    switch (f->kind) {
    case F_TEXT: copy_text(at, f->size, value); break;
    case F_BOOL: *(bool *)at = span_is(value, "1"); break;
    case F_U64:
        if (!num_get_u64(value, at)) *(uint64_t *)at = 0;
        break;
    case F_I64:
        if (!num_get_i64(value, at)) *(int64_t *)at = -1;
        break;
    }
}

/* The next line of text without its end; false at the end. */
static bool next_line(struct span *rest, struct span *ret)
{
    if (rest->n == 0) return false;
    const uint8_t *nl = memchr(rest->p, '\n', rest->n);
    size_t n = nl ? (size_t)(nl - rest->p) : rest->n;
    *ret = span_of(rest->p, n > 0 && rest->p[n - 1] == '\r' ? n - 1 : n);
    size_t used = nl ? n + 1 : n;
    *rest = span_of(rest->p + used, rest->n - used);
    return true;
}

/* Cut at the first `sep`; false: there is none. */
static bool cut(struct span s, char sep, struct span *ret_head, struct span *ret_tail)
{
    const uint8_t *at = s.n ? memchr(s.p, sep, s.n) : NULL;
    if (!at) return false;
    *ret_head = span_of(s.p, (size_t)(at - s.p));
    *ret_tail = span_of(at + 1, s.n - ret_head->n - 1);
    return true;
}

/* "db3:keys=10,expires=2,avg_ttl=0": 1 filled, 0 not such a line. */
static int parse_db(struct facts_db *ret, struct span name, struct span value)
{
    uint64_t db;
    if (name.n < 3 || memcmp(name.p, "db", 2) != 0 ||
        !num_get_u64(span_of(name.p + 2, name.n - 2), &db) || db > UINT32_MAX)
        return 0;
    *ret = (struct facts_db){.db = (uint32_t)db};
    while (value.n > 0) {
        struct span pair, key, number;
        if (!cut(value, ',', &pair, &value)) {
            pair = value;
            value.n = 0;
        }
        uint64_t n;
        if (!cut(pair, '=', &key, &number) || !num_get_u64(number, &n)) continue;
        if (span_is(key, "keys")) ret->keys = n;
        if (span_is(key, "expires")) ret->expires = n;
        if (span_is(key, "subexpiry") || span_is(key, "keys_with_volatile_items")) /* Valkey 9 */
            ret->timed = n;
    }
    return 1;
}

static int add_db(struct server_facts *f, const struct facts_db *db, struct err *err)
{
    if (f->n_db >= DBS_MAX)
        return err_set(err, ERR_LIMIT, "more than %d databases with keys", DBS_MAX);
    if ((f->n_db & (f->n_db - 1)) == 0) { /* full at each power of two */
        struct facts_db *more = realloc(f->db, (f->n_db ? f->n_db * 2 : 1) * sizeof(*more));
        if (!more) return err_set(err, ERR_NOMEM, "out of memory for the list of databases");
        f->db = more;
    }
    f->db[f->n_db++] = *db;
    return 0;
}

static int parse_lines(struct server_facts *f, struct info *in, struct span text, struct err *err)
{
    struct span line, name, value;
    while (next_line(&text, &line)) {
        if (!cut(line, ':', &name, &value)) continue;
        struct facts_db db;
        if (parse_db(&db, name, value) && add_db(f, &db, err) < 0) return -1;
        for (size_t i = 0; i < sizeof(FIELDS) / sizeof(FIELDS[0]); i++)
            if (span_is(name, FIELDS[i].name)) set_field(in, &FIELDS[i], value);
    }
    return 0;
}

/* --- what the values mean --- */

/* "7.0.15", "8.0-rc1": as far as it can be read. */
static unsigned parse_version(const char *text)
{
    unsigned part[3] = {0};
    if (sscanf(text, "%3u.%3u.%3u", &part[0], &part[1], &part[2]) < 1) return 0;
    unsigned v = 0;
    for (int i = 0; i < 3; i++)
        v = v << 8 | (part[i] > 255 ? 255 : part[i]);
    return v;
}

static void set_flavour(struct server_facts *f, const struct info *in)
{
    const char *text = in->redis_version;
    f->flavour = FACTS_REDIS;
    if (in->valkey_version[0]) {
        f->flavour = FACTS_VALKEY;
        text = in->valkey_version;
    } else if (in->redict_version[0]) {
        f->flavour = FACTS_REDICT;
        text = in->redict_version;
    } else if (in->mvcc_depth[0] || strstr(in->executable, "keydb")) {
        f->flavour = FACTS_KEYDB;
    } else if (in->dragonfly_version[0] || !in->redis_version[0]) {
        f->flavour = FACTS_UNKNOWN;
    }
    f->version = parse_version(text);
    snprintf(f->version_text, sizeof(f->version_text), "%s", text);
    f->rdb_version = facts_rdb_version(f->flavour, f->version);
}

static int by_db(const void *a, const void *b)
{
    const struct facts_db *x = a, *y = b;
    return x->db < y->db ? -1 : x->db > y->db;
}

static void interpret(struct server_facts *f, const struct info *in)
{
    set_flavour(f, in);
    snprintf(f->run_id, sizeof(f->run_id), "%s", in->run_id);
    snprintf(f->replid, sizeof(f->replid), "%s", in->replid);
    /* "no id" is forty zeros. */
    if (strspn(in->replid2, "0") != strlen(in->replid2))
        snprintf(f->replid2, sizeof(f->replid2), "%s", in->replid2);
    const char *mode = in->redis_mode[0]    ? in->redis_mode
                       : in->server_mode[0] ? in->server_mode
                                            : in->redict_mode;
    f->cluster = in->cluster || strcmp(mode, "cluster") == 0;
    f->sentinel = strcmp(mode, "sentinel") == 0;
    f->loading = in->loading || in->async_loading;
    f->role = strcmp(in->role, "slave") == 0 || strcmp(in->role, "replica") == 0 ? FACTS_REPLICA
                                                                                 : FACTS_PRIMARY;
    if (f->role == FACTS_REPLICA) {
        snprintf(f->primary_host, sizeof(f->primary_host), "%s", in->master_host);
        snprintf(f->primary_port, sizeof(f->primary_port), "%s", in->master_port);
        f->link_up = strcmp(in->link, "up") == 0;
        f->read_only = in->read_only;
    }
    f->repl_offset = f->role == FACTS_REPLICA && in->slave_offset >= 0 ? in->slave_offset
                                                                       : in->master_offset;
    f->backlog_bytes = in->backlog;
    f->libraries = in->libraries;
    f->used_memory = in->used_memory;
    f->maxmemory = in->maxmemory;
    snprintf(f->maxmemory_policy, sizeof(f->maxmemory_policy), "%s", in->policy);
    if (f->n_db > 1) qsort(f->db, f->n_db, sizeof(*f->db), by_db);
}

int facts_parse(struct server_facts *ret, struct span info, struct err *err)
{
    struct info in = {.master_offset = -1, .slave_offset = -1};
    struct server_facts f = {.databases = -1, .proto_max_bulk_len = 512u << 20};
    if (parse_lines(&f, &in, info, err) < 0) {
        facts_release(&f);
        return -1;
    }
    interpret(&f, &in);
    *ret = f;
    return 0;
}

void facts_release(struct server_facts *f)
{
    free(f->db);
    f->db = NULL;
    f->n_db = 0;
}

uint64_t facts_keys(const struct server_facts *f, uint64_t db)
{
    for (size_t i = 0; i < f->n_db; i++)
        if (f->db[i].db == db) return f->db[i].keys;
    return 0;
}

char *facts_name(char *out, size_t size, const struct server_facts *f)
{
    static const char *const name[] = {"Redis-like", "Redis", "Valkey", "Redict", "KeyDB"};
    snprintf(out, size, "%s %s", name[f->flavour], f->version_text[0] ? f->version_text : "server");
    return out;
}

/* --- asking --- */

/* INFO's text as a reply of the client's. */
static int ask_info(struct client *c, struct reply **ret, struct err *err, const char *section)
{
    struct reply *r;
    int rc = section ? client_ask(c, &r, err, "INFO", section, NULL)
                     : client_ask(c, &r, err, "INFO", NULL);
    if (rc < 0) return -1;
    if (!reply_has_text(r)) {
        reply_free(r);
        return err_set(err, ERR_PROTO, "%s: INFO was not answered with text", client_name(c));
    }
    *ret = r;
    return 0;
}

/* One number of CONFIG GET. Where it is forbidden, renamed or unknown `ret` keeps its value. */
static int ask_config(struct client *c, const char *name, uint64_t *ret, struct err *err)
{
    struct reply *r;
    if (client_call(c, &r, err, "CONFIG", "GET", name, NULL) < 0) return -1;
    const struct reply *value = reply_at(r, 1);
    uint64_t n;
    if (value && reply_has_text(value) && num_get_u64(value->str, &n)) *ret = n;
    reply_free(r);
    return 0;
}

static int read_config(struct client *c, struct server_facts *f, struct err *err)
{
    /* A cluster has one, until Valkey 9. */
    uint64_t databases = f->cluster ? 1 : UINT64_MAX;
    if (ask_config(c, f->cluster ? "cluster-databases" : "databases", &databases, err) < 0 ||
        ask_config(c, "proto-max-bulk-len", &f->proto_max_bulk_len, err) < 0)
        return -1;
    if (databases <= INT32_MAX) f->databases = (int64_t)databases;
    if (f->maxmemory == 0 && ask_config(c, "maxmemory", &f->maxmemory, err) < 0) return -1;
    return 0;
}

int facts_read(struct client *c, struct server_facts *ret, struct err *err)
{
    struct reply *r;
    if (ask_info(c, &r, err, NULL) < 0) return -1;
    struct server_facts f;
    int rc = facts_parse(&f, r->str, err);
    reply_free(r);
    if (rc < 0) return err_wrap(err, "%s", client_name(c));
    if (read_config(c, &f, err) < 0) {
        facts_release(&f);
        return -1;
    }
    *ret = f;
    return 0;
}

int facts_replication_offset(struct client *c, uint64_t *ret, struct err *err)
{
    struct reply *r;
    if (ask_info(c, &r, err, "replication") < 0) return -1;
    struct server_facts f;
    int rc = facts_parse(&f, r->str, err);
    reply_free(r);
    if (rc < 0) return err_wrap(err, "%s", client_name(c));
    facts_release(&f);
    if (f.repl_offset < 0)
        return err_set(err, ERR_SOURCE, "%s: tells no replication offset", client_name(c));
    *ret = (uint64_t)f.repl_offset;
    return 0;
}
