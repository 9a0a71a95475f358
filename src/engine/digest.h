// SPDX-License-Identifier: BSD-3-Clause
// What a value holds, as one SHA-256 that does not depend on version, encoding or order of storage:
// docs/formats/canonical.md.
//
// Any size in bounded memory: strings go by pieces, so do elements of more than 1 MB, collections
// are sorted through files. What is stored as one packed blob, or is a node of a stream, is
// ERR_LIMIT above 7 MB.
#ifndef KEYHAUL_ENGINE_DIGEST_H
#define KEYHAUL_ENGINE_DIGEST_H

#include "wire/rdb/rdb.h"

#define DIGEST_BYTES    32
#define DIGEST_BLOB_MAX (7u << 20)

struct digest_result {
    bool counted;      /* module values and arrays are not looked into */
    uint64_t elements; /* what STRLEN, LLEN, SCARD, ZCARD, HLEN or XLEN answers */
    uint8_t content[DIGEST_BYTES];
    bool has_state;
    uint8_t state[DIGEST_BYTES]; /* expiries of hash fields; a stream's counters, groups, ids */
};

struct digest; /* opaque: keeps scratch between values */

/* `dir`: for temporary files; borrowed. */
KH_MUST int digest_new(struct digest **ret, const char *dir, struct err *err);
void digest_free(struct digest *d);

/* The reader stands at the value, which is consumed and released. */
KH_MUST int digest_value(struct digest *d, struct reader *r, enum rdb_type type,
                         struct digest_result *ret, struct err *err);

#endif
