// SPDX-License-Identifier: BSD-3-Clause
// pipeline: the source is drained whatever the target does, offsets are acknowledged and asked for.
#include "rig.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void step_for(struct rig *g, int ms)
{
    int64_t until = clock_mono_ms() + ms;
    while (clock_mono_ms() < until)
        if (pipeline_step(&g->pl, 20, &g->err) < 0) fail_msg("%s", g->err.msg);
}

/* Until the probe has been asked and has answered. */
static void step_until_answered(struct rig *g)
{
    for (int i = 0; i < 200 && (g->pl.probe.next_ms == 0 || g->pl.probe.asked); i++)
        step_for(g, 20);
    assert_false(g->pl.probe.asked);
}

static const char *ack(char out[64], uint64_t offset)
{
    char num[24];
    int n = snprintf(num, sizeof(num), "%llu", (unsigned long long)offset);
    snprintf(out, 64, "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$%d\r\n%s\r\n", n, num);
    return out;
}

/* --- reading --- */

static void reads_and_counts(void **state)
{
    (void)state;
    static const char text[] = "some bytes of a source";
    size_t n = strlen(text);
    for (int feed = RIG_FLOWING; feed <= RIG_STARVED; feed++) {
        struct rig *g = rig_new();
        rig_open_bytes(g, span_str(text), (enum rig_feed)feed);
        struct reader *r = &g->pl.r;
        assert_int_equal(reader_need(r, n, &g->err), 0);
        assert_memory_equal(r->p, text, n);
        r->p += n;
        reader_release(r);
        assert_int_equal(reader_pos(r), n);
        assert_int_equal(counter_get(&g->counters.bytes_read), n);
        /* What was received before the end is there, then the end is told. */
        assert_int_equal(reader_need(r, 1, &g->err), -1);
        assert_int_equal(g->err.code, ERR_NET);
        assert_non_null(strstr(g->err.msg, "source: "));
        rig_close(g);
        rig_free(g);
    }
}

static void held_bytes_stay(void **state)
{
    (void)state;
    enum { SIZE = 10 << 20 };
    uint8_t *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 9);
    struct rig *g = rig_new();
    rig_open_bytes(g, span_of(bytes, SIZE), RIG_FLOWING);
    struct reader *r = &g->pl.r;
    assert_int_equal(reader_need(r, 1000, &g->err), 0);
    const uint8_t *first = r->p;
    r->p += 1000;
    assert_int_equal(reader_need(r, SIZE - 1000, &g->err), 0);
    assert_memory_equal(r->keep, bytes, SIZE);
    assert_memory_equal(first, bytes, 1000);
    assert_int_equal(reader_need(r, PIPELINE_RING_BYTES, &g->err), -1);
    assert_int_equal(g->err.code, ERR_LIMIT);
    rig_close(g);
    rig_free(g);
    free(bytes);
}

/* Nothing is decoded, the target says nothing: the source is drained to disk all the same (C4),
 * and all of it is there afterwards. */
static void drained_beyond_memory(void **state)
{
    (void)state;
    enum { SIZE = 30 << 20 };
    uint8_t *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 9);
    struct rig *g = rig_new();
    rig_open_bytes(g, span_of(bytes, SIZE), RIG_FLOWING);
    rig_receive(g, SIZE);
    assert_true(counter_get(&g->counters.spool_disk_bytes) >= SIZE - PIPELINE_RING_BYTES);
    struct reader *r = &g->pl.r;
    for (size_t at = 0; at < SIZE; at += 1 << 20) {
        if (reader_need(r, 1 << 20, &g->err) < 0) fail_msg("%s", g->err.msg);
        assert_memory_equal(r->p, bytes + at, 1 << 20);
        r->p += 1 << 20;
        reader_release(r);
    }
    assert_int_equal(reader_need(r, 1, &g->err), -1);
    assert_int_equal(g->err.code, ERR_NET);
    rig_close(g);
    rig_free(g);
    free(bytes);
}

static void a_file_in_its_place(void **state)
{
    (void)state;
    enum { SIZE = 20 << 20 };
    uint8_t *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 9);
    FILE *f = tmpfile();
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, SIZE, f), SIZE);
    assert_int_equal(fflush(f), 0);
    rewind(f);
    struct rig *g = rig_new();
    rig_open_bytes(g, span_of("x", 1), RIG_FLOWING);
    struct reader *r = &g->pl.r;
    assert_int_equal(reader_need(r, 1, &g->err), 0);
    r->p++;
    reader_release(r);
    assert_int_equal(reader_need(r, 1, &g->err), -1); /* the link is over */
    pipeline_read_file(&g->pl, fileno(f), 12345);
    for (size_t at = 0; at < SIZE; at += 1 << 20) {
        if (reader_need(r, 1 << 20, &g->err) < 0) fail_msg("%s", g->err.msg);
        assert_memory_equal(r->p, bytes + at, 1 << 20);
        assert_int_equal(reader_pos(r), at); /* of this file */
        r->p += 1 << 20;
        reader_release(r);
    }
    assert_int_equal(reader_need(r, 1, &g->err), -1);
    assert_int_equal(g->err.code, ERR_END);
    assert_int_equal(spool_disk_bytes(g->pl.spool), 0);
    assert_int_equal(g->pl.file_ms, 12345);
    rewind(f);
    pipeline_read_file(&g->pl, fileno(f), 12346);
    assert_int_equal(reader_need(r, 1, &g->err), 0);
    assert_int_equal(reader_pos(r), 0);
    assert_int_equal(g->pl.before_file, 1 + SIZE);
    rig_close(g);
    rig_free(g);
    fclose(f);
    free(bytes);
}

static void stopped(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    rig_open_bytes(g, span_str("abc"), RIG_AT_ONCE); /* with a stop */
    struct reader *r = &g->pl.r;
    assert_int_equal(reader_need(r, 3, &g->err), 0); /* what is here is still given */
    assert_int_equal(reader_need(r, 4, &g->err), -1);
    assert_int_equal(g->err.code, ERR_STOPPED);
    rig_close(g);
    rig_free(g);
}

static void silent_source(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    g->task.io_timeout_ms = 200;
    rig_open_bytes(g, span_str("abc"), RIG_KEPT_OPEN);
    struct reader *r = &g->pl.r;
    int64_t start = clock_mono_ms();
    assert_int_equal(reader_need(r, 4, &g->err), -1);
    assert_int_equal(g->err.code, ERR_NET);
    assert_non_null(strstr(g->err.msg, "source: nothing heard"));
    assert_non_null(strstr(g->err.msg, "--io-timeout"));
    assert_true(clock_mono_ms() - start >= 190);
    assert_int_equal(reader_need(r, 3, &g->err), 0);
    rig_close(g);
    rig_free(g);
}

struct dry {
    unsigned calls;
};

static int count_dry(void *ctx, struct err *err)
{
    struct dry *d = ctx;
    if (++d->calls == 3) return err_set(err, ERR_STOPPED, "enough");
    return 0;
}

/* on_dry is asked when nothing is to be read, and may end the wait. */
static void dry_hook(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct dry d = {0};
    rig_open_bytes(g, span_str("abc"), RIG_KEPT_OPEN);
    rig_receive(g, 3);
    g->pl.on_dry = count_dry;
    g->pl.dry_ctx = &d;
    assert_int_equal(reader_need(&g->pl.r, 3, &g->err), 0);
    assert_int_equal(d.calls, 0);
    assert_int_equal(reader_need(&g->pl.r, 4, &g->err), -1);
    assert_int_equal(g->err.code, ERR_STOPPED);
    assert_int_equal(d.calls, 3);
    rig_close(g);
    rig_free(g);
}

/* --- acknowledging --- */

static void acknowledges(void **state)
{
    (void)state;
    char text[64];
    struct rig *g = rig_new();
    int64_t start = clock_mono_ms();
    rig_open_bytes(g, span_str("snapshot-stream"), RIG_KEPT_OPEN);
    rig_receive(g, 15);
    step_for(g, 50); /* once at the start, with the snapshot's offset */
    struct reader *r = &g->pl.r;
    assert_int_equal(reader_need(r, 15, &g->err), 0);
    r->p += 9; /* "snapshot-" */
    reader_release(r);
    pipeline_begin_stream(&g->pl);
    assert_int_equal(pipeline_offset(&g->pl), RIG_OFFSET);
    step_for(g, 250); /* at once, then every 100 ms, until the stream flows */
    unsigned most = (unsigned)(clock_mono_ms() - start) / 100 + 3;
    r->p += 6;
    reader_release(r);
    assert_int_equal(pipeline_offset(&g->pl), RIG_OFFSET + 6);
    g->pl.ack_every_ms = 1000;
    g->pl.applied_offset = RIG_OFFSET + 6;
    pipeline_ack_now(&g->pl);
    step_for(g, 100);
    assert_int_equal(counter_get(&g->counters.received_offset), RIG_OFFSET + 6);
    assert_int_equal(counter_get(&g->counters.lag_bytes), 0);
    rig_close(g);
    unsigned before = 0, after = 0;
    const char *back = fake_text(&g->source.back);
    for (const char *at = back; (at = strstr(at, ack(text, RIG_OFFSET))) != NULL; at++)
        before++;
    for (const char *at = back; (at = strstr(at, ack(text, RIG_OFFSET + 6))) != NULL; at++)
        after++;
    assert_true(before >= 2 && before <= most);
    assert_int_equal(after, 1);
    rig_free(g);
}

/* --- the probe --- */

static void check_probe(const char *info, uint64_t offset)
{
    struct rig *g = rig_new();
    g->info = info;
    rig_open_bytes(g, span_str("x"), RIG_KEPT_OPEN);
    step_until_answered(g);
    assert_int_equal(g->pl.probe.answers, offset ? 1 : 0);
    assert_int_equal(counter_get(&g->counters.source_offset), offset);
    assert_non_null(g->pl.probe.conn);
    rig_close(g);
    assert_non_null(strstr(fake_text(&g->probe.wire), "INFO replication\n"));
    rig_free(g);
}

static void probe(void **state)
{
    (void)state;
    check_probe("# Replication\r\nrole:master\r\nmaster_repl_offset:123456\r\n", 123456);
    /* A replica's own stream counts. */
    check_probe("# Replication\r\nrole:slave\r\nslave_repl_offset:77\r\nmaster_repl_offset:99\r\n",
                77);
    check_probe("# Replication\r\nrole:master\r\n", 0);
}

/* Without it the rest goes on. */
static void probe_lost(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    g->info = "master_repl_offset:5\r\n";
    rig_open_bytes(g, span_str("abc"), RIG_KEPT_OPEN);
    step_until_answered(g);
    fake_target_stop(&g->probe); /* its end of the link closes */
    for (int i = 0; i < 200 && g->pl.probe.conn; i++)
        step_for(g, 20);
    assert_null(g->pl.probe.conn);
    assert_int_equal(reader_need(&g->pl.r, 3, &g->err), 0);
    g->info = NULL;
    rig_close(g);
    rig_free(g);
}

/* --- the target --- */

static void target_lost(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    static const struct fake_rule rules[] = {{.match = "PING", .hang_up = true}};
    RIG_RULES(g, rules);
    rig_open_bytes(g, span_str("abc"), RIG_KEPT_OPEN);
    struct span argv[] = {span_str("PING")};
    assert_int_equal(lane_call_strs(&g->pl.lane, -1, 1, argv, &g->err), -1);
    assert_int_equal(g->err.code, ERR_NET);
    assert_non_null(strstr(g->err.msg, "target: "));
    rig_close(g);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_counts),
        cmocka_unit_test(held_bytes_stay),
        cmocka_unit_test(drained_beyond_memory),
        cmocka_unit_test(a_file_in_its_place),
        cmocka_unit_test(stopped),
        cmocka_unit_test(silent_source),
        cmocka_unit_test(dry_hook),
        cmocka_unit_test(acknowledges),
        cmocka_unit_test(probe),
        cmocka_unit_test(probe_lost),
        cmocka_unit_test(target_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
