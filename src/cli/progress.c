// SPDX-License-Identifier: BSD-3-Clause
// Progress as text and JSON.
#include "cli/progress_shards.h"

#include "base/num.h"

#include <stdio.h>

#define SHOWN      32 /* room for one number with its unit */
#define ROWS_USUAL 24 /* of a screen that does not tell */

void progress_init(struct progress *p, enum task_way way)
{
    *p = (struct progress){.way = way};
}

/* Bytes of the source that were worked off: received, and not waiting any more. */
static uint64_t moved_bytes(const struct metrics *m)
{
    uint64_t waiting = m->spool_ram_bytes + m->spool_disk_bytes;
    return m->bytes_read > waiting ? m->bytes_read - waiting : 0;
}

void progress_add(struct progress *p, const struct metrics *m)
{
    if (p->n == 0) p->started_ms = m->mono_ms;
    p->now = *m;
    p->point[p->next] = (struct progress_point){
        .mono_ms = m->mono_ms,
        .phase = m->phase,
        .keys = m->keys_written,
        .commands = m->commands_written,
        .bytes = moved_bytes(m),
        .decoded = m->snapshot_bytes_decoded,
        .keys_read = m->keys_read,
        .lag = m->lag_bytes,
    };
    p->next = (p->next + 1) % PROGRESS_WINDOW;
    if (p->n < PROGRESS_WINDOW) p->n++;
}

/* Where rates are counted from: the oldest look of this phase that is not older than the window, or
 * the last but one. NULL: the phase is new. */
static const struct progress_point *window_start(const struct progress *p)
{
    for (unsigned back = p->n; back >= 2; back--) {
        const struct progress_point *at =
            &p->point[(p->next + PROGRESS_WINDOW - back) % PROGRESS_WINDOW];
        if (at->phase != p->now.phase) continue;
        if (back == 2 || p->now.mono_ms - at->mono_ms <= PROGRESS_WINDOW_MS) return at;
    }
    return NULL;
}

static double rate(uint64_t now, uint64_t then, double seconds)
{
    return seconds > 0 && now > then ? (double)(now - then) / seconds : 0;
}

/* The commands of an AOF are not announced. */
static bool counts_by_keys(const struct metrics *m)
{
    return m->phase == PHASE_SNAPSHOT && m->snapshot_keys_expected && !m->commands_read;
}

static void find_percent(const struct metrics *m, struct progress_figures *f)
{
    f->percent = -1;
    f->estimated = false;
    if (m->phase > PHASE_SNAPSHOT) {
        f->percent = m->snapshot_bytes_received || m->keys_read ? 100 : -1;
    } else if (m->phase == PHASE_SNAPSHOT && m->snapshot_bytes_total) {
        f->percent = 100.0 * (double)m->snapshot_bytes_decoded / (double)m->snapshot_bytes_total;
    } else if (counts_by_keys(m)) {
        f->percent = 100.0 * (double)m->keys_read / (double)m->snapshot_keys_expected;
        f->estimated = true;
    }
    if (f->percent > 100) f->percent = 100;
}

static double ahead(uint64_t total, uint64_t done, double per_s)
{
    if (done >= total) return 0;
    return per_s > 0 ? (double)(total - done) / per_s : -1;
}

static double find_left(const struct metrics *m, const struct progress_point *then, double seconds)
{
    if (m->phase == PHASE_SNAPSHOT && m->snapshot_bytes_total)
        return ahead(m->snapshot_bytes_total, m->snapshot_bytes_decoded,
                     rate(m->snapshot_bytes_decoded, then->decoded, seconds));
    if (counts_by_keys(m))
        return ahead(m->snapshot_keys_expected, m->keys_read,
                     rate(m->keys_read, then->keys_read, seconds));
    /* What comes in meanwhile counts: the lag itself has to shrink. */
    if (m->phase == PHASE_CATCH_UP)
        return ahead(m->lag_bytes, 0, rate(then->lag, m->lag_bytes, seconds));
    return -1;
}

void progress_figures(const struct progress *p, struct progress_figures *ret)
{
    const struct metrics *m = &p->now;
    const struct progress_point *then = window_start(p);
    double s = then ? (double)(m->mono_ms - then->mono_ms) / 1000 : 0;
    *ret = (struct progress_figures){.left_s = -1};
    find_percent(m, ret);
    if (!then || s <= 0) return;
    ret->keys_per_s = rate(m->keys_written, then->keys, s);
    ret->commands_per_s = rate(m->commands_written, then->commands, s);
    ret->bytes_per_s = rate(moved_bytes(m), then->bytes, s);
    ret->left_s = find_left(m, then, s);
}

char *progress_time(char *out, size_t size, double seconds)
{
    uint64_t s = seconds > 0 ? (uint64_t)(seconds + 0.5) : 0;
    if (seconds < 60 && s < 60)
        snprintf(out, size, "%.1f s", seconds > 0 ? seconds : 0.0);
    else if (s < 3600)
        snprintf(out, size, "%u min %02u s", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 100u * 86400)
        snprintf(out, size, "%u h %02u min", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(out, size, "long");
    return out;
}

static const char *phase_words(uint64_t phase, enum task_way way)
{
    switch ((enum phase)phase) {
    case PHASE_CONNECT: return "connecting";
    case PHASE_CHECK: return way == TASK_MIGRATE ? "checking both sides" : "checking the target";
    case PHASE_WAIT_DUMP: return "source prepares its snapshot";
    case PHASE_SNAPSHOT: return metrics_phase_name(phase, way == TASK_RESTORE);
    case PHASE_CATCH_UP: return "catching up";
    case PHASE_STREAM: return "streaming";
    case PHASE_DONE: return "done";
    }
    return "unknown";
}

/* Above: connecting, checking, waiting have no figures yet but their time. */
static bool moving(const struct metrics *m)
{
    return m->phase >= PHASE_SNAPSHOT;
}

/* One line of the block, cut to the width. Visible characters are all ASCII; a colour is put around
 * a whole line only, so cutting never breaks one. */
static void put_row(struct text *t, const struct progress_style *style, const char *color,
                    const char *row)
{
    unsigned columns = PROGRESS_COLUMNS;
    if (style->columns && style->columns < columns) columns = style->columns;
    bool painted = style->color && color;
    text_printf(t, "%s%.*s%s\n", painted ? color : "", (int)columns, row, painted ? "\x1b[0m" : "");
}

static void put_bar(char *out, size_t size, const struct progress_figures *f)
{
    char bar[29] = "............................";
    unsigned full = (unsigned)(f->percent / 100 * (sizeof(bar) - 1));
    for (unsigned i = 0; i < full && i < sizeof(bar) - 1; i++)
        bar[i] = '#';
    snprintf(out, size, "[%s] %s%.1f %%", bar, f->estimated ? "~" : "", f->percent);
}

static void head_row(const struct progress *p, const struct progress_figures *f, char *row,
                     size_t size)
{
    char bar[64] = "", gone[SHOWN], left[SHOWN], tail[96];
    const struct metrics *m = &p->now;
    if (m->phase == PHASE_SNAPSHOT && f->percent >= 0) put_bar(bar, sizeof(bar), f);
    progress_time(gone, sizeof(gone), (double)(m->mono_ms - p->started_ms) / 1000);
    snprintf(tail, sizeof(tail), "%s", gone);
    if (f->left_s >= 0 && m->phase <= PHASE_CATCH_UP)
        snprintf(tail, sizeof(tail), "%s, %s left", gone,
                 progress_time(left, sizeof(left), f->left_s));
    snprintf(row, size, "%-11s %s%s%s", phase_words(m->phase, p->way), bar, *bar ? "  " : " ",
             tail);
}

/* Else commands; those of a file come behind its keys. */
static bool shows_keys(const struct metrics *m)
{
    return m->phase <= PHASE_SNAPSHOT && !m->commands_read;
}

static void moved_row(const struct metrics *m, const struct progress_figures *f, char *row,
                      size_t size)
{
    char keys[SHOWN], per_s[SHOWN], bytes[SHOWN], bytes_per_s[SHOWN];
    bool snapshot = shows_keys(m);
    num_human_count(keys, sizeof(keys), snapshot ? m->keys_written : m->commands_written);
    num_human_count(per_s, sizeof(per_s), (uint64_t)(snapshot ? f->keys_per_s : f->commands_per_s));
    num_human_bytes(bytes, sizeof(bytes), moved_bytes(m));
    num_human_bytes(bytes_per_s, sizeof(bytes_per_s), (uint64_t)f->bytes_per_s);
    snprintf(row, size, "  %-9s %s, %s/s   %s, %s/s", snapshot ? "keys" : "commands", keys, per_s,
             bytes, bytes_per_s);
}

static void lag_row(const struct metrics *m, char *row, size_t size)
{
    char lag[SHOWN], age[SHOWN], ram[SHOWN], disk[SHOWN];
    num_human_bytes(lag, sizeof(lag), m->lag_bytes);
    num_human_bytes(ram, sizeof(ram), m->spool_ram_bytes);
    num_human_bytes(disk, sizeof(disk), m->spool_disk_bytes);
    progress_time(age, sizeof(age), (double)m->lag_ms / 1000);
    snprintf(row, size, "  %-9s %s, %s   waiting: %s in memory, %s on disk", "lag", lag, age, ram,
             disk);
}

static void trouble_row(const struct metrics *m, char *row, size_t size)
{
    char keys[SHOWN], errors[SHOWN], skipped[SHOWN], retries[SHOWN];
    num_human_count(keys, sizeof(keys), m->keys_written);
    num_human_count(errors, sizeof(errors), m->errors);
    num_human_count(skipped, sizeof(skipped), m->keys_skipped);
    num_human_count(retries, sizeof(retries), m->retries);
    int n = snprintf(row, size, "  %-9s %s", "errors", errors);
    if (m->keys_skipped && n > 0 && (size_t)n < size)
        n += snprintf(row + n, size - (size_t)n, "   keys skipped %s", skipped);
    if (m->retries && n > 0 && (size_t)n < size)
        n += snprintf(row + n, size - (size_t)n, "   retries %s", retries);
    bool had_keys = m->phase > PHASE_SNAPSHOT || (m->keys_written && !shows_keys(m));
    if (had_keys && n > 0 && (size_t)n < size)
        snprintf(row + n, size - (size_t)n, "   keys of the snapshot %s", keys);
}

const char *progress_waiting(uint64_t waiting_for)
{
    switch ((enum counters_waits)waiting_for) {
    case COUNTERS_WAITS_FOR_NONE: break;
    case COUNTERS_WAITS_FOR_SOURCE: return "source is lost, called again";
    case COUNTERS_WAITS_FOR_TARGET: return "target is lost, called again";
    case COUNTERS_WAITS_FOR_WRITES: return "target takes no writes";
    case COUNTERS_WAITS_FOR_TURN: return "other shards load first";
    }
    return NULL;
}

static double waiting_left_s(const struct metrics *m)
{
    int64_t left = (int64_t)m->waiting_until_ms - m->mono_ms;
    return left > 0 ? (double)left / 1000 : 0;
}

/* "target is lost, called again; given up in 11 h 59 min", "" when nothing is waited for. */
static const char *waiting_row(const struct metrics *m, char *row, size_t size)
{
    char left[SHOWN];
    const char *words = progress_waiting(m->waiting_for);
    *row = 0;
    if (words)
        snprintf(row, size, "%s; given up in %s", words,
                 progress_time(left, sizeof(left), waiting_left_s(m)));
    return row;
}

static unsigned put_waiting(const struct metrics *m, const struct progress_style *style,
                            struct text *t)
{
    char words[128], row[160];
    if (!*waiting_row(m, words, sizeof(words))) return 0;
    snprintf(row, sizeof(row), "  %-9s %s", "waits", words);
    put_row(t, style, "\x1b[33m", row);
    return 1;
}

static unsigned put_unsettled(const struct metrics *m, const struct progress_style *style,
                              struct text *t)
{
    char row[96];
    if (!m->slots_unsettled || m->phase < PHASE_CATCH_UP) return 0;
    snprintf(row, sizeof(row), "  %-9s %llu have moved between shards, not settled yet", "slots",
             (unsigned long long)m->slots_unsettled);
    put_row(t, style, NULL, row);
    return 1;
}

struct shard_rows {
    struct text *t;
    const struct progress_style *style;
};

static void put_shard(void *ctx, const char *row)
{
    const struct shard_rows *r = ctx;
    put_row(r->t, r->style, NULL, row);
}

/* Below `used` rows, as far as the screen goes: what is above its top cannot be drawn anew. */
static unsigned put_shards(const struct progress *p, const struct progress_style *style,
                           unsigned used, struct text *t)
{
    struct shard_rows r = {t, style};
    unsigned rows = style->rows ? style->rows : ROWS_USUAL;
    if (!p->shards) return used;
    return used + progress_shards(p->shards, rows > used + 1 ? rows - used - 1 : 0, put_shard, &r);
}

unsigned progress_block(const struct progress *p, const struct progress_style *style,
                        struct text *t)
{
    char row[256];
    struct progress_figures f;
    progress_figures(p, &f);
    head_row(p, &f, row, sizeof(row));
    put_row(t, style, "\x1b[1m", row);
    if (!moving(&p->now)) return put_shards(p, style, 1 + put_waiting(&p->now, style, t), t);
    moved_row(&p->now, &f, row, sizeof(row));
    put_row(t, style, NULL, row);
    if (p->way == TASK_MIGRATE) {
        lag_row(&p->now, row, sizeof(row));
        put_row(t, style, NULL, row);
    }
    trouble_row(&p->now, row, sizeof(row));
    put_row(t, style, p->now.errors ? "\x1b[31m" : NULL, row);
    unsigned used = (p->way == TASK_MIGRATE ? 4 : 3) + put_unsettled(&p->now, style, t);
    used += put_waiting(&p->now, style, t);
    return put_shards(p, style, used, t);
}

void progress_line(const struct progress *p, struct text *t)
{
    char row[256], count[SHOWN], per_s[SHOWN], bytes[SHOWN], percent[SHOWN] = "", lag[SHOWN];
    char bytes_per_s[SHOWN], age[SHOWN];
    const struct metrics *m = &p->now;
    bool snapshot = shows_keys(m);
    struct progress_figures f;
    progress_figures(p, &f);
    if (!moving(m)) {
        progress_time(age, sizeof(age), (double)(m->mono_ms - p->started_ms) / 1000);
        text_printf(t, "%s, %s", phase_words(m->phase, p->way), age);
        if (*waiting_row(m, row, sizeof(row))) text_printf(t, ", %s", row);
        text_add(t, "\n");
        return;
    }
    if (m->phase == PHASE_SNAPSHOT && f.percent >= 0)
        snprintf(percent, sizeof(percent), " %s%.1f%%", f.estimated ? "~" : "", f.percent);
    num_human_count(count, sizeof(count), snapshot ? m->keys_written : m->commands_written);
    num_human_count(per_s, sizeof(per_s), (uint64_t)(snapshot ? f.keys_per_s : f.commands_per_s));
    num_human_bytes(bytes, sizeof(bytes), moved_bytes(m));
    num_human_bytes(bytes_per_s, sizeof(bytes_per_s), (uint64_t)f.bytes_per_s);
    num_human_bytes(lag, sizeof(lag), m->lag_bytes);
    progress_time(age, sizeof(age), (double)m->lag_ms / 1000);
    snprintf(row, sizeof(row), "%s%s: %s %s %s/s, %s %s/s",
             metrics_phase_name(m->phase, p->way == TASK_RESTORE), percent,
             snapshot ? "keys" : "cmds", count, per_s, bytes, bytes_per_s);
    text_add(t, row);
    if (p->way == TASK_MIGRATE) text_printf(t, ", lag %s %s", lag, age);
    if (m->slots_unsettled)
        text_printf(t, ", %llu slots to settle", (unsigned long long)m->slots_unsettled);
    text_printf(t, ", errors %llu", (unsigned long long)m->errors);
    if (*waiting_row(m, row, sizeof(row))) text_printf(t, ", %s", row);
    text_add(t, "\n");
}

void progress_json(const struct progress *p, struct text *t)
{
    const struct metrics *m = &p->now;
    struct progress_figures f;
    progress_figures(p, &f);
    text_json_open(t, '{');
    text_json_text(t, "event", "progress");
    text_json_i64(t, "wall_ms", m->wall_ms);
    text_json_i64(t, "elapsed_ms", m->mono_ms - p->started_ms);
    text_json_text(t, "phase", metrics_phase_name(m->phase, p->way == TASK_RESTORE));
    text_json_known(t, "percent", f.percent);
    text_json_name(t, "percent_estimated");
    text_add(t, f.estimated ? "true" : "false");
    text_json_u64(t, "keys", m->keys_written);
    text_json_u64(t, "keys_skipped", m->keys_skipped);
    text_json_u64(t, "commands", m->commands_written);
    text_json_u64(t, "bytes", moved_bytes(m));
    text_json_known(t, "keys_per_s", f.keys_per_s);
    text_json_known(t, "commands_per_s", f.commands_per_s);
    text_json_known(t, "bytes_per_s", f.bytes_per_s);
    text_json_u64(t, "errors", m->errors);
    text_json_u64(t, "retries", m->retries);
    text_json_u64(t, "lag_bytes", m->lag_bytes);
    text_json_u64(t, "lag_ms", m->lag_ms);
    text_json_u64(t, "slots_unsettled", m->slots_unsettled);
    text_json_u64(t, "spool_ram_bytes", m->spool_ram_bytes);
    text_json_u64(t, "spool_disk_bytes", m->spool_disk_bytes);
    text_json_known(t, "left_s", f.left_s);
    text_json_text(t, "waiting", progress_waiting(m->waiting_for));
    text_json_known(t, "waiting_left_s", progress_waiting(m->waiting_for) ? waiting_left_s(m) : -1);
    metrics_json_shards(t, p->shards);
    text_json_text(t, "waiting_why", m->waiting_for ? m->waiting_why : NULL);
    text_add(t, "}\n");
}
