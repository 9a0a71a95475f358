// SPDX-License-Identifier: BSD-3-Clause
// What to make of a target's "no".
#include "engine/refuse.h"

#include "base/log.h"
#include "base/num.h"

#include <stdio.h>

/* First words of errors that are about the moment, not about the command (formats 4). */
static const char *const passing[] = {"OOM",     "READONLY", "LOADING",     "MASTERDOWN",
                                      "BUSY",    "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS",
                                      "MISCONF", "INPROG",   "UNBLOCKED",   "NOMASTERLINK"};

static bool starts_with_word(const char *line, const char *word)
{
    size_t n = strlen(word);
    return strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == 0);
}

/* The words that count, of an error that wraps another. */
static const char *reason(const char *line)
{
    const char *inner = NULL;
    if (starts_with_word(line, "EXECABORT")) {
        inner = strstr(line, "because of: ");
        return inner ? inner + strlen("because of: ") : line;
    }
    /* Of a script, before 7.0: "ERR Error running script (call to f_...): ...: -OOM command not
     * ...". It is about the script's first write, so nothing has been written. */
    inner = strstr(line, "running script") ? strstr(line, ": -") : NULL;
    return inner ? inner + strlen(": -") : line;
}

enum refusal refusal_classify(const char *line)
{
    if (starts_with_word(line, "BUSYKEY") || strstr(line, "Target key name is busy"))
        return REFUSAL_EXISTS;
    line = reason(line);
    /* EXEC of Redis before 6.0 to one that was made a replica since MULTI. */
    if (strstr(line, "instance is now a read-only")) return REFUSAL_TRANSIENT;
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        if (starts_with_word(line, passing[i])) return REFUSAL_TRANSIENT;
    return REFUSAL_HARD;
}

bool refusal_is_redirect(const char *line)
{
    static const char *const words[] = {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"};
    line = reason(line);
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (starts_with_word(line, words[i])) return true;
    return false;
}

bool refusal_is_oom(const char *line)
{
    return starts_with_word(reason(line), "OOM");
}

/* Of a library that is there already, as for those of a snapshot. */
static const char *advice(const char *line)
{
    return starts_with_word(line, "ERR Library") && strstr(line, "already exists")
               ? "choose --on-conflict overwrite, or delete it"
               : "mend it and start again, or go on past such errors with --on-error continue";
}

int refusals_report(struct refusals *r, int64_t db, struct span key, const char *cmd,
                    const char *line, struct err *err)
{
    char name[160], where[240] = "";
    if (r->shard && strcasecmp(cmd, "FUNCTION") == 0 && strstr(line, "Library not found")) return 0;
    num_quote(name, sizeof(name), key);
    if (db >= 0)
        snprintf(where, sizeof(where), " (database %lld%s%s)", (long long)db, key.n ? ", key " : "",
                 key.n ? name : "");
    r->count++;
    counter_add(&r->counters->errors, 1);
    if (db >= 0) counter_add(&r->counters->db[counters_db((uint64_t)db)].errors, 1);
    if (r->policy == TASK_ON_ERROR_CONTINUE) {
        r->missing++;
        log_error("target refused %s%s: %s", cmd, where, line);
        return 0;
    }
    return err_set(err, ERR_TARGET, "target refused %s%s: %s; %s", cmd, where, line, advice(line));
}

int refusals_unsupported(struct refusals *r, const struct refused_key *k, const char *what,
                         const char *words, struct err *err)
{
    char hint[400];
    if (r->on_unsupported != TASK_UNSUPPORTED_FAIL) {
        losses_note(&r->losses, LOSSES_WHOLE, k->source_db, k->key);
        counter_add(&r->counters->keys_unsupported, 1);
        return 0;
    }
    snprintf(hint, sizeof(hint), "%s (--on-unsupported skip or degrade goes on)", words);
    return refusals_report(r, k->db, k->key, what, hint, err);
}

int refusals_restore(struct refusals *r, const struct refused_key *k, bool module, const char *line,
                     struct err *err)
{
    char words[300];
    /* What servers say of a broken value, and of one whose module they lack or have older. */
    if (!module || !strstr(line, "Bad data format"))
        return refusals_report(r, k->db, k->key, "a key of the snapshot", line, err);
    snprintf(words, sizeof(words), "%s: it lacks the module, or has an older one", line);
    return refusals_unsupported(r, k, "a module's value", words, err);
}
