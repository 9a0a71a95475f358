// SPDX-License-Identifier: BSD-3-Clause
// The shards of a clustered source, one line each. Pure.
#ifndef KEYHAUL_CLI_PROGRESS_SHARDS_H
#define KEYHAUL_CLI_PROGRESS_SHARDS_H

#include "cli/progress.h"

#define PROGRESS_SHARD_ROW 160 /* room for one */

/* "  2  10.11.12.13:7001  streaming, lag 1.2 MB 0.4 s  1,234/s": at most 80 columns. Returns out.
 */
char *progress_shard_row(char *out, size_t size, const struct shard_look *s);

/* At most `rows` lines (0: none): all, or those that are furthest behind and how many more there
 * are. Returns how many lines. `put` writes one. */
unsigned progress_shards(const struct shards_look *l, unsigned rows,
                         void (*put)(void *ctx, const char *row), void *ctx);

#endif
