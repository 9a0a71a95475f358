// SPDX-License-Identifier: BSD-3-Clause
// Holding deadlines until what may renew them has been applied.
#include "engine/hold_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"

#define SETTLE_BYTES (1u << 20) /* ... unless their names are so long */
#define PASS_NOTES   8192       /* looked at meanwhile and kept */
#define LONG_PAST_MS (HOLD_MARGIN_MS / 8)
#define SLACK_MS     60000 /* a minute of rounding is a clock that is 16 years off */

struct hold_name {
    int64_t db, was;
};

void hold_init(struct hold *h, bool on, bool exact, const char *store_dir, uint64_t max_bytes)
{
    *h = (struct hold){.on = on, .exact = exact};
    hold_notes_init(&h->notes, HOLD_KEY_MAX, store_dir, max_bytes);
    buf_init(&h->names, 16u << 20);
    buf_init(&h->names_before, 16u << 20);
    buf_init(&h->keys, HOLD_KEY_MAX + SETTLE_BYTES);
    buf_init(&h->ask, HOLD_KEY_MAX + 4 * SETTLE_BYTES);
    batch_init(&h->batch, store_dir, max_bytes);
}

void hold_release(struct hold *h)
{
    hold_notes_release(&h->notes);
    buf_release(&h->names);
    buf_release(&h->names_before);
    buf_release(&h->keys);
    buf_release(&h->ask);
    batch_release(&h->batch);
    hold_scan_release(h);
}

/* --- databases that change places --- */

static struct hold_name *name_at(const struct hold *h, size_t i)
{
    return (struct hold_name *)(void *)h->names.p + i;
}

static size_t n_names(const struct hold *h)
{
    return h->names.n / sizeof(struct hold_name);
}

static int64_t was(const struct hold *h, int64_t db)
{
    for (size_t i = 0; i < n_names(h); i++)
        if (name_at(h, i)->db == db) return name_at(h, i)->was;
    return db;
}

static int64_t now_called(const struct hold *h, int64_t was_db)
{
    for (size_t i = 0; i < n_names(h); i++)
        if (name_at(h, i)->was == was_db) return name_at(h, i)->db;
    return was_db;
}

static int set_name(struct hold *h, int64_t db, int64_t was_db, struct err *err)
{
    for (size_t i = 0; i < n_names(h); i++)
        if (name_at(h, i)->db == db) {
            name_at(h, i)->was = was_db;
            return 0;
        }
    struct hold_name one = {db, was_db};
    return buf_add(&h->names, &one, sizeof(one), err);
}

int hold_swapped(struct hold *h, int64_t a, int64_t b, struct err *err)
{
    h->swaps++;
    if (h->n == 0 || a == b) return 0;
    int64_t a_was = was(h, a), b_was = was(h, b);
    h->swapped = true;
    return set_name(h, a, b_was, err) < 0 ? -1 : set_name(h, b, a_was, err);
}

int hold_mark(struct hold *h, struct err *err)
{
    if (KH_LIKELY(!h->swapped)) return 0;
    h->swapped = false;
    buf_clear(&h->names_before);
    return buf_add(&h->names_before, h->names.p, h->names.n, err);
}

void hold_back(struct hold *h)
{
    struct buf dropped = h->names;
    if (!h->swapped) return;
    h->swapped = false;
    h->names = h->names_before;
    h->names_before = dropped;
}

/* --- noting --- */

static int add_note(struct hold *h, const struct hold_note *note, struct span key, struct err *err)
{
    if (hold_notes_add(&h->notes, note, key, err) < 0)
        return err_wrap(err, "expiries that are held back");
    h->n++;
    return 0;
}

static struct hold_note note_of(const struct hold *h, int64_t db, struct span key, int64_t at_ms)
{
    return (struct hold_note){.at_ms = at_ms, .db = was(h, db), .key_n = (uint32_t)key.n};
}

static int64_t encode(const struct hold *h, int64_t at_ms)
{
    return h->exact ? at_ms + HOLD_SHIFT_MS : HOLD_FAR_MS + (at_ms - h->base_ms) * HOLD_SPREAD;
}

static void begin_holding(struct hold *h, int64_t now_ms)
{
    if (h->base_ms == 0) h->base_ms = now_ms;
    if (h->scan.wanted) return; /* it may find any */
    h->min_ms = INT64_MAX;
    h->max_ms = 0;
}

void hold_set_base(struct hold *h, int64_t base_ms)
{
    h->base_ms = base_ms;
}

/* A deadline that is not held is a risk for keys renewed at the last moment; to end all is worse.
 */
static void tell_full(struct hold *h, const struct err *why)
{
    if (!h->told_full)
        log_warn("%s: keys that expire soon are written with their expiry as it is, and may be "
                 "lost when the source renews them at the last moment",
                 why->msg);
    h->told_full = true;
}

int hold_deadline(struct hold *h, int64_t db, struct span key, int64_t at_ms, int64_t now_ms,
                  int64_t margin_ms, int64_t *ret_ms, struct err *err)
{
    (void)err;
    *ret_ms = at_ms;
    if (margin_ms > HOLD_MARGIN_MS) margin_ms = HOLD_MARGIN_MS;
    /* Valkey 8.1.1 in import mode takes negative ones, and dies of them later. */
    if (!h->on && at_ms < 1) *ret_ms = 1;
    if (!h->on || at_ms > now_ms + margin_ms || key.n > HOLD_KEY_MAX) return 0;
    if (h->n == 0) begin_holding(h, now_ms);
    /* What is over is over, however long; and our own clock may have been set back. */
    if (at_ms < h->base_ms - LONG_PAST_MS) at_ms = h->base_ms - LONG_PAST_MS;
    if (at_ms < 1) at_ms = 1;
    struct hold_note note = note_of(h, db, key, at_ms);
    struct err why;
    if (add_note(h, &note, key, &why) < 0) {
        tell_full(h, &why);
        return 0;
    }
    if (at_ms < h->min_ms) h->min_ms = at_ms;
    if (at_ms > h->max_ms) h->max_ms = at_ms;
    *ret_ms = encode(h, at_ms);
    return 0;
}

int hold_moved(struct hold *h, int64_t db, struct span key, struct err *err)
{
    if ((h->n == 0 && !h->scan.wanted) || key.n > HOLD_KEY_MAX) return 0;
    struct hold_note note = note_of(h, db, key, h->max_ms);
    note.moved = 1;
    return add_note(h, &note, key, err);
}

int hold_found(struct hold *h, int64_t db, struct span key, int64_t at_ms, struct err *err)
{
    struct hold_note note = note_of(h, db, key, at_ms);
    return add_note(h, &note, key, err);
}

/* --- settling --- */

static bool is_due(struct hold_due due, int64_t at_ms)
{
    return at_ms < due.before_ms || at_ms > due.after_ms;
}

bool hold_decode(const struct hold *h, int64_t told, int64_t now_ms, int64_t *ret_ms)
{
    if (h->exact) {
        if (told < HOLD_SHIFT_MS) return false;
        *ret_ms = told - HOLD_SHIFT_MS;
        return *ret_ms >= h->min_ms && *ret_ms <= h->max_ms;
    }
    if (told < HOLD_FAR_MS / 2 || told > HOLD_FAR_MS * 2) return false;
    int64_t spread = told + now_ms - HOLD_FAR_MS + HOLD_SPREAD / 2;
    int64_t at = h->base_ms + spread / HOLD_SPREAD - (spread % HOLD_SPREAD < 0);
    if (at < h->min_ms - SLACK_MS || at > h->max_ms + SLACK_MS) return false;
    *ret_ms = at < h->min_ms ? h->min_ms : at > h->max_ms ? h->max_ms : at;
    return true;
}

bool hold_is_due(struct hold *h, struct hold_due due)
{
    struct hold_note n;
    struct span key;
    if (h->n == 0) return false;
    return hold_notes_next(&h->notes, &n, &key, NULL) <= 0 || is_due(due, n.at_ms);
}

static int take(struct hold *h, struct hold_taken *t, const struct hold_note *note, struct span key,
                struct err *err)
{
    struct hold_asked *a = &t->a[t->n++];
    *a = (struct hold_asked){.note = *note, .db = now_called(h, note->db), .key_at = h->keys.n};
    return buf_add(&h->keys, key.p, key.n, err);
}

/* The next notes that are due, all out of one store. On a round those that are not are noted anew;
 * where there is no room for that, they are settled early. */
static int take_notes(struct hold *h, struct hold_taken *t, struct hold_due due, bool round,
                      struct err *err)
{
    struct hold_note note;
    struct span key;
    int rc = 0;
    buf_clear(&h->keys);
    while (t->n < HOLD_SETTLE_KEYS && t->kept < PASS_NOTES) {
        if (round && (uint64_t)t->n + t->kept == h->round) break;
        rc = hold_notes_next(&h->notes, &note, &key, err);
        if (rc <= 0) break;
        bool keep = !is_due(due, note.at_ms);
        if ((keep && !round) || (t->n && h->keys.n + key.n > SETTLE_BYTES)) break;
        hold_notes_pass(&h->notes, &note);
        if (keep && add_note(h, &note, key, NULL) == 0)
            t->kept++;
        else if (take(h, t, &note, key, err) < 0)
            return -1;
    }
    return rc < 0 ? -1 : 0;
}

/* Questions of several databases in one go. They change nothing, so should a SELECT among them fail
 * in passing, all are asked again. */
static int put_questions(struct hold *h, struct hold_asked *a, int n, uint64_t *ret_replies,
                         struct err *err)
{
    int64_t db = -1;
    *ret_replies = 0;
    buf_clear(&h->ask);
    for (int i = 0; i < n; i++) {
        if (a[i].db != db) {
            char num[NUM_INT64_CHARS];
            db = a[i].db;
            struct span argv[] = {span_str("SELECT"), span_of(num, num_put_i64(num, db))};
            if (resp_put_cmd(&h->ask, 2, argv, err) < 0) return -1;
            ++*ret_replies;
        }
        struct span argv[] = {span_str(h->exact ? "PEXPIRETIME" : "PTTL"), hold_key_of(h, &a[i])};
        if (resp_put_cmd(&h->ask, 2, argv, err) < 0) return -1;
        a[i].reply = (size_t)(*ret_replies)++;
    }
    return 0;
}

static int ask(struct hold *h, struct lane *l, uint64_t replies, int64_t db, int64_t *ret,
               struct err *err)
{
    struct lane_part part = {.mem = buf_span(&h->ask)};
    for (;;) {
        struct lane_error first;
        size_t at = 0;
        l->db = -1;
        l->outcome.integers = ret;
        int rc = lane_call_begin(l, &part, 1, replies, err);
        if (rc == 0) rc = lane_call_wait(l, err);
        l->outcome.integers = NULL;
        if (rc < 0) return -1;
        const char *line = lane_outcome_next(&l->outcome, &at, &first);
        if (!line) break;
        if (refusal_classify(line) != REFUSAL_TRANSIENT)
            return err_set(err, ERR_TARGET, "target: %s was refused: %s",
                           h->exact ? "PEXPIRETIME" : "PTTL", line);
        if (lane_pause(l, line, err) < 0) return -1;
    }
    lane_recovered(l);
    l->db = db;
    return 0;
}

/* One that is not due has been renewed and has a note of that; but one that came with the key it
 * was given to has not. */
static int keep_held(struct hold *h, const struct hold_asked *a, int64_t at_ms, struct err *err)
{
    struct hold_note note = a->note;
    if (!note.moved) return 0;
    note.moved = 0;
    note.at_ms = at_ms;
    return add_note(h, &note, hold_key_of(h, a), err);
}

/* Which of them are to be given a deadline, by what the target tells of them. */
static int judge(struct hold *h, struct hold_taken *t, const int64_t *told, struct hold_due due,
                 struct err *err)
{
    int64_t at, now_ms = clock_wall_ms();
    for (struct hold_asked *a = t->a; a < t->a + t->n; a++) {
        a->give_ms = 0;
        /* Its slot has moved to another shard meanwhile: that one sees to it. */
        if (!slot_set_has_key(h->slots, hold_key_of(h, a))) continue;
        if (!hold_decode(h, told[a->reply], now_ms, &at)) continue;
        if (is_due(due, at) || at == a->note.at_ms)
            a->give_ms = at;
        else if (keep_held(h, a, at, err) < 0)
            return -1;
    }
    return 0;
}

static int put_deadlines(struct hold *h, const struct hold_taken *t, struct err *err)
{
    for (const struct hold_asked *a = t->a; a < t->a + t->n; a++) {
        if (a->give_ms == 0) continue;
        char ms[NUM_INT64_CHARS];
        struct span argv[] = {span_str("PEXPIREAT"), hold_key_of(h, a),
                              span_of(ms, num_put_i64(ms, a->give_ms))};
        if (batch_select(&h->batch, a->db, err) < 0 || batch_args(&h->batch, 3, argv, err) < 0)
            return -1;
    }
    return 0;
}

static int settle_taken(struct hold *h, struct lane *l, struct hold_taken *t, struct hold_due due,
                        struct err *err)
{
    int64_t told[2 * HOLD_SETTLE_KEYS];
    uint64_t replies;
    if (t->n == 0) return 0;
    if (h->fan) {
        if (hold_fan_ask(h, t, told, err) < 0 || judge(h, t, told, due, err) < 0) return -1;
        return hold_fan_give(h, t, err);
    }
    if (put_questions(h, t->a, t->n, &replies, err) < 0 ||
        ask(h, l, replies, t->a[t->n - 1].db, told, err) < 0 || judge(h, t, told, due, err) < 0 ||
        batch_begin(&h->batch, l->db, err) < 0 || put_deadlines(h, t, err) < 0)
        return -1;
    if (h->batch.n == 0) return 0;
    return batch_send(&h->batch, l, err) < 0 ? -1 : batch_finish(&h->batch, l, err);
}

/* Returns how many notes were gone through. */
static int settle_some(struct hold *h, struct lane *l, struct hold_due due, bool round,
                       struct err *err)
{
    struct hold_taken t;
    t.n = 0;
    t.kept = 0;
    if (take_notes(h, &t, due, round, err) < 0 || settle_taken(h, l, &t, due, err) < 0) {
        hold_notes_back(&h->notes);
        return -1;
    }
    uint64_t seen = (uint64_t)t.n + t.kept;
    hold_notes_drop(&h->notes);
    h->n -= seen;
    h->round -= seen < h->round ? seen : h->round;
    return (int)seen;
}

static void forget(struct hold *h)
{
    hold_notes_clear(&h->notes);
    buf_clear(&h->names);
    buf_clear(&h->names_before);
    h->swapped = false;
    h->round = 0;
}

/* Between two chunks nothing but room for the next is kept. */
static void settled(struct hold *h)
{
    buf_trim(&h->keys, SETTLE_BYTES);
    buf_trim(&h->ask, 4 * SETTLE_BYTES);
    if (h->n == 0) forget(h);
}

int hold_settle_due(struct hold *h, struct lane *l, uint64_t max_keys, struct hold_due due,
                    struct err *err)
{
    uint64_t done = 0;
    while (h->n && (max_keys == 0 || done < max_keys)) {
        int n = settle_some(h, l, due, false, err);
        if (n < 0) return -1;
        if (n == 0) break; /* the rest is not due */
        done += (uint64_t)n;
    }
    settled(h);
    return 0;
}

int hold_go_round(struct hold *h, struct lane *l, uint64_t max_keys, struct hold_due due,
                  struct err *err)
{
    uint64_t done = 0;
    if (h->round == 0) h->round = h->n;
    while (h->round && done < max_keys) {
        int n = settle_some(h, l, due, true, err);
        if (n < 0) return -1;
        if (n == 0) h->round = 0;
        done += (uint64_t)n;
    }
    settled(h);
    return 0;
}
