// SPDX-License-Identifier: BSD-3-Clause
// The fan: FLUSHDB. Every node is emptied, and nothing that comes after it is sent before all know
// that all have been (docs/decisions/0004):
//
//   each node   MULTI  FLUSHDB  SET <mark> ..  EXEC     so that no node is ever without a mark
//   all keys    SCAN, DEL of those that were on their way from a node to another meanwhile
//   each node   SET <mark> .. with this offset as the FLUSHDB that all have had
//
// The main checkpoint is written again in the transaction of the node that has it. (Of a source
// that is a shard of a cluster FLUSHDB does not come here: replay_shard.c.)
#include "engine/fan_impl.h"

#include "redis/primaries.h"
#include "redis/scan.h"

#include <stdio.h>

#define MAIN_MAX 4096 /* of the main checkpoint */

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
static const char exec[] = "*1\r\n$4\r\nEXEC\r\n";

struct flush {
    struct fan *f;
    struct batch *b;
    const struct fan_cmd *c;
    struct span main_key;
    uint16_t main_slot;
    struct buf main; /* its value; empty: it is not there */
    bool done[FAN_NODES_MAX];
    bool bare[FAN_NODES_MAX]; /* no memory for a mark, before all is gone */
    char passing[RESP_ERROR_MAX], refused[RESP_ERROR_MAX]; /* "" none */
};

/* --- the main checkpoint --- */

static void take_main(void *ctx, const uint8_t *p, size_t n)
{
    struct flush *x = ctx;
    struct err too_long;
    if (buf_add(&x->main, p, n, &too_long) < 0) buf_clear(&x->main);
}

/* Marks are called <its key>:<load>:{<tag>} */
static int read_main(struct flush *x, struct err *err)
{
    const char *prefix = x->f->stream->place->prefix;
    size_t n = strlen(prefix);
    const struct resp_reply *r;
    if (n > 0) n--;
    while (n > 0 && prefix[n - 1] != ':')
        n--;
    x->main_key = span_of(prefix, n > 0 ? n - 1 : 0);
    x->main_slot = slot_of(x->main_key);
    struct span get[] = {span_str("GET"), x->main_key};
    return fan_ask(x->f, x->main_slot, 2, get, take_main, x, &r, err);
}

/* --- emptying nodes --- */

static bool has_had(const struct flush *x, uint16_t slot)
{
    return x->c->when.offset <= x->f->stream->slots[slot].o;
}

/* Some of its slots have been emptied, and more has come into them: they were moved here from
 * another node. The others are emptied key by key. */
static bool is_mixed(const struct flush *x, unsigned node)
{
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (x->f->node_of[slot] == node && has_had(x, (uint16_t)slot)) return true;
    return false;
}

static int put_cmd(struct fan_node *node, size_t argc, const struct span *argv, struct err *err)
{
    struct buf b;
    buf_init(&b, 2 * MAIN_MAX);
    int rc = resp_put_cmd(&b, argc, argv, err);
    if (rc == 0) rc = store_add(&node->out, b.p, b.n, err);
    buf_release(&b);
    node->replies++;
    return rc;
}

static int put_text(struct fan_node *node, const char *text, size_t n, struct err *err)
{
    node->replies++;
    return store_add(&node->out, text, n, err);
}

static int put_node(struct flush *x, unsigned i, struct err *err)
{
    struct fan_node *node = x->f->nodes[i];
    bool has_main = x->f->node_of[x->main_slot] == i;
    /* For a while it is the only mark of the node: not where slots move away first. */
    uint16_t slot = has_main ? x->main_slot : node->mark_slot[FAN_MARKS / 2];
    struct span set[] = {span_str("SET"), x->main_key, buf_span(&x->main)};
    if (!x->bare[i] && put_text(node, multi, sizeof(multi) - 1, err) < 0) return -1;
    if (put_cmd(node, x->c->argc, x->c->argv, err) < 0) return -1;
    if (has_main && x->main.n && put_cmd(node, 3, set, err) < 0) return -1;
    node->replies++;
    if (fan_put_mark(x->f, node, slot, x->f->stream->slots[slot].o, err) < 0) return -1;
    return x->bare[i] ? 0 : put_text(node, exec, sizeof(exec) - 1, err);
}

static int put_all(struct flush *x, struct err *err)
{
    for (unsigned i = 0; i < x->f->n; i++) {
        struct fan_node *node = x->f->nodes[i];
        node->replies = node->marking = 0;
        store_clear(&node->out);
        buf_clear(&node->order);
        if (!node->used || x->done[i]) continue;
        x->done[i] = node->flushed >= x->c->when.offset || is_mixed(x, i);
        if (!x->done[i] && put_node(x, i, err) < 0) return -1;
    }
    return 0;
}

static void judge_node(struct flush *x, unsigned i)
{
    struct lane_error e;
    size_t at = 0;
    const char *line;
    bool passing = false;
    while ((line = lane_outcome_next(&x->f->nodes[i]->lane.outcome, &at, &e)) != NULL) {
        /* Refused for want of memory, of which there will be plenty. */
        if (refusal_is_oom(line)) x->bare[i] = true;
        passing |= fan_is_passing(line);
        if (strncmp(line, "EXECABORT", 9) == 0 && !fan_is_passing(line)) continue;
        snprintf(fan_is_passing(line) ? x->passing : x->refused, RESP_ERROR_MAX, "%s", line);
    }
    x->done[i] = !passing;
}

static int empty_nodes(struct flush *x, struct err *err)
{
    for (;;) {
        x->passing[0] = 0;
        if (put_all(x, err) < 0 || fan_call_nodes(x->f, err) < 0) return -1;
        for (unsigned i = 0; i < x->f->n; i++)
            if (x->f->nodes[i]->replies) judge_node(x, i);
        if (!x->passing[0]) break;
        counter_add(&x->f->lane_config.counters->retries, 1);
        if (fan_wait(x->f, x->passing, err) < 0) return -1;
    }
    for (unsigned i = 0; i < x->f->n; i++)
        x->f->nodes[i]->replies = 0;
    fan_recovered(x->f);
    return 0;
}

/* --- what was on its way --- */

static bool is_left(const struct flush *x, const struct walk *w, struct span key)
{
    uint16_t slot = slot_of(key);
    return walk_wants(w, key) && !checkpoint_is_key(key) && !has_had(x, slot);
}

static int delete_page(struct flush *x, struct walk *w, struct client *c, const struct reply *keys,
                       struct err *err)
{
    for (size_t i = 0; i < keys->n; i++) {
        struct span del[] = {span_str("DEL"), keys->item[i].str};
        if (is_left(x, w, del[1]) && client_sendv(c, 2, del, err) < 0) return -1;
    }
    for (size_t i = 0; i < keys->n; i++) {
        struct reply *r;
        struct span key = keys->item[i].str;
        if (!is_left(x, w, key)) continue;
        if (client_recv(c, &r, err) < 0) return -1;
        bool redirected = primaries_redirects(r);
        int rc = reply_is_error(r) && !redirected ? client_refused(c, "DEL", r, err) : 0;
        reply_free(r);
        if (rc < 0) return -1;
        if (redirected) walk_again(w, slot_of(key));
    }
    return 0;
}

static int delete_node(struct flush *x, struct walk *w, struct client *c, struct err *err)
{
    struct scan scan;
    const struct reply *keys;
    int rc = client_select(c, 0, err);
    if (rc < 0) return -1;
    scan_begin(&scan, c, NULL);
    while ((rc = scan_page(&scan, &keys, err)) == 1)
        if ((rc = delete_page(x, w, c, keys, err)) < 0) break;
    scan_end(&scan);
    return rc;
}

static int delete_left(struct flush *x, struct err *err)
{
    const struct lane_config *l = &x->f->lane_config;
    struct primaries all = {.cluster = x->f->cluster};
    struct walk w = {0};
    struct client *c;
    int rc = walk_begin(&w, &all, err);
    while (rc == 0 && (rc = walk_wait_next(&w, &c, l->step, l->step_ctx, err)) == WALK_NODE) {
        client_while_waiting(c, l->step, l->step_ctx);
        rc = delete_node(x, &w, c, err);
        client_while_waiting(c, NULL, NULL);
    }
    walk_end(&w);
    return rc;
}

static int delete_patiently(struct flush *x, struct err *err)
{
    struct fan *f = x->f;
    for (;;) {
        struct err why;
        bool moved;
        if (delete_left(x, &why) == 0) return 0;
        bool passes = err_class(why.code) == ERR_CLASS_TRANSIENT;
        if (!passes || f->lost || f->pause->gave_up || *f->lane_config.stop) {
            *err = why;
            return -1;
        }
        if (lane_pause(f->pause, why.msg, err) < 0 || fan_look(f, &moved, err) < 0) return -1;
    }
}

/* --- all of it --- */

static void note_flushed(struct fan *f, uint64_t offset)
{
    struct fan_stream *s = f->stream;
    s->flushed = offset;
    for (unsigned i = 0; i < f->n; i++)
        if (f->nodes[i]->flushed < offset) f->nodes[i]->flushed = offset;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (s->slots[slot].o < offset) s->slots[slot].o = offset;
}

static bool all_have_had(const struct flush *x)
{
    for (unsigned i = 0; i < x->f->n; i++)
        if (x->f->nodes[i]->used && x->f->nodes[i]->flushed < x->c->when.offset) return false;
    return true;
}

static int flush_all(struct flush *x, struct err *err)
{
    bool moved;
    if (read_main(x, err) < 0 || empty_nodes(x, err) < 0) return -1;
    if (x->refused[0]) return fan_cross_refuse(x->f, x->c, span_of(NULL, 0), x->refused, err);
    if (delete_patiently(x, err) < 0 || fan_look(x->f, &moved, err) < 0) return -1;
    fan_recovered(x->f);
    note_flushed(x->f, x->c->when.offset);
    return fan_tell(x->f, err);
}

int fan_cross_flush(struct fan *f, struct batch *b, const struct fan_cmd *c, struct err *err)
{
    struct flush x = {.f = f, .b = b, .c = c};
    buf_init(&x.main, MAIN_MAX);
    int rc = all_have_had(&x) ? 0 : flush_all(&x, err);
    buf_release(&x.main);
    return rc;
}
