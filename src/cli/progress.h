// SPDX-License-Identifier: BSD-3-Clause
// What a running task looks like: a block for a terminal, a line, a JSON object. Pure: looks at the
// counters come in with their times, text goes out.
#ifndef KEYHAUL_CLI_PROGRESS_H
#define KEYHAUL_CLI_PROGRESS_H

#include "control/metrics.h"
#include "control/shards.h"

#define PROGRESS_WINDOW    40 /* looks kept for rates */
#define PROGRESS_WINDOW_MS 5000
#define PROGRESS_COLUMNS   80 /* never wider */

/* One look, as far as rates need it. */
struct progress_point {
    int64_t mono_ms;
    uint64_t phase, keys, commands, bytes, decoded, keys_read, lag;
};

struct progress {
    enum task_way way;  /* RESTORE: commands are part of what is loaded; only MIGRATE has a lag */
    int64_t started_ms; /* monotonic, of the first look */
    struct metrics now;
    const struct shards_look *shards; /* as they are now; NULL or empty: the source is no cluster */
    unsigned n, next;                 /* points kept, and where the next one goes: a ring */
    struct progress_point point[PROGRESS_WINDOW];
};

struct progress_style {
    unsigned columns; /* of the terminal; 0: not known */
    unsigned rows;    /* the same */
    bool color;
};

/* What is worked out from the looks; negative: not known. */
struct progress_figures {
    double percent; /* of the snapshot */
    bool estimated; /* by the number of keys announced, not by size */
    double keys_per_s, commands_per_s, bytes_per_s;
    double left_s;
};

void progress_init(struct progress *p, enum task_way way);

/* Looks come in the order of their mono_ms. */
void progress_add(struct progress *p, const struct metrics *m);

void progress_figures(const struct progress *p, struct progress_figures *ret);

/* Whole lines, each at most min(columns, 80) wide. Returns how many. */
unsigned progress_block(const struct progress *p, const struct progress_style *style,
                        struct text *t);
void progress_line(const struct progress *p, struct text *t); /* one line, however wide */
void progress_json(const struct progress *p, struct text *t); /* one line */

/* "source is lost, called again", NULL: nothing is waited for. */
const char *progress_waiting(uint64_t waiting_for);

/* "1 h 02 min", "3 min 04 s", "5.0 s". Returns out. */
char *progress_time(char *out, size_t size, double seconds);

#endif
