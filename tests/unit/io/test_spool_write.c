// SPDX-License-Identifier: BSD-3-Clause
// When the spool's log is written, when it is brought to the disk, what it is written over.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "io/spool_impl.h"
#include "io/spool_kit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct kit kit;
static char copy_dir[80];

static int make_root(void **state)
{
    (void)state;
    kit_make(&kit);
    snprintf(copy_dir, sizeof(copy_dir), "%s/copy", kit.root);
    kit_log(&kit);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    kit_unlog(&kit);
    rmdir(copy_dir);
    kit_drop(&kit);
    return 0;
}

static struct spool_config config(size_t ram, uint64_t quota, uint64_t segment, uint64_t keep)
{
    return (struct spool_config){.ram_bytes = ram,
                                 .dir = kit.dir,
                                 .max_disk_bytes = quota,
                                 .segment_bytes = segment,
                                 .keep_bytes = keep,
                                 .log_name = "stream"};
}

static struct spool *open_log(const struct spool_config *cfg)
{
    struct spool *s = NULL;
    struct err err = {.msg = ""};
    if (spool_open(&s, cfg, &err) < 0 || spool_keep(s, &err) < 0) fail_msg("%s", err.msg);
    return s;
}

/* Position up to which a crash now would leave the log. */
static uint64_t in_files(const struct spool_config *cfg)
{
    struct spool_config there = *cfg;
    struct spool *s;
    struct err err;
    uint64_t pos;
    kit_copy(kit.dir, copy_dir);
    there.dir = copy_dir;
    assert_int_equal(spool_recover(&s, &there, &pos, &err), 0);
    uint64_t tail = spool_tail(s);
    spool_discard(s);
    return tail;
}

#define NEVER (INT64_MAX / 2)

static void test_gather(void **state)
{
    (void)state;
    struct spool_config cfg = config(1 << 20, 1 << 30, 0, 0);
    struct model m;
    struct err err;
    model_init(&m, 1, 1000000);
    struct spool *s = open_log(&cfg);
    uint8_t *p;
    s->gathered_ms = NEVER; /* not by time */
    model_produce(&m, s, 5000);
    assert_int_equal(in_files(&cfg), 0);
    assert_int_equal(spool_write(s, &err), 0);
    assert_int_equal(in_files(&cfg), 5000);
    s->gathered_ms = NEVER;
    while (m.tail < 5000 + 60000)
        model_produce(&m, s, 1000);
    model_read_all(&m, s); /* that does not lose it */
    assert_int_equal(in_files(&cfg), 5000);
    model_produce(&m, s, 10000); /* enough */
    assert_int_equal(in_files(&cfg), 75000);
    for (unsigned by = 0; by < 2; by++) { /* after a while, whoever asks */
        uint64_t before = m.tail;
        m.now++;
        model_produce(&m, s, 100);
        spool_space(s, &p);
        assert_in_range(clock_mono_ms() - s->gathered_ms, 0, 10000); /* since then */
        s->gathered_ms = NEVER;
        spool_space(s, &p);
        assert_int_equal(spool_refill(s, &err), 0);
        assert_int_equal(in_files(&cfg), before);
        s->gathered_ms = clock_mono_ms() - 50;
        if (by)
            assert_int_equal(spool_refill(s, &err), 0);
        else
            spool_space(s, &p);
        assert_int_equal(in_files(&cfg), m.tail);
    }
    spool_close(s);
    model_release(&m);
    model_init(&m, 1, 1000000);
    s = open_log(&cfg); /* the end of it is written, too */
    model_produce(&m, s, 777);
    assert_int_equal(spool_write(s, &err), 0);
    assert_int_equal(s->segs.tail->size, 16 << 20); /* its blocks are there */
    spool_close(s);
    char path[200];
    struct stat st;
    assert_int_equal(kit_files(kit.dir, path, sizeof(path)), 1);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 32 + 16 + 777); /* and back */
    assert_int_equal(in_files(&cfg), 777);
    kit_empty(kit.dir);
    model_release(&m);
}

static uint64_t begun(const struct spool *s)
{
    uint64_t n = 0;
    for (const struct seg *seg = s->segs.head; seg; seg = seg->next)
        n += seg->begun;
    return n;
}

static unsigned unsynced(const struct spool *s)
{
    unsigned n = 0;
    for (const struct seg *seg = s->segs.head; seg; seg = seg->next)
        n += seg->unsynced;
    return n;
}

static void produce(struct spool *s, size_t bytes, bool done)
{
    enum { STEP = 100000 };
    struct err err;
    uint8_t *p;
    for (size_t n = 0; n < bytes; n += STEP) {
        assert_true(spool_space(s, &p) >= STEP);
        assert_int_equal(spool_commit(s, STEP, 5, &err), 0);
        spool_consume(s, STEP);
        assert_int_equal(spool_write(s, &err), 0);
        if (done) spool_done(s, spool_tail(s));
    }
}

static void let_look(struct spool *s, bool by_refill)
{
    struct err err;
    uint8_t *p;
    s->looked_ms = clock_mono_ms() - 1000;
    if (by_refill)
        assert_int_equal(spool_refill(s, &err), 0);
    else
        spool_space(s, &p);
    s->looked_ms = NEVER; /* but for that */
}

/* Only when something waits for the target it has to be on the disk, and all that is before it. */
static void test_write_back(void **state)
{
    (void)state;
    struct spool_config cfg = config(1 << 20, 1 << 30, 4 << 20, 1 << 30);
    struct err err;
    struct spool *s = open_log(&cfg);
    s->looked_ms = NEVER;
    produce(s, 50 << 20, true);
    let_look(s, false);
    produce(s, 1 << 20, true);
    assert_int_equal(begun(s), 0);
    assert_in_range(unsynced(s), 12, 14);
    produce(s, 10 << 20, false); /* the target stands still */
    let_look(s, false);
    assert_int_equal(begun(s), 0);
    let_look(s, true);
    assert_in_range(begun(s), 61 << 20, 62 << 20);
    assert_int_equal(s->segs.tail->begun, s->segs.tail->bytes);
    assert_in_range(unsynced(s), 14, 16);
    produce(s, 9 << 20, false); /* not only by time */
    assert_in_range(begun(s), 69 << 20, 71 << 20);
    assert_in_range(unsynced(s), 1, 4);
    let_look(s, true);
    let_look(s, false);
    assert_int_equal(unsynced(s), 1);
    assert_false(s->segs.unsettled);
    spool_done(s, spool_tail(s));
    produce(s, 9 << 20, true);
    let_look(s, false);
    unsigned before = unsynced(s);
    assert_in_range(before, 2, 4);
    produce(s, 9 << 20, true);
    assert_true(unsynced(s) > before);
    /* What a target has lost, it waits for again. */
    assert_int_equal(spool_seek(s, spool_first(s), &err), 0);
    for (unsigned i = 0; i < 3; i++)
        let_look(s, false);
    assert_int_equal(unsynced(s), 1);
    assert_int_equal(s->segs.tail->begun, s->segs.tail->bytes);
    spool_discard(s);
}

/* Who writes to the source makes up a record, for the place and position where, after two files
 * more, it will stand behind the log's end. */
static uint64_t recover_forged(uint32_t salt, bool know)
{
    enum { PIECE = 200, FILE_RECORDS = 23, SHORT = 250, FORGED = 50 };
    struct spool_config cfg = config(65536, 1 << 20, 5000, 0);
    struct err err;
    uint8_t *p, forged[RECORD_HEADER + FORGED] = {0};
    struct spool *s = open_log(&cfg);
    uint64_t third = 2 * FILE_RECORDS * PIECE;
    record_header(forged, know ? s->segs.salt : salt, forged + RECORD_HEADER, FORGED, third + SHORT,
                  5);
    for (unsigned i = 0; i < 2 * FILE_RECORDS; i++) {
        assert_true(spool_space(s, &p) >= PIECE);
        memset(p, 'x', PIECE);
        size_t at = SHORT - PIECE - RECORD_HEADER; /* in the second record of the first file */
        if (i == 1) memcpy(p + at, forged, sizeof(forged));
        assert_int_equal(spool_commit(s, PIECE, 5, &err), 0);
        assert_int_equal(spool_write(s, &err), 0);
        spool_consume(s, PIECE);
        spool_done(s, spool_tail(s));
    }
    assert_non_null(s->segs.spare);
    assert_true(spool_space(s, &p) >= SHORT);
    memset(p, 'y', SHORT);
    assert_int_equal(spool_commit(s, SHORT, 5, &err), 0);
    assert_int_equal(spool_write(s, &err), 0);
    assert_null(s->segs.spare);
    assert_int_equal(s->segs.tail->pos, third);
    assert_int_equal(s->segs.tail->size, 5000);
    kit_copy(kit.dir, copy_dir);
    spool_discard(s);
    cfg.dir = copy_dir;
    uint64_t pos;
    assert_int_equal(spool_recover(&s, &cfg, &pos, &err), 0);
    uint64_t end = spool_tail(s);
    spool_discard(s);
    return end - third - SHORT;
}

static void test_forged(void **state)
{
    (void)state;
    assert_int_equal(recover_forged(0, false), 0);
    assert_int_equal(recover_forged(0xffffffffu, false), 0);
    assert_int_equal(recover_forged(0, true), 50); /* it would be the right place */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_write_back),
        cmocka_unit_test(test_forged),
    };
    return cmocka_run_group_tests_name("spool, written", tests, make_root, drop_root);
}
