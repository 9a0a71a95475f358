// SPDX-License-Identifier: BSD-3-Clause
// Reading the golden dumps, and cutting out the values in them.
#include "mutant.h"

#include "base/crc64.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#define GOLDEN     "tests/golden/rdb"
#define SMALL      10000
#define MIDDLE     500000
#define VALUES_MAX 20000
#define VALKEY_RDB 80

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "mutate: %s\n", what);
    exit(2);
}

static struct input read_file(const char *name)
{
    struct input in = {.file = true};
    char path[300];
    snprintf(path, sizeof(path), GOLDEN "/%s", name);
    snprintf(in.name, sizeof(in.name), "%.100s", name);
    FILE *f = fopen(path, "rb");
    must(f && fseek(f, 0, SEEK_END) == 0, path);
    in.n = (size_t)ftell(f);
    in.p = malloc(in.n);
    rewind(f);
    must(in.p && fread(in.p, 1, in.n, f) == in.n, path);
    fclose(f);
    return in;
}

static void append(struct input **list, size_t *n, struct input in)
{
    *list = realloc(*list, (*n + 1) * sizeof(in));
    must(*list != NULL, "out of memory");
    (*list)[(*n)++] = in;
}

/* Type byte, value, version of the RDB, checksum. */
static struct input make_payload(const struct input *file, const struct rdb *rdb,
                                 const struct rdb_rec *rec, struct span value, size_t number)
{
    struct input in = {.n = value.n + 1 + FOOT_BYTES};
    unsigned version = rec->type >= 256 ? VALKEY_RDB : rdb->version;
    snprintf(in.name, sizeof(in.name), "%.90s, value %zu", file->name, number);
    in.p = malloc(in.n);
    must(in.p != NULL, "out of memory");
    in.p[0] = rdb_type_byte(rec->type);
    memcpy(in.p + 1, value.p, value.n);
    in.p[1 + value.n] = (uint8_t)version;
    in.p[2 + value.n] = (uint8_t)(version >> 8);
    uint64_t crc = crc64(0, in.p, in.n - 8);
    for (int i = 0; i < 8; i++)
        in.p[in.n - 8 + i] = (uint8_t)(crc >> (8 * i));
    return in;
}

static bool is_there(const struct inputs *in, const struct input *x)
{
    for (size_t i = 0; i < in->n_values; i++)
        if (in->values[i].n == x->n && memcmp(in->values[i].p, x->p, x->n - 8) == 0) return true;
    return false;
}

static void cut_values(struct inputs *in, const struct input *file)
{
    struct reader r;
    struct rdb rdb;
    struct rdb_rec rec;
    struct err err;
    size_t number = 0;
    reader_init_mem(&r, file->p, file->n);
    if (rdb_open(&rdb, &r, &err) == 0) {
        while (rdb_next(&rdb, &rec, &err) == 1) {
            if (rec.kind != RDB_REC_KEY) continue;
            const uint8_t *from = r.p;
            if (rdb_value_skip(&r, rec.type, false, SIZE_MAX, &err) < 0) break;
            struct span value = span_of(from, (size_t)(r.p - from));
            struct input x = make_payload(file, &rdb, &rec, value, ++number);
            if (in->n_values == VALUES_MAX || is_there(in, &x))
                free(x.p);
            else
                append(&in->values, &in->n_values, x);
        }
    }
    rdb_release(&rdb);
}

static void take_file(struct inputs *in, const char *name)
{
    struct input x = read_file(name);
    cut_values(in, &x);
    if (x.n < SMALL)
        append(&in->small, &in->n_small, x);
    else if (x.n < MIDDLE)
        append(&in->middle, &in->n_middle, x);
    else
        append(&in->large, &in->n_large, x);
}

void inputs_load(struct inputs *in)
{
    struct dirent **e;
    int n = scandir(GOLDEN, &e, NULL, alphasort);
    must(n > 0, "no " GOLDEN ": to be run from the top of the repository");
    *in = (struct inputs){0};
    for (int i = 0; i < n; i++) {
        const char *dot = strrchr(e[i]->d_name, '.');
        if (dot && strcmp(dot, ".rdb") == 0) take_file(in, e[i]->d_name);
        free(e[i]);
    }
    free(e);
    must(in->n_small && in->n_middle && in->n_large && in->n_values, "dumps are missing");
}

static void free_list(struct input *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i].p);
    free(list);
}

void inputs_free(struct inputs *in)
{
    free_list(in->small, in->n_small);
    free_list(in->middle, in->n_middle);
    free_list(in->large, in->n_large);
    free_list(in->values, in->n_values);
}
