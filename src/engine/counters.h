// SPDX-License-Identifier: BSD-3-Clause
// What a running task tells the outside: counters, written by the pipeline's thread, read by any.
//
// Each is a relaxed atomic with one writer; a reader sees each value whole, not all of one moment.
#ifndef KEYHAUL_ENGINE_COUNTERS_H
#define KEYHAUL_ENGINE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

enum phase {
    PHASE_CONNECT,   /* connecting, learning what both sides are */
    PHASE_CHECK,     /* prechecks, conflicts */
    PHASE_WAIT_DUMP, /* the source makes its snapshot */
    PHASE_SNAPSHOT,  /* snapshot is received and loaded */
    PHASE_CATCH_UP,  /* stream, behind the source */
    PHASE_STREAM,    /* stream, caught up at least once */
    PHASE_DONE,
};

typedef _Atomic uint64_t counter;

#define COUNTERS_DBS 256 /* databases counted one by one; higher ones are added up in the last */

/* One table, many readers (metrics file, progress, summary, and later Prometheus):
 * name in the JSON, help. All are totals since the start unless said otherwise. */
#define COUNTERS_TABLE(X)                                                                          \
    X(phase, "enum phase now")                                                                     \
    X(snapshot_bytes_total, "size of the snapshot where the source told it, else 0")               \
    X(snapshot_bytes_received, "bytes of the snapshot received")                                   \
    X(snapshot_bytes_decoded, "bytes of the snapshot decoded")                                     \
    X(snapshot_keys_expected, "keys the snapshot announced so far (RESIZEDB), a hint")             \
    X(keys_read, "keys decoded from the snapshot")                                                 \
    X(keys_written, "keys of the snapshot that the target acknowledged")                           \
    X(keys_skipped, "keys left alone because they were on the target already")                     \
    X(keys_unsupported, "keys left out because the target cannot hold them")                       \
    X(keys_filtered, "keys not selected, or of databases not selected")                            \
    X(keys_deleted, "keys deleted because a new snapshot does not have them")                      \
    X(functions_written, "function libraries and scripts loaded into the target")                  \
    X(commands_read, "commands of the stream decoded")                                             \
    X(commands_written, "commands the target acknowledged")                                        \
    X(commands_filtered, "commands of databases not selected, or not data")                        \
    X(commands_carried, "commands that were given their keys of several slots in one")             \
    X(transactions, "MULTI/EXEC groups of the source passed on whole")                             \
    X(bytes_read, "bytes received from the source, snapshot and stream")                           \
    X(bytes_written, "bytes sent to the target")                                                   \
    X(errors, "writes the target refused for good")                                                \
    X(retries, "writes sent again after a passing fault")                                          \
    X(waits_ms, "milliseconds spent waiting for passing faults to go away")                        \
    X(snapshots, "snapshots that the task has taken, runs before this one included")               \
    X(keys_before, "keys of the snapshot loaded by runs of the task before this one")              \
    X(commands_before, "commands of the stream written by runs before this one")                   \
    X(links_lost, "times that a side was lost and called again")                                   \
    X(waiting_for, "what is waited for now: 1 source, 2 target, 3 target takes no writes, "        \
                   "4 its turn to load, 0 none")                                                   \
    X(waiting_until_ms, "monotonic ms at which that is given up")                                  \
    X(slots_unsettled, "slots that have come from another shard and are not all there yet, now")   \
    X(source_offset, "replication offset the source reported last")                                \
    X(received_offset, "replication offset received")                                              \
    X(applied_offset, "replication offset applied on the target")                                  \
    X(lag_bytes, "source_offset - applied_offset, now")                                            \
    X(lag_ms, "age of the oldest byte received but not applied, now")                              \
    X(spool_ram_bytes, "waiting in memory, now")                                                   \
    X(spool_disk_bytes, "waiting on disk, now")                                                    \
    X(started_wall_ms, "unix ms")                                                                  \
    X(snapshot_started_ms, "monotonic ms, 0 not yet")                                              \
    X(snapshot_done_ms, "monotonic ms, 0 not yet")                                                 \
    X(caught_up_ms, "monotonic ms of the first time lag was zero, 0 not yet")

enum counters_waits { /* waiting_for */
                      COUNTERS_WAITS_FOR_NONE,
                      COUNTERS_WAITS_FOR_SOURCE,
                      COUNTERS_WAITS_FOR_TARGET,
                      COUNTERS_WAITS_FOR_WRITES, /* of the target, which is there */
                      COUNTERS_WAITS_FOR_TURN,   /* of a shard, while others load */
};

#define COUNTERS_WHY_WORDS 32
#define COUNTERS_WHY       (COUNTERS_WHY_WORDS * 8)

struct counters {
#define X(name, help) counter name;
    COUNTERS_TABLE(X)
#undef X
    struct {
        counter keys, bytes, commands, skipped, errors;
    } db[COUNTERS_DBS]; /* by database of the source */
    struct counters_why {
        counter turns, word[COUNTERS_WHY_WORDS];
    } why; /* what is waited for is waited for */
};

/* What is waited for, until when at most (monotonic), why; NONE: it is over. */
void counters_wait(struct counters *c, enum counters_waits what, int64_t until_ms, const char *why);
void counters_set_why(struct counters *c, const char *why);
void counters_get_why(struct counters *c, char ret[COUNTERS_WHY]); /* any thread; "" none */

static inline void counter_add(counter *c, uint64_t n)
{
    /* One writer: a plain load and store is enough, and cheaper than a locked add. */
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void counter_set(counter *c, uint64_t v)
{
    atomic_store_explicit(c, v, memory_order_relaxed);
}

static inline uint64_t counter_get(counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

static inline unsigned counters_db(uint64_t db)
{
    return db < COUNTERS_DBS ? (unsigned)db : COUNTERS_DBS - 1;
}

#endif
