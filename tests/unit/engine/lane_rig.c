// SPDX-License-Identifier: BSD-3-Clause
// A lane to a fake target, without a pipeline.
#include "lane_rig.h"

#include "engine/emit.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int rig_step(void *ctx, int max_wait_ms, struct err *err)
{
    struct lane_rig *g = ctx;
    struct pollfd p = {.fd = conn_fd(g->lane.conn), .events = lane_poll_events(&g->lane)};
    g->steps++;
    poll(&p, 1, max_wait_ms);
    return lane_pump(&g->lane, p.revents != 0, err) < 0 ? -1 : 0;
}

struct lane_rig *lane_rig_new(const struct fake_rule *rules, size_t n_rules, bool starve,
                              const struct lane_config *cfg)
{
    struct lane_rig *g = calloc(1, sizeof(*g));
    assert_non_null(g);
    assert_true(n_rules <= FAKE_RULES_MAX);
    snprintf(g->dir, sizeof(g->dir), "/tmp/keyhaul-lane-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    g->refusals = (struct refusals){.policy = TASK_ON_ERROR_STOP, .counters = &g->counters};
    g->target.link.starve = starve;
    fake_target_start(&g->target, rules, n_rules);
    struct lane_config c = cfg ? *cfg : (struct lane_config){0};
    c.conn = fake_link_dial(&g->target.link);
    c.refusals = &g->refusals;
    c.counters = &g->counters;
    c.stop = &g->stop;
    c.retry_limit_ms = c.retry_limit_ms ? c.retry_limit_ms : 5000;
    c.io_timeout_ms = c.io_timeout_ms ? c.io_timeout_ms : 10000;
    c.step = rig_step;
    c.step_ctx = g;
    assert_int_equal(lane_init(&g->lane, &c, &g->err), 0);
    return g;
}

void lane_rig_end(struct lane_rig *g)
{
    lane_release(&g->lane);
    fake_target_stop(&g->target);
}

void lane_rig_free(struct lane_rig *g)
{
    fake_target_release(&g->target);
    rmdir(g->dir);
    free(g);
}

int lane_rig_item(struct lane_rig *g, int64_t db, const char *key, struct span value)
{
    uint8_t *start;
    size_t key_n = strlen(key);
    if (lane_reserve(&g->lane, db, 64 + key_n + value.n, &start, &g->err) < 0) return -1;
    uint8_t *out = emit_str(emit_head(start, '*', 3), "SET");
    out = emit_head(out, '$', key_n);
    struct lane_item item = {.key_at = (uint32_t)(out - start),
                             .key_n = (uint32_t)key_n,
                             .source_db = (uint32_t)db,
                             .db = (uint32_t)db};
    memcpy(out, key, key_n);
    out = emit_arg(emit_crlf(out + key_n), value.p, value.n);
    item.n = (uint32_t)(out - start);
    return lane_commit(&g->lane, &item, &g->err);
}
