// SPDX-License-Identifier: BSD-3-Clause
// Reconciling libraries of functions: which the target has, which of them go, which come late.
#include "engine/reconcile.h"

#include "base/log.h"
#include "base/num.h"

struct span reconcile_library_name(struct span code)
{
    static const char word[] = "name=";
    const uint8_t *nl = code.n ? memchr(code.p, '\n', code.n) : NULL;
    struct span head = span_of(code.p, nl ? (size_t)(nl - code.p) : code.n);
    for (size_t i = 1; i + sizeof(word) - 1 < head.n; i++) {
        if (head.p[i - 1] != ' ' || !span_is(span_of(head.p + i, sizeof(word) - 1), word)) continue;
        const uint8_t *name = head.p + i + sizeof(word) - 1;
        size_t n = 0;
        for (size_t left = (size_t)(head.p + head.n - name); n < left && name[n] > ' '; n++)
            continue;
        return span_of(name, n);
    }
    return span_of(NULL, 0);
}

int reconcile_late_library(struct reconcile *rc, struct span code, struct err *err)
{
    uint32_t n = (uint32_t)code.n;
    if (code.n > RECONCILE_LATE_MAX)
        return err_set(err, ERR_LIMIT, "a library of functions of %zu bytes", code.n);
    if (buf_add(&rc->late, &n, sizeof(n), err) < 0) return -1;
    return buf_add(&rc->late, code.p, code.n, err);
}

int reconcile_is_foreign_library(const char *path, struct span code, struct err *err)
{
    struct keyset *k;
    int rc = path ? keyset_load(&k, path, err) : 1;
    if (rc != 0) return rc < 0 ? -1 : 0;
    rc = keyset_has(k, RECONCILE_LIBRARIES, reconcile_library_name(code), err);
    keyset_free(k);
    return rc;
}

/* --- what the target has --- */

/* The value behind "library_name"; NULL none. */
static const struct reply *name_of(const struct reply *library)
{
    for (size_t i = 0; library->type == REPLY_ARRAY && i + 1 < library->n; i += 2)
        if (reply_is(&library->item[i], "library_name") &&
            library->item[i + 1].type == REPLY_STRING)
            return &library->item[i + 1];
    return NULL;
}

/* FUNCTION LIST; *ret NULL: it has no functions, or does not tell. */
static int list(struct client *target, const struct server_facts *facts, struct reply **ret,
                struct err *err)
{
    char words[200];
    struct reply *r;
    *ret = NULL;
    if (!facts_has(facts, FACTS_FUNCTIONS)) return 0;
    if (client_call(target, &r, err, "FUNCTION", "LIST", NULL) < 0) return -1;
    if (r->type == REPLY_ARRAY) {
        *ret = r;
        return 0;
    }
    int rc = 0;
    if (reply_error_is(r, "NOPERM") || reply_error_is(r, "ERR"))
        log_warn("target: its libraries of functions cannot be listed (%s); those that the source "
                 "no longer has stay there",
                 reply_words(words, sizeof(words), r));
    else
        rc = client_refused(target, "FUNCTION LIST", r, err);
    reply_free(r);
    return rc;
}

/* What is done on each node. */
struct libraries {
    struct reconcile *rc;
    struct keyset *to;
    const struct server_facts *facts;
};

static int note_those_of(void *ctx, struct client *target, struct err *err)
{
    struct libraries *l = ctx;
    struct reply *libraries;
    if (list(target, l->facts, &libraries, err) < 0) return -1;
    int rc = 0;
    for (size_t i = 0; libraries && i < libraries->n && rc == 0; i++) {
        const struct reply *name = name_of(&libraries->item[i]);
        if (name) rc = keyset_add(l->to, RECONCILE_LIBRARIES, name->str, err);
    }
    reply_free(libraries);
    return rc;
}

int reconcile_note_libraries(struct keyset *to, const struct primaries *target,
                             const struct server_facts *facts, struct err *err)
{
    struct libraries l = {.to = to, .facts = facts};
    return primaries_each(target, note_those_of, &l, err);
}

/* --- those that go --- */

/* FUNCTION and one word, with no harm done when the target says no and `may_fail`. */
static int call(struct client *target, const char *verb, struct span arg, bool may_fail,
                struct err *err)
{
    struct span argv[] = {span_str("FUNCTION"), span_str(verb), span_str("REPLACE"), arg};
    bool load = strcmp(verb, "LOAD") == 0;
    struct reply *r;
    if (!load) argv[2] = arg;
    if (client_callv(target, &r, load ? 4 : 3, argv, err) < 0) return -1;
    int rc = 0;
    if (reply_is_error(r) && !(may_fail && reply_error_is(r, "ERR")))
        rc = client_refused(target, load ? "FUNCTION LOAD" : "FUNCTION DELETE", r, err);
    reply_free(r);
    return rc;
}

static int sweep_one(struct reconcile *rc, struct client *target, struct span name, struct err *err)
{
    char shown[160];
    int known = keyset_has(rc->seen, RECONCILE_LIBRARIES, name, err);
    if (known == 0) known = reconcile_existed(rc, RECONCILE_LIBRARIES, name, err);
    if (known != 0) return known < 0 ? -1 : 0;
    if (call(target, "DELETE", name, true, err) < 0) return -1;
    log_info("library %s deleted on the target: the new snapshot does not have it",
             num_quote(shown, sizeof(shown), name));
    return 0;
}

/* --- those that come late --- */

static bool next_late(const struct reconcile *rc, size_t *at, struct span *ret)
{
    uint32_t n;
    if (*at >= rc->late.n) return false;
    memcpy(&n, rc->late.p + *at, sizeof(n));
    *ret = span_of(rc->late.p + *at + sizeof(n), n);
    *at += sizeof(n) + n;
    return true;
}

/* All that is to go has gone, and those that came in time are new: what stands in the way now are
 * only their own old selves, whose functions have changed places. */
static int load_late(void *ctx, struct client *target, struct err *err)
{
    const struct reconcile *rc = ((struct libraries *)ctx)->rc;
    struct span code;
    for (size_t at = 0; next_late(rc, &at, &code);)
        if (call(target, "DELETE", reconcile_library_name(code), true, err) < 0) return -1;
    for (size_t at = 0; next_late(rc, &at, &code);)
        if (call(target, "LOAD", code, false, err) < 0) return -1;
    return 0;
}

static int sweep_those_of(void *ctx, struct client *target, struct err *err)
{
    struct reconcile *rc = ((struct libraries *)ctx)->rc;
    struct reply *libraries;
    int done = 0;
    if (list(target, ((struct libraries *)ctx)->facts, &libraries, err) < 0) return -1;
    if (libraries && libraries->n && rc->unclear)
        log_warn("a library of the source has no name that could be read: none is deleted on the "
                 "target");
    for (size_t i = 0; libraries && !rc->unclear && i < libraries->n && done == 0; i++) {
        const struct reply *name = name_of(&libraries->item[i]);
        if (name) done = sweep_one(rc, target, name->str, err);
    }
    reply_free(libraries);
    return done;
}

int reconcile_sweep_libraries(struct reconcile *rc, const struct primaries *target,
                              const struct server_facts *facts, struct err *err)
{
    struct libraries l = {.rc = rc, .facts = facts};
    struct span code;
    /* One shard of the source does not know what the others have. */
    if (!target->slots && primaries_each(target, sweep_those_of, &l, err) < 0) return -1;
    if (primaries_each(target, load_late, &l, err) < 0) return -1;
    for (size_t at = 0; next_late(rc, &at, &code);)
        counter_add(&rc->counters->functions_written, 1);
    buf_clear(&rc->late);
    return 0;
}
