// SPDX-License-Identifier: BSD-3-Clause
// The shards of a clustered source, one line each.
#include "cli/progress_shards.h"

#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>

#define SHOWN 32

static const char *phase_words(const struct shard_look *s)
{
    switch ((enum phase)s->phase) {
    case PHASE_CONNECT: return "connecting";
    case PHASE_CHECK: return "checking both sides";
    case PHASE_WAIT_DUMP: return "prepares its snapshot";
    case PHASE_SNAPSHOT: return "snapshot";
    case PHASE_CATCH_UP: return "catching up";
    case PHASE_STREAM: return "streaming";
    case PHASE_DONE: return "done";
    }
    return "unknown";
}

static void put_snapshot(char *out, size_t size, const struct shard_look *s)
{
    char keys[SHOWN], percent[SHOWN] = "";
    if (s->snapshot_bytes_total)
        snprintf(percent, sizeof(percent), " %.1f %%",
                 100.0 * (double)s->snapshot_bytes_decoded / (double)s->snapshot_bytes_total);
    snprintf(out, size, "snapshot%s, %s keys", percent,
             num_human_count(keys, sizeof(keys), s->keys_written));
}

static void put_lag(char *out, size_t size, const struct shard_look *s)
{
    char bytes[SHOWN], time[SHOWN];
    if (s->slots_unsettled) {
        snprintf(out, size, "%llu slots to settle, lag %s", (unsigned long long)s->slots_unsettled,
                 num_human_bytes(bytes, sizeof(bytes), s->lag_bytes));
        return;
    }
    snprintf(out, size, "%s, lag %s %s", phase_words(s),
             num_human_bytes(bytes, sizeof(bytes), s->lag_bytes),
             progress_time(time, sizeof(time), (double)s->lag_ms / 1000));
}

char *progress_shard_row(char *out, size_t size, const struct shard_look *s)
{
    char words[80], rate[SHOWN] = "", address[SHARDS_ADDRESS_MAX + 4];
    const char *waits = progress_waiting(s->waiting_for);
    size_t n = strlen(s->address);
    bool cut = n > 25; /* the end of an address tells more than its beginning */
    snprintf(address, sizeof(address), "%s%s", cut ? "..." : "", s->address + (cut ? n - 22 : 0));
    if (s->ended)
        snprintf(words, sizeof(words), "has no slots any more");
    else if (waits)
        snprintf(words, sizeof(words), "%s", waits);
    else if (s->phase == PHASE_SNAPSHOT)
        put_snapshot(words, sizeof(words), s);
    else if (s->phase == PHASE_CATCH_UP || s->phase == PHASE_STREAM)
        put_lag(words, sizeof(words), s);
    else
        snprintf(words, sizeof(words), "%s", phase_words(s));
    bool moves = !s->ended && s->phase >= PHASE_SNAPSHOT && s->phase < PHASE_DONE && !waits;
    if (moves) {
        num_human_count(rate, sizeof(rate), (uint64_t)s->per_s);
        snprintf(rate + strlen(rate), sizeof(rate) - strlen(rate), "/s");
    }
    snprintf(out, size, "  %4u %-25.25s %-36.36s%11.11s", s->number, address, words, rate);
    for (n = strlen(out); n && out[n - 1] == ' ';)
        out[--n] = 0;
    return out;
}

/* Who waits, who is least advanced, who lags most. */
static int behind(const void *a, const void *b)
{
    const struct shard_look *x = *(const struct shard_look *const *)a;
    const struct shard_look *y = *(const struct shard_look *const *)b;
    if (x->ended != y->ended) return x->ended ? 1 : -1;
    if (x->phase != y->phase) return x->phase < y->phase ? -1 : 1;
    if (x->lag_bytes != y->lag_bytes) return x->lag_bytes > y->lag_bytes ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void put_some(const struct shard_look *const *order, unsigned n, unsigned left,
                     void (*put)(void *ctx, const char *row), void *ctx)
{
    char row[PROGRESS_SHARD_ROW];
    for (unsigned i = 0; i < n; i++)
        put(ctx, progress_shard_row(row, sizeof(row), order[i]));
    if (left == 0) return;
    snprintf(row, sizeof(row), "       ... and %u more", left);
    put(ctx, row);
}

unsigned progress_shards(const struct shards_look *l, unsigned rows,
                         void (*put)(void *ctx, const char *row), void *ctx)
{
    if (l->n == 0 || rows == 0) return 0;
    const struct shard_look **order = calloc(l->n, sizeof(*order));
    if (!order) return 0;
    for (unsigned i = 0; i < l->n; i++)
        order[i] = &l->item[i];
    bool all = l->n <= rows;
    unsigned n = all ? l->n : rows - 1;
    if (!all) qsort(order, l->n, sizeof(const struct shard_look *), behind);
    put_some(order, n, l->n - n, put, ctx);
    free(order);
    return all ? n : n + 1;
}
