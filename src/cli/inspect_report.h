// SPDX-License-Identifier: BSD-3-Clause
// What inspecting found: tables for people, one JSON object, and the line of one key. Pure.
#ifndef KEYHAUL_CLI_INSPECT_REPORT_H
#define KEYHAUL_CLI_INSPECT_REPORT_H

#include "control/inspect.h"
#include "control/text.h"

struct inspect_report {
    const struct inspect *in;
    const struct inspect_source *source;
    const struct server_facts *supposed; /* --for; NULL: not asked */
};

void inspect_report_table(const struct inspect_report *r, struct text *t); /* 80 columns */
void inspect_report_json(const struct inspect_report *r, struct text *t);  /* one line */

/* The canonical line of a key: docs/formats/canonical.md. Its name may be long: `put` takes the
 * line in pieces. */
KH_MUST int inspect_report_key(const struct inspect_key *key,
                               int (*put)(void *ctx, const void *p, size_t n, struct err *err),
                               void *ctx, struct err *err); /* inspect_line.c */

/* --- of an AOF's commands (inspect_commands.c); nothing where there are none --- */

void inspect_report_commands_head(const struct inspect_source *s, struct text *t);
void inspect_report_commands_table(const struct inspect_source *s, struct text *t);
/* The fields "commands_follow" and "commands". */
void inspect_report_commands_json(const struct inspect_source *s, struct text *t);

/* UTF-8 without control characters: such a name is printed as it is. */
bool inspect_report_is_plain(const uint8_t *p, size_t n);

#endif
