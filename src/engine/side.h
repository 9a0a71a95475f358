// SPDX-License-Identifier: BSD-3-Clause
// From a side of the task to how a client is opened to it.
#ifndef KEYHAUL_ENGINE_SIDE_H
#define KEYHAUL_ENGINE_SIDE_H

#include "engine/task.h"
#include "redis/client.h"

/* `name`: "source" or "target". Borrows all that it points to. */
static inline struct client_config task_side_client(const struct task_side *side, const char *name,
                                                    int connect_timeout_ms, int io_timeout_ms,
                                                    const atomic_bool *stop)
{
    return (struct client_config){.uri = &side->uri,
                                  .password = side->password,
                                  .sentinel_password = side->sentinel_password,
                                  .tls = &side->tls,
                                  .addresses = &side->addresses,
                                  .prefer_replica = side->prefer_replica,
                                  .connect_timeout_ms = connect_timeout_ms,
                                  .io_timeout_ms = io_timeout_ms,
                                  .side = name,
                                  .stop = stop};
}

/* A second connection to ask the source where it is. It goes to the same server: another one may be
 * at other offsets. Only a replica that was chosen by itself counts as its primary does, and may
 * lag behind it: then it is that primary who knows where the stream ends, if it is there. */
KH_MUST static inline int task_side_probe(struct client **ret, struct client_config cfg,
                                          const struct client *first, bool is_replica,
                                          struct err *err)
{
    bool chosen = cfg.prefer_replica && is_replica;
    cfg.prefer_replica = false;
    if (chosen && client_open(ret, &cfg, err) == 0) return 0;
    cfg.same_as = first;
    return client_open(ret, &cfg, err);
}

#endif
