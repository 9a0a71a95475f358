// SPDX-License-Identifier: BSD-3-Clause
// hold: which deadlines are held, as what they are written, and that each gets its own in the end.
#include "engine/hold.h"
#include "lane_rig.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NOW       INT64_C(1700000000000)
#define MARGIN    INT64_C(60000)
#define YEAR_9999 INT64_C(253402300799000)
#define STORE_MAX (64u << 20)

static int64_t wall_ms = NOW;

static int64_t wall(void)
{
    return wall_ms;
}

struct fixture {
    struct lane_rig *g;
    struct hold h;
    struct fake_rule rule[FAKE_RULES_MAX];
    size_t n_rules;
    char text[FAKE_RULES_MAX][64], reply[FAKE_RULES_MAX][64];
    struct err err;
};

static struct fixture *fixture(bool exact, uint64_t store_max)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    wall_ms = NOW;
    clock_set_wall(wall);
    hold_init(&f->h, true, exact, "/tmp", store_max);
    return f;
}

static void finish(struct fixture *f)
{
    hold_release(&f->h);
    if (f->g) lane_rig_free(f->g);
    clock_set_wall(NULL);
    free(f);
}

static uint64_t held_bytes(const struct fixture *f)
{
    const struct hold_notes *q = &f->h.notes;
    return store_size(&q->st[0]) + store_size(&q->st[1]) + q->out.n;
}

/* What the target says of a key. */
static void tells(struct fixture *f, const char *command, int64_t n)
{
    size_t i = f->n_rules++;
    snprintf(f->text[i], sizeof(f->text[i]), "%s", command);
    snprintf(f->reply[i], sizeof(f->reply[i]), ":%" PRId64 "\r\n", n);
    f->rule[i] = (struct fake_rule){.match = f->text[i], .reply = f->reply[i]};
}

static void rule(struct fixture *f, const char *match, const char *reply, unsigned times)
{
    f->rule[f->n_rules++] = (struct fake_rule){.match = match, .reply = reply, .times = times};
}

/* The deadline that is written for it. */
static int64_t written(struct fixture *f, int64_t db, const char *key, int64_t at)
{
    int64_t ms = 1;
    if (hold_deadline(&f->h, db, span_str(key), at, wall_ms, MARGIN, &ms, &f->err) < 0)
        fail_msg("%s", f->err.msg);
    return ms;
}

static void moved(struct fixture *f, int64_t db, const char *key)
{
    assert_int_equal(hold_moved(&f->h, db, span_str(key), &f->err), 0);
}

static void swapped(struct fixture *f, int64_t a, int64_t b)
{
    assert_int_equal(hold_swapped(&f->h, a, b, &f->err), 0);
}

static void start(struct fixture *f, bool starve)
{
    f->g = lane_rig_new(f->rule, f->n_rules, starve, NULL);
    f->g->lane.db = 0;
}

/* Settle all; then `ran` is what changed something, in the database in front. */
static void settles(struct fixture *f, const char *ran)
{
    if (!f->g) start(f, false);
    if (hold_settle(&f->h, &f->g->lane, 0, &f->err) < 0) fail_msg("%s", f->err.msg);
    assert_int_equal(f->h.n, 0);
    assert_false(lane_busy(&f->g->lane));
    lane_rig_end(f->g);
    char *got = strdup(fake_text(&f->g->target.ran)), *to = got;
    assert_non_null(got);
    for (char *line = got, *next; *line; line = next) {
        next = strchr(line, '\n') + 1;
        size_t n = (size_t)(next - line);
        if (strstr(line, ":P") == strchr(line, ':') && strncmp(strchr(line, ':'), ":PEXPIREAT", 10))
            continue; /* questions */
        memmove(to, line, n);
        to += n;
    }
    *to = 0;
    assert_string_equal(got, ran);
    free(got);
}

/* --- which are held --- */

static void near_ones_are_held(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    static const int64_t held[] = {NOW + MARGIN, NOW + 1, NOW, NOW - 1, NOW - 1000000};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(written(f, 0, "k", held[i]), held[i] + HOLD_SHIFT_MS);
    assert_int_equal(f->h.n, 5);
    static const int64_t not_held[] = {NOW + MARGIN + 1, YEAR_9999, INT64_MAX};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(written(f, 0, "k", not_held[i]), not_held[i]);
    assert_int_equal(f->h.n, 5);
    f->h.on = false;
    assert_int_equal(written(f, 0, "k", NOW), NOW);
    assert_int_equal(written(f, 0, "k", 1), 1);
    assert_int_equal(written(f, 0, "k", 0), 1); /* servers in import mode die of less */
    assert_int_equal(written(f, 0, "k", INT64_MIN), 1);
    assert_int_equal(f->h.n, 5);
    finish(f);
}

/* Times of any size, as a hostile snapshot may have them. */
static void any_time(void **state)
{
    (void)state;
    static const int64_t at[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1};
    for (int exact = 0; exact < 2; exact++)
        for (size_t i = 0; i < 5; i++) {
            struct fixture *f = fixture(exact, STORE_MAX);
            int64_t ms = written(f, 0, "k", at[i]);
            assert_true(ms > NOW);
            tells(f, exact ? "PEXPIRETIME k" : "PTTL k", exact ? ms : ms - NOW);
            start(f, false);
            assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), 0);
            lane_rig_end(f->g);
            /* some time that is over */
            const char *line = strstr(fake_text(&f->g->target.ran), "PEXPIREAT k ");
            assert_non_null(line);
            assert_in_range(strtoll(line + 12, NULL, 10), 1, NOW);
            finish(f);
        }
}

static void a_margin_of_any_size(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    int64_t ms;
    assert_int_equal(hold_deadline(&f->h, 0, span_str("k"), NOW + HOLD_MARGIN_MS + 1, NOW,
                                   INT64_MAX, &ms, &f->err),
                     0);
    assert_int_equal(ms, NOW + HOLD_MARGIN_MS + 1);
    assert_int_equal(f->h.n, 0);
    finish(f);
}

/* --- settling --- */

static void each_gets_its_own(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        struct fixture *f = fixture(true, STORE_MAX);
        tells(f, "PEXPIRETIME same", written(f, 0, "same", NOW + 5000));
        written(f, 0, "renewed", NOW + 10);
        tells(f, "PEXPIRETIME renewed", NOW + 900000);
        written(f, 0, "persisted", NOW + 10);
        tells(f, "PEXPIRETIME persisted", -1);
        written(f, 0, "deleted", NOW + 10);
        tells(f, "PEXPIRETIME deleted", -2);
        written(f, 0, "far", NOW + 10);
        tells(f, "PEXPIRETIME far", YEAR_9999);
        written(f, 0, "farthest", NOW + 10);
        tells(f, "PEXPIRETIME farthest", INT64_MAX);
        written(f, 0, "twice", NOW + 20);
        tells(f, "PEXPIRETIME twice", written(f, 0, "twice", NOW + 30000));
        start(f, starve);
        settles(f, "0:PEXPIREAT same 1700000005000\n"
                   "0:PEXPIREAT twice 1700000030000\n0:PEXPIREAT twice 1700000030000\n");
        finish(f);
    }
}

/* A key that was given the deadline of another; and one that has a real one as far ahead. */
static void moved_ones(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    moved(f, 0, "early"); /* nothing is held yet: free */
    assert_int_equal(f->h.n, 0);
    int64_t ms = written(f, 0, "a", NOW + 700);
    written(f, 0, "x", NOW + MARGIN);
    moved(f, 0, "b");
    moved(f, 2, "c");
    tells(f, "PEXPIRETIME a", -2);
    tells(f, "PEXPIRETIME b", ms);
    tells(f, "PEXPIRETIME c", YEAR_9999);
    tells(f, "PEXPIRETIME x", -2);
    settles(f, "0:PEXPIREAT b 1700000000700\n");
    finish(f);
}

static void databases_change_places(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    swapped(f, 0, 9); /* nothing is held yet: of no account */
    written(f, 0, "a", NOW + 10);
    written(f, 7, "q", NOW + 10);
    swapped(f, 0, 3);
    written(f, 0, "b", NOW + 10);
    swapped(f, 3, 5);
    swapped(f, 4, 4);
    written(f, 5, "c", NOW + 10);
    swapped(f, 5, 0); /* a, c in 0; b in 5 */
    swapped(f, 8, 9);
    settles(f, "0:PEXPIREAT a 1700000000010\n7:PEXPIREAT q 1700000000010\n"
               "5:PEXPIREAT b 1700000000010\n0:PEXPIREAT c 1700000000010\n");
    finish(f);
}

/* Not so in a transaction that was never finished. */
static void dropped_swaps(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    written(f, 0, "a", NOW + 10);
    swapped(f, 0, 3);
    assert_int_equal(hold_mark(&f->h, &f->err), 0);
    swapped(f, 3, 5);
    swapped(f, 0, 6);
    hold_back(&f->h);
    hold_back(&f->h);
    assert_int_equal(hold_mark(&f->h, &f->err), 0);
    settles(f, "3:PEXPIREAT a 1700000000010\n");
    finish(f);
}

/* As many as one likes, for as long as something is held. */
static void swaps_take_no_room(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    written(f, 1, "a", NOW + 10);
    for (int i = 0; i < 1000001; i++)
        swapped(f, 1, 2);
    assert_true(f->h.names.alloc < 4096);
    settles(f, "2:PEXPIREAT a 1700000000010\n");
    finish(f);
}

/* Keys of several databases cost no more round trips than those of one. */
static void many_databases_at_once(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    for (int i = 0; i < 3; i++)
        written(f, i % 2, "k", NOW + 10);
    start(f, false);
    assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), 0);
    assert_int_equal(f->g->lane.db, 0);
    lane_rig_end(f->g);
    assert_string_equal(fake_text(&f->g->target.wire),
                        "SELECT 0\nPEXPIRETIME k\nSELECT 1\nPEXPIRETIME k\nSELECT 0\n"
                        "PEXPIRETIME k\nMULTI\nPEXPIREAT k 1700000000010\nSELECT 1\n"
                        "PEXPIREAT k 1700000000010\nSELECT 0\nPEXPIREAT k 1700000000010\nEXEC\n");
    finish(f);
}

/* --- faults --- */

static void passing_faults(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    int64_t ms = written(f, 1, "k", NOW + 10);
    rule(f, "SELECT 1", "-LOADING Redis is loading the dataset in memory\r\n", 1);
    rule(f, "PEXPIRETIME", "-BUSY Redis is busy running a script.\r\n", 2);
    rule(f, "PEXPIREAT", "-READONLY You can't write against a read only replica.\r\n", 1);
    tells(f, "PEXPIRETIME k", ms);
    settles(f, "1:PEXPIREAT k 1700000000010\n");
    assert_int_equal(f->g->lane.retry_since_ms, 0);
    finish(f);
}

static void refused(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    written(f, 0, "k", NOW + 10);
    rule(f, "PEXPIRETIME", "-NOPERM no\r\n", 0);
    start(f, false);
    assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), -1);
    assert_int_equal(f->err.code, ERR_TARGET);
    assert_int_equal(f->h.n, 1); /* still to be told of */
    lane_rig_end(f->g);
    finish(f);
}

static void link_lost(void **state)
{
    (void)state;
    static const char *const when[] = {"PEXPIRETIME", "PEXPIREAT"};
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = fixture(true, STORE_MAX);
        int64_t ms = written(f, 0, "k", NOW + 10);
        f->rule[f->n_rules++] = (struct fake_rule){.match = when[i], .hang_up = true};
        tells(f, "PEXPIRETIME", ms);
        start(f, false);
        assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), -1);
        assert_int_equal(f->err.code, ERR_NET);
        assert_int_equal(f->h.n, 1);
        lane_rig_end(f->g);
        finish(f);
    }
}

/* --- targets that tell only the time left --- */

/* Exact to the millisecond although the other clock is off and the answer late. */
static void exact_by_time_left(void **state)
{
    (void)state;
    static const int64_t off[] = {0, 1, -1, 37, -2500, 3600000, -3600000};
    static const int64_t in[] = {0, 1, 2, 59999, MARGIN, -1, -12345, 777};
    for (size_t o = 0; o < 7; o++)
        for (size_t i = 0; i < 8; i++) {
            struct fixture *f = fixture(false, STORE_MAX);
            char want[128];
            written(f, 0, "bounds", NOW - 20000);
            written(f, 0, "bounds", NOW + MARGIN);
            wall_ms += 5000;
            int64_t ms = written(f, 0, "k", NOW + in[i]);
            moved(f, 0, "to");
            wall_ms += 100000;
            tells(f, "PTTL bounds", -2);
            tells(f, "PTTL", ms - (wall_ms + off[o]));
            snprintf(want, sizeof(want), "0:PEXPIREAT k %" PRId64 "\n0:PEXPIREAT to %" PRId64 "\n",
                     NOW + in[i], NOW + in[i]);
            settles(f, want);
            finish(f);
        }
}

/* The first note must not give a key the deadline that it had before it was renewed. */
static void renewed_by_time_left(void **state)
{
    (void)state;
    for (int64_t later = 1; later < 50000; later *= 7) {
        struct fixture *f = fixture(false, STORE_MAX);
        char want[128];
        written(f, 0, "k", NOW + 5);
        tells(f, "PTTL k", written(f, 0, "k", NOW + 5 + later) - NOW);
        snprintf(want, sizeof(want), "0:PEXPIREAT k %" PRId64 "\n0:PEXPIREAT k %" PRId64 "\n",
                 NOW + 5 + later, NOW + 5 + later);
        settles(f, want);
        finish(f);
    }
}

static void other_deadlines_by_time_left(void **state)
{
    (void)state;
    static const int64_t other[] = {-1,
                                    -2,
                                    0,
                                    5000,
                                    YEAR_9999 - NOW,
                                    HOLD_FAR_MS / 2 - 1,
                                    HOLD_FAR_MS - NOW + 200000 * HOLD_SPREAD,
                                    HOLD_FAR_MS - NOW - 200000 * HOLD_SPREAD,
                                    INT64_MAX};
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        struct fixture *f = fixture(false, STORE_MAX);
        written(f, 0, "k", NOW + 5);
        moved(f, 0, "k");
        tells(f, "PTTL k", other[i]);
        settles(f, "");
        finish(f);
    }
}

/* --- keys and room --- */

static void keys_of_all_lengths(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    char *key = malloc(HOLD_KEY_MAX + 2);
    assert_non_null(key);
    memset(key, 'k', HOLD_KEY_MAX + 1);
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    static const size_t n[] = {0, 1, 100000, HOLD_KEY_MAX, HOLD_KEY_MAX, 0};
    int64_t ms;
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(hold_deadline(&f->h, 0, span_of(n[i] ? key : NULL, n[i]), NOW + 10, NOW,
                                       MARGIN, &ms, &f->err),
                         0);
    assert_int_equal(f->h.n, 6);
    assert_int_equal(hold_deadline(&f->h, 0, span_of(key, HOLD_KEY_MAX + 1), NOW + 10, NOW, MARGIN,
                                   &ms, &f->err),
                     0);
    assert_int_equal(ms, NOW + 10); /* too long: its own deadline */
    assert_int_equal(f->h.n, 6);
    start(f, false);
    assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), 0);
    assert_true(f->h.keys.alloc + f->h.ask.alloc <= 5u << 20);
    lane_rig_end(f->g);
    unsigned told = 0;
    for (const char *p = fake_text(&f->g->target.ran); (p = strstr(p, "PEXPIREAT")) != NULL; p++)
        told++;
    assert_int_equal(told, 6);
    free(key);
    finish(f);
}

/* Held and settled in turn, never all: takes the room of what is held, and loses nothing. */
static void room_for_what_is_held(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, 8u << 20);
    char key[64];
    uint64_t most = 0;
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    start(f, false);
    for (int i = 0; i < 200000; i++) {
        snprintf(key, sizeof(key), "a key with a name of some length:%d", i);
        written(f, i % 3, key, NOW + 10);
        uint64_t size = held_bytes(f);
        if (size > most) most = size;
        if (f->h.n < 20000) continue;
        assert_int_equal(hold_settle(&f->h, &f->g->lane, 10000, &f->err), 0);
        assert_true(f->h.n > 0);
    }
    assert_true(most > BATCH_MEM_BYTES); /* some of it on disk */
    assert_true(most < 5u << 20);        /* of 13 MB in all */
    assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), 0);
    lane_rig_end(f->g);
    const char *p = fake_text(&f->g->target.ran);
    for (int i = 0; i < 200000; i++) {
        snprintf(key, sizeof(key), "%d:PEXPIREAT a\\x20key\\x20with\\x20a\\x20name\\x20of", i % 3);
        while (p && strncmp(p + 2, "PEXPIREAT", 9) != 0)
            p = strchr(p, '\n') + 1;
        assert_memory_equal(p, key, strlen(key));
        p = strchr(p, ':') + 1;
        assert_int_equal(strtol(strchr(p, ':') + 1, NULL, 10), i);
        p = strchr(p, '\n') + 1;
    }
    finish(f);
}

static void no_room(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, 100000);
    unsigned n = 0, told = 0;
    while (written(f, 0, "key", NOW) != NOW)
        n++;
    assert_int_equal(f->h.n, n);
    assert_true(n > 1000);
    assert_int_equal(written(f, 0, "key", NOW + 1), NOW + 1);
    assert_int_equal(hold_moved(&f->h, 0, span_str("moved"), &f->err), -1);
    assert_int_equal(f->err.code, ERR_LIMIT); /* it may have a held one */
    tells(f, "PEXPIRETIME", NOW + HOLD_SHIFT_MS);
    start(f, false);
    assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), 0);
    lane_rig_end(f->g);
    for (const char *p = fake_text(&f->g->target.ran); (p = strstr(p, "PEXPIREAT")) != NULL; p++)
        told++;
    assert_int_equal(told, n);
    finish(f);
}

/* --- only those that are due --- */

static struct hold_due before(int64_t ms)
{
    return (struct hold_due){ms, INT64_MAX};
}

static void ripe_ones_first(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    assert_false(hold_is_due(&f->h, HOLD_ALL));
    tells(f, "PEXPIRETIME a", written(f, 0, "a", NOW + 10));
    tells(f, "PEXPIRETIME b", written(f, 0, "b", NOW + 20));
    tells(f, "PEXPIRETIME c", NOW + 20 + HOLD_SHIFT_MS);
    tells(f, "PEXPIRETIME d", NOW + 5 + HOLD_SHIFT_MS);
    moved(f, 0, "c"); /* may have the deadline of b */
    written(f, 0, "d", NOW + 5);
    start(f, false);
    struct lane *l = &f->g->lane;
    assert_false(hold_is_due(&f->h, before(NOW + 10)));
    assert_int_equal(hold_settle_due(&f->h, l, 0, before(NOW + 10), &f->err), 0);
    assert_int_equal(f->h.n, 4);
    assert_true(hold_is_due(&f->h, before(NOW + 11)));
    assert_int_equal(hold_settle_due(&f->h, l, 0, before(NOW + 11), &f->err), 0);
    assert_int_equal(f->h.n, 3);
    assert_int_equal(hold_settle_due(&f->h, l, 0, before(NOW + 20), &f->err), 0);
    assert_int_equal(f->h.n, 3);
    assert_int_equal(hold_settle_due(&f->h, l, 0, before(NOW + 21), &f->err), 0);
    assert_int_equal(f->h.n, 0);
    settles(f, "0:PEXPIREAT a 1700000000010\n0:PEXPIREAT b 1700000000020\n"
               "0:PEXPIREAT c 1700000000020\n0:PEXPIREAT d 1700000000005\n");
    finish(f);
}

/* The oldest may wait for long: what would not be held now need not wait behind it. */
static void far_ones_too(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    struct hold_due due = {NOW, NOW + 100};
    tells(f, "PEXPIRETIME a", written(f, 0, "a", NOW + 101));
    tells(f, "PEXPIRETIME b", written(f, 0, "b", NOW + 100));
    written(f, 0, "c", NOW + 101);
    start(f, false);
    assert_true(hold_is_due(&f->h, due));
    assert_int_equal(hold_settle_due(&f->h, &f->g->lane, 0, due, &f->err), 0);
    assert_int_equal(f->h.n, 2);
    assert_false(hold_is_due(&f->h, due));
    lane_rig_end(f->g);
    assert_non_null(strstr(fake_text(&f->g->target.ran), "0:PEXPIREAT a 1700000000101\n"));
    finish(f);
}

/* The note of before a renewal is ripe first: it must not take what the later one is about. */
static void renewed_ones_stay_held(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    written(f, 0, "k", NOW + 10);
    moved(f, 0, "m"); /* not after NOW + 10, as far as is known by now */
    tells(f, "PEXPIRETIME", written(f, 0, "k", NOW + 500));
    start(f, false);
    assert_int_equal(hold_settle_due(&f->h, &f->g->lane, 0, before(NOW + 11), &f->err), 0);
    assert_int_equal(f->h.n, 2); /* of k, and of m what has been learnt */
    assert_false(hold_is_due(&f->h, before(NOW + 500)));
    assert_int_equal(hold_settle_due(&f->h, &f->g->lane, 0, before(NOW + 501), &f->err), 0);
    settles(f, "0:PEXPIREAT k 1700000000500\n0:PEXPIREAT m 1700000000500\n");
    finish(f);
}

static unsigned times_told(struct fixture *f)
{
    unsigned n = 0;
    for (const char *p = fake_text(&f->g->target.ran); (p = strstr(p, ":PEXPIREAT ")); p++)
        n++;
    return n;
}

static void go_round(struct fixture *f, uint64_t max, struct hold_due due, unsigned times)
{
    for (; times > 0; times--) {
        assert_int_equal(hold_go_round(&f->h, &f->g->lane, max, due, &f->err), 0);
        assert_int_equal(f->h.round == 0, times == 1);
    }
}

/* All are looked at once, wherever they lie; those that are not due stay, in whatever store. */
static void once_round(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    char key[32];
    struct hold_due due = {NOW - 1, NOW + 9};
    for (int i = 0; i < 30000; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        written(f, i / 100 % 2, key, i % 3 ? NOW + 5 : NOW + 10);
    }
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    start(f, false);
    go_round(f, 10000, due, 3);
    assert_int_equal(f->h.n, 20000);
    go_round(f, UINT64_MAX, due, 1);
    assert_int_equal(f->h.n, 20000);
    written(f, 0, "new", NOW + 10);
    go_round(f, UINT64_MAX, (struct hold_due){NOW + 6, NOW + 9}, 1);
    assert_int_equal(f->h.n, 0);
    assert_int_equal(held_bytes(f), 0);
    lane_rig_end(f->g);
    assert_int_equal(times_told(f), 30001);
    finish(f);
}

/* No room to note them anew: then they get their own deadline at once, rather than never. */
static void no_room_to_go_round(void **state)
{
    (void)state;
    struct fixture *f = fixture(true, STORE_MAX);
    tells(f, "PEXPIRETIME", NOW + 10 + HOLD_SHIFT_MS);
    for (int i = 0; i < 8000; i++)
        written(f, 0, "k", NOW + 10);
    for (int i = 0; i < 2; i++)
        f->h.notes.st[i].max_bytes = f->h.notes.st[i].mem.cap = 64 << 10;
    start(f, false);
    go_round(f, UINT64_MAX, before(NOW), 1);
    uint64_t left = f->h.n;
    assert_true(left > 1000 && left < 7000);
    assert_int_equal(hold_settle(&f->h, &f->g->lane, 0, &f->err), 0);
    assert_int_equal(f->h.n, 0);
    lane_rig_end(f->g);
    assert_int_equal(times_told(f), 8000);
    finish(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_ones_are_held),
        cmocka_unit_test(any_time),
        cmocka_unit_test(a_margin_of_any_size),
        cmocka_unit_test(each_gets_its_own),
        cmocka_unit_test(moved_ones),
        cmocka_unit_test(databases_change_places),
        cmocka_unit_test(dropped_swaps),
        cmocka_unit_test(swaps_take_no_room),
        cmocka_unit_test(many_databases_at_once),
        cmocka_unit_test(passing_faults),
        cmocka_unit_test(refused),
        cmocka_unit_test(link_lost),
        cmocka_unit_test(exact_by_time_left),
        cmocka_unit_test(renewed_by_time_left),
        cmocka_unit_test(other_deadlines_by_time_left),
        cmocka_unit_test(keys_of_all_lengths),
        cmocka_unit_test(room_for_what_is_held),
        cmocka_unit_test(no_room),
        cmocka_unit_test(ripe_ones_first),
        cmocka_unit_test(far_ones_too),
        cmocka_unit_test(renewed_ones_stay_held),
        cmocka_unit_test(once_round),
        cmocka_unit_test(no_room_to_go_round),
    };
    return cmocka_run_group_tests_name("hold", tests, NULL, NULL);
}
