// SPDX-License-Identifier: BSD-3-Clause
// TLS connections against real OpenSSL servers, with certificates made here: who is trusted and who
// is not, what the words say, and that every byte arrives however slowly the link moves.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "io/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- certificates ---- */

struct cert {
    X509 *x;
    EVP_PKEY *key;
    char pem[96], key_pem[96];
};

static char root[64];
static struct cert ca, other_ca, server, named, other_name, expired, future, client, strange_client;
static char locked_key[96];

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_true(X509_add_ext(x, e, -1));
    X509_EXTENSION_free(e);
}

static void save(struct cert *c, const char *name)
{
    snprintf(c->pem, sizeof(c->pem), "%s/%s.crt", root, name);
    snprintf(c->key_pem, sizeof(c->key_pem), "%s/%s.key", root, name);
    FILE *f = fopen(c->pem, "w");
    assert_true(f && PEM_write_X509(f, c->x));
    fclose(f);
    f = fopen(c->key_pem, "w");
    assert_true(f && PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL));
    fclose(f);
}

/* issuer NULL: a CA. Valid between now + from and now + to, seconds. */
static void make_cert(struct cert *c, const struct cert *issuer, const char *name, const char *alt,
                      long from, long to)
{
    static long serial = 1;
    c->key = EVP_EC_gen("P-256");
    c->x = X509_new();
    X509_set_version(c->x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c->x), serial++);
    X509_gmtime_adj(X509_getm_notBefore(c->x), from);
    X509_gmtime_adj(X509_getm_notAfter(c->x), to);
    X509_set_pubkey(c->x, c->key);
    X509_NAME *n = X509_get_subject_name(c->x);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    const struct cert *by = issuer ? issuer : c;
    X509_set_issuer_name(c->x, X509_get_subject_name(by->x));
    if (!issuer) add_ext(c->x, by->x, NID_basic_constraints, "critical,CA:TRUE");
    if (alt) add_ext(c->x, by->x, NID_subject_alt_name, alt);
    assert_true(X509_sign(c->x, by->key, EVP_sha256()) > 0);
    save(c, name);
}

static void free_cert(struct cert *c)
{
    X509_free(c->x);
    EVP_PKEY_free(c->key);
    unlink(c->pem);
    unlink(c->key_pem);
}

static int make_certs(void **state)
{
    (void)state;
    const long hour = 3600, day = 86400;
    snprintf(root, sizeof(root), "/tmp/kh-tls-XXXXXX");
    if (!mkdtemp(root)) return -1;
    make_cert(&ca, NULL, "ca", NULL, -hour, day);
    make_cert(&other_ca, NULL, "other-ca", NULL, -hour, day);
    make_cert(&server, &ca, "server", "DNS:localhost,IP:127.0.0.1", -hour, day);
    make_cert(&named, &ca, "named", "DNS:localhost", -hour, day);
    make_cert(&other_name, &ca, "other-name", "DNS:db.example.org,IP:10.1.2.3", -hour, day);
    make_cert(&expired, &ca, "expired", "DNS:localhost,IP:127.0.0.1", -2 * day, -day);
    make_cert(&future, &ca, "future", "DNS:localhost,IP:127.0.0.1", day, 2 * day);
    make_cert(&client, &ca, "client", NULL, -hour, day);
    make_cert(&strange_client, &other_ca, "strange-client", NULL, -hour, day);
    snprintf(locked_key, sizeof(locked_key), "%s/locked.key", root);
    FILE *f = fopen(locked_key, "w");
    unsigned char pass[] = "pass";
    assert_true(f && PEM_write_PrivateKey(f, client.key, EVP_aes_128_cbc(), pass, 4, NULL, NULL));
    return fclose(f);
}

static int drop_certs(void **state)
{
    (void)state;
    struct cert *all[] = {&ca,      &other_ca, &server, &named,         &other_name,
                          &expired, &future,   &client, &strange_client};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        free_cert(all[i]);
    unlink(locked_key);
    return rmdir(root);
}

/* ---- a server that takes one connection ---- */

struct peer {
    const struct cert *cert; /* NULL: no TLS */
    bool want_client;
    int max_version;
    void (*serve)(struct peer *p, SSL *ssl, int fd);
    size_t echo_bytes; /* of serve_echo: how many, then it is done */
    size_t update_every;
    bool rude; /* ends without a goodbye */
    int small_buffer;

    int listen_fd;
    int gate[2]; /* serve functions wait for a byte in it */
    int told[2]; /* and the test for one in this */
    char port[8];
    char sni[80];
    pthread_t thread;
};

static void await_gate(const struct peer *p)
{
    char c;
    assert_int_equal(read(p->gate[0], &c, 1), 1);
}

static void open_gate(const struct peer *p)
{
    assert_int_equal(write(p->gate[1], "", 1), 1);
}

static SSL_CTX *server_context(const struct peer *p)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(ctx, p->cert->x);
    SSL_CTX_use_PrivateKey(ctx, p->cert->key);
    if (p->max_version) SSL_CTX_set_max_proto_version(ctx, p->max_version);
    if (p->max_version && p->max_version < TLS1_2_VERSION) {
        SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
        SSL_CTX_set_security_level(ctx, 0);
    }
    if (p->want_client) {
        SSL_CTX_load_verify_file(ctx, ca.pem);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return ctx;
}

static void serve_tls(struct peer *p, int fd)
{
    SSL_CTX *ctx = server_context(p);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        snprintf(p->sni, sizeof(p->sni), "%s", name ? name : "");
        if (p->serve) p->serve(p, ssl, fd);
        if (!p->rude) SSL_shutdown(ssl);
    }
    /* What the client still sends is read, so that the alert is not overtaken by a reset. */
    shutdown(fd, SHUT_WR);
    char buf[256];
    while (!p->rude && read(fd, buf, sizeof(buf)) > 0)
        ;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    sigset_t
        pipe_signal; /* OpenSSL's own sockets raise it; ours must not, so for this thread only */
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
    int fd = accept(p->listen_fd, NULL, NULL);
    if (fd < 0) return NULL;
    if (p->small_buffer) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &p->small_buffer, sizeof(int));
    }
    if (p->cert)
        serve_tls(p, fd);
    else if (p->serve)
        p->serve(p, NULL, fd);
    close(fd);
    ERR_clear_error();
    return NULL;
}

static void start(struct peer *p)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    p->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(p->listen_fd, 4), 0);
    getsockname(p->listen_fd, (struct sockaddr *)&a, &n);
    snprintf(p->port, sizeof(p->port), "%u", ntohs(a.sin_port));
    assert_int_equal(pipe(p->gate), 0);
    assert_int_equal(pipe(p->told), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

static void finish(struct peer *p)
{
    shutdown(p->listen_fd, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->listen_fd);
    close(p->gate[0]);
    close(p->gate[1]);
    close(p->told[0]);
    close(p->told[1]);
}

static int try_open(struct conn **ret, const struct peer *p, const char *host,
                    const struct conn_tls *tls, struct err *err)
{
    struct conn_addr a = {
        .host = host, .port = p->port, .tls = tls, .connect_timeout_ms = p->cert ? 5000 : 400};
    return conn_open(ret, &a, NULL, err);
}

static struct conn *open_ok(const struct peer *p, const char *host, const struct conn_tls *tls)
{
    struct conn *c = NULL;
    struct err err = {.msg = ""};
    if (try_open(&c, p, host, tls, &err) < 0) fail_msg("%s", err.msg);
    return c;
}

static void expect_fail(struct peer *p, const char *host, const struct conn_tls *tls,
                        enum err_code code, const char *words)
{
    struct conn *c = (void *)&root;
    struct err err = {.msg = ""};
    start(p);
    assert_int_equal(try_open(&c, p, host, tls, &err), -1);
    if (err.code != code || !strstr(err.msg, words)) fail_msg("%d %s", (int)err.code, err.msg);
    assert_ptr_equal(c, &root);
    finish(p);
}

/* ---- what servers do ---- */

static void serve_echo(struct peer *p, SSL *ssl, int fd)
{
    static uint8_t buf[20000];
    (void)fd;
    for (size_t done = 0, since = 0; done < p->echo_bytes;) {
        int n = SSL_read(ssl, buf, sizeof(buf));
        if (n <= 0 || SSL_write(ssl, buf, n) != n) return;
        done += (size_t)n;
        since += (size_t)n;
        if (p->update_every && since >= p->update_every) {
            SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
            since = 0;
        }
    }
}

static void serve_100k(struct peer *p, SSL *ssl, int fd)
{
    static uint8_t buf[100000];
    (void)fd;
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 31 >> 3);
    SSL_write(ssl, buf, sizeof(buf));
    await_gate(p);
}

/* One record in two pieces, the second when the gate opens. */
static void serve_half_record(struct peer *p, SSL *ssl, int fd)
{
    uint8_t text[1000];
    char *record;
    memset(text, 'r', sizeof(text));
    BIO *mem = BIO_new(BIO_s_mem());
    SSL_set0_wbio(ssl, mem);
    assert_int_equal(SSL_write(ssl, text, sizeof(text)), sizeof(text));
    long n = BIO_get_mem_data(mem, &record);
    assert_int_equal(write(fd, record, 600), 600);
    assert_int_equal(write(p->told[1], "", 1), 1);
    await_gate(p);
    assert_int_equal(write(fd, record + 600, (size_t)n - 600), n - 600);
    await_gate(p);
}

static void serve_bye(struct peer *p, SSL *ssl, int fd)
{
    (void)p;
    (void)fd;
    SSL_write(ssl, "bye", 3);
}

static void serve_reset(struct peer *p, SSL *ssl, int fd)
{
    (void)ssl;
    await_gate(p);
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(dup(fd));
    shutdown(fd, SHUT_RD);
}

static void serve_plain_error(struct peer *p, SSL *ssl, int fd)
{
    (void)p;
    (void)ssl;
    char buf[2000];
    if (read(fd, buf, sizeof(buf)) > 0) dprintf(fd, "-ERR unknown command\r\n");
    while (read(fd, buf, sizeof(buf)) > 0)
        ;
}

static void serve_silence(struct peer *p, SSL *ssl, int fd)
{
    (void)p;
    (void)ssl;
    char buf[2000];
    while (read(fd, buf, sizeof(buf)) > 0)
        ;
}

/* ---- tests ---- */

static void await(struct conn *c, bool want_write)
{
    struct err err;
    assert_int_equal(conn_wait(c, true, want_write, 5000, &err), 1);
}

static void say_hello(struct conn *c)
{
    char buf[10] = "";
    struct err err;
    ssize_t n;
    assert_int_equal(conn_write(c, "hello", 5, &err), 5);
    while ((n = conn_read(c, buf, sizeof(buf), &err)) == 0)
        await(c, false);
    assert_int_equal(n, 5);
    assert_memory_equal(buf, "hello", 5);
}

static void check_trusted(const struct cert *cert, const char *host, const struct conn_tls *tls,
                          const char *sni, int max_version)
{
    struct peer p = {
        .cert = cert, .serve = serve_echo, .echo_bytes = 5, .max_version = max_version};
    start(&p);
    struct conn *c = open_ok(&p, host, tls);
    say_hello(c);
    conn_close(c);
    finish(&p);
    assert_string_equal(p.sni, sni);
}

static void test_trusted(void **state)
{
    (void)state;
    struct conn_tls tls = {.ca_file = ca.pem};
    check_trusted(&server, "127.0.0.1", &tls, "", 0); /* an address is no SNI (RFC 6066) */
    check_trusted(&server, "localhost", &tls, "localhost", 0);
    check_trusted(&server, "localhost", &tls, "localhost", TLS1_2_VERSION);
    tls.server_name = "localhost";
    check_trusted(&named, "127.0.0.1", &tls, "localhost", 0);
    tls.server_name = "db.example.org";
    check_trusted(&other_name, "127.0.0.1", &tls, "db.example.org", 0);
    tls.server_name = "10.1.2.3";
    check_trusted(&other_name, "127.0.0.1", &tls, "", 0);
    struct conn_tls blind = {.insecure_skip_verify = true};
    check_trusted(&expired, "127.0.0.1", &blind, "", 0);
    check_trusted(&other_name, "localhost", &blind, "localhost", 0);
}

static void test_not_trusted(void **state)
{
    (void)state;
    struct conn_tls tls = {.ca_file = ca.pem}, wrong = {.ca_file = other_ca.pem}, none = {0};
    struct peer p = {.cert = &server};
    expect_fail(&p, "127.0.0.1", &wrong, ERR_TLS, "give the CA that signed it (tls-ca)");
    expect_fail(&p, "localhost", &none, ERR_TLS, "give the CA that signed it (tls-ca)");
    p.cert = &other_ca; /* signed by itself */
    expect_fail(&p, "localhost", &tls, ERR_TLS, "give the CA that signed it (tls-ca)");
    p.cert = &named;
    expect_fail(&p, "127.0.0.1", &tls, ERR_TLS, "not made out to 127.0.0.1");
    p.cert = &other_name;
    expect_fail(&p, "localhost", &tls, ERR_TLS, "not made out to localhost");
    expect_fail(&p, "localhost", &tls, ERR_TLS, "(tls-server-name)");
    p.cert = &expired;
    expect_fail(&p, "localhost", &tls, ERR_TLS, "has expired (20");
    p.cert = &future;
    expect_fail(&p, "localhost", &tls, ERR_TLS, "not valid yet (20");
    p = (struct peer){.cert = &server, .max_version = TLS1_1_VERSION};
    expect_fail(&p, "localhost", &tls, ERR_TLS, "no TLS from version 1.2 on");
}

static void test_not_tls(void **state)
{
    (void)state;
    struct conn_tls tls = {.ca_file = ca.pem};
    struct peer p = {.serve = serve_plain_error};
    expect_fail(&p, "127.0.0.1", &tls, ERR_TLS, "does not speak TLS on this port");
    p.serve = NULL; /* closes at once */
    expect_fail(&p, "127.0.0.1", &tls, ERR_TLS, "does not speak TLS on this port");
    p.serve = serve_silence;
    int64_t begin = clock_mono_ms();
    expect_fail(&p, "127.0.0.1", &tls, ERR_NET, "no answer to the TLS handshake in 400 ms");
    assert_in_range(clock_mono_ms() - begin, 390, 2000);
}

static void check_client(int version, const struct conn_tls *tls, const char *words, bool write)
{
    struct peer p = {.cert = &server,
                     .serve = serve_echo,
                     .echo_bytes = 5,
                     .want_client = true,
                     .max_version = version};
    struct conn *c;
    struct err err = {.msg = ""};
    char buf[10];
    start(&p);
    ssize_t rc = try_open(&c, &p, "127.0.0.1", tls, &err);
    if (rc == 0) {
        for (int64_t end = clock_mono_ms() + 5000; rc == 0 && clock_mono_ms() < end;) {
            await(c, false);
            rc = write ? conn_write(c, "x", 1, &err) : conn_read(c, buf, sizeof(buf), &err);
            if (rc > 0) rc = 0;
        }
        conn_close(c);
    }
    assert_int_equal(rc, -1);
    if (err.code != ERR_TLS || !strstr(err.msg, words)) fail_msg("%d %s", (int)err.code, err.msg);
    finish(&p);
}

static void test_client_certificate(void **state)
{
    (void)state;
    struct conn_tls tls = {.ca_file = ca.pem, .cert_file = client.pem, .key_file = client.key_pem};
    struct peer p = {.cert = &server, .serve = serve_echo, .echo_bytes = 5, .want_client = true};
    start(&p);
    struct conn *c = open_ok(&p, "127.0.0.1", &tls);
    say_hello(c);
    conn_close(c);
    finish(&p);
    struct conn_tls none = {.ca_file = ca.pem};
    check_client(0, &none, "client certificate (tls-cert, tls-key)", false);
    check_client(TLS1_2_VERSION, &none, "client certificate (tls-cert, tls-key)", false);
    tls.cert_file = strange_client.pem;
    tls.key_file = strange_client.key_pem;
    check_client(0, &tls, "does not accept the client certificate", false);
    check_client(TLS1_2_VERSION, &tls, "does not accept the client certificate", false);
}

static void expect_bad_files(const struct conn_tls *tls, const char *words)
{
    struct peer p = {.cert = &server};
    expect_fail(&p, "127.0.0.1", tls, ERR_TLS, words);
}

static void test_bad_files(void **state)
{
    (void)state;
    struct conn_tls t = {.ca_file = "/no/ca"};
    expect_bad_files(&t, "CA file /no/ca (tls-ca)");
    t.ca_file = client.key_pem; /* no certificate in it */
    expect_bad_files(&t, "cannot read the CA file");
    t = (struct conn_tls){.ca_file = ca.pem, .cert_file = "/no/cert", .key_file = client.key_pem};
    expect_bad_files(&t, "client certificate /no/cert (tls-cert)");
    t.cert_file = client.pem;
    t.key_file = "/no/key";
    expect_bad_files(&t, "private key /no/key (tls-key)");
    t.key_file = locked_key;
    expect_bad_files(&t, "locked with a passphrase");
    t.key_file = server.key_pem;
    expect_bad_files(&t, "key"); /* of another certificate */
    t.key_file = NULL;
    expect_bad_files(&t,
                     "cannot read the client's private key"); /* not in the certificate's file */
    t = (struct conn_tls){.ca_file = ca.pem, .key_file = client.key_pem};
    expect_bad_files(&t, "(tls-cert)");
    struct conn *c;
    struct err err;
    struct conn_addr a = {.unix_path = "/no/socket", .tls = &t};
    assert_int_equal(conn_open(&c, &a, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NET);
}

/* Some of data[at .. end): one piece, or many of uneven sizes, small and large. */
static ssize_t write_some(struct conn *c, uint8_t *data, size_t at, size_t end, struct err *err)
{
    struct iovec v[40];
    int n = 0;
    if (at % 3 == 0) return conn_write(c, data + at, end - at, err);
    for (size_t p = at; p < end && n < 40; n++) {
        size_t len = (p * 7 + (size_t)n) % (n % 5 ? 900 : 40000);
        if (len > end - p) len = end - p;
        v[n] = (struct iovec){data + p, len};
        p += len;
    }
    return conn_writev(c, v, n, err);
}

/* Send a lot, take the echo at the same time, in the manner of the pipeline. */
static void check_bulk(struct peer *p)
{
    enum { TOTAL = 2000000 };
    uint8_t *out = malloc(TOTAL), *in = calloc(1, TOTAL);
    const struct conn_tls tls = {.ca_file = ca.pem};
    struct err err = {.msg = ""};
    size_t sent = 0, got = 0, full = 0;
    for (size_t i = 0; i < TOTAL; i++)
        out[i] = (uint8_t)(i * 2654435761u >> 13);
    p->echo_bytes = TOTAL;
    start(p);
    struct conn *c = open_ok(p, "127.0.0.1", &tls);
    if (p->small_buffer)
        setsockopt(conn_fd(c), SOL_SOCKET, SO_SNDBUF, &p->small_buffer, sizeof(int));
    while (got < TOTAL) {
        ssize_t w = sent < TOTAL ? write_some(c, out, sent, TOTAL, &err) : 0;
        if (w < 0) fail_msg("write: %s", err.msg);
        sent += (size_t)w;
        size_t room = TOTAL - got < 30000 ? TOTAL - got : 30000;
        ssize_t r = conn_read(c, in + got, room, &err);
        if (r < 0) fail_msg("read: %s", err.msg);
        got += (size_t)r;
        full += w == 0 && sent < TOTAL;
        if (w || r) continue;
        await(c, sent < TOTAL);
    }
    assert_memory_equal(out, in, TOTAL);
    assert_true(!p->small_buffer || full > 10);
    conn_close(c);
    finish(p);
    free(out);
    free(in);
}

static void test_bulk(void **state)
{
    (void)state;
    struct peer p = {.cert = &server, .serve = serve_echo};
    check_bulk(&p);
    p.small_buffer = 4096;
    check_bulk(&p);
    p.max_version = TLS1_2_VERSION;
    check_bulk(&p);
    /* New keys again and again: reading has to write, too. */
    p = (struct peer){.cert = &server, .serve = serve_echo, .update_every = 50000};
    check_bulk(&p);
    p.small_buffer = 4096;
    check_bulk(&p);
}

static void test_pending(void **state)
{
    (void)state;
    const struct conn_tls tls = {.ca_file = ca.pem};
    struct peer p = {.cert = &server, .serve = serve_100k};
    struct err err;
    uint8_t buf[7];
    size_t got = 0, in_hand = 0;
    start(&p);
    struct conn *c = open_ok(&p, "127.0.0.1", &tls);
    while (got < 100000) {
        size_t room = 100000 - got < sizeof(buf) ? 100000 - got : sizeof(buf);
        ssize_t n = conn_read(c, buf, room, &err);
        assert_true(n >= 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(buf[i], (uint8_t)((got + (size_t)i) * 31 >> 3));
        got += (size_t)n;
        struct pollfd pf = {.fd = conn_fd(c), .events = POLLIN};
        bool quiet = poll(&pf, 1, 0) == 0;
        if (quiet && conn_pending(c)) in_hand++;
        /* Waiting may only block when nothing is in hand. */
        if (got < 100000) assert_int_equal(conn_wait(c, true, false, 5000, &err), 1);
    }
    assert_true(in_hand > 1000);
    assert_int_equal(conn_read(c, buf, sizeof(buf), &err), 0);
    assert_false(conn_pending(c));
    assert_int_equal(conn_wait(c, true, false, 10, &err), 0);
    open_gate(&p);
    conn_close(c);
    finish(&p);
}

static void test_half_a_record_is_not_pending(void **state)
{
    (void)state;
    const struct conn_tls tls = {.ca_file = ca.pem};
    struct peer p = {.cert = &server, .serve = serve_half_record};
    struct err err;
    char buf[2000];
    ssize_t n;
    start(&p);
    struct conn *c = open_ok(&p, "127.0.0.1", &tls);
    assert_int_equal(read(p.told[0], buf, 1), 1); /* session tickets and the first half are sent */
    unsigned turns = 0;
    do { /* a busy kernel hands them over in several pieces */
        assert_int_equal(conn_read(c, buf, sizeof(buf), &err), 0);
        assert_false(conn_pending(c)); /* else one would turn round and round */
        assert_true(turns++ < 100);
    } while (conn_wait(c, true, false, 30, &err) == 1);
    open_gate(&p);
    while ((n = conn_read(c, buf, sizeof(buf), &err)) == 0)
        await(c, false);
    assert_int_equal(n, 1000);
    assert_int_equal(buf[999], 'r');
    open_gate(&p);
    conn_close(c);
    finish(&p);
}

static void check_end(struct peer *p, const char *words)
{
    const struct conn_tls tls = {.ca_file = ca.pem};
    struct err err = {.msg = ""};
    char buf[10];
    size_t got = 0;
    ssize_t n;
    start(p);
    struct conn *c = open_ok(p, "127.0.0.1", &tls);
    open_gate(p);
    while ((n = conn_read(c, buf + got, sizeof(buf) - got, &err)) >= 0) {
        got += (size_t)n;
        if (n == 0) await(c, false);
    }
    assert_int_equal(got, p->serve == serve_bye ? 3 : 0); /* what came before is not lost */
    assert_int_equal(err.code, ERR_NET);
    if (!strstr(err.msg, words)) fail_msg("%s", err.msg);
    assert_true(conn_pending(c)); /* the error does not go away */
    assert_int_equal(conn_wait(c, true, false, 100, &err), 1);
    assert_int_equal(conn_read(c, buf, sizeof(buf), &err), -1);
    if (p->rude) { /* nobody listens any more: an error in the end, and no SIGPIPE */
        n = 0;
        for (unsigned i = 0; i < 100 && n >= 0; i++) {
            n = conn_write(c, "x", 1, &err);
            usleep(1000);
        }
        assert_int_equal(n, -1);
    }
    conn_close(c);
    finish(p);
}

static void test_ends(void **state)
{
    (void)state;
    struct peer p = {.cert = &server, .serve = serve_bye};
    check_end(&p, "closed by the server");
    p.rude = true;
    check_end(&p, "closed by the server");
    p = (struct peer){.cert = &server, .serve = serve_reset, .rude = true};
    check_end(&p, "by the server");
}

static void test_shrinking_write(void **state)
{
    (void)state;
    const struct conn_tls tls = {.ca_file = ca.pem};
    struct peer p = {.cert = &server, .serve = serve_100k, .small_buffer = 4096};
    struct err err;
    static uint8_t zeros[100000];
    ssize_t n;
    start(&p);
    struct conn *c = open_ok(&p, "127.0.0.1", &tls);
    setsockopt(conn_fd(c), SOL_SOCKET, SO_SNDBUF, &p.small_buffer, sizeof(int));
    do {
        n = conn_write(c, zeros, sizeof(zeros), &err);
    } while (n > 0);
    assert_int_equal(n, 0);
    assert_int_equal(conn_write(c, zeros, 10, &err), -1); /* against the contract: named as ours */
    assert_int_equal(err.code, ERR_INTERNAL);
    open_gate(&p);
    conn_close(c);
    finish(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trusted),   cmocka_unit_test(test_not_trusted),
        cmocka_unit_test(test_not_tls),   cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_bad_files), cmocka_unit_test(test_bulk),
        cmocka_unit_test(test_pending),   cmocka_unit_test(test_half_a_record_is_not_pending),
        cmocka_unit_test(test_ends),      cmocka_unit_test(test_shrinking_write),
    };
    return cmocka_run_group_tests_name("conn_tls", tests, make_certs, drop_certs);
}
