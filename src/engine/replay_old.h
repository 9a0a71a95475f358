// SPDX-License-Identifier: BSD-3-Clause
// The last step before the batch: what the target does not know is put in words that it knows.
//
// A source sends what its own version, or its clients, know: options and commands that came later
// than the target, and forms that servers take only from their own source. Each is turned into what
// has the same effect, or refused by name; one table says which (replay_old.c). The source passes
// on only what took effect, so conditions (NX, GT, IFEQ ...) have been met and can be dropped.
#ifndef KEYHAUL_ENGINE_REPLAY_OLD_H
#define KEYHAUL_ENGINE_REPLAY_OLD_H

#include "engine/losses.h"
#include "engine/replay_rules.h"

struct replay_old;

KH_MUST int replay_old_new(struct replay_old **ret, const struct replay *rp, struct err *err);
void replay_old_free(struct replay_old *old);

/* Into the batch, whose database is selected. info: of argv[0], NULL unknown. raw: the same command
 * as bytes, empty: it has been rebuilt. argv is changed. */
KH_MUST int replay_put(struct replay *rp, const struct cmd_info *info, struct span raw, size_t argc,
                       struct span *argv, struct err *err);

/* How much was left out since it was told last, when anything was. */
void replay_old_tell(struct replay *rp);

/* Something of a key is lost, bits as for losses_note(): its first keys are named. */
void replay_old_lost(struct replay *rp, unsigned bits, struct span key);
/* A change that cannot be made on the target, by --on-unsupported: an error like any other (0 when
 * --on-error says go on), or left out, named and counted. */
KH_MUST int replay_old_refuse(struct replay *rp, struct span key, const char *cmd,
                              const char *words, struct err *err);

/* --- between replay_old.c, replay_turn.c and replay_script.c --- */

/* A command that is about to be turned. */
struct old_cmd {
    size_t argc;
    struct span *argv;
    size_t at; /* of the option that the target does not know; 0: it is the command itself */
};
typedef int old_turn_fn(struct replay *rp, struct old_cmd *c, struct err *err);

/* A command in other words, looked up again; argv[0] is known to the table. */
KH_MUST int old_put(struct replay *rp, size_t argc, struct span *argv, struct err *err);
/* As it is. */
KH_MUST int old_write(struct replay *rp, size_t argc, const struct span *argv, struct err *err);
/* It has no effect there. */
int old_drop(struct replay *rp);
void old_cut(struct old_cmd *c, size_t at, size_t n);
bool old_target_has(const struct replay *rp, enum facts_feature feature);

old_turn_fn old_set_time, old_msetex, old_pop, old_zpop, old_lmove, old_del, old_unlink, old_hset,
    old_hsetex, old_hgetdel, old_hexpire, old_hpersist, old_createconsumer, old_geosearchstore,
    old_restore, old_zadd_flag, old_zadd_incr;
old_turn_fn old_set_keepttl, old_copy, old_zadd_compare, old_xclaim, old_minid, old_zrangestore,
    old_zdiffstore, old_xdelex, old_xackdel;

/* Scripts, for what no older command does. */
KH_MUST int old_lmove_script(struct replay *rp, struct span *key, bool from_left, bool to_left,
                             struct err *err);
KH_MUST int old_hsetex_keepttl(struct replay *rp, struct span key, size_t n_pairs,
                               struct span *pairs, struct err *err);

#endif
