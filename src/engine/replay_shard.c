// SPDX-License-Identifier: BSD-3-Clause
// What of the stream differs when the source is one shard of a cluster (docs/decisions/0004): its
// keys are those of its slots, and other shards send their share by other streams.
#include "base/log.h"
#include "engine/adopt.h"
#include "engine/replay_rules.h"

/* --- keys --- */

bool replay_is_own(struct replay *rp, const struct cmd_info *info, size_t argc,
                   const struct span *argv)
{
    const struct slot_set *slots = rp->pl->cfg->slots;
    rp->slotted = span_of(NULL, 0);
    if (!slots || !info) return true;
    size_t at = cmd_first_key(info, argc, argv); /* the others are of the same slot */
    if (at == 0 || at >= argc) return true;
    uint16_t slot = slot_of(argv[at]);
    rp->slotted = argv[at];
    rp->slot = slot;
    if (KH_LIKELY(slot_set_has(slots, slot))) return true;
    return rp->adopt && rp->adopt->slot == slot && adopt_takes(rp->adopt, info, argc, argv);
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
    if (rp->adopt) adopt_flushed(rp->adopt);
    if (!rp->flush) return err_set(err, ERR_INTERNAL, "a shard's FLUSH has nobody to do it");
    if (replay_barrier(rp, err) < 0 || rp->flush(rp->shard_ctx, to, err) < 0) return -1;
    replay_passed(rp);
    return 0;
}

/* --- slots that go --- */

/* TRIMSLOTS RANGES 1 100 200: what was here of these slots is another shard's. Not to be deleted
 * there; but should they come back without the map having shown that they were gone, what comes is
 * put upon nothing. */
static int trim_slots(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    struct slot_set gone = {0};
    uint64_t n = 0, from, to;
    bool well = cmd->argc > 3 && span_is(cmd->argv[1], "RANGES") && num_get_u64(cmd->argv[2], &n) &&
                n <= SLOT_COUNT && cmd->argc == 3 + 2 * n;
    for (uint64_t i = 0; well && i < n; i++) {
        well = num_get_u64(cmd->argv[3 + 2 * i], &from) && num_get_u64(cmd->argv[4 + 2 * i], &to) &&
               from <= to && to < SLOT_COUNT;
        for (uint64_t s = from; well && s <= to; s++)
            slot_set_add(&gone, (uint16_t)s);
    }
    if (!well) slot_set_fill(&gone);
    return rp->trimmed(rp->shard_ctx, &gone, err);
}

int replay_rule_cluster(struct replay *rp, const struct resp_cmd *cmd, struct err *err)
{
    replay_filtered(rp);
    return span_is(cmd->argv[0], "TRIMSLOTS") && rp->trimmed ? trim_slots(rp, cmd, err) : 0;
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
