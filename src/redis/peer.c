// SPDX-License-Identifier: BSD-3-Clause
// What a server's refusals mean, for both sides and all callers.
#include "redis/peer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

void peer_init(struct peer *p, const char *side, const char *shown, const char *user)
{
    snprintf(p->side, sizeof(p->side), "%s", side);
    snprintf(p->name, sizeof(p->name), "%s %s", side, shown);
    snprintf(p->user, sizeof(p->user), "%s", user ? user : "default");
}

bool peer_says(const char *words, const char *word)
{
    size_t n = strlen(word);
    return strncmp(words, word, n) == 0 && (words[n] == 0 || words[n] == ' ' || words[n] == '.');
}

bool peer_unknown_command(const char *words)
{
    /* Servers: "ERR unknown command 'X'"; proxies and services: other cases and prefixes. */
    return strcasestr(words, "unknown command") || strcasestr(words, "unknown redis command") ||
           strcasestr(words, "unsupported command") ||
           strcasestr(words, "command is not allowed") ||
           strcasestr(words, "command not supported") || strcasestr(words, "command not allowed") ||
           strcasestr(words, "not supported command");
}

enum peer_denied peer_denied(const char *words)
{
    /* "this user has no permissions to run the 'keys' command" (6.0, 7.0), "User x has no
     * permissions to run ..." (7.2); "... to access one of the keys used as arguments" (6.0),
     * "No permissions to access a key" (7.0+), "... a channel". */
    const char *access = strstr(words, " access ");
    if (!access) return PEER_DENIED_COMMAND;
    if (strstr(access, "channel")) return PEER_DENIED_CHANNEL;
    return strstr(access, "database") ? PEER_DENIED_DB : PEER_DENIED_KEY;
}

static int refused_auth(const struct peer *p, const char *words, struct err *err)
{
    char env[8];
    size_t i = 0;
    for (; p->side[i]; i++)
        env[i] = (char)toupper((unsigned char)p->side[i]);
    env[i] = 0;
    if (peer_says(words, "NOAUTH") || peer_says(words, "ERR operation not permitted"))
        return err_set(err, ERR_AUTH,
                       "%s: needs a password: give it with --%s-password-file or in "
                       "KEYHAUL_%s_PASSWORD",
                       p->name, p->side, env);
    return err_set(err, ERR_AUTH,
                   "%s: wrong password for user %s (%s); check --%s-password-file, "
                   "KEYHAUL_%s_PASSWORD or the URI",
                   p->name, p->user, words, p->side, env);
}

static int refused_perm(const struct peer *p, const char *command, const char *words,
                        struct err *err)
{
    static const char *const fix[] = {
        [PEER_DENIED_KEY] = "~*", [PEER_DENIED_CHANNEL] = "&*", [PEER_DENIED_DB] = "alldbs"};
    char rule[64] = "+";
    enum peer_denied what = peer_denied(words);
    if (what == PEER_DENIED_COMMAND) {
        for (size_t i = 0; command[i] && command[i] != ' ' && i < sizeof(rule) - 2; i++) {
            rule[i + 1] = (char)tolower((unsigned char)command[i]);
            rule[i + 2] = 0;
        }
    } else {
        snprintf(rule, sizeof(rule), "%s", fix[what]);
    }
    return err_set(err, ERR_PERM,
                   "%s: user %s lacks the right to %s (%s); on that server: "
                   "ACL SETUSER %s %s",
                   p->name, p->user, command, words, p->user, rule);
}

/* Refusals that pass, or need a person, and what helps. */
static const struct {
    const char *word;
    enum err_code code;
    const char *advice;
} REFUSALS[] = {
    {"LOADING", ERR_BUSY, "it is loading its data; wait until that is done"},
    {"BUSY", ERR_BUSY, "a script blocks it; wait, or SCRIPT KILL"},
    {"OOM", ERR_BUSY, "its memory is full; raise maxmemory or make room"},
    {"MISCONF", ERR_BUSY, "it cannot save to its disk; see its log"},
    {"MASTERDOWN", ERR_BUSY, "it is a replica that lost its primary; wait, or use the primary"},
    {"NOMASTERLINK", ERR_BUSY, "it is a replica that lost its primary; wait, or use the primary"},
    {"NOREPLICAS", ERR_BUSY, "it has too few good replicas (min-replicas-to-write)"},
    {"NOTREADY", ERR_BUSY, "it is not ready yet; try again"},
    {"INPROG", ERR_BUSY, "a failover is in progress; try again"},
    {"UNBLOCKED", ERR_BUSY, "its role changed; try again"},
    {"MOVED", ERR_BUSY, "its slots are moving; try again"},
    {"ASK", ERR_BUSY, "its slots are moving; try again"},
    {"TRYAGAIN", ERR_BUSY, "its slots are moving; try again"},
    {"CLUSTERDOWN", ERR_BUSY, "its cluster is down"},
    {"READONLY", ERR_REFUSED, "it is a replica and takes no writes; use its primary"},
    {"DENIED", ERR_PERM, "it runs in protected mode: set a password there, or allow this host"},
    {"ERR max number of clients reached", ERR_BUSY,
     "it has no room for one more client (maxclients)"},
};

int peer_refused(const struct peer *p, const char *command, const char *words, struct err *err)
{
    if (peer_says(words, "NOAUTH") || peer_says(words, "WRONGPASS") ||
        peer_says(words, "ERR operation not permitted") || peer_says(words, "ERR invalid password"))
        return refused_auth(p, words, err);
    if (peer_says(words, "NOPERM")) return refused_perm(p, command, words, err);
    for (size_t i = 0; i < sizeof(REFUSALS) / sizeof(REFUSALS[0]); i++)
        if (peer_says(words, REFUSALS[i].word))
            return err_set(err, REFUSALS[i].code, "%s: %s was refused (%s): %s", p->name, command,
                           words, REFUSALS[i].advice);
    enum err_code code = strcmp(p->side, "source") == 0 ? ERR_SOURCE : ERR_TARGET;
    if (peer_unknown_command(words))
        return err_set(err, code,
                       "%s: does not offer %s (%s): renamed there, or blocked by its provider",
                       p->name, command, words);
    return err_set(err, code, "%s: %s was refused (%s)", p->name, command, words);
}
