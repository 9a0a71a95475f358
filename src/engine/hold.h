// SPDX-License-Identifier: BSD-3-Clause
// Holding deadlines (C8): a key must not die on the target by its own clock while the change that
// renewed it still waits here, or is still to come.
//
// A replica never expires keys by itself; a target does. So a deadline that may pass before the
// changes behind it have been applied is written as another, far ahead, that stands for it, and the
// key is noted. When all that could have renewed it has been applied, the key is looked at again:
// if its deadline stands for another it gets that one (and dies at once when it has passed, as on
// the source); where the stream has changed it meanwhile, in whatever way, it is left alone. A
// source that still lives has deleted it by then, and there is no key any more.
//
//    hold_deadline() ─▶ noted ─▶ due ─▶ hold_settle() ─▶ exact, or gone
//
// What a deadline stands for is told by itself, never by the note, for a key may have been given
// several, or another key's (RENAME). A target that knows PEXPIRETIME tells it to the millisecond:
// it is the real one + HOLD_SHIFT_MS. One before 7.0 tells only the time left (PTTL), by a clock
// that may not be ours and a network later: there each millisecond is spread over so many that an
// hour of difference rounds away.
//
// One owner thread.
#ifndef KEYHAUL_ENGINE_HOLD_H
#define KEYHAUL_ENGINE_HOLD_H

#include "engine/batch.h"
#include "engine/hold_notes.h"
#include "engine/select.h"
#include "redis/primaries.h"
#include "redis/scan.h"

/* About 4,459 years. Users do write deadlines that lie so far ahead (the year 9999): what is taken
 * for a held one must also stand for a time at which one was held. */
#define HOLD_SHIFT_MS ((int64_t)1 << 47)
/* Before 7.0: FAR + (deadline - time of the first note) * SPREAD. */
#define HOLD_FAR_MS    ((int64_t)1 << 60)
#define HOLD_SPREAD    ((int64_t)1 << 23)
#define HOLD_MARGIN_MS ((int64_t)1 << 35) /* never held are those a year or more ahead */
#define HOLD_KEY_MAX   (8u << 20)         /* longer keys keep their deadlines */

/* Looking for deadlines of a former run: hold_scan.c. */
struct hold_scan {
    bool wanted;             /* until all have been looked at */
    struct client *c;        /* owned; NULL: not there yet, or lost, or there is */
    struct cluster *cluster; /* owned */
    bool walking;
    struct walk walk;
    struct client *node;     /* that is being gone through; NULL none */
    struct server_facts dbs; /* which of its databases have keys */
    size_t i;                /* of them */
    bool open;               /* `page` is of it */
    struct scan page;
    uint64_t swaps, found;
    const struct db_select *select;
};

struct fan;

struct hold {
    struct fan *fan; /* of a target that is a cluster: in place of the lane. Borrowed */
    const struct slot_set
        *slots; /* only keys of these are looked for, and settled; NULL: all. Borrowed */
    bool on;    /* false: no stream follows, deadlines are written as they are */
    bool exact; /* the target knows PEXPIRETIME (7.0+) */
    struct hold_notes notes;
    uint64_t n;             /* how many there are */
    uint64_t round;         /* of them a hold_go_round() has still to look at */
    bool told_full;         /* that there is no room for notes, said once */
    int64_t base_ms;        /* time of the first note, 0 none yet */
    int64_t min_ms, max_ms; /* real deadlines held since then lie between */
    /* Databases that SWAPDB gave the content of another: struct hold_name. Notes name a database
     * as it was called at the first note. */
    struct buf names, names_before; /* now; before the unfinished transaction */
    bool swapped;                   /* they differ */
    uint64_t swaps;                 /* so far */
    struct hold_scan scan;
    struct buf keys, ask;
    struct batch batch;
};

void hold_init(struct hold *h, bool on, bool exact, const char *store_dir, uint64_t max_bytes);
void hold_release(struct hold *h);

/* Deadlines to be settled: those before the one time, and those after the other. */
struct hold_due {
    int64_t before_ms, after_ms;
};

/* The deadline (unix ms) to write for this key of target database `db`: `at_ms`, or one that stands
 * for it when it would pass within margin_ms from now; then the key is noted. Where there is no
 * room for a note it is not held, which is said. */
KH_MUST int hold_deadline(struct hold *h, int64_t db, struct span key, int64_t at_ms,
                          int64_t now_ms, int64_t margin_ms, int64_t *ret_ms, struct err *err);

/* The stream gave a key's deadline to another key (RENAME, COPY, MOVE), or swapped databases. Free
 * when nothing is held. */
KH_MUST int hold_moved(struct hold *h, int64_t db, struct span key, struct err *err);
KH_MUST int hold_swapped(struct hold *h, int64_t a, int64_t b, struct err *err);

/* As batch_mark() and batch_back(): a transaction that is dropped swapped no databases. */
KH_MUST int hold_mark(struct hold *h, struct err *err);
void hold_back(struct hold *h);

/* Is the oldest note due? (HOLD_ALL: is there a note?) */
#define HOLD_ALL ((struct hold_due){INT64_MAX, INT64_MAX})
bool hold_is_due(struct hold *h, struct hold_due due);

/* Settle the oldest notes, as long as they are due (up to about max_keys; 0: no limit). The lane
 * must be idle, and all that was noted applied; the lane is idle again afterwards. With h->fan all
 * of its lanes are meant, and `l` is not looked at. */
KH_MUST int hold_settle_due(struct hold *h, struct lane *l, uint64_t max_keys, struct hold_due due,
                            struct err *err);
/* All of them. */
KH_MUST static inline int hold_settle(struct hold *h, struct lane *l, uint64_t max_keys,
                                      struct err *err)
{
    return hold_settle_due(h, l, max_keys, HOLD_ALL, err);
}
/* Settle those that are due among all notes, not only the oldest; to be called until h->round is 0,
 * which begins the next round. */
KH_MUST int hold_go_round(struct hold *h, struct lane *l, uint64_t max_keys, struct hold_due due,
                          struct err *err);

/* --- after an end that was not orderly --- */

/* The notes of a former run are lost, and the deadlines that it held stand on the target: those
 * databases are gone through that the task moves to, and what is found is noted as if it had just
 * been held. Also when a failover of the target has lost writes, for these may have been settled
 * deadlines.
 *
 * Reads over a connection of its own; what is found is settled over the lane, like any other. It is
 * done by hold_scan_step() while nothing is in flight or built: then what is read is of the
 * stream's own place. */

/* Before 7.0 what is held is told by the distance from this time (unix ms), so it must be kept in
 * the task's state before the first deadline is held, and given here by each run. */
void hold_set_base(struct hold *h, int64_t base_ms);
void hold_scan_begin(struct hold *h, const struct db_select *select, int64_t now_ms);
/* A scan is under way, or waits for a connection: deadlines that nobody has noted may be held. */
static inline bool hold_scan_wanted(const struct hold *h)
{
    return h->scan.wanted;
}
static inline bool hold_scan_needs_client(const struct hold *h)
{
    return h->scan.wanted && !h->scan.c && !h->scan.cluster;
}
/* Taken over. When it fails it is closed, which is told in the log, and another one is needed:
 * the scan begins again. */
void hold_scan_client(struct hold *h, struct client *c);
/* Of a target that is a cluster: one of its own, likewise. */
void hold_scan_cluster(struct hold *h, struct cluster *c);
/* A page of keys. 1: there is more. 2: there is, but slots are on their way between nodes: in a
 * while. 0: it is through, or needs a client. */
int hold_scan_step(struct hold *h);

/* --- between hold.c and hold_scan.c --- */

KH_MUST int hold_found(struct hold *h, int64_t db, struct span key, int64_t at_ms, struct err *err);
/* What the target tells of a key (PEXPIRETIME, or PTTL), and whether that stands for another. */
bool hold_decode(const struct hold *h, int64_t told, int64_t now_ms, int64_t *ret_ms);
void hold_scan_release(struct hold *h);

#endif
