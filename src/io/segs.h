// SPDX-License-Identifier: BSD-3-Clause
// Segment files: a queue of bytes on disk, appended at one end, read and deleted at the other.
//
//   head ──▶ [ read │ to be read ] [ full ] [ full ] [ written so far │ ... ] ◀── tail
//
// A file begins with a header, which says what position of the stream its first record is of:
//
//   "KHSPOOL\n"  u32 version 1  u32 salt  u64 position  u64 XXH3 of these 24 bytes  (host's order)
//
// What comes after it is the caller's (whole records; the spool's are told in spool_impl.h). What
// one segs_append() is given never straddles two files. Payload is what counts for positions.
//
// A log's file that is done with becomes the spare: the next one is written over it, soon enough
// for its pages to be in memory still, so that neither they nor its blocks have to be found again.
// So behind what was written there may be what another file was: the salt, one random number for
// all files of a log, goes into the caller's checksums, so that nothing in there can pass for a
// record, whoever made it up.
//
// As a queue the files are "spool-<pid>-<n>.seg", or "<name>-<n>.tmp" where a name is given; each
// goes once it is read. As a log (segs_keep(), segs_recover()) they are "<name>-<position, 16 hex
// digits>.seg", stay until segs_drop_head(), and outlive the process. One owner thread.
#ifndef KEYHAUL_IO_SEGS_H
#define KEYHAUL_IO_SEGS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define SEG_HEADER_BYTES 32u
#define SEGS_IOV_MAX     64u

struct seg {
    struct seg *next;
    uint64_t pos;     /* of its first byte of payload */
    uint64_t payload; /* bytes of it */
    uint64_t bytes;   /* written */
    uint64_t size;    /* of the file: no less than that */
    uint64_t begun;   /* writing to the disk has been begun up to this byte */
    int64_t made_ms;  /* monotonic */
    bool unsynced;    /* not all of it is known to be on the disk */
    char path[];      /* NUL-terminated */
};

struct segs {
    char *dir, *name;       /* name: NULL none */
    bool log;               /* files stay when read */
    uint64_t max_bytes;     /* quota of all files together */
    uint64_t segment_bytes; /* a file that would grow beyond is left for a new one */
    uint64_t file_bytes;    /* size of all files */
    uint64_t next_number;
    struct seg *head, *tail;
    struct seg *spare; /* of a log: to be written over; NULL none */
    uint32_t salt;
    struct seg *rd;   /* the file that is read; NULL: none is there */
    uint64_t read_at; /* in it */
    int read_fd, write_fd;
    bool unsettled; /* the name of the tail, and files before it, may not be on the disk */
    bool dir_made;
    bool quota_hit; /* why segs_append() gave 0: the quota, not the disk */
};

/* `name` (copied): of this owner alone in `dir`, no '/'; NULL: never a log. */
KH_MUST int segs_init(struct segs *q, const char *dir, const char *name, uint64_t max_bytes,
                      uint64_t segment_bytes, struct err *err);
void segs_release(struct segs *q); /* deletes the files, unless they are a log */
void segs_clear(struct segs *q);   /* deletes the files; may be used again */

struct segs_put {
    const struct iovec *iov; /* n_iov, at most SEGS_IOV_MAX */
    unsigned n_iov;
    size_t payload; /* so many of their bytes count */
};
/* Append at position `pos` (which is segs_end() unless there is no file). 1 written; 0 no room now:
 * quota, or the disk is full (nothing was added); -1 error. */
KH_MUST int segs_append(struct segs *q, uint64_t pos, const struct segs_put *put, struct err *err);

/* Up to n bytes from the read position, not beyond the end of a file; 0: none left. */
KH_MUST ssize_t segs_read(struct segs *q, void *p, size_t n, struct err *err);
/* The last n of them are to be read again. */
void segs_unread(struct segs *q, size_t n);
void segs_read_from_end(struct segs *q);
/* Go to the first record of the file that holds `pos`; returns that record's position. Not of an
 * empty queue. */
uint64_t segs_read_from(struct segs *q, uint64_t pos);

/* Fill err with ERR_IO, naming the file and the place `behind` bytes before the read position. */
int segs_damaged(const struct segs *q, size_t behind, const char *what, struct err *err);

/* Positions; not of an empty queue. */
static inline uint64_t segs_first(const struct segs *q)
{
    return q->head->pos;
}
static inline uint64_t segs_first_end(const struct segs *q) /* of the first file */
{
    return q->head->pos + q->head->payload;
}
static inline uint64_t segs_end(const struct segs *q)
{
    return q->tail->pos + q->tail->payload;
}
/* Bytes that one append may bring before the quota is reached. */
static inline uint64_t segs_room(const struct segs *q)
{
    uint64_t used = q->file_bytes + SEG_HEADER_BYTES;
    uint64_t room = used < q->max_bytes ? q->max_bytes - used : 0, over = 0;
    if (q->tail) { /* what is written over takes no more */
        uint64_t end = q->tail->size < q->segment_bytes ? q->tail->size : q->segment_bytes;
        over = end > q->tail->bytes ? end - q->tail->bytes : 0;
    }
    return over > room ? over : room;
}

/* --- as a log --- */

/* What is there becomes a log, under its names. */
KH_MUST int segs_keep(struct segs *q, struct err *err);
/* Put `front` (a log that ends where q begins, q not empty) before q; front is empty then. */
KH_MUST int segs_join(struct segs *front, struct segs *q, struct err *err);
void segs_drop_head(struct segs *q);   /* deletes the first file */
void segs_retire_head(struct segs *q); /* ... or makes it the spare */
bool segs_drop_spare(struct segs *q);  /* false: there is none */
/* Begin to write to the disk all that has been appended; does not wait. */
void segs_write_back(struct segs *q);
/* Have all files of which that was begun on the disk, but for the last one, and the names of all:
 * some time later, when there is little left to wait for. */
KH_MUST int segs_settle(struct segs *q, struct err *err);
/* Wait until all that has been appended is on the disk. */
KH_MUST int segs_sync(struct segs *q, struct err *err);

/* Delete what a former run left in `dir` under this name. No such folder: nothing to do. */
KH_MUST int segs_remove_left(const char *dir, const char *name, struct err *err);

/* How far a file's content is whole: bytes of it into *ret_bytes, payload into *ret_payload; both
 * 0 when not even the first record is. -1: it cannot be read. `pos` is that of its first record;
 * q->salt holds. */
typedef int segs_check_fn(void *ctx, const struct segs *q, int fd, uint64_t pos,
                          uint64_t *ret_bytes, uint64_t *ret_payload);
/* Take over the log that a former run left: files that join, up to the first thing that is not
 * whole, which is cut off there; files beyond it go, as do those of the queue. May find none. The
 * read position is at the first record. */
KH_MUST int segs_recover(struct segs *q, segs_check_fn *check, void *ctx, struct err *err);

/* --- between segs.c and segs_log.c --- */

/* Path, in allocated memory with the rest of a seg: of the log where q->log, else the next of the
 * queue's. NULL: no memory. */
struct seg *segs_new(struct segs *q, uint64_t pos);
void segs_link(struct segs *q, struct seg *seg); /* at the tail */
bool segs_is_header(const uint8_t header[SEG_HEADER_BYTES], uint64_t pos, uint32_t *ret_salt);
KH_MUST int segs_sync_tail(struct segs *q, struct err *err); /* the last file alone */
/* Names that a power cut must not take away again. */
KH_MUST int segs_sync_dir(const struct segs *q, struct err *err);
int segs_io_error(const char *what, const char *path, struct err *err); /* with errno */

#endif
