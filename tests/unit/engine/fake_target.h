// SPDX-License-Identifier: BSD-3-Clause
// A target for tests: takes commands over a Unix socket, answers as rules say, writes down what
// came and what it applied. Knows SELECT, MULTI and EXEC as a server does.
#ifndef KEYHAUL_TEST_FAKE_TARGET_H
#define KEYHAUL_TEST_FAKE_TARGET_H

#include "base/buf.h"
#include "fake_link.h"

enum fake_when {
    FAKE_SENT, /* as the command comes, in a transaction while it is queued */
    FAKE_RUN,  /* as it runs, in a transaction on EXEC */
};

/* The first rule that matches answers; none: as a server where all is well. */
struct fake_rule {
    const char *match; /* the command's line begins so; NULL: every command */
    const char *reply; /* RESP; NULL: the usual one */
    unsigned after;    /* lets pass so many that match */
    unsigned times;    /* then counts for so many; 0: for all */
    enum fake_when when;
    int delay_ms;
    bool hang_up; /* instead of an answer */
    bool silent;  /* no answer at all */
};

#define FAKE_RULES_MAX 16

struct fake_target {
    struct fake_link link;
    const struct fake_rule *rule;
    size_t n_rules;
    unsigned met[FAKE_RULES_MAX];
    const char *info; /* text that INFO gives */

    struct buf in, out, cmd; /* cmd: line of the command at hand */
    bool in_multi, dirty;
    struct buf queue; /* lines, each with its NUL */
    unsigned n_queue;
    int64_t db;

    /* Look at them after fake_target_stop(). Lines, one command each; words as fake_word(). */
    struct buf wire;   /* everything that came: "MULTI", "SET k v" */
    struct buf ran;    /* what was applied: "0:SET k v", the database in front */
    struct buf groups; /* as ran, transactions between lines "{" and "}" */
    struct buf raw;    /* bytes as they came */
};

void fake_target_start(struct fake_target *t, const struct fake_rule *rules, size_t n_rules);
void fake_target_stop(struct fake_target *t);
void fake_target_release(struct fake_target *t); /* the logs */

/* One argument as the logs show it: text as it is, other bytes as \xNN, more than 64 bytes as
 * <length:crc64 in hex>. */
void fake_word(struct buf *b, struct span arg);
/* The log as a string. */
const char *fake_text(struct buf *log);

#endif
