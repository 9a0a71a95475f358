// SPDX-License-Identifier: BSD-3-Clause
// A server that is only talked about: what "redis-6.2" would take.
#ifndef KEYHAUL_REDIS_SUPPOSE_H
#define KEYHAUL_REDIS_SUPPOSE_H

#include "redis/facts.h"

/* "redis-6.2", "valkey-9.1", "redict-7.3.6", "keydb-6.3": the flavour and its version, the patch
 * level may be left out. ERR_USAGE, without repeating the text. Nothing is to be released. */
KH_MUST int suppose_server(struct server_facts *ret, const char *text, struct err *err);

#endif
