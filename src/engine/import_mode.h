// SPDX-License-Identifier: BSD-3-Clause
// Import mode of Valkey 8.1 and later (and of what speaks like it): while it is on, the target
// expires nothing by itself, as a replica does. Then no deadline need be held (hold.h).
//
//   look ──▶ off ──(state saved: it will be ours)──▶ begin ──▶ on ──▶ end ──▶ off
//       └──▶ on, ours: a former run was killed ─────────┤       └─▶ (whose it was not ours: stays)
//       └──▶ on, not ours: somebody else's ─────────────┘
//
// The mode is the server's; besides, each connection says that it imports, or keys that are past
// their deadline are not there for it. Where any of this is not known or not permitted, or the
// target evicts keys, which the mode would stop, import_mode_on() stays false and deadlines are to
// be held: so after each of these calls hold.on = !import_mode_on().
//
// Of a cluster each primary has a mode of its own: it is on when all have it on, and was on before
// when all had. Where only some had it, and it was not us, it is left alone and not used.
//
// Deadlines before 1 must not be written then: Valkey 8.1.1 dies of negative ones when the mode
// ends (hold_deadline() sees to that).
#ifndef KEYHAUL_ENGINE_IMPORT_MODE_H
#define KEYHAUL_ENGINE_IMPORT_MODE_H

#include "redis/facts.h"
#include "redis/primaries.h"

struct import_mode {
    bool was_on; /* when looked at, everywhere */
    bool ours;   /* the task turned it on, in this run or in one before: it is to turn it off */
    bool on;     /* in use */
    bool can;    /* the target has it, and nothing speaks against it */
    bool *hold;  /* set should it be given up later on: deadlines are to be held. May be NULL */
};

static inline bool import_mode_on(const struct import_mode *im)
{
    return im->on;
}

/* Has the target such a mode? `ours`: as kept from the run before, which turned it on. Afterwards,
 * when im->can and not im->was_on, note durably that it is ours, then begin. Fails only when the
 * connection does. */
KH_MUST int import_mode_look(struct import_mode *im, const struct primaries *target,
                             const struct server_facts *facts, bool ours, struct err *err);
/* Turn it on, mark these connections. Nothing when it cannot be. */
KH_MUST int import_mode_begin(struct import_mode *im, const struct primaries *target,
                              struct err *err);
/* After each reconnect: a failover may have led to a server on which it is off; so it is turned on
 * there. To be called before the connection is given to a lane. */
KH_MUST int import_mode_mark_conn(struct import_mode *im, struct client *c, struct err *err);
/* Turn it off when it is ours; of a cluster also on replicas, which may have been primaries. Any
 * connection will do. A refusal is told in the log. */
KH_MUST int import_mode_end(struct import_mode *im, const struct primaries *target,
                            struct err *err);

#endif
