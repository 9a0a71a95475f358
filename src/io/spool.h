// SPDX-License-Identifier: BSD-3-Clause
// The spool: a byte queue between receiving from the source and decoding.
//
//   recv ──▶ RAM ring ──▶ decoder            while the ring has room and nothing is on disk
//   recv ──▶ segment files ──▶ RAM ring ──▶  otherwise; in order, a segment is deleted once read
//
// Carries the time of receipt of every byte (unix ms), so that relative expiries of commands which
// waited here for an hour come out right. It opens no sockets. One owner thread. Segment files have
// checksummed records and are opened in `dir`, made on first need with mode 0700, files 0600.
//
// Whose files they are: a spool without a name calls them "spool-<pid>-<n>.seg", deletes them at
// close, and never touches another's; any number of them may share a folder. A spool with a name
// (log_name) is alone in `dir` with that name, which the caller sees to (a lock of the task):
// "<name>-<n>.tmp" as a queue, "<name>-<position, 16 hex digits>.seg" as a log. Files of just these
// names are taken for those of a former run: spool_open() deletes them, spool_recover() goes on
// with them.
//
// A full disk is taken for a reached quota: nothing is lost, the producer waits, and it goes on by
// itself when there is room.
#ifndef KEYHAUL_IO_SPOOL_H
#define KEYHAUL_IO_SPOOL_H

#include "io/ring.h"

#include <sys/types.h>

struct spool;

#define SPOOL_NAME_MAX 160

struct spool_config {
    size_t ram_bytes;        /* size of the ring */
    const char *dir;         /* copied */
    uint64_t max_disk_bytes; /* quota; when reached spool_space() gives 0: back-pressure */
    uint64_t segment_bytes;  /* 0: 16 MB */
    uint64_t keep_bytes;  /* of a log: so much of what is done with stays, if the quota has room */
    const char *log_name; /* copied; no '/'. NULL: it will never be a log */
};

KH_MUST int spool_open(struct spool **ret, const struct spool_config *cfg, struct err *err);
void spool_close(struct spool *s);   /* NULL-safe; deletes its files, unless it is a log */
void spool_discard(struct spool *s); /* the same, and deletes those of a log too */

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
/* The consumer wants more than spool_peek() gives: bring bytes from disk into free room of the ring
 * (and what the side buffer holds). Returns bytes moved; -1 error. Nothing to bring: cheap. */
KH_MUST ssize_t spool_refill(struct spool *s, struct err *err);

/* --- as a log that outlives the process (docs/decisions/0003) ---
 *
 * What is received is written to the last file, 64 KB or more at once, and at the latest by
 * spool_write(), or when anything is asked of the spool 50 ms after it came; as long as the
 * consumer keeps up it is never read back. After a crash of the process all that was written is
 * there.
 *
 * What a power cut takes: of what has not been applied (spool_done()) about the last two seconds,
 * and what the file system holds back of its own accord (ext4: 5 s). Every second it is looked
 * whether the target is behind what was there the last time; then, and every 8 MB from there on,
 * writing to the disk is begun, without waiting for it, and files that were left for another one
 * are synced. As long as it keeps up nothing has to be on the disk: a log that ends before the
 * target's checkpoint, as it does after a power cut, is of no use. Whatever is gone is asked of the
 * source again; half of it is never taken for whole.
 *
 * No room, by quota or by disk (said once in a minute at most): files that are done with go first,
 * keep_bytes or not. Then the ring fills up, and spool_space() gives 0. What is in memory and could
 * not be written stays there even if consumed, and is written first when there is room (tried ten
 * times in a second). When nothing but what is done with could not be written, the log begins anew
 * behind it: the target that keeps up is not held up by a full disk. When the consumer can go no
 * further without more (spool_refill() for a second, and spool_space() gives 0: a command larger
 * than the quota), what it has consumed goes although it is not done with: spool_first() tells. */

/* From now on all that is received goes to disk too, beginning with what has not been consumed yet
 * (where that finds the disk full: with what comes after it); and what was consumed stays until
 * spool_done(). The files stay at close. Once is enough. Needs log_name. */
KH_MUST int spool_keep(struct spool *s, struct err *err);
/* What has been received is about to be applied: have it in the files before. No room for it is no
 * failure. Cheap when there is nothing new, or no log. */
KH_MUST int spool_write(struct spool *s, struct err *err);
/* All before `pos` has been applied: it may go, but for the last keep_bytes. Cheap. */
void spool_done(struct spool *s, uint64_t pos);
/* The oldest position that can be read (again); of a spool that is no log: spool_head(). It can be
 * beyond spool_head(), see above. */
uint64_t spool_first(const struct spool *s);
/* The consumer goes on at `pos`, first..tail; what is beyond it is not done with (any more). What
 * is in memory alone is written first, over the quota if need be.
 * Pointers of spool_peek() are void, and spool_refill() is what brings the bytes. ERR_BUSY: there
 * is no room on disk for what would have to leave the memory; nothing has changed, later it may go.
 * After other errors it is of no more use. */
KH_MUST int spool_seek(struct spool *s, uint64_t pos, struct err *err);
/* What a former run left in `dir`, as a log: positions go on, first..tail; a torn tail is cut at
 * the last whole record. What comes after damage or a gap is of no use and deleted; the log says
 * so. Everything is read for that. Nothing usable there: *ret_pos is UINT64_MAX, its files deleted,
 * and *ret as by spool_open(). Otherwise *ret_pos is first, where the consumer stands. */
KH_MUST int spool_recover(struct spool **ret, const struct spool_config *cfg, uint64_t *ret_pos,
                          struct err *err);
/* Everything on disk, synced; what was in memory alone may bring it over the quota. ERR_BUSY: there
 * is no room for all of it. No log: nothing to do. */
KH_MUST int spool_sync(struct spool *s, struct err *err);

uint64_t spool_head(const struct spool *s);       /* position consumed up to, since open */
uint64_t spool_tail(const struct spool *s);       /* position received up to */
uint64_t spool_ram_bytes(const struct spool *s);  /* in the ring: what spool_peek() gives */
uint64_t spool_disk_bytes(const struct spool *s); /* beyond it: what spool_refill() will bring */

/* Receipt time of the byte at position pos (not consumed yet and in the ring), unix ms. Asking in
 * ascending order is O(1) amortised. */
int64_t spool_time_at(struct spool *s, uint64_t pos);

#endif
