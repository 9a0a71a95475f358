// SPDX-License-Identifier: BSD-3-Clause
// The command table: every command of Redis up to 8.6 and Valkey up to 9.1, generated from the
// COMMAND output of real servers by tools/gen-commands into cmd_table.inc.
//
// A container (XGROUP, FUNCTION) stands for all its subcommands: a write if one of them is, keys
// where theirs are. Streams hold more than writes: PFCOUNT (READONLY, but it refreshes what PFADD
// keeps), EVAL and FCALL (neither WRITE nor READONLY), and what has a rule below.
#ifndef KEYHAUL_WIRE_CMD_H
#define KEYHAUL_WIRE_CMD_H

#include "base/span.h"

enum cmd_flag {
    CMD_WRITE = 1 << 0,
    CMD_READONLY = 1 << 1,
    CMD_DENYOOM = 1 << 2,
    CMD_MOVABLE_KEYS = 1 << 3, /* keys are not (all) given by first, last, step */
    /* See cmd_is_idempotent(), which is to be asked. tools/gen-commands tells why which is. */
    CMD_IDEMPOTENT = 1 << 4,
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
    CMD_RULE_COPY,     /* COPY a b [DB n] */
    CMD_RULE_EXPIRE,   /* EXPIRE, PEXPIRE: relative */
    CMD_RULE_EXPIREAT, /* EXPIREAT, PEXPIREAT: absolute */
    CMD_RULE_RENAME,   /* RENAME, RENAMENX: take the deadline along */
    CMD_RULE_SETEX,    /* SETEX, PSETEX */
    CMD_RULE_SET,      /* SET with EX/PX/EXAT/PXAT */
    CMD_RULE_GETEX,
    CMD_RULE_RESTORE, /* RESTORE, RESTORE-ASKING */
    CMD_RULE_HEXPIRE, /* HEXPIRE, HPEXPIRE: relative */
    CMD_RULE_HSETEX,  /* HSETEX, HGETEX, MSETEX with EX/PX: relative */
    CMD_RULE_PUBLISH, /* PUBLISH, SPUBLISH */
    CMD_RULE_SCRIPT,  /* SCRIPT, EVAL*, FCALL: no declared single db effect */
    CMD_RULE_FUNCTION,
    CMD_RULE_IDMP,     /* XADD with IDMP, and what belongs to it (Redis 8.6+) */
    CMD_RULE_NOT_DATA, /* PING, REPLCONF, OPINFO: drop */
    CMD_RULE_REPLCONF,
    CMD_RULE_CLUSTER, /* CLUSTER SYNCSLOTS, TRIMSLOTS: not from an unclustered source */
};

/* Where its keys are. */
enum cmd_layout {
    CMD_LAYOUT_RANGE,      /* first .. last by step */
    CMD_LAYOUT_SUB,        /* XGROUP CREATE key: as RANGE; without further arguments no key */
    CMD_LAYOUT_NUM1,       /* LMPOP numkeys key [key ...] */
    CMD_LAYOUT_NUM2,       /* BLMPOP timeout numkeys key [key ...] */
    CMD_LAYOUT_SCRIPT,     /* EVAL script numkeys [key ...] */
    CMD_LAYOUT_STORE_NUM2, /* ZUNIONSTORE dst numkeys key [key ...] */
    CMD_LAYOUT_NUM1_PAIRS, /* MSETEX numkeys key value [key value ...] */
    CMD_LAYOUT_SORT,       /* SORT key ... STORE dst */
    CMD_LAYOUT_GEORADIUS,  /* GEORADIUS key ... STORE|STOREDIST dst */
    CMD_LAYOUT_STREAMS,    /* XREADGROUP ... STREAMS key [key ...] id [id ...] */
    CMD_LAYOUT_MIGRATE,    /* MIGRATE host port key|"" ... [KEYS key ...] */
    CMD_LAYOUT_DEBUG,      /* DEBUG OBJECT key */
};

struct cmd_info {
    const char *name;                  /* upper case */
    int16_t arity;                     /* as COMMAND tells: negative = at least */
    uint16_t flags;                    /* enum cmd_flag */
    int16_t first_key, last_key, step; /* as COMMAND tells; 0 none; last may be negative */
    uint8_t rule;                      /* enum cmd_rule */
    uint8_t layout;                    /* enum cmd_layout */
};

/* NULL: not in the table. Name in any case. */
const struct cmd_info *cmd_find(struct span name);

/* Index of the first key in argv, for naming a refused write; 0 when it has none. */
size_t cmd_first_key(const struct cmd_info *c, size_t argc, const struct span *argv);

/* Where its one key is, when the table tells that it has one; 0: it has to be looked for. */
static inline size_t cmd_only_key(const struct cmd_info *c, size_t argc)
{
    bool one = c->layout == CMD_LAYOUT_RANGE && c->first_key > 0 && c->first_key == c->last_key;
    return one && (size_t)c->first_key < argc ? (size_t)c->first_key : 0;
}

/* All key positions, for routing, in the order COMMAND GETKEYS gives them: writes up to max
 * indexes, returns how many there are in all, -1 when they cannot be told (malformed; nothing is
 * written then that means anything). The same key may be named twice. */
int cmd_keys(const struct cmd_info *c, size_t argc, const struct span *argv, size_t max,
             size_t *ret_index);

/* May it be applied again? A stretch of such commands, as a source sends it (only what took effect
 * there), applied again from any point on over what applying all of it has left, leaves that again.
 * On the way there it can answer WRONGTYPE, for keys that have changed their type since. Arguments
 * may be missing (p NULL). */
bool cmd_is_idempotent(const struct cmd_info *c, size_t argc, const struct span *argv);

/* The i-th entry of the table, NULL beyond: for tests and generators. */
const struct cmd_info *cmd_at(size_t i);

#endif
