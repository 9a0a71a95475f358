// SPDX-License-Identifier: BSD-3-Clause
// What the source says it has, and the target has no place for: known before anything is moved.
#include "check/check.h"

#include "base/num.h"

#include <stdio.h>

/* Hashes of selected databases with fields that expire. */
static uint64_t count_timed(const struct server_facts *source, const struct db_select *select)
{
    uint64_t n = 0;
    for (size_t i = 0; i < source->n_db; i++)
        if (db_select_target(select, source->db[i].db) >= 0) n += source->db[i].timed;
    return n;
}

static void list(char *out, size_t size, uint64_t timed, uint64_t libraries)
{
    char count[32];
    size_t n = 0;
    *out = 0;
    if (timed)
        n += (size_t)snprintf(out, size, "%s hash%s with fields that expire",
                              num_human_count(count, sizeof(count), timed), timed == 1 ? "" : "es");
    if (libraries)
        snprintf(out + n, size - n, "%s%s librar%s of functions", n ? ", " : "",
                 num_human_count(count, sizeof(count), libraries), libraries == 1 ? "y" : "ies");
}

int check_unsupported(const struct server_facts *source, const struct server_facts *target,
                      const struct task_config *cfg, struct check_notes *notes, struct err *err)
{
    char name[64], what[160];
    uint64_t timed = 0, libraries = 0;
    if (cfg->type == TASK_INCREMENTAL) return 0; /* keys that are not moved do not matter */
    if (!facts_has(target, FACTS_HASH_FIELD_TTL)) timed = count_timed(source, &cfg->select);
    if (!facts_has(target, FACTS_FUNCTIONS)) libraries = source->libraries;
    if (timed == 0 && libraries == 0) return 0;
    list(what, sizeof(what), timed, libraries);
    facts_name(name, sizeof(name), target);
    if (cfg->on_unsupported == TASK_UNSUPPORTED_FAIL && cfg->on_error == TASK_ON_ERROR_STOP)
        return err_set(err, ERR_REFUSED,
                       "source %s has %s: %s cannot hold that; choose --on-unsupported "
                       "degrade (keep what can be kept) or skip (leave the keys out)",
                       cfg->source.uri.shown, what, name);
    check_note(notes, "the source has %s, which %s cannot hold", what, name);
    return 0;
}
