// SPDX-License-Identifier: BSD-3-Clause
// Reading golden dumps for tests.
#include "golden.h"

#include <assert.h>
#include <dirent.h>
#include <stdlib.h>

#define GOLDEN "tests/golden/rdb"

void golden_list(struct golden *g)
{
    struct dirent **e;
    int n = scandir(GOLDEN, &e, NULL, alphasort);
    assert(n > 0); /* run from the top of the repository */
    *g = (struct golden){.name = calloc((size_t)n, sizeof(char *))};
    assert(g->name);
    for (int i = 0; i < n; i++) {
        char *dot = strrchr(e[i]->d_name, '.');
        if (dot && strcmp(dot, ".tsv") == 0)
            g->name[g->n++] = strndup(e[i]->d_name, (size_t)(dot - e[i]->d_name));
        free(e[i]);
    }
    free(e);
    assert(g->n >= 35);
}

void golden_free(struct golden *g)
{
    for (size_t i = 0; i < g->n; i++)
        free(g->name[i]);
    free(g->name);
}

struct buf golden_read(const char *name, const char *suffix)
{
    char path[300];
    struct buf b;
    snprintf(path, sizeof(path), GOLDEN "/%s%s", name, suffix);
    FILE *f = fopen(path, "rb");
    assert(f);
    buf_init(&b, 64u << 20);
    for (size_t n = 1; n;) {
        int rc = buf_reserve(&b, 1 << 16, NULL);
        assert(rc == 0);
        n = fread(b.p + b.n, 1, (1 << 16) - 1, f);
        b.n += n;
        b.p[b.n] = 0;
    }
    fclose(f);
    return b;
}

char *golden_line(char *at, char *column[GOLDEN_COLUMNS])
{
    static char none[] = "";
    char *end = strchr(at, '\n');
    if (!end) return NULL;
    *end = 0;
    for (int i = 0; i < GOLDEN_COLUMNS; i++) {
        column[i] = at ? at : none;
        if (at && (at = strchr(at, '\t')) != NULL) *at++ = 0;
    }
    return end + 1;
}

char *golden_hex(const void *p, size_t n)
{
    const uint8_t *b = p;
    char *out = malloc(2 * n + 1);
    assert(out);
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", b[i]);
    out[2 * n] = 0;
    return out;
}
