// SPDX-License-Identifier: BSD-3-Clause
// What of the stream differs when the source is one shard of a cluster (docs/decisions/0004): its
// keys are those of its slots, and other shards send their share by other streams.
#include "base/log.h"
#include "engine/reconcile.h"
#include "engine/replay_rules.h"

/* --- keys --- */

bool replay_is_own(const struct replay *rp, const struct cmd_info *info, size_t argc,
                   const struct span *argv)
{
    const struct slot_set *slots = rp->pl->cfg->slots;
    if (!slots || !info) return true;
    size_t at = cmd_first_key(info, argc, argv); /* the others are of the same slot */
    return at == 0 || at >= argc || slot_set_has_key(slots, argv[at]);
}

/* --- FLUSHDB, FLUSHALL --- */

/* Of this transaction all that came before it is undone by it, where there is just one database. */
static int check_transaction(const struct replay *rp, bool all, struct err *err)
{
    if (!rp->in_tx || all || rp->db_max == 0) return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "the source ran FLUSHDB within a transaction, with several databases in use: "
                   "for a cluster that is not supported; start again, with a new snapshot");
}

/* It runs when everything before it has been applied, and before anything after it is. So it may
 * well run twice: whoever is cut off in the middle, or goes on at a place before (a target that has
 * lost its last writes, the deletions among them), meets it again where it stood, and nothing that
 * came after it is there yet. */
int replay_flush_shard(struct replay *rp, bool all, struct err *err)
{
    int64_t to = all ? -1 : db_select_target(rp->select, rp->db);
    if (!all && to < 0) {
        replay_filtered(rp);
        return 0;
    }
    if (check_transaction(rp, all, err) < 0) return -1;
    if (!rp->flush) return err_set(err, ERR_INTERNAL, "a shard's FLUSH has nobody to do it");
    if (replay_barrier(rp, err) < 0 || rp->flush(rp->flush_ctx, to, err) < 0) return -1;
    replay_passed(rp);
    return 0;
}

/* --- libraries --- */

int replay_replaces_library(const struct replay *rp, size_t argc, const struct span *argv,
                            struct err *err)
{
    if (!rp->pl->cfg->slots) return 0;
    if (argc != 3 || !span_is(argv[1], "LOAD")) return span_is(argv[1], "RESTORE");
    int foreign = reconcile_is_foreign_library(rp->existing_path, argv[2], err);
    return foreign < 0 ? -1 : !foreign;
}
