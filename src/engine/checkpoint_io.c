// SPDX-License-Identifier: BSD-3-Clause
// Reading and writing the checkpoint by itself.
#include "engine/checkpoint_io.h"

#include "base/num.h"

#include <stdio.h>

int64_t checkpoint_db(const struct db_select *select)
{
    if (select->all && select->n_map == 0) return 0;
    int64_t lowest = -1;
    for (uint64_t db = 0; db < SELECT_DBS_MAX && lowest != 0; db++) {
        int64_t to = db_select_target(select, db);
        if (to >= 0 && (lowest < 0 || to < lowest)) lowest = to;
    }
    return lowest < 0 ? 0 : lowest;
}

static int refused(struct client *c, const char *command, struct reply *r, struct err *err)
{
    client_refused(c, command, r, err);
    reply_free(r);
    return err_wrap(err, "checkpoint");
}

/* One page of keys by their pattern: a renamed checkpoint, if there is one. *cursor: "0" at the
 * end. */
static int scan_page(struct client *c, const char *pattern, char cursor[24], struct buf *ret,
                     struct err *err)
{
    struct reply *r;
    if (client_call(c, &r, err, "SCAN", cursor, "MATCH", pattern, "COUNT", "10000", NULL) < 0)
        return -1;
    const struct reply *next = reply_at(r, 0), *keys = reply_at(r, 1);
    if (!next || !keys || !reply_has_text(next)) return refused(c, "SCAN", r, err);
    snprintf(cursor, 24, "%.*s", (int)next->str.n, (const char *)next->str.p);
    int rc = 0;
    if (keys->n && reply_has_text(&keys->item[0])) {
        buf_clear(ret);
        rc = buf_add(ret, keys->item[0].str.p, keys->item[0].str.n, err);
    }
    reply_free(r);
    return rc;
}

static int find_renamed(struct client *c, struct span key, struct buf *ret, struct err *err)
{
    char pattern[CHECKPOINT_KEY_MAX + 8], cursor[24] = "0";
    snprintf(pattern, sizeof(pattern), "%.*s:at:*", (int)key.n, (const char *)key.p);
    do {
        if (scan_page(c, pattern, cursor, ret, err) < 0) return -1;
    } while (ret->n == 0 && strcmp(cursor, "0") != 0);
    return 0;
}

int checkpoint_read(struct client *c, int64_t db, struct span key, struct checkpoint *ret,
                    struct buf *ret_name, struct err *err)
{
    struct reply *r;
    struct span argv[] = {span_str("GET"), key};
    *ret = (struct checkpoint){0};
    if (client_select(c, (uint64_t)db, err) < 0 || client_callv(c, &r, 2, argv, err) < 0) return -1;
    if (reply_is_error(r)) return refused(c, "GET", r, err);
    int rc = 0;
    if (reply_has_text(r))
        rc = checkpoint_parse(ret, r->str, err);
    else if (ret_name && find_renamed(c, key, ret_name, err) < 0)
        rc = -1;
    else if (ret_name && ret_name->n)
        rc = checkpoint_parse_name(ret, key, buf_span(ret_name), err);
    reply_free(r);
    return rc;
}

/* The first error among n replies, NULL well; the last reply (of EXEC) must be an array. */
static int take_transaction(struct client *c, unsigned n, struct err *err)
{
    struct err first = {0};
    for (unsigned i = 0; i < n; i++) {
        struct reply *r;
        if (client_recv(c, &r, err) < 0) return -1;
        const struct reply *bad = reply_is_error(r) ? r : NULL;
        for (size_t k = 0; !bad && k < r->n && r->type == REPLY_ARRAY; k++)
            if (reply_is_error(&r->item[k])) bad = &r->item[k];
        if (bad && first.code == ERR_NONE) client_refused(c, "SET", bad, &first);
        reply_free(r);
    }
    if (first.code == ERR_NONE) return 0;
    *err = first;
    return err_wrap(err, "checkpoint");
}

int checkpoint_write(struct client *c, int64_t db, struct span key, const struct checkpoint *cp,
                     struct span renamed, struct err *err)
{
    char value[CHECKPOINT_VALUE_MAX];
    struct span set[] = {span_str("SET"), key, span_of(value, checkpoint_put(value, cp))};
    struct span del[] = {span_str("DEL"), renamed};
    if (client_select(c, (uint64_t)db, err) < 0 || client_send(c, err, "MULTI", NULL) < 0 ||
        client_sendv(c, 3, set, err) < 0 || (renamed.n && client_sendv(c, 2, del, err) < 0) ||
        client_send(c, err, "EXEC", NULL) < 0)
        return -1;
    return take_transaction(c, renamed.n ? 4 : 3, err);
}

int checkpoint_remove(struct client *c, int64_t db, struct span key, struct err *err)
{
    struct reply *r;
    struct span argv[] = {span_str("DEL"), key};
    if (client_select(c, (uint64_t)db, err) < 0 || client_callv(c, &r, 2, argv, err) < 0) return -1;
    if (reply_is_error(r)) return refused(c, "DEL", r, err);
    reply_free(r);
    return 0;
}
