// SPDX-License-Identifier: BSD-3-Clause
// Compiler attributes under names of our own.
#ifndef KEYHAUL_BASE_ATTR_H
#define KEYHAUL_BASE_ATTR_H

/* The caller must look at the result. */
#define KH_MUST              __attribute__((warn_unused_result))
#define KH_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define KH_UNUSED            __attribute__((unused))

#define KH_LIKELY(x)   __builtin_expect(!!(x), 1)
#define KH_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
