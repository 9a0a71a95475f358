// SPDX-License-Identifier: BSD-3-Clause
// What the log says while a test runs.
#ifndef KEYHAUL_TEST_TOLD_H
#define KEYHAUL_TEST_TOLD_H

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct told {
    char path[40];
    char text[20000]; /* its beginning */
};

static inline void told_begin(struct told *t)
{
    struct err err;
    snprintf(t->path, sizeof(t->path), "/tmp/keyhaul-told-XXXXXX");
    int fd = mkstemp(t->path);
    if (fd < 0 || log_open(&(struct log_config){.level = LOG_WARN, .file = t->path}, &err) < 0)
        abort();
    close(fd);
}

static inline void told_end(struct told *t)
{
    log_close();
    FILE *f = fopen(t->path, "r");
    if (!f) abort();
    t->text[fread(t->text, 1, sizeof(t->text) - 1, f)] = 0;
    fclose(f);
    unlink(t->path);
}

#endif
