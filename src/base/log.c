// SPDX-License-Identifier: BSD-3-Clause
// The log: one write() per line, text or JSON, to standard error or a file.
#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MSG_MAX  2048 /* longer words are cut */
#define LINE_MAX (6 * MSG_MAX + 128)

/* The sink. `lock` guards all but `level`, which the fast path of log_debug() reads. */
static struct {
    pthread_mutex_t lock;
    _Atomic int level;
    int fd;
    bool json;
    void (*around)(bool before);
    struct log_name *names;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = LOG_INFO, .fd = STDERR_FILENO};

static const struct {
    const char *text, *json;
} level_name[] = {
    [LOG_ERROR] = {"ERROR", "error"},
    [LOG_WARN] = {"WARN ", "warn"},
    [LOG_INFO] = {"INFO ", "info"},
    [LOG_DEBUG] = {"DEBUG", "debug"},
};

static void set_sink(int level, int fd, bool json, void (*around)(bool))
{
    pthread_mutex_lock(&sink.lock);
    if (sink.fd != STDERR_FILENO) close(sink.fd);
    sink.level = level;
    sink.fd = fd;
    sink.json = json;
    sink.around = around;
    pthread_mutex_unlock(&sink.lock);
}

int log_open(const struct log_config *cfg, struct err *err)
{
    int fd = STDERR_FILENO;
    if (cfg->file) fd = open(cfg->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return err_set(err, ERR_IO, "cannot open the log file %.300s: %s", cfg->file,
                       strerror(errno));
    set_sink((int)cfg->level, fd, cfg->json, cfg->around);
    return 0;
}

void log_close(void)
{
    set_sink(LOG_INFO, STDERR_FILENO, false, NULL);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&sink.level, memory_order_relaxed);
}

/* Length of the well-formed UTF-8 sequence at s, 0 when there is none (RFC 3629, table 3-7 of the
 * Unicode standard: no surrogates, no overlong forms, nothing above U+10FFFF). */
static size_t utf8_len(const uint8_t *s, size_t n)
{
    uint8_t c = s[0], lo = 0x80, hi = 0xbf;
    size_t len = c < 0x80 ? 1 : (c >= 0xc2 && c <= 0xdf ? 2 : (c >= 0xe0 && c <= 0xef ? 3 : 4));
    if (len == 4 && (c < 0xf0 || c > 0xf4)) return 0;
    if (len > n) return 0;
    if (c == 0xe0) lo = 0xa0;
    if (c == 0xed) hi = 0x9f;
    if (c == 0xf0) lo = 0x90;
    if (c == 0xf4) hi = 0x8f;
    for (size_t i = 1; i < len; i++, lo = 0x80, hi = 0xbf)
        if (s[i] < lo || s[i] > hi) return 0;
    return len;
}

static size_t put_code(char *out, unsigned c, bool json)
{
    return (size_t)snprintf(out, 7, json ? "\\u%04x" : "\\x%02x", c);
}

/* The words, made safe for one line (text) or a JSON string. At most 6 bytes for one of msg. */
static size_t put_escaped(char *out, const char *msg, size_t n, bool json)
{
    const uint8_t *s = (const uint8_t *)msg;
    size_t o = 0, len;
    for (size_t i = 0; i < n; i += len) {
        uint8_t c = s[i];
        len = utf8_len(s + i, n - i);
        if (len == 0) {
            o += put_code(out + o, json ? 0xfffd : c, json);
            len = 1;
        } else if (c == '\n' || c == '\r' || c == '\t') {
            out[o++] = '\\';
            out[o++] = c == '\n' ? 'n' : (c == '\r' ? 'r' : 't');
        } else if (c < 0x20 || c == 0x7f) {
            o += put_code(out + o, c, json);
        } else {
            if (json && (c == '"' || c == '\\')) out[o++] = '\\';
            memcpy(out + o, s + i, len);
            o += len;
        }
    }
    return o;
}

static size_t put_time(char *out, size_t size)
{
    int64_t ms = clock_wall_ms();
    time_t sec = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&sec, &tm)) memset(&tm, 0, sizeof(tm));
    size_t n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(out + n, size - n, ".%03dZ", (int)(ms % 1000));
}

static size_t put_line(char *out, enum log_level level, const char *msg, size_t n, bool json)
{
    char ts[64];
    put_time(ts, sizeof(ts));
    int head = json ? snprintf(out, 100, "{\"ts\":\"%s\",\"level\":\"%s\",\"msg\":\"", ts,
                               level_name[level].json)
                    : snprintf(out, 100, "%s %s ", ts, level_name[level].text);
    size_t o = (size_t)head + put_escaped(out + head, msg, n, json);
    if (json) {
        out[o++] = '"';
        out[o++] = '}';
    }
    out[o++] = '\n';
    return o;
}

static void write_line(const char *line, size_t n)
{
    ssize_t rc;
    do {
        rc = write(sink.fd, line, n);
    } while (rc < 0 && errno == EINTR);
    /* A log that cannot be written has nobody to tell. */
}

/* --- names of threads --- */

static void rename_thread(struct log_name *n, const char *words)
{
    snprintf(n->words, sizeof(n->words), "%s", words);
}

void log_name_begin(struct log_name *n, const char *words)
{
    n->thread = pthread_self();
    rename_thread(n, words);
    pthread_mutex_lock(&sink.lock);
    n->next = sink.names;
    sink.names = n;
    pthread_mutex_unlock(&sink.lock);
}

void log_name_change(struct log_name *n, const char *words)
{
    pthread_mutex_lock(&sink.lock);
    rename_thread(n, words);
    pthread_mutex_unlock(&sink.lock);
}

void log_name_end(struct log_name *n)
{
    pthread_mutex_lock(&sink.lock);
    for (struct log_name **at = &sink.names; *at; at = &(*at)->next)
        if (*at == n) {
            *at = n->next;
            break;
        }
    pthread_mutex_unlock(&sink.lock);
}

/* Puts the name of this thread in front, where it has one; the lock is held. Returns the length. */
static size_t put_name(char msg[MSG_MAX])
{
    pthread_t self = pthread_self();
    for (const struct log_name *n = sink.names; n; n = n->next)
        if (pthread_equal(n->thread, self)) return (size_t)snprintf(msg, MSG_MAX, "%s: ", n->words);
    return 0;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if (!log_enabled(level)) return;
    int saved = errno;
    char msg[MSG_MAX], line[LINE_MAX];
    va_list ap;
    pthread_mutex_lock(&sink.lock);
    size_t len = put_name(msg), room = MSG_MAX - len;
    va_start(ap, fmt);
    int n = vsnprintf(msg + len, room, fmt, ap);
    va_end(ap);
    bool cut = n >= 0 && (size_t)n >= room;
    len += n < 0 ? 0 : cut ? room - 1 : (size_t)n;
    if (cut) memcpy(msg + len - 3, "...", 3);
    void (*around)(bool) = sink.fd == STDERR_FILENO ? sink.around : NULL;
    size_t total = put_line(line, level, msg, len, sink.json);
    if (around) around(true);
    write_line(line, total);
    if (around) around(false);
    pthread_mutex_unlock(&sink.lock);
    errno = saved;
}
