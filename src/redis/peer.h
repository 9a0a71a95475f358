// SPDX-License-Identifier: BSD-3-Clause
// Who is at the other end, and what its refusals mean: one table from error words to advice.
#ifndef KEYHAUL_REDIS_PEER_H
#define KEYHAUL_REDIS_PEER_H

#include "base/err.h"

#include <stdbool.h>

struct peer {
    char side[8];   /* "source" or "target" */
    char name[200]; /* "target redis://127.0.0.1:7001" */
    char user[64];  /* ACL user logged in as */
};

/* Fill from the side's word, the URI as shown, and the user (NULL: "default"). */
void peer_init(struct peer *p, const char *side, const char *shown, const char *user);

/* What the words of an error reply (without '-') to `command` mean, and what to do. Always returns
 * -1. See client_refused() for the codes. */
int peer_refused(const struct peer *p, const char *command, const char *words, struct err *err);

/* What a NOPERM is about. */
enum peer_denied { PEER_DENIED_COMMAND, PEER_DENIED_KEY, PEER_DENIED_CHANNEL, PEER_DENIED_DB };
enum peer_denied peer_denied(const char *words);

/* First word of an error line equals `word`: peer_says("NOPERM this user ...", "NOPERM"). */
bool peer_says(const char *words, const char *word);
bool peer_unknown_command(const char *words);

#endif
