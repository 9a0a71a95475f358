// SPDX-License-Identifier: BSD-3-Clause
// A lane: items in a sliding window, and the pumping of bytes and replies.
#include "engine/lane.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define OUT_BYTES        (1u << 20)
#define LANE_ITEMS       16384u /* in flight at most; a power of two */
#define FLUSH_BYTES      (64u << 10)
#define IN_BYTES         (64u << 10)
#define CHUNK_BYTES      (256u << 10)
#define REDIRECT_TOLD_MS 3000
#define READONLY_MS      1000 /* a server that stays so long a replica has lost its office */

static int read_replies(struct lane *l, struct err *err);

/* Kept as far as there is room; counted always. */
static void note_error(struct lane_outcome *o, int64_t nested, const char *line)
{
    struct lane_error e = {.reply = o->seen, .nested = nested, .text_n = strlen(line)};
    struct err ignored;
    o->n_errors++;
    if (buf_reserve(&o->errors, sizeof(e) + e.text_n + 1, &ignored) < 0) return;
    memcpy(o->errors.p + o->errors.n, &e, sizeof(e));
    memcpy(o->errors.p + o->errors.n + sizeof(e), line, e.text_n + 1);
    o->errors.n += sizeof(e) + e.text_n + 1;
}

static void on_nested_error(void *ctx, size_t index, const char *line)
{
    note_error(ctx, (int64_t)index, line);
}

const char *lane_outcome_next(const struct lane_outcome *o, size_t *at, struct lane_error *ret)
{
    if (*at >= o->errors.n) return NULL;
    memcpy(ret, o->errors.p + *at, sizeof(*ret));
    const char *text = (const char *)o->errors.p + *at + sizeof(*ret);
    *at += sizeof(*ret) + ret->text_n + 1;
    return text;
}

int lane_init(struct lane *l, const struct lane_config *cfg, struct err *err)
{
    *l = (struct lane){.conn = cfg->conn,
                       .peers = cfg->peers,
                       .db = -1,
                       .keep_existing = cfg->keep_existing,
                       .refusals = cfg->refusals,
                       .counters = cfg->counters,
                       .stop = cfg->stop,
                       .retry_limit_ms = cfg->retry_limit_ms,
                       .io_timeout_ms = cfg->io_timeout_ms,
                       .heard_ms = clock_mono_ms(),
                       .step = cfg->step,
                       .step_ctx = cfg->step_ctx};
    buf_init(&l->retry, 2 * OUT_BYTES + LANE_ITEMS * sizeof(struct lane_item));
    buf_init(&l->chunk, CHUNK_BYTES);
    buf_init(&l->outcome.errors, l->peers ? LANE_PEERS_ERRORS_MAX : LANE_ERRORS_MAX);
    buf_init(&l->fence_told, IN_BYTES);
    resp_scan_init(&l->scan);
    l->scan.on_nested_error = on_nested_error;
    l->scan.ctx = &l->outcome;
    if (ring_init(&l->out, OUT_BYTES, err) < 0) return -1;
    l->items = calloc(LANE_ITEMS, sizeof(*l->items));
    l->in = malloc(IN_BYTES);
    if (!l->items || !l->in) return err_set(err, ERR_NOMEM, "out of memory for a target's lane");
    return 0;
}

void lane_release(struct lane *l)
{
    conn_close(l->conn);
    l->conn = NULL;
    if (l->out.map) ring_release(&l->out);
    free(l->items);
    free(l->in);
    buf_release(&l->retry);
    buf_release(&l->chunk);
    buf_release(&l->outcome.errors);
    buf_release(&l->fence_told);
    l->items = NULL;
    l->in = NULL;
}

bool lane_busy(const struct lane *l)
{
    return l->item_head != l->item_tail || l->calling;
}

/* Replies are due. (A call that is answered may be finished much later.) */
static bool awaits(const struct lane *l)
{
    return l->item_head != l->item_tail || (l->calling && l->outcome.seen < l->outcome.due);
}

static bool has_output(const struct lane *l)
{
    return l->calling ? l->part < l->n_parts || l->chunk_at < l->chunk.n : l->sent < l->out.tail;
}

short lane_poll_events(const struct lane *l)
{
    if (!l->conn) return 0;
    return conn_want(l->conn, true, has_output(l));
}

/* --- losing it --- */

static int lost(struct lane *l, struct err *err)
{
    l->lost = LANE_LOST;
    return err_wrap(err, "target");
}

void lane_drop(struct lane *l, enum lane_lost why)
{
    l->lost = why;
    conn_close(l->conn);
    l->conn = NULL;
    l->calling = false;
    l->item_head = l->item_tail;
    l->out.head = l->out.tail = l->sent;
    l->n_retry = 0;
    buf_clear(&l->retry);
    l->n_parts = l->part = 0;
    l->fence_down = true;
    l->chunk.n = l->chunk_at = 0;
}

void lane_reset(struct lane *l, struct conn *conn)
{
    lane_drop(l, LANE_FINE);
    l->conn = conn;
    l->db = 0;
    l->heard_ms = clock_mono_ms();
    l->retry_since_ms = 0;
    void *ctx = l->scan.ctx;
    resp_scan_init(&l->scan);
    l->scan.on_nested_error = on_nested_error;
    l->scan.ctx = ctx;
}

/* --- output --- */

static void sent(struct lane *l, size_t n)
{
    counter_add(&l->counters->bytes_written, n);
    l->heard_ms = clock_mono_ms();
}

static int send_items(struct lane *l, struct err *err)
{
    int moved = 0;
    while (l->sent < l->out.tail) {
        ssize_t n = conn_write(l->conn, ring_at(&l->out, l->sent), (size_t)(l->out.tail - l->sent),
                               err);
        if (n < 0) return lost(l, err);
        if (n == 0) break;
        l->sent += (uint64_t)n;
        sent(l, (size_t)n);
        moved = 1;
    }
    return moved;
}

/* The next bytes of a store go through the chunk buffer. 1: bytes there, 0: part finished. */
static int load_chunk(struct lane *l, struct err *err)
{
    struct lane_part *part = &l->parts[l->part];
    if (buf_reserve(&l->chunk, CHUNK_BYTES - l->chunk.n, err) < 0) return -1;
    ssize_t n = store_read(part->store, part->from + l->part_at, l->chunk.p, CHUNK_BYTES, err);
    if (n < 0) return -1;
    l->chunk.n = (size_t)n;
    l->chunk_at = 0;
    l->part_at += (uint64_t)n;
    return n > 0;
}

static void next_part(struct lane *l)
{
    l->part++;
    l->part_at = 0;
    l->chunk.n = l->chunk_at = 0;
}

/* Store parts: memory is sent in place, what lies on disk by chunks. */
static int store_bytes(struct lane *l, struct span *ret, struct err *err)
{
    const struct lane_part *part = &l->parts[l->part];
    uint64_t at = part->from + l->part_at;
    if (l->chunk_at == l->chunk.n && at < part->store->mem.n) {
        *ret = span_of(part->store->mem.p + at, part->store->mem.n - (size_t)at);
        return 1;
    }
    if (l->chunk_at == l->chunk.n) {
        int rc = load_chunk(l, err);
        if (rc <= 0) return rc;
    }
    *ret = span_of(l->chunk.p + l->chunk_at, l->chunk.n - l->chunk_at);
    return 1;
}

static bool is_on_disk(const struct lane_part *part)
{
    return part->store && part->store->disk_bytes;
}

/* Gather what parts lie in memory next to each other, so that a batch is one system call. */
static int gather(struct lane *l, struct iovec *iov, struct err *err)
{
    int n = 0;
    unsigned i = l->part;
    uint64_t at = l->part_at;
    if (l->parts[i].store) {
        struct span s;
        int rc = store_bytes(l, &s, err);
        if (rc < 0) return -1;
        if (rc == 0) return 0;
        iov[n++] = (struct iovec){(void *)(uintptr_t)s.p, s.n};
        if (is_on_disk(&l->parts[i])) return n;
        i++;
        at = 0;
    }
    for (; i < l->n_parts && !l->parts[i].store; i++, at = 0)
        iov[n++] = (struct iovec){(void *)(uintptr_t)(l->parts[i].mem.p + at),
                                  l->parts[i].mem.n - (size_t)at};
    return n;
}

/* Of a store that goes on on disk: no more than one piece of it is sent at once. */
static void advance_in_store(struct lane *l, size_t n)
{
    if (l->chunk.n == 0) {
        l->part_at += n;
        return;
    }
    l->chunk_at += n;
    if (l->chunk_at == l->chunk.n) l->chunk.n = l->chunk_at = 0;
}

static void advance(struct lane *l, size_t n)
{
    while (l->part < l->n_parts) {
        const struct lane_part *part = &l->parts[l->part];
        if (is_on_disk(part)) {
            if (n) advance_in_store(l, n);
            return;
        }
        size_t all = part->store ? part->store->mem.n - (size_t)part->from : part->mem.n;
        size_t left = all - (size_t)l->part_at;
        if (n < left) {
            l->part_at += n;
            return;
        }
        n -= left;
        next_part(l);
    }
}

static int send_call(struct lane *l, struct err *err)
{
    int moved = 0;
    while (l->part < l->n_parts) {
        struct iovec iov[LANE_PARTS_MAX];
        int n_iov = gather(l, iov, err);
        if (n_iov < 0) return -1;
        if (n_iov == 0) {
            next_part(l); /* a store that is all out */
            continue;
        }
        ssize_t n = n_iov == 1 ? conn_write(l->conn, iov[0].iov_base, iov[0].iov_len, err)
                               : conn_writev(l->conn, iov, n_iov, err);
        if (n < 0) return lost(l, err);
        if (n == 0) break;
        advance(l, (size_t)n);
        sent(l, (size_t)n);
        moved = 1;
    }
    return moved;
}

int lane_pump(struct lane *l, bool readable, struct err *err)
{
    int moved = 0;
    if (!l->conn) return 0;
    if (has_output(l)) {
        moved = l->calling ? send_call(l, err) : send_items(l, err);
        if (moved < 0) return -1;
    }
    if (readable) {
        int got = read_replies(l, err);
        if (got < 0) return -1;
        moved |= got;
    }
    if (!moved && awaits(l) && clock_mono_ms() - l->heard_ms > l->io_timeout_ms) {
        l->lost = LANE_LOST;
        return err_set(err, ERR_NET,
                       "target: no reply for %lld s; is it hanging? (--io-timeout waits longer)",
                       (long long)(l->io_timeout_ms / 1000));
    }
    return moved;
}

/* --- replies --- */

static struct lane_item *oldest(struct lane *l)
{
    return &l->items[l->item_head & (LANE_ITEMS - 1)];
}

static void pop_item(struct lane *l)
{
    l->out.head += oldest(l)->n;
    l->item_head++;
}

static void item_done(struct lane *l, const struct lane_item *it)
{
    if (it->kind == LANE_KEY) {
        unsigned db = counters_db(it->source_db);
        counter_add(&l->counters->keys_written, 1);
        counter_add(&l->counters->db[db].keys, 1);
        counter_add(&l->counters->db[db].bytes, it->n);
    } else if (it->kind == LANE_FUNCTION) {
        counter_add(&l->counters->functions_written, 1);
    }
}

static int item_exists(struct lane *l, const struct lane_item *it, struct err *err)
{
    if (l->keep_existing) {
        counter_add(&l->counters->keys_skipped, 1);
        counter_add(&l->counters->db[counters_db(it->source_db)].skipped, 1);
        return 0;
    }
    char name[160];
    struct span key = span_of(ring_read_ptr(&l->out) + it->key_at, it->key_n);
    return err_set(err, ERR_CONFLICT,
                   "key %s of database %u appeared on the target during the load; nothing was "
                   "overwritten; choose --on-conflict overwrite or skip, or remove it",
                   num_quote(name, sizeof(name), key), it->db);
}

static int keep_for_retry(struct lane *l, const struct lane_item *it, const char *why,
                          struct err *err)
{
    snprintf(l->retry_why, sizeof(l->retry_why), "%s", why);
    l->n_retry++;
    counter_add(&l->counters->retries, 1);
    if (buf_add(&l->retry, it, sizeof(*it), err) < 0) return -1;
    return buf_add(&l->retry, ring_read_ptr(&l->out), it->n, err);
}

static int item_error(struct lane *l, const struct lane_item *it, const char *line, struct err *err)
{
    if (l->peers && refusal_is_redirect(line)) return keep_for_retry(l, it, line, err);
    switch (refusal_classify(line)) {
    case REFUSAL_TRANSIENT: return keep_for_retry(l, it, line, err);
    case REFUSAL_EXISTS:
        if (it->kind == LANE_KEY) return item_exists(l, it, err);
        break;
    case REFUSAL_HARD: break;
    }
    struct refused_key k = {it->source_db, it->db,
                            span_of(ring_read_ptr(&l->out) + it->key_at, it->key_n)};
    return refusals_restore(l->refusals, &k, it->module, line, err);
}

static int item_reply(struct lane *l, const struct resp_reply *reply, struct err *err)
{
    if (l->item_head == l->item_tail)
        return err_set(err, ERR_PROTO, "target: a reply to nothing that was asked");
    const struct lane_item *it = oldest(l);
    int rc = 0;
    if (reply->type == '-')
        rc = item_error(l, it, reply->line, err);
    else if (reply->is_null && it->kind == LANE_KEY)
        rc = item_exists(l, it, err); /* SET ... NX */
    else
        item_done(l, it);
    pop_item(l);
    return rc;
}

static void call_reply(struct lane *l, const struct resp_reply *reply)
{
    struct lane_outcome *o = &l->outcome;
    if (reply->type == '-' && o->seen <= o->main) note_error(o, -1, reply->line);
    if (o->seen <= o->main)
        o->last = *reply;
    else
        l->fence_down = o->seen > o->main + 1 ? l->fence_down || reply->type == '-'
                                              : reply->type == '-';
    if (o->integers) o->integers[o->seen] = reply->type == ':' ? reply->integer : -1;
    o->seen++;
}

/* "+OK" and "+QUEUED" by the run, nearly all replies there are; of a call also what else tells no
 * error. */
static size_t take_plain(struct lane *l, const uint8_t *p, size_t n)
{
    size_t replies = 0, used;
    if (l->calling) {
        struct lane_outcome *o = &l->outcome;
        if (o->seen >= o->main) return 0; /* that one is looked at */
        size_t max = (size_t)(o->main - o->seen);
        used = o->integers ? resp_scan_plain(p, n, max, &replies)
                           : resp_scan_quiet(p, n, max, &replies);
        o->seen += replies;
        return used;
    }
    used = resp_scan_plain(p, n, l->item_tail - l->item_head, &replies);
    for (size_t i = 0; i < replies; i++) {
        item_done(l, oldest(l));
        pop_item(l);
    }
    return used;
}

static int take_replies(struct lane *l, const uint8_t *p, size_t n, struct err *err)
{
    bool between = l->scan.depth == 0 && l->scan.state == 0;
    while (n) {
        if (between) {
            size_t used = take_plain(l, p, n);
            p += used;
            n -= used;
            if (n == 0) break;
        }
        size_t used;
        int rc = resp_scan_feed(&l->scan, p, n, &used, err);
        if (rc < 0) return err_wrap(err, "target");
        p += used;
        n -= used;
        between = rc == 1;
        if (rc == 0) break;
        if (l->calling && l->outcome.seen < l->outcome.due)
            call_reply(l, &l->scan.reply);
        else if (item_reply(l, &l->scan.reply, err) < 0)
            return -1;
    }
    return 0;
}

static int read_replies(struct lane *l, struct err *err)
{
    int moved = 0;
    for (;;) {
        ssize_t n = conn_read(l->conn, l->in, IN_BYTES, err);
        if (n < 0) return lost(l, err);
        if (n == 0) return moved;
        moved = 1;
        l->heard_ms = clock_mono_ms();
        if (take_replies(l, l->in, (size_t)n, err) < 0) return -1;
        if ((size_t)n < IN_BYTES && !conn_pending(l->conn)) return moved;
    }
}

/* --- items --- */

static int wait_step(struct lane *l, struct err *err)
{
    return l->step(l->step_ctx, 100, err);
}

int lane_pause(struct lane *l, const char *why, struct err *err)
{
    int64_t now = clock_mono_ms();
    /* A node that has become a replica: who has its slots now? */
    if (l->peers && strncmp(why, "READONLY", 8) == 0)
        return l->peers->follow(l->peers->ctx, why, err);
    if (l->retry_since_ms == 0) {
        l->retry_since_ms = now;
        l->retry_pause_ms = refusal_is_redirect(why) ? 5 : 50;
        l->retry_told = false;
    }
    /* A slot on its way to another node is there soon. */
    if (!l->retry_told &&
        (!refusal_is_redirect(why) || now - l->retry_since_ms > REDIRECT_TOLD_MS)) {
        l->retry_told = true;
        log_warn("target: %s; waiting until it takes writes again", why);
        counters_wait(l->counters, COUNTERS_WAITS_FOR_WRITES, l->retry_since_ms + l->retry_limit_ms,
                      why);
    }
    if (l->resumable && strncmp(why, "READONLY", 8) == 0 && now - l->retry_since_ms > READONLY_MS) {
        l->lost = LANE_READONLY;
        return err_set(err, ERR_BUSY, "target: %s", why);
    }
    if (now - l->retry_since_ms > l->retry_limit_ms) {
        l->gave_up = true;
        return err_set(err, ERR_BUSY,
                       "target: %s; gave up after %lld s (--retry-time waits longer)", why,
                       (long long)((now - l->retry_since_ms) / 1000));
    }
    int64_t until = now + l->retry_pause_ms;
    l->retry_pause_ms = l->retry_pause_ms * 2 > 2000 ? 2000 : l->retry_pause_ms * 2;
    while (now < until) {
        if (l->stop && *l->stop)
            return err_set(err, ERR_BUSY,
                           "stopped while the target refuses writes (%s): what was on its way is "
                           "not applied",
                           why);
        if (l->step(l->step_ctx, (int)(until - now), err) < 0) return -1;
        int64_t then = now;
        now = clock_mono_ms();
        counter_add(&l->counters->waits_ms, (uint64_t)(now - then));
    }
    return 0;
}

void lane_recovered(struct lane *l)
{
    if (l->retry_since_ms == 0) return;
    if (l->retry_told)
        log_info("target takes writes again after %.1f s",
                 (double)(clock_mono_ms() - l->retry_since_ms) / 1000);
    l->retry_since_ms = 0;
    if (counter_get(&l->counters->waiting_for) == COUNTERS_WAITS_FOR_WRITES)
        counters_wait(l->counters, COUNTERS_WAITS_FOR_NONE, 0, "");
}

int lane_flush(struct lane *l, struct err *err)
{
    while (l->item_head != l->item_tail)
        if (wait_step(l, err) < 0) return -1;
    return 0;
}

static void put_item(struct lane *l, const struct lane_item *item)
{
    l->items[l->item_tail++ & (LANE_ITEMS - 1)] = *item;
    l->out.tail += item->n;
}

/* Send again, once, everything that met a passing fault. The window is empty. */
static int resend(struct lane *l, struct err *err)
{
    struct buf again = l->retry;
    buf_init(&l->retry, again.cap);
    l->n_retry = 0;
    size_t at = 0;
    while (at < again.n) {
        struct lane_item item;
        memcpy(&item, again.p + at, sizeof(item));
        at += sizeof(item);
        /* It all came out of this ring and window, so it fits; and all is of one database, since a
         * change of database drains. */
        memcpy(ring_write_ptr(&l->out), again.p + at, item.n);
        put_item(l, &item);
        at += item.n;
    }
    buf_release(&again);
    return lane_flush(l, err);
}

static int settle_retries(struct lane *l, struct err *err)
{
    if (l->peers) return l->n_retry ? lane_peers_drain(l->peers, err) : 0;
    while (l->n_retry) {
        if (lane_flush(l, err) < 0) return -1;
        char why[RESP_ERROR_MAX];
        memcpy(why, l->retry_why, sizeof(why));
        if (lane_pause(l, why, err) < 0) return -1;
        if (resend(l, err) < 0) return -1;
    }
    lane_recovered(l);
    return 0;
}

/* A SELECT of its own, answered before anything goes on: were it refused in passing (LOADING,
 * BUSY), what follows it in the window could run in another database. */
static int call_select(struct lane *l, int64_t db, struct err *err)
{
    char num[24];
    snprintf(num, sizeof(num), "%lld", (long long)db);
    struct span argv[] = {span_str("SELECT"), span_str(num)};
    l->db = -1;
    if (lane_call_strs(l, -1, 2, argv, err) < 0) return -1;
    if (l->outcome.last.type == '-')
        return err_set(err, ERR_TARGET, "target: database %lld: %s; move it elsewhere by --db-map",
                       (long long)db, l->outcome.last.line);
    l->db = db;
    return 0;
}

int lane_select(struct lane *l, int64_t db, struct err *err)
{
    if (l->db == db) return 0;
    return lane_drain(l, err) < 0 ? -1 : call_select(l, db, err);
}

static bool has_room(const struct lane *l, size_t n)
{
    return ring_room(&l->out) >= n && l->item_tail - l->item_head < LANE_ITEMS;
}

int lane_put_again(struct lane *l, const struct lane_item *item, const uint8_t *bytes,
                   struct err *err)
{
    if (l->calling) return err_set(err, ERR_INTERNAL, "an item on a lane that is busy with a call");
    if (l->db != item->db) {
        if (lane_flush(l, err) < 0) return -1;
        if (l->n_retry) return 1;
        if (call_select(l, item->db, err) < 0) return -1;
    }
    while (!has_room(l, item->n)) {
        if (wait_step(l, err) < 0) return -1;
        if (l->n_retry) return 1;
    }
    memcpy(ring_write_ptr(&l->out), bytes, item->n);
    put_item(l, item);
    return 0;
}

int lane_reserve(struct lane *l, int64_t db, size_t n, uint8_t **ret, struct err *err)
{
    for (;;) {
        if (KH_UNLIKELY(l->n_retry) && settle_retries(l, err) < 0) return -1;
        if (KH_UNLIKELY(l->db != db) && lane_select(l, db, err) < 0) return -1;
        if (has_room(l, n)) break;
        if (wait_step(l, err) < 0) return -1;
    }
    *ret = ring_write_ptr(&l->out);
    return 0;
}

int lane_commit(struct lane *l, const struct lane_item *item, struct err *err)
{
    put_item(l, item);
    if (l->out.tail - l->sent < FLUSH_BYTES) return 0;
    return send_items(l, err) < 0 ? -1 : 0;
}

int lane_drain(struct lane *l, struct err *err)
{
    do {
        if (lane_flush(l, err) < 0) return -1;
        if (settle_retries(l, err) < 0) return -1;
    } while (l->item_head != l->item_tail);
    return 0;
}

/* --- calls --- */

int lane_call_begin(struct lane *l, const struct lane_part *parts, unsigned n_parts,
                    uint64_t replies, struct err *err)
{
    if (lane_busy(l) || n_parts > LANE_PARTS_MAX)
        return err_set(err, ERR_INTERNAL, "a call on a lane that is busy");
    memcpy(l->parts, parts, n_parts * sizeof(*parts));
    l->n_parts = n_parts;
    l->part = 0;
    l->part_at = 0;
    l->chunk.n = l->chunk_at = 0;
    l->outcome.due = replies;
    l->outcome.main = replies - 1;
    l->outcome.seen = 0;
    l->outcome.n_errors = 0;
    buf_clear(&l->outcome.errors);
    buf_trim(&l->outcome.errors, LANE_ERRORS_MAX);
    l->calling = true;
    l->heard_ms = clock_mono_ms();
    return send_call(l, err) < 0 ? -1 : 0;
}

int lane_call_wait(struct lane *l, struct err *err)
{
    while (l->outcome.seen < l->outcome.due)
        if (wait_step(l, err) < 0) return -1;
    l->calling = false;
    return 0;
}

int lane_call(struct lane *l, const struct lane_part *parts, unsigned n_parts, struct err *err)
{
    if (lane_drain(l, err) < 0) return -1;
    for (;;) {
        if (lane_call_begin(l, parts, n_parts, 1, err) < 0) return -1;
        if (lane_call_wait(l, err) < 0) return -1;
        const struct resp_reply *reply = &l->outcome.last;
        if (l->peers && reply->type == '-' && refusal_is_redirect(reply->line)) return 0;
        if (reply->type != '-' || refusal_classify(reply->line) != REFUSAL_TRANSIENT) break;
        counter_add(&l->counters->retries, 1);
        char why[RESP_ERROR_MAX];
        memcpy(why, reply->line, sizeof(why));
        if (lane_pause(l, why, err) < 0) return -1;
    }
    lane_recovered(l);
    return 0;
}

int lane_call_strs(struct lane *l, int64_t db, size_t argc, const struct span *argv,
                   struct err *err)
{
    if (db >= 0 && lane_select(l, db, err) < 0) return -1;
    struct buf b;
    buf_init(&b, 600u << 20);
    int rc = resp_put_cmd(&b, argc, argv, err);
    struct lane_part part = {.mem = buf_span(&b)};
    if (rc == 0) rc = lane_call(l, &part, 1, err);
    buf_release(&b);
    return rc;
}
