// SPDX-License-Identifier: BSD-3-Clause
// The fan: commands without keys. Functions and scripts go to every primary, messages to one.
#include "engine/fan_impl.h"

#include "base/log.h"

#include <stdio.h>

int fan_call_nodes(struct fan *f, struct err *err)
{
    for (unsigned i = 0; i < f->n; i++) {
        struct fan_node *node = f->nodes[i];
        struct lane_part part = {.store = &node->out};
        if (node->replies == 0) continue;
        if (lane_call_begin(&node->lane, &part, 1, node->replies, err) == 0) continue;
        if (node->lane.lost) fan_lose(f, node->lane.lost);
        return -1;
    }
    for (unsigned i = 0; i < f->n; i++)
        if (f->nodes[i]->replies && lane_call_wait(&f->nodes[i]->lane, err) < 0) return -1;
    return 0;
}

/* --- primaries without slots --- */

/* It may be away, and nothing depends on it. */
static void to_spare(struct fan *f, uint16_t at, const struct fan_cmd *c)
{
    struct client *to;
    struct reply *r;
    struct err why;
    int rc = cluster_client(f->cluster, at, &to, &why);
    if (rc == 0) {
        client_while_waiting(to, f->lane_config.step, f->lane_config.step_ctx);
        rc = client_callv(to, &r, c->argc, c->argv, &why);
        client_while_waiting(to, NULL, NULL);
    }
    if (rc == 0)
        reply_free(r);
    else
        log_debug("%s", why.msg);
}

/* They may get slots, and have no lane yet. */
static int to_spares(struct fan *f, const struct fan_cmd *c, struct err *err)
{
    const struct cluster_map *m = cluster_map(f->cluster);
    for (uint16_t i = 0; i < m->n; i++) {
        const struct cluster_node *n = &m->node[i];
        if (!n->primary || n->slots || n->failed || n->suspected || n->handshake || !n->linked)
            continue;
        to_spare(f, i, c);
        if (f->lost)
            return err_set(err, ERR_BUSY, "target: a node was lost while others were asked");
    }
    return 0;
}

/* --- to all, or to one --- */

struct round {
    bool done[FAN_NODES_MAX];
    char passing[RESP_ERROR_MAX], refused[RESP_ERROR_MAX]; /* "" none */
};

static int put_all(struct fan *f, struct batch *b, const struct fan_cmd *c, struct round *r,
                   struct err *err)
{
    struct fan_piece all = {.from = c->from, .to = c->to};
    for (unsigned i = 0; i < f->n; i++) {
        struct fan_node *node = f->nodes[i];
        node->replies = node->marking = 0;
        store_clear(&node->out);
        buf_clear(&node->order);
        if (!node->used || r->done[i]) continue;
        if (fan_copy_piece(f->stream, b, &all, &node->out, err) < 0) return -1;
        node->replies = 1;
    }
    return 0;
}

static void judge_all(struct fan *f, struct round *r)
{
    r->passing[0] = 0;
    for (unsigned i = 0; i < f->n; i++) {
        const struct resp_reply *reply = &f->nodes[i]->lane.outcome.last;
        if (f->nodes[i]->replies == 0) continue;
        bool passing = reply->type == '-' && fan_is_passing(reply->line);
        r->done[i] = !passing;
        if (reply->type == '-')
            memcpy(passing ? r->passing : r->refused, reply->line, RESP_ERROR_MAX);
    }
}

static int to_nodes(struct fan *f, struct batch *b, const struct fan_cmd *c, struct round *r,
                    struct err *err)
{
    for (;;) {
        if (put_all(f, b, c, r, err) < 0 || fan_call_nodes(f, err) < 0) return -1;
        judge_all(f, r);
        if (!r->passing[0]) break;
        counter_add(&f->lane_config.counters->retries, 1);
        if (fan_wait(f, r->passing, err) < 0) return -1;
    }
    fan_recovered(f);
    for (unsigned i = 0; i < f->n; i++)
        f->nodes[i]->replies = 0;
    if (!r->refused[0]) return 0;
    /* Loaded, or deleted, by the run before; the others may not have got it yet. */
    bool is_so = strstr(r->refused, "already exists") || strstr(r->refused, "not found");
    if (is_so && c->when.offset <= f->stream->tolerate) {
        log_debug("passed over in a stretch that is sent again: %s", r->refused);
        return 0;
    }
    return fan_cross_refuse(f, c, span_of(NULL, 0), r->refused, err);
}

static bool at_hand(const struct fan_cmd *c)
{
    for (size_t i = 0; i < c->argc; i++)
        if (!c->argv[i].p) return false;
    return true;
}

int fan_cross_nodes(struct fan *f, struct batch *b, const struct fan_cmd *c, struct err *err)
{
    struct round r = {0};
    const char *name = c->info ? c->info->name : "";
    if (!strcmp(name, "FLUSHDB") || !strcmp(name, "FLUSHALL")) return fan_cross_flush(f, b, c, err);
    if (!strcmp(name, "PUBLISH")) { /* the nodes tell each other */
        for (unsigned i = 0; i < f->n; i++)
            r.done[i] = i != f->node_of[0];
        return to_nodes(f, b, c, &r, err);
    }
    if (to_nodes(f, b, c, &r, err) < 0) return -1;
    return at_hand(c) ? to_spares(f, c, err) : 0;
}
