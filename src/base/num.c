// SPDX-License-Identifier: BSD-3-Clause
// Numbers as text, and quoting of binary names.
#include "base/num.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

size_t num_put_u64(char *out, uint64_t v)
{
    char tmp[NUM_INT64_CHARS];
    size_t n = 0;
    do {
        tmp[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    for (size_t i = 0; i < n; i++)
        out[i] = tmp[n - 1 - i];
    return n;
}

size_t num_put_i64(char *out, int64_t v)
{
    if (v >= 0) return num_put_u64(out, (uint64_t)v);
    *out = '-';
    return 1 + num_put_u64(out + 1, 0 - (uint64_t)v);
}

size_t num_put_double(char *out, double v)
{
    if (isnan(v)) return memcpy(out, "nan", 3), 3;
    if (isinf(v)) return v > 0 ? (memcpy(out, "inf", 3), 3) : (memcpy(out, "-inf", 4), 4);
    return (size_t)snprintf(out, NUM_DOUBLE_CHARS, "%.17g", v);
}

bool num_get_u64(struct span s, uint64_t *ret)
{
    if (s.n == 0 || s.n > 20) return false;
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned d = (unsigned)s.p[i] - '0';
        if (d > 9 || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)d, &v))
            return false;
    }
    *ret = v;
    return true;
}

bool num_get_i64(struct span s, int64_t *ret)
{
    bool neg = s.n > 0 && s.p[0] == '-';
    uint64_t v;
    if (!num_get_u64(neg ? span_of(s.p + 1, s.n - 1) : s, &v)) return false;
    if (v > (uint64_t)INT64_MAX + neg) return false;
    *ret = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool num_get_double(struct span s, double *ret)
{
    char tmp[400];
    if (s.n == 0 || s.n >= sizeof(tmp) || !memchr("-.0123456789inIN", s.p[0], 16)) return false;
    memcpy(tmp, s.p, s.n);
    tmp[s.n] = 0;
    char *end;
    errno = 0;
    double v = strtod(tmp, &end);
    if (end != tmp + s.n) return false;
    *ret = v;
    return true;
}

char *num_quote(char *out, size_t size, struct span s)
{
    size_t o = 0;
    size_t limit = size < 8 ? 0 : (size - 8 < 120 ? size - 8 : 120);
    if (size < 8) {
        if (size) *out = 0;
        return out;
    }
    out[o++] = '"';
    size_t i = 0;
    for (; i < s.n && o < limit; i++) {
        uint8_t c = s.p[i];
        if (c == '"' || c == '\\') {
            out[o++] = '\\';
            out[o++] = (char)c;
        } else if (c >= 32 && c < 127) {
            out[o++] = (char)c;
        } else {
            o += (size_t)snprintf(out + o, 5, "\\x%02x", c);
        }
    }
    out[o++] = '"';
    if (i < s.n) o += (size_t)snprintf(out + o, 4, "...");
    out[o] = 0;
    return out;
}

char *num_human_bytes(char *out, size_t size, uint64_t bytes)
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double v = (double)bytes;
    unsigned u = 0;
    while (v >= 999.95 && u < 5) {
        v /= 1000;
        u++;
    }
    snprintf(out, size, u == 0 ? "%.0f %s" : "%.1f %s", v, unit[u]);
    return out;
}

char *num_human_count(char *out, size_t size, uint64_t n)
{
    char digits[24], tmp[32];
    size_t len = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), o = 0;
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) tmp[o++] = ',';
        tmp[o++] = digits[i];
    }
    tmp[o] = 0;
    snprintf(out, size, "%s", tmp);
    return out;
}
