// SPDX-License-Identifier: BSD-3-Clause
// CRC-64 (Jones, reflected, init 0, no final xor) as RDB files and DUMP payloads carry it.
#ifndef KEYHAUL_BASE_CRC64_H
#define KEYHAUL_BASE_CRC64_H

#include <stddef.h>
#include <stdint.h>

/* crc of "123456789" from 0 is 0xe9c6d914c4b8d9ca. Uses ISA-L where built with it. */
uint64_t crc64(uint64_t crc, const void *p, size_t n);

/* The portable way (slice by 16), for machines without ISA-L; the tests compare both. */
uint64_t crc64_portable(uint64_t crc, const void *p, size_t n);

#endif
