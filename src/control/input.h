// SPDX-License-Identifier: BSD-3-Clause
// The files that make up what is restored or inspected: an RDB, an AOF of one file (which may begin
// with an RDB) or of many with a manifest, standard input. What a file is, its content tells, never
// its name.
#ifndef KEYHAUL_CONTROL_INPUT_H
#define KEYHAUL_CONTROL_INPUT_H

#include "wire/reader.h"

#include <limits.h>

struct input {
    const char *command; /* "restore", for advice; borrowed, as the name */
    const char *name;    /* as the user says it */
    char (*path)[PATH_MAX];
    size_t n;
    uint64_t bytes; /* of all; 0: a pipe, that does not tell */
    bool listed;    /* by a manifest */
    bool commands;  /* not all of them are snapshots, as far as can be told beforehand */
};

/* Find the files, all there and none of a kind that is never data (compressed, text, ...). "-" is
 * standard input. ERR_USAGE: the user named what is not there or no data; ERR_FORMAT, ERR_IO. */
KH_MUST int input_find(struct input *in, const char *command, const char *name, struct err *err);
void input_release(struct input *in); /* safe on zeroed */

struct input_file {
    int fd;
    int64_t ms; /* last changed: the best guess for relative times in an AOF without annotations */
};
KH_MUST int input_open(const struct input *in, size_t i, struct input_file *ret, struct err *err);
void input_close(const struct input_file *f);
/* "standard input", or the file's path. */
const char *input_shown(const struct input *in, size_t i);

enum input_kind {
    INPUT_EMPTY, /* nothing comes */
    INPUT_RDB,
    INPUT_COMMANDS, /* an AOF, or what follows its snapshot */
};
/* What begins at the reader's place, the start of the i-th file, a pipe as well. ERR_FORMAT:
 * nothing that is data, with what it is instead and what to do; else the reader's error. */
KH_MUST int input_begins(const struct input *in, size_t i, struct reader *r, enum input_kind *ret,
                         struct err *err);

#endif
