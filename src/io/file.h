// SPDX-License-Identifier: BSD-3-Clause
// Local files: replaced atomically, read as secrets, written and read at a position.
//
// Errors are ERR_IO with the path and what the system said. Stateless: any thread.
#ifndef KEYHAUL_IO_FILE_H
#define KEYHAUL_IO_FILE_H

#include "base/buf.h"

#include <stdio.h>
#include <sys/types.h>

/* Replace `path` by a file with these bytes: readers see the old one or the new one, never a part.
 * A temporary file in the same directory is written and renamed; with `sync` it is on the disk
 * before the rename, and the rename before the return. Mode 0644 less the umask. */
KH_MUST int file_write_atomic(const char *path, struct span bytes, bool sync, struct err *err);
/* The same with mode 0600. */
KH_MUST int file_write_private(const char *path, struct span bytes, bool sync, struct err *err);

/* The same in steps: begin, write as often as needed (or to `fd`), then commit or drop. The mode is
 * less the umask. A commit that fails has dropped it. */
struct file_new {
    int fd;
    const char *path; /* borrowed */
    char temp[4096];
};
KH_MUST int file_new_begin(struct file_new *f, const char *path, mode_t mode, struct err *err);
KH_MUST int file_new_write(struct file_new *f, const void *p, size_t n, uint64_t at,
                           struct err *err);
KH_MUST int file_new_commit(struct file_new *f, bool sync, struct err *err);
void file_new_drop(struct file_new *f); /* safe after commit */

/* All of a regular file into buf (which is emptied first): 1, or 0 where there is none. More than
 * buf's cap: ERR_LIMIT. */
KH_MUST int file_read_whole(const char *path, struct buf *buf, struct err *err);

#define FILE_SECRET_MAX_BYTES 65536

/* First line of a password file into buf (which is emptied first), without its newline. ERR_USAGE
 * when the file is missing, unreadable, no regular file or pipe, larger than 64 KB, when the line
 * is empty or holds a NUL byte. A NUL follows the bytes and is not counted. */
KH_MUST int file_read_secret(const char *path, struct buf *buf, struct err *err);

/* Bytes an ordinary user may still write to the file system of `dir`; where `dir` does not exist
 * yet, to that of its nearest parent that does. */
KH_MUST int file_free_space(const char *dir, uint64_t *ret_bytes, struct err *err);

/* The entry of `path` in its folder (made, renamed, gone) is on the disk. */
KH_MUST int file_sync_parent(const char *path, struct err *err);

/* Make `dir` with mode 0700 unless it is there. Its parent must exist. */
KH_MUST int file_make_dir(const char *dir, struct err *err);
/* The same with all parents that are missing. */
KH_MUST int file_make_dirs(const char *dir, struct err *err);

/* All n bytes at a position of the file: 0, or -1 with errno. A read beyond the end is -1 with
 * errno 0. Interrupted and short calls are gone on with. */
KH_MUST int file_pwrite(int fd, const void *p, size_t n, uint64_t at);
KH_MUST int file_pread(int fd, void *p, size_t n, uint64_t at);

/* The errno of a write says: no room now (disk, quota or size limit), perhaps later. */
bool file_no_room(int errnum);

#endif
