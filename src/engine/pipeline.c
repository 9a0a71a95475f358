// SPDX-License-Identifier: BSD-3-Clause
// The pipeline: the poll step, and the reader's fill on top of it.
#include "engine/pipeline.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "engine/fan.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES  (256u << 10) /* more at once leaves the cache before it is decoded */
#define STEP_READS  4            /* reads of the source in one step */
#define RECENT_ACKS 100          /* ms between ACKs until the stream flows */
#define NOTES_MIN   (32u << 20)  /* of held deadlines: the first lie in memory, not on the disk */

/* --- the source link --- */

static void close_source(struct pipeline *pl, const struct err *why)
{
    conn_close(pl->source);
    pl->source = NULL;
    pl->source_err = *why;
    err_wrap(&pl->source_err, "source");
}

static int drain_source(struct pipeline *pl, struct err *err)
{
    for (int i = 0; i < STEP_READS && pl->source; i++) {
        uint8_t *p;
        size_t room = spool_space(pl->spool, &p);
        if (room == 0) return 0;
        if (room > READ_BYTES) room = READ_BYTES;
        struct err why;
        ssize_t n = conn_read(pl->source, p, room, &why);
        if (n < 0) {
            close_source(pl, &why); /* what was received before is still decoded */
            return 0;
        }
        if (n == 0) return 0;
        pl->source_heard_ms = clock_mono_ms();
        counter_add(&pl->counters->bytes_read, (uint64_t)n);
        if (spool_commit(pl->spool, (size_t)n, clock_wall_ms(), err) < 0) return -1;
        if ((size_t)n < room && !conn_pending(pl->source)) return 0;
    }
    return 0;
}

/* --- a file in its place --- */

static bool file_room(const struct pipeline *pl)
{
    return pl->file >= 0 && spool_disk_bytes(pl->spool) == 0 &&
           spool_ram_bytes(pl->spool) + READ_BYTES <= PIPELINE_RING_BYTES;
}

static int drain_file(struct pipeline *pl, struct err *err)
{
    uint8_t *p;
    if (!file_room(pl)) return 0;
    size_t room = spool_space(pl->spool, &p);
    ssize_t n = read(pl->file, p, room < READ_BYTES ? room : READ_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    if (n < 0) return err_set(err, ERR_IO, "cannot read the file: %s", strerror(errno));
    if (n == 0) {
        pl->file = -1;
        err_set(&pl->source_err, ERR_END, "unexpected end of input");
        return 0;
    }
    counter_add(&pl->counters->bytes_read, (uint64_t)n);
    return spool_commit(pl->spool, (size_t)n, pl->file_ms, err);
}

void pipeline_read_file(struct pipeline *pl, int fd, int64_t ms)
{
    pl->file = fd;
    pl->file_ms = ms;
    if (fd < 0) return;
    pl->before_file += reader_pos(&pl->r);
    reader_count_from_here(&pl->r);
}

static void check_silence(struct pipeline *pl, int64_t now)
{
    if (!pl->source || now - pl->source_heard_ms <= pl->cfg->io_timeout_ms) return;
    uint8_t *p;
    if (spool_space(pl->spool, &p) == 0) { /* it is we who do not listen */
        pl->source_heard_ms = now;
        return;
    }
    struct err why;
    err_set(&why, ERR_NET, "nothing heard for %d s (--io-timeout waits longer)",
            pl->cfg->io_timeout_ms / 1000);
    close_source(pl, &why);
}

/* --- acknowledging --- */

static void flush_ack(struct pipeline *pl)
{
    if (!pl->source || pl->ack_at == pl->ack_out.n) return;
    struct err why;
    ssize_t n = conn_write(pl->source, pl->ack_out.p + pl->ack_at, pl->ack_out.n - pl->ack_at,
                           &why);
    if (n < 0)
        close_source(pl, &why);
    else
        pl->ack_at += (size_t)n;
}

static int send_ack(struct pipeline *pl, int64_t now, struct err *err)
{
    if (!pl->ack || !pl->source) return 0;
    flush_ack(pl);
    if (now < pl->next_ack_ms || !pl->source || pl->ack_at < pl->ack_out.n) return 0;
    pl->next_ack_ms = now + pl->ack_every_ms;
    char num[24];
    num[num_put_u64(num, pl->applied_offset)] = 0;
    buf_clear(&pl->ack_out);
    pl->ack_at = 0;
    if (resp_put_strs(&pl->ack_out, err, "REPLCONF", "ACK", num, NULL) < 0) return -1;
    flush_ack(pl);
    return 0;
}

void pipeline_ack_now(struct pipeline *pl)
{
    pl->next_ack_ms = 0;
}

/* --- the probe --- */

static void probe_close(struct pipeline *pl, const struct err *why)
{
    log_warn("source: cannot ask for its replication offset any more (%s); lag is told from what "
             "has been received",
             why->msg);
    conn_close(pl->probe.conn);
    pl->probe.conn = NULL;
}

static void probe_answer(struct pipeline *pl)
{
    struct probe *pr = &pl->probe;
    pr->asked = false;
    static const char master[] = "\nmaster_repl_offset:", replica[] = "\nslave_repl_offset:";
    const char *hit = NULL;
    size_t skip = 0;
    if (buf_add(&pr->reply, "", 1, NULL) < 0) return;
    /* A replica's own stream is at slave_repl_offset; a primary has just the other. */
    if ((hit = strstr((char *)pr->reply.p, replica)) != NULL)
        skip = sizeof(replica) - 1;
    else if ((hit = strstr((char *)pr->reply.p, master)) != NULL)
        skip = sizeof(master) - 1;
    buf_clear(&pr->reply);
    if (!hit) return;
    pr->offset = strtoull(hit + skip, NULL, 10);
    pr->answers++;
    counter_set(&pl->counters->source_offset, pr->offset);
}

static void probe_read(struct pipeline *pl)
{
    uint8_t tmp[8192];
    struct err why;
    for (;;) {
        ssize_t n = conn_read(pl->probe.conn, tmp, sizeof(tmp), &why);
        if (n < 0) {
            probe_close(pl, &why);
            return;
        }
        if (n == 0) return;
        for (size_t at = 0, used; at < (size_t)n; at += used) {
            int rc = resp_scan_feed(&pl->probe.scan, tmp + at, (size_t)n - at, &used, &why);
            if (rc < 0) {
                probe_close(pl, &why);
                return;
            }
            if (rc == 1) probe_answer(pl);
        }
    }
}

static void probe_ask(struct pipeline *pl, int64_t now)
{
    struct probe *pr = &pl->probe;
    if (!pr->conn || pr->asked || now < pr->next_ms) return;
    static const char ask[] = "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";
    struct err why;
    ssize_t n = conn_write(pr->conn, ask, sizeof(ask) - 1, &why);
    if (n > 0 && n < (ssize_t)sizeof(ask) - 1) n = err_set(&why, ERR_NET, "short write");
    if (n < 0) probe_close(pl, &why);
    pr->asked = n > 0;
    pr->next_ms = now + pr->every_ms;
}

/* --- the step --- */

static void tell(struct pipeline *pl)
{
    struct counters *c = pl->counters;
    counter_set(&c->spool_ram_bytes, spool_ram_bytes(pl->spool));
    counter_set(&c->spool_disk_bytes, spool_disk_bytes(pl->spool));
    if (!pl->streaming) {
        uint64_t got = spool_tail(pl->spool), total = counter_get(&c->snapshot_bytes_total);
        counter_set(&c->snapshot_bytes_received, total && got > total ? total : got);
        return;
    }
    uint64_t received = pipeline_received(pl);
    counter_set(&c->received_offset, received);
    counter_set(&c->applied_offset, pl->applied_offset);
    uint64_t source = counter_get(&c->source_offset);
    if (source < received) source = received;
    counter_set(&c->lag_bytes, source - pl->applied_offset);
    int64_t age = pl->oldest_ms ? clock_wall_ms() - pl->oldest_ms : 0;
    counter_set(&c->lag_ms, age > 0 ? (uint64_t)age : 0);
}

static int timers(struct pipeline *pl, struct err *err)
{
    int64_t now = clock_mono_ms();
    check_silence(pl, now);
    probe_ask(pl, now);
    tell(pl);
    return send_ack(pl, now, err);
}

static struct pollfd watch(struct conn *c, bool want_read, bool want_write)
{
    struct pollfd p = {.fd = -1};
    if (c && (want_read || want_write)) {
        p.fd = conn_fd(c);
        p.events = conn_want(c, want_read, want_write);
    }
    return p;
}

enum { SOURCE, TARGET, PROBE, N_FDS }; /* then those of the fan */

/* What poll() is to wait for; returns how many. */
static unsigned list_fds(struct pipeline *pl, struct pollfd *fd, bool room, int *max_wait_ms)
{
    fd[SOURCE] = watch(pl->source, room, pl->ack_at < pl->ack_out.n);
    struct conn *target = pl->lane.conn;
    fd[TARGET] = (struct pollfd){.fd = target ? conn_fd(target) : -1,
                                 .events = lane_poll_events(&pl->lane)};
    if (file_room(pl)) fd[SOURCE] = (struct pollfd){.fd = pl->file, .events = POLLIN};
    fd[PROBE] = watch(pl->probe.conn, true, false);
    if ((pl->source && conn_pending(pl->source)) || (target && conn_pending(target)))
        *max_wait_ms = 0;
    return N_FDS + (pl->fan ? fan_poll(pl->fan, fd + N_FDS, FAN_NODES_MAX, max_wait_ms) : 0);
}

static int wait_fds(struct pipeline *pl, struct pollfd *fd, unsigned *ret_n, int max_wait_ms,
                    struct err *err)
{
    uint8_t *p;
    bool room = pl->source && spool_space(pl->spool, &p) > 0;
    *ret_n = list_fds(pl, fd, room, &max_wait_ms);
    struct conn *target = pl->lane.conn;
    int64_t ack_in = pl->next_ack_ms - clock_mono_ms();
    if (pl->ack && pl->source && ack_in < max_wait_ms) max_wait_ms = ack_in < 0 ? 0 : (int)ack_in;
    if (poll(fd, *ret_n, max_wait_ms) < 0 && errno != EINTR)
        return err_set(err, ERR_IO, "poll: %s", strerror(errno));
    if (pl->source && room && conn_pending(pl->source)) fd[SOURCE].revents |= POLLIN;
    if (target && conn_pending(target)) fd[TARGET].revents |= POLLIN;
    return 0;
}

/* A source that is lost comes back. */
static bool is_linked(const struct pipeline *pl)
{
    return pl->streaming && pl->relink && pl->file < 0;
}

static int relink(struct pipeline *pl, struct err *err)
{
    struct err why;
    switch (pl->relink(pl->relink_ctx, &why)) {
    case RELINK_WAIT:
    case RELINK_DONE: return 0;
    case RELINK_GIVEN_UP:
        pl->source_err = why;
        pl->relink = NULL;
        return 0;
    case RELINK_HOLE: break;
    }
    pl->hole = true;
    return err_set(err, ERR_SOURCE, "source: cannot go on where we are");
}

int pipeline_step(void *ctx, int max_wait_ms, struct err *err)
{
    struct pipeline *pl = ctx;
    struct pollfd fd[N_FDS + FAN_NODES_MAX];
    unsigned n;
    for (unsigned i = 0; i < N_FDS; i++)
        fd[i].revents = 0;
    if (wait_fds(pl, fd, &n, max_wait_ms, err) < 0) return -1;
    if (fd[SOURCE].revents && (pl->source ? drain_source(pl, err) : drain_file(pl, err)) < 0)
        return -1;
    if (lane_pump(&pl->lane, fd[TARGET].revents != 0, err) < 0) return -1;
    if (pl->fan && fan_pump(pl->fan, fd + N_FDS, n - N_FDS, err) < 0) return -1;
    if (!pl->source && spool_write(pl->spool, err) < 0) return -1; /* nobody else has it now */
    if (!pl->source && is_linked(pl) && relink(pl, err) < 0) return -1;
    if (pl->probe.conn && fd[PROBE].revents) probe_read(pl);
    return timers(pl, err);
}

/* --- the reader over the spool --- */

static int starved(struct pipeline *pl, struct err *err)
{
    if (!pl->source && pl->file < 0 && !is_linked(pl) && spool_disk_bytes(pl->spool) == 0) {
        *err = pl->source_err;
        return -1;
    }
    if (*pl->stop) return err_set(err, ERR_STOPPED, "stopped");
    if (pipeline_step(pl, 0, err) < 0) return -1;
    return 0;
}

static bool offer(struct pipeline *pl, struct reader *r, size_t wanted)
{
    const uint8_t *p;
    size_t n = spool_peek(pl->spool, &p);
    if (n < wanted) return false;
    r->base = p;
    r->end = p + n;
    return true;
}

static int fill(struct reader *r, size_t drop, size_t need, struct err *err)
{
    struct pipeline *pl = r->ctx;
    size_t wanted = (size_t)(r->end - r->base) - drop + need;
    spool_consume(pl->spool, drop);
    if (spool_refill(pl->spool, err) < 0) return -1;
    while (!offer(pl, r, wanted)) {
        if (starved(pl, err) < 0) return -1;
        if (spool_refill(pl->spool, err) < 0) return -1;
        if (offer(pl, r, wanted)) break;
        if (pl->on_dry && pl->on_dry(pl->dry_ctx, err) < 0) return -1;
        bool more = pl->source || pl->file >= 0 || is_linked(pl);
        if (more && pipeline_step(pl, 100, err) < 0) return -1;
    }
    return 0;
}

/* --- life --- */

struct lane_config pipeline_lane_config(struct pipeline *pl)
{
    return (struct lane_config){.refusals = &pl->refusals,
                                .counters = pl->counters,
                                .stop = pl->stop,
                                .retry_limit_ms = pl->cfg->retry_time_ms,
                                .io_timeout_ms = pl->cfg->io_timeout_ms,
                                .keep_existing = pl->cfg->on_conflict == TASK_CONFLICT_SKIP,
                                .step = pipeline_step,
                                .step_ctx = pl};
}

int pipeline_init(struct pipeline *pl, const struct pipeline_config *cfg, struct err *err)
{
    *pl = (struct pipeline){.cfg = cfg->task,
                            .spool = cfg->spool,
                            .counters = cfg->counters,
                            .stop = cfg->stop,
                            .source = cfg->source,
                            .source_heard_ms = clock_mono_ms(),
                            .file = -1,
                            .ack = cfg->ack,
                            .ack_every_ms = 1000,
                            .applied_offset = cfg->offset,
                            .stream_offset = cfg->offset};
    pl->refusals = (struct refusals){.policy = cfg->task->on_error,
                                     .on_unsupported = cfg->task->on_unsupported,
                                     .shard = cfg->task->slots != NULL,
                                     .counters = cfg->counters};
    pl->probe = (struct probe){.conn = cfg->probe, .every_ms = 1000};
    buf_init(&pl->probe.reply, 1 << 20);
    buf_init(&pl->ack_out, 256);
    resp_scan_init(&pl->probe.scan);
    pl->probe.scan.keep_bulk = &pl->probe.reply;
    struct lane_config lane = pipeline_lane_config(pl);
    lane.conn = cfg->target;
    if (lane_init(&pl->lane, &lane, err) < 0) return -1;
    uint64_t notes = cfg->spool_config.max_disk_bytes;
    hold_init(&pl->hold, cfg->hold, cfg->hold_exact, cfg->spool_config.dir,
              notes > NOTES_MIN ? notes : NOTES_MIN);
    pl->hold.slots = cfg->task->slots;
    if (!pl->spool && spool_open(&pl->spool, &cfg->spool_config, err) < 0) return -1;
    pl->r = (struct reader){.cap = PIPELINE_RING_BYTES, .fill = fill, .ctx = pl};
    const uint8_t *p;
    spool_peek(pl->spool, &p);
    pl->r.base = pl->r.keep = pl->r.p = pl->r.end = p;
    return 0;
}

void pipeline_relink(struct pipeline *pl, struct conn *source, struct conn *probe)
{
    conn_close(pl->source);
    conn_close(pl->probe.conn);
    pl->source = source;
    pl->source_heard_ms = clock_mono_ms();
    pl->probe.conn = probe;
    pl->probe.asked = false;
    pl->probe.next_ms = 0;
    buf_clear(&pl->probe.reply);
    resp_scan_init(&pl->probe.scan);
    pl->probe.scan.keep_bulk = &pl->probe.reply;
    buf_clear(&pl->ack_out);
    pl->ack_at = 0;
    pipeline_ack_now(pl);
}

int pipeline_seek(struct pipeline *pl, uint64_t offset, struct err *err)
{
    uint64_t pos = pipeline_pos(pl, offset);
    if (spool_seek(pl->spool, pos, err) < 0) return -1;
    const uint8_t *p;
    spool_peek(pl->spool, &p);
    pl->r.base = pl->r.keep = pl->r.p = pl->r.end = p;
    pl->r.base_pos = pos;
    return 0;
}

struct lane *pipeline_lane(struct pipeline *pl, struct span key)
{
    return pl->fan ? fan_lane_of(pl->fan, key) : &pl->lane;
}

int pipeline_drain(struct pipeline *pl, struct err *err)
{
    return pl->fan ? fan_drain(pl->fan, err) : lane_drain(&pl->lane, err);
}

uint64_t pipeline_received(const struct pipeline *pl)
{
    return pl->stream_offset + (spool_tail(pl->spool) - pl->stream_pos);
}

void pipeline_release(struct pipeline *pl)
{
    lane_release(&pl->lane);
    hold_release(&pl->hold);
    conn_close(pl->source);
    conn_close(pl->probe.conn);
    spool_close(pl->spool);
    buf_release(&pl->probe.reply);
    buf_release(&pl->ack_out);
}

void pipeline_begin_stream(struct pipeline *pl)
{
    pl->streaming = true;
    pl->stream_pos = reader_pos(&pl->r);
    pl->ack_every_ms = RECENT_ACKS; /* the source waits for one before the stream flows */
    pipeline_ack_now(pl);
}

void pipeline_go_on(struct pipeline *pl, uint64_t pos, uint64_t offset)
{
    pl->streaming = true;
    pl->stream_pos = pos;
    pl->stream_offset = offset;
    pl->ack_every_ms = RECENT_ACKS;
    pipeline_ack_now(pl);
}

uint64_t pipeline_offset(const struct pipeline *pl)
{
    return pl->stream_offset + (reader_pos(&pl->r) - pl->stream_pos);
}
