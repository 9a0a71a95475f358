// SPDX-License-Identifier: BSD-3-Clause
// The shards of a source, their counters added up, and looks at them.
#include "control/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MS 3000 /* a rate is counted over so long at least */

void shards_init(struct shards *s)
{
    *s = (struct shards){0};
    pthread_mutex_init(&s->lock, NULL);
}

void shards_release(struct shards *s)
{
    for (unsigned i = 0; i < s->n; i++)
        free(s->item[i]);
    free(s->item);
    pthread_mutex_destroy(&s->lock);
}

int shards_add(struct shards *s, unsigned number, struct shard **ret, struct err *err)
{
    struct shard *made = calloc(1, sizeof(*made));
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->n; i++)
        if (s->item[i]->number == number) {
            *ret = s->item[i];
            pthread_mutex_unlock(&s->lock);
            free(made);
            return 0;
        }
    struct shard **item = made ? realloc(s->item, (s->n + 1) * sizeof(*item)) : NULL;
    if (item) {
        unsigned at = s->n++;
        for (; at > 0 && item[at - 1]->number > number; at--)
            item[at] = item[at - 1];
        made->number = number;
        item[at] = made;
        s->item = item;
    }
    pthread_mutex_unlock(&s->lock);
    if (!item) {
        free(made);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    *ret = made;
    return 0;
}

void shards_change(struct shards *s, struct shard *of, const char *address, unsigned slots,
                   bool ended)
{
    pthread_mutex_lock(&s->lock);
    snprintf(of->address, sizeof(of->address), "%s", address);
    of->slots = slots;
    of->ended = ended;
    pthread_mutex_unlock(&s->lock);
}

/* --- sums --- */

/* Of what is a total or an amount; the others are found one by one. */
static void add_up(struct counters *sum, struct counters *c)
{
#define X(name, help) counter_add(&sum->name, counter_get(&c->name));
    COUNTERS_TABLE(X)
#undef X
    for (unsigned i = 0; i < COUNTERS_DBS; i++) {
        counter_add(&sum->db[i].keys, counter_get(&c->db[i].keys));
        counter_add(&sum->db[i].bytes, counter_get(&c->db[i].bytes));
        counter_add(&sum->db[i].commands, counter_get(&c->db[i].commands));
        counter_add(&sum->db[i].skipped, counter_get(&c->db[i].skipped));
        counter_add(&sum->db[i].errors, counter_get(&c->db[i].errors));
    }
}

struct extremes {
    uint64_t least, most; /* phases */
    bool loads;           /* one is before the end of a snapshot */
    bool size_unknown;    /* of the snapshot of one that has begun, or will yet */
    uint64_t lag_ms, waiting_for, waiting_until_ms;
    struct counters *waiting; /* whose it is; NULL none */
    uint64_t snapshot_started_ms, snapshot_done_ms, caught_up_ms;
    bool not_done, not_caught_up;
};

static void keep_first(uint64_t *at, uint64_t ms)
{
    if (ms && (!*at || ms < *at)) *at = ms;
}

static void keep_last(uint64_t *at, bool *missing, uint64_t ms)
{
    if (ms > *at) *at = ms;
    *missing |= ms == 0;
}

static void compare(struct extremes *x, struct counters *c)
{
    uint64_t phase = counter_get(&c->phase), lag = counter_get(&c->lag_ms);
    uint64_t waits = counter_get(&c->waiting_for);
    if (phase < x->least) x->least = phase;
    if (phase > x->most) x->most = phase;
    x->loads |= phase == PHASE_WAIT_DUMP || phase == PHASE_SNAPSHOT;
    x->size_unknown |= phase <= PHASE_SNAPSHOT && counter_get(&c->snapshot_bytes_total) == 0;
    if (lag > x->lag_ms) x->lag_ms = lag;
    if (waits && !x->waiting_for) {
        x->waiting_for = waits;
        x->waiting_until_ms = counter_get(&c->waiting_until_ms);
        x->waiting = c;
    }
    keep_first(&x->snapshot_started_ms, counter_get(&c->snapshot_started_ms));
    keep_last(&x->snapshot_done_ms, &x->not_done, counter_get(&c->snapshot_done_ms));
    keep_last(&x->caught_up_ms, &x->not_caught_up, counter_get(&c->caught_up_ms));
}

/* Where one still waits for its turn, or calls a lost side again, others move data. */
static uint64_t phase_of_all(const struct extremes *x)
{
    if (x->least >= PHASE_SNAPSHOT || x->most < PHASE_SNAPSHOT) return x->least;
    return x->loads ? PHASE_SNAPSHOT : PHASE_CATCH_UP;
}

static void put_extremes(struct counters *sum, const struct extremes *x)
{
    counter_set(&sum->phase, phase_of_all(x));
    counter_set(&sum->lag_ms, x->lag_ms);
    counter_set(&sum->waiting_for, x->waiting_for);
    counter_set(&sum->waiting_until_ms, x->waiting_until_ms);
    counter_set(&sum->snapshot_started_ms, x->snapshot_started_ms);
    counter_set(&sum->snapshot_done_ms, x->not_done ? 0 : x->snapshot_done_ms);
    counter_set(&sum->caught_up_ms, x->not_caught_up ? 0 : x->caught_up_ms);
    counter_set(&sum->source_offset, 0);
    counter_set(&sum->received_offset, 0);
    counter_set(&sum->applied_offset, 0);
    if (!x->size_unknown) return;
    counter_set(&sum->snapshot_bytes_total, 0);
    /* what is announced is of those that have begun: no measure of all */
    if (x->least < PHASE_SNAPSHOT) counter_set(&sum->snapshot_keys_expected, 0);
}

/* Of another look's own, so that a reader of the task's counters never sees them half added up. */
static void publish(struct counters *to, struct counters *sum)
{
#define X(name, help) counter_set(&to->name, counter_get(&sum->name));
    COUNTERS_TABLE(X)
#undef X
    for (unsigned i = 0; i < COUNTERS_DBS; i++) {
        counter_set(&to->db[i].keys, counter_get(&sum->db[i].keys));
        counter_set(&to->db[i].bytes, counter_get(&sum->db[i].bytes));
        counter_set(&to->db[i].commands, counter_get(&sum->db[i].commands));
        counter_set(&to->db[i].skipped, counter_get(&sum->db[i].skipped));
        counter_set(&to->db[i].errors, counter_get(&sum->db[i].errors));
    }
}

void shards_sum(struct shards *s, struct counters *to)
{
    struct counters sum = {0};
    struct extremes x = {.least = PHASE_DONE};
    pthread_mutex_lock(&s->lock);
    unsigned live = 0;
    for (unsigned i = 0; i < s->n; i++) {
        add_up(&sum, &s->item[i]->counters);
        if (s->item[i]->ended) continue;
        compare(&x, &s->item[i]->counters);
        live++;
    }
    pthread_mutex_unlock(&s->lock);
    if (live == 0) return;
    put_extremes(&sum, &x);
    char why[COUNTERS_WHY] = "";
    if (x.waiting) counters_get_why(x.waiting, why);
    counters_set_why(to, why);
    /* of the task, and no shard's */
    counter_set(&sum.started_wall_ms, counter_get(&to->started_wall_ms));
    counter_set(&sum.keys_before, counter_get(&to->keys_before));
    counter_set(&sum.commands_before, counter_get(&to->commands_before));
    publish(to, &sum);
}

/* --- looks --- */

static uint64_t moved(const struct shard_look *l)
{
    return l->phase <= PHASE_SNAPSHOT ? l->keys_written : l->commands_written;
}

static void find_rate(struct shard_look *l, int64_t now)
{
    uint64_t n = moved(l);
    int64_t ms = now - l->from_ms;
    if (l->from_ms == 0 || l->from_phase != l->phase || n < l->from_moved) {
        l->per_s = 0;
    } else if (ms < RATE_MS) {
        return;
    } else {
        l->per_s = (double)(n - l->from_moved) * 1000 / (double)ms;
    }
    l->from_ms = now;
    l->from_moved = n;
    l->from_phase = l->phase;
}

static void look_at(struct shard_look *l, struct shard *s, int64_t now)
{
    struct counters *c = &s->counters;
    l->number = s->number;
    memcpy(l->address, s->address, sizeof(l->address));
    l->slots = s->slots;
    l->ended = s->ended;
    l->phase = counter_get(&c->phase);
    l->waiting_for = counter_get(&c->waiting_for);
    l->lag_bytes = counter_get(&c->lag_bytes);
    l->lag_ms = counter_get(&c->lag_ms);
    l->slots_unsettled = counter_get(&c->slots_unsettled);
    l->keys_written = counter_get(&c->keys_written);
    l->keys_skipped = counter_get(&c->keys_skipped);
    l->commands_written = counter_get(&c->commands_written);
    l->errors = counter_get(&c->errors);
    l->bytes_read = counter_get(&c->bytes_read);
    l->bytes_waiting = counter_get(&c->spool_ram_bytes) + counter_get(&c->spool_disk_bytes);
    l->snapshot_bytes_total = counter_get(&c->snapshot_bytes_total);
    l->snapshot_bytes_decoded = counter_get(&c->snapshot_bytes_decoded);
    l->source_offset = counter_get(&c->source_offset);
    l->received_offset = counter_get(&c->received_offset);
    l->applied_offset = counter_get(&c->applied_offset);
    find_rate(l, now);
}

/* One may have come in between. */
static struct shard_look *entry(struct shards_look *l, unsigned i, unsigned number)
{
    if (i < l->n && l->item[i].number == number) return &l->item[i];
    struct shard_look *item = realloc(l->item, (l->n + 1) * sizeof(*item));
    if (!item) return NULL;
    l->item = item;
    memmove(item + i + 1, item + i, (l->n - i) * sizeof(*item));
    l->n++;
    item[i] = (struct shard_look){.number = number};
    return &item[i];
}

void shards_look(struct shards_look *l, struct shards *s, int64_t mono_ms)
{
    struct shard_look *at;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->n && (at = entry(l, i, s->item[i]->number)); i++)
        look_at(at, s->item[i], mono_ms);
    pthread_mutex_unlock(&s->lock);
}

void shards_look_release(struct shards_look *l)
{
    free(l->item);
    *l = (struct shards_look){0};
}
