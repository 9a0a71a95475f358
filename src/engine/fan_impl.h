// SPDX-License-Identifier: BSD-3-Clause
// Between fan_stream.c (sending a batch, judging what comes back), fan_split.c (a batch into
// groups), and fan_cross*.c (commands that concern several slots, or none).
#ifndef KEYHAUL_ENGINE_FAN_IMPL_H
#define KEYHAUL_ENGINE_FAN_IMPL_H

#include "engine/fan_mark.h"
#include "io/inputs.h"
#include "wire/cmd.h"

#define FAN_NONE UINT32_MAX

struct fan_piece {        /* a command, or one slot's share of it */
    uint64_t from, to;    /* its bytes, in the batch's store, or in `extra` */
    uint64_t in_at, in_n; /* so many bytes of the inputs' file go out ... */
    uint32_t in_pos;      /* ... behind so many of its own */
    uint32_t next;        /* of the same group; FAN_NONE: the last */
    bool extra, dropped;
    bool again; /* may be applied twice */
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

struct fan_when {    /* a command comes */
    uint64_t offset; /* its own: those of the commands of one unit count up to the unit's end */
    uint32_t unit;
    bool read; /* from the source, at that offset: never there already */
};

/* A command of the batch, parsed. */
struct fan_cmd {
    uint64_t from, to; /* in the store */
    size_t argc;
    struct span *argv; /* very long arguments are not at hand (p NULL) when the command is giant */
    const struct cmd_info *info;
    struct fan_when when;
};

struct fan_slot {
    uint64_t o;            /* everything of it up to here is applied */
    uint32_t stamp, group; /* of the stage with this stamp, its group */
};

/* A batch goes in stages: up to a command that needs all before it applied. */
struct fan_stream {
    struct fan_place *place; /* owned */
    struct inputs *inputs;   /* owned; NULL before the first command that reads other slots */
    uint64_t told_w, w_sent, tolerate;
    uint64_t flushed;   /* all nodes have had this FLUSHDB of the stream */
    bool no_expiretime; /* the target does not know PEXPIRETIME */
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
/* The same, of one that most likely lies in memory. */
KH_MUST static inline int fan_put_piece(struct fan_stream *s, const struct batch *b,
                                        const struct fan_piece *p, struct store *to,
                                        struct err *err)
{
    if (KH_UNLIKELY(p->extra || p->to > b->st.mem.n)) return fan_copy_piece(s, b, p, to, err);
    return store_put(to, b->st.mem.p + p->from, (size_t)(p->to - p->from), err);
}
/* Its name and first key, for words: *key points into `out`. */
void fan_name_piece(struct fan_stream *s, const struct batch *b, const struct fan_piece *p,
                    char *name, size_t name_size, uint8_t *key, size_t *key_n);

/* Where the keys of a command are among its arguments; until the next call. */
KH_MUST int fan_keys(struct fan_stream *s, const struct fan_cmd *c, const size_t **ret,
                     size_t *ret_n, struct err *err);

/* A stage of ours, for fan_run_stage(): commands in the place of c. */
void fan_stage_begin(struct fan_stream *s);
/* Of this slot: as put together, and known to be applied, or not at all, as those with it. What has
 * been applied up to there already is left out. An argument whose p is NULL, at most one, is the
 * n bytes of the inputs' file at in_at. */
KH_MUST int fan_stage_add(struct fan_stream *s, const struct fan_cmd *c, uint16_t slot, size_t argc,
                          const struct span *argv, uint64_t in_at, struct err *err);

/* --- fan_cross.c --- */

/* Nothing is in flight, all before it has been applied. */
KH_MUST int fan_cross(struct fan *f, struct batch *b, const struct fan_cmd *c, struct err *err);

/* Such a command cannot be brought to the target: by name, and by policy. */
KH_MUST int fan_cross_refuse(struct fan *f, const struct fan_cmd *c, struct span key,
                             const char *words, struct err *err);

/* --- fan_cross_nodes.c: without keys; fan_cross_flush.c: FLUSHDB --- */

KH_MUST int fan_cross_nodes(struct fan *f, struct batch *b, const struct fan_cmd *c,
                            struct err *err);
KH_MUST int fan_cross_flush(struct fan *f, struct batch *b, const struct fan_cmd *c,
                            struct err *err);
/* What stands in `out` of nodes, where replies are due, goes out; until all is answered. */
KH_MUST int fan_call_nodes(struct fan *f, struct err *err);

/* --- fan_cross_input.c --- */

enum fan_input {
    FAN_INPUT_VALUE,    /* DUMP */
    FAN_INPUT_DEADLINE, /* the same, and when it expires */
    FAN_INPUT_FIRST,    /* of a list, an element of it */
    FAN_INPUT_LAST,
};
/* What a command reads of other slots, on the disk: as of when it was applied first, which was
 * before this (1), or is now (0). */
KH_MUST int fan_take_inputs(struct fan *f, const struct fan_cmd *c, enum fan_input what,
                            const struct span *keys, size_t n, const struct inputs_value **ret,
                            struct err *err);
/* One command at the node of a slot, whose dataset is the one that has been written to: what passes
 * is waited out, redirections are followed. *ret is an error only if it stays. */
KH_MUST int fan_ask(struct fan *f, uint16_t slot, size_t argc, const struct span *argv,
                    void (*take)(void *ctx, const uint8_t *p, size_t n), void *ctx,
                    const struct resp_reply **ret, struct err *err);

/* --- fan_stream.c, for fan_cross*.c --- */

/* Until all of the stage has been applied. */
KH_MUST int fan_run_stage(struct fan *f, struct batch *b, struct err *err);
/* A refusal that passes: wait, or follow. */
KH_MUST int fan_wait(struct fan *f, const char *line, struct err *err);
static inline bool fan_is_passing(const char *line)
{
    return fan_is_redirect(line) || refusal_classify(line) == REFUSAL_TRANSIENT;
}

/* "SET <mark of the slot> ..." to the node that has it. */
KH_MUST int fan_put_mark(struct fan *f, struct fan_node *node, uint16_t slot, uint64_t o,
                         struct err *err);

#endif
