// SPDX-License-Identifier: BSD-3-Clause
// A simple model of a spool for its tests: every byte and every time of receipt, by position.
#ifndef TESTS_SPOOL_KIT_H
#define TESTS_SPOOL_KIT_H

#include "io/spool.h"

#include <stdbool.h>

struct kit {
    char root[64], dir[80]; /* dir is not there at first */
};

void kit_make(struct kit *k);
void kit_drop(struct kit *k); /* fails when anything is left in root but an empty dir */
/* Files in `dir`, hidden ones not counted; one of their paths. */
unsigned kit_files(const char *dir, char *ret_path, size_t size);
void kit_copy(const char *from, const char *to); /* plain files; `to` is made, or emptied */
void kit_empty(const char *dir);
void kit_flip(const char *path, long at);               /* one bit of that byte */
unsigned kit_lines(const char *path, const char *with); /* lines that hold these words */
/* Where all log lines go until kit_unlog(); returns its path. */
const char *kit_log(struct kit *k);
void kit_unlog(struct kit *k);
void kit_no_room(bool on); /* files grow no more */

struct model {
    uint64_t rng;
    uint64_t tail, head;
    int64_t now;
    int32_t *when; /* time of receipt by position */
    size_t max;
};

uint8_t model_byte(uint64_t pos);
uint64_t model_next(struct model *m); /* random */
void model_init(struct model *m, uint64_t seed, size_t max);
void model_release(struct model *m);
/* Commit up to n bytes; returns how many went. */
size_t model_produce(struct model *m, struct spool *s, size_t n);
/* Check all that can be seen, then consume up to n of it. */
size_t model_consume(struct model *m, struct spool *s, size_t n);
/* Read and check all from where the consumer stands up to the tail. */
void model_read_all(struct model *m, struct spool *s);

#endif
