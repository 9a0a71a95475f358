// SPDX-License-Identifier: BSD-3-Clause
// What values of the snapshot had to leave behind.
#include "engine/losses.h"

#include "base/log.h"
#include "base/num.h"

static const char *const words[LOSSES_KINDS] = {
    "the expiry of hash fields",
    "counters of the stream (entries added, largest deleted id, or entries read by a group)",
    "when the stream's consumers were last active",
    "what the stream knows of idempotent producers",
    "that pending entries of the stream had no owner (a consumer keyhaul-nacked has them now)",
    "everything: it was not moved",
};

void losses_note(struct losses *l, unsigned bits, int64_t db, struct span key)
{
    char name[160];
    for (unsigned i = 0; i < LOSSES_KINDS; i++) {
        if (!(bits >> i & 1) || ++l->keys[i] > LOSSES_NAMED) continue;
        log_warn("key %s of database %lld: lost %s", num_quote(name, sizeof(name), key),
                 (long long)db, words[i]);
    }
}

void losses_tell(const struct losses *l, const char *target)
{
    for (unsigned i = 0; i < LOSSES_KINDS; i++)
        if (l->keys[i])
            log_warn("%s has no place for it: %llu key%s lost %s", target,
                     (unsigned long long)l->keys[i], l->keys[i] == 1 ? "" : "s", words[i]);
}
