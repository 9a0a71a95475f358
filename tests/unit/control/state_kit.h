// SPDX-License-Identifier: BSD-3-Clause
// A state dir of its own for each test, and tasks in it as command lines give them.
#ifndef TEST_STATE_KIT_H
#define TEST_STATE_KIT_H

#include "control/config.h"
#include "control/state.h"

#include <sys/types.h>

#define STATE_KIT_SECRET "s3cr3t-Pa55"
#define STATE_KIT_REPLID "0123456789abcdef0123456789abcdef01234567"

/* Set-up and tear-down of a test. */
int state_kit_make(void **state);
int state_kit_drop(void **state);

const char *state_kit_root(void);
const char *state_kit_spool_root(void); /* for --spool-dir; not made */

struct given {
    struct option_values values;
    struct config cfg;
};

/* Options of migrate, --state-dir added; NULL at the end. */
void give(struct given *g, const char *const *args);
void take_back(struct given *g);

#define GIVE(g, ...)                                                                               \
    give(g, (const char *const[]){"--source", "redis://old:1", "--target", "redis://new:2",        \
                                  __VA_ARGS__, NULL})

struct state *must_open(const struct given *g);
enum err_code must_refuse(const struct given *g, struct err *err);
/* Open one and let it come so far that it counts. */
struct state *must_begin(const struct given *g);
/* The same with these sides, and closed. */
void begin_named(const char *name);

/* Path of what is in the state dir; good until the next call. */
const char *file(const char *name);
bool there(const char *path);
char *slurp(const char *path); /* to be freed */
void put(const char *path, const void *p, size_t n);
mode_t mode_of(const char *path);

#endif
