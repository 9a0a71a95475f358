// SPDX-License-Identifier: BSD-3-Clause
// A lane: one connection to one target node, everything that goes out on it, every reply that
// comes back. Two ways to send, never both at once:
//
//  items   small independent writes (keys of the snapshot) through a ring of 1 MB, a sliding window
//          of requests in flight. Their bytes stay in the ring until answered, so that one met by a
//          passing fault (OOM, LOADING ...) is sent again; order between items does not matter.
//  call    one ordered request, whole: big values in place (not copied), batches of the stream.
//          The window is empty before and after; begin/finish lets the caller build the next one
//          meanwhile.
//
//      begin: IDLE ──reserve/commit──▶ ITEMS ──drain──▶ IDLE ──call_begin──▶ CALL ──finish──▶ IDLE
//
// Full window: the lane's `step` is run, which drains the source, polls, pumps; no queue grows.
// One owner thread.
#ifndef KEYHAUL_ENGINE_LANE_H
#define KEYHAUL_ENGINE_LANE_H

#include "engine/refuse.h"
#include "io/conn.h"
#include "io/ring.h"
#include "io/store.h"
#include "wire/resp.h"

#include <stdatomic.h>

#define LANE_ITEM_MAX   (256u << 10) /* largest item, bytes; larger ones are calls */
#define LANE_PARTS_MAX  6
#define LANE_ERRORS_MAX (256u << 10) /* error texts of one call kept, bytes */
/* Of a batch for a cluster all are needed: three for each command where memory is wanting. */
#define LANE_PEERS_ERRORS_MAX (4u << 20)

enum lane_kind { LANE_KEY, LANE_FUNCTION };

struct lane_item {
    uint32_t n;             /* bytes in the ring */
    uint32_t key_at, key_n; /* the key, from the item's first byte: for naming it */
    uint32_t source_db, db; /* database of the source, of the target */
    enum lane_kind kind;
    bool module; /* a module's value: the target may lack the module */
};

/* What a call sends: memory that stays as it is until the call has finished, or a store. */
struct lane_part {
    struct span mem;
    const struct store *store; /* when set: its bytes from `from` on, instead of mem */
    uint64_t from;
};

/* What came back from a call. Replies are counted from 0. */
struct lane_outcome {
    uint64_t due, seen;
    uint64_t main; /* the reply that `last` is of; those behind it are looked at for errors */
    struct resp_reply last; /* the last reply but for those behind `main` */
    int64_t *integers;      /* where the caller wants integer replies, room for `due`; or NULL */
    uint64_t n_errors;      /* top-level error replies, and errors inside the last array */
    struct buf errors;      /* records: struct lane_error, text, NUL */
};
struct lane_error {
    uint64_t reply; /* which reply */
    int64_t nested; /* element of the array it was met in; -1: the reply itself */
    size_t text_n;
};
/* The error kept at *at (0: the first), which moves on to the next; NULL: no more. In the order of
 * the replies; n_errors may be larger than what is kept. */
const char *lane_outcome_next(const struct lane_outcome *o, size_t *at, struct lane_error *ret);

/* Why a lane is of no more use until lane_reset(). What was in flight may have been applied. */
enum lane_lost {
    LANE_FINE,
    LANE_LOST,     /* connection gone, or nothing heard for too long */
    LANE_READONLY, /* the server has become a replica: writes go elsewhere */
    LANE_FENCED,   /* somebody has touched the checkpoint: the batch came to nothing */
    LANE_TORN,     /* MULTI alone was refused: some of what came behind it ran, one by one */
};

/* The lanes to the nodes of one cluster. What is refused by MOVED, ASK, TRYAGAIN or CLUSTERDOWN is
 * then not refused for good: items are sent again, over the lane that their key has by then; calls
 * and batches come back to the caller, who asks `of` anew. */
struct lane_peers {
    struct lane *(*nth)(void *ctx, unsigned i); /* all of them, from 0 on; NULL: no more */
    struct lane *(*of)(void *ctx, struct span key);
    int (*follow)(void *ctx, const char *line, struct err *err); /* fan_follow() */
    void (*recovered)(void *ctx);
    void *ctx;
    struct buf rest; /* items to be sent again */
};
void lane_peers_init(struct lane_peers *p);
void lane_peers_release(struct lane_peers *p);

struct lane {
    struct conn *conn;        /* owned; NULL while lost */
    struct lane_peers *peers; /* NULL: it is by itself. Borrowed */
    enum lane_lost lost;
    /* A whole WATCH and GET, sent behind the EXEC of batches with a checkpoint, for its key, of
     * fence_db; empty: none (docs/decisions/0003). Borrowed. */
    struct span fence;
    int64_t fence_db;
    struct buf fence_told; /* by that GET */
    bool fence_down;       /* the last of them did not do: to be sent again before the next batch */
    bool gave_up;          /* a passing fault has lasted for the task's retry time */
    bool resumable;        /* a lost target is not the end: READONLY is not waited out here */
    struct ring out;
    uint64_t sent; /* ring position written to the socket */
    struct lane_item *items;
    uint32_t item_head, item_tail; /* ring of LANE_ITEMS */
    uint8_t *in;                   /* replies as read */
    struct resp_scan scan;
    int64_t db;       /* selected once everything emitted has run; -1 unknown */
    struct buf retry; /* items to send again: struct lane_item, bytes */
    uint32_t n_retry;
    char retry_why[RESP_ERROR_MAX];
    int64_t retry_since_ms, retry_pause_ms, retry_limit_ms;
    bool retry_told; /* that it is waited for */

    bool calling;
    struct lane_part parts[LANE_PARTS_MAX];
    unsigned n_parts, part;
    uint64_t part_at;
    struct buf chunk; /* bytes of a store on their way out */
    size_t chunk_at;
    struct lane_outcome outcome;

    bool keep_existing; /* BUSYKEY or a nil SET NX: skip (policy skip), else stop (policy fail) */
    struct refusals *refusals;
    struct counters *counters;
    const atomic_bool *stop; /* ends the waiting for passing faults */
    int64_t heard_ms; /* monotonic ms of the last byte from the target, or of the last send */
    int64_t io_timeout_ms;

    /* Drain the source, pump this lane, wait for whatever comes first (at most max_wait_ms). */
    int (*step)(void *ctx, int max_wait_ms, struct err *err);
    void *step_ctx;
};

struct lane_config {
    struct conn *conn;        /* taken over, also on failure */
    struct lane_peers *peers; /* of a cluster; else NULL */
    struct refusals *refusals;
    struct counters *counters;
    const atomic_bool *stop;
    int64_t retry_limit_ms;
    int io_timeout_ms;
    bool keep_existing;
    int (*step)(void *ctx, int max_wait_ms, struct err *err);
    void *step_ctx;
};

KH_MUST int lane_init(struct lane *l, const struct lane_config *cfg, struct err *err);
void lane_release(struct lane *l);

/* A new connection in the place of a lost one (taken over): nothing is in flight, database 0 is
 * selected. */
void lane_reset(struct lane *l, struct conn *conn);
/* The connection is given up; what was in flight is unknown. */
void lane_drop(struct lane *l, enum lane_lost why);

/* --- called by the poll step --- */
short lane_poll_events(const struct lane *l);
/* Send what can be sent and, when `readable`, take replies. Returns 1 when something moved. */
KH_MUST int lane_pump(struct lane *l, bool readable, struct err *err);
/* Something is unanswered. */
bool lane_busy(const struct lane *l);

/* --- items --- */
/* Room for an item of n (<= LANE_ITEM_MAX) bytes; write there, then commit exactly what was
 * written (<= n). Selects database `db` first when another one is selected. */
KH_MUST int lane_reserve(struct lane *l, int64_t db, size_t n, uint8_t **ret, struct err *err);
KH_MUST int lane_commit(struct lane *l, const struct lane_item *item, struct err *err);
/* Wait until all items are answered, passing faults included. Of several lanes those that have to
 * be sent again may have gone to others: when any had to, all are drained. */
KH_MUST int lane_drain(struct lane *l, struct err *err);
/* All of them. */
KH_MUST int lane_peers_drain(struct lane_peers *p, struct err *err);

/* --- calls --- */
/* Have database db selected; drains first when another one is. */
KH_MUST int lane_select(struct lane *l, int64_t db, struct err *err);
/* Begin to send `parts` as `replies` requests. The lane must be idle. */
KH_MUST int lane_call_begin(struct lane *l, const struct lane_part *parts, unsigned n_parts,
                            uint64_t replies, struct err *err);
/* Between begin and the first reply: the outcome is told by the reply `n` before the last one. */
static inline void lane_call_main(struct lane *l, uint64_t n)
{
    l->outcome.main -= n;
}
/* Wait for all replies; l->outcome tells. No retries: the caller decides. */
KH_MUST int lane_call_wait(struct lane *l, struct err *err);
/* One request, drained before, passing faults waited out; l->outcome.last is its reply. With peers
 * it may be a redirection, see refusal_is_redirect(). */
KH_MUST int lane_call(struct lane *l, const struct lane_part *parts, unsigned n_parts,
                      struct err *err);
/* Same from C strings, in database db (-1: whichever). */
KH_MUST int lane_call_strs(struct lane *l, int64_t db, size_t argc, const struct span *argv,
                           struct err *err);

/* Wait out a passing fault whose words are `why`: logs it once, pauses with back-off, gives up with
 * ERR_BUSY after the task's retry time. lane_recovered() when a write has gone through again. */
KH_MUST int lane_pause(struct lane *l, const char *why, struct err *err);
void lane_recovered(struct lane *l);

/* --- lane.c for lane_peers.c --- */

/* All items answered, some of them perhaps refused in passing. */
KH_MUST int lane_flush(struct lane *l, struct err *err);
/* An item whose bytes are at hand. Waits for room. 1: not sent, for others have been refused
 * meanwhile. */
KH_MUST int lane_put_again(struct lane *l, const struct lane_item *item, const uint8_t *bytes,
                           struct err *err);

#endif
