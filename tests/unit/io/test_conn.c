// SPDX-License-Identifier: BSD-3-Clause
// Plain connections over real sockets: TCP and Unix, short writes, every way a peer can go away.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "io/conn.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static char port[8], root[64], sock[96];

typedef int look_up_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* In the place of the C library's: names of our own under .test, as there may be no name server. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    look_up_fn *real;
    void *sym = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&real, &sym, sizeof(real));
    if (strcmp(host, "none.test") == 0) return EAI_NONAME;
    if (strcmp(host, "later.test") == 0) return EAI_AGAIN;
    if (strcmp(host, "broken.test") == 0) return EAI_FAIL;
    if (strcmp(host, "two.test") != 0) return real(host, service, hints, ret);
    struct addrinfo *first, *second;
    if (real("127.0.0.2", service, hints, &first) != 0) return EAI_FAIL;
    if (real("127.0.0.1", service, hints, &second) != 0) return EAI_FAIL;
    first->ai_next = second;
    *ret = first;
    return 0;
}

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof(root), "/tmp/kh-conn-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(sock, sizeof(sock), "%s/s", root);
    return 0;
}

static int drop_root(void **state)
{
    (void)state;
    unlink(sock);
    return rmdir(root);
}

static int listen_tcp(int backlog)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    snprintf(port, sizeof(port), "%u", ntohs(a.sin_port));
    return fd;
}

static int listen_unix(int type, int backlog)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s", sock);
    unlink(sock);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    if (type == SOCK_STREAM) assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

static struct conn *open_to(const char *host)
{
    struct conn_addr a = {.host = host, .port = port, .connect_timeout_ms = 5000};
    struct conn *c = NULL;
    struct err err = {.msg = ""};
    if (conn_open(&c, &a, NULL, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

/* A connection and the peer's end of it. */
static struct conn *open_pair(int *ret_peer)
{
    int l = listen_tcp(5);
    struct conn *c = open_to("127.0.0.1");
    *ret_peer = accept(l, NULL, NULL);
    assert_true(*ret_peer >= 0);
    close(l);
    return c;
}

static void expect_fail(const struct conn_addr *a, enum err_code code, const char *words)
{
    struct conn *c = (void *)&port;
    struct err err = {.msg = ""};
    assert_int_equal(conn_open(&c, a, NULL, &err), -1);
    if (err.code != code || !strstr(err.msg, words)) fail_msg("%d %s", (int)err.code, err.msg);
    assert_ptr_equal(c, &port);
}

static int option(const struct conn *c, int level, int name)
{
    int v = -1;
    socklen_t n = sizeof(v);
    getsockopt(conn_fd(c), level, name, &v, &n);
    return v;
}

static void test_options(void **state)
{
    (void)state;
    int peer;
    struct conn *c = open_pair(&peer);
    assert_true(option(c, IPPROTO_TCP, TCP_NODELAY) > 0);
    assert_true(option(c, SOL_SOCKET, SO_KEEPALIVE) > 0);
    assert_int_equal(option(c, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    assert_int_equal(option(c, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    assert_int_equal(option(c, IPPROTO_TCP, TCP_KEEPCNT), 3);
    assert_int_equal(option(c, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
    assert_true(fcntl(conn_fd(c), F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(conn_fd(c), F_GETFL) & O_NONBLOCK);
    assert_int_equal(conn_want(c, true, false), POLLIN);
    assert_int_equal(conn_want(c, false, true), POLLOUT);
    assert_int_equal(conn_want(c, true, true), POLLIN | POLLOUT);
    assert_false(conn_pending(c));
    conn_close(c);
    conn_close(NULL);
    close(peer);
}

static void talk(struct conn *c, int peer)
{
    char buf[20] = "";
    struct err err;
    assert_int_equal(conn_read(c, buf, sizeof(buf), &err), 0); /* nothing there, and no wait */
    assert_int_equal(conn_read(c, buf, 0, &err), 0);
    assert_int_equal(conn_wait(c, true, false, 0, &err), 0);
    assert_int_equal(conn_wait(c, false, true, 1000, &err), 1);
    assert_int_equal(conn_write(c, "ping", 4, &err), 4);
    assert_int_equal(read(peer, buf, sizeof(buf)), 4);
    assert_int_equal(write(peer, "+PONG\r\n", 7), 7);
    assert_int_equal(conn_wait(c, true, false, 1000, &err), 1);
    assert_int_equal(conn_read(c, buf, 3, &err), 3);
    assert_int_equal(conn_read(c, buf + 3, 17, &err), 4);
    assert_memory_equal(buf, "+PONG\r\n", 7);
}

static void test_talk(void **state)
{
    (void)state;
    int peer;
    struct conn *c = open_pair(&peer);
    talk(c, peer);
    conn_close(c);
    assert_int_equal(read(peer, (char[1]){0}, 1), 0);
    close(peer);
    /* By name: where it has two addresses, nobody listens at the first (::1). */
    int l = listen_tcp(5);
    c = open_to("localhost");
    peer = accept(l, NULL, NULL);
    talk(c, peer);
    conn_close(c);
    close(peer);
    close(l);
}

static void test_unix(void **state)
{
    (void)state;
    struct conn_addr a = {.unix_path = sock};
    struct conn *c;
    struct err err;
    int l = listen_unix(SOCK_STREAM, 5);
    assert_int_equal(conn_open(&c, &a, NULL, &err), 0);
    int peer = accept(l, NULL, NULL);
    talk(c, peer);
    conn_close(c);
    close(peer);
    close(l);
    expect_fail(&a, ERR_NET, "refused"); /* the file is left, nobody listens */
    l = listen_unix(SOCK_DGRAM, 0);
    expect_fail(&a, ERR_USAGE, "not a stream socket");
    close(l);
    unlink(sock);
    expect_fail(&a, ERR_NET, "no such socket");
    char path[200];
    memset(path, 'p', sizeof(path));
    path[0] = '/';
    path[108] = 0;
    a.unix_path = path;
    expect_fail(&a, ERR_USAGE, "at most 107 bytes, this one has 108");
    path[107] = 0;
    expect_fail(&a, ERR_NET, "no such socket");
}

struct feed {
    int fd;
    size_t total;
    bool right;
};

static void *drain(void *arg)
{
    struct feed *f = arg;
    uint8_t buf[5000];
    size_t at = 0;
    f->right = true;
    for (ssize_t n; (n = read(f->fd, buf, sizeof(buf))) > 0;)
        for (ssize_t i = 0; i < n; i++, at++)
            if (buf[i] != (uint8_t)(at * 31 >> 3)) f->right = false;
    f->total = at;
    return NULL;
}

/* Some of data[at .. end), cut into pieces of uneven size. */
static ssize_t write_some(struct conn *c, uint8_t *data, size_t at, size_t end, struct err *err)
{
    struct iovec v[1500]; /* more than the kernel takes at once */
    int n = 0;
    if (at % 2) return conn_write(c, data + at, end - at, err);
    for (size_t p = at; p < end && n < 1500; n++) {
        size_t len = (p * 7 + (size_t)n) % 900;
        if (len > end - p) len = end - p;
        v[n] = (struct iovec){data + p, len};
        p += len;
    }
    return conn_writev(c, v, n, err);
}

static void test_short_writes(void **state)
{
    (void)state;
    enum { TOTAL = 3000000 };
    int peer, small = 4096;
    struct err err;
    struct conn *c = open_pair(&peer);
    setsockopt(conn_fd(c), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    uint8_t *data = malloc(TOTAL);
    for (size_t i = 0; i < TOTAL; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    size_t at = 0;
    ssize_t n;
    do { /* until it is full for good, as nobody reads */
        while ((n = write_some(c, data, at, TOTAL, &err)) > 0)
            at += (size_t)n;
        assert_int_equal(n, 0);
        assert_true(at < TOTAL);
    } while (conn_wait(c, false, true, 20, &err) == 1);
    assert_int_equal(conn_writev(c, NULL, 0, &err), 0);
    pthread_t t;
    struct feed f = {.fd = peer};
    assert_int_equal(pthread_create(&t, NULL, drain, &f), 0);
    while (at < TOTAL) {
        assert_int_equal(conn_wait(c, false, true, 5000, &err), 1);
        n = write_some(c, data, at, TOTAL, &err);
        assert_true(n >= 0);
        at += (size_t)n;
    }
    conn_close(c);
    pthread_join(t, NULL);
    assert_int_equal(f.total, TOTAL);
    assert_true(f.right);
    close(peer);
    free(data);
}

static void test_peer_closes(void **state)
{
    (void)state;
    int peer;
    char buf[10];
    struct err err;
    struct conn *c = open_pair(&peer);
    assert_int_equal(write(peer, "bye", 3), 3);
    close(peer);
    assert_int_equal(conn_wait(c, true, false, 1000, &err), 1);
    assert_int_equal(conn_read(c, buf, sizeof(buf), &err), 3);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(conn_wait(c, true, false, 1000, &err), 1);
        assert_int_equal(conn_read(c, buf, sizeof(buf), &err), -1);
        assert_int_equal(err.code, ERR_NET);
        assert_string_equal(err.msg, "connection closed by the server");
    }
    /* The first write is answered by a reset, the next ones fail: without SIGPIPE. */
    ssize_t n = 0;
    struct iovec v = {buf, 1};
    for (unsigned i = 0; i < 100 && n >= 0; i++) {
        n = conn_write(c, "x", 1, &err);
        usleep(1000);
    }
    assert_int_equal(n, -1);
    assert_int_equal(err.code, ERR_NET);
    assert_int_equal(conn_writev(c, &v, 1, &err), -1);
    conn_close(c);
}

static void test_peer_resets(void **state)
{
    (void)state;
    int peer;
    char buf[10];
    struct err err;
    struct linger now = {1, 0};
    struct conn *c = open_pair(&peer);
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(peer);
    assert_int_equal(conn_wait(c, true, false, 1000, &err), 1);
    assert_int_equal(conn_read(c, buf, sizeof(buf), &err), -1);
    assert_int_equal(err.code, ERR_NET);
    assert_string_equal(err.msg, "connection reset by the server");
    conn_close(c);
}

static void test_nobody_there(void **state)
{
    (void)state;
    char words[64];
    close(listen_tcp(1));
    struct conn_addr a = {.host = "127.0.0.1", .port = port};
    snprintf(words, sizeof(words), "127.0.0.1:%s: connection refused", port);
    expect_fail(&a, ERR_NET, words);
    a.host = "::1";
    snprintf(words, sizeof(words), "[::1]:%s: ", port);
    expect_fail(&a, ERR_NET, words);
    a.host = "127.0.0.1";
    a.port = "http";
    expect_fail(&a, ERR_USAGE, "port must be a number");
    a.port = NULL;
    expect_fail(&a, ERR_USAGE, "no host or port");
}

/* Connections until the kernel takes no more. */
static void stuff(int family, const struct sockaddr *sa, socklen_t len, int *fd, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        fd[i] = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(fd[i], sa, len) < 0) assert_true(errno == EINPROGRESS || errno == EAGAIN);
    }
    usleep(20000);
}

static void *say_stop(void *arg)
{
    usleep(120000);
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

static void check_deaf(const struct conn_addr *a)
{
    struct conn *c;
    struct err err = {.msg = ""};
    atomic_bool stop = true;
    pthread_t t;
    int64_t start = clock_mono_ms();
    expect_fail(a, ERR_NET, "timed out");
    assert_in_range(clock_mono_ms() - start, 290, 1500);
    assert_int_equal(conn_open(&c, a, &stop, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    struct conn_addr patient = *a;
    patient.connect_timeout_ms = 20000;
    stop = false;
    start = clock_mono_ms();
    assert_int_equal(pthread_create(&t, NULL, say_stop, &stop), 0);
    assert_int_equal(conn_open(&c, &patient, &stop, &err), -1);
    assert_int_equal(err.code, ERR_STOPPED);
    assert_in_range(clock_mono_ms() - start, 100, 1500);
    pthread_join(t, NULL);
}

static void test_timeout(void **state)
{
    (void)state;
    int fd[8], l = listen_tcp(0);
    struct sockaddr_in sa;
    socklen_t n = sizeof(sa);
    getsockname(l, (struct sockaddr *)&sa, &n);
    stuff(AF_INET, (struct sockaddr *)&sa, sizeof(sa), fd, 8);
    check_deaf(&(struct conn_addr){.host = "127.0.0.1", .port = port, .connect_timeout_ms = 300});
    for (unsigned i = 0; i < 8; i++)
        close(fd[i]);
    close(l);
}

/* The first address of a name hears nothing: there is time left for the second. */
static void test_second_address(void **state)
{
    (void)state;
    int fd[8], good = listen_tcp(5), deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    sa.sin_addr.s_addr = inet_addr("127.0.0.2");
    assert_int_equal(bind(deaf, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(deaf, 0), 0);
    stuff(AF_INET, (struct sockaddr *)&sa, sizeof(sa), fd, 8);
    struct conn_addr a = {.host = "two.test", .port = port, .connect_timeout_ms = 1000};
    struct conn *c;
    struct err err = {.msg = ""};
    int64_t start = clock_mono_ms();
    if (conn_open(&c, &a, NULL, &err) < 0) fail_msg("%s", err.msg);
    assert_in_range(clock_mono_ms() - start, 490, 900);
    a.connect_timeout_ms = 200;
    conn_close(c);
    for (unsigned i = 0; i < 8; i++)
        close(fd[i]);
    close(good);
    expect_fail(&a, ERR_NET, "two.test:"); /* now neither */
    close(deaf);
}

static void test_no_such_name(void **state)
{
    (void)state;
    struct conn_addr a = {.host = "none.test", .port = "6379"};
    expect_fail(&a, ERR_NET, "none.test:6379: no such host");
    a.host = "later.test";
    expect_fail(&a, ERR_NET, "later.test:6379: the name server does not answer");
    a.host = "broken.test";
    expect_fail(&a, ERR_NET, "broken.test:6379: cannot look up the host");
}

static void test_timeout_unix(void **state)
{
    (void)state;
    int fd[8], l = listen_unix(SOCK_STREAM, 0);
    struct sockaddr_un sa;
    socklen_t n = sizeof(sa);
    getsockname(l, (struct sockaddr *)&sa, &n);
    stuff(AF_UNIX, (struct sockaddr *)&sa, n, fd, 8);
    check_deaf(&(struct conn_addr){.unix_path = sock, .connect_timeout_ms = 300});
    for (unsigned i = 0; i < 8; i++)
        close(fd[i]);
    close(l);
}

static void on_alarm(int sig)
{
    (void)sig;
}

static void test_signals_do_not_end_a_wait(void **state)
{
    (void)state;
    int peer;
    struct err err;
    struct sigaction sa = {.sa_handler = on_alarm}, old;
    struct itimerval every = {{0, 10000}, {0, 10000}}, off = {0};
    struct conn *c = open_pair(&peer);
    sigaction(SIGALRM, &sa, &old);
    setitimer(ITIMER_REAL, &every, NULL);
    int64_t start = clock_mono_ms();
    int rc = conn_wait(c, true, false, 150, &err);
    int64_t took = clock_mono_ms() - start;
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &old, NULL);
    assert_int_equal(rc, 0);
    assert_in_range(took, 150, 1000);
    conn_close(c);
    close(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),        cmocka_unit_test(test_talk),
        cmocka_unit_test(test_unix),           cmocka_unit_test(test_short_writes),
        cmocka_unit_test(test_peer_closes),    cmocka_unit_test(test_peer_resets),
        cmocka_unit_test(test_nobody_there),   cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_second_address), cmocka_unit_test(test_no_such_name),
        cmocka_unit_test(test_timeout_unix),   cmocka_unit_test(test_signals_do_not_end_a_wait),
    };
    return cmocka_run_group_tests_name("conn", tests, make_root, drop_root);
}
