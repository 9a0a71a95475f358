// SPDX-License-Identifier: BSD-3-Clause
// Facts made of a flavour's name and a version.
#include "redis/suppose.h"

#include <stdio.h>

static const struct {
    const char *name;
    enum facts_flavour flavour;
    unsigned first; /* major version */
} flavours[] = {
    {"redis-", FACTS_REDIS, 2},
    {"valkey-", FACTS_VALKEY, 7},
    {"redict-", FACTS_REDICT, 7},
    {"keydb-", FACTS_KEYDB, 5},
};

/* "7.0" or "7.0.15" to 0xMMmmpp; each part one or two digits. */
static bool read_version(const char *p, unsigned *ret)
{
    unsigned part[3] = {0}, n = 0;
    for (;; p++) {
        if (n == 3 || *p < '0' || *p > '9') return false;
        for (int digits = 0; *p >= '0' && *p <= '9'; p++)
            if (++digits > 2)
                return false;
            else
                part[n] = part[n] * 10 + (unsigned)(*p - '0');
        n++;
        if (*p != '.') break;
    }
    *ret = part[0] << 16 | part[1] << 8 | part[2];
    return *p == 0 && n >= 2;
}

int suppose_server(struct server_facts *ret, const char *text, struct err *err)
{
    for (size_t i = 0; i < sizeof(flavours) / sizeof(flavours[0]); i++) {
        size_t n = strlen(flavours[i].name);
        unsigned version;
        if (strncasecmp(text, flavours[i].name, n) != 0 || !read_version(text + n, &version))
            continue;
        if (version >> 16 < flavours[i].first) break;
        *ret = (struct server_facts){.flavour = flavours[i].flavour,
                                     .version = version,
                                     .rdb_version = facts_rdb_version(flavours[i].flavour, version),
                                     .repl_offset = -1,
                                     .databases = -1,
                                     .proto_max_bulk_len = 512u << 20};
        snprintf(ret->version_text, sizeof(ret->version_text), "%s", text + n);
        return 0;
    }
    return err_set(err, ERR_USAGE,
                   "must be redis, valkey, redict or keydb with a version: redis-6.2, valkey-9.1");
}
