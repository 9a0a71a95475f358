// SPDX-License-Identifier: BSD-3-Clause
// Writing RESP straight into room that is known to be large enough: the hot path of the load.
#ifndef KEYHAUL_ENGINE_EMIT_H
#define KEYHAUL_ENGINE_EMIT_H

#include "base/num.h"

#define EMIT_HEAD_MAX 32 /* "*n\r\n" or "$n\r\n" */

static inline uint8_t *emit_head(uint8_t *out, char type, uint64_t n)
{
    *out++ = (uint8_t)type;
    out += num_put_u64((char *)out, n);
    *out++ = '\r';
    *out++ = '\n';
    return out;
}

static inline uint8_t *emit_crlf(uint8_t *out)
{
    *out++ = '\r';
    *out++ = '\n';
    return out;
}

static inline uint8_t *emit_arg(uint8_t *out, const void *p, size_t n)
{
    out = emit_head(out, '$', n);
    memcpy(out, p, n);
    return emit_crlf(out + n);
}

static inline uint8_t *emit_str(uint8_t *out, const char *s)
{
    return emit_arg(out, s, strlen(s));
}

static inline uint8_t *emit_num(uint8_t *out, int64_t v)
{
    char num[NUM_INT64_CHARS];
    return emit_arg(out, num, num_put_i64(num, v));
}

#endif
