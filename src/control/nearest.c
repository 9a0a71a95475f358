// SPDX-License-Identifier: BSD-3-Clause
// Nearest name by edit distance: insert, delete, replace, swap of neighbours.
#include "control/nearest.h"

#include <stddef.h>
#include <string.h>

#define NEAREST_MAX 48 /* longer words are no typo of a name of ours */

static unsigned min2(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned edit_distance(const char *a, const char *b)
{
    unsigned rows[3][NEAREST_MAX + 1];
    size_t na = strlen(a), nb = strlen(b);
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned change = up[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = min2(change, min2(up[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min2(row[j], up2[j - 2] + 1);
        }
    }
    return rows[na % 3][nb];
}

void nearest_init(struct nearest *n, const char *word)
{
    /* One slip in three letters still looks like the word that was meant. */
    unsigned most = (unsigned)(strlen(word) / 3);
    *n = (struct nearest){.word = word, .distance = (most < 1 ? 1 : most > 4 ? 4 : most) + 1};
}

void nearest_try(struct nearest *n, const char *name)
{
    if (strlen(n->word) > NEAREST_MAX || strlen(name) > NEAREST_MAX) return;
    unsigned d = edit_distance(n->word, name);
    size_t len = strlen(n->word);
    /* A name cut short is a likelier slip than any other but the smallest. */
    if (d > 1 && len >= 4 && strncmp(n->word, name, len) == 0) d = 1;
    if (d >= n->distance) return;
    n->distance = d;
    n->best = name;
}
