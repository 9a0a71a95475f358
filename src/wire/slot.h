// SPDX-License-Identifier: BSD-3-Clause
// Which slot of a cluster a key is in, and names for keys of each slot. Pure.
#ifndef KEYHAUL_WIRE_SLOT_H
#define KEYHAUL_WIRE_SLOT_H

#include "base/err.h"
#include "base/span.h"

#define SLOT_COUNT   16384
#define SLOT_TAG_MAX 4 /* characters of a tag */

/* CRC16 (XMODEM) of the key's hash tag, or of the whole key where it has none, modulo SLOT_COUNT.
 * The tag lies between the first '{' and the first '}' behind it, and is not empty. */
uint16_t slot_of(struct span key);

/* CRC16 (XMODEM): polynomial 0x1021, from 0; of "123456789" it is 0x31c3. */
uint16_t slot_crc16(struct span bytes);

/* For each slot a text that hashes to it. They are part of what stands on the target (names of
 * checkpoints): every version of keyhaul makes the same ones. About 80 KB; safe to share between
 * threads once made. */
struct slot_tags {
    char (*text)[SLOT_TAG_MAX + 1];
};

KH_MUST int slot_tags_init(struct slot_tags *t, struct err *err); /* ERR_NOMEM */
void slot_tags_release(struct slot_tags *t);                      /* safe on zeroed */

/* 1 to 4 characters of [a-z0-9]: "name:{tag}" is a key of this slot. */
const char *slot_tag(const struct slot_tags *t, uint16_t slot);

#endif
