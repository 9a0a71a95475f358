// SPDX-License-Identifier: BSD-3-Clause
// load, with dumps of real servers: every key in them reaches a target of the same version, and
// however the bytes come, the target gets the same.
#include "load_kit.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/rdb/"

static struct buf read_file(const char *name, const char *suffix)
{
    char path[200];
    struct buf b;
    snprintf(path, sizeof(path), GOLDEN "%s.%s", name, suffix);
    buf_init(&b, 64u << 20);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s is not there; run from the top folder", path);
    for (size_t n = 1; n;) {
        assert_int_equal(buf_reserve(&b, 1 << 16, NULL), 0);
        n = fread(b.p + b.n, 1, 1 << 16, f);
        b.n += n;
    }
    fclose(f);
    return b;
}

static unsigned unhex(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
}

/* A key's hex, up to the next tab, as a word of the log between blanks. */
static void put_key_word(struct buf *out, const char *hex)
{
    size_t n = strcspn(hex, "\t") / 2;
    uint8_t *key = malloc(n + 1);
    assert_non_null(key);
    for (size_t i = 0; i < n; i++)
        key[i] = (uint8_t)(unhex(hex[2 * i]) << 4 | unhex(hex[2 * i + 1]));
    assert_int_equal(buf_add(out, " ", 1, NULL), 0);
    fake_word(out, span_of(key, n));
    assert_int_equal(buf_add(out, " ", 1, NULL), 0);
    free(key);
}

/* The tsv's lines "key db key(hex) ...": does the log hold a write to each? Returns how many. */
static unsigned check_keys(struct buf *tsv, struct buf *ran)
{
    unsigned n = 0;
    const char *log = fake_text(ran);
    char *save;
    struct buf want;
    fake_text(tsv);
    buf_init(&want, 1 << 16);
    for (char *line = strtok_r((char *)tsv->p, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "key\t", 4) != 0) continue;
        buf_clear(&want);
        put_key_word(&want, strchr(line + 4, '\t') + 1);
        if (!strstr(log, fake_text(&want))) fail_msg("no key%s", (char *)want.p);
        n++;
    }
    buf_release(&want);
    return n;
}

/* Every RESTORE carries a payload whose checksum is right. */
static void check_payloads(const struct buf *raw, unsigned version)
{
    struct kit_cmds it;
    kit_cmds_begin(&it, raw);
    while (kit_cmds_next(&it)) {
        if (!span_is(it.cmd.argv[0], "RESTORE")) continue;
        struct span payload = it.cmd.argv[3];
        bool own = version == 80 && payload.p[0] == 22;
        kit_payload(payload, payload.p[0], own ? 80 : 6);
    }
    kit_cmds_end(&it);
}

struct dump {
    const char *name;
    struct server_facts server;
    bool starve; /* small enough to be fed byte by byte */
};

static void check_dump(const struct dump *d)
{
    struct buf rdb = read_file(d->name, "rdb"), tsv = read_file(d->name, "tsv");
    struct rig *g = rig_new();
    g->target_facts = d->server;
    kit_load(g, &rdb, RIG_FLOWING);
    unsigned keys = check_keys(&tsv, &g->target.ran);
    if (counter_get(&g->counters.keys_written) != keys)
        fail_msg("%s: %u keys, but %u written", d->name, keys,
                 (unsigned)counter_get(&g->counters.keys_written));
    assert_int_equal(counter_get(&g->counters.errors), 0);
    assert_true(keys > 0);
    check_payloads(&g->target.raw, d->server.rdb_version);
    if (d->starve) {
        struct rig *slow = rig_new();
        slow->target_facts = d->server;
        kit_load(slow, &rdb, RIG_STARVED);
        assert_string_equal(fake_text(&slow->target.ran), fake_text(&g->target.ran));
        rig_free(slow);
    }
    rig_free(g);
    buf_release(&rdb);
    buf_release(&tsv);
}

static void dumps_into_their_own_version(void **state)
{
    (void)state;
    static const struct dump dumps[] = {
        {"redis-2.8.24", RIG_SERVER(FACTS_REDIS, 6, 2, 9), false},
        {"redis-6.0.16", RIG_SERVER(FACTS_REDIS, 6, 0, 9), false},
        {"redis-6.2.16", RIG_SERVER(FACTS_REDIS, 6, 2, 9), false},
        {"redis-7.0.15", RIG_SERVER(FACTS_REDIS, 7, 0, 10), false},
        {"redis-7.4.1", RIG_SERVER(FACTS_REDIS, 7, 4, 12), false},
        {"redis-8.6.3", RIG_SERVER(FACTS_REDIS, 8, 6, 13), false},
        {"valkey-9.1.2", RIG_SERVER(FACTS_VALKEY, 9, 1, 80), false},
        {"redis-8.6.3-nochecksum", RIG_SERVER(FACTS_REDIS, 8, 6, 13), false},
        {"redis-5.0.14-allkeys-lru", RIG_SERVER(FACTS_REDIS, 5, 0, 9), true},
        {"redis-8.6.3-allkeys-lfu", RIG_SERVER(FACTS_REDIS, 8, 6, 13), true},
        {"redis-7.0.15-cluster", RIG_SERVER(FACTS_REDIS, 7, 0, 10), true},
        {"valkey-9.1.2-cluster", RIG_SERVER(FACTS_VALKEY, 9, 1, 80), true},
        {"redis-7.2.6-module", RIG_SERVER(FACTS_REDIS, 7, 2, 11), true},
        {"redis-8.6.3-keymeta", RIG_SERVER(FACTS_REDIS, 8, 6, 13), true},
    };
    for (size_t i = 0; i < sizeof(dumps) / sizeof(dumps[0]); i++)
        check_dump(&dumps[i]);
}

static unsigned count_lines(struct buf *text, const char *with)
{
    unsigned n = 0;
    for (const char *at = fake_text(text); at; at = strchr(at, '\n')) {
        at += *at == '\n';
        n += strncmp(at, with, strlen(with)) == 0;
    }
    return n;
}

/* What the target does not know is turned into what it knows, or named: nothing is just missing. */
static void dumps_into_other_versions(void **state)
{
    (void)state;
    static const struct dump dumps[] = {
        {"redis-8.6.3", RIG_SERVER(FACTS_REDIS, 5, 0, 9), false},
        {"redis-8.6.3", RIG_SERVER(FACTS_VALKEY, 9, 1, 80), false},
        {"valkey-9.1.2", RIG_SERVER(FACTS_REDIS, 7, 4, 12), false},
        {"redis-7.0.15", RIG_SERVER(FACTS_REDIS, 4, 0, 8), false},
        {"redis-2.4.18", RIG_SERVER(FACTS_REDIS, 8, 6, 13), false},
    };
    for (size_t i = 0; i < sizeof(dumps) / sizeof(dumps[0]); i++) {
        struct buf rdb = read_file(dumps[i].name, "rdb"), tsv = read_file(dumps[i].name, "tsv");
        unsigned keys = count_lines(&tsv, "key\t");
        bool functions = facts_has(&dumps[i].server, FACTS_FUNCTIONS);
        unsigned lost = functions ? 0 : count_lines(&tsv, "function\t");
        struct rig *g = rig_new();
        g->target_facts = dumps[i].server;
        g->task.on_error = TASK_ON_ERROR_CONTINUE;
        kit_load(g, &rdb, RIG_FLOWING);
        assert_int_equal(counter_get(&g->counters.keys_read), keys);
        assert_int_equal(counter_get(&g->counters.keys_written),
                         keys + lost - counter_get(&g->counters.errors));
        check_payloads(&g->target.raw, dumps[i].server.rdb_version);
        rig_free(g);
        buf_release(&rdb);
        buf_release(&tsv);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dumps_into_their_own_version),
        cmocka_unit_test(dumps_into_other_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
