// SPDX-License-Identifier: BSD-3-Clause
// The spool: a byte queue between receiving from the source and decoding.
//
//   recv ──▶ RAM ring ──▶ decoder            while the ring has room and nothing is on disk
//   recv ──▶ segment files ──▶ RAM ring ──▶  otherwise; in order, a segment is deleted once read
//
// Carries the time of receipt of every byte (unix ms), so that relative expiries of commands which
// waited here for an hour come out right. Segment record: u32 length, u32 checksum (low half of
// XXH64 of time and payload), i64 receipt ms, payload. Pure queue: it opens no sockets.
// Segments are opened in `dir`, made on first need with mode 0700, files 0600, name
// "spool-<pid>-<n>.seg"; all are unlinked at close. One owner thread.
//
// A full disk is taken for a reached quota: nothing is lost, the producer waits, the next refill
// tries again.
#ifndef KEYHAUL_IO_SPOOL_H
#define KEYHAUL_IO_SPOOL_H

#include "io/ring.h"

#include <sys/types.h>

struct spool;

struct spool_config {
    size_t ram_bytes;        /* size of the ring */
    const char *dir;         /* copied */
    uint64_t max_disk_bytes; /* quota; when reached spool_space() gives 0: back-pressure */
    uint64_t segment_bytes;  /* 0: 64 MB */
    uint64_t keep_bytes; /* of a log: so much of what is done with stays, if the quota has room */
};

KH_MUST int spool_open(struct spool **ret, const struct spool_config *cfg, struct err *err);
void spool_close(struct spool *s); /* NULL-safe; deletes its files */

/* Producer: where the next bytes go and how many fit (0: full, stop reading the source), then how
 * many were put there and when they were received: one commit per spool_space(), no other call but
 * peek and consume between the two. In disk mode that is a side buffer, written out when full, or
 * taken back by spool_refill() when all before it has been. */
size_t spool_space(struct spool *s, uint8_t **ret_p);
KH_MUST int spool_commit(struct spool *s, size_t n, int64_t received_ms, struct err *err);

/* Consumer: contiguous bytes in the ring, from the oldest not consumed. Pointers stay valid until
 * consumed, also across commits and refills. */
size_t spool_peek(const struct spool *s, const uint8_t **ret_p);
void spool_consume(struct spool *s, size_t n);
/* Bring bytes from disk into free room of the ring (and what the side buffer holds). Returns bytes
 * moved; -1 error. A no-op when nothing is on disk. Cheap: to be called in every poll step. */
KH_MUST ssize_t spool_refill(struct spool *s, struct err *err);

/* --- as a log that outlives the process (docs/decisions/0003) --- */

/* From now on all that is received goes to disk too, beginning with what has not been consumed yet;
 * and what was consumed stays until spool_done(). The files stay at close. */
KH_MUST int spool_keep(struct spool *s, struct err *err);
/* All before `pos` has been applied: it may go, but for the last keep_bytes. Cheap. */
void spool_done(struct spool *s, uint64_t pos);
uint64_t spool_first(const struct spool *s); /* the oldest position that can be read (again) */
/* The consumer goes on at `pos`, first..tail. Pointers of spool_peek() are void. */
KH_MUST int spool_seek(struct spool *s, uint64_t pos, struct err *err);
/* What a former run left in `dir`, as a log: positions go on, first..tail; a torn tail is cut at
 * the last whole record. Nothing usable there: 0, and *ret_pos is UINT64_MAX with the folder
 * emptied. Otherwise *ret_pos is first, where the consumer stands. */
KH_MUST int spool_recover(struct spool **ret, const struct spool_config *cfg, uint64_t *ret_pos,
                          struct err *err);
/* Everything on disk, synced. */
KH_MUST int spool_sync(struct spool *s, struct err *err);

uint64_t spool_head(const struct spool *s);       /* position consumed up to, since open */
uint64_t spool_tail(const struct spool *s);       /* position received up to */
uint64_t spool_ram_bytes(const struct spool *s);  /* in the ring: what spool_peek() gives */
uint64_t spool_disk_bytes(const struct spool *s); /* beyond it: what spool_refill() will bring */

/* Receipt time of the byte at position pos (not consumed yet and in the ring), unix ms. Asking in
 * ascending order is O(1) amortised. */
int64_t spool_time_at(struct spool *s, uint64_t pos);

#endif
