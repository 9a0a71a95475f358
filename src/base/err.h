// SPDX-License-Identifier: BSD-3-Clause
// Errors as values: a code, its class, and words for a person.
//
// A function that can fail returns 0 (or a count) when well and -1 when not, takes a `struct err *`
// as its last parameter and fills it only when it fails. Context is put in front on the way up
// (err_wrap); the edge (cli, or the task) logs it once. Words never hold a value of the user's data
// or a password; key names may appear, escaped by num_quote().
#ifndef KEYHAUL_BASE_ERR_H
#define KEYHAUL_BASE_ERR_H

#include "base/attr.h"

/* What can go wrong, each with its class and exit status: one table, in err.c, is made of this. */
#define ERR_TABLE(X)                                                                               \
    X(NONE, "none", OPERATOR, 0)                                                                   \
    X(USAGE, "usage", OPERATOR, 2)           /* wrong option or argument */                        \
    X(REFUSED, "refused", OPERATOR, 3)       /* a check says no; nothing was written */            \
    X(CONFLICT, "conflict", OPERATOR, 3)     /* --on-conflict fail met an existing key */          \
    X(UNRESOLVED, "unresolved", OPERATOR, 4) /* ended, but some writes were refused */             \
    X(NOMEM, "out-of-memory", FATAL, 1)                                                            \
    X(LIMIT, "limit", FATAL, 1)     /* larger than a limit of ours */                              \
    X(IO, "io", FATAL, 1)           /* local files */                                              \
    X(NET, "network", TRANSIENT, 1) /* link refused, lost or timed out */                          \
    X(TLS, "tls", OPERATOR, 1)                                                                     \
    X(AUTH, "auth", OPERATOR, 1)                                                                   \
    X(PERM, "permission", OPERATOR, 1)                                                             \
    X(PROTO, "protocol", FATAL, 1)             /* peer sent what the protocol does not allow */    \
    X(END, "end-of-input", FATAL, 1)           /* a file ends where more was to come */            \
    X(FORMAT, "format", FATAL, 1)              /* broken or unknown bytes in an RDB, AOF, blob */  \
    X(UNSUPPORTED, "unsupported", OPERATOR, 1) /* known, but cannot be moved to this target */     \
    X(BUSY, "busy", TRANSIENT, 1)              /* server says: not now (LOADING, OOM, ...) */      \
    X(TARGET, "target-error", OPERATOR, 1)     /* target refused a write for good */               \
    X(SOURCE, "source-error", OPERATOR, 1)     /* source refused what we need of it */             \
    X(STOPPED, "stopped", OPERATOR, 0)         /* the operator asked to stop */                    \
    X(INCOMPLETE, "incomplete", OPERATOR, 1)   /* the same, and half of it is worth nothing */     \
    X(INTERNAL, "internal", FATAL, 1)          /* a bug of ours */

enum err_code {
#define X(id, name, cls, status) ERR_##id,
    ERR_TABLE(X)
#undef X
};

enum err_class {
    ERR_CLASS_TRANSIENT, /* may go away by itself: retry with back-off */
    ERR_CLASS_FATAL,     /* will not go away: stop */
    ERR_CLASS_OPERATOR,  /* a person has to change something */
};

struct err {
    enum err_code code;
    char msg[600]; /* NUL-terminated, one line */
};

/* Fill `e` (may be NULL). Always returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...) KH_PRINTF(3, 4);

/* Put "context: " in front of the words. Always returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) KH_PRINTF(2, 3);

const char *err_name(enum err_code code);
enum err_class err_class(enum err_code code);
int err_exit_status(enum err_code code);

#endif
