// SPDX-License-Identifier: BSD-3-Clause
// CRC-64 (Jones): ISA-L where it is there, slice-by-16 elsewhere.
#include "base/crc64.h"

#include <pthread.h>
#include <string.h>
#ifdef HAVE_ISAL
#include <isa-l/crc64.h>
#endif

#define POLY 0x95ac9329ac4bc9b5ULL /* 0xad93d23594c935a9, bits reversed */

static uint64_t table[16][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = (c >> 1) ^ (c & 1 ? POLY : 0);
        table[0][i] = c;
    }
    for (unsigned k = 1; k < 16; k++)
        for (unsigned i = 0; i < 256; i++)
            table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xff];
}

uint64_t crc64_portable(uint64_t crc, const void *p, size_t n)
{
    pthread_once(&table_once, make_table);
    const uint8_t *b = p;
    for (; n >= 16; n -= 16, b += 16) {
        uint64_t lo, hi;
        memcpy(&lo, b, 8);
        memcpy(&hi, b + 8, 8);
        lo ^= crc;
        crc = 0;
        for (unsigned k = 0; k < 8; k++) {
            crc ^= table[15 - k][(lo >> (8 * k)) & 0xff];
            crc ^= table[7 - k][(hi >> (8 * k)) & 0xff];
        }
    }
    while (n--)
        crc = table[0][(crc ^ *b++) & 0xff] ^ (crc >> 8);
    return crc;
}

uint64_t crc64(uint64_t crc, const void *p, size_t n)
{
#ifdef HAVE_ISAL
    /* ISA-L inverts before and after; Redis does not. */
    return ~crc64_jones_refl(~crc, p, n);
#else
    return crc64_portable(crc, p, n);
#endif
}
