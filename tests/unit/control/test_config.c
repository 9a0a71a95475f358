// SPDX-License-Identifier: BSD-3-Clause
// Tests of options to configuration: what each becomes, and what does not go together.
#include "control/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGS_MAX 16
#define SIDES    "--source=redis://a", "--target=redis://b"
#define TLS      "--source=rediss://a", "--target=rediss://b"

struct made {
    struct option_values values;
    struct config cfg;
};

static int configure_as(enum option_command command, struct made *m, struct err *err,
                        const char *const *words)
{
    char *argv[ARGS_MAX + 1] = {strdup("keyhaul")};
    int argc = 1;
    for (; *words; words++)
        argv[argc++] = strdup(*words);
    *m = (struct made){0};
    assert_int_equal(options_parse(&m->values, command, argc, argv, err), 0);
    int rc = config_from_options(&m->cfg, &m->values, err);
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return rc;
}

static int configure(struct made *m, struct err *err, const char *const *words)
{
    return configure_as(OPTION_COMMAND_MIGRATE, m, err, words);
}

static void drop(struct made *m)
{
    config_release(&m->cfg);
    options_release(&m->values);
}

static void expect(struct made *m, const char *const *words)
{
    struct err err = {0};
    int rc = configure(m, &err, words);
    if (rc < 0) print_error("%s\n", err.msg);
    assert_int_equal(rc, 0);
}

#define MAKE(m, ...) expect(m, (const char *const[]){__VA_ARGS__, NULL})

static void expect_refusal(const char *want, const char *const *words)
{
    struct made m;
    struct err err = {0};
    assert_int_equal(configure(&m, &err, words), -1);
    assert_int_equal(err.code, ERR_USAGE);
    if (strncmp(err.msg, want, strlen(want)) != 0) print_error("got: %s\n", err.msg);
    assert_memory_equal(err.msg, want, strlen(want));
    assert_null(strstr(err.msg, "hunter2"));
    options_release(&m.values);
}

#define REFUSED(want, ...) expect_refusal(want, (const char *const[]){__VA_ARGS__, NULL})

static void defaults(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, SIDES);
    const struct task_config *t = &m.cfg.task;
    assert_string_equal(t->source.uri.host, "a");
    assert_string_equal(t->target.uri.host, "b");
    assert_int_equal(t->type, TASK_FULL_INCREMENTAL);
    assert_int_equal(t->on_conflict, TASK_CONFLICT_FAIL);
    assert_int_equal(t->on_error, TASK_ON_ERROR_STOP);
    assert_int_equal(t->until, TASK_UNTIL_STOPPED);
    assert_true(t->select.all);
    assert_int_equal(t->select.n_map, 0);
    assert_int_equal(t->connect_timeout_ms, 10000);
    assert_int_equal(t->io_timeout_ms, 60000);
    assert_int_equal(t->retry_time_ms, 43200000);
    assert_int_equal(t->spool_max_bytes, 0);
    assert_null(t->spool_dir);
    assert_null(t->source.password);
    assert_null(t->source.tls.ca_file);
    assert_false(t->source.tls.insecure_skip_verify);
    assert_int_equal(m.cfg.output, CONFIG_OUTPUT_HUMAN);
    assert_int_equal(m.cfg.log.level, LOG_INFO);
    assert_false(m.cfg.log.json);
    assert_false(m.cfg.quiet);
    assert_null(m.cfg.metrics_file);
    drop(&m);
}

static void every_choice(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, SIDES, "--type=full", "--on-conflict=overwrite", "--on-error=continue",
         "--until=caught-up", "--output=json", "--log-level=debug");
    assert_int_equal(m.cfg.task.type, TASK_FULL);
    assert_int_equal(m.cfg.task.on_conflict, TASK_CONFLICT_OVERWRITE);
    assert_int_equal(m.cfg.task.on_error, TASK_ON_ERROR_CONTINUE);
    assert_int_equal(m.cfg.task.until, TASK_UNTIL_CAUGHT_UP);
    assert_int_equal(m.cfg.output, CONFIG_OUTPUT_JSON);
    assert_true(m.cfg.log.json);
    assert_int_equal(m.cfg.log.level, LOG_DEBUG);
    drop(&m);
    MAKE(&m, SIDES, "--type=incremental", "--on-conflict=skip", "--on-error=stop",
         "--until=stopped", "--output=human", "--log-level=error");
    assert_int_equal(m.cfg.task.type, TASK_INCREMENTAL);
    assert_int_equal(m.cfg.task.on_conflict, TASK_CONFLICT_SKIP);
    assert_int_equal(m.cfg.log.level, LOG_ERROR);
    drop(&m);
    MAKE(&m, SIDES, "--log-level=warn");
    assert_int_equal(m.cfg.log.level, LOG_WARN);
    drop(&m);
}

static void plain_values(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, SIDES, "--spool-dir=/s", "--spool-max=2G", "--connect-timeout=500ms",
         "--io-timeout=5m", "--retry-time=0s", "--log-file=/l", "--metrics-file=/m", "--quiet");
    assert_string_equal(m.cfg.task.spool_dir, "/s");
    assert_int_equal(m.cfg.task.spool_max_bytes, 2000000000);
    assert_int_equal(m.cfg.task.connect_timeout_ms, 500);
    assert_int_equal(m.cfg.task.io_timeout_ms, 300000);
    assert_int_equal(m.cfg.task.retry_time_ms, 0);
    assert_string_equal(m.cfg.log.file, "/l");
    assert_string_equal(m.cfg.metrics_file, "/m");
    assert_true(m.cfg.quiet);
    assert_int_equal(m.cfg.log.level, LOG_INFO); /* to a file of its own: not silenced */
    drop(&m);
    MAKE(&m, SIDES, "--quiet");
    assert_int_equal(m.cfg.log.level, LOG_ERROR);
    drop(&m);
    MAKE(&m, SIDES, "--quiet", "--log-level=warn");
    assert_int_equal(m.cfg.log.level, LOG_WARN);
    drop(&m);
    REFUSED("--connect-timeout: must be from 1ms", SIDES, "--connect-timeout=0s");
    REFUSED("--io-timeout: must be from 1ms", SIDES, "--io-timeout=25d");
    REFUSED("--spool-max: must be more than nothing", SIDES, "--spool-max=0");
}

static void both_servers_are_needed(void **state)
{
    (void)state;
    REFUSED("--source: missing", "--target=redis://b");
    REFUSED("--target: missing", "--source=redis://a");
    REFUSED("--source: missing", "--quiet");
    REFUSED("--source: ", "--source=http://:hunter2@a", "--target=redis://b");
    REFUSED("--target: ", "--source=redis://a", "--target=redis://:hunter2@b:port");
}

static void databases(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, SIDES, "--db=0,3,8-10", "--db-map=0:5,3:0");
    const struct db_select *s = &m.cfg.task.select;
    assert_int_equal(db_select_target(s, 0), 5);
    assert_int_equal(db_select_target(s, 3), 0);
    assert_int_equal(db_select_target(s, 9), 9);
    assert_int_equal(db_select_target(s, 5), -1);
    drop(&m);
    MAKE(&m, SIDES, "--db=all");
    assert_true(m.cfg.task.select.all);
    drop(&m);
    REFUSED("--db", SIDES, "--db=3-");
    REFUSED("--db", SIDES, "--db=70000");
    REFUSED("--db: must be like", SIDES, "--db=redis://:hunter2@h");
    REFUSED("--db-map", SIDES, "--db-map=0:");
    REFUSED("--db-map", SIDES, "--db=1", "--db-map=0:5");
    REFUSED("--db-map", SIDES, "--db=0,5", "--db-map=0:5");
    REFUSED("--db-map: must be like", SIDES, "--db-map=hunter2");
}

static void databases_of_uris(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, "--source=redis://a/3", "--target=redis://b");
    assert_int_equal(db_select_target(&m.cfg.task.select, 3), 3);
    assert_int_equal(db_select_target(&m.cfg.task.select, 0), -1);
    drop(&m);
    MAKE(&m, "--source=redis://a/3", "--target=redis://b/7");
    assert_int_equal(db_select_target(&m.cfg.task.select, 3), 7);
    drop(&m);
    MAKE(&m, "--source=redis://a/3", "--target=redis://b", "--db=1,2");
    assert_int_equal(db_select_target(&m.cfg.task.select, 3), -1);
    assert_int_equal(db_select_target(&m.cfg.task.select, 2), 2);
    drop(&m);
    MAKE(&m, "--source=redis://a", "--target=redis://b/7", "--db=4");
    assert_int_equal(db_select_target(&m.cfg.task.select, 4), 7);
    drop(&m);
    REFUSED("--target: its /7 needs a single database", "--source=redis://a",
            "--target=redis://b/7");
    REFUSED("--target: its /7 needs a single database", "--source=redis://a",
            "--target=redis://b/7", "--db=1,2");
    REFUSED("--target: leave out its /7", "--source=redis://a/1", "--target=redis://b/7",
            "--db-map=1:2");
}

static void tls_of_a_side_goes_before_that_of_both(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, TLS, "--tls-ca=ca", "--tls-cert=cert", "--tls-key=key", "--tls-server-name=name",
         "--source-tls-ca=sca", "--source-tls-cert=scert", "--source-tls-key=skey",
         "--source-tls-server-name=sname");
    const struct conn_tls *s = &m.cfg.task.source.tls, *t = &m.cfg.task.target.tls;
    assert_string_equal(s->ca_file, "sca");
    assert_string_equal(s->cert_file, "scert");
    assert_string_equal(s->key_file, "skey");
    assert_string_equal(s->server_name, "sname");
    assert_string_equal(t->ca_file, "ca");
    assert_string_equal(t->cert_file, "cert");
    assert_string_equal(t->key_file, "key");
    assert_string_equal(t->server_name, "name");
    drop(&m);
    MAKE(&m, TLS, "--target-tls-ca=ca", "--target-tls-cert=cert", "--target-tls-key=key",
         "--target-tls-server-name=name");
    t = &m.cfg.task.target.tls;
    assert_string_equal(t->ca_file, "ca");
    assert_string_equal(t->cert_file, "cert");
    assert_string_equal(t->key_file, "key");
    assert_string_equal(t->server_name, "name");
    assert_null(m.cfg.task.source.tls.ca_file);
    drop(&m);
}

static void verification_is_left_out_only_where_asked(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, TLS, "--insecure-skip-verify");
    assert_true(m.cfg.task.source.tls.insecure_skip_verify);
    assert_true(m.cfg.task.target.tls.insecure_skip_verify);
    drop(&m);
    MAKE(&m, TLS, "--source-insecure-skip-verify");
    assert_true(m.cfg.task.source.tls.insecure_skip_verify);
    assert_false(m.cfg.task.target.tls.insecure_skip_verify);
    drop(&m);
    MAKE(&m, TLS, "--target-insecure-skip-verify");
    assert_false(m.cfg.task.source.tls.insecure_skip_verify);
    assert_true(m.cfg.task.target.tls.insecure_skip_verify);
    drop(&m);
}

static void tls_options_need_tls(void **state)
{
    (void)state;
    struct made m;
    REFUSED("--tls-ca: neither side", SIDES, "--tls-ca=ca");
    REFUSED("--insecure-skip-verify: neither side", SIDES, "--insecure-skip-verify");
    REFUSED("--source-tls-ca: needs --source to be", "--source=redis://a", "--target=rediss://b",
            "--source-tls-ca=ca");
    REFUSED("--target-insecure-skip-verify: needs --target to be", "--source=rediss://a",
            "--target=redis://b", "--target-insecure-skip-verify");
    REFUSED("--tls-cert: a certificate and its key", TLS, "--tls-cert=c");
    REFUSED("--target-tls-key: a certificate and its key", TLS, "--target-tls-key=k");
    MAKE(&m, "--source=redis://a", "--target=rediss://b", "--tls-ca=ca");
    drop(&m);
}

static void passwords_by_precedence(void **state)
{
    (void)state;
    char path[] = "/tmp/keyhaul-test-XXXXXX", option[80];
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "from-file\nmore\n", 15) == 15);
    close(fd);
    struct made m;
    setenv("KEYHAUL_SOURCE_PASSWORD", "from-env", 1);
    snprintf(option, sizeof(option), "--source-password-file=%s", path);
    MAKE(&m, "--source=redis://u:from-uri@a", "--target=redis://:target-uri@b", option);
    assert_string_equal(m.cfg.task.source.password, "from-file");
    assert_string_equal(m.cfg.task.source.uri.user, "u");
    assert_null(m.cfg.task.target.password);
    assert_string_equal(m.cfg.task.target.uri.password, "target-uri");
    drop(&m);
    MAKE(&m, "--source=redis://u:from-uri@a", "--target=redis://b");
    assert_string_equal(m.cfg.task.source.password, "from-env");
    drop(&m);
    unsetenv("KEYHAUL_SOURCE_PASSWORD");
    setenv("KEYHAUL_TARGET_PASSWORD", "target-env", 1);
    MAKE(&m, SIDES);
    assert_null(m.cfg.task.source.password);
    assert_string_equal(m.cfg.task.target.password, "target-env");
    drop(&m);
    snprintf(option, sizeof(option), "--target-password-file=%s", path);
    MAKE(&m, SIDES, option);
    assert_string_equal(m.cfg.task.target.password, "from-file");
    drop(&m);
    unsetenv("KEYHAUL_TARGET_PASSWORD");
    unlink(path);
}

#define SENTINELS "--source=redis+sentinel://s/n", "--target=redis://b"

static void sentinels_have_a_password_of_their_own(void **state)
{
    (void)state;
    struct made m;
    char path[] = "/tmp/kh-config-XXXXXX", option[64];
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "hidden\nmore\n", 12), 12);
    close(fd);
    snprintf(option, sizeof(option), "--sentinel-password-file=%s", path);
    MAKE(&m, SENTINELS, option);
    assert_string_equal(m.cfg.task.source.sentinel_password, "hidden");
    assert_null(m.cfg.task.source.password);
    assert_null(m.cfg.task.target.sentinel_password); /* it has none */
    drop(&m);
    REFUSED("--sentinel-password-file: no side is a redis+sentinel://", SIDES, option);
    setenv("KEYHAUL_SENTINEL_PASSWORD", "ambient", 1);
    MAKE(&m, SIDES); /* for another run, maybe */
    assert_null(m.cfg.task.source.sentinel_password);
    drop(&m);
    MAKE(&m, SENTINELS);
    assert_string_equal(m.cfg.task.source.sentinel_password, "ambient");
    drop(&m);
    MAKE(&m, SENTINELS, option);
    assert_string_equal(m.cfg.task.source.sentinel_password, "hidden");
    drop(&m);
    unsetenv("KEYHAUL_SENTINEL_PASSWORD");
    unlink(path);
}

static void leads(const struct cluster_addresses *a, const char *host, const char *to)
{
    const char *port = "1";
    cluster_addresses_find(a, &host, &port);
    assert_string_equal(host, to);
}

static void addresses_are_mapped_for_each_side(void **state)
{
    (void)state;
    struct made m;
    MAKE(&m, SIDES, "--source-address-map=a=b", "--source-address-map=c=d",
         "--target-address-map=a=e");
    leads(&m.cfg.task.source.addresses, "a", "b");
    leads(&m.cfg.task.source.addresses, "c", "d");
    leads(&m.cfg.task.target.addresses, "a", "e");
    leads(&m.cfg.task.target.addresses, "c", "c");
    assert_false(m.cfg.task.source.prefer_replica);
    drop(&m);
    MAKE(&m, SIDES, "--source-prefer-replica");
    assert_true(m.cfg.task.source.prefer_replica);
    assert_false(m.cfg.task.target.prefer_replica);
    drop(&m);
    REFUSED("--source-address-map: must be announced=reachable", SIDES, "--source-address-map=a");
    REFUSED("--target-address-map: must be announced=reachable", SIDES, "--target-address-map=a=");
}

static void wrong_password_files(void **state)
{
    (void)state;
    /* The password itself in place of the file is not repeated. */
    REFUSED("--source-password-file: cannot read the file", SIDES,
            "--source-password-file=hunter2");
    REFUSED("--target-password-file: the file", SIDES, "--target-password-file=/dev/null");
    REFUSED("--target-password-file: ", SIDES, "--target-password-file=/tmp");
}

static void backup_has_a_file_in_the_targets_place(void **state)
{
    (void)state;
    struct made m;
    struct err err = {0};
    const char *all[] = {"--source=redis://a/3", "--output=x.rdb", "--force", "--format=json",
                         NULL};
    assert_int_equal(configure_as(OPTION_COMMAND_BACKUP, &m, &err, all), 0);
    assert_int_equal(task_way(&m.cfg.task), TASK_BACKUP);
    assert_int_equal(m.cfg.task.type, TASK_FULL);
    assert_string_equal(m.cfg.task.backup, "x.rdb");
    assert_true(m.cfg.task.force);
    assert_int_equal(m.cfg.output, CONFIG_OUTPUT_JSON);
    assert_int_equal(db_select_target(&m.cfg.task.select, 3), 3);
    assert_int_equal(db_select_target(&m.cfg.task.select, 0), -1);
    drop(&m);
    const char *no_file[] = {"--source=redis://a", NULL};
    assert_int_equal(configure_as(OPTION_COMMAND_BACKUP, &m, &err, no_file), -1);
    assert_string_equal(err.msg, "--output: missing, say which file to write");
    options_release(&m.values);
    const char *no_source[] = {"--output=x", NULL};
    assert_int_equal(configure_as(OPTION_COMMAND_BACKUP, &m, &err, no_source), -1);
    assert_non_null(strstr(err.msg, "--source: missing"));
    options_release(&m.values);
}

static void keys_are_chosen_of_snapshots(void **state)
{
    (void)state;
    struct made m;
    struct err err = {0};
    static const enum option_command commands[] = {OPTION_COMMAND_INSPECT, OPTION_COMMAND_RESTORE};
    for (size_t i = 0; i < 2; i++) {
        const char *all[] = {
            "a.rdb", "--keys=a*", "--keys=b", "--skip-keys=*z", i ? "--target=redis://a" : NULL,
            NULL};
        assert_int_equal(configure_as(commands[i], &m, &err, all), 0);
        const struct key_select *s = &m.cfg.task.keys;
        assert_true(key_selected(s, span_str("ab")) && key_selected(s, span_str("b")));
        assert_false(key_selected(s, span_str("az")) || key_selected(s, span_str("c")));
        drop(&m);
    }
    const char *wrong[] = {"a.rdb", "--keys=a,,b", NULL};
    assert_int_equal(configure_as(OPTION_COMMAND_INSPECT, &m, &err, wrong), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_memory_equal(err.msg, "--keys: a pattern is empty", 26);
    options_release(&m.values);
}

static void inspect_takes_a_file_or_a_server(void **state)
{
    (void)state;
    struct made m;
    struct err err = {0};
    const char *file[] = {"a.rdb", "--output=jsonl", "--for=valkey-9.1", "--top=1000", NULL};
    assert_int_equal(configure_as(OPTION_COMMAND_INSPECT, &m, &err, file), 0);
    assert_string_equal(m.cfg.task.file, "a.rdb");
    assert_int_equal(m.cfg.output, CONFIG_OUTPUT_JSONL);
    assert_int_equal(m.cfg.supposed.version, 0x090100);
    assert_int_equal(m.cfg.top, 1000);
    assert_int_equal(m.cfg.log.level, LOG_WARN);
    drop(&m);
    const char *server[] = {"rediss://:hunter2@h/1", "--tls-ca=ca.pem", NULL};
    assert_int_equal(configure_as(OPTION_COMMAND_INSPECT, &m, &err, server), 0);
    assert_null(m.cfg.task.file);
    assert_true(m.cfg.task.source.uri.tls);
    assert_string_equal(m.cfg.task.source.tls.ca_file, "ca.pem");
    assert_false(m.cfg.has_supposed);
    assert_int_equal(m.cfg.top, 20);
    assert_int_equal(db_select_target(&m.cfg.task.select, 0), -1);
    drop(&m);
    const char *const bad[][3] = {{"a.rdb", "--top=1001", "--top: must be"},
                                  {"a.rdb", "--top=x", "--top: must be"},
                                  {"a.rdb", "--for=hunter2", "--for: must be redis"},
                                  {"ftp://hunter2", "--quiet", "FILE|URI: "}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *words[] = {bad[i][0], bad[i][1], NULL};
        assert_int_equal(configure_as(OPTION_COMMAND_INSPECT, &m, &err, words), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_memory_equal(err.msg, bad[i][2], strlen(bad[i][2]));
        assert_null(strstr(err.msg, "hunter2"));
        options_release(&m.values);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_choice),
        cmocka_unit_test(plain_values),
        cmocka_unit_test(both_servers_are_needed),
        cmocka_unit_test(databases),
        cmocka_unit_test(databases_of_uris),
        cmocka_unit_test(tls_of_a_side_goes_before_that_of_both),
        cmocka_unit_test(verification_is_left_out_only_where_asked),
        cmocka_unit_test(tls_options_need_tls),
        cmocka_unit_test(passwords_by_precedence),
        cmocka_unit_test(sentinels_have_a_password_of_their_own),
        cmocka_unit_test(addresses_are_mapped_for_each_side),
        cmocka_unit_test(wrong_password_files),
        cmocka_unit_test(backup_has_a_file_in_the_targets_place),
        cmocka_unit_test(keys_are_chosen_of_snapshots),
        cmocka_unit_test(inspect_takes_a_file_or_a_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
