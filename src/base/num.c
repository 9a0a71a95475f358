// SPDX-License-Identifier: BSD-3-Clause
// Numbers as text, and quoting of binary names.
#include "base/num.h"

#include "base/attr.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned count_digits(uint64_t v)
{
    unsigned n = 1;
    for (; v >= 10000; v /= 10000)
        n += 4;
    return n + (v >= 10) + (v >= 100) + (v >= 1000);
}

size_t num_put_long(char *out, uint64_t v)
{
    static const char two[] = "00010203040506070809101112131415161718192021222324"
                              "25262728293031323334353637383940414243444546474849"
                              "50515253545556575859606162636465666768697071727374"
                              "75767778798081828384858687888990919293949596979899";
    unsigned n = count_digits(v);
    char *p = out + n;
    for (; v >= 100; v /= 100)
        memcpy(p -= 2, two + 2 * (v % 100), 2);
    if (v >= 10)
        memcpy(p - 2, two + 2 * v, 2);
    else
        p[-1] = (char)('0' + v);
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

#if LDBL_MANT_DIG == 64
/* Digits with a point, as %.17g writes most scores. Up to 19 digits and 10^27 are exact as long
 * double, whose quotient has 11 bits more than a double: it rounds as the true value would, unless
 * these are next to the middle. False: not so simple, or not certain. */
static bool get_plain_double(struct span s, double *ret)
{
    static const long double tens[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,
                                       1e7L,  1e8L,  1e9L,  1e10L, 1e11L, 1e12L, 1e13L,
                                       1e14L, 1e15L, 1e16L, 1e17L, 1e18L};
    const uint8_t *p = s.p, *end = p + s.n, *point = NULL;
    bool minus = *p == '-';
    uint64_t digits = 0, mantissa;
    p += minus;
    if (end - p < 1 || end - p > 19) return false;
    for (; p < end; p++) {
        unsigned d = (unsigned)*p - '0';
        if (d > 9) {
            if (*p != '.' || point || end - p == 1) return false;
            point = p;
            continue;
        }
        digits = digits * 10 + d;
    }
    if (!digits) return false; /* zeros have a sign */
    long double v = (long double)digits / tens[point ? end - point - 1 : 0];
    memcpy(&mantissa, &v, sizeof(mantissa));
    unsigned low = mantissa & 0x7ff;
    if (low >= 0x3ff && low <= 0x401) return false;
    *ret = minus ? -(double)v : (double)v;
    return true;
}
#else
static bool get_plain_double(struct span s, double *ret)
{
    (void)s, (void)ret;
    return false;
}
#endif

bool num_get_double(struct span s, double *ret)
{
    char tmp[400];
    if (s.n == 0 || s.n >= sizeof(tmp) || !memchr("-.0123456789inIN", s.p[0], 16)) return false;
    if (KH_LIKELY(get_plain_double(s, ret))) return true;
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
