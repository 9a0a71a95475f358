// SPDX-License-Identifier: BSD-3-Clause
// replay: a target that is lost and found, the stream sent again from its checkpoint.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define OURS                                                                                       \
    {                                                                                              \
        .match = "GET ck", .reply = "$18\r\n1 loading 0000000a\r\n"                                \
    }
#define ID "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SP "\\x20"

struct fixture {
    struct rig *g;
    struct buf stream;
    struct replay rp;
    struct batch_checkpoint cp;
};

static void setup(struct fixture *f, const char *commands, const struct fake_rule *rules, size_t n,
                  bool hold)
{
    static const char fence[] = "*2\r\n$5\r\nWATCH\r\n$2\r\nck\r\n*2\r\n$3\r\nGET\r\n$2\r\nck\r\n";
    memset(f, 0, sizeof(*f));
    f->g = rig_new();
    f->g->log_name = "log";
    f->g->hold = hold;
    rig_rules(f->g, rules, n);
    buf_init(&f->stream, 1 << 20);
    rig_commands(&f->stream, commands);
    rig_open_bytes(f->g, buf_span(&f->stream), RIG_AT_ONCE);
    struct pipeline *pl = &f->g->pl;
    f->cp = (struct batch_checkpoint){.key = span_str("ck"), .owner = "0000000a"};
    pipeline_begin_stream(pl);
    assert_int_equal(spool_keep(pl->spool, &f->g->err), 0);
    struct replay_config cfg = {.pl = pl,
                                .source = &f->g->source_facts,
                                .target = &f->g->target_facts,
                                .store_dir = f->g->dir,
                                .store_max_bytes = f->g->store_max_bytes,
                                .checkpoint = &f->cp};
    assert_int_equal(replay_init(&f->rp, &cfg, &f->g->err), 0);
    pl->lane.fence = span_of(fence, sizeof(fence) - 1);
    pl->lane.fence_down = pl->lane.resumable = true;
}

/* Lost; found with the checkpoint there. */
static void lose(struct fixture *f)
{
    assert_int_equal(replay_run(&f->rp, &f->g->err), -1);
    assert_int_equal(f->g->pl.lane.lost, LANE_LOST);
    lane_drop(&f->g->pl.lane, LANE_LOST);
}

static void find(struct fixture *f, uint64_t offset)
{
    struct pipeline *pl = &f->g->pl;
    assert_int_equal(pipeline_seek(pl, offset, &f->g->err), 0);
    lane_reset(&pl->lane, fake_link_dial(&f->g->target.link));
    assert_int_equal(replay_restart(&f->rp, 0, &f->g->err), 0);
}

static void go_on(struct fixture *f)
{
    if (replay_run(&f->rp, &f->g->err) < 0) fail_msg("%s", f->g->err.msg);
}

static void teardown(struct fixture *f)
{
    replay_release(&f->rp);
    rig_close(f->g);
}

static void ran(struct fixture *f, const char *groups)
{
    teardown(f);
    assert_string_equal(fake_text(&f->g->target.groups), groups);
    buf_release(&f->stream);
    rig_free(f->g);
}

#define CHECKPOINT(offset)                                                                         \
    "0:SET ck 1" SP "stream" SP "0000000a" SP "-" SP offset SP "0\n}\n0:WATCH ck\n"

/* It was not applied: sent again. */
static void lost_before(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "EXEC", .hang_up = true, .times = 1}};
    setup(&f, "INCR a|INCR b", rules, 2, false);
    lose(&f);
    assert_int_equal(f.rp.checkpoint_offset, 0);
    find(&f, RIG_OFFSET);
    assert_int_equal(f.g->pl.applied_offset, RIG_OFFSET);
    go_on(&f);
    assert_int_equal(f.g->pl.applied_offset, RIG_OFFSET + 42);
    ran(&f, "0:WATCH ck\n0:WATCH ck\n{\n0:INCR a\n0:INCR b\n" CHECKPOINT("1042"));
}

/* It was applied and the answer lost: the checkpoint tells. */
static void lost_behind(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {
        OURS, {.match = "WATCH", .hang_up = true, .after = 1, .times = 1}};
    setup(&f, "INCR a|INCR b", rules, 2, false);
    lose(&f);
    find(&f, RIG_OFFSET + 42);
    go_on(&f);
    ran(&f, "0:WATCH ck\n{\n0:INCR a\n0:INCR b\n"
            "0:SET ck 1" SP "stream" SP "0000000a" SP "-" SP "1042" SP "0\n}\n");
}

/* Swapped by what is sent again: notes of held deadlines name the wrong databases by then. */
static void swapped_twice(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "EXEC", .hang_up = true, .times = 1}};
    setup(&f, "SET k v PXAT 1700000001000|SWAPDB 0 1", rules, 2, true);
    lose(&f);
    assert_int_equal(f.g->pl.hold.n, 1);
    find(&f, RIG_OFFSET);
    assert_true(hold_scan_needs_client(&f.g->pl.hold));
    teardown(&f);
    buf_release(&f.stream);
    rig_free(f.g);
}

static void not_swapped(void **state)
{
    (void)state;
    struct fixture f;
    static const struct fake_rule rules[] = {OURS, {.match = "EXEC", .hang_up = true, .times = 1}};
    setup(&f, "SET k v PXAT 1700000001000", rules, 2, true);
    lose(&f);
    find(&f, RIG_OFFSET);
    assert_false(hold_scan_wanted(&f.g->pl.hold));
    teardown(&f);
    buf_release(&f.stream);
    rig_free(f.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lost_before),
        cmocka_unit_test(lost_behind),
        cmocka_unit_test(swapped_twice),
        cmocka_unit_test(not_swapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
