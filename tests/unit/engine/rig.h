// SPDX-License-Identifier: BSD-3-Clause
// A pipeline between a fake source and a fake target, with what load and replay need around it.
#ifndef KEYHAUL_TEST_RIG_H
#define KEYHAUL_TEST_RIG_H

#include "engine/load.h"
#include "engine/replay.h"
#include "fake_source.h"
#include "fake_target.h"

#include <stdatomic.h>

#define RIG_WALL_MS 1700000000000 /* the wall clock, until rig_set_wall() */
#define RIG_OFFSET  1000          /* of the snapshot */
#define RIG_SERVER(flavour_, major, minor, rdb)                                                    \
    {                                                                                              \
        .flavour = (flavour_), .version = (major) << 16 | (minor) << 8, .rdb_version = (rdb),      \
        .databases = 16, .proto_max_bulk_len = 512 << 20                                           \
    }

enum rig_feed {
    RIG_AT_ONCE,   /* everything is received before the first byte is decoded; then a stop */
    RIG_FLOWING,   /* as it comes; at the end the source closes */
    RIG_STARVED,   /* one byte at a time; at the end the source closes */
    RIG_KEPT_OPEN, /* as it comes; then the source says nothing more */
};

struct rig {
    /* Set before rig_open(); rig_new() gives: all databases, overwrite, stop at errors, both sides
     * Redis 7.0. */
    struct task_config task;
    struct server_facts source_facts, target_facts;
    const struct fake_rule *rule;
    size_t n_rules;
    const char *info; /* of the probe; NULL: no probe */
    uint64_t store_max_bytes;
    bool target_starves;
    bool hold;            /* near deadlines, until the end */
    const char *log_name; /* the spool may become a log of that name; its files are removed */
    struct conn *server;  /* a real target in the place of the fake one; taken over */
    struct reconcile *reconcile; /* for the load */

    struct counters counters;
    atomic_bool stop;
    struct fake_target target, probe;
    struct fake_source source;
    struct fake_part part; /* the bytes, when they are given as one */
    struct pipeline pl;
    char dir[40];
    uint64_t applied;   /* offset, once replay has ended */
    uint64_t stream_db; /* told by the snapshot */
    struct err err;
};

struct rig *rig_new(void);
void rig_free(struct rig *g);
void rig_rules(struct rig *g, const struct fake_rule *rules, size_t n);
#define RIG_RULES(g, rules) rig_rules(g, rules, sizeof(rules) / sizeof((rules)[0]))

void rig_set_wall(int64_t ms);

/* Start both fakes and the pipeline between them. */
void rig_open(struct rig *g, const struct fake_part *parts, size_t n_parts, enum rig_feed feed);
void rig_open_bytes(struct rig *g, struct span bytes, enum rig_feed feed);
/* Take in everything until n bytes have been received. */
void rig_receive(struct rig *g, uint64_t n);
/* Close the pipeline and end both threads: then the logs may be read. */
void rig_close(struct rig *g);

/* Everything from open to close. Returns what replay_run() or load_run() gave; g->err says why. */
int rig_replay(struct rig *g, struct span stream, enum rig_feed feed);
int rig_load(struct rig *g, struct span rdb, enum rig_feed feed);
/* The same between open and close. */
int rig_run_replay(struct rig *g, uint64_t db);
int rig_run_load(struct rig *g);

/* "SET a 1|PING" as RESP: '|' between commands, one space between words; \0 stays out. */
void rig_commands(struct buf *b, const char *text);

/* Fails unless the replay came to its end well. */
void rig_assert_ended(const struct rig *g, int rc, enum rig_feed feed);

#endif
