// SPDX-License-Identifier: BSD-3-Clause
// The fan: commands that concern several slots, or all nodes.
#include "engine/fan_impl.h"

int fan_cross(struct fan *f, struct batch *b, const struct fan_cmd *c, struct err *err)
{
    (void)f;
    (void)b;
    return err_set(err, ERR_UNSUPPORTED, "stream: %.*s concerns keys on several nodes",
                   (int)c->argv[0].n, (const char *)c->argv[0].p);
}
