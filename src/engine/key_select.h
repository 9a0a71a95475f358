// SPDX-License-Identifier: BSD-3-Clause
// Which keys are taken: those that a pattern of --keys matches (all, where there is none) and none
// of --skip-keys. Pure.
#ifndef KEYHAUL_ENGINE_KEY_SELECT_H
#define KEYHAUL_ENGINE_KEY_SELECT_H

#include "base/attr.h"
#include "base/err.h"
#include "base/span.h"

struct key_select {
    struct span *keep, *skip; /* patterns of base/glob.h, within the lists they were parsed from */
    size_t n_keep, n_skip;
};

/* Lists such as "user:*,session:[0-9]*", which must live on; NULL: none. A comma within a pattern
 * is written \, and the backslash stays: to the pattern it means the same. ERR_USAGE. */
KH_MUST int key_select_parse(struct key_select *ret, const char *keep, const char *skip,
                             struct err *err);
void key_select_release(struct key_select *s); /* safe on zeroed */

static inline bool key_select_all(const struct key_select *s)
{
    return s->n_keep == 0 && s->n_skip == 0;
}

bool key_select_match(const struct key_select *s, struct span key);

/* Is the key taken? */
static inline bool key_selected(const struct key_select *s, struct span key)
{
    return KH_LIKELY(key_select_all(s)) || key_select_match(s, key);
}

#endif
