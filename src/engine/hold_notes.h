// SPDX-License-Identifier: BSD-3-Clause
// Notes of keys whose deadline is held (hold.h): a queue, in memory and then on disk.
//
// Two stores, one written while the other is read; when that one has been gone through, they change
// places. So it takes room for what is held now and not for all that ever was. Notes are written
// and read by the 64 KB.
//
// Reading is in two steps, so that what was looked at can be looked at again when the target has
// failed meanwhile: next, pass, next, pass ... and then keep to it, or go back.
#ifndef KEYHAUL_ENGINE_HOLD_NOTES_H
#define KEYHAUL_ENGINE_HOLD_NOTES_H

#include "base/span.h"
#include "io/store.h"

struct hold_note {
    int64_t at_ms; /* the real deadline, or, of a key that was given another's, one not before it */
    int64_t db;
    uint32_t key_n;
    uint32_t moved; /* it was given another's */
};

struct hold_notes {
    struct store st[2];
    unsigned to;    /* written to; the other is read */
    struct buf out; /* the newest, in no store yet */
    struct buf in;  /* of the store that is read, from in_at on */
    uint64_t in_at;
    uint64_t at, next; /* up to where notes are gone, and looked at */
};

void hold_notes_init(struct hold_notes *q, size_t key_max, const char *dir, uint64_t max_bytes);
void hold_notes_release(struct hold_notes *q);
void hold_notes_clear(struct hold_notes *q);

/* ERR_LIMIT, ERR_IO: no room; then nothing is lost of what was there. */
KH_MUST int hold_notes_add(struct hold_notes *q, const struct hold_note *note, struct span key,
                           struct err *err);

/* The next note; 1, 0 when all have been looked at, or when those looked at are to be decided on
 * first (they are of one store), -1. The key lies there until the next call. */
KH_MUST int hold_notes_next(struct hold_notes *q, struct hold_note *ret, struct span *ret_key,
                            struct err *err);
void hold_notes_pass(struct hold_notes *q, const struct hold_note *note);
/* Those looked at are gone, or to be looked at again. */
void hold_notes_drop(struct hold_notes *q);
void hold_notes_back(struct hold_notes *q);

#endif
