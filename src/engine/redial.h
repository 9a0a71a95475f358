// SPDX-License-Identifier: BSD-3-Clause
// Calling a lost side again, on a thread of its own, until it answers as it should.
//
//    redial_start ──▶ connect, learn what it is, for a source PSYNC ──▶ result, taken by
//    redial_poll
//                        ▲      └─ refused, lost, not a primary: wait (back-off, jitter) ─┐
//                        └────────────────────────────────────────────────────────────────┘
//
// What is lost is often back at once, or gone for hours: the first pause is 100 ms, the longest 5
// s. A wrong password or a missing right is tried for ten seconds only, for it does not heal by
// itself.
#ifndef KEYHAUL_ENGINE_REDIAL_H
#define KEYHAUL_ENGINE_REDIAL_H

#include "engine/task.h"
#include "redis/facts.h"
#include "redis/psync.h"

struct redial;

struct redial_config {
    const struct task_side *side; /* borrowed, as are the next two, until redial_free() */
    const char *name;             /* "source", "target" */
    const atomic_bool *stop;
    int connect_timeout_ms, io_timeout_ms;
    int64_t give_up_ms;
    bool primary;                      /* a read-only replica will not do */
    const struct psync_request *psync; /* of a source: asked for; copied, replid too. NULL: none */
};

struct redial_result {
    struct client *client; /* without psync: connected, database 0 */
    struct psync_result psync;
    struct client *probe; /* with psync: a second connection */
    struct server_facts facts;
};

KH_MUST int redial_start(struct redial **ret, const struct redial_config *cfg, struct err *err);
/* 0: not yet. 1: *ret is the caller's. -1: given up, or stopped (ERR_STOPPED). */
KH_MUST int redial_poll(struct redial *d, struct redial_result *ret, struct err *err);
/* Why the last try failed; "" none has yet. Returns out. */
char *redial_why(struct redial *d, char *out, size_t size);
/* Ends the thread, and closes what was not taken. NULL-safe. */
void redial_free(struct redial *d);

#endif
