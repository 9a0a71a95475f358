// SPDX-License-Identifier: BSD-3-Clause
// The log: its lines to the byte, in text and JSON, and from several threads at once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];
static unsigned before_calls, after_calls;

static int64_t fixed_time(void)
{
    return 1795348800123; /* 2026-11-22T12:00:00.123Z */
}

static int64_t early_time(void)
{
    return 7;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/kh-log-XXXXXX");
    int fd = mkstemp(path);
    close(fd);
    clock_set_wall(fixed_time);
    return fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_close();
    clock_set_wall(NULL);
    return unlink(path);
}

static void open_log(enum log_level level, bool json)
{
    struct err err;
    struct log_config cfg = {.level = level, .json = json, .file = path};
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(log_open(&cfg, &err), 0);
}

static char *content(void)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = 0;
    fclose(f);
    return text;
}

static void test_text_lines(void **state)
{
    (void)state;
    open_log(LOG_DEBUG, false);
    errno = 42;
    log_error("lost %d", 3);
    assert_int_equal(errno, 42);
    log_warn("w");
    log_info("two\nlines\r\ttab \x1b[31m \xff caf\xc3\xa9 \\ \"q\"");
    clock_set_wall(early_time);
    log_debug("%s", "");
    clock_set_wall(fixed_time);
    assert_string_equal(content(), "2026-11-22T12:00:00.123Z ERROR lost 3\n"
                                   "2026-11-22T12:00:00.123Z WARN  w\n"
                                   "2026-11-22T12:00:00.123Z INFO  two\\nlines\\r\\ttab \\x1b[31m "
                                   "\\xff caf\xc3\xa9 \\ \"q\"\n"
                                   "1970-01-01T00:00:00.007Z DEBUG \n");
}

#define HEAD "{\"ts\":\"2026-11-22T12:00:00.123Z\",\"level\":"

static void test_json_lines(void **state)
{
    (void)state;
    open_log(LOG_INFO, true);
    log_error("plain");
    log_warn("q\" b\\ s/ n\n r\r t\t e\x1b d\x7f z\x01");
    log_info("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    log_debug("not this");
    assert_string_equal(content(), HEAD "\"error\",\"msg\":\"plain\"}\n" HEAD
                                        "\"warn\",\"msg\":\"q\\\" b\\\\ s/ n\\n r\\r t\\t e\\u001b "
                                        "d\\u007f z\\u0001\"}\n" HEAD
                                        "\"info\",\"msg\":\"caf\xc3\xa9 \xe2\x82\xac "
                                        "\xf0\x9f\x98\x80\"}\n");
}

static void test_broken_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } t[] = {
        {"\xff", "\\ufffd"},
        {"\x80", "\\ufffd"},
        {"\xc3", "\\ufffd"},                                  /* cut short */
        {"\xe2\x82", "\\ufffd\\ufffd"},                       /* cut short */
        {"\xc0\xaf", "\\ufffd\\ufffd"},                       /* overlong */
        {"\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd"},            /* overlong */
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},            /* surrogate */
        {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* above U+10FFFF */
        {"\xf0\x8f\xbf\xbf", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* overlong */
        {"\xf5\x80\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
        {"\xc3(", "\\ufffd("},
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
    };
    for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
        char want[200];
        open_log(LOG_INFO, true);
        log_info("%s", t[i].in);
        snprintf(want, sizeof(want), HEAD "\"info\",\"msg\":\"%s\"}\n", t[i].out);
        assert_string_equal(content(), want);
    }
}

static void test_long_words(void **state)
{
    (void)state;
    char *big = malloc(100000);
    memset(big, 1, 99999); /* each becomes six characters */
    big[99999] = 0;
    open_log(LOG_INFO, true);
    log_info("%s", big);
    char *text = content();
    size_t n = strlen(text);
    assert_in_range(n, 6 * 2000, 6 * 2100);
    assert_string_equal(text + n - 6, "...\"}\n");
    free(big);
}

static void test_levels(void **state)
{
    (void)state;
    open_log(LOG_ERROR, false);
    assert_true(log_enabled(LOG_ERROR));
    assert_false(log_enabled(LOG_WARN));
    log_warn("no");
    assert_string_equal(content(), "");
    log_close();
    assert_true(log_enabled(LOG_INFO)); /* as before it was opened */
    assert_false(log_enabled(LOG_DEBUG));
}

static void test_file_that_cannot_be(void **state)
{
    (void)state;
    struct err err = {.msg = ""};
    struct log_config cfg = {.level = LOG_ERROR, .file = "/no/such/log"};
    open_log(LOG_DEBUG, false);
    assert_int_equal(log_open(&cfg, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/no/such/log"));
    assert_true(log_enabled(LOG_DEBUG)); /* the one before goes on */
}

static void around(bool before)
{
    if (before)
        before_calls++;
    else
        after_calls++;
}

static void test_around(void **state)
{
    (void)state;
    struct err err;
    struct log_config cfg = {.level = LOG_INFO, .around = around};
    int keep = dup(STDERR_FILENO), fd = open(path, O_WRONLY | O_TRUNC);
    before_calls = after_calls = 0;
    dup2(fd, STDERR_FILENO);
    int rc = log_open(&cfg, &err);
    log_info("seen");
    log_debug("not seen");
    dup2(keep, STDERR_FILENO);
    close(keep);
    close(fd);
    assert_int_equal(rc, 0);
    assert_int_equal(before_calls, 1);
    assert_int_equal(after_calls, 1);
    assert_string_equal(content(), "2026-11-22T12:00:00.123Z INFO  seen\n");
    cfg.file = path;
    assert_int_equal(log_open(&cfg, &err), 0);
    log_info("to a file: the terminal is not touched");
    assert_int_equal(before_calls, 1);
}

static void *many_lines(void *arg)
{
    for (unsigned i = 0; i < 500; i++)
        log_info("%s", (const char *)arg);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static char words[4][300];
    pthread_t t[4];
    clock_set_wall(NULL);
    open_log(LOG_INFO, false);
    for (unsigned i = 0; i < 4; i++) {
        memset(words[i], 'a' + (int)i, sizeof(words[i]) - 1);
        assert_int_equal(pthread_create(&t[i], NULL, many_lines, words[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    unsigned lines = 0;
    for (char *save = NULL, *l = strtok_r(content(), "\n", &save); l;
         l = strtok_r(NULL, "\n", &save), lines++) {
        assert_int_equal(strlen(l), 31 + 299);
        assert_int_equal(strspn(l + 31, (char[]){l[31], 0}), 299);
    }
    assert_int_equal(lines, 2000);
}

static void *named_lines(void *arg)
{
    struct log_name n;
    log_name_begin(&n, arg);
    log_info("a");
    log_name_change(&n, "renamed");
    log_info("b");
    log_name_end(&n);
    log_info("c");
    return NULL;
}

/* A thread's own lines have its name, those of others have not. */
static void test_names(void **state)
{
    (void)state;
    static char name[] = "shard 2 (h:1)";
    pthread_t t;
    struct log_name long_one;
    char words[3000];
    open_log(LOG_INFO, false);
    assert_int_equal(pthread_create(&t, NULL, named_lines, name), 0);
    pthread_join(t, NULL);
    log_info("d");
    assert_string_equal(content(), "2026-11-22T12:00:00.123Z INFO  shard 2 (h:1): a\n"
                                   "2026-11-22T12:00:00.123Z INFO  renamed: b\n"
                                   "2026-11-22T12:00:00.123Z INFO  c\n"
                                   "2026-11-22T12:00:00.123Z INFO  d\n");
    open_log(LOG_INFO, false);
    memset(words, 'n', sizeof(words) - 1);
    words[sizeof(words) - 1] = 0;
    log_name_begin(&long_one, words);
    log_info("%s", words);
    log_name_end(&long_one);
    assert_int_equal(strlen(content()), 31 + 2047 + 1);
    assert_string_equal(content() + 31 + 2044, "...\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_broken_utf8, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_words, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_levels, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_that_cannot_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_around, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
