// SPDX-License-Identifier: BSD-3-Clause
// TLS over a connected socket, by OpenSSL: verification, handshake, and what went wrong in words.
#include "base/clock.h"
#include "io/conn_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READ_AHEAD_BYTES 262144
#define OUT_BYTES        65536 /* a record, and answers to a server that asks for new keys */
#define RECORD_BYTES     16384 /* most plain bytes of a TLS record; SSL_write makes one per call */

struct conn_tls_state {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO_METHOD *bio_method;
    bool verify, own_cert;
    bool up;          /* handshake done: close with a goodbye */
    bool drained;     /* what lies in OpenSSL's buffer is no whole record: only poll() can help */
    bool eof;         /* the socket came to its end */
    char bad_day[16]; /* when the certificate that is refused ends or begins */
    int sys_errno;    /* of the last failed recv or send */
    size_t owed;      /* plain bytes in `out` for which the caller has not been told "taken" */
    size_t out_at, out_n;
    /* An error met after bytes that went to the caller, and every error from then on. Apart, as
     * what the server said before it went can still be read when writing fails. */
    struct err read_late, write_late;
    uint8_t gather[RECORD_BYTES]; /* small pieces of a writev become one record */
    uint8_t out[OUT_BYTES];       /* encrypted, not sent yet: out_at .. out_n */
};

/* ---- the socket under OpenSSL ----
 *
 * Not OpenSSL's own: that would write() and raise SIGPIPE. And ours takes every byte, keeping aside
 * what the socket does not: OpenSSL never sees a write that is half done. With one it fails ("bad
 * length") when the server asks for new keys at that moment (TLS 1.3; openssl 3.0, issue 8677). */

/* What the socket takes of p: 0 when it is full, -1 with sys_errno. */
static ssize_t send_some(struct conn *c, const void *p, size_t n)
{
    ssize_t r;
    do {
        r = send(c->fd, p, n, MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    if (r >= 0) return r;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    c->tls->sys_errno = errno;
    return -1;
}

/* Send what was kept aside: 1 all of it went, 0 the socket is full, -1 with sys_errno. */
static int flush_out(struct conn *c)
{
    struct conn_tls_state *t = c->tls;
    while (t->out_at < t->out_n) {
        ssize_t r = send_some(c, t->out + t->out_at, t->out_n - t->out_at);
        if (r <= 0) return (int)r;
        t->out_at += (size_t)r;
    }
    t->out_at = t->out_n = 0;
    return 1;
}

static int bio_send(BIO *b, const char *p, int n)
{
    struct conn *c = BIO_get_data(b);
    struct conn_tls_state *t = c->tls;
    BIO_clear_retry_flags(b);
    int rc = flush_out(c);
    ssize_t r = rc > 0 ? send_some(c, p, (size_t)n) : rc;
    if (r < 0) return -1;
    size_t rest = (size_t)(n - r);
    if (rest > sizeof(t->out) - t->out_n) {
        t->sys_errno = ENOBUFS; /* the server keeps asking and does not listen */
        return -1;
    }
    if (rest) memcpy(t->out + t->out_n, p + r, rest);
    t->out_n += rest;
    return n;
}

static int bio_recv(BIO *b, char *p, int n)
{
    struct conn *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    ssize_t r;
    do {
        r = recv(c->fd, p, (size_t)n, 0);
    } while (r < 0 && errno == EINTR);
    if (r > 0) return (int)r;
    if (r == 0)
        c->tls->eof = true;
    else if (errno == EAGAIN || errno == EWOULDBLOCK)
        BIO_set_retry_read(b);
    else
        c->tls->sys_errno = errno;
    return (int)r;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    const struct conn *c = BIO_get_data(b);
    if (cmd == BIO_CTRL_FLUSH) return 1;
    return cmd == BIO_CTRL_EOF ? c->tls->eof : 0;
}

static int put_bio(struct conn *c)
{
    struct conn_tls_state *t = c->tls;
    t->bio_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "keyhaul socket");
    if (!t->bio_method || !BIO_meth_set_write(t->bio_method, bio_send) ||
        !BIO_meth_set_read(t->bio_method, bio_recv) || !BIO_meth_set_ctrl(t->bio_method, bio_ctrl))
        return -1;
    BIO *b = BIO_new(t->bio_method);
    if (!b) return -1;
    BIO_set_data(b, c);
    BIO_set_init(b, 1);
    SSL_set_bio(t->ssl, b, b);
    return 0;
}

/* ---- words ---- */

static const char *openssl_words(void)
{
    const char *s = ERR_reason_error_string(ERR_peek_last_error());
    return s ? s : "unknown TLS error";
}

/* What the server's alert means for the person at the other end; NULL when it was no alert. */
static const char *alert_words(const struct conn_tls_state *t, int reason)
{
    switch (reason) {
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "the server wants a client certificate (tls-cert, tls-key)";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
        return t->own_cert ? "the server does not accept the client certificate (tls-cert)"
                           : "the server wants a client certificate (tls-cert, tls-key)";
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "the server refused the TLS handshake; it may want a client certificate (tls-cert, "
               "tls-key) or ciphers that are not available here";
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_UNSUPPORTED_PROTOCOL: return "the server speaks no TLS from version 1.2 on";
    case SSL_R_TLSV1_UNRECOGNIZED_NAME:
        return "the server knows no host of this name (tls-server-name)";
    default: return NULL;
    }
}

static int date_words(const struct conn_tls_state *t, long v, const char *shown, struct err *err)
{
    if (v == X509_V_ERR_CERT_HAS_EXPIRED)
        return err_set(err, ERR_TLS,
                       "%s: a certificate of the server has expired (%s): renew it there, or put "
                       "this machine's clock right",
                       shown, t->bad_day);
    return err_set(err, ERR_TLS,
                   "%s: a certificate of the server is not valid yet (%s): is this machine's "
                   "clock right?",
                   shown, t->bad_day);
}

static int verify_words(const struct conn_tls_state *t, const struct conn_addr *addr,
                        const char *shown, struct err *err)
{
    const char *name = addr->tls->server_name ? addr->tls->server_name : addr->host;
    long v = SSL_get_verify_result(t->ssl);
    switch (v) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        return err_set(err, ERR_TLS,
                       "%s: the server's certificate is not trusted: give the CA that signed it "
                       "(tls-ca)",
                       shown);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return err_set(err, ERR_TLS,
                       "%s: the server's certificate is not made out to %.100s: give the name that "
                       "stands in it (tls-server-name)",
                       shown, name);
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: return date_words(t, v, shown, err);
    default:
        return err_set(err, ERR_TLS, "%s: the server's certificate is refused: %s", shown,
                       X509_verify_cert_error_string(v));
    }
}

/* Why SSL_connect failed. */
static int handshake_words(const struct conn_tls_state *t, const struct conn_addr *addr,
                           const char *shown, struct err *err)
{
    if (t->verify && SSL_get_verify_result(t->ssl) != X509_V_OK)
        return verify_words(t, addr, shown, err);
    int reason = ERR_GET_REASON(ERR_peek_last_error());
    const char *alert = alert_words(t, reason);
    if (alert) return err_set(err, ERR_TLS, "%s: %s", shown, alert);
    bool reset = t->sys_errno == ECONNRESET || t->sys_errno == EPIPE;
    if (t->sys_errno && !reset) {
        conn_link_error(t->sys_errno, err);
        return err_wrap(err, "%s", shown);
    }
    if (t->eof || reset || reason == SSL_R_WRONG_VERSION_NUMBER ||
        reason == SSL_R_PACKET_LENGTH_TOO_LONG)
        return err_set(err, ERR_TLS, "%s: the server does not speak TLS on this port (%s)", shown,
                       t->eof || reset ? "it closed the connection" : "its answer is not TLS");
    return err_set(err, ERR_TLS, "%s: TLS handshake failed: %s", shown, openssl_words());
}

/* Why SSL_read or SSL_write failed on an established link. */
static int link_words(const struct conn_tls_state *t, int ssl_error, struct err *err)
{
    const char *alert = ssl_error == SSL_ERROR_SSL
                            ? alert_words(t, ERR_GET_REASON(ERR_peek_last_error()))
                            : NULL;
    if (alert) return err_set(err, ERR_TLS, "%s", alert);
    if (t->eof || ssl_error == SSL_ERROR_ZERO_RETURN)
        return err_set(err, ERR_NET, "connection closed by the server");
    if (t->sys_errno) return conn_link_error(t->sys_errno, err);
    return err_set(err, ERR_NET, "TLS connection broken: %s", openssl_words());
}

/* ---- reading and writing ---- */

/* Note what poll() must report before the call gets on: true when it only has to wait. */
static bool must_wait(int ssl_error, short *event)
{
    if (ssl_error == SSL_ERROR_WANT_READ) *event = POLLIN;
    if (ssl_error == SSL_ERROR_WANT_WRITE) *event = POLLOUT;
    return ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE;
}

static int again(const struct err *late, struct err *err)
{
    return err_set(err, late->code, "%s", late->msg);
}

static ssize_t tls_read(struct conn *c, void *p, size_t n, struct err *err)
{
    struct conn_tls_state *t = c->tls;
    if (t->read_late.code) return again(&t->read_late, err);
    size_t got = 0, step;
    (void)flush_out(c); /* answers of TLS itself; an error shows again in the next write */
    while (got < n) {
        ERR_clear_error();
        if (SSL_read_ex(t->ssl, (uint8_t *)p + got, n - got, &step)) {
            got += step;
            continue;
        }
        int e = SSL_get_error(t->ssl, 0);
        t->drained = true;
        if (must_wait(e, &c->read_event)) break;
        link_words(t, e, &t->read_late);
        return got ? (ssize_t)got : again(&t->read_late, err);
    }
    if (got) {
        t->drained = got < n;
        c->write_event = POLLOUT; /* a write that waited for incoming bytes may get on now */
    }
    return (ssize_t)got;
}

/* A write met a broken link. The server's last words often say why (TLS 1.3: it refuses a missing
 * client certificate only after the handshake), and they may lie in the socket still. */
static int write_failed(struct conn_tls_state *t, int ssl_error, struct err *err)
{
    link_words(t, ssl_error, &t->write_late);
    char byte;
    ERR_clear_error();
    if (ssl_error == SSL_ERROR_SYSCALL && SSL_peek(t->ssl, &byte, 1) <= 0) {
        const char *alert = alert_words(t, ERR_GET_REASON(ERR_peek_last_error()));
        if (alert) err_set(&t->write_late, ERR_TLS, "%s", alert);
        if (alert) t->read_late = t->write_late;
    }
    return again(&t->write_late, err);
}

/* Encrypt and send one record. 1, 0 must wait, -1 with SSL_get_error() in ret_error. */
static int write_record(struct conn *c, const void *p, size_t n, int *ret_error)
{
    struct conn_tls_state *t = c->tls;
    ERR_clear_error();
    if (SSL_write_ex(t->ssl, p, n, &t->owed)) return 1;
    t->owed = 0;
    *ret_error = SSL_get_error(t->ssl, 0);
    return must_wait(*ret_error, &c->write_event) ? 0 : -1;
}

/* Bytes count as taken once the socket has them: then nothing is left behind that nobody sends. */
static ssize_t tls_write(struct conn *c, const void *p, size_t n, struct err *err)
{
    struct conn_tls_state *t = c->tls;
    if (t->write_late.code) return again(&t->write_late, err);
    if (n < t->owed)
        return err_set(err, ERR_INTERNAL, "a TLS write begun with %zu bytes is repeated with %zu",
                       t->owed, n);
    size_t put = 0;
    for (;;) {
        int ssl_error = SSL_ERROR_SYSCALL, rc = flush_out(c);
        if (rc == 0) c->write_event = POLLOUT;
        if (rc > 0) {
            put += t->owed;
            t->owed = 0;
            if (put == n) break;
            size_t step = n - put < RECORD_BYTES ? n - put : RECORD_BYTES;
            rc = write_record(c, (const uint8_t *)p + put, step, &ssl_error);
        }
        if (rc == 0) break;
        if (rc < 0 && write_failed(t, ssl_error, err) < 0) return put ? (ssize_t)put : -1;
    }
    if (put) c->read_event = POLLIN; /* a read that waited for room may get on now */
    return (ssize_t)put;
}

/* One step of a writev from byte `off` of piece `i`: a big piece as it lies, small ones gathered.
 */
static ssize_t write_pieces(struct conn *c, const struct iovec *iov, int n, int i, size_t off,
                            struct err *err)
{
    const uint8_t *first = (const uint8_t *)iov[i].iov_base + off;
    size_t left = iov[i].iov_len - off;
    if (left >= RECORD_BYTES || i + 1 == n) return tls_write(c, first, left, err);
    uint8_t *out = c->tls->gather;
    size_t have = 0;
    for (; i < n && have < RECORD_BYTES; i++, off = 0) {
        size_t step = iov[i].iov_len - off, room = RECORD_BYTES - have;
        if (step > room) step = room;
        if (step) memcpy(out + have, (const uint8_t *)iov[i].iov_base + off, step);
        have += step;
    }
    return tls_write(c, out, have, err);
}

static ssize_t tls_writev(struct conn *c, const struct iovec *iov, int n, struct err *err)
{
    size_t put = 0, off = 0;
    int i = 0;
    for (;;) {
        while (i < n && off >= iov[i].iov_len) {
            off -= iov[i].iov_len;
            i++;
        }
        if (i >= n) return (ssize_t)put;
        ssize_t r = write_pieces(c, iov, n, i, off, err);
        if (r <= 0) return put ? (ssize_t)put : r;
        put += (size_t)r;
        off += (size_t)r;
    }
}

static bool tls_pending(const struct conn *c)
{
    return c->tls->read_late.code || (!c->tls->drained && SSL_has_pending(c->tls->ssl));
}

static void tls_close(struct conn *c)
{
    struct conn_tls_state *t = c->tls;
    ERR_clear_error();
    if (t->up && !t->read_late.code && !t->write_late.code) (void)SSL_shutdown(t->ssl);
    SSL_free(t->ssl);
    SSL_CTX_free(t->ctx);
    BIO_meth_free(t->bio_method);
    ERR_clear_error();
    free(t);
}

static const struct conn_ops tls_ops = {
    .read = tls_read,
    .write = tls_write,
    .writev = tls_writev,
    .pending = tls_pending,
    .close = tls_close,
};

/* ---- setting up ---- */

/* OpenSSL would ask for the passphrase on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *ctx)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    *(bool *)ctx = true;
    return -1;
}

static int load_own_cert(SSL_CTX *ctx, const struct conn_tls *tls, struct err *err)
{
    const char *key = tls->key_file ? tls->key_file : tls->cert_file;
    bool asked = false;
    if (!tls->cert_file)
        return err_set(err, ERR_TLS, "a private key needs its certificate (tls-cert)");
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
    int rc = 0;
    if (SSL_CTX_use_certificate_chain_file(ctx, tls->cert_file) != 1)
        rc = err_set(err, ERR_TLS, "cannot read the client certificate %.200s (tls-cert): %s",
                     tls->cert_file, openssl_words());
    else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        rc = err_set(err, ERR_TLS, "cannot read the client's private key %.200s (tls-key): %s", key,
                     asked ? "it is locked with a passphrase; give an unlocked one"
                           : openssl_words());
    else if (SSL_CTX_check_private_key(ctx) != 1)
        rc = err_set(err, ERR_TLS,
                     "the private key %.200s does not belong to the certificate %.200s", key,
                     tls->cert_file);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    return rc;
}

/* Called by OpenSSL for each certificate of the chain; only looks, as a refused one is gone later.
 */
static int note_day(int ok, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct conn_tls_state *t = ssl ? SSL_get_app_data(ssl) : NULL;
    const X509 *cert = X509_STORE_CTX_get_current_cert(store);
    if (ok || !cert || !t) return ok;
    bool late = X509_STORE_CTX_get_error(store) == X509_V_ERR_CERT_HAS_EXPIRED;
    struct tm tm;
    if (ASN1_TIME_to_tm(late ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert), &tm))
        strftime(t->bad_day, sizeof(t->bad_day), "%Y-%m-%d", &tm);
    return ok;
}

static int load_trust(SSL_CTX *ctx, const struct conn_tls *tls, struct err *err)
{
    if (tls->insecure_skip_verify) return 0;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, note_day);
    if (!tls->ca_file && SSL_CTX_set_default_verify_paths(ctx) != 1)
        return err_set(err, ERR_TLS, "cannot read the system's CA certificates: %s",
                       openssl_words());
    if (tls->ca_file && SSL_CTX_load_verify_file(ctx, tls->ca_file) != 1)
        return err_set(err, ERR_TLS, "cannot read the CA file %.200s (tls-ca): %s", tls->ca_file,
                       openssl_words());
    return 0;
}

static int make_context(struct conn_tls_state *t, const struct conn_tls *tls, struct err *err)
{
    t->ctx = SSL_CTX_new(TLS_client_method());
    if (!t->ctx || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1)
        return err_set(err, ERR_TLS, "cannot set up TLS: %s", openssl_words());
    SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* No server of ours asks for it, and it would stop the stream in the middle (TLS 1.2). */
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_read_ahead(t->ctx, 1);
    SSL_CTX_set_default_read_buffer_len(t->ctx, READ_AHEAD_BYTES);
    SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
    if (load_trust(t->ctx, tls, err) < 0) return -1;
    return tls->cert_file || tls->key_file ? load_own_cert(t->ctx, tls, err) : 0;
}

static bool is_address(const char *name)
{
    struct in6_addr a;
    return inet_pton(AF_INET, name, &a) == 1 || inet_pton(AF_INET6, name, &a) == 1;
}

/* The name to ask for (SNI: names only, RFC 6066) and to find in the certificate. */
static int set_name(SSL *ssl, const struct conn_tls *tls, const char *name, struct err *err)
{
    bool address = is_address(name);
    char sni[TLSEXT_MAXLEN_host_name + 1]; /* OpenSSL's macro wants it without const */
    size_t n = strlen(name);
    if (n < sizeof(sni)) memcpy(sni, name, n + 1);
    if (!address && (n >= sizeof(sni) || SSL_set_tlsext_host_name(ssl, sni) != 1))
        return err_set(err, ERR_TLS, "%.100s cannot be a TLS server name", name);
    if (tls->insecure_skip_verify) return 0;
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int ok = address ? X509_VERIFY_PARAM_set1_ip_asc(param, name) : SSL_set1_host(ssl, name);
    return ok == 1 ? 0 : err_set(err, ERR_TLS, "%.100s cannot be verified as a name", name);
}

static int shake_hands(struct conn *c, const struct conn_addr *addr, const struct conn_attempt *at,
                       struct err *err)
{
    struct conn_tls_state *t = c->tls;
    for (;;) {
        short event = 0;
        ERR_clear_error();
        int rc = SSL_connect(t->ssl);
        if (rc == 1) break;
        if (!must_wait(SSL_get_error(t->ssl, rc), &event))
            return handshake_words(t, addr, at->shown, err);
        if (flush_out(c) == 0) event |= POLLOUT;
        rc = conn_poll(c->fd, event, at->deadline_ms, at->stop, err);
        if (rc < 0) return -1;
        if (rc == 0)
            return err_set(err, ERR_NET,
                           "%s: no answer to the TLS handshake in %d ms (does the server speak TLS "
                           "on this port?)",
                           at->shown, at->timeout_ms);
    }
    t->up = true;
    return 0;
}

int conn_tls_start(struct conn *c, const struct conn_addr *addr, const struct conn_attempt *at,
                   struct err *err)
{
    const struct conn_tls *tls = addr->tls;
    const char *name = tls->server_name ? tls->server_name : addr->host;
    if (addr->unix_path && !tls->server_name && !tls->insecure_skip_verify)
        return err_set(err, ERR_USAGE,
                       "%s: TLS over a Unix socket needs the name of the server (tls-server-name)",
                       at->shown);
    struct conn_tls_state *t = calloc(1, sizeof(*t));
    if (!t) return err_set(err, ERR_NOMEM, "out of memory");
    t->verify = !tls->insecure_skip_verify;
    t->own_cert = tls->cert_file != NULL;
    c->tls = t;
    c->ops = &tls_ops;
    ERR_clear_error();
    if (make_context(t, tls, err) < 0) return -1;
    t->ssl = SSL_new(t->ctx);
    if (!t->ssl || put_bio(c) < 0)
        return err_set(err, ERR_TLS, "cannot set up TLS: %s", openssl_words());
    SSL_set_app_data(t->ssl, t);
    SSL_set_connect_state(t->ssl);
    if (name && set_name(t->ssl, tls, name, err) < 0) return -1;
    return shake_hands(c, addr, at, err);
}
