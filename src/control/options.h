// SPDX-License-Identifier: BSD-3-Clause
// The option table and the parser made of it. Help texts and reference are made of it in cli/help.
//
// Words of an error name the option, never its value: a password may have landed there.
#ifndef KEYHAUL_CONTROL_OPTIONS_H
#define KEYHAUL_CONTROL_OPTIONS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum option_kind {
    OPTION_KIND_FLAG,
    OPTION_KIND_TEXT,
    OPTION_KIND_FILE,
    OPTION_KIND_URI, /* may hold a password: wiped from argv */
    OPTION_KIND_CHOICE,
    OPTION_KIND_DURATION,
    OPTION_KIND_SIZE,
    OPTION_KIND_LIST,      /* may be given again: one list, with commas */
    OPTION_KIND_ARG,       /* the argument that is no option */
    OPTION_KIND_ARG_MAYBE, /* the same, and it may be left out */
    OPTION_KIND_ENV,       /* environment variable, no option */
};

enum option_group {
    OPTION_GROUP_SERVERS,
    OPTION_GROUP_TASK,
    OPTION_GROUP_DATA,
    OPTION_GROUP_PASSWORDS,
    OPTION_GROUP_TLS,
    OPTION_GROUP_LIMITS,
    OPTION_GROUP_OUTPUT,
    OPTION_GROUP_ENVIRONMENT,
    OPTION_GROUPS,
};

enum option_command { /* bits: an option may be of several */
                      OPTION_COMMAND_MIGRATE = 1 << 0,
                      OPTION_COMMAND_RESTORE = 1 << 1,
                      OPTION_COMMAND_BACKUP = 1 << 2,
                      OPTION_COMMAND_INSPECT = 1 << 3,
                      OPTION_COMMAND_STATUS = 1 << 4,
                      OPTION_COMMAND_STOP = 1 << 5,
                      OPTION_COMMAND_FINISH = 1 << 6, /* runs as MIGRATE in the end */
                      /* those that write to a server, read a live one, move data */
                      OPTION_COMMAND_WRITE = OPTION_COMMAND_MIGRATE | OPTION_COMMAND_RESTORE,
                      OPTION_COMMAND_ATTACH = OPTION_COMMAND_MIGRATE | OPTION_COMMAND_BACKUP,
                      OPTION_COMMAND_READ = OPTION_COMMAND_ATTACH | OPTION_COMMAND_INSPECT,
                      /* those that take a snapshot, and may take some of its keys */
                      OPTION_COMMAND_PICK = OPTION_COMMAND_RESTORE | OPTION_COMMAND_BACKUP |
                                            OPTION_COMMAND_INSPECT,
                      OPTION_COMMAND_TASK = OPTION_COMMAND_WRITE | OPTION_COMMAND_BACKUP,
                      OPTION_COMMAND_ANY = OPTION_COMMAND_TASK | OPTION_COMMAND_INSPECT,
                      /* the same, and what finish takes of it anew */
                      OPTION_COMMAND_READ_AGAIN = OPTION_COMMAND_READ | OPTION_COMMAND_FINISH,
                      OPTION_COMMAND_WRITE_AGAIN = OPTION_COMMAND_WRITE | OPTION_COMMAND_FINISH,
                      OPTION_COMMAND_TASK_AGAIN = OPTION_COMMAND_TASK | OPTION_COMMAND_FINISH,
                      OPTION_COMMAND_ANY_AGAIN = OPTION_COMMAND_ANY | OPTION_COMMAND_FINISH,
                      /* those that are about a task with a folder, and a running one */
                      OPTION_COMMAND_END = OPTION_COMMAND_STOP | OPTION_COMMAND_FINISH,
                      OPTION_COMMAND_KEPT = OPTION_COMMAND_MIGRATE | OPTION_COMMAND_STATUS |
                                            OPTION_COMMAND_END,
                      OPTION_COMMAND_ALL = OPTION_COMMAND_ANY | OPTION_COMMAND_KEPT,
};

enum option_id {
#define X(id, ...) OPTION_##id,
#include "control/option_table.def"
#undef X
    OPTION_COUNT
};

struct option_def {
    const char *name;
    const char *arg;      /* word for the value in help texts, NULL: takes none */
    const char *choices;  /* "a|b|c" of kind CHOICE */
    const char *fallback; /* value when not given, NULL none */
    const char *help;
    enum option_kind kind;
    enum option_group group;
    unsigned commands; /* bits of enum option_command */
};

const struct option_def *option_def(enum option_id id);
bool option_is_argument(const struct option_def *def); /* it has a place, and no name */
const char *option_group_title(enum option_group group);

/* What was given, all owned. */
struct option_values {
    enum option_command command;
    char *text[OPTION_COUNT]; /* NULL: not given; a flag: "" */
};

/* Parse argv[1 .. argc) for the command, and take its environment variables. Every value is checked
 * as far as its kind tells. User and password of a URI in argv are overwritten, so that `ps` no
 * longer shows them. --help ends the parse at once. ERR_USAGE. */
KH_MUST int options_parse(struct option_values *ret, enum option_command command, int argc,
                          char **argv, struct err *err);
void options_release(struct option_values *v); /* wipes */

/* Is the text a value of this option, as far as its kind tells? ERR_USAGE. */
KH_MUST int option_check(enum option_id id, const char *text, struct err *err);

bool options_given(const struct option_values *v, enum option_id id);
const char *options_text(const struct option_values *v,
                         enum option_id id); /* given, default, NULL */

/* These need an option that has a default or was given. */
unsigned options_choice(const struct option_values *v, enum option_id id); /* index in choices */
int64_t options_duration_ms(const struct option_values *v, enum option_id id);
uint64_t options_size(const struct option_values *v, enum option_id id);

/* "500ms", "10s", "5m", "12h", "7d"; "10G", "500M", "10Gi", "4096". */
KH_MUST bool option_read_duration(const char *text, int64_t *ret_ms);
KH_MUST bool option_read_size(const char *text, uint64_t *ret_bytes);

/* Overwrite what stands between the scheme and the last '@' of a URI: "redis://u:pw@h" becomes
 * three stars and "@h" behind the scheme. The same with what follows "sentinel-password=". */
void option_wipe_uri(char *uri);
/* Take the passwords out, but leave the user: "redis://u:pw@h" becomes "redis://u@h". */
void option_strip_password(char *uri);

#endif
