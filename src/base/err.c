// SPDX-License-Identifier: BSD-3-Clause
// Errors as values: the table of codes, and the words.
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum err_class cls;
    int exit_status;
} table[] = {
#define X(id, name, cls, status) [ERR_##id] = {name, ERR_CLASS_##cls, status},
    ERR_TABLE(X)
#undef X
};

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    if (!e) return -1;
    e->code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e) return -1;
    char head[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof(head), fmt, ap);
    va_end(ap);
    char old[sizeof(e->msg)];
    memcpy(old, e->msg, sizeof(old));
    /* The end of an over-long message is cut, never its context. */
    snprintf(e->msg, sizeof(e->msg), "%s: %.390s", head, old);
    return -1;
}

const char *err_name(enum err_code code)
{
    return table[code].name;
}

enum err_class err_class(enum err_code code)
{
    return table[code].cls;
}

int err_exit_status(enum err_code code)
{
    return table[code].exit_status;
}
