// SPDX-License-Identifier: BSD-3-Clause
// A state dir of its own for each test, and tasks in it as command lines give them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/state_kit.h"
#include "io/file.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64], spool_root[80];

int state_kit_make(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/kh-state-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(spool_root, sizeof(spool_root), "%s.spool", root);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

int state_kit_drop(void **state)
{
    (void)state;
    nftw(spool_root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *state_kit_root(void)
{
    return root;
}

const char *state_kit_spool_root(void)
{
    return spool_root;
}

/* --- tasks, as a command line gives them --- */

void give(struct given *g, const char *const *args)
{
    struct err err = {0};
    char *argv[32] = {strdup("migrate")};
    int argc = 1;
    for (; args[argc - 1]; argc++)
        argv[argc] = strdup(args[argc - 1]);
    argv[argc++] = strdup("--state-dir");
    argv[argc++] = strdup(root);
    int rc = options_parse(&g->values, OPTION_COMMAND_MIGRATE, argc, argv, &err);
    if (rc == 0) rc = config_from_options(&g->cfg, &g->values, &err);
    if (rc < 0) fail_msg("%s", err.msg);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
}

void take_back(struct given *g)
{
    config_release(&g->cfg);
    options_release(&g->values);
}

struct state *must_open(const struct given *g)
{
    struct err err = {0};
    struct state *s = NULL;
    if (state_open(&s, &g->cfg.task, &g->values, &err) < 0) fail_msg("%s", err.msg);
    return s;
}

enum err_code must_refuse(const struct given *g, struct err *err)
{
    struct state *s = NULL;
    assert_int_equal(state_open(&s, &g->cfg.task, &g->values, err), -1);
    assert_null(s);
    return err->code;
}

struct state *must_begin(const struct given *g)
{
    struct err err = {0};
    struct state *s = must_open(g);
    struct state_progress *p = state_progress(s);
    p->phase = STATE_STREAM;
    p->snapshots = 1;
    snprintf(p->replid, sizeof(p->replid), "%s", STATE_KIT_REPLID);
    p->spool_pos = 17;
    p->spool_offset = (uint64_t)INT64_MAX;
    p->spool_valid = true;
    p->clean = false;
    p->hold_base_ms = 12345;
    if (state_save(s, &err) < 0) fail_msg("%s", err.msg);
    return s;
}

void begin_named(const char *name)
{
    struct given g;
    GIVE(&g, "--task", name);
    state_close(must_begin(&g), false);
    take_back(&g);
}

/* --- files --- */

const char *file(const char *name)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

char *slurp(const char *path)
{
    struct buf b;
    struct err err;
    buf_init(&b, 1 << 20);
    if (file_read_whole(path, &b, &err) != 1) fail_msg("%s", path);
    char *text = strndup(b.n ? (char *)b.p : "", b.n);
    buf_release(&b);
    return text;
}

void put(const char *path, const void *p, size_t n)
{
    struct err err;
    assert_int_equal(file_write_private(path, span_of(p, n), false, &err), 0);
}

mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}
