// SPDX-License-Identifier: BSD-3-Clause
// Holding deadlines until the stream has caught up.
#include "engine/hold.h"

#include "base/clock.h"
#include "base/num.h"

#define SETTLE_KEYS 256 /* asked for at once */
#define UNKNOWN_MS  INT64_MIN
#define KEY_MAX     (8u << 20)

struct hold_swap {
    int64_t a, b;
};

/* A note, followed by the key. */
struct note {
    int64_t at_ms;  /* real deadline, UNKNOWN_MS: that of the key it was taken from */
    int64_t db;     /* as it was called when noted ... */
    uint64_t swaps; /* ... which was after so many SWAPDBs */
    uint64_t key_n;
};

void hold_init(struct hold *h, bool on, bool exact, const char *store_dir, uint64_t max_bytes)
{
    *h = (struct hold){.on = on, .exact = exact};
    store_init(&h->notes, BATCH_MEM_BYTES, max_bytes, store_dir);
    buf_init(&h->swaps, 16u << 20);
    buf_init(&h->keys, 4 * KEY_MAX);
    buf_init(&h->ask, 4 * KEY_MAX);
    batch_init(&h->batch, store_dir, max_bytes);
}

void hold_release(struct hold *h)
{
    store_release(&h->notes);
    buf_release(&h->swaps);
    buf_release(&h->keys);
    buf_release(&h->ask);
    batch_release(&h->batch);
}

static int add_note(struct hold *h, int64_t db, struct span key, int64_t at_ms, struct err *err)
{
    struct note n = {
        .at_ms = at_ms, .db = db, .swaps = h->swaps.n / sizeof(struct hold_swap), .key_n = key.n};
    h->n++;
    if (store_add(&h->notes, &n, sizeof(n), err) < 0) return -1;
    return store_add(&h->notes, key.p, key.n, err);
}

int hold_deadline(struct hold *h, int64_t db, struct span key, int64_t at_ms, int64_t now_ms,
                  int64_t margin_ms, int64_t *ret_ms, struct err *err)
{
    *ret_ms = at_ms;
    if (!h->on || at_ms - now_ms > margin_ms) return 0;
    /* Longer keys than can be asked for in one go are not worth it: they keep their deadline. */
    if (key.n > KEY_MAX || at_ms < -HOLD_SHIFT_MS) return 0;
    *ret_ms = (at_ms > 0 ? at_ms : 1) + HOLD_SHIFT_MS;
    return add_note(h, db, key, at_ms > 0 ? at_ms : 1, err);
}

int hold_moved(struct hold *h, int64_t db, struct span key, struct err *err)
{
    if (h->n == 0 || key.n > KEY_MAX) return 0;
    return add_note(h, db, key, UNKNOWN_MS, err);
}

int hold_swapped(struct hold *h, int64_t a, int64_t b, struct err *err)
{
    struct hold_swap s = {a, b};
    return h->n == 0 ? 0 : buf_add(&h->swaps, &s, sizeof(s), err);
}

/* --- settling --- */

struct asked {
    struct note note;
    size_t key_at; /* in h->keys */
};

static int64_t db_now(const struct hold *h, const struct note *n)
{
    int64_t db = n->db;
    const struct hold_swap *s = (const struct hold_swap *)(const void *)h->swaps.p;
    for (uint64_t i = n->swaps; i < h->swaps.n / sizeof(*s); i++)
        db = db == s[i].a ? s[i].b : db == s[i].b ? s[i].a : db;
    return db;
}

static int read_note(struct hold *h, struct asked *a, struct err *err)
{
    if (store_read(&h->notes, h->read_at, &a->note, sizeof(a->note), err) < 0) return -1;
    a->key_at = h->keys.n;
    return 0;
}

/* The next notes, all of one database. Returns how many. */
static int take_notes(struct hold *h, struct asked *a, int64_t *ret_db, struct err *err)
{
    int n = 0;
    buf_clear(&h->keys);
    while (n < SETTLE_KEYS && h->read_at < store_size(&h->notes) && h->keys.n < KEY_MAX) {
        struct asked *one = &a[n];
        if (read_note(h, one, err) < 0) return -1;
        int64_t db = db_now(h, &one->note);
        if (n == 0) *ret_db = db;
        if (db != *ret_db) break;
        if (buf_reserve(&h->keys, one->note.key_n, err) < 0) return -1;
        if (one->note.key_n && store_read(&h->notes, h->read_at + sizeof(one->note),
                                          h->keys.p + h->keys.n, one->note.key_n, err) < 0)
            return -1;
        h->keys.n += one->note.key_n;
        h->read_at += sizeof(one->note) + one->note.key_n;
        h->n--;
        n++;
    }
    return n;
}

static struct span key_of(const struct hold *h, const struct asked *a)
{
    return span_of(h->keys.p + a->key_at, a->note.key_n);
}

/* What deadline have they now? Passing faults are waited out. */
static int ask(struct hold *h, struct lane *l, const struct asked *a, int n, int64_t *ret,
               struct err *err)
{
    buf_clear(&h->ask);
    for (int i = 0; i < n; i++) {
        struct span argv[] = {span_str(h->exact ? "PEXPIRETIME" : "PTTL"), key_of(h, &a[i])};
        if (resp_put_cmd(&h->ask, 2, argv, err) < 0) return -1;
    }
    struct lane_part part = {.mem = buf_span(&h->ask)};
    for (;;) {
        struct lane_error first;
        size_t at = 0;
        l->outcome.integers = ret;
        int rc = lane_call_begin(l, &part, 1, (uint64_t)n, err);
        if (rc == 0) rc = lane_call_wait(l, err);
        l->outcome.integers = NULL;
        const char *line = rc < 0 ? NULL : lane_outcome_next(&l->outcome, &at, &first);
        if (!line) return rc;
        if (refusal_classify(line) != REFUSAL_TRANSIENT)
            return err_set(err, ERR_TARGET, "target: %s was refused: %s",
                           h->exact ? "PEXPIRETIME" : "PTTL", line);
        if (lane_pause(l, line, err) < 0) return -1;
    }
}

/* Its real deadline, when it still has the shifted one; else UNKNOWN_MS. */
static int64_t real_deadline(const struct hold *h, const struct note *n, int64_t told)
{
    if (h->exact && n->at_ms != UNKNOWN_MS)
        return told == n->at_ms + HOLD_SHIFT_MS ? n->at_ms : UNKNOWN_MS;
    if (told < HOLD_SHIFT_MS / 2) return UNKNOWN_MS;
    if (n->at_ms != UNKNOWN_MS) return n->at_ms;
    return h->exact ? told - HOLD_SHIFT_MS : clock_wall_ms() + told - HOLD_SHIFT_MS;
}

static int settle_some(struct hold *h, struct lane *l, uint64_t *ret_n, struct err *err)
{
    struct asked a[SETTLE_KEYS];
    int64_t told[SETTLE_KEYS] = {0}, db = 0;
    int n = take_notes(h, a, &db, err);
    if (n <= 0) return n;
    if (lane_select(l, db, err) < 0 || ask(h, l, a, n, told, err) < 0) return -1;
    if (batch_begin(&h->batch, db, err) < 0) return -1;
    for (int i = 0; i < n; i++) {
        int64_t at = real_deadline(h, &a[i].note, told[i]);
        if (at == UNKNOWN_MS) continue;
        char ms[NUM_INT64_CHARS];
        struct span argv[] = {span_str("PEXPIREAT"), key_of(h, &a[i]),
                              span_of(ms, num_put_i64(ms, at))};
        if (batch_args(&h->batch, 3, argv, err) < 0) return -1;
    }
    *ret_n += (uint64_t)n;
    if (h->batch.n == 0) return 0;
    if (batch_send(&h->batch, l, err) < 0) return -1;
    return batch_finish(&h->batch, l, err);
}

int hold_settle(struct hold *h, struct lane *l, uint64_t max_keys, struct err *err)
{
    uint64_t n = 0;
    while (h->n && (max_keys == 0 || n < max_keys))
        if (settle_some(h, l, &n, err) < 0) return -1;
    if (h->n) return 0;
    store_clear(&h->notes);
    buf_clear(&h->swaps);
    h->read_at = 0;
    return 0;
}
