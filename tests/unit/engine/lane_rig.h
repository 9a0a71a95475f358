// SPDX-License-Identifier: BSD-3-Clause
// A lane to a fake target, without a pipeline: for the tests of lane and batch.
#ifndef KEYHAUL_TEST_LANE_RIG_H
#define KEYHAUL_TEST_LANE_RIG_H

#include "engine/lane.h"
#include "fake_target.h"

#include <stdatomic.h>

struct lane_rig {
    struct fake_target target;
    struct lane lane;
    struct refusals refusals;
    struct counters counters;
    atomic_bool stop;
    unsigned steps;
    char dir[40];
    struct err err;
};

/* Set what differs from the usual (on-error stop, 5 s of retries, fail) in `cfg`; NULL: nothing. */
struct lane_rig *lane_rig_new(const struct fake_rule *rules, size_t n_rules, bool starve,
                              const struct lane_config *cfg);
/* Close the lane and end the target: then its logs may be read. */
void lane_rig_end(struct lane_rig *g);
void lane_rig_free(struct lane_rig *g);

/* SET key value as an item of database db. */
int lane_rig_item(struct lane_rig *g, int64_t db, const char *key, struct span value);

#endif
