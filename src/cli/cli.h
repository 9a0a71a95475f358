// SPDX-License-Identifier: BSD-3-Clause
// The commands of the program, and how they end. Only this folder prints, and only main() exits.
#ifndef KEYHAUL_CLI_CLI_H
#define KEYHAUL_CLI_CLI_H

#include "control/options.h"

#include <stddef.h>

struct cli_command {
    const char *name;
    unsigned option_bit; /* of enum option_command, 0: has no options of the table */
    const char *usage;
    const char *brief;           /* one line of the overview */
    const char *about;           /* paragraphs, each ended by a newline; NULL: brief says it all */
    const char *const *examples; /* pairs: what for, command; NULL at the end; or NULL */
    int (*run)(int argc, char **argv); /* argv[0] is the command; returns the exit status */
};

/* The i-th command, NULL beyond the last. */
const struct cli_command *cli_command(size_t i);

/* The bit of the command of that name. */
enum option_command cli_option_bit(const char *name);

int cli_main(int argc, char **argv);
int cli_migrate(int argc, char **argv); /* restore, backup as well: their options differ */
int cli_inspect(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_stop(int argc, char **argv);
int cli_finish(int argc, char **argv);
int cli_help(int argc, char **argv);
int cli_version(int argc, char **argv);

/* "keyhaul migrate: words", and where to read on. `command` NULL: the program itself. Returns 2. */
int cli_usage(const char *command, const struct err *err);

/* "keyhaul: words". Returns the exit status of the error. */
int cli_fail(const struct err *err);

/* For a command that needs nothing but its options: parse them, print its help where that is asked
 * for, else run it. Returns the exit status. */
int cli_with_options(int argc, char **argv, int (*run)(const struct option_values *v));

/* Print to standard output: 0, or what cli_fail() says. */
int cli_print(const void *p, size_t n);

#endif
