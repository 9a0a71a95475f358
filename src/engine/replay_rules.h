// SPDX-License-Identifier: BSD-3-Clause
// Between replay_rules.c (which database, passed on or not) and replay_time.c (deadlines).
#ifndef KEYHAUL_ENGINE_REPLAY_RULES_H
#define KEYHAUL_ENGINE_REPLAY_RULES_H

#include "base/num.h"
#include "engine/replay.h"

#define ARGS_MAX 64 /* arguments of the commands that are rebuilt */

void replay_filtered(struct replay *rp); /* counted as not passed on */
void replay_passed(struct replay *rp);
/* Into the batch, when the database at hand is selected: as it came, or rebuilt. */
KH_MUST int replay_pass_raw(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
KH_MUST int replay_pass_args(struct replay *rp, size_t argc, struct span *argv, struct err *err);

struct replay_num {
    char text[NUM_INT64_CHARS];
};
static inline struct span replay_put_i64(struct replay_num *t, int64_t v)
{
    return span_of(t->text, num_put_i64(t->text, v));
}

/* --- replay_shard.c: of a source that is one shard of a cluster --- */

/* Is the command of a key of the shard's own slots, or of none? Always, of other sources. */
bool replay_is_own(struct replay *rp, const struct cmd_info *info, size_t argc,
                   const struct span *argv);
/* FLUSHDB of the database at hand, FLUSHALL: on the target just keys of the shard's slots go. */
KH_MUST int replay_flush_shard(struct replay *rp, bool all, struct err *err);
/* What nodes of a cluster tell each other about slots that move: nothing of it is data. */
KH_MUST int replay_rule_cluster(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
/* FUNCTION LOAD and RESTORE come from every shard: may what is there of that name be replaced? 1,
 * 0, -1. */
KH_MUST int replay_replaces_library(const struct replay *rp, size_t argc, const struct span *argv,
                                    struct err *err);

/* Give a DUMP payload a footer that the target takes. */
KH_MUST int replay_refoot(struct replay *rp, struct span *payload, struct err *err);
/* Turn a DUMP payload into a type that the target knows. 1: go on with it. 0: there is none, which
 * has been told. ERR_UNSUPPORTED: it has been read (batch.read), and a snapshot can bring it. */
KH_MUST int replay_retype(struct replay *rp, struct span key, struct span *payload,
                          struct err *err);

/* Hold this key's deadline, when it is near: then *ms is what is to be written. */
KH_MUST int replay_hold(struct replay *rp, struct span key, int64_t *ms, struct err *err);
KH_MUST int replay_rule_expire(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
KH_MUST int replay_rule_expireat(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
KH_MUST int replay_rule_setex(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
KH_MUST int replay_rule_set(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
KH_MUST int replay_rule_getex(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
KH_MUST int replay_rule_hsetex(struct replay *rp, const struct resp_cmd *cmd, struct err *err);
KH_MUST int replay_rule_restore(struct replay *rp, const struct resp_cmd *cmd, struct err *err);

#endif
