// SPDX-License-Identifier: BSD-3-Clause
// Between fan_stream.c (sending a batch, judging what comes back), fan_split.c (a batch into
// groups) and fan_cross.c (commands that concern several slots, or none).
#ifndef KEYHAUL_ENGINE_FAN_IMPL_H
#define KEYHAUL_ENGINE_FAN_IMPL_H

#include "engine/fan_mark.h"
#include "wire/cmd.h"

#define FAN_NONE UINT32_MAX

struct fan_piece {     /* a command, or one slot's share of it */
    uint64_t from, to; /* its bytes, in the batch's store, or in `extra` */
    uint32_t next;     /* of the same group; FAN_NONE: the last */
    bool extra, dropped;
};

struct fan_group { /* what of a stage concerns one slot; in order */
    uint16_t slot;
    uint32_t first, last, unit;
    uint32_t n; /* pieces not dropped */
    bool bare;  /* may be applied twice: no transaction around it */
    bool done;
    uint64_t offset;            /* behind its last command */
    uint64_t reply_at, replies; /* among its node's */
};

/* A command of the batch, parsed. */
struct fan_cmd {
    uint64_t from, to; /* in the store */
    size_t argc;
    struct span *argv; /* very long arguments are not at hand (p NULL) when the command is giant */
    const struct cmd_info *info;
    uint64_t offset; /* its own: those of the commands of one unit count up to the unit's end */
    uint32_t unit;
};

struct fan_slot {
    uint64_t o;            /* everything of it up to here is applied */
    uint32_t stamp, group; /* of the stage with this stamp, its group */
};

/* A batch goes in stages: up to a command that needs all before it applied. */
struct fan_stream {
    struct fan_place *place; /* owned */
    uint64_t told_w, w_sent, tolerate;
    int64_t told_ms;
    bool joined;
    struct buf pieces, groups, extra; /* struct fan_piece, struct fan_group, bytes */
    struct buf argv, index, text;     /* of the command at hand */
    uint32_t stamp;
    struct fan_slot slots[SLOT_COUNT];
    uint64_t next_at, next_n; /* the command that comes next: where it lies, how many before it */
    uint32_t unit;
};

static inline struct fan_piece *fan_piece(struct fan_stream *s, uint32_t i)
{
    return (struct fan_piece *)(void *)s->pieces.p + i;
}
static inline struct fan_group *fan_group(struct fan_stream *s, uint32_t i)
{
    return (struct fan_group *)(void *)s->groups.p + i;
}
static inline uint32_t fan_groups(const struct fan_stream *s)
{
    return (uint32_t)(s->groups.n / sizeof(struct fan_group));
}

/* --- fan_split.c --- */

void fan_split_begin(struct fan_stream *s);
/* The next stage of the batch, into groups: 0. 1: a command comes next that is to be dealt with by
 * itself, when nothing is in flight: *ret. */
KH_MUST int fan_split(struct fan *f, struct batch *b, struct fan_cmd *ret, struct err *err);
/* The bytes of a piece into a store. */
KH_MUST int fan_copy_piece(struct fan_stream *s, const struct batch *b, const struct fan_piece *p,
                           struct store *to, struct err *err);
/* Its name and first key, for words: *key points into `out`. */
void fan_name_piece(struct fan_stream *s, const struct batch *b, const struct fan_piece *p,
                    char *name, size_t name_size, uint8_t *key, size_t *key_n);

/* --- fan_cross.c --- */

/* Nothing is in flight, all before it has been applied. */
KH_MUST int fan_cross(struct fan *f, struct batch *b, const struct fan_cmd *c, struct err *err);

/* --- fan_stream.c, for fan_cross.c --- */

/* "SET <mark of the slot> ...", as a command. */
KH_MUST int fan_put_mark(struct fan *f, uint16_t slot, uint64_t o, struct store *to,
                         struct err *err);

#endif
