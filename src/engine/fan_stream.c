// SPDX-License-Identifier: BSD-3-Clause
// The fan: batches of the stream, group by group, until all of it is applied.
#include "engine/fan_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#define TELL_MS    1000 /* so often nodes are told how far all are */
#define PIECES_MAX (256u << 20)
#define EXTRA_MAX  (64u << 20)
#define NAME_BYTES 97

static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
static const char exec[] = "*1\r\n$4\r\nEXEC\r\n";

/* --- life --- */

/* What commands have read, since a place that tells what may have been applied before. */
static int open_inputs(struct fan *f, struct err *err)
{
    struct fan_stream *s = f->stream;
    char load[FAN_LOAD_MAX];
    struct inputs_config cfg = {.dir = f->inputs_dir,
                                .load = load,
                                .since = s->place->w > s->tolerate ? s->place->w : s->tolerate,
                                .max_bytes = f->store_max_bytes};
    fan_place_load(s->place, load);
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        if (s->slots[slot].o > cfg.since) cfg.since = s->slots[slot].o;
    return inputs_open(&s->inputs, &cfg, err);
}

void fan_forget(struct fan *f)
{
    if (!f->stream) return;
    inputs_discard(f->stream->inputs);
    f->stream->inputs = NULL;
}

int fan_begin_stream(struct fan *f, struct fan_place *place, uint64_t tolerate, struct err *err)
{
    struct fan_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        fan_place_free(place);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    fan_stream_free(f->stream);
    f->stream = s;
    /* A task that is to stop finishes what is in flight, and may have to ask for the map. */
    cluster_stop_by(f->cluster, NULL);
    s->place = place;
    s->tolerate = tolerate;
    s->joined = true;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        s->slots[slot].o = place->o[slot];
    for (unsigned i = 0; i < f->n; i++) {
        f->nodes[i]->flushed = 0;
        for (unsigned k = 0; k < place->n_flushed; k++)
            if (strcmp(place->flushed[k].id, f->nodes[i]->id) == 0)
                f->nodes[i]->flushed = place->flushed[k].offset;
    }
    buf_init(&s->pieces, PIECES_MAX);
    buf_init(&s->groups, PIECES_MAX);
    buf_init(&s->extra, EXTRA_MAX);
    buf_init(&s->argv, PIECES_MAX);
    buf_init(&s->index, PIECES_MAX);
    buf_init(&s->text, EXTRA_MAX);
    return open_inputs(f, err);
}

void fan_stream_free(struct fan_stream *s)
{
    if (!s) return;
    fan_place_free(s->place);
    inputs_close(s->inputs);
    buf_release(&s->pieces);
    buf_release(&s->groups);
    buf_release(&s->extra);
    buf_release(&s->argv);
    buf_release(&s->index);
    buf_release(&s->text);
    free(s);
}

void fan_stream_joined(struct fan_stream *s)
{
    s->joined = true;
}

uint64_t fan_slot_applied(const struct fan *f, uint16_t slot)
{
    return f->stream ? f->stream->slots[slot].o : 0;
}

uint64_t fan_told(const struct fan *f)
{
    return f->stream ? f->stream->told_w : 0;
}

/* --- sending --- */

/* All that the marks which a node gets now have in common. */
static void note_rest(const struct fan *f, struct fan_node *node)
{
    struct fan_stream *s = f->stream;
    struct fan_mark m = {.w = s->place->w,
                         .f = node->flushed > s->flushed ? node->flushed : s->flushed,
                         .d = s->place->db};
    node->mark_rest_n = fan_mark_put_rest(node->mark_rest, &m);
}

static int put_mark(const struct fan *f, struct fan_node *node, uint16_t slot, uint64_t o,
                    struct err *err)
{
    uint8_t set[FAN_SET_MAX];
    struct span rest = span_of(node->mark_rest, node->mark_rest_n);
    return store_put(&node->out, set, fan_mark_set(set, f->stream->place, slot, o, rest), err);
}

int fan_put_mark(struct fan *f, struct fan_node *node, uint16_t slot, uint64_t o, struct err *err)
{
    note_rest(f, node);
    return put_mark(f, node, slot, o, err);
}

static int put_group(struct fan *f, const struct batch *b, uint32_t at, struct err *err)
{
    struct fan_stream *s = f->stream;
    struct fan_group *g = fan_group(s, at);
    struct fan_node *node = fan_node_of(f, g->slot);
    g->reply_at = node->replies;
    g->replies = g->n;
    if (!g->bare && store_put(&node->out, multi, sizeof(multi) - 1, err) < 0) return -1;
    for (uint32_t i = g->first; i != FAN_NONE; i = fan_piece(s, i)->next) {
        const struct fan_piece *p = fan_piece(s, i);
        if (!p->dropped && fan_put_piece(s, b, p, &node->out, err) < 0) return -1;
    }
    if (!g->bare) {
        if (put_mark(f, node, g->slot, g->offset, err) < 0 ||
            store_put(&node->out, exec, sizeof(exec) - 1, err) < 0)
            return -1;
        g->replies += 3;
    }
    node->replies += g->replies;
    uint32_t *order = buf_more(&node->order, sizeof(at), err);
    if (!order) return -1;
    *order = at;
    return 0;
}

/* Before anything else that a node gets. */
static int put_marks(struct fan *f, struct err *err)
{
    for (unsigned i = 0; i < f->n; i++) {
        struct fan_node *node = f->nodes[i];
        if (!node->used) continue;
        for (unsigned k = 0; k < FAN_MARKS; k++) {
            uint16_t slot = node->mark_slot[k];
            if (k && slot == node->mark_slot[k - 1]) continue;
            if (put_mark(f, node, slot, f->stream->slots[slot].o, err) < 0) return -1;
            node->marking++;
            node->replies++;
        }
    }
    f->stream->w_sent = f->stream->place->w;
    f->stream->told_ms = clock_mono_ms();
    f->stream->joined = false;
    return 0;
}

static int begin_calls(struct fan *f, struct err *err)
{
    for (unsigned i = 0; i < f->n; i++) {
        struct fan_node *node = f->nodes[i];
        struct lane_part part = {.store = &node->out};
        if (node->replies == 0) continue;
        if (lane_call_begin(&node->lane, &part, 1, node->replies, err) == 0) continue;
        if (node->lane.lost) fan_lose(f, node->lane.lost);
        return -1;
    }
    return 0;
}

/* All groups that are not done yet, and the marks when it is time. */
static int send_groups(struct fan *f, const struct batch *b, bool tell, struct err *err)
{
    struct fan_stream *s = f->stream;
    for (unsigned i = 0; i < f->n; i++) {
        store_clear(&f->nodes[i]->out);
        buf_clear(&f->nodes[i]->order);
        f->nodes[i]->replies = 0;
        f->nodes[i]->marking = 0;
        note_rest(f, f->nodes[i]);
    }
    if ((tell || s->joined || clock_mono_ms() - s->told_ms >= TELL_MS) && put_marks(f, err) < 0)
        return -1;
    for (uint32_t i = 0; i < fan_groups(s); i++) {
        struct fan_group *g = fan_group(s, i);
        if (g->n == 0) g->done = true;
        if (!g->done && put_group(f, b, i, err) < 0) return -1;
    }
    return begin_calls(f, err);
}

static bool lane_answered(const struct fan_node *n)
{
    return n->replies == 0 || n->lane.outcome.seen >= n->lane.outcome.due;
}

bool fan_answered(const struct fan *f)
{
    for (unsigned i = 0; i < f->n; i++)
        if (!lane_answered(f->nodes[i])) return false;
    return true;
}

static int wait_all(struct fan *f, struct err *err)
{
    while (!fan_answered(f))
        if (f->lane_config.step(f->lane_config.step_ctx, 100, err) < 0) return -1;
    for (unsigned i = 0; i < f->n; i++)
        if (f->nodes[i]->replies && lane_call_wait(&f->nodes[i]->lane, err) < 0) return -1;
    return 0;
}

/* --- judging --- */

struct judge {
    struct fan *f;
    struct batch *b;
    struct fan_node *node;
    size_t at; /* of the errors of its lane */
    struct lane_error e;
    const char *line;
    bool again;               /* some have to be sent again ... */
    char why[RESP_ERROR_MAX]; /* ... because of this, empty: at once */
    bool redirect;            /* it tells to go elsewhere */
    bool told;                /* every node has taken its mark */
};

static void next_error(struct judge *j)
{
    j->line = lane_outcome_next(&j->node->lane.outcome, &j->at, &j->e);
}

static void passing(struct judge *j, const char *line)
{
    bool redirect = fan_is_redirect(line);
    j->again = true;
    if (j->why[0] && !(redirect && !j->redirect)) return;
    j->redirect = redirect;
    snprintf(j->why, sizeof(j->why), "%s", line);
}

/* The i-th of the pieces that were sent. */
static struct fan_piece *piece_at(struct fan_stream *s, const struct fan_group *g, uint64_t i)
{
    for (uint32_t at = g->first; at != FAN_NONE; at = fan_piece(s, at)->next)
        if (!fan_piece(s, at)->dropped && i-- == 0) return fan_piece(s, at);
    return NULL;
}

static int report(struct judge *j, const struct fan_group *g, struct fan_piece *p, struct err *err)
{
    char name[NAME_BYTES];
    uint8_t key[NAME_BYTES];
    size_t key_n;
    /* It was applied before, and what came after it is there already: it will be again. */
    if (p->again && g->offset <= j->f->stream->tolerate && strncmp(j->line, "WRONGTYPE", 9) == 0) {
        log_debug("passed over in a stretch that is sent again: %s", j->line);
        return 0;
    }
    fan_name_piece(j->f->stream, j->b, p, name, sizeof(name), key, &key_n);
    struct refusals *r = j->f->lane_config.refusals;
    if (refusals_report(r, 0, span_of(key, key_n), name, j->line, err) == 0) return 0;
    if (j->e.nested >= 0) r->missing++; /* the others ran, and the mark is beyond it */
    return -1;
}

/* Each error of a group that goes bare is of one command. */
static int judge_bare(struct judge *j, struct fan_group *g, struct err *err)
{
    bool again = false;
    uint64_t dropped = 0, from = g->reply_at;
    for (; j->line && j->e.reply < from + g->replies; next_error(j)) {
        if (fan_is_passing(j->line)) {
            passing(j, j->line);
            again = true;
            continue;
        }
        struct fan_piece *p = piece_at(j->f->stream, g, j->e.reply - from - dropped);
        if (!p) return err_set(err, ERR_INTERNAL, "a reply to nothing that was asked");
        if (report(j, g, p, err) < 0) return -1;
        p->dropped = true;
        dropped++;
    }
    g->n -= (uint32_t)dropped;
    g->done = !again;
    return 0;
}

static int no_multi(const struct judge *j, const char *line, struct err *err)
{
    fan_lose(j->f, LANE_TORN);
    return err_set(err, ERR_TARGET,
                   "target: MULTI was refused (%s), what came after it may have been applied one "
                   "by one",
                   line);
}

struct verdict { /* on a group that went as MULTI ... EXEC */
    bool passing, not_run;
    uint64_t errors;
    uint32_t dropped;
    char exec[RESP_ERROR_MAX];
};

static int judge_command(struct judge *j, struct fan_group *g, struct verdict *v, uint64_t i,
                         struct err *err)
{
    struct fan_piece *p = piece_at(j->f->stream, g, i);
    if (!p) /* behind the last of them stands the mark */
        return err_set(err, ERR_TARGET, "target: a checkpoint was refused: %s", j->line);
    if (report(j, g, p, err) < 0) return -1;
    if (j->e.nested >= 0) return 0; /* it ran, and failed */
    p->dropped = true;
    v->dropped++;
    return 0;
}

/* All that the node said of this group. */
static int judge_lines(struct judge *j, struct fan_group *g, struct verdict *v, struct err *err)
{
    uint64_t from = g->reply_at, last = from + g->replies - 1;
    for (; j->line && j->e.reply <= last; next_error(j)) {
        v->errors += j->e.nested < 0;
        if (j->e.nested < 0 && fan_is_passing(j->line)) {
            passing(j, j->line);
            v->passing = true;
        } else if (j->e.reply == last && j->e.nested < 0) {
            v->not_run = true;
            snprintf(v->exec, sizeof(v->exec), "%s", j->line);
        } else if (j->e.reply == from) {
            return no_multi(j, j->line, err);
        } else {
            uint64_t i = j->e.nested >= 0 ? (uint64_t)j->e.nested
                                          : j->e.reply - from - 1 - v->dropped;
            if (!v->passing && judge_command(j, g, v, i, err) < 0) return -1;
        }
    }
    return 0;
}

static int judge_multi(struct judge *j, struct fan_group *g, struct err *err)
{
    struct verdict v = {0};
    bool multi_refused = j->line && j->e.reply == g->reply_at;
    if (judge_lines(j, g, &v, err) < 0) return -1;
    g->n -= v.dropped;
    if (multi_refused && v.errors < g->replies) return no_multi(j, j->why, err);
    g->done = !v.passing && !v.dropped;
    if (v.dropped && !v.passing) j->again = true;
    if (v.not_run && !v.passing && !v.dropped)
        return err_set(err, ERR_TARGET, "target: a transaction was not applied: %s", v.exec);
    if (g->done) j->f->stream->slots[g->slot].o = g->offset;
    return 0;
}

/* Marks were the first thing sent. One that was refused is sent again a while later. */
static void judge_mark(struct judge *j)
{
    unsigned n = j->node->marking;
    j->node->marking = 0;
    for (; j->line && j->e.reply < n; next_error(j)) {
        j->told = false;
        if (fan_is_redirect(j->line)) passing(j, j->line);
        j->f->stream->joined = true;
    }
}

static int judge_node(struct judge *j, struct err *err)
{
    const uint32_t *order = (const uint32_t *)(const void *)j->node->order.p;
    uint64_t kept = 0;
    j->at = 0;
    for (next_error(j); j->line; next_error(j))
        kept++;
    if (kept < j->node->lane.outcome.n_errors) { /* the marks tell what has been applied */
        fan_lose(j->f, LANE_LOST);
        return err_set(err, ERR_BUSY, "target: too many errors at once");
    }
    j->at = 0;
    next_error(j);
    judge_mark(j);
    for (size_t i = 0; i < j->node->order.n / sizeof(*order); i++) {
        struct fan_group *g = fan_group(j->f->stream, order[i]);
        if ((g->bare ? judge_bare(j, g, err) : judge_multi(j, g, err)) < 0) return -1;
    }
    return 0;
}

/* 1: some are to be sent again; what stood in their way has been waited for. */
static int judge_all(struct fan *f, struct batch *b, struct err *err)
{
    struct judge j = {.f = f, .b = b, .told = true};
    bool marking = false;
    for (unsigned i = 0; i < f->n; i++) {
        j.node = f->nodes[i];
        marking |= j.node->marking > 0;
        if (j.node->replies && judge_node(&j, err) < 0) return -1;
    }
    if (marking && j.told) f->stream->told_w = f->stream->w_sent;
    if (!j.again) return 0;
    counter_add(&f->lane_config.counters->retries, 1);
    if (!j.why[0]) return 1;
    return fan_wait(f, j.why, err) < 0 ? -1 : 1;
}

int fan_wait(struct fan *f, const char *line, struct err *err)
{
    int rc = fan_is_redirect(line) ? fan_follow(f, line, err) : lane_pause(f->pause, line, err);
    if (rc < 0 && f->pause->lost) fan_lose(f, f->pause->lost);
    return rc;
}

/* --- a batch --- */

static void note_applied(struct fan_stream *s, const struct batch *b)
{
    s->place->w = b->end_offset;
    s->place->db = b->end_db;
}

int fan_send(struct fan *f, struct batch *b, struct err *err)
{
    struct fan_cmd cmd;
    fan_split_begin(f->stream);
    b->in_flight = true;
    if (b->n == 0) note_applied(f->stream, b);
    int rc = fan_split(f, b, &cmd, err);
    if (rc < 0) return -1;
    if (rc == 1 && fan_cross(f, b, &cmd, err) < 0) return -1;
    return send_groups(f, b, b->n == 0, err);
}

static int finish_stage(struct fan *f, struct batch *b, struct err *err)
{
    int rc;
    for (;;) {
        if (wait_all(f, err) < 0) return -1;
        rc = judge_all(f, b, err);
        if (rc <= 0) break;
        if (send_groups(f, b, false, err) < 0) return -1;
    }
    if (rc == 0) fan_recovered(f);
    return rc;
}

int fan_run_stage(struct fan *f, struct batch *b, struct err *err)
{
    return send_groups(f, b, false, err) < 0 || finish_stage(f, b, err) < 0 ? -1 : 0;
}

int fan_tell(struct fan *f, struct err *err)
{
    struct fan_stream *s = f->stream;
    buf_clear(&s->pieces);
    buf_clear(&s->groups);
    do {
        if (send_groups(f, NULL, true, err) < 0 || finish_stage(f, NULL, err) < 0) return -1;
    } while (s->joined && !f->lost && !*f->lane_config.stop);
    return 0;
}

int fan_finish(struct fan *f, struct batch *b, struct err *err)
{
    struct fan_stream *s = f->stream;
    struct fan_cmd cmd;
    for (;;) {
        if (finish_stage(f, b, err) < 0) return -1;
        if (s->next_n == b->n) break;
        int rc = fan_split(f, b, &cmd, err);
        if (rc < 0 || (rc == 1 && fan_cross(f, b, &cmd, err) < 0)) return -1;
        if (send_groups(f, b, false, err) < 0) return -1;
    }
    note_applied(s, b);
    b->in_flight = false;
    return 0;
}
