// SPDX-License-Identifier: BSD-3-Clause
// The dumps of tests/golden/rdb and their manifests, read line by line.
#ifndef KEYHAUL_TEST_GOLDEN_H
#define KEYHAUL_TEST_GOLDEN_H

#include "base/buf.h"

#include <stdio.h>

#define GOLDEN_COLUMNS 10

struct golden {
    char **name; /* of all that have a manifest */
    size_t n;
};
void golden_list(struct golden *g);
void golden_free(struct golden *g);

/* The file of that name and ".rdb" or ".tsv", a NUL behind it. */
struct buf golden_read(const char *name, const char *suffix);

/* The next line of a manifest, cut into columns in place; NULL at the end. Fewer columns: "". */
char *golden_line(char *at, char *column[GOLDEN_COLUMNS]);

/* Hex of bytes, NUL-terminated; to be freed. */
char *golden_hex(const void *p, size_t n);

#endif
