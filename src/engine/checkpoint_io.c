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

int checkpoint_read(struct client *c, int64_t db, struct span key, struct checkpoint *ret,
                    struct err *err)
{
    struct reply *r;
    struct span argv[] = {span_str("GET"), key};
    *ret = (struct checkpoint){0};
    if (client_select(c, (uint64_t)db, err) < 0 || client_callv(c, &r, 2, argv, err) < 0) return -1;
    if (reply_is_error(r)) return refused(c, "GET", r, err);
    int rc = 0;
    if (reply_has_text(r)) rc = checkpoint_parse(ret, r->str, err);
    reply_free(r);
    return rc;
}

int checkpoint_write(struct client *c, int64_t db, struct span key, const struct checkpoint *cp,
                     struct err *err)
{
    char value[CHECKPOINT_VALUE_MAX];
    struct reply *r;
    struct span argv[] = {span_str("SET"), key, span_of(value, checkpoint_put(value, cp))};
    if (client_select(c, (uint64_t)db, err) < 0 || client_callv(c, &r, 3, argv, err) < 0) return -1;
    if (reply_is_error(r)) return refused(c, "SET", r, err);
    reply_free(r);
    return 0;
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
