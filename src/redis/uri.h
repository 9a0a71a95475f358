// SPDX-License-Identifier: BSD-3-Clause
// Where a server is: redis://[user[:password]@]host[:port][/db], rediss://…,
// unix:///path.sock[?db=n]
#ifndef KEYHAUL_REDIS_URI_H
#define KEYHAUL_REDIS_URI_H

#include "base/err.h"

#include <stdbool.h>

struct uri {
    bool tls;
    char *unix_path; /* NULL: host and port */
    char *host;      /* without the brackets of an IPv6 address */
    char port[8];    /* default "6379" */
    char *user;      /* NULL: none; percent-decoded */
    char *password;  /* NULL: none; percent-decoded */
    int db;          /* -1: none given */
    char shown[160]; /* for people: scheme, host, port, db; never user or password */
};

/* ERR_USAGE with what is wrong; the words never repeat the text (it may hold a password). */
KH_MUST int uri_parse(struct uri *u, const char *text, struct err *err);
void uri_release(struct uri *u); /* wipes the password */

#endif
