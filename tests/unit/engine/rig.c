// SPDX-License-Identifier: BSD-3-Clause
// A pipeline between a fake source and a fake target.
#include "rig.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int64_t rig_wall_ms = RIG_WALL_MS;

static int64_t rig_wall(void)
{
    return rig_wall_ms;
}

void rig_set_wall(int64_t ms)
{
    rig_wall_ms = ms;
}

struct rig *rig_new(void)
{
    struct rig *g = calloc(1, sizeof(*g));
    assert_non_null(g);
    static const struct server_facts plain = RIG_SERVER(FACTS_REDIS, 7, 0, 10);
    g->source_facts = g->target_facts = plain;
    g->task = (struct task_config){
        .on_conflict = TASK_CONFLICT_OVERWRITE, .io_timeout_ms = 10000, .retry_time_ms = 5000};
    assert_int_equal(db_select_parse(&g->task.select, NULL, NULL), 0);
    g->store_max_bytes = 256u << 20;
    snprintf(g->dir, sizeof(g->dir), "/tmp/keyhaul-rig-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
    rig_set_wall(RIG_WALL_MS);
    clock_set_wall(rig_wall);
    return g;
}

void rig_free(struct rig *g)
{
    clock_set_wall(NULL);
    fake_target_release(&g->target);
    fake_target_release(&g->probe);
    fake_source_release(&g->source);
    rmdir(g->dir);
    free(g);
}

void rig_rules(struct rig *g, const struct fake_rule *rules, size_t n)
{
    assert_true(n <= FAKE_RULES_MAX);
    g->rule = rules;
    g->n_rules = n;
}

void rig_open(struct rig *g, const struct fake_part *parts, size_t n_parts, enum rig_feed feed)
{
    bool keep_open = feed == RIG_AT_ONCE || feed == RIG_KEPT_OPEN;
    g->target.link.starve = g->target_starves;
    if (!g->server) fake_target_start(&g->target, g->rule, g->n_rules);
    fake_source_start(&g->source, parts, n_parts, feed == RIG_STARVED, keep_open);
    g->probe.info = g->info;
    if (g->info) fake_target_start(&g->probe, NULL, 0);
    struct pipeline_config cfg = {.task = &g->task,
                                  .counters = &g->counters,
                                  .stop = &g->stop,
                                  .source = fake_link_dial(&g->source.link),
                                  .target = g->server ? g->server : fake_link_dial(&g->target.link),
                                  .probe = g->info ? fake_link_dial(&g->probe.link) : NULL,
                                  .spool_config = {.ram_bytes = PIPELINE_RING_BYTES,
                                                   .dir = g->dir,
                                                   .log_name = g->log_name,
                                                   .max_disk_bytes = 64 << 20},
                                  .ack = true,
                                  .hold = g->hold,
                                  .hold_exact = true,
                                  .offset = RIG_OFFSET};
    if (pipeline_init(&g->pl, &cfg, &g->err) < 0) fail_msg("%s", g->err.msg);
}

void rig_open_bytes(struct rig *g, struct span bytes, enum rig_feed feed)
{
    g->part = (struct fake_part){.bytes = bytes};
    rig_open(g, &g->part, 1, feed);
    if (feed != RIG_AT_ONCE) return;
    rig_receive(g, bytes.n);
    g->stop = true;
}

void rig_receive(struct rig *g, uint64_t n)
{
    while (spool_tail(g->pl.spool) < n)
        if (pipeline_step(&g->pl, 100, &g->err) < 0) fail_msg("%s", g->err.msg);
}

void rig_close(struct rig *g)
{
    if (g->log_name) {
        spool_discard(g->pl.spool);
        g->pl.spool = NULL;
    }
    pipeline_release(&g->pl);
    fake_source_stop(&g->source);
    if (!g->server) fake_target_stop(&g->target);
    g->server = NULL;
    if (g->info) fake_target_stop(&g->probe);
}

int rig_run_replay(struct rig *g, uint64_t db)
{
    struct replay rp;
    struct replay_config cfg = {.pl = &g->pl,
                                .source = &g->source_facts,
                                .target = &g->target_facts,
                                .store_dir = g->dir,
                                .store_max_bytes = g->store_max_bytes,
                                .db = db};
    pipeline_begin_stream(&g->pl);
    int rc = replay_init(&rp, &cfg, &g->err);
    if (rc == 0) rc = replay_run(&rp, &g->err);
    replay_release(&rp);
    g->applied = g->pl.applied_offset;
    return rc;
}

int rig_run_load(struct rig *g)
{
    struct load ld;
    struct load_config cfg = {.pl = &g->pl,
                              .target = &g->target_facts,
                              .reconcile = g->reconcile,
                              .store_dir = g->dir,
                              .store_max_bytes = g->store_max_bytes};
    int rc = load_init(&ld, &cfg, &g->err);
    if (rc == 0) rc = load_run(&ld, &g->err);
    g->stream_db = ld.stream_db;
    load_release(&ld);
    return rc;
}

int rig_replay(struct rig *g, struct span stream, enum rig_feed feed)
{
    rig_open_bytes(g, stream, feed);
    int rc = rig_run_replay(g, 0);
    rig_close(g);
    return rc;
}

int rig_load(struct rig *g, struct span rdb, enum rig_feed feed)
{
    g->part = (struct fake_part){.bytes = rdb};
    rig_open(g, &g->part, 1, feed == RIG_AT_ONCE ? RIG_KEPT_OPEN : feed);
    int rc = rig_run_load(g);
    rig_close(g);
    return rc;
}

void rig_commands(struct buf *b, const char *text)
{
    struct span argv[64];
    while (*text) {
        size_t argc = 0;
        do {
            size_t n = strcspn(text, " |");
            assert_true(argc < 64);
            argv[argc++] = span_of(text, n);
            text += n;
        } while (*text == ' ' && *text++);
        if (*text == '|') text++;
        assert_int_equal(resp_put_cmd(b, argc, argv, NULL), 0);
    }
}

void rig_assert_ended(const struct rig *g, int rc, enum rig_feed feed)
{
    if (feed == RIG_AT_ONCE) {
        if (rc != 0) fail_msg("%s", g->err.msg);
        return;
    }
    assert_int_equal(rc, -1);
    if (g->err.code != ERR_NET || !strstr(g->err.msg, "source: ")) fail_msg("%s", g->err.msg);
}
