// SPDX-License-Identifier: BSD-3-Clause
// Segment files: a queue of bytes on disk, appended at one end, read and deleted at the other.
//
//   head ──▶ [ read │ to be read ] [ full ] [ full ] [ written so far │ ... ] ◀── tail
//
// What one segs_append() is given never straddles two files. Used by the spool alone; the names are
// "spool-<pid>-<n>.seg". One owner thread.
#ifndef KEYHAUL_IO_SEGS_H
#define KEYHAUL_IO_SEGS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct seg;

struct segs {
    char *dir;
    uint64_t max_bytes;     /* quota of all files together */
    uint64_t segment_bytes; /* a file that would grow beyond is left for a new one */
    uint64_t file_bytes;    /* size of all files */
    uint64_t next_number;
    struct seg *head, *tail;
    int read_fd, write_fd;
    uint64_t read_at; /* in head */
    bool dir_made;
};

KH_MUST int segs_init(struct segs *q, const char *dir, uint64_t max_bytes, uint64_t segment_bytes,
                      struct err *err);
void segs_release(struct segs *q); /* deletes the files */
void segs_clear(struct segs *q);   /* deletes the files; may be used again */

/* 1 written; 0 no room now: quota, or the disk is full (nothing was added); -1 error. */
KH_MUST int segs_append(struct segs *q, const void *p, size_t n, struct err *err);

/* Up to n bytes from the read position, not beyond the end of a file; 0: none left. */
KH_MUST ssize_t segs_read(struct segs *q, void *p, size_t n, struct err *err);

/* The next n of them are done with. A file read to its end goes when there is another. */
void segs_advance(struct segs *q, size_t n);

/* Fill err with ERR_IO, naming the file and the position `ahead` bytes beyond the read position. */
int segs_damaged(const struct segs *q, size_t ahead, const char *what, struct err *err);

#endif
