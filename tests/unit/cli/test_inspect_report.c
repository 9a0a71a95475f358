// SPDX-License-Identifier: BSD-3-Clause
// The report of an inspection: never wider than a terminal, names made harmless, whole lines.
#include "cli/inspect_report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MANY 999999999999

struct kit {
    struct inspect in;
    struct inspect_source source;
    struct server_facts supposed;
    struct inspect_report report;
    struct text text;
};

static struct kit *new_kit(void)
{
    struct kit *k = calloc(1, sizeof(*k));
    struct err err;
    assert_non_null(k);
    assert_int_equal(inspect_init(&k->in, &err), 0);
    text_init(&k->text, 8u << 20);
    assert_int_equal(tally_init(&k->source.tally, &err), 0);
    k->source.has_snapshot = true;
    k->report = (struct inspect_report){.in = &k->in, .source = &k->source};
    return k;
}

static void free_kit(struct kit *k)
{
    inspect_release(&k->in);
    inspect_source_release(&k->source);
    text_release(&k->text);
    free(k);
}

static const char *printed(struct kit *k,
                           void (*print)(const struct inspect_report *, struct text *))
{
    text_clear(&k->text);
    print(&k->report, &k->text);
    text_printf(&k->text, "%c", 0);
    assert_int_equal(k->text.err.code, ERR_NONE);
    return (const char *)k->text.buf.p;
}

static void name(struct inspect_key_name *to, const void *p, size_t n)
{
    to->n = n;
    memcpy(to->p, p, n < sizeof(to->p) ? n : sizeof(to->p));
}

static void fill_commands(struct kit *k)
{
    struct inspect_source *s = &k->source;
    struct tally *y = &s->tally;
    struct tally_cell many = {.sum = {MANY, MANY}};
    s->files = 4096;
    s->cut = (struct tally_cut){true, MANY};
    y->all = y->left_out = y->nowhere = many;
    y->bytes = y->transactions = MANY;
    y->first_ms = y->last_ms = INT64_MAX / 2; /* beyond any calendar */
    y->db = calloc(1, sizeof(*y->db));
    y->command = calloc(40, sizeof(*y->command));
    assert_true(y->db && y->command);
    y->n_db = 1;
    y->db[0] = (struct tally_db){UINT64_MAX, many};
    for (y->n_command = 0; y->n_command < 40; y->n_command++) {
        y->command[y->n_command].n.sum = (struct tally_sum){MANY / 40, MANY / 40};
        memset(y->command[y->n_command].name, 'C', TALLY_NAME_BYTES - 1);
    }
}

/* All that can be there, with the largest numbers and the oddest names. */
static void fill(struct kit *k)
{
    struct inspect *in = &k->in;
    static uint8_t odd[300];
    memset(odd, 0x1b, sizeof(odd));
    in->version = 13;
    in->bytes = in->all.bytes = in->all.keys = MANY;
    in->expires = in->functions = in->scripts = in->module_aux = in->with_meta = MANY;
    in->unselected = MANY;
    in->db = calloc(1, sizeof(*in->db));
    assert_non_null(in->db);
    in->n_db = 1;
    in->db[0].db = UINT32_MAX;
    for (int i = 0; i < INSPECT_KINDS; i++)
        in->db[0].kind[i] = in->all;
    for (int i = 0; i < INSPECT_TYPES; i++) {
        in->type[i].sum = in->all;
        name(&in->type[i].first, odd, sizeof(odd));
    }
    for (int i = 0; i < INSPECT_EXPIRIES; i++)
        in->expiry[i] = MANY;
    for (in->n_top = 0; in->n_top < INSPECT_TOP_MAX; in->n_top++) {
        struct inspect_top *t = &in->top[in->n_top];
        t->bytes = t->elements = 12345678901;
        t->expire_ms = -1;
        name(&t->key, odd, sizeof(odd));
    }
    for (in->n_library = 0; in->n_library < INSPECT_NOTES; in->n_library++)
        memset(in->library[in->n_library].name, 'l', sizeof(in->library[0].name) - 1);
    in->n_module = 1;
    snprintf(in->module[0].name, sizeof(in->module[0].name), "module");
    k->source.live = true;
    snprintf(k->source.name, sizeof(k->source.name), "Redis 8.6.3");
    snprintf(k->source.shown, sizeof(k->source.shown), "redis://host\x1b[2J");
    k->supposed = (struct server_facts){.flavour = FACTS_REDIS, .version = 0x040000};
    k->report.supposed = &k->supposed;
    fill_commands(k);
}

static void nothing_is_too_wide_or_dangerous(void **state)
{
    (void)state;
    struct kit *k = new_kit();
    fill(k);
    const char *s = printed(k, inspect_report_table);
    assert_null(strchr(s, 0x1b));
    for (const char *line = s; *line; line += strcspn(line, "\n") + 1) {
        size_t n = strcspn(line, "\n");
        if (n > 80) fail_msg("%zu columns: %.*s", n, (int)n, line);
    }
    assert_non_null(strstr(s, "CANNOT BE TAKEN"));
    assert_non_null(strstr(s, "MAY LOSE"));
    assert_non_null(strstr(s, "COUNTED, NOT RUN"));
    assert_non_null(strstr(s, "CUT OFF"));
    free_kit(k);
}

static void json_is_one_line(void **state)
{
    (void)state;
    struct kit *k = new_kit();
    fill(k);
    const char *s = printed(k, inspect_report_json);
    size_t n = strlen(s);
    assert_int_equal(strcspn(s, "\n"), n - 1);
    assert_null(strchr(s, 0x1b));
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\')
            i++;
        else if (s[i] == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += (s[i] == '{' || s[i] == '[') - (s[i] == '}' || s[i] == ']');
    }
    assert_int_equal(depth, 0);
    assert_false(quoted);
    assert_non_null(strstr(s, "\"key_hex_start\":\"1b1b"));
    assert_non_null(strstr(s, "\"key_bytes\":300"));
    free_kit(k);
}

static void an_empty_snapshot_has_a_report(void **state)
{
    (void)state;
    struct kit *k = new_kit();
    assert_non_null(strstr(printed(k, inspect_report_table), "total"));
    assert_non_null(strstr(printed(k, inspect_report_json), "\"databases\":[]"));
    free_kit(k);
}

/* Commands, and no snapshot: no word about keys. */
static void commands_alone_have_a_report(void **state)
{
    (void)state;
    struct kit *k = new_kit();
    struct tally *y = &k->source.tally;
    k->source.has_snapshot = false;
    assert_non_null(strstr(printed(k, inspect_report_json), "\"commands_follow\":false"));
    fill_commands(k);
    k->source.cut.cut = false;
    y->first_ms = y->last_ms = 0;
    const char *s = printed(k, inspect_report_table);
    assert_non_null(strstr(s, "none: an AOF of commands alone"));
    assert_non_null(strstr(s, "which keys they make"));
    assert_non_null(strstr(s, "the AOF has no annotations"));
    assert_null(strstr(s, "biggest"));
    assert_null(strstr(s, "CUT OFF"));
    s = printed(k, inspect_report_json);
    assert_non_null(strstr(s, "\"rdb_version\":null,\"rdb_family\":null"));
    assert_non_null(strstr(s, "\"commands_follow\":true,\"commands\":{\"commands\":"));
    assert_non_null(strstr(s, "\"first_ms\":null,\"last_ms\":null,\"cut_at\":null"));
    free_kit(k);
}

static void times_are_those_of_the_annotations(void **state)
{
    (void)state;
    struct kit *k = new_kit();
    fill_commands(k);
    k->source.tally.first_ms = 1700000000000;
    k->source.tally.last_ms = 1700000061000;
    assert_non_null(strstr(printed(k, inspect_report_table),
                           "written     2023-11-14 22:13:20 UTC to 2023-11-14 22:14:21 UTC"));
    assert_non_null(strstr(printed(k, inspect_report_json),
                           "\"first_ms\":1700000000000,\"last_ms\":1700000061000,\"cut_at\":9"));
    free_kit(k);
}

/* --- the line of a key --- */

struct line {
    struct buf b;
    size_t pieces, fail_at;
};

static int take(void *ctx, const void *p, size_t n, struct err *err)
{
    struct line *l = ctx;
    if (++l->pieces == l->fail_at) return err_set(err, ERR_IO, "full");
    return buf_add(&l->b, p, n, err);
}

static void expect_line(const struct inspect_key *key, const char *want)
{
    struct line l = {0};
    struct err err;
    buf_init(&l.b, 1 << 20);
    assert_int_equal(inspect_report_key(key, take, &l, &err), 0);
    assert_int_equal(l.b.n, strlen(want));
    assert_memory_equal(l.b.p, want, l.b.n);
    buf_release(&l.b);
}

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define TAIL                                                                                       \
    "\",\"type\":\"string\",\"expire_ms\":null,\"elements\":5,\"sha256\":\"" ZEROS                 \
    "\",\"state_sha256\":null,\"idle_s\":null,\"freq\":null}\n"

static void lines_are_canonical(void **state)
{
    (void)state;
    struct inspect_key k = {.name = span_str("a\"b\\"), .expire_ms = -1, .idle_s = -1, .freq = -1};
    k.digest.counted = true;
    k.digest.elements = 5;
    expect_line(&k, "{\"db\":0,\"key\":\"a\\\"b\\\\" TAIL);
    k.name = span_str("\x7f");
    expect_line(&k, "{\"db\":0,\"key_hex\":\"7f" TAIL);
    k.name = span_of("a\0b", 3);
    expect_line(&k, "{\"db\":0,\"key_hex\":\"610062" TAIL);
    k = (struct inspect_key){.db = 15,
                             .name = span_str("\xc3\xbc"),
                             .type = RDB_HASH_METADATA,
                             .expire_ms = -2,
                             .idle_s = 7,
                             .freq = 255};
    k.digest.has_state = true;
    memset(k.digest.state, 0xab, DIGEST_BYTES);
    expect_line(&k, "{\"db\":15,\"key\":\"\xc3\xbc\",\"type\":\"hash\",\"expire_ms\":-2,"
                    "\"elements\":null,\"sha256\":\"" ZEROS "\",\"state_sha256\":\""
                    "abababababababababababababababababababababababababababababababab"
                    "\",\"idle_s\":7,\"freq\":255}\n");
}

/* Every length around the size of a piece, plain and as hex. */
static void long_names_come_whole(void **state)
{
    (void)state;
    static uint8_t key[9000];
    for (size_t n = 3500; n < sizeof(key); n += n < 4200 ? 1 : 371)
        for (int hex = 0; hex < 2; hex++) {
            struct inspect_key k = {
                .name = span_of(key, n), .expire_ms = -1, .idle_s = -1, .freq = -1};
            struct line l = {0};
            struct err err;
            memset(key, hex ? 1 : '"', sizeof(key));
            buf_init(&l.b, 1 << 20);
            assert_int_equal(inspect_report_key(&k, take, &l, &err), 0);
            size_t head = strlen("{\"db\":0,\"key\":\"") + (hex ? 4 : 0);
            for (size_t i = 0; i < n; i++)
                assert_memory_equal(l.b.p + head + 2 * i, hex ? "01" : "\\\"", 2);
            assert_memory_equal(l.b.p + head + 2 * n, "\",\"type\"", 8);
            assert_int_equal(l.b.p[l.b.n - 1], '\n');
            buf_release(&l.b);
        }
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    static uint8_t key[9000];
    struct inspect_key k = {.name = span_of(key, sizeof(key))};
    for (size_t at = 1; at <= 4; at++) {
        struct line l = {.fail_at = at};
        struct err err;
        buf_init(&l.b, 1 << 20);
        assert_int_equal(inspect_report_key(&k, take, &l, &err), -1);
        assert_int_equal(l.pieces, at);
        buf_release(&l.b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_too_wide_or_dangerous),
        cmocka_unit_test(json_is_one_line),
        cmocka_unit_test(an_empty_snapshot_has_a_report),
        cmocka_unit_test(commands_alone_have_a_report),
        cmocka_unit_test(times_are_those_of_the_annotations),
        cmocka_unit_test(lines_are_canonical),
        cmocka_unit_test(long_names_come_whole),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
