// SPDX-License-Identifier: BSD-3-Clause
// What is damaged, and how: the golden dumps as whole files, and each value in them as the payload
// that DUMP gives and RESTORE takes. A mutant is a number: seed and number give the same bytes.
#ifndef TESTS_MUTATE_MUTANT_H
#define TESTS_MUTATE_MUTANT_H

#include "wire/rdb/rdb.h"

#define FOOT_BYTES 10 /* of a payload: version, checksum */

struct input {
    char name[120]; /* of the dump, and number of the value in it */
    bool file;      /* else: a payload */
    uint8_t *p;
    size_t n;
};

struct inputs {
    struct input *small, *middle, *large, *values;
    size_t n_small, n_middle, n_large, n_values;
};

/* Of tests/golden/rdb, under the current folder. Ends the program where there are none. */
void inputs_load(struct inputs *in);
void inputs_free(struct inputs *in);

struct mutant {
    const struct input *of;
    uint8_t *p; /* exactly n bytes, so that a sanitizer sees a step beyond */
    size_t n;
    bool differs;
    bool checked;  /* it carries the checksum of the whole one: it must be refused if it differs */
    char how[200]; /* what was done, in words */
};

void mutant_make(struct mutant *m, const struct inputs *in, uint64_t seed, uint64_t number);
void mutant_free(struct mutant *m);

/* The type of a payload's value. False: too short, or no type that is known. */
bool payload_type(const uint8_t *p, size_t n, enum rdb_type *ret);

#endif
