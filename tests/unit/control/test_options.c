// SPDX-License-Identifier: BSD-3-Clause
// Tests of the option table and the parser: every option, every wrong use.
#include "control/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARGS_MAX 12

/* argv in memory that may be written, as the kernel gives it */
struct args {
    int n;
    char *v[ARGS_MAX + 1];
};

static struct args make_args(const char *const *words)
{
    struct args a = {.n = 1};
    a.v[0] = strdup("command");
    for (; *words && a.n < ARGS_MAX; words++)
        a.v[a.n++] = strdup(*words);
    return a;
}

static void free_args(struct args *a)
{
    for (int i = 0; i < a->n; i++)
        free(a->v[i]);
}

static int parse(struct option_values *v, struct err *err, enum option_command command,
                 const char *const *words)
{
    struct args a = make_args(words);
    int rc = options_parse(v, command, a.n, a.v, err);
    free_args(&a);
    return rc;
}

#define MIGRATE OPTION_COMMAND_MIGRATE
#define RESTORE OPTION_COMMAND_RESTORE

#define PARSE(v, err, ...) parse(v, err, MIGRATE, (const char *const[]){__VA_ARGS__, NULL})

static void expect_refusal(enum option_command command, const char *want, const char *const *words)
{
    struct option_values v;
    struct err err = {0};
    assert_int_equal(parse(&v, &err, command, words), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_string_equal(err.msg, want);
}

#define REFUSED_BY(command, want, ...)                                                             \
    expect_refusal(command, want, (const char *const[]){__VA_ARGS__, NULL})
#define REFUSED(want, ...) REFUSED_BY(MIGRATE, want, __VA_ARGS__)

/* A command that the option is of. */
static enum option_command command_of(const struct option_def *def)
{
    for (unsigned bit = MIGRATE; bit <= OPTION_COMMAND_FINISH; bit <<= 1)
        if (def->commands & bit) return (enum option_command)bit;
    return MIGRATE;
}

/* The argument of a command that takes one; OPTION_COUNT: it takes none. */
static int argument_of(enum option_command command)
{
    switch ((unsigned)command) {
    case RESTORE: return OPTION_FILE;
    case OPTION_COMMAND_INSPECT: return OPTION_INPUT;
    case OPTION_COMMAND_STATUS: return OPTION_TASK_NAME_MAYBE;
    case OPTION_COMMAND_STOP:
    case OPTION_COMMAND_FINISH: return OPTION_TASK_NAME;
    default: return OPTION_COUNT;
    }
}

static bool is_option(const struct option_def *def)
{
    return def->kind != OPTION_KIND_ENV && !option_is_argument(def);
}

static const char *good_value(const struct option_def *def)
{
    switch (def->kind) {
    case OPTION_KIND_CHOICE: return def->fallback;
    case OPTION_KIND_DURATION: return "3s";
    case OPTION_KIND_SIZE: return "5M";
    case OPTION_KIND_FLAG:
    case OPTION_KIND_TEXT:
    case OPTION_KIND_LIST:
    case OPTION_KIND_FILE:
    case OPTION_KIND_URI:
    case OPTION_KIND_ARG:
    case OPTION_KIND_ARG_MAYBE:
    case OPTION_KIND_ENV: break;
    }
    return "some-value";
}

static void table_is_whole(void **state)
{
    (void)state;
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = option_def((enum option_id)id);
        assert_true(def->name && *def->name);
        assert_true(def->help && *def->help);
        assert_non_null(option_group_title(def->group));
        assert_true(def->commands != 0 && (def->commands & ~OPTION_COMMAND_ALL) == 0);
        bool takes = def->kind != OPTION_KIND_FLAG && def->kind != OPTION_KIND_ENV;
        assert_int_equal(takes, def->arg != NULL);
        assert_int_equal(def->kind == OPTION_KIND_CHOICE, def->choices != NULL);
        for (int other = 0; other < id; other++)
            if (def->commands & option_def((enum option_id)other)->commands)
                assert_string_not_equal(def->name, option_def((enum option_id)other)->name);
    }
}

/* With what the command takes besides options. */
static void parse_alone(struct option_values *v, struct err *err, enum option_command command,
                        const char *const *words)
{
    const char *all[] = {words[0], words[1], NULL, NULL};
    if (argument_of(command) != OPTION_COUNT) all[words[1] ? 2 : 1] = "dump.rdb";
    assert_int_equal(parse(v, err, command, all), 0);
}

/* Each option alone, as "--x v" and as "--x=v": that one and no other is set. */
static void every_option_is_parsed(void **state)
{
    (void)state;
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = option_def((enum option_id)id);
        if (!is_option(def)) continue;
        const char *value = def->arg ? good_value(def) : NULL;
        char name[80], joined[160];
        snprintf(name, sizeof(name), "--%s", def->name);
        snprintf(joined, sizeof(joined), "%s%s%s", name, value ? "=" : "", value ? value : "");
        for (int form = 0; form < 2; form++) {
            struct option_values v;
            struct err err = {0};
            const char *words[] = {form ? joined : name, form ? NULL : value, NULL};
            parse_alone(&v, &err, command_of(def), words);
            for (int other = 0; other < OPTION_COUNT; other++)
                assert_int_equal(options_given(&v, (enum option_id)other),
                                 other == id || other == argument_of(command_of(def)));
            assert_string_equal(v.text[id], value ? value : "");
            options_release(&v);
        }
    }
}

/* What is only of one command is unknown to the others. */
static void options_belong_to_commands(void **state)
{
    (void)state;
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = option_def((enum option_id)id);
        char arg[160], want[80];
        if (!is_option(def) || def->commands & RESTORE) continue;
        if (strcmp(def->name, "output") == 0) continue; /* RESTORE has one of its own */
        snprintf(arg, sizeof(arg), "--%s%s%s", def->name, def->arg ? "=" : "",
                 def->arg ? good_value(def) : "");
        snprintf(want, sizeof(want), "--%s: unknown option", def->name);
        struct option_values v;
        struct err err = {0};
        const char *words[] = {"dump.rdb", arg, NULL};
        assert_int_equal(parse(&v, &err, RESTORE, words), -1);
        assert_memory_equal(err.msg, want, strlen(want));
        assert_null(strstr(err.msg, "--source?")); /* nor suggested */
    }
}

/* Each option that takes a value, without one. */
static void every_option_needs_its_value(void **state)
{
    (void)state;
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = option_def((enum option_id)id);
        if (!is_option(def)) continue;
        enum option_command command = command_of(def);
        char name[80], joined[100], want[160];
        snprintf(name, sizeof(name), "--%s", def->name);
        snprintf(joined, sizeof(joined), "%s=%s", name, def->arg ? "" : "yes");
        if (!def->arg) {
            snprintf(want, sizeof(want), "%s: takes no value", name);
            REFUSED_BY(command, want, joined);
            continue;
        }
        snprintf(want, sizeof(want), "%s: needs a value (%s)", name, def->arg);
        REFUSED_BY(command, want, name);
        REFUSED_BY(command, want, joined);
        REFUSED_BY(command, want, name, "");
        REFUSED_BY(command, want, name, "--quiet");
        if (def->kind == OPTION_KIND_LIST) continue;
        snprintf(want, sizeof(want), "%s: given twice", name);
        REFUSED_BY(command, want, name, good_value(def), name, good_value(def));
    }
}

static void defaults_pass_their_own_check(void **state)
{
    (void)state;
    struct option_values none = {0};
    for (int id = 0; id < OPTION_COUNT; id++) {
        const struct option_def *def = option_def((enum option_id)id);
        if (!def->fallback) continue;
        char arg[100];
        snprintf(arg, sizeof(arg), "--%s=%s", def->name, def->fallback);
        struct option_values v;
        struct err err = {0};
        const char *words[] = {arg, NULL, NULL};
        parse_alone(&v, &err, command_of(def), words);
        assert_string_equal(options_text(&none, (enum option_id)id), def->fallback);
        options_release(&v);
    }
    assert_int_equal(options_duration_ms(&none, OPTION_RETRY_TIME), 12 * 3600 * 1000);
    assert_int_equal(options_duration_ms(&none, OPTION_CONNECT_TIMEOUT), 10000);
    assert_int_equal(options_choice(&none, OPTION_LOG_LEVEL), 2);
    assert_null(options_text(&none, OPTION_SPOOL_DIR));
}

static void wrong_values_are_refused(void **state)
{
    (void)state;
    REFUSED("--type: must be one of full+incremental|full|incremental", "--type=ful");
    REFUSED("--type: must be one of full+incremental|full|incremental", "--type=full|incremental");
    REFUSED("--on-conflict: must be one of fail|overwrite|skip", "--on-conflict", "FAIL");
    REFUSED("--on-error: must be one of stop|continue", "--on-error", "ignore");
    REFUSED("--until: must be one of stopped|caught-up", "--until", "caught_up");
    REFUSED("--output: must be one of human|json", "--output", "xml");
    REFUSED("--log-level: must be one of error|warn|info|debug", "--log-level", "trace");
    REFUSED("--spool-max: must be a size: 500M, 10G, 10Gi", "--spool-max", "much");
    static const char *const times[] = {"--connect-timeout", "--io-timeout", "--retry-time"};
    for (int i = 0; i < 3; i++) {
        char want[160];
        snprintf(want, sizeof(want), "%s: must be a number with its unit: 500ms, 10s, 5m, 12h",
                 times[i]);
        REFUSED(want, times[i], "10");
        REFUSED(want, times[i], "-1s");
    }
}

static void lists_may_be_given_in_parts(void **state)
{
    (void)state;
    struct option_values v;
    struct err err = {0};
    const char *words[] = {"a.rdb",        "--keys", "a*,b", "--skip-keys=x",
                           "--keys=c\\\\", "--keys", "-d",   NULL};
    assert_int_equal(parse(&v, &err, RESTORE, words), 0);
    assert_string_equal(options_text(&v, OPTION_KEYS), "a*,b,c\\\\,-d");
    assert_string_equal(options_text(&v, OPTION_SKIP_KEYS), "x");
    options_release(&v);
    const char *const bad[] = {"a\\", "\\", "a\\\\\\"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *one[] = {"a.rdb", "--keys", bad[i], NULL};
        assert_int_equal(parse(&v, &err, RESTORE, one), -1);
        assert_string_equal(err.msg,
                            "--keys: a backslash at the end stands for nothing; write two");
    }
    const char *unlike[] = {"a.rdb", "--keyz=a", NULL};
    assert_int_equal(parse(&v, &err, RESTORE, unlike), -1);
    assert_string_equal(err.msg, "--keyz: unknown option, did you mean --keys?");
}

static void unknown_options_are_named_with_the_nearest(void **state)
{
    (void)state;
    REFUSED("--sorce: unknown option, did you mean --source?", "--sorce", "x");
    REFUSED("--sorce: unknown option, did you mean --source?", "--sorce=redis://:pw@h");
    REFUSED("--frobnicate: unknown option", "--frobnicate");
    REFUSED("-source: unknown option, did you mean --source?", "-source", "x");
    REFUSED("-x: unknown option", "-x");
    /* getopt would take these for the whole names */
    REFUSED("--quie: unknown option, did you mean --quiet?", "--quie");
    REFUSED("--spool-d: unknown option, did you mean --spool-dir?", "--spool-d", "/tmp");
    REFUSED("--source-password: unknown option, did you mean --source-password-file?",
            "--source-password", "hunter2");
}

static void secrets_are_not_repeated(void **state)
{
    (void)state;
    REFUSED("unknown option", "--redis://:hunter2@h");
    REFUSED("unknown option", "--Hunter2");
    REFUSED("-p...: unknown option", "-phunter2");
    REFUSED("-p: unknown option", "-phunter");
    REFUSED("argument 1 is no option; servers are named by --source and --target",
            "redis://:hunter2@h");
    REFUSED("argument 2 is no option; servers are named by --source and --target", "--quiet",
            "hunter2");
    REFUSED("argument 2 is no option; servers are named by --source and --target", "--", "x");
}

static void expect_file(const char *want, const char *const *words)
{
    struct option_values v;
    struct err err = {0};
    if (parse(&v, &err, RESTORE, words) < 0) fail_msg("%s", err.msg);
    assert_string_equal(options_text(&v, OPTION_FILE), want);
    assert_true(options_given(&v, OPTION_QUIET));
    assert_string_equal(options_text(&v, OPTION_DB), "3");
    options_release(&v);
}

#define FILE_IS(want, ...) expect_file(want, (const char *const[]){__VA_ARGS__, NULL})

static void the_file_stands_first_or_last(void **state)
{
    (void)state;
    FILE_IS("dump.rdb", "dump.rdb", "--quiet", "--db", "3");
    FILE_IS("dump.rdb", "--quiet", "--db", "3", "dump.rdb");
    FILE_IS("dump.rdb", "--db=3", "--quiet", "--", "dump.rdb");
    FILE_IS("-", "-", "--quiet", "--db", "3");
    FILE_IS("-", "--quiet", "--db", "3", "-");
    FILE_IS("--x.rdb", "--quiet", "--db", "3", "--", "--x.rdb");
    FILE_IS("a file", "a file", "--db", "3", "--quiet");
}

static void there_is_one_file(void **state)
{
    (void)state;
    REFUSED_BY(RESTORE, "FILE: missing, say what to read", "--quiet");
    REFUSED_BY(RESTORE, "FILE: missing, say what to read", NULL);
    REFUSED_BY(RESTORE, "FILE: missing, say what to read", "--quiet", "--");
    REFUSED_BY(OPTION_COMMAND_BACKUP,
               "argument 1 is no option; the server is named by --source, the file by --output",
               "x.rdb");
    REFUSED_BY(RESTORE, "FILE: must not be empty", "");
    REFUSED_BY(RESTORE, "FILE: must not be empty", "--quiet", "");
    REFUSED_BY(RESTORE, "FILE: takes just one, argument 2 is too many", "a.rdb", "hunter2");
    REFUSED_BY(RESTORE, "FILE: takes just one, argument 3 is too many", "--quiet", "a.rdb",
               "hunter2");
    REFUSED_BY(RESTORE, "FILE: takes just one, argument 3 is too many", "a.rdb", "--quiet",
               "hunter2");
    REFUSED_BY(RESTORE, "unknown option", "--FILE", "x");
    REFUSED_BY(RESTORE, "--file: unknown option", "--file=x");
}

static void a_task_may_be_named(void **state)
{
    (void)state;
    static const char *const given[][4] = {
        {"shop", NULL}, {"shop", "--output", "json", NULL}, {"--output=json", "shop", NULL}};
    struct option_values v;
    struct err err = {0};
    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
        assert_int_equal(parse(&v, &err, OPTION_COMMAND_STATUS, given[i]), 0);
        assert_string_equal(options_text(&v, OPTION_TASK_NAME_MAYBE), "shop");
        options_release(&v);
    }
    const char *none[] = {"--output", "json", NULL};
    assert_int_equal(parse(&v, &err, OPTION_COMMAND_STATUS, none), 0);
    assert_false(options_given(&v, OPTION_TASK_NAME_MAYBE));
    options_release(&v);
    REFUSED_BY(OPTION_COMMAND_STATUS, "NAME: must not be empty", "");
    REFUSED_BY(OPTION_COMMAND_STATUS, "NAME: takes just one, argument 2 is too many", "a", "b");
    REFUSED_BY(OPTION_COMMAND_STOP, "NAME: missing, say which task (keyhaul status names them)",
               NULL);
}

static void passwords_are_stripped(void **state)
{
    (void)state;
    static const struct {
        const char *uri, *want;
    } c[] = {
        {"redis://u:pw@h:1/3", "redis://u@h:1/3"},
        {"redis://:pw@h", "redis://h"},
        {"redis://u@h:1", "redis://u@h:1"},
        {"redis://h:1/3", "redis://h:1/3"},
        {"redis://u:p@w:x@h:1?db=3", "redis://u@h:1?db=3"},
        {"redis://u:@h", "redis://u@h"},
        {"redis://[::1]:6379", "redis://[::1]:6379"},
        {"redis://u:pw@[::1]:6379", "redis://u@[::1]:6379"},
        {"unix://u:pw@/run/a@b:c.sock", "unix://u@/run/a@b:c.sock"},
        {"unix:///run/a@b:c.sock", "unix:///run/a@b:c.sock"},
        {"redis+sentinel://u:pw@h/n?sentinel-password=s&db=1",
         "redis+sentinel://u@h/n?sentinel-password=&db=1"},
        {"redis+sentinel://h/n?sentinel-user=g&sentinel-password=secret",
         "redis+sentinel://h/n?sentinel-user=g&sentinel-password="},
        {"redis+sentinel://h/n?sentinel-password=", "redis+sentinel://h/n?sentinel-password="},
        {"redis+sentinel://h/n?sentinel-password=a&sentinel-password=b",
         "redis+sentinel://h/n?sentinel-password=&sentinel-password="},
    };
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        char *uri = strdup(c[i].uri);
        size_t n = strlen(uri);
        option_strip_password(uri);
        assert_string_equal(uri, c[i].want);
        /* nor is it left behind the end */
        for (size_t at = strlen(uri); at <= n; at++)
            assert_int_equal(uri[at], 0);
        free(uri);
    }
}

static void help_ends_the_parse(void **state)
{
    (void)state;
    struct option_values v;
    struct err err = {0};
    assert_int_equal(PARSE(&v, &err, "--help", "--frobnicate"), 0);
    assert_true(options_given(&v, OPTION_HELP));
    options_release(&v);
    assert_int_equal(PARSE(&v, &err, "-h"), 0);
    assert_true(options_given(&v, OPTION_HELP));
    options_release(&v);
    const char *no_file[] = {"--help", NULL};
    assert_int_equal(parse(&v, &err, RESTORE, no_file), 0);
    assert_true(options_given(&v, OPTION_HELP));
    options_release(&v);
}

static void environment_gives_passwords(void **state)
{
    (void)state;
    struct option_values v;
    struct err err = {0};
    setenv("KEYHAUL_SOURCE_PASSWORD", "from-env", 1);
    setenv("KEYHAUL_TARGET_PASSWORD", "", 1);
    assert_int_equal(PARSE(&v, &err, "--quiet"), 0);
    assert_string_equal(options_text(&v, OPTION_ENV_SOURCE_PASSWORD), "from-env");
    assert_false(options_given(&v, OPTION_ENV_TARGET_PASSWORD));
    options_release(&v);
    unsetenv("KEYHAUL_SOURCE_PASSWORD");
    unsetenv("KEYHAUL_TARGET_PASSWORD");
    REFUSED("unknown option", "--KEYHAUL_SOURCE_PASSWORD=x");
    setenv("KEYHAUL_SOURCE_PASSWORD", "from-env", 1); /* a restore has no source to log in to */
    const char *words[] = {"dump.rdb", NULL};
    assert_int_equal(parse(&v, &err, RESTORE, words), 0);
    assert_false(options_given(&v, OPTION_ENV_SOURCE_PASSWORD));
    options_release(&v);
    unsetenv("KEYHAUL_SOURCE_PASSWORD");
}

static void uris_are_wiped_in_argv(void **state)
{
    (void)state;
    const char *words[] = {"--source", "redis://u:p@ss@h:1/0", "--target=unix:///x.sock", NULL};
    struct args a = make_args(words);
    struct option_values v;
    struct err err = {0};
    assert_int_equal(options_parse(&v, OPTION_COMMAND_MIGRATE, a.n, a.v, &err), 0);
    assert_string_equal(v.text[OPTION_SOURCE], "redis://u:p@ss@h:1/0");
    assert_string_equal(a.v[2], "redis://***@h:1/0");
    assert_string_equal(a.v[3], "--target=unix:///x.sock");
    options_release(&v);
    free_args(&a);
    a = make_args((const char *const[]){"redis://u:p@ss@h:1/0", "--quiet", NULL});
    assert_int_equal(options_parse(&v, OPTION_COMMAND_INSPECT, a.n, a.v, &err), 0);
    assert_string_equal(v.text[OPTION_INPUT], "redis://u:p@ss@h:1/0");
    assert_string_equal(a.v[1], "redis://***@h:1/0");
    options_release(&v);
    free_args(&a);
}

static void wipe_leaves_nothing(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"redis://user:hunter2@host", "redis://***@host"},
        {"redis://a@host", "redis://*@host"},
        {"redis://@host", "redis://@host"},
        {"user:hunter2@host", "***@host"},
        {"rediss://:hun/te@r2@host:1/2", "rediss://***@host:1/2"},
        {"x@y://host", "*@y://host"},
        {"redis://host/0", "redis://host/0"},
        {"redis+sentinel://h/n?sentinel-password=secret&db=1",
         "redis+sentinel://h/n?sentinel-password=***&db=1"},
        {"redis+sentinel://h/n?sentinel-password=s", "redis+sentinel://h/n?sentinel-password=*"},
        {"redis+sentinel://u:p@h/n?sentinel-password=secret",
         "redis+sentinel://***@h/n?sentinel-password=***"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char uri[80] = {0}, all[80] = {0};
        snprintf(uri, sizeof(uri), "%s", cases[i][0]);
        snprintf(all, sizeof(all), "%s", cases[i][1]);
        option_wipe_uri(uri);
        assert_memory_equal(uri, all, sizeof(uri)); /* also behind the end */
    }
}

static void durations(void **state)
{
    (void)state;
    int64_t ms = 7;
    assert_true(option_read_duration("500ms", &ms) && ms == 500);
    assert_true(option_read_duration("0s", &ms) && ms == 0);
    assert_true(option_read_duration("10s", &ms) && ms == 10000);
    assert_true(option_read_duration("5m", &ms) && ms == 300000);
    assert_true(option_read_duration("12h", &ms) && ms == 43200000);
    assert_true(option_read_duration("7d", &ms) && ms == 604800000);
    static const char *const bad[] = {"",
                                      "s",
                                      "5",
                                      "5 s",
                                      " 5s",
                                      "-5s",
                                      "+5s",
                                      "1.5s",
                                      "5sec",
                                      "5s5",
                                      "99999999999999999999s",
                                      "9223372036854775807d"};
    ms = 7;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(option_read_duration(bad[i], &ms));
    assert_int_equal(ms, 7);
}

static void sizes(void **state)
{
    (void)state;
    uint64_t n = 7;
    assert_true(option_read_size("4096", &n) && n == 4096);
    assert_true(option_read_size("500M", &n) && n == 500000000);
    assert_true(option_read_size("10G", &n) && n == 10000000000);
    assert_true(option_read_size("10Gi", &n) && n == 10737418240);
    assert_true(option_read_size("2k", &n) && n == 2000);
    assert_true(option_read_size("1Ti", &n) && n == 1099511627776);
    static const char *const bad[] = {
        "", "G", "1.5G", "-1", "10GG", "10 G", "18446744073709551616", "99999999T"};
    n = 7;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(option_read_size(bad[i], &n));
    assert_int_equal(n, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_whole),
        cmocka_unit_test(every_option_is_parsed),
        cmocka_unit_test(options_belong_to_commands),
        cmocka_unit_test(the_file_stands_first_or_last),
        cmocka_unit_test(there_is_one_file),
        cmocka_unit_test(a_task_may_be_named),
        cmocka_unit_test(passwords_are_stripped),
        cmocka_unit_test(every_option_needs_its_value),
        cmocka_unit_test(defaults_pass_their_own_check),
        cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(lists_may_be_given_in_parts),
        cmocka_unit_test(unknown_options_are_named_with_the_nearest),
        cmocka_unit_test(secrets_are_not_repeated),
        cmocka_unit_test(help_ends_the_parse),
        cmocka_unit_test(environment_gives_passwords),
        cmocka_unit_test(uris_are_wiped_in_argv),
        cmocka_unit_test(wipe_leaves_nothing),
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
