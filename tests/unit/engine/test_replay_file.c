// SPDX-License-Identifier: BSD-3-Clause
// replay_file: the commands of an AOF, whole, cut at every byte, broken, with times.
#include "rig.h"
#include "told.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define FILE_MS 1600000000000 /* when the file was last changed */

struct file_run {
    struct rig *g;
    struct replay_cut cut;
    int rc;
    uint64_t notes; /* deadlines held */
};

static int make_file(struct span bytes)
{
    int fd = memfd_create("aof", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.p, bytes.n), bytes.n);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* Read to the end of the link that the rig begins with. */
static void leave_link(struct rig *g)
{
    struct reader *r = &g->pl.r;
    assert_int_equal(reader_need(r, 1, &g->err), 0);
    r->p++;
    reader_release(r);
    assert_int_equal(reader_need(r, 1, &g->err), -1);
}

static void open_files(struct rig *g, struct replay *rp)
{
    struct replay_config cfg = {.pl = &g->pl,
                                .source = &g->source_facts,
                                .target = &g->target_facts,
                                .store_dir = g->dir,
                                .store_max_bytes = g->store_max_bytes,
                                .hold_margin_ms = 600000};
    rig_open_bytes(g, span_of("x", 1), RIG_FLOWING);
    leave_link(g);
    assert_int_equal(replay_init(rp, &cfg, &g->err), 0);
}

/* One file; the target's log is in g->target.ran afterwards. */
static struct file_run run_file(struct rig *g, struct span bytes)
{
    struct file_run run = {.g = g, .cut = {.at = 77}};
    struct replay rp;
    int fd = make_file(bytes);
    open_files(g, &rp);
    pipeline_read_file(&g->pl, fd, FILE_MS);
    run.rc = replay_file(&rp, &run.cut, &g->err);
    replay_release(&rp);
    run.notes = g->pl.hold.n;
    rig_close(g);
    close(fd);
    return run;
}

static struct buf commands(const char *text)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    rig_commands(&b, text);
    return b;
}

/* --- cuts --- */

struct place {
    size_t from;     /* cut at or behind this byte ... */
    const char *ran; /* ... and this has been applied */
};

static void check_cut(const struct buf *aof, size_t n, const struct place *at)
{
    struct rig *g = rig_new();
    struct file_run run = run_file(g, span_of(aof->p, n));
    if (run.rc < 0) fail_msg("cut at %zu: %s", n, g->err.msg);
    if (strcmp(fake_text(&g->target.ran), at->ran) != 0)
        fail_msg("cut at %zu\nwanted: %sgot: %s", n, at->ran, fake_text(&g->target.ran));
    assert_int_equal(run.cut.cut, n != at->from);
    assert_int_equal(run.cut.at, at->from);
    rig_free(g);
}

static void cut_at_every_byte(void **state)
{
    (void)state;
    /* where a command or transaction ends, and what stands then */
    static const char *const parts[][2] = {
        {"SELECT 2", ""},
        {"SET a 1", "2:SET a 1\n"},
        {"MULTI|INCR a|INCR b|EXEC", "2:SET a 1\n2:INCR a\n2:INCR b\n"},
        {"APPEND a xy", "2:SET a 1\n2:INCR a\n2:INCR b\n2:APPEND a xy\n"},
    };
    struct place places[5] = {{0, ""}};
    struct buf aof;
    buf_init(&aof, 1 << 20);
    for (size_t i = 0; i < 4; i++) {
        rig_commands(&aof, parts[i][0]);
        places[i + 1] = (struct place){aof.n, parts[i][1]};
    }
    for (size_t n = 0, at = 0; n <= aof.n; n++) {
        while (at < 4 && n >= places[at + 1].from)
            at++;
        check_cut(&aof, n, &places[at]);
    }
    buf_release(&aof);
}

/* The last file of a golden AOF: everything but its last command is applied, wherever in it the
 * file ends. */
static void golden_cut_in_its_last_command(void **state)
{
    (void)state;
    static const char path[] = "tests/golden/aof/redis-7.0.15-history/appendonly.aof.3.incr.aof";
    struct buf aof;
    buf_init(&aof, 1 << 20);
    assert_int_equal(buf_reserve(&aof, 4096, NULL), 0);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is not there; run from the top folder", path);
    aof.n = fread(aof.p, 1, 4096, f);
    fclose(f);
    size_t last = aof.n;
    while (last > 0 && aof.p[--last] != '*')
        continue;
    struct place places[2] = {{last, ""}, {aof.n, "0:SET k3 1\n"}};
    for (size_t n = last; n <= aof.n; n++)
        check_cut(&aof, n, &places[n == aof.n]);
    buf_release(&aof);
}

/* --- what is no AOF --- */

struct broken {
    const char *before, *behind;
    struct span garbage;
    const char *ran;
    const char *words; /* NULL: the place where the garbage begins */
};

static void check_broken(const struct broken *x)
{
    struct rig *g = rig_new();
    struct buf aof = commands(x->before);
    char place[80];
    snprintf(place, sizeof(place), "no command at byte %zu", aof.n);
    const char *want = x->words ? x->words : place;
    assert_int_equal(buf_add(&aof, x->garbage.p, x->garbage.n, NULL), 0);
    rig_commands(&aof, x->behind);
    struct file_run run = run_file(g, buf_span(&aof));
    assert_int_equal(run.rc, -1);
    assert_int_equal(run.cut.at, 77); /* untouched */
    if (!strstr(g->err.msg, want)) fail_msg("wanted: %s, got: %s", want, g->err.msg);
    assert_true(g->err.code == ERR_FORMAT || g->err.code == ERR_PROTO);
    assert_string_equal(fake_text(&g->target.ran), x->ran);
    buf_release(&aof);
    rig_free(g);
}

static void garbage_after(const char *garbage, size_t n, const char *words)
{
    check_broken(&(struct broken){"SET a 1", "SET b 1", span_of(garbage, n), "0:SET a 1\n", words});
}

#define GARBAGE(garbage, words) garbage_after(garbage, sizeof(garbage) - 1, words)

static void garbage_stops_with_its_place(void **state)
{
    (void)state;
    GARBAGE("\0\0\0", NULL);
    GARBAGE("SET c 1\r\n", NULL); /* no AOF has such lines */
    GARBAGE("\r\n", NULL);
    GARBAGE("*x\r\n", NULL);
    GARBAGE("*-1\r\n", NULL);
    GARBAGE("*99999999999\r\n", NULL);
    GARBAGE("*0\r\n", "no command at byte");
    GARBAGE("*2\r\n$3\r\nSETx\r\n", "no command at byte");
    GARBAGE("*1\r\n$9999999999999\r\n", "no command at byte");
    GARBAGE("*2\r\n$6\r\nSELECT\r\n$1\r\nx\r\n", "SELECT");
    check_broken(&(struct broken){"", "SET b 1", span_str("hello"), "", NULL});
    /* within a transaction: none of it */
    check_broken(&(struct broken){"SET a 1|MULTI|SET c 1", "EXEC|SET b 1", span_str("?"),
                                  "0:SET a 1\n", NULL});
}

static void endless_comment(void **state)
{
    (void)state;
    struct buf aof = commands("SET a 1");
    static const char sharp[5000] = "#";
    assert_int_equal(buf_add(&aof, sharp, sizeof(sharp), NULL), 0);
    struct rig *g = rig_new();
    struct file_run run = run_file(g, buf_span(&aof));
    assert_int_equal(run.rc, -1);
    assert_int_equal(g->err.code, ERR_FORMAT);
    assert_string_equal(fake_text(&g->target.ran), "0:SET a 1\n");
    buf_release(&aof);
    rig_free(g);
}

/* --- times --- */

static void add_text(struct buf *b, const char *text)
{
    assert_int_equal(buf_add(b, text, strlen(text), NULL), 0);
}

static void check_times(const struct buf *aof, const char *ran, const char *told_words)
{
    struct rig *g = rig_new();
    struct told t;
    told_begin(&t);
    struct file_run run = run_file(g, buf_span(aof));
    told_end(&t);
    if (run.rc < 0) fail_msg("%s", g->err.msg);
    assert_false(run.cut.cut);
    if (strcmp(fake_text(&g->target.ran), ran) != 0)
        fail_msg("wanted: %sgot: %s", ran, fake_text(&g->target.ran));
    const char *once = strstr(t.text, "counted from");
    assert_int_equal(once != NULL, told_words != NULL);
    if (told_words) assert_non_null(strstr(t.text, told_words));
    if (once) once = strstr(once, ", when it was last changed");
    if (once) assert_null(strstr(once, "counted from"));
    rig_free(g);
}

static void relative_times_count_from_the_file(void **state)
{
    (void)state;
    struct buf aof = commands("SET k v EX 10|EXPIRE k 20|PEXPIREAT k 1700000000000");
    check_times(&aof,
                "0:SET k v PXAT 1600000010000\n0:PEXPIREAT k 1600000020000\n"
                "0:PEXPIREAT k 1700000000000\n",
                "2020-09-13T12:26:40Z");
    buf_release(&aof);
    aof = commands("SET k v PXAT 1700000000000|PEXPIREAT k 5");
    check_times(&aof, "0:SET k v PXAT 1700000000000\n0:PEXPIREAT k 5\n", NULL);
    buf_release(&aof);
}

static void annotations_go_before(void **state)
{
    (void)state;
    struct buf aof;
    buf_init(&aof, 1 << 16);
    add_text(&aof, "#TS:1650000000\r\n");
    rig_commands(&aof, "SET a v EX 10|MULTI|EXPIRE a 5");
    add_text(&aof, "#TS:1650000001\r\n# any words\r\n#TS:no number\r\n");
    rig_commands(&aof, "EXPIRE a 6|EXEC");
    add_text(&aof, "#TS:16500"); /* cut: the commands are whole */
    check_times(&aof,
                "0:SET a v PXAT 1650000010000\n0:PEXPIREAT a 1650000005000\n"
                "0:PEXPIREAT a 1650000007000\n",
                NULL);
    buf_release(&aof);
}

/* --- several files --- */

/* Each begins in database 0, and what one annotates is not of the next; held deadlines stay held
 * from file to file. */
static void files_in_a_row(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct replay rp;
    struct replay_cut cut = {0};
    struct buf a, b;
    buf_init(&a, 1 << 16);
    add_text(&a, "#TS:1699999995\r\n");
    rig_commands(&a, "SELECT 3|SET k v EX 10|MULTI|SET lost 1");
    b = commands("SET k v EX 10|PERSIST k");
    int fd_a = make_file(buf_span(&a)), fd_b = make_file(buf_span(&b));
    open_files(g, &rp);
    hold_release(&g->pl.hold);
    hold_init(&g->pl.hold, true, true, g->dir, 1 << 20);
    pipeline_read_file(&g->pl, fd_a, FILE_MS);
    assert_int_equal(replay_file(&rp, &cut, &g->err), 0);
    assert_true(cut.cut);
    assert_int_equal(g->pl.hold.n, 1);
    pipeline_read_file(&g->pl, fd_b, RIG_WALL_MS);
    assert_int_equal(replay_file(&rp, &cut, &g->err), 0);
    assert_false(cut.cut);
    assert_int_equal(cut.at, b.n);
    assert_int_equal(g->pl.hold.n, 2);
    replay_release(&rp);
    rig_close(g);
    char want[200];
    snprintf(want, sizeof(want), "3:SET k v PXAT %lld\n0:SET k v PXAT %lld\n0:PERSIST k\n",
             1700000005000LL + HOLD_SHIFT_MS, 1700000010000LL + HOLD_SHIFT_MS);
    assert_string_equal(fake_text(&g->target.ran), want);
    close(fd_a);
    close(fd_b);
    buf_release(&a);
    buf_release(&b);
    rig_free(g);
}

/* --- FLUSHALL --- */

static void flushall_reaches_what_the_snapshot_used(void **state)
{
    (void)state;
    struct rig *g = rig_new();
    struct replay rp;
    struct buf aof = commands("FLUSHALL");
    int fd = make_file(buf_span(&aof));
    struct replay_cut cut;
    g->source_facts.databases = -1;
    g->target_facts.databases = 32;
    open_files(g, &rp);
    rp.db_max = 20; /* what replay_config.db_max sets */
    pipeline_read_file(&g->pl, fd, FILE_MS);
    assert_int_equal(replay_file(&rp, &cut, &g->err), 0);
    replay_release(&rp);
    rig_close(g);
    assert_non_null(strstr(fake_text(&g->target.ran), "20:FLUSHDB"));
    assert_null(strstr(fake_text(&g->target.ran), "21:FLUSHDB"));
    close(fd);
    buf_release(&aof);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(golden_cut_in_its_last_command),
        cmocka_unit_test(garbage_stops_with_its_place),
        cmocka_unit_test(endless_comment),
        cmocka_unit_test(relative_times_count_from_the_file),
        cmocka_unit_test(annotations_go_before),
        cmocka_unit_test(files_in_a_row),
        cmocka_unit_test(flushall_reaches_what_the_snapshot_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
