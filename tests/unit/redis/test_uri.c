// SPDX-License-Identifier: BSD-3-Clause
// URIs: what is taken, what is refused, and that no password is ever shown.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis/uri.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    bool tls;
    const char *unix_path, *host, *port, *user, *password;
    int db;
    const char *shown;
} good[] = {
    {"redis://h", false, NULL, "h", "6379", NULL, NULL, -1, "redis://h:6379"},
    {"redis://h/", false, NULL, "h", "6379", NULL, NULL, -1, "redis://h:6379"},
    {"REDISS://h.ex-am_ple.org:1", true, NULL, "h.ex-am_ple.org", "1", NULL, NULL, -1,
     "rediss://h.ex-am_ple.org:1"},
    {"redis://10.0.0.1:65535/15", false, NULL, "10.0.0.1", "65535", NULL, NULL, 15,
     "redis://10.0.0.1:65535/15"},
    {"redis://:sesame@h", false, NULL, "h", "6379", NULL, "sesame", -1, "redis://h:6379"},
    {"redis://joe@h", false, NULL, "h", "6379", "joe", NULL, -1, "redis://h:6379"},
    {"redis://joe:@h", false, NULL, "h", "6379", "joe", NULL, -1, "redis://h:6379"},
    {"redis://joe:se:sa@me@h:7000/0", false, NULL, "h", "7000", "joe", "se:sa@me", 0,
     "redis://h:7000/0"},
    {"redis://j%6Fe%3A:%2f%3F%23%25%40%ff@h", false, NULL, "h", "6379", "joe:", "/?#%@\xff", -1,
     "redis://h:6379"},
    {"redis://:%41@h?db=2", false, NULL, "h", "6379", NULL, "A", 2, "redis://h:6379/2"},
    {"redis://[::1]", false, NULL, "::1", "6379", NULL, NULL, -1, "redis://[::1]:6379"},
    {"rediss://:p@[2001:db8::7]:6380/1", true, NULL, "2001:db8::7", "6380", NULL, "p", 1,
     "rediss://[2001:db8::7]:6380/1"},
    {"redis://[fe80::1%eth0]:1", false, NULL, "fe80::1%eth0", "1", NULL, NULL, -1,
     "redis://[fe80::1%eth0]:1"},
    {"unix:///run/redis.sock", false, "/run/redis.sock", NULL, "", NULL, NULL, -1,
     "unix:///run/redis.sock"},
    {"unix:///a%20b@c.sock?db=7", false, "/a b@c.sock", NULL, "", NULL, NULL, 7,
     "unix:///a b@c.sock?db=7"},
    {"unix://joe:pw@/r.sock", false, "/r.sock", NULL, "", "joe", "pw", -1, "unix:///r.sock"},
    {"redis://h/2147483647", false, NULL, "h", "6379", NULL, NULL, 2147483647,
     "redis://h:6379/2147483647"},
};

static void test_several(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown;
        unsigned n;
        const char *host[3], *port[3], *alone;
    } many[] = {
        {"redis://a,b", "redis://a:6379,b:6379", 2, {"a", "b"}, {"6379", "6379"}, "redis://b:6379"},
        {"rediss://j,oe:p,w@a:1,[::1]:2,c/3",
         "rediss://a:1,[::1]:2,c:6379/3",
         3,
         {"a", "::1", "c"},
         {"1", "2", "6379"},
         "rediss://[::1]:2/3"},
        {"redis://[::2],[fe80::1%eth0]:9?db=0",
         "redis://[::2]:6379,[fe80::1%eth0]:9/0",
         2,
         {"::2", "fe80::1%eth0"},
         {"6379", "9"},
         "redis://[fe80::1%eth0]:9/0"},
    };
    for (size_t i = 0; i < sizeof(many) / sizeof(*many); i++) {
        struct uri u;
        struct err err = {.msg = ""};
        char alone[160];
        if (uri_parse(&u, many[i].text, &err) < 0) fail_msg("%s: %s", many[i].text, err.msg);
        assert_int_equal(uri_addresses(&u), many[i].n);
        for (unsigned k = 0; k < many[i].n; k++) {
            assert_string_equal(uri_host(&u, k), many[i].host[k]);
            assert_string_equal(uri_port(&u, k), many[i].port[k]);
        }
        assert_string_equal(u.shown, many[i].shown);
        assert_string_equal(uri_show(alone, &u, 1), many[i].alone);
        uri_release(&u);
        assert_int_equal(uri_addresses(&u), 1);
    }
}

/* What is shown stays whole, however many and however long they are. */
static void test_very_many(void **state)
{
    (void)state;
    char text[4096] = "redis://u:s3cret@";
    for (unsigned n = 1; n <= URI_ADDRESSES_MAX + 1; n++) {
        struct uri u;
        struct err err;
        size_t at = strlen(text);
        memset(text + at, 'h', 40);
        snprintf(text + at + 40, sizeof(text) - at - 40, "%u:65535", n);
        char whole[4200];
        snprintf(whole, sizeof(whole), "%s/2147483647", text);
        int rc = uri_parse(&u, whole, &err);
        assert_int_equal(rc, n <= URI_ADDRESSES_MAX ? 0 : -1);
        if (rc == 0) {
            const char *end = strrchr(u.shown, '/');
            assert_string_equal(end, "/2147483647");
            assert_int_equal(strstr(u.shown, ",...") != NULL, n > 2);
            assert_true(strlen(u.shown) < sizeof(u.shown) - 1);
            uri_release(&u);
        } else {
            assert_null(strstr(err.msg, "hhh"));
        }
        snprintf(text + strlen(text), 2, ",");
    }
}

static void same(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a && b) assert_string_equal(a, b);
}

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct uri u;
        struct err err = {.msg = ""};
        if (uri_parse(&u, good[i].text, &err) < 0) fail_msg("%s: %s", good[i].text, err.msg);
        assert_int_equal(u.tls, good[i].tls);
        same(u.unix_path, good[i].unix_path);
        same(u.host, good[i].host);
        same(u.port, good[i].port);
        same(u.user, good[i].user);
        same(u.password, good[i].password);
        assert_int_equal(u.db, good[i].db);
        assert_string_equal(u.shown, good[i].shown);
        uri_release(&u);
        uri_release(&u);
        assert_null(u.password);
    }
}

/* Each holds a secret where one may stand by mistake; `words` is the help that must be given. */
static const struct {
    const char *text, *words;
} bad[] = {
    {"redis://:s3cret@a,", "no host"},
    {"redis://:s3cret@,a", "no host"},
    {"redis://:s3cret@a,,b", "no host"},
    {"redis://:s3cret@a:1,b:0", "from 1 to 65535"},
    {"redis://:s3cret@a,b:1:2", "more than one ':'"},
    {"redis://:s3cret@a,[::1", "no IPv6"},
    {"redis://:s3cret@a, b", "space"},
    {"redis://:s3cret@a/1,b/1", "a number"},
    {"redis+sentinel://:s3cret@s", "mymaster"},
    {"redis+sentinel://:s3cret@s/", "mymaster"},
    {"redis+sentinel://:s3cret@s//3", "mymaster"},
    {"redis+sentinel://:s3cret@s/n%41", "mymaster"},
    {"redis+sentinel://:s3cret@s/n/x", "a number"},
    {"redis+sentinel://:s3cret@s/n/1/2", "a number"},
    {"redis+sentinel://s/n?sentinel-password=s3cret&sentinel-password=x", "twice"},
    {"redis+sentinel://s/n?sentinel-password=s3cret%", "%25"},
    {"redis+sentinel://s/n?password=s3cret", "sentinel-password="},
    {"redis+sentinel://s/n?s3cret", "sentinel-password="},
    {"redis://h?sentinel-password=s3cret", "only db=N"},
    {"", "empty"},
    {"s3cret", "redis://host:port"},
    {"s3cret.host:6379", "redis://host:port"},
    {"redis:s3cret", "redis://host:port"},
    {"http://s3cret", "redis://, rediss://"},
    {"s3cret://h", "redis://, rediss://"},
    {"://s3cret", "redis://, rediss://"},
    {"redis://", "names no host"},
    {"redis:///3", "names no host"},
    {"redis://:s3cret@", "names no host"},
    {"redis://:s3cret@:6379", "names no host"},
    {"redis://joe:s3cret", "%3A"},
    {"redis://h:0", "1 to 65535"},
    {"redis://h:65536", "1 to 65535"},
    {"redis://h:", "1 to 65535"},
    {"redis://h:+1", "1 to 65535"},
    {"redis://h:99999999999999999999999", "1 to 65535"},
    {"redis://:s3/cret@h:6379", "%2F"},
    {"redis://:s3?cret@h:6379", "%3F"},
    {"redis://:s3#cret@h:6379", "%23"},
    {"redis://:s3cret%@h", "%25"},
    {"redis://:s3cret%4@h", "%25"},
    {"redis://:s3cret%4g@h", "%25"},
    {"redis://:s3cret%00@h", "%00"},
    {"redis://s3cret%zz:p@h", "%25"},
    {"redis://:s3 cret@h", "%20"},
    {"redis://h\n", "control character"},
    {"redis://h/s3cret", "must be a number"},
    {"redis://h/1/2", "must be a number"},
    {"redis://h/-1", "must be a number"},
    {"redis://h/2147483648", "must be a number"},
    {"redis://h/1?db=2", "twice"},
    {"redis://h?password=s3cret", "db=N"},
    {"redis://h?db=1&x=s3cret", "only db=N"},
    {"redis://h?", "db=N"},
    {"redis://h?db=", "must be a number"},
    {"redis://h#s3cret", "'#'"},
    {"redis://::1", "brackets"},
    {"redis://2001:db8::7:6379", "brackets"},
    {"redis://[::1", "IPv6"},
    {"redis://[s3cret]", "IPv6"},
    {"redis://[]", "IPv6"},
    {"redis://[::1%]", "IPv6"},
    {"redis://[::1]x", "between the address and the port"},
    {"redis://[::1]:", "1 to 65535"},
    {"redis://h[0]", "characters"},
    {"redis://h%41", "characters"},
    {"unix://", "unix:///run/redis.sock"},
    {"unix:///", "unix:///run/redis.sock"},
    {"unix://run/s3cret", "unix:///run/redis.sock"},
    {"unix:///r?db=x", "must be a number"},
    {"unix:///r?s3cret", "db=N"},
    {"unix:///r%0a", "control character"},
    {"unix:///r%00", "%00"},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct uri u, before;
        struct err err = {.msg = ""};
        memset(&u, 0x11, sizeof(u));
        before = u;
        if (uri_parse(&u, bad[i].text, &err) == 0) fail_msg("%s is taken", bad[i].text);
        assert_int_equal(err.code, ERR_USAGE);
        if (!strstr(err.msg, bad[i].words)) fail_msg("%s: %s", bad[i].text, err.msg);
        assert_null(strstr(err.msg, "s3"));
        assert_null(strstr(err.msg, "cret"));
        assert_memory_equal(&u, &before, sizeof(u));
    }
}

static void test_long(void **state)
{
    (void)state;
    char text[10000] = "redis://";
    struct uri u;
    struct err err;
    memset(text + 8, 'h', 253);
    assert_int_equal(uri_parse(&u, text, &err), 0);
    assert_int_equal(strlen(u.host), 253);
    assert_true(strlen(u.shown) < sizeof(u.shown));
    uri_release(&u);
    memset(text + 8, 'h', 254);
    assert_int_equal(uri_parse(&u, text, &err), -1);
    memset(text + 8, 'h', sizeof(text) - 9);
    assert_int_equal(uri_parse(&u, text, &err), -1);
    assert_non_null(strstr(err.msg, "too long"));
}

/* Whatever stands there: no crash, no leak, and never the password in what is shown. */
static void test_cut_and_changed(void **state)
{
    (void)state;
    static const char chars[] = ":/@?#[]%& =a0\x80";
    static const char text[] = "rediss://jo%65:pQ%5a@[::1]:6380/12?db=3";
    struct err err;
    for (size_t cut = 0; cut <= sizeof(text) - 1; cut++) {
        for (size_t at = 0; at <= cut; at++) {
            for (size_t c = 0; c < sizeof(chars); c++) {
                char *copy = malloc(cut + 1);
                struct uri u;
                memcpy(copy, text, cut);
                copy[cut] = 0;
                if (at < cut) copy[at] = chars[c];
                if (uri_parse(&u, copy, &err) == 0) {
                    /* behind an '@' it is the host */
                    if (!strstr(copy, "@pQ")) assert_null(strstr(u.shown, "pQ"));
                    uri_release(&u);
                } else {
                    assert_null(strstr(err.msg, "pQ"));
                }
                free(copy);
            }
        }
    }
}

static void test_sentinel(void **state)
{
    (void)state;
    struct uri u;
    assert_int_equal(uri_parse(&u,
                               "rediss+sentinel://jo:se%20cret@s1,s2:1,[::1]/my-master.1/3?"
                               "sentinel-user=guard&sentinel-password=s%26p",
                               NULL),
                     0);
    assert_true(u.tls && u.db == 3);
    assert_string_equal(u.sentinel, "my-master.1");
    assert_string_equal(u.user, "jo");
    assert_string_equal(u.password, "se cret");
    assert_string_equal(u.sentinel_user, "guard");
    assert_string_equal(u.sentinel_password, "s&p");
    assert_int_equal(uri_addresses(&u), 3);
    assert_string_equal(uri_port(&u, 0), "26379");
    assert_string_equal(uri_port(&u, 1), "1");
    assert_string_equal(uri_port(&u, 2), "26379");
    assert_string_equal(u.shown, "rediss+sentinel://s1:26379,s2:1,[::1]:26379/my-master.1/3");
    struct uri server;
    assert_int_equal(uri_with_address(&server, &u, "h", "6379", NULL), 0);
    assert_null(server.sentinel);
    assert_null(server.sentinel_password);
    assert_string_equal(server.shown, "rediss://h:6379/3");
    uri_release(&server);
    uri_release(&u);
    assert_null(u.sentinel_password);

    assert_int_equal(uri_parse(&u, "redis+sentinel://s/n?db=2&sentinel-password=x", NULL), 0);
    assert_int_equal(u.db, 2);
    assert_false(u.tls);
    uri_release(&u);
}

/* However long names are, what is shown ends well. */
static void test_sentinel_of_a_long_name(void **state)
{
    (void)state;
    char text[2000] = "redis+sentinel://";
    size_t n = strlen(text);
    for (int i = 0; i < 10; i++) {
        memset(text + n, 'h', 100);
        text[n + 100] = i < 9 ? ',' : '/';
        n += 101;
    }
    memset(text + n, 'm', 200);
    snprintf(text + n + 200, 20, "/2147483647");
    struct uri u;
    assert_int_equal(uri_parse(&u, text, NULL), 0);
    assert_true(strlen(u.shown) < sizeof(u.shown));
    assert_non_null(strstr(u.shown, ",.../mmm"));
    assert_non_null(strstr(u.shown, "m/2147483647"));
    uri_release(&u);
}

static void test_with_address(void **state)
{
    (void)state;
    struct uri base, u;
    assert_int_equal(uri_parse(&base, "rediss://jo:secret@a:1,b:2/3", NULL), 0);
    assert_int_equal(uri_with_address(&u, &base, "::1", "7000", NULL), 0);
    uri_release(&base);
    assert_string_equal(u.host, "::1");
    assert_string_equal(u.port, "7000");
    assert_string_equal(u.user, "jo");
    assert_string_equal(u.password, "secret");
    assert_string_equal(u.shown, "rediss://[::1]:7000/3");
    assert_int_equal(uri_addresses(&u), 1);
    assert_true(u.tls && u.db == 3);
    uri_release(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_very_many),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_cut_and_changed),
        cmocka_unit_test(test_with_address),
        cmocka_unit_test(test_sentinel),
        cmocka_unit_test(test_sentinel_of_a_long_name),
    };
    return cmocka_run_group_tests_name("uri", tests, NULL, NULL);
}
