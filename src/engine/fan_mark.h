// SPDX-License-Identifier: BSD-3-Clause
// Checkpoints on a clustered target, one key in each slot that needs one (docs/decisions/0004):
//
//   keyhaul:checkpoint:<task>:<load>:{<tag>}    "<o> <w> <f> <d>", offsets of the stream
//
// o: everything of this slot up to there is applied. w: everything of all slots up to there was
// applied when this was written, and the source has database d selected there. f: the last FLUSHDB
// of the stream that all nodes had had when this was written.
#ifndef KEYHAUL_ENGINE_FAN_MARK_H
#define KEYHAUL_ENGINE_FAN_MARK_H

#include "engine/fan.h"

#define FAN_LOAD_MAX 9 /* of <load>, with its NUL */

struct fan_mark {
    uint64_t o, w, f, d;
};
/* Of its value, what stands behind o: " <w> <f> <d>". */
size_t fan_mark_put_rest(char out[FAN_MARK_MAX], const struct fan_mark *m);
/* ERR_FORMAT */
KH_MUST int fan_mark_parse(struct fan_mark *ret, struct span value, struct err *err);

/* Where the target is. */
struct fan_place {
    struct slot_tags tags;
    char prefix[CHECKPOINT_KEY_MAX + FAN_LOAD_MAX + 1]; /* of the keys, with the ':' before '{' */
    size_t prefix_n;
    uint64_t *o; /* by slot; 0 none */
    uint64_t w;  /* everything up to here is applied: the stream goes on there ... */
    uint64_t db; /* ... with this database of the source selected */
    struct {     /* by node: the last FLUSHDB that it has had for certain */
        char id[CLUSTER_ID_MAX];
        uint64_t offset;
    } flushed[FAN_NODES_MAX];
    unsigned n_flushed;
};

/* Of a stream that begins at this offset. */
KH_MUST int fan_place_new(struct fan_place **ret, struct span checkpoint_key, const char *load,
                          uint64_t begin, uint64_t db, struct err *err);
/* <load>. */
void fan_place_load(const struct fan_place *p, char ret[FAN_LOAD_MAX]);
/* Connections of this task to any of the primaries are ended, so that nothing of theirs arrives
 * late. */
KH_MUST int fan_evict(struct cluster *c, const char *task, struct err *err);
/* What the slots say, when nobody writes any more. 1: not to be told for a node, it has no mark:
 * then nothing is known of what it has. */
KH_MUST int fan_place_read(struct fan_place *p, struct cluster *c, struct err *err);
void fan_place_free(struct fan_place *p); /* NULL-safe */

/* "keyhaul:checkpoint:<task>:<load>:{<tag>}". Returns its length. */
#define FAN_KEY_MAX (CHECKPOINT_KEY_MAX + FAN_LOAD_MAX + 16)
size_t fan_mark_key(char out[FAN_KEY_MAX], const struct fan_place *p, uint16_t slot);
/* "SET <key> <value>" as a command; rest: of fan_mark_put_rest(), which marks that are written
 * together have in common. Returns its length. */
#define FAN_SET_MAX (FAN_KEY_MAX + FAN_MARK_MAX + 64)
size_t fan_mark_set(uint8_t out[FAN_SET_MAX], const struct fan_place *p, uint16_t slot, uint64_t o,
                    struct span rest);

/* Delete all marks. ERR_BUSY, ERR_NET: not all are gone; it may be done again. */
KH_MUST int fan_marks_clear(struct fan_place *p, struct cluster *c, struct err *err);

#endif
