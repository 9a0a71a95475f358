// SPDX-License-Identifier: BSD-3-Clause
// The command table: every command of Redis up to 8.6 and Valkey up to 9.1, generated from the
// COMMAND output of real servers by tools/gen-commands into cmd_table.inc.
#ifndef KEYHAUL_WIRE_CMD_H
#define KEYHAUL_WIRE_CMD_H

#include "base/span.h"

enum cmd_flag {
    CMD_WRITE = 1 << 0,
    CMD_READONLY = 1 << 1,
    CMD_DENYOOM = 1 << 2,
    CMD_MOVABLE_KEYS = 1 << 3, /* keys are not (all) given by first, last, step */
    CMD_IDEMPOTENT = 1 << 4,   /* applying it twice in a row gives what applying it once gives */
};

/* How replay treats it; CMD_RULE_PASS for all that just go on unchanged. */
enum cmd_rule {
    CMD_RULE_PASS,
    CMD_RULE_SELECT,
    CMD_RULE_MULTI,
    CMD_RULE_EXEC,
    CMD_RULE_SWAPDB,
    CMD_RULE_FLUSHDB,
    CMD_RULE_FLUSHALL,
    CMD_RULE_MOVE,
    CMD_RULE_COPY,   /* COPY a b [DB n] */
    CMD_RULE_EXPIRE, /* EXPIRE, PEXPIRE: relative */
    CMD_RULE_SETEX,  /* SETEX, PSETEX */
    CMD_RULE_SET,    /* SET with EX/PX/EXAT/PXAT */
    CMD_RULE_GETEX,
    CMD_RULE_RESTORE, /* RESTORE, RESTORE-ASKING */
    CMD_RULE_HEXPIRE, /* HEXPIRE, HPEXPIRE: relative */
    CMD_RULE_HSETEX,  /* HSETEX, HGETEX, MSETEX with EX/PX: relative */
    CMD_RULE_PUBLISH, /* PUBLISH, SPUBLISH */
    CMD_RULE_SCRIPT,  /* SCRIPT, EVAL*, FCALL: no declared single db effect */
    CMD_RULE_FUNCTION,
    CMD_RULE_NOT_DATA, /* PING, REPLCONF, OPINFO: drop */
    CMD_RULE_REPLCONF,
    CMD_RULE_CLUSTER, /* CLUSTER SYNCSLOTS, TRIMSLOTS: not from an unclustered source */
};

struct cmd_info {
    const char *name;                  /* upper case */
    int16_t arity;                     /* as COMMAND tells: negative = at least */
    uint16_t flags;                    /* enum cmd_flag */
    int16_t first_key, last_key, step; /* as COMMAND tells; 0 none; last may be negative */
    uint8_t rule;                      /* enum cmd_rule */
};

/* NULL: not in the table. Name in any case. */
const struct cmd_info *cmd_find(struct span name);

/* Index of the first key in argv, for naming a refused write; 0 when it has none. */
size_t cmd_first_key(const struct cmd_info *c, size_t argc, const struct span *argv);

/* All key positions, for routing: writes up to max indexes, returns how many there are in all,
 * -1 when they cannot be told (malformed). Covers EVAL, *STORE, XREADGROUP, SORT STORE, MIGRATE...
 */
int cmd_keys(const struct cmd_info *c, size_t argc, const struct span *argv, size_t max,
             size_t *ret_index);

/* The i-th entry of the table, NULL beyond: for tests and generators. */
const struct cmd_info *cmd_at(size_t i);

#endif
