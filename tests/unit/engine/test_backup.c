// SPDX-License-Identifier: BSD-3-Clause
// Backups: copies are those of the source byte by byte, selections hold what is selected and no
// more, and nothing is left where it failed.
#include "engine/backup.h"

#include "../wire/rdb/make.h"
#include "golden.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct kit {
    char dir[40], path[60], temp[70];
    struct db_select select;
    struct key_select keys;
    struct counters counters;
    atomic_bool stop;
    struct backup_config cfg;
    struct backup b;
    struct err err;
};

static struct kit *new_kit(const char *dbs)
{
    struct kit *k = calloc(1, sizeof(*k));
    assert_non_null(k);
    snprintf(k->dir, sizeof(k->dir), "/tmp/kh-backup-XXXXXX");
    assert_non_null(mkdtemp(k->dir));
    snprintf(k->path, sizeof(k->path), "%s/a.rdb", k->dir);
    snprintf(k->temp, sizeof(k->temp), "%s.tmp", k->path);
    assert_int_equal(db_select_parse(&k->select, dbs, &k->err), 0);
    k->cfg = (struct backup_config){.path = k->path,
                                    .select = &k->select,
                                    .keys = &k->keys,
                                    .counters = &k->counters,
                                    .stop = &k->stop};
    return k;
}

static void free_kit(struct kit *k)
{
    unlink(k->path);
    assert_int_not_equal(access(k->temp, F_OK), 0); /* never left behind */
    assert_int_equal(rmdir(k->dir), 0);
    free(k);
}

static int write_backup(struct kit *k, const void *p, size_t n, bool starve)
{
    struct reader r;
    (starve ? reader_init_starving : reader_init_mem)(&r, p, n);
    int rc = backup_open(&k->b, &k->cfg, &k->err);
    if (rc == 0) rc = backup_run(&k->b, &r, &k->err);
    if (rc == 0) assert_int_equal(reader_pos(&r), n);
    if (rc == 0 && !k->cfg.force)
        assert_int_not_equal(access(k->path, F_OK), 0); /* not before it is whole */
    if (rc == 0) rc = backup_finish(&k->b, &k->err);
    backup_release(&k->b);
    return rc;
}

static struct buf read_back(const struct kit *k)
{
    struct buf b;
    buf_init(&b, 64u << 20);
    FILE *f = fopen(k->path, "rb");
    assert_non_null(f);
    for (size_t n = 1; n;) {
        assert_int_equal(buf_reserve(&b, 1 << 16, NULL), 0);
        n = fread(b.p + b.n, 1, 1 << 16, f);
        b.n += n;
    }
    fclose(f);
    return b;
}

/* Up to the checksum; that is computed anew. */
static void copies_are_the_same_bytes(void **state)
{
    (void)state;
    struct golden g;
    golden_list(&g);
    for (size_t i = 0; i < g.n; i++) {
        struct buf rdb = golden_read(g.name[i], ".rdb");
        struct kit *k = new_kit(NULL);
        if (write_backup(k, rdb.p, rdb.n, i % 9 == 0) < 0)
            fail_msg("%s: %s", g.name[i], k->err.msg);
        struct buf got = read_back(k);
        size_t sum = memcmp(rdb.p, "REDIS0002", 9) == 0 ? 0 : 8;
        assert_int_equal(got.n, rdb.n);
        if (memcmp(got.p, rdb.p, rdb.n - sum) != 0) fail_msg("%s differs", g.name[i]);
        uint64_t stored = 0;
        if (sum) memcpy(&stored, got.p + got.n - 8, 8);
        if (sum) assert_true(stored == crc64(0, got.p, got.n - 8) && stored != 0);
        buf_release(&got);
        buf_release(&rdb);
        free_kit(k);
    }
    golden_free(&g);
}

/* --- selections --- */

static void put_key(struct make *m, const char *key, const char *value)
{
    put_u8(m, 252);
    put_le(m, 1900000000000, 8);
    put_u8(m, 248); /* idle */
    put_len(m, 100);
    put_u8(m, 0);
    put_str(m, key);
    put_str(m, value);
}

static void put_db(struct make *m, unsigned db)
{
    put_u8(m, 254);
    put_len(m, db);
    put_u8(m, 251); /* sizes */
    put_len(m, 1);
    put_len(m, 1);
}

static void put_aux(struct make *m, const char *name, const char *value)
{
    put_u8(m, 250);
    put_str(m, name);
    put_str(m, value);
}

static void put_end(struct make *m)
{
    put_u8(m, 255);
    put_le(m, crc64(0, m->p, m->n), 8);
}

/* `mask`: the databases of 0 to 3 that are in it; `whole`: with the fields of replication. */
static void make_rdb(struct make *m, unsigned mask, bool whole, size_t value_n)
{
    static char value[60000];
    memset(value, 'v', value_n);
    value[value_n] = 0;
    *m = (struct make){0};
    put(m, "REDIS0010", 9);
    put_aux(m, "redis-ver", "7.0.15");
    if (whole) put_aux(m, "repl-stream-db", "0");
    if (whole) put_aux(m, "repl-id", "0123456789012345678901234567890123456789");
    if (whole) put_aux(m, "repl-offset", "77");
    put_u8(m, 245);
    put_str(m, "#!lua name=lib\n");
    for (unsigned db = 0; db < 4; db++) {
        if (!(mask >> db & 1)) continue;
        put_db(m, db);
        put_key(m, "key", db == 1 ? "one" : "other");
        put_aux(m, "mvcc-tstamp", "5"); /* KeyDB: belongs to the key behind it */
        put_key(m, "large", db == 1 ? value : "small");
    }
    put_aux(m, "lua", "return 1");
    put_end(m);
}

static void select_and_compare(const char *dbs, unsigned mask, size_t value_n, bool starve)
{
    static struct make all, want;
    make_rdb(&all, 15, true, value_n);
    make_rdb(&want, mask, false, value_n);
    struct kit *k = new_kit(dbs);
    if (write_backup(k, all.p, all.n, starve) < 0) fail_msg("%s", k->err.msg);
    struct buf got = read_back(k);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
    unsigned n = (unsigned)__builtin_popcount(mask);
    assert_int_equal(counter_get(&k->counters.keys_written), 2 * n);
    assert_int_equal(counter_get(&k->counters.keys_filtered), 8 - 2 * n);
    assert_int_equal(counter_get(&k->counters.bytes_written), want.n);
    assert_int_equal(counter_get(&k->counters.functions_written), 1);
    buf_release(&got);
    free_kit(k);
}

static void selections_hold_what_is_selected(void **state)
{
    (void)state;
    for (int starve = 0; starve < 2; starve++) {
        select_and_compare("1", 2, 30, starve);
        select_and_compare("0,3", 9, 30, starve);
        select_and_compare("0-3", 15, 30, starve); /* named one by one: still a selection */
        select_and_compare("9", 0, 30, starve);
        select_and_compare("1", 2, 50000, starve);
        select_and_compare("2,3", 12, 50000, starve);
    }
}

/* No server writes keys before any SELECTDB: they are of database 0. */
static void keys_before_any_database_are_of_database_0(void **state)
{
    (void)state;
    static struct make m;
    for (int chosen = 0; chosen < 2; chosen++) {
        m = (struct make){0};
        put(&m, "REDIS0010", 9);
        put_aux(&m, "redis-ver", "7.0.15");
        put_key(&m, "early", "v");
        put_end(&m);
        struct kit *k = new_kit(chosen ? "0" : "1");
        if (write_backup(k, m.p, m.n, false) < 0) fail_msg("%s", k->err.msg);
        assert_int_equal(counter_get(&k->counters.keys_written), chosen);
        struct buf got = read_back(k);
        assert_true(chosen ? got.n == m.n : got.n < m.n && got.n > 9 + 8 + 1);
        buf_release(&got);
        free_kit(k);
    }
}

/* --- keys chosen by their names --- */

static void put_named(struct make *m, const char *key)
{
    put_u8(m, 252);
    put_le(m, 1900000000000, 8);
    put_aux(m, "mvcc-tstamp", key); /* KeyDB: between a key and its expiry */
    put_u8(m, 0);
    put_str(m, key);
    put_str(m, "value");
    put_aux(m, "keydb-subexpire-key", "field"); /* KeyDB: of the key before */
    put_aux(m, "keydb-subexpire-when", "1900000000000");
}

static const char *const names[] = {"user:1", "cart:1", "user:2", "tmp:user"};

/* `mask`: which of the names are in databases 0 and 2; `hints`: how many there are. */
static void make_named(struct make *m, unsigned mask, bool hints)
{
    *m = (struct make){0};
    put(m, "REDIS0009", 9);
    put_aux(m, "redis-ver", "6.3.4");
    if (hints) put_aux(m, "repl-id", "0123456789012345678901234567890123456789");
    for (unsigned db = 0; db < 3; db += 2) {
        put_u8(m, 254);
        put_len(m, db);
        if (hints) put_u8(m, 251), put_len(m, 4), put_len(m, 4);
        if (hints) put_u8(m, 244), put_len(m, 1), put_len(m, 4), put_len(m, 4);
        for (unsigned i = 0; i < 4; i++)
            if (mask >> i & 1) put_named(m, names[i]);
    }
    put_aux(m, "lua", "return 1");
    put_end(m);
}

static void choose_and_compare(const char *keep, const char *skip, unsigned mask)
{
    static struct make all, want;
    make_named(&all, 15, true);
    make_named(&want, mask, false);
    for (int starve = 0; starve < 2; starve++) {
        struct kit *k = new_kit(NULL);
        assert_int_equal(key_select_parse(&k->keys, keep, skip, &k->err), 0);
        if (write_backup(k, all.p, all.n, starve) < 0) fail_msg("%s", k->err.msg);
        struct buf got = read_back(k);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.p, want.p, want.n);
        unsigned n = 2 * (unsigned)__builtin_popcount(mask);
        assert_int_equal(counter_get(&k->counters.keys_written), n);
        assert_int_equal(counter_get(&k->counters.keys_filtered), 8 - n);
        buf_release(&got);
        key_select_release(&k->keys);
        free_kit(k);
    }
}

/* With them go their own expiries and AUX fields, and nobody else's; the numbers of all keys do
 * not. */
static void keys_are_chosen_by_their_names(void **state)
{
    (void)state;
    choose_and_compare("user:*", NULL, 5);
    choose_and_compare(NULL, "user:*", 10);
    choose_and_compare("*user*", "*:2", 9);
    choose_and_compare("cart:?", NULL, 2);
    choose_and_compare("none", NULL, 0);
    choose_and_compare("*", NULL, 15);
}

/* The longest there can be are decided by their names too. */
static void long_names_are_chosen(void **state)
{
    (void)state;
    size_t n = RDB_KEY_MAX;
    for (int chosen = 0; chosen < 2; chosen++) {
        uint8_t *p = malloc(n + 100), *out = p;
        assert_non_null(p);
        memcpy(out, "REDIS0010\xfe\x05\xf9\x07", 13); /* database 5, a frequency */
        out += 13;
        *out++ = 0;
        *out++ = 0x80;
        for (int shift = 24; shift >= 0; shift -= 8)
            *out++ = (uint8_t)(n >> shift);
        memset(out, 'k', n);
        out += n;
        *out++ = 0; /* an empty value */
        *out++ = 255;
        uint64_t crc = crc64(0, p, (size_t)(out - p));
        memcpy(out, &crc, 8);
        struct kit *k = new_kit(NULL);
        assert_int_equal(key_select_parse(&k->keys, chosen ? "*k" : "*z", NULL, &k->err), 0);
        if (write_backup(k, p, (size_t)(out + 8 - p), false) < 0) fail_msg("%s", k->err.msg);
        struct buf got = read_back(k);
        assert_int_equal(got.n, chosen ? (size_t)(out + 8 - p) : 11 + 1 + 8);
        buf_release(&got);
        key_select_release(&k->keys);
        free_kit(k);
        free(p);
    }
}

/* Records larger than what is kept until they are known: 1.5 MB. */
static void large_records_are_decided_early(void **state)
{
    (void)state;
    const struct {
        uint8_t op;
        bool kept;
    } c[] = {{245, true}, {250, true}, {0, false}, {249, false}};
    size_t big = 1500000;
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        uint8_t *p = calloc(1, big + 100), *out = p;
        assert_non_null(p);
        memcpy(out, "REDIS0010\xfe\x05", 11); /* database 5, not selected */
        out += 11;
        *out++ = c[i].op;
        if (c[i].op == 249) *out++ = 7, *out++ = 0; /* frequency, then a string */
        if (c[i].op == 250) *out++ = 3, memcpy(out, "lua", 3), out += 3;
        *out++ = 0x80;
        for (int shift = 24; shift >= 0; shift -= 8)
            *out++ = (uint8_t)(big >> shift);
        out += big;
        if (c[i].op == 0 || c[i].op == 249) *out++ = 0; /* the key's value: empty */
        *out++ = 255;
        uint64_t crc = crc64(0, p, (size_t)(out - p));
        memcpy(out, &crc, 8);
        size_t n = (size_t)(out + 8 - p);
        for (int starve = 0; starve < 2; starve++) {
            struct kit *k = new_kit("0");
            if (write_backup(k, p, n, starve) < 0) fail_msg("%s", k->err.msg);
            struct buf got = read_back(k);
            assert_int_equal(got.n, c[i].kept ? n - 2 : 9 + 1 + 8); /* SELECTDB has gone */
            buf_release(&got);
            free_kit(k);
        }
        free(p);
    }
}

/* --- the file --- */

static void what_is_there_stays_without_force(void **state)
{
    (void)state;
    static struct make m;
    make_rdb(&m, 15, true, 10);
    struct kit *k = new_kit(NULL);
    int fd = open(k->path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "old", 3), 3);
    close(fd);
    assert_int_equal(write_backup(k, m.p, m.n, false), -1);
    assert_int_equal(k->err.code, ERR_REFUSED);
    assert_non_null(strstr(k->err.msg, "--force"));
    struct buf got = read_back(k);
    assert_int_equal(got.n, 3);
    buf_release(&got);
    k->cfg.force = true;
    if (write_backup(k, m.p, m.n, false) < 0) fail_msg("%s", k->err.msg);
    got = read_back(k);
    assert_int_equal(got.n, m.n);
    buf_release(&got);
    free_kit(k);
}

/* It appeared while we wrote: not replaced either. */
static void what_appears_meanwhile_stays(void **state)
{
    (void)state;
    static struct make m;
    struct reader r;
    make_rdb(&m, 15, true, 10);
    struct kit *k = new_kit(NULL);
    reader_init_mem(&r, m.p, m.n);
    assert_int_equal(backup_open(&k->b, &k->cfg, &k->err), 0);
    assert_int_equal(backup_run(&k->b, &r, &k->err), 0);
    close(open(k->path, O_WRONLY | O_CREAT, 0600));
    assert_int_equal(backup_finish(&k->b, &k->err), -1);
    assert_int_equal(k->err.code, ERR_REFUSED);
    backup_release(&k->b);
    struct buf got = read_back(k);
    assert_int_equal(got.n, 0);
    buf_release(&got);
    free_kit(k);
}

static void leftovers_are_taken_over_unless_in_use(void **state)
{
    (void)state;
    static struct make m;
    make_rdb(&m, 15, true, 10);
    struct kit *k = new_kit(NULL);
    int fd = open(k->temp, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, m.p, m.n), m.n);
    assert_int_equal(write(fd, m.p, m.n), m.n);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(write_backup(k, m.p, m.n, false), -1);
    assert_int_equal(k->err.code, ERR_REFUSED);
    assert_int_equal(access(k->temp, F_OK), 0); /* the other's */
    close(fd);
    if (write_backup(k, m.p, m.n, false) < 0) fail_msg("%s", k->err.msg);
    struct buf got = read_back(k);
    assert_int_equal(got.n, m.n);
    buf_release(&got);
    free_kit(k);
}

static void odd_places_are_told(void **state)
{
    (void)state;
    static struct make m;
    make_rdb(&m, 15, true, 10);
    struct kit *k = new_kit(NULL);
    k->cfg.path = k->dir;
    assert_int_equal(write_backup(k, m.p, m.n, false), -1);
    assert_int_equal(k->err.code, ERR_USAGE);
    k->cfg.path = "/nowhere/at/all.rdb";
    assert_int_equal(write_backup(k, m.p, m.n, false), -1);
    assert_int_equal(k->err.code, ERR_IO);
    assert_non_null(strstr(k->err.msg, "No such file"));
    free_kit(k);
}

/* Cut at every byte, a byte changed, or asked to stop: an error, and no file. */
static void broken_input_leaves_nothing(void **state)
{
    (void)state;
    static struct make m;
    make_rdb(&m, 15, true, 10);
    for (size_t n = 0; n <= m.n; n++) {
        struct kit *k = new_kit(n % 2 ? "1" : NULL);
        bool flip = n == m.n;
        if (flip) m.p[m.n / 2] ^= 1;
        assert_int_equal(write_backup(k, m.p, n, n % 3 == 0), -1);
        assert_int_not_equal(access(k->path, F_OK), 0);
        free_kit(k);
    }
    make_rdb(&m, 15, true, 10);
    struct kit *k = new_kit(NULL);
    k->stop = true;
    assert_int_equal(write_backup(k, m.p, m.n, false), -1);
    assert_int_equal(k->err.code, ERR_STOPPED);
    assert_int_not_equal(access(k->path, F_OK), 0);
    free_kit(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_the_same_bytes),
        cmocka_unit_test(selections_hold_what_is_selected),
        cmocka_unit_test(keys_before_any_database_are_of_database_0),
        cmocka_unit_test(keys_are_chosen_by_their_names),
        cmocka_unit_test(long_names_are_chosen),
        cmocka_unit_test(large_records_are_decided_early),
        cmocka_unit_test(what_is_there_stays_without_force),
        cmocka_unit_test(what_appears_meanwhile_stays),
        cmocka_unit_test(leftovers_are_taken_over_unless_in_use),
        cmocka_unit_test(odd_places_are_told),
        cmocka_unit_test(broken_input_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
